//! Rolling updates: a peer that speaks the version before or after as well is served, whoever has dialled. One
//! that speaks later versions alone is refused in words and served once it speaks a common one.

use std::sync::{Arc, Mutex};

use groundswell::{Aeon, Cursor, Epoch, Freshness, Node, Publications, Source, lakes::Log};
use groundswell_core::{
    Digest,
    wire::{BootId, Extension, Hello, Message, PROTOCOL_VERSIONS, VersionRange, encode_frame},
};
use iroh::Endpoint;
use tempfile::TempDir;

use crate::common::{raw, recorded::Recorded, spawn_node, until, within};

/// The versions of a neighbour in a rolling update, and of one that has left this version behind.
fn neighbours() -> [VersionRange; 2] {
    let now = PROTOCOL_VERSIONS.highest();
    [VersionRange::new(now, now + 1).unwrap(), VersionRange::new(now - 1, now).unwrap()]
}

fn later() -> VersionRange {
    let now = PROTOCOL_VERSIONS.highest();
    VersionRange::new(now + 1, now + 2).unwrap()
}

/// A node with one line at `/log/a`.
async fn publisher() -> (Node, Publications<Log>, TempDir) {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let logs = node.agent("main").unwrap().publications::<Log>("/log/*").await.unwrap();
    logs.give("/log/a", "one".to_owned()).await.unwrap();
    (node, logs, dir)
}

/// Whether a subscriber that speaks these versions gets the rock.
async fn is_served(subscriber: &Endpoint, node: &Node, versions: VersionRange) -> Result<(), (u64, String)> {
    let connection = within("a connection", subscriber.connect(raw::address(&node.ticket()), raw::ALPN)).await.unwrap();
    raw::hello_speaking(&connection, versions).await;
    let asked = async {
        let (_send, mut recv) = raw::try_ask(&connection, &raw::surf("main", "/log/a", "log", None)).await?;
        let message = raw::read_message(&mut recv).await?;
        assert!(message.starts_with("Rock"), "{message}");
        Some(())
    };
    match within("an answer", asked).await {
        Some(()) => Ok(()),
        None => Err(within("the reason", raw::closed(&connection)).await),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_of_a_neighbouring_version_is_served() {
    let (node, _logs, _dir) = publisher().await;
    let subscriber = raw::endpoint().await;
    for versions in neighbours() {
        assert_eq!(is_served(&subscriber, &node, versions).await, Ok(()), "{versions}");
    }
    let (code, reason) = is_served(&subscriber, &node, later()).await.unwrap_err();
    assert_eq!(code, 1, "{reason}");
    // As the one who reads it sees it.
    for said in [later().to_string(), PROTOCOL_VERSIONS.to_string(), "update the other side".to_owned()] {
        assert!(reason.contains(&said), "{reason}");
    }
    // It has learned the node's versions, too: the hello arrives before the connection is closed.
    let connection = subscriber.connect(raw::address(&node.ticket()), raw::ALPN).await.unwrap();
    raw::hello_speaking(&connection, later()).await;
    let mut hello = within("the node's hello", connection.accept_uni()).await.unwrap();
    let body = within("the node's hello", raw::read_frame(&mut hello)).await.unwrap();
    assert_eq!(VersionRange::of_hello(&body), Ok(PROTOCOL_VERSIONS));
    assert_eq!(is_served(&subscriber, &node, PROTOCOL_VERSIONS).await, Ok(()));
    assert_eq!(node.metrics().violations, 0, "nobody has broken a rule");
    node.shutdown().await.unwrap();
}

/// What a publisher sends after its hello: a rock of one line.
fn frames() -> Vec<Vec<u8>> {
    let at = Cursor { epoch: Epoch([1; 16]), aeon: Aeon(7) };
    let rock = postcard::to_allocvec(&vec!["one"]).unwrap();
    let wave = postcard::to_allocvec("two").unwrap();
    vec![
        raw::message_frame(&Message::Rock { at, bytes: rock.len() as u64, digest: Digest::of(&rock) }),
        raw::message_frame(&Message::Chunk(rock.into())),
        raw::message_frame(&Message::Wave { aeon: Aeon(8), digest: None, wave: wave.into() }),
        raw::message_frame(&Message::CaughtUp(Aeon(8))),
    ]
}

/// Answers every connection with this hello, and every request with these frames.
async fn publisher_by_hand(
    hello: Arc<Mutex<Vec<u8>>>,
    frames: Vec<Vec<u8>>,
) -> (Endpoint, tokio::task::JoinHandle<()>) {
    let endpoint = raw::endpoint().await;
    let accepting = endpoint.clone();
    let task = tokio::spawn(async move {
        while let Some(incoming) = accepting.accept().await {
            let (frames, hello) = (frames.clone(), hello.lock().unwrap().clone());
            tokio::spawn(async move {
                let Ok(connection) = incoming.await else { return };
                raw::say(&connection, &hello).await;
                while let Ok((mut send, mut recv)) = connection.accept_bi().await {
                    raw::read_surf(&mut recv).await;
                    for frame in &frames {
                        send.write_all(frame).await.unwrap();
                    }
                    // The streams stay open.
                    tokio::spawn(async move {
                        let _send = send;
                        let _ = recv.read_chunk(1).await;
                    });
                }
            });
        }
    });
    (endpoint, task)
}

fn hello_frame(versions: VersionRange) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_frame(&Hello { versions, boot: BootId([9; 16]), extension: Extension::default() }, &mut frame).unwrap();
    frame
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_of_a_neighbouring_version_is_followed_and_a_later_one_when_it_is_back() {
    for neighbour in neighbours() {
        let hello = Arc::new(Mutex::new(hello_frame(later())));
        let (endpoint, task) = publisher_by_hand(hello.clone(), frames()).await;
        let dir = TempDir::new().unwrap();
        let node = spawn_node(dir.path()).await;
        node.add_peer(&raw::ticket(&endpoint)).await.unwrap();
        let inbox = node.agent("main").unwrap().subscriptions::<Log>("/log/*").await.unwrap();
        let source = Source::new(endpoint.id(), "main", "/log/a").unwrap();
        let updates = inbox.surf(source.clone()).await.unwrap();
        let mut said = String::new();
        until("the refusal", || match updates.freshness() {
            Freshness::Unusable { reason } => {
                said = reason;
                true
            }
            _ => false,
        })
        .await;
        for part in [later().to_string(), PROTOCOL_VERSIONS.to_string(), "update this side".to_owned()] {
            assert!(said.contains(&part), "{said}");
        }
        // It is asked again and again, and followed when it speaks a common version.
        *hello.lock().unwrap() = hello_frame(neighbour);
        until("the state", || updates.freshness() == Freshness::Live).await;
        assert_eq!(inbox.read()[&source].cursor.map(|at| at.aeon), Some(Aeon(8)), "{neighbour}");
        node.shutdown().await.unwrap();
        task.abort();
    }
}

/// A peer that was of another version and is gone is told to be away, and no longer to be of another version.
#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_of_a_later_version_that_has_gone_is_offline() {
    let hello = Arc::new(Mutex::new(hello_frame(later())));
    let (endpoint, task) = publisher_by_hand(hello, frames()).await;
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    node.add_peer(&raw::ticket(&endpoint)).await.unwrap();
    let inbox = node.agent("main").unwrap().subscriptions::<Log>("/log/*").await.unwrap();
    let updates = inbox.surf(Source::new(endpoint.id(), "main", "/log/a").unwrap()).await.unwrap();
    until("the refusal", || matches!(updates.freshness(), Freshness::Unusable { .. })).await;
    endpoint.close().await;
    task.abort();
    // A dial that nobody answers takes up to 15 s.
    until("the absence", || matches!(updates.freshness(), Freshness::Offline { .. })).await;
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recorded_bytes_of_a_subscriber_are_served() {
    let newest = [hello_frame(PROTOCOL_VERSIONS), raw::request(&raw::surf("main", "/log/a", "log", None))];
    let recorded = Recorded { name: "surf-{}-subscriber", versions: PROTOCOL_VERSIONS };
    let (node, _logs, _dir) = publisher().await;
    let subscriber = raw::endpoint().await;
    for session in recorded.sessions(&newest) {
        let [hello, surf] = &session[..] else { panic!("a hello and a request") };
        let connection = subscriber.connect(raw::address(&node.ticket()), raw::ALPN).await.unwrap();
        raw::say(&connection, hello).await;
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        send.write_all(surf).await.unwrap();
        let mut came = Vec::new();
        while came.last().is_none_or(|last: &String| !last.starts_with("CaughtUp")) {
            came.push(within("an answer", raw::read_message(&mut recv)).await.unwrap());
        }
        let kinds: Vec<&str> = came.iter().map(|one| one.split(['(', ' ']).next().unwrap()).collect();
        assert_eq!((kinds.first(), kinds.get(1)), (Some(&"Rock"), Some(&"Chunk")), "{came:?}");
    }
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recorded_bytes_of_a_publisher_are_followed() {
    let newest = [&[hello_frame(PROTOCOL_VERSIONS)][..], &frames()].concat();
    let recorded = Recorded { name: "surf-{}-publisher", versions: PROTOCOL_VERSIONS };
    for session in recorded.sessions(&newest) {
        let (hello, frames) = session.split_first().unwrap();
        let (endpoint, task) = publisher_by_hand(Arc::new(Mutex::new(hello.clone())), frames.to_vec()).await;
        let dir = TempDir::new().unwrap();
        let node = spawn_node(dir.path()).await;
        node.add_peer(&raw::ticket(&endpoint)).await.unwrap();
        let inbox = node.agent("main").unwrap().subscriptions::<Log>("/log/*").await.unwrap();
        let source = Source::new(endpoint.id(), "main", "/log/a").unwrap();
        let updates = inbox.surf(source.clone()).await.unwrap();
        until("the state", || updates.freshness() == Freshness::Live).await;
        let lines = inbox.with_rock(&source, |rock, _| rock.clone()).await.unwrap();
        assert_eq!(lines, ["one", "two"]);
        node.shutdown().await.unwrap();
        task.abort();
    }
}
