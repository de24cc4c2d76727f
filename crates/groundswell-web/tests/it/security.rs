//! Who is let in, and what becomes of everybody else: refused, counted, and the node is as before.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use groundswell::Node;
use groundswell_web::{App, Config, OPENAPI, ServeError, Subject, limits};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::common::{Client, machine, node, until, within};

const NODE: &str = "/api/v1/node";

#[tokio::test(flavor = "multi_thread")]
async fn every_address_wants_the_token_and_is_there_with_it() {
    let machine = machine().await;
    let stranger = machine.http.stranger();
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let method = method.to_uppercase();
            let concrete = path.replace("{machine}", "self").replace("{claim}", "1").replace("{file}", "app.js");
            let refused = stranger.send(&method, &concrete, &[], "").await;
            if operation.get("security").is_some() {
                assert_ne!(refused.status, 401, "{method} {path}");
                continue;
            }
            refused.problem(401, "no-token");
            assert_eq!(refused.header("www-authenticate"), "Bearer");
            // With it, it is there: what it says of an empty request is its own.
            if path.ends_with("{machine}/events") {
                machine.http.events(&concrete).await.expect("hello").await;
                continue;
            }
            let reply = machine.http.send(&method, &concrete, &[], "").await;
            let kind = reply.status.is_client_error().then(|| reply.json()["type"].clone());
            let strange =
                [json!("urn:groundswell:problem:not-found"), json!("urn:groundswell:problem:method-not-allowed")];
            assert!(kind.is_none_or(|kind| !strange.contains(&kind)), "{method} {path}: {}", reply.text());
        }
    }
    machine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_no_token() {
    let node = node().await;
    let token = node.app.token().to_owned();
    let stranger = node.http.stranger();
    let (longer, shorter) = (format!("{token}x"), &token[1..]);
    let other = token.to_uppercase();
    for wrong in ["", "x", &longer, shorter, &other] {
        let wrong = format!("Bearer {wrong}");
        stranger.send("GET", NODE, &[("authorization", &wrong)], "").await.problem(401, "no-token");
    }
    for wrong in [token.clone(), format!("Basic {token}"), format!("Bearer  {token}"), format!("Bearer{token}")] {
        stranger.send("GET", NODE, &[("authorization", &wrong)], "").await.problem(401, "no-token");
    }
    stranger.get(&format!("{NODE}?token={token}")).await.problem(401, "no-token");
    let lower = format!("bearer {token}");
    stranger.send("GET", NODE, &[("authorization", &lower)], "").await.well();
    let refused = node.http.get(NODE).await.well()["http"]["refused"].as_u64().unwrap();
    assert_eq!(refused, 10, "they are counted");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_host_is_refused_even_with_the_token() {
    let node = node().await;
    for foreign in ["example.org", "example.org:80", "127.0.0.1.example.org", "192.168.1.7:80", "[::2]:80", "a b"] {
        node.http.send("GET", NODE, &[("host", foreign)], "").await.problem(421, "foreign-host");
        node.http.stranger().send("GET", "/", &[("host", foreign)], "").await.problem(421, "foreign-host");
    }
    for own in ["localhost:1", "localhost", "127.0.0.1", "[::1]:8080"] {
        node.http.send("GET", NODE, &[("host", own)], "").await.well();
    }
    let token = node.app.token();
    for none in [
        format!("GET {NODE} HTTP/1.1\r\nAuthorization: Bearer {token}\r\n\r\n"),
        format!("GET {NODE} HTTP/1.1\r\nHost: localhost\r\nHost: example.org\r\nAuthorization: Bearer {token}\r\n\r\n"),
    ] {
        let answer = raw(&node.http, &none).await;
        assert!(answer.starts_with("HTTP/1.1 421") || answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_origin_is_refused_even_with_the_token() {
    let node = node().await;
    let host = node.http.addr.to_string();
    let own = format!("http://{host}");
    for foreign in
        ["http://example.org", "null", "https://localhost", "http://127.0.0.1:1", &format!("{own}.example.org")]
    {
        for method in ["GET", "POST", "OPTIONS"] {
            node.http.send(method, NODE, &[("origin", foreign)], "").await.problem(403, "foreign-origin");
        }
    }
    for site in ["cross-site", "same-site"] {
        node.http.send("GET", NODE, &[("sec-fetch-site", site)], "").await.problem(403, "foreign-origin");
    }
    let reply = node.http.send("GET", NODE, &[("origin", &own), ("sec-fetch-site", "same-origin")], "").await;
    reply.well();
    assert!(reply.headers.get("access-control-allow-origin").is_none(), "nobody else is let in");
    // Who follows a link to the page may come from anywhere.
    let navigates = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
    assert_eq!(node.http.stranger().send("GET", "/", &navigates, "").await.status, 200);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_opens_a_session_once() {
    let node = node().await;
    let stranger = node.http.stranger();
    let link = node.server.open_link();
    let path = link.strip_prefix(&format!("http://{}", node.http.addr)).unwrap();
    stranger.send("GET", path, &[("sec-purpose", "prefetch")], "").await.problem(403, "bad-code");
    let opened = stranger.get(path).await;
    assert_eq!((opened.status.as_u16(), opened.header("location")), (303, "./"));
    let cookie = opened.header("set-cookie").to_owned();
    for part in ["; HttpOnly", "; SameSite=Strict", "; Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    stranger.get(path).await.problem(403, "bad-code");
    stranger.get("/open?code=").await.problem(403, "bad-code");
    stranger.get("/open").await.problem(400, "bad-request");

    let session = cookie.split(';').next().unwrap();
    let own = format!("http://{}", node.http.addr);
    stranger.send("GET", NODE, &[("cookie", session)], "").await.well();
    stranger.send("GET", NODE, &[("cookie", &format!("a=b; {session}"))], "").await.well();
    let broken = format!("{}0", &session[..session.len() - 1]);
    let (name, value) = session.split_once('=').unwrap();
    for wrong in [&broken, &format!("x{name}={value}"), &format!("{name}="), &name.to_owned()] {
        if wrong != session {
            stranger.send("GET", NODE, &[("cookie", wrong)], "").await.problem(401, "no-token");
        }
    }
    // A change by a cookie has to come from the page itself.
    let give = "/api/v1/publication?path=/a&lake=log";
    stranger.send("PUT", give, &[("cookie", session)], "").await.problem(403, "foreign-origin");
    stranger.send("PUT", give, &[("cookie", session), ("origin", &own)], "").await.well();
    stranger.send("PUT", give, &[("cookie", session), ("sec-fetch-site", "same-origin")], "").await.well();
    // It holds over a restart.
    let (dir, addr) = node.stop().await;
    let node = crate::common::node_in(dir, &addr).await;
    node.http.stranger().send("GET", NODE, &[("cookie", session)], "").await.well();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_safe_to_have_in_a_browser() {
    let machine = machine().await;
    let page = "<script>alert(1)</script>";
    machine.http.put("/api/v1/machines/self/entry?key=page", page).await.well();
    for path in ["/", "/assets/app.js", NODE, "/api/v1/machines/self/entry?key=page", "/api/v1/nothing", "/nothing"] {
        let reply = machine.http.get(path).await;
        let policy = reply.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        assert_eq!(reply.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(reply.header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(reply.header("cross-origin-resource-policy"), "same-origin", "{path}");
        assert!(!reply.header("cache-control").is_empty(), "{path}");
    }
    let value = machine.http.get("/api/v1/machines/self/entry?key=page").await;
    assert_eq!((value.header("content-type"), &*value.text()), ("application/octet-stream", page));
    assert!(value.header("content-security-policy").contains("sandbox"));
    machine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_is_served_from_the_program() {
    let node = node().await;
    let stranger = node.http.stranger();
    for (path, kind) in [("/", "text/html"), ("/assets/app.js", "text/javascript"), ("/assets/style.css", "text/css")] {
        let reply = stranger.get(path).await;
        assert_eq!(reply.status, 200, "{path}");
        assert!(reply.header("content-type").starts_with(kind) && !reply.body.is_empty(), "{path}");
        let tag = reply.header("etag").to_owned();
        let again = stranger.send("GET", path, &[("if-none-match", &tag)], "").await;
        assert_eq!((again.status.as_u16(), again.body.len()), (304, 0), "{path}");
        let other = stranger.send("GET", path, &[("if-none-match", "\"other\"")], "").await;
        assert_eq!(other.status, 200, "{path}");
    }
    // There are files by their names, and nothing else.
    for trick in [
        "/assets/",
        "/assets/none.js",
        "/assets/..",
        "/assets/%2e%2e",
        "/assets/../index.html",
        "/assets/%2e%2e%2findex.html",
        "/assets/..%2f..%2fCargo.toml",
        "/assets/%00",
        "/assets/app.js/",
        "/assets//app.js",
        "/assets/%ff",
        "/index.html",
        "//",
        "/./",
        "/%2e",
        "/assets/app.js%00",
    ] {
        let reply = stranger.get(trick).await;
        assert!(matches!(reply.status.as_u16(), 400 | 401 | 404), "{trick}: {}", reply.status);
    }
    for trick in [
        "/api/v1/../v1/node",
        "/assets/../api/v1/node",
        "//api/v1/node",
        "/api//v1/node",
        "/API/v1/node",
        "/%61pi/v1/node",
    ] {
        let reply = stranger.get(trick).await;
        assert!(matches!(reply.status.as_u16(), 401 | 404), "{trick}: {}", reply.status);
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_before_it_is_read() {
    let machine = machine().await;
    let (addr, token) = (machine.http.addr, machine.app.token());
    let head = |extra: &str| {
        format!(
            "PUT /api/v1/machines/self/entry?key=a HTTP/1.1\r\nHost: {addr}\r\nAuthorization: Bearer {token}\r\n{extra}\r\n"
        )
    };
    // A length that says so already: not a byte is sent.
    let answer = raw(&machine.http, &head("Content-Length: 1000000000000\r\nConnection: close\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    // No length: as much as may be is read.
    let mut chunks = head("Transfer-Encoding: chunked\r\nConnection: close\r\n");
    for _ in 0..20 {
        chunks.push_str(&format!("{:x}\r\n{}\r\n", 64 * 1024, "x".repeat(64 * 1024)));
    }
    let answer = raw(&machine.http, &chunks).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let answer = raw(&machine.http, &head(&format!("X-Long: {}\r\n", "x".repeat(128 * 1024)))).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let answer = raw(&machine.http, &head(&"X: y\r\n".repeat(100))).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    // Nor is a stranger's.
    let strange =
        format!("PUT {NODE} HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 1000000000000\r\nConnection: close\r\n\r\n");
    let answer = raw(&machine.http, &strange).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    machine.http.get(NODE).await.well();
    machine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_requests_is_slowed_and_strangers_do_not_use_up_the_rate() {
    let node = node().await;
    let (addr, token) = (node.http.addr, node.app.token().to_owned());
    let count = async |request: String, requests: usize| {
        let mut socket = TcpStream::connect(addr).await.unwrap();
        let (mut reading, mut writing) = socket.split();
        let all = request.repeat(requests);
        let (_, text) = tokio::join!(writing.write_all(all.as_bytes()), async {
            let mut text = String::new();
            let mut part = [0; 64 * 1024];
            while text.matches("HTTP/1.1 ").count() < requests {
                let read = within("answers", reading.read(&mut part)).await.unwrap();
                assert!(read > 0, "the connection was closed");
                text.push_str(std::str::from_utf8(&part[..read]).unwrap());
            }
            text
        });
        text.matches("HTTP/1.1 429").count()
    };
    let strange = format!("GET {NODE} HTTP/1.1\r\nHost: {addr}\r\n\r\n");
    let begun = Instant::now();
    let refused = count(strange, 2_000).await;
    let allowed = f64::from(limits::STRANGE_REQUESTS_PER_SECOND) * (2.0 + begun.elapsed().as_secs_f64());
    assert!((2_000 - refused) as f64 <= allowed, "{refused} of 2000 were refused");
    let known = format!("GET {NODE} HTTP/1.1\r\nHost: {addr}\r\nAuthorization: Bearer {token}\r\n\r\n");
    assert_eq!(count(known, 100).await, 0, "who has the token is not concerned");
    node.stop().await;
}

/// The status of an answer to another account of this device, which only root can be.
fn as_nobody(addr: SocketAddr, path: &str, header: &str) -> String {
    use std::os::unix::process::CommandExt;
    let request = format!("GET {path} HTTP/1.1\\r\\nHost: {addr}\\r\\n{header}Connection: close\\r\\n\\r\\n");
    let script = format!("exec 3<>/dev/tcp/{}/{}; printf '{request}' >&3; head -n 1 <&3", addr.ip(), addr.port());
    let ran = std::process::Command::new("bash").args(["-c", &script]).current_dir("/").uid(65_534).output().unwrap();
    let line = String::from_utf8_lossy(&ran.stdout).into_owned();
    line.split(' ').nth(1).unwrap_or_else(|| panic!("{line:?} {ran:?}")).to_owned()
}

/// A browser sends its cookie to every port of a host, and whoever lists the processes sees the link that it is started with.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn another_account_can_use_neither_the_session_nor_the_link_of_a_browser() {
    use std::os::unix::fs::MetadataExt;
    let node = node().await;
    let (stranger, addr) = (node.http.stranger(), node.http.addr);
    let own = std::fs::metadata("/proc/self").unwrap().uid();
    let path_of = |link: String| link.strip_prefix(&format!("http://{addr}")).unwrap().to_owned();
    stranger.get(&path_of(node.server.open_link_for(own + 1))).await.problem(403, "bad-code");
    let link = path_of(node.server.open_link_for(own));
    let is_root = own == 0;
    if is_root {
        assert_eq!(as_nobody(addr, &link, ""), "403");
    }
    let opened = stranger.get(&link).await;
    assert_eq!(opened.status, 303, "nobody has used it up");
    let session = opened.header("set-cookie").split(';').next().unwrap().to_owned();
    stranger.send("GET", NODE, &[("cookie", &session)], "").await.well();
    if is_root {
        assert_eq!(as_nobody(addr, NODE, &format!("Cookie: {session}\\r\\n")), "401");
        assert_eq!(as_nobody(addr, NODE, &format!("Authorization: Bearer {}\\r\\n", node.app.token())), "200");
    } else {
        println!("not shown: only root can ask as another account");
    }
    node.stop().await;
}

/// Anybody on the device may ask for the page. Who has a session or a link gets it, however often others do.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_keep_nobody_from_the_page() {
    let node = node().await;
    let stranger = node.http.stranger();
    let link = || format!("/open?code={}", node.app.new_code());
    let opened = stranger.get(&link()).await;
    assert_eq!(opened.status, 303);
    let session = opened.header("set-cookie").split(';').next().unwrap().to_owned();
    let flood = async || {
        let slowed = async {
            loop {
                let asked = (0..50).map(|_| stranger.get("/"));
                let answers = futures_util::future::join_all(asked).await;
                if let Some(refused) = answers.into_iter().find(|answer| answer.status == 429) {
                    return refused;
                }
            }
        };
        within("strangers to be slowed", slowed).await.problem(429, "too-many-requests");
    };
    // Alone, one of them could slip through between two of the flood.
    for path in ["/", "/assets/app.js", "/assets/style.css"].repeat(5) {
        flood().await;
        let with = [("cookie", session.as_str())];
        assert_eq!(stranger.send("GET", path, &with, "").await.status, 200, "with a session: {path}");
        assert_eq!(node.http.get(path).await.status, 200, "with the token: {path}");
    }
    flood().await;
    assert_eq!(stranger.get(&link()).await.status, 303, "with a link");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_connections_that_say_nothing_keep_nobody_out() {
    const SLOW: usize = 10_000;
    let machine = machine().await;
    let (addr, mut slow) = (machine.http.addr, Vec::with_capacity(SLOW));
    let mut events = machine.http.events("/api/v1/machines/self/events").await;
    events.up_to("caught_up").await;
    for number in 0..SLOW {
        let mut socket = within("a connection", TcpStream::connect(addr)).await.unwrap();
        // Half of them begin to say something; some have been closed by then.
        if number % 2 == 0 {
            let _ = socket.write_all(b"GET / HTTP/1.1\r\nHost: ").await;
        }
        slow.push(socket);
        if number % 500 == 0 {
            let begun = Instant::now();
            machine.http.put("/api/v1/machines/self/entry?key=a", number.to_string()).await.well();
            events.expect("put").await;
            assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        }
    }
    let told = machine.http.get(NODE).await.well();
    let open = told["http"]["connections"].as_u64().unwrap();
    assert!(open <= limits::MAX_STRANGERS as u64 + 10, "{open} are open");
    assert!(told["http"]["refused"].as_u64().unwrap() >= SLOW as u64 / 2, "{told}");
    drop(slow);
    until("them to be gone", async || machine.http.get(NODE).await.well()["http"]["connections"].as_u64().unwrap() < 5)
        .await;
    machine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_come_ends_its_connection() {
    let node = node().await;
    let begun = Instant::now();
    let mut slow = TcpStream::connect(node.http.addr).await.unwrap();
    let mut silent = TcpStream::connect(node.http.addr).await.unwrap();
    let mut idle = TcpStream::connect(node.http.addr).await.unwrap();
    let page = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", node.http.addr);
    idle.write_all(page.as_bytes()).await.unwrap();
    let dripping = async {
        slow.write_all(b"GET / HTTP/1.1\r\nX: ").await.unwrap();
        let mut answer = [0; 1];
        loop {
            tokio::select! {
                // A byte now and then keeps nothing open.
                () = tokio::time::sleep(Duration::from_millis(200)) => { // The time is under test.
                    if slow.write_all(b"x").await.is_err() {
                        return;
                    }
                }
                read = slow.read(&mut answer) => if read.map_or(true, |read| read == 0) { return },
            }
        }
    };
    let closed = async |socket: &mut TcpStream| {
        let mut all = Vec::new();
        let _ = socket.read_to_end(&mut all).await;
    };
    within("the connections to be closed", async {
        tokio::join!(dripping, closed(&mut silent), closed(&mut idle));
    })
    .await;
    assert!(begun.elapsed() >= limits::HEADER_TIMEOUT - Duration::from_secs(1), "{:?}", begun.elapsed());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_is_given_up() {
    let machine = machine().await;
    let (addr, token) = (machine.http.addr, machine.app.token());
    let begun = Instant::now();
    let head = format!(
        "PUT /api/v1/machines/self/entry?key=a HTTP/1.1\r\nHost: {addr}\r\nAuthorization: Bearer {token}\r\nContent-Length: 9\r\n\r\n1234"
    );
    let answer = raw(&machine.http, &head).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(begun.elapsed() >= limits::BODY_TIMEOUT - Duration::from_secs(1), "{:?}", begun.elapsed());
    machine.http.get("/api/v1/machines/self/entry?key=a").await.problem(404, "no-entry");
    machine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_computers_are_let_in_only_if_that_was_said() {
    let dir = TempDir::new().unwrap();
    let node =
        Node::builder().data_dir(dir.path()).offline().bind("127.0.0.1:0".parse().unwrap()).spawn().await.unwrap();
    let app = App::start(node.clone(), Config::new(dir.path())).await.unwrap();
    let anywhere = TcpListener::bind("0.0.0.0:0").await.unwrap();
    assert!(matches!(app.serve(anywhere), Err(ServeError::NotLoopback(_))));
    let config = Config::new(dir.path()).for_other_computers(["kiosk.lan"]);
    let app = App::start(node.clone(), config).await.unwrap();
    let server = app.serve(TcpListener::bind("0.0.0.0:0").await.unwrap()).unwrap();
    let addr = format!("127.0.0.1:{}", server.local_addr().port()).parse().unwrap();
    let http = Client { addr, token: Some(app.token().to_owned()) };
    http.send("GET", NODE, &[("host", "kiosk.lan:80")], "").await.well();
    http.send("GET", NODE, &[("host", "other.lan:80")], "").await.problem(421, "foreign-host");
    node.shutdown().await.unwrap();
    server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_can_be_mounted_in_a_server_of_the_users_own() {
    let node = node().await;
    let mine = axum::Router::new().nest("/groundswell/", node.app.router());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let http = Client { addr: listener.local_addr().unwrap(), token: node.http.token.clone() };
    let serving = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = hyper_util::service::TowerToHyperService::new(mine.clone());
            let io = hyper_util::rt::TokioIo::new(stream);
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
        }
    });
    let stranger = http.stranger();
    assert_eq!(stranger.get("/groundswell/").await.status, 200);
    assert_eq!(stranger.get("/groundswell/assets/app.js").await.status, 200);
    stranger.get("/groundswell/api/v1/node").await.problem(401, "no-token");
    assert_eq!(http.get("/groundswell/api/v1/node").await.well()["id"], node.id().await);
    stranger.send("GET", "/groundswell/", &[("host", "example.org")], "").await.problem(421, "foreign-host");
    let opened = stranger.get(&format!("/groundswell/open?code={}", node.app.new_code())).await;
    assert_eq!((opened.status.as_u16(), opened.header("location")), (303, "./"));
    serving.abort();
    node.stop().await;
}

/// Sends bytes as they are, and reads what comes back until there is an answer's head or the end.
async fn raw(http: &Client, bytes: &str) -> String {
    let mut socket = TcpStream::connect(http.addr).await.unwrap();
    let (mut reading, mut writing) = socket.split();
    let answer = async {
        let mut answer = Vec::new();
        let mut part = [0; 4096];
        while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
            match reading.read(&mut part).await {
                Ok(0) | Err(_) => break,
                Ok(read) => answer.extend_from_slice(&part[..read]),
            }
        }
        String::from_utf8_lossy(&answer).into_owned()
    };
    let write = async {
        // The other side may refuse before it has everything.
        let _ = writing.write_all(bytes.as_bytes()).await;
    };
    within("an answer", async { tokio::join!(write, answer).1 }).await
}

/// Keeps the lines of the log of this thread.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn of_refusals(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().filter(|line| line.contains("is refused")).cloned().collect()
    }
}

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().push(String::from_utf8_lossy(bytes).into_owned());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What strangers cause by HTTP has the same one line a second as what they cause elsewhere.
#[tokio::test]
async fn strangers_write_no_lines_of_log_of_their_own_by_http() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    // All tasks of this test run on this thread.
    let _guard = tracing::subscriber::set_default(subscriber);
    let node = node().await;
    let stranger = node.http.stranger();
    let begun = Instant::now();
    for _ in 0..100 {
        stranger.get(NODE).await.problem(401, "no-token");
    }
    let (written, seconds) = (lines.of_refusals(), begun.elapsed().as_secs() as usize);
    assert!(!written.is_empty() && written.len() <= seconds + 1, "{} lines in {seconds} s", written.len());
    assert!(written.iter().all(|line| line.contains("refused=") && line.contains("left_out=")), "{written:?}");
    // Another part of the node has the line of this second, where there is one.
    let Subject::Node(other) = node.subject.clone() else { panic!("a node") };
    let log = other.stranger_log();
    until("a second without a line", || async { log.line().is_some() }).await;
    let before = lines.of_refusals().len();
    stranger.get(NODE).await.problem(401, "no-token");
    assert_eq!(lines.of_refusals().len(), before);
    node.stop().await;
}
