//! Writes that nobody waits for: committed after a while, or when memory is short.

use crate::commit::NotCommitted;
use crate::flush::begin;
use crate::node::Node;
use crate::{Vfs, VfsError};
use parking_lot::{Condvar, Mutex};
use ringfs_base::Errno;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

impl Vfs {
    /// The write-back thread: flushes what is old enough, everything when memory is short.
    pub(crate) fn write_back_loop(&self) {
        while !self.is_stopping() {
            let pressed = self.budget.is_pressed();
            match self.write_back.next(self.config.write_back_age, pressed) {
                Some(node) => {
                    node.lock().queued = false;
                    // Short of memory, what failed would be tried again at once and for ever.
                    if !self.write_back(&node) {
                        self.write_back.wait(self.config.write_back_age);
                    }
                }
                None => self.write_back.wait(self.config.write_back_age),
            }
        }
    }

    /// As [`Self::flush_node`] for the write-back thread, which has nobody to tell: the layer is
    /// kept for the next try, and the next write learns of a full volume or quota. A commit that may have
    /// taken effect is kept as it is, to be repeated as the same one. False when it failed.
    pub(crate) fn write_back(&self, node: &Arc<Node>) -> bool {
        let one_at_a_time = node.begin_flush();
        let done = self.write_back_layers(node);
        drop(one_at_a_time);
        self.nodes.drop_if_forgotten(node);
        done
    }

    fn write_back_layers(&self, node: &Arc<Node>) -> bool {
        if let Err(error) = self.settle(node) {
            tracing::warn!(ino = %node.ino, %error, "it is still unknown whether write-back did it");
            node.lock().queued = true;
            self.write_back.push_front(node.clone());
            return false;
        }
        let Some(layer) = begin(node) else { return true };
        let failed = match self.commit_layer(node, &layer) {
            Ok(committed) => {
                let mut state = node.lock();
                state.in_flight = None;
                state.failure = None;
                self.note_commit(&mut state, &layer, &committed);
                drop(state);
                self.budget.give_back(layer.tail_bytes());
                return true;
            }
            Err(failed) => failed,
        };
        let NotCommitted { error, undecided } = failed;
        let mut state = node.lock();
        if undecided.is_some() {
            tracing::warn!(ino = %node.ino, %error, "write-back may have failed; it is repeated");
            state.undecided = undecided;
            state.forget_committed();
            state.queued = true;
            drop(state);
            // Before any other, so that there is never more than one of these.
            self.write_back.push_front(node.clone());
            return false;
        }
        state.in_flight = None;
        if matches!(error, VfsError::Posix(Errno::ESTALE)) {
            // The file is gone for good: trying again would hold the memory for ever.
            tracing::warn!(ino = %node.ino, "what was written to a file that is gone is dropped");
            state.failure = Some(error);
            state.forget_committed();
            drop(state);
            self.budget.give_back(layer.tail_bytes());
            return true;
        }
        tracing::warn!(ino = %node.ino, %error, "write-back failed; it is tried again");
        // Nobody else holds the layer: readers copy from it under the lock.
        if let Some(layer) = Arc::into_inner(layer) {
            state.pending.put_below(layer);
        }
        if matches!(error, VfsError::Meta(_)) {
            state.forget_committed();
        }
        if matches!(error.errno(), Errno::ENOSPC | Errno::EDQUOT) {
            state.failure = Some(error);
        }
        state.queued = true;
        drop(state);
        self.write_back.push(node.clone());
        false
    }
}

/// Dirty nodes in the order in which they became so.
pub(crate) struct WriteBackQueue {
    nodes: Mutex<VecDeque<(Instant, Arc<Node>)>>,
    wake: Condvar,
}

impl WriteBackQueue {
    pub(crate) fn new() -> WriteBackQueue {
        WriteBackQueue { nodes: Mutex::default(), wake: Condvar::new() }
    }

    pub(crate) fn push(&self, node: Arc<Node>) {
        self.nodes.lock().push_back((Instant::now(), node));
    }

    fn push_front(&self, node: Arc<Node>) {
        self.nodes.lock().push_front((Instant::now(), node));
    }

    pub(crate) fn wake(&self) {
        self.wake.notify_all();
    }

    /// Files that have data to be written back, and their bytes. Waits for none that is busy, whose
    /// bytes are left out.
    pub(crate) fn waiting(&self) -> (usize, u64) {
        let nodes: Vec<Arc<Node>> =
            self.nodes.lock().iter().map(|(_, node)| node.clone()).collect();
        let bytes = nodes.iter().map(|node| node.try_state().map(|state| state.dirty_bytes()));
        let dirty = bytes.filter(|bytes| *bytes != Some(0));
        dirty.fold((0, 0), |(files, sum), bytes| (files + 1, sum + bytes.unwrap_or(0)))
    }

    fn next(&self, age: Duration, any_age: bool) -> Option<Arc<Node>> {
        let mut nodes = self.nodes.lock();
        // A node that a close has cleaned meanwhile leaves without being flushed.
        while let Some((since, node)) = nodes.front() {
            let due = any_age || since.elapsed() >= age;
            // Only tried: a writer holds its node's lock while it waits for this queue's.
            let dirty = match node.try_state() {
                Some(mut state) if !state.is_dirty() => {
                    state.queued = false;
                    false
                }
                _ => true,
            };
            if dirty && !due {
                return None;
            }
            let (_, node) = nodes.pop_front()?;
            if dirty {
                return Some(node);
            }
        }
        None
    }

    fn wait(&self, age: Duration) {
        let mut nodes = self.nodes.lock();
        self.wake.wait_for(&mut nodes, (age / 5).max(Duration::from_millis(10)));
    }
}
