//! The tide: what is kept of one path, and the one question that every reader asks it.
//!
//! A [`Tide`] is an index. It knows which waves and rocks are kept, holds the newest waves
//! themselves, and answers what comes after a cursor. The bytes of older waves and of rocks
//! are in storage, which is the driver's. A change is made in three steps:
//!
//! 1. [`Tide::stage`] begins [`Changes`]; waves and rocks are pushed onto them;
//! 2. the driver makes the changes durable;
//! 3. [`Tide::commit`] makes them visible to readers.
//!
//! Dropping the changes instead of committing them leaves the tide as it was. So no reader
//! can see what a power cut can take back.

use alloc::{
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};
use core::ops::Range;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    aeon::{Aeon, Cursor, Epoch},
    digest::Digest,
    limits::{AUTOMATIC_ROCK_FLOOR_BYTES, PRUNE_SLACK_WAVES, RECENT_BYTES, WAVE_OVERHEAD_BYTES},
    rule::{Frequency, Rule},
};

/// What a tide knows of a rock that is kept: its size and its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RockInfo {
    /// How many bytes its encoding has.
    pub bytes: u64,
    /// The digest of its encoding.
    pub digest: Digest,
}

/// What is left of a path that was killed: enough to go on after it, if waves are given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// Where the tide stood.
    pub at: Cursor,
    /// Its rule, which holds again when the path is opened again.
    pub rule: Rule,
}

impl Tombstone {
    /// Where the path begins again, with the default rock: in the same epoch, at the next
    /// aeon, so that no reader's aeon ever goes back.
    pub fn reopened_at(&self) -> Cursor {
        Cursor { epoch: self.at.epoch, aeon: self.at.aeon.next() }
    }
}

/// The answer to *what comes after this cursor?*
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The waves of these aeons, both included.
    Waves {
        /// The aeon after the cursor's.
        first: Aeon,
        /// The newest aeon.
        last: Aeon,
    },
    /// A rock: the cursor is new, of another epoch, or older than what is kept.
    Rock {
        /// The aeon of the newest rock that is kept.
        aeon: Aeon,
        /// Its size and digest.
        info: RockInfo,
    },
    /// Nothing yet: the cursor is at the newest aeon.
    Wait,
    /// The cursor is ahead of this tide in its own epoch: this tide has lost aeons that a
    /// reader has seen (a backup was restored). The publisher has to begin a new epoch.
    Ahead,
}

/// What is kept of one path.
#[derive(Debug, Clone)]
pub struct Tide {
    epoch: Epoch,
    rule: Rule,
    head: Aeon,
    /// The oldest wave that is kept; `head.next()` where none is.
    first_wave: Aeon,
    /// Never empty.
    rocks: BTreeMap<Aeon, RockInfo>,
    /// The newest rock once more: its aeon and size.
    newest_rock: (Aeon, RockInfo),
    /// What the waves since the newest rock weigh.
    weight: u64,
    /// The newest waves, up to the head, contiguous.
    recent: VecDeque<Bytes>,
    recent_bytes: usize,
    /// What is kept, by weight, where that is bounded.
    history: Option<History>,
}

/// The weight of what a tide keeps.
#[derive(Debug, Clone, Default)]
struct History {
    /// How much may be kept that no reader needs to be brought up to date.
    most: u64,
    /// The kept waves in lots, oldest first: the last wave of each, and what they weigh together. So few numbers are
    /// held for any number of waves; of the oldest lot a part may have gone.
    lots: VecDeque<(Aeon, u64)>,
    /// What all lots weigh.
    waves: u64,
    /// What all rocks weigh.
    rocks: u64,
}

impl History {
    /// How many lots the most that may be kept is divided into.
    const LOTS: u64 = 64;

    fn add_wave(&mut self, aeon: Aeon, bytes: u64) {
        let weight = bytes + WAVE_OVERHEAD_BYTES;
        self.waves += weight;
        match self.lots.back_mut() {
            Some(lot) if lot.1 < self.most / Self::LOTS => *lot = (aeon, lot.1 + weight),
            _ => self.lots.push_back((aeon, weight)),
        }
    }

    /// The waves before this one are gone.
    fn drop_before(&mut self, first: Aeon) {
        while let Some((_, weight)) = self.lots.pop_front_if(|(last, _)| *last < first) {
            self.waves -= weight;
        }
    }
}

/// Why stored rows do not make a tide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// No rock is stored.
    #[error("no rock is stored")]
    NoRock,
    /// The waves that are stored do not join the newest rock.
    #[error("waves {first} to {last} are stored, which do not continue the rock at aeon {rock}")]
    Gap {
        /// The oldest stored wave.
        first: Aeon,
        /// The newest stored wave.
        last: Aeon,
        /// The newest stored rock.
        rock: Aeon,
    },
}

impl Tide {
    /// A tide that begins with a rock: a new publication's default rock at aeon 0, or the rock
    /// that a replica received.
    pub fn begin(at: Cursor, rule: Rule, rock: RockInfo) -> Self {
        Self {
            epoch: at.epoch,
            rule,
            head: at.aeon,
            first_wave: at.aeon.next(),
            rocks: BTreeMap::from([(at.aeon, rock)]),
            newest_rock: (at.aeon, rock),
            weight: 0,
            recent: VecDeque::new(),
            recent_bytes: 0,
            history: None,
        }
    }

    /// The same tide, which keeps at most so many bytes of waves and rocks beyond the newest rock and the waves since:
    /// those of whoever does not choose what is given. `kept` are the sizes of its waves, oldest first. A rule without
    /// a horizon keeps everything all the same.
    pub fn bounded(mut self, most: u64, kept: impl IntoIterator<Item = (Aeon, u64)>) -> Self {
        let rocks = self.rocks.values().map(|info| info.bytes).sum();
        let mut history = History { most, rocks, ..History::default() };
        kept.into_iter().for_each(|(aeon, bytes)| history.add_wave(aeon, bytes));
        self.history = Some(history);
        self
    }

    /// A tide from what storage holds: its rocks, the range of its waves, and the bytes of
    /// the waves after the newest rock, of which the number and the size are taken.
    pub fn restore(
        epoch: Epoch,
        rule: Rule,
        rocks: BTreeMap<Aeon, RockInfo>,
        waves: Option<(Aeon, Aeon)>,
        bytes_since_rock: u64,
    ) -> Result<Self, RestoreError> {
        let (&rock, &info) = rocks.last_key_value().ok_or(RestoreError::NoRock)?;
        let (first_wave, head) = match waves {
            Some((first, last)) if first <= rock.next() && first <= last && last >= rock => (first, last),
            Some((first, last)) => return Err(RestoreError::Gap { first, last, rock }),
            None => (rock.next(), rock),
        };
        let weight = bytes_since_rock + (head.0 - rock.0) * WAVE_OVERHEAD_BYTES;
        Ok(Self {
            epoch,
            rule,
            head,
            first_wave,
            newest_rock: (rock, info),
            rocks,
            weight,
            recent: VecDeque::new(),
            recent_bytes: 0,
            history: None,
        })
    }

    /// Where this tide stands: its epoch and its newest aeon.
    pub fn cursor(&self) -> Cursor {
        Cursor { epoch: self.epoch, aeon: self.head }
    }

    /// The rule that prunes it.
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// The same history, as that of another publication, whose publisher chooses what is given.
    pub fn forked(&self, epoch: Epoch) -> Self {
        Self { epoch, history: None, ..self.clone() }
    }

    /// What stays of it when it is killed.
    pub fn tombstone(&self) -> Tombstone {
        Tombstone { at: self.cursor(), rule: self.rule }
    }

    /// The rocks that are kept, oldest first.
    pub fn rocks(&self) -> impl Iterator<Item = (Aeon, RockInfo)> {
        self.rocks.iter().map(|(&aeon, &info)| (aeon, info))
    }

    /// How many waves are kept.
    pub fn kept_waves(&self) -> u64 {
        self.head.next().0 - self.first_wave.0
    }

    /// The digest of the rock at this aeon, where that rock is kept. It travels with the wave.
    pub fn digest_at(&self, aeon: Aeon) -> Option<Digest> {
        self.rocks.get(&aeon).map(|info| info.digest)
    }

    /// The one question: what comes after this cursor?
    pub fn next(&self, cursor: Option<Cursor>) -> Next {
        let (aeon, info) = self.newest_rock;
        match cursor {
            Some(cursor) if cursor.epoch != self.epoch => Next::Rock { aeon, info },
            Some(cursor) if cursor.aeon > self.head => Next::Ahead,
            Some(cursor) if cursor.aeon == self.head => Next::Wait,
            Some(cursor) if cursor.aeon.next() >= self.first_wave => {
                Next::Waves { first: cursor.aeon.next(), last: self.head }
            }
            _ => Next::Rock { aeon, info },
        }
    }

    /// The waves from this aeon on, as far as they are among the newest ones that are held in
    /// memory and fit into so many bytes (one always does). `None` where storage has to be asked.
    pub fn recent_from(&self, first: Aeon, max_bytes: usize) -> Option<Vec<Bytes>> {
        let oldest = self.head.next().0 - self.recent.len() as u64;
        let skip = usize::try_from(first.0.checked_sub(oldest)?).ok()?;
        let mut bytes = 0;
        let fits = |wave: &&Bytes| {
            let first_one = bytes == 0;
            bytes += wave.len() + WAVE_OVERHEAD_BYTES as usize;
            first_one || bytes <= max_bytes
        };
        Some(self.recent.iter().skip(skip).take_while(fits).cloned().collect())
    }

    /// Begins changes to this tide.
    pub fn stage(&self) -> Changes {
        Changes {
            reset: None,
            epoch: None,
            rule: None,
            wipe: false,
            head: self.head,
            first_wave: self.first_wave,
            newest_rock: self.newest_rock,
            weight: self.weight,
            waves: Vec::new(),
            rocks: Vec::new(),
            dropped_rocks: Vec::new(),
            dropped_waves: Aeon::ZERO..Aeon::ZERO,
        }
    }

    /// Makes durable changes visible. The changes are of this tide, and nothing else was
    /// committed to it since they were staged.
    pub fn commit(&mut self, changes: Changes) {
        if let Some(begin) = changes.reset {
            self.epoch = begin.epoch;
            self.rocks.clear();
            self.recent.clear();
            self.recent_bytes = 0;
            if let Some(history) = &mut self.history {
                *history = History { most: history.most, ..History::default() };
            }
        }
        if let Some(epoch) = changes.epoch {
            self.epoch = epoch;
        }
        if let Some(rule) = changes.rule {
            self.rule = rule;
        }
        let mut dropped = 0;
        for aeon in &changes.dropped_rocks {
            dropped += self.rocks.remove(aeon).map_or(0, |info| info.bytes);
        }
        if let Some(history) = &mut self.history {
            history.rocks += changes.rocks.iter().map(|(_, info)| info.bytes).sum::<u64>();
            history.rocks -= dropped;
            for (aeon, wave) in changes.waves() {
                history.add_wave(aeon, wave.len() as u64);
            }
            history.drop_before(changes.first_wave);
        }
        self.rocks.extend(changes.rocks);
        self.newest_rock = changes.newest_rock;
        self.weight = changes.weight;
        self.head = changes.head;
        self.first_wave = changes.first_wave;
        for wave in changes.waves {
            self.recent_bytes += wave.len();
            self.recent.push_back(wave);
        }
        let kept = usize::try_from(self.kept_waves()).unwrap_or(usize::MAX);
        while self.recent_bytes > RECENT_BYTES || self.recent.len() > kept {
            let Some(wave) = self.recent.pop_front() else { break };
            self.recent_bytes -= wave.len();
        }
    }
}

/// A place in [`Changes`] to return to.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    head: Aeon,
    newest_rock: (Aeon, RockInfo),
    weight: u64,
    waves: usize,
    rocks: usize,
}

/// Changes to one tide, on their way to storage.
#[derive(Debug, Clone)]
pub struct Changes {
    reset: Option<Cursor>,
    epoch: Option<Epoch>,
    rule: Option<Rule>,
    wipe: bool,
    head: Aeon,
    first_wave: Aeon,
    newest_rock: (Aeon, RockInfo),
    weight: u64,
    waves: Vec<Bytes>,
    rocks: Vec<(Aeon, RockInfo)>,
    dropped_rocks: Vec<Aeon>,
    dropped_waves: Range<Aeon>,
}

impl Changes {
    /// The newest aeon, these changes included.
    pub fn head(&self) -> Aeon {
        self.head
    }

    /// Whether there is nothing to store.
    pub fn is_empty(&self) -> bool {
        self.reset.is_none()
            && self.epoch.is_none()
            && self.rule.is_none()
            && self.waves.is_empty()
            && self.rocks.is_empty()
            && self.dropped_rocks.is_empty()
            && self.dropped_waves.is_empty()
    }

    /// The cursor at which the tide begins anew, if it does: everything older is to be deleted.
    pub fn reset(&self) -> Option<Cursor> {
        self.reset
    }

    /// The epoch that is to be stored, if the tide begins one without beginning anew.
    pub fn new_epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// The rule that is to be stored, if it changes.
    pub fn rule(&self) -> Option<Rule> {
        self.rule
    }

    /// The waves to be stored, with their aeons.
    pub fn waves(&self) -> impl Iterator<Item = (Aeon, &Bytes)> {
        let first = self.head.0 + 1 - self.waves.len() as u64;
        let all = (first..).map(Aeon).zip(&self.waves);
        all.filter(|(aeon, _)| *aeon >= self.first_wave)
    }

    /// The rocks to be stored, with their aeons; fewer than were pushed where one of them
    /// is beyond the horizon already.
    pub fn rocks(&self) -> &[(Aeon, RockInfo)] {
        &self.rocks
    }

    /// The rocks that are to be deleted.
    pub fn dropped_rocks(&self) -> &[Aeon] {
        &self.dropped_rocks
    }

    /// The range of waves that are to be deleted, its end not included.
    pub fn dropped_waves(&self) -> Range<Aeon> {
        self.dropped_waves.clone()
    }

    /// Sets the rule. [`Changes::prune`] then drops at once what it no longer keeps, without
    /// waiting until enough has gathered.
    pub fn set_rule(&mut self, rule: Rule) {
        self.rule = Some(rule);
    }

    /// Whether the newest aeon has a rock.
    pub fn has_rock(&self) -> bool {
        self.newest_rock.0 == self.head
    }

    /// Keeps nothing older than the newest rock, once: [`Changes::prune`] drops the rest at once.
    /// For nothing but a rock to be left, the newest aeon has to have one.
    pub fn wipe(&mut self) {
        self.wipe = true;
    }

    /// Adds one wave, and returns its aeon.
    pub fn push_wave(&mut self, wave: Bytes) -> Aeon {
        self.head = self.head.next();
        self.weight += wave.len() as u64 + WAVE_OVERHEAD_BYTES;
        self.waves.push(wave);
        self.head
    }

    /// Remembers the changes as they are, to return to by [`Changes::roll_back`].
    pub fn mark(&self) -> Mark {
        Mark {
            head: self.head,
            newest_rock: self.newest_rock,
            weight: self.weight,
            waves: self.waves.len(),
            rocks: self.rocks.len(),
        }
    }

    /// Takes back the waves and rocks that were pushed since the mark was made.
    pub fn roll_back(&mut self, mark: Mark) {
        self.head = mark.head;
        self.newest_rock = mark.newest_rock;
        self.weight = mark.weight;
        self.waves.truncate(mark.waves);
        self.rocks.truncate(mark.rocks);
    }

    /// Keeps the history, and calls it another epoch: readers of the one before get a rock.
    pub fn renew_epoch(&mut self, epoch: Epoch) {
        self.epoch = Some(epoch);
    }

    /// Whether the rule asks for a rock at the newest aeon.
    pub fn wants_rock(&self, tide: &Tide) -> bool {
        let (aeon, info) = self.newest_rock;
        match self.rule.unwrap_or(tide.rule).frequency {
            Frequency::Automatic => self.weight > info.bytes.max(AUTOMATIC_ROCK_FLOOR_BYTES),
            Frequency::Every(waves) => self.head.0 - aeon.0 >= waves.get(),
            Frequency::Never => false,
        }
    }

    /// Adds the rock of the newest aeon. Does nothing where that aeon has one.
    pub fn push_rock(&mut self, info: RockInfo) {
        if self.newest_rock.0 < self.head {
            self.newest_rock = (self.head, info);
            self.weight = 0;
            self.rocks.push(self.newest_rock);
        }
    }

    /// Begins the tide anew with a rock at this cursor: everything before it goes.
    pub fn begin_anew(&mut self, at: Cursor, info: RockInfo) {
        *self = Self {
            reset: Some(at),
            epoch: None,
            rule: self.rule,
            wipe: false,
            head: at.aeon,
            first_wave: at.aeon.next(),
            newest_rock: (at.aeon, info),
            weight: 0,
            waves: Vec::new(),
            rocks: Vec::from([(at.aeon, info)]),
            dropped_rocks: Vec::new(),
            dropped_waves: Aeon::ZERO..Aeon::ZERO,
        };
    }

    /// Drops what the rule no longer keeps: see [`Rule`]. Call it last, once. Its cost is that
    /// of what it drops, however many rocks are kept.
    pub fn prune(&mut self, tide: &Tide) {
        let empty = BTreeMap::new();
        let before = if self.reset.is_some() { &empty } else { &tide.rocks };
        let newest = self.newest_rock.0;
        let added = self.rocks.first().map_or(newest, |(aeon, _)| *aeon);
        let oldest = before.first_key_value().map_or(added, |(aeon, _)| *aeon);
        let horizon = if self.wipe { Some(0) } else { self.rule.unwrap_or(tide.rule).horizon };
        let too_heavy = horizon.and_then(|_| self.too_heavy(tide));
        let horizon = horizon.map(|waves| self.head.back(waves).max(too_heavy.unwrap_or(Aeon::ZERO)));
        // Which rocks go: those between these two, the second not included.
        let (from, to) = match horizon {
            Some(horizon) => (oldest, horizon.min(newest)),
            None => (oldest.next(), newest),
        };
        let goes = |aeon: Aeon| from <= aeon && aeon < to;
        if from < to {
            self.dropped_rocks = before.range(from..to).map(|(aeon, _)| *aeon).collect();
            self.rocks.retain(|(aeon, _)| !goes(*aeon));
        }
        let keep_from = match horizon {
            Some(horizon) => {
                let first_added = self.rocks.first().map_or(newest, |(aeon, _)| *aeon);
                let first_kept = before.range(to..).next().map_or(first_added, |(aeon, _)| *aeon);
                first_kept.min(horizon).next()
            }
            None => oldest.next(),
        };
        let gathered = keep_from.0.saturating_sub(self.first_wave.0);
        let at_once = self.rule.is_some() || self.wipe || too_heavy.is_some();
        if gathered > PRUNE_SLACK_WAVES || (at_once && gathered > 0) {
            self.dropped_waves = self.first_wave..keep_from;
            self.first_wave = keep_from;
        }
    }

    /// The aeon up to which everything goes because what is kept weighs too much; never beyond the newest rock.
    fn too_heavy(&self, tide: &Tide) -> Option<Aeon> {
        let history = tide.history.as_ref()?;
        let (newest, info) = self.newest_rock;
        let added = self.waves().map(|(_, wave)| wave.len() as u64 + WAVE_OVERHEAD_BYTES).sum::<u64>();
        let added = added + self.rocks.iter().map(|(_, info)| info.bytes).sum::<u64>();
        let before = if self.reset.is_some() { 0 } else { history.waves + history.rocks };
        // What a reader needs to be brought up to date does not count.
        let mut excess = (before + added).saturating_sub(self.weight + info.bytes).saturating_sub(history.most);
        if excess == 0 || self.reset.is_some() {
            return None;
        }
        let mut rocks = tide.rocks.iter().peekable();
        for (last, weight) in &history.lots {
            let gone = (*last).min(newest);
            let mut weight = *weight;
            while let Some((_, info)) = rocks.next_if(|(aeon, _)| **aeon < gone) {
                weight += info.bytes;
            }
            excess = excess.saturating_sub(weight);
            if excess == 0 || gone == newest {
                return Some(gone);
            }
        }
        Some(newest)
    }
}
