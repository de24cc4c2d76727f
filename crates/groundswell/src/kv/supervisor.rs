//! One supervisor a document: it keeps a connection to the other side for as long as the two are
//! paired, and says in the status what it knows.

use std::{sync::Arc, time::Instant};

use futures_util::StreamExt;
use iroh::{EndpointAddr, TransportAddr, endpoint::Connection};
use tokio::time::timeout;
use tracing::{Instrument, debug, info_span};

use super::{
    KV_ALPN, Kv, delivery,
    document::{Document, Identity},
    session::{self, Active, End},
};
use crate::{
    Moment,
    dialling::Backoff,
    driver,
    limits::{KV_BACKOFF_LAST, KV_DIAL_TIMEOUT},
    moves::{NEXT_TRY, TRIED_FOR},
    peers::jittered,
    source::PeerId,
};

/// Begins to keep a document in sync, until the node ends it or the document has ended.
pub(crate) fn spawn(kv: &Arc<Kv>, document: &Arc<Document>) {
    let (task, document) = (kv.clone(), document.clone());
    let span = info_span!("supervise", document = document.identity().number);
    kv.tasks.spawn(
        async move {
            tokio::select! {
                () = supervise(&task, &document) => {}
                () = follow_paths(&task, &document) => {}
                () = follow_moves(&task, &document) => {}
                () = delivery::follow(&document) => {}
                () = task.closed.cancelled() => {}
            }
        }
        .instrument(span),
    );
}

/// Remembers where the other side is, for as long as a connection lasts: its address can change meanwhile,
/// and the connection go on. It never ends.
async fn follow_paths(kv: &Arc<Kv>, document: &Arc<Document>) {
    let mut session = document.session.subscribe();
    loop {
        let active = session.borrow_and_update().clone();
        let following = async {
            if let Some(active) = active {
                let mut events = active.connection.path_events();
                while events.next().await.is_some() {
                    remember(kv, &active.connection).await;
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = following => {}
            // The sender lives in the document, which the caller holds.
            _ = session.changed() => {}
        }
    }
}

/// Makes the connection anew when an address of this node is gone: see [`crate::moves`]. It never ends.
async fn follow_moves(kv: &Arc<Kv>, document: &Arc<Document>) {
    let mut moves = kv.shared.moves.subscribe();
    while moves.changed().await.is_ok() {
        let mut session = document.session.subscribe();
        let Some(old) = session.borrow_and_update().clone() else { continue };
        let is_old = |now: &Option<Arc<Active>>| now.as_ref().is_some_and(|now| Arc::ptr_eq(now, &old));
        let begun = Instant::now();
        while begun.elapsed() < TRIED_FOR && is_old(&session.borrow_and_update()) && !kv.closing.is_cancelled() {
            let identity = document.identity();
            let Some(peer) = identity.peer() else { break };
            tokio::select! {
                // It may have to wait for its turn.
                _ = session.wait_for(|now| !is_old(now)) => break,
                dialled = dial(kv, peer, false) => match dialled {
                    Ok(connection) => take_over(kv, document, identity, connection),
                    Err(error) => debug!(error, "the connection cannot be made anew yet"),
                },
            }
            tokio::select! {
                _ = session.wait_for(|now| !is_old(now)) => break,
                () = tokio::time::sleep(jittered(NEXT_TRY)) => {}
            }
        }
    }
    std::future::pending::<()>().await;
}

/// Runs a session beside the one that there is, whose place it takes once both have said hello.
fn take_over(kv: &Arc<Kv>, document: &Arc<Document>, identity: Arc<Identity>, connection: Connection) {
    let (task, document) = (kv.clone(), document.clone());
    let session = async move {
        tokio::select! {
            // What it says of the other side, the supervisor finds too.
            _ = session::dialled(&task, &document, &identity, connection) => {}
            () = task.closed.cancelled() => {}
        }
    };
    kv.tasks.spawn(session.in_current_span());
}

async fn supervise(kv: &Arc<Kv>, document: &Arc<Document>) {
    while document.ended().is_none() && !kv.closing.is_cancelled() {
        let identity = document.identity();
        let Some(peer) = identity.peer() else {
            // A claim or the shutdown changes that.
            tokio::select! {
                () = identity.replaced.cancelled() => continue,
                () = kv.closing.cancelled() => return,
            }
        };
        tokio::select! {
            () = keep_connected(kv, document, &identity, peer) => {}
            () = identity.replaced.cancelled() => {}
        }
    }
}

async fn keep_connected(kv: &Arc<Kv>, document: &Arc<Document>, identity: &Arc<Identity>, peer: PeerId) {
    let mut session = document.session.subscribe();
    let mut moves = kv.shared.moves.subscribe();
    let mut backoff = Backoff::new(KV_BACKOFF_LAST);
    while !kv.closing.is_cancelled() {
        if session.borrow_and_update().is_some() {
            // The other side came to us.
            let begun = Instant::now();
            let _ = session.wait_for(Option::is_none).await;
            backoff.connected(begun.elapsed());
        } else {
            let connected = tokio::select! {
                connected = dial(kv, peer, backoff.is_absent()) => connected,
                _ = session.wait_for(Option::is_some) => continue,
                () = kv.closing.cancelled() => return,
            };
            let end = match connected {
                Ok(connection) => {
                    let begun = Instant::now();
                    let end = session::dialled(kv, document, identity, connection).await;
                    backoff.connected(begun.elapsed());
                    end
                }
                Err(error) => {
                    debug!(error, "the other side cannot be reached");
                    End::Lost
                }
            };
            backoff.answered(!matches!(end, End::NotKnown));
            document.status.send_if_modified(|status| {
                let before = status.clone();
                if document.session.borrow().is_none() {
                    match end {
                        End::NotKnown => status.is_not_known(Moment::now()),
                        _ => status.went_offline(Moment::now()),
                    }
                    status.hindered_by(&end);
                }
                *status != before
            });
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next()) => {}
            _ = session.wait_for(Option::is_some) => {}
            // This side has moved: it is for this side to be found again.
            Ok(()) = moves.changed() => backoff = Backoff::new(KV_BACKOFF_LAST),
            () = kv.closing.cancelled() => {}
        }
    }
    // A session that goes on until the goodbye is said is ended by who shuts down.
    let _ = session.wait_for(Option::is_none).await;
}

/// Connects to a peer at the addresses that are remembered, in its turn.
pub(crate) async fn dial(kv: &Kv, peer: PeerId, absent: bool) -> Result<Connection, String> {
    kv.shared.dials.in_turn(absent, connect(kv, peer)).await
}

async fn connect(kv: &Kv, peer: PeerId) -> Result<Connection, String> {
    let endpoint = kv.shared.endpoint().ok_or("the node is shut down")?;
    let known = kv.shared.store.peer(peer).ok().flatten();
    let addr = known.unwrap_or_else(|| EndpointAddr::new(peer));
    match timeout(KV_DIAL_TIMEOUT, endpoint.connect(addr, KV_ALPN)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(groundswell_core::Visible(error).to_string()),
        Err(_) => Err("no answer".to_owned()),
    }
}

/// Remembers where a peer was reached, for good.
pub(crate) async fn remember(kv: &Kv, connection: &Connection) {
    let reached: Vec<TransportAddr> = connection.paths().iter().map(|path| path.remote_addr().clone()).collect();
    learn(kv, &EndpointAddr::from_parts(connection.remote_id(), reached)).await;
}

/// Remembers addresses of a peer, for good.
pub(crate) async fn learn(kv: &Kv, addr: &EndpointAddr) {
    let before = kv.shared.store.peer(addr.id).ok().flatten();
    let addr = kv.shared.peers.learn(addr);
    // Also where it was before: somebody else may have come from there meanwhile.
    kv.shared.peers.choose(&addr);
    // One that comes back and back to where it was costs no transaction.
    if before.is_none_or(|before| before.addrs != addr.addrs) {
        kv.shared.driver.tell(driver::Command::Peer { addr, reply: None }).await;
    }
}
