//! The tables of keys, and what a change does to them.

use groundswell_core::{
    encoding::encode,
    kv::{KvAuthor, Stamp},
};
use redb::{ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::{Result, failed};
use crate::{
    error::StorageError,
    ids::{Done, WriteId},
    kv::Sealed,
    source::PeerId,
};

/// Number of a document -> its encoded row.
pub(crate) const DOCUMENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("documents");
/// (document, author, document key) -> the encoded newest entry of that author.
pub(crate) const ENTRIES: TableDefinition<'_, (u64, u8, [u8; 32]), &[u8]> = TableDefinition::new("entries");
/// (document, author, counter, document key): the log of an author.
pub(crate) const LOG: TableDefinition<'_, (u64, u8, u64, [u8; 32]), ()> = TableDefinition::new("log");
/// (document, author, which mark) -> counter.
pub(crate) const MARKS: TableDefinition<'_, (u64, u8, u8), u64> = TableDefinition::new("marks");
/// Document -> the encoded stamp below which its clock may give.
pub(crate) const CLOCKS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("clocks");
/// (document, author, document key) -> counter of an entry whose value is not here yet.
pub(crate) const MISSING: TableDefinition<'_, (u64, u8, [u8; 32]), u64> = TableDefinition::new("missing");

/// (document, id of a write of this side) -> the content of the write, and its result.
pub(crate) const IDS: TableDefinition<'_, (u64, &[u8]), &[u8]> = TableDefinition::new("key ids");

/// The number of an author in keys of tables.
pub(crate) fn number_of(author: KvAuthor) -> u8 {
    author.index() as u8
}

/// A place in the log of an author.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub(crate) enum Mark {
    /// Every entry up to here is in storage, or a newer one of its key.
    Held = 0,
    /// Every entry up to here is in the docs document, flushed.
    Fed = 1,
    /// Counters below this one may be given.
    Bound = 2,
    /// The other side was sent this side's entries up to here at most.
    Sent = 3,
    /// Where it is not 0, this side went back and has not agreed with the other side since. What it has written since then has this
    /// counter or a greater one.
    Restored = 4,
}

/// How a document stands with the other side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Standing {
    /// No manager has claimed the machine.
    Unclaimed,
    /// Shared with a peer, whose entries this author signs.
    Paired { peer: PeerId, author: [u8; 32] },
    /// As [`Self::Former`] and not told, by a version that did not keep the author.
    Releasing { peer: PeerId },
    /// The machine has left; what is here can still be read.
    Released { peer: PeerId },
    /// Given up here. The peer whose entries this author signed has said that it has given the document up too, or is
    /// still to be told.
    Former { peer: PeerId, author: Option<[u8; 32]>, told: bool },
}

/// The row of a document, which is all that is stored of it beside its entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DocumentRow {
    /// The secret that allows to write, and so to read.
    pub(crate) secret: [u8; 32],
    pub(crate) standing: Standing,
}

/// The result of a write that has an id, as a repetition is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// The entry was made at this time.
    Put { timestamp: u64 },
    /// The key is deleted.
    Deleted { had_value: bool },
}

/// The role of a node in the key-value store. A data directory has one for good, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// The directory is a [`Machine`](crate::Machine)'s.
    Machine = 1,
    /// The directory is a [`Manager`](crate::Manager)'s.
    Manager = 2,
}

impl Role {
    /// The role of this number, in `meta` of these tables and of the node's.
    pub(crate) fn of_number(number: u64) -> Option<Self> {
        [Self::Machine, Self::Manager].into_iter().find(|role| role.number() == number)
    }

    pub(crate) fn number(self) -> u64 {
        (self as u8).into()
    }

    /// The author of what this role writes.
    pub(crate) fn author(self) -> KvAuthor {
        match self {
            Self::Machine => KvAuthor::Machine,
            Self::Manager => KvAuthor::Manager,
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Machine => "machine",
            Self::Manager => "manager",
        })
    }
}

/// One change of keys. It is encoded in the journal: append variants, never insert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// A write of this side has this id.
    Id {
        number: u64,
        id: WriteId,
        done: Done<Outcome>,
    },
    /// The id is forgotten.
    ForgetId {
        number: u64,
        id: WriteId,
    },
}

impl Row {
    /// A document begins, with nothing of one that had its number before.
    pub(crate) fn begin(number: u64, row: DocumentRow) -> [Self; 2] {
        [Self::Drop { number }, Self::Document { number, row }]
    }

    /// This side went back, and goes on from this counter.
    pub(crate) fn went_back(number: u64, author: KvAuthor, from: u64) -> [Self; 2] {
        [Mark::Bound, Mark::Restored].map(|mark| Self::Mark { number, author, mark, counter: from })
    }
}

pub(super) fn create_all(txn: &WriteTransaction) -> Result<(), redb::TableError> {
    txn.open_table(DOCUMENTS)?;
    txn.open_table(ENTRIES)?;
    txn.open_table(LOG)?;
    txn.open_table(MARKS)?;
    txn.open_table(CLOCKS)?;
    txn.open_table(MISSING)?;
    txn.open_table(IDS)?;
    Ok(())
}

pub(super) fn apply<'a>(txn: &WriteTransaction, rows: impl Iterator<Item = &'a Row>) -> Result<()> {
    let mut rows = rows.peekable();
    if rows.peek().is_none() {
        return Ok(());
    }
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
                let mut ids = txn.open_table(IDS).map_err(failed)?;
                ids.retain_in((*number, &[][..])..(number.saturating_add(1), &[][..]), |_, _| false).map_err(failed)?;
            }
            Row::Id { number, id, done } => {
                let done = encode(done).map_err(StorageError::new)?;
                let mut ids = txn.open_table(IDS).map_err(failed)?;
                ids.insert((*number, id.as_bytes()), &done[..]).map_err(failed)?;
            }
            Row::ForgetId { number, id } => {
                txn.open_table(IDS).map_err(failed)?.remove((*number, id.as_bytes())).map_err(failed)?;
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
                let place = (*number, number_of(*author), *mark as u8);
                // Two tasks say up to where entries are sent, and either may be the later one to be written.
                let sent_before = match mark {
                    Mark::Sent => marks.get(place).map_err(failed)?.map_or(0, |before| before.value()),
                    _ => 0,
                };
                marks.insert(place, sent_before.max(*counter)).map_err(failed)?;
            }
            Row::Clock { number, bound } => {
                let bound = encode(bound).map_err(StorageError::new)?;
                txn.open_table(CLOCKS).map_err(failed)?.insert(number, &bound[..]).map_err(failed)?;
            }
            Row::Missing { number, author, key, counter } => {
                let place = (*number, number_of(*author), *key);
                let held = entries.get(place).map_err(failed)?;
                let held =
                    held.map(|held| Sealed::stored_counter(held.value()).map_err(StorageError::new)).transpose()?;
                let announced = missing.get(place).map_err(failed)?.map(|announced| announced.value());
                if held.max(announced).is_none_or(|newest| newest < *counter) {
                    missing.insert(place, counter).map_err(failed)?;
                }
            }
        }
    }
    Ok(())
}
