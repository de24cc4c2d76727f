//! Rolling updates of a pair: a side that speaks the version before or after as well is talked to, whoever has
//! dialled. One that speaks later versions alone is refused in words; nothing is lost, and it goes on once both
//! speak a common version.

use std::sync::{Arc, Mutex};

use groundswell::{ClaimError, ClaimFailure, ClaimRefusal, MachineState};
use groundswell_core::{
    encoding::decode,
    kv::{
        Change, Envelope, KvAuthor, KvKey, SpaceName, Stamp,
        pairing::{CLAIM_VERSIONS, ClaimPayload, ToMachine, ToManager, commitment},
        wire::{Held, KvHello, KvMessage, decode_kv_message},
    },
    wire::{Extension, PROTOCOL_VERSIONS, StreamKind, VersionMismatch, VersionRange, encode_frame},
};
use iroh::{
    Endpoint, EndpointAddr, SecretKey,
    endpoint::{Connection, RecvStream},
};
use iroh_docs::{Author, NamespaceSecret, Record, SignedEntry};
use serde::Serialize;
use tempfile::TempDir;

use crate::{
    common::{
        raw::{ALPN, closed, hello_speaking, read_frame},
        recorded::Recorded,
    },
    kv::{
        common::{OPEN, Pair, pair, spawn_machine, spawn_manager, until, until_put, within},
        raw::{self, Stored, address, hear, knock_on, say},
    },
};

const MAX_VALUE_BYTES: usize = groundswell::limits::MAX_KV_VALUE_BYTES;

fn neighbours(current: VersionRange) -> [VersionRange; 2] {
    let now = current.highest();
    [VersionRange::new(now, now + 1).unwrap(), VersionRange::new(now - 1, now).unwrap()]
}

fn later(current: VersionRange) -> VersionRange {
    let now = current.highest();
    VersionRange::new(now + 1, now + 2).unwrap()
}

/// Both ranges, and which side is to be updated.
fn says_all(said: &str, current: VersionRange, update: &str) {
    for part in [later(current).to_string(), current.to_string(), format!("update {update}")] {
        assert!(said.contains(&part), "{said}");
    }
}

/// A connection on which this side has said which versions it speaks.
async fn connect_speaking(from: &Endpoint, to: EndpointAddr, versions: VersionRange) -> Connection {
    let connection = within("a connection", from.connect(to, ALPN)).await.unwrap();
    hello_speaking(&connection, versions).await;
    connection
}

/// The frames of entries that come until the other side has caught up.
async fn entries_until_caught_up(recv: &mut RecvStream) -> usize {
    let mut entries = 0;
    loop {
        let body = within("a message", hear(recv)).await.expect("the connection goes on");
        match decode_kv_message(MAX_VALUE_BYTES, &body).unwrap() {
            KvMessage::Entry { .. } => entries += 1,
            KvMessage::CaughtUp => return entries,
            _ => {}
        }
    }
}

/// The manager dials, by hand and in many versions, and the machine answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_manager_of_a_neighbouring_version_is_talked_to_and_a_later_one_loses_no_pairing() {
    let Pair { machine, manager, id: _, machine_dir: _one, manager_dir } = Pair::new().await;
    let manager_id = manager.id();
    manager.shutdown().await.unwrap();
    machine.set_kv_value("stock", "12").await.unwrap();
    let stored = Stored::read(manager_dir.path());
    let by_hand = raw::endpoint(Some(stored.key.clone())).await;
    let (to, document) = (address(&machine.ticket()), stored.documents()[0]);
    for versions in neighbours(PROTOCOL_VERSIONS) {
        let connection = connect_speaking(&by_hand, to.clone(), versions).await;
        let mut knock = knock_on(connection, document).await;
        assert_eq!(entries_until_caught_up(&mut knock.recv).await, 1, "{versions}");
        knock.connection.close(0_u32.into(), b"");
    }
    let connection = connect_speaking(&by_hand, to.clone(), later(PROTOCOL_VERSIONS)).await;
    let mut heard = within("the machine's hello", connection.accept_uni()).await.unwrap();
    let heard = within("the machine's hello", read_frame(&mut heard)).await.unwrap();
    assert_eq!(VersionRange::of_hello(&heard), Ok(PROTOCOL_VERSIONS), "the machine says what it speaks");
    let (code, reason) = within("the end", closed(&connection)).await;
    assert_eq!(code, 1, "{reason}");
    says_all(&reason, PROTOCOL_VERSIONS, "the other side");
    let mut status = machine.status_changes();
    let refused = within("the problem", status.wait_for(|status| status.problem.is_some())).await.unwrap().clone();
    says_all(&refused.problem.unwrap(), PROTOCOL_VERSIONS, "this side");
    assert_eq!(machine.get_machine_state(), MachineState::Claimed { manager: manager_id });
    by_hand.close().await;
    // Updated together, both go on as if nothing had been.
    let manager = spawn_manager(manager_dir.path()).await;
    let id = machine.id();
    until_put(&mut manager.watch_kv_key(id, "stock").await.unwrap(), "stock", "12").await;
    within("the problem to be over", status.wait_for(|status| status.problem.is_none())).await.unwrap();
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

/// The machine dials, and a manager answers by hand.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_dials_a_manager_of_a_later_version_until_both_speak_a_common_one() {
    for neighbour in neighbours(PROTOCOL_VERSIONS) {
        let Pair { machine, manager, id: _, machine_dir: _one, manager_dir } = Pair::new().await;
        let manager_id = manager.id();
        let at = address(&manager.node().ticket()).ip_addrs().next().copied().unwrap();
        manager.shutdown().await.unwrap();
        machine.set_kv_value("stock", "12").await.unwrap();
        let stored = Stored::read(manager_dir.path());
        let document = stored.documents()[0];
        let by_hand = raw::endpoint_at(Some(stored.key.clone()), at).await;
        let speaks = Arc::new(Mutex::new(later(PROTOCOL_VERSIONS)));
        let (caught_up, mut told) = tokio::sync::mpsc::unbounded_channel();
        let (accepting, spoken) = (by_hand.clone(), speaks.clone());
        let task = tokio::spawn(async move {
            while let Some(incoming) = accepting.accept().await {
                let Ok(connection) = incoming.await else { continue };
                let versions = *spoken.lock().unwrap();
                hello_speaking(&connection, versions).await;
                if PROTOCOL_VERSIONS.common(versions).is_ok() {
                    let (mut send, mut recv) = raw::accept(&connection, StreamKind::Document).await;
                    assert!(decode::<KvHello>(&hear(&mut recv).await.unwrap()).is_ok());
                    say(&mut send, &raw::hello(document)).await;
                    let entries = entries_until_caught_up(&mut recv).await;
                    // It holds what came.
                    say(&mut send, &KvMessage::Ack(Held { machine: u64::MAX, manager: 0 })).await;
                    caught_up.send((entries, connection, send)).unwrap();
                } else {
                    assert_eq!(closed(&connection).await.0, 1);
                }
            }
        });
        let mut status = machine.status_changes();
        let refused = within("the problem", status.wait_for(|status| status.problem.is_some())).await.unwrap().clone();
        says_all(&refused.problem.unwrap(), PROTOCOL_VERSIONS, "this side");
        assert_eq!(machine.get_machine_state(), MachineState::Claimed { manager: manager_id });
        *speaks.lock().unwrap() = neighbour;
        let (entries, _connection, _send) = within("the machine to come again", told.recv()).await.unwrap();
        assert_eq!(entries, 1, "{neighbour}");
        within("the problem to be over", status.wait_for(|status| status.problem.is_none())).await.unwrap();
        within("the delivery", machine.until_kv_delivered()).await.unwrap();
        machine.shutdown().await.unwrap();
        task.abort();
    }
}

/// Somebody with a claim by hand, up to the machine's first answer.
async fn claim_by_hand(from: &Endpoint, to: EndpointAddr, versions: VersionRange) -> (Connection, ToManager) {
    let (connection, mut send, mut recv) = raw::begin(from, to, StreamKind::Claim).await;
    let extension = Extension::new(b"of a later version").unwrap();
    let claim = ToMachine::Claim { versions, commitment: commitment(&[7; 32]), proof: None, extension };
    say(&mut send, &claim).await;
    let body = within("the machine", hear(&mut recv)).await.unwrap();
    (connection, decode(&body).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_takes_the_claim_of_a_neighbouring_version_and_refuses_a_later_one_with_both_ranges() {
    let (machine_dir, manager_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (machine, manager) = (spawn_machine(machine_dir.path()).await, spawn_manager(manager_dir.path()).await);
    let (by_hand, to) = (raw::endpoint(None).await, address(&machine.ticket()));
    machine.open_claims(OPEN);
    for versions in neighbours(CLAIM_VERSIONS) {
        until("the claim to be admitted", async || {
            let (connection, answer) = claim_by_hand(&by_hand, to.clone(), versions).await;
            connection.close(0_u32.into(), b"");
            match answer {
                ToManager::Nonce { versions, .. } => {
                    assert_eq!(versions, CLAIM_VERSIONS);
                    true
                }
                // The one before is over in a moment.
                ToManager::Refused(ClaimRefusal::Busy) => false,
                other => panic!("{other:?}"),
            }
        })
        .await;
    }
    let (_connection, answer) = claim_by_hand(&by_hand, to, later(CLAIM_VERSIONS)).await;
    let ToManager::Refused(refusal) = answer else { panic!("{answer:?}") };
    let mismatch = VersionMismatch { ours: CLAIM_VERSIONS, theirs: later(CLAIM_VERSIONS) };
    assert_eq!(refusal, ClaimRefusal::Versions(mismatch));
    says_all(&refusal.to_string(), CLAIM_VERSIONS, "the machine");
    pair(&machine, &manager).await;
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_claims_a_machine_of_a_neighbouring_version_and_is_told_of_a_later_one() {
    let dir = TempDir::new().unwrap();
    let manager = spawn_manager(dir.path()).await;
    let machine = raw::endpoint(None).await;
    let ticket = raw::ticket(&machine);
    let mut claims = raw::accept_all(&machine, StreamKind::Claim);
    // What a machine answers to the claim of this manager.
    let mut answered = async |answer: ToManager| {
        let (claim, _connection) = tokio::join!(manager.begin_claim(&ticket), async {
            let (connection, mut send, mut recv) = within("the manager", claims.recv()).await.unwrap();
            let body = within("the manager", hear(&mut recv)).await.unwrap();
            let (0, rest) = postcard::take_from_bytes::<u32>(&body).unwrap() else { panic!("a claim comes first") };
            assert_eq!(VersionRange::of_hello(rest), Ok(CLAIM_VERSIONS));
            say(&mut send, &answer).await;
            (connection, send, recv)
        });
        claim.map(drop)
    };
    let nonce = |versions| ToManager::Nonce { versions, nonce: [7; 32], extension: Extension::default() };
    for versions in neighbours(CLAIM_VERSIONS) {
        assert!(answered(nonce(versions)).await.is_ok(), "a PIN is shown");
    }
    let mismatch = VersionMismatch { ours: later(CLAIM_VERSIONS), theirs: CLAIM_VERSIONS };
    // Refused as it should be, and by a machine that does not refuse what it should.
    for answer in [ToManager::Refused(ClaimRefusal::Versions(mismatch)), nonce(later(CLAIM_VERSIONS))] {
        let error = answered(answer).await.unwrap_err();
        let expected = ClaimRefusal::Versions(mismatch);
        assert!(matches!(error, ClaimError::Claim(ClaimFailure::Refused(refusal)) if refusal == expected), "{error}");
        says_all(&error.to_string(), CLAIM_VERSIONS, "the manager");
    }
    manager.shutdown().await.unwrap();
}

fn frame<M: Serialize>(message: &M) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_frame(message, &mut frame).unwrap();
    frame
}

/// What a machine sends that is claimed, and then has one entry: to be recorded as the session of this version.
fn a_machines_session(key: &SecretKey, secret: &NamespaceSecret) -> Vec<Vec<u8>> {
    let author = Author::from_bytes(&[0x33; 32]);
    let card = (secret.to_bytes(), author.id().to_bytes(), EndpointAddr::new(key.public()));
    let payload = ClaimPayload::new(&postcard::to_allocvec(&card).unwrap()).unwrap();
    let envelope = Envelope {
        space: SpaceName::default(),
        key: KvKey::new("stock").unwrap(),
        stamp: Stamp { wall_ms: 1_750_000_000_000, count: 0 },
        timestamp: 1_750_000_000_000,
        change: Change::Put(b"12".to_vec().into()),
    };
    let (document_key, envelope) = (envelope.document_key(), envelope.encode(MAX_VALUE_BYTES).unwrap());
    let record = Record::new(blake3::hash(&envelope).into(), envelope.len() as u64, 1);
    let signed = SignedEntry::from_parts(secret, &author, document_key, record);
    let signatures = postcard::to_allocvec(signed.signature()).unwrap();
    let signed = [&[0][..], &document_key, &1_u64.to_le_bytes(), &signatures].concat();
    let hello = KvHello {
        document: secret.id().to_bytes(),
        wall_ms: 1_750_000_000_000,
        held: Held { machine: 1, manager: 0 },
        extension: Extension::default(),
    };
    vec![
        frame(&ToManager::Nonce { versions: CLAIM_VERSIONS, nonce: [7; 32], extension: Extension::default() }),
        frame(&ToManager::Handover { payload }),
        frame(&hello),
        frame(&KvMessage::Entry { signed: signed.into(), envelope: envelope.into() }),
        frame(&KvMessage::UpTo { author: KvAuthor::Machine, counter: 1 }),
        frame(&KvMessage::CaughtUp),
    ]
}

/// A recorded machine is claimed by a manager of today, and gives it what it has.
#[tokio::test(flavor = "multi_thread")]
async fn the_recorded_bytes_of_a_machine_make_a_pair() {
    let (key, secret) = (SecretKey::from_bytes(&[0x11; 32]), NamespaceSecret::from_bytes(&[0x22; 32]));
    let recorded = Recorded { name: "kv-{}-machine", versions: PROTOCOL_VERSIONS };
    for session in recorded.sessions(&a_machines_session(&key, &secret)) {
        let [nonce, handover, of_document @ ..] = &session[..] else { panic!("two frames of a claim") };
        let dir = TempDir::new().unwrap();
        let manager = spawn_manager(dir.path()).await;
        let machine = raw::endpoint(Some(key.clone())).await;
        let ticket = raw::ticket(&machine);
        let (claimed, connection) = tokio::join!(
            async { within("the claim", manager.begin_claim(&ticket)).await.unwrap().answer(true).await },
            async {
                let connection = within("the manager", machine.accept()).await.unwrap().await.unwrap();
                hello_speaking(&connection, PROTOCOL_VERSIONS).await;
                let (mut send, mut recv) = raw::accept(&connection, StreamKind::Claim).await;
                within("the claim", hear(&mut recv)).await.unwrap();
                send.write_all(nonce).await.unwrap();
                within("the manager's nonce", hear(&mut recv)).await.unwrap();
                within("the manager's consent", hear(&mut recv)).await.unwrap();
                send.write_all(handover).await.unwrap();
                connection
            }
        );
        let id = claimed.unwrap();
        // The manager goes on with the connection that there is.
        let (mut send, mut recv) = raw::accept(&connection, StreamKind::Document).await;
        for frame in of_document {
            send.write_all(frame).await.unwrap();
        }
        assert!(decode::<KvHello>(&within("the manager's hello", hear(&mut recv)).await.unwrap()).is_ok());
        until_put(&mut manager.watch_kv_key(id, "stock").await.unwrap(), "stock", "12").await;
        // And the manager acknowledges.
        loop {
            let body = within("an acknowledgement", hear(&mut recv)).await.unwrap();
            if let KvMessage::Ack(held) = decode_kv_message(MAX_VALUE_BYTES, &body).unwrap() {
                assert_eq!(held.machine, 1);
                break;
            }
        }
        manager.shutdown().await.unwrap();
    }
}

/// A recorded manager claims a machine of today.
#[tokio::test(flavor = "multi_thread")]
async fn the_recorded_bytes_of_a_manager_make_a_pair() {
    let key = SecretKey::from_bytes(&[0x11; 32]);
    let card = (Author::from_bytes(&[0x33; 32]).id().to_bytes(), EndpointAddr::new(key.public()));
    let payload = ClaimPayload::new(&postcard::to_allocvec(&card).unwrap()).unwrap();
    let extension = Extension::default();
    let newest = [
        frame(&ToMachine::Claim { versions: CLAIM_VERSIONS, commitment: commitment(&[7; 32]), proof: None, extension }),
        frame(&ToMachine::Reveal { nonce: [7; 32] }),
        frame(&ToMachine::Confirm { payload }),
    ];
    let recorded = Recorded { name: "claim-{}-manager", versions: CLAIM_VERSIONS };
    for session in recorded.sessions(&newest) {
        let [claim, reveal, confirm] = &session[..] else { panic!("three frames") };
        let dir = TempDir::new().unwrap();
        let machine = spawn_machine(dir.path()).await;
        let manager = raw::endpoint(Some(key.clone())).await;
        let asked = machine.await_incoming_claim();
        let (asked, (connection, mut send, mut recv)) = tokio::join!(asked, async {
            let (connection, mut send, mut recv) =
                raw::begin(&manager, address(&machine.ticket()), StreamKind::Claim).await;
            send.write_all(claim).await.unwrap();
            within("the machine's nonce", hear(&mut recv)).await.unwrap();
            send.write_all(reveal).await.unwrap();
            (connection, send, recv)
        });
        let answered = asked.unwrap().answer(true);
        send.write_all(confirm).await.unwrap();
        let handover = within("the handover", hear(&mut recv)).await.unwrap();
        assert!(matches!(decode(&handover), Ok(ToManager::Handover { .. })));
        assert_eq!(within("the pair", answered).await.unwrap(), manager.id());
        assert_eq!(machine.get_machine_state(), MachineState::Claimed { manager: manager.id() });
        drop(connection);
        machine.shutdown().await.unwrap();
    }
}
