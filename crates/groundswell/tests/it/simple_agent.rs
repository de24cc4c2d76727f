//! The prototype's example agent, ported: it does what its comments say, poke by poke, on two nodes.

use std::sync::{Arc, Mutex};

use crate::common::{Pair, spawn_node, until, within};
use groundswell::{
    Access, Aeon, Frequency, Freshness, FreshnessKind, Node, PublicationState, ReplicaState, Rule, Source, TideStatus,
};

#[path = "../../examples/simple/agent.rs"]
mod agent;

use agent::Simple;

/// One node with the agent on it, and what the agent says.
struct Ship {
    node: Node,
    simple: Simple,
    said: Arc<Mutex<Vec<String>>>,
}

impl Ship {
    async fn launch(node: Node) -> Self {
        let said = Arc::<Mutex<Vec<String>>>::default();
        let say = said.clone();
        let simple = Simple::start(node.clone(), Arc::new(move |line| say.lock().unwrap().push(line))).await.unwrap();
        Self { node, simple, said }
    }

    async fn poke(&self, line: &str) {
        within(line, self.simple.poke(line)).await.unwrap_or_else(|error| panic!("{line}: {error}"));
    }

    /// Why a poke is refused.
    async fn refuses(&self, line: &str) -> String {
        within(line, self.simple.poke(line)).await.unwrap_err().to_string()
    }

    async fn until_it_says(&self, what: &str, times: usize) {
        until(what, || self.said.lock().unwrap().iter().filter(|line| line.contains(what)).count() >= times).await;
    }

    fn published(&self, path: &str) -> PublicationState {
        self.simple.pub_log.agent().published()[&path.parse().unwrap()].clone()
    }

    fn followed(&self, other: &Self, path: &str) -> Option<ReplicaState> {
        let source = Source::new(other.node.id(), "simple", path).unwrap();
        self.simple.sub_log.agent().followed().remove(&source)
    }

    /// Waits until a followed state is at this aeon and its source is known to be so.
    async fn until_at(&self, other: &Self, path: &str, aeon: u64, freshness: FreshnessKind) {
        let there = |state: ReplicaState| {
            state.cursor.map(|at| at.aeon) == Some(Aeon(aeon)) && state.freshness.kind() == freshness
        };
        until(&format!("{path} at {aeon}, {freshness:?}"), || self.followed(other, path).is_some_and(there)).await;
    }

    fn kept(&self, path: &str) -> (u64, usize) {
        let of_path = |one: &TideStatus| one.path == path;
        let status = self.node.status().publications.into_iter().find(of_path).unwrap();
        (status.kept_waves, status.kept_rocks)
    }

    async fn log_of(&self, other: &Self) -> Vec<String> {
        let source = Source::new(other.node.id(), "simple", "/log").unwrap();
        self.simple.sub_log.with_rock(&source, |rock, _| rock.clone()).await.unwrap()
    }
}

/// A publisher `a`, a follower `b`, and a ticket of the first.
async fn two_ships() -> (Ship, Ship, String, Pair) {
    let pair = Pair::new().await;
    let (a, b) = (Ship::launch(pair.publisher.clone()).await, Ship::launch(pair.follower.clone()).await);
    let ticket = a.node.ticket().to_string();
    (a, b, ticket, pair)
}

async fn sink(a: Ship, b: Ship) {
    a.node.shutdown().await.unwrap();
    b.node.shutdown().await.unwrap();
}

/// `add`, `log`, `surf-log`, `surf-sum`, `quit-log`, `quit-sum`, and on-rock: the newest message is printed, a
/// message `crash` is a failure that is flagged and leaves the state readable, 42 is told.
#[tokio::test(flavor = "multi_thread")]
async fn states_are_given_surfed_and_quit() {
    let (a, b, ticket, _dirs) = two_ships().await;
    a.poke("add 40").await;
    a.poke("log /log hello").await;
    a.poke("log /log/foo something else").await;
    a.poke("log /other-log and another").await;
    assert!(a.refuses("log /elsewhere hello").await.contains("not covered"));
    assert!(a.refuses("add many").await.contains("digit"));
    assert!(a.refuses("fly").await.contains("no such poke"));
    let read = a.simple.read().await;
    for state in ["Path(/log)", "Path(/log/foo)", "something else", "Path(/other-log)", "Path(/sum/foo)", "40"] {
        assert!(read.contains(state), "{state} in {read}");
    }
    // A state arrives with no wave at first, and each update after it is handled.
    b.poke(&format!("surf-log {ticket}")).await;
    b.poke(&format!("surf-sum {ticket} /sum/foo")).await;
    let from = format!("from simple on {} is", a.node.id());
    b.until_it_says(&format!("last message {from} hello"), 1).await;
    b.until_at(&a, "/sum/foo", 1, FreshnessKind::Live).await;
    a.poke("add 2").await;
    b.until_it_says(&format!("sum {from} 42"), 1).await;
    assert!(b.simple.read().await.contains("42"), "{}", b.simple.read().await);
    // It may fail on a state; that is only its own bookkeeping.
    a.poke("log /log crash").await;
    until("the flag", || b.followed(&a, "/log").unwrap().fail.is_some()).await;
    assert_eq!(b.log_of(&a).await, ["hello", "crash"]);
    assert!(b.followed(&a, "/sum/foo").unwrap().fail.is_none());
    a.poke("log /log better").await;
    until("the flag to go", || b.followed(&a, "/log").unwrap().fail.is_none()).await;
    // The publisher has another path, which this agent is not declared on.
    assert!(b.refuses(&format!("surf-sum {ticket} /log/foo")).await.contains("not covered"));
    b.poke(&format!("quit-log {}", a.node.id())).await;
    b.poke(&format!("quit-sum {} /sum/foo", a.node.id())).await;
    assert!(b.simple.sub_log.read().is_empty() && b.simple.sub_sum.read().is_empty());
    until("the streams to end", || a.node.metrics().remote_readers_now == 0).await;
    a.poke("log /log nobody hears it").await;
    assert!(!b.said.lock().unwrap().iter().any(|line| line.contains("nobody hears it")));
    sink(a, b).await;
}

/// `secret-*`, `allow-*`, `block-*`, `public-*`, and surf-fail: a surf that is not allowed is told, and waits.
#[tokio::test(flavor = "multi_thread")]
async fn paths_are_closed_and_opened() {
    let (a, b, ticket, _dirs) = two_ships().await;
    for (lake, path, give, surf) in [
        ("log", "/log", "log /log line", format!("surf-log {ticket}")),
        ("sum", "/sum/foo", "add 1", format!("surf-sum {ticket} /sum/foo")),
    ] {
        let reader = b.node.id();
        assert!(a.refuses(&format!("block-{lake} {reader}")).await.contains("make it secret"));
        a.poke(&format!("secret-{lake}")).await;
        a.poke(give).await;
        b.poke(&surf).await;
        b.until_it_says(&format!("not allowed to surf on {}:simple{path},", a.node.id()), 1).await;
        assert_eq!(b.followed(&a, path).unwrap().cursor, None);
        a.poke(&format!("allow-{lake} {reader} {}", a.node.id())).await;
        b.until_at(&a, path, 1, FreshnessKind::Live).await;
        a.poke(&format!("block-{lake} {reader}")).await;
        assert_eq!(a.published(path).access, Access::Only([a.node.id()].into()));
        a.poke(give).await;
        b.until_at(&a, path, 1, FreshnessKind::Killed).await;
        a.poke(&format!("public-{lake}")).await;
        b.until_at(&a, path, 2, FreshnessKind::Live).await;
        a.poke(&format!("allow-{lake} {reader}")).await;
        assert_eq!(a.published(path).access, Access::Public, "to allow on a public path changes nothing");
    }
    sink(a, b).await;
}

/// `kill-*`: readers are told to expect nothing more, and keep what they have; giving begins again.
#[tokio::test(flavor = "multi_thread")]
async fn paths_are_killed_and_given_again() {
    let (a, b, ticket, _dirs) = two_ships().await;
    for (lake, path, give, surf) in [
        ("log", "/log", "log /log line", format!("surf-log {ticket}")),
        ("sum", "/sum/foo", "add 42", format!("surf-sum {ticket} /sum/foo")),
    ] {
        assert!(a.refuses(&format!("kill-{lake}")).await.contains("no state"));
        a.poke(give).await;
        b.poke(&surf).await;
        b.until_at(&a, path, 1, FreshnessKind::Live).await;
        a.poke(&format!("kill-{lake}")).await;
        b.until_at(&a, path, 1, FreshnessKind::Killed).await;
        assert!(b.followed(&a, path).unwrap().stale());
        a.poke(give).await;
        b.until_at(&a, path, 3, FreshnessKind::Live).await;
    }
    assert_eq!(b.log_of(&a).await, ["line"], "from the default rock");
    b.until_it_says("is 42", 2).await;
    sink(a, b).await;
}

/// `fork-log` and `copy-log`: into an empty path, from where it goes its own way.
#[tokio::test(flavor = "multi_thread")]
async fn logs_are_forked_and_copied() {
    let (a, b, _ticket, _dirs) = two_ships().await;
    a.poke("log /log/one hello").await;
    a.poke("fork-log /log/one /log/two").await;
    a.poke("log /log/two bye").await;
    assert!(a.refuses("fork-log /log/one /log/two").await.contains("published already"));
    assert!(a.refuses("fork-log /log/none /log/three").await.contains("no state"));
    // The copy is of the agent's own `/log`, as in the prototype.
    assert!(a.refuses("copy-log /log/copy").await.contains("no state"));
    a.poke("log /log mine").await;
    a.poke(&format!("surf-log {}", a.node.id())).await;
    a.poke("copy-log /log/copy").await;
    a.poke("log /log mine again").await;
    let rocks = a.simple.pub_log.rocks().await;
    let rock = |path: &str| rocks[&path.parse().unwrap()].1.clone();
    assert_eq!(rock("/log/one"), ["hello"]);
    assert_eq!(rock("/log/two"), ["hello", "bye"]);
    assert_eq!(rock("/log/copy"), ["mine"]);
    assert_eq!(a.published("/log/copy").access, Access::secret());
    sink(a, b).await;
}

/// `rule-*` deletes at once what is superfluous and makes the rock that is due; 0 makes none, and what is needed
/// stays; `wipe-*` leaves the newest rock alone.
#[tokio::test(flavor = "multi_thread")]
async fn history_is_ruled_and_wiped() {
    let (a, b, ticket, _dirs) = two_ships().await;
    for (give, rule, wipe, path) in [
        ("log /other-log line", "rule-log /other-log", "wipe-log /other-log", "/other-log"),
        ("add 1", "rule-sum", "wipe-sum", "/sum/foo"),
    ] {
        assert!(a.refuses(&format!("{rule} 5 5")).await.contains("no state"));
        for _ in 0..20 {
            a.poke(give).await;
        }
        assert_eq!(a.kept(path), (20, 1), "everything since the default rock");
        a.poke(&format!("{rule} 5 3")).await;
        assert_eq!(a.kept(path), (5, 1), "the rock that was due, and the waves within the horizon");
        a.poke(&format!("{rule} 5 0")).await;
        assert_eq!(a.published(path).rule, Rule { frequency: Frequency::Never, horizon: Some(5) });
        for _ in 0..20 {
            a.poke(give).await;
        }
        assert_eq!(a.kept(path), (25, 1), "no rock is made, and no wave goes that a reader would need");
        a.poke(&format!("{rule} none 7")).await;
        for _ in 0..20 {
            a.poke(give).await;
        }
        assert_eq!(a.kept(path).1, 2, "the oldest and the newest rock");
        assert!(a.refuses(&format!("{rule} 5 often")).await.contains("digit"));
        a.poke(wipe).await;
        assert_eq!(a.kept(path), (0, 1));
    }
    b.poke(&format!("surf-sum {ticket} /sum/foo")).await;
    b.until_at(&a, "/sum/foo", 60, FreshnessKind::Live).await;
    sink(a, b).await;
}

/// What the prototype saves and loads by hand is there after a restart, and goes on by itself.
#[tokio::test(flavor = "multi_thread")]
async fn everything_is_there_after_a_restart() {
    let (a, b, ticket, dirs) = two_ships().await;
    a.poke("log /log crash").await;
    a.poke("rule-log /log none 5").await;
    a.poke("secret-sum").await;
    b.poke(&format!("surf-log {ticket}")).await;
    b.poke(&format!("surf-sum {ticket} /sum/foo")).await;
    until("the flag", || b.followed(&a, "/log").unwrap().fail.is_some()).await;
    let rule = a.published("/log").rule;
    sink(a, b).await;
    let a = Ship::launch(spawn_node(dirs.publisher_dir.path()).await).await;
    let b = Ship::launch(spawn_node(dirs.follower_dir.path()).await).await;
    assert!(b.followed(&a, "/log").unwrap().fail.is_some());
    assert_eq!(a.published("/log").rule, rule);
    assert_eq!(b.log_of(&a).await, ["crash"]);
    a.poke("add 42").await;
    a.poke("log /log on it goes").await;
    b.until_it_says("is on it goes", 1).await;
    until("the refusal", || b.followed(&a, "/sum/foo").unwrap().freshness == Freshness::NotAvailable).await;
    a.poke(&format!("allow-sum {}", b.node.id())).await;
    b.until_it_says("is 42", 1).await;
    sink(a, b).await;
}
