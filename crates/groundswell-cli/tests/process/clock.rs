//! A device whose clock is set while it runs, as one that has no clock of its own and learns the time after its start: for
//! how long something has lasted is told by a clock that nobody sets.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers outside of test functions

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

use crate::common::{Node, World, faketime, kv, tool, until};

/// What the node's clock shows, from then on.
const CLOCKS: [&str; 5] = ["+0s", "@1970-01-02 00:00:00", "+876000h", "-7200s", "+0s"];

/// The same command by the clock in this file.
fn by_clock(mut command: Command, library: &Path, clock: &Path) -> Command {
    command
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", clock)
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    command
}

/// How many seconds ago a moment was that a line of words names after this word: `offline for 12 s`.
#[track_caller]
fn seconds_after(words: &str, word: &str) -> u64 {
    let after = words.split(word).nth(1).unwrap_or_else(|| panic!("no `{word}` in {words}"));
    after.trim_start().split(' ').next().unwrap().parse().unwrap_or_else(|error| panic!("{error}: {words}"))
}

#[test]
fn how_long_the_other_side_is_away_does_not_change_with_the_clock() {
    let Some(library) = faketime() else {
        println!("SKIPPED: libfaketime is not installed; `cargo xtask test` installs it where apt-get can");
        return;
    };
    let world = World::new();
    let clock = world.dir("clock");
    let set = |to: &str| fs::write(&clock, format!("{to}\n")).unwrap();
    set("@1970-01-02 00:00:00");
    let machine = world.machine("machine");
    let manager = by_clock(tool(), &library, &clock);
    let manager = Node::start(&world.dir("manager"), manager, &["--role", "manager"]);
    kv::claim(&machine, &manager);
    kv::online(&machine, &manager);
    machine.run(&["give", "/sum", "1", "--lake", "sum"]).well();
    let mut surfing = manager.surf(&[&machine.ticket, "/sum", "--lake", "sum"]);
    surfing.until(|line| line["type"] == "caught_up");
    let id = machine.id.clone();
    let before = Instant::now();
    drop(machine);
    let source = || manager.status()["replicas"][0].clone();
    until("the machine to be away", || {
        manager.machine_status(&id)["link"] == "offline" && source()["freshness"] == "offline"
    });
    for to in CLOCKS {
        set(to);
        let said = |name: &str| {
            let mut command = by_clock(tool(), &library, &clock);
            let ran = command.arg("--data").arg(&manager.dir).arg(name).output().unwrap();
            String::from_utf8(ran.stdout).unwrap()
        };
        let (words, doctor) = (said("machines"), said("doctor"));
        let most = before.elapsed().as_secs() + 1;
        // It was silent for some seconds, perhaps, before that was noticed.
        for (words, word) in [(&words, "offline for"), (&words, "current"), (&doctor, "out of reach for")] {
            let said = seconds_after(words, word);
            assert!(said <= most, "{said} s, and it was {most} s at most, with the clock at {to}: {words}");
        }
        // And the moment is told by that clock.
        for since in [&manager.machine_status(&id)["offline_since_ms"], &source()["offline_since_ms"]] {
            let off = off_by(to, since);
            assert!(off.abs() < 60_000 + i64::try_from(most).unwrap() * 1_000, "{since} is off by {off} ms at {to}");
        }
    }
}

/// How far a moment of just now is from what a clock shows that was set so just now, in milliseconds.
fn off_by(set: &str, since: &Value) -> i64 {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    let shown = match set {
        "@1970-01-02 00:00:00" => 86_400_000,
        "+876000h" => now + 876_000 * 3_600_000,
        "-7200s" => now - 7_200_000,
        _ => now,
    };
    since.as_i64().unwrap() - shown
}
