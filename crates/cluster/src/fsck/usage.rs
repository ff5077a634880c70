//! The one thing that the check can put right by itself: the usage counters.

use super::finding::Finding;
use super::{Checks, fsck};
use crate::error::ClusterError;
use crate::job::Job;
use crate::shards::Shard;
use crate::subject::Subject;
use ringfs_link::{LinkError, Script};
use serde::Serialize;

static SET_USAGE: Script =
    Script::from_static("set_usage", include_str!("../scripts/set_usage.lua"));
static SET_QUOTA: Script =
    Script::from_static("set_quota", include_str!("../scripts/set_quota.lua"));

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

/// Counts inodes and bytes and sets the counters, those of quotas too, to that. Only while nobody uses the
/// volume but agents: what these tidy up is noticed by the counters themselves.
///
/// # Errors
/// [`ClusterError::InUse`]; nothing was changed then.
pub fn repair_usage(subject: &Subject, job: &Job) -> Result<UsageRepaired, ClusterError> {
    let report = fsck(subject, Checks::Metadata, job)?;
    let (sessions, agents) = (report.summary.sessions, report.summary.agents);
    if sessions > 0 {
        return Err(ClusterError::InUse { sessions });
    }
    let Some(shard) = subject.shards.iter().next() else { return Ok(UsageRepaired::NotNeeded) };
    let mut repaired = UsageRepaired::NotNeeded;
    for reported in &report.findings {
        match &reported.finding {
            Finding::WrongUsage { says, found, .. } => {
                let args = [
                    says.0.to_string(),
                    says.1.to_string(),
                    found.0.to_string(),
                    found.1.to_string(),
                ];
                set(shard, &SET_USAGE, &args, agents)?;
                repaired = UsageRepaired::Done { inodes: found.0, bytes: found.1 };
            }
            Finding::WrongQuota { field, says, found, .. } => {
                let args = [
                    field.clone(),
                    says.0.to_string(),
                    says.1.to_string(),
                    found.0.to_string(),
                    found.1.to_string(),
                ];
                set(shard, &SET_QUOTA, &args, agents)?;
                if repaired == UsageRepaired::NotNeeded {
                    let (inodes, bytes) = (report.summary.inodes, report.summary.bytes);
                    repaired = UsageRepaired::Done { inodes, bytes };
                }
            }
            _ => {}
        }
    }
    Ok(repaired)
}

fn set(shard: &Shard, script: &Script, args: &[String], agents: u64) -> Result<(), ClusterError> {
    let agents = agents.to_string();
    let args: Vec<&[u8]> = args.iter().chain([&agents]).map(String::as_bytes).collect();
    let reply = shard.pool().get()?.eval(script, &[&shard.key("c")], &args)?;
    match reply.into_int().map_err(|e| shard.named(e))? {
        0 => Ok(()),
        sessions @ 1.. => Err(ClusterError::InUse { sessions: sessions as u64 }),
        _ => {
            let what = "the usage counters changed while inodes were counted";
            Err(shard.named(LinkError::unexpected(what)).into())
        }
    }
}
