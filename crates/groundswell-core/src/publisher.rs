//! The publisher's side of one subscription, as a state machine.
//!
//! The driver holds one [`Outflow`] for each reader, local or remote, and repeats:
//!
//! 1. ask [`Outflow::poll`] what to do, with the tide as it is now;
//! 2. do it (read from storage, write to the stream) and say so with the method that the
//!    step names; a step that could not be done (its rows were pruned meanwhile) is simply
//!    polled again;
//! 3. on [`Step::Wait`], wait until the tide has changed.

use alloc::boxed::Box;

use crate::{
    aeon::{Aeon, Cursor},
    limits::ROCK_CHUNK_BYTES,
    tide::{Next, RockInfo, Tide},
};

/// The place of one reader in a tide, and what it has been told.
#[derive(Debug, Clone)]
pub struct Outflow {
    cursor: Option<Cursor>,
    greeted: bool,
    caught_up: bool,
    /// Boxed, since most of the thousands that there may be have sent theirs.
    rock: Option<Box<RockUnderWay>>,
}

#[derive(Debug, Clone, Copy)]
struct RockUnderWay {
    at: Cursor,
    info: RockInfo,
    sent: u64,
}

impl RockUnderWay {
    /// Whether the tide has not begun anew since, with another rock in the same place: the
    /// rest of this one could then be read from that one's rows.
    fn is_of(&self, tide: &Tide) -> bool {
        let stored = tide.digest_at(self.at.aeon);
        tide.cursor().epoch == self.at.epoch && stored.is_none_or(|digest| digest == self.info.digest)
    }
}

/// What the driver is to do next for a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Tell the reader that its cursor is good, then call [`Outflow::resumed`].
    Resume(Cursor),
    /// Announce a rock, then call [`Outflow::rock_begun`].
    BeginRock {
        /// The rock's place.
        at: Cursor,
        /// Its size and digest.
        info: RockInfo,
    },
    /// Send so many bytes of the rock, then call [`Outflow::chunk_sent`]; if the rock is gone
    /// from storage, call [`Outflow::rock_gone`].
    Chunk {
        /// The rock's aeon.
        aeon: Aeon,
        /// Which chunk, from 0.
        index: u32,
    },
    /// Send these waves, or the first some of them, and call [`Outflow::waves_sent`].
    Waves {
        /// The first.
        first: Aeon,
        /// The last.
        last: Aeon,
    },
    /// Tell the reader that it has everything, then call [`Outflow::told_caught_up`].
    CaughtUp(Aeon),
    /// Wait until the tide changes.
    Wait,
    /// The reader has seen aeons that the tide has lost: the publisher has to begin a new epoch.
    Ahead,
}

impl Outflow {
    /// A reader that stands at this cursor, or has nothing.
    pub fn new(cursor: Option<Cursor>) -> Self {
        Self { cursor, greeted: false, caught_up: false, rock: None }
    }

    /// Where the reader stands.
    pub fn cursor(&self) -> Option<Cursor> {
        self.cursor
    }

    /// Whether the reader was told that it has caught up.
    pub fn is_caught_up(&self) -> bool {
        self.caught_up
    }

    /// What to do next.
    pub fn poll(&self, tide: &Tide) -> Step {
        if let Some(rock) = &self.rock
            && rock.is_of(tide)
        {
            let index = rock.sent / ROCK_CHUNK_BYTES as u64;
            return Step::Chunk { aeon: rock.at.aeon, index: u32::try_from(index).unwrap_or(u32::MAX) };
        }
        let next = tide.next(self.cursor);
        match (next, self.cursor) {
            (Next::Ahead, _) => Step::Ahead,
            (Next::Rock { aeon, info }, _) => Step::BeginRock { at: Cursor { epoch: tide.cursor().epoch, aeon }, info },
            (_, Some(cursor)) if !self.greeted => Step::Resume(cursor),
            (Next::Waves { first, last }, _) => Step::Waves { first, last },
            (Next::Wait, Some(cursor)) if !self.caught_up => Step::CaughtUp(cursor.aeon),
            (Next::Wait, _) => Step::Wait,
        }
    }

    /// The reader was told that its cursor is good.
    pub fn resumed(&mut self) {
        self.greeted = true;
    }

    /// A rock was announced.
    pub fn rock_begun(&mut self, at: Cursor, info: RockInfo) {
        self.greeted = true;
        // A rock in the middle of a live stream is a gap: the reader is catching up again.
        self.caught_up = false;
        self.rock = Some(Box::new(RockUnderWay { at, info, sent: 0 }));
        self.finish_rock();
    }

    /// So many bytes of the rock were sent.
    pub fn chunk_sent(&mut self, bytes: u64) {
        if let Some(rock) = &mut self.rock {
            rock.sent += bytes;
        }
        self.finish_rock();
    }

    /// The rock is no longer stored: a newer one will be announced in its place.
    pub fn rock_gone(&mut self) {
        self.rock = None;
    }

    /// The waves up to this aeon were sent.
    pub fn waves_sent(&mut self, last: Aeon) {
        if let Some(cursor) = &mut self.cursor {
            cursor.aeon = last;
        }
    }

    /// The reader was told that it has caught up.
    pub fn told_caught_up(&mut self) {
        self.caught_up = true;
    }

    fn finish_rock(&mut self) {
        if let Some(rock) = &self.rock
            && rock.sent >= rock.info.bytes
        {
            self.cursor = Some(rock.at);
            self.rock = None;
        }
    }
}
