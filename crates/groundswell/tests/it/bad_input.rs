//! "What bad input gets: a typed error that names the limit or the remedy, nothing stored,
//! nothing sent, the node alive": each kind of input is a test that names it.

use std::{convert::Infallible, fs};

use crate::common::{Pair, next_update, spawn_node, until_caught_up};
use groundswell::{
    Aeon, DeclareError, GiveError, Lake, Node, OpenError, PathError, Publications, Source, SurfError,
    lakes::{Json, JsonPatch, Log, Sum},
};
use redb::{ReadableDatabase, ReadableTable};
use tempfile::TempDir;

/// Panics at the wave 13, after changing the rock.
struct Moody;
impl Lake for Moody {
    const NAME: &'static str = "moody";
    type Rock = Vec<u32>;
    type Wave = u32;
    type Error = Infallible;
    fn wash(rock: &mut Vec<u32>, wave: &u32) -> Result<(), Infallible> {
        rock.push(*wave);
        assert_ne!(*wave, 13, "unlucky");
        Ok(())
    }
}

/// Log, as its next version.
struct LogTwo;
impl Lake for LogTwo {
    const NAME: &'static str = "log";
    const VERSION: u32 = 2;
    type Rock = Vec<String>;
    type Wave = String;
    type Error = Infallible;
    fn wash(rock: &mut Vec<String>, wave: &String) -> Result<(), Infallible> {
        rock.push(wave.to_uppercase());
        Ok(())
    }
}

/// Gives what is to be refused, as the first of a path and to a path that is followed: nothing of it is
/// stored or sent. The follower's next update is the next good wave, at the next aeon, and a
/// restart finds the good waves alone.
async fn refused_leaves_nothing<L: Lake<Rock: PartialEq + std::fmt::Debug>>(
    good: impl Fn() -> L::Wave,
    refuse: impl AsyncFn(&Publications<L>, &str),
) {
    let Pair { publisher, follower, publisher_dir, follower_dir: _dir } = Pair::new().await;
    let waves = publisher.agent("main").unwrap().publications::<L>("/a/*").await.unwrap();
    refuse(&waves, "/a/x").await;
    assert!(waves.read().is_empty() && publisher.stored().unwrap().is_empty(), "the path does not exist");
    assert_eq!(waves.give("/a/x", good()).await.unwrap(), Aeon(1));
    let inbox = follower.agent("main").unwrap().subscriptions::<L>("/a/*").await.unwrap();
    let source = Source::new(publisher.id(), "main", "/a/x").unwrap();
    let mut updates = inbox.surf(source.clone()).await.unwrap();
    assert_eq!(until_caught_up(&mut updates).await, Aeon(1));
    let before = (publisher.metrics().waves_sent, follower.metrics().waves_applied, follower.metrics().rocks_received);
    refuse(&waves, "/a/x").await;
    assert_eq!(waves.give("/a/x", good()).await.unwrap(), Aeon(2), "no aeon is lost");
    let update = next_update(&mut updates).await;
    assert!(update.wave.is_some() && update.aeon() == Aeon(2), "the next thing to come is the good wave");
    let after = (publisher.metrics().waves_sent, follower.metrics().waves_applied, follower.metrics().rocks_received);
    assert_eq!(after, (before.0 + 1, before.1 + 1, before.2), "nothing else was sent");
    assert_eq!(publisher.metrics().waves_given, 2);
    let copy = |rock: &L::Rock, aeon| (groundswell_core::encoding::encode(rock).unwrap(), aeon);
    let rock = waves.with_rock("/a/x", copy).await.unwrap();
    assert_eq!(inbox.with_rock(&source, copy).await.unwrap(), rock);
    publisher.shutdown().await.unwrap();
    let publisher = spawn_node(publisher_dir.path()).await;
    let waves = publisher.agent("main").unwrap().publications::<L>("/a/*").await.unwrap();
    assert_eq!(waves.with_rock("/a/x", copy).await.unwrap(), rock, "the same after a restart");
    assert_eq!(waves.give("/a/x", good()).await.unwrap(), Aeon(3));
    publisher.shutdown().await.unwrap();
    follower.shutdown().await.unwrap();
}

/// "Malformed path or pattern".
#[tokio::test]
async fn malformed_path_or_pattern() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let agent = node.agent("main").unwrap();
    for pattern in ["", "/", "x", "/x/", "/*", "/a//b", "/*/b", &format!("/{}", "x".repeat(256)), &"/s".repeat(17)] {
        assert!(matches!(agent.publications::<Log>(pattern).await, Err(DeclareError::Path(_))), "{pattern}");
        assert!(matches!(agent.subscriptions::<Log>(pattern).await, Err(DeclareError::Path(_))), "{pattern}");
    }
    assert!(matches!(node.agent("a/b"), Err(PathError::BadName(_))));
    let logs = agent.publications::<Log>("/log/*").await.unwrap();
    for path in ["", "log", "/log/", "/log/*", "/log/\u{7}"] {
        assert!(matches!(logs.give(path, "x".to_owned()).await, Err(GiveError::Path(_))), "{path}");
    }
    let outside = logs.give("/other", "x".to_owned()).await;
    assert!(matches!(outside, Err(GiveError::NotDeclared { .. })));
    assert!(logs.read().is_empty(), "nothing was stored");
    assert_eq!(logs.give("/log/a", "x".to_owned()).await.unwrap(), Aeon(1), "the node is alive");
    node.shutdown().await.unwrap();
}

/// "Overlapping declaration", both ways; the declaration that was first goes on.
#[tokio::test]
async fn overlapping_declaration() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let agent = node.agent("main").unwrap();
    let logs = agent.publications::<Log>("/log/*").await.unwrap();
    let inbox = agent.subscriptions::<Log>("/in/*").await.unwrap();
    for pattern in ["/log/*", "/log", "/log/deep/*", "/log/deep/er"] {
        let refused = agent.publications::<Sum>(pattern).await.err().unwrap();
        assert!(matches!(refused, DeclareError::Overlap { .. }), "{pattern}");
        assert!(refused.to_string().contains("/log/*"), "names the other: {refused}");
        // Publications and subscriptions do not overlap each other.
        agent.subscriptions::<Sum>(pattern).await.unwrap().withdraw();
    }
    for pattern in ["/in/*", "/in", "/in/deep/*", "/in/deep/er"] {
        let refused = agent.subscriptions::<Sum>(pattern).await;
        assert!(matches!(refused, Err(DeclareError::Overlap { .. })), "{pattern}");
        agent.publications::<Sum>(pattern).await.unwrap().withdraw();
    }
    assert_eq!(logs.give("/log/deep/er", "the first handle works".to_owned()).await.unwrap(), Aeon(1));
    let own = Source::new(node.id(), "main", "/in/a").unwrap();
    inbox.surf(own).await.unwrap();
    agent.publications::<Sum>("/logs").await.unwrap();
    agent.subscriptions::<Sum>("/log/*").await.unwrap();
    node.agent("other").unwrap().publications::<Sum>("/log/*").await.unwrap();
    node.shutdown().await.unwrap();
}

/// "Wave refused by wash": nothing stored, nothing sent.
#[tokio::test(flavor = "multi_thread")]
async fn wave_refused_by_wash_leaves_nothing() {
    let refuse = async |sums: &Publications<Sum>, path: &str| {
        let refused = sums.give_all(path, [1, i64::MAX]).await;
        assert!(matches!(refused, Err(GiveError::Refused { .. })), "{refused:?}");
    };
    refused_leaves_nothing::<Sum>(|| 1, refuse).await;
}

/// "Wave refused by wash".
#[tokio::test]
async fn wave_refused_by_wash() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let agent = node.agent("main").unwrap();
    let sums = agent.publications::<Sum>("/sum").await.unwrap();
    // The first wave of all is refused: there is no state afterwards.
    let refused = sums.give_all("/sum", [i64::MAX, 1]).await;
    assert!(matches!(refused, Err(GiveError::Refused { index: 1, .. })));
    assert!(sums.read().is_empty());
    sums.give("/sum", i64::MAX).await.unwrap();
    let refused = sums.give("/sum", 1).await.unwrap_err();
    assert!(refused.to_string().contains("signed 64-bit"), "{refused}");
    // All or none: the good ones of a refused lot leave nothing.
    let refused = sums.give_all("/sum", [-1, -1, i64::MAX]).await;
    assert!(matches!(refused, Err(GiveError::Refused { index: 2, .. })));
    assert_eq!(sums.with_rock("/sum", |sum, aeon| (*sum, aeon)).await.unwrap(), (i64::MAX, Aeon(1)));
    assert_eq!(sums.give("/sum", -7).await.unwrap(), Aeon(2));
    assert_eq!(sums.with_rock("/sum", |sum, _| *sum).await.unwrap(), i64::MAX - 7);
    let documents = agent.publications::<Json>("/json").await.unwrap();
    let patch = |text: &str| text.parse::<JsonPatch>().unwrap();
    documents.give("/json", patch(r#"[{"op":"add","path":"","value":{"a":1}}]"#)).await.unwrap();
    let failing = patch(r#"[{"op":"replace","path":"/a","value":9},{"op":"test","path":"/a","value":1}]"#);
    assert!(matches!(documents.give("/json", failing).await, Err(GiveError::Refused { .. })));
    assert_eq!(documents.with_rock("/json", |rock, _| rock.0["a"].clone()).await.unwrap(), 1);
    node.shutdown().await.unwrap();
}

/// "Wash that panics": nothing stored, nothing sent, also where it is the first wave of a path.
#[tokio::test(flavor = "multi_thread")]
async fn wash_that_panics_leaves_nothing() {
    let refuse = async |moods: &Publications<Moody>, path: &str| {
        let refused = moods.give_all(path, [3, 13]).await;
        assert!(matches!(refused, Err(GiveError::Panicked { index: 1, .. })), "{refused:?}");
        let refused = moods.give(path, 13).await;
        assert!(matches!(refused, Err(GiveError::Panicked { index: 0, .. })), "{refused:?}");
    };
    refused_leaves_nothing::<Moody>(|| 1, refuse).await;
}

/// "Wash that panics".
#[tokio::test]
async fn wash_that_panics() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let moods = node.agent("main").unwrap().publications::<Moody>("/mood").await.unwrap();
    moods.give_all("/mood", [1, 2]).await.unwrap();
    let refused = moods.give_all("/mood", [3, 13]).await;
    match refused {
        Err(GiveError::Panicked { index: 1, message }) => assert!(message.contains("unlucky"), "{message}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(moods.with_rock("/mood", |rock, _| rock.clone()).await.unwrap(), [1, 2]);
    assert_eq!(moods.give("/mood", 4).await.unwrap(), Aeon(3));
    assert_eq!(moods.with_rock("/mood", |rock, _| rock.clone()).await.unwrap(), [1, 2, 4]);
    node.shutdown().await.unwrap();
}

/// A line of so many bytes is encoded with three bytes of length before it.
const LARGEST_LINE: usize = 1024 * 1024 - 3;

/// "Wave over its limit", and too much in one `give_all`: nothing stored, nothing sent.
#[tokio::test(flavor = "multi_thread")]
async fn wave_or_give_over_its_limit_leaves_nothing() {
    let refuse = async |logs: &Publications<Log>, path: &str| {
        let refused = logs.give(path, "x".repeat(LARGEST_LINE + 1)).await.unwrap_err();
        assert!(matches!(refused, GiveError::WaveTooLarge { .. }), "{refused}");
        assert!(refused.to_string().contains("1048576"), "names the limit: {refused}");
        let refused = logs.give_all(path, ["y".to_owned(), "x".repeat(LARGEST_LINE + 1)]).await;
        assert!(matches!(refused, Err(GiveError::WaveTooLarge { .. })), "{refused:?}");
        let refused = logs.give_all(path, (0..65_537).map(|_| String::new())).await.unwrap_err();
        assert!(matches!(refused, GiveError::TooMany), "{refused}");
        assert!(refused.to_string().contains("65536") && refused.to_string().contains("67108864"), "{refused}");
        let refused = logs.give_all(path, (0..65).map(|_| "x".repeat(LARGEST_LINE))).await;
        assert!(matches!(refused, Err(GiveError::TooMany)), "{refused:?}");
    };
    refused_leaves_nothing::<Log>(|| "good".to_owned(), refuse).await;
}

/// "Wave over its limit": what is at the limit is given.
#[tokio::test]
async fn wave_and_give_at_their_limits() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let agent = node.agent("main").unwrap();
    let logs = agent.publications::<Log>("/log/*").await.unwrap();
    assert_eq!(logs.give("/log/a", "x".repeat(LARGEST_LINE)).await.unwrap(), Aeon(1));
    assert_eq!(logs.give_all("/log/b", (0..65_536).map(|_| String::new())).await.unwrap(), Aeon(65_536));
    // 64 MiB of waves: 64 of the largest. One byte more is in another wave.
    let memory = agent.publications_with::<Log>("/memory/*", groundswell::Durability::Memory).await.unwrap();
    let most = || (0..64).map(|_| "x".repeat(LARGEST_LINE));
    let refused = memory.give_all("/memory/a", most().chain([String::new()])).await;
    assert!(matches!(refused, Err(GiveError::TooMany)), "{refused:?}");
    assert_eq!(memory.give_all("/memory/a", most()).await.unwrap(), Aeon(64));
    node.shutdown().await.unwrap();
}

/// A text of as many bytes as the newest wave says; 0 leaves it as it is.
struct Balloon;
impl Lake for Balloon {
    const NAME: &'static str = "balloon";
    type Rock = String;
    type Wave = u32;
    type Error = Infallible;
    fn wash(rock: &mut String, wave: &u32) -> Result<(), Infallible> {
        if *wave > 0 {
            *rock = "x".repeat(*wave as usize);
        }
        Ok(())
    }
}

/// "Rock over its limit", which is 256 MiB: refused where the rock is made, and nothing of it is kept.
#[tokio::test(flavor = "multi_thread")]
async fn rock_over_its_limit() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let agent = node.agent("main").unwrap();
    let balloons = agent.publications_with::<Balloon>("/b/*", groundswell::Durability::Memory).await.unwrap();
    // The length of so large a text has four bytes. After so many waves a rock is made.
    let largest = 256 * 1024 * 1024 - 4;
    let blown = |bytes: u32| std::iter::once(bytes).chain((0..2_500).map(|_| 0));
    balloons.give("/b/a", 5).await.unwrap();
    let source = Source::new(node.id(), "main", "/b/a").unwrap();
    let mut updates = agent.subscriptions::<Balloon>("/b/a").await.unwrap().surf(source).await.unwrap();
    until_caught_up(&mut updates).await;
    for path in ["/b/a", "/b/new"] {
        let refused = balloons.give_all(path, blown(largest + 1)).await.unwrap_err();
        assert!(matches!(refused, GiveError::RockTooLarge { bytes: 268_435_457 }), "{refused}");
        assert!(refused.to_string().contains("268435456"), "names the limit: {refused}");
    }
    assert_eq!(balloons.read().len(), 1);
    assert_eq!(balloons.with_rock("/b/a", |rock, aeon| (rock.len(), aeon)).await.unwrap(), (5, Aeon(1)));
    assert_eq!(balloons.give("/b/a", 6).await.unwrap(), Aeon(2));
    assert_eq!(next_update(&mut updates).await.wave, Some(6));
    // One byte less is a rock like any other.
    let made = node.metrics().rocks_made;
    assert_eq!(balloons.give_all("/b/a", blown(largest)).await.unwrap(), Aeon(2_503));
    assert_eq!(node.metrics().rocks_made, made + 1);
    node.shutdown().await.unwrap();
}

/// "Lake name or version that differs from what is stored".
#[tokio::test]
async fn lake_that_differs_from_what_is_stored() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let logs = node.agent("main").unwrap().publications::<Log>("/log/*").await.unwrap();
    logs.give("/log/a", "one".to_owned()).await.unwrap();
    node.shutdown().await.unwrap();
    let node = spawn_node(dir.path()).await;
    let agent = node.agent("main").unwrap();
    let refused = agent.publications::<LogTwo>("/log/*").await;
    assert!(matches!(refused, Err(DeclareError::LakeVersion { .. })));
    let refused = agent.publications::<Sum>("/log/*").await;
    assert!(matches!(refused, Err(DeclareError::LakeVersion { .. })));
    // Nothing was lost by trying.
    let logs = agent.publications::<Log>("/log/*").await.unwrap();
    assert_eq!(logs.with_rock("/log/a", |rock, _| rock.clone()).await.unwrap(), ["one"]);
    node.shutdown().await.unwrap();
}

/// "Lake name or version that differs between the sides": the subscription is parked, and goes on by itself
/// when the lakes agree.
#[tokio::test(flavor = "multi_thread")]
async fn lake_that_differs_between_the_sides_parks_and_recovers() {
    use groundswell::{Durability::Memory, Freshness, Refusal};
    let Pair { publisher, follower, publisher_dir, follower_dir: _dir } = Pair::new().await;
    let source = Source::new(publisher.id(), "main", "/log/a").unwrap();
    let theirs = publisher.agent("main").unwrap().publications_with::<LogTwo>("/log/*", Memory).await.unwrap();
    theirs.give("/log/a", "one".to_owned()).await.unwrap();
    let inbox = follower.agent("main").unwrap().subscriptions::<Log>("/log/*").await.unwrap();
    let mut updates = inbox.surf(source.clone()).await.unwrap();
    let differs = |freshness| matches!(freshness, Freshness::Refused(Refusal::LakeDiffers { .. }));
    crate::common::until("the version to be refused", || differs(updates.freshness())).await;
    let Freshness::Refused(refusal) = updates.freshness() else { panic!("{:?}", updates.freshness()) };
    assert!(refusal.to_string().contains("update the older side"), "says what to do: {refusal}");
    assert!(inbox.with_rock(&source, |_, _| ()).await.is_err(), "never a divergent state");
    assert_eq!(follower.metrics().rocks_received, 0, "nothing is sent");
    publisher.shutdown().await.unwrap();
    // Another lake altogether.
    let publisher = spawn_node(publisher_dir.path()).await;
    follower.add_peer(&publisher.ticket()).await.unwrap();
    let theirs = publisher.agent("main").unwrap().publications_with::<Sum>("/log/*", Memory).await.unwrap();
    theirs.give("/log/a", 7).await.unwrap();
    let name = || match updates.freshness() {
        Freshness::Refused(Refusal::LakeDiffers { published }) => published.name.to_string(),
        _ => String::new(),
    };
    crate::common::until("the name to be refused", || name() == "sum").await;
    publisher.shutdown().await.unwrap();
    // The right one: no one has to ask again.
    let publisher = spawn_node(publisher_dir.path()).await;
    follower.add_peer(&publisher.ticket()).await.unwrap();
    let theirs = publisher.agent("main").unwrap().publications_with::<Log>("/log/*", Memory).await.unwrap();
    theirs.give("/log/a", "one".to_owned()).await.unwrap();
    assert_eq!(until_caught_up(&mut updates).await, Aeon(1));
    assert_eq!(inbox.with_rock(&source, |rock, _| rock.clone()).await.unwrap(), ["one"]);
    publisher.shutdown().await.unwrap();
    follower.shutdown().await.unwrap();
}

/// "Lake name or version that differs from what is stored", of a state that is followed, and of a wish
/// that nothing has come of yet.
#[tokio::test(flavor = "multi_thread")]
async fn lake_that_differs_from_what_is_followed() {
    let Pair { publisher, follower, follower_dir, publisher_dir: _dir } = Pair::new().await;
    let logs = publisher.agent("main").unwrap().publications::<Log>("/log/*").await.unwrap();
    logs.give("/log/a", "one".to_owned()).await.unwrap();
    let here = Source::new(publisher.id(), "main", "/log/a").unwrap();
    let wished = Source::new(publisher.id(), "main", "/log/none").unwrap();
    let inbox = follower.agent("main").unwrap().subscriptions::<Log>("/log/*").await.unwrap();
    until_caught_up(&mut inbox.surf(here.clone()).await.unwrap()).await;
    inbox.surf(wished.clone()).await.unwrap();
    // Another agent, which asks for another lake.
    let other = follower.agent("other").unwrap().subscriptions::<Sum>("/log/*").await.unwrap();
    for source in [&here, &wished] {
        let refused = other.surf(source.clone()).await.err().unwrap();
        assert!(matches!(refused, SurfError::LakeVersion { .. }), "{refused}");
        assert!(refused.to_string().contains("quit it first"), "{refused}");
    }
    follower.shutdown().await.unwrap();
    for with_replica in [true, false] {
        let follower = spawn_node(follower_dir.path()).await;
        let agent = follower.agent("main").unwrap();
        if !with_replica {
            agent.quit(&here).await.unwrap();
        }
        let stored = follower.stored().unwrap();
        assert!(matches!(agent.subscriptions::<Sum>("/log/*").await, Err(DeclareError::LakeVersion { .. })));
        if with_replica {
            assert!(matches!(agent.subscriptions::<LogTwo>("/log/*").await, Err(DeclareError::LakeVersion { .. })));
        }
        assert_eq!(follower.stored().unwrap(), stored, "nothing was stored or lost by trying");
        let inbox = agent.subscriptions::<Log>("/log/*").await.unwrap();
        assert_eq!(inbox.read().contains_key(&here), with_replica);
        if with_replica {
            assert_eq!(inbox.with_rock(&here, |rock, _| rock.clone()).await.unwrap(), ["one"]);
        }
        follower.shutdown().await.unwrap();
    }
    publisher.shutdown().await.unwrap();
}

/// "An unknown peer".
#[tokio::test]
async fn unknown_peer() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let inbox = node.agent("main").unwrap().subscriptions::<Log>("/log/*").await.unwrap();
    let stranger_dir = TempDir::new().unwrap();
    let stranger = spawn_node(stranger_dir.path()).await;
    let source = Source::new(stranger.id(), "main", "/log/a").unwrap();
    let refused = inbox.surf(source.clone()).await.err();
    match refused {
        Some(error @ SurfError::UnknownPeer { .. }) => assert!(error.to_string().contains("ticket"), "{error}"),
        other => panic!("{other:?}"),
    }
    assert!(inbox.read().is_empty() && node.stored().unwrap().is_empty(), "nothing was stored");
    assert!(node.status().replicas.is_empty() && node.metrics().local_readers_now == 0);
    node.add_peer(&stranger.ticket()).await.unwrap();
    inbox.surf(source).await.unwrap();
    assert_eq!(node.stored().unwrap().len(), 1);
    assert!("not-a-ticket".parse::<groundswell::PeerTicket>().is_err());
    node.shutdown().await.unwrap();
    stranger.shutdown().await.unwrap();
}

async fn open_error(dir: &std::path::Path) -> OpenError {
    let opened = Node::builder().data_dir(dir).offline().bind("127.0.0.1:0".parse().unwrap()).spawn().await;
    match opened {
        Ok(_) => panic!("the data directory was opened"),
        Err(error) => error,
    }
}

/// "A data directory in use".
#[tokio::test]
async fn data_directory_in_use() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let error = open_error(dir.path()).await;
    assert!(matches!(error, OpenError::InUse { .. }));
    assert!(error.to_string().contains(&std::process::id().to_string()), "says who has it: {error}");
    node.shutdown().await.unwrap();
    spawn_node(dir.path()).await.shutdown().await.unwrap();
}

/// "A data directory that is unreadable": the error names the file, whichever it is.
#[tokio::test]
async fn data_directory_unreadable() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "not a directory").unwrap();
    assert!(matches!(open_error(&file.join("below")).await, OpenError::Io { .. }));
    for name in ["secret.key", "node.lock", "node.redb", "node.run"] {
        // In a new directory, and in one that was used before.
        for used in [false, true] {
            let data = dir.path().join(format!("{name}-{used}"));
            if used {
                spawn_node(&data).await.shutdown().await.unwrap();
                fs::remove_file(data.join(name)).unwrap();
            }
            fs::create_dir_all(data.join(name)).unwrap();
            match open_error(&data).await {
                OpenError::Io { path, .. } => assert_eq!(path, data.join(name), "used: {used}"),
                other => panic!("{name}, used: {used}: {other}"),
            }
            assert!(data.join(name).is_dir(), "it is left as it is");
        }
    }
    let short = dir.path().join("short");
    fs::create_dir(&short).unwrap();
    fs::write(short.join("secret.key"), "too short").unwrap();
    assert!(matches!(open_error(&short).await, OpenError::BadKey { found: 9, .. }));
}

/// "A data directory that is truncated": refused, and left as it is; or what was lost was not needed.
#[tokio::test]
async fn data_directory_truncated_or_overwritten() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let logs = node.agent("main").unwrap().publications::<Log>("/log/*").await.unwrap();
    logs.give_all("/log/a", (0..2_000).map(|n| format!("a line with some length, number {n}"))).await.unwrap();
    node.shutdown().await.unwrap();
    let file = dir.path().join("node.redb");
    let good = fs::read(&file).unwrap();
    let (mut refused, mut opened) = (0, 0);
    // The last of them drops nothing: the other way of the test is taken too.
    for keep in [0, 1, 63, 100, 4_096, 5_000, good.len() / 2, good.len() - 4_096, good.len()] {
        // In place, so that the file's number stays.
        fs::write(&file, &good[..keep]).unwrap();
        let node = Node::builder().data_dir(dir.path()).offline().bind("127.0.0.1:0".parse().unwrap()).spawn().await;
        match node {
            Err(error) => {
                refused += 1;
                assert!(matches!(error, OpenError::Damaged { .. }), "{keep}: {error}");
                assert!(error.to_string().contains("restore the directory from a backup"), "{error}");
                assert!(fs::read(&file).unwrap() == good[..keep], "{keep}: a refused file is left as it is");
            }
            Ok(node) => {
                // What can be opened must be whole, or say that it is not.
                opened += 1;
                let declared = node.agent("main").unwrap().publications::<Log>("/log/*").await;
                match declared {
                    Err(DeclareError::Damaged { .. } | DeclareError::Storage(_)) => {}
                    Err(other) => panic!("{keep}: {other}"),
                    Ok(logs) => {
                        let lines = logs.with_rock("/log/a", |rock, _| rock.len()).await.unwrap();
                        assert_eq!(lines, 2_000, "{keep}");
                    }
                }
                node.shutdown().await.unwrap();
            }
        }
    }
    assert!(refused >= 6 && opened >= 1, "{refused} refused, {opened} opened");
    let rubbish = vec![7; good.len()];
    fs::write(&file, &rubbish).unwrap();
    assert!(matches!(open_error(dir.path()).await, OpenError::Damaged { .. }));
    assert!(fs::read(&file).unwrap() == rubbish);
    // Gone altogether: an empty node in its place would lose everything without a word.
    fs::remove_file(&file).unwrap();
    assert!(matches!(open_error(dir.path()).await, OpenError::Damaged { .. }));
    assert!(!file.exists());
    fs::write(&file, &good).unwrap();
    let node = spawn_node(dir.path()).await;
    let logs = node.agent("main").unwrap().publications::<Log>("/log/*").await.unwrap();
    assert_eq!(logs.with_rock("/log/a", |rock, _| rock.len()).await.unwrap(), 2_000);
    node.shutdown().await.unwrap();
}

/// A start that a crash cut off before anything was acknowledged is done again: with the key alone, and
/// with half a storage beside its place.
#[tokio::test]
async fn data_directory_of_a_first_start_that_was_cut_off() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let id = node.id();
    node.shutdown().await.unwrap();
    for draft in [None, Some(&b""[..]), Some(b"redb\x1a"), Some(&[0; 5_000])] {
        for name in ["node.redb", "node.journal", "node.run"] {
            fs::remove_file(dir.path().join(name)).unwrap();
        }
        if let Some(draft) = draft {
            fs::write(dir.path().join("node.redb.new"), draft).unwrap();
        }
        let node = spawn_node(dir.path()).await;
        assert_eq!(node.id(), id);
        node.shutdown().await.unwrap();
        assert!(!dir.path().join("node.redb.new").exists());
    }
}

/// "A data directory of a newer format".
#[tokio::test]
async fn data_directory_of_a_newer_format() {
    let dir = TempDir::new().unwrap();
    spawn_node(dir.path()).await.shutdown().await.unwrap();
    let meta: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("meta");
    let database = redb::Database::open(dir.path().join("node.redb")).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(meta).unwrap().insert("format", &99u32.to_le_bytes()[..]).unwrap();
    txn.commit().unwrap();
    drop(database);
    let rows = || {
        let database = redb::Database::open(dir.path().join("node.redb")).unwrap();
        let table = database.begin_read().unwrap().open_table(meta).unwrap();
        let row = |row: Result<(redb::AccessGuard<'_, &str>, redb::AccessGuard<'_, &[u8]>), _>| {
            let (name, value) = row.unwrap();
            (name.value().to_owned(), value.value().to_vec())
        };
        table.iter().unwrap().map(row).collect::<Vec<_>>()
    };
    let before = rows();
    let error = open_error(dir.path()).await;
    assert!(matches!(error, OpenError::NewerFormat { found: 99, .. }));
    assert!(error.to_string().contains("use the newer program"), "{error}");
    assert_eq!(rows(), before, "its tables are not touched");
}
