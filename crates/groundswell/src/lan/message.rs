//! The two messages of the look-up on a local network, as mDNS packets (RFC 6762): a question for peers by their names, and
//! an answer with the addresses of one, in a TXT record. Nothing here does I/O or keeps anything.

use std::net::{IpAddr, SocketAddr};

use data_encoding::BASE32_NOPAD_NOCASE;
use iroh::{EndpointId, RelayUrl, TransportAddr};
use simple_dns::{
    CLASS, Name, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, Question, ResourceRecord, SimpleDnsError, TYPE,
    header_buffer,
    rdata::{RData, TXT},
};

use crate::limits::{MAX_LAN_ADDRESSES, MAX_LAN_PACKET_BYTES, MAX_LAN_RECORDS};

/// The name of a peer is its id in base32, with this behind it.
const SERVICE: [&[u8]; 3] = [b"_groundswell", b"_udp", b"local"];

/// The first label of the service with its length before it, as it is in every packet that concerns this program.
const MARK: &[u8] = b"\x0c_groundswell";

/// For how long other programs may keep an answer (120 s), as RFC 6762 recommends for addresses.
const TTL_SECONDS: u32 = 120;

/// The longest string of a TXT record.
const MAX_STRING_BYTES: usize = 255;

/// The bytes of a peer's id. Whether they are a key is of no interest where they are only compared.
pub(super) type IdBytes = [u8; 32];

/// What a packet says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// Someone looks for these peers.
    Question(Vec<IdBytes>),
    /// These are the addresses of peers.
    Answer(Vec<(IdBytes, Vec<TransportAddr>)>),
}

fn name_of(id: &IdBytes) -> String {
    let service: Vec<_> = SERVICE.iter().map(|label| String::from_utf8_lossy(label)).collect();
    format!("{}.{}", data_encoding::BASE32_NOPAD.encode(id).to_ascii_lowercase(), service.join("."))
}

/// The id whose name this is.
fn id_of(name: &Name<'_>) -> Option<IdBytes> {
    let [id, service @ ..] = name.get_labels() else { return None };
    let is_service = service.len() == SERVICE.len()
        && service.iter().zip(SERVICE).all(|(label, expected)| label.as_ref().eq_ignore_ascii_case(expected));
    // Other lengths can be no id, and are not decoded.
    if !is_service || id.as_ref().len() != 52 {
        return None;
    }
    BASE32_NOPAD_NOCASE.decode(id.as_ref()).ok()?.try_into().ok()
}

/// A packet that asks for these peers, at most [`MAX_LAN_RECORDS`].
pub(super) fn question(ids: &[IdBytes]) -> Result<Vec<u8>, SimpleDnsError> {
    let names: Vec<String> = ids.iter().map(name_of).collect();
    let mut packet = Packet::new_query(0);
    for name in &names {
        // A unicast answer would be one more way to have packets sent to others.
        packet.questions.push(Question::new(Name::new(name)?, QTYPE::TYPE(TYPE::TXT), QCLASS::CLASS(CLASS::IN), false));
    }
    packet.build_bytes_vec_compressed()
}

/// A packet with the addresses of a peer. Addresses of a kind that mDNS is not for are left out.
pub(super) fn answer(id: EndpointId, addrs: &[TransportAddr]) -> Result<Vec<u8>, SimpleDnsError> {
    let name = name_of(id.as_bytes());
    let strings: Vec<String> = addrs.iter().filter_map(string_of).collect();
    let mut txt = TXT::new();
    for string in &strings {
        txt.add_string(string)?;
    }
    let mut packet = Packet::new_reply(0);
    packet.set_flags(PacketFlag::AUTHORITATIVE_ANSWER);
    let record = ResourceRecord::new(Name::new(&name)?, CLASS::IN, TTL_SECONDS, RData::TXT(txt));
    packet.answers.push(record.with_cache_flush(true));
    packet.build_bytes_vec_compressed()
}

fn string_of(addr: &TransportAddr) -> Option<String> {
    let string = match addr {
        TransportAddr::Ip(SocketAddr::V6(addr)) => format!("addr=[{}]:{}", addr.ip(), addr.port()),
        TransportAddr::Ip(addr) => format!("addr={addr}"),
        TransportAddr::Relay(url) => format!("relay={url}"),
        _ => return None,
    };
    (string.len() <= MAX_STRING_BYTES).then_some(string)
}

/// What a node says of itself: the first [`MAX_LAN_ADDRESSES`] usable addresses in the order in which they come, and the first
/// relay.
pub(super) fn published<'a>(addrs: impl Iterator<Item = &'a TransportAddr>) -> Vec<TransportAddr> {
    let mut taken = Taken::default();
    addrs.filter(|addr| string_of(addr).is_some()).for_each(|addr| taken.add(addr.clone()));
    taken.addrs
}

/// What a packet says, if it is one of this program. `scope` is the index of the interface on which it came.
pub(super) fn parse(bytes: &[u8], scope: u32) -> Option<Message> {
    // A flood should cost little: most of it ends here, before memory is taken for as many records as a packet claims to have.
    if bytes.len() > MAX_LAN_PACKET_BYTES || !bytes.windows(MARK.len()).any(|window| window == MARK) {
        return None;
    }
    let counts = [
        header_buffer::questions(bytes).ok()?,
        header_buffer::answers(bytes).ok()?,
        header_buffer::name_servers(bytes).ok()?,
        header_buffer::additional_records(bytes).ok()?,
    ];
    if counts.iter().map(|count| usize::from(*count)).sum::<usize>() > MAX_LAN_RECORDS {
        return None;
    }
    let packet = Packet::parse(bytes).ok()?;
    if packet.opcode() != OPCODE::StandardQuery {
        return None;
    }
    if !packet.has_flags(PacketFlag::RESPONSE) {
        let meant = |question: &&Question<'_>| {
            matches!(question.qtype, QTYPE::TYPE(TYPE::TXT) | QTYPE::ANY)
                && matches!(question.qclass, QCLASS::CLASS(CLASS::IN) | QCLASS::ANY)
        };
        let ids = packet.questions.iter().filter(meant).filter_map(|question| id_of(&question.qname));
        return Some(Message::Question(ids.collect()));
    }
    let answers = packet.answers.iter().filter_map(|record| {
        let RData::TXT(txt) = &record.rdata else { return None };
        let said = (record.ttl > 0 && record.class == CLASS::IN).then(|| id_of(&record.name))??;
        Some((said, addrs_of(txt, scope)))
    });
    Some(Message::Answer(answers.collect()))
}

fn addrs_of(txt: &TXT<'_>, scope: u32) -> Vec<TransportAddr> {
    let mut taken = Taken::default();
    for (key, value) in txt.iter_raw() {
        let Some(text) = value.and_then(|value| std::str::from_utf8(value).ok()) else { continue };
        let addr = match key {
            b"addr" => text.parse().ok().map(|addr| TransportAddr::Ip(scoped(addr, scope))),
            b"relay" if taken.relays == 0 => text.parse::<RelayUrl>().ok().map(TransportAddr::Relay),
            _ => None,
        };
        if let Some(addr) = addr {
            taken.add(addr);
        }
    }
    taken.addrs
}

/// An address that is good on one interface only is meant to be one of that on which it came.
fn scoped(addr: SocketAddr, scope: u32) -> SocketAddr {
    match addr {
        SocketAddr::V6(mut addr) => {
            addr.set_scope_id(if addr.ip().is_unicast_link_local() { scope } else { 0 });
            addr.into()
        }
        SocketAddr::V4(_) => addr,
    }
}

/// Usable addresses, no more than fit into an answer.
#[derive(Default)]
struct Taken {
    addrs: Vec<TransportAddr>,
    relays: usize,
}

impl Taken {
    fn add(&mut self, addr: TransportAddr) {
        let direct = self.addrs.len() - self.relays;
        let (fits, relay) = match &addr {
            TransportAddr::Ip(addr) => (direct < MAX_LAN_ADDRESSES && is_usable(addr), false),
            TransportAddr::Relay(_) => (self.relays == 0, true),
            _ => (false, false),
        };
        if fits && !self.addrs.contains(&addr) {
            self.relays += usize::from(relay);
            self.addrs.push(addr);
        }
    }
}

/// Whether another machine can have this address: a forged answer should not send this node to its own services, or to many
/// machines at once.
fn is_usable(addr: &SocketAddr) -> bool {
    let ip = addr.ip().to_canonical();
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    addr.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !ip.is_loopback() && !is_broadcast
}
