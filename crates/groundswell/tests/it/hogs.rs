//! "A stranger costs a constant", for those that get in: peers that ask for all they can, hold it, and read nothing. What
//! is held for all of them is bounded, and whoever comes later still gets in.
#![allow(clippy::unwrap_used)] // helpers outside of test functions

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use groundswell::{Aeon, Cursor, Epoch, Event, Freshness, Node, Publications, Source, lakes::Log, limits};
use groundswell_core::{
    Digest,
    wire::{Message, Refusal, Surf},
};
use iroh::{
    Endpoint, EndpointAddr,
    endpoint::{Connection, RecvStream, SendStream},
};
use tempfile::TempDir;
use tokio::{net::UdpSocket, task::JoinSet};

use crate::common::{next_update, raw, spawn_node, until, until_caught_up, within};

/// How many waves, and of how many bytes, a reader of the log is behind that has nothing but the first.
const WAVES: usize = 300;
const WAVE_BYTES: usize = 4_000;

/// The code of what is ended for want of room.
const CROWDED: u32 = 17;

struct Target {
    node: Node,
    logs: Publications<Log>,
    dir: TempDir,
}

impl Target {
    async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let node = spawn_node(dir.path()).await;
        let logs = node.agent("main").unwrap().publications::<Log>("/log/*").await.unwrap();
        logs.give("/log/a", "first".to_owned()).await.unwrap();
        Self { node, logs, dir }
    }

    async fn give_much(&self, path: &str) {
        self.logs.give_all(path, (0..WAVES).map(|n| format!("{n:0>WAVE_BYTES$}"))).await.unwrap();
    }

    /// A connection of a peer that nobody has met before.
    async fn stranger(&self, endpoint: Endpoint) -> (Endpoint, Connection) {
        let address = raw::address(&self.node.ticket());
        let connection = within("a connection", endpoint.connect(address, raw::ALPN)).await.unwrap();
        raw::hello(&connection).await;
        (endpoint, connection)
    }

    /// A node that comes only now reads what is public; how long that took.
    async fn lets_a_follower_in(&self) -> Duration {
        let (begun, dir) = (Instant::now(), TempDir::new().unwrap());
        let follower = spawn_node(dir.path()).await;
        follower.add_peer(&self.node.ticket()).await.unwrap();
        let inbox = follower.agent("main").unwrap().subscriptions::<Log>("/log/*").await.unwrap();
        let source = Source::new(self.node.id(), "main", "/log/a").unwrap();
        until_caught_up(&mut inbox.surf(source).await.unwrap()).await;
        let took = begun.elapsed();
        follower.shutdown().await.unwrap();
        took
    }

    /// So many peers that take all they can get, at once.
    async fn hogs(&self, count: usize, surf: fn(usize, usize) -> Surf) -> Vec<Hog> {
        let mut taking = JoinSet::new();
        for hog in 0..count {
            let (endpoint, connection) = self.stranger(raw::endpoint().await).await;
            taking.spawn(async move {
                let held = raw::take_all_places(&connection, |n| surf(hog, n)).await;
                (endpoint, connection, held)
            });
        }
        within("the hogs", taking.join_all()).await
    }
}

type Hog = (Endpoint, Connection, Vec<(SendStream, RecvStream)>);

fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

/// One identity, a thousand subscriptions that are 1.2 MB behind, and 400 bytes that it takes on each.
#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_that_asks_and_does_not_read_is_sent_little_and_holds_up_nobody() {
    let target = Target::new().await;
    let (_reads, reader) = target.stranger(raw::endpoint().await).await;
    let at = within("the rock", raw::first_rock(&reader, "/log/a", "log")).await;
    target.give_much("/log/a").await;
    let (before, waves) = (resident(), target.node.metrics().waves_sent);
    let (_endpoint, connection) = target.stranger(raw::endpoint_that_takes(Some(400)).await).await;
    let mut held = Vec::new();
    for _ in 0..1_000 {
        held.push(within("a stream", raw::ask(&connection, &raw::surf("main", "/log/a", "log", Some(at)))).await);
    }
    until("all of them to be served", || target.node.metrics().remote_readers_now >= 1_000).await;
    let grown = resident().saturating_sub(before);
    let sent = (target.node.metrics().waves_sent - waves) as usize * WAVE_BYTES;
    println!("grown by {} KiB, {} KiB of waves read to be sent", grown / 1_024, sent / 1_024);
    // Nothing of them is ended yet: each batch is counted once.
    let most = (limits::SENDING_BYTES_OF_UNKNOWN + limits::SENDING_BYTES_OF_EACH_UNKNOWN) as usize;
    assert!(sent > 0 && sent < most, "{sent} bytes");
    let took = target.lets_a_follower_in().await;
    // A chunk is more than what each peer has in any case, so that it may wait until the hog's streams are ended.
    assert!(took < 2 * limits::SENDING_PATIENCE, "a follower had to wait for {took:?}");
    // Those that are in the way of others, its own here, are ended for now.
    let mut ends = held.iter_mut().map(|(_, recv)| recv.received_reset()).collect::<FuturesUnordered<_>>();
    let end = within("an end", ends.next()).await.unwrap();
    assert_eq!(end.unwrap(), Some(CROWDED.into()));
    drop(ends);
    // It goes on from its cursor, and gets all of it if it reads.
    let (_endpoint, connection) = target.stranger(raw::endpoint().await).await;
    let (_send, mut recv) = raw::ask(&connection, &raw::surf("main", "/log/a", "log", Some(at))).await;
    let all = async {
        let mut waves = 0;
        loop {
            match raw::read_message(&mut recv).await.unwrap() {
                message if message.starts_with("CaughtUp") => return waves,
                message => waves += usize::from(message.starts_with("Wave")),
            }
        }
    };
    assert_eq!(within("all waves", all).await, WAVES + 1, "and the one that the rock came before");
}

/// Who is slow, and not in anybody's way, is not ended however long it takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_is_left_alone_while_there_is_room() {
    let target = Target::new().await;
    let (_endpoint, connection) = target.stranger(raw::endpoint_that_takes(Some(400)).await).await;
    let at = within("the rock", raw::first_rock(&connection, "/log/a", "log")).await;
    target.give_much("/log/a").await;
    let (_send, mut recv) = raw::ask(&connection, &raw::surf("main", "/log/a", "log", Some(at))).await;
    // Time is under test: it reads nothing for longer than those may that are in the way.
    tokio::time::sleep(limits::SENDING_PATIENCE + Duration::from_millis(500)).await;
    for _ in 0..WAVES {
        let message = within("a wave", raw::read_message(&mut recv)).await.expect("a message");
        assert!(message.starts_with("Wave") || message.starts_with("Resumed"), "{message:.60}");
    }
}

/// Twenty identities ask for a thousand subscriptions each, of a path that is there.
#[tokio::test(flavor = "multi_thread")]
async fn hogs_of_served_places_keep_no_follower_out() {
    let target = Target::new().await;
    let before = resident();
    let hogs = target.hogs(20, |_, _| raw::surf("main", "/log/a", "log", None)).await;
    let (served, grown) = (target.node.metrics().remote_readers_now, resident().saturating_sub(before));
    println!("{served} served, grown by {} KiB at both ends", grown / 1_024);
    let took = target.lets_a_follower_in().await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    let most = limits::SERVED_OF_UNKNOWN + 20 * limits::SERVED_OF_EACH_UNKNOWN;
    assert!(served > 2_000 && served <= u64::from(most), "{served} are served, of {most}");
    let own = hogs.iter().map(|(.., held)| held.len()).min().unwrap();
    assert!(own >= limits::SERVED_OF_EACH_UNKNOWN as usize, "each has some, whoever was first: {own}");
    drop(hogs);
    until("all of it to be free", || target.node.metrics().remote_readers_now == 0).await;
}

/// The same with paths that are not there.
#[tokio::test(flavor = "multi_thread")]
async fn hogs_of_waiting_places_keep_no_follower_out() {
    let target = Target::new().await;
    let hogs = target.hogs(20, |hog, n| raw::surf("main", &format!("/log/none-{hog}-{n}"), "log", None)).await;
    let waiting = target.node.metrics().parked_readers_now;
    let took = target.lets_a_follower_in().await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    let most = limits::WAITING_OF_UNKNOWN + 20 * limits::WAITING_OF_EACH_UNKNOWN;
    assert!(
        waiting > u64::from(limits::WAITING_OF_UNKNOWN) / 2 && waiting <= u64::from(most),
        "{waiting} wait, of {most}"
    );
    drop(hogs);
    until("all of it to be free", || target.node.metrics().parked_readers_now == 0).await;
}

/// As many identities as there are places of followers take one each, and a newcomer takes that of the idlest.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it makes 2,048 connections: cargo xtask soak"]
async fn followers_that_are_idle_make_room_for_new_ones() {
    let target = Target::new().await;
    let mut followers = Vec::new();
    for _ in 0..limits::MAX_FOLLOWERS {
        let (endpoint, connection) = target.stranger(raw::endpoint().await).await;
        within("the rock", raw::first_rock(&connection, "/log/a", "log")).await;
        followers.push((endpoint, connection));
    }
    assert_eq!(target.node.connections().followers, limits::MAX_FOLLOWERS);
    target.lets_a_follower_in().await;
    let closed: Vec<_> = followers.iter().filter(|(_, one)| one.close_reason().is_some()).collect();
    assert_eq!(closed.len(), 1, "one place was enough");
    assert_eq!(within("the close", raw::closed(&closed[0].1)).await.0, u64::from(CROWDED));
    assert_eq!(target.node.metrics().followers_evicted, 1);
}

/// What the publisher ends for want of room is said, and followed again from where it stands.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_is_ended_for_room_goes_on_from_its_cursor() {
    let (publisher, dir) = (raw::endpoint().await, TempDir::new().unwrap());
    let follower = spawn_node(dir.path()).await;
    follower.add_peer(&raw::ticket(&publisher)).await.unwrap();
    let inbox = follower.agent("main").unwrap().subscriptions::<Log>("/log/*").await.unwrap();
    let source = Source::new(publisher.id(), "main", "/log/a").unwrap();
    let mut updates = inbox.surf(source).await.unwrap();
    let connection = within("the follower", publisher.accept()).await.unwrap().await.unwrap();
    raw::hello(&connection).await;
    let (mut send, mut recv) = within("its request", connection.accept_bi()).await.unwrap();
    assert_eq!(raw::read_surf(&mut recv).await.cursor, None);
    let rock = postcard::to_allocvec(&vec!["state".to_owned()]).unwrap();
    let at = Cursor { epoch: Epoch([1; 16]), aeon: Aeon(7) };
    let begin = Message::Rock { at, bytes: rock.len() as u64, digest: Digest::of(&rock) };
    for message in [begin, Message::Chunk((&rock[..]).into())] {
        send.write_all(&raw::message_frame(&message)).await.unwrap();
    }
    next_update(&mut updates).await;
    send.reset(CROWDED.into()).unwrap();
    within("the reason", async {
        while updates.next().await.unwrap() != Event::Freshness(Freshness::Refused(Refusal::Crowded)) {}
    })
    .await;
    let (mut send, mut recv) = within("its next request", connection.accept_bi()).await.unwrap();
    assert_eq!(raw::read_surf(&mut recv).await.cursor, Some(at));
    let wave = postcard::to_allocvec("more").unwrap();
    let wave = Message::Wave { aeon: Aeon(8), digest: None, wave: wave.into() };
    for message in [Message::Resumed(at), wave, Message::CaughtUp(Aeon(8))] {
        send.write_all(&raw::message_frame(&message)).await.unwrap();
    }
    assert_eq!(next_update(&mut updates).await.aeon(), Aeon(8));
    until("it to be live", || updates.freshness() == Freshness::Live).await;
}

/// Forwards packets between one client and the node; from the client only until it is told to stop.
async fn proxy(node: SocketAddr, mute: Arc<AtomicBool>) -> SocketAddr {
    let any = "127.0.0.1:0";
    let (inside, outside) = (UdpSocket::bind(any).await.unwrap(), UdpSocket::bind(any).await.unwrap());
    let address = inside.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut from_client, mut from_node) = (vec![0; 65_536], vec![0; 65_536]);
        let mut client = None;
        loop {
            tokio::select! {
                Ok((bytes, from)) = inside.recv_from(&mut from_client) => {
                    client = Some(from);
                    if !mute.load(Ordering::SeqCst) {
                        let _ = outside.send_to(&from_client[..bytes], node).await;
                    }
                }
                Ok((bytes, _)) = outside.recv_from(&mut from_node) => {
                    if let Some(client) = client {
                        let _ = inside.send_to(&from_node[..bytes], client).await;
                    }
                }
            }
        }
    });
    address
}

/// A peer behind a proxy, which surfs the path.
struct Mute {
    mute: Arc<AtomicBool>,
    _endpoint: Endpoint,
    connection: Connection,
    _streams: (SendStream, RecvStream),
}

impl Mute {
    async fn new(target: &Target, path: &str) -> Self {
        let mute = Arc::new(AtomicBool::new(false));
        let node = *raw::address(&target.node.ticket()).ip_addrs().next().unwrap();
        let address = EndpointAddr::new(target.node.id()).with_ip_addr(proxy(node, mute.clone()).await);
        let endpoint = raw::endpoint().await;
        let connection = within("a connection", endpoint.connect(address, raw::ALPN)).await.unwrap();
        raw::hello(&connection).await;
        let streams = raw::ask(&connection, &raw::surf("main", path, "log", None)).await;
        Self { mute, _endpoint: endpoint, connection, _streams: streams }
    }

    /// How many bytes the node takes for it once it acknowledges nothing.
    async fn held(&mut self, target: &Target, path: &str) -> u64 {
        target.logs.give(path, "first".to_owned()).await.unwrap();
        let (_send, mut recv) = raw::ask(&self.connection, &raw::surf("main", path, "log", None)).await;
        within("all of it", async { while !raw::read_message(&mut recv).await.unwrap().starts_with("CaughtUp") {} })
            .await;
        self.mute.store(true, Ordering::SeqCst);
        let before = target.node.metrics().bytes_sent;
        target.give_much(path).await;
        let sent = || target.node.metrics().bytes_sent - before;
        // That nothing more is taken shows only in time.
        let (mut last, mut unchanged) = (0, 0);
        until("no more to be taken", || {
            unchanged = if std::mem::replace(&mut last, sent()) == last && last > 0 { unchanged + 1 } else { 0 };
            unchanged > 100
        })
        .await;
        last
    }
}

/// Peers that offer to take much and acknowledge nothing of it. What is held for one is little, and less for each that is beyond
/// so many.
#[tokio::test(flavor = "multi_thread")]
async fn what_newcomers_do_not_acknowledge_is_little() {
    let wide = limits::NEWCOMER_SEND_WINDOW_BYTES / 2..=limits::NEWCOMER_SEND_WINDOW_BYTES;
    let narrow = limits::NARROW_SEND_WINDOW_BYTES / 2..=limits::NARROW_SEND_WINDOW_BYTES;
    let target = Target::new().await;
    let mut first = Mute::new(&target, "/log/a").await;
    let held = first.held(&target, "/log/first").await;
    println!("{held} bytes are held that nobody has acknowledged");
    assert!(wide.contains(&held), "{held}");
    let mut others = Vec::new();
    while others.len() + 1 < limits::MAX_WIDE_NEWCOMERS {
        let (endpoint, connection) = target.stranger(raw::endpoint().await).await;
        // Served something, it is no stranger, and keeps its place.
        let (send, mut recv) = raw::ask(&connection, &raw::surf("main", "/log/a", "log", None)).await;
        within("a rock", raw::read_message(&mut recv)).await.unwrap();
        others.push((endpoint, connection, send, recv));
    }
    let mut last = Mute::new(&target, "/log/a").await;
    let held = last.held(&target, "/log/last").await;
    println!("{held} bytes of one more");
    assert!(narrow.contains(&held), "{held}");
}

/// A follower of an earlier run, which the node dials, is a follower: dialling makes nobody known.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_the_node_has_dialled_is_no_chosen_peer() {
    let mut target = Target::new().await;
    let (endpoint, connection) = target.stranger(raw::endpoint().await).await;
    let (_send, mut recv) = raw::ask(&connection, &raw::surf("main", "/log/a", "log", None)).await;
    within("a rock", raw::read_message(&mut recv)).await.unwrap();
    until("it to be a follower", || target.node.connections().followers == 1).await;
    target.node.shutdown().await.unwrap();
    let begun = async {
        let incoming = endpoint.accept().await.unwrap();
        incoming.accept().unwrap().await.unwrap()
    };
    let (node, connection) = tokio::join!(spawn_node(target.dir.path()), within("the node to dial", begun));
    target.node = node;
    raw::hello(&connection).await;
    until("its place", || target.node.connections().followers == 1).await;
    assert_eq!(target.node.connections().known, 0);
}

/// Somebody who sends from the address of a peer that the node has chosen is not taken for it: the connection would hold as much
/// as that peer's may. At the next try it is a newcomer.
#[tokio::test(flavor = "multi_thread")]
async fn another_identity_at_the_address_of_a_chosen_peer_is_a_newcomer() {
    let target = Target::new().await;
    let chosen = raw::endpoint().await;
    target.node.add_peer(&raw::ticket(&chosen)).await.unwrap();
    let agent = target.node.agent("main").unwrap();
    let followed = Source::new(chosen.id(), "main", "/log/x").unwrap();
    agent.subscriptions::<Log>("/log/*").await.unwrap().follow(followed).await.unwrap();
    // It comes from there itself, which is what makes the address its own.
    let address = raw::address(&target.node.ticket());
    let own = within("its connection", chosen.connect(address.clone(), raw::ALPN)).await.unwrap();
    raw::hello(&own).await;
    let at = chosen.bound_sockets()[0];
    chosen.close().await;
    drop((own, chosen));
    until("it to be gone", || target.node.connections().known == 0).await;
    until("the address to be free", || std::net::UdpSocket::bind(at).is_ok()).await;
    let other = raw::endpoint_at(at).await;
    let connection = within("a connection", other.connect(address.clone(), raw::ALPN)).await.unwrap();
    assert_eq!(within("its end", raw::closed(&connection)).await.0, u64::from(CROWDED));
    // As a newcomer it is served.
    let connection = within("a connection", other.connect(address, raw::ALPN)).await.unwrap();
    raw::hello(&connection).await;
    let (_send, mut recv) = raw::ask(&connection, &raw::surf("main", "/log/a", "log", None)).await;
    assert!(within("an answer", raw::read_message(&mut recv)).await.unwrap().starts_with("Rock"));
}
