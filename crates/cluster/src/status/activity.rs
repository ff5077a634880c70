//! What goes on in a volume by itself: who coordinates, what is being moved, what the workers do,
//! and which files nobody can read.

use super::SessionReport;
use crate::error::ClusterError;
use crate::membership::Ring;
use crate::mover::{self, MoveRecord};
use crate::paths::paths_of;
use crate::schedule;
use crate::workers::{self, WorkerState, WorkerStatus};
use ringfs_base::InodeId;
use ringfs_meta::Volume;
use serde::Serialize;
use std::collections::HashSet;
use std::time::Duration;

/// A worker writes how it is every second; after this many nobody runs it.
const STALE_SECONDS: u64 = 15;
/// How long paths of unreadable files are looked for.
const PATHS_WITHIN: Duration = Duration::from_secs(3);

/// Who coordinates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CoordinatorReport {
    /// Its session.
    pub session: u64,
    /// The machine.
    pub host: String,
    /// The process.
    pub pid: u32,
}

/// A move of blocks to where a new table has them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MoveReport {
    /// What was asked for, such as `add n4`.
    pub what: String,
    /// By whom.
    pub by: String,
    /// When, in seconds since 1970.
    pub began: u64,
    /// What is done now.
    pub step: String,
    /// Units done of this step.
    pub done: u64,
    /// Units there are; 0 if not known.
    pub total: u64,
    /// Copies made so far.
    pub copies: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes a second of late; `None` if that is not known.
    pub bytes_per_second: Option<u64>,
    /// Until this step is done at this rate.
    pub seconds_left: Option<u64>,
    /// Nodes that it waits for.
    pub waiting: Vec<String>,
    /// Somebody wished it to wait.
    pub paused: bool,
}

/// A background worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct WorkerReport {
    /// Its name.
    pub name: String,
    /// How it is.
    #[serde(flatten)]
    pub status: WorkerStatus,
    /// Nobody runs it now: it goes on as soon as somebody coordinates.
    pub asleep: bool,
}

/// A file with blocks of which no good copy could be had.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UnreadableFile {
    /// Its number.
    pub inode: u64,
    /// One of its paths; `None` if it has none, or it was not found in time.
    pub path: Option<String>,
    /// When reading it failed first, in seconds since 1970.
    pub since: u64,
    /// When it failed last.
    pub last: u64,
    /// Why.
    pub why: String,
}

pub(super) fn coordinator(
    volume: &Volume,
    sessions: &[SessionReport],
) -> Result<Option<CoordinatorReport>, ClusterError> {
    let Some(id) = volume.coordinator()? else { return Ok(None) };
    let session = sessions.iter().find(|session| session.id == id.0);
    Ok(session.map(|session| CoordinatorReport {
        session: session.id,
        host: session.host.clone(),
        pid: session.pid,
    }))
}

pub(super) fn workers(volume: &Volume) -> Result<Vec<WorkerReport>, ClusterError> {
    let now = schedule::now();
    let all = workers::statuses(volume)?;
    Ok(all
        .into_iter()
        .map(|(name, status)| {
            let asleep = now.saturating_sub(status.written) > STALE_SECONDS;
            WorkerReport { name, status, asleep }
        })
        .collect())
}

pub(super) fn moving(ring: &Ring, workers: &[WorkerReport]) -> Option<MoveReport> {
    let record = MoveRecord::decode(ring.state.moving.as_ref()?);
    let mut report = MoveReport {
        what: record.describe(),
        by: record.by,
        began: record.began,
        copies: record.copies,
        bytes: record.bytes,
        waiting: record.waiting,
        ..MoveReport::default()
    };
    if let Some(worker) = workers.iter().find(|worker| worker.name == mover::WORKER) {
        let status = &worker.status;
        report.paused = status.state == WorkerState::Paused;
        report.step = status.what.clone();
        (report.done, report.total) = (status.done, status.total);
        if status.state == WorkerState::Working && !worker.asleep {
            let took = status.written.saturating_sub(status.began).max(1);
            report.bytes_per_second = Some(status.bytes / took);
            let left = status.total.saturating_sub(status.done);
            report.seconds_left =
                (status.done > 0 && status.total > 0).then(|| scale(left, took, status.done));
        }
    }
    Some(report)
}

/// `a * b / c` without overflow.
fn scale(a: u64, b: u64, c: u64) -> u64 {
    u64::try_from(u128::from(a) * u128::from(b) / u128::from(c.max(1))).unwrap_or(u64::MAX)
}

pub(super) fn unreadable(volume: &Volume) -> Result<Vec<UnreadableFile>, ClusterError> {
    let lost = volume.lost()?;
    if lost.is_empty() {
        return Ok(Vec::new());
    }
    let inodes: HashSet<InodeId> = lost.iter().map(|file| file.ino).collect();
    let mut paths = paths_of(volume, &inodes, PATHS_WITHIN)?;
    Ok(lost
        .into_iter()
        .map(|file| UnreadableFile {
            inode: file.ino.0,
            path: paths.remove(&file.ino),
            since: file.first_ms / 1000,
            last: file.last_ms / 1000,
            why: file.why,
        })
        .collect())
}
