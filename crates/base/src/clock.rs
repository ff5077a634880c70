//! The seam through which wall-clock time enters, so that tests can turn the clock.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970-01-01 UTC, from 1677 to 2262. Stored as is in inodes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// From seconds and nanoseconds; what does not fit is clamped, as ext4 and XFS do.
    pub fn from_parts(seconds: i64, nanoseconds: u32) -> Timestamp {
        let total = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
        Timestamp(total.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64)
    }

    /// Whole seconds, rounded down.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }

    /// Nanoseconds past [`Self::seconds`], below 1,000,000,000.
    pub fn subsec_nanos(self) -> u32 {
        self.0.rem_euclid(1_000_000_000) as u32
    }
}

/// Where wall-clock time comes from. It stamps files; it never decides about safety.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => Timestamp::from_parts(after.as_secs() as i64, after.subsec_nanos()),
            Err(before) => {
                Timestamp((-(before.duration().as_nanos() as i128)).max(i64::MIN.into()) as i64)
            }
        }
    }
}

/// A clock that stands still until it is told to move; for tests.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that shows `start`.
    pub fn new(start: Timestamp) -> ManualClock {
        ManualClock(AtomicI64::new(start.0))
    }
    /// Turns the clock, forward or back.
    pub fn set(&self, to: Timestamp) {
        self.0.store(to.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_before_1970_keep_nanoseconds_positive() {
        let t = Timestamp::from_parts(-2, 500_000_000);
        assert_eq!((t.seconds(), t.subsec_nanos()), (-2, 500_000_000));
    }

    #[test]
    fn far_future_is_clamped_and_not_wrapped() {
        assert_eq!(Timestamp::from_parts(i64::MAX, 0).0, i64::MAX);
    }
}
