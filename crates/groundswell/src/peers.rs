//! Connections: one registry of peers, and for each peer that is followed one task that keeps
//! a connection to it for as long as it is wanted.
//!
//! A connection serves both ways, whoever dialled it. A peer that was restarted is known by its
//! boot id: connections of its earlier run are closed, so that no one waits for them to time out.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use groundswell_core::{
    limits::MAX_REQUEST_BYTES,
    wire::{BootId, Extension, Hello, HelloError, PROTOCOL_VERSIONS, VersionMismatch, decode_hello, encode_frame},
};
use iroh::{EndpointAddr, TransportAddr, endpoint::Connection};
use tokio::{sync::watch, time::timeout};
use tracing::{Instrument, debug, info, info_span, warn};

use crate::{
    Moment,
    dialling::Backoff,
    driver::Command,
    frames::FrameReader,
    gate::{Gate, Place},
    limits::{
        BACKOFF_LAST, BOTH_DIALLED, DIAL_TIMEOUT, FRESH_STREAMS, HELLO_TIMEOUT, MAX_ADDRESSES_OF_PEER,
        MAX_REMEMBERED_PEERS,
    },
    moves::{NEXT_TRY, TRIED_FOR},
    network::{self, CloseCode, STREAMS, allow_requests, allow_streams, is_crowded, lost_at, widen},
    serve,
    shared::Shared,
    source::PeerId,
    sync::lock,
    unknown::{Of, Taken, Unknown},
};

/// How old a connection has to be here before it is replaced: at the other side, which may have greeted it a little later,
/// it is not to be taken for one that was dialled by both.
const REPLACEABLE_AFTER: Duration = BOTH_DIALLED.saturating_add(Duration::from_millis(500));

/// A connection that the other side closes to make room after so long was no stranger there: see [`crate::gate`].
const CROWDED_AFTER: Duration = HELLO_TIMEOUT;

/// Whether a peer can be reached right now.
#[derive(Debug, Clone)]
pub(crate) enum Link {
    /// Not yet known.
    Connecting,
    /// Through this connection.
    Up(Connection),
    /// Not since then.
    Down {
        since: Moment,
        /// It answers, and speaks no version that this node speaks.
        versions: Option<VersionMismatch>,
    },
}

/// Every peer that this node is connected to, or wants to be.
#[derive(Default)]
pub(crate) struct Peers {
    all: Mutex<HashMap<PeerId, Arc<Peer>>>,
    /// What those may have together that the node does not know.
    unknown: Arc<Unknown>,
    /// Where peers were reached that the owner of this node has chosen.
    chosen: Mutex<Chosen>,
}

pub(crate) struct Peer {
    pub(crate) id: PeerId,
    link: watch::Sender<Link>,
    state: Mutex<PeerState>,
    /// What this peer has here, and what all have of which it is a part.
    pub(crate) taken: Taken,
    pub(crate) unknown: Arc<Unknown>,
    /// Which of all that was sent came to this peer last.
    sent: AtomicU64,
}

/// Where chosen peers were reached: a few addresses of each.
#[derive(Default)]
struct Chosen {
    peers: HashMap<SocketAddr, PeerId>,
    /// The newest last.
    addresses: HashMap<PeerId, VecDeque<SocketAddr>>,
}

impl Chosen {
    fn forget(&mut self, at: SocketAddr) {
        if let Some(peer) = self.peers.remove(&at)
            && let Some(others) = self.addresses.get_mut(&peer)
        {
            others.retain(|other| *other != at);
        }
    }

    fn add(&mut self, peer: PeerId, at: SocketAddr) {
        self.forget(at);
        self.peers.insert(at, peer);
        if self.addresses.len() >= MAX_REMEMBERED_PEERS && !self.addresses.contains_key(&peer) {
            // Some peer makes room. It is met as a newcomer next, and is noted again then.
            let other = self.addresses.keys().next().copied();
            let others = other.and_then(|other| self.addresses.remove(&other)).unwrap_or_default();
            for at in others {
                self.peers.remove(&at);
            }
        }
        let addresses = self.addresses.entry(peer).or_default();
        addresses.push_back(at);
        if addresses.len() > MAX_ADDRESSES_OF_PEER
            && let Some(oldest) = addresses.pop_front()
        {
            self.peers.remove(&oldest);
        }
    }
}

/// A connection on which both have said hello.
struct Greeted {
    connection: Connection,
    boot: BootId,
    since: Instant,
}

#[derive(Default)]
struct PeerState {
    connections: Vec<Greeted>,
    /// How many tasks greet the peer, or tell it that this node is back: it is not forgotten meanwhile.
    held: usize,
    addr: Option<EndpointAddr>,
    /// The peer was met last with no common version.
    versions: Option<VersionMismatch>,
    /// The peer has closed its last connection to make room for others.
    crowded: bool,
    wants: usize,
    dialling: bool,
}

impl PeerState {
    /// Adds to what is known of the peer's addresses, the newest first.
    fn learn(&mut self, addr: &EndpointAddr) -> EndpointAddr {
        let mut merged: Vec<TransportAddr> = Vec::new();
        let known = self.addr.take();
        for one in addr.addrs.iter().chain(known.iter().flat_map(|known| &known.addrs)) {
            if !merged.contains(one) && merged.len() < MAX_ADDRESSES_OF_PEER {
                merged.push(one.clone());
            }
        }
        let merged = EndpointAddr::from_parts(addr.id, merged);
        self.addr = Some(merged.clone());
        merged
    }
}

impl Peers {
    /// Does something with the state of a peer, new if need be, before it could be forgotten.
    fn with<T>(&self, id: PeerId, act: impl FnOnce(&mut PeerState) -> T) -> (Arc<Peer>, T) {
        let mut peers = lock(&self.all);
        let peer = match peers.entry(id) {
            Entry::Occupied(peer) => peer.get().clone(),
            Entry::Vacant(slot) => slot.insert(Arc::new(Peer::new(id, self.unknown.clone()))).clone(),
        };
        let result = act(&mut lock(&peer.state));
        (peer, result)
    }

    /// Adds to what is known of a peer's addresses, and returns all of it.
    pub(crate) fn learn(&self, addr: &EndpointAddr) -> EndpointAddr {
        self.with(addr.id, |state| state.learn(addr)).1
    }

    /// Whether there is a way to the peer that needs no look-up.
    pub(crate) fn knows_address(&self, id: PeerId) -> bool {
        lock(&self.all).get(&id).is_some_and(|peer| {
            let state = lock(&peer.state);
            !state.connections.is_empty() || state.addr.as_ref().is_some_and(|addr| !addr.is_empty())
        })
    }

    /// Notes where a peer was reached that the owner of this node has chosen.
    pub(crate) fn choose(&self, addr: &EndpointAddr) {
        let mut chosen = lock(&self.chosen);
        addr.ip_addrs().for_each(|at| chosen.add(addr.id, *at));
    }

    /// Somebody else has come from there.
    pub(crate) fn is_mistaken(&self, at: SocketAddr) {
        lock(&self.chosen).forget(at);
    }

    /// Which chosen peer was reached there last. It may not be chosen any more.
    pub(crate) fn chosen_at(&self, at: SocketAddr) -> Option<PeerId> {
        lock(&self.chosen).peers.get(&at).copied()
    }

    /// Whether this node follows the peer.
    pub(crate) fn wants(&self, id: PeerId) -> bool {
        lock(&self.all).get(&id).is_some_and(|peer| lock(&peer.state).wants > 0)
    }

    /// Keeps a peer from being forgotten, until what this returns is dropped.
    fn hold(&self, id: PeerId) -> Held {
        Held(self.with(id, |state| state.held += 1).0)
    }

    /// Forgets a peer that no one wants and that is not connected.
    fn reap(&self, peer: &Arc<Peer>) {
        let mut peers = lock(&self.all);
        let state = lock(&peer.state);
        let idle = state.wants == 0 && !state.dialling && state.connections.is_empty() && state.held == 0;
        if idle && peers.get(&peer.id).is_some_and(|known| Arc::ptr_eq(known, peer)) {
            peers.remove(&peer.id);
        }
    }

    /// The peers that are connected now.
    pub(crate) fn connected(&self) -> Vec<PeerId> {
        let peers = lock(&self.all);
        let up = peers.values().filter(|peer| matches!(*peer.link.borrow(), Link::Up(_)));
        up.map(|peer| peer.id).collect()
    }

    /// Which of these was sent nothing for longest.
    pub(crate) fn idlest(&self, among: &[PeerId]) -> Option<PeerId> {
        let peers = lock(&self.all);
        let sent = |id: &&PeerId| peers.get(*id).map_or(0, |peer| peer.sent.load(Ordering::Relaxed));
        among.iter().min_by_key(sent).copied()
    }

    /// Closes every connection.
    pub(crate) fn close_all(&self) {
        for peer in lock(&self.all).values() {
            for greeted in &lock(&peer.state).connections {
                greeted.connection.close(CloseCode::ShutDown.code(), CloseCode::ShutDown.reason().as_bytes());
            }
        }
    }
}

impl Peer {
    pub(crate) fn new(id: PeerId, unknown: Arc<Unknown>) -> Self {
        Self {
            id,
            link: watch::Sender::new(Link::Connecting),
            state: Mutex::default(),
            taken: Taken::default(),
            unknown,
            sent: AtomicU64::new(0),
        }
    }

    /// Something was sent to it just now.
    pub(crate) fn note_sent(&self) {
        self.sent.store(self.unknown.next_sent(), Ordering::Relaxed);
    }

    /// Lets the peer, which this node may not know, open as many streams as ever beside those that have a place.
    pub(crate) fn allow_more(&self, connection: &Connection) {
        let placed = self.taken.of(Of::Served) + self.taken.of(Of::Parked);
        // A quarter more, since the peer is told only once an eighth of all is news.
        allow_streams(connection, FRESH_STREAMS + placed + placed / 4);
    }

    pub(crate) fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    /// A connection has said hello: it is the peer's link from now on. Those of an earlier run of the peer are closed,
    /// and those that it was not dialled beside: one of the two has found them dead.
    fn greeted(&self, connection: &Connection, boot: BootId, known: bool) {
        let mut state = lock(&self.state);
        for old in state.connections.iter().filter(|old| old.boot != boot || old.since.elapsed() > BOTH_DIALLED) {
            old.connection.close(CloseCode::Superseded.code(), CloseCode::Superseded.reason().as_bytes());
        }
        allow_streams(connection, if known { STREAMS } else { FRESH_STREAMS });
        match state.wants {
            0 => allow_requests(connection),
            _ => widen(connection),
        }
        state.connections.push(Greeted { connection: connection.clone(), boot, since: Instant::now() });
        state.versions = None;
        self.link.send_replace(Link::Up(connection.clone()));
    }

    /// A connection is closed: the newest other one is the link, if there is any.
    fn closed(&self, connection: &Connection) {
        let mut state = lock(&self.state);
        state.connections.retain(|other| other.connection.stable_id() != connection.stable_id());
        state.crowded = is_crowded(connection);
        let newest = state.connections.iter().rev().find(|other| other.connection.close_reason().is_none());
        let link = newest.map_or_else(
            || Link::Down { since: lost_at(connection), versions: state.versions },
            |other| Link::Up(other.connection.clone()),
        );
        self.link.send_replace(link);
    }

    /// No connection could be made.
    fn unreachable(&self) {
        let versions = lock(&self.state).versions;
        self.link.send_if_modified(|link| match link {
            Link::Down { versions: before, .. } if *before == versions => false,
            Link::Connecting => {
                *link = Link::Down { since: Moment::now(), versions };
                true
            }
            Link::Down { versions: before, .. } => {
                *before = versions;
                true
            }
            Link::Up(_) => false,
        });
    }
}

/// A wish for a connection to a peer, until it is dropped.
pub(crate) struct Want {
    shared: Arc<Shared>,
    pub(crate) peer: Arc<Peer>,
}

impl Want {
    pub(crate) fn new(shared: &Arc<Shared>, id: PeerId) -> Self {
        let (peer, dialling) = shared.peers.with(id, |state| {
            state.wants += 1;
            state.connections.iter().for_each(|greeted| widen(&greeted.connection));
            std::mem::replace(&mut state.dialling, true)
        });
        if !dialling {
            let span = info_span!("dial", peer = %id.fmt_short());
            let dialling = keep_connected(shared.clone(), peer.clone()).instrument(span);
            shared.tasks.spawn(dialling);
        }
        Self { shared: shared.clone(), peer }
    }
}

impl Drop for Want {
    fn drop(&mut self) {
        lock(&self.peer.state).wants -= 1;
        // The task that keeps the connection looks at the wish when its link changes or its wait is over.
        self.peer.link.send_modify(|_| {});
        self.shared.peers.reap(&self.peer);
    }
}

/// Dials a peer whenever there is no connection to it, until no one wants one.
async fn keep_connected(shared: Arc<Shared>, peer: Arc<Peer>) {
    let mut link = peer.link();
    let mut moves = shared.moves.subscribe();
    let mut backoff = Backoff::new(BACKOFF_LAST);
    loop {
        {
            let mut state = lock(&peer.state);
            if state.wants == 0 || shared.closing.is_cancelled() {
                state.dialling = false;
                break;
            }
        }
        let up = match &*link.borrow_and_update() {
            Link::Up(_) => true,
            Link::Connecting | Link::Down { .. } => false,
        };
        if up {
            tokio::select! {
                _ = link.changed() => {}
                () = shared.closing.cancelled() => {}
            }
            // It is away only since then.
            backoff = Backoff::new(BACKOFF_LAST);
            continue;
        }
        let begun = Instant::now();
        let dialled = tokio::select! {
            dialled = dial(&shared, &peer, backoff.is_absent()) => dialled,
            // The peer may come to us first.
            () = until_up(&mut link) => Ok(()),
            () = shared.closing.cancelled() => continue,
        };
        match dialled {
            Ok(()) => {
                // Connected: wait until that is over. A link that does not hold is not dialled at once.
                tokio::select! {
                    () = until_down(&mut link, &peer) => {}
                    () = shared.closing.cancelled() => {}
                }
                backoff.connected(begun.elapsed());
                // It has given the place to another: asked for at once, it would take that of a third.
                if begun.elapsed() > CROWDED_AFTER && std::mem::take(&mut lock(&peer.state).crowded) {
                    backoff.crowded();
                }
            }
            Err(error) => {
                debug!(%error, "the peer cannot be reached");
                peer.unreachable();
            }
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next()) => {}
            () = until_up(&mut link) => {}
            // This node has moved: the peer may be in reach from here.
            Ok(()) = moves.changed() => backoff = Backoff::new(BACKOFF_LAST),
            () = shared.closing.cancelled() => {}
        }
    }
    shared.peers.reap(&peer);
}

async fn until_up(link: &mut watch::Receiver<Link>) {
    // The sender lives in the peer, which the caller holds.
    let _ = link.wait_for(|link| matches!(link, Link::Up(_))).await;
}

async fn until_down(link: &mut watch::Receiver<Link>, peer: &Peer) {
    loop {
        // The link is let go of before the state is locked: who changes the link holds the state.
        let up = matches!(*link.borrow_and_update(), Link::Up(_));
        if !up || lock(&peer.state).wants == 0 || link.changed().await.is_err() {
            return;
        }
    }
}

/// Between half the wait and the whole of it, so that peers which lost one node do not all
/// come back in the same moment.
pub(crate) fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(0.5 + rand::random::<f64>() / 2.0)
}

/// Dials a peer in its turn, and waits until the two have said hello.
async fn dial(shared: &Arc<Shared>, peer: &Arc<Peer>, absent: bool) -> Result<(), String> {
    shared.dials.in_turn(absent, greet_at_known(shared, peer)).await
}

async fn greet_at_known(shared: &Arc<Shared>, peer: &Arc<Peer>) -> Result<(), String> {
    let addr = lock(&peer.state).addr.clone().unwrap_or_else(|| EndpointAddr::new(peer.id));
    let known = shared.knows(peer.id);
    // Both are given back if this future is dropped while it dials.
    let place = known.then(|| Gate::dials(shared, peer.id)).transpose().map_err(CloseCode::reason)?;
    let held = shared.peers.hold(peer.id);
    let Some(endpoint) = shared.endpoint() else { return Err("the node is shut down".to_owned()) };
    let connected = timeout(DIAL_TIMEOUT, network::connect(&endpoint, addr, known)).await;
    // What it spoke when it was met says nothing about a peer that is not there.
    lock(&peer.state).versions = None;
    let connection = connected.map_err(|_| "no answer".to_owned())??;
    let place = match place {
        Some(place) => place,
        None => Gate::has_dialled(shared, &connection).map_err(|code| {
            connection.close(code.code(), code.reason().as_bytes());
            code.reason()
        })?,
    };
    let mut link = peer.link();
    link.mark_unchanged();
    adopt(shared, connection.clone(), held, place);
    // Adopted means greeted, or closed.
    tokio::select! {
        () = until_up(&mut link) => Ok(()),
        error = connection.closed() => Err(groundswell_core::Visible(error).to_string()),
    }
}

/// Makes the connections to all peers anew, each in a task of its own, after an address of this node is gone.
pub(crate) fn connect_anew(shared: &Arc<Shared>) {
    let peers: Vec<Arc<Peer>> = lock(&shared.peers.all).values().cloned().collect();
    for peer in peers {
        let task = shared.clone();
        shared.tasks.spawn(async move {
            tokio::select! {
                () = replace_link(&task, &peer) => {}
                () = task.closing.cancelled() => {}
            }
        });
    }
}

/// Dials a peer beside the connection that there is, until another is its link.
async fn replace_link(shared: &Arc<Shared>, peer: &Arc<Peer>) {
    let mut link = peer.link();
    let Link::Up(old) = link.borrow_and_update().clone() else { return };
    let is_old = |link: &Link| matches!(link, Link::Up(now) if now.stable_id() == old.stable_id());
    let of_old = |greeted: &&Greeted| greeted.connection.stable_id() == old.stable_id();
    let Some(since) = lock(&peer.state).connections.iter().find(of_old).map(|greeted| greeted.since) else { return };
    tokio::time::sleep_until((since + REPLACEABLE_AFTER).into()).await;
    let begun = Instant::now();
    while begun.elapsed() < TRIED_FOR && is_old(&link.borrow_and_update()) {
        tokio::select! {
            // It may have to wait for its turn.
            _ = link.wait_for(|link| !is_old(link)) => return,
            dialled = dial(shared, peer, false) => if let Err(error) = dialled {
                debug!(error, "the connection cannot be made anew yet");
            },
        }
        tokio::select! {
            _ = link.wait_for(|link| !is_old(link)) => return,
            () = tokio::time::sleep(jittered(NEXT_TRY)) => {}
        }
    }
}

/// Tells a peer of an earlier run that this node is back: it need not wait for its own dialling.
pub(crate) async fn announce(shared: Arc<Shared>, addr: EndpointAddr) {
    let held = shared.peers.hold(addr.id);
    let peer = held.0.clone();
    lock(&peer.state).learn(&addr);
    let mut link = peer.link();
    let up = matches!(*link.borrow(), Link::Up(_));
    if !up {
        let told = tokio::select! {
            // It may be off for long, and those that this node follows are not to wait for it.
            told = dial(&shared, &peer, true) => told,
            () = until_up(&mut link) => Ok(()),
            () = shared.closing.cancelled() => Ok(()),
        };
        if let Err(error) = told {
            debug!(peer = %addr.id.fmt_short(), %error, "a peer of an earlier run is not there");
        }
    }
    drop(held);
    shared.peers.reap(&peer);
}

/// Takes a connection that a peer has dialled.
pub(crate) fn accept(shared: &Arc<Shared>, connection: Connection, place: Place) {
    let held = shared.peers.hold(connection.remote_id());
    adopt(shared, connection, held, place);
}

/// Runs a connection in a task of its own, to its end. Whatever happens in it, a panic included,
/// ends this one connection.
fn adopt(shared: &Arc<Shared>, connection: Connection, held: Held, place: Place) {
    let peer = held.0.clone();
    let span = info_span!("connection", peer = %peer.id.fmt_short(), id = connection.stable_id());
    let (shared, task_shared) = (shared.clone(), shared.clone());
    shared.tasks.spawn(
        async move {
            let (shared, _place) = (task_shared, place);
            shared.metrics.connections_now.add(1);
            let run = tokio::spawn(run(shared.clone(), peer.clone(), connection.clone(), held).in_current_span());
            let ended = run.await;
            if ended.is_err() {
                warn!("the handler of a connection panicked; that connection ends");
                connection.close(CloseCode::Violation.code(), CloseCode::Violation.reason().as_bytes());
            }
            peer.closed(&connection);
            shared.catalog.changes.note();
            shared.metrics.connections_now.less(1);
            shared.peers.reap(&peer);
        }
        .instrument(span),
    );
}

async fn run(shared: Arc<Shared>, peer: Arc<Peer>, connection: Connection, held: Held) {
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
            lock(&peer.state).versions = Some(mismatch);
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
            connection.close(code.code(), code.reason().as_bytes());
            return;
        }
    };
    peer.greeted(&connection, hello.boot, shared.knows(peer.id));
    shared.catalog.changes.note();
    drop(held);
    if let Some(left_out) = shared.line_of(peer.id) {
        info!(left_out, "connected");
    }
    let wanted = lock(&peer.state).wants > 0;
    if wanted {
        remember(&shared, &peer, &connection).await;
    }
    // One for all its streams.
    let connection = Arc::new(connection);
    loop {
        tokio::select! {
            stream = connection.accept_bi() => match stream {
                Ok((send, recv)) => serve::spawn(&shared, &peer, &connection, send, recv),
                Err(error) => {
                    if let Some(left_out) = shared.line_of(peer.id) {
                        // A reason is the peer's own words.
                        info!(error = %groundswell_core::Visible(error), left_out, "disconnected");
                    }
                    return;
                }
            },
            () = shared.closed.cancelled() => return,
        }
    }
}

/// Keeps a peer from being forgotten.
struct Held(Arc<Peer>);

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.0.state).held -= 1;
    }
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

/// Remembers for good where a peer was reached that this node follows.
async fn remember(shared: &Shared, peer: &Peer, connection: &Connection) {
    let addr = reached_at(peer, connection);
    shared.peers.choose(&addr);
    shared.driver.tell(Command::Peer { addr, reply: None }).await;
}

/// Remembers for a while where a follower was reached. Strangers leave nothing.
pub(crate) fn note_follower(shared: &Shared, peer: &Peer, connection: &Connection) {
    shared.followers.note(reached_at(peer, connection));
}

fn reached_at(peer: &Peer, connection: &Connection) -> EndpointAddr {
    let reached: Vec<TransportAddr> = connection.paths().iter().map(|path| path.remote_addr().clone()).collect();
    lock(&peer.state).learn(&EndpointAddr::from_parts(peer.id, reached))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Subscriptions resume with jittered backoff: each wait is at most what it is to be and at
    /// least half of that, and peers that lost one node together do not come back together.
    #[test]
    fn waits_are_jittered() {
        let waits: Vec<Duration> = (0..1_000).map(|_| jittered(Duration::from_secs(8))).collect();
        let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
        assert!(*least >= Duration::from_secs(4) && *most <= Duration::from_secs(8), "{least:?} to {most:?}");
        assert!(*most - *least > Duration::from_secs(3), "spread over the whole of it: {least:?} to {most:?}");
    }

    #[test]
    fn a_few_addresses_of_each_chosen_peer_are_known_the_newest_of_them() {
        let peers = Peers::default();
        let [one, two] = [1, 2].map(|n| iroh::SecretKey::from_bytes(&[n; 32]).public());
        let at = |port: u16| SocketAddr::from(([192, 0, 2, 1], port));
        let choose = |peer, port| peers.choose(&EndpointAddr::new(peer).with_ip_addr(at(port)));
        (1..=100).for_each(|port| choose(one, port));
        let known = (1..=100).filter(|port| peers.chosen_at(at(*port)) == Some(one)).count();
        assert_eq!((known, peers.chosen_at(at(100))), (MAX_ADDRESSES_OF_PEER, Some(one)));
        choose(two, 100);
        choose(one, 99);
        assert_eq!((peers.chosen_at(at(100)), peers.chosen_at(at(99))), (Some(two), Some(one)));
        (200..=300).for_each(|port| choose(one, port));
        assert_eq!(peers.chosen_at(at(100)), Some(two), "another peer has it now");
    }

    #[test]
    fn the_idlest_is_the_one_that_was_sent_nothing_for_longest() {
        let peers = Peers::default();
        let ids = [1, 2, 3].map(|n| iroh::SecretKey::from_bytes(&[n; 32]).public());
        let held = ids.map(|id| peers.hold(id));
        held.iter().for_each(|held| held.0.note_sent());
        held[0].0.note_sent();
        assert_eq!(
            (peers.idlest(&ids), peers.idlest(&ids[..1]), peers.idlest(&[])),
            (Some(ids[1]), Some(ids[0]), None)
        );
        held[1].0.note_sent();
        assert_eq!(peers.idlest(&ids), Some(ids[2]));
    }
}
