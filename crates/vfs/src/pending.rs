//! Writes of one file that are not committed yet.
//!
//! A layer of pending writes is a small log: each chunk of the file has a slice to which the
//! bytes of every write are appended, wherever in the chunk they belong, and a list of extent
//! records that say where. A run of random writes therefore fills whole blocks, and reading a
//! pending layer is the same overlay of records as reading what is committed. Full blocks leave
//! for the block servers at once; the tails follow when the layer is flushed.

use crate::upload::Upload;
use ringfs_base::limits::{BLOCK_BYTES, CHUNK_BYTES};
use ringfs_base::{BlockId, Epoch, SliceId, Timestamp};
use ringfs_meta::{ExtentRecord, SliceLease};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Splits a byte range of a file at the borders of its chunks.
/// Yields (chunk, position in the chunk, offset in the range, length).
pub(crate) fn by_chunk(offset: u64, len: usize) -> impl Iterator<Item = (u64, u32, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done >= len {
            return None;
        }
        let at = offset + done as u64;
        let pos = at % CHUNK_BYTES;
        let take = (len - done).min((CHUNK_BYTES - pos) as usize);
        let item = (at / CHUNK_BYTES, pos as u32, done, take);
        done += take;
        Some(item)
    })
}

/// The bytes of one slice while it is being filled.
pub(crate) struct SliceBuffer {
    pub(crate) id: SliceId,
    lease: SliceLease,
    /// Blocks that are full and on their way, or have arrived.
    pub(crate) sealed: Vec<Arc<Upload>>,
    /// What follows them, less than a block.
    pub(crate) tail: Vec<u8>,
    /// The tail may be on block servers already, where blocks never change: no server may be
    /// left with one content of it and another with another.
    sent: bool,
}

impl SliceBuffer {
    fn new(lease: SliceLease) -> SliceBuffer {
        SliceBuffer { id: lease.id(), lease, sealed: Vec::new(), tail: Vec::new(), sent: false }
    }

    fn tail_start(&self) -> u32 {
        self.sealed.len() as u32 * BLOCK_BYTES
    }

    /// Bytes in the slice so far.
    pub(crate) fn len(&self) -> u32 {
        self.tail_start() + self.tail.len() as u32
    }

    /// The id of the block that the tail will be.
    pub(crate) fn tail_block(&self) -> BlockId {
        BlockId { slice: self.id, index: self.sealed.len() as u32 }
    }
}

/// Pending writes within one chunk.
#[derive(Default)]
pub(crate) struct ChunkWrites {
    pub(crate) slices: Vec<SliceBuffer>,
    /// Newest last. `slice_len` is filled in when the layer is flushed.
    pub(crate) records: Vec<ExtentRecord>,
}

/// One layer of pending writes.
#[derive(Default)]
pub(crate) struct Pending {
    pub(crate) chunks: BTreeMap<u64, ChunkWrites>,
    /// Where the appended run begins, when the layer holds `O_APPEND` writes (and nothing else).
    pub(crate) append_from: Option<u64>,
    /// End of the last byte written, as an offset in the file.
    pub(crate) end: u64,
    /// Somebody without privileges wrote: set-user-id and set-group-id go.
    pub(crate) kill_suid: bool,
    /// Somebody wrote whom quotas of owners and groups bind.
    pub(crate) limited: bool,
    /// Time of the newest write.
    pub(crate) mtime: Timestamp,
    /// The ring's epoch before the first block left: where its blocks are looked for.
    pub(crate) epoch: Option<Epoch>,
}

/// Where a pending byte range can be copied from.
pub(crate) enum PendingBytes<'a> {
    /// Still in memory.
    Memory(&'a [u8]),
    /// In a block that left; its upload has the bytes until they have arrived.
    Sealed(Arc<Upload>),
}

impl Pending {
    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Adds `data` at `offset`. `new_slice` names slices as they are needed, `seal` takes each
    /// block that became full. Adds the bytes of memory that the layer grew by to `grown`, also
    /// when it fails half way: what was added until then stays, as in a short write.
    pub(crate) fn write(
        &mut self,
        offset: u64,
        data: &[u8],
        now: Timestamp,
        new_slice: &mut dyn FnMut() -> Result<SliceLease, crate::VfsError>,
        seal: &mut dyn FnMut(BlockId, Vec<u8>) -> Arc<Upload>,
        grown: &mut usize,
    ) -> Result<(), crate::VfsError> {
        for (chunk, pos, from, len) in by_chunk(offset, data.len()) {
            let writes = self.chunks.entry(chunk).or_default();
            let piece = &data[from..from + len];
            let (mut added, mut result) = (len, Ok(()));
            if !writes.overwrite_in_place(pos, piece) {
                added = 0;
                result = writes.append(pos, piece, new_slice, seal, &mut added);
                *grown += added;
            }
            if added > 0 {
                self.end = self.end.max(offset + (from + added) as u64);
                self.mtime = now;
            }
            if result.is_err() {
                // A chunk without records would make the layer look as if it held something.
                self.chunks.retain(|_, writes| !writes.records.is_empty());
                return result;
            }
        }
        Ok(())
    }

    /// The bytes of `slice` from `off`, at most `len` of them, if the slice is of this layer.
    pub(crate) fn bytes(&self, chunk: u64, slice: SliceId, off: u32) -> Option<PendingBytes<'_>> {
        let buffer = self.chunks.get(&chunk)?.slices.iter().find(|s| s.id == slice)?;
        let index = (off / BLOCK_BYTES) as usize;
        Some(match buffer.sealed.get(index) {
            Some(upload) => PendingBytes::Sealed(upload.clone()),
            None => PendingBytes::Memory(&buffer.tail[(off - buffer.tail_start()) as usize..]),
        })
    }

    /// If the whole layer lies in the first `limit` bytes and still in memory: its runs, oldest
    /// first, to be written as inline data.
    pub(crate) fn as_inline(&self, limit: u32) -> Option<Vec<(u32, &[u8])>> {
        if self.end > u64::from(limit) || self.chunks.len() != 1 {
            return None;
        }
        let writes = self.chunks.get(&0)?;
        let mut runs = Vec::with_capacity(writes.records.len());
        for record in &writes.records {
            let slice = writes.slices.iter().find(|s| s.id == record.slice)?;
            if !slice.sealed.is_empty() {
                return None;
            }
            let bytes = slice.tail.get(record.off as usize..(record.off + record.len) as usize)?;
            runs.push((record.pos, bytes));
        }
        Some(runs)
    }

    /// Puts a layer that could not be committed back under this newer one.
    pub(crate) fn put_below(&mut self, older: Pending) {
        for (chunk, mut below) in older.chunks {
            below.slices.iter_mut().for_each(|slice| slice.sent = true);
            let above = self.chunks.entry(chunk).or_default();
            above.slices.splice(0..0, below.slices);
            above.records.splice(0..0, below.records);
        }
        // A layer begins only when no appended one is in flight, so the kinds agree.
        self.append_from = older.append_from.or(self.append_from);
        self.end = self.end.max(older.end);
        self.kill_suid |= older.kill_suid;
        self.limited |= older.limited;
        self.mtime = self.mtime.max(older.mtime);
        self.epoch = older.epoch.or(self.epoch);
    }

    /// The outcome of the layer's commit will never be known: nobody may collect its slices while
    /// the session lives.
    pub(crate) fn keep_slices(&self) {
        self.slices().for_each(|slice| slice.lease.keep());
    }

    /// Bytes of the file that are to be written.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.chunks.values().flat_map(|c| &c.records).map(|record| u64::from(record.len)).sum()
    }

    /// Bytes of memory that the tails hold. Sealed blocks account for themselves.
    pub(crate) fn tail_bytes(&self) -> usize {
        self.slices().map(|s| s.tail.len()).sum()
    }

    /// Every slice of the layer.
    pub(crate) fn slices(&self) -> impl Iterator<Item = &SliceBuffer> {
        self.chunks.values().flat_map(|c| &c.slices)
    }

    /// The records of each chunk with the now final slice sizes.
    pub(crate) fn final_records(&self) -> Vec<(u64, Vec<ExtentRecord>)> {
        self.chunks
            .iter()
            .map(|(chunk, writes)| {
                let records = writes.records.iter().map(|record| {
                    let slice = writes.slices.iter().find(|s| s.id == record.slice);
                    ExtentRecord {
                        slice_len: slice.map_or(record.slice_len, SliceBuffer::len),
                        ..*record
                    }
                });
                (*chunk, records.collect())
            })
            .collect()
    }
}

impl ChunkWrites {
    /// A page written again and again while it is still in memory takes no new space.
    fn overwrite_in_place(&mut self, pos: u32, data: &[u8]) -> bool {
        let end = pos + data.len() as u32;
        // Only the newest record that touches the range may be changed: an older one is hidden.
        let Some(record) =
            self.records.iter().rev().find(|r| r.pos < end && pos < r.pos + r.len).copied()
        else {
            return false;
        };
        if pos < record.pos || end > record.pos + record.len {
            return false;
        }
        let Some(slice) = self.slices.iter_mut().find(|s| s.id == record.slice && !s.sent) else {
            return false;
        };
        let Some(start) = (record.off + (pos - record.pos)).checked_sub(slice.tail_start()) else {
            return false;
        };
        slice.tail[start as usize..start as usize + data.len()].copy_from_slice(data);
        true
    }

    fn append(
        &mut self,
        mut pos: u32,
        mut data: &[u8],
        new_slice: &mut dyn FnMut() -> Result<SliceLease, crate::VfsError>,
        seal: &mut dyn FnMut(BlockId, Vec<u8>) -> Arc<Upload>,
        added: &mut usize,
    ) -> Result<(), crate::VfsError> {
        while !data.is_empty() {
            // A slice is at most as long as a chunk, so that its blocks stay few and u32 counts.
            if self.slices.last().is_none_or(|s| s.sent || u64::from(s.len()) >= CHUNK_BYTES) {
                self.slices.push(SliceBuffer::new(new_slice()?));
            }
            let Some(slice) = self.slices.last_mut() else { break };
            let room = (BLOCK_BYTES as usize - slice.tail.len())
                .min((CHUNK_BYTES - u64::from(slice.len())) as usize);
            let (now, rest) = data.split_at(data.len().min(room));
            let off = slice.len();
            if slice.tail.capacity() == 0 && now.len() > BLOCK_BYTES as usize / 4 {
                slice.tail.reserve_exact(BLOCK_BYTES as usize);
            }
            slice.tail.extend_from_slice(now);
            match self.records.last_mut() {
                Some(r) if r.slice == slice.id && r.pos + r.len == pos && r.off + r.len == off => {
                    r.len += now.len() as u32;
                }
                _ => self.records.push(ExtentRecord {
                    pos,
                    len: now.len() as u32,
                    slice: slice.id,
                    off,
                    slice_len: 0,
                }),
            }
            if slice.tail.len() == BLOCK_BYTES as usize {
                let id = slice.tail_block();
                let upload = seal(id, std::mem::take(&mut slice.tail));
                slice.sealed.push(upload);
            }
            pos += now.len() as u32;
            *added += now.len();
            data = rest;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringfs_base::Errno;

    fn write(layer: &mut Pending, offset: u64, data: &[u8], slices: &mut Vec<u64>) -> usize {
        let mut grown = 0;
        let mut next = || {
            slices
                .pop()
                .map(|id| SliceLease::unregistered(SliceId(id)))
                .ok_or_else(|| Errno::EIO.into())
        };
        let seal = &mut |_: BlockId, _: Vec<u8>| unreachable!("nothing is that long");
        let result = layer.write(offset, data, Timestamp(9), &mut next, seal, &mut grown);
        assert_eq!(result.is_err(), grown < data.len());
        grown
    }

    #[test]
    fn a_write_that_gets_no_slice_leaves_nothing_behind() {
        let mut layer = Pending::default();
        assert_eq!(write(&mut layer, 5, b"abc", &mut vec![]), 0);
        assert!(layer.is_empty());
        assert_eq!((layer.end, layer.mtime), (0, Timestamp::default()));
    }

    #[test]
    fn a_write_that_fails_half_way_tells_what_it_added() {
        let mut layer = Pending::default();
        assert_eq!(write(&mut layer, CHUNK_BYTES - 2, b"abcde", &mut vec![1]), 2);
        assert_eq!((layer.end, layer.chunks.len(), layer.tail_bytes()), (CHUNK_BYTES, 1, 2));
    }

    #[test]
    fn a_tail_that_may_have_been_sent_does_not_change_any_more() {
        let (mut older, mut layer) = (Pending::default(), Pending::default());
        write(&mut older, 0, b"aaaa", &mut vec![1]);
        layer.put_below(older);
        let mut slices = vec![3, 2];
        assert_eq!(write(&mut layer, 1, b"b", &mut slices), 1, "not in place");
        assert_eq!(write(&mut layer, 4, b"cc", &mut slices), 2);
        let slices: Vec<_> = layer.slices().map(|s| (s.id.0, s.tail.clone())).collect();
        assert_eq!(slices, [(1, b"aaaa".to_vec()), (2, b"bcc".to_vec())]);
    }
}
