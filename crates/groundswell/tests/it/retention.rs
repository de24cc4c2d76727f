//! Retention: the rule of a path and of a replica, and wipe. And fork and copy.

use std::num::NonZeroU64;

use crate::common::{Pair, next_update, spawn_node, until, until_caught_up};
use groundswell::{
    Access, Aeon, Durability, Frequency, Freshness, ManageError, Node, Publications, Rule, Source,
    lakes::{Log, Sum},
};
use tempfile::TempDir;

fn every(waves: u64, horizon: Option<u64>) -> Rule {
    Rule { frequency: Frequency::Every(NonZeroU64::new(waves).unwrap()), horizon }
}

/// How many waves and rocks are kept of the only publication.
fn kept(node: &Node) -> (u64, usize) {
    let status = node.status();
    (status.publications[0].kept_waves, status.publications[0].kept_rocks)
}

async fn a_hundred(sums: &Publications<Sum>) {
    for _ in 0..100 {
        sums.give("/sum", 1).await.unwrap();
    }
}

/// `rule(path, Rule)` prunes at once, makes the rock that is due, and survives a restart.
#[tokio::test]
async fn a_rule_prunes_at_once() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let sums = node.agent("main").unwrap().publications::<Sum>("/sum").await.unwrap();
    assert!(matches!(sums.rule("/sum", Rule::default()).await, Err(ManageError::NoState(_))));
    a_hundred(&sums).await;
    assert_eq!(kept(&node), (100, 1));
    // The default rock alone, and every wave since: a rock is due, and the waves beyond the horizon go.
    sums.rule("/sum", every(50, Some(10))).await.unwrap();
    assert_eq!(kept(&node), (10, 1));
    // Now and then a rock, as the rule says, and what it no longer keeps goes with it.
    for _ in 0..1_000 {
        sums.give("/sum", 1).await.unwrap();
    }
    let (waves, rocks) = kept(&node);
    assert!(waves <= 10 + 50 + 256, "the horizon, what came since the last rock, and the slack: {waves}");
    assert!((1..=6).contains(&rocks), "{rocks}");
    assert_eq!(sums.read().values().next().unwrap().rule, every(50, Some(10)));
    node.shutdown().await.unwrap();
    let node = spawn_node(dir.path()).await;
    let sums = node.agent("main").unwrap().publications::<Sum>("/sum").await.unwrap();
    assert_eq!(sums.read().values().next().unwrap().rule, every(50, Some(10)));
    assert_eq!(sums.with_rock("/sum", |sum, aeon| (*sum, aeon)).await.unwrap(), (1_100, Aeon(1_100)));
    // Never: no rock is made, and every wave since the newest one stays.
    sums.rule("/sum", Rule { frequency: Frequency::Never, horizon: Some(0) }).await.unwrap();
    let before = kept(&node);
    a_hundred(&sums).await;
    assert_eq!(kept(&node), (before.0 + 100, 1));
    node.shutdown().await.unwrap();
}

/// `wipe(path)` makes a rock now and drops the rest. Whatever the rule, any subscriber can come up to date.
#[tokio::test(flavor = "multi_thread")]
async fn a_wipe_leaves_one_rock_and_any_subscriber_comes_up_to_date() {
    let pair = Pair::new().await;
    let sums = pair.publisher.agent("main").unwrap().publications::<Sum>("/sum").await.unwrap();
    let inbox = pair.follower.agent("main").unwrap().subscriptions::<Sum>("/sum").await.unwrap();
    let source = Source::new(pair.publisher.id(), "main", "/sum").unwrap();
    a_hundred(&sums).await;
    let mut early = inbox.surf(source.clone()).await.unwrap();
    until_caught_up(&mut early).await;
    sums.wipe("/sum").await.unwrap();
    assert_eq!(kept(&pair.publisher), (0, 1));
    sums.give("/sum", 1).await.unwrap();
    assert_eq!(next_update(&mut early).await.wave, Some(1), "a reader that is up to date loses nothing");
    inbox.quit(&source).await.unwrap();
    let mut late = inbox.surf(source.clone()).await.unwrap();
    until_caught_up(&mut late).await;
    assert_eq!(inbox.with_rock(&source, |sum, aeon| (*sum, aeon)).await.unwrap(), (101, Aeon(101)));
    // Twice, and of a path in memory.
    sums.wipe("/sum").await.unwrap();
    sums.wipe("/sum").await.unwrap();
    assert_eq!(kept(&pair.publisher), (0, 1));
    pair.publisher.shutdown().await.unwrap();
    let publisher = spawn_node(pair.publisher_dir.path()).await;
    let agent = publisher.agent("main").unwrap();
    let sums = agent.publications::<Sum>("/sum").await.unwrap();
    assert_eq!(sums.with_rock("/sum", |sum, aeon| (*sum, aeon)).await.unwrap(), (101, Aeon(101)));
    let memory = agent.publications_with::<Sum>("/memory", Durability::Memory).await.unwrap();
    memory.give_all("/memory", [1; 100]).await.unwrap();
    memory.wipe("/memory").await.unwrap();
    let status = publisher.status();
    let one = status.publications.iter().find(|one| one.path == "/memory").unwrap();
    assert_eq!((one.kept_waves, one.kept_rocks), (0, 1));
    publisher.shutdown().await.unwrap();
    pair.follower.shutdown().await.unwrap();
}

/// A replica has a rule of its own, which its reader may set.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_has_a_rule_of_its_own() {
    let Pair { publisher, follower, follower_dir, publisher_dir: _dir } = Pair::new().await;
    let sums = publisher.agent("main").unwrap().publications::<Sum>("/sum").await.unwrap();
    sums.open("/sum").await.unwrap();
    let inbox = follower.agent("main").unwrap().subscriptions::<Sum>("/sum").await.unwrap();
    let source = Source::new(publisher.id(), "main", "/sum").unwrap();
    let mut updates = inbox.surf(source.clone()).await.unwrap();
    until_caught_up(&mut updates).await;
    a_hundred(&sums).await;
    until("the waves", || inbox.read()[&source].cursor.unwrap().aeon == Aeon(100)).await;
    inbox.rule(&source, every(10, Some(5))).await.unwrap();
    let replica = follower.status().replicas[0].clone();
    assert_eq!((replica.kept_waves, replica.kept_rocks), (5, 1));
    assert_eq!(kept(&publisher), (100, 1), "the publisher's is another");
    a_hundred(&sums).await;
    until("the waves", || inbox.read()[&source].cursor.unwrap().aeon == Aeon(200)).await;
    assert!(follower.status().replicas[0].kept_rocks >= 1);
    inbox.wipe(&source).await.unwrap();
    let replica = follower.status().replicas[0].clone();
    assert_eq!((replica.kept_waves, replica.kept_rocks), (0, 1));
    follower.shutdown().await.unwrap();
    let follower = spawn_node(follower_dir.path()).await;
    let inbox = follower.agent("main").unwrap().subscriptions::<Sum>("/sum").await.unwrap();
    assert_eq!(inbox.read()[&source].rule, Some(every(10, Some(5))));
    follower.shutdown().await.unwrap();
    publisher.shutdown().await.unwrap();
}

/// `fork(from, to)` starts an own publication at another's path's state and history; it keeps rule
/// and access; the target must be empty.
#[tokio::test(flavor = "multi_thread")]
async fn a_fork_has_state_history_rule_and_access_and_goes_its_own_way() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let agent = node.agent("main").unwrap();
    let logs = agent.publications::<Log>("/log/*").await.unwrap();
    for n in 1..=20 {
        logs.give("/log/a", format!("line {n}")).await.unwrap();
    }
    logs.rule("/log/a", every(7, None)).await.unwrap();
    logs.secret("/log/a").await.unwrap();
    assert_eq!(logs.fork("/log/a", "/log/b").await.unwrap(), Aeon(20));
    let states = logs.read();
    let (a, b) = (&states[&"/log/a".parse().unwrap()], &states[&"/log/b".parse().unwrap()]);
    assert_eq!((&a.rule, &a.access, a.cursor.aeon), (&b.rule, &b.access, b.cursor.aeon));
    assert_ne!(a.cursor.epoch, b.cursor.epoch, "its aeons are its own");
    let kept = |node: &Node| -> Vec<(u64, usize)> {
        node.status().publications.iter().map(|one| (one.kept_waves, one.kept_rocks)).collect()
    };
    assert_eq!(kept(&node)[0], kept(&node)[1], "the history too");
    logs.give("/log/b", "b's own".to_owned()).await.unwrap();
    logs.give("/log/a", "a's own".to_owned()).await.unwrap();
    let last = |rock: &Vec<String>, aeon| (rock.len(), rock.last().cloned().unwrap(), aeon);
    assert_eq!(logs.with_rock("/log/a", last).await.unwrap(), (21, "a's own".to_owned(), Aeon(21)));
    assert_eq!(logs.with_rock("/log/b", last).await.unwrap(), (21, "b's own".to_owned(), Aeon(21)));
    // Not onto something, not from nothing, not as another lake.
    assert!(matches!(logs.fork("/log/a", "/log/b").await, Err(ManageError::NotEmpty(_))));
    assert!(matches!(logs.fork("/log/none", "/log/c").await, Err(ManageError::NoState(_))));
    // Nor onto itself, of which nobody is told to kill it.
    let own = Source::new(node.id(), agent.name().as_str(), "/log/a").unwrap();
    for itself in [logs.fork("/log/a", "/log/a").await, logs.copy(&own, "/log/a").await] {
        let error = itself.unwrap_err();
        assert!(matches!(error, ManageError::SamePath(_)) && !error.to_string().contains("kill"), "{error}");
    }
    let sums = agent.publications::<Sum>("/sum/*").await.unwrap();
    assert!(matches!(sums.fork("/log/a", "/sum/a").await, Err(ManageError::LakeVersion { .. })));
    assert!(matches!(logs.fork("/log/a", "/sum/a").await, Err(ManageError::NotDeclared { .. })));
    // A killed path is empty. A fork of a secret is one, whatever its path was before.
    logs.kill("/log/b").await.unwrap();
    logs.public("/log/b").await.unwrap();
    assert_eq!(logs.fork("/log/a", "/log/b").await.unwrap(), Aeon(21));
    assert_eq!(logs.read()[&"/log/b".parse().unwrap()].access, Access::secret());
    logs.give("/log/was-public", "x".to_owned()).await.unwrap();
    logs.kill("/log/was-public").await.unwrap();
    logs.fork("/log/a", "/log/was-public").await.unwrap();
    assert_eq!(logs.read()[&"/log/was-public".parse().unwrap()].access, Access::secret());
    // From disk into memory and back.
    let memory = agent.publications_with::<Log>("/memory/*", Durability::Memory).await.unwrap();
    memory.fork("/log/a", "/memory/a").await.unwrap();
    memory.give("/memory/a", "in memory".to_owned()).await.unwrap();
    memory.fork("/memory/a", "/memory/b").await.unwrap();
    logs.fork("/memory/b", "/log/back").await.unwrap();
    node.shutdown().await.unwrap();
    let node = spawn_node(dir.path()).await;
    let logs = node.agent("main").unwrap().publications::<Log>("/log/*").await.unwrap();
    assert_eq!(logs.with_rock("/log/back", last).await.unwrap(), (22, "in memory".to_owned(), Aeon(22)));
    assert_eq!(logs.with_rock("/log/b", last).await.unwrap(), (21, "a's own".to_owned(), Aeon(21)));
    assert_eq!(logs.read().len(), 4);
    node.shutdown().await.unwrap();
}

/// `copy(source, to)` republishes a replica as one's own, of a live and of a stale replica; a copy
/// is secret until it is made public.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_live_and_of_a_stale_replica_is_secret_until_it_is_made_public() {
    let Pair { publisher, follower, follower_dir: _dir, publisher_dir: _other } = Pair::new().await;
    let sums = publisher.agent("main").unwrap().publications::<Sum>("/sum").await.unwrap();
    sums.give_all("/sum", [40, 2]).await.unwrap();
    let agent = follower.agent("main").unwrap();
    let inbox = agent.subscriptions::<Sum>("/sum").await.unwrap();
    let own = agent.publications::<Sum>("/copies/*").await.unwrap();
    let source = Source::new(publisher.id(), "main", "/sum").unwrap();
    assert!(matches!(own.copy(&source, "/copies/early").await, Err(ManageError::NoState(_))));
    let mut updates = inbox.surf(source.clone()).await.unwrap();
    until_caught_up(&mut updates).await;
    assert_eq!(own.copy(&source, "/copies/live").await.unwrap(), Aeon(2));
    let access = |path: &str| own.read()[&path.parse().unwrap()].access.clone();
    assert_eq!(access("/copies/live"), Access::secret());
    publisher.shutdown().await.unwrap();
    until("the source to be away", || inbox.read()[&source].stale()).await;
    own.public("/copies/stale").await.unwrap();
    assert_eq!(own.copy(&source, "/copies/stale").await.unwrap(), Aeon(2));
    assert_eq!(access("/copies/stale"), Access::secret(), "whatever was said before");
    assert!(matches!(own.copy(&source, "/copies/stale").await, Err(ManageError::NotEmpty(_))));
    // It is one's own from here on, and followed as any other.
    own.give("/copies/stale", 58).await.unwrap();
    assert_eq!(own.with_rock("/copies/stale", |sum, aeon| (*sum, aeon)).await.unwrap(), (100, Aeon(3)));
    assert_eq!(inbox.with_rock(&source, |sum, _| *sum).await.unwrap(), 42, "the replica is as it was");
    let dir = TempDir::new().unwrap();
    let third = spawn_node(dir.path()).await;
    third.add_peer(&follower.ticket()).await.unwrap();
    let inbox = third.agent("main").unwrap().subscriptions::<Sum>("/copies/*").await.unwrap();
    let source = Source::new(follower.id(), "main", "/copies/stale").unwrap();
    let mut updates = inbox.surf(source.clone()).await.unwrap();
    until("the refusal", || inbox.read()[&source].freshness == Freshness::NotAvailable).await;
    own.public("/copies/stale").await.unwrap();
    assert_eq!(until_caught_up(&mut updates).await, Aeon(3));
    third.shutdown().await.unwrap();
    follower.shutdown().await.unwrap();
}
