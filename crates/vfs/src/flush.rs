//! Makes pending writes part of the file: blocks to the block servers, then one commit.

use crate::coherence::KernelChange;
use crate::node::Node;
use crate::pending::Pending;
use crate::read::Layered;
use crate::{Vfs, VfsError};
use parking_lot::{Condvar, Mutex};
use ringfs_base::{BlockId, Errno, InodeId};
use ringfs_meta::{
    AttrFlags, Commit, CommitData, CommitFailed, CommitRequest, Committed, ExtentRecord,
    UndecidedCommit,
};
use ringfs_store::{StoreError, Surplus};
use std::collections::VecDeque;
use std::sync::Arc;
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

/// How often a commit may be answered "under another epoch" or "elsewhere" before it fails.
const COMMIT_TRIES_MAX: u32 = 16;

impl Vfs {
    /// What close(2) waits for: everything written to the file so far is on R block servers and
    /// its metadata safe at the volume's durability level.
    pub fn close(&self, ino: InodeId) -> Result<(), VfsError> {
        if let Some(node) = self.nodes.known(ino) {
            self.flush_node(&node)?;
        }
        Ok(self.session.barrier()?)
    }

    /// What fsync(2) waits for: the same, and whatever else this mount had acknowledged before.
    pub fn fsync(&self, ino: InodeId) -> Result<(), VfsError> {
        self.close(ino)
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
    fn keep_trying(&self) -> Instant {
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

    /// As [`Self::flush_node`] for the write-back thread, which has nobody to tell: the layer is
    /// kept for the next try, and the next write learns of a full volume or quota. A commit that may have
    /// taken effect is kept as it is, to be repeated as the same one. False when it failed.
    fn write_back(&self, node: &Arc<Node>) -> bool {
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

    /// Finds out what became of a commit whose outcome is unknown, by repeating exactly that one.
    /// Ok: it is known, or there was none. A layer that was not committed is pending again.
    fn settle(&self, node: &Arc<Node>) -> Result<(), VfsError> {
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

    fn note_commit(&self, state: &mut crate::node::NodeState, layer: &Pending, done: &LayerCommit) {
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

    fn commit_layer(&self, node: &Arc<Node>, layer: &Pending) -> Result<LayerCommit, NotCommitted> {
        let may_be_inline = node.lock().attr.is_none_or(|attr| !attr.flags.has(AttrFlags::EXTENTS));
        if may_be_inline && let Some(done) = self.commit_inline(node, layer)? {
            return Ok(done);
        }
        self.send_blocks(layer)?;
        if self.is_stopping() {
            self.keep_trying();
        }
        let mut epoch = layer.epoch.unwrap_or_else(|| self.placements.epoch());
        for _ in 0..COMMIT_TRIES_MAX {
            let records = layer.final_records();
            let flat: Vec<ExtentRecord>;
            let by_chunk: Vec<(u64, &[ExtentRecord])>;
            let data = if layer.append_from.is_some() {
                flat = records.iter().flat_map(|(_, r)| r.iter().copied()).collect();
                CommitData::AppendExtents(&flat)
            } else {
                by_chunk = records.iter().map(|(c, r)| (*c, r.as_slice())).collect();
                CommitData::Extents(&by_chunk)
            };
            let request = CommitRequest {
                data,
                epoch,
                mtime: layer.mtime,
                kill_suid: layer.kill_suid,
                privileged: !layer.limited,
            };
            let done = self.session.commit_surely(node.ino, &request);
            match done.map_err(|failed| NotCommitted::of(failed, How::Records))? {
                Commit::Done(commit) => {
                    return Ok(LayerCommit { commit, placed: Placed::Records(records) });
                }
                Commit::StaleEpoch(now) => {
                    epoch = self.placements.refresh(&self.session, &self.store, now)?;
                    // Copies go to the owners of the new epoch before the commit names it.
                    for block in blocks_of_layer(layer) {
                        self.store.repair(block, Surplus::Keep)?;
                    }
                }
                Commit::Straddles(attr) => return self.append_elsewhere(node, layer, attr.size),
                Commit::NeedSlice(_) => break,
            }
        }
        Err(Errno::EIO.into())
    }

    fn commit_inline(
        &self,
        node: &Arc<Node>,
        layer: &Pending,
    ) -> Result<Option<LayerCommit>, NotCommitted> {
        let Some(runs) = layer.as_inline(self.session.volume().config().inline_max) else {
            return Ok(None);
        };
        let joined: Vec<u8>;
        let patches: Vec<(u64, &[u8])>;
        let data = if layer.append_from.is_some() {
            joined = runs.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
            CommitData::AppendInline(&joined)
        } else {
            patches = runs.iter().map(|(at, bytes)| (u64::from(*at), *bytes)).collect();
            CommitData::Inline(&patches)
        };
        let request = CommitRequest {
            data,
            epoch: self.placements.epoch(),
            mtime: layer.mtime,
            kill_suid: layer.kill_suid,
            privileged: !layer.limited,
        };
        let done = self.session.commit_surely(node.ino, &request);
        match done.map_err(|failed| NotCommitted::of(failed, How::Inline))? {
            Commit::Done(commit) => Ok(Some(LayerCommit { commit, placed: Placed::Inline })),
            Commit::NeedSlice(_) => Ok(None),
            Commit::Straddles(_) | Commit::StaleEpoch(_) => Err(Errno::EIO.into()),
        }
    }

    /// Sends the tails and waits for the blocks that left before.
    fn send_blocks(&self, layer: &Pending) -> Result<(), VfsError> {
        let tails: Vec<(BlockId, &[u8])> = layer
            .slices()
            .filter(|slice| !slice.tail.is_empty())
            .map(|slice| (slice.tail_block(), slice.tail.as_slice()))
            .collect();
        if !tails.is_empty() {
            self.store.write(&tails)?;
        }
        for upload in layer.slices().flat_map(|slice| &slice.sealed) {
            upload.wait_or_retry(&self.store)?;
        }
        Ok(())
    }

    /// Appended data that others' appends have pushed across the border of a chunk: they are cut
    /// there anew, as a layer of their own.
    fn append_elsewhere(
        &self,
        node: &Arc<Node>,
        layer: &Pending,
        size: u64,
    ) -> Result<LayerCommit, NotCommitted> {
        let Some(from) = layer.append_from else { return Err(Errno::EIO.into()) };
        let mut bytes = Vec::with_capacity(layer.end.saturating_sub(from) as usize);
        // Only what was written: others' appends may lie between where this layer expected them.
        for (chunk, writes) in &layer.chunks {
            let view = Layered { committed: &[], layers: &[layer] };
            for record in &writes.records {
                let range = record.pos..record.pos + record.len;
                for piece in self.materialise(&view, *chunk, range)? {
                    bytes.extend_from_slice(&piece);
                }
            }
        }
        let mut moved = Pending {
            append_from: Some(size),
            kill_suid: layer.kill_suid,
            limited: layer.limited,
            epoch: Some(self.placements.epoch()),
            ..Pending::default()
        };
        moved.write(
            size,
            &bytes,
            layer.mtime,
            &mut || Ok(self.session.lease_slice()?),
            &mut |block, bytes| self.uploader.send_now(&self.store, block, bytes),
            &mut 0,
        )?;
        let mut done = match self.commit_layer(node, &moved) {
            Ok(done) => done,
            Err(NotCommitted { error, undecided: Some(Undecided { commit, how }) }) => {
                // If it was moved once more, those slices are the ones in question.
                let moved = match how {
                    How::Moved(further) => further,
                    How::Inline | How::Records => Box::new(moved),
                };
                let undecided = Some(Undecided { commit, how: How::Moved(moved) });
                return Err(NotCommitted { error, undecided });
            }
            Err(failed) => {
                self.collector.collect(records_of(&moved));
                return Err(failed);
            }
        };
        // Not before: if the commit had failed these would be tried again.
        self.collector.collect(records_of(layer));
        done.placed = Placed::Anew;
        Ok(done)
    }

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
}

/// Takes the pending layer; readers see it as `in_flight` until it is committed.
fn begin(node: &Node) -> Option<Arc<Pending>> {
    let mut state = node.lock();
    if state.pending.is_empty() {
        return None;
    }
    let layer = Arc::new(std::mem::take(&mut state.pending));
    state.in_flight = Some(layer.clone());
    Some(layer)
}

fn blocks_of_layer(layer: &Pending) -> impl Iterator<Item = BlockId> + '_ {
    layer.slices().flat_map(|slice| {
        let blocks = slice.sealed.len() as u32 + u32::from(!slice.tail.is_empty());
        (0..blocks).map(move |index| BlockId { slice: slice.id, index })
    })
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

fn records_of(layer: &Pending) -> Vec<ExtentRecord> {
    layer.final_records().into_iter().flat_map(|(_, records)| records).collect()
}

/// A commit of a layer whose outcome is unknown.
pub(crate) struct Undecided {
    commit: UndecidedCommit,
    how: How,
}

impl Undecided {
    /// The outcome will never be known.
    fn keep_slices(&self, layer: &Pending) {
        match &self.how {
            How::Inline => {}
            How::Records => layer.keep_slices(),
            How::Moved(moved) => moved.keep_slices(),
        }
    }
}

/// As what a layer was sent.
enum How {
    Inline,
    Records,
    /// Cut anew, into the slices of this layer.
    Moved(Box<Pending>),
}

/// Why a layer is not known to be committed.
struct NotCommitted {
    error: VfsError,
    undecided: Option<Undecided>,
}

impl From<VfsError> for NotCommitted {
    fn from(error: VfsError) -> NotCommitted {
        NotCommitted { error, undecided: None }
    }
}

impl From<Errno> for NotCommitted {
    fn from(errno: Errno) -> NotCommitted {
        VfsError::from(errno).into()
    }
}

impl From<StoreError> for NotCommitted {
    fn from(error: StoreError) -> NotCommitted {
        VfsError::from(error).into()
    }
}

impl NotCommitted {
    fn of(failed: CommitFailed, how: How) -> NotCommitted {
        let undecided = failed.undecided.map(|commit| Undecided { commit, how });
        NotCommitted { error: failed.error.into(), undecided }
    }
}

/// A committed layer.
struct LayerCommit {
    commit: Committed,
    placed: Placed,
}

/// Where the bytes of a committed layer went.
enum Placed {
    Inline,
    /// Extent records for each chunk.
    Records(Vec<(u64, Vec<ExtentRecord>)>),
    /// Into records that are not those of the layer.
    Anew,
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
