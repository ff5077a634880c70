//! Extents as layers: which bytes of a chunk a list of records shows, newest on top.
//!
//! A chunk's value is its records one after the other, oldest first, 24 bytes each, so that a
//! write is an append and never needs the records before it:
//!
//! ```text
//! 0 pos u32 in the chunk   4 len u32   8 slice u64 (0 = hole)   16 off u32 in the slice
//! 20 size u32 of the whole slice (names the blocks to remove when the slice is dropped)
//! ```
//!
//! Below all records lies the inode's inline data (chunk 0 only), and zeros below that.

use ringfs_base::SliceId;
use std::collections::HashSet;
use std::ops::Range;

/// Bytes of one packed record.
pub const RECORD_BYTES: usize = 24;

/// A run of bytes of a chunk and the part of a slice that holds them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ExtentRecord {
    /// First byte, counted from the chunk's begin.
    pub pos: u32,
    /// Bytes.
    pub len: u32,
    /// The slice; [`SliceId`] 0 = a hole: zeros that hide what lies below.
    pub slice: SliceId,
    /// First byte within the slice.
    pub off: u32,
    /// Bytes of the whole slice.
    pub slice_len: u32,
}

impl ExtentRecord {
    /// A hole of `len` bytes at `pos`.
    pub const fn hole(pos: u32, len: u32) -> ExtentRecord {
        ExtentRecord { pos, len, slice: SliceId(0), off: 0, slice_len: 0 }
    }

    /// Whether it hides what lies below with zeros.
    pub const fn is_hole(&self) -> bool {
        self.slice.0 == 0
    }

    /// One past its last byte in the chunk.
    pub const fn end(&self) -> u64 {
        self.pos as u64 + self.len as u64
    }

    /// The packed form.
    pub fn pack(&self) -> [u8; RECORD_BYTES] {
        let mut out = [0; RECORD_BYTES];
        out[..4].copy_from_slice(&self.pos.to_be_bytes());
        out[4..8].copy_from_slice(&self.len.to_be_bytes());
        out[8..16].copy_from_slice(&self.slice.to_bytes());
        out[16..20].copy_from_slice(&self.off.to_be_bytes());
        out[20..].copy_from_slice(&self.slice_len.to_be_bytes());
        out
    }

    /// Packs a list.
    pub fn pack_all(records: &[ExtentRecord]) -> Vec<u8> {
        records.iter().flat_map(ExtentRecord::pack).collect()
    }

    /// Reads a list; `None` if the bytes are no whole number of records, or one is absurd.
    pub fn unpack_all(bytes: &[u8]) -> Option<Vec<ExtentRecord>> {
        let (chunks, rest) = bytes.as_chunks::<RECORD_BYTES>();
        if !rest.is_empty() {
            return None;
        }
        chunks.iter().map(ExtentRecord::unpack).collect()
    }

    fn unpack(bytes: &[u8; RECORD_BYTES]) -> Option<ExtentRecord> {
        let word = |at: usize| Some(u32::from_be_bytes(bytes[at..at + 4].try_into().ok()?));
        let record = ExtentRecord {
            pos: word(0)?,
            len: word(4)?,
            slice: SliceId::from_bytes(bytes[8..16].try_into().ok()?),
            off: word(16)?,
            slice_len: word(20)?,
        };
        let in_slice = u64::from(record.off) + u64::from(record.len);
        let sound = record.end() <= ringfs_base::limits::CHUNK_BYTES
            && (record.is_hole() || in_slice <= u64::from(record.slice_len));
        sound.then_some(record)
    }
}

/// Where the bytes of a piece are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// In a slice, from this byte on.
    Slice {
        /// The slice.
        slice: SliceId,
        /// First byte within it.
        off: u32,
        /// Bytes of the whole slice.
        slice_len: u32,
    },
    /// Zeros.
    Zeros,
    /// No record covers it: the inline data in chunk 0, zeros where these do not reach.
    Below,
}

/// A run of bytes of a chunk that comes from one place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// First byte in the chunk.
    pub pos: u32,
    /// Bytes.
    pub len: u32,
    /// Where they are.
    pub source: Source,
}

/// What `range` of a chunk shows: pieces in order, without gaps, newest record on top.
pub fn resolve(records: &[ExtentRecord], range: Range<u32>) -> Vec<Piece> {
    let mut done: Vec<Piece> = Vec::new();
    // Parts of the range that no newer record covers, in order.
    let mut open: Vec<Range<u32>> = if range.is_empty() { Vec::new() } else { vec![range] };
    for record in records.iter().rev() {
        if open.is_empty() {
            break;
        }
        let end = u32::try_from(record.end()).unwrap_or(u32::MAX);
        let mut still_open = Vec::with_capacity(open.len() + 1);
        for gap in open {
            let (from, to) = (gap.start.max(record.pos), gap.end.min(end));
            if from >= to {
                still_open.push(gap);
                continue;
            }
            if gap.start < from {
                still_open.push(gap.start..from);
            }
            if to < gap.end {
                still_open.push(to..gap.end);
            }
            let source = if record.is_hole() {
                Source::Zeros
            } else {
                Source::Slice {
                    slice: record.slice,
                    off: record.off + (from - record.pos),
                    slice_len: record.slice_len,
                }
            };
            done.push(Piece { pos: from, len: to - from, source });
        }
        open = still_open;
    }
    done.extend(open.into_iter().map(|gap| Piece {
        pos: gap.start,
        len: gap.end - gap.start,
        source: Source::Below,
    }));
    done.sort_unstable_by_key(|piece| piece.pos);
    let mut merged: Vec<Piece> = Vec::with_capacity(done.len());
    for piece in done {
        match merged.last_mut() {
            Some(last) if follows(last, &piece) => last.len += piece.len,
            _ => merged.push(piece),
        }
    }
    merged
}

fn follows(last: &Piece, next: &Piece) -> bool {
    match (last.source, next.source) {
        (
            Source::Slice { slice: a, off: from, slice_len: _ },
            Source::Slice { slice: b, off, slice_len: _ },
        ) => a == b && u64::from(from) + u64::from(last.len) == u64::from(off),
        (a, b) => a == b,
    }
}

/// The shortest list that shows the same bytes: nothing hidden, neighbours joined, in order of
/// `pos`. Holes stay, since the inline data may lie below them; `drop_holes` leaves them out and
/// is right for every chunk that has nothing below (all but chunk 0, and chunk 0 of a file
/// without inline data).
pub fn normalise(records: &[ExtentRecord], drop_holes: bool) -> Vec<ExtentRecord> {
    let end = records.iter().map(ExtentRecord::end).max().unwrap_or(0);
    resolve(records, 0..u32::try_from(end).unwrap_or(u32::MAX))
        .into_iter()
        .filter_map(|piece| match piece.source {
            Source::Slice { slice, off, slice_len } => {
                Some(ExtentRecord { pos: piece.pos, len: piece.len, slice, off, slice_len })
            }
            Source::Zeros if !drop_holes => Some(ExtentRecord::hole(piece.pos, piece.len)),
            Source::Zeros | Source::Below => None,
        })
        .collect()
}

/// One record for each slice that `old` has and `new` has not: their blocks may be removed.
pub fn dropped_slices(old: &[ExtentRecord], new: &[ExtentRecord]) -> Vec<ExtentRecord> {
    let mut seen: HashSet<SliceId> = new.iter().map(|record| record.slice).collect();
    seen.insert(SliceId(0));
    old.iter().filter(|record| seen.insert(record.slice)).copied().collect()
}

#[cfg(test)]
mod tests;
