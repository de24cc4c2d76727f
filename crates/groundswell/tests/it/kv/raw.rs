//! A peer that speaks the protocols of machines and managers by hand, with any identity; and what a data
//! directory says that nobody has open.
#![allow(unreachable_pub)] // as in a library

use std::{net::SocketAddr, path::Path};

use groundswell::PeerTicket;
use groundswell_core::{
    encoding::decode,
    kv::wire::{Held, KvHello},
    wire::{Extension, StreamKind, encode_frame},
};
use iroh::{
    Endpoint, EndpointAddr, SecretKey,
    endpoint::{Connection, QuicTransportConfig, ReadError, ReadExactError, RecvStream, SendStream, presets},
};
use iroh_docs::NamespaceSecret;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::Serialize;

use crate::{
    common::raw::{self, ALPN},
    kv::common::within,
};

/// The code with which a stream ends whose peer shares no such document.
pub const NOT_PAIRED: u64 = 6;

/// The code with which one ends whose document was given up.
pub const RELEASED: u64 = 8;

/// An endpoint on loopback, with this identity or a new one.
pub async fn endpoint(key: Option<SecretKey>) -> Endpoint {
    endpoint_at(key, "127.0.0.1:0".parse().unwrap()).await
}

/// An endpoint at this address.
pub async fn endpoint_at(key: Option<SecretKey>, addr: SocketAddr) -> Endpoint {
    endpoint_with(key, addr, QuicTransportConfig::default()).await
}

/// An endpoint on loopback that grants the other side as little as this says.
pub async fn grudging_endpoint(key: Option<SecretKey>, transport: QuicTransportConfig) -> Endpoint {
    endpoint_with(key, "127.0.0.1:0".parse().unwrap(), transport).await
}

async fn endpoint_with(key: Option<SecretKey>, addr: SocketAddr, transport: QuicTransportConfig) -> Endpoint {
    let builder = Endpoint::builder(presets::Minimal).secret_key(key.unwrap_or_else(SecretKey::generate));
    let builder = builder.transport_config(transport);
    let builder = builder.alpns(vec![ALPN.to_vec()]).clear_ip_transports();
    builder.bind_addr(addr).unwrap().bind().await.unwrap()
}

/// The address in a ticket.
pub fn address(ticket: &PeerTicket) -> EndpointAddr {
    use iroh_tickets::Ticket as _;
    iroh_tickets::endpoint::EndpointTicket::decode_string(&ticket.to_string()).unwrap().endpoint_addr().clone()
}

/// The ticket of a raw endpoint.
pub fn ticket(endpoint: &Endpoint) -> PeerTicket {
    use iroh_tickets::Ticket as _;
    let addr = EndpointAddr::new(endpoint.id()).with_ip_addr(endpoint.bound_sockets()[0]);
    iroh_tickets::endpoint::EndpointTicket::new(addr).encode_string().parse().unwrap()
}

/// What a data directory holds.
pub struct Stored {
    pub key: SecretKey,
    /// The documents' secrets, the oldest first.
    pub secrets: Vec<[u8; 32]>,
    pub entries: Vec<StoredEntry>,
}

/// An entry as it is stored: whose it is, its place in the document, and what signs it.
pub struct StoredEntry {
    /// 0 for the machine's, 1 for the manager's.
    pub author: u8,
    pub key: [u8; 32],
    pub counter: u64,
    pub signatures: Vec<u8>,
    pub envelope: Vec<u8>,
}

impl StoredEntry {
    /// The hash of its content, as iroh-blobs would name it.
    pub fn hash(&self) -> [u8; 32] {
        *blake3::hash(&self.envelope).as_bytes()
    }
}

impl Stored {
    /// Of a directory whose machine or manager was shut down.
    pub fn read(dir: &Path) -> Self {
        const DOCUMENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("documents");
        const ENTRIES: TableDefinition<'_, (u64, u8, [u8; 32]), &[u8]> = TableDefinition::new("entries");
        let key = std::fs::read(dir.join("secret.key")).unwrap().try_into().unwrap();
        let database = Database::open(dir.join("node.redb")).unwrap();
        let reading = database.begin_read().unwrap();
        let documents = reading.open_table(DOCUMENTS).unwrap();
        let secret = |row: &[u8]| row[..32].try_into().unwrap();
        let secrets = documents.iter().unwrap().map(|row| secret(row.unwrap().1.value())).collect();
        let table = reading.open_table(ENTRIES).unwrap();
        let mut entries = Vec::new();
        for row in table.iter().unwrap() {
            let (place, row) = row.unwrap();
            let ((_, author, key), row) = (place.value(), row.value());
            let (counter, signatures) = (u64::from_le_bytes(row[..8].try_into().unwrap()), row[8..8 + 128].to_vec());
            entries.push(StoredEntry { author, key, counter, signatures, envelope: row[8 + 128..].to_vec() });
        }
        Self { key: SecretKey::from_bytes(&key), secrets, entries }
    }

    /// The documents' ids, the oldest first.
    pub fn documents(&self) -> Vec<[u8; 32]> {
        self.secrets.iter().map(|secret| NamespaceSecret::from_bytes(secret).id().to_bytes()).collect()
    }
}

/// Sends one message.
pub async fn say<M: Serialize>(send: &mut SendStream, message: &M) {
    let mut frame = Vec::new();
    encode_frame(message, &mut frame).unwrap();
    // The other side may have closed the connection already; what it did is looked at by who reads.
    let _ = send.write_all(&frame).await;
}

/// Reads one frame's body; `None` where there is none.
pub async fn hear(recv: &mut RecvStream) -> Option<Vec<u8>> {
    let mut header = [0; 4];
    recv.read_exact(&mut header).await.ok()?;
    let mut body = vec![0; u32::from_le_bytes(header) as usize];
    recv.read_exact(&mut body).await.ok()?;
    Some(body)
}

/// A connection on which this side has said hello.
pub async fn connect(from: &Endpoint, to: EndpointAddr) -> Connection {
    let connection = within("a connection", from.connect(to, ALPN)).await.unwrap();
    raw::hello(&connection).await;
    connection
}

/// Opens a stream of a kind, unless the other side closes the connection first.
pub async fn open(connection: &Connection, kind: StreamKind) -> Option<(SendStream, RecvStream)> {
    let (mut send, recv) = within("a stream", connection.open_bi()).await.ok()?;
    // The other side may have ended it already.
    let _ = send.write_all(&[kind.byte()]).await;
    Some((send, recv))
}

/// A connection and a stream of a kind.
pub async fn begin(from: &Endpoint, to: EndpointAddr, kind: StreamKind) -> (Connection, SendStream, RecvStream) {
    let connection = connect(from, to).await;
    let (send, recv) = open(&connection, kind).await.unwrap();
    (connection, send, recv)
}

/// Waits for a stream of this kind that the other side opens. The others are let go of.
pub async fn accept(connection: &Connection, kind: StreamKind) -> (SendStream, RecvStream) {
    loop {
        let (send, mut recv) = within("a stream", connection.accept_bi()).await.unwrap();
        let mut first = [0];
        if recv.read_exact(&mut first).await.is_ok() && first[0] == kind.byte() {
            return (send, recv);
        }
    }
}

/// A stream that came, with its connection.
pub type Came = (Connection, SendStream, RecvStream);

/// Takes connections, and the streams of this kind that other sides open on them, while the endpoint is open.
pub fn accept_all(endpoint: &Endpoint, kind: StreamKind) -> tokio::sync::mpsc::UnboundedReceiver<Came> {
    let (came, streams) = tokio::sync::mpsc::unbounded_channel();
    let endpoint = endpoint.clone();
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            let Ok(connection) = incoming.await else { continue };
            let came = came.clone();
            tokio::spawn(async move {
                raw::hello(&connection).await;
                while let Ok((send, mut recv)) = connection.accept_bi().await {
                    let mut first = [0];
                    if recv.read_exact(&mut first).await.is_ok() && first[0] == kind.byte() {
                        let _ = came.send((connection.clone(), send, recv));
                    }
                }
            });
        }
    });
    streams
}

/// The code with which the other side ends a stream. What it sends before that is let go of.
pub async fn ended(recv: &mut RecvStream) -> u64 {
    within("the stream to be ended", async {
        loop {
            match recv.read_exact(&mut [0]).await {
                Ok(()) => {}
                Err(ReadExactError::ReadError(ReadError::Reset(code))) => return code.into_inner(),
                // It may have been told before.
                Err(other) => match recv.received_reset().await {
                    Ok(Some(code)) => return code.into_inner(),
                    _ => panic!("{other}"),
                },
            }
        }
    })
    .await
}

/// A stream for a document, and what the other side said on it.
pub struct Knock {
    pub connection: Connection,
    /// The hello of the other side, if there was one.
    pub hello: Option<KvHello>,
    pub recv: RecvStream,
    pub send: SendStream,
}

impl Knock {
    /// The code with which the other side ends the stream.
    pub async fn ended(&mut self) -> u64 {
        ended(&mut self.recv).await
    }
}

/// The hello of one that has nothing of this document yet.
pub fn hello(document: [u8; 32]) -> KvHello {
    let extension = Extension::new(b"of a later version").unwrap();
    KvHello { document, wall_ms: 0, held: Held::default(), extension }
}

/// Asks for a document, as one that has nothing of it yet.
pub async fn knock(from: &Endpoint, to: EndpointAddr, document: [u8; 32]) -> Knock {
    knock_on(connect(from, to).await, document).await
}

/// The same on this connection.
pub async fn knock_on(connection: Connection, document: [u8; 32]) -> Knock {
    let (mut send, mut recv) = open(&connection, StreamKind::Document).await.unwrap();
    say(&mut send, &hello(document)).await;
    let heard = within("an answer", hear(&mut recv)).await;
    Knock { connection, hello: heard.map(|body| decode(&body).unwrap()), recv, send }
}

/// Asks for a document in all ways, and gets not a byte of an answer; with which code it is shut out.
pub async fn shut_out(from: &Endpoint, to: &EndpointAddr, document: [u8; 32]) -> u64 {
    let mut knock = knock(from, to.clone(), document).await;
    assert_eq!(knock.hello, None);
    assert_eq!(knock.ended().await, NOT_PAIRED);
    // And without a word, and for a reconciliation.
    let (_send, mut recv) = open(&knock.connection, StreamKind::Reconciliation).await.unwrap();
    assert_ne!(ended(&mut recv).await, NOT_PAIRED, "it is said of documents alone");
    let (_send, mut recv) = open(&knock.connection, StreamKind::Document).await.unwrap();
    ended(&mut recv).await
}
