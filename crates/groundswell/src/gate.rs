//! The gate: every connection that reaches this node passes here, whichever of its protocols it speaks.
//!
//! Identities cost nothing, so that a limit for each peer bounds nothing. What bounds the node are places, and there are
//! three kinds of them: for strangers, for followers, and for the peers that this node knows by its owner's choice. A
//! newcomer may take the place of the oldest stranger, and of nobody else. Until its peer has said hello, a
//! connection has a small window and few streams ([`crate::network`]); all of it together is a constant.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use iroh::{
    Endpoint,
    endpoint::{Accepting, Connection, Incoming, WeakConnectionHandle},
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::{
    kv::{CLAIM_ALPN, KV_ALPN, KvCloseCode},
    limits::{
        HELLO_TIMEOUT, MAX_CONNECTIONS_OF_PEER, MAX_FOLLOWERS, MAX_HALF_OPEN, MAX_KNOWN, MAX_STRANGERS, VALIDATE_ABOVE,
    },
    network::{ALPN, CloseCode},
    peers,
    shared::Shared,
    source::PeerId,
    sync::lock,
};

/// What a peer is to this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// Nothing was served to it yet.
    Stranger,
    /// It reads something here.
    Follower,
    /// The owner of this node has chosen it: see [`Shared::knows`].
    Known,
}

/// The places of a node, and who has them.
#[derive(Default)]
pub(crate) struct Gate(Mutex<Places>);

#[derive(Default)]
struct Places {
    next: u64,
    /// Handshakes that are under way, the oldest first, and how each is given up.
    half_open: BTreeMap<u64, CancellationToken>,
    /// The connections of strangers, the oldest first.
    strangers: BTreeMap<u64, (PeerId, WeakConnectionHandle)>,
    followers: usize,
    known: usize,
    visitors: HashMap<PeerId, Visitor>,
}

/// A peer with connections here.
struct Visitor {
    class: Class,
    connections: Vec<u64>,
}

impl Places {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Takes a place for a connection of a peer, which the peer's others share the class of.
    fn take(&mut self, peer: PeerId, class: Class, connection: Option<WeakConnectionHandle>) -> Result<u64, CloseCode> {
        self.promote(peer, class);
        let before = self.visitors.get(&peer);
        if before.is_some_and(|before| before.connections.len() >= MAX_CONNECTIONS_OF_PEER) {
            return Err(CloseCode::TooManyConnections);
        }
        let class = before.map_or(class, |before| before.class);
        let full = match class {
            // Room is made by who asks.
            Class::Stranger => false,
            Class::Follower => self.followers >= MAX_FOLLOWERS,
            Class::Known => self.known >= MAX_KNOWN,
        };
        if full {
            return Err(CloseCode::Crowded);
        }
        let number = self.number();
        match (class, connection) {
            (Class::Stranger, Some(connection)) => drop(self.strangers.insert(number, (peer, connection))),
            (Class::Stranger, None) => {}
            (Class::Follower, _) => self.followers += 1,
            (Class::Known, _) => self.known += 1,
        }
        let visitor = self.visitors.entry(peer).or_insert_with(|| Visitor { class, connections: Vec::new() });
        visitor.connections.push(number);
        Ok(number)
    }

    fn give_back(&mut self, peer: PeerId, number: u64) {
        let Some(visitor) = self.visitors.get_mut(&peer) else { return };
        visitor.connections.retain(|one| *one != number);
        match visitor.class {
            Class::Stranger => drop(self.strangers.remove(&number)),
            Class::Follower => self.followers -= 1,
            Class::Known => self.known -= 1,
        }
        if visitor.connections.is_empty() {
            self.visitors.remove(&peer);
        }
    }

    /// Makes a peer more than it was, with all its connections. False where there is no room for it.
    fn promote(&mut self, peer: PeerId, class: Class) -> bool {
        let Some(visitor) = self.visitors.get_mut(&peer).filter(|visitor| visitor.class < class) else { return true };
        let count = visitor.connections.len();
        let (taken, limit) = match class {
            Class::Stranger => return true,
            Class::Follower => (&mut self.followers, MAX_FOLLOWERS),
            Class::Known => (&mut self.known, MAX_KNOWN),
        };
        if *taken + count > limit {
            return false;
        }
        *taken += count;
        if visitor.class == Class::Follower {
            self.followers -= count;
        }
        visitor.class = class;
        for number in &visitor.connections {
            self.strangers.remove(number);
        }
        true
    }

    /// The oldest stranger, where there are too many. Its place is free from now on.
    fn one_too_many(&mut self) -> Option<(PeerId, WeakConnectionHandle)> {
        let too_many = self.strangers.len() > MAX_STRANGERS;
        too_many.then(|| self.strangers.pop_first().map(|(_, oldest)| oldest)).flatten()
    }
}

impl Gate {
    /// A place for a connection that this node dials.
    pub(crate) fn dialled(shared: &Arc<Shared>, peer: PeerId) -> Result<Place, CloseCode> {
        let number = lock(&shared.gate.0).take(peer, Class::Known, None)?;
        Ok(Place { shared: shared.clone(), peer, number })
    }

    /// A place for a connection that has come, whose peer is proven; or why there is none.
    fn admit(shared: &Arc<Shared>, connection: &Connection) -> Result<Place, CloseCode> {
        let peer = connection.remote_id();
        let known = shared.knows(peer);
        // Each has an answer of its own for peers that are not known: a claim at the machine's own door, and a document whose
        // pairing has ended, or is not read yet.
        let answered = match connection.alpn() {
            CLAIM_ALPN => true,
            KV_ALPN => shared.kv.get().is_none_or(|kv| kv.former.has(peer)),
            _ => false,
        };
        if shared.closing.is_cancelled() {
            return Err(CloseCode::ShutDown);
        }
        if shared.private && !known && !answered {
            // A pair whose files are gone here is to see that, and not a private node.
            return Err(if connection.alpn() == KV_ALPN { CloseCode::NotPaired } else { CloseCode::Private });
        }
        let class = if known { Class::Known } else { Class::Stranger };
        let number = lock(&shared.gate.0).take(peer, class, Some(connection.weak_handle()))?;
        let place = Place { shared: shared.clone(), peer, number };
        loop {
            let Some((oldest, connection)) = lock(&shared.gate.0).one_too_many() else { return Ok(place) };
            // It may have become known since it came.
            if shared.knows(oldest) && lock(&shared.gate.0).promote(oldest, Class::Known) {
                continue;
            }
            shared.metrics.strangers_evicted.add(1);
            if let Some(connection) = connection.upgrade() {
                connection.close(CloseCode::Crowded.code(), CloseCode::Crowded.reason().as_bytes());
            }
        }
    }

    /// A peer is served something: it is no stranger from now on. False where there is no room for it.
    pub(crate) fn serves(&self, peer: PeerId) -> bool {
        lock(&self.0).promote(peer, Class::Follower)
    }

    /// How many handshakes are under way, and how many connections there are of strangers, followers, and known peers.
    pub(crate) fn counts(&self) -> [usize; 4] {
        let places = lock(&self.0);
        [places.half_open.len(), places.strangers.len(), places.followers, places.known]
    }
}

/// The place of one connection, until it is dropped.
pub(crate) struct Place {
    shared: Arc<Shared>,
    peer: PeerId,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.shared.gate.0).give_back(self.peer, self.number);
    }
}

/// A handshake that is under way, until it is dropped.
struct Handshake {
    shared: Arc<Shared>,
    number: u64,
    given_up: CancellationToken,
}

impl Handshake {
    /// Begins one, and gives up the oldest where there are too many.
    fn begin(shared: &Arc<Shared>) -> Self {
        let given_up = CancellationToken::new();
        let mut places = lock(&shared.gate.0);
        let number = places.number();
        places.half_open.insert(number, given_up.clone());
        if places.half_open.len() > MAX_HALF_OPEN
            && let Some((_, oldest)) = places.half_open.pop_first()
        {
            oldest.cancel();
        }
        drop(places);
        Self { shared: shared.clone(), number, given_up }
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        lock(&self.shared.gate.0).half_open.remove(&self.number);
    }
}

/// Takes what comes to the endpoint, until the node is shut down.
pub(crate) fn open(shared: &Arc<Shared>, endpoint: Endpoint) {
    endpoint.set_alpns([ALPN, KV_ALPN, CLAIM_ALPN].map(<[u8]>::to_vec).to_vec());
    let task = shared.clone();
    shared.tasks.spawn(async move {
        loop {
            tokio::select! {
                incoming = endpoint.accept() => match incoming {
                    Some(incoming) => receive(&task, incoming),
                    None => return,
                },
                () = task.closed.cancelled() => return,
            }
        }
    });
}

/// Begins a handshake in a task of its own; with a newcomer that has not shown that its address is its own, only while few
/// are under way.
fn receive(shared: &Arc<Shared>, incoming: Incoming) {
    let many = lock(&shared.gate.0).half_open.len() >= VALIDATE_ABOVE;
    if many && !incoming.remote_addr_validated() {
        shared.metrics.addresses_validated.add(1);
        if let Err(error) = incoming.retry() {
            error.into_incoming().refuse();
        }
        return;
    }
    let handshake = Handshake::begin(shared);
    match incoming.accept() {
        Ok(accepting) => {
            let met = meet(shared.clone(), accepting, handshake);
            shared.tasks.spawn(met);
        }
        Err(error) => debug!(%error, "a packet that begins no connection"),
    }
}

/// Awaits the end of a handshake, and hands the connection to its protocol.
async fn meet(shared: Arc<Shared>, accepting: Accepting, handshake: Handshake) {
    let connected = tokio::select! {
        connected = timeout(HELLO_TIMEOUT, accepting) => connected.ok().and_then(Result::ok),
        () = handshake.given_up.cancelled() => None,
        () = shared.closed.cancelled() => return,
    };
    let Some(connection) = connected else {
        shared.metrics.handshakes_given_up.add(1);
        return;
    };
    drop(handshake);
    match Gate::admit(&shared, &connection) {
        Ok(place) => hand_over(&shared, connection, place),
        Err(code) => {
            shared.metrics.connections_refused.add(1);
            if let Some(left_out) = shared.stranger_log.line() {
                info!(peer = %connection.remote_id().fmt_short(), ?code, left_out, "a connection is refused");
            }
            connection.close(code.code(), code.reason().as_bytes());
        }
    }
}

fn hand_over(shared: &Arc<Shared>, connection: Connection, place: Place) {
    if connection.alpn() == ALPN {
        return peers::accept(shared, connection, place);
    }
    match (connection.alpn() == KV_ALPN, shared.kv.get()) {
        // It is not known here yet, or not any more, whether there is such a document.
        (true, None) => return KvCloseCode::Later.close(&connection),
        (false, None) if shared.kv.is_expected() => return KvCloseCode::Later.close(&connection),
        (false, None) => return KvCloseCode::NotPaired.close(&connection),
        (true, Some(kv)) => kv.accept(connection.clone()),
        (false, Some(kv)) => kv.accept_claim(connection.clone()),
    }
    // The place is taken for as long as the connection lasts, whoever has it by then.
    let over = connection.weak_handle().closed();
    let closed = shared.closed.clone();
    shared.tasks.spawn(async move {
        let _place = place;
        tokio::select! {
            _ = over => {}
            () = closed.cancelled() => {}
        }
    });
}
