//! How one block looks on a server: a frame that says by itself what it is.
//!
//! The block's bytes are cut into *segments* of a power-of-two size. Each is compressed and
//! checksummed alone, so that a small read moves and decodes only the segments it touches. The
//! index holds where each segment ends rather than how long it is: the server's script then finds
//! any range with two look-ups and no loop. Integers are big-endian.
//!
//! | offset | bytes | field |
//! | --- | --- | --- |
//! | 0 | 4 | magic `RFB1` |
//! | 4 | 1 | format version, now 1 |
//! | 5 | 1 | codec: 0 none, 1 LZ4, 2 Zstandard |
//! | 6 | 1 | segment shift: a segment is 2^shift raw bytes, 12 to 20 |
//! | 7 | 1 | flags, 0; one that is not known is refused like a newer version |
//! | 8 | 16 | uuid of the volume |
//! | 24 | 8 | slice |
//! | 32 | 4 | index of the block in its slice |
//! | 36 | 4 | raw length of the block, 1 to [`RAW_BYTES_MAX`] |
//! | 40 | 4 | number of segments, N |
//! | 44 | 4 | CRC32C of bytes 0 to 43 |
//! | 48 | 8 N | per segment: end (4), counted from the first segment's begin, top bit set if the segment is stored raw because compressing gained nothing; CRC32C (4) |
//! | 48+8N | 4 | CRC32C of bytes 0 to 47+8N |
//! | 52+8N | | the segments, one after the other |
//!
//! A segment's CRC covers the volume, the block, the segment's number and then its stored bytes:
//! a segment that was swapped with another fails although it is intact in itself.
//!
//! The first 48 bytes keep their layout in every later version. So a frame of a newer version is
//! told apart from a damaged one, and is refused with a clear sentence instead of being "repaired".

mod codec;
mod decode;
mod encode;
mod header;
#[cfg(test)]
mod tests;

pub use codec::Codec;
pub use decode::Out;
pub use encode::Encoded;
pub use header::{Damage, Header};

use ringfs_base::{BlockId, VolumeUuid};

/// Version of the frame that this crate writes, and the newest that it reads.
pub const FRAME_VERSION: u8 = 1;
/// Bytes before the index.
pub const PREFIX_BYTES: usize = 48;
/// Bytes of one segment's entry in the index.
pub const ENTRY_BYTES: usize = 8;
/// Smallest and largest segment, as powers of two.
pub const SEGMENT_SHIFTS: std::ops::RangeInclusive<u8> = 12..=20;
/// Longest raw block that a frame may hold. A bound for the decoder; the volume's blocks are
/// `ringfs_base::limits::BLOCK_BYTES`.
pub const RAW_BYTES_MAX: u32 = 4 << 20;

const MAGIC: [u8; 4] = *b"RFB1";
const RAW_BIT: u32 = 1 << 31;

/// What a frame must claim to be: the identity that every checksum is bound to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The volume.
    pub volume: VolumeUuid,
    /// The block.
    pub block: BlockId,
}

/// Bytes of a header and index for `segments` segments.
pub const fn header_bytes(segments: usize) -> usize {
    PREFIX_BYTES + segments * ENTRY_BYTES + 4
}

fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// CRC of a stored segment, bound to its place (see the module's header).
fn segment_crc(identity: &Identity, segment: u32, stored: &[u8]) -> u32 {
    let mut place = [0; 32];
    place[..16].copy_from_slice(&identity.volume.0);
    place[16..28].copy_from_slice(&identity.block.to_bytes());
    place[28..].copy_from_slice(&segment.to_be_bytes());
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(&place);
    digest.update(stored);
    digest.finalize() as u32
}

/// A big-endian u32 at `at`; the caller has checked the length.
fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
}
