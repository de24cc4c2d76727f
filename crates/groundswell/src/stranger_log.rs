//! One line of log a second for everything that strangers cause, whatever it is, so that nobody can fill a disk from outside.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::sync::lock;

/// How long a line keeps others from being written.
const EVERY: Duration = Duration::from_secs(1);

/// Says when a line may be written of what strangers cause.
#[derive(Debug, Default)]
pub struct StrangerLog(Mutex<Lines>);

#[derive(Debug, Default)]
struct Lines {
    last: Option<Instant>,
    left_out: u64,
}

impl StrangerLog {
    /// Whether a line may be written now, and how many were left out before it. Ask once for each line.
    pub fn line(&self) -> Option<u64> {
        self.line_at(Instant::now())
    }

    fn line_at(&self, now: Instant) -> Option<u64> {
        let mut lines = lock(&self.0);
        if lines.last.is_some_and(|last| now.saturating_duration_since(last) < EVERY) {
            lines.left_out += 1;
            return None;
        }
        lines.last = Some(now);
        Some(std::mem::take(&mut lines.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_one_line_which_counts_those_left_out() {
        let (log, begun) = (StrangerLog::default(), Instant::now());
        assert_eq!(log.line_at(begun), Some(0));
        for n in 0..1_000 {
            assert_eq!(log.line_at(begun + Duration::from_micros(999 * n)), None);
        }
        assert_eq!(log.line_at(begun + EVERY), Some(1_000));
        assert_eq!(log.line_at(begun + EVERY * 5), Some(0));
    }
}
