//! The keeper of a node: it stages what is asked, makes it durable, shows it, and answers.

use std::rc::Rc;

use groundswell_core::kv::restored::after_gap;
use groundswell_core::kv::{Applied, AuthorCounter, Change, Envelope, KvAuthor, KvKey, SpaceName, document_key};

use super::{
    KvBug,
    context::{Event, SideId},
    disk::{Entry, Outcome, Row, Rows},
    side::{Answer, Batch, Command, Side, Staged},
    world::World,
};
use crate::checkers::{Broken, Law};

/// How many counters are reserved at a time.
const BLOCK: u64 = 8;

impl World {
    /// Asks the keeper of a node for something.
    pub(crate) fn ask(&mut self, node: usize, command: Command) -> Result<(), Broken> {
        if self.nodes[node].up {
            self.nodes[node].queue.push_back(command);
            self.stage(node)?;
        }
        Ok(())
    }

    /// Stages what is waiting, up to a bound, if nothing is being flushed.
    fn stage(&mut self, node: usize) -> Result<(), Broken> {
        if self.nodes[node].batch.is_some() || self.nodes[node].queue.is_empty() {
            return Ok(());
        }
        let most = if self.bulk { 3_000 } else { 1 + self.cx.rng.index(5) };
        let mut batch = Batch::default();
        for _ in 0..most {
            let Some(command) = self.nodes[node].queue.pop_front() else { break };
            // What is here is read from storage.
            let begins = batch.rows.is_empty() && batch.answers.is_empty();
            if !begins && reads_storage(&command) {
                self.nodes[node].queue.push_front(command);
                break;
            }
            match command {
                Command::Write { side, space, key, change } => {
                    self.stage_write(&mut batch, side, space, key, change)?
                }
                Command::Take { side, connection, entries, upto } => {
                    let entries = self.take_back(&mut batch, side, entries)?;
                    self.stage_take(&mut batch, side, entries, upto);
                    batch.answers.push(Answer::Take { side, connection });
                }
                Command::Missing { side, places } => {
                    batch.rows.extend(places.iter().map(|(place, counter)| (side.doc, Row::Missing(*place, *counter))));
                    let places = places.into_iter().map(|(place, _)| place).collect();
                    batch.answers.push(Answer::Missing { side, places });
                }
                Command::Sent { side, connection, counter } => {
                    if self.bug_free(KvBug::SentNotNoted) {
                        batch.rows.push((side.doc, Row::Sent(counter)));
                    }
                    batch.answers.push(Answer::Sent { side, connection, counter });
                }
                Command::WentBack { side, connection, held_there, hello } => {
                    let from = self.stage_went_back(&mut batch, side, held_there);
                    batch.answers.push(Answer::WentBack { side, connection, from, hello });
                    break;
                }
                Command::Agree { side, connection, upto, returned } => {
                    let head = self.stage_agree(&mut batch, side, upto, &returned)?;
                    batch.answers.push(Answer::Agreed { side, connection, upto, head });
                    break;
                }
            }
        }
        for (id, staged) in &batch.staged {
            let side = &self.sides[id.doc][id.author.index()];
            let heads = side.heads;
            let own = staged.heads.of(id.author);
            if own > heads.of(id.author) && side.session.is_some() && !side.agrees {
                batch.sent.push((*id, own));
                if self.bug_free(KvBug::SentNotNoted) {
                    batch.rows.push((id.doc, Row::Sent(own)));
                }
            }
            for author in KvAuthor::BOTH {
                if staged.heads.of(author) > heads.of(author) {
                    batch.rows.push((id.doc, Row::Held(author, staged.heads.of(author))));
                }
            }
        }
        if self.cx.has(KvBug::ShowBeforeDurable) {
            self.show(&batch)?;
        }
        let rows = batch.rows.clone();
        let one = &mut self.nodes[node];
        one.disk.write(rows);
        one.batch = Some(batch);
        let run = one.run;
        let most = if self.cx.rng.chance(10) { 500 } else { 20 };
        self.cx.after(most, Event::Flushed { node, run });
        Ok(())
    }

    pub(crate) fn staged(batch: &mut Batch, id: SideId) -> &mut Staged {
        batch.staged.entry(id).or_default()
    }

    fn stage_write(
        &mut self,
        batch: &mut Batch,
        id: SideId,
        space: SpaceName,
        key: KvKey,
        change: Change,
    ) -> Result<(), Broken> {
        let wall = self.wall(id.node());
        let place = document_key(&space, &key);
        let stores_bound = self.bug_free(KvBug::CounterForgotten);
        let staged = Self::staged(batch, id);
        let side = &mut self.sides[id.doc][id.author.index()];
        let winner = side.view.winner(&space, &key);
        let before = staged.live.get(&place).copied();
        let live = before.map_or(winner.is_some_and(|winner| !winner.deleted), |(_, live)| live);
        if change == Change::Delete && !live {
            return Ok(());
        }
        let stamp = side.clock.now(wall).or_else(|| {
            let bound = side.clock.reserve(wall);
            batch.rows.push((id.doc, Row::Clock(bound)));
            side.clock.reserved(bound);
            side.clock.now(wall)
        });
        let counter = next_counter(&mut batch.rows, side, stores_bound);
        let (Some(stamp), Some(counter)) = (stamp, counter) else {
            return Err(used_up());
        };
        let known = before.map(|(rank, _)| rank).max(winner.map(|winner| (winner.stamp, winner.author)));
        if known.is_some_and(|known| known >= (stamp, id.author)) {
            return Err(
                Law::Kept.broken(format!("a write of {key} with {stamp} does not win over what its writer knew"))
            );
        }
        let timestamp = self.cx.number();
        let is_put = change != Change::Delete;
        let envelope = Envelope { space, key, stamp, timestamp, change };
        let entry = Rc::new(Entry { author: id.author, counter, key: place, envelope });
        self.cx.note(|| format!("{id:?} stages {counter} {stamp} of {}", entry.envelope.key));
        batch.rows.push((id.doc, Row::Entry(entry.clone())));
        let staged = Self::staged(batch, id);
        staged.live.insert(place, (entry.rank(), is_put));
        staged.heads.raise(id.author, counter);
        staged.entries.push(entry.clone());
        if self.cx.has(KvBug::HeadBeforeDurable) {
            self.sides[id.doc][id.author.index()].heads.raise(id.author, counter);
        }
        if self.cx.has(KvBug::AnswerBeforeDurable) {
            self.truth.answered(id, &entry, &self.nodes[id.node()].disk)?;
        }
        batch.answers.push(Answer::Write { side: id, entry });
        Ok(())
    }

    pub(crate) fn bug_free(&self, bug: KvBug) -> bool {
        !self.cx.has(bug)
    }

    fn stage_take(&mut self, batch: &mut Batch, id: SideId, entries: Vec<Rc<Entry>>, upto: Option<(KvAuthor, u64)>) {
        let observes = self.bug_free(KvBug::ClockDoesNotObserve);
        let random = self.cx.rng.next();
        for entry in entries {
            let disk = &self.nodes[id.node()].disk.documents[id.doc];
            let is_new = disk.counter(&entry.place()).is_none_or(|counter| counter < entry.counter);
            let side = &mut self.sides[id.doc][id.author.index()];
            if observes {
                side.clock.observe(entry.envelope.stamp);
            }
            if entry.author == id.author && entry.counter >= side.counter.reserve(0) {
                // More of them may be on their way.
                let after = if side.agrees { after_gap(entry.counter, 0, random) } else { entry.counter + 1 };
                side.counter = AuthorCounter::restore(after);
            }
            if is_new && entry.author != id.author && self.damages && !self.calm && self.cx.rng.chance(3) {
                self.cx.report.went_missing += 1;
                self.cx.note(|| format!("{id:?} drops {} of {}", entry.counter, entry.envelope.key));
                self.truth.damaged(id, entry.place(), entry.counter);
                continue;
            }
            let winner = side.view.winner(&entry.envelope.space, &entry.envelope.key);
            let staged = Self::staged(batch, id);
            let stands = staged.live.get(&entry.key).map(|(rank, _)| *rank);
            let stands = stands.max(winner.map(|winner| (winner.stamp, winner.author)));
            if stands.is_none_or(|stands| stands < entry.rank()) {
                staged.live.insert(entry.key, (entry.rank(), !entry.is_delete()));
            }
            staged.entries.push(entry.clone());
            batch.rows.push((id.doc, Row::Entry(entry)));
        }
        if let Some((author, mut counter)) = upto {
            if author == id.author {
                counter = counter.min(self.side(id).counter.reserve(0) - 1);
            }
            Self::staged(batch, id).heads.raise(author, counter);
        }
    }

    /// The disk has an answer.
    pub(crate) fn flushed(&mut self, node: usize, run: u64) -> Result<(), Broken> {
        if !self.nodes[node].up || self.nodes[node].run != run {
            return Ok(());
        }
        let one = &mut self.nodes[node];
        let Some(batch) = one.batch.take() else { return Ok(()) };
        let outcome = match &mut one.fails {
            Some((outcome, left)) => {
                let outcome = *outcome;
                *left -= 1;
                if *left == 0 {
                    one.fails = None;
                }
                outcome
            }
            None => Outcome::Done,
        };
        one.disk.flushed(outcome, self.cx.bug());
        match outcome {
            Outcome::Done => self.cx.report.flushes += 1,
            Outcome::NotDone => self.cx.report.failed_flushes += 1,
            Outcome::Unknown => self.cx.report.unknown_flushes += 1,
        }
        self.cx.note(|| format!("node {node}: a flush is {outcome:?}"));
        if outcome == Outcome::Done {
            self.truth.register_rows(node, &batch.rows)?;
            self.truth.check_stored(node, &batch.rows, &self.nodes[node].disk)?;
            self.truth.settled(&self.sides_of(node));
        }
        let shows = outcome == Outcome::Done || self.cx.has(KvBug::ShowAfterFailure);
        if shows && self.bug_free(KvBug::ShowBeforeDurable) {
            self.show(&batch)?;
        }
        for (id, upto) in batch.sent.iter().filter(|_| shows) {
            let side = self.side(*id);
            side.sent = side.sent.max(*upto);
        }
        let heads: Vec<_> = batch.staged.iter().map(|(id, staged)| (*id, staged.heads)).collect();
        let raise = |world: &mut Self| {
            for (id, heads) in heads.iter().filter(|_| shows) {
                for author in KvAuthor::BOTH {
                    world.side(*id).heads.raise(author, heads.of(author));
                }
            }
        };
        if self.cx.has(KvBug::EchoReceived) {
            raise(self);
            self.pump_all(node)?;
        }
        for answer in batch.answers {
            self.answer(answer, outcome)?;
        }
        raise(self);
        self.pump_all(node)?;
        self.stage(node)
    }

    fn answer(&mut self, answer: Answer, outcome: Outcome) -> Result<(), Broken> {
        let done = outcome == Outcome::Done;
        match answer {
            Answer::Write { side, entry } => {
                let as_done = outcome == Outcome::Unknown && self.cx.has(KvBug::UnknownIsDone);
                if done || as_done {
                    self.cx.report.writes += u64::from(!entry.is_delete());
                    self.cx.report.deletes += u64::from(entry.is_delete());
                    self.truth.answered(side, &entry, &self.nodes[side.node()].disk)?;
                } else {
                    self.cx.report.failed_writes += u64::from(outcome == Outcome::NotDone);
                    self.cx.report.unknown_writes += u64::from(outcome == Outcome::Unknown);
                    self.truth.failed(side, &entry, outcome == Outcome::Unknown);
                }
            }
            Answer::Take { side, connection } => {
                let goes_on = done || self.cx.has(KvBug::AnswerAfterFailure);
                self.cx.report.failed_takes += u64::from(!done);
                self.committed(side, connection, goes_on)?;
            }
            Answer::Missing { side, places } => {
                if done {
                    let told = self.bug_free(KvBug::FoundMissingUntold);
                    let side = self.side(side);
                    side.missing |= told;
                    side.unasked.extend(places);
                }
            }
            Answer::Sent { side, connection, counter } => self.sent(side, connection, counter, done)?,
            Answer::WentBack { side, connection, from, hello } => {
                self.went_back(side, connection, from.filter(|_| done), done, hello)?;
            }
            Answer::Agreed { side, connection, upto, head } => self.agreed(side, connection, upto, head, done)?,
        }
        Ok(())
    }

    /// Shows what is durable to those who read.
    fn show(&mut self, batch: &Batch) -> Result<(), Broken> {
        for (id, staged) in &batch.staged {
            for entry in &staged.entries {
                let stored = &self.nodes[id.node()].disk.documents[id.doc];
                let held = stored.entries.get(&entry.place());
                if held.is_none_or(|held| held.own_rank() < entry.own_rank()) {
                    let key = &entry.envelope.key;
                    return Err(Law::PersistBeforeTransmit.broken(format!("{key} is shown and not durable: {id:?}")));
                }
                let side = &mut self.sides[id.doc][id.author.index()];
                let before = side.view.winner(&entry.envelope.space, &entry.envelope.key);
                let applied = side.view.apply(entry.author, entry.envelope.clone());
                let applied = applied.map_err(|error| Law::Protocol.broken(error.to_string()))?;
                if let Applied::Won { previous, aeon } = applied {
                    let gone = before.filter(|before| before.deleted && entry.is_delete());
                    if gone.is_some_and(|before| before.aeon != aeon) {
                        return Err(
                            Law::Reading.broken(format!("{id:?}: a key that is deleted twice is an event twice"))
                        );
                    }
                    side.left_out.replaced(&entry.key);
                    self.wake(*id, entry, previous);
                }
            }
            self.tell_left_out(*id)?;
        }
        Ok(())
    }

    fn pump_all(&mut self, node: usize) -> Result<(), Broken> {
        for id in self.sides_of(node) {
            if let Some(connection) = self.side(id).session.as_ref().map(|session| session.connection) {
                self.pump(id, connection)?;
            }
        }
        Ok(())
    }

    /// What was left out counts in what is said to be delivered.
    pub(crate) fn tell_left_out(&mut self, id: SideId) -> Result<(), Broken> {
        let side = self.side(id);
        side.delivered.left_out = side.left_out.lowest();
        self.check_delivered(id)
    }

    /// That the other side has what counts as delivered.
    pub(crate) fn check_delivered(&mut self, id: SideId) -> Result<(), Broken> {
        let Some(upto) = self.side(id).delivered.whole_upto(id.doc as u64) else { return Ok(()) };
        let disk = &self.nodes[id.other().node()].disk;
        self.truth.check_delivered(id, disk, upto)
    }

    /// That what once counted as delivered is still there.
    pub(crate) fn check_all_delivered(&mut self) -> Result<(), Broken> {
        let ids: Vec<SideId> = self.sides.iter().flatten().map(|side| side.id).collect();
        for id in ids {
            self.truth.recheck_delivered(id, &self.nodes[id.other().node()].disk)?;
        }
        Ok(())
    }
}

/// Whether a command has to see what was staged before it on disk.
fn reads_storage(command: &Command) -> bool {
    match command {
        Command::Take { side, entries, .. } => entries.iter().any(|entry| entry.author == side.author),
        Command::WentBack { .. } | Command::Agree { .. } => true,
        _ => false,
    }
}

/// The next counter. A bound that is used up goes on with it.
pub(crate) fn next_counter(rows: &mut Rows, side: &mut Side, stores_bound: bool) -> Option<u64> {
    side.counter.next().or_else(|| {
        let bound = side.counter.reserve(BLOCK);
        if stores_bound {
            rows.push((side.id.doc, Row::Bound(bound)));
        }
        side.counter.reserved(bound);
        side.counter.next()
    })
}

pub(crate) fn used_up() -> Broken {
    Law::Once.broken("the stamps or counters are used up")
}
