//! The worker `recheck`: looks again for the blocks of files that could not be read. When all of
//! them are found the file is not shown as unreadable any more, and copies that its blocks lack are
//! made at once, for there may be but one.

use crate::error::ClusterError;
use crate::job::Job;
use crate::subject::blocks_of;
use crate::workers::{Site, Worker};
use ringfs_base::{BlockId, Errno};
use ringfs_meta::{MetaError, Volume};
use ringfs_store::{CopyState, Depth, Scope, Store, Surplus};
use std::time::{Duration, Instant};

/// The worker's name.
pub const RECHECK: &str = "recheck";
/// How often files are looked for at least.
const EVERY: Duration = Duration::from_secs(3);
/// Looking takes at most one part in so many of the time.
const REST_PER_WORK: u32 = 20;
/// Blocks that are looked at together.
const BATCH_BLOCKS: usize = 256;

/// The worker.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recheck;

impl Worker for Recheck {
    fn name(&self) -> &'static str {
        RECHECK
    }

    fn run(&self, site: &Site, job: &Job) -> Result<Duration, ClusterError> {
        let begun = Instant::now();
        recheck(site.membership.volume(), site.membership.store(), job)?;
        Ok(EVERY.max(begun.elapsed() * REST_PER_WORK))
    }
}

/// Looks for the blocks of all files that are noted as unreadable; returns how many are not any more.
pub fn recheck(volume: &Volume, store: &Store, job: &Job) -> Result<u64, ClusterError> {
    let lost = volume.lost()?;
    if lost.is_empty() {
        return Ok(0);
    }
    job.begin("looking for lost blocks", lost.len() as u64)?;
    let mut found = 0;
    for file in lost {
        let chunks = match volume.chunks_of(file.ino) {
            // The file is gone, or its data are not in blocks any more: nothing is missing.
            Err(MetaError::Posix(Errno::ESTALE)) => Vec::new(),
            chunks => chunks?,
        };
        let block_bytes = volume.config().block_bytes.max(1);
        let mut blocks: Vec<BlockId> = chunks
            .iter()
            .flat_map(|(_, records)| records)
            .filter(|record| !record.is_hole())
            .flat_map(|record| blocks_of(record.slice, record.slice_len.div_ceil(block_bytes)))
            .collect();
        blocks.sort_unstable();
        blocks.dedup();
        if all_there(store, &blocks, job)? {
            found += u64::from(volume.clear_lost(&file)?);
        }
        job.advance(1)?;
    }
    Ok(found)
}

/// Whether every block has a good copy somewhere, by its header. Owners without one get it.
fn all_there(store: &Store, blocks: &[BlockId], job: &Job) -> Result<bool, ClusterError> {
    for batch in blocks.chunks(BATCH_BLOCKS) {
        job.spend(0)?;
        let found = store.check_many(batch, Depth::Header, Scope::Owners);
        for (block, copies) in batch.iter().zip(found) {
            if copies.iter().all(|copy| copy.state == CopyState::Good) {
                continue;
            }
            let there = copies.iter().any(|copy| copy.state == CopyState::Good);
            // Reads the copies whole: one that is bad within does not count.
            if let Err(error) = store.repair(*block, Surplus::Keep) {
                tracing::debug!(%block, %error, there, "not found again");
                return Ok(false);
            }
        }
    }
    Ok(true)
}
