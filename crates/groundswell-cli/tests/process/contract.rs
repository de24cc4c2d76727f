//! The HTTP interface is as its description says: schemathesis reads the description that a node serves, and asks a machine
//! and its manager for what it allows and for what it does not, with every check that it has.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers outside of test functions

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::json;

use crate::common::{Node, World, kv::online};

/// Where `cargo xtask tools` installs it.
fn schemathesis() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let program = root.join("target/tools/schemathesis/bin/schemathesis");
    let runs = Command::new(&program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !runs.is_ok_and(|status| status.success()) {
        println!("SKIPPED: schemathesis is not installed: `cargo xtask tools` does it, with Python 3.10 or later");
        return None;
    }
    Some(program)
}

/// A deletion that is repeated with its id has no effect again, so that the tool takes what was put in between for undeletable.
/// Each of its deletions has an id of its own.
const HOOKS: &str = r#"
import uuid
import schemathesis

@schemathesis.hook
def before_call(context, case, kwargs):
    headers = case.headers or {}
    if case.method.upper() == "DELETE" and 0 < len(headers.get("Idempotency-Key", "")) <= 128:
        case.headers["Idempotency-Key"] = str(uuid.uuid4())
"#;

/// One run against a node; which operations are asked, is in `which`.
fn ask(program: &Path, world: &World, node: &Node, which: &[&str], examples: u32, seed: u64) -> Result<String, String> {
    let token = fs::read_to_string(node.dir.join("http-token")).unwrap();
    let http = node.http.as_deref().expect("an interface");
    // The tool keeps what it found in its directory, and reads its configuration there.
    let place = world.dir(&format!("schemathesis-{}{}", node.id, which[0]));
    fs::create_dir_all(&place).unwrap();
    // Streams do not end: of each, two events are read and checked.
    // A request whose head is too large is refused before anybody looks what is wrong with it.
    let expected = [400, 401, 403, 404, 405, 406, 409, 415, 422, 428, 429, 431].map(|status| format!("\"{status}\""));
    let rejected = format!("[checks.negative_data_rejection]\nexpected-statuses = [{}]\n", expected.join(", "));
    fs::write(place.join("schemathesis.toml"), format!("max-stream-events = 2\n{rejected}")).unwrap();
    fs::write(place.join("hooks.py"), HOOKS).unwrap();
    let mut command = Command::new(program);
    command.env("SCHEMATHESIS_HOOKS", "hooks");
    command.current_dir(&place).args(["run", "--checks", "all", "--continue-on-failure", "--request-timeout", "20"]);
    command.args(["--max-examples", &examples.to_string(), "--seed", &seed.to_string(), "--no-color"]);
    command.args(["--header", &format!("Authorization: Bearer {}", token.trim())]).args(which);
    let ran = command.arg(format!("{http}/api/v1/openapi.json")).stdin(Stdio::null()).output().unwrap();
    let said = format!("{}\n{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    let sum = said.lines().rev().find(|line| line.contains("generated")).unwrap_or_default().trim().to_owned();
    if ran.status.success() { Ok(sum) } else { Err(said) }
}

/// Asks a machine and a manager at once, and only then for the end of their pairings. They are of two pairs: what one of them
/// writes under a key is not to surprise the other's questions.
fn keeps_to_its_description(examples: u32, seed: u64) {
    let Some(program) = schemathesis() else { return };
    println!("seed {seed}, {examples} examples of each operation");
    let [world, other] = [World::new(), World::new()];
    let ((machine, its_manager), (its_machine, manager)) = (world.pair(), other.pair());
    online(&machine, &its_manager);
    online(&its_machine, &manager);
    for node in [&machine, &manager] {
        node.run(&["give", "/sales/today", "250", "--lake", "sum"]).well();
        node.run(&["give", "/notes", "a note", "--lake", "log"]).well();
        let patch = json!([{ "op": "add", "path": "", "value": { "price": 250 } }]).to_string();
        node.run(&["give", "/prices", &patch, "--lake", "json"]).well();
    }
    // An operation alone leads to no other.
    let alone = ["--include-operation-id", "releaseMachine", "--phases", "examples,coverage,fuzzing"];
    for which in [&["--exclude-operation-id", "releaseMachine"], &alone[..]] {
        let ask = |node| ask(&program, &world, node, which, examples, seed);
        let [of_machine, of_manager] = std::thread::scope(|scope| {
            let asked = [&machine, &manager].map(|node| scope.spawn(move || ask(node)));
            asked.map(|asked| asked.join().unwrap())
        });
        for (name, found) in [("machine", of_machine), ("manager", of_manager)] {
            println!("{name}, {which:?}: {}", found.unwrap_or_else(|found| panic!("at the {name}:\n{found}")));
        }
    }
}

#[test]
fn the_interface_is_as_its_description_says() {
    keeps_to_its_description(4, 13);
}

/// With `GROUNDSWELL_SEED` for another run.
#[test]
#[ignore = "a quarter of an hour"]
fn the_interface_is_as_its_description_says_at_length() {
    let seed = std::env::var("GROUNDSWELL_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    keeps_to_its_description(100, seed);
}
