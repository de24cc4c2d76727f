//! What is done to either store, and how it is measured: the same code for both.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use iroh_blobs::Hash;
use tokio::{sync::mpsc::UnboundedReceiver, task::JoinSet};

use super::VALUE_BYTES;
use crate::Result;

/// How long the other side may take to have everything before it counts as never.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is written.
pub(super) trait Store: Clone + Send + Sync + 'static {
    /// Writes a value and waits until that is acknowledged.
    fn set(&self, key: String, value: Vec<u8>) -> impl Future<Output = Result<()>> + Send;
}

/// The store at the side that writes, and the values that arrive at the other, with the moment of
/// the event. A task of its own reads the events, so that no event waits for a writer.
pub(super) struct Side<S> {
    pub(super) store: S,
    pub(super) arrivals: UnboundedReceiver<(Instant, Hash)>,
}

/// What a number of writers brought about.
#[derive(Debug)]
pub struct Burst {
    /// How many writes there were.
    pub writes: usize,
    /// Until the last was acknowledged.
    pub acknowledged: Duration,
    /// Until the other side had all of them, if it ever did.
    pub everywhere: Option<Duration>,
    /// How many it never had.
    pub missing: usize,
    /// How long each writer took for all of its writes.
    pub of_writers: Vec<Duration>,
    /// How long each write took.
    pub of_writes: Vec<Duration>,
}

/// A value that was not there before, and a key for it. All keys have the same length: in raw
/// iroh-docs a key erases longer ones that begin with it.
fn next() -> (String, Vec<u8>) {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::SeqCst);
    let mut value = vec![7; VALUE_BYTES];
    value[..8].copy_from_slice(&number.to_le_bytes());
    (format!("key/{number:012}"), value)
}

/// One write after another, each followed to the other side: how long each took.
pub(super) async fn latency<S: Store>(side: &mut Side<S>, writes: usize) -> Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(writes);
    for _ in 0..writes {
        let (key, value) = next();
        let hash = Hash::new(&value);
        let begun = Instant::now();
        side.store.set(key, value).await?;
        loop {
            let arrival = tokio::time::timeout(PATIENCE, side.arrivals.recv()).await?;
            let (at, arrived) = arrival.ok_or("the events have ended")?;
            if arrived == hash {
                times.push(at.saturating_duration_since(begun));
                break;
            }
        }
    }
    Ok(times)
}

/// One write after another: how long each took until it was acknowledged.
pub(super) async fn writes<S: Store>(side: &mut Side<S>, writes: usize) -> Result<Vec<Duration>> {
    Ok(burst(side, 1, writes).await?.of_writes)
}

/// So many writers at once, each with so many writes, one after another.
pub(super) async fn burst<S: Store>(side: &mut Side<S>, writers: usize, each: usize) -> Result<Burst> {
    let all: Vec<Vec<(String, Vec<u8>)>> =
        (0..writers).map(|_| std::iter::repeat_with(next).take(each).collect()).collect();
    let mut missing: HashSet<Hash> = all.iter().flatten().map(|(_, value)| Hash::new(value)).collect();
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for own in all {
        let store = side.store.clone();
        tasks.spawn(async move {
            let writer_begun = Instant::now();
            let mut times = Vec::with_capacity(own.len());
            for (key, value) in own {
                let begun = Instant::now();
                store.set(key, value).await?;
                times.push(begun.elapsed());
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((writer_begun.elapsed(), times))
        });
    }
    let (mut of_writers, mut of_writes) = (Vec::new(), Vec::new());
    while let Some(done) = tasks.join_next().await {
        let (whole, times) = done??;
        of_writers.push(whole);
        of_writes.extend(times);
    }
    let acknowledged = begun.elapsed();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut last = begun;
    while !missing.is_empty() {
        let Ok(arrival) = tokio::time::timeout_at(deadline, side.arrivals.recv()).await else { break };
        let (at, hash) = arrival.ok_or("the events have ended")?;
        if missing.remove(&hash) {
            last = last.max(at);
        }
    }
    let everywhere = missing.is_empty().then(|| last.saturating_duration_since(begun));
    let missing = missing.len();
    Ok(Burst { writes: writers * each, acknowledged, everywhere, missing, of_writers, of_writes })
}

/// Waits until this process has nothing more to do: what stores put off is over then. Returns the
/// processor time that the process has used so far, where it can be told.
pub(super) async fn settle() -> Duration {
    const LOOK: Duration = Duration::from_millis(200);
    // Longer than anything is put off: iroh-docs commits after half a second.
    const QUIET_LOOKS: u32 = 4;
    const PATIENCE_LOOKS: u32 = 300;
    let mut quiet = 0;
    let mut used = processor_time();
    for _ in 0..PATIENCE_LOOKS {
        // The time is under test: that nothing happens in it.
        tokio::time::sleep(LOOK).await;
        let now = processor_time();
        // A tick of the clock that counts processor time is 10 ms.
        quiet = if now.saturating_sub(used) <= Duration::from_millis(10) { quiet + 1 } else { 0 };
        used = now;
        if quiet >= QUIET_LOOKS {
            break;
        }
    }
    used
}

/// The processor time of this process, in ticks of 10 ms; nothing where there is no `/proc`.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, in parentheses, may hold spaces; what is wanted is behind it.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = rest.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
    Duration::from_millis(10 * ticks.sum::<u64>())
}
