//! Traps of the document's store and its one thread: what `SyncHandle` does when it is used alone.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use iroh::{
    Endpoint, EndpointAddr,
    endpoint::{Connection, presets},
    protocol::{AcceptError, ProtocolHandler, Router},
};
use iroh_docs::{
    Author, AuthorId, Capability, ContentStatus, Event, NamespaceId, NamespaceSecret, Record, SignedEntry,
    actor::{OpenOpts, SyncHandle},
    net::{AcceptOutcome, connect_and_sync, handle_connection},
    store::{Query, fs::Store},
};
use tokio::time::timeout;

/// How long is waited for what must come. Only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long is waited for what must not come: time itself is under test there.
const SILENCE: Duration = Duration::from_millis(1_500);

const SECRET: [u8; 32] = [7; 32];

/// One document in a store of its own.
struct Document {
    handle: SyncHandle,
    id: NamespaceId,
    secret: NamespaceSecret,
}

impl Document {
    async fn new(store: Store, opts: OpenOpts) -> Self {
        let secret = NamespaceSecret::from_bytes(&SECRET);
        let handle = SyncHandle::spawn(store, None, "test".to_owned());
        let id = handle.import_namespace(Capability::Write(secret.clone())).await.unwrap();
        handle.open(id, opts).await.unwrap();
        Self { handle, id, secret }
    }

    async fn in_memory() -> Self {
        Self::new(Store::memory(), OpenOpts::default().sync()).await
    }

    /// An entry that another side has signed. An empty value is what iroh-docs has for a tombstone.
    fn entry(&self, author: &Author, key: &str, value: &str, timestamp: u64) -> SignedEntry {
        let record = match value {
            "" => Record::empty(timestamp),
            value => Record::new(blake3::hash(value.as_bytes()).into(), value.len() as u64, timestamp),
        };
        SignedEntry::from_parts(&self.secret, author, key, record)
    }

    async fn put(&self, author: &Author, key: &str, value: &str, timestamp: u64) -> Result<(), String> {
        let entry = self.entry(author, key, value, timestamp);
        let inserting = self.handle.insert_remote(self.id, entry, [9; 32], ContentStatus::Complete);
        inserting.await.map_err(|error| format!("{error:#}"))
    }

    /// The timestamp of what stands at a key, tombstones included.
    async fn timestamp(&self, author: AuthorId, key: &str) -> Option<u64> {
        let key = Bytes::copy_from_slice(key.as_bytes());
        self.handle.get_exact(self.id, author, key, true).await.unwrap().map(|entry| entry.timestamp())
    }
}

/// Longer than an insert takes by far, and shorter than the patience of a test.
async fn hangs(what: impl Future) -> bool {
    timeout(SILENCE, what).await.is_err()
}

fn author(number: u8) -> Author {
    Author::from_bytes(&[number; 32])
}

/// Microseconds since 1970, as iroh-docs counts.
fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as u64
}

/// 1: a subscriber that does not read holds up every document of the process.
#[tokio::test]
async fn trap_01_a_subscriber_that_does_not_read_blocks_everything() {
    let (events, unread) = async_channel::bounded(1);
    let document = Document::new(Store::memory(), OpenOpts::default().sync().subscribe(events)).await;
    document.put(&author(1), "a", "first", 1).await.unwrap();
    assert!(hangs(document.put(&author(1), "b", "second", 2)).await, "an insert waits for the subscriber");
    assert!(hangs(document.handle.get_state(document.id)).await, "and so does all else");
    // It goes on when somebody reads.
    while unread.recv().await.is_ok_and(|event| !is_of(&event, "b")) {}
    timeout(PATIENCE, document.handle.get_state(document.id)).await.unwrap().unwrap();
}

fn is_of(event: &Event, key: &str) -> bool {
    matches!(event, Event::RemoteInsert { entry, .. } if entry.key() == key.as_bytes())
}

/// 4: a document that is closed once more than it was opened tells its subscribers nothing more.
#[tokio::test]
async fn trap_04_the_last_close_ends_subscriptions() {
    let (events, heard) = async_channel::bounded(16);
    let document = Document::new(Store::memory(), OpenOpts::default().sync().subscribe(events)).await;
    document.put(&author(1), "a", "first", 1).await.unwrap();
    assert!(is_of(&heard.recv().await.unwrap(), "a"));
    // Somebody else opens it, and closes it twice: nothing keeps handles apart.
    document.handle.open(document.id, OpenOpts::default().sync()).await.unwrap();
    assert!(!document.handle.close(document.id).await.unwrap());
    assert!(document.handle.close(document.id).await.unwrap(), "that was ours");
    document.handle.open(document.id, OpenOpts::default().sync()).await.unwrap();
    document.put(&author(1), "b", "second", 2).await.unwrap();
    assert!(heard.recv().await.is_err(), "the subscription has ended without a word");
}

/// 8: what stands at a deleted key can be undone by an older entry.
#[tokio::test]
async fn trap_08_a_tombstone_does_not_block_an_older_entry() {
    let document = Document::in_memory().await;
    let (writer, key) = (author(1), "key");
    document.put(&writer, key, "old", 5).await.unwrap();
    document.put(&writer, key, "", 10).await.unwrap();
    document.put(&writer, key, "late", 7).await.unwrap();
    assert_eq!(document.timestamp(writer.id(), key).await, Some(7), "the tombstone is gone");
}

/// 9: writing a key erases the same author's older entries whose keys begin with it, without an event.
#[tokio::test]
async fn trap_09_a_short_key_erases_longer_ones() {
    let (events, heard) = async_channel::bounded(16);
    let document = Document::new(Store::memory(), OpenOpts::default().sync().subscribe(events)).await;
    let writer = author(1);
    document.put(&writer, "ab", "long", 1).await.unwrap();
    document.put(&writer, "a", "short", 2).await.unwrap();
    assert_eq!(document.timestamp(writer.id(), "ab").await, None);
    assert!(is_of(&heard.recv().await.unwrap(), "ab") && is_of(&heard.recv().await.unwrap(), "a"));
    assert!(heard.is_empty(), "nobody is told of the erasure");
}

/// 10: the last write wins within an author only; of two authors both stand, and both are told.
#[tokio::test]
async fn trap_10_each_author_has_a_winner_of_its_own() {
    let (events, heard) = async_channel::bounded(16);
    let document = Document::new(Store::memory(), OpenOpts::default().sync().subscribe(events)).await;
    document.put(&author(1), "key", "newer", 10).await.unwrap();
    document.put(&author(2), "key", "older", 5).await.unwrap();
    assert_eq!(document.timestamp(author(1).id(), "key").await, Some(10));
    assert_eq!(document.timestamp(author(2).id(), "key").await, Some(5));
    heard.recv().await.unwrap();
    assert!(matches!(heard.recv().await.unwrap(), Event::RemoteInsert { entry, .. } if entry.timestamp() == 5));
}

/// 11: there is no empty value.
#[tokio::test]
async fn trap_11_empty_values_are_refused() {
    let document = Document::in_memory().await;
    let writer = document.handle.import_author(author(1)).await.unwrap();
    let nothing = blake3::hash(b"").into();
    document.handle.insert_local(document.id, writer, "key".into(), nothing, 0).await.unwrap_err();
}

/// 12: entries more than ten minutes ahead of this clock are refused, and so are those that are not newer.
#[tokio::test]
async fn trap_12_a_clock_that_is_ahead_or_was_set_back_loses_writes() {
    const MINUTE: u64 = 60_000_000;
    let document = Document::in_memory().await;
    let writer = author(1);
    document.put(&writer, "far", "11 minutes ahead", now() + 11 * MINUTE).await.unwrap_err();
    document.put(&writer, "near", "9 minutes ahead", now() + 9 * MINUTE).await.unwrap();
    // The clock is set right: what this author writes now is older than what it wrote before.
    let set_right = document.put(&writer, "near", "now", now()).await.unwrap_err();
    assert!(set_right.contains("newer entry"), "{set_right}");
    let writer = document.handle.import_author(author(1)).await.unwrap();
    let hash = blake3::hash(b"now").into();
    document.handle.insert_local(document.id, writer, "near".into(), hash, 3).await.unwrap_err();
}

/// What a crash at this moment leaves: the file as it is, opened by another process.
async fn after_a_crash(path: &Path, writer: AuthorId, key: &str) -> Option<u64> {
    let copy = path.with_extension("copy");
    std::fs::copy(path, &copy).unwrap();
    let document = Document::new(Store::persistent(&copy).unwrap(), OpenOpts::default().sync()).await;
    let found = document.timestamp(writer, key).await;
    drop(document.handle.shutdown().await.unwrap());
    found
}

/// 19: an insert is answered before it is durable; a flush makes it so.
#[tokio::test]
async fn trap_19_what_is_acknowledged_is_not_durable() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("docs.redb");
    let document = Document::new(Store::persistent(&path).unwrap(), OpenOpts::default().sync()).await;
    document.handle.flush_store().await.unwrap();
    let writer = author(1);
    // It commits by itself half a second after the first change: three tries, in case the machine is that slow.
    let mut lost = false;
    for round in 0..3 {
        let key = format!("key/{round}");
        document.put(&writer, &key, "acknowledged", 1).await.unwrap();
        lost |= after_a_crash(&path, writer.id(), &key).await.is_none();
    }
    assert!(lost, "each of them was durable at once");
    document.put(&writer, "flushed", "acknowledged", 1).await.unwrap();
    document.handle.flush_store().await.unwrap();
    assert_eq!(after_a_crash(&path, writer.id(), "flushed").await, Some(1));
}

/// 28: a query commits the transaction that is open, so that it costs what a flush costs.
#[tokio::test]
async fn trap_28_a_query_commits() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("docs.redb");
    let document = Document::new(Store::persistent(&path).unwrap(), OpenOpts::default().sync()).await;
    let writer = author(1);
    document.put(&writer, "key", "value", 1).await.unwrap();
    let (found, mut entries) = irpc::channel::mpsc::channel(4);
    document.handle.get_many(document.id, Query::all().build(), found).await.unwrap();
    while let Ok(Some(_)) = entries.recv().await {}
    assert_eq!(after_a_crash(&path, writer.id(), "key").await, Some(1));
}

async fn endpoint(alpn: &[u8]) -> (Endpoint, EndpointAddr) {
    let builder = Endpoint::builder(presets::Minimal).alpns(vec![alpn.to_vec()]).clear_ip_transports();
    let endpoint = builder.bind_addr("127.0.0.1:0").unwrap().bind().await.unwrap();
    let addr = EndpointAddr::new(endpoint.id()).with_ip_addr(endpoint.bound_sockets()[0]);
    (endpoint, addr)
}

/// One reconciliation by iroh-docs' own functions: what the dialling and the accepting side report.
async fn reconcile(
    dialling: &Document,
    accepting: &Document,
) -> (Result<(), String>, Result<(), tokio::task::JoinError>) {
    let ((from, _), (to, addr)) = (endpoint(iroh_docs::ALPN).await, endpoint(iroh_docs::ALPN).await);
    let (handle, acceptor) = (accepting.handle.clone(), to.clone());
    let acceptor = tokio::spawn(async move {
        let connection = acceptor.accept().await.unwrap().accept().unwrap().await.unwrap();
        let allow = |_, _| std::future::ready(AcceptOutcome::Allow);
        // How it ends for this side is not under test, unless it panics.
        let _ = handle_connection(handle, connection, allow, None).await;
    });
    let dialled = connect_and_sync(&from, &dialling.handle, dialling.id, addr, None);
    let dialled = timeout(PATIENCE, dialled).await.unwrap();
    let accepted = timeout(PATIENCE, acceptor).await.unwrap();
    to.close().await;
    (dialled.map(|_| ()).map_err(|error| format!("{error:#}")), accepted)
}

/// 3: where the accepting side fails in the midst of a reconciliation, it panics. In iroh-docs' live engine
/// that ends the engine: `trap_03_a_failed_accept_ends_the_live_engine`.
#[tokio::test]
async fn trap_03_a_failed_accept_panics() {
    let (here, there) = (Document::in_memory().await, Document::in_memory().await);
    there.handle.close(there.id).await.unwrap();
    let (dialled, accepted) = reconcile(&here, &there).await;
    dialled.unwrap_err();
    assert!(accepted.unwrap_err().is_panic());
}

/// `connect_and_sync` reports a failure although both sides have everything by then: the accepting side drops
/// its connection as soon as it has nothing to answer.
#[tokio::test]
async fn trap_a_reconciliation_that_succeeded_is_reported_as_failed() {
    let mut reported = Vec::new();
    // Who is quicker decides; ten tries.
    for _ in 0..10 {
        let (here, there) = (Document::in_memory().await, Document::in_memory().await);
        here.put(&author(1), "here", "value", 1).await.unwrap();
        there.put(&author(2), "there", "value", 1).await.unwrap();
        let (dialled, accepted) = reconcile(&here, &there).await;
        accepted.unwrap();
        assert_eq!(here.timestamp(author(2).id(), "there").await, Some(1));
        assert_eq!(there.timestamp(author(1).id(), "here").await, Some(1));
        reported.push(dialled);
        if reported.last().is_some_and(Result::is_err) {
            return;
        }
    }
    panic!("then it is no trap any more: {reported:?}");
}

/// 27: a panic in any handler of a router ends the router, and closes the endpoint for everything else.
#[tokio::test]
async fn trap_27_a_panic_in_a_handler_closes_the_endpoint() {
    #[derive(Debug)]
    struct Panics;
    impl ProtocolHandler for Panics {
        async fn accept(&self, _: Connection) -> Result<(), AcceptError> {
            panic!("a mistake in a handler")
        }
    }
    let ((to, addr), (from, _)) = (endpoint(b"panics").await, endpoint(b"panics").await);
    let _router = Router::builder(to.clone()).accept(b"panics", Panics).spawn();
    let _connection = from.connect(addr, b"panics").await.unwrap();
    timeout(PATIENCE, to.closed()).await.unwrap();
}
