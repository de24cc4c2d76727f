//! The two messages of the look-up on a local network, as mDNS packets (RFC 6762): a question for peers by their names, and
//! an answer with the addresses of one, in a TXT record that the peer has signed. Nothing here does I/O or keeps anything.

use std::net::{IpAddr, SocketAddr};

use data_encoding::{BASE32_NOPAD_NOCASE, BASE64URL_NOPAD};
use iroh::{EndpointId, RelayUrl, SecretKey, Signature, TransportAddr};
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

/// Begins what a peer signs: its key signs other statements too.
const DOMAIN: &[u8] = b"groundswell lan v1: addresses";

/// The bytes of a peer's id. Whether they are a key is of no interest where they are only compared.
pub(super) type IdBytes = [u8; 32];

/// What a packet says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// Someone looks for these peers.
    Question(Vec<IdBytes>),
    /// A peer says where it is.
    Answer(Answer),
}

/// What a peer says of itself. It has signed that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) id: EndpointId,
    /// Of two answers of a peer, the newer one has the higher number.
    pub(super) number: u64,
    pub(super) addrs: Vec<TransportAddr>,
}

/// What a peer signs: the strings of its answer before the signature.
struct Statement(Vec<u8>);

impl Statement {
    fn new(id: &IdBytes) -> Self {
        Self([DOMAIN, id].concat())
    }

    /// Adds a string, whose parts have 255 bytes at most together.
    fn add(&mut self, parts: &[&[u8]]) {
        let bytes = parts.concat();
        self.0.extend(u8::try_from(bytes.len()));
        self.0.extend(bytes);
    }
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

/// A packet with the addresses of the peer that has this key. Addresses of a kind that mDNS is not for are left out.
pub(super) fn answer(key: &SecretKey, number: u64, addrs: &[TransportAddr]) -> Result<Vec<u8>, SimpleDnsError> {
    let id = *key.public().as_bytes();
    let name = name_of(&id);
    let mut strings: Vec<String> =
        [format!("n={number}")].into_iter().chain(addrs.iter().filter_map(string_of)).collect();
    let mut statement = Statement::new(&id);
    strings.iter().for_each(|string| statement.add(&[string.as_bytes()]));
    strings.push(format!("sig={}", BASE64URL_NOPAD.encode(&key.sign(&statement.0).to_bytes())));
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

/// What a packet says, if it is one of this program. `scope` is the index of the interface on which it came. Of its answers only
/// the first counts that is of a peer that is `wanted`: each costs the check of a signature.
pub(super) fn parse(bytes: &[u8], scope: u32, wanted: impl Fn(&IdBytes) -> bool) -> Option<Message> {
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
    let (id, txt) = packet.answers.iter().find_map(|record| {
        let RData::TXT(txt) = &record.rdata else { return None };
        let id = (record.ttl > 0 && record.class == CLASS::IN).then(|| id_of(&record.name))??;
        wanted(&id).then_some((id, txt))
    })?;
    answer_of(&id, txt, scope).map(Message::Answer)
}

/// What a peer says in its record, if it was the one that signed it.
fn answer_of(id: &IdBytes, txt: &TXT<'_>, scope: u32) -> Option<Answer> {
    let (mut statement, mut number, mut taken) = (Statement::new(id), None, Taken::default());
    for (key, value) in txt.iter_raw() {
        let text = value.and_then(|value| std::str::from_utf8(value).ok());
        match (key, text) {
            (b"sig", Some(text)) => {
                let signature: [u8; 64] = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?.try_into().ok()?;
                let id = EndpointId::from_bytes(id).ok()?;
                id.verify(&statement.0, &Signature::from_bytes(&signature)).ok()?;
                return Some(Answer { id, number: number?, addrs: taken.addrs });
            }
            (b"n", Some(text)) => number = text.parse().ok(),
            (b"addr", Some(text)) => {
                let addr = text.parse().ok().map(|addr| TransportAddr::Ip(scoped(addr, scope)));
                addr.into_iter().for_each(|addr| taken.add(addr));
            }
            (b"relay", Some(text)) if taken.relays == 0 => {
                let relay = text.parse::<RelayUrl>().ok().map(TransportAddr::Relay);
                relay.into_iter().for_each(|relay| taken.add(relay));
            }
            // A later version may say more.
            _ => {}
        }
        match value {
            Some(value) => statement.add(&[key, b"=", value]),
            None => statement.add(&[key]),
        }
    }
    None
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

/// Whether another machine can have this address: an answer should not send this node to its own services, or to many machines
/// at once.
fn is_usable(addr: &SocketAddr) -> bool {
    let ip = addr.ip().to_canonical();
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    addr.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !ip.is_loopback() && !is_broadcast
}
