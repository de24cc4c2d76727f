//! One world of pairs: two managers and their machines, the connections between them, people, and everything that goes wrong.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use groundswell_core::kv::{
    KvAuthor,
    pairs::{Answer, answer},
};

use super::{
    PairBug, PairOptions, PairReport,
    link::{At, Connection, Message},
    node::{Came, Change, Node, id_of},
};
use crate::{
    checkers::{Broken, Law},
    queue::Queue,
    rng::Rng,
};

pub(super) const MANAGERS: usize = 2;

/// How long the world has after the faults, and after each round in which people mend what a restored backup has parted.
pub(super) const CALM: u64 = 60_000;

/// More events than any world needs.
const MANY_EVENTS: u64 = 100_000;

#[derive(Debug, Clone, Copy)]
pub(super) enum Event {
    /// A person does something, or something fails.
    Act,
    Up {
        node: usize,
    },
    /// A node dials those that it shares a document with, and those that it has to tell something.
    Dial {
        node: usize,
        run: u64,
        /// It does so from time to time.
        again: bool,
    },
    Arrive {
        connection: u64,
        side: usize,
    },
    Flushed {
        node: usize,
        run: u64,
    },
    /// The faults have stopped, and everybody has had time.
    Settled {
        round: u64,
    },
}

pub(crate) struct World {
    pub(super) now: u64,
    rng: Rng,
    pub(super) queue: Queue<Event>,
    pub(super) report: PairReport,
    bug: Option<PairBug>,
    trace: Option<Vec<String>>,
    pub(super) nodes: Vec<Node>,
    pub(super) connections: BTreeMap<u64, Connection>,
    numbers: u64,
    actions: u64,
    calm: bool,
    /// Which of the two sides reaches nobody by dialling, if one does not.
    pub(super) silent: Option<KvAuthor>,
    truth: Truth,
}

/// What was ever durable.
#[derive(Default)]
struct Truth {
    /// Which node has given up which document.
    given_up: BTreeSet<(usize, u64)>,
    /// Which machine has stored a claim of which manager, with which document.
    claimed: BTreeSet<(usize, usize, u64)>,
    /// Which manager had a document.
    managers: BTreeMap<u64, usize>,
}

impl World {
    pub(crate) fn new(seed: u64, options: &PairOptions) -> Self {
        let mut rng = Rng::new(seed);
        let machines = 1 + rng.index(3);
        let managers = (0..MANAGERS).map(|_| Node::new(KvAuthor::Manager, None));
        let nodes = managers.chain((0..machines).map(|n| Node::new(KvAuthor::Machine, Some(n as u64)))).collect();
        Self {
            now: 0,
            actions: rng.within(20..=120),
            silent: [None, Some(KvAuthor::Machine), Some(KvAuthor::Manager)][rng.index(3)],
            rng,
            queue: Queue::default(),
            report: PairReport::default(),
            bug: options.bug,
            trace: options.trace.then(Vec::new),
            nodes,
            connections: BTreeMap::new(),
            numbers: machines as u64,
            calm: false,
            truth: Truth::default(),
        }
    }

    /// Lets the world run to its end.
    pub(crate) fn run(mut self) -> (Result<PairReport, Broken>, u64, Vec<String>) {
        let result = self.run_to_end();
        (result.map(|()| self.report), self.now, self.trace.unwrap_or_default())
    }

    fn run_to_end(&mut self) -> Result<(), Broken> {
        self.queue.push(0, Event::Act);
        for node in 0..self.nodes.len() {
            self.start(node);
        }
        while let Some((at, event)) = self.queue.pop() {
            self.now = at;
            self.report.events += 1;
            if self.report.events > MANY_EVENTS {
                return Err(Law::Rest.broken("the world does not come to rest"));
            }
            match event {
                Event::Act => self.act(),
                Event::Up { node } => {
                    if !self.nodes[node].up {
                        self.start(node);
                    }
                }
                Event::Dial { node, run, again } => self.dial(node, run, again),
                Event::Arrive { connection, side } => self.arrive(connection, side)?,
                Event::Flushed { node, run } => self.flushed(node, run)?,
                Event::Settled { round } => {
                    if self.settled(round)? {
                        return Ok(());
                    }
                }
            }
        }
        Err(Law::Rest.broken("the world ends before it was looked at"))
    }

    fn has(&self, bug: PairBug) -> bool {
        self.bug == Some(bug)
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>9} {}", self.now, what()));
        }
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn after(&mut self, most: u64, event: Event) {
        let at = self.now + self.rng.within(1..=most);
        self.queue.push(at, event);
    }

    fn start(&mut self, node: usize) {
        let one = &mut self.nodes[node];
        one.up = true;
        one.run += 1;
        let goes_on = self.bug != Some(PairBug::UntoldAfterStart);
        let untold = one.disk.former.untold().filter_map(|row| Some((row.number, row.standing.former()?.0)));
        one.telling = untold.filter(|_| goes_on).collect();
        let run = one.run;
        self.note(|| format!("node {node} starts"));
        self.after(500, Event::Dial { node, run, again: true });
    }

    fn kill(&mut self, node: usize) {
        if !self.nodes[node].up {
            return;
        }
        self.note(|| format!("node {node} is killed"));
        let one = &mut self.nodes[node];
        one.up = false;
        self.report.kills += 1;
        self.report.undone += u64::from(!one.queue.is_empty());
        one.queue.clear();
        self.cut(|_, connection| connection.nodes.contains(&node));
        self.after(4_000, Event::Up { node });
    }

    /// Breaks connections, with what is on its way.
    fn cut(&mut self, which: impl Fn(u64, &Connection) -> bool) {
        let cut: Vec<u64> = self.connections.iter().filter(|(id, one)| which(**id, one)).map(|(id, _)| *id).collect();
        for id in cut {
            let Some(connection) = self.connections.remove(&id) else { continue };
            self.report.cuts += 1;
            for side in [0, 1] {
                if let At::Exchange(number) = connection.at[side]
                    && self.has(PairBug::ToldByBreak)
                    && self.nodes[connection.nodes[side]].up
                {
                    self.change(connection.nodes[side], Change::Told { peer: connection.nodes[1 - side], number });
                }
            }
        }
    }

    /// Something happens that nobody has asked for, or a person does something.
    fn act(&mut self) {
        if self.actions == 0 {
            self.calm = true;
            self.note(|| "the faults stop".to_owned());
            for node in 0..self.nodes.len() {
                if !self.nodes[node].up {
                    self.start(node);
                }
            }
            self.queue.push(self.now + CALM, Event::Settled { round: 0 });
            return;
        }
        self.actions -= 1;
        let machine = MANAGERS + self.rng.index(self.nodes.len() - MANAGERS);
        let manager = self.rng.index(MANAGERS);
        let any = self.rng.index(self.nodes.len());
        match self.rng.index(20) {
            0..=7 => self.claim(manager, machine),
            8..=9 => self.release(machine),
            10..=11 => self.release_of(manager, machine),
            12..=13 => self.kill(any),
            14..=15 => {
                let connections: Vec<u64> = self.connections.keys().copied().collect();
                if !connections.is_empty() {
                    let cut = connections[self.rng.index(connections.len())];
                    let nodes = self.connections[&cut].nodes;
                    self.note(|| format!("a connection of {nodes:?} breaks"));
                    self.cut(|id, _| id == cut);
                }
            }
            16..=17 => {
                let known = self.nodes[any].disk.clone();
                self.nodes[any].backups.push(known);
            }
            18 if !self.nodes[any].backups.is_empty() => {
                self.kill(any);
                let count = self.nodes[any].backups.len();
                let which = self.rng.index(count);
                self.note(|| format!("node {any} goes back to backup {which}"));
                self.report.restores += 1;
                let one = &mut self.nodes[any];
                one.disk = one.backups[which].clone();
                one.restored = true;
            }
            _ => {}
        }
        self.after(1_500, Event::Act);
    }

    fn release(&mut self, machine: usize) {
        if let Some(manager) = self.nodes[machine].disk.own.and_then(|own| own.standing.peer()) {
            self.ask_release(machine, manager);
        }
    }

    fn release_of(&mut self, manager: usize, machine: usize) {
        if self.nodes[manager].disk.machines.contains_key(&machine) {
            self.ask_release(manager, machine);
        }
    }

    pub(super) fn ask_release(&mut self, node: usize, peer: usize) {
        if !self.nodes[node].up {
            return;
        }
        self.note(|| format!("the person of {node} ends the pairing with {peer}"));
        if self.has(PairBug::SaidBeforeDurable)
            && let Some((peer, number)) = self.nodes[node].disk.pairs().into_iter().find(|(with, _)| *with == peer)
        {
            self.connect(node, peer, At::Exchange(number));
        }
        self.change(node, Change::Release { peer });
    }

    /// Both people say yes. A machine that was released while it was away hears of that first.
    fn claim(&mut self, manager: usize, machine: usize) {
        let both_up = self.nodes[manager].up && self.nodes[machine].up;
        let tells_first = self.nodes[manager]
            .disk
            .former
            .untold()
            .any(|row| row.standing.former().is_some_and(|(peer, _)| peer == machine));
        if both_up && (!tells_first || self.rng.chance(20)) {
            self.note(|| format!("{manager} claims {machine}"));
            self.connect(manager, machine, At::Claiming);
        }
    }

    fn dial(&mut self, node: usize, run: u64, again: bool) {
        if !self.nodes[node].up || self.nodes[node].run != run || self.silent == Some(self.nodes[node].role) {
            return;
        }
        let pairs = self.nodes[node].disk.pairs().into_iter().map(|(peer, number)| (peer, At::Dialled(number)));
        let told = self.nodes[node].telling.iter().map(|(number, peer)| (*peer, At::Exchange(*number)));
        for (peer, at) in pairs.chain(told).collect::<Vec<_>>() {
            let number = match at {
                At::Dialled(number) | At::Exchange(number) => number,
                _ => continue,
            };
            let is_there = |one: &Connection| {
                one.nodes.contains(&peer) && {
                    let side = usize::from(one.nodes[0] != node);
                    one.nodes[side] == node
                        && matches!(one.at[side], At::Dialled(n) | At::Session(n) | At::Exchange(n) if n == number)
                }
            };
            if self.nodes[peer].up && !self.connections.values().any(is_there) {
                self.connect(node, peer, at);
                if self.has(PairBug::SaidOnce) {
                    self.nodes[node].telling.remove(&(number, peer));
                }
            }
        }
        let often = if self.calm { 8_000 } else { 2_000 };
        if again {
            self.after(often, Event::Dial { node, run, again });
        }
    }

    pub(super) fn connect(&mut self, node: usize, peer: usize, at: At) {
        let id = self.number();
        let connection = Connection {
            nodes: [node, peer],
            at: [at, At::Waiting],
            under_way: [VecDeque::new(), VecDeque::new()],
            arrives: [self.now; 2],
        };
        self.connections.insert(id, connection);
        match at {
            At::Claiming => self.say(id, 0, Message::Claim),
            At::Exchange(number) => {
                self.say(id, 0, Message::Hello(number));
                self.say(id, 0, Message::Statement(number));
            }
            At::Dialled(number) => self.say(id, 0, Message::Hello(number)),
            At::Waiting | At::Session(_) => {}
        }
    }

    /// One side says something.
    fn say(&mut self, id: u64, side: usize, message: Message) {
        let delay = self.rng.within(1..=200);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let to = 1 - side;
        connection.under_way[to].push_back(message);
        connection.arrives[to] = connection.arrives[to].max(self.now + delay);
        let at = connection.arrives[to];
        self.queue.push(at, Event::Arrive { connection: id, side: to });
    }

    fn arrive(&mut self, id: u64, side: usize) -> Result<(), Broken> {
        let Some(connection) = self.connections.get_mut(&id) else { return Ok(()) };
        let Some(message) = connection.under_way[side].pop_front() else { return Ok(()) };
        let (node, peer, at) = (connection.nodes[side], connection.nodes[1 - side], connection.at[side]);
        self.note(|| format!("{peer} says {message:?} to {node}, which is at {at:?}"));
        match (at, message) {
            (At::Waiting, Message::Hello(number)) => self.answer(id, side, number)?,
            (At::Dialled(number), Message::Hello(_)) => self.session(id, side, number)?,
            (At::Dialled(_) | At::Session(_), Message::Statement(number)) => {
                self.change(node, Change::Honour { peer, number, connection: id });
            }
            (At::Exchange(number), Message::Statement(other)) if number == other => {
                self.say(id, side, Message::GivenUp);
                self.change(node, Change::Told { peer, number });
            }
            (At::Waiting, Message::Claim) => {
                if self.has(PairBug::HandedOverBeforeDurable)
                    && let Some(own) = self.nodes[node].disk.own.filter(|own| own.standing.peer().is_none())
                {
                    self.say(id, side, Message::Handover(own.number));
                }
                self.change(node, Change::Claimed { manager: peer, connection: id });
            }
            (At::Claiming, Message::Handover(number)) => {
                self.connections.remove(&id);
                self.change(node, Change::HandedOver { machine: peer, number });
            }
            (_, Message::GivenUp) => {
                self.connections.remove(&id);
                if let At::Exchange(number) = at {
                    self.change(node, Change::Told { peer, number });
                }
            }
            (_, Message::NotKnown) => {
                self.connections.remove(&id);
                self.report.not_known += 1;
                if let At::Dialled(number) = at
                    && self.has(PairBug::NotKnownEnds)
                {
                    self.change(node, Change::Honour { peer, number, connection: id });
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn answer(&mut self, id: u64, side: usize, number: u64) -> Result<(), Broken> {
        let Some(nodes) = self.connections.get(&id).map(|connection| connection.nodes) else { return Ok(()) };
        let (node, peer) = (nodes[side], nodes[1 - side]);
        let known = &self.nodes[node].disk;
        let shared = known.shared_with(peer);
        let named = match shared {
            Some(shared) if self.has(PairBug::AnyDocument) => shared.number,
            _ => number,
        };
        match answer(shared, &known.former, peer, &id_of(named)) {
            Answer::Session => {
                self.say(id, side, Message::Hello(number));
                self.session(id, side, number)?;
            }
            Answer::Exchange(row) => {
                let number = row.number;
                self.report.exchanges += 1;
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.at[side] = At::Exchange(number);
                }
                self.say(id, side, Message::Hello(number));
                self.say(id, side, Message::Statement(number));
            }
            Answer::NotKnown => self.say(id, side, Message::NotKnown),
        }
        Ok(())
    }

    fn session(&mut self, id: u64, side: usize, number: u64) -> Result<(), Broken> {
        let Some(connection) = self.connections.get_mut(&id) else { return Ok(()) };
        connection.at[side] = At::Session(number);
        let (node, peer) = (connection.nodes[side], connection.nodes[1 - side]);
        if !self.nodes[node].disk.pairs().contains(&(peer, number)) {
            let what = format!("{node} has a session with {peer} for document {number}, which it does not share");
            return Err(Law::Pairing.broken(what));
        }
        self.report.sessions += 1;
        self.change(node, Change::Meet { peer, number });
        Ok(())
    }

    /// Has a node make something durable, after what it was asked for before.
    fn change(&mut self, node: usize, change: Change) {
        let one = &mut self.nodes[node];
        one.queue.push_back(change);
        let run = one.run;
        if one.queue.len() == 1 {
            self.after(40, Event::Flushed { node, run });
        }
    }

    fn flushed(&mut self, node: usize, run: u64) -> Result<(), Broken> {
        if !self.nodes[node].up || self.nodes[node].run != run {
            return Ok(());
        }
        let Some(change) = self.nodes[node].queue.pop_front() else { return Ok(()) };
        if !self.nodes[node].queue.is_empty() {
            self.after(40, Event::Flushed { node, run });
        }
        if !self.calm && self.rng.chance(5) {
            self.note(|| format!("{node} fails to store {change:?}"));
            self.report.failed_flushes += 1;
            if let Change::Honour { connection, .. } | Change::Claimed { connection, .. } = change {
                self.connections.remove(&connection);
            }
            return Ok(());
        }
        let (fresh, bug) = (self.number(), self.bug);
        let came = self.nodes[node].make(change, fresh, bug);
        self.note(|| format!("{node} has stored {change:?}: {came:?}"));
        self.came(node, change, came)
    }

    /// What follows from what is durable now.
    fn came(&mut self, node: usize, change: Change, came: Came) -> Result<(), Broken> {
        match (change, came) {
            (Change::Release { peer }, Came::Released(number)) => {
                self.truth.given_up.insert((node, number));
                match self.nodes[node].role {
                    KvAuthor::Machine => self.report.released_by_machine += 1,
                    KvAuthor::Manager => self.report.released_by_manager += 1,
                }
                self.end_sessions(node, number, None);
                let one = &mut self.nodes[node];
                if one.disk.former.untold().any(|row| row.number == number) {
                    one.telling.insert((number, peer));
                }
                let run = one.run;
                self.after(100, Event::Dial { node, run, again: false });
            }
            (Change::Honour { peer, connection, .. }, Came::Honoured(number)) => {
                self.report.honoured += 1;
                if !self.truth.given_up.contains(&(peer, number)) {
                    let what = format!("{node} takes document {number} for given up, which {peer} never did durably");
                    return Err(Law::Pairing.broken(what));
                }
                self.truth.given_up.insert((node, number));
                self.end_sessions(node, number, Some(connection));
                let side = self.connections.get(&connection).map(|one| usize::from(one.nodes[0] != node));
                if let Some(side) = side {
                    self.say(connection, side, Message::GivenUp);
                }
            }
            (Change::Honour { .. }, _) => self.report.too_late += 1,
            (Change::Claimed { manager, connection }, Came::Claimed { number, before }) => {
                self.report.claimed += 1;
                if let Some(before) = before.filter(|before| *before != manager) {
                    return Err(Law::Pairing.broken(format!("{node} is {manager}'s, and {before} was never released")));
                }
                self.truth.claimed.insert((node, manager, number));
                self.say(connection, 1, Message::Handover(number));
            }
            (Change::Claimed { connection, .. }, _) => drop(self.connections.remove(&connection)),
            (Change::HandedOver { machine, number }, Came::Machine { again, before }) => {
                if let Some(before) = before {
                    self.end_sessions(node, before, None);
                }
                self.report.machines += 1;
                self.report.again += u64::from(again);
                if !self.truth.claimed.contains(&(machine, node, number)) {
                    let what = format!("{node} has document {number} of {machine}, which never stored that claim");
                    return Err(Law::Pairing.broken(what));
                }
                let manager = *self.truth.managers.entry(number).or_insert(node);
                // A machine that goes back to a time before its claim hands the same document over again.
                if manager != node && !self.nodes[machine].restored {
                    return Err(
                        Law::Pairing.broken(format!("{manager} and {node} share document {number} of {machine}"))
                    );
                }
                if self.nodes[node].disk.former.find(machine, &id_of(number)).is_some() {
                    return Err(
                        Law::Pairing.broken(format!("{node} shares document {number} again, which it has given up"))
                    );
                }
                let run = self.nodes[node].run;
                self.after(100, Event::Dial { node, run, again: false });
            }
            (_, Came::GivenUpAgain) => self.report.given_up_again += 1,
            (_, Came::Told) => self.report.told += 1,
            (_, Came::Forgot) => self.report.forgotten += 1,
            _ => {}
        }
        Ok(())
    }

    /// A document is not shared any more: its connections end, but for one.
    fn end_sessions(&mut self, node: usize, number: u64, but: Option<u64>) {
        let ended: Vec<u64> = self
            .connections
            .iter()
            .filter(|(id, one)| {
                let side = usize::from(one.nodes[0] != node);
                Some(**id) != but
                    && one.nodes[side] == node
                    && matches!(one.at[side], At::Session(n) | At::Dialled(n) if n == number)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in ended {
            self.connections.remove(&id);
        }
    }
}
