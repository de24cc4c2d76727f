//! Access: who may read a path, and that nobody else can tell it from what does not exist.

use std::time::{Duration, Instant};

use crate::common::{Pair, next, next_update, raw, spawn_node, until, until_caught_up, within};
use groundswell::{
    Access, AccessError, Aeon, Event, Freshness, ManageError, Node, PeerId, Publications, Source, Subscriptions,
    Updates,
    lakes::{Log, Sum},
};
use tempfile::TempDir;

struct Watched {
    pair: Pair,
    sums: Publications<Sum>,
    inbox: Subscriptions<Sum>,
    source: Source,
}

impl Watched {
    async fn new() -> Self {
        let pair = Pair::new().await;
        let sums = pair.publisher.agent("main").unwrap().publications::<Sum>("/sum/*").await.unwrap();
        let inbox = pair.follower.agent("main").unwrap().subscriptions::<Sum>("/sum/*").await.unwrap();
        let source = Source::new(pair.publisher.id(), "main", "/sum/a").unwrap();
        Self { pair, sums, inbox, source }
    }

    fn reader(&self) -> PeerId {
        self.pair.follower.id()
    }

    async fn surf(&self) -> Updates<Sum> {
        self.inbox.surf(self.source.clone()).await.unwrap()
    }

    async fn end(self) {
        self.pair.publisher.shutdown().await.unwrap();
        self.pair.follower.shutdown().await.unwrap();
    }
}

async fn until_fresh(updates: &mut Updates<Sum>, wanted: Freshness) {
    loop {
        match next(updates).await {
            Event::Freshness(freshness) if freshness == wanted => return,
            _ => {}
        }
    }
}

/// A path is public, or has a set of allowed peers: `public`, `secret`, `allow`, `block`.
#[tokio::test(flavor = "multi_thread")]
async fn a_path_is_public_or_open_to_the_peers_that_are_allowed() {
    let watched = Watched::new().await;
    let sums = &watched.sums;
    sums.give("/sum/a", 1).await.unwrap();
    assert_eq!(sums.read()[&watched.source.path].access, Access::Public, "the default");
    assert_eq!(sums.secret("/sum/a").await.unwrap(), Access::secret());
    let mut updates = watched.surf().await;
    until_fresh(&mut updates, Freshness::NotAvailable).await;
    assert_eq!(updates.cursor(), None, "nothing of it came");
    let allowed = sums.allow("/sum/a", [watched.reader()]).await.unwrap();
    assert_eq!(allowed, Access::Only([watched.reader()].into()));
    // Parked subscriptions that may now read begin by themselves.
    assert_eq!(until_caught_up(&mut updates).await, Aeon(1));
    sums.public("/sum/a").await.unwrap();
    sums.give("/sum/a", 2).await.unwrap();
    assert_eq!(next_update(&mut updates).await.wave, Some(2), "a wider access does not disturb a live reader");
    assert_eq!(watched.pair.publisher.status().publications[0].public, Some(true));
    watched.end().await;
}

/// `block` on a public path is a typed error.
#[tokio::test]
async fn block_on_a_public_path_is_a_typed_error() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let agent = node.agent("main").unwrap();
    let sums = agent.publications::<Sum>("/sum/*").await.unwrap();
    sums.give("/sum/a", 1).await.unwrap();
    let refused = sums.block("/sum/a", [node.id()]).await.unwrap_err();
    assert!(matches!(refused, ManageError::Access(AccessError::BlockOnPublic)));
    assert!(refused.to_string().contains("make it secret"), "{refused}");
    assert_eq!(sums.read().values().next().unwrap().access, Access::Public);
    // And of a path that is none, or that this handle is not declared on.
    assert!(matches!(sums.secret("/sum/").await, Err(ManageError::Path(_))));
    assert!(matches!(sums.secret("/other").await, Err(ManageError::NotDeclared { .. })));
    assert_eq!(sums.give("/sum/a", 1).await.unwrap(), Aeon(2), "the node is alive");
    node.shutdown().await.unwrap();
}

/// Access may be set before the first give, survives a restart, and the node's default may be secret.
#[tokio::test(flavor = "multi_thread")]
async fn access_may_be_set_before_the_first_give_and_survives_a_restart() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let agent = node.agent("main").unwrap();
    agent.secret("/sum/a").await.unwrap();
    node.shutdown().await.unwrap();
    let node = spawn_node(dir.path()).await;
    let sums = node.agent("main").unwrap().publications::<Sum>("/sum/*").await.unwrap();
    sums.give("/sum/a", 1).await.unwrap();
    sums.give("/sum/b", 1).await.unwrap();
    let access = |node: &Node, path: &str| {
        let published = node.agent("main").unwrap().published();
        published[&path.parse().unwrap()].access.clone()
    };
    assert_eq!(access(&node, "/sum/a"), Access::secret());
    assert_eq!(access(&node, "/sum/b"), Access::Public);
    node.shutdown().await.unwrap();
    // A later default changes nothing of what is published, and holds for what is not.
    let builder = Node::builder().data_dir(dir.path()).offline().bind("127.0.0.1:0".parse().unwrap());
    let node = builder.secret_by_default().spawn().await.unwrap();
    let sums = node.agent("main").unwrap().publications::<Sum>("/sum/*").await.unwrap();
    sums.give("/sum/c", 1).await.unwrap();
    let peer = node.id();
    sums.allow("/sum/d", [peer]).await.unwrap();
    sums.give("/sum/d", 1).await.unwrap();
    assert_eq!(access(&node, "/sum/a"), Access::secret());
    assert_eq!(access(&node, "/sum/b"), Access::Public);
    assert_eq!(access(&node, "/sum/c"), Access::secret());
    assert_eq!(access(&node, "/sum/d"), Access::Only([peer].into()));
    node.shutdown().await.unwrap();
    let node = spawn_node(dir.path()).await;
    node.agent("main").unwrap().publications::<Sum>("/sum/*").await.unwrap();
    assert_eq!(access(&node, "/sum/c"), Access::secret(), "what began as secret stays so");
    node.shutdown().await.unwrap();
}

/// Changes reach live readers at once: their stream ends as for a killed path.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_blocked_is_told_as_of_a_killed_path_and_keeps_what_it_has() {
    let watched = Watched::new().await;
    let sums = &watched.sums;
    sums.secret("/sum/a").await.unwrap();
    sums.allow("/sum/a", [watched.reader()]).await.unwrap();
    sums.give_all("/sum/a", [20, 20]).await.unwrap();
    let mut updates = watched.surf().await;
    assert_eq!(until_caught_up(&mut updates).await, Aeon(2));
    sums.block("/sum/a", [watched.reader()]).await.unwrap();
    sums.give("/sum/a", 1).await.unwrap();
    until_fresh(&mut updates, Freshness::Killed).await;
    let state = watched.inbox.read()[&watched.source].clone();
    assert!(state.stale());
    assert_eq!(watched.inbox.with_rock(&watched.source, |sum, aeon| (*sum, aeon)).await.unwrap(), (40, Aeon(2)));
    // It goes on from where it stood when it may read again.
    sums.allow("/sum/a", [watched.reader()]).await.unwrap();
    let update = next_update(&mut updates).await;
    assert_eq!((update.wave, update.aeon()), (Some(1), Aeon(3)));
    assert_eq!(until_caught_up(&mut updates).await, Aeon(3));
    watched.end().await;
}

/// Access is changed by a function over the set; one that panics changes nothing.
#[tokio::test]
async fn access_is_changed_by_a_function_over_the_set() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let sums = node.agent("main").unwrap().publications::<Sum>("/sum/*").await.unwrap();
    sums.secret("/sum/a").await.unwrap();
    let peer = node.id();
    let twice = |access: Access<PeerId>| match access {
        Access::Only(mut peers) if peers.is_empty() => {
            peers.insert("ae58ff8833241ac82d6ff7611046ed67b5072d142c588d0063e942d9a75502b6".parse().unwrap());
            Access::Only(peers)
        }
        other => other,
    };
    let changed = sums.change_access("/sum/a", twice).await.unwrap();
    assert!(matches!(&changed, Access::Only(peers) if peers.len() == 1));
    assert_eq!(sums.change_access("/sum/a", twice).await.unwrap(), changed);
    let panicked = sums.change_access("/sum/a", |_| panic!("unlucky")).await.unwrap_err();
    assert!(matches!(&panicked, ManageError::Panicked(message) if message == "unlucky"), "{panicked}");
    let both = sums.allow("/sum/a", [peer]).await.unwrap();
    assert!(matches!(&both, Access::Only(peers) if peers.len() == 2), "the panic changed nothing");
    node.shutdown().await.unwrap();
}

/// A surf of a path that is unknown, killed, or not open to this peer gets one and the same answer:
/// in bytes, and in time to within noise.
#[tokio::test(flavor = "multi_thread")]
async fn unknown_killed_and_closed_paths_are_one_in_bytes_and_in_time() {
    // Time is under test.
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let agent = node.agent("main").unwrap();
    let logs = agent.publications::<Log>("/log/*").await.unwrap();
    for path in ["/log/killed", "/log/secret", "/log/other"] {
        logs.give(path, "what nobody is to know".to_owned()).await.unwrap();
    }
    logs.kill("/log/killed").await.unwrap();
    logs.secret("/log/secret").await.unwrap();
    let other = raw::endpoint().await;
    logs.secret("/log/other").await.unwrap();
    logs.allow("/log/other", [other.id()]).await.unwrap();
    let endpoint = raw::endpoint().await;
    let connection = endpoint.connect(raw::address(&node.ticket()), raw::ALPN).await.unwrap();
    raw::hello(&connection).await;
    // The lake and the agent tell nothing either.
    let asks = [
        raw::surf("main", "/log/unknown", "log", None),
        raw::surf("main", "/log/killed", "log", None),
        raw::surf("main", "/log/secret", "log", None),
        raw::surf("main", "/log/secret", "sum", None),
        raw::surf("main", "/log/other", "log", None),
        raw::surf("nobody", "/log/secret", "log", None),
    ];
    let mut spent = vec![Vec::new(); asks.len()];
    for _ in 0..60 {
        for (ask, spent) in asks.iter().zip(&mut spent) {
            let begun = Instant::now();
            let (mut send, mut recv) = raw::ask(&connection, ask).await;
            let answer = within("the answer", raw::read_frame(&mut recv)).await.unwrap();
            spent.push(begun.elapsed());
            assert_eq!(answer, [0], "the tag of `not available`, and nothing more: {ask:?}");
            send.finish().unwrap();
        }
    }
    let medians: Vec<Duration> = spent
        .iter_mut()
        .map(|spent| {
            spent.sort();
            spent[spent.len() / 2]
        })
        .collect();
    let (least, most) = (medians.iter().min().unwrap(), medians.iter().max().unwrap());
    // Generous, on a machine that does other things: what reads storage or waits takes longer.
    assert!(*most < *least * 3 + Duration::from_millis(1), "{medians:?}");
    node.shutdown().await.unwrap();
}

/// The agents of the publishing node may always read, whatever the access.
#[tokio::test]
async fn the_nodes_own_agents_may_always_read() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let sums = node.agent("till").unwrap().publications::<Sum>("/sum").await.unwrap();
    sums.secret("/sum").await.unwrap();
    sums.give("/sum", 7).await.unwrap();
    let inbox = node.agent("screen").unwrap().subscriptions::<Sum>("/sum").await.unwrap();
    let mut updates = inbox.surf(Source::new(node.id(), "till", "/sum").unwrap()).await.unwrap();
    assert_eq!(until_caught_up(&mut updates).await, Aeon(1));
    node.shutdown().await.unwrap();
}

/// Who is blocked in the middle of a large rock gets no more of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_rock_under_way_stops_when_its_reader_is_blocked() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let agent = node.agent("main").unwrap();
    let logs = agent.publications::<Log>("/log").await.unwrap();
    for _ in 0..40 {
        logs.give("/log", "x".repeat(1_000_000)).await.unwrap();
    }
    logs.wipe("/log").await.unwrap();
    let endpoint = raw::endpoint().await;
    logs.secret("/log").await.unwrap();
    logs.allow("/log", [endpoint.id()]).await.unwrap();
    let connection = endpoint.connect(raw::address(&node.ticket()), raw::ALPN).await.unwrap();
    raw::hello(&connection).await;
    let (_send, mut recv) = raw::ask(&connection, &raw::surf("main", "/log", "log", None)).await;
    assert!(within("the rock", raw::read_message(&mut recv)).await.unwrap().contains("Rock"));
    // Unread, the rest stands at flow control.
    logs.block("/log", [endpoint.id()]).await.unwrap();
    let mut chunks = 0;
    let last = loop {
        match within("the end", raw::read_frame(&mut recv)).await.unwrap() {
            body if body.len() > 1 => chunks += 1,
            body => break body,
        }
    };
    assert_eq!(last, [0], "not available");
    assert!(chunks * 64 * 1024 < 20_000_000, "what was on its way, not the rest: {chunks} chunks");
    until("the parked stream", || node.metrics().parked_readers_now == 1).await;
    node.shutdown().await.unwrap();
}
