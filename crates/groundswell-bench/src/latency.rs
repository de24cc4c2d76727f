//! From `give` on one node to the update on another, beside half a round trip over a raw iroh
//! stream, which neither stores nor checks anything. 100-byte payloads, one at a time, in turns.

use std::{
    fmt,
    time::{Duration, Instant},
};

use groundswell::{Durability, Event, Source, Updates, lakes::Log};
use iroh::{Endpoint, EndpointAddr, endpoint::presets};
use tempfile::TempDir;

use crate::{Result, Spread, node};

const ALPN: &[u8] = b"groundswell-bench/echo";
const PAYLOAD: usize = 100;

/// What was measured.
#[derive(Debug)]
pub struct Latency {
    /// Half a round trip over a raw iroh stream.
    pub raw: Spread,
    /// `give` to update, in memory.
    pub memory: Spread,
    /// `give` to update, durable at the publisher and at the follower.
    pub disk: Spread,
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ratio = |ours: &Spread| ours.median().as_secs_f64() / self.raw.median().as_secs_f64();
        writeln!(f, "latency, {PAYLOAD}-byte waves, one at a time")?;
        writeln!(f, "  raw iroh stream, half a round trip:         {}", self.raw)?;
        writeln!(
            f,
            "  give -> update, Memory here, disk there:    {} = {:.1} x raw",
            self.memory,
            ratio(&self.memory)
        )?;
        write!(f, "  give -> update, flushed here, then there:   {} = {:.1} x raw", self.disk, ratio(&self.disk))
    }
}

/// Sends so many payloads each way.
pub async fn run(rounds: usize) -> Result<Latency> {
    let (here, there) = (TempDir::new()?, TempDir::new()?);
    let (publisher, follower) = (node(here.path()).await?, node(there.path()).await?);
    follower.add_peer(&publisher.ticket()).await?;
    let agent = publisher.agent("bench")?;
    let memory = agent.publications_with::<Log>("/memory", Durability::Memory).await?;
    let disk = agent.publications::<Log>("/disk").await?;
    let inbox = follower.agent("bench")?;
    let mut streams = Vec::new();
    for (path, logs) in [("/memory", &memory), ("/disk", &disk)] {
        logs.open(path).await?;
        let inbox = inbox.subscriptions::<Log>(path).await?;
        let mut updates = inbox.surf(Source::new(publisher.id(), "bench", path)?).await?;
        while !matches!(updates.next().await, Some(Event::CaughtUp { .. })) {}
        streams.push(updates);
    }
    let bind =
        || -> Result<_> { Ok(Endpoint::builder(presets::Minimal).clear_ip_transports().bind_addr("127.0.0.1:0")?) };
    let server = bind()?.alpns(vec![ALPN.to_vec()]).bind().await?;
    let client = bind()?.bind().await?;
    let echo = tokio::spawn(echo(server.clone()));
    let port = *server.bound_sockets().first().ok_or("no socket")?;
    let connection = client.connect(EndpointAddr::new(server.id()).with_ip_addr(port), ALPN).await?;
    let (mut send, mut recv) = connection.open_bi().await?;
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    let mut bytes = [7; PAYLOAD];
    for _ in 0..rounds {
        let begun = Instant::now();
        send.write_all(&bytes).await?;
        recv.read_exact(&mut bytes).await?;
        times[0].push(begun.elapsed() / 2);
        for (which, (path, logs)) in [("/memory", &memory), ("/disk", &disk)].into_iter().enumerate() {
            let begun = Instant::now();
            let (given, seen) =
                tokio::join!(logs.give(path, "x".repeat(PAYLOAD)), next_update(&mut streams[which], begun));
            given?;
            times[which + 1].push(seen?);
        }
    }
    connection.close(0u32.into(), b"");
    echo.abort();
    client.close().await;
    server.close().await;
    publisher.shutdown().await?;
    follower.shutdown().await?;
    let [raw, memory, disk] = times.map(Spread::of);
    Ok(Latency { raw, memory, disk })
}

async fn next_update(updates: &mut Updates<Log>, begun: Instant) -> Result<Duration> {
    loop {
        match updates.next().await {
            Some(Event::Update(_)) => return Ok(begun.elapsed()),
            Some(_) => {}
            None => return Err("the stream ended".into()),
        }
    }
}

async fn echo(server: Endpoint) -> Result<()> {
    let connection = server.accept().await.ok_or("closed")?.await?;
    let (mut send, mut recv) = connection.accept_bi().await?;
    let mut bytes = [0; PAYLOAD];
    loop {
        recv.read_exact(&mut bytes).await?;
        send.write_all(&bytes).await?;
    }
}
