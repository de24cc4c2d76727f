//! Storage of the key-value store: one redb file with every document's entries, marks and pairing.
//!
//! It is the truth, and the journal too: an entry is here, flushed, before anyone is told of it.
//! Peers, the docs engine and the view follow it, each by a mark of its own in the log of an author,
//! which has the newest entry of each key in the order of the author's counter. So one flush makes
//! an entry, its value and its place in the log durable together, an old value goes in the same
//! transaction that replaces it, and whoever was behind at a crash goes on from its mark.

use std::{
    fs::OpenOptions,
    ops::Bound,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use groundswell_core::{
    encoding::{decode, encode},
    kv::{KvAuthor, Stamp},
};
use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
    backends::FileBackend,
};
use serde::{Deserialize, Serialize};

use super::sealed::Sealed;
use crate::{
    error::{OpenError, StorageError, panic_message},
    identity::private,
    limits::{KV_CACHE_BYTES, READ_ENTRIES_BYTES},
    source::PeerId,
    sync::{read, write},
};

/// The format of the tables. A newer one is refused.
const FORMAT: u64 = 1;

/// The node's own numbers by name.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Number of a document -> its encoded row.
const DOCUMENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("documents");
/// (document, author, document key) -> the encoded newest entry of that author.
const ENTRIES: TableDefinition<'_, (u64, u8, [u8; 32]), &[u8]> = TableDefinition::new("entries");
/// (document, author, counter, document key): the log of an author.
const LOG: TableDefinition<'_, (u64, u8, u64, [u8; 32]), ()> = TableDefinition::new("log");
/// (document, author, which mark) -> counter.
const MARKS: TableDefinition<'_, (u64, u8, u8), u64> = TableDefinition::new("marks");
/// Document -> the encoded stamp below which its clock may give.
const CLOCKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("clocks");
/// (document, author, document key) -> counter of an entry whose value is not here yet.
const MISSING: TableDefinition<'_, (u64, u8, [u8; 32]), u64> = TableDefinition::new("missing");

const META_FORMAT: &str = "format";
const META_WRITE: &str = "write";
const META_ROLE: &str = "role";

/// A place in the log of an author.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mark {
    /// Every entry up to here is in storage, or a newer one of its key.
    Held = 0,
    /// Every entry up to here is in the docs document, flushed.
    Fed = 1,
    /// Counters below this one may be given.
    Bound = 2,
}

/// How a document stands with the other side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Standing {
    /// No manager has claimed the machine.
    Unclaimed,
    /// Shared with a peer, whose entries this author signs.
    Paired { peer: PeerId, author: [u8; 32] },
    /// The manager has given the machine up, and it is still to be told.
    Releasing { peer: PeerId },
    /// The machine has left; what is here can still be read.
    Released { peer: PeerId },
}

/// What is stored of a document besides its entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DocumentRow {
    /// The secret that allows to write, and so to read.
    pub(crate) secret: [u8; 32],
    pub(crate) standing: Standing,
}

/// The role of this node. A data directory has one for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Role {
    Machine = 1,
    Manager = 2,
}

/// One change. A list of them is one transaction.
pub(crate) enum Row {
    Document {
        number: u64,
        row: DocumentRow,
    },
    /// A document goes, with everything it has.
    Drop {
        number: u64,
    },
    Entry {
        number: u64,
        entry: Sealed,
    },
    Mark {
        number: u64,
        author: KvAuthor,
        mark: Mark,
        counter: u64,
    },
    Clock {
        number: u64,
        bound: Stamp,
    },
    Missing {
        number: u64,
        author: KvAuthor,
        key: [u8; 32],
        counter: u64,
    },
    Role(Role),
}

/// What is stored of one document, at its opening.
pub(crate) struct Loaded {
    pub(crate) entries: Vec<Sealed>,
    pub(crate) clock: Option<Stamp>,
    /// Up to where both authors' entries are held.
    pub(crate) held: [u64; 2],
    pub(crate) bound: u64,
}

pub(crate) struct Storage {
    path: PathBuf,
    database: RwLock<Option<Database>>,
    closed: AtomicBool,
    /// The number of the newest transaction that was tried, which each writes with what it holds.
    last_write: AtomicU64,
    #[cfg(test)]
    failing: AtomicBool,
}

type Result<T, E = StorageError> = std::result::Result<T, E>;

fn failed(error: impl Into<redb::Error>) -> StorageError {
    StorageError::new(error.into())
}

/// redb asserts what it reads; a damaged file can make it panic instead of err.
fn guarded<T>(what: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(what)).unwrap_or_else(|panic| Err(StorageError::new(panic_message(&*panic))))
}

pub(crate) fn index(author: KvAuthor) -> usize {
    match author {
        KvAuthor::Machine => 0,
        KvAuthor::Manager => 1,
    }
}

fn number_of(author: KvAuthor) -> u8 {
    index(author) as u8
}

pub(crate) const AUTHORS: [KvAuthor; 2] = [KvAuthor::Machine, KvAuthor::Manager];

/// An author's document key whose value is not here.
pub(crate) type MissingKey = (KvAuthor, [u8; 32]);

impl Storage {
    /// Opens the file, or makes it. A data directory keeps the role that it had first.
    pub(crate) fn open(path: &Path, role: Role) -> Result<Self, OpenError> {
        let damaged = |error: StorageError| OpenError::of_storage(path, error);
        let database = guarded(|| open_database(path)).map_err(damaged)?;
        let storage = Self {
            path: path.to_owned(),
            database: RwLock::new(Some(database)),
            closed: AtomicBool::new(false),
            last_write: AtomicU64::new(rand::random()),
            #[cfg(test)]
            failing: AtomicBool::new(false),
        };
        storage.transaction(create_all).map_err(damaged)?;
        match storage.meta(META_FORMAT).map_err(damaged)? {
            None => storage.transaction(|txn| set_meta(txn, META_FORMAT, FORMAT)).map_err(damaged)?,
            Some(FORMAT) => {}
            Some(found) => {
                let found = u32::try_from(found).unwrap_or(u32::MAX);
                return Err(OpenError::NewerFormat { dir: path.to_owned(), found, known: FORMAT as u32 });
            }
        }
        match storage.meta(META_ROLE).map_err(damaged)? {
            None => storage.write(&[Row::Role(role)]).map_err(damaged)?,
            Some(found) if found == role as u64 => {}
            Some(_) => return Err(OpenError::OtherRole { dir: path.parent().unwrap_or(path).to_owned() }),
        }
        Ok(storage)
    }

    /// Makes changes durable, all or none. After a failure the file is opened anew, so that what was
    /// acknowledged can be read.
    pub(crate) fn write(&self, rows: &[Row]) -> Result<()> {
        let number = self.last_write.fetch_add(1, Ordering::SeqCst).wrapping_add(1);
        let result = self.transaction(|txn| {
            apply(txn, rows)?;
            set_meta(txn, META_WRITE, number)
        });
        if let Err(error) = &result {
            tracing::error!(%error, "storage failed; what was acknowledged stands");
            self.reopen();
            // The last flush can fail after everything was written.
            if self.meta(META_WRITE).is_ok_and(|stored| stored == Some(number)) {
                return Ok(());
            }
        }
        result
    }

    fn transaction(&self, work: impl FnOnce(&WriteTransaction) -> Result<()>) -> Result<()> {
        #[cfg(test)]
        if self.failing.load(Ordering::SeqCst) {
            return Err(StorageError::new("made to fail by a test"));
        }
        if read(&self.database).is_none() {
            self.reopen();
        }
        let guard = read(&self.database);
        let database = guard.as_ref().ok_or_else(|| StorageError::new("the storage file cannot be opened again"))?;
        guarded(|| {
            let txn = database.begin_write().map_err(failed)?;
            work(&txn)?;
            txn.commit().map_err(failed)
        })
    }

    /// Lets every transaction fail, or none.
    #[cfg(test)]
    pub(crate) fn fail(&self, fail: bool) {
        self.failing.store(fail, Ordering::SeqCst);
    }

    fn reading<T>(&self, work: impl FnOnce(&ReadTransaction) -> Result<T>) -> Result<T> {
        if read(&self.database).is_none() {
            self.reopen();
        }
        let guard = read(&self.database);
        let database = guard.as_ref().ok_or_else(|| StorageError::new("the storage file cannot be opened again"))?;
        guarded(|| work(&database.begin_read().map_err(failed)?))
    }

    fn reopen(&self) {
        let mut database = write(&self.database);
        if self.closed.load(Ordering::SeqCst) {
            return;
        }
        // Closed first: the file is locked by who has it open.
        drop(database.take());
        match guarded(|| open_database(&self.path)) {
            Ok(opened) => *database = Some(opened),
            Err(error) => tracing::error!(%error, "the storage cannot be opened again yet"),
        }
    }

    /// Closes the file for good; whoever asks afterwards gets an error.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        drop(write(&self.database).take());
    }

    fn meta(&self, key: &str) -> Result<Option<u64>> {
        self.reading(|txn| {
            let table = txn.open_table(META).map_err(failed)?;
            Ok(table.get(key).map_err(failed)?.map(|value| value.value()))
        })
    }

    /// Every document.
    pub(crate) fn documents(&self) -> Result<Vec<(u64, DocumentRow)>> {
        self.reading(|txn| {
            let table = txn.open_table(DOCUMENTS).map_err(failed)?;
            let rows = table.iter().map_err(failed)?.map(|row| {
                let (number, row) = row.map_err(failed)?;
                Ok((number.value(), decode(row.value()).map_err(StorageError::new)?))
            });
            rows.collect()
        })
    }

    /// Everything of one document.
    pub(crate) fn load(&self, number: u64) -> Result<Loaded> {
        self.reading(|txn| {
            let table = txn.open_table(ENTRIES).map_err(failed)?;
            let mut entries = Vec::new();
            for author in AUTHORS {
                let author_number = number_of(author);
                let range = (number, author_number, [0; 32])..=(number, author_number, [255; 32]);
                for row in table.range(range).map_err(failed)? {
                    let (key, entry) = row.map_err(failed)?;
                    entries.push(Sealed::from_stored(author, key.value().2, entry.value()).map_err(StorageError::new)?);
                }
            }
            let clocks = txn.open_table(CLOCKS).map_err(failed)?;
            let clock = clocks.get(number).map_err(failed)?;
            let clock = clock.map(|bound| decode(bound.value()).map_err(StorageError::new)).transpose()?;
            let marks = txn.open_table(MARKS).map_err(failed)?;
            let mark = |author: KvAuthor, mark: Mark| {
                let found = marks.get((number, number_of(author), mark as u8)).map_err(failed)?;
                Ok::<_, StorageError>(found.map_or(0, |counter| counter.value()))
            };
            let both = |which: Mark| Ok::<_, StorageError>([mark(AUTHORS[0], which)?, mark(AUTHORS[1], which)?]);
            let bound = both(Mark::Bound)?.into_iter().max().unwrap_or_default();
            Ok(Loaded { entries, clock, held: both(Mark::Held)?, bound })
        })
    }

    /// Up to where both authors' entries are in the docs document.
    pub(crate) fn fed(&self, number: u64) -> Result<[u64; 2]> {
        self.reading(|txn| {
            let marks = txn.open_table(MARKS).map_err(failed)?;
            let mark = |author: KvAuthor| {
                let found = marks.get((number, number_of(author), Mark::Fed as u8)).map_err(failed)?;
                Ok::<_, StorageError>(found.map_or(0, |counter| counter.value()))
            };
            Ok([mark(AUTHORS[0])?, mark(AUTHORS[1])?])
        })
    }

    /// The entries of an author after this counter, in order, as many as fit into
    /// [`READ_ENTRIES_BYTES`]; at least one where there is one.
    pub(crate) fn entries_after(&self, number: u64, author: KvAuthor, counter: u64) -> Result<Vec<Sealed>> {
        let Some(next) = counter.checked_add(1) else { return Ok(Vec::new()) };
        self.reading(|txn| {
            let log = txn.open_table(LOG).map_err(failed)?;
            let table = txn.open_table(ENTRIES).map_err(failed)?;
            let author_number = number_of(author);
            let range = (number, author_number, next, [0; 32])..=(number, author_number, u64::MAX, [255; 32]);
            let (mut entries, mut bytes) = (Vec::new(), 0);
            for row in log.range(range).map_err(failed)? {
                let (place, _) = row.map_err(failed)?;
                let key = place.value().3;
                let Some(entry) = table.get((number, author_number, key)).map_err(failed)? else { continue };
                let entry = entry.value();
                bytes += entry.len();
                if bytes > READ_ENTRIES_BYTES && !entries.is_empty() {
                    break;
                }
                entries.push(Sealed::from_stored(author, key, entry).map_err(StorageError::new)?);
            }
            Ok(entries)
        })
    }

    /// One author's entry of a document key.
    pub(crate) fn entry(&self, number: u64, author: KvAuthor, key: [u8; 32]) -> Result<Option<Sealed>> {
        self.reading(|txn| {
            let table = txn.open_table(ENTRIES).map_err(failed)?;
            let row = table.get((number, number_of(author), key)).map_err(failed)?;
            row.map(|row| Sealed::from_stored(author, key, row.value()).map_err(StorageError::new)).transpose()
        })
    }

    /// The entries whose values are not here yet, after this one, as many as this at most.
    pub(crate) fn missing_after(
        &self,
        number: u64,
        after: Option<MissingKey>,
        limit: usize,
    ) -> Result<Vec<MissingKey>> {
        let from = match after {
            None => Bound::Included((number, 0, [0; 32])),
            Some((author, key)) => Bound::Excluded((number, number_of(author), key)),
        };
        let to = Bound::Included((number, u8::MAX, [255; 32]));
        self.reading(|txn| {
            let table = txn.open_table(MISSING).map_err(failed)?;
            let rows = table.range((from, to)).map_err(failed)?.take(limit).map(|row| {
                let (key, _) = row.map_err(failed)?;
                let (_, author, key) = key.value();
                Ok((AUTHORS[usize::from(author.min(1))], key))
            });
            rows.collect()
        })
    }
}

fn open_database(path: &Path) -> Result<Database> {
    let mut builder = Database::builder();
    builder.set_cache_size(KV_CACHE_BYTES);
    let mut options = OpenOptions::new();
    let file = private(options.read(true).write(true).create(true).truncate(false)).open(path);
    let backend = FileBackend::new(file.map_err(StorageError::new)?).map_err(failed)?;
    builder.create_with_backend(backend).map_err(failed)
}

fn create_all(txn: &WriteTransaction) -> Result<()> {
    txn.open_table(META).map_err(failed)?;
    txn.open_table(DOCUMENTS).map_err(failed)?;
    txn.open_table(ENTRIES).map_err(failed)?;
    txn.open_table(LOG).map_err(failed)?;
    txn.open_table(MARKS).map_err(failed)?;
    txn.open_table(CLOCKS).map_err(failed)?;
    txn.open_table(MISSING).map_err(failed)?;
    Ok(())
}

fn set_meta(txn: &WriteTransaction, key: &'static str, value: u64) -> Result<()> {
    txn.open_table(META).map_err(failed)?.insert(key, value).map_err(failed)?;
    Ok(())
}

fn apply(txn: &WriteTransaction, rows: &[Row]) -> Result<()> {
    let mut entries = txn.open_table(ENTRIES).map_err(failed)?;
    let mut log = txn.open_table(LOG).map_err(failed)?;
    let mut marks = txn.open_table(MARKS).map_err(failed)?;
    let mut missing = txn.open_table(MISSING).map_err(failed)?;
    for row in rows {
        match row {
            Row::Document { number, row } => {
                let row = encode(row).map_err(StorageError::new)?;
                txn.open_table(DOCUMENTS).map_err(failed)?.insert(number, &row[..]).map_err(failed)?;
            }
            Row::Drop { number } => {
                txn.open_table(DOCUMENTS).map_err(failed)?.remove(number).map_err(failed)?;
                txn.open_table(CLOCKS).map_err(failed)?.remove(number).map_err(failed)?;
                let all = (*number, 0, [0; 32])..=(*number, u8::MAX, [255; 32]);
                entries.retain_in(all.clone(), |_, _| false).map_err(failed)?;
                missing.retain_in(all, |_, _| false).map_err(failed)?;
                let all = (*number, 0, 0, [0; 32])..=(*number, u8::MAX, u64::MAX, [255; 32]);
                log.retain_in(all, |_, _| false).map_err(failed)?;
                marks.retain_in((*number, 0, 0)..=(*number, u8::MAX, u8::MAX), |_, _| false).map_err(failed)?;
            }
            Row::Entry { number, entry } => {
                let author = number_of(entry.author);
                let place = (*number, author, entry.key);
                let stored = entry.to_stored();
                // An older one than was announced leaves that one missing.
                let announced = missing.get(place).map_err(failed)?.map(|counter| counter.value());
                if announced.is_some_and(|announced| announced <= entry.counter) {
                    missing.remove(place).map_err(failed)?;
                }
                let before = entries.get(place).map_err(failed)?.map(|before| before.value().to_vec());
                let before = before.map(|before| Sealed::from_stored(entry.author, entry.key, &before));
                if let Some(before) = before.transpose().map_err(StorageError::new)? {
                    if before.rank() >= entry.rank() {
                        continue;
                    }
                    log.remove((*number, author, before.counter, entry.key)).map_err(failed)?;
                }
                entries.insert(place, &stored[..]).map_err(failed)?;
                log.insert((*number, author, entry.counter, entry.key), ()).map_err(failed)?;
            }
            Row::Mark { number, author, mark, counter } => {
                marks.insert((*number, number_of(*author), *mark as u8), counter).map_err(failed)?;
            }
            Row::Clock { number, bound } => {
                let bound = encode(bound).map_err(StorageError::new)?;
                txn.open_table(CLOCKS).map_err(failed)?.insert(number, &bound[..]).map_err(failed)?;
            }
            Row::Missing { number, author, key, counter } => {
                let place = (*number, number_of(*author), *key);
                let held = entries.get(place).map_err(failed)?.map(|entry| entry.value().to_vec());
                let held = held.map(|held| Sealed::from_stored(*author, *key, &held).map_err(StorageError::new));
                let held = held.transpose()?.map(|held| held.counter);
                let announced = missing.get(place).map_err(failed)?.map(|announced| announced.value());
                if held.max(announced).is_none_or(|newest| newest < *counter) {
                    missing.insert(place, counter).map_err(failed)?;
                }
            }
            Row::Role(role) => set_meta(txn, META_ROLE, *role as u64)?,
        }
    }
    Ok(())
}
