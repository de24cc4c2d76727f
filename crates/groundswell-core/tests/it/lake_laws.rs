//! `check_lake` passes lawful lakes, and says of a lawless one which law it breaks.
#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    convert::Infallible,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::common::{Log, Sum};
use groundswell_core::{
    Lake, PathError,
    check::{LakeLawBroken, check_lake},
    limits::MAX_WAVE_BYTES,
};
use proptest::prelude::*;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Defines a lake of this name in one line; the wash is a closure without captures.
macro_rules! lake {
    ($lake:ident, $name:expr, $rock:ty, $wave:ty, $error:ty, $wash:expr) => {
        struct $lake;
        impl Lake for $lake {
            const NAME: &'static str = $name;
            type Rock = $rock;
            type Wave = $wave;
            type Error = $error;
            fn wash(rock: &mut $rock, wave: &$wave) -> Result<(), $error> {
                let wash: fn(&mut $rock, &$wave) -> Result<(), $error> = $wash;
                wash(rock, wave)
            }
        }
    };
}

lake!(Votes, "votes", BTreeMap<String, BTreeSet<u32>>, (String, u32), &'static str, |rock, (topic, voter)| {
    match rock.entry(topic.clone()).or_default().insert(*voter) {
        true => Ok(()),
        false => Err("voted before"),
    }
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lawful_lakes_pass(
        sums in prop::collection::vec(prop_oneof![any::<i64>(), -9_i64..9], 0..30),
        lines in prop::collection::vec(".{0,20}", 0..30),
        votes in prop::collection::vec(("[a-c]", 0_u32..4), 0..30),
    ) {
        prop_assert_eq!(check_lake::<Sum>(sums), Ok(()));
        prop_assert_eq!(check_lake::<Log>(lines), Ok(()));
        prop_assert_eq!(check_lake::<Votes>(votes), Ok(()));
    }
}

static CALLS: AtomicU64 = AtomicU64::new(0);

lake!(Counting, "counting", u64, (), Infallible, |rock, ()| {
    *rock += CALLS.fetch_add(1, Ordering::Relaxed);
    Ok(())
});

#[test]
fn a_hidden_counter_is_not_deterministic() {
    assert_eq!(check_lake::<Counting>([(), ()]), Err(LakeLawBroken::NotDeterministic { wave: 1 }));
}

static REFUSALS: AtomicU64 = AtomicU64::new(0);

lake!(Moody, "moody", u64, (), &'static str, |_, ()| {
    if REFUSALS.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) { Ok(()) } else { Err("not now") }
});

#[test]
fn a_wave_that_is_refused_now_and_then_is_not_deterministic() {
    assert_eq!(check_lake::<Moody>([()]), Err(LakeLawBroken::NotDeterministic { wave: 1 }));
}

lake!(Hasty, "hasty", Vec<u32>, u32, &'static str, |rock, wave| {
    rock.push(*wave);
    if *wave < 100 { Ok(()) } else { Err("too much") }
});

#[test]
fn a_refusal_that_leaves_a_trace_is_not_all_or_nothing() {
    let broken = LakeLawBroken::NotAllOrNothing { wave: 3, refusal: "too much".to_owned() };
    assert_eq!(check_lake::<Hasty>([1, 99, 100, 4]), Err(broken));
}

lake!(Hashed, "hashed", HashMap<u32, u32>, u32, Infallible, |rock, wave| {
    rock.insert(*wave, *wave);
    Ok(())
});

#[test]
fn a_hash_map_is_not_canonical() {
    // With fifty keys two equal maps are of one order by chance once in fifty factorial.
    let Err(LakeLawBroken::NotCanonical { what, wave }) = check_lake::<Hashed>(0..50) else {
        panic!("a hash map was taken for canonical");
    };
    assert_eq!(what, "rock");
    assert!(wave > 1, "one key has one order");
}

/// Written one larger than it is read.
#[derive(Debug, Default, Clone, Copy)]
struct Drifting(u32);

impl Serialize for Drifting {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0.wrapping_add(1))
    }
}

impl<'de> Deserialize<'de> for Drifting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u32::deserialize(deserializer).map(Self)
    }
}

/// Written as a number, read as a text.
#[derive(Debug, Default)]
struct TwoFaced;

impl Serialize for TwoFaced {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(200)
    }
}

impl<'de> Deserialize<'de> for TwoFaced {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|_| Self)
    }
}

/// A wave of which a part is not written at all.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Partial {
    told: u32,
    #[serde(skip)]
    secret: u32,
}

lake!(DriftingWave, "drifting-wave", u32, Drifting, Infallible, |_, _| Ok(()));
lake!(DriftingRock, "drifting-rock", Drifting, u32, Infallible, |_, _| Ok(()));
lake!(TwoFacedWave, "two-faced-wave", u32, TwoFaced, Infallible, |_, _| Ok(()));
lake!(TwoFacedRock, "two-faced-rock", TwoFaced, u32, Infallible, |_, _| Ok(()));
lake!(PartialWave, "partial-wave", u32, Partial, Infallible, |rock, wave| {
    *rock = rock.wrapping_add(wave.told).wrapping_add(wave.secret);
    Ok(())
});

#[test]
fn what_does_not_survive_its_encoding_is_found() {
    let wave = LakeLawBroken::NotCanonical { wave: 1, what: "wave" };
    assert_eq!(check_lake::<DriftingWave>([Drifting(1)]), Err(wave));
    let rock = LakeLawBroken::NotCanonical { wave: 0, what: "rock" };
    assert_eq!(check_lake::<DriftingRock>([1]), Err(rock));
    let found = check_lake::<TwoFacedWave>([TwoFaced]);
    assert!(matches!(found, Err(LakeLawBroken::RoundTrip { wave: 1, what: "wave", .. })), "{found:?}");
    let found = check_lake::<TwoFacedRock>([1]);
    assert!(matches!(found, Err(LakeLawBroken::RoundTrip { wave: 0, what: "rock", .. })), "{found:?}");
    // Its bytes are equal, and what they do is not.
    let found = check_lake::<PartialWave>([Partial { told: 1, secret: 0 }, Partial { told: 1, secret: 5 }]);
    assert_eq!(found, Err(LakeLawBroken::NotDeterministic { wave: 2 }));
}

/// A value that its own `Serialize` refuses.
#[derive(Debug, Default, Deserialize)]
struct Mute;

impl Serialize for Mute {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("never"))
    }
}

lake!(MuteWave, "mute", u32, Mute, Infallible, |_, _| Ok(()));

#[test]
fn what_does_not_encode_is_found() {
    let found = check_lake::<MuteWave>([Mute]);
    assert!(matches!(found, Err(LakeLawBroken::Encode { wave: 1, .. })), "{found:?}");
}

#[test]
fn a_wave_may_have_exactly_so_many_bytes() {
    // Three bytes hold the length of the text.
    let fits = "x".repeat(MAX_WAVE_BYTES - 3);
    assert_eq!(check_lake::<Log>([fits.clone()]), Ok(()));
    let broken = LakeLawBroken::WaveTooLarge { wave: 2, bytes: MAX_WAVE_BYTES + 1 };
    assert_eq!(check_lake::<Log>([String::new(), format!("{fits}x")]), Err(broken));
}

lake!(Nameless, "", u32, u32, Infallible, |_, _| Ok(()));
lake!(Slashed, "a/b", u32, u32, Infallible, |_, _| Ok(()));

#[test]
fn a_bad_name_is_found_before_any_wave() {
    let bad = |name: &str| Err(LakeLawBroken::Name(PathError::BadName(name.to_owned())));
    assert_eq!(check_lake::<Nameless>([]), bad(""));
    assert_eq!(check_lake::<Slashed>([]), bad("a/b"));
}

#[test]
fn each_law_says_what_to_do() {
    let broken = LakeLawBroken::NotCanonical { wave: 3, what: "rock" };
    assert!(broken.to_string().contains("use BTreeMap or BTreeSet"));
    let broken = LakeLawBroken::NotAllOrNothing { wave: 3, refusal: "full".to_owned() };
    assert!(broken.to_string().contains("check first, then change"));
}
