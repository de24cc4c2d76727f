//! The bytes of every message, as files. They change only with the protocol's version.
//!
//! `UPDATE_GOLDEN=1 cargo test -p groundswell-core --test it wire_golden` writes them anew.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it panics")]

use std::{borrow::Cow, collections::BTreeSet, fmt::Debug};

use crate::common::{cursor, golden::Golden};
use groundswell_core::{
    Aeon, Digest, LakeId, Name, Path,
    encoding::decode,
    wire::{
        BootId, Extension, FRAME_HEADER_BYTES, Hello, Message, PROTOCOL_VERSIONS, Refusal, Surf, VersionRange,
        encode_frame, frame_length,
    },
};
use serde::{Serialize, de::DeserializeOwned};

const GOLDEN: Golden = Golden("wire");

fn lake() -> LakeId {
    LakeId { name: Name::new("log").unwrap(), version: 300 }
}

/// Every variant of every message, with each of its options once there and once not.
fn messages() -> Vec<(&'static str, Message<'static>)> {
    let digest = Digest([0xd1; 32]);
    let refused = |refusal| Message::Refused(refusal);
    vec![
        ("message-not-available", Message::NotAvailable),
        ("message-refused-lake-differs", refused(Refusal::LakeDiffers { published: lake() })),
        ("message-refused-too-many-subscriptions", refused(Refusal::TooManySubscriptions { limit: 1_000 })),
        ("message-refused-too-many-parked", refused(Refusal::TooManyParked { limit: 1_000 })),
        ("message-refused-malformed", refused(Refusal::Malformed)),
        ("message-refused-storage", refused(Refusal::Storage)),
        ("message-refused-crowded", refused(Refusal::Crowded)),
        ("message-resumed", Message::Resumed(cursor(0xe1, 300))),
        ("message-rock", Message::Rock { at: cursor(0xe1, 300), bytes: 70_000, digest }),
        ("message-chunk", Message::Chunk(Cow::Borrowed(b"bytes of a rock"))),
        ("message-wave", Message::Wave { aeon: Aeon(301), digest: None, wave: Cow::Borrowed(b"a wave") }),
        (
            "message-wave-digest",
            Message::Wave { aeon: Aeon(301), digest: Some(digest), wave: Cow::Borrowed(b"a wave") },
        ),
        ("message-caught-up", Message::CaughtUp(Aeon(301))),
        ("message-shutting-down", Message::ShuttingDown),
    ]
}

fn surfs() -> Vec<(&'static str, Surf)> {
    let (agent, path) = (Name::new("simple").unwrap(), Path::new("/log/today").unwrap());
    let surf = Surf { agent, path, lake: lake(), cursor: None };
    vec![("surf", surf.clone()), ("surf-cursor", Surf { cursor: Some(cursor(0xe1, 300)), ..surf })]
}

fn hellos() -> Vec<(&'static str, Hello)> {
    let hello = Hello { versions: PROTOCOL_VERSIONS, boot: BootId([0xb0; 16]), extension: Extension::default() };
    let extension = Extension::new(b"of a later version").unwrap();
    let later = Hello { versions: VersionRange::new(3, 300).unwrap(), extension, ..hello.clone() };
    vec![("hello", hello), ("hello-later", later)]
}

fn frame<M: Serialize>(message: &M) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_frame(message, &mut frame).expect("a message encodes");
    frame
}

/// The body of a frame.
fn body(frame: &[u8]) -> &[u8] {
    let (header, body) = frame.split_first_chunk::<FRAME_HEADER_BYTES>().expect("a header");
    assert_eq!(frame_length(*header), Ok(body.len()));
    body
}

fn check<M: Serialize + DeserializeOwned + Debug + PartialEq>(values: Vec<(&'static str, M)>) {
    for (name, value) in values {
        let stored = GOLDEN.check(name, &value, &frame(&value));
        assert_eq!(decode::<M>(body(&stored)), Ok(value), "{name}");
    }
}

#[test]
fn hello_and_surf_have_their_bytes() {
    check(hellos());
    check(surfs());
}

#[test]
fn every_message_has_its_bytes() {
    for (name, message) in messages() {
        let stored = GOLDEN.check(name, &message, &frame(&message));
        assert_eq!(decode::<Message<'_>>(body(&stored)), Ok(message), "{name}");
    }
}

#[test]
fn no_variant_is_without_a_file() {
    // A new variant fails to compile here until it has a place, and then a file.
    let place = |message: &Message<'_>| match message {
        Message::NotAvailable => 0,
        Message::Refused(refusal) => match refusal {
            Refusal::LakeDiffers { .. } => 10,
            Refusal::TooManySubscriptions { .. } => 11,
            Refusal::TooManyParked { .. } => 12,
            Refusal::Malformed => 13,
            Refusal::Storage => 14,
            Refusal::Crowded => 15,
        },
        Message::Resumed(_) => 2,
        Message::Rock { .. } => 3,
        Message::Chunk(_) => 4,
        Message::Wave { .. } => 5,
        Message::CaughtUp(_) => 6,
        Message::ShuttingDown => 7,
    };
    let places: BTreeSet<_> = messages().iter().map(|(_, message)| place(message)).collect();
    assert_eq!(places, BTreeSet::from([0, 10, 11, 12, 13, 14, 15, 2, 3, 4, 5, 6, 7]));
}

#[test]
fn the_directory_holds_nothing_else() {
    let known = messages().into_iter().map(|(name, _)| name);
    let known =
        known.chain(surfs().into_iter().map(|(name, _)| name)).chain(hellos().into_iter().map(|(name, _)| name));
    GOLDEN.holds_only(known);
}
