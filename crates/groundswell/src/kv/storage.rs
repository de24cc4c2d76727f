//! Storage of the key-value store: a redb file with every document's entries, marks and pairing, and
//! a journal before it.
//!
//! The two are the truth: an entry is in the journal, flushed, before anyone is told of it. A thread
//! brings it into the tables at once, and makes those durable now and then; whoever reads the
//! tables waits for that thread. Peers, the docs engine and the view follow, each by a mark of its
//! own in the log of an author, which has the newest entry of each key in the order of the author's
//! counter. So one flush makes an entry, its value and its place in the log durable together, an old
//! value goes in the same record that replaces it, and whoever was behind at a crash goes on from
//! its mark.

mod applier;
mod journal;
mod tables;

use std::{collections::BTreeMap, ops::Bound, path::Path, sync::Mutex};

use groundswell_core::{
    encoding::{decode, encode},
    kv::{KvAuthor, Stamp, sync::EntryKey},
};
use redb::{ReadTransaction, ReadableDatabase, ReadableTable, TableError};

use super::sealed::Sealed;
use crate::{
    error::{OpenError, OutcomeUnknown, StorageError, WriteError},
    ids::{Done, WriteId},
    limits::{KV_CACHE_BYTES, READ_ENTRIES_BYTES},
    store::{RedbFile, failed, guarded},
    sync::lock,
};
use applier::Applier;
use journal::{Found, HALF_BYTES, Journal};
pub use tables::Role;
use tables::{
    CLOCKS, DOCUMENTS, ENTRIES, IDS, LOG, MARKS, META, META_APPLIED, META_FORMAT, META_ROLE, MISSING, create_all,
    look_at_database, open_database, set_meta,
};
pub(crate) use tables::{DocumentRow, Mark, Outcome, Row, Standing};

/// The format of the tables and the journal. A newer one is refused. Older ones are raised: 1 had no journal, that
/// of 2 had digests without a key, and 3 had no ids of writes.
const FORMAT: u64 = 4;

/// What is stored of one document, at its opening.
pub(crate) struct Loaded {
    pub(crate) entries: Vec<Sealed>,
    pub(crate) clock: Option<Stamp>,
    /// Up to where both authors' entries are held.
    pub(crate) held: [u64; 2],
    pub(crate) bound: u64,
    /// The ids of this side's writes that are remembered.
    pub(crate) ids: BTreeMap<WriteId, Done<Outcome>>,
}

pub(crate) struct Storage {
    journal: Mutex<Journal>,
    applier: Applier,
    /// The record that was too large for the journal, and whose outcome is unknown.
    unknown: Mutex<Option<u64>>,
    #[cfg(test)]
    failing: Mutex<Option<WriteError>>,
}

type Result<T, E = StorageError> = std::result::Result<T, E>;

fn number_of(author: KvAuthor) -> u8 {
    author.index() as u8
}

/// Whose storage this is, if it has a role yet.
pub(super) fn stored_role(path: &Path) -> Result<Option<Role>, OpenError> {
    let of_tables = |error: StorageError| OpenError::of_storage(path, error);
    let database = open_database(&RedbFile::new(path, KV_CACHE_BYTES)).map_err(of_tables)?;
    role_of(&database).map_err(of_tables)
}

fn role_of(database: &redb::Database) -> Result<Option<Role>> {
    Ok(meta(database, META_ROLE)?.and_then(Role::of_number))
}

/// What is to be done at an opening before the journal is read.
enum Journaled {
    /// It is made anew.
    Anew,
    /// It is of format 2: what it holds goes into the tables, and it is made anew.
    Format2(Found),
    /// It is read as it is.
    There,
}

/// Looks at tables that were opened, makes those that are missing, and finds what is to be done with the journal. The format that
/// was found comes along.
fn check(
    database: &redb::Database,
    path: &Path,
    role: Role,
    journal_path: &Path,
) -> Result<(Option<u64>, Journaled), OpenError> {
    let of_tables = |error: StorageError| OpenError::of_storage(path, error);
    let format = meta(database, META_FORMAT).map_err(of_tables)?;
    if let Some(found) = format.filter(|format| *format > FORMAT) {
        let found = u32::try_from(found).unwrap_or(u32::MAX);
        return Err(OpenError::NewerFormat { dir: path.to_owned(), found, known: FORMAT as u32 });
    }
    if meta(database, META_ROLE).map_err(of_tables)?.is_some_and(|found| found != role.number()) {
        return Err(OpenError::OtherRole { dir: path.parent().unwrap_or(path).to_owned() });
    }
    applier::transaction(database, create_all).map_err(of_tables)?;
    // Nothing was acknowledged before the first record.
    let is_used = meta(database, META_APPLIED).map_err(of_tables)?.is_some_and(|applied| applied > 0);
    let length = std::fs::metadata(journal_path).ok().map(|file| file.len());
    let journaled = match (format, length) {
        // An empty file is somebody's word that the journal is lost.
        (None | Some(1), None) | (_, Some(0)) => Journaled::Anew,
        (_, None) if is_used => return Err(OpenError::JournalMissing { path: journal_path.to_owned() }),
        (_, None) => Journaled::Anew,
        (Some(2), Some(_)) => {
            let found = Journal::read_format_2(journal_path);
            let found = found.map_err(|error| OpenError::of_storage(journal_path, error))?;
            found.map_or(Journaled::There, Journaled::Format2)
        }
        (_, Some(_)) => Journaled::There,
    };
    Ok((format, journaled))
}

/// The documents as an opening would find them, in files that stay as they are.
pub(super) struct Looked(redb::Database);

impl Looked {
    /// Does what [`Storage::open`] does, but what that writes is kept in memory. Without a role the one is looked for that the
    /// tables have.
    pub(super) fn open(path: &Path, role: Option<Role>) -> Result<(Self, Option<Role>), OpenError> {
        let of_tables = |error: StorageError| OpenError::of_storage(path, error);
        let journal_path = path.with_extension("journal");
        let of_journal = |error: StorageError| OpenError::of_storage(&journal_path, error);
        let database = look_at_database(&RedbFile::new(path, KV_CACHE_BYTES)).map_err(of_tables)?;
        let role = role.map_or_else(|| role_of(&database), |role| Ok(Some(role))).map_err(of_tables)?;
        // Tables that a crash has left without a role get the one that they are opened for.
        let (_, journaled) = check(&database, path, role.unwrap_or(Role::Machine), &journal_path)?;
        let found = match journaled {
            Journaled::Anew => Found::default(),
            Journaled::Format2(found) => found,
            Journaled::There => Journal::read(&journal_path, HALF_BYTES).map_err(of_journal)?,
        };
        applier::replay(&database, found, u64::MAX).map_err(of_journal)?;
        Ok((Self(database), role))
    }

    pub(super) fn documents(&self) -> Result<Vec<(u64, DocumentRow)>> {
        guarded(|| documents(&self.0.begin_read().map_err(failed)?))
    }

    pub(super) fn load(&self, number: u64) -> Result<Loaded> {
        guarded(|| load(&self.0.begin_read().map_err(failed)?, number))
    }
}

impl Storage {
    /// Opens the files, or makes them. A data directory keeps the role that it had first.
    pub(crate) fn open(path: &Path, role: Role) -> Result<Self, OpenError> {
        Self::open_sized(path, role, HALF_BYTES)
    }

    fn open_sized(path: &Path, role: Role, half_bytes: usize) -> Result<Self, OpenError> {
        let of_tables = |error: StorageError| OpenError::of_storage(path, error);
        let journal_path = path.with_extension("journal");
        let of_journal = |error: StorageError| OpenError::of_storage(&journal_path, error);
        let file = RedbFile::new(path, KV_CACHE_BYTES);
        let database = open_database(&file).map_err(of_tables)?;
        let (format, journaled) = check(&database, path, role, &journal_path)?;
        match journaled {
            Journaled::Anew => Journal::create(&journal_path, half_bytes).map_err(of_journal)?,
            Journaled::Format2(found) => {
                applier::replay(&database, found, u64::MAX).map_err(of_journal)?;
                Journal::create(&journal_path, half_bytes).map_err(of_journal)?;
            }
            Journaled::There => {}
        }
        if format != Some(FORMAT) {
            let raise = |txn: &_| {
                set_meta(txn, META_FORMAT, FORMAT)?;
                set_meta(txn, META_ROLE, role.number())
            };
            applier::transaction(&database, raise).map_err(of_tables)?;
        }
        let (mut journal, found) = Journal::open(&journal_path, half_bytes).map_err(of_journal)?;
        let applied = applier::replay(&database, found, u64::MAX).map_err(of_journal)?;
        journal.go_on_after(applied);
        let applier = Applier::start(file, &journal_path, half_bytes, database, applied).map_err(of_tables)?;
        Ok(Self {
            journal: Mutex::new(journal),
            applier,
            unknown: Mutex::default(),
            #[cfg(test)]
            failing: Mutex::default(),
        })
    }

    /// Makes changes durable, all or none, or says that nobody knows. After a failure what was acknowledged stands, and
    /// the next write tries to mend what failed. What has an unknown outcome may be there after a crash, unless a later
    /// write was acknowledged: that has taken it back first.
    pub(crate) fn write(&self, rows: Vec<Row>) -> Result<(), WriteError> {
        #[cfg(test)]
        if let Some(error) = lock(&self.failing).clone() {
            return Err(error);
        }
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
        let mut journal = lock(&self.journal);
        // A table that can't be written would let the journal grow without bound.
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
            let written = self.applier.through(number, rows);
            if matches!(written, Err(WriteError::Unknown(_))) {
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
                self.applier.apply(number, rows);
                Ok(())
            }
            Err(error) => {
                let error = StorageError::of_disk(error);
                // Where its place is written over, and flushed, it did not happen.
                Err(match journal.mend() {
                    Ok(()) => error.into(),
                    Err(_) => OutcomeUnknown::from(error).into(),
                })
            }
        }
    }

    /// Lets every write fail, or none.
    #[cfg(test)]
    pub(crate) fn fail(&self, fail: bool) {
        self.fail_with(fail.then(|| StorageError::new("made to fail by a test").into()));
    }

    /// Lets every write fail with this error, or none.
    #[cfg(test)]
    pub(crate) fn fail_with(&self, error: Option<WriteError>) {
        *lock(&self.failing) = error;
    }

    fn reading<T>(&self, work: impl FnOnce(&ReadTransaction) -> Result<T>) -> Result<T> {
        self.applier.reading(|database| guarded(|| work(&database.begin_read().map_err(failed)?)))
    }

    /// Closes the files for good, with everything in the tables; whoever asks afterwards gets an error.
    pub(crate) fn close(&self) {
        // Who writes finishes first: the files are for who opens them next.
        let _journal = lock(&self.journal);
        self.applier.close();
    }

    /// Every document.
    pub(crate) fn documents(&self) -> Result<Vec<(u64, DocumentRow)>> {
        self.reading(documents)
    }

    /// Everything of one document.
    pub(crate) fn load(&self, number: u64) -> Result<Loaded> {
        self.reading(|txn| load(txn, number))
    }

    /// Up to where both authors' entries are in the docs document.
    pub(crate) fn fed(&self, number: u64) -> Result<[u64; 2]> {
        self.reading(|txn| {
            let marks = txn.open_table(MARKS).map_err(failed)?;
            let mark = |author: KvAuthor| {
                let found = marks.get((number, number_of(author), Mark::Fed as u8)).map_err(failed)?;
                Ok::<_, StorageError>(found.map_or(0, |counter| counter.value()))
            };
            Ok([mark(KvAuthor::BOTH[0])?, mark(KvAuthor::BOTH[1])?])
        })
    }

    /// The entries of an author after this counter and up to the other, in order, as many as fit into
    /// [`READ_ENTRIES_BYTES`]; at least one where there is one.
    pub(crate) fn entries_after(&self, number: u64, author: KvAuthor, counter: u64, upto: u64) -> Result<Vec<Sealed>> {
        let Some(next) = counter.checked_add(1).filter(|next| *next <= upto) else { return Ok(Vec::new()) };
        self.reading(|txn| {
            let log = txn.open_table(LOG).map_err(failed)?;
            let table = txn.open_table(ENTRIES).map_err(failed)?;
            let author_number = number_of(author);
            let range = (number, author_number, next, [0; 32])..=(number, author_number, upto, [255; 32]);
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

    /// How many keys an author has from this one on and up to before the other, or to the end. Where there are more than
    /// `most`, the key after as many comes with it, and the others are not counted.
    pub(crate) fn keys(
        &self,
        number: u64,
        author: KvAuthor,
        from: [u8; 32],
        below: Option<[u8; 32]>,
        most: usize,
    ) -> Result<(usize, Option<[u8; 32]>)> {
        let author = number_of(author);
        if below.is_some_and(|below| below <= from) {
            return Ok((0, None));
        }
        let to = match below {
            Some(below) => Bound::Excluded((number, author, below)),
            None => Bound::Included((number, author, [255; 32])),
        };
        self.reading(|txn| {
            let table = txn.open_table(ENTRIES).map_err(failed)?;
            let mut count = 0;
            for row in table.range((Bound::Included((number, author, from)), to)).map_err(failed)? {
                if count == most {
                    let (place, _) = row.map_err(failed)?;
                    return Ok((count, Some(place.value().2)));
                }
                count += 1;
            }
            Ok((count, None))
        })
    }

    /// The counters of those of these entries that are here, all from one look.
    pub(crate) fn held(&self, entries: &[(u64, KvAuthor, [u8; 32])]) -> Result<Vec<Option<u64>>> {
        self.reading(|txn| {
            let table = txn.open_table(ENTRIES).map_err(failed)?;
            let held = entries.iter().map(|(number, author, key)| {
                let row = table.get((*number, number_of(*author), *key)).map_err(failed)?;
                // The values may be large, and are not looked at.
                row.map(|row| Sealed::stored_counter(row.value()).map_err(StorageError::new)).transpose()
            });
            held.collect()
        })
    }

    /// The entries whose values are not here yet, after this one, as many as this at most.
    pub(crate) fn missing_after(&self, number: u64, after: Option<EntryKey>, limit: usize) -> Result<Vec<EntryKey>> {
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
                Ok((KvAuthor::BOTH[usize::from(author.min(1))], key))
            });
            rows.collect()
        })
    }
}

fn documents(txn: &ReadTransaction) -> Result<Vec<(u64, DocumentRow)>> {
    let table = txn.open_table(DOCUMENTS).map_err(failed)?;
    let rows = table.iter().map_err(failed)?.map(|row| {
        let (number, row) = row.map_err(failed)?;
        Ok((number.value(), decode(row.value()).map_err(StorageError::new)?))
    });
    rows.collect()
}

fn load(txn: &ReadTransaction, number: u64) -> Result<Loaded> {
    let table = txn.open_table(ENTRIES).map_err(failed)?;
    let mut entries = Vec::new();
    for author in KvAuthor::BOTH {
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
    let both = |which: Mark| Ok::<_, StorageError>([mark(KvAuthor::Machine, which)?, mark(KvAuthor::Manager, which)?]);
    let bound = both(Mark::Bound)?.into_iter().max().unwrap_or_default();
    let table = txn.open_table(IDS).map_err(failed)?;
    let mut ids = BTreeMap::new();
    for row in table.range((number, &[][..])..).map_err(failed)? {
        let (key, done) = row.map_err(failed)?;
        let (of, id) = key.value();
        if of != number {
            break;
        }
        let id = WriteId::new(id).map_err(StorageError::new)?;
        ids.insert(id, decode(done.value()).map_err(StorageError::new)?);
    }
    Ok(Loaded { entries, clock, held: both(Mark::Held)?, bound, ids })
}

fn meta(database: &redb::Database, key: &str) -> Result<Option<u64>> {
    guarded(|| {
        let txn = database.begin_read().map_err(failed)?;
        let table = match txn.open_table(META) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            table => table.map_err(failed)?,
        };
        Ok(table.get(key).map_err(failed)?.map(|value| value.value()))
    })
}

#[cfg(test)]
mod tests;
