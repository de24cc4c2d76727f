//! A model disk: what is durable, and one transaction that is not yet.

use std::collections::BTreeMap;

use bytes::Bytes;
use groundswell_core::{
    Access, Aeon, Cursor, Digest, Epoch, Lake, Rule, Tide, Tombstone,
    encoding::decode,
    limits::ROCK_CHUNK_BYTES,
    tide::{Changes, RockInfo},
};

use crate::{
    bug::Bug,
    checkers::{Broken, Law},
    lake::{Ledger, Rock},
};

/// One transaction.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "a disk has one at a time")]
pub(crate) enum Write {
    /// A tide begins, where none was.
    Begin { at: Cursor, rule: Rule, rock: Bytes },
    /// A tide changes.
    Change {
        changes: Changes,
        /// The bytes of the rocks that were pushed.
        rocks: Vec<(Aeon, Bytes)>,
        /// Every wave that was pushed, also one that is pruned at once. Not stored: the
        /// checkers look at it.
        given: Vec<Bytes>,
        /// Nothing but a rock of the newest aeon is to be left.
        wiped: bool,
    },
    /// A tide ends. Of one that has ended already, the tombstone changes.
    Kill { tombstone: Tombstone },
    /// Other peers may read the path from here on.
    Access { access: Access<usize> },
    /// A path begins with the history of another.
    Import(Box<Import>),
    /// A replica's source has ended, or has begun again.
    Ended { ended: bool },
}

/// The history of a tide, on its way to another path.
#[derive(Debug, Clone)]
pub(crate) struct Import {
    pub(crate) rows: Rows,
    pub(crate) tide: Tide,
    pub(crate) rock: Rock,
    /// Where its origin stands.
    pub(crate) from: Cursor,
    /// The origin is another peer's.
    pub(crate) copied: bool,
}

/// The rows of one tide.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rows {
    pub(crate) tide: Option<(Epoch, Rule)>,
    pub(crate) waves: BTreeMap<Aeon, Bytes>,
    pub(crate) rocks: BTreeMap<Aeon, Bytes>,
    /// Whether these rows came from a backup, and no new epoch was begun since.
    pub(crate) restored: bool,
    /// Of a path that was killed: where it stood.
    pub(crate) tombstone: Option<Tombstone>,
    /// Who may read the path, where that was said.
    pub(crate) access: Option<Access<usize>>,
    /// Of a replica: its source has ended.
    pub(crate) ended: bool,
}

/// What a tide is told of a rock.
pub(crate) fn info(rock: &[u8]) -> RockInfo {
    RockInfo { bytes: rock.len() as u64, digest: Digest::of(rock) }
}

impl Rows {
    fn apply(&mut self, write: &Write, bug: Option<Bug>) {
        match write {
            Write::Begin { at, rule, rock } => {
                let (access, ended) = (self.access.take(), self.ended);
                *self = Self { tide: Some((at.epoch, *rule)), access, ended, ..Self::default() };
                self.rocks.insert(at.aeon, rock.clone());
            }
            Write::Kill { tombstone } => {
                if bug != Some(Bug::KillKeepsRows) {
                    *self = Self { access: self.access.take(), ..Self::default() };
                }
                self.tombstone = (bug != Some(Bug::TombstoneNotPersisted)).then_some(*tombstone);
            }
            Write::Access { .. } if bug == Some(Bug::AccessNotPersisted) => {}
            Write::Access { access } => self.access = Some(access.clone()),
            Write::Import(import) => *self = import.rows.clone(),
            Write::Ended { ended } => self.ended = *ended,
            Write::Change { changes, rocks, .. } => self.change(changes, rocks, bug),
        }
    }

    fn change(&mut self, changes: &Changes, rocks: &[(Aeon, Bytes)], bug: Option<Bug>) {
        let Some((epoch, rule)) = &mut self.tide else { return };
        if let Some(at) = changes.reset() {
            *epoch = at.epoch;
            if bug != Some(Bug::KeepRowsAtReset) {
                self.waves.clear();
                self.rocks.clear();
            }
        }
        if let Some(new) = changes.new_epoch() {
            *epoch = new;
            self.restored = false;
        }
        if let Some(new) = changes.rule() {
            *rule = new;
        }
        self.waves.extend(changes.waves().map(|(aeon, wave)| (aeon, wave.clone())));
        let kept = |aeon: &Aeon| changes.rocks().iter().any(|(kept, _)| kept == aeon);
        self.rocks.extend(rocks.iter().filter(|(aeon, _)| kept(aeon)).cloned());
        for aeon in changes.dropped_rocks() {
            self.rocks.remove(aeon);
        }
        let dropped = changes.dropped_waves();
        self.waves.retain(|aeon, _| !dropped.contains(aeon));
        if bug == Some(Bug::PruneNewestRock) && !changes.dropped_rocks().is_empty() {
            self.rocks.pop_last();
        }
    }

    /// Where the rows stand.
    pub(crate) fn cursor(&self) -> Option<Cursor> {
        let (epoch, _) = self.tide?;
        let rock = self.rocks.last_key_value().map(|(aeon, _)| *aeon);
        let wave = self.waves.last_key_value().map(|(aeon, _)| *aeon);
        Some(Cursor { epoch, aeon: rock.max(wave)? })
    }

    /// The tide and the rock of these rows, as after a restart; `None` where there are none.
    pub(crate) fn open(&self) -> Result<Option<(Tide, Rock)>, Broken> {
        let Some((epoch, rule)) = self.tide else { return Ok(None) };
        let rocks: BTreeMap<_, _> = self.rocks.iter().map(|(aeon, rock)| (*aeon, info(rock))).collect();
        let newest = rocks.last_key_value().map_or(Aeon::ZERO, |(aeon, _)| *aeon);
        let since = self.waves.range(newest.next()..).map(|(_, wave)| wave.len() as u64).sum();
        let range = self.waves.first_key_value().zip(self.waves.last_key_value());
        let range = range.map(|((first, _), (last, _))| (*first, *last));
        let tide = Tide::restore(epoch, rule, rocks, range, since);
        let tide = tide.map_err(|error| Law::Storage.broken(error.to_string()))?;
        Ok(Some((tide, self.fold()?)))
    }

    /// The newest rock, and the waves since washed onto it.
    pub(crate) fn fold(&self) -> Result<Rock, Broken> {
        let Some((&aeon, rock)) = self.rocks.last_key_value() else {
            return Err(Law::Storage.broken("no rock is stored"));
        };
        let mut rock: Rock = decode(rock).map_err(|error| Law::Storage.broken(error.to_string()))?;
        let mut at = aeon;
        for (&aeon, wave) in self.waves.range(aeon.next()..) {
            if aeon != at.next() {
                return Err(Law::Storage.broken(format!("wave {aeon} is stored after {at}")));
            }
            at = aeon;
            let wave = decode(wave).map_err(|error| Law::Storage.broken(error.to_string()))?;
            Ledger::wash(&mut rock, &wave).map_err(|error| Law::Storage.broken(error))?;
        }
        Ok(rock)
    }

    /// One chunk of a rock.
    pub(crate) fn chunk(&self, aeon: Aeon, index: u32) -> Option<&[u8]> {
        let index = usize::try_from(index).ok()?;
        self.rocks.get(&aeon)?.chunks(ROCK_CHUNK_BYTES).nth(index)
    }

    /// The waves of these aeons, as far as they are stored without a gap.
    pub(crate) fn waves(&self, first: Aeon, last: Aeon) -> Vec<Bytes> {
        let rows = self.waves.range(first..=last).zip(first.0..);
        rows.take_while(|((aeon, _), expected)| aeon.0 == *expected).map(|((_, wave), _)| wave.clone()).collect()
    }

    /// That nothing but one rock is left.
    pub(crate) fn check_wiped(&self) -> Result<(), Broken> {
        if self.rocks.len() == 1 && self.waves.is_empty() {
            Ok(())
        } else {
            let (rocks, waves) = (self.rocks.len(), self.waves.len());
            Err(Law::Storage.broken(format!("a wiped tide keeps {rocks} rocks and {waves} waves")))
        }
    }

    /// That these rows are what the tide says is kept, no fewer and no more.
    pub(crate) fn check(&self, tide: &Tide) -> Result<(), Broken> {
        let rocks = self.rocks.keys().copied().eq(tide.rocks().map(|(aeon, _)| aeon));
        let head = tide.cursor().aeon;
        let first = Aeon(head.0 + 1 - tide.kept_waves());
        let ends = (self.waves.first_key_value(), self.waves.last_key_value());
        let waves = match ends {
            (Some((&stored_first, _)), Some((&stored_last, _))) => stored_first == first && stored_last == head,
            _ => first > head,
        };
        if rocks && waves && self.waves.len() as u64 == tide.kept_waves() {
            Ok(())
        } else {
            Err(Law::Storage.broken(format!("what is stored is not what the tide of {} keeps", tide.cursor())))
        }
    }
}

/// A disk with the rows of one tide, and at most one transaction on its way.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    durable: Rows,
    cached: Option<Write>,
}

impl Disk {
    /// What a power cut can't take. Reads see this and no more.
    pub(crate) fn rows(&self) -> &Rows {
        &self.durable
    }

    /// Whether a transaction is on its way.
    pub(crate) fn is_busy(&self) -> bool {
        self.cached.is_some()
    }

    /// Begins a transaction.
    pub(crate) fn write(&mut self, write: Write) {
        self.cached = Some(write);
    }

    /// Makes it durable, and gives it back.
    pub(crate) fn sync(&mut self, bug: Option<Bug>) -> Option<Write> {
        let write = self.cached.take()?;
        self.durable.apply(&write, bug);
        Some(write)
    }

    /// It fails: nothing of it is stored.
    pub(crate) fn fail(&mut self) -> Option<Write> {
        self.cached.take()
    }

    /// Replaces everything.
    pub(crate) fn replace(&mut self, rows: Rows) {
        *self = Self { durable: rows, cached: None };
    }
}
