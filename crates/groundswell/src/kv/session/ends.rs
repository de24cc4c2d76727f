//! The ends of a session of a document.

use iroh::endpoint::WriteError;
use tracing::debug;

use crate::{frames::ReadFrameError, network::CloseCode};

/// The way in which a session ended, or the reason for which it has not begun.
#[derive(Debug, Clone)]
pub(crate) enum End {
    /// The stream or the connection broke, was superseded, or the other side left.
    Lost,
    /// The other side does not know the document.
    NotKnown,
    /// Why the other side does not let this one in, in words.
    Refused(String),
    /// The other side did what the protocol does not allow: what, in words.
    Violation(String),
    /// There is no room, here or at the other side, for what the other one has written: why, in words.
    Full(String),
    /// This side cannot go on, for a reason of its own: why, in words.
    Failed(String),
}

impl End {
    /// The problem, in words, if there is one.
    pub(crate) fn problem(&self) -> Option<&str> {
        match self {
            Self::Lost | Self::NotKnown => None,
            Self::Refused(problem) | Self::Violation(problem) => Some(problem),
            Self::Failed(problem) | Self::Full(problem) => Some(problem),
        }
    }

    /// The other side has ended the stream of a session with this code.
    fn of(code: Option<CloseCode>) -> Self {
        match code {
            Some(CloseCode::NotPaired) => Self::NotKnown,
            Some(code @ CloseCode::Full) => Self::Full(code.reason()),
            code => lost(format_args!("the other side has ended it: {code:?}")),
        }
    }

    /// The other side has answered a hello with this code, if with any.
    pub(super) fn refused(code: Option<CloseCode>) -> Self {
        match code {
            Some(CloseCode::NotPaired) => Self::NotKnown,
            // It is starting or ending, or has another session, and will say more in a moment.
            None | Some(CloseCode::Later | CloseCode::ShutDown | CloseCode::Superseded) => Self::Lost,
            Some(code) => Self::Refused(code.reason()),
        }
    }
}

impl From<ReadFrameError> for End {
    fn from(error: ReadFrameError) -> Self {
        match error.code() {
            Some(code) => Self::of(Some(code)),
            None => lost(error),
        }
    }
}

impl From<WriteError> for End {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(code) => Self::of(CloseCode::of(code)),
            error => lost(error),
        }
    }
}

pub(crate) fn lost(error: impl std::fmt::Display) -> End {
    debug!(error = %groundswell_core::Visible(error), "the session is lost");
    End::Lost
}
