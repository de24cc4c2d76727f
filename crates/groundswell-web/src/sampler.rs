//! What a node says of itself, looked at when it changes, once a second at most, however many streams show it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use groundswell::{Node, NodeStatus, Source, TideStatus};
use tokio::sync::watch;

use crate::{
    limits::SAMPLE_PERIOD,
    views::{PublicationView, SubscriptionView},
};

/// Looks at a node.
pub(crate) struct Sampler {
    node: Node,
    changes: watch::Receiver<u64>,
    last: Mutex<Option<Arc<Sample>>>,
}

/// What it saw.
pub(crate) struct Sample {
    at: Instant,
    /// How often the node had changed before.
    changes: u64,
    /// Whether a rate is not 0, or not known yet, or a reader is behind: that changes by itself.
    moves: bool,
    pub(crate) status: NodeStatus,
    /// Waves a second since the sample before, by peer, agent and path.
    rates: HashMap<Which, f64>,
}

type Which = (String, String, String);

impl Sampler {
    pub(crate) fn new(node: Node) -> Self {
        Self { changes: node.status_changes(), node, last: Mutex::default() }
    }

    /// Is told when there may be something new.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// What was seen last, by whomever; and when to look again, if that is not when something changes: where it is
    /// out of date already, and was seen less than [`SAMPLE_PERIOD`] ago, or moves.
    pub(crate) fn recent(&self) -> (Arc<Sample>, Option<Instant>) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // Before it is looked at, so that what changes meanwhile is looked at again.
        let changes = *self.changes.borrow();
        match &*last {
            Some(sample) if sample.changes == changes && !sample.moves => (sample.clone(), None),
            Some(sample) if sample.at.elapsed() < SAMPLE_PERIOD => (sample.clone(), Some(sample.at + SAMPLE_PERIOD)),
            before => {
                let sample = Arc::new(Sample::new(self.node.status(), changes, before.as_deref()));
                let again = sample.moves.then_some(sample.at + SAMPLE_PERIOD);
                *last = Some(sample.clone());
                (sample, again)
            }
        }
    }

    /// What is seen now, with the rates of what was seen before.
    pub(crate) fn fresh(&self) -> Sample {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let rates = last.filter(|last| last.at.elapsed() < 2 * SAMPLE_PERIOD).map(|last| last.rates.clone());
        let (at, changes) = (Instant::now(), *self.changes.borrow());
        Sample { at, changes, moves: false, status: self.node.status(), rates: rates.unwrap_or_default() }
    }
}

impl Sample {
    fn new(status: NodeStatus, changes: u64, before: Option<&Sample>) -> Self {
        let at = Instant::now();
        let mut rates = HashMap::new();
        // What was seen long ago says nothing of the last second.
        let before = before.filter(|before| at.duration_since(before.at) < 3 * SAMPLE_PERIOD);
        if let Some(before) = before {
            let seconds = at.duration_since(before.at).max(Duration::from_millis(1)).as_secs_f64();
            let aeons: HashMap<Which, u64> =
                before.tides().filter_map(|tide| Some((which(tide), tide.aeon?))).collect();
            for tide in status.publications.iter().chain(&status.replicas) {
                if let (Some(aeon), Some(then)) = (tide.aeon, aeons.get(&which(tide))) {
                    rates.insert(which(tide), aeon.saturating_sub(*then) as f64 / seconds);
                }
            }
        }
        let tides = || status.publications.iter().chain(&status.replicas);
        let is_known = |tide: &TideStatus| tide.aeon.is_none() || rates.contains_key(&which(tide));
        let rests = |tide: &TideStatus| is_known(tide) && tide.reader_lag == 0;
        let moves = rates.values().any(|rate| *rate > 0.0) || !tides().all(rests);
        Self { at, changes, moves, status, rates }
    }

    fn tides(&self) -> impl Iterator<Item = &TideStatus> {
        self.status.publications.iter().chain(&self.status.replicas)
    }

    pub(crate) fn publications(&self) -> Vec<PublicationView> {
        let tides = self.status.publications.iter();
        tides.map(|tide| PublicationView::new(tide.clone(), self.rates.get(&which(tide)).copied())).collect()
    }

    pub(crate) fn subscriptions(&self) -> Vec<SubscriptionView> {
        let tides = self.status.replicas.iter();
        let views = tides.filter_map(|tide| {
            let source = Source::new(tide.peer.parse().ok()?, &tide.agent, &tide.path).ok()?;
            Some(SubscriptionView::new(source, tide.clone(), self.rates.get(&which(tide)).copied()))
        });
        views.collect()
    }
}

fn which(tide: &TideStatus) -> Which {
    (tide.peer.clone(), tide.agent.clone(), tide.path.clone())
}
