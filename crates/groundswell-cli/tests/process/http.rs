//! The HTTP interface that `up` serves, by real processes: who may read it, what it shares with the tool, and how it ends.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers outside of test functions

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    process::Command,
};

use crate::common::{Node, PATIENCE, World, kv::Talk, run, signal, tool, until};
use serde_json::{Value, json};

/// What a node answers: the head, and what comes after it.
struct Answer {
    head: String,
    body: String,
}

impl Answer {
    fn status(&self) -> u16 {
        self.head.split(' ').nth(1).expect("a status").parse().unwrap()
    }

    #[track_caller]
    fn json(&self) -> Value {
        assert!(self.status() < 300, "{} {}", self.head, self.body);
        serde_json::from_str(&self.body).unwrap()
    }
}

fn token(node: &Node) -> String {
    fs::read_to_string(node.dir.join("http-token")).unwrap().trim().to_owned()
}

fn host(node: &Node) -> &str {
    node.http.as_deref().expect("an interface").strip_prefix("http://").unwrap()
}

/// Sends a request, with these lines in its head, and leaves the connection to who reads it.
fn send(host: &str, method: &str, target: &str, lines: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    let request =
        format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n{lines}\r\n{body}");
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

fn ask(host: &str, method: &str, target: &str, lines: &str, body: &str) -> Answer {
    let mut text = String::new();
    let lines = format!("Connection: close\r\n{lines}");
    send(host, method, target, &lines, body).read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    Answer { head: head.to_owned(), body: body.to_owned() }
}

/// The same with the token.
fn call(node: &Node, method: &str, target: &str, body: &str) -> Answer {
    let lines = format!("Authorization: Bearer {}\r\n", token(node));
    ask(host(node), method, target, &lines, body)
}

fn get(node: &Node, target: &str) -> Value {
    call(node, "GET", target, "").json()
}

/// The events of a stream, in their order, up to its end.
struct Events(BufReader<TcpStream>);

impl Events {
    fn of(node: &Node, target: &str) -> Self {
        let lines = format!("Authorization: Bearer {}\r\n", token(node));
        Self(BufReader::new(send(host(node), "GET", target, &lines, "")))
    }

    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.0.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return Some(serde_json::from_str(data).unwrap());
            }
        }
    }

    #[track_caller]
    fn until(&mut self, kind: &str) -> Value {
        loop {
            let event = self.next().expect("another event");
            if event["type"] == kind {
                return event;
            }
        }
    }
}

#[test]
fn up_serves_the_interface_on_loopback_for_who_can_read_the_token() {
    let world = World::new();
    let (one, other) = (world.up("one"), world.up("other"));
    let address = one.http.clone().unwrap();
    assert!(address.starts_with("http://127.0.0.1:"), "{address}");
    assert_ne!(one.http, other.http, "two nodes have two ports");
    let mode = fs::metadata(one.dir.join("http-token")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for node in [&one, &other] {
        let seen = get(node, "/api/v1/node");
        assert_eq!((&seen["id"], &seen["role"]), (&json!(node.id), &json!("peer")));
    }
    assert_eq!(ask(host(&one), "GET", "/api/v1/node", "", "").status(), 401);
    let wrong = format!("Authorization: Bearer {}\r\n", token(&other));
    assert_eq!(ask(host(&one), "GET", "/api/v1/node", &wrong, "").status(), 401);
    let page = ask(host(&one), "GET", "/", "", "");
    assert!(page.status() == 200 && page.body.contains("<html"), "{}", page.head);
}

#[test]
fn without_http_nothing_is_served_and_other_computers_need_their_own_word() {
    let world = World::new();
    let node = world.up_with("silent", &["--no-http"]);
    assert_eq!(node.http, None);
    assert!(!node.dir.join("http-token").exists());
    let refused = node.run(&["open"]).error();
    assert!(refused.contains("serves no HTTP interface"), "{refused}");
    let up = |more: &[&str]| {
        let mut command = tool();
        command.arg("--data").arg(world.dir("open")).args(["--json", "up", "--offline", "--bind", "127.0.0.1:0"]);
        command.args(more);
        run(command, b"")
    };
    let refused = up(&["--http", "0.0.0.0:0"]).error();
    assert!(refused.contains("not an address of loopback") && refused.contains("--http-public"), "{refused}");
    let busy = world.up("busy");
    let refused = up(&["--http", host(&busy)]).error();
    assert!(refused.contains("cannot serve the HTTP interface") && refused.contains("--no-http"), "{refused}");
    let public = world.up_with("public", &["--http", "0.0.0.0:0", "--http-public", "kiosk.lan"]);
    let (_, port) = host(&public).rsplit_once(':').unwrap();
    let at = |name: &str| {
        let lines = format!("Authorization: Bearer {}\r\nConnection: close\r\n", token(&public));
        let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
            .write_all(format!("GET /api/v1/node HTTP/1.1\r\nHost: {name}:{port}\r\n{lines}\r\n").as_bytes())
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!((at("kiosk.lan").as_str(), at("elsewhere.lan").as_str()), ("200", "421"));
}

#[test]
fn the_tool_and_the_interface_share_what_is_published_and_followed() {
    let world = World::new();
    let (here, there) = (world.up("here"), world.up("there"));
    // Published by the tool, given to by HTTP, and the other way round; on the agent `main` and on another.
    here.run(&["give", "/tool", "5", "--lake", "sum"]).well();
    assert_eq!(call(&here, "POST", "/api/v1/publication/waves?path=/tool", r#"{"waves":[7]}"#).json()["aeon"], 2);
    let posted = call(&here, "POST", "/api/v1/publication/waves?path=/page&lake=log&agent=web", r#"{"waves":["a"]}"#);
    assert_eq!(posted.json()["aeon"], 1);
    here.run(&["give", "/page", "b", "--lake", "log", "--agent", "web"]).well();
    assert_eq!(here.read("/tool")["rock"], 12);
    let page = get(&here, "/api/v1/publication?path=/page&agent=web");
    assert_eq!((&page["aeon"], &page["rock"]), (&json!(2), &json!(["a", "b"])));
    let differs = call(&here, "POST", "/api/v1/publication/waves?path=/tool&lake=log", r#"{"waves":["x"]}"#);
    assert_eq!(differs.status(), 409, "{}", differs.body);
    // Followed by HTTP, read by the tool, on one declaration of the agent `main`.
    let target = format!("/api/v1/subscription?peer={}&path=/tool&lake=sum", here.ticket);
    assert!(call(&there, "PUT", &target, "").status() < 300);
    until("the replica", || there.aeon("/tool") == Some(2));
    let mut surfing = there.surf(&[&here.id, "/tool", "--lake", "sum", "--once"]);
    assert_eq!(surfing.next_of("caught_up")["rock"], 12);
    let mut events = Events::of(&there, &format!("/api/v1/subscription/events?peer={}&path=/tool", here.id));
    events.until("caught_up");
    here.run(&["give", "/tool", "1", "--lake", "sum"]).well();
    assert_eq!(events.until("update")["wave"], 1);
    // Looking at one's own path is no claim on its lake.
    let mut own = Events::of(&here, "/api/v1/publication/events?path=/tool");
    own.until("caught_up");
    call(&here, "DELETE", "/api/v1/publication?path=/tool", "").json();
    assert_eq!(here.aeon("/tool"), None);
    // The tool quits what the page follows.
    there.run(&["quit", &here.id, "/tool"]).well();
    assert_eq!(events.until("ended")["reason"], "quit");
}

#[test]
fn a_link_opens_the_dashboard_once() {
    let world = World::new();
    let node = world.up("node");
    let made = node.run(&["open"]).only();
    assert_eq!(made["http"], json!(node.http));
    let link = made["link"].as_str().unwrap();
    let target = link.strip_prefix(node.http.as_deref().unwrap()).expect("the node's own").to_owned();
    let opened = ask(host(&node), "GET", &target, "", "");
    assert_eq!(opened.status(), 303, "{}", opened.head);
    let cookie = opened.head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a cookie");
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let session = format!("Cookie: {}\r\n", cookie.split(';').next().unwrap());
    assert_eq!(ask(host(&node), "GET", "/api/v1/node", &session, "").json()["id"], json!(node.id));
    assert_eq!(ask(host(&node), "GET", &target, "", "").status(), 403, "it is used up");
    // Without a terminal no browser is opened, and the link is all that is printed.
    let mut command = tool();
    let ran = run(
        {
            command.arg("--data").arg(&node.dir).arg("open");
            command
        },
        b"",
    );
    let again = ran.well().stdout.trim_end().to_owned();
    assert!(again.starts_with(&format!("{}/open?code=", node.http.as_deref().unwrap())), "{again}");
    assert_ne!(again, link, "each link is a fresh one");
}

/// Whoever looks after a device finds in its log what was tried, and no secret with it.
#[test]
fn what_is_refused_is_logged_without_a_secret() {
    let world = World::new();
    let node = world.up("node");
    let (here, port) = (host(&node).to_owned(), host(&node).split(':').next_back().unwrap().to_owned());
    let known = format!("Authorization: Bearer {}\r\n", token(&node));
    let link = node.run(&["open"]).only()["link"].as_str().unwrap().to_owned();
    let code = link.split("code=").last().unwrap().to_owned();
    let large = "x".repeat(1 << 20);
    let access = "/api/v1/publication/access?path=/secret-path";
    // One line a second is logged of what strangers cause.
    let all = || fs::read_to_string(node.dir.with_extension("log")).unwrap();
    let foreign = format!("{known}Origin: http://evil:{port}\r\n");
    let refused = [
        ("no-token", "GET", "/api/v1/node?key=secret-key", ""),
        ("no-token", "DELETE", "/api/v1/publication", "Authorization: Bearer secret-guess\r\n"),
        ("foreign-origin", "GET", "/api/v1/machines", &foreign),
        ("bad-code", "GET", "/open?code=secret-code", ""),
    ];
    for (kind, method, path, headers) in refused {
        until("room in the log", || {
            let answer = ask(&here, method, path, headers, "");
            assert!(answer.status() > 400 && answer.body.contains(kind), "{kind}: {} {}", answer.head, answer.body);
            let of_it = |line: &str| line.contains(&format!("kind=\"{kind}\"")) && line.contains(method);
            all().lines().any(of_it)
        });
    }
    until("room in the log", || {
        let one = ask(&here, "GET", "/assets/..%2f..%2fetc/passwd", "", "");
        assert_eq!(one.status(), 404, "{}", one.head);
        all().contains("/assets/..%2f..%2fetc/passwd")
    });
    until("room in the log", || {
        let one = ask(&here, "POST", access, &format!("{known}Content-Type: application/json\r\n"), &large);
        assert_eq!(one.status(), 413, "{}", one.head);
        all().contains("too-large")
    });
    until("room in the log", || {
        let mut answered = String::new();
        let mut stream = TcpStream::connect(&here).unwrap();
        write!(stream, "GET / HTTP/1.1\r\nHost: evil:{port}\r\nConnection: close\r\n\r\n").unwrap();
        stream.read_to_string(&mut answered).unwrap();
        assert!(answered.starts_with("HTTP/1.1 421"), "{answered}");
        all().contains("foreign-host")
    });
    assert_eq!(ask(&here, "GET", &format!("/open?code={code}"), "", "").status(), 303);
    let log = all();
    for line in log.lines().filter(|line| line.contains("is refused")) {
        assert!(line.contains("WARN") && line.contains("refused="), "{line}");
    }
    let token = token(&node);
    for secret in ["secret-", code.as_str(), token.as_str()] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
    assert!(get(&node, "/api/v1/node")["http"]["refused"].as_u64().unwrap() >= 7);
}

#[test]
fn a_claim_is_answered_on_the_dashboard_or_by_the_tool_whoever_is_first() {
    let world = World::new();
    let (machine, manager) = (world.machine("machine"), world.manager("manager"));
    // The tool waits, and the page says yes.
    let mut waiting = Talk::begin(&machine, &json!({"request": "claims"}));
    crate::common::kv::until_open(&machine);
    let mut claiming = manager.lines(&["claim", &machine.ticket, "--yes"]);
    let shown = waiting.next();
    let claims = get(&machine, "/api/v1/claims");
    let asked = &claims["claims"][0];
    assert_eq!((&asked["pin"], &asked["manager"]), (&shown["pin"], &json!(manager.id)), "{claims}");
    assert_eq!(call(&machine, "POST", "/api/v1/claims/1/answer", r#"{"same":true}"#).json()["state"], "claimed");
    assert_eq!(waiting.next(), json!({"claimed": true, "manager": manager.id}));
    assert_eq!(claiming.next()["pin"], shown["pin"]);
    assert_eq!(claiming.next()["claimed"], true);
    // The tool says yes, and the page sees it.
    machine.run(&["release"]).well();
    crate::common::kv::claim(&machine, &manager);
    assert_eq!(get(&machine, "/api/v1/claims")["claims"][1]["state"], "claimed");
}

#[test]
fn a_node_that_stops_ends_its_streams_and_comes_back_at_the_same_address() {
    let world = World::new();
    let mut node = world.machine("machine");
    let mut events = Events::of(&node, "/api/v1/machines/self/events");
    events.until("caught_up");
    assert!(call(&node, "PUT", "/api/v1/machines/self/entry?key=a", "1").status() < 300);
    assert_eq!(events.until("put")["value"], "1");
    signal("TERM", node.process());
    assert_eq!(events.until("ended")["reason"], "shut_down");
    assert!(events.next().is_none(), "nothing comes after the end");
    node.ended();
    let address = node.http.clone().unwrap();
    assert!(TcpStream::connect(host(&node)).is_err(), "the port is free");
    let mut node = world.up("machine");
    assert_eq!(node.http, Some(address), "a page finds it again");
    assert_eq!(node.kv(None, &["get", "a"]).only()["value"], "1");
    // Also after an end without a word.
    node.kill();
    let before = node.http.clone();
    assert_eq!(world.up("machine").http, before);
}

#[test]
fn curl_reads_the_node() {
    if Command::new("curl").arg("--version").output().is_err() {
        println!("skipped: there is no curl on this device");
        return;
    }
    let world = World::new();
    let node = world.up("node");
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--fail-with-body", "-H"]).arg(format!("Authorization: Bearer {}", token(&node)));
    curl.arg(format!("{}/api/v1/node", node.http.as_deref().unwrap()));
    assert_eq!(run(curl, b"").only()["id"], json!(node.id));
}
