//! How a volume is: its nodes, its ring and what moves on it, what the background workers do, files
//! that cannot be read, its usage, who uses it; and in words what a person should do.

mod activity;
mod advice;
mod answer;

pub use activity::{CoordinatorReport, MoveReport, UnreadableFile, WorkerReport};

use crate::collector::{GcRecord, gc_record};
use crate::compact::{CompactRecord, compact_record};
use crate::error::ClusterError;
use crate::health::{NodeHealth, Standing, node_health};
use crate::membership::Ring;
use crate::mover::nodes_to_refill;
use crate::nodes::NodeLink;
use crate::scrub::{ScrubRecord, scrub_record};
use crate::subject::Subject;
use answer::Answer;
use ringfs_link::Health;
use ringfs_meta::Durability;
use ringfs_ring::Shares;
use ringfs_store::NodeIndex;
use serde::Serialize;

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
    /// Whether readers and writers are told that it is down.
    pub marked_down: bool,
    /// What the coordinator knows of it; `None` if nobody has watched it yet.
    pub health: Option<NodeHealth>,
    /// It came back, and has not been looked through yet for blocks that it lacks.
    pub refilling: bool,
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

impl NodeReport {
    /// Whether it takes part, as far as is known.
    pub fn standing(&self) -> Standing {
        self.health.as_ref().map_or(Standing::Up, |health| health.state)
    }

    /// Blocks have one copy less within reach than they should, because of it.
    pub fn is_missed(&self) -> bool {
        match self.standing() {
            Standing::Up => self.state == NodeState::Down || self.refilling,
            Standing::Down => true,
            // The others have what it had, or a move is under way that brings it to them.
            Standing::Out => false,
        }
    }
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
    /// In words: whether all is well.
    pub state: String,
    /// In words: what a person should do, the most urgent first. Empty if nothing.
    pub advice: Vec<String>,
    /// The ring's epoch.
    pub epoch: u64,
    /// Arcs that the ring is divided into.
    pub arcs: u32,
    /// Tables before the one in force, in which blocks are still looked for.
    pub former_tables: usize,
    /// What is being moved.
    pub moving: Option<MoveReport>,
    /// Who coordinates.
    pub coordinator: Option<CoordinatorReport>,
    /// The background workers.
    pub workers: Vec<WorkerReport>,
    /// How far the scrub is, and what it found.
    pub scrub: ScrubRecord,
    /// What was collected.
    pub gc: GcRecord,
    /// What was compacted.
    pub compaction: CompactRecord,
    /// Files that could not be read because no copy of a block can be had.
    pub unreadable: Vec<UnreadableFile>,
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
    /// Blocks have fewer copies within reach than they should.
    pub fn is_degraded(&self) -> bool {
        let out = self.nodes.iter().any(|node| node.standing() == Standing::Out);
        let rebuilding = out && self.moving.is_some();
        rebuilding || !self.unreadable.is_empty() || self.nodes.iter().any(NodeReport::is_missed)
    }
}

/// Asks everybody, all nodes at once; a node that does not answer costs its time-out.
///
/// # Errors
/// When the metadata cannot be read, or the ring's table.
pub fn status(subject: &Subject) -> Result<VolumeStatus, ClusterError> {
    let volume = &subject.volume;
    let config = volume.reload()?;
    let ring = Ring::read(volume)?;
    let shares = ring.table.shares();
    let mut healths = node_health(volume)?;
    let refilling = nodes_to_refill(volume, &ring)?;
    let usage = volume.usage()?;
    let sessions: Vec<SessionReport> = volume
        .sessions()?
        .into_iter()
        .map(|session| SessionReport {
            id: session.id.0,
            host: session.info.host,
            pid: session.info.pid,
            place: session.info.place,
            idle_seconds: session.idle_seconds,
            epoch: session.epoch.0,
        })
        .collect();
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
            report.refilling = refilling.contains_key(&link.node.name);
            report.health = healths.remove(link.node.name.as_str());
            add_shares(&mut report, &shares);
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
    let workers = activity::workers(volume)?;
    let mut status = VolumeStatus {
        volume: config.name.to_string(),
        uuid: config.uuid.to_string(),
        replicas: config.replicas,
        durability: match config.durability {
            Durability::Memory => "memory".to_owned(),
            Durability::Replica(count) => format!("replica {count}"),
            Durability::Disk => "disk".to_owned(),
        },
        state: String::new(),
        advice: Vec::new(),
        epoch: ring.epoch().0,
        arcs: ring.table.arcs(),
        former_tables: ring.former.len(),
        moving: activity::moving(&ring, &workers),
        coordinator: activity::coordinator(volume, &sessions)?,
        workers,
        scrub: scrub_record(volume)?,
        gc: gc_record(volume)?,
        compaction: compact_record(volume)?,
        unreadable: activity::unreadable(volume)?,
        inodes: usage.inodes,
        inodes_max: usage.inodes_max,
        bytes: usage.bytes,
        bytes_max: usage.bytes_max,
        orphans: volume.orphans(ORPHANS_COUNT_MAX)?.len() as u64,
        sessions,
        metadata,
        nodes,
    };
    status.state = advice::headline(&status);
    status.advice = advice::advice(&status);
    Ok(status)
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
