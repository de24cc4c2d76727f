//! The turns of newcomers while a node is crowded.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use iroh::endpoint::IncomingAddr;

use crate::{
    limits::{CROWDED_NEWCOMERS_PER_SECOND, MAX_CROWDED_TURNS, TURN_KEPT},
    source::PeerId,
};

/// Who has a turn together. A host has any number of ports, and of addresses in its network of IPv6.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Origin {
    /// An address of IPv4, or the first 64 bits of one of IPv6.
    Host(IpAddr),
    /// All peers on this computer have one address, so that the port tells them apart. Whoever can send from there is no stranger
    /// from outside.
    Local(SocketAddr),
    /// A peer behind a relay, whose address the relay alone knows.
    Relayed(PeerId),
    Other(String),
}

impl Origin {
    pub(super) fn of(addr: &IncomingAddr) -> Self {
        match addr {
            IncomingAddr::Ip(at) => Self::of_socket(*at),
            IncomingAddr::Relay { endpoint_id, .. } => Self::Relayed(*endpoint_id),
            other => Self::Other(format!("{other:?}")),
        }
    }

    fn of_socket(at: SocketAddr) -> Self {
        match at.ip().to_canonical() {
            ip if ip.is_loopback() => Self::Local(at),
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                Self::Host(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
            }
            ip @ IpAddr::V4(_) => Self::Host(ip),
        }
    }
}

/// The turns of newcomers, one after the other. Nothing is kept of a newcomer but its origin, since QUIC sends its first
/// packet again: whoever comes again at its turn is taken.
#[derive(Default)]
pub(super) struct Turns {
    of: HashMap<Origin, Instant>,
    /// The first turn that nobody has.
    free: Option<Instant>,
}

impl Turns {
    /// Whether somebody has a turn that is still to come.
    pub(super) fn are_taken(&self, now: Instant) -> bool {
        self.free.is_some_and(|free| free > now)
    }

    /// Whether the newcomer from there is taken now. If not, it has a turn, as far as there are any.
    pub(super) fn take(&mut self, from: Origin, now: Instant) -> bool {
        let each = Duration::from_secs(1) / CROWDED_NEWCOMERS_PER_SECOND;
        if let Some(turn) = self.of.get(&from) {
            let is_its_turn = *turn <= now;
            if is_its_turn {
                self.of.remove(&from);
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
            self.of.insert(from, free);
        }
        self.free = Some(free + each);
        free <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(n: usize) -> Origin {
        Origin::Host(IpAddr::from(u32::try_from(n).unwrap().to_be_bytes()))
    }

    /// However many come at once, and however often: so many a second are taken, each in its turn.
    #[test]
    fn newcomers_are_taken_one_after_the_other_whoever_asks_most() {
        let (mut turns, begun) = (Turns::default(), Instant::now());
        let mut taken = Vec::new();
        for ms in 0..5_000 {
            let now = begun + Duration::from_millis(ms);
            // A hundred that ask all the time, and one that comes late and asks once a second.
            let patient = (ms >= 1_000 && ms % 1_000 == 0).then(|| host(100));
            taken.extend((0..100).map(host).chain(patient).filter(|from| turns.take(from.clone(), now)));
        }
        let most = 5 * CROWDED_NEWCOMERS_PER_SECOND as usize + 1;
        assert!(taken.len() <= most && taken.len() + 5 >= most, "{} of {most}", taken.len());
        assert!(taken.contains(&host(100)), "it is not kept out by those who ask more often");
    }

    #[test]
    fn turns_are_few_and_those_that_nobody_takes_are_given_to_others() {
        let (mut turns, begun) = (Turns::default(), Instant::now());
        for n in 0..2 * MAX_CROWDED_TURNS {
            turns.take(host(n), begun);
        }
        assert_eq!(turns.of.len(), MAX_CROWDED_TURNS);
        let last = begun + Duration::from_secs(1) / CROWDED_NEWCOMERS_PER_SECOND * 2_000;
        let late = host(2 * MAX_CROWDED_TURNS);
        assert!(!turns.take(late.clone(), begun), "there are no more turns");
        assert!(turns.take(late, last + TURN_KEPT) && turns.of.is_empty());
    }

    /// Two hosts ask all the time, one of them from a thousand ports: each gets half of the turns.
    #[test]
    fn a_host_with_many_ports_has_the_turns_of_one() {
        let at = |text: &str, port: u16| Origin::of_socket(SocketAddr::new(text.parse().unwrap(), port));
        for [many, one] in [["192.0.2.1", "192.0.2.2"], ["2001:db8::1", "2001:db8:0:1::1"]] {
            let (mut turns, begun) = (Turns::default(), Instant::now());
            let (mut of_many, mut of_one) = (0, 0);
            for ms in 0..2_000 {
                let now = begun + Duration::from_millis(ms);
                of_many += (1..=1_000).filter(|port| turns.take(at(many, *port), now)).count();
                of_one += usize::from(turns.take(at(one, 7), now));
            }
            assert!(
                of_one > CROWDED_NEWCOMERS_PER_SECOND as usize * 3 / 4 && of_many <= of_one + 2,
                "{of_many} of many ports, {of_one} of one"
            );
        }
        assert_eq!(at("2001:db8::1", 1), at("2001:db8::ffff:1", 2), "one network has one turn");
        assert_eq!(at("::ffff:192.0.2.1", 1), at("192.0.2.1", 2));
        assert_ne!(at("127.0.0.1", 1), at("127.0.0.1", 2), "peers on this computer have nothing but their ports");
    }
}
