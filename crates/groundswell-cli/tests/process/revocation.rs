//! How fast a reader is cut off while waves are given, a thousand a second, and that nothing which is given
//! afterwards reaches it. The times are those of real processes on loopback, the disk included.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers outside of test functions

use std::{
    io::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::common::{Giving, Node, PATIENCE, Surfing, World, until, wait};
use serde_json::{Value, json};

/// How many waves are given a second.
const WAVES_A_SECOND: u64 = 1_000;

/// Within this time a reader is cut off, from when the node is asked to.
const AT_ONCE: Duration = Duration::from_millis(100);

/// How often it is measured. The median counts: a machine that does something else for a moment is not
/// what is under test.
const ROUNDS: usize = 9;

/// A command that gives waves in its own time until it is stopped, each with the phase that it was given in.
struct Feed {
    giving: Giving,
    phase: Arc<Mutex<&'static str>>,
    stop: Arc<AtomicBool>,
    feeding: Option<JoinHandle<()>>,
}

impl Feed {
    fn start(node: &Node, path: &str) -> Self {
        let mut giving = Giving::start(node, path, "log");
        let mut input = giving.input.take().unwrap();
        let (phase, stop) = (Arc::new(Mutex::new("before")), Arc::new(AtomicBool::new(false)));
        let (now, stopped) = (phase.clone(), stop.clone());
        let feeding = thread::spawn(move || {
            let begun = Instant::now();
            let mut given = 0;
            while !stopped.load(Ordering::SeqCst) {
                let due = WAVES_A_SECOND * begun.elapsed().as_millis() as u64 / 1_000;
                while given < due {
                    given += 1;
                    // Held while it is written, so that nothing of one phase is given in the next.
                    let phase = now.lock().unwrap();
                    if writeln!(input, "{phase} {given}").is_err() {
                        // The command has ended, since its path was killed.
                        return;
                    }
                }
                thread::sleep(Duration::from_millis(2)); // the rate is kept by this: time is under test
            }
        });
        Self { giving, phase, stop, feeding: Some(feeding) }
    }

    /// What is given from here on is of another phase.
    fn enter(&self, phase: &'static str) {
        *self.phase.lock().unwrap() = phase;
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(feeding) = self.feeding.take() {
            feeding.join().unwrap();
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.end();
    }
}

/// Waits until this reader is live and has got many waves one by one.
fn live(surfing: &mut Surfing) {
    for _ in 0..200 {
        surfing.until(|line| line["type"] == "update" && line["live"] == true);
    }
}

/// Asks the node, and returns how long it took until the reader was told that the path has ended.
fn revoke(publisher: &Node, request: &Value, surfing: &mut Surfing, feed: &Feed) -> Duration {
    let asked = Instant::now();
    publisher.ask(request);
    feed.enter("after");
    loop {
        let (at, line) = surfing.lines.next_at_within(PATIENCE).expect("another line");
        if line["type"] == "killed" {
            return at - asked;
        }
        assert_eq!(line["type"], "update", "{line}");
        let wave = line["wave"].as_str().unwrap_or("before");
        assert!(wave.starts_with("before"), "{line}");
    }
}

fn judge(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let shown: Vec<String> = times.iter().map(|time| format!("{:.1}", time.as_secs_f64() * 1e3)).collect();
    println!("{what}: the stream had ended after {} ms", shown.join(", "));
    let median = times[times.len() / 2];
    assert!(median <= AT_ONCE, "{what}: {shown:?} ms");
}

/// "Changes reach live readers at once: their stream ends as for a killed path." And of `block`: when it
/// returns, what is given no longer reaches them.
#[test]
fn block_cuts_a_reader_off_within_100_ms_under_load() {
    let world = World::new();
    let (publisher, follower) = (world.up("publisher"), world.up("follower"));
    publisher.run(&["secret", "/feed"]).well();
    publisher.run(&["allow", "/feed", &follower.id]).well();
    let mut feed = Feed::start(&publisher, "/feed");
    let mut surfing = follower.surf(&[&publisher.ticket, "/feed", "--lake", "log", "--bare"]);
    let block = json!({
        "request": "access", "path": "/feed", "agent": "main", "change": {"block": [follower.id]}
    });
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        feed.enter("before");
        live(&mut surfing);
        times.push(revoke(&publisher, &block, &mut surfing, &feed));
        // Much more is given, and reaches no one.
        let at = publisher.aeon("/feed").unwrap();
        until("more to be given", || publisher.aeon("/feed").unwrap() >= at + 200);
        publisher.run(&["give", "/message", "x", "--lake", "log"]).well();
        follower.run(&["surf", &publisher.ticket, "/message", "--lake", "log", "--count", "1"]).well();
        assert!(surfing.lines.poll(Duration::ZERO).unwrap().is_none(), "a line after the end");
        let replica = follower.read("/feed");
        assert_eq!(replica["stale"], true);
        let newest = replica["rock"].as_array().unwrap().last().unwrap().as_str().unwrap();
        assert!(newest.starts_with("before"), "{newest}");
        follower.run(&["quit", &publisher.id, "/message"]).well();
        // It is let in again, and catches up, for the next round.
        publisher.ask(&json!({"request": "wipe", "path": "/feed", "agent": "main", "source": null}));
        feed.enter("again");
        publisher.run(&["allow", "/feed", &follower.id]).well();
        surfing.next_of("caught_up");
    }
    feed.end();
    judge("block", times);
}

/// "`kill(path)` tombstones a path and drops its history: live readers are told, their replicas stay
/// readable, and stale."
#[test]
fn kill_cuts_a_reader_off_within_100_ms_under_load() {
    let world = World::new();
    let (publisher, follower) = (world.up("publisher"), world.up("follower"));
    let mut surfing = follower.surf(&[&publisher.ticket, "/feed", "--lake", "log", "--bare"]);
    surfing.next_of("not_available");
    let kill = json!({"request": "kill", "path": "/feed", "agent": "main"});
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let mut feed = Feed::start(&publisher, "/feed");
        live(&mut surfing);
        times.push(revoke(&publisher, &kill, &mut surfing, &feed));
        // Who gave is told, and does not open the path again by giving more.
        assert_eq!(wait(&mut feed.giving.child).code(), Some(1));
        feed.end();
        assert_eq!(publisher.status_of("publications", "/feed")["freshness"], "killed");
        publisher.run(&["give", "/message", "x", "--lake", "log"]).well();
        follower.run(&["surf", &publisher.ticket, "/message", "--lake", "log", "--count", "1"]).well();
        assert!(surfing.lines.poll(Duration::ZERO).unwrap().is_none(), "a line after the end");
        let replica = follower.read("/feed");
        assert_eq!(replica["stale"], true);
        let newest = replica["rock"].as_array().unwrap().last().unwrap().as_str().unwrap();
        assert!(newest.starts_with("before"), "{newest}");
        follower.run(&["quit", &publisher.id, "/message"]).well();
    }
    judge("kill", times);
}
