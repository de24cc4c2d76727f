//! What can only be tried from inside: storage that fails, a docs engine that dies, values that are
//! announced and missing. tests/it/kv tries everything else by the public interface.

mod parting;
mod reconciling;
mod starting;

use std::{path::Path, sync::Arc, time::Duration};

use groundswell_core::{
    kv::{KvAuthor, KvKey, SpaceName, document_key},
    limits::MAX_KV_WANTS,
};
use tempfile::TempDir;

use super::{
    KvError, KvLink, Row,
    docs::Docs,
    keeper::Contents,
    session,
    storage::{Mark, Storage},
};
use crate::{
    Machine, Manager, PeerId,
    link::{Link, Want},
};

const PATIENCE: Duration = Duration::from_secs(30);

struct Pair {
    machine: Machine,
    manager: Manager,
    id: PeerId,
    machine_dir: TempDir,
    manager_dir: TempDir,
}

async fn manager_at(dir: &Path) -> Manager {
    Manager::builder().data_dir(dir).offline().bind("127.0.0.1:0".parse().unwrap()).spawn().await.unwrap()
}

async fn machine_at(dir: &Path) -> Machine {
    Machine::builder().data_dir(dir).offline().bind("127.0.0.1:0".parse().unwrap()).spawn().await.unwrap()
}

/// Claims a machine, with both persons saying yes, and waits until it is online.
async fn claim(machine: &Machine, manager: &Manager) -> PeerId {
    let ticket = machine.ticket();
    let begun = async { manager.begin_claim(&ticket).await.unwrap() };
    let (asked, claimed) = tokio::join!(machine.await_next_incoming_claim_request(), begun);
    asked.unwrap().1.send(true).unwrap();
    let id = claimed.answer(true).await.unwrap();
    until("both sides to be online", || manager.machine_status(id).unwrap().link == KvLink::Online).await;
    id
}

async fn pair() -> Pair {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    let (machine_dir, manager_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let machine = machine_at(machine_dir.path()).await;
    let manager = manager_at(manager_dir.path()).await;
    let id = claim(&machine, &manager).await;
    Pair { machine, manager, id, machine_dir, manager_dir }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            // A poll for a condition: time is under test only as patience.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "waited {PATIENCE:?} for {what}");
}

async fn until_value(manager: &Manager, id: PeerId, key: &str, value: &str) {
    let waiting = async {
        while manager.get_kv_value(id, key).await.unwrap().is_none_or(|entry| entry.value != value) {
            // A poll for a condition: time is under test only as patience.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "waited {PATIENCE:?} for {key} = {value}");
}

fn place(key: &str) -> [u8; 32] {
    document_key(&SpaceName::default(), &KvKey::new(key).unwrap())
}

/// A shutdown and a release drop the futures of sessions wherever they are. The place is free for the next session then, and
/// the other side is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_dropped_halfway_leaves_nothing_in_its_document() {
    let Pair { machine, manager, id, .. } = pair().await;
    let kv = manager.kv();
    let document = kv.documents()[0].clone();
    let identity = document.identity();
    let mut session = document.session.subscribe();
    let regular = session.borrow_and_update().clone().unwrap();
    let want = Want::new(&kv.shared, id);
    let Link::Up(connection) = want.peer.link().borrow().clone() else { panic!("they are connected") };
    let mut opened = session::open(kv, &document, &identity, &connection).await;
    while opened.is_err() {
        // The regular one has its place for a moment at least. A poll for a condition: time is under test only as patience.
        tokio::time::sleep(Duration::from_millis(20)).await;
        opened = session::open(kv, &document, &identity, &connection).await;
    }
    let opened = opened.unwrap();
    let other = |now: &Option<_>| now.as_ref().is_some_and(|now| !Arc::ptr_eq(now, &regular));
    // A reference into the channel would be held while the other future is dropped, which writes to it.
    let found = async { session.wait_for(other).await.unwrap().clone().unwrap() };
    let mine = tokio::select! {
        _ = session::run(kv, &document, &identity, &want.peer, &connection, opened, document.ours) => None,
        mine = found => Some(mine),
    };
    let left = document.session.borrow().clone();
    assert!(
        left.is_none_or(|now| mine.is_none_or(|mine| !Arc::ptr_eq(&now, &mine))),
        "it is free for the next session"
    );
    assert_eq!(connection.close_reason(), None, "what else is on the connection goes on");
    machine.set_kv_value("after", "1").await.unwrap();
    until_value(&manager, id, "after", "1").await;
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_storage_failure() {
    let pair = pair().await;
    let Pair { machine, manager, id, .. } = &pair;
    let id = *id;
    machine.set_kv_value("key", "1").await.unwrap();
    manager.set_kv_value(id, "price", "2").await.unwrap();
    for storage in [&machine.kv().storage, &manager.kv().storage] {
        storage.fail(true);
    }
    let refused = [
        machine.set_kv_value("key", "2").await.map(drop),
        machine.delete_kv_value("key").await.map(drop),
        manager.set_kv_value(id, "price", "3").await.map(drop),
        manager.delete_kv_value(id, "price").await.map(drop),
    ];
    for result in refused {
        assert!(matches!(result, Err(KvError::Storage(_))), "{result:?}");
    }
    // What was acknowledged stands, and nobody has seen the rest.
    assert_eq!(machine.get_kv_value("key").await.unwrap().unwrap().value, "1");
    assert_eq!(manager.get_kv_value(id, "price").await.unwrap().unwrap().value, "2");
    // What one side writes while the other's storage fails comes when that is well again.
    manager.kv().storage.fail(false);
    manager.set_kv_value(id, "price", "4").await.unwrap();
    machine.kv().storage.fail(false);
    machine.set_kv_value("key", "5").await.unwrap();
    until_value(manager, id, "key", "5").await;
    let mut watch = machine.watch_kv_key("price").await.unwrap();
    let seen = async {
        // It may not have had the first one when its storage began to fail.
        while machine.get_kv_value("price").await.unwrap().is_none_or(|price| price.value != "4") {
            watch.next().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.unwrap();
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

/// A fault of the keeper's thread: its writers and streams are told, nobody waits for ever, and the node can be shut down.
#[tokio::test(flavor = "multi_thread")]
async fn a_keeper_that_panics_hangs_nobody() {
    let Pair { machine, manager, id, machine_dir, manager_dir: _dir } = pair().await;
    machine.set_kv_value("key", "1").await.unwrap();
    let mut watch = machine.watch_kv_key("key").await.unwrap();
    assert!(watch.next().await.is_some());
    machine.kv().keeper.tell(super::keeper::Command::Panic).await;
    let rest = async {
        while watch.next().await.is_some() {}
        assert_eq!(watch.ended(), Some(super::KvEnded::Failed));
        // What comes too late is not done; what came beside it may be.
        let late = machine.set_kv_value("key", "2").await.unwrap_err();
        assert!(matches!(late, KvError::ShutDown | KvError::Unknown(_)), "{late}");
        assert!(matches!(machine.get_kv_value("key").await, Err(KvError::ShutDown)));
        machine.release().await.unwrap_err();
        machine.shutdown().await.unwrap();
    };
    tokio::time::timeout(PATIENCE, rest).await.expect("nobody waits");
    let machine = machine_at(machine_dir.path()).await;
    assert_eq!(machine.get_kv_value("key").await.unwrap().unwrap().value, "1");
    machine.set_kv_value("key", "3").await.unwrap();
    until_value(&manager, id, "key", "3").await;
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

/// The engine dies, and a write is the first to notice.
#[tokio::test(flavor = "multi_thread")]
async fn a_docs_engine_that_dies_is_rebuilt_and_fed() {
    let pair = pair().await;
    let Pair { machine, manager, id, .. } = &pair;
    let id = *id;
    for round in 0..2 {
        machine.kv().engine.die().await;
        let value = round.to_string();
        machine.set_kv_value("key", &value).await.unwrap();
        until_value(manager, id, "key", &value).await;
        let (own, kv) = (machine.kv().own().unwrap(), machine.kv().clone());
        let counter = own.heads.borrow()[KvAuthor::Machine.index()];
        until("the rebuilt engine to be fed", || own.fed.borrow()[KvAuthor::Machine.index()] >= counter).await;
        let identity = own.identity();
        let author = identity.author(KvAuthor::Machine).unwrap();
        assert!(kv.engine.has(identity.namespace, author, place("key"), counter).await, "round {round}");
        assert!(kv.engine.is_healthy(identity.namespace).await);
    }
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

/// More than can be asked for at once.
#[tokio::test(flavor = "multi_thread")]
async fn every_missing_value_is_asked_for_until_it_is_here() {
    let count = 2 * MAX_KV_WANTS + 10;
    let pair = pair().await;
    let Pair { machine, manager, id, manager_dir, .. } = &pair;
    let id = *id;
    manager.shutdown().await.unwrap();
    let document = machine.kv().own().unwrap();
    let mut writes = tokio::task::JoinSet::new();
    for key in 0..count {
        let machine = machine.clone();
        writes.spawn(async move { machine.set_kv_value(format!("key/{key}"), key.to_string()).await.unwrap() });
    }
    writes.join_all().await;
    let held = document.heads.borrow()[KvAuthor::Machine.index()];
    // As after a reconciliation that has told of all of them, and a crash: the machine pushes none.
    {
        let storage = Storage::open(manager_dir.path());
        let (number, author) = (storage.documents().unwrap()[0].0, KvAuthor::Machine);
        let mut rows = vec![Row::Mark { number, author, mark: Mark::Held, counter: held }];
        for key in 0..count {
            rows.push(Row::Missing { number, author, key: place(&format!("key/{key}")), counter: 1 });
        }
        storage.write(rows).unwrap();
        storage.close();
    }
    let manager = manager_at(manager_dir.path()).await;
    let all = async {
        while manager.get_kv_entries(id).await.unwrap().len() < count {
            // A poll for a condition: time is under test only as patience.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let came = tokio::time::timeout(PATIENCE, all).await;
    assert!(came.is_ok(), "{} of {count} have come", manager.get_kv_entries(id).await.unwrap().len());
    let number = manager.kv().documents()[0].identity().number;
    until("nothing to be missing", || manager.kv().storage.missing_after(number, None, 1).unwrap().is_empty()).await;
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

/// The machine's person and the manager end a pairing at the same moment.
#[tokio::test(flavor = "multi_thread")]
async fn a_pairing_that_is_ended_twice_at_once_resets_readers_once() {
    let pair = pair().await;
    let Pair { machine, manager, .. } = &pair;
    machine.set_kv_value("key", "1").await.unwrap();
    let (kv, document) = (machine.kv().clone(), machine.kv().own().unwrap());
    let before = document.identity();
    let mut watch = machine.watch_kv_key("key").await.unwrap();
    // Both have seen the pairing before either has ended it.
    let (one, other) = tokio::join!(
        super::parting::renew(&kv, &document, &before, Contents::Kept, false),
        super::parting::renew(&kv, &document, &before, Contents::Kept, true)
    );
    one.unwrap();
    other.unwrap();
    machine.set_kv_value("key", "2").await.unwrap();
    let mut resets = 0;
    let seen = async {
        while let Some(update) = watch.next().await {
            match update.event {
                groundswell_core::kv::KvEvent::Reset { .. } => resets += 1,
                groundswell_core::kv::KvEvent::Put(entry) if entry.value == "2" => return,
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.unwrap();
    assert!(resets <= 1, "{resets} resets");
    assert_eq!(document.identity().number, before.number + 1, "one document took its place");
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

/// The manager has lost an entry, and says that it holds it: only a reconciliation finds that, after which it is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_reconciliation_finds_is_asked_for() {
    let pair = pair().await;
    let Pair { machine, manager, id, manager_dir, .. } = &pair;
    machine.set_kv_value("key", "old").await.unwrap();
    until_value(manager, *id, "key", "old").await;
    manager.shutdown().await.unwrap();
    machine.set_kv_value("key", "new").await.unwrap();
    let (kv, identity) = (machine.kv(), machine.kv().own().unwrap().identity());
    let entry = kv.storage.entry(identity.number, KvAuthor::Machine, place("key")).unwrap().unwrap();
    {
        // The machine pushes nothing that the manager says it holds.
        let storage = Storage::open(manager_dir.path());
        let (number, author) = (storage.documents().unwrap()[0].0, KvAuthor::Machine);
        storage.write(vec![Row::Mark { number, author, mark: Mark::Held, counter: entry.counter }]).unwrap();
        storage.close();
    }
    let manager = manager_at(manager_dir.path()).await;
    until_value(&manager, *id, "key", "new").await;
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

/// One side has said yes when the machine is shut down: the claim ends, and nothing spins meanwhile. Here is one thread,
/// which a task that spins would keep for itself.
#[tokio::test]
async fn a_shutdown_ends_a_claim_that_is_half_answered() {
    let (machine_dir, manager_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let machine = Machine::builder().data_dir(machine_dir.path()).offline().bind("127.0.0.1:0".parse().unwrap());
    let machine = machine.spawn().await.unwrap();
    let manager = manager_at(manager_dir.path()).await;
    let ticket = machine.ticket();
    let (asked, claimed) = tokio::join!(machine.await_next_incoming_claim_request(), manager.begin_claim(&ticket));
    asked.unwrap().1.send(true).unwrap();
    let mut claimed = claimed.unwrap();
    // The claim's task takes the answer when this one lets it.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    machine.shutdown().await.unwrap();
    tokio::time::timeout(PATIENCE, claimed.over()).await.unwrap();
    assert!(manager.list_machine_ids().is_empty());
    manager.shutdown().await.unwrap();
}
