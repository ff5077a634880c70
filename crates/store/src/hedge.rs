//! When to ask a second copy: late enough to be rare, soon enough to matter.
//!
//! The wait follows the smoothed time of reads, between [`HEDGE_MIN`] and the configured maximum.
//! Hedges are paid for with credit that reads earn, so that a machine or network that is slow as a
//! whole does not get twice the load on top.

use crate::config::HEDGE_MIN;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// A hedge costs what this many reads earn.
const HEDGE_COST: i64 = 10;
/// Credit that can be saved: for so many hedges in a row.
const CREDIT_MAX: i64 = 32 * HEDGE_COST;
/// A read is late when it takes this many times the smoothed time.
const LATE_FACTOR: u64 = 8;
/// Weight of the newest sample: 1/16.
const SMOOTHING: u64 = 16;
/// Added to the wait for each MiB wanted.
const WAIT_PER_MIB: Duration = Duration::from_millis(10);

pub(crate) struct Hedge {
    longest: Duration,
    smoothed_us: AtomicU64,
    credit: AtomicI64,
}

impl Hedge {
    pub(crate) fn new(longest: Duration) -> Hedge {
        Hedge { longest, smoothed_us: AtomicU64::new(0), credit: AtomicI64::new(CREDIT_MAX) }
    }

    /// How long to wait before a second copy of `bytes` is asked for; `None`: do not.
    pub(crate) fn after(&self, bytes: usize) -> Option<Duration> {
        if self.credit.load(Ordering::Relaxed) < HEDGE_COST {
            return None;
        }
        let smoothed = match self.smoothed_us.load(Ordering::Relaxed) {
            0 => self.longest,
            us => Duration::from_micros(us * LATE_FACTOR),
        };
        let wait = smoothed.clamp(HEDGE_MIN.min(self.longest), self.longest);
        Some(wait + WAIT_PER_MIB * (bytes >> 20) as u32)
    }

    pub(crate) fn spend(&self) {
        self.credit.fetch_sub(HEDGE_COST, Ordering::Relaxed);
    }

    /// A read was answered after `took`. Races between threads lose a sample or a bit of credit.
    pub(crate) fn sample(&self, took: Duration) {
        if self.credit.load(Ordering::Relaxed) < CREDIT_MAX {
            self.credit.fetch_add(1, Ordering::Relaxed);
        }
        let sample = (took.as_micros() as u64).clamp(1, 10_000_000);
        let before = self.smoothed_us.load(Ordering::Relaxed);
        let after = if before == 0 {
            sample
        } else {
            (before * (SMOOTHING - 1) + sample).div_ceil(SMOOTHING)
        };
        self.smoothed_us.store(after, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_follows_the_nodes_within_its_limits() {
        let hedge = Hedge::new(Duration::from_millis(50));
        assert_eq!(hedge.after(4096), Some(Duration::from_millis(50)));
        hedge.sample(Duration::from_micros(100));
        assert_eq!(hedge.after(4096), Some(HEDGE_MIN));
        for _ in 0..200 {
            hedge.sample(Duration::from_millis(4));
        }
        assert_eq!(hedge.after(4096).unwrap().as_millis(), 32);
        for _ in 0..200 {
            hedge.sample(Duration::from_secs(1));
        }
        assert_eq!(hedge.after(4096), Some(Duration::from_millis(50)));
    }

    #[test]
    fn credit_runs_out_and_is_earned_back() {
        let hedge = Hedge::new(Duration::from_millis(50));
        let mut spent = 0;
        while hedge.after(1).is_some() {
            hedge.spend();
            spent += 1;
        }
        assert_eq!(spent, CREDIT_MAX / HEDGE_COST);
        for _ in 0..HEDGE_COST {
            hedge.sample(Duration::from_millis(1));
        }
        assert!(hedge.after(1).is_some());
    }
}
