//! Replicas: what runs the code of their lakes is done by a washer, in order for each, and never by the driver.
//!
//! The driver hands a replica's entry over with one turn of work, and gets it back with what is to be made durable.
//! Meanwhile whatever else is asked of this replica waits, but for the end of the subscription: that takes its place away,
//! and what comes of the turn is dropped.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use groundswell_core::{Access, Aeon, Path, subscriber::Intake};
use tokio::sync::oneshot;

use super::{
    ApplyError, Command, Declared, Driver, Manage,
    batch::Batch,
    entry::{Entry, LoadError, Staged},
    load::{Loading, UpgradeFailed},
    manage::Upgraded,
    turn::{Applied, Change},
};
use crate::{
    cell::{Body, TideCell},
    error::{ManageError, StorageError, SurfError, WriteError, panic_message},
    fold::{Beside, Fold},
    freshness::Ended,
    limits::{MAX_WAITING_FOR_REPLICA, SLOW_WASH},
    source::{PeerId, Source},
    store::{TideKey, TideRow},
    washers::Pace,
};

/// A replica whose entry a washer has.
pub(super) struct Away {
    cell: Arc<TideCell>,
    /// Where it is stored, if anything is.
    stored: Option<(u64, TideRow)>,
    waiting: VecDeque<Command>,
}

/// A replica comes back from a washer.
pub(crate) struct Back {
    key: TideKey,
    cell: Arc<TideCell>,
    /// None where there was none and could be made none.
    entry: Option<Box<Entry>>,
    done: Done,
}

/// What came of a turn, and who waits for it.
enum Done {
    Applied {
        applied: Applied,
        reply: oneshot::Sender<Result<(), ApplyError>>,
    },
    Changed {
        changed: Result<Staged, ManageError>,
        reply: oneshot::Sender<Result<(), ManageError>>,
    },
    Copied {
        fold: Result<Box<dyn Fold>, ManageError>,
        copy: CopyOf,
    },
    Loaded {
        body: Result<Box<Body>, SurfError>,
        reply: WantReply,
    },
    Upgraded {
        upgraded: Result<Upgraded, SurfError>,
        declared: Arc<Declared>,
        source: Source,
        reply: WantReply,
    },
    /// It panicked, and the entry is gone.
    Lost,
}

type WantReply = oneshot::Sender<Result<Arc<TideCell>, SurfError>>;

/// A publication that is to begin as the copy of a replica.
pub(super) struct CopyOf {
    pub(super) from: TideKey,
    pub(super) declared: Arc<Declared>,
    pub(super) to: Path,
    pub(super) access: Option<Access<PeerId>>,
    pub(super) reply: oneshot::Sender<Result<Aeon, ManageError>>,
}

impl Command {
    /// The replica that it is for, where it has to wait until that is here.
    fn replica(&self) -> Option<TideKey> {
        let key = match self {
            Self::Want { source, .. } => return Some(TideKey::Replica(source.clone())),
            Self::Apply { cell, .. } | Self::Manage(Manage::SourceKilled { cell, .. }) => cell.key(),
            Self::Manage(Manage::Rule { key, .. } | Manage::Wipe { key, .. } | Manage::Kill { key, .. }) => key,
            Self::Manage(Manage::Replicate { from, .. }) => from,
            _ => return None,
        };
        matches!(key, TideKey::Replica(_)).then(|| key.clone())
    }
}

impl Back {
    /// Whether what comes of it is a transaction of its own.
    pub(super) fn stands_alone(&self) -> bool {
        matches!(self.done, Done::Copied { .. } | Done::Upgraded { .. })
    }

    /// About how many bytes of waves and rocks it carries.
    pub(super) fn weight(&self) -> usize {
        let Done::Applied { applied: Applied { staged: Some(staged), .. }, .. } = &self.done else { return 0 };
        let rocks = staged.rocks.iter().map(|(_, rock)| rock.len()).sum::<usize>();
        rocks + staged.changes.waves().map(|(_, wave)| wave.len()).sum::<usize>()
    }

    /// Answers that nothing of it was done.
    pub(super) fn refuse(self, why: WriteError) {
        self.done.refuse(why);
    }
}

impl Done {
    fn refuse(self, why: WriteError) {
        // Whoever no longer waits for the answer does not need it.
        match self {
            Self::Applied { reply, .. } => drop(reply.send(Err(why.into()))),
            Self::Changed { reply, .. } => drop(reply.send(Err(why.into()))),
            Self::Copied { copy, .. } => drop(copy.reply.send(Err(why.into()))),
            Self::Loaded { reply, .. } | Self::Upgraded { reply, .. } => drop(reply.send(Err(why.into()))),
            Self::Lost => {}
        }
    }
}

impl Driver {
    /// Gives a command back that can be done now. One for a replica that is away waits for it.
    pub(super) fn unless_away(&mut self, command: Command) -> Option<Command> {
        let Some(away) = command.replica().and_then(|key| self.away.get_mut(&key)) else { return Some(command) };
        if away.waiting.len() < MAX_WAITING_FOR_REPLICA {
            away.waiting.push_back(command);
        } else {
            let why = format!("{MAX_WAITING_FOR_REPLICA} requests wait for this replica already: try again later");
            command.refuse(StorageError::new(why).into());
        }
        None
    }

    /// Hands a replica over for one turn. What a batch has of it was made durable before.
    fn hand_over(
        &mut self,
        key: TideKey,
        pace: Pace,
        stored: Option<(u64, TideRow)>,
        turn: impl FnOnce() -> (Option<Box<Entry>>, Done) + Send + 'static,
    ) {
        let cell = self.catalog.cell(&key);
        self.away.insert(key.clone(), Away { cell: cell.clone(), stored, waiting: VecDeque::new() });
        let commands = self.commands.clone();
        self.washers.run(pace, move || {
            let begun = Instant::now();
            let (mut entry, done) = catch_unwind(AssertUnwindSafe(turn)).unwrap_or_else(|panic| {
                // No stream hangs silently. What a lake does is caught where it is called, so that this is none of it.
                let why = format!("a turn of this replica panicked ({}): restart the node", panic_message(&*panic));
                tracing::error!(path = %key, "{why}");
                cell.end(Ended::Storage(why));
                (None, Done::Lost)
            });
            if let Some(entry) = &mut entry {
                entry.pace = if begun.elapsed() > SLOW_WASH { Pace::Slow } else { Pace::Quick };
            }
            // Without a driver nobody is to be told but who asked.
            let Some(commands) = commands.upgrade() else { return done.refuse(WriteError::ShutDown) };
            if let Err(late) = commands.blocking_send(Command::Back(Box::new(Back { key, cell, entry, done }))) {
                late.0.refuse(WriteError::ShutDown);
            }
        });
    }

    fn hand_over_loaded(&mut self, key: &TideKey, turn: impl FnOnce(&mut Entry) -> Done + Send + 'static) {
        let Some(entry) = self.entries.remove(key) else { return };
        let (pace, stored) = (entry.pace, stored_at(&entry));
        let mut entry = Box::new(entry);
        self.hand_over(key.clone(), pace, stored, move || {
            let done = turn(&mut entry);
            (Some(entry), done)
        });
    }

    /// Takes a replica back, and what came of its turn.
    pub(super) fn take_in(&mut self, back: Back, batch: Result<&mut Batch, WriteError>) {
        let Back { key, cell, entry, done } = back;
        let here = self.away.get(&key).is_some_and(|away| Arc::ptr_eq(&away.cell, &cell));
        if !here {
            // It was quit meanwhile.
            done.refuse(StorageError::new("the source was quit meanwhile").into());
            self.washers.run(Pace::Quick, move || drop(entry));
            return;
        }
        let waiting = self.away.remove(&key).map(|away| away.waiting).unwrap_or_default();
        if let Some(mut entry) = entry {
            if batch.is_err() {
                entry.give_up();
            }
            self.entries.insert(key.clone(), *entry);
        }
        match batch {
            Ok(batch) => self.conclude(key, cell, done, batch),
            Err(why) => done.refuse(why),
        }
        self.ready.extend(waiting);
    }

    fn conclude(&mut self, key: TideKey, cell: Arc<TideCell>, done: Done, batch: &mut Batch) {
        match done {
            Done::Applied { applied: Applied { staged, waves, failed, rest }, reply } => {
                batch.applied += waves;
                batch.staged.extend(staged.map(|staged| (key, staged)));
                if rest.is_empty() {
                    batch.answer(move |result| {
                        let _ = reply.send(result.map_err(ApplyError::from).and(failed.map_or(Ok(()), Err)));
                    });
                } else {
                    self.ready.push_back(Command::Apply { cell, intakes: rest, reply });
                }
            }
            Done::Changed { changed: Ok(staged), reply } => {
                if let (Some(rule), Some(entry)) = (staged.changes.rule(), self.entries.get_mut(&key)) {
                    entry.row.rule = rule;
                }
                batch.staged.insert(key, staged);
                batch.answer(move |result| {
                    let _ = reply.send(result.map_err(ManageError::from));
                });
            }
            Done::Changed { changed: Err(error), reply } => drop(reply.send(Err(error))),
            Done::Copied { fold, copy: CopyOf { from, declared, to, access, reply } } => {
                let copied = fold.and_then(|fold| self.begin_copy(&from, &declared, to, access, fold));
                let _ = reply.send(copied);
            }
            Done::Loaded { body: Ok(body), reply } => {
                self.stored.remove(&key);
                cell.begin(*body);
                cell.wake();
                let _ = reply.send(Ok(cell));
            }
            Done::Loaded { body: Err(error), reply } => drop(reply.send(Err(error))),
            Done::Upgraded { upgraded, declared, source, reply } => {
                let stored = upgraded.and_then(|upgraded| Ok(self.store_upgraded(upgraded)?));
                match stored {
                    Ok(()) => self.ready.push_front(Command::Want { declared, source, reply }),
                    Err(error) => drop(reply.send(Err(error))),
                }
            }
            Done::Lost => {}
        }
    }

    /// Stages what came from a source.
    pub(super) async fn stage_apply(
        &mut self,
        batch: &mut Batch,
        cell: &Arc<TideCell>,
        intakes: Vec<Intake>,
        reply: oneshot::Sender<Result<(), ApplyError>>,
    ) {
        if batch.staged.contains_key(cell.key()) {
            // Whoever asked has the answer.
            let _ = self.finish(std::mem::take(batch)).await;
        }
        let entry = self.entries.get(cell.key()).filter(|entry| Arc::ptr_eq(&entry.cell, cell));
        let begins = matches!(intakes.first(), Some(Intake::Rock { .. }));
        if !entry.is_some_and(|entry| begins || entry.cell.has_state()) {
            let _ = reply.send(Err(ApplyError::Gone));
            return;
        }
        let metrics = self.metrics.clone();
        self.hand_over_loaded(cell.key(), move |entry| Done::Applied {
            applied: entry.apply(intakes, &metrics),
            reply,
        });
    }

    /// Changes what is kept of a replica.
    pub(super) fn change_replica(
        &mut self,
        key: &TideKey,
        change: Change,
        reply: oneshot::Sender<Result<(), ManageError>>,
    ) {
        if !self.entries.get(key).is_some_and(|entry| entry.cell.has_state()) {
            let _ = reply.send(Err(ManageError::NoState(key.path().clone())));
            return;
        }
        let metrics = self.metrics.clone();
        self.hand_over_loaded(key, move |entry| Done::Changed { changed: entry.change(&change, &metrics), reply });
    }

    /// Makes a copy of a replica's rock, to begin a publication with.
    pub(super) fn copy_replica(&mut self, copy: CopyOf) {
        if let Err(error) = self.may_copy(&copy.from, &copy.declared, &copy.to) {
            let _ = copy.reply.send(Err(error));
            return;
        }
        let metrics = self.metrics.clone();
        let from = copy.from.clone();
        self.hand_over_loaded(&from, move |entry| {
            let no_rock = |reason| ManageError::NoRock { path: copy.from.path().clone(), reason };
            let rock = entry.fold.encode(&metrics).map_err(|error| no_rock(error.to_string()));
            let fold = rock.and_then(|rock| {
                let mut fold = (copy.declared.new_fold)();
                fold.open_beside(Beside::Nothing);
                fold.load(Some(&rock)).map_err(|error| no_rock(error.to_string()))?;
                Ok(fold)
            });
            Done::Copied { fold, copy }
        });
    }

    /// Loads a stored replica; one of an older version of the lake is upgraded first.
    pub(super) fn load_replica(
        &mut self,
        (id, row): (u64, TideRow),
        declared: Arc<Declared>,
        source: Source,
        reply: WantReply,
    ) {
        let key = row.key.clone();
        let loading = Loading::new(self, &key);
        let stored = Some((id, row.clone()));
        if row.lake == declared.lake {
            self.hand_over(key, Pace::Quick, stored, move || match loading.load(id, row, &declared) {
                Ok((entry, body)) => (Some(Box::new(entry)), Done::Loaded { body: Ok(Box::new(body)), reply }),
                Err(error) => {
                    let error = match error {
                        LoadError::Storage(error) => SurfError::Storage(error),
                        error => SurfError::Damaged { reason: error.to_string() },
                    };
                    (None, Done::Loaded { body: Err(error), reply })
                }
            });
        } else {
            self.hand_over(key, Pace::Quick, stored, move || {
                let upgraded = loading.upgrade(id, &row, &declared).map_err(|error| match error {
                    UpgradeFailed::NoWay => {
                        SurfError::LakeVersion { stored: row.lake.clone(), declared: declared.lake.clone() }
                    }
                    UpgradeFailed::Storage(error) => error.into(),
                    UpgradeFailed::Failed(reason) => {
                        SurfError::Upgrade { stored: row.lake.clone(), declared: declared.lake.clone(), reason }
                    }
                });
                (None, Done::Upgraded { upgraded, declared, source, reply })
            });
        }
    }

    /// Where a replica is stored, if anything is.
    pub(super) fn replica_stored(&self, key: &TideKey) -> Option<(u64, TideRow)> {
        let here = self.entries.get(key).and_then(stored_at);
        let away = || self.away.get(key).and_then(|away| away.stored.clone());
        here.or_else(away).or_else(|| self.stored.get(key).cloned())
    }

    /// A replica goes: its streams end, and a washer drops its rocks.
    pub(super) fn forget_replica(&mut self, key: &TideKey) {
        if let Some(entry) = self.entries.remove(key) {
            entry.cell.end(Ended::Quit);
            self.washers.run(Pace::Quick, move || drop(entry));
        }
        if let Some(away) = self.away.remove(key) {
            away.cell.end(Ended::Quit);
            // They find that it is gone.
            self.ready.extend(away.waiting);
        }
        self.catalog.forget(key);
    }

    /// Answers whoever waits that nothing of it was done.
    pub(super) fn refuse_waiting(&mut self, why: &WriteError) {
        let waiting = self.away.drain().flat_map(|(_, away)| away.waiting);
        for command in waiting.chain(self.ready.drain(..)) {
            command.refuse(why.clone());
        }
    }
}

/// Where the rows of an entry are, once it has any.
fn stored_at(entry: &Entry) -> Option<(u64, TideRow)> {
    let id = entry.backing.disk_id().filter(|_| entry.cell.has_state())?;
    Some((id, entry.row.clone()))
}
