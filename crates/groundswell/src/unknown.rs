//! What all peers that this node does not know may have here together. Each has limits of its own, but identities cost
//! nothing. A peer that the owner of this node has chosen takes nothing of it.
//!
//! Each kind of thing has a pool. A peer always has a little of it, so that nobody keeps a newcomer out. What it has beyond
//! that it takes from what all of them share, and only while at least as much is still free there as it has then: a single
//! peer gets half, and the more there are, the less each may take.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use groundswell_core::wire::Refusal;
use tokio::sync::oneshot;

use crate::{
    limits::{
        ASKING_OF_EACH_UNKNOWN, MAX_PARKED_OF_PEER, MAX_SUBSCRIPTIONS_OF_PEER, SENDING_BYTES_OF_EACH_UNKNOWN,
        SENDING_BYTES_OF_UNKNOWN, SERVED_OF_EACH_UNKNOWN, SERVED_OF_UNKNOWN, WAITING_BYTES_OF_EACH_UNKNOWN,
        WAITING_BYTES_OF_UNKNOWN, WAITING_OF_EACH_UNKNOWN, WAITING_OF_UNKNOWN,
    },
    link::Peer,
    store::TideKey,
    sync::lock,
};

/// What a peer has a share of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    /// Streams whose request is not read yet.
    Asking,
    /// Streams that wait for a path.
    Parked,
    /// The bytes of the paths that these wait for.
    ParkedBytes,
    /// Streams that are served.
    Served,
    /// Bytes that were read to be sent, and are not written yet.
    Sending,
}

impl Of {
    /// One more than a peer may have of it, known or not, in words.
    fn too_many(self, before: u32) -> Option<Refusal> {
        let (served, parked) = (MAX_SUBSCRIPTIONS_OF_PEER, MAX_PARKED_OF_PEER);
        match self {
            Self::Served if before >= served => Some(Refusal::TooManySubscriptions { limit: served }),
            Self::Parked if before >= parked => Some(Refusal::TooManyParked { limit: parked }),
            _ => None,
        }
    }

    /// The number of its pool.
    fn pool(self) -> usize {
        match self {
            Self::Parked => 0,
            Self::ParkedBytes => 1,
            Self::Served => 2,
            Self::Sending => 3,
            // Of its own: a claim is heard however many paths a peer waits for.
            Self::Asking => 4,
        }
    }
}

/// The pools of a node.
pub(crate) struct Unknown {
    pools: [Pool; 5],
    /// Counts what is sent, so that it can be told who was sent something last.
    sent: AtomicU64,
}

impl Default for Unknown {
    fn default() -> Self {
        let pool = |each, shared| Pool { each, shared, state: Mutex::default() };
        Self {
            pools: [
                pool(WAITING_OF_EACH_UNKNOWN, WAITING_OF_UNKNOWN),
                pool(WAITING_BYTES_OF_EACH_UNKNOWN, WAITING_BYTES_OF_UNKNOWN),
                pool(SERVED_OF_EACH_UNKNOWN, SERVED_OF_UNKNOWN),
                pool(SENDING_BYTES_OF_EACH_UNKNOWN, SENDING_BYTES_OF_UNKNOWN),
                pool(ASKING_OF_EACH_UNKNOWN, WAITING_OF_UNKNOWN),
            ],
            sent: AtomicU64::new(0),
        }
    }
}

impl Unknown {
    /// A number that is higher than all before.
    pub(crate) fn next_sent(&self) -> u64 {
        self.sent.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn pool(&self, of: Of) -> &Pool {
        &self.pools[of.pool()]
    }
}

/// What one peer has.
#[derive(Default)]
pub(crate) struct Taken {
    /// Of everything, in the order of [`Of`], whether the peer was known when it took it or not.
    all: [AtomicU32; 5],
    /// Of each pool.
    of_pools: [AtomicU32; 5],
    /// Held by the one stream of the peer that waits for room: so the queue is short, and is not longer for a peer with more streams.
    turn: tokio::sync::Mutex<()>,
}

impl Taken {
    pub(crate) fn of(&self, of: Of) -> u32 {
        self.all[of as usize].load(Ordering::Relaxed)
    }
}

struct Pool {
    /// What each peer has in any case.
    each: u32,
    /// What all of them share beyond that.
    shared: u32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    taken: u32,
    /// Who waits for a share, in order; one of each peer.
    queue: VecDeque<Waiter>,
}

struct Waiter {
    peer: Arc<Peer>,
    count: u32,
    granted: oneshot::Sender<Share>,
}

impl Pool {
    /// How much of what a peer has is of what all share, now and with so much more.
    fn shared_by(&self, held: u32, count: u32) -> [u32; 2] {
        [held, held.saturating_add(count)].map(|held| held.saturating_sub(self.each))
    }

    /// Takes a share for a peer, where there is one for it; `queued` where those that wait are passed by.
    fn take(&self, state: &mut State, peer: &Peer, of: Of, count: u32, queued: bool) -> bool {
        let held = &peer.taken.of_pools[of.pool()];
        let [before, after] = self.shared_by(held.load(Ordering::Relaxed), count);
        let fits = after <= self.shared - state.taken && (queued || state.queue.is_empty());
        if after > before && !fits {
            return false;
        }
        state.taken += after - before;
        // Changed under the lock of the pool only.
        held.fetch_add(count, Ordering::Relaxed);
        true
    }

    fn give_back(&self, peer: &Peer, of: Of, count: u32) {
        let mut state = lock(&self.state);
        let before = peer.taken.of_pools[of.pool()].fetch_sub(count, Ordering::Relaxed);
        let [after, before] = self.shared_by(before - count, count);
        state.taken -= before - after;
        let granted = self.grant(&mut state, of);
        // Not under the lock: a share is given back again where nobody waits for it any more.
        drop(state);
        for (waiter, share) in granted {
            let _ = waiter.send(share);
        }
    }

    /// Gives what is free to those that wait, in order. One that has enough already lets others go first.
    fn grant(&self, state: &mut State, of: Of) -> Vec<(oneshot::Sender<Share>, Share)> {
        let (mut granted, mut kept, mut is_next) = (Vec::new(), VecDeque::new(), true);
        for waiter in std::mem::take(&mut state.queue) {
            if waiter.granted.is_closed() {
                continue;
            }
            let Waiter { peer, count, granted: to } = waiter;
            let [before, after] = self.shared_by(peer.taken.of_pools[of.pool()].load(Ordering::Relaxed), count);
            if (is_next || after == before) && self.take(state, &peer, of, count, true) {
                granted.push((to, Share::taken(peer, of, count)));
                continue;
            }
            is_next &= before > 0;
            kept.push_back(Waiter { peer, count, granted: to });
        }
        state.queue = kept;
        granted
    }
}

/// A peer's share of something, until it is dropped. There are thousands, so that it is small.
pub(crate) struct Share {
    peer: Arc<Peer>,
    count: u32,
    of: Of,
    /// Whether it is of a pool: a known peer's is only counted.
    pooled: bool,
}

impl Share {
    /// So much more for a peer, or why it gets no more.
    pub(crate) fn take(peer: &Arc<Peer>, of: Of, count: usize, known: bool) -> Result<Self, Refusal> {
        let count = u32::try_from(count).map_err(|_| Refusal::Crowded)?;
        let before = peer.taken.all[of as usize].fetch_add(count, Ordering::Relaxed);
        // Counts it until it is dropped, which may be at once.
        let mut share = Self { peer: peer.clone(), count, of, pooled: false };
        if let Some(refusal) = of.too_many(before) {
            return Err(refusal);
        }
        if !known {
            let pool = peer.unknown.pool(of);
            share.pooled = pool.take(&mut lock(&pool.state), peer, of, count, false);
            if !share.pooled {
                return Err(Refusal::Crowded);
            }
        }
        Ok(share)
    }

    /// The shares of a stream that waits for a path: its place, and the bytes of the path, which is kept.
    pub(crate) fn park(peer: &Arc<Peer>, key: &TideKey, known: bool) -> Result<[Self; 2], Refusal> {
        let agent = match key {
            TideKey::Publication { agent, .. } => agent.as_str().len(),
            TideKey::Replica(_) => 0,
        };
        let bytes = agent + key.path().as_str().len();
        Ok([Self::take(peer, Of::Parked, 1, known)?, Self::take(peer, Of::ParkedBytes, bytes, known)?])
    }

    /// Room to send so much to an unknown peer, as soon as there is some, in the order in which peers ask.
    pub(crate) async fn room(peer: &Arc<Peer>, bytes: usize) -> Result<Self, Refusal> {
        let count = u32::try_from(bytes).map_err(|_| Refusal::Crowded)?;
        let of = Of::Sending;
        let pool = peer.unknown.pool(of);
        let _turn = peer.taken.turn.lock().await;
        let granted = {
            let mut state = lock(&pool.state);
            state.queue.retain(|waiter| !waiter.granted.is_closed());
            if pool.take(&mut state, peer, of, count, false) {
                return Ok(Self::taken(peer.clone(), of, count));
            }
            let (granted, to_wait) = oneshot::channel();
            state.queue.push_back(Waiter { peer: peer.clone(), count, granted });
            to_wait
        };
        granted.await.map_err(|_| Refusal::Crowded)
    }

    /// One that was taken of its pool.
    fn taken(peer: Arc<Peer>, of: Of, count: u32) -> Self {
        peer.taken.all[of as usize].fetch_add(count, Ordering::Relaxed);
        Self { peer, count, of, pooled: true }
    }

    pub(crate) fn is_of(&self, of: Of) -> bool {
        self.of == of
    }

    pub(crate) fn count(&self) -> usize {
        self.count as usize
    }

    /// Whether somebody waits for what its peer has beyond what each has in any case.
    pub(crate) fn is_in_the_way(&self) -> bool {
        let pool = self.peer.unknown.pool(self.of);
        let mut state = lock(&pool.state);
        state.queue.retain(|waiter| !waiter.granted.is_closed());
        let held = self.peer.taken.of_pools[self.of.pool()].load(Ordering::Relaxed);
        !state.queue.is_empty() && held > pool.each
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.peer.taken.all[self.of as usize].fetch_sub(self.count, Ordering::Relaxed);
        if self.pooled {
            self.peer.unknown.pool(self.of).give_back(&self.peer, self.of, self.count);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use iroh::SecretKey;

    use super::*;

    /// Peers of one node, numbered.
    struct World {
        unknown: Arc<Unknown>,
        next: u16,
    }

    impl World {
        fn new() -> Self {
            Self { unknown: Arc::default(), next: 0 }
        }

        fn peer(&mut self) -> Arc<Peer> {
            self.next += 1;
            let mut secret = [7; 32];
            secret[..2].copy_from_slice(&self.next.to_le_bytes());
            Arc::new(Peer::new(SecretKey::from_bytes(&secret).public(), self.unknown.clone()))
        }
    }

    /// Room, where there is some now.
    fn at_once(peer: &Arc<Peer>, bytes: usize) -> Option<Share> {
        // However many are taken in one turn of the task.
        tokio::task::unconstrained(Share::room(peer, bytes)).now_or_never().map(Result::unwrap)
    }

    fn all_it_gets(peer: &Arc<Peer>, of: Of) -> Vec<Share> {
        std::iter::from_fn(|| Share::take(peer, of, 1, false).ok()).collect()
    }

    /// However many take all that they can get: a newcomer has its own, what is given is bounded, and so is what one has.
    #[test]
    fn hogs_keep_no_newcomer_out_of_any_pool() {
        for (of, each, shared, most) in [
            (Of::Served, SERVED_OF_EACH_UNKNOWN, SERVED_OF_UNKNOWN, MAX_SUBSCRIPTIONS_OF_PEER),
            (Of::Parked, WAITING_OF_EACH_UNKNOWN, WAITING_OF_UNKNOWN, MAX_PARKED_OF_PEER),
            (Of::Asking, ASKING_OF_EACH_UNKNOWN, WAITING_OF_UNKNOWN, u32::MAX),
        ] {
            let mut world = World::new();
            let mut held: Vec<Vec<Share>> = Vec::new();
            for hogs in 0..100_u32 {
                let peer = world.peer();
                let got = all_it_gets(&peer, of);
                let count = u32::try_from(got.len()).unwrap();
                assert!(count >= each && count <= most.min(each + shared / 2), "{of:?}: {count} for the hog {hogs}");
                held.push(got);
            }
            assert!(held[0].len() >= 1_000, "{of:?}: a single peer may have a thousand");
            let beyond: usize = held.iter().map(|got| got.len() - each as usize).sum();
            assert!(beyond <= shared as usize, "{of:?}: {beyond} beyond what each has");
            let known = world.peer();
            assert!(Share::take(&known, of, 1, true).is_ok(), "a known peer takes nothing of it");
            drop(held);
            let pool = world.unknown.pool(of);
            assert_eq!(lock(&pool.state).taken, 0, "{of:?}: all is free again");
        }
    }

    #[test]
    fn one_more_than_a_peer_may_have_is_said_in_words_and_nothing_is_lost_of_it() {
        let mut world = World::new();
        let peer = world.peer();
        let limit = MAX_SUBSCRIPTIONS_OF_PEER;
        let mut held: Vec<_> = (0..limit).map(|n| Share::take(&peer, Of::Served, 1, n % 2 == 0).unwrap()).collect();
        for known in [true, false] {
            let refused = Share::take(&peer, Of::Served, 1, known).err();
            assert_eq!(refused, Some(Refusal::TooManySubscriptions { limit }));
        }
        held.pop();
        assert!(Share::take(&peer, Of::Served, 1, false).is_ok(), "what is let go of is there again");
        drop(held);
        assert_eq!((peer.taken.of(Of::Served), lock(&world.unknown.pool(Of::Served).state).taken), (0, 0));
    }

    #[test]
    fn the_paths_that_unknown_peers_wait_for_are_bounded_and_known_ones_take_nothing_of_it() {
        let mut world = World::new();
        let key = |segment: &str| TideKey::Publication {
            agent: "main".parse().unwrap(),
            path: format!("/{}", vec![segment; 15].join("/")).parse().unwrap(),
        };
        let long = key(&"x".repeat(255));
        let peers: Vec<_> = (0..20).map(|_| world.peer()).collect();
        let all = |peer: &Arc<Peer>| std::iter::from_fn(|| Share::park(peer, &long, false).ok()).collect::<Vec<_>>();
        let held: Vec<_> = peers.iter().flat_map(all).collect();
        let bytes = held.len() * (4 + 15 * 256);
        let most = (WAITING_BYTES_OF_UNKNOWN + 20 * WAITING_BYTES_OF_EACH_UNKNOWN) as usize;
        assert!(bytes > most / 2 && bytes <= most, "{bytes} of {most}");
        assert!(Share::park(&world.peer(), &long, true).is_ok());
        assert_eq!(Share::park(&world.peer(), &long, false).err(), Some(Refusal::Crowded));
        assert!(Share::park(&world.peer(), &key("a"), false).is_ok(), "a newcomer may wait for a path of usual length");
    }

    /// Who waits for room gets it in order; one with much already waits until the others have had theirs.
    #[tokio::test]
    async fn those_that_wait_for_room_get_it_in_order_and_whoever_has_much_comes_last() {
        let (mut world, batch) = (World::new(), SENDING_BYTES_OF_EACH_UNKNOWN as usize);
        let mut hogs: Vec<Arc<Peer>> = Vec::new();
        let mut held: Vec<Share> = Vec::new();
        // Until there is nothing left.
        loop {
            let peer = world.peer();
            let before = held.len();
            while let Some(share) = at_once(&peer, batch) {
                held.push(share);
            }
            hogs.push(peer);
            if held.len() - before == 1 {
                break;
            }
        }
        assert_eq!(held.len(), hogs.len() + SENDING_BYTES_OF_UNKNOWN as usize / batch);
        // A newcomer has its own, and waits beyond it.
        let [first, second] = [world.peer(), world.peer()];
        let own = [&first, &second].map(|peer| at_once(peer, batch).unwrap());
        assert!(!own[0].is_in_the_way() && !held[0].is_in_the_way(), "nobody waits");
        let hog = hogs[0].clone();
        let mut waiting = [
            tokio::spawn(async move { Share::room(&hog, batch).await }),
            tokio::spawn(async move { Share::room(&first, 2 * batch).await }),
            tokio::spawn(async move { Share::room(&second, batch).await }),
        ];
        let unknown = world.unknown.clone();
        let pool = unknown.pool(Of::Sending);
        while lock(&pool.state).queue.len() < 3 {
            tokio::task::yield_now().await;
        }
        assert!(held[0].is_in_the_way() && !own[0].is_in_the_way(), "{}", held.len());
        // Those of the first hog are at the beginning.
        drop(held.remove(0));
        assert!(waiting.iter().all(|waiting| !waiting.is_finished()), "the next needs twice as much");
        drop(held.remove(0));
        let given = (&mut waiting[1]).await.unwrap().unwrap();
        assert!(!waiting[0].is_finished() && !waiting[2].is_finished());
        drop(held.remove(0));
        let other = (&mut waiting[2]).await.unwrap().unwrap();
        assert!(!waiting[0].is_finished(), "it has more than is free");
        drop((given, other, own, held));
        assert!((&mut waiting[0]).await.unwrap().is_ok());
        assert_eq!(lock(&pool.state).taken, 0);
        // One that waits no more takes nothing.
        let [one, other] = [world.peer(), world.peer()];
        let all = std::iter::from_fn(|| at_once(&one, batch)).collect::<Vec<_>>();
        let gone = tokio::spawn(async move { Share::room(&one, batch).await });
        while lock(&pool.state).queue.is_empty() {
            tokio::task::yield_now().await;
        }
        gone.abort();
        let _ = gone.await;
        assert!(at_once(&other, 2 * batch).is_some(), "those that have gone hold up nobody");
        assert!(!all[0].is_in_the_way(), "nor is anything ended for them");
        drop(all);
        assert_eq!(lock(&pool.state).taken, 0);
    }
}
