//! What a publisher does to its paths, each time beside what the model makes of it.

use std::collections::BTreeMap;

use bytes::Bytes;
use groundswell_core::{
    Access, AccessError, Aeon, Cursor, Digest, Epoch, Lake, Rule, Tide, encoding::encode, tide::Changes,
};

use super::{Change, Deed, Home, LARGE, NODES, PATHS, Reader, Rows, State, World};
use crate::common::{Log, Store, epoch, info, rock_bytes};

impl World {
    pub(super) fn act(&mut self, home: usize, deed: &Deed, durable: bool) {
        if !durable {
            self.count("transactions that failed");
        }
        match deed {
            Deed::Open => self.open(home, durable),
            Deed::Give(waves) => {
                let length = |wave: &u8| if wave.is_multiple_of(128) { LARGE } else { usize::from(wave % 5) };
                self.give(home, waves.iter().map(length), durable);
            }
            Deed::GiveMany(count) => self.give(home, std::iter::repeat_n(0, *count), durable),
            Deed::Rule(rule) => self.set_rule(home, *rule, durable),
            Deed::Wipe => self.wipe(home, durable),
            Deed::Kill => self.kill(home, durable),
            Deed::Fork(from) => self.fork(home / PATHS * PATHS + from, home, durable),
            Deed::Copy(from) => {
                let from = (1 - home / PATHS) * PATHS + from;
                let own = |reader: &Reader| reader.home == from && reader.node == home / PATHS;
                let reader = self.readers.iter().position(own).unwrap();
                self.copy(reader, home, durable);
            }
            Deed::Access(change) => self.change_access(home, *change, durable),
        }
    }

    fn new_epoch(&mut self) -> Epoch {
        self.epochs += 1;
        epoch(self.epochs)
    }

    /// Publishes the default rock, unless the path is published.
    fn open(&mut self, home: usize, durable: bool) {
        if self.homes[home].tide.is_some() || !durable {
            return;
        }
        let new = self.new_epoch();
        let (at, rule) = match self.homes[home].rows.tombstone {
            Some(tombstone) => (tombstone.reopened_at(), tombstone.rule),
            None => (Cursor { epoch: new, aeon: Aeon::ZERO }, Rule::default()),
        };
        let rock = rock_bytes::<Log>(&Vec::new());
        let model = &mut self.models[home];
        match model.killed_at.take() {
            Some(killed) => {
                assert_eq!(at, Cursor { aeon: Aeon(killed.aeon.0 + 1), ..killed }, "reopened elsewhere");
                *self.counts.entry("paths reopened").or_default() += 1;
            }
            None => assert_eq!(at, Cursor { epoch: new, aeon: Aeon::ZERO }),
        }
        model.at = Some(at);
        let state = State { rock: Digest::of(&rock), wave: None, made: self.now };
        let before = self.truth.entry(at.epoch).or_default().insert(at.aeon, state);
        assert!(before.is_none(), "{at} is published twice");
        let (store, tide) = Store::begin(at, rule, rock);
        let home = &mut self.homes[home];
        home.rows.store = Some(store);
        home.rows.tombstone = None;
        (home.tide, home.rock) = (Some(tide), Vec::new());
    }

    fn give(&mut self, home: usize, lengths: impl Iterator<Item = usize>, durable: bool) {
        self.open(home, durable);
        let Some(tide) = &self.homes[home].tide else { return };
        let (mut changes, mut rocks) = (tide.stage(), BTreeMap::new());
        let mut given = Vec::new();
        for length in lengths {
            self.waves += 1;
            // No two waves are equal, so that no history is another by chance.
            let line = format!("{}{}", self.waves, "x".repeat(length));
            let Home { rock, tide: Some(tide), .. } = &mut self.homes[home] else { return };
            let Ok(()) = Log::wash(rock, &line);
            let (wave, bytes) = (Bytes::from(encode(&line).unwrap()), rock_bytes::<Log>(rock));
            let aeon = changes.push_wave(wave.clone());
            given.push((aeon, State { rock: Digest::of(&bytes), wave: Some(wave), made: self.now }));
            if changes.wants_rock(tide) {
                changes.push_rock(info(&bytes));
                rocks.insert(aeon, bytes);
            }
        }
        self.homes[home].commit(changes, &rocks, durable);
        if !durable {
            return;
        }
        let model = &mut self.models[home];
        let at = model.at.as_mut().unwrap();
        for (aeon, state) in given {
            assert_eq!(aeon, at.aeon.next());
            at.aeon = aeon;
            let before = self.truth.get_mut(&at.epoch).unwrap().insert(aeon, state);
            assert!(before.is_none(), "{at} is published twice");
        }
        model.wiped = false;
    }

    fn set_rule(&mut self, home: usize, rule: Rule, durable: bool) {
        let Home { tide: Some(tide), rock, .. } = &self.homes[home] else { return };
        let (mut changes, mut rocks) = (tide.stage(), BTreeMap::new());
        changes.set_rule(rule);
        if changes.wants_rock(tide) {
            let bytes = rock_bytes::<Log>(rock);
            changes.push_rock(info(&bytes));
            rocks.insert(changes.head(), bytes);
        }
        self.homes[home].commit(changes, &rocks, durable);
        let kept = self.homes[home].tide.as_ref().unwrap().rule();
        assert_eq!(self.homes[home].rows.store.as_ref().unwrap().rule, kept);
        assert!(!durable || kept == rule);
    }

    fn wipe(&mut self, home: usize, durable: bool) {
        let Home { tide: Some(tide), rock, .. } = &self.homes[home] else { return };
        let (changes, rocks) = wiped(tide, rock);
        self.homes[home].commit(changes, &rocks, durable);
        self.models[home].wiped |= durable;
        self.count("wipes");
    }

    fn kill(&mut self, home: usize, durable: bool) {
        let at_home = &mut self.homes[home];
        let Some(tide) = at_home.tide.as_ref().filter(|_| durable) else { return };
        at_home.rows.tombstone = Some(tide.tombstone());
        at_home.rows.store = None;
        (at_home.tide, at_home.rock) = (None, Vec::new());
        let model = &mut self.models[home];
        model.killed_at = model.at.take();
        model.wiped = false;
        self.count("kills");
    }

    fn fork(&mut self, from: usize, to: usize, durable: bool) {
        let Home { tide: Some(tide), rows, rock, access } = &self.homes[from] else { return };
        let copied = (tide.clone(), rows.store.clone().unwrap(), rock.clone());
        let access = self.homes[to].rows.access.clone().unwrap_or_else(|| access.clone());
        let (public, allowed) = (self.models[from].public, self.models[from].allowed);
        if self.replicate(copied, to, access, durable) {
            self.count("forks");
            let model = &mut self.models[to];
            if !std::mem::replace(&mut model.access_said, true) {
                (model.public, model.allowed) = (public, allowed);
            }
        }
    }

    fn copy(&mut self, from: usize, to: usize, durable: bool) {
        let Reader { tide: Some(tide), rows: Some(store), rock, home: source, .. } = &self.readers[from] else {
            return;
        };
        let stale = self.models[*source].at != Some(tide.cursor());
        let copied = (tide.clone(), store.clone(), rock.clone());
        if self.replicate(copied, to, Access::secret(), durable) {
            self.count(if stale { "copies of stale replicas" } else { "copies of live replicas" });
            let model = &mut self.models[to];
            (model.access_said, model.public, model.allowed) = (true, false, [false; NODES]);
        }
    }

    fn replicate(
        &mut self,
        (tide, mut store, rock): (Tide, Store, Vec<String>),
        to: usize,
        access: Access<usize>,
        durable: bool,
    ) -> bool {
        if self.homes[to].tide.is_some() || !durable {
            return false;
        }
        let (old, new) = (tide.cursor(), self.new_epoch());
        let tide = tide.forked(new);
        store.epoch = new;
        let at = Cursor { epoch: new, ..old };
        assert_eq!(tide.cursor(), at);
        assert_eq!(tide.rule(), store.rule);
        let history = self.truth[&old.epoch].range(..=old.aeon);
        // To its readers all of it is made now.
        let history = history.map(|(aeon, state)| (*aeon, State { made: self.now, ..state.clone() })).collect();
        assert!(self.truth.insert(new, history).is_none(), "{new} is an epoch twice");
        assert_eq!(self.truth[&new][&at.aeon].rock, Digest::of(&rock_bytes::<Log>(&rock)));
        self.homes[to] =
            Home::load(Rows { store: Some(store), tombstone: None, access: Some(access) }, &self.default_access);
        // What stands in memory is the fork, not what a restart makes of its rows.
        self.homes[to].tide = Some(tide);
        let model = &mut self.models[to];
        (model.at, model.killed_at, model.wiped) = (Some(at), None, false);
        true
    }

    fn change_access(&mut self, home: usize, change: Change, durable: bool) {
        let peers = |mask: u8| (0..NODES).filter(move |node| mask >> node & 1 == 1);
        let before = self.homes[home].access.clone();
        let after = match change {
            Change::Public => Ok(Access::Public),
            Change::Secret => Ok(Access::secret()),
            Change::Allow(mask) => before.allow(peers(mask)),
            Change::Block(mask) => before.block(peers(mask)),
        };
        let model = &mut self.models[home];
        if model.public && matches!(change, Change::Block(_)) {
            assert_eq!(after, Err(AccessError::BlockOnPublic));
            self.count("blocks refused on a public path");
            return;
        }
        let after = after.unwrap();
        if !durable {
            return;
        }
        match change {
            Change::Public => model.public = true,
            Change::Secret => (model.public, model.allowed) = (false, [false; NODES]),
            Change::Allow(_) if model.public => {}
            Change::Allow(mask) => peers(mask).for_each(|node| model.allowed[node] = true),
            Change::Block(mask) => peers(mask).for_each(|node| model.allowed[node] = false),
        }
        if model.public {
            model.allowed = [false; NODES];
        }
        model.access_said = true;
        self.homes[home].rows.access = Some(after.clone());
        self.homes[home].access = after;
    }

    /// Whether this node may read this path now, as the model has it.
    pub(super) fn may_read(&self, home: usize, node: usize) -> bool {
        let model = &self.models[home];
        model.at.is_some() && (model.public || model.allowed[node])
    }

    pub(super) fn note_who_may_read(&mut self, home: usize) {
        for node in 0..NODES {
            let may = self.may_read(home, node);
            let model = &mut self.models[home];
            model.ever_open[node] |= may;
            model.closed_since[node] = if may { None } else { model.closed_since[node].or(Some(self.now)) };
        }
    }
}

/// A rock at the head, and nothing else.
pub(crate) fn wiped(tide: &Tide, rock: &Vec<String>) -> (Changes, BTreeMap<Aeon, Vec<u8>>) {
    let (mut changes, mut rocks) = (tide.stage(), BTreeMap::new());
    changes.wipe();
    if !changes.has_rock() {
        let bytes = rock_bytes::<Log>(rock);
        changes.push_rock(info(&bytes));
        rocks.insert(changes.head(), bytes);
    }
    (changes, rocks)
}
