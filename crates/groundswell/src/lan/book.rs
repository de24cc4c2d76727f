//! Whom this node looks for on the local network, and what it says of itself there. A state machine without I/O: it is told
//! what came and what time it is, and says what is to be sent and when it wants to be asked again.
//!
//! Memory is bounded by what this node itself looks for. Of other names nothing is kept, whoever sends them.

use std::time::{Duration, Instant};

use iroh::{
    EndpointId, TransportAddr,
    address_lookup::{EndpointData, EndpointInfo, Item},
};
use tokio::sync::mpsc;
use tracing::warn;

use super::message::{self, IdBytes, Message};
use crate::limits::{
    LAN_ANSWER_EVERY, LAN_LOOKUP_TIME, LAN_PACKETS_PER_SECOND, MAX_LAN_ADDRESSES_OF_LOOKUP, MAX_LAN_LOOKUPS,
    MAX_LAN_RECORDS, MAX_LAN_RELAYS_OF_LOOKUP,
};

/// When a look-up asks, counted from its beginning: a packet or two may be lost, or the peer may need a moment to start.
/// It asks again after an answer too, which anyone could have forged.
const ASK_AFTER: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(3)];

/// How often a node says what is new of it, a second apart: one packet may be lost.
const ANNOUNCEMENTS: u8 = 2;

/// How many answers wait for one look-up. Those that come while it does not read are dropped.
const WAITING_ANSWERS: usize = 8;

/// What a look-up is called in the metrics and the log of iroh.
const PROVENANCE: &str = "mdns";

#[derive(Debug)]
pub(super) struct Book {
    own: EndpointId,
    published: Vec<TransportAddr>,
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
    /// What it was told so far, so that it is told of each address once.
    told: Vec<TransportAddr>,
    answers: mpsc::Sender<Item>,
}

impl Lookup {
    fn next(&self) -> Instant {
        self.begun + ASK_AFTER.get(self.questions).copied().unwrap_or(LAN_LOOKUP_TIME)
    }

    fn take(&mut self, addrs: &[TransportAddr]) {
        let relays = |all: &[TransportAddr]| all.iter().filter(|addr| addr.is_relay()).count();
        let mut new: Vec<TransportAddr> = Vec::new();
        for addr in addrs.iter().filter(|addr| !self.told.contains(addr)) {
            let full = match addr {
                TransportAddr::Relay(_) => relays(&self.told) + relays(&new) >= MAX_LAN_RELAYS_OF_LOOKUP,
                _ => {
                    let all = self.told.len() + new.len();
                    all - relays(&self.told) - relays(&new) >= MAX_LAN_ADDRESSES_OF_LOOKUP
                }
            };
            if !full {
                new.push(addr.clone());
            }
        }
        if new.is_empty() {
            return;
        }
        let info = EndpointInfo::from_parts(self.id, EndpointData::new(new.clone()));
        if self.answers.try_send(Item::new(info, PROVENANCE, None)).is_ok() {
            self.told.append(&mut new);
        }
    }
}

impl Book {
    pub(super) fn new(own: EndpointId) -> Self {
        Self {
            own,
            published: Vec::new(),
            announcements: 0,
            asked: false,
            said_at: None,
            lookups: Vec::new(),
            next_key: 0,
        }
    }

    /// Sets what this node says of itself. It says so at once if that is new.
    pub(super) fn publish(&mut self, data: &EndpointData) {
        let published = message::published(data.addrs());
        if published != self.published {
            self.published = published;
            self.announce();
        }
    }

    /// Has the own addresses said, as to a network that has just come.
    pub(super) fn announce(&mut self) {
        self.announcements = ANNOUNCEMENTS;
    }

    /// Begins to look for a peer, and returns the key by which that is ended. `None` if as many are looked for as can be, or if
    /// it is this node.
    pub(super) fn look_for(&mut self, id: EndpointId, now: Instant) -> Option<(u64, mpsc::Receiver<Item>)> {
        if id == self.own || self.lookups.len() >= MAX_LAN_LOOKUPS {
            return None;
        }
        let (answers, receiver) = mpsc::channel(WAITING_ANSWERS);
        let key = self.next_key;
        self.next_key += 1;
        self.lookups.push(Lookup { key, id, begun: now, questions: 0, told: Vec::new(), answers });
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
        !self.published.is_empty() || !self.lookups.is_empty()
    }

    /// Takes a packet that came on the interface of this index.
    pub(super) fn take(&mut self, bytes: &[u8], interface: u32) {
        match message::parse(bytes, interface) {
            Some(Message::Question(ids)) => self.asked |= ids.contains(self.own.as_bytes()),
            Some(Message::Answer(answers)) => {
                for (id, addrs) in answers {
                    let wanted = self.lookups.iter_mut().filter(|lookup| *lookup.id.as_bytes() == id);
                    wanted.for_each(|lookup| lookup.take(&addrs));
                }
            }
            None => {}
        }
    }

    /// When the own addresses are to be said next.
    fn next_answer(&self, now: Instant) -> Option<Instant> {
        let wanted = !self.published.is_empty() && (self.asked || self.announcements > 0);
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
        for lookup in self.lookups.iter_mut().filter(|lookup| lookup.next() <= now) {
            // A question that is late is not followed by the next one at once.
            lookup.questions = ASK_AFTER.iter().filter(|after| lookup.begun + **after <= now).count();
            if !ids.contains(lookup.id.as_bytes()) {
                ids.push(*lookup.id.as_bytes());
            }
        }
        let mut packets: Vec<_> = ids.chunks(MAX_LAN_RECORDS).map(message::question).collect();
        if self.next_answer(now).is_some_and(|at| at <= now) {
            self.said_at = Some(now);
            self.asked = false;
            self.announcements = self.announcements.saturating_sub(1);
            packets.push(message::answer(self.own, &self.published));
        }
        let made = packets.into_iter().filter_map(|packet| {
            packet
                .inspect_err(|error| warn!(%error, "an mDNS packet can't be made: a peer may not be found by it"))
                .ok()
        });
        made.collect()
    }
}

/// Counts the packets of a second.
#[derive(Debug, Default)]
pub(super) struct Meter {
    begun: Option<Instant>,
    packets: u32,
}

impl Meter {
    /// When the next packet may be read, if not now.
    pub(super) fn pause(&self, now: Instant) -> Option<Instant> {
        let over = self.begun? + Duration::from_secs(1);
        (self.packets >= LAN_PACKETS_PER_SECOND && now < over).then_some(over)
    }

    /// One was read.
    pub(super) fn count(&mut self, now: Instant) {
        if self.begun.is_none_or(|begun| now.saturating_duration_since(begun) >= Duration::from_secs(1)) {
            *self = Self { begun: Some(now), packets: 0 };
        }
        self.packets += 1;
    }
}
