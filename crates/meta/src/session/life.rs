//! Staying registered, orphans, and leaving.
//!
//! An orphan may be removed when every session has said that it does not have it open. Each
//! heartbeat brings the orphans that are new; the next one says which of them are open here
//! (these are held) and acknowledges the rest.

use super::Session;
use crate::error::MetaError;
use crate::extents::dropped_slices;
use crate::reply::Reader;
use crate::scripts;
use crate::shard::done;
use crate::types::{Beat, Pulse, Purge};
use ringfs_base::{Epoch, Errno, InodeId};
use std::sync::atomic::Ordering;

/// What the next heartbeat has to say.
pub struct Beats {
    number: u64,
    /// The last orphan that the replies so far have brought.
    acknowledged: u64,
}

impl Beats {
    pub fn new(acknowledged: u64) -> Beats {
        Beats { number: 0, acknowledged }
    }
}

impl Session {
    /// Sign of life, every few seconds.
    pub fn heartbeat(&self, beat: &Beat<'_>) -> Result<Pulse, MetaError> {
        let mut beats = self.beats.lock();
        let oldest = beat.oldest_slice.map_or(0, |slice| InodeId(slice.0).local());
        let mut request = [
            self.id.to_bytes(),
            (beats.number + 1).to_be_bytes(),
            oldest.to_be_bytes(),
            beat.epoch.to_bytes(),
            beats.acknowledged.to_be_bytes(),
        ]
        .concat();
        for ino in beat.holds {
            request.extend_from_slice(&ino.to_bytes());
        }
        let shard = &self.of(InodeId::ROOT)?.shard;
        let mut reply = Reader::new("heartbeat", shard.ask(&scripts::HEARTBEAT, &[&request])?);
        let sessions = reply.u32()?;
        let epoch = Epoch(reply.u64()?);
        let acknowledged = reply.u64()?;
        let mut orphans = Vec::new();
        while !reply.is_empty() {
            orphans.push(reply.ino()?);
        }
        beats.number += 1;
        beats.acknowledged = acknowledged;
        self.sessions.store(sessions, Ordering::Release);
        self.heard_of_epoch(epoch);
        Ok(Pulse { epoch, sessions, orphans })
    }

    /// This mount has closed an orphan that it held. True: it can be [`Self::purge`]d now.
    pub fn release_hold(&self, ino: InodeId) -> Result<bool, MetaError> {
        let request = [self.id.to_bytes(), ino.to_bytes()].concat();
        let rest = self.of(ino)?.shard.ask(&scripts::RELEASE, &[&request])?;
        Ok(Reader::new("release", rest).u8()? == 1)
    }

    /// Removes an orphan that nobody has open; the caller says by calling that this mount has it
    /// not open. One round trip for each 256 chunks.
    pub fn purge(&self, ino: InodeId) -> Result<Purge, MetaError> {
        let lanes = &self.of(ino)?.lanes;
        let mut freed = Vec::new();
        loop {
            let rest = done(lanes.mutate(&scripts::PURGE, &[&ino.to_bytes()])?)?;
            let mut reply = Reader::new("purge", rest);
            let state = reply.u8()?;
            freed.extend(reply.last_records()?);
            match state {
                0 => return Ok(Purge::Done(dropped_slices(&freed, &[]))),
                1 => return Ok(Purge::Held),
                2 => return Ok(Purge::Gone),
                // More to do. Bounded: each round drops at least one chunk.
                3 => {}
                4 => return Ok(Purge::Populated),
                _ => return Err(Errno::EPROTO.into()),
            }
        }
    }

    /// Orphans that every session has acknowledged and nobody holds, at most `max`: for a
    /// background worker.
    pub fn purgeable(&self, max: u32) -> Result<Vec<InodeId>, MetaError> {
        let mut found = Vec::new();
        for of in &self.shards {
            let max = max.to_string();
            let rest = of.shard.ask(&scripts::PURGEABLE, &[max.as_bytes()])?;
            let mut reply = Reader::new("purgeable", rest);
            while !reply.is_empty() {
                found.push(reply.ino()?);
            }
        }
        found.truncate(max as usize);
        Ok(found)
    }

    /// Leaves: holds are dropped, later mutations are [`MetaError::Fenced`].
    pub fn end(&self) -> Result<(), MetaError> {
        for of in &self.shards {
            of.shard.ask(&scripts::SESSION_END, &[&self.id.to_bytes()])?;
        }
        Ok(())
    }
}
