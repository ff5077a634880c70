//! The one background thread of a store: probes nodes in doubt, and puts copies right.
//!
//! Readers and writers never wait for a node in doubt; they only note the doubt, and this thread
//! finds out. Copies that a read found missing or bad on an owner are rewritten from a good one.
//! Blocks whose copies a write could not all bring home are remembered and repaired when nodes come
//! back. All of it is best effort with bounded memory: what is dropped here, or when the process
//! ends, the cluster's scrub finds by looking.
//!
//! The thread ends when the store is dropped.

use crate::Shared;
use crate::repair::{Surplus, repair};
use parking_lot::Mutex;
use ringfs_base::BlockId;
use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Tasks that may wait; more are dropped and counted.
const QUEUE_MAX: usize = 1024;
/// Blocks remembered for repair when nodes come back: 64 GiB of data, 1.5 MiB of memory.
const OWED_MAX: usize = 65_536;
/// Owed blocks tried between two looks at the queue.
const OWED_BATCH: usize = 32;
/// How often nodes in doubt are probed; the pool's own back-off counts as well.
const PROBE_EVERY: Duration = Duration::from_millis(100);
/// How long one round of looking at the nodes may be put off while nothing is wrong.
const IDLE: Duration = Duration::from_secs(1);
/// Pause after an owed block could not be repaired although no node is in doubt.
const OWED_RETRY: Duration = Duration::from_secs(1);

/// Something to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Task {
    /// Look at the nodes.
    Wake,
    /// An owner has no good copy of this block, and some node has.
    Repair(BlockId),
    /// Not all copies are on their owners.
    Owed(BlockId),
}

/// The way to the thread.
pub(crate) struct Mender {
    queue: SyncSender<Task>,
    receiver: Mutex<Option<Receiver<Task>>>,
    /// A repair of the block is queued already: many reads may find the same bad copy.
    queued: Mutex<HashSet<BlockId>>,
    dropped: AtomicU64,
    stop: AtomicBool,
    busy: AtomicU64,
}

impl Mender {
    pub(crate) fn new() -> Mender {
        let (queue, receiver) = sync_channel(QUEUE_MAX);
        Mender {
            queue,
            receiver: Mutex::new(Some(receiver)),
            queued: Mutex::default(),
            dropped: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            busy: AtomicU64::new(0),
        }
    }

    /// Hands over a task; if the queue is full it is dropped and counted.
    pub(crate) fn send(&self, task: Task) {
        if let Task::Repair(block) | Task::Owed(block) = task
            && !self.queued.lock().insert(block)
        {
            return;
        }
        self.busy.fetch_add(1, Ordering::SeqCst);
        if let Err(TrySendError::Full(task) | TrySendError::Disconnected(task)) =
            self.queue.try_send(task)
        {
            self.busy.fetch_sub(1, Ordering::SeqCst);
            if let Task::Repair(block) | Task::Owed(block) = task {
                self.queued.lock().remove(&block);
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// These blocks are being removed: a repair that is still queued must not bring them back. One
    /// under way may; garbage collection finds that copy.
    pub(crate) fn forget(&self, blocks: &[BlockId]) {
        let mut queued = self.queued.lock();
        if !queued.is_empty() {
            for block in blocks {
                queued.remove(block);
            }
        }
    }

    /// A node is in doubt.
    pub(crate) fn wake(&self) {
        self.send(Task::Wake);
    }

    /// Tasks that are queued, under way or owed.
    pub(crate) fn outstanding(&self) -> u64 {
        self.busy.load(Ordering::SeqCst)
    }

    /// Repairs that were not begun because the queue was full.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.wake();
    }
}

/// Starts the thread. It holds the store weakly between two tasks, so that it never outlives it.
pub(crate) fn start(shared: &Arc<Shared>) -> Option<JoinHandle<()>> {
    let receiver = shared.mender.receiver.lock().take()?;
    let weak = Arc::downgrade(shared);
    let spawned = std::thread::Builder::new()
        .name("ringfs-mender".to_owned())
        .spawn(move || run(&weak, &receiver));
    match spawned {
        Ok(thread) => Some(thread),
        Err(error) => {
            // Reads and writes work without it; nodes in doubt are then tried as a last resort.
            tracing::error!(%error, "the thread that repairs blocks cannot be started");
            None
        }
    }
}

fn run(weak: &Weak<Shared>, receiver: &Receiver<Task>) {
    let mut owed: VecDeque<BlockId> = VecDeque::new();
    let mut next_probe = Instant::now();
    let mut next_owed = Instant::now();
    let mut doubt = false;
    loop {
        let wait = match (doubt, owed.is_empty()) {
            (true, _) => next_probe.saturating_duration_since(Instant::now()),
            (false, false) => next_owed.saturating_duration_since(Instant::now()),
            (false, true) => IDLE,
        };
        let task = match receiver.recv_timeout(wait) {
            Ok(task) => Some(task),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let Some(shared) = weak.upgrade() else { return };
        if shared.mender.stop.load(Ordering::SeqCst) {
            return;
        }
        match task {
            Some(Task::Repair(block)) => {
                // Not there any more: forgotten.
                if shared.mender.queued.lock().remove(&block) {
                    mend(&shared, block);
                }
                shared.mender.busy.fetch_sub(1, Ordering::SeqCst);
            }
            Some(Task::Owed(block)) => {
                if owed.len() < OWED_MAX {
                    owed.push_back(block);
                } else {
                    shared.mender.queued.lock().remove(&block);
                    shared.mender.dropped.fetch_add(1, Ordering::Relaxed);
                    shared.mender.busy.fetch_sub(1, Ordering::SeqCst);
                }
            }
            Some(Task::Wake) => {
                doubt = true;
                shared.mender.busy.fetch_sub(1, Ordering::SeqCst);
            }
            None => {}
        }
        if Instant::now() >= next_probe && (doubt || task.is_none()) {
            doubt = probe(&shared);
            next_probe = Instant::now() + PROBE_EVERY;
        }
        if !doubt && Instant::now() >= next_owed {
            for _ in 0..OWED_BATCH.min(owed.len()) {
                let Some(block) = owed.pop_front() else { break };
                let forgotten = !shared.mender.queued.lock().contains(&block);
                if forgotten || mend(&shared, block) {
                    shared.mender.queued.lock().remove(&block);
                    shared.mender.busy.fetch_sub(1, Ordering::SeqCst);
                } else {
                    owed.push_back(block);
                    next_owed = Instant::now() + OWED_RETRY;
                    // The others will fare no better; each try moves whole blocks.
                    break;
                }
            }
        }
    }
}

/// Asks every node in doubt for a sign of life; true if one stays in doubt.
fn probe(shared: &Shared) -> bool {
    let view = shared.view();
    let mut doubt = false;
    for peer in &view.peers {
        if !peer.is_suspect() && !peer.is_lagging() {
            continue;
        }
        if shared.mender.stop.load(Ordering::SeqCst) {
            return false;
        }
        match peer.pool.probe() {
            Ok(took) => peer.answered(took),
            Err(error) => {
                tracing::debug!(node = %peer.node.name, %error, "still in doubt");
                doubt = true;
            }
        }
    }
    doubt
}

/// Repairs one block; true if nothing remains to be done for it by trying again.
fn mend(shared: &Shared, block: BlockId) -> bool {
    match repair(shared, block, Surplus::Keep) {
        Ok(repaired) => repaired.owners_good == repaired.owners,
        Err(error) => {
            tracing::warn!(%block, %error, "repair failed");
            // Nobody has it: removed in the meantime, or lost. Reading tells; trying again cannot
            // help.
            !matches!(error.kind(), crate::ErrorKind::Retry | crate::ErrorKind::NoSpace)
        }
    }
}
