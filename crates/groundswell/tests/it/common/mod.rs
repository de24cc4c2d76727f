//! What the tests of nodes share: nodes on loopback, and waiting for conditions.
#![allow(dead_code, unreachable_pub)] // each test binary uses some of it

pub mod raw;
pub mod recorded;

use std::{path::Path, time::Duration};

use groundswell::{Aeon, Event, Lake, Node, Update, Updates};
use tempfile::TempDir;

/// How long a test waits for something before it fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Logs to the test's output, as far as RUST_LOG says.
pub fn init_log() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}

/// A node on loopback.
pub async fn spawn_node(dir: &Path) -> Node {
    init_log();
    Node::builder().data_dir(dir).offline().bind("127.0.0.1:0".parse().unwrap()).spawn().await.unwrap()
}

/// A publisher and a follower that knows its ticket.
pub struct Pair {
    pub publisher: Node,
    pub follower: Node,
    pub publisher_dir: TempDir,
    pub follower_dir: TempDir,
}

impl Pair {
    pub async fn new() -> Self {
        let (publisher_dir, follower_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let publisher = spawn_node(publisher_dir.path()).await;
        let follower = spawn_node(follower_dir.path()).await;
        follower.add_peer(&publisher.ticket()).await.unwrap();
        Self { publisher, follower, publisher_dir, follower_dir }
    }
}

/// Waits for something, or fails with its name.
pub async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} for {what}"),
    }
}

/// Waits until a condition holds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    within(what, async {
        while !holds() {
            // A poll for a condition: time is under test only as patience.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// The next event of a stream that has not ended.
pub async fn next<L: Lake>(updates: &mut Updates<L>) -> Event<L::Wave> {
    match tokio::time::timeout(PATIENCE, updates.next()).await {
        Ok(event) => event.expect("the stream has ended"),
        Err(_) => panic!("waited {PATIENCE:?} for an event at {:?}, {:?}", updates.cursor(), updates.freshness()),
    }
}

/// The next update, whatever else comes before it.
pub async fn next_update<L: Lake>(updates: &mut Updates<L>) -> Update<L::Wave> {
    loop {
        if let Event::Update(update) = next(updates).await {
            return update;
        }
    }
}

/// Reads until the stream has caught up; at which aeon.
pub async fn until_caught_up<L: Lake>(updates: &mut Updates<L>) -> Aeon {
    loop {
        if let Event::CaughtUp { aeon } = next(updates).await {
            return aeon;
        }
    }
}
