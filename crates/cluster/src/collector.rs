//! The worker `gc`: collects garbage every so often, and whenever somebody asks for it. Copies that it
//! meets on nodes that do not own them it leaves to the mover.

use crate::error::ClusterError;
use crate::gc::{GcOptions, gc};
use crate::job::Job;
use crate::mover;
use crate::schedule;
use crate::workers::{self, Site, Worker};
use ringfs_meta::{MetaError, Volume};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The worker's name.
pub const GC: &str = "gc";
const RECORD: &str = "gc.at";
/// How often, if nothing else is wished.
const EVERY: Duration = Duration::from_secs(3600);
/// Mounts give up each other's sessions after a minute; where there is only an agent it does, a little
/// later.
const LEASE: Duration = Duration::from_secs(120);

/// What was collected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GcRecord {
    /// When it was first thought of, in seconds since 1970: a volume's first run is one interval
    /// later.
    pub since: u64,
    /// What [`workers::WorkerWish::asked`] was at the last run.
    pub asked: u64,
    /// Runs that came to their end.
    pub runs: u64,
    /// When the last of them did, in seconds since 1970; 0 = none did.
    pub ended: u64,
    /// Blocks that it removed, each copy for itself.
    pub removed_blocks: u64,
    /// Their bytes as they were stored.
    pub removed_bytes: u64,
    /// Files without a name that it removed.
    pub orphans: u64,
    /// Files without a name that somebody had open.
    pub orphans_held: u64,
    /// Dead sessions that it gave up.
    pub sessions: u64,
    /// Nodes that could not be looked at.
    pub nodes_failed: u64,
    /// Blocks removed by all runs.
    pub removed_blocks_ever: u64,
}

/// What was collected in a volume, whoever did it.
pub fn gc_record(volume: &Volume) -> Result<GcRecord, MetaError> {
    Ok(workers::record(&volume.workers()?, RECORD))
}

/// The worker.
#[derive(Debug, Default)]
pub struct Collector {
    /// It has been called before: then it is time, or somebody woke it.
    called: AtomicBool,
}

impl Worker for Collector {
    fn name(&self) -> &'static str {
        GC
    }

    fn run(&self, site: &Site, job: &Job) -> Result<Duration, ClusterError> {
        let volume = site.membership.volume();
        let wish = workers::wish(volume, GC)?;
        let every = wish.every(EVERY);
        let mut record = gc_record(volume)?;
        if record.since == 0 {
            record.since = schedule::now();
            workers::write_record(volume, RECORD, &record)?;
        }
        let last = record.ended.max(record.since);
        if !self.called.swap(true, Ordering::SeqCst)
            && let Some(rest) =
                schedule::rest(last, every.as_secs(), wish.asked > record.asked, schedule::now())
        {
            return Ok(rest);
        }
        let options = GcOptions { delete: true, lease: Some(LEASE) };
        let report = gc(&site.subject()?, &options, job)?;
        record = GcRecord {
            since: record.since,
            asked: wish.asked,
            runs: record.runs + 1,
            ended: schedule::now(),
            removed_blocks: report.removed_blocks(),
            removed_bytes: report.garbage_bytes(),
            orphans: report.orphans,
            orphans_held: report.orphans_held,
            sessions: report.sessions_reaped,
            nodes_failed: report.nodes.iter().filter(|node| node.failed.is_some()).count() as u64,
            removed_blocks_ever: record.removed_blocks_ever + report.removed_blocks(),
        };
        workers::write_record(volume, RECORD, &record)?;
        // A stand-in keeps what it took for a node that had a short trouble, of which nobody else has
        // heard. While nodes are down it may have the only second copy.
        if report.surplus_blocks() > 0 && site.membership.ring().overlay.down.is_empty() {
            mover::remove_surplus_soon(volume)?;
        }
        Ok(every)
    }
}
