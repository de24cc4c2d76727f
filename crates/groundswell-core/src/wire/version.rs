//! The versions of a protocol that a side speaks, and how two sides choose one.
//!
//! Every hello begins with its side's range. Its bytes stay as they are in every version, so that
//! each side can read the range of any other, however much older or newer that is. Both sides
//! use the highest version that both speak. What a later version adds to a hello itself goes into
//! its [`Extension`], which a side ignores if it does not know it.

use core::fmt;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    encoding::{DecodeError, decode, raw},
    limits::MAX_HELLO_EXTENSION_BYTES,
    wire::Hello,
};

/// The lowest and the highest version of a protocol that a side speaks. It speaks all between them.
///
/// On the wire the highest comes first. The very first hellos had a single number there, which was 1
/// and stood alone, so that a range whose highest version is 1 is those.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "(u16, u16)", try_from = "(u16, u16)")]
pub struct VersionRange {
    lowest: u16,
    highest: u16,
}

/// A range whose lowest version is above its highest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("versions {lowest} to {highest} are no range")]
pub struct EmptyRange {
    /// The lowest version.
    pub lowest: u16,
    /// The highest version.
    pub highest: u16,
}

impl VersionRange {
    /// One version alone.
    pub const fn only(version: u16) -> Self {
        Self { lowest: version, highest: version }
    }

    /// All versions from one to another.
    pub const fn new(lowest: u16, highest: u16) -> Result<Self, EmptyRange> {
        if lowest > highest { Err(EmptyRange { lowest, highest }) } else { Ok(Self { lowest, highest }) }
    }

    /// The lowest version.
    pub const fn lowest(self) -> u16 {
        self.lowest
    }

    /// The highest version.
    pub const fn highest(self) -> u16 {
        self.highest
    }

    /// The highest version that both sides speak.
    pub fn common(self, theirs: Self) -> Result<u16, VersionMismatch> {
        let highest = self.highest.min(theirs.highest);
        if highest >= self.lowest.max(theirs.lowest) {
            Ok(highest)
        } else {
            Err(VersionMismatch { ours: self, theirs })
        }
    }

    /// The range at the beginning of a hello of any version.
    pub fn of_hello(hello: &[u8]) -> Result<Self, DecodeError> {
        let (highest, rest) = postcard::take_from_bytes::<u16>(hello).map_err(DecodeError::Malformed)?;
        if highest == 1 {
            return Ok(Self::only(1));
        }
        let (lowest, _) = postcard::take_from_bytes::<u16>(rest).map_err(DecodeError::Malformed)?;
        Self::new(lowest, highest).map_err(|_| DecodeError::Malformed(postcard::Error::SerdeDeCustom))
    }
}

impl From<VersionRange> for (u16, u16) {
    fn from(range: VersionRange) -> Self {
        (range.highest, range.lowest)
    }
}

impl TryFrom<(u16, u16)> for VersionRange {
    type Error = EmptyRange;
    fn try_from((highest, lowest): (u16, u16)) -> Result<Self, EmptyRange> {
        Self::new(lowest, highest)
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lowest, highest } = self;
        if lowest == highest { write!(f, "version {highest}") } else { write!(f, "versions {lowest} to {highest}") }
    }
}

/// Two sides that speak no common version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[error(
    "this side speaks {ours} of the protocol and the other side {theirs}: update {}",
    if self.ours_is_older() { "this side" } else { "the other side" }
)]
pub struct VersionMismatch {
    /// What this side speaks.
    pub ours: VersionRange,
    /// What the other side speaks.
    pub theirs: VersionRange,
}

impl VersionMismatch {
    /// Whether this side is the one to update.
    pub fn ours_is_older(&self) -> bool {
        self.ours.highest < self.theirs.lowest
    }

    /// The same as the other side sees it.
    #[must_use]
    pub fn for_other_side(self) -> Self {
        Self { ours: self.theirs, theirs: self.ours }
    }
}

/// A hello that leads to no conversation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// The two sides speak no common version.
    #[error(transparent)]
    Versions(#[from] VersionMismatch),
    /// It can't be read.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}

/// Reads a hello, and chooses the version of what follows it. The rest of a hello with no common
/// version is not looked at: it may be of another time.
pub fn decode_hello(ours: VersionRange, hello: &[u8]) -> Result<(Hello, u16), HelloError> {
    let version = ours.common(VersionRange::of_hello(hello)?)?;
    Ok((decode(hello)?, version))
}

/// What later versions add to a hello: bytes that a side ignores unless it knows them. This version
/// knows none, and sends none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extension(Bytes);

/// An extension that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a hello's extension of {bytes} bytes: at most {MAX_HELLO_EXTENSION_BYTES} are allowed")]
pub struct ExtensionTooLong {
    /// How many bytes it has.
    pub bytes: usize,
}

impl Extension {
    /// Checks an extension and copies it.
    pub fn new(bytes: &[u8]) -> Result<Self, ExtensionTooLong> {
        if bytes.len() > MAX_HELLO_EXTENSION_BYTES {
            return Err(ExtensionTooLong { bytes: bytes.len() });
        }
        Ok(Self(Bytes::copy_from_slice(bytes)))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Serialize for Extension {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        raw::serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Extension {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(raw::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}
