//! Data directories that earlier builds wrote, one of each storage format, are opened by this one:
//! their publications, their replica, what they wanted, and who may read what are all there.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use crate::common::{spawn_node, until, until_caught_up};
use data_encoding::HEXLOWER;
use groundswell::{
    Access, Aeon, GiveError, HandlerError, IdError, Machine, MachineState, Manager, Node, OnRock, PeerId, Role, Source,
    Surfed,
    lakes::{Json, JsonPatch, Log, Sum},
};
use tempfile::TempDir;

fn golden(format: u32) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/format-{format}"))
}

/// The newest format.
const NEWEST: u32 = 5;

/// The file of a packed directory.
fn packed(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/directories/{name}.txt"))
}

/// Writes the files of a directory as text. A journal is mostly zeros: each file is its name and length, and then each stretch of
/// 64 bytes that is not zero, with its offset.
fn pack(dir: &Path, files: &[&str], what: &str) -> String {
    let mut text = format!(
        "# {what} Each file: its name and length; then, for each stretch that is not zero, offset and bytes.\n"
    );
    for file in files {
        let bytes = fs::read(dir.join(file)).unwrap();
        writeln!(text, "file {file} {}", bytes.len()).unwrap();
        for (n, stretch) in bytes.chunks(64).enumerate() {
            let Some(first) = stretch.iter().position(|byte| *byte != 0) else { continue };
            let end = stretch.iter().rposition(|byte| *byte != 0).unwrap() + 1;
            writeln!(text, "{} {}", 64 * n + first, HEXLOWER.encode(&stretch[first..end])).unwrap();
        }
    }
    text
}

/// Makes the directory that a file describes.
fn unpack(name: &str) -> TempDir {
    let dir = TempDir::new().unwrap();
    let text = fs::read_to_string(packed(name)).unwrap();
    for file in text.split("file ").skip(1) {
        let mut lines = file.lines();
        let (name, length) = lines.next().unwrap().split_once(' ').unwrap();
        let mut bytes = vec![0; length.parse().unwrap()];
        for line in lines {
            let (offset, stretch) = line.split_once(' ').unwrap();
            let stretch = HEXLOWER.decode(stretch.as_bytes()).unwrap();
            bytes[offset.parse::<usize>().unwrap()..][..stretch.len()].copy_from_slice(&stretch);
        }
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
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
    fs::write(dir.path().join("publisher.txt"), publisher.id().to_string()).unwrap();
    let files = ["secret.key", "node.redb", "node.journal", "node.run", "publisher.txt"];
    let text = pack(dir.path(), &files, "A node of format 5.");
    fs::write(packed(&format!("node-{NEWEST}")), text).unwrap();
}

/// Opens the directory of a format, and looks at what each has.
async fn open(format: u32) -> (TempDir, Node) {
    let dir = match format {
        NEWEST => unpack(&format!("node-{format}")),
        _ => TempDir::new().unwrap(),
    };
    for file in ["node.redb", "secret.key", "publisher.txt"] {
        if format != NEWEST {
            fs::copy(golden(format).join(file), dir.path().join(file)).unwrap();
        }
    }
    let publisher: PeerId = fs::read_to_string(dir.path().join("publisher.txt")).unwrap().parse().unwrap();
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
    let source = Source::new(publisher, "till", "/till").unwrap();
    assert_eq!(inbox.with_rock(&source, |sum, aeon| (*sum, aeon)).await.unwrap(), (42, Aeon(2)));
    let state = inbox.read()[&source].clone();
    assert!(state.stale(), "the replica is here, its source is not");
    assert_eq!(state.fail.as_deref(), (format > 1).then_some("it was 42"));
    let (many, empty) = ("/log/many".parse().unwrap(), "/log/empty".parse().unwrap());
    let allowed = if format > 1 { Access::Only([publisher].into()) } else { Access::Public };
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

#[tokio::test]
async fn a_golden_data_directory_opens() {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        update().await;
    }
    let (_dir, node) = open(NEWEST).await;
    node.shutdown().await.unwrap();
}

/// The formats before access, tombstones and fails (1), before ids (2), and before bodies of rocks and the journal (3), are raised:
/// later changes are kept, and so are the files of before until the next start.
#[tokio::test]
async fn a_data_directory_of_an_older_format_is_raised() {
    for format in [1, 2, 3] {
        let (dir, node) = open(format).await;
        assert!(dir.path().join("before-format-5/node.redb").is_file());
        node.agent("main").unwrap().secret("/log/many").await.unwrap();
        node.shutdown().await.unwrap();
        let node = spawn_node(dir.path()).await;
        assert!(!dir.path().join("before-format-5").exists());
        let logs = node.agent("main").unwrap().publications::<Log>("/log/*").await.unwrap();
        assert_eq!(logs.read()[&"/log/many".parse().unwrap()].access, Access::secret());
        logs.give_once("/log/once", "first", "once".to_owned()).await.unwrap();
        assert_eq!(logs.with_rock("/log/once", |rock, aeon| (rock.len(), aeon)).await.unwrap(), (1, Aeon(1)));
        node.shutdown().await.unwrap();
    }
}

/// A machine of format 4, which was killed, and its manager: keys come from their own file and its journal.
#[tokio::test(flavor = "multi_thread")]
async fn the_keys_of_format_4_are_brought_in() {
    let (machine_dir, manager_dir) = (unpack("machine-4"), unpack("manager-4"));
    for restart in 0..2 {
        let (node, other) = (spawn_node(machine_dir.path()).await, spawn_node(manager_dir.path()).await);
        assert_eq!((node.role(), other.role()), (Some(Role::Machine), Some(Role::Manager)));
        let machine = Machine::builder().node(node.clone()).spawn().await.unwrap();
        let manager = Manager::builder().node(other.clone()).spawn().await.unwrap();
        assert_eq!(machine.get_machine_state(), MachineState::Claimed { manager: manager.id() });
        assert_eq!(manager.list_machine_ids(), [machine.id()]);
        assert_eq!(machine.get_kv_value("price").await.unwrap().unwrap().value, "4");
        assert_eq!(machine.get_kv_value("gone").await.unwrap(), None);
        assert_eq!(manager.get_kv_value(machine.id(), "price").await.unwrap().unwrap().value, "4");
        // Its id is remembered: nothing is done again.
        machine.set_kv_value_once("sold", "sale-1", "1").await.unwrap();
        assert!(machine.set_kv_value_once("sold", "sale-1", "2").await.is_err());
        let logs = node.agent("main").unwrap().publications::<Log>("/log/*").await.unwrap();
        let log = logs.with_rock("/log/a", |rock, aeon| (rock.clone(), aeon)).await.unwrap();
        assert_eq!(log, (["one", "two", "three"].map(str::to_owned).to_vec(), Aeon(3)));
        for (node, dir) in [(node, &machine_dir), (other, &manager_dir)] {
            assert_eq!(dir.path().join("before-format-5/kv.redb").is_file(), restart == 0);
            assert!(!dir.path().join("kv.redb").exists() && !dir.path().join("kv.journal").exists());
            node.shutdown().await.unwrap();
        }
    }
}

/// Files of the keys that are missing are named, and nothing is raised without them.
#[tokio::test]
async fn a_directory_of_format_4_without_its_keys_is_refused() {
    let dir = unpack("manager-4");
    for (file, says) in
        [("kv.journal", "is missing, and may hold writes"), ("kv.redb", "it is gone, and so is kv.journal")]
    {
        fs::remove_file(dir.path().join(file)).unwrap();
        let node = Node::builder().data_dir(dir.path()).offline().bind("127.0.0.1:0".parse().unwrap()).spawn().await;
        let error = node.err().unwrap().to_string();
        assert!(error.contains(says), "{error}");
    }
}
