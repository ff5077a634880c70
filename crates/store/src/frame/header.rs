//! Reading the header and index of a frame: a total function of bytes from outside.

use super::{
    Codec, ENTRY_BYTES, FRAME_VERSION, Identity, MAGIC, PREFIX_BYTES, RAW_BIT, RAW_BYTES_MAX,
    SEGMENT_SHIFTS, be32, crc32c, header_bytes,
};
use ringfs_base::{BlockId, SliceId, VolumeUuid};
use std::ops::Range;

/// What is wrong with a copy. Its text completes the sentence "The copy on X is bad: ...".
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Damage {
    /// Fewer bytes than the header says.
    #[error("it is cut short ({have} of {want} bytes)")]
    Short {
        /// Bytes found.
        have: usize,
        /// Bytes expected.
        want: usize,
    },
    /// More bytes than the header says.
    #[error("{0} bytes follow its end")]
    Long(usize),
    /// Not a frame at all.
    #[error("it does not begin as a block does")]
    Magic,
    /// Checksum of the header or index.
    #[error("its header fails the checksum")]
    HeaderCrc,
    /// The header is intact, but says what cannot be.
    #[error("its header is intact but makes no sense ({0})")]
    Nonsense(&'static str),
    /// An intact block of another name or volume.
    #[error("it is block {block} of volume {volume}", block = .0.block, volume = .0.volume)]
    OtherBlock(Identity),
    /// An intact block with another length than the file's extents say.
    #[error("it holds {have} bytes where {want} belong")]
    OtherLength {
        /// Raw length in the header.
        have: u32,
        /// Raw length expected.
        want: u32,
    },
    /// Checksum of a segment.
    #[error("segment {0} fails its checksum")]
    SegmentCrc(u32),
    /// Checksum right, but the codec refuses the bytes.
    #[error("segment {0} cannot be decompressed")]
    Codec(u32),
    /// Written by a newer RingFS: not damaged, and never overwritten by a repair.
    #[error(
        "it has format version {found}, and this RingFS reads up to {FRAME_VERSION}: \
         upgrade RingFS on this machine"
    )]
    Newer {
        /// Version in the frame; one that we know with unknown flags counts as the next.
        found: u8,
    },
}

/// A header that has been checked, with its index.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    pub(super) identity: Identity,
    pub(super) codec: Codec,
    pub(super) shift: u8,
    pub(super) raw_len: u32,
    pub(super) index: Vec<Segment>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Segment {
    pub(super) begin: u32,
    pub(super) end: u32,
    pub(super) raw: bool,
    pub(super) crc: u32,
}

impl Header {
    /// Reads the header at the begin of `bytes`, which may be longer. Checks both checksums, that
    /// the index is in order, and every field's range; identity is [`Self::require`]'s task.
    pub fn parse(bytes: &[u8]) -> Result<Header, Damage> {
        let short = |want| Damage::Short { have: bytes.len(), want };
        let prefix = bytes.get(..PREFIX_BYTES).ok_or(short(PREFIX_BYTES))?;
        if prefix[..4] != MAGIC {
            return Err(Damage::Magic);
        }
        let field = |at| be32(prefix, at).ok_or(short(PREFIX_BYTES));
        if crc32c(&prefix[..44]) != field(44)? {
            return Err(Damage::HeaderCrc);
        }
        if prefix[4] > FRAME_VERSION {
            return Err(Damage::Newer { found: prefix[4] });
        }
        if prefix[7] != 0 {
            return Err(Damage::Newer { found: FRAME_VERSION + 1 });
        }
        if prefix[4] == 0 {
            return Err(Damage::Nonsense("version 0"));
        }
        let codec = Codec::from_byte(prefix[5]).ok_or(Damage::Nonsense("unknown compression"))?;
        let shift = prefix[6];
        if !SEGMENT_SHIFTS.contains(&shift) {
            return Err(Damage::Nonsense("segment size"));
        }
        let mut volume = [0; 16];
        volume.copy_from_slice(&prefix[8..24]);
        let slice = u64::from(field(24)?) << 32 | u64::from(field(28)?);
        let block = BlockId { slice: SliceId(slice), index: field(32)? };
        let raw_len = field(36)?;
        if raw_len == 0 || raw_len > RAW_BYTES_MAX {
            return Err(Damage::Nonsense("length"));
        }
        let segments = raw_len.div_ceil(1 << shift);
        if field(40)? != segments {
            return Err(Damage::Nonsense("number of segments"));
        }

        let want = header_bytes(segments as usize);
        let head = bytes.get(..want).ok_or(short(want))?;
        if be32(head, want - 4) != Some(crc32c(&head[..want - 4])) {
            return Err(Damage::HeaderCrc);
        }
        let mut index = Vec::with_capacity(segments as usize);
        let mut begin = 0;
        for (number, entry) in head[PREFIX_BYTES..want - 4].chunks_exact(ENTRY_BYTES).enumerate() {
            let end = be32(entry, 0).ok_or(short(want))?;
            let crc = be32(entry, 4).ok_or(short(want))?;
            let (raw, end) = (end & RAW_BIT != 0, end & !RAW_BIT);
            let stored = end.checked_sub(begin).ok_or(Damage::Nonsense("index out of order"))?;
            let raw_bytes = (raw_len - ((number as u32) << shift)).min(1 << shift);
            let length_ok = if raw { stored == raw_bytes } else { stored < raw_bytes };
            if !length_ok || stored == 0 {
                return Err(Damage::Nonsense("length of a segment"));
            }
            index.push(Segment { begin, end, raw, crc });
            begin = end;
        }
        Ok(Header {
            identity: Identity { volume: VolumeUuid(volume), block },
            codec,
            shift,
            raw_len,
            index,
        })
    }

    /// Checks that the frame is the one that was asked for.
    pub fn require(&self, identity: &Identity, raw_len: Option<u32>) -> Result<(), Damage> {
        if self.identity != *identity {
            return Err(Damage::OtherBlock(self.identity));
        }
        match raw_len {
            Some(want) if want != self.raw_len => {
                Err(Damage::OtherLength { have: self.raw_len, want })
            }
            _ => Ok(()),
        }
    }

    /// Raw length of the block, in bytes.
    pub fn raw_len(&self) -> u32 {
        self.raw_len
    }

    /// Bytes of header and index.
    pub fn header_len(&self) -> usize {
        header_bytes(self.index.len())
    }

    /// Memory that the index takes, in bytes.
    pub fn index_bytes(&self) -> usize {
        self.index.len() * size_of::<Segment>()
    }

    /// Bytes of the whole frame.
    pub fn frame_len(&self) -> usize {
        self.header_len() + self.index.last().map_or(0, |segment| segment.end as usize)
    }

    /// Numbers of the segments that `range` (raw bytes, not empty, inside the block) touches.
    pub fn segments_of(&self, range: &Range<u32>) -> Range<usize> {
        (range.start >> self.shift) as usize..((range.end - 1) >> self.shift) as usize + 1
    }

    /// Where the stored bytes of the segments that `range` (raw bytes, not empty, inside the block)
    /// touches are, counted from the end of header and index.
    pub fn stored_range(&self, range: &Range<u32>) -> Range<usize> {
        let numbers = self.segments_of(range);
        let begin = self.index.get(numbers.start).map_or(0, |segment| segment.begin as usize);
        let end = self.index.get(numbers.end - 1).map_or(begin, |segment| segment.end as usize);
        begin..end
    }

    /// Raw bytes that segment `number` holds.
    pub(super) fn raw_range(&self, number: usize) -> Range<u32> {
        let begin = (number as u32) << self.shift;
        begin..self.raw_len.min(begin + (1 << self.shift))
    }
}
