//! The tool and its nodes, as real processes over real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers outside of test functions

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::UnixStream,
    },
    path::Path,
    process::Stdio,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::common::{Giving, Node, World, run, signal, tool, until, wait};
use serde_json::{Value, json};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_is_wrong() {
    let wrong: [(&[&str], &str); 19] = [
        (&[], "Usage"),
        (&["sing"], "sing"),
        (&["give", "/a"], "WAVE"),
        (&["give", "/a", "x"], "--lake"),
        (&["give", "/a", "--lake", "log", "-hello"], "unexpected argument"),
        (&["give", "/a", "x", "--lake", "ocean"], "ocean"),
        (&["give", "a", "x", "--lake", "log"], "a path begins with '/'"),
        (&["give", "/a/*", "x", "--lake", "log"], "a pattern is not allowed here: name one path"),
        (&["kv", "watch", "key", "--cursor", "nonsense"], "or none to begin with what there is now"),
        (&["surf", "someone", "/a", "--lake", "log"], "neither a ticket nor a peer's id"),
        (&["give", "/a", "x", "--lake", "log", "--agent", "a/b"], "is not a name"),
        (&["demo", "--for", "0"], "0"),
        (&["rule", "/a", "--frequency", "0"], "`auto`, `never`, or a number"),
        (&["rule", "/a", "--horizon", "-1"], "-1"),
        (&["rule"], "PATH"),
        (&["allow", "/a"], "PEER"),
        (&["block", "/a", "ae58"], "\"ae58\" is too short for an id: give 6 of its characters at least"),
        (&["fork", "/a"], "TO"),
        (&["copy", "/a", "/b", "/c"], "neither a ticket nor a peer's id"),
    ];
    for (arguments, said) in wrong {
        let mut command = tool();
        command.args(arguments);
        let ran = run(command, b"");
        assert_eq!(ran.code, Some(2), "{arguments:?}: {ran:?}");
        assert!(ran.stderr.contains(said), "{arguments:?}: {}", ran.stderr);
        assert_eq!(ran.stdout, "");
    }
}

#[test]
fn without_a_node_a_command_says_how_to_start_one() {
    let world = World::new();
    fs::create_dir(world.dir("empty")).unwrap();
    let peer = "ae58ff8833241ac82d6ff7611046ed67b5072d142c588d0063e942d9a75502b6";
    for dir in ["empty", "missing"] {
        let dir = world.dir(dir);
        let commands: [&[&str]; 22] = [
            &["status"],
            &["read"],
            &["give", "/a", "x", "--lake", "log"],
            &["open", "/a", "--lake", "log"],
            &["surf", peer, "/a", "--lake", "log"],
            &["quit", peer, "/a"],
            &["public", "/a"],
            &["secret", "/a"],
            &["allow", "/a", peer],
            &["block", "/a", peer],
            &["rule", "/a"],
            &["wipe", "/a"],
            &["kill", "/a"],
            &["fork", "/a", "/b"],
            &["copy", peer, "/a", "/b"],
            &["claim", peer, "--yes"],
            &["claims", "--yes"],
            &["machines"],
            &["release"],
            &["kv", "ls"],
            &["kv", "set", "key", "value"],
            &["kv", "subscribe", "--all"],
        ];
        for arguments in commands {
            let mut command = tool();
            command.arg("--json").args(arguments).env("GROUNDSWELL_DATA", &dir);
            let dir = dir.display();
            let said = format!("no node runs in {dir}: start one with `groundswell up --data {dir}`");
            assert_eq!(run(command, b"").error(), said);
        }
    }
    // The socket of a process that died is as good as none, and is replaced.
    let mut node = world.up("died");
    node.kill();
    assert!(world.dir("died").join("control.sock").exists());
    assert!(node.run(&["status"]).error().starts_with("no node runs"));
    let again = world.up("died");
    assert_eq!(again.id, node.id);
    again.run(&["status"]).well();
    again.stop();
    assert!(!world.dir("died").join("control.sock").exists());
}

/// A machine is private and a manager is not, unless somebody says otherwise, which is remembered.
#[test]
fn a_role_is_private_or_not_until_somebody_says_otherwise() {
    let world = World::new();
    for (role, private) in [("machine", true), ("manager", false)] {
        let started = |more: &[&str]| {
            let node = world.up_with(role, more);
            let status = node.status();
            assert_eq!(status["role"], *role);
            node.stop();
            status["private"].as_bool().unwrap()
        };
        assert_eq!(started(&["--role", role]), private, "{role}");
        assert_eq!(started(&[]), private, "{role}");
        assert!(!started(&["--no-private"]));
        assert!(!started(&[]), "that is remembered");
    }
}

#[test]
fn a_data_directory_is_held_by_one_process_and_is_private() {
    let world = World::new();
    let node = world.up("a");
    let second = node.run(&["up", "--offline", "--bind", "127.0.0.1:0"]).error();
    assert!(second.contains(&format!("is in use by process {}", node.process())), "{second}");
    assert_eq!(mode(&node.dir), 0o700);
    for file in ["secret.key", "node.redb", "node.lock"] {
        assert_eq!(mode(&node.dir.join(file)), 0o600, "{file}");
    }
    let socket = node.dir.join("control.sock");
    assert_eq!(mode(&socket), 0o600);
    assert!(fs::metadata(&socket).unwrap().file_type().is_socket());
}

#[test]
fn a_data_directory_with_a_long_path_has_its_socket_too() {
    let world = World::new();
    let deep = world.dir(&"d".repeat(60)).join("e".repeat(60));
    fs::create_dir_all(deep.parent().unwrap()).unwrap();
    let node = Node::up(&deep);
    assert!(deep.join("control.sock").exists());
    assert_eq!(node.run(&["give", "/a", "x", "--lake", "log"]).only(), json!({"aeon": 1}));
    node.stop();
}

#[test]
fn without_a_name_the_data_directory_is_the_platforms() {
    let world = World::new();
    let mut command = tool();
    command.args(["--json", "status"]).env("XDG_DATA_HOME", world.dir("share"));
    assert!(run(command, b"").error().contains(&world.dir("share").join("groundswell").display().to_string()));
    let mut command = tool();
    command.args(["--json", "status"]).env_remove("HOME");
    assert!(run(command, b"").error().starts_with("no data directory"));
}

/// The last line that a node answers to these bytes.
fn answer(node: &Node, request: &[u8]) -> Value {
    let mut socket = UnixStream::connect(node.dir.join("control.sock")).unwrap();
    socket.set_read_timeout(Some(crate::common::PATIENCE)).unwrap();
    // A node that has heard enough may have closed already.
    let _ = socket.write_all(request);
    let last = BufReader::new(socket).lines().last().unwrap().unwrap();
    serde_json::from_str(&last).unwrap()
}

/// The most bytes of a request.
const MOST_OF_A_REQUEST: usize = 320 * 1024;

#[test]
fn a_request_that_is_none_is_refused() {
    let world = World::new();
    let node = world.up("a");
    let long = [vec![b' '; MOST_OF_A_REQUEST + 1], b"\n".to_vec()].concat();
    for request in [b"sing\n".as_slice(), b"{\"request\":\"sing\"}\n", b"\xff\n", &long] {
        let error = answer(&node, request)["error"].as_str().unwrap().to_owned();
        assert!(error.contains("does not know this request"), "{error}");
    }
    let longest = [vec![b' '; MOST_OF_A_REQUEST - 20], b"{\"request\":\"status\"}\n".to_vec()].concat();
    assert_eq!(answer(&node, &longest), json!({"done": true}));
    // Half a wave, from a command that was killed, is none.
    let half = b"{\"request\":\"give\",\"path\":\"/a\",\"lake\":\"sum\",\"agent\":\"main\"}\n\"1\"\n\"23";
    let mut socket = UnixStream::connect(node.dir.join("control.sock")).unwrap();
    socket.write_all(half).unwrap();
    drop(socket);
    until("the first wave", || node.aeon("/a") == Some(1));
    assert_eq!(node.run(&["give", "/a", "10", "--lake", "sum"]).only(), json!({"aeon": 2}));
    assert_eq!(node.rock("/a"), "11");
}

#[test]
fn as_many_commands_as_may_talk_to_a_node_and_no_more() {
    const MOST: usize = 256;
    let world = World::new();
    let node = world.up("a");
    let connect = || UnixStream::connect(node.dir.join("control.sock")).unwrap();
    let mut idle: Vec<UnixStream> = (0..MOST - 1).map(|_| connect()).collect();
    node.run(&["status"]).well();
    idle.push(connect());
    let refused = node.run(&["status"]).error();
    assert_eq!(refused, "256 commands talk to this node already: end some of them");
    idle.clear();
    until("a place to be free", || node.run(&["status"]).code == Some(0));
}

#[test]
fn each_command_prints_json_objects_only() {
    let world = World::new();
    let node = world.up("a");
    assert_eq!(node.run(&["open", "/log/a", "--lake", "log"]).only(), json!({"aeon": 0}));
    assert_eq!(node.run(&["give", "/log/a", "x", "y\nz", "--lake", "log"]).only(), json!({"aeon": 2}));
    assert_eq!(node.run(&["open", "/log/a", "--lake", "log"]).only(), json!({"aeon": 2}));
    assert_eq!(node.run(&["give", "/till", "-5", "--lake", "sum"]).only(), json!({"aeon": 1}));
    assert_eq!(node.run(&["give", "/till", "--lake", "sum", "--", "-5"]).only(), json!({"aeon": 2}));
    assert_eq!(node.run(&["give", "/other", "--agent", "b", "--lake", "sum", "7"]).only(), json!({"aeon": 1}));
    let states = node.run(&["read"]).well().objects();
    let state = |path: &str, agent: &str, lake: &str, aeon: u64, rock: Value| {
        json!({
            "path": path, "source": null, "agent": agent, "lake": lake, "aeon": aeon, "rock": rock,
            "stale": false, "fail": false, "access": "public"
        })
    };
    let log = state("/log/a", "main", "log", 2, json!(["x", "y\nz"]));
    let other = state("/other", "b", "sum", 1, json!(7));
    assert_eq!(states, [log.clone(), other, state("/till", "main", "sum", 2, json!(-10))]);
    assert_eq!(node.run(&["read", "/log/*"]).only(), log);
    assert!(node.run(&["read", "/nothing"]).error().contains("no state on /nothing"));
    assert_eq!(node.run(&["read", "--source", &node.id]).well().objects().len(), 3);
    let status = node.run(&["status"]).only();
    assert_eq!((&status["id"], &status["ticket"]), (&json!(node.id), &json!(node.ticket)));
    assert_eq!(status["publications"].as_array().unwrap().len(), 3);
    assert_eq!(status["metrics"]["waves_given"], 5);
    let quit = node.run(&["quit", &node.id, "/till"]).error();
    assert!(quit.contains("is not followed here"), "{quit}");
    // Without --json they speak to people, on the same streams.
    for arguments in [["status"].as_slice(), &["read"], &["give", "/till", "1", "--lake", "sum"]] {
        let mut command = tool();
        command.arg("--data").arg(&node.dir).args(arguments);
        let ran = run(command, b"");
        assert!(ran.well().stdout.contains("/till"), "{ran:?}");
        assert_eq!(ran.stderr, "");
    }
}

#[test]
fn a_refused_wave_is_named_and_those_before_it_are_given() {
    let world = World::new();
    let node = world.up("a");
    let refused = node.run(&["give", "/till", "5", "six", "7", "--lake", "sum"]).error();
    assert!(refused.starts_with("wave 2 was refused: \"six\"") && refused.ends_with("the one before it is given"));
    assert_eq!(node.read("/till")["rock"], 5);
    // The lake refuses this one: 5 + the largest number overflows.
    let most = i64::MAX.to_string();
    let input = format!("1\n2\n3\n{most}\n4\n");
    let refused = node.run_with(&["give", "/till", "-", "--lake", "sum"], input.as_bytes()).error();
    assert!(refused.starts_with("line 4 was refused: 11 + "), "{refused}");
    assert!(refused.ends_with("the 3 before it are given"), "{refused}");
    assert_eq!(node.read("/till")["rock"], 11);
    // A path that nothing was given to is free for another lake; one that is published is not.
    assert!(node.run(&["give", "/new", "x", "--lake", "sum"]).error().contains("nothing was given"));
    assert_eq!(node.run(&["give", "/new", "x", "--lake", "log"]).only(), json!({"aeon": 1}));
    let other = node.run(&["give", "/new", "1", "--lake", "sum"]).error();
    assert_eq!(other, "/new is a log on agent main: use --lake log, or another path");
    // Neither too long a line nor one that is no text takes those before it along.
    let mut input = b"a\nb\n".to_vec();
    input.extend(vec![b'x'; 1024 * 1024 + 1]);
    input.extend(b"\nc\n");
    let refused = node.run_with(&["give", "/new", "-", "--lake", "log"], &input).error();
    assert!(refused.contains("line 3 has more than 1048576 bytes; those before it are given"), "{refused}");
    assert_eq!(node.read("/new")["rock"], json!(["x", "a", "b"]));
    let refused = node.run_with(&["give", "/new", "-", "--lake", "log"], b"c\n\xff\n").error();
    assert!(refused.contains("line 2 is not UTF-8"), "{refused}");
    assert_eq!(node.read("/new")["aeon"], 4);
}

#[test]
fn a_wave_has_as_many_bytes_as_it_may_and_no_more() {
    let world = World::new();
    let node = world.up("a");
    // A mebibyte, of which the encoding's length takes three bytes. Escaped, each is six in JSON.
    let largest = vec![1_u8; 1024 * 1024 - 3];
    assert_eq!(node.run_with(&["give", "/a", "-", "--lake", "log"], &largest).only(), json!({"aeon": 1}));
    let input = [b"first\n", largest.as_slice(), b"x\nlast\n"].concat();
    let refused = node.run_with(&["give", "/a", "-", "--lake", "log"], &input).error();
    assert!(refused.starts_with("line 2 was refused: a wave of 1048577 bytes"), "{refused}");
    assert_eq!(node.read("/a")["aeon"], 2);
}

#[test]
fn acknowledgements_come_as_waves_are_durable() {
    let world = World::new();
    let node = world.up("a");
    let mut giving = Giving::start(&node, "/a", "log");
    for aeon in 1..=3 {
        writeln!(giving.input.as_mut().unwrap(), "line {aeon}").unwrap();
        let ack = giving.acks.next_within(crate::common::PATIENCE).unwrap();
        assert_eq!(ack, json!({"aeon": aeon}));
        assert_eq!(node.aeon("/a"), Some(aeon));
    }
    drop(giving.input.take());
    assert!(wait(&mut giving.child).success());
    // Nothing at all is the default state.
    assert_eq!(node.run_with(&["give", "/empty", "-", "--lake", "log"], b"").only(), json!({"aeon": 0}));
}

#[test]
fn a_licence_travels_line_by_line() {
    let world = World::new();
    let (publisher, follower) = (world.up("publisher"), world.up("follower"));
    let licence = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../LICENSE-APACHE")).unwrap();
    let lines: Vec<String> = String::from_utf8(licence.clone()).unwrap().lines().map(str::to_owned).collect();
    let given = publisher.run_with(&["give", "/log/licence", "-", "--lake", "log"], &licence).only();
    assert_eq!(given, json!({"aeon": lines.len()}));
    let mut surfing = follower.surf(&[&publisher.ticket, "/log/licence", "--lake", "log"]);
    let first = surfing.next_of("update");
    assert!(first["wave"].is_null() && first["live"] == false, "{first}");
    let caught_up = surfing.next_of("caught_up");
    assert_eq!((&caught_up["aeon"], &caught_up["rock"]), (&json!(lines.len()), &json!(lines)));
    assert_eq!(follower.rock("/log/licence"), publisher.rock("/log/licence"));
    let there = follower.read("/log/licence");
    assert_eq!((&there["source"], &there["stale"]), (&json!(publisher.id), &json!(false)));
    publisher.run(&["give", "/log/licence", "one more", "--lake", "log"]).well();
    let live = surfing.next_of("update");
    assert_eq!((&live["wave"], &live["live"], &live["stale"]), (&json!("one more"), &json!(true), &json!(false)));
    assert!(live.get("rock").is_none());
    assert_eq!(live["aeon"], lines.len() + 1);
    signal("INT", surfing.child.id());
    assert_eq!(surfing.next_of("ended")["reason"], "interrupted");
    assert!(wait(&mut surfing.child).success());
}

#[test]
fn a_sum_travels_and_its_rock_comes_with_each_update() {
    let world = World::new();
    let (publisher, follower) = (world.up("publisher"), world.up("follower"));
    publisher.run(&["give", "/till", "5", "-7", "--lake", "sum"]).well();
    let mut surfing = follower.surf(&[&publisher.ticket, "/till", "--lake", "sum", "--rock"]);
    surfing.next_of("caught_up");
    publisher.run(&["give", "/till", "10", "--lake", "sum"]).well();
    let live = surfing.until_aeon(3);
    assert_eq!((&live["wave"], &live["rock"], &live["live"]), (&json!(10), &json!(8), &json!(true)));
    assert_eq!(follower.rock("/till"), "8");
    assert_eq!(publisher.rock("/till"), "8");
    let bare = follower.run(&["surf", &publisher.id, "/till", "--lake", "sum", "--bare", "--count", "1"]).only();
    assert!(bare.get("rock").is_none() && bare["aeon"] == 3, "{bare}");
}

#[test]
fn a_json_document_is_built_by_patches() {
    let world = World::new();
    let (publisher, follower) = (world.up("publisher"), world.up("follower"));
    let menu = json!({
        "name": "Café Ébène", "open": true, "tables": 12,
        "drinks": [{"name": "tea", "price": 2.5, "tags": []}, {"name": "espresso", "price": 2.2, "tags": ["hot"]}],
        "hours": {"mon": null, "tue": [8, 18]}
    });
    let mut patches = vec![json!([{"op": "add", "path": "", "value": {}}])];
    for (key, value) in menu.as_object().unwrap() {
        patches.push(json!([{"op": "add", "path": format!("/{key}"), "value": value}]));
    }
    patches.push(json!([
        {"op": "test", "path": "/tables", "value": 12},
        {"op": "replace", "path": "/tables", "value": 14},
        {"op": "move", "from": "/drinks/0", "path": "/drinks/1"},
    ]));
    let good = patches.len();
    patches.push(json!([
        {"op": "replace", "path": "/open", "value": false},
        {"op": "test", "path": "/tables", "value": 12},
    ]));
    patches.push(json!([{"op": "remove", "path": "/name"}]));
    let input: String = patches.iter().map(|patch| format!("{patch}\n")).collect();
    let refused = publisher.run_with(&["give", "/menu", "-", "--lake", "json"], input.as_bytes()).error();
    assert!(refused.starts_with(&format!("line {} was refused: the patch does not apply", good + 1)), "{refused}");
    let mut wanted = menu;
    wanted["tables"] = json!(14);
    wanted["drinks"].as_array_mut().unwrap().swap(0, 1);
    let mut surfing = follower.surf(&[&publisher.ticket, "/menu", "--lake", "json"]);
    let caught_up = surfing.next_of("caught_up");
    assert_eq!((&caught_up["aeon"], &caught_up["rock"]), (&json!(good), &wanted));
    assert_eq!(follower.rock("/menu"), publisher.rock("/menu"));
    let patch = r#"[{"op":"add","path":"/drinks/-","value":{"name":"\"wasser\" \u00fc"}}]"#;
    publisher.run(&["give", "/menu", patch, "--lake", "json"]).well();
    let live = surfing.until_aeon(good as u64 + 1);
    assert_eq!(live["wave"], serde_json::from_str::<Value>(patch).unwrap());
    assert_eq!(follower.rock("/menu"), publisher.rock("/menu"));
}

#[test]
fn a_node_follows_itself() {
    let world = World::new();
    let node = world.up("a");
    let mut surfing = node.surf(&[&node.id, "/a", "--lake", "log"]);
    assert_eq!(surfing.next(), json!({"type": "not_available"}));
    node.run(&["give", "/a", "x", "--lake", "log"]).well();
    assert_eq!(surfing.next_of("update")["aeon"], 1);
    node.run(&["give", "/a", "y", "--lake", "log"]).well();
    assert_eq!(surfing.until_aeon(2)["wave"], "y");
    // Following it as another lake is refused before it could be in the way at the next start.
    let mut wrong = tool();
    wrong.arg("--data").arg(&node.dir).args(["--json", "surf", &node.id, "/a", "--lake", "sum"]);
    assert!(run(wrong, b"").error().contains("followed as a log"));
    node.run(&["give", "/b", "x", "--lake", "log"]).well();
    let other = node.run(&["surf", &node.id, "/b", "--lake", "sum"]).error();
    assert!(other.contains("the source is held here as lake log"), "{other}");
    assert_eq!(node.run(&["surf", &node.id, "/b", "--lake", "log", "--count", "1"]).objects()[0]["rock"], json!(["x"]));
    assert_eq!(node.run(&["read"]).objects().len(), 2, "what is followed of oneself is listed once");
    node.run(&["quit", &node.id, "/a"]).well();
    assert_eq!(surfing.next_of("ended")["reason"], "quit");
    assert_eq!(node.read("/a")["rock"], json!(["x", "y"]), "what one publishes stays");
}

#[test]
fn a_cursor_goes_on_where_it_was() {
    let world = World::new();
    let (publisher, follower) = (world.up("publisher"), world.up("follower"));
    publisher.run(&["give", "/a", "1", "2", "3", "--lake", "log"]).well();
    let mut surfing = follower.surf(&[&publisher.ticket, "/a", "--lake", "log"]);
    surfing.next_of("caught_up");
    publisher.run(&["give", "/a", "4", "--lake", "log"]).well();
    let cursor = surfing.until_aeon(4)["cursor"].as_str().unwrap().to_owned();
    drop(surfing);
    publisher.run(&["give", "/a", "5", "6", "--lake", "log"]).well();
    let from = ["surf", &publisher.id, "/a", "--lake", "log", "--count", "2", "--from", &cursor];
    let lines = follower.run(&from).well().objects();
    let waves: Vec<&Value> = lines.iter().filter(|line| line["type"] == "update").map(|line| &line["wave"]).collect();
    assert_eq!(waves, ["5", "6"]);
    let wrong = follower.command(&["surf", &publisher.id, "/a", "--lake", "log", "--from", "12"]);
    let ran = run(wrong, b"");
    assert!(ran.code == Some(2) && ran.stderr.contains("not a cursor"), "{ran:?}");
}

#[test]
fn the_order_in_which_programs_start_does_not_matter() {
    let world = World::new();
    // Whoever is known by a ticket may be away: its id and its port stay.
    let publisher = world.up("publisher");
    let (id, ticket) = (publisher.id.clone(), publisher.ticket.clone());
    publisher.stop();
    let follower = world.up("follower");
    let mut surfing = follower.surf(&[&ticket, "/late", "--lake", "log"]);
    assert_eq!(surfing.next(), json!({"type": "freshness", "state": "connecting"}));
    let publisher = world.up("publisher");
    assert_eq!(publisher.id, id);
    assert_eq!(surfing.next_of("not_available"), json!({"type": "not_available"}));
    publisher.run(&["give", "/late", "x", "--lake", "log"]).well();
    assert_eq!(surfing.next_of("caught_up")["rock"], json!(["x"]));
    // Who does not want to wait is told at once, of a path as of a peer.
    let impatient = follower.run(&["surf", &id, "/never", "--lake", "log", "--no-wait"]);
    assert!(impatient.error().contains("/never is not available"));
    assert_eq!(impatient.objects().last(), Some(&json!({"type": "not_available"})));
    // The publisher goes and comes back; the stream says so, and goes on.
    publisher.stop();
    let offline = loop {
        let line = surfing.next_of("freshness");
        if line["state"] == "offline" {
            break line;
        }
    };
    assert!(offline["since_ms"].as_u64().is_some(), "{offline}");
    assert_eq!(follower.read("/late")["stale"], true);
    let publisher = world.up("publisher");
    assert_eq!(surfing.next_of("caught_up")["rock"], json!(["x"]));
    publisher.run(&["give", "/late", "y", "--lake", "log"]).well();
    assert_eq!(surfing.until_aeon(2)["wave"], "y");
    // One that falls silent is away since then, however much later that is noticed.
    let killed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    drop(publisher);
    let offline = surfing.until(|line| line["state"] == "offline");
    let replica = follower.status()["replicas"][0].clone();
    for since in [&offline["since_ms"], &replica["offline_since_ms"], &replica["current_at_ms"]] {
        let after = u128::from(since.as_u64().unwrap()).abs_diff(killed);
        assert!(after < 6_000, "{after} ms from the end: {offline} {replica}");
    }
    follower.stop();
    assert_eq!(surfing.next_of("ended")["reason"], "shut_down");
    assert!(wait(&mut surfing.child).success());
}

#[test]
fn quitting_drops_the_replica_and_ends_the_streams() {
    let world = World::new();
    let (publisher, follower) = (world.up("publisher"), world.up("follower"));
    publisher.run(&["give", "/a", "x", "--lake", "log"]).well();
    let mut surfing = follower.surf(&[&publisher.ticket, "/a", "--lake", "log"]);
    surfing.next_of("caught_up");
    let other = follower.run(&["surf", &publisher.id, "/a", "--lake", "sum"]).error();
    assert!(other.starts_with("/a is followed as a log here"), "{other}");
    assert_eq!(follower.run(&["quit", &publisher.id, "/a"]).only(), json!({"quit": true}));
    assert_eq!(surfing.next_of("ended")["reason"], "quit");
    assert!(wait(&mut surfing.child).success());
    assert!(follower.run(&["read", "/a"]).error().contains("no state on /a"));
    assert_eq!(follower.run(&["status"]).only()["replicas"], json!([]));
    assert!(follower.run(&["quit", &publisher.id, "/a"]).error().contains("is not followed here"));
    // The path is free: for another lake, which that peer then refuses, and for the right one again.
    let mut wrong = follower.surf(&[&publisher.id, "/a", "--lake", "sum"]);
    let refused = loop {
        let line = wrong.next_of("freshness");
        if line["state"] == "refused" {
            break line;
        }
    };
    assert!(refused["detail"].as_str().unwrap().contains("log"), "{refused}");
    follower.run(&["quit", &publisher.id, "/a"]).well();
    let mut right = follower.surf(&[&publisher.id, "/a", "--lake", "log"]);
    assert_eq!(right.next_of("caught_up")["rock"], json!(["x"]));
}

/// The first update of a path that was not followed before may be its default state, so that `--count 1` could
/// print 0 for a sum that was not; `--once` ends with the state as it is.
#[test]
fn surfing_once_ends_with_the_state_as_it_is() {
    let world = World::new();
    let (publisher, follower) = (world.up("publisher"), world.up("follower"));
    for n in 0..5 {
        let path = format!("/till/{n}");
        publisher.run(&["give", &path, "5", "--lake", "sum"]).well();
        let ran = follower.run(&["surf", &publisher.ticket, &path, "--lake", "sum", "--once", "--no-wait"]);
        let last = ran.well().objects().pop().unwrap();
        assert_eq!((&last["type"], &last["aeon"], &last["rock"]), (&json!("caught_up"), &json!(1), &json!(5)));
    }
}

#[test]
fn a_subscription_goes_on_after_both_restart() {
    let world = World::new();
    let (publisher, follower) = (world.up("publisher"), world.up("follower"));
    for (path, lake, wave) in [("/log", "log", "x"), ("/till", "sum", "1"), ("/json", "json", "[]")] {
        publisher.run(&["give", path, wave, "--lake", lake]).well();
        let ran = follower.run(&["surf", &publisher.ticket, path, "--lake", lake, "--count", "1"]);
        assert!(!ran.well().objects().is_empty());
    }
    publisher.stop();
    follower.stop();
    let follower = world.up("follower");
    let publisher = world.up("publisher");
    // No command has to be given again, on either side.
    publisher.run(&["give", "/log", "y", "--lake", "log"]).well();
    publisher.run(&["give", "/till", "2", "--lake", "sum"]).well();
    until("the follower to have all", || follower.aeon("/log") == Some(2) && follower.aeon("/till") == Some(2));
    until("the follower to be current", || follower.run(&["read"]).objects().iter().all(|one| one["stale"] == false));
    for path in ["/log", "/till", "/json"] {
        assert_eq!(follower.rock(path), publisher.rock(path));
    }
}

#[test]
fn who_stops_reading_ends_a_command_quietly() {
    let world = World::new();
    let node = world.up("a");
    node.run(&["give", "/a", "1", "--lake", "log"]).well();
    let mut child = node
        .command(&["surf", &node.id, "/a", "--lake", "log"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It has nothing more to say, and notices all the same.
    let mut read = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    read.read_line(&mut first).unwrap();
    assert!(first.contains("\"update\""), "{first}");
    drop(read);
    wait(&mut child);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn who_is_slow_to_read_holds_up_no_one() {
    const LINES: u64 = 200;
    let world = World::new();
    let node = world.up("a");
    // Nothing of this is read: pipes, sockets and buffers fill, and then the stream waits.
    let mut slow = node
        .command(&["surf", &node.id, "/a", "--lake", "log", "--bare"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let line = "x".repeat(50_000);
    let input: String = (0..LINES).map(|_| format!("{line}\n")).collect();
    let given = node.run_with(&["give", "/a", "-", "--lake", "log"], input.as_bytes()).only();
    assert_eq!(given, json!({"aeon": LINES}));
    assert_eq!(node.aeon("/a"), Some(LINES));
    // It still ends when it is asked to, and the node does too.
    signal("TERM", slow.id());
    assert!(wait(&mut slow).success());
    node.stop();
}

#[test]
fn who_does_not_want_to_wait_leaves_no_trace() {
    let world = World::new();
    let (publisher, follower) = (world.up("publisher"), world.up("follower"));
    let follows = || follower.run(&["status"]).only()["replicas"].as_array().unwrap().len();
    let impatient = ["surf", &publisher.ticket, "/a", "--lake", "log", "--no-wait"];
    assert!(follower.run(&impatient).error().contains("/a is not available"));
    assert_eq!(follows(), 0, "it was not followed before, and is not afterwards");
    // One that waits keeps it, whoever asks beside it.
    let mut surfing = follower.surf(&impatient[1..5]);
    surfing.next_of("not_available");
    follower.run(&impatient).error();
    assert_eq!(follows(), 1);
    publisher.run(&["give", "/a", "x", "--lake", "log"]).well();
    surfing.next_of("caught_up");
    drop(surfing);
    let mut patient = impatient.to_vec();
    patient.extend(["--count", "1"]);
    follower.run(&patient).well();
    assert_eq!(follows(), 1, "what was got stays");
    // The same of a path that has ended: what was got stays, and is stale.
    publisher.run(&["kill", "/a"]).well();
    assert!(follower.run(&impatient).error().contains("/a has ended for this node"));
    assert_eq!(follower.read("/a")["stale"], true);
}

/// A path of another lake ends a command that is to end by itself, says which lake it is, and is in nobody's way afterwards.
#[test]
fn a_wrong_lake_ends_a_command_and_leaves_no_trace() {
    let world = World::new();
    let (publisher, follower) = (world.up("publisher"), world.up("follower"));
    publisher.run(&["open", "/menu", "--lake", "json"]).well();
    let surf = |node: &Node, lake: &str, more: &[&str]| {
        node.run(&[&["surf", &publisher.ticket, "/menu", "--lake", lake], more].concat())
    };
    for more in [&["--once", "--no-wait"][..], &["--once"], &["--no-wait"], &["--count", "1"]] {
        let ran = surf(&follower, "log", more);
        assert_eq!(ran.error(), "/menu is a json at that peer: use --lake json", "{more:?}");
        let last = ran.objects().pop().unwrap();
        assert_eq!((&last["state"], &last["lake"]), (&json!("refused"), &json!("json")));
    }
    assert_eq!(follower.status()["replicas"], json!([]));
    // A surf that waits gets the refusal too. Once interrupted, it leaves the path free for the right lake.
    let mut waiting = follower.surf(&[&publisher.id, "/menu", "--lake", "sum"]);
    waiting.until(|line| line["state"] == "refused");
    signal("INT", waiting.child.id());
    wait(&mut waiting.child);
    until("it not to be followed", || follower.status()["replicas"] == json!([]));
    surf(&follower, "json", &["--once"]).well();
    assert_eq!(follower.status()["replicas"].as_array().unwrap().len(), 1);
}

#[test]
fn a_peer_is_named_by_the_beginning_of_its_id() {
    let world = World::new();
    let (publisher, follower) = (world.up("publisher"), world.up("follower"));
    publisher.run(&["give", "/a", "x", "--lake", "log"]).well();
    let short = &publisher.id[..10];
    let unknown = follower.run(&["surf", short, "/a", "--lake", "log"]).error();
    assert_eq!(
        unknown,
        format!("no peer whose id begins with {short} is known here: `groundswell status` lists those that are")
    );
    follower.run(&["surf", &publisher.ticket, "/a", "--lake", "log", "--count", "1"]).well();
    // As the table for people shows it.
    let mut table = tool();
    table.arg("--data").arg(&follower.dir).arg("status");
    let table = run(table, b"").stdout;
    assert!(table.lines().any(|line| line.contains("/a") && line.contains(short)), "{table}");
    follower.run(&["surf", short, "/a", "--lake", "log", "--count", "1"]).well();
    assert_eq!(follower.run(&["read", "--source", short]).only()["source"], publisher.id.as_str());
    assert_eq!(follower.run(&["rule", "/a", "--source", short]).only()["frequency"], "auto");
    follower.run(&["quit", short, "/a"]).well();
    // Whoever is allowed is known too, in reach or not.
    let (one, other) = (&follower.id, "ae58ff8833241ac82d6ff7611046ed67b5072d142c588d0063e942d9a75502b6");
    publisher.run(&["secret", "/b"]).well();
    publisher.run(&["open", "/b", "--lake", "log"]).well();
    publisher.run(&["allow", "/b", one, other]).well();
    assert_eq!(publisher.run(&["block", "/b", &other[..6]]).only()["access"], json!([one]));
}

/// A lake that the tool has, and a program of another that handles it, badly.
struct Clumsy;

impl groundswell::OnRock<groundswell::lakes::Log> for Clumsy {
    async fn on_rock(
        &mut self,
        _: groundswell::Surfed<groundswell::lakes::Log>,
    ) -> Result<(), groundswell::HandlerError> {
        Err("no paper\nleft".into())
    }
}

/// "If it returns an error or panics, the state is flagged `fail` until the next update; the state stays
/// readable."
#[test]
fn a_state_that_a_program_failed_on_is_read_with_its_flag() {
    let world = World::new();
    let (publisher, dir) = (world.up("publisher"), world.dir("follower"));
    publisher.run(&["give", "/a", "x", "--lake", "log"]).well();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let bind = "127.0.0.1:0".parse().unwrap();
        let node = groundswell::Node::builder().data_dir(&dir).offline().bind(bind).spawn().await.unwrap();
        let peer = node.add_peer(&publisher.ticket.parse().unwrap()).await.unwrap();
        let agent = node.agent("main").unwrap();
        let logs = agent.subscriptions::<groundswell::lakes::Log>("/a").await.unwrap();
        let program = agent.program(Clumsy).handles(&logs).start();
        let source = groundswell::Source::new(peer, "main", "/a").unwrap();
        let mut updates = logs.surf(source.clone()).await.unwrap();
        let failed = || agent.followed()[&source].fail.is_some();
        let deadline = tokio::time::Instant::now() + crate::common::PATIENCE;
        while !failed() {
            // Looked at again at whatever happens next, and for a while after the last of it.
            let _ = tokio::time::timeout(std::time::Duration::from_millis(20), updates.next()).await;
            assert!(tokio::time::Instant::now() < deadline);
        }
        program.stop().await;
        node.shutdown().await.unwrap();
    });
    drop(runtime);
    let follower = world.up("follower");
    let state = follower.read("/a");
    assert_eq!((&state["fail"], &state["fail_reason"]), (&json!(true), &json!("no paper\nleft")));
    assert_eq!(state["rock"], json!(["x"]));
    assert_eq!(publisher.read("/a")["fail"], false);
}
