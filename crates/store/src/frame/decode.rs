//! Verifying and unpacking segments: a total function of bytes from outside.

use super::{Damage, Header, segment_crc};
use std::cell::RefCell;
use std::ops::Range;

impl Header {
    /// Unpacks the raw bytes from `offset` on into all of `out`. `stored` holds the stored bytes of
    /// exactly the segments that the range touches. Every one of them is verified first.
    ///
    /// `out` may have been partly written when this fails.
    pub fn unpack(&self, stored: &[u8], offset: u32, out: &mut [u8]) -> Result<(), Damage> {
        let end = u32::try_from(out.len()).ok().and_then(|length| offset.checked_add(length));
        let range = match end {
            Some(end) if end <= self.raw_len => offset..end,
            _ => return Err(Damage::Nonsense("a range beyond the block")),
        };
        if range.is_empty() {
            return Ok(());
        }
        self.each_segment(stored, self.segments_of(&range), |number, stored| {
            self.unpack_segment(number, stored, &range, out)
        })
    }

    /// Verifies all of `frame`, which this header was read from: length, checksums and that each
    /// segment can be decompressed.
    pub fn verify(&self, frame: &[u8]) -> Result<(), Damage> {
        let body = frame.get(self.header_len()..).unwrap_or_default();
        self.each_segment(body, 0..self.index.len(), |number, stored| {
            let segment = &self.index[number];
            if segment_crc(&self.identity, number as u32, stored) != segment.crc {
                return Err(Damage::SegmentCrc(number as u32));
            }
            if segment.raw {
                return Ok(());
            }
            with_scratch(self.raw_range(number).len(), |scratch| {
                self.decompress(number, stored, scratch)
            })
        })
    }

    fn each_segment(
        &self,
        stored: &[u8],
        numbers: Range<usize>,
        mut visit: impl FnMut(usize, &[u8]) -> Result<(), Damage>,
    ) -> Result<(), Damage> {
        let Some((first, last)) = self
            .index
            .get(numbers.clone())
            .and_then(|index| Some((index.first()?.begin as usize, index.last()?.end as usize)))
        else {
            return Ok(());
        };
        let want = last - first;
        if stored.len() < want {
            return Err(Damage::Short { have: stored.len(), want });
        }
        if stored.len() > want {
            return Err(Damage::Long(stored.len() - want));
        }
        for number in numbers {
            let segment = &self.index[number];
            visit(number, &stored[segment.begin as usize - first..segment.end as usize - first])?;
        }
        Ok(())
    }

    fn unpack_segment(
        &self,
        number: usize,
        stored: &[u8],
        range: &Range<u32>,
        out: &mut [u8],
    ) -> Result<(), Damage> {
        let segment = &self.index[number];
        if segment_crc(&self.identity, number as u32, stored) != segment.crc {
            return Err(Damage::SegmentCrc(number as u32));
        }
        let raw = self.raw_range(number);
        let wanted = raw.start.max(range.start)..raw.end.min(range.end);
        let to = (wanted.start - range.start) as usize..(wanted.end - range.start) as usize;
        let from = (wanted.start - raw.start) as usize..(wanted.end - raw.start) as usize;
        let out = &mut out[to];
        if segment.raw {
            out.copy_from_slice(&stored[from]);
            Ok(())
        } else if wanted == raw {
            self.decompress(number, stored, out)
        } else {
            with_scratch(raw.len(), |scratch| {
                self.decompress(number, stored, scratch)?;
                out.copy_from_slice(&scratch[from]);
                Ok(())
            })
        }
    }

    fn decompress(&self, number: usize, stored: &[u8], out: &mut [u8]) -> Result<(), Damage> {
        if self.codec.decompress(stored, out) { Ok(()) } else { Err(Damage::Codec(number as u32)) }
    }
}

thread_local! {
    // At most one segment (1 MiB by the format, 32 KiB as written) per thread.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn with_scratch<T>(bytes: usize, work: impl FnOnce(&mut [u8]) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.len() < bytes {
            scratch.resize(bytes, 0);
        }
        work(&mut scratch[..bytes])
    })
}
