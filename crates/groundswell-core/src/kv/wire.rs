//! The messages between the two sides of a document.
//!
//! Each side says once, in a [`KvHello`], which document it means and up to which counter
//! it holds each author's entries. Then each sends what the other lacks, in the order of their
//! counters, and from then on what is new, once it is durable here. The other acknowledges
//! once it is durable there.
//!
//! Their order and their fields are the protocol: append, never insert, and raise the highest of
//! [`PROTOCOL_VERSIONS`](crate::wire::PROTOCOL_VERSIONS) when an old side could not understand.

use alloc::{borrow::Cow, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::{
    encoding::{DecodeError, decode, raw_cow},
    kv::{entry::KvAuthor, envelope::max_envelope_bytes, release::ReleaseSignature},
    limits::{KV_FRAME_OVERHEAD_BYTES, MAX_SIGNED_ENTRY_BYTES},
    wire::{Extension, FRAME_HEADER_BYTES, FrameError, encode_frame_within, frame_length_within},
};

/// Up to which counter a side holds an author's entries durably. Every entry of the author with
/// a counter up to it is here, or one that the author wrote over it since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Held {
    /// The machine's.
    pub machine: u64,
    /// The manager's.
    pub manager: u64,
}

impl Held {
    /// Up to which counter this author's are held.
    pub fn of(&self, author: KvAuthor) -> u64 {
        match author {
            KvAuthor::Machine => self.machine,
            KvAuthor::Manager => self.manager,
        }
    }

    /// None of this author's are said to be held.
    pub fn clear(&mut self, author: KvAuthor) {
        match author {
            KvAuthor::Machine => self.machine = 0,
            KvAuthor::Manager => self.manager = 0,
        }
    }

    /// This author's are held up to this counter too. It never goes back.
    pub fn raise(&mut self, author: KvAuthor, counter: u64) {
        let held = match author {
            KvAuthor::Machine => &mut self.machine,
            KvAuthor::Manager => &mut self.manager,
        };
        *held = counter.max(*held);
    }
}

/// What each side says first on the stream of a document, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvHello {
    /// The document that the stream is for.
    pub document: [u8; 32],
    /// What this side's wall clock shows, in milliseconds since 1970, to measure the
    /// [skew](crate::kv::skew_ms) by.
    pub wall_ms: u64,
    /// What this side holds.
    pub held: Held,
    /// What later versions add.
    pub extension: Extension,
}

/// What either side sends after its hello.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum KvMessage<'a> {
    /// One entry.
    Entry {
        /// The document's signed entry, without its content.
        #[serde(borrow, with = "raw_cow")]
        signed: Cow<'a, [u8]>,
        /// Its content: an encoded [`Envelope`](crate::kv::Envelope).
        #[serde(borrow, with = "raw_cow")]
        envelope: Cow<'a, [u8]>,
    },
    /// With the entries before it, the other side has all of this author's up to this counter.
    UpTo {
        /// The author.
        author: KvAuthor,
        /// The counter.
        counter: u64,
    },
    /// This is durable here now.
    Ack(Held),
    /// All that the other lacked when it said hello has been sent; what follows is live.
    CaughtUp,
    /// This side has given the document up. Nothing follows. Only the signature is proof of it.
    Released {
        /// Of the side's author, over the [`Release`](crate::kv::Release) of this document.
        signature: ReleaseSignature,
    },
    /// This side is shutting down. Nothing follows until it is back.
    ShuttingDown,
    /// This side knows of this author's entry, and does not have it: send it.
    Want {
        /// The author.
        author: KvAuthor,
        /// The document key.
        key: [u8; 32],
    },
    /// So many [wants](KvMessage::Want) have been looked at: what this side has of them came before. The
    /// other may want more now.
    Answered {
        /// How many.
        wants: u32,
    },
}

/// Bytes that are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KvMessageError {
    /// A signed entry is too long.
    #[error("a signed entry of {bytes} bytes: at most {MAX_SIGNED_ENTRY_BYTES} are allowed")]
    SignedTooLong {
        /// How many bytes it has.
        bytes: usize,
    },
    /// An envelope is too long.
    #[error("an envelope of {bytes} bytes: at most {limit} are allowed")]
    EnvelopeTooLong {
        /// How many bytes it has.
        bytes: usize,
        /// How many it may have.
        limit: usize,
    },
    /// They can't be read.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}

/// The most bytes of a frame's body where values may have so many.
pub const fn max_kv_frame_bytes(max_value_bytes: usize) -> usize {
    max_envelope_bytes(max_value_bytes).saturating_add(KV_FRAME_OVERHEAD_BYTES)
}

/// Appends one message as a frame.
pub fn encode_kv_frame<M: Serialize>(
    max_value_bytes: usize,
    message: &M,
    into: &mut Vec<u8>,
) -> Result<(), FrameError> {
    encode_frame_within(max_kv_frame_bytes(max_value_bytes), message, into)
}

/// The length of the body that follows this header, if it may be that long.
pub fn kv_frame_length(max_value_bytes: usize, header: [u8; FRAME_HEADER_BYTES]) -> Result<usize, FrameError> {
    frame_length_within(max_kv_frame_bytes(max_value_bytes), header)
}

/// Reads the body of a frame. Its bytes are borrowed; nothing is copied.
pub fn decode_kv_message(max_value_bytes: usize, body: &[u8]) -> Result<KvMessage<'_>, KvMessageError> {
    let message = decode(body)?;
    if let KvMessage::Entry { signed, envelope } = &message {
        if signed.len() > MAX_SIGNED_ENTRY_BYTES {
            return Err(KvMessageError::SignedTooLong { bytes: signed.len() });
        }
        let limit = max_envelope_bytes(max_value_bytes);
        if envelope.len() > limit {
            return Err(KvMessageError::EnvelopeTooLong { bytes: envelope.len(), limit });
        }
    }
    Ok(message)
}
