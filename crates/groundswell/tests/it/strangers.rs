//! "A stranger costs a constant": peers with identities of their own, of which anyone can make any number, against one
//! node. What they make it hold is bounded over all of them, and those that the node knows notice nothing.
#![allow(clippy::unwrap_used)] // helpers outside of test functions

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use groundswell::{Agent, Node, Publications, Source, lakes::Log, limits};
use iroh::{
    Endpoint, EndpointAddr,
    endpoint::{Connection, RecvStream},
};
use tempfile::TempDir;
use tokio::net::UdpSocket;

use crate::common::{Pair, next_update, raw, spawn_node, until, until_caught_up, within};

/// A node that publishes something public, and something that is secret.
struct Target {
    node: Node,
    agent: Agent,
    logs: Publications<Log>,
    dir: TempDir,
}

impl Target {
    async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let node = spawn_node(dir.path()).await;
        Self::of(node, dir).await
    }

    async fn private() -> Self {
        let dir = TempDir::new().unwrap();
        let builder = Node::builder().data_dir(dir.path()).offline().bind("127.0.0.1:0".parse().unwrap());
        Self::of(builder.private().spawn().await.unwrap(), dir).await
    }

    async fn of(node: Node, dir: TempDir) -> Self {
        let agent = node.agent("main").unwrap();
        let logs = agent.publications::<Log>("/log/*").await.unwrap();
        logs.give("/log/a", "public".to_owned()).await.unwrap();
        logs.give("/log/secret", "secret".to_owned()).await.unwrap();
        agent.secret("/log/secret").await.unwrap();
        Self { node, agent, logs, dir }
    }

    fn address(&self) -> EndpointAddr {
        raw::address(&self.node.ticket())
    }

    /// A connection of a peer that nobody has met before.
    async fn stranger(&self) -> (Endpoint, Connection) {
        let endpoint = raw::endpoint().await;
        let connection = within("a connection", endpoint.connect(self.address(), raw::ALPN)).await.unwrap();
        (endpoint, connection)
    }

    async fn greeted(&self) -> (Endpoint, Connection) {
        let (endpoint, connection) = self.stranger().await;
        raw::hello(&connection).await;
        (endpoint, connection)
    }

    /// A node that comes only now reads what is public.
    async fn lets_a_follower_in(&self) {
        let dir = TempDir::new().unwrap();
        let follower = spawn_node(dir.path()).await;
        follower.add_peer(&self.node.ticket()).await.unwrap();
        let inbox = follower.agent("main").unwrap().subscriptions::<Log>("/log/*").await.unwrap();
        let source = Source::new(self.node.id(), "main", "/log/a").unwrap();
        until_caught_up(&mut inbox.surf(source).await.unwrap()).await;
        follower.shutdown().await.unwrap();
    }
}

async fn answer(recv: &mut RecvStream) -> String {
    within("an answer", raw::read_message(recv)).await.unwrap_or_else(|| "nothing".to_owned())
}

async fn code(connection: &Connection) -> u64 {
    within("the close", raw::closed(connection)).await.0
}

/// Writes on as many streams as it is let, until nothing more is taken for a while; how many streams and bytes that were, and
/// the streams.
async fn flood(connection: &Connection) -> (usize, usize, tokio::task::JoinSet<()>) {
    let (streams, bytes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..80 {
        let (connection, streams, bytes) = (connection.clone(), streams.clone(), bytes.clone());
        tasks.spawn(async move {
            if n % 2 == 0 {
                // One that goes one way and is left empty, since its bytes would be a hello.
                let opened = connection.open_uni().await;
                streams.fetch_add(usize::from(opened.is_ok()), Ordering::SeqCst);
                return std::future::pending().await;
            }
            let Ok((mut stream, _recv)) = connection.open_bi().await else { return };
            streams.fetch_add(1, Ordering::SeqCst);
            while let Ok(written) = stream.write(&[0; 4_096]).await {
                bytes.fetch_add(written, Ordering::SeqCst);
            }
        });
    }
    // That nothing more is taken shows only in time.
    let mut before = usize::MAX;
    while before != bytes.load(Ordering::SeqCst) {
        before = bytes.load(Ordering::SeqCst);
        // Time is under test: nothing more is taken for so long.
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    (streams.load(Ordering::SeqCst), before, tasks)
}

/// Twelve connections without a hello, each of a key of its own, put what they can into the node.
#[tokio::test(flavor = "multi_thread")]
async fn until_its_hello_a_connection_has_a_small_window_few_streams_and_little_time() {
    let target = Target::new().await;
    let begun = Instant::now();
    let mut floods = tokio::task::JoinSet::new();
    for alpn in [&b"groundswell/surf"[..], b"groundswell/kv", b"groundswell/claim"].repeat(4) {
        let (endpoint, address) = (raw::endpoint().await, target.address());
        floods.spawn(async move {
            let connection = endpoint.connect(address, alpn).await.unwrap();
            assert_eq!(connection.max_datagram_size(), None, "nobody reads datagrams, so that none are kept");
            // A node without a role closes the others at once.
            let taken = if alpn == raw::ALPN { flood(&connection).await } else { Default::default() };
            (endpoint, connection, taken)
        });
    }
    for (_endpoint, connection, (streams, bytes, _open)) in floods.join_all().await {
        assert!(streams <= 4 && bytes <= 16 * 1024, "{streams} streams, {bytes} bytes");
        within("the close", connection.closed()).await;
    }
    assert!(begun.elapsed() >= limits::HELLO_TIMEOUT, "a hello may take so long");
    until("all of them to be gone", || target.node.metrics().connections_now == 0).await;
    target.lets_a_follower_in().await;
}

/// Once it has said hello it may open what a peer may, one after the other as they get places.
#[tokio::test(flavor = "multi_thread")]
async fn after_its_hello_a_peer_may_have_a_thousand_subscriptions() {
    let target = Target::new().await;
    let (_endpoint, connection) = target.greeted().await;
    let mut held = Vec::new();
    for _ in 0..1_000 {
        held.push(within("a stream", raw::ask(&connection, &raw::surf("main", "/log/a", "log", None))).await);
    }
    until("all of them to be served", || target.node.metrics().remote_readers_now == 1_000).await;
}

/// Six identities ask for three hundred paths of 4 KB each that are not there.
#[tokio::test(flavor = "multi_thread")]
async fn what_strangers_wait_for_is_bounded_over_all_of_them() {
    let target = Target::new().await;
    let pair = Pair::new().await;
    let refused = Arc::new(AtomicUsize::new(0));
    let mut attackers = Vec::new();
    for attacker in 0..6 {
        let (endpoint, connection) = target.greeted().await;
        let refused = refused.clone();
        let asking = tokio::spawn(async move {
            let mut streams = tokio::task::JoinSet::new();
            for n in 0..300 {
                let path = format!("/{}/{attacker}-{n}", vec!["x".repeat(250); 15].join("/"));
                let (send, mut recv) = raw::ask(&connection, &raw::surf("main", &path, "log", None)).await;
                let refused = refused.clone();
                streams.spawn(async move {
                    let answer = raw::read_message(&mut recv).await.unwrap_or_default();
                    let crowded = answer.contains("Crowded");
                    refused.fetch_add(usize::from(crowded), Ordering::SeqCst);
                    // A stream that is held on to after its refusal makes no room for another.
                    (!crowded).then_some((send, recv))
                });
            }
            (endpoint, connection, streams.join_all().await)
        });
        attackers.push(asking);
    }
    let mut held = Vec::new();
    for attacker in attackers {
        held.push(within("an attacker", attacker).await.unwrap());
    }
    // Room for 1 MiB of names.
    let parked = 1024 * 1024 / (15 * 251 + 10);
    let waiting = target.node.metrics().parked_readers_now;
    assert!(waiting > 200 && waiting <= parked, "{waiting} wait, of {parked} that may");
    assert_eq!(refused.load(Ordering::SeqCst), 1_800 - usize::try_from(waiting).unwrap());
    // Whom the node knows waits as long as it likes, for as much.
    target.agent.allow("/log/for-one", [pair.follower.id()]).await.unwrap();
    pair.follower.add_peer(&target.node.ticket()).await.unwrap();
    let inbox = pair.follower.agent("main").unwrap().subscriptions::<Log>("/log/*").await.unwrap();
    let source = Source::new(target.node.id(), "main", "/log/for-one").unwrap();
    let mut updates = inbox.surf(source).await.unwrap();
    until("one more to wait", || target.node.metrics().parked_readers_now == waiting + 1).await;
    target.logs.give("/log/for-one", "here".to_owned()).await.unwrap();
    next_update(&mut updates).await;
    target.lets_a_follower_in().await;
    drop(held);
    until("all of it to be free", || target.node.metrics().parked_readers_now == 0).await;
}

/// Two hundred strangers that say hello, ask for what is not there, and stay.
#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_takes_the_place_of_the_oldest_stranger_and_of_nobody_else() {
    let target = Target::new().await;
    let (_reads, follower) = target.greeted().await;
    let (_reads_more, mut reading) = raw::ask(&follower, &raw::surf("main", "/log/a", "log", None)).await;
    assert!(answer(&mut reading).await.starts_with("Rock"));
    let (allowed, known) = target.stranger().await;
    target.agent.allow("/log/secret", [allowed.id()]).await.unwrap();
    raw::hello(&known).await;
    let mut strangers = Vec::new();
    for _ in 0..limits::MAX_STRANGERS + 20 {
        let (endpoint, connection) = target.greeted().await;
        let (_, mut recv) = raw::ask(&connection, &raw::surf("main", "/log/none", "log", None)).await;
        let _ = within("an answer", raw::read_message(&mut recv)).await;
        strangers.push((endpoint, connection));
        assert!(target.node.connections().strangers <= limits::MAX_STRANGERS);
    }
    for (_, connection) in &strangers[..20] {
        assert_eq!(code(connection).await, 17);
    }
    assert!(strangers[21..].iter().all(|(_, connection)| connection.close_reason().is_none()), "the others stand");
    assert!(follower.close_reason().is_none() && known.close_reason().is_none(), "and so do those that are none");
    let connections = target.node.connections();
    assert_eq!((connections.strangers, connections.followers, connections.known), (limits::MAX_STRANGERS, 1, 1));
    assert!(target.node.metrics().strangers_evicted >= 20);
    target.lets_a_follower_in().await;
    drop(strangers);
    until("all places to be free", || target.node.connections().strangers == 0).await;
}

/// Forwards what comes to the node, and of what the node answers only Retry packets: so a handshake never ends.
async fn deaf_proxy(node: std::net::SocketAddr) -> std::net::SocketAddr {
    deaf_proxy_at(node, "127.0.0.1:0".parse().unwrap()).await
}

/// The same, which the node sees at this address.
async fn deaf_proxy_at(node: std::net::SocketAddr, at: std::net::SocketAddr) -> std::net::SocketAddr {
    let (inside, outside) = (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind(at).await.unwrap());
    let address = inside.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut from_client, mut from_node) = (vec![0; 65_536], vec![0; 65_536]);
        let mut client = None;
        loop {
            tokio::select! {
                Ok((bytes, from)) = inside.recv_from(&mut from_client) => {
                    client = Some(from);
                    let _ = outside.send_to(&from_client[..bytes], node).await;
                }
                Ok((bytes, _)) = outside.recv_from(&mut from_node) => {
                    let is_retry = from_node[0] & 0xf0 == 0xf0;
                    if let (true, Some(client)) = (is_retry, client) {
                        let _ = inside.send_to(&from_node[..bytes], client).await;
                    }
                }
            }
        }
    });
    address
}

/// Handshakes that never end: their number is bounded, their addresses are validated, and newcomers get in meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_never_end_are_given_up_and_keep_nobody_out() {
    let target = Target::new().await;
    let node = *target.address().ip_addrs().next().unwrap();
    let mut attacks = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let (endpoint, proxy) = (raw::endpoint().await, deaf_proxy(node).await);
        let address = EndpointAddr::new(target.node.id()).with_ip_addr(proxy);
        attacks.spawn(async move {
            // Many at once, again and again.
            loop {
                let tries = (0..20).map(|_| endpoint.connect(address.clone(), raw::ALPN));
                let tries = futures_util::future::join_all(tries);
                let _ = tokio::time::timeout(Duration::from_secs(2), tries).await;
            }
        });
    }
    let most = Arc::new(Mutex::new(0));
    until("handshakes to be given up", || {
        let mut most = most.lock().unwrap();
        *most = target.node.connections().handshakes.max(*most);
        let metrics = target.node.metrics();
        metrics.handshakes_given_up > 100 && metrics.addresses_validated > 100
    })
    .await;
    assert!(*most.lock().unwrap() <= limits::MAX_HALF_OPEN, "{most:?} at once");
    target.lets_a_follower_in().await;
    attacks.shutdown().await;
    until("all of them to be over", || target.node.connections().handshakes == 0).await;
}

/// Whoever holds the address of a peer that the node follows, and cannot prove to be that peer, begins few handshakes there; and
/// none more than anyone else once the node does not follow that peer any more.
#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_never_end_from_the_address_of_a_followed_peer_are_bounded() {
    let target = Target::new().await;
    let node = *target.address().ip_addrs().next().unwrap();
    let (dir, followed) = (TempDir::new().unwrap(), "127.0.0.1:0".parse().unwrap());
    let peer = Node::builder().data_dir(dir.path()).offline().bind(followed).spawn().await.unwrap();
    target.node.add_peer(&peer.ticket()).await.unwrap();
    let inbox = target.agent.subscriptions::<Log>("/followed/*").await.unwrap();
    let source = Source::new(peer.id(), "main", "/followed/a").unwrap();
    inbox.follow(source.clone()).await.unwrap();
    until("the two to meet", || target.node.connections().known > 0).await;
    let at = *raw::address(&peer.ticket()).ip_addrs().next().unwrap();
    peer.shutdown().await.unwrap();
    let proxy = deaf_proxy_at(node, at).await;
    let address = EndpointAddr::new(target.node.id()).with_ip_addr(proxy);
    let mut attacks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (endpoint, address) = (raw::endpoint().await, address.clone());
        attacks.spawn(async move {
            loop {
                let tries = (0..50).map(|_| endpoint.connect(address.clone(), raw::ALPN));
                let _ = tokio::time::timeout(Duration::from_secs(2), futures_util::future::join_all(tries)).await;
            }
        });
    }
    for (follows, bound) in
        [(true, limits::MAX_HALF_OPEN + limits::MAX_HALF_OPEN_OF_CHOSEN), (false, limits::MAX_HALF_OPEN)]
    {
        if !follows {
            target.agent.quit(&source).await.unwrap();
            // The time that a handshake may take is under test: those of before are over then.
            let quit = Instant::now();
            until("the earlier handshakes to end", || quit.elapsed() > limits::HELLO_TIMEOUT).await;
        }
        let (before, most) = (target.node.metrics().handshakes_given_up, Mutex::new(0));
        until("handshakes to be given up", || {
            let mut most = most.lock().unwrap();
            *most = target.node.connections().handshakes.max(*most);
            target.node.metrics().handshakes_given_up > before + 100
        })
        .await;
        assert!(*most.lock().unwrap() <= bound, "{most:?} at once, of {bound}; it follows: {follows}");
    }
    target.lets_a_follower_in().await;
    attacks.shutdown().await;
}

/// Addresses of those that the owner has chosen stay, however many strangers read something; and a stranger costs no
/// transaction.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_that_read_something_evict_no_address_and_cost_no_transaction() {
    let target = Target::new().await;
    let chosen = raw::endpoint().await;
    target.node.add_peer(&raw::ticket(&chosen)).await.unwrap();
    let before = target.node.metrics().commits;
    for _ in 0..limits::MAX_REMEMBERED_FOLLOWERS + 20 {
        let (_endpoint, connection) = target.greeted().await;
        let (_, mut recv) = raw::ask(&connection, &raw::surf("main", "/log/a", "log", None)).await;
        assert!(answer(&mut recv).await.starts_with("Rock"));
        connection.close(0u32.into(), b"");
    }
    assert_eq!(target.node.metrics().commits, before);
    target.node.shutdown().await.unwrap();
    let again = spawn_node(target.dir.path()).await;
    // Told that the node is back, which takes the address.
    let told = within("the node to come", chosen.accept()).await.unwrap().await.unwrap();
    assert_eq!(told.remote_id(), again.id());
    again.shutdown().await.unwrap();
}

/// A follower is told when its publisher is back, though it is only noted along with something else.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_is_told_that_its_publisher_is_back() {
    let target = Target::new().await;
    let (endpoint, connection) = target.greeted().await;
    let (_, mut recv) = raw::ask(&connection, &raw::surf("main", "/log/a", "log", None)).await;
    assert!(answer(&mut recv).await.starts_with("Rock"));
    target.node.shutdown().await.unwrap();
    let again = spawn_node(target.dir.path()).await;
    let told = within("the node to come", endpoint.accept()).await.unwrap().await.unwrap();
    assert_eq!(told.remote_id(), again.id());
}

/// A private node takes whom it knows; it remembers that it is private.
#[tokio::test(flavor = "multi_thread")]
async fn a_private_node_takes_only_peers_that_it_knows() {
    let target = Target::private().await;
    assert!(target.node.status().private);
    let (endpoint, connection) = target.stranger().await;
    assert_eq!(code(&connection).await, 16);
    assert_eq!(target.node.connections().strangers, 0);
    // Who is allowed on one path is known, and reads what is public.
    target.agent.allow("/log/secret", [endpoint.id()]).await.unwrap();
    let connection = endpoint.connect(target.address(), raw::ALPN).await.unwrap();
    raw::hello(&connection).await;
    let mut reading = Vec::new();
    for path in ["/log/a", "/log/secret"] {
        let (send, mut recv) = raw::ask(&connection, &raw::surf("main", path, "log", None)).await;
        assert!(answer(&mut recv).await.starts_with("Rock"), "{path}");
        reading.push((send, recv));
    }
    // Once it is not, it gets nothing more, not even of what is public.
    target.agent.block("/log/secret", [endpoint.id()]).await.unwrap();
    target.logs.give("/log/a", "later".to_owned()).await.unwrap();
    assert_eq!(code(&connection).await, 16);
    let mut got = Vec::new();
    while let Some(message) = raw::read_message(&mut reading[0].1).await {
        got.push(message);
    }
    assert!(!got.iter().any(|message| message.starts_with("Wave { aeon: Aeon(2)")), "{got:?}");
    // Whom it follows is known too, whoever dials.
    let (publisher_dir, dir) = (TempDir::new().unwrap(), target.dir);
    let publisher = spawn_node(publisher_dir.path()).await;
    let theirs = publisher.agent("main").unwrap().publications::<Log>("/log/*").await.unwrap();
    theirs.give("/log/theirs", "here".to_owned()).await.unwrap();
    target.node.add_peer(&publisher.ticket()).await.unwrap();
    let inbox = target.agent.subscriptions::<Log>("/log/*").await.unwrap();
    let source = Source::new(publisher.id(), "main", "/log/theirs").unwrap();
    until_caught_up(&mut inbox.surf(source).await.unwrap()).await;
    publisher.add_peer(&target.node.ticket()).await.unwrap();
    let back = publisher.agent("main").unwrap().subscriptions::<Log>("/log/*").await.unwrap();
    let source = Source::new(target.node.id(), "main", "/log/a").unwrap();
    until_caught_up(&mut back.surf(source).await.unwrap()).await;
    // It stays private without being told again, and open where it is told so.
    target.node.shutdown().await.unwrap();
    let again = spawn_node(dir.path()).await;
    assert!(again.status().private);
    again.shutdown().await.unwrap();
    let open = Node::builder().data_dir(dir.path()).offline().bind("127.0.0.1:0".parse().unwrap());
    let open = open.not_private().spawn().await.unwrap();
    assert!(!open.status().private);
    open.shutdown().await.unwrap();
    let again = spawn_node(dir.path()).await;
    assert!(!again.status().private);
}

/// Counts lines of the node's own log, at level info.
struct Lines(Arc<Mutex<Vec<String>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().push(String::from_utf8_lossy(bytes).into_owned());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Whatever strangers do, they write one line a second, which says how many were left out.
#[tokio::test]
async fn strangers_write_one_line_of_log_a_second() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let written = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter("groundswell=info")
        .with_ansi(false)
        .with_writer(move || Lines(written.clone()))
        .finish();
    // Everything but the driver runs on this thread.
    let _guard = tracing::subscriber::set_default(subscriber);
    let target = Target::new().await;
    let begun = Instant::now();
    let before = lines.lock().unwrap().len();
    for n in 0..40 {
        let (_endpoint, connection) = target.stranger().await;
        match n % 3 {
            0 => raw::say(&connection, &raw::frame(&[0xff; 40])).await,
            1 => {
                raw::hello(&connection).await;
                let (mut send, _recv) = connection.open_bi().await.unwrap();
                send.write_all(&raw::in_place_of_request(&raw::frame(&[0xee; 20]))).await.unwrap();
            }
            _ => {
                raw::hello(&connection).await;
                connection.close(7u32.into(), b"\x1b[2Jgone");
            }
        }
        until("the connection to be gone", || target.node.metrics().connections_now == 0).await;
    }
    let seconds = begun.elapsed().as_secs() as usize;
    let lines = lines.lock().unwrap()[before..].to_vec();
    assert!(!lines.is_empty() && lines.len() <= seconds + 1, "{} lines in {seconds} s: {lines:#?}", lines.len());
    assert!(lines.iter().all(|line| line.contains("left_out=")), "{lines:#?}");
}
