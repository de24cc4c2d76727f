//! The one encoding of rocks, waves and messages: postcard, canonical.
//!
//! A value is encoded once and those bytes are what is stored, sent and hashed, so the
//! encoding has to be a function of the value alone. Postcard's is, for types whose
//! `Serialize` is (ordered maps, not hash maps); [`crate::check::check_lake`] looks.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// Bytes that are not the encoding of a value of the expected type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes do not decode as the expected type.
    #[error("the bytes are not a valid encoding: {0}")]
    Malformed(postcard::Error),
    /// The value was read, and bytes were left over.
    #[error("{0} bytes follow the value that was to be the whole")]
    TrailingBytes(usize),
}

/// A value that its own `Serialize` refused to encode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the value cannot be encoded: {0}; postcard encodes every type whose Serialize gives the length of its sequences"
)]
pub struct EncodeError(pub postcard::Error);

/// Encodes a value.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, EncodeError> {
    postcard::to_allocvec(value).map_err(EncodeError)
}

/// Decodes a value that has to fill the bytes. It may borrow from them, as the messages do,
/// so that a chunk of a rock is not copied before it is known to be wanted.
pub fn decode<'bytes, T: Deserialize<'bytes>>(bytes: &'bytes [u8]) -> Result<T, DecodeError> {
    let (value, rest) = postcard::take_from_bytes(bytes).map_err(DecodeError::Malformed)?;
    if rest.is_empty() { Ok(value) } else { Err(DecodeError::TrailingBytes(rest.len())) }
}

/// Byte strings that are borrowed from what is decoded, and cost no visit of each byte.
pub(crate) mod raw {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(crate) fn deserialize<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<&'a [u8], D::Error> {
        <&[u8]>::deserialize(deserializer)
    }
}

/// The same where the one who sends may own them.
pub(crate) mod raw_cow {
    use alloc::borrow::Cow;

    use serde::Deserializer;

    pub(crate) use super::raw::serialize;

    pub(crate) fn deserialize<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Cow<'a, [u8]>, D::Error> {
        super::raw::deserialize(deserializer).map(Cow::Borrowed)
    }
}
