//! The key-value store that a machine and its manager share: everything of it that is neither
//! clock, disk nor network.
//!
//! An entry travels as an [`Envelope`], which holds the user's key, the value, and a [`Stamp`]
//! that decides which of two writes wins. A [`KvView`] holds the newest entry of each key, and
//! a [`KvReader`] is a cursor into it. The stamps come from a [`Clock`] that no wrong wall clock
//! can lead astray.
//!
//! Begin with [`KvView`], then [`KvReader`]. How two devices become a pair is in [`pairing`], and
//! what they say to one another in [`wire`], and
//! when they say it in [`sync`]. How a pair ends is in [`pairs`].

mod counter;
mod delivery;
mod entry;
mod envelope;
mod filter;
mod key;
pub mod pairing;
pub mod pairs;
mod reader;
mod release;
pub mod restored;
mod stamp;
pub mod sync;
mod view;
pub mod wire;

pub use counter::AuthorCounter;
pub use delivery::{Delivered, LeftOut};
pub use entry::{KvAuthor, KvEntry, KvEvent, KvUpdate, ResetReason};
pub use envelope::{Change, Envelope, EnvelopeError, EnvelopeRank, max_envelope_bytes};
pub use filter::{KeyRange, KvFilter, Predicate};
pub use key::{KeyError, KvKey, SpaceName, document_key};
pub use reader::{KvReader, ReaderStep};
pub use release::{RELEASE_BYTES, Release, ReleaseSignature};
pub use stamp::{Clock, Stamp, StampError, skew_ms};
pub use view::{Applied, KvView, TooManyKeys, Winner};
