//! Moments: how long ago something was, whatever happens to the wall clock.

use std::time::{Duration, Instant, SystemTime};

use serde::{Serialize, Serializer};

/// A moment in this run of the program, by the system's monotonic clock.
///
/// How long ago it was does not change when somebody sets the wall clock, as a device does that has no clock of its own
/// and learns the time after its start. What the wall clock shows for it is derived when it is asked for, so it follows
/// the clock. As JSON it is that, in milliseconds since 1970.
///
/// On Linux the monotonic clock stands still while the device is suspended: such a time is left out.
///
/// ```
/// use groundswell::Moment;
/// let then = Moment::now();
/// assert!(then.elapsed() < std::time::Duration::from_secs(60));
/// assert!(then.wall() <= std::time::SystemTime::now());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(Instant);

impl Moment {
    /// This moment.
    pub fn now() -> Self {
        Self(Instant::now())
    }

    /// The moment that was so long ago.
    pub fn ago(duration: Duration) -> Self {
        let now = Instant::now();
        // A clock that began later than that has no such moment.
        Self(now.checked_sub(duration).unwrap_or(now))
    }

    /// How long ago it was.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    /// What this device's wall clock shows for it now; for people.
    pub fn wall(self) -> SystemTime {
        let (elapsed, now) = (self.elapsed(), SystemTime::now());
        now.checked_sub(elapsed).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// The same in milliseconds since 1970; 0 where the clock shows an earlier time.
    pub fn unix_ms(self) -> u64 {
        milliseconds(self.wall())
    }

    pub(crate) fn instant(self) -> Instant {
        self.0
    }
}

impl From<Instant> for Moment {
    fn from(at: Instant) -> Self {
        Self(at)
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.unix_ms())
    }
}

/// A time of the wall clock as milliseconds since 1970; 0 for one that is before it.
pub(crate) fn milliseconds(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_as_long_ago_as_it_was() {
        let then = Moment::ago(Duration::from_secs(7));
        assert!((7..60).contains(&then.elapsed().as_secs()));
        let shown = SystemTime::now().duration_since(then.wall()).unwrap();
        assert!((6..60).contains(&shown.as_secs()), "{shown:?}");
        assert_eq!(serde_json::to_value(then).unwrap().as_u64().map(|ms| ms / 100_000), Some(then.unix_ms() / 100_000));
        assert!(then < Moment::now());
    }

    #[test]
    fn a_moment_before_the_clock_began_is_no_panic() {
        let _ = (Moment::ago(Duration::MAX).wall(), Moment::ago(Duration::MAX).unix_ms());
    }
}
