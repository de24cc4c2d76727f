//! The machine: one of the two roles of the key-value store.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use groundswell_core::{
    Cursor,
    kv::{
        KvEntry, KvFilter, SpaceName,
        pairing::{ClaimPin, ClaimSecret},
    },
    limits::{CLAIM_TIMEOUT_MS, MAX_KV_VALUE_BYTES},
};
use tokio::sync::{oneshot, watch};

use crate::{
    ClaimTicket, Node, NodeBuilder, PeerId, PeerTicket, ShutdownError,
    kv::{
        Kv, KvBudget, KvConfig, KvError, KvOpenError, KvSpace, KvSubscription, KvUsage, KvWatch, LinkStatus, Role,
        WallClock, parting, system_clock,
    },
    limits::SHUTDOWN_DEADLINE,
    pairing::{Claims, ClaimsHeldOpen, ClaimsOpen, IncomingClaim},
};

/// How a machine or a manager is to be: what its node is to be, or which node it is to use.
#[derive(Clone)]
pub(crate) struct RoleBuilder {
    pub(crate) node: NodeBuilder,
    pub(crate) existing: Option<Node>,
    pub(crate) wall_clock: WallClock,
    pub(crate) max_value_bytes: usize,
    pub(crate) budget: KvBudget,
    pub(crate) claim_timeout_ms: u64,
}

impl Default for RoleBuilder {
    fn default() -> Self {
        Self {
            node: Node::builder(),
            existing: None,
            wall_clock: system_clock(),
            max_value_bytes: MAX_KV_VALUE_BYTES,
            budget: KvBudget::default(),
            claim_timeout_ms: CLAIM_TIMEOUT_MS,
        }
    }
}

impl RoleBuilder {
    pub(crate) async fn spawn(self, role: Role) -> Result<Running, KvOpenError> {
        let Self { node, existing, wall_clock, max_value_bytes, mut budget, claim_timeout_ms } = self;
        // A few of the largest values find room in any case.
        budget.document = budget.document.max(4 * max_value_bytes as u64);
        let (node, owned) = match existing {
            Some(node) => (node, false),
            None => (node.expecting_role().spawn().await?, true),
        };
        let config = KvConfig { role, wall_clock, max_value_bytes, budget, claim_timeout_ms };
        match Kv::open(node.shared().clone(), config).await {
            Ok(kv) => Ok(Running { kv, node, owned }),
            Err(error) => {
                if owned {
                    // What was opened is let go of; why it was is what counts.
                    let _ = node.shutdown().await;
                }
                Err(error)
            }
        }
    }
}

/// What both roles run on.
pub(crate) struct Running {
    pub(crate) kv: Arc<Kv>,
    pub(crate) node: Node,
    /// Whether the node was made for this role, and ends with it.
    owned: bool,
}

impl Running {
    pub(crate) fn is_shutdown(&self) -> bool {
        self.kv.closing.is_cancelled()
    }

    pub(crate) async fn until_shutdown(&self) {
        self.kv.closing.cancelled().await;
    }

    pub(crate) async fn shutdown(&self) -> Result<(), ShutdownError> {
        let late = self.kv.shutdown(Instant::now() + SHUTDOWN_DEADLINE).await;
        if self.owned {
            self.node.shutdown().await?;
        }
        late.map_or(Ok(()), |while_doing| Err(ShutdownError { while_doing }))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kv.abandon();
    }
}

/// The methods that the builders of both roles have.
macro_rules! builder_methods {
    () => {
        /// Where its node keeps its key and its state: see [`crate::NodeBuilder::data_dir`].
        pub fn data_dir(mut self, dir: impl Into<PathBuf>) -> Self {
            self.0.node = self.0.node.data_dir(dir);
            self
        }

        /// Does without n0's public relays and look-up: see [`crate::NodeBuilder::offline`].
        pub fn offline(mut self) -> Self {
            self.0.node = self.0.node.offline();
            self
        }

        /// Takes only peers that it knows: see [`crate::NodeBuilder::private`].
        pub fn private(mut self) -> Self {
            self.0.node = self.0.node.private();
            self
        }

        /// Takes whoever comes: see [`crate::NodeBuilder::not_private`].
        pub fn not_private(mut self) -> Self {
            self.0.node = self.0.node.not_private();
            self
        }

        /// Binds this one address: see [`crate::NodeBuilder::bind`].
        pub fn bind(mut self, addr: SocketAddr) -> Self {
            self.0.node = self.0.node.bind(addr);
            self
        }

        /// Uses a node that is there already, and shares its endpoint with the node's agents. The
        /// node goes on when this role is shut down. What is said of a node here does not count then.
        pub fn node(mut self, node: Node) -> Self {
            self.0.existing = Some(node);
            self
        }

        /// The wall clock that timestamps are taken from, in milliseconds since 1970, in place of
        /// the system's: for devices that know the time from elsewhere, and for tests. No wrong
        /// clock loses a write.
        pub fn wall_clock(mut self, clock: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
            self.0.wall_clock = Arc::new(clock);
            self
        }

        /// The most bytes of a value, in place of 1 MiB; at most 64 MiB count. Both sides of a pair
        /// have to have the same limit: a side ends the connection at a value that is beyond its own.
        pub fn max_value_bytes(mut self, bytes: usize) -> Self {
            self.0.max_value_bytes = bytes.min(crate::limits::MAX_KV_VALUE_LIMIT_BYTES);
            self
        }

        /// How many bytes keys and values may take: see [`crate::KvBudget`]. A document has room for four of the largest values in
        /// any case. What is there already stays, where it is more.
        pub fn budget(mut self, budget: crate::KvBudget) -> Self {
            self.0.budget = budget;
            self
        }

        /// How long a claim may take at this side, from its first message until both people have
        /// answered, in place of a minute; at most 10 minutes count. The side whose time is over first
        /// ends it.
        pub fn claim_timeout(mut self, time: std::time::Duration) -> Self {
            self.0.claim_timeout_ms =
                u64::try_from(time.as_millis()).unwrap_or(u64::MAX).min(groundswell_core::limits::CLAIM_WINDOW_MS);
            self
        }
    };
}
pub(crate) use builder_methods;

/// How a machine is to be: see [`Machine::builder`].
#[derive(Clone, Default)]
pub struct MachineBuilder(RoleBuilder);

impl MachineBuilder {
    builder_methods!();

    /// Opens the data directory and starts the machine.
    pub async fn spawn(self) -> Result<Machine, KvOpenError> {
        let running = self.0.spawn(Role::Machine).await?;
        let claims = Claims::start(&running.kv);
        Ok(Machine(Arc::new(Inner { running, claims })))
    }
}

impl std::fmt::Debug for MachineBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MachineBuilder").field("node", &self.0.node).finish_non_exhaustive()
    }
}

/// Whose a machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MachineState {
    /// No manager has claimed it. It works, alone.
    Unclaimed,
    /// This manager has.
    Claimed {
        /// The manager.
        manager: PeerId,
    },
}

/// A machine: a device with a key-value store that it shares with the manager who claims it. Clones
/// are handles to the same machine.
///
/// It needs no manager to work: what it writes while it is unclaimed, or while its manager is away,
/// the manager gets when it is there.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let machine = groundswell::Machine::new("data").await?;
/// machine.set_kv_value("stock/1", "12").await?;
/// let mut watch = machine.watch_kv_key("price/1").await?;
/// while let Some(update) = watch.next().await {
///     println!("{:?}", update.event);
/// }
/// # Ok(()) }
/// ```
///
/// A machine whose last handle is dropped without [`Machine::shutdown`] stops as in a crash: nothing
/// that was acknowledged is lost.
#[derive(Clone)]
pub struct Machine(Arc<Inner>);

struct Inner {
    running: Running,
    claims: Arc<Claims>,
}

impl Machine {
    /// A machine with its data in this directory, and everything else as usual.
    pub async fn new(data_dir: impl Into<PathBuf>) -> Result<Self, KvOpenError> {
        Self::builder().data_dir(data_dir).spawn().await
    }

    /// Begins to configure a machine.
    pub fn builder() -> MachineBuilder {
        MachineBuilder::default()
    }

    /// The machine's id: its node's public key.
    pub fn id(&self) -> PeerId {
        self.node().id()
    }

    /// The machine's ticket, by which a manager claims it.
    pub fn ticket(&self) -> PeerTicket {
        self.node().ticket()
    }

    /// The node that the machine runs on.
    pub fn node(&self) -> &Node {
        &self.0.running.node
    }

    /// Whose the machine is.
    pub fn get_machine_state(&self) -> MachineState {
        let manager = self.0.running.kv.own().and_then(|own| own.identity().peer());
        manager.map_or(MachineState::Unclaimed, |manager| MachineState::Claimed { manager })
    }

    /// What is known of the manager.
    pub fn manager_status(&self) -> LinkStatus {
        self.status_changes().borrow().clone()
    }

    /// The same as it changes.
    pub fn status_changes(&self) -> watch::Receiver<LinkStatus> {
        let own = self.0.running.kv.own();
        own.map_or_else(|| watch::channel(LinkStatus::unclaimed()).1, |own| own.status.subscribe())
    }

    /// Lets managers claim this machine for so long, at most 10 minutes: what a button of the device does. Without it, a
    /// claim is taken only while something waits for one ([`Machine::await_incoming_claim`],
    /// [`Machine::hold_claims_open`]), or with the one-time secret of [`Machine::claim_ticket`]. All others are
    /// refused, and cost nothing. Claims that were in vain before are forgiven, so call it when a person has asked for
    /// it and not in a loop.
    pub fn open_claims(&self, time: Duration) {
        self.0.claims.open(time);
    }

    /// Ends what [`Machine::open_claims`] began. Claims under way go on.
    pub fn close_claims(&self) {
        self.0.claims.close();
    }

    /// The same as [`Machine::open_claims`] for as long as what it returns is kept: while a person looks.
    pub fn hold_claims_open(&self) -> ClaimsHeldOpen {
        self.0.claims.hold_open()
    }

    /// Whether the machine takes claims, and who has claimed it in vain.
    pub fn claims_open(&self) -> ClaimsOpen {
        self.0.claims.claims_open()
    }

    /// Counts the changes of that, for who waits for one. That a time has passed is no change.
    pub fn claims_open_changes(&self) -> watch::Receiver<u64> {
        self.0.claims.changes()
    }

    /// A ticket with a one-time secret, which admits claims for so long, at most 24 hours, until the first of them has
    /// made a pair. The PIN is compared all the same. It takes the place of the ticket with a secret before, and ends with
    /// the process.
    pub fn claim_ticket(&self, time: Duration) -> ClaimTicket {
        let secret = ClaimSecret(rand::random());
        self.0.claims.offer(&secret, time);
        ClaimTicket { ticket: self.ticket(), secret: Some(secret) }
    }

    /// Waits for the next manager that wants to claim this machine. Show the PIN; if the person at the
    /// manager sees the same, send `true`. A claim is over after a minute, and when the sender is
    /// dropped. `None` once the machine is shut down. Cancel safe. The machine is open for claims while this waits.
    ///
    /// [`Machine::await_incoming_claim`] also names the manager, and says what became of the claim.
    pub async fn await_next_incoming_claim_request(&self) -> Option<(ClaimPin, oneshot::Sender<bool>)> {
        self.await_incoming_claim().await.map(|IncomingClaim { pin, answer, .. }| (pin, answer))
    }

    /// Waits for the next manager that wants to claim this machine: see [`IncomingClaim`]. `None` once
    /// the machine is shut down. Cancel safe; of several who wait, one gets a claim. The machine is open for claims
    /// while this waits.
    pub async fn await_incoming_claim(&self) -> Option<IncomingClaim> {
        self.0.claims.next_open().await
    }

    /// The same, and the machine stays as it is: open or closed for claims.
    pub async fn await_admitted_claim(&self) -> Option<IncomingClaim> {
        self.0.claims.next().await
    }

    /// Ends the pairing. The machine goes on with a new document, which its former manager can't
    /// read; all that is not deleted is in it, as the machine's own. Its streams get a Reset.
    pub async fn release(&self) -> Result<(), KvError> {
        let kv = &self.0.running.kv;
        let document = kv.own().ok_or(KvError::NotClaimed)?;
        parting::release_own(kv, document).await
    }

    /// Ends the pairing, if there is one, and deletes all entries of all spaces here: the next manager gets none of them.
    /// For a machine that is sold. Its streams get a Reset, and then nothing. The former manager keeps what it has until
    /// it releases the machine too.
    ///
    /// What is published on paths is not concerned. The bytes of deleted entries stay in free pages of the files until
    /// these are written again: where the values are secret, delete the data directory.
    pub async fn release_and_wipe(&self) -> Result<(), KvError> {
        let kv = &self.0.running.kv;
        let document = kv.own().ok_or(KvError::ShutDown)?;
        parting::wipe_own(kv, document).await
    }

    /// The default space, which has no name: the one of the methods below.
    pub fn default_space(&self) -> Result<KvSpace, KvError> {
        self.named(SpaceName::default())
    }

    /// A named space: an application keeps its own records there, apart from its users' keys.
    pub fn space(&self, name: &str) -> Result<KvSpace, KvError> {
        self.named(SpaceName::new(name)?)
    }

    fn named(&self, name: SpaceName) -> Result<KvSpace, KvError> {
        let kv = self.0.running.kv.clone();
        let document = kv.own().ok_or(KvError::ShutDown)?;
        Ok(KvSpace { kv, document, name })
    }

    /// The spaces that were ever used; the default one has an empty name.
    pub fn spaces(&self) -> Vec<String> {
        let own = self.0.running.kv.own();
        own.map_or_else(Vec::new, |own| own.with_view(|view| view.spaces().map(ToString::to_string).collect()))
    }

    /// How many keys and bytes the document uses, and how many it may.
    pub fn kv_usage(&self) -> KvUsage {
        let kv = &self.0.running.kv;
        kv.own().map_or_else(KvUsage::default, |own| own.usage(&kv.budget))
    }

    /// The entry of a key: see [`KvSpace::get`].
    pub async fn get_kv_value(&self, key: impl AsRef<[u8]>) -> Result<Option<KvEntry>, KvError> {
        self.default_space()?.get(key).await
    }

    /// Gives a key a value: see [`KvSpace::set`].
    pub async fn set_kv_value(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<KvEntry, KvError> {
        self.default_space()?.set(key, value).await
    }

    /// Gives a key a value once: see [`KvSpace::set_once`].
    pub async fn set_kv_value_once(
        &self,
        key: impl AsRef<[u8]>,
        id: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<KvEntry, KvError> {
        self.default_space()?.set_once(key, id, value).await
    }

    /// Deletes a key once: see [`KvSpace::delete_once`].
    pub async fn delete_kv_value_once(&self, key: impl AsRef<[u8]>, id: impl AsRef<[u8]>) -> Result<bool, KvError> {
        self.default_space()?.delete_once(key, id).await
    }

    /// Deletes a key: see [`KvSpace::delete`].
    pub async fn delete_kv_value(&self, key: impl AsRef<[u8]>) -> Result<bool, KvError> {
        self.default_space()?.delete(key).await
    }

    /// Waits until everything that was written here before is durable at the manager too: see
    /// [`KvSpace::until_delivered`].
    pub async fn until_kv_delivered(&self) -> Result<(), KvError> {
        self.default_space()?.until_delivered().await
    }

    /// All entries, in the order of their keys.
    pub async fn get_kv_entries(&self) -> Result<Vec<KvEntry>, KvError> {
        self.default_space()?.entries(KvFilter::All).await
    }

    /// The entries that match, in the order of their keys.
    pub async fn get_kv_entries_matching(&self, filter: KvFilter) -> Result<Vec<KvEntry>, KvError> {
        self.default_space()?.entries(filter).await
    }

    /// Watches a key: see [`KvWatch`].
    pub async fn watch_kv_key(&self, key: impl AsRef<[u8]>) -> Result<KvWatch, KvError> {
        self.default_space()?.watch(key).await
    }

    /// The same from an earlier event on: see [`KvSpace::watch_from`].
    pub async fn watch_kv_key_from(&self, key: impl AsRef<[u8]>, cursor: Option<Cursor>) -> Result<KvWatch, KvError> {
        self.default_space()?.watch_from(key, cursor).await
    }

    /// Follows all entries that match: see [`KvSubscription`].
    pub async fn subscribe_kv_entries(&self, filter: KvFilter) -> Result<KvSubscription, KvError> {
        self.default_space()?.subscribe(filter).await
    }

    /// The same from an earlier event on: see [`KvSpace::watch_from`].
    pub async fn subscribe_kv_entries_from(
        &self,
        filter: KvFilter,
        cursor: Option<Cursor>,
    ) -> Result<KvSubscription, KvError> {
        self.default_space()?.subscribe_from(filter, cursor).await
    }

    /// Waits until the machine is shut down, or about to be. Cancel safe.
    pub async fn until_shutdown(&self) {
        self.0.running.until_shutdown().await;
    }

    /// Whether the machine is shut down, or about to be.
    pub fn is_shutdown(&self) -> bool {
        self.0.running.is_shutdown()
    }

    /// Shuts the machine down within 10 seconds: writes are refused; what was asked before is made
    /// durable; the manager gets it, if it is there; streams end; connections, documents and storage
    /// are closed. Then its node is shut down, unless it was given to the builder. A second call
    /// returns at once.
    pub async fn shutdown(&self) -> Result<(), ShutdownError> {
        self.0.running.shutdown().await
    }

    #[cfg(test)]
    pub(crate) fn kv(&self) -> &Arc<Kv> {
        &self.0.running.kv
    }
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").field("id", &self.id()).field("state", &self.get_machine_state()).finish()
    }
}
