//! Each deliberate bug of the drivers is found by the checkers: so the checks can fail.
#![allow(clippy::expect_used, reason = "a test fails where it panics")]

use groundswell_sim::{Bug, Options, run};

/// Within so many worlds each bug has to be found.
const SEEDS: u64 = 300;

found_bugs!(each_deliberate_bug_is_found, run, Options, Bug, SEEDS);
