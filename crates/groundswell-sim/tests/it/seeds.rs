//! Many worlds, none of which breaks a law.
//!
//! `GROUNDSWELL_SEED=n cargo test -p groundswell-sim --test it seeds` replays one of them, and
//! prints what happened in it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it panics")]

use groundswell_sim::{Options, Report, run};

/// Without optimisation a tenth of them takes as long.
const SEEDS: u64 = if cfg!(debug_assertions) { 500 } else { 5_000 };

/// Runs one world, and on failure once more, to tell what happened.
fn lawful(seed: u64) -> Report {
    run(seed, &Options::default()).unwrap_or_else(|_| {
        let traced = run(seed, &Options { trace: true, ..Options::default() });
        let failure = traced.expect_err("a seed decides everything");
        panic!("{failure}\nreplay with GROUNDSWELL_SEED={seed}")
    })
}

#[test]
fn no_world_breaks_a_law() {
    if let Ok(seed) = std::env::var("GROUNDSWELL_SEED") {
        let seed = seed.parse().expect("GROUNDSWELL_SEED is a number");
        println!("{:#?}", lawful(seed));
        return;
    }
    // Worlds share nothing, so that each core can have its own.
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let part = |first| {
        (first..SEEDS).step_by(threads as usize).fold(Report::default(), |mut sum, seed| {
            sum.add(&lawful(seed));
            sum
        })
    };
    let mut total = Report::default();
    std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads).map(|first| scope.spawn(move || part(first))).collect();
        for part in parts {
            total.add(&part.join().expect("a world broke a law: see above"));
        }
    });
    println!("{total:#?}");
    // What never happened was not tested.
    for (counter, count) in total.counters() {
        assert!(count > 0, "{counter}: never in {SEEDS} worlds");
    }
}

#[test]
fn a_seed_decides_everything() {
    for seed in 0..20 {
        assert_eq!(lawful(seed), lawful(seed));
    }
    assert_ne!(lawful(1), lawful(2));
}
