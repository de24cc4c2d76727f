//! Ends: of readers, of machines and managers, in order and not.

use std::time::{Duration, Instant};

use groundswell::{KvEnded, KvFilter};

use crate::kv::common::{OPEN, Pair, next, spawn_machine, spawn_manager, until, until_put, within};

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_a_client_that_drops_its_stream() {
    let pair = Pair::new().await;
    for side in pair.sides() {
        // Far more than a node may have at once, one after another: each is freed.
        for _ in 0..15_000 {
            drop(side.watch("key").await);
        }
        let mut one = side.watch("key").await;
        side.set("key", "1").await;
        until_put(&mut one, "key", "1").await;
    }
    pair.shutdown().await;
}

/// Streams yield what was committed, then end, and say why.
#[tokio::test(flavor = "multi_thread")]
async fn shutdown_streams_ended() {
    let pair = Pair::new().await;
    let [machine, manager] = pair.sides();
    let (mut at_machine, mut at_manager) = (machine.subscribe(KvFilter::All).await, manager.watch("key").await);
    assert_eq!(next(&mut at_machine).await, "caught up");
    assert_eq!(next(&mut at_manager).await, "caught up");
    machine.set("key", "1").await;
    until_put(&mut at_manager, "key", "1").await;
    pair.machine.shutdown().await.unwrap();
    assert_eq!(next(&mut at_machine).await, "!put key=1 by machine");
    assert_eq!(within("the end", at_machine.next()).await, None);
    assert_eq!(at_machine.ended(), Some(KvEnded::ShutDown));
    // The other side's absence ends nothing: its own reads, writes and watches go on.
    manager.set("key", "2").await;
    assert_eq!(next(&mut at_manager).await, "!put key=2 by manager");
    assert!(pair.machine.is_shutdown() && !pair.manager.is_shutdown());
    pair.manager.shutdown().await.unwrap();
    assert_eq!(within("the end", at_manager.next()).await, None);
    pair.machine.shutdown().await.unwrap();
}

/// One side goes in order: at once offline for the other, nothing lost, and all of it there after
/// the restart of either, and of both.
#[tokio::test(flavor = "multi_thread")]
async fn shutdown_a_server_that_terminates_cleanly() {
    let Pair { mut machine, mut manager, id, machine_dir, manager_dir } = Pair::new().await;
    for round in 0..3 {
        let mut status = manager.machine_status_changes(id).unwrap();
        machine.set_kv_value("last", format!("before {round}")).await.unwrap();
        machine.shutdown().await.unwrap();
        // What was committed has been delivered.
        assert_eq!(manager.get_kv_value(id, "last").await.unwrap().unwrap().value, format!("before {round}"));
        within("the manager to notice", status.wait_for(|status| !status.current)).await.unwrap();
        manager.set_kv_value(id, "meanwhile", round.to_string()).await.unwrap();
        if round == 1 {
            manager.shutdown().await.unwrap();
            manager = spawn_manager(manager_dir.path()).await;
        }
        machine = spawn_machine(machine_dir.path()).await;
        assert_eq!(machine.get_kv_value("last").await.unwrap().unwrap().value, format!("before {round}"));
        until_put(&mut machine.watch_kv_key("meanwhile").await.unwrap(), "meanwhile", &round.to_string()).await;
    }
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

/// A machine that goes without a word, as in a crash, while 8 write: whatever was acknowledged is
/// there again, here and at the other side.
#[tokio::test(flavor = "multi_thread")]
async fn shutdown_nothing_lost() {
    let Pair { mut machine, manager, id, machine_dir, manager_dir: _dir } = Pair::new().await;
    let mut written = 0;
    for _ in 0..5 {
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..8 {
            let machine = machine.clone();
            writers.spawn(async move {
                for number in written..written + 25 {
                    machine.set_kv_value(format!("{writer}/{number}"), number.to_string()).await.unwrap();
                }
            });
        }
        writers.join_all().await;
        written += 25;
        drop(machine);
        machine = spawn_machine(machine_dir.path()).await;
        assert_eq!(machine.get_kv_entries().await.unwrap().len(), written * 8);
    }
    until("everything", async || manager.get_kv_entries(id).await.unwrap().len() == written * 8).await;
    assert_eq!(manager.get_kv_entries(id).await.unwrap(), machine.get_kv_entries().await.unwrap());
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

/// In every state: unclaimed, alone, in the middle of a claim, under load.
#[tokio::test(flavor = "multi_thread")]
async fn shutdown_is_within_its_deadline_in_every_state() {
    let at_once = async |what: &str, ending: &mut (dyn Future<Output = ()> + Unpin)| {
        let begun = Instant::now();
        within(what, ending).await;
        assert!(begun.elapsed() < Duration::from_secs(10), "{what} took {:?}", begun.elapsed());
    };
    let dir = tempfile::TempDir::new().unwrap();
    let unclaimed = spawn_machine(dir.path()).await;
    let waiting = unclaimed.clone();
    let asked = tokio::spawn(async move { waiting.await_next_incoming_claim_request().await });
    at_once("an unclaimed machine", &mut Box::pin(async { unclaimed.shutdown().await.unwrap() })).await;
    assert!(within("the wait for a claim", asked).await.unwrap().is_none());

    let claimed = spawn_machine(dir.path()).await;
    let manager_dir = tempfile::TempDir::new().unwrap();
    let manager = spawn_manager(manager_dir.path()).await;
    claimed.open_claims(OPEN);
    let claim = manager.begin_claim(&claimed.ticket()).await.unwrap();
    at_once("a manager in a claim", &mut Box::pin(async { manager.shutdown().await.unwrap() })).await;
    assert!(claim.answer(true).await.is_err());
    at_once("a machine in a claim", &mut Box::pin(async { claimed.shutdown().await.unwrap() })).await;

    let pair = Pair::new().await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..16 {
        for side in pair.sides() {
            writers.spawn(async move {
                let mut number = 0;
                while side.try_set(format!("{writer}"), number.to_string()).await.is_ok() {
                    number += 1;
                }
                number
            });
        }
    }
    let mut seen = pair.machine.subscribe_kv_entries(KvFilter::All).await.unwrap();
    for _ in 0..100 {
        next(&mut seen).await;
    }
    at_once("a pair under load", &mut Box::pin(pair.shutdown())).await;
    assert!(writers.join_all().await.into_iter().sum::<u32>() > 0);
}
