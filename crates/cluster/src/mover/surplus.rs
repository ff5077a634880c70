//! Removing copies from nodes that do not own them, once all who do have good ones.
//!
//! This is the only place where the mover removes anything, and each removal stands for itself: right
//! before it, all owners of the block by the table in force are asked, and every one must have a good
//! copy. The table in force is asked for as well: under an older one the new owners would look like
//! nodes that need no copy.

use crate::error::ClusterError;
use crate::job::Job;
use crate::references::References;
use crate::subject::Subject;
use ringfs_base::BlockId;
use ringfs_store::{CopyState, Depth, NodeIndex};
use std::time::{Duration, Instant};

/// Blocks whose owners are asked together.
const BATCH_BLOCKS: usize = 256;
/// The same if whole copies are read: some 4 MiB for each owner.
const BATCH_BLOCKS_WHOLE: usize = 4;
/// How old the answers may be when a copy is removed on their strength. A process that was stopped
/// in between must ask again: another may coordinate by then.
const FRESH: Duration = Duration::from_secs(2);

/// What a pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Copies removed.
    pub(super) removed: u64,
    /// Copies that stay because an owner has no good one, or cannot be reached.
    pub(super) kept: u64,
    /// Nodes that could not be looked through, although the ring does not say that they are down.
    pub(super) skipped: u64,
}

/// Looks through all nodes. `verified` says whether the copies on the owners of a block have been
/// read whole already; the others are now.
pub(super) fn remove_surplus(
    subject: &Subject,
    job: &Job,
    references: &References,
    verified: &dyn Fn(BlockId) -> bool,
) -> Result<Outcome, ClusterError> {
    let mut outcome = Outcome::default();
    for node in subject.node_indices() {
        job.begin("removing surplus copies", 0)?;
        let mut cursor = 0;
        loop {
            let (next, mut blocks) = match subject.store.list(node, cursor) {
                Ok(step) => step,
                Err(error) => {
                    let down = subject.placement.is_down(node);
                    outcome.skipped += u64::from(!down);
                    let node = subject.node_name(node);
                    tracing::info!(node, %error, "surplus copies were not looked for");
                    break;
                }
            };
            let listed = blocks.len() as u64;
            blocks.retain(|block| {
                references.has(*block) && !subject.placement.owners(*block).contains(&node)
            });
            blocks.sort_unstable();
            blocks.dedup();
            let (known, unknown): (Vec<_>, Vec<_>) =
                blocks.into_iter().partition(|block| verified(*block));
            for part in known.chunks(BATCH_BLOCKS) {
                remove_from(subject, job, node, part, Depth::Header, &mut outcome)?;
            }
            for part in unknown.chunks(BATCH_BLOCKS_WHOLE) {
                remove_from(subject, job, node, part, Depth::Contents, &mut outcome)?;
            }
            job.advance(listed)?;
            if next == 0 {
                break;
            }
            cursor = next;
        }
    }
    Ok(outcome)
}

fn remove_from(
    subject: &Subject,
    job: &Job,
    node: NodeIndex,
    blocks: &[BlockId],
    depth: Depth,
    outcome: &mut Outcome,
) -> Result<(), ClusterError> {
    let asks: Vec<_> =
        blocks.iter().map(|block| (*block, subject.placement.owners(*block))).collect();
    if depth == Depth::Contents {
        let block_bytes = u64::from(subject.volume.config().block_bytes);
        let copies: usize = asks.iter().map(|(_, owners)| owners.len()).sum();
        job.pace(copies as u64 * block_bytes)?;
    }
    let asked = Instant::now();
    let found = subject.store.check_on(&asks, depth);
    let all_good = |owners: usize, copies: &[ringfs_store::Copy]| {
        owners > 0
            && copies.len() == owners
            && copies.iter().all(|copy| copy.state == CopyState::Good)
    };
    let whole: Vec<BlockId> = asks
        .iter()
        .zip(&found)
        .filter(|((_, owners), copies)| all_good(owners.len(), copies))
        .map(|((block, _), _)| *block)
        .collect();
    outcome.kept += (blocks.len() - whole.len()) as u64;
    if whole.is_empty() {
        return Ok(());
    }
    let (now, ours) = (subject.volume.ring()?.0, subject.placement.epoch());
    if now != ours {
        return Err(ClusterError::RingChanged { from: ours.0, to: now.0 });
    }
    if asked.elapsed() > FRESH {
        outcome.kept += whole.len() as u64;
        return Ok(());
    }
    match subject.nodes[node.0].remove(&whole) {
        Ok(removed) => outcome.removed += removed,
        Err(error) => {
            tracing::info!(%error, "surplus copies were not removed");
            outcome.kept += whole.len() as u64;
        }
    }
    Ok(())
}
