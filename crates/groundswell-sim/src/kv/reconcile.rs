//! A modelled reconciliation: both durable states are compared, and each side learns what it lacks. And what was left out until then.

use std::collections::BTreeSet;

use groundswell_core::{
    kv::{KvAuthor, sync::EntryKey},
    limits::MAX_KV_WANTS,
};

use super::{
    KvBug,
    context::{Event, SideId},
    disk::Entry,
    session::USUAL_LIMIT,
    side::Command,
    world::World,
};
use crate::checkers::Broken;

/// How many reconciliations there are in a session at the end that still find differences.
const LAST_ONES: u64 = 6;

/// What one side learns.
#[derive(Debug, Default)]
struct Found {
    /// What it lacks and takes.
    missing: Vec<(EntryKey, u64)>,
    /// Its own entries that the other side was offered.
    offered: BTreeSet<[u8; 32]>,
    /// Its own head when it began.
    fed: u64,
}

/// One that has begun.
#[derive(Debug)]
pub(crate) struct Reconciling {
    doc: usize,
    connection: u64,
    found: [Found; 2],
    alike: bool,
}

impl World {
    fn has_session(&self, id: SideId, connection: u64) -> bool {
        let session = &self.sides[id.doc][id.author.index()].session;
        session.as_ref().is_some_and(|session| session.connection == connection)
    }

    /// Compares what both sides have on disk now.
    pub(crate) fn reconcile(&mut self, doc: usize, connection: u64) {
        let ids = KvAuthor::BOTH.map(|author| SideId { doc, author });
        if !ids.iter().all(|id| self.has_session(*id, connection)) {
            if self.has_session(ids[1], connection) && self.connections.get(&connection).is_some_and(|one| one.open) {
                self.cx.after(3_000, Event::Reconcile { doc, connection });
            }
            return;
        }
        let most = if self.bounded { MAX_KV_WANTS } else { usize::MAX };
        let mut found = [Found::default(), Found::default()];
        let mut alike = true;
        for id in ids {
            let here = &self.nodes[id.node()].disk.documents[doc];
            let there = &self.nodes[id.other().node()].disk.documents[doc];
            let limit = self.nodes[id.node()].limit;
            for (place, entry) in &there.entries {
                if here.counter(place).is_some_and(|counter| counter >= entry.counter) {
                    continue;
                }
                alike = false;
                if place.0 != id.author {
                    found[id.author.other().index()].offered.insert(place.1);
                }
                if entry.value_bytes() <= limit {
                    found[id.author.index()].missing.push((*place, entry.counter));
                }
            }
            // A bounded one gets to them in an order of its own.
            let missing = &mut found[id.author.index()].missing;
            if missing.len() > most {
                let first = self.cx.rng.index(missing.len());
                missing.rotate_left(first);
                missing.truncate(most);
            }
            found[id.author.index()].fed = self.sides[doc][id.author.index()].heads.of(id.author);
        }
        let number = self.cx.number();
        self.reconciling.insert(number, Reconciling { doc, connection, found, alike });
        self.cx.note(|| format!("document {doc}: a reconciliation begins"));
        self.cx.after(200, Event::Reconciled { number });
    }

    /// Each side has found out, if the connection is still there.
    pub(crate) fn reconciled(&mut self, number: u64) -> Result<(), Broken> {
        let Some(Reconciling { doc, connection, found, alike }) = self.reconciling.remove(&number) else {
            return Ok(());
        };
        if !self.connections.get(&connection).is_some_and(|one| one.open) {
            return Ok(());
        }
        self.cx.report.reconciliations += 1;
        self.cx.report.found_alike += u64::from(alike);
        self.cx.note(|| format!("document {doc}: a reconciliation ends: {found:?}"));
        for (author, Found { missing, offered, fed }) in KvAuthor::BOTH.into_iter().zip(found) {
            let id = SideId { doc, author };
            if !self.has_session(id, connection) {
                continue;
            }
            let clears = self.cx.has(KvBug::LeftOutCleared);
            let to_now = self.cx.has(KvBug::ReconciledUptoNow);
            let side = self.side(id);
            let fed = if to_now { side.heads.of(author) } else { fed };
            let before = side.left_out.lowest();
            side.left_out.reconciled(fed, |key| offered.contains(key) && !clears);
            let resolved = before.is_some() && side.left_out.lowest() != before;
            self.cx.report.left_out_resolved += u64::from(resolved);
            self.tell_left_out(id)?;
            if !missing.is_empty() {
                self.ask(id.node(), Command::Missing { side: id, places: missing })?;
            }
        }
        if self.calm {
            let done = self.last_reconciliations.entry(connection).or_default();
            *done += 1;
            if alike || *done > if self.bulk { 10 * LAST_ONES } else { LAST_ONES } {
                return Ok(());
            }
        }
        self.cx.after(if self.bulk { 500 } else { 4_000 }, Event::Reconcile { doc, connection });
        Ok(())
    }

    /// Values that an earlier run may have left out. What this run leaves out is noted when it does.
    pub(crate) fn find_left_out(&mut self, id: SideId, takes: usize) -> Result<(), Broken> {
        let side = self.side(id);
        if side.delivered.whole_upto(id.doc as u64).is_some() {
            return Ok(());
        }
        let took = takes.min(USUAL_LIMIT);
        for (space, key) in side.view.larger_than(took, id.author) {
            let place = (id.author, groundswell_core::kv::document_key(&space, &key));
            let entry = self.nodes[id.node()].disk.documents[id.doc].entries.get(&place).cloned();
            if let Some(entry) = entry {
                self.leave_out(id, &entry)?;
            }
        }
        Ok(())
    }

    /// An entry is not sent for its size: it counts as not delivered while it is the newest of its key.
    pub(crate) fn leave_out(&mut self, id: SideId, entry: &Entry) -> Result<(), Broken> {
        let side = self.side(id);
        let winner = side.view.winner(&entry.envelope.space, &entry.envelope.key);
        if winner.is_some_and(|winner| (winner.stamp, winner.author) == entry.rank()) && entry.author == id.author {
            side.left_out.add(entry.key, entry.counter);
        }
        self.cx.note(|| format!("{id:?} leaves out {} of {}", entry.counter, entry.envelope.key));
        self.tell_left_out(id)
    }
}
