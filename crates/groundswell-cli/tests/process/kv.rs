//! A machine and its manager, as real processes, by the tool alone: what they share, and how it is
//! read, written and followed. Pairing and releases are in `process_kv_pairing.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers outside of test functions

use std::{collections::BTreeMap, fs};

use crate::common::{World, kv, run, signal, tool, until};
use serde_json::{Value, json};

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
    assert_eq!(manager.kv(Some(&id), &["del", "price"]).only(), json!({"deleted": true}));
    assert_eq!(manager.kv(Some(&id), &["del", "price"]).only(), json!({"deleted": false}));
    assert_eq!(watch.event(), "!delete price by manager");
    drop(watch);

    // The other way round.
    let mut watch = manager.kv_lines(Some(&id), &["watch", "stock"]);
    assert_eq!(watch.event(), "caught_up");
    machine.kv(None, &["set", "stock", "12"]).well();
    assert_eq!(watch.event(), "!put stock=12 by machine");

    // A stream says why it ends.
    let ids = (machine.id.clone(), manager.id.clone());
    manager.stop();
    assert_eq!(watch.next(), json!({"type": "ended", "reason": "shut_down"}));
    machine.stop();

    // The role is the directory's: it need not be said again.
    let (machine, manager) = (world.up("machine"), world.up("manager"));
    assert_eq!((machine.id.clone(), manager.id.clone()), ids);
    let mut watch = machine.kv_lines(None, &["watch", "stock"]);
    assert_eq!(watch.event(), "put stock=12 by machine");
    assert_eq!(watch.event(), "caught_up");
    manager.kv(Some(&id), &["set", "stock", "40"]).well();
    assert_eq!(watch.event(), "!put stock=40 by manager");
}

/// Nobody's machine is a machine all the same.
#[test]
fn a_machine_without_a_manager_works_alone() {
    let world = World::new();
    let machine = world.machine("machine");
    let mut watch = machine.kv_lines(None, &["watch", "stock"]);
    assert_eq!(watch.event(), "caught_up");
    machine.kv(None, &["set", "stock", "12"]).well();
    assert_eq!(watch.event(), "!put stock=12 by machine");
    assert_eq!(machine.kv(None, &["get", "stock"]).only()["value"], "12");
    let missing = machine.kv(None, &["get", "price"]).error();
    assert_eq!(missing, "price has no value here: `groundswell kv ls` lists the keys that have one");
    let status = machine.status();
    assert_eq!((&status["role"], &status["manager"]["link"]), (&"machine".into(), &"unclaimed".into()));
    assert_eq!((&status["manager"]["keys_used"], &status["manager"]["keys_limit"]), (&1.into(), &100_000.into()));
    assert!(status["manager"].get("manager").is_none() && status.get("machines").is_none(), "{status}");
    let error = machine.run(&["release"]).error();
    assert!(error.starts_with("this machine has no manager: there is nothing to release"), "{error}");
    machine.stop();
    let machine = world.up("machine");
    assert_eq!(machine.kv(None, &["get", "stock"]).only()["value"], "12");
}

/// Keys that begin alike have nothing to do with each other, at either side.
#[test]
fn keys_are_independent_however_they_begin() {
    let world = World::new();
    let (machine, manager) = world.pair();
    let id = machine.id.clone();
    let keys = ["", "a", "ab", "slot/1", "slot/10"];
    let mut watches: Vec<_> = keys.iter().map(|key| manager.kv_lines(Some(&id), &["watch", key])).collect();
    for watch in &mut watches {
        assert_eq!(watch.event(), "caught_up");
    }
    for (key, value) in keys.iter().zip(["none", "one", "two", "three", ""]) {
        machine.kv(None, &["set", key, value]).well();
    }
    machine.kv(None, &["del", "a"]).well();
    machine.kv(None, &["del", "slot/1"]).well();
    for (key, watch) in keys.iter().zip(&mut watches) {
        // Whatever was skipped, the newest comes, and nothing of another key before it.
        let newest = if ["a", "slot/1"].contains(key) { "delete" } else { "put" };
        loop {
            let line = watch.next();
            assert_eq!(line["key"], *key);
            if line["type"] == newest {
                break;
            }
        }
    }
    for node in [(&machine, None), (&manager, Some(&*id))] {
        let entries = node.0.kv(node.1, &["ls"]).objects();
        let pairs: Vec<_> =
            entries.iter().map(|entry| (entry["key"].as_str().unwrap(), entry["value"].as_str().unwrap())).collect();
        assert_eq!(pairs, [("", "none"), ("ab", "two"), ("slot/10", "")]);
        assert_eq!(node.0.kv(node.1, &["ls", "--prefix", "slot/"]).objects().len(), 1);
    }
}

/// Every byte is a key, and comes back as it was, whether it is text or not.
#[test]
fn all_keys_of_one_byte_arrive_as_they_were_written() {
    let world = World::new();
    let (machine, manager) = world.pair();
    for byte in 0..=255_u8 {
        let (key, value) = (format!("{byte:02x}"), format!("{:02X}", 255 - byte));
        let entry = machine.kv(None, &["set", &key, &value, "--hex"]).only();
        assert_eq!((&entry["key_hex"], entry.get("key")), (&key.into(), None));
    }
    let mut entries = Vec::new();
    until("all keys at the manager", || {
        entries = manager.kv(Some(&machine.id), &["ls"]).objects();
        entries.len() == 256
    });
    for (byte, entry) in (0..=255_u8).zip(&entries) {
        match std::str::from_utf8(&[byte]) {
            Ok(text) => assert_eq!((&entry["key"], entry.get("key_hex")), (&text.into(), None)),
            Err(_) => assert_eq!((&entry["key_hex"], entry.get("key")), (&format!("{byte:02x}").into(), None)),
        }
        let field = if 255 - byte < 128 { "value" } else { "value_hex" };
        assert!(entry[field].is_string(), "{entry}");
    }
    let entries = manager.kv(Some(&machine.id), &["ls", "--hex", "--prefix", "ff"]).objects();
    assert_eq!((entries.len(), &entries[0]["key_hex"], &entries[0]["value_hex"]), (1, &"ff".into(), &"00".into()));
    // For people no key looks like another.
    let mut listed = tool();
    listed.arg("--data").arg(&machine.dir).args(["kv", "ls"]);
    let listed = run(listed, b"").well().stdout.clone();
    assert_eq!(listed.lines().count(), 256);
    for line in ["hex:ff = hex:00  (machine)", "hex:0a = hex:f5  (machine)", "a = hex:9e  (machine)"] {
        assert!(listed.lines().any(|one| one == line), "{line}: {listed}");
    }
}

#[test]
fn bytes_travel_by_file_and_by_hexadecimal_up_to_their_limits() {
    let world = World::new();
    let (machine, manager) = world.pair();
    let id = machine.id.clone();
    let largest: Vec<u8> = (0..1024 * 1024_u32).map(|place| (place.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let (from, to) = (world.dir("from"), world.dir("to"));
    fs::write(&from, &largest).unwrap();
    let from_file = ["set", "picture", "--file", from.to_str().unwrap()];
    machine.kv(None, &from_file).well();
    let there = || manager.kv(Some(&id), &["get", "picture", "--file", to.to_str().unwrap()]);
    until("the picture", || there().code == Some(0));
    let entry = there().only();
    assert_eq!((&entry["key"], &entry["bytes"]), (&"picture".into(), &largest.len().into()));
    assert!(entry.get("value").is_none() && entry.get("value_hex").is_none());
    assert_eq!(fs::read(&to).unwrap(), largest);
    let entry = manager.kv(Some(&id), &["get", "picture"]).only();
    assert!(entry["value_hex"].as_str().unwrap().len() == 2 * largest.len());

    // One byte more is refused, and changes nothing.
    let larger = [largest.as_slice(), b"x"].concat();
    fs::write(&from, &larger).unwrap();
    for (node, of) in [(&machine, None), (&manager, Some(&*id))] {
        let error = node.kv(of, &from_file).error();
        assert!(error.contains("a value of 1048577 bytes: at most 1048576"), "{error}");
    }
    fs::write(&from, larger.repeat(3)).unwrap();
    assert!(machine.kv(None, &from_file).error().contains(&format!("a value of {} bytes", larger.len() * 3)));
    assert_eq!(machine.kv(None, &["get", "picture"]).only()["value_hex"], entry["value_hex"]);

    // By standard input, in hexadecimal, and nothing at all.
    let entry = run(machine.kv_command(None, &["set", "in", "--file", "-"]), b"\xff\x00").only();
    assert_eq!(entry["value_hex"], "ff00");
    assert_eq!(machine.kv(None, &["set", "00ff", "CAFE", "--hex"]).only()["value_hex"], "cafe");
    assert_eq!(machine.kv(None, &["set", "", ""]).only()["value"], "");
    let error = machine.kv(None, &["set", "x", "--file", "/missing"]).error();
    assert!(error.contains("cannot use the file /missing"), "{error}");

    // A key at its limit, and one that is too long.
    let longest = "k".repeat(1_024);
    for (node, of) in [(&machine, None), (&manager, Some(&*id))] {
        node.kv(of, &["set", &longest, "x"]).well();
        for command in [&["set", "K", "x"][..], &["get", "K"], &["del", "K"], &["watch", "K"]] {
            let too_long = longest.clone() + "k";
            let arguments: Vec<&str> = command.iter().map(|one| if *one == "K" { &*too_long } else { *one }).collect();
            let error = node.kv(of, &arguments).error();
            assert!(error.contains("a key of 1025 bytes: at most 1024"), "{error}");
        }
    }
}

#[test]
fn a_reader_goes_on_from_its_cursor_and_ends_after_its_count() {
    let world = World::new();
    let machine = world.machine("machine");
    for (key, value) in [("a", "1"), ("b", "2"), ("c", "3")] {
        machine.kv(None, &["set", key, value]).well();
    }
    let first = machine.kv(None, &["subscribe", "--count", "2"]).objects();
    assert_eq!(first.iter().map(kv::words).collect::<Vec<_>>(), ["put a=1 by machine", "put b=2 by machine"]);
    let mut stream = machine.kv_lines(None, &["subscribe"]);
    let cursor = stream.until_event("caught_up")["cursor"].as_str().unwrap().to_owned();
    drop(stream);
    for value in ["4", "5"] {
        machine.kv(None, &["set", "b", value]).well();
    }
    machine.kv(None, &["del", "a"]).well();
    // What was replaced meanwhile is skipped.
    let next = machine.kv(None, &["subscribe", "--cursor", &cursor, "--count", "2"]).objects();
    let entries: Vec<String> = next.iter().map(|line| kv::words(line).trim_start_matches('!').to_owned()).collect();
    assert_eq!(entries, ["put b=5 by machine", "delete a by machine"]);
    let mut watch = machine.kv_lines(None, &["watch", "c", "--cursor", &cursor]);
    assert_eq!(watch.event(), "caught_up", "it has not changed since");
    signal("INT", watch.child.id());
    assert_eq!(watch.next(), json!({"type": "ended", "reason": "interrupted"}));
    assert!(crate::common::wait(&mut watch.child).success());
    // A restart makes another epoch.
    machine.stop();
    let machine = world.up("machine");
    let mut stream = machine.kv_lines(None, &["subscribe", "--cursor", &cursor]);
    let reset = stream.next();
    assert_eq!((&reset["type"], &reset["reason"]), (&"reset".into(), &"other_epoch".into()));
    assert_eq!(stream.event(), "put b=5 by machine");
    assert_eq!(machine.kv(None, &["watch", "b", "--cursor", "nonsense"]).code, Some(2));
}

/// A machine that stands still counts as online until its silence is noticed; that it has not received a price is said
/// at once.
#[test]
fn what_is_not_delivered_is_told_and_waited_for() {
    let world = World::new();
    let (machine, manager) = world.pair();
    kv::online(&machine, &manager);
    let id = machine.id.clone();
    let within = |seconds: &str| manager.run(&["kv", "delivered", "--machine", &id, "--within", seconds]);
    manager.kv(Some(&id), &["set", "price", "249"]).well();
    assert_eq!(within("30").only(), json!({"delivered": true}));
    assert_eq!(machine.kv(None, &["get", "price"]).only()["value"], "249");
    assert_eq!(manager.machine_status(&id)["undelivered_since_ms"], Value::Null);
    crate::common::signal("STOP", machine.process());
    manager.kv(Some(&id), &["set", "price", "250"]).well();
    let late = within("1").error();
    assert!(late.starts_with("not everything is at the other side after 1 s: it goes there by itself"), "{late}");
    until("it to be told", || manager.machine_status(&id)["undelivered_since_ms"].is_u64());
    assert_eq!(manager.machine_status(&id)["link"], "online", "its silence is not noticed yet");
    crate::common::signal("CONT", machine.process());
    assert_eq!(within("30").only(), json!({"delivered": true}));
    assert_eq!(machine.kv(None, &["get", "price"]).only()["value"], "250");
    until("that to be told", || manager.machine_status(&id)["undelivered_since_ms"].is_null());
    // The other way round it is the same; and where there is no other side, that is said.
    machine.kv(None, &["set", "stock", "12"]).well();
    machine.run(&["kv", "delivered"]).well();
    assert_eq!(manager.kv(Some(&id), &["get", "stock"]).only()["value"], "12");
    assert!(world.machine("alone").run(&["kv", "delivered"]).error().contains("not claimed"));
}

/// An application's own records are apart from its users' keys.
#[test]
fn spaces_are_apart() {
    let world = World::new();
    let (machine, manager) = world.pair();
    let id = machine.id.clone();
    machine.kv(None, &["set", "key", "of the users"]).well();
    machine.kv(None, &["set", "key", "of the application", "--space", "conf"]).well();
    let mut watch = manager.kv_lines(Some(&id), &["watch", "key", "--space", "conf"]);
    watch.until_event("put key=of the application by machine");
    until("the other", || manager.kv(Some(&id), &["get", "key"]).code == Some(0));
    assert_eq!(manager.kv(Some(&id), &["get", "key"]).only()["value"], "of the users");
    manager.kv(Some(&id), &["del", "key", "--space", "conf"]).well();
    watch.until_event("delete key by manager");
    assert_eq!(manager.kv(Some(&id), &["ls", "--space", "conf"]).objects(), Vec::<Value>::new());
    assert_eq!(machine.kv(None, &["ls"]).objects().len(), 1);
}

/// One stream over all machines, those that are claimed later and those that go included.
#[test]
fn a_manager_follows_all_its_machines_at_once() {
    let world = World::new();
    let (first, manager) = world.pair();
    first.kv(None, &["set", "stock/cola", "1"]).well();
    first.kv(None, &["set", "other", "x"]).well();
    until("the first machine's stock", || manager.kv(Some(&first.id), &["get", "stock/cola"]).code == Some(0));
    let mut fleet = manager.lines(&["kv", "subscribe", "--all", "--prefix", "stock/"]);
    let put = fleet.next();
    assert_eq!(
        (kv::words(&put), &put["machine"]),
        ("put stock/cola=1 by machine".to_owned(), &first.id.clone().into())
    );
    let of_it = fleet.next();
    assert_eq!((&of_it["type"], &of_it["machine"]), (&"caught_up".into(), &first.id.clone().into()));
    assert_eq!(fleet.next(), json!({"type": "caught_up"}));
    let second = world.machine("second");
    kv::claim(&second, &manager);
    second.kv(None, &["set", "stock/tea", "2"]).well();
    let put = fleet.until_event("put stock/tea=2 by machine");
    assert_eq!(put["machine"], *second.id);
    first.kv(None, &["set", "stock/cola", "0"]).well();
    assert_eq!(fleet.until_event("put stock/cola=0 by machine")["machine"], *first.id);
    assert_eq!(manager.run(&["machines"]).objects().len(), 2);
    manager.run(&["release", &first.id[..10]]).well();
    assert_eq!(fleet.next(), json!({"type": "gone", "machine": first.id}));
    manager.stop();
    assert_eq!(fleet.next_of("ended")["reason"], "shut_down");
}

/// A tool that is killed, or does not read, holds nothing up and leaves nothing behind.
#[test]
fn a_client_that_is_killed_frees_its_subscription() {
    let world = World::new();
    let (machine, manager) = world.pair();
    let id = machine.id.clone();
    let streams = |node: &crate::common::Node| node.status()["streams"].as_u64().unwrap();
    let mut clients = vec![
        manager.kv_lines(Some(&id), &["watch", "a"]),
        manager.kv_lines(Some(&id), &["subscribe"]),
        manager.kv_lines(None, &["subscribe", "--all"]),
    ];
    for client in &mut clients {
        assert_eq!(client.event(), "caught_up");
    }
    assert_eq!(streams(&manager), 3);
    for (left, mut client) in [2, 1, 0].into_iter().zip(clients) {
        signal("KILL", client.child.id());
        client.child.wait().unwrap();
        until("the subscription to be freed", || streams(&manager) == left);
    }
    assert_eq!(streams(&machine), 0);
    machine.kv(None, &["set", "a", "1"]).well();
}

/// Who does not read gets the newest value later, not all of them: nothing gathers in between.
#[test]
fn a_client_that_does_not_read_skips_what_was_replaced() {
    const WRITES: usize = 60;
    let world = World::new();
    let machine = world.machine("machine");
    let mut slow = machine.kv_lines(None, &["watch", "big"]);
    assert_eq!(slow.event(), "caught_up");
    signal("STOP", slow.child.id());
    let file = world.dir("value");
    for number in 0..WRITES {
        // 256 KiB, and more of them than any buffer on the way holds.
        fs::write(&file, format!("{number} {}", "x".repeat(256 * 1024))).unwrap();
        machine.kv(None, &["set", "big", "--file", file.to_str().unwrap()]).well();
    }
    signal("CONT", slow.child.id());
    let mut seen = Vec::new();
    while seen.last() != Some(&(WRITES - 1)) {
        let line = slow.next_of("put");
        seen.push(line["value"].as_str().unwrap().split(' ').next().unwrap().parse().unwrap());
    }
    assert!(seen.is_sorted(), "{seen:?}");
    assert!(seen.len() < WRITES / 2, "{} of {WRITES} were kept for it", seen.len());
}

/// One table has what a node has counted and how long it took, for states and for keys.
#[test]
fn metrics_count_states_and_keys() {
    let world = World::new();
    let (machine, manager) = world.pair();
    kv::online(&machine, &manager);
    machine.run(&["give", "/sales", "one", "two", "--lake", "log"]).well();
    for (key, value) in [("a", "1"), ("b", "2")] {
        manager.kv(Some(&machine.id), &["set", key, value]).well();
    }
    manager.kv(Some(&machine.id), &["del", "a"]).well();
    machine.kv(None, &["set", "c", "3"]).well();
    let metrics = |node: &crate::common::Node| -> BTreeMap<String, Value> {
        let rows = run(node.command(&["metrics"]), b"").objects();
        rows.into_iter().map(|row| (row["name"].as_str().unwrap().to_owned(), row)).collect()
    };
    let counts = |node: &crate::common::Node, names: [&str; 4]| {
        let seen = metrics(node);
        names.map(|name| seen[name]["count"].as_u64().unwrap())
    };
    let keys = ["keys_put", "keys_deleted", "entries_received", "documents_online_now"];
    until("both sides to have all", || {
        counts(&manager, keys) == [2, 1, 1, 1] && counts(&machine, keys) == [1, 0, 3, 1]
    });
    assert_eq!(counts(&machine, ["waves_given", "give_time", "key_write_time", "violations"]), [2, 1, 1, 0]);
    let seen = metrics(&manager);
    let time = |name: &str, field: &str| seen[name][field].as_u64().unwrap();
    for name in ["key_write_time", "key_commit_time"] {
        assert!(time(name, "count") >= 3, "{seen:?}");
        let steps = ["median_ns", "p99_ns", "longest_ns"].map(|field| time(name, field));
        assert!(steps.is_sorted() && steps[0] > 0 && time(name, "total_ns") >= steps[0], "{seen:?}");
    }
    assert!(seen["bytes_sent"]["count"].as_u64() > Some(100), "documents count too: {seen:?}");
    let mut for_people = tool();
    for_people.arg("--data").arg(&machine.dir).arg("metrics");
    let table = run(for_people, b"").well().stdout.clone();
    assert_eq!(table.lines().count(), metrics(&machine).len());
    let line = table.lines().find(|line| line.trim_start().starts_with("waves_given ")).unwrap();
    assert!(line.contains(" 2 ") && line.ends_with("durable."), "{line}");
}

/// How a pair stands is told on both sides, by `status`, by `machines` and by the doctor.
#[test]
fn both_sides_tell_how_the_other_stands() {
    let world = World::new();
    let (machine, manager) = world.pair();
    kv::online(&machine, &manager);
    let of_machine = machine.status()["manager"].clone();
    assert_eq!(of_machine["manager"], *manager.id);
    assert_eq!(of_machine["duplicate"], false);
    assert!(of_machine["skew_ms"].as_i64().unwrap().abs() < 60_000, "{of_machine}");
    assert!(of_machine["offline_since_ms"].is_null() && of_machine["current_at_ms"].is_null());
    manager.kv(Some(&machine.id), &["set", "a", "1"]).well();
    let findings = |node: &crate::common::Node| -> BTreeMap<String, (String, String)> {
        let found = run(node.command(&["doctor"]), b"").objects();
        let text = |of: &Value, field: &str| of[field].as_str().unwrap().to_owned();
        found.iter().map(|one| (text(one, "check"), (text(one, "state"), text(one, "said")))).collect()
    };
    let found = findings(&manager);
    assert_eq!(found["pairing"].0, "ok", "{found:?}");
    assert!(found["pairing"].1.starts_with(&format!("{}  online, current", &machine.id[..10])), "{found:?}");
    let said = format!("1 of 100000 keys of {} were ever used", &machine.id[..10]);
    assert_eq!(found["keys"], ("ok".to_owned(), said));

    let id = machine.id.clone();
    machine.stop();
    until("the manager to notice", || manager.machine_status(&id)["link"] == "offline");
    let away = manager.run(&["machines"]).only();
    assert_eq!((&away["machine"], &away["current"]), (&id.clone().into(), &false.into()));
    assert!(away["offline_since_ms"].as_u64() > Some(1_600_000_000_000), "{away}");
    assert!(away["current_at_ms"].as_u64() > Some(1_600_000_000_000), "{away}");
    let found = findings(&manager);
    assert_eq!(found["pairing"].0, "warn");
    assert!(found["pairing"].1.contains("offline for "), "{found:?}");
    // Its absence ends nothing: what is written is there, and arrives when it is back.
    manager.kv(Some(&id[..8]), &["set", "a", "2"]).well();
    let machine = world.up("machine");
    machine.kv_lines(None, &["watch", "a"]).until_event("put a=2 by manager");
    let alone = world.manager("alone");
    assert_eq!(findings(&alone)["pairing"].0, "warn");
    assert_eq!(alone.run(&["machines"]).well().stdout, "");
}

/// The tool's own part: what is wrong on the command line ends with 2.
#[test]
fn wrong_usage_of_keys_ends_with_2() {
    let wrong: [(&[&str], &str); 7] = [
        (&["kv"], "Usage"),
        (&["kv", "set", "key"], "VALUE"),
        (&["kv", "get", "0g", "--hex"], "not hexadecimal"),
        (&["kv", "set", "00", "f", "--hex"], "not hexadecimal"),
        (&["kv", "ls", "--space", "a/b"], "a/b"),
        (&["claim", "someone"], "neither a ticket nor a peer's id"),
        (&["demo", "--machines", "0"], "0"),
    ];
    for (arguments, said) in wrong {
        let mut command = tool();
        command.args(arguments).env("GROUNDSWELL_DATA", "missing");
        let ran = run(command, b"");
        assert_eq!(ran.code, Some(2), "{arguments:?}: {ran:?}");
        assert!(ran.stderr.contains(said), "{arguments:?}: {}", ran.stderr);
        assert_eq!(ran.stdout, "");
    }
}
