//! Worlds of keys: none breaks a law, each deliberate bug of the drivers is found, and a seed decides everything.
//!
//! `GROUNDSWELL_SEED=n cargo test -p groundswell-sim --test it kv::` replays one of them, and prints what happened in it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it panics")]

use groundswell_sim::{KvBug, KvOptions, KvReport, Options, run_kv, trace, trace_kv};

/// Without optimisation a tenth of them takes as long.
const SEEDS: u64 = if cfg!(debug_assertions) { 300 } else { 3_000 };

/// Within so many worlds each bug has to be found.
const BUG_SEEDS: u64 = 2_000;

lawful_worlds!(no_world_of_keys_breaks_a_law, run_kv, KvOptions, KvReport, SEEDS);

found_bugs!(each_deliberate_bug_of_keys_is_found, run_kv, KvOptions, KvBug, BUG_SEEDS);

/// Two runs of one seed do the same at the same times, in both kinds of world.
#[test]
fn a_seed_decides_the_whole_trace() {
    for seed in 0..20 {
        let options = KvOptions { trace: true, ..KvOptions::default() };
        let once = trace_kv(seed, &options).unwrap();
        assert!(!once.1.is_empty());
        assert_eq!(once, trace_kv(seed, &options).unwrap());
        let options = Options { trace: true, ..Options::default() };
        let once = trace(seed, &options).unwrap();
        assert!(!once.1.is_empty());
        assert_eq!(once, trace(seed, &options).unwrap());
    }
    assert_ne!(lawful(1), lawful(2));
}
