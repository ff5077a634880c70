//! Going over blocks and bringing copies to the owners that lack them: what a move, a refill and the
//! second look at the end of a move have in common.
//!
//! Owners and those who held a block before are asked for its header, many blocks in a round trip.
//! Only what is missing or bad is copied, and read back. Nothing is ever removed here.

use super::scope::Scope;
use crate::error::ClusterError;
use crate::job::Job;
use crate::references::References;
use crate::repair::{Pass, Position};
use crate::subject::Subject;
use crate::walk::Walk;
use parking_lot::Mutex;
use ringfs_base::{BlockId, SliceId};
use ringfs_store::{Copy, CopyState, Damage, Depth, Fill, NodeIndex, StoreError, Surplus};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, Instant};

/// Blocks whose headers one thread asks for together.
const BATCH_BLOCKS: usize = 256;
/// Bytes of blocks that one thread copies together: they are in memory twice while they are read
/// back, and a server serves nobody else while it takes or gives its part of them.
const COPY_BYTES: usize = 4 << 20;
/// Threads that copy at once.
const THREADS: usize = 4;
/// How often it is recorded how far the work is.
const NOTE_EVERY: Duration = Duration::from_secs(1);
/// Blocks without a good copy that are remembered by number.
const LOST_MAX: usize = 10_000;

/// Which copies are read whole although their headers are in order.
#[derive(Clone, Copy)]
pub(super) enum Reading<'a> {
    /// None: headers suffice.
    Headers,
    /// Those on owners that had none before, unless this pass writes and reads them back itself.
    New,
    /// The same, for blocks that these do not have.
    NewUnless(&'a References),
    /// The same, on these nodes.
    NewOn(&'a BTreeSet<NodeIndex>),
}

/// What was done, and what could not be done.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Copies written.
    pub(super) copies: u64,
    /// Bytes of these.
    pub(super) bytes: u64,
    /// Blocks that the pass for endangered ones left to the next.
    pub(super) later: u64,
    /// Copies that belong on nodes that cannot be reached.
    pub(super) unreachable: BTreeMap<NodeIndex, u64>,
    /// Copies that a node could not take, mostly because its memory is full.
    pub(super) refused: BTreeMap<NodeIndex, u64>,
    /// Blocks that may be only on nodes that cannot be reached.
    pub(super) out_of_reach: u64,
    /// Blocks without a good copy anywhere, or removed meanwhile.
    pub(super) lost: BTreeSet<BlockId>,
}

impl Tally {
    /// Every owner has what it should, as far as there is a copy within reach.
    pub(super) fn is_complete(&self) -> bool {
        self.unreachable.is_empty() && self.refused.is_empty()
    }
}

/// What records how far the work is.
pub(super) type Note<'a> = &'a (dyn Fn(Position, &Tally) -> Result<(), ClusterError> + Sync);

/// The passes over the blocks of one scope.
pub(super) struct Passes<'a> {
    pub(super) subject: &'a Subject,
    pub(super) job: &'a Job,
    pub(super) scope: &'a Scope,
    pub(super) slices: Vec<(SliceId, u32)>,
    pub(super) note: Option<Note<'a>>,
    pub(super) tally: Mutex<Tally>,
    noted: Mutex<Instant>,
    /// Their new copies were read back in this run.
    verified: Mutex<HashSet<BlockId>>,
}

impl<'a> Passes<'a> {
    pub(super) fn new(
        subject: &'a Subject,
        job: &'a Job,
        scope: &'a Scope,
        references: &References,
        note: Option<Note<'a>>,
    ) -> Passes<'a> {
        Passes {
            subject,
            job,
            scope,
            slices: references.sorted(),
            note,
            tally: Mutex::default(),
            noted: Mutex::new(Instant::now()),
            verified: Mutex::default(),
        }
    }

    /// Blocks with one good copy left first, then all others.
    pub(super) fn both(
        &self,
        from: Option<Position>,
        reading: Reading<'_>,
    ) -> Result<(), ClusterError> {
        let from = from.unwrap_or(Position { pass: Pass::Endangered, slice: 0 });
        if from.pass == Pass::Endangered {
            self.run(Pass::Endangered, from.slice, reading)?;
        }
        let slice = if from.pass == Pass::Endangered { 0 } else { from.slice };
        let nothing_left =
            from.pass == Pass::Endangered && matches!(reading, Reading::Headers) && {
                let tally = self.tally.lock();
                tally.later == 0
            };
        if !nothing_left {
            self.run(Pass::Degraded, slice, reading)?;
        }
        Ok(())
    }

    /// One pass from a slice on.
    pub(super) fn run(
        &self,
        pass: Pass,
        slice: u64,
        reading: Reading<'_>,
    ) -> Result<(), ClusterError> {
        let wanted = |block: BlockId| self.scope.has(block);
        let walk = Walk::new(&self.slices, slice, BATCH_BLOCKS, &wanted);
        let what = match pass {
            Pass::Endangered => "copying endangered blocks",
            Pass::Degraded | Pass::Surplus => "copying blocks",
        };
        {
            // The last pass sees what the one before could not do.
            let mut tally = self.tally.lock();
            tally.unreachable.clear();
            tally.refused.clear();
            tally.out_of_reach = 0;
        }
        self.job.begin(what, walk.total())?;
        let position = || Position { pass, slice: walk.position() };
        let outcome = walk.run(THREADS, |batch| {
            self.place(pass, batch, None, reading)?;
            self.job.advance(batch.len() as u64)?;
            match self.noted.try_lock() {
                Some(mut noted) if noted.elapsed() >= NOTE_EVERY => {
                    *noted = Instant::now();
                    self.record(position())
                }
                _ => Ok(()),
            }
        });
        match outcome {
            // Whoever goes on will be glad of it; if it cannot be told he begins a little earlier.
            Err(ClusterError::Stopped) => {
                self.record(position()).ok();
                Err(ClusterError::Stopped)
            }
            Ok(()) => self.record(position()),
            error => error,
        }
    }

    fn record(&self, position: Position) -> Result<(), ClusterError> {
        let Some(note) = self.note else { return Ok(()) };
        let tally = self.tally.lock().clone();
        note(position, &tally)
    }

    /// Brings the copies of some blocks to their owners, whether they are in the scope or not. Of
    /// the other nodes those that had them before are asked, and `also`.
    pub(super) fn place(
        &self,
        pass: Pass,
        batch: &[BlockId],
        also: Option<NodeIndex>,
        reading: Reading<'_>,
    ) -> Result<(), ClusterError> {
        let (store, placement) = (self.subject.store(), &self.subject.placement);
        let asks: Vec<(BlockId, Vec<NodeIndex>)> = batch
            .iter()
            .map(|block| {
                let mut nodes = placement.owners(*block);
                for node in placement.former_owners(*block).into_iter().chain(also) {
                    if !nodes.contains(&node) {
                        nodes.push(node);
                    }
                }
                (*block, nodes)
            })
            .collect();
        let seen = store.check_on(&asks, Depth::Header);
        let (mut fills, mut reads, mut odd) = (Vec::new(), Vec::new(), Vec::new());
        for (block, copies) in batch.iter().copied().zip(seen) {
            let state = Condition::of(&copies);
            if pass == Pass::Endangered && !state.targets.is_empty() && state.sources.len() > 1 {
                self.tally.lock().later += 1;
                continue;
            }
            {
                let mut tally = self.tally.lock();
                for node in &state.unreachable {
                    *tally.unreachable.entry(*node).or_default() += 1;
                }
                for node in &state.newer {
                    *tally.refused.entry(*node).or_default() += 1;
                }
            }
            let read = self.to_read(pass, block, &copies, reading);
            if !read.is_empty() {
                reads.push((block, read, state.bytes));
            }
            match (state.targets.is_empty(), state.sources.is_empty()) {
                (true, _) => {}
                (false, true) => odd.push(block),
                (false, false) => fills.push(Fill {
                    block,
                    sources: state.sources,
                    targets: state.targets,
                    bytes: state.bytes,
                }),
            }
        }
        self.copy(fills, &mut odd)?;
        self.read_back(reads, &mut odd)?;
        odd.sort_unstable();
        odd.dedup();
        odd.into_iter().try_for_each(|block| self.mend(block))
    }

    /// Owners whose copies are to be read whole although their headers are in order.
    fn to_read(
        &self,
        pass: Pass,
        block: BlockId,
        copies: &[Copy],
        reading: Reading<'_>,
    ) -> Vec<NodeIndex> {
        let wanted = pass != Pass::Endangered
            && match reading {
                Reading::Headers => false,
                Reading::New => !self.verified.lock().contains(&block),
                Reading::NewUnless(known) => !known.has(block),
                Reading::NewOn(_) => true,
            };
        if !wanted {
            return Vec::new();
        }
        let good = |copy: &&Copy| copy.is_owner && copy.state == CopyState::Good;
        let new = |copy: &&Copy| match reading {
            Reading::NewOn(nodes) if !nodes.contains(&copy.node) => false,
            _ => self.scope.is_new_at(block, copy.node),
        };
        copies.iter().filter(good).filter(new).map(|copy| copy.node).collect()
    }

    /// Copies blocks, as many at a time as memory is meant for.
    fn copy(&self, fills: Vec<Fill>, odd: &mut Vec<BlockId>) -> Result<(), ClusterError> {
        for part in parts(&fills, self.job.step(COPY_BYTES), |f| f.bytes * f.targets.len().max(1)) {
            let bytes: usize = part.iter().map(|fill| fill.bytes * fill.targets.len()).sum();
            self.job.spend(bytes as u64)?;
            let done = self.subject.store().fill(part);
            let mut tally = self.tally.lock();
            for (fill, done) in part.iter().zip(done) {
                tally.copies += done.written as u64;
                tally.bytes += done.bytes as u64;
                if done.no_source {
                    odd.push(fill.block);
                    continue;
                }
                let failed = fill.targets.iter().filter(|node| !done.good.contains(node));
                let mut failures = 0;
                for node in failed {
                    *tally.refused.entry(*node).or_default() += 1;
                    failures += 1;
                }
                if failures == 0 {
                    self.verified.lock().insert(fill.block);
                }
            }
        }
        Ok(())
    }

    /// Reads copies whole that somebody else wrote; those that are no good are written anew.
    fn read_back(
        &self,
        reads: Vec<(BlockId, Vec<NodeIndex>, usize)>,
        odd: &mut Vec<BlockId>,
    ) -> Result<(), ClusterError> {
        for part in
            parts(&reads, self.job.step(COPY_BYTES), |(_, nodes, bytes)| nodes.len() * bytes)
        {
            self.job
                .pace(part.iter().map(|(_, nodes, bytes)| (nodes.len() * bytes) as u64).sum())?;
            let asks: Vec<_> =
                part.iter().map(|(block, nodes, _)| (*block, nodes.clone())).collect();
            for (block, copies) in
                asks.iter().zip(self.subject.store().check_on(&asks, Depth::Contents))
            {
                for copy in copies {
                    match copy.state {
                        CopyState::Good => {}
                        CopyState::Missing | CopyState::Bad(_) => odd.push(block.0),
                        CopyState::Unreachable(_) => {
                            *self.tally.lock().unreachable.entry(copy.node).or_default() += 1;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// The long way: a copy is looked for everywhere.
    fn mend(&self, block: BlockId) -> Result<(), ClusterError> {
        let store = self.subject.store();
        match store.repair(block, Surplus::Keep) {
            Ok(repaired) => {
                let copies = store.check(block, Depth::Header, ringfs_store::Scope::Owners);
                let bytes = copies.iter().map(|copy| copy.bytes).max().unwrap_or(0);
                self.job.spend((bytes * repaired.written) as u64)?;
                let mut tally = self.tally.lock();
                tally.copies += repaired.written as u64;
                tally.bytes += (bytes * repaired.written) as u64;
                let state = Condition::of(&copies);
                for node in state.targets.iter().chain(&state.newer) {
                    *tally.refused.entry(*node).or_default() += 1;
                }
            }
            Err(StoreError::Unavailable { .. }) => self.tally.lock().out_of_reach += 1,
            // Lost, or its file was removed meanwhile: that is told apart when all is done.
            Err(error) => {
                tracing::debug!(%block, %error, "no good copy was found");
                let mut tally = self.tally.lock();
                if tally.lost.len() < LOST_MAX {
                    tally.lost.insert(block);
                }
            }
        }
        Ok(())
    }
}

/// How the copies of one block are.
struct Condition {
    /// Who has a good one, owners first.
    sources: Vec<NodeIndex>,
    /// Owners without.
    targets: Vec<NodeIndex>,
    /// Owners that did not answer.
    unreachable: Vec<NodeIndex>,
    /// Owners with a copy that a newer program wrote.
    newer: Vec<NodeIndex>,
    /// Bytes of a good copy.
    bytes: usize,
}

impl Condition {
    fn of(copies: &[Copy]) -> Condition {
        let pick = |wanted: &dyn Fn(&Copy) -> bool| -> Vec<NodeIndex> {
            copies.iter().filter(|copy| wanted(copy)).map(|copy| copy.node).collect()
        };
        let newer = |copy: &Copy| matches!(copy.state, CopyState::Bad(Damage::Newer { .. }));
        let wanting = |copy: &Copy| matches!(copy.state, CopyState::Missing | CopyState::Bad(_));
        let good = |copy: &&Copy| copy.state == CopyState::Good;
        Condition {
            sources: pick(&|copy| copy.state == CopyState::Good),
            targets: pick(&|copy| copy.is_owner && wanting(copy) && !newer(copy)),
            unreachable: pick(&|c| c.is_owner && matches!(c.state, CopyState::Unreachable(_))),
            newer: pick(&|copy| copy.is_owner && newer(copy)),
            bytes: copies.iter().filter(good).map(|copy| copy.bytes).max().unwrap_or(0),
        }
    }
}

/// Cuts a list where its parts would be larger than `most` bytes; each has one entry at least.
fn parts<T>(list: &[T], most: usize, bytes: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let (mut parts, mut from, mut sum) = (Vec::new(), 0, 0);
    for (at, item) in list.iter().enumerate() {
        let more = bytes(item);
        if at > from && sum + more > most {
            parts.push(&list[from..at]);
            (from, sum) = (at, 0);
        }
        sum += more;
    }
    if from < list.len() {
        parts.push(&list[from..]);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_are_the_list_and_none_is_too_large(
            sizes in proptest::collection::vec(0..2 * COPY_BYTES, 0..40),
        ) {
            let cut = parts(&sizes, COPY_BYTES, |size| *size);
            prop_assert_eq!(&cut.concat(), &sizes);
            for part in cut {
                prop_assert!(part.len() == 1 || part.iter().sum::<usize>() <= COPY_BYTES);
                prop_assert!(!part.is_empty());
            }
        }
    }
}
