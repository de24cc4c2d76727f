//! `watch` on a real terminal (one of tmux's): entries of two machines appear and change in place, keys choose and
//! filter, the node is killed and comes back under it, and the terminal is as it was afterwards. And its lines.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers outside of test functions

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::common::{Node, World, kv, tool, until};
use serde_json::json;

/// A terminal, and what runs in it.
struct Terminal(PathBuf);

impl Terminal {
    /// Runs a command of a shell. Where there is no tmux the test is skipped, and says so.
    fn start(world: &World, shell: &str) -> Option<Self> {
        if Command::new("tmux").arg("-V").output().is_err() {
            println!("skipped: there is no tmux; `cargo xtask test` installs it where apt-get can");
            return None;
        }
        let terminal = Self(world.dir("tmux.sock"));
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "110", "-y", "24", shell]);
        Some(terminal)
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let mut tmux = Command::new("tmux");
        let ran = tmux.arg("-S").arg(&self.0).args(arguments).env("TERM", "xterm-256color").output().unwrap();
        assert!(ran.status.success(), "tmux {arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8_lossy(&ran.stdout).into_owned()
    }

    fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen has a line with all of these, in this order.
    #[track_caller]
    fn shows(&self, parts: &[&str]) {
        until(&format!("the screen to show {parts:?}"), || self.screen().lines().any(|line| has(line, parts)));
    }

    #[track_caller]
    fn shows_no_more(&self, part: &str) {
        until(&format!("the screen to be without {part}"), || !self.screen().contains(part));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the screen was:\n{}", self.screen());
        }
        let _ = Command::new("tmux").arg("-S").arg(&self.0).arg("kill-server").output();
    }
}

fn has(line: &str, parts: &[&str]) -> bool {
    let mut rest = line;
    parts.iter().all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

/// A shell command that watches a node, and says with which status that ended.
fn watching(dir: &Path) -> String {
    let tool = tool().get_program().to_string_lossy().into_owned();
    format!("echo before; '{tool}' --data '{}' watch; echo left with $?; exec cat", dir.display())
}

fn set(node: &Node, key: &str, value: &str) {
    node.kv(None, &["set", key, value]).well();
}

#[test]
fn a_table_shows_a_fleet_as_it_changes_and_goes_on_when_the_node_was_killed() {
    let world = World::new();
    let (one, mut manager) = world.pair();
    kv::online(&one, &manager);
    set(&one, "stock/cola", "12");
    let Some(terminal) = Terminal::start(&world, &watching(&manager.dir)) else { return };
    let short = |node: &Node| node.id[..10].to_owned();
    terminal.shows(&["manager", &short(&manager), "1 of 1 machines online", "1 entries"]);
    terminal.shows(&[&short(&one), "online, current"]);
    terminal.shows(&[&short(&one), "stock/cola", "12", "machine"]);
    // In place.
    set(&one, "stock/cola", "11");
    terminal.shows(&["stock/cola", "11"]);
    manager.kv(Some(&one.id), &["set", "price/cola", "250"]).well();
    terminal.shows(&[&short(&one), "price/cola", "250", "manager"]);
    // A second machine, that is claimed under it.
    let two = world.machine("two");
    kv::claim(&two, &manager);
    set(&two, "temperature", "4.5");
    terminal.shows(&[&short(&two), "temperature", "4.5", "machine"]);
    terminal.shows(&["2 of 2 machines online"]);
    // Chosen, its whole value stands below; filtered, what does not fit is gone.
    let long = "0123456789".repeat(15);
    set(&two, "zzz", &long);
    // There, or there is nothing to choose.
    terminal.shows(&["zzz", "0123456789"]);
    terminal.press(&["/", "z", "z", "z", "Enter", "End"]);
    until("the whole value", || terminal.screen().lines().map(str::trim_end).collect::<String>().contains(&long));
    // A terminal takes an Escape with a key right after it for one key: each waits for what it does.
    terminal.press(&["Escape"]);
    terminal.shows(&["Esc ends the filter"]);
    terminal.press(&["Escape"]);
    terminal.shows(&["temperature", "4.5"]);
    terminal.press(&["/", "p", "r", "i", "c", "e"]);
    terminal.shows(&["filter: price"]);
    terminal.shows_no_more("temperature");
    terminal.press(&["Escape"]);
    terminal.shows(&["temperature", "4.5"]);
    one.kv(None, &["del", "price/cola"]).well();
    terminal.shows(&["price/cola is deleted", "machine"]);
    // The node is killed: what was there stays, and it is said. What changed meanwhile is there with the node.
    let (dir, ticket) = (manager.dir.clone(), manager.ticket.clone());
    manager.kill();
    terminal.shows(&["The node is out of reach"]);
    terminal.shows(&["2 of 2 machines were online"]);
    terminal.shows(&[&short(&one), "it was: online, current"]);
    terminal.shows(&["stock/cola", "11"]);
    set(&one, "stock/cola", "10");
    one.kv(None, &["set", "new", "1"]).well();
    two.kv(None, &["del", "temperature"]).well();
    let manager = world.up("manager");
    assert_eq!((&manager.dir, &manager.ticket[..20]), (&dir, &ticket[..20]), "the same");
    terminal.shows_no_more("out of reach");
    terminal.shows(&["stock/cola", "10"]);
    terminal.shows(&[&short(&one), "new", "1"]);
    terminal.shows_no_more("4.5");
    // A machine that is released goes, with what it had.
    manager.run(&["release", &two.id]).well();
    terminal.shows(&["1 of 1 machines online"]);
    terminal.shows_no_more("zzz");
    terminal.press(&["q"]);
    terminal.shows(&["left with 0"]);
    let screen = terminal.screen();
    assert!(screen.starts_with("before") && !screen.contains("stock/cola"), "the terminal is as it was:\n{screen}");
}

#[test]
fn a_watch_that_is_terminated_leaves_the_terminal_as_it_was() {
    let world = World::new();
    let machine = world.machine("machine");
    set(&machine, "key", "value");
    let Some(terminal) = Terminal::start(&world, &watching(&machine.dir)) else { return };
    terminal.shows(&["machine", &machine.id[..10], "1 entries"]);
    terminal.shows(&["not claimed"]);
    terminal.shows(&["key", "value", "machine"]);
    let pattern = format!("{} watch", machine.dir.display());
    let ran = Command::new("pkill").args(["-TERM", "-f", &pattern]).status().unwrap();
    assert!(ran.success());
    terminal.shows(&["left with 0"]);
    assert!(terminal.screen().starts_with("before"), "{}", terminal.screen());
}

#[test]
fn lines_for_programs() {
    let world = World::new();
    let (machine, manager) = world.pair();
    kv::online(&machine, &manager);
    set(&machine, "a/1", "x");
    set(&machine, "b/1", "x");
    let mut lines = manager.lines(&["watch", "--prefix", "a/"]);
    assert_eq!(lines.next(), json!({"type": "node", "id": manager.id, "role": "manager"}));
    let pair = lines.next_of("pair");
    assert_eq!((&pair["machine"], &pair["link"]), (&machine.id.clone().into(), &"online".into()));
    let put = lines.next_of("put");
    assert_eq!((&put["machine"], &put["key"]), (&machine.id.clone().into(), &"a/1".into()));
    lines.until(|line| line["type"] == "caught_up" && line.get("machine").is_none());
    set(&machine, "a/1", "y");
    assert_eq!(lines.next_of("put")["value"], "y");
    machine.stop();
    lines.until(|line| line["type"] == "pair" && line["link"] == "offline");
    // The end of the node is the end of the lines.
    manager.stop();
    assert_eq!(lines.next_of("ended")["reason"], "shut_down");
    assert!(crate::common::wait(&mut lines.child).success());
}

/// What can't be watched is refused before anything is drawn, with what to do.
#[test]
fn what_can_not_be_watched_is_said() {
    let world = World::new();
    let peer = world.up("peer");
    assert!(peer.run(&["watch"]).error().contains("this node is a peer"));
    let manager = world.manager("manager");
    let unknown = manager.run(&["watch", "--machine", "0123456789"]).error();
    assert!(unknown.contains("`groundswell machines` lists them"), "{unknown}");
    assert!(manager.run(&["watch", "--space", "one"]).error().contains("--machine"));
    let Some(terminal) = Terminal::start(&world, &watching(&world.dir("nowhere"))) else { return };
    terminal.shows(&["error: no node runs in"]);
    terminal.shows(&["left with 1"]);
}

/// A node that stands still does not answer: who asked may leave all the same.
#[test]
fn a_watch_of_a_node_that_stands_still_can_be_left() {
    let world = World::new();
    let machine = world.machine("machine");
    crate::common::signal("STOP", machine.process());
    let Some(terminal) = Terminal::start(&world, &watching(&machine.dir)) else {
        return crate::common::signal("CONT", machine.process());
    };
    let pattern = format!("{} watch", machine.dir.display());
    // It hears the signal once it waits; before that the signal ends it, as it does any program.
    until("the watch to end", || {
        let _ = Command::new("pkill").args(["-TERM", "-f", &pattern]).status();
        terminal.screen().contains("left with")
    });
    crate::common::signal("CONT", machine.process());
}
