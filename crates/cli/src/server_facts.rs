//! What a server says about itself, as far as RingFS cares: one look for `format`, `status`,
//! `doctor` and `local`.

use ringfs_link::{Cmd, Conn, Endpoint, LinkError, Timeouts};
use std::collections::BTreeMap;
use std::time::Duration;

/// The oldest server whose commands suffice.
pub const OLDEST_VERSION: (u16, u16) = (6, 2);

/// What a server says about itself.
#[derive(Clone, Debug)]
pub struct ServerFacts {
    /// `Redis` or `Valkey`.
    pub software: &'static str,
    /// As in (7, 0, 15).
    pub version: (u16, u16, u16),
    /// Random, new with each start of the server.
    pub run_id: String,
    /// The server's process on its machine.
    pub process_id: Option<u32>,
    /// Time since its start.
    pub uptime: Duration,
    /// Bytes that its data take.
    pub used_memory: u64,
    /// Most bytes that they may take; 0 = no limit.
    pub maxmemory: u64,
    /// What happens at the limit, such as `noeviction`.
    pub policy: String,
    /// Whether there is an append-only file.
    pub append_only: bool,
    /// The last write of that file, and the last snapshot, went well.
    pub persistence_ok: bool,
    /// `master` or `slave`.
    pub role: String,
    /// Replicas connected, with their lines of INFO.
    pub replicas: Vec<String>,
    /// Keys in all databases.
    pub keys: u64,
    /// Whether it is one of a Redis Cluster.
    pub cluster: bool,
}

impl ServerFacts {
    /// `Redis 7.0.15`.
    pub fn version_text(&self) -> String {
        let (major, minor, patch) = self.version;
        format!("{} {major}.{minor}.{patch}", self.software)
    }

    /// Whether the version is at least this one.
    pub fn at_least(&self, major: u16, minor: u16) -> bool {
        (self.version.0, self.version.1) >= (major, minor)
    }

    /// Whether the server may throw data away when its memory is full.
    pub fn may_evict(&self) -> bool {
        self.policy != "noeviction"
    }
}

/// A connection, and what the server says on it.
pub fn look(endpoint: &Endpoint, timeouts: &Timeouts) -> Result<(Conn, ServerFacts), LinkError> {
    let mut conn = Conn::open(endpoint, timeouts)?;
    let facts = ask(&mut conn)?;
    Ok((conn, facts))
}

/// Asks on an open connection.
pub fn ask(conn: &mut Conn) -> Result<ServerFacts, LinkError> {
    let reply = conn.call(&Cmd::new("INFO"))?;
    let text = reply.into_some_bytes().map_err(|_| LinkError::Protocol {
        server: conn.name().clone(),
        what: "INFO brings no text".to_owned(),
    })?;
    let text = String::from_utf8_lossy(&text);
    let info: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
    if !info.contains_key("redis_version") {
        return Err(LinkError::Protocol {
            server: conn.name().clone(),
            what: "INFO tells no version".to_owned(),
        });
    }
    Ok(read(&info))
}

fn read(info: &BTreeMap<&str, &str>) -> ServerFacts {
    let text = |key: &str| info.get(key).copied().unwrap_or("");
    // A field that an old server does not have counts as zero: nothing is decided by its absence.
    let number = |key: &str| text(key).parse::<u64>().unwrap_or(0);
    let (software, version) = match info.get("valkey_version") {
        Some(version) => ("Valkey", *version),
        None => ("Redis", text("redis_version")),
    };
    let mut parts = version.split(['.', '-']).map(|part| part.parse::<u16>().unwrap_or(0));
    let mut part = || parts.next().unwrap_or(0);
    let keys = info
        .iter()
        .filter(|(key, _)| key.strip_prefix("db").is_some_and(|n| n.parse::<u16>().is_ok()))
        .filter_map(|(_, value)| {
            value.split(',').find_map(|field| field.strip_prefix("keys="))?.parse::<u64>().ok()
        })
        .sum();
    let failed = |key: &str| info.get(key).is_some_and(|value| *value != "ok");
    ServerFacts {
        software,
        version: (part(), part(), part()),
        run_id: text("run_id").to_owned(),
        process_id: text("process_id").parse().ok(),
        uptime: Duration::from_secs(number("uptime_in_seconds")),
        used_memory: number("used_memory"),
        maxmemory: number("maxmemory"),
        policy: text("maxmemory_policy").to_owned(),
        append_only: text("aof_enabled") == "1",
        persistence_ok: !failed("aof_last_write_status") && !failed("rdb_last_bgsave_status"),
        role: text("role").to_owned(),
        replicas: (0..number("connected_slaves").min(64))
            .filter_map(|i| info.get(format!("slave{i}").as_str()).map(|v| (*v).to_owned()))
            .collect(),
        keys,
        cluster: text("cluster_enabled") == "1",
    }
}

/// One parameter of CONFIG GET. `None` if the server does not let us see it: managed services and
/// ACL users often may not.
pub fn config(conn: &mut Conn, parameter: &str) -> Result<Option<String>, LinkError> {
    match conn.call(&Cmd::new("CONFIG").arg("GET").arg(parameter)) {
        Ok(reply) => {
            let pairs = reply.into_map()?;
            let value = pairs.into_iter().next().and_then(|(_, value)| {
                Some(String::from_utf8_lossy(value.as_bytes()?).into_owned())
            });
            Ok(value)
        }
        Err(LinkError::Server { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringfs_testkit::{RedisServer, ServerOptions};

    #[test]
    fn a_real_server_is_understood() {
        let server =
            RedisServer::start(ServerOptions { maxmemory: Some(64 << 20), ..Default::default() });
        server.command(&["SET", "a", "1"]);
        let (mut conn, facts) = look(&server.endpoint(), &Timeouts::default()).unwrap();
        assert!(facts.version >= (6, 2, 0) && !facts.may_evict());
        assert_eq!((facts.maxmemory, facts.keys, facts.role.as_str()), (64 << 20, 1, "master"));
        assert_eq!(facts.run_id.len(), 40);
        assert_eq!(facts.process_id, Some(server.pid()));
        assert_eq!(config(&mut conn, "appendonly").unwrap().as_deref(), Some("no"));
    }
}
