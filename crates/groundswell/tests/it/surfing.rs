//! Surfing: what a reader gets, what it shares with others, and what it is told of its source.

use std::time::Duration;

use crate::common::{Pair, next, next_update, raw, spawn_node, until, until_caught_up, within};
use groundswell::{
    Aeon, Ended, Event, Freshness, Moment, Rule, Source, Subscriptions, Updates,
    lakes::{Log, Sum},
};

/// Each update carries: source, aeon, the wave if there was one, whether it is from the catch-up or live, and stale.
#[tokio::test(flavor = "multi_thread")]
async fn each_update_says_where_it_is_from_and_how_fresh_it_is() {
    let Pair { publisher, follower, publisher_dir: _dir, follower_dir: _other } = Pair::new().await;
    let logs = publisher.agent("main").unwrap().publications::<Log>("/log/a").await.unwrap();
    logs.give("/log/a", "one".to_owned()).await.unwrap();
    logs.wipe("/log/a").await.unwrap();
    let inbox = follower.agent("main").unwrap().subscriptions::<Log>("/log/*").await.unwrap();
    let source = Source::new(publisher.id(), "main", "/log/a").unwrap();
    let mut updates = inbox.surf(source.clone()).await.unwrap();
    // A new subscriber: the newest rock, with no wave.
    let first = next_update(&mut updates).await;
    assert_eq!((&first.source, first.aeon(), &first.wave, first.live), (&source, Aeon(1), &None, false));
    assert_eq!(until_caught_up(&mut updates).await, Aeon(1));
    // Live: the wave itself.
    logs.give("/log/a", "two".to_owned()).await.unwrap();
    let live = next_update(&mut updates).await;
    assert_eq!((&live.source, live.aeon(), live.wave.as_deref()), (&source, Aeon(2), Some("two")));
    assert!(live.live && !live.stale);
    assert_eq!(live.cursor.epoch, first.cursor.epoch);
    publisher.shutdown().await.unwrap();
    until("the loss", || inbox.read()[&source].stale()).await;
    // From a cursor, while the source is away: the waves since, of a past that may be stale.
    let mut again = inbox.surf_from(source.clone(), Some(first.cursor)).await.unwrap();
    let old = next_update(&mut again).await;
    assert_eq!((old.aeon(), old.wave.as_deref(), old.live, old.stale), (Aeon(2), Some("two"), false, true));
    follower.shutdown().await.unwrap();
}

/// A returning reader resumes from its cursor if its waves are still kept, otherwise gets a rock; that first state
/// comes with no wave.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_comes_back_too_late_gets_the_rock_with_no_wave() {
    let Pair { publisher, follower, follower_dir, publisher_dir: _dir } = Pair::new().await;
    let sums = publisher.agent("main").unwrap().publications::<Sum>("/sum").await.unwrap();
    sums.give("/sum", 1).await.unwrap();
    let source = Source::new(publisher.id(), "main", "/sum").unwrap();
    let inbox = follower.agent("main").unwrap().subscriptions::<Sum>("/sum").await.unwrap();
    let mut updates = inbox.surf(source.clone()).await.unwrap();
    until_caught_up(&mut updates).await;
    let cursor = updates.cursor();
    follower.shutdown().await.unwrap();
    for _ in 0..10 {
        sums.give("/sum", 1).await.unwrap();
    }
    sums.wipe("/sum").await.unwrap();
    sums.give("/sum", 1).await.unwrap();
    let follower = spawn_node(follower_dir.path()).await;
    let inbox = follower.agent("main").unwrap().subscriptions::<Sum>("/sum").await.unwrap();
    let mut updates = inbox.surf_from(source.clone(), cursor).await.unwrap();
    let first = next_update(&mut updates).await;
    assert_eq!(first.wave, None, "a rock, not the waves from where it was");
    assert!(first.aeon() >= Aeon(11) && !first.live, "{first:?}");
    until("the newest", || updates.cursor().is_some() && inbox.read()[&source].cursor.unwrap().aeon == Aeon(12)).await;
    assert_eq!(inbox.with_rock(&source, |sum, _| *sum).await.unwrap(), 12);
    assert_eq!(follower.metrics().rocks_received, 1);
    publisher.shutdown().await.unwrap();
    follower.shutdown().await.unwrap();
}

/// Surfing what one already surfs is idempotent: one replica, one stream, one quit; over a restart too.
#[tokio::test(flavor = "multi_thread")]
async fn surfing_what_one_surfs_already_changes_nothing() {
    let Pair { publisher, follower, follower_dir, publisher_dir: _dir } = Pair::new().await;
    let sums = publisher.agent("main").unwrap().publications::<Sum>("/sum").await.unwrap();
    sums.give("/sum", 7).await.unwrap();
    let source = Source::new(publisher.id(), "main", "/sum").unwrap();
    let inbox = follower.agent("main").unwrap().subscriptions::<Sum>("/sum").await.unwrap();
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut updates = inbox.surf(source.clone()).await.unwrap();
        assert_eq!(until_caught_up(&mut updates).await, Aeon(1));
        streams.push(updates);
    }
    let one = |metrics: groundswell::MetricsSnapshot| (metrics.replicas_now, metrics.streams_followed_now);
    assert_eq!(one(follower.metrics()), (1, 1));
    assert_eq!(publisher.metrics().remote_readers_now, 1);
    drop(streams);
    follower.shutdown().await.unwrap();
    let follower = spawn_node(follower_dir.path()).await;
    let inbox = follower.agent("main").unwrap().subscriptions::<Sum>("/sum").await.unwrap();
    let mut updates = inbox.surf(source.clone()).await.unwrap();
    until_caught_up(&mut updates).await;
    assert_eq!((one(follower.metrics()), inbox.read().len()), ((1, 1), 1));
    inbox.quit(&source).await.unwrap();
    assert!(inbox.read().is_empty());
    loop {
        if let Event::Ended(why) = next(&mut updates).await {
            assert_eq!(why, Ended::Quit);
            break;
        }
    }
    inbox.quit(&source).await.unwrap();
    publisher.shutdown().await.unwrap();
    follower.shutdown().await.unwrap();
}

/// Two agents of a node that surf one source share the connection, the stream, the replica on disk and the rock in
/// memory; and a rock is never copied because someone reads it.
#[tokio::test(flavor = "multi_thread")]
async fn all_readers_of_a_source_look_at_one_rock_and_copy_nothing() {
    let pair = Pair::new().await;
    let logs = pair.publisher.agent("main").unwrap().publications::<Log>("/log").await.unwrap();
    logs.give_all("/log", (0..10_000).map(|n| format!("line {n}"))).await.unwrap();
    let source = Source::new(pair.publisher.id(), "main", "/log").unwrap();
    let mut readers: Vec<(Subscriptions<Log>, Updates<Log>)> = Vec::new();
    for name in ["one", "two"] {
        let inbox = pair.follower.agent(name).unwrap().subscriptions::<Log>("/log").await.unwrap();
        let mut updates = inbox.surf(source.clone()).await.unwrap();
        until_caught_up(&mut updates).await;
        readers.push((inbox, updates));
    }
    let mut places = Vec::new();
    for (inbox, updates) in &readers {
        places.push(inbox.with_rock(&source, |rock, _| rock.as_ptr() as usize).await.unwrap());
        places.push(updates.with_rock(|rock, _| rock.as_ptr() as usize).await.unwrap());
    }
    places.dedup();
    assert_eq!(places.len(), 1, "the same lines in memory");
    logs.give("/log", "one more".to_owned()).await.unwrap();
    for (_, updates) in &mut readers {
        let look = |event: Event<String>, rock: Option<&Vec<String>>| (event, rock.map(Vec::len));
        let (event, lines) = within("the wave", updates.next_with_rock(look)).await.unwrap();
        assert!(matches!(event, Event::Update(update) if update.wave.as_deref() == Some("one more")));
        assert_eq!(lines, Some(10_001));
    }
    let metrics = pair.follower.metrics();
    assert_eq!((metrics.rocks_copied, metrics.rocks_received), (0, 1));
    assert_eq!((metrics.replicas_now, metrics.streams_followed_now, metrics.connections_now), (1, 1, 1));
    assert_eq!(pair.publisher.metrics().rocks_copied, 0);
    pair.publisher.shutdown().await.unwrap();
    pair.follower.shutdown().await.unwrap();
}

/// Who waits for a path that is not available has asked once, and nothing polls: the publisher tells it.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_path_asks_once() {
    let pair = Pair::new().await;
    let sums = pair.publisher.agent("main").unwrap().publications::<Sum>("/sum").await.unwrap();
    let inbox = pair.follower.agent("main").unwrap().subscriptions::<Sum>("/sum").await.unwrap();
    let source = Source::new(pair.publisher.id(), "main", "/sum").unwrap();
    let mut updates = inbox.surf(source.clone()).await.unwrap();
    until("the answer", || updates.freshness() == Freshness::NotAvailable).await;
    let (asked, answered) = (pair.publisher.metrics().bytes_received, pair.publisher.metrics().bytes_sent);
    // Time is under test: any retry with the first wait would come several times within it.
    tokio::time::sleep(4 * groundswell::limits::BACKOFF_FIRST).await;
    let metrics = pair.publisher.metrics();
    assert_eq!((metrics.bytes_received, metrics.bytes_sent), (asked, answered));
    assert_eq!((metrics.parked_readers_now, metrics.remote_readers_now), (1, 1));
    sums.open("/sum").await.unwrap();
    assert_eq!(until_caught_up(&mut updates).await, Aeon(0));
    assert_eq!(pair.publisher.metrics().bytes_received, asked, "it was told without asking again");
    pair.publisher.shutdown().await.unwrap();
    pair.follower.shutdown().await.unwrap();
}

/// Each replica tells, for its source: connecting, live, offline since, not available, killed; and when it was last
/// known to be current.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_tells_how_fresh_it_is_and_since_when() {
    let Pair { publisher, follower, publisher_dir, follower_dir: _dir } = Pair::new().await;
    let begun = Moment::now();
    let inbox = follower.agent("main").unwrap().subscriptions::<Sum>("/sum").await.unwrap();
    let source = Source::new(publisher.id(), "main", "/sum").unwrap();
    publisher.shutdown().await.unwrap();
    let updates = inbox.surf(source.clone()).await.unwrap();
    let state = || inbox.read()[&source].clone();
    assert_eq!((state().freshness, state().current_at), (Freshness::Connecting, None));
    assert!(state().stale());
    until("a source that is away", || matches!(updates.freshness(), Freshness::Offline { .. })).await;
    let publisher = spawn_node(publisher_dir.path()).await;
    let sums = publisher.agent("main").unwrap().publications::<Sum>("/sum").await.unwrap();
    until("its answer", || updates.freshness() == Freshness::NotAvailable).await;
    assert_eq!(state().current_at, None, "it never was current");
    sums.give("/sum", 1).await.unwrap();
    until("the state", || updates.freshness() == Freshness::Live).await;
    assert_eq!((state().stale(), state().current_at), (false, None));
    sums.kill("/sum").await.unwrap();
    until("the end", || updates.freshness() == Freshness::Killed).await;
    let killed = state().current_at.expect("it was current until it ended");
    assert!((begun..=Moment::now()).contains(&killed));
    sums.give("/sum", 1).await.unwrap();
    until("the state", || updates.freshness() == Freshness::Live).await;
    assert_eq!(state().current_at, None, "it is current");
    publisher.shutdown().await.unwrap();
    until("the loss", || matches!(updates.freshness(), Freshness::Offline { .. })).await;
    let Freshness::Offline { since } = updates.freshness() else { panic!("{:?}", updates.freshness()) };
    let current_at = state().current_at.unwrap();
    let now = Moment::now();
    assert!((killed..=now).contains(&current_at) && (killed..=now).contains(&since));
    assert!(current_at.elapsed().saturating_sub(since.elapsed()) < Duration::from_secs(10));
    follower.shutdown().await.unwrap();
}

/// A node takes the UDP port it had before, if it is free, and remembers its peers' addresses: two that know no look-up
/// find each other again after both were restarted, for new paths too.
#[tokio::test(flavor = "multi_thread")]
async fn restarted_nodes_find_each_other_again_without_any_look_up() {
    let Pair { publisher, follower, publisher_dir, follower_dir } = Pair::new().await;
    let sums = publisher.agent("main").unwrap().publications::<Sum>("/sum/*").await.unwrap();
    sums.give("/sum/a", 1).await.unwrap();
    sums.rule("/sum/a", Rule { horizon: Some(5), ..Rule::default() }).await.unwrap();
    let inbox = follower.agent("main").unwrap().subscriptions::<Sum>("/sum/*").await.unwrap();
    let source = |path: &str| Source::new(publisher.id(), "main", path).unwrap();
    until_caught_up(&mut inbox.surf(source("/sum/a")).await.unwrap()).await;
    let ports = [&publisher, &follower].map(|node| raw::address(&node.ticket()));
    publisher.shutdown().await.unwrap();
    follower.shutdown().await.unwrap();
    let (publisher_again, follower_again) =
        (spawn_node(publisher_dir.path()).await, spawn_node(follower_dir.path()).await);
    assert_eq!([&publisher_again, &follower_again].map(|node| raw::address(&node.ticket())), ports);
    let sums = publisher_again.agent("main").unwrap().publications::<Sum>("/sum/*").await.unwrap();
    let inbox = follower_again.agent("main").unwrap().subscriptions::<Sum>("/sum/*").await.unwrap();
    // What was followed is followed, without a call; and nobody gave a ticket for what is new.
    sums.give("/sum/a", 1).await.unwrap();
    sums.give("/sum/b", 1).await.unwrap();
    until_caught_up(&mut inbox.surf(source("/sum/b")).await.unwrap()).await;
    until("the old path", || inbox.read()[&source("/sum/a")].cursor.unwrap().aeon == Aeon(2)).await;
    assert_eq!(sums.read()[&"/sum/a".parse().unwrap()].rule.horizon, Some(5));
    publisher_again.shutdown().await.unwrap();
    follower_again.shutdown().await.unwrap();
}
