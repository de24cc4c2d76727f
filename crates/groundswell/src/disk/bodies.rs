//! The bodies of rocks: their chunks, apart from the row of the rock.
//!
//! A rock may have hundreds of megabytes, and one transaction with all of it would delay every other write. So a large body is
//! written ahead, in slices with a transaction each, under a number that no row names yet; the row of the rock comes with the
//! record that it belongs to. A body that no row names any more, an orphan, is removed in slices as well, now or by a later run. A
//! transaction that writes chunks removes as many chunks of orphans, so that they do not pile up, however fast one rock replaces
//! the other.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use groundswell_core::{
    Aeon,
    encoding::{decode, encode},
    limits::ROCK_CHUNK_BYTES,
    tide::RockInfo,
};
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, Table, WriteTransaction};

use super::{Disk, Result, Row, failed, guarded, states};
use crate::{error::StorageError, limits::BODY_SLICE_CHUNKS, sync::lock};

/// Set in the numbers of bodies: keys of chunks of earlier formats do not have it.
const BODY: u64 = 1 << 63;

/// How many numbers a copied history gets for its bodies: more than it can have rocks.
const OF_A_HISTORY: u64 = 1 << 32;

/// The row of a rock; one of an earlier format names no body.
pub(crate) fn rock_row(row: &[u8]) -> Result<(RockInfo, Option<u64>)> {
    let with_body = decode::<(RockInfo, u64)>(row).map(|(info, body)| (info, Some(body)));
    with_body.or_else(|_| decode::<RockInfo>(row).map(|info| (info, None))).map_err(StorageError::new)
}

/// The first two parts of the keys of a rock's chunks.
pub(crate) fn place(rock: (u64, u64), body: Option<u64>) -> (u64, u64) {
    body.map_or(rock, |body| (body, 0))
}

/// The numbers of bodies, and which of them no row names.
pub(super) struct Bodies {
    next: AtomicU64,
    unnamed: Mutex<Unnamed>,
}

#[derive(Default)]
struct Unnamed {
    /// They are removed, the oldest first.
    orphans: VecDeque<u64>,
    /// A record is to name them, or will not: see [`Ahead`].
    ahead: BTreeSet<u64>,
    /// They could not be removed, and are left for a later run.
    stuck: BTreeSet<u64>,
}

/// What a transaction leaves behind.
#[derive(Default)]
pub(super) struct Left {
    /// Bodies that rows named before, and none does now.
    removed: BTreeSet<u64>,
    /// Bodies that rows name now.
    inserted: BTreeSet<u64>,
    /// How many chunks it writes.
    pub(super) chunks: usize,
    /// The orphans that are gone with it.
    pub(super) swept: Vec<u64>,
}

impl Bodies {
    /// Finds the orphans of earlier runs, and the bodies that rows name. No number that is in use is given again.
    pub(super) fn find(database: &Database) -> Result<(Self, BTreeSet<u64>)> {
        guarded(|| Self::find_in(&database.begin_read().map_err(failed)?))
    }

    fn find_in(txn: &ReadTransaction) -> Result<(Self, BTreeSet<u64>)> {
        let rocks = txn.open_table(states::ROCKS).map_err(failed)?;
        let mut used = BTreeSet::new();
        for row in rocks.iter().map_err(failed)? {
            used.extend(rock_row(row.map_err(failed)?.1.value())?.1);
        }
        let chunks = txn.open_table(states::CHUNKS).map_err(failed)?;
        let mut orphans = VecDeque::new();
        let mut next = BODY;
        // From the first chunk of one body to that of the next.
        while let Some(row) = chunks.range((next, 0, 0)..).map_err(failed)?.next() {
            let (body, ..) = row.map_err(failed)?.0.value();
            if !used.contains(&body) {
                orphans.push_back(body);
            }
            next = body + 1;
        }
        // A body without bytes has no chunk.
        let next = next.max(used.last().map_or(0, |last| last + 1));
        let unnamed = Unnamed { orphans, ..Unnamed::default() };
        Ok((Self { next: AtomicU64::new(next), unnamed: Mutex::new(unnamed) }, used))
    }

    /// Takes the orphans of a storage that was opened again. Numbers continue, since bodies may be on their way.
    pub(super) fn renew(&self, (found, named): (Self, BTreeSet<u64>)) {
        let mut unnamed = lock(&self.unnamed);
        unnamed.ahead.retain(|ahead| !named.contains(ahead));
        let mut orphans = std::mem::take(&mut lock(&found.unnamed).orphans);
        orphans.retain(|orphan| !unnamed.ahead.contains(orphan) && !unnamed.stuck.contains(orphan));
        unnamed.orphans = orphans;
        self.next.fetch_max(found.next.into_inner(), Ordering::SeqCst);
    }

    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::SeqCst)
    }

    /// Numbers for the bodies of a copied history.
    pub(super) fn numbers(&self) -> u64 {
        self.next.fetch_add(OF_A_HISTORY, Ordering::SeqCst)
    }

    /// Notes what a transaction has left behind.
    pub(super) fn leave(&self, left: &Left) {
        let mut unnamed = lock(&self.unnamed);
        unnamed.orphans.retain(|orphan| !left.swept.contains(orphan) && !left.inserted.contains(orphan));
        unnamed.orphans.extend(&left.removed);
        // It is in the tables that records name them, or do not name them any more.
        unnamed.ahead.retain(|ahead| !left.inserted.contains(ahead) && !left.removed.contains(ahead));
    }

    pub(super) fn has_orphans(&self) -> bool {
        !lock(&self.unnamed).orphans.is_empty()
    }

    /// The number of a body that is written ahead.
    fn ahead(&self) -> u64 {
        let body = self.number();
        lock(&self.unnamed).ahead.insert(body);
        body
    }

    /// A body that was written ahead is named by no record. One that a record may name stays [ahead](Unnamed::ahead) until that is in
    /// the tables.
    pub(super) fn orphan(&self, body: u64) {
        let mut unnamed = lock(&self.unnamed);
        unnamed.ahead.remove(&body);
        unnamed.orphans.push_back(body);
    }

    /// Removes so many chunks of orphans, the oldest first, and notes which bodies are gone with that. An orphan that cannot be
    /// removed is left for a later run, so that it fails one transaction only.
    pub(super) fn sweep(&self, txn: &WriteTransaction, mut most: usize, left: &mut Left) -> Result<()> {
        let unnamed = lock(&self.unnamed);
        let orphans = unnamed.orphans.iter().filter(|orphan| !left.inserted.contains(orphan));
        let orphans: Vec<u64> = orphans.take(most).copied().collect();
        drop(unnamed);
        for body in orphans {
            let removed = guarded(|| remove_chunks(txn, body, most));
            let removed = removed.inspect_err(|_| {
                let mut unnamed = lock(&self.unnamed);
                unnamed.orphans.retain(|orphan| *orphan != body);
                unnamed.stuck.insert(body);
            })?;
            let Some(removed) = removed else { break };
            most -= removed;
            left.swept.push(body);
        }
        Ok(())
    }
}

/// Removes so many chunks of a body. Returns how many it had, if all of them are gone with that.
fn remove_chunks(txn: &WriteTransaction, body: u64, most: usize) -> Result<Option<usize>> {
    let mut chunks = txn.open_table(states::CHUNKS).map_err(failed)?;
    // One more than may go tells whether the body is gone with them.
    let found: Vec<u32> = {
        let range = chunks.range((body, 0, 0)..=(body, 0, u32::MAX)).map_err(failed)?;
        let indexes = range.take(most + 1).map(|row| Ok(row.map_err(failed)?.0.value().2));
        indexes.collect::<Result<_>>()?
    };
    for index in found.iter().take(most) {
        chunks.remove((body, 0, *index)).map_err(failed)?;
    }
    Ok(Some(found.len()).filter(|found| *found <= most))
}

/// A body that was written before the row of its rock. It is removed again where no rock comes to name it.
pub(crate) struct Ahead {
    pub(crate) aeon: Aeon,
    pub(crate) body: u64,
    disk: std::sync::Arc<Disk>,
    /// Set once a rock may name it.
    kept: AtomicBool,
}

impl Ahead {
    /// Returns true if no record might have named it before.
    pub(crate) fn keep(&self) -> bool {
        !self.kept.swap(true, Ordering::SeqCst)
    }

    pub(crate) fn let_go(&self) {
        self.kept.store(false, Ordering::SeqCst);
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        if !self.kept.load(Ordering::SeqCst) {
            self.disk.applier.orphan(self.body);
        }
    }
}

impl Disk {
    /// Writes a rock's body, slice by slice, so that no other write waits for more than one slice. The slices have a transaction
    /// each: the record of the row, which is flushed, must not name chunks that a crash can take.
    pub(crate) fn write_ahead(self: &std::sync::Arc<Self>, aeon: Aeon, rock: &Bytes) -> Result<Ahead> {
        let ahead = Ahead { aeon, body: self.bodies().ahead(), disk: self.clone(), kept: AtomicBool::new(false) };
        let mut first = 0;
        for slice in rock.chunks(BODY_SLICE_CHUNKS as usize * ROCK_CHUNK_BYTES) {
            let row = states::Row::Body { body: ahead.body, first, bytes: rock.slice_ref(slice) };
            self.beside(vec![Row::State(row)])?;
            first += BODY_SLICE_CHUNKS;
        }
        Ok(ahead)
    }
}

/// Writes chunks of a body. Returns how many there are.
pub(super) fn insert_chunks(txn: &WriteTransaction, body: u64, first: u32, bytes: &[u8]) -> Result<usize> {
    let mut chunks = txn.open_table(states::CHUNKS).map_err(failed)?;
    let mut count = 0;
    for (index, chunk) in (first..).zip(bytes.chunks(ROCK_CHUNK_BYTES)) {
        chunks.insert((body, 0, index), chunk).map_err(failed)?;
        count += 1;
    }
    Ok(count)
}

/// The rows and the bodies of rocks in one transaction.
pub(super) struct Rocks<'a, 'txn> {
    rows: Table<'txn, (u64, u64), &'static [u8]>,
    chunks: Table<'txn, (u64, u64, u32), &'static [u8]>,
    left: &'a mut Left,
}

impl<'a, 'txn> Rocks<'a, 'txn> {
    pub(super) fn open(txn: &'txn WriteTransaction, left: &'a mut Left) -> Result<Self> {
        let rows = txn.open_table(states::ROCKS).map_err(failed)?;
        let chunks = txn.open_table(states::CHUNKS).map_err(failed)?;
        Ok(Self { rows, chunks, left })
    }

    pub(super) fn insert(&mut self, rock: (u64, u64), info: &RockInfo, body: u64) -> Result<()> {
        // A record that is repeated has been there already, perhaps with another body.
        self.remove(rock)?;
        let row = encode(&(info, body)).map_err(StorageError::new)?;
        self.rows.insert(rock, &row[..]).map_err(failed)?;
        self.left.removed.remove(&body);
        self.left.inserted.insert(body);
        Ok(())
    }

    pub(super) fn remove(&mut self, rock: (u64, u64)) -> Result<()> {
        let Some(row) = self.rows.remove(rock).map_err(failed)?.map(|row| row.value().to_vec()) else { return Ok(()) };
        match rock_row(&row)?.1 {
            Some(body) => {
                self.left.inserted.remove(&body);
                self.left.removed.insert(body);
            }
            None => {
                let (id, aeon) = rock;
                self.chunks.retain_in((id, aeon, 0)..=(id, aeon, u32::MAX), |_, _| false).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Removes all rocks of a tide.
    pub(super) fn remove_all(&mut self, id: u64) -> Result<()> {
        while let Some(aeon) = self.next(id, 0)?.map(|(aeon, _)| aeon) {
            self.remove((id, aeon))?;
        }
        Ok(())
    }

    /// Gives a tide copies of all rocks of another.
    pub(super) fn copy(&mut self, mut body: u64, from: u64, to: u64) -> Result<()> {
        let mut next = 0;
        while let Some((aeon, row)) = self.next(from, next)? {
            let (info, old) = rock_row(&row)?;
            let (old, new) = (place((from, aeon), old), body);
            body += 1;
            // One row at a time: a table is not written while it is read.
            for index in 0u32.. {
                let chunk = self.chunks.get((old.0, old.1, index)).map_err(failed)?.map(|chunk| chunk.value().to_vec());
                let Some(chunk) = chunk else { break };
                self.chunks.insert((new, 0, index), &chunk[..]).map_err(failed)?;
                self.left.chunks += 1;
            }
            self.insert((to, aeon), &info, new)?;
            next = aeon + 1;
        }
        Ok(())
    }

    /// The first rock of a tide from this aeon on, and its row.
    fn next(&self, id: u64, from: u64) -> Result<Option<(u64, Vec<u8>)>> {
        let row = self.rows.range((id, from)..=(id, u64::MAX)).map_err(failed)?.next().transpose().map_err(failed)?;
        Ok(row.map(|(key, row)| (key.value().1, row.value().to_vec())))
    }
}
