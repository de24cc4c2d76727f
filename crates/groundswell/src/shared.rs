//! What every part of a node shares.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, RwLock, Weak},
};

use groundswell_core::wire::BootId;
use iroh::Endpoint;
use tokio::sync::{OwnedMutexGuard, Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    catalog::Catalog,
    driver::DriverHandle,
    followers::Followers,
    gate::Gate,
    link::{Dials, Peers, Stream},
    metrics::Metrics,
    network::NetworkConfig,
    source::{PeerId, Source},
    store::{Store, TideKey},
    stranger_log::StrangerLog,
    sync::{lock, read, write},
};

pub(crate) struct Shared {
    pub(crate) id: PeerId,
    /// The data directory.
    pub(crate) dir: PathBuf,
    pub(crate) boot: BootId,
    /// Until it is closed: its port is free only when the last handle is gone.
    pub(crate) endpoint: RwLock<Option<Endpoint>>,
    pub(crate) network: NetworkConfig,
    pub(crate) store: Arc<Store>,
    pub(crate) driver: DriverHandle,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) peers: Peers,
    /// Whether peers that the node does not know are refused: see [`Shared::welcomes`].
    pub(crate) private: bool,
    /// Serves a stream that a peer has opened.
    pub(crate) on_stream: fn(&Arc<Shared>, Stream),
    /// The places of dials.
    pub(crate) dials: Dials,
    /// The places of connections.
    pub(crate) gate: Gate,
    /// Where followers were reached last.
    pub(crate) followers: Arc<Followers>,
    /// When a line is written of what strangers cause.
    pub(crate) stranger_log: StrangerLog,
    pub(crate) metrics: Arc<Metrics>,
    /// The way to the machine or the manager of this node, if it has one.
    pub(crate) kv: crate::kv::Slot,
    /// Counts how often an address of this node was gone.
    pub(crate) moves: watch::Sender<u64>,
    /// One permit a stream of updates.
    pub(crate) reader_permits: Arc<Semaphore>,
    /// Set when the node begins to shut down: nothing new is begun.
    pub(crate) closing: CancellationToken,
    /// Set when nothing more will be committed: who serves sends what is, says goodbye, and ends.
    pub(crate) parting: CancellationToken,
    /// Set when the time to finish is over: every task ends where it stands.
    pub(crate) closed: CancellationToken,
    /// Held while an agent begins or ends to follow a source, so that the two never cross.
    pub(crate) following: OneAtATime,
    /// The tasks of its agents' programs, which end before the others.
    pub(crate) programs: TaskTracker,
    /// Every other task of the node.
    pub(crate) tasks: TaskTracker,
}

/// A lock for each source that has something begun or ended. One whose replica takes long to load holds up no other.
#[derive(Default)]
pub(crate) struct OneAtATime(Mutex<HashMap<Source, Weak<tokio::sync::Mutex<()>>>>);

impl OneAtATime {
    pub(crate) async fn lock(&self, source: &Source) -> OwnedMutexGuard<()> {
        let one = {
            let mut all = lock(&self.0);
            all.retain(|_, one| one.strong_count() > 0);
            all.get(source).and_then(Weak::upgrade).unwrap_or_else(|| {
                let one = Arc::default();
                all.insert(source.clone(), Arc::downgrade(&one));
                one
            })
        };
        one.lock_owned().await
    }

    /// How many sources have something begun or ended now.
    pub(crate) fn count(&self) -> usize {
        lock(&self.0).values().filter(|one| one.strong_count() > 0).count()
    }
}

impl Shared {
    /// The endpoint, until the node is shut down.
    pub(crate) fn endpoint(&self) -> Option<Endpoint> {
        read(&self.endpoint).clone()
    }

    /// The tide that holds the state of a source: a replica, or, of this node itself, the publication.
    pub(crate) fn key_of(&self, source: &Source) -> TideKey {
        if source.peer == self.id {
            TideKey::Publication { agent: source.agent.clone(), path: source.path.clone() }
        } else {
            TideKey::Replica(source.clone())
        }
    }

    /// Returns true if the owner of this node has chosen the peer: by following it, by opening a path to it by name, or by a pairing.
    pub(crate) fn knows(&self, peer: PeerId) -> bool {
        self.peers.chooses(peer)
            || self.catalog.allowed.contains(peer)
            || self.kv.get().is_some_and(|kv| kv.knows(peer))
    }

    /// The same before the role is there that this node is expected to have: then any peer may be the other side of one of its
    /// documents.
    pub(crate) fn may_know(&self, peer: PeerId) -> bool {
        self.kv.get().is_none() && self.kv.is_expected() || self.knows(peer)
    }

    /// Whether the peer gets anything here. To a private node, everyone is whom it knows.
    pub(crate) fn welcomes(&self, peer: PeerId) -> bool {
        !self.private || self.knows(peer)
    }

    /// Whether a line may be written of what a peer does, and how many were left out; always of a known one.
    pub(crate) fn line_of(&self, peer: PeerId) -> Option<u64> {
        if self.knows(peer) { Some(0) } else { self.stranger_log.line() }
    }

    /// Lets go of the endpoint.
    pub(crate) fn drop_endpoint(&self) {
        write(&self.endpoint).take();
    }
}
