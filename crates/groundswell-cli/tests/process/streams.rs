//! Standard output, standard error and signals: what nobody reads, what cannot be written and a terminal that is closed
//! stop, block or kill no node.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers outside of test functions

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, PipeReader, PipeWriter, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::common::{World, run, signal, tool, until, wait};

/// How much a pipe holds on Linux.
const PIPE_BYTES: usize = 64 * 1024;

/// Starts a node with these streams, and waits until it answers.
fn up(dir: &Path, mut tool: Command, out: impl Into<Stdio>, error: impl Into<Stdio>) -> Child {
    let arguments = ["up", "--role", "machine", "--offline", "--bind", "127.0.0.1:0"];
    let mut child =
        tool.arg("--data").arg(dir).args(arguments).stdin(Stdio::null()).stdout(out).stderr(error).spawn().unwrap();
    until("the node to answer", || {
        assert!(child.try_wait().unwrap().is_none(), "it has ended");
        asked(dir, &["status"]).code == Some(0)
    });
    child
}

fn asked(dir: &Path, arguments: &[&str]) -> crate::common::Ran {
    let mut command = tool();
    command.arg("--data").arg(dir).arg("--json").args(arguments);
    run(command, b"")
}

/// A request with a wrong token, which is refused, and logged.
fn refused(dir: &Path) {
    let port = fs::read_to_string(dir.join("http-port")).unwrap();
    let mut stream = TcpStream::connect(format!("127.0.0.1:{}", port.trim())).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let head =
        "GET /api/v1/node HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer wrong\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 4"), "{line}");
}

/// It writes, refuses with words, and ends in order.
fn lives(dir: &Path, mut node: Child) {
    for value in ["1", "2", "3"] {
        refused(dir);
        asked(dir, &["kv", "set", "a", value]).well();
    }
    signal("TERM", node.id());
    assert!(wait(&mut node).success());
    assert!(!dir.join("control.sock").exists(), "in order");
}

fn pipe_without_reader() -> PipeWriter {
    io::pipe().unwrap().1
}

/// A pipe in which nothing more has room. Nobody reads as long as the reader is kept.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = io::pipe().unwrap();
    writer.write_all(&[b'x'; PIPE_BYTES]).unwrap();
    (reader, writer)
}

/// With the log at its most talkative, so that each step would write.
fn talkative() -> Command {
    let mut talkative = tool();
    talkative.env("GROUNDSWELL_LOG", "debug");
    talkative
}

#[test]
fn a_node_whose_streams_nobody_reads_or_has_room_for_goes_on() {
    let world = World::new();
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let dir = world.dir("gone");
    lives(&dir, up(&dir, talkative(), pipe_without_reader(), pipe_without_reader()));
    let dir = world.dir("full");
    lives(&dir, up(&dir, talkative(), full(), full()));
    let dir = world.dir("blocked");
    let ((_out, out), (_error, error)) = (full_pipe(), full_pipe());
    lives(&dir, up(&dir, talkative(), out, error));
    let dir = world.dir("closed");
    let mut closed = Command::new("sh");
    closed.args(["-c", "exec \"$0\" \"$@\" >&- 2>&-", env!("CARGO_BIN_EXE_groundswell")]);
    lives(&dir, up(&dir, closed, Stdio::null(), Stdio::null()));
}

/// A restored copy warns at its start: that is no reason not to start.
#[test]
fn a_restored_copy_starts_without_anybody_who_reads_its_warning() {
    let world = World::new();
    let node = world.machine("a");
    let dir = node.dir.clone();
    node.stop();
    let copy = world.dir("copy");
    assert!(Command::new("cp").arg("-r").args([&dir, &copy]).status().unwrap().success());
    lives(&copy, up(&copy, tool(), Stdio::null(), pipe_without_reader()));
}

#[test]
fn what_could_not_be_logged_is_counted_when_it_can_be_again() {
    let world = World::new();
    let dir = world.dir("a");
    let (mut reader, writer) = full_pipe();
    let mut node = up(&dir, talkative(), Stdio::null(), writer);
    // Each of these is a line, and they are more than wait to be written.
    for _ in 0..1_000 {
        drop(UnixStream::connect(dir.join("control.sock")).unwrap());
    }
    asked(&dir, &["kv", "set", "a", "1"]).well();
    // Only now anybody reads.
    let reading = std::thread::spawn(move || {
        let mut log = Vec::new();
        reader.read_to_end(&mut log).unwrap();
        String::from_utf8(log).unwrap()
    });
    signal("TERM", node.id());
    assert!(wait(&mut node).success());
    let log = reading.join().unwrap();
    let told = " lines were dropped here: they came too fast, or could not be written";
    let dropped = log.lines().find_map(|line| line.strip_suffix(told));
    assert!(dropped.is_some_and(|count| count.parse::<u64>().is_ok_and(|count| count > 0)), "{log}");
}

#[test]
fn a_command_whose_output_is_not_to_be_had_ends_and_says_so() {
    let world = World::new();
    let node = world.machine("a");
    node.kv(None, &["set", "a", "1"]).well();
    let spawn = |arguments: &[&str], out: Stdio, error: Stdio| {
        let mut command = node.command(arguments);
        command.stdin(Stdio::null()).stdout(out).stderr(error).spawn().unwrap()
    };
    // Who reads has had enough: that is no error. A full disk is one.
    let mut child = spawn(&["kv", "ls"], pipe_without_reader().into(), Stdio::piped());
    assert_eq!(wait(&mut child).code(), Some(0));
    let full = File::options().write(true).open("/dev/full").unwrap();
    let child = spawn(&["kv", "ls"], full.into(), Stdio::piped());
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert!(String::from_utf8(ended.stderr).unwrap().contains("cannot write to standard output"));
    // An error that nobody can be told of is an error still, in little time.
    for error in [pipe_without_reader(), full_pipe().1] {
        let mut child = spawn(&["kv", "get", "none"], Stdio::null(), error.into());
        assert_eq!(wait(&mut child).code(), Some(1));
        let mut child = spawn(&["kv", "get"], Stdio::null(), pipe_without_reader().into());
        assert_eq!(wait(&mut child).code(), Some(2));
    }
    let (_kept, error) = full_pipe();
    let mut child = spawn(&["kv", "get", "none"], Stdio::null(), error.into());
    assert_eq!(wait(&mut child).code(), Some(1));
}

/// Ctrl-C ends what waits for a reader: a stream, a claim, a demo.
#[test]
fn who_asks_for_an_end_gets_it_while_nobody_reads() {
    let world = World::new();
    let node = world.machine("a");
    for arguments in [&["kv", "subscribe"][..], &["claims", "--yes"], &["watch"], &["demo", "--no-browser"]] {
        let (_kept, out) = full_pipe();
        let mut command = tool();
        command.arg("--data").arg(&node.dir).args(arguments);
        let mut child = command.stdin(Stdio::null()).stdout(out).stderr(Stdio::null()).spawn().unwrap();
        // It is heard from the moment on that the signals are listened to.
        until("the signals to be heard", || hears(child.id(), 2));
        let asked = Instant::now();
        signal("INT", child.id());
        until(&format!("{arguments:?} to end"), || child.try_wait().unwrap().is_some());
        assert!(asked.elapsed() < Duration::from_secs(20), "{arguments:?}");
    }
}

/// The same where the last line of a stream is what nobody reads.
#[test]
fn a_stream_ends_without_its_last_line_where_nobody_reads_it() {
    let world = World::new();
    let node = world.machine("a");
    node.run(&["give", "/log", "x", "--lake", "log"]).well();
    for arguments in [&["kv", "subscribe"][..], &["surf", &node.id, "/log", "--lake", "log"]] {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut command = tool();
        command.arg("--data").arg(&node.dir).args(arguments).stdin(Stdio::null()).stderr(Stdio::null());
        let mut child = command.stdout(writer.try_clone().unwrap()).spawn().unwrap();
        let mut lines = BufReader::new(reader);
        let mut line = String::new();
        while !line.contains("caught up") {
            line.clear();
            lines.read_line(&mut line).unwrap();
        }
        writer.write_all(&[b'x'; PIPE_BYTES]).unwrap();
        signal("INT", child.id());
        until(&format!("{arguments:?} to end"), || child.try_wait().unwrap().is_some());
    }
}

/// Whether a process has a handler for a signal.
fn hears(process: u32, number: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0");
    u64::from_str_radix(caught.trim(), 16).unwrap() >> (number - 1) & 1 == 1
}

/// "SIGHUP": a terminal that is closed ends the node in order, so that the other side knows at once; `nohup` keeps it up.
#[test]
fn a_terminal_that_is_closed_ends_the_node_in_order_unless_that_is_ignored() {
    let world = World::new();
    let (machine, manager) = world.pair();
    crate::common::kv::online(&machine, &manager);
    signal("HUP", machine.process());
    let mut machine = machine;
    machine.ended();
    // In order: it is known at once, and not when the connection has been silent for ten seconds.
    let ended = Instant::now();
    until("the manager to know", || !crate::common::kv::online_at(&manager, &machine.id));
    assert!(ended.elapsed() < Duration::from_secs(8), "{:?}", ended.elapsed());

    let mut ignoring = Command::new("sh");
    ignoring.args(["-c", "trap '' HUP; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_groundswell")]);
    let dir = world.dir("nohup");
    let node = up(&dir, ignoring, Stdio::null(), Stdio::null());
    signal("HUP", node.id());
    lives(&dir, node);
}
