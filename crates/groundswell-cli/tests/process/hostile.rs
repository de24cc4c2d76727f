//! "Malformed, oversized or out-of-order frames from a peer; a peer over its limit of connections, streams
//! or parked surfs": hostile peers against a node in a process of its own. While each attack is held, an
//! honest peer, a process too, goes on as if nothing were; and the node's counters tell what happened.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers outside of test functions

use std::fs;

use crate::common::{Node, PATIENCE, Surfing, until};
use crate::raw;
use groundswell_core::{
    Aeon, Cursor, Digest, Epoch,
    limits::{MAX_FRAME_BYTES, MAX_REQUEST_BYTES},
    wire::Message,
};
use iroh::{
    Endpoint,
    endpoint::{Connection, RecvStream, SendStream},
};
use tempfile::TempDir;

/// A publishing node under attack, and an honest node that follows it.
struct Target {
    node: Node,
    attacker: Endpoint,
    honest: Node,
    surfing: Surfing,
    aeon: u64,
    _dir: TempDir,
}

impl Target {
    async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let (node, honest) = (Node::up(&dir.path().join("target")), Node::up(&dir.path().join("honest")));
        node.run(&["give", "/log/a", "1", "--lake", "log"]).well();
        let mut surfing = honest.surf(&[&node.ticket, "/log/a", "--lake", "log", "--bare"]);
        surfing.next_of("caught_up");
        Self { node, attacker: raw::endpoint().await, honest, surfing, aeon: 1, _dir: dir }
    }

    async fn connect(&self) -> Connection {
        let ticket = self.node.ticket.parse().unwrap();
        self.attacker.connect(raw::address(&ticket), raw::ALPN).await.unwrap()
    }

    async fn greeted(&self) -> Connection {
        let connection = self.connect().await;
        raw::hello(&connection).await;
        connection
    }

    fn metric(&self, name: &str) -> u64 {
        self.node.run(&["status"]).only()["metrics"][name].as_u64().unwrap()
    }

    fn until_metric(&self, name: &str, value: u64) {
        until(&format!("{name} to be {value}"), || self.metric(name) == value);
    }

    /// An honest peer goes on giving and following, one wave after the other.
    fn serves(&mut self) {
        for _ in 0..3 {
            self.aeon += 1;
            let wave = self.aeon.to_string();
            let given = self.node.run(&["give", "/log/a", &wave, "--lake", "log"]).only();
            assert_eq!(given["aeon"], self.aeon, "nothing was given by anyone else");
            let update = self.surfing.next_of("update");
            assert_eq!((&update["aeon"], &update["wave"]), (&self.aeon.into(), &wave.into()));
        }
        assert_eq!(self.honest.rock("/log/a"), self.node.rock("/log/a"));
    }

    /// So does one that comes only now; and both nodes stop as they should.
    fn end(mut self) {
        self.serves();
        self.node.run(&["open", "/log/new", "--lake", "log"]).well();
        let mut late = self.honest.surf(&[&self.node.id, "/log/new", "--lake", "log"]);
        assert_eq!(late.next_of("caught_up")["aeon"], 0);
        drop(late);
        self.node.stop();
        self.honest.stop();
    }
}

async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for {what}"))
}

/// The answer to a request, and whether the stream ends with it.
async fn refusal(recv: &mut RecvStream) -> (String, bool) {
    let answer = within("a refusal", raw::read_message(recv)).await.unwrap_or_default();
    (answer, within("the end of the stream", raw::read_frame(recv)).await.is_none())
}

/// "Malformed frames from a peer": in place of a hello.
#[tokio::test(flavor = "multi_thread")]
async fn malformed_frames_in_place_of_a_hello() {
    let mut target = Target::new().await;
    let mut held = Vec::new();
    let bad = [raw::frame(&[]), raw::frame(&[0xff; 40]), vec![1, 0], vec![], raw::frame(b"\x02")];
    for (n, bytes) in (1..).zip(&bad) {
        let connection = target.connect().await;
        raw::say(&connection, bytes).await;
        let (code, reason) = within("the close", raw::closed(&connection)).await;
        assert_eq!((code, reason.as_str()), (3, "no proper hello"), "{bytes:?}");
        target.until_metric("violations", n);
        held.push(connection);
        target.serves();
    }
    // Another version is no fault of a frame; it is told which one is spoken here.
    let connection = target.connect().await;
    raw::say(&connection, &raw::frame(&postcard::to_allocvec(&(99u16, 99u16, "of a later time")).unwrap())).await;
    let (code, reason) = within("the close", raw::closed(&connection)).await;
    assert!(code == 1 && reason.contains("update the other side"), "{code} {reason}");
    target.end();
}

/// "Malformed frames from a peer": in place of a request.
#[tokio::test(flavor = "multi_thread")]
async fn malformed_frames_in_place_of_a_request() {
    let mut target = Target::new().await;
    let pathless = postcard::to_allocvec(&("main", "no/slash", ("log", 1u32), None::<()>)).unwrap();
    let longer = [postcard::to_allocvec(&raw::surf("main", "/log/a", "log", None)).unwrap(), vec![0]].concat();
    for (n, body) in (1..).zip([vec![], vec![0xee; 200], pathless, longer]) {
        let connection = target.greeted().await;
        // What it had before is ended with its connection, and no one else's.
        let (_served, mut served) = raw::ask(&connection, &raw::surf("main", "/log/a", "log", None)).await;
        assert!(within("a rock", raw::read_message(&mut served)).await.unwrap().starts_with("Rock"));
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        send.write_all(&raw::in_place_of_request(&raw::frame(&body))).await.unwrap();
        // The close may overtake the words.
        if let Some(answer) = within("the refusal", raw::read_message(&mut recv)).await {
            assert!(answer.contains("Malformed"), "{answer}");
        }
        let (code, reason) = within("the close", raw::closed(&connection)).await;
        assert_eq!((code, reason.as_str()), (5, "protocol violation"), "{body:?}");
        target.until_metric("violations", n);
        assert_eq!(target.metric("refusals"), n);
        target.serves();
    }
    target.until_metric("remote_readers_now", 1);
    target.end();
}

/// "Oversized frames from a peer": refused when the length is read, before memory is taken.
#[tokio::test(flavor = "multi_thread")]
async fn oversized_frames() {
    let mut target = Target::new().await;
    let resident = |target: &Target| {
        let pages = fs::read_to_string(format!("/proc/{}/statm", target.node.process())).unwrap();
        pages.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4_096
    };
    let before = resident(&target);
    let length = |bytes: usize| u32::try_from(bytes).unwrap().to_le_bytes().to_vec();
    let lengths = [MAX_REQUEST_BYTES + 1, MAX_FRAME_BYTES + 1, u32::MAX as usize];
    let mut held = Vec::new();
    for bytes in lengths {
        let connection = target.connect().await;
        raw::say(&connection, &length(bytes)).await;
        assert_eq!(within("the close", raw::closed(&connection)).await.0, 3, "{bytes}");
    }
    target.until_metric("violations", 3);
    let connection = target.greeted().await;
    for bytes in [lengths; 20].concat() {
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        send.write_all(&raw::in_place_of_request(&length(bytes))).await.unwrap();
        let (answer, ended) = refusal(&mut recv).await;
        assert!(answer.contains("Malformed") && ended, "{answer}");
        held.push((send, recv));
    }
    assert!(connection.close_reason().is_none(), "the stream ends, and no other");
    assert_eq!((target.metric("violations"), target.metric("refusals")), (63, 60));
    target.serves();
    let grown = resident(&target).saturating_sub(before);
    assert!(grown < 64 * 1024 * 1024, "80 GiB were announced, and the node grew by {grown} bytes");
    target.end();
}

/// "Out-of-order frames from a peer": a request before the hello, a second frame after the request, and
/// half a request.
#[tokio::test(flavor = "multi_thread")]
async fn out_of_order_frames() {
    let mut target = Target::new().await;
    let surf = raw::surf("main", "/log/a", "log", None);
    // Surf, and never a hello: nothing is answered, and the connection ends when its time is over.
    let silent = target.connect().await;
    let (_send, mut unanswered) = raw::ask(&silent, &surf).await;
    // Surf first, and the hello after it: it is answered then.
    let late = target.connect().await;
    let (_late_send, mut answered) = raw::ask(&late, &surf).await;
    target.serves();
    raw::hello(&late).await;
    assert!(within("a rock", raw::read_message(&mut answered)).await.unwrap().starts_with("Rock"));
    target.until_metric("remote_readers_now", 2);
    // Half a request: all of it has to come within 10 s.
    let (mut half, mut half_answer) = late.open_bi().await.unwrap();
    half.write_all(&raw::in_place_of_request(&raw::frame(&[1; 100]))[..50]).await.unwrap();
    // A second frame in the stream of a request ends the subscription, whatever is in it.
    let (mut twice, mut twice_answer) = raw::ask(&late, &surf).await;
    assert!(within("a rock", raw::read_message(&mut twice_answer)).await.unwrap().starts_with("Rock"));
    target.until_metric("remote_readers_now", 3);
    twice.write_all(&raw::frame(&postcard::to_allocvec(&surf).unwrap())).await.unwrap();
    target.until_metric("remote_readers_now", 2);
    let ended = async { while raw::read_frame(&mut twice_answer).await.is_some() {} };
    within("the end of that stream", ended).await;
    assert!(late.close_reason().is_none(), "and no other stream");
    target.serves();
    let (answer, ended) = refusal(&mut half_answer).await;
    assert!(answer.contains("Malformed") && ended, "{answer}");
    let (code, reason) = within("the close", raw::closed(&silent)).await;
    assert_eq!((code, reason.as_str()), (3, "no proper hello"));
    assert_eq!(raw::read_frame(&mut unanswered).await, None, "nothing was answered before the hello");
    assert_eq!((target.metric("violations"), target.metric("refusals")), (2, 1));
    assert!(late.close_reason().is_none());
    target.end();
}

/// "A peer over its limit of connections": the ninth is told the limit and what to do.
#[tokio::test(flavor = "multi_thread")]
async fn over_the_limit_of_connections() {
    let mut target = Target::new().await;
    let mut held = Vec::new();
    // Each that says hello takes the place of the one before. Those that do not have three seconds.
    for _ in 0..8 {
        held.push(target.connect().await);
    }
    for _ in 0..5 {
        let one_more = target.connect().await;
        let (code, reason) = within("the close", raw::closed(&one_more)).await;
        assert_eq!(code, 2);
        assert!(reason.contains("8 connections") && reason.contains("close one"), "{reason}");
    }
    assert!(held.iter().all(|connection| connection.close_reason().is_none()), "the others stand");
    target.until_metric("connections_refused", 5);
    target.serves();
    // The honest one's.
    target.until_metric("connections_now", 1);
    let again = target.greeted().await;
    target.until_metric("connections_now", 2);
    assert!(again.close_reason().is_none());
    target.end();
}

type Streams = Vec<(SendStream, RecvStream)>;

/// Asks for so many paths.
async fn ask_many(connection: &Connection, count: usize, path: impl Fn(usize) -> String) -> Streams {
    let mut streams = Vec::new();
    for n in 0..count {
        streams.push(raw::ask(connection, &raw::surf("main", &path(n), "log", None)).await);
    }
    streams
}

/// "A peer over its limit of streams": 1,000.
#[tokio::test(flavor = "multi_thread")]
async fn over_the_limit_of_streams() {
    let mut target = Target::new().await;
    let connection = target.greeted().await;
    let mut held = ask_many(&connection, 1_000, |_| "/log/a".to_owned()).await;
    target.until_metric("remote_readers_now", 1_001);
    let (_send, mut recv) = raw::ask(&connection, &raw::surf("main", "/log/a", "log", None)).await;
    let (answer, ended) = refusal(&mut recv).await;
    assert!(answer.contains("TooManySubscriptions") && answer.contains("1000") && ended, "{answer}");
    assert_eq!((target.metric("refusals"), target.metric("violations")), (1, 0));
    target.serves();
    // One ends, and there is a place again.
    held.swap_remove(0);
    target.until_metric("remote_readers_now", 1_000);
    let (_send, mut recv) = raw::ask(&connection, &raw::surf("main", "/log/a", "log", None)).await;
    assert!(within("a rock", raw::read_message(&mut recv)).await.unwrap().starts_with("Rock"));
    target.serves();
    drop(held);
    connection.close(0u32.into(), b"");
    target.until_metric("remote_readers_now", 1);
    target.end();
}

/// "A peer over its limit of parked surfs": 1,000, and they leave nothing.
#[tokio::test(flavor = "multi_thread")]
async fn over_the_limit_of_parked_surfs() {
    let mut target = Target::new().await;
    let connection = target.greeted().await;
    let mut held = ask_many(&connection, 1_000, |n| format!("/log/none-{n}")).await;
    target.until_metric("parked_readers_now", 1_000);
    for (_, recv) in &mut held {
        assert_eq!(within("an answer", raw::read_message(recv)).await.as_deref(), Some("NotAvailable"));
    }
    let (_send, mut recv) = raw::ask(&connection, &raw::surf("main", "/log/none", "log", None)).await;
    let (answer, ended) = refusal(&mut recv).await;
    assert!(answer.contains("TooManyParked") && answer.contains("1000") && ended, "{answer}");
    assert_eq!((target.metric("refusals"), target.metric("violations")), (1, 0));
    // One that is there is still served to the same peer.
    let (_send, mut recv) = raw::ask(&connection, &raw::surf("main", "/log/a", "log", None)).await;
    assert!(within("a rock", raw::read_message(&mut recv)).await.unwrap().starts_with("Rock"));
    target.serves();
    // One of them begins, which is a place among the served ones; then another may be parked.
    target.node.run(&["open", "/log/none-7", "--lake", "log"]).well();
    assert!(within("a rock", raw::read_message(&mut held[7].1)).await.unwrap().starts_with("Rock"));
    let (_other, mut recv) = raw::ask(&connection, &raw::surf("main", "/log/none", "log", None)).await;
    assert_eq!(within("an answer", raw::read_message(&mut recv)).await.as_deref(), Some("NotAvailable"));
    let status = target.node.run(&["status"]).only();
    assert_eq!(status["publications"].as_array().unwrap().len(), 2, "what is waited for is not stored");
    target.end();
}

/// "Malformed, oversized or out-of-order frames from a peer" that publishes: its stream is unusable, in words,
/// and asked for again ever later; what the node follows elsewhere goes on.
#[tokio::test(flavor = "multi_thread")]
async fn frames_of_a_hostile_publisher() {
    let mut target = Target::new().await;
    let at = Cursor { epoch: Epoch([1; 16]), aeon: Aeon(7) };
    let rock = postcard::to_allocvec(&vec!["state"]).unwrap();
    let begin = raw::message_frame(&Message::Rock { at, bytes: rock.len() as u64, digest: Digest::of(&rock) });
    let chunk = raw::message_frame(&Message::Chunk((&rock[..]).into()));
    let gap = Message::Wave { aeon: Aeon(9), digest: None, wave: postcard::to_allocvec("line").unwrap().into() };
    let cases = [
        ("malformed", vec![raw::frame(&[0xee; 64])], "an undecodable message"),
        ("oversized", vec![u32::MAX.to_le_bytes().to_vec()], "a frame of 4294967295 bytes"),
        ("out of order", vec![begin, chunk, raw::message_frame(&gap)], "the wave of aeon 9 after aeon 7"),
    ];
    let mut held = Vec::new();
    for (name, frames, reason) in cases {
        let (endpoint, _task) = raw::publisher(move |_| frames.clone()).await;
        let ticket = raw::ticket(&endpoint).to_string();
        let mut surfing = target.honest.surf(&[&ticket, "/log/hostile", "--lake", "log"]);
        let unusable = surfing.until(|line| line["state"] == "unusable");
        assert!(unusable["detail"].as_str().unwrap().contains(reason), "{name}: {unusable}");
        target.serves();
        held.push((endpoint, surfing));
    }
    let status = target.honest.run(&["status"]).only();
    assert!(status["metrics"]["violations"].as_u64().unwrap() >= 3, "{}", status["metrics"]);
    // Three of them for as long as they liked, and no busy loop: it waits longer each time.
    assert!(status["metrics"]["violations"].as_u64().unwrap() < 60, "{}", status["metrics"]);
    target.end();
}

/// A peer that connects and closes over and over leaves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_come_and_go_leave_nothing() {
    let mut target = Target::new().await;
    for _ in 0..100 {
        let connection = target.greeted().await;
        let (_send, _recv) = raw::ask(&connection, &raw::surf("main", "/log/a", "log", None)).await;
        connection.close(0u32.into(), b"");
    }
    target.serves();
    target.until_metric("connections_now", 1);
    target.until_metric("remote_readers_now", 1);
    assert_eq!(target.metric("violations"), 0);
    target.end();
}
