//! One supervisor a document: it keeps a connection to the other side for as long as the two are
//! paired, and says in the status what it knows. Also what becomes of a document when the other
//! side has ended the pairing.

use std::{sync::Arc, time::Instant};

use futures_util::StreamExt;
use iroh::{EndpointAddr, TransportAddr, endpoint::Connection};
use tokio::time::timeout;
use tracing::{Instrument, debug, info, info_span, warn};

use super::{
    KV_ALPN, Kv, delivery,
    dialling::Backoff,
    document::{Document, Identity},
    error::KvError,
    keeper::Command,
    session::{self, Active, End},
    storage::{DocumentRow, Row, Standing},
};
use crate::{
    Moment, driver,
    limits::KV_DIAL_TIMEOUT,
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
            match dial(kv, peer).await {
                Ok(connection) => take_over(kv, document, identity, connection),
                Err(error) => debug!(error, "the connection cannot be made anew yet"),
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
            end = session::dialled(&task, &document, &identity, connection) => {
                if matches!(end, End::NotPaired) {
                    left_by_peer(&task, &document, &identity);
                }
            }
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
    let mut backoff = Backoff::new();
    while !kv.closing.is_cancelled() {
        if session.borrow_and_update().is_some() {
            // The other side came to us.
            let begun = Instant::now();
            let _ = session.wait_for(Option::is_none).await;
            backoff.connected(begun.elapsed());
        } else {
            let connected = tokio::select! {
                connected = kv.dials.in_turn(backoff.is_absent(), dial(kv, peer)) => connected,
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
            if matches!(end, End::NotPaired) {
                left_by_peer(kv, document, identity);
            }
            document.status.send_if_modified(|status| {
                let before = status.clone();
                if document.session.borrow().is_none() {
                    status.went_offline(Moment::now());
                    status.hindered_by(&end);
                }
                *status != before
            });
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next()) => {}
            _ = session.wait_for(Option::is_some) => {}
            // This side has moved: it is for this side to be found again.
            Ok(()) = moves.changed() => backoff = Backoff::new(),
            () = kv.closing.cancelled() => {}
        }
    }
    // A session that goes on until the goodbye is said is ended by who shuts down.
    let _ = session.wait_for(Option::is_none).await;
}

/// Connects to a peer at the addresses that are remembered.
async fn dial(kv: &Kv, peer: PeerId) -> Result<Connection, String> {
    let endpoint = kv.shared.endpoint().ok_or("the node is shut down")?;
    let known = kv.shared.store.peer(peer).ok().flatten();
    let addr = known.unwrap_or_else(|| EndpointAddr::new(peer));
    match timeout(KV_DIAL_TIMEOUT, endpoint.connect(addr, KV_ALPN)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(error.to_string()),
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
    // One that comes back and back to where it was costs no transaction.
    if before.is_none_or(|before| before.addrs != addr.addrs) {
        kv.shared.driver.tell(driver::Command::Peer { addr, wanted: true, reply: None }).await;
    }
}

/// The other side says that it does not share the document any more. A machine goes on by itself; a
/// manager keeps what it has, for reading.
pub(crate) fn left_by_peer(kv: &Arc<Kv>, document: &Arc<Document>, identity: &Arc<Identity>) {
    if identity.replaced.is_cancelled() || kv.closing.is_cancelled() {
        return;
    }
    let (task, document, identity) = (kv.clone(), document.clone(), identity.clone());
    kv.tasks.spawn(async move {
        let left = match task.ours {
            groundswell_core::kv::KvAuthor::Machine => {
                info!("the manager has released this machine");
                renew(&task, &document, &identity).await
            }
            groundswell_core::kv::KvAuthor::Manager => {
                info!("a machine has left");
                mark_released(&task, &document, &identity).await
            }
        };
        if let Err(error) = left {
            warn!(%error, "the end of a pairing cannot be stored yet; it is tried again at the next connection");
            document.close_session(session::KvCloseCode::Later);
        }
    });
}

/// A machine goes on with a new document that nobody else knows. What it had in the old one that was
/// not deleted, it has in the new one.
pub(crate) async fn renew(kv: &Arc<Kv>, document: &Arc<Document>, before: &Arc<Identity>) -> Result<(), KvError> {
    let identity = kv.new_identity(Standing::Unclaimed);
    let (renewed, before) = (document.clone(), before.clone());
    kv.keeper.ask(|reply| Command::Renew { document: renewed, before, identity, reply }).await??;
    kv.released.notify_one();
    document.close_session(session::KvCloseCode::NotPaired);
    Ok(())
}

async fn mark_released(kv: &Arc<Kv>, document: &Arc<Document>, identity: &Arc<Identity>) -> Result<(), KvError> {
    let Some(peer) = identity.peer() else { return Ok(()) };
    let row = DocumentRow { standing: Standing::Released { peer }, ..identity.row() };
    match kv.keeper.restand(document, identity, kv.identity_again(identity.number, &row)).await {
        // It was released here, or claimed again.
        Err(KvError::NotClaimed) => return Ok(()),
        result => result?,
    }
    kv.machines_changed.send_modify(|changes| *changes += 1);
    Ok(())
}

/// Tells a machine that it was released, for as long as it takes; the row goes when it knows.
pub(crate) fn tell_release(kv: &Arc<Kv>, identity: Arc<Identity>) {
    let Standing::Releasing { peer } = identity.standing else { return };
    let task = kv.clone();
    let span = info_span!("release", peer = %peer.fmt_short());
    kv.tasks.spawn(
        async move {
            let telling = async {
                let mut backoff = Backoff::new();
                loop {
                    let told = match task.dials.in_turn(backoff.is_absent(), dial(&task, peer)).await {
                        Ok(connection) => session::tell_released(&task, &identity, &connection).await,
                        Err(_) => false,
                    };
                    if told {
                        break;
                    }
                    tokio::time::sleep(backoff.next()).await;
                }
                if let Err(error) = task.keeper.rows(vec![Row::Drop { number: identity.number }]).await {
                    warn!(%error, "that a machine knows of its release is not stored; it is told again");
                }
            };
            tokio::select! {
                () = telling => {}
                // The machine was claimed again.
                () = identity.replaced.cancelled() => {}
                () = task.closing.cancelled() => {}
            }
        }
        .instrument(span),
    );
}
