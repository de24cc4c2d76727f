//! What the keeper is asked to do, and the way to it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use groundswell_core::kv::{AuthorCounter, Change, Clock, KvAuthor, KvKey, SpaceName, restored::Returned};
use tokio::sync::{mpsc, oneshot};

use super::Opened;
use crate::{
    error::{OutcomeUnknown, WriteError},
    ids::{Ids, WriteId},
    kv::{
        document::{Document, Identity},
        error::{KvError, Written},
        storage::{Outcome, Row},
    },
};

/// What the keeper is asked to do.
pub(crate) enum Command {
    /// Where a document's clock and counter go on, which ids of writes are remembered, and how many bytes it has.
    Begin { number: u64, clock: Clock, counter: AuthorCounter, ids: Ids<Outcome>, bytes: u64 },
    /// A write of this side; with an id, once.
    Write {
        document: Arc<Document>,
        space: SpaceName,
        key: KvKey,
        change: Change,
        id: Option<WriteId>,
        reply: oneshot::Sender<Result<Written, KvError>>,
    },
    /// Entries that came from the other side, verified. With `upto`, everything of the author up to
    /// there has come.
    Take {
        document: Arc<Document>,
        identity: Arc<Identity>,
        entries: Vec<Opened>,
        upto: Option<(KvAuthor, u64)>,
        reply: oneshot::Sender<Result<(), KvError>>,
    },
    /// The other side holds more of ours than it was sent: this side went back. It agrees first from now on.
    WentBack {
        document: Arc<Document>,
        identity: Arc<Identity>,
        held_there: u64,
        reply: oneshot::Sender<Result<(), KvError>>,
    },
    /// The other side has sent back what it has of ours up to a counter. What it may lack is signed anew.
    Agree {
        document: Arc<Document>,
        identity: Arc<Identity>,
        upto: u64,
        returned: Returned,
        reply: oneshot::Sender<Result<(), KvError>>,
    },
    /// Rows of pairing and marks.
    Rows { rows: Vec<Row>, reply: Option<oneshot::Sender<Result<(), WriteError>>> },
    /// The same document is shared with somebody else, or with nobody: it has this identity from now on.
    /// One that has gone or was renewed meanwhile stays as it is, and [`KvError::NotClaimed`] is the answer.
    Restand {
        document: Arc<Document>,
        before: Arc<Identity>,
        identity: Arc<Identity>,
        reply: oneshot::Sender<Result<(), KvError>>,
    },
    /// The document goes on under another number and secret, and these rows are stored along with it; unless it does so
    /// already, which is answered with `false`. It keeps its live entries, as this side's, and what it knows of write ids;
    /// or is empty.
    Renew {
        document: Arc<Document>,
        before: Arc<Identity>,
        identity: Arc<Identity>,
        keeps: Contents,
        along: Vec<Row>,
        reply: oneshot::Sender<Result<bool, KvError>>,
    },
    /// Finish what was asked before, and stop.
    Stop,
    /// A fault of the keeper itself.
    #[cfg(test)]
    Panic,
}

/// What becomes of the entries of a document that goes on under another number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contents {
    Kept,
    Wiped,
}

impl Command {
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Write { change: Change::Put(value), .. } => value.len(),
            Self::Take { entries, .. } => entries.iter().map(|(entry, _)| entry.weight()).sum(),
            _ => 0,
        }
    }

    /// Answers that nothing of it was done, since the keeper has stopped.
    pub(super) fn refuse(self) {
        // Whoever no longer waits for the answer does not need it.
        match self {
            Self::Write { reply, .. } => drop(reply.send(Err(KvError::ShutDown))),
            Self::Take { reply, .. }
            | Self::Restand { reply, .. }
            | Self::WentBack { reply, .. }
            | Self::Agree { reply, .. } => drop(reply.send(Err(KvError::ShutDown))),
            Self::Renew { reply, .. } => drop(reply.send(Err(KvError::ShutDown))),
            Self::Rows { reply: Some(reply), .. } => drop(reply.send(Err(WriteError::ShutDown))),
            Self::Rows { reply: None, .. } | Self::Begin { .. } | Self::Stop => {}
            #[cfg(test)]
            Self::Panic => {}
        }
    }
}

/// The way to the keeper.
#[derive(Clone)]
pub(crate) struct KeeperHandle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) uncertain: Arc<AtomicBool>,
}

impl KeeperHandle {
    /// Whether the outcome of an earlier write is unknown, or the keeper has panicked.
    pub(crate) fn is_uncertain(&self) -> bool {
        self.uncertain.load(Ordering::SeqCst)
    }

    /// Asks something and waits for the answer. What the keeper does not do any more it refuses, so that without an
    /// answer it has panicked, and the command may have been done.
    pub(crate) async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, WriteError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| WriteError::ShutDown)?;
        answer.await.map_err(|_| OutcomeUnknown::no_answer().into())
    }

    /// Tells something whose answer no one waits for.
    pub(crate) async fn tell(&self, command: Command) {
        // A keeper that has stopped needs to be told nothing.
        let _ = self.commands.send(command).await;
    }

    /// Gives a document another standing.
    pub(crate) async fn restand(
        &self,
        document: &Arc<Document>,
        before: &Arc<Identity>,
        identity: Arc<Identity>,
    ) -> Result<(), KvError> {
        let (document, before) = (document.clone(), before.clone());
        self.ask(|reply| Command::Restand { document, before, identity, reply }).await?
    }

    /// Writes rows.
    pub(crate) async fn rows(&self, rows: Vec<Row>) -> Result<(), WriteError> {
        self.ask(|reply| Command::Rows { rows, reply: Some(reply) }).await?
    }
}
