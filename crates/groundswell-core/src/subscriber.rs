//! The subscriber's side of one stream, as a state machine: it takes the publisher's messages,
//! refuses what may not come, and says what is to be done.

use alloc::vec::Vec;

use crate::{
    aeon::{Aeon, Cursor},
    digest::Digest,
    limits::{MAX_ROCK_BYTES, MAX_WAVE_BYTES, ROCK_CHUNK_BYTES},
    wire::{Message, Refusal},
};

/// One stream of a subscription, from the request to its end.
#[derive(Debug)]
pub struct Inflow {
    /// What was asked with; after an interruption, where the stream had led to.
    asked: Option<Cursor>,
    /// Where the messages so far have led to.
    position: Option<Cursor>,
    /// The least aeon, in its epoch, that a rock may have: what local readers have seen.
    seen: Option<Cursor>,
    rock: Option<RockUnderWay>,
}

#[derive(Debug)]
struct RockUnderWay {
    at: Cursor,
    bytes: u64,
    digest: Digest,
    received: Vec<u8>,
}

/// What the driver is to do after a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intake {
    /// Nothing: more is to come.
    Nothing,
    /// The path is not available; the stream is parked.
    NotAvailable,
    /// The path was available on this stream, and is no longer: it was killed, or this side may no
    /// longer read it, which are one. The stream is parked.
    Killed,
    /// The publisher does not serve this.
    Refused(Refusal),
    /// Wash this wave onto the rock.
    Wave {
        /// The aeon that it leads to.
        aeon: Aeon,
        /// What the rock's digest has to be afterwards, if that is known.
        digest: Option<Digest>,
        /// The encoded wave.
        wave: Vec<u8>,
    },
    /// Take this rock for the state. Its digest is right.
    Rock {
        /// Its place.
        at: Cursor,
        /// Its digest.
        digest: Digest,
        /// Its encoding.
        rock: Vec<u8>,
    },
    /// Everything up to this aeon is here.
    CaughtUp(Aeon),
    /// The publisher is shutting down.
    ShuttingDown,
}

/// A message that may not come at its place. The stream is to be closed, and tried again later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A message came where the protocol has none.
    #[error("the publisher sent {0} where none may come")]
    OutOfOrder(&'static str),
    /// A wave does not follow the one before it.
    #[error("the publisher sent the wave of aeon {got} after aeon {position}")]
    Gap {
        /// Where the stream was.
        position: Aeon,
        /// What came.
        got: Aeon,
    },
    /// An aeon is beyond the last that there may be.
    #[error("the publisher sent aeon {0}: the last that there may be is {last}", last = Aeon::LAST)]
    AeonTooLarge(Aeon),
    /// A wave is too large.
    #[error("the publisher sent a wave of {0} bytes: at most {MAX_WAVE_BYTES} are allowed")]
    WaveTooLarge(usize),
    /// A rock is announced too large.
    #[error("the publisher announced a rock of {0} bytes: at most {MAX_ROCK_BYTES} are allowed")]
    RockTooLarge(u64),
    /// A chunk is too large, empty, or goes beyond the announced rock.
    #[error("the publisher sent a chunk of {0} bytes that does not fit the rock it announced")]
    BadChunk(usize),
    /// The rock's bytes do not have the digest that was announced.
    #[error("the rock of aeon {0} does not have the digest that was announced")]
    WrongDigest(Aeon),
    /// A rock is older than what this side has shown its readers already.
    #[error(
        "the publisher sent the rock of aeon {got}, older than aeon {seen}, which this side has shown: waiting for a newer one"
    )]
    RockTooOld {
        /// What was shown.
        seen: Aeon,
        /// What came.
        got: Aeon,
    },
}

impl Inflow {
    /// A stream that asks with this cursor. `seen` is where this side's readers are: no rock
    /// of that epoch is taken that would bring them back. The two differ only while
    /// a replica is healed, when it asks with nothing.
    pub fn new(asked: Option<Cursor>, seen: Option<Cursor>) -> Self {
        Self { asked, position: None, seen, rock: None }
    }

    /// Where the messages so far have led to.
    pub fn position(&self) -> Option<Cursor> {
        self.position
    }

    /// Takes one message.
    pub fn handle(&mut self, message: Message<'_>) -> Result<Intake, Violation> {
        let inside_rock = matches!(message, Message::Resumed(_) | Message::Wave { .. } | Message::CaughtUp(_));
        if self.rock.is_some() && inside_rock {
            return Err(Violation::OutOfOrder("another message inside a rock"));
        }
        match message {
            Message::NotAvailable => {
                let served = self.position.is_some();
                self.interrupted();
                Ok(if served { Intake::Killed } else { Intake::NotAvailable })
            }
            Message::Refused(refusal) => {
                self.interrupted();
                Ok(Intake::Refused(refusal))
            }
            Message::Resumed(cursor) => self.resumed(cursor),
            Message::Rock { at, bytes, digest } => self.begin_rock(at, bytes, digest),
            Message::Chunk(bytes) => self.chunk(&bytes),
            Message::Wave { aeon, digest, wave } => self.wave(aeon, digest, wave.into_owned()),
            Message::CaughtUp(aeon) => match self.position {
                Some(position) if position.aeon == aeon => Ok(Intake::CaughtUp(aeon)),
                _ => Err(Violation::OutOfOrder("a caught-up for another aeon")),
            },
            Message::ShuttingDown => Ok(Intake::ShuttingDown),
        }
    }

    /// What came so far stays where it is: a stream that goes on later goes on from there,
    /// not from where it had begun, or waves would come twice.
    fn interrupted(&mut self) {
        self.rock = None;
        if let Some(position) = self.position.take() {
            self.asked = Some(position);
            self.seen = Some(position);
        }
    }

    fn resumed(&mut self, cursor: Cursor) -> Result<Intake, Violation> {
        if self.position.is_some() || self.asked != Some(cursor) {
            return Err(Violation::OutOfOrder("a resumption"));
        }
        self.position = Some(cursor);
        Ok(Intake::Nothing)
    }

    fn begin_rock(&mut self, at: Cursor, bytes: u64, digest: Digest) -> Result<Intake, Violation> {
        if bytes > MAX_ROCK_BYTES as u64 {
            return Err(Violation::RockTooLarge(bytes));
        }
        if at.aeon > Aeon::LAST {
            return Err(Violation::AeonTooLarge(at.aeon));
        }
        let shown = [self.position, self.seen].into_iter().flatten();
        let shown = shown.filter(|shown| shown.epoch == at.epoch).map(|shown| shown.aeon).max();
        if let Some(seen) = shown.filter(|seen| at.aeon < *seen) {
            return Err(Violation::RockTooOld { seen, got: at.aeon });
        }
        // Memory is taken as the chunks come, not as the publisher announces.
        self.rock = Some(RockUnderWay { at, bytes, digest, received: Vec::new() });
        self.finish_rock()
    }

    fn chunk(&mut self, bytes: &[u8]) -> Result<Intake, Violation> {
        let Some(rock) = &mut self.rock else {
            return Err(Violation::OutOfOrder("a chunk outside a rock"));
        };
        let left = rock.bytes - rock.received.len() as u64;
        if bytes.is_empty() || bytes.len() > ROCK_CHUNK_BYTES || bytes.len() as u64 > left {
            return Err(Violation::BadChunk(bytes.len()));
        }
        if rock.received.capacity() - rock.received.len() < bytes.len() {
            // Doubled, so that the bytes are not moved at each chunk, and never beyond the rock.
            let more = (rock.received.len().max(bytes.len()) as u64).min(left);
            rock.received.reserve_exact(usize::try_from(more).unwrap_or(bytes.len()));
        }
        rock.received.extend_from_slice(bytes);
        self.finish_rock()
    }

    fn finish_rock(&mut self) -> Result<Intake, Violation> {
        let Some(rock) = self.rock.take_if(|rock| rock.received.len() as u64 == rock.bytes) else {
            return Ok(Intake::Nothing);
        };
        if Digest::of(&rock.received) != rock.digest {
            return Err(Violation::WrongDigest(rock.at.aeon));
        }
        self.position = Some(rock.at);
        Ok(Intake::Rock { at: rock.at, digest: rock.digest, rock: rock.received })
    }

    fn wave(&mut self, aeon: Aeon, digest: Option<Digest>, wave: Vec<u8>) -> Result<Intake, Violation> {
        let Some(position) = &mut self.position else {
            return Err(Violation::OutOfOrder("a wave before a rock or a resumption"));
        };
        if aeon != position.aeon.next() {
            return Err(Violation::Gap { position: position.aeon, got: aeon });
        }
        if aeon > Aeon::LAST {
            return Err(Violation::AeonTooLarge(aeon));
        }
        if wave.len() > MAX_WAVE_BYTES {
            return Err(Violation::WaveTooLarge(wave.len()));
        }
        position.aeon = aeon;
        Ok(Intake::Wave { aeon, digest, wave })
    }
}
