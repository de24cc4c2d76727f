//! Who may read a path, as real processes: what each reader gets, and what no other gets. How fast a
//! reader is cut off under load is in `process_revocation.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers outside of test functions

use crate::common::{Node, Surfing, World};
use serde_json::{Value, json};

/// Gives something on a public path, and waits until the follower has it: whatever the publisher had
/// sent before is then there too.
fn pass_a_message(publisher: &Node, follower: &Node, text: &str) {
    publisher.run(&["give", "/message", text, "--lake", "log"]).well();
    let mut surfing = follower.surf(&[&publisher.ticket, "/message", "--lake", "log"]);
    surfing.until(|line| {
        let last = line["rock"].as_array().and_then(|lines| lines.last());
        line["wave"] == text || last.is_some_and(|last| last == text)
    });
}

fn gone(mut surfing: Surfing) -> Vec<Value> {
    crate::common::signal("INT", surfing.child.id());
    let mut rest = Vec::new();
    loop {
        let line = surfing.next();
        if line["type"] == "ended" {
            return rest;
        }
        rest.push(line);
    }
}

/// "A path is public (the default), or has a set of allowed peers." And: "`block` on a public path is a
/// typed error instead of doing nothing."
#[test]
fn a_path_is_public_or_has_a_set_of_allowed_peers() {
    let world = World::new();
    let (publisher, follower) = (world.up("publisher"), world.up("follower"));
    let access = |command: &str, peers: &[&str]| {
        let mut arguments = vec![command, "/a"];
        arguments.extend(peers);
        publisher.run(&arguments).only()
    };
    publisher.run(&["give", "/a", "x", "--lake", "log"]).well();
    assert_eq!(publisher.read("/a")["access"], "public");
    let refused = publisher.run(&["block", "/a", &follower.id]).error();
    assert!(refused.starts_with("the path is public, so that nobody can be blocked from it"), "{refused}");
    assert_eq!(publisher.read("/a")["access"], "public");
    // Of a public path everyone is a reader already.
    assert_eq!(access("allow", &[&follower.id]), json!({"path": "/a", "access": "public"}));
    assert_eq!(access("secret", &[]), json!({"path": "/a", "access": "secret"}));
    assert_eq!(access("allow", &[&follower.ticket]), json!({"path": "/a", "access": [follower.id]}));
    let other = "ae58ff8833241ac82d6ff7611046ed67b5072d142c588d0063e942d9a75502b6";
    let mut both = [other, &follower.id];
    both.sort_unstable();
    assert_eq!(access("allow", &[other, &follower.id]), json!({"path": "/a", "access": both}));
    let status = publisher.status_of("publications", "/a");
    assert_eq!((&status["public"], &status["allowed"]), (&json!(false), &json!(both)));
    assert_eq!(publisher.read("/a")["access"], json!(both));
    assert_eq!(access("block", &[&follower.id]), json!({"path": "/a", "access": [other]}));
    assert_eq!(access("block", &[other, other])["access"], "secret");
    assert_eq!(access("public", &[])["access"], "public");
    // A replica is open to no one, and says nothing of it.
    follower.run(&["surf", &publisher.ticket, "/a", "--lake", "log", "--count", "1"]).well();
    assert!(follower.read("/a").get("access").is_none());
    // Each agent's paths are its own.
    publisher.run(&["secret", "/a", "--agent", "other"]).well();
    assert_eq!(publisher.read("/a")["access"], "public");
}

/// "`read()` always gives the map of current states with their flags, and for publications who is
/// allowed." And of the agents of the publishing node itself, none is ever kept out.
#[test]
fn the_publishing_node_itself_may_always_read() {
    let world = World::new();
    let node = world.up("a");
    node.run(&["secret", "/a"]).well();
    node.run(&["give", "/a", "x", "--lake", "log"]).well();
    let mut surfing = node.surf(&[&node.id, "/a", "--lake", "log"]);
    assert_eq!(surfing.next_of("caught_up")["rock"], json!(["x"]));
    assert_eq!(node.read("/a")["access"], "secret");
}

/// "Access may be set before the first give."
#[test]
fn access_is_set_before_the_first_give() {
    let world = World::new();
    let (publisher, friend, stranger) = (world.up("publisher"), world.up("friend"), world.up("stranger"));
    publisher.run(&["secret", "/a"]).well();
    assert_eq!(publisher.run(&["allow", "/a", &friend.id]).only()["access"], json!([friend.id]));
    assert!(publisher.run(&["read", "/a"]).error().contains("no state on /a"), "nothing is published by that");
    publisher.run(&["give", "/a", "x", "--lake", "log"]).well();
    let surf = ["surf", &publisher.ticket, "/a", "--lake", "log", "--no-wait", "--count", "1"];
    assert!(stranger.run(&surf).error().contains("/a is not available"));
    friend.run(&surf).well();
    assert_eq!(publisher.read("/a")["access"], json!([friend.id]));
}

/// "A path is public (the default, as in the prototype; a node can be built with secret as its default)."
#[test]
fn a_node_may_have_secret_as_its_default() {
    let world = World::new();
    let follower = world.up("follower");
    let publisher = world.up("publisher");
    publisher.run(&["give", "/before", "x", "--lake", "log"]).well();
    publisher.stop();
    let publisher = world.up_with("publisher", &["--secret"]);
    publisher.run(&["give", "/a", "x", "--lake", "log"]).well();
    publisher.run(&["give", "/b", "x", "--lake", "log"]).well();
    assert_eq!(publisher.read("/a")["access"], "secret");
    assert_eq!(publisher.read("/before")["access"], "public", "what was published as public stays so");
    let available = |path: &str| {
        let ran = follower.run(&["surf", &publisher.ticket, path, "--lake", "log", "--no-wait", "--count", "1"]);
        ran.code == Some(0)
    };
    assert_eq!([available("/before"), available("/a"), available("/b")], [true, false, false]);
    assert_eq!(publisher.run(&["allow", "/a", &follower.id]).only()["access"], json!([follower.id]));
    assert_eq!(publisher.run(&["public", "/b"]).only()["access"], "public");
    assert_eq!([available("/a"), available("/b")], [true, true]);
    // What was secret is so after a restart without the default too.
    publisher.run(&["give", "/c", "x", "--lake", "log"]).well();
    publisher.stop();
    let publisher = world.up("publisher");
    let access = |path: &str| publisher.read(path)["access"].clone();
    assert_eq!([access("/a"), access("/b"), access("/c")], [json!([follower.id]), json!("public"), json!("secret")]);
}

/// "A surf of a path that is unknown, killed, or not open to this peer gets one and the same answer, *not
/// available*."
#[test]
fn unknown_killed_and_secret_paths_are_not_told_apart() {
    let world = World::new();
    let (publisher, follower) = (world.up("publisher"), world.up("follower"));
    for path in ["/killed", "/secret", "/allowed"] {
        publisher.run(&["give", path, "x", "--lake", "log"]).well();
    }
    publisher.run(&["kill", "/killed"]).well();
    publisher.run(&["secret", "/secret"]).well();
    publisher.run(&["secret", "/allowed"]).well();
    publisher.run(&["allow", "/allowed", &publisher.id]).well();
    let told = |path: &str, lake: &str| {
        let surf = ["surf", &publisher.ticket, path, "--lake", lake, "--no-wait"];
        let ran = follower.run(&surf);
        assert_eq!(ran.code, Some(1));
        let connecting = json!({"type": "freshness", "state": "connecting"});
        // How far connecting had come when the stream began is all that differs from time to time.
        let lines: Vec<Value> = ran.objects().into_iter().filter(|line| *line != connecting).collect();
        (lines, ran.error().replace(path, "PATH"))
    };
    let unknown = told("/unknown", "log");
    assert_eq!(unknown.0, [json!({"type": "not_available"})]);
    for path in ["/killed", "/secret", "/allowed"] {
        assert_eq!(told(path, "log"), unknown, "{path}");
    }
    // Nor is it told which lake is there.
    assert_eq!(told("/secret", "sum"), unknown);
}

/// "It stays parked at the publisher until that changes; then it starts by itself. So the order in which
/// programs start does not matter, and nothing polls."
#[test]
fn parked_surfs_start_by_themselves_when_they_may() {
    let world = World::new();
    let (publisher, friend, stranger) = (world.up("publisher"), world.up("friend"), world.up("stranger"));
    publisher.run(&["secret", "/a"]).well();
    publisher.run(&["give", "/a", "x", "--lake", "log"]).well();
    let surf = [publisher.ticket.as_str(), "/a", "--lake", "log"];
    let (mut friends, mut strangers) = (friend.surf(&surf), stranger.surf(&surf));
    friends.next_of("not_available");
    strangers.next_of("not_available");
    publisher.run(&["allow", "/a", &friend.id]).well();
    assert_eq!(friends.next_of("caught_up")["rock"], json!(["x"]));
    publisher.run(&["give", "/a", "y", "--lake", "log"]).well();
    assert_eq!(friends.until_aeon(2)["wave"], "y");
    pass_a_message(&publisher, &stranger, "one");
    assert!(stranger.read("/a")["rock"].is_null(), "a stranger has nothing");
    publisher.run(&["public", "/a"]).well();
    // The first thing that it is told since then.
    let first = strangers.next();
    assert_ne!(first["type"], "not_available", "{first}");
    let caught_up = if first["type"] == "caught_up" { first } else { strangers.next_of("caught_up") };
    assert_eq!(caught_up["rock"], json!(["x", "y"]));
}

/// "Changes reach live readers at once: their stream ends as for a killed path."
#[test]
fn who_is_blocked_is_cut_off_and_comes_back_when_allowed() {
    let world = World::new();
    let (publisher, blocked, other) = (world.up("publisher"), world.up("blocked"), world.up("other"));
    publisher.run(&["secret", "/a"]).well();
    publisher.run(&["allow", "/a", &blocked.id, &other.id]).well();
    publisher.run(&["give", "/a", "1", "2", "--lake", "log"]).well();
    let surf = [publisher.ticket.as_str(), "/a", "--lake", "log"];
    let (mut blockeds, mut others) = (blocked.surf(&surf), other.surf(&surf));
    blockeds.next_of("caught_up");
    others.next_of("caught_up");
    publisher.run(&["block", "/a", &blocked.id]).well();
    assert_eq!(blockeds.next(), json!({"type": "killed"}));
    publisher.run(&["give", "/a", "3", "--lake", "log"]).well();
    assert_eq!(others.until_aeon(3)["wave"], "3", "no one else notices");
    pass_a_message(&publisher, &blocked, "one");
    let replica = blocked.read("/a");
    assert_eq!((&replica["rock"], &replica["stale"]), (&json!(["1", "2"]), &json!(true)), "what it has it keeps");
    assert_eq!(blocked.status_of("replicas", "/a")["freshness"], "killed");
    // Allowed again, it goes on where it was, wave by wave.
    publisher.run(&["allow", "/a", &blocked.id]).well();
    let next = blockeds.next_of("update");
    assert_eq!((&next["aeon"], &next["wave"]), (&json!(3), &json!("3")));
    assert_eq!(blockeds.next_of("caught_up")["aeon"], 3);
    assert_eq!(blocked.read("/a")["stale"], false);
    // And the same by closing the path to everyone.
    publisher.run(&["secret", "/a"]).well();
    blockeds.next_of("killed");
    others.next_of("killed");
    publisher.run(&["give", "/a", "4", "--lake", "log"]).well();
    pass_a_message(&publisher, &blocked, "two");
    pass_a_message(&publisher, &other, "three");
    assert_eq!((blocked.aeon("/a"), other.aeon("/a")), (Some(3), Some(3)));
    assert_eq!(gone(blockeds), Vec::<Value>::new());
    publisher.run(&["public", "/a"]).well();
    assert_eq!(others.until_aeon(4)["wave"], "4");
}

/// "Publications, replicas, rules, access and subscriptions survive a restart."
#[test]
fn access_survives_a_restart_on_both_sides() {
    let world = World::new();
    let (mut publisher, friend, stranger) = (world.up("publisher"), world.up("friend"), world.up("stranger"));
    publisher.run(&["give", "/a", "1", "--lake", "log"]).well();
    let surf = [publisher.ticket.clone(), "/a".into(), "--lake".into(), "log".into()];
    let surf: Vec<&str> = surf.iter().map(String::as_str).collect();
    for node in [&friend, &stranger] {
        node.surf(&surf).next_of("caught_up");
    }
    publisher.run(&["secret", "/a"]).well();
    publisher.run(&["allow", "/a", &friend.id]).well();
    // At once, without a goodbye.
    publisher.kill();
    drop(publisher);
    stranger.stop();
    let publisher = world.up("publisher");
    let stranger = world.up("stranger");
    assert_eq!(publisher.read("/a")["access"], json!([friend.id]));
    publisher.run(&["give", "/a", "2", "--lake", "log"]).well();
    friend.surf(&surf).until(|line| line["aeon"] == 2);
    pass_a_message(&publisher, &stranger, "one");
    assert_eq!(stranger.aeon("/a"), Some(1), "what it had it keeps, and gets no more");
    crate::common::until("the stranger to know", || stranger.status_of("replicas", "/a")["freshness"] == "killed");
}
