//! Ranges without data: fallocate makes them, lseek finds them.
//!
//! Both first write back what is buffered, so that the answer needs one place only to look at.
//! Nothing is reserved for ranges that are allocated: blocks are made by writing them.

use crate::node::{Content, without_set_id};
use crate::{Vfs, VfsError};
use ringfs_base::limits::{CHUNK_BYTES, FILE_BYTES_MAX};
use ringfs_base::{Errno, InodeId};
use ringfs_meta::{ExtentRecord, Source, Writer, resolve};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// What fallocate(2) is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// The file reaches to the end of the range at least; its bytes stay as they are.
    Extend,
    /// Room for the range. Since nothing is reserved, nothing is done.
    Reserve,
    /// The range reads as zeros and takes no room. The size stays.
    Punch,
    /// The range reads as zeros; the file reaches to its end at least.
    Zero,
    /// The range reads as zeros as far as the file reaches.
    ZeroKeepSize,
}

/// What lseek(2) looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// The next byte that was written.
    Data,
    /// The next byte that was not, or that was made a hole. The end of the file counts as one.
    Hole,
}

impl Vfs {
    /// Allocates, punches or zeroes a range. EINVAL for an empty one, EFBIG beyond the largest
    /// file, EISDIR.
    pub fn fallocate(
        &self,
        ino: InodeId,
        offset: u64,
        len: u64,
        how: Allocation,
        writer: Writer,
    ) -> Result<(), VfsError> {
        if len == 0 {
            return Err(Errno::EINVAL.into());
        }
        let end = offset.checked_add(len).filter(|end| *end <= FILE_BYTES_MAX);
        let end = end.ok_or(Errno::EFBIG)?;
        match how {
            Allocation::Reserve => self.lose_set_id(ino, offset, writer),
            Allocation::Extend => self.zero(ino, end..end, true, writer),
            Allocation::Zero => self.zero(ino, offset..end, true, writer),
            Allocation::Punch | Allocation::ZeroKeepSize => {
                self.zero(ino, offset..end, false, writer)
            }
        }
    }

    /// What changes nothing else takes the set-id bits away all the same.
    fn lose_set_id(&self, ino: InodeId, offset: u64, writer: Writer) -> Result<(), VfsError> {
        if !writer.kill_suid {
            return Ok(());
        }
        let perm = self.getattr(ino)?.attr.perm;
        if without_set_id(perm) == perm {
            return Ok(());
        }
        self.zero(ino, offset..offset, false, writer)
    }

    fn zero(
        &self,
        ino: InodeId,
        range: Range<u64>,
        grow: bool,
        writer: Writer,
    ) -> Result<(), VfsError> {
        let node = self.nodes.get(ino);
        self.flush_node(&node)?;
        let before = self.changes.before();
        let (first, last) = (range.start, range.end.saturating_sub(1));
        let zeroed =
            self.session.zero(ino, range, grow, writer, self.clock.now()).inspect_err(|_| {
                // A part, or all of it, may have been done without our hearing so.
                node.lock().forget_committed();
            })?;
        self.collector.collect(zeroed.freed);
        node.lock().content = Content::default();
        self.note_own_change(&zeroed.attr, zeroed.previous, before);
        if zeroed.hidden || zeroed.records >= self.config.compact_records {
            let chunks = [first / CHUNK_BYTES, last / CHUNK_BYTES];
            let chunks = if chunks[0] == chunks[1] { &chunks[..1] } else { &chunks[..] };
            self.upkeep.request_compaction(ino, chunks.iter().copied(), zeroed.hidden);
        }
        Ok(())
    }

    /// Where the next data, or the next hole, begins. ENXIO at or beyond the end of the file, and
    /// where no data follow.
    pub fn seek(&self, ino: InodeId, offset: u64, what: Seek) -> Result<u64, VfsError> {
        let node = self.nodes.get(ino);
        if node.lock().is_dirty() {
            self.flush_node(&node)?;
        }
        let mut at = offset;
        let mut known = {
            let state = node.lock();
            let complete = state.content.chunks_known == u64::MAX && !state.is_dirty();
            state.attr.filter(|attr| complete && state.content.version == Some(attr.ctime)).map(
                |attr| Layout {
                    size: attr.size,
                    inline_len: state.content.inline.len() as u64,
                    chunks: state.content.chunks.iter().map(|(c, r)| (*c, r.clone())).collect(),
                    known_to: u64::MAX,
                },
            )
        };
        loop {
            let layout = match known.take() {
                Some(layout) => layout,
                None => self.layout(ino, at)?,
            };
            if offset >= layout.size {
                return Err(Errno::ENXIO.into());
            }
            match layout.find(at, what) {
                Step::At(found) => return Ok(found),
                Step::None => return Err(Errno::ENXIO.into()),
                // Bounded: each step is behind the one before, and the file ends somewhere.
                Step::AskFrom(next) => at = next,
            }
        }
    }

    fn layout(&self, ino: InodeId, from: u64) -> Result<Layout, VfsError> {
        let next = self.session.next_chunks(ino, from / CHUNK_BYTES)?;
        Ok(Layout {
            size: next.attr.size,
            inline_len: next.inline_len.into(),
            chunks: next.chunks.into_iter().map(|(c, records)| (c, Arc::new(records))).collect(),
            known_to: next.known_to,
        })
    }
}

/// Where a file has data, from some chunk on.
struct Layout {
    size: u64,
    inline_len: u64,
    chunks: BTreeMap<u64, Arc<Vec<ExtentRecord>>>,
    /// Chunks below this one that are not in `chunks` have no records.
    known_to: u64,
}

enum Step {
    At(u64),
    None,
    AskFrom(u64),
}

impl Layout {
    fn find(&self, from: u64, what: Seek) -> Step {
        let mut at = from;
        while at < self.size {
            let chunk = at / CHUNK_BYTES;
            if chunk >= self.known_to {
                return Step::AskFrom(at);
            }
            let base = chunk * CHUNK_BYTES;
            let end = self.size.min(base + CHUNK_BYTES);
            if let Some(found) = self.find_in_chunk(chunk, at - base..end - base, what) {
                return Step::At(base + found);
            }
            at = match what {
                Seek::Hole => end,
                // Only chunks with records can have data.
                Seek::Data => match self.chunks.range(chunk + 1..).next() {
                    Some((next, _)) => *next * CHUNK_BYTES,
                    None if self.known_to == u64::MAX => return Step::None,
                    None => end.max(self.known_to.saturating_mul(CHUNK_BYTES)),
                },
            };
        }
        match what {
            Seek::Hole => Step::At(self.size),
            Seek::Data => Step::None,
        }
    }

    fn find_in_chunk(&self, chunk: u64, range: Range<u64>, what: Seek) -> Option<u64> {
        let records = self.chunks.get(&chunk).map_or(&[][..], |records| records.as_slice());
        let inline_len = if chunk == 0 { self.inline_len } else { 0 };
        for piece in resolve(records, range.start as u32..range.end as u32) {
            let (pos, end) = (u64::from(piece.pos), u64::from(piece.pos) + u64::from(piece.len));
            // As far as this the piece has data.
            let data_to = match piece.source {
                Source::Slice { .. } => end,
                Source::Zeros => pos,
                Source::Below => inline_len.clamp(pos, end),
            };
            match what {
                Seek::Data if data_to > pos => return Some(pos),
                Seek::Hole if data_to < end => return Some(data_to),
                _ => {}
            }
        }
        None
    }
}
