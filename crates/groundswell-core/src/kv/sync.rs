//! One session between the two sides of a document, as a state machine without input or output.
//!
//! Each author numbers its entries. A side holds an author's entries up to a counter when it holds, durably, each of them or
//! a newer one of the same key. In a session each side sends what the other lacks in the order of the counters, then what is
//! new, and acknowledges what is durable. Single entries whose values a side lacks, although it knows of them, are
//! asked for by key. A side whose storage [went back](crate::kv::restored) takes its own entries back first.
//!
//! The driver repeats:
//!
//! 1. It hands each message to [`KvSync::handle`], and keeps the entries that come. Now and then it takes the marks that
//!    came with them ([`KvSync::received`]), makes both durable together, and calls [`KvSync::stored`].
//! 2. It does what [`KvSync::poll`] says, and reports it where the step names a method.
//! 3. On [`Step::Wait`] it waits for a message, for entries that became durable here ([`KvSync::holds`]), for values found
//!    missing ([`KvSync::found_missing`]), for its own end ([`KvSync::part`]), or for the time that the step names.

use alloc::{
    borrow::Cow,
    collections::{BTreeSet, VecDeque},
    vec::Vec,
};

use crate::{
    kv::{
        entry::KvAuthor,
        release::ReleaseSignature,
        wire::{Held, KvMessage},
    },
    limits::{KV_ACKNOWLEDGE_AFTER_MS, MAX_KV_WANTS},
};

/// An entry's author and its [document key](crate::kv::document_key).
pub type EntryKey = (KvAuthor, [u8; 32]);

/// What the driver is to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send some of this author's entries in the order of their counters, beginning after one counter and ending at
    /// another at most. Then call [`KvSync::entries_sent`].
    Entries {
        /// The author.
        author: KvAuthor,
        /// The other side holds the author's entries up to this counter.
        after: u64,
        /// This side holds them up to this counter.
        upto: u64,
    },
    /// Send this message.
    Say(KvMessage<'static>),
    /// Send those of these entries that are here.
    Answer(Vec<EntryKey>),
    /// Look up which entries are known and missing here, after this one in their order and [`MAX_KV_WANTS`] at most. Then
    /// call [`KvSync::want`].
    LookUpMissing {
        /// The last one that was looked up.
        after: Option<EntryKey>,
    },
    /// Everything of this side's own entries that the other side has, up to this counter, is stored here: sign anew what it may
    /// lack, and call [`KvSync::agreed`].
    Agree {
        /// The other side holds this side's entries up to here.
        upto: u64,
    },
    /// End the stream: all was said.
    Finish,
    /// Nothing, until one of the inputs or this time, in milliseconds of the driver's clock.
    Wait {
        /// When to poll again.
        until_ms: Option<u64>,
    },
}

/// What the driver is to do with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard<'a> {
    /// Nothing.
    Nothing,
    /// Verify this entry, and keep it until the marks are taken.
    Entry {
        /// The signed entry, without its content.
        signed: Cow<'a, [u8]>,
        /// Its content.
        envelope: Cow<'a, [u8]>,
    },
    /// The other side holds this side's entries up to this counter.
    Delivered(u64),
    /// The other side has given the document up, if the signature is its author's. The session ends.
    Released(ReleaseSignature),
    /// Nothing more comes. Store what came.
    ShuttingDown,
}

/// Marks that came with entries. They take effect once the entries before them are durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use = "they are to be stored"]
pub struct Received {
    upto: [Option<u64>; 2],
    caught_up: bool,
    answered: u32,
}

impl Received {
    /// Up to where this side holds the author's entries once those that came are stored.
    pub fn upto(&self, author: KvAuthor) -> Option<u64> {
        self.upto[author.index()]
    }
}

/// One side of a session, after both have said hello.
#[derive(Debug)]
pub struct KvSync {
    ours: KvAuthor,
    /// What is durable here.
    held: Held,
    /// What the other side holds, by its word or because it was sent.
    theirs: Held,
    /// Up to where the other side was told that its entries are durable here.
    acknowledged: u64,
    acknowledge_at_ms: Option<u64>,
    said_caught_up: bool,
    parting: Option<Parting>,
    /// Whose entries are sent next where both authors' are to be sent.
    turn: KvAuthor,
    asking: Asking,
    ask: bool,
    wants: VecDeque<EntryKey>,
    /// What the other side wants.
    wanted: Vec<EntryKey>,
    /// How many wants were answered and are not reported.
    answered: Option<u32>,
    /// Entries of this side's that the other side has in an older form, or is to have back.
    returns: BTreeSet<EntryKey>,
    /// This side went back: up to where it has its own entries back before it goes on. `None` where both agree.
    agree_upto: Option<u64>,
    /// Up to where it has them.
    back_upto: u64,
    received: Received,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parting {
    Begun,
    Said,
}

impl KvSync {
    /// A session in which this side is `ours`, holds so much durably, and has heard in the other's hello what that holds.
    pub fn new(ours: KvAuthor, held: Held, theirs: Held, now_ms: u64) -> Self {
        let mut sync = Self {
            ours,
            held: Held::default(),
            theirs,
            acknowledged: 0,
            acknowledge_at_ms: None,
            said_caught_up: false,
            parting: None,
            turn: ours,
            asking: Asking::default(),
            // What an earlier session has found missing.
            ask: true,
            wants: VecDeque::new(),
            wanted: Vec::new(),
            answered: None,
            returns: BTreeSet::new(),
            agree_upto: None,
            back_upto: 0,
            received: Received::default(),
        };
        sync.holds(held, now_ms);
        sync
    }

    /// This side [went back](crate::kv::restored), and has said in its hello that it holds none of its own entries: it takes
    /// back what the other side has of them first.
    pub fn agree_first(&mut self) {
        self.agree_upto = Some(self.theirs.of(self.ours));
    }

    /// What the other side may lack was signed anew, and is durable.
    pub fn agreed(&mut self) {
        self.agree_upto = None;
    }

    /// So much is durable here now. It never goes back within a session.
    pub fn holds(&mut self, held: Held, now_ms: u64) {
        for author in KvAuthor::BOTH {
            self.held.raise(author, held.of(author));
        }
        // Acknowledgements are gathered: they keep the other side from sending again what came by another way, and tell
        // those who wait there for a delivery.
        if self.held.of(self.ours.other()) > self.acknowledged {
            self.acknowledge_at_ms.get_or_insert(now_ms.saturating_add(KV_ACKNOWLEDGE_AFTER_MS));
        }
    }

    /// A value is known and missing here.
    pub fn found_missing(&mut self) {
        self.ask |= self.asking.found();
    }

    /// The other side has sent these entries, and this one holds some of the same authors and keys that rank above them: they are
    /// sent back, so that both decide alike. At most [`MAX_KV_WANTS`] wait; a reconciliation finds the others.
    pub fn send_back(&mut self, entries: impl IntoIterator<Item = EntryKey>) {
        let room = MAX_KV_WANTS.saturating_sub(self.returns.len());
        self.returns.extend(entries.into_iter().take(room));
    }

    /// This side shuts down: what it holds is sent first.
    pub fn part(&mut self) {
        self.parting.get_or_insert(Parting::Begun);
    }

    /// Takes a message of the other side.
    pub fn handle<'a>(&mut self, message: KvMessage<'a>) -> Heard<'a> {
        match message {
            KvMessage::Entry { signed, envelope } => return Heard::Entry { signed, envelope },
            KvMessage::UpTo { author, counter } => {
                let upto = &mut self.received.upto[author.index()];
                *upto = (*upto).max(Some(counter));
            }
            KvMessage::Ack(held) => {
                for author in KvAuthor::BOTH {
                    self.theirs.raise(author, held.of(author));
                }
                return Heard::Delivered(held.of(self.ours));
            }
            KvMessage::CaughtUp => self.received.caught_up = true,
            // An honest side waits for answers before it wants more.
            KvMessage::Want { author, key } if self.wanted.len() < MAX_KV_WANTS => self.wanted.push((author, key)),
            KvMessage::Want { .. } => {}
            KvMessage::Answered { wants } => {
                let most = MAX_KV_WANTS as u32;
                self.received.answered = self.received.answered.saturating_add(wants).min(most);
            }
            KvMessage::Released { signature } => return Heard::Released(signature),
            KvMessage::ShuttingDown => return Heard::ShuttingDown,
        }
        Heard::Nothing
    }

    /// Takes the marks that came since the last call. The entries that came before are to be stored with them.
    pub fn received(&mut self) -> Received {
        let received = core::mem::take(&mut self.received);
        for author in KvAuthor::BOTH {
            // The other side holds what it sends. This counts before it is stored here, so that it is not sent back.
            self.theirs.raise(author, received.upto(author).unwrap_or(0));
        }
        received
    }

    /// These marks, and the entries that came before them, are durable here. Returns whether this side holds everything that
    /// the other one held when it said hello, which a session says once.
    pub fn stored(&mut self, received: Received) -> bool {
        // Answers count once they are stored, so that nothing is asked for twice.
        self.ask |= received.answered > 0 && self.asking.answered(received.answered);
        self.back_upto = self.back_upto.max(received.upto(self.ours).unwrap_or(0));
        received.caught_up
    }

    /// Returns true if a message of the other side made another step possible.
    pub fn is_asked(&self) -> bool {
        let comes_to_agree = self.agree_upto.is_some_and(|upto| self.back_upto >= upto);
        self.ask || !self.wanted.is_empty() || !self.returns.is_empty() || comes_to_agree
    }

    /// The author's entries up to this counter were sent.
    pub fn entries_sent(&mut self, author: KvAuthor, upto: u64) {
        self.theirs.raise(author, upto);
        self.turn = author.other();
    }

    /// These entries are missing here: they are asked for.
    pub fn want(&mut self, missing: Vec<EntryKey>) {
        self.ask |= self.asking.asked(&missing);
        self.wants = missing.into();
    }

    /// The next step.
    pub fn poll(&mut self, now_ms: u64) -> Step {
        if let Some((author, key)) = self.wants.pop_front() {
            return Step::Say(KvMessage::Want { author, key });
        }
        if let Some(wants) = self.answered.take() {
            return Step::Say(KvMessage::Answered { wants });
        }
        // First what the other side waits for, one piece of what is new after it, and the goodbye last.
        if self.acknowledge_at_ms.take_if(|at| *at <= now_ms).is_some() {
            self.acknowledged = self.held.of(self.ours.other());
            let mut held = self.held;
            if self.agree_upto.is_some() {
                held.clear(self.ours);
            }
            return Step::Say(KvMessage::Ack(held));
        }
        if !self.wanted.is_empty() {
            // At most `MAX_KV_WANTS`.
            self.answered = Some(self.wanted.len() as u32);
            return Step::Answer(core::mem::take(&mut self.wanted));
        }
        if !self.returns.is_empty() {
            return Step::Answer(core::mem::take(&mut self.returns).into_iter().collect());
        }
        if let Some(upto) = self.agree_upto.filter(|upto| self.back_upto >= *upto) {
            return Step::Agree { upto };
        }
        if core::mem::take(&mut self.ask) {
            return Step::LookUpMissing { after: self.asking.look_up() };
        }
        let agrees = self.agree_upto.is_some();
        for author in [self.turn, self.turn.other()] {
            // What it may sign anew it does not send before.
            if agrees && author == self.ours {
                continue;
            }
            let (after, upto) = (self.theirs.of(author), self.held.of(author));
            if after < upto {
                return Step::Entries { author, after, upto };
            }
        }
        if !agrees && !core::mem::replace(&mut self.said_caught_up, true) {
            return Step::Say(KvMessage::CaughtUp);
        }
        match self.parting {
            None => Step::Wait { until_ms: self.acknowledge_at_ms },
            Some(Parting::Begun) => {
                self.parting = Some(Parting::Said);
                Step::Say(KvMessage::ShuttingDown)
            }
            Some(Parting::Said) => Step::Finish,
        }
    }
}

/// Which missing values are being asked for.
#[derive(Debug, Default)]
struct Asking {
    /// How many wants the other side has not answered.
    open: usize,
    /// After which missing value it goes on, if there may be more.
    after: Option<EntryKey>,
    /// A look-up is under way.
    looking: bool,
    /// More was found missing meanwhile: perhaps before the last one that was looked up.
    again: bool,
}

impl Asking {
    /// More was found missing; whether to ask now.
    fn found(&mut self) -> bool {
        let is_idle = self.open == 0 && !self.looking;
        self.again |= !is_idle || self.after.is_some();
        is_idle
    }

    fn look_up(&mut self) -> Option<EntryKey> {
        self.looking = true;
        self.after
    }

    /// These are asked for; whether to look up at once what was found since the first look-up.
    fn asked(&mut self, wants: &[EntryKey]) -> bool {
        self.looking = false;
        self.open = wants.len();
        self.after = wants.last().copied().filter(|_| wants.len() == MAX_KV_WANTS);
        // Nobody answers to nothing.
        self.open == 0 && core::mem::take(&mut self.again)
    }

    /// The other side has looked at so many; whether to ask for more.
    fn answered(&mut self, wants: u32) -> bool {
        if self.open == 0 {
            return false;
        }
        self.open = self.open.saturating_sub(wants as usize);
        self.open == 0 && (self.after.is_some() || core::mem::take(&mut self.again))
    }
}
