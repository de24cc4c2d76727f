//! A peer that speaks the protocols of machines and managers by hand, with any identity; and what a data
//! directory says that nobody has open.
#![allow(unreachable_pub)] // as in a library

use std::{net::SocketAddr, path::Path};

use groundswell::PeerTicket;
use groundswell_core::{
    encoding::decode,
    kv::wire::{Held, KV_PROTOCOL_VERSIONS, KvHello},
    wire::{BootId, Extension, VersionRange, encode_frame},
};
use iroh::{
    Endpoint, EndpointAddr, SecretKey,
    endpoint::{Connection, ConnectionError, QuicTransportConfig, RecvStream, SendStream, presets},
};
use iroh_docs::NamespaceSecret;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::Serialize;

use crate::kv::common::within;

pub const KV_ALPN: &[u8] = b"groundswell/kv";
pub const CLAIM_ALPN: &[u8] = b"groundswell/claim";

/// The code with which a connection is closed whose peer shares no such document.
pub const NOT_PAIRED: u64 = 6;

/// The code with which one is closed whose document was given up.
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
    let builder = builder.alpns(vec![CLAIM_ALPN.to_vec(), KV_ALPN.to_vec()]).clear_ip_transports();
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
        let database = Database::open(dir.join("kv.redb")).unwrap();
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

/// The code with which the other side closes a connection.
pub async fn closed(connection: &Connection) -> u64 {
    closed_with(connection).await.0
}

/// The code and the reason.
pub async fn closed_with(connection: &Connection) -> (u64, String) {
    match within("the connection to be closed", connection.closed()).await {
        ConnectionError::ApplicationClosed(close) => {
            (close.error_code.into_inner(), String::from_utf8_lossy(&close.reason).into_owned())
        }
        other => panic!("{other}"),
    }
}

/// A connection for a document, and what the other side said on it.
pub struct Knock {
    pub connection: Connection,
    /// The hello of the other side, if there was one.
    pub hello: Option<KvHello>,
    pub recv: RecvStream,
    pub send: SendStream,
}

/// The hello of one that has nothing of this document yet, and speaks these versions.
pub fn hello(document: [u8; 32], versions: VersionRange) -> KvHello {
    let extension = Extension::new(b"of a later version").unwrap();
    KvHello { versions, boot: BootId([9; 16]), document, wall_ms: 0, held: Held::default(), extension }
}

/// Asks for a document, as one that has nothing of it yet.
pub async fn knock(from: &Endpoint, to: EndpointAddr, document: [u8; 32]) -> Option<Knock> {
    knock_speaking(from, to, document, KV_PROTOCOL_VERSIONS).await
}

/// The same as one that speaks these versions.
pub async fn knock_speaking(
    from: &Endpoint,
    to: EndpointAddr,
    document: [u8; 32],
    versions: VersionRange,
) -> Option<Knock> {
    let connection = within("a connection", from.connect(to, KV_ALPN)).await.unwrap();
    // Who is not paired may be shut out before it can say anything.
    let Ok((mut send, mut recv)) = connection.open_bi().await else { return None };
    say(&mut send, &hello(document, versions)).await;
    let heard = within("an answer", hear(&mut recv)).await;
    Some(Knock { connection, hello: heard.map(|body| decode(&body).unwrap()), recv, send })
}

/// Asks for a document in all ways, and gets not a byte of an answer; with which code it is shut out.
pub async fn shut_out(from: &Endpoint, to: &EndpointAddr, document: [u8; 32]) -> u64 {
    if let Some(knock) = knock(from, to.clone(), document).await {
        assert_eq!(knock.hello, None);
        assert_eq!(closed(&knock.connection).await, NOT_PAIRED);
    }
    // And without a word.
    let connection = within("a connection", from.connect(to.clone(), KV_ALPN)).await.unwrap();
    let heard = async {
        let mut recv = connection.accept_uni().await.ok()?;
        recv.read_to_end(1 << 20).await.ok().filter(|bytes| !bytes.is_empty())
    };
    assert_eq!(within("the end", heard).await, None);
    closed(&connection).await
}
