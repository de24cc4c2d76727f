//! Raw iroh-docs: two nodes with documents, blobs and gossip, all of it on disk, as its own documentation
//! puts them together.

use std::{path::Path, time::Instant};

use futures_util::StreamExt;
use iroh::{Endpoint, EndpointAddr, RelayMode, endpoint::presets, protocol::Router};
use iroh_blobs::{BlobsProtocol, store::fs::FsStore};
use iroh_docs::{
    AuthorId, ContentStatus,
    api::{
        Doc,
        protocol::{AddrInfoOptions, ShareMode},
    },
    engine::LiveEvent,
    protocol::Docs,
};
use iroh_gossip::net::Gossip;
use tokio::sync::mpsc;

use super::load::{Side, Store};
use crate::Result;

/// A document and the author who writes it.
#[derive(Clone)]
pub(super) struct Written {
    document: Doc,
    author: AuthorId,
}

impl Store for Written {
    async fn set(&self, key: String, value: Vec<u8>) -> Result<()> {
        self.document.set_bytes(self.author, key, value).await?;
        Ok(())
    }
}

struct Node {
    addr: EndpointAddr,
    router: Router,
    blobs: FsStore,
    docs: Docs,
}

impl Node {
    async fn start(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let builder = Endpoint::builder(presets::Minimal).relay_mode(RelayMode::Disabled).clear_ip_transports();
        let endpoint = builder.bind_addr("127.0.0.1:0")?.bind().await?;
        let port = *endpoint.bound_sockets().first().ok_or("no socket")?;
        let addr = EndpointAddr::new(endpoint.id()).with_ip_addr(port);
        let blobs = FsStore::load(dir.join("blobs")).await?;
        let gossip = Gossip::builder().spawn(endpoint.clone());
        let docs = Docs::persistent(dir.to_owned());
        let docs = docs.spawn(endpoint.clone(), (*blobs).clone(), gossip.clone()).await?;
        let router = Router::builder(endpoint)
            .accept(iroh_blobs::ALPN, BlobsProtocol::new(&blobs, None))
            .accept(iroh_gossip::ALPN, gossip)
            .accept(iroh_docs::ALPN, docs.clone())
            .spawn();
        Ok(Self { addr, router, blobs, docs })
    }
}

pub(super) struct Raw {
    pub(super) side: Side<Written>,
    nodes: [Node; 2],
}

impl Raw {
    pub(super) async fn start(dir: &Path) -> Result<Self> {
        let (here, there) = (Node::start(&dir.join("here")).await?, Node::start(&dir.join("there")).await?);
        let author = here.docs.author_create().await?;
        let document = here.docs.create().await?;
        let ticket = document.share(ShareMode::Write, AddrInfoOptions::Id).await?;
        document.start_sync(Vec::new()).await?;
        let copy = there.docs.import_namespace(ticket.capability).await?;
        let mut events = copy.subscribe().await?;
        let mut events_here = document.subscribe().await?;
        copy.start_sync(vec![here.addr.clone()]).await?;
        // Both in one swarm, each with the other's address.
        while !matches!(events.next().await.ok_or("the events have ended")??, LiveEvent::NeighborUp(_)) {}
        while !matches!(events_here.next().await.ok_or("the events have ended")??, LiveEvent::NeighborUp(_)) {}
        document.start_sync(vec![there.addr.clone()]).await?;
        // Events that nobody reads would hold up both of its threads.
        tokio::spawn(async move { while events_here.next().await.is_some() {} });
        let (sender, arrivals) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            // The document there stays open for as long as its events are read.
            let _copy = copy;
            while let Some(Ok(event)) = events.next().await {
                let at = Instant::now();
                let hash = match event {
                    LiveEvent::ContentReady { hash } => hash,
                    LiveEvent::InsertRemote { entry, content_status: ContentStatus::Complete, .. } => {
                        entry.content_hash()
                    }
                    _ => continue,
                };
                if sender.send((at, hash)).is_err() {
                    return;
                }
            }
        });
        Ok(Self { side: Side { store: Written { document, author }, arrivals }, nodes: [here, there] })
    }

    pub(super) async fn stop(self) -> Result<()> {
        for node in self.nodes {
            node.router.shutdown().await?;
            // The router may have done so already.
            let _ = node.blobs.shutdown().await;
        }
        Ok(())
    }
}
