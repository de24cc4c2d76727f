//! What readers are given: entries, and the events of a watch.

use core::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{aeon::Cursor, kv::key::KvKey};

/// Which side wrote an entry. Of two writes with one stamp, the manager's wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum KvAuthor {
    /// The machine.
    Machine,
    /// Its manager.
    Manager,
}

impl KvAuthor {
    /// Both sides of a document.
    pub const BOTH: [Self; 2] = [Self::Machine, Self::Manager];

    /// The author's place in [`Self::BOTH`].
    pub const fn index(self) -> usize {
        match self {
            Self::Machine => 0,
            Self::Manager => 1,
        }
    }

    /// The other side's author.
    pub const fn other(self) -> Self {
        match self {
            Self::Machine => Self::Manager,
            Self::Manager => Self::Machine,
        }
    }
}

impl fmt::Display for KvAuthor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Machine => "machine",
            Self::Manager => "manager",
        })
    }
}

/// The newest entry of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvEntry {
    /// The key.
    pub key: KvKey,
    /// The value: any bytes, or none.
    pub value: Bytes,
    /// Who wrote it.
    pub author: KvAuthor,
    /// What the writer's wall clock showed, in milliseconds since 1970. It is for people, and
    /// decides nothing.
    pub timestamp: u64,
}

/// What happened to the entries that a reader follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KvEvent {
    /// The key has this entry now.
    Put(KvEntry),
    /// The key was deleted. It can come for a key that the reader was not given, if that was
    /// deleted before the reader got to it; there is nothing to be done then.
    Delete {
        /// The key.
        key: KvKey,
        /// Who deleted it.
        author: KvAuthor,
        /// What that side's wall clock showed, in milliseconds since 1970.
        timestamp: u64,
    },
    /// The key has an entry still, and it does not match the reader's filter any more.
    Left {
        /// The key.
        key: KvKey,
    },
    /// The reader has everything; what follows is live.
    CaughtUp,
    /// The reader has to forget what it holds. The present state follows, up to
    /// [`KvEvent::CaughtUp`].
    Reset {
        /// Why.
        reason: ResetReason,
    },
}

/// Why a reader could not go on from its cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ResetReason {
    /// The cursor is from before a restart, or from another document.
    OtherEpoch,
    /// The cursor is from the middle of a snapshot, which can only be begun again.
    SnapshotUnfinished,
    /// The cursor is of no place that this store has reached: it was not given by it.
    UnknownCursor,
}

impl fmt::Display for ResetReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherEpoch => "the store was restarted since",
            Self::SnapshotUnfinished => "the snapshot had not been finished",
            Self::UnknownCursor => "the cursor is not of this store",
        })
    }
}

/// An event at its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvUpdate {
    /// What happened.
    pub event: KvEvent,
    /// Where the reader stands with it. A reader that comes back with it goes on from here.
    pub cursor: Cursor,
    /// Whether it came after the reader had caught up.
    pub live: bool,
}
