//! POSIX semantics over a volume's metadata and blocks.
//!
//! This is the one place that joins the two for users: frontends (FUSE today) translate their
//! wire to the operations of [`Vfs`] and nothing else. There are no handles; every operation
//! names an inode, and what is known of it is kept in its node.
//!
//! The way of a write: bytes go into the node's pending layer (`pending`), full blocks leave at
//! once (`upload`), and a flush (close, fsync, age or pressure) sends the tails and commits the
//! extents by one script (`flush`). The way of a read: committed and pending records are
//! overlaid (`read`), small random reads fetch only their segments, the rest goes through whole
//! blocks in memory (`block_cache`).
//!
//! Locks, in the order in which they may be taken: `Node::flush`, then a victim stripe, then the
//! node's state. The state lock is never held across a round trip.

mod attributes;
mod block_cache;
mod budget;
mod coherence;
mod collect;
mod commit;
mod compact;
mod config;
mod error;
mod flush;
mod locks;
mod name_memory;
mod names;
mod node;
mod open;
mod pending;
mod permission;
mod read;
mod removal;
mod share;
mod sparse;
mod stats;
mod streams;
mod trash;
mod unreadable;
mod upkeep;
mod upload;
mod write;
mod write_back;

pub use attributes::{TimeChange, Times, VolumeStat};
pub use coherence::{KernelCache, KernelChange};
pub use config::VfsConfig;
pub use error::VfsError;
pub use locks::{LockAnswer, LockRequest};
pub use names::{DirListing, Looked};
pub use node::without_set_id;
pub use open::Opened;
pub use permission::{Caller, MAY_EXECUTE, MAY_READ, MAY_WRITE};
pub use share::Place;
pub use sparse::{Allocation, Seek};
pub use stats::VfsStats;
pub use upkeep::Placements;
pub use write::WriteMode;

use block_cache::BlockCache;
use budget::Budget;
use coherence::{Changes, KernelQueue};
use collect::Collector;
use crossbeam_channel::{Receiver, Sender, bounded};
use node::NodeTable;
use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use ringfs_base::{Clock, InodeId};
use ringfs_meta::Session;
use ringfs_store::Store;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;
use upload::Uploader;
use write_back::WriteBackQueue;

/// Inodes whose removal and opening exclude each other share one of so many locks.
const VICTIM_STRIPES: usize = 256;

/// A mounted volume.
pub struct Vfs {
    session: Arc<Session>,
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    config: VfsConfig,
    nodes: NodeTable,
    names: name_memory::NameMemory,
    changes: Changes,
    /// Changes by other mounts are not heard now.
    deaf: AtomicBool,
    kernel: KernelQueue,
    kernel_cache: Arc<dyn KernelCache>,
    budget: Arc<Budget>,
    uploader: Uploader,
    blocks: BlockCache,
    write_back: WriteBackQueue,
    /// The number of the next file that is opened.
    handles: AtomicU64,
    collector: Collector,
    placements: Box<dyn Placements>,
    /// Held for writing while a name is removed, for reading while an inode is being opened, so
    /// that the answer to "is it open here?" stays true until the script has run.
    victims: Vec<RwLock<()>>,
    stopping: AtomicBool,
    /// Nothing is ever sent: the sender goes when the mount stops, and that wakes the workers.
    stopped: (Mutex<Option<Sender<()>>>, Receiver<()>),
    workers: Mutex<Vec<JoinHandle<()>>>,
    watch: Mutex<Option<ringfs_meta::Watch>>,
    upkeep: upkeep::Upkeep,
    locks: locks::Locks,
    counts: stats::Counts,
    unreadable: unreadable::Unreadable,
}

impl Vfs {
    /// Starts the workers: write-back, upkeep of the session, compaction, and the watcher that
    /// learns what other mounts change. `kernel` is told what it must forget.
    pub fn start(
        session: Arc<Session>,
        store: Arc<Store>,
        placements: Box<dyn Placements>,
        clock: Arc<dyn Clock>,
        config: VfsConfig,
        kernel: Arc<dyn KernelCache>,
    ) -> Result<Arc<Vfs>, VfsError> {
        let budget = Arc::new(Budget::new(config.write_buffer_bytes));
        let (stop, stopped) = bounded(0);
        let vfs = Arc::new(Vfs {
            uploader: Uploader::start(store.clone(), budget.clone(), config.upload_threads),
            blocks: BlockCache::start(
                store.clone(),
                config.block_cache_bytes as u64,
                config.read_ahead_threads,
            ),
            collector: Collector::start(store.clone()),
            session,
            store,
            clock,
            nodes: NodeTable::new(),
            names: name_memory::NameMemory::new(),
            changes: Changes::new(),
            deaf: AtomicBool::new(false),
            kernel: KernelQueue::new(),
            kernel_cache: kernel,
            budget,
            write_back: WriteBackQueue::new(),
            handles: AtomicU64::new(1),
            placements,
            victims: (0..VICTIM_STRIPES).map(|_| RwLock::new(())).collect(),
            stopping: AtomicBool::new(false),
            stopped: (Mutex::new(Some(stop)), stopped),
            workers: Mutex::default(),
            watch: Mutex::default(),
            upkeep: upkeep::Upkeep::new(),
            locks: locks::Locks::new(),
            counts: stats::Counts::new(),
            unreadable: unreadable::Unreadable::default(),
            config,
        });
        vfs.start_workers()?;
        Ok(vfs)
    }

    /// Writes back everything that is buffered, ends the workers and leaves the session. The
    /// error tells what could not be written; the session is left all the same. Servers that do
    /// not answer are waited for 10 s if writes are buffered, and 1 s otherwise, besides the
    /// time-out of a request under way.
    pub fn stop(&self) -> Result<(), VfsError> {
        if self.stopping.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        let flushed = self.flush_at_end();
        self.session.close_by(Instant::now() + flush::LEAVE_PATIENCE);
        self.write_back.wake();
        self.upkeep.wake();
        *self.stopped.0.lock() = None;
        *self.watch.lock() = None;
        for worker in self.workers.lock().drain(..) {
            if worker.join().is_err() {
                tracing::error!("a worker panicked");
            }
        }
        self.stop_locks();
        self.collector.stop();
        if let Err(error) = self.session.end() {
            tracing::warn!(%error, "could not leave the volume; other mounts end the session later");
        }
        flushed
    }

    /// The session behind this mount.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The block store behind this mount.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The settings.
    pub fn config(&self) -> &VfsConfig {
        &self.config
    }

    /// Bytes written and not yet safe on block servers, and bytes of blocks cached.
    pub fn memory_bytes(&self) -> (usize, u64) {
        (self.budget.used_bytes(), self.blocks.used_bytes())
    }

    /// Inodes of which something is kept in memory.
    pub fn inodes_known(&self) -> usize {
        self.nodes.len()
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    fn victim(&self, ino: InodeId) -> &RwLock<()> {
        &self.victims[ino.0 as usize % VICTIM_STRIPES]
    }

    /// Excludes the removal of the inode's last name while it is being opened.
    fn opening(&self, ino: InodeId) -> RwLockReadGuard<'_, ()> {
        let lock = self.victim(ino);
        lock.try_read().unwrap_or_else(|| {
            ringfs_link::about_to_wait();
            lock.read()
        })
    }

    /// Excludes opening the inode while its last name may be removed.
    fn removing(&self, ino: InodeId) -> RwLockWriteGuard<'_, ()> {
        let lock = self.victim(ino);
        lock.try_write().unwrap_or_else(|| {
            ringfs_link::about_to_wait();
            lock.write()
        })
    }
}

/// A named thread. Failing to start one is failing to start the program.
pub(crate) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    std::thread::Builder::new()
        .name(format!("ringfs-{name}"))
        .spawn(body)
        .expect("the system can start a thread")
}
