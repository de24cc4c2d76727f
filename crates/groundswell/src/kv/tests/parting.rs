//! A release that the other side is told of later: across restarts, where both sides release at once, and where a claim
//! comes before it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures_util::FutureExt;
use tokio::{sync::Notify, task::JoinHandle, time::timeout};

use super::*;
use crate::{
    ClaimError, MachineState,
    kv::{DocumentRow, Kv, Standing},
    limits::MAX_FORMER_DOCUMENTS,
};

/// Waits until nobody is still to be told of a release.
async fn until_told(kv: &Kv) {
    until("the other side to be told", || kv.untold().is_empty()).await;
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
    assert_eq!(machine.kv().untold().len(), 1);
    machine.shutdown().await.unwrap();
    let machine = machine_at(machine_dir.path()).await;
    assert_eq!(machine.kv().untold().len(), 1, "it is stored");
    let manager = manager_at(manager_dir.path()).await;
    until_told(machine.kv()).await;
    assert_eq!(manager.machine_status(id).unwrap().link, KvLink::Released, "it was stored before that was said");
    let pair = restart(Pair { machine, manager, id, machine_dir, manager_dir }).await;
    let Pair { machine, manager, .. } = &pair;
    assert_eq!(manager.machine_status(id).unwrap().link, KvLink::Released);
    assert_eq!(manager.get_kv_value(id, "stock").await.unwrap().unwrap().value, "1", "what it had can be read");
    assert_eq!(machine.kv().untold().len(), 0, "it is told once");
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
    assert_eq!(pair.manager.kv().untold().len(), 0);
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
    manager.kv().untold()[0].replaced.cancel();
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
    assert_eq!(machine.kv().untold().len(), 1, "another manager's hello says nothing of the first one");
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
    for file in ["node.redb", "node.journal"] {
        std::fs::copy(machine_dir.path().join(file), backup.path().join(file)).unwrap();
    }
    let machine = machine_at(machine_dir.path()).await;
    manager.release(id).await.unwrap();
    until_told(manager.kv()).await;
    machine.shutdown().await.unwrap();
    for file in ["node.redb", "node.journal"] {
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
        let storage = Storage::open(manager_dir.path());
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

/// The list of former documents has a limit: what was told goes first, and nothing goes for a release that is not stored.
#[tokio::test(flavor = "multi_thread")]
async fn former_documents_have_a_limit_and_those_that_were_told_go_first() {
    let Pair { machine, manager, manager_dir, .. } = pair().await;
    manager.shutdown().await.unwrap();
    let nobody = iroh::SecretKey::from_bytes(&[5; 32]).public();
    {
        let storage = Storage::open(manager_dir.path());
        let rows = (0..MAX_FORMER_DOCUMENTS as u64).map(|number| {
            // The oldest of all was not told, the next was.
            let standing = Standing::Former { peer: nobody, author: None, told: number != 0 };
            Row::Document { number: 100 + number, row: DocumentRow { secret: [1; 32], standing } }
        });
        storage.write(rows.collect()).unwrap();
        storage.close();
    }
    let manager = manager_at(manager_dir.path()).await;
    manager.kv().storage.fail(true);
    for _ in 0..3 {
        assert!(manager.release(machine.id()).await.is_err());
    }
    manager.kv().storage.fail(false);
    manager.release(machine.id()).await.unwrap();
    until("the machine to be told", || manager.kv().untold().len() == 1).await;
    manager.shutdown().await.unwrap();
    let storage = Storage::open(manager_dir.path());
    let numbers: Vec<u64> = storage.documents().unwrap().into_iter().map(|(number, _)| number).collect();
    assert_eq!(numbers.len(), MAX_FORMER_DOCUMENTS);
    assert!(numbers.contains(&100) && !numbers.contains(&101), "the oldest that was told has gone");
    machine.shutdown().await.unwrap();
}

/// A claim that both persons have confirmed, held at one of its fault points at the machine.
struct Held {
    here: JoinHandle<Result<PeerId, ClaimError>>,
    there: JoinHandle<Result<PeerId, ClaimError>>,
    go_on: Arc<Notify>,
}

impl Held {
    async fn at(point: &'static str, machine: &Machine, manager: &Manager) -> Self {
        let (reached, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (tells, waits, first) = (reached.clone(), go_on.clone(), Arc::new(AtomicBool::new(true)));
        machine.kv().shared.kv.at_fault_points(Arc::new(move |at| {
            let (tells, waits, first) = (tells.clone(), waits.clone(), first.clone());
            async move {
                if at == point && first.swap(false, Ordering::SeqCst) {
                    tells.notify_one();
                    waits.notified().await;
                }
            }
            .boxed()
        }));
        let ticket = machine.ticket();
        let begun = async { manager.begin_claim(&ticket).await.unwrap() };
        let (asked, claimed) = tokio::join!(machine.await_incoming_claim(), begun);
        let (here, there) = (tokio::spawn(asked.unwrap().answer(true)), tokio::spawn(claimed.answer(true)));
        timeout(PATIENCE, reached.notified()).await.unwrap();
        Self { here, there, go_on }
    }

    /// Lets the claim go on once it is seen that what waits for it does so; what came of both.
    async fn after<T>(self, waits: &mut JoinHandle<T>) -> [Result<PeerId, ClaimError>; 2] {
        // Time is under test: what does not wait is done long before.
        assert!(timeout(Duration::from_millis(500), waits).await.is_err(), "it waits for the claim");
        self.go_on.notify_one();
        [self.here.await.unwrap(), self.there.await.unwrap()]
    }
}

/// A machine that nobody has may be claimed by anybody.
async fn is_free(machine: &Machine) {
    until("the pairing to have ended", || machine.get_machine_state() == MachineState::Unclaimed).await;
    let dir = TempDir::new().unwrap();
    let other = manager_at(dir.path()).await;
    claim(machine, &other).await;
    other.shutdown().await.unwrap();
    machine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_wiped_while_a_claim_is_stored_is_free_afterwards() {
    let (machine_dir, manager_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (machine, manager) = (machine_at(machine_dir.path()).await, manager_at(manager_dir.path()).await);
    machine.set_kv_value("stock", "1").await.unwrap();
    let held = Held::at("claim stored", &machine, &manager).await;
    let wiped = machine.clone();
    let mut wiping = tokio::spawn(async move { wiped.release_and_wipe().await });
    let [here, there] = held.after(&mut wiping).await;
    assert_eq!((here.unwrap(), there.unwrap()), (manager.id(), machine.id()), "the claim came first");
    wiping.await.unwrap().unwrap();
    assert_eq!(machine.get_kv_value("stock").await.unwrap(), None);
    is_free(&machine).await;
    manager.shutdown().await.unwrap();
}

/// The manager claims its machine again, and releases it meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_signed_release_that_comes_while_a_claim_is_stored_is_honoured_after_it() {
    let Pair { machine, manager, id, .. } = pair().await;
    let held = Held::at("claim stored", &machine, &manager).await;
    manager.release(id).await.unwrap();
    let waiting = manager.clone();
    let mut told = tokio::spawn(async move { until_told(waiting.kv()).await });
    let [here, there] = held.after(&mut told).await;
    assert_eq!(here.unwrap(), manager.id());
    there.unwrap_err();
    told.await.unwrap();
    is_free(&machine).await;
    assert_eq!(manager.list_machine_ids(), []);
    manager.shutdown().await.unwrap();
}

/// The person releases the machine while its manager claims it again: what the claim has stored is released too.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_crosses_a_claim_of_the_same_manager_ends_the_pairing() {
    let Pair { machine, manager, .. } = pair().await;
    let held = Held::at("storing a claim", &machine, &manager).await;
    let released = machine.clone();
    let mut releasing = tokio::spawn(async move { released.release().await });
    let [here, there] = held.after(&mut releasing).await;
    assert_eq!((here.unwrap(), there.unwrap()), (manager.id(), machine.id()), "the claim came first");
    releasing.await.unwrap().unwrap();
    assert_eq!(machine.get_machine_state(), MachineState::Unclaimed, "it said that it was released");
    is_free(&machine).await;
    manager.shutdown().await.unwrap();
}

/// The same, where what the claim has stored is another identity: the manager has another author by now.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_ends_the_pairing_though_the_document_got_another_identity_meanwhile() {
    let Pair { machine, manager, .. } = pair().await;
    let kv = machine.kv();
    let changing = kv.pair_changes.lock().await;
    let released = machine.clone();
    let mut releasing = tokio::spawn(async move { released.release().await });
    // Time is under test: it waits for the change.
    assert!(timeout(Duration::from_millis(500), &mut releasing).await.is_err());
    let document = kv.own().unwrap();
    let before = document.identity();
    let standing = Standing::Paired { peer: manager.id(), author: [9; 32] };
    let row = DocumentRow { standing, ..before.row() };
    kv.keeper.restand(&document, &before, kv.identity_again(before.number, &row)).await.unwrap();
    drop(changing);
    releasing.await.unwrap().unwrap();
    assert_eq!(machine.get_machine_state(), MachineState::Unclaimed);
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}
