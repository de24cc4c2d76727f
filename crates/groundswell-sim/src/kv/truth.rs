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
    /// Of each author, by counter and time: a side that went back without knowing gives counters again. What its author has lost
    /// for good is no part of it.
    history: [BTreeMap<At, Rc<Entry>>; 2],
    newest: BTreeMap<EntryKey, Rc<Entry>>,
    /// What was a part of it before its author went back.
    earlier: [BTreeMap<At, Rc<Entry>>; 2],
    /// The winner of each key.
    winners: BTreeMap<[u8; 32], Rc<Entry>>,
    /// What each side lacks through no fault of its own, up to which counter.
    damaged: [BTreeMap<EntryKey, u64>; 2],
    /// What each side has stored, and how often what went missing came back.
    stored: [BTreeMap<EntryKey, Rc<Entry>>; 2],
    came_back: u64,
    /// What was acknowledged to writers.
    answered: BTreeMap<EntryKey, Rc<Entry>>,
    /// Writes that did not happen.
    refused: BTreeSet<(KvAuthor, u64, u64)>,
    /// Writes in doubt, until the next flush takes them back.
    doubtful: BTreeSet<(KvAuthor, u64, u64)>,
    /// Up to where what each side holds was looked at.
    held: [Held; 2],
    /// Up to where what was delivered was looked at.
    delivered: [u64; 2],
    /// A side went back at some time.
    restored: bool,
    back: [Back; 2],
}

/// A counter and a time that no two writes have in common.
type At = (u64, u64);

/// What is known of a side's going back.
#[derive(Debug, Default, Clone, Copy)]
struct Back {
    /// It did at some time.
    went: bool,
    /// It has not agreed with the other side since: what that one says to hold of its entries may be of before.
    agrees: bool,
    /// It does not know, and gives counters again.
    reuses: bool,
    /// The other side went back, and this one has not heard of it yet.
    is_behind: bool,
}

/// The truth of all documents.
#[derive(Debug)]
pub(crate) struct Truth {
    documents: Vec<Document>,
    /// The least limit that a side ever had.
    least: Vec<[usize; 2]>,
}

fn author_of(node: usize) -> KvAuthor {
    if node == 0 { KvAuthor::Manager } else { KvAuthor::Machine }
}

/// Notes an entry where none is noted that ranks above it. Of two that differ only by their counters, the one signed last stays.
fn greater<K: Ord>(all: &mut BTreeMap<K, Rc<Entry>>, key: K, entry: &Rc<Entry>) {
    let best = all.entry(key).or_insert_with(|| entry.clone());
    if (best.full_rank(), best.counter) < (entry.full_rank(), entry.counter) {
        *best = entry.clone();
    }
}

/// Whether this entry is stored, or one of the same author and key that ranks above it.
fn has(stored: &Stored, entry: &Entry) -> bool {
    stored.entries.get(&entry.place()).is_some_and(|held| held.own_rank() >= entry.own_rank())
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
            match row {
                Row::Entry(entry) => self.register(*doc, node, entry)?,
                Row::Restored(from) => {
                    let author = author_of(node);
                    let back = &mut self.documents[*doc].back[author.index()];
                    if !back.went {
                        let broken = format!("the {author} of document {doc} notes that it went back, and never did");
                        return Err(Law::Restored.broken(broken));
                    }
                    // What the other side said to hold before says nothing of what is signed now.
                    self.documents[*doc].held[author.other().index()].clear(author);
                    let back = &mut self.documents[*doc].back[author.index()];
                    back.agrees = *from > 0;
                    back.reuses &= !back.agrees;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn register(&mut self, doc: usize, node: usize, entry: &Rc<Entry>) -> Result<(), Broken> {
        let document = &mut self.documents[doc];
        let own = SideId { doc, author: entry.author }.node() == node;
        let (history, earlier) = (&mut document.history[entry.author.index()], &document.earlier[entry.author.index()]);
        let at = (entry.counter, entry.envelope.timestamp);
        if let Some(known) = history.get(&at).or_else(|| earlier.get(&at)) {
            if known != entry {
                return Err(Law::Once.broken(format!("{entry:?} is another one than {known:?}")));
            }
        } else if !own {
            return Err(Law::PersistBeforeTransmit.broken(format!("an entry {entry:?} that is not at its author")));
        } else {
            if document.refused.contains(&write_of(entry)) {
                return Err(Law::Kept.broken(format!("a write that was said to have failed is there: {entry:?}")));
            }
            let same = (entry.counter, 0)..=(entry.counter, u64::MAX);
            let is_used = history.range(same.clone()).next().is_some()
                || earlier
                    .range(same)
                    .any(|(_, one)| document.stored.iter().any(|all| all.get(&one.place()) == Some(one)));
            if is_used && !document.back[entry.author.index()].reuses {
                let counter = entry.counter;
                return Err(Law::Once.broken(format!("the {} uses the counter {counter} twice", entry.author)));
            }
            // What is signed anew keeps its stamp.
            let is_it = |one: &Rc<Entry>| one.envelope == entry.envelope;
            let is_anew = document.restored && (history.values().any(is_it) || earlier.values().any(is_it));
            if let Some((at, last)) = history.last_key_value()
                && (at.0 >= entry.counter || !is_anew && last.envelope.stamp >= entry.envelope.stamp)
            {
                return Err(Law::Once.broken(format!("{entry:?} comes after {last:?}")));
            }
        }
        if own {
            history.insert(at, entry.clone());
            greater(&mut document.newest, entry.place(), entry);
        }
        greater(&mut document.winners, entry.key, entry);
        let side = author_of(node);
        greater(&mut document.stored[side.index()], entry.place(), entry);
        let damaged = &mut document.damaged[side.index()];
        if damaged.get(&entry.place()).is_some_and(|counter| *counter <= entry.counter) {
            damaged.remove(&entry.place());
            document.came_back += 1;
        }
        Ok(())
    }

    /// That what a node has just stored has not taken the place of something newer.
    pub(crate) fn check_stored(&mut self, node: usize, rows: &Rows, disk: &Disk) -> Result<(), Broken> {
        let side = author_of(node);
        for (doc, row) in rows {
            let Row::Entry(entry) = row else { continue };
            let newest = self.documents[*doc].stored[side.index()].get(&entry.place());
            if disk.documents[*doc].entries.get(&entry.place()) != newest {
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
    pub(crate) fn answered(&mut self, id: SideId, entry: &Rc<Entry>, disk: &Disk) -> Result<(), Broken> {
        self.documents[id.doc].answered.insert(entry.place(), entry.clone());
        if !has(&disk.documents[id.doc], entry) {
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
        // Of a document whose sides went back, all is looked at again.
        let from = if document.restored { 0 } else { from };
        for ((counter, _), entry) in document.history[author.index()].range((from + 1, 0)..=(upto, u64::MAX)) {
            let place = entry.place();
            let replaced = document.newest.get(&place).is_some_and(|newest| newest.counter > *counter);
            let other = disk.entries.get(&(author.other(), entry.key));
            let has_newer = other.is_some_and(|other| other.rank() > entry.rank());
            let damaged = document.damaged[id.author.index()].get(&place).is_some_and(|lost| lost >= counter);
            let is_there = has(disk, entry);
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
            if author != id.author && self.documents[id.doc].back[author.index()].agrees {
                continue;
            }
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
        if self.documents[id.doc].back[id.author.index()].is_behind {
            return Ok(());
        }
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
        for entry in self.documents[id.doc].answered.values() {
            if entry.author == id.author && !has(&disk.documents[id.doc], entry) {
                let (author, counter) = (id.author, entry.counter);
                return Err(Law::Kept.broken(format!("entry {counter} of the {author} was acknowledged and is lost")));
            }
        }
        let held = std::mem::take(&mut self.documents[id.doc].held[id.author.index()]);
        self.check_held(id, disk, held, Law::Kept)
    }

    /// A side's disk went back. What is on neither disk is lost, and what it holds is what is there.
    pub(crate) fn restored(&mut self, id: SideId, disks: [&Stored; 2], reuses: bool) {
        let document = &mut self.documents[id.doc];
        let (index, here) = (id.author.index(), disks[0]);
        document.restored = true;
        document.back[index] = Back { went: true, agrees: true, reuses, ..document.back[index] };
        document.back[id.author.other().index()].is_behind = true;
        let lost = std::mem::take(&mut document.history[index]);
        document.earlier[index].extend(lost);
        document.newest.retain(|place, _| place.0 != id.author);
        for entry in here.entries.values().filter(|entry| entry.author == id.author) {
            document.history[index].insert((entry.counter, entry.envelope.timestamp), entry.clone());
            document.newest.insert(entry.place(), entry.clone());
        }
        document.stored[index] = here.entries.clone();
        document.answered.retain(|place, entry| place.0 != id.author || has(here, entry));
        document.held = [Held::default(); 2];
        document.delivered = [0; 2];
        document.winners.clear();
        for entry in disks.iter().flat_map(|disk| disk.entries.values()) {
            greater(&mut document.winners, entry.key, entry);
        }
    }

    /// Whether an author has an entry of this counter or a greater one: one that it has lost comes no more.
    pub(crate) fn has_since(&self, doc: usize, place: &EntryKey, counter: u64) -> bool {
        self.documents[doc].newest.get(place).is_some_and(|newest| newest.counter >= counter)
    }

    /// A side knows from its disk that it went back.
    pub(crate) fn knows(&mut self, id: SideId) {
        self.documents[id.doc].back[id.author.index()].reuses = false;
    }

    /// A side has heard the other's hello, and has a session. One that does not agree first has nothing to agree upon.
    pub(crate) fn begins(&mut self, id: SideId, agrees_first: bool) {
        let back = &mut self.documents[id.doc].back[id.author.index()];
        back.is_behind = false;
        back.agrees &= agrees_first;
    }

    /// That a side which has agreed has everything of its own that the other one holds up to a counter.
    pub(crate) fn check_agreed(&self, id: SideId, disks: [&Stored; 2], upto: u64, limit: usize) -> Result<(), Broken> {
        let theirs = disks[1].after(id.author, 0, upto).filter(|entry| entry.value_bytes() <= limit);
        match theirs.into_iter().find(|entry| !has(disks[0], entry)) {
            Some(entry) => Err(Law::Restored.broken(format!("{id:?} has agreed up to {upto}, and lacks {entry:?}"))),
            None => Ok(()),
        }
    }

    /// Whether this value is larger than the side takes.
    pub(crate) fn is_large(&self, doc: usize, place: &EntryKey, limit: usize) -> bool {
        let document = &self.documents[doc];
        document.newest.get(place).is_some_and(|entry| entry.value_bytes() > limit)
    }

    /// The greatest of each key.
    pub(crate) fn winners(&self, doc: usize) -> impl Iterator<Item = &Rc<Entry>> {
        self.documents[doc].winners.values()
    }

    /// The newest entry of an author.
    pub(crate) fn head(&self, id: SideId) -> u64 {
        self.documents[id.doc].history[id.author.index()].keys().next_back().map_or(0, |at| at.0)
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
