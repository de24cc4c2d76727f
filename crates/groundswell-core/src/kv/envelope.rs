//! The envelope: the content of a document's entry.
//!
//! A document knows its own keys, authors and timestamps only. Everything that is ours stands in
//! the content: the user's key, the stamp, what was done and the value. It is never empty, as
//! a document forbids that, and a delete is an envelope too, because a document's own
//! tombstones let older entries come back.
//!
//! One byte of version, then the fields in postcard's encoding.

use alloc::vec::Vec;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    encoding::{DecodeError, EncodeError, decode, raw},
    kv::{
        key::{KeyError, KvKey, SpaceName, document_key},
        stamp::{Stamp, StampError},
    },
    limits::MAX_ENVELOPE_OVERHEAD_BYTES,
    path::PathError,
};

/// The version of the envelopes that are written.
const VERSION: u8 = 1;

/// What a write does to its key. The order decides only between two writes of one author with
/// one stamp, which no honest side makes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// The key gets this value.
    Put(Bytes),
    /// The key is deleted.
    Delete,
}

/// One write. Its author is known from the signature around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The space that the key is in.
    pub space: SpaceName,
    /// The user's key.
    pub key: KvKey,
    /// What decides whether it wins.
    pub stamp: Stamp,
    /// What the writer's wall clock showed, in milliseconds since 1970.
    pub timestamp: u64,
    /// What it does.
    pub change: Change,
}

/// Bytes that are not the envelope they should be, or an envelope that can't be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The content of the entry is longer than any envelope.
    #[error("an envelope of {bytes} bytes: at most {limit} are allowed")]
    TooLong {
        /// How many bytes it has.
        bytes: usize,
        /// How many it may have.
        limit: usize,
    },
    /// The value is too large.
    #[error(
        "a value of {bytes} bytes: at most {limit} are allowed; split it over several keys, or raise the limit on both sides"
    )]
    ValueTooLarge {
        /// How many bytes it has.
        bytes: usize,
        /// How many it may have.
        limit: usize,
    },
    /// There are no bytes.
    #[error("the envelope is empty")]
    Empty,
    /// The envelope is of another version.
    #[error("the envelope has version {0}, and this side reads version {VERSION}: update the older side")]
    Version(u8),
    /// The bytes are no envelope.
    #[error("the envelope can't be read: {0}")]
    Malformed(#[from] DecodeError),
    /// The envelope could not be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The user's key may not be.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The name of the space may not be.
    #[error("the name of the space: {0}")]
    Space(#[from] PathError),
    /// The stamp may not be.
    #[error(transparent)]
    Stamp(#[from] StampError),
    /// The envelope is stored under the key of another.
    #[error("the envelope of the key {0} is stored under another key: it was not written by this software")]
    WrongDocumentKey(KvKey),
}

/// The most bytes that an envelope may have where values may have so many.
pub const fn max_envelope_bytes(max_value_bytes: usize) -> usize {
    max_value_bytes.saturating_add(MAX_ENVELOPE_OVERHEAD_BYTES)
}

/// The fields as they are encoded.
#[derive(Serialize, Deserialize)]
struct Fields<'a> {
    space: &'a str,
    #[serde(borrow, with = "raw")]
    key: &'a [u8],
    stamp: Stamp,
    timestamp: u64,
    #[serde(borrow)]
    change: FieldsChange<'a>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Debug, Clone, Copy, Serialize, Deserialize)]
enum FieldsChange<'a> {
    Put(#[serde(borrow, with = "raw")] &'a [u8]),
    Delete,
}

/// What decides between two entries of one author under one key, before their counters do. Two [views](crate::kv::KvView)
/// that hold them decide in the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EnvelopeRank<'a> {
    stamp: Stamp,
    change: FieldsChange<'a>,
    timestamp: u64,
}

impl<'a> EnvelopeRank<'a> {
    /// The rank of an encoded envelope. Nothing is copied. One that can't be read ranks below all others: `None`.
    pub fn of(envelope: &'a [u8]) -> Option<Self> {
        let fields: Fields<'a> = decode(envelope.strip_prefix(&[VERSION])?).ok()?;
        Some(Self { stamp: fields.stamp, change: fields.change, timestamp: fields.timestamp })
    }
}

impl Envelope {
    /// The key under which a document stores it.
    pub fn document_key(&self) -> [u8; 32] {
        document_key(&self.space, &self.key)
    }

    /// The bytes that are stored, sent and hashed. A value of more bytes than this is refused.
    pub fn encode(&self, max_value_bytes: usize) -> Result<Vec<u8>, EnvelopeError> {
        let change = match &self.change {
            Change::Put(value) if value.len() > max_value_bytes => {
                return Err(EnvelopeError::ValueTooLarge { bytes: value.len(), limit: max_value_bytes });
            }
            Change::Put(value) => FieldsChange::Put(value),
            Change::Delete => FieldsChange::Delete,
        };
        let length = if let FieldsChange::Put(value) = change { value.len() } else { 0 };
        let mut bytes = Vec::with_capacity(length + self.key.as_bytes().len() + self.space.as_str().len() + 64);
        bytes.push(VERSION);
        let fields = Fields {
            space: self.space.as_str(),
            key: self.key.as_bytes(),
            stamp: self.stamp,
            timestamp: self.timestamp,
            change,
        };
        Ok(postcard::to_extend(&fields, bytes).map_err(EncodeError)?)
    }

    /// Reads the content of the entry that is stored under this key of a document. Every limit
    /// is checked before anything is copied; what it returns holds on to none of `bytes`.
    pub fn decode(document_key: &[u8; 32], bytes: &[u8], max_value_bytes: usize) -> Result<Self, EnvelopeError> {
        let limit = max_envelope_bytes(max_value_bytes);
        if bytes.len() > limit {
            return Err(EnvelopeError::TooLong { bytes: bytes.len(), limit });
        }
        let (version, fields) = bytes.split_first().ok_or(EnvelopeError::Empty)?;
        if *version != VERSION {
            return Err(EnvelopeError::Version(*version));
        }
        let fields: Fields<'_> = decode(fields)?;
        if let FieldsChange::Put(value) = fields.change
            && value.len() > max_value_bytes
        {
            return Err(EnvelopeError::ValueTooLarge { bytes: value.len(), limit: max_value_bytes });
        }
        let (space, key) = (SpaceName::from_stored(fields.space)?, KvKey::new(fields.key)?);
        let stamp = fields.stamp.check()?;
        if self::document_key(&space, &key) != *document_key {
            return Err(EnvelopeError::WrongDocumentKey(key));
        }
        let change = match fields.change {
            FieldsChange::Put(value) => Change::Put(Bytes::copy_from_slice(value)),
            FieldsChange::Delete => Change::Delete,
        };
        Ok(Self { space, key, stamp, timestamp: fields.timestamp, change })
    }
}
