//! Output that cannot be written, and what a terminal does to a program in the background.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers outside of test functions

use std::{
    fs::File,
    process::{Command, Stdio},
};

use crate::common::{Node, World, kv::online, run, tool, until};

/// Runs a command whose output finds no room; what it says on standard error, and its exit status.
fn without_room(node: &Node, arguments: &[&str]) -> (String, Option<i32>) {
    let mut command = tool();
    command.arg("--data").arg(&node.dir).args(arguments);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let ran = command.stdin(Stdio::null()).stdout(full).stderr(Stdio::piped()).spawn().unwrap();
    let ran = ran.wait_with_output().unwrap();
    (String::from_utf8(ran.stderr).unwrap(), ran.status.code())
}

/// A script that does again what has failed would do it twice.
#[test]
fn a_change_that_is_done_is_no_failure_where_its_answer_cannot_be_written() {
    let world = World::new();
    let (machine, manager) = world.pair();
    online(&machine, &manager);
    let changes: [&[&str]; 6] = [
        &["give", "/till", "100", "--lake", "sum"],
        &["give", "/till", "100", "1", "--lake", "sum", "--acks"],
        &["kv", "set", "price", "250"],
        &["kv", "del", "price"],
        &["secret", "/till"],
        &["release"],
    ];
    for change in changes {
        let (said, status) = without_room(&machine, change);
        assert!(said.contains("it is done, but its answer cannot be written to standard output"), "{change:?}: {said}");
        assert_eq!(status, Some(0), "{change:?}");
    }
    assert_eq!(machine.rock("/till"), "201");
    assert_eq!(machine.status()["manager"]["link"], "unclaimed");
    // What only asks has failed.
    for question in [&["status"][..], &["read", "/till"], &["kv", "ls"]] {
        let (said, status) = without_room(&machine, question);
        assert!(said.contains("cannot write to standard output") || question == ["kv", "ls"], "{question:?}: {said}");
        assert!(status == Some(1) || question == ["kv", "ls"], "{question:?}");
    }
    // A change that is refused is refused.
    let (said, status) = without_room(&machine, &["give", "/till", "x", "--lake", "sum"]);
    assert!(!said.contains("it is done") && status == Some(1), "{said}");
}

/// A node in the background of a terminal that stops whoever writes there (`stty tostop`).
#[test]
fn a_node_in_the_background_goes_on_when_it_logs() {
    let world = World::new();
    let dir = world.dir("node");
    let program = env!("CARGO_BIN_EXE_groundswell");
    let node = format!("{program} --data {} up --offline --bind 127.0.0.1:0", dir.display());
    // In a job of its own, which the terminal is not given to.
    let shell = format!("stty tostop; set -m; GROUNDSWELL_LOG=groundswell=debug {node} & wait");
    let mut child = match Command::new("script")
        .args(["--quiet", "--return", "--command", &format!("bash -c '{shell}'"), "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
    {
        Ok(child) => child,
        Err(error) => {
            println!("skipped: there is no `script` of util-linux here, which makes a terminal: {error}");
            return;
        }
    };
    let give = || {
        let mut give = tool();
        give.arg("--data").arg(&dir).args(["--json", "give", "/a", "x", "--lake", "log"]);
        run(give, b"")
    };
    until("the node to answer", || give().code == Some(0));
    // It has said much since.
    for _ in 0..5 {
        give().well();
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
