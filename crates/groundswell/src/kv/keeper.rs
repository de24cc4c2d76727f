//! The keeper: a thread of its own that alone writes the storage of documents.
//!
//! Its loop is that of the node's driver: take what is waiting, up to a bound; stage it; make all of
//! it durable in one transaction; show it to readers and to who follows the logs; answer. It awaits
//! nothing but commands.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use groundswell_core::kv::{
    AuthorCounter, Change, Clock, Envelope, KvAuthor, KvEntry, KvKey, KvView, SpaceName, Stamp, TooManyKeys,
};
use groundswell_core::limits::{MAX_KV_KEYS, MAX_VIEW_KEYS};
use iroh_docs::Author;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    document::{Document, Identity},
    error::{KvError, Written},
    sealed::Sealed,
    storage::{Mark, Outcome, Row, Standing, Storage},
};
use crate::{
    error::{OutcomeUnknown, WriteError, panic_message},
    ids::{self, Done, IdError, Ids, WriteId},
    limits::{DRIVER_QUEUE, MAX_BATCH_BYTES, MAX_BATCH_COMMANDS, MAX_KV_WRITE_IDS},
};

/// The wall clock, in milliseconds since 1970.
pub(crate) type WallClock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// An entry that was signed by its author, and what it holds.
pub(crate) type Opened = (Sealed, Envelope);

/// What the keeper is asked to do.
pub(crate) enum Command {
    /// Where a document's clock and counter go on, and which ids of writes are remembered.
    Begin { number: u64, clock: Clock, counter: AuthorCounter, ids: Ids<Outcome> },
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
    fn weight(&self) -> usize {
        match self {
            Self::Write { change: Change::Put(value), .. } => value.len(),
            Self::Take { entries, .. } => entries.iter().map(|(entry, _)| entry.weight()).sum(),
            _ => 0,
        }
    }

    /// Answers that nothing of it was done, since the keeper has stopped.
    fn refuse(self) {
        // Whoever no longer waits for the answer does not need it.
        match self {
            Self::Write { reply, .. } => drop(reply.send(Err(KvError::ShutDown))),
            Self::Take { reply, .. } | Self::Restand { reply, .. } => drop(reply.send(Err(KvError::ShutDown))),
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
    commands: mpsc::Sender<Command>,
    uncertain: Arc<AtomicBool>,
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

/// An answer that waits for the transaction.
type Answer = Box<dyn FnOnce(Result<(), WriteError>) + Send>;

/// What is done together.
#[derive(Default)]
struct Batch {
    rows: Vec<Row>,
    answers: Vec<Answer>,
    staged: HashMap<u64, Staged>,
    /// Documents that go: nothing more is written for them.
    dropped: HashSet<u64>,
}

/// What a batch does to one document.
struct Staged {
    document: Arc<Document>,
    entries: Vec<Opened>,
    heads: [u64; 2],
    /// The winners of the keys that are written in this batch, by stamp and author, whether they have a value, and
    /// how many are new.
    live: HashMap<[u8; 32], (Stamp, KvAuthor, bool)>,
    new_keys: usize,
    /// The ids of what is written once.
    ids: BTreeMap<WriteId, Done<Outcome>>,
}

/// A document's clock and counter, and the ids of its writes.
struct Desk {
    clock: Clock,
    counter: AuthorCounter,
    ids: Ids<Outcome>,
}

impl Desk {
    /// Of a document that begins.
    fn new() -> Self {
        Self { clock: Clock::restore(None), counter: AuthorCounter::restore(0), ids: Ids::new(MAX_KV_WRITE_IDS) }
    }
}

pub(crate) struct Keeper {
    storage: Arc<Storage>,
    signer: Author,
    wall_clock: WallClock,
    max_value_bytes: usize,
    desks: HashMap<u64, Desk>,
    /// The ids of the writes whose outcome is unknown. The next transaction that is done, or whose own outcome is
    /// unknown, has taken them back first.
    unknown: HashSet<(u64, WriteId)>,
    /// Whether there are any, for those who ask when the keeper has stopped.
    uncertain: Arc<AtomicBool>,
}

impl Keeper {
    /// Starts the keeper's thread. It ends on [`Command::Stop`], or when every handle is gone.
    pub(crate) fn start(
        storage: Arc<Storage>,
        signer: Author,
        wall_clock: WallClock,
        max_value_bytes: usize,
        gone: CancellationToken,
    ) -> std::io::Result<(KeeperHandle, std::thread::JoinHandle<()>)> {
        let (desks, unknown, uncertain) = (HashMap::new(), HashSet::new(), Arc::<AtomicBool>::default());
        let keeper =
            Self { storage, signer, wall_clock, max_value_bytes, desks, unknown, uncertain: uncertain.clone() };
        let panicked = uncertain.clone();
        let (sender, commands) = mpsc::channel(DRIVER_QUEUE);
        let thread = std::thread::Builder::new().name("groundswell-keeper".to_owned()).spawn(move || {
            let _gone = gone.drop_guard();
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| keeper.run(commands))) {
                panicked.store(true, Ordering::SeqCst);
                tracing::error!("the keeper panicked ({}): restart the node", panic_message(&*panic));
            }
        })?;
        Ok((KeeperHandle { commands: sender, uncertain }, thread))
    }

    fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        while let Some(first) = commands.blocking_recv() {
            let mut batch = Batch::default();
            let (mut count, mut bytes, mut stop) = (0, 0, false);
            let mut next = Some(first);
            while let Some(command) = next {
                count += 1;
                bytes += command.weight();
                stop = matches!(command, Command::Stop);
                self.stage(command, &mut batch);
                let full = count >= MAX_BATCH_COMMANDS || bytes >= MAX_BATCH_BYTES;
                next = if stop || full { None } else { commands.try_recv().ok() };
            }
            self.finish(batch);
            if stop {
                // Whoever asks too late is told that nothing was done.
                commands.close();
                while let Some(late) = commands.blocking_recv() {
                    self.refuse(late);
                }
                return;
            }
        }
    }

    fn stage(&mut self, command: Command, batch: &mut Batch) {
        match command {
            Command::Begin { number, clock, counter, ids } => {
                self.desks.insert(number, Desk { clock, counter, ids });
            }
            Command::Write { document, space, key, change, id, reply } => {
                let repeats_unknown = self.is_unknown(&document, id.as_ref());
                match self.stage_once(batch, &document, space, key, change, id) {
                    Ok(written) => batch.answers.push(Box::new(move |result| {
                        let result = result.map_err(|error| match error {
                            WriteError::Storage(error) if repeats_unknown => OutcomeUnknown::earlier(error).into(),
                            error => error,
                        });
                        let _ = reply.send(result.map(|()| written).map_err(KvError::from));
                    })),
                    Err(error) => {
                        let _ = reply.send(Err(error));
                    }
                }
            }
            Command::Take { document, identity, entries, upto, reply } => {
                let goes = batch.dropped.contains(&identity.number) || !self.desks.contains_key(&identity.number);
                if identity.replaced.is_cancelled() || goes {
                    let _ = reply.send(Err(KvError::NotClaimed));
                    return;
                }
                let taken = self.stage_take(batch, &document, &identity, entries, upto);
                batch.answers.push(Box::new(move |result| {
                    let _ = reply.send(result.map_err(KvError::from).and(taken));
                }));
            }
            Command::Rows { rows, reply } => {
                batch.dropped.extend(rows.iter().filter_map(|row| match row {
                    Row::Drop { number } => Some(*number),
                    _ => None,
                }));
                batch.rows.extend(rows);
                if let Some(reply) = reply {
                    batch.answers.push(Box::new(move |result| {
                        let _ = reply.send(result);
                    }));
                }
            }
            Command::Restand { document, before, identity, reply } => {
                // What is staged can be the end of this document.
                self.finish(std::mem::take(batch));
                let _ = reply.send(self.restand(&document, &before, identity));
            }
            Command::Renew { document, before, identity, keeps, along, reply } => {
                // It reads the view, so that what is staged has to be there first.
                self.finish(std::mem::take(batch));
                let _ = reply.send(self.renew(&document, &before, identity, keeps, along));
            }
            Command::Stop => {}
            #[cfg(test)]
            Command::Panic => panic!("made to panic by a test"),
        }
    }

    /// Whether this id is that of a write whose outcome is unknown.
    fn is_unknown(&self, document: &Document, id: Option<&WriteId>) -> bool {
        id.is_some_and(|id| self.unknown.contains(&(document.identity().number, id.clone())))
    }

    /// Refuses a command. Nothing was done, unless it repeats a write whose outcome is unknown.
    fn refuse(&self, command: Command) {
        match command {
            Command::Write { document, id, reply, .. } if self.is_unknown(&document, id.as_ref()) => {
                let _ = reply.send(Err(KvError::Unknown(OutcomeUnknown::earlier(KvError::ShutDown))));
            }
            command => command.refuse(),
        }
    }

    /// Stages a write, unless it was done before by its id.
    fn stage_once(
        &mut self,
        batch: &mut Batch,
        document: &Arc<Document>,
        space: SpaceName,
        key: KvKey,
        change: Change,
        id: Option<WriteId>,
    ) -> Result<Written, KvError> {
        let Some(id) = id else { return self.stage_write(batch, document, space, key, change) };
        let number = document.identity().number;
        let (kind, value) = match &change {
            Change::Put(value) => (&b"put"[..], &value[..]),
            Change::Delete => (&b"delete"[..], &[][..]),
        };
        let digest = ids::digest([kind, space.as_str().as_bytes(), key.as_bytes(), value]);
        let (desk, staged) = (self.desks.get(&number), batch.staged.get(&number));
        if let Some(outcome) = ids::look(desk.map(|desk| &desk.ids), staged.map(|staged| &staged.ids), &id, &digest)? {
            return Ok(match (outcome, change) {
                (Outcome::Put { timestamp }, Change::Put(value)) => {
                    Written::Put(KvEntry { key, value, author: document.ours, timestamp })
                }
                (Outcome::Deleted { had_value }, _) => Written::Deleted(had_value),
                (Outcome::Put { .. }, Change::Delete) => return Err(IdError::Reused(id).into()),
            });
        }
        let written = self.stage_write(batch, document, space, key, change)?;
        let result = match &written {
            Written::Put(entry) => Outcome::Put { timestamp: entry.timestamp },
            Written::Deleted(had_value) => Outcome::Deleted { had_value: *had_value },
        };
        staged_of(&mut batch.staged, document, number).ids.insert(id, Done { digest, result });
        Ok(written)
    }

    fn stage_write(
        &mut self,
        batch: &mut Batch,
        document: &Arc<Document>,
        space: SpaceName,
        key: KvKey,
        change: Change,
    ) -> Result<Written, KvError> {
        let identity = document.identity();
        if !matches!(identity.standing, Standing::Unclaimed | Standing::Paired { .. }) {
            return Err(KvError::NotClaimed);
        }
        let number = identity.number;
        if batch.dropped.contains(&number) {
            return Err(KvError::NotClaimed);
        }
        let document_key = groundswell_core::kv::document_key(&space, &key);
        let staged = staged_of(&mut batch.staged, document, number);
        let before = staged.live.get(&document_key).map(|(.., live)| *live);
        let (winner, used) = document.with_view(|view| (view.winner(&space, &key), view.keys_used()));
        let live = before.or(winner.map(|winner| !winner.deleted));
        match &change {
            Change::Delete if live != Some(true) => return Ok(Written::Deleted(false)),
            Change::Put(_) if live.is_none() && used + staged.new_keys >= MAX_KV_KEYS => {
                return Err(KvError::TooManyKeys(TooManyKeys { limit: MAX_KV_KEYS }));
            }
            _ => {}
        }
        let desk = self.desks.get_mut(&number).ok_or(KvError::NotClaimed)?;
        let timestamp = (self.wall_clock)();
        let stamp = next_stamp(desk, number, timestamp, &mut batch.rows)?;
        let envelope = Envelope { space, key: key.clone(), stamp, timestamp, change: change.clone() };
        let counter = next_counter(desk, number, document.ours, &mut batch.rows)?;
        let refused = |error: &dyn std::fmt::Display| KvError::Entry(error.to_string().into());
        let bytes = envelope.encode(self.max_value_bytes).map_err(|error| refused(&error))?;
        let entry = Sealed::sign(&identity.secret, &self.signer, document.ours, document_key, counter, bytes.into());
        let entry = entry.map_err(|error| refused(&error))?;
        batch.rows.push(Row::Entry { number, entry: entry.clone() });
        staged.new_keys += usize::from(live.is_none());
        staged.live.insert(document_key, (stamp, document.ours, matches!(change, Change::Put(_))));
        staged.heads[document.ours.index()] = counter;
        staged.entries.push((entry, envelope));
        Ok(match change {
            Change::Put(value) => Written::Put(KvEntry { key, value, author: document.ours, timestamp }),
            Change::Delete => Written::Deleted(true),
        })
    }

    fn stage_take(
        &mut self,
        batch: &mut Batch,
        document: &Arc<Document>,
        identity: &Identity,
        entries: Vec<Opened>,
        upto: Option<(KvAuthor, u64)>,
    ) -> Result<(), KvError> {
        let number = identity.number;
        let used = document.with_view(KvView::keys_used);
        let staged = staged_of(&mut batch.staged, document, number);
        for (entry, envelope) in entries {
            if let Some(desk) = self.desks.get_mut(&number) {
                desk.clock.observe(envelope.stamp);
                // This side has lost entries of its own: its counter goes on after them.
                if entry.author == document.ours && entry.counter >= desk.counter.reserve(0) {
                    desk.counter = AuthorCounter::restore(entry.counter.saturating_add(1));
                }
            }
            let rank = (envelope.stamp, entry.author);
            let stands = staged.live.get(&entry.key).map(|(stamp, author, _)| (*stamp, *author)).or_else(|| {
                let winner = document.with_view(|view| view.winner(&envelope.space, &envelope.key));
                winner.map(|winner| (winner.stamp, winner.author))
            });
            if stands.is_none() {
                // An honest side can't fill it: each makes no more than half of them.
                if used + staged.new_keys >= MAX_VIEW_KEYS {
                    return Err(KvError::TooManyKeys(TooManyKeys { limit: MAX_VIEW_KEYS }));
                }
                staged.new_keys += 1;
            }
            if stands.is_none_or(|stands| stands < rank) {
                staged.live.insert(entry.key, (rank.0, rank.1, matches!(envelope.change, Change::Put(_))));
            }
            batch.rows.push(Row::Entry { number, entry: entry.clone() });
            staged.entries.push((entry, envelope));
        }
        if let Some((author, mut counter)) = upto {
            // Of its own entries this side knows best: what it writes next is to be after its head.
            if author == document.ours
                && let Some(desk) = self.desks.get(&number)
            {
                counter = counter.min(desk.counter.reserve(0) - 1);
            }
            let head = &mut staged.heads[author.index()];
            *head = (*head).max(counter);
        }
        Ok(())
    }

    /// Makes the batch durable, shows it, and answers.
    fn finish(&mut self, batch: Batch) {
        let Batch { mut rows, answers, staged, dropped } = batch;
        for (number, staged) in &staged {
            let before = *staged.document.heads.borrow();
            for author in KvAuthor::BOTH {
                let counter = staged.heads[author.index()];
                if counter > before[author.index()] {
                    rows.push(Row::Mark { number: *number, author, mark: Mark::Held, counter });
                }
            }
            let written = staged.ids.iter();
            rows.extend(written.map(|(id, done)| Row::Id { number: *number, id: id.clone(), done: done.clone() }));
            let forgotten = self.desks.get(number).map(|desk| desk.ids.forgotten_by(&staged.ids)).unwrap_or_default();
            rows.extend(forgotten.into_iter().map(|id| Row::ForgetId { number: *number, id }));
        }
        let result = if rows.is_empty() { Ok(()) } else { self.write(rows, &staged) };
        let mut shown = Vec::with_capacity(staged.len());
        if result.is_ok() {
            for number in &dropped {
                self.desks.remove(number);
            }
            for (number, mut staged) in staged {
                if let Some(desk) = self.desks.get_mut(&number) {
                    desk.ids.remember(std::mem::take(&mut staged.ids));
                }
                // A document that was renewed in between shows another one's entries by now.
                if staged.document.identity().number == number {
                    shown.push((staged.document.show(staged.entries, staged.heads), staged.document));
                }
            }
        }
        answers.into_iter().for_each(|answer| answer(result.clone()));
        // Who waits for an answer comes first: it can be seen by now.
        shown.into_iter().for_each(|(shown, document)| document.tell(shown));
    }

    /// Writes what is staged, and notes the ids of what has an unknown outcome.
    fn write(&mut self, rows: Vec<Row>, staged: &HashMap<u64, Staged>) -> Result<(), WriteError> {
        let result = self.storage.write(rows);
        match &result {
            Ok(()) => self.unknown.clear(),
            Err(WriteError::Unknown(_)) => {
                let ids = staged.iter().flat_map(|(number, staged)| staged.ids.keys().map(|id| (*number, id.clone())));
                self.unknown = ids.collect();
            }
            Err(_) => {}
        }
        self.uncertain.store(!self.unknown.is_empty(), Ordering::SeqCst);
        result
    }

    /// Gives a document another standing, unless it has gone or was renewed before that.
    fn restand(&self, document: &Document, before: &Identity, identity: Arc<Identity>) -> Result<(), KvError> {
        if before.replaced.is_cancelled() || !self.desks.contains_key(&before.number) {
            return Err(KvError::NotClaimed);
        }
        let (number, row) = (identity.number, identity.row());
        if before.row() != row {
            self.storage.write(vec![Row::Document { number, row }])?;
            document.set_identity(identity);
        }
        Ok(())
    }

    /// Writes the live entries of a document anew, into another that only this side knows, unless that was done before.
    fn renew(
        &mut self,
        document: &Arc<Document>,
        before: &Identity,
        identity: Arc<Identity>,
        keeps: Contents,
        along: Vec<Row>,
    ) -> Result<bool, KvError> {
        // Both sides may end a pairing at once.
        if before.replaced.is_cancelled() {
            return Ok(false);
        }
        let number = identity.number;
        let mut desk = Desk::new();
        if let Some(old) = self.desks.get(&before.number) {
            desk.clock.observe(old.clock.last());
            if keeps == Contents::Kept {
                desk.ids = old.ids.clone();
            }
        }
        let spaces: Vec<SpaceName> = match keeps {
            Contents::Kept => document.with_view(|view| view.spaces().cloned().collect()),
            Contents::Wiped => Vec::new(),
        };
        let mut rows = Row::begin(number, identity.row()).to_vec();
        rows.extend(desk.ids.iter().map(|(id, done)| Row::Id { number, id: id.clone(), done: done.clone() }));
        let mut opened = Vec::new();
        let mut head = 0;
        for space in spaces {
            let all = groundswell_core::kv::KvFilter::All;
            for entry in document.with_view(|view| view.entries(&space, &all)) {
                let envelope = Envelope {
                    space: space.clone(),
                    key: entry.key,
                    stamp: next_stamp(&mut desk, number, entry.timestamp, &mut rows)?,
                    timestamp: entry.timestamp,
                    change: Change::Put(entry.value),
                };
                head = next_counter(&mut desk, number, document.ours, &mut rows)?;
                let refused = |error: &dyn std::fmt::Display| KvError::Entry(error.to_string().into());
                let bytes = envelope.encode(usize::MAX).map_err(|error| refused(&error))?;
                let key = envelope.document_key();
                let sealed = Sealed::sign(&identity.secret, &self.signer, document.ours, key, head, bytes.into());
                let sealed = sealed.map_err(|error| refused(&error))?;
                rows.push(Row::Entry { number, entry: sealed.clone() });
                opened.push((sealed, envelope));
            }
        }
        let mut heads = [0; 2];
        heads[document.ours.index()] = head;
        rows.push(Row::Mark { number, author: document.ours, mark: Mark::Held, counter: head });
        rows.push(Row::Drop { number: before.number });
        rows.extend(along);
        self.storage.write(rows)?;
        self.desks.remove(&before.number);
        self.desks.insert(number, desk);
        document.renew(identity, opened, heads);
        Ok(true)
    }
}

fn staged_of<'a>(all: &'a mut HashMap<u64, Staged>, document: &Arc<Document>, number: u64) -> &'a mut Staged {
    all.entry(number).or_insert_with(|| Staged {
        document: document.clone(),
        entries: Vec::new(),
        heads: *document.heads.borrow(),
        live: HashMap::new(),
        new_keys: 0,
        ids: BTreeMap::new(),
    })
}

/// The next stamp; what it needs to be reserved becomes durable together with the entry.
fn next_stamp(desk: &mut Desk, number: u64, wall_ms: u64, rows: &mut Vec<Row>) -> Result<Stamp, KvError> {
    if let Some(stamp) = desk.clock.now(wall_ms) {
        return Ok(stamp);
    }
    let bound = desk.clock.reserve(wall_ms);
    rows.push(Row::Clock { number, bound });
    desk.clock.reserved(bound);
    desk.clock.now(wall_ms).ok_or_else(used_up)
}

/// The next counter, likewise.
fn next_counter(desk: &mut Desk, number: u64, author: KvAuthor, rows: &mut Vec<Row>) -> Result<u64, KvError> {
    if let Some(counter) = desk.counter.next() {
        return Ok(counter);
    }
    let bound = desk.counter.reserve_block();
    rows.push(Row::Mark { number, author, mark: Mark::Bound, counter: bound });
    desk.counter.reserved(bound);
    desk.counter.next().ok_or_else(used_up)
}

/// Nothing that is honest leads here: 2^64 writes do not fit into a life.
fn used_up() -> KvError {
    KvError::Entry("the numbers of this document's entries are used up: release the machine and claim it again".into())
}

#[cfg(test)]
mod tests {
    use groundswell_core::kv::{Envelope, Stamp};
    use iroh_docs::NamespaceSecret;
    use tempfile::TempDir;

    use super::{super::storage::Role, *};
    use crate::kv::{DocumentRow, new_view};

    const NUMBER: u64 = 1;

    fn key() -> KvKey {
        KvKey::new("key").unwrap()
    }

    fn keeper(dir: &TempDir) -> (Keeper, Arc<Document>) {
        let storage = Arc::new(Storage::open(&dir.path().join("kv.redb"), Role::Machine).unwrap());
        let (signer, theirs) = (Author::from_bytes(&[1; 32]), Author::from_bytes(&[2; 32]));
        let peer = "ae58ff8833241ac82d6ff7611046ed67b5072d142c588d0063e942d9a75502b6".parse().unwrap();
        let standing = Standing::Paired { peer, author: theirs.id().to_bytes() };
        let row = DocumentRow { secret: [3; 32], standing };
        let identity = Identity::new(NUMBER, &row, KvAuthor::Machine, signer.id());
        let document = Document::new(KvAuthor::Machine, identity, new_view(), [0; 2]);
        let desks = HashMap::from([(NUMBER, Desk::new())]);
        let (wall_clock, unknown) = (Arc::new(|| 1_000), HashSet::new());
        let uncertain = Arc::default();
        let keeper = Keeper { storage, signer, wall_clock, max_value_bytes: 1_024, desks, unknown, uncertain };
        (keeper, document)
    }

    fn write(document: &Arc<Document>, change: Change) -> (Command, oneshot::Receiver<Result<Written, KvError>>) {
        let (reply, answer) = oneshot::channel();
        let (document, space) = (document.clone(), SpaceName::default());
        (Command::Write { document, space, key: key(), change, id: None, reply }, answer)
    }

    /// An older delete of the manager's, as it comes from there.
    fn older_delete(document: &Arc<Document>) -> Command {
        let (stamp, change) = (Stamp { wall_ms: 1, count: 0 }, Change::Delete);
        let envelope = Envelope { space: SpaceName::default(), key: key(), stamp, timestamp: 1, change };
        let (bytes, place) = (envelope.encode(1_024).unwrap(), envelope.document_key());
        let secret = NamespaceSecret::from_bytes(&[3; 32]);
        let theirs = Author::from_bytes(&[2; 32]);
        let sealed = Sealed::sign(&secret, &theirs, KvAuthor::Manager, place, 1, bytes.into()).unwrap();
        let (reply, _) = oneshot::channel();
        let identity = document.identity();
        Command::Take { document: document.clone(), identity, entries: vec![(sealed, envelope)], upto: None, reply }
    }

    /// Whether there is a value is what the winner says, and not who came last.
    #[test]
    fn a_delete_in_one_batch_with_an_older_delete_of_the_other_side_counts() {
        for put_before in [true, false] {
            let dir = TempDir::new().unwrap();
            let (mut keeper, document) = keeper(&dir);
            let mut batch = Batch::default();
            let (put, mut stored) = write(&document, Change::Put("value".into()));
            keeper.stage(put, &mut batch);
            if put_before {
                keeper.finish(std::mem::take(&mut batch));
                assert!(stored.try_recv().unwrap().is_ok());
            }
            keeper.stage(older_delete(&document), &mut batch);
            let (delete, mut deleted) = write(&document, Change::Delete);
            keeper.stage(delete, &mut batch);
            keeper.finish(batch);
            let deleted = deleted.try_recv().unwrap();
            assert!(matches!(deleted, Ok(Written::Deleted(true))), "put before: {put_before}");
        }
    }

    /// A write that may have been done is not said to be undone by its repetition, until a later one has taken it back.
    #[test]
    fn a_write_of_unknown_outcome_stays_unknown_while_its_repetitions_fail() {
        let dir = TempDir::new().unwrap();
        let (mut keeper, document) = keeper(&dir);
        let done = |keeper: &mut Keeper, text: &'static str, id: &str| {
            let (reply, mut answer) = oneshot::channel();
            let (document, space, id) = (document.clone(), SpaceName::default(), Some(WriteId::new(id).unwrap()));
            let change = Change::Put(text.into());
            let mut batch = Batch::default();
            keeper.stage(Command::Write { document, space, key: key(), change, id, reply }, &mut batch);
            keeper.finish(batch);
            answer.try_recv().unwrap()
        };
        keeper.storage.fail_with(Some(OutcomeUnknown::new("by a test").into()));
        assert!(matches!(done(&mut keeper, "1", "one"), Err(KvError::Unknown(_))));
        assert!(keeper.uncertain.load(Ordering::SeqCst));
        keeper.storage.fail(true);
        let again = done(&mut keeper, "1", "one");
        assert!(matches!(&again, Err(KvError::Unknown(_))), "{:?}", again.err());
        assert!(matches!(done(&mut keeper, "2", "two"), Err(KvError::Storage(_))));
        keeper.storage.fail(false);
        assert!(done(&mut keeper, "3", "three").is_ok());
        assert!(!keeper.uncertain.load(Ordering::SeqCst));
        keeper.storage.fail(true);
        assert!(matches!(done(&mut keeper, "1", "one"), Err(KvError::Storage(_))), "it was taken back");
        let (reply, mut answer) = oneshot::channel();
        let (space, change) = (SpaceName::default(), Change::Delete);
        keeper.unknown.insert((NUMBER, WriteId::new("late").unwrap()));
        let id = Some(WriteId::new("late").unwrap());
        keeper.refuse(Command::Write { document: document.clone(), space, key: key(), change, id, reply });
        assert!(matches!(answer.try_recv().unwrap(), Err(KvError::Unknown(_))), "refused by a keeper that stops");
    }

    /// A document that goes takes along what is written beside it, in the same batch and later.
    #[test]
    fn nothing_is_written_for_a_document_that_goes() {
        let dir = TempDir::new().unwrap();
        let (mut keeper, document) = keeper(&dir);
        let mut batch = Batch::default();
        let (before, mut stored) = write(&document, Change::Put("before".into()));
        keeper.stage(before, &mut batch);
        keeper.stage(Command::Rows { rows: vec![Row::Drop { number: NUMBER }], reply: None }, &mut batch);
        let (beside, mut refused) = write(&document, Change::Put("beside".into()));
        keeper.stage(beside, &mut batch);
        keeper.finish(batch);
        assert!(stored.try_recv().unwrap().is_ok());
        assert!(matches!(refused.try_recv().unwrap(), Err(KvError::NotClaimed)));
        let mut batch = Batch::default();
        let (later, mut refused) = write(&document, Change::Put("later".into()));
        keeper.stage(later, &mut batch);
        keeper.stage(older_delete(&document), &mut batch);
        keeper.finish(batch);
        assert!(matches!(refused.try_recv().unwrap(), Err(KvError::NotClaimed)));
        assert_eq!(keeper.storage.load(NUMBER).unwrap().entries, []);
    }

    fn restand(document: &Arc<Document>, before: Arc<Identity>) -> (Command, oneshot::Receiver<Result<(), KvError>>) {
        let (reply, answer) = oneshot::channel();
        let Standing::Paired { peer, .. } = before.standing else { panic!("a pair") };
        let row = DocumentRow { standing: Standing::Released { peer }, ..before.row() };
        let signer = Author::from_bytes(&[1; 32]).id();
        let identity = Identity::new(before.number, &row, KvAuthor::Machine, signer);
        (Command::Restand { document: document.clone(), before, identity, reply }, answer)
    }

    /// Another standing that is stored late does not bring back what is gone: a document that was dropped,
    /// in the same batch or before, or one that was renewed.
    #[test]
    fn a_document_that_is_gone_does_not_come_back_by_its_standing() {
        for renewed in [false, true] {
            let dir = TempDir::new().unwrap();
            let (mut keeper, document) = keeper(&dir);
            let before = document.identity();
            keeper.storage.write(Row::begin(NUMBER, before.row()).to_vec()).unwrap();
            let mut batch = Batch::default();
            if renewed {
                let row = DocumentRow { secret: [4; 32], standing: Standing::Unclaimed };
                let identity = Identity::new(NUMBER + 1, &row, KvAuthor::Machine, keeper.signer.id());
                let (reply, _) = oneshot::channel();
                let (document, before) = (document.clone(), before.clone());
                let along = Vec::new();
                let keeps = Contents::Kept;
                keeper.stage(Command::Renew { document, before, identity, keeps, along, reply }, &mut batch);
            } else {
                keeper.stage(Command::Rows { rows: vec![Row::Drop { number: NUMBER }], reply: None }, &mut batch);
            }
            for _ in 0..2 {
                let (late, mut refused) = restand(&document, before.clone());
                keeper.stage(late, &mut batch);
                assert!(matches!(refused.try_recv().unwrap(), Err(KvError::NotClaimed)));
            }
            keeper.finish(batch);
            let left: Vec<u64> = keeper.storage.documents().unwrap().into_iter().map(|(number, _)| number).collect();
            assert_eq!(left, if renewed { vec![NUMBER + 1] } else { vec![] });
        }
    }

    /// And one that is not gone has it, durably, and who works for the one before ends.
    #[test]
    fn a_standing_is_stored_before_it_is_seen() {
        let dir = TempDir::new().unwrap();
        let (mut keeper, document) = keeper(&dir);
        let before = document.identity();
        keeper.storage.write(Row::begin(NUMBER, before.row()).to_vec()).unwrap();
        keeper.storage.fail(true);
        let mut batch = Batch::default();
        let (change, mut failed) = restand(&document, before.clone());
        keeper.stage(change, &mut batch);
        assert!(matches!(failed.try_recv().unwrap(), Err(KvError::Storage(_))));
        assert!(!before.replaced.is_cancelled());
        keeper.storage.fail(false);
        let (change, mut done) = restand(&document, before.clone());
        keeper.stage(change, &mut batch);
        done.try_recv().unwrap().unwrap();
        assert!(before.replaced.is_cancelled());
        let standing = document.identity().standing.clone();
        assert!(matches!(standing, Standing::Released { .. }), "{standing:?}");
        assert_eq!(keeper.storage.documents().unwrap()[0].1.standing, standing);
    }

    fn take(
        document: &Arc<Document>,
        entries: Vec<Opened>,
        upto: Option<(KvAuthor, u64)>,
    ) -> (Command, oneshot::Receiver<Result<(), KvError>>) {
        let (reply, answer) = oneshot::channel();
        let (document, identity) = (document.clone(), document.identity());
        (Command::Take { document, identity, entries, upto, reply }, answer)
    }

    /// The other side says that this one has written more than it has: what it writes next is not taken for old.
    #[test]
    fn the_other_side_does_not_say_how_far_this_one_has_written() {
        let dir = TempDir::new().unwrap();
        let (mut keeper, document) = keeper(&dir);
        let mut batch = Batch::default();
        let (lie, mut taken) = take(&document, Vec::new(), Some((KvAuthor::Machine, u64::MAX)));
        keeper.stage(lie, &mut batch);
        keeper.finish(std::mem::take(&mut batch));
        taken.try_recv().unwrap().unwrap();
        let before = document.heads.borrow()[KvAuthor::Machine.index()];
        let (put, mut stored) = write(&document, Change::Put("value".into()));
        keeper.stage(put, &mut batch);
        keeper.finish(batch);
        assert!(stored.try_recv().unwrap().is_ok());
        assert!(document.heads.borrow()[KvAuthor::Machine.index()] > before, "it is new to who follows the log");
    }

    /// An entry of this side's own that came back with the greatest counter of all: writes fail, and nothing hangs.
    #[test]
    fn counters_that_are_used_up_are_an_error() {
        let dir = TempDir::new().unwrap();
        let (mut keeper, document) = keeper(&dir);
        let (stamp, change) = (Stamp { wall_ms: 1, count: 0 }, Change::Delete);
        let envelope = Envelope { space: SpaceName::default(), key: key(), stamp, timestamp: 1, change };
        let (bytes, place) = (envelope.encode(1_024).unwrap(), envelope.document_key());
        let secret = NamespaceSecret::from_bytes(&[3; 32]);
        let sealed = Sealed::sign(&secret, &keeper.signer, KvAuthor::Machine, place, u64::MAX, bytes.into()).unwrap();
        let mut batch = Batch::default();
        let (last, mut taken) = take(&document, vec![(sealed, envelope)], None);
        keeper.stage(last, &mut batch);
        let (put, mut refused) = write(&document, Change::Put("value".into()));
        keeper.stage(put, &mut batch);
        keeper.finish(batch);
        taken.try_recv().unwrap().unwrap();
        assert!(matches!(refused.try_recv().unwrap(), Err(KvError::Entry(_))));
    }

    /// A side that makes more keys than two honest ones could is refused, and what it sent is not stored.
    #[test]
    fn keys_beyond_what_two_sides_may_make_are_refused_and_not_stored() {
        let dir = TempDir::new().unwrap();
        let (mut keeper, _) = keeper(&dir);
        let (mut view, stamp) = (new_view(), Stamp { wall_ms: 1, count: 0 });
        let envelope = |n: usize| Envelope {
            space: SpaceName::default(),
            key: KvKey::new(format!("{n}")).unwrap(),
            stamp,
            timestamp: 1,
            change: Change::Put("value".into()),
        };
        // Room for one.
        for n in 1..MAX_VIEW_KEYS {
            view.apply(KvAuthor::Manager, envelope(n)).unwrap();
        }
        let theirs = Author::from_bytes(&[2; 32]);
        let peer = "ae58ff8833241ac82d6ff7611046ed67b5072d142c588d0063e942d9a75502b6".parse().unwrap();
        let standing = Standing::Paired { peer, author: theirs.id().to_bytes() };
        let row = DocumentRow { secret: [3; 32], standing };
        let identity = Identity::new(NUMBER, &row, KvAuthor::Machine, keeper.signer.id());
        let document = Document::new(KvAuthor::Machine, identity, view, [0; 2]);
        let entry = |n: usize, counter| {
            let envelope = envelope(n);
            let (bytes, place) = (envelope.encode(1_024).unwrap(), envelope.document_key());
            let secret = NamespaceSecret::from_bytes(&[3; 32]);
            let sealed = Sealed::sign(&secret, &theirs, KvAuthor::Manager, place, counter, bytes.into());
            (sealed.unwrap(), envelope)
        };
        let mut batch = Batch::default();
        let upto = |counter| Some((KvAuthor::Manager, counter));
        let (fits, mut taken) = take(&document, vec![entry(MAX_VIEW_KEYS, 1)], upto(1));
        let (more, mut refused) = take(&document, vec![entry(MAX_VIEW_KEYS + 1, 2)], upto(2));
        let (again, mut overwritten) = take(&document, vec![entry(MAX_VIEW_KEYS, 3)], None);
        for command in [fits, more, again] {
            keeper.stage(command, &mut batch);
        }
        keeper.finish(batch);
        taken.try_recv().unwrap().unwrap();
        assert!(matches!(refused.try_recv().unwrap(), Err(KvError::TooManyKeys(_))));
        overwritten.try_recv().unwrap().unwrap();
        assert_eq!(keeper.storage.load(NUMBER).unwrap().entries.len(), 1);
        assert_eq!(document.heads.borrow()[KvAuthor::Manager.index()], 1, "it is asked for again");
    }
}
