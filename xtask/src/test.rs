//! `cargo xtask test`: everything a change has to pass, in the order in which a
//! mistake is found soonest.
//!
//! Every cargo step uses the profile `checks` of the root Cargo.toml: release code, of which
//! little is optimised. The dependency tree is large, and with one profile it is built once
//! as code and once as metadata for clippy and rustdoc; a second profile would double both.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::{cargo, policy, tidy, tools, web};

struct Step {
    name: &'static str,
    /// Said under the heading, for a choice that the reader should know of.
    note: &'static str,
    action: Action,
}

enum Action {
    /// A cargo command, with one more environment variable if it needs one. No argument
    /// holds a space, so a line of text says it all.
    Cargo { arguments: &'static str, variable: Option<(&'static str, &'static str)> },
    /// Another chore of xtask, run in this process.
    Chore(fn(&Path) -> Result<(), String>),
    /// Nothing to run; the note says why.
    Skip,
}

const NEXTEST: &str = "cargo-nextest is installed, so it runs the tests: one process a test, \
     with the time limits and groups of .config/nextest.toml";
const NO_NEXTEST: &str = "cargo-nextest is not installed, so `cargo test` runs the tests, without \
     the time limits and groups of .config/nextest.toml";
const NO_DENY: &str = "skipped: cargo-deny is not installed (the policy step above covers \
     duplicates and licences)";

/// The package of the tool has no such test and is named all the same: cargo builds the dependencies with the features that
/// they have in the steps before, and so not anew.
const NO_DOCS: &str = "the key-value store once more, in a build without iroh-docs; left out are the tests of storage, which \
     knows nothing of it, and those that try both engines in either build";
const NO_DOCS_NEXTEST: &str = "nextest run --cargo-profile checks -p groundswell -p groundswell-cli --no-default-features \
     --lib --test it --locked -E test(/^kv::/)-test(/^kv::(docs|gate|storage)::/)";
const NO_DOCS_TEST: &str = "test --profile checks -p groundswell -p groundswell-cli --no-default-features --lib --test it \
     --locked kv:: -- --skip kv::docs --skip kv::gate --skip kv::storage";
const NO_DOCS_CLIPPY: &str =
    "clippy --profile checks -p groundswell -p groundswell-cli --no-default-features --lib --locked -- -D warnings";

/// The steps in their order, given which optional tools are installed.
fn steps(nextest: bool, deny: bool) -> Vec<Step> {
    let step = |name, arguments| Step { name, note: "", action: Action::Cargo { arguments, variable: None } };
    let chore = |name, chore| Step { name, note: "", action: Action::Chore(chore) };
    vec![
        step("fmt", "fmt --all --check"),
        chore("tidy", tidy::run),
        chore("policy", policy::run),
        chore("tools", tools::run),
        step("build", "build --profile checks --workspace --all-targets --locked"),
        if nextest {
            Step { note: NEXTEST, ..step("tests", "nextest run --cargo-profile checks --workspace --locked") }
        } else {
            Step {
                note: NO_NEXTEST,
                ..step("tests", "test --profile checks --workspace --lib --bins --tests --examples --locked")
            }
        },
        Step { note: NO_DOCS, ..step("no docs", if nextest { NO_DOCS_NEXTEST } else { NO_DOCS_TEST }) },
        step("doc tests", "test --profile checks --workspace --doc --locked"),
        chore("web", web::run),
        step("clippy", "clippy --profile checks --workspace --all-targets --locked -- -D warnings"),
        step("no docs lint", NO_DOCS_CLIPPY),
        Step {
            name: "doc",
            note: "",
            action: Action::Cargo {
                arguments: "doc --profile checks --workspace --no-deps --locked",
                variable: Some(("RUSTDOCFLAGS", "-D warnings")),
            },
        },
        if deny {
            step("deny", "deny check bans licenses sources")
        } else {
            Step { name: "deny", note: NO_DENY, action: Action::Skip }
        },
    ]
}

/// Steps for the time between two edits: house rules and the tests that start no processes and measure nothing. On a
/// built tree they take at most four minutes.
fn quick_steps(nextest: bool) -> Vec<Step> {
    let quick = if nextest {
        Step {
            name: "tests",
            note: "quick: without processes, browsers and measurements (profile `quick` of .config/nextest.toml)",
            action: Action::Cargo {
                arguments: "nextest run --profile quick --cargo-profile checks --workspace --locked",
                variable: None,
            },
        }
    } else {
        Step {
            name: "tests",
            note: NO_NEXTEST,
            action: Action::Cargo {
                arguments: "test --profile checks --workspace --lib --bins --test it --locked",
                variable: None,
            },
        }
    };
    let mut steps = steps(nextest, false);
    steps.retain(|step| matches!(step.name, "fmt" | "tidy" | "policy"));
    steps.push(quick);
    steps
}

/// Runs every step up to the first that fails, then lists what was done.
pub(crate) fn run(root: &Path) -> Result<(), String> {
    run_steps(root, steps(installed("nextest"), installed("deny")))
}

/// Does the same with the quick steps.
pub(crate) fn run_quick(root: &Path) -> Result<(), String> {
    run_steps(root, quick_steps(installed("nextest")))
}

fn run_steps(root: &Path, steps: Vec<Step>) -> Result<(), String> {
    let start = Instant::now();
    let mut done = Vec::new();
    let mut failure = None;
    for step in &steps {
        println!("\n== {}", step.heading());
        if !step.note.is_empty() {
            println!("{}", step.note);
        }
        let begun = Instant::now();
        let outcome = step.run(root);
        let word = match (&outcome, &step.action) {
            (Err(_), _) => "FAILED",
            (Ok(()), Action::Skip) => "skipped",
            (Ok(()), _) => "ok",
        };
        println!("== {}: {word} after {}", step.name, seconds(begun.elapsed()));
        done.push((step.name, word, begun.elapsed()));
        if let Err(message) = outcome {
            failure = Some(format!("{}: {message}", step.name));
            break;
        }
    }
    println!("\n== steps");
    for (name, word, duration) in &done {
        println!("{name:<12} {word:<8} {:>10}", seconds(*duration));
    }
    for step in &steps[done.len()..] {
        println!("{:<12} not run", step.name);
    }
    println!("{:<12} {:<8} {:>10}", "all", "", seconds(start.elapsed()));
    failure.map_or(Ok(()), Err)
}

impl Step {
    fn heading(&self) -> String {
        match &self.action {
            Action::Cargo { arguments, variable: Some((name, value)) } => {
                format!("{}: {name}=\"{value}\" cargo {arguments}", self.name)
            }
            Action::Cargo { arguments, .. } => format!("{}: cargo {arguments}", self.name),
            Action::Chore(_) => format!("{0}: cargo xtask {0}", self.name),
            Action::Skip => self.name.to_string(),
        }
    }

    fn run(&self, root: &Path) -> Result<(), String> {
        match &self.action {
            Action::Skip => Ok(()),
            Action::Chore(chore) => chore(root),
            Action::Cargo { arguments, variable } => {
                let mut command = cargo();
                command.args(arguments.split_whitespace()).envs(*variable);
                finish(command.current_dir(root))
            }
        }
    }
}

pub(crate) fn finish(command: &mut Command) -> Result<(), String> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("the command ended with {status}")),
        Err(error) => Err(format!("cannot start it: {error}")),
    }
}

/// Whether `cargo NAME` exists.
fn installed(name: &str) -> bool {
    let mut command = cargo();
    command.args([name, "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(steps: &[Step]) -> Vec<&str> {
        steps.iter().map(|step| step.name).collect()
    }

    fn chore(name: &'static str, chore: fn(&Path) -> Result<(), String>) -> Step {
        Step { name, note: "", action: Action::Chore(chore) }
    }

    #[test]
    fn the_order_does_not_depend_on_optional_tools() {
        let order = [
            "fmt",
            "tidy",
            "policy",
            "tools",
            "build",
            "tests",
            "no docs",
            "doc tests",
            "web",
            "clippy",
            "no docs lint",
            "doc",
            "deny",
        ];
        assert_eq!(names(&steps(true, true)), order);
        assert_eq!(names(&steps(false, false)), order);
    }

    #[test]
    fn every_step_that_builds_uses_one_profile_and_the_lock_file() {
        let quick = quick_steps(true).into_iter().chain(quick_steps(false));
        for step in steps(true, true).into_iter().chain(steps(false, true)).chain(quick) {
            let Action::Cargo { arguments, .. } = step.action else {
                continue;
            };
            if arguments.starts_with("fmt") || arguments.starts_with("deny") {
                continue;
            }
            assert!(arguments.contains(" --locked"), "{arguments}");
            assert!(arguments.contains("-profile checks"), "{arguments}");
        }
    }

    #[test]
    fn quick_steps_are_house_rules_and_tests() {
        for nextest in [true, false] {
            assert_eq!(names(&quick_steps(nextest)), ["fmt", "tidy", "policy", "tests"]);
        }
    }

    #[test]
    fn a_missing_tool_is_said() {
        let steps = steps(false, false);
        let named = |name| steps.iter().find(|step| step.name == name).unwrap();
        assert!(named("tests").note.contains("cargo-nextest is not installed"));
        assert!(named("deny").note.starts_with("skipped: cargo-deny is not"));
        assert!(matches!(named("deny").action, Action::Skip));
    }

    #[test]
    fn the_first_failure_ends_the_run() {
        let steps = vec![
            chore("one", |_| Ok(())),
            chore("two", |_| Err("broken".to_string())),
            chore("three", |_| panic!("a step ran after a failure")),
        ];
        let outcome = run_steps(Path::new("."), steps);
        assert_eq!(outcome, Err("two: broken".to_string()));
    }
}
