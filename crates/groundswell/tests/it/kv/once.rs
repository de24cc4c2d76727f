//! A key write that is repeated with its id has one effect, and the same result.

use groundswell::{IdError, KvError, limits::MAX_KV_WRITE_IDS};

use super::common::{Pair, spawn_machine, spawn_manager};

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_write_is_done_once_on_either_side_over_restarts() {
    let Pair { mut machine, mut manager, id, machine_dir, manager_dir } = Pair::new().await;
    for restarted in [false, true] {
        if restarted {
            machine.shutdown().await.unwrap();
            manager.shutdown().await.unwrap();
            (machine, manager) = (spawn_machine(machine_dir.path()).await, spawn_manager(manager_dir.path()).await);
        }
        let first = machine.set_kv_value_once("total", "1", "100").await.unwrap();
        assert_eq!(machine.set_kv_value_once("total", "1", "100").await.unwrap(), first, "the same entry");
        if !restarted {
            machine.set_kv_value("total", "200").await.unwrap();
        }
        // Whatever the key holds by now.
        assert_eq!(machine.set_kv_value_once("total", "1", "100").await.unwrap(), first);
        assert_eq!(machine.get_kv_value("total").await.unwrap().unwrap().value, "200");
        // A delete tells what it found the first time.
        if !restarted {
            machine.set_kv_value("gone", "x").await.unwrap();
        }
        assert!(machine.delete_kv_value_once("gone", "2").await.unwrap());
        assert!(!machine.delete_kv_value_once("never", "3").await.unwrap());
        if !restarted {
            machine.set_kv_value("never", "y").await.unwrap();
            machine.set_kv_value("gone", "z").await.unwrap();
        }
        assert!(machine.delete_kv_value_once("gone", "2").await.unwrap());
        assert!(!machine.delete_kv_value_once("never", "3").await.unwrap());
        assert_eq!(machine.get_kv_value("never").await.unwrap().unwrap().value, "y");
        assert_eq!(machine.get_kv_value("gone").await.unwrap().unwrap().value, "z");
        // The other side has ids of its own, and its spaces share them.
        let price = manager.set_kv_value_once(id, "price", "1", "250").await.unwrap();
        assert_eq!(manager.set_kv_value_once(id, "price", "1", "250").await.unwrap(), price);
        let space = manager.space(id, "app").unwrap();
        let refused = space.set_once("price", "1", "250").await.unwrap_err();
        assert!(matches!(refused, KvError::Id(IdError::Reused(_))), "{refused}");
        assert!(!manager.delete_kv_value_once(id, "nothing", "2").await.unwrap());
    }
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_belongs_to_one_write_and_is_not_used_up_by_one_that_is_refused() {
    let Pair { machine, manager, machine_dir: _machine_dir, manager_dir: _manager_dir, .. } = Pair::new().await;
    machine.set_kv_value_once("a", "id", "1").await.unwrap();
    let refused = [
        machine.set_kv_value_once("a", "id", "2").await.map(drop),
        machine.set_kv_value_once("b", "id", "1").await.map(drop),
        machine.delete_kv_value_once("a", "id").await.map(drop),
        machine.space("app").unwrap().set_once("a", "id", "1").await.map(drop),
    ];
    for refused in refused {
        assert!(matches!(refused, Err(KvError::Id(IdError::Reused(_)))), "{refused:?}");
    }
    let refused = machine.set_kv_value_once("a", "", "1").await;
    assert!(matches!(refused, Err(KvError::Id(IdError::Length { bytes: 0 }))), "{refused:?}");
    let large = vec![0; 1024 * 1024 + 1];
    assert!(matches!(machine.set_kv_value_once("a", "free", &large).await, Err(KvError::ValueTooLarge { .. })));
    machine.set_kv_value_once("a", "free", "3").await.unwrap();
    // At the same time, too.
    let writers: Vec<_> = (0..100)
        .map(|_| {
            let machine = machine.clone();
            tokio::spawn(async move { machine.set_kv_value_once("c", "same", "1").await.unwrap() })
        })
        .collect();
    let mut entries = Vec::new();
    for writer in writers {
        entries.push(writer.await.unwrap());
    }
    entries.dedup();
    assert_eq!(entries.len(), 1, "one entry: {entries:?}");
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

/// Beyond the window an id is refused, never used again; after a restart and after a release, too.
#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_may_be_forgotten_is_refused_and_a_release_keeps_the_others() {
    let Pair { mut machine, manager, machine_dir, manager_dir: _manager_dir, .. } = Pair::new().await;
    let id = |n: usize| format!("{n:08}");
    for n in 0..MAX_KV_WRITE_IDS + 20 {
        machine.set_kv_value_once("key", id(n), n.to_string()).await.unwrap();
    }
    for ended in ["", "restarted", "released"] {
        match ended {
            "restarted" => {
                machine.shutdown().await.unwrap();
                machine = spawn_machine(machine_dir.path()).await;
            }
            "released" => machine.release().await.unwrap(),
            _ => machine.set_kv_value("key", "last").await.map(drop).unwrap(),
        }
        let refused = machine.set_kv_value_once("key", id(0), "0").await.unwrap_err();
        assert!(matches!(refused, KvError::Id(IdError::Expired { .. })), "{ended}: {refused}");
        for n in [20, MAX_KV_WRITE_IDS, MAX_KV_WRITE_IDS + 19] {
            machine.set_kv_value_once("key", id(n), n.to_string()).await.unwrap();
        }
        assert_eq!(machine.get_kv_value("key").await.unwrap().unwrap().value, "last", "{ended}");
    }
    machine.set_kv_value_once("key", id(MAX_KV_WRITE_IDS + 20), "new").await.unwrap();
    assert_eq!(machine.get_kv_value("key").await.unwrap().unwrap().value, "new");
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}
