//! How a volume is: its nodes, its ring, its usage, who uses it.

use crate::error::ClusterError;
use crate::nodes::NodeLink;
use crate::subject::Subject;
use ringfs_link::{Cmd, Health, LinkError};
use ringfs_meta::Durability;
use ringfs_ring::{Shares, Table};
use ringfs_store::NodeIndex;
use serde::Serialize;
use std::time::{Duration, Instant};

/// Orphans counted at most.
const ORPHANS_COUNT_MAX: u32 = 1_000_000;

/// Whether a node does its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// It answers.
    Up,
    /// It answers us now, but failed lately.
    Suspect,
    /// It does not answer.
    Down,
}

/// One block server.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeReport {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Whether it does its work.
    pub state: NodeState,
    /// Why not, if so.
    pub cause: Option<String>,
    /// Whether the membership record says that it is down.
    pub marked_down: bool,
    /// Bytes in use on the server.
    pub memory_used: Option<u64>,
    /// Its limit in bytes; 0 if it has none.
    pub memory_max: Option<u64>,
    /// Its part of all copies by the ring's table, 0 to 1; `None` if it is not in the table.
    pub copies_share: Option<f64>,
    /// Its part of all first copies.
    pub primaries_share: Option<f64>,
    /// What it runs, such as `redis 7.0.15`.
    pub version: Option<String>,
    /// Since when it runs.
    pub uptime_seconds: Option<u64>,
    /// One round trip, in microseconds.
    pub latency_us: Option<u64>,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SessionReport {
    /// Its number.
    pub id: u64,
    /// The machine.
    pub host: String,
    /// The process.
    pub pid: u32,
    /// The mount point, or what the tool does.
    pub place: String,
    /// Seconds since its last sign of life.
    pub idle_seconds: u64,
    /// The ring's epoch that it works by.
    pub epoch: u64,
}

/// A volume as a whole.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VolumeStatus {
    /// Its name.
    pub volume: String,
    /// Its identity.
    pub uuid: String,
    /// Copies of each block.
    pub replicas: u8,
    /// When metadata are safe: `memory`, `replica N` or `disk`.
    pub durability: String,
    /// The ring's epoch.
    pub epoch: u64,
    /// Inodes, orphans included.
    pub inodes: u64,
    /// Most inodes; 0 = no limit.
    pub inodes_max: u64,
    /// Bytes of files by their sizes.
    pub bytes: u64,
    /// Most bytes; 0 = no limit.
    pub bytes_max: u64,
    /// Files without a name that are kept for who has them open.
    pub orphans: u64,
    /// Who uses it.
    pub sessions: Vec<SessionReport>,
    /// Where its metadata are.
    pub metadata: NodeReport,
    /// Where its blocks are.
    pub nodes: Vec<NodeReport>,
}

impl VolumeStatus {
    /// A node is not up, so that blocks have fewer copies within reach than they should.
    pub fn is_degraded(&self) -> bool {
        self.nodes.iter().any(|node| node.state == NodeState::Down)
    }
}

/// Asks everybody, all nodes at once; a node that does not answer costs its time-out.
///
/// # Errors
/// When the metadata cannot be read, or the ring's table.
pub fn status(subject: &Subject) -> Result<VolumeStatus, ClusterError> {
    let volume = &subject.volume;
    let config = volume.reload()?;
    let (epoch, encoded) = volume.ring()?;
    let shares = if encoded.is_empty() {
        None
    } else {
        let table = Table::decode(&encoded)
            .map_err(|e| ClusterError::Unsure(format!("the ring's table cannot be read: {e}")))?;
        Some(table.shares())
    };
    let usage = volume.usage()?;
    let sessions = volume.sessions()?.into_iter().map(|session| SessionReport {
        id: session.id.0,
        host: session.info.host,
        pid: session.info.pid,
        place: session.info.place,
        idle_seconds: session.idle_seconds,
        epoch: session.epoch.0,
    });
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let asked: Vec<_> =
            subject.nodes.iter().map(|link| scope.spawn(|| Answer::of(&link.pool))).collect();
        asked
            .into_iter()
            .map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let known = subject.store.nodes();
    let nodes = subject
        .nodes
        .iter()
        .zip(answers)
        .enumerate()
        .map(|(index, (link, answer))| {
            let node = NodeIndex(index);
            let doubt =
                known.iter().find(|one| one.node == node).and_then(|one| match &one.health {
                    Health::Up => None,
                    Health::Suspect { cause, .. } => Some(cause.to_string()),
                });
            let mut report = answer.report(link.node.name.to_string(), address(link), doubt);
            report.marked_down = subject.placement.is_down(node);
            if let Some(shares) = &shares {
                add_shares(&mut report, shares);
            }
            report
        })
        .collect();
    let metadata = match subject.shards.iter().next() {
        Some(shard) => Answer::of(shard.pool()).report(
            "metadata".to_owned(),
            shard.pool().endpoint().to_string(),
            None,
        ),
        None => return Err(ClusterError::Unsure("the volume has no metadata shard".to_owned())),
    };
    Ok(VolumeStatus {
        volume: config.name.to_string(),
        uuid: config.uuid.to_string(),
        replicas: config.replicas,
        durability: match config.durability {
            Durability::Memory => "memory".to_owned(),
            Durability::Replica(count) => format!("replica {count}"),
            Durability::Disk => "disk".to_owned(),
        },
        epoch: epoch.0,
        inodes: usage.inodes,
        inodes_max: usage.inodes_max,
        bytes: usage.bytes,
        bytes_max: usage.bytes_max,
        orphans: volume.orphans(ORPHANS_COUNT_MAX)?.len() as u64,
        sessions: sessions.collect(),
        metadata,
        nodes,
    })
}

fn address(link: &NodeLink) -> String {
    link.node.endpoint.to_string()
}

fn add_shares(report: &mut NodeReport, shares: &Shares) {
    let primaries: u64 = shares.nodes.iter().map(|node| u64::from(node.primaries)).sum();
    if let Some(mine) = shares.nodes.iter().find(|node| node.name.as_str() == report.name) {
        report.copies_share = Some(mine.fraction);
        report.primaries_share = Some(f64::from(mine.primaries) / primaries.max(1) as f64);
    }
}

/// What a server said.
struct Answer {
    info: Result<String, LinkError>,
    latency: Option<Duration>,
}

impl Answer {
    fn of(pool: &ringfs_link::Pool) -> Answer {
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

    fn report(self, name: String, address: String, doubt: Option<String>) -> NodeReport {
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
