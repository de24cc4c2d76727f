//! The applier: a thread that alone writes the tables.
//!
//! What is in the journal it brings into the tables at once, without a flush; before a half of the
//! journal is written anew it makes the tables durable. Where the tables fail, they are opened anew
//! and filled from the journal, which has everything since they were durable last.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, RwLock,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use groundswell_core::encoding::decode;
use redb::{Database, Durability, WriteTransaction};

use super::{
    META_APPLIED, Result, Row,
    journal::{Found, Journal, Record},
    meta, open_database, set_meta,
    tables::apply,
};
use crate::{
    error::{OutcomeUnknown, StorageError, WriteError, panic_message},
    kv::complaints::Complaints,
    store::{RedbFile, failed, guarded},
    sync::{lock, read, write},
};

/// How many records may wait to be brought into the tables: those of a half of the journal, about.
const QUEUE: usize = 1_024;

/// How long it gathers records before it brings them in together (2 ms): one transaction for many, and no
/// waking of the thread for each. Who wants to read ends it at once.
const GATHER: Duration = Duration::from_millis(2);

/// How many rows are brought into the tables in one transaction.
const MAX_ROWS: usize = 4_096;

enum Task {
    /// This is in the journal.
    Apply { number: u64, rows: Vec<Row> },
    /// This is not, since it is too large for it: makes everything durable in the tables.
    Through { number: u64, rows: Vec<Row>, reply: SyncSender<Result<()>> },
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

struct Tables {
    file: RedbFile,
    journal: PathBuf,
    half_bytes: usize,
    database: RwLock<Option<Database>>,
    progress: Mutex<Progress>,
    /// Told when the tables are further.
    changed: Condvar,
    /// Told when somebody hurries.
    hurried: Condvar,
    /// The newest record that the applier was told of: with those before it, what was acknowledged.
    told: AtomicU64,
    complaints: Complaints,
    #[cfg(test)]
    panicking: std::sync::atomic::AtomicBool,
    #[cfg(test)]
    failing: std::sync::atomic::AtomicBool,
}

/// The way to the applier.
pub(super) struct Applier {
    tables: Arc<Tables>,
    tasks: SyncSender<Task>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// One durable transaction.
pub(super) fn transaction(database: &Database, work: impl FnOnce(&WriteTransaction) -> Result<()>) -> Result<()> {
    guarded(|| {
        let txn = database.begin_write().map_err(failed)?;
        work(&txn)?;
        txn.commit().map_err(failed)
    })
}

/// Brings what the tables lack of the journal into them, durably; up to which record they are now. Records after the
/// newest that is wanted are left out: nobody was told of them.
pub(super) fn replay(database: &Database, found: Found, newest: u64) -> Result<u64> {
    let applied = meta(database, META_APPLIED)?.unwrap_or_default();
    let mut upto = applied;
    let mut lacking = Vec::new();
    let wanted = |record: &Record| record.number > applied && record.number <= newest;
    for record in found.records.into_iter().filter(wanted) {
        if record.number != upto + 1 {
            let Record { number, .. } = record;
            return Err(StorageError::new(format!(
                "the tables end with record {upto} and the journal goes on with {number}: what is between is damaged, or \
                 they are not of the same time; restore both from one backup"
            )));
        }
        upto = record.number;
        lacking.extend(decode::<Vec<Row>>(&record.body).map_err(StorageError::new)?);
    }
    if let Some(beyond) = found.beyond.filter(|beyond| *beyond > upto && *beyond <= newest) {
        return Err(StorageError::new(format!(
            "the journal is readable up to record {upto} and has record {beyond}: what is between was acknowledged, and is \
             damaged; check the disk, and restore the journal and the tables from one backup"
        )));
    }
    transaction(database, |txn| {
        apply(txn, &lacking)?;
        set_meta(txn, META_APPLIED, upto)
    })?;
    Ok(upto)
}

impl Applier {
    /// Starts the thread. It ends when it is told to close, or when who may tell it anything is gone.
    pub(super) fn start(
        file: RedbFile,
        journal: &Path,
        half_bytes: usize,
        database: Database,
        applied: u64,
    ) -> Result<Self> {
        let progress = Progress { applied, durable: applied, hurry: false, failed: None, closed: false };
        let tables = Arc::new(Tables {
            file,
            journal: journal.to_owned(),
            half_bytes,
            database: RwLock::new(Some(database)),
            progress: Mutex::new(progress),
            changed: Condvar::new(),
            hurried: Condvar::new(),
            told: AtomicU64::new(applied),
            complaints: Complaints::new("the storage of documents"),
            #[cfg(test)]
            failing: std::sync::atomic::AtomicBool::new(false),
            #[cfg(test)]
            panicking: std::sync::atomic::AtomicBool::new(false),
        });
        let (tasks, receiver) = sync_channel(QUEUE);
        let worker = tables.clone();
        let thread = std::thread::Builder::new().name("groundswell-tables".to_owned());
        let thread = thread.spawn(move || {
            // Who waits for the tables is told, however this thread ends.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| worker.run(&receiver))) {
                let panic = panic_message(&*panic);
                let error = format!("the thread that writes the tables panicked ({panic}): restart the node");
                worker.note(&Err(StorageError::new(error)));
            }
            worker.end();
        });
        let thread = thread.map_err(StorageError::of_disk)?;
        let thread = Mutex::new(Some(thread));
        Ok(Self { tables, tasks, thread })
    }

    /// Tells of a record that is in the journal.
    pub(super) fn apply(&self, number: u64, rows: Vec<Row>) {
        self.tables.told.store(number, Ordering::SeqCst);
        // Whoever reads or writes next is told of a thread that has ended.
        let _ = self.tasks.send(Task::Apply { number, rows });
    }

    /// Makes durable what is too large for the journal.
    pub(super) fn through(&self, number: u64, rows: Vec<Row>) -> Result<(), WriteError> {
        if let Err(error) = self.ask(|reply| Task::Through { number, rows, reply }) {
            // The last flush can fail after everything was written. Tables that were opened again, and flushed, have it or not.
            match self.mend() {
                Ok(applied) if applied < number => return Err(error.into()),
                Ok(_) => {}
                Err(_) => return Err(OutcomeUnknown::from(error).into()),
            }
        }
        self.tables.told.fetch_max(number, Ordering::SeqCst);
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
    pub(super) fn reading<T>(&self, work: impl FnOnce(&Database) -> Result<T>) -> Result<T> {
        self.mend()?;
        let told = self.tables.told.load(Ordering::SeqCst);
        self.tables.wait_for(|progress| progress.applied >= told)?;
        let database = read(&self.tables.database);
        work(database.as_ref().ok_or_else(closed)?)
    }

    /// Closes the tables, once everything is durable in them.
    pub(super) fn close(&self) {
        let Some(thread) = lock(&self.thread).take() else { return };
        self.tables.file.close();
        let _ = self.tasks.send(Task::Close);
        // It has caught what could panic in it.
        let _ = thread.join();
    }

    /// Lets the tables fail, or not.
    #[cfg(test)]
    pub(super) fn fail(&self, fail: bool) {
        self.tables.failing.store(fail, Ordering::SeqCst);
    }

    /// Lets the thread panic at its next task.
    #[cfg(test)]
    pub(super) fn panic(&self) {
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
    fn run(&self, tasks: &Receiver<Task>) {
        let mut next = tasks.recv().ok();
        while let Some(task) = next.take() {
            #[cfg(test)]
            assert!(!self.panicking.load(Ordering::SeqCst), "made to panic by a test");
            let closing = matches!(task, Task::Close);
            let result = match task {
                Task::Apply { number, rows } => {
                    let (mut upto, mut all) = (number, rows);
                    self.gather();
                    while all.len() < MAX_ROWS {
                        match tasks.try_recv() {
                            Ok(Task::Apply { number, rows }) => {
                                upto = number;
                                all.extend(rows);
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
                next = tasks.recv().ok();
            }
        }
    }

    /// Brings rows into the tables, unless they have them from the journal already.
    fn bring_in(&self, number: u64, rows: &[Row], durability: Durability) -> Result<()> {
        self.check()?;
        if number <= lock(&self.progress).applied {
            return Ok(());
        }
        self.commit(durability, |txn| {
            apply(txn, rows)?;
            set_meta(txn, META_APPLIED, number)
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
        let applied = lock(&self.progress).applied;
        self.commit(Durability::Immediate, |txn| set_meta(txn, META_APPLIED, applied))?;
        lock(&self.progress).durable = applied;
        Ok(())
    }

    fn commit(&self, durability: Durability, work: impl FnOnce(&WriteTransaction) -> Result<()>) -> Result<()> {
        let database = read(&self.database);
        let database = database.as_ref().ok_or_else(closed)?;
        guarded(|| {
            let mut txn = database.begin_write().map_err(failed)?;
            txn.set_durability(durability).map_err(failed)?;
            work(&txn)?;
            txn.commit().map_err(failed)
        })?;
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
        let mut database = write(&self.database);
        // Closed first: the file is locked by who has it open.
        drop(database.take());
        let opened = open_database(&self.file)?;
        // A record that was refused to its caller may stand at the end of the journal.
        let told = self.told.load(Ordering::SeqCst);
        let applied = replay(&opened, Journal::read(&self.journal, self.half_bytes)?, told)?;
        if applied < told {
            return Err(StorageError::new(format!(
                "the journal ends with record {applied}, and {told} was acknowledged: restore the journal and the tables \
                 from one backup"
            )));
        }
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
        drop(write(&self.database).take());
        lock(&self.progress).closed = true;
        self.changed.notify_all();
    }
}
