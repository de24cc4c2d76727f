//! Why the key-value store refuses something.

use std::sync::Arc;

use groundswell_core::{
    PathError,
    kv::{KeyError, KvEntry, TooManyKeys},
};

use super::budget::OverBudget;
use crate::{
    StorageError,
    error::{OutcomeUnknown, WriteError, from_write_error},
    ids::IdError,
    limits,
    source::PeerId,
};

/// Why a machine or a manager could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KvOpenError {
    /// The data directory can't be used, or the node not be started.
    #[error(transparent)]
    Node(#[from] crate::OpenError),
    /// The node has a machine or a manager already.
    #[error("this node has a machine or a manager already: use that one, or another node")]
    RoleTaken,
    /// The docs engine can't be started.
    #[error("cannot start the documents: {0}")]
    Documents(String),
    /// The node is shut down.
    #[error("the node is shut down")]
    ShutDown,
}

/// Why an operation of the key-value store failed. What was acknowledged before stands.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum KvError {
    /// The key is too long.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The value is too large.
    #[error("a value of {bytes} bytes: at most {limit} are allowed; split it over several keys")]
    ValueTooLarge {
        /// How many bytes it has.
        bytes: usize,
        /// How many it may have.
        limit: usize,
    },
    /// As many keys have been used as a document may have.
    #[error(transparent)]
    TooManyKeys(#[from] TooManyKeys),
    /// The keys and values would take more bytes than they may.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
    /// The name of a space is malformed.
    #[error("the name of the space: {0}")]
    Space(#[from] PathError),
    /// The manager has no such machine.
    #[error("machine {0} is not one of this manager's: it was not claimed, or was released")]
    UnknownMachine(PeerId),
    /// The machine has no manager, or has left this one.
    #[error("the machine is not claimed, or not any more: this needs a manager who has claimed it")]
    NotClaimed,
    /// There are as many streams as a node may have.
    #[error("this node has {limit} subscriptions, the most that it allows: drop some", limit = limits::MAX_SUBSCRIPTIONS)]
    TooManySubscriptions,
    /// Storage failed. The write did not happen; readers see what was there before.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The write may be there after a restart. Readers see what was there before.
    #[error(transparent)]
    Unknown(OutcomeUnknown),
    /// The id of the write is refused.
    #[error(transparent)]
    Id(#[from] IdError),
    /// An entry could not be made.
    #[error("the entry cannot be written: {0}")]
    Entry(Arc<str>),
    /// The machine, the manager or the node is shut down. This call did nothing; what an earlier one with the same id did
    /// stands.
    #[error("it is shut down: start it again")]
    ShutDown,
}

from_write_error! {
    KvError: KvError::Unknown;
}

/// Why a stream of entries ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum KvEnded {
    /// The machine, the manager or the node was shut down.
    #[error("it was shut down")]
    ShutDown,
    /// The part that writes entries has failed; the log says why.
    #[error("the storage of entries failed: see the log, and start it again")]
    Failed,
    /// The manager has released the machine, and what it had of it is gone.
    #[error("the machine was released")]
    Released,
}

/// What became of a write, for who asked for it.
pub(crate) enum Written {
    /// The key has this entry now.
    Put(KvEntry),
    /// The key is deleted; whether it had a value.
    Deleted(bool),
}
