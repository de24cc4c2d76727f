//! What bad input gets: a typed error that names the limit or the remedy, nothing stored,
//! nothing sent, the node alive.

use std::{convert::Infallible, fs};

use crate::common::{Pair, spawn_node};
use groundswell::{
    Aeon, DeclareError, GiveError, Lake, Node, OpenError, PathError, Source, SurfError,
    lakes::{Json, JsonPatch, Log, Sum},
};
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

#[tokio::test]
async fn overlapping_declaration() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let agent = node.agent("main").unwrap();
    let _logs = agent.publications::<Log>("/log/*").await.unwrap();
    for pattern in ["/log/*", "/log", "/log/deep/*", "/log/deep/er"] {
        let refused = agent.publications::<Sum>(pattern).await;
        assert!(matches!(refused, Err(DeclareError::Overlap { .. })), "{pattern}");
    }
    agent.publications::<Sum>("/logs").await.unwrap();
    agent.subscriptions::<Sum>("/log/*").await.unwrap();
    node.agent("other").unwrap().publications::<Sum>("/log/*").await.unwrap();
    node.shutdown().await.unwrap();
}

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

#[tokio::test]
async fn wave_or_give_over_its_limit() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let logs = node.agent("main").unwrap().publications::<Log>("/log/*").await.unwrap();
    // A line of so many bytes has three bytes of length before it.
    let largest = 1024 * 1024 - 3;
    let refused = logs.give("/log/a", "x".repeat(largest + 1)).await;
    assert!(matches!(refused, Err(GiveError::WaveTooLarge { .. })));
    assert!(logs.read().is_empty());
    assert_eq!(logs.give("/log/a", "x".repeat(largest)).await.unwrap(), Aeon(1));
    let too_many = logs.give_all("/log/b", (0..65_537).map(|_| String::new())).await;
    assert!(matches!(too_many, Err(GiveError::TooMany)));
    assert_eq!(logs.give_all("/log/b", (0..65_536).map(|_| String::new())).await.unwrap(), Aeon(65_536));
    node.shutdown().await.unwrap();
}

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

#[tokio::test]
async fn lake_that_differs_between_the_sides_parks_and_recovers() {
    let pair = Pair::new().await;
    let theirs = pair.publisher.agent("main").unwrap().publications::<LogTwo>("/log/*").await.unwrap();
    theirs.give("/log/a", "one".to_owned()).await.unwrap();
    let inbox = pair.follower.agent("main").unwrap().subscriptions::<Log>("/log/*").await.unwrap();
    let source = Source::new(pair.publisher.id(), "main", "/log/a").unwrap();
    let updates = inbox.surf(source.clone()).await.unwrap();
    crate::common::until("the refusal", || {
        matches!(updates.freshness(), groundswell::Freshness::Refused(groundswell::Refusal::LakeDiffers { .. }))
    })
    .await;
    let refused = inbox.with_rock(&source, |_, _| ()).await;
    assert!(refused.is_err(), "never a divergent state");
    pair.publisher.shutdown().await.unwrap();
    pair.follower.shutdown().await.unwrap();
}

#[tokio::test]
async fn unknown_peer() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let inbox = node.agent("main").unwrap().subscriptions::<Log>("/log/*").await.unwrap();
    let stranger = spawn_node(TempDir::new().unwrap().path()).await;
    let source = Source::new(stranger.id(), "main", "/log/a").unwrap();
    let refused = inbox.surf(source.clone()).await.err();
    match refused {
        Some(error @ SurfError::UnknownPeer { .. }) => assert!(error.to_string().contains("ticket"), "{error}"),
        other => panic!("{other:?}"),
    }
    assert!(inbox.read().is_empty(), "nothing was stored");
    node.add_peer(&stranger.ticket()).await.unwrap();
    inbox.surf(source).await.unwrap();
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

#[tokio::test]
async fn data_directory_unreadable() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "not a directory").unwrap();
    assert!(matches!(open_error(&file.join("below")).await, OpenError::Io { .. }));
    fs::create_dir_all(dir.path().join("data/secret.key")).unwrap();
    assert!(matches!(open_error(&dir.path().join("data")).await, OpenError::Io { .. }));
    let short = dir.path().join("short");
    fs::create_dir(&short).unwrap();
    fs::write(short.join("secret.key"), "too short").unwrap();
    assert!(matches!(open_error(&short).await, OpenError::BadKey { found: 9, .. }));
}

#[tokio::test]
async fn data_directory_truncated_or_overwritten() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let logs = node.agent("main").unwrap().publications::<Log>("/log/*").await.unwrap();
    logs.give_all("/log/a", (0..2_000).map(|n| format!("a line with some length, number {n}"))).await.unwrap();
    node.shutdown().await.unwrap();
    let file = dir.path().join("node.redb");
    let good = fs::read(&file).unwrap();
    for keep in [1, 63, 100, 4_096, 5_000, good.len() / 2, good.len() - 4_096] {
        // In place, so that the file's number stays.
        fs::write(&file, &good[..keep]).unwrap();
        let opened = Node::builder().data_dir(dir.path()).offline().bind("127.0.0.1:0".parse().unwrap()).spawn().await;
        match opened {
            Err(error) => assert!(matches!(error, OpenError::Damaged { .. }), "{keep}: {error}"),
            Ok(node) => {
                // What can be opened must be whole, or say that it is not.
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
    fs::write(&file, vec![7; good.len()]).unwrap();
    assert!(matches!(open_error(dir.path()).await, OpenError::Damaged { .. }));
    fs::write(&file, &good).unwrap();
    let node = spawn_node(dir.path()).await;
    let logs = node.agent("main").unwrap().publications::<Log>("/log/*").await.unwrap();
    assert_eq!(logs.with_rock("/log/a", |rock, _| rock.len()).await.unwrap(), 2_000);
    node.shutdown().await.unwrap();
}

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
    assert!(matches!(open_error(dir.path()).await, OpenError::NewerFormat { found: 99, .. }));
}
