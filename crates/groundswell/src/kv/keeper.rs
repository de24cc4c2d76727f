//! The keeper: a thread of its own that alone writes the storage of documents.
//!
//! Its loop is that of the node's driver: take what is waiting, up to a bound; stage it; make all of
//! it durable in one transaction; show it to readers and to who follows the logs; answer. It awaits
//! nothing but commands.

mod command;
mod once;
mod renew;
mod restored;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use groundswell_core::kv::{
    AuthorCounter, Change, Clock, Envelope, KvAuthor, KvEntry, KvKey, KvView, SpaceName, Stamp, TooManyKeys,
};
use groundswell_core::limits::{KV_ENTRY_BYTES, MAX_KV_KEYS, MAX_VIEW_KEYS};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub(crate) use self::command::{Command, Contents, KeeperHandle};
use super::{
    budget::{Growth, KvBudget, Used},
    docs::Author,
    document::{Document, Identity},
    error::{KvError, Written},
    sealed::Sealed,
    storage::{Mark, Outcome, Row, Standing, Storage},
};
use crate::{
    error::{OutcomeUnknown, WriteError, panic_message},
    ids::{Done, Ids, WriteId},
    limits::{DRIVER_QUEUE, MAX_BATCH_BYTES, MAX_BATCH_COMMANDS, MAX_KV_WRITE_IDS},
    metrics::Metrics,
};

/// The wall clock, in milliseconds since 1970.
pub(crate) type WallClock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// An entry that was signed by its author, and what it holds.
pub(crate) type Opened = (Sealed, Envelope);

/// An answer that waits for the transaction.
type Answer = Box<dyn FnOnce(Result<(), WriteError>) + Send>;

/// What is done together.
#[derive(Default)]
struct Batch {
    rows: Vec<Row>,
    answers: Vec<Answer>,
    staged: HashMap<u64, Staged>,
    /// By how many bytes all documents grow.
    growth: i64,
    /// Documents that go: nothing more is written for them.
    dropped: HashSet<u64>,
}

/// What a batch does to one document.
struct Staged {
    document: Arc<Document>,
    entries: Vec<Opened>,
    heads: [u64; 2],
    /// The winners of the keys that are written in this batch, by stamp and author, how many bytes the value has if there is
    /// one, and how many keys are new.
    live: HashMap<[u8; 32], (Stamp, KvAuthor, Option<u64>)>,
    new_keys: usize,
    /// By how many bytes the document grows.
    growth: i64,
    /// A session is there that sends our entries as soon as they are durable.
    is_sent: bool,
    /// How many writes of this side lose to what it takes back.
    overruled: u64,
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
    metrics: Arc<Metrics>,
    signer: Author,
    wall_clock: WallClock,
    max_value_bytes: usize,
    used: Used,
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
        metrics: Arc<Metrics>,
        signer: Author,
        wall_clock: WallClock,
        max_value_bytes: usize,
        budget: KvBudget,
        gone: CancellationToken,
    ) -> std::io::Result<(KeeperHandle, std::thread::JoinHandle<()>)> {
        let (desks, unknown, uncertain) = (HashMap::new(), HashSet::new(), Arc::<AtomicBool>::default());
        let keeper = Self {
            storage,
            metrics,
            signer,
            wall_clock,
            max_value_bytes,
            used: Used::new(budget),
            desks,
            unknown,
            uncertain: uncertain.clone(),
        };
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
        let Some(command) = self.unless_known(command) else { return };
        match command {
            Command::Begin { number, clock, counter, ids, bytes } => {
                self.used.set(number, bytes);
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
                let entries = match self.take_back(batch, &document, &identity, entries) {
                    Ok(entries) => entries,
                    Err(error) => return drop(reply.send(Err(error))),
                };
                let taken = self.stage_take(batch, &document, &identity, entries, upto);
                batch.answers.push(Box::new(move |result| {
                    let _ = reply.send(result.map_err(KvError::from).and(taken));
                }));
            }
            Command::WentBack { document, identity, held_there, reply } => {
                self.finish(std::mem::take(batch));
                let _ = reply.send(self.went_back(&document, &identity, held_there));
            }
            Command::Agree { document, identity, upto, returned, reply } => {
                self.finish(std::mem::take(batch));
                let _ = reply.send(self.agree(&document, &identity, upto, &returned));
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
        let (winner, used) = document.with_view(|view| (view.winner(&space, &key), view.keys_used()));
        let before = staged.live.get(&document_key).map(|(.., bytes)| *bytes);
        // Of a key that was used before: the bytes of its value, if it has one.
        let before = before.or(winner.map(|winner| (!winner.deleted).then_some(winner.value_bytes)));
        match &change {
            Change::Delete if before.flatten().is_none() => return Ok(Written::Deleted(false)),
            Change::Put(_) if before.is_none() && used + staged.new_keys >= MAX_KV_KEYS => {
                return Err(KvError::TooManyKeys(TooManyKeys { limit: MAX_KV_KEYS }));
            }
            _ => {}
        }
        let bytes = value_bytes(&change);
        let more = growth(&key, bytes, before);
        let growing = Growth { document: staged.growth, all: batch.growth };
        self.used.may_write(number, growing, more, document.their_budget())?;
        let desk = self.desks.get_mut(&number).ok_or(KvError::NotClaimed)?;
        let timestamp = (self.wall_clock)();
        let stamp = next_stamp(desk, number, timestamp, &mut batch.rows)?;
        let envelope = Envelope { space, key: key.clone(), stamp, timestamp, change: change.clone() };
        let counter = next_counter(desk, number, document.ours, &mut batch.rows)?;
        let refused = |error: &dyn std::fmt::Display| KvError::Entry(error.to_string().into());
        let encoded = envelope.encode(self.max_value_bytes).map_err(|error| refused(&error))?;
        let entry = Sealed::sign(&identity.secret, &self.signer, document.ours, document_key, counter, encoded.into());
        batch.rows.push(Row::Entry { number, entry: entry.clone() });
        staged.new_keys += usize::from(before.is_none());
        staged.growth += more;
        batch.growth += more;
        staged.live.insert(document_key, (stamp, document.ours, bytes));
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
        // All of them or none: what is refused comes again, and is not to be written each time.
        let growing = Growth { document: staged.growth, all: batch.growth };
        let more = entries.iter().map(|(entry, envelope)| staged.growth_by(document, entry, envelope)).sum();
        self.used.may_take(number, growing, more)?;
        for (entry, envelope) in entries {
            if let Some(desk) = self.desks.get_mut(&number) {
                desk.clock.observe(envelope.stamp);
                // This side has lost entries of its own: its counter goes on after them.
                if entry.author == document.ours && entry.counter >= desk.counter.reserve(0) {
                    // Where it agrees, more of them may be on their way.
                    let after = if document.agrees_first() {
                        groundswell_core::kv::restored::after_gap(entry.counter, 0, rand::random())
                    } else {
                        entry.counter.saturating_add(1)
                    };
                    desk.counter = AuthorCounter::restore(after);
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
                let more = staged.growth_by(document, &entry, &envelope);
                staged.growth += more;
                batch.growth += more;
                staged.live.insert(entry.key, (rank.0, rank.1, value_bytes(&envelope.change)));
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

    /// Makes the batch durable, shows it, and answers. Returns why that failed, if it did.
    fn finish(&mut self, batch: Batch) -> Option<WriteError> {
        let Batch { mut rows, answers, staged, dropped, growth: _ } = batch;
        for (number, staged) in &staged {
            let before = *staged.document.heads.borrow();
            for author in KvAuthor::BOTH {
                let counter = staged.heads[author.index()];
                if counter > before[author.index()] {
                    rows.push(Row::Mark { number: *number, author, mark: Mark::Held, counter });
                    // It is sent at once, and needs no flush of its own for that.
                    if author == staged.document.ours && staged.is_sent {
                        rows.push(Row::Mark { number: *number, author, mark: Mark::Sent, counter });
                    }
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
                self.used.remove(*number);
            }
            for (number, mut staged) in staged {
                self.count(&staged);
                if let Some(desk) = self.desks.get_mut(&number) {
                    desk.ids.remember(std::mem::take(&mut staged.ids));
                }
                // A document that was renewed in between shows another one's entries by now.
                if staged.document.identity().number == number {
                    staged.document.overruled(staged.overruled);
                    if staged.is_sent {
                        staged.document.is_sent(staged.heads[staged.document.ours.index()]);
                    }
                    shown.push((staged.document.show(staged.entries, staged.heads), staged.document.clone()));
                    if self.desks.contains_key(&number) {
                        self.used.set(number, staged.document.with_view(KvView::bytes));
                    }
                }
            }
        }
        answers.into_iter().for_each(|answer| answer(result.clone()));
        // Who waits for an answer comes first: it can be seen by now.
        shown.into_iter().for_each(|(shown, document)| document.tell(shown));
        result.err()
    }

    /// Counts what has become durable.
    fn count(&self, staged: &Staged) {
        for (entry, envelope) in &staged.entries {
            let counter = match &envelope.change {
                _ if entry.author != staged.document.ours => &self.metrics.entries_received,
                Change::Put(_) => &self.metrics.keys_put,
                Change::Delete => &self.metrics.keys_deleted,
            };
            counter.add(1);
        }
    }

    /// Writes rows, and counts that.
    fn store(&self, rows: Vec<Row>) -> Result<(), WriteError> {
        let begun = Instant::now();
        let result = self.storage.write(rows);
        match &result {
            Ok(()) => {
                self.metrics.key_commits.add(1);
                self.metrics.key_commit_time.note(begun.elapsed());
            }
            Err(_) => self.metrics.key_commit_failures.add(1),
        }
        result
    }

    /// Writes what is staged, and notes the ids of what has an unknown outcome.
    fn write(&mut self, rows: Vec<Row>, staged: &HashMap<u64, Staged>) -> Result<(), WriteError> {
        let result = self.store(rows);
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
            self.store(vec![Row::Document { number, row }])?;
            document.set_identity(identity);
        }
        Ok(())
    }
}

fn staged_of<'a>(all: &'a mut HashMap<u64, Staged>, document: &Arc<Document>, number: u64) -> &'a mut Staged {
    all.entry(number).or_insert_with(|| Staged {
        document: document.clone(),
        entries: Vec::new(),
        heads: *document.heads.borrow(),
        live: HashMap::new(),
        new_keys: 0,
        growth: 0,
        overruled: 0,
        is_sent: document.session.borrow().is_some() && !document.agrees_first(),
        ids: BTreeMap::new(),
    })
}

impl Staged {
    /// By how many bytes an entry that has come lets the document grow beside what is staged; 0 where it loses.
    fn growth_by(&self, document: &Document, entry: &Sealed, envelope: &Envelope) -> i64 {
        let staged = self.live.get(&entry.key).copied();
        let stands = staged.or_else(|| {
            let winner = document.with_view(|view| view.winner(&envelope.space, &envelope.key))?;
            Some((winner.stamp, winner.author, (!winner.deleted).then_some(winner.value_bytes)))
        });
        match stands {
            Some((stamp, author, _)) if (stamp, author) >= (envelope.stamp, entry.author) => 0,
            stands => growth(&envelope.key, value_bytes(&envelope.change), stands.map(|(.., bytes)| bytes)),
        }
    }
}

fn value_bytes(change: &Change) -> Option<u64> {
    match change {
        Change::Put(value) => Some(value.len() as u64),
        Change::Delete => None,
    }
}

/// By how many bytes a document grows where a key gets a value of so many bytes, or none, in place of the one before. A key
/// that was never used before counts itself.
fn growth(key: &KvKey, bytes: Option<u64>, before: Option<Option<u64>>) -> i64 {
    let new = if before.is_none() { KV_ENTRY_BYTES + key.as_bytes().len() as u64 } else { 0 };
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    signed(new + bytes.unwrap_or(0)) - signed(before.flatten().unwrap_or(0))
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
mod tests;
