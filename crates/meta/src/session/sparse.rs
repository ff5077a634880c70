//! Ranges without data: making them, and finding the ends of those with data.

use super::Session;
use crate::error::MetaError;
use crate::extents::dropped_slices;
use crate::reply::Reader;
use crate::scripts;
use crate::shard::done;
use crate::types::{NextChunks, Writer, Zeroed};
use ringfs_base::limits::FILE_BYTES_MAX;
use ringfs_base::{Errno, InodeId, Timestamp};
use std::ops::Range;

impl Session {
    /// Makes a range of a file read as zeros and gives back what it held; with `grow` the file
    /// reaches to its end at least. EISDIR, EINVAL for what is no file, EFBIG. One round trip for
    /// each 256 chunks that have data.
    pub fn zero(
        &self,
        ino: InodeId,
        range: Range<u64>,
        grow: bool,
        writer: Writer,
        now: Timestamp,
    ) -> Result<Zeroed, MetaError> {
        if range.end > FILE_BYTES_MAX {
            return Err(Errno::EFBIG.into());
        }
        let lanes = &self.of(ino)?.lanes;
        let (mut from, mut freed, mut first) = (range.start, Vec::new(), None);
        let (mut records, mut hidden) = (0, false);
        loop {
            let request = [
                &ino.to_bytes()[..],
                &[u8::from(grow)
                    | u8::from(writer.privileged) << 1
                    | u8::from(writer.kill_suid) << 2],
                &from.to_be_bytes(),
                &range.end.to_be_bytes(),
                &now.0.to_be_bytes(),
            ]
            .concat();
            let rest = done(lanes.mutate(&scripts::ZERO, &[&request])?)?;
            let mut reply = Reader::new("zero", rest);
            let resume = reply.u64()?;
            records = records.max(reply.u32()?);
            hidden |= reply.u8()? == 1;
            let attr = reply.sized_attr(ino)?;
            let before = Timestamp(reply.u64()? as i64);
            let previous = *first.get_or_insert(before);
            freed.extend(reply.last_records()?);
            if resume == 0 {
                let freed = dropped_slices(&freed, &[]);
                return Ok(Zeroed { attr, previous, freed, records, hidden });
            }
            // Bounded: each round goes on behind the one before.
            if resume <= from {
                return Err(Errno::EPROTO.into());
            }
            from = resume;
        }
    }

    /// The next chunks of a file that have records, from `first` on; some 64 of them.
    pub fn next_chunks(&self, ino: InodeId, first: u64) -> Result<NextChunks, MetaError> {
        let (id, first) = (ino.to_bytes(), first.to_string());
        let rest = self.of(ino)?.shard.ask(&scripts::CHUNKS, &[&id, first.as_bytes()])?;
        let mut reply = Reader::new("chunks", rest);
        let attr = reply.sized_attr(ino)?;
        let inline_len = reply.u32()?;
        let known_to = reply.u64()?;
        let mut chunks = Vec::new();
        while !reply.is_empty() {
            let (chunk, length) = (reply.u64()?, reply.u32()?);
            chunks.push((chunk, reply.records(length as usize)?));
        }
        Ok(NextChunks { attr, inline_len, chunks, known_to })
    }
}
