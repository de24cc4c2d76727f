use std::{collections::BTreeSet, fs, path::PathBuf};

use groundswell_core::kv::Stamp;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::{
    OpenError,
    disk::{
        BLOCK_BYTES, HALF_BYTES,
        failing::{Fault, Loss, Plan},
    },
    identity::DataDir,
    store::rows::tests::golden,
};

const AUTHOR: KvAuthor = KvAuthor::Machine;

fn entry(counter: u64) -> Row {
    let key = *blake3::hash(&counter.to_le_bytes()).as_bytes();
    let sealed = Sealed { author: AUTHOR, key, counter, signature: [7; 128], envelope: counter.to_string().into() };
    Row::Entry { number: 1, entry: sealed }
}

fn counters(storage: &Storage) -> Vec<u64> {
    let (mut counters, mut after) = (Vec::new(), 0);
    loop {
        let entries = storage.entries_after(1, AUTHOR, after, u64::MAX).unwrap();
        let Some(last) = entries.last() else { return counters };
        after = last.counter;
        counters.extend(entries.iter().map(|entry| entry.counter));
    }
}

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn tables(&self) -> PathBuf {
        self.0.path().join("node.redb")
    }

    fn journal(&self) -> PathBuf {
        self.0.path().join("node.journal")
    }

    /// How the journal is to fail.
    fn plan(&self) -> std::sync::Arc<Plan> {
        Plan::of(&self.journal())
    }

    fn try_open(&self, half_bytes: usize) -> Result<Storage, OpenError> {
        let (disk, _) = Disk::open_sized(DataDir::open(self.0.path())?, half_bytes)?;
        disk.mark_run(self.0.path())?;
        Ok(Storage::new(Arc::new(disk)))
    }

    fn open(&self) -> Storage {
        self.try_open(HALF_BYTES).unwrap()
    }
}

/// The thread of the tables panics: acknowledged entries can be read, here and after a restart, and every write fails with that
/// reason.
#[test]
fn a_panic_of_the_thread_of_the_tables_hangs_nobody() {
    let place = Place::new();
    let storage = place.open();
    storage.write(vec![entry(1)]).unwrap();
    assert_eq!(counters(&storage), [1]);
    storage.disk.applier().panic();
    // It goes into the journal, and then nobody brings it into the tables.
    storage.write(vec![entry(2)]).unwrap();
    let panicked = |result: Result<(), WriteError>| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("panicked") && error.contains("restart the node"), "{error}");
    };
    assert_eq!(counters(&storage), [1, 2]);
    panicked(storage.write(vec![entry(3)]));
    assert_eq!(counters(&storage), [1, 2]);
    storage.close();
    drop(storage);
    assert_eq!(counters(&place.open()), [1, 2]);
}

#[test]
fn rows_are_what_they_were() {
    let (key, stamp) = ([7; 32], Stamp { wall_ms: 1_750_000_000_000, count: 300 });
    let peer: crate::PeerId = "ae58ff8833241ac82d6ff7611046ed67b5072d142c588d0063e942d9a75502b6".parse().unwrap();
    let sealed = Sealed { author: AUTHOR, key, counter: 300, signature: [9; 128], envelope: "envelope".into() };
    assert_eq!(&sealed.to_stored()[..9], [44, 1, 0, 0, 0, 0, 0, 0, 9]);
    let standing = Standing::Paired { peer, author: [3; 32] };
    golden("kv_unclaimed", &DocumentRow { secret: [1; 32], standing: Standing::Unclaimed });
    golden("kv_releasing", &DocumentRow { secret: [1; 32], standing: Standing::Releasing { peer } });
    let former = Standing::Former { peer, author: Some([3; 32]), told: true };
    golden("kv_former", &DocumentRow { secret: [1; 32], standing: former });
    golden("kv_released", &DocumentRow { secret: [1; 32], standing: Standing::Released { peer } });
    golden(
        "kv_journal",
        &vec![
            Row::Document { number: 1, row: DocumentRow { secret: [1; 32], standing } },
            Row::Drop { number: 2 },
            Row::Entry { number: 1, entry: sealed },
            Row::Mark { number: 1, author: KvAuthor::Manager, mark: Mark::Bound, counter: 512 },
            Row::Clock { number: 1, bound: stamp },
            Row::Missing { number: 1, author: AUTHOR, key, counter: 301 },
        ],
    );
    let id = || WriteId::new("sale-0000000017").unwrap();
    let done = |result| Done { digest: groundswell_core::Digest([9; 32]), result };
    golden(
        "kv_journal_ids",
        &vec![
            Row::Id { number: 1, id: id(), done: done(Outcome::Put { timestamp: 1_750_000_000_000 }) },
            Row::Id { number: 1, id: id(), done: done(Outcome::Deleted { had_value: true }) },
            Row::ForgetId { number: 1, id: id() },
        ],
    );
}

#[test]
fn a_value_stays_missing_until_the_announced_one_is_here() {
    let place = Place::new();
    let storage = place.open();
    let (number, key) = (1, [7; 32]);
    let entry = |counter: u64| Row::Entry {
        number,
        entry: Sealed { author: AUTHOR, key, counter, signature: [0; 128], envelope: counter.to_string().into() },
    };
    let missing = |counter: u64| Row::Missing { number, author: AUTHOR, key, counter };
    let is_missing = || !storage.missing_after(number, None, 10).unwrap().is_empty();
    storage.write(vec![missing(5)]).unwrap();
    storage.write(vec![entry(3)]).unwrap();
    assert!(is_missing(), "an older one came");
    storage.write(vec![missing(4)]).unwrap();
    storage.write(vec![entry(4)]).unwrap();
    assert!(is_missing(), "it was announced again by an older word");
    storage.write(vec![entry(5)]).unwrap();
    assert!(!is_missing());
    storage.write(vec![missing(5)]).unwrap();
    assert!(!is_missing(), "it is here already");
    storage.write(vec![missing(6), entry(7)]).unwrap();
    assert!(!is_missing(), "a newer one came");
}

/// A crash leaves the tables as they were when they were durable last, and the journal whole.
#[test]
fn what_the_tables_lack_after_a_crash_comes_from_the_journal() {
    let place = Place::new();
    let storage = place.open();
    storage.write(vec![entry(1)]).unwrap();
    storage.close();
    let durable = fs::read(place.tables()).unwrap();
    let storage = place.open();
    // Into the second half of the journal.
    let records = (HALF_BYTES / 4096 + 100) as u64;
    for counter in 2..=records {
        storage.write(vec![entry(counter)]).unwrap();
    }
    assert_eq!(counters(&storage).len() as u64, records, "who reads sees what was written before");
    drop(storage);
    fs::write(place.tables(), &durable).unwrap();
    let storage = place.open();
    assert_eq!(counters(&storage), (1..=records).collect::<Vec<_>>());
    // It goes on from there, over both halves again.
    for counter in records + 1..=3 * records {
        storage.write(vec![entry(counter)]).unwrap();
    }
    drop(storage);
    assert_eq!(counters(&place.open()).len() as u64, 3 * records);
    // The tables of that time do not go with a journal that has gone round.
    fs::write(place.tables(), &durable).unwrap();
    let error = place.try_open(HALF_BYTES).err().unwrap();
    assert!(error.to_string().contains("restore both from one backup"), "{error}");
}

/// Three entries that only the journal has: the tables as they were before, and as they are after.
fn three_in_the_journal(place: &Place) -> [Vec<u8>; 2] {
    place.open().close();
    let before = fs::read(place.tables()).unwrap();
    let storage = place.open();
    for counter in 1..=3 {
        storage.write(vec![entry(counter)]).unwrap();
    }
    drop(storage);
    let after = fs::read(place.tables()).unwrap();
    fs::write(place.tables(), &before).unwrap();
    [before, after]
}

/// A byte of this record of a run is wrong. Before them is the run's mark.
fn damage(place: &Place, record: usize) {
    let mut journal = fs::read(place.journal()).unwrap();
    journal[(1 + record) * BLOCK_BYTES + 100] ^= 1;
    fs::write(place.journal(), &journal).unwrap();
}

/// The record that was being written at a power cut is torn: it is as if it had not been written, and
/// what is written next takes its place.
#[test]
fn a_torn_end_of_the_journal_is_left_out() {
    let place = Place::new();
    three_in_the_journal(&place);
    damage(&place, 3);
    let storage = place.open();
    assert_eq!(counters(&storage), [1, 2]);
    storage.write(vec![entry(4)]).unwrap();
    drop(storage);
    assert_eq!(counters(&place.open()), [1, 2, 4]);
}

#[test]
fn what_is_too_large_for_the_journal_is_durable_too() {
    let place = Place::new();
    let storage = place.open();
    storage.write(vec![entry(1)]).unwrap();
    let sealed = |counter: u64| Sealed {
        author: AUTHOR,
        key: [counter as u8; 32],
        counter,
        signature: [0; 128],
        envelope: vec![counter as u8; HALF_BYTES].into(),
    };
    for counter in 2..=3 {
        storage.write(vec![Row::Entry { number: 1, entry: sealed(counter) }]).unwrap();
        // Not closed: what is in the file now is what a crash would leave.
        let crashed = Place::new();
        fs::copy(place.tables(), crashed.tables()).unwrap();
        let journal = crashed.tables().with_extension("journal");
        fs::copy(place.tables().with_extension("journal"), journal).unwrap();
        assert_eq!(counters(&crashed.open()), (1..=counter).collect::<Vec<_>>());
    }
    storage.write(vec![entry(4)]).unwrap();
    drop(storage);
    let storage = place.open();
    assert_eq!(counters(&storage), [1, 2, 3, 4]);
    assert_eq!(storage.entry(1, AUTHOR, [3; 32]).unwrap(), Some(sealed(3)));
}

/// Tables that can't be written, as on a full disk: what is in the journal stands, nothing more is
/// taken, and all of it is there when the tables are well again.
#[test]
fn tables_that_fail_are_filled_from_the_journal_when_they_are_well() {
    let place = Place::new();
    let storage = place.open();
    storage.write(vec![entry(1)]).unwrap();
    assert_eq!(counters(&storage), [1]);
    storage.disk.applier().fail(true);
    storage.write(vec![entry(2)]).unwrap();
    let read = storage.entries_after(1, AUTHOR, 0, u64::MAX);
    assert_eq!(read.unwrap().len(), 2, "what was acknowledged can be read");
    let refused = storage.write(vec![entry(3)]).unwrap_err();
    assert!(refused.to_string().contains("made to fail"), "{refused}");
    storage.disk.applier().fail(false);
    assert_eq!(counters(&storage), [1, 2]);
    storage.write(vec![entry(4)]).unwrap();
    assert_eq!(counters(&storage), [1, 2, 4]);
    drop(storage);
    assert_eq!(counters(&place.open()), [1, 2, 4]);
}

#[test]
fn a_closed_storage_says_so() {
    let place = Place::new();
    let storage = place.open();
    storage.write(vec![entry(1)]).unwrap();
    storage.close();
    storage.close();
    assert!(storage.write(vec![entry(2)]).unwrap_err().to_string().contains("shut down"));
    assert!(storage.documents().unwrap_err().to_string().contains("shut down"));
    assert_eq!(counters(&place.open()), [1]);
}

#[test]
fn a_document_begins_with_nothing_of_an_earlier_one_of_its_number() {
    let place = Place::new();
    let storage = place.open();
    storage.write(vec![entry(1), Row::Mark { number: 1, author: AUTHOR, mark: Mark::Held, counter: 1 }]).unwrap();
    let row = DocumentRow { secret: [1; 32], standing: Standing::Unclaimed };
    storage.write(Row::begin(1, row.clone()).to_vec()).unwrap();
    assert_eq!(storage.documents().unwrap(), [(1, row)]);
    let loaded = storage.load(1).unwrap();
    assert_eq!((loaded.entries, loaded.held), (Vec::new(), [0, 0]));
}

/// A journal that is missing may hold acknowledged writes. An empty file in its place is somebody's word that it is lost.
#[test]
fn a_missing_journal_is_refused_until_somebody_says_that_it_is_lost() {
    let place = Place::new();
    let storage = place.open();
    storage.write(vec![entry(1)]).unwrap();
    // As a kill leaves it: nothing has made the tables durable yet.
    let killed = Place::new();
    for file in ["node.redb", "node.run"] {
        fs::copy(place.0.path().join(file), killed.0.path().join(file)).unwrap();
    }
    let error = killed.try_open(HALF_BYTES).err().unwrap();
    assert!(matches!(error, OpenError::JournalMissing { .. }), "{error}");
    storage.close();
    fs::remove_file(place.journal()).unwrap();
    let error = place.try_open(HALF_BYTES).err().unwrap();
    assert!(matches!(&error, OpenError::JournalMissing { path } if *path == place.journal()), "{error}");
    fs::write(place.journal(), b"").unwrap();
    let storage = place.open();
    storage.write(vec![entry(2)]).unwrap();
    drop(storage);
    assert_eq!(counters(&place.open()), [1, 2]);
}

/// The disk has lost a record before the end: that is said, and nothing is opened without it.
#[test]
fn damage_before_the_end_of_the_journal_is_said() {
    let place = Place::new();
    let [_, whole] = three_in_the_journal(&place);
    damage(&place, 2);
    let error = place.try_open(HALF_BYTES).err().unwrap();
    assert!(matches!(&error, OpenError::Damaged { reason, .. } if reason.contains("were acknowledged")), "{error}");
    // Tables that have it need no journal for it.
    fs::write(place.tables(), &whole).unwrap();
    assert_eq!(counters(&place.open()), [1, 2, 3]);
}

/// What happens to a storage, one after another.
#[derive(Debug, Clone)]
enum Deed {
    Write {
        bytes: usize,
    },
    /// The next write of the journal's file fails, perhaps halfway.
    FailWrite {
        fault: Fault,
    },
    /// So many flushes of it fail, and what they were to flush is lost or not.
    FailSync {
        flushes: u64,
        loss: Loss,
    },
    Tables {
        fail: bool,
    },
    /// So many flushes of the tables fail, and what they were to flush is lost.
    FailTables {
        flushes: u64,
        loss: Loss,
    },
    Read,
    /// The process ends; of what was not flushed these blocks have come to the disk, and the tables are as
    /// they were when they were durable last, or as they are.
    Crash {
        blocks: u64,
        durable_tables: bool,
    },
}

fn losses() -> impl Strategy<Value = Loss> {
    prop_oneof![Just(Loss::Nothing), Just(Loss::Dropped), Just(Loss::Evicted)]
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        8 => (1usize..30_000).prop_map(|bytes| Deed::Write { bytes }),
        1 => Just(Deed::Write { bytes: 80_000 }),
        1 => prop_oneof![Just(Fault::Once), Just(Fault::Torn)].prop_map(|fault| Deed::FailWrite { fault }),
        1 => (1u64..4, losses()).prop_map(|(flushes, loss)| Deed::FailSync { flushes, loss }),
        1 => any::<bool>().prop_map(|fail| Deed::Tables { fail }),
        2 => (1u64..4, losses()).prop_map(|(flushes, loss)| Deed::FailTables { flushes, loss }),
        1 => Just(Deed::Read),
        1 => (any::<u64>(), any::<bool>()).prop_map(|(blocks, durable_tables)| Deed::Crash { blocks, durable_tables }),
    ];
    prop::collection::vec(deed, 1..60)
}

fn id_of(counter: u64) -> WriteId {
    WriteId::new(counter.to_be_bytes()).unwrap()
}

/// A half of 16 blocks.
const SMALL_HALF: usize = 16 * BLOCK_BYTES;

fn open_small(place: &Place) -> Storage {
    let storage = place.try_open(SMALL_HALF).unwrap();
    // A thread makes the tables durable when it is told to, which nobody has done yet.
    Plan::of(&place.tables()).keep_disk();
    place.plan().keep_disk();
    storage
}

/// What a crash leaves.
fn crash(place: &Place, storage: Storage, blocks: u64, durable_tables: bool) -> Storage {
    let plan = Plan::of(&place.tables());
    plan.lift();
    place.plan().lift();
    let journal = fs::read(place.journal()).unwrap();
    let mut left = place.plan().disk();
    for (block, bytes) in journal.chunks(BLOCK_BYTES).enumerate() {
        if blocks >> (block % 64) & 1 == 1 {
            left[block * BLOCK_BYTES..][..bytes.len()].copy_from_slice(bytes);
        }
    }
    let (durable, cached) = (plan.disk(), fs::read(place.tables()).unwrap());
    // Its thread ends; what that writes is undone below.
    drop(storage);
    fs::write(place.journal(), left).unwrap();
    fs::write(place.tables(), if durable_tables { durable } else { cached }).unwrap();
    open_small(place)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever fails, and whenever it crashes: everything that was acknowledged is there; nothing is there that nobody
    /// wrote, or of which it was said that it was not done; and what was read once stays. A write that is repeated with its
    /// id until it is acknowledged has its id stored, exactly where it is stored itself.
    #[test]
    fn what_was_acknowledged_survives_all_failures_and_crashes(deeds in deeds()) {
        let place = Place::new();
        let mut storage = open_small(&place);
        let (mut next, mut acknowledged, mut seen) = (0, BTreeSet::new(), BTreeSet::new());
        let mut not_done = BTreeSet::new();
        for deed in deeds.into_iter().chain([Deed::Crash { blocks: 0, durable_tables: true }, Deed::Read]) {
            match deed {
                Deed::Write { bytes } => {
                    next += 1;
                    let Row::Entry { number, entry } = entry(next) else { unreachable!() };
                    let entry = Sealed { envelope: vec![next as u8; bytes].into(), ..entry };
                    let done = Done { digest: groundswell_core::Digest([0; 32]), result: Outcome::Put { timestamp: next } };
                    let id = Row::Id { number, id: id_of(next), done };
                    match storage.write(vec![Row::Entry { number, entry }, id]) {
                        Ok(()) => drop(acknowledged.insert(next)),
                        Err(WriteError::Storage(_)) => drop(not_done.insert(next)),
                        Err(WriteError::Unknown(_)) => {}
                        Err(WriteError::ShutDown) => unreachable!(),
                    }
                }
                Deed::FailWrite { fault } => place.plan().fail_at(0, fault),
                Deed::FailSync { flushes, loss } => place.plan().fail_flushes(flushes, loss),
                Deed::Tables { fail } => storage.disk.applier().fail(fail),
                Deed::FailTables { flushes, loss } => Plan::of(&place.tables()).fail_flushes(flushes, loss),
                Deed::Crash { blocks, durable_tables } => storage = crash(&place, storage, blocks, durable_tables),
                Deed::Read => {
                    storage.disk.applier().fail(false);
                    Plan::of(&place.tables()).lift();
                    // What had begun to fail before may fail once more.
                    let _ = storage.entries_after(1, AUTHOR, 0, 1);
                    let found: BTreeSet<u64> = counters(&storage).into_iter().collect();
                    prop_assert!(found.is_superset(&acknowledged), "lost {:?}", acknowledged.difference(&found));
                    prop_assert!(found.is_superset(&seen), "undone {:?}", seen.difference(&found));
                    prop_assert!(found.iter().all(|counter| *counter <= next));
                    prop_assert!(found.is_disjoint(&not_done), "done after all: {:?}", found.intersection(&not_done));
                    let ids: BTreeSet<WriteId> = storage.load(1).unwrap().ids.into_keys().collect();
                    prop_assert_eq!(ids, found.iter().map(|counter| id_of(*counter)).collect());
                    seen = found;
                }
            }
        }
    }
}

/// A record whose flush fails is written over, so that it was not done. Where that fails too, nobody knows; the next write
/// takes it back first.
#[test]
fn a_record_whose_flush_failed_is_taken_back_or_unknown() {
    let place = Place::new();
    let storage = place.open();
    storage.write(vec![entry(1)]).unwrap();
    place.plan().fail_flushes(1, Loss::Nothing);
    let error = storage.write(vec![entry(2)]).unwrap_err();
    assert!(matches!(error, WriteError::Storage(_)) && error.to_string().contains("try again"), "{error}");
    place.plan().fail_flushes(2, Loss::Nothing);
    let error = storage.write(vec![entry(3)]).unwrap_err();
    assert!(matches!(error, WriteError::Unknown(_)) && !error.to_string().contains("try again"), "{error}");
    assert_eq!(counters(&storage), [1], "nobody sees it");
    storage.write(vec![entry(4)]).unwrap();
    drop(storage);
    assert_eq!(counters(&place.open()), [1, 4]);
}
