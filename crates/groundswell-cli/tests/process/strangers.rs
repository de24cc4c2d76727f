//! "300 stranger connections (silent, parked, flooding and half-open in turn): the node's memory grows by a bounded amount, its
//! pair's write latency at most doubles, and a new follower gets in", against a manager and its machine in processes of
//! their own. The strangers are this process, with an identity each.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use iroh::{
    Endpoint, EndpointAddr,
    endpoint::{Connection, RecvStream, SendStream},
};
use serde_json::{Value, json};
use tokio::{net::UdpSocket, task::JoinSet};

use crate::{
    common::{Node, World, kv, until},
    kv_faults::set,
    raw,
};

/// How many strangers there are at once, in four kinds.
const STRANGERS: usize = 300;

/// How much the node's memory may grow meanwhile. Tasks are larger without optimisation.
const GROWTH_BYTES: u64 = if cfg!(debug_assertions) { 45 << 20 } else { 30 << 20 };

/// The memory of a process.
pub(crate) fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

/// How long a write of the machine takes until it is durable at its manager, at the median.
fn latency(machine: &Node, writes: u32) -> Duration {
    let mut took: Vec<Duration> = (0..writes)
        .map(|n| {
            let begun = Instant::now();
            assert!(set(&machine.dir, None, "latency", &n.to_string()));
            let place = json!({"machine": null, "space": null, "hex": false});
            machine.ask(&json!({"request": "kv", "place": place, "ask": {"delivered": {"within_ms": 20_000}}}));
            begun.elapsed()
        })
        .collect();
    took.sort();
    took[took.len() / 2]
}

/// Forwards what comes to the node, and of what the node answers only Retry packets: so a handshake never ends.
async fn deaf_proxy(node: SocketAddr) -> SocketAddr {
    let any = "127.0.0.1:0";
    let (inside, outside) = (UdpSocket::bind(any).await.unwrap(), UdpSocket::bind(any).await.unwrap());
    let address = inside.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut from_client, mut from_node) = (vec![0; 2_048], vec![0; 2_048]);
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

/// What one stranger does, again and again.
async fn attack(kind: usize, endpoint: Endpoint, node: EndpointAddr, done: Arc<AtomicU64>) {
    let target = match kind {
        3 => EndpointAddr::new(node.id).with_ip_addr(deaf_proxy(*node.ip_addrs().next().unwrap()).await),
        _ => node,
    };
    loop {
        let connecting =
            tokio::time::timeout(Duration::from_secs(4), endpoint.connect(target.clone(), raw::ALPN)).await;
        done.fetch_add(1, Ordering::Relaxed);
        let Ok(Ok(connection)) = connecting else {
            // Time is under test: a stranger that is turned away comes back after it.
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        };
        match kind {
            // Silent.
            0 => {}
            // Parked.
            1 => {
                raw::hello(&connection).await;
                let mut streams = Vec::new();
                for n in 0..50 {
                    let path = format!("/{}/{n}", vec!["x".repeat(250); 15].join("/"));
                    let surf = raw::surf("main", &path, "log", None);
                    let asking = raw::try_ask(&connection, &surf);
                    match tokio::time::timeout(Duration::from_secs(1), asking).await {
                        Ok(Some(stream)) => streams.push(stream),
                        _ => break,
                    }
                }
                connection.closed().await;
            }
            // Flooding, on as many streams as it gets.
            _ => {
                let mut floods = JoinSet::new();
                for _ in 0..40 {
                    let connection = connection.clone();
                    floods.spawn(async move {
                        let Ok((mut stream, _recv)) = connection.open_bi().await else { return };
                        while stream.write_all(&[0xff; 4_096]).await.is_ok() {}
                    });
                }
                connection.closed().await;
            }
        }
        connection.closed().await;
        // Time is under test: it comes back after it.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The attack, for so long.
fn strangers_for(time: Duration) {
    let world = World::new();
    let (machine, manager) = world.pair();
    kv::online(&machine, &manager);
    manager.run(&["give", "/log/a", "1", "--lake", "log"]).well();
    // What a node takes once, it has taken.
    latency(&machine, 30);
    let quiet = latency(&machine, 60);
    let before = resident(manager.process());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (attacks, done) = runtime.block_on(async {
        let node = raw::address(&manager.ticket.parse().unwrap());
        let done = Arc::new(AtomicU64::new(0));
        let mut attacks = JoinSet::new();
        for n in 0..STRANGERS {
            attacks.spawn(attack(n % 4, raw::endpoint().await, node.clone(), done.clone()));
        }
        (attacks, done)
    });
    let begun = Instant::now();
    let (mut most, mut loud) = (before, Vec::new());
    while begun.elapsed() < time {
        most = most.max(resident(manager.process()));
        loud.push(latency(&machine, 10));
    }
    loud.sort();
    let loud = loud[loud.len() / 2];
    // One that comes only now.
    let late = world.up("late");
    let entering = Instant::now();
    let mut surfing = late.surf(&[&manager.ticket, "/log/a", "--lake", "log"]);
    assert_eq!(surfing.next_of("caught_up")["aeon"], 1);
    let entered = entering.elapsed();
    most = most.max(resident(manager.process()));
    let status: Value = manager.status();
    let (metrics, now) = (&status["metrics"], &status["connections"]);
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "{STRANGERS} strangers for {:.0} s, {} connections tried: memory {:.1} MiB, at most {:.1} MiB; a delivered write {:.1} ms, \
         then {:.1} ms ({:.2} times); a new follower in {:.1} s; {now}; given up {}, validated {}, refused {}, closed for room {}",
        time.as_secs_f64(),
        done.load(Ordering::Relaxed),
        mib(before),
        mib(most),
        quiet.as_secs_f64() * 1e3,
        loud.as_secs_f64() * 1e3,
        loud.as_secs_f64() / quiet.as_secs_f64(),
        entered.as_secs_f64(),
        metrics["handshakes_given_up"],
        metrics["addresses_validated"],
        metrics["connections_refused"],
        metrics["strangers_evicted"],
    );
    assert!(most - before <= GROWTH_BYTES, "the node has grown by {:.1} MiB", mib(most - before));
    assert!(
        metrics["strangers_evicted"].as_u64() > Some(0) && metrics["addresses_validated"].as_u64() > Some(0),
        "{status}"
    );
    // The strangers take the same two cores as the node: without them it is the node alone that could be slow. So they are
    // as kind as their work allows, and what is left is judged by its ratio.
    assert!(loud <= 2 * quiet.max(Duration::from_millis(5)), "a delivered write takes {loud:?} in place of {quiet:?}");
    kv::online(&machine, &manager);
    drop(attacks);
    runtime.shutdown_background();
    until("the strangers to be gone", || manager.status()["connections"]["strangers"] == 0);
    let log = std::fs::read_to_string(world.dir("manager").with_extension("log")).unwrap();
    let lines = log.lines().count() as u64;
    assert!(lines <= begun.elapsed().as_secs() + 10, "{lines} lines of log");
}

/// How much the memory of a manager has grown at most, while peers that it does not know do this; then one more gets in.
fn grown_by(attack: impl AsyncFnOnce(EndpointAddr) -> Vec<Held>) -> u64 {
    let world = World::new();
    let manager = world.up("manager");
    for path in ["/log/a", "/log/small"] {
        manager.run(&["give", path, "first", "--lake", "log"]).well();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let node = raw::address(&manager.ticket.parse().unwrap());
    // What a node takes once for any peer, it has taken.
    runtime.block_on(async {
        let (_endpoint, connection) = greeted(raw::endpoint().await, &node).await;
        raw::first_rock(&connection, "/log/a", "log").await;
    });
    let lines = format!("{}\n", "x".repeat(4_000)).repeat(300);
    manager.run_with(&["give", "/log/a", "-", "--lake", "log"], lines.as_bytes()).well();
    let before = resident(manager.process());
    let held = runtime.block_on(attack(node));
    let mut most = before;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        most = most.max(resident(manager.process()));
        // Time is under test: what is held shows while it goes on.
        std::thread::sleep(Duration::from_millis(50));
    }
    let late = world.up("late");
    let entering = Instant::now();
    let mut surfing = late.surf(&[&manager.ticket, "/log/a", "--lake", "log"]);
    assert_eq!(surfing.next_of("caught_up")["aeon"], 301);
    let entered = entering.elapsed();
    most = most.max(resident(manager.process()));
    let streams: usize = held.iter().map(|(.., streams)| streams.len()).sum();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "{} peers with {streams} streams: memory {:.1} MiB, at most {:.1} MiB more; a new follower in {:.1} s",
        held.len(),
        mib(before),
        mib(most - before),
        entered.as_secs_f64(),
    );
    assert!(entered < Duration::from_secs(5), "a new follower needs {entered:?}");
    drop(held);
    most - before
}

type Held = (Endpoint, Connection, Vec<(SendStream, RecvStream)>);

async fn greeted(endpoint: Endpoint, node: &EndpointAddr) -> (Endpoint, Connection) {
    let connection = endpoint.connect(node.clone(), raw::ALPN).await.unwrap();
    raw::hello(&connection).await;
    (endpoint, connection)
}

/// One identity with a thousand subscriptions that are 1.2 MB behind, and 400 bytes that it takes on each.
#[test]
fn a_stranger_that_asks_and_does_not_read_costs_a_node_little() {
    let grown = grown_by(async |node| {
        let (endpoint, connection) = greeted(raw::endpoint().await, &node).await;
        let at = raw::first_rock(&connection, "/log/a", "log").await;
        connection.close(0u32.into(), b"");
        drop(endpoint);
        let at = groundswell::Cursor { aeon: groundswell::Aeon(1), ..at };
        let (endpoint, connection) = greeted(raw::endpoint_that_takes(Some(400)).await, &node).await;
        let mut streams = Vec::new();
        for _ in 0..1_000 {
            streams.push(raw::ask(&connection, &raw::surf("main", "/log/a", "log", Some(at))).await);
        }
        vec![(endpoint, connection, streams)]
    });
    assert!(grown <= GROWTH_BYTES, "the node has grown by {grown} bytes");
}

/// Twenty identities that ask for a thousand subscriptions each, half of them for what is not there, and stay.
#[test]
fn twenty_hogs_cost_a_node_little_and_keep_no_follower_out() {
    let grown = grown_by(async |node| {
        let mut hogs = JoinSet::new();
        for hog in 0..20 {
            let node = node.clone();
            hogs.spawn(async move {
                let (endpoint, connection) = greeted(raw::endpoint().await, &node).await;
                let path = |n| if hog % 2 == 0 { "/log/small".to_owned() } else { format!("/log/none-{hog}-{n}") };
                let held = raw::take_all_places(&connection, |n| raw::surf("main", &path(n), "log", None)).await;
                (endpoint, connection, held)
            });
        }
        hogs.join_all().await
    });
    assert!(grown <= GROWTH_BYTES, "the node has grown by {grown} bytes");
}

#[test]
fn strangers_cost_a_node_little_and_its_pair_nothing() {
    strangers_for(Duration::from_secs(8));
}

#[test]
#[ignore = "it takes a minute: cargo xtask soak"]
fn strangers_cost_a_node_little_and_its_pair_nothing_for_a_minute() {
    strangers_for(Duration::from_secs(60));
}
