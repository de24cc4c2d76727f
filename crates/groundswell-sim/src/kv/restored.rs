//! Sides whose disks go back to a backup, and what they do then: see `groundswell_core::kv::restored`.

use std::{collections::BTreeMap, rc::Rc};

use groundswell_core::kv::{
    AuthorCounter,
    restored::{self, Back, Returned},
    wire::KvHello,
};

use super::{
    KvBug,
    context::{Event, SideId},
    disk::{Entry, Row, Stored},
    keeper::{next_counter, used_up},
    side::{Batch, Command},
    world::World,
};
use crate::checkers::Broken;

/// How many backups of a disk are kept.
const MOST_BACKUPS: usize = 3;

/// How long a disk takes to go back at least: longer than the other side needs to store what was on its way.
const RESTORE_MS: u64 = 5_000;

impl World {
    /// A disk is copied, or goes back, as may that of the other side at the same time.
    pub(crate) fn back_up_or_restore(&mut self, id: SideId) -> Result<(), Broken> {
        let both = [id.node(), id.other().node()];
        if self.cx.rng.chance(60) || both.iter().all(|node| self.nodes[*node].backups.is_empty()) {
            for node in both {
                if self.cx.rng.chance(60) {
                    self.back_up(node);
                }
            }
            return Ok(());
        }
        if self.cx.rng.chance(30) && both.iter().all(|node| !self.nodes[*node].backups.is_empty()) {
            self.cx.report.both_restored += 1;
            self.go_back(both[0])?;
            return self.go_back(both[1]);
        }
        let Some(node) = both.into_iter().find(|node| !self.nodes[*node].backups.is_empty()) else { return Ok(()) };
        self.go_back(node)?;
        if self.cx.rng.chance(40) {
            // The other side is away for longer.
            let other = if node == both[0] { both[1] } else { both[0] };
            self.power_cut(other)?;
            self.nodes[other].down_until = self.cx.now + RESTORE_MS + self.cx.rng.within(0..=5_000);
        }
        Ok(())
    }

    fn back_up(&mut self, node: usize) {
        self.cx.report.backups += 1;
        self.cx.note(|| format!("node {node} is backed up"));
        let one = &mut self.nodes[node];
        if one.backups.len() == MOST_BACKUPS {
            one.backups.remove(0);
        }
        one.backups.push(one.disk.documents.clone());
    }

    /// A disk goes back to one of its backups. Later ones are of a time that has not been: nobody goes on to them.
    fn go_back(&mut self, node: usize) -> Result<(), Broken> {
        self.end(node, true)?;
        let number = self.cx.rng.index(self.nodes[node].backups.len());
        let is_known = self.cx.rng.chance(50);
        let one = &mut self.nodes[node];
        one.backups.truncate(number + 1);
        let Some(backup) = one.backups.last() else { return Ok(()) };
        one.disk.documents.clone_from(backup);
        one.down_until = self.cx.now + RESTORE_MS + self.cx.rng.within(0..=2_000);
        self.cx.at(one.down_until, Event::NodeUp { node });
        self.cx.note(|| format!("node {node} goes back to backup {number}, and knows that: {is_known}"));
        *(if is_known { &mut self.cx.report.restored } else { &mut self.cx.report.rolled_back }) += 1;
        for id in self.sides_of(node) {
            let (here, there) = (&self.nodes[node].disk, &self.nodes[id.other().node()].disk);
            self.truth.restored(id, [&here.documents[id.doc], &there.documents[id.doc]], !is_known);
            if is_known {
                self.storage_went_back(id);
            }
        }
        Ok(())
    }

    /// What the next start notes on a disk that is known to be a copy.
    fn storage_went_back(&mut self, id: SideId) {
        let (random, has_gap) = (self.cx.rng.next(), !self.cx.has(KvBug::RestoredWithoutGap));
        let bug = self.cx.bug();
        let stored = &mut self.nodes[id.node()].disk.documents[id.doc];
        let last = stored.after(id.author, 0, u64::MAX).last().map_or(0, |entry| entry.counter);
        let next = stored.bound.max(1).max(last.max(stored.held.of(id.author)).saturating_add(1));
        let from = if has_gap { restored::after_gap(next, 0, random) } else { next };
        let clock = stored.clock.map(|bound| Row::Clock(restored::clock_after_gap(bound)));
        for row in [Row::Bound(from), Row::Restored(from)].into_iter().chain(clock) {
            stored.apply(&row, bug);
        }
        self.truth.knows(id);
    }

    /// Whether the other side's word tells that this one went back.
    pub(crate) fn notices(&self, id: SideId, held_there: u64) -> bool {
        let side = &self.sides[id.doc][id.author.index()];
        let claims_more = restored::Claim::of(side.sent, held_there) == restored::Claim::More;
        claims_more && !side.agrees && !self.cx.has(KvBug::RestoredUnnoticed)
    }

    pub(crate) fn stage_went_back(&mut self, batch: &mut Batch, id: SideId, held_there: u64) -> Option<u64> {
        let random = self.cx.rng.next();
        let has_gap = self.bug_free(KvBug::RestoredWithoutGap);
        let side = self.side(id);
        // Two connections may have noticed it.
        if side.agrees {
            return None;
        }
        let next = side.counter.reserve(0);
        let from = if has_gap { restored::after_gap(next, held_there, random) } else { next };
        batch.rows.push((id.doc, Row::Bound(from)));
        batch.rows.push((id.doc, Row::Restored(side.sent.saturating_add(1))));
        Some(from)
    }

    /// It is noted that a side went back. One that has said otherwise in its hello has no session.
    pub(crate) fn went_back(
        &mut self,
        id: SideId,
        connection: u64,
        from: Option<u64>,
        done: bool,
        hello: Option<KvHello>,
    ) -> Result<(), Broken> {
        if let Some(from) = from {
            self.cx.report.noticed += 1;
            self.cx.note(|| format!("{id:?} has noticed that it went back, and goes on from {from}"));
            let early = self.cx.has(KvBug::DeliveredBeforeAgreed);
            let side = self.side(id);
            (side.counter, side.agrees) = (AuthorCounter::restore(from), true);
            if !early {
                side.delivered.agreed = u64::MAX;
            }
        }
        let Some(hello) = hello.filter(|_| done) else {
            self.closed(id, connection);
            return Ok(());
        };
        self.cx.at(self.cx.now, Event::Arrive { side: id, connection });
        self.greet(id, connection, &hello)
    }

    /// Whether it is noted that the other side is sent this side's entries up to here.
    pub(crate) fn is_sent(&self, id: SideId, upto: u64) -> bool {
        upto <= self.sides[id.doc][id.author.index()].sent
    }

    /// A session asks the keeper for something, and waits for that.
    pub(crate) fn wait_for(&mut self, id: SideId, command: Command) -> Result<(), Broken> {
        if let Some(session) = &mut self.side(id).session {
            session.noting = true;
        }
        if matches!(command, Command::Agree { .. }) && !self.calm && self.cx.rng.chance(15) {
            let run = self.nodes[id.node()].run;
            self.cx.after(30, Event::Cut { node: id.node(), run });
        }
        self.ask(id.node(), command)
    }

    /// The power goes while a side agrees.
    pub(crate) fn cut_agreement(&mut self, node: usize, run: u64) -> Result<(), Broken> {
        if self.nodes[node].run != run || !self.nodes[node].up {
            return Ok(());
        }
        self.cx.report.agreements_cut += 1;
        self.power_cut(node)
    }

    fn goes_on(&mut self, id: SideId, connection: u64, done: bool) {
        let Some(session) = self.session(id, connection) else { return };
        session.noting = false;
        if done {
            self.cx.at(self.cx.now, Event::Pump { side: id, connection });
        } else {
            self.closed(id, connection);
        }
    }

    pub(crate) fn sent(&mut self, id: SideId, connection: u64, counter: u64, done: bool) -> Result<(), Broken> {
        if done {
            let side = self.side(id);
            side.sent = side.sent.max(counter);
        }
        self.goes_on(id, connection, done);
        Ok(())
    }

    /// Notes what comes back, and what of the other side's entries ranks below what is here of them.
    pub(crate) fn look_over(&mut self, id: SideId, entries: &[Rc<Entry>]) {
        let sends_back = self.bug_free(KvBug::NothingSentBack);
        let side = &mut self.sides[id.doc][id.author.index()];
        let Some(session) = &mut side.session else { return };
        if let Some(returned) = &mut session.returned {
            let back = entries.iter().filter(|entry| entry.author == id.author);
            back.for_each(|entry| returned.add(entry.key, entry.counter, entry.hash()));
        }
        let stored = &self.nodes[id.node()].disk.documents[id.doc];
        let loses = |entry: &&Rc<Entry>| {
            let winner = side.view.winner(&entry.envelope.space, &entry.envelope.key);
            let wins = winner.is_some_and(|winner| (winner.stamp, winner.author) >= entry.rank());
            wins && stored.entries.get(&entry.place()).is_some_and(|here| here.own_rank() > entry.own_rank())
        };
        let losing = entries.iter().filter(|entry| entry.author != id.author).filter(loses);
        let losing: Vec<_> = losing.map(|entry| entry.place()).collect();
        if sends_back {
            self.cx.report.sent_back += losing.len() as u64;
            session.sync.send_back(losing);
        }
    }

    /// What is to be stored of entries that came: of this side's own those that rank above what is here.
    pub(crate) fn take_back(
        &mut self,
        batch: &mut Batch,
        id: SideId,
        entries: Vec<Rc<Entry>>,
    ) -> Result<Vec<Rc<Entry>>, Broken> {
        if !entries.iter().any(|entry| entry.author == id.author) {
            return Ok(entries);
        }
        let by_counter = self.cx.has(KvBug::RestoredByCounter);
        let mut here: BTreeMap<[u8; 32], Rc<Entry>> = BTreeMap::new();
        let mut taken = Vec::with_capacity(entries.len());
        for mut entry in entries {
            if entry.author == id.author {
                let stored = &self.nodes[id.node()].disk.documents[id.doc];
                let stands = here.get(&entry.key).or_else(|| stored.entries.get(&entry.place())).cloned();
                let rank = |entry: &Rc<Entry>| {
                    let (stamp, change, timestamp) = entry.own_rank();
                    ((stamp, change.clone(), timestamp), entry.counter)
                };
                let back = match &stands {
                    Some(stands) if by_counter && stands.counter >= entry.counter => Back::Known,
                    Some(_) if by_counter => Back::Kept,
                    stands => restored::returned(stands.as_ref().map(rank), rank(&entry)),
                };
                match back {
                    Back::Known => {
                        self.cx.report.came_back_older +=
                            u64::from(stands.is_some_and(|stands| stands.own_rank() > entry.own_rank()));
                        continue;
                    }
                    Back::Kept => {}
                    Back::Anew => entry = self.sign_anew(batch, id, &entry)?,
                }
                self.cx.report.taken_back += 1;
                here.insert(entry.key, entry.clone());
            }
            taken.push(entry);
        }
        Ok(taken)
    }

    fn sign_anew(&mut self, batch: &mut Batch, id: SideId, entry: &Entry) -> Result<Rc<Entry>, Broken> {
        let stores_bound = self.bug_free(KvBug::CounterForgotten);
        let counter = next_counter(&mut batch.rows, self.side(id), stores_bound).ok_or_else(used_up)?;
        Self::staged(batch, id).heads.raise(id.author, counter);
        self.cx.report.signed_anew += 1;
        self.cx.note(|| format!("{id:?} signs {} anew as {counter}", entry.counter));
        Ok(Rc::new(Entry { counter, ..entry.clone() }))
    }

    /// Signs anew what the other side may lack. Returns up to where that goes.
    pub(crate) fn stage_agree(
        &mut self,
        batch: &mut Batch,
        id: SideId,
        upto: u64,
        returned: &Returned,
    ) -> Result<u64, Broken> {
        let lacks = |entry: &&Rc<Entry>| returned.lacks(upto, &entry.key, entry.counter, &entry.hash());
        // It may be of another return, whose gap was longer.
        let random = self.cx.rng.next();
        let next = self.sides[id.doc][id.author.index()].counter.reserve(0);
        if upto >= next {
            self.side(id).counter = AuthorCounter::restore(restored::after_gap(next, upto, random));
        }
        let stored = &self.nodes[id.node()].disk.documents[id.doc];
        let signs = !self.cx.has(KvBug::NothingSignedAnew);
        let lacking: Vec<_> = stored.after(id.author, 0, upto).filter(lacks).filter(|_| signs).cloned().collect();
        for entry in lacking {
            let anew = self.sign_anew(batch, id, &entry)?;
            batch.rows.push((id.doc, Row::Entry(anew.clone())));
            Self::staged(batch, id).entries.push(anew);
        }
        let side = self.side(id);
        let head = Self::staged(batch, id).heads.of(id.author).max(side.heads.of(id.author));
        batch.rows.push((id.doc, Row::Restored(0)));
        batch.rows.push((id.doc, Row::Sent(side.sent.max(upto))));
        Ok(head)
    }

    /// What was signed anew is durable.
    pub(crate) fn agreed(
        &mut self,
        id: SideId,
        connection: u64,
        upto: u64,
        head: u64,
        done: bool,
    ) -> Result<(), Broken> {
        if done {
            self.cx.report.agreed += 1;
            self.cx.note(|| format!("{id:?} has agreed up to {upto}, and goes on from {head}"));
            let disk_of = |id: SideId| -> &Stored { &self.nodes[id.node()].disk.documents[id.doc] };
            let limit = self.nodes[id.node()].limit;
            self.truth.check_agreed(id, [disk_of(id), disk_of(id.other())], upto, limit)?;
            let early = self.cx.has(KvBug::DeliveredBeforeAgreed);
            let side = self.side(id);
            (side.sent, side.agrees) = (side.sent.max(upto), false);
            if !early {
                side.delivered.agreed = head;
            }
            if let Some(session) = self.session(id, connection) {
                session.sync.agreed();
            }
        }
        self.goes_on(id, connection, done);
        Ok(())
    }
}
