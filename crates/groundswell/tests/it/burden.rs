//! What a node follows is no burden to it: a publisher decides neither how long this node's own gives, its other
//! replicas and its readers wait, nor how much of its disk is taken.

use std::{
    convert::Infallible,
    num::NonZeroU64,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::common::{Pair, next_update, raw, spawn_node, until, until_caught_up, within};
use groundswell::{
    Aeon, Agent, Ended, Event, Frequency, Freshness, Lake, ManageError, Node, Publications, Rule, Source,
    Subscriptions, Updates,
    lakes::{Json, JsonDocument, JsonPatch, Log, Sum},
};
use groundswell_core::{Cursor, Digest, Epoch, encoding::encode, wire::Message};
use iroh::Endpoint;
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// What the issue allows, and what a wash takes beside it.
const UNNOTICED: Duration = Duration::from_millis(50);
const LONG: u64 = 2_000;

/// Lakes of one test each, whose wash takes as many milliseconds as the wave says. Each counts the washes that took long
/// and have begun, and those that have ended.
macro_rules! slow_lake {
    ($lake:ident) => {
        struct $lake;
        impl $lake {
            fn begun() -> &'static AtomicUsize {
                static BEGUN: AtomicUsize = AtomicUsize::new(0);
                &BEGUN
            }
            fn ended() -> &'static AtomicUsize {
                static ENDED: AtomicUsize = AtomicUsize::new(0);
                &ENDED
            }
        }
        impl Lake for $lake {
            const NAME: &'static str = "slow";
            type Rock = u64;
            type Wave = u64;
            type Error = Infallible;
            fn wash(rock: &mut u64, wave: &u64) -> Result<(), Infallible> {
                if *wave > 0 {
                    Self::begun().fetch_add(1, Ordering::SeqCst);
                    // The rock is half-way all the while.
                    *rock += 1_000;
                    // Time is under test: that of a wash.
                    thread::sleep(Duration::from_millis(*wave));
                    *rock -= 1_000;
                    Self::ended().fetch_add(1, Ordering::SeqCst);
                }
                *rock += 1;
                Ok(())
            }
        }
    };
}

/// A follower with a slow replica, one that is not, and a path of its own.
struct World<L: Lake> {
    pair: Pair,
    slow: Publications<L>,
    sums: Publications<Sum>,
    slow_inbox: Subscriptions<L>,
    slow_source: Source,
    slow_updates: Updates<L>,
    sum_inbox: Subscriptions<Sum>,
    sum_source: Source,
    sum_updates: Updates<Sum>,
    own: Publications<Log>,
}

impl<L: Lake<Rock = u64, Wave = u64>> World<L> {
    async fn new() -> Self {
        let pair = Pair::new().await;
        let agent = pair.publisher.agent("main").unwrap();
        let slow = agent.publications::<L>("/slow").await.unwrap();
        let sums = agent.publications::<Sum>("/sum").await.unwrap();
        slow.give_all("/slow", [0, 0]).await.unwrap();
        sums.give("/sum", 1).await.unwrap();
        let agent = pair.follower.agent("main").unwrap();
        let slow_inbox = agent.subscriptions::<L>("/slow").await.unwrap();
        let sum_inbox = agent.subscriptions::<Sum>("/sum").await.unwrap();
        let own = agent.publications::<Log>("/own").await.unwrap();
        let source = |path| Source::new(pair.publisher.id(), "main", path).unwrap();
        let (slow_source, sum_source) = (source("/slow"), source("/sum"));
        let mut slow_updates = slow_inbox.surf(slow_source.clone()).await.unwrap();
        let mut sum_updates = sum_inbox.surf(sum_source.clone()).await.unwrap();
        until_caught_up(&mut slow_updates).await;
        until_caught_up(&mut sum_updates).await;
        // Quick waves, so that nothing tells that the next ones will not be.
        for n in 3..=5 {
            slow.give("/slow", 0).await.unwrap();
            assert_eq!(next_update(&mut slow_updates).await.aeon(), Aeon(n));
        }
        Self { pair, slow, sums, slow_inbox, slow_source, slow_updates, sum_inbox, sum_source, sum_updates, own }
    }

    /// Everything that may not wait for the slow replica, once: how long each took, and what is shown of that replica.
    async fn round(&mut self) -> ([Duration; 5], (u64, Aeon)) {
        let mut took = [Duration::ZERO; 5];
        let mut lap = Instant::now();
        let mut next = |n: usize| took[n] = std::mem::replace(&mut lap, Instant::now()).elapsed();
        self.own.give("/own", "mine".to_owned()).await.unwrap();
        next(0);
        let aeon = self.sums.give("/sum", 1).await.unwrap();
        assert_eq!(next_update(&mut self.sum_updates).await.aeon(), aeon);
        next(1);
        self.own.with_rock("/own", |_, _| ()).await.unwrap();
        next(2);
        self.sum_inbox.with_rock(&self.sum_source, |_, _| ()).await.unwrap();
        next(3);
        let shown = self.slow_inbox.with_rock(&self.slow_source, |rock, aeon| (*rock, aeon)).await.unwrap();
        next(4);
        (took, shown)
    }
}

/// The longest of each, of many rounds.
fn longest(rounds: &[[Duration; 5]]) -> [Duration; 5] {
    std::array::from_fn(|n| rounds.iter().map(|round| round[n]).max().unwrap())
}

/// The lake `Sleeper` takes two seconds a wave. Meanwhile this node's own gives, its other replicas and all readers, those of
/// the slow replica too, wait no longer than they do otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_wash_delays_its_own_path_alone() {
    slow_lake!(Sleeper);
    let mut world = World::<Sleeper>::new().await;
    let mut baseline = Vec::new();
    for _ in 0..20 {
        baseline.push(world.round().await.0);
    }
    let baseline = longest(&baseline);
    world.slow.give("/slow", LONG).await.unwrap();
    // The publisher's own wash is over; the second one is the follower's.
    until("the wash", || Sleeper::begun().load(Ordering::SeqCst) == 2).await;
    let mut rounds = Vec::new();
    loop {
        let (took, shown) = world.round().await;
        if Sleeper::ended().load(Ordering::SeqCst) == 2 {
            break;
        }
        assert_eq!(shown, (5, Aeon(5)), "what is shown is the last whole state");
        rounds.push(took);
    }
    assert!(rounds.len() > 4, "only {} rounds within {LONG} ms", rounds.len());
    let names =
        ["own give", "other replica", "reader of its own", "reader of another replica", "reader of the replica"];
    for ((name, during), before) in names.iter().zip(longest(&rounds)).zip(baseline) {
        assert!(during < UNNOTICED.max(4 * before), "{name}: {during:?}, and {before:?} without");
    }
    assert_eq!(next_update(&mut world.slow_updates).await.aeon(), Aeon(6));
    // The next wave need not wait for the slow one again.
    world.slow.give("/slow", 0).await.unwrap();
    assert_eq!(next_update(&mut world.slow_updates).await.aeon(), Aeon(7));
    assert_eq!(Sleeper::begun().load(Ordering::SeqCst), 2);
    assert_eq!(world.slow_inbox.with_rock(&world.slow_source, |rock, _| *rock).await.unwrap(), 7);
    world.pair.follower.shutdown().await.unwrap();
    world.pair.publisher.shutdown().await.unwrap();
}

/// A replica's two rocks change places at the moment at which its aeon changes: whoever has seen an aeon, without waiting for
/// an event, finds a rock that has it.
#[tokio::test(flavor = "multi_thread")]
async fn a_rock_is_never_behind_an_aeon_that_was_seen() {
    let pair = Pair::new().await;
    let sums = pair.publisher.agent("main").unwrap().publications::<Sum>("/sum").await.unwrap();
    let inbox = pair.follower.agent("main").unwrap().subscriptions::<Sum>("/sum").await.unwrap();
    let source = Source::new(pair.publisher.id(), "main", "/sum").unwrap();
    sums.open("/sum").await.unwrap();
    inbox.follow(source.clone()).await.unwrap();
    let giving = tokio::spawn(async move {
        for _ in 0..300 {
            sums.give_all("/sum", [1; 20]).await.unwrap();
        }
    });
    let mut looks = 0_u64;
    loop {
        let Some(seen) = inbox.read()[&source].cursor else { continue };
        let (sum, aeon) = inbox.with_rock(&source, |sum, aeon| (*sum, aeon)).await.unwrap();
        assert!(aeon >= seen.aeon, "the rock is at {aeon}, and {} was seen", seen.aeon);
        assert_eq!(sum.unsigned_abs(), aeon.0);
        looks += 1;
        if aeon == Aeon(6_000) {
            break;
        }
        if looks.is_multiple_of(64) {
            tokio::task::yield_now().await;
        }
    }
    giving.await.unwrap();
    pair.follower.shutdown().await.unwrap();
    pair.publisher.shutdown().await.unwrap();
}

/// What is asked of a replica while its wash runs comes after it, in order; to quit it waits for nothing, and following it
/// again begins anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_managed_and_quit_while_its_wash_runs() {
    slow_lake!(Busy);
    let mut world = World::<Busy>::new().await;
    world.slow.give("/slow", LONG).await.unwrap();
    until("the wash", || Busy::begun().load(Ordering::SeqCst) == 2).await;
    // Each waits for the wash, and sees what came of it.
    let copies = world.pair.follower.agent("main").unwrap().publications::<Busy>("/copy").await.unwrap();
    let none = Source::new(world.pair.publisher.id(), "main", "/none").unwrap();
    let (ruled, copied, missing) = tokio::join!(
        world.slow_inbox.rule(&world.slow_source, every(2, 3)),
        copies.copy(&world.slow_source, "/copy"),
        copies.copy(&none, "/copy"),
    );
    ruled.unwrap();
    assert_eq!(copied.unwrap(), Aeon(6));
    assert!(matches!(missing, Err(ManageError::NoState(_))));
    assert_eq!(Busy::ended().load(Ordering::SeqCst), 2);
    assert_eq!(copies.with_rock("/copy", |rock, aeon| (*rock, aeon)).await.unwrap(), (6, Aeon(6)));
    let status = world.pair.follower.status();
    let replica = status.replicas.iter().find(|one| one.path == "/slow").unwrap();
    assert_eq!((replica.kept_waves, replica.kept_rocks, replica.rule), (3, 1, Some(every(2, 3))));
    world.slow_inbox.wipe(&world.slow_source).await.unwrap();
    // A quit during the next wash.
    world.slow.give("/slow", LONG).await.unwrap();
    until("the wash", || Busy::begun().load(Ordering::SeqCst) >= 4).await;
    let begun = Instant::now();
    world.slow_inbox.quit(&world.slow_source).await.unwrap();
    assert!(begun.elapsed() < Duration::from_millis(LONG) / 2, "{:?}", begun.elapsed());
    let ended = within("the end", async {
        loop {
            if let Some(Event::Ended(why)) = world.slow_updates.next().await {
                return why;
            }
        }
    });
    assert_eq!(ended.await, Ended::Quit);
    assert!(world.slow_inbox.with_rock(&world.slow_source, |_, _| ()).await.is_err());
    let mut again = world.slow_inbox.surf(world.slow_source.clone()).await.unwrap();
    until_caught_up(&mut again).await;
    assert_eq!(world.slow_inbox.with_rock(&world.slow_source, |rock, aeon| (*rock, aeon)).await.unwrap(), (7, Aeon(7)));
    world.slow.give("/slow", 0).await.unwrap();
    assert_eq!(next_update(&mut again).await.aeon(), Aeon(8));
    world.pair.follower.shutdown().await.unwrap();
    world.pair.publisher.shutdown().await.unwrap();
}

/// Loading a replica washes what came since its newest rock: no other path waits for it, nor for the subscription of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_slow_to_load_delays_nobody() {
    slow_lake!(Loaded);
    let mut world = World::<Loaded>::new().await;
    world.slow.give("/slow", LONG).await.unwrap();
    assert_eq!(next_update(&mut world.slow_updates).await.aeon(), Aeon(6));
    world.pair.follower.shutdown().await.unwrap();
    let begun = Loaded::begun().load(Ordering::SeqCst);
    let follower = spawn_node(world.pair.follower_dir.path()).await;
    let agent = follower.agent("main").unwrap();
    let own = agent.publications::<Log>("/own").await.unwrap();
    let sums = agent.subscriptions::<Sum>("/sum").await.unwrap();
    let loading = tokio::spawn(async move { agent.subscriptions::<Loaded>("/slow").await.unwrap() });
    until("the wash", || Loaded::begun().load(Ordering::SeqCst) > begun).await;
    let started = Instant::now();
    own.give("/own", "mine".to_owned()).await.unwrap();
    // Another source is quit and followed.
    sums.quit(&world.sum_source).await.unwrap();
    until_caught_up(&mut sums.surf(world.sum_source.clone()).await.unwrap()).await;
    assert!(started.elapsed() < Duration::from_millis(LONG) / 2, "{:?}", started.elapsed());
    let inbox = within("the replica", loading).await.unwrap();
    assert_eq!(inbox.with_rock(&world.slow_source, |rock, aeon| (*rock, aeon)).await.unwrap(), (6, Aeon(6)));
    follower.shutdown().await.unwrap();
    world.pair.publisher.shutdown().await.unwrap();
}

/// A shutdown does not wait for a wash of a replica, and loses nothing by it.
#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_abandons_a_wash_of_a_replica() {
    slow_lake!(Abandoned);
    let world = World::<Abandoned>::new().await;
    world.slow.give("/slow", 2 * LONG).await.unwrap();
    until("the wash", || Abandoned::begun().load(Ordering::SeqCst) == 2).await;
    let begun = Instant::now();
    world.pair.follower.shutdown().await.unwrap();
    assert!(begun.elapsed() < Duration::from_millis(2 * LONG), "{:?}", begun.elapsed());
    assert_eq!(Abandoned::ended().load(Ordering::SeqCst), 1, "the follower's wash is still at it");
    // The directory is free, and what was cut off comes again.
    let follower = spawn_node(world.pair.follower_dir.path()).await;
    let inbox = follower.agent("main").unwrap().subscriptions::<Abandoned>("/slow").await.unwrap();
    assert_eq!(inbox.with_rock(&world.slow_source, |rock, aeon| (*rock, aeon)).await.unwrap(), (5, Aeon(5)));
    until("the wave", || inbox.read()[&world.slow_source].cursor.unwrap().aeon == Aeon(6)).await;
    follower.shutdown().await.unwrap();
    world.pair.publisher.shutdown().await.unwrap();
}

/// A lake whose wash uses the processor for 10 ms.
struct Costly;

impl Lake for Costly {
    const NAME: &'static str = "costly";
    type Rock = u64;
    type Wave = u64;
    type Error = Infallible;
    fn wash(rock: &mut u64, wave: &u64) -> Result<(), Infallible> {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(10) {
            std::hint::spin_loop();
        }
        *rock += wave;
        Ok(())
    }
}

/// Many replicas use all processors at once, and large rocks of another publisher are stored meanwhile. This node's own gives go
/// first, and wait for no thread that waits for a processor.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_whose_washes_use_the_processor_delay_no_give() {
    const REPLICAS: usize = 16;
    const WAVES: usize = 20;
    let pair = Pair::new().await;
    let (large, publishing) = rocks(&encode(&vec!["x".repeat(1_000_000); 8]).unwrap(), 40).await;
    let costly = pair.publisher.agent("main").unwrap().publications::<Costly>("/costly/*").await.unwrap();
    for n in 0..REPLICAS {
        costly.give(&format!("/costly/{n}"), 1).await.unwrap();
    }
    let agent = pair.follower.agent("main").unwrap();
    let own = agent.publications::<Log>("/own").await.unwrap();
    let inbox = agent.subscriptions::<Costly>("/costly/*").await.unwrap();
    let give = async || {
        let begun = Instant::now();
        own.give("/own", "mine".to_owned()).await.unwrap();
        begun.elapsed()
    };
    let mut before = Duration::ZERO;
    for _ in 0..50 {
        before = before.max(give().await);
    }
    let slice = longest_slice(&agent).await;
    let mut updates = Vec::new();
    for n in 0..REPLICAS {
        let source = Source::new(pair.publisher.id(), "main", &format!("/costly/{n}")).unwrap();
        updates.push(inbox.surf(source).await.unwrap());
        until_caught_up(&mut updates[n]).await;
    }
    pair.follower.add_peer(&raw::ticket(&large)).await.unwrap();
    let stored = agent.subscriptions::<Log>("/log").await.unwrap();
    let large = Source::new(large.id(), "main", "/log").unwrap();
    stored.follow(large.clone()).await.unwrap();
    let caught_up = tokio::spawn(async move {
        for n in 0..REPLICAS {
            costly.give_all(&format!("/costly/{n}"), [1; WAVES]).await.unwrap();
        }
        for updates in &mut updates {
            while next_update(updates).await.aeon() < Aeon(1 + WAVES as u64) {}
        }
    });
    let (mut during, mut gives) = (Duration::ZERO, 0);
    while !caught_up.is_finished() {
        during = during.max(give().await);
        gives += 1;
    }
    caught_up.await.unwrap();
    let rocks = stored.read().get(&large).and_then(|state| state.cursor).map_or(0, |at| at.epoch.0[0]);
    println!(
        "the longest of {gives} gives while {REPLICAS} replicas wash and {rocks} rocks of 8 MB are stored: {during:?}, and {before:?} before; a MB takes {slice:?} at most"
    );
    assert!(rocks > 0, "no large rock was stored meanwhile");
    assert!(during < UNNOTICED + 4 * slice.max(before), "{during:?}, and {before:?} before");
    publishing.abort();
    pair.follower.shutdown().await.unwrap();
    pair.publisher.shutdown().await.unwrap();
}

fn every(waves: u64, horizon: u64) -> Rule {
    Rule { frequency: Frequency::Every(NonZeroU64::new(waves).unwrap()), horizon: Some(horizon) }
}

fn replica(node: &Node) -> (u64, usize) {
    let status = node.status();
    (status.replicas[0].kept_waves, status.replicas[0].kept_rocks)
}

/// A publisher that makes a rock at each wave sends the digest of each. Its follower compares them all, and keeps the rocks that
/// its own rule wants.
#[tokio::test(flavor = "multi_thread")]
async fn the_rocks_of_a_replica_follow_its_own_rule() {
    let pair = Pair::new().await;
    let logs = pair.publisher.agent("main").unwrap().publications::<Log>("/log").await.unwrap();
    let inbox = pair.follower.agent("main").unwrap().subscriptions::<Log>("/log").await.unwrap();
    let source = Source::new(pair.publisher.id(), "main", "/log").unwrap();
    logs.give("/log", "x".repeat(950_000)).await.unwrap();
    logs.rule("/log", every(1, 1_000)).await.unwrap();
    let mut updates = inbox.surf(source.clone()).await.unwrap();
    until_caught_up(&mut updates).await;
    for _ in 0..150 {
        logs.give("/log", "abc".to_owned()).await.unwrap();
    }
    until("the waves", || inbox.read()[&source].cursor.unwrap().aeon == Aeon(151)).await;
    assert_eq!(pair.publisher.status().publications[0].kept_rocks, 152);
    assert_eq!(replica(&pair.follower), (150, 1), "150 waves of 3 bytes are no reason for a rock of a megabyte");
    let stored = std::fs::metadata(pair.follower_dir.path().join("node.redb")).unwrap().len();
    assert!(stored < 20_000_000, "{stored} bytes are stored of a state of one megabyte");
    assert_eq!(inbox.read()[&source].freshness, Freshness::Live);
    // Its own rule is obeyed.
    inbox.rule(&source, every(50, 1_000)).await.unwrap();
    for _ in 0..100 {
        logs.give("/log", "abc".to_owned()).await.unwrap();
    }
    until("the waves", || inbox.read()[&source].cursor.unwrap().aeon == Aeon(251)).await;
    assert_eq!(replica(&pair.follower), (250, 4));
    assert_eq!(pair.follower.metrics().divergences, 0);
    pair.follower.shutdown().await.unwrap();
    pair.publisher.shutdown().await.unwrap();
}

/// The horizon of a replica counts waves, whose sizes its publisher chooses. So their bytes are bounded too, over restarts, unless
/// the replica's own rule says that everything is kept.
#[tokio::test(flavor = "multi_thread")]
async fn the_history_of_a_replica_is_bounded_in_bytes() {
    const MEBIBYTE: usize = 1024 * 1024;
    let pair = Pair::new().await;
    let logs = pair.publisher.agent("main").unwrap().publications::<Wide>("/wide").await.unwrap();
    let agent = pair.follower.agent("main").unwrap();
    let inbox = agent.subscriptions::<Wide>("/wide").await.unwrap();
    let source = Source::new(pair.publisher.id(), "main", "/wide").unwrap();
    logs.open("/wide").await.unwrap();
    logs.rule("/wide", Rule { horizon: Some(0), ..Rule::default() }).await.unwrap();
    let mut updates = inbox.surf(source.clone()).await.unwrap();
    until_caught_up(&mut updates).await;
    let give = async |waves: usize, inbox: &Subscriptions<Wide>| {
        let aeon = logs.give_all("/wide", vec![vec![b'x'; MEBIBYTE - 100]; waves]).await.unwrap();
        until("the waves", || inbox.read()[&source].cursor.unwrap().aeon == aeon).await;
    };
    give(60, &inbox).await;
    assert!(replica(&pair.follower).0 >= 60, "what fits is kept");
    give(30, &inbox).await;
    let (waves, _) = replica(&pair.follower);
    assert!((60..=66).contains(&waves), "64 MiB and the newest: {waves} waves of a mebibyte");
    pair.follower.shutdown().await.unwrap();
    let follower = spawn_node(pair.follower_dir.path()).await;
    let inbox = follower.agent("main").unwrap().subscriptions::<Wide>("/wide").await.unwrap();
    give(10, &inbox).await;
    let (waves, _) = replica(&follower);
    assert!((60..=66).contains(&waves), "after a restart: {waves} waves of a mebibyte");
    // Its own rule may want all of it.
    inbox.rule(&source, Rule { horizon: None, ..Rule::default() }).await.unwrap();
    let (kept, _) = replica(&follower);
    give(10, &inbox).await;
    assert_eq!(replica(&follower).0, kept + 10);
    follower.shutdown().await.unwrap();
    pair.publisher.shutdown().await.unwrap();
}

/// Its rock is how many bytes its waves had.
struct Wide;
impl Lake for Wide {
    const NAME: &'static str = "wide";
    type Rock = u64;
    type Wave = Vec<u8>;
    type Error = Infallible;
    fn wash(rock: &mut u64, wave: &Vec<u8>) -> Result<(), Infallible> {
        *rock += wave.len() as u64;
        Ok(())
    }
}

/// A publisher that does not wash its own waves sends a JSON Patch of 400 kB which moves 312,000 elements 12,000 times.
#[tokio::test(flavor = "multi_thread")]
async fn a_costly_patch_of_a_hostile_publisher_delays_no_give() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let agent = node.agent("main").unwrap();
    let own = agent.publications::<Log>("/own").await.unwrap();
    let document: serde_json::Value = vec![0; 312_000].into();
    let rock = encode(&JsonDocument(document)).unwrap();
    let insert = serde_json::json!([{"op": "add", "path": "/0", "value": 0}])[0].clone();
    let patch: JsonPatch = serde_json::Value::from(vec![insert; 12_000]).to_string().parse().unwrap();
    let wave = encode(&patch).unwrap();
    assert!(wave.len() < 1024 * 1024);
    let at = Cursor { epoch: Epoch([7; 16]), aeon: Aeon(1) };
    let digest = Digest::of(&rock);
    let mut frames = vec![raw::message_frame(&Message::Rock { at, bytes: rock.len() as u64, digest })];
    let chunks = rock.chunks(groundswell_core::limits::ROCK_CHUNK_BYTES);
    frames.extend(chunks.map(|chunk| raw::message_frame(&Message::Chunk(chunk.into()))));
    frames.push(raw::message_frame(&Message::CaughtUp(at.aeon)));
    frames.push(raw::message_frame(&Message::Wave { aeon: Aeon(2), digest: None, wave: (&wave[..]).into() }));
    let (peer, publishing) = raw::publisher(move |_| frames.clone()).await;
    node.add_peer(&raw::ticket(&peer)).await.unwrap();
    let source = Source::new(peer.id(), "main", "/document").unwrap();
    let inbox = agent.subscriptions::<Json>("/document").await.unwrap();
    let updates = inbox.surf(source.clone()).await.unwrap();
    let mut longest = Duration::ZERO;
    while updates.freshness() != Freshness::Diverged {
        let begun = Instant::now();
        own.give("/own", "mine".to_owned()).await.unwrap();
        longest = longest.max(begun.elapsed());
    }
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    assert_eq!(node.metrics().waves_applied, 0, "such a patch is refused");
    assert_eq!(inbox.with_rock(&source, |rock, _| rock.0.as_array().unwrap().len()).await.unwrap(), 312_000);
    publishing.abort();
    node.shutdown().await.unwrap();
}

/// A publisher that sends this rock of a log again and again, each time in an epoch of its own, from 1 on.
async fn rocks(rock: &[u8], epochs: u8) -> (Endpoint, JoinHandle<()>) {
    let digest = Digest::of(rock);
    let mut frames = Vec::new();
    for epoch in 1..=epochs {
        let at = Cursor { epoch: Epoch([epoch; 16]), aeon: Aeon(1) };
        frames.push(raw::message_frame(&Message::Rock { at, bytes: rock.len() as u64, digest }));
        let chunks = rock.chunks(groundswell_core::limits::ROCK_CHUNK_BYTES);
        frames.extend(chunks.map(|chunk| raw::message_frame(&Message::Chunk(chunk.into()))));
        frames.push(raw::message_frame(&Message::CaughtUp(at.aeon)));
    }
    raw::publisher(move |_| frames.clone()).await
}

/// The longest time that giving a megabyte takes, of some.
async fn longest_slice(agent: &Agent) -> Duration {
    const SLICES: usize = 30;
    let slices = agent.publications::<Log>("/slice/*").await.unwrap();
    let mut longest = Duration::ZERO;
    for n in 0..SLICES {
        let begun = Instant::now();
        slices.give(&format!("/slice/{n}"), "x".repeat(1_000_000)).await.unwrap();
        longest = longest.max(begun.elapsed());
    }
    longest
}

/// A publisher that sends one large rock after the other, each in an epoch of its own. They are stored, and replaced, in
/// slices, and a give of this node waits for one of them at most: for one that is written, and one that is removed before.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_rock_of_a_publisher_delays_no_give() {
    const LINES: usize = 64;
    const ROCKS: u8 = 3;
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let agent = node.agent("main").unwrap();
    let own = agent.publications::<Log>("/own").await.unwrap();
    let line = "x".repeat(1_000_000);
    let at_once = Instant::now();
    agent.publications::<Log>("/once").await.unwrap().give_all("/once", vec![line.clone(); LINES]).await.unwrap();
    let at_once = at_once.elapsed();
    let slice = longest_slice(&agent).await;
    let (peer, publishing) = rocks(&encode(&vec![line; LINES]).unwrap(), ROCKS).await;
    node.add_peer(&raw::ticket(&peer)).await.unwrap();
    let source = Source::new(peer.id(), "main", "/log").unwrap();
    let inbox = agent.subscriptions::<Log>("/log").await.unwrap();
    inbox.follow(source.clone()).await.unwrap();
    let (mut longest, mut gives) = (Duration::ZERO, 0);
    let begun = Instant::now();
    let stored = || inbox.read().get(&source).and_then(|state| state.cursor).is_some_and(|at| at.epoch.0[0] == ROCKS);
    while !stored() {
        let begun = Instant::now();
        own.give("/own", "mine".to_owned()).await.unwrap();
        longest = longest.max(begun.elapsed());
        gives += 1;
    }
    println!(
        "{gives} gives in {:?} beside {ROCKS} rocks of {LINES} MB: the longest took {longest:?}; a MB takes {slice:?} at most, a rock in one transaction {at_once:?}",
        begun.elapsed()
    );
    assert!(longest < UNNOTICED + 4 * slice, "{longest:?}, where a MB takes {slice:?} at most");
    assert_eq!(inbox.with_rock(&source, |rock, _| rock.len()).await.unwrap(), LINES);
    publishing.abort();
    node.shutdown().await.unwrap();
    // What was stored is whole, and is read again.
    let node = spawn_node(dir.path()).await;
    let inbox = node.agent("main").unwrap().subscriptions::<Log>("/log").await.unwrap();
    assert_eq!(inbox.with_rock(&source, |rock, _| rock.len()).await.unwrap(), LINES);
    node.shutdown().await.unwrap();
}
