//! The view: each key's newest entry, ordered by key, and indexed by the aeon of its last change.
//!
//! It is a compacted log: *what changed after aeon n* is a range of the index, with the newest
//! entry of each key only. Two views that were given the same entries hold the same, in whatever
//! order they came; their aeons and epochs are their own.

use alloc::{collections::BTreeMap, vec::Vec};

use crate::{
    aeon::{Aeon, Cursor, Epoch},
    kv::{
        entry::{KvAuthor, KvEntry},
        envelope::{Change, Envelope},
        filter::{KeyRange, KvFilter},
        key::{KvKey, SpaceName},
        stamp::Stamp,
    },
    limits::{KV_ENTRY_BYTES, MAX_KV_KEYS, MAX_VIEW_KEYS},
};

/// What became of an entry that was given to a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It is the newest of its key.
    Won {
        /// The aeon at which readers find it.
        aeon: Aeon,
        /// Who wrote the value that it replaces, if there was one: see [`KvFilter::could_match`].
        previous: Option<KvAuthor>,
    },
    /// The view holds it already, or one that wins over it. Nothing changed.
    Lost,
}

/// More keys than a document may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{limit} keys have been used in this document, the most that are allowed, and deleted ones count: use old keys again, or put several values under one key"
)]
pub struct TooManyKeys {
    /// The limit.
    pub limit: usize,
}

/// What is known of a key's newest entry, a deleted one included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Winner {
    /// Its stamp.
    pub stamp: Stamp,
    /// Who wrote it.
    pub author: KvAuthor,
    /// The aeon at which it came.
    pub aeon: Aeon,
    /// Whether it is a delete.
    pub deleted: bool,
    /// How many bytes its value has.
    pub value_bytes: u64,
}

/// The newest entry of a key.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    stamp: Stamp,
    pub(super) author: KvAuthor,
    pub(super) timestamp: u64,
    change: Change,
    /// When the key changed last, as readers see it.
    pub(super) aeon: Aeon,
    /// When the key had a value for the first time.
    first_value: Option<Aeon>,
}

impl Slot {
    /// What decides: the stamp, then the author. The rest tells apart what no honest side makes,
    /// two writes of one author with one stamp, so that both sides still agree.
    fn rank(&self) -> (Stamp, KvAuthor, &Change, u64) {
        (self.stamp, self.author, &self.change, self.timestamp)
    }

    /// The entry, unless the key is deleted.
    pub(super) fn entry(&self, key: &KvKey) -> Option<KvEntry> {
        match &self.change {
            Change::Put(value) => {
                let (key, value) = (key.clone(), value.clone());
                Some(KvEntry { key, value, author: self.author, timestamp: self.timestamp })
            }
            Change::Delete => None,
        }
    }

    fn value_bytes(&self) -> u64 {
        match &self.change {
            Change::Put(value) => value.len() as u64,
            Change::Delete => 0,
        }
    }

    fn is_live(&self) -> bool {
        matches!(self.change, Change::Put(_))
    }

    /// Whether a reader that had everything up to this aeon could have been given a value.
    pub(super) fn may_have_been_shown(&self, at: Aeon) -> bool {
        self.first_value.is_some_and(|first| first <= at)
    }
}

/// The entries of one space.
#[derive(Debug, Clone, Default)]
pub(super) struct Space {
    pub(super) by_key: BTreeMap<KvKey, Slot>,
    pub(super) by_aeon: BTreeMap<Aeon, KvKey>,
}

impl Space {
    /// The keys of a range; those after one of its keys, if one is given.
    fn keys_of<'a>(
        &'a self,
        range: &'a KeyRange,
        after: Option<&'a KvKey>,
    ) -> impl Iterator<Item = (&'a KvKey, &'a Slot)> {
        let bounds = range.bounds_after(after);
        bounds.into_iter().flat_map(|bounds| self.by_key.range::<[u8], _>(bounds))
    }

    /// The first of them.
    pub(super) fn next_of(&self, range: &KeyRange, after: Option<&KvKey>) -> Option<(&KvKey, &Slot)> {
        let bounds = range.bounds_after(after)?;
        self.by_key.range::<[u8], _>(bounds).next()
    }
}

/// The view of one document at one side.
///
/// Its epoch is a random id that is new with each process, as its aeons are; a cursor of another
/// epoch leads to a Reset. All values are held in memory.
#[derive(Debug, Clone)]
pub struct KvView {
    epoch: Epoch,
    head: Aeon,
    keys: usize,
    live: usize,
    value_bytes: u64,
    key_bytes: u64,
    newest: Stamp,
    spaces: BTreeMap<SpaceName, Space>,
}

impl KvView {
    /// An empty view. The epoch is a random id that was never used before.
    pub fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            // Aeon 0 is for readers that are in the middle of a snapshot.
            head: Aeon::ZERO.next(),
            keys: 0,
            live: 0,
            value_bytes: 0,
            key_bytes: 0,
            newest: Stamp::default(),
            spaces: BTreeMap::new(),
        }
    }

    /// Where the view stands.
    pub fn cursor(&self) -> Cursor {
        Cursor { epoch: self.epoch, aeon: self.head }
    }

    /// How many keys were ever used, in all spaces, deleted ones included.
    pub fn keys_used(&self) -> usize {
        self.keys
    }

    /// How many keys have a value, in all spaces.
    pub fn keys_live(&self) -> usize {
        self.live
    }

    /// How many bytes the values have in all, which are held in memory.
    pub fn value_bytes(&self) -> u64 {
        self.value_bytes
    }

    /// How many bytes the document counts: its values, its keys, and [`KV_ENTRY_BYTES`] for each key that was ever used.
    pub fn bytes(&self) -> u64 {
        self.value_bytes + self.key_bytes + KV_ENTRY_BYTES * self.keys as u64
    }

    /// The greatest stamp that was given to this view, for the [clock](super::Clock) to observe.
    pub fn newest_stamp(&self) -> Stamp {
        self.newest
    }

    /// The spaces that were ever used.
    pub fn spaces(&self) -> impl Iterator<Item = &SpaceName> {
        self.spaces.keys()
    }

    /// Whether a write of this side's own may use this key: a new key may be used only while
    /// there are fewer than [`MAX_KV_KEYS`]. To be asked before the write is made.
    pub fn check_room(&self, space: &SpaceName, key: &KvKey) -> Result<(), TooManyKeys> {
        if self.keys >= MAX_KV_KEYS && self.slot(space, key).is_none() {
            return Err(TooManyKeys { limit: MAX_KV_KEYS });
        }
        Ok(())
    }

    /// Takes one entry, from whichever side, in whatever order, any number of times. An entry
    /// of the other side is refused only beyond [`MAX_VIEW_KEYS`], which honest sides can't reach.
    pub fn apply(&mut self, author: KvAuthor, envelope: Envelope) -> Result<Applied, TooManyKeys> {
        let Envelope { space, key, stamp, timestamp, change } = envelope;
        let mut new = Slot { stamp, author, timestamp, change, aeon: self.head.next(), first_value: None };
        let space = match self.spaces.get_mut(&space) {
            Some(space) => space,
            None if self.keys >= MAX_VIEW_KEYS => return Err(TooManyKeys { limit: MAX_VIEW_KEYS }),
            None => self.spaces.entry(space).or_default(),
        };
        let mut previous = None;
        match space.by_key.get(&key) {
            None if self.keys >= MAX_VIEW_KEYS => return Err(TooManyKeys { limit: MAX_VIEW_KEYS }),
            None => {
                self.keys += 1;
                self.key_bytes += key.as_bytes().len() as u64;
            }
            Some(old) if new.rank() <= old.rank() => return Ok(Applied::Lost),
            Some(old) => {
                if !old.is_live() && !new.is_live() {
                    // Deleted twice, by two sides that were apart: readers see no change.
                    new.aeon = old.aeon;
                }
                new.first_value = old.first_value;
                previous = old.is_live().then_some(old.author);
                self.live -= usize::from(old.is_live());
                self.value_bytes -= old.value_bytes();
                space.by_aeon.remove(&old.aeon);
            }
        }
        if new.is_live() {
            new.first_value.get_or_insert(new.aeon);
        }
        self.newest = self.newest.max(stamp);
        self.live += usize::from(new.is_live());
        self.value_bytes += new.value_bytes();
        let aeon = new.aeon;
        self.head = self.head.max(aeon);
        space.by_aeon.insert(aeon, key.clone());
        space.by_key.insert(key, new);
        Ok(Applied::Won { aeon, previous })
    }

    /// The entry of a key, if it has one.
    pub fn get(&self, space: &SpaceName, key: &KvKey) -> Option<KvEntry> {
        self.slot(space, key)?.entry(key)
    }

    /// What is known of a key's newest entry, a deleted one included.
    pub fn winner(&self, space: &SpaceName, key: &KvKey) -> Option<Winner> {
        let slot = self.slot(space, key)?;
        let Slot { stamp, author, aeon, .. } = *slot;
        Some(Winner { stamp, author, aeon, deleted: !slot.is_live(), value_bytes: slot.value_bytes() })
    }

    /// The entries of a space that match, in the order of their keys. Only keys that the filter
    /// covers are looked at.
    pub fn entries(&self, space: &SpaceName, filter: &KvFilter) -> Vec<KvEntry> {
        let Some(space) = self.spaces.get(space) else { return Vec::new() };
        let ranges = filter.key_ranges();
        let slots = ranges.iter().flat_map(|range| space.keys_of(range, None));
        slots.filter_map(|(key, slot)| slot.entry(key)).filter(|entry| filter.matches(entry)).collect()
    }

    /// The keys of which an author's value of more than so many bytes is the newest entry.
    pub fn larger_than(&self, bytes: usize, author: KvAuthor) -> Vec<(SpaceName, KvKey)> {
        let bytes = bytes as u64;
        if self.value_bytes <= bytes {
            return Vec::new();
        }
        let all =
            self.spaces.iter().flat_map(|(name, space)| space.by_key.iter().map(move |(key, slot)| (name, key, slot)));
        let large = all.filter(|(_, _, slot)| slot.author == author && slot.value_bytes() > bytes);
        large.map(|(name, key, _)| (name.clone(), key.clone())).collect()
    }

    fn slot(&self, space: &SpaceName, key: &KvKey) -> Option<&Slot> {
        self.spaces.get(space)?.by_key.get(key)
    }

    pub(super) fn space(&self, name: &SpaceName) -> Option<&Space> {
        self.spaces.get(name)
    }
}
