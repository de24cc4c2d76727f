//! Documents in iroh-docs: one store and one thread hold every document of this node. Entries and messages of ours become
//! those of iroh-docs, and back, by their bytes, which are the same.
//!
//! Only iroh-docs' store and its one thread are used. Its live actor, gossip and downloader never
//! run: docs/iroh.md says why.

use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
    time::Duration,
};

use groundswell_core::{encoding, kv::KvAuthor};
use iroh_docs::{
    Capability, ContentStatus, InsertError, SyncOutcome,
    actor::{OpenOpts, SyncHandle},
    store::{Query, fs::Store as DocsStore},
};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{AuthorId, Docs, EngineError, Inserted, Message, NamespaceId, NamespaceSecret, SignedEntry};
use crate::{
    files::private,
    kv::{Standing, document::Identity, storage::Storage},
    limits::KV_RECONCILE_PARTS,
    source::PeerId,
    sync::{read, write},
};

/// How long the engine may take to answer before it counts as dead. A large reconciliation holds its
/// one thread for seconds at a time.
const HEALTH_PATIENCE: Duration = Duration::from_secs(60);

/// How many entries are compared with storage at a time.
const COMPARED_ENTRIES: usize = 1_024;

/// An error of the engine, with all its causes.
fn engine(error: impl std::fmt::Display) -> EngineError {
    // In one line: the other form has the addresses of a backtrace in it.
    EngineError(format!("{error:#}"))
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
    fn run(&self, store: DocsStore) {
        let handle = SyncHandle::spawn(store, None, "groundswell".to_owned());
        *write(&self.running) = Some(Running { handle, gone: CancellationToken::new() });
    }

    fn running(&self) -> Result<Running, EngineError> {
        read(&self.running).clone().ok_or_else(|| EngineError("it is not running".to_owned()))
    }
}

impl Docs for Engine {
    fn open(path: &Path, storage: &Storage, documents: &[Arc<Identity>]) -> Result<Self, EngineError> {
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

    async fn open_document(&self, secret: &NamespaceSecret) -> Result<bool, EngineError> {
        let (running, id) = (self.running()?, theirs(secret.id()));
        let handle = &running.handle;
        let opts = || OpenOpts::default().sync();
        if running.ask(handle.get_state(id)).await.is_ok() {
            // One handle a document is enough, for as long as the engine runs.
            return Ok(false);
        }
        if running.ask(handle.open(id, opts())).await.is_ok() {
            return Ok(false);
        }
        let secret = iroh_docs::NamespaceSecret::from_bytes(&secret.to_bytes());
        running.ask(handle.import_namespace(Capability::Write(secret))).await?;
        running.ask(handle.open(id, opts())).await?;
        Ok(true)
    }

    async fn insert(&self, id: NamespaceId, entry: &SignedEntry, from: PeerId) -> Result<Inserted, EngineError> {
        let (entry, running) = (convert(entry)?, self.running()?);
        let insert = running.handle.insert_remote(theirs(id), entry, *from.as_bytes(), ContentStatus::Complete);
        match running.ask(insert).await {
            Ok(()) => Ok(Inserted::Yes),
            Err(Refused::Error(error)) if matches!(error.downcast_ref(), Some(InsertError::NewerEntryExists)) => {
                Ok(Inserted::Known)
            }
            Err(refused) => Err(refused.into()),
        }
    }

    async fn flush(&self) -> Result<(), EngineError> {
        let running = self.running()?;
        Ok(running.ask(running.handle.flush_store()).await?)
    }

    async fn drop_document(&self, id: NamespaceId) -> Result<(), EngineError> {
        let running = self.running()?;
        Ok(running.ask(running.handle.drop_replica(theirs(id))).await?)
    }

    async fn first_message(&self, id: NamespaceId) -> Result<Message, EngineError> {
        let running = self.running()?;
        convert(&running.ask(running.handle.sync_initial_message(theirs(id))).await?)
    }

    /// In pieces that each hold up iroh-docs' one thread for a short time only. Other documents have their turn in between.
    async fn process(&self, id: NamespaceId, message: Message, from: PeerId) -> Result<Message, EngineError> {
        let (running, mut parts, mut answer) = (self.running()?, message.parts.into_iter(), Message::default());
        loop {
            let piece = Message { parts: parts.by_ref().take(KV_RECONCILE_PARTS).collect() };
            if piece.is_empty() {
                return Ok(answer);
            }
            let (piece, outcome) = (convert(&piece)?, SyncOutcome::default());
            let process = running.handle.sync_process_message(theirs(id), piece, *from.as_bytes(), outcome);
            if let (Some(reply), _) = running.ask(process).await? {
                let mut reply: Message = convert(&reply)?;
                answer.parts.append(&mut reply.parts);
            }
        }
    }

    async fn answers(&self) -> bool {
        matches!(tokio::time::timeout(HEALTH_PATIENCE, self.flush()).await, Ok(Ok(())))
    }

    async fn is_healthy(&self, id: NamespaceId) -> bool {
        let Ok(running) = self.running() else { return false };
        match tokio::time::timeout(HEALTH_PATIENCE, running.ask(running.handle.get_state(theirs(id)))).await {
            Ok(Ok(state)) => state.sync,
            Ok(Err(_)) | Err(_) => false,
        }
    }

    async fn rebuild(&self) -> Result<(), EngineError> {
        self.stop().await;
        self.run(open_store(&self.path)?);
        Ok(())
    }

    /// Where nobody waits for the end any more, a thread does.
    async fn stop(&self) {
        let Some(running) = write(&self.running).take() else { return };
        // What was asked too late stands in the thread's queue behind the end, where nobody answers it.
        let _gone = running.gone.clone().drop_guard();
        let mut leaving = Leaving(Some(running));
        let Some(running) = &leaving.0 else { return };
        let stopped = tokio::time::timeout(HEALTH_PATIENCE, running.ask(running.handle.shutdown())).await;
        if let Ok(store) = stopped.map(Result::ok) {
            // The store closes its file when it is dropped, which may block.
            let running = leaving.0.take();
            drop(tokio::task::spawn_blocking(move || drop((store, running))).await);
        }
    }

    /// It can't be rebuilt.
    #[cfg(test)]
    fn in_memory() -> Self {
        let engine = Self { path: PathBuf::new(), running: RwLock::new(None) };
        engine.run(DocsStore::memory());
        engine
    }

    /// Ends its thread.
    #[cfg(test)]
    async fn die(&self) {
        let running = self.running().unwrap();
        drop(running.handle.shutdown().await.unwrap());
    }

    #[cfg(test)]
    async fn has(&self, id: NamespaceId, author: AuthorId, key: [u8; 32], counter: u64) -> bool {
        let (author, key) = (author.as_bytes().into(), bytes::Bytes::copy_from_slice(&key));
        let entry = self.running().unwrap().handle.get_exact(theirs(id), author, key, true).await.unwrap();
        entry.is_some_and(|entry| entry.timestamp() >= counter)
    }
}

/// The id of a document as iroh-docs has it.
fn theirs(id: NamespaceId) -> iroh_docs::NamespaceId {
    id.as_bytes().into()
}

/// The same entry or message as the other of the two types. A difference between their bytes would be found by a test.
fn convert<F: Serialize, T: for<'de> Deserialize<'de>>(from: &F) -> Result<T, EngineError> {
    let bytes = encoding::encode(from).map_err(engine)?;
    encoding::decode(&bytes).map_err(engine)
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

/// Returns true if storage has every entry of the store: all are of the two authors of their document, under keys of 32 bytes.
/// A version before the gate took others from the other side. Documents that are gone are removed.
fn inspect(store: &mut DocsStore, storage: &Storage, documents: &[Arc<Identity>]) -> Result<(), EngineError> {
    let found: Vec<iroh_docs::NamespaceId> = store
        .list_namespaces()
        .map_err(engine)?
        .map(|one| one.map(|(id, _)| id))
        .collect::<Result<_, _>>()
        .map_err(engine)?;
    for id in found {
        let Some(identity) = documents.iter().find(|identity| theirs(identity.namespace) == id) else {
            store.remove_replica(&id).map_err(engine)?;
            continue;
        };
        // It is shared with nobody any more, and who signed the other side's entries is not remembered.
        if matches!(identity.standing, Standing::Released { .. }) {
            store.remove_replica(&id).map_err(engine)?;
            continue;
        }
        let mut entries = store.get_many(id, Query::all().include_empty()).map_err(engine)?;
        loop {
            let some: Vec<iroh_docs::SignedEntry> =
                entries.by_ref().take(COMPARED_ENTRIES).collect::<Result<_, _>>().map_err(engine)?;
            if some.is_empty() {
                break;
            }
            let place = |entry: &iroh_docs::SignedEntry| {
                let signer = AuthorId::from_bytes(entry.author_bytes().to_bytes());
                let author = KvAuthor::BOTH.into_iter().find(|one| identity.author(*one) == Some(signer))?;
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
mod tests;
