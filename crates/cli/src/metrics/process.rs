//! What the kernel says of this process, in the words that all Prometheus clients use.

use std::fs;

/// This process at one moment. What cannot be read is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessFacts {
    /// CPU time of all threads, in seconds.
    pub cpu_seconds: Option<f64>,
    /// Memory in RAM, in bytes.
    pub resident_bytes: Option<u64>,
    /// Memory mapped, in bytes.
    pub virtual_bytes: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// File descriptors in use.
    pub open_fds: Option<u64>,
    /// Most of them.
    pub max_fds: Option<u64>,
    /// When it began, in seconds since 1970.
    pub start_seconds: Option<f64>,
}

/// Ticks of the kernel's clock in /proc, in a second: fixed for programs on Linux.
const TICKS_PER_SECOND: f64 = 100.0;

impl ProcessFacts {
    /// Reads /proc, which waits for nothing.
    pub fn read() -> ProcessFacts {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let mut facts = parse(&text("/proc/self/stat"), &text("/proc/stat"), page_bytes());
        // Without the one that reads the directory.
        facts.open_fds =
            fs::read_dir("/proc/self/fd").ok().map(|all| (all.count() as u64).saturating_sub(1));
        facts.max_fds = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        facts
    }
}

fn page_bytes() -> u64 {
    rustix::param::page_size() as u64
}

/// From the lines of proc(5).
fn parse(stat: &str, system: &str, page_bytes: u64) -> ProcessFacts {
    // The name may have spaces and brackets; the third field comes after the last bracket.
    let fields: Vec<&str> =
        stat.rsplit_once(')').map_or(Vec::new(), |(_, rest)| rest.split_whitespace().collect());
    let field = |number: usize| -> Option<u64> { fields.get(number - 3)?.parse().ok() };
    let boot = system.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
    let seconds = |ticks: u64| ticks as f64 / TICKS_PER_SECOND;
    ProcessFacts {
        cpu_seconds: field(14).zip(field(15)).map(|(user, system)| seconds(user + system)),
        threads: field(20),
        start_seconds: field(22).zip(boot).map(|(at, boot): (u64, u64)| boot as f64 + seconds(at)),
        virtual_bytes: field(23),
        resident_bytes: field(24).map(|pages| pages * page_bytes),
        ..ProcessFacts::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{SystemTime, UNIX_EPOCH};

    #[test]
    fn this_process_is_understood() {
        let facts = ProcessFacts::read();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let began = facts.start_seconds.unwrap();
        assert!(began <= now + 2.0 && now - began < 86_400.0, "{began} {now}");
        assert!(facts.resident_bytes.unwrap() > 100_000);
        assert!(facts.virtual_bytes >= facts.resident_bytes);
        assert!(facts.open_fds.unwrap() >= 3 && facts.max_fds >= facts.open_fds);
        assert!(facts.threads.unwrap() >= 1 && facts.cpu_seconds.is_some());
    }

    #[test]
    fn odd_names_do_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 1 1 0 -1 0 0 0 0 0 150 50 0 0 20 0 3 0 1000 4096 2 0";
        let facts = parse(stat, "cpu 1\nbtime 1000000\n", 4096);
        assert_eq!(facts.cpu_seconds, Some(2.0));
        assert_eq!((facts.threads, facts.virtual_bytes), (Some(3), Some(4096)));
        assert_eq!((facts.resident_bytes, facts.start_seconds), (Some(8192), Some(1_000_010.0)));
        assert_eq!(parse("", "", 4096), ProcessFacts::default());
        assert_eq!(parse("1 (x) S", "btime y", 4096), ProcessFacts::default());
    }
}
