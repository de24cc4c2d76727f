//! The node's side of the key-value store: what a machine and a manager are made of.
//!
//! [`Kv`] holds the documents of one node and what they share: storage, the keeper that writes it,
//! the docs engine, and the tasks. docs/kv.md tells how a write travels.

mod budget;
mod delivery;
pub(crate) mod docs;
mod document;
mod error;
mod feed;
mod fleet;
mod gate;
mod keeper;
pub(crate) mod parting;
mod restored;
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
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

pub use budget::{BudgetOf, KvBudget, KvUsage, OverBudget};
pub(crate) use document::{Document, Identity};
pub use error::{KvEnded, KvError, KvOpenError};
pub use fleet::{KvFleetEvent, KvFleetSubscription};
pub(crate) use keeper::{Command, WallClock};
pub(crate) use sealed::Sealed;
pub(crate) use slot::Slot;
pub use space::KvSpace;
pub use status::{KvLink, LinkStatus, WentBack};
pub use storage::Role;
pub(crate) use storage::{DocumentRow, Row, Standing};
pub use subscription::{KvSubscription, KvWatch};

use crate::{
    complaints::Complaints,
    disk::STORAGE_FILE,
    error::{OpenError, OutcomeUnknown, StorageError, WriteError},
    files,
    ids::Ids,
    limits::{KV_RECONCILES_AT_ONCE, MAX_FORMER_DOCUMENTS, MAX_KV_WRITE_IDS},
    link::Stream,
    moment::milliseconds,
    network::CloseCode,
    node::within,
    shared::Shared,
    source::PeerId,
    store::Store,
    sync::{lock, read, write},
};
use docs::{Author, AuthorId, Docs, Engine};
use keeper::{Keeper, KeeperHandle};
pub(crate) use slot::fault_point;
use storage::{Mark, Outcome, Storage};

/// What answers the claims of a machine.
pub(crate) trait Claimed: Send + Sync {
    /// A peer has opened the stream of a claim.
    fn claim(&self, stream: Stream);

    /// A release is durable.
    fn released(&self);
}

/// What can be said at a start.
#[derive(Clone)]
pub(crate) struct KvConfig {
    pub(crate) role: Role,
    pub(crate) wall_clock: WallClock,
    pub(crate) max_value_bytes: usize,
    pub(crate) budget: KvBudget,
    pub(crate) claim_timeout_ms: u64,
}

/// The author that signs what a node writes.
fn signer_of(key: &SecretKey) -> Author {
    Author::from_bytes(&blake3::derive_key("groundswell kv v1: the author of a node", &key.to_bytes()))
}

/// The role that the data directory of a node has, if it has one.
pub(crate) fn role(store: &Store) -> Result<Option<Role>, StorageError> {
    Storage::new(store.disk().clone()).role()
}

/// Reads in a data directory that is held, and only looked at, what the opening of its role would read. Returns that role.
pub(crate) fn look(store: &Store, dir: &std::path::Path, key: Option<&SecretKey>) -> Result<Option<Role>, OpenError> {
    let storage = Storage::new(store.disk().clone());
    let role = storage.role().map_err(|error| OpenError::of_storage(dir, error))?;
    let ours = role.unwrap_or(Role::Machine).author();
    // A node whose key is missing gets a new one.
    let signer = key.map_or_else(|| signer_of(&SecretKey::generate()), signer_of);
    load_all(&storage, ours, signer.id())
        .map_err(|reason| OpenError::Damaged { path: dir.join(STORAGE_FILE), reason })?;
    Ok(role)
}

/// The storage is a restored copy: see [`Storage::went_back`].
pub(crate) fn went_back(store: &Store) -> Result<(), WriteError> {
    Storage::new(store.disk().clone()).went_back()
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
    pub(crate) budget: KvBudget,
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
    claims: RwLock<Option<Box<dyn Claimed>>>,
    /// Documents that were given up here.
    pub(crate) former: Mutex<Former<Arc<Identity>>>,
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
        let KvConfig { role, wall_clock, max_value_bytes, budget, claim_timeout_ms } = config;
        let ours = role.author();
        let signer = signer_of(endpoint.secret_key());
        let signer_id = signer.id();
        let place = slot::Reserved::reserve(&shared).ok_or(KvOpenError::RoleTaken)?;
        let remembered = shared.kv.remembered();
        if remembered.is_some_and(|remembered| remembered != role) {
            return Err(OpenError::OtherRole { dir: shared.dir.clone() }.into());
        }
        let (dir, storage) = (shared.dir.clone(), Arc::new(Storage::new(shared.store.disk().clone())));
        // It reads every entry.
        let (opened, is_new) = (storage.clone(), remembered.is_none());
        let open = move || {
            let path = dir.join(STORAGE_FILE);
            if is_new {
                opened.set_role(role).map_err(|error| OpenError::of_write(&path, error))?;
            }
            let loaded = load_all(&opened, ours, signer_id).map_err(|reason| OpenError::Damaged { path, reason })?;
            let identities: Vec<_> = loaded.iter().map(|one| one.identity.clone()).collect();
            let docs = dir.join("docs.redb");
            let engine = Engine::open(&docs, &opened, &identities)
                .map_err(|error| OpenError::of_storage(&docs, StorageError::of_disk(error)))?;
            Ok((loaded, engine))
        };
        let dir = shared.dir.clone();
        let load = move || files::with_room(&dir, &open);
        fault_point!(shared.kv, "loading");
        let joined = tokio::task::spawn_blocking(load).await;
        fault_point!(shared.kv, "loaded");
        let (loaded, engine) = joined.unwrap_or_else(|error| Err(OpenError::Network(error.to_string())))?;
        shared.kv.remember(role);
        let gone = CancellationToken::new();
        let clock = wall_clock.clone();
        let started = Keeper::start(
            storage.clone(),
            shared.metrics.clone(),
            signer.clone(),
            clock,
            max_value_bytes,
            budget,
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
            budget,
            claim_timeout_ms,
            next_number: AtomicU64::new(next_number),
            own: RwLock::new(None),
            machines: RwLock::default(),
            machines_changed: watch::Sender::new(0),
            claiming: Mutex::default(),
            claims: RwLock::new(None),
            former: Mutex::new(Former::new(MAX_FORMER_DOCUMENTS)),
            pair_changes: tokio::sync::Mutex::default(),
            closing: CancellationToken::new(),
            parting: CancellationToken::new(),
            closed: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        let mut rows = Vec::new();
        for one in loaded {
            fault_point!(shared.kv, "taking a document in");
            rows.extend(one.sent_row(ours));
            kv.take_in(one).await;
        }
        fault_point!(shared.kv, "noting what was sent");
        // Without it, it is the same again at the next start, unless more is written until then.
        if !rows.is_empty()
            && let Err(error) = kv.keeper.rows(rows).await
        {
            warn!(%error, "it is not noted what the other sides were sent");
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
        let _ = tokio::task::spawn_blocking(move || files::keep_room(&dir)).await;
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
        let LoadedDocument { identity, view, clock, counter, heads, sent, restored, ids } = one;
        if identity.former().is_some() {
            return lock(&self.former).add(identity);
        }
        let number = identity.number;
        let bytes = view.bytes();
        self.keeper.tell(Command::Begin { number, clock, counter, ids, bytes }).await;
        let document = Document::new(self.ours, identity.clone(), view, heads);
        document.is_sent(sent.unwrap_or(heads[self.ours.index()]));
        if let Some(from) = restored {
            warn!(number, "the keys have gone back in time: they agree with the other side first");
            document.went_back(from);
        }
        match (&identity.standing, self.ours) {
            (Standing::Paired { peer, .. } | Standing::Released { peer }, KvAuthor::Manager) => {
                write(&self.machines).insert(*peer, document);
            }
            (_, KvAuthor::Manager) => warn!(number, "a document of nobody is left alone"),
            (_, KvAuthor::Machine) => *write(&self.own) = Some(document),
        }
    }

    /// Tells the keeper of a document that begins.
    pub(crate) async fn begin(&self, identity: &Identity) {
        let (clock, counter) = (Clock::restore(None), AuthorCounter::restore(0));
        let ids = Ids::new(MAX_KV_WRITE_IDS);
        self.keeper.tell(Command::Begin { number: identity.number, clock, counter, ids, bytes: 0 }).await;
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

    pub(crate) fn answer_claims(&self, claims: Box<dyn Claimed>) {
        *write(&self.claims) = Some(claims);
    }

    /// The machine is nobody's now. Claims know this before the release returns, so that the next claim is not refused for
    /// the former manager's sake, and not ended as one from before.
    fn tell_claims_of_release(&self) {
        if let Some(claims) = &*read(&self.claims) {
            claims.released();
        }
    }

    /// A peer claims this machine.
    fn accept_claim(&self, stream: Stream) {
        match &*read(&self.claims) {
            Some(claims) if !self.closing.is_cancelled() => claims.claim(stream),
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
        // 6. The docs engine. The storage is the node's.
        note("closing the docs engine", within(deadline, 0.9, self.engine.stop()).await);
        fault_point!(self.shared.kv, "docs engine closed");
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
    sent: Option<u64>,
    restored: Option<u64>,
    ids: Ids<Outcome>,
}

impl LoadedDocument {
    /// Notes up to where an earlier version may have sent this side's entries.
    fn sent_row(&self, author: KvAuthor) -> Option<Row> {
        let (number, counter) = (self.identity.number, self.heads[author.index()]);
        let lacks = self.sent.is_none() && self.identity.former().is_none();
        lacks.then_some(Row::Mark { number, author, mark: Mark::Sent, counter })
    }
}

pub(crate) fn new_view() -> KvView {
    KvView::new(Epoch(rand::random()))
}

fn load_all(storage: &Storage, ours: KvAuthor, signer: AuthorId) -> Result<Vec<LoadedDocument>, String> {
    let load = |(number, row): (u64, DocumentRow)| {
        let loaded = storage.load(number).map_err(|error| error.to_string())?;
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
        let (counter, sent, restored) = (AuthorCounter::restore(bound), loaded.sent, loaded.restored);
        Ok(LoadedDocument { identity, view, clock, counter, heads, sent, restored, ids })
    };
    storage.documents().map_err(|error| error.to_string())?.into_iter().map(load).collect()
}

/// The system's wall clock, in milliseconds since 1970.
pub(crate) fn system_clock() -> WallClock {
    Arc::new(|| milliseconds(SystemTime::now()))
}
