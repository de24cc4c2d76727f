//! Frames: four bytes of length, little-endian, and so many bytes of one encoded message.

use alloc::vec::Vec;

use serde::Serialize;

use crate::{encoding::EncodeError, limits::MAX_FRAME_BYTES};

/// How many bytes stand before a frame's body: its length.
pub const FRAME_HEADER_BYTES: usize = 4;

/// A frame that may not be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A peer announced a frame that is too long. Nothing was allocated for it.
    #[error("a frame of {bytes} bytes was announced: at most {limit} are allowed")]
    TooLong {
        /// How many bytes were announced.
        bytes: u64,
        /// How many may be.
        limit: usize,
    },
    /// A message of ours is too long to be sent.
    #[error("a message of {bytes} bytes cannot be sent: at most {limit} are allowed")]
    MessageTooLong {
        /// How many bytes it has.
        bytes: usize,
        /// How many it may have.
        limit: usize,
    },
    /// A message of ours does not encode.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// Appends one message as a frame of at most [`MAX_FRAME_BYTES`].
pub fn encode_frame<M: Serialize>(message: &M, into: &mut Vec<u8>) -> Result<(), FrameError> {
    encode_frame_within(MAX_FRAME_BYTES, message, into)
}

/// Appends one message as a frame whose body has at most so many bytes. Where it has more,
/// nothing is appended.
pub fn encode_frame_within<M: Serialize>(limit: usize, message: &M, into: &mut Vec<u8>) -> Result<(), FrameError> {
    let start = into.len();
    into.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
    let mut out =
        postcard::to_extend(message, core::mem::take(into)).map_err(|error| FrameError::Encode(EncodeError(error)))?;
    let length = out.len() - start - FRAME_HEADER_BYTES;
    let announced = u32::try_from(length).ok().filter(|_| length <= limit);
    match announced {
        Some(announced) => {
            out[start..start + FRAME_HEADER_BYTES].copy_from_slice(&announced.to_le_bytes());
            *into = out;
            Ok(())
        }
        None => {
            out.truncate(start);
            *into = out;
            Err(FrameError::MessageTooLong { bytes: length, limit })
        }
    }
}

/// The length of the body that follows this header, if it is at most [`MAX_FRAME_BYTES`].
pub fn frame_length(header: [u8; FRAME_HEADER_BYTES]) -> Result<usize, FrameError> {
    frame_length_within(MAX_FRAME_BYTES, header)
}

/// The length of the body that follows this header, if it may be that long.
pub fn frame_length_within(limit: usize, header: [u8; FRAME_HEADER_BYTES]) -> Result<usize, FrameError> {
    let bytes = u32::from_le_bytes(header);
    match usize::try_from(bytes) {
        Ok(bytes) if bytes <= limit => Ok(bytes),
        _ => Err(FrameError::TooLong { bytes: bytes.into(), limit }),
    }
}
