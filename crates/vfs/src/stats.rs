//! How a mount is doing, in numbers that are in memory: nobody is asked, nothing is waited for.

use crate::Vfs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A mount's state at one moment, and its counters since it began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VfsStats {
    /// Bytes written and not yet safe on block servers.
    pub write_buffer_used_bytes: u64,
    /// Most of them; writers wait beyond.
    pub write_buffer_limit_bytes: u64,
    /// Files with data that are not committed yet.
    pub dirty_files: u64,
    /// Their bytes.
    pub dirty_bytes: u64,
    /// Bytes of blocks kept for readers.
    pub block_cache_used_bytes: u64,
    /// Most of them.
    pub block_cache_limit_bytes: u64,
    /// Blocks wanted by readers that were in memory (or on their way there).
    pub block_cache_hits: u64,
    /// Blocks wanted by readers that were fetched, whole or in part.
    pub block_cache_misses: u64,
    /// Inodes of which something is kept in memory.
    pub inodes_known: u64,
    /// Inodes that the kernel was told to forget, since another mount changed them.
    pub invalidations_inode: u64,
    /// Names that the kernel was told to forget.
    pub invalidations_entry: u64,
    /// How often the connection that tells of other mounts' changes was lost.
    pub watch_losses: u64,
    /// Since the session's last sign of life that the metadata server acknowledged; since its
    /// begin if there was none.
    pub heartbeat_age: Duration,
    /// Signs of life that failed.
    pub heartbeat_failures: u64,
    /// The session was ended by others: the mount can change nothing any more.
    pub fenced: bool,
}

/// Something that happens now and then.
#[derive(Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn one_more(&self) {
        // Nothing is ordered by these.
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the mount counts, besides what its parts do.
pub(crate) struct Counts {
    began: Instant,
    /// Milliseconds after `began`.
    last_beat_ms: AtomicU64,
    pub(crate) heartbeat_failures: Count,
    pub(crate) invalidations_inode: Count,
    pub(crate) invalidations_entry: Count,
    pub(crate) watch_losses: Count,
}

impl Counts {
    pub(crate) fn new() -> Counts {
        Counts {
            began: Instant::now(),
            last_beat_ms: AtomicU64::new(0),
            heartbeat_failures: Count::default(),
            invalidations_inode: Count::default(),
            invalidations_entry: Count::default(),
            watch_losses: Count::default(),
        }
    }

    pub(crate) fn note_beat(&self) {
        self.last_beat_ms.store(self.began.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    fn heartbeat_age(&self) -> Duration {
        let last = Duration::from_millis(self.last_beat_ms.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(last)
    }
}

impl Vfs {
    /// The state and the counters of this mount.
    pub fn stats(&self) -> VfsStats {
        let (dirty_files, dirty_bytes) = self.write_back.waiting();
        let counts = &self.counts;
        VfsStats {
            write_buffer_used_bytes: self.budget.used_bytes() as u64,
            write_buffer_limit_bytes: self.config.write_buffer_bytes as u64,
            dirty_files: dirty_files as u64,
            dirty_bytes,
            block_cache_used_bytes: self.blocks.used_bytes(),
            block_cache_limit_bytes: self.config.block_cache_bytes as u64,
            block_cache_hits: self.blocks.hits.get(),
            block_cache_misses: self.blocks.misses.get(),
            inodes_known: self.nodes.len() as u64,
            invalidations_inode: counts.invalidations_inode.get(),
            invalidations_entry: counts.invalidations_entry.get(),
            watch_losses: counts.watch_losses.get(),
            heartbeat_age: counts.heartbeat_age(),
            heartbeat_failures: counts.heartbeat_failures.get(),
            fenced: self.upkeep.is_fenced(),
        }
    }
}
