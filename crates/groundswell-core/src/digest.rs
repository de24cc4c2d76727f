//! The digest of an encoded rock, by which two sides find out that they differ.

use core::fmt;

use serde::{Deserialize, Serialize};

/// The BLAKE3 hash of a rock's encoding.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of an encoded rock.
    pub fn of(rock: &[u8]) -> Self {
        Self(*blake3::hash(rock).as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}
