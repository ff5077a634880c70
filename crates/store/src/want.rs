//! What is asked of a node for a part of one block, and what its answer is worth.

use crate::Shared;
use crate::error::StoreError;
use crate::frame::{Damage, Header, header_bytes};
use bytes::Bytes;
use ringfs_base::BlockId;
use ringfs_link::{Cmd, LinkError, Reply, Script};
use std::ops::Range;
use std::sync::Arc;

pub(crate) use crate::frame::Out;

/// See the script's own header.
pub(crate) static SEGMENTS: Script =
    Script::from_static("segments", include_str!("scripts/segments.lua"));

/// What is wanted of a block.
#[derive(Clone, Debug)]
pub(crate) struct Want {
    pub(crate) block: BlockId,
    pub(crate) raw_len: u32,
    pub(crate) offset: u32,
    pub(crate) len: usize,
    /// Where its segments are, if that is remembered and of use.
    index: Option<Arc<Header>>,
}

impl Want {
    /// Checks that the range is inside the block, and looks for its remembered index.
    pub(crate) fn new(
        shared: &Shared,
        block: BlockId,
        raw_len: u32,
        offset: u32,
        len: usize,
    ) -> Result<Want, StoreError> {
        let end = u32::try_from(len).ok().and_then(|len| offset.checked_add(len));
        if end.is_some_and(|end| end <= raw_len) {
            let mut want = Want { block, raw_len, offset, len, index: None };
            if !want.touches_all(shared) {
                want.index = shared.indexes.find(block, raw_len);
            }
            Ok(want)
        } else {
            Err(StoreError::Invalid { block, what: "the range wanted is not inside the block" })
        }
    }

    fn range(&self) -> Range<u32> {
        self.offset..self.offset + self.len as u32
    }

    /// Whether the range touches every segment, if the block was written with our settings.
    fn touches_all(&self, shared: &Shared) -> bool {
        let shift = shared.config.segment_shift();
        self.len > 0
            && self.offset >> shift == 0
            && (self.range().end - 1) >> shift == (self.raw_len - 1) >> shift
    }

    /// The same, trusting no remembered index.
    pub(crate) fn without_index(&self) -> Want {
        Want { index: None, ..self.clone() }
    }

    /// Whether a remembered index says where the bytes are.
    pub(crate) fn by_index(&self) -> bool {
        self.index.is_some()
    }

    /// The command that fetches it. If the range touches all segments, the value as it is; if the
    /// index is known, its bytes alone; else a script finds them. The plain commands go past Lua's
    /// copies of large strings.
    pub(crate) fn cmd(&self, shared: &Shared) -> Cmd<'static> {
        let key = shared.keys.key(self.block);
        if self.touches_all(shared) {
            return Cmd::new("GET").arg(key);
        }
        if let Some(index) = &self.index {
            let at = index.stored_range(&self.range());
            let base = index.header_len();
            return Cmd::new("GETRANGE")
                .arg(key)
                .int((base + at.start) as i64)
                .int((base + at.end) as i64 - 1);
        }
        let last = self.range().end - 1;
        let segments = self.raw_len.div_ceil(1 << shared.config.segment_shift());
        Cmd::new("EVALSHA")
            .arg(SEGMENTS.sha())
            .int(1)
            .arg(key)
            .int(self.offset.into())
            .int(last.into())
            .int(header_bytes(segments as usize) as i64)
    }

    /// Verifies a reply to [`Self::cmd`] and unpacks it.
    pub(crate) fn take(&self, shared: &Shared, reply: Reply, out: &mut Out<'_>) -> Answer {
        let taken = match (reply, &self.index) {
            (Reply::Nil, _) => return Answer::Missing,
            (Reply::Bulk(body), Some(index)) => {
                // GETRANGE knows no difference between no value and no bytes.
                if body.is_empty() {
                    return Answer::Missing;
                }
                shared.counters.bytes_received.add(body.len());
                index.unpack_into(&body, self.offset, out)
            }
            (Reply::Bulk(frame), None) => {
                shared.counters.bytes_received.add(frame.len());
                self.take_frame(shared, &frame, out)
            }
            (Reply::Array(mut parts), None) if parts.len() == 2 => {
                match (parts.pop().map(Reply::into_bytes), parts.pop().map(Reply::into_bytes)) {
                    (Some(Ok(Some(body))), Some(Ok(Some(head)))) => {
                        shared.counters.bytes_received.add(head.len() + body.len());
                        self.header(shared, &head)
                            .and_then(|header| header.unpack_into(&body, self.offset, out))
                    }
                    _ => return Answer::odd(),
                }
            }
            _ => return Answer::odd(),
        };
        match taken {
            Ok(()) => Answer::Good,
            Err(damage) => Answer::Bad(damage),
        }
    }

    /// The header at the begin of `head`, checked to be this block's, and remembered.
    fn header(&self, shared: &Shared, head: &[u8]) -> Result<Arc<Header>, Damage> {
        let header = Header::parse(head)?;
        header.require(&shared.identity(self.block), Some(self.raw_len))?;
        let header = Arc::new(header);
        shared.indexes.remember(self.block, &header);
        Ok(header)
    }

    fn take_frame(&self, shared: &Shared, frame: &Bytes, out: &mut Out<'_>) -> Result<(), Damage> {
        let header = self.header(shared, frame)?;
        let (have, want) = (frame.len(), header.frame_len());
        if have < want {
            return Err(Damage::Short { have, want });
        }
        if have > want {
            return Err(Damage::Long(have - want));
        }
        let at = header.stored_range(&self.range());
        let base = header.header_len();
        header.unpack_into(&frame.slice(base + at.start..base + at.end), self.offset, out)
    }
}

/// What a node answered.
#[derive(Debug)]
pub(crate) enum Answer {
    Good,
    Missing,
    Bad(Damage),
    Failed(LinkError),
}

impl Answer {
    fn odd() -> Answer {
        Answer::Failed(LinkError::unexpected("a reply of another shape than a block's"))
    }
}
