//! `kill -9` of both sides, again and again, in the middle of a feed.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers outside of test functions

use std::{
    io::Write,
    path::Path,
    sync::{
        Condvar, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::common::{Ended, Giving, Node, PATIENCE, Surfing};

/// How many waves the feed has. Each wave is its own aeon, written out.
const WAVES: u64 = 100_000;

/// How often each side is killed.
const KILLS: u64 = 50;

/// How many waves the feed has from one kill to the next, on average.
const BETWEEN_KILLS: u64 = WAVES / KILLS;

/// How many waves are written at a time, and how many may be on their way to be acknowledged.
const BURST: u64 = 100;
const UNDER_WAY: u64 = 700;

/// How many kills the publisher may be ahead of the subscriber, so that both are killed during the feed.
const AHEAD: u64 = 2;

const PATH: &str = "/feed";

/// Numbers that are not the same at each kill, from a seed that a failure shows.
struct Chance(u64);

impl Chance {
    fn new() -> Self {
        let seed = std::process::id().into();
        eprintln!("seed {seed}");
        Self(seed)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit.max(1)
    }
}

/// What both sides know of each other's progress.
#[derive(Default)]
struct Progress {
    acknowledged: Mutex<u64>,
    changed: Condvar,
    subscriber_kills: AtomicU64,
    failed: AtomicBool,
}

impl Progress {
    fn acknowledge(&self, aeon: u64) {
        let mut acknowledged = self.acknowledged.lock().unwrap();
        *acknowledged = aeon.max(*acknowledged);
        self.changed.notify_all();
    }

    fn subscriber_was_killed(&self) {
        self.subscriber_kills.fetch_add(1, Ordering::SeqCst);
        // Under the lock, so that who is about to wait is not missed.
        let _acknowledged = self.acknowledged.lock().unwrap();
        self.changed.notify_all();
    }

    /// Waits until this holds of what is acknowledged.
    fn until(&self, what: &str, holds: impl Fn(u64) -> bool) {
        let acknowledged = self.acknowledged.lock().unwrap();
        let waits = |acknowledged: &mut u64| !holds(*acknowledged) && !self.failed.load(Ordering::SeqCst);
        let (acknowledged, timed_out) = self.changed.wait_timeout_while(acknowledged, PATIENCE, waits).unwrap();
        assert!(!self.failed.load(Ordering::SeqCst), "the other side has failed");
        assert!(!timed_out.timed_out(), "waited for {what} at {}", *acknowledged);
    }
}

/// Tells the other side if this one panics, so that it does not wait in vain.
struct Alarm<'a>(&'a Progress);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.failed.store(true, Ordering::SeqCst);
            self.0.changed.notify_all();
        }
    }
}

#[test]
fn nothing_is_lost_by_killing_either_side() {
    let world = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let progress = Progress::default();
    let (publisher_dir, subscriber_dir) = (world.path().join("publisher"), world.path().join("subscriber"));
    // Its identity and its port are made here, and stay.
    let first = Node::up(&publisher_dir);
    let (peer, ticket) = (first.id.clone(), first.ticket.clone());
    first.stop();
    let (publisher, subscriber) = thread::scope(|scope| {
        let subscriber = scope.spawn(|| subscribe(&subscriber_dir, &peer, &ticket, &progress));
        let publisher = publish(&publisher_dir, &progress);
        (publisher, subscriber.join().unwrap())
    });
    eprintln!("{WAVES} waves, {KILLS} kills of each side: {:?}", begun.elapsed());
    let lines: Vec<String> = (1..=WAVES).map(|aeon| aeon.to_string()).collect();
    let published = publisher.rock(PATH);
    assert!(published == serde_json::to_string(&lines).unwrap(), "the publisher has every wave once, in order");
    assert!(subscriber.rock(PATH) == published, "both rocks are equal, byte for byte");
    assert_eq!(subscriber.aeon(PATH), Some(WAVES));
}

/// Feeds the path and kills its node, until all waves are acknowledged.
fn publish(dir: &Path, progress: &Progress) -> Node {
    let _alarm = Alarm(progress);
    let mut chance = Chance::new();
    let mut acknowledged = 0;
    let mut written = 0;
    for kill in 0..=KILLS {
        progress.until("the subscriber", |_| progress.subscriber_kills.load(Ordering::SeqCst) + AHEAD >= kill);
        let mut node = Node::up(dir);
        let stored = node.aeon(PATH).unwrap_or(0);
        assert!(stored >= acknowledged, "{acknowledged} was acknowledged, and {stored} is there");
        assert!(stored <= written.max(acknowledged), "{stored} is there, and {written} was written");
        acknowledged = stored;
        let mut giving = Giving::start(&node, PATH, "log");
        let last = kill == KILLS;
        let end = if last { WAVES } else { WAVES.min((kill * BETWEEN_KILLS) + chance.below(2 * BETWEEN_KILLS)) };
        written = stored;
        let mut input = giving.input.take().unwrap();
        while written < end {
            let next = end.min(written + BURST);
            let text: String = (written + 1..=next).map(|aeon| format!("{aeon}\n")).collect();
            input.write_all(text.as_bytes()).unwrap();
            written = next;
            while written - acknowledged > UNDER_WAY {
                let ack = giving.acks.next_within(PATIENCE).expect("an acknowledgement");
                acknowledged = ack["aeon"].as_u64().unwrap();
                progress.acknowledge(acknowledged);
            }
        }
        if last {
            drop(input);
        } else {
            // A moment more or less: at a random point of a batch, a commit or a reply. Time is under test.
            thread::sleep(Duration::from_micros(chance.below(5_000)));
            node.kill();
        }
        // What was acknowledged before the kill counts, even if it is read after it.
        while let Some(ack) = giving.acks.next_within(PATIENCE) {
            acknowledged = ack["aeon"].as_u64().unwrap();
            progress.acknowledge(acknowledged);
        }
        let status = crate::common::wait(&mut giving.child);
        if last {
            assert!(status.success());
            assert_eq!(acknowledged, WAVES);
            return node;
        }
    }
    unreachable!("the last turn returns");
}

/// Follows the path and kills the following node, until all waves are there.
fn subscribe(dir: &Path, peer: &str, ticket: &str, progress: &Progress) -> Node {
    let _alarm = Alarm(progress);
    let mut chance = Chance::new();
    let mut seen = Seen::default();
    for kill in 0..KILLS {
        let mut node = Node::up(dir);
        let mut surfing = seen.surf(&node, peer, ticket);
        let at = kill * BETWEEN_KILLS + chance.below(BETWEEN_KILLS);
        progress.until("the publisher", |acknowledged| acknowledged >= at);
        // A moment more or less: at a random point of a catch-up, a commit or a line. Time is under test.
        thread::sleep(Duration::from_micros(chance.below(20_000)));
        node.kill();
        progress.subscriber_was_killed();
        // What was printed before the kill counts, even if it is read after it.
        loop {
            match surfing.lines.poll(PATIENCE) {
                Ok(Some(line)) => seen.take(&line),
                Ok(None) => panic!("the stream of a killed node hangs"),
                Err(Ended) => break,
            }
        }
    }
    let node = Node::up(dir);
    let mut surfing = seen.surf(&node, peer, ticket);
    while seen.aeon < WAVES {
        seen.take(&surfing.next());
    }
    eprintln!("{} waves were seen one by one, {} rocks in place of others", seen.waves, seen.rocks);
    node
}

/// What the stream has printed so far, through all restarts.
#[derive(Default)]
struct Seen {
    aeon: u64,
    cursor: Option<String>,
    waves: u64,
    rocks: u64,
}

impl Seen {
    /// Goes on where the stream was. The ticket is given until it is known to have been taken.
    fn surf(&self, node: &Node, peer: &str, ticket: &str) -> Surfing {
        match &self.cursor {
            None => node.surf(&[ticket, PATH, "--lake", "log", "--bare"]),
            Some(cursor) => node.surf(&[peer, PATH, "--lake", "log", "--bare", "--from", cursor]),
        }
    }

    /// Checks that a line follows from the one before: no gap, no repeat, and no step back.
    fn take(&mut self, line: &serde_json::Value) {
        if line["type"] != "update" {
            return;
        }
        let aeon = line["aeon"].as_u64().unwrap();
        match line["wave"].as_str() {
            Some(wave) => {
                assert_eq!(aeon, self.aeon + 1, "after {}: {line}", self.aeon);
                assert_eq!(wave, aeon.to_string());
                self.waves += 1;
            }
            None => {
                let first = self.cursor.is_none();
                assert!(aeon > self.aeon || (first && aeon == 0), "after {}: {line}", self.aeon);
                self.rocks += 1;
            }
        }
        self.aeon = aeon;
        self.cursor = line["cursor"].as_str().map(str::to_owned);
    }
}
