//! Whether what was written on this side is at the other: who waits for it, and since when something is late.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{Kv, document::Document, error::KvError, session, storage::index};
use crate::{Moment, limits::KV_DELIVERED_WITHIN};

/// What the other side says that it holds of ours, durably.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Delivered {
    /// Of which document.
    pub(crate) number: u64,
    /// Up to which counter; nothing until it has said so.
    pub(crate) upto: Option<u64>,
    /// The lowest counter of an entry that was left out, see [`LeftOut`].
    pub(crate) left_out: Option<u64>,
}

impl Delivered {
    /// Up to which counter the other side holds every entry of this document.
    pub(crate) fn whole_upto(&self, number: u64) -> Option<u64> {
        let upto = self.upto.filter(|_| self.number == number)?;
        Some(self.left_out.map_or(upto, |lowest| upto.min(lowest.saturating_sub(1))))
    }
}

/// Our newest entries of their keys that the other side may lack, although it acknowledges counters beyond theirs: their
/// values are larger than it takes, or than it took. They are a part of the view, which is their bound.
#[derive(Debug, Default)]
pub(crate) struct LeftOut(HashMap<[u8; 32], u64>);

impl LeftOut {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notes an entry by its document key and its counter.
    pub(crate) fn add(&mut self, key: [u8; 32], counter: u64) {
        self.0.insert(key, counter);
    }

    /// A newer entry of the key is there.
    pub(crate) fn replaced(&mut self, key: &[u8; 32]) {
        self.0.remove(key);
    }

    /// A reconciliation of all entries up to this counter offered these to the other side: it has the others.
    pub(crate) fn reconciled(&mut self, upto: u64, offered: &HashSet<[u8; 32]>) {
        self.0.retain(|key, counter| *counter > upto || offered.contains(key));
    }

    pub(crate) fn lowest(&self) -> Option<u64> {
        self.0.values().min().copied()
    }
}

/// Waits until the other side holds everything that was written here before this call. Cancel safe.
pub(crate) async fn until_delivered(kv: &Kv, document: &Document) -> Result<(), KvError> {
    let (number, head) = document.own_head();
    let mut delivered = document.delivered.subscribe();
    let all = |now: &Delivered| now.whole_upto(number).is_some_and(|upto| upto >= head);
    loop {
        let identity = document.identity();
        if identity.peer().is_none() || identity.number != number {
            return Err(KvError::NotClaimed);
        }
        if head == 0 {
            return Ok(());
        }
        tokio::select! {
            biased;
            () = kv.closing.cancelled() => return Err(KvError::ShutDown),
            () = identity.replaced.cancelled() => {
                // It has ended with its identity, unless it has another: the same pair may have been claimed again.
                if Arc::ptr_eq(&identity, &document.identity()) {
                    return Err(KvError::NotClaimed);
                }
            }
            // The sender lives in the document.
            _ = delivered.wait_for(all) => return Ok(()),
        }
    }
}

/// Says in the status since when something that was written here is late. It never ends.
pub(crate) async fn follow(document: &Document) {
    let (mut heads, mut delivered) = (document.heads.subscribe(), document.delivered.subscribe());
    let mut way = OnItsWay::default();
    loop {
        let head = heads.borrow_and_update()[index(document.ours)];
        let (now, identity) = (*delivered.borrow_and_update(), document.identity());
        let oldest =
            way.see(head, now.whole_upto(identity.number), Moment::now()).filter(|_| identity.peer().is_some());
        let late = oldest.filter(|oldest| oldest.elapsed() >= KV_DELIVERED_WITHIN);
        document.status.send_if_modified(|status| std::mem::replace(&mut status.undelivered_since, late) != late);
        let told = oldest.filter(|_| late.is_none()).map(|oldest| (oldest.instant() + KV_DELIVERED_WITHIN).into());
        tokio::select! {
            // Another identity of the document is told here too. The senders live in the document.
            _ = delivered.changed() => {}
            _ = heads.changed() => {}
            () = session::at(told) => {}
        }
    }
}

/// What was written within this time counts as written at once.
const STEP: Duration = Duration::from_millis(100);

/// How many steps are remembered: what is written after so many counts as written with the last of them.
const STEPS: usize = 100;

/// What is on its way, and since when.
#[derive(Debug, Default)]
struct OnItsWay {
    /// Counters, and when the first after the one before was written.
    steps: VecDeque<(u64, Moment)>,
    /// Until the other side has said what it holds, only what is written after this is known to be on its way.
    unknown_upto: Option<u64>,
}

impl OnItsWay {
    /// Since when the oldest is on its way, with the newest counter here and the one up to which the other side holds
    /// them.
    fn see(&mut self, head: u64, upto: Option<u64>, now: Moment) -> Option<Moment> {
        let upto = if let Some(upto) = upto {
            self.unknown_upto = None;
            upto
        } else {
            // Another document may begin with less.
            let unknown = self.unknown_upto.get_or_insert(head);
            *unknown = head.min(*unknown);
            *unknown
        };
        if self.steps.back().is_some_and(|(newest, _)| *newest > head) {
            self.steps.clear();
        }
        while self.steps.front().is_some_and(|(counter, _)| *counter <= upto) {
            self.steps.pop_front();
        }
        if head > self.steps.back().map_or(upto, |(newest, _)| *newest) {
            let full = self.steps.len() >= STEPS;
            match self.steps.back_mut() {
                Some((newest, since)) if full || now.instant().saturating_duration_since(since.instant()) < STEP => {
                    *newest = head
                }
                _ => self.steps.push_back((head, now)),
            }
        }
        self.steps.front().map(|(_, since)| *since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is seen at these milliseconds: since which of them something is on its way.
    struct Seen(OnItsWay, Moment);

    impl Seen {
        fn new() -> Self {
            Self(OnItsWay::default(), Moment::now())
        }

        fn see(&mut self, ms: u64, head: u64, upto: Option<u64>) -> Option<u64> {
            let (time, begin) = (Duration::from_millis(ms), self.1);
            let since = self.0.see(head, upto, (begin.instant() + time).into())?;
            Some(u64::try_from((since.instant() - begin.instant()).as_millis()).unwrap())
        }
    }

    #[test]
    fn it_is_on_its_way_from_its_writing_to_its_delivery() {
        let mut seen = Seen::new();
        assert_eq!(seen.see(0, 7, Some(7)), None);
        assert_eq!(seen.see(10, 8, Some(7)), Some(10));
        assert_eq!(seen.see(5_000, 8, Some(7)), Some(10));
        assert_eq!(seen.see(5_000, 8, Some(8)), None);
        assert_eq!(seen.see(6_000, 9, Some(12)), None, "the other side may hold more, after a backup");
    }

    /// On a slow line it is always three seconds.
    #[test]
    fn a_steady_backlog_is_as_old_as_its_oldest() {
        let mut seen = Seen::new();
        for second in 0..60_u64 {
            for tenth in 0..10_u64 {
                let (now, head) = (second * 1_000 + tenth * 100, second * 10 + tenth + 1);
                let since = seen.see(now, head, Some(head.saturating_sub(30)));
                assert_eq!(since, Some(now.saturating_sub(2_900)), "at {now}");
            }
        }
        assert_eq!(seen.see(60_000, 600, Some(600)), None);
    }

    #[test]
    fn writers_without_a_pause_take_little_memory_and_are_told_no_later() {
        let mut seen = Seen::new();
        for ms in 0..60_000 {
            assert_eq!(seen.see(ms, ms + 1, Some(0)), Some(0));
        }
        assert_eq!(seen.0.steps.len(), STEPS);
        assert_eq!(seen.see(60_000, 60_001, Some(59_999)), Some(9_900), "the last step that there was room for");
        assert_eq!(seen.see(60_001, 60_001, Some(60_001)), None);
    }

    /// What the other side acknowledges says nothing of what was never sent to it.
    #[test]
    fn an_entry_that_was_left_out_is_not_delivered() {
        let mut left_out = LeftOut::default();
        let mut delivered = Delivered { number: 1, upto: Some(9), left_out: None };
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
        left_out.reconciled(9, &HashSet::from([[1; 32]]));
        assert_eq!(upto(&left_out), Some(6), "the other side was offered it, and so it lacked it");
        left_out.reconciled(9, &HashSet::new());
        assert_eq!((upto(&left_out), left_out.lowest()), (Some(9), Some(12)), "that was no part of the reconciliation");
        assert_eq!(delivered.whole_upto(2), None);
    }

    #[test]
    fn what_is_not_known_is_not_said() {
        let mut seen = Seen::new();
        assert_eq!(seen.see(0, 50, None), None, "it may be there");
        assert_eq!(seen.see(10, 51, None), Some(10));
        assert_eq!(seen.see(20, 51, Some(40)), Some(10));
        assert_eq!(seen.see(30, 51, Some(51)), None);
        // Another document, and another side that has not been met.
        assert_eq!(seen.see(40, 7, None), None);
        assert_eq!(seen.see(50, 8, None), Some(50));
        assert_eq!(seen.see(60, 3, None), None);
        assert_eq!(seen.see(70, 4, None), Some(70));
    }
}
