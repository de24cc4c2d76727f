//! Each deliberate bug of the drivers is found by the checkers: so the checks can fail.
#![allow(clippy::expect_used, reason = "a test fails where it panics")]

use groundswell_sim::{Bug, Options, run};

/// Within so many worlds each bug has to be found.
const SEEDS: u64 = 300;

#[test]
fn each_deliberate_bug_is_found() {
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        let options = Options { bug: Some(bug), ..Options::default() };
        match (0..SEEDS).find_map(|seed| run(seed, &options).err()) {
            Some(failure) => println!("{bug:?}: {failure}"),
            None => missed.push(bug),
        }
    }
    assert_eq!(missed, [], "these bugs pass {SEEDS} worlds");
}
