//! What a node says of itself, looked at once a second at most, however many streams show it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use groundswell::{Node, NodeStatus, Source, TideStatus};

use crate::{
    limits::SAMPLE_PERIOD,
    views::{PublicationView, SubscriptionView},
};

/// Looks at a node.
pub(crate) struct Sampler {
    node: Node,
    last: Mutex<Option<Arc<Sample>>>,
}

/// What it saw.
pub(crate) struct Sample {
    at: Instant,
    pub(crate) status: NodeStatus,
    /// Waves a second since the sample before, by peer, agent and path.
    rates: HashMap<Which, f64>,
}

type Which = (String, String, String);

impl Sampler {
    pub(crate) fn new(node: Node) -> Self {
        Self { node, last: Mutex::default() }
    }

    /// What was seen less than [`SAMPLE_PERIOD`] ago, by whomever.
    pub(crate) fn recent(&self) -> Arc<Sample> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // Streams look once a period, each at its own moment: one of them looks anew, the others at that.
        let wanted = SAMPLE_PERIOD - SAMPLE_PERIOD / 8;
        match &*last {
            Some(sample) if sample.at.elapsed() < wanted => sample.clone(),
            before => {
                let sample = Arc::new(Sample::new(self.node.status(), before.as_deref()));
                *last = Some(sample.clone());
                sample
            }
        }
    }

    /// What is seen now, with the rates of what was seen before.
    pub(crate) fn fresh(&self) -> Sample {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let rates = last.filter(|last| last.at.elapsed() < 2 * SAMPLE_PERIOD).map(|last| last.rates.clone());
        Sample { at: Instant::now(), status: self.node.status(), rates: rates.unwrap_or_default() }
    }
}

impl Sample {
    fn new(status: NodeStatus, before: Option<&Sample>) -> Self {
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
        Self { at, status, rates }
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
