//! Budgets of bytes: a write beyond one is refused at the side that makes it; what a machine has beyond its manager's is held
//! back there, and says so at both sides; all other machines go on.

use std::path::Path;

use groundswell::{BudgetOf, KvBudget, KvError, KvLink, Machine, MachineBuilder, Manager, ManagerBuilder, OverBudget};
use tempfile::TempDir;

use crate::kv::common::{is_current, machine_builder, manager_builder, pair, until_put, within};

const VALUE_BYTES: usize = 10_000;

/// What an entry with such a value takes, with a key of 4 bytes.
const ENTRY_BYTES: u64 = VALUE_BYTES as u64 + groundswell::limits::KV_ENTRY_BYTES + 4;

/// Room for ten such entries.
const DOCUMENT: u64 = 10 * ENTRY_BYTES;

fn machine_at(dir: &Path, document: u64) -> MachineBuilder {
    machine_builder(dir).max_value_bytes(VALUE_BYTES).budget(KvBudget { document, ..KvBudget::default() })
}

fn manager_at(dir: &Path, budget: KvBudget) -> ManagerBuilder {
    manager_builder(dir).max_value_bytes(VALUE_BYTES).budget(budget)
}

async fn set(machine: &Machine, number: usize) -> Result<(), KvError> {
    machine.set_kv_value(format!("{number:04}"), [b'v'; VALUE_BYTES]).await.map(drop)
}

/// Writes until it is refused; how many were taken, and why no more were.
async fn fill(machine: &Machine) -> (usize, OverBudget) {
    for number in 0..1_000 {
        match set(machine, number).await {
            Ok(()) => {}
            Err(KvError::OverBudget(over)) => return (number, over),
            Err(other) => panic!("{other}"),
        }
    }
    panic!("there is no budget");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_beyond_the_budget_is_refused_and_frees_nothing_of_others() {
    let dir = TempDir::new().unwrap();
    let machine = machine_at(dir.path(), DOCUMENT).spawn().await.unwrap();
    let (count, over) = fill(&machine).await;
    assert_eq!(count, 10);
    let expected = OverBudget { of: BudgetOf::Document, used: DOCUMENT, more: ENTRY_BYTES, limit: DOCUMENT };
    assert_eq!(over, expected);
    let usage = machine.kv_usage();
    assert_eq!((usage.keys, usage.bytes, usage.bytes_limit), (10, DOCUMENT, DOCUMENT));
    assert!(machine.get_kv_value("0010").await.unwrap().is_none(), "nothing of it is stored");
    // Several at once share what is left.
    machine.delete_kv_value("0000").await.unwrap();
    let at_once = futures_util::future::join_all((20..30).map(|number| set(&machine, number))).await;
    assert_eq!(at_once.iter().filter(|written| written.is_ok()).count(), 0, "a new key counts itself too");
    set(&machine, 0).await.unwrap();
    // A value in place of another takes only the difference.
    machine.set_kv_value("0000", "small").await.unwrap();
    set(&machine, 0).await.unwrap();
    // It is counted in the same way after a restart.
    machine.shutdown().await.unwrap();
    let machine = machine_at(dir.path(), DOCUMENT).spawn().await.unwrap();
    assert_eq!(machine.kv_usage().bytes, DOCUMENT);
    assert!(matches!(set(&machine, 10).await, Err(KvError::OverBudget(_))));
    machine.shutdown().await.unwrap();
    // A smaller budget keeps what there is.
    let machine = machine_at(dir.path(), DOCUMENT / 2).spawn().await.unwrap();
    assert_eq!(machine.get_kv_entries().await.unwrap().len(), 10);
    machine.set_kv_value("0000", "small").await.unwrap();
    assert!(matches!(set(&machine, 0).await, Err(KvError::OverBudget(_))));
    machine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_keeps_to_the_budget_that_its_manager_has() {
    let (machine_dir, manager_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let machine = machine_at(machine_dir.path(), 100 * DOCUMENT).spawn().await.unwrap();
    let budget = KvBudget { document: DOCUMENT, ..KvBudget::default() };
    let manager = manager_at(manager_dir.path(), budget).spawn().await.unwrap();
    let id = pair(&machine, &manager).await;
    within("the two to meet", machine.status_changes().wait_for(is_current)).await.unwrap();
    let (count, over) = fill(&machine).await;
    assert_eq!((count, over.of, over.limit), (10, BudgetOf::OtherSide, DOCUMENT));
    within("the delivery", machine.until_kv_delivered()).await.unwrap();
    assert_eq!(manager.kv_usage(id).unwrap().bytes, DOCUMENT);
    // Its manager keeps to it too.
    let refused = manager.set_kv_value(id, "more", [b'v'; VALUE_BYTES]).await;
    assert!(matches!(refused, Err(KvError::OverBudget(OverBudget { of: BudgetOf::Document, .. }))), "{refused:?}");
    // Released, it has its own budget alone.
    machine.release().await.unwrap();
    set(&machine, 10).await.unwrap();
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

/// Machines of one manager, all current.
async fn fleet(manager: &Manager, dirs: &[TempDir]) -> Vec<Machine> {
    let mut machines = Vec::new();
    for dir in dirs {
        let machine = machine_at(dir.path(), 1_000 * DOCUMENT).spawn().await.unwrap();
        pair(&machine, manager).await;
        machines.push(machine);
    }
    machines
}

/// One machine writes without end while its manager is away. The manager takes no more than its budget, in memory and in what it
/// stores, and says so at both sides; the others notice nothing; and once the machine has deleted enough, everything arrives.
async fn one_machine_without_end(budget: KvBudget, most: u64) {
    let manager_dir = TempDir::new().unwrap();
    let dirs: [TempDir; 4] = std::array::from_fn(|_| TempDir::new().unwrap());
    let build = || manager_at(manager_dir.path(), budget);
    let manager = build().spawn().await.unwrap();
    let machines = fleet(&manager, &dirs).await;
    let id = machines[0].id();
    manager.shutdown().await.unwrap();
    // In another run it does not know yet what its manager has said.
    machines[0].shutdown().await.unwrap();
    let runaway = machine_at(dirs[0].path(), 1_000 * DOCUMENT).spawn().await.unwrap();
    for number in 0..100 {
        set(&runaway, number).await.unwrap();
    }
    let manager = build().spawn().await.unwrap();
    let mut status = runaway.status_changes();
    let told = status.wait_for(|status| status.problem.as_ref().is_some_and(|problem| problem.contains("budget")));
    within("the machine to be told", told).await.unwrap();
    let mut seen = manager.machine_status_changes(id).unwrap();
    let told = seen.wait_for(|status| status.problem.as_ref().is_some_and(|problem| problem.contains("budget")));
    within("the manager to say it", told).await.unwrap();
    assert!(manager.kv_usage(id).unwrap().bytes <= most, "{:?}", manager.kv_usage(id));
    // What is held back is not delivered.
    within("that to be told", status.wait_for(|status| status.undelivered_since.is_some())).await.unwrap();
    for machine in &machines[1..] {
        set(machine, 7).await.unwrap();
        within("the delivery", machine.until_kv_delivered()).await.unwrap();
        assert!(matches!(machine.manager_status().link, KvLink::Online), "{:?}", machine.manager_status());
    }
    for number in 1..100 {
        runaway.delete_kv_value(format!("{number:04}")).await.unwrap();
    }
    runaway.set_kv_value("last", "1").await.unwrap();
    until_put(&mut manager.watch_kv_key(id, "last").await.unwrap(), "last", "1").await;
    within("the delivery", runaway.until_kv_delivered()).await.unwrap();
    within("no problem to be left", status.wait_for(|status| status.problem.is_none())).await.unwrap();
    within("none at the manager", seen.wait_for(|status| status.problem.is_none())).await.unwrap();
    // What the manager stores is as little after a restart.
    manager.shutdown().await.unwrap();
    let manager = build().spawn().await.unwrap();
    assert!(manager.kv_usage(id).unwrap().bytes <= most, "{:?}", manager.kv_usage(id));
    for machine in machines[1..].iter().chain([&runaway]) {
        machine.shutdown().await.unwrap();
    }
    manager.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_writes_without_end_has_its_documents_budget_at_its_manager() {
    // Twice, as two sides may each have written as much while apart.
    one_machine_without_end(KvBudget { document: DOCUMENT, ..KvBudget::default() }, 2 * DOCUMENT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_writes_without_end_has_its_part_of_the_nodes_budget() {
    one_machine_without_end(KvBudget { document: 1_000 * DOCUMENT, node: 4 * DOCUMENT }, 4 * DOCUMENT).await;
}
