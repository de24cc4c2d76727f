//! The keeper: a thread of its own that alone writes the storage of documents.
//!
//! Its loop is that of the node's driver: take what is waiting, up to a bound; stage it; make all of
//! it durable in one transaction; show it to readers and to who follows the logs; answer. It awaits
//! nothing but commands.

use std::{
    collections::{HashMap, HashSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use groundswell_core::kv::{
    AuthorCounter, Change, Clock, Envelope, KvAuthor, KvEntry, KvKey, SpaceName, Stamp, TooManyKeys,
};
use groundswell_core::limits::MAX_KV_KEYS;
use iroh_docs::Author;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    document::{Document, Identity},
    error::{KvError, Written},
    sealed::Sealed,
    storage::{Mark, Row, Standing, Storage, index},
};
use crate::{
    error::{StorageError, panic_message},
    limits::{DRIVER_QUEUE, MAX_BATCH_BYTES, MAX_BATCH_COMMANDS},
};

/// The wall clock, in milliseconds since 1970.
pub(crate) type WallClock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// An entry that was signed by its author, and what it holds.
pub(crate) type Opened = (Sealed, Envelope);

/// What the keeper is asked to do.
pub(crate) enum Command {
    /// Where a document's clock and counter go on.
    Begin { number: u64, clock: Clock, counter: AuthorCounter },
    /// A write of this side.
    Write {
        document: Arc<Document>,
        space: SpaceName,
        key: KvKey,
        change: Change,
        reply: oneshot::Sender<Result<Written, KvError>>,
    },
    /// Entries that came from the other side, verified. With `upto`, everything of the author up to
    /// there has come.
    Take {
        document: Arc<Document>,
        identity: Arc<Identity>,
        entries: Vec<Opened>,
        upto: Option<(KvAuthor, u64)>,
        reply: oneshot::Sender<Result<(), StorageError>>,
    },
    /// Rows of pairing and marks.
    Rows { rows: Vec<Row>, reply: Option<oneshot::Sender<Result<(), StorageError>>> },
    /// The document goes on under another number and secret, with its live entries as this side's; unless
    /// it does so already.
    Renew {
        document: Arc<Document>,
        before: Arc<Identity>,
        identity: Arc<Identity>,
        reply: oneshot::Sender<Result<(), KvError>>,
    },
    /// Finish what was asked before, and stop.
    Stop,
}

impl Command {
    fn weight(&self) -> usize {
        match self {
            Self::Write { change: Change::Put(value), .. } => value.len(),
            Self::Take { entries, .. } => entries.iter().map(|(entry, _)| entry.weight()).sum(),
            _ => 0,
        }
    }
}

/// The way to the keeper.
#[derive(Clone)]
pub(crate) struct KeeperHandle(mpsc::Sender<Command>);

impl KeeperHandle {
    /// Asks something and waits for the answer; `None` where the keeper has stopped.
    pub(crate) async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.0.send(command(reply)).await.ok()?;
        answer.await.ok()
    }

    /// Tells something whose answer no one waits for.
    pub(crate) async fn tell(&self, command: Command) {
        // A keeper that has stopped needs to be told nothing.
        let _ = self.0.send(command).await;
    }

    /// Writes rows; a keeper that has stopped is a storage that is closed.
    pub(crate) async fn rows(&self, rows: Vec<Row>) -> Result<(), StorageError> {
        let answer = self.ask(|reply| Command::Rows { rows, reply: Some(reply) }).await;
        answer.unwrap_or_else(|| Err(StorageError::new("it is shut down")))
    }
}

/// An answer that waits for the transaction.
type Answer = Box<dyn FnOnce(Result<(), StorageError>) + Send>;

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
}

/// A document's clock and counter.
struct Desk {
    clock: Clock,
    counter: AuthorCounter,
}

pub(crate) struct Keeper {
    storage: Arc<Storage>,
    signer: Author,
    wall_clock: WallClock,
    max_value_bytes: usize,
    desks: HashMap<u64, Desk>,
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
        let keeper = Self { storage, signer, wall_clock, max_value_bytes, desks: HashMap::new() };
        let (sender, commands) = mpsc::channel(DRIVER_QUEUE);
        let thread = std::thread::Builder::new().name("groundswell-keeper".to_owned()).spawn(move || {
            let _gone = gone.drop_guard();
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| keeper.run(commands))) {
                tracing::error!("the keeper panicked ({}): restart the node", panic_message(&*panic));
            }
        })?;
        Ok((KeeperHandle(sender), thread))
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
                return;
            }
        }
    }

    fn stage(&mut self, command: Command, batch: &mut Batch) {
        match command {
            Command::Begin { number, clock, counter } => {
                self.desks.insert(number, Desk { clock, counter });
            }
            Command::Write { document, space, key, change, reply } => {
                match self.stage_write(batch, &document, space, key, change) {
                    Ok(written) => batch.answers.push(Box::new(move |result| {
                        let _ = reply.send(result.map(|()| written).map_err(KvError::Storage));
                    })),
                    Err(error) => {
                        let _ = reply.send(Err(error));
                    }
                }
            }
            Command::Take { document, identity, entries, upto, reply } => {
                let goes = batch.dropped.contains(&identity.number) || !self.desks.contains_key(&identity.number);
                if identity.replaced.is_cancelled() || goes {
                    let _ = reply.send(Err(StorageError::new("the pairing has ended")));
                    return;
                }
                self.stage_take(batch, &document, &identity, entries, upto);
                batch.answers.push(Box::new(move |result| {
                    let _ = reply.send(result);
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
            Command::Renew { document, before, identity, reply } => {
                // It reads the view, so that what is staged has to be there first.
                self.finish(std::mem::take(batch));
                let _ = reply.send(self.renew(&document, &before, identity));
            }
            Command::Stop => {}
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
        let staged = staged(&mut batch.staged, document, number);
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
        let stamp = next_stamp(desk, number, timestamp, &mut batch.rows);
        let envelope = Envelope { space, key: key.clone(), stamp, timestamp, change: change.clone() };
        let counter = next_counter(desk, number, document.ours, &mut batch.rows);
        let refused = |error: &dyn std::fmt::Display| KvError::Entry(error.to_string().into());
        let bytes = envelope.encode(self.max_value_bytes).map_err(|error| refused(&error))?;
        let entry = Sealed::sign(&identity.secret, &self.signer, document.ours, document_key, counter, bytes.into());
        let entry = entry.map_err(|error| refused(&error))?;
        batch.rows.push(Row::Entry { number, entry: entry.clone() });
        staged.new_keys += usize::from(live.is_none());
        staged.live.insert(document_key, (stamp, document.ours, matches!(change, Change::Put(_))));
        staged.heads[index(document.ours)] = counter;
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
    ) {
        let number = identity.number;
        let staged = staged(&mut batch.staged, document, number);
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
            if stands.is_none_or(|stands| stands < rank) {
                staged.live.insert(entry.key, (rank.0, rank.1, matches!(envelope.change, Change::Put(_))));
            }
            batch.rows.push(Row::Entry { number, entry: entry.clone() });
            staged.entries.push((entry, envelope));
        }
        if let Some((author, counter)) = upto {
            let head = &mut staged.heads[index(author)];
            *head = (*head).max(counter);
        }
    }

    /// Makes the batch durable, shows it, and answers.
    fn finish(&mut self, batch: Batch) {
        let Batch { mut rows, answers, staged, dropped } = batch;
        for (number, staged) in &staged {
            let before = *staged.document.heads.borrow();
            for author in super::storage::AUTHORS {
                let counter = staged.heads[index(author)];
                if counter > before[index(author)] {
                    rows.push(Row::Mark { number: *number, author, mark: Mark::Held, counter });
                }
            }
        }
        let result = if rows.is_empty() { Ok(()) } else { self.storage.write(rows) };
        let mut shown = Vec::with_capacity(staged.len());
        if result.is_ok() {
            for number in &dropped {
                self.desks.remove(number);
            }
            for (number, staged) in staged {
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

    /// Writes the live entries of a document anew, into another that only this side knows.
    fn renew(&mut self, document: &Arc<Document>, before: &Identity, identity: Arc<Identity>) -> Result<(), KvError> {
        // Both sides may end a pairing at once.
        if before.replaced.is_cancelled() {
            return Ok(());
        }
        let number = identity.number;
        let mut desk = Desk { clock: Clock::restore(None), counter: AuthorCounter::restore(0) };
        if let Some(old) = self.desks.get(&before.number) {
            desk.clock.observe(old.clock.last());
        }
        let spaces: Vec<SpaceName> = document.with_view(|view| view.spaces().cloned().collect());
        let mut rows = Row::begin(number, identity.row()).to_vec();
        let mut opened = Vec::new();
        let mut head = 0;
        for space in spaces {
            let all = groundswell_core::kv::KvFilter::All;
            for entry in document.with_view(|view| view.entries(&space, &all)) {
                let envelope = Envelope {
                    space: space.clone(),
                    key: entry.key,
                    stamp: next_stamp(&mut desk, number, entry.timestamp, &mut rows),
                    timestamp: entry.timestamp,
                    change: Change::Put(entry.value),
                };
                head = next_counter(&mut desk, number, document.ours, &mut rows);
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
        heads[index(document.ours)] = head;
        rows.push(Row::Mark { number, author: document.ours, mark: Mark::Held, counter: head });
        rows.push(Row::Drop { number: before.number });
        self.storage.write(rows)?;
        self.desks.remove(&before.number);
        self.desks.insert(number, desk);
        document.renew(identity, opened, heads);
        Ok(())
    }
}

fn staged<'a>(all: &'a mut HashMap<u64, Staged>, document: &Arc<Document>, number: u64) -> &'a mut Staged {
    all.entry(number).or_insert_with(|| Staged {
        document: document.clone(),
        entries: Vec::new(),
        heads: *document.heads.borrow(),
        live: HashMap::new(),
        new_keys: 0,
    })
}

/// The next stamp; what it needs to be reserved becomes durable together with the entry.
fn next_stamp(desk: &mut Desk, number: u64, wall_ms: u64, rows: &mut Vec<Row>) -> Stamp {
    loop {
        if let Some(stamp) = desk.clock.now(wall_ms) {
            return stamp;
        }
        let bound = desk.clock.reserve(wall_ms);
        rows.push(Row::Clock { number, bound });
        desk.clock.reserved(bound);
    }
}

/// The next counter, likewise.
fn next_counter(desk: &mut Desk, number: u64, author: KvAuthor, rows: &mut Vec<Row>) -> u64 {
    loop {
        if let Some(counter) = desk.counter.next() {
            return counter;
        }
        let bound = desk.counter.reserve_block();
        rows.push(Row::Mark { number, author, mark: Mark::Bound, counter: bound });
        desk.counter.reserved(bound);
    }
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
        let desks = HashMap::from([(NUMBER, Desk { clock: Clock::restore(None), counter: AuthorCounter::restore(0) })]);
        let keeper = Keeper { storage, signer, wall_clock: Arc::new(|| 1_000), max_value_bytes: 1_024, desks };
        (keeper, document)
    }

    fn write(document: &Arc<Document>, change: Change) -> (Command, oneshot::Receiver<Result<Written, KvError>>) {
        let (reply, answer) = oneshot::channel();
        let (document, space) = (document.clone(), SpaceName::default());
        (Command::Write { document, space, key: key(), change, reply }, answer)
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
}
