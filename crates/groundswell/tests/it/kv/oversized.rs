//! The two sides have different limits for values: what is too large for one of them is left out and named, and the rest of
//! the document goes on over the same connection.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use groundswell::{KvLink, Machine};
use groundswell_core::{
    kv::wire::{Held, KvHello},
    wire::{Extension, StreamKind},
};
use tempfile::TempDir;

use crate::kv::{
    common::{PATIENCE, machine_builder, manager_builder, pair, until_put, within},
    raw::{self, Stored},
};

const MIB: usize = 1024 * 1024;

/// The machine does not say that all is delivered, and says that it is not.
async fn expect_undelivered(machine: &Machine) {
    let mut status = machine.status_changes();
    within("it to be told", status.wait_for(|status| status.undelivered_since.is_some())).await.unwrap();
    // Time is under test: it does not return early.
    let waited = tokio::time::timeout(Duration::from_millis(500), machine.until_kv_delivered()).await;
    assert!(waited.is_err(), "the other side has no such value: {waited:?}");
}

async fn expect_delivered(machine: &Machine) {
    within("the delivery", machine.until_kv_delivered()).await.unwrap();
    let mut status = machine.status_changes();
    within("that to be told", status.wait_for(|status| status.undelivered_since.is_none())).await.unwrap();
}

/// The other side acknowledges what was written after such a value, and so by its counters the value too.
#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_is_left_out_is_not_delivered_until_a_smaller_one_replaces_it() {
    let (machine_dir, manager_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let build_machine = || machine_builder(machine_dir.path()).max_value_bytes(4 * MIB);
    let machine = build_machine().spawn().await.unwrap();
    let manager = manager_builder(manager_dir.path()).spawn().await.unwrap();
    let id = pair(&machine, &manager).await;
    machine.set_kv_value("large", vec![7; 2 * MIB]).await.unwrap();
    machine.set_kv_value("larger", vec![7; 3 * MIB]).await.unwrap();
    machine.set_kv_value("after", "1").await.unwrap();
    until_put(&mut manager.watch_kv_key(id, "after").await.unwrap(), "after", "1").await;
    expect_undelivered(&machine).await;
    // Nor by what the other side says that it holds when the machine starts again.
    machine.shutdown().await.unwrap();
    let machine = build_machine().spawn().await.unwrap();
    let mut status = machine.status_changes();
    within("the machine to be online", status.wait_for(|status| status.current)).await.unwrap();
    expect_undelivered(&machine).await;
    // One of two does not help. A delete replaces a value too.
    machine.set_kv_value("large", "small").await.unwrap();
    until_put(&mut manager.watch_kv_key(id, "large").await.unwrap(), "large", "small").await;
    expect_undelivered(&machine).await;
    machine.delete_kv_value("larger").await.unwrap();
    expect_delivered(&machine).await;
    assert_eq!(manager.get_kv_value(id, "larger").await.unwrap(), None);
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_too_large_for_the_other_side_is_left_out_and_named() {
    let (machine_dir, manager_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let machine = machine_builder(machine_dir.path()).max_value_bytes(4 * MIB).spawn().await.unwrap();
    let manager = manager_builder(manager_dir.path()).spawn().await.unwrap();
    let id = pair(&machine, &manager).await;
    let mut status = manager.machine_status_changes(id).unwrap();
    within("both to be online", status.wait_for(|status| status.current)).await.unwrap();
    machine.set_kv_value("before", "1").await.unwrap();
    machine.set_kv_value("large", vec![7; 2 * MIB]).await.unwrap();
    machine.set_kv_value("after", "1").await.unwrap();
    until_put(&mut manager.watch_kv_key(id, "after").await.unwrap(), "after", "1").await;
    assert_eq!(manager.get_kv_value(id, "large").await.unwrap(), None);
    // The machine knows the key and both numbers.
    let mut here = machine.status_changes();
    let named = |problem: &Option<String>, words: &[&str]| {
        problem.as_ref().is_some_and(|problem| words.iter().all(|word| problem.contains(word)))
    };
    let words = ["large", "2097152", "1048576"];
    within("the machine to name it", here.wait_for(|status| named(&status.problem, &words))).await.unwrap();
    expect_undelivered(&machine).await;
    // The manager learns of it by a reconciliation, over the same connection.
    let told = status.wait_for(|status| named(&status.problem, &["1048576", "Raise the limit here"]));
    let told = within("the manager to name it", told).await.unwrap().clone();
    assert!(told.current, "the connection goes on");
    manager.set_kv_value(id, "price", "2").await.unwrap();
    until_put(&mut machine.watch_kv_key("price").await.unwrap(), "price", "2").await;
    // With a higher limit it comes, and nothing is left out any more. It counts as delivered when it is there.
    manager.shutdown().await.unwrap();
    let mut status = machine.status_changes();
    let offline = status.wait_for(|status| matches!(status.link, KvLink::Offline { .. }));
    within("the machine to notice", offline).await.unwrap();
    let manager = manager_builder(manager_dir.path()).max_value_bytes(8 * MIB).spawn().await.unwrap();
    tokio::time::timeout(2 * PATIENCE, machine.until_kv_delivered()).await.expect("the delivery").unwrap();
    let found = manager.get_kv_value(id, "large").await.unwrap();
    assert_eq!(found.map(|entry| entry.value.len()), Some(2 * MIB));
    expect_delivered(&machine).await;
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

/// A side says again and again that it takes no value at all, and leaves at once. It is answered each time, and gets everything when
/// it is back with its true limit.
#[tokio::test(flavor = "multi_thread")]
async fn a_side_that_said_that_it_takes_nothing_gets_everything_when_it_is_back() {
    const KEYS: usize = 1_000;
    let (machine_dir, manager_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let machine = machine_builder(machine_dir.path()).spawn().await.unwrap();
    let manager = manager_builder(manager_dir.path()).spawn().await.unwrap();
    let id = pair(&machine, &manager).await;
    let put = |n: usize| manager.set_kv_value(id, format!("key {n}"), "1");
    try_join_all((0..KEYS).map(put)).await.unwrap();
    within("the delivery", manager.until_kv_delivered(id)).await.unwrap();
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
    let manager = manager_builder(manager_dir.path()).spawn().await.unwrap();
    let stored = Stored::read(machine_dir.path());
    let endpoint = raw::endpoint(Some(stored.key.clone())).await;
    let says_nothing = Extension::new(&[1, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    let mut took = Vec::new();
    for n in 0..60_u8 {
        let begun = Instant::now();
        let to = raw::address(&manager.node().ticket());
        let (connection, mut send, mut recv) = raw::begin(&endpoint, to, StreamKind::Document).await;
        let hello = KvHello {
            document: stored.documents()[0],
            wall_ms: 0,
            held: Held { machine: 0, manager: KEYS as u64 },
            extension: says_nothing.clone(),
        };
        raw::say(&mut send, &hello).await;
        within("a hello", raw::hear(&mut recv)).await;
        // Half of them go at once, and the others when they are sent something.
        if n % 2 == 1 {
            let _ = tokio::time::timeout(Duration::from_secs(1), raw::hear(&mut recv)).await;
        }
        connection.close(0u32.into(), b"");
        took.push(begun.elapsed());
    }
    let late = *took[30..].iter().max().unwrap();
    println!("a hello took {:?} at most at first, and {late:?} later", took[..30].iter().max().unwrap());
    endpoint.close().await;
    let machine = machine_builder(machine_dir.path()).spawn().await.unwrap();
    manager.set_kv_value(id, "after", "1").await.unwrap();
    until_put(&mut machine.watch_kv_key("after").await.unwrap(), "after", "1").await;
    // A reconciliation finds that the machine has all of them.
    tokio::time::timeout(PATIENCE, manager.until_kv_delivered(id)).await.expect("the delivery").unwrap();
    assert_eq!(machine.get_kv_value("key 7").await.unwrap().unwrap().value, "1");
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}
