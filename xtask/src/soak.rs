//! `cargo xtask soak`: the tests that take minutes, with the figures that they print.
//!
//! They are ignored otherwise, so that a change is tested in the time that one waits for. They run
//! one after another, because their figures are worth something only when nothing runs beside them.

use std::path::Path;

use crate::cargo;

/// No argument holds a space.
const ARGUMENTS: &str = "test --release --workspace --tests --locked -- --ignored --nocapture --test-threads=1";

pub(crate) fn run(root: &Path) -> Result<(), String> {
    println!("cargo {ARGUMENTS}");
    let status = cargo().args(ARGUMENTS.split_whitespace()).current_dir(root).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("the command ended with {status}")),
        Err(error) => Err(format!("cannot start cargo: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_ignored_otherwise_runs_one_at_a_time_and_says_its_figures() {
        let (of_cargo, of_tests) = ARGUMENTS.split_once(" -- ").unwrap();
        assert!(of_cargo.contains("--release") && of_cargo.contains("--locked"));
        for flag in ["--ignored", "--nocapture", "--test-threads=1"] {
            assert!(of_tests.contains(flag), "{flag}");
        }
    }
}
