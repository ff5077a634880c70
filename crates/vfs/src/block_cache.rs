//! Whole blocks in memory, each fetched once however many readers want it, and read-ahead.
//!
//! Sequential readers and large reads go through here; small random reads fetch only their
//! segments and leave the cache alone (the kernel's page cache keeps those). It keeps also what a
//! sequential reader has passed, so a block that was read to its end soon goes: its memory, still
//! in the CPU's cache, serves the next one, which is faster than filling fresh pages.

use crate::VfsError;
use crate::stats::Count;
use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
use quick_cache::sync::{Cache, GuardResult};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use ringfs_base::BlockId;
use ringfs_base::limits::BLOCK_BYTES;
use ringfs_store::Store;
use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Blocks that may wait to be read ahead; more are simply not read ahead.
const READ_AHEAD_QUEUE_MAX: usize = 32;

/// Blocks that sequential readers have passed and that stay all the same: requests of a reader may
/// come out of order, and ends of requests are not those of blocks.
const PASSED_MAX: usize = 8;

/// How long a reader waits for another's fetch of the same block before fetching it itself.
const SHARED_FETCH_WAIT_MAX: Duration = Duration::from_secs(5);

#[derive(Clone)]
struct ByBytes;

impl Weighter<BlockId, Bytes> for ByBytes {
    fn weight(&self, _: &BlockId, bytes: &Bytes) -> u64 {
        bytes.len() as u64 + 64
    }
}

type Blocks = Cache<BlockId, Bytes, ByBytes>;

/// A block and how many bytes it has.
#[derive(Clone, Copy)]
pub(crate) struct BlockSpan {
    pub(crate) id: BlockId,
    pub(crate) len: u32,
}

pub(crate) struct BlockCache {
    blocks: Arc<Blocks>,
    store: Arc<Store>,
    ahead: Option<Sender<BlockSpan>>,
    passed: Mutex<VecDeque<BlockId>>,
    threads: Vec<JoinHandle<()>>,
    /// Blocks wanted by readers that were in memory, or on their way there.
    pub(crate) hits: Count,
    /// Those that were not.
    pub(crate) misses: Count,
}

impl BlockCache {
    pub(crate) fn start(store: Arc<Store>, limit_bytes: u64, threads: usize) -> BlockCache {
        let items = (limit_bytes / u64::from(BLOCK_BYTES)).max(16) as usize;
        let options = OptionsBuilder::new()
            .shards(4)
            .estimated_items_capacity(items)
            .weight_capacity(limit_bytes.max(4 * u64::from(BLOCK_BYTES)))
            .build();
        let blocks = match options {
            Ok(options) => Cache::with_options(
                options,
                ByBytes,
                DefaultHashBuilder::default(),
                Default::default(),
            ),
            Err(_) => Cache::with_weighter(items, limit_bytes, ByBytes),
        };
        let blocks = Arc::new(blocks);
        let (ahead, jobs): (_, Receiver<BlockSpan>) = bounded(READ_AHEAD_QUEUE_MAX);
        let threads = (0..threads.max(1))
            .map(|_| {
                let (jobs, blocks, store) = (jobs.clone(), blocks.clone(), store.clone());
                crate::spawn("read-ahead", move || {
                    for span in jobs {
                        // Nobody asked yet: whoever does will fetch it and see the error.
                        if let Err(error) = fetch(&blocks, &store, span, || ()) {
                            tracing::debug!(%error, block = %span.id, "read-ahead failed");
                        }
                    }
                })
            })
            .collect();
        BlockCache {
            blocks,
            store,
            ahead: Some(ahead),
            passed: Mutex::default(),
            threads,
            hits: Count::default(),
            misses: Count::default(),
        }
    }

    /// The whole block, from memory or fetched now.
    pub(crate) fn get(&self, span: BlockSpan) -> Result<Bytes, VfsError> {
        let mut missed = false;
        let bytes = fetch(&self.blocks, &self.store, span, || missed = true);
        if missed {
            self.misses.one_more()
        } else {
            self.hits.one_more()
        }
        bytes
    }

    /// The block if it is in memory.
    pub(crate) fn peek(&self, id: BlockId) -> Option<Bytes> {
        let found = self.blocks.get(&id);
        if found.is_some() {
            self.hits.one_more()
        } else {
            self.misses.one_more()
        }
        found
    }

    /// Fetches the block in the background, if there is room in the queue.
    pub(crate) fn read_ahead(&self, span: BlockSpan) {
        if self.blocks.peek(&span.id).is_none()
            && let Some(ahead) = &self.ahead
            && ahead.try_send(span).is_err()
        {
            tracing::trace!(block = %span.id, "read-ahead queue is full");
        }
    }

    /// A sequential reader has read the block to its end.
    pub(crate) fn pass(&self, id: BlockId) {
        let mut passed = self.passed.lock();
        if passed.contains(&id) {
            return;
        }
        passed.push_back(id);
        if passed.len() > PASSED_MAX
            && let Some(oldest) = passed.pop_front()
        {
            drop(passed);
            self.blocks.remove(&oldest);
        }
    }

    /// Bytes held.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.blocks.weight()
    }
}

/// `missed` is called when the block is fetched for this caller.
fn fetch(
    blocks: &Blocks,
    store: &Store,
    span: BlockSpan,
    missed: impl FnOnce(),
) -> Result<Bytes, VfsError> {
    let load = || -> Result<Bytes, VfsError> {
        missed();
        Ok(store.read_block(span.id, span.len)?)
    };
    let found = match blocks.get_value_or_guard(&span.id, Some(Duration::ZERO)) {
        GuardResult::Timeout => {
            ringfs_link::about_to_wait();
            blocks.get_value_or_guard(&span.id, Some(SHARED_FETCH_WAIT_MAX))
        }
        found => found,
    };
    match found {
        GuardResult::Value(bytes) => Ok(bytes),
        GuardResult::Guard(guard) => {
            let bytes = load()?;
            // Refused only when the cache is being torn down: the caller has its bytes.
            if guard.insert(bytes.clone()).is_err() {
                tracing::trace!(block = %span.id, "block was not cached");
            }
            Ok(bytes)
        }
        GuardResult::Timeout => load(),
    }
}

impl Drop for BlockCache {
    fn drop(&mut self) {
        self.ahead = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a read-ahead thread panicked");
            }
        }
    }
}
