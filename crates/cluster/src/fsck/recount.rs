//! Counting one directory anew, at one moment, while sessions are at work.
//!
//! The census reads a directory's own counts and its names at different times. In a directory where
//! files come and go all the time it can be off by one in every pass, and by the same one.

use super::finding::Finding;
use crate::error::ClusterError;
use crate::shards::{Shard, Shards};
use ringfs_base::InodeId;
use ringfs_link::{Reply, Script};

static COUNT: Script =
    Script::from_static("count_directory", include_str!("../scripts/count_directory.lua"));

/// Buckets that the server reads in one go: some 80,000 names, tens of milliseconds.
const BUCKETS_MAX: u32 = 2048;

/// Whether a finding about counts of a directory is still true. Everything else is.
pub(crate) fn holds(shards: &Shards, finding: &Finding) -> Result<bool, ClusterError> {
    let (dir, wanted) = match finding {
        Finding::WrongEntryCount { dir, .. } => (*dir, Wanted::Entries),
        Finding::WrongLinkCount { ino, .. } => (*ino, Wanted::Links),
        _ => return Ok(true),
    };
    let Some(shard) = shards.of(dir) else { return Ok(true) };
    // Not a directory, gone, or too large: what the passes agree on stands.
    let Some([entries, links, names, subdirs]) = count(shard, dir)? else { return Ok(true) };
    Ok(match wanted {
        Wanted::Entries => entries != names,
        Wanted::Links => links > 0 && links != 2 + subdirs,
    })
}

enum Wanted {
    Entries,
    Links,
}

fn count(shard: &Shard, dir: InodeId) -> Result<Option<[i64; 4]>, ClusterError> {
    let local = dir.local();
    let args = [
        (local / 64).to_string(),
        (local % 64).to_string(),
        local.to_string(),
        BUCKETS_MAX.to_string(),
    ];
    let args: Vec<&[u8]> = args.iter().map(String::as_bytes).collect();
    let reply = shard.pool().get()?.eval(&COUNT, &[&shard.key("c")], &args)?;
    if reply == Reply::Nil {
        return Ok(None);
    }
    let mut numbers = [0; 4];
    let items = reply.into_array().map_err(|e| shard.named(e))?;
    for (number, item) in numbers.iter_mut().zip(items) {
        *number = item.into_int().map_err(|e| shard.named(e))?;
    }
    Ok(Some(numbers))
}
