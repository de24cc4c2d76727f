//! Keys: the user's, the names of spaces, and the key under which a document stores both.

use alloc::{string::String, sync::Arc, vec::Vec};
use core::{borrow::Borrow, fmt};

use bytes::Bytes;

use crate::{
    limits::MAX_KV_KEY_BYTES,
    path::{Name, PathError},
};

/// A key that may not be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The key is too long.
    #[error("a key of {bytes} bytes: at most {MAX_KV_KEY_BYTES} are allowed; put what is longer into the value")]
    TooLong {
        /// How many bytes it has.
        bytes: usize,
    },
}

/// The key of an entry: any bytes, 0 to 1,024 of them. Keys are ordered by their bytes, and
/// none has anything to do with another that begins like it. Cloning one copies no bytes.
///
/// ```
/// use groundswell_core::kv::KvKey;
/// let key = KvKey::new("slot/1")?;
/// assert!(key.as_bytes().starts_with(b"slot/"));
/// assert!(KvKey::new([0; 1_025]).is_err());
/// # Ok::<(), groundswell_core::kv::KeyError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct KvKey(Bytes);

impl KvKey {
    /// Checks a key and copies it.
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        let bytes = bytes.as_ref();
        if bytes.len() > MAX_KV_KEY_BYTES {
            return Err(KeyError::TooLong { bytes: bytes.len() });
        }
        Ok(Self(Bytes::copy_from_slice(bytes)))
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key's bytes, shared.
    pub fn to_bytes(&self) -> Bytes {
        self.0.clone()
    }
}

impl AsRef<[u8]> for KvKey {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for KvKey {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// The key as text, with what is not printable escaped.
impl fmt::Display for KvKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.escape_ascii().fmt(f)
    }
}

impl fmt::Debug for KvKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KvKey({self})")
    }
}

macro_rules! key_from {
    ($($type:ty),*) => {$(
        impl TryFrom<$type> for KvKey {
            type Error = KeyError;
            fn try_from(bytes: $type) -> Result<Self, KeyError> {
                Self::new(bytes)
            }
        }
    )*};
}

key_from!(&[u8], &str, Vec<u8>, String, Bytes);

/// The name of a space: a part of a document with keys of its own. The default space, which
/// has no name, is the users'; an application keeps its own records in others. A name is
/// 1 to 64 bytes of UTF-8 without `/` or control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpaceName(Arc<str>);

impl SpaceName {
    /// Checks the name of a space.
    pub fn new(name: &str) -> Result<Self, PathError> {
        Name::new(name)?;
        Ok(Self(name.into()))
    }

    /// The name as it is stored, where the default space has none.
    pub(super) fn from_stored(name: &str) -> Result<Self, PathError> {
        if name.is_empty() { Ok(Self::default()) } else { Self::new(name) }
    }

    /// The name; nothing for the default space.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for SpaceName {
    fn default() -> Self {
        Self("".into())
    }
}

impl fmt::Display for SpaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SpaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpaceName({self})")
    }
}

/// The key under which a document stores the entry of a user's key: all of one length, so that
/// none is a prefix of another, however their users' keys begin.
pub fn document_key(space: &SpaceName, key: &KvKey) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("groundswell kv v1: the key of an entry in its document");
    let space = space.as_str().as_bytes();
    // The length says where the space ends and the key begins.
    hasher.update(&(space.len() as u64).to_le_bytes());
    hasher.update(space);
    hasher.update(key.as_bytes());
    *hasher.finalize().as_bytes()
}
