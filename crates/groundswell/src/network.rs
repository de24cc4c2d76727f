//! The endpoint of a node: how it is bound, found, and kept alive; and the codes that close
//! its connections.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use groundswell_core::wire::PROTOCOL_VERSIONS;
use iroh::{
    Endpoint, EndpointAddr, SecretKey,
    endpoint::{
        Builder, ConnectOptions, Connection, ConnectionError, IdleTimeout, PortmapperConfig, QuicTransportConfig,
        SendStream, ServerConfig, VarInt, presets,
    },
};

use crate::{
    Moment,
    error::OpenError,
    frames::FrameReader,
    lan::LanLookupBuilder,
    limits::{
        FOLLOWER_WINDOW_BYTES, IDLE_TIMEOUT, KEEP_ALIVE, MAX_CONNECTIONS_OF_PEER, MAX_FOLLOWERS, MAX_PARKED_OF_PEER,
        MAX_SUBSCRIPTIONS_OF_PEER, NARROW_SEND_WINDOW_BYTES, NEWCOMER_SEND_WINDOW_BYTES, RECEIVE_WINDOW_BYTES,
        SEND_WINDOW_BYTES, STRANGER_STREAMS, STRANGER_WINDOW_BYTES,
    },
};

/// The one protocol of a node. Its hello says which versions a side speaks, so that two versions can refuse each other
/// politely; this changes only when that could not work.
pub(crate) const ALPN: &[u8] = b"groundswell/surf";

/// The protocols that documents and claims had before version 3. A peer that speaks them is told to update.
pub(crate) const FORMER_ALPNS: [&[u8]; 2] = [b"groundswell/kv", b"groundswell/claim"];

/// How often, and how far apart, the port of the last run is tried before another is taken.
const PORT_TRIES: u32 = 5;
const PORT_WAIT: Duration = Duration::from_millis(50);

/// Why a connection is closed, or a stream reset: the codes on the wire. They are part of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloseCode {
    /// The node shuts down. A stream of a document that is dropped has it too.
    ShutDown = 0,
    /// The two sides speak no common version of the protocol.
    Version = 1,
    /// The peer has too many connections already.
    TooManyConnections = 2,
    /// The peer did not say hello, or not as it should.
    Hello = 3,
    /// Another connection of the same peer, or another stream of the same document, has taken its place.
    Superseded = 4,
    /// The peer broke the protocol.
    Violation = 5,
    /// This side knows of no such document of the peer's. It proves nothing: its files may be lost.
    NotPaired = 6,
    /// Not now: ask again later.
    Later = 7,
    /// This side has given the document up, durably. It answers a signed release, and ends no pairing by itself.
    Released = 8,
    /// The budget of bytes for this document, or of all documents, is used up here.
    Full = 9,
    /// This node takes only peers that it knows.
    Private = 16,
    /// There is no room for this peer among those that this node does not know.
    Crowded = 17,
    /// Neither side wants anything of the other on this connection.
    Unused = 18,
}

impl CloseCode {
    const ALL: [Self; 13] = [
        Self::ShutDown,
        Self::Version,
        Self::TooManyConnections,
        Self::Hello,
        Self::Superseded,
        Self::Violation,
        Self::NotPaired,
        Self::Later,
        Self::Released,
        Self::Full,
        Self::Private,
        Self::Crowded,
        Self::Unused,
    ];

    pub(crate) fn code(self) -> VarInt {
        VarInt::from_u32(self as u32)
    }

    /// The code with which a peer has reset a stream, if it is one of these.
    pub(crate) fn of(code: VarInt) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.code() == code)
    }

    pub(crate) fn reason(self) -> String {
        match self {
            Self::ShutDown => "shutting down".to_owned(),
            Self::Version => format!("no common version: this node speaks {PROTOCOL_VERSIONS} of the protocol"),
            Self::TooManyConnections => format!(
                "this peer has {MAX_CONNECTIONS_OF_PEER} connections here, the most that a peer may have: use or close one"
            ),
            Self::Hello => "no proper hello".to_owned(),
            Self::Superseded => "superseded by another connection".to_owned(),
            Self::Violation => "protocol violation".to_owned(),
            Self::NotPaired => "there is no such document for this peer".to_owned(),
            Self::Later => "not now, ask again later".to_owned(),
            Self::Released => "the document was given up".to_owned(),
            Self::Full => "the other side's budget of bytes for this document is used up: delete keys or write smaller values, or raise \
                           the budget there"
                .to_owned(),
            Self::Private => "this node is private: it takes only peers that it knows".to_owned(),
            Self::Crowded => format!(
                "this node has {MAX_FOLLOWERS} connections of followers, or newer peers needed the place: try again later, or have its owner allow this peer by name"
            ),
            Self::Unused => "nothing is wanted of this connection".to_owned(),
        }
    }

    /// Closes a connection for this reason.
    pub(crate) fn close(self, connection: &Connection) {
        connection.close(self.code(), self.reason().as_bytes());
    }

    /// Ends a stream for this reason. What is on its way in either direction is lost.
    pub(crate) fn end(self, send: &mut SendStream, reader: &mut FrameReader) {
        // Either half may have ended already.
        let _ = send.reset(self.code());
        reader.stop(self);
    }

    /// Returns true if the peer has closed the connection with this code.
    pub(crate) fn is(self, error: &ConnectionError) -> bool {
        matches!(error, ConnectionError::ApplicationClosed(close) if close.error_code == self.code())
    }
}

/// How a node is on the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NetworkConfig {
    /// Whether n0's public relays and look-up are used.
    pub(crate) public: bool,
    /// The one address to bind, or every interface.
    pub(crate) bind: Option<SocketAddr>,
}

impl NetworkConfig {
    /// Whether peers on the local network are found: never from a node that only loopback reaches.
    fn local_discovery(&self) -> bool {
        self.bind.is_none_or(|bind| !bind.ip().is_loopback())
    }

    /// Whether anything can look up the address of a peer.
    pub(crate) fn can_look_up(&self) -> bool {
        self.public || self.local_discovery()
    }
}

/// Binds the endpoint, at the port it had before if that is free.
pub(crate) async fn bind(
    config: &NetworkConfig,
    key: SecretKey,
    last_port: Option<u16>,
) -> Result<Endpoint, OpenError> {
    if let Some(port) = last_port {
        // A process that has just ended may hold it for a moment longer.
        for _ in 0..PORT_TRIES {
            if let Ok(endpoint) = bind_port(config, key.clone(), port).await {
                return Ok(endpoint);
            }
            tokio::time::sleep(PORT_WAIT).await;
        }
    }
    bind_port(config, key, 0).await.map_err(OpenError::Network)
}

async fn bind_port(config: &NetworkConfig, key: SecretKey, last_port: u16) -> Result<Endpoint, String> {
    let mut builder = if config.public { Builder::new(presets::N0) } else { Builder::new(presets::Minimal) };
    builder = builder.secret_key(key).transport_config(transport(SEND_WINDOW_BYTES)?).clear_ip_transports();
    let bind_to = |builder: Builder, addr: SocketAddr| builder.bind_addr(addr).map_err(|error| error.to_string());
    builder = match config.bind {
        Some(addr) => {
            let port = if addr.port() == 0 { last_port } else { addr.port() };
            bind_to(builder, SocketAddr::new(addr.ip(), port))?
        }
        None => {
            let both = bind_to(builder, (Ipv4Addr::UNSPECIFIED, last_port).into())?;
            let optional = iroh::endpoint::BindOpts::default().set_is_required(false);
            both.bind_addr_with_opts((Ipv6Addr::UNSPECIFIED, last_port), optional).map_err(|error| error.to_string())?
        }
    };
    if !config.public {
        // Without the public services no gateway is asked for anything either.
        builder = builder.portmapper_config(PortmapperConfig::Disabled);
    }
    if config.local_discovery() {
        builder = builder.address_lookup(LanLookupBuilder);
    }
    builder.bind().await.map_err(|error| error.to_string())
}

/// How a connection is taken whose peer comes from an address of which this node knows nothing: what may be on its way to it is
/// less, whoever it turns out to be, since that cannot be changed once there is a connection.
pub(crate) struct ForNewcomers {
    /// For so many at once ([`MAX_WIDE_NEWCOMERS`](crate::limits::MAX_WIDE_NEWCOMERS)).
    pub(crate) wide: Arc<ServerConfig>,
    /// For all others.
    pub(crate) narrow: Arc<ServerConfig>,
}

impl ForNewcomers {
    pub(crate) fn new(endpoint: &Endpoint, alpns: &[Vec<u8>]) -> Result<Self, String> {
        let config = |window| {
            let builder = endpoint.create_server_config_builder(alpns.to_vec());
            Ok::<_, String>(Arc::new(builder.set_transport_config(transport(window)?).build()))
        };
        Ok(Self { wide: config(NEWCOMER_SEND_WINDOW_BYTES)?, narrow: config(NARROW_SEND_WINDOW_BYTES)? })
    }
}

/// Dials a peer. What may be on its way to it is less where this node does not know it.
pub(crate) async fn connect(endpoint: &Endpoint, addr: EndpointAddr, known: bool) -> Result<Connection, String> {
    // Its words, or a name that somebody else has given.
    let visible = |error: &dyn std::fmt::Display| groundswell_core::Visible(error).to_string();
    if known {
        return endpoint.connect(addr, ALPN).await.map_err(|error| visible(&error));
    }
    let options = ConnectOptions::new().with_transport_config(transport(NARROW_SEND_WINDOW_BYTES)?);
    let connecting = endpoint.connect_with_opts(addr, ALPN, options).await.map_err(|error| visible(&error))?;
    connecting.await.map_err(|error| visible(&error))
}

fn transport(send_window: u64) -> Result<QuicTransportConfig, String> {
    let idle = IdleTimeout::try_from(IDLE_TIMEOUT).map_err(|error| error.to_string())?;
    Ok(QuicTransportConfig::builder()
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(KEEP_ALIVE)
        .default_path_max_idle_timeout(IDLE_TIMEOUT)
        .default_path_keep_alive_interval(KEEP_ALIVE)
        // What a peer may have on its way to us, on all its streams together, until it has said hello.
        .receive_window(VarInt::from_u32(STRANGER_WINDOW_BYTES))
        .max_concurrent_bidi_streams(VarInt::from_u32(STRANGER_STREAMS - 1))
        // Hello is the only one.
        .max_concurrent_uni_streams(VarInt::from_u32(1))
        // Nobody reads datagrams, so that none are kept.
        .datagram_receive_buffer_size(None)
        .send_window(send_window)
        .build())
}

/// How many streams a peer may have open on a connection: a few more than are served, so that one too many is refused in
/// words.
pub(crate) const STREAMS: u32 = MAX_SUBSCRIPTIONS_OF_PEER + MAX_PARKED_OF_PEER + 16;

/// Lets a peer that has said hello open so many streams.
pub(crate) fn allow_streams(connection: &Connection, streams: u32) {
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(streams.min(STREAMS)));
}

/// A peer that has said hello may send requests.
pub(crate) fn allow_requests(connection: &Connection) {
    connection.set_receive_window(VarInt::from_u32(FOLLOWER_WINDOW_BYTES));
}

/// A peer that this node follows, or shares a document with, has much to send.
pub(crate) fn widen(connection: &Connection) {
    connection.set_receive_window(VarInt::from_u32(RECEIVE_WINDOW_BYTES));
}

/// When a connection that has ended was of use last: one that fell silent was of none since, and its end is noticed only
/// [`IDLE_TIMEOUT`] later.
pub(crate) fn lost_at(connection: &Connection) -> Moment {
    match connection.close_reason() {
        Some(ConnectionError::TimedOut) => Moment::ago(IDLE_TIMEOUT),
        _ => Moment::now(),
    }
}

/// Where this node can be reached, for its ticket.
pub(crate) fn own_address(endpoint: &Endpoint) -> EndpointAddr {
    let mut addr = endpoint.addr();
    if addr.is_empty() {
        // Loopback is not among what iroh advertises; a node that is bound to it is reached there.
        for bound in endpoint.bound_sockets() {
            if bound.ip().is_loopback() {
                addr = addr.with_ip_addr(bound);
            }
        }
    }
    addr
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a local network peers find each other by mDNS too, public look-up or not; one that is bound
    /// to loopback, which no other machine reaches, tells nobody.
    #[test]
    fn local_discovery_is_for_who_can_be_reached() {
        for public in [true, false] {
            let found = |bind: Option<&str>| {
                NetworkConfig { public, bind: bind.map(|addr| addr.parse().unwrap()) }.local_discovery()
            };
            assert!(found(None));
            assert!(found(Some("192.0.2.1:0")));
            assert!(!found(Some("127.0.0.1:0")));
        }
    }
}
