//! Shortens the list of extent records of a chunk that was overwritten again and again.
//!
//! First only the list: records that newer ones hide go, and slices that no record names any
//! more are removed. If what remains is still long, the chunk's bytes are read and written as
//! one new slice. Either way the list is exchanged by compare-and-set, so a write that came
//! meanwhile stays on top and a losing compactor changes nothing. Nor does one whose blocks were
//! written where readers look no longer: it loads the ring and is asked again.

use crate::node::Content;
use crate::read::Layered;
use crate::{Vfs, VfsError};
use ringfs_base::limits::BLOCK_BYTES;
use ringfs_base::{BlockId, InodeId};
use ringfs_meta::{Compacted, ExtentRecord, SliceLease, dropped_slices, normalise};

impl Vfs {
    /// Shortens the list of a chunk if it is long, or `hidden` says that it is worth the try.
    pub(crate) fn compact_chunk(
        &self,
        ino: InodeId,
        chunk: u64,
        hidden: bool,
    ) -> Result<(), VfsError> {
        let found = self.session.extents(ino, &[chunk])?;
        let Some(old) = found.chunks.into_iter().next() else { return Ok(()) };
        let is_short = (old.len() as u32) < self.config.compact_records;
        if is_short && !hidden {
            return Ok(());
        }
        let epoch = self.placements.epoch();
        let mut new = normalise(&old, chunk > 0);
        if is_short && new == old {
            return Ok(());
        }
        // Rewriting costs the bytes once and then every reader is spared the pieces.
        let mut lease = None;
        if new.len() as u32 > self.config.compact_records / 2 {
            new = self.rewrite(chunk, &new, &mut lease)?;
        }
        let done = self.session.compact(ino, chunk, &old, &new, epoch).inspect_err(|_| {
            // It may have been done all the same, or still be.
            lease.iter().for_each(SliceLease::keep);
        })?;
        match done {
            Compacted::Done(dropped) => self.collector.collect(dropped),
            Compacted::Changed => self.collector.collect(dropped_slices(&new, &old)),
            Compacted::StaleEpoch(now) => {
                self.collector.collect(dropped_slices(&new, &old));
                self.placements.refresh(&self.session, &self.store, now)?;
                self.upkeep.request_compaction(ino, std::iter::once(chunk), hidden);
                return Ok(());
            }
        }
        if let Some(node) = self.nodes.known(ino) {
            node.lock().content = Content::default();
        }
        Ok(())
    }

    /// Copies each run of adjacent records into one new slice; holes stay holes.
    fn rewrite(
        &self,
        chunk: u64,
        records: &[ExtentRecord],
        lease: &mut Option<SliceLease>,
    ) -> Result<Vec<ExtentRecord>, VfsError> {
        let mut out: Vec<ExtentRecord> = Vec::new();
        let data: u64 = records.iter().filter(|r| !r.is_hole()).map(|r| u64::from(r.len)).sum();
        let Ok(slice_len) = u32::try_from(data) else { return Ok(records.to_vec()) };
        let slice = lease.insert(self.session.lease_slice()?).id();
        let mut buffer: Vec<u8> = Vec::with_capacity(BLOCK_BYTES as usize);
        let mut written = 0;
        for record in records {
            if record.is_hole() {
                out.push(*record);
                continue;
            }
            match out.last_mut() {
                Some(last) if last.slice == slice && last.end() == u64::from(record.pos) => {
                    last.len += record.len;
                }
                _ => {
                    let off = written + buffer.len() as u32;
                    out.push(ExtentRecord { slice, off, slice_len, ..*record });
                }
            }
            let view = Layered { committed: records, layers: &[] };
            let range = record.pos..record.pos + record.len;
            for piece in self.materialise(&view, chunk, range)? {
                let mut rest: &[u8] = &piece;
                while !rest.is_empty() {
                    let room = BLOCK_BYTES as usize - buffer.len();
                    let (now, later) = rest.split_at(rest.len().min(room));
                    buffer.extend_from_slice(now);
                    rest = later;
                    if buffer.len() == BLOCK_BYTES as usize {
                        self.write_rewritten(
                            BlockId { slice, index: written / BLOCK_BYTES },
                            &buffer,
                        )?;
                        written += BLOCK_BYTES;
                        buffer.clear();
                    }
                }
            }
        }
        if !buffer.is_empty() {
            self.write_rewritten(BlockId { slice, index: written / BLOCK_BYTES }, &buffer)?;
        }
        Ok(out)
    }

    fn write_rewritten(&self, block: BlockId, bytes: &[u8]) -> Result<(), VfsError> {
        self.store.write(&[(block, bytes)])?;
        Ok(())
    }
}
