//! A disk that is full and a clock that jumps, under a node in a process of its own.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers outside of test functions

use std::{fs, process::Command};

use crate::common::{Node, Surfing, faketime, run, tool, until};
use tempfile::TempDir;

/// How large the node's files may become, in the shell's blocks of 512 bytes: 18 MiB. The journal has 16 MiB and a block from the start.
const FILE_BLOCKS: u32 = 36_864;

/// The tool, with files that can't grow beyond the limit. Growing them then fails as on a full
/// disk, since the tool blocks the signal that would end it.
fn tool_on_a_small_disk() -> Command {
    tool_on_a_disk_of(FILE_BLOCKS)
}

fn tool_on_a_disk_of(blocks: u32) -> Command {
    let mut shell = Command::new("sh");
    let script = format!("ulimit -f {blocks}; exec \"$@\"");
    shell.args(["-c", &script, "sh"]).arg(tool().get_program());
    shell
}

/// So many lines of 100,000 bytes: far more than fit.
fn large_lines(count: usize) -> String {
    (1..=count).map(|n| format!("{n} {}\n", "x".repeat(100_000))).collect()
}

/// "A full disk or failing storage", when a node is started: the error says that it is the disk, and
/// the directory is as good as before.
#[test]
fn a_start_on_a_full_disk_says_so_and_harms_nothing() {
    let dir = TempDir::new().unwrap();
    let used = dir.path().join("used");
    let node = Node::up(&used);
    node.run(&["give", "/a", "x", "--lake", "log"]).well();
    let id = node.id.clone();
    node.stop();
    for (data, blocks) in [("new", 1), ("new", 8), ("new", 64), ("used", 1), ("used", 8)] {
        let data = dir.path().join(data);
        let mut command = tool_on_a_disk_of(blocks);
        // Without its log, which says the same.
        command.env("GROUNDSWELL_LOG", "off").arg("--data").arg(&data);
        command.args(["--json", "up", "--offline", "--bind", "127.0.0.1:0"]);
        let error = run(command, b"").error();
        assert!(error.contains("check the disk's space and health"), "{blocks} blocks: {error}");
        assert!(error.contains("node.") && !error.contains("damaged"), "{blocks} blocks: {error}");
    }
    Node::up(&dir.path().join("new")).stop();
    let node = Node::up(&used);
    assert_eq!(node.id, id);
    assert_eq!(node.rock("/a"), r#"["x"]"#);
}

/// Each update of a log until this aeon follows from the one before, and is the line of that number.
fn follows(surfing: &mut Surfing, from: u64, to: u64, line: impl Fn(u64) -> String) {
    for aeon in from + 1..=to {
        let update = surfing.next_of("update");
        assert_eq!(update["aeon"], aeon, "no gap, no rock in place of waves");
        let wave = update["wave"].as_str().expect("a wave");
        assert!(wave == line(aeon), "the wave of aeon {aeon} begins with {:?}", wave.get(..20));
    }
}

/// "A full disk: the give fails, earlier aeons stand, the node says so and goes on serving what it
/// has": nothing of the refused give is sent, to a local reader or a remote one.
#[test]
fn a_full_disk_of_the_publisher_sends_nothing_of_a_refused_give() {
    let dir = TempDir::new().unwrap();
    let publisher = Node::up_as(&dir.path().join("publisher"), tool_on_a_small_disk());
    let follower = Node::up(&dir.path().join("follower"));
    publisher.run(&["give", "/small", "kept", "--lake", "log"]).well();
    publisher.run(&["open", "/log/large", "--lake", "log"]).well();
    let mut local = publisher.surf(&[&publisher.id, "/log/large", "--lake", "log", "--bare"]);
    let mut remote = follower.surf(&[&publisher.ticket, "/log/large", "--lake", "log", "--bare"]);
    local.next_of("caught_up");
    let cursor = remote.until(|line| line["type"] == "update")["cursor"].as_str().unwrap().to_owned();
    remote.next_of("caught_up");
    let input = large_lines(250);
    let lines: Vec<&str> = input.lines().collect();
    let given = publisher.run_with(&["give", "/log/large", "-", "--lake", "log", "--acks"], input.as_bytes());
    assert!(given.error().contains("check the disk's space"), "{}", given.stderr);
    let fit = given.objects().last().and_then(|ack| ack["aeon"].as_u64()).expect("some fit");
    assert!((1..250).contains(&fit), "{fit}");
    for surfing in [&mut local, &mut remote] {
        follows(surfing, 0, fit, |aeon| lines[aeon as usize - 1].to_owned());
    }
    let status = publisher.run(&["status"]).only();
    assert!(status["metrics"]["commit_failures"].as_u64().unwrap() > 0, "{}", status["metrics"]);
    // It goes on serving what it has: to both, and to one who comes only now.
    assert_eq!(publisher.rock("/log/large"), follower.rock("/log/large"));
    assert_eq!(publisher.rock("/small"), r#"["kept"]"#);
    let mut late = follower.surf(&[&publisher.id, "/small", "--lake", "log"]);
    assert_eq!(late.next_of("caught_up")["rock"][0], "kept");
    publisher.stop();
    // With room again, the next thing that comes is the next good wave.
    let publisher = Node::up(&dir.path().join("publisher"));
    assert_eq!(publisher.aeon("/log/large"), Some(fit), "nothing of what was refused is stored");
    let given = publisher.run(&["give", "/log/large", "room", "--lake", "log"]).only();
    assert_eq!(given["aeon"], fit + 1);
    follows(&mut remote, fit, fit + 1, |_| "room".to_owned());
    let mut again = follower.surf(&[&publisher.id, "/log/large", "--lake", "log", "--bare", "--from", &cursor]);
    follows(&mut again, 0, 1, |_| lines[0].to_owned());
}

/// "A full disk" of a subscriber: its replica stands still and says so, the old state can be read, no one
/// else is affected, and it goes on when there is room.
#[test]
fn a_full_disk_of_a_subscriber_concerns_it_alone() {
    let dir = TempDir::new().unwrap();
    let publisher = Node::up(&dir.path().join("publisher"));
    let full = Node::up_as(&dir.path().join("full"), tool_on_a_small_disk());
    let roomy = Node::up(&dir.path().join("roomy"));
    publisher.run(&["give", "/sum", "7", "--lake", "sum"]).well();
    publisher.run(&["give", "/log/large", "first", "--lake", "log"]).well();
    for node in [&full, &roomy] {
        node.surf(&[&publisher.ticket, "/sum", "--lake", "sum"]).next_of("caught_up");
    }
    let mut stands = full.surf(&[&publisher.ticket, "/log/large", "--lake", "log", "--bare"]);
    let mut goes_on = roomy.surf(&[&publisher.ticket, "/log/large", "--lake", "log", "--bare"]);
    stands.next_of("caught_up");
    goes_on.next_of("caught_up");
    let input = large_lines(250);
    let lines: Vec<&str> = input.lines().collect();
    let given = publisher.run_with(&["give", "/log/large", "-", "--lake", "log"], input.as_bytes()).only();
    assert_eq!(given["aeon"], 251, "the publisher does not notice");
    let unusable = stands.until(|line| line["state"] == "unusable");
    assert!(unusable["detail"].as_str().unwrap().contains("check the disk's space"), "{unusable}");
    follows(&mut goes_on, 1, 251, |aeon| lines[aeon as usize - 2].to_owned());
    assert_eq!(roomy.rock("/log/large"), publisher.rock("/log/large"));
    // It says so, and has what it had.
    let metrics = full.run(&["status"]).only()["metrics"].clone();
    assert!(metrics["commit_failures"].as_u64().unwrap() > 0, "{metrics}");
    let state = full.read("/log/large");
    let aeon = state["aeon"].as_u64().unwrap();
    assert!((1..251).contains(&aeon) && state["stale"] == true, "{aeon}");
    let rock = state["rock"].as_array().unwrap();
    assert_eq!(rock.len() as u64, aeon);
    assert!(rock[1..].iter().zip(&lines).all(|(there, line)| there == line), "the old rock, whole");
    assert_eq!(full.rock("/sum"), "7");
    full.stop();
    let full = Node::up(&dir.path().join("full"));
    until("the replica to be whole", || full.aeon("/log/large") == Some(251));
    assert_eq!(full.rock("/log/large"), publisher.rock("/log/large"));
}

/// "A full disk: the give fails, earlier aeons stand".
#[test]
fn a_full_disk_fails_the_give_and_nothing_that_was_acknowledged() {
    let dir = TempDir::new().unwrap();
    let publisher = Node::up_as(&dir.path().join("publisher"), tool_on_a_small_disk());
    let follower = Node::up(&dir.path().join("follower"));
    let lines = large_lines(250);
    let given = publisher.run_with(&["give", "/log/large", "-", "--lake", "log", "--acks"], lines.as_bytes());
    let error = given.error();
    assert!(error.contains("storage failed"), "{error}");
    assert!(error.contains("space"), "says what to look at: {error}");
    let acknowledged = given.objects().last().and_then(|ack| ack["aeon"].as_u64()).expect("some fit");
    assert!((1..250).contains(&acknowledged), "{acknowledged}");
    // The error alone tells the caller what to leave out of the next try.
    let given = match acknowledged {
        1 => "the first wave is given: do not give it again".to_owned(),
        more => format!("the first {more} waves are given: do not give them again"),
    };
    assert!(error.contains(&given), "{error}");
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

/// "A clock that jumps": waves go on, whatever the clock says. That the nodes see that clock is told by the
/// times that they print.
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
    let offline = surfing.until(|line| line["state"] == "offline");
    let since = offline["since_ms"].as_u64().unwrap();
    let day = 24 * 3_600 * 1_000;
    assert!((day / 2..3 * day).contains(&since), "the time that the node sees is that of the test: {offline}");
    let publisher = Node::up_as(&at, with_clock());
    assert_eq!(publisher.run(&["give", "/sum", "1", "--lake", "sum"]).only()["aeon"], 8);
    surfing.until(|line| line["aeon"] == 8);
}
