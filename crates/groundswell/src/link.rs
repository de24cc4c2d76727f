//! Links: one connection for each peer, whatever it carries. Each side may dial; both use the one connection for
//! subscriptions, documents and claims, each on a stream that says its [kind](groundswell_core::wire::StreamKind).
//!
//! A peer that was restarted is known by its boot id: connections of its earlier run are closed, so that nobody waits for them
//! to time out. Where both sides have dialled at once, the connection of the smaller id stays.

mod addresses;
mod backoff;
mod connection;
mod dial;
mod moves;

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use groundswell_core::wire::{BootId, VersionMismatch};
use iroh::{
    EndpointAddr,
    endpoint::{Connection, ConnectionError},
};
use tokio::sync::watch;

use self::addresses::{Addresses, Chosen};
pub(crate) use self::{
    backoff::{Backoff, Dials, jittered},
    connection::{Stream, accept, note_follower, remember_addr},
    dial::{Unreached, Want, announce, connect, renew},
    moves::watch as watch_moves,
};
use crate::{
    Moment,
    limits::{BOTH_DIALLED, FRESH_STREAMS},
    network::{CloseCode, STREAMS, allow_requests, allow_streams, lost_at, widen},
    source::PeerId,
    sync::lock,
    unknown::{Of, Taken, Unknown},
};

/// The number of runs of a peer that are remembered, to know one that comes back.
const REMEMBERED_BOOTS: usize = 16;

/// The state of the connection to a peer.
#[derive(Debug, Clone)]
pub(crate) enum Link {
    /// No attempt is over yet.
    Connecting,
    /// The peer has said hello on this connection.
    Up(Connection),
    /// There has been none since then.
    Down {
        since: Moment,
        /// Set if it answers.
        refused: Option<Refused>,
    },
}

impl Link {
    /// The connection, if it is not closed. The link learns of that in a moment.
    pub(crate) fn connection(&self) -> Option<&Connection> {
        match self {
            Self::Up(connection) if connection.close_reason().is_none() => Some(connection),
            _ => None,
        }
    }
}

/// Why a peer that answers cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It speaks no version that this node speaks.
    Versions(VersionMismatch),
    /// It is private, or knows no pair, and refuses this node.
    NotKnown,
    /// It has no room, has refused all that was asked of it, or asks to be dialled later.
    Later,
}

impl Refused {
    /// The refusal that a peer has expressed by closing a connection.
    fn of(error: &ConnectionError) -> Option<Self> {
        let ConnectionError::ApplicationClosed(close) = error else { return None };
        match CloseCode::of(close.error_code)? {
            CloseCode::Private | CloseCode::NotPaired => Some(Self::NotKnown),
            CloseCode::Crowded | CloseCode::Later | CloseCode::TooManyConnections | CloseCode::Unused => {
                Some(Self::Later)
            }
            _ => None,
        }
    }
}

/// Every peer that this node is connected to, or wants to be.
#[derive(Default)]
pub(crate) struct Peers {
    all: Mutex<HashMap<PeerId, Arc<Peer>>>,
    /// The pools of everything that unknown peers share.
    unknown: Arc<Unknown>,
    /// The addresses of peers that the owner of this node has chosen.
    chosen: Mutex<Chosen>,
}

pub(crate) struct Peer {
    pub(crate) id: PeerId,
    link: watch::Sender<Link>,
    state: Mutex<PeerState>,
    /// Held while the peer is dialled, so that nobody dials it twice at once.
    dialled: tokio::sync::Mutex<()>,
    /// Held by a claim of the peer's that is not admitted yet.
    pub(crate) claiming: Arc<tokio::sync::Mutex<()>>,
    /// This peer's shares of the pools.
    pub(crate) taken: Taken,
    pub(crate) unknown: Arc<Unknown>,
    /// The number of what was sent to this peer last, among everything that was sent.
    sent: AtomicU64,
}

/// A connection on which both have said hello.
struct Greeted {
    connection: Connection,
    boot: BootId,
    dialled_by: PeerId,
    since: Instant,
}

#[derive(Default)]
struct PeerState {
    connections: Vec<Greeted>,
    /// The number of tasks that greet the peer, or tell it that this node is back. It is not forgotten meanwhile.
    held: usize,
    addresses: Addresses,
    /// The reason for which the peer refused this node when it was met last.
    refused: Option<Refused>,
    /// The peer has closed its last connection to make room for others.
    crowded: bool,
    /// The number of wishes for a connection to the peer.
    wants: usize,
    /// The number of those that come from a choice of this node's owner.
    chosen: usize,
    dialling: bool,
    /// The runs of the peer, the newest last.
    boots: VecDeque<BootId>,
    /// A run has come back after another one: two devices have this identity.
    duplicate: bool,
}

impl PeerState {
    /// Notes a run of the peer. One that comes back after another has taken its place is that of a second device with the
    /// same identity, as a copied disk has it.
    fn meet(&mut self, boot: BootId) {
        if self.boots.back() == Some(&boot) {
            return;
        }
        self.duplicate |= self.boots.contains(&boot);
        self.boots.push_back(boot);
        if self.boots.len() > REMEMBERED_BOOTS {
            self.boots.pop_front();
        }
    }
}

impl Peers {
    /// Does something with the state of a peer, new if need be, before it could be forgotten.
    fn with<T>(&self, id: PeerId, act: impl FnOnce(&mut PeerState) -> T) -> (Arc<Peer>, T) {
        let mut peers = lock(&self.all);
        let peer = match peers.entry(id) {
            Entry::Occupied(peer) => peer.get().clone(),
            Entry::Vacant(slot) => {
                let peer = Peer::new(id, self.unknown.clone());
                lock(&peer.state).addresses = lock(&self.chosen).of(id).cloned().unwrap_or_default();
                slot.insert(Arc::new(peer)).clone()
            }
        };
        let result = act(&mut lock(&peer.state));
        (peer, result)
    }

    /// Adds to what is known of a peer's addresses, for as long as the peer is wanted or connected.
    pub(crate) fn learn(&self, addr: &EndpointAddr) {
        self.with(addr.id, |state| state.addresses.learn(addr));
    }

    /// Returns true if there is a way to the peer that needs no look-up.
    pub(crate) fn knows_address(&self, id: PeerId) -> bool {
        let known = lock(&self.all).get(&id).cloned();
        let is_met = known.is_some_and(|peer| {
            let state = lock(&peer.state);
            !state.connections.is_empty() || !state.addresses.is_empty()
        });
        is_met || lock(&self.chosen).of(id).is_some_and(|addresses| !addresses.is_empty())
    }

    /// Notes where a peer was reached that the owner of this node has chosen. Returns all that is known of it, and whether
    /// some of that is news.
    pub(crate) fn choose(&self, addr: &EndpointAddr) -> (EndpointAddr, bool) {
        let mut chosen = lock(&self.chosen);
        let is_news = chosen.add(addr);
        let all = chosen.of(addr.id).map(|addresses| addresses.of(addr.id));
        (all.unwrap_or_else(|| addr.clone()), is_news)
    }

    /// Notes that somebody else has come from there.
    pub(crate) fn is_mistaken(&self, at: SocketAddr) {
        lock(&self.chosen).forget(at);
    }

    /// The chosen peer that was reached there last. It may not be chosen any more.
    pub(crate) fn chosen_at(&self, at: SocketAddr) -> Option<PeerId> {
        lock(&self.chosen).at(at)
    }

    /// Returns true if this node follows the peer, or shares a document with it.
    pub(crate) fn chooses(&self, id: PeerId) -> bool {
        lock(&self.all).get(&id).is_some_and(|peer| lock(&peer.state).chosen > 0)
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

    /// The one of these that was sent nothing for longest.
    pub(crate) fn idlest(&self, among: &[PeerId]) -> Option<PeerId> {
        let peers = lock(&self.all);
        let sent = |id: &&PeerId| peers.get(*id).map_or(0, |peer| peer.sent.load(Ordering::Relaxed));
        among.iter().min_by_key(sent).copied()
    }

    /// Closes every connection.
    pub(crate) fn close_all(&self) {
        for peer in lock(&self.all).values() {
            for greeted in &lock(&peer.state).connections {
                CloseCode::ShutDown.close(&greeted.connection);
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
            dialled: tokio::sync::Mutex::default(),
            claiming: Arc::default(),
            taken: Taken::default(),
            unknown,
            sent: AtomicU64::new(0),
        }
    }

    /// Notes that something was sent to it just now.
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

    fn connection(&self) -> Option<Connection> {
        self.link.borrow().connection().cloned()
    }

    /// Returns true if somebody here wants the connection, or the peer reads or waits for something.
    fn is_used(&self) -> bool {
        let reads = self.taken.of(Of::Served) + self.taken.of(Of::Parked) > 0;
        reads || lock(&self.state).wants > 0
    }

    /// Returns true if two devices have this identity.
    pub(crate) fn is_duplicate(&self) -> bool {
        lock(&self.state).duplicate
    }

    /// Makes a connection whose peer has said hello the peer's link. Those of an earlier run of the peer are closed. Returns those
    /// of this run, which have to be closed too: one of the two has found them dead, or has moved. `None` where both sides have
    /// dialled at once and another connection stays.
    fn greeted(
        &self,
        connection: &Connection,
        boot: BootId,
        dialled_by: PeerId,
        known: bool,
    ) -> Option<Vec<Connection>> {
        let mut state = lock(&self.state);
        state.meet(boot);
        let stays = |old: &Greeted| {
            old.boot == boot
                && old.since.elapsed() < BOTH_DIALLED
                && old.connection.close_reason().is_none()
                && old.dialled_by < dialled_by
        };
        if state.connections.iter().any(stays) {
            return None;
        }
        let mut before = Vec::new();
        for old in &state.connections {
            // Of two that the peer has dialled at about the same time, it is the peer that knows which it means.
            let by_peer = old.dialled_by == self.id && dialled_by == self.id && old.since.elapsed() < BOTH_DIALLED;
            if old.boot != boot {
                CloseCode::Superseded.close(&old.connection);
            } else if !by_peer {
                before.push(old.connection.clone());
            }
        }
        let is_chosen = state.chosen > 0;
        allow_streams(connection, if known || is_chosen { STREAMS } else { FRESH_STREAMS });
        if is_chosen {
            widen(connection)
        } else {
            allow_requests(connection)
        }
        state.connections.push(Greeted { connection: connection.clone(), boot, dialled_by, since: Instant::now() });
        state.refused = None;
        self.link.send_replace(Link::Up(connection.clone()));
        Some(before)
    }

    /// Notes that a connection is closed. The newest other one is the link, if there is any.
    fn closed(&self, connection: &Connection) {
        let mut state = lock(&self.state);
        state.connections.retain(|other| other.connection.stable_id() != connection.stable_id());
        let reason = connection.close_reason();
        state.crowded = reason.as_ref().is_some_and(|error| CloseCode::Crowded.is(error));
        state.refused = reason.as_ref().and_then(Refused::of).or(state.refused);
        let newest = state.connections.iter().rev().find(|other| other.connection.close_reason().is_none());
        let up = newest.map(|other| Link::Up(other.connection.clone()));
        let refused = state.refused;
        self.link.send_modify(|link| {
            *link = up.unwrap_or_else(|| {
                // A peer that turns this node away again and again is away since the first time.
                let since = if let Link::Down { since, .. } = link { *since } else { lost_at(connection) };
                Link::Down { since, refused }
            });
        });
    }

    /// Notes that no connection could be made.
    fn unreachable(&self) {
        let refused = lock(&self.state).refused;
        self.link.send_if_modified(|link| match link {
            Link::Down { refused: before, .. } if *before == refused => false,
            Link::Connecting => {
                *link = Link::Down { since: Moment::now(), refused };
                true
            }
            Link::Down { refused: before, .. } => {
                *before = refused;
                true
            }
            Link::Up(_) => false,
        });
    }
}

/// Keeps a peer from being forgotten.
struct Held(Arc<Peer>);

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.0.state).held -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_run_that_comes_back_after_another_is_of_a_second_device() {
        let mut state = PeerState::default();
        let boot = |n| BootId([n; 16]);
        for n in [1, 1, 2, 3, 3] {
            state.meet(boot(n));
        }
        assert!(!state.duplicate, "it was restarted");
        state.meet(boot(1));
        assert!(state.duplicate);
        (0..=255).for_each(|n| state.meet(boot(n)));
        assert_eq!(state.boots.len(), REMEMBERED_BOOTS);
    }
}
