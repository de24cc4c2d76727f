//! The node: one process's identity, endpoint, storage, and what its agents share.

mod builder;

use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

use groundswell_core::{Access, Name, Path, Rule, Tide};
use serde::Serialize;
use tracing::warn;

pub use self::builder::NodeBuilder;
use crate::{
    Agent, Moment,
    disk::{JOURNAL_FILE, MARKS_FILE, STORAGE_FILE},
    driver::Command,
    error::{OpenError, StorageError, WriteError},
    files,
    freshness::{Ended, FreshnessKind},
    identity::{DataDir, KEY_FILE},
    kv,
    limits::{MAX_SUBSCRIPTIONS, SHUTDOWN_DEADLINE},
    metrics::MetricsSnapshot,
    network,
    shared::Shared,
    source::{PeerId, PeerTicket, Source},
    store::{Store, TideKey},
    stranger_log::StrangerLog,
    sync::lock,
};

/// One process's part in the network: its identity, its endpoint, its storage. Clones are
/// handles to the same node.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let node = groundswell::Node::builder().data_dir("data").spawn().await?;
/// println!("my ticket: {}", node.ticket());
/// node.shutdown().await?;
/// # Ok(()) }
/// ```
///
/// A node that is dropped without [`Node::shutdown`] stops as in a crash: nothing that was
/// acknowledged is lost, and peers notice after a few seconds instead of at once.
#[derive(Clone)]
pub struct Node(Arc<Running>);

struct Running {
    shared: Arc<Shared>,
    /// What the ticket said last, for when the endpoint is gone.
    ticket: Mutex<PeerTicket>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.closing.cancel();
        self.shared.parting.cancel();
        self.shared.closed.cancel();
    }
}

/// Shutting down took longer than it may, and what was left was cut off. Nothing that was
/// acknowledged is lost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("shutting down took longer than {deadline} s; cut off while {while_doing}", deadline = SHUTDOWN_DEADLINE.as_secs())]
pub struct ShutdownError {
    pub(crate) while_doing: &'static str,
}

/// A state that is stored here, whether any agent of this run has declared it or not.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stored {
    /// The agent that publishes or follows it.
    pub agent: Name,
    /// The path, on that agent or on the source.
    pub path: Path,
    /// The source, where it is followed.
    pub source: Option<Source>,
    /// The name of its lake.
    pub lake: Name,
    /// The version of its lake.
    pub version: u32,
}

/// What is in a data directory whose node does not run: see [`NodeBuilder::inspect`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspected {
    /// The node's id; `None` where its key is missing, so that it would begin with a new one.
    pub id: Option<PeerId>,
    /// What is stored.
    pub stored: Vec<Stored>,
    /// The role that the directory has.
    pub role: Option<kv::Role>,
}

/// The files by which it is known that a node has run in a directory.
const LEFT_BY_A_NODE: [&str; 4] = [KEY_FILE, STORAGE_FILE, JOURNAL_FILE, MARKS_FILE];

fn inspect(path: &std::path::Path) -> Result<Option<Inspected>, OpenError> {
    if path.is_dir() {
        files::refuse_open_to_all(path)?;
    }
    // What can't be looked at is no proof that nothing is there.
    if LEFT_BY_A_NODE.iter().all(|file| matches!(path.join(file).try_exists(), Ok(false))) {
        return Ok(None);
    }
    let damaged = |error: StorageError| OpenError::Damaged { path: path.to_owned(), reason: error.to_string() };
    let dir = DataDir::look(path)?;
    let key = if dir.has_key() { Some(dir.secret_key()?) } else { None };
    let (stored, role) = match Store::look(path)? {
        None => (Vec::new(), None),
        Some(store) => (stored(&store).map_err(damaged)?, kv::look(&store, path, key.as_ref())?),
    };
    drop(dir);
    Ok(Some(Inspected { id: key.map(|key| key.public()), stored, role }))
}

fn stored(store: &Store) -> Result<Vec<Stored>, StorageError> {
    let publications = store.tides()?.into_iter().filter_map(|(_, row)| match row.key {
        TideKey::Publication { agent, path } => {
            Some(Stored { agent, path, source: None, lake: row.lake.name, version: row.lake.version })
        }
        TideKey::Replica(_) => None,
    });
    let followed = store.wanted()?.into_iter().map(|(agent, source, lake)| Stored {
        agent,
        path: source.path.clone(),
        source: Some(source),
        lake: lake.name,
        version: lake.version,
    });
    Ok(publications.chain(followed).collect())
}

/// What a node is doing at one moment.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct NodeStatus {
    /// The node's id.
    pub id: String,
    /// The node's ticket.
    pub ticket: String,
    /// The peers that are connected.
    pub peers: Vec<String>,
    /// The states that it publishes.
    pub publications: Vec<TideStatus>,
    /// The states that it follows.
    pub replicas: Vec<TideStatus>,
    /// How many streams are open here, of updates and of entries; [`MAX_SUBSCRIPTIONS`] at most.
    pub streams: usize,
    /// Whether peers that the node does not know are refused: see [`NodeBuilder::private`].
    pub private: bool,
    /// Who is connected, by what they are to the node.
    pub connections: Connections,
    /// The counters.
    pub metrics: MetricsSnapshot,
}

/// The connections of a node, those of all protocols together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Connections {
    /// Handshakes that are under way.
    pub handshakes: usize,
    /// Of peers that the node does not know, and has not served anything yet. The oldest gives way to a newcomer.
    pub strangers: usize,
    /// Of peers that the node does not know, and that read something.
    pub followers: usize,
    /// Of peers that the node knows: it follows them, is paired with them, or has opened a path to them by name.
    pub known: usize,
}

/// What is known of one state.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct TideStatus {
    /// The source's peer; the node itself for a publication.
    pub peer: String,
    /// The publishing agent.
    pub agent: String,
    /// The path.
    pub path: String,
    /// The lake's name, where there is a state.
    pub lake: Option<String>,
    /// The newest aeon, where there is a state.
    pub aeon: Option<u64>,
    /// How many waves are kept.
    pub kept_waves: u64,
    /// How many rocks are kept.
    pub kept_rocks: usize,
    /// The rule by which they are kept, where there is a state.
    pub rule: Option<Rule>,
    /// How many streams read it now, local and remote, those included that wait for it.
    pub readers: usize,
    /// How many waves the slowest of these readers has yet to get, or to skip; what was handed to its connection counts
    /// as got.
    pub reader_lag: u64,
    /// Whether everyone may read it; not set for a replica.
    pub public: Option<bool>,
    /// Who may read it, where not everyone may.
    pub allowed: Option<Vec<String>>,
    /// What is known of the source.
    pub freshness: FreshnessKind,
    /// More about it, in words.
    pub detail: Option<String>,
    /// Since when the source is out of reach.
    #[serde(rename = "offline_since_ms")]
    pub offline_since: Option<Moment>,
    /// When the state was last known to be current; not set while it is.
    #[serde(rename = "current_at_ms")]
    pub current_at: Option<Moment>,
}

impl Node {
    /// Begins to configure a node.
    pub fn builder() -> NodeBuilder {
        NodeBuilder::new()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }

    /// The node's id: its public key.
    pub fn id(&self) -> PeerId {
        self.0.shared.id
    }

    /// The node's ticket: its id and the addresses where it can be reached now. Where public
    /// look-up is used, the id alone is enough.
    pub fn ticket(&self) -> PeerTicket {
        let mut ticket = lock(&self.0.ticket);
        if let Some(endpoint) = self.0.shared.endpoint() {
            *ticket = PeerTicket(network::own_address(&endpoint));
        }
        ticket.clone()
    }

    /// Remembers the addresses of a ticket, for good.
    pub async fn add_peer(&self, ticket: &PeerTicket) -> Result<PeerId, WriteError> {
        let shared = &self.0.shared;
        if !ticket.0.is_empty() && ticket.peer() != shared.id {
            shared.peers.learn(&ticket.0);
            let (addr, _) = shared.peers.choose(&ticket.0);
            let asked = shared.driver.ask(|reply| Command::Peer { addr, reply: Some(reply) }).await;
            asked.map_err(WriteError::from)??;
        }
        Ok(ticket.peer())
    }

    /// The agent of this name. It needs no making: what it declares and gives is kept under its name.
    pub fn agent(&self, name: &str) -> Result<Agent, groundswell_core::PathError> {
        Ok(Agent::new(self.0.shared.clone(), Name::new(name)?))
    }

    /// The counters.
    pub fn metrics(&self) -> MetricsSnapshot {
        self.0.shared.metrics.snapshot()
    }

    /// What is stored of earlier runs and of this one. A tool that knows lakes by name finds
    /// here what to declare again after a restart.
    pub fn stored(&self) -> Result<Vec<Stored>, StorageError> {
        stored(&self.0.shared.store)
    }

    /// The role that the data directory has for good, `None` where no machine and no manager has run.
    pub fn role(&self) -> Option<kv::Role> {
        self.0.shared.kv.remembered()
    }

    /// What the node is doing.
    pub fn status(&self) -> NodeStatus {
        let shared = &self.0.shared;
        let (mut publications, mut replicas) = (Vec::new(), Vec::new());
        for cell in shared.catalog.cells() {
            let standing = cell.standing();
            let kept = cell.with_tide(|tide| (tide.kept_waves(), tide.rocks().count()));
            let (peer, agent) = match cell.key() {
                TideKey::Publication { agent, .. } => (shared.id, agent),
                TideKey::Replica(source) => (source.peer, &source.agent),
            };
            let (detail, offline_since) = match &standing.freshness {
                crate::Freshness::Refused(refusal) => (Some(refusal.to_string()), None),
                crate::Freshness::Unusable { reason } => (Some(reason.clone()), None),
                crate::Freshness::Offline { since } => (None, Some(*since)),
                _ => (None, None),
            };
            let access = match cell.key() {
                TideKey::Publication { .. } => cell.access(),
                TideKey::Replica(_) => None,
            };
            let status = TideStatus {
                peer: peer.to_string(),
                agent: agent.to_string(),
                path: cell.key().path().to_string(),
                lake: cell.lake().map(|lake| lake.name.to_string()),
                aeon: cell.cursor().map(|at| at.aeon.0),
                kept_waves: kept.map_or(0, |(waves, _)| waves),
                kept_rocks: kept.map_or(0, |(_, rocks)| rocks),
                rule: cell.with_tide(Tide::rule),
                readers: cell.readers().count(),
                reader_lag: cell.cursor().map_or(0, |at| cell.readers().lag(at.aeon)),
                public: access.as_ref().map(|access| *access == Access::Public),
                allowed: access.and_then(|access| match access {
                    Access::Public => None,
                    Access::Only(peers) => Some(peers.iter().map(ToString::to_string).collect()),
                }),
                freshness: standing.freshness.kind(),
                detail,
                offline_since,
                current_at: standing.current_at,
            };
            match cell.key() {
                // A publication without state is only a path that someone waits for, unless it was killed.
                TideKey::Publication { .. } if status.aeon.is_none() && !cell.is_killed() => {}
                TideKey::Publication { .. } => publications.push(status),
                TideKey::Replica(_) => replicas.push(status),
            }
        }
        let order = |a: &TideStatus, b: &TideStatus| (&a.peer, &a.agent, &a.path).cmp(&(&b.peer, &b.agent, &b.path));
        publications.sort_by(order);
        replicas.sort_by(order);
        NodeStatus {
            id: shared.id.to_string(),
            ticket: self.ticket().to_string(),
            peers: shared.peers.connected().iter().map(ToString::to_string).collect(),
            publications,
            replicas,
            streams: MAX_SUBSCRIPTIONS.saturating_sub(shared.reader_permits.available_permits()),
            private: shared.private,
            connections: self.connections(),
            metrics: self.metrics(),
        }
    }

    /// Who is connected.
    pub fn connections(&self) -> Connections {
        let [handshakes, strangers, followers, known] = self.0.shared.gate.counts();
        Connections { handshakes, strangers, followers, known }
    }

    /// Says when a line of log may be written of what strangers cause, in all parts of a program.
    #[doc(hidden)]
    pub fn stranger_log(&self) -> &StrangerLog {
        &self.0.shared.stranger_log
    }

    /// Counts the changes of what [`Node::status`] says: of paths and their aeons, rules, readers and access, of what is
    /// known of sources, and of the peers that are connected; each once it can be seen. Of addresses,
    /// [counters](NodeStatus::metrics) and how far [readers are behind](TideStatus::reader_lag) it says nothing. Whoever
    /// waits for it need not ask again and again.
    ///
    /// ```
    /// # async fn example(node: groundswell::Node) {
    /// let mut changes = node.status_changes();
    /// while changes.changed().await.is_ok() {
    ///     println!("{} paths are published", node.status().publications.len());
    ///     # break;
    /// }
    /// # }
    /// ```
    pub fn status_changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.0.shared.catalog.changes.watch()
    }

    /// Waits until the node is shut down, or about to be. Cancel safe.
    pub async fn until_shutdown(&self) {
        self.0.shared.closing.cancelled().await;
    }

    /// Whether the node is shut down, or about to be.
    pub fn is_shutdown(&self) -> bool {
        self.0.shared.closing.is_cancelled()
    }

    /// Shuts the node down, in this order, within 10 seconds in all:
    ///
    /// 0. its machine or manager, if it has one: see [`crate::Machine::shutdown`];
    /// 1. nothing new is taken: gives and surfs are refused from here on;
    /// 2. the driver makes durable what it was asked before, and stops;
    /// 3. what is committed is delivered: remote readers get it, then a goodbye;
    /// 4. every local stream ends after what was committed, and each agent's program with them, once
    ///    its handler has had that;
    /// 5. connections are closed, then the endpoint;
    /// 6. the storage is closed, and the data directory let go of.
    ///
    /// A second call waits for nothing and returns at once. Dropping the future lets go of the
    /// order, not of what is stored.
    pub async fn shutdown(&self) -> Result<(), ShutdownError> {
        let shared = &self.0.shared;
        let Some(thread) = lock(&self.0.thread).take() else { return Ok(()) };
        let deadline = Instant::now() + SHUTDOWN_DEADLINE;
        let mut late = None;
        let mut note = |step: &'static str, done: bool| {
            if !done {
                late.get_or_insert(step);
            }
        };
        // 0. Its machine or manager, if it has one and that is still up.
        if let Some(kv) = shared.kv.get()
            && let Some(step) = kv.shutdown(deadline).await
        {
            note(step, false);
        }
        // 1 and 2. Tokens are set first, so that handles refuse; the queue is worked off.
        shared.closing.cancel();
        let stopped = async {
            shared.driver.tell(Command::Stop).await;
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                warn!("the driver had panicked; what was acknowledged stands");
            }
        };
        note("committing", within(deadline, 0.4, stopped).await);
        // 3.
        shared.parting.cancel();
        shared.tasks.close();
        let delivered = async {
            while shared.metrics.remote_readers_now.get() > 0 {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        // A peer that does not read is cut off without a complaint.
        within(deadline, 0.2, delivered).await;
        // 4.
        for cell in shared.catalog.cells() {
            cell.end(Ended::ShutDown);
        }
        shared.programs.close();
        // A handler that does not return is cut off without a complaint.
        within(deadline, 0.3, shared.programs.wait()).await;
        // 5.
        shared.peers.close_all();
        shared.closed.cancel();
        let endpoint = shared.endpoint();
        shared.drop_endpoint();
        let closed = async {
            if let Some(endpoint) = endpoint {
                endpoint.close().await;
            }
        };
        note("closing connections", within(deadline, 0.7, closed).await);
        note("ending tasks", within(deadline, 0.5, shared.tasks.wait()).await);
        // 6.
        let store = shared.store.clone();
        let closed = async {
            let _ = tokio::task::spawn_blocking(move || store.disk().close()).await;
        };
        note("closing the storage", within(deadline, 1.0, closed).await);
        late.map_or(Ok(()), |while_doing| Err(ShutdownError { while_doing }))
    }
}

/// Runs something for at most a share of the time that is left; whether it came to its end.
pub(crate) async fn within(deadline: Instant, share: f64, work: impl Future<Output = ()>) -> bool {
    let left = deadline.saturating_duration_since(Instant::now()).mul_f64(share.max(0.1));
    tokio::time::timeout(left, work).await.is_ok()
}
