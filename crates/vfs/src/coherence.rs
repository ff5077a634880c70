//! Keeps what is cached here and in the kernel in step with changes made by other mounts.
//!
//! Mutation scripts publish what they changed; the watcher hands us each change. A change drops
//! what the node has cached and is passed on to the kernel from a thread that holds no lock
//! (notifying from a handler can deadlock). A reply that was on its way while a change to the
//! same inode came in must not be cached: [`Changes`] lets the reader see that.

use crossbeam_channel::{Receiver, Sender, bounded};
use ringfs_base::InodeId;
use std::sync::atomic::{AtomicU64, Ordering};

/// Changes that may wait for the kernel. When more pile up the kernel's time-outs take over.
const KERNEL_QUEUE_MAX: usize = 65_536;

const STRIPES: usize = 1024;

/// Counts foreign changes so that a reader can tell whether one raced with its reply.
pub(crate) struct Changes {
    count: AtomicU64,
    /// For each stripe of inode numbers: the count at its newest change.
    newest: Vec<AtomicU64>,
}

/// The moment before a request was sent.
#[derive(Clone, Copy)]
pub(crate) struct Before(u64);

impl Changes {
    pub(crate) fn new() -> Changes {
        Changes {
            count: AtomicU64::new(0),
            newest: (0..STRIPES).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Take this before sending a request whose answer may be cached.
    pub(crate) fn before(&self) -> Before {
        Before(self.count.load(Ordering::SeqCst))
    }

    /// Whether nothing is known to have changed `inode` since `before`.
    pub(crate) fn none_since(&self, before: Before, inode: InodeId) -> bool {
        self.newest[inode.0 as usize % STRIPES].load(Ordering::SeqCst) <= before.0
    }

    pub(crate) fn note(&self, inode: InodeId) {
        let now = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        self.newest[inode.0 as usize % STRIPES].fetch_max(now, Ordering::SeqCst);
    }

    pub(crate) fn note_all(&self) {
        let now = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        for stripe in &self.newest {
            stripe.fetch_max(now, Ordering::SeqCst);
        }
    }
}

/// What the kernel is told to forget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelChange {
    /// Attributes and cached pages of an inode.
    Inode(InodeId),
    /// One name in a directory (also a cached "no such file").
    Entry(InodeId, Vec<u8>),
}

/// The frontend's way to tell the kernel.
pub trait KernelCache: Send + Sync {
    /// Makes the kernel forget; what it does not know is not an error. Called from a thread that
    /// holds no lock and serves no request, since the kernel may wait for requests meanwhile.
    fn forget(&self, change: &KernelChange);

    /// Makes the kernel ask for the attributes of an inode again. Called while the inode is
    /// being opened, so this must touch nothing but the attributes: then the kernel waits for
    /// nothing.
    fn doubt_attributes(&self, ino: InodeId);
}

/// Queue towards the kernel.
pub(crate) struct KernelQueue {
    sender: Sender<KernelChange>,
    receiver: Receiver<KernelChange>,
}

impl KernelQueue {
    pub(crate) fn new() -> KernelQueue {
        let (sender, receiver) = bounded(KERNEL_QUEUE_MAX);
        KernelQueue { sender, receiver }
    }

    pub(crate) fn push(&self, change: KernelChange) {
        if self.sender.try_send(change).is_err() {
            tracing::warn!("more changes by other mounts than the kernel takes; time-outs rule");
        }
    }

    pub(crate) fn receiver(&self) -> Receiver<KernelChange> {
        self.receiver.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_between_request_and_reply_is_seen_and_an_older_one_is_not() {
        let changes = Changes::new();
        changes.note(InodeId(5));
        let before = changes.before();
        assert!(changes.none_since(before, InodeId(5)));
        changes.note(InodeId(5));
        assert!(!changes.none_since(before, InodeId(5)));
        assert!(changes.none_since(before, InodeId(6)));
        changes.note_all();
        assert!(!changes.none_since(before, InodeId(6)));
    }
}
