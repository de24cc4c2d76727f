//! Callers who leave: a future that is dropped after its first poll. What it began is done to its end, so that disk, memory
//! and the other side agree.

use futures_util::FutureExt;
use groundswell::{KvLink, MachineState};
use tempfile::TempDir;

use super::common::{Pair, pair, spawn_machine, spawn_manager, until_put, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_release_was_dropped_is_released_and_can_be_claimed() {
    for wipes in [false, true] {
        let Pair { machine, manager, id, machine_dir: _dir, manager_dir: _manager_dir } = Pair::new().await;
        machine.set_kv_value("stock", "1").await.unwrap();
        let mut status = manager.machine_status_changes(id).unwrap();
        let left = if wipes { machine.release_and_wipe().now_or_never() } else { machine.release().now_or_never() };
        assert!(left.is_none(), "it waits for the disk");
        within("the manager to know", status.wait_for(|status| status.link == KvLink::Released)).await.unwrap();
        assert_eq!(machine.get_machine_state(), MachineState::Unclaimed);
        let dir = TempDir::new().unwrap();
        let other = spawn_manager(dir.path()).await;
        assert_eq!(pair(&machine, &other).await, id);
        machine.set_kv_value("after", "2").await.unwrap();
        until_put(&mut other.watch_kv_key(id, "after").await.unwrap(), "after", "2").await;
        assert_eq!(other.get_kv_value(id, "stock").await.unwrap().is_none(), wipes);
        machine.shutdown().await.unwrap();
        manager.shutdown().await.unwrap();
        other.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_whose_release_was_dropped_gives_the_machine_up_and_tells_it() {
    let Pair { machine, manager, id, machine_dir, manager_dir: _dir } = Pair::new().await;
    let mut machines = manager.machine_changes();
    assert!(manager.release(id).now_or_never().is_none(), "it waits for the disk");
    while !manager.list_machine_ids().is_empty() {
        within("the machine to be gone", machines.changed()).await.unwrap();
    }
    let mut status = machine.status_changes();
    let unclaimed = |_: &_| machine.get_machine_state() == MachineState::Unclaimed;
    within("the machine to be told", status.wait_for(unclaimed)).await.unwrap();
    machine.shutdown().await.unwrap();
    let machine = spawn_machine(machine_dir.path()).await;
    assert_eq!(machine.get_machine_state(), MachineState::Unclaimed);
    assert_eq!(pair(&machine, &manager).await, id);
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}
