//! The reader: a cursor into a view, which tells what comes next.
//!
//! A reader walks the keys that its filter covers, in order, and shows the entries that have not
//! changed since it began. Then it follows the view's index, which has the newest change of each
//! key: what changed during the walk first, then, caught up, what is live. So it never shows
//! one change twice nor an older one after a newer, and skips values that were replaced before
//! it got there, but no newest one.
//!
//! It keeps no more than its place, if its filter goes by key alone. Otherwise (an author,
//! a predicate) it keeps the set of the keys that it has shown and that match still, because
//! nothing else can tell whether an entry that does not match has to be taken back. A reader
//! that resumes builds that set anew, from what has not changed since its cursor; of what has,
//! it takes for shown whatever may have been.

use alloc::{collections::BTreeSet, vec::Vec};
use core::ops::Bound;

use crate::{
    aeon::{Aeon, Cursor, Epoch},
    kv::{
        entry::{KvEvent, KvUpdate, ResetReason},
        filter::{KeyRange, KvFilter},
        key::{KvKey, SpaceName},
        view::{KvView, Slot, Space},
    },
    limits::{FEW_KEYS, READER_SCAN_KEYS},
};

/// What a reader has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReaderStep {
    /// This happened.
    Event(KvUpdate),
    /// Nothing yet, and the reader is not through: let others at the view, and ask again.
    More,
    /// Nothing, until the view changes.
    Wait,
}

/// One reader of one space.
#[derive(Debug)]
pub struct KvReader {
    space: SpaceName,
    filter: KvFilter,
    ranges: Vec<KeyRange>,
    /// The keys that were shown and match still, for filters that need to know.
    shown: Option<BTreeSet<KvKey>>,
    /// Where an earlier reader got to.
    resume: Option<Cursor>,
    /// The epoch of the view that is read, and what is being done in it; nothing before the first call.
    place: Option<(Epoch, Phase)>,
    /// Every change up to here is known, of the keys that were walked.
    position: Aeon,
    /// Which range of the filter is being walked, and after which of its keys.
    walk: (usize, Option<KvKey>),
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// The keys are being walked, to show what has not changed since the position.
    Snapshot,
    /// They are being walked to learn what an earlier reader has shown.
    Recall,
    /// What changed up to here comes before `CaughtUp`.
    CatchUp { until: Aeon },
    /// Everything else is live.
    Live,
}

impl KvReader {
    /// A reader of what matches, in this space. With the cursor of an earlier event it goes on
    /// after that one, where the view still knows the place; otherwise it begins with a Reset.
    pub fn new(space: SpaceName, filter: KvFilter, resume: Option<Cursor>) -> Self {
        let ranges = filter.key_ranges();
        let shown = (!filter.is_by_key()).then(BTreeSet::new);
        Self { space, filter, ranges, shown, resume, place: None, position: Aeon::ZERO, walk: (0, None) }
    }

    /// The filter.
    pub fn filter(&self) -> &KvFilter {
        &self.filter
    }

    /// The space.
    pub fn space(&self) -> &SpaceName {
        &self.space
    }

    /// What comes next. A call looks at [`READER_SCAN_KEYS`] keys at most. A view of another
    /// epoch, as after a release, is begun with a Reset.
    pub fn next(&mut self, view: &KvView) -> ReaderStep {
        let head = view.cursor();
        let mut phase = match self.place {
            Some((epoch, _)) if epoch != head.epoch => return self.reset(head, ResetReason::OtherEpoch),
            Some((_, phase)) => phase,
            None => match self.begin(head) {
                Ok(phase) => phase,
                Err(reason) => return self.reset(head, reason),
            },
        };
        let nothing = Space::default();
        let space = view.space(&self.space).unwrap_or(&nothing);
        let mut budget = READER_SCAN_KEYS;
        let update = |event, aeon, live| {
            let cursor = Cursor { epoch: head.epoch, aeon };
            ReaderStep::Event(KvUpdate { event, cursor, live })
        };
        loop {
            let event = match phase {
                Phase::Snapshot => self.snapshot(space, &mut budget),
                Phase::Recall => self.recall(space, &mut budget),
                Phase::CatchUp { until } => self.changes(space, until, &mut budget),
                Phase::Live => self.changes(space, head.aeon, &mut budget),
            };
            let step = match (event, phase) {
                // A snapshot that was not finished can't be gone on with.
                (Some(event), Phase::Snapshot) => Some(update(event, Aeon::ZERO, false)),
                (Some(event), phase) => Some(update(event, self.position, matches!(phase, Phase::Live))),
                (None, _) if budget == 0 => Some(ReaderStep::More),
                (None, Phase::Snapshot | Phase::Recall) => {
                    phase = Phase::CatchUp { until: head.aeon };
                    None
                }
                (None, Phase::CatchUp { until }) => {
                    phase = Phase::Live;
                    Some(update(KvEvent::CaughtUp, until, false))
                }
                (None, Phase::Live) => Some(ReaderStep::Wait),
            };
            if let Some(step) = step {
                self.place = Some((head.epoch, phase));
                return step;
            }
        }
    }

    /// What is to be done first; or why nothing can be gone on with.
    fn begin(&mut self, head: Cursor) -> Result<Phase, ResetReason> {
        match self.resume {
            None => {
                self.position = head.aeon;
                Ok(Phase::Snapshot)
            }
            Some(cursor) if cursor.epoch != head.epoch => Err(ResetReason::OtherEpoch),
            Some(cursor) if cursor.aeon == Aeon::ZERO => Err(ResetReason::SnapshotUnfinished),
            Some(cursor) if cursor.aeon > head.aeon => Err(ResetReason::UnknownCursor),
            Some(cursor) => {
                self.position = cursor.aeon;
                Ok(if self.shown.is_some() { Phase::Recall } else { Phase::CatchUp { until: head.aeon } })
            }
        }
    }

    fn reset(&mut self, head: Cursor, reason: ResetReason) -> ReaderStep {
        if let Some(shown) = &mut self.shown {
            shown.clear();
        }
        self.walk = (0, None);
        self.position = head.aeon;
        self.place = Some((head.epoch, Phase::Snapshot));
        let cursor = Cursor { epoch: head.epoch, aeon: Aeon::ZERO };
        ReaderStep::Event(KvUpdate { event: KvEvent::Reset { reason }, cursor, live: false })
    }

    /// The next entry of the walk that matches and has not changed since it began.
    fn snapshot(&mut self, space: &Space, budget: &mut usize) -> Option<KvEvent> {
        while let Some((key, slot)) = self.walk_on(space, budget) {
            if slot.aeon <= self.position
                && let Some(entry) = slot.entry(key)
                && self.filter.matches(&entry)
            {
                if let Some(shown) = &mut self.shown {
                    shown.insert(key.clone());
                }
                return Some(KvEvent::Put(entry));
            }
        }
        None
    }

    /// Walks all keys, to learn which of them an earlier reader has shown, or may have.
    fn recall(&mut self, space: &Space, budget: &mut usize) -> Option<KvEvent> {
        while let Some((key, slot)) = self.walk_on(space, budget) {
            let was_shown = if slot.aeon <= self.position {
                slot.entry(key).is_some_and(|entry| self.filter.matches(&entry))
            } else {
                slot.may_have_been_shown(self.position)
            };
            if let Some(shown) = self.shown.as_mut().filter(|_| was_shown) {
                shown.insert(key.clone());
            }
        }
        None
    }

    /// The next key of the walk, while there are any.
    fn walk_on<'a>(&mut self, space: &'a Space, budget: &mut usize) -> Option<(&'a KvKey, &'a Slot)> {
        while *budget > 0
            && let Some(range) = self.ranges.get(self.walk.0)
        {
            *budget -= 1;
            if let Some((key, slot)) = space.next_of(range, self.walk.1.as_ref()) {
                self.walk.1 = Some(key.clone());
                return Some((key, slot));
            }
            self.walk = (self.walk.0 + 1, None);
        }
        None
    }

    /// The next change up to this aeon that concerns the reader. Without one, that is its position.
    fn changes(&mut self, space: &Space, until: Aeon, budget: &mut usize) -> Option<KvEvent> {
        if self.ranges.len() <= FEW_KEYS && self.ranges.iter().all(|range| matches!(range, KeyRange::One(_))) {
            while let Some((key, slot)) = self.next_of_few(space, until) {
                if let Some(event) = self.judge(&key, slot) {
                    return Some(event);
                }
            }
        } else {
            for (aeon, key) in space.by_aeon.range((Bound::Excluded(self.position), Bound::Included(until))) {
                if *budget == 0 {
                    return None;
                }
                *budget -= 1;
                if let Some(event) = space.by_key.get(key).and_then(|slot| self.judge(key, slot)) {
                    return Some(event);
                }
                self.position = *aeon;
            }
        }
        self.position = until;
        None
    }

    /// The same for a few keys, which are looked up, however much else has changed.
    fn next_of_few<'a>(&self, space: &'a Space, until: Aeon) -> Option<(KvKey, &'a Slot)> {
        let slots = self.ranges.iter().filter_map(|range| {
            let KeyRange::One(key) = range else { return None };
            Some((key, space.by_key.get(key)?))
        });
        let changed = slots.filter(|(_, slot)| self.position < slot.aeon && slot.aeon <= until);
        changed.min_by_key(|(_, slot)| slot.aeon).map(|(key, slot)| (key.clone(), slot))
    }

    /// What the change of a key means to this reader; its position moves there.
    fn judge(&mut self, key: &KvKey, slot: &Slot) -> Option<KvEvent> {
        let before = core::mem::replace(&mut self.position, slot.aeon);
        if !self.filter.covers(key) {
            return None;
        }
        let entry = slot.entry(key);
        let matches = entry.as_ref().is_some_and(|entry| self.filter.matches(entry));
        let was_shown = match &mut self.shown {
            None => slot.may_have_been_shown(before),
            Some(shown) if matches => {
                shown.insert(key.clone());
                true
            }
            Some(shown) => shown.remove(key),
        };
        match entry {
            Some(entry) if matches => Some(KvEvent::Put(entry)),
            Some(_) if was_shown => Some(KvEvent::Left { key: key.clone() }),
            None if was_shown => {
                Some(KvEvent::Delete { key: key.clone(), author: slot.author, timestamp: slot.timestamp })
            }
            _ => None,
        }
    }
}
