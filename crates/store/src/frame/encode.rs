//! Making a frame without copying what is stored raw.

use super::{
    Codec, FRAME_VERSION, Identity, MAGIC, RAW_BIT, RAW_BYTES_MAX, SEGMENT_SHIFTS, crc32c,
    header_bytes, segment_crc,
};
use std::ops::Range;

/// A frame ready to send: a header and a list of pieces, some of them the caller's own bytes.
pub struct Encoded<'a> {
    header: Vec<u8>,
    raw: &'a [u8],
    compressed: Vec<u8>,
    pieces: Vec<Piece>,
}

enum Piece {
    Raw(Range<usize>),
    Compressed(Range<usize>),
}

impl<'a> Encoded<'a> {
    /// Frames `raw`, which must hold 1 to [`RAW_BYTES_MAX`] bytes, in segments of 2^`shift`.
    ///
    /// # Panics
    /// If the length or the shift is out of range: both are chosen by this program, never read
    /// from outside, and a frame made in spite of it could not be read back.
    pub fn new(identity: &Identity, codec: Codec, shift: u8, raw: &'a [u8]) -> Encoded<'a> {
        assert!(SEGMENT_SHIFTS.contains(&shift), "segment shift {shift}");
        assert!(!raw.is_empty() && raw.len() <= RAW_BYTES_MAX as usize, "block of {}", raw.len());
        let segments = raw.len().div_ceil(1 << shift);
        let mut header = Vec::with_capacity(header_bytes(segments));
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&[FRAME_VERSION, codec.to_byte(), shift, 0]);
        header.extend_from_slice(&identity.volume.0);
        header.extend_from_slice(&identity.block.to_bytes());
        header.extend_from_slice(&(raw.len() as u32).to_be_bytes());
        header.extend_from_slice(&(segments as u32).to_be_bytes());
        let crc = crc32c(&header);
        header.extend_from_slice(&crc.to_be_bytes());

        let mut compressed = Vec::new();
        let mut pieces: Vec<Piece> = Vec::new();
        let mut end = 0;
        let mut doubtful = false;
        for (number, segment) in raw.chunks(1 << shift).enumerate() {
            let begin = compressed.len();
            let gained = (!doubtful || codec.would_gain(segment, &mut compressed))
                && codec.compress(segment, &mut compressed);
            doubtful = !gained;
            let stored = if gained {
                match pieces.last_mut() {
                    Some(Piece::Compressed(range)) => range.end = compressed.len(),
                    _ => pieces.push(Piece::Compressed(begin..compressed.len())),
                }
                &compressed[begin..]
            } else {
                let at = number << shift;
                match pieces.last_mut() {
                    Some(Piece::Raw(range)) => range.end = at + segment.len(),
                    _ => pieces.push(Piece::Raw(at..at + segment.len())),
                }
                segment
            };
            end += stored.len() as u32;
            let is_raw = compressed.len() == begin;
            header.extend_from_slice(&(end | if is_raw { RAW_BIT } else { 0 }).to_be_bytes());
            let crc = segment_crc(identity, number as u32, stored);
            header.extend_from_slice(&crc.to_be_bytes());
        }
        let crc = crc32c(&header);
        header.extend_from_slice(&crc.to_be_bytes());
        Encoded { header, raw, compressed, pieces }
    }

    /// The frame's pieces in order.
    pub fn parts(&self) -> Vec<&[u8]> {
        let body = self.pieces.iter().map(|piece| match piece {
            Piece::Raw(range) => &self.raw[range.clone()],
            Piece::Compressed(range) => &self.compressed[range.clone()],
        });
        std::iter::once(self.header.as_slice()).chain(body).collect()
    }

    /// Bytes of the whole frame.
    pub fn frame_len(&self) -> usize {
        self.parts().iter().map(|part| part.len()).sum()
    }
}
