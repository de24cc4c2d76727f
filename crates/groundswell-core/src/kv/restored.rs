//! A side whose storage went back in time: a backup was restored, or files are lost.
//!
//! It may have given counters that it does not know of, and the other side may hold entries of it that it lost. Either of two signs
//! tells it: its storage is a restored copy, or the other side holds more of this side's entries than it was ever
//! [sent](Claim). It then
//!
//! 1. notes that durably, and leaves a [gap](after_gap) in its counters, so that it gives none again;
//! 2. [agrees first](crate::kv::sync::KvSync::agree_first) in its sessions: it says that it holds none of its own entries, so that
//!    the other side sends all that it has of them. What [comes back](returned) is merged, and the greatest of each key stays;
//! 3. signs anew, with fresh counters, each own entry that the other side may lack although its counter is not beyond what that
//!    side holds ([`Returned::lacks`]), and goes on as before.
//!
//! Nothing counts as delivered meanwhile, and nothing of its own is sent.

use alloc::collections::BTreeMap;

use crate::{
    kv::stamp::Stamp,
    limits::{MAX_CLAIMED_COUNTER, MAX_CLAIMED_MORE, MAX_STAMP_WALL_MS, RESTORED_CLOCK_GAP_MS, RESTORED_GAP},
};

/// What the other side says that it holds of this side's entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// No more than it was sent.
    Sent,
    /// More than it was ever sent: this side went back.
    More,
    /// So much that no side can have given it, which breaks the protocol.
    Impossible,
}

impl Claim {
    /// What the other side says, given up to where it was sent this side's entries.
    pub fn of(sent: u64, held_there: u64) -> Self {
        match held_there {
            _ if held_there <= sent => Self::Sent,
            _ if held_there > MAX_CLAIMED_COUNTER.min(sent.saturating_add(MAX_CLAIMED_MORE)) => Self::Impossible,
            _ => Self::More,
        }
    }
}

/// The counter to go on from, after the next one here and what the other side holds. Any number is random enough.
pub fn after_gap(next: u64, held_there: u64, random: u64) -> u64 {
    let last = next.max(held_there.saturating_add(1));
    last.saturating_add(RESTORED_GAP).saturating_add(random % RESTORED_GAP)
}

/// The bound for a clock to go on from, after the one that is stored.
pub fn clock_after_gap(bound: Stamp) -> Stamp {
    let wall_ms = bound.wall_ms.saturating_add(RESTORED_CLOCK_GAP_MS).min(MAX_STAMP_WALL_MS);
    bound.max(Stamp { wall_ms, count: 0 })
}

/// What becomes of an own entry that the other side sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Back {
    /// It is here, or one that ranks above it. Nothing changes.
    Known,
    /// It takes the place of what is here, as it is.
    Kept,
    /// It takes that place with a fresh counter: what is here has a greater one, by which a document would keep it.
    Anew,
}

/// What becomes of an own entry that the other side sends, given the one of its key that is here. Each is a rank, as in a view, and
/// a counter.
pub fn returned<R: Ord>(here: Option<(R, u64)>, back: (R, u64)) -> Back {
    match here {
        None => Back::Kept,
        Some(here) if back <= here => Back::Known,
        Some((_, counter)) if counter < back.1 => Back::Kept,
        Some(_) => Back::Anew,
    }
}

/// What the other side has sent back in one session, by document key: the counter and the hash of each entry.
#[derive(Debug, Clone, Default)]
pub struct Returned(BTreeMap<[u8; 32], (u64, [u8; 32])>);

impl Returned {
    /// Returns true if it has sent an entry that it was not sent, by a side that has sent it everything up to here.
    pub fn shows_more(&self, sent: u64) -> bool {
        self.0.values().any(|(counter, _)| *counter > sent)
    }
}

impl Returned {
    /// The other side holds this entry. Of one key it sends one, unless that is replaced meanwhile.
    pub fn add(&mut self, key: [u8; 32], counter: u64, hash: [u8; 32]) {
        self.0.insert(key, (counter, hash));
    }

    /// Returns true if the other side, which holds everything up to a counter by its own word, may lack this entry and would not
    /// be sent it.
    pub fn lacks(&self, upto: u64, key: &[u8; 32], counter: u64, hash: &[u8; 32]) -> bool {
        counter <= upto && self.0.get(key) != Some(&(counter, *hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_longer_than_what_was_lost_and_another_one_each_time() {
        assert_eq!(after_gap(5, 3, 0), 5 + RESTORED_GAP);
        assert_eq!(after_gap(5, 30, 0), 31 + RESTORED_GAP);
        assert_eq!(after_gap(5, 3, u64::MAX), 5 + 2 * RESTORED_GAP - 1);
        assert!((0..100).all(|random| after_gap(1, 0, random * 77) < 600_000_000), "iroh-docs takes it at any time");
        assert_eq!(after_gap(u64::MAX, 3, 1), u64::MAX);
        let last = Stamp { wall_ms: MAX_STAMP_WALL_MS, count: 9 };
        assert_eq!(clock_after_gap(last), last, "a clock never goes back");
        assert!(clock_after_gap(Stamp::default()) > Stamp { wall_ms: 1, count: 9 });
    }

    #[test]
    fn the_greater_rank_stays_and_its_counter_is_the_greatest() {
        assert_eq!(returned(None, (3, 3)), Back::Kept);
        assert_eq!(returned(Some((3, 3)), (3, 3)), Back::Known);
        assert_eq!(returned(Some((3, 4)), (3, 3)), Back::Known);
        assert_eq!(returned(Some((3, 4)), (2, 9)), Back::Known);
        assert_eq!(returned(Some((2, 2)), (3, 3)), Back::Kept);
        assert_eq!(returned(Some((2, 3)), (3, 3)), Back::Anew, "a counter that was given twice");
        assert_eq!(returned(Some((2, 9)), (3, 3)), Back::Anew);
    }

    #[test]
    fn what_the_other_side_may_lack_is_signed_anew() {
        let mut back = Returned::default();
        back.add([1; 32], 7, [7; 32]);
        assert!(!back.lacks(9, &[1; 32], 7, &[7; 32]), "it has just sent it");
        assert!(back.lacks(9, &[1; 32], 7, &[8; 32]), "another entry of the same counter");
        assert!(back.lacks(9, &[2; 32], 9, &[7; 32]));
        assert!(!back.lacks(9, &[2; 32], 10, &[7; 32]), "it is sent");
    }

    #[test]
    fn more_than_was_sent_is_a_sign() {
        assert_eq!(Claim::of(7, 7), Claim::Sent);
        assert_eq!(Claim::of(7, 8), Claim::More);
        assert_eq!(Claim::of(7, 7 + MAX_CLAIMED_MORE), Claim::More);
        assert_eq!(Claim::of(7, 8 + MAX_CLAIMED_MORE), Claim::Impossible);
        assert_eq!(Claim::of(MAX_CLAIMED_COUNTER - 1, MAX_CLAIMED_COUNTER), Claim::More);
        assert_eq!(Claim::of(MAX_CLAIMED_COUNTER - 1, MAX_CLAIMED_COUNTER + 1), Claim::Impossible);
        assert_eq!(Claim::of(u64::MAX, u64::MAX), Claim::Sent);
    }
}
