//! The iroh-docs side of the key-value store: the engine that holds every document of this node, inserts signed entries
//! and answers the messages of reconciliations.
//!
//! Only iroh-docs' store and its one thread are used. Its live actor, gossip and downloader never
//! run: docs/iroh.md says why.

use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
    time::Duration,
};

use groundswell_core::kv::KvAuthor;
use iroh_docs::{
    Capability, ContentStatus, InsertError, NamespaceId, NamespaceSecret, ProtocolMessage, SignedEntry, SyncOutcome,
    actor::{OpenOpts, SyncHandle},
    store::{Query, fs::Store as DocsStore},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{document::Identity, storage::Storage};
use crate::{
    files::private,
    source::PeerId,
    sync::{read, write},
};

/// How long the engine may take to answer before it counts as dead. A large reconciliation holds its
/// one thread for seconds at a time.
const HEALTH_PATIENCE: Duration = Duration::from_secs(60);

/// How many entries are compared with storage at a time.
const COMPARED_ENTRIES: usize = 1_024;

/// Why the engine did not do what it was asked. Nothing that was acknowledged depends on it: all
/// entries are in our own storage first.
#[derive(Debug, thiserror::Error)]
#[error("the docs engine: {0}")]
pub(crate) struct EngineError(String);

impl EngineError {
    /// A message that this node cannot encode.
    pub(crate) fn of_encoding(error: impl std::fmt::Display) -> Self {
        Self::of(&error)
    }

    /// What hindered the engine from outside.
    pub(crate) fn of(error: &dyn std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// An error of the engine, with all its causes.
fn engine(error: impl std::fmt::Display) -> EngineError {
    // In one line: the other form has the addresses of a backtrace in it.
    EngineError(format!("{error:#}"))
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
    running: RwLock<Option<Running>>,
}

/// iroh-docs' thread, and the way to it.
#[derive(Clone)]
struct Running {
    handle: SyncHandle,
    /// Set when the thread is found to have ended. What was on its way to it then is never answered.
    gone: CancellationToken,
}

impl Running {
    /// Waits for an answer of the thread, as long as there is the thread.
    async fn ask<T, E: std::fmt::Display>(&self, answer: impl Future<Output = Result<T, E>>) -> Result<T, Refused<E>> {
        let answer = tokio::select! {
            biased;
            answer = answer => answer,
            () = self.gone.cancelled() => return Err(Refused::Gone),
        };
        answer.map_err(|error| {
            let text = format!("{error:#}");
            if GONE.iter().any(|gone| text.contains(gone)) {
                self.gone.cancel();
            }
            Refused::Error(error)
        })
    }
}

/// What iroh-docs says of a thread that has ended: its answer was dropped, or nobody takes what is asked.
const GONE: [&str; 2] = ["channel closed", "sending to iroh_docs actor failed"];

/// Why the thread did not do what it was asked.
enum Refused<E> {
    Error(E),
    Gone,
}

impl<E: std::fmt::Display> From<Refused<E>> for EngineError {
    fn from(refused: Refused<E>) -> Self {
        match refused {
            Refused::Error(error) => engine(error),
            Refused::Gone => Self("its thread has ended".to_owned()),
        }
    }
}

impl Engine {
    /// Opens the store. It begins with nothing where it has anything that our own storage does not have.
    pub(crate) fn open(path: &Path, storage: &Storage, documents: &[Arc<Identity>]) -> Result<Self, EngineError> {
        let mut store = open_store(path)?;
        if let Err(error) = inspect(&mut store, storage, documents) {
            warn!(%error, "the docs store is discarded, and filled again from storage");
            drop(store);
            std::fs::remove_file(path).map_err(engine)?;
            store = open_store(path)?;
        }
        let engine = Self { path: path.to_owned(), running: RwLock::new(None) };
        engine.run(store);
        Ok(engine)
    }

    fn run(&self, store: DocsStore) {
        let handle = SyncHandle::spawn(store, None, "groundswell".to_owned());
        *write(&self.running) = Some(Running { handle, gone: CancellationToken::new() });
    }

    fn running(&self) -> Result<Running, EngineError> {
        read(&self.running).clone().ok_or_else(|| EngineError("it is not running".to_owned()))
    }

    /// Opens a document for as long as the engine runs. It says whether the engine did not know the document.
    pub(crate) async fn open_document(&self, secret: &NamespaceSecret) -> Result<bool, EngineError> {
        let (running, id) = (self.running()?, secret.id());
        let handle = &running.handle;
        let opts = || OpenOpts::default().sync();
        if running.ask(handle.get_state(id)).await.is_ok() {
            // One handle a document is enough, for as long as the engine runs.
            return Ok(false);
        }
        if running.ask(handle.open(id, opts())).await.is_ok() {
            return Ok(false);
        }
        running.ask(handle.import_namespace(Capability::Write(secret.clone()))).await?;
        running.ask(handle.open(id, opts())).await?;
        Ok(true)
    }

    /// Inserts an entry that carries a timestamp and signatures of its own.
    pub(crate) async fn insert(&self, from: PeerId, entry: SignedEntry) -> Result<Inserted, EngineError> {
        let id = entry.entry().namespace();
        let running = self.running()?;
        let insert = running.handle.insert_remote(id, entry, *from.as_bytes(), ContentStatus::Complete);
        match running.ask(insert).await {
            Ok(()) => Ok(Inserted::Yes),
            Err(Refused::Error(error)) if matches!(error.downcast_ref(), Some(InsertError::NewerEntryExists)) => {
                Ok(Inserted::Known)
            }
            Err(refused) => Err(refused.into()),
        }
    }

    /// Makes durable what was inserted.
    pub(crate) async fn flush(&self) -> Result<(), EngineError> {
        let running = self.running()?;
        Ok(running.ask(running.handle.flush_store()).await?)
    }

    /// Removes a document with all its entries.
    pub(crate) async fn drop_document(&self, id: NamespaceId) -> Result<(), EngineError> {
        let running = self.running()?;
        Ok(running.ask(running.handle.drop_replica(id)).await?)
    }

    /// The message that begins a reconciliation of a document.
    pub(crate) async fn first_message(&self, id: NamespaceId) -> Result<ProtocolMessage, EngineError> {
        let running = self.running()?;
        Ok(running.ask(running.handle.sync_initial_message(id)).await?)
    }

    /// The answer to a message of a reconciliation that has passed the [gate](super::gate), if there is one.
    pub(crate) async fn process(
        &self,
        id: NamespaceId,
        message: ProtocolMessage,
        from: PeerId,
    ) -> Result<Option<ProtocolMessage>, EngineError> {
        let running = self.running()?;
        let process = running.handle.sync_process_message(id, message, *from.as_bytes(), SyncOutcome::default());
        let (reply, _) = running.ask(process).await?;
        Ok(reply)
    }

    /// Whether the engine answers, and its store can be written.
    pub(crate) async fn answers(&self) -> bool {
        matches!(tokio::time::timeout(HEALTH_PATIENCE, self.flush()).await, Ok(Ok(())))
    }

    /// Whether the engine answers, and has this document open.
    pub(crate) async fn is_healthy(&self, id: NamespaceId) -> bool {
        let Ok(running) = self.running() else { return false };
        match tokio::time::timeout(HEALTH_PATIENCE, running.ask(running.handle.get_state(id))).await {
            Ok(Ok(state)) => state.sync,
            Ok(Err(_)) | Err(_) => false,
        }
    }

    /// Ends the engine, and starts another on the same store. Documents have to be opened again.
    pub(crate) async fn rebuild(&self) -> Result<(), EngineError> {
        self.stop().await;
        self.run(open_store(&self.path)?);
        Ok(())
    }

    /// Ends the engine; what was inserted is made durable. Where nobody waits for that any more, a thread does.
    pub(crate) async fn stop(&self) {
        let Some(running) = write(&self.running).take() else { return };
        let mut leaving = Leaving(Some(running));
        let Some(running) = &leaving.0 else { return };
        let stopped = tokio::time::timeout(HEALTH_PATIENCE, running.ask(running.handle.shutdown())).await;
        if let Ok(store) = stopped.map(Result::ok) {
            // The store closes its file when it is dropped, which may block.
            let running = leaving.0.take();
            drop(tokio::task::spawn_blocking(move || drop((store, running))).await);
        }
    }
}

/// An engine that is to end. Its last handle joins the engine's thread, which may be busy for long: nobody else waits for that.
struct Leaving(Option<Running>);

impl Drop for Leaving {
    fn drop(&mut self) {
        if let Some(running) = self.0.take() {
            let joins = std::thread::Builder::new().name("groundswell-leaving".to_owned());
            // Without a thread for it, it goes on with nobody who waits.
            let running = std::mem::ManuallyDrop::new(running);
            let _ = joins.spawn(move || drop(std::mem::ManuallyDrop::into_inner(running)));
        }
    }
}

/// Opens the store's file, or makes it, for this user alone: it holds the documents' secrets.
fn open_store(path: &Path) -> Result<DocsStore, EngineError> {
    open_file(path).or_else(|(sound, error)| {
        if sound {
            return Err(error);
        }
        // What it holds is derived from our own storage, which fills it again.
        warn!(%error, "the docs store is unusable: it is put aside, and filled again from storage");
        std::fs::rename(path, path.with_extension("damaged")).map_err(engine)?;
        open_file(path).map_err(|(_, error)| error)
    })
}

/// On an error, whether the file is sound: the disk is full, or an earlier start has not let go of it yet.
fn open_file(path: &Path) -> Result<DocsStore, (bool, EngineError)> {
    private(OpenOptions::new().read(true).write(true).create(true).truncate(false))
        .open(path)
        .map_err(|error| (false, engine(error)))?;
    DocsStore::persistent(path).map_err(|error| {
        // The causes are of many types, and not all of them tell what theirs is.
        let kinds = format!("{error:?}");
        let sound = ["StorageFull", "QuotaExceeded", "FileTooLarge", "DatabaseAlreadyOpen"];
        (sound.iter().any(|kind| kinds.contains(kind)), engine(error))
    })
}

/// Whether the store has only what storage has too: entries of the two authors of each document, under keys of 32 bytes.
/// A version before the gate took others from the other side. Documents that are gone are removed.
fn inspect(store: &mut DocsStore, storage: &Storage, documents: &[Arc<Identity>]) -> Result<(), EngineError> {
    let found: Vec<NamespaceId> = store
        .list_namespaces()
        .map_err(engine)?
        .map(|one| one.map(|(id, _)| id))
        .collect::<Result<_, _>>()
        .map_err(engine)?;
    for id in found {
        let Some(identity) = documents.iter().find(|identity| identity.namespace == id) else {
            store.remove_replica(&id).map_err(engine)?;
            continue;
        };
        // It is shared with nobody any more, and who signed the other side's entries is not remembered.
        if matches!(identity.standing, super::Standing::Released { .. }) {
            store.remove_replica(&id).map_err(engine)?;
            continue;
        }
        let mut entries = store.get_many(id, Query::all().include_empty()).map_err(engine)?;
        loop {
            let some: Vec<SignedEntry> =
                entries.by_ref().take(COMPARED_ENTRIES).collect::<Result<_, _>>().map_err(engine)?;
            if some.is_empty() {
                break;
            }
            let place = |entry: &SignedEntry| {
                let author =
                    KvAuthor::BOTH.into_iter().find(|one| identity.author(*one) == Some(entry.author_bytes()))?;
                Some((identity.number, author, entry.key().try_into().ok()?))
            };
            let places: Option<Vec<_>> = some.iter().map(place).collect();
            let foreign = || EngineError("it has entries that belong to none of its documents".to_owned());
            let held = storage.held(&places.ok_or_else(foreign)?).map_err(engine)?;
            if some.iter().zip(held).any(|(entry, held)| held.is_none_or(|held| held < entry.timestamp())) {
                return Err(foreign());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
impl Engine {
    /// Ends its thread behind the back of whoever uses it.
    pub(crate) async fn die(&self) {
        let running = self.running().unwrap();
        drop(running.handle.shutdown().await.unwrap());
    }

    /// Whether it has this entry, or a newer one.
    pub(crate) async fn has(&self, id: NamespaceId, author: iroh_docs::AuthorId, key: [u8; 32], counter: u64) -> bool {
        let key = bytes::Bytes::copy_from_slice(&key);
        let entry = self.running().unwrap().handle.get_exact(id, author, key, true).await.unwrap();
        entry.is_some_and(|entry| entry.timestamp() >= counter)
    }
}

#[cfg(test)]
mod tests {
    use groundswell_core::kv::KvAuthor;
    use iroh_docs::{Author, Record};
    use tempfile::TempDir;

    use super::*;
    use crate::{
        kv::{DocumentRow, Standing},
        source::PeerId,
    };

    fn entry(secret: &NamespaceSecret, author: &Author, key: &[u8], counter: u64) -> SignedEntry {
        let content = [key, &counter.to_le_bytes()].concat();
        let record = Record::new(blake3::hash(&content).into(), content.len() as u64, counter);
        SignedEntry::from_parts(secret, author, key, record)
    }

    fn peer() -> PeerId {
        iroh::SecretKey::from_bytes(&[3; 32]).public()
    }

    fn storage(dir: &TempDir) -> Storage {
        Storage::open(dir.path())
    }

    /// The whole of what the store stands on: entries with counters for timestamps and signatures of
    /// our own go in, reconciliation compares them, and no live actor runs.
    #[tokio::test(flavor = "multi_thread")]
    async fn own_timestamps_and_signatures_reconcile_without_the_live_actor() {
        let dir = TempDir::new().unwrap();
        let secret = NamespaceSecret::from_bytes(&[7; 32]);
        let (ours, theirs) = (Author::from_bytes(&[1; 32]), Author::from_bytes(&[2; 32]));
        let identity = Identity::new(
            1,
            &DocumentRow {
                secret: secret.to_bytes(),
                standing: Standing::Paired { peer: peer(), author: theirs.id().to_bytes() },
            },
            KvAuthor::Manager,
            ours.id(),
        );
        let storage = storage(&dir);
        let open = |name| Engine::open(&dir.path().join(name), &storage, std::slice::from_ref(&identity)).unwrap();
        let (left, right) = (open("left.redb"), open("right.redb"));
        left.open_document(&secret).await.unwrap();
        right.open_document(&secret).await.unwrap();
        for key in 0..10 {
            let inserted = left.insert(peer(), entry(&secret, &ours, &[key; 32], 5)).await.unwrap();
            assert_eq!(inserted, Inserted::Yes);
        }
        let at_3 = |counter| entry(&secret, &ours, &[3; 32], counter);
        assert_eq!(left.insert(peer(), at_3(5)).await.unwrap(), Inserted::Known);
        assert_eq!(left.insert(peer(), at_3(4)).await.unwrap(), Inserted::Known);
        assert_eq!(right.insert(peer(), entry(&secret, &theirs, &[3; 32], 1)).await.unwrap(), Inserted::Yes);
        let other = NamespaceSecret::from_bytes(&[8; 32]);
        assert!(left.insert(peer(), entry(&other, &ours, &[1; 32], 6)).await.is_err());
        let mut next = Some(left.first_message(secret.id()).await.unwrap());
        for at in [&right, &left].into_iter().cycle().take(20) {
            let Some(message) = next.take() else { break };
            next = at.process(secret.id(), message, peer()).await.unwrap();
        }
        assert!(next.is_none(), "it comes to an end");
        assert!(left.has(secret.id(), theirs.id(), [3; 32], 1).await);
        for key in 0..10 {
            assert!(right.has(secret.id(), ours.id(), [key; 32], 5).await);
        }
        assert!(left.is_healthy(secret.id()).await);
        left.rebuild().await.unwrap();
        assert!(!left.is_healthy(secret.id()).await, "documents are opened again by who rebuilds");
        left.open_document(&secret).await.unwrap();
        assert!(left.has(secret.id(), ours.id(), [9; 32], 5).await, "kept across the rebuild");
        left.stop().await;
        right.stop().await;
    }

    /// The engine's thread has work for long. Whoever gives up waiting for its end is not kept by that.
    #[tokio::test]
    async fn an_engine_that_is_busy_keeps_nobody_who_has_given_up() {
        let dir = TempDir::new().unwrap();
        let secret = NamespaceSecret::from_bytes(&[7; 32]);
        let ours = Author::from_bytes(&[1; 32]);
        let engine = Arc::new(Engine::open(&dir.path().join("docs.redb"), &storage(&dir), &[]).unwrap());
        engine.open_document(&secret).await.unwrap();
        for key in 0..2_000_u16 {
            let key = [key.to_le_bytes(); 16].concat();
            engine.insert(peer(), entry(&secret, &ours, &key, 1)).await.unwrap();
        }
        // Its fingerprint is another, so that each costs some looks at all entries.
        let mut message =
            groundswell_core::encoding::encode(&engine.first_message(secret.id()).await.unwrap()).unwrap();
        *message.last_mut().unwrap() ^= 1;
        let id = secret.id();
        for _ in 0..500 {
            let (task, message) = (engine.clone(), groundswell_core::encoding::decode(&message).unwrap());
            tokio::spawn(async move { task.process(id, message, peer()).await });
        }
        tokio::task::yield_now().await;
        let begun = std::time::Instant::now();
        let waited = tokio::time::timeout(std::time::Duration::from_millis(50), engine.stop()).await;
        let took = begun.elapsed();
        println!("given up after {took:?}");
        assert!(waited.is_err(), "it was not busy");
        assert!(took < std::time::Duration::from_secs(1), "{took:?}");
    }

    /// An identifier that is too short ends iroh-docs' thread, if it gets there. Who waits has an error, and a new thread does
    /// what the first one did.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_panic_of_the_docs_thread_is_an_error_and_is_mended() {
        let dir = TempDir::new().unwrap();
        let secret = NamespaceSecret::from_bytes(&[7; 32]);
        let ours = Author::from_bytes(&[1; 32]);
        let engine = Engine::open(&dir.path().join("docs.redb"), &storage(&dir), &[]).unwrap();
        engine.open_document(&secret).await.unwrap();
        engine.insert(peer(), entry(&secret, &ours, &[1; 32], 1)).await.unwrap();
        engine.flush().await.unwrap();
        // One part: a fingerprint of the range between two identifiers of a byte each.
        let mut short = vec![1, 0, 1, 7, 1, 9];
        short.extend([0; 32]);
        let message: ProtocolMessage = groundswell_core::encoding::decode(&short).unwrap();
        let patience = std::time::Duration::from_secs(30);
        // What is asked while the thread ends is never answered by it.
        let told = async {
            assert!(engine.process(secret.id(), message, peer()).await.is_err());
            assert!(!engine.answers().await);
            assert!(engine.insert(peer(), entry(&secret, &ours, &[2; 32], 2)).await.is_err());
            assert!(engine.drop_document(secret.id()).await.is_err());
            engine.rebuild().await.unwrap();
        };
        tokio::time::timeout(patience, told).await.expect("whoever asks is told");
        engine.open_document(&secret).await.unwrap();
        assert!(engine.answers().await);
        assert!(engine.has(secret.id(), ours.id(), [1; 32], 1).await);
        engine.stop().await;
    }

    /// Whatever is in the store that storage does not have: of an invented author, under a long key, of the right author
    /// and never stored. The store begins with nothing then, so that its file has its first size again. A document that is
    /// gone is removed alone.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_storage_does_not_have_is_dropped_at_the_start() {
        let dir = TempDir::new().unwrap();
        let (secret, gone) = (NamespaceSecret::from_bytes(&[7; 32]), NamespaceSecret::from_bytes(&[8; 32]));
        let (ours, theirs) = (Author::from_bytes(&[1; 32]), Author::from_bytes(&[2; 32]));
        let standing = Standing::Paired { peer: peer(), author: theirs.id().to_bytes() };
        let row = DocumentRow { secret: secret.to_bytes(), standing };
        let identity = Identity::new(1, &row, KvAuthor::Manager, ours.id());
        let storage = storage(&dir);
        let sealed = crate::kv::sealed::Sealed::sign(&secret, &theirs, KvAuthor::Machine, [3; 32], 4, "kept".into());
        let sealed = sealed.unwrap();
        let kept = sealed.to_entry(secret.id(), theirs.id()).unwrap();
        storage.write(vec![super::super::Row::Entry { number: 1, entry: sealed }]).unwrap();
        let path = dir.path().join("docs.redb");
        let open = || Engine::open(&path, &storage, std::slice::from_ref(&identity)).unwrap();
        let invented = Author::from_bytes(&[9; 32]);
        let foreign = [
            None,
            Some(entry(&secret, &invented, &[1; 32], 1)),
            Some(entry(&secret, &theirs, &[1; 3_000], 1)),
            Some(entry(&secret, &theirs, &[1; 32], 1)),
            // Newer than what is stored.
            Some(entry(&secret, &theirs, &[3; 32], 5)),
        ];
        for foreign in foreign {
            let engine = open();
            engine.open_document(&secret).await.unwrap();
            engine.open_document(&gone).await.unwrap();
            engine.insert(peer(), kept.clone()).await.unwrap();
            let is_foreign = foreign.is_some();
            if let Some(foreign) = foreign {
                engine.insert(peer(), foreign).await.unwrap();
            }
            engine.flush().await.unwrap();
            engine.stop().await;
            let engine = open();
            assert!(engine.open_document(&gone).await.unwrap(), "it is not known any more");
            assert_eq!(engine.open_document(&secret).await.unwrap(), is_foreign, "fresh if it had something foreign");
            engine.stop().await;
        }
    }

    /// A machine that has released itself is not known by its author any more. Its replica alone goes.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_document_that_its_machine_has_left_takes_no_other_with_it() {
        let dir = TempDir::new().unwrap();
        let (left, other) = (NamespaceSecret::from_bytes(&[7; 32]), NamespaceSecret::from_bytes(&[8; 32]));
        let (ours, theirs) = (Author::from_bytes(&[1; 32]), Author::from_bytes(&[2; 32]));
        let paired = || Standing::Paired { peer: peer(), author: theirs.id().to_bytes() };
        let identity = |number, secret: &NamespaceSecret, standing| {
            let row = DocumentRow { secret: secret.to_bytes(), standing };
            Identity::new(number, &row, KvAuthor::Manager, ours.id())
        };
        let storage = storage(&dir);
        let path = dir.path().join("docs.redb");
        let engine =
            Engine::open(&path, &storage, &[identity(1, &left, paired()), identity(2, &other, paired())]).unwrap();
        for (number, secret) in [(1, &left), (2, &other)] {
            let sealed = crate::kv::sealed::Sealed::sign(secret, &theirs, KvAuthor::Machine, [3; 32], 4, "kept".into());
            let sealed = sealed.unwrap();
            engine.open_document(secret).await.unwrap();
            engine.insert(peer(), sealed.to_entry(secret.id(), theirs.id()).unwrap()).await.unwrap();
            storage.write(vec![super::super::Row::Entry { number, entry: sealed }]).unwrap();
        }
        engine.flush().await.unwrap();
        engine.stop().await;
        let released = identity(1, &left, Standing::Released { peer: peer() });
        let engine = Engine::open(&path, &storage, &[released, identity(2, &other, paired())]).unwrap();
        assert!(!engine.open_document(&other).await.unwrap(), "it is not fresh");
        assert!(engine.has(other.id(), theirs.id(), [3; 32], 4).await);
        assert!(engine.open_document(&left).await.unwrap(), "nobody needs its replica any more");
        engine.stop().await;
    }
}
