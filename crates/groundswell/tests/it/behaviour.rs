//! "How it must behave": each claim is a test that names it.

use std::fs;

use crate::common::{Pair, next, next_update, raw, spawn_node, until, until_caught_up, within};
use groundswell::{
    Aeon, Durability, Event, Freshness, Node, Publications, Source, Update, Updates,
    lakes::{Log, Sum},
};
use redb::{ReadableDatabase as _, ReadableTableMetadata as _};
use tempfile::TempDir;

async fn give_many(sums: &Publications<Sum>, path: &str, mut count: u64) {
    while count > 0 {
        let now = count.min(50_000);
        sums.give_all(path, (0..now).map(|_| 1)).await.unwrap();
        count -= now;
    }
}

/// Every update until the state is at this aeon.
async fn updates_until(updates: &mut Updates<Sum>, aeon: Aeon) -> Vec<Update<i64>> {
    let mut seen = Vec::new();
    loop {
        match next(updates).await {
            Event::Update(update) => seen.push(update),
            Event::CaughtUp { .. } => {}
            _ => continue,
        }
        if updates.cursor().is_some_and(|at| at.aeon == aeon) {
            return seen;
        }
    }
}

/// "A new surfer of a path with 1,000,000 waves receives one rock and the waves after it, not the history."
#[tokio::test(flavor = "multi_thread")]
async fn a_new_surfer_of_a_million_waves_receives_one_rock_and_the_waves_after_it() {
    let pair = Pair::new().await;
    let sums = pair.publisher.agent("main").unwrap().publications::<Sum>("/sum").await.unwrap();
    give_many(&sums, "/sum", 1_000_000).await;
    let inbox = pair.follower.agent("main").unwrap().subscriptions::<Sum>("/sum").await.unwrap();
    let source = Source::new(pair.publisher.id(), "main", "/sum").unwrap();
    let mut updates = inbox.surf(source.clone()).await.unwrap();
    updates_until(&mut updates, Aeon(1_000_000)).await;
    let (publisher, follower) = (pair.publisher.metrics(), pair.follower.metrics());
    assert_eq!((publisher.rocks_sent, follower.rocks_received), (1, 1));
    // The automatic rule makes a rock each 64 KiB of weight, 33 bytes a wave.
    assert!(publisher.waves_sent <= 2_000, "not the history: {}", publisher.waves_sent);
    assert_eq!(publisher.waves_sent, follower.waves_applied);
    assert_eq!(inbox.with_rock(&source, |sum, aeon| (*sum, aeon)).await.unwrap(), (1_000_000, Aeon(1_000_000)));
    pair.publisher.shutdown().await.unwrap();
    pair.follower.shutdown().await.unwrap();
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Restart {
    Publisher,
    Subscriber,
    Both,
}

/// "One that was away for 10 waves receives exactly those 10, whether it or the publisher restarted meanwhile."
#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_away_for_10_waves_receives_exactly_those_10() {
    for restart in [Restart::Publisher, Restart::Subscriber, Restart::Both] {
        away_for_ten(restart).await;
    }
}

async fn away_for_ten(restart: Restart) {
    let Pair { mut publisher, mut follower, publisher_dir, follower_dir } = Pair::new().await;
    let source = Source::new(publisher.id(), "main", "/sum").unwrap();
    let mut sums = publisher.agent("main").unwrap().publications::<Sum>("/sum").await.unwrap();
    give_many(&sums, "/sum", 5_000).await;
    let inbox = follower.agent("main").unwrap().subscriptions::<Sum>("/sum").await.unwrap();
    let mut updates = inbox.surf(source.clone()).await.unwrap();
    updates_until(&mut updates, Aeon(5_000)).await;
    let cursor = updates.cursor();
    // Away: the follower is down, or its publisher.
    if restart == Restart::Publisher {
        publisher.shutdown().await.unwrap();
        until("the loss", || matches!(updates.freshness(), Freshness::Offline { .. })).await;
        publisher = spawn_node(publisher_dir.path()).await;
        sums = publisher.agent("main").unwrap().publications::<Sum>("/sum").await.unwrap();
        for _ in 0..10 {
            sums.give("/sum", 1).await.unwrap();
        }
    } else {
        follower.shutdown().await.unwrap();
        for _ in 0..10 {
            sums.give("/sum", 1).await.unwrap();
        }
        if restart == Restart::Both {
            publisher.shutdown().await.unwrap();
            publisher = spawn_node(publisher_dir.path()).await;
            sums = publisher.agent("main").unwrap().publications::<Sum>("/sum").await.unwrap();
        }
        follower = spawn_node(follower_dir.path()).await;
        let inbox = follower.agent("main").unwrap().subscriptions::<Sum>("/sum").await.unwrap();
        updates = inbox.surf_from(source.clone(), cursor).await.unwrap();
    }
    let seen = updates_until(&mut updates, Aeon(5_010)).await;
    let aeons: Vec<u64> = seen.iter().map(|update| update.aeon().0).collect();
    assert_eq!(aeons, (5_001..=5_010).collect::<Vec<_>>(), "{restart:?}");
    assert!(seen.iter().all(|update| update.wave == Some(1)), "{restart:?}: waves, no rock");
    assert_eq!(follower.metrics().rocks_received, u64::from(matches!(restart, Restart::Publisher)), "{restart:?}");
    assert_eq!(sums.with_rock("/sum", |sum, _| *sum).await.unwrap(), 5_010);
    publisher.shutdown().await.unwrap();
    follower.shutdown().await.unwrap();
}

/// "1,000 local readers of one remote source: one stream on the wire, one replica on disk and in memory (asserted
/// through the metrics)."
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_local_readers_share_one_stream_and_one_replica() {
    let pair = Pair::new().await;
    let logs = pair.publisher.agent("main").unwrap().publications::<Log>("/log").await.unwrap();
    logs.give("/log", "first".to_owned()).await.unwrap();
    let source = Source::new(pair.publisher.id(), "main", "/log").unwrap();
    let mut readers = Vec::new();
    let mut agents = Vec::new();
    for n in 0..10 {
        let agent = pair.follower.agent(&format!("agent-{n}")).unwrap();
        let inbox = agent.subscriptions::<Log>("/log").await.unwrap();
        for _ in 0..100 {
            readers.push(inbox.surf(source.clone()).await.unwrap());
        }
        agents.push(inbox);
    }
    for reader in &mut readers {
        until_caught_up(reader).await;
    }
    logs.give("/log", "second".to_owned()).await.unwrap();
    for reader in &mut readers {
        assert_eq!(next_update(reader).await.wave.as_deref(), Some("second"));
    }
    let metrics = pair.follower.metrics();
    assert_eq!(metrics.local_readers_now, 1_000);
    assert_eq!((metrics.streams_followed_now, metrics.replicas_now), (1, 1));
    assert_eq!(metrics.connections_now, 1);
    assert_eq!(pair.follower.status().replicas.len(), 1, "in memory");
    assert_eq!(pair.publisher.metrics().remote_readers_now, 1);
    // The rock of aeon 0 and the first wave came at first; then the second wave, once.
    until("the count", || pair.follower.metrics().waves_applied == 2).await;
    assert_eq!(metrics.rocks_received, 1);
    // On disk: one row for the tide, though ten agents want it.
    let Pair { publisher, follower, publisher_dir: _publisher_dir, follower_dir } = pair;
    follower.shutdown().await.unwrap();
    let tides: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("tides");
    let database = redb::Database::open(follower_dir.path().join("node.redb")).unwrap();
    let rows = database.begin_read().unwrap().open_table(tides).unwrap().len().unwrap();
    assert_eq!(rows, 1);
    drop(database);
    // The next run shares it as well. It ends with the last agent, not before.
    let follower = spawn_node(follower_dir.path()).await;
    drop((readers, agents));
    let mut agents = Vec::new();
    for n in 0..10 {
        agents.push(follower.agent(&format!("agent-{n}")).unwrap().subscriptions::<Log>("/log").await.unwrap());
    }
    until("the stream", || follower.metrics().streams_followed_now == 1).await;
    for inbox in &agents[1..] {
        inbox.quit(&source).await.unwrap();
    }
    assert_eq!(follower.metrics().replicas_now, 1);
    agents[0].quit(&source).await.unwrap();
    until("the end of the stream", || publisher.metrics().remote_readers_now == 0).await;
    until("the end of the task", || follower.metrics().replicas_now == 0).await;
    assert_eq!(follower.metrics().local_readers_now, 0);
    assert!(follower.stored().unwrap().is_empty());
    publisher.shutdown().await.unwrap();
    follower.shutdown().await.unwrap();
}

/// The memory that this process holds, in bytes.
fn resident() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    pages.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

/// "A reader that never reads does not slow the publisher or another reader, and costs no growing memory:
/// 1,000,000 waves given with one stalled remote and one stalled local reader beside a live one."
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_never_reads_slows_no_one_and_costs_no_growing_memory() {
    let pair = Pair::new().await;
    let sums = pair.publisher.agent("main").unwrap().publications::<Sum>("/sum").await.unwrap();
    give_many(&sums, "/sum", 100_000).await;
    let source = Source::new(pair.publisher.id(), "main", "/sum").unwrap();
    // One stalled remote reader: it asks, and never reads its stream.
    let stalled = raw::endpoint().await;
    let connection = stalled.connect(raw::address(&pair.publisher.ticket()), raw::ALPN).await.unwrap();
    raw::hello(&connection).await;
    let _stream = raw::ask(&connection, &raw::surf("main", "/sum", "sum", None)).await;
    until("the stalled reader", || pair.publisher.metrics().remote_readers_now == 1).await;
    // One stalled local reader, and a live one beside both.
    let own = pair.publisher.agent("main").unwrap().subscriptions::<Sum>("/sum").await.unwrap();
    let mut stalled_local = own.surf(source.clone()).await.unwrap();
    let first = next_update(&mut stalled_local).await;
    let inbox = pair.follower.agent("main").unwrap().subscriptions::<Sum>("/sum").await.unwrap();
    let mut live = inbox.surf(source.clone()).await.unwrap();
    updates_until(&mut live, Aeon(100_000)).await;
    let before = resident();
    let reading = tokio::spawn(async move {
        let mut last = Aeon(100_000);
        while last < Aeon(1_100_000) {
            let update = next_update(&mut live).await;
            assert!(update.aeon() > last, "never back");
            last = update.aeon();
        }
    });
    give_many(&sums, "/sum", 1_000_000).await;
    within("the live reader", reading).await.unwrap();
    let grown = resident().saturating_sub(before);
    // Room for caches that fill once (storage's own is 64 MiB, at both nodes) and for the allocator.
    assert!(grown < 256 * 1024 * 1024, "grown by {grown} bytes");
    // Who stalled gets the newest state when it looks again: one rock, not a million waves.
    let next = next_update(&mut stalled_local).await;
    assert_eq!((first.wave, next.wave, next.aeon()), (None, None, Aeon(1_100_000)));
    pair.publisher.shutdown().await.unwrap();
    pair.follower.shutdown().await.unwrap();
}

/// "A follower started before its publisher, before the path exists, or while the publisher is away, starts by
/// itself when it can."
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_starts_by_itself_whatever_was_there_first() {
    let (publisher_dir, follower_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    // The publisher has been up once, so that its ticket exists; then it is away.
    let publisher = spawn_node(publisher_dir.path()).await;
    let (ticket, id) = (publisher.ticket(), publisher.id());
    publisher.shutdown().await.unwrap();
    let follower = spawn_node(follower_dir.path()).await;
    follower.add_peer(&ticket).await.unwrap();
    let inbox = follower.agent("main").unwrap().subscriptions::<Log>("/log/*").await.unwrap();
    let mut updates = inbox.surf(Source::new(id, "main", "/log/late").unwrap()).await.unwrap();
    until("an unreachable source", || matches!(updates.freshness(), Freshness::Offline { .. })).await;
    // Back, at the same port, without the path.
    let publisher = spawn_node(publisher_dir.path()).await;
    assert_eq!(publisher.ticket(), ticket, "the node takes the port that it had");
    let logs = publisher.agent("main").unwrap().publications::<Log>("/log/*").await.unwrap();
    until("not available", || updates.freshness() == Freshness::NotAvailable).await;
    logs.open("/log/late").await.unwrap();
    assert_eq!(until_caught_up(&mut updates).await, Aeon(0), "an empty state is caught up too");
    logs.give("/log/late", "here".to_owned()).await.unwrap();
    let update = next_update(&mut updates).await;
    assert!(update.live && update.wave.as_deref() == Some("here"));
    publisher.shutdown().await.unwrap();
    follower.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_node_may_surf_its_own_publications() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let agent = node.agent("main").unwrap();
    let inbox = agent.subscriptions::<Log>("/log/*").await.unwrap();
    let source = Source::new(node.id(), "main", "/log/own").unwrap();
    let mut updates = inbox.surf(source.clone()).await.unwrap();
    assert_eq!(next(&mut updates).await, Event::Freshness(Freshness::NotAvailable));
    let logs = agent.publications::<Log>("/log/*").await.unwrap();
    logs.give("/log/own", "one".to_owned()).await.unwrap();
    let update = next_update(&mut updates).await;
    assert_eq!((update.aeon(), update.wave), (Aeon(1), None));
    assert_eq!(until_caught_up(&mut updates).await, Aeon(1));
    assert_eq!(inbox.with_rock(&source, |rock, _| rock.len()).await.unwrap(), 1);
    assert_eq!(node.metrics().replicas_now, 0, "no replica of one's own state");
    inbox.quit(&source).await.unwrap();
    assert_eq!(logs.read().len(), 1, "quitting leaves the publication");
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_of_a_publisher_begins_a_new_epoch() {
    let Pair { publisher, follower, publisher_dir, follower_dir: _dir } = Pair::new().await;
    let source = Source::new(publisher.id(), "main", "/sum").unwrap();
    let sums = publisher.agent("main").unwrap().publications::<Sum>("/sum").await.unwrap();
    sums.give_all("/sum", [1, 2, 3]).await.unwrap();
    publisher.shutdown().await.unwrap();
    let files = ["node.redb", "node.journal"].map(|name| publisher_dir.path().join(name));
    let backup = files.each_ref().map(|file| fs::read(file).unwrap());
    let publisher = spawn_node(publisher_dir.path()).await;
    follower.add_peer(&publisher.ticket()).await.unwrap();
    let sums = publisher.agent("main").unwrap().publications::<Sum>("/sum").await.unwrap();
    sums.give_all("/sum", [10, 20]).await.unwrap();
    let inbox = follower.agent("main").unwrap().subscriptions::<Sum>("/sum").await.unwrap();
    let mut updates = inbox.surf(source.clone()).await.unwrap();
    updates_until(&mut updates, Aeon(5)).await;
    let before = updates.cursor().unwrap();
    publisher.shutdown().await.unwrap();
    // The backup comes back as other files: new numbers in the file system.
    let restored = publisher_dir.path().join("restored");
    for (file, bytes) in files.iter().zip(backup) {
        fs::write(&restored, bytes).unwrap();
        fs::rename(&restored, file).unwrap();
    }
    let publisher = spawn_node(publisher_dir.path()).await;
    let sums = publisher.agent("main").unwrap().publications::<Sum>("/sum").await.unwrap();
    sums.give("/sum", 100).await.unwrap();
    let update = loop {
        let update = next_update(&mut updates).await;
        if update.cursor.epoch != before.epoch {
            break update;
        }
    };
    assert_eq!(update.wave, None, "a reader learns of the new epoch by a rock");
    within("the restored state", async {
        while inbox.with_rock(&source, |sum, aeon| (*sum, aeon)).await.unwrap() != (106, Aeon(4)) {
            updates.next().await;
        }
    })
    .await;
    publisher.shutdown().await.unwrap();
    follower.shutdown().await.unwrap();
}

/// Tables that are put back alone are brought up to date from the journal: nothing is lost.
#[tokio::test]
async fn older_tables_have_what_the_journal_has() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let sums = node.agent("main").unwrap().publications::<Sum>("/sum").await.unwrap();
    sums.give_all("/sum", [1, 2, 3]).await.unwrap();
    node.shutdown().await.unwrap();
    let file = dir.path().join("node.redb");
    let backup = fs::read(&file).unwrap();
    let node = spawn_node(dir.path()).await;
    let sums = node.agent("main").unwrap().publications::<Sum>("/sum").await.unwrap();
    sums.give_all("/sum", [10, 20]).await.unwrap();
    node.shutdown().await.unwrap();
    fs::write(&file, backup).unwrap();
    let node = spawn_node(dir.path()).await;
    let sums = node.agent("main").unwrap().publications::<Sum>("/sum").await.unwrap();
    assert_eq!(sums.with_rock("/sum", |sum, aeon| (*sum, aeon)).await.unwrap(), (36, Aeon(5)));
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_finds_a_reader_ahead_of_it_begins_a_new_epoch() {
    let Pair { publisher, follower, publisher_dir, follower_dir: _dir } = Pair::new().await;
    let source = Source::new(publisher.id(), "main", "/sum").unwrap();
    let sums = publisher.agent("main").unwrap().publications::<Sum>("/sum").await.unwrap();
    sums.give_all("/sum", [1, 2, 3]).await.unwrap();
    publisher.shutdown().await.unwrap();
    let files = ["node.redb", "node.journal", "node.run"].map(|name| publisher_dir.path().join(name));
    let backup = files.each_ref().map(|file| fs::read(file).unwrap());
    let publisher = spawn_node(publisher_dir.path()).await;
    follower.add_peer(&publisher.ticket()).await.unwrap();
    let sums = publisher.agent("main").unwrap().publications::<Sum>("/sum").await.unwrap();
    sums.give_all("/sum", [10, 20]).await.unwrap();
    let inbox = follower.agent("main").unwrap().subscriptions::<Sum>("/sum").await.unwrap();
    let mut updates = inbox.surf(source.clone()).await.unwrap();
    updates_until(&mut updates, Aeon(5)).await;
    let before = updates.cursor().unwrap();
    publisher.shutdown().await.unwrap();
    // In place, as a disk image that is rolled back: nothing tells the file from itself.
    for (file, bytes) in files.iter().zip(backup) {
        fs::write(file, bytes).unwrap();
    }
    let publisher = spawn_node(publisher_dir.path()).await;
    let _sums = publisher.agent("main").unwrap().publications::<Sum>("/sum").await.unwrap();
    within("a new epoch", async {
        while updates.cursor().unwrap().epoch == before.epoch {
            updates.next().await;
        }
    })
    .await;
    updates_until(&mut updates, Aeon(3)).await;
    assert_eq!(inbox.with_rock(&source, |sum, aeon| (*sum, aeon)).await.unwrap(), (6, Aeon(3)));
    publisher.shutdown().await.unwrap();
    follower.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_in_memory_is_gone_with_its_process() {
    let Pair { publisher, follower, publisher_dir, follower_dir: _dir } = Pair::new().await;
    let declare = |node: &Node| {
        let agent = node.agent("main").unwrap();
        async move { agent.publications_with::<Sum>("/sum", Durability::Memory).await.unwrap() }
    };
    let sums = declare(&publisher).await;
    give_many(&sums, "/sum", 20_000).await;
    let commits = publisher.metrics().commits;
    give_many(&sums, "/sum", 20_000).await;
    assert_eq!(publisher.metrics().commits, commits, "nothing goes to disk");
    let source = Source::new(publisher.id(), "main", "/sum").unwrap();
    let inbox = follower.agent("main").unwrap().subscriptions::<Sum>("/sum").await.unwrap();
    let mut updates = inbox.surf(source.clone()).await.unwrap();
    updates_until(&mut updates, Aeon(40_000)).await;
    publisher.shutdown().await.unwrap();
    let publisher = spawn_node(publisher_dir.path()).await;
    let sums = declare(&publisher).await;
    assert!(sums.read().is_empty());
    sums.give("/sum", 5).await.unwrap();
    within("the new state", async {
        while inbox.with_rock(&source, |sum, aeon| (*sum, aeon)).await.unwrap() != (5, Aeon(1)) {
            updates.next().await;
        }
    })
    .await;
    publisher.shutdown().await.unwrap();
    follower.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_look_at_a_rock_does_not_hold_up_who_gives() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let logs = node.agent("main").unwrap().publications::<Log>("/log").await.unwrap();
    logs.give("/log", "one".to_owned()).await.unwrap();
    let (held, holding) = std::sync::mpsc::channel();
    let (let_go, letting_go) = std::sync::mpsc::channel::<()>();
    let looker = logs.clone();
    let looking = tokio::task::spawn_blocking(move || {
        tokio::runtime::Handle::current().block_on(looker.with_rock("/log", |rock, _| {
            held.send(()).unwrap();
            letting_go.recv().unwrap();
            rock.len()
        }))
    });
    tokio::task::spawn_blocking(move || holding.recv().unwrap()).await.unwrap();
    for n in 2..=20 {
        assert_eq!(within("a give", logs.give("/log", "more".to_owned())).await.unwrap(), Aeon(n));
    }
    assert_eq!(logs.with_rock("/log", |rock, _| rock.len()).await.unwrap(), 20, "others see the newest rock");
    assert_eq!(node.metrics().rocks_copied, 1);
    let_go.send(()).unwrap();
    assert_eq!(looking.await.unwrap().unwrap(), 1, "who looks keeps what it looks at");
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_givers_share_a_flush_and_are_in_one_order() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let logs = node.agent("main").unwrap().publications::<Log>("/log").await.unwrap();
    let before = node.metrics().commits;
    let givers: Vec<_> = (0..64)
        .map(|giver| {
            let logs = logs.clone();
            tokio::spawn(async move {
                let mut aeons = Vec::new();
                for n in 0..50 {
                    aeons.push(logs.give("/log", format!("{giver}:{n}")).await.unwrap());
                }
                aeons
            })
        })
        .collect();
    let mut all = Vec::new();
    for giver in givers {
        let aeons = giver.await.unwrap();
        assert!(aeons.is_sorted());
        all.extend(aeons);
    }
    all.sort();
    assert_eq!(all, (1..=3_200).map(Aeon).collect::<Vec<_>>());
    let flushes = node.metrics().commits - before;
    assert!(flushes < 1_600, "3,200 waves in {flushes} flushes");
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_comes_back_at_another_port_is_found_without_any_look_up() {
    let Pair { publisher, follower, publisher_dir, follower_dir: _dir } = Pair::new().await;
    let source = Source::new(publisher.id(), "main", "/sum").unwrap();
    let sums = publisher.agent("main").unwrap().publications::<Sum>("/sum").await.unwrap();
    sums.give("/sum", 1).await.unwrap();
    let inbox = follower.agent("main").unwrap().subscriptions::<Sum>("/sum").await.unwrap();
    let mut updates = inbox.surf(source).await.unwrap();
    updates_until(&mut updates, Aeon(1)).await;
    let old = publisher.ticket();
    publisher.shutdown().await.unwrap();
    // Someone else takes the port meanwhile.
    let mut taken = None;
    until("the port", || {
        taken = std::net::UdpSocket::bind(raw::address(&old).ip_addrs().next().unwrap()).ok();
        taken.is_some()
    })
    .await;
    let publisher = spawn_node(publisher_dir.path()).await;
    assert_ne!(publisher.ticket(), old);
    let sums = publisher.agent("main").unwrap().publications::<Sum>("/sum").await.unwrap();
    sums.give("/sum", 1).await.unwrap();
    updates_until(&mut updates, Aeon(2)).await;
    drop(taken);
    publisher.shutdown().await.unwrap();
    follower.shutdown().await.unwrap();
}
