//! Going through the blocks of a volume in order, with several threads, so that it is known at any
//! moment before which slice everything is done: whoever is stopped goes on from there.

use crate::error::ClusterError;
use parking_lot::Mutex;
use ringfs_base::{BlockId, SliceId};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

/// Threads at most.
const THREADS_MAX: usize = 64;

/// A walk over some of the blocks.
pub(crate) struct Walk<'a> {
    slices: &'a [(SliceId, u32)],
    batch: usize,
    wanted: &'a (dyn Fn(BlockId) -> bool + Sync),
    source: Mutex<Source>,
    failed: AtomicBool,
}

/// Hands out blocks, and knows which have not come back yet.
struct Source {
    slice: usize,
    index: u32,
    under_way: BTreeSet<(usize, u32)>,
}

impl<'a> Walk<'a> {
    /// Over the wanted blocks of `slices` (sorted, with the number of blocks in each) from slice
    /// `from` on, in batches of `batch`.
    pub(crate) fn new(
        slices: &'a [(SliceId, u32)],
        from: u64,
        batch: usize,
        wanted: &'a (dyn Fn(BlockId) -> bool + Sync),
    ) -> Walk<'a> {
        let slice = slices.partition_point(|(known, _)| known.0 < from);
        let source = Source { slice, index: 0, under_way: BTreeSet::new() };
        Walk { slices, batch, wanted, source: Mutex::new(source), failed: AtomicBool::new(false) }
    }

    /// Wanted blocks from the begin on.
    pub(crate) fn total(&self) -> u64 {
        let rest = &self.slices[self.source.lock().slice..];
        let blocks =
            rest.iter().flat_map(|(slice, count)| crate::subject::blocks_of(*slice, *count));
        blocks.filter(|block| (self.wanted)(*block)).count() as u64
    }

    /// Everything before this slice is done; the largest number there is when all is.
    pub(crate) fn position(&self) -> u64 {
        let source = self.source.lock();
        let (at, _) = source.under_way.first().copied().unwrap_or((source.slice, source.index));
        self.slices.get(at).map_or(u64::MAX, |(slice, _)| slice.0)
    }

    /// Hands all batches to `each`, in `threads` threads. The first error ends it after the batches
    /// under way.
    pub(crate) fn run(
        &self,
        threads: usize,
        each: impl Fn(&[BlockId]) -> Result<(), ClusterError> + Sync,
    ) -> Result<(), ClusterError> {
        let threads = threads.clamp(1, THREADS_MAX);
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| self.work(&each))).collect();
            let mut outcome = Ok(());
            for worker in workers {
                let result = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                if outcome.is_ok() {
                    outcome = result;
                }
            }
            outcome
        })
    }

    fn work(
        &self,
        each: &(impl Fn(&[BlockId]) -> Result<(), ClusterError> + Sync),
    ) -> Result<(), ClusterError> {
        while !self.failed.load(Ordering::Relaxed) {
            let (begin, batch) = self.take();
            if batch.is_empty() {
                return Ok(());
            }
            each(&batch).inspect_err(|_| self.failed.store(true, Ordering::Relaxed))?;
            self.source.lock().under_way.remove(&begin);
        }
        Ok(())
    }

    fn take(&self) -> ((usize, u32), Vec<BlockId>) {
        let mut source = self.source.lock();
        let begin = (source.slice, source.index);
        let mut batch = Vec::new();
        while batch.len() < self.batch
            && let Some((slice, blocks)) = self.slices.get(source.slice)
        {
            if source.index < *blocks {
                let block = BlockId { slice: *slice, index: source.index };
                source.index += 1;
                if (self.wanted)(block) {
                    batch.push(block);
                }
            } else {
                source.slice += 1;
                source.index = 0;
            }
        }
        if !batch.is_empty() {
            source.under_way.insert(begin);
        }
        (begin, batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wanted_block_comes_once_and_the_position_is_behind_none_that_is_not_done() {
        let slices: Vec<(SliceId, u32)> = (1..50).map(|n| (SliceId(n), n as u32 % 4)).collect();
        let odd = |block: BlockId| block.slice.0 % 2 == 1;
        let walk = Walk::new(&slices, 10, 7, &odd);
        let total = walk.total();
        let seen = Mutex::new(BTreeSet::new());
        walk.run(4, |batch| {
            for block in batch {
                assert!(seen.lock().insert(*block), "{block} came twice");
                assert!(walk.position() <= block.slice.0);
            }
            Ok(())
        })
        .unwrap();
        let seen = seen.into_inner();
        assert_eq!(seen.len() as u64, total);
        assert!(seen.iter().all(|block| odd(*block) && block.slice.0 >= 10));
        assert_eq!(walk.position(), u64::MAX);
    }

    #[test]
    fn who_is_stopped_goes_on_from_what_is_done() {
        let slices: Vec<(SliceId, u32)> = (0..100).map(|n| (SliceId(n), 3)).collect();
        let all = |_: BlockId| true;
        let done = Mutex::new(BTreeSet::new());
        let walk = Walk::new(&slices, 0, 5, &all);
        let stopped = walk.run(3, |batch| {
            if batch[0].slice.0 > 40 {
                return Err(ClusterError::Stopped);
            }
            done.lock().extend(batch.iter().copied());
            Ok(())
        });
        assert!(matches!(stopped, Err(ClusterError::Stopped)));
        let again = Walk::new(&slices, walk.position(), 5, &all);
        again
            .run(3, |batch| {
                done.lock().extend(batch.iter().copied());
                Ok(())
            })
            .unwrap();
        assert_eq!(done.into_inner().len(), 300);
    }
}
