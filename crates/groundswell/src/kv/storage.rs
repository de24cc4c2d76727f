//! The keys in the tables of the node's disk: what is written to them and read from them.
//!
//! The tables are the truth: an entry is durable before anyone is told of it. Peers, the docs engine and the view follow, each by a
//! mark of its own in the log of an author, which has the newest entry of each key in the order of the author's counter. So one
//! record makes an entry, its value and its place in the log durable together, an old value goes in the same record that replaces
//! it, and whoever was behind at a crash continues from its mark.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use groundswell_core::{
    encoding::decode,
    kv::{KvAuthor, Stamp, restored, sync::EntryKey},
};
use redb::{ReadTransaction, ReadableTable};

use super::sealed::Sealed;
use crate::{
    disk::{
        self, Disk, failed,
        keys::{CLOCKS, DOCUMENTS, ENTRIES, IDS, LOG, MARKS, MISSING, number_of},
        states::META_ROLE,
    },
    error::{StorageError, WriteError},
    ids::{Done, WriteId},
    limits::READ_ENTRIES_BYTES,
};

pub use crate::disk::keys::Role;
pub(crate) use crate::disk::keys::{DocumentRow, Mark, Outcome, Row, Standing};

/// What is stored of one document, at its opening.
pub(crate) struct Loaded {
    pub(crate) entries: Vec<Sealed>,
    pub(crate) clock: Option<Stamp>,
    /// Up to where both authors' entries are held.
    pub(crate) held: [u64; 2],
    pub(crate) bound: u64,
    /// Up to where the other side may have been sent this side's entries, if that is noted.
    pub(crate) sent: Option<u64>,
    /// From where on this side has written since it went back, until it has agreed with the other one.
    pub(crate) restored: Option<u64>,
    /// The ids of this side's writes that are remembered.
    pub(crate) ids: BTreeMap<WriteId, Done<Outcome>>,
}

/// The documents of a node.
pub(crate) struct Storage {
    disk: Arc<Disk>,
    #[cfg(test)]
    failing: std::sync::Mutex<Option<WriteError>>,
}

type Result<T, E = StorageError> = std::result::Result<T, E>;

impl Storage {
    pub(crate) fn new(disk: Arc<Disk>) -> Self {
        Self {
            disk,
            #[cfg(test)]
            failing: std::sync::Mutex::default(),
        }
    }

    /// The role that the data directory has, if it has one.
    pub(crate) fn role(&self) -> Result<Option<Role>> {
        let Some(found) = self.disk.meta(META_ROLE)? else { return Ok(None) };
        let role = <[u8; 1]>::try_from(&found[..]).ok().and_then(|[number]| Role::of_number(number.into()));
        let unknown = || StorageError::new("the role that it remembers is neither a machine nor a manager");
        role.map(Some).ok_or_else(unknown)
    }

    /// Gives the data directory a role for good.
    pub(crate) fn set_role(&self, role: Role) -> Result<(), WriteError> {
        let row = disk::states::Row::Meta { key: META_ROLE.to_owned(), value: vec![role as u8].into() };
        self.disk.write(vec![disk::Row::State(row)])
    }

    /// Makes changes durable, all or none, or reports that the outcome is unknown: see [`Disk::write`].
    pub(crate) fn write(&self, rows: Vec<Row>) -> Result<(), WriteError> {
        #[cfg(test)]
        if let Some(error) = crate::sync::lock(&self.failing).clone() {
            return Err(error);
        }
        self.disk.write(rows.into_iter().map(disk::Row::Key).collect())
    }

    /// The documents of a data directory whose node does not run.
    #[cfg(test)]
    pub(crate) fn open(dir: &std::path::Path) -> Self {
        let data_dir = crate::identity::DataDir::open(dir).unwrap();
        let (disk, _) = Disk::open(data_dir).unwrap();
        disk.mark_run(dir).unwrap();
        Self::new(Arc::new(disk))
    }

    #[cfg(test)]
    pub(crate) fn close(&self) {
        self.disk.close();
    }

    /// Lets every write fail, or none.
    #[cfg(test)]
    pub(crate) fn fail(&self, fail: bool) {
        self.fail_with(fail.then(|| StorageError::new("made to fail by a test").into()));
    }

    /// Lets every write fail with this error, or none.
    #[cfg(test)]
    pub(crate) fn fail_with(&self, error: Option<WriteError>) {
        *crate::sync::lock(&self.failing) = error;
    }

    fn reading<T>(&self, work: impl FnOnce(&ReadTransaction) -> Result<T>) -> Result<T> {
        self.disk.reading(work)
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

    /// The tables are not those that this directory had last: each document leaves a gap in its counters, and agrees with the other
    /// side first. It counts nothing of what it is not told as given by itself.
    pub(crate) fn went_back(&self) -> Result<(), WriteError> {
        let Some(author) = self.role()?.map(Role::author) else { return Ok(()) };
        let mut rows = Vec::new();
        for (number, _) in self.documents()? {
            let (next, clock, is_noted) = self.reading(|txn| {
                let (log, marks) = (txn.open_table(LOG).map_err(failed)?, txn.open_table(MARKS).map_err(failed)?);
                let of_author = number_of(author);
                let mark = |mark: Mark| marks.get((number, of_author, mark as u8)).map_err(failed);
                let last = log
                    .range((number, of_author, 0, [0; 32])..=(number, of_author, u64::MAX, [255; 32]))
                    .map_err(failed)?
                    .next_back()
                    .transpose()
                    .map_err(failed)?
                    .map_or(0, |(place, _)| place.value().2);
                let held = mark(Mark::Held)?.map_or(0, |held| held.value());
                let next = mark(Mark::Bound)?.map_or(1, |bound| bound.value()).max(last.max(held).saturating_add(1));
                let is_noted = mark(Mark::Restored)?.is_some_and(|from| from.value() > 0);
                Ok((next, clock_of(txn, number)?, is_noted))
            })?;
            let [bound, restored] = Row::went_back(number, author, restored::after_gap(next, 0, rand::random()));
            rows.push(bound);
            // It went back before and has not agreed since: from when and with which clock is noted.
            if is_noted {
                continue;
            }
            rows.push(restored);
            rows.extend(clock.map(|bound| Row::Clock { number, bound: restored::clock_after_gap(bound) }));
        }
        if rows.is_empty() { Ok(()) } else { self.write(rows) }
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

    /// One author's entries of these document keys, all from one look.
    pub(crate) fn entries(&self, number: u64, author: KvAuthor, keys: &[[u8; 32]]) -> Result<Vec<Option<Sealed>>> {
        self.reading(|txn| {
            let table = txn.open_table(ENTRIES).map_err(failed)?;
            let entry = |key: &[u8; 32]| {
                let row = table.get((number, number_of(author), *key)).map_err(failed)?;
                row.map(|row| Sealed::from_stored(author, *key, row.value()).map_err(StorageError::new)).transpose()
            };
            keys.iter().map(entry).collect()
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

fn clock_of(txn: &ReadTransaction, number: u64) -> Result<Option<Stamp>> {
    let clocks = txn.open_table(CLOCKS).map_err(failed)?;
    let clock = clocks.get(number).map_err(failed)?;
    clock.map(|bound| decode(bound.value()).map_err(StorageError::new)).transpose()
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
    let clock = clock_of(txn, number)?;
    let marks = txn.open_table(MARKS).map_err(failed)?;
    let noted = |author: KvAuthor, mark: Mark| {
        let found = marks.get((number, number_of(author), mark as u8)).map_err(failed)?;
        Ok::<_, StorageError>(found.map(|counter| counter.value()))
    };
    // Those of this side's own author alone are ever noted.
    let ours = |mark| Ok::<_, StorageError>(noted(KvAuthor::Machine, mark)?.max(noted(KvAuthor::Manager, mark)?));
    let mark = |author: KvAuthor, mark: Mark| Ok::<_, StorageError>(noted(author, mark)?.unwrap_or(0));
    let both = |which: Mark| Ok::<_, StorageError>([mark(KvAuthor::Machine, which)?, mark(KvAuthor::Manager, which)?]);
    let bound = ours(Mark::Bound)?.unwrap_or_default();
    let (sent, restored) = (ours(Mark::Sent)?, ours(Mark::Restored)?.filter(|from| *from > 0));
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
    Ok(Loaded { entries, clock, held: both(Mark::Held)?, bound, sent, restored, ids })
}

#[cfg(test)]
mod tests;
