//! Data directories that earlier builds wrote, one of each storage format, are opened by this one:
//! their publications, their replica, what they wanted, and who may read what are all there.

use std::{fs, path::PathBuf};

use crate::common::{spawn_node, until, until_caught_up};
use groundswell::{
    Access, Aeon, GiveError, HandlerError, IdError, Node, OnRock, PeerId, Source, Surfed,
    lakes::{Json, JsonPatch, Log, Sum},
};
use tempfile::TempDir;

fn golden(format: u32) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/format-{format}"))
}

/// Fails on what it is to fail on.
struct Failing;

impl OnRock<Sum> for Failing {
    async fn on_rock(&mut self, surfed: Surfed<Sum>) -> Result<(), HandlerError> {
        if *surfed.rock() == 42 { Err("it was 42".into()) } else { Ok(()) }
    }
}

/// Writes the newest format's directory anew, when UPDATE_GOLDEN=1 says so. Only a new storage format
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
    logs.give_once("/log/once", "first", "once".to_owned()).await.unwrap();
    let documents = agent.publications::<Json>("/document").await.unwrap();
    let patch: JsonPatch = r#"[{"op":"add","path":"","value":{"b":[1,2.5,null],"a":"x"}}]"#.parse().unwrap();
    documents.give("/document", patch).await.unwrap();
    node.add_peer(&publisher.ticket()).await.unwrap();
    let inbox = agent.subscriptions::<Sum>("/till").await.unwrap();
    let mut updates = inbox.surf(Source::new(publisher.id(), "till", "/till").unwrap()).await.unwrap();
    until_caught_up(&mut updates).await;
    logs.secret("/log/many").await.unwrap();
    logs.allow("/log/many", [publisher.id()]).await.unwrap();
    logs.give("/log/killed", "gone".to_owned()).await.unwrap();
    logs.kill("/log/killed").await.unwrap();
    let program = agent.program(Failing).handles(&inbox).start();
    until("the fail", || inbox.read().values().all(|state| state.fail.is_some())).await;
    program.stop().await;
    node.shutdown().await.unwrap();
    publisher.shutdown().await.unwrap();
    fs::create_dir_all(golden(3)).unwrap();
    for file in ["node.redb", "secret.key"] {
        fs::copy(dir.path().join(file), golden(3).join(file)).unwrap();
    }
    fs::write(golden(3).join("publisher.txt"), publisher.id().to_string()).unwrap();
}

/// Opens the directory of a format, and looks at what each has.
async fn open(format: u32) -> (TempDir, Node) {
    let dir = TempDir::new().unwrap();
    for file in ["node.redb", "secret.key"] {
        fs::copy(golden(format).join(file), dir.path().join(file)).unwrap();
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
    let source = Source::new(publisher(format), "till", "/till").unwrap();
    assert_eq!(inbox.with_rock(&source, |sum, aeon| (*sum, aeon)).await.unwrap(), (42, Aeon(2)));
    let state = inbox.read()[&source].clone();
    assert!(state.stale(), "the replica is here, its source is not");
    assert_eq!(state.fail.as_deref(), (format > 1).then_some("it was 42"));
    let (many, empty) = ("/log/many".parse().unwrap(), "/log/empty".parse().unwrap());
    let allowed = if format > 1 { Access::Only([publisher(format)].into()) } else { Access::Public };
    assert_eq!((&logs.read()[&many].access, &logs.read()[&empty].access), (&allowed, &Access::Public));
    // And it goes on from there.
    assert_eq!(logs.give("/log/many", "more".to_owned()).await.unwrap(), Aeon(2_001));
    // An id is remembered where it was used.
    logs.give_once("/log/once", "first", "once".to_owned()).await.unwrap();
    let other = logs.give_once("/log/once", "first", "other".to_owned()).await;
    assert!(matches!(other, Err(GiveError::Id(IdError::Reused(_)))), "{other:?}");
    assert_eq!(logs.with_rock("/log/once", |rock, aeon| (rock.len(), aeon)).await.unwrap(), (1, Aeon(1)));
    // The tombstone of the one that was killed at aeon 1, where there is one.
    let reopened = logs.open("/log/killed").await.unwrap();
    assert_eq!(reopened, Aeon(if format > 1 { 2 } else { 0 }));
    (dir, node)
}

fn publisher(format: u32) -> PeerId {
    fs::read_to_string(golden(format).join("publisher.txt")).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_golden_data_directory_opens() {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        update().await;
    }
    let (_dir, node) = open(3).await;
    node.shutdown().await.unwrap();
}

/// The formats before access, tombstones and fails (1), and before ids (2), are raised: what is said of them from then on
/// is kept.
#[tokio::test]
async fn a_data_directory_of_an_older_format_is_raised() {
    for format in [1, 2] {
        let (dir, node) = open(format).await;
        node.agent("main").unwrap().secret("/log/many").await.unwrap();
        node.shutdown().await.unwrap();
        let node = spawn_node(dir.path()).await;
        let logs = node.agent("main").unwrap().publications::<Log>("/log/*").await.unwrap();
        assert_eq!(logs.read()[&"/log/many".parse().unwrap()].access, Access::secret());
        logs.give_once("/log/once", "first", "once".to_owned()).await.unwrap();
        assert_eq!(logs.with_rock("/log/once", |rock, aeon| (rock.len(), aeon)).await.unwrap(), (1, Aeon(1)));
        node.shutdown().await.unwrap();
    }
}
