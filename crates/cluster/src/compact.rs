//! The worker `compact`: shortens long lists of extent records, which make reading slow.
//!
//! A mount compacts what it writes itself; this finds what none got to, because it died, or the
//! ring changed meanwhile. As there, the list is exchanged by compare-and-set: a write that came
//! meanwhile stays on top, and who loses changes nothing. Nor does who wrote under an epoch that is
//! over: then it is left to the next time.

use crate::error::ClusterError;
use crate::gc::host_name;
use crate::job::Job;
use crate::leftovers::{Alive, remove_freed};
use crate::schedule;
use crate::subject::Subject;
use crate::workers::{self, Site, Worker};
use ringfs_base::{BlockId, InodeId};
use ringfs_meta::{
    Compacted, ExtentRecord, MetaError, SessionInfo, SliceLease, Volume, dropped_slices, normalise,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The worker's name.
pub const COMPACT: &str = "compact";
const RECORD: &str = "compact.at";
/// How often, if nothing else is wished.
const EVERY: Duration = Duration::from_secs(6 * 3600);
/// Most bytes a second, if nothing else is wished.
const BYTES_PER_SECOND_MAX: u64 = 16 << 20;
/// A chunk with so many records is compacted, as by a mount.
const RECORDS_FROM: usize = 100;
/// Chunks compacted in one run; more are found by the next, which then comes at once.
const CHUNKS_MAX: usize = 100_000;

/// What was compacted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CompactRecord {
    /// When it was first thought of, in seconds since 1970: a volume's first run is one interval
    /// later.
    pub since: u64,
    /// What [`workers::WorkerWish::asked`] was at the last run.
    pub asked: u64,
    /// Runs that came to their end.
    pub runs: u64,
    /// When the last of them did, in seconds since 1970; 0 = none did.
    pub ended: u64,
    /// Chunks whose lists it shortened.
    pub chunks: u64,
    /// Records that these had before.
    pub records_before: u64,
    /// And after.
    pub records_after: u64,
    /// Bytes that it copied into new slices.
    pub bytes: u64,
    /// Chunks that it found and left: they changed meanwhile, or could not be read.
    pub left: u64,
    /// Chunks shortened by all runs.
    pub chunks_ever: u64,
}

/// What was compacted in a volume, whoever did it.
pub fn compact_record(volume: &Volume) -> Result<CompactRecord, MetaError> {
    Ok(workers::record(&volume.workers()?, RECORD))
}

/// The worker.
#[derive(Clone, Copy, Debug, Default)]
pub struct Compactor;

impl Worker for Compactor {
    fn name(&self) -> &'static str {
        COMPACT
    }

    fn default_limit(&self) -> u64 {
        BYTES_PER_SECOND_MAX
    }

    fn run(&self, site: &Site, job: &Job) -> Result<Duration, ClusterError> {
        let volume = site.membership.volume();
        let wish = workers::wish(volume, COMPACT)?;
        let every = wish.every(EVERY);
        let mut before = compact_record(volume)?;
        if before.since == 0 {
            before.since = schedule::now();
            workers::write_record(volume, RECORD, &before)?;
        }
        let last = before.ended.max(before.since);
        if let Some(rest) =
            schedule::rest(last, every.as_secs(), wish.asked > before.asked, schedule::now())
        {
            return Ok(rest);
        }
        let subject = site.subject()?;
        let (chunks, more) = find(volume, job)?;
        let (since, runs) = (before.since, before.runs + 1);
        let mut done = CompactRecord { since, runs, asked: wish.asked, ..CompactRecord::default() };
        if !chunks.is_empty() {
            let info = SessionInfo {
                host: host_name(),
                pid: std::process::id(),
                place: COMPACT.to_owned(),
            };
            let session = volume.start_session(&info)?;
            let run = compact_all(&subject, &mut Alive::new(&session), job, &chunks, &mut done);
            let ended = session.end();
            run?;
            ended?;
        }
        done.chunks_ever = before.chunks_ever + done.chunks;
        done.ended = schedule::now();
        workers::write_record(volume, RECORD, &done)?;
        Ok(if more { Duration::ZERO } else { every })
    }
}

/// The chunks with long lists, and whether there are more of them.
fn find(volume: &Volume, job: &Job) -> Result<(Vec<(InodeId, u64)>, bool), ClusterError> {
    job.begin("reading extents", 0)?;
    let mut chunks = Vec::new();
    let mut cursor = 0;
    loop {
        let (next, found) = volume.scan_extents(cursor)?;
        let count = found.len() as u64;
        for chunk in found {
            if chunk.records.is_some_and(|records| records.len() >= RECORDS_FROM) {
                chunks.push((chunk.ino, chunk.chunk));
            }
        }
        job.advance(count)?;
        if next == 0 || chunks.len() >= CHUNKS_MAX {
            // Found twice, the second time is short already.
            return Ok((chunks, next != 0));
        }
        cursor = next;
    }
}

fn compact_all(
    subject: &Subject,
    alive: &mut Alive<'_>,
    job: &Job,
    chunks: &[(InodeId, u64)],
    done: &mut CompactRecord,
) -> Result<(), ClusterError> {
    job.begin("compacting", chunks.len() as u64)?;
    for (ino, chunk) in chunks {
        alive.beat()?;
        match compact_chunk(subject, alive, job, *ino, *chunk, done) {
            Ok(true) => {}
            Ok(false) => done.left += 1,
            // The file is gone, or blocks cannot be had now: that must not hold up the others.
            Err(error @ (ClusterError::Store(_) | ClusterError::Meta(MetaError::Posix(_)))) => {
                tracing::debug!(%ino, chunk, %error, "a chunk was not compacted");
                done.left += 1;
                job.problems(1);
            }
            Err(error) => return Err(error),
        }
        job.advance(1)?;
    }
    Ok(())
}

/// False if the chunk, or the ring, changed meanwhile.
fn compact_chunk(
    subject: &Subject,
    alive: &mut Alive<'_>,
    job: &Job,
    ino: InodeId,
    chunk: u64,
    done: &mut CompactRecord,
) -> Result<bool, ClusterError> {
    let found = alive.session.extents(ino, &[chunk])?;
    let Some(old) = found.chunks.into_iter().next() else { return Ok(true) };
    if old.len() < RECORDS_FROM {
        return Ok(true);
    }
    // As of before anything is written: if the ring changes meanwhile it is too old, never too new.
    let epoch = subject.store.epoch();
    let mut new = normalise(&old, chunk > 0);
    let mut lease = None;
    if new.len() > RECORDS_FROM / 2 {
        let bytes: u64 = new.iter().filter(|r| !r.is_hole()).map(|r| u64::from(r.len)).sum();
        new = rewrite(subject, alive, job, &new, &mut lease)?;
        done.bytes += bytes;
    }
    let outcome = alive.session.compact(ino, chunk, &old, &new, epoch).inspect_err(|_| {
        // It may have been done all the same, or still be.
        lease.iter().for_each(SliceLease::keep);
    })?;
    let Compacted::Done(dropped) = outcome else {
        remove_freed(subject, &dropped_slices(&new, &old), job)?;
        return Ok(false);
    };
    done.chunks += 1;
    done.records_before += old.len() as u64;
    done.records_after += new.len() as u64;
    remove_freed(subject, &dropped, job)?;
    Ok(true)
}

/// Copies the bytes of all records into one new slice, block by block; holes stay holes.
fn rewrite(
    subject: &Subject,
    alive: &mut Alive<'_>,
    job: &Job,
    records: &[ExtentRecord],
    lease: &mut Option<SliceLease>,
) -> Result<Vec<ExtentRecord>, ClusterError> {
    let data: u64 = records.iter().filter(|r| !r.is_hole()).map(|r| u64::from(r.len)).sum();
    let Ok(slice_len) = u32::try_from(data) else { return Ok(records.to_vec()) };
    let slice = lease.insert(alive.session.lease_slice()?).id();
    let block_bytes = subject.volume.config().block_bytes.max(1);
    let mut out: Vec<ExtentRecord> = Vec::new();
    let mut buffer: Vec<u8> = Vec::with_capacity(block_bytes as usize);
    let mut written = 0;
    for record in records {
        if record.is_hole() {
            out.push(*record);
            continue;
        }
        match out.last_mut() {
            Some(last) if last.slice == slice && last.end() == u64::from(record.pos) => {
                last.len += record.len;
            }
            _ => {
                let off = written + buffer.len() as u32;
                out.push(ExtentRecord { slice, off, slice_len, ..*record });
            }
        }
        let mut read = 0;
        while read < record.len {
            let (index, within) =
                ((record.off + read) / block_bytes, (record.off + read) % block_bytes);
            let raw_len = block_bytes.min(record.slice_len - index * block_bytes);
            let room = block_bytes - buffer.len() as u32;
            let len = (record.len - read).min(raw_len - within).min(room);
            alive.beat()?;
            job.spend(u64::from(len))?;
            let begin = buffer.len();
            buffer.resize(begin + len as usize, 0);
            let id = BlockId { slice: record.slice, index };
            subject.store.read(id, raw_len, within, &mut buffer[begin..])?;
            read += len;
            if buffer.len() == block_bytes as usize {
                let id = BlockId { slice, index: written / block_bytes };
                subject.store.write(&[(id, &buffer)])?;
                written += block_bytes;
                buffer.clear();
            }
        }
    }
    if !buffer.is_empty() {
        let id = BlockId { slice, index: written / block_bytes };
        subject.store.write(&[(id, &buffer)])?;
    }
    Ok(out)
}
