//! The demo, as a user starts it.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers outside of test functions

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
    time::Instant,
};

use crate::common::{Lines, PATIENCE, signal, wait};
use serde_json::Value;

fn demo(arguments: &[&str]) -> Command {
    let mut demo = crate::common::tool();
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
    let ran = crate::common::run(command, b"");
    ran.well();
    let objects = ran.objects();
    let (summary, before) = objects.split_last().unwrap();
    well(summary, 3);
    assert_eq!((&summary["restarts"], &summary["restarts_survived"]), (&1.into(), &1.into()));
    assert!(summary["waves"]["given"].as_u64().unwrap() > 50, "{summary}");
    assert!(summary["store"]["events"].as_u64().unwrap() > 50, "{summary}");
    let known = |line: &&Value| ["dashboard", "note", "progress"].iter().any(|kind| line["type"] == *kind);
    assert!(before.iter().all(|line| known(&line)), "{before:?}");
    let dashboards: Vec<&Value> = before.iter().filter(|line| line["type"] == "dashboard").collect();
    let [dashboard] = dashboards[..] else { panic!("one line: {before:?}") };
    let http = dashboard["http"].as_str().unwrap();
    assert!(http.starts_with("http://127.0.0.1:"), "{dashboard}");
    assert!(dashboard["link"].as_str().unwrap().starts_with(&format!("{http}/open?code=")), "{dashboard}");
    assert!(before.iter().any(|line| line["type"] == "progress" && line["machines"].as_array().unwrap().len() == 3));
    let left: Vec<_> = std::fs::read_dir(temp.path()).unwrap().collect();
    assert!(left.is_empty(), "nothing is left behind: {left:?}");
}

#[test]
fn the_demo_tells_people_what_happens() {
    let ran = crate::common::run(demo(&["--for", "2"]), b"");
    ran.well();
    let said = [
        "machine 2 is switched off",
        "machine 2 is switched on again",
        "the same PIN",
        "the manager sets",
        "byte for byte",
        "polls           none",
        "/open?code=",
    ];
    for said in said {
        assert!(ran.stdout.contains(said), "{said}: {}", ran.stdout);
    }
    assert!(!ran.stdout.contains('\x1b'), "no control characters where there is no terminal");
    assert_eq!(ran.stderr, "");
}

/// The manager's dashboard shows the fleet, and what is followed of it, while the demo runs.
#[test]
fn the_demo_serves_its_dashboard() {
    let temp = tempfile::tempdir().unwrap();
    let mut command = demo(&["--json"]);
    command.env("TMPDIR", temp.path()).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = Lines::of(child.stdout.take().unwrap());
    let deadline = Instant::now() + PATIENCE;
    let mut next = || lines.next_within(deadline - Instant::now()).expect("another line");
    let dashboard = loop {
        let line = next();
        if line["type"] == "dashboard" {
            break line;
        }
    };
    while next()["waves"]["seen"].as_u64().unwrap_or(0) == 0 {}
    let manager = fs::read_dir(temp.path()).unwrap().next().unwrap().unwrap().path().join("manager");
    let token = fs::read_to_string(manager.join("http-token")).unwrap();
    let host = dashboard["http"].as_str().unwrap().strip_prefix("http://").unwrap();
    let get = |target: &str| {
        let mut stream = TcpStream::connect(host).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!("Host: {host}\r\nConnection: close\r\nAuthorization: Bearer {}\r\n", token.trim());
        stream.write_all(format!("GET {target} HTTP/1.1\r\n{head}\r\n").as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (_, body) = text.split_once("\r\n\r\n").unwrap();
        serde_json::from_str::<Value>(body).unwrap_or_else(|error| panic!("{error}: {text}"))
    };
    let machines = get("/api/v1/machines");
    assert_eq!(machines["machines"].as_array().unwrap().len(), 3, "{machines}");
    // What the demo follows itself can be read here too: there is one declaration.
    let machine = machines["machines"][0]["id"].as_str().unwrap();
    let sales = get(&format!("/api/v1/subscription?peer={machine}&path=/sales"));
    assert_eq!(sales["lake"], "log", "{sales}");
    signal("INT", child.id());
    while next()["type"] != "summary" {}
    assert!(wait(&mut child).success());
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
