//! The tests of the seeded world.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, reason = "a test fails where it panics")]

/// Many worlds of one kind, none of which breaks a law. `GROUNDSWELL_SEED=n` replays one of them, and prints what happened in it.
/// `GROUNDSWELL_WORLDS=n` runs so many.
macro_rules! lawful_worlds {
    ($test:ident, $run:ident, $options:ident, $report:ident, $seeds:expr) => {
        /// Runs one world, and on failure once more, to tell what happened.
        fn lawful(seed: u64) -> $report {
            $run(seed, &$options::default()).unwrap_or_else(|_| {
                let traced = $run(seed, &$options { trace: true, ..$options::default() });
                let failure = traced.expect_err("a seed decides everything");
                panic!("{failure}\nreplay with GROUNDSWELL_SEED={seed}")
            })
        }

        #[test]
        fn $test() {
            if let Ok(seed) = std::env::var("GROUNDSWELL_SEED") {
                let seed = seed.parse().expect("GROUNDSWELL_SEED is a number");
                println!("{:#?}", lawful(seed));
                return;
            }
            let worlds =
                std::env::var("GROUNDSWELL_WORLDS").map(|count| count.parse().expect("GROUNDSWELL_WORLDS is a number"));
            let worlds = worlds.unwrap_or($seeds);
            let mut total = $report::default();
            for part in crate::on_each_core(worlds, |seeds| {
                seeds.fold($report::default(), |mut sum, seed| {
                    sum.add(&lawful(seed));
                    sum
                })
            }) {
                total.add(&part);
            }
            println!("{total:#?}");
            // A counter that stays at zero shows an event that was not tested.
            for (counter, count) in total.counters() {
                assert!(count > 0, "{counter}: never in {worlds} worlds");
            }
        }
    };
}

/// Each deliberate bug of the drivers is found within so many worlds.
macro_rules! found_bugs {
    ($test:ident, $run:ident, $options:ident, $bug:ident, $seeds:expr) => {
        #[test]
        fn $test() {
            let bugs = $bug::ALL;
            let found = crate::on_each_core(bugs.len() as u64, |numbers| {
                let of_bug = |number: u64| {
                    let bug = bugs[number as usize];
                    let options = $options { bug: Some(bug), ..$options::default() };
                    (bug, (0..$seeds).find_map(|seed| $run(seed, &options).err()))
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
            assert_eq!(missed, [], "these bugs pass {} worlds", $seeds);
        }
    };
}

mod deliberate_bugs;
mod kv;
mod pairs;
mod seeds;

/// Calls this with each seed, a part of them on each core.
fn on_each_core<T: Send>(seeds: u64, of_part: impl Fn(&mut dyn Iterator<Item = u64>) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    std::thread::scope(|scope| {
        let of_part = &of_part;
        let parts: Vec<_> = (0..threads)
            .map(|first| scope.spawn(move || of_part(&mut (first..seeds).step_by(threads as usize))))
            .collect();
        parts.into_iter().map(|part| part.join().expect("a world broke a law: see above")).collect()
    })
}
