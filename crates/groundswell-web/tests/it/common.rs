//! What the tests share: nodes with an interface each, a client, and a reader of event streams.
#![allow(unreachable_pub, clippy::unwrap_used)] // as in a library of tests

use std::{
    collections::VecDeque,
    future::Future,
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use groundswell::{Machine, Manager, Node};
use groundswell_web::{App, Config, Server, Subject};
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method, Request, StatusCode, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

/// How long a test waits for something before it fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for something that has to come.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// Asks again until it holds.
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    within(what, async {
        while !holds().await {
            // A poll for a condition: time is under test only as patience.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

/// Logs to the test's output, as far as RUST_LOG says.
pub fn init_log() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}

/// A node with its interface.
pub struct Up {
    pub subject: Subject,
    pub app: App,
    pub server: Server,
    pub http: Client,
    pub dir: TempDir,
}

async fn interface(subject: Subject, dir: TempDir, addr: SocketAddr) -> Up {
    let app = App::start(subject.clone(), Config::new(dir.path())).await.unwrap();
    let listener = within("the port", async {
        loop {
            if let Ok(listener) = TcpListener::bind(addr).await {
                return listener;
            }
            // A poll for a condition: time is under test only as patience.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let server = app.serve(listener).unwrap();
    let http = Client { addr: server.local_addr(), token: Some(app.token().to_owned()) };
    Up { subject, app, server, http, dir }
}

const ANY: &str = "127.0.0.1:0";

pub async fn machine_in(dir: TempDir, http: &str) -> Up {
    init_log();
    let machine = within("the machine", async {
        loop {
            match Machine::builder().data_dir(dir.path()).offline().bind(ANY.parse().unwrap()).spawn().await {
                Ok(machine) => return machine,
                Err(error) => assert!(error.to_string().contains("in use"), "{error}"),
            }
            // A poll for a condition: time is under test only as patience.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    interface(machine.into(), dir, http.parse().unwrap()).await
}

pub async fn machine() -> Up {
    machine_in(TempDir::new().unwrap(), ANY).await
}

pub async fn manager() -> Up {
    init_log();
    let dir = TempDir::new().unwrap();
    let manager = Manager::builder().data_dir(dir.path()).offline().bind(ANY.parse().unwrap()).spawn().await.unwrap();
    interface(manager.into(), dir, ANY.parse().unwrap()).await
}

pub async fn node_in(dir: TempDir, http: &str) -> Up {
    init_log();
    let node = within("the node", async {
        loop {
            match Node::builder().data_dir(dir.path()).offline().bind(ANY.parse().unwrap()).spawn().await {
                Ok(node) => return node,
                Err(error) => assert!(error.to_string().contains("in use"), "{error}"),
            }
            // A poll for a condition: time is under test only as patience.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    interface(node.into(), dir, http.parse().unwrap()).await
}

pub async fn node() -> Up {
    node_in(TempDir::new().unwrap(), ANY).await
}

impl Up {
    pub async fn id(&self) -> String {
        self.http.get("/api/v1/node").await.json()["id"].as_str().unwrap().to_owned()
    }

    pub async fn ticket(&self) -> String {
        self.http.get("/api/v1/node").await.json()["ticket"].as_str().unwrap().to_owned()
    }

    /// Ends the node, then its interface, and gives the directory and the address back.
    pub async fn stop(self) -> (TempDir, String) {
        match &self.subject {
            Subject::Node(node) => node.shutdown().await.unwrap(),
            Subject::Machine(machine) => machine.shutdown().await.unwrap(),
            Subject::Manager(manager) => manager.shutdown().await.unwrap(),
            _ => unreachable!("a subject of a newer version"),
        }
        self.server.shutdown().await.unwrap();
        (self.dir, self.server.local_addr().to_string())
    }
}

/// Claims a machine over both interfaces, both persons saying yes; the machine's id.
pub async fn pair(manager: &Up, machine: &Up) -> String {
    assert_eq!(machine.http.post("/api/v1/pairing", &json!({})).await.well()["open"], true);
    let begun = manager.http.post("/api/v1/claims", &json!({ "ticket": machine.ticket().await })).await;
    assert_eq!(begun.status, 201, "{}", begun.text());
    let begun = begun.json();
    let asked = machine.pending_claim().await;
    assert_eq!(asked["pin"], begun["pin"], "both sides show the same");
    let (there, here) = (claim_answer(&asked), claim_answer(&begun));
    let same = json!({ "same": true });
    let (there, here) = tokio::join!(machine.http.post(&there, &same), manager.http.post(&here, &same));
    assert_eq!((there.status, here.status), (200.try_into().unwrap(), 200.try_into().unwrap()), "{}", here.text());
    assert_eq!((there.json()["state"].as_str(), here.json()["state"].as_str()), (Some("claimed"), Some("claimed")));
    begun["machine"].as_str().unwrap().to_owned()
}

/// Where a claim is answered.
pub fn claim_answer(claim: &Value) -> String {
    format!("/api/v1/claims/{}/answer", claim["claim"])
}

impl Up {
    /// The claim that this side is asked.
    pub async fn pending_claim(&self) -> Value {
        within("a claim", async {
            loop {
                let claims = self.http.get("/api/v1/claims").await.json();
                if let Some(claim) = claims["claims"].as_array().unwrap().iter().find(|one| one["state"] == "pending") {
                    return claim.clone();
                }
                // A poll for a condition: time is under test only as patience.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The answer of something that did well.
    #[track_caller]
    pub fn well(&self) -> Value {
        assert!(self.status.is_success(), "{}: {}", self.status, self.text());
        self.json()
    }

    /// Checks that it is this problem.
    #[track_caller]
    pub fn problem(&self, status: u16, word: &str) -> Value {
        let problem = self.json();
        assert_eq!(
            (self.status.as_u16(), self.header("content-type")),
            (status, "application/problem+json"),
            "{problem}"
        );
        assert_eq!(problem["type"], format!("urn:groundswell:problem:{word}"), "{problem}");
        assert_eq!(problem["status"], status);
        assert!(!problem["detail"].as_str().unwrap().is_empty() && !problem["title"].as_str().unwrap().is_empty());
        problem
    }
}

/// A client that says what it is told to: each request on a connection of its own.
#[derive(Debug, Clone)]
pub struct Client {
    pub addr: SocketAddr,
    pub token: Option<String>,
}

impl Client {
    /// The same without a token.
    pub fn stranger(&self) -> Self {
        Self { token: None, ..self.clone() }
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], "").await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.send("DELETE", path, &[], "").await
    }

    pub async fn put(&self, path: &str, body: impl Into<Bytes>) -> Reply {
        self.send("PUT", path, &[], body).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, &[], body.to_string()).await
    }

    pub async fn patch(&self, path: &str, body: &Value) -> Reply {
        self.send("PATCH", path, &[], body.to_string()).await
    }

    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
        let (parts, body) = self.begin(method, path, headers, body.into()).await;
        let body = within("the body", body.collect()).await.unwrap().to_bytes();
        Reply { status: parts.status, headers: parts.headers, body }
    }

    /// Opens a stream.
    pub async fn events(&self, path: &str) -> Events {
        self.events_after(path, "").await
    }

    /// The same after an event of this id.
    pub async fn events_after(&self, path: &str, id: &str) -> Events {
        let (parts, body) = self.begin("GET", path, &[("last-event-id", id)], Bytes::new()).await;
        if parts.status != 200 {
            let body = within("the body", body.collect()).await.unwrap().to_bytes();
            panic!("{path}: {} {}", parts.status, String::from_utf8_lossy(&body));
        }
        assert_eq!(parts.headers["content-type"], "text/event-stream");
        Events { body: Some(body), text: String::new(), ready: VecDeque::new(), last: String::new() }
    }

    async fn begin(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> (hyper::http::response::Parts, Incoming) {
        within("an answer", async {
            let stream = TcpStream::connect(self.addr).await.unwrap();
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            let mut request = Request::new(Full::new(body));
            *request.method_mut() = method.parse::<Method>().unwrap();
            *request.uri_mut() = path.parse().unwrap();
            let mut say = |name: &str, value: &str| {
                let name: hyper::header::HeaderName = name.parse().unwrap();
                if value.is_empty() {
                    request.headers_mut().remove(name);
                } else {
                    request.headers_mut().insert(name, value.parse().unwrap());
                }
            };
            say("host", &self.addr.to_string());
            if let Some(token) = &self.token {
                say("authorization", &format!("Bearer {token}"));
            }
            headers.iter().for_each(|(name, value)| say(name, value));
            // A header that is named twice is sent twice.
            for (at, (name, value)) in headers.iter().enumerate() {
                if headers[..at].iter().any(|(before, _)| before == name) {
                    let name: hyper::header::HeaderName = name.parse().unwrap();
                    request.headers_mut().append(name, value.parse().unwrap());
                }
            }
            sender.send_request(request).await.unwrap().into_parts()
        })
        .await
    }
}

/// One server-sent event.
#[derive(Debug, Clone)]
pub struct Sse {
    pub id: Option<String>,
    pub name: String,
    pub data: Value,
}

/// A stream of them, read as a browser does.
pub struct Events {
    body: Option<Incoming>,
    text: String,
    ready: VecDeque<Sse>,
    /// The last id.
    pub last: String,
}

impl Events {
    /// The next event; `None` after the end.
    pub async fn next(&mut self) -> Option<Sse> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                if let Some(id) = &event.id {
                    self.last = id.clone();
                }
                return Some(event);
            }
            let frame = match self.body.as_mut()?.frame().await {
                Some(Ok(frame)) => frame,
                _ => {
                    self.body = None;
                    continue;
                }
            };
            self.text.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                self.ready.push_back(parse(event));
                self.text = rest.to_owned();
            }
        }
    }

    /// The next of this name; heartbeats may come before, nothing else.
    #[track_caller]
    pub fn expect(&mut self, name: &str) -> impl Future<Output = Sse> {
        let caller = std::panic::Location::caller();
        async move {
            let found = self.step(&format!("{name} at {caller}")).await;
            assert_eq!(found.name, name, "at {caller}: {found:?}");
            found
        }
    }

    async fn step(&mut self, what: &str) -> Sse {
        within(what, async {
            loop {
                let event = self.next().await.unwrap_or_else(|| panic!("the stream ended before {what}"));
                if event.name != "heartbeat" {
                    return event;
                }
            }
        })
        .await
    }

    /// The next for which this holds; others are passed over.
    pub async fn find(&mut self, what: &str, mut holds: impl FnMut(&Sse) -> bool) -> Sse {
        let begun = Instant::now();
        loop {
            let event = self.step(what).await;
            if holds(&event) {
                return event;
            }
            assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        }
    }

    /// The first event for which each of these holds, whatever their order.
    pub async fn find_all<const N: usize>(&mut self, what: &str, holds: [&dyn Fn(&Sse) -> bool; N]) -> [Sse; N] {
        let mut found: [Option<Sse>; N] = std::array::from_fn(|_| None);
        while found.iter().any(Option::is_none) {
            let event = self.step(what).await;
            for (found, holds) in found.iter_mut().zip(holds) {
                if found.is_none() && holds(&event) {
                    *found = Some(event.clone());
                }
            }
        }
        found.map(Option::unwrap)
    }

    /// All up to the first of this name, which is the last of them.
    pub async fn up_to(&mut self, name: &str) -> Vec<Sse> {
        let mut all = Vec::new();
        loop {
            let event = self.step(name).await;
            let last = event.name == name;
            all.push(event);
            if last {
                return all;
            }
        }
    }

    /// Checks that the stream ends now.
    pub async fn ends(&mut self) {
        let after = within("the end of the stream", self.next()).await;
        assert!(after.is_none(), "{after:?}");
    }
}

fn parse(text: &str) -> Sse {
    let (mut id, mut name, mut data) = (None, String::new(), String::new());
    for line in text.lines() {
        match line.split_once(": ").unwrap_or_else(|| panic!("not a line of an event: {line}")) {
            ("id", value) => id = Some(value.to_owned()),
            ("event", value) => name = value.to_owned(),
            ("data", value) => data = value.to_owned(),
            ("retry", _) => {}
            other => panic!("not a field of an event: {other:?}"),
        }
    }
    let data: Value = serde_json::from_str(&data).unwrap_or_else(|error| panic!("{error}: {data}"));
    assert_eq!(data["type"], name.as_str(), "the name of an event is its type");
    Sse { id, name, data }
}

/// Gives waves to a path of a node.
pub async fn give_waves(up: &Up, path: &str, waves: Value) -> Value {
    up.http.post(&format!("/api/v1/publication/waves?path={path}"), &json!({ "waves": waves })).await.well()
}
