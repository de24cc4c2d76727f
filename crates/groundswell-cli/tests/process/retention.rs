//! What is kept of a path, and its copies, as real processes.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers outside of test functions

use crate::common::{Node, World, until};
use serde_json::{Value, json};

/// Numbered lines, as standard input.
fn lines(numbers: std::ops::RangeInclusive<u64>) -> String {
    numbers.map(|number| format!("{number}\n")).collect()
}

fn give(node: &Node, path: &str, numbers: std::ops::RangeInclusive<u64>) {
    let given = node.run_with(&["give", path, "-", "--lake", "log"], lines(numbers.clone()).as_bytes());
    assert_eq!(given.only()["aeon"], *numbers.end());
}

/// How many waves and rocks are kept.
fn kept(node: &Node, which: &str, path: &str) -> (u64, u64) {
    let status = node.status_of(which, path);
    (status["kept_waves"].as_u64().unwrap(), status["kept_rocks"].as_u64().unwrap())
}

/// Follows anew, and returns the updates up to the catch-up.
fn follow(follower: &Node, publisher: &Node, path: &str) -> Vec<Value> {
    let mut surfing = follower.surf(&[&publisher.ticket, path, "--lake", "log"]);
    let mut updates = Vec::new();
    loop {
        let line = surfing.next();
        match line["type"].as_str().unwrap() {
            "update" => updates.push(line),
            "caught_up" => return updates,
            _ => {}
        }
    }
}

/// "`rule(path, Rule)` prunes at once." And: "Whatever the rule, at least one rock or the whole history is
/// always kept, so that any subscriber can come up to date."
#[test]
fn a_rule_prunes_at_once_and_newcomers_get_up_to_date() {
    let world = World::new();
    let (publisher, follower) = (world.up("publisher"), world.up("follower"));
    give(&publisher, "/a", 1..=100);
    assert_eq!(publisher.run(&["rule", "/a"]).only(), json!({"path": "/a", "frequency": "auto", "horizon": 1000}));
    assert_eq!(kept(&publisher, "publications", "/a").0, 100);
    // What is not named stays as it is.
    let rule = |arguments: &[&str]| {
        let mut all = vec!["rule", "/a"];
        all.extend(arguments);
        let printed = publisher.run(&all).only();
        (printed["frequency"].clone(), printed["horizon"].clone())
    };
    assert_eq!(rule(&["--frequency", "10"]), (json!(10), json!(1000)));
    assert_eq!(rule(&["--horizon", "5"]), (json!(10), json!(5)));
    let (waves, rocks) = kept(&publisher, "publications", "/a");
    assert!(waves <= 10 && rocks == 1, "pruned at once, to the newest rock: {waves} waves, {rocks} rocks");
    let whole: Value = serde_json::from_str(&publisher.rock("/a")).unwrap();
    assert_eq!(whole.as_array().unwrap().len(), 100);
    for (arguments, given) in [
        (&["--frequency", "never", "--horizon", "0"][..], 1),
        (&["--horizon", "none"], 30),
        (&["--frequency", "1"], 30),
        (&["--frequency", "auto", "--horizon", "20"], 30),
    ] {
        rule(arguments);
        let at = publisher.aeon("/a").unwrap();
        give(&publisher, "/a", at + 1..=at + given);
        follow(&follower, &publisher, "/a");
        assert_eq!(follower.rock("/a"), publisher.rock("/a"), "a newcomer after {arguments:?}");
        follower.run(&["quit", &publisher.id, "/a"]).well();
    }
    // It survives a restart.
    assert_eq!(rule(&["--frequency", "7", "--horizon", "none"]), (json!(7), json!(null)));
    publisher.stop();
    let publisher = world.up("publisher");
    assert_eq!(publisher.run(&["rule", "/a"]).only(), json!({"path": "/a", "frequency": 7, "horizon": null}));
}

/// "Whatever the rule, at least one rock or the whole history is always kept": where no rock is ever made,
/// every wave is.
#[test]
fn without_any_rock_the_whole_history_is_kept() {
    let world = World::new();
    let (publisher, follower) = (world.up("publisher"), world.up("follower"));
    publisher.run(&["open", "/a", "--lake", "log"]).well();
    publisher.run(&["rule", "/a", "--frequency", "never", "--horizon", "3"]).well();
    give(&publisher, "/a", 1..=50);
    assert_eq!(kept(&publisher, "publications", "/a"), (50, 1), "the default rock, and all since");
    let updates = follow(&follower, &publisher, "/a");
    assert_eq!(updates.last().unwrap()["aeon"], 50);
    assert_eq!(follower.rock("/a"), publisher.rock("/a"));
}

/// "`wipe(path)` makes a rock now and drops the rest."
#[test]
fn a_wipe_leaves_the_state_alone_and_any_reader_gets_it() {
    let world = World::new();
    let (publisher, follower, newcomer) = (world.up("publisher"), world.up("follower"), world.up("newcomer"));
    give(&publisher, "/a", 1..=20);
    assert_eq!(follow(&follower, &publisher, "/a").last().unwrap()["aeon"], 20);
    // The follower is away while this happens, so that its waves are gone when it comes back.
    follower.stop();
    give(&publisher, "/a", 21..=30);
    assert_eq!(publisher.run(&["wipe", "/a"]).only(), json!({"wiped": true}));
    assert_eq!(kept(&publisher, "publications", "/a"), (0, 1));
    assert_eq!(publisher.run(&["rule", "/a"]).only()["horizon"], 1000, "the rule stays");
    let updates = follow(&newcomer, &publisher, "/a");
    assert_eq!(updates.len(), 1, "{updates:?}");
    assert_eq!((&updates[0]["aeon"], updates[0].get("wave")), (&json!(30), None));
    let follower = world.up("follower");
    until("the follower to have all", || follower.aeon("/a") == Some(30));
    for node in [&follower, &newcomer] {
        assert_eq!(node.rock("/a"), publisher.rock("/a"));
    }
    publisher.run(&["wipe", "/a"]).well();
    give(&publisher, "/a", 31..=31);
    until("both to have the next", || follower.aeon("/a") == Some(31) && newcomer.aeon("/a") == Some(31));
}

/// "A replica has a rule of its own, which its reader may set."
#[test]
fn a_replica_has_a_rule_of_its_own() {
    let world = World::new();
    let (publisher, follower) = (world.up("publisher"), world.up("follower"));
    give(&publisher, "/a", 1..=1);
    follow(&follower, &publisher, "/a");
    give(&publisher, "/a", 2..=60);
    until("the follower to have all", || follower.aeon("/a") == Some(60));
    let of_replica = ["rule", "/a", "--source", &publisher.id];
    assert_eq!(follower.run(&of_replica).only(), json!({"path": "/a", "frequency": "auto", "horizon": 1000}));
    assert!(kept(&follower, "replicas", "/a").0 >= 59);
    let mut change = of_replica.to_vec();
    change.extend(["--frequency", "4", "--horizon", "0"]);
    assert_eq!(follower.run(&change).only(), json!({"path": "/a", "frequency": 4, "horizon": 0}));
    assert!(kept(&follower, "replicas", "/a").0 <= 4);
    assert_eq!(publisher.run(&["rule", "/a"]).only()["frequency"], "auto", "the publisher's is its own");
    assert!(kept(&publisher, "publications", "/a").0 >= 59);
    // It holds for what comes, and over a restart.
    give(&publisher, "/a", 61..=90);
    until("the follower to have all", || follower.aeon("/a") == Some(90));
    // Waves that are no longer needed go some at a time, rocks at once.
    assert_eq!(kept(&follower, "replicas", "/a").1, 1);
    follower.stop();
    let follower = world.up("follower");
    assert_eq!(follower.run(&of_replica).only(), json!({"path": "/a", "frequency": 4, "horizon": 0}));
    assert_eq!(follower.run(&["wipe", "/a", "--source", &publisher.id]).only(), json!({"wiped": true}));
    assert_eq!(kept(&follower, "replicas", "/a"), (0, 1));
    assert_eq!(follower.rock("/a"), publisher.rock("/a"));
    // Of what is not followed there is none.
    let none = follower.run(&["wipe", "/b", "--source", &publisher.id]).error();
    assert!(none.contains("/b of agent main on") && none.contains("is not followed here"), "{none}");
    assert!(follower.run(&["rule", "/a"]).error().contains("no state on /a"), "it publishes nothing");
}

/// "`fork(from, to)` starts an own publication at another's path's state and history. The target must be
/// empty. A fork keeps rule and access."
#[test]
fn a_fork_begins_with_state_history_rule_and_access() {
    let world = World::new();
    let (publisher, friend, stranger) = (world.up("publisher"), world.up("friend"), world.up("stranger"));
    give(&publisher, "/a", 1..=20);
    publisher.run(&["rule", "/a", "--frequency", "6", "--horizon", "9"]).well();
    publisher.run(&["secret", "/a"]).well();
    publisher.run(&["allow", "/a", &friend.id]).well();
    assert_eq!(publisher.run(&["fork", "/a", "/b"]).only(), json!({"aeon": 20}));
    let (a, b) = (publisher.read("/a"), publisher.read("/b"));
    for field in ["aeon", "rock", "access"] {
        assert_eq!(a[field], b[field], "{field}");
    }
    assert_eq!(kept(&publisher, "publications", "/a"), kept(&publisher, "publications", "/b"));
    assert_eq!(publisher.run(&["rule", "/b"]).only(), json!({"path": "/b", "frequency": 6, "horizon": 9}));
    // They go apart from there, and each has its own readers.
    give(&publisher, "/b", 21..=22);
    publisher.run(&["give", "/a", "other", "--lake", "log"]).well();
    assert_eq!((publisher.aeon("/a"), publisher.aeon("/b")), (Some(21), Some(22)));
    follow(&friend, &publisher, "/b");
    assert_eq!(friend.rock("/b"), publisher.rock("/b"));
    let surf = ["surf", &publisher.ticket, "/b", "--lake", "log", "--no-wait"];
    assert!(stranger.run(&surf).error().contains("not available"));
    // The target has to be empty; one that was killed is, of whatever lake it was.
    let taken = publisher.run(&["fork", "/a", "/b"]).error();
    assert!(taken.starts_with("/b is published already"), "{taken}");
    publisher.run(&["give", "/sum", "1", "--lake", "sum"]).well();
    assert!(publisher.run(&["fork", "/a", "/sum"]).error().starts_with("/sum is published already"));
    publisher.run(&["kill", "/sum"]).well();
    publisher.run(&["public", "/sum"]).well();
    assert_eq!(publisher.run(&["fork", "/a", "/sum"]).only(), json!({"aeon": 21}));
    assert_eq!(publisher.read("/sum")["access"], json!([friend.id]), "a fork of a restricted path is one");
    assert!(publisher.run(&["fork", "/none", "/c"]).error().contains("no state on /none"));
    // What failed left nothing in anyone's way.
    publisher.run(&["give", "/c", "1", "--lake", "sum"]).well();
    // Both are there after a restart.
    let (a, b) = (publisher.rock("/a"), publisher.rock("/b"));
    publisher.stop();
    let publisher = world.up("publisher");
    assert_eq!((publisher.rock("/a"), publisher.rock("/b")), (a, b));
}

/// "`copy(source, to)` republishes a replica as one's own. A copy is secret until it is made public, so that
/// copying leaks nothing."
#[test]
fn a_copy_of_a_live_and_of_a_stale_replica_is_secret_until_it_is_made_public() {
    let world = World::new();
    let (publisher, copier, reader) = (world.up("publisher"), world.up("copier"), world.up("reader"));
    give(&publisher, "/a", 1..=20);
    let none = copier.run(&["copy", &publisher.ticket, "/a", "/live"]).error();
    assert!(none.contains("is not followed here"), "{none}");
    follow(&copier, &publisher, "/a");
    assert_eq!(copier.run(&["copy", &publisher.id, "/a", "/live"]).only(), json!({"aeon": 20}));
    let copy = |path: &str| copier.run(&["read", path, "--source", &copier.id]).only();
    assert_eq!((&copy("/live")["access"], &copy("/live")["source"]), (&json!("secret"), &json!(null)));
    assert_eq!(copy("/live")["rock"], publisher.read("/a")["rock"]);
    let available = |path: &str| {
        let ran = reader.run(&["surf", &copier.ticket, path, "--lake", "log", "--no-wait", "--count", "1"]);
        ran.code == Some(0)
    };
    assert!(!available("/live"), "a copy of what is public is secret all the same");
    // What the source gets does not reach the copy, nor the other way round.
    give(&publisher, "/a", 21..=21);
    until("the replica to have it", || copier.aeon("/a") == Some(21));
    copier.run(&["give", "/live", "mine", "--lake", "log"]).well();
    assert_eq!(copy("/live")["rock"].as_array().unwrap().last().unwrap(), "mine");
    // A stale replica, of a source that is out of reach.
    let id = publisher.id.clone();
    publisher.stop();
    until("the replica to be stale", || copier.read("/a")["stale"] == true);
    assert_eq!(copier.run(&["copy", &id, "/a", "/stale", "--as", "other"]).only(), json!({"aeon": 21}));
    assert_eq!(copy("/stale")["agent"], "other");
    assert_eq!(copy("/stale")["rock"], copier.read("/a")["rock"]);
    assert!(copier.run(&["copy", &id, "/a", "/live"]).error().starts_with("/live is published already"));
    assert!(!available("/live"));
    copier.run(&["public", "/live"]).well();
    copier.run(&["allow", "/stale", &reader.id, "--agent", "other"]).well();
    assert!(available("/live"));
    reader.run(&["surf", &copier.id, "/stale", "--lake", "log", "--agent", "other", "--count", "1"]).well();
    until("the reader to have both", || {
        let states = reader.run(&["read"]).objects();
        states.len() == 2 && states.iter().all(|state| state["aeon"] == 21)
    });
}
