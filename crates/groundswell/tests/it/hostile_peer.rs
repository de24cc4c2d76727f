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
        self.serves_another().await;
        self.node.shutdown().await.unwrap();
    }

    async fn serves_another(&self) {
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
    }
}

async fn close_code(connection: &Connection) -> u64 {
    match within("the close", connection.closed()).await {
        ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
        other => panic!("{other}"),
    }
}

/// "Malformed frames from a peer", in place of a hello.
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

/// "Lake name or version that differs" has a sibling: the version of the protocol.
#[tokio::test]
async fn a_hello_of_another_version() {
    let target = Target::new().await;
    let connection = target.connect().await;
    let mut body = postcard::to_allocvec(&(99u16, 98u16)).unwrap();
    body.extend_from_slice(b"fields of a later time");
    raw::say(&connection, &raw::frame(&body)).await;
    assert_eq!(close_code(&connection).await, 1);
    target.alive().await;
}

/// "A peer over its limit": a place among its connections is not held by silence.
#[tokio::test]
async fn a_peer_that_says_nothing_is_let_go() {
    let target = Target::new().await;
    let connection = target.connect().await;
    assert_eq!(close_code(&connection).await, 3);
    target.alive().await;
}

/// "Malformed, oversized frames from a peer", in place of a request.
#[tokio::test]
async fn malformed_and_oversized_requests() {
    let target = Target::new().await;
    let too_long = |bytes: usize| u32::try_from(bytes).unwrap().to_le_bytes().to_vec();
    let lengths = [too_long(MAX_REQUEST_BYTES + 1), too_long(MAX_FRAME_BYTES + 1), too_long(u32::MAX as usize)];
    for bytes in [raw::frame(&[0xee; 200]), raw::frame(&[])].into_iter().chain(lengths) {
        let before = target.node.metrics().violations;
        let connection = target.greeted().await;
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        send.write_all(&raw::in_place_of_request(&bytes)).await.unwrap();
        send.finish().unwrap();
        if let Some(answer) = within("the refusal", raw::read_message(&mut recv)).await {
            assert!(answer.contains("Malformed"), "{answer}");
        }
        until("the violation", || target.node.metrics().violations == before + 1).await;
        connection.close(0u32.into(), b"");
    }
    // An invalid path makes an invalid request: paths are checked as they are decoded.
    let connection = target.greeted().await;
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    let body = postcard::to_allocvec(&("main", "no/slash", ("log", 1u32), None::<()>)).unwrap();
    send.write_all(&raw::in_place_of_request(&raw::frame(&body))).await.unwrap();
    assert_eq!(close_code(&connection).await, 5);
    assert_eq!(target.node.metrics().violations, 6);
    target.alive().await;
}

/// "A peer over its limit of connections".
#[tokio::test]
async fn over_the_limit_of_connections() {
    let target = Target::new().await;
    let mut held = Vec::new();
    // Each that says hello takes the place of the one before. Those that do not have three seconds.
    for _ in 0..8 {
        held.push(target.connect().await);
    }
    until("eight connections", || target.node.metrics().connections_now == 8).await;
    let ninth = target.connect().await;
    assert_eq!(close_code(&ninth).await, 2);
    assert!(held.iter().all(|connection| connection.close_reason().is_none()), "the others stand");
    held.pop().unwrap().close(0u32.into(), b"");
    until("one place free", || target.node.metrics().connections_now == 7).await;
    let tenth = target.greeted().await;
    until("the tenth alone to stay", || target.node.metrics().connections_now == 1).await;
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

/// "A peer over its limit of streams or parked surfs".
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
    // Another peer has places of its own meanwhile.
    target.serves_another().await;
    connection.close(0u32.into(), b"");
    until("all of it freed", || target.node.metrics().remote_readers_now == 0).await;
    target.alive().await;
}

/// "Malformed, oversized or out-of-order frames from a peer" that publishes, and "a rock whose digest differs"
/// from what was announced: each is said in words, and nothing of it is shown.
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
        ("a wave before anything", vec![wave(1, &line)], "a wave before a rock or a resumption"),
        ("a gap", vec![begin.clone(), chunk.clone(), wave(9, &line)], "the wave of aeon 9 after aeon 7"),
        (
            "a repeat",
            vec![begin.clone(), chunk.clone(), wave(8, &line), wave(8, &line)],
            "the wave of aeon 8 after aeon 8",
        ),
        ("a wave inside a rock", vec![begin.clone(), wave(8, &line)], "another message inside a rock"),
        (
            "a rock whose digest differs",
            vec![raw::message_frame(&rock_frame(Digest([3; 32]))), chunk.clone()],
            "does not have the digest that was announced",
        ),
        ("a rock that is too large", vec![raw::message_frame(&huge)], "at most 268435456 are allowed"),
        ("a chunk too many", vec![begin.clone(), chunk.clone(), chunk.clone()], "a chunk outside a rock"),
        ("a frame too long", vec![u32::MAX.to_le_bytes().to_vec()], "at most 1049600 are allowed"),
        ("no message", vec![raw::frame(&[0xee; 64])], "an undecodable message"),
        (
            "a caught-up of another aeon",
            vec![begin.clone(), chunk.clone(), raw::message_frame(&Message::CaughtUp(Aeon(3)))],
            "a caught-up for another aeon",
        ),
    ];
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let inbox = node.agent("main").unwrap().subscriptions::<Log>("/log/*").await.unwrap();
    for (name, frames, expected) in cases {
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
        let reason = unusable.await;
        assert!(reason.contains(expected), "{name}: {reason}");
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

/// "Malformed frames from a peer" whose frame is good, and what is in it is not.
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

/// "A rock whose digest differs": a replica whose rock is not the publisher's after the same waves is told to
/// be diverged, asks with no cursor, and is healed by the rock.
#[tokio::test(flavor = "multi_thread")]
async fn a_wave_whose_digest_differs_from_the_replicas_rock_and_the_rock_that_heals_it() {
    let at = |aeon| Cursor { epoch: Epoch([1; 16]), aeon: Aeon(aeon) };
    let rock = |at: Cursor, lines: &[&str]| {
        let rock = postcard::to_allocvec(lines).unwrap();
        let begin = Message::Rock { at, bytes: rock.len() as u64, digest: Digest::of(&rock) };
        [raw::message_frame(&begin), raw::message_frame(&Message::Chunk((&rock[..]).into()))]
    };
    let wave = |aeon, digest| {
        let wave = postcard::to_allocvec("two").unwrap();
        raw::message_frame(&Message::Wave { aeon: Aeon(aeon), digest, wave: wave.into() })
    };
    let caught_up = |aeon| raw::message_frame(&Message::CaughtUp(Aeon(aeon)));
    let first = [&rock(at(7), &["one"])[..], &[caught_up(7), wave(8, Some(Digest([5; 32])))]].concat();
    // The publisher's rock is another, as it says; and after that both agree.
    let healing = [
        &rock(at(8), &["other"])[..],
        &[caught_up(8), wave(9, Some(Digest::of(&postcard::to_allocvec(&vec!["other", "two"]).unwrap())))],
    ];
    let healing = healing.concat();
    let asked = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = asked.clone();
    let answer = move |surf: &groundswell_core::wire::Surf| {
        let mut asked = noted.lock().unwrap();
        asked.push(surf.cursor);
        if asked.len() == 1 { first.clone() } else { healing.clone() }
    };
    let (endpoint, task) = raw::publisher(answer).await;
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    node.add_peer(&raw::ticket(&endpoint)).await.unwrap();
    let inbox = node.agent("main").unwrap().subscriptions::<Log>("/log/*").await.unwrap();
    let source = Source::new(endpoint.id(), "main", "/log/a").unwrap();
    let mut updates = inbox.surf(source.clone()).await.unwrap();
    let seen = within("the divergence and its end", async {
        let (mut seen, mut diverged) = (Vec::new(), false);
        loop {
            match updates.next().await.unwrap() {
                Event::Freshness(Freshness::Diverged) => {
                    diverged = true;
                    assert_eq!(node.metrics().divergences, 1);
                    let state = &inbox.read()[&source];
                    assert!(state.stale() && state.cursor == Some(at(7)), "nothing false is shown");
                    let there = inbox.with_rock(&source, |rock, _| rock.clone()).await.unwrap();
                    assert_eq!(there, ["one"]);
                }
                Event::Update(update) => seen.push((update.aeon(), update.wave)),
                _ => {}
            }
            if seen.last().is_some_and(|(aeon, _)| *aeon == Aeon(9)) {
                assert!(diverged, "it was said");
                return seen;
            }
        }
    })
    .await;
    assert_eq!(*asked.lock().unwrap(), [None, None], "it asks with no cursor, though it has a state");
    assert_eq!(seen, [(Aeon(7), None), (Aeon(8), None), (Aeon(9), Some("two".to_owned()))]);
    assert_eq!(inbox.with_rock(&source, |rock, _| rock.clone()).await.unwrap(), ["other", "two"]);
    until("the state to be live", || updates.freshness() == Freshness::Live).await;
    assert_eq!((node.metrics().divergences, node.metrics().violations), (1, 0));
    node.shutdown().await.unwrap();
    task.abort();
}
