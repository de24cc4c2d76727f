//! Values, keys and tickets in every form that a shell or a clipboard makes of them: what is said to be done is done, and
//! what is not is refused with a status that says so.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers outside of test functions

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

use crate::common::{Node, Ran, World, run};
use serde_json::Value;

/// Texts that a command line could take for something else.
const TEXTS: [&str; 22] = [
    "-hello",
    "-h",
    "--help",
    "--help-me",
    "-help",
    "-V",
    "--version",
    "-5",
    "-5.5",
    "-5e3",
    "-inf",
    "--json",
    "--jso",
    "--",
    "---",
    "-",
    "",
    " ",
    "-x=y",
    "--x=y",
    "@file",
    "a\nb",
];

fn kv(node: &Node, arguments: &[&OsStr]) -> Ran {
    let mut command = node.command(&["kv"]);
    command.args(arguments);
    run(command, b"")
}

/// Stored as it is, or refused with how to write it; one of the two.
#[track_caller]
fn stored_or_refused(ran: &Ran, arguments: &[&str], text: &str, stored: impl Fn() -> bool) {
    match ran.code {
        Some(0) => assert!(stored(), "{arguments:?} ended well, and did nothing: {ran:?}"),
        Some(2) => {
            let error: Value =
                serde_json::from_str(ran.stderr.trim_end()).unwrap_or_else(|_| panic!("one object: {ran:?}"));
            let hint = error["error"].as_str().unwrap();
            // What is an argument of its own is not a value that was meant.
            let known = ["--json", "--jso"].contains(&text);
            assert!(known || hint.contains("'-- "), "{arguments:?}: {hint}");
            assert!(ran.stdout.is_empty() && !stored(), "{arguments:?}: {ran:?}");
        }
        _ => panic!("{arguments:?}: {ran:?}"),
    }
}

#[test]
fn a_value_or_a_key_is_stored_as_it_is_or_refused_with_the_remedy() {
    let world = World::new();
    let node = world.machine("a");
    let value_of = |key: &str| {
        let ran = node.run(&["kv", "get", "--", key]);
        (ran.code == Some(0)).then(|| ran.only()["value"].clone())
    };
    for text in TEXTS {
        // With the remedy it is always stored.
        node.run(&["kv", "set", "--", "value", text]).well();
        assert_eq!(value_of("value"), Some(text.into()), "{text:?}");
        node.run(&["kv", "set", "--", text, "key"]).well();
        assert_eq!(value_of(text), Some("key".into()), "{text:?}");
        node.run(&["kv", "del", "--", text]).well();
        node.run(&["kv", "del", "value"]).well();
        // `--help` is an argument of every command, and there is none with its first letter.
        if text == "--help" {
            continue;
        }
        let arguments = ["kv", "set", "value", text];
        let ran = node.run(&arguments);
        stored_or_refused(&ran, &arguments, text, || value_of("value") == Some(text.into()));
        let arguments = ["kv", "set", text, "key"];
        let ran = node.run(&arguments);
        stored_or_refused(&ran, &arguments, text, || value_of(text) == Some("key".into()));
        node.run(&["kv", "set", "--", text, "key"]).well();
        for verb in ["get", "watch"] {
            let count: &[&str] = if verb == "watch" { &["--count", "1"] } else { &[] };
            let ran = node.run(&[&["kv", verb][..], count, &[text]].concat());
            match ran.code {
                Some(0) => assert_eq!(ran.only()["value"], "key", "{verb} {text:?}"),
                code => assert_eq!(code, Some(2), "{verb} {text:?}"),
            }
        }
        let ran = node.run(&["kv", "ls", "--prefix", text]);
        assert!(ran.objects().iter().any(|entry| entry["key"] == text), "--prefix {text:?}: {ran:?}");
        node.run(&["kv", "del", "--", text]).well();
    }
}

#[test]
fn a_wave_is_given_as_it_is_or_refused_with_the_remedy() {
    let world = World::new();
    let node = world.up("a");
    for (number, text) in TEXTS.iter().enumerate().filter(|(_, text)| !["--help", "-"].contains(text)) {
        let (path, other) = (format!("/log/{number}"), format!("/other/{number}"));
        let there = |path: &str| node.aeon(path).is_some() && node.read(path)["rock"] == serde_json::json!([text]);
        node.run(&["give", &other, "--lake", "log", "--", text]).well();
        assert!(there(&other), "{text:?}");
        let arguments = ["give", &path, "--lake", "log", text];
        let ran = node.run(&arguments);
        stored_or_refused(&ran, &arguments, text, || there(&path));
    }
    for wave in ["-5", " -5", "+3", "8"] {
        node.run(&["give", "/sum", wave, "--lake", "sum"]).well();
    }
    assert_eq!(node.read("/sum")["rock"], 1);
}

#[test]
fn bytes_that_are_no_text_are_stored_exactly() {
    let world = World::new();
    let node = world.machine("a");
    let (key, value) = (OsStr::from_bytes(b"k\xff\x80"), OsStr::from_bytes(b"\xfe-v"));
    let entry = kv(&node, &[OsStr::new("set"), key, value]).only();
    assert_eq!((&entry["key_hex"], &entry["value_hex"]), (&"6bff80".into(), &"fe2d76".into()));
    assert_eq!(kv(&node, &[OsStr::new("get"), key]).only()["value_hex"], "fe2d76");
    assert_eq!(kv(&node, &[OsStr::new("ls"), OsStr::new("--prefix"), key]).objects().len(), 1);
    assert_eq!(kv(&node, &[OsStr::new("del"), key]).only()["deleted"], true);
    // What has to be text or hexadecimal says so.
    let refused = kv(&node, &[OsStr::new("set"), OsStr::new("--hex"), key, value]);
    assert!(refused.code == Some(2) && refused.stderr.contains("is not hexadecimal"), "{refused:?}");
    let mut give = node.command(&["give", "/log", "--lake", "log"]);
    give.arg(value);
    let refused = run(give, b"");
    assert!(refused.code == Some(2) && refused.stderr.contains("UTF-8"), "{refused:?}");
}

/// "`-` as standard stream in both directions."
#[test]
fn the_standard_streams_carry_a_value_exactly_in_both_directions() {
    let world = World::new();
    let node = world.machine("a");
    let bytes: Vec<u8> = (0..=255_u8).chain(*b"\x1b[2J\r\n\n").collect();
    let ran = run(node.kv_command(None, &["set", "a", "--file", "-"]), &bytes);
    ran.well();
    let mut get = crate::common::tool();
    get.arg("--data").arg(&node.dir).args(["kv", "get", "a", "--file", "-"]);
    let got = get.output().unwrap();
    assert_eq!((got.status.code(), got.stdout), (Some(0), bytes), "nothing but the value");
    assert!(!std::path::Path::new("-").exists(), "no file of that name");
    let both = node.kv(None, &["get", "a", "--file", "-"]);
    assert!(both.code == Some(2) && both.stderr.contains("leave out one of the two"), "{both:?}");
    // For people the size of what came from a file stands where the value would.
    let file = world.dir("file");
    std::fs::write(&file, "x".repeat(5_000)).unwrap();
    let mut set = crate::common::tool();
    set.arg("--data").arg(&node.dir).args(["kv", "set", "big", "--file"]).arg(&file);
    assert_eq!(run(set, b"").well().stdout, "big = 5000 bytes  (machine)\n");
}

#[test]
fn a_ticket_and_an_id_are_read_however_they_were_pasted() {
    let world = World::new();
    let (publisher, follower) = (world.up("publisher"), world.up("follower"));
    publisher.run(&["give", "/a", "x", "--lake", "log"]).well();
    let ticket = &publisher.ticket;
    let (first, rest) = ticket.split_at(30);
    let forms = [
        format!(" {ticket}\n"),
        format!("\"{ticket}\""),
        format!("\u{201c}{ticket}\u{201d}"),
        format!("{first}\n  {rest}"),
        format!("\u{feff}{first}\u{200b}{rest}\u{ad}"),
        ticket.to_uppercase(),
        publisher.id.to_uppercase(),
        format!("0x{}", publisher.id),
        publisher.id[..10].to_uppercase(),
    ];
    for form in forms {
        let ran = follower.run(&["surf", &form, "/a", "--lake", "log", "--once"]);
        assert_eq!(ran.code, Some(0), "{form:?}: {ran:?}");
    }
    // A part of one is refused in a line that says what to do, and does not repeat all of it.
    let ran = follower.run(&["surf", &ticket[..ticket.len() - 3], "/a", "--lake", "log"]);
    assert!(ran.code == Some(2) && ran.stderr.contains("copy the whole of it"), "{ran:?}");
}

#[test]
fn wrong_usage_is_one_object_with_json() {
    let world = World::new();
    let node = world.machine("a");
    for arguments in [
        &["kv", "set", "a"][..],
        &["kv", "set", "a", "b", "c"],
        &["give", "/a", "x"],
        &["sing"],
        &["kv", "set", "zz", "1", "--hex"],
        &["give", "a", "x", "--lake", "log"],
        &["up", "--http-public", "x"],
    ] {
        let ran = node.run(arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
        let lines: Vec<&str> = ran.stderr.lines().collect();
        let [line] = lines[..] else { panic!("one line: {ran:?}") };
        let error: Value = serde_json::from_str(line).unwrap();
        assert!(
            error["error"].as_str().is_some_and(|error| !error.is_empty() && !error.starts_with("error")),
            "{ran:?}"
        );
    }
    // A variable that is not set names no directory.
    let mut empty = crate::common::tool();
    empty.args(["--data", "", "--json", "status"]);
    let ran = run(empty, b"");
    assert!(ran.code == Some(2) && ran.stderr.contains("--data <DIR>"), "{ran:?}");
}
