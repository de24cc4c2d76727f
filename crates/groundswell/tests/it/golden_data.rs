//! A data directory that an earlier build wrote is opened by this one: its publications,
//! its replica and what it wanted are all there.

use std::{fs, path::PathBuf};

use crate::common::{spawn_node, until_caught_up};
use groundswell::{
    Aeon, Source,
    lakes::{Json, JsonPatch, Log, Sum},
};
use tempfile::TempDir;

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/data")
}

/// Writes the golden directory anew, when UPDATE_GOLDEN=1 says so. Only a new storage format
/// is a reason to.
async fn update() {
    let (dir, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let publisher = spawn_node(other.path()).await;
    let sums = publisher.agent("till").unwrap().publications::<Sum>("/till").await.unwrap();
    sums.give_all("/till", [40, 2]).await.unwrap();
    let node = spawn_node(dir.path()).await;
    let agent = node.agent("main").unwrap();
    let logs = agent.publications::<Log>("/log/*").await.unwrap();
    for n in 1..=2_000 {
        logs.give("/log/many", format!("line {n}, long enough to be made a rock of now and then")).await.unwrap();
    }
    logs.open("/log/empty").await.unwrap();
    let documents = agent.publications::<Json>("/document").await.unwrap();
    let patch: JsonPatch = r#"[{"op":"add","path":"","value":{"b":[1,2.5,null],"a":"x"}}]"#.parse().unwrap();
    documents.give("/document", patch).await.unwrap();
    node.add_peer(&publisher.ticket()).await.unwrap();
    let inbox = agent.subscriptions::<Sum>("/till").await.unwrap();
    let mut updates = inbox.surf(Source::new(publisher.id(), "till", "/till").unwrap()).await.unwrap();
    until_caught_up(&mut updates).await;
    node.shutdown().await.unwrap();
    publisher.shutdown().await.unwrap();
    fs::create_dir_all(golden()).unwrap();
    for file in ["node.redb", "secret.key"] {
        fs::copy(dir.path().join(file), golden().join(file)).unwrap();
    }
    fs::write(golden().join("publisher.txt"), publisher.id().to_string()).unwrap();
}

#[tokio::test]
async fn a_golden_data_directory_opens() {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        update().await;
    }
    let dir = TempDir::new().unwrap();
    for file in ["node.redb", "secret.key"] {
        fs::copy(golden().join(file), dir.path().join(file)).unwrap();
    }
    let node = spawn_node(dir.path()).await;
    let agent = node.agent("main").unwrap();
    let logs = agent.publications::<Log>("/log/*").await.unwrap();
    let (last, aeon) = logs.with_rock("/log/many", |rock, aeon| (rock.last().cloned(), aeon)).await.unwrap();
    assert_eq!(aeon, Aeon(2_000));
    assert!(last.unwrap().starts_with("line 2000,"));
    assert_eq!(logs.with_rock("/log/empty", |rock, aeon| (rock.len(), aeon)).await.unwrap(), (0, Aeon(0)));
    let documents = agent.publications::<Json>("/document").await.unwrap();
    let text = documents.with_rock("/document", |rock, _| rock.0.to_string()).await.unwrap();
    assert_eq!(text, r#"{"a":"x","b":[1,2.5,null]}"#);
    let inbox = agent.subscriptions::<Sum>("/till").await.unwrap();
    let peer = fs::read_to_string(golden().join("publisher.txt")).unwrap().parse().unwrap();
    let source = Source::new(peer, "till", "/till").unwrap();
    assert_eq!(inbox.with_rock(&source, |sum, aeon| (*sum, aeon)).await.unwrap(), (42, Aeon(2)));
    assert!(inbox.read()[&source].stale(), "the replica is here, its source is not");
    // And it goes on from there.
    assert_eq!(logs.give("/log/many", "more".to_owned()).await.unwrap(), Aeon(2_001));
    node.shutdown().await.unwrap();
}
