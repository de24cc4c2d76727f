//! "One that was away for 10 waves receives exactly those 10, whether it or the publisher restarted
//! meanwhile": with each node in a process of its own, four times.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers outside of test functions

use std::path::PathBuf;

use crate::common::{Node, Surfing, signal, until};
use serde_json::json;
use tempfile::TempDir;

const PATH: &str = "/log/away";

/// How many waves there are before the reader goes away: more than one rock's worth is kept.
const BEFORE: u64 = 3_000;

struct World {
    dir: TempDir,
    publisher: Node,
    follower: Node,
    surfing: Surfing,
    /// Where the reader stood when it went away.
    cursor: String,
}

impl World {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let publisher = Node::up(&dir.path().join("publisher"));
        let follower = Node::up(&dir.path().join("follower"));
        let lines: String = (1..BEFORE).map(|n| format!("{n}\n")).collect();
        publisher.run_with(&["give", PATH, "-", "--lake", "log"], lines.as_bytes()).well();
        let mut surfing = follower.surf(&[&publisher.ticket, PATH, "--lake", "log", "--bare"]);
        surfing.next_of("caught_up");
        publisher.run(&["give", PATH, &BEFORE.to_string(), "--lake", "log"]).well();
        let cursor = surfing.until_aeon(BEFORE)["cursor"].as_str().unwrap().to_owned();
        Self { dir, publisher, follower, surfing, cursor }
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn metric(node: &Node, name: &str) -> u64 {
        node.run(&["status"]).only()["metrics"][name].as_u64().unwrap()
    }

    /// The follower stands still, as one does whose lid is closed, until its publisher has given it up.
    fn freeze_the_follower(&self) {
        signal("STOP", self.follower.process());
        until("the follower to be given up", || Self::metric(&self.publisher, "remote_readers_now") == 0);
    }

    fn give_ten(&self) {
        for n in BEFORE + 1..=BEFORE + 10 {
            self.publisher.run(&["give", PATH, &n.to_string(), "--lake", "log"]).well();
        }
    }

    fn restart_the_publisher(&mut self) {
        self.publisher.kill();
        self.publisher = Node::up(&self.dir("publisher"));
    }

    fn kill_the_follower(&mut self) {
        self.follower.kill();
        until("the follower to be given up", || Self::metric(&self.publisher, "remote_readers_now") == 0);
    }

    fn restart_the_follower(&mut self) {
        self.follower = Node::up(&self.dir("follower"));
        let from = ["--bare", "--from", &self.cursor];
        let arguments = [&[self.publisher.id.as_str(), PATH, "--lake", "log"][..], &from].concat();
        self.surfing = self.follower.surf(&arguments);
    }

    /// Exactly those ten come, one by one; then the next one that is given, and nothing between.
    fn receives_exactly_those_ten(mut self) {
        for n in BEFORE + 1..=BEFORE + 10 {
            let update = self.surfing.next_of("update");
            assert_eq!((&update["aeon"], &update["wave"]), (&json!(n), &json!(n.to_string())));
        }
        until("the follower to be live", || {
            self.follower.run(&["status"]).only()["replicas"][0]["freshness"] == "live"
        });
        self.publisher.run(&["give", PATH, "live", "--lake", "log"]).well();
        let update = self.surfing.next_of("update");
        assert_eq!((&update["aeon"], &update["wave"]), (&json!(BEFORE + 11), &json!("live")));
        assert_eq!(Self::metric(&self.publisher, "resumes"), 1, "it went on from its cursor");
        assert_eq!(self.follower.rock(PATH), self.publisher.rock(PATH));
    }
}

/// "One that was away for 10 waves receives exactly those 10": its connection is lost, and no one restarts.
#[test]
fn a_follower_that_was_out_of_reach_for_ten_waves() {
    let world = World::new();
    world.freeze_the_follower();
    world.give_ten();
    signal("CONT", world.follower.process());
    assert_eq!(World::metric(&world.publisher, "rocks_sent"), 1, "the one at the beginning");
    world.receives_exactly_those_ten();
}

/// "One that was away for 10 waves receives exactly those 10": the follower restarted meanwhile.
#[test]
fn a_follower_that_was_down_for_ten_waves() {
    let mut world = World::new();
    world.kill_the_follower();
    world.give_ten();
    world.restart_the_follower();
    world.receives_exactly_those_ten();
}

/// "One that was away for 10 waves receives exactly those 10": the publisher restarted meanwhile.
#[test]
fn a_follower_that_was_out_of_reach_while_its_publisher_restarted() {
    let mut world = World::new();
    world.freeze_the_follower();
    world.give_ten();
    world.restart_the_publisher();
    signal("CONT", world.follower.process());
    world.receives_exactly_those_ten();
}

/// "One that was away for 10 waves receives exactly those 10": both restarted meanwhile.
#[test]
fn a_follower_that_was_down_while_its_publisher_restarted() {
    let mut world = World::new();
    world.kill_the_follower();
    world.give_ten();
    world.restart_the_publisher();
    world.restart_the_follower();
    world.receives_exactly_those_ten();
}

/// "One that was away for 10 waves receives exactly those 10": only the program that reads was away, and
/// its node was not.
#[test]
fn a_program_that_was_away_for_ten_waves() {
    let mut world = World::new();
    world.surfing.child.kill().unwrap();
    world.give_ten();
    let node = &world.follower;
    until("the replica", || node.aeon(PATH) == Some(BEFORE + 10));
    world.surfing = node.surf(&[&world.publisher.id, PATH, "--lake", "log", "--bare", "--from", &world.cursor]);
    for n in BEFORE + 1..=BEFORE + 10 {
        let update = world.surfing.next_of("update");
        assert_eq!((&update["aeon"], &update["wave"]), (&json!(n), &json!(n.to_string())));
    }
    assert_eq!(world.surfing.next_of("caught_up")["aeon"], BEFORE + 10);
}
