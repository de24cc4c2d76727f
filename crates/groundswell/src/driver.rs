//! The one driver of the core: a thread of its own that alone changes tides and storage.
//!
//! Its loop, which is the whole contract:
//!
//! 1. wait for a command, and take along what else is waiting, up to the named bounds;
//! 2. stage each command: wash its waves onto the locked rocks, push them onto the changes;
//!    one that is refused leaves no trace, and is answered at once;
//! 3. make all changes durable in one transaction (the group commit);
//! 4. commit them to the cells, which wakes the readers, let go of the rocks, and answer;
//!    or, where storage failed, load the rocks again as they were, and answer with the failure.
//!
//! Where nobody knows whether a transaction is on the disk, that is the answer, and the transaction is kept: it is
//! written again before anything else, and nobody sees it until that has succeeded. Until then every other command is
//! refused.
//!
//! It awaits nothing but commands and, bounded by its patience, readers of a rock. The code of lakes runs here for
//! publications alone, which this node's own agents give to; for replicas it runs elsewhere, see `replica.rs`.

mod batch;
mod entry;
mod load;
mod manage;
mod once;
mod replica;
mod turn;

use std::{
    collections::{HashMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use groundswell_core::{Access, Aeon, Cursor, LakeId, Name, Path, Pattern, Rule, Tombstone, subscriber::Intake};
use iroh::EndpointAddr;
use tokio::sync::{mpsc, oneshot};

use crate::{
    catalog::Catalog,
    cell::TideCell,
    disk::states::META_FOLLOWERS,
    error::{DeclareError, GiveError, ManageError, OutcomeUnknown, StorageError, SurfError, WriteError, panic_message},
    fold::NewFold,
    followers::Followers,
    freshness::Ended,
    ids::WriteId,
    limits::{DRIVER_QUEUE, MAX_BATCH_BYTES, MAX_BATCH_COMMANDS, REPEAT_UNKNOWN_AFTER, WASH_SHUTDOWN_PATIENCE},
    metrics::Metrics,
    source::{PeerId, Source},
    store::{Fail, Store, TideKey, Write},
    washers::Washers,
};
use batch::Batch;
use entry::Entry;
pub(crate) use manage::AccessChange;
use once::Windows;
pub(crate) use replica::Back;
use replica::{Away, CopyOf};
pub(crate) use turn::ApplyError;
use turn::Change;

/// Whether the waves of a publication survive the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Durability {
    /// A wave is on disk, flushed, before `give` returns and before anyone sees it.
    #[default]
    Disk,
    /// A wave is in memory only: faster, and gone with the process. The next run of the
    /// process publishes in a new epoch, from the default rock on.
    Memory,
}

/// What a declaration says of its tides.
#[derive(Clone)]
pub(crate) struct Declared {
    pub(crate) agent: Name,
    pub(crate) pattern: Pattern,
    pub(crate) lake: LakeId,
    pub(crate) new_fold: NewFold,
    pub(crate) durability: Durability,
}

/// What the driver is asked to do.
pub(crate) enum Command {
    /// Load the stored publications that a declaration covers.
    Declare { declared: Arc<Declared>, reply: oneshot::Sender<Result<(), DeclareError>> },
    /// Begin a publication, if there is none, and give it these waves, all or none; with an id, once.
    Give {
        declared: Arc<Declared>,
        path: Path,
        waves: Vec<Bytes>,
        id: Option<WriteId>,
        reply: oneshot::Sender<Result<Aeon, GiveError>>,
    },
    /// Begin a new epoch: a reader has seen aeons that this publication has lost.
    BeginEpoch { cell: Arc<TideCell>, ahead: Cursor, reply: oneshot::Sender<()> },
    /// Note that an agent wants a source, and load its replica if one is stored.
    Want { declared: Arc<Declared>, source: Source, reply: oneshot::Sender<Result<Arc<TideCell>, SurfError>> },
    /// Note that an agent no longer wants it. `last` says that no agent of this run does; if none
    /// of an earlier run does either, the replica goes.
    Unwant { agent: Name, source: Source, last: bool, reply: oneshot::Sender<Result<(), WriteError>> },
    /// Apply what came from a source.
    Apply { cell: Arc<TideCell>, intakes: Vec<Intake>, reply: oneshot::Sender<Result<(), ApplyError>> },
    /// Note how an agent's handler failed on a state, or that it no longer does.
    Fail { agent: Name, source: Source, fail: Option<Fail>, reply: oneshot::Sender<Result<(), WriteError>> },
    /// Something that concerns a whole path.
    Manage(Manage),
    /// Remember where a peer was reached.
    Peer { addr: EndpointAddr, reply: Option<oneshot::Sender<Result<(), WriteError>>> },
    /// A replica comes back from a washer.
    Back(Box<Back>),
    /// Finish what was asked before, and stop.
    Stop,
    /// A fault of the driver itself.
    #[cfg(test)]
    Panic,
}

/// What concerns a whole path: a transaction of its own.
pub(crate) enum Manage {
    /// Note whether the source of a replica has ended for this node.
    SourceKilled { cell: Arc<TideCell>, killed: bool, reply: oneshot::Sender<Result<(), WriteError>> },
    /// Change who may read a path.
    Access {
        agent: Name,
        path: Path,
        change: AccessChange,
        reply: oneshot::Sender<Result<Access<PeerId>, ManageError>>,
    },
    /// Set the rule of a tide.
    Rule { key: TideKey, rule: Rule, reply: oneshot::Sender<Result<(), ManageError>> },
    /// Make a rock of a tide now, and drop what is older.
    Wipe { key: TideKey, reply: oneshot::Sender<Result<(), ManageError>> },
    /// End a publication.
    Kill { key: TideKey, reply: oneshot::Sender<Result<(), ManageError>> },
    /// Begin a publication with another tide's state and history. `access` is given to a copy; a fork
    /// keeps what its origin has.
    Replicate {
        from: TideKey,
        declared: Arc<Declared>,
        to: Path,
        access: Option<Access<PeerId>>,
        reply: oneshot::Sender<Result<Aeon, ManageError>>,
    },
}

impl Command {
    /// About how many bytes of waves it carries.
    fn weight(&self) -> usize {
        match self {
            Self::Give { waves, .. } => waves.iter().map(Bytes::len).sum(),
            Self::Apply { intakes, .. } => intakes.iter().map(intake_weight).sum(),
            Self::Back(back) => back.weight(),
            _ => 0,
        }
    }

    /// Whether it comes after everything that was asked before, in a transaction of its own.
    fn stands_alone(&self) -> bool {
        match self {
            Self::Declare { .. } | Self::Want { .. } | Self::Unwant { .. } | Self::Manage(_) => true,
            Self::Back(back) => back.stands_alone(),
            _ => false,
        }
    }

    /// Answers that nothing of it was done.
    fn refuse(self, why: WriteError) {
        // Whoever no longer waits for the answer does not need it.
        match self {
            Self::Declare { reply, .. } => drop(reply.send(Err(why.into()))),
            Self::Give { reply, .. } => drop(reply.send(Err(why.into()))),
            Self::BeginEpoch { reply, .. } => drop(reply.send(())),
            Self::Want { reply, .. } => drop(reply.send(Err(why.into()))),
            Self::Apply { reply, .. } => drop(reply.send(Err(why.into()))),
            Self::Unwant { reply, .. }
            | Self::Fail { reply, .. }
            | Self::Peer { reply: Some(reply), .. }
            | Self::Manage(Manage::SourceKilled { reply, .. }) => drop(reply.send(Err(why))),
            Self::Manage(Manage::Access { reply, .. }) => drop(reply.send(Err(why.into()))),
            Self::Manage(Manage::Replicate { reply, .. }) => drop(reply.send(Err(why.into()))),
            Self::Manage(Manage::Rule { reply, .. } | Manage::Wipe { reply, .. } | Manage::Kill { reply, .. }) => {
                drop(reply.send(Err(why.into())))
            }
            Self::Back(back) => back.refuse(why),
            Self::Peer { reply: None, .. } | Self::Stop => {}
            #[cfg(test)]
            Self::Panic => {}
        }
    }
}

fn intake_weight(intake: &Intake) -> usize {
    match intake {
        Intake::Wave { wave, .. } => wave.len(),
        Intake::Rock { rock, .. } => rock.len(),
        _ => 0,
    }
}

/// The way to the driver.
#[derive(Clone)]
pub(crate) struct DriverHandle {
    commands: mpsc::Sender<Command>,
    uncertain: Arc<AtomicBool>,
}

/// The driver is gone.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// The node is shut down, and the command was not taken.
    ShutDown,
    /// The driver ended without an answer. What it does not do any more it refuses, so that it has panicked, and the
    /// command may have been done.
    NoAnswer,
}

impl From<Stopped> for WriteError {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::ShutDown => Self::ShutDown,
            Stopped::NoAnswer => OutcomeUnknown::no_answer().into(),
        }
    }
}

impl DriverHandle {
    /// Whether the outcome of an earlier transaction is unknown, or the driver has panicked.
    pub(crate) fn is_uncertain(&self) -> bool {
        self.uncertain.load(Ordering::SeqCst)
    }

    /// Asks something and waits for the answer.
    pub(crate) async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| Stopped::ShutDown)?;
        answer.await.map_err(|_| Stopped::NoAnswer)
    }

    /// Tells something whose answer no one waits for.
    pub(crate) async fn tell(&self, command: Command) {
        // A stopped driver needs to be told nothing.
        let _ = self.commands.send(command).await;
    }
}

pub(crate) struct Driver {
    id: PeerId,
    store: Arc<Store>,
    catalog: Arc<Catalog>,
    metrics: Arc<Metrics>,
    entries: HashMap<TideKey, Entry>,
    /// Stored tides that no declaration has asked for yet.
    stored: HashMap<TideKey, (u64, crate::store::TideRow)>,
    next_id: u64,
    /// Who may read which path, where that was said.
    access: HashMap<(Name, Path), Access<PeerId>>,
    /// Who may read a path that is published from here on, until that is said.
    default_access: Access<PeerId>,
    /// What was killed: publications of this node, and sources of its replicas.
    tombstones: HashMap<TideKey, Tombstone>,
    /// The peers that are remembered, and the number of the last meeting with each.
    peers: HashMap<PeerId, u64>,
    /// Followers, whose addresses are written now and then, along with something else.
    followers: Arc<Followers>,
    /// The ids of gives that are remembered.
    ids: Windows,
    /// The transaction whose outcome is unknown. Nothing else is written before it.
    unknown: Option<Unknown>,
    /// Whether there is one, for those who ask when the driver has stopped.
    uncertain: Arc<AtomicBool>,
    /// Where the code of lakes runs for replicas.
    washers: Washers,
    /// The replicas that are there; none of them is among the entries.
    away: HashMap<TideKey, Away>,
    /// Commands that have waited for a replica, to be done before any that come.
    ready: VecDeque<Command>,
    /// The way by which replicas come back. Held weakly, so that the driver ends when every handle is gone.
    commands: mpsc::WeakSender<Command>,
}

/// A transaction whose outcome is unknown, to be written again and then shown.
enum Unknown {
    Batch(Box<Batch>),
    Whole(Again),
}

/// Does once more what is done to a whole path.
type Again = Box<dyn FnMut(&mut Driver) -> Result<(), WriteError> + Send>;

impl Driver {
    /// Starts the driver's thread. It ends on [`Command::Stop`], or when every handle is gone.
    pub(crate) fn start(
        id: PeerId,
        store: Arc<Store>,
        catalog: Arc<Catalog>,
        metrics: Arc<Metrics>,
        default_access: Access<PeerId>,
        followers: Arc<Followers>,
    ) -> Result<(DriverHandle, std::thread::JoinHandle<()>), StorageError> {
        let uncertain = Arc::<AtomicBool>::default();
        let tides = store.tides()?;
        let next_id = tides.iter().map(|(id, _)| id + 1).max().unwrap_or(1);
        let stored = tides.into_iter().map(|(id, row)| (row.key.clone(), (id, row))).collect();
        let peers = store.peers()?.into_iter().map(|(addr, seen)| (addr.id, seen)).collect();
        let access: HashMap<(Name, Path), Access<PeerId>> = store.access()?.into_iter().collect();
        access.values().for_each(|access| catalog.allowed.change(None, access));
        let tombstones: HashMap<TideKey, Tombstone> = store.tombstones()?.into_iter().collect();
        for key in tombstones.keys().filter(|key| matches!(key, TideKey::Publication { .. })) {
            // Whoever asks what stands on the path is told that it has ended, declared or not.
            catalog.cell(key).kill();
        }
        for ((agent, source), fail) in store.fails()? {
            catalog.set_fail(&agent, &source, Some(fail));
        }
        let ids = once::stored(&store)?;
        let (sender, commands) = mpsc::channel(DRIVER_QUEUE);
        let driver = Self {
            id,
            store,
            catalog,
            metrics,
            entries: HashMap::new(),
            stored,
            next_id,
            access,
            default_access,
            tombstones,
            peers,
            followers,
            ids,
            unknown: None,
            uncertain: uncertain.clone(),
            washers: Washers::start().map_err(StorageError::of_disk)?,
            away: HashMap::new(),
            ready: VecDeque::new(),
            commands: sender.downgrade(),
        };
        let panicked = driver.uncertain.clone();
        // A runtime of its own, so that no other task can keep the driver waiting.
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(StorageError::of_disk)?;
        let thread = std::thread::Builder::new()
            .name("groundswell-driver".to_owned())
            .spawn(move || {
                let catalog = driver.catalog.clone();
                let run = AssertUnwindSafe(|| runtime.block_on(driver.run(commands)));
                if let Err(panic) = catch_unwind(run) {
                    // No stream hangs silently: without the driver nothing more will come.
                    panicked.store(true, Ordering::SeqCst);
                    let why = format!("the driver panicked ({}): restart the node", panic_message(&*panic));
                    tracing::error!("{why}");
                    catalog.cells().iter().for_each(|cell| cell.end(Ended::Storage(why.clone())));
                }
            })
            .map_err(StorageError::of_disk)?;
        Ok((DriverHandle { commands: sender, uncertain }, thread))
    }

    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            if self.unknown.is_none() {
                self.uncertain.store(false, Ordering::SeqCst);
            }
            let first = match self.unknown {
                _ if !self.ready.is_empty() => self.ready.pop_front(),
                None => commands.recv().await,
                Some(_) => match tokio::time::timeout(REPEAT_UNKNOWN_AFTER, commands.recv()).await {
                    Ok(first) => first,
                    Err(_) => {
                        // Why it fails has been said.
                        let _ = self.repeat_unknown().await;
                        continue;
                    }
                },
            };
            let Some(first) = first else { return };
            let mut batch = Batch::default();
            let (mut count, mut bytes) = (0, 0);
            let mut next = Some(first);
            let mut stop = false;
            while let Some(command) = next {
                count += 1;
                bytes += command.weight();
                stop = matches!(command, Command::Stop);
                self.stage(command, &mut batch).await;
                let full = count >= MAX_BATCH_COMMANDS || bytes >= MAX_BATCH_BYTES;
                let mut ready = || self.ready.pop_front().or_else(|| commands.try_recv().ok());
                next = if stop || full { None } else { ready() };
            }
            // Whoever asked has the answer.
            let _ = self.finish(batch).await;
            if stop {
                self.stop(commands).await;
                return;
            }
        }
    }

    /// Waits a moment for the replicas that are at a washer. Whoever asks too late is told that nothing was done.
    async fn stop(mut self, mut commands: mpsc::Receiver<Command>) {
        let patience = tokio::time::sleep(WASH_SHUTDOWN_PATIENCE);
        tokio::pin!(patience);
        while !self.away.is_empty() {
            let command = tokio::select! {
                command = commands.recv() => command,
                () = &mut patience => break,
            };
            match command {
                Some(Command::Back(back)) => {
                    let mut batch = Batch::default();
                    self.stage(Command::Back(back), &mut batch).await;
                    // Whoever asked has the answer.
                    let _ = self.finish(batch).await;
                }
                Some(late) => self.refuse(late, WriteError::ShutDown),
                None => break,
            }
        }
        if let Some(value) = self.followers.due(true) {
            // Without it they dial by themselves.
            let _ = self.store.write(&[Write::Meta { key: META_FOLLOWERS, value: &value }]);
        }
        self.refuse_waiting(&WriteError::ShutDown);
        commands.close();
        while let Some(late) = commands.recv().await {
            self.refuse(late, WriteError::ShutDown);
        }
    }

    async fn stage(&mut self, command: Command, batch: &mut Batch) {
        let Some(command) = self.unless_known(command) else { return };
        if command.stands_alone() {
            // Whoever asked has the answer.
            let _ = self.finish(std::mem::take(batch)).await;
        }
        let repeated = self.repeat_unknown().await;
        if let Command::Back(back) = command {
            return self.take_in(*back, repeated.map(|()| batch).map_err(WriteError::from));
        }
        if let Err(error) = repeated {
            return self.refuse(command, error.into());
        }
        // What was unknown until now may be what it repeats.
        let Some(command) = self.unless_known(command) else { return };
        let Some(command) = self.unless_away(command) else { return };
        match command {
            Command::Declare { declared, reply } => {
                let _ = reply.send(self.declare(&declared));
            }
            Command::Give { declared, path, waves, id, reply } => {
                self.stage_give(batch, &declared, path, waves, id, reply).await;
            }
            Command::BeginEpoch { cell, ahead, reply } => {
                self.stage_epoch(batch, &cell, ahead).await;
                batch.answer(move |_| {
                    let _ = reply.send(());
                });
            }
            Command::Want { declared, source, reply } => {
                self.want(declared, source, reply);
            }
            Command::Unwant { agent, source, last, reply } => {
                let _ = reply.send(self.unwant(&agent, &source, last));
            }
            Command::Apply { cell, intakes, reply } => self.stage_apply(batch, &cell, intakes, reply).await,
            Command::Peer { addr, reply } => {
                batch.peers.push(addr);
                if let Some(reply) = reply {
                    batch.answer(move |result| {
                        let _ = reply.send(result);
                    });
                }
            }
            Command::Back(_) | Command::Stop => {}
            #[cfg(test)]
            Command::Panic => panic!("made to panic by a test"),
            Command::Fail { agent, source, fail, reply } => {
                // Who has quit meanwhile has no state that it could have failed on.
                if self.catalog.follows(&agent, &source) {
                    batch.fails.push((agent, source, fail));
                }
                batch.answer(move |result| {
                    let _ = reply.send(result);
                });
            }
            Command::Manage(whole) => self.manage(whole).await,
        }
    }

    /// Notes a transaction whose outcome is unknown, before anyone hears of it.
    fn is_unknown(&mut self, what: Unknown) {
        self.uncertain.store(true, Ordering::SeqCst);
        self.unknown = Some(what);
    }

    /// Writes the transaction again whose outcome is unknown, if there is one, and shows it.
    async fn repeat_unknown(&mut self) -> Result<(), StorageError> {
        let repeated = match self.unknown.take() {
            None => return Ok(()),
            Some(Unknown::Batch(batch)) => self.repeat_batch(batch).await,
            Some(Unknown::Whole(mut deed)) => {
                let repeated = deed(self);
                if repeated.is_err() {
                    self.unknown = Some(Unknown::Whole(deed));
                }
                repeated
            }
        };
        let first = |error| StorageError::of_disk(format!("an earlier write has to be repeated first ({error})"));
        repeated.map_err(first)
    }

    /// Writes something and shows it. Where its outcome is unknown, it is done again, now or later.
    fn whole(
        &mut self,
        mut deed: impl FnMut(&mut Self) -> Result<(), WriteError> + Send + 'static,
    ) -> Result<(), WriteError> {
        let result = deed(self);
        if let Err(WriteError::Unknown(_)) = &result
            && deed(self).is_err()
        {
            self.is_unknown(Unknown::Whole(Box::new(deed)));
        }
        result
    }

    async fn manage(&mut self, command: Manage) {
        // Who no longer waits for the answer does not need it.
        match command {
            Manage::SourceKilled { cell, killed, reply } => {
                let _ = reply.send(self.source_killed(&cell, killed));
            }
            Manage::Access { agent, path, change, reply } => {
                let _ = reply.send(self.change_access((agent, path), change));
            }
            Manage::Rule { key: key @ TideKey::Replica(_), rule, reply } => {
                self.change_replica(&key, Change::Rule(rule), reply);
            }
            Manage::Wipe { key: key @ TideKey::Replica(_), reply } => self.change_replica(&key, Change::Wipe, reply),
            Manage::Replicate { from: from @ TideKey::Replica(_), declared, to, access, reply } => {
                self.copy_replica(CopyOf { from, declared, to, access, reply });
            }
            Manage::Rule { key, rule, reply } => {
                let _ = reply.send(self.set_rule(&key, rule).await);
            }
            Manage::Wipe { key, reply } => {
                let _ = reply.send(self.wipe(&key).await);
            }
            Manage::Kill { key, reply } => {
                let _ = reply.send(self.kill(&key).await);
            }
            Manage::Replicate { from, declared, to, access, reply } => {
                let _ = reply.send(self.replicate(&from, &declared, to, access).await);
            }
        }
    }
}
