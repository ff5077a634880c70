//! Which slices files refer to: the ground on which blocks are kept or removed.

use crate::error::ClusterError;
use crate::job::Job;
use ringfs_base::{BlockId, SliceId};
use ringfs_meta::Volume;
use std::collections::HashMap;

/// How often references are read again because files were cloned meanwhile.
const SETTLE_TRIES_MAX: u32 = 16;

/// All slices of a volume with the blocks each has.
#[derive(Debug, Default)]
pub(crate) struct References {
    blocks: HashMap<SliceId, u32>,
}

impl References {
    /// Reads the extents of all inodes, in steps.
    ///
    /// # Errors
    /// [`ClusterError::Unsure`] if any extents cannot be read: their blocks would look like
    /// garbage.
    pub(crate) fn read(volume: &Volume, job: &Job) -> Result<References, ClusterError> {
        job.begin("reading extents", 0)?;
        let block_bytes = volume.config().block_bytes.max(1);
        let mut references = References::default();
        let mut cursor = 0;
        loop {
            let (next, found) = volume.scan_extents(cursor)?;
            let count = found.len() as u64;
            for chunk in found {
                let Some(records) = chunk.records else {
                    return Err(ClusterError::Unsure(format!(
                        "the extents of inode {} chunk {} cannot be read",
                        chunk.ino, chunk.chunk
                    )));
                };
                for record in records.iter().filter(|record| !record.is_hole()) {
                    let blocks = record.slice_len.div_ceil(block_bytes);
                    let known = references.blocks.entry(record.slice).or_default();
                    *known = (*known).max(blocks);
                }
            }
            job.advance(count)?;
            if next == 0 {
                return Ok(references);
            }
            cursor = next;
        }
    }

    /// All references of a time in which no slice found another owner: a file that is copied to where
    /// the scan has been, and then removed from where it has yet to come, would be missed.
    pub(crate) fn settled(volume: &Volume, job: &Job) -> Result<References, ClusterError> {
        for _ in 0..SETTLE_TRIES_MAX {
            let before = volume.shares()?;
            let references = References::read(volume, job)?;
            if volume.shares()? == before {
                return Ok(references);
            }
        }
        Err(ClusterError::Unsure("files are being cloned all the time".to_owned()))
    }

    pub(crate) fn has(&self, block: BlockId) -> bool {
        self.blocks.get(&block.slice).is_some_and(|blocks| block.index < *blocks)
    }

    /// Slices with their blocks, in order.
    pub(crate) fn sorted(&self) -> Vec<(SliceId, u32)> {
        let mut all: Vec<(SliceId, u32)> = self.blocks.iter().map(|(s, b)| (*s, *b)).collect();
        all.sort_unstable();
        all
    }
}
