//! Operations on attributes and data: getattr, setattr, open, extents, commit, compact.

use super::Session;
use crate::attr::{ATTR_BYTES, Attr};
use crate::error::MetaError;
use crate::extents::{ExtentRecord, dropped_slices};
use crate::lane::{Failed, Undecided};
use crate::reply::Reader;
use crate::scripts;
use crate::shard::done;
use crate::types::{
    Changed, ChunkExtents, Commit, CommitData, CommitRequest, Committed, Compacted, Known,
    OpenData, Opened, SetAttr,
};
use bytes::Bytes;
use ringfs_base::limits::{CHUNK_BYTES, FILE_BYTES_MAX};
use ringfs_base::{Epoch, Errno, InodeId, Timestamp};

/// Most chunks asked for in one call.
const CHUNKS_MAX: usize = 256;

/// First bytes of commit's replies that say that nothing was done.
const NEED_SLICE: u8 = 249;
const STRADDLES: u8 = 248;
const STALE_EPOCH: u8 = 247;

impl Session {
    /// Attributes; ESTALE if there is no such inode.
    pub fn getattr(&self, ino: InodeId) -> Result<Attr, MetaError> {
        self.volume.getattr(ino)
    }

    /// Changes attributes; a truncation that drops many chunks takes several round trips.
    pub fn setattr(
        &self,
        ino: InodeId,
        change: &SetAttr,
        now: Timestamp,
    ) -> Result<Changed, MetaError> {
        if change.size.is_some_and(|size| size > FILE_BYTES_MAX) {
            return Err(Errno::EFBIG.into());
        }
        let mask = [
            change.perm.is_some(),
            change.uid.is_some(),
            change.gid.is_some(),
            change.size.is_some(),
            change.atime.is_some(),
            change.mtime.is_some(),
            change.privileged,
        ]
        .iter()
        .enumerate()
        .fold(0, |mask, (bit, set)| mask | u8::from(*set) << bit);
        let time = |time: Option<Timestamp>| time.unwrap_or_default().0.to_be_bytes();
        let request = [
            &ino.to_bytes()[..],
            &[mask],
            &(change.perm.unwrap_or(0) & 0o7777).to_be_bytes(),
            &change.uid.unwrap_or(0).to_be_bytes(),
            &change.gid.unwrap_or(0).to_be_bytes(),
            &change.size.unwrap_or(0).to_be_bytes(),
            &time(change.atime),
            &time(change.mtime),
            &now.0.to_be_bytes(),
        ]
        .concat();
        let lanes = &self.of(ino)?.lanes;
        let mut freed = Vec::new();
        let mut first = None;
        loop {
            let mut reply =
                Reader::new("setattr", done(lanes.mutate(&scripts::SETATTR, &[&request])?)?);
            let more = reply.u8()? == 1;
            let attr = reply.sized_attr(ino)?;
            let before = Timestamp(reply.u64()? as i64);
            let previous = *first.get_or_insert(before);
            freed.extend(reply.last_records()?);
            // Bounded: each round drops at least one chunk.
            if !more {
                return Ok(Changed { attr, previous, freed: dropped_slices(&freed, &[]) });
            }
        }
    }

    /// Attributes of a file and its data, or where they are. ESTALE if it is an orphan that this
    /// session does not hold. A compaction moves data without a change of `ctime`: whoever misses
    /// a block after `Unchanged` asks again without `known`.
    pub fn open(&self, ino: InodeId, known: Option<Known>) -> Result<Opened, MetaError> {
        let mut request = [ino.to_bytes(), self.id.to_bytes()].concat();
        if let Some(known) = known {
            request.extend_from_slice(&known.ctime.0.to_be_bytes());
            request.extend_from_slice(&known.size.to_be_bytes());
        }
        let rest = self.of(ino)?.shard.ask(&scripts::OPEN, &[&request])?;
        let mut reply = Reader::new("open", rest);
        let attr = reply.sized_attr(ino)?;
        if reply.u8()? == b'U' {
            return Ok(Opened { attr, data: OpenData::Unchanged });
        }
        let length = reply.u32()?;
        let inline = reply.take(length as usize)?;
        let chunks_known = match reply.u32()? {
            u32::MAX => u64::MAX,
            known => u64::from(known),
        };
        if !attr.flags.has(crate::AttrFlags::EXTENTS) {
            return Ok(Opened { attr, data: OpenData::Inline(inline) });
        }
        let mut chunks = Vec::new();
        while !reply.is_empty() {
            let (chunk, length) = (u64::from(reply.u32()?), reply.u32()?);
            chunks.push((chunk, reply.records(length as usize)?));
        }
        Ok(Opened { attr, data: OpenData::Extents { inline, chunks, chunks_known } })
    }

    /// Records of some chunks (at most 256).
    pub fn extents(&self, ino: InodeId, chunks: &[u64]) -> Result<ChunkExtents, MetaError> {
        if chunks.len() > CHUNKS_MAX {
            return Err(Errno::EINVAL.into());
        }
        let mut args = vec![ino.to_bytes().to_vec()];
        args.extend(chunks.iter().map(|chunk| chunk.to_string().into_bytes()));
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let mut reply = Reader::new("extents", self.of(ino)?.shard.ask(&scripts::EXTENTS, &args)?);
        let attr = reply.sized_attr(ino)?;
        let mut lists = Vec::with_capacity(chunks.len());
        for _ in chunks {
            let length = reply.u32()?;
            lists.push(reply.records(length as usize)?);
        }
        Ok(ChunkExtents { attr, chunks: lists })
    }

    /// Makes written data part of a file.
    pub fn commit(&self, ino: InodeId, request: &CommitRequest<'_>) -> Result<Commit, MetaError> {
        self.commit_surely(ino, request).map_err(|failed| failed.error)
    }

    /// The same; when the outcome stays unknown, the failure holds what
    /// [`Self::commit_again`] takes.
    pub fn commit_surely(
        &self,
        ino: InodeId,
        request: &CommitRequest<'_>,
    ) -> Result<Commit, CommitFailed> {
        let inline_max = self.volume.config().inline_max;
        // Owns what the arguments below point to.
        let mut own: Vec<Vec<u8>> = Vec::new();
        let kind = match &request.data {
            CommitData::Inline(patches) => {
                for (off, data) in *patches {
                    check_end(off.checked_add(data.len() as u64))?;
                    own.push(off.to_be_bytes().to_vec());
                }
                0
            }
            CommitData::Extents(chunks) => {
                for (chunk, records) in *chunks {
                    for record in *records {
                        if record.end() > CHUNK_BYTES {
                            return Err(Errno::EINVAL.into());
                        }
                        let begin = chunk.checked_mul(CHUNK_BYTES);
                        check_end(begin.and_then(|begin| begin.checked_add(record.end())))?;
                    }
                    own.push(chunk.to_string().into_bytes());
                    own.push(ExtentRecord::pack_all(records));
                }
                1
            }
            CommitData::AppendInline(_) => 2,
            CommitData::AppendExtents(records) => {
                own.push(ExtentRecord::pack_all(records));
                3
            }
        };
        let head = [
            &ino.to_bytes()[..],
            &[kind, u8::from(request.kill_suid) | u8::from(request.privileged) << 1],
            &request.epoch.to_bytes(),
            &request.mtime.0.to_be_bytes(),
            &inline_max.to_be_bytes(),
        ]
        .concat();
        let mut args: Vec<&[u8]> = vec![&head];
        match &request.data {
            CommitData::Inline(patches) => {
                for ((_, data), off) in patches.iter().zip(&own) {
                    args.push(off);
                    args.push(data);
                }
            }
            CommitData::AppendInline(data) => args.push(data),
            CommitData::Extents(_) | CommitData::AppendExtents(_) => {
                args.extend(own.iter().map(Vec::as_slice));
            }
        }
        match self.of(ino).map(|of| of.lanes.run(&scripts::COMMIT, &args)) {
            Ok(Ok(reply)) => Ok(self.committed(ino, reply)?),
            Ok(Err(failed)) => Err(undecided(ino, failed)),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends a commit again whose outcome is unknown: it takes effect once however often.
    pub fn commit_again(&self, commit: UndecidedCommit) -> Result<Commit, CommitFailed> {
        let UndecidedCommit { ino, request } = commit;
        match self.of(ino).map(|of| of.lanes.repeat(*request)) {
            Ok(Ok(reply)) => Ok(self.committed(ino, reply)?),
            Ok(Err(failed)) => Err(undecided(ino, failed)),
            Err(error) => Err(error.into()),
        }
    }

    fn committed(&self, ino: InodeId, (code, rest): (u8, Bytes)) -> Result<Commit, MetaError> {
        let mut reply = match code {
            NEED_SLICE | STRADDLES | STALE_EPOCH => Reader::new("commit", rest),
            code => Reader::new("commit", done((code, rest))?),
        };
        Ok(match code {
            NEED_SLICE => Commit::NeedSlice(reply.last_attr(ino)?),
            STRADDLES => Commit::Straddles(reply.last_attr(ino)?),
            STALE_EPOCH => {
                let epoch = Epoch(reply.u64()?);
                self.heard_of_epoch(epoch);
                Commit::StaleEpoch(epoch)
            }
            _ => {
                let attr = reply.attr(ino, ATTR_BYTES)?;
                let placed_at = reply.u64()?;
                let records = reply.u32()?;
                let epoch = Epoch(reply.u64()?);
                self.heard_of_epoch(epoch);
                let previous = Timestamp(reply.u64()? as i64);
                Commit::Done(Committed { attr, previous, placed_at, records, epoch })
            }
        })
    }

    /// Puts `new`, whose blocks were written under `epoch`, in the place of the records that `old`
    /// lists, which must be the oldest of the chunk; newer ones stay above.
    pub fn compact(
        &self,
        ino: InodeId,
        chunk: u64,
        old: &[ExtentRecord],
        new: &[ExtentRecord],
        epoch: Epoch,
    ) -> Result<Compacted, MetaError> {
        let (head, chunk) = ([ino.to_bytes(), epoch.to_bytes()].concat(), chunk.to_string());
        let (before, after) = (ExtentRecord::pack_all(old), ExtentRecord::pack_all(new));
        let args: [&[u8]; 4] = [&head, chunk.as_bytes(), &before, &after];
        let (code, rest) = self.of(ino)?.lanes.mutate(&scripts::COMPACT, &args)?;
        if code == STALE_EPOCH {
            let epoch = Epoch(Reader::new("compact", rest).u64()?);
            self.heard_of_epoch(epoch);
            return Ok(Compacted::StaleEpoch(epoch));
        }
        let mut reply = Reader::new("compact", done((code, rest))?);
        Ok(match reply.u8()? {
            0 => Compacted::Changed,
            // Only the server knows who else shows them.
            2 => Compacted::Done(reply.last_records()?),
            _ => Compacted::Done(dropped_slices(old, new)),
        })
    }
}

/// A commit whose outcome is unknown. Dropped, it stays so for ever.
#[derive(Debug)]
pub struct UndecidedCommit {
    ino: InodeId,
    request: Box<Undecided>,
}

/// A commit that failed.
#[derive(Debug)]
pub struct CommitFailed {
    /// Why.
    pub error: MetaError,
    /// What [`Session::commit_again`] takes, if the commit may have taken effect or still may.
    pub undecided: Option<UndecidedCommit>,
}

impl<E: Into<MetaError>> From<E> for CommitFailed {
    fn from(error: E) -> CommitFailed {
        CommitFailed { error: error.into(), undecided: None }
    }
}

fn undecided(ino: InodeId, failed: Failed) -> CommitFailed {
    let undecided = failed.undecided.map(|request| UndecidedCommit { ino, request });
    CommitFailed { error: failed.error, undecided }
}

fn check_end(end: Option<u64>) -> Result<(), MetaError> {
    match end {
        Some(end) if end <= FILE_BYTES_MAX => Ok(()),
        _ => Err(Errno::EFBIG.into()),
    }
}
