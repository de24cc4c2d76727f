//! Whether what was written on this side is at the other: who waits for it, and since when something is late.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use groundswell_core::kv::Delivered;

use super::{Kv, document::Document, error::KvError, session};
use crate::{Moment, limits::KV_DELIVERED_WITHIN};

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
        let head = heads.borrow_and_update()[document.ours.index()];
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
