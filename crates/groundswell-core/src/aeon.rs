//! Where a state stands in its history: aeon, epoch, and the cursor made of both.

use core::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// How many waves a state has seen. 0 is the default rock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Aeon(pub u64);

impl Aeon {
    /// The aeon of the default rock.
    pub const ZERO: Self = Self(0);

    /// The last aeon that a publisher may send. No honest one gets here; the other half of the
    /// numbers keeps every sum over aeons from overflowing, whatever a peer says.
    pub const LAST: Self = Self(u64::MAX / 2);

    /// The aeon after one more wave. At the last aeon of all it stays there: a wave each
    /// nanosecond reaches it after 584 years.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The aeon so many waves ago, or 0.
    pub const fn back(self, waves: u64) -> Self {
        Self(self.0.saturating_sub(waves))
    }
}

impl fmt::Display for Aeon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A random id of one incarnation of a publication. Aeons of different epochs do not compare.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub [u8; 16]);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Epoch({self})")
    }
}

/// A reader's position in a tide. As text it is `EPOCH:AEON`; to a user it is opaque.
///
/// ```
/// use groundswell_core::{Aeon, Cursor, Epoch};
/// let cursor = Cursor { epoch: Epoch([7; 16]), aeon: Aeon(42) };
/// assert_eq!(cursor.to_string().parse(), Ok(cursor));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cursor {
    /// The incarnation of the publication.
    pub epoch: Epoch,
    /// The last aeon that the reader has.
    pub aeon: Aeon,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.aeon)
    }
}

/// A text that is not a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor: give back the text of an earlier one unchanged, or none to begin with what there is now")]
pub struct CursorError;

impl FromStr for Cursor {
    type Err = CursorError;
    fn from_str(text: &str) -> Result<Self, CursorError> {
        let (epoch, aeon) = text.split_once(':').ok_or(CursorError)?;
        if epoch.len() != 32 || !epoch.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(CursorError);
        }
        let epoch = u128::from_str_radix(epoch, 16).map_err(|_| CursorError)?;
        let aeon = aeon.parse().map_err(|_| CursorError)?;
        Ok(Self { epoch: Epoch(epoch.to_be_bytes()), aeon: Aeon(aeon) })
    }
}
