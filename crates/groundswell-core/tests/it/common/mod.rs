//! What several tests need: two lakes, and a store that is as simple as can be.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]

pub(crate) mod golden;

use std::{collections::BTreeMap, convert::Infallible};

use bytes::Bytes;
use groundswell_core::{
    Aeon, Cursor, Digest, Epoch, Lake, Rule, Tide,
    encoding::{decode, encode},
    limits::ROCK_CHUNK_BYTES,
    tide::{Changes, RockInfo},
};

/// A sum that refuses to overflow.
pub(crate) struct Sum;

impl Lake for Sum {
    const NAME: &'static str = "sum";
    type Rock = i64;
    type Wave = i64;
    type Error = &'static str;

    fn wash(rock: &mut i64, wave: &i64) -> Result<(), &'static str> {
        *rock = rock.checked_add(*wave).ok_or("overflow")?;
        Ok(())
    }
}

/// Lines, in order.
pub(crate) struct Log;

impl Lake for Log {
    const NAME: &'static str = "log";
    type Rock = Vec<String>;
    type Wave = String;
    type Error = Infallible;

    fn wash(rock: &mut Vec<String>, wave: &String) -> Result<(), Infallible> {
        rock.push(wave.clone());
        Ok(())
    }
}

/// Epochs that differ in their number.
pub(crate) fn epoch(number: u8) -> Epoch {
    Epoch([number; 16])
}

/// A place in such an epoch.
pub(crate) fn cursor(epoch_number: u8, aeon: u64) -> Cursor {
    Cursor { epoch: epoch(epoch_number), aeon: Aeon(aeon) }
}

/// What a tide is told of a rock.
pub(crate) fn info(rock: &[u8]) -> RockInfo {
    RockInfo { bytes: rock.len() as u64, digest: Digest::of(rock) }
}

/// What a driver's storage holds of one tide.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    pub(crate) epoch: Epoch,
    pub(crate) rule: Rule,
    pub(crate) waves: BTreeMap<Aeon, Bytes>,
    pub(crate) rocks: BTreeMap<Aeon, Vec<u8>>,
}

impl Store {
    /// A store that holds one rock, and the tide of it.
    pub(crate) fn begin(at: Cursor, rule: Rule, rock: Vec<u8>) -> (Self, Tide) {
        let tide = Tide::begin(at, rule, info(&rock));
        let rocks = BTreeMap::from([(at.aeon, rock)]);
        (Self { epoch: at.epoch, rule, waves: BTreeMap::new(), rocks }, tide)
    }

    /// Stores changes; `rocks` holds the bytes of every rock that was pushed.
    pub(crate) fn apply(&mut self, changes: &Changes, rocks: &BTreeMap<Aeon, Vec<u8>>) {
        if let Some(at) = changes.reset() {
            self.epoch = at.epoch;
            self.waves.clear();
            self.rocks.clear();
        }
        if let Some(epoch) = changes.new_epoch() {
            self.epoch = epoch;
        }
        if let Some(rule) = changes.rule() {
            self.rule = rule;
        }
        for (aeon, wave) in changes.waves() {
            assert_eq!(self.waves.insert(aeon, wave.clone()), None, "wave {aeon} was stored before");
        }
        for (aeon, _) in changes.rocks() {
            self.rocks.insert(*aeon, rocks[aeon].clone());
        }
        for aeon in changes.dropped_rocks() {
            assert!(self.rocks.remove(aeon).is_some(), "rock {aeon} was not stored");
        }
        let dropped = changes.dropped_waves();
        self.waves.retain(|aeon, _| !dropped.contains(aeon));
    }

    /// The tide of what is stored, as after a restart.
    pub(crate) fn restore(&self) -> Tide {
        let rocks: BTreeMap<_, _> = self.rocks.iter().map(|(aeon, rock)| (*aeon, info(rock))).collect();
        let newest = *rocks.last_key_value().unwrap().0;
        let since = self.waves.range(newest.next()..).map(|(_, wave)| wave.len() as u64).sum();
        let range = self.waves.first_key_value().zip(self.waves.last_key_value());
        let range = range.map(|((first, _), (last, _))| (*first, *last));
        Tide::restore(self.epoch, self.rule, rocks, range, since).unwrap()
    }

    /// One chunk of a rock, as a row of the store.
    pub(crate) fn chunk(&self, aeon: Aeon, index: u32) -> Option<&[u8]> {
        self.rocks.get(&aeon)?.chunks(ROCK_CHUNK_BYTES).nth(index as usize)
    }

    /// Washes the newest rock with the waves after it.
    pub(crate) fn fold<L: Lake>(&self) -> L::Rock {
        let (aeon, rock) = self.rocks.last_key_value().unwrap();
        let mut rock = decode(rock).unwrap();
        for (_, wave) in self.waves.range(aeon.next()..) {
            wash::<L>(&mut rock, wave);
        }
        rock
    }
}

/// Washes an encoded wave that is known to be accepted.
pub(crate) fn wash<L: Lake>(rock: &mut L::Rock, wave: &[u8]) {
    if let Err(error) = L::wash(rock, &decode(wave).unwrap()) {
        panic!("a wave that was accepted is refused: {error}");
    }
}

/// The encoding of a rock.
pub(crate) fn rock_bytes<L: Lake>(rock: &L::Rock) -> Vec<u8> {
    encode(rock).unwrap()
}
