//! CPU time of this process and of others.

use std::time::Duration;

/// User and system time of this process so far. /proc/self/stat would tell it to 10 ms only.
pub fn own() -> Duration {
    // SAFETY: `rusage` is plain numbers, for which zeros are valid, and getrusage fills it in.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let micros = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
    Duration::from_micros(micros(usage.ru_utime) + micros(usage.ru_stime))
}

/// User and system time of other processes so far; one that is gone counts nothing.
pub fn of(pids: &[u32]) -> Duration {
    let ticks: u64 = pids.iter().filter_map(|pid| ticks_of(*pid)).sum();
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn ticks_of(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in field 2 may hold anything, also spaces and parentheses.
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn both_ways_see_work() {
        let (own_before, of_before) = (own(), of(&[std::process::id()]));
        let begun = Instant::now();
        let mut x = 1u64;
        while own() - own_before < Duration::from_millis(60) {
            x = std::hint::black_box(x.wrapping_mul(6_364_136_223_846_793_005) + 1);
            assert!(begun.elapsed() < Duration::from_secs(60));
        }
        assert!(of(&[std::process::id()]) - of_before >= Duration::from_millis(30));
        assert_eq!(of(&[u32::MAX]), Duration::ZERO);
    }
}
