//! Claims and releases, between real nodes.

use std::time::{Duration, Instant};

use groundswell::{
    ClaimError, ClaimFailure, ClaimRefusal, KvEvent, KvFilter, KvLink, MachineState, Node, PeerTicket, WriteId,
};
use tempfile::TempDir;

use crate::kv::common::{
    OPEN, Pair, is_current, machine_builder, manager_builder, next, pair, spawn_machine, spawn_manager, until,
    until_put, within,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_needs_both_persons() {
    let (machine_dir, manager_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (machine, manager) = (spawn_machine(machine_dir.path()).await, spawn_manager(manager_dir.path()).await);
    for (at_machine, at_manager) in [(true, false), (false, true), (false, false)] {
        machine.open_claims(OPEN);
        let claim = within("the end of the claim before", async {
            loop {
                match manager.begin_claim(&machine.ticket()).await {
                    // The machine ends a claim a moment after the manager.
                    Err(ClaimError::Claim(ClaimFailure::Refused(ClaimRefusal::Busy))) => tokio::task::yield_now().await,
                    claim => return claim.unwrap(),
                }
            }
        })
        .await;
        let (pin, answer) = within("the request", machine.await_next_incoming_claim_request()).await.unwrap();
        assert_eq!(pin, claim.pin);
        assert_eq!(pin.to_string().len(), 6);
        answer.send(at_machine).unwrap();
        let error = within("the claim", claim.answer(at_manager)).await.unwrap_err();
        assert!(matches!(error, ClaimError::Claim(_)), "{error}");
        assert_eq!(machine.get_machine_state(), MachineState::Unclaimed);
        assert_eq!(manager.list_machine_ids(), []);
    }
    pair(&machine, &manager).await;
    assert_eq!(machine.get_machine_state(), MachineState::Claimed { manager: manager.id() });
    assert_eq!(manager.list_machine_ids(), [machine.id()]);
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_manager_may_claim_again_and_another_may_not() {
    let Pair { machine, manager, id, machine_dir: _one, manager_dir: _two } = Pair::new().await;
    machine.set_kv_value("key", "kept").await.unwrap();
    assert_eq!(pair(&machine, &manager).await, id);
    assert_eq!(manager.list_machine_ids(), [id]);
    until_put(&mut manager.watch_kv_key(id, "key").await.unwrap(), "key", "kept").await;
    let dir = TempDir::new().unwrap();
    let other = spawn_manager(dir.path()).await;
    let error = other.begin_claim(&machine.ticket()).await.unwrap_err();
    assert!(matches!(error, ClaimError::Claim(ClaimFailure::Refused(ClaimRefusal::Taken))), "{error}");
    // One claim at a time.
    machine.open_claims(OPEN);
    let under_way = manager.begin_claim(&machine.ticket()).await.unwrap();
    let error = manager.begin_claim(&machine.ticket()).await.unwrap_err();
    assert!(matches!(error, ClaimError::OwnUnderWay), "it is nobody else's: {error}");
    drop(under_way);
    for node in [&other, &manager] {
        node.shutdown().await.unwrap();
    }
    machine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_cannot_be_says_why() {
    let dirs = [TempDir::new().unwrap(), TempDir::new().unwrap(), TempDir::new().unwrap()];
    let manager = spawn_manager(dirs[0].path()).await;
    let other = spawn_manager(dirs[1].path()).await;
    let own: PeerTicket = manager.node().ticket();
    assert!(matches!(manager.begin_claim(&own).await, Err(ClaimError::OwnTicket)));
    // A manager is no machine, and neither is a node without a role.
    assert!(manager.begin_claim(&other.node().ticket()).await.is_err());
    let node = Node::builder().data_dir(dirs[2].path()).offline().bind("127.0.0.1:0".parse().unwrap()).spawn();
    let node = node.await.unwrap();
    assert!(manager.begin_claim(&node.ticket()).await.is_err());
    for node in [manager.node(), other.node(), &node] {
        node.shutdown().await.unwrap();
    }
}

/// The machine releases itself: it goes on with what it has, and its former manager gets nothing new.
#[tokio::test(flavor = "multi_thread")]
async fn released_by_the_machine_the_former_manager_gets_nothing_new() {
    let Pair { machine, manager, id, machine_dir, manager_dir: _dir } = Pair::new().await;
    machine.set_kv_value("stock", "12").await.unwrap();
    manager.set_kv_value(id, "price", "250").await.unwrap();
    until_put(&mut machine.watch_kv_key("price").await.unwrap(), "price", "250").await;
    until_put(&mut manager.watch_kv_key(id, "stock").await.unwrap(), "stock", "12").await;
    let mut here = machine.subscribe_kv_entries(KvFilter::All).await.unwrap();
    while next(&mut here).await != "caught up" {}
    machine.release().await.unwrap();
    assert_eq!(machine.get_machine_state(), MachineState::Unclaimed);
    assert_eq!(machine.manager_status().link, KvLink::Unclaimed);
    // Readers begin anew, with all that was there.
    assert!(matches!(within("the reset", here.next()).await.unwrap().event, KvEvent::Reset { .. }));
    assert_eq!(next(&mut here).await, "put price=250 by machine");
    assert_eq!(next(&mut here).await, "put stock=12 by machine");
    machine.set_kv_value("stock", "11").await.unwrap();
    let mut status = manager.machine_status_changes(id).unwrap();
    within("the manager to know", status.wait_for(|status| status.link == KvLink::Released)).await.unwrap();
    // What it had can be read, and not be written.
    assert_eq!(manager.get_kv_value(id, "stock").await.unwrap().unwrap().value, "12");
    assert!(manager.set_kv_value(id, "price", "1").await.is_err());
    // It stays so across a restart of the machine, which is free for another manager.
    machine.shutdown().await.unwrap();
    let machine = spawn_machine(machine_dir.path()).await;
    assert_eq!(machine.get_kv_value("stock").await.unwrap().unwrap().value, "11");
    let dir = TempDir::new().unwrap();
    let next_manager = spawn_manager(dir.path()).await;
    let id = pair(&machine, &next_manager).await;
    until_put(&mut next_manager.watch_kv_key(id, "stock").await.unwrap(), "stock", "11").await;
    assert_eq!(manager.get_kv_value(id, "stock").await.unwrap().unwrap().value, "12");
    manager.release(id).await.unwrap();
    assert_eq!(manager.list_machine_ids(), []);
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
    next_manager.shutdown().await.unwrap();
}

/// A machine that is sold: its next manager gets none of what it had, nor does a repeated write come back.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_wiped_keeps_nothing_for_its_next_manager() {
    let Pair { machine, manager, id, machine_dir, manager_dir: _dir } = Pair::new().await;
    let write = WriteId::new("one").unwrap();
    machine.set_kv_value_once("stock", &write, "12").await.unwrap();
    machine.space("notes").unwrap().set("secret", "1").await.unwrap();
    manager.set_kv_value(id, "price", "250").await.unwrap();
    until_put(&mut machine.watch_kv_key("price").await.unwrap(), "price", "250").await;
    until_put(&mut manager.watch_kv_key(id, "stock").await.unwrap(), "stock", "12").await;
    let mut here = machine.subscribe_kv_entries(KvFilter::All).await.unwrap();
    while next(&mut here).await != "caught up" {}
    machine.release_and_wipe().await.unwrap();
    assert_eq!(machine.get_machine_state(), MachineState::Unclaimed);
    assert!(matches!(within("the reset", here.next()).await.unwrap().event, KvEvent::Reset { .. }));
    assert_eq!(next(&mut here).await, "caught up");
    let mut status = manager.machine_status_changes(id).unwrap();
    within("the manager to know", status.wait_for(|status| status.link == KvLink::Released)).await.unwrap();
    assert_eq!(manager.get_kv_value(id, "stock").await.unwrap().unwrap().value, "12");
    machine.shutdown().await.unwrap();
    let machine = spawn_machine(machine_dir.path()).await;
    assert_eq!(machine.kv_usage().keys, 0);
    assert_eq!(machine.spaces(), Vec::<String>::new());
    let dir = TempDir::new().unwrap();
    let next_manager = spawn_manager(dir.path()).await;
    let id = pair(&machine, &next_manager).await;
    within("the pair", next_manager.machine_status_changes(id).unwrap().wait_for(is_current)).await.unwrap();
    assert_eq!(next_manager.kv_usage(id).unwrap().keys, 0);
    // The id of the former owner's write is free again.
    machine.set_kv_value_once("stock", &write, "3").await.unwrap();
    until_put(&mut next_manager.watch_kv_key(id, "stock").await.unwrap(), "stock", "3").await;
    // Without a manager it is wiped all the same.
    next_manager.release(id).await.unwrap();
    until("the machine to know", async || machine.get_machine_state() == MachineState::Unclaimed).await;
    assert_eq!(machine.kv_usage().keys, 1);
    machine.release_and_wipe().await.unwrap();
    assert_eq!(machine.kv_usage().keys, 0);
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
    next_manager.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn released_by_the_manager_the_machine_goes_on_alone() {
    let Pair { machine, manager, id, machine_dir, manager_dir } = Pair::new().await;
    manager.set_kv_value(id, "price", "250").await.unwrap();
    until_put(&mut machine.watch_kv_key("price").await.unwrap(), "price", "250").await;
    manager.release(id).await.unwrap();
    assert_eq!(manager.list_machine_ids(), []);
    until("the machine to know", async || machine.get_machine_state() == MachineState::Unclaimed).await;
    assert_eq!(machine.get_kv_value("price").await.unwrap().unwrap().value, "250");
    // The same while the machine is away: it is told when it is back, by a manager that was restarted.
    assert_eq!(pair(&machine, &manager).await, id);
    let mut status = manager.machine_status_changes(id).unwrap();
    within("the pair", status.wait_for(is_current)).await.unwrap();
    machine.shutdown().await.unwrap();
    manager.release(id).await.unwrap();
    manager.shutdown().await.unwrap();
    let manager = spawn_manager(manager_dir.path()).await;
    assert_eq!(manager.list_machine_ids(), []);
    let machine = spawn_machine(machine_dir.path()).await;
    until("the machine to know", async || machine.get_machine_state() == MachineState::Unclaimed).await;
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

/// The manager's machines do not see each other; a stranger with a machine's id sees nothing.
#[tokio::test(flavor = "multi_thread")]
async fn one_machine_cannot_read_another_through_their_manager() {
    let Pair { machine, manager, id, machine_dir: _one, manager_dir: _two } = Pair::new().await;
    let dir = TempDir::new().unwrap();
    let second = spawn_machine(dir.path()).await;
    let second_id = pair(&second, &manager).await;
    machine.set_kv_value("secret", "of the first").await.unwrap();
    manager.set_kv_value(second_id, "own", "of the second").await.unwrap();
    until_put(&mut manager.watch_kv_key(id, "secret").await.unwrap(), "secret", "of the first").await;
    until_put(&mut second.watch_kv_key("own").await.unwrap(), "own", "of the second").await;
    assert_eq!(second.get_kv_value("secret").await.unwrap(), None);
    assert_eq!(machine.get_kv_value("own").await.unwrap(), None);
    assert_eq!(manager.get_kv_value(second_id, "secret").await.unwrap(), None);
    machine.shutdown().await.unwrap();
    second.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

/// Two devices with one identity, as after copying a disk: both sides go on, and it is reported.
#[tokio::test(flavor = "multi_thread")]
async fn a_copied_disk_is_reported() {
    let Pair { machine, manager, id, machine_dir, manager_dir: _dir } = Pair::new().await;
    machine.shutdown().await.unwrap();
    let copy = TempDir::new().unwrap();
    for file in std::fs::read_dir(machine_dir.path()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    let one = machine_builder(machine_dir.path()).spawn().await.unwrap();
    let other = machine_builder(copy.path()).spawn().await.unwrap();
    let mut status = manager.machine_status_changes(id).unwrap();
    within("the duplicate to be seen", status.wait_for(|status| status.duplicate)).await.unwrap();
    for node in [one.node(), other.node(), manager.node()] {
        node.shutdown().await.unwrap();
    }
}

/// Machine, manager and agents of publications share one node, one endpoint, one data directory.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_shares_the_node_that_it_is_given() {
    use groundswell::{Machine, Manager, Source, lakes::Sum};
    let dirs = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let node = async |dir: &TempDir| {
        let builder = Node::builder().data_dir(dir.path()).offline().bind("127.0.0.1:0".parse().unwrap());
        builder.spawn().await.unwrap()
    };
    let (one, two) = (node(&dirs[0]).await, node(&dirs[1]).await);
    let machine = Machine::builder().node(one.clone()).spawn().await.unwrap();
    let manager = Manager::builder().node(two.clone()).spawn().await.unwrap();
    let id = pair(&machine, &manager).await;
    machine.set_kv_value("stock", "1").await.unwrap();
    let sales = one.agent("vending").unwrap().publications::<Sum>("/sales").await.unwrap();
    sales.give("/sales", 5).await.unwrap();
    until_put(&mut manager.watch_kv_key(id, "stock").await.unwrap(), "stock", "1").await;
    // The pairing has taught the node where the machine is.
    let inbox = two.agent("office").unwrap().subscriptions::<Sum>("/sales").await.unwrap();
    let mut updates = inbox.surf(Source::new(id, "vending", "/sales").unwrap()).await.unwrap();
    within("the sales", async {
        while updates.with_rock(|sum, _| *sum).await.ok() != Some(5) {
            updates.next().await.unwrap();
        }
    })
    .await;
    machine.shutdown().await.unwrap();
    assert!(!one.is_shutdown(), "it was given to the builder");
    // Another on the same node and directory.
    let machine = Machine::builder().node(one.clone()).spawn().await.unwrap();
    assert_eq!(machine.get_kv_value("stock").await.unwrap().unwrap().value, "1");
    one.shutdown().await.unwrap();
    assert!(machine.is_shutdown(), "a node takes its roles along");
    two.shutdown().await.unwrap();
}

/// A claim that nobody answers ends by itself, on whichever side the time is over, and leaves the machine
/// free. That the time is a minute unless a builder says otherwise is the core's test.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_times_out_at_either_side() {
    const TIME: Duration = Duration::from_secs(2);
    for of_machine in [true, false] {
        let (machine_dir, manager_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let (mut machine, mut manager) = (machine_builder(machine_dir.path()), manager_builder(manager_dir.path()));
        if of_machine {
            machine = machine.claim_timeout(TIME);
        } else {
            manager = manager.claim_timeout(TIME);
        }
        let (machine, manager) = (machine.spawn().await.unwrap(), manager.spawn().await.unwrap());
        let begun = Instant::now();
        machine.open_claims(OPEN);
        let claim = manager.begin_claim(&machine.ticket()).await.unwrap();
        let (_pin, unanswered) = within("the request", machine.await_next_incoming_claim_request()).await.unwrap();
        let error = within("the end of the claim", claim.answer(true)).await.unwrap_err();
        let expected = if of_machine {
            matches!(error, ClaimError::Claim(ClaimFailure::Refused(ClaimRefusal::TimedOut)))
        } else {
            matches!(error, ClaimError::Claim(ClaimFailure::TimedOut))
        };
        assert!(expected, "{error}");
        assert!(begun.elapsed() >= TIME, "not before its time: {:?}", begun.elapsed());
        // An answer that comes too late makes no pair.
        let _ = unanswered.send(true);
        assert_eq!(machine.get_machine_state(), MachineState::Unclaimed);
        assert_eq!(manager.list_machine_ids(), []);
        pair(&machine, &manager).await;
        machine.shutdown().await.unwrap();
        manager.shutdown().await.unwrap();
    }
}
