//! copy_file_range: the destination shows the source's slices, and no data move.
//!
//! What is inline, or too small to be worth a record, is read and written. The rest is one script
//! for each few GiB: it carries what was read of the source, and does nothing if that has changed
//! meanwhile.

use crate::node::{Content, Node};
use crate::pending::by_chunk;
use crate::{Vfs, VfsError, WriteMode};
use ringfs_base::limits::{CHUNK_BYTES, FILE_BYTES_MAX};
use ringfs_base::{Errno, InodeId, SliceId};
use ringfs_meta::{ExtentRecord, FileKind, ShareRequest, Shared, Source, Writer, resolve};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Fewer bytes than this are read and written: a record and a count would cost more.
const SHARE_FROM_BYTES: u64 = 4096;

/// Most bytes that one script shares.
const SHARE_BYTES_MAX: u64 = 64 * CHUNK_BYTES;

/// How often a source may turn out to have changed before its bytes are copied instead.
const SHARE_TRIES_MAX: u32 = 16;

/// Bytes read and written at once.
const COPY_BYTES: u64 = 1 << 20;

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub ino: InodeId,
    /// A byte of it.
    pub offset: u64,
}

impl Vfs {
    /// Copies up to `len` bytes and tells how many: fewer at the end of the source, or when
    /// something failed on the way. EINVAL if the ranges overlap, EFBIG, EISDIR.
    pub fn copy_range(
        &self,
        from: Place,
        to: Place,
        len: u64,
        writer: Writer,
    ) -> Result<u64, VfsError> {
        let apart = from.offset.abs_diff(to.offset) >= len;
        if from.ino == to.ino && !apart {
            return Err(Errno::EINVAL.into());
        }
        let room = FILE_BYTES_MAX.saturating_sub(to.offset);
        if room == 0 && len > 0 {
            return Err(Errno::EFBIG.into());
        }
        let mut len = len.min(room);
        if from.ino == to.ino {
            // The file may grow by the copy: what it has now is what is copied.
            let size = self.getattr(from.ino)?.attr.size;
            len = len.min(size.saturating_sub(from.offset));
        }
        let mut done = 0;
        while done < len {
            let (from, to) = (from.on(done), to.on(done));
            match self.copy_some(from, to, len - done, writer) {
                Ok(0) => break,
                Ok(copied) => done += copied,
                Err(error) if done > 0 => {
                    tracing::debug!(%error, done, "a copy ended early; the next call tells why");
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Copies the beginning of a range; 0 at the end of the source.
    fn copy_some(&self, from: Place, to: Place, len: u64, writer: Writer) -> Result<u64, VfsError> {
        let (source, destination) = (self.nodes.get(from.ino), self.nodes.get(to.ino));
        self.flush_node(&source)?;
        self.flush_node(&destination)?;
        for _ in 0..SHARE_TRIES_MAX {
            match self.try_share(&destination, from, to, len, writer)? {
                Attempt::Done(bytes) => return Ok(bytes),
                Attempt::Copy(bytes) => return self.copy_bytes(from, to, bytes, writer),
                Attempt::Again => {}
            }
        }
        self.copy_bytes(from, to, len, writer)
    }

    fn try_share(
        &self,
        destination: &Arc<Node>,
        from: Place,
        to: Place,
        len: u64,
        writer: Writer,
    ) -> Result<Attempt, VfsError> {
        let found = self.session.next_chunks(from.ino, from.offset / CHUNK_BYTES)?;
        match found.attr.kind {
            FileKind::File => {}
            FileKind::Directory => return Err(Errno::EISDIR.into()),
            _ => return Err(Errno::EINVAL.into()),
        }
        let known_to = found.known_to.saturating_mul(CHUNK_BYTES);
        let end = found.attr.size.min(known_to).min(from.offset.saturating_add(len));
        let bytes = end.saturating_sub(from.offset).min(SHARE_BYTES_MAX);
        let chunks: BTreeMap<u64, Arc<Vec<ExtentRecord>>> =
            found.chunks.into_iter().map(|(c, records)| (c, Arc::new(records))).collect();
        let inline_len = u64::from(found.inline_len);
        if from.offset < inline_len && bytes > 0 {
            return Ok(Attempt::Copy(bytes.min(inline_len - from.offset)));
        }
        if bytes < SHARE_FROM_BYTES {
            return Ok(Attempt::Copy(bytes));
        }
        let (first, last) = (from.offset / CHUNK_BYTES, (from.offset + bytes - 1) / CHUNK_BYTES);
        let read: Vec<(u64, Arc<Vec<ExtentRecord>>)> =
            chunks.range(first..=last).map(|(c, r)| (*c, r.clone())).collect();
        let records = moved(&chunks, from.offset, to.offset, bytes);
        let request = ShareRequest {
            source: from.ino,
            version: found.attr.ctime,
            read: &read,
            destination: to.ino,
            records: &records,
            end: to.offset + bytes,
            writer,
        };
        let before = self.changes.before();
        let shared = self.session.share(&request, self.clock.now()).inspect_err(|_| {
            // It may have been done all the same.
            destination.lock().forget_committed();
        })?;
        let Shared::Done(done) = shared else { return Ok(Attempt::Again) };
        destination.lock().content = Content::default();
        self.note_own_change(&done.attr, done.previous, before);
        if done.records >= self.config.compact_records {
            let chunks = records.iter().map(|(chunk, _)| *chunk);
            self.upkeep.request_compaction(to.ino, chunks, false);
        }
        Ok(Attempt::Done(bytes))
    }

    fn copy_bytes(
        &self,
        from: Place,
        to: Place,
        len: u64,
        writer: Writer,
    ) -> Result<u64, VfsError> {
        let pieces = self.read(from.ino, from.offset, len.min(COPY_BYTES) as u32)?;
        let mut done = 0;
        for piece in pieces {
            let Writer { kill_suid, privileged } = writer;
            let how = WriteMode { append: false, kill_suid, privileged };
            self.write(to.ino, to.offset + done, &piece, how)?;
            done += piece.len() as u64;
        }
        Ok(done)
    }
}

impl Place {
    const fn on(self, bytes: u64) -> Place {
        Place { ino: self.ino, offset: self.offset + bytes }
    }
}

enum Attempt {
    /// So many bytes are shared.
    Done(u64),
    /// So many bytes are to be read and written.
    Copy(u64),
    /// The source has changed.
    Again,
}

/// The records that show at `to` what the chunks show at `from`.
fn moved(
    chunks: &BTreeMap<u64, Arc<Vec<ExtentRecord>>>,
    from: u64,
    to: u64,
    bytes: u64,
) -> Vec<(u64, Vec<ExtentRecord>)> {
    let mut out: BTreeMap<u64, Vec<ExtentRecord>> = BTreeMap::new();
    for (chunk, pos, done, len) in by_chunk(from, bytes as usize) {
        let records = chunks.get(&chunk).map_or(&[][..], |records| records.as_slice());
        for piece in resolve(records, pos..pos + len as u32) {
            let at = to + done as u64 + u64::from(piece.pos - pos);
            // A run may lie across the border of two chunks of the destination.
            for (chunk, pos, within, len) in by_chunk(at, piece.len as usize) {
                let record = match piece.source {
                    Source::Slice { slice, off, slice_len } => ExtentRecord {
                        pos,
                        len: len as u32,
                        slice,
                        off: off + within as u32,
                        slice_len,
                    },
                    Source::Zeros | Source::Below => ExtentRecord::hole(pos, len as u32),
                };
                let list = out.entry(chunk).or_default();
                match list.last_mut() {
                    Some(last)
                        if last.slice == SliceId(0)
                            && record.is_hole()
                            && last.end() == u64::from(pos) =>
                    {
                        last.len += record.len;
                    }
                    _ => list.push(record),
                }
            }
        }
    }
    out.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_move_by_any_distance_and_are_cut_at_the_borders_of_chunks() {
        let slice = SliceId(7);
        let record = ExtentRecord { pos: 100, len: 1000, slice, off: 50, slice_len: 2000 };
        let chunks = BTreeMap::from([(0, Arc::new(vec![record]))]);
        let out = moved(&chunks, 0, CHUNK_BYTES - 600, 2000);
        let chunk = CHUNK_BYTES as u32;
        assert_eq!(
            out,
            [
                (
                    0,
                    vec![
                        ExtentRecord::hole(chunk - 600, 100),
                        ExtentRecord { pos: chunk - 500, len: 500, ..record },
                    ]
                ),
                (
                    1,
                    vec![
                        ExtentRecord { pos: 0, len: 500, off: 550, ..record },
                        ExtentRecord::hole(500, 900),
                    ]
                ),
            ]
        );
    }
}
