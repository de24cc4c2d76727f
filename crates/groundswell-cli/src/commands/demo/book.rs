//! The books of the store: what was written on one side of a pair, what the other side saw of it, and
//! how long that took, by the one clock of this process.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use groundswell::KvEntry;
use tokio::sync::watch;

use super::latency::Latency;

/// How many writes of a key are remembered until they are seen.
const MAX_UNDER_WAY: usize = 4_096;

/// The books of all pairs.
pub(super) struct Book {
    pairs: Vec<Mutex<Writes>>,
    /// How many writes the other side has not seen.
    under_way: watch::Sender<usize>,
    writes: AtomicU64,
    events: AtomicU64,
    live: AtomicU64,
    skipped: AtomicU64,
    latency: Mutex<Latency>,
}

/// What was written in one pair. Each key has one writer.
#[derive(Default)]
struct Writes {
    keys: BTreeMap<String, VecDeque<Write>>,
    /// The two do not reach each other: how long a write takes now says how long that lasts.
    away: bool,
}

/// A write that was not seen yet, and when it was begun, if it is to be measured.
struct Write {
    value: String,
    begun: Option<Instant>,
}

/// The sums of all books.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoreTotals {
    /// Writes that were acknowledged.
    pub(super) writes: u64,
    /// Events of them at the other side.
    pub(super) events: u64,
    /// Those that were live, and whose time was taken.
    pub(super) measured: u64,
    /// Writes that were replaced before the other side's reader got to them.
    pub(super) skipped: u64,
}

impl Book {
    pub(super) fn new(pairs: usize) -> Self {
        Self {
            pairs: (0..pairs).map(|_| Mutex::new(Writes { away: true, ..Writes::default() })).collect(),
            under_way: watch::Sender::new(0),
            writes: AtomicU64::new(0),
            events: AtomicU64::new(0),
            live: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            latency: Mutex::new(Latency::new()),
        }
    }

    /// A key is about to be written.
    pub(super) fn writing(&self, pair: usize, key: &str, value: &str) {
        let mut writes = lock(&self.pairs[pair]);
        let begun = (!writes.away).then(Instant::now);
        let of_key = writes.keys.entry(key.to_owned()).or_default();
        let dropped = of_key.len() == MAX_UNDER_WAY && of_key.pop_front().is_some();
        of_key.push_back(Write { value: value.to_owned(), begun });
        drop(writes);
        if dropped {
            self.skipped.fetch_add(1, Ordering::Relaxed);
        } else {
            self.under_way.send_modify(|count| *count += 1);
        }
    }

    /// It is written.
    pub(super) fn written(&self) {
        self.writes.fetch_add(1, Ordering::Relaxed);
    }

    /// The other side saw an entry. One that was seen before, as after a restart, is not counted again.
    pub(super) fn saw(&self, pair: usize, entry: &KvEntry, live: bool) {
        let now = Instant::now();
        let key = String::from_utf8_lossy(entry.key.as_bytes());
        let mut writes = lock(&self.pairs[pair]);
        let Some(of_key) = writes.keys.get_mut(&*key) else { return };
        // The oldest with this value: where a value came twice, a time is rather too long than too short.
        let Some(place) = of_key.iter().position(|write| write.value.as_bytes() == entry.value) else { return };
        let begun = of_key.drain(..=place).next_back().and_then(|write| write.begun);
        drop(writes);
        self.events.fetch_add(1, Ordering::Relaxed);
        self.skipped.fetch_add(place as u64, Ordering::Relaxed);
        if let Some(begun) = begun.filter(|_| live) {
            self.live.fetch_add(1, Ordering::Relaxed);
            lock(&self.latency).add(now.saturating_duration_since(begun));
        }
        self.under_way.send_modify(|count| *count -= place + 1);
    }

    /// Whether the two sides of a pair reach each other changed.
    pub(super) fn set_away(&self, pair: usize, away: bool) {
        let mut writes = lock(&self.pairs[pair]);
        writes.away = away;
        if away {
            writes.keys.values_mut().flatten().for_each(|write| write.begun = None);
        }
    }

    /// Waits until the newest write of every key was seen.
    pub(super) async fn settled(&self) {
        // The sender is in the book, which outlives this.
        let _ = self.under_way.subscribe().wait_for(|count| *count == 0).await;
    }

    pub(super) fn latency(&self) -> MutexGuard<'_, Latency> {
        lock(&self.latency)
    }

    pub(super) fn totals(&self) -> StoreTotals {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StoreTotals {
            writes: get(&self.writes),
            events: get(&self.events),
            measured: get(&self.live),
            skipped: get(&self.skipped),
        }
    }
}

/// A panic elsewhere has not left any of this half-written.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use groundswell::{KvAuthor, KvKey};

    use super::*;

    fn entry(value: &'static str) -> KvEntry {
        KvEntry { key: KvKey::new("stock").unwrap(), value: value.into(), author: KvAuthor::Machine, timestamp: 0 }
    }

    #[tokio::test]
    async fn what_is_seen_is_booked_against_what_was_written() {
        let book = Book::new(1);
        book.set_away(0, false);
        for value in ["3", "2", "1"] {
            book.writing(0, "stock", value);
            book.written();
        }
        // One is skipped, and one was seen before.
        book.saw(0, &entry("2"), true);
        book.saw(0, &entry("2"), true);
        assert_eq!(book.totals(), StoreTotals { writes: 3, events: 1, measured: 1, skipped: 1 });
        // What is under way when the line breaks is not measured.
        book.set_away(0, true);
        book.saw(0, &entry("1"), true);
        assert_eq!(book.totals(), StoreTotals { writes: 3, events: 2, measured: 1, skipped: 1 });
        assert_eq!(book.latency().count(), 1);
        book.settled().await;
    }
}
