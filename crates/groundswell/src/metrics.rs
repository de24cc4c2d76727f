//! Counters of what a node does since it was started, and how long it takes: one table for states and for keys.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde::{Serialize, Serializer, ser::SerializeMap};

/// Declares the metrics, their snapshot and their table together, so that none is forgotten in one.
macro_rules! metrics {
    (
        counters: { $($(#[doc = $count_doc:literal])* $count:ident,)* }
        times: { $($(#[doc = $time_doc:literal])* $time:ident,)* }
    ) => {
        /// The metrics, as the parts of the node count.
        #[derive(Debug, Default)]
        pub(crate) struct Metrics {
            $(pub(crate) $count: Counter,)*
            $(pub(crate) $time: Times,)*
        }

        /// The metrics of a node at one moment. Each counts since the node was started, except those that say *now*.
        ///
        /// It is printed as a table, and serialized as one object of whole numbers, where [`TimesSnapshot`] has five.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct MetricsSnapshot {
            $($(#[doc = $count_doc])* pub $count: u64,)*
            $($(#[doc = $time_doc])* pub $time: TimesSnapshot,)*
        }

        impl Metrics {
            pub(crate) fn snapshot(&self) -> MetricsSnapshot {
                MetricsSnapshot { $($count: self.$count.get(),)* $($time: self.$time.snapshot(),)* }
            }
        }

        impl MetricsSnapshot {
            /// The rows of the table, in its order.
            pub fn rows(&self) -> Vec<Metric> {
                vec![
                    $(Metric {
                        name: stringify!($count),
                        about: concat!($($count_doc),*).trim_ascii(),
                        value: MetricValue::Count(self.$count),
                    },)*
                    $(Metric {
                        name: stringify!($time),
                        about: concat!($($time_doc),*).trim_ascii(),
                        value: MetricValue::Times(self.$time),
                    },)*
                ]
            }
        }
    };
}

/// A row of the table of a node's metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// Its name: lower case, with underscores.
    pub name: &'static str,
    /// What it counts, in a sentence.
    pub about: &'static str,
    /// How many, or how long.
    pub value: MetricValue,
}

/// What a row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricValue {
    /// So many.
    Count(u64),
    /// It took so long.
    Times(TimesSnapshot),
}

impl fmt::Display for MetricValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Times(times) => times.fmt(f),
        }
    }
}

/// How long something took, over all times that it happened. Where nothing else is said, a figure is at most an eighth above the
/// true one, and never below it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TimesSnapshot {
    /// How often it happened.
    pub count: u64,
    /// How long it took in all. This figure is exact.
    pub total: Duration,
    /// Half of the times took no longer.
    pub median: Duration,
    /// 99 % of the times took no longer.
    pub p99: Duration,
    /// None took longer.
    pub longest: Duration,
}

impl fmt::Display for TimesSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count == 0 {
            return f.write_str("0");
        }
        let Self { count, median, p99, longest, .. } = self;
        write!(f, "{count}: median {median:.1?}, 99 % {p99:.1?}, longest {longest:.1?}")
    }
}

impl fmt::Display for MetricsSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<(&str, String, &str)> =
            self.rows().into_iter().map(|row| (row.name, row.value.to_string(), row.about)).collect();
        let width = |of: fn(&(&str, String, &str)) -> usize| rows.iter().map(of).max().unwrap_or(0);
        let (name_width, value_width) = (width(|row| row.0.len()), width(|row| row.1.len()));
        rows.iter()
            .try_for_each(|(name, value, about)| writeln!(f, "{name:name_width$}  {value:value_width$}  {about}"))
    }
}

impl Serialize for MetricsSnapshot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let mut map = serializer.serialize_map(None)?;
        for Metric { name, value, .. } in self.rows() {
            match value {
                MetricValue::Count(count) => map.serialize_entry(name, &count)?,
                MetricValue::Times(TimesSnapshot { count, total, median, p99, longest }) => {
                    map.serialize_entry(&format!("{name}_count"), &count)?;
                    let times = [("total", total), ("median", median), ("p99", p99), ("longest", longest)];
                    for (which, time) in times {
                        map.serialize_entry(&format!("{name}_{which}_nanoseconds"), &nanoseconds(time))?;
                    }
                }
            }
        }
        map.end()
    }
}

metrics! {
    counters: {
    /// Waves that agents of this node gave and that are durable.
    waves_given,
    /// Waves that a wash refused.
    waves_refused,
    /// Waves sent to remote readers, each reader counted.
    waves_sent,
    /// Waves of remote publications applied to replicas.
    waves_applied,
    /// Rocks encoded: to be stored, or to be compared with a publisher's digest.
    rocks_made,
    /// Nanoseconds spent making them.
    rock_nanoseconds,
    /// Rocks sent to remote readers.
    rocks_sent,
    /// Rocks received from remote publications.
    rocks_received,
    /// Replicas found to differ from their publication.
    divergences,
    /// Remote readers that resumed by their cursor.
    resumes,
    /// Requests of remote readers that were refused.
    refusals,
    /// Violations of the protocol by peers.
    violations,
    /// Local readers now.
    local_readers_now,
    /// Remote readers now, the parked ones included.
    remote_readers_now,
    /// Remote readers now that wait for a path that is not available.
    parked_readers_now,
    /// Replicas now.
    replicas_now,
    /// Streams on the wire now on which this node follows a remote publication.
    streams_followed_now,
    /// Connections now.
    connections_now,
    /// Handshakes that came to nothing: they took too long, or newer ones needed their place.
    handshakes_given_up,
    /// Newcomers that had to show first that their address is their own, since many handshakes were under way.
    addresses_validated,
    /// First packets of newcomers that were ignored, since the node was crowded and takes so many a second.
    newcomers_put_off,
    /// Connections that were refused for who the peer is: one with too many, unknown to a private node, or without room.
    connections_refused,
    /// Connections of strangers that were closed to make room for newer ones.
    strangers_evicted,
    /// Connections of followers that were closed to make room for newer ones.
    followers_evicted,
    /// Bytes of frames sent, for states and for keys.
    bytes_sent,
    /// Bytes of frames received, for states and for keys.
    bytes_received,
    /// Transactions of states made durable.
    commits,
    /// Transactions of states that failed.
    commit_failures,
    /// Rocks copied because a reader held one for longer than the driver waits.
    rocks_copied,
    /// Values that were put here and that are durable.
    keys_put,
    /// Keys that were deleted here, durably.
    keys_deleted,
    /// Transactions of keys made durable.
    key_commits,
    /// Transactions of keys that failed.
    key_commit_failures,
    /// Entries of keys sent to other sides.
    entries_sent,
    /// Entries of keys received from other sides and made durable.
    entries_received,
    /// Sessions of documents now: one for each pair that is connected.
    documents_online_now,
    /// Sessions of documents that were begun.
    document_sessions,
    /// Reconciliations that came to an end.
    reconciliations,
    /// Reconciliations that found differences.
    reconciliations_unlike,
    }
    times: {
    /// From a give to its answer: the waves are durable and shown here.
    give_time,
    /// From a write of a key to its answer: it is durable and shown here.
    key_write_time,
    /// How long transactions of states took to be durable.
    commit_time,
    /// How long transactions of keys took to be durable.
    key_commit_time,
    }
}

/// One counter.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn less(&self, less: u64) {
        self.0.fetch_sub(less, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counter {
    /// Counts one more for as long as what this returns is kept.
    pub(crate) fn while_kept(&self) -> impl Drop + '_ {
        self.add(1);
        Kept(self)
    }
}

struct Kept<'a>(&'a Counter);

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.0.less(1);
    }
}

/// In how many parts a histogram divides each power of two.
const PARTS: usize = 8;

/// The steps of a histogram, up to the longest time that 64 bits of nanoseconds hold.
const STEPS: usize = 64 * PARTS;

/// A histogram of times.
#[derive(Debug)]
pub(crate) struct Times {
    steps: [AtomicU64; STEPS],
    nanoseconds: Counter,
}

impl Default for Times {
    fn default() -> Self {
        Self { steps: [const { AtomicU64::new(0) }; STEPS], nanoseconds: Counter::default() }
    }
}

/// In which step a time is.
fn step_of(nanoseconds: u64) -> usize {
    // The first few have a step each.
    let Some(power) = nanoseconds.checked_ilog2().filter(|power| *power >= PARTS.ilog2()) else {
        return nanoseconds as usize;
    };
    let part = (nanoseconds >> (power - PARTS.ilog2())) as usize % PARTS;
    (power - PARTS.ilog2() + 1) as usize * PARTS + part
}

/// The longest time of a step.
fn last_of(step: usize) -> u64 {
    if step < PARTS {
        return step as u64;
    }
    let (power, part) = (step / PARTS - 1, step % PARTS);
    let next = ((PARTS + part + 1) as u128) << power;
    u64::try_from(next - 1).unwrap_or(u64::MAX)
}

impl Times {
    pub(crate) fn note(&self, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if let Some(step) = self.steps.get(step_of(nanoseconds)) {
            step.fetch_add(1, Ordering::Relaxed);
        }
        self.nanoseconds.add(nanoseconds);
    }

    pub(crate) fn snapshot(&self) -> TimesSnapshot {
        let steps: Vec<u64> = self.steps.iter().map(|step| step.load(Ordering::Relaxed)).collect();
        let count = steps.iter().sum();
        // The step in which so many times have passed.
        let after = |times: u64| {
            let mut passed = 0;
            let step = steps.iter().position(|here| {
                passed += here;
                passed >= times.max(1)
            });
            Duration::from_nanos(step.map_or(0, last_of))
        };
        TimesSnapshot {
            count,
            total: Duration::from_nanos(self.nanoseconds.get()),
            median: after(count.div_ceil(2)),
            p99: after(count - count / 100),
            longest: after(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_table_and_the_object_have_every_metric() {
        let metrics = Metrics::default();
        metrics.waves_given.add(3);
        metrics.keys_put.add(u64::MAX);
        metrics.give_time.note(Duration::from_millis(7));
        let snapshot = metrics.snapshot();
        let table = snapshot.to_string();
        assert_eq!(table.lines().count(), snapshot.rows().len());
        for row in snapshot.rows() {
            assert!(table.lines().any(|line| line.starts_with(row.name) && line.ends_with(row.about)), "{}", row.name);
            assert!(row.about.ends_with('.') && row.about.len() > 10, "{}: {}", row.name, row.about);
        }
        assert!(table.lines().any(|line| line.starts_with("give_time ") && line.contains("  1: median 7.")), "{table}");
        let object = serde_json::to_value(&snapshot).unwrap();
        let object = object.as_object().unwrap();
        let times = snapshot.rows().iter().filter(|row| matches!(row.value, MetricValue::Times(_))).count();
        assert_eq!(object.len(), snapshot.rows().len() + 4 * times);
        assert_eq!(object["keys_put"], u64::MAX);
        assert_eq!(
            (&object["give_time_count"], &object["give_time_total_nanoseconds"]),
            (&1.into(), &7_000_000.into())
        );
        assert!(object.values().all(serde_json::Value::is_u64));
    }

    #[test]
    fn a_metric_that_says_now_goes_down_again() {
        let counter = Counter::default();
        let (first, second) = (counter.while_kept(), counter.while_kept());
        assert_eq!(counter.get(), 2);
        drop(first);
        assert_eq!(counter.get(), 1);
        drop(second);
        assert_eq!(counter.get(), 0);
    }

    proptest! {
        /// A step is an eighth wide at most, and the steps follow one another.
        #[test]
        fn each_time_is_in_a_step_that_ends_soon_after_it(nanoseconds in prop_oneof![any::<u64>(), 0_u64..5_000]) {
            let step = step_of(nanoseconds);
            prop_assert!(step < STEPS);
            let last = last_of(step);
            prop_assert!(last >= nanoseconds && (last - nanoseconds) as f64 <= nanoseconds as f64 / 8.0, "{last}");
            prop_assert!(step == 0 || last_of(step - 1) < nanoseconds);
        }

        /// The figures of a histogram are those of the sorted times, and a bit more.
        #[test]
        fn the_figures_are_those_of_the_times(mut times in prop::collection::vec(0_u64..1 << 40, 1..300)) {
            let noted = Times::default();
            times.iter().for_each(|time| noted.note(Duration::from_nanos(*time)));
            times.sort_unstable();
            let TimesSnapshot { count, total, median, p99, longest } = noted.snapshot();
            prop_assert_eq!(count, times.len() as u64);
            prop_assert_eq!(total, Duration::from_nanos(times.iter().sum()));
            let rank = |part: usize| times[part - 1];
            let true_ones = [rank(times.len().div_ceil(2)), rank(times.len() - times.len() / 100), rank(times.len())];
            for (seen, true_one) in [median, p99, longest].into_iter().zip(true_ones) {
                let seen = seen.as_nanos() as u64;
                prop_assert!(seen >= true_one && seen as f64 <= true_one as f64 * 1.125, "{seen} for {true_one}");
            }
        }
    }
}
