//! How a node is configured, and how it starts.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, RwLock},
};

use groundswell_core::{Access, wire::BootId};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use super::{Inspected, Node, Running, inspect};
use crate::{
    catalog::Catalog,
    disk::states::{META_FOLLOWERS, META_PORT, META_PRIVATE},
    driver::Driver,
    error::{OpenError, StorageError},
    files,
    followers::Followers,
    gate::{self, Gate},
    identity::DataDir,
    kv,
    limits::{MAX_ANNOUNCED_PEERS, MAX_SUBSCRIPTIONS},
    link::{self, Peers},
    metrics::Metrics,
    network::{self, NetworkConfig},
    shared::Shared,
    source::{PeerId, PeerTicket},
    store::{Store, Write},
    stranger_log::StrangerLog,
    streams,
};

/// How a node is to be: see [`Node::builder`].
#[derive(Debug, Clone)]
pub struct NodeBuilder {
    data_dir: PathBuf,
    network: NetworkConfig,
    default_access: Access<PeerId>,
    private: Option<bool>,
    private_at_first: bool,
    /// The same where the data directory is a machine's.
    machine_private_at_first: bool,
    /// Whether a machine or a manager is opened on the node at once.
    expects_role: bool,
}

impl NodeBuilder {
    pub(super) fn new() -> Self {
        Self {
            data_dir: PathBuf::from("groundswell-data"),
            network: NetworkConfig { public: true, bind: None },
            default_access: Access::Public,
            private: None,
            private_at_first: false,
            machine_private_at_first: false,
            expects_role: false,
        }
    }

    /// Peers that come before the machine or the manager is open are asked to come again.
    pub(crate) fn expecting_role(mut self) -> Self {
        self.expects_role = true;
        self
    }

    /// The node takes only peers that it knows: those that it follows, those that a path of its is open to by name, and the
    /// other side of a pairing. A connection of anyone else is refused as soon as its peer is proven, except
    /// for a claim, which is refused while nobody has opened the machine for one. A public path is then one for all of these peers, and for nobody else.
    ///
    /// The data directory remembers it: later runs are private too, unless they say [`NodeBuilder::not_private`].
    pub fn private(mut self) -> Self {
        self.private = Some(true);
        self
    }

    /// The same, unless the data directory remembers that it is not.
    pub fn private_at_first(mut self) -> Self {
        self.private_at_first = true;
        self
    }

    /// The same where the data directory is a machine's: one that has run as a machine before it was remembered whether it
    /// is private.
    pub fn private_at_first_if_machine(mut self) -> Self {
        self.machine_private_at_first = true;
        self
    }

    /// The node takes whoever comes, whatever the data directory remembers. This is so at first.
    pub fn not_private(mut self) -> Self {
        self.private = Some(false);
        self
    }

    /// What this node publishes from here on is secret until it is made public, or peers are allowed:
    /// see [`Agent::secret`](crate::Agent::secret). Otherwise it is public until it is made secret. What is published
    /// already keeps the access that it has.
    pub fn secret_by_default(mut self) -> Self {
        self.default_access = Access::secret();
        self
    }

    /// Where the node keeps its key and its state. It is created, for this user alone, where
    /// it is missing. Two processes never have one open. The default is `groundswell-data`
    /// in the current directory.
    pub fn data_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.data_dir = dir.into();
        self
    }

    /// Does without n0's public relays and look-up, which are used otherwise. Peers are then
    /// found by the addresses in their tickets, by those of earlier connections, and on the
    /// local network by mDNS (unless the node is bound to loopback).
    pub fn offline(mut self) -> Self {
        self.network.public = false;
        self
    }

    /// Binds this one address instead of every interface. Port 0 takes the port that the node
    /// had last, if it is free, otherwise any.
    pub fn bind(mut self, addr: SocketAddr) -> Self {
        self.network.bind = Some(addr);
        self
    }

    /// Tries what a start would do with the files of the data directory, those of its machine or its manager included, and says
    /// what is in them; no node is started, and nothing is asked of the network. What a start would refuse is refused with the
    /// same error. `None` where no node has run there yet: then nothing is created either.
    ///
    /// The data directory is held meanwhile, as by a node. Its files stay as they are: what a crash has left is repaired in
    /// memory, and by the next start on the disk.
    pub async fn inspect(self) -> Result<Option<Inspected>, OpenError> {
        let path = self.data_dir;
        let joined = tokio::task::spawn_blocking(move || inspect(&path)).await;
        joined.unwrap_or_else(|error| Err(OpenError::Network(error.to_string())))
    }

    /// Opens the data directory, binds the endpoint and starts the node.
    pub async fn spawn(self) -> Result<Node, OpenError> {
        let metrics = Arc::<Metrics>::default();
        let (key, store) = {
            let (path, metrics) = (self.data_dir.clone(), metrics.clone());
            // Opening may repair the storage after a crash, which takes its time.
            let open = move || {
                files::with_room(&path, || {
                    let dir = DataDir::open(&path)?;
                    let key = dir.secret_key()?;
                    let store = Store::open(dir, metrics.clone())?;
                    Ok((key, Arc::new(store)))
                })
            };
            let joined = tokio::task::spawn_blocking(open).await;
            joined.unwrap_or_else(|error| Err(OpenError::Network(error.to_string())))?
        };
        let unusable = |error: StorageError| OpenError::of_storage(&self.data_dir, error);
        let last_port = store.meta(META_PORT).map_err(unusable)?;
        let last_port = last_port.and_then(|bytes| bytes.try_into().ok()).map(u16::from_le_bytes);
        let endpoint = network::bind(&self.network, key, last_port).await?;
        let port = endpoint.bound_sockets().first().map(SocketAddr::port);
        if let Some(port) = port.filter(|port| Some(*port) != last_port) {
            // Without it the next start may take another port, which peers find out.
            if let Err(error) = store.write(&[Write::Meta { key: META_PORT, value: &port.to_le_bytes() }]) {
                warn!(%error, "the port is not remembered");
            }
        }
        let role = kv::role(&store).map_err(unusable)?;
        let remembered = store.meta(META_PRIVATE).map_err(unusable)?.map(|is| is == [1]);
        let private = match self.private.or(remembered) {
            Some(private) => private,
            None => self.private_at_first || self.machine_private_at_first && role == Some(kv::Role::Machine),
        };
        if remembered != Some(private) && (private || self.private.is_some()) {
            // Without it the next start has to be told again, which is no reason not to run on a full disk.
            if let Err(error) = store.write(&[Write::Meta { key: META_PRIVATE, value: &[u8::from(private)] }]) {
                warn!(%error, private, "whether the node is private is not remembered: say it again at the next start");
            }
        }
        let followers = Arc::new(Followers::load(store.meta(META_FOLLOWERS).map_err(unusable)?.as_deref()));
        let catalog = Arc::<Catalog>::default();
        let started = Driver::start(
            endpoint.id(),
            store.clone(),
            catalog.clone(),
            metrics.clone(),
            self.default_access,
            followers.clone(),
        );
        let (driver, thread) = started.map_err(unusable)?;
        let mut chosen = store.peers().map_err(unusable)?;
        chosen.sort_by_key(|(_, seen)| std::cmp::Reverse(*seen));
        let mut told: Vec<_> = chosen.into_iter().map(|(addr, _)| addr).collect();
        let peers = Peers::default();
        told.iter().for_each(|addr| drop(peers.choose(addr)));
        // A private node has followers only among those that it knows.
        told.extend(followers.all().into_iter().filter(|_| !private));
        told.truncate(MAX_ANNOUNCED_PEERS);
        let shared = Arc::new(Shared {
            id: endpoint.id(),
            dir: self.data_dir,
            kv: kv::Slot::new(self.expects_role, role),
            boot: BootId(rand::random()),
            endpoint: RwLock::new(Some(endpoint.clone())),
            network: self.network,
            store,
            driver,
            catalog,
            peers,
            private,
            on_stream: streams::take,
            dials: link::Dials::default(),
            gate: Gate::default(),
            followers,
            stranger_log: StrangerLog::default(),
            metrics,
            moves: tokio::sync::watch::Sender::new(0),
            reader_permits: Arc::new(Semaphore::new(MAX_SUBSCRIPTIONS)),
            closing: CancellationToken::new(),
            parting: CancellationToken::new(),
            following: crate::shared::OneAtATime::default(),
            closed: CancellationToken::new(),
            programs: TaskTracker::new(),
            tasks: TaskTracker::new(),
        });
        let ticket = Mutex::new(PeerTicket(network::own_address(&endpoint)));
        // Made before anything runs: a start that fails or is dropped from here on ends what it has begun.
        let node = Node(Arc::new(Running { shared: shared.clone(), ticket, thread: Mutex::new(Some(thread)) }));
        link::watch_moves(&shared, &endpoint);
        gate::open(&shared, endpoint).map_err(OpenError::Network)?;
        for addr in told {
            let told = link::announce(shared.clone(), addr);
            shared.tasks.spawn(told);
        }
        let dir = shared.dir.clone();
        // On a full disk it waits for what is flushed.
        let _ = tokio::task::spawn_blocking(move || files::keep_room(&dir)).await;
        info!(id = %shared.id, "the node is up");
        Ok(node)
    }
}
