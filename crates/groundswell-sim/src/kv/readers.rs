//! Programs that read a side's view, each with a filter. They outlive the node's process, as clients do.

use std::collections::BTreeMap;

use bytes::Bytes;
use groundswell_core::{
    Aeon, Cursor,
    kv::{KvAuthor, KvEntry, KvEvent, KvFilter, KvKey, KvReader, ReaderStep, SpaceName, Stamp},
};

use super::{
    KvBug,
    context::{Event, SideId},
    disk::Entry,
    world::World,
};
use crate::{
    checkers::{Broken, Law},
    rng::Rng,
};

/// What a reader follows.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Follows {
    All,
    Key(u64),
    Prefix,
    Author(KvAuthor),
    Value,
    Both,
}

/// The key of a number. Those of a prefix are every second one.
pub(crate) fn key_of(number: u64) -> Option<KvKey> {
    let prefix = if number.is_multiple_of(2) { "even" } else { "odd" };
    KvKey::new(format!("{prefix}/{number:04}")).ok()
}

fn value_matches(entry: &KvEntry) -> bool {
    entry.value.first().is_some_and(|byte| byte.is_multiple_of(2))
}

impl Follows {
    fn any(rng: &mut Rng) -> Self {
        match rng.index(7) {
            0 => Self::All,
            1 => Self::Key(rng.within(0..=3)),
            2 => Self::Prefix,
            3 => Self::Author(KvAuthor::Machine),
            4 => Self::Author(KvAuthor::Manager),
            5 => Self::Value,
            _ => Self::Both,
        }
    }

    fn filter(self) -> KvFilter {
        match self {
            Self::All => KvFilter::All,
            Self::Key(number) => key_of(number).map_or(KvFilter::All, KvFilter::Key),
            Self::Prefix => KvFilter::prefix("even/"),
            Self::Author(author) => KvFilter::Author(author),
            Self::Value => KvFilter::predicate(value_matches),
            Self::Both => KvFilter::any_of([KvFilter::prefix("odd/"), KvFilter::Author(KvAuthor::Manager)]),
        }
    }
}

/// What decides between two values of a key, also where a side that went back gave a stamp twice.
type Shown = ((Stamp, KvAuthor), Bytes, u64);

/// One reader.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) space: SpaceName,
    follows: Follows,
    reader: Option<KvReader>,
    awake: bool,
    /// What its program holds: all events so far, folded.
    fold: BTreeMap<KvKey, KvEntry>,
    /// The greatest that was shown of each key since the last reset.
    shown: BTreeMap<KvKey, Shown>,
    cursor: Option<Cursor>,
    before: Option<Cursor>,
    /// Whether it has gone on from a cursor: then it may be told of what it was not given.
    resumed: bool,
}

impl Reader {
    pub(crate) fn any(rng: &mut Rng, spaces: &[SpaceName]) -> Self {
        Self {
            space: spaces[rng.index(spaces.len())].clone(),
            follows: Follows::any(rng),
            reader: None,
            awake: false,
            fold: BTreeMap::new(),
            shown: BTreeMap::new(),
            cursor: None,
            before: None,
            resumed: false,
        }
    }
}

impl World {
    /// A reader's program connects, anew or from its cursor.
    pub(crate) fn revive(&mut self, id: SideId, number: usize) {
        let from_cursor = self.cx.rng.chance(75);
        let at_head = self.cx.has(KvBug::ReaderResumesAtHead);
        let repeats = self.cx.has(KvBug::ReaderRepeats);
        let side = &mut self.sides[id.doc][id.author.index()];
        let reader = &mut side.readers[number];
        let cursor = reader.cursor.filter(|_| from_cursor);
        if cursor.is_none() {
            reader.fold.clear();
            reader.shown.clear();
            reader.cursor = None;
        }
        let resume = match cursor {
            Some(_) if at_head => Some(side.view.cursor()),
            Some(cursor) if repeats => Some(reader.before.unwrap_or(cursor)),
            cursor => cursor,
        };
        reader.resumed = cursor.is_some();
        self.cx.report.reader_resumes += u64::from(cursor.is_some());
        reader.reader = Some(KvReader::new(reader.space.clone(), reader.follows.filter(), resume));
        reader.awake = true;
        let run = self.nodes[id.node()].run;
        self.cx.after(200, Event::Read { side: id, run, reader: number });
    }

    /// Wakes the readers whom an entry concerns.
    pub(crate) fn wake(&mut self, id: SideId, entry: &Entry, previous: Option<KvAuthor>) {
        if self.cx.has(KvBug::ReaderNotWoken) && entry.author != id.author {
            return;
        }
        let previous = previous.filter(|_| !self.cx.has(KvBug::ReaderWokenByAuthorOnly));
        let run = self.nodes[id.node()].run;
        let side = &mut self.sides[id.doc][id.author.index()];
        for (number, reader) in side.readers.iter_mut().enumerate() {
            let Some(follower) = &reader.reader else { continue };
            let concerns = follower.filter().could_match(&entry.envelope.key, entry.author, previous);
            if !reader.awake && reader.space == entry.envelope.space && concerns {
                reader.awake = true;
                self.cx.after(100, Event::Read { side: id, run, reader: number });
            }
        }
    }

    /// A reader reads a few events.
    pub(crate) fn read(&mut self, id: SideId, run: u64, number: usize) -> Result<(), Broken> {
        if !self.nodes[id.node()].up || self.nodes[id.node()].run != run {
            return Ok(());
        }
        let count = 1 + self.cx.rng.index(if self.bulk { 3_000 } else { 6 });
        for _ in 0..count {
            let side = &mut self.sides[id.doc][id.author.index()];
            let reader = &mut side.readers[number];
            let Some(follower) = &mut reader.reader else { return Ok(()) };
            match follower.next(&side.view) {
                ReaderStep::Event(update) => {
                    let cursor = update.cursor;
                    self.shown(id, number, update.event, cursor)?;
                }
                ReaderStep::More => {}
                ReaderStep::Wait => {
                    reader.awake = false;
                    return self.check_reader(id, number, None);
                }
            }
        }
        self.cx.after(100, Event::Read { side: id, run, reader: number });
        Ok(())
    }

    fn shown(&mut self, id: SideId, number: usize, event: KvEvent, cursor: Cursor) -> Result<(), Broken> {
        let keeps = self.cx.has(KvBug::ReaderKeepsAtReset);
        let ignores_left = self.cx.has(KvBug::ReaderIgnoresLeft);
        self.cx.note(|| format!("reader {number} of {id:?} is shown {event:?} at {cursor}"));
        let side = &mut self.sides[id.doc][id.author.index()];
        let reader = &mut side.readers[number];
        let broken = |what: &str| Law::Reading.broken(format!("{what} {cursor}: reader {number} of {id:?}"));
        let is_change = !matches!(event, KvEvent::Reset { .. } | KvEvent::CaughtUp);
        if let Some(before) = reader.cursor
            && !matches!(event, KvEvent::Reset { .. })
        {
            let is_later = cursor.aeon > before.aeon || !is_change && cursor.aeon == before.aeon;
            if before.epoch != cursor.epoch || cursor.aeon != Aeon::ZERO && !is_later {
                return Err(broken("an event comes twice, or after one of another view,"));
            }
        }
        match event {
            KvEvent::Put(entry) => {
                self.cx.report.reader_puts += 1;
                let winner = side.view.winner(&reader.space, &entry.key);
                let rank = winner.map(|winner| ((winner.stamp, winner.author), entry.value.clone(), entry.timestamp));
                let before = rank.clone().and_then(|rank| reader.shown.insert(entry.key.clone(), rank));
                if rank.is_none() || before >= rank {
                    return Err(broken("a value comes twice"));
                }
                reader.fold.insert(entry.key.clone(), entry);
            }
            KvEvent::Delete { key, .. } => {
                self.cx.report.reader_deletes += 1;
                let was_there = reader.fold.remove(&key).is_some();
                let exact = !follows_keys(reader.follows) && !reader.resumed;
                if !was_there && exact {
                    return Err(broken("a delete of what was not shown"));
                }
            }
            KvEvent::Left { key } => {
                self.cx.report.reader_lefts += 1;
                if !ignores_left {
                    let was_there = reader.fold.remove(&key).is_some();
                    if !was_there && !reader.resumed {
                        return Err(broken("a value has left that was not shown"));
                    }
                }
            }
            KvEvent::CaughtUp => {}
            KvEvent::Reset { .. } => {
                self.cx.report.reader_resets += 1;
                reader.resumed = false;
                if !keeps {
                    reader.fold.clear();
                }
                reader.shown.clear();
            }
        }
        reader.before = reader.cursor;
        reader.cursor = Some(cursor);
        if cursor.aeon == Aeon::ZERO || self.bulk {
            return Ok(());
        }
        self.check_reader(id, number, Some(cursor.aeon))
    }

    /// That a reader's fold is the view: of all keys, or of those whose last change it has passed.
    pub(crate) fn check_reader(&self, id: SideId, number: usize, upto: Option<Aeon>) -> Result<(), Broken> {
        let side = &self.sides[id.doc][id.author.index()];
        let reader = &side.readers[number];
        let is_passed = |key: &KvKey| {
            let winner = side.view.winner(&reader.space, key);
            upto.is_none_or(|upto| winner.is_none_or(|winner| winner.aeon <= upto))
        };
        let all = side.view.entries(&reader.space, &reader.follows.filter());
        let expected: Vec<&KvEntry> = all.iter().filter(|entry| is_passed(&entry.key)).collect();
        let held: Vec<&KvEntry> = reader.fold.values().filter(|entry| is_passed(&entry.key)).collect();
        if expected == held {
            return Ok(());
        }
        let (follows, at) = (reader.follows, reader.cursor);
        let what = format!("reader {number} of {id:?}, {follows:?} at {at:?}, holds {held:?} instead of {expected:?}");
        Err(Law::Reading.broken(what))
    }

    /// That every reader is through, and right.
    pub(crate) fn check_readers(&self, id: SideId) -> Result<(), Broken> {
        for (number, reader) in self.sides[id.doc][id.author.index()].readers.iter().enumerate() {
            if reader.awake {
                return Err(Law::Reading.broken(format!("reader {number} of {id:?} is not through")));
            }
            self.check_reader(id, number, None)?;
        }
        Ok(())
    }
}

fn follows_keys(follows: Follows) -> bool {
    matches!(follows, Follows::All | Follows::Key(_) | Follows::Prefix)
}
