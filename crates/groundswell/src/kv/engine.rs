//! The iroh-docs side of the key-value store: the engine that holds every document of this node,
//! inserting signed entries, its live events, and reconciliation with a peer.
//!
//! Only iroh-docs' store and its one thread are used. Its live actor, gossip and downloader never
//! run: docs/iroh.md says why.

use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
    sync::RwLock,
    time::Duration,
};

use groundswell_core::{encoding::decode, wire::encode_frame_within};
use iroh::endpoint::SendStream;
use iroh_docs::{
    AuthorId, Capability, ContentStatus, Event, InsertError, NamespaceId, NamespaceSecret, ProtocolMessage,
    SignedEntry, SyncOutcome,
    actor::{OpenOpts, SyncHandle},
    store::{Query, fs::Store as DocsStore},
};
use tracing::warn;

use crate::{
    frames::{FrameReader, ReadFrameError},
    identity::private,
    limits::MAX_RECONCILE_BYTES,
    source::PeerId,
    sync::{read, write},
};

/// How long the engine may take to answer before it counts as dead. A large reconciliation holds its
/// one thread for seconds at a time.
const HEALTH_PATIENCE: Duration = Duration::from_secs(60);

/// How many entries the engine reads ahead of who looks through them.
const ENTRIES_AHEAD: usize = 1_024;

/// Why the engine did not do what it was asked. Nothing that was acknowledged depends on it: all
/// entries are in our own storage first.
#[derive(Debug, thiserror::Error)]
#[error("the docs engine: {0}")]
pub(crate) struct EngineError(String);

impl EngineError {
    /// What hindered the engine from outside.
    pub(crate) fn of(error: &dyn std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// An error of the engine, with all its causes.
fn engine(error: impl std::fmt::Debug) -> EngineError {
    EngineError(format!("{error:?}"))
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inserted {
    /// It is in the document now.
    Yes,
    /// The document has the same entry of this author, or a newer one.
    Known,
}

/// Every document of this node, in one store with one thread of iroh-docs.
pub(crate) struct Engine {
    path: PathBuf,
    /// `None` while it is being rebuilt, and after the shutdown.
    handle: RwLock<Option<SyncHandle>>,
    /// Where the documents tell their live events. Who receives them calls nothing of the engine: it
    /// awaits this channel for every insert.
    events: async_channel::Sender<Event>,
}

impl Engine {
    pub(crate) fn open(path: &Path, events: async_channel::Sender<Event>) -> Result<Self, EngineError> {
        let engine = Self { path: path.to_owned(), handle: RwLock::new(None), events };
        engine.start()?;
        Ok(engine)
    }

    fn start(&self) -> Result<(), EngineError> {
        // Made for this user alone: it holds the documents' secrets.
        private(OpenOptions::new().read(true).write(true).create(true).truncate(false))
            .open(&self.path)
            .map_err(engine)?;
        let store = match DocsStore::persistent(&self.path) {
            Ok(store) => store,
            Err(error) => {
                // What it holds is derived from our own storage: it is made anew, and filled again.
                warn!(error = %format!("{error:#}"), "the docs store is unusable and is made anew");
                let aside = self.path.with_extension("damaged");
                std::fs::rename(&self.path, aside).map_err(engine)?;
                DocsStore::persistent(&self.path).map_err(engine)?
            }
        };
        *write(&self.handle) = Some(SyncHandle::spawn(store, None, "groundswell".to_owned()));
        Ok(())
    }

    fn handle(&self) -> Result<SyncHandle, EngineError> {
        read(&self.handle).clone().ok_or_else(|| EngineError("it is not running".to_owned()))
    }

    /// Opens a document for as long as the engine runs, and subscribes to its live events. It says
    /// whether the engine did not know the document.
    pub(crate) async fn open_document(&self, secret: &NamespaceSecret) -> Result<bool, EngineError> {
        let (handle, id) = (self.handle()?, secret.id());
        let opts = || OpenOpts::default().sync().subscribe(self.events.clone());
        if handle.get_state(id).await.is_ok() {
            // One handle a document: a second would tell every event twice.
            return Ok(false);
        }
        if handle.open(id, opts()).await.is_ok() {
            return Ok(false);
        }
        handle.import_namespace(Capability::Write(secret.clone())).await.map_err(engine)?;
        handle.open(id, opts()).await.map_err(engine)?;
        Ok(true)
    }

    /// Inserts an entry that carries a timestamp and signatures of its own.
    pub(crate) async fn insert(&self, from: PeerId, entry: SignedEntry) -> Result<Inserted, EngineError> {
        let id = entry.entry().namespace();
        let inserted = self.handle()?.insert_remote(id, entry, *from.as_bytes(), ContentStatus::Complete).await;
        match inserted {
            Ok(()) => Ok(Inserted::Yes),
            Err(error) if matches!(error.downcast_ref(), Some(InsertError::NewerEntryExists)) => Ok(Inserted::Known),
            Err(error) => Err(engine(error)),
        }
    }

    /// Every entry of a document: its author, document key and counter. There are as many as two
    /// authors may have keys, at most.
    pub(crate) async fn entries(&self, id: NamespaceId) -> Result<Vec<(AuthorId, [u8; 32], u64)>, EngineError> {
        let (sender, mut entries) = irpc::channel::mpsc::channel(ENTRIES_AHEAD);
        let query = Query::all().include_empty();
        self.handle()?.get_many(id, query.into(), sender).await.map_err(engine)?;
        let mut all = Vec::new();
        while let Some(entry) = entries.recv().await.map_err(engine)? {
            let entry = entry.map_err(engine)?;
            if let Ok(key) = <[u8; 32]>::try_from(entry.key()) {
                all.push((entry.author_bytes(), key, entry.timestamp()));
            }
        }
        Ok(all)
    }

    /// Makes durable what was inserted.
    pub(crate) async fn flush(&self) -> Result<(), EngineError> {
        self.handle()?.flush_store().await.map_err(engine)
    }

    /// Removes a document with all its entries.
    pub(crate) async fn drop_document(&self, id: NamespaceId) -> Result<(), EngineError> {
        self.handle()?.drop_replica(id).await.map_err(engine)
    }

    /// Reconciles a document with a peer, over a stream of ours: iroh-docs' own messages, a frame each.
    /// How many entries were sent and received.
    pub(crate) async fn reconcile(
        &self,
        id: NamespaceId,
        peer: PeerId,
        begin: bool,
        reader: &mut FrameReader,
        stream: &mut SendStream,
    ) -> Result<(usize, usize), EngineError> {
        let handle = self.handle()?;
        let mut outcome = SyncOutcome::default();
        if begin {
            let first = handle.sync_initial_message(id).await.map_err(engine)?;
            write_message(stream, &first).await?;
        }
        loop {
            let body = match reader.next().await {
                Ok(body) => body,
                Err(ReadFrameError::Ended) => break,
                Err(error) => return Err(engine(error)),
            };
            let message = decode(&body).map_err(engine)?;
            let processed = handle.sync_process_message(id, message, *peer.as_bytes(), outcome).await;
            let (reply, next) = processed.map_err(engine)?;
            outcome = next;
            match reply {
                Some(reply) => write_message(stream, &reply).await?,
                None => break,
            }
        }
        Ok((outcome.num_sent, outcome.num_recv))
    }

    /// Whether the engine answers, and its store can be written.
    pub(crate) async fn answers(&self) -> bool {
        matches!(tokio::time::timeout(HEALTH_PATIENCE, self.flush()).await, Ok(Ok(())))
    }

    /// Whether the engine answers, and still tells the live events of this document.
    pub(crate) async fn is_healthy(&self, id: NamespaceId) -> bool {
        let Ok(handle) = self.handle() else { return false };
        match tokio::time::timeout(HEALTH_PATIENCE, handle.get_state(id)).await {
            Ok(Ok(state)) => state.sync && state.subscribers > 0,
            Ok(Err(_)) | Err(_) => false,
        }
    }

    /// Ends the engine, and starts another on the same store. Documents have to be opened again.
    pub(crate) async fn rebuild(&self) -> Result<(), EngineError> {
        self.stop().await;
        self.start()
    }

    /// Ends the engine; what was inserted is made durable.
    pub(crate) async fn stop(&self) {
        let Some(handle) = write(&self.handle).take() else { return };
        // The store closes its file when it is dropped, which may block, as may the last handle.
        match tokio::time::timeout(HEALTH_PATIENCE, handle.shutdown()).await {
            Ok(store) => drop(tokio::task::spawn_blocking(move || drop((store, handle))).await),
            // Its thread hangs, and would hang who joins it.
            Err(_) => std::mem::forget(handle),
        }
    }
}

async fn write_message(stream: &mut SendStream, message: &ProtocolMessage) -> Result<(), EngineError> {
    let mut frame = Vec::new();
    encode_frame_within(MAX_RECONCILE_BYTES, message, &mut frame).map_err(engine)?;
    stream.write_all(&frame).await.map_err(engine)
}

#[cfg(test)]
impl Engine {
    /// Ends its thread behind the back of whoever uses it.
    pub(crate) async fn die(&self) {
        let handle = self.handle().unwrap();
        drop(handle.shutdown().await.unwrap());
    }

    /// Whether it has this entry, or a newer one.
    pub(crate) async fn has(&self, id: NamespaceId, author: AuthorId, key: [u8; 32], counter: u64) -> bool {
        let key = bytes::Bytes::copy_from_slice(&key);
        let entry = self.handle().unwrap().get_exact(id, author, key, true).await.unwrap();
        entry.is_some_and(|entry| entry.timestamp() >= counter)
    }
}

#[cfg(test)]
mod tests {
    use iroh::{Endpoint, EndpointAddr, endpoint::presets};
    use iroh_docs::{Author, Record};

    use super::*;

    fn entry(secret: &NamespaceSecret, author: &Author, key: u8, counter: u64) -> SignedEntry {
        let content = [key, counter as u8];
        SignedEntry::from_parts(secret, author, [key; 32], Record::new(blake3::hash(&content).into(), 2, counter))
    }

    async fn endpoint() -> Endpoint {
        let builder = Endpoint::builder(presets::Minimal).alpns(vec![b"test".to_vec()]).clear_ip_transports();
        builder.bind_addr("127.0.0.1:0").unwrap().bind().await.unwrap()
    }

    /// The whole of what the store stands on: entries with counters for timestamps and signatures of
    /// our own go in, live events and reconciliation bring them out, and no live actor runs.
    #[tokio::test(flavor = "multi_thread")]
    async fn own_timestamps_and_signatures_reconcile_without_the_live_actor() {
        let dir = tempfile::TempDir::new().unwrap();
        let secret = NamespaceSecret::from_bytes(&[7; 32]);
        let (ours, theirs) = (Author::from_bytes(&[1; 32]), Author::from_bytes(&[2; 32]));
        let (a_events, _a) = async_channel::bounded(100);
        let (b_events, b) = async_channel::bounded(100);
        let left = Engine::open(&dir.path().join("left.redb"), a_events).unwrap();
        let right = std::sync::Arc::new(Engine::open(&dir.path().join("right.redb"), b_events).unwrap());
        left.open_document(&secret).await.unwrap();
        right.open_document(&secret).await.unwrap();
        let (from, to) = (endpoint().await, endpoint().await);
        for key in 0..10 {
            assert_eq!(left.insert(from.id(), entry(&secret, &ours, key, 5)).await.unwrap(), Inserted::Yes);
        }
        assert_eq!(left.insert(from.id(), entry(&secret, &ours, 3, 5)).await.unwrap(), Inserted::Known);
        assert_eq!(left.insert(from.id(), entry(&secret, &ours, 3, 4)).await.unwrap(), Inserted::Known);
        assert_eq!(right.insert(to.id(), entry(&secret, &theirs, 3, 1)).await.unwrap(), Inserted::Yes);
        assert!(left.insert(from.id(), entry(&NamespaceSecret::from_bytes(&[8; 32]), &ours, 1, 6)).await.is_err());
        let (acceptor, at, (id, us)) = (right.clone(), to.clone(), (secret.id(), from.id()));
        let accepting = tokio::spawn(async move {
            let connection = at.accept().await.unwrap().accept().unwrap().await.unwrap();
            let (mut send, recv) = connection.accept_bi().await.unwrap();
            let mut reader = FrameReader::new(recv, MAX_RECONCILE_BYTES);
            let outcome = acceptor.reconcile(id, us, false, &mut reader, &mut send).await.unwrap();
            send.finish().unwrap();
            connection.closed().await;
            outcome
        });
        let addr = EndpointAddr::new(to.id()).with_ip_addr(to.bound_sockets()[0]);
        let connection = from.connect(addr, b"test").await.unwrap();
        let (mut send, recv) = connection.open_bi().await.unwrap();
        let mut reader = FrameReader::new(recv, MAX_RECONCILE_BYTES);
        let outcome = left.reconcile(id, to.id(), true, &mut reader, &mut send).await.unwrap();
        connection.close(0u32.into(), b"");
        assert_eq!((outcome, accepting.await.unwrap()), ((10, 1), (1, 10)));
        let mut seen = Vec::new();
        while let Ok(Event::RemoteInsert { entry, .. }) = b.try_recv() {
            seen.push((entry.author_bytes(), entry.key()[0], entry.timestamp()));
        }
        assert_eq!(seen.len(), 11, "its own entry, and ten of the other: {seen:?}");
        assert!(left.has(secret.id(), theirs.id(), [3; 32], 1).await);
        assert!(left.is_healthy(secret.id()).await);
        left.rebuild().await.unwrap();
        assert!(!left.is_healthy(secret.id()).await, "documents are opened again by who rebuilds");
        left.open_document(&secret).await.unwrap();
        assert!(left.has(secret.id(), ours.id(), [9; 32], 5).await, "kept across the rebuild");
        left.stop().await;
        right.stop().await;
    }
}
