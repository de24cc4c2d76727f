//! The applier: the one thread that writes the tables.
//!
//! It brings each record of the journal into the tables at once, without a flush; before a half of the journal is overwritten it
//! makes the tables durable. Where the tables fail, they are opened again and filled from the journal, which has everything since
//! they were durable last. While they cannot be opened to be written, they are read from memory: the file as it is, and on it the
//! journal.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, RwLock,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use redb::{Database, Durability, ReadTransaction, ReadableDatabase, WriteTransaction};

use super::{
    Result, Row, apply,
    bodies::{Bodies, Left},
    failed,
    file::RedbFile,
    guarded,
    journal::Journal,
    open_database,
    replay::replay,
    set_number, states,
};
use crate::{
    complaints::Complaints,
    error::{OutcomeUnknown, StorageError, WriteError, panic_message},
    limits::BODY_SLICE_CHUNKS,
    sync::{lock, read, write},
};

/// How many records may wait to be brought into the tables: about those of half a half of the journal. Their bytes are bounded by
/// the journal itself: none of them is overwritten before it is in the tables.
const QUEUE: usize = 1_024;

/// How long it gathers records before it brings them in together (2 ms): one transaction for many, and no
/// waking of the thread for each. Who wants to read ends it at once.
const GATHER: Duration = Duration::from_millis(2);

/// How many rows are brought into the tables in one transaction.
const MAX_ROWS: usize = 4_096;

/// How long after tables that could not be mended the next try is made (1 s): whoever reads them meanwhile reads from memory.
const MEND_AGAIN_AFTER: Duration = if cfg!(test) { Duration::ZERO } else { Duration::from_secs(1) };

/// How many bytes of records (1 MiB): a reader of the tables waits for one transaction.
const MAX_BYTES: usize = 1024 * 1024;

enum Task {
    /// This is in the journal, where it has so many bytes.
    Apply { number: u64, rows: Vec<Row>, bytes: usize },
    /// This is not, since it is too large for it: makes everything durable in the tables.
    Through { number: u64, rows: Vec<Row>, reply: SyncSender<Result<()>> },
    /// Rows without a record, to which nothing refers yet: makes everything durable in the tables.
    Beside { rows: Vec<Row>, reply: SyncSender<Result<()>> },
    /// There is an orphan: the idle thread is to remove it.
    Orphan,
    /// A half of the journal is full: makes everything durable in the tables.
    Flush,
    /// The tables have failed: tries them again.
    Mend { reply: SyncSender<Result<()>> },
    /// Makes everything durable in the tables, and closes them.
    Close,
}

/// How far the tables are.
struct Progress {
    /// The newest record that is in them.
    applied: u64,
    /// The newest record that is in them and flushed: the journal need not have it any more.
    durable: u64,
    /// Somebody waits for what was gathered.
    hurry: bool,
    failed: Option<StorageError>,
    closed: bool,
}

/// The tables, and how far they are.
pub(super) struct Tables {
    file: RedbFile,
    journal: PathBuf,
    half_bytes: usize,
    database: RwLock<Option<Database>>,
    /// The tables as they are read while they have failed, and up to which record.
    looked: RwLock<Option<(u64, Database)>>,
    bodies: Bodies,
    progress: Mutex<Progress>,
    /// Told when the tables are further.
    changed: Condvar,
    /// Told when somebody hurries.
    hurried: Condvar,
    /// The newest record that the applier was told of: with those before it, what was acknowledged.
    told: AtomicU64,
    /// The newest record that puts one history in the place of another.
    replaced: AtomicU64,
    complaints: Complaints,
    /// Told when the file was rewritten.
    on_rewritten: Box<dyn Fn() + Send + Sync>,
    /// When they could not be mended last, and why.
    mend_again: Mutex<Option<(Instant, StorageError)>>,
    #[cfg(test)]
    panicking: std::sync::atomic::AtomicBool,
    #[cfg(test)]
    failing: std::sync::atomic::AtomicBool,
}

/// The handle of the applier.
pub(crate) struct Applier {
    tables: Arc<Tables>,
    tasks: SyncSender<Task>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Applier {
    /// Starts the thread. It ends when it is told to close, or when the applier is dropped.
    pub(super) fn start(tables: Tables) -> Result<Self> {
        let tables = Arc::new(tables);
        let (tasks, receiver) = sync_channel(QUEUE);
        let worker = tables.clone();
        let thread = std::thread::Builder::new().name("groundswell-tables".to_owned());
        let thread = thread.spawn(move || {
            // Callers that wait for the tables are told, however this thread ends.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| worker.run(&receiver))) {
                let panic = panic_message(&*panic);
                let error = format!("the thread that writes the tables panicked ({panic}): restart the node");
                worker.note(&Err(StorageError::new(error)));
            }
        });
        let thread = Mutex::new(Some(thread.map_err(StorageError::of_disk)?));
        Ok(Self { tables, tasks, thread })
    }

    /// Tells of a record that is in the journal.
    pub(super) fn apply(&self, number: u64, rows: Vec<Row>, bytes: usize) {
        self.tables.told.store(number, Ordering::SeqCst);
        if rows.iter().any(Row::replaces_history) {
            self.tables.replaced.store(number, Ordering::SeqCst);
        }
        // Whoever reads or writes next is told of a thread that has ended.
        let _ = self.tasks.send(Task::Apply { number, rows, bytes });
    }

    /// Tables that are only read, without a thread.
    pub(super) fn of_looked(tables: Tables) -> Self {
        Self { tables: Arc::new(tables), tasks: sync_channel(0).0, thread: Mutex::new(None) }
    }

    pub(super) fn bodies(&self) -> &Bodies {
        &self.tables.bodies
    }

    /// A body that was written ahead is named by no record.
    pub(super) fn orphan(&self, body: u64) {
        self.tables.bodies.orphan(body);
        // A thread that has other tasks removes it after them.
        let _ = self.tasks.try_send(Task::Orphan);
    }

    /// Makes rows durable to which nothing refers yet.
    pub(super) fn beside(&self, rows: Vec<Row>) -> Result<()> {
        self.mend()?;
        self.ask(|reply| Task::Beside { rows, reply })
    }

    /// Makes a record durable that is too large for the journal.
    pub(super) fn through(&self, number: u64, rows: Vec<Row>) -> Result<(), WriteError> {
        let replaces = rows.iter().any(Row::replaces_history);
        if let Err(error) = self.ask(|reply| Task::Through { number, rows, reply }) {
            // The last flush can fail after everything was written. Tables that were opened again, and flushed, have it or not.
            match self.mend() {
                Ok(applied) if applied < number => return Err(error.into()),
                Ok(_) => {}
                Err(_) => return Err(OutcomeUnknown::from(error).into()),
            }
        }
        self.tables.told.fetch_max(number, Ordering::SeqCst);
        if replaces {
            self.tables.replaced.fetch_max(number, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Has everything made durable in the tables that they were told of, and waits until this record is.
    pub(super) fn flush(&self, needed: u64) -> Result<()> {
        // That a thread has ended is told below.
        let _ = self.tasks.send(Task::Flush);
        self.tables.wait_for(|progress| progress.durable >= needed)
    }

    /// Makes sure that the tables can be written; up to which record they are, at least.
    pub(super) fn mend(&self) -> Result<u64> {
        {
            let progress = lock(&self.tables.progress);
            if progress.closed {
                return Err(progress.problem().unwrap_or_else(closed));
            }
            if progress.failed.is_none() {
                return Ok(progress.applied);
            }
        }
        self.ask(|reply| Task::Mend { reply })?;
        let applied = lock(&self.tables.progress).applied;
        self.tables.told.fetch_max(applied, Ordering::SeqCst);
        Ok(applied)
    }

    /// What the log is told of failures.
    pub(super) fn complaints(&self) -> &Complaints {
        &self.tables.complaints
    }

    fn ask(&self, task: impl FnOnce(SyncSender<Result<()>>) -> Task) -> Result<()> {
        let (reply, answer) = sync_channel(1);
        let gone = || lock(&self.tables.progress).problem().unwrap_or_else(closed);
        self.tasks.send(task(reply)).map_err(|_| gone())?;
        answer.recv().unwrap_or_else(|_| Err(gone()))
    }

    /// Reads the tables, with everything that was acknowledged before.
    pub(super) fn reading<T>(&self, work: impl FnOnce(&ReadTransaction) -> Result<T>) -> Result<T> {
        self.reading_with(&self.tables.told, work)
    }

    /// Reads the tables, which may lack waves and rocks that were acknowledged, and have others that are dropped. No history is in the
    /// place of another one.
    pub(super) fn reading_history<T>(&self, work: impl FnOnce(&ReadTransaction) -> Result<T>) -> Result<T> {
        self.reading_with(&self.tables.replaced, work)
    }

    fn reading_with<T>(&self, needed: &AtomicU64, work: impl FnOnce(&ReadTransaction) -> Result<T>) -> Result<T> {
        loop {
            let needed = needed.load(Ordering::SeqCst);
            // The next write tries to mend them.
            if let Some((upto, looked)) = read(&self.tables.looked).as_ref()
                && *upto >= needed
            {
                return guarded(|| work(&looked.begin_read().map_err(failed)?));
            }
            match self.mend().and_then(|_| self.tables.wait_for(|progress| progress.applied >= needed)) {
                Ok(()) => {
                    if let Some(database) = read(&self.tables.database).as_ref() {
                        return guarded(|| work(&database.begin_read().map_err(failed)?));
                    }
                }
                Err(error) => self.tables.look(error)?,
            }
        }
    }

    /// Closes the tables, once everything is durable in them.
    pub(super) fn close(&self) {
        let Some(thread) = lock(&self.thread).take() else { return };
        self.tables.file.close();
        let _ = self.tasks.send(Task::Close);
        // It has caught what could panic in it.
        let _ = thread.join();
        self.tables.end();
    }

    /// Lets the tables fail, or not.
    #[cfg(test)]
    pub(crate) fn fail(&self, fail: bool) {
        self.tables.failing.store(fail, Ordering::SeqCst);
    }

    /// Lets the thread panic at its next task.
    #[cfg(test)]
    pub(crate) fn panic(&self) {
        self.tables.panicking.store(true, Ordering::SeqCst);
    }
}

impl Drop for Applier {
    /// Ends the thread, so that the files can be opened again.
    fn drop(&mut self) {
        self.close();
    }
}

fn closed() -> StorageError {
    StorageError::new("it is shut down")
}

impl Progress {
    fn problem(&self) -> Option<StorageError> {
        self.failed.clone().or_else(|| self.closed.then(closed))
    }
}

impl Tables {
    /// Tables in an open database, and the journal before them. They have its records up to `applied`.
    pub(super) fn new(
        file: RedbFile,
        (journal, half_bytes): (&Path, usize),
        database: Database,
        applied: u64,
        on_rewritten: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self> {
        let (bodies, _) = Bodies::find(&database)?;
        Ok(Self {
            file,
            journal: journal.to_owned(),
            half_bytes,
            database: RwLock::new(Some(database)),
            looked: RwLock::new(None),
            bodies,
            progress: Mutex::new(Progress { applied, durable: applied, hurry: false, failed: None, closed: false }),
            changed: Condvar::new(),
            hurried: Condvar::new(),
            told: AtomicU64::new(applied),
            replaced: AtomicU64::new(applied),
            complaints: Complaints::new("the storage"),
            on_rewritten: Box::new(on_rewritten),
            mend_again: Mutex::default(),
            #[cfg(test)]
            failing: std::sync::atomic::AtomicBool::new(false),
            #[cfg(test)]
            panicking: std::sync::atomic::AtomicBool::new(false),
        })
    }

    fn run(&self, tasks: &Receiver<Task>) {
        let mut next = self.next(tasks);
        while let Some(task) = next.take() {
            #[cfg(test)]
            assert!(!self.panicking.load(Ordering::SeqCst), "made to panic by a test");
            let closing = matches!(task, Task::Close);
            let result = match task {
                Task::Apply { number, rows, bytes } => {
                    let (mut upto, mut all, mut weight) = (number, rows, bytes);
                    self.gather();
                    while all.len() < MAX_ROWS && weight < MAX_BYTES {
                        match tasks.try_recv() {
                            Ok(Task::Apply { number, rows, bytes }) => {
                                upto = number;
                                all.extend(rows);
                                weight += bytes;
                            }
                            other => {
                                next = other.ok();
                                break;
                            }
                        }
                    }
                    self.bring_in(upto, &all, Durability::None)
                }
                Task::Through { number, rows, reply } => {
                    let result = self.bring_in(number, &rows, Durability::Immediate);
                    self.note(&result);
                    let _ = reply.send(result);
                    Ok(())
                }
                Task::Beside { rows, reply } => {
                    let result = self.check().and_then(|()| self.make_durable_with(&rows));
                    self.note(&result);
                    let _ = reply.send(result);
                    Ok(())
                }
                Task::Orphan => Ok(()),
                Task::Flush => self.make_durable(),
                Task::Mend { reply } => {
                    let _ = reply.send(self.mend());
                    Ok(())
                }
                Task::Close => self.make_durable(),
            };
            self.note(&result);
            if closing {
                break;
            }
            if next.is_none() {
                next = self.next(tasks);
            }
        }
    }

    /// The next task. Until one comes, orphans are removed, a slice at a time.
    fn next(&self, tasks: &Receiver<Task>) -> Option<Task> {
        loop {
            match tasks.try_recv() {
                Ok(task) => return Some(task),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => {}
            }
            if !self.bodies.has_orphans() || self.check().is_err() {
                return tasks.recv().ok();
            }
            // An orphan that cannot be removed is left for a later run.
            let swept =
                self.commit(Durability::None, |txn, left| self.bodies.sweep(txn, BODY_SLICE_CHUNKS as usize, left));
            self.note(&swept);
        }
    }

    /// Brings rows into the tables, unless they have them from the journal already.
    fn bring_in(&self, number: u64, rows: &[Row], durability: Durability) -> Result<()> {
        self.check()?;
        if number <= lock(&self.progress).applied {
            return Ok(());
        }
        self.commit(durability, |txn, left| {
            apply(txn, rows, left)?;
            self.bodies.sweep(txn, left.chunks, left)?;
            set_number(txn, states::META_APPLIED, number)
        })?;
        let mut progress = lock(&self.progress);
        progress.applied = number;
        if matches!(durability, Durability::Immediate) {
            progress.durable = number;
        }
        Ok(())
    }

    fn make_durable(&self) -> Result<()> {
        self.check()?;
        self.make_durable_with(&[])
    }

    /// A flush makes everything durable that was committed without one.
    fn make_durable_with(&self, rows: &[Row]) -> Result<()> {
        let applied = lock(&self.progress).applied;
        self.commit(Durability::Immediate, |txn, left| {
            apply(txn, rows, left)?;
            self.bodies.sweep(txn, left.chunks, left)?;
            set_number(txn, states::META_APPLIED, applied)
        })?;
        lock(&self.progress).durable = applied;
        Ok(())
    }

    fn commit(
        &self,
        durability: Durability,
        work: impl FnOnce(&WriteTransaction, &mut Left) -> Result<()>,
    ) -> Result<()> {
        let database = read(&self.database);
        let database = database.as_ref().ok_or_else(closed)?;
        let left = guarded(|| {
            let mut txn = database.begin_write().map_err(failed)?;
            txn.set_durability(durability).map_err(failed)?;
            let mut left = Left::default();
            work(&txn, &mut left)?;
            txn.commit().map_err(failed)?;
            Ok(left)
        })?;
        self.bodies.leave(&left);
        Ok(())
    }

    /// What has failed stays failed until it is mended: the journal has what is missed meanwhile.
    fn check(&self) -> Result<()> {
        #[cfg(test)]
        if self.failing.load(Ordering::SeqCst) {
            return Err(StorageError::new("made to fail by a test"));
        }
        lock(&self.progress).failed.clone().map_or(Ok(()), Err)
    }

    /// Opens the tables anew, and brings in what the journal has.
    fn mend(&self) -> Result<()> {
        if lock(&self.progress).failed.is_none() {
            return Ok(());
        }
        #[cfg(test)]
        if self.failing.load(Ordering::SeqCst) {
            return Err(StorageError::new("made to fail by a test"));
        }
        let mut again = lock(&self.mend_again);
        if let Some((_, error)) = again.as_ref().filter(|(at, _)| at.elapsed() < MEND_AGAIN_AFTER) {
            return Err(error.clone());
        }
        let mended = self.open_again();
        *again = mended.as_ref().err().map(|error| (Instant::now(), error.clone()));
        mended
    }

    fn open_again(&self) -> Result<()> {
        // What has failed is not written to. It is read from memory meanwhile.
        drop(write(&self.database).take());
        if self.file.is_suspect() {
            self.file.rewrite()?;
            (self.on_rewritten)();
        }
        // Each of them locks the file.
        let mut looked = write(&self.looked);
        drop(looked.take());
        let mut database = write(&self.database);
        let opened = open_database(&self.file)?;
        // A record that was refused to its caller may stand at the end of the journal.
        let told = self.told.load(Ordering::SeqCst);
        let applied = self.replay_upto(&opened, told)?;
        self.bodies.renew(Bodies::find(&opened)?);
        *database = Some(opened);
        drop(database);
        let mut progress = lock(&self.progress);
        progress.applied = applied;
        progress.durable = applied;
        progress.failed = None;
        drop(progress);
        self.changed.notify_all();
        tracing::debug!("the tables were opened again");
        Ok(())
    }

    /// Brings in what the journal has up to this record, which was acknowledged. Returns up to which record the tables are then.
    fn replay_upto(&self, database: &Database, told: u64) -> Result<u64> {
        let applied = replay(database, Journal::read(&self.journal, self.half_bytes)?, told)?;
        if applied < told {
            return Err(StorageError::new(format!(
                "the journal ends with record {applied}, and {told} was acknowledged: restore the journal and the tables \
                 from one backup"
            )));
        }
        Ok(applied)
    }

    /// Makes tables that have failed readable: the file as it is, and on it what the journal has, in memory. Where they cannot be read
    /// either, the error why they failed.
    fn look(&self, why: StorageError) -> Result<()> {
        let mut looked = write(&self.looked);
        let (is_closed, is_well) = {
            let progress = lock(&self.progress);
            (progress.closed, progress.failed.is_none())
        };
        if is_closed {
            return Err(why);
        }
        let told = self.told.load(Ordering::SeqCst);
        if is_well || looked.as_ref().is_some_and(|(upto, _)| *upto >= told) {
            return Ok(());
        }
        // Each of them locks the file.
        drop(looked.take());
        drop(write(&self.database).take());
        let look = || {
            let database = self.file.look()?;
            self.replay_upto(&database, told)?;
            Ok::<_, StorageError>(database)
        };
        match look() {
            Ok(database) => *looked = Some((told, database)),
            Err(error) => {
                tracing::debug!(%error, "the tables cannot be read either");
                return Err(why);
            }
        }
        Ok(())
    }

    fn note(&self, result: &Result<()>) {
        if let Err(error) = result {
            let mut progress = lock(&self.progress);
            if progress.failed.is_none() {
                self.complaints.fails(error);
                progress.failed = Some(error.clone());
            }
        }
        self.changed.notify_all();
    }

    /// Waits for more to bring in, unless somebody waits for what there is.
    fn gather(&self) {
        let progress = lock(&self.progress);
        let waited = self.hurried.wait_timeout_while(progress, GATHER, |progress| !progress.hurry);
        waited.unwrap_or_else(std::sync::PoisonError::into_inner).0.hurry = false;
    }

    /// Waits until the tables are so far, or can't be written.
    fn wait_for(&self, so_far: impl Fn(&Progress) -> bool) -> Result<()> {
        let mut progress = lock(&self.progress);
        while !so_far(&progress) {
            if let Some(error) = progress.problem() {
                return Err(error);
            }
            progress.hurry = true;
            self.hurried.notify_one();
            progress = self.changed.wait(progress).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        Ok(())
    }

    fn end(&self) {
        lock(&self.progress).closed = true;
        drop(write(&self.database).take());
        drop(write(&self.looked).take());
        self.changed.notify_all();
    }
}
