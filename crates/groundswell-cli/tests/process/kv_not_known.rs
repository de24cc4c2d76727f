//! A side that was started without its files answers, and does not know the pair: the other is told what to do, and both
//! are as before when the files are back.

use std::path::Path;

use crate::common::{Node, World, kv::online, run, tool, until};
use serde_json::Value;

fn move_files(from: &Path, to: &Path) {
    for file in ["node.redb", "node.journal", "node.run"] {
        std::fs::rename(from.join(file), to.join(file)).unwrap();
    }
}

/// Tells a node the address of another, whose port was among its files.
fn learn(node: &Node, other: &Node) {
    // There is nothing on that path.
    node.run(&["surf", &other.ticket, "/nothing", "--lake", "log", "--no-wait"]);
}

/// What is said of the pairing, of one problem.
#[track_caller]
fn assert_remedy(findings: &[Value]) {
    let pairing: Vec<&Value> = findings.iter().filter(|finding| finding["check"] == "pairing").collect();
    let [finding] = pairing[..] else { panic!("one finding: {findings:?}") };
    assert_eq!(finding["state"], "problem", "{finding}");
    assert!(finding["said"].as_str().unwrap().contains("DOES NOT KNOW THIS PAIR"), "{finding}");
    assert!(
        finding["todo"].as_str().unwrap().contains("start the other side with its own data directory, or restore that"),
        "{finding}"
    );
}

/// A directory that lacks files of an earlier run is refused, and keeps its role when they are back.
#[test]
fn a_directory_that_lacks_a_file_is_refused_and_keeps_its_role() {
    let world = World::new();
    let (machine, manager) = world.pair();
    let dir = machine.dir.clone();
    machine.stop();
    let up = |more: &[&str]| {
        let mut up = tool();
        up.arg("--data").arg(&dir).args(["--json", "up", "--offline", "--bind", "127.0.0.1:0"]).args(more);
        run(up, b"").error()
    };
    for (file, says) in [("node.redb", "it is gone"), ("node.journal", "may hold writes")] {
        let kept = dir.join("kept");
        std::fs::rename(dir.join(file), &kept).unwrap();
        let refused = up(&[]);
        assert!(refused.contains(file) && refused.contains(says), "{refused}");
        std::fs::rename(&kept, dir.join(file)).unwrap();
    }
    for role in ["manager", "peer"] {
        up(&["--role", role]);
    }
    let machine = world.up("machine");
    let status = machine.status();
    assert_eq!((&status["role"], &status["private"]), (&"machine".into(), &true.into()));
    online(&machine, &manager);
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
    learn(&machine, &without);
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
    learn(&manager, &without);
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
