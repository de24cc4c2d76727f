//! The tests of the seeded world.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, reason = "a test fails where it panics")]

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
