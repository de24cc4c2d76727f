//! The disk of a node: one journal, one file of tables behind it, and the marks of runs.
//!
//! A change is durable, and acknowledged, once its record is in the journal. The applier brings records into the tables, which hold
//! states and keys. docs/storage.md describes the files, the tables and the life of a row.

/// Passes the file locks of a `redb::StorageBackend` on to `self.file`. The trait's own methods are `Unsupported`.
macro_rules! delegate_locks {
    () => {
        delegate_locks!(try_lock_range -> bool);
        delegate_locks!(try_lock_shared_range -> bool);
        delegate_locks!(lock_range -> ());
        delegate_locks!(lock_shared_range -> ());
        delegate_locks!(unlock_range -> ());
        delegate_locks!(query_lock_range -> bool);
    };
    ($name:ident -> $answer:ty) => {
        fn $name(
            &self,
            start: std::ops::Bound<u64>,
            end: std::ops::Bound<u64>,
        ) -> Result<$answer, redb::BackendError> {
            self.file.$name(start, end)
        }
    };
}

mod applier;
mod belongs;
mod bodies;
#[cfg(test)]
pub(crate) mod failing;
mod file;
mod journal;
pub(crate) mod keys;
mod marks;
mod overlay;
mod raise;
mod replay;
pub(crate) mod states;

use std::{
    fs::{self, File, OpenOptions},
    io::ErrorKind,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Mutex,
};

use groundswell_core::encoding::encode;
use redb::{Database, ReadTransaction, ReadableDatabase, TableError, WriteTransaction};
use serde::{Deserialize, Serialize};

#[cfg(test)]
pub(crate) use self::journal::BLOCK_BYTES;
use self::{
    applier::{Applier, Tables},
    bodies::{Bodies, Left},
    file::RedbFile,
    journal::Journal,
    marks::RunMarks,
    overlay::Overlay,
};
pub(crate) use self::{
    bodies::{Ahead, place, rock_row},
    journal::HALF_BYTES,
    marks::MARKS_FILE,
};
use crate::{
    error::{OpenError, OutcomeUnknown, StorageError, WriteError, panic_message},
    files::private,
    identity::DataDir,
    limits::STORE_CACHE_BYTES,
    sync::{FairLock, lock},
};

/// The format of the tables and the journal. A newer one is refused, an older one is raised: see [`raise`].
pub(crate) const FORMAT: u32 = 5;

/// The file of the tables in the data directory.
pub(crate) const STORAGE_FILE: &str = "node.redb";

/// The file of the journal.
pub(crate) const JOURNAL_FILE: &str = "node.journal";

pub(crate) type Result<T, E = StorageError> = std::result::Result<T, E>;

/// One change. A list of them is one record of the journal, and one transaction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Row {
    State(states::Row),
    Key(keys::Row),
}

impl Row {
    /// Returns true if a tide may have other waves or rocks under the same aeons from here on.
    fn replaces_history(&self) -> bool {
        use states::Row::{Drop, DropHistory, Import};
        matches!(self, Self::State(Drop { .. } | DropHistory { .. } | Import { .. }))
    }
}

/// The disk of a node. A failure leaves everything that was acknowledged: the next write tries to mend it first.
pub(crate) struct Disk {
    /// `None` where the disk is only looked at.
    journal: Option<Mutex<Journal>>,
    /// The turns of the threads that write.
    writing: FairLock,
    applier: Applier,
    /// The record that was too large for the journal and whose outcome is unknown, where it changes keys: memory lacks those.
    unknown: Mutex<Option<u64>>,
    /// Held for as long as the files are open, and released after them.
    data_dir: Mutex<Option<DataDir>>,
}

/// Every error of redb becomes a [`StorageError`] with its text.
pub(crate) fn failed(error: impl Into<redb::Error>) -> StorageError {
    match error.into() {
        // A file that ends too soon, or is not of redb, is no fault of the disk.
        redb::Error::Io(error) if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
            StorageError::new(error)
        }
        error @ (redb::Error::Io(_) | redb::Error::PreviousIo) => StorageError::of_disk(error),
        error @ redb::Error::DatabaseAlreadyOpen => StorageError::held(error),
        error => StorageError::new(error),
    }
}

/// redb asserts what it reads; a damaged file can make it panic instead of err.
pub(crate) fn guarded<T>(what: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(what)).unwrap_or_else(|panic| Err(StorageError::new(panic_message(&*panic))))
}

/// Returns true if there is a storage. One that is gone while a run has left its mark, or its journal, is damage.
fn is_there(path: &Path, marks: &RunMarks) -> Result<bool, OpenError> {
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(_) => Ok(true),
        // The journal is made after the tables.
        Err(error)
            if error.kind() == ErrorKind::NotFound && !marks.any() && !path.with_file_name(JOURNAL_FILE).exists() =>
        {
            Ok(false)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let reason = "it is gone, and an earlier run had it".to_owned();
            Err(OpenError::Damaged { path: path.to_owned(), reason })
        }
        Err(error) => Err(OpenError::of_file(path, error)),
    }
}

impl Disk {
    /// Opens the files of a data directory, which are made where there are none. True comes with it where the storage is not the one
    /// that this directory had last: a backup was restored, perhaps of an older day.
    pub(crate) fn open(data_dir: DataDir) -> Result<(Self, bool), OpenError> {
        Self::open_sized(data_dir, HALF_BYTES)
    }

    pub(crate) fn open_sized(data_dir: DataDir, half_bytes: usize) -> Result<(Self, bool), OpenError> {
        let dir = &*data_dir.path().to_owned();
        let path = dir.join(STORAGE_FILE);
        let unusable = |error: StorageError| OpenError::of_storage(&path, error);
        let marks = RunMarks::read(dir)?;
        if !is_there(&path, &marks)? {
            create(&path)?;
        }
        let journal_path = dir.join(JOURNAL_FILE);
        // Before they are opened, which may rewrite them.
        let are_same_files = marks.are_of(&path, &journal_path);
        let file = RedbFile::new(&path, STORE_CACHE_BYTES);
        let mut database = open_by(dir, || open_database(&file))?;
        let found = format_of(&database, &path)?;
        if found > FORMAT {
            return Err(OpenError::NewerFormat { dir: dir.to_owned(), found, known: FORMAT });
        }
        if found < FORMAT {
            drop(database);
            raise::raise(dir, &file)?;
            database = open_by(dir, || open_database(&file))?;
        }
        belongs::to_this_node(&database, dir)?;
        let of_journal = |error: StorageError| OpenError::of_storage(&journal_path, error);
        let has_journal = has_journal(&database, &path, &journal_path, &marks)?;
        if !has_journal {
            belongs::forget_journal(&database).map_err(unusable)?;
            Journal::create(&journal_path, half_bytes).map_err(of_journal)?;
        }
        belongs::to_these_tables(&database, dir)?;
        let (mut journal, records) = Journal::open(&journal_path, half_bytes).map_err(of_journal)?;
        let applied = replay::replay(&database, records, u64::MAX).map_err(of_journal)?;
        journal.go_on_after(applied);
        if found == FORMAT {
            // An earlier run made these files, and both could be read.
            raise::forget_earlier(dir);
        }
        let mark = meta_in(&database, states::META_MARK).map_err(unusable)?;
        // What a journal had that was emptied is lost.
        let is_restored = mark.as_deref().is_some_and(|mark| !(has_journal && are_same_files && marks.vouch_for(mark)));
        let on_rewritten = {
            let (dir, path) = (dir.to_owned(), path.clone());
            // The next start must not take it for a restored copy.
            move || {
                let noted = RunMarks::read(&dir).and_then(|marks| marks.moved_to(&path).write(&dir));
                if let Err(error) = noted {
                    // No reader is wrong about that: it begins with a rock then.
                    tracing::warn!(%error, "the next start takes the storage for a restored copy");
                }
            }
        };
        let tables = Tables::new(file, (&journal_path, half_bytes), database, applied, on_rewritten);
        let applier = tables.and_then(Applier::start).map_err(unusable)?;
        let disk = Self {
            journal: Some(Mutex::new(journal)),
            writing: FairLock::default(),
            applier,
            unknown: Mutex::default(),
            data_dir: Mutex::new(Some(data_dir)),
        };
        // The file beside the storage is written first and knows both marks, so that a crash in between is no restoration. The mark in
        // the tables is written by whoever has done what a restoration takes.
        // A start of a restored copy that ends before that is repeated as one: nothing vouches for it.
        let mark = mark.filter(|_| !is_restored);
        marks.next(mark, &path, &journal_path).write(dir)?;
        Ok((disk, is_restored))
    }

    /// Notes in the tables that this run has begun, of which node, and with which journal.
    pub(crate) fn mark_run(&self, dir: &Path) -> Result<(), OpenError> {
        let mark = RunMarks::read(dir)?.newest().to_vec();
        let row = states::Row::Meta { key: states::META_MARK.to_owned(), value: mark.into() };
        let mut rows = belongs::rows(dir)?;
        rows.push(Row::State(row));
        self.write(rows).map_err(|error| OpenError::of_write(&dir.join(STORAGE_FILE), error))
    }

    /// Opens the files to be looked at: as [`Self::open`] does, but its writes are kept in memory, and no run leaves its mark.
    /// `None` where there is no storage yet. The caller holds the directory.
    pub(crate) fn look(dir: &Path) -> Result<Option<Self>, OpenError> {
        let path = dir.join(STORAGE_FILE);
        let marks = RunMarks::read(dir)?;
        if !is_there(&path, &marks)? {
            return Ok(None);
        }
        let unusable = |error: StorageError| OpenError::of_storage(&path, error);
        let file = RedbFile::new(&path, STORE_CACHE_BYTES);
        let database = open_by(dir, || {
            is_not_empty(file.path())?;
            file.look()
        })?;
        let found = format_of(&database, &path)?;
        if found > FORMAT {
            return Err(OpenError::NewerFormat { dir: dir.to_owned(), found, known: FORMAT });
        }
        if found < FORMAT {
            raise::bring_up(&database, dir)?;
        } else {
            belongs::to_this_node(&database, dir)?;
            let journal_path = dir.join(JOURNAL_FILE);
            let of_journal = |error: StorageError| OpenError::of_storage(&journal_path, error);
            if has_journal(&database, &path, &journal_path, &marks)? {
                belongs::to_these_tables(&database, dir)?;
                let records = Journal::read(&journal_path, HALF_BYTES).map_err(of_journal)?;
                replay::replay(&database, records, u64::MAX).map_err(of_journal)?;
            }
        }
        let tables = Tables::new(file, (Path::new(""), 0), database, 0, || {}).map_err(unusable)?;
        Ok(Some(Self {
            journal: None,
            writing: FairLock::default(),
            applier: Applier::of_looked(tables),
            unknown: Mutex::default(),
            data_dir: Mutex::default(),
        }))
    }

    /// Makes changes durable, all or none, or reports that the outcome is unknown. After a failure everything that was acknowledged
    /// stands, and the next write tries to mend first. A write with an unknown outcome may be there after a crash, unless a later
    /// write was acknowledged: that has taken it back first. Every change can be written again, and leads to the same state.
    pub(crate) fn write(&self, rows: Vec<Row>) -> Result<(), WriteError> {
        let result = self.try_write(rows);
        match &result {
            Ok(()) => {
                self.applier.complaints().works();
            }
            Err(error) => self.applier.complaints().fails(error),
        }
        result
    }

    fn try_write(&self, rows: Vec<Row>) -> Result<(), WriteError> {
        let record = encode(&rows).map_err(StorageError::new)?;
        let looked_at = || StorageError::new("the storage is only looked at");
        let _turn = self.writing.lock();
        let mut journal = lock(self.journal.as_ref().ok_or_else(looked_at)?);
        // Tables that cannot be written would let the journal grow without bound.
        let applied = self.applier.mend()?;
        let mut unknown = lock(&self.unknown);
        if unknown.is_some_and(|unknown| unknown <= applied) {
            let reason = "a write that had failed is in the tables after all, and memory lacks it: restart the node";
            return Err(StorageError::of_disk(reason).into());
        }
        *unknown = None;
        journal.go_on_after(applied);
        journal.mend().map_err(StorageError::of_disk)?;
        if !journal.has_place_for(&record) {
            let number = journal.next_number();
            let has_keys = rows.iter().any(|row| matches!(row, Row::Key(_)));
            let written = self.applier.through(number, rows);
            if has_keys && matches!(written, Err(WriteError::Unknown(_))) {
                *unknown = Some(number);
            }
            written?;
            journal.go_on_after(number);
            return Ok(());
        }
        if !journal.fits(&record) {
            self.applier.flush(journal.needed_of_other())?;
            journal.turn();
        }
        match journal.append(&record) {
            Ok(number) => {
                self.applier.apply(number, rows, record.len());
                Ok(())
            }
            Err(error) => {
                let error = StorageError::of_disk(error);
                // Where its place is overwritten, and flushed, it did not happen.
                Err(match journal.mend() {
                    Ok(()) => error.into(),
                    Err(_) => OutcomeUnknown::from(error).into(),
                })
            }
        }
    }

    /// Makes rows durable to which nothing refers yet, in a transaction of their own.
    fn beside(&self, rows: Vec<Row>) -> Result<()> {
        self.applier.beside(rows)
    }

    fn bodies(&self) -> &Bodies {
        self.applier.bodies()
    }

    /// The number of a new body.
    pub(crate) fn body_number(&self) -> u64 {
        self.bodies().number()
    }

    /// The first number of those for the bodies of a copied history.
    pub(crate) fn body_numbers(&self) -> u64 {
        self.bodies().numbers()
    }

    /// Reads the tables, with everything that was acknowledged before.
    pub(crate) fn reading<T>(&self, work: impl FnOnce(&ReadTransaction) -> Result<T>) -> Result<T> {
        self.applier.reading(work)
    }

    /// Reads waves and rocks: without those that are not in the tables yet, and with some that are dropped. No history is in the place
    /// of another one.
    pub(crate) fn reading_history<T>(&self, work: impl FnOnce(&ReadTransaction) -> Result<T>) -> Result<T> {
        self.applier.reading_history(work)
    }

    pub(crate) fn meta(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.reading(|txn| meta_of(txn, key))
    }

    /// Closes the files for good, with everything in the tables. Later calls fail.
    pub(crate) fn close(&self) {
        // A write in progress finishes first.
        let _journal = self.journal.as_ref().map(lock);
        self.applier.close();
        drop(lock(&self.data_dir).take());
    }

    #[cfg(test)]
    pub(crate) fn has_orphans(&self) -> bool {
        self.bodies().has_orphans()
    }

    /// The applier, to let it fail.
    #[cfg(test)]
    pub(crate) fn applier(&self) -> &Applier {
        &self.applier
    }
}

/// Opens the tables. A file that another program has open is in use.
fn open_by(dir: &Path, open: impl FnOnce() -> Result<Database>) -> Result<Database, OpenError> {
    let path = dir.join(STORAGE_FILE);
    match open() {
        Err(error) if error.is_held() => {
            let holder = format!("another program, which has {} open", path.display());
            Err(OpenError::InUse { dir: dir.to_owned(), holder })
        }
        opened => opened.map_err(|error| OpenError::of_storage(&path, error)),
    }
}

fn format_of(database: &Database, path: &Path) -> Result<u32, OpenError> {
    let format = meta_in(database, states::META_FORMAT).map_err(|error| OpenError::of_storage(path, error))?;
    let Some(format) = format else {
        return Err(OpenError::Damaged { path: path.to_owned(), reason: "it has no format".to_owned() });
    };
    Ok(<[u8; 4]>::try_from(&format[..]).map(u32::from_le_bytes).unwrap_or(u32::MAX))
}

/// Returns true if there is a journal to be read. One that is missing may hold acknowledged writes. An empty file in its place is the
/// owner's word that it is lost.
fn has_journal(database: &Database, path: &Path, journal: &Path, marks: &RunMarks) -> Result<bool, OpenError> {
    let unusable = |error| OpenError::of_storage(path, error);
    let applied = number_in(database, states::META_APPLIED).map_err(unusable)?.unwrap_or_default();
    // Nothing was acknowledged before the first run has left its mark.
    let is_new = applied == 0 && !marks.any() && meta_in(database, states::META_MARK).map_err(unusable)?.is_none();
    match fs::metadata(journal).map(|file| file.len()) {
        Ok(0) => Ok(false),
        Ok(_) => Ok(true),
        Err(error) if error.kind() != ErrorKind::NotFound => Err(OpenError::of_file(journal, error)),
        Err(_) if is_new => Ok(false),
        Err(_) => Err(OpenError::JournalMissing { path: journal.to_owned() }),
    }
}

fn meta_of(txn: &ReadTransaction, key: &str) -> Result<Option<Vec<u8>>> {
    match txn.open_table(states::META) {
        Ok(table) => Ok(table.get(key).map_err(failed)?.map(|value| value.value().to_vec())),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

fn meta_in(database: &Database, key: &str) -> Result<Option<Vec<u8>>> {
    guarded(|| meta_of(&database.begin_read().map_err(failed)?, key))
}

fn number_in(database: &Database, key: &str) -> Result<Option<u64>> {
    let found = meta_in(database, key)?;
    found.map(|bytes| <[u8; 8]>::try_from(&bytes[..]).map(u64::from_le_bytes).map_err(StorageError::new)).transpose()
}

fn set_number(txn: &WriteTransaction, key: &'static str, value: u64) -> Result<()> {
    let mut meta = txn.open_table(states::META).map_err(failed)?;
    meta.insert(key, &value.to_le_bytes()[..]).map_err(failed)?;
    Ok(())
}

fn apply(txn: &WriteTransaction, rows: &[Row], left: &mut Left) -> Result<()> {
    let states = rows.iter().filter_map(|row| if let Row::State(row) = row { Some(row) } else { None });
    states::apply(txn, states, left)?;
    keys::apply(txn, rows.iter().filter_map(|row| if let Row::Key(row) = row { Some(row) } else { None }))
}

/// Makes every table that is missing, so that no reader meets one, and notes the format.
fn make_tables(txn: &WriteTransaction) -> Result<()> {
    states::create_all(txn).map_err(failed)?;
    keys::create_all(txn).map_err(failed)?;
    let mut meta = txn.open_table(states::META).map_err(failed)?;
    meta.insert(states::META_FORMAT, &FORMAT.to_le_bytes()[..]).map_err(failed)?;
    Ok(())
}

/// Makes the tables at the first opening: beside their place, and moved there when they are whole. So a crash on the way leaves a
/// directory that is still new, and a file in its place that is not whole is damaged.
fn create(path: &Path) -> Result<(), OpenError> {
    let draft = path.with_extension("redb.new");
    let of_file = |error| OpenError::of_file(path, error);
    // The data directory may be one that others can look into; its files are private.
    let mut options = OpenOptions::new();
    let file = private(options.read(true).write(true).create(true).truncate(true)).open(&draft).map_err(of_file)?;
    let made = guarded(|| {
        let database = RedbFile::new(path, STORE_CACHE_BYTES).database(&draft, file)?;
        replay::transaction(&database, make_tables)?;
        database.close().map_err(failed)
    });
    made.map_err(|error| OpenError::of_storage(path, error))?;
    fs::rename(&draft, path).map_err(of_file)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all()).map_err(of_file)
}

/// Opens tables that are there. redb would take an empty file for a new one.
fn open_database(file: &RedbFile) -> Result<Database> {
    is_not_empty(file.path())?;
    file.open()
}

fn is_not_empty(path: &Path) -> Result<()> {
    match fs::metadata(path).map_err(StorageError::of_disk)?.len() {
        0 => Err(StorageError::new("it is empty")),
        _ => Ok(()),
    }
}
