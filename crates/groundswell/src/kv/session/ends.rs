//! How a session of a document ends: the close codes on the wire, and what they mean here.

use iroh::endpoint::{Connection, ConnectionError, VarInt};
use tracing::debug;

/// Why a connection is closed: the codes on the wire. They are part of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KvCloseCode {
    /// The node shuts down, or has no such role now.
    ShutDown = 0,
    /// The two sides speak no common version of the protocol.
    Version = 1,
    /// The peer did not say hello, or not as it should.
    Hello = 3,
    /// Another connection has taken its place.
    Superseded = 4,
    /// The peer broke the protocol.
    Violation = 5,
    /// This side does not know of such a document of the peer's. It proves nothing: its files may be lost.
    NotPaired = 6,
    /// Not now: ask again later.
    Later = 7,
    /// This side has given the document up, durably. It answers a signed release, and ends no pairing by itself.
    Released = 8,
}

impl KvCloseCode {
    pub(crate) fn code(self) -> VarInt {
        VarInt::from_u32(self as u32)
    }

    pub(crate) fn reason(self) -> &'static [u8] {
        match self {
            Self::ShutDown => b"shutting down",
            Self::Version => b"no common version of the protocol",
            Self::Hello => b"no proper hello",
            Self::Superseded => b"superseded by another connection",
            Self::Violation => b"protocol violation",
            Self::NotPaired => b"there is no such document for this peer",
            Self::Later => b"not now, ask again later",
            Self::Released => b"the document was given up",
        }
    }

    /// Closes a connection for this reason.
    pub(crate) fn close(self, connection: &Connection) {
        connection.close(self.code(), self.reason());
    }

    /// Whether the peer has closed the connection with this code.
    pub(crate) fn is(self, error: &ConnectionError) -> bool {
        matches!(error, ConnectionError::ApplicationClosed(closed) if closed.error_code == self.code())
    }
}

/// How a connection ended.
#[derive(Debug, Clone)]
pub(crate) enum End {
    /// It broke, was superseded, or the other side left.
    Lost,
    /// The other side does not know the document.
    NotKnown,
    /// Why the other side does not let this one in, in words.
    Refused(String),
    /// The other side did what the protocol does not allow: what, in words.
    Violation(String),
    /// This side cannot go on, for a reason of its own: why, in words.
    Failed(String),
}

impl End {
    /// What hinders, in words.
    pub(crate) fn problem(&self) -> Option<&str> {
        match self {
            Self::Lost | Self::NotKnown => None,
            Self::Refused(problem) | Self::Violation(problem) | Self::Failed(problem) => Some(problem),
        }
    }
}

pub(super) fn lost(error: impl std::fmt::Display) -> End {
    debug!(error = %groundswell_core::Visible(error), "the connection is lost");
    End::Lost
}
