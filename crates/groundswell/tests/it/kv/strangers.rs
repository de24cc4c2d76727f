//! Who gets nothing: peers that are not paired, one machine of a manager that asks for another's
//! document, and former sides. They hold whatever could help them, and speak the protocol by hand.

use groundswell::{KvKey, Machine, Manager, PeerId};
use groundswell_core::{
    encoding::decode,
    kv::{
        KvAuthor, SpaceName, document_key,
        wire::{Held, KvMessage, decode_kv_message},
    },
    limits::MAX_KV_VALUE_BYTES,
    wire::StreamKind,
};
use tempfile::TempDir;

use crate::kv::{
    common::{Pair, pair, spawn_machine, spawn_manager, until_put, within},
    raw::{self, NOT_PAIRED, RELEASED, Stored, address, endpoint, hear, knock, say, shut_out},
};

/// The close code of a missing or malformed hello.
const NO_HELLO: u64 = 3;

/// What other protocols of iroh-docs are called, by which entries and contents could be asked for.
const OTHER_PROTOCOLS: [&[u8]; 3] = [iroh_docs::ALPN, b"/iroh-bytes/4", b"/iroh-gossip/1"];

/// A former side may still say that it has given the document up. Its hello may be no larger than a stranger's.
#[tokio::test(flavor = "multi_thread")]
async fn a_former_side_may_send_no_large_hello() {
    let Pair { machine, manager, id, machine_dir, manager_dir: _dir } = Pair::new().await;
    manager.release(id).await.unwrap();
    let mut status = machine.status_changes();
    let unclaimed = |_: &_| machine.get_machine_state() == groundswell::MachineState::Unclaimed;
    within("the machine to know", status.wait_for(unclaimed)).await.unwrap();
    machine.shutdown().await.unwrap();
    let stored = Stored::read(machine_dir.path());
    let former = endpoint(Some(stored.key.clone())).await;
    let to = address(&manager.node().ticket());
    let begun = std::time::Instant::now();
    let (_connection, mut send, mut recv) = raw::begin(&former, to, StreamKind::Document).await;
    // A hello of that length is announced, and never sent: the length alone is refused, not only its silence.
    send.write_all(&20_000u32.to_le_bytes()).await.unwrap();
    assert_eq!(raw::ended(&mut recv).await, NO_HELLO);
    assert!(begun.elapsed() < groundswell::limits::HELLO_TIMEOUT, "{:?}", begun.elapsed());
    manager.shutdown().await.unwrap();
}

/// With the document's id, and the hashes of what is in it.
#[tokio::test(flavor = "multi_thread")]
async fn an_unpaired_peer_gets_nothing_with_the_documents_id_and_a_values_hash_in_hand() {
    let Pair { machine, manager, id, machine_dir, manager_dir } = Pair::new().await;
    machine.set_kv_value("secret", "of the pair").await.unwrap();
    until_put(&mut manager.watch_kv_key(id, "secret").await.unwrap(), "secret", "of the pair").await;
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
    let stored = Stored::read(machine_dir.path());
    let ([document], [entry]) = (&stored.documents()[..], &stored.entries[..]) else { panic!("one of each") };
    let at_manager = Stored::read(manager_dir.path()).entries[0].hash();
    assert_eq!(entry.hash(), at_manager, "the hash is that of the content at both sides");
    let (machine, manager) = (spawn_machine(machine_dir.path()).await, spawn_manager(manager_dir.path()).await);
    let stranger = endpoint(None).await;
    for address in [address(&machine.ticket()), address(&manager.node().ticket())] {
        assert_eq!(shut_out(&stranger, &address, *document).await, NOT_PAIRED);
        // The same for one that does not exist: nothing tells which documents there are.
        assert_eq!(shut_out(&stranger, &address, [9; 32]).await, NOT_PAIRED);
        // Asked for by its key, on a stream of its own, before anything else.
        let (_connection, mut send, mut recv) = raw::begin(&stranger, address.clone(), StreamKind::Document).await;
        let key = document_key(&SpaceName::default(), &KvKey::new("secret").unwrap());
        say(&mut send, &KvMessage::Want { author: KvAuthor::Machine, key }).await;
        assert_eq!(within("the end", hear(&mut recv)).await, None);
        assert_eq!(raw::ended(&mut recv).await, NOT_PAIRED);
        // Nobody here speaks the protocols by which a hash, or an id, would be enough.
        for protocol in OTHER_PROTOCOLS {
            let refused = within("a refusal", stranger.connect(address.clone(), protocol)).await;
            assert!(refused.is_err(), "{}", String::from_utf8_lossy(protocol));
        }
    }
    // The pair was not disturbed.
    manager.set_kv_value(id, "after", "1").await.unwrap();
    until_put(&mut machine.watch_kv_key("after").await.unwrap(), "after", "1").await;
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

/// One machine asks for another's document, at their manager and at the other machine, with its own
/// identity. It gets its own, so that the attempt is one that could work.
#[tokio::test(flavor = "multi_thread")]
async fn one_machine_of_a_manager_gets_nothing_of_another() {
    let Pair { machine, manager, id, machine_dir, manager_dir: _dir } = Pair::new().await;
    let dir = TempDir::new().unwrap();
    let second = spawn_machine(dir.path()).await;
    let second_id = pair(&second, &manager).await;
    write(&machine, &manager, id, "of the first").await;
    write(&second, &manager, second_id, "of the second").await;
    machine.shutdown().await.unwrap();
    second.shutdown().await.unwrap();
    let (first, other) = (Stored::read(machine_dir.path()), Stored::read(dir.path()));
    let second = spawn_machine(dir.path()).await;
    let thief = endpoint(Some(first.key.clone())).await;
    let at_manager = address(&manager.node().ticket());
    assert_eq!(shut_out_of(&thief, &at_manager, other.documents()[0]).await, NOT_PAIRED);
    assert_eq!(shut_out(&thief, &address(&second.ticket()), other.documents()[0]).await, NOT_PAIRED);
    let mut own = knock(&thief, at_manager, first.documents()[0]).await;
    assert!(own.hello.is_some());
    // Other messages may come before the entry.
    let gets_entry = async { while !contains(&hear(&mut own.recv).await.unwrap(), b"of the first") {} };
    within("an entry", gets_entry).await;
    own.connection.close(0u32.into(), b"");
    second.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

/// A peer that is paired, for another document: it may say hello, and is shut out then.
async fn shut_out_of(from: &iroh::Endpoint, to: &iroh::EndpointAddr, document: [u8; 32]) -> u64 {
    let mut knock = knock(from, to.clone(), document).await;
    assert_eq!(knock.hello, None, "not a word");
    knock.ended().await
}

async fn write(machine: &Machine, manager: &Manager, id: PeerId, value: &str) {
    machine.set_kv_value("key", value).await.unwrap();
    until_put(&mut manager.watch_kv_key(id, "key").await.unwrap(), "key", value).await;
}

/// One that asks for a document that was released is told so, and nothing else.
async fn assert_only_told(from: &iroh::Endpoint, to: &iroh::EndpointAddr, document: [u8; 32]) {
    let mut knock = knock(from, to.clone(), document).await;
    assert_eq!(knock.hello.map(|hello| hello.held), Some(Held::default()), "not how much there is");
    let said = within("the release", hear(&mut knock.recv)).await.unwrap();
    assert!(matches!(decode(&said), Ok(KvMessage::Released { .. })));
    knock.connection.close(0u32.into(), b"");
    assert_eq!(within("the end", hear(&mut knock.recv)).await, None);
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// The former manager, with its identity, the old document's id and the new one's: it is shut out at once,
/// in the middle of a connection, and afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_release_by_the_machine_the_former_manager_gets_nothing_new() {
    let Pair { machine, manager, id, machine_dir, manager_dir } = Pair::new().await;
    write(&machine, &manager, id, "old").await;
    manager.shutdown().await.unwrap();
    let former = Stored::read(manager_dir.path());
    let spy = endpoint(Some(former.key.clone())).await;
    let at_machine = address(&machine.ticket());
    let mut live = knock(&spy, at_machine.clone(), former.documents()[0]).await;
    assert!(live.hello.is_some(), "it is the manager still");
    let entry = within("an entry", hear(&mut live.recv)).await.unwrap();
    assert!(contains(&entry, b"old"));
    machine.release().await.unwrap();
    machine.set_kv_value("key", "after the release").await.unwrap();
    let mut rest = Vec::new();
    while let Some(body) = within("the end", hear(&mut live.recv)).await {
        rest.extend(body);
    }
    assert!(!contains(&rest, b"after the release"));
    assert_eq!(live.ended().await, RELEASED);
    assert_only_told(&spy, &at_machine, former.documents()[0]).await;
    machine.shutdown().await.unwrap();
    let mut new = Stored::read(machine_dir.path()).documents();
    new.retain(|document| *document != former.documents()[0]);
    assert_eq!(new.len(), 1, "the machine goes on with another document");
    let machine = spawn_machine(machine_dir.path()).await;
    assert_eq!(shut_out_of(&spy, &address(&machine.ticket()), new[0]).await, NOT_PAIRED);
    machine.shutdown().await.unwrap();
}

/// The other way round: a machine that was given up, with its identity and its document's id.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_release_by_the_manager_the_former_machine_gets_nothing_new() {
    let Pair { machine, manager, id, machine_dir, manager_dir: _dir } = Pair::new().await;
    write(&machine, &manager, id, "old").await;
    machine.shutdown().await.unwrap();
    let former = Stored::read(machine_dir.path());
    let spy = endpoint(Some(former.key.clone())).await;
    let at_manager = address(&manager.node().ticket());
    let mut live = knock(&spy, at_manager.clone(), former.documents()[0]).await;
    assert!(live.hello.is_some(), "it is the machine still");
    manager.set_kv_value(id, "key", "before the release").await.unwrap();
    let (mut heard, mut caught_up) = (Vec::new(), false);
    // The machine's own entries come too, in any order with those of the manager.
    while !contains(&heard, b"before the release") || !caught_up {
        let body = within("the value", hear(&mut live.recv)).await.unwrap();
        caught_up |= decode_kv_message(MAX_KV_VALUE_BYTES, &body) == Ok(KvMessage::CaughtUp);
        heard.extend(body);
    }
    manager.release(id).await.unwrap();
    let rest = within("the end", async {
        let mut rest = Vec::new();
        while let Some(body) = hear(&mut live.recv).await {
            rest.extend(body);
        }
        rest
    })
    .await;
    assert!(!contains(&rest, b"key"), "no entry follows");
    assert_eq!(live.ended().await, RELEASED);
    assert_only_told(&spy, &at_manager, former.documents()[0]).await;
    manager.shutdown().await.unwrap();
}
