//! When a worker that does something every so often is to do it again.

use std::time::{Duration, SystemTime};

/// How long to rest still, or nothing if it is time. All in seconds since 1970, or seconds: when it
/// was done `last` (0 = never), how often it is wanted, and when somebody `asked` for it. A clock
/// that went back does not make the rest longer than `every`.
pub(crate) fn rest(last: u64, every: u64, asked: u64, now: u64) -> Option<Duration> {
    if last == 0 || asked > last {
        return None;
    }
    let left = (last.saturating_add(every)).saturating_sub(now).min(every);
    (left > 0).then(|| Duration::from_secs(left))
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_done_at_once_if_never_done_or_asked_for_and_else_every_so_often() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(rest(0, 3600, 0, 1_000_000), None);
        assert_eq!(rest(1_000, 3600, 0, 1_000), seconds(3600));
        assert_eq!(rest(1_000, 3600, 0, 4_599), seconds(1));
        assert_eq!(rest(1_000, 3600, 0, 4_600), None);
        assert_eq!(rest(1_000, 3600, 1_001, 1_002), None, "asked for since");
        assert_eq!(rest(1_000, 3600, 900, 1_002), seconds(3598), "done since it was asked for");
        assert_eq!(rest(9_000, 3600, 0, 10), seconds(3600), "the clock went back");
    }
}
