//! One connection: the hellos, the streams that its peer opens, and its end.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use groundswell_core::{
    limits::MAX_REQUEST_BYTES,
    wire::{Extension, Hello, HelloError, PROTOCOL_VERSIONS, VersionMismatch, decode_hello, encode_frame},
};
use iroh::{
    EndpointAddr, TransportAddr,
    endpoint::{Connection, RecvStream, SendStream},
};
use tokio::time::{sleep, timeout};
use tracing::{Instrument, info, info_span, warn};

use super::{Held, Peer, Refused};
use crate::{
    driver::Command,
    frames::FrameReader,
    gate::Place,
    limits::{HELLO_TIMEOUT, UNUSED_AFTER},
    network::CloseCode,
    shared::Shared,
    source::PeerId,
    sync::lock,
    unknown::Share,
};

/// For how long a connection stays beside the one that has taken its place (1 s): a few round trips of the worst line.
const SUPERSEDED_WITHIN: Duration = Duration::from_secs(1);

/// A stream that a peer has opened. What it is for is still to be read.
pub(crate) struct Stream {
    pub(crate) peer: Arc<Peer>,
    /// One for all streams of the connection.
    pub(crate) connection: Arc<Connection>,
    /// The place of the connection. Whoever keeps it has work of a peer that this node may not know.
    pub(crate) place: Arc<Place>,
    /// The stream's share of what peers may ask for at a time that this node does not know.
    pub(crate) share: Option<Share>,
    pub(crate) send: SendStream,
    pub(crate) recv: RecvStream,
}

impl Stream {
    /// Ends the stream with a code: nobody knows what it is for, so no words would be understood.
    pub(crate) fn refuse(mut self, why: CloseCode) {
        // Either half may have ended already.
        let _ = self.send.reset(why.code());
        let _ = self.recv.stop(why.code());
    }
}

/// Takes a connection that a peer has dialled.
pub(crate) fn accept(shared: &Arc<Shared>, connection: Connection, place: Place) {
    let peer = connection.remote_id();
    let held = shared.peers.hold(peer);
    adopt(shared, connection, peer, held, place);
}

/// Runs a connection in a task of its own, to its end. Whatever happens in it, a panic included,
/// ends this one connection.
pub(super) fn adopt(shared: &Arc<Shared>, connection: Connection, dialled_by: PeerId, held: Held, place: Place) {
    let peer = held.0.clone();
    let span = info_span!("connection", peer = %peer.id.fmt_short(), id = connection.stable_id());
    let (shared, task_shared) = (shared.clone(), shared.clone());
    shared.tasks.spawn(
        async move {
            let (shared, place) = (task_shared, Arc::new(place));
            shared.metrics.connections_now.add(1);
            let run = run(shared.clone(), peer.clone(), connection.clone(), dialled_by, held, place.clone());
            let ended = tokio::spawn(run.in_current_span()).await;
            if ended.is_err() {
                warn!("the handler of a connection panicked; that connection ends");
                CloseCode::Violation.close(&connection);
            }
            peer.closed(&connection);
            shared.catalog.changes.note();
            shared.metrics.connections_now.less(1);
            shared.peers.reap(&peer);
        }
        .instrument(span),
    );
}

async fn run(
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    connection: Connection,
    dialled_by: PeerId,
    held: Held,
    place: Arc<Place>,
) {
    let hello = tokio::select! {
        // First what the peer said before it closed the connection.
        biased;
        hello = timeout(HELLO_TIMEOUT, greet(&shared, &connection)) => hello.unwrap_or(Err(Ungreeted::Hello)),
        _ = connection.closed() => return,
        () = shared.closed.cancelled() => return,
    };
    let hello = match hello {
        Ok(hello) => hello,
        Err(Ungreeted::Versions(mismatch)) => {
            lock(&peer.state).refused = Some(Refused::Versions(mismatch));
            if let Some(left_out) = shared.line_of(peer.id) {
                info!(%mismatch, left_out, "the connection is closed");
            }
            let reason = mismatch.for_other_side().to_string();
            connection.close(CloseCode::Version.code(), reason.as_bytes());
            return;
        }
        // A peer that has gone meanwhile has broken no rule.
        Err(Ungreeted::Hello) if connection.close_reason().is_some() => return,
        Err(Ungreeted::Hello) => {
            let code = CloseCode::Hello;
            shared.metrics.violations.add(1);
            if let Some(left_out) = shared.stranger_log.line() {
                warn!(?code, left_out, "the connection is closed");
            }
            return code.close(&connection);
        }
    };
    let Some(before) = peer.greeted(&connection, hello.boot, dialled_by, shared.knows(peer.id)) else {
        return CloseCode::Superseded.close(&connection);
    };
    shared.catalog.changes.note();
    drop(held);
    if let Some(left_out) = shared.line_of(peer.id) {
        info!(left_out, "connected");
    }
    let mut paths = connection.path_events();
    let follow_paths = async {
        while paths.next().await.is_some() {
            let is_chosen = lock(&peer.state).chosen > 0;
            if is_chosen {
                remember(&shared, &peer, &connection).await;
            }
        }
        std::future::pending::<()>().await;
    };
    let supersede = async {
        // Streams on them move to this one meanwhile.
        sleep(SUPERSEDED_WITHIN).await;
        before.iter().for_each(|old| CloseCode::Superseded.close(old));
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = take_streams(&shared, &peer, &connection, &place) => {}
        () = follow_paths => {}
        () = supersede => {}
        () = close_unused(&shared, &peer, &connection, &place) => {}
        () = shared.closed.cancelled() => {}
    }
}

/// Hands the streams that the peer opens to whoever serves them, until the connection ends.
async fn take_streams(shared: &Arc<Shared>, peer: &Arc<Peer>, connection: &Connection, place: &Arc<Place>) {
    let connection = Arc::new(connection.clone());
    loop {
        match connection.accept_bi().await {
            Ok((send, recv)) => {
                let (peer, connection, place) = (peer.clone(), connection.clone(), place.clone());
                (shared.on_stream)(shared, Stream { peer, connection, place, share: None, send, recv });
            }
            Err(error) => {
                if let Some(left_out) = shared.line_of(peer.id) {
                    // A reason is the peer's own words.
                    info!(error = %groundswell_core::Visible(error), left_out, "disconnected");
                }
                return;
            }
        }
    }
}

/// Closes the connection of a peer that this node does not know once neither side wants anything of it. A private node
/// lets such a peer in for a claim or a former document only.
async fn close_unused(shared: &Shared, peer: &Peer, connection: &Connection, place: &Arc<Place>) {
    // The connection's own task has the place too, and this one.
    const UNUSED: usize = 2;
    let (code, after) = match shared.private {
        true => (CloseCode::Private, HELLO_TIMEOUT),
        false => (CloseCode::Unused, UNUSED_AFTER),
    };
    let mut unused = Duration::ZERO;
    while unused < after {
        sleep(HELLO_TIMEOUT).await;
        let is_used = shared.may_know(peer.id) || peer.is_used() || Arc::strong_count(place) > UNUSED;
        unused = if is_used { Duration::ZERO } else { unused + HELLO_TIMEOUT };
    }
    code.close(connection);
}

/// Why a connection has no use.
enum Ungreeted {
    /// The peer has said hello, and speaks no version that this node speaks.
    Versions(VersionMismatch),
    /// It has not said hello, or not as it should.
    Hello,
}

/// Each side says hello on a stream of its own.
async fn greet(shared: &Shared, connection: &Connection) -> Result<Hello, Ungreeted> {
    let mut frame = Vec::new();
    let ours = Hello { versions: PROTOCOL_VERSIONS, boot: shared.boot, extension: Extension::default() };
    encode_frame(&ours, &mut frame).map_err(|_| Ungreeted::Hello)?;
    let say = async {
        let mut stream = connection.open_uni().await.ok()?;
        stream.write_all(&frame).await.ok()?;
        stream.finish().ok()?;
        Some(stream)
    };
    let hear = async {
        let stream = connection.accept_uni().await.ok()?;
        FrameReader::new(stream, MAX_REQUEST_BYTES).next().await.ok()
    };
    let (said, heard) = tokio::join!(say, hear);
    match decode_hello(PROTOCOL_VERSIONS, &heard.ok_or(Ungreeted::Hello)?) {
        // All that follows is the same in every version so far.
        Ok((hello, _version)) if said.is_some() => Ok(hello),
        Ok(_) | Err(HelloError::Malformed(_)) => Err(Ungreeted::Hello),
        Err(HelloError::Versions(mismatch)) => {
            if let Some(said) = said {
                // The peer has to know why: it gets our versions before the connection is closed.
                let _ = said.stopped().await;
            }
            Err(Ungreeted::Versions(mismatch))
        }
    }
}

/// Remembers for good where a peer was reached that this node wants a connection to.
pub(super) async fn remember(shared: &Shared, peer: &Peer, connection: &Connection) {
    remember_addr(shared, &reached_at(peer, connection)).await;
}

/// Remembers addresses of a peer for good, as one that the owner of this node has chosen.
pub(crate) async fn remember_addr(shared: &Shared, addr: &EndpointAddr) {
    let (addr, is_news) = shared.peers.choose(addr);
    // A peer that comes back to where it was costs no transaction.
    if is_news {
        shared.driver.tell(Command::Peer { addr, reply: None }).await;
    }
}

/// Remembers for a while where a follower was reached. Strangers leave nothing.
pub(crate) fn note_follower(shared: &Shared, peer: &Peer, connection: &Connection) {
    shared.followers.note(reached_at(peer, connection));
}

fn reached_at(peer: &Peer, connection: &Connection) -> EndpointAddr {
    let reached: Vec<TransportAddr> = connection.paths().iter().map(|path| path.remote_addr().clone()).collect();
    let addresses = &mut lock(&peer.state).addresses;
    addresses.learn(&EndpointAddr::from_parts(peer.id, reached));
    addresses.of(peer.id)
}
