//! The messages between a subscriber and a publisher, and their frames.
//!
//! docs/protocol.md tells the protocol; this file is its bytes. A golden file for each
//! message fails when they change.

mod frame;
mod message;
mod version;

pub use frame::{FRAME_HEADER_BYTES, FrameError, encode_frame, encode_frame_within, frame_length, frame_length_within};
pub use message::{BootId, Hello, Message, PROTOCOL_VERSIONS, Refusal, Retry, StreamKind, Surf};
pub use version::{EmptyRange, Extension, ExtensionTooLong, HelloError, VersionMismatch, VersionRange, decode_hello};
