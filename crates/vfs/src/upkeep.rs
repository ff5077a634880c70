//! Keeps the session alive and tidies up: heartbeats, orphans of all mounts, dead sessions,
//! the ring's epoch, what other mounts changed, and compaction.

use crate::coherence::KernelChange;
use crate::{Vfs, VfsError};
use crossbeam_channel::{Receiver, Sender, bounded, select};
use parking_lot::{Condvar, Mutex};
use ringfs_base::{Epoch, InodeId};
use ringfs_meta::{Beat, Event, Pulse, Session, Trash};
use ringfs_store::Store;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Where blocks are: the composition root knows how to read the ring's table and hand it to the
/// store.
pub trait Placements: Send + Sync {
    /// The epoch that the store places blocks by.
    fn epoch(&self) -> Epoch;
    /// Loads the table if the ring has another epoch than the store; returns the one in use.
    fn refresh(&self, session: &Session, store: &Store, now: Epoch) -> Result<Epoch, VfsError>;
}

/// Orphans purged after one heartbeat.
const PURGE_MAX: u32 = 1024;

/// Chunks that may wait for compaction; more are found again by a later write.
const COMPACTIONS_MAX: usize = 1024;

/// Heartbeats between two looks whether somebody has turned the trash on.
const BEATS_PER_LOOK_FOR_TRASH: u64 = 300;

/// Heartbeats between two looks for sessions whose lease has ended.
const BEATS_PER_REAP: u64 = 10;

/// A chunk of a file, and whether it is known to have records that nobody sees.
type Chunk = (InodeId, u64, bool);

/// Memory of the block servers, divided by the number of copies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacity {
    pub(crate) total_bytes: u64,
    pub(crate) free_bytes: u64,
    /// Bytes of the volume's files at that moment.
    pub(crate) files_bytes: u64,
}

pub(crate) struct Upkeep {
    soon: Mutex<bool>,
    wake: Condvar,
    capacity: Mutex<Option<Capacity>>,
    compactions: (Sender<Chunk>, Receiver<Chunk>),
    fenced: AtomicBool,
    /// The volume's trash, as of the last look.
    pub(crate) trash: Mutex<Option<Trash>>,
    /// The directory of the trash, and the place in it, up to which what has expired was removed.
    pub(crate) trash_place: Mutex<Option<(InodeId, u64)>>,
}

impl Upkeep {
    pub(crate) fn new() -> Upkeep {
        Upkeep {
            soon: Mutex::new(false),
            wake: Condvar::new(),
            capacity: Mutex::default(),
            compactions: bounded(COMPACTIONS_MAX),
            fenced: AtomicBool::new(false),
            trash: Mutex::default(),
            trash_place: Mutex::default(),
        }
    }

    /// Beat now instead of at the next time.
    pub(crate) fn wake(&self) {
        *self.soon.lock() = true;
        self.wake.notify_all();
    }

    /// Whether the session has been ended by others.
    pub(crate) fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::Relaxed)
    }

    fn wait(&self, at_most: Duration) {
        let mut soon = self.soon.lock();
        if !*soon {
            self.wake.wait_for(&mut soon, at_most);
        }
        *soon = false;
    }

    /// What the block servers' memory leaves room for, as it was a few heartbeats ago; nothing if
    /// one of them has no limit or does not answer.
    pub(crate) fn capacity(&self) -> Option<Capacity> {
        *self.capacity.lock()
    }

    /// Asks for chunks to be looked at; with `hidden` also if they have few records.
    pub(crate) fn request_compaction(
        &self,
        ino: InodeId,
        chunks: impl Iterator<Item = u64>,
        hidden: bool,
    ) {
        for chunk in chunks {
            if self.compactions.0.try_send((ino, chunk, hidden)).is_err() {
                return;
            }
        }
    }
}

impl Vfs {
    pub(crate) fn start_workers(self: &Arc<Self>) -> Result<(), VfsError> {
        let vfs = Arc::downgrade(self);
        let watch = self.session.watch(Box::new(move |event| {
            if let Some(vfs) = vfs.upgrade() {
                vfs.note_event(event);
            }
        }))?;
        *self.watch.lock() = Some(watch);

        let mut workers = self.workers.lock();
        let vfs = self.clone();
        workers.push(crate::spawn("write-back", move || vfs.write_back_loop()));
        let vfs = self.clone();
        workers.push(crate::spawn("upkeep", move || vfs.upkeep_loop()));
        let vfs = self.clone();
        workers.push(crate::spawn("compact", move || vfs.compact_loop()));
        let vfs = self.clone();
        workers.push(crate::spawn("kernel", move || vfs.kernel_loop()));
        let vfs = self.clone();
        workers.push(crate::spawn("locks", move || vfs.locks_loop()));
        Ok(())
    }

    /// Another session changed something. Runs on the watcher's thread.
    fn note_event(&self, event: Event) {
        match event {
            Event::Attr(ino) => {
                self.changes.note(ino);
                self.forget_cached(ino);
            }
            Event::Entry(parent, name) => {
                self.changes.note(parent);
                self.names.forget(parent, &name);
                self.expect_name(parent, &name);
                self.kernel.push(KernelChange::Entry(parent, name));
            }
            event @ (Event::Deaf | Event::Reset) => {
                tracing::warn!("the connection that pushes changes was lost; caches are emptied");
                if event == Event::Deaf {
                    self.counts.watch_losses.one_more();
                }
                self.deaf.store(true, Ordering::SeqCst);
                self.changes.note_all();
                for node in self.nodes.all() {
                    self.forget_cached(node.ino);
                }
                // Only now is nothing left of the time in between.
                self.deaf.store(event == Event::Deaf, Ordering::SeqCst);
                self.locks.ask_again();
            }
            Event::Lock(grant) => self.pass_grant(grant),
            Event::Ring(_) => self.upkeep.wake(),
        }
    }

    fn forget_cached(&self, ino: InodeId) {
        if let Some(node) = self.nodes.known(ino) {
            node.lock().forget_committed();
            self.kernel.push(KernelChange::Inode(ino));
        }
    }

    fn kernel_loop(&self) {
        let changes = self.kernel.receiver();
        loop {
            select! {
                recv(changes) -> change => match change {
                    Ok(change) => {
                        match &change {
                            KernelChange::Inode(_) => self.counts.invalidations_inode.one_more(),
                            KernelChange::Entry(..) => self.counts.invalidations_entry.one_more(),
                        }
                        self.kernel_cache.forget(&change);
                    }
                    Err(_) => return,
                },
                recv(self.stopped.1) -> _ => return,
            }
        }
    }

    fn compact_loop(&self) {
        let requests = self.upkeep.compactions.1.clone();
        loop {
            let (ino, chunk, hidden) = select! {
                recv(requests) -> request => match request {
                    Ok(request) => request,
                    Err(_) => return,
                },
                recv(self.stopped.1) -> _ => return,
            };
            if let Err(error) = self.compact_chunk(ino, chunk, hidden) {
                tracing::debug!(%ino, chunk, %error, "compaction failed; a later write asks again");
            }
        }
    }

    fn upkeep_loop(&self) {
        let mut pulse = Pulse::default();
        let mut beats = 0u64;
        while !self.is_stopping() {
            if let Err(error) = self.beat(&mut pulse) {
                self.note_beat_failure(&error);
            }
            self.settle_locks();
            beats += 1;
            if beats % BEATS_PER_REAP == 1 {
                self.tidy();
            }
            if beats % BEATS_PER_LOOK_FOR_TRASH == 1 {
                self.look_for_trash();
            }
            self.expire_trash();
            // Orphans wait for the next beat to be acknowledged: do not let them wait long.
            let soon = !pulse.orphans.is_empty();
            let pause = if soon { self.config.heartbeat / 10 } else { self.config.heartbeat };
            self.upkeep.wait(pause);
        }
    }

    /// One heartbeat, and what it asks for. `pulse` is what the last one answered: the next one
    /// acknowledges its orphans, so it is kept whatever fails afterwards.
    fn beat(&self, pulse: &mut Pulse) -> Result<(), VfsError> {
        // While an inode's victim lock is held for reading an open may be under way; so look
        // under the lock, and drop what is cached so that a later open asks the server.
        let holds: Vec<InodeId> =
            pulse.orphans.iter().copied().filter(|ino| self.hold_if_open(*ino)).collect();
        let epoch = self.placements.epoch();
        self.session.refill_slices()?;
        let oldest_slice = Some(self.session.oldest_slice()?);
        let beat = Beat { holds: &holds, oldest_slice, epoch };
        *pulse = self.session.heartbeat(&beat)?;
        self.counts.note_beat();
        // Only now does the server hold them; who closed before that released nothing.
        holds.iter().for_each(|ino| self.hold(*ino));
        if pulse.epoch != epoch {
            self.placements.refresh(&self.session, &self.store, pulse.epoch)?;
        }
        for ino in self.session.purgeable(PURGE_MAX)? {
            // One that cannot go holds up no other.
            if let Err(error) = self.purge(ino) {
                tracing::warn!(%ino, %error, "an unlinked file could not be removed yet");
            }
        }
        Ok(())
    }

    fn hold_if_open(&self, ino: InodeId) -> bool {
        let _guard = self.removing(ino);
        let Some(node) = self.nodes.known(ino) else { return false };
        let open = node.opens.load(Ordering::SeqCst) > 0;
        if !open {
            node.lock().forget_committed();
        }
        open
    }

    fn note_beat_failure(&self, error: &VfsError) {
        self.counts.heartbeat_failures.one_more();
        let fenced = matches!(error, VfsError::Meta(cause)
            if matches!(**cause, ringfs_meta::MetaError::Fenced));
        if fenced && !self.upkeep.fenced.swap(true, Ordering::Relaxed) {
            tracing::error!("{error}");
            // Who waits for a lock is told so, too.
            self.locks.ask_again();
        } else if !fenced {
            tracing::warn!(%error, "no heartbeat");
        }
    }

    fn measure_capacity(&self) -> Option<Capacity> {
        let (mut total, mut free) = (0, 0);
        for node in self.store.nodes() {
            let memory = node.memory.ok().filter(|memory| memory.max > 0)?;
            total += memory.max;
            free += memory.max.saturating_sub(memory.used);
        }
        let copies = u64::from(self.session.volume().config().replicas.max(1));
        let files_bytes = self.session.usage().ok()?.bytes;
        Some(Capacity { total_bytes: total / copies, free_bytes: free / copies, files_bytes })
    }

    /// What need not be done at every beat.
    fn tidy(&self) {
        match self.session.volume().reap(self.config.session_lease) {
            Ok(dead) => {
                for session in dead {
                    tracing::info!(%session, "a session that gave no sign of life was ended");
                }
            }
            Err(error) => tracing::debug!(%error, "could not look for dead sessions"),
        }
        *self.upkeep.capacity.lock() = self.measure_capacity();
    }
}
