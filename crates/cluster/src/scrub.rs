//! The worker `scrub`: reads every copy of every block whole, and rebuilds what is bad or missing.
//!
//! It goes through the blocks in passes, in the order of their numbers. A pass begins every half
//! period, the first half a period after the volume was first looked at, and is paced to be over within
//! that time: so no copy stays unread for longer than the period. How far it is stands in the metadata server, for whoever goes on.
//!
//! While blocks are being moved to new owners, what is missing is left to the mover, which is about
//! to put it there. What has no good copy anywhere is noted with its file.

mod pace;

use crate::error::ClusterError;
use crate::job::Job;
use crate::schedule;
use crate::workers::{self, Site, Worker};
use pace::Pace;
use ringfs_base::{BlockId, InodeId, SliceId};
use ringfs_meta::{MetaError, Volume};
use ringfs_store::{CopyState, Depth, Scope, Store, StoreError, Surplus};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

/// The worker's name.
pub const SCRUB: &str = "scrub";
/// Where its record is, beside its status.
const RECORD: &str = "scrub.at";
/// Every copy is read within this time, if nothing else is wished.
const PERIOD: Duration = Duration::from_secs(7 * 24 * 3600);
/// Most bytes a second, if nothing else is wished.
const BYTES_PER_SECOND_MAX: u64 = 32 << 20;
/// Bytes of copies that are read together: little enough that a reader who comes just then does not
/// notice.
const BATCH_BYTES: u64 = 4 << 20;
/// Blocks that are read together.
const BATCH_BLOCKS: usize = 256;
/// How often the record is written, and wishes are read.
const RECORD_EVERY: Duration = Duration::from_secs(5);

/// What a pass found and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScrubCounts {
    /// Blocks looked at.
    pub blocks: u64,
    /// Copies read whole.
    pub copies: u64,
    /// Bytes of blocks in these.
    pub bytes: u64,
    /// Copies that were bad.
    pub bad: u64,
    /// Copies that were missing.
    pub missing: u64,
    /// Copies written anew.
    pub rebuilt: u64,
    /// Blocks of which no good copy is left.
    pub lost: u64,
    /// Copies on nodes that could not be reached: unread until the next pass.
    pub unreached: u64,
}

/// How far the scrub is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScrubRecord {
    /// When it was first thought of, in seconds since 1970.
    pub since: u64,
    /// What [`workers::WorkerWish::asked`] was at the end of the last pass.
    pub asked: u64,
    /// When the pass under way, or the last one, began, in seconds since 1970; 0 = there was none.
    pub began: u64,
    /// A pass is under way.
    pub under_way: bool,
    /// The first slice that it has not done.
    pub next_slice: u64,
    /// What it found so far.
    pub now: ScrubCounts,
    /// Passes that came to their end.
    pub passes: u64,
    /// When the last of them did; 0 = none did.
    pub ended: u64,
    /// What it found.
    pub last: ScrubCounts,
}

/// How far the scrub of a volume is, whoever does it.
pub fn scrub_record(volume: &Volume) -> Result<ScrubRecord, MetaError> {
    Ok(workers::record(&volume.workers()?, RECORD))
}

/// The worker.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scrub;

impl Worker for Scrub {
    fn name(&self) -> &'static str {
        SCRUB
    }

    fn default_limit(&self) -> u64 {
        BYTES_PER_SECOND_MAX
    }

    fn run(&self, site: &Site, job: &Job) -> Result<Duration, ClusterError> {
        let volume = site.membership.volume();
        let wish = workers::wish(volume, SCRUB)?;
        let every = wish.every(PERIOD).as_secs() / 2;
        let mut record = scrub_record(volume)?;
        if record.since == 0 {
            record.since = schedule::now();
            workers::write_record(volume, RECORD, &record)?;
        }
        if !record.under_way {
            let last = record.began.max(record.since);
            let asked = wish.asked > record.asked;
            if let Some(rest) = schedule::rest(last, every, asked, schedule::now()) {
                return Ok(rest);
            }
            record = ScrubRecord {
                began: schedule::now(),
                under_way: true,
                next_slice: 0,
                now: ScrubCounts::default(),
                ..record
            };
        }
        let store = site.membership.store();
        let mut pass = Pass { site, job, store, record, asked: wish.asked };
        let outcome = pass.run();
        // Also when it was stopped: whoever goes on shall not begin again.
        pass.write()?;
        outcome?;
        let record = pass.record;
        let rest = schedule::rest(record.began, every, false, schedule::now());
        Ok(rest.unwrap_or(Duration::ZERO))
    }
}

/// A slice with one of the files that show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Slice {
    id: SliceId,
    len: u32,
    ino: InodeId,
}

/// A block to read.
#[derive(Clone, Copy, Debug)]
struct Target {
    id: BlockId,
    len: u32,
    ino: InodeId,
}

/// One pass, or what is left of it.
struct Pass<'a> {
    site: &'a Site,
    job: &'a Job,
    store: &'a Store,
    record: ScrubRecord,
    /// How often somebody has asked for a pass.
    asked: u64,
}

impl Pass<'_> {
    fn run(&mut self) -> Result<(), ClusterError> {
        let volume = self.site.membership.volume().clone();
        let block_bytes = volume.config().block_bytes.max(1);
        let slices = read_slices(&volume, self.job)?;
        let first = slices.partition_point(|slice| slice.id.0 < self.record.next_slice);
        let blocks = |slices: &[Slice]| -> u64 {
            slices.iter().map(|slice| u64::from(slice.len.div_ceil(block_bytes))).sum()
        };
        self.job.begin("reading every copy", blocks(&slices))?;
        self.job.advance(blocks(&slices[..first]))?;
        let copies = u64::from(volume.config().replicas.max(1));
        let mut left: u64 = slices[first..].iter().map(|slice| u64::from(slice.len) * copies).sum();
        let mut written = Instant::now();
        let mut pace = self.pace(&volume)?;
        let mut batch: Vec<Target> = Vec::new();
        let mut bytes = 0;
        for slice in &slices[first..] {
            for index in 0..slice.len.div_ceil(block_bytes) {
                let len = block_bytes.min(slice.len - index * block_bytes);
                let id = BlockId { slice: slice.id, index };
                batch.push(Target { id, len, ino: slice.ino });
                bytes += u64::from(len) * copies;
                if bytes < BATCH_BYTES && batch.len() < BATCH_BLOCKS {
                    continue;
                }
                self.read(&volume, &batch, bytes, left, pace)?;
                left = left.saturating_sub(bytes);
                batch.clear();
                bytes = 0;
                if written.elapsed() >= RECORD_EVERY {
                    written = Instant::now();
                    self.write()?;
                    pace = self.pace(&volume)?;
                }
            }
        }
        self.read(&volume, &batch, bytes, left, pace)?;
        self.record = ScrubRecord {
            asked: self.asked,
            under_way: false,
            next_slice: 0,
            passes: self.record.passes + 1,
            ended: schedule::now(),
            last: self.record.now,
            now: ScrubCounts::default(),
            ..self.record
        };
        Ok(())
    }

    /// The pace that is wanted now.
    fn pace(&mut self, volume: &Volume) -> Result<Pace, ClusterError> {
        let wish = workers::wish(volume, SCRUB)?;
        let half = wish.every(PERIOD).as_secs() / 2;
        self.asked = wish.asked;
        // Who asks for it wants it done soon.
        let soon = self.asked > self.record.asked;
        Ok(Pace { until: if soon { None } else { Some(self.record.began + half) } })
    }

    fn read(
        &mut self,
        volume: &Volume,
        batch: &[Target],
        bytes: u64,
        left: u64,
        pace: Pace,
    ) -> Result<(), ClusterError> {
        self.job.spend(bytes)?;
        let begun = Instant::now();
        self.look(volume, batch)?;
        if let Some(last) = batch.last() {
            // Of this slice perhaps only a part is done.
            self.record.next_slice = last.id.slice.0;
        }
        self.job.advance(batch.len() as u64)?;
        self.job.rest(pace.rest(bytes, left, schedule::now(), begun.elapsed()))
    }

    /// Reads the copies of some blocks, and rebuilds what is not good.
    fn look(&mut self, volume: &Volume, batch: &[Target]) -> Result<(), ClusterError> {
        let ids: Vec<BlockId> = batch.iter().map(|target| target.id).collect();
        let found = self.store.check_many(&ids, Depth::Contents, Scope::Owners);
        let moving = self.site.membership.ring().state.moving.is_some();
        let mut shown: HashMap<InodeId, Vec<SliceId>> = HashMap::new();
        for (target, copies) in batch.iter().zip(found) {
            let count = |wanted: fn(&CopyState) -> bool| {
                copies.iter().filter(|copy| wanted(&copy.state)).count() as u64
            };
            let good = count(|state| matches!(state, CopyState::Good));
            let bad = count(|state| matches!(state, CopyState::Bad(_)));
            let missing = count(|state| matches!(state, CopyState::Missing));
            let now = &mut self.record.now;
            now.blocks += 1;
            now.copies += good + bad;
            now.bytes += (good + bad) * u64::from(target.len);
            now.unreached += copies.len() as u64 - good - bad - missing;
            if bad == 0 && (missing == 0 || moving && good > 0) {
                continue;
            }
            // The file may be gone since its extents were read.
            if good == 0 && !is_shown(volume, target, &mut shown)? {
                continue;
            }
            let now = &mut self.record.now;
            now.bad += bad;
            now.missing += missing;
            match self.store.repair(target.id, Surplus::Keep) {
                Ok(repaired) => now.rebuilt += repaired.written as u64,
                // A node that is down may have it: no reason to despair, nor to note anything yet.
                Err(StoreError::Unavailable { .. }) => {}
                Err(error) => {
                    now.lost += 1;
                    tracing::warn!(ino = %target.ino, %error, "a block is lost");
                    volume.note_lost(target.ino, &error.to_string())?;
                }
            }
            self.job.problems(1);
        }
        Ok(())
    }

    fn write(&self) -> Result<(), ClusterError> {
        Ok(workers::write_record(self.site.membership.volume(), RECORD, &self.record)?)
    }
}

/// All slices of a volume, each once, in order.
fn read_slices(volume: &Volume, job: &Job) -> Result<Vec<Slice>, ClusterError> {
    job.begin("reading extents", 0)?;
    let mut slices: Vec<Slice> = Vec::new();
    let mut cursor = 0;
    loop {
        let (next, found) = volume.scan_extents(cursor)?;
        let count = found.len() as u64;
        for chunk in found {
            // Extents that cannot be read are for fsck to tell; the others are read all the same.
            for record in chunk.records.unwrap_or_default().iter().filter(|r| !r.is_hole()) {
                slices.push(Slice { id: record.slice, len: record.slice_len, ino: chunk.ino });
            }
        }
        job.advance(count)?;
        if next == 0 {
            break;
        }
        cursor = next;
    }
    slices.sort_unstable();
    slices.dedup_by_key(|slice| slice.id);
    Ok(slices)
}

/// Whether the file still shows the slice. What it shows is remembered in `shown`.
fn is_shown(
    volume: &Volume,
    target: &Target,
    shown: &mut HashMap<InodeId, Vec<SliceId>>,
) -> Result<bool, ClusterError> {
    let slices = match shown.entry(target.ino) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(place) => {
            let chunks = volume.chunks_of(target.ino)?;
            let mut slices: Vec<SliceId> =
                chunks.iter().flat_map(|(_, records)| records).map(|record| record.slice).collect();
            slices.sort_unstable();
            slices.dedup();
            place.insert(slices)
        }
    };
    Ok(slices.binary_search(&target.id.slice).is_ok())
}
