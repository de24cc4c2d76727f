//! "A rock whose digest differs", in storage: it is refused with its path, and what else there is goes on.

use std::path::Path;

use crate::common::{Pair, spawn_node, until_caught_up};
use groundswell::{Aeon, DeclareError, Freshness, Source, SurfError, lakes::Log};
use groundswell_core::{encoding::decode, tide::RockInfo};
use redb::ReadableTable as _;

const ROCKS: redb::TableDefinition<'_, (u64, u64), &[u8]> = redb::TableDefinition::new("rocks");
const CHUNKS: redb::TableDefinition<'_, (u64, u64, u32), &[u8]> = redb::TableDefinition::new("chunks");

/// Flips a bit of each stored rock of the first tide, which is that of `/log/a`.
fn flip(dir: &Path) {
    let database = redb::Database::open(dir.join("node.redb")).unwrap();
    let txn = database.begin_write().unwrap();
    {
        let rocks = txn.open_table(ROCKS).unwrap();
        let mut chunks = txn.open_table(CHUNKS).unwrap();
        let mut rows = Vec::new();
        for rock in rocks.range((1, 0)..(2, 0)).unwrap() {
            let (_, body): (RockInfo, u64) = decode(rock.unwrap().1.value()).unwrap();
            let chunks = chunks.range((body, 0, 0)..=(body, 0, u32::MAX)).unwrap();
            rows.extend(chunks.map(|row| row.map(|(key, chunk)| (key.value(), chunk.value().to_vec())).unwrap()));
        }
        assert!(!rows.is_empty(), "there is a rock to damage");
        for (key, mut chunk) in rows {
            *chunk.last_mut().unwrap() ^= 1;
            chunks.insert(key, &chunk[..]).unwrap();
        }
    }
    txn.commit().unwrap();
}

/// "A rock whose digest differs", of a publication: it is not published, and another path is.
#[tokio::test]
async fn a_stored_rock_of_a_publication_whose_digest_differs() {
    let dir = tempfile::TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let logs = node.agent("main").unwrap().publications::<Log>("/log/*").await.unwrap();
    for path in ["/log/a", "/log/b"] {
        // Enough for a rock.
        logs.give_all(path, (0..5_000).map(|n| format!("{path} {n}"))).await.unwrap();
    }
    node.shutdown().await.unwrap();
    flip(dir.path());
    let node = spawn_node(dir.path()).await;
    let agent = node.agent("main").unwrap();
    for pattern in ["/log/a", "/log/*"] {
        let refused = agent.publications::<Log>(pattern).await.err().unwrap();
        assert!(matches!(&refused, DeclareError::Damaged { path, .. } if path.as_str() == "/log/a"), "{refused}");
        assert!(refused.to_string().contains("does not have its digest"), "{refused}");
        assert!(refused.to_string().contains("from a backup"), "says what to do: {refused}");
    }
    let logs = agent.publications::<Log>("/log/b").await.unwrap();
    assert_eq!(logs.with_rock("/log/b", |rock, aeon| (rock.len(), aeon)).await.unwrap(), (5_000, Aeon(5_000)));
    assert_eq!(logs.give("/log/b", "more".to_owned()).await.unwrap(), Aeon(5_001));
    node.shutdown().await.unwrap();
}

/// "A rock whose digest differs", of a replica: it says so, and to quit the source and to surf it again mends it.
#[tokio::test(flavor = "multi_thread")]
async fn a_stored_rock_of_a_replica_whose_digest_differs() {
    let Pair { publisher, follower, follower_dir, publisher_dir: _dir } = Pair::new().await;
    let logs = publisher.agent("main").unwrap().publications::<Log>("/log/*").await.unwrap();
    let [damaged, whole] = ["/log/a", "/log/b"].map(|path| Source::new(publisher.id(), "main", path).unwrap());
    let inbox = follower.agent("main").unwrap().subscriptions::<Log>("/log/*").await.unwrap();
    for source in [&damaged, &whole] {
        logs.give_all(source.path.as_str(), (0..5_000).map(|n| format!("{n}"))).await.unwrap();
        until_caught_up(&mut inbox.surf(source.clone()).await.unwrap()).await;
    }
    follower.shutdown().await.unwrap();
    flip(follower_dir.path());
    let follower = spawn_node(follower_dir.path()).await;
    // Another agent, which asks for it in this run.
    let other = follower.agent("other").unwrap().subscriptions::<Log>("/log/*").await.unwrap();
    let refused = other.surf(damaged.clone()).await.err().unwrap();
    assert!(matches!(refused, SurfError::Damaged { .. }), "{refused}");
    assert!(refused.to_string().contains("quit the source and surf it again"), "{refused}");
    let mut updates = other.surf(whole.clone()).await.unwrap();
    assert_eq!(until_caught_up(&mut updates).await, Aeon(5_000));
    // The agent that has followed it since the run before.
    let agent = follower.agent("main").unwrap();
    let refused = agent.subscriptions::<Log>("/log/*").await.err().unwrap();
    assert!(matches!(&refused, DeclareError::Damaged { path, .. } if *path == damaged.path), "{refused}");
    assert!(refused.to_string().contains("quit the source and surf it again"), "{refused}");
    agent.quit(&damaged).await.unwrap();
    follower.agent("other").unwrap().quit(&damaged).await.unwrap();
    let inbox = agent.subscriptions::<Log>("/log/*").await.unwrap();
    let mut updates = inbox.surf(damaged.clone()).await.unwrap();
    assert_eq!(until_caught_up(&mut updates).await, Aeon(5_000));
    assert_eq!(updates.freshness(), Freshness::Live);
    assert_eq!(inbox.with_rock(&damaged, |rock, _| rock.len()).await.unwrap(), 5_000);
    publisher.shutdown().await.unwrap();
    follower.shutdown().await.unwrap();
}
