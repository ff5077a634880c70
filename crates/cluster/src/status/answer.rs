//! What a server says of itself when it is asked how it is.

use super::{NodeReport, NodeState};
use ringfs_link::{Cmd, LinkError};
use std::time::{Duration, Instant};

/// What a server said.
pub(super) struct Answer {
    info: Result<String, LinkError>,
    latency: Option<Duration>,
}

impl Answer {
    pub(super) fn of(pool: &ringfs_link::Pool) -> Answer {
        let ask = || {
            let mut conn = pool.get()?;
            let info = conn.call(&Cmd::new("INFO"))?.into_some_bytes()?;
            let begun = Instant::now();
            conn.call(&Cmd::new("PING"))?;
            Ok((String::from_utf8_lossy(&info).into_owned(), begun.elapsed()))
        };
        // An idle connection may have been cut long ago: that says nothing about the server.
        match ask().or_else(|e: LinkError| if e.retryable() { ask() } else { Err(e) }) {
            Ok((info, latency)) => Answer { info: Ok(info), latency: Some(latency) },
            Err(e) => Answer { info: Err(e), latency: None },
        }
    }

    pub(super) fn report(self, name: String, address: String, doubt: Option<String>) -> NodeReport {
        let info = self.info.as_deref().unwrap_or_default();
        let text = |field: &str| {
            info.lines().find_map(|line| Some(line.strip_prefix(field)?.trim().to_owned()))
        };
        let number = |field: &str| text(field).and_then(|value| value.parse().ok());
        let (state, cause) = match (&self.info, doubt) {
            (Err(e), _) => (NodeState::Down, Some(e.to_string())),
            (Ok(_), Some(cause)) => (NodeState::Suspect, Some(cause)),
            (Ok(_), None) => (NodeState::Up, None),
        };
        let version = match text("valkey_version:") {
            Some(version) => Some(format!("valkey {version}")),
            None => text("redis_version:").map(|version| format!("redis {version}")),
        };
        NodeReport {
            name,
            address,
            state,
            cause,
            marked_down: false,
            health: None,
            refilling: false,
            memory_used: number("used_memory:"),
            memory_max: number("maxmemory:"),
            copies_share: None,
            primaries_share: None,
            version,
            uptime_seconds: number("uptime_in_seconds:"),
            latency_us: self.latency.map(|latency| latency.as_micros() as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_of_itself_is_read() {
        let info = "redis_version:7.0.15\r\nused_memory:1048576\r\nmaxmemory:0\r\n\
                    uptime_in_seconds:7\r\n";
        let answer = Answer { info: Ok(info.to_owned()), latency: Some(Duration::from_micros(40)) };
        let report = answer.report("a".into(), "redis://a:1".into(), None);
        assert_eq!(report.state, NodeState::Up);
        assert_eq!(report.version.as_deref(), Some("redis 7.0.15"));
        assert_eq!((report.memory_used, report.memory_max), (Some(1 << 20), Some(0)));
        assert_eq!((report.uptime_seconds, report.latency_us), (Some(7), Some(40)));
    }
}
