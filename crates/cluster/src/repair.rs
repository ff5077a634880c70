//! Repair: every owner of every block holds a good copy, and nobody else does.
//!
//! The most endangered come first: one pass mends blocks that have a single good copy left (or
//! none on their owners), the next all others that lack one, the last removes copies from nodes that
//! do not own them. A pass looks at headers only, many blocks a round trip, and moves whole blocks
//! just where something is wrong; `deep` reads and verifies every byte instead (a scrub).
//!
//! Stopped, it says how far it was, and goes on from there; started anew it is done quickly with what
//! is good already.

use crate::error::ClusterError;
use crate::job::Job;
use crate::references::References;
use crate::subject::Subject;
use crate::walk::Walk;
use parking_lot::Mutex;
use ringfs_base::{BlockId, SliceId};
use ringfs_store::{Copy, CopyState, Depth, NodeIndex, Scope, StoreError, Surplus};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashSet};

/// Blocks that one thread looks at together.
const BATCH_BLOCKS: usize = 256;
/// Blocks that one thread reads whole together: some 16 MiB for each copy.
const BATCH_BLOCKS_DEEP: usize = 16;
/// Lost blocks that are remembered by number.
const LOST_MAX: usize = 10_000;

/// What a repair is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepairOptions {
    /// Reads and verifies every byte of every copy, instead of headers.
    pub deep: bool,
    /// Threads that work at once.
    pub threads: usize,
    /// Where an earlier repair was stopped.
    pub resume: Option<Position>,
}

impl Default for RepairOptions {
    fn default() -> RepairOptions {
        RepairOptions { deep: false, threads: 4, resume: None }
    }
}

/// The part of a repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pass {
    /// Blocks with at most one good copy.
    Endangered,
    /// All blocks that lack one.
    Degraded,
    /// Copies that nobody needs.
    Surplus,
}

/// How far a repair was: everything before is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The pass.
    pub pass: Pass,
    /// The first slice not done in it.
    pub slice: u64,
}

/// What a repair did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RepairReport {
    /// Blocks looked at.
    pub blocks: u64,
    /// Blocks that lacked a good copy on an owner that could be reached.
    pub degraded: u64,
    /// Copies written.
    pub copies_written: u64,
    /// Copies removed from nodes that do not own them.
    pub surplus_removed: u64,
    /// Blocks that still lack a copy: a node refused it, or a newer program wrote what is there.
    pub not_mended: u64,
    /// Copies whose owner could not be reached: repair again when it is back.
    pub owners_unreachable: u64,
    /// Blocks that may be only on nodes that could not be reached.
    pub out_of_reach: u64,
    /// Blocks of which no good copy is left.
    pub lost: u64,
    /// The first of these.
    pub lost_blocks: Vec<String>,
    /// Where it was stopped, if it was.
    pub stopped_at: Option<Position>,
}

impl RepairReport {
    /// Every block has all its copies now.
    pub fn is_whole(&self) -> bool {
        self.not_mended + self.owners_unreachable + self.out_of_reach + self.lost == 0
            && self.stopped_at.is_none()
    }
}

/// Repairs a volume.
///
/// # Errors
/// When the metadata cannot be read, or the ring changed meanwhile. Nodes that cannot be reached
/// and blocks that are lost are told in the report, and so is a stop.
pub fn repair(
    subject: &Subject,
    options: &RepairOptions,
    job: &Job,
) -> Result<RepairReport, ClusterError> {
    let references = match References::read(&subject.volume, job) {
        Err(ClusterError::Stopped) => {
            let start = Position { pass: Pass::Endangered, slice: 0 };
            let stopped_at = Some(options.resume.unwrap_or(start));
            return Ok(RepairReport { stopped_at, ..RepairReport::default() });
        }
        other => other?,
    };
    let run = Run {
        subject,
        options,
        job,
        slices: references.sorted(),
        tally: Mutex::new(Tally::default()),
    };
    let from = options.resume.unwrap_or(Position { pass: Pass::Endangered, slice: 0 });
    let mut stopped_at = None;
    let mut later = from.pass > Pass::Endangered;
    if from.pass == Pass::Endangered {
        stopped_at = run.blocks_pass(Pass::Endangered, from.slice)?;
        later = run.tally.lock().later > 0;
    }
    if stopped_at.is_none() && later && from.pass <= Pass::Degraded {
        let slice = if from.pass == Pass::Degraded { from.slice } else { 0 };
        stopped_at = run.blocks_pass(Pass::Degraded, slice)?;
    }
    if stopped_at.is_none() {
        stopped_at = run.surplus_pass(&references)?;
    }
    run.conclude(stopped_at)
}

#[derive(Default)]
struct Tally {
    report: RepairReport,
    /// Blocks that the first pass leaves to the second.
    later: u64,
    lost: BTreeSet<BlockId>,
}

struct Run<'a> {
    subject: &'a Subject,
    options: &'a RepairOptions,
    job: &'a Job,
    slices: Vec<(SliceId, u32)>,
    tally: Mutex<Tally>,
}

impl Run<'_> {
    /// One pass over all blocks from `slice` on. Where it was stopped, if it was.
    fn blocks_pass(&self, pass: Pass, slice: u64) -> Result<Option<Position>, ClusterError> {
        let batch = if self.options.deep { BATCH_BLOCKS_DEEP } else { BATCH_BLOCKS };
        let walk = Walk::new(&self.slices, slice, batch, &|_| true);
        let what = match pass {
            Pass::Endangered => "mending endangered blocks",
            Pass::Degraded | Pass::Surplus => "mending blocks",
        };
        let outcome = self
            .job
            .begin(what, walk.total())
            .and_then(|()| walk.run(self.options.threads, |batch| self.mend_batch(pass, batch)));
        match outcome {
            Ok(()) => Ok(None),
            Err(ClusterError::Stopped) => Ok(Some(Position { pass, slice: walk.position() })),
            Err(e) => Err(e),
        }
    }

    fn mend_batch(&self, pass: Pass, batch: &[BlockId]) -> Result<(), ClusterError> {
        let depth = if self.options.deep { Depth::Contents } else { Depth::Header };
        let found = self.subject.store.check_many(batch, depth, Scope::Owners);
        if self.options.deep {
            self.spend(found.iter().map(Vec::len).sum())?;
        }
        for (block, copies) in batch.iter().zip(found) {
            let state = Condition::of(&copies);
            let now = match pass {
                Pass::Endangered => state.wanting && state.good <= 1,
                Pass::Degraded | Pass::Surplus => state.wanting,
            };
            {
                let mut tally = self.tally.lock();
                if pass == Pass::Endangered || self.options.resume.is_some() {
                    tally.report.blocks += 1;
                    tally.report.owners_unreachable += state.unreachable;
                    tally.report.degraded += u64::from(state.wanting);
                }
                tally.later += u64::from(state.wanting && !now);
            }
            if now {
                self.spend(copies.len())?;
                self.mend(*block, Surplus::Keep);
            }
        }
        self.job.advance(batch.len() as u64)
    }

    fn spend(&self, copies: usize) -> Result<(), ClusterError> {
        let block_bytes = u64::from(self.subject.volume.config().block_bytes);
        self.job.spend(copies as u64 * block_bytes)
    }

    fn mend(&self, block: BlockId, surplus: Surplus) {
        let outcome = self.subject.store.repair(block, surplus);
        let mut tally = self.tally.lock();
        let report = &mut tally.report;
        match outcome {
            Ok(repaired) => {
                report.copies_written += repaired.written as u64;
                report.surplus_removed += repaired.dropped as u64;
                let short = repaired.owners_good < repaired.owners;
                if short && surplus == Surplus::Keep {
                    // An owner out of reach has been counted as such when it was looked at.
                    let copies = self.subject.store.check(block, Depth::Header, Scope::Owners);
                    report.not_mended += u64::from(Condition::of(&copies).wanting);
                }
            }
            Err(StoreError::Unavailable { .. }) => report.out_of_reach += 1,
            Err(error) => {
                tracing::warn!(%block, %error, "no good copy is left");
                report.lost += 1;
                if tally.lost.len() < LOST_MAX {
                    tally.lost.insert(block);
                }
                self.job.problems(1);
            }
        }
    }

    /// Removes copies from nodes that do not own them. A node that cannot be listed is skipped:
    /// what it has too much harms nobody.
    fn surplus_pass(&self, references: &References) -> Result<Option<Position>, ClusterError> {
        let stopped = Some(Position { pass: Pass::Surplus, slice: 0 });
        match self.surplus_everywhere(references) {
            Err(ClusterError::Stopped) => Ok(stopped),
            other => other.map(|()| None),
        }
    }

    fn surplus_everywhere(&self, references: &References) -> Result<(), ClusterError> {
        for node in self.subject.node_indices() {
            self.job.begin("removing surplus copies", 0)?;
            let mut cursor = 0;
            loop {
                let (next, blocks) = match self.subject.store.list(node, cursor) {
                    Ok(step) => step,
                    Err(error) => {
                        let node = self.subject.node_name(node);
                        tracing::warn!(node, %error, "surplus copies were not looked for");
                        break;
                    }
                };
                let listed = blocks.len() as u64;
                self.drop_surplus(node, blocks, references)?;
                self.job.advance(listed)?;
                if next == 0 {
                    break;
                }
                cursor = next;
            }
        }
        Ok(())
    }

    fn drop_surplus(
        &self,
        node: NodeIndex,
        mut blocks: Vec<BlockId>,
        references: &References,
    ) -> Result<(), ClusterError> {
        let placement = &self.subject.placement;
        blocks.retain(|block| references.has(*block) && !placement.owners(*block).contains(&node));
        blocks.sort_unstable();
        blocks.dedup();
        if blocks.is_empty() {
            return Ok(());
        }
        // Under an old table the new owners would look like nodes that need not have a copy.
        let (now, ours) = (self.subject.volume.ring()?.0, self.subject.store.epoch());
        if now != ours {
            return Err(ClusterError::RingChanged { from: ours.0, to: now.0 });
        }
        for block in blocks {
            self.spend(placement.owners(block).len())?;
            self.mend(block, Surplus::Drop);
        }
        Ok(())
    }

    /// A block that was removed while we looked is not lost: ask the metadata once more.
    fn conclude(self, stopped_at: Option<Position>) -> Result<RepairReport, ClusterError> {
        let Tally { mut report, lost, .. } = self.tally.into_inner();
        report.stopped_at = stopped_at;
        if report.lost > 0 {
            let references = References::read(&self.subject.volume, &Job::new())?;
            let real: HashSet<BlockId> =
                lost.iter().copied().filter(|block| references.has(*block)).collect();
            report.lost = report.lost.min(LOST_MAX as u64 + real.len() as u64);
            if lost.len() < LOST_MAX {
                report.lost = real.len() as u64;
            }
            let mut real: Vec<BlockId> = real.into_iter().collect();
            real.sort_unstable();
            report.lost_blocks = real.iter().map(BlockId::to_string).collect();
        }
        Ok(report)
    }
}

/// How the copies of one block on its owners are.
struct Condition {
    good: usize,
    /// An owner that can be reached has no good copy.
    wanting: bool,
    unreachable: u64,
}

impl Condition {
    fn of(copies: &[Copy]) -> Condition {
        let mut condition = Condition { good: 0, wanting: false, unreachable: 0 };
        for copy in copies {
            match copy.state {
                CopyState::Good => condition.good += 1,
                CopyState::Missing | CopyState::Bad(_) => condition.wanting = true,
                CopyState::Unreachable(_) => condition.unreachable += 1,
            }
        }
        condition
    }
}
