//! A file whose flush has failed: what was acknowledged survives it, in this process and the next.

use proptest::prelude::*;

use super::*;
use crate::disk::BLOCK_BYTES;

#[derive(Debug, Clone, Copy)]
enum Deed {
    Write {
        rows: u8,
    },
    /// Flushes fail: of the journal, or of the tables.
    FailFlushes {
        of_journal: bool,
        flushes: u64,
        loss: Loss,
    },
    /// A step of another kind fails, perhaps a flush too.
    FailStep {
        of_journal: bool,
        step: u64,
        fault: Fault,
    },
    Lift,
    /// The process ends, and with it the power, or not.
    Crash {
        power: bool,
    },
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let loss = prop_oneof![Just(Loss::Nothing), Just(Loss::Dropped), Just(Loss::Evicted)];
    let fault = prop_oneof![Just(Fault::Once), Just(Fault::Torn), Just(Fault::Lasting)];
    let deed = prop_oneof![
        8 => (1u8..40).prop_map(|rows| Deed::Write { rows }),
        2 => (any::<bool>(), 1u64..4, loss)
            .prop_map(|(of_journal, flushes, loss)| Deed::FailFlushes { of_journal, flushes, loss }),
        1 => (any::<bool>(), 0u64..20, fault)
            .prop_map(|(of_journal, step, fault)| Deed::FailStep { of_journal, step, fault }),
        1 => Just(Deed::Lift),
        2 => any::<bool>().prop_map(|power| Deed::Crash { power }),
    ];
    prop::collection::vec(deed, 1..30)
}

/// A peer of this number: a row of its own.
fn peer_of(number: u32) -> EndpointAddr {
    let mut key = [3; 32];
    key[..4].copy_from_slice(&number.to_le_bytes());
    EndpointAddr::new(iroh::SecretKey::from_bytes(&key).public())
}

/// The journal turns every few writes, and the tables are flushed.
fn open_small(dir: &Path) -> Result<Store, OpenError> {
    let (disk, _) = Disk::open_sized(DataDir::open(dir)?, 8 * BLOCK_BYTES)?;
    disk.mark_run(dir)?;
    for plan in [plan(dir), plan_of_tables(dir)] {
        plan.keep_disk();
    }
    Ok(Store { disk: Arc::new(disk), metrics: Arc::default() })
}

fn write_peers(store: &Store, peers: &[EndpointAddr]) -> Result<(), WriteError> {
    let writes: Vec<Write<'_>> = peers.iter().map(|addr| Write::Peer { addr, seen: 1 }).collect();
    store.write(&writes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever flush fails, whatever becomes of its pages, and whenever the power goes: everything that was acknowledged is
    /// there, nothing is there of which it was said that it was not done, and the storage can be opened. What is unknown is
    /// repeated before anything else, as the driver does.
    #[test]
    fn what_was_acknowledged_survives_failed_flushes_and_power_cuts(deeds in deeds()) {
        let dir = TempDir::new().unwrap();
        let plans = [plan_of_tables(dir.path()), plan(dir.path())];
        let mut store = open_small(dir.path()).unwrap();
        let (mut next, mut acknowledged, mut not_done) = (0, Vec::new(), Vec::new());
        let mut unknown: Vec<EndpointAddr> = Vec::new();
        for deed in deeds.into_iter().chain([Deed::Crash { power: true }]) {
            match deed {
                Deed::Write { rows } => {
                    if !unknown.is_empty() && write_peers(&store, &unknown).is_ok() {
                        acknowledged.append(&mut unknown);
                    }
                    if unknown.is_empty() {
                        let rows: Vec<EndpointAddr> = (0..rows).map(|n| peer_of(next + u32::from(n))).collect();
                        next += 100;
                        match write_peers(&store, &rows) {
                            Ok(()) => acknowledged.extend(rows),
                            Err(WriteError::Unknown(_)) => unknown = rows,
                            Err(_) => not_done.extend(rows),
                        }
                    }
                }
                Deed::FailFlushes { of_journal, flushes, loss } => {
                    plans[usize::from(of_journal)].fail_flushes(flushes, loss);
                }
                Deed::FailStep { of_journal, step, fault } => plans[usize::from(of_journal)].fail_at(step, fault),
                Deed::Lift => plans.iter().for_each(|plan| _ = plan.lift()),
                Deed::Crash { power } => {
                    plans.iter().for_each(|plan| _ = plan.lift());
                    let files = [STORAGE_FILE, JOURNAL_FILE].map(|file| dir.path().join(file));
                    let cached = files.each_ref().map(|file| fs::read(file).unwrap());
                    let disk = plans.each_ref().map(|plan| plan.disk());
                    // What closing it writes is undone below.
                    drop(store);
                    for (file, bytes) in files.iter().zip(if power { disk } else { cached }) {
                        fs::write(file, bytes).unwrap();
                    }
                    store = open_small(dir.path()).map_err(|error| TestCaseError::fail(error.to_string()))?;
                    unknown.clear();
                    let there: Vec<PeerId> = store.peers().unwrap().into_iter().map(|(addr, _)| addr.id).collect();
                    let is_there = |addr: &EndpointAddr| there.contains(&addr.id);
                    prop_assert!(acknowledged.iter().all(is_there), "lost");
                    prop_assert!(!not_done.iter().any(is_there), "done after all");
                }
            }
        }
    }
}

/// The process ends after a flush of the tables has failed, and the system still has the pages: the next one does not believe them.
#[test]
fn a_file_stays_suspect_for_the_next_process() {
    let dir = TempDir::new().unwrap();
    let (store, plan) = (open_small(dir.path()).unwrap(), plan_of_tables(dir.path()));
    let (row, ..) = publication();
    store.write(&[Write::Tide { id: 1, row: &row }]).unwrap();
    plan.fail_flushes(u64::MAX, Loss::Dropped);
    let mut acknowledged = 0;
    // Until the journal has to be overwritten.
    let refused = loop {
        match write_peers(&store, &[peer_of(acknowledged)]) {
            Ok(()) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, WriteError::Storage(_)), "{refused}");
    assert_eq!(store.peers().unwrap().len(), acknowledged as usize, "what was acknowledged can be read");
    drop(store);
    let error = open_small(dir.path()).err().unwrap().to_string();
    assert!(error.contains("a flush of node.redb has failed"), "{error}");
    plan.lift();
    let before = plan.rewritten();
    let store = open_small(dir.path()).unwrap();
    assert_eq!(plan.rewritten(), before + 1);
    assert_eq!(store.peers().unwrap().len(), acknowledged as usize);
    drop(store);
    drop(open_small(dir.path()).unwrap());
    assert_eq!(plan.rewritten(), before + 1, "it is trusted again");
    // A file rewritten while the node runs does not count as a restored copy at the next start.
    let store = open_small(dir.path()).unwrap();
    plan.fail_flushes(1, Loss::Nothing);
    for n in 100..150 {
        write_peers(&store, &[peer_of(n)]).unwrap();
    }
    assert_eq!(plan.rewritten(), before + 2);
    drop(store);
    assert_eq!(open_small(dir.path()).unwrap().tides().unwrap()[0].1.epoch, row.epoch);
}
