//! One commit of a layer of pending writes: its blocks to the block servers, then its records (or
//! its bytes, if they are few) to the metadata server; under another epoch or elsewhere if the answer
//! says so.

use crate::node::Node;
use crate::pending::Pending;
use crate::read::Layered;
use crate::{Vfs, VfsError};
use ringfs_base::{BlockId, Errno};
use ringfs_meta::{
    AttrFlags, Commit, CommitData, CommitFailed, CommitRequest, Committed, ExtentRecord,
    UndecidedCommit,
};
use ringfs_store::{StoreError, Surplus};
use std::sync::Arc;

/// How often a commit may be answered "under another epoch" or "elsewhere" before it fails.
const COMMIT_TRIES_MAX: u32 = 16;

impl Vfs {
    pub(crate) fn commit_layer(
        &self,
        node: &Arc<Node>,
        layer: &Pending,
    ) -> Result<LayerCommit, NotCommitted> {
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
}

fn blocks_of_layer(layer: &Pending) -> impl Iterator<Item = BlockId> + '_ {
    layer.slices().flat_map(|slice| {
        let blocks = slice.sealed.len() as u32 + u32::from(!slice.tail.is_empty());
        (0..blocks).map(move |index| BlockId { slice: slice.id, index })
    })
}

pub(crate) fn records_of(layer: &Pending) -> Vec<ExtentRecord> {
    layer.final_records().into_iter().flat_map(|(_, records)| records).collect()
}

/// A commit of a layer whose outcome is unknown.
pub(crate) struct Undecided {
    pub(crate) commit: UndecidedCommit,
    pub(crate) how: How,
}

impl Undecided {
    /// The outcome will never be known.
    pub(crate) fn keep_slices(&self, layer: &Pending) {
        match &self.how {
            How::Inline => {}
            How::Records => layer.keep_slices(),
            How::Moved(moved) => moved.keep_slices(),
        }
    }
}

/// As what a layer was sent.
pub(crate) enum How {
    Inline,
    Records,
    /// Cut anew, into the slices of this layer.
    Moved(Box<Pending>),
}

/// Why a layer is not known to be committed.
pub(crate) struct NotCommitted {
    pub(crate) error: VfsError,
    pub(crate) undecided: Option<Undecided>,
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
    pub(crate) fn of(failed: CommitFailed, how: How) -> NotCommitted {
        let undecided = failed.undecided.map(|commit| Undecided { commit, how });
        NotCommitted { error: failed.error.into(), undecided }
    }
}

/// A committed layer.
pub(crate) struct LayerCommit {
    pub(crate) commit: Committed,
    pub(crate) placed: Placed,
}

/// Where the bytes of a committed layer went.
pub(crate) enum Placed {
    Inline,
    /// Extent records for each chunk.
    Records(Vec<(u64, Vec<ExtentRecord>)>),
    /// Into records that are not those of the layer.
    Anew,
}
