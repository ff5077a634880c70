//! How fast a pass of the scrub goes: just fast enough to be over in time.

use std::time::Duration;

/// A pass goes at least so fast, in bytes a second: small volumes are done soon.
const BYTES_PER_SECOND_MIN: u64 = 1 << 20;

/// When the pass shall be over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    /// In seconds since 1970; `None`: as soon as may be.
    pub(super) until: Option<u64>,
}

impl Pace {
    /// How long to rest after `bytes` of the `left` that there were have been read in `took`.
    pub(super) fn rest(self, bytes: u64, left: u64, now: u64, took: Duration) -> Duration {
        let Some(until) = self.until else { return Duration::ZERO };
        let seconds = until.saturating_sub(now);
        if seconds == 0 {
            return Duration::ZERO;
        }
        let rate = (left / seconds).max(BYTES_PER_SECOND_MIN);
        Duration::from_secs_f64(bytes as f64 / rate as f64).saturating_sub(took)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn what_is_late_or_asked_for_does_not_rest() {
        let none = Duration::ZERO;
        assert_eq!(Pace { until: None }.rest(MIB, 100 * MIB, 5, none), none);
        assert_eq!(Pace { until: Some(5) }.rest(MIB, 100 * MIB, 5, none), none);
        assert_eq!(Pace { until: Some(5) }.rest(MIB, 100 * MIB, 6, none), none);
    }

    #[test]
    fn a_small_volume_goes_at_the_least_rate() {
        let week = Pace { until: Some(7 * 24 * 3600) };
        let rest = week.rest(MIB, 10 * MIB, 0, Duration::from_millis(100));
        assert_eq!(rest, Duration::from_millis(900));
    }

    proptest! {
        #[test]
        fn a_pass_is_over_in_time(
            total in 1..(1u64 << 44),
            seconds in 100..(30u64 * 24 * 3600),
            parts in 10..1000u64,
        ) {
            let pace = Pace { until: Some(seconds) };
            let (mut left, mut clock) = (total, 0.0);
            let bytes = total.div_ceil(parts);
            while left > 0 {
                let bytes = bytes.min(left);
                clock += pace.rest(bytes, left, clock as u64, Duration::ZERO).as_secs_f64();
                left -= bytes;
            }
            // Whole seconds are counted, so the last step may end a little late.
            let step = seconds as f64 / parts as f64;
            prop_assert!(clock <= seconds as f64 + step + 1.0, "{clock} of {seconds}");
        }
    }
}
