//! What every part of a world of keys shares: the time, the events to come, chance, and the trace.

use groundswell_core::kv::KvAuthor;

use super::{KvBug, KvReport};
use crate::{queue::Queue, rng::Rng};

/// One side of one document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SideId {
    pub(crate) doc: usize,
    pub(crate) author: KvAuthor,
}

impl SideId {
    pub(crate) fn other(self) -> Self {
        Self { author: self.author.other(), ..self }
    }

    /// The manager is node 0, and has a side of every document.
    pub(crate) fn node(self) -> usize {
        match self.author {
            KvAuthor::Manager => 0,
            KvAuthor::Machine => self.doc + 1,
        }
    }
}

/// What can happen.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Event {
    /// The world does something: writes, or lets something fail.
    Act,
    /// A frame has arrived.
    Arrive {
        side: SideId,
        connection: u64,
    },
    /// One side learns that a connection is gone.
    Closed {
        side: SideId,
        connection: u64,
    },
    /// A side dials the other, if it has no session.
    Dial {
        side: SideId,
    },
    NodeUp {
        node: usize,
    },
    /// A node that parts ends at last.
    Stop {
        node: usize,
        run: u64,
    },
    /// The disk has an answer, if this run still goes on.
    Flushed {
        node: usize,
        run: u64,
    },
    /// A session does what it has to do.
    Pump {
        side: SideId,
        connection: u64,
    },
    /// What a session reads from disk is there.
    ReadDone {
        side: SideId,
        connection: u64,
    },
    /// A reader reads on.
    Read {
        side: SideId,
        run: u64,
        reader: usize,
    },
    /// The manager's side begins a reconciliation.
    Reconcile {
        doc: usize,
        connection: u64,
    },
    /// The power goes in the middle of an agreement.
    Cut {
        node: usize,
        run: u64,
    },
    /// One ends.
    Reconciled {
        number: u64,
    },
}

pub(crate) struct Context {
    pub(crate) now: u64,
    pub(crate) rng: Rng,
    pub(crate) report: KvReport,
    bug: Option<KvBug>,
    queue: Queue<Event>,
    numbers: u64,
    trace: Option<Vec<String>>,
}

impl Context {
    pub(crate) fn new(rng: Rng, bug: Option<KvBug>, trace: bool) -> Self {
        Self {
            now: 0,
            rng,
            report: KvReport::default(),
            bug,
            queue: Queue::default(),
            numbers: 0,
            trace: trace.then(Vec::new),
        }
    }

    /// Whether this deliberate bug is on.
    pub(crate) fn has(&self, bug: KvBug) -> bool {
        self.bug == Some(bug)
    }

    pub(crate) fn bug(&self) -> Option<KvBug> {
        self.bug
    }

    /// A number such as there was none before.
    pub(crate) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(crate) fn at(&mut self, at: u64, event: Event) {
        self.queue.push(at, event);
    }

    /// Lets something happen after at most so long.
    pub(crate) fn after(&mut self, most: u64, event: Event) {
        let at = self.now + self.rng.within(0..=most);
        self.at(at, event);
    }

    pub(crate) fn next_event(&mut self) -> Option<Event> {
        let (at, event) = self.queue.pop()?;
        self.now = at;
        self.report.events += 1;
        Some(event)
    }

    /// Writes down what happens, where someone wants to read it.
    pub(crate) fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>9} {}", self.now, what()));
        }
    }

    pub(crate) fn into_trace(self) -> Vec<String> {
        self.trace.unwrap_or_default()
    }
}
