//! Requests at random: nothing makes the interface fail, whatever comes. A seed tells one run from another, and is printed.

use std::{collections::BTreeMap, time::Duration};

use groundswell_web::OPENAPI;
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::common::{Up, give_waves, machine, manager, pair, within};

/// Parts of which addresses and bodies are made.
const WORDS: &[&str] = &[
    "",
    "self",
    "none",
    "key",
    "prefix",
    "start",
    "end",
    "author",
    "after",
    "limit",
    "values",
    "space",
    "path",
    "agent",
    "lake",
    "peer",
    "rocks",
    "last",
    "from",
    "topic",
    "within",
    "code",
    "machine",
    "manager",
    "true",
    "false",
    "null",
    "0",
    "1",
    "-1",
    "60",
    "61",
    "10001",
    "18446744073709551615",
    "18446744073709551616",
    "1e400",
    "1.0",
    "/a",
    "/sales",
    "//",
    "/*",
    "sum",
    "log",
    "json",
    "needed",
    "always",
    "never",
    "auto",
    "public",
    "allow",
    "waves",
    "change",
    "peers",
    "same",
    "to",
    "frequency",
    "horizon",
    "node",
    "machines",
    "kv?machine=*",
    "publication?path=/sales",
    "%00",
    "%ff",
    "%",
    "%zz",
    "+",
    "&&",
    "==",
    "..",
    "%2e%2e",
    "%2f",
    "é",
    "\u{202e}",
];

const METHODS: &[&str] =
    &["GET", "GET", "GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get", "WIPE"];

/// Makes requests.
struct Random {
    rng: StdRng,
    /// What is described: paths, and the methods of each.
    paths: Vec<(String, Vec<String>)>,
    ids: Vec<String>,
}

impl Random {
    fn pick(&mut self, from: &[&str]) -> String {
        from.choose(&mut self.rng).copied().unwrap_or_default().to_owned()
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn word(&mut self) -> String {
        match self.rng.random_range(0..10) {
            0 => self.ids.choose(&mut self.rng).cloned().unwrap_or_default(),
            1 => "a".repeat(self.rng.random_range(0..2_000)),
            2 => (0..self.rng.random_range(0..20)).map(|_| self.rng.random::<char>()).collect(),
            _ => self.pick(WORDS),
        }
    }

    fn percent(text: &str) -> String {
        text.bytes().map(|byte| format!("%{byte:02x}")).collect()
    }

    /// A method and an address.
    fn target(&mut self) -> (String, String) {
        let (mut target, methods) = self.paths.choose(&mut self.rng).cloned().unwrap_or_default();
        let method = match self.chance(80) {
            true => methods.choose(&mut self.rng).map(|method| method.to_uppercase()).unwrap_or_default(),
            false => self.pick(METHODS),
        };
        for part in ["{machine}", "{claim}", "{file}"] {
            let word = if self.chance(70) { "self".to_owned() } else { self.word() };
            target = target.replace(part, &if self.chance(80) { Self::percent(&word) } else { word });
        }
        if self.chance(5) {
            target += &self.word();
        }
        for field in 0..self.rng.random_range(0..5) {
            let (name, value) = (self.word(), self.word());
            let value = if self.chance(80) { Self::percent(&value) } else { value };
            target += &format!("{}{name}={value}", if field == 0 { "?" } else { "&" });
        }
        (method, target)
    }

    fn json(&mut self, depth: u32) -> Value {
        match self.rng.random_range(0..if depth > 3 { 4 } else { 6 }) {
            0 => self.rng.random::<i64>().into(),
            1 => self.rng.random::<f64>().into(),
            2 => self.word().into(),
            3 => Value::Null,
            4 => (0..self.rng.random_range(0..4)).map(|_| self.json(depth + 1)).collect(),
            _ => Value::Object((0..self.rng.random_range(0..4)).map(|_| (self.word(), self.json(depth + 1))).collect()),
        }
    }

    fn body(&mut self) -> Vec<u8> {
        match self.rng.random_range(0..6) {
            0 | 1 => Vec::new(),
            2 => self.json(0).to_string().into_bytes(),
            3 => "[".repeat(self.rng.random_range(0..5_000)).into_bytes(),
            _ => {
                let mut bytes = vec![0; self.rng.random_range(0..5_000)];
                self.rng.fill(&mut bytes[..]);
                bytes
            }
        }
    }

    /// A whole request, as bytes.
    fn request(&mut self, host: &str, token: &str) -> Vec<u8> {
        if self.chance(5) {
            let mut bytes = vec![0; self.rng.random_range(1..300)];
            self.rng.fill(&mut bytes[..]);
            bytes.extend_from_slice(b"\r\n\r\n");
            return bytes;
        }
        let ((method, target), body) = (self.target(), self.body());
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
        if self.chance(95) {
            head += &format!("Authorization: Bearer {token}\r\n");
        }
        for _ in 0..self.rng.random_range(0..3) {
            let names = ["Accept", "Content-Type", "Last-Event-ID", "If-None-Match", "Cookie", "Origin", "Range", "X"];
            head += &format!("{}: {}\r\n", self.pick(&names), self.word());
        }
        let chunked = self.chance(20);
        head += &match chunked {
            true => "Transfer-Encoding: chunked\r\n\r\n".to_owned(),
            false => format!("Content-Length: {}\r\n\r\n", body.len()),
        };
        let mut bytes = head.into_bytes();
        if chunked {
            bytes.extend_from_slice(format!("{:x}\r\n", body.len().max(1)).as_bytes());
            bytes.extend_from_slice(if body.is_empty() { b"v" } else { &body });
            bytes.extend_from_slice(b"\r\n0\r\n\r\n");
        } else {
            bytes.extend_from_slice(&body);
        }
        if self.chance(3) {
            let at = self.rng.random_range(0..bytes.len());
            bytes[at] = self.rng.random();
        }
        bytes
    }
}

/// How long an answer is waited for. Some requests have none: one that is not whole, or one that waits for a delivery.
const ANSWERED_WITHIN: Duration = Duration::from_millis(500);

/// Sends one, and returns the status, if there is an answer.
async fn status(up: &Up, bytes: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect(up.http.addr).await.unwrap();
    stream.write_all(bytes).await.ok()?;
    let mut head = [0; 12];
    timeout(ANSWERED_WITHIN, stream.read_exact(&mut head)).await.ok()?.ok()?;
    std::str::from_utf8(head.get(9..12)?).ok()?.parse().ok()
}

/// So many requests, to a machine and its manager in turn. Both are as they were, and none has failed.
async fn run(seed: u64, count: u32) {
    println!("seed {seed}, {count} requests");
    let (manager, machine) = (manager().await, machine().await);
    let id = pair(&manager, &machine).await;
    machine.http.put("/api/v1/publication?path=/sales&lake=sum", "").await.well();
    give_waves(&machine, "/sales", serde_json::json!([1])).await;
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    let paths = document["paths"].as_object().unwrap().iter();
    let paths =
        paths.map(|(path, methods)| (path.clone(), methods.as_object().unwrap().keys().cloned().collect())).collect();
    let ids = vec![id, manager.id().await, machine.ticket().await];
    let mut random = Random { rng: StdRng::seed_from_u64(seed), paths, ids };
    let mut seen: BTreeMap<Option<u16>, u32> = BTreeMap::new();
    for number in 0..count {
        let up = if number % 2 == 0 { &machine } else { &manager };
        let bytes = random.request(&up.http.addr.to_string(), up.app.token());
        let status = within("an answer", status(up, &bytes)).await;
        *seen.entry(status).or_default() += 1;
        let failed = status.is_some_and(|status| status >= 500);
        assert!(!failed, "{status:?} to request {number} of seed {seed}: {:?}", String::from_utf8_lossy(&bytes));
    }
    println!("answers by status: {seen:?}");
    let answered: u32 = seen.iter().filter(|(status, _)| status.is_some()).map(|(_, count)| count).sum();
    assert!(answered * 10 >= count * 8, "most of them are requests that are answered: {seen:?}");
    assert!(seen.keys().flatten().any(|status| *status < 300), "some of them do well: {seen:?}");
    for up in [&machine, &manager] {
        up.http.get("/api/v1/node").await.well();
    }
    manager.stop().await;
    machine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_random_request_never_fails() {
    run(13, 1_500).await;
}

/// With `GROUNDSWELL_SEED` and `GROUNDSWELL_REQUESTS` for another run.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes"]
async fn a_long_run_of_random_requests_never_fails() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    let requests = number("GROUNDSWELL_REQUESTS").unwrap_or(100_000);
    run(number("GROUNDSWELL_SEED").unwrap_or(1), u32::try_from(requests).expect("so many")).await;
}
