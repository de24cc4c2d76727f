//! What a side knows of its pairs, and how that changes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use groundswell_core::kv::{
    KvAuthor,
    pairs::{Former, HandedOver, Honour, Standing, Stands, handed_over, honour},
};

use super::PairBug;

/// More than a world ever gives up, so that nothing is forgotten for want of room.
const MOST_FORMER: usize = 1_000;

/// A document, by its number, and how it stands with another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) number: u64,
    pub(crate) standing: Standing<usize>,
}

pub(crate) fn id_of(number: u64) -> [u8; 32] {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&number.to_le_bytes());
    id
}

impl Stands for Row {
    type Peer = usize;

    fn document(&self) -> [u8; 32] {
        id_of(self.number)
    }

    fn standing(&self) -> Standing<usize> {
        self.standing
    }
}

/// What is durable at a side.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    /// A machine's document.
    pub(crate) own: Option<Row>,
    /// A manager's, of each machine.
    pub(crate) machines: BTreeMap<usize, Row>,
    pub(crate) former: Former<Row>,
    /// For the truth: what this side has given up, with whom that was shared, as far as this state goes.
    pub(crate) given_up: BTreeSet<(u64, usize)>,
    /// For the truth: what it has forgotten, since the other side had a later document.
    pub(crate) forgotten: BTreeSet<u64>,
}

impl Known {
    pub(crate) fn new(own: Option<u64>) -> Self {
        Self {
            own: own.map(|number| Row { number, standing: Standing::Unclaimed }),
            machines: BTreeMap::new(),
            former: Former::new(MOST_FORMER),
            given_up: BTreeSet::new(),
            forgotten: BTreeSet::new(),
        }
    }

    /// What this side has of a peer's.
    pub(crate) fn shared_with(&self, peer: usize) -> Option<&Row> {
        let own = self.own.as_ref().filter(|own| own.standing.peer() == Some(peer));
        own.or_else(|| self.machines.get(&peer))
    }

    /// All that it shares.
    pub(crate) fn pairs(&self) -> Vec<(usize, u64)> {
        let all = self.own.iter().chain(self.machines.values());
        all.filter_map(|row| Some((row.standing.peer()?, row.number))).collect()
    }

    /// Gives a document up.
    fn give_up(&mut self, row: Row, told: bool) {
        let Some((peer, knew)) = row.standing.given_up() else { return };
        self.former.add(Row { standing: Standing::Former { peer, told: told || knew }, ..row });
        self.given_up.insert((row.number, peer));
    }
}

/// What is to become durable.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change {
    /// A person ends the pairing with this peer.
    Release { peer: usize },
    /// The peer has given this document up.
    Honour { peer: usize, number: u64, connection: u64 },
    /// A machine was claimed by this manager.
    Claimed { manager: usize, connection: u64 },
    /// A manager was handed over this document.
    HandedOver { machine: usize, number: u64 },
    /// The peer knows that this document was given up here.
    Told { peer: usize, number: u64 },
    /// The peer has said hello for this document.
    Meet { peer: usize, number: u64 },
}

/// What came of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    /// Nothing: it is not as it was when it was asked for.
    OfNothing,
    /// This document was given up by a person.
    Released(u64),
    /// This document was given up for a release of the other side.
    Honoured(u64),
    /// This one is the document that a claim hands over, and it belonged to this manager before.
    Claimed {
        number: u64,
        before: Option<usize>,
    },
    /// A machine is there, with this document. It was there before, or takes the place of another one of that machine's.
    Machine {
        again: bool,
        before: Option<u64>,
    },
    GivenUpAgain,
    Told,
    Forgot,
}

/// A process with a disk.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) role: KvAuthor,
    pub(crate) up: bool,
    pub(crate) run: u64,
    /// What is durable. It is shown as soon as it is, so that nothing else is in memory.
    pub(crate) disk: Known,
    pub(crate) backups: Vec<Known>,
    /// A backup was restored here at least once.
    pub(crate) restored: bool,
    pub(crate) queue: VecDeque<Change>,
    /// The documents whose other sides are being told.
    pub(crate) telling: BTreeSet<(u64, usize)>,
}

impl Node {
    pub(crate) fn new(role: KvAuthor, own: Option<u64>) -> Self {
        Self {
            role,
            up: true,
            run: 0,
            disk: Known::new(own),
            backups: Vec::new(),
            restored: false,
            queue: VecDeque::new(),
            telling: BTreeSet::new(),
        }
    }

    /// Makes a change durable. `fresh` is the number of a document such as there was none.
    pub(crate) fn make(&mut self, change: Change, fresh: u64, bug: Option<PairBug>) -> Came {
        let has = |one| bug == Some(one);
        let known = &mut self.disk;
        match change {
            Change::Release { peer } => {
                let Some(row) = known.shared_with(peer).copied() else { return Came::OfNothing };
                known.give_up(row, false);
                known.machines.remove(&peer);
                if let Some(own) = &mut known.own {
                    let number = if has(PairBug::SameDocument) { own.number } else { fresh };
                    *own = Row { number, standing: Standing::Unclaimed };
                }
                Came::Released(row.number)
            }
            Change::Honour { peer, number, .. } => {
                let Some(row) = known.shared_with(peer).copied() else { return Came::OfNothing };
                let number = if has(PairBug::AnyRelease) { row.number } else { number };
                match honour(self.role, &row, peer, &id_of(number)) {
                    Honour::Nothing => return Came::OfNothing,
                    Honour::GoOn => {
                        known.give_up(row, true);
                        known.own = Some(Row { number: fresh, standing: Standing::Unclaimed });
                    }
                    Honour::Keep if has(PairBug::ManagerGoesOn) => {}
                    Honour::Keep => {
                        known.machines.insert(peer, Row { standing: Standing::Left(peer), ..row });
                        // It signs that too, for a machine that does not know any more.
                        known.given_up.insert((row.number, peer));
                    }
                }
                Came::Honoured(row.number)
            }
            Change::Claimed { manager, .. } => {
                let Some(own) = &mut known.own else { return Came::OfNothing };
                let before = own.standing.peer();
                if before.is_some_and(|before| before != manager) && !has(PairBug::ClaimedTwice) {
                    return Came::OfNothing;
                }
                own.standing = Standing::Paired(manager);
                Came::Claimed { number: own.number, before }
            }
            Change::HandedOver { machine, number } => {
                let shared = known.machines.get(&machine);
                let is = handed_over(shared, &known.former, machine, &id_of(number));
                if is == HandedOver::GivenUp && !has(PairBug::TakesGivenUp) {
                    return Came::GivenUpAgain;
                }
                let row = Row { number, standing: Standing::Paired(machine) };
                let before = known.machines.insert(machine, row).filter(|before| before.number != number);
                let before = before.map(|before| before.number);
                known.forgotten.extend(before);
                Came::Machine { again: is == HandedOver::Again, before }
            }
            Change::Told { peer, number } => {
                self.telling.remove(&(number, peer));
                if has(PairBug::ToldIsForgotten) {
                    known.former.forget(&id_of(number));
                    return Came::Told;
                }
                let told = Row { number, standing: Standing::Former { peer, told: true } };
                if known.former.put(told) { Came::Told } else { Came::OfNothing }
            }
            Change::Meet { peer, number } => {
                let mut gone = known.former.forget_earlier(peer, &id_of(number));
                if has(PairBug::ForgetsOthers) {
                    let others: Vec<Row> = known.former.untold().copied().collect();
                    others.iter().for_each(|row| known.former.forget(&row.document()));
                    gone.extend(others);
                }
                for row in &gone {
                    self.telling.remove(&(row.number, peer));
                    known.forgotten.insert(row.number);
                }
                if gone.is_empty() { Came::OfNothing } else { Came::Forgot }
            }
        }
    }
}
