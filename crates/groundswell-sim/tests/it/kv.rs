//! Worlds of keys: none breaks a law, each deliberate bug of the drivers is found, and a seed decides everything.
//!
//! `GROUNDSWELL_SEED=n cargo test -p groundswell-sim --test it kv::` replays one of them, and prints what happened in it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it panics")]

use groundswell_sim::{KvBug, KvOptions, KvReport, Options, run_kv, trace, trace_kv};

use crate::on_each_core;

/// Without optimisation a tenth of them takes as long.
const SEEDS: u64 = if cfg!(debug_assertions) { 300 } else { 3_000 };

/// Within so many worlds each bug has to be found.
const BUG_SEEDS: u64 = 2_000;

/// Runs one world, and on failure once more, to tell what happened.
fn lawful(seed: u64) -> KvReport {
    run_kv(seed, &KvOptions::default()).unwrap_or_else(|_| {
        let traced = run_kv(seed, &KvOptions { trace: true, ..KvOptions::default() });
        let failure = traced.expect_err("a seed decides everything");
        panic!("{failure}\nreplay with GROUNDSWELL_SEED={seed}")
    })
}

#[test]
fn no_world_of_keys_breaks_a_law() {
    if let Ok(seed) = std::env::var("GROUNDSWELL_SEED") {
        let seed = seed.parse().expect("GROUNDSWELL_SEED is a number");
        println!("{:#?}", lawful(seed));
        return;
    }
    let mut total = KvReport::default();
    for part in on_each_core(SEEDS, |seeds| {
        seeds.fold(KvReport::default(), |mut sum, seed| {
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
fn each_deliberate_bug_of_keys_is_found() {
    let bugs = KvBug::ALL;
    let found = on_each_core(bugs.len() as u64, |numbers| {
        let of_bug = |number: u64| {
            let bug = bugs[number as usize];
            let options = KvOptions { bug: Some(bug), ..KvOptions::default() };
            (bug, (0..BUG_SEEDS).find_map(|seed| run_kv(seed, &options).err()))
        };
        numbers.map(of_bug).collect::<Vec<_>>()
    });
    let mut missed = Vec::new();
    for (bug, failure) in found.into_iter().flatten() {
        match failure {
            Some(failure) => println!("{bug:?}: {failure}"),
            None => missed.push(bug),
        }
    }
    assert_eq!(missed, [], "these bugs pass {BUG_SEEDS} worlds");
}

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
