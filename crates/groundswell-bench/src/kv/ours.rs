//! A machine and its manager, paired, over loopback.

use std::{path::Path, time::Instant};

use groundswell::{KvEvent, KvFilter, KvLink, KvSubscription, Machine, Manager, PeerId};
use iroh_blobs::Hash;
use tokio::sync::mpsc;

use super::load::{Side, Store};
use crate::Result;

impl Store for Machine {
    async fn set(&self, key: String, value: Vec<u8>) -> Result<()> {
        self.set_kv_value(key, value).await?;
        Ok(())
    }
}

pub(super) struct Ours {
    pub(super) side: Side<Machine>,
    manager: Manager,
    machine: PeerId,
}

impl Ours {
    pub(super) async fn start(dir: &Path) -> Result<Self> {
        let bind = "127.0.0.1:0".parse()?;
        let machine = Machine::builder().data_dir(dir.join("machine")).offline().bind(bind).spawn().await?;
        let manager = Manager::builder().data_dir(dir.join("manager")).offline().bind(bind).spawn().await?;
        let ticket = machine.ticket();
        let (request, claim) = tokio::join!(machine.await_next_incoming_claim_request(), manager.begin_claim(&ticket));
        let (_, answer) = request.ok_or("the machine is shut down")?;
        answer.send(true).map_err(|_| "the claim is over")?;
        let id = claim?.answer(true).await?;
        let mut status = manager.machine_status_changes(id)?;
        status.wait_for(|status| status.link == KvLink::Online && status.current).await?;
        let mut events = manager.subscribe_kv_entries(id, KvFilter::All).await?;
        let (sender, arrivals) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(update) = events.next().await {
                let at = Instant::now();
                if let KvEvent::Put(entry) = update.event
                    && sender.send((at, Hash::new(&entry.value))).is_err()
                {
                    return;
                }
            }
        });
        Ok(Self { side: Side { store: machine, arrivals }, manager, machine: id })
    }

    /// A subscriber on either side that reads nothing.
    pub(super) async fn stalled(&self) -> Result<Vec<KvSubscription>> {
        Ok(vec![
            self.side.store.subscribe_kv_entries(KvFilter::All).await?,
            self.manager.subscribe_kv_entries(self.machine, KvFilter::All).await?,
        ])
    }

    pub(super) async fn stop(self) -> Result<()> {
        self.side.store.shutdown().await?;
        self.manager.shutdown().await?;
        Ok(())
    }
}
