//! The demo, as a user starts it.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers outside of test functions

mod common;

use std::process::Command;

fn demo(arguments: &[&str]) -> Command {
    let mut demo = common::tool();
    demo.arg("demo").args(arguments);
    demo
}

#[test]
fn the_demo_ends_by_itself_with_equal_states() {
    let temp = tempfile::tempdir().unwrap();
    let mut command = demo(&["--for", "5", "--json"]);
    command.env("TMPDIR", temp.path());
    let summary = common::run(command, b"").only();
    assert_eq!(summary["states_equal"], true);
    assert_eq!(summary["states"], 9);
    assert_eq!((&summary["restarts"], &summary["restarts_survived"]), (&1.into(), &1.into()));
    assert_eq!((&summary["rock_jumps"], &summary["out_of_order"]), (&0.into(), &0.into()));
    assert!(summary["waves_given"].as_u64().unwrap() > 50, "{summary}");
    assert_eq!(summary["waves_given"], summary["updates_seen"]);
    let latency = &summary["latency_ms"];
    assert!(latency["count"].as_u64().unwrap() > 0);
    assert!(latency["p50"].as_f64() <= latency["p99"].as_f64() && latency["p99"].as_f64() <= latency["max"].as_f64());
    let left: Vec<_> = std::fs::read_dir(temp.path()).unwrap().collect();
    assert!(left.is_empty(), "nothing is left behind: {left:?}");
}

#[test]
fn the_demo_tells_people_what_happens() {
    let ran = common::run(demo(&["--for", "2"]), b"");
    ran.well();
    for said in ["machine 2 is switched off", "machine 2 is switched on again", "byte for byte", "polls"] {
        assert!(ran.stdout.contains(said), "{said}: {}", ran.stdout);
    }
    assert!(!ran.stdout.contains('\x1b'), "no control characters where there is no terminal");
    assert_eq!(ran.stderr, "");
}
