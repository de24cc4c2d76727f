//! What a hostile peer can send: bytes that are no message, messages that are no sequence.
//! Never a panic, never more memory than the limits say, and each illegal order has its name.
#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]

use std::borrow::Cow;

use crate::common::{cursor, info};
use groundswell_core::{
    Aeon, Cursor, Digest, LakeId, Name, Path,
    encoding::{DecodeError, decode, encode},
    limits::{MAX_FRAME_BYTES, MAX_ROCK_BYTES, MAX_WAVE_BYTES, ROCK_CHUNK_BYTES},
    subscriber::{Inflow, Intake, Violation},
    wire::{
        BootId, Extension, FrameError, Hello, Message, PROTOCOL_VERSIONS, Refusal, Retry, Surf, encode_frame,
        frame_length,
    },
};
use proptest::prelude::*;

fn surf() -> Surf {
    let lake = LakeId { name: Name::new("log").unwrap(), version: 1 };
    let path = Path::new("/log/today").unwrap();
    Surf { agent: Name::new("simple").unwrap(), path, lake, cursor: Some(cursor(1, 5)) }
}

fn rock(at: Cursor, bytes: &[u8]) -> Message<'static> {
    let info = info(bytes);
    Message::Rock { at, bytes: info.bytes, digest: info.digest }
}

fn chunk(bytes: &[u8]) -> Message<'_> {
    Message::Chunk(Cow::Borrowed(bytes))
}

fn wave(aeon: u64) -> Message<'static> {
    Message::Wave { aeon: Aeon(aeon), digest: None, wave: Cow::Borrowed(b"wave") }
}

/// A few of everything, with places that are near one another, and a few that are far out.
fn message() -> impl Strategy<Value = Message<'static>> {
    let aeon = || {
        prop_oneof![
            20 => 0_u64..6,
            1 => Just(u64::MAX),
            1 => Just(u64::MAX - 1),
            1 => Just(Aeon::LAST.0),
            1 => Just(Aeon::LAST.0 + 1),
        ]
    };
    let place = move || (0_u8..2, aeon()).prop_map(|(epoch, aeon)| cursor(epoch, aeon));
    let digest = prop_oneof![3 => Just(Digest::of(b"rock")), 1 => Just(Digest::of(b"")), 1 => Just(Digest([0; 32]))];
    let bytes = prop_oneof![6 => Just(4_u64), 1 => Just(0), 1 => Just(u64::MAX), 1 => Just(MAX_ROCK_BYTES as u64)];
    let part = prop::sample::select(vec!["rock", "ro", "ck", "", "rocks", "r"]);
    let announced =
        (place(), bytes, digest.clone()).prop_map(|(at, bytes, digest)| Message::Rock { at, bytes, digest });
    prop_oneof![
        1 => Just(Message::NotAvailable),
        1 => Just(Message::Refused(Refusal::Malformed)),
        3 => place().prop_map(Message::Resumed),
        6 => announced,
        10 => part.prop_map(|part| Message::Chunk(Cow::Borrowed(part.as_bytes()))),
        8 => (aeon(), prop::option::of(digest)).prop_map(|(aeon, digest)| {
            Message::Wave { aeon: Aeon(aeon), digest, wave: Cow::Borrowed(b"wave") }
        }),
        3 => aeon().prop_map(|aeon| Message::CaughtUp(Aeon(aeon))),
        1 => Just(Message::ShuttingDown),
    ]
}

/// Decodes as every kind of message, and hands what decodes to a subscriber.
fn swallow(bytes: &[u8]) {
    let _ = decode::<Hello>(bytes);
    if let Ok(surf) = decode::<Surf>(bytes) {
        assert_eq!(Path::new(surf.path.as_str()), Ok(surf.path.clone()));
        assert!(Name::new(surf.agent.as_str()).is_ok() && Name::new(surf.lake.name.as_str()).is_ok());
    }
    if let Ok(message) = decode::<Message<'_>>(bytes) {
        if let Message::Chunk(data) | Message::Wave { wave: data, .. } = &message {
            assert!(matches!(data, Cow::Borrowed(_)), "bytes of a peer were copied before they were judged");
        }
        let place = Some(cursor(1, 5));
        let _ = Inflow::new(place, place).handle(message);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_decode_or_do_not(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        swallow(&bytes);
    }

    #[test]
    fn damaged_messages_decode_or_do_not(
        message in message(),
        kind in 0..3,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
        longer in prop::collection::vec(any::<u8>(), 0..4),
    ) {
        let mut bytes = match kind {
            0 => encode(&surf()),
            1 => encode(&Hello {
                versions: PROTOCOL_VERSIONS,
                boot: BootId([7; 16]),
                extension: Extension::new(b"later").unwrap(),
            }),
            _ => encode(&message),
        }.unwrap();
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] ^= byte;
        }
        bytes.extend(longer);
        swallow(&bytes);
        bytes.truncate(cut.index(bytes.len() + 1));
        swallow(&bytes);
    }

    #[test]
    fn any_sequence_is_lawful_or_a_violation(
        asked in prop::option::of((0_u8..2, 0_u64..4)),
        forgets in any::<bool>(),
        messages in prop::collection::vec(message(), 0..24),
    ) {
        let seen = asked.map(|(epoch, aeon)| cursor(epoch, aeon));
        // A replica that is healed asks with nothing, and has been seen all the same.
        let asked = seen.filter(|_| !forgets);
        let mut inflow = Inflow::new(asked, seen);
        let mut held = seen;
        for message in messages {
            let Ok(intake) = inflow.handle(message) else { return Ok(()) };
            match intake {
                Intake::Wave { aeon, wave, .. } => {
                    // A wave needs the state before it: what was asked with, or a rock.
                    let before = held.as_mut().unwrap();
                    prop_assert_eq!(aeon.0, before.aeon.0 + 1, "after {}", before);
                    prop_assert!(wave.len() <= MAX_WAVE_BYTES && aeon <= Aeon::LAST);
                    before.aeon = aeon;
                    prop_assert_eq!(inflow.position(), held);
                }
                Intake::Rock { at, digest, rock } => {
                    prop_assert!(held.is_none_or(|held| held.epoch != at.epoch || held.aeon <= at.aeon));
                    prop_assert!(seen.is_none_or(|seen| seen.epoch != at.epoch || seen.aeon <= at.aeon));
                    prop_assert!(at.aeon <= Aeon::LAST);
                    prop_assert_eq!(digest, Digest::of(&rock));
                    prop_assert!(rock.capacity() <= 4);
                    held = Some(at);
                    prop_assert_eq!(inflow.position(), held);
                }
                Intake::CaughtUp(aeon) => prop_assert_eq!(held.unwrap().aeon, aeon),
                Intake::Nothing | Intake::NotAvailable | Intake::Killed | Intake::Refused(_) | Intake::ShuttingDown => {}
            }
        }
    }
}

/// Hands messages to a subscriber that asked with epoch 1, aeon 5; the last one's answer.
fn answer(messages: Vec<Message<'_>>) -> Result<Intake, Violation> {
    let place = Some(cursor(1, 5));
    let mut inflow = Inflow::new(place, place);
    let mut last = Ok(Intake::Nothing);
    for message in messages {
        assert!(last.is_ok(), "only the last message may be a violation: {last:?}");
        last = inflow.handle(message);
    }
    last
}

#[test]
fn each_illegal_order_has_its_name() {
    let resumed = || Message::Resumed(cursor(1, 5));
    let at = cursor(1, 9);
    let large = vec![7; ROCK_CHUNK_BYTES + 1];
    let oversize = Message::Wave { aeon: Aeon(6), digest: None, wave: Cow::Owned(vec![0; MAX_WAVE_BYTES + 1]) };
    let out_of_order = |what| Err(Violation::OutOfOrder(what));
    let inside = || out_of_order("another message inside a rock");
    let too_large = |bytes| Err(Violation::RockTooLarge(bytes));
    let announce = |at, bytes| Message::Rock { at, bytes, digest: Digest([0; 32]) };
    let table: Vec<(&str, Vec<Message<'_>>, Result<Intake, Violation>)> = vec![
        ("an oversize wave", vec![resumed(), oversize], Err(Violation::WaveTooLarge(MAX_WAVE_BYTES + 1))),
        ("a gap", vec![resumed(), wave(7)], Err(Violation::Gap { position: Aeon(5), got: Aeon(7) })),
        ("a repeat", vec![resumed(), wave(6), wave(6)], Err(Violation::Gap { position: Aeon(6), got: Aeon(6) })),
        ("a wave of before", vec![resumed(), wave(5)], Err(Violation::Gap { position: Aeon(5), got: Aeon(5) })),
        ("a wave without a state", vec![wave(6)], out_of_order("a wave before a rock or a resumption")),
        (
            "a wave while parked",
            vec![resumed(), Message::NotAvailable, wave(6)],
            out_of_order("a wave before a rock or a resumption"),
        ),
        ("a chunk outside a rock", vec![resumed(), chunk(b"x")], out_of_order("a chunk outside a rock")),
        (
            "a chunk after the rock",
            vec![rock(at, b"rock"), chunk(b"rock"), chunk(b"x")],
            out_of_order("a chunk outside a rock"),
        ),
        ("a chunk too long", vec![rock(at, b"rock"), chunk(b"rocks")], Err(Violation::BadChunk(5))),
        ("an empty chunk", vec![rock(at, b"rock"), chunk(b"")], Err(Violation::BadChunk(0))),
        ("a chunk beyond its limit", vec![rock(at, &large), chunk(&large)], Err(Violation::BadChunk(large.len()))),
        ("a rock too large", vec![announce(at, MAX_ROCK_BYTES as u64 + 1)], too_large(MAX_ROCK_BYTES as u64 + 1)),
        ("a rock of any size", vec![announce(at, u64::MAX)], too_large(u64::MAX)),
        ("a wrong digest", vec![rock(at, b"rock"), chunk(b"kcor")], Err(Violation::WrongDigest(Aeon(9)))),
        ("an empty rock with a wrong digest", vec![announce(at, 0)], Err(Violation::WrongDigest(Aeon(9)))),
        (
            "a rock older than seen",
            vec![rock(cursor(1, 4), b"rock")],
            Err(Violation::RockTooOld { seen: Aeon(5), got: Aeon(4) }),
        ),
        (
            "a rock older than the stream",
            vec![resumed(), wave(6), wave(7), rock(cursor(1, 6), b"rock")],
            Err(Violation::RockTooOld { seen: Aeon(7), got: Aeon(6) }),
        ),
        (
            "a rock older than the stream was before it was interrupted",
            vec![resumed(), wave(6), wave(7), Message::NotAvailable, rock(cursor(1, 6), b"rock")],
            Err(Violation::RockTooOld { seen: Aeon(7), got: Aeon(6) }),
        ),
        (
            "back to an epoch that was seen, by way of another",
            vec![rock(cursor(2, 0), b""), rock(cursor(1, 4), b"rock")],
            Err(Violation::RockTooOld { seen: Aeon(5), got: Aeon(4) }),
        ),
        ("a resumption not asked for", vec![Message::Resumed(cursor(1, 6))], out_of_order("a resumption")),
        ("a resumption of another epoch", vec![Message::Resumed(cursor(2, 5))], out_of_order("a resumption")),
        ("a second resumption", vec![resumed(), resumed()], out_of_order("a resumption")),
        (
            "a resumption from where the stream began, not from where it had led to",
            vec![resumed(), wave(6), Message::NotAvailable, resumed()],
            out_of_order("a resumption"),
        ),
        ("a resumption after a rock", vec![rock(at, b""), Message::Resumed(at)], out_of_order("a resumption")),
        (
            "a caught-up of another aeon",
            vec![resumed(), Message::CaughtUp(Aeon(6))],
            out_of_order("a caught-up for another aeon"),
        ),
        (
            "a caught-up before any state",
            vec![Message::CaughtUp(Aeon(5))],
            out_of_order("a caught-up for another aeon"),
        ),
        ("a wave inside a rock", vec![resumed(), rock(at, b"rock"), wave(6)], inside()),
        ("a resumption inside a rock", vec![rock(at, b"rock"), resumed()], inside()),
        ("a caught-up inside a rock", vec![resumed(), rock(at, b"rock"), Message::CaughtUp(Aeon(5))], inside()),
        (
            "a rock beyond the last aeon",
            vec![rock(cursor(2, Aeon::LAST.0 + 1), b"rock")],
            Err(Violation::AeonTooLarge(Aeon(Aeon::LAST.0 + 1))),
        ),
        (
            "a wave beyond the last aeon",
            vec![rock(cursor(2, Aeon::LAST.0), b""), wave(Aeon::LAST.0 + 1)],
            Err(Violation::AeonTooLarge(Aeon(Aeon::LAST.0 + 1))),
        ),
    ];
    for (name, messages, expected) in table {
        assert_eq!(answer(messages), expected, "{name}");
    }
}

#[test]
fn what_may_come_is_taken() {
    let at = cursor(1, 9);
    let whole = Intake::Rock { at, digest: Digest::of(b"rock"), rock: b"rock".to_vec() };
    let resumed = || Message::Resumed(cursor(1, 5));
    let table: Vec<(&str, Vec<Message<'_>>, Intake)> = vec![
        ("a rock in parts", vec![rock(at, b"rock"), chunk(b"ro"), chunk(b"ck")], whole.clone()),
        (
            "a rock in the place of another",
            vec![rock(cursor(1, 8), b"other"), chunk(b"ot"), rock(at, b"rock"), chunk(b"rock")],
            whole.clone(),
        ),
        ("a rock inside the stream", vec![resumed(), wave(6), rock(at, b"rock"), chunk(b"rock")], whole.clone()),
        (
            "a rock as old as what was seen",
            vec![rock(cursor(1, 5), b""), Message::CaughtUp(Aeon(5))],
            Intake::CaughtUp(Aeon(5)),
        ),
        (
            "a rock of another epoch",
            vec![rock(cursor(2, 0), b""), Message::CaughtUp(Aeon(0))],
            Intake::CaughtUp(Aeon(0)),
        ),
        ("a path that ends inside a rock", vec![rock(at, b"rock"), Message::NotAvailable], Intake::NotAvailable),
        ("and comes back", vec![rock(at, b"rock"), Message::NotAvailable, rock(at, b"rock"), chunk(b"rock")], whole),
        ("a farewell inside a rock", vec![rock(at, b"rock"), Message::ShuttingDown], Intake::ShuttingDown),
        (
            "a refusal inside a rock",
            vec![rock(at, b"rock"), Message::Refused(Refusal::Storage)],
            Intake::Refused(Refusal::Storage),
        ),
        (
            "a resumption after an interruption",
            vec![resumed(), wave(6), Message::NotAvailable, Message::Resumed(cursor(1, 6)), Message::CaughtUp(Aeon(6))],
            Intake::CaughtUp(Aeon(6)),
        ),
        (
            "a resumption after being parked from the start",
            vec![Message::NotAvailable, resumed(), Message::CaughtUp(Aeon(5))],
            Intake::CaughtUp(Aeon(5)),
        ),
    ];
    for (name, messages, expected) in table {
        assert_eq!(answer(messages), Ok(expected), "{name}");
    }
}

#[test]
fn the_largest_wave_fits_its_frame_and_one_byte_more_does_not_pass() {
    let of =
        |bytes: usize| Message::Wave { aeon: Aeon(6), digest: Some(Digest([1; 32])), wave: Cow::Owned(vec![3; bytes]) };
    let mut frame = Vec::new();
    encode_frame(&of(MAX_WAVE_BYTES), &mut frame).unwrap();
    let taken = answer(vec![Message::Resumed(cursor(1, 5)), decode(&frame[4..]).unwrap()]);
    assert!(matches!(taken, Ok(Intake::Wave { aeon: Aeon(6), .. })));
    encode_frame(&of(MAX_WAVE_BYTES + 1), &mut frame).unwrap();
    // Our own side never sends what the other would not read, and leaves what was there.
    let before = frame.clone();
    let error = encode_frame(&of(MAX_FRAME_BYTES), &mut frame).unwrap_err();
    assert!(matches!(error, FrameError::MessageTooLong { bytes, limit: MAX_FRAME_BYTES } if bytes > MAX_FRAME_BYTES));
    assert_eq!(frame, before);
}

#[test]
fn a_header_announces_no_more_than_a_frame() {
    let length = |bytes: usize| frame_length(u32::try_from(bytes).unwrap().to_le_bytes());
    assert_eq!(length(0), Ok(0));
    assert_eq!(length(MAX_FRAME_BYTES), Ok(MAX_FRAME_BYTES));
    let too_long = |bytes: u64| Err(FrameError::TooLong { bytes, limit: MAX_FRAME_BYTES });
    assert_eq!(length(MAX_FRAME_BYTES + 1), too_long(MAX_FRAME_BYTES as u64 + 1));
    assert_eq!(frame_length([0xff; 4]), too_long(u64::from(u32::MAX)));
}

#[test]
fn an_announced_rock_takes_no_memory_before_its_chunks() {
    // A thousand times 256 MiB would not fit into any machine that runs this.
    let mut inflows: Vec<Inflow> = (0..1_000).map(|_| Inflow::new(None, None)).collect();
    for inflow in &mut inflows {
        let largest = Message::Rock { at: cursor(1, 1), bytes: MAX_ROCK_BYTES as u64, digest: Digest([0; 32]) };
        assert_eq!(inflow.handle(largest), Ok(Intake::Nothing));
        assert_eq!(inflow.handle(chunk(b"x")), Ok(Intake::Nothing));
    }
}

#[test]
fn a_received_rock_takes_no_more_memory_than_it_has_bytes() {
    // Five chunks and a bit: doubling alone would take eight.
    let bytes = vec![5; 5 * ROCK_CHUNK_BYTES + 100];
    let mut inflow = Inflow::new(None, None);
    assert_eq!(inflow.handle(rock(cursor(1, 1), &bytes)), Ok(Intake::Nothing));
    let mut last = Ok(Intake::Nothing);
    for part in bytes.chunks(ROCK_CHUNK_BYTES) {
        assert_eq!(last, Ok(Intake::Nothing));
        last = inflow.handle(chunk(part));
    }
    let Ok(Intake::Rock { rock, .. }) = last else { panic!("no rock: {last:?}") };
    assert_eq!((rock.len(), rock.capacity()), (bytes.len(), bytes.len()));
}

#[test]
fn a_message_is_the_whole_frame() {
    let mut bytes = encode(&Message::CaughtUp(Aeon(5))).unwrap();
    bytes.push(0);
    assert_eq!(decode::<Message<'_>>(&bytes), Err(DecodeError::TrailingBytes(1)));
}

#[test]
fn every_refusal_says_when_to_ask_again() {
    let lake = LakeId { name: Name::new("log").unwrap(), version: 2 };
    assert_eq!(Refusal::LakeDiffers { published: lake }.retry(), Retry::WhenToldTo);
    for refusal in [
        Refusal::TooManySubscriptions { limit: 1 },
        Refusal::TooManyParked { limit: 1 },
        Refusal::Malformed,
        Refusal::Storage,
        Refusal::Crowded,
    ] {
        assert_eq!(refusal.retry(), Retry::Later);
    }
}
