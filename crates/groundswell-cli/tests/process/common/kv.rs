//! What the tests of the key-value store share: pairs of nodes, claims, and streams of events, all
//! by the tool.

use std::{
    io::{BufRead, BufReader, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    process::Stdio,
};

use serde_json::Value;

use super::{Lines, Node, PATIENCE, Ran, Surfing, World, object, run, until};

impl World {
    /// Starts a machine's node of this name.
    #[track_caller]
    pub fn machine(&self, name: &str) -> Node {
        self.up_with(name, &["--role", "machine"])
    }

    /// Starts a manager's node of this name.
    #[track_caller]
    pub fn manager(&self, name: &str) -> Node {
        self.up_with(name, &["--role", "manager"])
    }

    /// Starts both, and pairs them.
    #[track_caller]
    pub fn pair(&self) -> (Node, Node) {
        let (machine, manager) = (self.machine("machine"), self.manager("manager"));
        claim(&machine, &manager);
        (machine, manager)
    }
}

/// Waits for a claim at a machine, and says yes. The machine is open for claims when this returns.
#[track_caller]
pub fn claims(machine: &Node) -> Surfing {
    let waiting = machine.lines(&["claims", "--yes"]);
    until_open(machine);
    waiting
}

/// Waits until a machine takes claims.
#[track_caller]
pub fn until_open(machine: &Node) {
    until("the machine to take claims", || machine.status()["claims"]["open"] == true);
}

/// Claims a machine, with a yes on both sides; returns the PIN, which both have shown.
#[track_caller]
pub fn claim(machine: &Node, manager: &Node) -> String {
    let mut waiting = claims(machine);
    let ran = manager.run(&["claim", &machine.ticket, "--yes"]);
    ran.well();
    let [shown, claimed] = &ran.objects()[..] else { panic!("two lines: {ran:?}") };
    assert_eq!((&claimed["claimed"], &claimed["machine"]), (&true.into(), &machine.id.clone().into()));
    let there = waiting.next();
    assert_eq!(there["pin"], shown["pin"], "both show the same");
    let claimed = waiting.next();
    assert_eq!((&claimed["claimed"], &claimed["manager"]), (&true.into(), &manager.id.clone().into()));
    assert!(super::wait(&mut waiting.child).success());
    shown["pin"].as_str().expect("a PIN").to_owned()
}

/// Waits until both are connected and current.
#[track_caller]
pub fn online(machine: &Node, manager: &Node) {
    until("the machine to be online", || {
        let pair = machine.status()["manager"].clone();
        pair["link"] == "online" && pair["current"] == true
    });
    until("the manager to be online", || online_at(manager, &machine.id));
}

/// Whether a manager is connected to a machine and has all that it has.
pub fn online_at(manager: &Node, machine: &str) -> bool {
    let pair = manager.machine_status(machine);
    pair["link"] == "online" && pair["current"] == true
}

impl Node {
    /// A command that prints lines as they come, in a process of its own.
    #[track_caller]
    pub fn lines(&self, arguments: &[&str]) -> Surfing {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the tool starts");
        let lines = Lines::of(child.stdout.take().expect("it is piped"));
        Surfing { child, lines }
    }

    /// What `status` says.
    #[track_caller]
    pub fn status(&self) -> Value {
        self.run(&["status"]).only()
    }

    /// What a manager's `status` says of a machine.
    #[track_caller]
    pub fn machine_status(&self, machine: &str) -> Value {
        let status = self.status();
        let machines = status["machines"].as_array().expect("a manager has machines");
        machines.iter().find(|one| one["machine"] == machine).cloned().unwrap_or(Value::Null)
    }

    /// A `kv` command of a machine, or with an id of that machine at its manager.
    #[track_caller]
    pub fn kv(&self, machine: Option<&str>, arguments: &[&str]) -> Ran {
        run(self.kv_command(machine, arguments), b"")
    }

    pub fn kv_command(&self, machine: Option<&str>, arguments: &[&str]) -> std::process::Command {
        let mut command = self.command(&["kv"]);
        command.args(arguments);
        if let Some(id) = machine {
            command.args(["--machine", id]);
        }
        command
    }

    /// A stream of a `kv` command, in a process of its own.
    #[track_caller]
    pub fn kv_lines(&self, machine: Option<&str>, arguments: &[&str]) -> Surfing {
        let all: Vec<&str> = ["kv"].into_iter().chain(arguments.iter().copied()).collect();
        let machine = machine.map_or(Vec::new(), |id| vec!["--machine", id]);
        self.lines(&[all, machine].concat())
    }
}

impl Surfing {
    /// The next event in a few words: `put a=b by machine`, `delete a by manager`, `caught_up`, `reset`. One
    /// that is live has a `!` before it.
    #[track_caller]
    pub fn event(&mut self) -> String {
        words(&self.next())
    }

    /// The next line for which this holds, in words.
    #[track_caller]
    pub fn until_event(&mut self, wanted: &str) -> Value {
        self.until(|line| words(line).trim_start_matches('!') == wanted)
    }
}

/// An event in a few words.
pub fn words(line: &Value) -> String {
    let text = |field: &str| line[field].as_str().unwrap_or_default();
    let live = if line["live"] == true { "!" } else { "" };
    let key = || format!("{}{}", text("key"), text("key_hex"));
    match text("type") {
        "put" => format!("{live}put {}={}{} by {}", key(), text("value"), text("value_hex"), text("author")),
        "delete" => format!("{live}delete {} by {}", key(), text("author")),
        other => other.to_owned(),
    }
}

/// A command's conversation with a node, as the tool has it, step by step: who answers a claim here
/// can think about it, say no, and go away.
pub struct Talk {
    socket: UnixStream,
    lines: BufReader<UnixStream>,
}

impl Talk {
    #[track_caller]
    pub fn begin(node: &Node, request: &Value) -> Self {
        let socket = UnixStream::connect(node.dir.join("control.sock")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut talk = Self { lines: BufReader::new(socket.try_clone().unwrap()), socket };
        talk.say(&request.to_string());
        talk
    }

    pub fn say(&mut self, line: &str) {
        // A node that has closed the connection has said why, which is read next.
        let _ = self.socket.write_all(format!("{line}\n").as_bytes());
    }

    #[track_caller]
    pub fn next(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        object(&line)
    }

    /// Goes away.
    pub fn leave(self) {
        self.socket.shutdown(Shutdown::Both).unwrap();
    }
}
