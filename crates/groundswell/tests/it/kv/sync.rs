//! Two sides that were apart: who wins, and when they agree.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};
use std::time::{SystemTime, UNIX_EPOCH};

use groundswell::{KvFilter, KvLink};

use crate::kv::common::{Clock, Pair, next, spawn_machine, spawn_manager, until, until_put, within};

/// A wall clock that is off by so many milliseconds, which can change.
fn clock_off_by(offset: &Arc<AtomicI64>) -> Clock {
    let offset = offset.clone();
    Arc::new(move || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        u64::try_from(i64::try_from(now).unwrap() + offset.load(Ordering::SeqCst)).unwrap_or(0)
    })
}

const HOUR: i64 = 3_600_000;

/// Two hours either way, a clock at 1970, and one set back by an hour in mid-run: no write is refused or
/// lost, both sides show the same winner, the skew is reported.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_wall_clocks_lose_nothing() {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    for wrong in [2 * HOUR, -2 * HOUR, -now] {
        let (right, off) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicI64::new(wrong)));
        let pair = Pair::with_clocks(Some(clock_off_by(&off)), Some(clock_off_by(&right))).await;
        let [machine, manager] = pair.sides();
        let (mut at_machine, mut at_manager) = (machine.watch("key").await, manager.watch("key").await);
        for turn in 0..20 {
            let writer = if turn % 2 == 0 { &machine } else { &manager };
            if turn == 10 {
                off.fetch_sub(HOUR, Ordering::SeqCst);
            }
            writer.set("key", turn.to_string()).await;
            // Each write follows on what its writer has seen, and so wins on both sides.
            until_put(&mut at_machine, "key", &turn.to_string()).await;
            until_put(&mut at_manager, "key", &turn.to_string()).await;
        }
        assert_eq!(machine.get("key").await, manager.get("key").await);
        let skew = pair.manager.machine_status(pair.id).unwrap().skew_ms.unwrap();
        assert!((skew - wrong.max(-now)).abs() < 60_000, "{skew} of {wrong}");
        let skew = pair.machine.manager_status().skew_ms.unwrap();
        assert!((skew + wrong.max(-now)).abs() < 60_000, "{skew} of {}", -wrong);
        pair.shutdown().await;
    }
}

/// Both write the same and different keys while they are apart, and both are restarted: they agree
/// without a call, and each watcher has seen the last value.
#[tokio::test(flavor = "multi_thread")]
async fn writes_of_both_sides_while_apart_converge() {
    let Pair { machine, manager, id, machine_dir, manager_dir } = Pair::new().await;
    machine.set_kv_value("both", "common").await.unwrap();
    until_put(&mut manager.watch_kv_key(id, "both").await.unwrap(), "both", "common").await;
    machine.shutdown().await.unwrap();
    for number in 0..100 {
        manager.set_kv_value(id, format!("manager/{number}"), "m").await.unwrap();
    }
    manager.set_kv_value(id, "both", "by the manager").await.unwrap();
    let offline = manager.machine_status(id).unwrap();
    assert!(matches!(offline.link, KvLink::Offline { .. }) && offline.current_at.is_some(), "{offline:?}");
    manager.shutdown().await.unwrap();
    let machine = spawn_machine(machine_dir.path()).await;
    let mut at_machine = machine.watch_kv_key("both").await.unwrap();
    assert_eq!(next(&mut at_machine).await, "put both=common by machine");
    for number in 0..100 {
        machine.set_kv_value(format!("machine/{number}"), "m").await.unwrap();
    }
    machine.delete_kv_value("both").await.unwrap();
    machine.set_kv_value("both", "by the machine").await.unwrap();
    let manager = spawn_manager(manager_dir.path()).await;
    let mut at_manager = manager.watch_kv_key(id, "both").await.unwrap();
    // The machine wrote later, by clocks that agree.
    until_put(&mut at_manager, "both", "by the machine").await;
    until("both to agree", async || {
        let (one, other) = (machine.get_kv_entries().await.unwrap(), manager.get_kv_entries(id).await.unwrap());
        one.len() == 201 && one == other
    })
    .await;
    assert_eq!(machine.get_kv_value("both").await.unwrap().unwrap().value, "by the machine");
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

/// Reconciliation finds both documents alike, after what our own stream has brought.
#[tokio::test(flavor = "multi_thread")]
async fn reconciliation_finds_both_sides_alike() {
    let pair = Pair::new().await;
    let [machine, manager] = pair.sides();
    for number in 0..50 {
        machine.set(format!("machine/{number}"), "1").await;
        manager.set(format!("manager/{number}"), "1").await;
    }
    machine.delete("machine/7").await;
    let mut status = pair.manager.machine_status_changes(pair.id).unwrap();
    within("a reconciliation", status.wait_for(|status| status.reconciled > 0)).await.unwrap();
    assert_eq!(machine.entries(KvFilter::All).await, manager.entries(KvFilter::All).await);
    pair.shutdown().await;
}

/// What an application keeps for itself is apart from its users' keys.
#[tokio::test(flavor = "multi_thread")]
async fn spaces_are_apart() {
    let pair = Pair::new().await;
    let (here, there) = (pair.machine.space("config").unwrap(), pair.manager.space(pair.id, "config").unwrap());
    here.set("key", "in config").await.unwrap();
    pair.machine.set_kv_value("key", "the users'").await.unwrap();
    until_put(&mut there.watch("key").await.unwrap(), "key", "in config").await;
    until_put(&mut pair.manager.watch_kv_key(pair.id, "key").await.unwrap(), "key", "the users'").await;
    assert!(there.delete("key").await.unwrap());
    until("the deletion", async || here.get("key").await.unwrap().is_none()).await;
    assert_eq!(pair.machine.get_kv_value("key").await.unwrap().unwrap().value, "the users'");
    assert_eq!(pair.machine.spaces(), ["", "config"]);
    assert_eq!(pair.manager.spaces(pair.id).unwrap(), ["", "config"]);
    pair.shutdown().await;
}

/// A key that is overwritten again and again keeps the disk bounded, and binary data is what it was.
#[tokio::test(flavor = "multi_thread")]
async fn old_values_go() {
    let pair = Pair::new().await;
    let [machine, manager] = pair.sides();
    let size = || -> u64 {
        let files = std::fs::read_dir(pair.machine_dir.path()).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
    };
    let before = size();
    let mut value = vec![0; 64 * 1024];
    for round in 0..=255 {
        value.fill(round);
        machine.set("key", &value).await;
    }
    until("the last value", async || manager.get("key").await.is_some_and(|entry| entry.value == value)).await;
    assert!(size() < before + 16 * 1024 * 1024, "{} after {before}", size());
    pair.shutdown().await;
}
