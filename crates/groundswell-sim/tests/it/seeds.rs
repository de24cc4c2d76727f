//! Many worlds, none of which breaks a law.
//!
//! `GROUNDSWELL_SEED=n cargo test -p groundswell-sim --test it seeds` replays one of them, and
//! prints what happened in it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it panics")]

use groundswell_sim::{Options, Report, run};

/// Without optimisation a tenth of them takes as long.
const SEEDS: u64 = if cfg!(debug_assertions) { 500 } else { 5_000 };

lawful_worlds!(no_world_breaks_a_law, run, Options, Report, SEEDS);

#[test]
fn a_seed_decides_everything() {
    for seed in 0..20 {
        assert_eq!(lawful(seed), lawful(seed));
    }
    assert_ne!(lawful(1), lawful(2));
}
