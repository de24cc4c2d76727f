//! The messages. Their order and their fields are the protocol: append, never insert, and
//! raise the highest of [`PROTOCOL_VERSIONS`] when an old peer could not understand.

use alloc::borrow::Cow;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    aeon::{Aeon, Cursor},
    digest::Digest,
    encoding::raw_cow,
    lake::LakeId,
    path::{Name, Path},
    text::Visible,
    wire::{Extension, VersionRange},
};

/// The versions of these messages that this side speaks, which each side says in its [`Hello`].
pub const PROTOCOL_VERSIONS: VersionRange = VersionRange::only(3);

/// A random id of one run of one process, by which a peer tells a restart, and two devices
/// with one identity, from a second connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BootId(pub [u8; 16]);

impl fmt::Debug for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BootId({:032x})", u128::from_be_bytes(self.0))
    }
}

/// What each side says first, once, on a stream of its own that it then ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The versions that the side speaks. It stays the first field in every version.
    pub versions: VersionRange,
    /// Which run of the process this is.
    pub boot: BootId,
    /// What later versions add.
    pub extension: Extension,
}

/// What a stream that goes both ways is for: the first byte that the side which opens it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    /// A [`Surf`] follows, and the other side answers with [`Message`]s.
    Subscription = 1,
    /// The two sides of a document exchange a [`KvHello`](crate::kv::wire::KvHello) each, then
    /// [`KvMessage`](crate::kv::wire::KvMessage)s.
    Document = 2,
    /// A reconciliation of the document that the two sides share.
    Reconciliation = 3,
    /// A manager claims a machine ([`pairing`](crate::kv::pairing)).
    Claim = 4,
}

impl StreamKind {
    /// The byte on the wire.
    pub const fn byte(self) -> u8 {
        self as u8
    }

    /// The kind that a byte stands for. `None` is a protocol violation: both sides know the kinds of their common version.
    pub fn of(byte: u8) -> Option<Self> {
        let all = [Self::Subscription, Self::Document, Self::Reconciliation, Self::Claim];
        all.into_iter().find(|kind| kind.byte() == byte)
    }
}

/// What a subscriber asks for: the one frame that it sends on a stream. Ending the stream
/// ends the subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surf {
    /// The publishing agent.
    pub agent: Name,
    /// The path.
    pub path: Path,
    /// The lake that the subscriber understands.
    pub lake: LakeId,
    /// Where the subscriber stands, if it has anything.
    pub cursor: Option<Cursor>,
}

/// What a publisher sends on the stream of a subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message<'a> {
    /// The path is unknown, ended, or not for this peer: which of them is not said. The stream
    /// stays open, parked; it goes on by itself if the path becomes available, with a rock, or
    /// with a resumption from where it had led to. A rock that was under way is abandoned. On
    /// a stream that has led somewhere it is the tombstone: the path has ended for this peer.
    NotAvailable,
    /// The subscription can't be served as it is.
    Refused(Refusal),
    /// The cursor is good: the waves after it follow.
    Resumed(Cursor),
    /// A rock of so many bytes, in chunks that follow at once.
    Rock {
        /// The rock's place.
        at: Cursor,
        /// How many bytes its chunks have in all.
        bytes: u64,
        /// The digest of those bytes.
        digest: Digest,
    },
    /// The next bytes of the rock.
    Chunk(#[serde(borrow, with = "raw_cow")] Cow<'a, [u8]>),
    /// The next wave.
    Wave {
        /// The aeon that it leads to.
        aeon: Aeon,
        /// The digest of the publisher's rock at that aeon, where it keeps one.
        digest: Option<Digest>,
        /// The encoded wave.
        #[serde(borrow, with = "raw_cow")]
        wave: Cow<'a, [u8]>,
    },
    /// The subscriber has everything up to this aeon; what follows is live.
    CaughtUp(Aeon),
    /// The publisher is shutting down. Its subscribers come back when it does.
    ShuttingDown,
}

/// Why a subscription can't be served as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The path holds another lake, or another version. The stream stays parked.
    #[error(
        "the publisher's lake is {}: ask for that lake, or update the older side, and the subscription resumes by itself",
        Visible(.published)
    )]
    LakeDiffers {
        /// What is published.
        published: LakeId,
    },
    /// The subscriber has as many streams open as a peer may have. The stream ends.
    #[error("this peer has {limit} subscriptions open at the publisher, the most that it allows: quit some")]
    TooManySubscriptions {
        /// The limit.
        limit: u32,
    },
    /// The subscriber waits for as many unavailable paths as a peer may. The stream ends.
    #[error("this peer waits for {limit} paths that are not available, the most that the publisher allows: quit some")]
    TooManyParked {
        /// The limit.
        limit: u32,
    },
    /// The request is no request. The stream ends.
    #[error("the publisher could not read the request: is one side much older?")]
    Malformed,
    /// The publisher failed to read its storage. The stream ends.
    #[error("the publisher failed to read its own storage; see its log")]
    Storage,
    /// The publisher has no room for more subscriptions of peers that it does not know. The stream ends.
    #[error(
        "the publisher has no room for more subscriptions of peers that it does not know: try again later, or have its owner allow this peer by name"
    )]
    Crowded,
}

/// What a subscriber does after a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Wait: the publisher goes on by itself when the reason is gone.
    WhenToldTo,
    /// Ask again after a while.
    Later,
}

impl Refusal {
    /// What to do after it.
    pub fn retry(&self) -> Retry {
        match self {
            Self::LakeDiffers { .. } => Retry::WhenToldTo,
            Self::TooManySubscriptions { .. } | Self::TooManyParked { .. } => Retry::Later,
            Self::Malformed | Self::Storage | Self::Crowded => Retry::Later,
        }
    }
}
