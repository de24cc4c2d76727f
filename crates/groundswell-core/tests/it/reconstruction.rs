//! The property that everything here is for: whatever the history, the rule and the cursor,
//! what a reader reconstructs is the fold of all waves, byte for byte, with no gap and no repeat.
//!
//! Readers are driven by an [`Outflow`] over a store, through encoded frames, into an [`Inflow`].
//! In between the publisher gives, prunes, restarts, loses its disk or gets an old one back,
//! and streams are cut or interrupted at any message.
#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]

use std::{borrow::Cow, collections::BTreeMap, num::NonZeroU64};

use crate::common::{Log, Store, Sum, cursor, epoch, info, rock_bytes, wash};
use bytes::Bytes;
use groundswell_core::{
    Aeon, Cursor, Digest, Epoch, Frequency, Lake, Rule, Tide,
    encoding::{decode, encode},
    limits::READ_BATCH_BYTES,
    publisher::{Outflow, Step},
    subscriber::{Inflow, Intake},
    tide::Changes,
    wire::{FRAME_HEADER_BYTES, Message, encode_frame, frame_length},
};
use proptest::prelude::*;

/// Without optimisation a fifth of them still takes as long.
const CASES: u32 = if cfg!(debug_assertions) { 2_000 } else { 10_000 };
const READERS: usize = 3;
/// No stream of these cases needs as many steps, unless it never ends.
const MANY_STEPS: usize = 20_000;

#[derive(Debug, Clone)]
enum Op {
    /// Give these waves in one commit.
    Give(Vec<u16>),
    /// Give so many small ones.
    GiveMany(u16),
    SetRule(Rule),
    Wipe,
    Restart,
    /// The disk is lost: from the default rock on, in a new epoch.
    LoseDisk,
    /// A backup was restored, and is known to have been: the history goes on in a new epoch.
    RenewEpoch,
    Backup,
    /// The backup is restored, and no one says so.
    RestoreUnnoticed,
    Read {
        reader: usize,
        /// The stream is cut after so many messages.
        cut: Option<usize>,
        /// The path is not available for a while, after so many messages.
        interrupted: Option<usize>,
        /// How many waves go out at a step.
        batch: usize,
        /// Given while the reader reads, one at each of its steps.
        meanwhile: Vec<u16>,
    },
}

fn rule() -> impl Strategy<Value = Rule> {
    let frequency = prop_oneof![
        1 => Just(Frequency::Automatic),
        3 => (1_u64..12).prop_map(|waves| Frequency::Every(NonZeroU64::new(waves).unwrap())),
        1 => Just(Frequency::Never),
    ];
    let horizon = prop_oneof![1 => Just(None), 4 => (0_u64..20).prop_map(Some), 1 => Just(Some(1_000))];
    (frequency, horizon).prop_map(|(frequency, horizon)| Rule { frequency, horizon })
}

fn op() -> impl Strategy<Value = Op> {
    let waves = || prop::collection::vec(any::<u16>(), 1..8);
    let read = (
        0..READERS,
        prop::option::weighted(0.4, 0_usize..12),
        prop::option::weighted(0.15, 0_usize..8),
        1_usize..6,
        prop::collection::vec(any::<u16>(), 0..4),
    )
        .prop_map(|(reader, cut, interrupted, batch, meanwhile)| Op::Read {
            reader,
            cut,
            interrupted,
            batch,
            meanwhile,
        });
    prop_oneof![
        30 => waves().prop_map(Op::Give),
        1 => (250_u16..300).prop_map(Op::GiveMany),
        12 => rule().prop_map(Op::SetRule),
        3 => Just(Op::Wipe),
        5 => Just(Op::Restart),
        2 => Just(Op::LoseDisk),
        2 => Just(Op::RenewEpoch),
        4 => Just(Op::Backup),
        3 => Just(Op::RestoreUnnoticed),
        40 => read,
    ]
}

/// A lake of which waves can be made from a number.
trait Made: Lake {
    fn make(number: u16) -> Self::Wave;
}

impl Made for Sum {
    fn make(number: u16) -> i64 {
        // A few are so large that two of one sign overflow, and are refused.
        match number % 16 {
            0 => i64::MAX - i64::from(number),
            1 => i64::MIN + i64::from(number),
            _ => i64::from(number) - 30_000,
        }
    }
}

impl Made for Log {
    fn make(number: u16) -> String {
        // A few are so long that the rock is sent in several chunks.
        let length = if number.is_multiple_of(64) { 40_000 } else { usize::from(number % 7) };
        format!("{number}{}", "x".repeat(length))
    }
}

/// What was ever made durable of one epoch.
struct Truth {
    begin: Aeon,
    /// The rock of each aeon from `begin` on.
    rocks: Vec<Vec<u8>>,
    /// The wave that leads to each aeon after `begin`.
    waves: Vec<Bytes>,
}

impl Truth {
    fn rock(&self, aeon: Aeon) -> &[u8] {
        &self.rocks[(aeon.0 - self.begin.0) as usize]
    }

    fn wave(&self, aeon: Aeon) -> &[u8] {
        &self.waves[(aeon.0 - self.begin.0 - 1) as usize]
    }
}

struct Reader<L: Lake> {
    at: Option<Cursor>,
    rock: L::Rock,
}

struct World<L: Made> {
    store: Store,
    tide: Tide,
    rock: L::Rock,
    backup: Option<Store>,
    truth: BTreeMap<Epoch, Truth>,
    epochs: u8,
    readers: Vec<Reader<L>>,
}

impl<L: Made> World<L> {
    fn new(rule: Rule) -> Self {
        let rock = rock_bytes::<L>(&L::Rock::default());
        let (store, tide) = Store::begin(cursor(0, 0), rule, rock.clone());
        let truth = Truth { begin: Aeon::ZERO, rocks: vec![rock], waves: Vec::new() };
        let readers = (0..READERS).map(|_| Reader { at: None, rock: L::Rock::default() }).collect();
        let truth = BTreeMap::from([(epoch(0), truth)]);
        Self { store, tide, rock: L::Rock::default(), backup: None, truth, epochs: 0, readers }
    }

    fn truth(&mut self) -> &mut Truth {
        self.truth.get_mut(&self.tide.cursor().epoch).unwrap()
    }

    fn commit(&mut self, mut changes: Changes, rocks: &BTreeMap<Aeon, Vec<u8>>) {
        changes.prune(&self.tide);
        self.store.apply(&changes, rocks);
        self.tide.commit(changes);
    }

    fn give(&mut self, numbers: impl IntoIterator<Item = u16>) {
        let mut changes = self.tide.stage();
        let mut rocks = BTreeMap::new();
        for number in numbers {
            let wave = L::make(number);
            if L::wash(&mut self.rock, &wave).is_err() {
                let aeon = changes.head();
                assert_eq!(rock_bytes::<L>(&self.rock), self.truth().rock(aeon), "a refused wave left a trace");
                continue;
            }
            let (wave, rock) = (Bytes::from(encode(&wave).unwrap()), rock_bytes::<L>(&self.rock));
            self.truth().waves.push(wave.clone());
            self.truth().rocks.push(rock.clone());
            changes.push_wave(wave);
            if changes.wants_rock(&self.tide) {
                changes.push_rock(info(&rock));
                rocks.insert(changes.head(), rock);
            }
        }
        self.commit(changes, &rocks);
    }

    fn set_rule(&mut self, rule: Rule) {
        let mut changes = self.tide.stage();
        changes.set_rule(rule);
        self.commit(changes, &BTreeMap::new());
    }

    fn wipe(&mut self) {
        let mut changes = self.tide.stage();
        let rock = rock_bytes::<L>(&self.rock);
        changes.push_rock(info(&rock));
        let rocks = BTreeMap::from([(changes.head(), rock)]);
        self.commit(changes, &rocks);
    }

    fn restart(&mut self) {
        self.tide = self.store.restore();
        self.rock = self.store.fold::<L>();
    }

    fn new_epoch(&mut self) -> Epoch {
        self.epochs += 1;
        epoch(self.epochs)
    }

    fn lose_disk(&mut self) {
        let at = Cursor { epoch: self.new_epoch(), aeon: Aeon::ZERO };
        self.rock = L::Rock::default();
        let rock = rock_bytes::<L>(&self.rock);
        let mut changes = self.tide.stage();
        changes.begin_anew(at, info(&rock));
        self.commit(changes, &BTreeMap::from([(at.aeon, rock.clone())]));
        self.truth.insert(at.epoch, Truth { begin: at.aeon, rocks: vec![rock], waves: Vec::new() });
    }

    fn renew_epoch(&mut self) {
        let new = self.new_epoch();
        let at = self.tide.cursor();
        let old = &self.truth[&at.epoch];
        let waves = (at.aeon.0 - old.begin.0) as usize;
        let (rocks, waves) = (old.rocks[..=waves].to_vec(), old.waves[..waves].to_vec());
        let kept = Truth { begin: old.begin, rocks, waves };
        self.truth.insert(new, kept);
        let mut changes = self.tide.stage();
        changes.renew_epoch(new);
        self.commit(changes, &BTreeMap::new());
    }

    fn restore_unnoticed(&mut self) {
        let Some(backup) = self.backup.take() else { return };
        self.store = backup;
        self.restart();
        let at = self.tide.cursor();
        let ahead = |reader: &Reader<L>| reader.at.is_some_and(|seen| seen.epoch == at.epoch && seen.aeon > at.aeon);
        match self.readers.iter().position(ahead) {
            // The publisher learns of it from the reader that has seen more.
            Some(reader) => {
                self.read(reader, None, None, 1, &[]);
                assert_ne!(self.tide.cursor().epoch, at.epoch);
            }
            // No one has seen what was lost: it never was.
            None => {
                let truth = self.truth();
                let waves = (at.aeon.0 - truth.begin.0) as usize;
                truth.waves.truncate(waves);
                truth.rocks.truncate(waves + 1);
            }
        }
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Give(numbers) => self.give(numbers.iter().copied()),
            Op::GiveMany(count) => self.give((1..=*count).map(|number| number | 2)),
            Op::SetRule(rule) => self.set_rule(*rule),
            Op::Wipe => self.wipe(),
            Op::Restart => self.restart(),
            Op::LoseDisk => self.lose_disk(),
            Op::RenewEpoch => self.renew_epoch(),
            Op::Backup => self.backup = Some(self.store.clone()),
            Op::RestoreUnnoticed => self.restore_unnoticed(),
            Op::Read { reader, cut, interrupted, batch, meanwhile } => {
                self.read(*reader, *cut, *interrupted, *batch, meanwhile);
            }
        }
    }

    /// One stream, from its request until it is cut or has nothing more to say.
    fn read(&mut self, reader: usize, cut: Option<usize>, interrupted: Option<usize>, batch: usize, meanwhile: &[u16]) {
        let asked = self.readers[reader].at;
        let mut outflow = Outflow::new(asked);
        let mut inflow = Inflow::new(asked, asked);
        let mut meanwhile = meanwhile.iter().copied();
        let mut messages = 0;
        for _ in 0..MANY_STEPS {
            let mut wire = Vec::new();
            if !self.transmit(&mut outflow, batch, &mut wire) && meanwhile.len() == 0 {
                assert!(outflow.is_caught_up());
                self.check_end(reader);
                return;
            }
            let mut rest = &wire[..];
            while let Some((header, after)) = rest.split_first_chunk::<FRAME_HEADER_BYTES>() {
                let (body, after) = after.split_at(frame_length(*header).unwrap());
                rest = after;
                let intake = inflow.handle(decode(body).unwrap()).unwrap();
                self.take_in(reader, intake);
                messages += 1;
                if cut == Some(messages) {
                    return;
                }
            }
            assert!(rest.is_empty());
            if interrupted.is_some_and(|at| at <= messages && messages - at < batch) {
                // Whether it had led somewhere is what tells an end from an absence.
                let led = inflow.position().is_some();
                let expected = if led { Intake::Killed } else { Intake::NotAvailable };
                assert_eq!(inflow.handle(Message::NotAvailable), Ok(expected));
                outflow = Outflow::new(outflow.cursor());
            }
            if let Some(number) = meanwhile.next() {
                self.give([number]);
            }
        }
        panic!("the stream does not end: {outflow:?}");
    }

    /// Does what the outflow asks for. False where it waits.
    fn transmit(&mut self, outflow: &mut Outflow, batch: usize, wire: &mut Vec<u8>) -> bool {
        match outflow.poll(&self.tide) {
            Step::Resume(cursor) => {
                encode_frame(&Message::Resumed(cursor), wire).unwrap();
                outflow.resumed();
            }
            Step::BeginRock { at, info } => {
                encode_frame(&Message::Rock { at, bytes: info.bytes, digest: info.digest }, wire).unwrap();
                outflow.rock_begun(at, info);
            }
            Step::Chunk { aeon, index } => match self.store.chunk(aeon, index) {
                Some(chunk) => {
                    encode_frame(&Message::Chunk(Cow::Borrowed(chunk)), wire).unwrap();
                    outflow.chunk_sent(chunk.len() as u64);
                }
                None => outflow.rock_gone(),
            },
            Step::Waves { first, last } => {
                let stored = || self.store.waves.range(first..=last).map(|(_, wave)| wave.clone()).collect();
                let waves = self.tide.recent_from(first, READ_BATCH_BYTES).unwrap_or_else(stored);
                for (aeon, wave) in (first.0..=last.0).map(Aeon).zip(waves).take(batch) {
                    let digest = self.tide.digest_at(aeon);
                    encode_frame(&Message::Wave { aeon, digest, wave: Cow::Borrowed(&wave) }, wire).unwrap();
                    outflow.waves_sent(aeon);
                }
                assert!(!wire.is_empty(), "no wave is stored");
            }
            Step::CaughtUp(aeon) => {
                assert_eq!(aeon, self.tide.cursor().aeon);
                encode_frame(&Message::CaughtUp(aeon), wire).unwrap();
                outflow.told_caught_up();
            }
            Step::Wait => return false,
            Step::Ahead => self.renew_epoch(),
        }
        true
    }

    /// The reader takes what came, and it is what the truth says.
    fn take_in(&mut self, reader: usize, intake: Intake) {
        let reader = &mut self.readers[reader];
        match intake {
            Intake::Nothing => {}
            Intake::Rock { at, digest, rock } => {
                let back = reader.at.is_some_and(|before| before.epoch == at.epoch && before.aeon > at.aeon);
                assert!(!back, "from {:?} back to {at}", reader.at);
                assert_eq!(rock, self.truth[&at.epoch].rock(at.aeon));
                assert_eq!(digest, Digest::of(&rock));
                reader.rock = decode(&rock).unwrap();
                reader.at = Some(at);
            }
            Intake::Wave { aeon, digest, wave } => {
                let at = reader.at.as_mut().unwrap();
                let truth = &self.truth[&at.epoch];
                assert_eq!(aeon, at.aeon.next(), "a gap or a repeat");
                assert_eq!(wave, truth.wave(aeon));
                wash::<L>(&mut reader.rock, &wave);
                at.aeon = aeon;
                let rock = rock_bytes::<L>(&reader.rock);
                assert_eq!(rock, truth.rock(aeon));
                assert!(digest.is_none_or(|digest| digest == Digest::of(&rock)), "the digest differs");
            }
            Intake::CaughtUp(aeon) => {
                assert_eq!(reader.at, Some(self.tide.cursor()));
                assert_eq!(self.tide.cursor().aeon, aeon);
            }
            other => panic!("{other:?}"),
        }
    }

    fn check_end(&self, reader: usize) {
        let reader = &self.readers[reader];
        assert_eq!(reader.at, Some(self.tide.cursor()));
        assert_eq!(rock_bytes::<L>(&reader.rock), rock_bytes::<L>(&self.rock));
    }
}

fn everyone_reconstructs<L: Made>(rule: Rule, ops: &[Op]) {
    let mut world = World::<L>::new(rule);
    for op in ops {
        world.run(op);
    }
    // At last each reader reads to the end, from wherever it was left.
    for reader in 0..READERS {
        world.read(reader, None, None, 4, &[]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_reader_of_a_sum_has_the_fold_of_all_waves(rule in rule(), ops in prop::collection::vec(op(), 1..20)) {
        everyone_reconstructs::<Sum>(rule, &ops);
    }

    #[test]
    fn every_reader_of_a_log_has_the_fold_of_all_waves(rule in rule(), ops in prop::collection::vec(op(), 1..20)) {
        everyone_reconstructs::<Log>(rule, &ops);
    }
}
