//! Whom this node looks for on the local network, and what it says of itself there. A state machine without I/O: it is told
//! what came and what time it is, and says what is to be sent and when it wants to be asked again.
//!
//! Memory is bounded by what this node itself looks for. Of other names nothing is kept, whoever sends them.

use std::time::{Duration, Instant};

use iroh::{
    EndpointId, SecretKey, TransportAddr,
    address_lookup::{EndpointData, EndpointInfo, Item},
};
use simple_dns::SimpleDnsError;
use tokio::sync::mpsc;
use tracing::warn;

use super::message::{self, Answer, IdBytes, Message};
use crate::limits::{
    LAN_ANSWER_EVERY, LAN_LOOKUP_TIME, LAN_PACKETS_PER_SECOND, LAN_TIME_PER_SECOND, MAX_LAN_ANSWERS_OF_LOOKUP,
    MAX_LAN_LOOKUPS, MAX_LAN_RECORDS,
};

/// When a look-up asks, counted from its beginning: a packet or two may be lost, or the peer may need a moment to start.
/// It asks again after an answer too, which may be an old one that somebody else has sent once more.
const ASK_AFTER: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(3)];

/// How often a node says what is new of it, a second apart: one packet may be lost.
const ANNOUNCEMENTS: u8 = 2;

/// What a look-up is called in the metrics and the log of iroh.
const PROVENANCE: &str = "mdns";

#[derive(Debug)]
pub(super) struct Book {
    key: SecretKey,
    published: Vec<TransportAddr>,
    /// The packet that says so, and its number.
    answer: Option<Vec<u8>>,
    number: u64,
    /// How often the own addresses are still to be said without a question.
    announcements: u8,
    /// Whether somebody has asked since the own addresses were said last.
    asked: bool,
    said_at: Option<Instant>,
    lookups: Vec<Lookup>,
    next_key: u64,
}

#[derive(Debug)]
struct Lookup {
    key: u64,
    id: EndpointId,
    begun: Instant,
    /// How many of its questions were sent.
    questions: usize,
    /// The numbers of the answers that it was told of.
    told: Vec<u64>,
    /// The newest answer of those that came after so many, and when it is told of that.
    waiting: Option<(Instant, Answer)>,
    answers: mpsc::Sender<Item>,
}

impl Lookup {
    /// When it asks next, or ends.
    fn asks_at(&self) -> Instant {
        self.begun + ASK_AFTER.get(self.questions).copied().unwrap_or(LAN_LOOKUP_TIME)
    }

    fn next(&self) -> Instant {
        self.waiting.as_ref().map_or(self.asks_at(), |(at, _)| self.asks_at().min(*at))
    }

    /// Takes an answer that it does not have. Somebody else may send old ones once more, and after a start at which the peer's clock
    /// was wrong the true one is not the newest. Where there were many, the newest of the others has its turn once a second.
    fn take(&mut self, answer: Answer, now: Instant) {
        if self.told.contains(&answer.number) {
            return;
        }
        if self.told.len() < MAX_LAN_ANSWERS_OF_LOOKUP {
            return self.tell(answer);
        }
        let (at, newest) = match &self.waiting {
            Some((at, waiting)) => (*at, Some(waiting.number)),
            None => (now + LAN_ANSWER_EVERY, None),
        };
        if newest < Some(answer.number) {
            self.waiting = Some((at, answer));
        }
    }

    fn tell(&mut self, answer: Answer) {
        let info = EndpointInfo::from_parts(self.id, EndpointData::new(answer.addrs));
        if self.answers.try_send(Item::new(info, PROVENANCE, None)).is_ok() {
            self.told.push(answer.number);
        }
    }
}

impl Book {
    pub(super) fn new(key: SecretKey) -> Self {
        Self {
            key,
            published: Vec::new(),
            answer: None,
            number: 0,
            announcements: 0,
            asked: false,
            said_at: None,
            lookups: Vec::new(),
            next_key: 0,
        }
    }

    /// Sets what this node says of itself, and says so at once if that is new. `now` is the time of the system's clock in
    /// milliseconds: it makes the number of this answer higher than those of earlier runs.
    pub(super) fn publish(&mut self, data: &EndpointData, now: u64) {
        let published = message::published(data.addrs());
        if published == self.published {
            return;
        }
        self.published = published;
        self.number = now.max(self.number.saturating_add(1));
        self.answer = match self.published.as_slice() {
            [] => None,
            addrs => made(message::answer(&self.key, self.number, addrs)),
        };
        self.announce();
    }

    /// Has the own addresses said, as to a network that has just come.
    pub(super) fn announce(&mut self) {
        self.announcements = ANNOUNCEMENTS;
    }

    /// Begins to look for a peer, and returns the key by which that is ended. `None` if as many are looked for as can be, or if
    /// it is this node.
    pub(super) fn look_for(&mut self, id: EndpointId, now: Instant) -> Option<(u64, mpsc::Receiver<Item>)> {
        if id == self.key.public() || self.lookups.len() >= MAX_LAN_LOOKUPS {
            return None;
        }
        let (answers, receiver) = mpsc::channel(MAX_LAN_ANSWERS_OF_LOOKUP);
        let key = self.next_key;
        self.next_key += 1;
        self.lookups.push(Lookup { key, id, begun: now, questions: 0, told: Vec::new(), waiting: None, answers });
        Some((key, receiver))
    }

    /// Ends a look-up whose answers nobody waits for any more.
    pub(super) fn forget(&mut self, key: u64) {
        self.lookups.retain(|lookup| lookup.key != key);
    }

    /// Ends all look-ups.
    pub(super) fn end(&mut self) {
        self.lookups.clear();
    }

    /// Whether this node has anything to say or to ask.
    pub(super) fn is_in_use(&self) -> bool {
        self.answer.is_some() || !self.lookups.is_empty()
    }

    /// Takes a packet that came on the interface of this index.
    pub(super) fn take(&mut self, bytes: &[u8], interface: u32, now: Instant) {
        let wanted = |id: &IdBytes| self.lookups.iter().any(|lookup| lookup.id.as_bytes() == id);
        match message::parse(bytes, interface, wanted) {
            Some(Message::Question(ids)) => self.asked |= ids.contains(self.key.public().as_bytes()),
            Some(Message::Answer(answer)) => {
                let asking = self.lookups.iter_mut().filter(|lookup| lookup.id == answer.id);
                asking.for_each(|lookup| lookup.take(answer.clone(), now));
            }
            None => {}
        }
    }

    /// When the own addresses are to be said next.
    fn next_answer(&self, now: Instant) -> Option<Instant> {
        let wanted = self.answer.is_some() && (self.asked || self.announcements > 0);
        wanted.then(|| self.said_at.map_or(now, |at| at + LAN_ANSWER_EVERY))
    }

    /// When there is something to be done next.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        self.lookups.iter().map(Lookup::next).chain(self.next_answer(now)).min()
    }

    /// The packets that are to be multicast now. Ends the look-ups whose time is over.
    pub(super) fn packets(&mut self, now: Instant) -> Vec<Vec<u8>> {
        self.lookups.retain(|lookup| now < lookup.begun + LAN_LOOKUP_TIME);
        let mut ids: Vec<IdBytes> = Vec::new();
        for lookup in &mut self.lookups {
            if let Some((_, answer)) = lookup.waiting.take_if(|(at, _)| *at <= now) {
                lookup.tell(answer);
            }
            if lookup.asks_at() > now {
                continue;
            }
            // A question that is late is not followed by the next one at once.
            lookup.questions = ASK_AFTER.iter().filter(|after| lookup.begun + **after <= now).count();
            if !ids.contains(lookup.id.as_bytes()) {
                ids.push(*lookup.id.as_bytes());
            }
        }
        let mut packets: Vec<_> = ids.chunks(MAX_LAN_RECORDS).filter_map(|ids| made(message::question(ids))).collect();
        if self.next_answer(now).is_some_and(|at| at <= now) {
            self.said_at = Some(now);
            self.asked = false;
            self.announcements = self.announcements.saturating_sub(1);
            packets.extend(self.answer.clone());
        }
        packets
    }
}

/// A packet, if it can be made.
fn made(packet: Result<Vec<u8>, SimpleDnsError>) -> Option<Vec<u8>> {
    packet.inspect_err(|error| warn!(%error, "an mDNS packet can't be made: a peer may not be found by it")).ok()
}

/// Counts the packets of a second, and the time that they take.
#[derive(Debug, Default)]
pub(super) struct Meter {
    begun: Option<Instant>,
    packets: u32,
    spent: Duration,
}

impl Meter {
    /// When the next packet may be read, if not now.
    pub(super) fn pause(&self, now: Instant) -> Option<Instant> {
        let over = self.begun? + Duration::from_secs(1);
        let full = self.packets >= LAN_PACKETS_PER_SECOND || self.spent >= LAN_TIME_PER_SECOND;
        (full && now < over).then_some(over)
    }

    /// One was read at this time, and took so long.
    pub(super) fn count(&mut self, now: Instant, took: Duration) {
        if self.begun.is_none_or(|begun| now.saturating_duration_since(begun) >= Duration::from_secs(1)) {
            *self = Self { begun: Some(now), ..Self::default() };
        }
        self.packets += 1;
        self.spent += took;
    }
}
