//! Declaring, and giving: paths and patterns, the order of waves, and what is given together.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::common::{Pair, next, next_update, spawn_node, until, until_caught_up, within};
use groundswell::{
    Aeon, Event, Frequency, Rule, Source,
    lakes::{Json, JsonPatch, Log, Sum},
};
use tempfile::TempDir;

/// One agent may declare many lakes on many patterns, both ways.
#[tokio::test(flavor = "multi_thread")]
async fn one_agent_publishes_and_follows_many_lakes_on_many_patterns() {
    let Pair { publisher, follower, publisher_dir: _dir, follower_dir: _other } = Pair::new().await;
    publisher.add_peer(&follower.ticket()).await.unwrap();
    let patch = |text: &str| text.parse::<JsonPatch>().unwrap();
    let mut sides = Vec::new();
    for (node, there) in [(&publisher, follower.id()), (&follower, publisher.id())] {
        let agent = node.agent("main").unwrap();
        let logs = agent.publications::<Log>("/log/*").await.unwrap();
        let others = agent.publications::<Log>("/other-log").await.unwrap();
        let sums = agent.publications::<Sum>("/sum/*").await.unwrap();
        let documents = agent.publications::<Json>("/document").await.unwrap();
        // What it follows need not be what it publishes.
        let log_in = agent.subscriptions::<Log>("/log").await.unwrap();
        let sum_in = agent.subscriptions::<Sum>("/sum/*").await.unwrap();
        let document_in = agent.subscriptions::<Json>("/document").await.unwrap();
        logs.give("/log", format!("from {}", node.id())).await.unwrap();
        logs.give("/log/deeper", "not followed".to_owned()).await.unwrap();
        others.give("/other-log", "nor this".to_owned()).await.unwrap();
        sums.give("/sum/a", 40).await.unwrap();
        sums.give("/sum/a/b", 2).await.unwrap();
        documents.give("/document", patch(r#"[{"op":"add","path":"","value":7}]"#)).await.unwrap();
        let source = |path: &str| Source::new(there, "main", path).unwrap();
        log_in.surf(source("/log")).await.unwrap();
        for path in ["/sum/a", "/sum/a/b"] {
            sum_in.surf(source(path)).await.unwrap();
        }
        document_in.surf(source("/document")).await.unwrap();
        sides.push((agent, there, log_in, sum_in, document_in));
    }
    for (agent, there, log_in, sum_in, document_in) in sides {
        until("all of it", || agent.followed().values().all(|state| !state.stale())).await;
        assert_eq!((agent.published().len(), agent.followed().len()), (6, 4));
        let source = |path: &str| Source::new(there, "main", path).unwrap();
        let line = log_in.with_rock(&source("/log"), |rock, _| rock.join("")).await.unwrap();
        assert_eq!(line, format!("from {there}"));
        assert_eq!(sum_in.with_rock(&source("/sum/a"), |sum, _| *sum).await.unwrap(), 40);
        assert_eq!(sum_in.with_rock(&source("/sum/a/b"), |sum, _| *sum).await.unwrap(), 2);
        assert_eq!(document_in.with_rock(&source("/document"), |rock, _| rock.0.to_string()).await.unwrap(), "7");
    }
    publisher.shutdown().await.unwrap();
    follower.shutdown().await.unwrap();
}

/// An agent declares a lake on a pattern once, and every path below it is a distinct state: with waves,
/// rocks, a rule, an access and an end of its own.
#[tokio::test]
async fn every_path_below_a_pattern_is_a_state_of_its_own() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let chats = node.agent("main").unwrap().publications::<Log>("/chats/*").await.unwrap();
    let paths = ["/chats", "/chats/one", "/chats/one/side", "/chats/two"];
    for (waves, path) in paths.iter().enumerate() {
        chats.open(path).await.unwrap();
        for n in 0..waves {
            chats.give(path, format!("{n} in {path}")).await.unwrap();
        }
    }
    chats.secret("/chats/one").await.unwrap();
    chats.rule("/chats/one", Rule { frequency: Frequency::Never, horizon: None }).await.unwrap();
    let states = chats.read();
    let aeons: Vec<u64> = states.values().map(|state| state.cursor.aeon.0).collect();
    assert_eq!(aeons, [0, 1, 2, 3]);
    let mut epochs: Vec<_> = states.values().map(|state| state.cursor.epoch).collect();
    epochs.sort();
    epochs.dedup();
    assert_eq!(epochs.len(), 4);
    assert_eq!(states.values().filter(|state| state.rule == Rule::default()).count(), 3);
    assert_eq!(states.values().filter(|state| state.access == groundswell::Access::Public).count(), 3);
    for (path, (_, rock)) in chats.rocks().await {
        assert!(rock.iter().all(|line| line.ends_with(&format!("in {path}"))), "{path}: {rock:?}");
    }
    chats.kill("/chats/one").await.unwrap();
    assert_eq!(chats.read().len(), 3, "what is below it stays");
    node.shutdown().await.unwrap();
}

/// Waves of one path are totally ordered, and concurrent givers share a commit: the aeon that `give` returns is the
/// wave's place in the one order that every reader sees.
#[tokio::test(flavor = "multi_thread")]
async fn the_aeon_of_a_wave_is_its_place_in_the_order_that_readers_see() {
    let pair = Pair::new().await;
    let logs = pair.publisher.agent("main").unwrap().publications::<Log>("/log").await.unwrap();
    logs.open("/log").await.unwrap();
    let inbox = pair.follower.agent("main").unwrap().subscriptions::<Log>("/log").await.unwrap();
    let source = Source::new(pair.publisher.id(), "main", "/log").unwrap();
    let mut updates = inbox.surf(source).await.unwrap();
    until_caught_up(&mut updates).await;
    let before = pair.publisher.metrics();
    let givers: Vec<_> = (0..32)
        .map(|giver| {
            let logs = logs.clone();
            tokio::spawn(async move {
                let mut given = Vec::new();
                for n in 0..20 {
                    let wave = format!("{giver}:{n}");
                    given.push((logs.give("/log", wave.clone()).await.unwrap(), wave));
                }
                given
            })
        })
        .collect();
    let mut given = BTreeMap::new();
    for giver in givers {
        given.extend(giver.await.unwrap());
    }
    assert_eq!(given.keys().copied().collect::<Vec<_>>(), (1..=640).map(Aeon).collect::<Vec<_>>());
    for (aeon, wave) in &given {
        let update = next_update(&mut updates).await;
        assert_eq!((update.aeon(), update.wave.as_ref()), (*aeon, Some(wave)));
    }
    let after = pair.publisher.metrics();
    assert_eq!(after.waves_given - before.waves_given, 640);
    let commits = after.commits - before.commits;
    assert!(commits < 320, "640 waves of 32 givers in {commits} commits");
    pair.publisher.shutdown().await.unwrap();
    pair.follower.shutdown().await.unwrap();
}

/// `give_all` gives many at once, atomically: in one commit, and nobody sees a part of them.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_together_is_seen_together() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let sums = node.agent("main").unwrap().publications::<Sum>("/sum").await.unwrap();
    sums.open("/sum").await.unwrap();
    let before = node.metrics().commits;
    assert_eq!(sums.give_all("/sum", [1; 1_000]).await.unwrap(), Aeon(1_000));
    assert_eq!(node.metrics().commits - before, 1);
    let done = Arc::new(AtomicBool::new(false));
    let (looker, ending) = (sums.clone(), done.clone());
    let looking = tokio::spawn(async move {
        let mut looks = 0u32;
        while !ending.load(Ordering::Relaxed) {
            let (sum, aeon) = looker.with_rock("/sum", |sum, aeon| (*sum, aeon.0)).await.unwrap();
            assert_eq!((sum % 1_000, aeon % 1_000), (0, 0));
            looks += 1;
            tokio::task::yield_now().await;
        }
        looks
    });
    for _ in 0..50 {
        sums.give_all("/sum", [1; 1_000]).await.unwrap();
    }
    // One that is refused takes all with it: nothing is stored, and no aeon is used up.
    assert!(sums.give_all("/sum", [1, 1, i64::MAX]).await.is_err());
    assert_eq!(sums.give_all("/sum", []).await.unwrap(), Aeon(51_000), "none at all is the newest aeon");
    done.store(true, Ordering::Relaxed);
    assert!(looking.await.unwrap() > 0);
    node.shutdown().await.unwrap();
}

/// `open` publishes the default rock, at aeon 0, before anything is given; again, it does nothing.
#[tokio::test(flavor = "multi_thread")]
async fn opening_publishes_the_default_rock_at_aeon_0() {
    let pair = Pair::new().await;
    let logs = pair.publisher.agent("main").unwrap().publications::<Log>("/log").await.unwrap();
    let inbox = pair.follower.agent("main").unwrap().subscriptions::<Log>("/log").await.unwrap();
    let source = Source::new(pair.publisher.id(), "main", "/log").unwrap();
    assert_eq!(logs.open("/log").await.unwrap(), Aeon(0));
    assert_eq!(logs.with_rock("/log", |rock, aeon| (rock.len(), aeon)).await.unwrap(), (0, Aeon(0)));
    let mut updates = inbox.surf(source).await.unwrap();
    let update = next_update(&mut updates).await;
    assert_eq!((update.aeon(), update.wave), (Aeon(0), None));
    assert_eq!(until_caught_up(&mut updates).await, Aeon(0), "an empty state is caught up too");
    assert_eq!(logs.open("/log").await.unwrap(), Aeon(0));
    assert_eq!(logs.give("/log", "one".to_owned()).await.unwrap(), Aeon(1));
    assert_eq!(logs.open("/log").await.unwrap(), Aeon(1));
    let given = within("the wave", next(&mut updates)).await;
    assert!(matches!(given, Event::Update(update) if update.aeon() == Aeon(1) && update.live), "and nothing between");
    pair.publisher.shutdown().await.unwrap();
    pair.follower.shutdown().await.unwrap();
}
