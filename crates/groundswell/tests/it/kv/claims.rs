//! A claim as the two who answer it have it: who asks, what became of it, and what an end without an
//! answer means.

use groundswell::{ClaimError, ClaimFailure, ClaimRefusal, KvFilter, MachineState, Node};
use tempfile::TempDir;

use crate::kv::common::{OPEN, spawn_machine, spawn_manager, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_names_both_sides_and_tells_both_what_became_of_it() {
    let (machine_dir, manager_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (machine, manager) = (spawn_machine(machine_dir.path()).await, spawn_manager(manager_dir.path()).await);
    machine.open_claims(OPEN);
    let claim = within("the claim", manager.begin_claim(&machine.ticket())).await.unwrap();
    let incoming = within("the request", machine.await_incoming_claim()).await.unwrap();
    assert_eq!((incoming.pin, incoming.manager), (claim.pin, manager.id()));
    assert_eq!(claim.machine, machine.id());
    let (here, there) = within("the pair", async { tokio::join!(incoming.answer(true), claim.answer(true)) }).await;
    assert_eq!((here.unwrap(), there.unwrap()), (manager.id(), machine.id()));
    assert_eq!(machine.get_machine_state(), MachineState::Claimed { manager: manager.id() });
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

/// Who goes away without an answer has said no, and the other side is told so at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_is_dropped_is_declined_and_over_at_the_other_side() {
    let (machine_dir, manager_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (machine, manager) = (spawn_machine(machine_dir.path()).await, spawn_manager(manager_dir.path()).await);

    machine.open_claims(OPEN);
    let mut claim = within("the claim", manager.begin_claim(&machine.ticket())).await.unwrap();
    drop(within("the request", machine.await_incoming_claim()).await.unwrap());
    let over = within("the manager to be told", claim.over()).await;
    assert!(matches!(over, ClaimError::Claim(ClaimFailure::Refused(ClaimRefusal::Declined))), "{over}");
    // Asked again, and answered too late, it says the same.
    assert_eq!(claim.over().await.to_string(), over.to_string());
    assert_eq!(claim.answer(true).await.unwrap_err().to_string(), over.to_string());

    machine.open_claims(OPEN);
    let claim = within("the claim", manager.begin_claim(&machine.ticket())).await.unwrap();
    let mut incoming = within("the request", machine.await_incoming_claim()).await.unwrap();
    drop(claim);
    let over = within("the machine to be told", incoming.over()).await;
    assert!(matches!(over, ClaimError::Claim(ClaimFailure::DeclinedThere)), "{over}");
    assert!(incoming.answer(true).await.is_err());

    assert_eq!(machine.get_machine_state(), MachineState::Unclaimed);
    assert_eq!(manager.list_machine_ids(), []);
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_of_what_is_no_machine_says_so() {
    let dirs = [TempDir::new().unwrap(), TempDir::new().unwrap(), TempDir::new().unwrap()];
    let (manager, other) = (spawn_manager(dirs[0].path()).await, spawn_manager(dirs[1].path()).await);
    let node = Node::builder().data_dir(dirs[2].path()).offline().bind("127.0.0.1:0".parse().unwrap());
    let node = node.spawn().await.unwrap();
    for ticket in [other.node().ticket(), node.ticket()] {
        let error = within("the refusal", manager.begin_claim(&ticket)).await.unwrap_err();
        assert!(matches!(error, ClaimError::NoMachine), "{error}");
    }
    for node in [manager.node(), other.node(), &node] {
        node.shutdown().await.unwrap();
    }
}

/// The node counts the streams of entries too, and knows that it is a machine's.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_counts_the_streams_of_entries_and_knows_that_it_has_a_role() {
    let dir = TempDir::new().unwrap();
    let machine = spawn_machine(dir.path()).await;
    assert_eq!(machine.node().role(), Some(groundswell::Role::Machine));
    let streams = || machine.node().status().streams;
    assert_eq!(streams(), 0);
    let watch = machine.watch_kv_key("a").await.unwrap();
    let all = machine.subscribe_kv_entries(KvFilter::All).await.unwrap();
    assert_eq!(streams(), 2);
    drop(watch);
    assert_eq!(streams(), 1);
    drop(all);
    assert_eq!(streams(), 0);
    machine.shutdown().await.unwrap();
    let without = TempDir::new().unwrap();
    let node = Node::builder().data_dir(without.path()).offline().bind("127.0.0.1:0".parse().unwrap());
    let node = node.spawn().await.unwrap();
    assert_eq!(node.role(), None);
    node.shutdown().await.unwrap();
}

/// An answer is given when it is said, whether anybody waits for what comes of it or not.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_stands_though_nobody_waits_for_what_comes_of_it() {
    let (machine_dir, manager_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (machine, manager) = (spawn_machine(machine_dir.path()).await, spawn_manager(manager_dir.path()).await);
    machine.open_claims(OPEN);
    let claim = within("the claim", manager.begin_claim(&machine.ticket())).await.unwrap();
    let incoming = within("the request", machine.await_incoming_claim()).await.unwrap();
    drop(incoming.answer(true));
    assert_eq!(within("the pair", claim.answer(true)).await.unwrap(), machine.id());
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

/// A manager claims its machine again, and the machine is released before anybody has answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_ends_a_claim_under_way_at_both_sides() {
    let pair = crate::kv::common::Pair::new().await;
    pair.machine.open_claims(OPEN);
    let mut claim = within("the claim", pair.manager.begin_claim(&pair.machine.ticket())).await.unwrap();
    let mut incoming = within("the request", pair.machine.await_incoming_claim()).await.unwrap();
    pair.machine.release().await.unwrap();
    let there = within("the manager to be told", claim.over()).await;
    let here = within("the machine's person to be told", incoming.over()).await;
    assert!(matches!(here, ClaimError::Claim(ClaimFailure::Released)), "{here}");
    assert!(matches!(there, ClaimError::Claim(_)), "{there}");
    assert_eq!(pair.machine.get_machine_state(), MachineState::Unclaimed);
    pair.shutdown().await;
}

/// Claims come and go while nobody looks: whoever looks then is shown the one that is under way.
#[tokio::test(flavor = "multi_thread")]
async fn claims_that_nobody_looked_at_are_in_nobodys_way() {
    let (machine_dir, manager_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (machine, manager) = (spawn_machine(machine_dir.path()).await, spawn_manager(manager_dir.path()).await);
    machine.open_claims(OPEN);
    let begin = async || loop {
        match manager.begin_claim(&machine.ticket()).await {
            Ok(claim) => break claim,
            // The machine has still to hear that the one before was dropped.
            Err(ClaimError::OwnUnderWay | ClaimError::Claim(ClaimFailure::Refused(ClaimRefusal::Busy))) => {
                tokio::task::yield_now().await;
            }
            Err(error) => panic!("{error}"),
        }
    };
    for _ in 0..3 {
        drop(within("a claim", begin()).await);
    }
    let claim = within("the last claim", begin()).await;
    let incoming = within("the request", machine.await_incoming_claim()).await.unwrap();
    assert_eq!(incoming.pin, claim.pin);
    let (here, there) = within("the pair", async { tokio::join!(incoming.answer(true), claim.answer(true)) }).await;
    assert_eq!((here.unwrap(), there.unwrap()), (manager.id(), machine.id()));
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}
