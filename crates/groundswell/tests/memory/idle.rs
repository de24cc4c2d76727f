//! What an idle subscription of a remote peer costs this node: every allocation of the process is counted, and the
//! same streams between two bare endpoints are taken off.

use crate::common::{raw, spawn_node, until, within};
use groundswell::{Publications, lakes::Log, limits::IDLE_SUBSCRIPTION_BYTES};
use groundswell_core::wire::Message;
use iroh::endpoint::{Connection, RecvStream, SendStream};
use tempfile::TempDir;

/// How many looks in a row have to find the same, two milliseconds apart or more.
const SETTLED_LOOKS: u32 = 150;

/// As many as a peer may have, but for those that are there before it is measured.
const STREAMS: usize = 900;
const WARM_UP: usize = 100;

type Streams = Vec<(SendStream, RecvStream)>;

/// Asks for so many subscriptions more, and reads all that comes on each.
async fn ask(connection: &Connection, streams: &mut Streams, count: usize, path: impl Fn(usize) -> String) {
    for _ in 0..count {
        let surf = raw::surf("main", &path(streams.len()), "log", None);
        let (send, mut recv) = raw::ask(connection, &surf).await;
        let until_idle = async {
            loop {
                let message = raw::read_message(&mut recv).await.expect("a message");
                if message.starts_with("CaughtUp") || message.starts_with("NotAvailable") {
                    return;
                }
            }
        };
        within("the state", until_idle).await;
        streams.push((send, recv));
    }
}

/// How many bytes the process allocates for each of many idle streams.
async fn bytes_a_stream(connection: &Connection, path: impl Fn(usize) -> String) -> usize {
    let mut streams = Vec::with_capacity(STREAMS + WARM_UP);
    ask(connection, &mut streams, WARM_UP, &path).await;
    let before = settled().await;
    ask(connection, &mut streams, STREAMS, &path).await;
    settled().await.saturating_sub(before) / STREAMS
}

/// What is allocated once it has stopped changing: packets on their way, and their acknowledgements, are not counted.
async fn settled() -> usize {
    let (mut last, mut unchanged) = (0, 0);
    until("the memory to settle", || {
        let now = crate::ALLOCATOR.current_usage();
        // Many looks in a row, since the first few may be between two packets.
        unchanged = if std::mem::replace(&mut last, now).abs_diff(now) < 64 { unchanged + 1 } else { 0 };
        unchanged >= SETTLED_LOOKS
    })
    .await;
    last
}

/// A bare endpoint that answers each request with the same bytes as a node does, and keeps the stream.
async fn bare() -> (iroh::Endpoint, tokio::task::JoinHandle<()>) {
    let empty = postcard::to_allocvec(&Vec::<String>::new()).unwrap();
    let digest = groundswell_core::Digest::of(&empty);
    let at = groundswell::Cursor { epoch: groundswell::Epoch([1; 16]), aeon: groundswell::Aeon(0) };
    let answer = [
        raw::message_frame(&Message::Rock { at, bytes: empty.len() as u64, digest }),
        raw::message_frame(&Message::Chunk((&empty[..]).into())),
        raw::message_frame(&Message::CaughtUp(at.aeon)),
    ];
    let answer = answer.concat();
    let endpoint = raw::endpoint().await;
    let accepting = endpoint.clone();
    let task = tokio::spawn(async move {
        let connection = accepting.accept().await.unwrap().await.unwrap();
        let mut held = Vec::with_capacity(2 * (STREAMS + WARM_UP));
        while let Ok((mut send, mut recv)) = connection.accept_bi().await {
            raw::read_surf(&mut recv).await;
            send.write_all(&answer).await.unwrap();
            // Their handles are part of what a stream costs.
            held.push(Box::new((send, recv)));
        }
    });
    (endpoint, task)
}

/// "Idle subscription: at most 1 KiB of memory beyond its QUIC stream." One that is parked holds as much again: the
/// place of the path that it waits at, which no one else has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_subscription_costs_at_most_1_kib_beyond_its_stream() {
    let _alone = crate::ALONE.lock().await;
    let peer = raw::endpoint().await;
    let (endpoint, _task) = bare().await;
    let stream = {
        let address = raw::address(&raw::ticket(&endpoint));
        let connection = peer.connect(address, raw::ALPN).await.unwrap();
        bytes_a_stream(&connection, |_| "/log/a".to_owned()).await
    };
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let logs: Publications<Log> = node.agent("main").unwrap().publications("/log/*").await.unwrap();
    logs.open("/log/a").await.unwrap();
    for (kind, most) in [("served", IDLE_SUBSCRIPTION_BYTES), ("parked", 2 * IDLE_SUBSCRIPTION_BYTES)] {
        let connection = peer.connect(raw::address(&node.ticket()), raw::ALPN).await.unwrap();
        raw::hello(&connection).await;
        let path = |n: usize| if kind == "served" { "/log/a".to_owned() } else { format!("/log/none-{n}") };
        let whole = bytes_a_stream(&connection, path).await;
        let beyond = whole.saturating_sub(stream);
        println!(
            "{kind}: {whole} bytes a subscription at both ends, {stream} of them the bare stream: {beyond} beyond"
        );
        assert!(beyond <= most, "{kind}: {beyond} bytes beyond the stream");
        connection.close(0u32.into(), b"");
        until("the subscriptions to be gone", || node.metrics().remote_readers_now == 0).await;
    }
    node.shutdown().await.unwrap();
}
