//! Ending: kill, reopening and quit.

use crate::common::{Pair, next, next_update, raw, spawn_node, until, until_caught_up, within};
use groundswell::{
    Aeon, Event, Freshness, FreshnessKind, ManageError, ReadError, Source, Updates,
    lakes::{Log, Sum},
};
use tempfile::TempDir;

async fn until_killed(updates: &mut Updates<Sum>) {
    loop {
        if next(updates).await == Event::Freshness(Freshness::Killed) {
            return;
        }
    }
}

/// `kill` tombstones a path and drops its history: live readers are told, their replicas stay
/// readable, and stale; giving again starts from the default rock at the next aeon, and wanted
/// subscriptions resume.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_path_ends_and_goes_on_at_the_next_aeon_when_given_again() {
    let Pair { publisher, follower, publisher_dir, follower_dir } = Pair::new().await;
    let sums = publisher.agent("main").unwrap().publications::<Sum>("/sum").await.unwrap();
    sums.give_all("/sum", [1, 2, 3]).await.unwrap();
    let epoch = sums.read().values().next().unwrap().cursor.epoch;
    let inbox = follower.agent("main").unwrap().subscriptions::<Sum>("/sum").await.unwrap();
    let source = Source::new(publisher.id(), "main", "/sum").unwrap();
    let mut updates = inbox.surf(source.clone()).await.unwrap();
    until_caught_up(&mut updates).await;
    sums.kill("/sum").await.unwrap();
    until_killed(&mut updates).await;
    assert!(sums.read().is_empty());
    assert!(matches!(sums.with_rock("/sum", |_, _| ()).await, Err(ReadError::NoState(_))));
    let status = publisher.status();
    assert_eq!(status.publications[0].freshness, FreshnessKind::Killed);
    assert!(publisher.stored().unwrap().iter().all(|stored| stored.source.is_some()), "its history is gone");
    assert!(inbox.read()[&source].stale());
    assert_eq!(inbox.with_rock(&source, |sum, aeon| (*sum, aeon)).await.unwrap(), (6, Aeon(3)));
    sums.kill("/sum").await.unwrap();
    // Both sides remember it.
    publisher.shutdown().await.unwrap();
    follower.shutdown().await.unwrap();
    let publisher = spawn_node(publisher_dir.path()).await;
    let sums = publisher.agent("main").unwrap().publications::<Sum>("/sum").await.unwrap();
    assert!(sums.read().is_empty());
    assert_eq!(publisher.status().publications[0].freshness, FreshnessKind::Killed);
    let follower = spawn_node(follower_dir.path()).await;
    let inbox = follower.agent("main").unwrap().subscriptions::<Sum>("/sum").await.unwrap();
    until("the word that it has ended", || inbox.read()[&source].freshness == Freshness::Killed).await;
    assert_eq!(inbox.with_rock(&source, |sum, aeon| (*sum, aeon)).await.unwrap(), (6, Aeon(3)));
    // The default rock is aeon 4; the wave leads to 5.
    assert_eq!(sums.give("/sum", 40).await.unwrap(), Aeon(5));
    assert_eq!(sums.read().values().next().unwrap().cursor.epoch, epoch, "no aeon went back");
    until("the follower", || inbox.read()[&source].freshness == Freshness::Live).await;
    assert_eq!(inbox.with_rock(&source, |sum, aeon| (*sum, aeon)).await.unwrap(), (40, Aeon(5)));
    publisher.shutdown().await.unwrap();
    follower.shutdown().await.unwrap();
    // The source is no longer ended to a later run either.
    let follower = spawn_node(follower_dir.path()).await;
    let inbox = follower.agent("main").unwrap().subscriptions::<Sum>("/sum").await.unwrap();
    assert_ne!(inbox.read()[&source].freshness, Freshness::Killed);
    follower.shutdown().await.unwrap();
}

/// A path that was never published can't be killed; opening a killed one publishes its default rock
/// at the next aeon; another lake may come in its place.
#[tokio::test]
async fn opening_a_killed_path_publishes_the_default_rock_at_the_next_aeon() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let agent = node.agent("main").unwrap();
    let sums = agent.publications::<Sum>("/x").await.unwrap();
    assert!(matches!(sums.kill("/x").await, Err(ManageError::NoState(_))));
    sums.give_all("/x", [1, 2]).await.unwrap();
    sums.kill("/x").await.unwrap();
    assert_eq!(sums.open("/x").await.unwrap(), Aeon(3));
    assert_eq!(sums.with_rock("/x", |sum, aeon| (*sum, aeon)).await.unwrap(), (0, Aeon(3)));
    assert_eq!(sums.give("/x", 5).await.unwrap(), Aeon(4));
    sums.kill("/x").await.unwrap();
    sums.withdraw();
    let logs = agent.publications::<Log>("/x").await.unwrap();
    assert_eq!(logs.give("/x", "a line".to_owned()).await.unwrap(), Aeon(6));
    node.shutdown().await.unwrap();
    let node = spawn_node(dir.path()).await;
    let logs = node.agent("main").unwrap().publications::<Log>("/x").await.unwrap();
    assert_eq!(logs.with_rock("/x", |rock, aeon| (rock.len(), aeon)).await.unwrap(), (1, Aeon(6)));
    node.shutdown().await.unwrap();
}

/// An agent of the publishing node that reads a killed path is told, and goes on when it begins again.
#[tokio::test]
async fn a_node_that_follows_itself_is_told_of_the_end_too() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let agent = node.agent("main").unwrap();
    let sums = agent.publications::<Sum>("/sum").await.unwrap();
    sums.give("/sum", 1).await.unwrap();
    let inbox = agent.subscriptions::<Sum>("/sum").await.unwrap();
    let source = Source::new(node.id(), "main", "/sum").unwrap();
    let mut updates = inbox.surf(source).await.unwrap();
    until_caught_up(&mut updates).await;
    sums.kill("/sum").await.unwrap();
    until_killed(&mut updates).await;
    sums.give("/sum", 9).await.unwrap();
    assert_eq!(next_update(&mut updates).await.aeon(), Aeon(3));
    assert_eq!(until_caught_up(&mut updates).await, Aeon(3));
    node.shutdown().await.unwrap();
}

/// A local reader was told that it had caught up with a state of another lake than its own.
#[tokio::test]
async fn a_path_that_begins_again_as_another_lake_refuses_its_local_reader_too() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let agent = node.agent("main").unwrap();
    let sums = agent.publications::<Sum>("/x").await.unwrap();
    sums.give("/x", 1).await.unwrap();
    let inbox = agent.subscriptions::<Sum>("/x").await.unwrap();
    let mut updates = inbox.surf(Source::new(node.id(), "main", "/x").unwrap()).await.unwrap();
    until_caught_up(&mut updates).await;
    sums.kill("/x").await.unwrap();
    until_killed(&mut updates).await;
    sums.withdraw();
    let logs = agent.publications::<Log>("/x").await.unwrap();
    logs.give("/x", "a line".to_owned()).await.unwrap();
    let event = next(&mut updates).await;
    assert!(matches!(event, Event::Freshness(Freshness::Refused(_))), "{event:?}");
    node.shutdown().await.unwrap();
}

/// `quit(source)` unsubscribes one agent; the replica goes with its last one.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_goes_with_its_last_agent() {
    let pair = Pair::new().await;
    let sums = pair.publisher.agent("main").unwrap().publications::<Sum>("/sum").await.unwrap();
    sums.give("/sum", 7).await.unwrap();
    let source = Source::new(pair.publisher.id(), "main", "/sum").unwrap();
    let mut inboxes = Vec::new();
    for name in ["one", "two"] {
        let inbox = pair.follower.agent(name).unwrap().subscriptions::<Sum>("/sum").await.unwrap();
        until_caught_up(&mut inbox.surf(source.clone()).await.unwrap()).await;
        inboxes.push(inbox);
    }
    assert_eq!(pair.follower.status().replicas.len(), 1, "they share the replica");
    inboxes[0].quit(&source).await.unwrap();
    assert!(inboxes[0].read().is_empty());
    assert_eq!(inboxes[1].with_rock(&source, |sum, _| *sum).await.unwrap(), 7);
    sums.give("/sum", 1).await.unwrap();
    until("the other agent's update", || inboxes[1].read()[&source].cursor.unwrap().aeon == Aeon(2)).await;
    inboxes[1].quit(&source).await.unwrap();
    assert!(pair.follower.status().replicas.is_empty());
    assert!(matches!(inboxes[1].with_rock(&source, |_, _| ()).await, Err(ReadError::NoState(_))));
    until("the stream's end", || pair.publisher.metrics().remote_readers_now == 0).await;
    pair.publisher.shutdown().await.unwrap();
    pair.follower.shutdown().await.unwrap();
}

/// A live reader is told of a kill by the one answer, and by nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_live_reader_is_sent_the_one_answer_when_the_path_ends() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let logs = node.agent("main").unwrap().publications::<Log>("/log").await.unwrap();
    logs.give("/log", "a".to_owned()).await.unwrap();
    let endpoint = raw::endpoint().await;
    let connection = endpoint.connect(raw::address(&node.ticket()), raw::ALPN).await.unwrap();
    raw::hello(&connection).await;
    let (_send, mut recv) = raw::ask(&connection, &raw::surf("main", "/log", "log", None)).await;
    loop {
        if within("the state", raw::read_message(&mut recv)).await.unwrap().starts_with("CaughtUp") {
            break;
        }
    }
    logs.kill("/log").await.unwrap();
    assert_eq!(within("the tombstone", raw::read_message(&mut recv)).await.unwrap(), "NotAvailable");
    logs.open("/log").await.unwrap();
    assert!(within("the new rock", raw::read_message(&mut recv)).await.unwrap().starts_with("Rock"));
    node.shutdown().await.unwrap();
}
