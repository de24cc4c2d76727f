//! Which version two sides choose, and that each can read the range of any other.

use groundswell_core::{
    encoding::{DecodeError, decode, encode},
    kv::pairing::CLAIM_VERSIONS,
    limits::MAX_HELLO_EXTENSION_BYTES,
    wire::{
        BootId, Extension, ExtensionTooLong, Hello, HelloError, PROTOCOL_VERSIONS, VersionMismatch, VersionRange,
        decode_hello,
    },
};
use proptest::prelude::*;

fn range() -> impl Strategy<Value = VersionRange> {
    // Near to one another, and anywhere.
    prop_oneof![(2_u16..12, 0_u16..4), (any::<u16>(), 0_u16..1_000)].prop_map(|(lowest, more)| {
        let lowest = lowest.max(2);
        VersionRange::new(lowest, lowest.saturating_add(more)).unwrap()
    })
}

fn hello(versions: VersionRange) -> Hello {
    Hello { versions, boot: BootId([7; 16]), extension: Extension::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_sides_choose_the_highest_version_that_both_speak(ours in range(), theirs in range()) {
        let spoken = |range: VersionRange| range.lowest()..=range.highest();
        let highest = spoken(ours).rev().find(|version| spoken(theirs).contains(version));
        prop_assert_eq!(ours.common(theirs).ok(), highest);
        prop_assert_eq!(theirs.common(ours).ok(), highest);
        if let (Err(mine), Err(other)) = (ours.common(theirs), theirs.common(ours)) {
            // Both say the same, and exactly one of them is to be updated.
            prop_assert_eq!(mine.for_other_side(), other);
            prop_assert!(mine.ours_is_older() != other.ours_is_older());
            prop_assert_eq!(mine.ours_is_older(), ours.highest() < theirs.highest());
            let said = mine.to_string();
            prop_assert!(said.contains(&ours.to_string()) && said.contains(&theirs.to_string()));
        }
    }

    #[test]
    fn the_range_of_any_later_hello_can_be_read(ours in range(), theirs in range(), rest in prop::collection::vec(any::<u8>(), 0..64)) {
        let later = [&encode(&theirs).unwrap()[..], &rest].concat();
        prop_assert_eq!(VersionRange::of_hello(&later), Ok(theirs));
        match decode_hello(ours, &later) {
            Ok((hello, version)) => prop_assert_eq!((hello.versions, Ok(version)), (theirs, ours.common(theirs))),
            // What follows the range matters only where there is something to talk about.
            Err(HelloError::Malformed(_)) => prop_assert!(ours.common(theirs).is_ok()),
            Err(HelloError::Versions(mismatch)) => prop_assert_eq!(Err(mismatch), ours.common(theirs)),
        }
    }

    #[test]
    fn any_bytes_are_a_hello_or_are_not(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let _ = VersionRange::of_hello(&bytes);
        let _ = decode_hello(PROTOCOL_VERSIONS, &bytes);
    }

    #[test]
    fn what_a_later_version_adds_to_a_hello_is_passed_over(added in prop::collection::vec(any::<u8>(), 0..=MAX_HELLO_EXTENSION_BYTES)) {
        let extension = Extension::new(&added).unwrap();
        let hello = Hello { extension, ..hello(PROTOCOL_VERSIONS) };
        prop_assert_eq!(decode_hello(PROTOCOL_VERSIONS, &encode(&hello).unwrap()), Ok((hello, PROTOCOL_VERSIONS.highest())));
    }
}

/// A rolling update: whoever speaks the version before or after as well is understood.
#[test]
fn neighbours_talk_and_others_say_who_is_to_be_updated() {
    for current in [PROTOCOL_VERSIONS, CLAIM_VERSIONS] {
        let now = current.highest();
        let between = |lowest, highest| VersionRange::new(lowest, highest).unwrap();
        assert_eq!(current.common(between(now, now + 1)), Ok(now));
        assert_eq!(current.common(between(now - 1, now)), Ok(now));
        let later = between(now + 1, now + 2);
        let mismatch = VersionMismatch { ours: current, theirs: later };
        assert_eq!(current.common(later), Err(mismatch));
        let said = format!(
            "this side speaks version {now} of the protocol and the other side versions {} to {}: update this side",
            now + 1,
            now + 2
        );
        assert_eq!(mismatch.to_string(), said);
        let said = mismatch.for_other_side().to_string();
        assert!(said.ends_with("update the other side"), "{said}");
    }
}

/// The first hellos had the number 1 in place of the range. They are refused as what they are.
#[test]
fn a_hello_of_the_first_version_says_so() {
    let first = [&[1][..], &[0xb0; 16]].concat();
    assert_eq!(VersionRange::of_hello(&first), Ok(VersionRange::only(1)));
    let refused = decode_hello(PROTOCOL_VERSIONS, &first).unwrap_err();
    let theirs = VersionRange::only(1);
    assert_eq!(refused, HelloError::Versions(VersionMismatch { ours: PROTOCOL_VERSIONS, theirs }));
    // And it finds its own number in the place where it looks for one, and not 1.
    assert_eq!(encode(&hello(PROTOCOL_VERSIONS)).unwrap()[0], 3);
}

#[test]
fn a_range_that_is_none_and_an_extension_that_is_too_long_are_refused() {
    assert!(VersionRange::new(3, 2).is_err());
    // Highest 2, lowest 3.
    assert!(matches!(VersionRange::of_hello(&[2, 3]), Err(DecodeError::Malformed(_))));
    assert!(decode::<VersionRange>(&[2, 3]).is_err());
    assert!(VersionRange::of_hello(&[2]).is_err());
    let bytes = MAX_HELLO_EXTENSION_BYTES + 1;
    assert_eq!(Extension::new(&vec![0; bytes]), Err(ExtensionTooLong { bytes }));
    assert!(decode::<Extension>(&encode(&vec![0_u8; bytes]).unwrap()).is_err());
    assert!(decode::<Extension>(&encode(&vec![0_u8; bytes - 1]).unwrap()).is_ok());
}
