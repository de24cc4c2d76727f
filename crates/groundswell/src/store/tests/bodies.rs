//! The bodies of rocks: written ahead, and removed again.

use std::thread;

use groundswell_core::limits::ROCK_CHUNK_BYTES;
use redb::ReadableTableMetadata as _;

use super::*;
use crate::{
    disk::{failed, states},
    limits::BODY_SLICE_CHUNKS,
};

fn open(dir: &TempDir) -> Arc<Store> {
    Arc::new(super::open(dir.path()).unwrap())
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

/// Writes this rock in the place of the replica's history.
fn begin(store: &Arc<Store>, aeon: u64, ahead: &[Ahead]) {
    begin_with(store, aeon, replica(aeon), ahead);
}

fn begin_with(store: &Arc<Store>, aeon: u64, (row, tide, rock): (TideRow, Tide, Bytes), ahead: &[Ahead]) {
    let mut changes = tide.stage();
    changes.begin_anew(tide.cursor(), tide.rocks().next().unwrap().1);
    let rocks = [(Aeon(aeon), rock)];
    let writes = [Write::Tide { id: 1, row: &row }, Write::Changes { id: 1, changes: &changes, rocks: &rocks, ahead }];
    store.write(&writes).unwrap();
}

/// How many chunks are stored.
fn chunks(store: &Store) -> u64 {
    store.disk.reading(|txn| txn.open_table(states::CHUNKS).map_err(failed)?.len().map_err(failed)).unwrap()
}

fn whole(store: &Arc<Store>, aeon: u64) -> bool {
    let (_, tide, rock) = replica(aeon);
    let info = tide.rocks().next().unwrap().1;
    let backing = crate::store::Backing::Disk { store: store.clone(), id: 1 };
    store.tide(1).unwrap().rocks.contains_key(&Aeon(aeon))
        && backing.rock(Aeon(aeon), info).unwrap().is_some_and(|stored| stored == rock)
}

/// Waits until the applier has removed the orphans, which it does while nothing else is to be done.
fn sweep(store: &Store) {
    // Everything that was written is in the tables then.
    chunks(store);
    while store.disk.has_orphans() {
        thread::yield_now();
    }
}

const OF_ONE: u64 = 2 * BODY_SLICE_CHUNKS as u64 + 1;

#[test]
fn a_body_that_is_written_ahead_is_a_rocks_once_its_row_is_there_and_nothing_is_left_of_others() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let ahead = [store.disk.write_ahead(Aeon(1), &replica(1).2).unwrap()];
    assert!(store.tide(1).unwrap().rocks.is_empty(), "no rock yet");
    begin(&store, 1, &ahead);
    drop(ahead);
    assert!(whole(&store, 1) && !store.disk.has_orphans());
    // Another takes its place, at the same aeon too; whatever is written twice stands.
    for aeon in [2, 2, 1] {
        let ahead = [store.disk.write_ahead(Aeon(aeon), &replica(aeon).2).unwrap()];
        begin(&store, aeon, &ahead);
        begin(&store, aeon, &ahead);
        sweep(&store);
        assert!(whole(&store, aeon));
        assert_eq!(chunks(&store), OF_ONE);
    }
    // In one transaction, as those of this node's own.
    begin(&store, 3, &[]);
    sweep(&store);
    assert!(whole(&store, 3) && chunks(&store) == OF_ONE);
    // Nothing comes of this one.
    drop(store.disk.write_ahead(Aeon(4), &replica(4).2).unwrap());
    sweep(&store);
    assert_eq!(chunks(&store), OF_ONE);
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
            let ahead = is_ahead.then(|| store.disk.write_ahead(Aeon(aeon), &replica.2).unwrap());
            begin_with(&store, aeon, replica, ahead.as_slice());
            let (now, most) = (chunks(&store), 2 * bytes.div_ceil(ROCK_CHUNK_BYTES) as u64);
            assert!(now <= most, "{now} chunks after rock {aeon} of {bytes} bytes, ahead: {is_ahead}");
        }
        sweep(&store);
        assert_eq!(chunks(&store), bytes.div_ceil(ROCK_CHUNK_BYTES) as u64);
    }
}

/// A slice of a rock is being flushed, and others wait for their turn: a record is durable in the journal meanwhile.
#[test]
fn another_write_waits_for_no_slice() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let plan = Plan::of(&dir.path().join(STORAGE_FILE));
    let rock = Bytes::from(vec![7; 3 * SLICE]);
    chunks(&store);
    plan.hold_flush(0);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| drop(store.disk.write_ahead(Aeon(1), &rock).unwrap()));
        }
        while !plan.is_holding() {
            thread::yield_now();
        }
        store.write(&[Write::Meta { key: "other", value: b"1" }]).unwrap();
        assert!(plan.let_go(), "no flush of the tables was needed");
    });
    assert_eq!(store.meta("other").unwrap().unwrap(), b"1");
    sweep(&store);
    assert_eq!(chunks(&store), 0);
}

/// A thread that leaves the processor to others does not write the slices of its rock itself.
#[cfg(target_os = "linux")]
#[test]
fn the_slices_of_a_thread_of_low_priority_are_written_with_that_of_the_others() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let plan = Plan::of(&dir.path().join(STORAGE_FILE));
    let usual = rustix::process::getpriority_process(None).unwrap();
    // Closing the storage flushes too, and is not the washer's.
    let washers = store.clone();
    let washer = thread::spawn(move || {
        let lowered = rustix::process::nice(5).unwrap();
        assert!(lowered > usual, "its own is lower");
        drop(washers.disk.write_ahead(Aeon(1), &replica(1).2).unwrap());
    });
    washer.join().unwrap();
    assert_eq!(plan.lowest_priority(), Some(usual));
}

/// A run that ends anywhere: the next one finds what nothing refers to, and uses no number again.
#[test]
fn what_a_crash_leaves_is_found_and_removed() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let ahead = store.disk.write_ahead(Aeon(1), &replica(1).2).unwrap();
    begin(&store, 1, std::slice::from_ref(&ahead));
    let (used, lost) = (ahead.body, store.disk.write_ahead(Aeon(2), &replica(2).2).unwrap());
    let (last, lost_body) = (store.disk.write_ahead(Aeon(2), &replica(2).2).unwrap(), lost.body);
    assert!(used < lost_body && lost_body < last.body);
    // As a crash: nobody removes them.
    let newest = last.body;
    std::mem::forget((lost, last));
    store.disk.close();
    // They keep the disk, and it its directory.
    drop(store);
    let store = open(&dir);
    assert!(whole(&store, 1));
    assert!(store.disk.write_ahead(Aeon(3), &Bytes::from_static(&[1])).unwrap().body > newest);
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
        let plan = Plan::of(&dir.path().join(STORAGE_FILE));
        plan.fail_at(step, Fault::Once);
        let written = store.disk.write_ahead(Aeon(2), &replica(2).2);
        plan.lift();
        if written.is_err() {
            assert!(whole(&store, 1));
        }
        drop(written);
        let ahead = [store.disk.write_ahead(Aeon(2), &replica(2).2).unwrap()];
        begin(&store, 2, &ahead);
        sweep(&store);
        assert!(whole(&store, 2), "step {step}");
        assert_eq!(chunks(&store), OF_ONE, "step {step}");
    }
}

/// Tables that fail and are mended between a body and its row: the body is no orphan.
#[test]
fn a_body_on_its_way_stays_while_the_tables_are_mended() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    begin(&store, 1, &[]);
    let ahead = [store.disk.write_ahead(Aeon(2), &replica(2).2).unwrap()];
    store.disk.applier().fail(true);
    // It goes into the journal, and the tables fail with it.
    store.write(&[Write::Meta { key: "other", value: b"1" }]).unwrap();
    while store.write(&[Write::Meta { key: "other", value: b"2" }]).is_ok() {
        thread::yield_now();
    }
    store.disk.applier().fail(false);
    begin(&store, 2, &ahead);
    drop(ahead);
    sweep(&store);
    assert!(whole(&store, 2) && chunks(&store) == OF_ONE);
}

/// A write with an unknown outcome may be there after a crash: its body stays, whatever becomes of a repetition.
#[test]
fn a_body_that_an_unknown_record_names_is_no_orphan() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    begin(&store, 1, &[]);
    let ahead = [store.disk.write_ahead(Aeon(2), &replica(2).2).unwrap()];
    let (row, tide, rock) = replica(2);
    let mut changes = tide.stage();
    changes.begin_anew(tide.cursor(), tide.rocks().next().unwrap().1);
    let rocks = [(Aeon(2), rock)];
    let writes =
        [Write::Tide { id: 1, row: &row }, Write::Changes { id: 1, changes: &changes, rocks: &rocks, ahead: &ahead }];
    let plan = plan(dir.path());
    plan.fail_flushes(u64::MAX, Loss::Nothing);
    assert!(matches!(store.write(&writes), Err(WriteError::Unknown(_))));
    assert!(matches!(store.write(&writes), Err(WriteError::Storage(_))));
    drop(ahead);
    assert!(!store.disk.has_orphans());
    plan.lift();
    assert!(whole(&store, 1));
}

/// A rock without bytes has a body without chunks, whose number is not given again after a restart.
#[test]
fn the_body_of_an_empty_rock_shares_its_number_with_no_other() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    begin_with(&store, 7, replica_of(7, 0), &[]);
    drop(store);
    let store = open(&dir);
    let (mut row, tide, rock) = replica(1);
    let TideKey::Replica(source) = &mut row.key else { unreachable!() };
    source.path = "/other".parse().unwrap();
    let mut changes = tide.stage();
    changes.begin_anew(tide.cursor(), tide.rocks().next().unwrap().1);
    let rocks = [(Aeon(1), rock)];
    let changed = Write::Changes { id: 2, changes: &changes, rocks: &rocks, ahead: &[] };
    store.write(&[Write::Tide { id: 2, row: &row }, changed]).unwrap();
    store.write(&[Write::Drop { id: 1 }]).unwrap();
    sweep(&store);
    assert_eq!(chunks(&store), OF_ONE, "the other tide has its rock");
}

/// Two rocks in one transaction of the tables, the first replaced by the second: its body goes.
#[test]
fn a_rock_that_comes_and_goes_in_one_transaction_leaves_nothing() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    for aeon in 1..=20 {
        begin_with(&store, aeon, replica_of(aeon, 100), &[]);
    }
    sweep(&store);
    assert_eq!(chunks(&store), 1);
}
