//! Writing into the pending layer.

use crate::node::Node;
use crate::pending::Pending;
use crate::{Vfs, VfsError};
use ringfs_base::limits::FILE_BYTES_MAX;
use ringfs_base::{Errno, InodeId};
use std::sync::Arc;

/// How often a write may find the layer taken by the other kind of writes (at an offset, at the
/// end) before it gives up: each time it flushes, so only an endless fight gets there.
const MODE_SWITCHES_MAX: u32 = 1000;

/// How to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteMode {
    /// At the end of the file, wherever that is when the write is committed (`O_APPEND`).
    pub append: bool,
    /// The writer lacks the privilege to leave set-user-id and set-group-id bits as they are.
    pub kill_suid: bool,
    /// Quotas of owners and groups do not bind the writer.
    pub privileged: bool,
}

impl Vfs {
    /// Writes at `offset`, or where `how` says. Returns when the bytes are buffered.
    pub fn write(
        &self,
        ino: InodeId,
        offset: u64,
        data: &[u8],
        how: WriteMode,
    ) -> Result<(), VfsError> {
        if offset.checked_add(data.len() as u64).is_none_or(|end| end > FILE_BYTES_MAX) {
            return Err(Errno::EFBIG.into());
        }
        if data.is_empty() {
            return Ok(());
        }
        let node = self.nodes.get(ino);
        if !self.budget.take(data.len(), || self.write_back.wake()) {
            return Err(VfsError::BufferFull);
        }
        let mut grown = 0;
        let result = self.buffer(&node, offset, data, how, &mut grown);
        // What overwrote bytes in place took no memory.
        self.budget.give_back(data.len() - grown);
        result
    }

    /// Adds the bytes to the pending layer and tells by how many it grew.
    fn buffer(
        &self,
        node: &Arc<Node>,
        offset: u64,
        data: &[u8],
        WriteMode { append, kill_suid, privileged }: WriteMode,
        grown: &mut usize,
    ) -> Result<(), VfsError> {
        for _ in 0..MODE_SWITCHES_MAX {
            if append {
                self.ensure_attr(node)?;
            }
            // Not under the lock, which others wait for.
            if self.session.provide_slices()? {
                self.upkeep.wake();
            }
            let mut state = node.lock();
            if let Some(failure) = &state.failure {
                return Err(failure.clone());
            }
            // Appended runs are placed by the server, so a layer holds only them or none, and
            // where the next begins is known only when the layer before has been committed.
            let other_kind =
                !state.pending.is_empty() && state.pending.append_from.is_some() != append;
            // An appended layer whose commit is repeated until it is decided holds up no appends.
            let unplaced = state.in_flight.as_ref().is_some_and(|layer| {
                let repeated = append && state.undecided.is_some();
                (append || layer.append_from.is_some())
                    && !(repeated && layer.append_from.is_some())
            });
            if other_kind || unplaced {
                drop(state);
                self.flush_node(node)?;
                continue;
            }
            let at = if append {
                let Some(attr) = state.merged() else { continue };
                state.pending.append_from.get_or_insert(attr.size);
                attr.size
            } else {
                offset
            };
            state.pending.epoch.get_or_insert_with(|| self.placements.epoch());
            let written = state.pending.write(
                at,
                data,
                self.clock.now(),
                &mut || Ok(self.session.lease_slice()?),
                &mut |block, bytes| self.uploader.send(block, bytes),
                grown,
            );
            if state.pending.is_empty() {
                state.pending = Pending::default();
                return written;
            }
            state.pending.kill_suid |= kill_suid;
            state.pending.limited |= !privileged;
            if !std::mem::replace(&mut state.queued, true) {
                self.write_back.push(node.clone());
            }
            return written;
        }
        Err(Errno::EIO.into())
    }

    /// Fetches the attributes if they are not known.
    pub(crate) fn ensure_attr(&self, node: &Node) -> Result<(), VfsError> {
        if node.lock().attr.is_none() {
            let before = self.changes.before();
            let attr = self.session.getattr(node.ino)?;
            self.note_untold(&attr, before);
        }
        Ok(())
    }
}
