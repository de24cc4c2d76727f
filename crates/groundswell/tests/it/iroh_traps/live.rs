//! Traps of the live engine: what iroh-docs does with its live actor, gossip and downloader, put together as
//! its own documentation does it.

use std::time::Duration;

use futures_util::StreamExt;
use iroh::{
    Endpoint, EndpointAddr, RelayMode, SecretKey, address_lookup::memory::MemoryLookup, endpoint::presets,
    protocol::Router,
};
use iroh_blobs::{BlobsProtocol, store::mem::MemStore};
use iroh_docs::{
    AuthorId, ContentStatus,
    api::{
        Doc,
        protocol::{AddrInfoOptions, ShareMode},
    },
    engine::LiveEvent,
    protocol::Docs,
};
use iroh_gossip::net::Gossip;
use tokio::{sync::mpsc, time::timeout};

/// How long is waited for what must come. Only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long is waited for what must not come: time itself is under test there.
const SILENCE: Duration = Duration::from_secs(4);

struct Node {
    addr: EndpointAddr,
    lookup: MemoryLookup,
    router: Router,
    docs: Docs,
    gossip: Gossip,
    author: AuthorId,
}

impl Node {
    async fn start() -> Self {
        Self::start_as(SecretKey::generate()).await
    }

    async fn start_as(key: SecretKey) -> Self {
        let builder = Endpoint::builder(presets::Minimal).secret_key(key).relay_mode(RelayMode::Disabled);
        let lookup = MemoryLookup::new();
        let builder = builder.address_lookup(lookup.clone());
        let endpoint = builder.clear_ip_transports().bind_addr("127.0.0.1:0").unwrap().bind().await.unwrap();
        let addr = EndpointAddr::new(endpoint.id()).with_ip_addr(endpoint.bound_sockets()[0]);
        let blobs = MemStore::new();
        let gossip = Gossip::builder().spawn(endpoint.clone());
        let docs = Docs::memory().spawn(endpoint.clone(), (*blobs).clone(), gossip.clone()).await.unwrap();
        let router = Router::builder(endpoint)
            .accept(iroh_blobs::ALPN, BlobsProtocol::new(&blobs, None))
            .accept(iroh_gossip::ALPN, gossip.clone())
            .accept(iroh_docs::ALPN, docs.clone())
            .spawn();
        let author = docs.author_create().await.unwrap();
        Self { addr, lookup, router, docs, gossip, author }
    }

    async fn set(&self, document: &Doc, key: impl Into<bytes::Bytes>, value: &str) {
        document.set_bytes(self.author, key, value.to_owned()).await.unwrap();
    }
}

/// A document at two nodes that are neighbours, and what the second one hears of it.
struct Shared {
    here: Node,
    there: Node,
    document: Doc,
    copy: Doc,
    heard: mpsc::UnboundedReceiver<LiveEvent>,
}

/// Drains the events of a document: one that is not drained would hold up both actors.
async fn listen(document: &Doc) -> mpsc::UnboundedReceiver<LiveEvent> {
    let (sender, heard) = mpsc::unbounded_channel();
    let mut events = document.subscribe().await.unwrap();
    tokio::spawn(async move {
        while let Some(Ok(event)) = events.next().await {
            let _ = sender.send(event);
        }
    });
    heard
}

async fn until(heard: &mut mpsc::UnboundedReceiver<LiveEvent>, mut wanted: impl FnMut(&LiveEvent) -> bool) {
    let waiting = async { while !wanted(&heard.recv().await.expect("the events have ended")) {} };
    timeout(PATIENCE, waiting).await.expect("it did not come");
}

/// Whether it comes before time is up.
async fn comes(heard: &mut mpsc::UnboundedReceiver<LiveEvent>, mut wanted: impl FnMut(&LiveEvent) -> bool) -> bool {
    let waiting = async {
        while let Some(event) = heard.recv().await {
            if wanted(&event) {
                return true;
            }
        }
        false
    };
    timeout(SILENCE, waiting).await.unwrap_or(false)
}

fn inserted(event: &LiveEvent, key: &str) -> bool {
    matches!(event, LiveEvent::InsertRemote { entry, .. } if entry.key() == key.as_bytes())
}

async fn share(here: &Node, there: &Node) -> (Doc, Doc, mpsc::UnboundedReceiver<LiveEvent>) {
    let document = here.docs.create().await.unwrap();
    let ticket = document.share(ShareMode::Write, AddrInfoOptions::Id).await.unwrap();
    let mut heard_here = listen(&document).await;
    document.start_sync(Vec::new()).await.unwrap();
    let copy = there.docs.import_namespace(ticket.capability).await.unwrap();
    let mut heard = listen(&copy).await;
    copy.start_sync(vec![here.addr.clone()]).await.unwrap();
    until(&mut heard, |event| matches!(event, LiveEvent::NeighborUp(_))).await;
    until(&mut heard_here, |event| matches!(event, LiveEvent::NeighborUp(_))).await;
    (document, copy, heard)
}

impl Shared {
    async fn new() -> Self {
        let (here, there) = (Node::start().await, Node::start().await);
        let (document, copy, heard) = share(&here, &there).await;
        let mut shared = Self { here, there, document, copy, heard };
        shared.here.set(&shared.document, "before", "value").await;
        until(&mut shared.heard, |event| inserted(event, "before")).await;
        shared
    }

    async fn stop(self) {
        // A router whose protocols have died may report that; the test has seen what it is about.
        let _ = timeout(SILENCE, self.here.router.shutdown()).await;
        let _ = timeout(SILENCE, self.there.router.shutdown()).await;
    }
}

/// 2: the live actor and the document's thread wait for each other for ever, where much is received while another
/// document is being opened.
#[tokio::test(flavor = "multi_thread")]
async fn trap_02_both_actors_wait_for_each_other() {
    let shared = Shared::new().await;
    let large = shared.here.docs.create().await.unwrap();
    for number in 0..3_000 {
        shared.here.set(&large, format!("{number}"), "value").await;
    }
    large.start_sync(Vec::new()).await.unwrap();
    let ticket = large.share(ShareMode::Write, AddrInfoOptions::Id).await.unwrap();
    let copy = shared.there.docs.import_namespace(ticket.capability).await.unwrap();
    let mut others = Vec::new();
    for _ in 0..2_000 {
        others.push(shared.there.docs.create().await.unwrap());
    }
    copy.start_sync(vec![shared.here.addr.clone()]).await.unwrap();
    let opening = async {
        for other in &others {
            other.start_sync(Vec::new()).await.unwrap();
        }
    };
    // Alone it takes a second and a half.
    timeout(Duration::from_secs(10), opening).await.expect_err("then it is no trap any more");
    shared.stop().await;
}

/// 3: where the accepting side fails in the midst of a reconciliation, the live engine ends, for every document.
#[tokio::test(flavor = "multi_thread")]
async fn trap_03_a_failed_accept_ends_the_live_engine() {
    let shared = Shared::new().await;
    // Somebody closes the document more often than it was opened. The live actor goes on accepting for it.
    for _ in 0..16 {
        shared.document.close().await.unwrap();
    }
    let other = shared.here.docs.create().await.unwrap();
    let dead = async {
        while other.start_sync(Vec::new()).await.is_ok() {
            // A neighbour reconciles when it joins anew.
            shared.copy.leave().await.unwrap();
            shared.copy.start_sync(vec![shared.here.addr.clone()]).await.unwrap();
        }
    };
    timeout(PATIENCE, dead).await.expect("then it is no trap any more");
    shared.stop().await;
}

/// 5: an entry whose message is larger than gossip's limit never arrives as an event, and nothing says so.
#[tokio::test(flavor = "multi_thread")]
async fn trap_05_a_key_that_is_too_long_for_gossip_is_not_heard_of() {
    let mut shared = Shared::new().await;
    let mut silent = false;
    // A reconciliation that happens to run brings one all the same.
    for number in 0..10 {
        let long = format!("{number}{}", "k".repeat(5_000));
        shared.here.set(&shared.document, long.clone(), "value").await;
        silent = !comes(&mut shared.heard, |event| inserted(event, &long)).await;
        if silent {
            break;
        }
    }
    assert!(silent, "then it is no trap any more");
    shared.stop().await;
}

/// 6: one malformed message ends the loop that receives: nothing is heard of afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn trap_06_one_malformed_message_silences_a_document() {
    let mut shared = Shared::new().await;
    // A third peer needs no more than the document's id.
    let stranger = Node::start().await;
    let topic = shared.document.id().to_bytes().into();
    stranger.lookup.add_endpoint_info(shared.there.addr.clone());
    let joined = stranger.gossip.subscribe_and_join(topic, vec![shared.there.addr.id]);
    let mut joined = timeout(PATIENCE, joined).await.unwrap().unwrap();
    until(&mut shared.heard, |event| matches!(event, LiveEvent::NeighborUp(id) if *id == stranger.addr.id)).await;
    joined.broadcast(vec![0xff; 8].into()).await.unwrap();
    // From some moment on nothing is heard of what is written.
    let mut silent = false;
    for number in 0..20 {
        let key = format!("after/{number}");
        shared.here.set(&shared.document, key.clone(), "value").await;
        silent = !comes(&mut shared.heard, |event| inserted(event, &key)).await;
        if silent {
            break;
        }
    }
    assert!(silent, "then it is no trap any more");
    shared.stop().await;
    let _ = stranger.router.shutdown().await;
}

/// 13: the entry is told of before its content is here.
#[tokio::test(flavor = "multi_thread")]
async fn trap_13_the_entry_comes_before_its_content() {
    let mut shared = Shared::new().await;
    shared.here.set(&shared.document, "large", &"x".repeat(1 << 20)).await;
    let mut missing = false;
    until(&mut shared.heard, |event| {
        if let LiveEvent::InsertRemote { entry, content_status, .. } = event
            && entry.key() == b"large"
        {
            missing = *content_status != ContentStatus::Complete;
            return true;
        }
        false
    })
    .await;
    assert!(missing, "then it is no trap any more");
    shared.stop().await;
}

/// 14: one content at two documents is told of at one of them, or at none.
#[tokio::test(flavor = "multi_thread")]
async fn trap_14_equal_contents_are_told_of_once() {
    let mut shared = Shared::new().await;
    let (other, _copy, mut heard_other) = share(&shared.here, &shared.there).await;
    let value = "the same ".repeat(100_000);
    shared.here.set(&shared.document, "key", &value).await;
    shared.here.set(&other, "key", &value).await;
    let ready = |event: &LiveEvent| matches!(event, LiveEvent::ContentReady { .. });
    until(&mut shared.heard, |event| inserted(event, "key")).await;
    until(&mut heard_other, |event| inserted(event, "key")).await;
    let told = [comes(&mut shared.heard, ready).await, comes(&mut heard_other, ready).await];
    assert_ne!(told, [true, true], "then it is no trap any more");
    shared.stop().await;
}

/// 16: a neighbour that is lost and comes back under its own identity at a new port stays lost.
#[tokio::test(flavor = "multi_thread")]
async fn trap_16_a_lost_neighbour_stays_lost() {
    let key = SecretKey::generate();
    let here = Node::start_as(key.clone()).await;
    let there = Node::start().await;
    let (document, copy, mut heard) = share(&here, &there).await;
    let capability = document.share(ShareMode::Write, AddrInfoOptions::Id).await.unwrap().capability;
    timeout(PATIENCE, here.router.shutdown()).await.unwrap().unwrap();
    let here = Node::start_as(key).await;
    let document = here.docs.import_namespace(capability).await.unwrap();
    let heard_here = listen(&document).await;
    document.start_sync(Vec::new()).await.unwrap();
    there.set(&copy, "while away", "value").await;
    here.set(&document, "when back", "value").await;
    assert!(!comes(&mut heard, |event| inserted(event, "when back")).await, "then it is no trap any more");
    drop(heard_here);
    let _ = timeout(SILENCE, here.router.shutdown()).await;
    let _ = timeout(SILENCE, there.router.shutdown()).await;
}
