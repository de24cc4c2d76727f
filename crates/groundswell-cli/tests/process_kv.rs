//! A machine and its manager, as real processes, by the tool alone: what they share, and what is
//! refused. Pairing and releases are in `process_kv_pairing.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers outside of test functions

mod common;

use common::{World, kv, tool};

/// The promise as a whole: paired by the PIN, watched, written, deleted, and all of it again after both
/// were restarted, without pairing again.
#[test]
fn paired_once_they_follow_each_other_over_restarts() {
    let world = World::new();
    let (machine, manager) = (world.machine("machine"), world.manager("manager"));
    let pin = kv::claim(&machine, &manager);
    assert!(pin.len() == 6 && pin.bytes().all(|byte| byte.is_ascii_digit()), "{pin}");
    let id = machine.id.clone();

    let mut watch = machine.kv_lines(None, &["watch", "price"]);
    assert_eq!(watch.event(), "caught_up");
    let entry = manager.kv(Some(&id), &["set", "price", "250"]).only();
    assert_eq!((&entry["key"], &entry["value"], &entry["author"]), (&"price".into(), &"250".into(), &"manager".into()));
    let put = watch.next();
    assert_eq!(kv::words(&put), "!put price=250 by manager");
    assert_eq!(put["timestamp"], entry["timestamp"]);
    assert_eq!(manager.kv(Some(&id), &["del", "price"]).only()["deleted"], true);
    assert_eq!(watch.event(), "!delete price by manager");
    drop(watch);

    // The other way round.
    let mut watch = manager.kv_lines(Some(&id), &["watch", "stock"]);
    assert_eq!(watch.event(), "caught_up");
    machine.kv(None, &["set", "stock", "12"]).well();
    assert_eq!(watch.event(), "!put stock=12 by machine");

    // A stream says why it ends.
    let pids = (machine.id.clone(), manager.id.clone());
    manager.stop();
    assert_eq!(watch.next(), serde_json::json!({"type": "ended", "reason": "shut_down"}));
    machine.stop();

    // The role is the directory's: it need not be said again.
    let (machine, manager) = (world.up("machine"), world.up("manager"));
    assert_eq!((machine.id.clone(), manager.id.clone()), pids);
    let mut watch = machine.kv_lines(None, &["watch", "stock"]);
    assert_eq!(watch.event(), "put stock=12 by machine");
    assert_eq!(watch.event(), "caught_up");
    manager.kv(Some(&id), &["set", "stock", "40"]).well();
    assert_eq!(watch.event(), "!put stock=40 by manager");
}

/// The tool's own part: what is wrong on the command line ends with 2.
#[test]
fn wrong_usage_of_keys_ends_with_2() {
    let wrong: [(&[&str], &str); 6] = [
        (&["kv"], "Usage"),
        (&["kv", "set", "key"], "VALUE"),
        (&["kv", "get", "0g", "--hex"], "not hexadecimal"),
        (&["kv", "set", "00", "f", "--hex"], "not hexadecimal"),
        (&["kv", "ls", "--space", "a/b"], "a/b"),
        (&["claim", "someone"], "neither a ticket nor a peer's id"),
    ];
    for (arguments, said) in wrong {
        let mut command = tool();
        command.args(arguments).env("GROUNDSWELL_DATA", "missing");
        let ran = common::run(command, b"");
        assert_eq!(ran.code, Some(2), "{arguments:?}: {ran:?}");
        assert!(ran.stderr.contains(said), "{arguments:?}: {}", ran.stderr);
        assert_eq!(ran.stdout, "");
    }
}
