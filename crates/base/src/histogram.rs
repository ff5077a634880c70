//! How long things take: counts by duration in atomic buckets, cheap enough for every request.
//!
//! Recording is two additions without a lock; threads may lose nothing, and a snapshot taken while
//! others record may be off by what is under way.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets, in microseconds; one more bucket takes what is longer. From a
/// request answered from memory to one that waited for a dead server.
pub const HISTOGRAM_BOUNDS_US: [u64; 20] = [
    5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000,
    500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

const BUCKETS: usize = HISTOGRAM_BOUNDS_US.len() + 1;

/// Durations counted in buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
}

/// A histogram as it stood at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HistogramCounts {
    /// How many were at most as long as the bound of the same place (and longer than the one
    /// before); the last one counts those beyond all bounds.
    pub buckets: [u64; BUCKETS],
    /// All durations together.
    pub sum: Duration,
}

impl Histogram {
    /// Counts one.
    pub fn record(&self, took: Duration) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = HISTOGRAM_BOUNDS_US.partition_point(|bound| bound * 1000 < ns);
        // Nothing is ordered by these.
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn counts(&self) -> HistogramCounts {
        let mut counts = HistogramCounts::default();
        for (count, bucket) in counts.buckets.iter_mut().zip(&self.buckets) {
            *count = bucket.load(Ordering::Relaxed);
        }
        counts.sum = Duration::from_nanos(self.sum_ns.load(Ordering::Relaxed));
        counts
    }
}

impl HistogramCounts {
    /// How many there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Adds what another one has counted.
    pub fn add(&mut self, other: &HistogramCounts) {
        self.buckets.iter_mut().zip(other.buckets).for_each(|(mine, theirs)| *mine += theirs);
        self.sum += other.sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_the_bucket_whose_bound_it_does_not_exceed() {
        let histogram = Histogram::default();
        for us in [0, 5, 6, 10_000_000, 10_000_001] {
            histogram.record(Duration::from_micros(us));
        }
        histogram.record(Duration::from_nanos(5_001));
        let counts = histogram.counts();
        assert_eq!((counts.buckets[0], counts.buckets[1]), (2, 2));
        assert_eq!((counts.buckets[BUCKETS - 2], counts.buckets[BUCKETS - 1]), (1, 1));
        assert_eq!(counts.count(), 6);
        assert_eq!(counts.sum, Duration::from_nanos(20_000_012_000 + 5_001));
    }

    #[test]
    fn bounds_grow() {
        assert!(HISTOGRAM_BOUNDS_US.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn sums_add_up() {
        let (one, two) = (Histogram::default(), Histogram::default());
        one.record(Duration::from_millis(1));
        two.record(Duration::from_millis(2));
        let mut all = one.counts();
        all.add(&two.counts());
        assert_eq!((all.count(), all.sum), (2, Duration::from_millis(3)));
    }
}
