//! Stamps and counters: whatever the wall clocks show, whatever is restarted, a write wins over
//! all that its writer knew of, and nothing is ever given twice.
#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]

use groundswell_core::{
    kv::{AuthorCounter, Clock, Stamp, StampError, skew_ms},
    limits::{MAX_STAMP_COUNT, MAX_STAMP_WALL_MS, STAMP_RESERVE_COUNT, STAMP_RESERVE_MS},
};
use proptest::prelude::*;

/// One side: its clock, what it has stored, and what it has given.
struct Side {
    clock: Clock,
    stored: Option<Stamp>,
    given: Vec<Stamp>,
}

impl Side {
    fn new() -> Self {
        Self { clock: Clock::restore(None), stored: None, given: Vec::new() }
    }

    fn write(&mut self, wall_ms: u64) -> Stamp {
        let stamp = match self.clock.now(wall_ms) {
            Some(stamp) => stamp,
            None => {
                let bound = self.clock.reserve(wall_ms);
                self.stored = Some(bound);
                self.clock.reserved(bound);
                self.clock.now(wall_ms).unwrap()
            }
        };
        assert!(self.stored.is_some_and(|bound| stamp < bound), "{stamp} was given and a restart could give it again");
        self.given.push(stamp);
        stamp
    }

    /// A restart that remembers nothing but what was stored: not even what it has observed.
    fn restart(&mut self) {
        self.clock = Clock::restore(self.stored);
    }
}

#[derive(Debug, Clone)]
enum Op {
    /// A write at this side, while its wall clock shows this.
    Write(usize, u64),
    /// This side hears of everything that the other has written.
    Hear(usize),
    Restart(usize),
}

/// Wall clocks: right ones, in 1970, two hours ahead, at the end of all numbers.
fn wall() -> impl Strategy<Value = u64> {
    const NOW: u64 = 1_750_000_000_000;
    prop_oneof![
        6 => (0_u64..5_000).prop_map(|ms| NOW + ms),
        3 => 0_u64..10,
        3 => (0_u64..10).prop_map(|ms| NOW + 7_200_000 + ms),
        2 => (0_u64..10).prop_map(|ms| NOW - 3_600_000 + ms),
        1 => (0_u64..3).prop_map(|ms| MAX_STAMP_WALL_MS - 1 + ms),
        1 => Just(u64::MAX),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0_usize..2, wall()).prop_map(|(side, wall)| Op::Write(side, wall)),
        3 => (0_usize..2).prop_map(Op::Hear),
        1 => (0_usize..2).prop_map(Op::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_write_wins_over_all_that_its_writer_knew_of(ops in prop::collection::vec(op(), 1..60)) {
        let mut sides = [Side::new(), Side::new()];
        // What each side knows of, in its own restarts too, as entries are durable.
        let mut known = [Stamp::default(), Stamp::default()];
        for op in ops {
            match op {
                Op::Write(side, wall) => {
                    let stamp = sides[side].write(wall);
                    prop_assert!(stamp > known[side], "the write {} loses to {}", stamp, known[side]);
                    prop_assert_eq!(stamp.check(), Ok(stamp), "the other side would refuse it");
                    known[side] = stamp;
                }
                Op::Hear(side) => {
                    for stamp in sides[1 - side].given.clone() {
                        sides[side].clock.observe(stamp);
                    }
                    known[side] = known[side].max(known[1 - side]);
                }
                Op::Restart(side) => {
                    sides[side].restart();
                    // Its own are covered by the reservation; the other's are in its document.
                    for stamp in sides[1 - side].given.clone() {
                        if stamp <= known[side] {
                            sides[side].clock.observe(stamp);
                        }
                    }
                }
            }
        }
        for Side { given, .. } in &sides {
            prop_assert!(given.is_sorted_by(|one, next| one < next), "a stamp was given twice, or out of order");
        }
    }

    #[test]
    fn a_counter_gives_nothing_twice(ops in prop::collection::vec((0_u64..20, any::<bool>()), 1..50)) {
        let (mut stored, mut last) = (0, 0);
        let mut counter = AuthorCounter::restore(stored);
        for (wanted, restart) in ops {
            for _ in 0..wanted {
                let number = match counter.next() {
                    Some(number) => number,
                    None => {
                        prop_assert_eq!(counter.left(), 0);
                        stored = counter.reserve(7);
                        counter.reserved(stored);
                        prop_assert_eq!(counter.left(), 7);
                        counter.next().unwrap()
                    }
                };
                prop_assert!(number > last && number < stored, "{number} after {last}, stored {stored}");
                last = number;
            }
            if restart {
                counter = AuthorCounter::restore(stored);
                prop_assert_eq!(counter.next(), None, "a number that is not reserved");
            }
        }
    }
}

#[test]
fn nothing_is_given_that_is_not_reserved() {
    let mut clock = Clock::restore(None);
    assert_eq!(clock.now(5_000), None);
    let bound = clock.reserve(5_000);
    assert_eq!(bound, Stamp { wall_ms: 5_000 + STAMP_RESERVE_MS, count: 0 });
    assert_eq!(clock.now(5_000), None, "the bound is not stored yet");
    clock.reserved(bound);
    assert_eq!(clock.now(5_000), Some(Stamp { wall_ms: 5_000, count: 0 }));
    assert_eq!(clock.now(bound.wall_ms - 1), Some(Stamp { wall_ms: bound.wall_ms - 1, count: 0 }));
    assert_eq!(clock.now(bound.wall_ms), None);
}

#[test]
fn a_clock_that_is_set_back_counts_on() {
    let mut side = Side::new();
    let before = side.write(3_600_000);
    let after = side.write(0);
    assert_eq!(after, Stamp { wall_ms: before.wall_ms, count: 1 });
}

#[test]
fn a_clock_goes_past_a_peer_that_is_hours_ahead_without_storing_each_time() {
    let mut side = Side::new();
    side.clock.observe(Stamp { wall_ms: 7_200_000, count: 3 });
    assert_eq!(side.write(1_000), Stamp { wall_ms: 7_200_000, count: 4 });
    let stored = side.stored;
    for _ in 0..10_000 {
        side.write(1_000);
    }
    assert_eq!(side.stored, stored, "one reservation is enough while the wall clock stands still");
}

#[test]
fn the_end_of_all_numbers_wedges_no_clock() {
    // The furthest that an entry of the other side may lead.
    let furthest = Stamp { wall_ms: MAX_STAMP_WALL_MS, count: MAX_STAMP_COUNT };
    assert_eq!(furthest.check(), Ok(furthest));
    let beyond = [
        Stamp { wall_ms: MAX_STAMP_WALL_MS + 1, count: 0 },
        Stamp { wall_ms: 0, count: MAX_STAMP_COUNT + 1 },
        Stamp { wall_ms: u64::MAX, count: u64::MAX },
    ];
    for stamp in beyond {
        assert_eq!(stamp.check(), Err(StampError(stamp)));
    }
    let mut side = Side::new();
    side.clock.observe(furthest);
    let first = side.write(1_000);
    assert!(first > furthest);
    for _ in 0..100 {
        side.restart();
        side.write(u64::MAX);
    }
    assert!(side.given.is_sorted_by(|one, next| one < next));
    // A count at its end is carried into the time, so that the other side still takes the stamp.
    let mut side = Side::new();
    side.clock.observe(Stamp { wall_ms: 1_000, count: MAX_STAMP_COUNT });
    assert_eq!(side.write(0), Stamp { wall_ms: 1_001, count: 0 });
    // At the latest time of all it is stored once in many writes.
    let mut side = Side::new();
    side.write(u64::MAX);
    assert_eq!(side.stored, Some(Stamp { wall_ms: MAX_STAMP_WALL_MS, count: STAMP_RESERVE_COUNT }));
}

#[test]
fn a_counter_at_its_end_gives_no_more() {
    let mut counter = AuthorCounter::restore(u64::MAX - 2);
    counter.reserved(counter.reserve_block());
    assert_eq!(counter.next(), Some(u64::MAX - 2));
    assert_eq!(counter.next(), Some(u64::MAX - 1));
    assert_eq!(counter.next(), None);
    counter.reserved(counter.reserve(10));
    assert_eq!(counter.next(), None);
}

#[test]
fn the_skew_tells_who_is_ahead() {
    assert_eq!(skew_ms(1_000, 7_201_000), 7_200_000);
    assert_eq!(skew_ms(7_201_000, 1_000), -7_200_000);
    assert_eq!(skew_ms(5, 5), 0);
    assert_eq!(skew_ms(0, u64::MAX), i64::MAX);
    assert_eq!(skew_ms(u64::MAX, 0), -i64::MAX);
}
