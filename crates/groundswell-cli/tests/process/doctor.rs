//! The doctor, with nodes that are well and nodes that are not.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers outside of test functions

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use crate::common::{Ran, World, run, tool};
use serde_json::Value;

fn doctor(dir: &Path) -> Ran {
    let mut doctor = tool();
    doctor.arg("--json").arg("doctor").arg("--data").arg(dir);
    run(doctor, b"")
}

/// What it says of one thing; each line has its fields, and the exit status says whether there is a problem.
#[track_caller]
fn found(ran: &Ran, check: &str) -> Vec<(String, String)> {
    let findings = ran.objects();
    let text = |finding: &Value, field: &str| finding[field].as_str().unwrap().to_owned();
    for finding in &findings {
        let well = finding["state"] == "ok";
        assert!(well || finding["todo"].as_str().is_some_and(|todo| !todo.is_empty()), "what to do: {finding}");
    }
    let problems = findings.iter().filter(|finding| finding["state"] == "problem").count();
    assert_eq!(ran.code, Some(i32::from(problems > 0)), "{ran:?}");
    if problems > 0 {
        assert!(ran.error().starts_with(&format!("{problems} problem")), "{ran:?}");
    }
    let of_it = findings.iter().filter(|finding| finding["check"] == check);
    of_it.map(|finding| (text(finding, "state"), text(finding, "said"))).collect()
}

#[track_caller]
fn state(ran: &Ran, check: &str) -> String {
    let found = found(ran, check);
    assert_eq!(found.len(), 1, "{check}: {found:?}");
    found[0].0.clone()
}

#[test]
fn a_node_that_is_well_has_no_problem() {
    let world = World::new();
    let (publisher, follower) = (world.up("publisher"), world.up("follower"));
    publisher.run(&["give", "/a", "x", "--lake", "log"]).well();
    follower.run(&["surf", &publisher.ticket, "/a", "--lake", "log", "--count", "1"]).well();
    let ran = doctor(&follower.dir);
    for check in ["clock", "disk", "storage", "node", "look-up", "peers", "limits", "paths"] {
        assert_eq!(state(&ran, check), "ok", "{check}: {ran:?}");
    }
    // It is bound to loopback, which may be meant so.
    assert_eq!(state(&ran, "addresses"), "warn");
    assert!(found(&ran, "addresses")[0].1.contains("127.0.0.1:"));
    assert!(found(&ran, "storage")[0].1.contains("0 published, 1 followed"));
    // For people, a line for each.
    let mut for_people = tool();
    for_people.arg("doctor").arg("--data").arg(&follower.dir);
    let said = run(for_people, b"");
    said.well();
    assert_eq!(said.stdout.lines().count(), ran.objects().len());
    assert!(said.stdout.lines().all(|line| line.starts_with("ok ") || line.starts_with("warn ")), "{said:?}");
    // Who is away is told, and since when.
    let id = publisher.id.clone();
    publisher.stop();
    crate::common::until("the doctor to notice", || {
        let peers = found(&doctor(&follower.dir), "peers");
        peers == [("warn".to_owned(), peers[0].1.clone())]
            && peers[0].1.starts_with(&id[..10])
            && peers[0].1.contains("out of reach for")
    });
}

#[test]
fn a_data_directory_without_a_node_is_looked_at_and_left_as_it_is() {
    let world = World::new();
    let missing = world.dir("missing");
    let ran = doctor(&missing);
    assert_eq!((state(&ran, "storage"), state(&ran, "node")), ("ok".to_owned(), "warn".to_owned()));
    assert!(found(&ran, "storage")[0].1.contains("nothing is stored"));
    assert!(!missing.exists(), "nothing is made by looking");
    let node = world.up("a");
    node.run(&["give", "/a", "x", "--lake", "log"]).well();
    node.run(&["give", "/b", "x", "--lake", "log"]).well();
    let id = node.id.clone();
    let rock = node.rock("/a");
    node.stop();
    let ran = doctor(&world.dir("a"));
    assert!(found(&ran, "storage")[0].1.contains("2 published, 0 followed"), "{ran:?}");
    assert!(found(&ran, "node")[0].1.contains(&id), "{ran:?}");
    let node = world.up("a");
    assert_eq!((&node.id, node.rock("/a")), (&id, rock));
}

#[test]
fn damage_is_a_problem_and_says_what_to_do() {
    let world = World::new();
    let node = world.up("a");
    node.run(&["give", "/a", "x", "--lake", "log"]).well();
    node.stop();
    let dir = world.dir("a");
    let key = dir.join("secret.key");
    fs::rename(&key, dir.join("kept")).unwrap();
    let ran = doctor(&dir);
    assert_eq!(state(&ran, "identity"), "problem");
    assert!(!key.exists(), "no key is made by looking");
    fs::write(&key, b"short").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(state(&doctor(&dir), "storage"), "problem");
    fs::rename(dir.join("kept"), &key).unwrap();
    assert_eq!(state(&doctor(&dir), "storage"), "ok");
    let storage = dir.join("node.redb");
    File::options().write(true).open(&storage).unwrap().set_len(5_000).unwrap();
    let ran = doctor(&dir);
    assert_eq!(state(&ran, "storage"), "problem");
    assert!(found(&ran, "storage")[0].1.contains("damaged"), "{ran:?}");
}

/// The files of a directory, but for the one that says who holds it.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
    let named = files.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()));
    named.filter(|(name, _)| name != "node.lock").collect()
}

/// Runs the doctor, which changes no file.
#[track_caller]
fn looked_at(dir: &Path) -> Ran {
    let before = files(dir);
    let ran = doctor(dir);
    assert!(files(dir) == before, "a file was changed: {ran:?}");
    ran
}

/// A start on loopback that is refused: why.
#[track_caller]
fn refused(dir: &Path) -> String {
    let mut up = tool();
    up.arg("--data").arg(dir).args(["--json", "up", "--offline", "--bind", "127.0.0.1:0"]);
    run(up, b"").error()
}

#[test]
fn what_a_start_refuses_is_a_problem_in_the_same_words() {
    let world = World::new();
    let (machine, manager) = world.pair();
    let (id, dir) = (machine.id.clone(), manager.dir.clone());
    manager.kv(Some(&id), &["set", "price", "2"]).well();
    manager.stop();
    let kept = world.dir("kept");
    let cut = |path: &Path| File::options().write(true).open(path).unwrap().set_len(5_000).unwrap();
    let gone = |path: &Path| fs::remove_file(path).unwrap();
    let short = |path: &Path| fs::write(path, b"short").unwrap();
    type Damage<'a> = (&'a str, &'a dyn Fn(&Path), &'a str);
    let damages: [Damage<'_>; 4] = [
        ("node.journal", &gone, "is missing, and may hold writes"),
        ("node.journal", &cut, "is damaged"),
        ("secret.key", &short, "is not a key file"),
        ("node.redb", &cut, "is damaged"),
    ];
    for (name, damage, says) in damages {
        let file = dir.join(name);
        fs::copy(&file, &kept).unwrap();
        damage(&file);
        let ran = looked_at(&dir);
        let [(state, said)] = &found(&ran, "storage")[..] else { panic!("{ran:?}") };
        assert_eq!(state, "problem", "{name}: {ran:?}");
        assert!(said.contains(says), "{name}: {said}");
        assert_eq!(*said, refused(&dir), "{name}");
        // Into the same file: another one in its place would be a restored copy.
        fs::write(&file, fs::read(&kept).unwrap()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(state_of_role(&looked_at(&dir)), ("ok".to_owned(), true), "{name} is back");
    }
    fs::rename(dir.join("node.redb"), &kept).unwrap();
    let said = found(&looked_at(&dir), "storage")[0].1.clone();
    assert!(said.contains("it is gone, and an earlier run had it"), "{said}");
    assert_eq!(said, refused(&dir));
    fs::rename(&kept, dir.join("node.redb")).unwrap();
    let manager = world.up("manager");
    assert_eq!(manager.kv(Some(&id), &["get", "price"]).only()["value"], "2");
}

/// How it stands with the role of a directory, and whether that is a manager's.
#[track_caller]
fn state_of_role(ran: &Ran) -> (String, bool) {
    let found = found(ran, "role");
    (found[0].0.clone(), found[0].1.starts_with("it is a manager's"))
}

/// What a crash has left is repaired by the next start, and not by looking.
#[test]
fn a_directory_after_a_crash_is_looked_at_and_not_changed() {
    let world = World::new();
    let mut node = world.machine("machine");
    node.run(&["give", "/a", "x", "--lake", "log"]).well();
    node.kv(None, &["set", "stock", "1"]).well();
    node.kill();
    let dir = world.dir("machine");
    let ran = looked_at(&dir);
    assert_eq!((state(&ran, "storage"), state(&ran, "role")), ("ok".to_owned(), "ok".to_owned()), "{ran:?}");
    let node = world.up("machine");
    assert_eq!(node.kv(None, &["get", "stock"]).only()["value"], "1");
    assert_eq!(node.aeon("/a"), Some(1));
}

/// A copy that was looked at is still a restored one to its next start.
#[test]
fn a_restored_copy_that_was_looked_at_is_one_at_its_start() {
    const RESTORED: &str = "the storage is a restored copy";
    let world = World::new();
    let node = world.up("original");
    node.run(&["give", "/a", "x", "--lake", "log"]).well();
    let original = node.dir.clone();
    node.stop();
    let copy = world.dir("copy");
    assert!(Command::new("cp").arg("-r").args([&original, &copy]).status().unwrap().success());
    let ran = looked_at(&copy);
    assert_eq!(state(&ran, "storage"), "ok");
    assert!(!ran.stderr.contains(RESTORED), "{ran:?}");
    world.up("copy").stop();
    let log = fs::read_to_string(copy.with_extension("log")).unwrap();
    assert_eq!(log.matches(RESTORED).count(), 1, "{log}");
}

#[test]
fn a_clock_that_was_set_back_is_told() {
    let world = World::new();
    let node = world.up("a");
    let ahead = SystemTime::now() + Duration::from_secs(7_200);
    File::options().write(true).open(node.dir.join("secret.key")).unwrap().set_modified(ahead).unwrap();
    let ran = doctor(&node.dir);
    assert_eq!(state(&ran, "clock"), "warn");
    assert!(found(&ran, "clock")[0].1.contains("set back"), "{ran:?}");
}

/// A lake that the tool does not have.
struct Guests;

impl groundswell::Lake for Guests {
    const NAME: &'static str = "guests";
    type Rock = Vec<String>;
    type Wave = String;
    type Error = Infallible;
    fn wash(rock: &mut Vec<String>, wave: &String) -> Result<(), Infallible> {
        rock.push(wave.clone());
        Ok(())
    }
}

/// One that has a lake's name and another version: nothing brings its state to the tool's.
struct NewerLog;

impl groundswell::Lake for NewerLog {
    const NAME: &'static str = "log";
    const VERSION: u32 = 9;
    type Rock = Vec<String>;
    type Wave = String;
    type Error = Infallible;
    fn wash(rock: &mut Vec<String>, wave: &String) -> Result<(), Infallible> {
        rock.push(wave.clone());
        Ok(())
    }
}

#[test]
fn paths_that_stand_still_are_told_and_a_program_that_holds_the_directory_is_no_problem() {
    let world = World::new();
    let dir = world.dir("a");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let bind = "127.0.0.1:0".parse().unwrap();
        let node = groundswell::Node::builder().data_dir(&dir).offline().bind(bind).spawn().await.unwrap();
        let agent = node.agent("main").unwrap();
        let guests = agent.publications::<Guests>("/guests").await.unwrap();
        guests.give("/guests", "ann".to_owned()).await.unwrap();
        let newer = agent.publications::<NewerLog>("/log").await.unwrap();
        newer.give("/log", "x".to_owned()).await.unwrap();
        // It takes no commands of the tool.
        let held = doctor(&dir);
        assert_eq!(state(&held, "node"), "warn");
        assert!(found(&held, "node")[0].1.contains("is in use by process"), "{held:?}");
        node.shutdown().await.unwrap();
    });
    drop(runtime);
    let at_rest = doctor(&dir);
    assert!(found(&at_rest, "paths")[0].1.contains("of lake guests, which this tool does not know"), "{at_rest:?}");
    let node = world.up("a");
    let mut paths = found(&doctor(&node.dir), "paths");
    paths.sort();
    assert_eq!(paths.iter().map(|(state, _)| state.as_str()).collect::<Vec<_>>(), ["problem", "warn"]);
    assert!(paths[0].1.starts_with("/log of agent main stands still: "), "{paths:?}");
    assert!(paths[1].1.starts_with("/guests of agent main is left as it is"), "{paths:?}");
}
