//! Claims and releases between real processes, by the tool: who is asked, what is refused, what an
//! interrupted tool means, and what is left of a pair that was ended.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers outside of test functions

use std::{
    io::{Read, Write},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
};

use crate::common::{
    Node, PATIENCE, World,
    kv::{self, Talk},
    run, signal, tool, until, wait,
};
use serde_json::json;

/// What only one role can do, or no role at all, says who can.
#[test]
fn a_command_of_another_role_is_refused_and_says_which_one_it_is_for() {
    let world = World::new();
    let (machine, manager, peer) = (world.machine("machine"), world.manager("manager"), world.up("peer"));
    let ticket = machine.ticket.clone();
    let refused = |node: &Node, arguments: &[&str], said: &str| {
        let error = node.run(arguments).error();
        assert!(error.contains(said), "{arguments:?}: {error}");
    };
    let for_manager = "is for a manager, and this node is a machine: `groundswell up --role manager`";
    refused(&machine, &["claim", &ticket, "--yes"], for_manager);
    refused(&machine, &["machines"], for_manager);
    refused(&machine, &["kv", "subscribe", "--all"], for_manager);
    refused(&machine, &["kv", "get", "a", "--machine", &machine.id], "this node is a machine, and has no others");
    refused(&machine, &["release", &machine.id], "this node is a machine, and has no others");
    let for_machine = "is for a machine, and this node is a manager: `groundswell up --role machine`";
    refused(&manager, &["claims", "--yes"], for_machine);
    // That comes first: where nobody can be asked, and before it is said that a claim is waited for.
    refused(&manager, &["claims"], for_machine);
    refused(&machine, &["claim", &ticket], for_manager);
    let mut told = tool();
    told.arg("--data").arg(&manager.dir).args(["claims", "--yes"]);
    assert_eq!(run(told, b"").stdout, "");
    refused(&manager, &["kv", "get", "a"], "say which machine with --machine ID");
    refused(&manager, &["release"], "say which");
    for arguments in [&["kv", "ls"][..], &["release"], &["claims", "--yes"]] {
        refused(&peer, arguments, "is for a machine, and this node is a peer");
    }
    refused(&peer, &["claim", &ticket, "--yes"], "is for a manager, and this node is a peer");
    assert_eq!(peer.status()["role"], "peer");
    // A machine that is not this manager's, by its whole id and by the beginning of it.
    let unknown = format!("machine {} is not one of this manager's: it was not claimed, or was released", machine.id);
    refused(&manager, &["kv", "set", "a", "1", "--machine", &machine.id], &unknown);
    refused(&manager, &["release", &machine.id], &unknown);
    refused(&manager, &["kv", "ls", "--machine", &machine.id[..8]], "no machine of this manager has an id that begins");
    // What is no machine can't be claimed.
    for ticket in [&peer.ticket, &world.manager("other").ticket] {
        refused(&manager, &["claim", ticket, "--yes"], "takes no claims: is the ticket a machine's");
    }
    refused(&manager, &["claim", &manager.ticket, "--yes"], "this is the manager's own ticket");
}

/// The role is the data directory's, for good.
#[test]
fn a_data_directory_keeps_its_role() {
    let world = World::new();
    world.machine("machine").stop();
    world.manager("manager").stop();
    for (name, role, said) in [
        ("machine", "manager", "are those of the other role"),
        ("manager", "machine", "are those of the other role"),
        ("machine", "peer", "stays that: leave out --role"),
    ] {
        let mut command = tool();
        command.arg("--data").arg(world.dir(name));
        command.args(["--json", "up", "--offline", "--bind", "127.0.0.1:0", "--role", role]);
        let error = run(command, b"").error();
        assert!(error.contains(said), "{name} as {role}: {error}");
    }
    assert_eq!(world.up("machine").status()["role"], "machine");
    assert_eq!(world.up_with("manager", &["--role", "manager"]).status()["role"], "manager");
    // A peer's has none, and may get one.
    world.up_with("peer", &["--role", "peer"]).stop();
    assert_eq!(world.machine("peer").status()["role"], "machine");
}

#[test]
fn a_machine_that_is_taken_refuses_others_and_its_own_manager_may_claim_again() {
    let world = World::new();
    let (machine, manager) = world.pair();
    let other = world.manager("other");
    let mut waiting = kv::claims(&machine);
    let error = other.run(&["claim", &machine.ticket, "--yes"]).error();
    assert_eq!(error, "the machine is taken by another manager: release it first, from either side");
    assert_eq!(other.status()["machines"], json!([]));
    manager.run(&["claim", &machine.ticket, "--yes"]).well();
    assert_eq!(waiting.next()["manager"], *manager.id);
    assert_eq!(waiting.next()["claimed"], true);
}

/// Two people have to say yes; one no is enough.
#[test]
fn a_no_on_either_side_makes_no_pair() {
    let world = World::new();
    let (machine, manager) = (world.machine("machine"), world.manager("manager"));
    let again = ": claim again, and say yes on both sides if both show the same PIN";

    let mut at_machine = Talk::begin(&machine, &json!({"request": "claims"}));
    kv::until_open(&machine);
    let mut claiming = manager.lines(&["claim", &machine.ticket, "--yes"]);
    let shown = at_machine.next();
    assert_eq!(claiming.next()["pin"], shown["pin"]);
    at_machine.say("false");
    assert_eq!(at_machine.next()["error"], format!("the claim was declined here{again}"));
    assert_eq!(failed(&mut claiming.child), format!("the claim was declined at the machine{again}"));

    let mut waiting = kv::claims(&machine);
    let mut at_manager = Talk::begin(&manager, &json!({"request": "claim", "ticket": machine.ticket}));
    assert_eq!(at_manager.next()["pin"], waiting.next()["pin"]);
    at_manager.say("false");
    assert_eq!(at_manager.next()["error"], format!("the claim was declined here{again}"));
    assert_eq!(failed(&mut waiting.child), format!("the claim was declined at the other side{again}"));

    assert_eq!(machine.status()["manager"]["link"], "unclaimed");
    assert_eq!(manager.status()["machines"], json!([]));
    kv::claim(&machine, &manager);
}

/// Who goes away before the answer has said no; the other side need not wait for the minute to pass.
#[test]
fn a_tool_that_is_interrupted_during_a_claim_has_said_no() {
    let world = World::new();
    let (machine, manager) = (world.machine("machine"), world.manager("manager"));

    let mut at_machine = Talk::begin(&machine, &json!({"request": "claims"}));
    kv::until_open(&machine);
    let mut claiming = manager.lines(&["claim", &machine.ticket, "--yes"]);
    at_machine.next();
    claiming.next();
    at_machine.leave();
    assert!(failed(&mut claiming.child).starts_with("the claim was declined at the machine"));

    let mut waiting = kv::claims(&machine);
    let mut at_manager = Talk::begin(&manager, &json!({"request": "claim", "ticket": machine.ticket}));
    at_manager.next();
    waiting.next();
    at_manager.leave();
    assert!(failed(&mut waiting.child).starts_with("the claim was declined at the other side"));

    // One that is killed while it waits does not take the next claim with it.
    let mut waiting = kv::claims(&machine);
    signal("KILL", waiting.child.id());
    waiting.child.wait().unwrap();
    // An interruption before any claim declines nothing.
    let closed = || until("the machine to be closed", || machine.status()["claims"]["open"] == false);
    for name in ["INT", "TERM"] {
        closed();
        let mut waiting = kv::claims(&machine);
        signal(name, waiting.child.id());
        assert_eq!(failed(&mut waiting.child), "interrupted: no claim had come");
    }
    closed();
    let mut waiting = machine.lines(&["claims", "--ticket", "--yes"]);
    assert_eq!(waiting.next()["seconds"], 3_600);
    signal("INT", waiting.child.id());
    let said = failed(&mut waiting.child);
    assert!(said.starts_with("interrupted: no claim had come; the ticket stays good for 3"), "{said}");
    // One that is interrupted says so; what it had answered before stands, and the other side says no.
    let mut waiting = kv::claims(&machine);
    let mut at_manager = Talk::begin(&manager, &json!({"request": "claim", "ticket": machine.ticket}));
    at_manager.next();
    waiting.next();
    signal("INT", waiting.child.id());
    // It may have answered already.
    assert!(failed(&mut waiting.child).starts_with("interrupted"));
    at_manager.say("false");
    assert!(at_manager.next()["error"].as_str().unwrap().contains("declined"));
    assert_eq!(machine.status()["manager"]["link"], "unclaimed");
    kv::claim(&machine, &manager);
}

/// The one line of a command that has ended with 1.
#[track_caller]
fn failed(child: &mut Child) -> String {
    assert_eq!(wait(child).code(), Some(1));
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    let line: serde_json::Value = serde_json::from_str(&said).unwrap();
    line["error"].as_str().unwrap().to_owned()
}

#[test]
fn without_a_terminal_and_without_yes_nobody_is_asked_and_nothing_claimed() {
    let world = World::new();
    let (machine, manager) = (world.machine("machine"), world.manager("manager"));
    for (node, arguments) in [(&manager, &["claim", &*machine.ticket][..]), (&machine, &["claims"])] {
        let ran = node.run_with(arguments, b"y\n");
        assert!(ran.error().starts_with("standard input is no terminal"), "{ran:?}");
        assert_eq!(ran.stdout, "");
    }
    assert_eq!(machine.status()["manager"]["link"], "unclaimed");
}

/// A command in a terminal of its own, by the `script` of util-linux.
struct Terminal {
    child: Child,
    shown: mpsc::Receiver<Vec<u8>>,
    text: String,
}

impl Terminal {
    fn start(node: &Node, arguments: &str) -> Self {
        let line = format!("{} --data {} {arguments}", env!("CARGO_BIN_EXE_groundswell"), node.dir.display());
        let mut child = Command::new("script")
            .args(["--quiet", "--return", "--command", &line, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("script starts");
        let (sender, shown) = mpsc::channel();
        let mut out = child.stdout.take().unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 4_096];
            while let Ok(count @ 1..) = out.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, shown, text: String::new() }
    }

    /// Reads until this is shown.
    #[track_caller]
    fn until(&mut self, wanted: &str) {
        while !self.text.contains(wanted) {
            match self.shown.recv_timeout(PATIENCE) {
                Ok(more) => self.text += &String::from_utf8_lossy(&more),
                Err(error) => panic!("{error} before {wanted:?}: {}", self.text),
            }
        }
    }

    fn say(&mut self, line: &str) {
        self.child.stdin.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
    }

    /// The PIN that is shown, before the question.
    #[track_caller]
    fn pin(&mut self) -> String {
        self.until("[y/N]");
        let begins = self.text.find("PIN ").expect("a PIN") + 4;
        self.text[begins..begins + 6].to_owned()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In a terminal the person is asked, on both sides, and the same PIN is shown.
#[test]
fn in_a_terminal_the_person_is_asked() {
    let version = Command::new("script").arg("--version").output();
    if !version.is_ok_and(|version| String::from_utf8_lossy(&version.stdout).contains("util-linux")) {
        println!("skipped: there is no `script` of util-linux here, which makes a terminal");
        return;
    }
    let world = World::new();
    let (machine, manager) = (world.machine("machine"), world.manager("manager"));
    let begin = || {
        let mut here = Terminal::start(&machine, "claims");
        here.until("waiting for a claim");
        kv::until_open(&machine);
        let mut there = Terminal::start(&manager, &format!("claim {}", machine.ticket));
        assert_eq!(here.pin(), there.pin());
        (here, there)
    };
    // Whoever has said yes is told what is waited for; a no is not written into a question that is still open.
    {
        let (mut here, mut there) = begin();
        there.say("y\n");
        there.until("waiting for the answer at the other side");
        here.say("n\n");
        there.until("error: the claim was declined at the machine");
        // The machine's person waits for the next claim. One that its manager gives up is over here too, and what is typed
        // then is no answer to another.
        here.until("-- waiting for the next claim");
        here.text.clear();
        let mut there = Terminal::start(&manager, &format!("claim {}", machine.ticket));
        assert_eq!(here.pin(), there.pin());
        here.text.clear();
        there.say("n\n");
        here.until("declined at the other side");
        here.until("Press Enter to go on to the next claim.");
        here.text.clear();
        let mut there = Terminal::start(&manager, &format!("claim {}", machine.ticket));
        there.pin();
        here.say("y\n");
        assert_eq!(here.pin(), there.pin());
        here.say("n\n");
        there.until("error: the claim was declined at the machine");
    }
    {
        let (mut here, mut there) = begin();
        here.say("n\n");
        there.until("[y/N] \r\nerror: the claim was declined at the machine");
    }
    for (at_machine, at_manager, code) in [("y\n", "n\n", 1), ("\n", "y\n", 1), ("yes\n", "y\n", 0)] {
        let (mut here, mut there) = begin();
        here.say(at_machine);
        there.say(at_manager);
        assert_eq!(wait(&mut there.child).code(), Some(code), "{}", there.text);
        match code {
            0 => assert_eq!(wait(&mut here.child).code(), Some(0), "{}", here.text),
            _ => here.until("-- waiting for the next claim"),
        }
    }
    assert_eq!(machine.status()["manager"]["manager"], *manager.id);
}

/// The machine leaves: it goes on with what it has, and its former manager, who may read what it had,
/// gets nothing new, also after both were restarted, while the next manager does.
#[test]
fn released_by_the_machine_the_former_manager_gets_nothing_new() {
    let world = World::new();
    let (machine, manager) = world.pair();
    let id = machine.id.clone();
    machine.kv(None, &["set", "stock", "12"]).well();
    manager.kv_lines(Some(&id), &["watch", "stock"]).until_event("put stock=12 by machine");
    let mut here = machine.kv_lines(None, &["subscribe"]);
    here.until_event("caught_up");
    let released = machine.run(&["release"]).only();
    assert_eq!(released, json!({"released": true, "manager": manager.id}));
    // Readers at the machine begin anew.
    assert_eq!(here.event(), "reset");
    assert_eq!(here.event(), "put stock=12 by machine");
    machine.kv(None, &["set", "stock", "11"]).well();
    until("the manager to know", || manager.machine_status(&id)["link"] == "released");
    machine.stop();
    manager.stop();
    let (machine, manager) = (world.up("machine"), world.up("manager"));
    assert_eq!(machine.status()["manager"]["link"], "unclaimed");
    let next = world.manager("next");
    kv::claim(&machine, &next);
    next.kv_lines(Some(&id), &["watch", "stock"]).until_event("put stock=11 by machine");
    assert_eq!(manager.kv(Some(&id), &["get", "stock"]).only()["value"], "12");
    let error = manager.kv(Some(&id), &["set", "stock", "1"]).error();
    assert!(error.contains("not claimed"), "{error}");
    manager.run(&["release", &id]).well();
    assert_eq!(manager.status()["machines"], json!([]));
    // The next manager's pair is as it was.
    next.kv(Some(&id), &["set", "price", "250"]).well();
    machine.kv_lines(None, &["watch", "price"]).until_event("put price=250 by manager");
}

/// A machine that is sold takes nothing along; at a manager `--wipe` is refused with what to do.
#[test]
fn a_machine_that_is_released_and_wiped_has_no_keys() {
    let world = World::new();
    let (machine, manager) = world.pair();
    let id = machine.id.clone();
    machine.kv(None, &["set", "stock", "12"]).well();
    let refused = manager.run(&["release", &id, "--wipe"]).error();
    assert!(refused.contains("--wipe is for a machine"), "{refused}");
    let released = machine.run(&["release", "--wipe"]).only();
    assert_eq!(released, json!({"released": true, "manager": manager.id, "wiped": true}));
    assert_eq!(machine.kv(None, &["ls"]).well().objects(), Vec::<serde_json::Value>::new());
    let next = world.manager("next");
    kv::claim(&machine, &next);
    machine.kv(None, &["set", "new", "1"]).well();
    next.kv_lines(Some(&id), &["watch", "new"]).until_event("put new=1 by machine");
    assert!(next.kv(Some(&id), &["get", "stock"]).error().contains("has no value here"));
    next.run(&["release", &id]).well();
    until("the machine to know", || machine.status()["manager"]["link"] == "unclaimed");
    assert_eq!(machine.run(&["release", "--wipe"]).only(), json!({"released": false, "wiped": true}));
    assert!(machine.kv(None, &["get", "new"]).error().contains("has no value here"));
}

/// The manager gives the machine up: what it had is deleted, its streams end, and the machine, told when
/// it is back, goes on alone.
#[test]
fn released_by_the_manager_the_machine_goes_on_alone() {
    let world = World::new();
    let (machine, manager) = world.pair();
    let id = machine.id.clone();
    manager.kv(Some(&id), &["set", "price", "250"]).well();
    machine.kv_lines(None, &["watch", "price"]).until_event("put price=250 by manager");
    let mut stream = manager.kv_lines(Some(&id), &["subscribe"]);
    stream.until_event("caught_up");
    machine.stop();
    assert_eq!(manager.run(&["release", &id]).only(), json!({"released": true, "machine": id}));
    assert_eq!(stream.next_of("ended"), json!({"type": "ended", "reason": "released"}));
    assert_eq!(manager.status()["machines"], json!([]));
    assert!(manager.kv(Some(&id), &["get", "price"]).error().contains("not one of this manager's"));
    manager.stop();
    let (manager, machine) = (world.up("manager"), world.up("machine"));
    until("the machine to know", || machine.status()["manager"]["link"] == "unclaimed");
    assert_eq!(machine.kv(None, &["get", "price"]).only()["value"], "250");
    machine.kv(None, &["set", "price", "1"]).well();
    assert_eq!(manager.status()["machines"], json!([]));
    // They may become a pair again.
    kv::claim(&machine, &manager);
    manager.kv_lines(Some(&id), &["watch", "price"]).until_event("put price=1 by machine");
}

/// A machine takes claims only while a person has opened it; strangers who try keep nobody out and are named.
#[test]
fn a_machine_is_claimed_only_while_a_person_has_opened_it_and_strangers_keep_nobody_out() {
    let world = World::new();
    let (machine, manager, stranger) = (world.machine("machine"), world.manager("manager"), world.manager("stranger"));
    let closed = "the machine is not open for claims: run `groundswell claims` there, or press its button";
    assert_eq!(manager.run(&["claim", &machine.ticket, "--yes"]).error(), closed);
    assert_eq!(machine.status()["claims"]["in_vain"], json!([]), "it has cost nothing");
    // The person opens the machine, and a stranger who has the ticket claims it again and again in vain.
    let mut waiting = Talk::begin(&machine, &json!({"request": "claims"}));
    kv::until_open(&machine);
    for attempt in 0..10 {
        let mut claiming = Talk::begin(&stranger, &json!({"request": "claim", "ticket": machine.ticket}));
        let said = claiming.next();
        if attempt == 0 {
            assert_eq!(waiting.next()["pin"], said["pin"]);
        }
        claiming.leave();
        if attempt == 0 {
            // The person sees a PIN that the manager does not show, and says no.
            waiting.say("false");
            assert!(waiting.next()["error"].as_str().unwrap().contains("declined"));
            waiting = Talk::begin(&machine, &json!({"request": "claims"}));
            kv::until_open(&machine);
        }
    }
    let claims = machine.status()["claims"].clone();
    assert_eq!(claims["in_vain"][0]["manager"], *stranger.id, "{claims}");
    assert!(claims["attempts_left"].as_u64().unwrap() > 0, "{claims}");
    let found = machine.run(&["doctor"]).stdout;
    assert!(found.contains("claims in vain: ") && found.contains(&stranger.id[..8]), "{found}");
    waiting.leave();
    kv::claim(&machine, &manager);
    assert_eq!(machine.status()["manager"]["manager"], *manager.id);
    until("the machine to be closed", || machine.status()["claims"]["open"] == false);
}

/// A person says no to a stranger's claim, and goes on to the manager's. An answer to a claim that is over is none to the next.
#[test]
fn after_a_no_the_next_claim_is_waited_for_and_each_answer_is_to_its_own() {
    let world = World::new();
    let (machine, manager, stranger) = (world.machine("machine"), world.manager("manager"), world.manager("stranger"));
    let mut waiting = Talk::begin(&machine, &json!({"request": "claims", "next": true}));
    kv::until_open(&machine);
    let mut claiming = stranger.lines(&["claim", &machine.ticket, "--yes"]);
    let shown = waiting.next();
    assert_eq!((&shown["claim"], &shown["manager"]), (&json!(1), &json!(stranger.id)));
    waiting.say(r#"{"claim":1,"same":false}"#);
    let over = waiting.next();
    assert!(over["claim"] == 1 && over["no_pair"].as_str().unwrap().contains("declined here"), "{over}");
    failed(&mut claiming.child);
    assert_eq!(machine.status()["claims"]["attempts_left"], 19, "it is not opened again, so that attempts count");
    // The stranger ends its claim before anybody has answered it.
    let mut leaving = Talk::begin(&stranger, &json!({"request": "claim", "ticket": machine.ticket}));
    leaving.next();
    assert_eq!(waiting.next()["claim"], 2);
    leaving.leave();
    assert_eq!(waiting.next()["claim"], 2, "it is over");
    // The person's yes to that comes too late, once before and once after the next is shown.
    waiting.say(r#"{"claim":2,"same":true}"#);
    let mut claiming = stranger.lines(&["claim", &machine.ticket, "--yes"]);
    assert_eq!(waiting.next()["claim"], 3);
    waiting.say(r#"{"claim":2,"same":true}"#);
    waiting.say(r#"{"claim":3,"same":false}"#);
    let over = waiting.next();
    assert!(over["claim"] == 3 && over["no_pair"].as_str().unwrap().contains("declined here"), "{over}");
    failed(&mut claiming.child);
    let claiming = manager.lines(&["claim", &machine.ticket, "--yes"]);
    assert_eq!(waiting.next()["claim"], 4);
    waiting.say(r#"{"claim":4,"same":true}"#);
    assert_eq!(waiting.next(), json!({"claimed": true, "manager": manager.id}));
    drop(claiming);
    until("the machine to be closed", || machine.status()["claims"]["open"] == false);
}

/// A ticket with a one-time secret lets in who has it, and nobody else.
#[test]
fn a_ticket_with_a_secret_is_good_for_one_pair() {
    let world = World::new();
    let (machine, manager, stranger) = (world.machine("machine"), world.manager("manager"), world.manager("stranger"));
    let mut waiting = machine.lines(&["claims", "--ticket", "--yes"]);
    let ticket = waiting.next()["ticket"].as_str().unwrap().to_owned();
    assert!(ticket.starts_with(&machine.ticket), "{ticket}");
    let closed = stranger.run(&["claim", &machine.ticket, "--yes"]).error();
    assert!(closed.starts_with("the machine is not open for claims"), "{closed}");
    let mut wrong = ticket.clone();
    let last = if wrong.pop() == Some('0') { '1' } else { '0' };
    wrong.push(last);
    let refused = stranger.run(&["claim", &wrong, "--yes"]).error();
    assert!(refused.contains("the one-time secret of this ticket is used, expired or of another machine"), "{refused}");
    manager.run(&["claim", &ticket, "--yes"]).well();
    assert_eq!(waiting.next()["manager"], *manager.id);
    assert_eq!(waiting.next()["claimed"], true);
    machine.run(&["release"]).well();
    let used = manager.run(&["claim", &ticket, "--yes"]).error();
    assert!(used.contains("the one-time secret of this ticket is used"), "{used}");
}
