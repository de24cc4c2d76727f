//! How measured times spread.

use std::{fmt, time::Duration};

/// Measured times, in order.
#[derive(Debug, Clone, Default)]
pub struct Spread(Vec<Duration>);

impl Spread {
    /// Of these times.
    pub fn of(mut times: Vec<Duration>) -> Self {
        times.sort();
        Self(times)
    }

    /// Of all these together.
    pub fn all(spreads: &[Self]) -> Self {
        Self::of(spreads.iter().flat_map(|spread| spread.0.iter().copied()).collect())
    }

    /// The time that so many hundredths of all do not exceed; 0 where there are none.
    pub fn percentile(&self, percent: usize) -> Duration {
        let last = self.0.len().saturating_sub(1);
        self.0.get((self.0.len() * percent / 100).min(last)).copied().unwrap_or_default()
    }

    /// The median.
    pub fn median(&self) -> Duration {
        self.percentile(50)
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = |percent| self.percentile(percent).as_secs_f64() * 1e6;
        write!(f, "p50 {:.1} us, p90 {:.1} us, p99 {:.1} us (n = {})", micros(50), micros(90), micros(99), self.0.len())
    }
}
