//! The inodes that the kernel (or another frontend) knows of, and what is cached of each.

use crate::commit::Undecided;
use crate::pending::Pending;
use crate::streams::Streams;
use crate::{VfsError, block_cache::BlockSpan};
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use ringfs_base::limits::BLOCK_BYTES;
use ringfs_base::{BlockId, InodeId, SliceId, Timestamp};
use ringfs_meta::{Attr, ExtentRecord, OpenData};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Committed data of a file, or where they are, as of one version of it.
#[derive(Default)]
pub(crate) struct Content {
    /// The `ctime` of the version; it grows strictly with every change. `None`: nothing is known.
    pub(crate) version: Option<Timestamp>,
    /// The oldest layer of chunk 0.
    pub(crate) inline: Bytes,
    pub(crate) chunks: HashMap<u64, Arc<Vec<ExtentRecord>>>,
    /// Every chunk below this one that is not in `chunks` has no records.
    pub(crate) chunks_known: u64,
}

impl Content {
    /// A file that was just made.
    pub(crate) fn empty(version: Timestamp) -> Content {
        Content { version: Some(version), chunks_known: u64::MAX, ..Content::default() }
    }

    /// What an open told. `Unchanged` leaves the cache as it is.
    pub(crate) fn take(&mut self, attr: &Attr, data: OpenData) {
        match data {
            OpenData::Unchanged => {}
            OpenData::Inline(inline) => {
                *self = Content { inline, ..Content::empty(attr.ctime) };
            }
            OpenData::Extents { inline, chunks, chunks_known } => {
                let chunks = chunks.into_iter().map(|(i, records)| (i, Arc::new(records)));
                *self = Content {
                    version: Some(attr.ctime),
                    inline,
                    chunks: chunks.collect(),
                    chunks_known,
                };
            }
        }
    }

    /// The records of a chunk; `None` when they must be fetched.
    pub(crate) fn chunk(&self, index: u64) -> Option<Arc<Vec<ExtentRecord>>> {
        self.version?;
        match self.chunks.get(&index) {
            Some(records) => Some(records.clone()),
            None if index < self.chunks_known => Some(Arc::default()),
            None => None,
        }
    }
}

/// Writes that could not be saved. Every open file of that time is told, not only whoever asked first:
/// that may have been a child process that closes what it inherited, and hears nothing.
pub(crate) struct LostWrites {
    error: VfsError,
    /// Open files from this number on were opened later.
    before: u64,
    /// Those that have been told by fsync.
    told: Vec<u64>,
}

/// What is known of one inode; guarded by the lock of [`Node`].
#[derive(Default)]
pub(crate) struct NodeState {
    /// As committed. `None` when unknown or changed by another mount.
    pub(crate) attr: Option<Attr>,
    /// `attr` has a size that others gave it and that the frontend was not told.
    pub(crate) untold: bool,
    pub(crate) content: Content,
    /// The version whose pages the kernel may have cached.
    pub(crate) kernel_version: Option<Timestamp>,
    /// The kernel certainly has no pages older than this version. Unlike `kernel_version` this
    /// is not set by an open, upon whose answer the kernel drops pages in its own time.
    pub(crate) kernel_certain: Option<Timestamp>,
    /// No reply with an older version may be cached: a lock was taken at this one.
    pub(crate) floor: Timestamp,
    /// The layer that is being flushed.
    pub(crate) in_flight: Option<Arc<Pending>>,
    /// Set while it is not known whether `in_flight` was committed.
    pub(crate) undecided: Option<Undecided>,
    /// Writes since.
    pub(crate) pending: Pending,
    /// Write-back failed and nobody has been told yet.
    pub(crate) failure: Option<VfsError>,
    /// Writes were given up.
    pub(crate) lost: Option<LostWrites>,
    /// In the write-back queue.
    pub(crate) queued: bool,
    /// A directory all of whose names are among these (keyed hashes): made by this mount, and
    /// every name that came since was noted. What is not among them does not exist.
    pub(crate) names: Option<HashSet<u64>>,
    /// The last name is gone and this mount holds the inode until its last close.
    pub(crate) held: bool,
}

impl NodeState {
    /// Writes were given up; `next_handle` is the number of the next open file.
    pub(crate) fn note_lost(&mut self, error: &VfsError, next_handle: u64) {
        self.lost =
            Some(LostWrites { error: error.clone(), before: next_handle, told: Vec::new() });
    }

    /// What an open file has to be told of writes that were given up. fsync tells it once, close
    /// whenever it is asked before.
    pub(crate) fn tell_lost(&mut self, handle: u64, by_fsync: bool) -> Result<(), VfsError> {
        match &mut self.lost {
            Some(lost) if handle < lost.before && !lost.told.contains(&handle) => {
                if by_fsync {
                    lost.told.push(handle);
                }
                Err(lost.error.clone())
            }
            _ => Ok(()),
        }
    }

    /// The attributes with the writes applied that are not committed yet.
    pub(crate) fn merged(&self) -> Option<Attr> {
        self.attr.map(|attr| self.with_pending(attr))
    }

    /// `attr` with the writes applied that are not committed yet.
    pub(crate) fn with_pending(&self, mut attr: Attr) -> Attr {
        for layer in self.in_flight.as_deref().into_iter().chain([&self.pending]) {
            if !layer.is_empty() {
                attr.size = attr.size.max(layer.end);
                attr.mtime = attr.mtime.max(layer.mtime);
                attr.ctime = attr.ctime.max(layer.mtime);
                if layer.kill_suid {
                    attr.perm = without_set_id(attr.perm);
                }
            }
        }
        attr
    }

    pub(crate) fn is_dirty(&self) -> bool {
        !self.pending.is_empty() || self.in_flight.is_some()
    }

    /// Bytes written and not committed.
    pub(crate) fn dirty_bytes(&self) -> u64 {
        let layers = self.in_flight.as_deref().into_iter().chain([&self.pending]);
        layers.map(Pending::written_bytes).sum()
    }

    /// Whether a commit to come takes away set-user-id and set-group-id bits.
    pub(crate) fn will_kill_set_id(&self) -> bool {
        let layers = self.in_flight.as_deref().into_iter().chain([&self.pending]);
        layers.into_iter().any(|layer| !layer.is_empty() && layer.kill_suid)
    }

    /// This mount changed the inode from version `previous` to `now` without touching what is
    /// cached of its data.
    pub(crate) fn carry_version(&mut self, previous: Timestamp, now: Timestamp) {
        if self.content.version == Some(previous) {
            self.content.version = Some(now);
        }
        if self.kernel_version == Some(previous) {
            self.kernel_version = Some(now);
        }
        if self.kernel_certain == Some(previous) {
            self.kernel_certain = Some(now);
        }
    }

    /// Whether attributes of the version `ctime` are no step back from what is known.
    pub(crate) fn is_no_older(&self, ctime: Timestamp) -> bool {
        ctime >= self.floor && self.attr.is_none_or(|known| known.ctime <= ctime)
    }

    /// Another mount changed the inode: nothing cached may be used.
    pub(crate) fn forget_committed(&mut self) {
        self.attr = None;
        self.content = Content::default();
        self.kernel_version = None;
        self.kernel_certain = None;
        self.names = None;
    }

    /// A name that may lead somewhere in this directory from now on.
    pub(crate) fn expect_name(&mut self, hash: u64) {
        if let Some(names) = &mut self.names {
            names.insert(hash);
            if names.len() > NAMES_MAX {
                self.names = None;
            }
        }
    }
}

/// Names remembered of one directory at most.
const NAMES_MAX: usize = 1 << 16;

/// What a write by somebody without privileges leaves of the permission bits: no set-user-id, and
/// no set-group-id where the group may execute (else it marks mandatory locking).
pub fn without_set_id(perm: u16) -> u16 {
    let perm = perm & !0o4000;
    if perm & 0o010 != 0 { perm & !0o2000 } else { perm }
}

/// How long a thread waits for a node's state before others take over what it would do next.
const LOCK_WAIT_QUIET: Duration = Duration::from_micros(100);

/// One inode. Lives while the frontend knows it or a write is pending.
pub(crate) struct Node {
    pub(crate) ino: InodeId,
    state: Mutex<NodeState>,
    /// Held for the whole of a flush, so that layers are committed in order.
    flush: Mutex<()>,
    pub(crate) streams: Mutex<Streams>,
    lookups: AtomicU64,
    pub(crate) opens: AtomicU32,
}

impl Node {
    fn new(ino: InodeId) -> Node {
        Node {
            ino,
            state: Mutex::default(),
            flush: Mutex::new(()),
            streams: Mutex::default(),
            lookups: AtomicU64::new(0),
            opens: AtomicU32::new(0),
        }
    }

    /// Mostly held for a moment only, but a writer may wait for an upload under it.
    pub(crate) fn lock(&self) -> MutexGuard<'_, NodeState> {
        self.state.try_lock_for(LOCK_WAIT_QUIET).unwrap_or_else(|| {
            ringfs_link::about_to_wait();
            self.state.lock()
        })
    }

    /// Held while a layer is committed.
    pub(crate) fn begin_flush(&self) -> MutexGuard<'_, ()> {
        self.flush.try_lock().unwrap_or_else(|| {
            ringfs_link::about_to_wait();
            self.flush.lock()
        })
    }

    /// As [`Self::lock`] if nobody has it.
    pub(crate) fn try_state(&self) -> Option<MutexGuard<'_, NodeState>> {
        self.state.try_lock()
    }
}

/// The block of `slice` (of `size` bytes) that holds byte `off`, and the offset in it.
pub(crate) fn block_at(slice: SliceId, size: u32, off: u32) -> (BlockSpan, u32) {
    let index = off / BLOCK_BYTES;
    let start = index * BLOCK_BYTES;
    let len = size.saturating_sub(start).min(BLOCK_BYTES);
    (BlockSpan { id: BlockId { slice, index }, len }, off - start)
}

/// Every block of a slice.
pub(crate) fn blocks_of(record: &ExtentRecord) -> impl Iterator<Item = BlockId> + use<> {
    let slice = record.slice;
    let blocks = if slice == SliceId(0) { 0 } else { record.slice_len.div_ceil(BLOCK_BYTES) };
    (0..blocks).map(move |index| BlockId { slice, index })
}

const SHARDS: usize = 64;

/// All nodes, by inode number.
pub(crate) struct NodeTable {
    shards: Vec<Mutex<HashMap<InodeId, Arc<Node>>>>,
}

impl NodeTable {
    pub(crate) fn new() -> NodeTable {
        NodeTable { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    fn shard(&self, ino: InodeId) -> MutexGuard<'_, HashMap<InodeId, Arc<Node>>> {
        self.shards[ino.0 as usize % SHARDS].lock()
    }

    /// The node, made if it was not known.
    pub(crate) fn get(&self, ino: InodeId) -> Arc<Node> {
        self.shard(ino).entry(ino).or_insert_with(|| Arc::new(Node::new(ino))).clone()
    }

    pub(crate) fn known(&self, ino: InodeId) -> Option<Arc<Node>> {
        self.shard(ino).get(&ino).cloned()
    }

    /// As [`Self::get`]; the frontend now knows it once more.
    pub(crate) fn remember(&self, ino: InodeId) -> Arc<Node> {
        let mut shard = self.shard(ino);
        let node = shard.entry(ino).or_insert_with(|| Arc::new(Node::new(ino)));
        node.lookups.fetch_add(1, Ordering::Relaxed);
        node.clone()
    }

    /// The frontend forgot it `count` times.
    pub(crate) fn forget(&self, ino: InodeId, count: u64) {
        let mut shard = self.shard(ino);
        if let Some(node) = shard.get(&ino) {
            let before = node.lookups.load(Ordering::Relaxed);
            let left = before.saturating_sub(count);
            node.lookups.store(left, Ordering::Relaxed);
            let idle = left == 0 && node.opens.load(Ordering::Relaxed) == 0;
            if idle && !node.lock().is_dirty() {
                shard.remove(&ino);
            }
        }
    }

    /// A node that the frontend forgot while it was dirty goes when it is clean. Not with its lock
    /// held.
    pub(crate) fn drop_if_forgotten(&self, node: &Node) {
        let forgotten =
            || node.lookups.load(Ordering::Relaxed) == 0 && node.opens.load(Ordering::Relaxed) == 0;
        if !forgotten() {
            return;
        }
        // Whoever remembers it anew holds this.
        let mut shard = self.shard(node.ino);
        let same = shard.get(&node.ino).is_some_and(|known| std::ptr::eq(known.as_ref(), node));
        if same && forgotten() && !node.lock().is_dirty() {
            shard.remove(&node.ino);
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Every node known now.
    pub(crate) fn all(&self) -> Vec<Arc<Node>> {
        self.shards.iter().flat_map(|s| s.lock().values().cloned().collect::<Vec<_>>()).collect()
    }
}
