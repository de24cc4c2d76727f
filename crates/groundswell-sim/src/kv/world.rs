//! One world of keys: a manager, its machines, and everything that goes wrong between them.

use std::collections::BTreeMap;

use groundswell_core::kv::{KvAuthor, SpaceName};

use super::{
    KvOptions, KvReport,
    context::{Context, Event, SideId},
    link::Connection,
    readers::Reader,
    reconcile::Reconciling,
    session::USUAL_LIMIT,
    side::{Node, Side},
    truth::Truth,
};
use crate::{
    checkers::{Broken, Law},
    rng::Rng,
};

/// More events than any world needs that comes to rest.
const MANY_EVENTS: u64 = 200_000;

pub(crate) struct World {
    pub(crate) cx: Context,
    pub(crate) truth: Truth,
    /// The manager first.
    pub(crate) nodes: Vec<Node>,
    /// Of each document the machine's and the manager's.
    pub(crate) sides: Vec<[Side; 2]>,
    pub(crate) connections: BTreeMap<u64, Connection>,
    pub(crate) reconciling: BTreeMap<u64, Reconciling>,
    pub(crate) last_reconciliations: BTreeMap<u64, u64>,
    pub(crate) spaces: Vec<SpaceName>,
    /// No connection of a document is made before.
    pub(crate) down_until: Vec<u64>,
    /// How many keys are written.
    pub(crate) keys: u64,
    pub(crate) manager_is_low: bool,
    /// Single values go missing.
    pub(crate) damages: bool,
    /// There are so many keys that not all can be wanted at once.
    pub(crate) bulk: bool,
    /// A reconciliation notes no more than a session can ask for at a time.
    pub(crate) bounded: bool,
    /// Values differ in size, and so do limits.
    pub(crate) sizes: bool,
    /// Sides go back to backups.
    pub(crate) restores: bool,
    /// How many actions are left before the faults stop.
    pub(crate) actions: u64,
    /// The faults have stopped.
    pub(crate) calm: bool,
}

/// Limits of values, the least first.
pub(crate) const LIMITS: [usize; 3] = [USUAL_LIMIT, 64, 200];

pub(crate) fn any_wall(rng: &mut Rng) -> u64 {
    match rng.index(5) {
        0 => 0,
        1 => u64::MAX,
        2 => rng.within(0..=1 << 50),
        _ => 1_700_000_000_000 + rng.within(0..=20_000),
    }
}

impl World {
    pub(crate) fn new(seed: u64, options: &KvOptions) -> Self {
        let mut cx = Context::new(Rng::new(seed), options.bug, options.trace);
        let rng = &mut cx.rng;
        let bulk = rng.chance(2);
        let documents = if bulk { 1 } else { 1 + rng.index(3) };
        let restores = !bulk && rng.chance(25);
        let sizes = !bulk && !restores && rng.chance(50);
        let damages = bulk || !restores && rng.chance(50);
        let mut spaces = vec![SpaceName::default()];
        spaces.extend(SpaceName::new("second").ok().filter(|_| rng.chance(40)));
        let mut truth = Truth::new(documents);
        let nodes: Vec<Node> = (0..=documents)
            .map(|_| {
                let limit = if sizes { LIMITS[rng.index(LIMITS.len())] } else { LIMITS[2] };
                Node::new(documents, limit, any_wall(rng))
            })
            .collect();
        let mut sides = Vec::new();
        for doc in 0..documents {
            sides.push(KvAuthor::BOTH.map(|author| {
                let id = SideId { doc, author };
                truth.limited(id, nodes[id.node()].limit);
                let readers = (0..1 + rng.index(3)).map(|_| Reader::any(rng, &spaces)).collect();
                Side::new(id, readers)
            }));
        }
        Self {
            truth,
            nodes,
            sides,
            connections: BTreeMap::new(),
            reconciling: BTreeMap::new(),
            last_reconciliations: BTreeMap::new(),
            spaces,
            down_until: vec![0; documents],
            keys: 1 + rng.within(1..=6),
            manager_is_low: rng.chance(50),
            damages,
            bulk,
            bounded: rng.chance(50),
            sizes,
            restores,
            actions: if bulk { 40 } else { rng.within(30..=120) },
            calm: false,
            cx,
        }
    }

    /// Lets the world run to its end.
    pub(crate) fn run(mut self) -> (Result<KvReport, Broken>, u64, Vec<String>) {
        let result = self.run_to_end();
        let (report, now) = (self.cx.report.clone(), self.cx.now);
        (result.map(|()| report), now, self.cx.into_trace())
    }

    fn run_to_end(&mut self) -> Result<(), Broken> {
        for node in 0..self.nodes.len() {
            self.cx.after(1_000, Event::NodeUp { node });
        }
        self.cx.after(500, Event::Act);
        while let Some(event) = self.cx.next_event() {
            self.happens(event)?;
            if self.cx.report.events > MANY_EVENTS {
                return Err(Law::Rest.broken("the world does not come to rest"));
            }
        }
        self.cx.report.found_again = self.truth.came_back();
        for doc in 0..self.sides.len() {
            self.check_end(doc)?;
        }
        Ok(())
    }

    fn happens(&mut self, event: Event) -> Result<(), Broken> {
        match event {
            Event::Act => self.act(),
            Event::Arrive { side, connection } => self.receive(side, connection),
            Event::Closed { side, connection } => {
                self.closed(side, connection);
                Ok(())
            }
            Event::Dial { side } => {
                self.dial(side);
                Ok(())
            }
            Event::NodeUp { node } => self.start(node),
            Event::Stop { node, run } => self.stop(node, run),
            Event::Flushed { node, run } => self.flushed(node, run),
            Event::Pump { side, connection } => self.pump(side, connection),
            Event::ReadDone { side, connection } => self.read_done(side, connection),
            Event::Read { side, run, reader } => self.read(side, run, reader),
            Event::Reconcile { doc, connection } => {
                self.reconcile(doc, connection);
                Ok(())
            }
            Event::Cut { node, run } => self.cut_agreement(node, run),
            Event::Reconciled { number } => self.reconciled(number),
        }
    }

    /// After the faults: both sides have a session, know where they stand, and show the same.
    fn check_end(&mut self, doc: usize) -> Result<(), Broken> {
        for author in KvAuthor::BOTH {
            let id = SideId { doc, author };
            let (limit, takes) = (self.nodes[id.node()].limit, self.nodes[id.other().node()].limit);
            let side = &self.sides[doc][author.index()];
            let broken = |what: String| Law::Convergence.broken(format!("at the end, {id:?}: {what}"));
            if side.session.is_none() || !side.current {
                return Err(broken(format!("no session, or not current: {:?}", side.session.is_some())));
            }
            if side.agrees {
                return Err(Law::Restored.broken(format!("{id:?} went back, and has not agreed")));
            }
            self.check_readers(id)?;
            let stored = &self.nodes[id.node()].disk.documents[doc];
            let takes_all = |place: &_| !self.truth.is_large(doc, place, limit);
            let is_there =
                |(place, counter): &(&_, &u64)| takes_all(place) && self.truth.has_since(doc, place, **counter);
            if let Some((place, _)) = stored.missing.iter().find(is_there) {
                return Err(Law::Wants.broken(format!("{id:?} is still missing {place:?}")));
            }
            if let Some(place) = self.truth.lacks(id).find(|place| takes_all(place)) {
                return Err(Law::Wants.broken(format!("{id:?} never got back {place:?}")));
            }
            let mut live = 0;
            for winner in self.truth.winners(doc) {
                // An author's value that is too large leaves an older one, or the other author's.
                let is_large = winner.value_bytes() > limit.min(takes);
                if is_large || KvAuthor::BOTH.iter().any(|author| !takes_all(&(*author, winner.key))) {
                    continue;
                }
                let envelope = &winner.envelope;
                let shown = side.view.winner(&envelope.space, &envelope.key);
                if shown.map(|shown| (shown.stamp, shown.author)) != Some(winner.rank()) {
                    return Err(broken(format!("{shown:?} is shown, and the winner is {winner:?}")));
                }
                let entry = side.view.get(&envelope.space, &envelope.key).map(|entry| entry.timestamp);
                let kept = KvAuthor::BOTH.iter().filter_map(|author| stored.entries.get(&(*author, winner.key)));
                let best = kept.max_by_key(|entry| entry.full_rank());
                let same = entry.is_none_or(|timestamp| timestamp == envelope.timestamp);
                if !same || entry.is_none() != winner.is_delete() || best.is_none_or(|best| best.envelope != *envelope)
                {
                    return Err(broken(format!("{entry:?} is shown, {best:?} stored, and the winner is {winner:?}")));
                }
                live += usize::from(!winner.is_delete());
            }
            if !self.sizes && side.view.keys_live() != live {
                return Err(broken(format!("{} keys are shown, and {live} have a value", side.view.keys_live())));
            }
            // One of its own that it has taken back singly is beyond that until its next start.
            let head = self.truth.head(id).min(side.heads.of(author));
            let is_whole = self.truth.newest(id).all(|place| !self.truth.is_large(doc, &place, takes));
            if is_whole && side.delivered.whole_upto(doc as u64).is_none_or(|upto| upto < head) {
                let what = format!("{:?} is delivered of {head}, and nothing is too large", side.delivered);
                return Err(Law::Delivery.broken(format!("{id:?}: {what}")));
            }
        }
        Ok(())
    }
}
