//! Stamps, which decide what wins, and the clock that gives them: a hybrid logical clock.
//!
//! A stamp is the wall-clock time where that grows, and a count where it doesn't. A clock is
//! always past every stamp that it has seen, so that a write wins over all that its writer
//! knew of, whatever either side's wall clock shows.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::{MAX_STAMP_COUNT, MAX_STAMP_WALL_MS, STAMP_RESERVE_COUNT, STAMP_RESERVE_MS};

/// The place of a write among all writes of a document. Greater wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Stamp {
    /// Milliseconds since 1970, of the clock that was furthest ahead when it was given.
    pub wall_ms: u64,
    /// How many stamps were given before it at that time.
    pub count: u64,
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.wall_ms, self.count)
    }
}

/// A stamp that no clock gives. An entry that has one is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stamp {0} is beyond what a clock may give: the other side is faulty or hostile")]
pub struct StampError(pub Stamp);

impl Stamp {
    /// Checks a stamp of the other side. A wall clock that is wrong by any amount does not lead
    /// out of these bounds, and within them there is always a next one.
    pub fn check(self) -> Result<Self, StampError> {
        let fits = self.wall_ms <= MAX_STAMP_WALL_MS && self.count <= MAX_STAMP_COUNT;
        if fits { Ok(self) } else { Err(StampError(self)) }
    }

    /// The stamp after this one.
    fn next(self) -> Self {
        if self.count < MAX_STAMP_COUNT {
            Self { count: self.count + 1, ..self }
        } else if self.wall_ms < MAX_STAMP_WALL_MS {
            Self { wall_ms: self.wall_ms + 1, count: 0 }
        } else {
            // Only a hostile side leads here. Its own document goes on for another 2^63 writes.
            Self { count: self.count.saturating_add(1), ..self }
        }
    }
}

/// The clock of one document at one side.
///
/// There is one for each document: a side that drives the stamps of its own document to their
/// end must not touch those of others.
///
/// Its stamps come out of a reservation that is stored, so that a restart goes on above all
/// that were given. The bound is stored before, or together with, the first entry that needs it:
///
/// ```
/// use groundswell_core::kv::Clock;
/// let stored = None; // what an earlier run has stored
/// let mut clock = Clock::restore(stored);
/// let stamp = match clock.now(1_000) {
///     Some(stamp) => stamp,
///     None => {
///         let bound = clock.reserve(1_000);
///         // … bound is made durable here …
///         clock.reserved(bound);
///         clock.now(1_000).expect("what was just reserved")
///     }
/// };
/// assert_eq!(stamp.wall_ms, 1_000);
/// ```
#[derive(Debug, Clone)]
pub struct Clock {
    /// The greatest stamp that was given or seen.
    last: Stamp,
    /// Stamps below this one may be given.
    bound: Stamp,
}

impl Clock {
    /// A clock that goes on above a stored bound; `None` for a new document. Let it
    /// [observe](Self::observe) every stamp that is stored, before it gives its first.
    pub fn restore(bound: Option<Stamp>) -> Self {
        let last = bound.unwrap_or_default();
        Self { last, bound: last }
    }

    /// The next stamp, greater than every one that was given or seen, at this wall-clock time
    /// in milliseconds since 1970. `None` where it is not reserved yet.
    pub fn now(&mut self, wall_ms: u64) -> Option<Stamp> {
        let next = self.peek(wall_ms);
        if next >= self.bound {
            return None;
        }
        self.last = next;
        Some(next)
    }

    /// The bound that is to be stored before [`Self::now`] can give a stamp at this wall-clock
    /// time. Nothing changes until [`Self::reserved`] says that it is stored.
    pub fn reserve(&self, wall_ms: u64) -> Stamp {
        let next = self.peek(wall_ms);
        if next.wall_ms < MAX_STAMP_WALL_MS {
            let wall_ms = next.wall_ms.saturating_add(STAMP_RESERVE_MS).min(MAX_STAMP_WALL_MS);
            Stamp { wall_ms, count: 0 }
        } else {
            Stamp { count: next.count.saturating_add(STAMP_RESERVE_COUNT), ..next }
        }
    }

    /// Takes into use a bound that is durable, or becomes so together with what uses it.
    pub fn reserved(&mut self, bound: Stamp) {
        self.bound = self.bound.max(bound);
    }

    /// Sees a stamp of the other side, or a stored one. It has been [checked](Stamp::check),
    /// as that of every decoded envelope has.
    pub fn observe(&mut self, stamp: Stamp) {
        self.last = self.last.max(stamp);
    }

    /// The greatest stamp that was given or seen.
    pub fn last(&self) -> Stamp {
        self.last
    }

    fn peek(&self, wall_ms: u64) -> Stamp {
        let wall_ms = wall_ms.min(MAX_STAMP_WALL_MS);
        if wall_ms > self.last.wall_ms { Stamp { wall_ms, count: 0 } } else { self.last.next() }
    }
}

/// By how many milliseconds the other side's wall clock is ahead of this one's, or behind it
/// where negative. Both are milliseconds since 1970: ours when the other's arrived, the other's
/// when it was sent, so that it is short by the time that it took to come.
pub fn skew_ms(ours: u64, theirs: u64) -> i64 {
    let apart = i64::try_from(ours.abs_diff(theirs)).unwrap_or(i64::MAX);
    if theirs >= ours { apart } else { -apart }
}
