//! An agent's program: one handler for everything that it follows.

use std::sync::{Arc, Mutex};

use crate::common::{Pair, spawn_node, until, within};
use groundswell::{
    Freshness, HandlerError, OnRock, PublicationState, Source, Surfed,
    lakes::{Log, Sum},
};
use tokio::sync::Semaphore;

/// What the handler saw, a line a call.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    fn push(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    async fn wait_for(&self, line: &str) {
        let seen = self.clone();
        until(line, || seen.all().iter().any(|one| one == line)).await;
    }
}

struct Handler {
    seen: Seen,
    /// One permit a call, where the test holds the handler up.
    turns: Option<Arc<Semaphore>>,
}

impl Handler {
    async fn turn(&self) {
        if let Some(turns) = &self.turns {
            turns.acquire().await.unwrap().forget();
        }
    }
}

impl OnRock<Log> for Handler {
    async fn on_rock(&mut self, surfed: Surfed<Log>) -> Result<(), HandlerError> {
        let line = match surfed.segments()[..] {
            ["log"] => format!("log {:?}", surfed.rock().last()),
            ["chats", ref room @ ..] => format!("{} says {:?}", room.join("."), surfed.wave),
            _ => unreachable!("not declared"),
        };
        self.seen.push(format!("{line}{}", if surfed.stale { " stale" } else { "" }));
        match surfed.wave.as_deref() {
            Some("fail") => Err("it was to fail".into()),
            Some("panic") => panic!("it was to panic"),
            _ => Ok(()),
        }
    }
}

impl OnRock<Sum> for Handler {
    async fn on_rock(&mut self, surfed: Surfed<Sum>) -> Result<(), HandlerError> {
        let (sum, aeon, wave) = (*surfed.rock(), surfed.aeon(), surfed.wave);
        // The maps of the agent's current states are at hand.
        let followed = surfed.agent().followed().len();
        drop(surfed);
        self.turn().await;
        self.seen.push(format!("sum {sum} at {aeon} by {wave:?} of {followed}"));
        Ok(())
    }

    fn on_freshness(&mut self, source: &Source, freshness: &Freshness) {
        self.seen.push(format!("{} is {:?}", source.path, freshness.kind()));
    }
}

/// One typed handler gets everything that the agent follows, matches on the path, with what `/*` stands
/// for as data; and is called when `stale` changes.
#[tokio::test(flavor = "multi_thread")]
async fn one_handler_gets_every_state_and_matches_on_the_path() {
    let Pair { publisher, follower, publisher_dir: _dir, follower_dir: _other } = Pair::new().await;
    let main = publisher.agent("main").unwrap();
    let logs = main.publications::<Log>("/log").await.unwrap();
    let chats = main.publications::<Log>("/chats/*").await.unwrap();
    let sums = main.publications::<Sum>("/sum").await.unwrap();
    logs.give("/log", "hello".to_owned()).await.unwrap();
    let agent = follower.agent("screen").unwrap();
    let (log_in, chats_in, sum_in) = (
        agent.subscriptions::<Log>("/log").await.unwrap(),
        agent.subscriptions::<Log>("/chats/*").await.unwrap(),
        agent.subscriptions::<Sum>("/sum").await.unwrap(),
    );
    let seen = Seen::default();
    let handler = Handler { seen: seen.clone(), turns: None };
    let program = agent.program(handler).handles(&log_in).handles(&chats_in).handles(&sum_in).start();
    let source = |path: &str| Source::new(publisher.id(), "main", path).unwrap();
    log_in.surf(source("/log")).await.unwrap();
    seen.wait_for(r#"log Some("hello")"#).await;
    for path in ["/chats/one", "/chats/one/side"] {
        chats.open(path).await.unwrap();
        chats_in.surf(source(path)).await.unwrap();
    }
    sum_in.surf(source("/sum")).await.unwrap();
    seen.wait_for("/sum is NotAvailable").await;
    sums.open("/sum").await.unwrap();
    seen.wait_for("sum 0 at 0 by None of 4").await;
    for path in ["/chats/one", "/chats/one/side"] {
        until("the room", || chats_in.read()[&source(path)].freshness == Freshness::Live).await;
        seen.wait_for(&format!("{} says None", path[7..].replace('/', "."))).await;
        chats.give(path, "hi".to_owned()).await.unwrap();
    }
    seen.wait_for(r#"one says Some("hi")"#).await;
    seen.wait_for(r#"one.side says Some("hi")"#).await;
    sums.give("/sum", 42).await.unwrap();
    seen.wait_for("sum 42 at 1 by Some(42) of 4").await;
    // A source that is quit is handled no more; one that goes away is told as stale.
    chats_in.quit(&source("/chats/one")).await.unwrap();
    publisher.shutdown().await.unwrap();
    seen.wait_for(r#"log Some("hello") stale"#).await;
    seen.wait_for("one.side says None stale").await;
    assert!(
        !seen.all().contains(&"one says None stale".to_owned()) || {
            // It may have been stale before it had caught up, not after it was quit.
            let all = seen.all();
            let hi = all.iter().position(|line| line == r#"one says Some("hi")"#).unwrap();
            !all[hi..].contains(&"one says None stale".to_owned())
        }
    );
    within("the program's end", program.stop()).await;
    follower.shutdown().await.unwrap();
}

/// A wave comes with a rock only if it produced that very rock, and a handler that lags is given the
/// newest rock with no wave.
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_lags_gets_the_newest_rock_with_no_wave() {
    let dir = tempfile::TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let agent = node.agent("main").unwrap();
    let sums = agent.publications::<Sum>("/sum").await.unwrap();
    sums.open("/sum").await.unwrap();
    let inbox = agent.subscriptions::<Sum>("/sum").await.unwrap();
    let (seen, turns) = (Seen::default(), Arc::new(Semaphore::new(1)));
    let handler = Handler { seen: seen.clone(), turns: Some(turns.clone()) };
    let program = agent.program(handler).handles(&inbox).start();
    inbox.surf(Source::new(node.id(), "main", "/sum").unwrap()).await.unwrap();
    seen.wait_for("sum 0 at 0 by None of 1").await;
    for n in 1..=3 {
        turns.add_permits(1);
        sums.give("/sum", n).await.unwrap();
        seen.wait_for(&format!("sum {} at {n} by Some({n}) of 1", n * (n + 1) / 2)).await;
    }
    // It takes the fourth wave, and stands; the writer does not.
    sums.give("/sum", 4).await.unwrap();
    until("the handler to have it", || turns.available_permits() == 0).await;
    for _ in 0..2_000 {
        sums.give("/sum", 1).await.unwrap();
    }
    turns.add_permits(10);
    seen.wait_for("sum 2010 at 2004 by None of 1").await;
    assert!(seen.all().len() < 12, "the waves between were skipped: {:?}", seen.all());
    sums.give("/sum", 1).await.unwrap();
    seen.wait_for("sum 2011 at 2005 by Some(1) of 1").await;
    node.shutdown().await.unwrap();
    within("the program's end", program.ended()).await;
}

/// If it returns an error or panics, the state is flagged `fail` until the next update, over a restart too;
/// the state stays readable.
#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_the_handler_failed_on_is_flagged_until_the_next_update() {
    let dir = tempfile::TempDir::new().unwrap();
    let source = |node: &groundswell::Node| Source::new(node.id(), "main", "/log").unwrap();
    let mut node = spawn_node(dir.path()).await;
    for (failing, reason) in [("fail", "it was to fail"), ("panic", "it panicked: it was to panic")] {
        let agent = node.agent("main").unwrap();
        let logs = agent.publications::<Log>("/log").await.unwrap();
        logs.open("/log").await.unwrap();
        let inbox = agent.subscriptions::<Log>("/log").await.unwrap();
        let seen = Seen::default();
        let program = agent.program(Handler { seen: seen.clone(), turns: None }).handles(&inbox).start();
        inbox.surf(source(&node)).await.unwrap();
        until("the first call", || !seen.all().is_empty()).await;
        let fail = || inbox.read()[&source(&node)].fail.clone();
        logs.give("/log", failing.to_owned()).await.unwrap();
        until("the flag", || fail().as_deref() == Some(reason)).await;
        let last = inbox.with_rock(&source(&node), |rock, _| rock.last().cloned()).await.unwrap();
        assert_eq!(last.as_deref(), Some(failing), "it stays readable");
        drop(program);
        node.shutdown().await.unwrap();
        // A later run has the flag, though its handler takes the same state, with no wave, well.
        node = spawn_node(dir.path()).await;
        let agent = node.agent("main").unwrap();
        let logs = agent.publications::<Log>("/log").await.unwrap();
        let inbox = agent.subscriptions::<Log>("/log").await.unwrap();
        let fail = || inbox.read()[&source(&node)].fail.clone();
        assert_eq!(fail().as_deref(), Some(reason));
        let seen = Seen::default();
        let program = agent.program(Handler { seen: seen.clone(), turns: None }).handles(&inbox).start();
        seen.wait_for(&format!("log Some({failing:?})")).await;
        assert_eq!(fail().as_deref(), Some(reason));
        logs.give("/log", "well".to_owned()).await.unwrap();
        until("the flag to go", || fail().is_none()).await;
        drop(program);
        node.shutdown().await.unwrap();
        node = spawn_node(dir.path()).await;
    }
    node.shutdown().await.unwrap();
}

/// Handling is optional: `read()` on both sides always gives the map of current states with their flags,
/// and for publications who is allowed.
#[tokio::test(flavor = "multi_thread")]
async fn reading_needs_no_handler_and_no_state_of_the_agents_own() {
    let pair = Pair::new().await;
    let main = pair.publisher.agent("main").unwrap();
    let logs = main.publications::<Log>("/log/*").await.unwrap();
    let sums = main.publications::<Sum>("/sum").await.unwrap();
    logs.give("/log/a", "one".to_owned()).await.unwrap();
    logs.give("/log/b", "two".to_owned()).await.unwrap();
    sums.give("/sum", 3).await.unwrap();
    sums.secret("/sum").await.unwrap();
    assert_eq!(logs.rocks().await.into_values().map(|(_, rock)| rock).collect::<Vec<_>>(), [["one"], ["two"]]);
    let published = main.published();
    assert_eq!(published.len(), 3, "whatever their lake");
    let public = |state: &PublicationState| state.access == groundswell::Access::Public;
    assert_eq!(published.values().filter(|state| public(state)).count(), 2);
    let inbox = pair.follower.agent("main").unwrap().subscriptions::<Log>("/log/*").await.unwrap();
    for path in ["/log/a", "/log/b"] {
        inbox.surf(Source::new(pair.publisher.id(), "main", path).unwrap()).await.unwrap();
    }
    until("both", || inbox.read().values().all(|state| !state.stale())).await;
    let rocks = inbox.rocks().await;
    assert_eq!(rocks.into_values().map(|(_, rock)| rock).collect::<Vec<_>>(), [["one"], ["two"]]);
    assert!(inbox.read().values().all(|state| state.fail.is_none()));
    pair.publisher.shutdown().await.unwrap();
    pair.follower.shutdown().await.unwrap();
}

/// A program went on with what its agent had quit, where another agent followed it too.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_has_nothing_more_of_what_its_agent_has_quit() {
    let dir = tempfile::TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let sums = node.agent("till").unwrap().publications::<Sum>("/sum").await.unwrap();
    sums.open("/sum").await.unwrap();
    let source = Source::new(node.id(), "till", "/sum").unwrap();
    let mut seen = Vec::new();
    let mut programs = Vec::new();
    let mut inboxes = Vec::new();
    for name in ["one", "two"] {
        let agent = node.agent(name).unwrap();
        let inbox = agent.subscriptions::<Sum>("/sum").await.unwrap();
        let handler = Handler { seen: Seen::default(), turns: None };
        seen.push(handler.seen.clone());
        programs.push(agent.program(handler).handles(&inbox).start());
        inbox.surf(source.clone()).await.unwrap();
        inboxes.push(inbox);
    }
    for seen in &seen {
        seen.wait_for("sum 0 at 0 by None of 1").await;
    }
    inboxes[0].quit(&source).await.unwrap();
    sums.give("/sum", 1).await.unwrap();
    seen[1].wait_for("sum 1 at 1 by Some(1) of 1").await;
    // Followed again, it is handled again, from the state as it is.
    inboxes[0].surf(source).await.unwrap();
    seen[0].wait_for("sum 1 at 1 by None of 1").await;
    assert!(!seen[0].all().contains(&"sum 1 at 1 by Some(1) of 1".to_owned()), "{:?}", seen[0].all());
    node.shutdown().await.unwrap();
}

/// A shutdown cut a handler off in the middle, and never gave it what had been committed.
#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_lets_the_handler_have_what_was_committed() {
    let dir = tempfile::TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let agent = node.agent("main").unwrap();
    let sums = agent.publications::<Sum>("/sum").await.unwrap();
    sums.open("/sum").await.unwrap();
    let inbox = agent.subscriptions::<Sum>("/sum").await.unwrap();
    let (seen, turns) = (Seen::default(), Arc::new(Semaphore::new(1)));
    let handler = Handler { seen: seen.clone(), turns: Some(turns.clone()) };
    let _program = agent.program(handler).handles(&inbox).start();
    inbox.surf(Source::new(node.id(), "main", "/sum").unwrap()).await.unwrap();
    seen.wait_for("sum 0 at 0 by None of 1").await;
    sums.give("/sum", 1).await.unwrap();
    sums.give("/sum", 1).await.unwrap();
    let down = tokio::spawn({
        let node = node.clone();
        async move { node.shutdown().await }
    });
    until("the shutdown to begin", || node.is_shutdown()).await;
    turns.add_permits(10);
    down.await.unwrap().unwrap();
    let last = seen.all().pop().unwrap();
    assert!(last.starts_with("sum 2 at 2"), "{last}");
}

/// Panics before it has made its future, and in the text of its error.
struct Rude(Seen);

struct RudeError;
impl std::fmt::Debug for RudeError {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("rude to debug")
    }
}
impl std::fmt::Display for RudeError {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("rude to show")
    }
}
impl std::error::Error for RudeError {}

impl OnRock<Sum> for Rude {
    #[allow(clippy::manual_async_fn)] // it is the point
    fn on_rock(&mut self, surfed: Surfed<Sum>) -> impl Future<Output = Result<(), HandlerError>> + Send {
        let sum = *surfed.rock();
        self.0.push(format!("{sum}"));
        assert_ne!(sum, 13, "unlucky");
        async move { if sum == 14 { Err(RudeError.into()) } else { Ok(()) } }
    }
}

/// A panic outside a handler's future ended its program, and all its sources with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_panics_anywhere_is_called_again() {
    let dir = tempfile::TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let agent = node.agent("main").unwrap();
    let sums = agent.publications::<Sum>("/sum").await.unwrap();
    sums.open("/sum").await.unwrap();
    let inbox = agent.subscriptions::<Sum>("/sum").await.unwrap();
    let seen = Seen::default();
    let _program = agent.program(Rude(seen.clone())).handles(&inbox).start();
    let source = Source::new(node.id(), "main", "/sum").unwrap();
    inbox.surf(source.clone()).await.unwrap();
    seen.wait_for("0").await;
    let fail = || inbox.read()[&source].fail.clone();
    sums.give("/sum", 13).await.unwrap();
    until("the flag", || fail().is_some_and(|fail| fail.contains("unlucky"))).await;
    sums.give("/sum", 1).await.unwrap();
    until("the other flag", || fail().is_some_and(|fail| fail.contains("rude to show"))).await;
    sums.give("/sum", 1).await.unwrap();
    until("no flag", || fail().is_none()).await;
    node.shutdown().await.unwrap();
}
