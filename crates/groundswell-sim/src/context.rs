//! What every part of a world shares: the time, the events to come, chance, and the checkers.

use groundswell_core::Epoch;

use crate::{Report, bug::Bug, checkers::Checkers, link::Side, queue::Queue, rng::Rng};

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The world does something: gives waves, changes a rule, lets something fail.
    Act,
    /// A frame has arrived.
    Arrive {
        subscriber: usize,
        connection: u64,
        to: Side,
    },
    /// One side learns that a connection is gone.
    Closed {
        subscriber: usize,
        connection: u64,
        side: Side,
    },
    /// A subscriber asks for what it wants, if it does not already.
    Connect {
        subscriber: usize,
    },
    PublisherUp {
        publisher: usize,
    },
    /// A publisher's disk has an answer, if this run of it still goes on.
    PublisherSynced {
        publisher: usize,
        run: u64,
    },
    /// A stream goes on.
    Pump {
        subscriber: usize,
        connection: u64,
    },
    SubscriberUp {
        subscriber: usize,
    },
    SubscriberSynced {
        subscriber: usize,
        run: u64,
    },
    /// A local reader of a replica reads on.
    Read {
        subscriber: usize,
        run: u64,
        reader: usize,
    },
}

pub(crate) struct Context {
    pub(crate) now: u64,
    pub(crate) rng: Rng,
    pub(crate) bug: Option<Bug>,
    pub(crate) checkers: Checkers,
    pub(crate) report: Report,
    queue: Queue<Event>,
    epochs: u64,
    trace: Option<Vec<String>>,
}

impl Context {
    pub(crate) fn new(rng: Rng, bug: Option<Bug>, trace: bool) -> Self {
        Self {
            now: 0,
            rng,
            bug,
            checkers: Checkers::default(),
            report: Report::default(),
            queue: Queue::default(),
            epochs: 0,
            trace: trace.then(Vec::new),
        }
    }

    /// Whether this deliberate bug is on.
    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// An epoch such as there was none before.
    pub(crate) fn new_epoch(&mut self) -> Epoch {
        self.epochs += 1;
        Epoch(u128::from(self.epochs).to_be_bytes())
    }

    /// Lets something happen at a time.
    pub(crate) fn at(&mut self, at: u64, event: Event) {
        self.queue.push(at, event);
    }

    /// Lets something happen after at most so long.
    pub(crate) fn after(&mut self, most: u64, event: Event) {
        let at = self.now + self.rng.within(1..=most);
        self.at(at, event);
    }

    /// Goes on to the next event.
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
