//! How fresh a state is: what this node knows of its source right now.

use groundswell_core::wire::Refusal;
use serde::Serialize;

use crate::Moment;

/// What is known of the source of a state.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Freshness {
    /// The source is being connected to, or is catching this replica up. It has not been
    /// reached since this node was started, or has only just been.
    Connecting,
    /// The state is the source's own, but for what is on its way.
    Live,
    /// The source can't be reached.
    Offline {
        /// Since when; since the first attempt, if it never was. Of a source that fell silent: when that was noticed,
        /// less the [silence](crate::limits::IDLE_TIMEOUT) after which it is.
        since: Moment,
    },
    /// The source says that there is nothing there for this peer. It will begin by itself.
    NotAvailable,
    /// The path ended for this node while it was followed: it was killed, or this node may no
    /// longer read it, which are not told apart. The state stays readable. If the path is
    /// opened again, for this node, it begins again by itself.
    Killed,
    /// The source does not serve this subscription, and says why.
    Refused(Refusal),
    /// What the source sends can't be used: it may not be, or storage here fails. It is asked
    /// again later.
    Unusable {
        /// What is wrong with it.
        reason: String,
    },
    /// The replica differed from its source, and is being healed with a rock.
    Diverged,
}

impl Freshness {
    /// Whether the state may be behind its source.
    pub fn is_stale(&self) -> bool {
        *self != Self::Live
    }

    /// The kind in one word, as the tool prints it.
    pub fn kind(&self) -> FreshnessKind {
        match self {
            Self::Connecting => FreshnessKind::Connecting,
            Self::Live => FreshnessKind::Live,
            Self::Offline { .. } => FreshnessKind::Offline,
            Self::NotAvailable => FreshnessKind::NotAvailable,
            Self::Killed => FreshnessKind::Killed,
            Self::Refused(_) => FreshnessKind::Refused,
            Self::Unusable { .. } => FreshnessKind::Unusable,
            Self::Diverged => FreshnessKind::Diverged,
        }
    }
}

/// The kinds of [`Freshness`], in words that do not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum FreshnessKind {
    Connecting,
    Live,
    Offline,
    NotAvailable,
    Killed,
    Refused,
    Unusable,
    Diverged,
}

/// Why a stream of updates ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Ended {
    /// The agent quit the source.
    #[error("the source was quit")]
    Quit,
    /// The node was shut down. Subscriptions go on when it is started again.
    #[error("the node was shut down")]
    ShutDown,
    /// Storage failed while the stream read from it.
    #[error("storage failed: {0}")]
    Storage(String),
}
