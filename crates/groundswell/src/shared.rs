//! What every part of a node shares.

use std::sync::Arc;

use groundswell_core::wire::BootId;
use iroh::Endpoint;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    catalog::Catalog, driver::DriverHandle, metrics::Metrics, network::NetworkConfig, peers::Peers, source::PeerId,
    store::Store,
};

pub(crate) struct Shared {
    pub(crate) id: PeerId,
    pub(crate) boot: BootId,
    pub(crate) endpoint: Endpoint,
    pub(crate) network: NetworkConfig,
    pub(crate) store: Arc<Store>,
    pub(crate) driver: DriverHandle,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) peers: Peers,
    pub(crate) metrics: Arc<Metrics>,
    /// One permit a stream of updates.
    pub(crate) reader_permits: Arc<Semaphore>,
    /// Set when the node begins to shut down: nothing new is begun, and who sends finishes.
    pub(crate) closing: CancellationToken,
    /// Set when the time to finish is over: every task ends where it stands.
    pub(crate) closed: CancellationToken,
    /// Every task of the node.
    pub(crate) tasks: TaskTracker,
}
