//! Sides that are paired and break the protocol of reconciliation. Each is told so by the code that closes its
//! connection, its problem is shown, nothing of what it sent is stored, and other documents go on.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use groundswell::{
    Machine, Manager, PeerId,
    limits::{KV_RECONCILE_PAUSE, MAX_KV_VALUE_BYTES, MAX_RECONCILE_BYTES, RECONCILE_PATIENCE},
};
use groundswell_core::{
    encoding::decode,
    kv::wire::{KvMessage, decode_kv_message},
    wire::StreamKind,
};
use iroh::{
    Endpoint,
    endpoint::{RecvStream, SendStream},
};
use iroh_docs::{
    Author, Capability, ContentStatus, NamespaceSecret, ProtocolMessage, Record, RecordIdentifier, SignedEntry,
    SyncOutcome,
    actor::{OpenOpts, SyncHandle},
    store::{Query, Store},
};
use serde::Serialize;
use tempfile::TempDir;

use crate::kv::{
    common::{Pair, pair, spawn_machine, spawn_manager, until, until_put, within},
    raw::{Knock, Stored, accept, address, endpoint, hear, knock, open, say},
};

/// The code with which a connection is closed whose peer broke the protocol.
const VIOLATION: u64 = 5;

/// How much a file may grow by what honest sides write in such a test.
const LITTLE: u64 = 1024 * 1024;

/// iroh-docs' messages, which it does not let anybody make.
#[derive(Serialize)]
struct Message {
    parts: Vec<Part>,
}

#[derive(Serialize)]
enum Part {
    Fingerprint(Range, [u8; 32]),
    Item(Range, Vec<(SignedEntry, ContentStatus)>, bool),
}

#[derive(Serialize)]
struct Range(RecordIdentifier, RecordIdentifier);

/// A manager with two machines, and somebody in the place of the first with its identity and its secrets.
struct Stage {
    manager: Manager,
    id: PeerId,
    bystander: Machine,
    bystander_id: PeerId,
    hostile: Endpoint,
    stored: Stored,
    manager_dir: TempDir,
    _dirs: [TempDir; 2],
}

/// A connection in the midst of a reconciliation.
struct Begun {
    knock: Knock,
    send: SendStream,
    recv: RecvStream,
}

impl Stage {
    async fn new() -> Self {
        let Pair { machine, manager, id, machine_dir, manager_dir } = Pair::new().await;
        let bystander_dir = TempDir::new().unwrap();
        let bystander = spawn_machine(bystander_dir.path()).await;
        let bystander_id = pair(&bystander, &manager).await;
        for key in ["one", "two", "three"] {
            machine.set_kv_value(key, "of the machine").await.unwrap();
        }
        machine.until_kv_delivered().await.unwrap();
        machine.shutdown().await.unwrap();
        let stored = Stored::read(machine_dir.path());
        let hostile = endpoint(Some(stored.key.clone())).await;
        let _dirs = [machine_dir, bystander_dir];
        Self { manager, id, bystander, bystander_id, hostile, stored, manager_dir, _dirs }
    }

    fn secret(&self) -> NamespaceSecret {
        NamespaceSecret::from_bytes(&self.stored.secrets[0])
    }

    fn author(&self) -> Author {
        author_of(&self.stored)
    }

    /// The key of an entry that both have.
    fn place(&self) -> RecordIdentifier {
        RecordIdentifier::new(self.secret().id(), self.author().id(), self.stored.entries[0].key)
    }

    /// All of the document.
    fn everything(&self) -> Range {
        Range(self.place(), self.place())
    }

    /// Connects as the machine and waits until the manager begins a reconciliation, whose first message is read.
    async fn begin(&self) -> Begun {
        let document = self.stored.documents()[0];
        let mut knock = knock(&self.hostile, address(&self.manager.node().ticket()), document).await;
        assert!(knock.hello.is_some(), "it is the machine, for all that the manager can tell");
        say(&mut knock.send, &KvMessage::CaughtUp).await;
        let (send, mut recv) = accept(&knock.connection, StreamKind::Reconciliation).await;
        within("its first message", hear(&mut recv)).await.unwrap();
        Begun { knock, send, recv }
    }

    /// The session is ended for a violation, the problem is shown, and the other machine's document goes on.
    async fn is_closed(&self, begun: &mut Begun, problem: &str) {
        assert_eq!(begun.knock.ended().await, VIOLATION);
        self.shows(problem).await;
        let violations = self.manager.node().metrics().violations;
        assert!(violations > 0, "it is counted");
        // And still, when it has connected again.
        let document = self.stored.documents()[0];
        let again = knock(&self.hostile, address(&self.manager.node().ticket()), document).await;
        assert!(again.hello.is_some());
        self.shows(problem).await;
        again.connection.close(0_u32.into(), b"");
        self.bystander.set_kv_value("after", problem).await.unwrap();
        let mut watch = self.manager.watch_kv_key(self.bystander_id, "after").await.unwrap();
        until_put(&mut watch, "after", problem).await;
        let shown = self.manager.machine_status(self.bystander_id).unwrap().problem;
        assert_eq!(shown, None, "it is not the other machine's problem");
    }

    async fn shows(&self, problem: &str) {
        until("the problem to be shown", async || {
            let shown = self.manager.machine_status(self.id).unwrap().problem;
            shown.is_some_and(|shown| shown.contains(problem))
        })
        .await;
    }

    fn docs_bytes(&self) -> u64 {
        docs_bytes(&self.manager_dir.path().join("docs.redb"))
    }

    async fn end(self) {
        self.hostile.close().await;
        self.bystander.shutdown().await.unwrap();
        self.manager.shutdown().await.unwrap();
    }
}

/// How a node gets its author from its identity.
fn author_of(stored: &Stored) -> Author {
    Author::from_bytes(&blake3::derive_key("groundswell kv v1: the author of a node", &stored.key.to_bytes()))
}

fn entry(secret: &NamespaceSecret, author: &Author, key: &[u8], counter: u64) -> SignedEntry {
    SignedEntry::from_parts(secret, author, key, Record::new(blake3::hash(key).into(), 100, counter))
}

fn item(range: Range, entry: SignedEntry) -> Message {
    Message { parts: vec![Part::Item(range, vec![(entry, ContentStatus::Complete)], false)] }
}

/// A document with 3,000 entries of as many invented authors, whose keys have 3 kB: it took 72 MB of the manager's disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_floods_its_document_is_shut_out_and_stores_nothing() {
    let stage = Stage::new().await;
    let (secret, id) = (stage.secret(), stage.secret().id());
    let docs = SyncHandle::spawn(Store::memory(), None, "hostile".to_owned());
    docs.import_namespace(Capability::Write(secret.clone())).await.unwrap();
    docs.open(id, OpenOpts::default().sync()).await.unwrap();
    for number in 0..3_000_u32 {
        let author = Author::from_bytes(blake3::hash(&number.to_le_bytes()).as_bytes());
        let key: Vec<u8> = number.to_le_bytes().into_iter().cycle().take(3_000).collect();
        docs.insert_remote(id, entry(&secret, &author, &key, 1), [0; 32], ContentStatus::Complete).await.unwrap();
    }
    let before = stage.docs_bytes();
    let document = stage.stored.documents()[0];
    let mut knock = knock(&stage.hostile, address(&stage.manager.node().ticket()), document).await;
    say(&mut knock.send, &KvMessage::CaughtUp).await;
    let (mut send, mut recv) = accept(&knock.connection, StreamKind::Reconciliation).await;
    let answering = async {
        while let Some(body) = hear(&mut recv).await {
            let message: ProtocolMessage = decode(&body).unwrap();
            let done = docs.sync_process_message(id, message, [0; 32], SyncOutcome::default()).await.unwrap();
            match done.0 {
                Some(reply) => say(&mut send, &reply).await,
                None => break,
            }
        }
    };
    within("the end of it", answering).await;
    stage.is_closed(&mut Begun { knock, send, recv }, "reconciliation").await;
    assert!(stage.docs_bytes() < before + LITTLE, "{} after {before}", stage.docs_bytes());
    stage.end().await;
}

/// One entry in a small message is enough. What else may not be in one is tried at the gate itself, in `kv/gate.rs`.
#[tokio::test(flavor = "multi_thread")]
async fn an_entry_of_an_invented_author_is_a_violation() {
    let stage = Stage::new().await;
    let mut begun = stage.begin().await;
    let invented = entry(&stage.secret(), &Author::from_bytes(&[8; 32]), &[7; 32], 9);
    say(&mut begun.send, &item(stage.everything(), invented)).await;
    stage.is_closed(&mut begun, "an author that does not belong to the document").await;
    stage.end().await;
}

/// Another digest of everything, again and again: there is always an answer to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_reconciliation_without_an_end_is_a_violation() {
    let stage = Stage::new().await;
    let mut begun = stage.begin().await;
    let asking = async {
        for round in 0.. {
            say(&mut begun.send, &Message { parts: vec![Part::Fingerprint(stage.everything(), [7; 32])] }).await;
            if hear(&mut begun.recv).await.is_none() {
                return round;
            }
        }
        unreachable!()
    };
    let rounds = within("the end of it", asking).await;
    assert!((2..100).contains(&rounds), "{rounds} answers");
    stage.is_closed(&mut begun, "messages in one reconciliation").await;
    stage.end().await;
}

/// Announced by four bytes, before the rest has come.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_long_is_a_violation() {
    let stage = Stage::new().await;
    let mut begun = stage.begin().await;
    let length = u32::try_from(MAX_RECONCILE_BYTES + 1).unwrap();
    begun.send.write_all(&length.to_le_bytes()).await.unwrap();
    stage.is_closed(&mut begun, "a message of more than").await;
    stage.end().await;
}

/// A byte a second keeps a stream alive, and the manager's place for reconciliations taken: for half a minute.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_drips_in_is_a_violation() {
    let stage = Stage::new().await;
    let mut begun = stage.begin().await;
    let dripping = async {
        begun.send.write_all(&1_000_u32.to_le_bytes()).await.unwrap();
        while begun.send.write_all(&[1]).await.is_ok() {
            // Time is under test: this is a side that sends slowly.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::time::timeout(2 * RECONCILE_PATIENCE, dripping).await.unwrap();
    stage.is_closed(&mut begun, "waited longer than").await;
    stage.end().await;
}

/// Entries of the machine's own, under keys of the right length, whose values never come: the manager asks for them, and
/// keeps nothing of them but their names.
#[tokio::test(flavor = "multi_thread")]
async fn entries_without_values_are_asked_for_and_not_stored() {
    let stage = Stage::new().await;
    let before = stage.docs_bytes();
    let mut begun = stage.begin().await;
    let (secret, author) = (stage.secret(), stage.author());
    let mut values = Vec::new();
    for number in 0..3_000_u32 {
        let key = blake3::hash(&number.to_le_bytes());
        values.push((entry(&secret, &author, key.as_bytes(), 1), ContentStatus::Complete));
    }
    say(&mut begun.send, &Message { parts: vec![Part::Item(stage.everything(), values, true)] }).await;
    let wanted = async {
        loop {
            let body = hear(&mut begun.knock.recv).await.expect("the manager goes on");
            if let KvMessage::Want { .. } = decode_kv_message(MAX_KV_VALUE_BYTES, &body).unwrap() {
                return;
            }
        }
    };
    within("the manager to ask for a value", wanted).await;
    assert!(begun.knock.connection.close_reason().is_none());
    begun.knock.connection.close(0_u32.into(), b"");
    assert!(stage.docs_bytes() < before + LITTLE, "{} after {before}", stage.docs_bytes());
    let Stage { manager, manager_dir, hostile, bystander, .. } = stage;
    hostile.close().await;
    manager.shutdown().await.unwrap();
    bystander.shutdown().await.unwrap();
    let kept = if cfg!(feature = "iroh-docs") { 3 } else { 0 };
    assert_eq!(stored_entries(&manager_dir.path().join("docs.redb")), kept, "those that it has");
}

/// The size of the file of a node that runs. One without iroh-docs has none.
fn docs_bytes(path: &Path) -> u64 {
    assert_eq!(path.exists(), cfg!(feature = "iroh-docs"));
    path.metadata().map_or(0, |found| found.len())
}

/// How many entries iroh-docs has in this file.
fn stored_entries(path: &Path) -> usize {
    if !path.exists() {
        return 0;
    }
    let mut store = Store::persistent(path).unwrap();
    let ids: Vec<_> = store.list_namespaces().unwrap().map(|one| one.unwrap().0).collect();
    ids.into_iter().map(|id| store.get_many(id, Query::all().include_empty()).unwrap().count()).sum()
}

/// A machine looks at its manager in the same way.
#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_breaks_the_protocol_is_shut_out_by_its_machine() {
    let Pair { machine, manager, id: _, machine_dir: _dir, manager_dir } = Pair::new().await;
    machine.set_kv_value("key", "value").await.unwrap();
    manager.shutdown().await.unwrap();
    let stored = Stored::read(manager_dir.path());
    let secret = NamespaceSecret::from_bytes(&stored.secrets[0]);
    let hostile = endpoint(Some(stored.key.clone())).await;
    let mut knock = knock(&hostile, address(&machine.ticket()), stored.documents()[0]).await;
    assert!(knock.hello.is_some());
    let (mut send, _recv) = open(&knock.connection, StreamKind::Reconciliation).await.unwrap();
    let bound = || RecordIdentifier::new(secret.id(), author_of(&stored).id(), [1; 32]);
    let invented = entry(&secret, &Author::from_bytes(&[8; 32]), &[7; 32], 9);
    say(&mut send, &item(Range(bound(), bound()), invented)).await;
    assert_eq!(knock.ended().await, VIOLATION);
    until("the problem to be shown", async || {
        let shown = machine.status_changes().borrow().problem.clone();
        shown.is_some_and(|shown| shown.contains("an author that does not belong"))
    })
    .await;
    machine.set_kv_value("key", "goes on").await.unwrap();
    hostile.close().await;
    machine.shutdown().await.unwrap();
}

/// A manager that connects again for another reconciliation, and leaves it at once, waits for the one before: its work is done, or is
/// not begun. Each begins a second after the one before.
#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_comes_again_has_one_reconciliation_at_a_time() {
    let Pair { machine, manager, id: _, machine_dir: _dir, manager_dir } = Pair::new().await;
    for n in 0..20 {
        machine.set_kv_value(format!("key {n}"), "value").await.unwrap();
    }
    manager.shutdown().await.unwrap();
    let stored = Stored::read(manager_dir.path());
    let id = NamespaceSecret::from_bytes(&stored.secrets[0]).id();
    let hostile = endpoint(Some(stored.key.clone())).await;
    let bound = RecordIdentifier::new(id, author_of(&stored).id(), [0; 32]);
    let whole = Message { parts: vec![Part::Fingerprint(Range(bound.clone(), bound), [7; 32])] };
    let mut answered = Vec::new();
    for leaves in [false, true, true, true, false] {
        let knock = knock(&hostile, address(&machine.ticket()), stored.documents()[0]).await;
        assert!(knock.hello.is_some());
        let (mut send, mut recv) = open(&knock.connection, StreamKind::Reconciliation).await.unwrap();
        say(&mut send, &whole).await;
        if leaves {
            // Time is under test: it has been taken up by then, if it could be.
            tokio::time::sleep(Duration::from_millis(50)).await;
        } else {
            assert!(within("an answer", hear(&mut recv)).await.is_some());
            answered.push(Instant::now());
        }
        knock.connection.close(0_u32.into(), b"");
    }
    let between = answered[1] - answered[0];
    println!("the second answer came {between:?} after the first");
    assert!(between >= KV_RECONCILE_PAUSE, "{between:?}");
    hostile.close().await;
    machine.shutdown().await.unwrap();
}

/// An earlier version has stored what was invented: it is gone after the next start, the file is small again or gone without
/// iroh-docs, and the pair goes on.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_entries_that_are_stored_are_dropped_at_the_start() {
    let pair = Pair::new().await;
    pair.machine.set_kv_value("key", "1").await.unwrap();
    pair.machine.until_kv_delivered().await.unwrap();
    pair.manager.shutdown().await.unwrap();
    let stored = Stored::read(pair.manager_dir.path());
    let (secret, path) = (NamespaceSecret::from_bytes(&stored.secrets[0]), pair.manager_dir.path().join("docs.redb"));
    let before = docs_bytes(&path);
    let docs = SyncHandle::spawn(Store::persistent(&path).unwrap(), None, "earlier".to_owned());
    docs.import_namespace(Capability::Write(secret.clone())).await.unwrap();
    docs.open(secret.id(), OpenOpts::default().sync()).await.unwrap();
    for number in 0..300_u32 {
        let author = Author::from_bytes(blake3::hash(&number.to_le_bytes()).as_bytes());
        let key: Vec<u8> = number.to_le_bytes().into_iter().cycle().take(3_000).collect();
        let foreign = entry(&secret, &author, &key, 1);
        docs.insert_remote(secret.id(), foreign, [0; 32], ContentStatus::Complete).await.unwrap();
    }
    docs.flush_store().await.unwrap();
    drop(docs.shutdown().await.unwrap());
    drop(docs);
    assert!(stored_entries(&path) >= 300);
    let full = path.metadata().unwrap().len();
    assert!(full > before + LITTLE, "{full} after {before}");
    let manager = spawn_manager(pair.manager_dir.path()).await;
    pair.machine.set_kv_value("key", "2").await.unwrap();
    until_put(&mut manager.watch_kv_key(pair.id, "key").await.unwrap(), "key", "2").await;
    let mut status = manager.machine_status_changes(pair.id).unwrap();
    within("a reconciliation", status.wait_for(|status| status.reconciled > 0)).await.unwrap();
    let after = docs_bytes(&path);
    assert!(after < before + LITTLE, "{after} after {full}");
    manager.shutdown().await.unwrap();
    pair.machine.shutdown().await.unwrap();
    assert_eq!(stored_entries(&path), usize::from(cfg!(feature = "iroh-docs")));
}
