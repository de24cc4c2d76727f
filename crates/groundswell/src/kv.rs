//! The node's side of the key-value store: what a machine and a manager are made of.
//!
//! [`Kv`] holds the documents of one node and what they share: storage, the keeper that writes it,
//! the docs engine, and the tasks. docs/kv.md tells how a write travels.

mod complaints;
mod delivery;
mod document;
mod engine;
mod error;
mod feed;
mod fleet;
mod gate;
mod keeper;
pub(crate) mod parting;
mod sealed;
mod session;
mod slot;
mod space;
mod status;
mod storage;
mod subscription;
mod supervisor;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime},
};

use groundswell_core::{
    Epoch,
    kv::{AuthorCounter, Clock, Envelope, KvAuthor, KvView, pairs::Former},
    wire::StreamKind,
};
use iroh::SecretKey;
use iroh_docs::Author;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

pub(crate) use document::{Document, Identity};
pub use error::{KvEnded, KvError, KvOpenError};
pub use fleet::{KvFleetEvent, KvFleetSubscription};
pub(crate) use keeper::{Command, WallClock};
pub(crate) use slot::Slot;
pub use space::KvSpace;
pub use status::{KvLink, LinkStatus};
pub use storage::Role;
pub(crate) use storage::{DocumentRow, Row, Standing};
pub use subscription::{KvSubscription, KvWatch};

use crate::{
    driver,
    error::{OpenError, OutcomeUnknown, StorageError, WriteError},
    files,
    ids::Ids,
    limits::{KV_RECONCILES_AT_ONCE, KV_RESERVE_BYTES, MAX_FORMER_DOCUMENTS, MAX_KV_WRITE_IDS},
    link::Stream,
    moment::milliseconds,
    network::CloseCode,
    node::within,
    shared::Shared,
    source::PeerId,
    store::{META_ROLE, STORAGE_FILE, Store},
    sync::{lock, read, write},
};
use complaints::Complaints;
use engine::Engine;
use keeper::{Keeper, KeeperHandle};
pub(crate) use slot::fault_point;
use storage::{Loaded, Looked, Outcome, Storage};

/// Where a machine or a manager keeps its documents, in the data directory.
pub(crate) const KV_STORAGE_FILE: &str = "kv.redb";

/// What keeps some room on the disk for the documents' next start.
const RESERVE_FILE: &str = "kv.reserve";

/// The receiver of streams of claims.
pub(crate) type ClaimHandler = Box<dyn Fn(Stream) + Send + Sync>;

/// What can be said at a start.
#[derive(Clone)]
pub(crate) struct KvConfig {
    pub(crate) role: Role,
    pub(crate) wall_clock: WallClock,
    pub(crate) max_value_bytes: usize,
    pub(crate) claim_timeout_ms: u64,
}

/// Whose role a data directory has that is held and has a file of this storage. The file is opened and closed again. As
/// at the opening of the role it may be repaired, which takes room on the disk.
pub(crate) fn stored_role(dir: &std::path::Path) -> Result<Option<Role>, OpenError> {
    files::with_room(dir, RESERVE_FILE, || storage::stored_role(&dir.join(KV_STORAGE_FILE)))
}

/// The role that a data directory remembers in the storage of its node.
pub(crate) fn remembered_role(store: &Store, dir: &std::path::Path) -> Result<Option<Role>, OpenError> {
    let found = store.meta(META_ROLE).map_err(|error| OpenError::of_storage(dir, error))?;
    let Some(found) = found else { return Ok(None) };
    let role = <[u8; 1]>::try_from(&found[..]).ok().and_then(|[number]| Role::of_number(number.into()));
    let unknown = || OpenError::Damaged {
        path: dir.join(STORAGE_FILE),
        reason: "the role that it remembers is neither a machine nor a manager".to_owned(),
    };
    role.map(Some).ok_or_else(unknown)
}

/// The author that signs what a node writes.
fn signer_of(key: &SecretKey) -> Author {
    Author::from_bytes(&blake3::derive_key("groundswell kv v1: the author of a node", &key.to_bytes()))
}

/// Tries in a data directory that is held what the opening of its role would, and changes nothing. The role is the one that is
/// remembered, or else that of the files; `None` where there are none.
pub(crate) fn look(
    dir: &std::path::Path,
    remembered: Option<Role>,
    key: Option<&SecretKey>,
) -> Result<Option<Role>, OpenError> {
    let path = dir.join(KV_STORAGE_FILE);
    if !path.is_file() && (remembered.is_none() || files_missing(dir)) {
        return Ok(remembered);
    }
    let (looked, role) = Looked::open(&path, remembered)?;
    let ours = role.unwrap_or(Role::Machine).author();
    // A node whose key is missing gets a new one.
    let signer = key.map_or_else(|| signer_of(&SecretKey::generate()), signer_of);
    load_all(looked.documents(), |number| looked.load(number), ours, signer.id())
        .map_err(|reason| OpenError::Damaged { path, reason })?;
    Ok(role)
}

/// Whether nothing is left of what a role had: the tables are missing, and so is the journal, from which they could be
/// made again. An empty journal is somebody's word that it is lost.
pub(crate) fn files_missing(dir: &std::path::Path) -> bool {
    let tables = dir.join(KV_STORAGE_FILE);
    let journal = std::fs::metadata(tables.with_extension("journal"));
    !tables.is_file() && journal.map_or(true, |found| found.len() == 0)
}

/// Notes in the storage of the node which role its directory has, so that it has that role without its files too.
async fn remember(shared: &Shared, role: Role) {
    let note = |reply| driver::Command::Note { key: META_ROLE, value: vec![role as u8], reply };
    let noted = shared.driver.ask(note).await.map_err(WriteError::from).flatten();
    if let Err(error) = noted {
        // The files tell the role too. It is noted at the next start.
        warn!(%error, %role, "the role of this data directory is not remembered apart from its files");
    }
    shared.kv.remember(role);
}

/// Takes a stream of a document or a claim.
pub(crate) fn accept(shared: &Shared, kind: StreamKind, stream: Stream) {
    match (shared.kv.get(), kind) {
        (Some(kv), StreamKind::Claim) => kv.accept_claim(stream),
        (Some(kv), StreamKind::Reconciliation) => session::accept_reconciliation(&kv, stream),
        (Some(kv), _) => session::accept(&kv, stream),
        (None, StreamKind::Claim) if !shared.kv.is_expected() => stream.refuse(CloseCode::NotPaired),
        // It is not known here yet, or not any more, whether there is such a document.
        (None, _) => stream.refuse(CloseCode::Later),
    }
}

/// The documents of one node.
pub(crate) struct Kv {
    pub(crate) shared: Arc<Shared>,
    pub(crate) ours: KvAuthor,
    pub(crate) signer: Author,
    pub(crate) storage: Arc<Storage>,
    pub(crate) keeper: KeeperHandle,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    engine: Engine,
    /// Counts how often the engine was rebuilt, so that documents are opened in it again.
    engine_runs: watch::Sender<u64>,
    /// Told when the engine fails somebody.
    engine_failed: Notify,
    engine_complaints: Complaints,
    /// The reconciliations that a manager has begun.
    reconciling: Semaphore,
    pub(crate) wall_clock: WallClock,
    pub(crate) max_value_bytes: usize,
    pub(crate) claim_timeout_ms: u64,
    next_number: AtomicU64,
    /// A machine's one document.
    own: RwLock<Option<Arc<Document>>>,
    /// A manager's documents, by their machines.
    machines: RwLock<BTreeMap<PeerId, Arc<Document>>>,
    /// Counts the changes of that map.
    pub(crate) machines_changed: watch::Sender<u64>,
    /// Machines that are being claimed, and by how many claims of ours: they are not told that they are no machines of
    /// ours.
    pub(crate) claiming: Mutex<HashMap<PeerId, usize>>,
    claim_handler: RwLock<Option<ClaimHandler>>,
    /// Documents that were given up here.
    pub(crate) former: Mutex<Former<Arc<Identity>>>,
    /// Told when a machine was released.
    pub(crate) released: Notify,
    /// Held while a machine's document gets another standing, and until those concerned know: a claim that is being stored and a
    /// release come one after the other.
    pub(crate) pair_changes: tokio::sync::Mutex<()>,
    /// Nothing new is begun.
    pub(crate) closing: CancellationToken,
    /// Nothing more will be committed: what is goes to the other side, then a goodbye.
    pub(crate) parting: CancellationToken,
    /// Everything ends where it stands.
    pub(crate) closed: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl Kv {
    /// Opens the documents of a node's data directory, and begins to synchronise them.
    pub(crate) async fn open(shared: Arc<Shared>, config: KvConfig) -> Result<Arc<Self>, KvOpenError> {
        let endpoint = shared.endpoint().ok_or(KvOpenError::ShutDown)?;
        let KvConfig { role, wall_clock, max_value_bytes, claim_timeout_ms } = config;
        let ours = role.author();
        let signer = signer_of(endpoint.secret_key());
        let signer_id = signer.id();
        let place = slot::Reserved::reserve(&shared).ok_or(KvOpenError::RoleTaken)?;
        let remembered = shared.kv.remembered();
        if remembered.is_some_and(|remembered| remembered != role) {
            return Err(OpenError::OtherRole { dir: shared.dir.clone() }.into());
        }
        let lost = remembered.is_some() && files_missing(&shared.dir);
        let dir = shared.dir.clone();
        // Opening may repair the storage after a crash, and reads every entry.
        let open = move || {
            let storage = Storage::open(&dir.join(KV_STORAGE_FILE), role)?;
            let loaded = load_all(storage.documents(), |number| storage.load(number), ours, signer_id)
                .map_err(|reason| OpenError::Damaged { path: dir.join(KV_STORAGE_FILE), reason })?;
            let identities: Vec<_> = loaded.iter().map(|one| one.identity.clone()).collect();
            let docs = dir.join("docs.redb");
            let engine = Engine::open(&docs, &storage, &identities)
                .map_err(|error| OpenError::of_storage(&docs, StorageError::of_disk(error)))?;
            Ok((Arc::new(storage), loaded, engine))
        };
        let dir = shared.dir.clone();
        let load = move || files::with_room(&dir, RESERVE_FILE, open);
        fault_point!(shared.kv, "loading");
        let joined = tokio::task::spawn_blocking(load).await;
        fault_point!(shared.kv, "loaded");
        let (storage, loaded, engine) = joined.unwrap_or_else(|error| Err(OpenError::Network(error.to_string())))?;
        if lost {
            warn!(
                dir = %shared.dir.display(),
                "the files kv.redb and kv.journal of this {role} are missing: it starts without its pairings, keys and values. \
                 Whoever is paired with it reports that it does not know the pair (not_known), until both files are back: \
                 stop this node, restore them, and start it again"
            );
        }
        if remembered.is_none() {
            remember(&shared, role).await;
        }
        let gone = CancellationToken::new();
        let clock = wall_clock.clone();
        let started = Keeper::start(
            storage.clone(),
            shared.metrics.clone(),
            signer.clone(),
            clock,
            max_value_bytes,
            gone.clone(),
        );
        let (keeper, thread) = started.map_err(|error| KvOpenError::Documents(error.to_string()))?;
        let next_number = loaded.iter().map(|one| one.identity.number + 1).max().unwrap_or(1);
        let kv = Arc::new(Self {
            shared: shared.clone(),
            ours,
            signer,
            storage,
            keeper,
            thread: Mutex::new(Some(thread)),
            engine,
            engine_runs: watch::Sender::new(0),
            engine_failed: Notify::new(),
            engine_complaints: Complaints::new("the docs engine"),
            reconciling: Semaphore::new(KV_RECONCILES_AT_ONCE),
            wall_clock,
            max_value_bytes,
            claim_timeout_ms,
            next_number: AtomicU64::new(next_number),
            own: RwLock::new(None),
            machines: RwLock::default(),
            machines_changed: watch::Sender::new(0),
            claiming: Mutex::default(),
            claim_handler: RwLock::new(None),
            former: Mutex::new(Former::new(MAX_FORMER_DOCUMENTS)),
            released: Notify::new(),
            pair_changes: tokio::sync::Mutex::default(),
            closing: CancellationToken::new(),
            parting: CancellationToken::new(),
            closed: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        for one in loaded {
            fault_point!(shared.kv, "taking a document in");
            kv.take_in(one).await;
        }
        fault_point!(shared.kv, "all documents taken in");
        if ours == KvAuthor::Machine && kv.own().is_none() {
            let identity = kv.new_identity(Standing::Unclaimed);
            let written = kv.keeper.rows(Row::begin(identity.number, identity.row()).to_vec()).await;
            written.map_err(|error| KvOpenError::Documents(error.to_string()))?;
            fault_point!(shared.kv, "first document stored");
            kv.begin(&identity).await;
            fault_point!(shared.kv, "first document begun");
            *write(&kv.own) = Some(Document::new(ours, identity, new_view(), [0; 2]));
        }
        let dir = shared.dir.clone();
        let _ = tokio::task::spawn_blocking(move || files::keep_room(&dir, RESERVE_FILE, KV_RESERVE_BYTES)).await;
        fault_point!(shared.kv, "room kept");
        // Nothing is awaited from here on: a start that is dropped has begun no task that would go on without a role.
        feed::spawn(&kv);
        let watched = kv.clone();
        kv.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = watched.closing.cancelled() => {}
                // No stream hangs silently: without the keeper nothing more will come.
                () = gone.cancelled() => watched.end_all(KvEnded::Failed),
            }
        });
        // Peers are answered from here on, when each of them finds its document.
        place.fill(&kv);
        for document in kv.documents() {
            kv.work(&document);
        }
        for former in kv.untold() {
            parting::spawn_telling(&kv, former);
        }
        Ok(kv)
    }

    async fn take_in(self: &Arc<Self>, one: LoadedDocument) {
        let LoadedDocument { identity, view, clock, counter, heads, ids } = one;
        if identity.former().is_some() {
            return lock(&self.former).add(identity);
        }
        let number = identity.number;
        self.keeper.tell(Command::Begin { number, clock, counter, ids }).await;
        match (&identity.standing, self.ours) {
            (Standing::Paired { peer, .. } | Standing::Released { peer }, KvAuthor::Manager) => {
                let peer = *peer;
                write(&self.machines).insert(peer, Document::new(self.ours, identity, view, heads));
            }
            (_, KvAuthor::Manager) => warn!(number, "a document of nobody is left alone"),
            (_, KvAuthor::Machine) => {
                *write(&self.own) = Some(Document::new(self.ours, identity, view, heads));
            }
        }
    }

    /// Tells the keeper of a document that begins.
    pub(crate) async fn begin(&self, identity: &Identity) {
        let (clock, counter) = (Clock::restore(None), AuthorCounter::restore(0));
        let ids = Ids::new(MAX_KV_WRITE_IDS);
        self.keeper.tell(Command::Begin { number: identity.number, clock, counter, ids }).await;
    }

    /// A new document of this node's own making.
    pub(crate) fn new_identity(&self, standing: Standing) -> Arc<Identity> {
        let row = DocumentRow { secret: rand::random(), standing };
        self.identity_of(row)
    }

    pub(crate) fn identity_of(&self, row: DocumentRow) -> Arc<Identity> {
        let number = self.next_number.fetch_add(1, Ordering::SeqCst);
        Identity::new(number, &row, self.ours, self.signer.id())
    }

    /// The same document as another one stands now.
    pub(crate) fn identity_again(&self, number: u64, row: &DocumentRow) -> Arc<Identity> {
        Identity::new(number, row, self.ours, self.signer.id())
    }

    /// Begins the tasks that keep a document in sync.
    pub(crate) fn work(self: &Arc<Self>, document: &Arc<Document>) {
        feed::spawn_feeder(self, document);
        supervisor::spawn(self, document);
    }

    /// A machine's document.
    pub(crate) fn own(&self) -> Option<Arc<Document>> {
        read(&self.own).clone()
    }

    /// The document that is shared with this peer.
    pub(crate) fn of_peer(&self, peer: PeerId) -> Option<Arc<Document>> {
        match self.ours {
            KvAuthor::Machine => self.own().filter(|own| own.identity().peer() == Some(peer)),
            KvAuthor::Manager => read(&self.machines).get(&peer).cloned(),
        }
    }

    /// The documents that were given up here, of which the other side is still to be told.
    pub(crate) fn untold(&self) -> Vec<Arc<Identity>> {
        lock(&self.former).untold().cloned().collect()
    }

    /// Whether the peer is the other side of a document here, or is about to be.
    pub(crate) fn knows(&self, peer: PeerId) -> bool {
        self.of_peer(peer).is_some() || lock(&self.claiming).contains_key(&peer)
    }

    /// Runs something that changes disk, memory and the other side one after the other, in a task of its own: a caller who
    /// leaves does not end it between two of them.
    pub(crate) async fn whole<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, KvError>> + Send + 'static,
    ) -> Result<T, KvError> {
        self.tasks.spawn(work).await.unwrap_or_else(|_| Err(KvError::Unknown(OutcomeUnknown::no_answer())))
    }

    /// The machines of a manager.
    pub(crate) fn machine_ids(&self) -> Vec<PeerId> {
        read(&self.machines).keys().copied().collect()
    }

    pub(crate) fn documents(&self) -> Vec<Arc<Document>> {
        let own = self.own();
        own.into_iter().chain(read(&self.machines).values().cloned()).collect()
    }

    /// Puts a machine's document in the place of what there was of it, which is returned.
    pub(crate) fn put_machine(&self, peer: PeerId, document: Arc<Document>) -> Option<Arc<Document>> {
        let before = write(&self.machines).insert(peer, document);
        self.machines_changed.send_modify(|changes| *changes += 1);
        before
    }

    /// Removes a machine that has this document; one that was claimed again meanwhile stays.
    pub(crate) fn remove_machine(&self, peer: PeerId, document: &Arc<Document>) {
        {
            let mut machines = write(&self.machines);
            if machines.get(&peer).is_some_and(|one| Arc::ptr_eq(one, document)) {
                machines.remove(&peer);
            }
        }
        self.machines_changed.send_modify(|changes| *changes += 1);
    }

    /// Takes a document of this node out of the docs engine.
    pub(crate) async fn close_document(&self, identity: &Identity) {
        if let Err(error) = self.engine.drop_document(identity.namespace).await {
            warn!(%error, "a released document is not removed from the docs engine");
        }
    }

    /// Whether local streams have been told that nothing more comes.
    pub(crate) fn streams_ended(&self) -> bool {
        self.parting.is_cancelled()
    }

    pub(crate) fn on_claim(&self, handler: ClaimHandler) {
        *write(&self.claim_handler) = Some(handler);
    }

    /// A peer claims this machine.
    fn accept_claim(&self, stream: Stream) {
        match &*read(&self.claim_handler) {
            Some(handler) if !self.closing.is_cancelled() => handler(stream),
            None if self.ours == KvAuthor::Manager => stream.refuse(CloseCode::NotPaired),
            // It is still starting, or about to end.
            _ => stream.refuse(CloseCode::Later),
        }
    }

    /// Ends everything at once, as a crash does.
    pub(crate) fn abandon(&self) {
        self.end_all(KvEnded::ShutDown);
    }

    fn end_all(&self, why: KvEnded) {
        self.closing.cancel();
        self.parting.cancel();
        self.closed.cancel();
        self.documents().iter().for_each(|document| document.end(why));
        self.machines_changed.send_modify(|changes| *changes += 1);
    }

    /// Shuts down in order, within the deadline; which step overran, if one did.
    pub(crate) async fn shutdown(&self, deadline: Instant) -> Option<&'static str> {
        // A second call has nothing to do.
        let thread = lock(&self.thread).take()?;
        let mut late = None;
        let mut note = |step: &'static str, done: bool| {
            if !done {
                late.get_or_insert(step);
            }
        };
        // 1. Writes are refused. 2. The keeper makes durable and answers what it was asked before.
        self.closing.cancel();
        let stopped = async {
            self.keeper.tell(Command::Stop).await;
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                warn!("the keeper had panicked; what was acknowledged stands");
            }
        };
        fault_point!(self.shared.kv, "refusing writes");
        note("committing entries", within(deadline, 0.3, stopped).await);
        fault_point!(self.shared.kv, "entries committed");
        // 3. What is committed goes to the other sides. One that does not read is cut off.
        self.parting.cancel();
        self.tasks.close();
        let delivered = async {
            for document in self.documents() {
                document.until_no_session().await;
            }
        };
        within(deadline, 0.2, delivered).await;
        fault_point!(self.shared.kv, "entries delivered");
        // 4. Local streams end after what was committed.
        self.documents().iter().for_each(|document| document.end(KvEnded::ShutDown));
        self.machines_changed.send_modify(|changes| *changes += 1);
        // 5. Sessions and tasks.
        self.closed.cancel();
        for document in self.documents() {
            document.close_session(CloseCode::ShutDown);
        }
        note("ending the tasks of documents", within(deadline, 0.5, self.tasks.wait()).await);
        fault_point!(self.shared.kv, "tasks ended");
        // 6. The docs engine and the storage.
        note("closing the docs engine", within(deadline, 0.5, self.engine.stop()).await);
        fault_point!(self.shared.kv, "docs engine closed");
        let storage = self.storage.clone();
        let closed = async {
            let _ = tokio::task::spawn_blocking(move || storage.close()).await;
        };
        note("closing the storage of documents", within(deadline, 0.9, closed).await);
        // The node may have another role from now on.
        self.shared.kv.clear(self);
        fault_point!(self.shared.kv, "shut down");
        late
    }
}

/// What was stored of a document, ready for use.
struct LoadedDocument {
    identity: Arc<Identity>,
    view: KvView,
    clock: Clock,
    counter: AuthorCounter,
    heads: [u64; 2],
    ids: Ids<Outcome>,
}

pub(crate) fn new_view() -> KvView {
    KvView::new(Epoch(rand::random()))
}

fn load_all(
    documents: Result<Vec<(u64, DocumentRow)>, StorageError>,
    load: impl Fn(u64) -> Result<Loaded, StorageError>,
    ours: KvAuthor,
    signer: iroh_docs::AuthorId,
) -> Result<Vec<LoadedDocument>, String> {
    let load = |(number, row): (u64, DocumentRow)| {
        let loaded = load(number).map_err(|error| error.to_string())?;
        let mut view = new_view();
        let mut bound = loaded.bound;
        let mut heads = loaded.held;
        for entry in loaded.entries {
            let envelope =
                Envelope::decode(&entry.key, &entry.envelope, usize::MAX).map_err(|error| error.to_string())?;
            if entry.author == ours {
                bound = bound.max(entry.counter.saturating_add(1));
                heads[ours.index()] = heads[ours.index()].max(entry.counter);
            }
            if let Err(error) = view.apply(entry.author, envelope) {
                warn!(%error, number, "an entry is not shown");
            }
        }
        let mut clock = Clock::restore(loaded.clock);
        clock.observe(view.newest_stamp());
        let identity = Identity::new(number, &row, ours, signer);
        let ids = Ids::restore(MAX_KV_WRITE_IDS, loaded.ids);
        Ok(LoadedDocument { identity, view, clock, counter: AuthorCounter::restore(bound), heads, ids })
    };
    documents.map_err(|error| error.to_string())?.into_iter().map(load).collect()
}

/// The system's wall clock, in milliseconds since 1970.
pub(crate) fn system_clock() -> WallClock {
    Arc::new(|| milliseconds(SystemTime::now()))
}
