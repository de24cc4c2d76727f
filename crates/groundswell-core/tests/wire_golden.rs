//! The bytes of every message, as files. They change only with the protocol's version.
//!
//! `UPDATE_GOLDEN=1 cargo test -p groundswell-core --test wire_golden` writes them anew.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it panics")]

mod common;

use std::{borrow::Cow, collections::BTreeSet, env, fmt::Debug, fs, path::PathBuf};

use common::cursor;
use groundswell_core::{
    Aeon, Digest, LakeId, Name, Path,
    encoding::decode,
    wire::{BootId, FRAME_HEADER_BYTES, Hello, Message, PROTOCOL_VERSION, Refusal, Surf, encode_frame, frame_length},
};
use serde::{Serialize, de::DeserializeOwned};

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/wire")
}

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
    vec![("hello", Hello { protocol: PROTOCOL_VERSION, boot: BootId([0xb0; 16]) })]
}

fn frame<M: Serialize>(message: &M) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_frame(message, &mut frame).expect("a message encodes");
    frame
}

/// The file's text: what it is, and its bytes, the length first, in lines of 32.
fn text<M: Serialize + Debug>(message: &M) -> String {
    let hex: Vec<String> =
        frame(message).chunks(32).map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
    format!("# {message:?}\n{}\n", hex.join("\n"))
}

fn bytes(text: &str) -> Vec<u8> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let digits: String = lines.flat_map(str::chars).filter(|digit| !digit.is_whitespace()).collect();
    let byte = |index: usize| u8::from_str_radix(&digits[index..index + 2], 16).expect("hexadecimal digits");
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn read_or_update<M: Serialize + Debug>(name: &str, message: &M) -> Vec<u8> {
    let file = directory().join(format!("{name}.golden"));
    let expected = text(message);
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(directory()).expect("the directory of golden files");
        fs::write(&file, &expected).expect("a golden file is written");
    }
    let stored = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{name}: {error}; run with UPDATE_GOLDEN=1"));
    assert_eq!(
        stored, expected,
        "the bytes of {name} have changed: peers of the version before cannot read them. \
         Append instead, or raise PROTOCOL_VERSION and run with UPDATE_GOLDEN=1"
    );
    bytes(&stored)
}

/// The body of a frame.
fn body(frame: &[u8]) -> &[u8] {
    let (header, body) = frame.split_first_chunk::<FRAME_HEADER_BYTES>().expect("a header");
    assert_eq!(frame_length(*header), Ok(body.len()));
    body
}

fn check<M: Serialize + DeserializeOwned + Debug + PartialEq>(values: Vec<(&'static str, M)>) {
    for (name, value) in values {
        let stored = read_or_update(name, &value);
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
        let stored = read_or_update(name, &message);
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
        },
        Message::Resumed(_) => 2,
        Message::Rock { .. } => 3,
        Message::Chunk(_) => 4,
        Message::Wave { .. } => 5,
        Message::CaughtUp(_) => 6,
        Message::ShuttingDown => 7,
    };
    let places: BTreeSet<_> = messages().iter().map(|(_, message)| place(message)).collect();
    assert_eq!(places, BTreeSet::from([0, 10, 11, 12, 13, 14, 2, 3, 4, 5, 6, 7]));
}

#[test]
fn the_directory_holds_nothing_else() {
    let known = messages().into_iter().map(|(name, _)| name);
    let known =
        known.chain(surfs().into_iter().map(|(name, _)| name)).chain(hellos().into_iter().map(|(name, _)| name));
    let known: BTreeSet<String> = known.map(|name| format!("{name}.golden")).collect();
    let entries = fs::read_dir(directory()).expect("the directory of golden files");
    for entry in entries {
        let name = entry.expect("an entry").file_name().into_string().expect("a name in UTF-8");
        assert!(known.contains(&name), "{name} belongs to no message");
    }
}
