//! One supervisor for each document: it keeps a session with the other side for as long as the two are paired and connected,
//! and says in the status what it knows. The connection itself is the [link's](crate::link) business.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use groundswell_core::kv::KvAuthor;
use iroh::endpoint::Connection;
use tokio::time::sleep;
use tracing::{Instrument, info_span};

use super::{
    Kv, delivery,
    document::{Document, Identity},
    session::{self, Active, End},
};
use crate::{
    Moment,
    limits::KV_OPENED_WITHIN,
    link::{Backoff, Link, Refused, Want},
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
                () = delivery::follow(&document) => {}
                () = task.closed.cancelled() => {}
            }
        }
        .instrument(span),
    );
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
            () = keep_in_session(kv, document, &identity, peer) => {}
            () = identity.replaced.cancelled() => {}
        }
    }
}

/// Has a session whenever there is a connection, on the newest one. The manager opens it; a machine does where it has waited for
/// that in vain.
async fn keep_in_session(kv: &Arc<Kv>, document: &Arc<Document>, identity: &Arc<Identity>, peer: PeerId) {
    let want = Want::new(&kv.shared, peer);
    let (mut link, mut session) = (want.peer.link(), document.session.subscribe());
    let patience = if document.ours == KvAuthor::Machine { KV_OPENED_WITHIN } else { Duration::ZERO };
    let (mut backoff, mut pause, mut on) = (Backoff::new(), patience, None);
    while !kv.closing.is_cancelled() {
        let now = link.borrow_and_update().clone();
        let Some(connection) = now.connection().cloned() else {
            note(document, &now);
            tokio::select! {
                _ = link.changed() => {}
                () = kv.closing.cancelled() => {}
            }
            continue;
        };
        let this = connection.stable_id();
        if on.replace(this) != Some(this) {
            (backoff, pause) = (Backoff::new(), patience);
        }
        let is_here = |now: &Option<Arc<Active>>| now.as_ref().is_some_and(|active| active.connection == this);
        if is_here(&session.borrow_and_update()) {
            let begun = Instant::now();
            tokio::select! {
                _ = session.wait_for(|now| !is_here(now)) => backoff.connected(begun.elapsed()),
                () = until_another(&mut link, &connection) => continue,
                () = kv.closing.cancelled() => continue,
            }
            // The side that could not go on waits for as long as the one that has opened it.
            pause = patience + backoff.next();
        }
        tokio::select! {
            () = sleep(std::mem::replace(&mut pause, patience)) => {}
            _ = session.wait_for(is_here) => continue,
            () = until_another(&mut link, &connection) => continue,
            () = kv.closing.cancelled() => continue,
        }
        // The other side may open one meanwhile: the place of the document decides which of the two stays.
        let opened = tokio::select! {
            opened = session::open(kv, document, identity, &connection) => opened,
            error = connection.closed() => Err(session::lost(error)),
            () = kv.closing.cancelled() => continue,
        };
        let begun = Instant::now();
        let end = match opened {
            Ok(opened) => {
                let (task, document, identity, peer) =
                    (kv.clone(), document.clone(), identity.clone(), want.peer.clone());
                let (on, ours) = (connection.clone(), document.ours);
                let run = async move { session::run(&task, &document, &identity, &peer, &on, opened, ours).await };
                let end = tokio::select! {
                    end = kv.tasks.spawn(run.in_current_span()) => end.unwrap_or(End::Lost),
                    // It goes on until one on the new connection has taken its place.
                    () = until_another(&mut link, &connection) => continue,
                };
                backoff.connected(begun.elapsed());
                end
            }
            Err(end) => end,
        };
        backoff.answered(matches!(end, End::NotKnown | End::Full(_)));
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
        pause = patience + backoff.next();
    }
    // A session that goes on until the goodbye is said is ended by who shuts down.
    let _ = session.wait_for(Option::is_none).await;
}

/// Waits until the peer is reached by another connection, or by none.
async fn until_another(link: &mut tokio::sync::watch::Receiver<Link>, connection: &Connection) {
    let this = connection.stable_id();
    // The sender lives in the peer, which the caller holds.
    let _ = link.wait_for(|link| !matches!(link, Link::Up(now) if now.stable_id() == this)).await;
}

/// Says in the status why there is no connection.
fn note(document: &Document, link: &Link) {
    let Link::Down { since, refused } = link else { return };
    document.status.send_if_modified(|status| {
        let before = status.clone();
        match refused {
            // A private node does not know this pair either.
            Some(Refused::NotKnown) => status.is_not_known(Moment::now()),
            _ => status.went_offline(*since),
        }
        if let Some(Refused::Versions(mismatch)) = refused {
            status.hindered_by(&End::Refused(mismatch.to_string()));
        }
        *status != before
    });
}
