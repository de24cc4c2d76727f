//! Envelopes and keys: what is written can be read, what a hostile side writes can't do harm.
#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]

use bytes::Bytes;
use groundswell_core::{
    PathError,
    encoding::{DecodeError, encode},
    kv::{Change, Envelope, EnvelopeError, KeyError, KvKey, SpaceName, Stamp, document_key, max_envelope_bytes},
    limits::{MAX_ENVELOPE_OVERHEAD_BYTES, MAX_KV_KEY_BYTES, MAX_KV_VALUE_BYTES, MAX_NAME_BYTES, MAX_STAMP_WALL_MS},
};
use proptest::prelude::*;

fn key(bytes: impl AsRef<[u8]>) -> KvKey {
    KvKey::new(bytes).unwrap()
}

fn envelope(change: Change) -> Envelope {
    let stamp = Stamp { wall_ms: 1_750_000_000_000, count: 3 };
    let space = SpaceName::new("configuration").unwrap();
    Envelope { space, key: key("slot/1"), stamp, timestamp: 1_750_000_000_123, change }
}

fn put(value: &[u8]) -> Envelope {
    envelope(Change::Put(Bytes::copy_from_slice(value)))
}

/// Decodes under the key that it says it has.
fn decode(envelope: &Envelope, bytes: &[u8]) -> Result<Envelope, EnvelopeError> {
    Envelope::decode(&envelope.document_key(), bytes, MAX_KV_VALUE_BYTES)
}

fn any_envelope() -> impl Strategy<Value = Envelope> {
    let bytes = |most| prop::collection::vec(any::<u8>(), 0..most);
    let space = prop_oneof![Just(String::new()), "[a-z.*é-]{1,20}"];
    let change = prop_oneof![3 => bytes(200).prop_map(|value| Change::Put(value.into())), 1 => Just(Change::Delete)];
    (space, bytes(100), 0..=MAX_STAMP_WALL_MS, 0..u64::MAX / 2, any::<u64>(), change).prop_map(
        |(space, key, wall_ms, count, timestamp, change)| {
            let space = if space.is_empty() { SpaceName::default() } else { SpaceName::new(&space).unwrap() };
            Envelope { space, key: KvKey::new(key).unwrap(), stamp: Stamp { wall_ms, count }, timestamp, change }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_envelope_comes_back(envelope in any_envelope()) {
        let bytes = envelope.encode(MAX_KV_VALUE_BYTES).unwrap();
        prop_assert!(!bytes.is_empty());
        prop_assert_eq!(decode(&envelope, &bytes), Ok(envelope));
    }

    #[test]
    fn any_bytes_are_an_envelope_or_are_not(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = Envelope::decode(&[0; 32], &bytes, MAX_KV_VALUE_BYTES);
    }

    #[test]
    fn a_damaged_envelope_is_another_or_none(
        envelope in any_envelope(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 0..3),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = envelope.encode(MAX_KV_VALUE_BYTES).unwrap();
        for (place, byte) in &damage {
            let place = place.index(bytes.len());
            bytes[place] ^= byte;
        }
        if let Ok(read) = decode(&envelope, &bytes) {
            // Whatever was damaged, it is still the envelope of its key.
            prop_assert_eq!((&read.space, &read.key), (&envelope.space, &envelope.key));
            prop_assert!(read.stamp.check().is_ok());
        }
        bytes.truncate(cut.index(bytes.len()));
        let read = decode(&envelope, &bytes);
        prop_assert!(read.is_err() || !damage.is_empty(), "a part was taken for the whole");
    }

    #[test]
    fn keys_of_a_document_are_apart(one in (0..3_usize, "[ab]{0,3}"), other in (0..3_usize, "[ab]{0,3}")) {
        let spaces = [SpaceName::default(), SpaceName::new("a").unwrap(), SpaceName::new("ab").unwrap()];
        let of = |(space, text): &(usize, String)| document_key(&spaces[*space], &key(text));
        prop_assert_eq!(of(&one) == of(&other), one == other);
    }
}

#[test]
fn keys_have_0_to_1024_bytes() {
    assert_eq!(key("").as_bytes(), b"");
    assert_eq!(key([7; MAX_KV_KEY_BYTES]).as_bytes().len(), 1_024);
    let error = KvKey::new([7; MAX_KV_KEY_BYTES + 1]).unwrap_err();
    assert_eq!(error, KeyError::TooLong { bytes: 1_025 });
    assert!(error.to_string().contains("1024"), "{error}");
    assert!(key("a") < key("aa") && key("aa") < key("b"));
    assert_eq!(key([b'a', 0xff]).to_string(), "a\\xff");
    assert_eq!(KvKey::try_from("a"), Ok(key("a")));
}

#[test]
fn spaces_have_names() {
    assert_eq!(SpaceName::default().as_str(), "");
    assert!(SpaceName::new("").is_err() && SpaceName::new("a/b").is_err());
    assert!(SpaceName::new(&"a".repeat(MAX_NAME_BYTES)).is_ok());
    assert!(SpaceName::new(&"a".repeat(MAX_NAME_BYTES + 1)).is_err());
}

#[test]
fn the_largest_envelope_fits_its_limit_and_one_byte_more_does_not_pass() {
    let widest = Envelope {
        space: SpaceName::new(&"s".repeat(MAX_NAME_BYTES)).unwrap(),
        key: key([7; MAX_KV_KEY_BYTES]),
        stamp: Stamp { wall_ms: MAX_STAMP_WALL_MS, count: u64::MAX / 2 },
        timestamp: u64::MAX,
        change: Change::Put(vec![9; MAX_KV_VALUE_BYTES].into()),
    };
    let bytes = widest.encode(MAX_KV_VALUE_BYTES).unwrap();
    assert!(bytes.len() <= max_envelope_bytes(MAX_KV_VALUE_BYTES), "{}", bytes.len());
    assert_eq!(decode(&widest, &bytes), Ok(widest.clone()));

    let too_large = EnvelopeError::ValueTooLarge { bytes: MAX_KV_VALUE_BYTES, limit: MAX_KV_VALUE_BYTES - 1 };
    assert_eq!(widest.encode(MAX_KV_VALUE_BYTES - 1), Err(too_large.clone()));
    assert_eq!(Envelope::decode(&widest.document_key(), &bytes, MAX_KV_VALUE_BYTES - 1), Err(too_large));

    let limit = max_envelope_bytes(MAX_KV_VALUE_BYTES);
    assert_eq!(
        decode(&widest, &vec![1; limit + 1]),
        Err(EnvelopeError::TooLong { bytes: limit + 1, limit }),
        "a long content is refused before it is looked at"
    );
    assert_eq!(limit, MAX_KV_VALUE_BYTES + MAX_ENVELOPE_OVERHEAD_BYTES);
}

#[test]
fn the_empty_value_is_a_value() {
    for envelope in [put(b""), envelope(Change::Delete)] {
        let bytes = envelope.encode(0).unwrap();
        assert!(!bytes.is_empty());
        assert_eq!(decode(&envelope, &bytes), Ok(envelope));
    }
}

#[test]
fn each_fault_has_its_name() {
    let envelope = put(b"seven");
    let bytes = envelope.encode(MAX_KV_VALUE_BYTES).unwrap();
    assert_eq!(decode(&envelope, &[]), Err(EnvelopeError::Empty));
    assert_eq!(decode(&envelope, &[2, 0, 0]), Err(EnvelopeError::Version(2)));
    assert!(matches!(decode(&envelope, &bytes[..9]), Err(EnvelopeError::Malformed(DecodeError::Malformed(_)))));
    let longer = [&*bytes, b"!"].concat();
    assert_eq!(decode(&envelope, &longer), Err(EnvelopeError::Malformed(DecodeError::TrailingBytes(1))));

    let other = document_key(&envelope.space, &key("slot/2"));
    let wrong = Envelope::decode(&other, &bytes, MAX_KV_VALUE_BYTES);
    assert_eq!(wrong, Err(EnvelopeError::WrongDocumentKey(key("slot/1"))));

    // Envelopes that no encoder of ours writes, field by field.
    let crafted = |space: &str, key: &[u8], wall_ms: u64| {
        let mut bytes = vec![1];
        bytes.extend(encode(&(space, key, (wall_ms, 0_u64), 0_u64, 1_u8)).unwrap());
        Envelope::decode(&[0; 32], &bytes, MAX_KV_VALUE_BYTES)
    };
    assert_eq!(crafted("", &[7; 1_025], 0), Err(EnvelopeError::Key(KeyError::TooLong { bytes: 1_025 })));
    assert_eq!(crafted("a/b", b"k", 0), Err(EnvelopeError::Space(PathError::BadName("a/b".into()))));
    assert!(matches!(crafted("", b"k", MAX_STAMP_WALL_MS + 1), Err(EnvelopeError::Stamp(_))));
    assert_eq!(crafted("", b"k", 0), Err(EnvelopeError::WrongDocumentKey(key("k"))), "all else is right with it");
}

#[test]
fn a_length_that_lies_takes_no_memory() {
    // A key, then a value, that say they have 2^63 bytes.
    let huge = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01];
    let key_lies = [&[1, 0][..], &huge, b"k"].concat();
    let value_lies = [&[1, 0, 1, b'k', 0, 0, 0, 0][..], &huge, b"v"].concat();
    for bytes in [key_lies, value_lies] {
        let read = Envelope::decode(&document_key(&SpaceName::default(), &key("k")), &bytes, MAX_KV_VALUE_BYTES);
        assert!(matches!(read, Err(EnvelopeError::Malformed(DecodeError::Malformed(_)))), "{read:?}");
    }
}
