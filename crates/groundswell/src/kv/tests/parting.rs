//! A release that the other side is told of later: across restarts, where both sides release at once, and where a claim
//! comes before it.

use super::*;
use crate::{
    MachineState,
    kv::{DocumentRow, Kv, Standing},
    limits::MAX_FORMER_DOCUMENTS,
};

/// Waits until nobody is still to be told of a release.
async fn until_told(kv: &Kv) {
    until("the other side to be told", || kv.former.untold().is_empty()).await;
}

async fn restart(pair: Pair) -> Pair {
    let Pair { machine, manager, id, machine_dir, manager_dir } = pair;
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
    let (machine, manager) = (machine_at(machine_dir.path()).await, manager_at(manager_dir.path()).await);
    Pair { machine, manager, id, machine_dir, manager_dir }
}

/// Both sides store a release, and say so after a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_machines_own_release_is_told_after_restarts_of_both_until_it_is_known() {
    let Pair { machine, manager, id, machine_dir, manager_dir } = pair().await;
    machine.set_kv_value("stock", "1").await.unwrap();
    until_value(&manager, id, "stock", "1").await;
    manager.shutdown().await.unwrap();
    machine.release().await.unwrap();
    assert_eq!(machine.kv().former.untold().len(), 1);
    machine.shutdown().await.unwrap();
    let machine = machine_at(machine_dir.path()).await;
    assert_eq!(machine.kv().former.untold().len(), 1, "it is stored");
    let manager = manager_at(manager_dir.path()).await;
    until_told(machine.kv()).await;
    assert_eq!(manager.machine_status(id).unwrap().link, KvLink::Released, "it was stored before that was said");
    let pair = restart(Pair { machine, manager, id, machine_dir, manager_dir }).await;
    let Pair { machine, manager, .. } = &pair;
    assert_eq!(manager.machine_status(id).unwrap().link, KvLink::Released);
    assert_eq!(manager.get_kv_value(id, "stock").await.unwrap().unwrap().value, "1", "what it had can be read");
    assert_eq!(machine.kv().former.untold().len(), 0, "it is told once");
    // The same two become a pair again, and stay one.
    claim(machine, manager).await;
    let pair = restart(pair).await;
    pair.machine.set_kv_value("stock", "2").await.unwrap();
    until_value(&pair.manager, id, "stock", "2").await;
    pair.machine.shutdown().await.unwrap();
    pair.manager.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_managers_release_is_told_after_restarts_of_both_until_it_is_known() {
    let pair = pair().await;
    pair.machine.shutdown().await.unwrap();
    pair.manager.release(pair.id).await.unwrap();
    let pair = restart(pair).await;
    assert_eq!(pair.manager.list_machine_ids(), []);
    until_told(pair.manager.kv()).await;
    assert_eq!(pair.machine.get_machine_state(), MachineState::Unclaimed, "it was stored before that was said");
    let pair = restart(pair).await;
    assert_eq!(pair.machine.get_machine_state(), MachineState::Unclaimed);
    assert_eq!(pair.manager.kv().former.untold().len(), 0);
    pair.machine.shutdown().await.unwrap();
    pair.manager.shutdown().await.unwrap();
}

/// Each side releases while the other is away: neither has the document any more, and each believes the other.
#[tokio::test(flavor = "multi_thread")]
async fn releases_that_cross_end_at_both_sides() {
    let Pair { machine, manager, id, machine_dir, manager_dir } = pair().await;
    manager.shutdown().await.unwrap();
    machine.release().await.unwrap();
    machine.shutdown().await.unwrap();
    let manager = manager_at(manager_dir.path()).await;
    manager.release(id).await.unwrap();
    let machine = machine_at(machine_dir.path()).await;
    until_told(machine.kv()).await;
    until_told(manager.kv()).await;
    assert_eq!(machine.get_machine_state(), MachineState::Unclaimed);
    assert_eq!(manager.list_machine_ids(), []);
    claim(&machine, &manager).await;
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

/// The manager has released the machine while it was away, and claims it again before the machine has heard of that.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_crosses_a_release_makes_a_pair_that_stays() {
    let pair = pair().await;
    let before = pair.machine.kv().own().unwrap().identity().namespace;
    pair.machine.set_kv_value("stock", "1").await.unwrap();
    let Pair { machine, manager, id, machine_dir, manager_dir } = pair;
    machine.shutdown().await.unwrap();
    manager.release(id).await.unwrap();
    // It does not find the machine by itself.
    manager.kv().former.untold()[0].replaced.cancel();
    let machine = machine_at(machine_dir.path()).await;
    claim(&machine, &manager).await;
    assert_ne!(machine.kv().own().unwrap().identity().namespace, before, "what was released is not shared again");
    until_value(&manager, id, "stock", "1").await;
    until_told(manager.kv()).await;
    let pair = restart(Pair { machine, manager, id, machine_dir, manager_dir }).await;
    pair.manager.set_kv_value(id, "price", "2").await.unwrap();
    pair.manager.until_kv_delivered(id).await.unwrap();
    assert!(matches!(pair.machine.get_machine_state(), MachineState::Claimed { .. }));
    pair.machine.shutdown().await.unwrap();
    pair.manager.shutdown().await.unwrap();
}

/// The machine has released itself while its manager was away, and another has claimed it since.
#[tokio::test(flavor = "multi_thread")]
async fn a_former_manager_that_comes_back_late_is_told_and_disturbs_nobody() {
    let Pair { machine, manager, id, manager_dir, .. } = pair().await;
    manager.shutdown().await.unwrap();
    machine.release().await.unwrap();
    let dir = TempDir::new().unwrap();
    let next = manager_at(dir.path()).await;
    claim(&machine, &next).await;
    assert_eq!(machine.kv().former.untold().len(), 1, "another manager's hello says nothing of the first one");
    let manager = manager_at(manager_dir.path()).await;
    until("the former manager to know", || manager.machine_status(id).unwrap().link == KvLink::Released).await;
    until_told(machine.kv()).await;
    assert_eq!(machine.get_machine_state(), MachineState::Claimed { manager: next.id() });
    machine.set_kv_value("stock", "2").await.unwrap();
    until_value(&next, id, "stock", "2").await;
    for node in [machine.node(), manager.node(), next.node()] {
        node.shutdown().await.unwrap();
    }
}

/// A machine that was restored from a backup of before the release is told again.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_has_forgotten_a_release_is_told_again() {
    let Pair { machine, manager, id, machine_dir, .. } = pair().await;
    machine.shutdown().await.unwrap();
    let backup = TempDir::new().unwrap();
    for file in ["kv.redb", "kv.journal"] {
        std::fs::copy(machine_dir.path().join(file), backup.path().join(file)).unwrap();
    }
    let machine = machine_at(machine_dir.path()).await;
    manager.release(id).await.unwrap();
    until_told(manager.kv()).await;
    machine.shutdown().await.unwrap();
    for file in ["kv.redb", "kv.journal"] {
        std::fs::copy(backup.path().join(file), machine_dir.path().join(file)).unwrap();
    }
    let machine = machine_at(machine_dir.path()).await;
    until("the machine to know", || machine.get_machine_state() == MachineState::Unclaimed).await;
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

/// What a version before stored of a release had no author, and is told all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_an_earlier_version_has_stored_is_told() {
    let Pair { machine, manager, manager_dir, .. } = pair().await;
    manager.shutdown().await.unwrap();
    {
        let storage = Storage::open(&manager_dir.path().join("kv.redb"), Role::Manager).unwrap();
        let (number, row) = storage.documents().unwrap().remove(0);
        let row = DocumentRow { standing: Standing::Releasing { peer: machine.id() }, ..row };
        storage.write(vec![Row::Document { number, row }]).unwrap();
        storage.close();
    }
    let manager = manager_at(manager_dir.path()).await;
    assert_eq!(manager.list_machine_ids(), []);
    until_told(manager.kv()).await;
    assert_eq!(machine.get_machine_state(), MachineState::Unclaimed);
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

/// The list of former documents has a limit: what was told goes first.
#[tokio::test(flavor = "multi_thread")]
async fn former_documents_have_a_limit_and_those_that_were_told_go_first() {
    let Pair { machine, manager, manager_dir, .. } = pair().await;
    manager.shutdown().await.unwrap();
    let nobody = iroh::SecretKey::from_bytes(&[5; 32]).public();
    {
        let storage = Storage::open(&manager_dir.path().join("kv.redb"), Role::Manager).unwrap();
        let rows = (0..MAX_FORMER_DOCUMENTS as u64).map(|number| {
            // The oldest of all was not told, the next was.
            let standing = Standing::Former { peer: nobody, author: None, told: number != 0 };
            Row::Document { number: 100 + number, row: DocumentRow { secret: [1; 32], standing } }
        });
        storage.write(rows.collect()).unwrap();
        storage.close();
    }
    let manager = manager_at(manager_dir.path()).await;
    manager.release(machine.id()).await.unwrap();
    until("the machine to be told", || manager.kv().former.untold().len() == 1).await;
    manager.shutdown().await.unwrap();
    let storage = Storage::open(&manager_dir.path().join("kv.redb"), Role::Manager).unwrap();
    let numbers: Vec<u64> = storage.documents().unwrap().into_iter().map(|(number, _)| number).collect();
    assert_eq!(numbers.len(), MAX_FORMER_DOCUMENTS);
    assert!(numbers.contains(&100) && !numbers.contains(&101), "the oldest that was told has gone");
    machine.shutdown().await.unwrap();
}
