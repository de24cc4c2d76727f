//! A side that was started without its files answers, and does not know the pair: the other is told what to do, and both
//! are as before when the files are back.

use std::path::Path;

use crate::common::{World, kv::online, run, tool, until};
use serde_json::Value;

fn move_files(from: &Path, to: &Path) {
    for file in ["kv.redb", "kv.journal"] {
        std::fs::rename(from.join(file), to.join(file)).unwrap();
    }
}

/// What is said of the pairing, of one problem.
#[track_caller]
fn assert_remedy(findings: &[Value]) {
    let pairing: Vec<&Value> = findings.iter().filter(|finding| finding["check"] == "pairing").collect();
    let [finding] = pairing[..] else { panic!("one finding: {findings:?}") };
    assert_eq!(finding["state"], "problem", "{finding}");
    assert!(finding["said"].as_str().unwrap().contains("DOES NOT KNOW THIS PAIR"), "{finding}");
    assert!(finding["todo"].as_str().unwrap().contains("restore its files kv.redb and kv.journal"), "{finding}");
}

/// What a node has logged of this.
fn logged(dir: &Path, what: &str) -> usize {
    let log = std::fs::read_to_string(dir.with_extension("log")).unwrap();
    log.lines().filter(|line| line.contains(what)).count()
}

/// The directory keeps the role that is not said, also where the role's files are not in it.
#[test]
fn a_directory_without_the_files_of_its_role_starts_in_that_role_and_says_what_is_missing() {
    const MISSING: &str = "the files kv.redb and kv.journal of this";
    let world = World::new();
    let (machine, manager) = world.pair();
    let (id, manager_dir, machine_dir) = (machine.id.clone(), manager.dir.clone(), machine.dir.clone());
    manager.stop();
    let kept = tempfile::TempDir::new().unwrap();
    move_files(&manager_dir, kept.path());
    let without = world.up("manager");
    assert_eq!(without.status()["role"], "manager");
    assert_eq!(logged(&manager_dir, MISSING), 1);
    until("the machine to be told", || machine.status()["manager"]["link"] == "not_known");
    without.stop();
    move_files(kept.path(), &manager_dir);
    let manager = world.up("manager");
    online(&machine, &manager);
    machine.stop();
    move_files(&machine_dir, kept.path());
    for role in ["manager", "peer"] {
        let mut up = tool();
        up.arg("--data").arg(&machine_dir).args(["--json", "up", "--offline", "--bind", "127.0.0.1:0", "--role", role]);
        run(up, b"").error();
    }
    let without = world.up("machine");
    let status = without.status();
    assert_eq!((&status["role"], &status["private"]), (&"machine".into(), &true.into()));
    assert_eq!(logged(&machine_dir, MISSING), 1);
    until("the manager to be told", || manager.machine_status(&id)["link"] == "not_known");
    without.stop();
    move_files(kept.path(), &machine_dir);
    let machine = world.up("machine");
    online(&machine, &manager);
    assert_eq!((logged(&manager_dir, MISSING), logged(&machine_dir, MISSING)), (1, 1), "it is said where it is so");
}

#[test]
fn a_manager_that_was_started_without_its_files_is_its_machines_when_they_are_back() {
    let world = World::new();
    let (machine, manager) = world.pair();
    let (id, dir) = (machine.id.clone(), manager.dir.clone());
    let mut watching = machine.lines(&["watch"]);
    manager.stop();
    let kept = tempfile::TempDir::new().unwrap();
    move_files(&dir, kept.path());
    let without = world.manager("manager");
    let told = watching.until(|line| line["type"] == "pair" && line["link"] == "not_known");
    assert!(told["not_known_since_ms"].is_u64(), "{told}");
    let pair = machine.status()["manager"].clone();
    assert_eq!((&pair["link"], &pair["manager"]), (&"not_known".into(), &without.id.clone().into()));
    assert_remedy(&machine.run(&["doctor"]).objects());
    machine.kv(None, &["set", "stock", "1"]).well();
    without.stop();
    move_files(kept.path(), &dir);
    let manager = world.manager("manager");
    online(&machine, &manager);
    manager.kv_lines(Some(&id), &["watch", "stock"]).until_event("put stock=1 by machine");
    manager.kv(Some(&id), &["set", "price", "2"]).well();
    machine.kv_lines(None, &["watch", "price"]).until_event("put price=2 by manager");
}

#[test]
fn a_machine_that_was_started_without_its_files_is_its_managers_when_they_are_back() {
    let world = World::new();
    let (machine, manager) = world.pair();
    let (id, dir) = (machine.id.clone(), machine.dir.clone());
    machine.stop();
    let kept = tempfile::TempDir::new().unwrap();
    move_files(&dir, kept.path());
    let without = world.machine("machine");
    until("the manager to be told", || manager.machine_status(&id)["link"] == "not_known");
    let listed = manager.run(&["machines"]).only();
    assert_eq!((&listed["machine"], &listed["link"]), (&id.clone().into(), &"not_known".into()));
    assert_remedy(&manager.run(&["doctor"]).objects());
    manager.kv(Some(&id), &["set", "price", "2"]).well();
    without.stop();
    move_files(kept.path(), &dir);
    let machine = world.machine("machine");
    online(&machine, &manager);
    machine.kv_lines(None, &["watch", "price"]).until_event("put price=2 by manager");
}
