//! The chores of this repository, run with `cargo xtask NAME`.
//!
//! Each chore is one file and one arm of the `match` in [`run`]. A chore prints what
//! it finds and returns an error of one line.

#![forbid(unsafe_code)]

mod code;
mod policy;
mod screenshot;
mod soak;
mod test;
mod tidy;
mod tools;
mod web;

use std::env;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

const HELP: &str = "\
usage: cargo xtask NAME

  test     everything a change has to pass, in order, as CI runs it; with --quick
           only the house rules and the tests without processes and measurements
  soak     the tests that take minutes, with their figures
  tidy     the house rules over the files of this repository
  policy   one version of each load-bearing crate, and accepted licences only
  tools    installs what tests need beyond the toolchain
  web      the tests of the dashboard's page and of the client in TypeScript
  screenshot
           takes the picture of the dashboard that the README shows
  help     this text
";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    run(&arguments)
}

fn run(arguments: &[&str]) -> ExitCode {
    let outcome = match arguments {
        ["test"] => test::run(&root()),
        ["test", "--quick"] => test::run_quick(&root()),
        ["soak"] => soak::run(&root()),
        ["tidy"] => tidy::run(&root()),
        ["policy"] => policy::run(&root()),
        ["tools"] => tools::run(&root()),
        ["web"] => web::run(&root()),
        ["screenshot"] => screenshot::run(&root()),
        [] | ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("xtask: cannot do `{}`\n\n{HELP}", arguments.join(" "));
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The top of the repository. Cargo says where xtask is, so that the commands work
/// from any directory; without cargo, the current directory has to be the top.
fn root() -> PathBuf {
    match env::var_os("CARGO_MANIFEST_DIR") {
        Some(directory) => PathBuf::from(directory).join(".."),
        None => PathBuf::from("."),
    }
}

/// A cargo command as it would be if somebody had typed it.
///
/// `cargo run` tells its program about the package that is being run. Build scripts
/// (ring's is one) ask to be run again when those variables change, so passing them
/// on would rebuild ring and all that stands on it whenever somebody goes from
/// `cargo build` to `cargo xtask test` and back.
fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(describes_package) {
            command.env_remove(name);
        }
    }
    command
}

fn describes_package(variable: &str) -> bool {
    variable.starts_with("CARGO_PKG_") || variable.starts_with("CARGO_MANIFEST_") || variable == "CARGO_PRIMARY_PACKAGE"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_every_chore() {
        for name in ["test", "soak", "tidy", "policy", "help"] {
            assert!(HELP.contains(&format!("\n  {name} ")), "{name}");
        }
    }

    #[test]
    fn a_word_that_is_no_chore_is_wrong_usage() {
        assert_eq!(run(&["no-such-chore"]), ExitCode::from(2));
        assert_eq!(run(&["help"]), ExitCode::SUCCESS);
    }

    #[test]
    fn only_what_describes_a_package_is_kept_from_nested_commands() {
        assert!(describes_package("CARGO_PKG_VERSION_MAJOR"));
        assert!(describes_package("CARGO_MANIFEST_DIR"));
        assert!(!describes_package("CARGO_TARGET_DIR"));
        assert!(!describes_package("CARGO_HOME"));
    }
}
