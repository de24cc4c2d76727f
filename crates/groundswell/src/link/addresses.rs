//! The addresses at which peers were reached, a few of each; and for those of peers that the owner of this node has chosen (by
//! following them, by a ticket, or by a pairing) the peer that had each last.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    net::SocketAddr,
};

use iroh::{EndpointAddr, TransportAddr};

use crate::{
    limits::{MAX_ADDRESSES_OF_PEER, MAX_REMEMBERED_PEERS},
    source::PeerId,
};

/// The addresses of one peer, the newest last. What iroh calls an address has them in another order.
#[derive(Debug, Clone, Default)]
pub(super) struct Addresses(VecDeque<TransportAddr>);

impl Addresses {
    /// Adds some, or says that they are the newest. Returns true if that changes which there are.
    pub(super) fn learn(&mut self, addr: &EndpointAddr) -> bool {
        let before = self.0.clone();
        for one in &addr.addrs {
            self.0.retain(|other| other != one);
            self.0.push_back(one.clone());
        }
        self.0.drain(..self.0.len().saturating_sub(MAX_ADDRESSES_OF_PEER));
        self.0.len() != before.len() || self.0.iter().any(|one| !before.contains(one))
    }

    pub(super) fn of(&self, peer: PeerId) -> EndpointAddr {
        EndpointAddr::from_parts(peer, self.0.iter().cloned())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn ips(&self) -> impl Iterator<Item = SocketAddr> {
        self.0.iter().filter_map(|one| match one {
            TransportAddr::Ip(at) => Some(*at),
            _ => None,
        })
    }
}

/// The addresses of chosen peers.
#[derive(Default)]
pub(super) struct Chosen {
    addresses: HashMap<PeerId, Addresses>,
    peers: HashMap<SocketAddr, PeerId>,
}

impl Chosen {
    /// Notes addresses of a peer. Returns true if that changes which there are.
    pub(super) fn add(&mut self, addr: &EndpointAddr) -> bool {
        if self.addresses.len() >= MAX_REMEMBERED_PEERS && !self.addresses.contains_key(&addr.id) {
            // Some peer makes room. It is met as a newcomer next, and is noted again then.
            let other = self.addresses.keys().next().copied();
            other.into_iter().for_each(|other| self.remove(other));
        }
        let addresses = self.addresses.entry(addr.id).or_default();
        let before = addresses.clone();
        let is_news = addresses.learn(addr);
        let gone: Vec<SocketAddr> = before.ips().filter(|at| addresses.ips().all(|now| now != *at)).collect();
        self.is_no_more(addr.id, gone);
        // Another peer that was there before is not any more.
        self.peers.extend(addr.ip_addrs().map(|at| (*at, addr.id)));
        is_news
    }

    fn remove(&mut self, peer: PeerId) {
        let addresses = self.addresses.remove(&peer).unwrap_or_default();
        self.is_no_more(peer, addresses.ips());
    }

    /// Forgets that a peer is there, unless somebody else is by now.
    fn is_no_more(&mut self, peer: PeerId, there: impl IntoIterator<Item = SocketAddr>) {
        for at in there {
            if let Entry::Occupied(of) = self.peers.entry(at)
                && *of.get() == peer
            {
                of.remove();
            }
        }
    }

    /// Notes that somebody else has come from there.
    pub(super) fn forget(&mut self, at: SocketAddr) {
        self.peers.remove(&at);
    }

    /// The chosen peer that was reached there last. It may not be chosen any more.
    pub(super) fn at(&self, at: SocketAddr) -> Option<PeerId> {
        self.peers.get(&at).copied()
    }

    /// The addresses at which a peer was reached.
    pub(super) fn of(&self, peer: PeerId) -> Option<&Addresses> {
        self.addresses.get(&peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_addresses_of_each_chosen_peer_are_known_the_newest_of_them() {
        let mut chosen = Chosen::default();
        let [one, two] = [1, 2].map(|n| iroh::SecretKey::from_bytes(&[n; 32]).public());
        let at = |port: u16| SocketAddr::from(([192, 0, 2, 1], port));
        let choose = |chosen: &mut Chosen, peer, port| chosen.add(&EndpointAddr::new(peer).with_ip_addr(at(port)));
        assert!((1..=100).rev().all(|port| choose(&mut chosen, one, port)), "the newest is not the highest");
        let known = (1..=100).filter(|port| chosen.at(at(*port)) == Some(one)).count();
        assert_eq!((known, chosen.at(at(1))), (MAX_ADDRESSES_OF_PEER, Some(one)));
        assert!(!choose(&mut chosen, one, 8), "it is known there");
        choose(&mut chosen, two, 1);
        choose(&mut chosen, one, 2);
        assert_eq!((chosen.at(at(1)), chosen.at(at(2))), (Some(two), Some(one)));
        for port in 200..=300 {
            choose(&mut chosen, one, port);
        }
        assert_eq!(chosen.at(at(1)), Some(two), "another peer has it now");
        chosen.forget(at(300));
        let dialled = chosen.of(one).map(|addresses| addresses.of(one).addrs.len());
        assert_eq!((chosen.at(at(300)), dialled), (None, Some(MAX_ADDRESSES_OF_PEER)));
    }
}
