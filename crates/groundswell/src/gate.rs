//! The gate: every connection that reaches this node passes here, whichever of its protocols it speaks.
//!
//! Identities cost nothing, so that a limit for each peer bounds nothing. What bounds the node are places, and there are
//! three kinds of them: for strangers, for followers, and for the peers that this node knows by its owner's choice. A
//! newcomer may take the place of the oldest stranger, and of nobody else. Until its peer has said hello, a
//! connection has a small window and few streams ([`crate::network`]); all of it together is a constant.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use iroh::{
    Endpoint,
    endpoint::{Accepting, Connection, Incoming, IncomingAddr, WeakConnectionHandle},
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::{
    kv::{CLAIM_ALPN, KV_ALPN, KvCloseCode},
    limits::{
        CROWDED_NEWCOMERS_PER_SECOND, HELLO_TIMEOUT, MAX_CONNECTIONS_OF_PEER, MAX_CROWDED_TURNS, MAX_FOLLOWERS,
        MAX_HALF_OPEN, MAX_KNOWN, MAX_STRANGERS, TURN_KEPT, VALIDATE_ABOVE,
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
    /// Newcomers that come while the node is crowded.
    turns: Turns,
    /// Handshakes that are under way, the oldest first, and how each is given up.
    half_open: BTreeMap<u64, CancellationToken>,
    /// How many more are under way with addresses of chosen peers. No other peer gives these up.
    of_chosen: usize,
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

/// The turns of newcomers, one after the other. Nothing is kept of a newcomer but its address, since QUIC sends its first
/// packet again: whoever comes again at its turn is taken.
#[derive(Default)]
struct Turns {
    of: HashMap<String, Instant>,
    /// The first turn that nobody has.
    free: Option<Instant>,
}

impl Turns {
    /// Whether the newcomer from this address is taken now. If not, it has a turn, as far as there are any.
    fn take(&mut self, from: &str, now: Instant) -> bool {
        let each = Duration::from_secs(1) / CROWDED_NEWCOMERS_PER_SECOND;
        if let Some(turn) = self.of.get(from) {
            let is_its_turn = *turn <= now;
            if is_its_turn {
                self.of.remove(from);
            }
            return is_its_turn;
        }
        let free = self.free.map_or(now, |free| free.max(now));
        if free <= now || self.of.len() >= MAX_CROWDED_TURNS {
            self.of.retain(|_, turn| *turn + TURN_KEPT > now);
        }
        if free > now {
            if self.of.len() >= MAX_CROWDED_TURNS {
                return false;
            }
            self.of.insert(from.to_owned(), free);
        }
        self.free = Some(free + each);
        free <= now
    }
}

impl Places {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Whether newcomers come faster than strangers leave.
    fn is_crowded(&self) -> bool {
        self.strangers.len() >= MAX_STRANGERS || self.half_open.len() >= MAX_HALF_OPEN / 2
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
            KV_ALPN => shared.kv.get().is_none_or(|kv| kv.former.is_with(peer)),
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
        [places.half_open.len() + places.of_chosen, places.strangers.len(), places.followers, places.known]
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
    /// `None` where the address is of a chosen peer.
    number: Option<u64>,
    given_up: CancellationToken,
}

impl Handshake {
    /// Begins one, and gives up the oldest where there are too many.
    fn begin(shared: &Arc<Shared>, of_chosen: bool) -> Self {
        let given_up = CancellationToken::new();
        let mut places = lock(&shared.gate.0);
        if of_chosen {
            places.of_chosen += 1;
            return Self { shared: shared.clone(), number: None, given_up };
        }
        let number = places.number();
        places.half_open.insert(number, given_up.clone());
        if places.half_open.len() > MAX_HALF_OPEN
            && let Some((_, oldest)) = places.half_open.pop_first()
        {
            oldest.cancel();
        }
        drop(places);
        Self { shared: shared.clone(), number: Some(number), given_up }
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        let mut places = lock(&self.shared.gate.0);
        match self.number {
            Some(number) => drop(places.half_open.remove(&number)),
            None => places.of_chosen -= 1,
        }
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
    let (many, crowded) = {
        let places = lock(&shared.gate.0);
        let under_way = places.half_open.len() + places.of_chosen;
        (under_way >= VALIDATE_ABOVE || places.is_crowded(), places.is_crowded())
    };
    if many && !incoming.remote_addr_validated() {
        shared.metrics.addresses_validated.add(1);
        if let Err(error) = incoming.retry() {
            error.into_incoming().refuse();
        }
        return;
    }
    let of_chosen = match incoming.remote_addr() {
        IncomingAddr::Ip(at) => shared.peers.is_of_chosen(at),
        IncomingAddr::Relay { endpoint_id, .. } => shared.knows(endpoint_id),
        _ => false,
    };
    let taken = !crowded || of_chosen || {
        let from = format!("{:?}", incoming.remote_addr());
        lock(&shared.gate.0).turns.take(&from, Instant::now())
    };
    if !taken {
        shared.metrics.newcomers_put_off.add(1);
        incoming.ignore();
        return;
    }
    let handshake = Handshake::begin(shared, of_chosen);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// However many come at once, and however often: so many a second are taken, each in its turn.
    #[test]
    fn newcomers_are_taken_one_after_the_other_whoever_asks_most() {
        let (mut turns, begun) = (Turns::default(), Instant::now());
        let mut taken = Vec::new();
        for ms in 0..5_000 {
            let now = begun + Duration::from_millis(ms);
            // A hundred that ask all the time, and one that comes late and asks once a second.
            let eager = (0..100).map(|n| format!("eager {n}"));
            let patient = (ms >= 1_000 && ms % 1_000 == 0).then(|| "patient".to_owned());
            taken.extend(eager.chain(patient).filter(|from| turns.take(from, now)));
        }
        let most = 5 * CROWDED_NEWCOMERS_PER_SECOND as usize + 1;
        assert!(taken.len() <= most && taken.len() + 5 >= most, "{} of {most}", taken.len());
        assert!(taken.contains(&"patient".to_owned()), "it is not kept out by those who ask more often");
    }

    #[test]
    fn turns_are_few_and_those_that_nobody_takes_are_given_to_others() {
        let (mut turns, begun) = (Turns::default(), Instant::now());
        for n in 0..2 * MAX_CROWDED_TURNS {
            turns.take(&n.to_string(), begun);
        }
        assert_eq!(turns.of.len(), MAX_CROWDED_TURNS);
        let last = begun + Duration::from_secs(1) / CROWDED_NEWCOMERS_PER_SECOND * 2_000;
        assert!(!turns.take("late", begun), "there are no more turns");
        assert!(turns.take("late", last + TURN_KEPT) && turns.of.is_empty());
    }
}
