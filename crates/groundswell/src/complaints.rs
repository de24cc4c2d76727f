//! What the log says of a part that fails: a line when that begins and one when it ends. Who uses it tries again and again,
//! and a full disk lasts.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::sync::lock;

/// How long nothing may have failed before the part counts as well again (10 s): beyond the longest wait of who tries again.
const WELL_AFTER: Duration = Duration::from_secs(10);

/// Whether a part fails.
pub(crate) struct Complaints {
    /// What it is called.
    part: &'static str,
    /// When it failed last, if it is not well again.
    failed: Mutex<Option<Instant>>,
}

impl Complaints {
    pub(crate) fn new(part: &'static str) -> Self {
        Self { part, failed: Mutex::default() }
    }

    /// It has failed.
    pub(crate) fn fails(&self, error: &dyn std::fmt::Display) {
        if lock(&self.failed).replace(Instant::now()).is_none() {
            let part = self.part;
            tracing::error!(%error, "{part} fails; what was acknowledged stands. This is told once until it works again");
        }
    }

    /// It has worked; whether that is the end of a failure.
    pub(crate) fn works(&self) -> bool {
        let mut failed = lock(&self.failed);
        let is_over = failed.is_some_and(|at| at.elapsed() >= WELL_AFTER);
        if is_over {
            *failed = None;
            tracing::warn!("{} works again", self.part);
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_told_once_and_only_when_nothing_fails_any_more() {
        let complaints = Complaints::new("the test");
        assert!(!complaints.works());
        complaints.fails(&"full");
        assert!(!complaints.works(), "it may fail again at once");
        let before = Instant::now().checked_sub(WELL_AFTER).unwrap();
        *lock(&complaints.failed) = Some(before);
        assert!(complaints.works());
        assert!(!complaints.works());
    }
}
