//! Inode numbers, handed out from ranges that one call reserves.

use super::Session;
use crate::error::MetaError;
use crate::reply::Reader;
use crate::scripts::ALLOC;
use crate::shard::Shard;
use parking_lot::Mutex;
use ringfs_base::{InodeId, SessionId};
use std::ops::Range;

/// Size of the first range; each next one is twice as large.
pub(super) const RANGE_AT_FIRST: u32 = 1024;
/// A session that ends wastes at most this many numbers of each kind.
pub(super) const RANGE_AT_MOST: u32 = 16_384;
/// Numbers kept for reuse after a create that made nothing.
const SPARE_MAX: usize = 1024;

struct Numbers {
    left: Range<u64>,
    size: u32,
    spare: Vec<u64>,
}

impl Default for Numbers {
    fn default() -> Numbers {
        Numbers { left: 0..0, size: RANGE_AT_FIRST, spare: Vec::new() }
    }
}

impl Numbers {
    fn next(&mut self) -> Option<u64> {
        self.spare.pop().or_else(|| self.left.next())
    }

    fn refill(&mut self, first: u64) -> u64 {
        self.left = first + 1..first + u64::from(self.size);
        self.size = (self.size * 2).min(RANGE_AT_MOST);
        first
    }
}

/// What a session has left of its numbers in one shard.
#[derive(Default)]
pub struct Ranges {
    inodes: Mutex<Numbers>,
}

/// Reserves so many inode numbers and slices; returns the first of each.
pub(super) fn alloc(
    shard: &Shard,
    id: SessionId,
    inodes: u32,
    slices: u32,
) -> Result<(u64, u64), MetaError> {
    let request = [&id.to_bytes()[..], &inodes.to_be_bytes(), &slices.to_be_bytes()].concat();
    let mut reply = Reader::new("alloc", shard.ask(&ALLOC, &[&request])?);
    Ok((reply.u64()?, reply.u64()?))
}

impl Session {
    /// A fresh inode number in the shard of `near`; a round trip only when the cached range is
    /// used up. [`Self::create`] calls it.
    pub fn alloc_inode(&self, near: InodeId) -> Result<InodeId, MetaError> {
        let of = self.of(near)?;
        let mut numbers = of.ranges.inodes.lock();
        let local = match numbers.next() {
            Some(local) => local,
            None => {
                let first = alloc(&of.shard, self.id, numbers.size, 0)?.0;
                numbers.refill(first)
            }
        };
        Ok(of.shard.inode(local))
    }

    /// Takes back a number that certainly has not been used, so that the next inode gets it: gaps
    /// cost memory.
    pub(super) fn give_back(&self, ino: InodeId) {
        if let Ok(of) = self.of(ino) {
            let mut numbers = of.ranges.inodes.lock();
            if numbers.spare.len() < SPARE_MAX {
                numbers.spare.push(ino.local());
            }
        }
    }
}
