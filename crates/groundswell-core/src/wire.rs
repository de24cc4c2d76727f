//! The messages between a subscriber and a publisher, and their frames.
//!
//! docs/protocol.md tells the protocol; this file is its bytes. A golden file for each
//! message fails when they change.

mod frame;
mod message;

pub use frame::{FRAME_HEADER_BYTES, FrameError, encode_frame, frame_length};
pub use message::{BootId, Hello, Message, PROTOCOL_VERSION, Refusal, Retry, Surf};
