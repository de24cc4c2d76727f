//! Peers that break the protocol, on either side: each gets a typed refusal, the node goes on.

use crate::common::{raw, spawn_node, until, within};
use groundswell::{Aeon, Cursor, Epoch, Event, Freshness, Node, Publications, Source, lakes::Log};
use groundswell_core::{
    Digest,
    limits::{MAX_FRAME_BYTES, MAX_REQUEST_BYTES},
    wire::Message,
};
use iroh::{
    Endpoint,
    endpoint::{Connection, ConnectionError, RecvStream, SendStream},
};
use tempfile::TempDir;

struct Target {
    node: Node,
    logs: Publications<Log>,
    attacker: Endpoint,
    _dir: TempDir,
}

impl Target {
    async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let node = spawn_node(dir.path()).await;
        let logs = node.agent("main").unwrap().publications::<Log>("/log/*").await.unwrap();
        logs.give("/log/a", "one".to_owned()).await.unwrap();
        Self { node, logs, attacker: raw::endpoint().await, _dir: dir }
    }

    async fn connect(&self) -> Connection {
        self.attacker.connect(raw::address(&self.node.ticket()), raw::ALPN).await.unwrap()
    }

    async fn greeted(&self) -> Connection {
        let connection = self.connect().await;
        raw::hello(&connection).await;
        connection
    }

    /// The node still serves an honest peer.
    async fn alive(self) {
        let dir = TempDir::new().unwrap();
        let honest = spawn_node(dir.path()).await;
        honest.add_peer(&self.node.ticket()).await.unwrap();
        let inbox = honest.agent("main").unwrap().subscriptions::<Log>("/log/*").await.unwrap();
        let source = Source::new(self.node.id(), "main", "/log/a").unwrap();
        let mut updates = inbox.surf(source).await.unwrap();
        crate::common::until_caught_up(&mut updates).await;
        self.logs.give("/log/a", "alive".to_owned()).await.unwrap();
        assert_eq!(crate::common::next_update(&mut updates).await.wave.as_deref(), Some("alive"));
        honest.shutdown().await.unwrap();
        self.node.shutdown().await.unwrap();
    }
}

async fn close_code(connection: &Connection) -> u64 {
    match within("the close", connection.closed()).await {
        ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_hello_that_is_none() {
    let target = Target::new().await;
    for bytes in [raw::frame(&[]), raw::frame(&[0xff; 40]), vec![0xff; 4], vec![1, 0]] {
        let connection = target.connect().await;
        raw::say(&connection, &bytes).await;
        assert_eq!(close_code(&connection).await, 3, "{bytes:?}");
    }
    assert_eq!(target.node.metrics().violations, 4);
    target.alive().await;
}

#[tokio::test]
async fn a_hello_of_another_version() {
    let target = Target::new().await;
    let connection = target.connect().await;
    let mut body = postcard::to_allocvec(&99u16).unwrap();
    body.extend_from_slice(b"fields of a later time");
    raw::say(&connection, &raw::frame(&body)).await;
    assert_eq!(close_code(&connection).await, 1);
    target.alive().await;
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_let_go() {
    let target = Target::new().await;
    let connection = target.connect().await;
    assert_eq!(close_code(&connection).await, 3);
    target.alive().await;
}

#[tokio::test]
async fn malformed_and_oversized_requests() {
    let target = Target::new().await;
    let too_long = |bytes: usize| u32::try_from(bytes).unwrap().to_le_bytes().to_vec();
    let lengths = [too_long(MAX_REQUEST_BYTES + 1), too_long(MAX_FRAME_BYTES + 1), too_long(u32::MAX as usize)];
    for bytes in [raw::frame(&[0xee; 200]), raw::frame(&[])].into_iter().chain(lengths) {
        let connection = target.greeted().await;
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        send.write_all(&bytes).await.unwrap();
        send.finish().unwrap();
        if let Some(answer) = within("the refusal", raw::read_message(&mut recv)).await {
            assert!(answer.contains("Malformed"), "{answer}");
        }
        connection.close(0u32.into(), b"");
    }
    // A path that is none is a request that is none: paths are checked as they are decoded.
    let connection = target.greeted().await;
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    let body = postcard::to_allocvec(&("main", "no/slash", ("log", 1u32), None::<()>)).unwrap();
    send.write_all(&raw::frame(&body)).await.unwrap();
    assert_eq!(close_code(&connection).await, 5);
    assert_eq!(target.node.metrics().violations, 6);
    target.alive().await;
}

#[tokio::test]
async fn over_the_limit_of_connections() {
    let target = Target::new().await;
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(target.greeted().await);
    }
    until("eight connections", || target.node.metrics().connections_now == 8).await;
    let ninth = target.greeted().await;
    assert_eq!(close_code(&ninth).await, 2);
    assert!(held.iter().all(|connection| connection.close_reason().is_none()), "the others stand");
    held.pop().unwrap().close(0u32.into(), b"");
    until("one place free", || target.node.metrics().connections_now == 7).await;
    let tenth = target.greeted().await;
    until("the place taken", || target.node.metrics().connections_now == 8).await;
    assert!(tenth.close_reason().is_none());
    target.alive().await;
}

async fn ask_many(connection: &Connection, path: impl Fn(u32) -> String, count: u32) -> Vec<(SendStream, RecvStream)> {
    let mut streams = Vec::new();
    for n in 0..count {
        streams.push(raw::ask(connection, &raw::surf("main", &path(n), "log", None)).await);
    }
    streams
}

#[tokio::test]
async fn over_the_limit_of_subscriptions_and_of_parked_ones() {
    let target = Target::new().await;
    let connection = target.greeted().await;
    let _served = ask_many(&connection, |_| "/log/a".to_owned(), 1_000).await;
    let _parked = ask_many(&connection, |n| format!("/log/none-{n}"), 1_000).await;
    until("a thousand served and as many parked", || {
        let metrics = target.node.metrics();
        metrics.remote_readers_now == 2_000 && metrics.parked_readers_now == 1_000
    })
    .await;
    for (path, refusal) in [("/log/a", "TooManySubscriptions"), ("/log/none", "TooManyParked")] {
        let (_send, mut recv) = raw::ask(&connection, &raw::surf("main", path, "log", None)).await;
        let answer = within("the refusal", raw::read_message(&mut recv)).await.unwrap();
        assert!(answer.contains(refusal) && answer.contains("1000"), "{answer}");
    }
    connection.close(0u32.into(), b"");
    until("all of it freed", || target.node.metrics().remote_readers_now == 0).await;
    target.alive().await;
}

#[tokio::test]
async fn out_of_order_malformed_and_oversized_messages_of_a_publisher() {
    let at = Cursor { epoch: Epoch([1; 16]), aeon: Aeon(7) };
    let rock = postcard::to_allocvec(&vec!["state"]).unwrap();
    let rock_frame = |digest| Message::Rock { at, bytes: rock.len() as u64, digest };
    let begin = raw::message_frame(&rock_frame(Digest::of(&rock)));
    let chunk = raw::message_frame(&Message::Chunk((&rock[..]).into()));
    let wave = |aeon, bytes: &[u8]| {
        raw::message_frame(&Message::Wave { aeon: Aeon(aeon), digest: None, wave: bytes.to_vec().into() })
    };
    let line = postcard::to_allocvec("line").unwrap();
    let huge = Message::Rock { at, bytes: u64::MAX, digest: Digest([0; 32]) };
    let cases = [
        ("a wave before anything", vec![wave(1, &line)]),
        ("a gap", vec![begin.clone(), chunk.clone(), wave(9, &line)]),
        ("a repeat", vec![begin.clone(), chunk.clone(), wave(8, &line), wave(8, &line)]),
        ("a wave inside a rock", vec![begin.clone(), wave(8, &line)]),
        ("a wrong digest", vec![raw::message_frame(&rock_frame(Digest([3; 32]))), chunk.clone()]),
        ("a rock that is too large", vec![raw::message_frame(&huge)]),
        ("a chunk too many", vec![begin.clone(), chunk.clone(), chunk.clone()]),
        ("a frame too long", vec![u32::MAX.to_le_bytes().to_vec()]),
        ("no message", vec![raw::frame(&[0xee; 64])]),
        (
            "a caught-up of another aeon",
            vec![begin.clone(), chunk.clone(), raw::message_frame(&Message::CaughtUp(Aeon(3)))],
        ),
    ];
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let inbox = node.agent("main").unwrap().subscriptions::<Log>("/log/*").await.unwrap();
    for (name, frames) in cases {
        let before = node.metrics().violations;
        let (endpoint, task) = raw::publisher(move |_| frames.clone()).await;
        node.add_peer(&raw::ticket(&endpoint)).await.unwrap();
        let source = Source::new(endpoint.id(), "main", "/log/a").unwrap();
        let mut updates = inbox.surf(source.clone()).await.unwrap();
        let unusable = within(name, async {
            loop {
                if let Some(Event::Freshness(Freshness::Unusable { reason })) = updates.next().await {
                    return reason;
                }
            }
        });
        assert!(!unusable.await.is_empty(), "{name}");
        assert!(node.metrics().violations > before, "{name}");
        // What came before the violation may be shown; what came after may not.
        if let Some(aeon) = inbox.read()[&source].cursor.map(|at| at.aeon) {
            assert!(aeon <= Aeon(8), "{name}: {aeon}");
        }
        inbox.quit(&source).await.unwrap();
        task.abort();
        endpoint.close().await;
    }
    node.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_wave_or_a_rock_that_does_not_decode_is_not_applied() {
    let at = Cursor { epoch: Epoch([1; 16]), aeon: Aeon(7) };
    let good = postcard::to_allocvec(&vec!["state"]).unwrap();
    let bad = vec![0xff; 30];
    for (rock, wave) in [(&good, Some(&bad)), (&bad, None)] {
        let mut frames = vec![
            raw::message_frame(&Message::Rock { at, bytes: rock.len() as u64, digest: Digest::of(rock) }),
            raw::message_frame(&Message::Chunk((&rock[..]).into())),
        ];
        if let Some(wave) = wave {
            frames.push(raw::message_frame(&Message::Wave { aeon: Aeon(8), digest: None, wave: (&wave[..]).into() }));
        }
        let (endpoint, task) = raw::publisher(move |_| frames.clone()).await;
        let dir = TempDir::new().unwrap();
        let node = spawn_node(dir.path()).await;
        node.add_peer(&raw::ticket(&endpoint)).await.unwrap();
        let inbox = node.agent("main").unwrap().subscriptions::<Log>("/log/*").await.unwrap();
        let source = Source::new(endpoint.id(), "main", "/log/a").unwrap();
        let updates = inbox.surf(source.clone()).await.unwrap();
        until("the divergence", || updates.freshness() == Freshness::Diverged).await;
        let expected = wave.map(|_| Aeon(7));
        assert_eq!(inbox.read()[&source].cursor.map(|at| at.aeon), expected, "nothing false is shown");
        node.shutdown().await.unwrap();
        task.abort();
    }
}
