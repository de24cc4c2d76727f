//! Worlds of pairs: none breaks a law, and each deliberate bug of the drivers is found.
//!
//! `GROUNDSWELL_SEED=n cargo test -p groundswell-sim --test it pairs::` replays one of them, and prints what happened in it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it panics")]

use groundswell_sim::{PairBug, PairOptions, PairReport, run_pairs, trace_pairs};

/// Without optimisation a tenth of them takes as long.
const SEEDS: u64 = if cfg!(debug_assertions) { 2_000 } else { 20_000 };

/// Within so many worlds each bug has to be found.
const BUG_SEEDS: u64 = 2_000;

lawful_worlds!(no_world_of_pairs_breaks_a_law, run_pairs, PairOptions, PairReport, SEEDS);

found_bugs!(each_deliberate_bug_of_pairs_is_found, run_pairs, PairOptions, PairBug, BUG_SEEDS);

#[test]
fn a_seed_decides_the_whole_trace_of_pairs() {
    for seed in 0..20 {
        let options = PairOptions { trace: true, ..PairOptions::default() };
        let once = trace_pairs(seed, &options).unwrap();
        assert!(!once.1.is_empty());
        assert_eq!(once, trace_pairs(seed, &options).unwrap());
    }
}
