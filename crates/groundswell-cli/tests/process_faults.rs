//! A disk that is full and a clock that jumps, under a node in a process of its own.

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use common::{Node, tool};
use tempfile::TempDir;

/// How large the node's files may become, in the shell's blocks of 512 bytes: 4 MiB.
const FILE_BLOCKS: u32 = 8_192;

/// The tool, with files that can't grow beyond the limit. Growing them then fails as on a full
/// disk, since the signal that would end the process is ignored.
fn tool_on_a_small_disk() -> Command {
    let mut shell = Command::new("sh");
    let script = format!("trap '' XFSZ; ulimit -f {FILE_BLOCKS}; exec \"$@\"");
    shell.args(["-c", &script, "sh"]).arg(tool().get_program());
    shell
}

#[test]
fn a_full_disk_fails_the_give_and_nothing_that_was_acknowledged() {
    let dir = TempDir::new().unwrap();
    let publisher = Node::up_as(&dir.path().join("publisher"), tool_on_a_small_disk());
    let follower = Node::up(&dir.path().join("follower"));
    let mut lines = String::new();
    for n in 0..200 {
        lines.push_str(&format!("{n} {}\n", "x".repeat(100_000)));
    }
    let given = publisher.run_with(&["give", "/log/large", "-", "--lake", "log", "--acks"], lines.as_bytes());
    assert_eq!(given.code, Some(1), "{}", given.stderr);
    assert!(given.stderr.contains("storage failed"), "{}", given.stderr);
    assert!(given.stderr.contains("space"), "says what to look at: {}", given.stderr);
    let acknowledged = given.objects().last().and_then(|ack| ack["aeon"].as_u64()).expect("some fit");
    assert!((1..200).contains(&acknowledged), "{acknowledged}");
    // The node is alive, has what it acknowledged, and serves it.
    assert_eq!(publisher.aeon("/log/large"), Some(acknowledged));
    let again = publisher.run_with(&["give", "/log/large", "-", "--lake", "log"], &[b'y'; 900_000]);
    assert_eq!(again.code, Some(1), "still full");
    assert_eq!(publisher.run(&["status"]).only()["id"], publisher.id.as_str());
    let mut surfing = follower.surf(&[&publisher.ticket, "/log/large", "--lake", "log", "--bare"]);
    let caught_up = surfing.until(|line| line["type"] == "caught_up");
    assert_eq!(caught_up["aeon"], acknowledged);
    let rock = publisher.rock("/log/large");
    assert_eq!(follower.rock("/log/large"), rock);
    drop(surfing);
    // With room again, it goes on from there.
    let at = publisher.dir.clone();
    drop(publisher);
    let publisher = Node::up(&at);
    assert_eq!(publisher.rock("/log/large"), rock);
    let given = publisher.run(&["give", "/log/large", "there is room again", "--lake", "log"]).only();
    assert_eq!(given["aeon"], acknowledged + 1);
}

/// The library that shows a process another clock, where it is installed.
fn faketime() -> Option<PathBuf> {
    let places = fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    let nested = places.map(|dir| dir.join("faketime/libfaketime.so.1"));
    nested.chain([Path::new("/usr/lib/faketime/libfaketime.so.1").to_owned()]).find(|file| file.exists())
}

#[test]
fn a_clock_that_jumps_changes_nothing() {
    let Some(library) = faketime() else {
        println!("skipped: libfaketime is not installed; `cargo xtask test` installs it where apt-get can");
        return;
    };
    let dir = TempDir::new().unwrap();
    let clock = dir.path().join("clock");
    let set = |to: &str| fs::write(&clock, to).unwrap();
    let with_clock = || {
        let mut tool = tool();
        tool.env("LD_PRELOAD", &library)
            .env("FAKETIME_TIMESTAMP_FILE", &clock)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        tool
    };
    set("@1970-01-02 00:00:00\n");
    let publisher = Node::up_as(&dir.path().join("publisher"), with_clock());
    let follower = Node::up_as(&dir.path().join("follower"), with_clock());
    let mut surfing = follower.surf(&[&publisher.ticket, "/sum", "--lake", "sum"]);
    surfing.until(|line| line["type"] == "not_available");
    for (aeon, to) in
        (1..).zip(["+0s\n", "+7200s\n", "+3600s\n", "-7200s\n", "@1970-01-02 00:00:00\n", "+876000h\n", "+0s\n"])
    {
        set(to);
        let given = publisher.run(&["give", "/sum", "1", "--lake", "sum"]).only();
        assert_eq!(given["aeon"], aeon, "{to}");
        surfing.until(|line| line["aeon"] == aeon);
    }
    let status = follower.run(&["status"]).only();
    assert_eq!(status["replicas"][0]["freshness"], "live");
    // A restart at another time again.
    set("@1970-01-02 00:00:00\n");
    let at = publisher.dir.clone();
    drop(publisher);
    let publisher = Node::up_as(&at, with_clock());
    assert_eq!(publisher.run(&["give", "/sum", "1", "--lake", "sum"]).only()["aeon"], 8);
    surfing.until(|line| line["aeon"] == 8);
}
