//! Callers who leave: a future that is dropped after its first poll. What it began is done to its end, or taken back, so that
//! disk and memory agree.

use futures_util::FutureExt;
use groundswell::{Source, lakes::Log};

use crate::common::{Pair, spawn_node, until, until_caught_up, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_follow_and_a_quit_that_were_dropped_are_done_and_stay_so() {
    let Pair { publisher, follower, publisher_dir: _publisher_dir, follower_dir } = Pair::new().await;
    let logs = publisher.agent("main").unwrap().publications::<Log>("/log/*").await.unwrap();
    logs.give("/log/a", "one".to_owned()).await.unwrap();
    let source = Source::new(publisher.id(), "main", "/log/a").unwrap();
    let agent = follower.agent("main").unwrap();
    let inbox = agent.subscriptions::<Log>("/log/*").await.unwrap();
    assert!(inbox.follow(source.clone()).now_or_never().is_none(), "it waits for the disk");
    until("the source to be followed", || agent.followed().contains_key(&source)).await;
    // Another follow waits for the first.
    until_caught_up(&mut inbox.surf(source.clone()).await.unwrap()).await;
    assert!(inbox.quit(&source).now_or_never().is_none(), "it waits for the disk");
    until("the source to be quit", || agent.followed().is_empty()).await;
    // The disk says the same.
    follower.shutdown().await.unwrap();
    let follower = spawn_node(follower_dir.path()).await;
    let agent = follower.agent("main").unwrap();
    let _inbox = agent.subscriptions::<Log>("/log/*").await.unwrap();
    assert!(agent.followed().is_empty());
    publisher.shutdown().await.unwrap();
    follower.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declaration_that_was_dropped_stands_in_the_way_of_no_other() {
    let Pair { publisher, follower, publisher_dir: _publisher_dir, follower_dir: _follower_dir } = Pair::new().await;
    let agent = publisher.agent("main").unwrap();
    assert!(agent.publications::<Log>("/log/*").now_or_never().is_none(), "it waits for the driver");
    let logs = within("the declaration", agent.publications::<Log>("/log/*")).await.unwrap();
    logs.give("/log/a", "one".to_owned()).await.unwrap();
    publisher.shutdown().await.unwrap();
    follower.shutdown().await.unwrap();
}
