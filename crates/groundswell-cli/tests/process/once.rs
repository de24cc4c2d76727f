//! Writes of the tool that are repeated with their ids until they are acknowledged: `kill -9` of the node at any moment, and
//! exact counts. And what the tool says where nobody knows the outcome.

use std::{thread, time::Duration};

use serde_json::{Value, json};

use crate::common::{Node, Ran, World, kv::claim, until};

/// How often a node is killed.
const KILLS: u64 = 12;

/// Numbers that are not the same at each kill, from a seed that a failure shows.
fn waits() -> impl Iterator<Item = Duration> {
    let mut state = u64::from(std::process::id());
    eprintln!("seed {state}");
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // The moment of the kill is under test: anywhere in a command that takes some milliseconds.
        Duration::from_micros((state >> 33) % 30_000)
    })
}

/// Runs a command again and again until it is acknowledged, while its node is killed at first. What it answers.
#[track_caller]
fn until_done(
    node: &mut Node,
    start: &dyn Fn() -> Node,
    arguments: &[&str],
    kill_after: Duration,
    seen: &mut Seen,
) -> Value {
    let mut kills = 1;
    loop {
        let command = node.command(arguments);
        let running = thread::spawn(move || crate::common::run(command, b""));
        if kills > 0 {
            kills -= 1;
            // The moment of the kill: time is under test. See `waits`.
            thread::sleep(kill_after);
            node.kill();
        }
        let ran = running.join().unwrap();
        match ran.code {
            Some(0) => {
                let done = ran.only();
                seen.done += 1;
                // The node is gone, or runs; the next command needs it.
                if node.run(&["status"]).code != Some(0) {
                    *node = start();
                }
                return done;
            }
            Some(3) => {
                seen.unknown += 1;
                check_unknown(&ran);
            }
            // It was not there any more.
            Some(1) => seen.not_done += 1,
            _ => panic!("{ran:?}"),
        }
        *node = start();
    }
}

#[derive(Debug, Default)]
struct Seen {
    done: u64,
    unknown: u64,
    not_done: u64,
}

#[track_caller]
fn check_unknown(ran: &Ran) {
    let said: Value = serde_json::from_str(ran.stderr.trim()).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    assert_eq!(said["outcome"], "unknown", "{ran:?}");
    let error = said["error"].as_str().unwrap();
    assert!(error.contains("--id") && !error.contains("try again"), "{error}");
}

#[test]
fn sales_that_are_repeated_with_their_ids_are_counted_once_whenever_the_node_is_killed() {
    let world = World::new();
    let start = || world.up("till");
    let mut node = start();
    let mut seen = Seen::default();
    for (sale, wait) in (1..=KILLS).zip(waits()) {
        let id = format!("sale-{sale:06}");
        let give = ["give", "/till", "100", "--lake", "sum", "--id", &id];
        let given = until_done(&mut node, &start, &give, wait, &mut seen);
        assert_eq!(given, json!({ "aeon": sale }));
        assert_eq!(node.run(&give).only(), given, "the same result");
    }
    eprintln!("{seen:?}");
    assert_eq!(node.rock("/till"), (100 * KILLS).to_string());
    node.stop();
}

#[test]
fn key_writes_that_are_repeated_with_their_ids_are_done_once_whenever_the_node_is_killed() {
    let world = World::new();
    let start = || world.machine("machine");
    let (mut machine, manager) = (start(), world.manager("manager"));
    claim(&machine, &manager);
    let mut seen = Seen::default();
    for (write, wait) in (1..=KILLS).zip(waits()) {
        let (id, value) = (format!("write-{write:06}"), write.to_string());
        let set = ["kv", "set", "total", &value, "--id", &id];
        let written = until_done(&mut machine, &start, &set, wait, &mut seen);
        assert_eq!(written["value"], value);
        // Something else comes in between, and stays.
        machine.kv(None, &["set", "total", "between"]).well();
        assert_eq!(machine.run(&set).only(), written, "the same entry");
        let found = machine.run(&["kv", "get", "total"]).only();
        assert_eq!(found["value"], "between");
        let delete = ["kv", "del", "none", "--id", &format!("delete-{write:06}")];
        assert_eq!(machine.run(&delete).only(), json!({ "deleted": false }));
    }
    eprintln!("{seen:?}");
    until("the manager to have it", || {
        let found = manager.kv(Some(&machine.id), &["get", "total"]);
        found.code == Some(0) && found.only()["value"] == "between"
    });
    machine.stop();
    manager.stop();
}

/// All waves of one command have one id, and an id has one write.
#[test]
fn the_tool_takes_one_id_for_all_waves_of_a_command() {
    let world = World::new();
    let node = world.up("node");
    let give = ["give", "/log", "a", "b", "-", "--lake", "log", "--id", "first"];
    for _ in 0..2 {
        assert_eq!(node.run_with(&give, b"c\nd\n").only(), json!({ "aeon": 4 }));
    }
    assert_eq!(node.rock("/log"), r#"["a","b","c","d"]"#);
    let other = node.run_with(&give, b"c\n");
    assert!(other.error().contains("was used for another write"), "{other:?}");
    // All or none.
    let refused = node.run(&["give", "/sum", "1", "x", "2", "--lake", "sum", "--id", "second"]);
    assert!(refused.error().contains("wave 2 was refused") && refused.error().contains("nothing was given"));
    assert_eq!(node.aeon("/sum"), None);
    assert_eq!(node.run(&["give", "/sum", "1", "2", "--lake", "sum", "--id", "second"]).only(), json!({ "aeon": 2 }));
    let usage = node.run(&["give", "/sum", "1", "--lake", "sum", "--id", ""]);
    assert_eq!(usage.code, Some(2), "{usage:?}");
    node.stop();
}
