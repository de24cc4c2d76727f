//! The demo, as a user starts it.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers outside of test functions

mod common;

use std::{
    process::{Command, Stdio},
    time::Instant,
};

use common::{Lines, PATIENCE, signal, wait};
use serde_json::Value;

fn demo(arguments: &[&str]) -> Command {
    let mut demo = common::tool();
    demo.arg("demo").args(arguments);
    demo
}

#[track_caller]
fn well(summary: &Value, machines: u64) {
    assert_eq!(summary["type"], "summary", "{summary}");
    assert_eq!((&summary["machines"], &summary["pairings"]), (&machines.into(), &machines.into()));
    assert_eq!((&summary["equal"], &summary["polls"]), (&true.into(), &"none".into()), "{summary}");
    let (store, waves) = (&summary["store"], &summary["waves"]);
    let number = |of: &Value, field: &str| of[field].as_u64().unwrap();
    assert_eq!(number(store, "writes"), number(store, "events") + number(store, "skipped"), "{summary}");
    assert_eq!(waves["given"], waves["seen"]);
    assert_eq!((number(waves, "states"), number(waves, "out_of_order")), (2 * machines, 0));
    for of in [store, waves] {
        let latency = &of["latency_ms"];
        assert!(number(latency, "count") > 0, "{summary}");
        let time = |field: &str| latency[field].as_f64().unwrap();
        assert!(0.0 < time("p50") && time("p50") <= time("p99") && time("p99") <= time("max"), "{summary}");
    }
}

#[test]
fn the_demo_ends_by_itself_and_both_sides_have_the_same() {
    let temp = tempfile::tempdir().unwrap();
    let mut command = demo(&["--for", "5", "--json"]);
    command.env("TMPDIR", temp.path());
    let ran = common::run(command, b"");
    ran.well();
    let objects = ran.objects();
    let (summary, before) = objects.split_last().unwrap();
    well(summary, 3);
    assert_eq!((&summary["restarts"], &summary["restarts_survived"]), (&1.into(), &1.into()));
    assert!(summary["waves"]["given"].as_u64().unwrap() > 50, "{summary}");
    assert!(summary["store"]["events"].as_u64().unwrap() > 50, "{summary}");
    assert!(before.iter().all(|line| line["type"] == "note" || line["type"] == "progress"), "{before:?}");
    assert!(before.iter().any(|line| line["type"] == "progress" && line["machines"].as_array().unwrap().len() == 3));
    let left: Vec<_> = std::fs::read_dir(temp.path()).unwrap().collect();
    assert!(left.is_empty(), "nothing is left behind: {left:?}");
}

#[test]
fn the_demo_tells_people_what_happens() {
    let ran = common::run(demo(&["--for", "2"]), b"");
    ran.well();
    let said = [
        "machine 2 is switched off",
        "machine 2 is switched on again",
        "the same PIN",
        "the manager sets",
        "byte for byte",
        "polls           none",
    ];
    for said in said {
        assert!(ran.stdout.contains(said), "{said}: {}", ran.stdout);
    }
    assert!(!ran.stdout.contains('\x1b'), "no control characters where there is no terminal");
    assert_eq!(ran.stderr, "");
}

/// Without `--for` it goes on until it is interrupted, and then sums up.
#[test]
fn the_demo_is_ended_by_an_interrupt_with_its_summary() {
    let mut child = demo(&["--machines", "1", "--json"]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = Lines::of(child.stdout.take().unwrap());
    let deadline = Instant::now() + PATIENCE;
    let mut next = || lines.next_within(deadline - Instant::now()).expect("another line");
    while next()["waves"]["latency_ms"]["count"].as_u64().unwrap_or(0) == 0 {}
    signal("INT", child.id());
    let summary = loop {
        let line = next();
        if line["type"] == "summary" {
            break line;
        }
    };
    well(&summary, 1);
    assert!(wait(&mut child).success());
}
