//! Traps of the documents below: each test is named after one of docs/iroh.md, and shows that it is not
//! met here.

use groundswell::KvFilter;

use crate::kv::common::{Pair, next, spawn_machine, until, until_put, within};

/// Writing a key erases no longer one: `a`, `ab`, the empty key and all 256 keys of one byte are independent.
#[tokio::test(flavor = "multi_thread")]
async fn trap_short_keys_erase_longer_ones() {
    let pair = Pair::new().await;
    let [machine, manager] = pair.sides();
    let mut keys: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    keys.extend(["", "ab", "slot/1", "slot/10", "slot/"].map(|key| key.as_bytes().to_vec()));
    // Longer ones first, so that each shorter one could erase them.
    keys.sort_by_key(|key| std::cmp::Reverse(key.len()));
    for key in &keys {
        machine.set(key, key).await;
    }
    until("all of them", async || manager.entries(KvFilter::All).await.len() == keys.len()).await;
    for side in pair.sides() {
        for key in &keys {
            assert_eq!(side.get(key).await.unwrap().value, *key);
        }
        let mut slots = side.subscribe(KvFilter::prefix("slot/")).await;
        for key in ["slot/", "slot/1", "slot/10"] {
            assert_eq!(next(&mut slots).await, format!("put {key}={key} by machine"));
        }
        assert_eq!(next(&mut slots).await, "caught up");
    }
    let mut watch = manager.watch("slot/10").await;
    while next(&mut watch).await != "caught up" {}
    assert!(machine.delete("slot/1").await && machine.delete("").await && machine.delete("a").await);
    until("the deletions", async || manager.entries(KvFilter::All).await.len() == keys.len() - 3).await;
    assert!(manager.get("slot/10").await.is_some() && manager.get("ab").await.is_some());
    // And the watch of the longer key was told of nothing.
    machine.set("slot/10", "end").await;
    assert_eq!(next(&mut watch).await, "!put slot/10=end by machine");
    pair.shutdown().await;
}

/// A delete is a write that an older entry of the other side can't undo.
#[tokio::test(flavor = "multi_thread")]
async fn trap_tombstones_do_not_block_older_entries() {
    let pair = Pair::new().await;
    let [machine, manager] = pair.sides();
    for round in 0..20 {
        manager.set("key", "old").await;
        until_put(&mut machine.watch("key").await, "key", "old").await;
        assert!(machine.delete("key").await, "round {round}");
        until("the deletion", async || manager.get("key").await.is_none()).await;
        assert_eq!(machine.get("key").await, None);
    }
    pair.shutdown().await;
}

/// An empty value is a value.
#[tokio::test(flavor = "multi_thread")]
async fn trap_empty_values_are_forbidden() {
    let pair = Pair::new().await;
    let [machine, manager] = pair.sides();
    machine.set("key", "").await;
    until_put(&mut manager.watch("key").await, "key", "").await;
    assert_eq!(manager.get("key").await.unwrap().value, "");
    pair.shutdown().await;
}

/// Equal values at two keys, and at two machines, arrive at both.
#[tokio::test(flavor = "multi_thread")]
async fn trap_equal_contents_are_told_once() {
    let pair = Pair::new().await;
    let [machine, manager] = pair.sides();
    for key in ["a", "b", "c"] {
        machine.set(key, "the same").await;
        manager.set(format!("{key}2"), "the same").await;
    }
    for side in pair.sides() {
        for key in ["a", "b", "c", "a2", "b2", "c2"] {
            until_put(&mut side.watch(key).await, key, "the same").await;
        }
    }
    pair.shutdown().await;
}

/// A lost or damaged store of iroh-docs costs nothing: it is filled again from our storage, or removed in a build without
/// iroh-docs, and the two sides reconcile.
#[tokio::test(flavor = "multi_thread")]
async fn trap_a_lost_or_damaged_docs_store() {
    let Pair { mut machine, manager, id, machine_dir, manager_dir: _dir } = Pair::new().await;
    for number in 0..100 {
        machine.set_kv_value(format!("key/{number}"), number.to_string()).await.unwrap();
    }
    let docs = machine_dir.path().join("docs.redb");
    for damage in [true, false] {
        machine.shutdown().await.unwrap();
        if damage {
            std::fs::write(&docs, b"this is no database").unwrap();
        } else {
            assert_eq!(std::fs::remove_file(&docs).is_ok(), cfg!(feature = "iroh-docs"));
        }
        machine = spawn_machine(machine_dir.path()).await;
        assert_eq!(docs.exists(), cfg!(feature = "iroh-docs"));
        assert_eq!(machine.get_kv_entries().await.unwrap().len(), 100);
        let mut status = manager.machine_status_changes(id).unwrap();
        let before = status.borrow().reconciled;
        within("a reconciliation", status.wait_for(|status| status.reconciled > before)).await.unwrap();
    }
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}
