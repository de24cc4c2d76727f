//! The truth of a world of keys: every entry that was ever durable, and what may be said of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use groundswell_core::kv::{KvAuthor, sync::EntryKey, wire::Held};

use super::{
    context::SideId,
    disk::{Disk, Entry, Row, Rows, Stored},
};
use crate::checkers::{Broken, Law};

/// All of one document.
#[derive(Debug, Default)]
struct Document {
    /// Of each author.
    history: [BTreeMap<u64, Rc<Entry>>; 2],
    newest: BTreeMap<EntryKey, u64>,
    /// The winner of each key.
    winners: BTreeMap<[u8; 32], Rc<Entry>>,
    /// What each side lacks through no fault of its own, up to which counter.
    damaged: [BTreeMap<EntryKey, u64>; 2],
    /// What each side has stored, and how often what went missing came back.
    stored: [BTreeMap<EntryKey, u64>; 2],
    came_back: u64,
    /// What was acknowledged to writers.
    answered: BTreeMap<EntryKey, u64>,
    /// Writes that did not happen.
    refused: BTreeSet<(KvAuthor, u64, u64)>,
    /// Writes in doubt, until the next flush takes them back.
    doubtful: BTreeSet<(KvAuthor, u64, u64)>,
    /// Up to where what each side holds was looked at.
    held: [Held; 2],
    /// Up to where what was delivered was looked at.
    delivered: [u64; 2],
}

/// The truth of all documents.
#[derive(Debug)]
pub(crate) struct Truth {
    documents: Vec<Document>,
    /// The least limit that a side ever had.
    least: Vec<[usize; 2]>,
}

fn write_of(entry: &Entry) -> (KvAuthor, u64, u64) {
    (entry.author, entry.counter, entry.envelope.timestamp)
}

impl Truth {
    pub(crate) fn new(documents: usize) -> Self {
        let least = vec![[usize::MAX; 2]; documents];
        Self { documents: (0..documents).map(|_| Document::default()).collect(), least }
    }

    pub(crate) fn limited(&mut self, id: SideId, limit: usize) {
        let least = &mut self.least[id.doc][id.author.index()];
        *least = limit.min(*least);
    }

    /// These rows are durable at a node.
    pub(crate) fn register_rows(&mut self, node: usize, rows: &Rows) -> Result<(), Broken> {
        for (doc, row) in rows {
            if let Row::Entry(entry) = row {
                self.register(*doc, node, entry)?;
            }
        }
        Ok(())
    }

    fn register(&mut self, doc: usize, node: usize, entry: &Rc<Entry>) -> Result<(), Broken> {
        let document = &mut self.documents[doc];
        let own = SideId { doc, author: entry.author }.node() == node;
        let history = &mut document.history[entry.author.index()];
        if let Some(known) = history.get(&entry.counter) {
            if known != entry {
                let counter = entry.counter;
                return Err(Law::Once.broken(format!("the {} uses the counter {counter} twice", entry.author)));
            }
        } else if !own {
            return Err(Law::PersistBeforeTransmit.broken(format!("an entry {entry:?} that is not at its author")));
        } else {
            if document.refused.contains(&write_of(entry)) {
                return Err(Law::Kept.broken(format!("a write that was said to have failed is there: {entry:?}")));
            }
            if let Some((counter, last)) = history.last_key_value()
                && (*counter >= entry.counter || last.envelope.stamp >= entry.envelope.stamp)
            {
                return Err(Law::Once.broken(format!("{entry:?} comes after {last:?}")));
            }
            history.insert(entry.counter, entry.clone());
            document.newest.insert(entry.place(), entry.counter);
            let winner = document.winners.entry(entry.key).or_insert_with(|| entry.clone());
            if winner.rank() < entry.rank() {
                *winner = entry.clone();
            }
        }
        let side = if node == 0 { KvAuthor::Manager } else { KvAuthor::Machine };
        let damaged = &mut document.damaged[side.index()];
        if damaged.get(&entry.place()).is_some_and(|counter| *counter <= entry.counter) {
            damaged.remove(&entry.place());
            document.came_back += 1;
        }
        Ok(())
    }

    /// That what a node has just stored has not taken the place of something newer.
    pub(crate) fn check_stored(&mut self, node: usize, rows: &Rows, disk: &Disk) -> Result<(), Broken> {
        let side = if node == 0 { KvAuthor::Manager } else { KvAuthor::Machine };
        for (doc, row) in rows {
            let Row::Entry(entry) = row else { continue };
            let newest = self.documents[*doc].stored[side.index()].entry(entry.place()).or_default();
            *newest = entry.counter.max(*newest);
        }
        for (doc, row) in rows {
            let Row::Entry(entry) = row else { continue };
            let newest = self.documents[*doc].stored[side.index()].get(&entry.place());
            if disk.documents[*doc].counter(&entry.place()) != newest.copied() {
                let key = &entry.envelope.key;
                return Err(Law::Kept.broken(format!("the {side} had entry {newest:?} of {key}, and goes back")));
            }
        }
        Ok(())
    }

    /// How often what went missing came back.
    pub(crate) fn came_back(&self) -> u64 {
        self.documents.iter().map(|document| document.came_back).sum()
    }

    /// A write was said not to be done, or to be in doubt.
    pub(crate) fn failed(&mut self, id: SideId, entry: &Entry, in_doubt: bool) {
        let document = &mut self.documents[id.doc];
        if in_doubt { &mut document.doubtful } else { &mut document.refused }.insert(write_of(entry));
    }

    /// A flush of the node was done: what was in doubt before is not there, and never will be.
    pub(crate) fn settled(&mut self, ids: &[SideId]) {
        for id in ids {
            let document = &mut self.documents[id.doc];
            let of_side: Vec<_> = document.doubtful.iter().filter(|write| write.0 == id.author).copied().collect();
            for write in of_side {
                document.doubtful.remove(&write);
                document.refused.insert(write);
            }
        }
    }

    /// The doubt ends with a crash.
    pub(crate) fn forget_doubts(&mut self, ids: &[SideId]) {
        for id in ids {
            self.documents[id.doc].doubtful.retain(|write| write.0 != id.author);
        }
    }

    pub(crate) fn damaged(&mut self, id: SideId, place: EntryKey, counter: u64) {
        let damaged = self.documents[id.doc].damaged[id.author.index()].entry(place).or_default();
        *damaged = counter.max(*damaged);
        self.documents[id.doc].stored[id.author.index()].remove(&place);
    }

    /// A writer is told that this is stored.
    pub(crate) fn answered(&mut self, id: SideId, entry: &Entry, disk: &Disk) -> Result<(), Broken> {
        self.documents[id.doc].answered.insert(entry.place(), entry.counter);
        if disk.documents[id.doc].counter(&entry.place()).is_none_or(|counter| counter < entry.counter) {
            return Err(Law::Kept.broken(format!("{entry:?} is acknowledged and not durable")));
        }
        Ok(())
    }

    /// That a disk has, for each entry of an author in a range of counters, that one or a newer one. The author may have
    /// written over it since, or the value may be larger than this.
    fn check_range(
        &self,
        id: SideId,
        disk: &Stored,
        author: KvAuthor,
        from: u64,
        upto: u64,
        large: usize,
    ) -> Result<(), String> {
        let document = &self.documents[id.doc];
        if upto <= from {
            return Ok(());
        }
        for (counter, entry) in document.history[author.index()].range(from + 1..=upto) {
            let place = entry.place();
            let replaced = document.newest.get(&place).is_some_and(|newest| newest > counter);
            let other = disk.entries.get(&(author.other(), entry.key));
            let has_newer = other.is_some_and(|other| other.rank() > entry.rank());
            let damaged = document.damaged[id.author.index()].get(&place).is_some_and(|lost| lost >= counter);
            let is_there = disk.counter(&place).is_some_and(|held| held >= *counter);
            let is_large = author != id.author && entry.value_bytes() > large;
            if !is_there && !replaced && !has_newer && !damaged && !is_large {
                let key = &entry.envelope.key;
                return Err(format!("the {} lacks entry {counter} of the {author}, of the key {key}", id.author));
            }
        }
        Ok(())
    }

    /// A side says that it holds so much.
    pub(crate) fn check_held(&mut self, id: SideId, disk: &Disk, held: Held, law: Law) -> Result<(), Broken> {
        for author in KvAuthor::BOTH {
            let before = self.documents[id.doc].held[id.author.index()].of(author);
            let (stored, upto) = (&disk.documents[id.doc], held.of(author));
            // Values that are too large for it are not there, and the counters go on.
            let least = self.least[id.doc][id.author.index()];
            self.check_range(id, stored, author, before, upto, least).map_err(|what| law.broken(what))?;
            self.documents[id.doc].held[id.author.index()].raise(author, upto);
        }
        Ok(())
    }

    /// The other side of `id` counts as holding everything up to this counter.
    pub(crate) fn check_delivered(&mut self, id: SideId, disk_of_other: &Disk, upto: u64) -> Result<(), Broken> {
        let before = self.documents[id.doc].delivered[id.author.index()];
        let stored = &disk_of_other.documents[id.doc];
        let checked = self.check_range(id.other(), stored, id.author, before, upto, usize::MAX);
        checked.map_err(|what| Law::Delivery.broken(format!("up to {upto} counts as delivered, and {what}")))?;
        let delivered = &mut self.documents[id.doc].delivered[id.author.index()];
        *delivered = upto.max(*delivered);
        Ok(())
    }

    /// What was looked at before is looked at anew.
    pub(crate) fn recheck_delivered(&mut self, id: SideId, disk_of_other: &Disk) -> Result<(), Broken> {
        let upto = std::mem::take(&mut self.documents[id.doc].delivered[id.author.index()]);
        self.check_delivered(id, disk_of_other, upto)
    }

    /// After a restart: nothing that was acknowledged is lost, and what was held is there.
    pub(crate) fn restarted(&mut self, id: SideId, disk: &Disk) -> Result<(), Broken> {
        for (place, counter) in &self.documents[id.doc].answered {
            let held = disk.documents[id.doc].counter(place);
            if place.0 == id.author && held.is_none_or(|held| held < *counter) {
                let author = id.author;
                return Err(Law::Kept.broken(format!("entry {counter} of the {author} was acknowledged and is lost")));
            }
        }
        let held = std::mem::take(&mut self.documents[id.doc].held[id.author.index()]);
        self.check_held(id, disk, held, Law::Kept)
    }

    /// Whether this value is larger than the side takes.
    pub(crate) fn is_large(&self, doc: usize, place: &EntryKey, limit: usize) -> bool {
        let document = &self.documents[doc];
        let newest = document.newest.get(place).and_then(|counter| document.history[place.0.index()].get(counter));
        newest.is_some_and(|entry| entry.value_bytes() > limit)
    }

    /// The greatest of each key.
    pub(crate) fn winners(&self, doc: usize) -> impl Iterator<Item = &Rc<Entry>> {
        self.documents[doc].winners.values()
    }

    /// The newest entry of an author.
    pub(crate) fn head(&self, id: SideId) -> u64 {
        self.documents[id.doc].history[id.author.index()].keys().next_back().copied().unwrap_or(0)
    }

    /// The newest entries of an author.
    pub(crate) fn newest(&self, id: SideId) -> impl Iterator<Item = EntryKey> {
        self.documents[id.doc].newest.keys().filter(move |place| place.0 == id.author).copied()
    }

    /// What a side lacks still.
    pub(crate) fn lacks(&self, id: SideId) -> impl Iterator<Item = &EntryKey> {
        self.documents[id.doc].damaged[id.author.index()].keys()
    }
}
