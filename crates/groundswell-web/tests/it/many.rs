//! Many streams, and slow ones.

use std::time::Instant;

use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::common::{machine, until, within};

const OWN: &str = "/api/v1/machines/self";

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_streams_lose_no_event() {
    const STREAMS: usize = 500;
    const KEYS: usize = 200;
    let machine = machine().await;
    let (mut streams, before) = (Vec::new(), resident_bytes());
    for _ in 0..STREAMS {
        let mut events = machine.http.events(&format!("{OWN}/events")).await;
        events.up_to("caught_up").await;
        streams.push(events);
    }
    let held = resident_bytes().saturating_sub(before);
    let told = machine.http.get("/api/v1/node").await.well();
    assert_eq!(told["http"]["streams"], STREAMS);
    // Each key once, so that no event may be skipped.
    let readers: Vec<_> = streams
        .into_iter()
        .map(|mut events| {
            tokio::spawn(async move {
                let mut seen = Vec::with_capacity(KEYS);
                for number in 0..KEYS {
                    let put = events.expect("put").await;
                    assert_eq!(put.data["key"], format!("{number:03}"));
                    assert_eq!(put.data["live"], true);
                    seen.push(Instant::now());
                }
                (events, seen)
            })
        })
        .collect();
    let mut written = Vec::with_capacity(KEYS);
    for number in 0..KEYS {
        written.push(Instant::now());
        machine.http.put(&format!("{OWN}/entry?key={number:03}"), "value").await.well();
    }
    let (mut streams, mut waits) = (Vec::new(), Vec::new());
    for reader in readers {
        let (events, seen) = within("all events", reader).await.unwrap();
        waits.extend(seen.iter().zip(&written).map(|(seen, written)| seen.duration_since(*written)));
        streams.push(events);
    }
    waits.sort_unstable();
    assert_eq!(waits.len(), STREAMS * KEYS);
    println!(
        "{STREAMS} streams: {} KiB each with its client in this process; from the request of a write to its event {:?} \
         (median), {:?} (99 of 100)",
        held / 1024 / STREAMS as u64,
        waits[waits.len() / 2],
        waits[waits.len() / 100 * 99],
    );
    drop(streams);
    until("the streams to be let go", async || machine.http.get("/api/v1/node").await.well()["http"]["streams"] == 0)
        .await;
    machine.stop().await;
}

/// What this process holds in memory; 0 where the system does not say.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or_default() * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_only_so_many_streams() {
    let machine = machine().await;
    let mut streams = Vec::new();
    for _ in 0..groundswell_web::limits::MAX_STREAMS {
        streams.push(machine.http.events("/api/v1/stream?topic=machines").await);
    }
    machine.http.get("/api/v1/stream?topic=machines").await.problem(429, "too-many-streams");
    machine.http.get("/api/v1/node").await.well();
    streams.pop();
    until("a place", async || {
        machine.http.get("/api/v1/node").await.well()["http"]["streams"] == groundswell_web::limits::MAX_STREAMS - 1
    })
    .await;
    let mut events = machine.http.events("/api/v1/stream?topic=machines").await;
    events.up_to("caught_up").await;
    drop(streams);
    machine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_does_not_read_costs_a_cursor_and_has_the_newest_in_the_end() {
    const WRITES: usize = 400;
    let machine = machine().await;
    let path = format!("{OWN}/events?key=a");
    let mut slow = machine.http.events(&path).await;
    slow.up_to("caught_up").await;
    let mut quick = machine.http.events(&path).await;
    quick.up_to("caught_up").await;
    // 40 MB in all, far more than any socket holds.
    for number in 0..WRITES {
        let value = format!("{number:06}").repeat(100_000 / 6);
        machine.http.put(&format!("{OWN}/entry?key=a"), value).await.well();
        if number % 50 == 0 {
            quick.expect("put").await;
        }
    }
    let newest = format!("{:06}", WRITES - 1);
    let is_newest =
        |event: &crate::common::Sse| event.data["value"].as_str().is_some_and(|value| value.starts_with(&newest));
    let mut passed = 0;
    slow.find("the newest value", |event| {
        passed += 1;
        is_newest(event)
    })
    .await;
    assert!(passed < WRITES, "values that were replaced are skipped, and {passed} of {WRITES} came");
    quick.find("the newest value", is_newest).await;
    machine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_vanishes_is_let_go() {
    let machine = machine().await;
    let mut socket = tokio::net::TcpStream::connect(machine.http.addr).await.unwrap();
    let (addr, token) = (machine.http.addr, machine.app.token().to_owned());
    let request = format!("GET {OWN}/events HTTP/1.1\r\nHost: {addr}\r\nAuthorization: Bearer {token}\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let streams = async || machine.http.get("/api/v1/node").await.well()["http"]["streams"].clone();
    until("the stream", async || streams().await == json!(1)).await;
    drop(socket);
    until("it to be let go", async || streams().await == json!(0)).await;
    machine.stop().await;
}
