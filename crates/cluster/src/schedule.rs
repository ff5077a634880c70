//! When a worker that does something every so often is to do it again.

use std::time::{Duration, SystemTime};

/// How long to rest still, or nothing if it is time. All in seconds since 1970, or seconds: when it
/// was done `last`, or first thought of, how often it is wanted, and whether it was `asked` for. A
/// clock that went back does not make the rest longer than `every`.
pub(crate) fn rest(last: u64, every: u64, asked: bool, now: u64) -> Option<Duration> {
    if asked {
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
    fn it_is_done_every_so_often_and_at_once_if_asked_for() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(rest(1_000, 3600, false, 1_000), seconds(3600));
        assert_eq!(rest(1_000, 3600, false, 4_599), seconds(1));
        assert_eq!(rest(1_000, 3600, false, 4_600), None);
        assert_eq!(rest(1_000, 3600, true, 1_002), None);
        assert_eq!(rest(9_000, 3600, false, 10), seconds(3600), "the clock went back");
    }
}
