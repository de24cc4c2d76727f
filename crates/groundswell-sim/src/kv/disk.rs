//! The model disk of a node: what a power cut can't take, and what is on its way there.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use groundswell_core::kv::{Change, Envelope, KvAuthor, Stamp, sync::EntryKey, wire::Held};

use super::KvBug;
use crate::checkers::{Broken, Law};

/// One entry. Nothing here is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) author: KvAuthor,
    pub(crate) counter: u64,
    pub(crate) key: [u8; 32],
    pub(crate) envelope: Envelope,
}

impl Entry {
    pub(crate) fn place(&self) -> EntryKey {
        (self.author, self.key)
    }

    /// What decides which of two entries of a key wins.
    pub(crate) fn rank(&self) -> (Stamp, KvAuthor) {
        (self.envelope.stamp, self.author)
    }

    /// What decides between two entries of one author and key, before their counters do.
    pub(crate) fn own_rank(&self) -> (Stamp, &Change, u64) {
        (self.envelope.stamp, &self.envelope.change, self.envelope.timestamp)
    }

    /// What decides between any two entries of a key, also where a side that went back gave a stamp twice.
    pub(crate) fn full_rank(&self) -> (Stamp, KvAuthor, &Change, u64) {
        (self.envelope.stamp, self.author, &self.envelope.change, self.envelope.timestamp)
    }

    /// What stands for the hash of the envelope: no two writes have the same.
    pub(crate) fn hash(&self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&self.envelope.timestamp.to_le_bytes());
        hash
    }

    pub(crate) fn value_bytes(&self) -> usize {
        match &self.envelope.change {
            Change::Put(value) => value.len(),
            Change::Delete => 0,
        }
    }

    pub(crate) fn is_delete(&self) -> bool {
        self.envelope.change == Change::Delete
    }

    /// What stands for the signed entry on the wire.
    pub(crate) fn signed(&self) -> Vec<u8> {
        let author = if self.author == KvAuthor::Machine { 0 } else { 1 };
        [&[author][..], &self.counter.to_be_bytes(), &self.key].concat()
    }

    /// Reads what came.
    pub(crate) fn from_sent(signed: &[u8], envelope: &[u8], max_value_bytes: usize) -> Result<Self, Broken> {
        let malformed = || Law::Protocol.broken("a signed entry that can't be read");
        let (author, rest) = signed.split_first().ok_or_else(malformed)?;
        let (counter, key) = rest.split_first_chunk::<8>().ok_or_else(malformed)?;
        let key: [u8; 32] = key.try_into().map_err(|_| malformed())?;
        let author = if *author == 0 { KvAuthor::Machine } else { KvAuthor::Manager };
        let envelope = Envelope::decode(&key, envelope, max_value_bytes);
        let envelope = envelope.map_err(|error| Law::Protocol.broken(error.to_string()))?;
        Ok(Self { author, counter: u64::from_be_bytes(*counter), key, envelope })
    }
}

/// One change of what is stored.
#[derive(Debug, Clone)]
pub(crate) enum Row {
    Entry(Rc<Entry>),
    Held(KvAuthor, u64),
    Clock(Stamp),
    Bound(u64),
    Missing(EntryKey, u64),
    /// The other side was sent this side's entries up to here at most.
    Sent(u64),
    /// Where it is not 0, this side went back and has not agreed since.
    Restored(u64),
}

/// Rows with their documents.
pub(crate) type Rows = Vec<(usize, Row)>;

/// What is stored of one document.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stored {
    pub(crate) entries: BTreeMap<EntryKey, Rc<Entry>>,
    /// The newest entry of each key in the order of their counters.
    log: [BTreeSet<(u64, [u8; 32])>; 2],
    pub(crate) held: Held,
    pub(crate) clock: Option<Stamp>,
    pub(crate) bound: u64,
    pub(crate) missing: BTreeMap<EntryKey, u64>,
    pub(crate) sent: u64,
    pub(crate) restored: u64,
}

impl Stored {
    pub(crate) fn counter(&self, place: &EntryKey) -> Option<u64> {
        self.entries.get(place).map(|entry| entry.counter)
    }

    pub(crate) fn apply(&mut self, row: &Row, bug: Option<KvBug>) {
        match row {
            Row::Entry(entry) => self.put(entry, bug),
            Row::Held(author, counter) => self.held.raise(*author, *counter),
            Row::Clock(bound) => self.clock = Some(*bound),
            Row::Bound(bound) => self.bound = *bound,
            // A later one may have been staged before.
            Row::Sent(upto) => self.sent = self.sent.max(*upto),
            Row::Restored(from) => self.restored = *from,
            Row::Missing(place, counter) => {
                let newest = self.counter(place).max(self.missing.get(place).copied());
                if newest.is_none_or(|newest| newest < *counter) {
                    self.missing.insert(*place, *counter);
                }
            }
        }
    }

    fn put(&mut self, entry: &Rc<Entry>, bug: Option<KvBug>) {
        let place = entry.place();
        let announced = self.missing.get(&place).is_some_and(|counter| *counter <= entry.counter);
        if announced && bug != Some(KvBug::MissingStays) {
            self.missing.remove(&place);
        }
        if let Some(before) = self.entries.get(&place) {
            let by_counter = bug == Some(KvBug::RestoredByCounter);
            let ranks = (before.own_rank(), before.counter) >= (entry.own_rank(), entry.counter);
            let stays = if by_counter { before.counter >= entry.counter } else { ranks };
            if stays && bug != Some(KvBug::StoreOlder) {
                return;
            }
            self.log[place.0.index()].remove(&(before.counter, place.1));
        }
        if entry.is_delete() && bug == Some(KvBug::DeleteDropsEntry) {
            self.entries.remove(&place);
            return;
        }
        self.entries.insert(place, entry.clone());
        self.log[place.0.index()].insert((entry.counter, place.1));
    }

    /// Takes an entry away.
    pub(crate) fn lose(&mut self, place: &EntryKey) -> Option<Rc<Entry>> {
        let lost = self.entries.remove(place)?;
        self.log[place.0.index()].remove(&(lost.counter, place.1));
        Some(lost)
    }

    /// An author's entries after this counter and up to the other, in order.
    pub(crate) fn after(&self, author: KvAuthor, after: u64, upto: u64) -> impl Iterator<Item = &Rc<Entry>> {
        let first = after.saturating_add(1);
        let range = self.log[author.index()].range((first, [0; 32])..=(upto.max(first), [255; 32]));
        let places = range.filter(move |(counter, _)| *counter <= upto).map(move |(_, key)| (author, *key));
        places.filter_map(|place| self.entries.get(&place))
    }
}

/// How a flush ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    NotDone,
    Unknown,
}

/// A disk with at most one transaction on its way.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) documents: Vec<Stored>,
    writing: Option<Rows>,
    /// Rows of which nobody knows whether they are there.
    unknown: Option<Rows>,
}

impl Disk {
    pub(crate) fn new(documents: usize) -> Self {
        Self { documents: vec![Stored::default(); documents], writing: None, unknown: None }
    }

    pub(crate) fn write(&mut self, rows: Rows) {
        self.writing = Some(rows);
    }

    fn apply(&mut self, rows: &Rows, bug: Option<KvBug>) {
        for (doc, row) in rows {
            if let Some(stored) = self.documents.get_mut(*doc) {
                stored.apply(row, bug);
            }
        }
    }

    /// The flush ends. One that is done has taken back what was in doubt.
    pub(crate) fn flushed(&mut self, outcome: Outcome, bug: Option<KvBug>) {
        let rows = self.writing.take().unwrap_or_default();
        match outcome {
            Outcome::Done => {
                self.apply(&rows, bug);
                if bug != Some(KvBug::UnknownStays) {
                    self.unknown = None;
                }
            }
            Outcome::NotDone => {}
            Outcome::Unknown => self.unknown = Some(rows),
        }
    }

    /// The power goes. With a `0` nothing of what was on its way is there, with a `1` what is being written, with a `2`
    /// what was in doubt; returns that.
    pub(crate) fn crash(&mut self, which: usize, bug: Option<KvBug>) -> Rows {
        let (writing, unknown) = (self.writing.take(), self.unknown.take());
        let rows = match which {
            0 => None,
            1 => writing,
            _ => unknown,
        };
        let rows = rows.unwrap_or_default();
        self.apply(&rows, bug);
        rows
    }
}
