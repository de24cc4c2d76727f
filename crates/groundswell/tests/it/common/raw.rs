//! A peer that speaks the protocol by hand, so that it can break it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // each test binary uses some of it

use std::net::SocketAddr;

use groundswell::{LakeId, Name, PeerTicket};
use groundswell_core::{
    Cursor,
    encoding::decode,
    wire::{BootId, Extension, Hello, Message, PROTOCOL_VERSIONS, StreamKind, Surf, VersionRange, encode_frame},
};
use iroh::{
    Endpoint, EndpointAddr,
    endpoint::{Connection, QuicTransportConfig, RecvStream, SendStream, presets},
};

pub const ALPN: &[u8] = b"groundswell/surf";

/// An endpoint on loopback, for our protocol.
pub async fn endpoint() -> Endpoint {
    endpoint_that_takes(None).await
}

/// An endpoint at this address.
pub async fn endpoint_at(at: SocketAddr) -> Endpoint {
    endpoint_with(at, None).await
}

/// One on loopback, which takes so many bytes on a stream before it reads.
pub async fn endpoint_that_takes(stream_bytes: Option<u32>) -> Endpoint {
    endpoint_with(([127, 0, 0, 1], 0).into(), stream_bytes).await
}

async fn endpoint_with(at: SocketAddr, stream_bytes: Option<u32>) -> Endpoint {
    // As many streams as a node takes.
    let mut transport = QuicTransportConfig::builder().max_concurrent_bidi_streams(2_016u32.into());
    if let Some(bytes) = stream_bytes {
        transport = transport.stream_receive_window(bytes.into());
    }
    let transport = transport.build();
    let builder = Endpoint::builder(presets::Minimal).alpns(vec![ALPN.to_vec()]).clear_ip_transports();
    let builder = builder.transport_config(transport);
    builder.bind_addr(at).unwrap().bind().await.unwrap()
}

/// The address in a node's ticket.
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

/// A frame with any body.
pub fn frame(body: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
    frame.extend_from_slice(body);
    frame
}

pub fn message_frame(message: &Message<'_>) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_frame(message, &mut frame).unwrap();
    frame
}

/// Says something in place of hello, unless the node closes the connection first.
pub async fn say(connection: &Connection, bytes: &[u8]) {
    if let Ok(mut stream) = connection.open_uni().await
        && stream.write_all(bytes).await.is_ok()
    {
        let _ = stream.finish();
    }
}

/// Says hello as one should.
pub async fn hello(connection: &Connection) {
    hello_speaking(connection, PROTOCOL_VERSIONS).await;
}

/// Says hello as one that speaks these versions.
pub async fn hello_speaking(connection: &Connection, versions: VersionRange) {
    let mut frame = Vec::new();
    let extension = Extension::new(b"of a later version").unwrap();
    encode_frame(&Hello { versions, boot: BootId([9; 16]), extension }, &mut frame).unwrap();
    say(connection, &frame).await;
}

pub fn surf(agent: &str, path: &str, lake: &str, cursor: Option<Cursor>) -> Surf {
    let lake = LakeId { name: Name::new(lake).unwrap(), version: 1 };
    Surf { agent: Name::new(agent).unwrap(), path: path.parse().unwrap(), lake, cursor }
}

/// Asks for a subscription.
pub async fn ask(connection: &Connection, surf: &Surf) -> (SendStream, RecvStream) {
    try_ask(connection, surf).await.unwrap()
}

/// The same, unless the node closes the connection first.
pub async fn try_ask(connection: &Connection, surf: &Surf) -> Option<(SendStream, RecvStream)> {
    let (mut send, recv) = connection.open_bi().await.ok()?;
    send.write_all(&request(surf)).await.ok()?;
    Some((send, recv))
}

/// What a subscriber sends first on a stream.
pub fn request(surf: &Surf) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_frame(surf, &mut frame).unwrap();
    in_place_of_request(&frame)
}

/// These bytes in place of a request.
pub fn in_place_of_request(bytes: &[u8]) -> Vec<u8> {
    [&[StreamKind::Subscription.byte()], bytes].concat()
}

/// Reads one frame's body.
pub async fn read_frame(recv: &mut RecvStream) -> Option<Vec<u8>> {
    let mut header = [0; 4];
    recv.read_exact(&mut header).await.ok()?;
    let mut body = vec![0; u32::from_le_bytes(header) as usize];
    recv.read_exact(&mut body).await.ok()?;
    Some(body)
}

/// Reads one frame as a message, and shows it.
pub async fn read_message(recv: &mut RecvStream) -> Option<String> {
    let body = read_frame(recv).await?;
    let (message, rest) = postcard::take_from_bytes::<Message<'_>>(&body).unwrap();
    assert!(rest.is_empty());
    Some(format!("{message:?}"))
}

/// Where the rock stands that comes as the first message of a subscription.
pub async fn first_rock(connection: &Connection, path: &str, lake: &str) -> Cursor {
    let (_send, mut recv) = ask(connection, &surf("main", path, lake, None)).await;
    let body = read_frame(&mut recv).await.unwrap();
    match postcard::from_bytes::<Message<'_>>(&body).unwrap() {
        Message::Rock { at, .. } => at,
        other => panic!("{other:?}"),
    }
}

/// Asks again and again, up to a thousand times, and keeps what is not refused; until there is no place any more.
pub async fn take_all_places(connection: &Connection, surf: impl Fn(usize) -> Surf) -> Vec<(SendStream, RecvStream)> {
    let (mut held, mut refused) = (Vec::new(), 0);
    while held.len() < 1_000 && refused < 20 {
        let Some((send, mut recv)) = try_ask(connection, &surf(held.len())).await else { break };
        match read_message(&mut recv).await {
            Some(answer) if !answer.starts_with("Refused") => held.push((send, recv)),
            _ => refused += 1,
        }
    }
    held
}

/// Reads the request of a subscriber.
pub async fn read_surf(recv: &mut RecvStream) -> Surf {
    let mut kind = [0];
    recv.read_exact(&mut kind).await.unwrap();
    assert_eq!(StreamKind::of(kind[0]), Some(StreamKind::Subscription));
    decode(&read_frame(recv).await.unwrap()).unwrap()
}

/// A publisher that answers each request with the frames that it likes, and leaves the stream open. It
/// ends with the task.
pub async fn publisher(
    frames: impl Fn(&Surf) -> Vec<Vec<u8>> + Clone + Send + Sync + 'static,
) -> (Endpoint, tokio::task::JoinHandle<()>) {
    let endpoint = endpoint().await;
    let accepting = endpoint.clone();
    let task = tokio::spawn(async move {
        while let Some(incoming) = accepting.accept().await {
            let frames = frames.clone();
            tokio::spawn(async move {
                let connection = incoming.await.unwrap();
                hello(&connection).await;
                while let Ok((mut send, mut recv)) = connection.accept_bi().await {
                    for frame in frames(&read_surf(&mut recv).await) {
                        if send.write_all(&frame).await.is_err() {
                            break;
                        }
                    }
                    // The stream stays open: only what was sent is wrong.
                    tokio::spawn(async move {
                        let _send = send;
                        let _ = recv.read_chunk(1).await;
                    });
                }
            });
        }
    });
    (endpoint, task)
}

/// The code and the reason with which the other side closed a connection.
pub async fn closed(connection: &Connection) -> (u64, String) {
    match connection.closed().await {
        iroh::endpoint::ConnectionError::ApplicationClosed(close) => {
            (close.error_code.into_inner(), String::from_utf8_lossy(&close.reason).into_owned())
        }
        other => panic!("{other}"),
    }
}
