//! Makes pending writes part of the file: blocks to the block servers, then one commit.

use crate::coherence::KernelChange;
use crate::commit::{How, LayerCommit, Placed, Undecided, records_of};
use crate::node::Node;
use crate::pending::Pending;
use crate::{Vfs, VfsError};
use ringfs_base::{Errno, InodeId};
use ringfs_meta::{Commit, CommitFailed};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a mount that ends with buffered writes waits for servers that do not answer.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// Between two attempts.
const STOP_PAUSE: Duration = Duration::from_millis(100);

/// The same when all is written and only good-bye is to be said: others end a session that does
/// not.
pub(crate) const LEAVE_PATIENCE: Duration = Duration::from_secs(1);

/// Lost files that an error names.
const LOST_NAMED_MAX: usize = 8;

impl Vfs {
    /// A number for a file that is opened; later ones are larger.
    pub fn next_handle(&self) -> u64 {
        self.handles.fetch_add(1, Ordering::SeqCst)
    }

    /// What close(2) of an open file waits for: everything written to the file so far is on R block
    /// servers and its metadata safe at the volume's durability level. Fails also if writes were
    /// given up since the file was opened, until fsync has told so.
    pub fn close(&self, ino: InodeId, handle: u64) -> Result<(), VfsError> {
        self.save(ino, handle, false)
    }

    /// What fsync(2) waits for: the same, and whatever else this mount had acknowledged before.
    pub fn fsync(&self, ino: InodeId, handle: u64) -> Result<(), VfsError> {
        self.save(ino, handle, true)
    }

    fn save(&self, ino: InodeId, handle: u64, by_fsync: bool) -> Result<(), VfsError> {
        if let Some(node) = self.nodes.known(ino) {
            let flushed = self.flush_node(&node);
            let told = node.lock().tell_lost(handle, by_fsync);
            flushed.and(told)?;
        }
        Ok(self.session.barrier()?)
    }

    /// What syncfs(2) waits for: the same for all files of this mount. The first failure is
    /// returned, the others are tried all the same.
    pub fn sync(&self) -> Result<(), VfsError> {
        let mut result = Ok(());
        for node in self.nodes.all() {
            if node.lock().is_dirty() {
                result = result.and(self.flush_node(&node));
            }
        }
        result.and_then(|()| Ok(self.session.barrier()?))
    }

    /// Writes back everything because the mount ends. All files are tried, until no server has
    /// answered for [`STOP_PATIENCE`]; the error tells what was lost.
    pub(crate) fn flush_at_end(&self) -> Result<(), VfsError> {
        let mut dirty = self.nodes.all();
        dirty.retain(|node| node.lock().is_dirty());
        let mut until = self.keep_trying();
        loop {
            dirty.retain(|node| {
                let done = self.write_back(node);
                if done {
                    until = self.keep_trying();
                }
                !done
            });
            if dirty.is_empty() || Instant::now() >= until {
                break;
            }
            std::thread::sleep(STOP_PAUSE);
        }
        let mut lost = Lost::default();
        for node in dirty {
            let bytes = node.lock().dirty_bytes();
            // The first tells why; the servers are not waited for with each file.
            let flushed = match &lost.cause {
                Some(cause) => {
                    self.drop_layers(&node);
                    Err(cause.clone())
                }
                None => self.flush_node(&node),
            };
            if let Err(error) = flushed {
                lost.add(node.ino, bytes, error);
            }
        }
        lost.into_result()?;
        self.session.close_by(Instant::now() + LEAVE_PATIENCE);
        Ok(self.session.barrier()?)
    }

    /// Something was done: from now on servers that do not answer are waited for anew.
    pub(crate) fn keep_trying(&self) -> Instant {
        let until = Instant::now() + STOP_PATIENCE;
        self.session.close_by(until);
        until
    }

    /// Files with writes that are not committed, and the bytes of these writes.
    pub fn dirty(&self) -> (usize, u64) {
        let bytes = self.nodes.all().into_iter().map(|node| node.lock().dirty_bytes());
        bytes.filter(|bytes| *bytes > 0).fold((0, 0), |(files, sum), b| (files + 1, sum + b))
    }

    /// Commits the pending layer. When that fails the caller is told and the layer is dropped,
    /// as Linux file systems do with pages that cannot be written.
    pub(crate) fn flush_node(&self, node: &Arc<Node>) -> Result<(), VfsError> {
        let one_at_a_time = node.begin_flush();
        let result = self.flush_layers(node);
        if let Err(error) = &result {
            node.lock().note_lost(error, self.handles.load(Ordering::SeqCst));
        }
        drop(one_at_a_time);
        self.nodes.drop_if_forgotten(node);
        result
    }

    fn flush_layers(&self, node: &Arc<Node>) -> Result<(), VfsError> {
        if let Err(error) = self.settle(node) {
            self.drop_layers(node);
            return Err(error);
        }
        let Some(layer) = begin(node) else {
            // What failed in the background and could not be kept is told now.
            return node.lock().failure.take().map_or(Ok(()), Err);
        };
        let result = self.commit_layer(node, &layer);
        let tail_bytes = layer.tail_bytes();
        let mut state = node.lock();
        state.in_flight = None;
        state.failure = None;
        match &result {
            Ok(committed) => self.note_commit(&mut state, &layer, committed),
            // It may have been committed all the same, or not.
            Err(failed) => {
                state.forget_committed();
                match &failed.undecided {
                    Some(undecided) => undecided.keep_slices(&layer),
                    // Refused for want of room: its blocks belong to nobody, and room is wanted.
                    None if matches!(
                        failed.error,
                        VfsError::Posix(Errno::ENOSPC | Errno::EDQUOT)
                    ) =>
                    {
                        self.collector.collect(records_of(&layer));
                    }
                    None => {}
                }
            }
        }
        drop(state);
        self.budget.give_back(tail_bytes);
        let committed = result.map_err(|failed| failed.error)?;
        if committed.commit.records >= self.config.compact_records {
            self.upkeep.request_compaction(node.ino, layer.chunks.keys().copied(), false);
        }
        Ok(())
    }

    /// Finds out what became of a commit whose outcome is unknown, by repeating exactly that one.
    /// Ok: it is known, or there was none. A layer that was not committed is pending again.
    pub(crate) fn settle(&self, node: &Arc<Node>) -> Result<(), VfsError> {
        let (undecided, layer) = {
            let mut state = node.lock();
            let Some(undecided) = state.undecided.take() else { return Ok(()) };
            let Some(layer) = state.in_flight.clone() else { return Ok(()) };
            (undecided, layer)
        };
        let Undecided { commit, how } = undecided;
        let outcome = self.session.commit_again(commit);
        let mut state = node.lock();
        match outcome {
            Ok(Commit::Done(commit)) => {
                let placed = match how {
                    How::Inline => Placed::Inline,
                    How::Records => Placed::Records(layer.final_records()),
                    How::Moved(_) => Placed::Anew,
                };
                if let How::Moved(_) = how {
                    self.collector.collect(records_of(&layer));
                }
                state.in_flight = None;
                state.failure = None;
                self.note_commit(&mut state, &layer, &LayerCommit { commit, placed });
                drop(state);
                self.budget.give_back(layer.tail_bytes());
                Ok(())
            }
            Err(CommitFailed { error, undecided: Some(commit) }) => {
                state.undecided = Some(Undecided { commit, how });
                Err(error.into())
            }
            // It did not take effect and never will: it may be tried in another way.
            Ok(_) | Err(CommitFailed { undecided: None, .. }) => {
                if let How::Moved(moved) = how {
                    self.collector.collect(records_of(&moved));
                }
                state.in_flight = None;
                if let Some(layer) = Arc::into_inner(layer) {
                    state.pending.put_below(layer);
                }
                Ok(())
            }
        }
    }

    /// Gives up what is buffered; somebody has been told.
    fn drop_layers(&self, node: &Node) {
        let mut state = node.lock();
        let undecided = state.undecided.take();
        let layer = state.in_flight.take();
        if let (Some(undecided), Some(layer)) = (&undecided, &layer) {
            undecided.keep_slices(layer);
        }
        let pending = std::mem::take(&mut state.pending);
        state.failure = None;
        state.forget_committed();
        drop(state);
        let tails = pending.tail_bytes() + layer.map_or(0, |layer| layer.tail_bytes());
        self.budget.give_back(tails);
    }

    pub(crate) fn note_commit(
        &self,
        state: &mut crate::node::NodeState,
        layer: &Pending,
        done: &LayerCommit,
    ) {
        let attr = done.commit.attr;
        if state.attr.is_none_or(|known| known.ctime <= attr.ctime) {
            state.attr = Some(attr);
        }
        let contiguous = state.content.version == Some(done.commit.previous);
        state.carry_version(done.commit.previous, attr.ctime);
        let elsewhere = layer.append_from.is_some_and(|from| from != done.commit.placed_at);
        if elsewhere {
            // The kernel has the pages where they were expected.
            state.kernel_version = None;
            state.kernel_certain = None;
            self.kernel.push(KernelChange::Inode(attr.ino));
        }
        if !contiguous {
            state.content = Default::default();
            return;
        }
        match &done.placed {
            Placed::Inline => {
                // Under the lock that shows which version this is built upon.
                let mut inline = state.content.inline.to_vec();
                let mut at_end = done.commit.placed_at as usize;
                for (pos, bytes) in layer.as_inline(u32::MAX).unwrap_or_default() {
                    let at = if layer.append_from.is_some() { at_end } else { pos as usize };
                    at_end = at + bytes.len();
                    inline.resize(inline.len().max(at_end), 0);
                    inline[at..at_end].copy_from_slice(bytes);
                }
                state.content.inline = inline.into();
            }
            Placed::Anew => state.content = Default::default(),
            Placed::Records(_) if elsewhere => state.content = Default::default(),
            Placed::Records(records) => {
                for (chunk, records) in records {
                    let Some(known) = state.content.chunk(*chunk) else { continue };
                    let mut all = known.as_ref().clone();
                    all.extend_from_slice(records);
                    state.content.chunks.insert(*chunk, Arc::new(all));
                }
            }
        }
    }
}

/// Takes the pending layer; readers see it as `in_flight` until it is committed.
pub(crate) fn begin(node: &Node) -> Option<Arc<Pending>> {
    let mut state = node.lock();
    if state.pending.is_empty() {
        return None;
    }
    let layer = Arc::new(std::mem::take(&mut state.pending));
    state.in_flight = Some(layer.clone());
    Some(layer)
}

/// What a mount that ended could not write.
#[derive(Default)]
struct Lost {
    files: usize,
    bytes: u64,
    inodes: Vec<InodeId>,
    cause: Option<VfsError>,
}

impl Lost {
    fn add(&mut self, ino: InodeId, bytes: u64, error: VfsError) {
        tracing::error!(%ino, bytes, %error, "buffered writes were lost");
        self.files += 1;
        self.bytes += bytes;
        if self.inodes.len() < LOST_NAMED_MAX {
            self.inodes.push(ino);
        }
        self.cause.get_or_insert(error);
    }

    fn into_result(self) -> Result<(), VfsError> {
        let Some(cause) = self.cause else { return Ok(()) };
        let mut inodes: Vec<String> = self.inodes.iter().map(InodeId::to_string).collect();
        if self.files > inodes.len() {
            inodes.push("...".to_owned());
        }
        let (files, bytes, inodes) = (self.files, self.bytes, inodes.join(", "));
        Err(VfsError::Lost { files, bytes, inodes, cause: Box::new(cause) })
    }
}
