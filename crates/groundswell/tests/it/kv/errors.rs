//! What is refused, and what breaks.

use groundswell::{KvAuthor, KvError, KvFilter, Machine, limits::MAX_SUBSCRIPTIONS};
use tempfile::TempDir;

use crate::kv::{
    common::{Pair, machine_builder, manager_builder, next, pair, spawn_machine, spawn_manager, until, until_put},
    raw::{self, Stored},
};

#[tokio::test(flavor = "multi_thread")]
async fn errors_invalid_key() {
    let pair = Pair::new().await;
    // Every byte string of up to 1,024 bytes is a key; the names of spaces are text.
    for side in pair.sides() {
        side.set(b"\x00\xff/\n", "any bytes").await;
        assert_eq!(side.get(b"\x00\xff/\n").await.unwrap().value, "any bytes");
    }
    for name in ["", "a/b", "a\nb"] {
        assert!(matches!(pair.machine.space(name), Err(KvError::Space(_))), "{name:?}");
        assert!(matches!(pair.manager.space(pair.id, name), Err(KvError::Space(_))), "{name:?}");
    }
    pair.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_over_long_key() {
    let pair = Pair::new().await;
    for side in pair.sides() {
        side.set(vec![b'k'; 1_024], "at the limit").await;
        let error = side.try_set(vec![b'k'; 1_025], "beyond it").await.unwrap_err();
        assert!(matches!(error, KvError::Key(_)) && error.to_string().contains("1025"), "{error}");
    }
    pair.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_over_large_value() {
    let pair = Pair::new().await;
    let largest = vec![7; 1024 * 1024];
    for side in pair.sides() {
        let key = side.author().to_string();
        side.set(&key, &largest).await;
        let error = side.try_set(&key, vec![7; 1024 * 1024 + 1]).await.unwrap_err();
        assert!(matches!(error, KvError::ValueTooLarge { bytes: 1_048_577, limit: 1_048_576 }), "{error}");
        assert_eq!(side.get(&key).await.unwrap().value, largest, "the one before stands");
    }
    let [machine, manager] = pair.sides();
    until("both largest values", async || {
        machine.get("manager").await.is_some() && manager.get("machine").await.is_some()
    })
    .await;
    pair.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_unknown_machine() {
    let pair = Pair::new().await;
    let stranger = pair.manager.id();
    let manager = &pair.manager;
    let unknown = |error: KvError| assert!(matches!(error, KvError::UnknownMachine(id) if id == stranger), "{error}");
    unknown(manager.get_kv_value(stranger, "key").await.unwrap_err());
    unknown(manager.set_kv_value(stranger, "key", "value").await.unwrap_err());
    unknown(manager.delete_kv_value(stranger, "key").await.unwrap_err());
    unknown(manager.get_kv_entries(stranger).await.unwrap_err());
    unknown(manager.subscribe_kv_entries(stranger, KvFilter::All).await.unwrap_err());
    unknown(manager.machine_status(stranger).unwrap_err());
    unknown(manager.release(stranger).await.unwrap_err());
    pair.shutdown().await;
}

/// A machine without a manager works, alone; what needs a manager says so.
#[tokio::test(flavor = "multi_thread")]
async fn errors_unclaimed_machine() {
    let dir = TempDir::new().unwrap();
    let machine = spawn_machine(dir.path()).await;
    assert!(matches!(machine.release().await, Err(KvError::NotClaimed)));
    machine.set_kv_value("before", "the claim").await.unwrap();
    let manager_dir = TempDir::new().unwrap();
    let manager = spawn_manager(manager_dir.path()).await;
    let unclaimed = manager.get_kv_value(machine.id(), "before").await.unwrap_err();
    assert!(matches!(unclaimed, KvError::UnknownMachine(_)), "{unclaimed}");
    let id = pair(&machine, &manager).await;
    until_put(&mut manager.watch_kv_key(id, "before").await.unwrap(), "before", "the claim").await;
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

/// The machine goes in the middle of what it sends, again and again; nothing is lost or torn.
#[tokio::test(flavor = "multi_thread")]
async fn errors_a_connection_that_breaks_in_mid_sync() {
    let Pair { mut machine, manager, id, machine_dir, manager_dir: _dir } = Pair::new().await;
    manager.shutdown().await.unwrap();
    for number in 0..2_000 {
        if number % 100 == 0 {
            tokio::task::yield_now().await;
        }
        machine.set_kv_value(format!("key/{number:04}"), vec![b'v'; 1_000]).await.unwrap();
    }
    let manager = spawn_manager(_dir.path()).await;
    let mut entries = manager.subscribe_kv_entries(id, KvFilter::All).await.unwrap();
    for part in 1..=3 {
        // As soon as some of it is there the machine is gone, as in a crash.
        while manager.get_kv_entries(id).await.unwrap().len() < part * 200 {
            next(&mut entries).await;
        }
        drop(machine);
        machine = spawn_machine(machine_dir.path()).await;
    }
    until("everything", async || manager.get_kv_entries(id).await.unwrap().len() == 2_000).await;
    assert_eq!(manager.get_kv_entries(id).await.unwrap(), machine.get_kv_entries().await.unwrap());
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_10_001_subscriptions() {
    let pair = Pair::new().await;
    for side in pair.sides() {
        let mut streams = Vec::new();
        for _ in 0..MAX_SUBSCRIPTIONS {
            streams.push(side.watch("key").await);
        }
        let error = side.try_watch("key").await.unwrap_err();
        assert!(matches!(error, KvError::TooManySubscriptions), "{error}");
        // Everything else goes on, and a place that is given back can be taken.
        side.set("key", "1").await;
        drop(streams.pop());
        until_put(&mut side.watch("key").await, "key", "1").await;
    }
    pair.shutdown().await;
}

/// The connection breaks again and again while 5,000 entries travel: another one, with the same identity, takes its
/// place and goes. Nobody but the two sides does anything about it, and they end alike.
#[tokio::test(flavor = "multi_thread")]
async fn errors_a_connection_that_breaks_in_mid_sync_goes_on_by_itself() {
    const COUNT: usize = 5_000;
    for reading in [KvAuthor::Machine, KvAuthor::Manager] {
        let mut pair = Pair::new().await;
        let (dir, address) = match reading {
            KvAuthor::Machine => {
                pair.machine.shutdown().await.unwrap();
                (pair.machine_dir.path(), raw::address(&pair.manager.node().ticket()))
            }
            KvAuthor::Manager => {
                pair.manager.shutdown().await.unwrap();
                (pair.manager_dir.path(), raw::address(&pair.machine.ticket()))
            }
        };
        let stored = Stored::read(dir);
        let [machine, manager] = pair.sides();
        let writer = if reading == KvAuthor::Machine { manager } else { machine };
        let mut writers = tokio::task::JoinSet::new();
        for first in 0..50 {
            let writer = writer.clone();
            writers.spawn(async move {
                for number in (first..COUNT).step_by(50) {
                    writer.set(format!("key/{number:04}"), vec![b'v'; 1_000]).await;
                }
            });
        }
        writers.join_all().await;
        let impostor = raw::endpoint(Some(stored.key.clone())).await;
        match reading {
            KvAuthor::Machine => pair.machine = spawn_machine(pair.machine_dir.path()).await,
            KvAuthor::Manager => pair.manager = spawn_manager(pair.manager_dir.path()).await,
        }
        let reader = pair.side(reading);
        let mut breaks = 0;
        for part in 1..=4 {
            until("some of it", async || reader.keys_used() >= part * COUNT / 8).await;
            let other = raw::knock(&impostor, address.clone(), stored.documents()[0]).await;
            assert!(other.hello.is_some(), "it takes the connection's place");
            breaks += usize::from(reader.keys_used() < COUNT);
            other.connection.close(0u32.into(), b"");
        }
        assert!(breaks >= 2, "it was broken on the way {breaks} times only");
        until("everything", async || reader.keys_used() == COUNT).await;
        assert_eq!(reader.entries(KvFilter::All).await, writer.entries(KvFilter::All).await);
        impostor.close().await;
        pair.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_one_data_directory_one_role() {
    let dir = TempDir::new().unwrap();
    spawn_machine(dir.path()).await.shutdown().await.unwrap();
    let error = manager_builder(dir.path()).spawn().await.unwrap_err();
    assert!(error.to_string().contains("other role"), "{error}");
    let machine = machine_builder(dir.path()).spawn().await.unwrap();
    let second = Machine::builder().node(machine.node().clone()).spawn().await.unwrap_err();
    assert!(matches!(second, groundswell::KvOpenError::RoleTaken), "{second}");
    machine.shutdown().await.unwrap();
}
