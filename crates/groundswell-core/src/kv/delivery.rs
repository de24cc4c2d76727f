//! What the other side of a document holds of this side's entries.

use alloc::collections::{BTreeMap, BTreeSet};

/// What the other side says that it holds of ours, durably.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Of which document.
    pub number: u64,
    /// Up to which counter; nothing until it has said so.
    pub upto: Option<u64>,
    /// The lowest counter of an entry that was left out, see [`LeftOut`].
    pub left_out: Option<u64>,
    /// Nothing counts before the other side holds everything up to here: this side [went back](crate::kv::restored), and has
    /// signed anew what the other side may lack.
    pub agreed: u64,
}

impl Delivered {
    /// Up to which counter the other side holds every entry of this document that this side has not written over since.
    /// Of a key that was written over, it may hold an older entry still, until it holds the newer one: that one counts as
    /// delivered by its own counter.
    pub fn whole_upto(&self, number: u64) -> Option<u64> {
        let upto = self.upto.filter(|upto| self.number == number && *upto >= self.agreed)?;
        Some(self.left_out.map_or(upto, |lowest| upto.min(lowest.saturating_sub(1))))
    }
}

/// Our newest entries of their keys that the other side may lack, although it acknowledges counters beyond theirs: their
/// values are larger than it takes, or than it took. They are a part of the view, which is their bound.
#[derive(Debug, Default)]
pub struct LeftOut {
    entries: BTreeMap<[u8; 32], u64>,
    /// Their counters, each of which an author gives once.
    counters: BTreeSet<u64>,
}

impl LeftOut {
    /// Returns true if no value was too large for the other side.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Notes an entry by its document key and its counter.
    pub fn add(&mut self, key: [u8; 32], counter: u64) {
        if let Some(before) = self.entries.insert(key, counter) {
            self.counters.remove(&before);
        }
        self.counters.insert(counter);
    }

    /// Returns true if the newest entry of this key was left out.
    pub fn has(&self, key: &[u8; 32]) -> bool {
        self.entries.contains_key(key)
    }

    /// A newer entry of the key is there.
    pub fn replaced(&mut self, key: &[u8; 32]) {
        if let Some(counter) = self.entries.remove(key) {
            self.counters.remove(&counter);
        }
    }

    /// A reconciliation of all entries up to this counter has offered some of them to the other side: that one has the
    /// others.
    pub fn reconciled(&mut self, upto: u64, offered: impl Fn(&[u8; 32]) -> bool) {
        self.entries.retain(|key, counter| *counter > upto || offered(key));
        self.counters = self.entries.values().copied().collect();
    }

    /// The lowest counter of an entry that the other side may lack.
    pub fn lowest(&self) -> Option<u64> {
        self.counters.first().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A side that went back has signed anew what the other side may lack. It is told of nothing before all of that is there.
    #[test]
    fn nothing_counts_before_both_have_agreed() {
        let delivered = |upto, agreed| Delivered { number: 1, upto: Some(upto), left_out: None, agreed }.whole_upto(1);
        assert_eq!(delivered(9, u64::MAX), None);
        assert_eq!(delivered(9, 10), None);
        assert_eq!(delivered(10, 10), Some(10));
    }

    /// What the other side acknowledges says nothing of what was never sent to it.
    #[test]
    fn an_entry_that_was_left_out_is_not_delivered() {
        let mut left_out = LeftOut::default();
        let mut delivered = Delivered { number: 1, upto: Some(9), left_out: None, agreed: 0 };
        let mut upto = |left_out: &LeftOut| {
            delivered.left_out = left_out.lowest();
            delivered.whole_upto(1)
        };
        assert_eq!(upto(&left_out), Some(9));
        left_out.add([1; 32], 7);
        left_out.add([2; 32], 4);
        left_out.add([3; 32], 12);
        assert_eq!(upto(&left_out), Some(3));
        left_out.replaced(&[2; 32]);
        assert_eq!(upto(&left_out), Some(6));
        left_out.reconciled(9, |key| *key == [1; 32]);
        assert_eq!(upto(&left_out), Some(6), "the other side was offered it, and so it lacked it");
        left_out.reconciled(9, |_| false);
        assert_eq!((upto(&left_out), left_out.lowest()), (Some(9), Some(12)), "that was no part of the reconciliation");
        assert_eq!(delivered.whole_upto(2), None);
        left_out.add([3; 32], 20);
        assert_eq!(left_out.lowest(), Some(20), "the key's newest entry alone counts");
        assert!(left_out.has(&[3; 32]) && !left_out.has(&[1; 32]));
    }
}
