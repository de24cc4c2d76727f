//! The bodies of rocks: their chunks, apart from the row that says that there is such a rock.
//!
//! A rock may have hundreds of megabytes, and one transaction with all of it would keep whatever else is to be
//! written waiting. So a body is written ahead, in slices with a transaction each, under a number that nothing refers to
//! yet; the row of the rock comes with the transaction that it belongs to. A body that nothing refers to any more is
//! removed in slices as well, now or by a later run. A transaction that writes chunks removes as many of such bodies
//! too, so that they do not pile up, however fast one rock replaces the other.

use std::{
    collections::{BTreeSet, VecDeque},
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use bytes::Bytes;
use groundswell_core::{
    Aeon,
    encoding::{decode, encode},
    limits::ROCK_CHUNK_BYTES,
    tide::RockInfo,
};
use redb::{ReadableTable, Table, WriteTransaction};

use super::{Result, Store, failed, guarded, tables};
use crate::{
    error::{StorageError, WriteError},
    limits::BODY_SLICE_CHUNKS,
    sync::{FairLock, lock},
};

/// Set in the numbers of bodies, by which the chunks of earlier formats are told from them.
const BODY: u64 = 1 << 63;

/// The row of a rock; one of an earlier format names no body.
pub(super) fn rock_row(row: &[u8]) -> Result<(RockInfo, Option<u64>)> {
    let with_body = decode::<(RockInfo, u64)>(row).map(|(info, body)| (info, Some(body)));
    with_body.or_else(|_| decode::<RockInfo>(row).map(|info| (info, None))).map_err(StorageError::new)
}

/// The first two parts of the keys of a rock's chunks.
pub(super) fn place(rock: (u64, u64), body: Option<u64>) -> (u64, u64) {
    body.map_or(rock, |body| (body, 0))
}

/// Which bodies there are.
pub(super) struct Bodies {
    next: AtomicU64,
    /// Those that nothing refers to.
    orphans: Mutex<VecDeque<u64>>,
    /// Held by the thread whose slice is written ahead. So one slice at most is in the queue of transactions, however many
    /// rocks are written ahead.
    slicing: FairLock,
    /// The way to the thread that writes slices, which ends when this is dropped. Those whose slices they are have a lower priority
    /// ([`crate::washers`]): with the lock of the writers in their hands, they would keep everyone waiting until they have a
    /// processor.
    writer: SyncSender<Slice>,
}

/// A part of a body that is to be written.
struct Slice {
    store: Arc<Store>,
    body: u64,
    first: u32,
    bytes: Bytes,
    done: SyncSender<Result<()>>,
}

fn write_slices(slices: &Receiver<Slice>) {
    for Slice { store, body, first, bytes, done } in slices {
        let written = store.write_slice(body, first, &bytes);
        // Before the other side goes on: it may be the last that has the storage.
        drop(store);
        let _ = done.send(written);
    }
}

/// What a transaction leaves behind.
#[derive(Default)]
pub(super) struct Left {
    removed: BTreeSet<u64>,
    inserted: BTreeSet<u64>,
    /// How many chunks it writes.
    pub(super) chunks: usize,
    /// The bodies that nothing referred to, and that are gone with it.
    pub(super) swept: Vec<u64>,
}

impl Bodies {
    pub(super) fn start() -> io::Result<Self> {
        // There is one slice at a time.
        let (writer, slices) = sync_channel(1);
        thread::Builder::new().name("groundswell-rock".to_owned()).spawn(move || write_slices(&slices))?;
        Ok(Self { next: AtomicU64::new(BODY), orphans: Mutex::default(), slicing: FairLock::default(), writer })
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::SeqCst)
    }

    /// A transaction is durable that left this.
    pub(super) fn leave(&self, left: Left) {
        self.are_gone(&left.swept);
        lock(&self.orphans).extend(left.removed.difference(&left.inserted));
    }

    fn are_gone(&self, swept: &[u64]) {
        if !swept.is_empty() {
            lock(&self.orphans).retain(|orphan| !swept.contains(orphan));
        }
    }

    /// Removes so many chunks of the bodies that nothing refers to, the oldest first. It says which bodies are gone once
    /// that is durable. One that cannot be removed is left for a later run, so that it is in the way of one transaction only.
    pub(super) fn sweep(&self, txn: &WriteTransaction, mut most: usize) -> Result<Vec<u64>> {
        let orphans: Vec<u64> = lock(&self.orphans).iter().take(most).copied().collect();
        let mut gone = Vec::new();
        for body in orphans {
            let removed = guarded(|| remove_chunks(txn, body, most)).inspect_err(|_| self.are_gone(&[body]))?;
            let Some(removed) = removed else { break };
            most -= removed;
            gone.push(body);
        }
        Ok(gone)
    }
}

/// Removes so many chunks of a body; how many it had, if all of them are gone with that.
fn remove_chunks(txn: &WriteTransaction, body: u64, most: usize) -> Result<Option<usize>> {
    let mut chunks = txn.open_table(tables::CHUNKS).map_err(failed)?;
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

/// A body that was written before the row of its rock. It is removed again where nothing comes of that.
pub(crate) struct Ahead {
    pub(super) aeon: Aeon,
    pub(super) body: u64,
    store: Arc<Store>,
    /// Whether a rock may refer to it.
    kept: AtomicBool,
}

impl Ahead {
    pub(super) fn keep(&self) {
        self.kept.store(true, Ordering::SeqCst);
    }

    pub(super) fn let_go(&self) {
        self.kept.store(false, Ordering::SeqCst);
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        if !self.kept.load(Ordering::SeqCst) {
            lock(&self.store.bodies.orphans).push_back(self.body);
        }
    }
}

impl Store {
    /// Looks for the bodies of earlier runs, once.
    pub(super) fn find_bodies(&self) -> Result<()> {
        self.reading(|txn| {
            let rocks = txn.open_table(tables::ROCKS).map_err(failed)?;
            let mut used = BTreeSet::new();
            for row in rocks.iter().map_err(failed)? {
                used.extend(rock_row(row.map_err(failed)?.1.value())?.1);
            }
            let chunks = txn.open_table(tables::CHUNKS).map_err(failed)?;
            let mut orphans = lock(&self.bodies.orphans);
            let mut next = BODY;
            // From the first chunk of one body to that of the next.
            while let Some(row) = chunks.range((next, 0, 0)..).map_err(failed)?.next() {
                let (body, ..) = row.map_err(failed)?.0.value();
                if !used.contains(&body) {
                    orphans.push_back(body);
                }
                next = body + 1;
            }
            self.bodies.next.store(next, Ordering::SeqCst);
            Ok(())
        })
    }

    /// Writes a rock's body, slice by slice, so that whatever else is to be written waits for one slice at most.
    pub(crate) fn write_ahead(self: &Arc<Self>, aeon: Aeon, rock: &Bytes) -> Result<Ahead> {
        let (body, store) = (self.bodies.number(), self.clone());
        let ahead = Ahead { aeon, body, store, kept: AtomicBool::new(false) };
        let mut first = 0;
        for slice in rock.chunks(BODY_SLICE_CHUNKS as usize * ROCK_CHUNK_BYTES) {
            let _one_slice = self.bodies.slicing.lock();
            let (done, written) = sync_channel(1);
            let slice = Slice { store: self.clone(), body, first, bytes: rock.slice_ref(slice), done };
            let ended = || StorageError::new("the thread that stores large rocks has ended");
            self.bodies.writer.send(slice).map_err(|_| ended())?;
            written.recv().map_err(|_| ended())??;
            first += BODY_SLICE_CHUNKS;
        }
        Ok(ahead)
    }

    fn write_slice(&self, body: u64, first: u32, slice: &[u8]) -> Result<()> {
        let mut swept = Vec::new();
        let written = self.one_at_a_time(|txn| {
            let chunks = insert_chunks(txn, body, first, slice)?;
            swept = self.bodies.sweep(txn, chunks)?;
            Ok(())
        });
        written.map_err(|error| match error {
            WriteError::Storage(error) => error,
            // Nothing refers to it, so that it does not matter what is there.
            error => StorageError::of_disk(error),
        })?;
        self.bodies.are_gone(&swept);
        Ok(())
    }

    /// Whether there are bodies that nothing refers to.
    pub(crate) fn has_orphans(&self) -> bool {
        !lock(&self.bodies.orphans).is_empty()
    }

    /// Removes a slice of the bodies that nothing refers to, if there are any. What cannot be removed is left for a later run.
    pub(crate) fn sweep(&self) {
        let Some(oldest) = lock(&self.bodies.orphans).front().copied() else { return };
        let mut swept = Vec::new();
        let done = self.one_at_a_time(|txn| {
            swept = self.bodies.sweep(txn, BODY_SLICE_CHUNKS as usize)?;
            Ok(())
        });
        match done {
            Ok(()) => self.bodies.are_gone(&swept),
            Err(_) => self.bodies.are_gone(&[oldest]),
        }
    }
}

/// Writes a slice; how many chunks it has.
fn insert_chunks(txn: &WriteTransaction, body: u64, first: u32, bytes: &[u8]) -> Result<usize> {
    let mut chunks = txn.open_table(tables::CHUNKS).map_err(failed)?;
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
        let rows = txn.open_table(tables::ROCKS).map_err(failed)?;
        let chunks = txn.open_table(tables::CHUNKS).map_err(failed)?;
        Ok(Self { rows, chunks, left })
    }

    /// Writes a body in this transaction.
    pub(super) fn insert_body(&mut self, bodies: &Bodies, rock: &[u8]) -> Result<u64> {
        let body = bodies.number();
        for (index, chunk) in (0..).zip(rock.chunks(ROCK_CHUNK_BYTES)) {
            self.chunks.insert((body, 0, index), chunk).map_err(failed)?;
            self.left.chunks += 1;
        }
        Ok(body)
    }

    pub(super) fn insert(&mut self, rock: (u64, u64), info: &RockInfo, body: u64) -> Result<()> {
        // A transaction that is repeated has been there already, perhaps with another body.
        self.remove(rock)?;
        let row = encode(&(info, body)).map_err(StorageError::new)?;
        self.rows.insert(rock, &row[..]).map_err(failed)?;
        self.left.inserted.insert(body);
        Ok(())
    }

    pub(super) fn remove(&mut self, rock: (u64, u64)) -> Result<()> {
        let Some(row) = self.rows.remove(rock).map_err(failed)?.map(|row| row.value().to_vec()) else { return Ok(()) };
        match rock_row(&row)?.1 {
            Some(body) => drop(self.left.removed.insert(body)),
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
    pub(super) fn copy(&mut self, bodies: &Bodies, from: u64, to: u64) -> Result<()> {
        let mut next = 0;
        while let Some((aeon, row)) = self.next(from, next)? {
            let (info, body) = rock_row(&row)?;
            let (old, new) = (place((from, aeon), body), bodies.number());
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

#[cfg(test)]
mod tests {
    use std::thread;

    use bytes::Bytes;
    use groundswell_core::{Cursor, Digest, Epoch, LakeId, Name, Rule, tide::Tide};
    use redb::ReadableTableMetadata as _;
    use tempfile::TempDir;

    use super::*;
    use crate::{
        identity::DataDir,
        store::{
            TideKey, TideRow, Write,
            failing::{Fault, Plan},
        },
    };

    fn open(dir: &TempDir) -> Arc<Store> {
        Arc::new(Store::open(DataDir::open(dir.path()).unwrap(), Arc::default()).unwrap())
    }

    const SLICE: usize = BODY_SLICE_CHUNKS as usize * ROCK_CHUNK_BYTES;

    /// A rock of some slices and a bit, and a replica that begins with it.
    fn replica(aeon: u64) -> (TideRow, Tide, Bytes) {
        replica_of(aeon, 2 * SLICE + 1)
    }

    /// The same with a rock of this size.
    fn replica_of(aeon: u64, bytes: usize) -> (TideRow, Tide, Bytes) {
        let peer = "ae58ff8833241ac82d6ff7611046ed67b5072d142c588d0063e942d9a75502b6".parse().unwrap();
        let key = TideKey::Replica(crate::Source::new(peer, "main", "/a").unwrap());
        let lake = LakeId { name: Name::new("log").unwrap(), version: 1 };
        let row = TideRow { key, lake, epoch: Epoch([1; 16]), rule: Rule::default() };
        let rock = Bytes::from(vec![aeon as u8; bytes]);
        let info = RockInfo { bytes: rock.len() as u64, digest: Digest::of(&rock) };
        (row.clone(), Tide::begin(Cursor { epoch: row.epoch, aeon: Aeon(aeon) }, row.rule, info), rock)
    }

    /// Begins the replica anew with this rock.
    fn begin(store: &Arc<Store>, aeon: u64, ahead: &[Ahead]) {
        begin_with(store, aeon, replica(aeon), ahead);
    }

    fn begin_with(store: &Arc<Store>, aeon: u64, (row, tide, rock): (TideRow, Tide, Bytes), ahead: &[Ahead]) {
        let mut changes = tide.stage();
        changes.begin_anew(tide.cursor(), tide.rocks().next().unwrap().1);
        let rocks = [(Aeon(aeon), rock)];
        let writes =
            [Write::Tide { id: 1, row: &row }, Write::Changes { id: 1, changes: &changes, rocks: &rocks, ahead }];
        store.write(&writes).unwrap();
    }

    /// How many chunks are stored.
    fn chunks(store: &Store) -> u64 {
        store.reading(|txn| txn.open_table(tables::CHUNKS).map_err(failed)?.len().map_err(failed)).unwrap()
    }

    fn whole(store: &Arc<Store>, aeon: u64) -> bool {
        let (_, tide, rock) = replica(aeon);
        let info = tide.rocks().next().unwrap().1;
        let backing = crate::store::Backing::Disk { store: store.clone(), id: 1 };
        store.tide(1).unwrap().rocks.contains_key(&Aeon(aeon))
            && backing.rock(Aeon(aeon), info).unwrap().is_some_and(|stored| stored == rock)
    }

    fn sweep(store: &Store) {
        while store.has_orphans() {
            store.sweep();
        }
    }

    const OF_ONE: u64 = 2 * BODY_SLICE_CHUNKS as u64 + 1;

    #[test]
    fn a_body_that_is_written_ahead_is_a_rocks_once_its_row_is_there_and_nothing_is_left_of_others() {
        let dir = TempDir::new().unwrap();
        let store = open(&dir);
        let ahead = [store.write_ahead(Aeon(1), &replica(1).2).unwrap()];
        assert!(store.tide(1).unwrap().rocks.is_empty(), "no rock yet");
        begin(&store, 1, &ahead);
        drop(ahead);
        assert!(whole(&store, 1) && !store.has_orphans());
        // Another takes its place, at the same aeon too; whatever is written twice stands.
        for aeon in [2, 2, 1] {
            let ahead = [store.write_ahead(Aeon(aeon), &replica(aeon).2).unwrap()];
            begin(&store, aeon, &ahead);
            begin(&store, aeon, &ahead);
            assert!(whole(&store, aeon) && store.has_orphans());
            assert_eq!(chunks(&store), 2 * OF_ONE, "the one before goes later");
            sweep(&store);
            assert!(whole(&store, aeon));
            assert_eq!(chunks(&store), OF_ONE);
        }
        // In one transaction, as those of this node's own.
        begin(&store, 3, &[]);
        sweep(&store);
        assert!(whole(&store, 3) && chunks(&store) == OF_ONE);
        // Nothing comes of this one.
        drop(store.write_ahead(Aeon(4), &replica(4).2).unwrap());
        store.sweep();
        assert_eq!(chunks(&store), 2 * OF_ONE - u64::from(BODY_SLICE_CHUNKS), "a slice at a time");
        sweep(&store);
        store.write(&[Write::Drop { id: 1 }]).unwrap();
        sweep(&store);
        assert_eq!(chunks(&store), 0);
    }

    /// One rock after the other replaces the one before, and nobody comes to sweep: the bodies of those before go as fast as
    /// new ones come. There are never more chunks than those of two rocks.
    #[test]
    fn bodies_of_rocks_that_are_replaced_do_not_pile_up_while_nobody_sweeps() {
        for (bytes, is_ahead) in [(SLICE, true), (2 * SLICE + 1, true), (1, false), (2 * SLICE + 1, false)] {
            let dir = TempDir::new().unwrap();
            let store = open(&dir);
            for aeon in 1..=12 {
                let replica = replica_of(aeon, bytes);
                let ahead = is_ahead.then(|| store.write_ahead(Aeon(aeon), &replica.2).unwrap());
                begin_with(&store, aeon, replica, ahead.as_slice());
                let (now, most) = (chunks(&store), 2 * bytes.div_ceil(ROCK_CHUNK_BYTES) as u64);
                assert!(now <= most, "{now} chunks after rock {aeon} of {bytes} bytes, ahead: {is_ahead}");
            }
            assert!(store.has_orphans(), "the last one has nothing after it");
            sweep(&store);
            assert_eq!(chunks(&store), bytes.div_ceil(ROCK_CHUNK_BYTES) as u64);
        }
    }

    /// Rocks are written ahead without a pause, on several threads. Another write waits for the slice that is being written,
    /// and for no other.
    #[test]
    fn another_write_waits_for_one_slice() {
        let dir = TempDir::new().unwrap();
        let store = open(&dir);
        let plan = Plan::of(&dir.path().join(crate::store::STORAGE_FILE));
        let rock = Bytes::from(vec![7; 6 * SLICE]);
        let until = |holds: &dyn Fn() -> bool| {
            while !holds() {
                thread::yield_now();
            }
        };
        // How many chunks there are when it has its turn.
        let look = || {
            let mut seen = 0;
            let look = |txn: &WriteTransaction| {
                seen = txn.open_table(tables::CHUNKS).map_err(failed)?.len().map_err(failed)?;
                Ok(())
            };
            store.one_at_a_time(look).unwrap();
            seen
        };
        for _ in 0..5 {
            let before = chunks(&store);
            plan.hold_flush(0);
            let seen = thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| std::mem::forget(store.write_ahead(Aeon(1), &rock).unwrap()));
                }
                let waiting = || store.writing.waiting() + store.bodies.slicing.waiting();
                until(&|| plan.is_holding() && waiting() == 2);
                let other = scope.spawn(look);
                until(&|| waiting() == 3);
                plan.let_go();
                other.join().unwrap()
            });
            assert_eq!(seen, before + u64::from(BODY_SLICE_CHUNKS), "what was being written, and no more");
        }
    }

    /// A thread that leaves the processor to others does not write the slices of its rock itself.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_slices_of_a_thread_of_low_priority_are_written_with_that_of_the_others() {
        let dir = TempDir::new().unwrap();
        let store = open(&dir);
        let plan = Plan::of(&dir.path().join(crate::store::STORAGE_FILE));
        let usual = rustix::process::getpriority_process(None).unwrap();
        // Closing the storage flushes too, and is not the washer's.
        let washers = store.clone();
        let washer = thread::spawn(move || {
            let lowered = rustix::process::nice(5).unwrap();
            assert!(lowered > usual, "its own is lower");
            drop(washers.write_ahead(Aeon(1), &replica(1).2).unwrap());
        });
        washer.join().unwrap();
        assert_eq!(plan.lowest_priority(), Some(usual));
    }

    /// A run that ends anywhere: the next one finds what nothing refers to, and uses no number again.
    #[test]
    fn what_a_crash_leaves_is_found_and_removed() {
        let dir = TempDir::new().unwrap();
        let store = open(&dir);
        let ahead = store.write_ahead(Aeon(1), &replica(1).2).unwrap();
        begin(&store, 1, std::slice::from_ref(&ahead));
        let (used, lost) = (ahead.body, store.write_ahead(Aeon(2), &replica(2).2).unwrap());
        let (last, lost_body) = (store.write_ahead(Aeon(2), &replica(2).2).unwrap(), lost.body);
        assert!(used < lost_body && lost_body < last.body);
        // As a crash: nobody sweeps.
        let newest = last.body;
        std::mem::forget((lost, last));
        store.close();
        let store = open(&dir);
        assert_eq!(Vec::from_iter(lock(&store.bodies.orphans).iter().copied()), [lost_body, newest]);
        assert!(whole(&store, 1));
        assert!(store.write_ahead(Aeon(3), &Bytes::from_static(&[1])).unwrap().body > newest);
        sweep(&store);
        assert!(whole(&store, 1) && chunks(&store) == OF_ONE);
    }

    /// A slice that fails leaves nothing that is taken for a rock, and the next try is whole.
    #[test]
    fn a_body_that_cannot_be_written_is_no_rock() {
        for step in 0..6 {
            let dir = TempDir::new().unwrap();
            let store = open(&dir);
            begin(&store, 1, &[]);
            let plan = Plan::of(&dir.path().join(crate::store::STORAGE_FILE));
            plan.fail_at(step, Fault::Once);
            let written = store.write_ahead(Aeon(2), &replica(2).2);
            plan.lift();
            if written.is_err() {
                assert!(whole(&store, 1));
            }
            drop(written);
            let ahead = [store.write_ahead(Aeon(2), &replica(2).2).unwrap()];
            begin(&store, 2, &ahead);
            sweep(&store);
            assert!(whole(&store, 2), "step {step}");
            assert_eq!(chunks(&store), OF_ONE, "step {step}");
        }
    }

    /// The rows of formats 1 to 3: chunks are at the tide's id and the rock's aeon.
    #[test]
    fn rocks_of_earlier_formats_are_read_and_replaced() {
        let dir = TempDir::new().unwrap();
        let store = open(&dir);
        let (row, tide, rock) = replica(1);
        store.write(&[Write::Tide { id: 1, row: &row }]).unwrap();
        let info = tide.rocks().next().unwrap().1;
        let old = |txn: &WriteTransaction| {
            let row = encode(&info).unwrap();
            txn.open_table(tables::ROCKS).map_err(failed)?.insert((1, 1), &row[..]).map_err(failed)?;
            let mut chunks = txn.open_table(tables::CHUNKS).map_err(failed)?;
            for (index, chunk) in (0..).zip(rock.chunks(ROCK_CHUNK_BYTES)) {
                chunks.insert((1, 1, index), chunk).map_err(failed)?;
            }
            let mut meta = txn.open_table(tables::META).map_err(failed)?;
            meta.insert(tables::META_FORMAT, &3u32.to_le_bytes()[..]).map_err(failed)?;
            Ok(())
        };
        store.transaction(old).unwrap();
        store.close();
        let store = open(&dir);
        assert!(whole(&store, 1) && !store.has_orphans());
        begin(&store, 2, &[]);
        assert!(whole(&store, 2) && chunks(&store) == OF_ONE, "the old chunks went with the old row");
        assert_eq!(store.meta(tables::META_FORMAT).unwrap().unwrap(), crate::store::FORMAT.to_le_bytes());
    }
}
