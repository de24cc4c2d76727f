//! A side that answers "I do not know this pair" ends nothing: it may have been started without its files, or have lost
//! them. Only a signed release ends a pairing, and only the one that it was made for.

use std::{path::Path, time::Duration};

use groundswell::{
    ClaimError, ClaimFailure, ClaimRefusal, Inspected, KvLink, KvOpenError, LinkStatus, Machine, MachineState, Manager,
    Node, OpenError, Role,
};
use groundswell_core::{
    encoding::encode,
    kv::{Release, pairing::PeerKey, wire::KvMessage},
    wire::StreamKind,
};
use iroh::{
    Endpoint, EndpointAddr, SecretKey,
    endpoint::{ReadError, ReadExactError},
};
use tempfile::TempDir;
use tokio::sync::watch;

use super::{
    common::{PATIENCE, Pair, is_current, manager_builder, pair, spawn_machine, spawn_manager, until_put, within},
    raw::{self, NOT_PAIRED, RELEASED, Stored, address, endpoint, hear, knock, say},
};

/// The files of a directory besides its key.
const FILES: [&str; 3] = ["node.redb", "node.journal", "node.run"];

/// The close code of a protocol violation.
const VIOLATION: u64 = 5;

fn move_files(from: &Path, to: &Path) {
    for file in FILES {
        std::fs::rename(from.join(file), to.join(file)).unwrap();
    }
}

async fn until_not_known(status: &mut watch::Receiver<LinkStatus>) {
    let not_known = |status: &LinkStatus| matches!(status.link, KvLink::NotKnown { .. }) && !status.current;
    within("the other side not to know the pair", status.wait_for(not_known)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_was_started_without_its_files_has_its_machine_when_they_are_back() {
    let Pair { machine, manager, id, machine_dir: _dir, manager_dir } = Pair::new().await;
    let mut status = machine.status_changes();
    manager.shutdown().await.unwrap();
    let kept = TempDir::new().unwrap();
    move_files(manager_dir.path(), kept.path());
    let without = spawn_manager(manager_dir.path()).await;
    assert_eq!(without.list_machine_ids(), []);
    // Its port was among its files.
    machine.node().add_peer(&without.node().ticket()).await.unwrap();
    until_not_known(&mut status).await;
    assert_eq!(machine.get_machine_state(), MachineState::Claimed { manager: without.id() });
    machine.set_kv_value("stock", "1").await.unwrap();
    without.shutdown().await.unwrap();
    move_files(kept.path(), manager_dir.path());
    let manager = spawn_manager(manager_dir.path()).await;
    assert_eq!(manager.list_machine_ids(), [id]);
    until_put(&mut manager.watch_kv_key(id, "stock").await.unwrap(), "stock", "1").await;
    manager.set_kv_value(id, "price", "2").await.unwrap();
    until_put(&mut machine.watch_kv_key("price").await.unwrap(), "price", "2").await;
    within("the machine to be online", status.wait_for(is_current)).await.unwrap();
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_was_started_without_its_files_is_the_managers_when_they_are_back() {
    let Pair { machine, manager, id, machine_dir, manager_dir: _dir } = Pair::new().await;
    let mut status = manager.machine_status_changes(id).unwrap();
    machine.set_kv_value("stock", "1").await.unwrap();
    until_put(&mut manager.watch_kv_key(id, "stock").await.unwrap(), "stock", "1").await;
    machine.shutdown().await.unwrap();
    let kept = TempDir::new().unwrap();
    move_files(machine_dir.path(), kept.path());
    let without = spawn_machine(machine_dir.path()).await;
    manager.node().add_peer(&without.node().ticket()).await.unwrap();
    until_not_known(&mut status).await;
    assert_eq!(manager.list_machine_ids(), [id]);
    // It is written for and read as one that is away.
    assert_eq!(manager.get_kv_value(id, "stock").await.unwrap().unwrap().value, "1");
    manager.set_kv_value(id, "price", "2").await.unwrap();
    without.shutdown().await.unwrap();
    move_files(kept.path(), machine_dir.path());
    let machine = spawn_machine(machine_dir.path()).await;
    assert_eq!(machine.get_machine_state(), MachineState::Claimed { manager: manager.id() });
    until_put(&mut machine.watch_kv_key("price").await.unwrap(), "price", "2").await;
    within("the manager to be online", status.wait_for(is_current)).await.unwrap();
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

/// The machine has stored a claim, and the manager has not, or has lost it: the same manager claims again and gets the same
/// document, and another can once the machine is released by its own person.
#[tokio::test(flavor = "multi_thread")]
async fn a_pair_that_only_the_machine_knows_is_claimed_again_or_released_at_the_machine() {
    let Pair { machine, manager, id, machine_dir: _dir, manager_dir } = Pair::new().await;
    machine.set_kv_value("stock", "1").await.unwrap();
    let mut status = machine.status_changes();
    let lose = async |manager: Manager| {
        manager.shutdown().await.unwrap();
        let lost = TempDir::new().unwrap();
        move_files(manager_dir.path(), lost.path());
        let manager = spawn_manager(manager_dir.path()).await;
        machine.node().add_peer(&manager.node().ticket()).await.unwrap();
        manager
    };
    let manager = lose(manager).await;
    until_not_known(&mut status).await;
    let dir = TempDir::new().unwrap();
    let other = spawn_manager(dir.path()).await;
    let error = other.begin_claim(&machine.ticket()).await.unwrap_err();
    assert!(matches!(error, ClaimError::Claim(ClaimFailure::Refused(ClaimRefusal::Taken))), "{error}");
    assert_eq!(pair(&machine, &manager).await, id);
    until_put(&mut manager.watch_kv_key(id, "stock").await.unwrap(), "stock", "1").await;
    let manager = lose(manager).await;
    until_not_known(&mut machine.status_changes()).await;
    machine.release().await.unwrap();
    assert_eq!(pair(&machine, &other).await, id);
    until_put(&mut other.watch_kv_key(id, "stock").await.unwrap(), "stock", "1").await;
    for node in [machine.node(), manager.node(), other.node()] {
        node.shutdown().await.unwrap();
    }
}

/// A node on loopback in this directory, of which no role is said.
async fn spawn_plain(dir: &Path) -> Node {
    within("the directory", async {
        loop {
            match Node::builder().data_dir(dir).offline().bind("127.0.0.1:0".parse().unwrap()).spawn().await {
                Ok(node) => return node,
                Err(error) => assert!(in_use(&error.to_string()), "{error}"),
            }
            // A poll for a condition: time is under test only as patience.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

/// What is in a directory that no node has.
async fn inspected(dir: &Path) -> Inspected {
    within("the directory", async {
        loop {
            match Node::builder().data_dir(dir).inspect().await {
                Ok(inspected) => return inspected.unwrap(),
                Err(error) => assert!(in_use(&error.to_string()), "{error}"),
            }
            // A poll for a condition: time is under test only as patience.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

/// A directory has one role for good: peers are asked to come again until it is open, and it opens in no other role.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_keeps_its_role() {
    let Pair { machine, manager, id, machine_dir, manager_dir } = Pair::new().await;
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
    assert_eq!(inspected(machine_dir.path()).await.role, Some(Role::Machine));
    let node = spawn_plain(machine_dir.path()).await;
    assert_eq!(node.role(), Some(Role::Machine));
    let impostor = Impostor::of(manager_dir.path(), address(&node.ticket())).await;
    // It may be turned away before it has said a word.
    let (_connection, _send, mut recv) =
        raw::begin(&impostor.endpoint, impostor.to.clone(), StreamKind::Document).await;
    let code = raw::ended(&mut recv).await;
    assert!(code != NOT_PAIRED && code != RELEASED, "told that there is no such pair: {code}");
    impostor.endpoint.close().await;
    let error = Manager::builder().node(node.clone()).spawn().await.unwrap_err();
    assert!(matches!(error, KvOpenError::Node(OpenError::OtherRole { .. })), "{error}");
    let machine = Machine::builder().node(node.clone()).spawn().await.unwrap();
    let manager = spawn_manager(manager_dir.path()).await;
    let mut status = manager.machine_status_changes(id).unwrap();
    within("the machine to be online", status.wait_for(is_current)).await.unwrap();
    for node in [machine.node(), manager.node()] {
        node.shutdown().await.unwrap();
    }
}

/// Files that an earlier run had and that are gone are named, and nothing is made in their place.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_lacks_files_of_its_own_is_refused() {
    let Pair { machine, manager, id, machine_dir: _dir, manager_dir } = Pair::new().await;
    manager.set_kv_value(id, "price", "2").await.unwrap();
    manager.shutdown().await.unwrap();
    let kept = TempDir::new().unwrap();
    move_files(manager_dir.path(), kept.path());
    for gone in [&["node.redb"][..], &["node.journal"], &["node.redb", "node.journal"]] {
        for file in FILES {
            let _ = std::fs::remove_file(manager_dir.path().join(file));
            if !gone.contains(&file) {
                std::fs::copy(kept.path().join(file), manager_dir.path().join(file)).unwrap();
            }
        }
        let node = Node::builder().data_dir(manager_dir.path()).offline().bind("127.0.0.1:0".parse().unwrap());
        let error = node.spawn().await.err().unwrap();
        match &error {
            OpenError::Damaged { path, reason } if gone.contains(&"node.redb") => {
                assert!(path.ends_with("node.redb") && reason.contains("it is gone"), "{error}");
            }
            OpenError::JournalMissing { path } => assert!(path.ends_with("node.journal"), "{error}"),
            error => panic!("{gone:?}: {error}"),
        }
        assert!(gone.iter().all(|file| !manager_dir.path().join(file).exists()), "something was made: {gone:?}");
    }
    move_files(kept.path(), manager_dir.path());
    let manager = spawn_manager(manager_dir.path()).await;
    assert_eq!(manager.get_kv_value(id, "price").await.unwrap().unwrap().value, "2");
    for node in [machine.node(), manager.node()] {
        node.shutdown().await.unwrap();
    }
}

/// A peer that speaks by hand with the identity of one side.
struct Impostor {
    endpoint: Endpoint,
    /// The key that this side's author signs with.
    author: SecretKey,
    document: [u8; 32],
    to: EndpointAddr,
}

impl Impostor {
    async fn of(dir: &Path, to: EndpointAddr) -> Self {
        let stored = Stored::read(dir);
        let author = blake3::derive_key("groundswell kv v1: the author of a node", &stored.key.to_bytes());
        let document = stored.documents()[0];
        Self { endpoint: endpoint(Some(stored.key)).await, author: SecretKey::from_bytes(&author), document, to }
    }

    fn release(&self) -> Release {
        let key = |id: iroh::EndpointId| PeerKey(*id.as_bytes());
        Release { document: self.document, by: key(self.endpoint.id()), to: key(self.to.id) }
    }

    /// Says hello for a document, then this; the code with which the connection is closed.
    async fn say(&self, document: [u8; 32], said: Said) -> u64 {
        let mut knock = knock(&self.endpoint, self.to.clone(), document).await;
        if knock.hello.is_some() {
            match said {
                Said::Signed(signature) => {
                    say(&mut knock.send, &KvMessage::Released { signature: signature.into() }).await;
                }
                // As a version before said it.
                Said::Unsigned => knock.send.write_all(&[1, 0, 0, 0, 4]).await.unwrap(),
            }
            // Until the other side ends it.
            while within("the end", hear(&mut knock.recv)).await.is_some() {}
        }
        knock.ended().await
    }

    fn sign(&self, release: Release) -> Said {
        Said::Signed(self.author.sign(&release.to_bytes()).to_bytes())
    }
}

enum Said {
    Signed([u8; 64]),
    Unsigned,
}

/// Whoever speaks for one side, with all but its author's signature of this very release, ends nothing; with it, it does.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_is_forged_or_of_another_pair_ends_nothing() {
    for of_machine in [true, false] {
        let Pair { machine, manager, id, machine_dir, manager_dir } = Pair::new().await;
        let (impostor, stands): (_, Box<dyn Fn() -> bool>) = if of_machine {
            machine.shutdown().await.unwrap();
            let manager = manager.clone();
            let to = address(&manager.node().ticket());
            let stands = move || manager.machine_status(id).unwrap().link != KvLink::Released;
            (Impostor::of(machine_dir.path(), to).await, Box::new(stands))
        } else {
            manager.shutdown().await.unwrap();
            let machine = machine.clone();
            let to = address(&machine.ticket());
            let stands = move || machine.get_machine_state() != MachineState::Unclaimed;
            (Impostor::of(manager_dir.path(), to).await, Box::new(stands))
        };
        let right = impostor.release();
        let another = SecretKey::from_bytes(&[9; 32]);
        let wrong = [
            Said::Unsigned,
            Said::Signed([0; 64]),
            // By who is not its author, the node itself included.
            Said::Signed(another.sign(&right.to_bytes()).to_bytes()),
            Said::Signed(impostor.endpoint.secret_key().sign(&right.to_bytes()).to_bytes()),
            // Of another document, of another pair, of the other side, and of something else.
            impostor.sign(Release { document: [7; 32], ..right }),
            impostor.sign(Release { to: PeerKey(*another.public().as_bytes()), ..right }),
            impostor.sign(Release { by: right.to, to: right.by, ..right }),
            Said::Signed(impostor.author.sign(&encode(&right.document).unwrap()).to_bytes()),
        ];
        for (number, said) in wrong.into_iter().enumerate() {
            assert_eq!(impostor.say(right.document, said).await, VIOLATION, "of the machine {of_machine}, {number}");
            assert!(stands(), "of the machine {of_machine}, {number}");
        }
        // For a document that is not shared nothing is read.
        assert_eq!(impostor.say([7; 32], impostor.sign(Release { document: [7; 32], ..right })).await, NOT_PAIRED);
        // Nor from a peer that is not paired, whatever it has.
        let stranger = Impostor { endpoint: endpoint(None).await, ..impostor };
        let knocked = knock(&stranger.endpoint, stranger.to.clone(), right.document).await;
        assert!(knocked.hello.is_none());
        assert!(stands());
        let author = stranger.author.clone();
        let key = Stored::read(if of_machine { machine_dir.path() } else { manager_dir.path() }).key;
        let impostor = Impostor { endpoint: endpoint(Some(key)).await, author, ..stranger };
        // All of that was close: this one is right.
        assert_eq!(impostor.say(right.document, impostor.sign(right)).await, RELEASED);
        assert!(!stands());
        // And is answered in the same way again, for a side that has missed the answer.
        assert_eq!(impostor.say(right.document, impostor.sign(right)).await, RELEASED);
        machine.shutdown().await.unwrap();
        manager.shutdown().await.unwrap();
    }
}

/// A release that was right is replayed after the two have become a pair again.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_of_an_earlier_pairing_does_not_end_the_next_one() {
    let Pair { machine, manager, id, machine_dir, manager_dir: _dir } = Pair::new().await;
    machine.shutdown().await.unwrap();
    let mut impostor = Impostor::of(machine_dir.path(), address(&manager.node().ticket())).await;
    let earlier = impostor.release();
    let machine = spawn_machine(machine_dir.path()).await;
    machine.release().await.unwrap();
    let mut status = manager.machine_status_changes(id).unwrap();
    within("the manager to know", status.wait_for(|status| status.link == KvLink::Released)).await.unwrap();
    pair(&machine, &manager).await;
    let mut status = manager.machine_status_changes(id).unwrap();
    within("the pair", status.wait_for(is_current)).await.unwrap();
    machine.shutdown().await.unwrap();
    assert_eq!(impostor.say(earlier.document, impostor.sign(earlier)).await, NOT_PAIRED);
    impostor.document = Stored::read(machine_dir.path()).documents()[0];
    assert_ne!(impostor.document, earlier.document, "a document that was released is not shared again");
    assert_eq!(impostor.say(impostor.document, impostor.sign(earlier)).await, VIOLATION);
    let machine = spawn_machine(machine_dir.path()).await;
    machine.set_kv_value("after", "1").await.unwrap();
    until_put(&mut manager.watch_kv_key(id, "after").await.unwrap(), "after", "1").await;
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

/// Counts of the answers that dialling machines got while their manager was restarted.
#[derive(Debug, Default)]
struct Answers {
    answered: u64,
    later: u64,
    unreachable: u64,
}

/// Starts a manager at the port of its previous run. It retries at once while the port or the directory is still held, so
/// that the machines that dial meet every moment of the start.
async fn spawn_manager_at(dir: &Path, at: std::net::SocketAddr) -> Manager {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut last = "no start has ended".to_string();
    loop {
        match tokio::time::timeout_at(deadline, manager_builder(dir).bind(at).spawn()).await {
            Ok(Ok(manager)) => return manager,
            Ok(Err(error)) => last = error.to_string(),
            Err(_) => {}
        }
        if tokio::time::Instant::now() >= deadline {
            panic!("the manager did not start at {at} within {PATIENCE:?}: {last}\n{}", holders(at.port()));
        }
        assert!(in_use(&last), "{last}");
        // A poll for a condition: time is under test only as patience.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The UDP sockets of this host at a port, as the kernel lists them, for a message.
fn holders(port: u16) -> String {
    let (port, mut found) = (format!(":{port:04X} "), String::new());
    for list in ["/proc/net/udp", "/proc/net/udp6"] {
        let text = std::fs::read_to_string(list).unwrap_or_default();
        found.extend(text.lines().filter(|line| line.contains(&port)).map(|line| format!("{list}: {line}\n")));
    }
    found
}

/// Whether a start failed because tasks of an earlier run still hold the port or the directory.
fn in_use(error: &str) -> bool {
    ["in use", "already open", "bind"].iter().any(|part| error.contains(part))
}

/// Machines dial their manager without a pause while it is restarted again and again. No machine is ever told that there is
/// no such pair, some dials meet the manager while it starts or ends, and all machines are paired at the end.
async fn restart_under_dials(machines: usize, restarts: usize) -> Answers {
    let manager_dir = TempDir::new().unwrap();
    // An address of loopback that nobody else uses, so that its port is free while the manager is down.
    let [.., high, low] = std::process::id().to_be_bytes();
    let loopback = (std::net::Ipv4Addr::new(127, 77, high, low), 0).into();
    let mut manager = spawn_manager_at(manager_dir.path(), loopback).await;
    let (mut dirs, mut diallers) = (Vec::new(), tokio::task::JoinSet::new());
    let to = address(&manager.node().ticket());
    let at = *to.ip_addrs().next().unwrap();
    for _ in 0..machines {
        let dir = TempDir::new().unwrap();
        let machine = spawn_machine(dir.path()).await;
        pair(&machine, &manager).await;
        machine.shutdown().await.unwrap();
        dirs.push(dir);
    }
    let (over, answers) = (watch::Sender::new(false), watch::Sender::new(Answers::default()));
    for dir in &dirs {
        let impostor = Impostor::of(dir.path(), to.clone()).await;
        let (mut over, answers) = (over.subscribe(), answers.clone());
        diallers.spawn(async move {
            loop {
                let is_over = tokio::select! {
                    _ = over.changed() => true,
                    () = impostor.dial(&answers) => false,
                };
                if is_over {
                    return impostor.endpoint.close().await;
                }
            }
        });
    }
    let mut told = answers.subscribe();
    for _ in 0..restarts {
        manager.shutdown().await.unwrap();
        let before = told.borrow_and_update().answered;
        manager = spawn_manager_at(manager_dir.path(), at).await;
        assert_eq!(manager.list_machine_ids().len(), machines);
        let met = |now: &Answers| now.answered >= before + machines as u64;
        within("the machines to find their manager", told.wait_for(met)).await.unwrap();
    }
    over.send_replace(true);
    while let Some(dialled) = diallers.join_next().await {
        dialled.unwrap();
    }
    for dir in &dirs {
        let machine = spawn_machine(dir.path()).await;
        let id = machine.id();
        assert_eq!(machine.get_machine_state(), MachineState::Claimed { manager: manager.id() });
        assert_ne!(manager.machine_status(id).unwrap().link, KvLink::Released);
        machine.set_kv_value("after", "1").await.unwrap();
        until_put(&mut manager.watch_kv_key(id, "after").await.unwrap(), "after", "1").await;
        machine.shutdown().await.unwrap();
    }
    manager.shutdown().await.unwrap();
    let answers = answers.send_replace(Answers::default());
    assert!(answers.later > 0, "no dial met a start or an end: {answers:?}");
    answers
}

impl Impostor {
    /// Dials once, as a machine would, and leaves.
    async fn dial(&self, answers: &watch::Sender<Answers>) {
        // A node that is down sends no answer at all: it is dialled again soon.
        let connecting = self.endpoint.connect(self.to.clone(), crate::common::raw::ALPN);
        let Ok(Ok(connection)) = tokio::time::timeout(Duration::from_millis(300), connecting).await else {
            answers.send_modify(|answers| answers.unreachable += 1);
            return;
        };
        crate::common::raw::hello(&connection).await;
        match self.greet(&connection).await {
            Some(Ok(())) => answers.send_modify(|answers| answers.answered += 1),
            Some(Err(code)) => {
                assert!(code != NOT_PAIRED && code != RELEASED, "told that there is no such pair: {code}");
                answers.send_modify(|answers| answers.later += 1);
            }
            None => answers.send_modify(|answers| answers.unreachable += 1),
        }
        connection.close(0u32.into(), b"");
    }

    /// Asks for the document; the code with which the stream ends, or nothing where the connection does.
    async fn greet(&self, connection: &iroh::endpoint::Connection) -> Option<Result<(), u64>> {
        let (mut send, mut recv) = raw::open(connection, StreamKind::Document).await?;
        say(&mut send, &raw::hello(self.document)).await;
        match recv.read_exact(&mut [0]).await {
            Ok(()) => Some(Ok(())),
            Err(ReadExactError::ReadError(ReadError::Reset(code))) => Some(Err(code.into_inner())),
            Err(_) => None,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_pairing_changes_while_a_manager_is_restarted_and_its_machines_dial() {
    let answers = restart_under_dials(4, 8).await;
    println!("8 restarts, 4 machines: {answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes; `cargo xtask soak` runs it"]
async fn soak_no_pairing_changes_over_200_restarts_while_50_machines_dial() {
    let begun = std::time::Instant::now();
    let answers = restart_under_dials(50, 200).await;
    println!("200 restarts, 50 machines, {:.0} s: {answers:?}", begun.elapsed().as_secs_f64());
}
