//! The streams: what publishers send, what arrives, and what readers make of it.

use std::{
    borrow::Cow,
    collections::{BTreeMap, VecDeque},
};

use groundswell_core::{
    Aeon, Cursor, Digest, Rule, Tide,
    encoding::decode,
    limits::READ_BATCH_BYTES,
    publisher::{Outflow, Step},
    subscriber::{Inflow, Intake},
    wire::{FRAME_HEADER_BYTES, Message, frame_length},
};

use super::{HOMES, Home, PATHS, Stream, World, deeds::wiped, frame};
use crate::common::{Log, Store, info, rock_bytes, wash};

impl World {
    pub(super) fn restart(&mut self, node: usize) {
        for home in (0..HOMES).filter(|home| home / PATHS == node) {
            let rows = self.homes[home].rows.clone();
            self.homes[home] = Home::load(rows, &self.default_access);
            self.check_home(home);
        }
        for reader in &mut self.readers {
            if reader.home / PATHS == node || reader.node == node {
                reader.stream = None;
            }
            if reader.node == node {
                reader.tide = reader.rows.as_ref().map(Store::restore);
                reader.rock = reader.rows.as_ref().map(Store::fold::<Log>).unwrap_or_default();
            }
        }
    }

    pub(super) fn change_replica(&mut self, reader: usize, rule: Option<Rule>) {
        let reader = &mut self.readers[reader];
        reader.rule = rule.unwrap_or(reader.rule);
        let (Some(tide), Some(store)) = (&mut reader.tide, &mut reader.rows) else { return };
        let (mut changes, mut rocks) = (tide.stage(), BTreeMap::new());
        match rule {
            Some(rule) => changes.set_rule(rule),
            None => (changes, rocks) = wiped(tide, &reader.rock),
        }
        changes.prune(tide);
        store.apply(&changes, &rocks);
        tide.commit(changes);
        if rule.is_none() {
            assert_eq!((store.rocks.len(), store.waves.len()), (1, 0), "a wiped replica");
        }
    }

    pub(super) fn connect(&mut self, which: u16) {
        for (number, reader) in self.readers.iter_mut().enumerate() {
            if which >> number & 1 == 0 || reader.stream.is_some() {
                continue;
            }
            let stands = reader.tide.as_ref().map(Tide::cursor);
            reader.stream = Some(Stream {
                outflow: Outflow::new(stands),
                parked: false,
                inflow: Inflow::new(stands, stands),
                pipe: VecDeque::new(),
                closed_bytes: Vec::new(),
                led: false,
                rock_left: None,
                caught_up: false,
            });
        }
    }

    /// The publisher takes one step of a stream. False where it waits.
    pub(super) fn serve(&mut self, number: usize, batch: usize) -> bool {
        let reader = &mut self.readers[number];
        let Some(stream) = &mut reader.stream else { return false };
        let home = &self.homes[reader.home];
        let Some(tide) = home.tide.as_ref().filter(|_| home.access.allows(&reader.node)) else {
            if std::mem::replace(&mut stream.parked, true) {
                return false;
            }
            // What was told counts for nothing now; where the reader stands does.
            stream.outflow = Outflow::new(stream.outflow.cursor());
            self.send(number, &frame(&Message::NotAvailable));
            return true;
        };
        stream.parked = false;
        let store = home.rows.store.as_ref().unwrap();
        let mut wire = Vec::new();
        match stream.outflow.poll(tide) {
            Step::Resume(cursor) => {
                wire.push(frame(&Message::Resumed(cursor)));
                stream.outflow.resumed();
            }
            Step::BeginRock { at, info } => {
                wire.push(frame(&Message::Rock { at, bytes: info.bytes, digest: info.digest }));
                stream.outflow.rock_begun(at, info);
            }
            Step::Chunk { aeon, index } => match store.chunk(aeon, index) {
                Some(chunk) => {
                    wire.push(frame(&Message::Chunk(Cow::Borrowed(chunk))));
                    stream.outflow.chunk_sent(chunk.len() as u64);
                    *self.counts.entry("chunks after the first").or_default() += u64::from(index > 0);
                }
                None => {
                    stream.outflow.rock_gone();
                    *self.counts.entry("rocks gone under way").or_default() += 1;
                }
            },
            Step::Waves { first, last } => {
                let stored = || store.waves.range(first..=last).map(|(_, wave)| wave.clone()).collect();
                let waves = tide.recent_from(first, READ_BATCH_BYTES).unwrap_or_else(stored);
                for (aeon, wave) in (first.0..=last.0).map(Aeon).zip(waves).take(batch) {
                    let digest = tide.digest_at(aeon);
                    wire.push(frame(&Message::Wave { aeon, digest, wave: Cow::Borrowed(&wave) }));
                    stream.outflow.waves_sent(aeon);
                }
                assert!(!wire.is_empty(), "no wave is stored");
            }
            Step::CaughtUp(aeon) => {
                assert_eq!(Some(aeon), self.models[reader.home].at.map(|at| at.aeon));
                wire.push(frame(&Message::CaughtUp(aeon)));
                stream.outflow.told_caught_up();
            }
            Step::Wait => return false,
            Step::Ahead => panic!("no reader is ahead of a publisher that lost nothing"),
        }
        for frame in wire {
            self.send(number, &frame);
        }
        true
    }

    /// A frame goes onto the wire: to who may not read, the one that says so, once, and no other.
    fn send(&mut self, number: usize, frame: &[u8]) {
        let (home, node) = (self.readers[number].home, self.readers[number].node);
        let may = self.may_read(home, node);
        let Some(stream) = &mut self.readers[number].stream else { return };
        if may {
            assert_ne!(frame, self.not_available, "who may read is told that there is nothing");
            stream.closed_bytes.clear();
        } else {
            stream.closed_bytes.extend_from_slice(frame);
            assert_eq!(stream.closed_bytes, self.not_available, "sent to who may not read");
        }
        stream.pipe.push_back(frame.to_vec());
    }

    /// A reader takes the next frame, if there is one.
    pub(super) fn deliver(&mut self, number: usize) -> bool {
        let Some(stream) = &mut self.readers[number].stream else { return false };
        let Some(frame) = stream.pipe.pop_front() else { return false };
        let (header, body) = frame.split_first_chunk::<FRAME_HEADER_BYTES>().unwrap();
        assert_eq!(frame_length(*header).unwrap(), body.len());
        let message: Message<'_> = decode(body).unwrap();
        let (led, mid_rock) = (stream.led, stream.rock_left.is_some());
        match &message {
            Message::Resumed(_) => stream.led = true,
            Message::Rock { bytes, .. } => stream.rock_left = Some(*bytes),
            Message::Chunk(chunk) => stream.rock_left = stream.rock_left.map(|left| left - chunk.len() as u64),
            Message::NotAvailable => (stream.led, stream.rock_left, stream.caught_up) = (false, None, false),
            _ => {}
        }
        stream.led |= stream.rock_left.take_if(|left| *left == 0).is_some();
        let ends = matches!(message, Message::NotAvailable);
        let intake = stream.inflow.handle(message).unwrap();
        if ends && mid_rock {
            *self.counts.entry("rocks that were ended under way").or_default() += 1;
        }
        match intake {
            Intake::Nothing => {}
            Intake::NotAvailable => assert!(ends && !led, "an end is told as an absence"),
            Intake::Killed => {
                assert!(ends && led, "an absence is told as an end");
                self.readers[number].killed = true;
                self.count("readers that were told of an end");
            }
            Intake::Rock { at, digest, rock } => {
                assert_eq!(digest, Digest::of(&rock));
                stream.caught_up = false;
                self.take_rock(number, at, rock);
            }
            Intake::Wave { aeon, digest, wave } => self.take_wave(number, aeon, digest, wave),
            Intake::CaughtUp(aeon) => {
                stream.caught_up = true;
                let reader = &mut self.readers[number];
                assert_eq!(Some(aeon), reader.tide.as_ref().map(|tide| tide.cursor().aeon));
                reader.killed = false;
            }
            other => panic!("{other:?}"),
        }
        true
    }

    fn take_rock(&mut self, number: usize, at: Cursor, bytes: Vec<u8>) {
        let reader = &mut self.readers[number];
        reader.rock = decode(&bytes).unwrap();
        match (&mut reader.tide, &mut reader.rows) {
            (Some(tide), Some(store)) => {
                let mut changes = tide.stage();
                changes.begin_anew(at, info(&bytes));
                changes.prune(tide);
                store.apply(&changes, &BTreeMap::from([(at.aeon, bytes)]));
                tide.commit(changes);
            }
            _ => {
                let (store, tide) = Store::begin(at, reader.rule, bytes);
                (reader.rows, reader.tide) = (Some(store), Some(tide));
            }
        }
        self.check_taken(number, at);
    }

    fn take_wave(&mut self, number: usize, aeon: Aeon, digest: Option<Digest>, wave: Vec<u8>) {
        let reader = &mut self.readers[number];
        let (Some(tide), Some(store)) = (&mut reader.tide, &mut reader.rows) else { panic!("a wave before a rock") };
        let before = tide.cursor();
        assert_eq!(aeon, before.aeon.next(), "a gap or a repeat");
        let at = Cursor { aeon, ..before };
        assert_eq!(self.truth[&at.epoch][&aeon].wave.as_deref(), Some(&wave[..]));
        wash::<Log>(&mut reader.rock, &wave);
        let (mut changes, mut rocks) = (tide.stage(), BTreeMap::new());
        changes.push_wave(wave.into());
        if digest.is_some() || changes.wants_rock(tide) {
            let bytes = rock_bytes::<Log>(&reader.rock);
            assert!(digest.is_none_or(|digest| digest == Digest::of(&bytes)), "the digest differs");
            changes.push_rock(info(&bytes));
            rocks.insert(aeon, bytes);
        }
        changes.prune(tide);
        store.apply(&changes, &rocks);
        tide.commit(changes);
        self.check_taken(number, at);
    }

    /// What a reader has taken is what was given, was given while it could read, and is nothing older
    /// than what it had.
    fn check_taken(&mut self, number: usize, at: Cursor) {
        let reader = &mut self.readers[number];
        assert_eq!(reader.tide.as_ref().map(Tide::cursor), Some(at));
        let state = &self.truth[&at.epoch][&at.aeon];
        assert_eq!(Digest::of(&rock_bytes::<Log>(&reader.rock)), state.rock, "another state at {at}");
        let newest = reader.newest.entry(at.epoch).or_insert(at.aeon);
        assert!(at.aeon >= *newest, "back from {newest} to {at}");
        *newest = at.aeon;
        let model = &self.models[reader.home];
        assert!(model.ever_open[reader.node], "a reader that was never permitted has {at}");
        if let Some(closed) = model.closed_since[reader.node] {
            assert!(state.made <= closed, "{at} was given after the reader could read");
            self.count("states that arrived after the end");
        }
    }
}
