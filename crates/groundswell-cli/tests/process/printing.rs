//! Output that cannot be written, and what a terminal does to a program in the background.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers outside of test functions

use std::{fs::File, process::Stdio};

use crate::common::{Node, World, kv::online, tool};

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
