//! The one thing that the check can put right by itself: the usage counters.

use super::finding::Finding;
use super::{Checks, fsck};
use crate::error::ClusterError;
use crate::job::Job;
use crate::subject::Subject;
use ringfs_link::{LinkError, Script};
use serde::Serialize;

static SET_USAGE: Script =
    Script::from_static("set_usage", include_str!("../scripts/set_usage.lua"));

/// What was done about the usage counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum UsageRepaired {
    /// They were right.
    NotNeeded,
    /// They have been set to what was counted.
    Done {
        /// Inodes counted.
        inodes: u64,
        /// Bytes counted.
        bytes: u64,
    },
}

/// Counts inodes and bytes and sets the counters to that. Only while nobody uses the volume.
///
/// # Errors
/// [`ClusterError::InUse`]; nothing was changed then.
pub fn repair_usage(subject: &Subject, job: &Job) -> Result<UsageRepaired, ClusterError> {
    let report = fsck(subject, Checks::Metadata, job)?;
    let sessions = report.summary.sessions;
    if sessions > 0 {
        return Err(ClusterError::InUse { sessions });
    }
    let wrong = report.findings.iter().find_map(|reported| match reported.finding {
        Finding::WrongUsage { says, found, .. } => Some((says, found)),
        _ => None,
    });
    let (Some((says, found)), Some(shard)) = (wrong, subject.shards.iter().next()) else {
        return Ok(UsageRepaired::NotNeeded);
    };
    let args = [says.0.to_string(), says.1.to_string(), found.0.to_string(), found.1.to_string()];
    let args: Vec<&[u8]> = args.iter().map(String::as_bytes).collect();
    let reply = shard.pool().get()?.eval(&SET_USAGE, &[&shard.key("c")], &args)?;
    match reply.into_int().map_err(|e| shard.named(e))? {
        0 => Ok(UsageRepaired::Done { inodes: found.0, bytes: found.1 }),
        sessions @ 1.. => Err(ClusterError::InUse { sessions: sessions as u64 }),
        _ => {
            let what = "the usage counters changed while inodes were counted";
            Err(shard.named(LinkError::unexpected(what)).into())
        }
    }
}
