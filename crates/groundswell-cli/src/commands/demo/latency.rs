//! How long things take: counted in buckets, so that a demo of any length needs no more memory.

use std::time::Duration;

/// Buckets for each doubling of the time: a figure is exact to one part in 32.
const STEPS: usize = 32;
const STEP_BITS: u32 = STEPS.trailing_zeros();

/// Times, counted.
pub(super) struct Latency {
    counts: Vec<u64>,
    count: u64,
    max: Duration,
}

impl Latency {
    pub(super) fn new() -> Self {
        let buckets = bucket(u64::MAX) + 1;
        Self { counts: vec![0; buckets], count: 0, max: Duration::ZERO }
    }

    /// Counts one.
    pub(super) fn add(&mut self, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanoseconds)] += 1;
        self.count += 1;
        self.max = self.max.max(took);
    }

    /// How many were counted.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The longest, exactly.
    pub(super) fn max(&self) -> Duration {
        self.max
    }

    /// The time that this share of all took at most.
    pub(super) fn quantile(&self, share: f64) -> Duration {
        // The share of a count is a count: rounding up is what is meant.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let wanted = (self.count as f64 * share).ceil() as u64;
        let mut below = 0;
        for (index, count) in self.counts.iter().enumerate() {
            below += count;
            if below >= wanted && below > 0 {
                return Duration::from_nanos(highest(index)).min(self.max);
            }
        }
        self.max
    }
}

/// The bucket of a time.
fn bucket(nanoseconds: u64) -> usize {
    if nanoseconds < STEPS as u64 {
        return usize::try_from(nanoseconds).unwrap_or(0);
    }
    let doubling = nanoseconds.ilog2();
    let step = (nanoseconds >> (doubling - STEP_BITS)) & (STEPS as u64 - 1);
    (doubling - STEP_BITS + 1) as usize * STEPS + usize::try_from(step).unwrap_or(0)
}

/// The longest time of a bucket.
fn highest(bucket: usize) -> u64 {
    let (doubling, step) = (bucket / STEPS, (bucket % STEPS) as u64);
    if doubling == 0 {
        return step;
    }
    let unit = doubling - 1;
    let lowest = (STEPS as u64 + step) << unit;
    lowest + ((1 << unit) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_has_its_bucket() {
        let times = (0..64).flat_map(|bit| [1_u64 << bit, (1 << bit) + 1, (1_u64 << bit).wrapping_sub(1)]);
        for time in times.chain([0, u64::MAX, 123_456_789]) {
            let top = highest(bucket(time));
            assert!(top >= time, "{time} is in a bucket up to {top}");
            assert!(bucket(time) == bucket(top), "{time} and {top} share a bucket");
            assert!(top - time <= time / STEPS as u64, "{time} is shown as {top}");
        }
    }

    #[test]
    fn quantiles_are_where_they_belong() {
        let mut latency = Latency::new();
        assert_eq!(latency.quantile(0.5), Duration::ZERO);
        (1..=1_000).for_each(|ms| latency.add(Duration::from_millis(ms)));
        let near = |share: f64, ms: u64| {
            let found = latency.quantile(share).as_millis() as u64;
            assert!(found >= ms && found <= ms + ms / 32 + 1, "{share} is at {found} ms");
        };
        near(0.5, 500);
        near(0.99, 990);
        assert_eq!(latency.quantile(1.0), latency.max());
        assert_eq!((latency.count(), latency.max()), (1_000, Duration::from_secs(1)));
    }
}
