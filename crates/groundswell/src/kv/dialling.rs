//! How often the other side of a document is dialled, and how many sides at a time.
//!
//! Whoever comes back dials at once, so that a side that was away for long need not be dialled often: its own dial, which
//! comes every few seconds, is what brings the two together again.

use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use crate::{
    limits::{
        BACKOFF_FIRST, KV_ABSENT_AFTER, KV_ABSENT_DIALS_AT_ONCE, KV_BACKOFF_ABSENT, KV_BACKOFF_LAST, KV_DIALS_AT_ONCE,
        KV_NOT_KNOWN_BACKOFF_LAST,
    },
    peers::jittered,
};

/// The places for dials of one node. Each kind is served in the order in which they ask.
pub(crate) struct Dials {
    recent: Semaphore,
    absent: Semaphore,
}

impl Default for Dials {
    fn default() -> Self {
        let (recent, absent) = (Semaphore::new(KV_DIALS_AT_ONCE), Semaphore::new(KV_ABSENT_DIALS_AT_ONCE));
        Self { recent, absent }
    }
}

impl Dials {
    /// Dials when there is a place for it. Sides that are away for long have places of their own, so that those that were
    /// just lost do not wait for them.
    pub(crate) async fn in_turn<T>(&self, absent: bool, dial: impl Future<Output = T>) -> T {
        let places = if absent { &self.absent } else { &self.recent };
        // They are never closed.
        let _place = places.acquire().await;
        dial.await
    }
}

/// The waits between attempts to reach one side.
#[derive(Debug)]
pub(crate) struct Backoff {
    wait: Duration,
    since: Instant,
    /// The other side answers, and says that it does not know this pair.
    not_known: bool,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { wait: BACKOFF_FIRST, since: Instant::now(), not_known: false }
    }

    /// Whether the last attempt found a side that knows this pair, or none. One that does not know it begins to when
    /// somebody brings its files back, and then dials by itself.
    pub(crate) fn answered(&mut self, known: bool) {
        self.not_known = !known;
    }

    /// Whether the other side has been away for long.
    pub(crate) fn is_absent(&self) -> bool {
        self.since.elapsed() >= KV_ABSENT_AFTER
    }

    /// How long to wait before the next attempt. It doubles, up to a few seconds at first and to more after a while.
    pub(crate) fn next(&mut self) -> Duration {
        let last = match (self.is_absent(), self.not_known) {
            (true, _) => KV_BACKOFF_ABSENT,
            (false, true) => KV_NOT_KNOWN_BACKOFF_LAST,
            (false, false) => KV_BACKOFF_LAST,
        };
        let wait = self.wait.min(last);
        self.wait = (2 * wait).min(last);
        jittered(wait)
    }

    /// A connection held for so long. One that ends at once was none, so that the waits go on growing.
    pub(crate) fn connected(&mut self, held: Duration) {
        self.since = Instant::now();
        if held > KV_BACKOFF_LAST {
            self.wait = BACKOFF_FIRST;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;
    use crate::limits::KV_DIAL_TIMEOUT;

    /// A backoff of a side that was lost so long ago.
    fn lost(ago: Duration) -> Backoff {
        Backoff { since: Instant::now().checked_sub(ago).unwrap(), ..Backoff::new() }
    }

    /// The longest time between the ends of two attempts of a side, whoever else is dialled.
    #[test]
    fn a_side_that_was_just_lost_is_dialled_every_few_seconds() {
        let mut backoff = Backoff::new();
        for _ in 0..100 {
            assert!(backoff.next() + KV_DIAL_TIMEOUT <= Duration::from_secs(10));
        }
        assert!(!backoff.is_absent());
    }

    #[test]
    fn waits_grow_for_a_side_that_is_away_for_long_and_begin_again_when_it_is_back() {
        let mut backoff = lost(KV_ABSENT_AFTER);
        assert!(backoff.is_absent());
        let waits: Vec<Duration> = (0..20).map(|_| backoff.next()).collect();
        assert!(waits[19] > 2 * KV_BACKOFF_LAST, "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= 2 * KV_BACKOFF_ABSENT), "{waits:?}");
        backoff.connected(KV_BACKOFF_LAST * 2);
        assert!(!backoff.is_absent());
        assert!(backoff.next() <= 2 * BACKOFF_FIRST);
    }

    #[test]
    fn a_connection_that_ends_at_once_does_not_shorten_the_waits() {
        let mut backoff = Backoff::new();
        for _ in 0..10 {
            backoff.next();
            backoff.connected(Duration::from_millis(20));
        }
        assert!(backoff.wait >= KV_BACKOFF_LAST);
    }

    /// A thousand sides that are off, in a clock of the test's own: what was 1,000 dials in 8 s, for ever.
    #[test]
    fn a_thousand_absent_sides_are_dialled_rarely() {
        let mut sides: Vec<(Duration, Backoff)> = (0..1_000).map(|_| (Duration::ZERO, lost(KV_ABSENT_AFTER))).collect();
        let (mut dials, hour) = (0, Duration::from_secs(3_600));
        for (next, backoff) in &mut sides {
            while *next < hour {
                dials += 1;
                *next += KV_DIAL_TIMEOUT + backoff.next();
            }
        }
        let each_second = f64::from(dials) / hour.as_secs_f64();
        println!("{each_second:.1} dials a second, before the places for them run out");
        assert!(each_second < 25.0, "{each_second}");
    }

    #[tokio::test]
    async fn only_so_many_are_dialled_at_a_time_and_each_has_its_turn() {
        for (absent, places) in [(false, KV_DIALS_AT_ONCE), (true, KV_ABSENT_DIALS_AT_ONCE)] {
            let (dials, now, most) =
                (Arc::<Dials>::default(), Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..5 * places {
                let (dials, now, most) = (dials.clone(), now.clone(), most.clone());
                tasks.spawn(async move {
                    let dial = async {
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        for _ in 0..10 {
                            tokio::task::yield_now().await;
                        }
                        now.fetch_sub(1, Ordering::SeqCst);
                    };
                    dials.in_turn(absent, dial).await;
                });
            }
            tasks.join_all().await;
            assert_eq!(most.load(Ordering::SeqCst), places);
        }
    }
}
