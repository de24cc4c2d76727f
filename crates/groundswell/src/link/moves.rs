//! Reconnects peers when an address of this node changes, as when it goes from one network to another. Connections that went
//! out from the old address may be dead, and their silence would show it only after [`IDLE_TIMEOUT`]. So each is made again
//! at once, beside the old one, and takes its place once it is up.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use iroh::{Endpoint, EndpointAddr, TransportAddr, Watcher};
use tracing::info;

use super::dial::connect_anew;
use crate::{limits::IDLE_TIMEOUT, shared::Shared};

/// The time that a new connection has to take the place of the old one, before the next try.
pub(super) const NEXT_TRY: Duration = Duration::from_secs(1);

/// For how long it is tried: by then the old one has ended, if it was dead.
pub(super) const TRIED_FOR: Duration = IDLE_TIMEOUT;

/// Watches the addresses of this node until it begins to shut down.
pub(crate) fn watch(shared: &Arc<Shared>, endpoint: &Endpoint) {
    let (task, mut addrs) = (shared.clone(), endpoint.watch_addr());
    shared.tasks.spawn(async move {
        let mut before = ips(&addrs.get());
        loop {
            let now = tokio::select! {
                now = addrs.updated() => now,
                () = task.closing.cancelled() => return,
            };
            // The endpoint is gone.
            let Ok(now) = now else { return };
            let now = ips(&now);
            if !before.is_subset(&now) {
                info!("an address of this node is gone: its connections are made again");
                task.moves.send_modify(|moves| *moves = moves.wrapping_add(1));
                connect_anew(&task);
            }
            before = now;
        }
    });
}

fn ips(addr: &EndpointAddr) -> BTreeSet<IpAddr> {
    let ip = |addr: &TransportAddr| match addr {
        TransportAddr::Ip(addr) => Some(addr.ip()),
        _ => None,
    };
    addr.addrs.iter().filter_map(ip).collect()
}
