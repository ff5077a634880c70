//! Verifying and unpacking segments: a total function of bytes from outside.

use super::{Damage, Header, segment_crc};
use bytes::Bytes;
use std::cell::RefCell;
use std::ops::Range;

/// Where unpacked bytes go.
pub enum Out<'a> {
    /// Into these, all of them.
    Into(&'a mut [u8]),
    /// Into a buffer of their own: the received one, if they are stored raw.
    Own(&'a mut Bytes, usize),
}

impl Header {
    /// [`Self::unpack`] into either kind of destination.
    pub fn unpack_into(
        &self,
        stored: &Bytes,
        offset: u32,
        out: &mut Out<'_>,
    ) -> Result<(), Damage> {
        match out {
            Out::Into(out) => self.unpack(stored, offset, out),
            Out::Own(out, len) => {
                let end = u32::try_from(*len).ok().and_then(|len| offset.checked_add(len));
                let end = end.filter(|end| *end <= self.raw_len);
                let range = offset..end.ok_or(Damage::Nonsense("a range beyond the block"))?;
                **out = match self.raw_run(stored, &range)? {
                    Some(bytes) => bytes,
                    None => {
                        let mut unpacked = vec![0; *len];
                        self.unpack(stored, offset, &mut unpacked)?;
                        Bytes::from(unpacked)
                    }
                };
                Ok(())
            }
        }
    }

    /// The bytes of `range` as a part of `stored`, verified, if all its segments are stored raw:
    /// then they lie there one after the other.
    fn raw_run(&self, stored: &Bytes, range: &Range<u32>) -> Result<Option<Bytes>, Damage> {
        if range.is_empty() {
            return Ok(Some(Bytes::new()));
        }
        let numbers = self.segments_of(range);
        if !self.index[numbers.clone()].iter().all(|segment| segment.raw) {
            return Ok(None);
        }
        let first = self.raw_range(numbers.start).start;
        self.each_segment(stored, numbers, |number, stored| self.check(number, stored))?;
        Ok(Some(stored.slice((range.start - first) as usize..(range.end - first) as usize)))
    }

    fn check(&self, number: usize, stored: &[u8]) -> Result<(), Damage> {
        if segment_crc(&self.identity, number as u32, stored) == self.index[number].crc {
            Ok(())
        } else {
            Err(Damage::SegmentCrc(number as u32))
        }
    }

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
            self.check(number, stored)?;
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
        self.check(number, stored)?;
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
