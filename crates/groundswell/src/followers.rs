//! Where followers were reached last, so that they are told when this node is back. They are strangers that read something: the
//! ring is theirs alone, is small, and is written along with something else.

use std::{
    collections::VecDeque,
    sync::Mutex,
    time::{Instant, SystemTime},
};

use groundswell_core::encoding::{decode, encode};
use iroh::EndpointAddr;

use crate::{
    limits::{FOLLOWERS_WRITTEN_EVERY, MAX_REMEMBERED_FOLLOWERS},
    moment::milliseconds,
    source::PeerId,
    sync::lock,
};

/// The ring of followers.
#[derive(Default)]
pub(crate) struct Followers(Mutex<Ring>);

#[derive(Default)]
struct Ring {
    /// Each with when it was seen, in seconds since 1970; the one that came longest ago is first.
    all: VecDeque<(EndpointAddr, u64)>,
    /// Since when something is not written.
    unwritten: bool,
    written: Option<Instant>,
}

impl Followers {
    /// What was stored. What does not decode is no loss: followers dial by themselves.
    pub(crate) fn load(bytes: Option<&[u8]>) -> Self {
        let mut all: VecDeque<_> = bytes.and_then(|bytes| decode(bytes).ok()).unwrap_or_default();
        all.truncate(MAX_REMEMBERED_FOLLOWERS);
        Self(Mutex::new(Ring { all, unwritten: false, written: None }))
    }

    /// A follower was reached there.
    pub(crate) fn note(&self, addr: EndpointAddr) {
        let mut ring = lock(&self.0);
        ring.all.retain(|(other, _)| other.id != addr.id);
        if ring.all.len() >= MAX_REMEMBERED_FOLLOWERS {
            ring.all.pop_front();
        }
        ring.all.push_back((addr, milliseconds(SystemTime::now()) / 1_000));
        ring.unwritten = true;
    }

    /// Where a follower was reached.
    pub(crate) fn find(&self, peer: PeerId) -> Option<EndpointAddr> {
        lock(&self.0).all.iter().find(|(addr, _)| addr.id == peer).map(|(addr, _)| addr.clone())
    }

    /// All of them, the newest first.
    pub(crate) fn all(&self) -> Vec<EndpointAddr> {
        lock(&self.0).all.iter().rev().map(|(addr, _)| addr.clone()).collect()
    }

    /// What is to be written, where something is and the time for it has come, or `now` in any case.
    pub(crate) fn due(&self, now: bool) -> Option<Vec<u8>> {
        let mut ring = lock(&self.0);
        let early = ring.written.is_some_and(|written| written.elapsed() < FOLLOWERS_WRITTEN_EVERY);
        if !ring.unwritten || (early && !now) {
            return None;
        }
        ring.unwritten = false;
        ring.written = Some(Instant::now());
        encode(&ring.all).ok()
    }
}

#[cfg(test)]
mod tests {
    use iroh::SecretKey;

    use super::*;

    fn addr(n: u16) -> EndpointAddr {
        let mut secret = [7; 32];
        secret[..2].copy_from_slice(&n.to_le_bytes());
        EndpointAddr::new(SecretKey::from_bytes(&secret).public()).with_ip_addr(([127, 0, 0, 1], 1_000 + n).into())
    }

    #[test]
    fn the_ring_keeps_the_newest_and_is_written_now_and_then() {
        let ring = Followers::default();
        assert_eq!(ring.due(true), None, "nothing to write");
        for n in 0..300 {
            ring.note(addr(n));
        }
        ring.note(addr(50));
        let all = ring.all();
        assert_eq!((all.len(), &all[0], &all[1]), (MAX_REMEMBERED_FOLLOWERS, &addr(50), &addr(299)));
        assert_eq!((ring.find(addr(43).id), ring.find(addr(44).id)), (None, Some(addr(44))));
        let written = ring.due(false).unwrap();
        ring.note(addr(1));
        assert_eq!(ring.due(false), None, "it was written just now");
        assert_eq!(Followers::load(Some(&written)).all(), all);
        assert!(Followers::load(Some(&ring.due(true).unwrap())).find(addr(1).id).is_some());
        assert!(Followers::load(Some(&[0xff; 9])).all().is_empty());
    }
}
