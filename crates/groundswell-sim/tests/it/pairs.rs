//! Worlds of pairs: none breaks a law, and each deliberate bug of the drivers is found.
//!
//! `GROUNDSWELL_SEED=n cargo test -p groundswell-sim --test it pairs::` replays one of them, and prints what happened in it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it panics")]

use groundswell_sim::{PairBug, PairOptions, PairReport, run_pairs, trace_pairs};

use crate::on_each_core;

/// Without optimisation a tenth of them takes as long.
const SEEDS: u64 = if cfg!(debug_assertions) { 2_000 } else { 20_000 };

/// Within so many worlds each bug has to be found.
const BUG_SEEDS: u64 = 2_000;

fn lawful(seed: u64) -> PairReport {
    run_pairs(seed, &PairOptions::default()).unwrap_or_else(|_| {
        let traced = run_pairs(seed, &PairOptions { trace: true, ..PairOptions::default() });
        let failure = traced.expect_err("a seed decides everything");
        panic!("{failure}\nreplay with GROUNDSWELL_SEED={seed}")
    })
}

#[test]
fn no_world_of_pairs_breaks_a_law() {
    if let Ok(seed) = std::env::var("GROUNDSWELL_SEED") {
        let seed = seed.parse().expect("GROUNDSWELL_SEED is a number");
        println!("{:#?}", lawful(seed));
        return;
    }
    let mut total = PairReport::default();
    for part in on_each_core(SEEDS, |seeds| {
        seeds.fold(PairReport::default(), |mut sum, seed| {
            sum.add(&lawful(seed));
            sum
        })
    }) {
        total.add(&part);
    }
    println!("{total:#?}");
    // What never happened was not tested.
    for (counter, count) in total.counters() {
        assert!(count > 0, "{counter}: never in {SEEDS} worlds");
    }
}

#[test]
fn each_deliberate_bug_of_pairs_is_found() {
    let mut missed = Vec::new();
    for bug in PairBug::ALL {
        let options = PairOptions { bug: Some(bug), ..PairOptions::default() };
        match (0..BUG_SEEDS).find_map(|seed| run_pairs(seed, &options).err()) {
            Some(failure) => println!("{bug:?}: {failure}"),
            None => missed.push(bug),
        }
    }
    assert_eq!(missed, [], "these bugs pass {BUG_SEEDS} worlds");
}

#[test]
fn a_seed_decides_the_whole_trace_of_pairs() {
    for seed in 0..20 {
        let options = PairOptions { trace: true, ..PairOptions::default() };
        let once = trace_pairs(seed, &options).unwrap();
        assert!(!once.1.is_empty());
        assert_eq!(once, trace_pairs(seed, &options).unwrap());
    }
}
