//! The manager: the other role of the key-value store, with any number of machines.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use groundswell_core::{
    Cursor,
    kv::{KvEntry, KvFilter, SpaceName, pairing::ClaimPin},
};
use tokio::sync::{oneshot, watch};

use crate::{
    ClaimTicket, Node, PeerId, ShutdownError,
    kv::{
        Document, KvError, KvFleetSubscription, KvOpenError, KvSpace, KvSubscription, KvUsage, KvWatch, LinkStatus,
        Role, parting,
    },
    machine::{RoleBuilder, Running, builder_methods},
    pairing::{self, ClaimError, PendingClaim},
};

/// How a manager is to be: see [`Manager::builder`].
#[derive(Clone, Default)]
pub struct ManagerBuilder(RoleBuilder);

impl ManagerBuilder {
    builder_methods!();

    /// Opens the data directory and starts the manager.
    pub async fn spawn(self) -> Result<Manager, KvOpenError> {
        Ok(Manager(Arc::new(self.0.spawn(Role::Manager).await?)))
    }
}

/// A manager: it claims machines, and shares a key-value store with each of them. Clones are handles
/// to the same manager.
///
/// What it does to the store of a machine needs no machine to be there: a write is durable here, and
/// the machine gets it when it is back.
///
/// ```no_run
/// # async fn example(ticket: groundswell::PeerTicket) -> Result<(), Box<dyn std::error::Error>> {
/// let manager = groundswell::Manager::new("data").await?;
/// let claim = manager.begin_claim(&ticket).await?;
/// println!("does the machine show {}?", claim.pin);
/// let machine = claim.answer(true).await?;
/// manager.set_kv_value(machine, "price/1", "250").await?;
/// # Ok(()) }
/// ```
///
/// A manager whose last handle is dropped without [`Manager::shutdown`] stops as in a crash: nothing
/// that was acknowledged is lost.
#[derive(Clone)]
pub struct Manager(Arc<Running>);

impl Manager {
    /// A manager with its data in this directory, and everything else as usual.
    pub async fn new(data_dir: impl Into<PathBuf>) -> Result<Self, KvOpenError> {
        Self::builder().data_dir(data_dir).spawn().await
    }

    /// Begins to configure a manager.
    pub fn builder() -> ManagerBuilder {
        ManagerBuilder::default()
    }

    /// The manager's id: its node's public key.
    pub fn id(&self) -> PeerId {
        self.node().id()
    }

    /// The node that the manager runs on.
    pub fn node(&self) -> &Node {
        &self.0.node
    }

    /// Claims the machine of a ticket: connects, and returns the PIN to be shown. If the person at the
    /// machine sees the same, send `true`. The machine is among [`Manager::list_machine_ids`] once both
    /// have said so; [`Manager::begin_claim`] waits for that, and says what went wrong.
    pub async fn claim_machine(
        &self,
        ticket: impl Into<ClaimTicket>,
    ) -> Result<(ClaimPin, oneshot::Sender<bool>), ClaimError> {
        let PendingClaim { pin, answer, .. } = self.begin_claim(ticket).await?;
        Ok((pin, answer))
    }

    /// Claims the machine of a ticket: see [`PendingClaim`]. Claiming a machine again that is this
    /// manager's changes nothing. The machine has to be [open for claims](crate::Machine::open_claims), or the ticket to
    /// have a [one-time secret](crate::Machine::claim_ticket).
    pub async fn begin_claim(&self, ticket: impl Into<ClaimTicket>) -> Result<PendingClaim, ClaimError> {
        pairing::claim(&self.0.kv, &ticket.into()).await
    }

    /// The machines of this manager, in the order of their ids.
    pub fn list_machine_ids(&self) -> Vec<PeerId> {
        self.0.kv.machine_ids()
    }

    /// Counts the changes of that list, for who waits for one.
    pub fn machine_changes(&self) -> watch::Receiver<u64> {
        self.0.kv.machines_changed.subscribe()
    }

    /// What is known of a machine: whether it is online, since when not, and how current its data is.
    pub fn machine_status(&self, machine: PeerId) -> Result<LinkStatus, KvError> {
        Ok(self.document(machine)?.status.borrow().clone())
    }

    /// The same as it changes. It ends when the machine is released.
    pub fn machine_status_changes(&self, machine: PeerId) -> Result<watch::Receiver<LinkStatus>, KvError> {
        Ok(self.document(machine)?.status.subscribe())
    }

    /// Gives a machine up: what this manager has of it is deleted, its streams end, and the machine is
    /// told, as soon as it can be. It goes on with a new document, which this manager can't read.
    pub async fn release(&self, machine: PeerId) -> Result<(), KvError> {
        if self.is_shutdown() {
            return Err(KvError::ShutDown);
        }
        parting::release_machine(&self.0.kv, machine).await
    }

    fn document(&self, machine: PeerId) -> Result<Arc<Document>, KvError> {
        self.0.kv.of_peer(machine).ok_or(KvError::UnknownMachine(machine))
    }

    /// A named space of a machine: an application keeps its own records there, apart from its users' keys.
    pub fn space(&self, machine: PeerId, name: &str) -> Result<KvSpace, KvError> {
        self.named(machine, SpaceName::new(name)?)
    }

    /// The spaces of a machine that were ever used; the default one has an empty name.
    pub fn spaces(&self, machine: PeerId) -> Result<Vec<String>, KvError> {
        Ok(self.document(machine)?.with_view(|view| view.spaces().map(ToString::to_string).collect()))
    }

    /// How many keys and bytes the document of a machine uses, and how many it may.
    pub fn kv_usage(&self, machine: PeerId) -> Result<KvUsage, KvError> {
        Ok(self.document(machine)?.usage(&self.0.kv.budget))
    }

    /// The default space of a machine, which has no name: the one of the methods below.
    pub fn default_space(&self, machine: PeerId) -> Result<KvSpace, KvError> {
        self.named(machine, SpaceName::default())
    }

    fn named(&self, machine: PeerId, name: SpaceName) -> Result<KvSpace, KvError> {
        Ok(KvSpace { kv: self.0.kv.clone(), document: self.document(machine)?, name })
    }

    /// The entry of a machine's key: see [`KvSpace::get`].
    pub async fn get_kv_value(&self, machine: PeerId, key: impl AsRef<[u8]>) -> Result<Option<KvEntry>, KvError> {
        self.default_space(machine)?.get(key).await
    }

    /// Gives a machine's key a value: see [`KvSpace::set`].
    pub async fn set_kv_value(
        &self,
        machine: PeerId,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<KvEntry, KvError> {
        self.default_space(machine)?.set(key, value).await
    }

    /// Gives a machine's key a value once: see [`KvSpace::set_once`].
    pub async fn set_kv_value_once(
        &self,
        machine: PeerId,
        key: impl AsRef<[u8]>,
        id: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<KvEntry, KvError> {
        self.default_space(machine)?.set_once(key, id, value).await
    }

    /// Deletes a machine's key once: see [`KvSpace::delete_once`].
    pub async fn delete_kv_value_once(
        &self,
        machine: PeerId,
        key: impl AsRef<[u8]>,
        id: impl AsRef<[u8]>,
    ) -> Result<bool, KvError> {
        self.default_space(machine)?.delete_once(key, id).await
    }

    /// Deletes a machine's key: see [`KvSpace::delete`].
    pub async fn delete_kv_value(&self, machine: PeerId, key: impl AsRef<[u8]>) -> Result<bool, KvError> {
        self.default_space(machine)?.delete(key).await
    }

    /// Waits until everything that was written here for a machine before is durable there too: see
    /// [`KvSpace::until_delivered`].
    pub async fn until_kv_delivered(&self, machine: PeerId) -> Result<(), KvError> {
        self.default_space(machine)?.until_delivered().await
    }

    /// All entries of a machine, in the order of their keys.
    pub async fn get_kv_entries(&self, machine: PeerId) -> Result<Vec<KvEntry>, KvError> {
        self.default_space(machine)?.entries(KvFilter::All).await
    }

    /// The entries of a machine that match, in the order of their keys.
    pub async fn get_kv_entries_matching(&self, machine: PeerId, filter: KvFilter) -> Result<Vec<KvEntry>, KvError> {
        self.default_space(machine)?.entries(filter).await
    }

    /// Watches a key of a machine: see [`KvWatch`].
    pub async fn watch_kv_key(&self, machine: PeerId, key: impl AsRef<[u8]>) -> Result<KvWatch, KvError> {
        self.default_space(machine)?.watch(key).await
    }

    /// The same from an earlier event on: see [`KvSpace::watch_from`].
    pub async fn watch_kv_key_from(
        &self,
        machine: PeerId,
        key: impl AsRef<[u8]>,
        cursor: Option<Cursor>,
    ) -> Result<KvWatch, KvError> {
        self.default_space(machine)?.watch_from(key, cursor).await
    }

    /// Follows all entries of a machine that match: see [`KvSubscription`].
    pub async fn subscribe_kv_entries(&self, machine: PeerId, filter: KvFilter) -> Result<KvSubscription, KvError> {
        self.default_space(machine)?.subscribe(filter).await
    }

    /// The same from an earlier event on: see [`KvSpace::watch_from`].
    pub async fn subscribe_kv_entries_from(
        &self,
        machine: PeerId,
        filter: KvFilter,
        cursor: Option<Cursor>,
    ) -> Result<KvSubscription, KvError> {
        self.default_space(machine)?.subscribe_from(filter, cursor).await
    }

    /// Follows all entries of all machines that match, those of machines that are claimed later
    /// included: see [`KvFleetSubscription`].
    pub async fn subscribe_all_kv_entries(&self, filter: KvFilter) -> Result<KvFleetSubscription, KvError> {
        if self.is_shutdown() {
            return Err(KvError::ShutDown);
        }
        let permit = self.0.kv.shared.reader_permits.clone().try_acquire_owned();
        let permit = permit.map_err(|_| KvError::TooManySubscriptions)?;
        Ok(KvFleetSubscription::new(self.0.kv.clone(), filter, permit))
    }

    /// Waits until the manager is shut down, or about to be. Cancel safe.
    pub async fn until_shutdown(&self) {
        self.0.until_shutdown().await;
    }

    /// Whether the manager is shut down, or about to be.
    pub fn is_shutdown(&self) -> bool {
        self.0.is_shutdown()
    }

    /// Shuts the manager down, as [`crate::Machine::shutdown`] does a machine.
    pub async fn shutdown(&self) -> Result<(), ShutdownError> {
        self.0.shutdown().await
    }

    #[cfg(test)]
    pub(crate) fn kv(&self) -> &Arc<crate::kv::Kv> {
        &self.0.kv
    }
}

impl std::fmt::Debug for ManagerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ManagerBuilder").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Manager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Manager").field("id", &self.id()).field("machines", &self.list_machine_ids()).finish()
    }
}
