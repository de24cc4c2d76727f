//! The account of this device that owns the client's socket of a connection.
//!
//! A browser sends a cookie to every port of a host, and the arguments of a program can be read by all accounts of a device.
//! So neither a session nor a link that a browser is started with is a secret between accounts, and both are bound to one.
//! Linux says which account a socket belongs to in /proc/net/tcp (proc(5)). Elsewhere they are bound to none.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    sync::{Arc, OnceLock},
};

/// The client of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// This account of this device.
    Account(u32),
    /// It has gone, and what it leaves behind belongs to nobody.
    Gone,
    /// Another device, or the system does not say.
    Unknown,
}

impl Caller {
    /// Whether the client may use a session or a link that is bound to this account.
    pub(crate) fn may_be(self, account: u32) -> bool {
        match self {
            Self::Account(own) => own == account,
            Self::Gone => false,
            Self::Unknown => true,
        }
    }

    pub(crate) fn account(self) -> Option<u32> {
        match self {
            Self::Account(account) => Some(account),
            Self::Gone | Self::Unknown => None,
        }
    }
}

/// The two addresses of a connection. The client is looked up at the first request with a session or a link, and cached.
#[derive(Debug, Clone)]
pub(crate) struct Ends {
    pub(crate) theirs: SocketAddr,
    pub(crate) ours: SocketAddr,
    found: Arc<OnceLock<Caller>>,
}

impl Ends {
    pub(crate) fn new(theirs: SocketAddr, ours: SocketAddr) -> Self {
        Self { theirs, ours, found: Arc::default() }
    }

    /// Returns true if the client was looked up before.
    pub(crate) fn is_known(&self) -> bool {
        self.found.get().is_some()
    }

    pub(crate) fn caller(&self) -> Caller {
        *self.found.get_or_init(|| {
            let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
            // Without IPv6 the second is not there.
            if tables.iter().all(Result::is_err) {
                return Caller::Unknown;
            }
            let found = tables.iter().flatten().find_map(|table| owner(table, self.theirs, self.ours));
            match found {
                Some(account) => Caller::Account(account),
                None if self.is_within() => Caller::Gone,
                None => Caller::Unknown,
            }
        })
    }

    /// Whether the client is on this device. A local client can choose any address of the device as its source, so loopback
    /// alone does not tell.
    fn is_within(&self) -> bool {
        let is_loopback = |addr: SocketAddr| addr.ip().to_canonical().is_loopback();
        // An address that a socket can be bound to is this device's.
        let is_own = || {
            let at = match self.theirs {
                // An address of one link can be bound only with that link.
                SocketAddr::V6(mut at) if at.ip().to_canonical().is_ipv6() => {
                    at.set_port(0);
                    at.into()
                }
                at => SocketAddr::new(at.ip().to_canonical(), 0),
            };
            UdpSocket::bind(at).is_ok()
        };
        is_loopback(self.theirs) || is_loopback(self.ours) || is_own()
    }
}

/// Whose socket it is, by a table of the system, that has these two ends.
fn owner(table: &str, local: SocketAddr, remote: SocketAddr) -> Option<u32> {
    // An IPv4 address may stand on a socket of IPv6.
    let plain = |addr: SocketAddr| SocketAddr::new(addr.ip().to_canonical(), addr.port());
    let forms = [(hex(plain(local)), hex(plain(remote))), (hex(mapped(local)), hex(mapped(remote)))];
    table.lines().skip(1).find_map(|line| {
        // Its number, both ends, its state (established), queues, timers, retries, the account.
        let fields: Vec<&str> = line.split_ascii_whitespace().take(8).collect();
        let [_, from, to, "01", _, _, _, account] = *fields.as_slice() else { return None };
        forms.iter().any(|(local, remote)| from == local && to == remote).then(|| account.parse().ok()).flatten()
    })
}

/// The form of an IPv4 address on a socket of IPv6.
fn mapped(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), addr.port()),
        ip @ IpAddr::V6(_) => SocketAddr::new(ip, addr.port()),
    }
}

/// As the tables have it: words of 32 bits in the processor's own order.
fn hex(addr: SocketAddr) -> String {
    let words = |bytes: &[u8]| -> String {
        let words = bytes.chunks_exact(4).map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
        words.map(|word| format!("{word:08X}")).collect()
    };
    let ip = match addr.ip() {
        IpAddr::V4(ip) => words(&Ipv4Addr::octets(&ip)),
        IpAddr::V6(ip) => words(&ip.octets()),
    };
    format!("{ip}:{:04X}", addr.port())
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::unix::fs::MetadataExt,
    };

    use super::*;

    #[test]
    fn the_other_end_is_known_until_it_has_gone() {
        let own = Caller::Account(fs::metadata("/proc/self").unwrap().uid());
        for addr in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let listener = TcpListener::bind(addr).unwrap();
            let addr = listener.local_addr().unwrap();
            let to = if addr.ip().is_unspecified() { (Ipv4Addr::LOCALHOST, addr.port()).into() } else { addr };
            let client = TcpStream::connect(to).unwrap();
            let (server, theirs) = listener.accept().unwrap();
            let ours = server.local_addr().unwrap();
            assert_eq!(Ends::new(theirs, ours).caller(), own, "{addr}");
            let other = SocketAddr::new(theirs.ip(), theirs.port() ^ 1);
            assert_eq!(Ends::new(other, ours).caller(), Caller::Gone, "a port that nobody has");
            drop(client);
            assert_eq!(Ends::new(theirs, ours).caller(), Caller::Gone);
        }
    }

    /// A program may choose any address of the device for its own end.
    #[test]
    fn an_end_at_another_address_of_the_device_is_known_too() {
        // Asks where packets to elsewhere would come from, and sends none.
        let probe = UdpSocket::bind("0.0.0.0:0").unwrap();
        let Ok(()) = probe.connect("192.0.2.1:9") else {
            println!("not shown: this device has no other address");
            return;
        };
        let other = probe.local_addr().unwrap().ip();
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect((other, port)).unwrap();
        let (server, theirs) = listener.accept().unwrap();
        let ours = server.local_addr().unwrap();
        let own = Caller::Account(fs::metadata("/proc/self").unwrap().uid());
        assert_eq!((theirs.ip(), Ends::new(theirs, ours).caller()), (other, own));
        drop(client);
        for ours in [ours, SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)] {
            assert_eq!(Ends::new(theirs, ours).caller(), Caller::Gone, "{ours}");
        }
    }

    #[test]
    fn an_account_has_what_is_bound_to_it_alone() {
        assert!(Caller::Account(7).may_be(7) && Caller::Unknown.may_be(7));
        assert!(!Caller::Account(8).may_be(7) && !Caller::Account(0).may_be(7) && !Caller::Gone.may_be(7));
        let far = Ends::new("192.0.2.1:5".parse().unwrap(), "192.0.2.2:80".parse().unwrap());
        assert_eq!(far.caller(), Caller::Unknown);
    }
}
