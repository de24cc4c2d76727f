//! The topics `node`, `publications` and `subscriptions`: the node's status is looked at when it changes, once a second at
//! most.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use groundswell::Source;
use tokio::{sync::watch, time::sleep_until};

use crate::{
    app::Inner,
    events::{Data, Item},
    limits::COUNTERS_PERIOD,
    sampler::Sample,
    sse::Feed,
    views::{NodeView, SubscriptionView, now_ms},
};

/// What a list looks at each time, and says of it.
trait Look: Send + 'static {
    fn look(&mut self, app: &Inner, sample: &Sample, say: &mut VecDeque<Item>);

    /// How long to wait for a change before it is looked at anyway.
    fn patience(&self) -> Option<Duration> {
        None
    }
}

fn feed(app: &Arc<Inner>, look: impl Look) -> Feed {
    struct State<L> {
        app: Arc<Inner>,
        look: L,
        changes: watch::Receiver<u64>,
        /// When to look again, whatever changes.
        again: Option<Instant>,
        /// Whether that is so soon that a change before it is no reason to look.
        soon: bool,
        ready: VecDeque<Item>,
        caught_up: bool,
        over: bool,
    }
    let (changes, again) = (app.sampler.changes(), Some(Instant::now()));
    let (soon, ready) = (true, VecDeque::new());
    let state = State { app: app.clone(), look, changes, again, soon, ready, caught_up: false, over: false };
    let items = stream::unfold(state, |mut state| async move {
        loop {
            if let Some(item) = state.ready.pop_front() {
                state.over = item.is_end();
                return Some((item, state));
            }
            if state.over {
                return None;
            }
            tokio::select! {
                () = state.app.subject.until_shutdown() => {
                    state.ready.push_back(Item::ended("shut_down", None));
                    continue;
                }
                () = at(state.again) => {}
                // A node that is dropped is shut down.
                _ = state.changes.changed(), if !state.soon => {}
            }
            state.changes.mark_unchanged();
            let (sample, again) = state.app.sampler.recent();
            state.soon = again.is_some();
            state.again = again.or_else(|| Some(Instant::now() + state.look.patience()?));
            state.look.look(&state.app, &sample, &mut state.ready);
            if !std::mem::replace(&mut state.caught_up, true) {
                state.ready.push_back(Item::caught_up());
            }
        }
    });
    items.boxed()
}

/// Waits until then, or for ever.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}

/// The node itself.
struct Node {
    told: Option<String>,
}

pub(super) fn node(app: &Arc<Inner>) -> Feed {
    feed(app, Node { told: None })
}

impl Look for Node {
    /// Its counters and its addresses are no changes of its status.
    fn patience(&self) -> Option<Duration> {
        Some(COUNTERS_PERIOD)
    }

    fn look(&mut self, app: &Inner, sample: &Sample, say: &mut VecDeque<Item>) {
        let view = app.node_view(sample.status.peers.clone());
        // That the clock goes on, or is set, is no news.
        let known = serde_json::to_string(&NodeView { now_ms: 0, started_ms: 0, ..view.clone() }).ok();
        if self.told != known {
            self.told = known;
            say.push_back(Item::new(&Data::Node { node: &view }));
        }
    }
}

/// What it publishes, by agent and path.
struct Publications {
    told: HashMap<(String, String), String>,
}

pub(super) fn publications(app: &Arc<Inner>) -> Feed {
    feed(app, Publications { told: HashMap::new() })
}

impl Look for Publications {
    fn look(&mut self, _app: &Inner, sample: &Sample, say: &mut VecDeque<Item>) {
        let mut before = std::mem::take(&mut self.told);
        for publication in sample.publications() {
            let key = (publication.agent.clone(), publication.path.clone());
            let item = Item::new(&Data::Publication { publication: &publication });
            let told = before.remove(&key);
            self.told.insert(key, item.json.clone());
            if told.as_ref() != Some(&item.json) {
                say.push_back(item);
            }
        }
        for (agent, path) in before.keys() {
            say.push_back(Item::new(&Data::PublicationGone { agent, path }));
        }
    }
}

/// What it follows.
struct Subscriptions {
    told: HashMap<Source, SubscriptionView>,
}

pub(super) fn subscriptions(app: &Arc<Inner>) -> Feed {
    feed(app, Subscriptions { told: HashMap::new() })
}

impl Look for Subscriptions {
    fn look(&mut self, _app: &Inner, sample: &Sample, say: &mut VecDeque<Item>) {
        let mut before = std::mem::take(&mut self.told);
        for subscription in sample.subscriptions() {
            // How long ago it was current grows by itself, and is no news.
            let known = subscription.without_lag();
            if before.remove(&subscription.source).as_ref() != Some(&known) {
                say.push_back(Item::new(&Data::Subscription { subscription: &subscription, now_ms: now_ms() }));
            }
            self.told.insert(subscription.source, known);
        }
        for source in before.keys() {
            say.push_back(Item::new(&Data::SubscriptionGone { source }));
        }
    }
}
