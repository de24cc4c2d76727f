//! A file whose flush has failed: what was acknowledged survives it, in this process and the next.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, Copy)]
enum Deed {
    Write {
        rows: u8,
    },
    FailFlushes {
        flushes: u64,
        loss: Loss,
    },
    /// A step of another kind fails, perhaps a flush too.
    FailStep {
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
        2 => (1u64..4, loss).prop_map(|(flushes, loss)| Deed::FailFlushes { flushes, loss }),
        1 => (0u64..20, fault).prop_map(|(step, fault)| Deed::FailStep { step, fault }),
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
        let plan = plan(dir.path());
        let mut store = open(dir.path()).unwrap();
        plan.keep_disk();
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
                Deed::FailFlushes { flushes, loss } => plan.fail_flushes(flushes, loss),
                Deed::FailStep { step, fault } => plan.fail_at(step, fault),
                Deed::Lift => drop(plan.lift()),
                Deed::Crash { power } => {
                    plan.lift();
                    let (disk, cached) = (plan.disk(), fs::read(dir.path().join(STORAGE_FILE)).unwrap());
                    // What closing it writes is undone below.
                    drop(store);
                    fs::write(dir.path().join(STORAGE_FILE), if power { disk } else { cached }).unwrap();
                    store = open(dir.path()).map_err(|error| TestCaseError::fail(error.to_string()))?;
                    plan.keep_disk();
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

/// The process ends after a flush has failed, and the system still has the pages: the next one does not believe them.
#[test]
fn a_file_stays_suspect_for_the_next_process() {
    let dir = TempDir::new().unwrap();
    let (store, plan) = (open(dir.path()).unwrap(), plan(dir.path()));
    plan.keep_disk();
    plan.fail_flushes(u64::MAX, Loss::Dropped);
    assert!(matches!(write_peers(&store, &[peer_of(1)]), Err(WriteError::Unknown(_))));
    let refused = write_peers(&store, &[peer_of(2)]).unwrap_err();
    assert!(matches!(refused, WriteError::Storage(_)), "{refused}");
    assert_eq!(store.peers().unwrap().len(), 1, "what was read before can be read");
    drop(store);
    let error = open(dir.path()).err().unwrap().to_string();
    assert!(error.contains("a flush of node.redb has failed"), "{error}");
    plan.lift();
    let before = plan.rewritten();
    let store = open(dir.path()).unwrap();
    assert_eq!(plan.rewritten(), before + 1);
    let (row, ..) = publication();
    store.write(&[Write::Tide { id: 1, row: &row }]).unwrap();
    write_peers(&store, &[peer_of(3)]).unwrap();
    let disk = plan.disk();
    drop(store);
    fs::write(dir.path().join(STORAGE_FILE), disk).unwrap();
    let store = open(dir.path()).unwrap();
    assert_eq!(store.peers().unwrap().len(), 2);
    assert_eq!(plan.rewritten(), before + 1, "it is trusted again");
    // A file rewritten while the node runs does not count as a restored copy at the next start.
    let epoch = || open(dir.path()).unwrap().tides().unwrap()[0].1.epoch;
    store.write(&[Write::Tide { id: 1, row: &row }]).unwrap();
    plan.fail_flushes(1, Loss::Nothing);
    write_peers(&store, &[peer_of(4)]).unwrap();
    assert_eq!(plan.rewritten(), before + 2);
    drop(store);
    assert_eq!(epoch(), row.epoch);
}
