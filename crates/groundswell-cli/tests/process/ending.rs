//! The end of a path, and of following one, as real processes.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers outside of test functions

use std::io::Write;

use crate::common::{Giving, World, until, wait};
use serde_json::{Value, json};

/// "`kill(path)` tombstones a path and drops its history: live readers are told, their replicas stay
/// readable, and stale."
#[test]
fn a_killed_path_is_gone_and_its_replicas_stay_readable_and_stale() {
    let world = World::new();
    let (publisher, follower) = (world.up("publisher"), world.up("follower"));
    publisher.run(&["give", "/a", "1", "2", "3", "--lake", "log"]).well();
    let mut surfing = follower.surf(&[&publisher.ticket, "/a", "--lake", "log"]);
    let mut own = publisher.surf(&[&publisher.id, "/a", "--lake", "log"]);
    surfing.next_of("caught_up");
    own.next_of("caught_up");
    assert_eq!(publisher.run(&["kill", "/a"]).only(), json!({"killed": true}));
    assert_eq!(surfing.next(), json!({"type": "killed"}));
    assert_eq!(own.next(), json!({"type": "killed"}), "its own readers are told too");
    // It is as if it had never been, but for the word that it has ended.
    assert!(publisher.run(&["read", "/a"]).error().contains("no state on /a"));
    assert_eq!(publisher.run(&["read"]).objects(), Vec::<Value>::new());
    let ended = publisher.status_of("publications", "/a");
    assert_eq!(
        (&ended["freshness"], &ended["aeon"], &ended["kept_waves"]),
        (&json!("killed"), &json!(null), &json!(0))
    );
    let replica = follower.read("/a");
    assert_eq!((&replica["rock"], &replica["stale"]), (&json!(["1", "2", "3"]), &json!(true)));
    let status = follower.status_of("replicas", "/a");
    assert_eq!(status["freshness"], "killed");
    assert!(status["current_at_ms"].as_u64().is_some(), "when it was last known to be current: {status}");
    // Again is no error, and of what never was there is one.
    publisher.run(&["kill", "/a"]).well();
    assert!(publisher.run(&["kill", "/b"]).error().contains("no state on /b"));
    for command in [&["rule", "/a"][..], &["wipe", "/a"], &["fork", "/a", "/c"]] {
        assert!(publisher.run(command).error().contains("no state on /a"), "{command:?}");
    }
}

/// "Giving again starts from the default rock at the next aeon, and wanted subscriptions resume."
#[test]
fn giving_again_starts_at_the_next_aeon_and_subscriptions_resume() {
    let world = World::new();
    let (publisher, follower) = (world.up("publisher"), world.up("follower"));
    publisher.run(&["give", "/a", "1", "2", "3", "--lake", "log"]).well();
    publisher.run(&["rule", "/a", "--horizon", "7"]).well();
    let mut surfing = follower.surf(&[&publisher.ticket, "/a", "--lake", "log"]);
    surfing.next_of("caught_up");
    publisher.run(&["kill", "/a"]).well();
    surfing.next_of("killed");
    assert_eq!(publisher.run(&["open", "/a", "--lake", "log"]).only(), json!({"aeon": 4}));
    let reopened = surfing.next_of("update");
    assert_eq!((&reopened["aeon"], &reopened["rock"]), (&json!(4), &json!([])));
    surfing.next_of("caught_up");
    assert_eq!(publisher.run(&["give", "/a", "new", "--lake", "log"]).only(), json!({"aeon": 5}));
    assert_eq!(surfing.until_aeon(5)["wave"], "new");
    assert_eq!(follower.read("/a")["stale"], false);
    // With the rule that it had, and at once if the first thing is a wave.
    assert_eq!(publisher.run(&["rule", "/a"]).only()["horizon"], 7);
    publisher.run(&["kill", "/a"]).well();
    surfing.next_of("killed");
    assert_eq!(publisher.run(&["give", "/a", "newer", "--lake", "log"]).only(), json!({"aeon": 7}));
    surfing.until(|line| line["aeon"] == 7);
    assert_eq!(follower.rock("/a"), r#"["newer"]"#);
}

/// "`kill` … giving again starts from the default rock": of whatever lake is given then.
#[test]
fn a_killed_path_is_free_for_another_lake() {
    let world = World::new();
    let (publisher, follower) = (world.up("publisher"), world.up("follower"));
    publisher.run(&["give", "/a", "x", "--lake", "log"]).well();
    let mut surfing = follower.surf(&[&publisher.ticket, "/a", "--lake", "log"]);
    surfing.next_of("caught_up");
    assert!(publisher.run(&["give", "/a", "5", "--lake", "sum"]).error().contains("/a is a log"));
    publisher.run(&["kill", "/a"]).well();
    surfing.next_of("killed");
    assert_eq!(publisher.run(&["give", "/a", "5", "--lake", "sum"]).only(), json!({"aeon": 3}));
    assert_eq!(publisher.rock("/a"), "5");
    // Who follows the log is told what is wrong, keeps what there was, and may follow the sum instead.
    let refused = surfing.until(|line| line["state"] == "refused");
    assert!(refused["detail"].as_str().unwrap().contains("sum"), "{refused}");
    assert_eq!(follower.rock("/a"), r#"["x"]"#);
    drop(surfing);
    follower.run(&["quit", &publisher.id, "/a"]).well();
    follower.run(&["surf", &publisher.id, "/a", "--lake", "sum", "--count", "1"]).well();
    assert_eq!(follower.rock("/a"), "5");
    // After a restart it is what it became.
    publisher.run(&["kill", "/a"]).well();
    publisher.stop();
    let publisher = world.up("publisher");
    assert_eq!(publisher.run(&["give", "/a", "{}", "--lake", "json"]).code, Some(1), "no patch");
    assert_eq!(publisher.run(&["give", "/a", "y", "--lake", "log"]).only(), json!({"aeon": 5}));
}

/// A tombstone survives a restart: "Publications, replicas, rules, access and subscriptions survive a
/// restart; subscriptions resume by themselves."
#[test]
fn a_tombstone_survives_the_restart_of_both_sides() {
    let world = World::new();
    let (mut publisher, mut follower) = (world.up("publisher"), world.up("follower"));
    publisher.run(&["give", "/a", "1", "2", "3", "--lake", "log"]).well();
    publisher.run(&["rule", "/a", "--frequency", "2"]).well();
    publisher.run(&["secret", "/a"]).well();
    publisher.run(&["allow", "/a", &follower.id]).well();
    let mut surfing = follower.surf(&[&publisher.ticket, "/a", "--lake", "log"]);
    surfing.next_of("caught_up");
    publisher.run(&["kill", "/a"]).well();
    surfing.next_of("killed");
    // The publisher.
    publisher.kill();
    let publisher = world.up("publisher");
    assert_eq!(publisher.status_of("publications", "/a")["freshness"], "killed");
    assert!(publisher.run(&["read", "/a"]).error().contains("no state"));
    surfing.next_of("killed");
    // The subscriber.
    drop(surfing);
    follower.kill();
    let follower = world.up("follower");
    until("the follower to know", || follower.status_of("replicas", "/a")["freshness"] == "killed");
    let replica = follower.read("/a");
    assert_eq!((&replica["rock"], &replica["stale"]), (&json!(["1", "2", "3"]), &json!(true)));
    // Both go on from there: the next aeon, with the rule and the access that there were.
    assert_eq!(publisher.run(&["give", "/a", "new", "--lake", "log"]).only(), json!({"aeon": 5}));
    until("the follower to have it", || follower.aeon("/a") == Some(5));
    assert_eq!(follower.rock("/a"), r#"["new"]"#);
    assert_eq!(publisher.read("/a")["access"], json!([follower.id]));
    assert_eq!(publisher.run(&["rule", "/a"]).only()["frequency"], 2);
    // And it is no longer ended after the next restart.
    publisher.stop();
    let publisher = world.up("publisher");
    assert_eq!(publisher.status_of("publications", "/a")["freshness"], "live");
    assert_eq!(publisher.rock("/a"), r#"["new"]"#);
}

/// A command that gives to a path which is killed ends: giving again is a new decision.
#[test]
fn a_give_that_is_under_way_ends_with_the_path() {
    let world = World::new();
    let node = world.up("a");
    let mut giving = Giving::start(&node, "/a", "log");
    let give = |line: &str, giving: &mut Giving| writeln!(giving.input.as_mut().unwrap(), "{line}").unwrap();
    give("one", &mut giving);
    assert_eq!(giving.acks.next_within(crate::common::PATIENCE).unwrap(), json!({"aeon": 1}));
    let mut other = Giving::start(&node, "/b", "log");
    give("one", &mut other);
    assert_eq!(other.acks.next_within(crate::common::PATIENCE).unwrap(), json!({"aeon": 1}));
    node.run(&["kill", "/a"]).well();
    give("two", &mut giving);
    assert_eq!(wait(&mut giving.child).code(), Some(1));
    assert!(giving.acks.next_within(crate::common::PATIENCE).is_none(), "nothing more was given");
    assert_eq!(node.status_of("publications", "/a")["freshness"], "killed");
    // Others go on.
    give("two", &mut other);
    assert_eq!(other.acks.next_within(crate::common::PATIENCE).unwrap(), json!({"aeon": 2}));
    // One that begins after the kill opens the path again.
    let mut again = Giving::start(&node, "/a", "log");
    give("three", &mut again);
    assert_eq!(again.acks.next_within(crate::common::PATIENCE).unwrap(), json!({"aeon": 3}));
    assert_eq!(node.rock("/a"), r#"["three"]"#);
}

/// "`quit(source)` unsubscribes one agent; the replica goes with its last one."
#[test]
fn quitting_what_has_ended_drops_the_replica_and_its_tombstone() {
    let world = World::new();
    let (publisher, follower) = (world.up("publisher"), world.up("follower"));
    publisher.run(&["give", "/a", "x", "--lake", "log"]).well();
    let surf = [publisher.ticket.as_str(), "/a", "--lake", "log"];
    let mut surfing = follower.surf(&surf);
    surfing.next_of("caught_up");
    publisher.run(&["kill", "/a"]).well();
    surfing.next_of("killed");
    follower.run(&["quit", &publisher.id, "/a"]).well();
    assert_eq!(surfing.next_of("ended")["reason"], "quit");
    assert!(follower.run(&["read", "/a"]).error().contains("no state on /a"));
    assert_eq!(follower.run(&["status"]).only()["replicas"], json!([]));
    // Followed anew, it is a path like any other that is not there yet.
    let mut surfing = follower.surf(&surf);
    surfing.next_of("not_available");
    publisher.run(&["give", "/a", "y", "--lake", "log"]).well();
    assert_eq!(surfing.next_of("caught_up")["rock"], json!(["y"]));
}

/// "`quit(source)` unsubscribes one agent; the replica goes with its last one." The tool follows as one
/// agent; the other here is a program's, which ran on the same data directory before.
#[test]
fn a_replica_that_another_agent_wants_outlives_a_quit() {
    let world = World::new();
    let (publisher, dir) = (world.up("publisher"), world.dir("follower"));
    publisher.run(&["give", "/a", "x", "--lake", "log"]).well();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let bind = "127.0.0.1:0".parse().unwrap();
        let node = groundswell::Node::builder().data_dir(&dir).offline().bind(bind).spawn().await.unwrap();
        let peer = node.add_peer(&publisher.ticket.parse().unwrap()).await.unwrap();
        let source = groundswell::Source::new(peer, "main", "/a").unwrap();
        for agent in ["main", "other"] {
            let logs = node.agent(agent).unwrap().subscriptions::<groundswell::lakes::Log>("/a").await.unwrap();
            let mut updates = logs.surf(source.clone()).await.unwrap();
            while !matches!(updates.next().await, Some(groundswell::Event::CaughtUp { .. })) {}
        }
        node.shutdown().await.unwrap();
    });
    drop(runtime);
    let follower = world.up("follower");
    until("both agents' to be there", || follower.run(&["read", "/a"]).objects().len() == 2);
    let id = publisher.id.clone();
    publisher.stop();
    assert_eq!(follower.run(&["quit", &id, "/a"]).only(), json!({"quit": true}));
    assert_eq!(follower.rock("/a"), r#"["x"]"#, "the other agent's replica is there");
    assert_eq!(follower.status_of("replicas", "/a")["aeon"], 1);
}
