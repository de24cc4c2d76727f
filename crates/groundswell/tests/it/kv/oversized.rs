//! The two sides have different limits for values: what is too large for one of them is left out and named, and the rest of
//! the document goes on over the same connection.

use tempfile::TempDir;

use crate::kv::common::{machine_builder, manager_builder, pair, until, until_put, within};

const MIB: usize = 1024 * 1024;

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
    // The manager learns of it by a reconciliation, over the same connection.
    let told = status.wait_for(|status| named(&status.problem, &["1048576", "Raise the limit here"]));
    let told = within("the manager to name it", told).await.unwrap().clone();
    assert!(told.current, "the connection goes on");
    manager.set_kv_value(id, "price", "2").await.unwrap();
    until_put(&mut machine.watch_kv_key("price").await.unwrap(), "price", "2").await;
    // With a higher limit it comes, and nothing is left out any more.
    manager.shutdown().await.unwrap();
    let manager = manager_builder(manager_dir.path()).max_value_bytes(8 * MIB).spawn().await.unwrap();
    until("the large value", async || {
        let found = manager.get_kv_value(id, "large").await.unwrap();
        found.is_some_and(|entry| entry.value.len() == 2 * MIB)
    })
    .await;
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}
