//! How often a peer is dialled that is not connected, and how many peers at a time.
//!
//! A peer that comes back dials or announces itself at once, so that one that was away for long need not be dialled often.

use std::time::{Duration, Instant};

use tokio::{sync::Semaphore, time::timeout};

use crate::limits::{
    ABSENT_AFTER, ABSENT_DIALS_AT_ONCE, BACKOFF_ABSENT, BACKOFF_FIRST, BACKOFF_LAST, BACKOFF_REFUSED, DIAL_TURN,
    DIALS_AT_ONCE,
};

/// Between half the wait and the whole of it, so that peers which lost one node do not all come back in the same moment.
pub(crate) fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(0.5 + rand::random::<f64>() / 2.0)
}

/// The places for dials of one node. Each kind is served in the order in which they ask.
pub(crate) struct Dials {
    recent: Semaphore,
    absent: Semaphore,
}

impl Default for Dials {
    fn default() -> Self {
        let (recent, absent) = (Semaphore::new(DIALS_AT_ONCE), Semaphore::new(ABSENT_DIALS_AT_ONCE));
        Self { recent, absent }
    }
}

impl Dials {
    /// Dials when there is a place for it, which it has for [`DIAL_TURN`] at most. Peers that are away for long have places
    /// of their own, so that those that were just lost do not wait for them.
    pub(crate) async fn in_turn<T>(&self, absent: bool, dial: impl Future<Output = T>) -> T {
        let places = if absent { &self.absent } else { &self.recent };
        // They are never closed.
        let place = places.acquire().await;
        let mut dial = std::pin::pin!(dial);
        if let Ok(done) = timeout(DIAL_TURN, &mut dial).await {
            return done;
        }
        drop(place);
        dial.await
    }
}

/// The waits between attempts to reach one peer, or to begin a session of one document with it.
#[derive(Debug)]
pub(crate) struct Backoff {
    wait: Duration,
    since: Instant,
    /// The peer answers, and refuses.
    refused: bool,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { wait: BACKOFF_FIRST, since: Instant::now(), refused: false }
    }

    /// Notes whether the last attempt was refused. A peer that refuses dials by itself when it does not any more: a side that
    /// does not know a pair, as when somebody brings its files back.
    pub(crate) fn answered(&mut self, refused: bool) {
        self.refused = refused;
    }

    /// Returns true if the peer has been away for long.
    pub(crate) fn is_absent(&self) -> bool {
        self.since.elapsed() >= ABSENT_AFTER
    }

    /// How long to wait before the next attempt. It doubles, up to a few seconds at first and to more after a while.
    pub(crate) fn next(&mut self) -> Duration {
        let last = match (self.is_absent(), self.refused) {
            (true, _) => BACKOFF_ABSENT,
            (false, true) => BACKOFF_REFUSED,
            (false, false) => BACKOFF_LAST,
        };
        let wait = self.wait.min(last);
        self.wait = (2 * wait).min(last);
        jittered(wait)
    }

    /// A connection held for so long. One that ends at once was none, so that the waits go on growing.
    pub(crate) fn connected(&mut self, held: Duration) {
        self.since = Instant::now();
        self.refused = false;
        if held > BACKOFF_LAST {
            self.wait = BACKOFF_FIRST;
        }
    }

    /// The peer has no room: it is asked again after the longest wait of one that refuses.
    pub(crate) fn crowded(&mut self) {
        (self.wait, self.refused) = (BACKOFF_REFUSED, true);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;
    use crate::limits::{ABSENT_DIAL_TIMEOUT, DIAL_TIMEOUT};

    /// The backoff of a peer that was lost so long ago.
    fn lost(ago: Duration) -> Backoff {
        Backoff { since: Instant::now().checked_sub(ago).unwrap(), ..Backoff::new() }
    }

    /// Subscriptions resume with jittered backoff: each wait is at most what it is to be and at
    /// least half of that, and peers that lost one node together do not come back together.
    #[test]
    fn waits_are_jittered() {
        let waits: Vec<Duration> = (0..1_000).map(|_| jittered(Duration::from_secs(8))).collect();
        let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
        assert!(*least >= Duration::from_secs(4) && *most <= Duration::from_secs(8), "{least:?} to {most:?}");
        assert!(*most - *least > Duration::from_secs(3), "spread over the whole of it: {least:?} to {most:?}");
    }

    /// The longest time between the ends of two attempts, whoever else is dialled.
    #[test]
    fn a_peer_that_was_just_lost_is_dialled_every_few_seconds() {
        let mut backoff = Backoff::new();
        for _ in 0..100 {
            assert!(backoff.next() + DIAL_TIMEOUT <= Duration::from_secs(10));
        }
        assert!(!backoff.is_absent());
    }

    #[test]
    fn waits_grow_for_a_side_that_is_away_for_long_and_begin_again_when_it_is_back() {
        let mut backoff = lost(ABSENT_AFTER);
        assert!(backoff.is_absent());
        let waits: Vec<Duration> = (0..20).map(|_| backoff.next()).collect();
        assert!(waits[19] > 2 * BACKOFF_LAST, "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= 2 * BACKOFF_ABSENT), "{waits:?}");
        backoff.connected(BACKOFF_LAST * 2);
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
        assert!(backoff.wait >= BACKOFF_LAST);
    }

    /// A thousand sides that are off, in a clock of the test's own: what was 1,000 dials in 8 s, for ever.
    #[test]
    fn a_thousand_absent_sides_are_dialled_rarely() {
        let mut sides: Vec<(Duration, Backoff)> = (0..1_000).map(|_| (Duration::ZERO, lost(ABSENT_AFTER))).collect();
        let (mut dials, hour) = (0, Duration::from_secs(3_600));
        for (next, backoff) in &mut sides {
            while *next < hour {
                dials += 1;
                *next += ABSENT_DIAL_TIMEOUT + backoff.next();
            }
        }
        let each_second = f64::from(dials) / hour.as_secs_f64();
        println!("{each_second:.1} dials a second, before the places for them run out");
        assert!(each_second < 25.0, "{each_second}");
    }

    /// Sources that are followed and off, in a clock of the test's own, with the places as they are.
    #[test]
    fn many_absent_sources_are_dialled_no_faster_than_there_are_places() {
        let hour = Duration::from_secs(3_600);
        for sources in [200, 1_000] {
            let mut places = vec![Duration::ZERO; ABSENT_DIALS_AT_ONCE];
            let mut waiting: Vec<(Duration, Backoff)> =
                (0..sources).map(|_| (Duration::ZERO, lost(ABSENT_AFTER))).collect();
            let mut dials = 0;
            loop {
                let (asks, backoff) = waiting.iter_mut().min_by_key(|(asks, _)| *asks).unwrap();
                let place = places.iter_mut().min().unwrap();
                let begins = (*place).max(*asks);
                if begins >= hour {
                    break;
                }
                dials += 1;
                *place = begins + DIAL_TURN;
                *asks = begins + ABSENT_DIAL_TIMEOUT + backoff.next();
            }
            let each_second = f64::from(dials) / hour.as_secs_f64();
            // A wait of 45 s on average, and no places.
            let before = f64::from(sources) / (ABSENT_DIAL_TIMEOUT + BACKOFF_ABSENT.mul_f64(0.75)).as_secs_f64();
            println!("{sources} sources that are off: {each_second:.1} dials a second, and {before:.1} without places");
            assert!(each_second <= 3.5, "{each_second}");
        }
    }

    /// A dial without an answer gives its place up after [`DIAL_TURN`], and continues without it.
    #[tokio::test]
    async fn a_dial_that_takes_long_keeps_no_place() {
        let dials = Dials { recent: Semaphore::new(1), absent: Semaphore::new(1) };
        let (answer, answered) = tokio::sync::oneshot::channel();
        let slow = dials.in_turn(false, async { answered.await.unwrap() });
        // The second has its turn before the first is over.
        let quick = dials.in_turn(false, async { answer.send(7).unwrap() });
        let (slow, ()) = tokio::join!(slow, quick);
        assert_eq!(slow, 7);
    }

    #[tokio::test]
    async fn only_so_many_are_dialled_at_a_time_and_each_has_its_turn() {
        for (absent, places) in [(false, DIALS_AT_ONCE), (true, ABSENT_DIALS_AT_ONCE)] {
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
