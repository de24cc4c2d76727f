//! The bytes of everything that two sides of a document send to one another or store for one
//! another, as files. They change only with a version.
//!
//! `UPDATE_GOLDEN=1 cargo test -p groundswell-core --test it kv_golden` writes them anew.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it panics")]

use std::{borrow::Cow, collections::BTreeSet, fmt::Debug};

use crate::common::golden::Golden;
use bytes::Bytes;
use groundswell_core::{
    encoding::decode,
    kv::{
        Change, Envelope, KvAuthor, KvKey, Release, SpaceName, Stamp, document_key,
        pairing::{
            CLAIM_VERSIONS, ClaimPayload, ClaimPin, ClaimSecret, PeerKey, Refusal, ToMachine, ToManager, commitment,
            decode_to_machine, decode_to_manager,
        },
        wire::{Held, KvHello, KvMessage, decode_kv_message, encode_kv_frame, kv_frame_length},
    },
    limits::MAX_KV_VALUE_BYTES,
    wire::{Extension, FRAME_HEADER_BYTES, VersionMismatch, VersionRange, encode_frame},
};
use serde::Serialize;

const GOLDEN: Golden = Golden("kv");

fn envelopes() -> Vec<(&'static str, Envelope)> {
    let stamp = Stamp { wall_ms: 1_750_000_000_000, count: 300 };
    let key = KvKey::new("slot/1").unwrap();
    let put = |value: &'static [u8]| Change::Put(Bytes::from_static(value));
    let configuration = SpaceName::new("configuration").unwrap();
    let entry = Envelope { space: SpaceName::default(), key, stamp, timestamp: 1_750_000_000_123, change: put(b"7") };
    vec![
        ("envelope-put", entry.clone()),
        ("envelope-put-empty", Envelope { change: put(b""), key: KvKey::default(), ..entry.clone() }),
        ("envelope-delete", Envelope { change: Change::Delete, ..entry.clone() }),
        ("envelope-space", Envelope { space: configuration, ..entry }),
    ]
}

fn to_machine() -> Vec<(&'static str, ToMachine)> {
    let payload = ClaimPayload::new(b"the manager's").unwrap();
    vec![
        (
            "claim",
            ToMachine::Claim {
                versions: CLAIM_VERSIONS,
                commitment: [0xc0; 32],
                proof: None,
                extension: Extension::default(),
            },
        ),
        (
            "claim-with-secret",
            ToMachine::Claim {
                versions: CLAIM_VERSIONS,
                commitment: [0xc0; 32],
                proof: Some(ClaimSecret([0x5e; 16]).prove(&[0xe0; 32], &[0xc0; 32])),
                extension: Extension::default(),
            },
        ),
        ("claim-reveal", ToMachine::Reveal { nonce: [0xa0; 32] }),
        ("claim-confirm", ToMachine::Confirm { payload }),
        ("claim-decline", ToMachine::Decline),
    ]
}

fn to_manager() -> Vec<(&'static str, ToManager)> {
    let payload = ClaimPayload::new(b"the machine's").unwrap();
    let newer = VersionRange::new(300, 301).unwrap();
    let extension = Extension::default();
    vec![
        ("claim-nonce", ToManager::Nonce { versions: CLAIM_VERSIONS, nonce: [0xb0; 32], extension }),
        ("claim-handover", ToManager::Handover { payload }),
        (
            "claim-refused-versions",
            ToManager::Refused(Refusal::Versions(VersionMismatch { ours: CLAIM_VERSIONS, theirs: newer })),
        ),
        ("claim-refused-taken", ToManager::Refused(Refusal::Taken)),
        ("claim-refused-busy", ToManager::Refused(Refusal::Busy)),
        ("claim-refused-too-many-attempts", ToManager::Refused(Refusal::TooManyAttempts { retry_after_ms: 300_000 })),
        ("claim-refused-declined", ToManager::Refused(Refusal::Declined)),
        ("claim-refused-timed-out", ToManager::Refused(Refusal::TimedOut)),
        ("claim-refused-malformed", ToManager::Refused(Refusal::Malformed)),
        ("claim-refused-storage", ToManager::Refused(Refusal::Storage)),
        ("claim-refused-closed", ToManager::Refused(Refusal::Closed)),
        ("claim-refused-secret", ToManager::Refused(Refusal::Secret)),
    ]
}

fn hello() -> KvHello {
    KvHello {
        document: [0xd0; 32],
        wall_ms: 1_750_000_000_000,
        held: Held { machine: 300, manager: 2 },
        extension: Extension::new(b"of a later version").unwrap(),
    }
}

fn messages() -> Vec<(&'static str, KvMessage<'static>)> {
    let (signed, envelope) = (Cow::Borrowed(b"signed".as_slice()), Cow::Borrowed(b"envelope".as_slice()));
    vec![
        ("kv-entry", KvMessage::Entry { signed, envelope }),
        ("kv-up-to", KvMessage::UpTo { author: KvAuthor::Manager, counter: 300 }),
        ("kv-ack", KvMessage::Ack(Held { machine: 300, manager: 2 })),
        ("kv-caught-up", KvMessage::CaughtUp),
        ("kv-released", KvMessage::Released { signature: [0x5e; 64].into() }),
        ("kv-shutting-down", KvMessage::ShuttingDown),
        ("kv-want", KvMessage::Want { author: KvAuthor::Manager, key: [0xd0; 32] }),
        ("kv-answered", KvMessage::Answered { wants: 1_024 }),
    ]
}

/// A message as the body of its frame, which has the same bytes on both ways to encode it.
fn framed<M: Serialize + Debug>(name: &str, message: &M) -> Vec<u8> {
    let (mut frame, mut same) = (Vec::new(), Vec::new());
    encode_kv_frame(MAX_KV_VALUE_BYTES, message, &mut frame).unwrap();
    encode_frame(message, &mut same).unwrap();
    assert_eq!(frame, same);
    let stored = GOLDEN.check(name, message, &frame);
    let (header, body) = stored.split_first_chunk::<FRAME_HEADER_BYTES>().unwrap();
    assert_eq!(kv_frame_length(MAX_KV_VALUE_BYTES, *header), Ok(body.len()));
    body.to_vec()
}

#[test]
fn envelopes_have_their_bytes() {
    for (name, envelope) in envelopes() {
        let stored = GOLDEN.check(name, &envelope, &envelope.encode(MAX_KV_VALUE_BYTES).unwrap());
        let read = Envelope::decode(&envelope.document_key(), &stored, MAX_KV_VALUE_BYTES);
        assert_eq!(read, Ok(envelope), "{name}");
    }
}

#[test]
fn the_messages_of_a_claim_have_their_bytes() {
    for (name, message) in to_machine() {
        assert_eq!(decode_to_machine(&framed(name, &message)), Ok(message), "{name}");
    }
    for (name, message) in to_manager() {
        assert_eq!(decode_to_manager(&framed(name, &message)), Ok(message), "{name}");
    }
}

#[test]
fn the_messages_of_a_document_have_their_bytes() {
    let body = framed("kv-hello", &hello());
    assert_eq!(decode(&body), Ok(hello()));
    for (name, message) in messages() {
        assert_eq!(decode_kv_message(MAX_KV_VALUE_BYTES, &framed(name, &message)), Ok(message), "{name}");
    }
}

#[test]
fn what_is_hashed_has_its_bytes() {
    let (space, key) = (SpaceName::new("configuration").unwrap(), KvKey::new("slot/1").unwrap());
    let hashed = document_key(&space, &key);
    assert_eq!(GOLDEN.check("document-key", &(space, key), &hashed), hashed);
    let bound = commitment(&[0xa0; 32]);
    assert_eq!(GOLDEN.check("commitment", &"of 32 times a0", &bound), bound);
    let pin = ClaimPin::derive(&[0xe0; 32], &[0xa0; 32], &[0xb0; 32]);
    let text = pin.to_string();
    assert_eq!(GOLDEN.check("pin", &pin, text.as_bytes()), text.as_bytes());
}

#[test]
fn what_is_signed_has_its_bytes() {
    let release = Release { document: [0xd0; 32], by: PeerKey([0xb1; 32]), to: PeerKey([0xb2; 32]) };
    let signed = release.to_bytes();
    assert_eq!(GOLDEN.check("release", &release, &signed), signed);
    // Each part counts: a statement of one pair is none of another.
    let others = [
        Release { document: [0xd1; 32], ..release },
        Release { by: release.to, to: release.by, ..release },
        Release { by: PeerKey([0xb3; 32]), ..release },
        Release { to: PeerKey([0xb3; 32]), ..release },
    ];
    assert!(others.iter().all(|other| other.to_bytes() != signed));
}

#[test]
fn no_variant_is_without_a_file() {
    // A new variant fails to compile here until it has a place, and then a file.
    let places = to_machine().into_iter().map(|(_, message)| match message {
        ToMachine::Claim { .. } => 0,
        ToMachine::Reveal { .. } => 1,
        ToMachine::Confirm { .. } => 2,
        ToMachine::Decline => 3,
    });
    assert_eq!(places.collect::<BTreeSet<_>>(), (0..4).collect());
    let places = to_manager().into_iter().map(|(_, message)| match message {
        ToManager::Nonce { .. } => 0,
        ToManager::Handover { .. } => 1,
        ToManager::Refused(refusal) => match refusal {
            Refusal::Versions(_) => 2,
            Refusal::Taken => 3,
            Refusal::Busy => 4,
            Refusal::TooManyAttempts { .. } => 5,
            Refusal::Declined => 6,
            Refusal::TimedOut => 7,
            Refusal::Malformed => 8,
            Refusal::Storage => 9,
            Refusal::Closed => 10,
            Refusal::Secret => 11,
        },
    });
    assert_eq!(places.collect::<BTreeSet<_>>(), (0..12).collect());
    let places = messages().into_iter().map(|(_, message)| match message {
        KvMessage::Entry { .. } => 0,
        KvMessage::UpTo { .. } => 1,
        KvMessage::Ack(_) => 2,
        KvMessage::CaughtUp => 3,
        KvMessage::Released { .. } => 4,
        KvMessage::ShuttingDown => 5,
        KvMessage::Want { .. } => 6,
        KvMessage::Answered { .. } => 7,
    });
    assert_eq!(places.collect::<BTreeSet<_>>(), (0..8).collect());
}

#[test]
fn the_directory_holds_nothing_else() {
    let known = envelopes().into_iter().map(|(name, _)| name);
    let known = known.chain(to_machine().into_iter().map(|(name, _)| name));
    let known = known.chain(to_manager().into_iter().map(|(name, _)| name));
    let known = known.chain(messages().into_iter().map(|(name, _)| name));
    GOLDEN.holds_only(known.chain(["kv-hello", "document-key", "commitment", "pin", "release"]));
}
