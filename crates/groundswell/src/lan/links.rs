//! The multicast sockets of the look-up on a local network: one for each interface and each of IPv4 and IPv6.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    task::Poll,
    time::{Duration, Instant},
};

use netdev::Interface;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{io::ReadBuf, net::UdpSocket, time::timeout};
use tracing::{debug, warn};

use crate::{
    limits::{LAN_BACKOFF_FIRST, LAN_BACKOFF_LAST, LAN_LOOK_EVERY, LAN_SOCKET_BYTES, MAX_LAN_INTERFACES},
    stranger_log::StrangerLog,
};

const PORT: u16 = 5353;
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);

/// How many hops a packet may have had at most and still come from this very network, as RFC 6762 demands.
const HOPS: u32 = 255;

/// How often the interfaces are looked at at most (1 s): it costs a millisecond.
const LOOK_AT_MOST_EVERY: Duration = Duration::from_secs(1);

/// How long a packet waits for room in a socket (20 ms), so that no interface holds up the others for longer.
const SEND_PATIENCE: Duration = Duration::from_millis(20);

/// An interface, and one of its kinds of address. An IPv4 address that changes makes another one: the socket sends from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Place {
    V4 { interface: u32, addr: Ipv4Addr },
    V6 { interface: u32 },
}

impl Place {
    fn interface(self) -> u32 {
        match self {
            Self::V4 { interface, .. } | Self::V6 { interface } => interface,
        }
    }

    fn group(self) -> SocketAddr {
        match self {
            Self::V4 { .. } => (GROUP_V4, PORT).into(),
            Self::V6 { interface } => SocketAddrV6::new(GROUP_V6, PORT, 0, interface).into(),
        }
    }
}

#[derive(Debug)]
struct Link {
    place: Place,
    socket: UdpSocket,
}

/// When a place is tried again that has failed.
#[derive(Debug)]
struct Failure {
    again: Instant,
    wait: Duration,
}

/// A packet that came.
pub(super) struct Received {
    pub(super) bytes: usize,
    pub(super) interface: u32,
}

#[derive(Debug, Default)]
pub(super) struct Links {
    links: Vec<Link>,
    failures: HashMap<Place, Failure>,
    looked_at: Option<Instant>,
    /// Whose turn it is to be read first, so that a flood on one interface keeps no other waiting.
    turn: usize,
    log: StrangerLog,
}

impl Links {
    /// When the interfaces are to be looked at again, without any other reason.
    pub(super) fn next_look(&self, now: Instant) -> Instant {
        self.looked_at.map_or(now, |at| at + LAN_LOOK_EVERY)
    }

    /// Whether they may have changed since they were looked at: before each packet that is sent, and not more often than that is
    /// worth its cost.
    pub(super) fn is_stale(&self, now: Instant) -> bool {
        self.looked_at.is_none_or(|at| at + LOOK_AT_MOST_EVERY <= now)
    }

    /// Opens sockets on interfaces that are new, and closes those of interfaces that are gone. Returns whether any was opened.
    pub(super) async fn look(&mut self, now: Instant) -> bool {
        self.looked_at = Some(now);
        // It asks the system for each interface, of which there may be many.
        let Ok(interfaces) = tokio::task::spawn_blocking(netdev::get_interfaces).await else { return false };
        let places = places(&interfaces);
        self.links.retain(|link| places.contains(&link.place));
        self.failures.retain(|place, _| places.contains(place));
        let mut opened = false;
        for place in places {
            let waits = self.failures.get(&place).is_some_and(|failure| now < failure.again);
            if waits || self.links.iter().any(|link| link.place == place) {
                continue;
            }
            match open(place) {
                Ok(socket) => {
                    debug!(?place, "mDNS on an interface");
                    self.links.push(Link { place, socket });
                    opened = true;
                }
                Err(error) => self.failed(place, now, &error),
            }
        }
        opened
    }

    /// Closes a socket, for the next look to open it again after a while.
    fn failed(&mut self, place: Place, now: Instant, error: &io::Error) {
        self.links.retain(|link| link.place != place);
        let failure = self.failures.get(&place);
        let wait = failure.map_or(LAN_BACKOFF_FIRST, |failure| (failure.wait * 2).min(LAN_BACKOFF_LAST));
        // Once until it works again.
        if failure.is_none()
            && let Some(left_out) = self.log.line()
        {
            warn!(%error, ?place, left_out, "no mDNS on an interface: peers there are not found by it; it is tried again");
        }
        self.failures.insert(place, Failure { again: now + wait, wait });
    }

    /// Multicasts a packet on each interface.
    pub(super) async fn send(&mut self, packet: &[u8], now: Instant) {
        let mut failed = Vec::new();
        for link in &self.links {
            match timeout(SEND_PATIENCE, link.socket.send_to(packet, link.place.group())).await {
                Ok(Ok(_)) => {
                    self.failures.remove(&link.place);
                }
                Ok(Err(error)) => failed.push((link.place, error)),
                // A packet for which there is no room is lost, as it may be on the way.
                Err(_) => {}
            }
        }
        for (place, error) in failed {
            self.failed(place, now, &error);
        }
    }

    /// Waits for the next packet. Cancel safe.
    pub(super) async fn receive(&mut self, buffer: &mut [u8]) -> Received {
        loop {
            let (place, received) = std::future::poll_fn(|cx| {
                for step in 0..self.links.len() {
                    let at = (self.turn + step) % self.links.len();
                    let Some(link) = self.links.get(at) else { continue };
                    let mut read = ReadBuf::new(buffer);
                    if let Poll::Ready(from) = link.socket.poll_recv_from(cx, &mut read) {
                        let bytes = read.filled().len();
                        self.turn = at + 1;
                        return Poll::Ready((link.place, from.map(|from| (bytes, from))));
                    }
                }
                Poll::Pending
            })
            .await;
            let bytes = match received {
                Ok((bytes, from)) if from.port() == PORT => bytes,
                // It is no mDNS, but a question that would be answered by unicast.
                Ok(_) => 0,
                Err(error) => {
                    self.failed(place, Instant::now(), &error);
                    continue;
                }
            };
            return Received { bytes, interface: place.interface() };
        }
    }
}

/// Where mDNS is used.
fn places(interfaces: &[Interface]) -> Vec<Place> {
    let usable = |one: &&Interface| one.is_up() && one.is_multicast() && !one.is_loopback();
    let mut places = Vec::new();
    for one in interfaces.iter().filter(usable).take(MAX_LAN_INTERFACES) {
        let interface = one.index;
        if let Some(net) = one.ipv4.first() {
            places.push(Place::V4 { interface, addr: net.addr() });
        }
        // An address that the system still looks whether others have it can't be sent from.
        let ready = one.ipv6_addr_flags.iter().any(|flags| !flags.tentative && !flags.duplicated);
        if ready && !one.ipv6.is_empty() {
            places.push(Place::V6 { interface });
        }
    }
    places
}

fn open(place: Place) -> io::Result<UdpSocket> {
    let domain = if matches!(place, Place::V4 { .. }) { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    // Other programs of this machine use the port too.
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    socket.set_recv_buffer_size(LAN_SOCKET_BYTES)?;
    match place {
        Place::V4 { addr, .. } => {
            #[cfg(target_os = "linux")]
            socket.set_multicast_all_v4(false)?;
            socket.bind(&own_address(place).into())?;
            socket.join_multicast_v4(&GROUP_V4, &addr)?;
            socket.set_multicast_if_v4(&addr)?;
            socket.set_multicast_ttl_v4(HOPS)?;
            // Other nodes on this machine are peers too.
            socket.set_multicast_loop_v4(true)?;
        }
        Place::V6 { interface } => {
            socket.set_only_v6(true)?;
            #[cfg(target_os = "linux")]
            socket.set_multicast_all_v6(false)?;
            socket.bind(&own_address(place).into())?;
            socket.join_multicast_v6(&GROUP_V6, interface)?;
            socket.set_multicast_if_v6(interface)?;
            socket.set_multicast_hops_v6(HOPS)?;
            socket.set_multicast_loop_v6(true)?;
        }
    }
    UdpSocket::from_std(socket.into())
}

/// What a socket is bound to: the group, so that it gets neither what other programs of this machine are sent by unicast, nor
/// anything from outside of this network. Windows binds no group.
fn own_address(place: Place) -> SocketAddr {
    match place {
        _ if cfg!(unix) => place.group(),
        Place::V4 { .. } => (Ipv4Addr::UNSPECIFIED, PORT).into(),
        Place::V6 { .. } => (Ipv6Addr::UNSPECIFIED, PORT).into(),
    }
}
