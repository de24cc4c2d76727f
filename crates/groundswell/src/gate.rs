//! The gate: every connection that reaches this node passes here, whatever it will carry.
//!
//! Identities cost nothing, so that a limit for each peer bounds nothing. What bounds the node are places, and there are
//! three kinds of them: for strangers, for followers, and for the peers that this node knows by its owner's choice. A
//! newcomer may take the place of the oldest stranger and, once it is served something, that of the follower that was sent
//! nothing for longest, and of nobody else. A peer whose claim the machine has admitted keeps its places until the claim is
//! over, as a stranger and as a follower: people compare a PIN for longer than a flood takes to fill all places. Until its peer
//! has said hello, a connection has a small window and few streams ([`crate::network`]); all of it together is a constant.

mod turns;

use std::{
    collections::{BTreeMap, HashMap, VecDeque, hash_map::Entry},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use groundswell_core::kv::KvAuthor;
use iroh::{
    Endpoint,
    endpoint::{Accepting, Connection, Incoming, IncomingAddr, WeakConnectionHandle},
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use self::turns::{Origin, Turns};
use crate::{
    limits::{
        CROWDED_NEWCOMERS_PER_SECOND, HELLO_TIMEOUT, MAX_CLAIM_PLACES, MAX_CONNECTIONS_OF_PEER, MAX_FOLLOWERS,
        MAX_HALF_OPEN, MAX_HALF_OPEN_OF_ALL_CHOSEN, MAX_HALF_OPEN_OF_CHOSEN, MAX_KNOWN, MAX_STRANGERS,
        MAX_WIDE_NEWCOMERS, VALIDATE_ABOVE,
    },
    link,
    network::{ALPN, CloseCode, FORMER_ALPNS, ForNewcomers},
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
    /// When the newest handshakes were begun, the oldest first.
    begun: Begun,
    /// Handshakes that are under way, the oldest first, and how each is given up.
    half_open: BTreeMap<u64, CancellationToken>,
    /// How many more are under way with addresses of chosen peers. No newcomer gives these up.
    of_chosen: OfChosen,
    /// The connections of strangers, the oldest first.
    strangers: BTreeMap<u64, (PeerId, WeakConnectionHandle)>,
    /// How many claims are under way of each peer. No newcomer takes the place of such a peer.
    claimants: HashMap<PeerId, usize>,
    /// The connections of followers.
    followers: BTreeMap<u64, (PeerId, Option<WeakConnectionHandle>)>,
    known: usize,
    visitors: HashMap<PeerId, Visitor>,
    /// Each wide connection of a newcomer has a share in it.
    wide: Arc<()>,
}

/// How many handshakes are under way with addresses of chosen peers: a few of each.
#[derive(Default)]
struct OfChosen {
    all: usize,
    of_each: HashMap<PeerId, usize>,
}

impl OfChosen {
    /// Takes a place, if one is left.
    fn take(&mut self, peer: PeerId) -> bool {
        let of_peer = self.of_each.get(&peer).copied().unwrap_or(0);
        if self.all >= MAX_HALF_OPEN_OF_ALL_CHOSEN || of_peer >= MAX_HALF_OPEN_OF_CHOSEN {
            return false;
        }
        self.all += 1;
        self.of_each.insert(peer, of_peer + 1);
        true
    }

    fn give_back(&mut self, peer: PeerId) {
        self.all -= 1;
        if let Entry::Occupied(mut count) = self.of_each.entry(peer) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// A peer with connections here.
struct Visitor {
    class: Class,
    connections: Vec<u64>,
}

/// The handshakes of the last second that were begun with addresses that are not known: a peer that is refused, or closes, at
/// once has no place by which it could be counted, and costs as much.
#[derive(Default)]
struct Begun(VecDeque<Instant>);

impl Begun {
    /// As many as a crowded node takes in a second.
    const MOST: usize = CROWDED_NEWCOMERS_PER_SECOND as usize;

    fn add(&mut self, now: Instant) {
        if self.0.len() >= Self::MOST {
            self.0.pop_front();
        }
        self.0.push_back(now);
    }

    fn are_many(&self, now: Instant) -> bool {
        let is_recent = |oldest: &Instant| now.saturating_duration_since(*oldest) < Duration::from_secs(1);
        self.0.len() >= Self::MOST && self.0.front().is_some_and(is_recent)
    }
}

impl Places {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Whether newcomers come faster than strangers leave, or faster than a node takes them, whether they stay or not.
    fn is_crowded(&self, now: Instant) -> bool {
        self.strangers.len() >= MAX_STRANGERS
            || self.followers.len() >= MAX_FOLLOWERS
            || self.half_open.len() >= MAX_HALF_OPEN / 2
            || self.begun.are_many(now)
            || self.turns.are_taken(now)
    }

    /// Lets one more connection be a wide one, if there are not too many.
    fn wide(&self) -> Option<Wide> {
        (Arc::strong_count(&self.wide) <= MAX_WIDE_NEWCOMERS).then(|| Wide { _counted: self.wide.clone() })
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
            Class::Follower => self.followers.len() >= MAX_FOLLOWERS,
            Class::Known => self.known >= MAX_KNOWN,
        };
        if full {
            return Err(CloseCode::Crowded);
        }
        let number = self.number();
        match (class, connection) {
            (Class::Stranger, Some(connection)) => drop(self.strangers.insert(number, (peer, connection))),
            (Class::Stranger, None) => {}
            (Class::Follower, connection) => drop(self.followers.insert(number, (peer, connection))),
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
            Class::Follower => drop(self.followers.remove(&number)),
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
            Class::Follower => (self.followers.len(), MAX_FOLLOWERS),
            Class::Known => (self.known, MAX_KNOWN),
        };
        if taken + count > limit {
            return false;
        }
        visitor.class = class;
        for number in &visitor.connections {
            let stranger = self.strangers.remove(number);
            self.followers.remove(number);
            match class {
                Class::Follower => {
                    self.followers.insert(*number, (peer, stranger.map(|(_, connection)| connection)));
                }
                _ => self.known += 1,
            }
        }
        true
    }

    /// A claim of a peer is under way. False where there are too many, and nothing keeps the peer's place.
    fn claims(&mut self, peer: PeerId) -> bool {
        let has_room = self.claimants.values().sum::<usize>() < MAX_CLAIM_PLACES;
        if has_room {
            *self.claimants.entry(peer).or_default() += 1;
        }
        has_room
    }

    /// That claim is over. After the last one, a newcomer may take the peer's place.
    fn claims_no_more(&mut self, peer: PeerId) {
        if let Entry::Occupied(mut claims) = self.claimants.entry(peer) {
            *claims.get_mut() -= 1;
            if *claims.get() == 0 {
                claims.remove();
            }
        }
    }

    /// The followers whose places others may take.
    fn replaceable(&self) -> Vec<PeerId> {
        let followers = self.followers.values().map(|(follower, _)| *follower);
        followers.filter(|follower| !self.claimants.contains_key(follower)).collect()
    }

    /// The connections of a follower, whose places are free from now on.
    fn let_go(&mut self, follower: PeerId) -> Vec<Option<WeakConnectionHandle>> {
        let numbers = self.visitors.get(&follower).map(|visitor| visitor.connections.clone()).unwrap_or_default();
        numbers.iter().filter_map(|number| self.followers.remove(number)).map(|(_, connection)| connection).collect()
    }

    /// The oldest stranger, where there are too many. Its place is free from now on.
    fn one_too_many(&mut self) -> Option<(PeerId, WeakConnectionHandle)> {
        let mut replaceable = self.strangers.iter().filter(|(_, (peer, _))| !self.claimants.contains_key(peer));
        let (&oldest, _) = replaceable.next()?;
        let others = replaceable.count();
        (others >= MAX_STRANGERS).then(|| self.strangers.remove(&oldest)).flatten()
    }
}

impl Gate {
    /// A place for a connection that this node is about to dial, to a peer that it knows.
    pub(crate) fn dials(shared: &Arc<Shared>, peer: PeerId) -> Result<Place, CloseCode> {
        let number = lock(&shared.gate.0).take(peer, Class::Known, None)?;
        Ok(Place { shared: shared.clone(), peer, number, _wide: None })
    }

    /// A place for a connection that this node has dialled to a peer that it does not know: a follower, as far as it has heard.
    pub(crate) fn has_dialled(shared: &Arc<Shared>, connection: &Connection) -> Result<Place, CloseCode> {
        let peer = connection.remote_id();
        let mut places = lock(&shared.gate.0);
        // Dialling makes nobody more than it is.
        let class = if places.visitors.contains_key(&peer) { Class::Stranger } else { Class::Follower };
        let number = places.take(peer, class, Some(connection.weak_handle()))?;
        Ok(Place { shared: shared.clone(), peer, number, _wide: None })
    }

    /// A place for a connection that has come, whose peer is proven; or why there is none.
    fn admit(shared: &Arc<Shared>, connection: &Connection, window: Window) -> Result<Place, CloseCode> {
        let peer = connection.remote_id();
        let known = shared.knows(peer);
        let wide = match window {
            Window::OfNewcomer(wide) => wide,
            // Whoever sends from the address of a chosen peer could have any number of identities, and as much on its way to
            // each as to that peer. At its next try it is a newcomer.
            Window::OfChosen(chosen, at) if chosen != peer && !known => {
                at.into_iter().for_each(|at| shared.peers.is_mistaken(at));
                return Err(CloseCode::Crowded);
            }
            Window::OfChosen(..) => None,
        };
        if shared.closing.is_cancelled() {
            return Err(CloseCode::ShutDown);
        }
        if shared.private && !known && !is_answered(shared, peer) {
            return Err(CloseCode::Private);
        }
        let class = if known { Class::Known } else { Class::Stranger };
        let number = lock(&shared.gate.0).take(peer, class, Some(connection.weak_handle()))?;
        // The peers that the owner has chosen are not among those.
        let place = Place { shared: shared.clone(), peer, number, _wide: wide.filter(|_| !known) };
        loop {
            let Some((oldest, connection)) = lock(&shared.gate.0).one_too_many() else { return Ok(place) };
            // It may have become known since it came.
            if shared.knows(oldest) && lock(&shared.gate.0).promote(oldest, Class::Known) {
                continue;
            }
            shared.metrics.strangers_evicted.add(1);
            close_for_room(&connection);
        }
    }

    /// The owner of this node has chosen a peer: it is known from now on, with all its connections, if there is room.
    pub(crate) fn make_known(shared: &Shared, peer: PeerId) {
        lock(&shared.gate.0).promote(peer, Class::Known);
    }

    /// A peer is served something: it is no stranger from now on. Where the places of followers are taken, the one that was sent
    /// nothing for longest gives up its own. False where that makes no room either.
    pub(crate) fn serves(shared: &Shared, peer: PeerId) -> bool {
        loop {
            let followers: Vec<PeerId> = {
                let mut places = lock(&shared.gate.0);
                if places.promote(peer, Class::Follower) {
                    return true;
                }
                places.replaceable()
            };
            let Some(idlest) = shared.peers.idlest(&followers) else { return false };
            // It may have become known since it came.
            if shared.knows(idlest) && lock(&shared.gate.0).promote(idlest, Class::Known) {
                continue;
            }
            let connections = lock(&shared.gate.0).let_go(idlest);
            shared.metrics.followers_evicted.add(connections.len() as u64);
            connections.iter().flatten().for_each(close_for_room);
        }
    }

    /// How many handshakes are under way, and how many connections there are of strangers, followers, and known peers.
    pub(crate) fn counts(&self) -> [usize; 4] {
        let places = lock(&self.0);
        let handshakes = places.half_open.len() + places.of_chosen.all;
        [handshakes, places.strangers.len(), places.followers.len(), places.known]
    }
}

/// Returns true if a private node has something to say to a peer that it does not know: a machine takes claims, a former pair
/// hears of its release, and a role that is not open yet may have any peer for the other side of a document.
fn is_answered(shared: &Shared, peer: PeerId) -> bool {
    match shared.kv.get() {
        Some(kv) => kv.ours == KvAuthor::Machine || lock(&kv.former).is_with(peer),
        None => shared.kv.is_expected(),
    }
}

fn close_for_room(connection: &WeakConnectionHandle) {
    if let Some(connection) = connection.upgrade() {
        CloseCode::Crowded.close(&connection);
    }
}

/// How much may be on its way on a connection, by who was expected before its peer was proven.
enum Window {
    /// This peer was, which was reached at that address, or comes by a relay.
    OfChosen(PeerId, Option<SocketAddr>),
    /// Nobody was. It may be one of the few that have more.
    OfNewcomer(Option<Wide>),
}

/// The place of one connection, until it is dropped.
pub(crate) struct Place {
    shared: Arc<Shared>,
    peer: PeerId,
    number: u64,
    _wide: Option<Wide>,
}

/// One of the few connections of newcomers to which more may be on its way ([`MAX_WIDE_NEWCOMERS`]), until it is dropped.
struct Wide {
    _counted: Arc<()>,
}

impl Place {
    /// Keeps the places of the peer while its claim is under way, which is until what this returns is dropped. `None` where too
    /// many claims are.
    pub(crate) fn claims(self: &Arc<Self>) -> Option<ClaimPlace> {
        lock(&self.shared.gate.0).claims(self.peer).then(|| ClaimPlace(self.clone()))
    }
}

/// The place of a peer whose claim is under way.
pub(crate) struct ClaimPlace(Arc<Place>);

impl Drop for ClaimPlace {
    fn drop(&mut self) {
        lock(&self.0.shared.gate.0).claims_no_more(self.0.peer);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.shared.gate.0).give_back(self.peer, self.number);
    }
}

/// A handshake that is under way, until it is dropped.
struct Handshake {
    shared: Arc<Shared>,
    of: HandshakeOf,
    given_up: CancellationToken,
}

/// Whose place a handshake has.
enum HandshakeOf {
    /// That of a chosen peer, from whose address it comes.
    Chosen(PeerId),
    /// That of a newcomer, by its number.
    Newcomer(u64),
}

impl Handshake {
    /// Begins one in the place of a chosen peer, if one is left.
    fn of_chosen(shared: &Arc<Shared>, peer: PeerId) -> Option<Self> {
        let taken = lock(&shared.gate.0).of_chosen.take(peer);
        taken.then(|| Self {
            shared: shared.clone(),
            of: HandshakeOf::Chosen(peer),
            given_up: CancellationToken::new(),
        })
    }

    /// Begins one of a newcomer, and gives up the oldest where there are too many.
    fn of_newcomer(shared: &Arc<Shared>) -> Self {
        let given_up = CancellationToken::new();
        let mut places = lock(&shared.gate.0);
        places.begun.add(Instant::now());
        let number = places.number();
        places.half_open.insert(number, given_up.clone());
        if places.half_open.len() > MAX_HALF_OPEN
            && let Some((_, oldest)) = places.half_open.pop_first()
        {
            oldest.cancel();
        }
        drop(places);
        Self { shared: shared.clone(), of: HandshakeOf::Newcomer(number), given_up }
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        let mut places = lock(&self.shared.gate.0);
        match self.of {
            HandshakeOf::Chosen(peer) => places.of_chosen.give_back(peer),
            HandshakeOf::Newcomer(number) => drop(places.half_open.remove(&number)),
        }
    }
}

/// Takes what comes to the endpoint, until the node is shut down. It fails only where the endpoint could not be bound either.
pub(crate) fn open(shared: &Arc<Shared>, endpoint: Endpoint) -> Result<(), String> {
    let alpns: Vec<Vec<u8>> = FORMER_ALPNS.iter().chain(&[ALPN]).map(|alpn| alpn.to_vec()).collect();
    let for_newcomers = ForNewcomers::new(&endpoint, &alpns)?;
    endpoint.set_alpns(alpns);
    let task = shared.clone();
    shared.tasks.spawn(async move {
        loop {
            tokio::select! {
                incoming = endpoint.accept() => match incoming {
                    Some(incoming) => receive(&task, incoming, &for_newcomers),
                    None => return,
                },
                () = task.closed.cancelled() => return,
            }
        }
    });
    Ok(())
}

/// Begins a handshake in a task of its own; with a newcomer that has not shown that its address is its own, only while few
/// are under way.
fn receive(shared: &Arc<Shared>, incoming: Incoming, for_newcomers: &ForNewcomers) {
    let (many, crowded) = {
        let places = lock(&shared.gate.0);
        let under_way = places.half_open.len() + places.of_chosen.all;
        let crowded = places.is_crowded(Instant::now());
        (under_way >= VALIDATE_ABOVE || crowded, crowded)
    };
    if many && !incoming.remote_addr_validated() {
        shared.metrics.addresses_validated.add(1);
        if let Err(error) = incoming.retry() {
            error.into_incoming().refuse();
        }
        return;
    }
    let chosen = match incoming.remote_addr() {
        IncomingAddr::Ip(at) => shared.peers.chosen_at(at).map(|peer| (peer, Some(at))),
        // Anybody may come by one.
        IncomingAddr::Relay { endpoint_id, .. } => Some((endpoint_id, None)).filter(|_| shared.knows(endpoint_id)),
        _ => None,
    };
    let of_chosen = chosen
        .filter(|(peer, _)| shared.may_know(*peer))
        .and_then(|(peer, at)| Some((Handshake::of_chosen(shared, peer)?, Window::OfChosen(peer, at))));
    let taken = !crowded || of_chosen.is_some() || {
        let from = Origin::of(&incoming.remote_addr());
        lock(&shared.gate.0).turns.take(from, Instant::now())
    };
    if !taken {
        shared.metrics.newcomers_put_off.add(1);
        incoming.ignore();
        return;
    }
    let (handshake, window, accepting) = match of_chosen {
        Some((handshake, window)) => (handshake, window, incoming.accept()),
        None => {
            let wide = lock(&shared.gate.0).wide();
            let config = if wide.is_some() { &for_newcomers.wide } else { &for_newcomers.narrow };
            let accepting = incoming.accept_with(config.clone());
            (Handshake::of_newcomer(shared), Window::OfNewcomer(wide), accepting)
        }
    };
    match accepting {
        Ok(accepting) => {
            let met = meet(shared.clone(), accepting, handshake, window);
            shared.tasks.spawn(met);
        }
        Err(error) => debug!(%error, "a packet that begins no connection"),
    }
}

/// Awaits the end of a handshake, and hands the connection on.
async fn meet(shared: Arc<Shared>, accepting: Accepting, handshake: Handshake, window: Window) {
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
    let admitted =
        if connection.alpn() == ALPN { Gate::admit(&shared, &connection, window) } else { Err(CloseCode::Version) };
    match admitted {
        Ok(place) => link::accept(&shared, connection, place),
        Err(code) => {
            shared.metrics.connections_refused.add(1);
            if let Some(left_out) = shared.stranger_log.line() {
                info!(peer = %connection.remote_id().fmt_short(), ?code, left_out, "a connection is refused");
            }
            code.close(&connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn host(n: usize) -> Origin {
        Origin::Host(IpAddr::from(u32::try_from(n).unwrap().to_be_bytes()))
    }

    /// Whoever holds the address of a chosen peer can begin no more handshakes in its name than the peer itself.
    #[test]
    fn handshakes_from_the_addresses_of_chosen_peers_are_bounded_for_each_and_together() {
        let peer = |n: u8| iroh::SecretKey::from_bytes(&[n; 32]).public();
        let mut places = OfChosen::default();
        let taken = (0..100).filter(|_| places.take(peer(1))).count();
        assert_eq!(taken, MAX_HALF_OPEN_OF_CHOSEN);
        places.give_back(peer(1));
        assert!(places.take(peer(1)) && !places.take(peer(1)));
        let others = (2..=255).map(|n| (0..100).filter(|_| places.take(peer(n))).count());
        assert_eq!(others.sum::<usize>() + MAX_HALF_OPEN_OF_CHOSEN, MAX_HALF_OPEN_OF_ALL_CHOSEN);
        for _ in 0..MAX_HALF_OPEN_OF_CHOSEN {
            places.give_back(peer(1));
        }
        assert!(
            places.take(peer(255)) && places.of_each.len() <= MAX_HALF_OPEN_OF_ALL_CHOSEN / MAX_HALF_OPEN_OF_CHOSEN
        );
    }

    /// Handshakes whose peers go at once make a node crowded too, until the last turn is over.
    #[test]
    fn handshakes_that_leave_no_stranger_are_counted() {
        let (mut places, begun) = (Places::default(), Instant::now());
        for n in 0..CROWDED_NEWCOMERS_PER_SECOND {
            let now = begun + Duration::from_millis(n.into());
            assert!(!places.is_crowded(now), "{n}");
            places.begun.add(now);
        }
        let now = begun + Duration::from_millis(CROWDED_NEWCOMERS_PER_SECOND.into());
        assert!(places.is_crowded(now));
        assert!(!places.is_crowded(begun + Duration::from_secs(1)));
        // Turns for a second and a half.
        for n in 0..CROWDED_NEWCOMERS_PER_SECOND as usize * 3 / 2 {
            places.turns.take(host(n), now);
        }
        assert!(places.is_crowded(begun + Duration::from_secs(1)), "who comes later waits for its turn too");
        assert!(!places.is_crowded(now + Duration::from_secs(2)));
    }

    /// A newcomer that is served something takes the place of the follower that was sent nothing for longest, with all its
    /// connections, and of nobody else.
    #[test]
    fn where_the_places_of_followers_are_taken_the_idlest_makes_room() {
        let key = |n: u16| {
            let mut secret = [9; 32];
            secret[..2].copy_from_slice(&n.to_le_bytes());
            iroh::SecretKey::from_bytes(&secret).public()
        };
        let mut places = Places::default();
        let all: Vec<PeerId> = (0..u16::try_from(MAX_FOLLOWERS).unwrap()).map(key).collect();
        let mut numbers = HashMap::new();
        for peer in &all[1..] {
            numbers.insert(*peer, places.take(*peer, Class::Stranger, None).unwrap());
            assert!(places.promote(*peer, Class::Follower));
        }
        // One of them has two.
        let of_two = all[7];
        let second = places.take(of_two, Class::Stranger, None).unwrap();
        assert_eq!((places.followers.len(), places.is_crowded(Instant::now())), (MAX_FOLLOWERS, true));
        let newcomer = key(u16::MAX);
        places.take(newcomer, Class::Stranger, None).unwrap();
        assert!(!places.promote(newcomer, Class::Follower), "there is no place");
        assert_eq!(places.let_go(of_two).len(), 2);
        assert!(places.promote(newcomer, Class::Follower));
        assert_eq!(places.followers.len(), MAX_FOLLOWERS - 1);
        // Its connections end later, and what they had is not given back twice.
        for number in [numbers[&of_two], second] {
            places.give_back(of_two, number);
        }
        assert_eq!((places.followers.len(), places.visitors.contains_key(&of_two)), (MAX_FOLLOWERS - 1, false));
        places.take(of_two, Class::Stranger, None).unwrap();
        assert!(places.promote(of_two, Class::Follower), "it may come back");
        // A follower whose claim is under way makes no room, until its last claim is over.
        assert!(places.claims(of_two) && places.claims(of_two) && places.claims(newcomer));
        places.claims_no_more(of_two);
        let replaceable = places.replaceable();
        assert_eq!(replaceable.len(), MAX_FOLLOWERS - 2);
        assert!(!replaceable.contains(&of_two) && !replaceable.contains(&newcomer));
        places.claims_no_more(of_two);
        places.claims_no_more(newcomer);
        assert_eq!(places.replaceable().len(), MAX_FOLLOWERS);
        assert!(places.claimants.is_empty());
        let claimed = (0..100).filter(|_| places.claims(newcomer)).count();
        assert_eq!(claimed, MAX_CLAIM_PLACES, "claims keep so many places at most");
        // Whoever becomes known leaves a place.
        assert!(places.promote(of_two, Class::Known));
        assert_eq!((places.followers.len(), places.known), (MAX_FOLLOWERS - 1, 1));
    }
}
