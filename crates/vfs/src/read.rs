//! Reading: committed and pending records overlaid, blocks fetched, holes filled with zeros.

use crate::block_cache::BlockSpan;
use crate::node::{Node, NodeState, block_at};
use crate::pending::{Pending, PendingBytes, by_chunk};
use crate::{Vfs, VfsError};
use bytes::Bytes;
use ringfs_base::limits::{BLOCK_BYTES, CHUNK_BYTES};
use ringfs_base::{Errno, InodeId, SliceId};
use ringfs_meta::{ExtentRecord, Source, resolve};
use ringfs_store::{ReadReq, StoreError};
use std::ops::Range;

/// How often a read starts over because the file changed under it.
const RETRIES_MAX: u32 = 16;

/// A read of at least this much of a block fetches the whole of it.
const WHOLE_BLOCK_FROM_BYTES: u32 = 128 << 10;

/// Most chunks whose records are asked for at once.
const CHUNKS_PER_REQUEST: usize = 256;

static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

/// One piece of an answer.
enum Part {
    Ready(Bytes),
    Block { span: BlockSpan, from: u32, len: u32 },
}

/// The records of one chunk, oldest layer first.
pub(crate) struct Layered<'a> {
    pub(crate) committed: &'a [ExtentRecord],
    pub(crate) layers: &'a [&'a Pending],
}

impl Vfs {
    /// Up to `len` bytes from `offset`, fewer at the end of the file, as pieces in order.
    pub fn read(&self, ino: InodeId, offset: u64, len: u32) -> Result<Vec<Bytes>, VfsError> {
        let node = self.nodes.get(ino);
        let ahead = node.streams.lock().note(offset, u64::from(len));
        for attempt in 0..RETRIES_MAX {
            let plan = self.plan(&node, offset, len, ahead)?;
            match self.execute(plan.parts, ahead > 0) {
                // The blocks may have been replaced by a compaction or truncation meanwhile: look
                // again where the data are now. The same twice is damage, or a dead server.
                Err(VfsError::Data(cause))
                    if attempt < 2
                        && matches!(
                            *cause,
                            StoreError::Missing { .. } | StoreError::Unavailable { .. }
                        ) =>
                {
                    tracing::debug!(%ino, %cause, "reading again with fresh extents");
                    node.lock().content = Default::default();
                }
                Err(error) => {
                    self.note_unreadable(ino, &error);
                    return Err(error);
                }
                Ok(pieces) => {
                    plan.ahead.into_iter().for_each(|span| self.blocks.read_ahead(span));
                    return Ok(pieces);
                }
            }
        }
        Err(Errno::EIO.into())
    }

    fn plan(&self, node: &Node, offset: u64, len: u32, ahead: u64) -> Result<Plan, VfsError> {
        // What raced with a change by another mount is right for this read and for no later one.
        let mut fresh = true;
        for _ in 0..RETRIES_MAX {
            let mut state = node.lock();
            let current = state.attr.is_some_and(|a| state.content.version == Some(a.ctime));
            let Some(attr) = state.merged().filter(|_| current) else {
                drop(state);
                fresh &= self.fetch_content(node)?;
                continue;
            };
            let end = attr.size.min(offset.saturating_add(u64::from(len)));
            let wanted = end.saturating_sub(offset) as usize;
            let missing: Vec<u64> = by_chunk(offset, wanted)
                .map(|(chunk, ..)| chunk)
                .filter(|chunk| state.content.chunk(*chunk).is_none())
                .collect();
            if !missing.is_empty() {
                drop(state);
                self.fetch_chunks(node, &missing)?;
                continue;
            }
            let mut plan = Plan::default();
            for (chunk, pos, _, len) in by_chunk(offset, wanted) {
                let Some(committed) = state.content.chunk(chunk) else { continue };
                let layers = layers_of(&state);
                let view = Layered { committed: &committed, layers: &layers };
                let inline = if chunk == 0 { state.content.inline.clone() } else { Bytes::new() };
                view.parts(chunk, pos..pos + len as u32, &inline, &mut plan.parts);
            }
            plan.ahead = read_ahead_spans(&state, end, ahead.min(attr.size.saturating_sub(end)));
            if !fresh {
                state.forget_committed();
            }
            return Ok(plan);
        }
        Err(Errno::EIO.into())
    }

    /// Fetches attributes and data, or where they are. False if another mount is known to have
    /// changed the file meanwhile.
    fn fetch_content(&self, node: &Node) -> Result<bool, VfsError> {
        let before = self.changes.before();
        let opened = self.session.open(node.ino, None)?;
        let mut state = node.lock();
        // A commit of this mount may have overtaken the reply: then it is asked for again.
        if state.is_no_older(opened.attr.ctime) {
            state.attr = Some(opened.attr);
            state.content.take(&opened.attr, opened.data);
        }
        Ok(self.changes.none_since(before, node.ino))
    }

    fn fetch_chunks(&self, node: &Node, chunks: &[u64]) -> Result<(), VfsError> {
        for group in chunks.chunks(CHUNKS_PER_REQUEST) {
            let found = self.session.extents(node.ino, group)?;
            let mut state = node.lock();
            if state.content.version != Some(found.attr.ctime) {
                // Another version than the rest of what is cached: start over.
                state.content = Default::default();
                return Ok(());
            }
            for (chunk, records) in group.iter().zip(found.chunks) {
                state.content.chunks.insert(*chunk, std::sync::Arc::new(records));
            }
        }
        Ok(())
    }

    fn execute(&self, parts: Vec<Part>, sequential: bool) -> Result<Vec<Bytes>, VfsError> {
        let whole = |span: &BlockSpan, len: u32| {
            sequential || len >= WHOLE_BLOCK_FROM_BYTES || len == span.len
        };
        // With several whole blocks the later ones come in the background meanwhile.
        let mut blocks = parts.iter().filter_map(|part| match part {
            Part::Block { span, len, .. } if whole(span, *len) => Some(*span),
            _ => None,
        });
        let first = blocks.next().map(|span| span.id);
        blocks.filter(|span| Some(span.id) != first).for_each(|span| self.blocks.read_ahead(span));

        let mut out: Vec<Bytes> = Vec::with_capacity(parts.len());
        let mut small: Vec<(usize, BlockSpan, u32, Vec<u8>)> = Vec::new();
        for part in parts {
            match part {
                Part::Ready(bytes) => out.push(bytes),
                Part::Block { span, from, len } => {
                    let range = from as usize..(from + len) as usize;
                    if whole(&span, len) {
                        let at_end = range.end == span.len as usize;
                        out.push(self.blocks.get(span)?.slice(range));
                        if sequential && at_end {
                            self.blocks.pass(span.id);
                        }
                    } else if let Some(block) = self.blocks.peek(span.id) {
                        out.push(block.slice(range));
                    } else {
                        small.push((out.len(), span, from, vec![0; len as usize]));
                        out.push(Bytes::new());
                    }
                }
            }
        }
        match small.as_mut_slice() {
            [] => {}
            [(_, span, from, buffer)] => self.store.read(span.id, span.len, *from, buffer)?,
            many => {
                let mut requests: Vec<ReadReq<'_>> = many
                    .iter_mut()
                    .map(|(_, span, from, buffer)| ReadReq {
                        id: span.id,
                        raw_len: span.len,
                        offset: *from,
                        out: buffer,
                    })
                    .collect();
                self.store.read_many(&mut requests)?;
            }
        }
        for (index, _, _, buffer) in small {
            out[index] = Bytes::from(buffer);
        }
        Ok(out)
    }

    /// The bytes of a range of one chunk, for the compactor and for appends that move.
    pub(crate) fn materialise(
        &self,
        view: &Layered<'_>,
        chunk: u64,
        range: Range<u32>,
    ) -> Result<Vec<Bytes>, VfsError> {
        let mut parts = Vec::new();
        view.parts(chunk, range, &Bytes::new(), &mut parts);
        self.execute(parts, false)
    }
}

#[derive(Default)]
struct Plan {
    parts: Vec<Part>,
    ahead: Vec<BlockSpan>,
}

fn layers_of(state: &NodeState) -> Vec<&Pending> {
    state.in_flight.as_deref().into_iter().chain([&state.pending]).collect()
}

/// Blocks that a sequential reader will want within the next `len` bytes from `offset`.
fn read_ahead_spans(state: &NodeState, offset: u64, len: u64) -> Vec<BlockSpan> {
    let mut spans: Vec<BlockSpan> = Vec::new();
    for (chunk, pos, _, len) in by_chunk(offset, len as usize) {
        let Some(records) = state.content.chunk(chunk) else { break };
        for piece in resolve(&records, pos..pos + len as u32) {
            let Source::Slice { slice, off, slice_len } = piece.source else { continue };
            let mut at = off;
            while at < off + piece.len {
                let (span, within) = block_at(slice, slice_len, at);
                if spans.last().is_none_or(|last| last.id != span.id) {
                    spans.push(span);
                }
                at += BLOCK_BYTES - within;
            }
        }
    }
    spans
}

impl Layered<'_> {
    fn parts(&self, chunk: u64, range: Range<u32>, inline: &Bytes, out: &mut Vec<Part>) {
        debug_assert!(u64::from(range.end) <= CHUNK_BYTES);
        let all: Vec<ExtentRecord>;
        let own: Vec<&[ExtentRecord]> = self
            .layers
            .iter()
            .filter_map(|layer| layer.chunks.get(&chunk))
            .map(|writes| writes.records.as_slice())
            .collect();
        let records = if own.is_empty() {
            self.committed
        } else {
            all = [self.committed].iter().chain(&own).flat_map(|r| r.iter().copied()).collect();
            &all
        };
        for piece in resolve(records, range) {
            match piece.source {
                Source::Zeros => push_zeros(piece.len, out),
                Source::Below => {
                    let from = (piece.pos as usize).min(inline.len());
                    let to = (piece.pos as usize + piece.len as usize).min(inline.len());
                    if from < to {
                        out.push(Part::Ready(inline.slice(from..to)));
                    }
                    push_zeros(piece.len - (to - from) as u32, out);
                }
                Source::Slice { slice, off, slice_len } => {
                    self.slice_parts(chunk, slice, slice_len, off..off + piece.len, out);
                }
            }
        }
    }

    fn slice_parts(
        &self,
        chunk: u64,
        slice: SliceId,
        slice_len: u32,
        range: Range<u32>,
        out: &mut Vec<Part>,
    ) {
        let mut off = range.start;
        while off < range.end {
            let (mut span, from) = block_at(slice, slice_len, off);
            let len = (range.end - off).min(BLOCK_BYTES - from);
            let pending = self.layers.iter().find_map(|layer| layer.bytes(chunk, slice, off));
            let taken = |bytes: &[u8]| Part::Ready(Bytes::copy_from_slice(bytes));
            out.push(match pending {
                Some(PendingBytes::Memory(bytes)) => taken(&bytes[..len as usize]),
                Some(PendingBytes::Sealed(upload)) => match upload.bytes() {
                    Some(bytes) => taken(&bytes[from as usize..(from + len) as usize]),
                    None => {
                        // The slice still grows, but a block that has left is a full one.
                        span.len = BLOCK_BYTES;
                        Part::Block { span, from, len }
                    }
                },
                None => Part::Block { span, from, len },
            });
            off += len;
        }
    }
}

fn push_zeros(mut len: u32, out: &mut Vec<Part>) {
    while len > 0 {
        let now = (len as usize).min(ZEROS.len());
        out.push(Part::Ready(Bytes::from_static(&ZEROS[..now])));
        len -= now as u32;
    }
}
