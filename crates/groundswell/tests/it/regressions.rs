//! Bugs that were met once: a test each, named after what went wrong.

use std::net::UdpSocket;

use crate::common::{Pair, next, next_update, raw, spawn_node, until, until_caught_up, within};
use groundswell::{
    Aeon, Ended, Event, Node, OpenError, Source,
    lakes::{Log, Sum},
};

/// A reader that had fallen behind asked storage for rows that quitting had deleted, for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_lagging_reader_of_a_source_that_is_quit_ends() {
    let pair = Pair::new().await;
    let logs = pair.publisher.agent("main").unwrap().publications::<Log>("/log").await.unwrap();
    logs.open("/log").await.unwrap();
    let source = Source::new(pair.publisher.id(), "main", "/log").unwrap();
    let inbox = pair.follower.agent("main").unwrap().subscriptions::<Log>("/log").await.unwrap();
    let mut lagging = inbox.surf(source.clone()).await.unwrap();
    until_caught_up(&mut lagging).await;
    // More than memory keeps of the newest waves.
    for _ in 0..50 {
        logs.give("/log", "x".repeat(20_000)).await.unwrap();
    }
    until("the replica", || inbox.read()[&source].cursor.is_some_and(|at| at.aeon == Aeon(50))).await;
    inbox.quit(&source).await.unwrap();
    assert_eq!(next(&mut lagging).await, Event::Ended(Ended::Quit));
    assert!(lagging.next().await.is_none());
    pair.publisher.shutdown().await.unwrap();
    pair.follower.shutdown().await.unwrap();
}

/// Quitting a publication of the node's own left its streams open.
#[tokio::test]
async fn a_stream_of_an_own_publication_ends_when_it_is_quit() {
    let dir = tempfile::TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let agent = node.agent("main").unwrap();
    let sums = agent.publications::<Sum>("/sum").await.unwrap();
    sums.give("/sum", 1).await.unwrap();
    let inbox = agent.subscriptions::<Sum>("/sum").await.unwrap();
    let source = Source::new(node.id(), "main", "/sum").unwrap();
    let mut updates = inbox.surf(source.clone()).await.unwrap();
    until_caught_up(&mut updates).await;
    inbox.quit(&source).await.unwrap();
    assert_eq!(next(&mut updates).await, Event::Ended(Ended::Quit));
    // And can be followed again.
    let mut again = inbox.surf(source).await.unwrap();
    until_caught_up(&mut again).await;
    node.shutdown().await.unwrap();
}

/// Quitting dropped the replica that an agent of an earlier run, not declared yet, still wanted.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_stays_for_an_agent_that_has_not_declared_yet() {
    let Pair { publisher, follower, follower_dir, publisher_dir: _dir } = Pair::new().await;
    let sums = publisher.agent("main").unwrap().publications::<Sum>("/sum").await.unwrap();
    sums.give("/sum", 7).await.unwrap();
    let source = Source::new(publisher.id(), "main", "/sum").unwrap();
    for name in ["early", "late"] {
        let inbox = follower.agent(name).unwrap().subscriptions::<Sum>("/sum").await.unwrap();
        until_caught_up(&mut inbox.surf(source.clone()).await.unwrap()).await;
    }
    publisher.shutdown().await.unwrap();
    follower.shutdown().await.unwrap();
    let follower = spawn_node(follower_dir.path()).await;
    let early = follower.agent("early").unwrap().subscriptions::<Sum>("/sum").await.unwrap();
    early.quit(&source).await.unwrap();
    let late = follower.agent("late").unwrap().subscriptions::<Sum>("/sum").await.unwrap();
    assert_eq!(late.with_rock(&source, |sum, _| *sum).await.unwrap(), 7);
    late.quit(&source).await.unwrap();
    assert!(late.with_rock(&source, |sum, _| *sum).await.is_err());
    assert!(follower.stored().unwrap().is_empty());
    follower.shutdown().await.unwrap();
}

/// The goodbye could overtake waves that were acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_before_a_shutdown_is_delivered() {
    for _ in 0..5 {
        let pair = Pair::new().await;
        let logs = pair.publisher.agent("main").unwrap().publications::<Log>("/log").await.unwrap();
        logs.open("/log").await.unwrap();
        let source = Source::new(pair.publisher.id(), "main", "/log").unwrap();
        let inbox = pair.follower.agent("main").unwrap().subscriptions::<Log>("/log").await.unwrap();
        let mut updates = inbox.surf(source.clone()).await.unwrap();
        until_caught_up(&mut updates).await;
        let last = logs.give_all("/log", (0..20_000).map(|n| format!("line {n}"))).await.unwrap();
        pair.publisher.shutdown().await.unwrap();
        until("all of it", || inbox.read()[&source].cursor.is_some_and(|at| at.aeon == last)).await;
        assert_eq!(inbox.with_rock(&source, |rock, _| rock.len()).await.unwrap(), 20_000);
        pair.follower.shutdown().await.unwrap();
    }
}

/// A dial that was given up because the peer came first never gave back its place among the
/// peer's connections: after eight times the peer was refused for good.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_comes_first_while_it_is_dialled_can_do_so_any_number_of_times() {
    let Pair { mut publisher, follower, publisher_dir, follower_dir: _dir } = Pair::new().await;
    let source = Source::new(publisher.id(), "main", "/sum").unwrap();
    let inbox = follower.agent("main").unwrap().subscriptions::<Sum>("/sum").await.unwrap();
    let mut updates = inbox.surf(source).await.unwrap();
    for round in 1..=10 {
        let sums = publisher.agent("main").unwrap().publications::<Sum>("/sum").await.unwrap();
        sums.give("/sum", 1).await.unwrap();
        within("the update", async {
            while updates.cursor().is_none_or(|at| at.aeon < Aeon(round)) {
                next_update(&mut updates).await;
            }
        })
        .await;
        let ticket = publisher.ticket();
        publisher.shutdown().await.unwrap();
        // At its old port is something that does not answer, so that dialling it takes long.
        let address = raw::address(&ticket);
        let mut silent = None;
        until("the port", || {
            silent = UdpSocket::bind(address.ip_addrs().next().unwrap()).ok();
            silent.is_some()
        })
        .await;
        publisher = spawn_node(publisher_dir.path()).await;
    }
    publisher.shutdown().await.unwrap();
    follower.shutdown().await.unwrap();
}

/// A node that was dropped let go of its directory before its storage was closed, so that the
/// next one took the storage for damaged.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_dropped_holds_its_directory_until_its_storage_is_closed() {
    let dir = tempfile::TempDir::new().unwrap();
    for round in 1..=5 {
        let node = spawn_node(dir.path()).await;
        let sums = node.agent("main").unwrap().publications::<Sum>("/sum").await.unwrap();
        assert_eq!(sums.give("/sum", 1).await.unwrap(), Aeon(round));
        drop((node, sums));
        within("the directory", async {
            loop {
                let builder = Node::builder().data_dir(dir.path()).offline();
                match builder.bind("127.0.0.1:0".parse().unwrap()).spawn().await {
                    Ok(node) => return node.shutdown().await.unwrap(),
                    Err(OpenError::InUse { .. }) => tokio::task::yield_now().await,
                    Err(other) => panic!("{other}"),
                }
            }
        })
        .await;
    }
}
