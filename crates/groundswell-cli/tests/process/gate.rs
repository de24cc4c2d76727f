//! Text of a peer passes one gate before people see it: on the terminal, in errors and in the log it is text and nothing
//! else, and with `--json` it is exact.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers outside of test functions

use std::{fs, time::Instant};

use crate::common::{Node, PATIENCE, Ran, World, run, tool, until};
use crate::raw;
use groundswell::is_hidden;
use iroh::{Endpoint, endpoint::presets};

/// A line that would clear the screen, set its title, forge a line, and turn around what follows it.
const HOSTILE: &str = "well\u{1b}]0;owned\u{7}\u{1b}[2J\rover\n-- caught up at 99\t\u{9b}2J\u{7f}\u{202e}drow\u{2066}\u{200b}\u{feff}\u{ad}\u{2028}x\u{e0041}";

/// The same as people see it.
const SEEN: &str = r"well\u{1b}]0;owned\u{7}\u{1b}[2J\rover\n-- caught up at 99\t\u{9b}2J\u{7f}\u{202e}drow\u{2066}\u{200b}\u{feff}\u{ad}\u{2028}x\u{e0041}";

/// Runs a command as people do, and looks whether all that it says is seen.
#[track_caller]
fn for_people(node: &Node, arguments: &[&str]) -> Ran {
    let mut command = tool();
    command.arg("--data").arg(&node.dir).args(arguments);
    let ran = run(command, b"");
    for said in [&ran.stdout, &ran.stderr] {
        assert!(!said.replace('\n', "").contains(is_hidden), "{arguments:?}: {said:?}");
        assert!(said.lines().all(|line| !line.starts_with("-- caught up at 99")), "{arguments:?}: {said}");
    }
    ran
}

#[test]
fn waves_rocks_and_paths_of_a_peer_do_not_steer_the_terminal() {
    let world = World::new();
    let (publisher, follower) = (world.up("publisher"), world.up("follower"));
    publisher.run(&["give", "/log", HOSTILE, "--lake", "log"]).well();
    // JSON escapes what is below a space; the rest of it stands there as it is.
    let patch = serde_json::json!([{"op": "add", "path": "", "value": {HOSTILE: HOSTILE}}]).to_string();
    publisher.run(&["give", "/doc\u{202e}\u{200b}", &patch, "--lake", "json"]).well();
    for (path, lake) in [("/log", "log"), ("/doc\u{202e}\u{200b}", "json")] {
        let arguments = ["surf", &publisher.ticket, path, "--lake", lake, "--once"];
        for_people(&follower, &arguments).well();
        for_people(&follower, &["read", path]).well();
    }
    for_people(&follower, &["status"]).well();
    for_people(&follower, &["doctor"]);
    let read = for_people(&follower, &["read", "/log"]);
    assert!(read.stdout.lines().any(|line| line == format!("  {SEEN}")), "{read:?}");
    assert_eq!(follower.read("/log")["rock"], serde_json::json!([HOSTILE]), "JSON is exact");
    // What a person has pasted is repeated in an error, and passes the same gate.
    for arguments in [&["read", HOSTILE][..], &["surf", HOSTILE, "/a", "--lake", "log"], &["kv", "get", "a", HOSTILE]] {
        assert_eq!(for_people(&follower, arguments).code, Some(2), "{arguments:?}");
    }
}

#[test]
fn keys_and_values_do_not_steer_the_terminal() {
    let world = World::new();
    let (machine, manager) = world.pair();
    machine.kv(None, &["set", HOSTILE, HOSTILE]).well();
    let at_manager = ["--machine", &*machine.id];
    until("the entry", || manager.kv(Some(&machine.id), &["get", HOSTILE]).code == Some(0));
    for command in [&["kv", "ls"][..], &["kv", "get", HOSTILE], &["kv", "watch", HOSTILE, "--count", "1"]] {
        for_people(&machine, command).well();
        for_people(&manager, &[command, &at_manager].concat()).well();
    }
    for_people(&machine, &["kv", "set", HOSTILE, HOSTILE]).well();
    for_people(&machine, &["kv", "del", HOSTILE]).well();
    for_people(&machine, &["kv", "get", HOSTILE]);
    let entry = manager.kv(Some(&machine.id), &["set", HOSTILE, HOSTILE]).only();
    assert_eq!((&entry["key"], &entry["value"]), (&HOSTILE.into(), &HOSTILE.into()));
}

/// A stranger chooses why it closes a connection, and that is logged.
#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_forges_no_line_of_the_log() {
    let world = World::new();
    let mut verbose = tool();
    verbose.env("GROUNDSWELL_LOG", "groundswell=debug");
    let node = Node::up_as(&world.dir("a"), verbose);
    let stranger = raw::endpoint().await;
    let log = || fs::read_to_string(node.dir.with_extension("log")).unwrap();
    let begun = Instant::now();
    // One line per second tells of all strangers, so the line with the reason may be one that is left out.
    while !log().contains("FAKE LOG LINE") {
        assert!(begun.elapsed() < PATIENCE, "the reason is never in the log");
        let connection = stranger.connect(raw::address(&node.ticket.parse().unwrap()), raw::ALPN).await.unwrap();
        raw::hello(&connection).await;
        until("the greeting", || node.status()["peers"].as_array().is_some_and(|peers| !peers.is_empty()));
        connection.close(7_u32.into(), format!("{HOSTILE}\nFAKE LOG LINE").as_bytes());
        until("the end", || node.status()["peers"].as_array().is_some_and(Vec::is_empty));
    }
    let log = log();
    assert!(log.contains(SEEN), "{log}");
    assert!(!log.replace('\n', "").contains(is_hidden), "{log:?}");
    assert!(log.lines().all(|line| !line.starts_with("FAKE") && !line.starts_with("-- caught")), "{log}");
}

/// Whoever has the address of a ticket says why there is no claim.
#[tokio::test(flavor = "multi_thread")]
async fn the_reason_why_a_claim_is_closed_does_not_steer_the_terminal() {
    let world = World::new();
    let manager = world.manager("manager");
    let machine = Endpoint::builder(presets::Minimal).alpns(vec![raw::ALPN.to_vec()]).clear_ip_transports();
    let machine = machine.bind_addr("127.0.0.1:0").unwrap().bind().await.unwrap();
    let ticket = raw::ticket(&machine).to_string();
    let closing = tokio::spawn(async move {
        while let Some(incoming) = machine.accept().await {
            if let Ok(connection) = incoming.await {
                connection.close(99_u32.into(), HOSTILE.as_bytes());
                connection.closed().await;
            }
        }
    });
    let ran = tokio::task::spawn_blocking(move || {
        let ran = for_people(&manager, &["claim", &ticket, "--yes"]);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        drop(world);
        ran
    });
    let ran = ran.await.unwrap();
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    closing.abort();
}
