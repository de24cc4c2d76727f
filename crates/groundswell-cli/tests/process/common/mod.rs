//! What the tests of the tool share: real nodes, the tool itself, and waiting for conditions.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)] // each test binary uses some of it

pub mod browser;
pub mod kv;
pub mod net;

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// How long a test waits for something before it fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The library that shows a process another clock, where it is installed.
pub fn faketime() -> Option<PathBuf> {
    let places = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    let nested = places.map(|dir| dir.join("faketime/libfaketime.so.1"));
    nested.chain([Path::new("/usr/lib/faketime/libfaketime.so.1").to_owned()]).find(|file| file.exists())
}

/// The tool, with nothing from the environment that could change what it does.
pub fn tool() -> Command {
    let mut tool = Command::new(env!("CARGO_BIN_EXE_groundswell"));
    for name in ["GROUNDSWELL_DATA", "GROUNDSWELL_LOG", "RUST_LOG", "XDG_DATA_HOME"] {
        tool.env_remove(name);
    }
    tool
}

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    fn new(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// The lines of standard output, each one JSON object and nothing else.
    #[track_caller]
    pub fn objects(&self) -> Vec<Value> {
        self.stdout.lines().map(object).collect()
    }

    /// The one object of a command that did well.
    #[track_caller]
    pub fn only(&self) -> Value {
        self.well();
        let mut objects = self.objects();
        assert_eq!(objects.len(), 1, "one line: {self:?}");
        objects.remove(0)
    }

    #[track_caller]
    pub fn well(&self) -> &Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// The one line on standard error of a command that failed, and printed nothing that `--json` may not.
    #[track_caller]
    pub fn error(&self) -> String {
        assert_eq!(self.code, Some(1), "{self:?}");
        self.objects();
        let lines: Vec<&str> = self.stderr.lines().collect();
        assert_eq!(lines.len(), 1, "one line: {self:?}");
        object(lines[0])["error"].as_str().expect("an error").to_owned()
    }
}

#[track_caller]
fn object(line: &str) -> Value {
    let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
    assert!(value.is_object(), "{line:?}");
    value
}

/// Runs a command to its end, with this on its standard input.
#[track_caller]
pub fn run(mut command: Command, input: &[u8]) -> Ran {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the tool starts");
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A command that does not read its input is none the worse for it.
    let feeding = thread::spawn(move || drop(stdin.write_all(&input)));
    let id = child.id();
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    match ended.recv_timeout(PATIENCE) {
        Ok(output) => {
            feeding.join().unwrap();
            Ran::new(output.unwrap())
        }
        Err(_) => {
            signal("KILL", id);
            panic!("waited {PATIENCE:?} for {command:?}");
        }
    }
}

/// Sends a signal to a process that a test has started.
pub fn signal(name: &str, id: u32) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(id.to_string()).status().expect("kill runs");
    assert!(sent.success(), "SIG{name} to {id}");
}

/// Room for the data directories of some nodes.
pub struct World(TempDir);

impl World {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn dir(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Starts the node of this name.
    #[track_caller]
    pub fn up(&self, name: &str) -> Node {
        Node::up(&self.dir(name))
    }

    /// Starts the node of this name, with more arguments.
    #[track_caller]
    pub fn up_with(&self, name: &str, more: &[&str]) -> Node {
        Node::start(&self.dir(name), tool(), more)
    }
}

/// A node in a process of its own. It is killed when this is dropped.
pub struct Node {
    child: Child,
    pub dir: PathBuf,
    pub id: String,
    pub ticket: String,
    /// Where its HTTP interface is, if it has one.
    pub http: Option<String>,
}

impl Node {
    /// Starts a node on loopback and waits until it serves commands.
    #[track_caller]
    pub fn up(dir: &Path) -> Self {
        Self::up_as(dir, tool())
    }

    /// The same, by a command that becomes the tool.
    #[track_caller]
    pub fn up_as(dir: &Path, tool: Command) -> Self {
        Self::start(dir, tool, &[])
    }

    /// The same, with more arguments. It is on loopback unless they say where.
    #[track_caller]
    pub fn start(dir: &Path, mut tool: Command, more: &[&str]) -> Self {
        let log = File::options().create(true).append(true).open(dir.with_extension("log")).unwrap();
        let mut child = tool
            .arg("--data")
            .arg(dir)
            .args(["--json", "up", "--offline"])
            .args(if more.contains(&"--bind") { &[][..] } else { &["--bind", "127.0.0.1:0"] })
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the tool starts");
        let mut lines = Lines::of(child.stdout.take().unwrap());
        let Some(ready) = lines.next_within(PATIENCE) else {
            let said = std::fs::read_to_string(dir.with_extension("log")).unwrap_or_default();
            panic!("the node did not start ({:?}): {said}", child.wait());
        };
        assert_eq!(ready["ready"], true);
        let text = |field: &str| ready[field].as_str().expect("a text").to_owned();
        let http = ready["http"].as_str().map(str::to_owned);
        Self { child, dir: dir.to_owned(), id: text("id"), ticket: text("ticket"), http }
    }

    /// A command to this node, with `--json`.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = tool();
        command.arg("--data").arg(&self.dir).arg("--json").args(arguments);
        command
    }

    /// Runs a command with `--json`.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Ran {
        run(self.command(arguments), b"")
    }

    /// Runs a command with `--json`, and this on its standard input.
    #[track_caller]
    pub fn run_with(&self, arguments: &[&str], input: &[u8]) -> Ran {
        run(self.command(arguments), input)
    }

    /// Asks the node something as the tool does, without starting a process for it, and returns what it
    /// answers before the last line.
    #[track_caller]
    pub fn ask(&self, request: &Value) -> Vec<Value> {
        let mut socket = UnixStream::connect(self.dir.join("control.sock")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(format!("{request}\n").as_bytes()).unwrap();
        let mut answers = Vec::new();
        for line in BufReader::new(socket).lines() {
            let answer = object(&line.unwrap());
            assert!(answer.get("error").is_none(), "{answer}");
            if answer["done"] == true {
                return answers;
            }
            answers.push(answer);
        }
        panic!("no last line after {answers:?}");
    }

    /// What `status` says of the one path that is published, or followed, under this name.
    #[track_caller]
    pub fn status_of(&self, which: &str, path: &str) -> Value {
        let status = self.run(&["status"]).only();
        let all = status[which].as_array().unwrap();
        let mut found = all.iter().filter(|one| one["path"] == path);
        let one = found.next().unwrap_or_else(|| panic!("{path} in {status}")).clone();
        assert!(found.next().is_none(), "{status}");
        one
    }

    /// The one state on a path.
    #[track_caller]
    pub fn read(&self, path: &str) -> Value {
        self.run(&["read", path]).only()
    }

    /// The aeon of the one state on a path, where there is a state.
    pub fn aeon(&self, path: &str) -> Option<u64> {
        let ran = self.run(&["read", path]);
        if ran.code == Some(0) { ran.only()["aeon"].as_u64() } else { None }
    }

    /// The rock of the one state on a path, as the very bytes that `read` prints.
    #[track_caller]
    pub fn rock(&self, path: &str) -> String {
        #[derive(serde::Deserialize)]
        struct Rock<'a> {
            #[serde(borrow)]
            rock: &'a serde_json::value::RawValue,
        }
        let ran = self.run(&["read", path]);
        ran.well();
        let rock: Rock<'_> = serde_json::from_str(ran.stdout.trim_end()).unwrap();
        rock.rock.get().to_owned()
    }

    /// Follows a source of another node, or of this one.
    pub fn surf(&self, arguments: &[&str]) -> Surfing {
        let mut child = self
            .command(&["surf"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the tool starts");
        let lines = Lines::of(child.stdout.take().unwrap());
        Surfing { child, lines }
    }

    /// Pulls the plug: SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it has ended by itself, well.
    #[track_caller]
    pub fn ended(&mut self) {
        assert!(wait(&mut self.child).success());
    }

    /// Asks it to stop, and waits until it has.
    #[track_caller]
    pub fn stop(mut self) {
        signal("TERM", self.child.id());
        assert!(wait(&mut self.child).success());
    }

    pub fn process(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = std::fs::read_to_string(self.dir.with_extension("log")).unwrap_or_default();
            eprintln!("the log of {}:\n{log}", self.dir.display());
        }
    }
}

/// Waits for a process to end.
#[track_caller]
pub fn wait(child: &mut Child) -> ExitStatus {
    let mut status = None;
    until("a process to end", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}

/// Waits until a condition holds.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        // A poll for a condition: time is under test only as patience.
        thread::sleep(Duration::from_millis(5));
    }
}

/// The lines that a process prints, each one JSON object. They are read as they come, so that
/// the process never waits for the test.
pub struct Lines(Receiver<(Instant, Value)>);

impl Lines {
    pub fn of(from: impl Read + Send + 'static) -> Self {
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(from).lines() {
                // The process was killed, or the test is over.
                let Ok(line) = line else { return };
                if sender.send((Instant::now(), object(&line))).is_err() {
                    return;
                }
            }
        });
        Self(lines)
    }

    /// The next line; `None` at the end or when the time is over.
    pub fn next_within(&mut self, time: Duration) -> Option<Value> {
        self.0.recv_timeout(time).ok().map(|(_, line)| line)
    }

    /// The same, with the moment at which it came.
    pub fn next_at_within(&mut self, time: Duration) -> Option<(Instant, Value)> {
        self.0.recv_timeout(time).ok()
    }

    /// The next line if it comes in time; an error at the end.
    pub fn poll(&mut self, time: Duration) -> Result<Option<Value>, Ended> {
        match self.0.recv_timeout(time) {
            Ok((_, line)) => Ok(Some(line)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(Ended),
        }
    }
}

/// There are no more lines.
#[derive(Debug)]
pub struct Ended;

/// A `surf` in a process of its own. It is killed when this is dropped.
pub struct Surfing {
    pub child: Child,
    pub lines: Lines,
}

impl Surfing {
    #[track_caller]
    pub fn next(&mut self) -> Value {
        self.lines.next_within(PATIENCE).expect("another line")
    }

    /// The next line for which this holds, whatever comes before it.
    #[track_caller]
    pub fn until(&mut self, holds: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = self.next();
            if holds(&line) {
                return line;
            }
        }
    }

    /// The next line of this kind, whatever comes before it.
    #[track_caller]
    pub fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let line = self.next();
            if line["type"] == kind {
                return line;
            }
        }
    }

    /// The update with this aeon.
    #[track_caller]
    pub fn until_aeon(&mut self, aeon: u64) -> Value {
        loop {
            let line = self.next_of("update");
            if line["aeon"] == aeon {
                return line;
            }
        }
    }
}

impl Drop for Surfing {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A `give` that reads its standard input. It is killed when this is dropped.
pub struct Giving {
    pub child: Child,
    pub input: Option<ChildStdin>,
    pub acks: Lines,
}

impl Giving {
    pub fn start(node: &Node, path: &str, lake: &str) -> Self {
        let mut child = node
            .command(&["give", path, "-", "--lake", lake, "--acks"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the tool starts");
        let acks = Lines::of(child.stdout.take().unwrap());
        let input = child.stdin.take();
        Self { child, input, acks }
    }
}

impl Drop for Giving {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
