//! The pure core of Groundswell: what replicated state is, without anything that moves it.
//!
//! Lakes, paths, tides, cursors, the messages between peers, and the state machines of both
//! sides of a subscription. No input or output happens here: no clock, no socket, no file, no
//! task, no randomness. The driver in the `groundswell` crate does that, and the simulation in
//! `groundswell-sim` does it once more with faults. The crate is `no_std`, so that the compiler
//! keeps it so.
//!
//! Begin with [`Lake`], then [`tide`], then [`publisher`] and [`subscriber`]. The key-value store
//! that two devices share is in [`kv`].

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod access;
mod aeon;
pub mod check;
mod digest;
pub mod encoding;
pub mod kv;
mod lake;
pub mod limits;
mod path;
pub mod publisher;
mod rule;
pub mod subscriber;
mod text;
pub mod tide;
pub mod wire;

pub use access::{Access, AccessError};
pub use aeon::{Aeon, Cursor, CursorError, Epoch};
pub use digest::Digest;
pub use lake::{Lake, LakeId, Older, UpgradeError};
pub use path::{Name, Path, PathError, Pattern};
pub use rule::{Frequency, Rule};
pub use text::{Visible, is_hidden, pasted, visible};
pub use tide::{Tide, Tombstone};
