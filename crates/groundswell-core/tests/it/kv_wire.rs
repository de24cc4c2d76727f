//! The messages between the two sides of a document: what a hostile one sends is a message
//! within the limits, or none.
#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]

use std::borrow::Cow;

use groundswell_core::{
    encoding::{decode, encode},
    kv::{
        KvAuthor, max_envelope_bytes,
        wire::{
            Held, KvHello, KvMessage, KvMessageError, decode_kv_message, encode_kv_frame, kv_frame_length,
            max_kv_frame_bytes,
        },
    },
    limits::{MAX_HELLO_EXTENSION_BYTES, MAX_KV_VALUE_BYTES, MAX_REQUEST_BYTES, MAX_SIGNED_ENTRY_BYTES},
    wire::{Extension, FrameError},
};
use proptest::prelude::*;

fn entry(signed: usize, envelope: usize) -> KvMessage<'static> {
    KvMessage::Entry { signed: Cow::Owned(vec![7; signed]), envelope: Cow::Owned(vec![9; envelope]) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_a_message_or_are_not(mut bytes in prop::collection::vec(any::<u8>(), 0..120), kind in 0_u8..7) {
        // Most first bytes are of no message at all.
        if let Some(first) = bytes.first_mut() {
            *first = kind;
        }
        let _ = decode::<KvHello>(&bytes);
        if let Ok(KvMessage::Entry { signed, envelope }) = decode_kv_message(16, &bytes) {
            let borrowed = matches!((&signed, &envelope), (Cow::Borrowed(_), Cow::Borrowed(_)));
            prop_assert!(borrowed, "bytes of a peer were copied before they were judged");
            prop_assert!(signed.len() <= MAX_SIGNED_ENTRY_BYTES && envelope.len() <= max_envelope_bytes(16));
        }
    }

    #[test]
    fn what_is_held_never_goes_back(raises in prop::collection::vec((any::<bool>(), 0_u64..50), 0..20)) {
        let mut held = Held::default();
        let (mut machine, mut manager) = (0, 0);
        for (by_machine, counter) in raises {
            let (author, greatest) =
                if by_machine { (KvAuthor::Machine, &mut machine) } else { (KvAuthor::Manager, &mut manager) };
            held.raise(author, counter);
            *greatest = counter.max(*greatest);
        }
        prop_assert_eq!((held.of(KvAuthor::Machine), held.of(KvAuthor::Manager)), (machine, manager));
    }
}

#[test]
fn the_largest_entry_fits_its_frame_and_no_part_may_be_larger() {
    let limit = max_envelope_bytes(MAX_KV_VALUE_BYTES);
    let mut frame = Vec::new();
    encode_kv_frame(MAX_KV_VALUE_BYTES, &entry(MAX_SIGNED_ENTRY_BYTES, limit), &mut frame).unwrap();
    let read = decode_kv_message(MAX_KV_VALUE_BYTES, &frame[4..]);
    assert_eq!(read, Ok(entry(MAX_SIGNED_ENTRY_BYTES, limit)));

    let judge = |message: KvMessage<'_>| {
        decode_kv_message(MAX_KV_VALUE_BYTES, &encode(&message).unwrap()).map(|_| ()).unwrap_err()
    };
    let bytes = MAX_SIGNED_ENTRY_BYTES + 1;
    assert_eq!(judge(entry(bytes, 1)), KvMessageError::SignedTooLong { bytes });
    let bytes = limit + 1;
    assert_eq!(judge(entry(1, bytes)), KvMessageError::EnvelopeTooLong { bytes, limit });
}

#[test]
fn a_frame_is_refused_by_its_header() {
    let limit = max_kv_frame_bytes(MAX_KV_VALUE_BYTES);
    let length = |bytes: usize| kv_frame_length(MAX_KV_VALUE_BYTES, u32::try_from(bytes).unwrap().to_le_bytes());
    assert_eq!(length(limit), Ok(limit));
    assert_eq!(length(limit + 1), Err(FrameError::TooLong { bytes: limit as u64 + 1, limit }));
    // Our own side sends none that the other would not read, and leaves what was there.
    let mut frame = vec![1, 2, 3];
    let error = encode_kv_frame(16, &entry(0, max_kv_frame_bytes(16)), &mut frame).unwrap_err();
    assert!(matches!(error, FrameError::MessageTooLong { limit, .. } if limit == max_kv_frame_bytes(16)));
    assert_eq!(frame, [1, 2, 3]);
}

#[test]
fn a_hello_is_a_small_frame() {
    let widest = KvHello {
        document: [0xff; 32],
        wall_ms: u64::MAX,
        held: Held { machine: u64::MAX, manager: u64::MAX },
        extension: Extension::new(&[0xff; MAX_HELLO_EXTENSION_BYTES]).unwrap(),
    };
    assert!(encode(&widest).unwrap().len() < MAX_REQUEST_BYTES);
}
