//! Checking the counts of slices that several chunks show: a block must go with its last owner,
//! not before and not never.

use super::census::Census;
use super::finding::Finding;
use crate::error::ClusterError;
use crate::job::Job;
use crate::shards::Shard;
use ringfs_base::{InodeId, SliceId};
use std::collections::HashMap;

/// Compares the counts stored in a shard with the chunks that the census found.
pub(crate) fn check(shard: &Shard, census: &mut Census, job: &Job) -> Result<(), ClusterError> {
    let mut stored: HashMap<SliceId, u64> = HashMap::new();
    let mut found = Vec::new();
    for (slice, count) in shard.hash("r")? {
        let number = std::str::from_utf8(&count).ok().and_then(|text| text.parse().ok());
        match (slice[..].try_into().map(SliceId::from_bytes), number) {
            (Ok(slice), Some(count)) => {
                stored.insert(slice, count);
            }
            _ => {
                let what = "a count of owners of a slice cannot be read".to_owned();
                found.push(Finding::BadRecord { what });
            }
        }
    }
    for (slice, used) in &census.slices {
        // Slices are numbered as inodes are: the upper bits name the shard.
        if InodeId(slice.0).shard() != shard.number {
            continue;
        }
        let (owners, beyond) = (u64::from(used.owners), stored.remove(slice).unwrap_or(0));
        if owners > beyond + 1 || (owners > 1 && used.unmarked) {
            found.push(Finding::SharedSlice { slice: *slice, ino: used.low, other: used.high });
        } else if owners < beyond + 1 {
            found.push(Finding::SurplusOwners { slice: *slice, says: beyond + 1, found: owners });
        }
    }
    for (slice, beyond) in stored {
        found.push(Finding::SurplusOwners { slice, says: beyond + 1, found: 0 });
    }
    // The same order in every run.
    found.sort_by_key(|finding| match finding {
        Finding::SharedSlice { slice, .. } | Finding::SurplusOwners { slice, .. } => *slice,
        _ => SliceId(0),
    });
    for finding in found {
        census.report(job, finding);
    }
    Ok(())
}
