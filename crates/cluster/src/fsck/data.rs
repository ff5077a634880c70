//! Checking blocks: every block of every slice on each of its owners, and what else the nodes hold.

use super::census::{Census, SliceUse};
use super::finding::Finding;
use crate::error::ClusterError;
use crate::job::Job;
use crate::shards::Shards;
use crate::subject::{Subject, blocks_of};
use ringfs_base::{BlockId, InodeId, SliceId};
use ringfs_link::{Cmd, LinkError};
use ringfs_meta::{ExtentRecord, SlicesInFlight};
use ringfs_store::{Copy, CopyState, Depth, NodeIndex, Scope};
use std::collections::{BTreeMap, HashSet};

/// Blocks that are looked at together.
const BATCH_BLOCKS: usize = 256;
/// Blocks that are read whole together: some 32 MiB for each copy.
const BATCH_BLOCKS_DEEP: usize = 32;

/// What was looked at, for the summary.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Looked {
    pub(crate) blocks: u64,
    pub(crate) copies: u64,
}

/// What is wrong with the blocks of one file.
#[derive(Default)]
struct FileTroubles {
    missing: BTreeMap<NodeIndex, u64>,
    bad: BTreeMap<NodeIndex, (u64, String)>,
    lost: Option<(u64, BlockId, String)>,
    out_of_reach: Option<(u64, BlockId)>,
}

/// One run over the data.
pub(crate) struct DataCheck<'a> {
    pub(crate) subject: &'a Subject,
    pub(crate) job: &'a Job,
    pub(crate) depth: Depth,
    /// Asked for before the census.
    pub(crate) in_flight: &'a SlicesInFlight,
}

impl DataCheck<'_> {
    pub(crate) fn run(&self, census: &mut Census) -> Result<Looked, ClusterError> {
        let reachable = self.reachable(census)?;
        let looked = self.check_files(census)?;
        for node in reachable {
            self.check_node(census, node)?;
        }
        Ok(looked)
    }

    /// The nodes that answer; the others are reported once instead of for each block.
    fn reachable(&self, census: &mut Census) -> Result<Vec<NodeIndex>, ClusterError> {
        self.job.begin("asking nodes", self.subject.nodes.len() as u64)?;
        let mut reachable = Vec::new();
        for node in self.subject.node_indices() {
            match self.subject.store.list(node, 0) {
                Ok(_) => reachable.push(node),
                Err(e) => self.unreachable(census, node, &e),
            }
            self.job.advance(1)?;
        }
        Ok(reachable)
    }

    fn unreachable(&self, census: &mut Census, node: NodeIndex, cause: &LinkError) {
        let (node, cause) = (self.subject.node_name(node), cause.to_string());
        census.report(self.job, Finding::NodeUnreachable { node, cause });
    }

    fn check_files(&self, census: &mut Census) -> Result<Looked, ClusterError> {
        let mut order: Vec<(SliceUse, SliceId)> =
            census.slices.iter().map(|(slice, used)| (*used, *slice)).collect();
        order.sort_unstable_by_key(|(used, slice)| (used.ino, used.chunk, *slice));
        let total = order.iter().map(|(used, _)| u64::from(self.subject.blocks_in(used.len))).sum();
        let (what, batch_blocks) = match self.depth {
            Depth::Header => ("checking blocks", BATCH_BLOCKS),
            Depth::Contents => ("reading blocks", BATCH_BLOCKS_DEEP),
        };
        self.job.begin(what, total)?;
        let mut looked = Looked::default();
        let mut troubles: BTreeMap<InodeId, FileTroubles> = BTreeMap::new();
        let mut batch: Vec<(BlockId, SliceUse)> = Vec::with_capacity(batch_blocks);
        let all = order.iter().flat_map(|(used, slice)| {
            blocks_of(*slice, self.subject.blocks_in(used.len)).map(|block| (block, *used))
        });
        for block in all {
            batch.push(block);
            if batch.len() == batch_blocks {
                self.check_batch(&batch, &mut looked, &mut troubles)?;
                batch.clear();
            }
            // Files come one after the other: all but the last are complete.
            while troubles.len() > 1
                && let Some((ino, done)) = troubles.pop_first()
            {
                self.report_file(census, ino, done);
            }
        }
        self.check_batch(&batch, &mut looked, &mut troubles)?;
        for (ino, done) in troubles {
            self.report_file(census, ino, done);
        }
        Ok(looked)
    }

    fn check_batch(
        &self,
        batch: &[(BlockId, SliceUse)],
        looked: &mut Looked,
        troubles: &mut BTreeMap<InodeId, FileTroubles>,
    ) -> Result<(), ClusterError> {
        let blocks: Vec<BlockId> = batch.iter().map(|(block, _)| *block).collect();
        let found = self.subject.store.check_many(&blocks, self.depth, Scope::Owners);
        let copies: usize = found.iter().map(Vec::len).sum();
        looked.blocks += blocks.len() as u64;
        looked.copies += copies as u64;
        if self.depth == Depth::Contents {
            let block_bytes = u64::from(self.subject.volume.config().block_bytes);
            self.job.spend(copies as u64 * block_bytes)?;
        }
        for ((block, used), mut copies) in batch.iter().zip(found) {
            if copies.iter().all(|copy| copy.state == CopyState::Good) && !copies.is_empty() {
                continue;
            }
            if !copies.iter().any(|copy| copy.state == CopyState::Good) {
                // All owners are bad: a copy elsewhere must be good to the last byte to count.
                copies = self.subject.store.check(*block, Depth::Contents, Scope::Everywhere);
            }
            if is_referenced(&self.subject.shards, block.slice, used)? {
                self.judge(*block, &copies, troubles.entry(used.ino).or_default());
            }
        }
        self.job.advance(blocks.len() as u64)
    }

    fn judge(&self, block: BlockId, copies: &[Copy], troubles: &mut FileTroubles) {
        let is_good = |copy: &Copy| copy.state == CopyState::Good;
        if !copies.iter().any(is_good) {
            if copies.iter().any(|copy| matches!(copy.state, CopyState::Unreachable(_))) {
                troubles.out_of_reach.get_or_insert((0, block)).0 += 1;
            } else {
                let bad = copies.iter().find_map(|copy| match &copy.state {
                    CopyState::Bad(damage) => Some(damage.to_string()),
                    _ => None,
                });
                let why = bad.unwrap_or_else(|| "no node has it".to_owned());
                troubles.lost.get_or_insert((0, block, why)).0 += 1;
            }
            return;
        }
        for copy in copies.iter().filter(|copy| copy.is_owner) {
            match &copy.state {
                // Unreachable nodes have been reported once for all.
                CopyState::Good | CopyState::Unreachable(_) => {}
                CopyState::Missing => *troubles.missing.entry(copy.node).or_default() += 1,
                CopyState::Bad(damage) => {
                    let why = damage.to_string();
                    troubles.bad.entry(copy.node).or_insert((0, why)).0 += 1;
                }
            }
        }
    }

    fn report_file(&self, census: &mut Census, ino: InodeId, troubles: FileTroubles) {
        if let Some((blocks, first, why)) = troubles.lost {
            census.report(self.job, Finding::LostBlocks { ino, blocks, first, why });
        }
        if let Some((blocks, first)) = troubles.out_of_reach {
            census.report(self.job, Finding::BlocksOutOfReach { ino, blocks, first });
        }
        for (node, blocks) in troubles.missing {
            let node = self.subject.node_name(node);
            census.report(self.job, Finding::MissingCopies { ino, node, blocks });
        }
        for (node, (blocks, why)) in troubles.bad {
            let node = self.subject.node_name(node);
            census.report(self.job, Finding::BadCopies { ino, node, blocks, why });
        }
    }

    /// Looks for what a node need not hold: garbage, and copies of blocks it does not own.
    fn check_node(&self, census: &mut Census, node: NodeIndex) -> Result<(), ClusterError> {
        self.job.begin("listing nodes", 0)?;
        let mut garbage: HashSet<BlockId> = HashSet::new();
        let mut strays: Vec<BlockId> = Vec::new();
        let mut surplus = 0;
        let mut cursor = 0;
        loop {
            let (next, blocks) = match self.subject.store.list(node, cursor) {
                Ok(step) => step,
                Err(e) => {
                    self.unreachable(census, node, &e);
                    break;
                }
            };
            let count = blocks.len() as u64;
            for block in blocks {
                match census.slices.get(&block.slice) {
                    Some(used) if block.index < self.subject.blocks_in(used.len) => {
                        strays.push(block);
                    }
                    _ if self.in_flight.may_be_written(block.slice) => {}
                    _ => {
                        garbage.insert(block);
                    }
                }
            }
            surplus += self.count_surplus(node, &mut strays)?;
            self.job.advance(count)?;
            if next == 0 {
                break;
            }
            cursor = next;
        }
        let name = self.subject.node_name(node);
        if surplus > 0 {
            let node = name.clone();
            census.report(self.job, Finding::SurplusCopies { node, copies: surplus });
        }
        if !garbage.is_empty() {
            let blocks = garbage.len() as u64;
            census.report(self.job, Finding::GarbageBlocks { node: name, blocks });
        }
        Ok(())
    }

    /// Of the blocks that a node holds, those that it does not own though all owners have them. While
    /// blocks are being moved who had them keeps them.
    fn count_surplus(
        &self,
        node: NodeIndex,
        blocks: &mut Vec<BlockId>,
    ) -> Result<u64, ClusterError> {
        let placement = &self.subject.placement;
        blocks.retain(|block| {
            !placement.owners(*block).contains(&node)
                && !placement.former_owners(*block).contains(&node)
        });
        blocks.sort_unstable();
        blocks.dedup();
        let mut surplus = 0;
        for copies in self.subject.store.check_many(blocks, Depth::Header, Scope::Owners) {
            let all_good = copies.iter().all(|copy| copy.state == CopyState::Good);
            surplus += u64::from(all_good && !copies.is_empty());
        }
        blocks.clear();
        Ok(surplus)
    }
}

/// Whether a file still uses the slice: it may have been removed since the census.
fn is_referenced(shards: &Shards, slice: SliceId, used: &SliceUse) -> Result<bool, ClusterError> {
    let Some(shard) = shards.of(used.ino) else { return Ok(false) };
    let key = shard.key(format!("x{}", used.ino.local()));
    let reply = shard.call(&Cmd::new("HGET").arg(key).int(used.chunk as i64))?;
    let records = reply.into_bytes().map_err(|e| shard.named(e))?.unwrap_or_default();
    // Extents that cannot be read any more say nothing against it.
    Ok(ExtentRecord::unpack_all(&records)
        .is_none_or(|records| records.iter().any(|record| record.slice == slice)))
}
