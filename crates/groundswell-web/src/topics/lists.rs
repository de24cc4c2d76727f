//! The topics `node`, `publications` and `subscriptions`, which are looked at once a second: counters have no events.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use futures_util::{StreamExt, stream};
use groundswell::Source;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::{
    app::Inner,
    events::{Data, Item},
    limits::SAMPLE_PERIOD,
    sse::Feed,
    views::NodeView,
};

/// What a list looks at each time, and says of it.
trait Look: Send + 'static {
    fn look(&mut self, app: &Inner, say: &mut VecDeque<Item>);
}

fn feed(app: &Arc<Inner>, look: impl Look) -> Feed {
    struct State<L> {
        app: Arc<Inner>,
        look: L,
        looks: Interval,
        ready: VecDeque<Item>,
        caught_up: bool,
        over: bool,
    }
    let mut looks = interval(SAMPLE_PERIOD);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let state = State { app: app.clone(), look, looks, ready: VecDeque::new(), caught_up: false, over: false };
    let items = stream::unfold(state, |mut state| async move {
        loop {
            if let Some(item) = state.ready.pop_front() {
                state.over = item.is_end();
                return Some((item, state));
            }
            if state.over {
                return None;
            }
            // The first is now.
            state.looks.tick().await;
            if state.app.subject.is_shutdown() {
                state.ready.push_back(Item::ended("shut_down", None));
                continue;
            }
            state.look.look(&state.app, &mut state.ready);
            if !std::mem::replace(&mut state.caught_up, true) {
                state.ready.push_back(Item::caught_up());
            }
        }
    });
    items.boxed()
}

/// The node itself.
struct Node {
    told: Option<String>,
}

pub(super) fn node(app: &Arc<Inner>) -> Feed {
    feed(app, Node { told: None })
}

impl Look for Node {
    fn look(&mut self, app: &Inner, say: &mut VecDeque<Item>) {
        let view = app.node_view(app.sampler.recent().status.peers.clone());
        // That the clock goes on is no news.
        let known = serde_json::to_string(&NodeView { now_ms: 0, ..view.clone() }).ok();
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
    fn look(&mut self, app: &Inner, say: &mut VecDeque<Item>) {
        let mut before = std::mem::take(&mut self.told);
        for publication in app.sampler.recent().publications() {
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
    told: HashMap<Source, String>,
}

pub(super) fn subscriptions(app: &Arc<Inner>) -> Feed {
    feed(app, Subscriptions { told: HashMap::new() })
}

impl Look for Subscriptions {
    fn look(&mut self, app: &Inner, say: &mut VecDeque<Item>) {
        let mut before = std::mem::take(&mut self.told);
        for subscription in app.sampler.recent().subscriptions() {
            // How long ago it was current grows by itself, and is no news.
            let without_lag = subscription.without_lag();
            let known = Item::new(&Data::Subscription { subscription: &without_lag }).json;
            if before.remove(&subscription.source).as_ref() != Some(&known) {
                say.push_back(Item::new(&Data::Subscription { subscription: &subscription }));
            }
            self.told.insert(subscription.source, known);
        }
        for source in before.keys() {
            say.push_back(Item::new(&Data::SubscriptionGone { source }));
        }
    }
}
