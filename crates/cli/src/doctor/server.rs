//! Whether a server is fit to hold metadata or blocks.

use super::{Finding, Findings, Level};
use crate::output::Surroundings;
use crate::quantity::{bytes, duration};
use crate::server_facts::{self, OLDEST_VERSION, ServerFacts, look};
use ringfs_base::{Clock, SystemClock};
use ringfs_link::{Cmd, Conn, Endpoint, LinkError};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// What a server is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Names, attributes, sessions: its loss is the loss of the volume.
    Metadata,
    /// Blocks: the other copies make up for its loss.
    Node,
}

const PINGS: usize = 100;

/// More than this and every operation is felt.
const LATENCY_MAX: Duration = Duration::from_millis(2);

/// Leases are measured by the server's clock alone, so a difference endangers nothing; but the times
/// of files written by different machines would not agree.
const CLOCK_DIFFERENCE_MAX: Duration = Duration::from_secs(1);

/// Below this, the memory of a busy server may run full between two looks.
const FREE_SHARE_MIN: f64 = 0.1;

/// Looks at one server.
pub fn check(
    name: &str,
    endpoint: &Endpoint,
    role: Role,
    surroundings: &Surroundings,
) -> Vec<Finding> {
    let mut found = Findings::about(format!("{name} ({endpoint})"));
    let (mut conn, facts) = match look(endpoint, &surroundings.timeouts) {
        Ok(answer) => answer,
        Err(error) => {
            let failure = crate::failure::from_link(&error);
            let (what, advice) = match failure.message.split_once("; ") {
                Some((what, advice)) => (what.to_owned(), Some(advice.to_owned())),
                None => (failure.message, None),
            };
            found.add(Level::Problem, what, advice.as_deref());
            return found.list;
        }
    };
    version(&mut found, &facts);
    place(&mut found, &facts);
    memory(&mut found, &facts, role);
    access(&mut found, endpoint);
    let asked = persistence(&mut found, &mut conn, &facts, role)
        .and_then(|()| clock(&mut found, &mut conn))
        .and_then(|()| latency(&mut found, &mut conn));
    if let Err(error) = asked {
        found.add(Level::Problem, error.to_string(), Some("see the server's log"));
    }
    replicas(&mut found, &facts, surroundings);
    found.list
}

fn version(found: &mut Findings, facts: &ServerFacts) {
    let (major, minor) = OLDEST_VERSION;
    let version = facts.version_text();
    if !facts.at_least(major, minor) {
        found.add(
            Level::Problem,
            format!("{version} is too old"),
            Some("RingFS needs 6.2 or newer; 7.0 or newer is better"),
        );
    } else if !facts.at_least(7, 0) {
        found.add(
            Level::Note,
            format!("{version} has no sharded or multi-part append-only files"),
            Some(
                "from 7.0 on, rewriting the append-only file needs less memory and no long pauses",
            ),
        );
    } else {
        found.ok(version);
    }
}

fn place(found: &mut Findings, facts: &ServerFacts) {
    if facts.cluster {
        found.add(
            Level::Problem,
            "it is part of a Redis Cluster, which keeps keys elsewhere than we put them",
            Some("use servers with cluster-enabled no; RingFS spreads blocks over them by itself"),
        );
    }
    if facts.role == "slave" {
        found.add(
            Level::Problem,
            "it is a replica and takes no writes",
            Some("give the address of its primary"),
        );
    }
}

fn memory(found: &mut Findings, facts: &ServerFacts, role: Role) {
    if facts.may_evict() {
        found.add(
            Level::Problem,
            format!(
                "maxmemory-policy is {}: when memory is full it throws data away",
                facts.policy
            ),
            Some("CONFIG SET maxmemory-policy noeviction, and the same in its configuration file"),
        );
    } else {
        found.ok("noeviction: it never throws data away");
    }
    let used = bytes(facts.used_memory);
    if facts.maxmemory == 0 {
        found.add(
            Level::Warning,
            format!("maxmemory is not set ({used} used): the machine may run out of memory first"),
            Some("set maxmemory, so that a full volume gives \"no space left\" and nothing dies"),
        );
        return;
    }
    let free = facts.maxmemory.saturating_sub(facts.used_memory);
    let text = format!("{used} of {} used", bytes(facts.maxmemory));
    if (free as f64) < facts.maxmemory as f64 * FREE_SHARE_MIN {
        let advice = match role {
            Role::Metadata => "raise maxmemory, or delete files",
            Role::Node => "raise maxmemory, add nodes, or delete files",
        };
        found.add(Level::Warning, format!("nearly full: {text}"), Some(advice));
    } else {
        found.ok(text);
    }
}

fn access(found: &mut Findings, endpoint: &Endpoint) {
    let local = endpoint.host().is_none_or(|host| {
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    });
    match (local, endpoint.has_password(), endpoint.is_tls()) {
        (true, ..) => found.ok("reached without a network"),
        (false, false, _) => found.add(
            Level::Warning,
            "it asks for no password: whoever reaches it can read and change all files",
            Some("set requirepass or ACL users there, and RINGFS_REDIS_PASSWORD here"),
        ),
        (false, true, false) => found.add(
            Level::Note,
            "password and data cross the network in the clear",
            Some("use TLS (rediss://) unless the network is trusted"),
        ),
        (false, true, true) => found.ok("password and TLS"),
    }
}

fn persistence(
    found: &mut Findings,
    conn: &mut Conn,
    facts: &ServerFacts,
    role: Role,
) -> Result<(), LinkError> {
    if !facts.persistence_ok {
        found.add(
            Level::Problem,
            "its last write to disk failed, so it refuses writes or will lose them",
            Some("make room on its disk and see its log"),
        );
    }
    if !facts.append_only {
        match role {
            Role::Metadata => found.add(
                Level::Warning,
                "no append-only file: a restart of this server loses files",
                Some("CONFIG SET appendonly yes, and the same in its configuration file"),
            ),
            Role::Node => found.add(
                Level::Note,
                "no append-only file: after a restart its copies are made again from other nodes",
                None,
            ),
        }
        return Ok(());
    }
    match server_facts::config(conn, "appendfsync")?.as_deref() {
        Some("always") => found.ok("append-only file, synced with every write"),
        Some("everysec") => found.add(
            Level::Note,
            "append-only file, synced every second: a power cut loses up to a second",
            match role {
                Role::Metadata => Some("for durability level disk set appendfsync always"),
                Role::Node => None,
            },
        ),
        Some(other) => found.add(
            Level::Warning,
            format!("append-only file, appendfsync {other}: a power cut loses up to half a minute"),
            Some("set appendfsync everysec or always"),
        ),
        None => found.add(
            Level::Note,
            "append-only file; the server does not let us see how often it is synced",
            None,
        ),
    }
    Ok(())
}

fn clock(found: &mut Findings, conn: &mut Conn) -> Result<(), LinkError> {
    let before = SystemClock.now().0;
    let reply = conn.call(&Cmd::new("TIME"))?.into_array()?;
    let after = SystemClock.now().0;
    let mut parts = reply.into_iter().map(|part| part.into_int());
    let (Some(seconds), Some(micros)) = (parts.next(), parts.next()) else {
        return Err(LinkError::unexpected("TIME brings no time").at(conn.name()));
    };
    let server =
        seconds?.saturating_mul(1_000_000_000).saturating_add(micros?.saturating_mul(1000));
    let ours = before / 2 + after / 2;
    let difference = Duration::from_nanos(server.abs_diff(ours));
    if difference > CLOCK_DIFFERENCE_MAX {
        found.add(
            Level::Warning,
            format!("its clock differs from ours by {}", duration(difference)),
            Some("run chrony or another NTP client on both machines"),
        );
    } else {
        found.ok("its clock agrees with ours");
    }
    Ok(())
}

fn latency(found: &mut Findings, conn: &mut Conn) -> Result<(), LinkError> {
    let mut times = Vec::with_capacity(PINGS);
    for _ in 0..PINGS {
        let begun = Instant::now();
        conn.call(&Cmd::new("PING"))?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    let (p50, p99) = (times[PINGS / 2], times[PINGS * 99 / 100]);
    let text = format!("round trip {} (p99 {})", duration(p50), duration(p99));
    if p50 > LATENCY_MAX {
        found.add(
            Level::Warning,
            format!("{text}: every operation on a file takes at least this long"),
            Some("put servers and mounts into the same data centre"),
        );
    } else {
        found.ok(text);
    }
    Ok(())
}

/// A fail-over prefers the replica with the best priority, however far it lags behind.
fn replicas(found: &mut Findings, facts: &ServerFacts, surroundings: &Surroundings) {
    if facts.replicas.is_empty() {
        return;
    }
    let mut priorities = Vec::new();
    for line in &facts.replicas {
        let field =
            |key: &str| line.split(',').find_map(|f| f.strip_prefix(key)?.strip_prefix('='));
        let (Some(ip), Some(port)) = (field("ip"), field("port")) else { continue };
        let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
        match priority(&format!("redis://{host}:{port}"), surroundings) {
            Ok(priority) => priorities.push(priority),
            Err(why) => found.add(
                Level::Note,
                format!("replica {host}:{port} could not be asked for its priority: {why}"),
                None,
            ),
        }
    }
    let promotable: Vec<&String> = priorities.iter().filter(|p| *p != "0").collect();
    if promotable.windows(2).any(|pair| pair[0] != pair[1]) {
        found.add(
            Level::Warning,
            format!("its replicas have different priorities ({})", priorities.join(", ")),
            Some(
                "give all the same replica-priority: otherwise a fail-over takes the preferred one, \
                 even if it lacks confirmed writes that another has",
            ),
        );
    } else {
        found.ok(format!("{} replicas of equal priority", facts.replicas.len()));
    }
}

fn priority(url: &str, surroundings: &Surroundings) -> Result<String, String> {
    let endpoint = Endpoint::parse(url).map_err(|e| e.to_string())?;
    let endpoint = surroundings.credentials.for_meta(endpoint).map_err(|e| e.to_string())?;
    let ask = || -> Result<String, LinkError> {
        let mut conn = Conn::open(&endpoint, &surroundings.timeouts)?;
        let info = conn.call(&Cmd::new("INFO").arg("replication"))?.into_some_bytes()?;
        let info = String::from_utf8_lossy(&info);
        let priority = info.lines().find_map(|line| line.strip_prefix("slave_priority:"));
        Ok(priority.unwrap_or("unknown").trim().to_owned())
    };
    ask().map_err(|e| e.to_string())
}

/// What only several servers together show.
pub fn compare(servers: &[(String, Endpoint, Role)], surroundings: &Surroundings) -> Vec<Finding> {
    let mut found = Findings::about("the servers together".to_owned());
    let mut seen: Vec<(String, &String, Role)> = Vec::new();
    for (name, endpoint, role) in servers {
        let Ok((_, facts)) = look(endpoint, &surroundings.timeouts) else { continue };
        for (run_id, other, other_role) in &seen {
            if *run_id == facts.run_id && *role == Role::Node && *other_role == Role::Node {
                found.add(
                    Level::Problem,
                    format!(
                        "{other} and {name} are the same server: two copies would die together"
                    ),
                    Some("use one server for each node"),
                );
            } else if *run_id == facts.run_id {
                found.add(
                    Level::Note,
                    format!("{name} shares its memory and its one processor with the metadata"),
                    None,
                );
            }
        }
        seen.push((facts.run_id, name, *role));
    }
    found.list
}
