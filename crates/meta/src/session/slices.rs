//! Slice ids, and which of them may still become part of a file.
//!
//! Each heartbeat says below which id everything is decided: committed, or never to be. What lies
//! there and no file names is garbage, also while this mount lives. So a slice is handed out with a
//! lease, under the same lock that tells the bound, and counts until the lease is dropped.

use super::Session;
use super::ranges::{RANGE_AT_FIRST, RANGE_AT_MOST, alloc};
use crate::error::MetaError;
use parking_lot::Mutex;
use ringfs_base::limits::INODE_LOCAL_BITS;
use ringfs_base::{InodeId, SliceId};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// With fewer ids left more are fetched: about as many as are taken until these have come.
const LOW: u64 = 256;

struct State {
    left: Range<u64>,
    /// Fetched ahead of need; its ids are larger.
    next: Option<Range<u64>>,
    /// Size of the next range.
    size: u32,
    /// Somebody was told that few are left.
    asked: bool,
    leased: BTreeSet<u64>,
}

impl State {
    fn take(&mut self) -> Option<u64> {
        if self.left.is_empty() {
            self.left = self.next.take()?;
        }
        self.left.next()
    }

    fn is_low(&self) -> bool {
        self.next.is_none() && self.left.end - self.left.start < LOW
    }

    fn refill(&mut self, range: Range<u64>) {
        if self.left.is_empty() {
            self.left = range;
        } else {
            self.next = Some(range);
        }
        self.size = (self.size * 2).min(RANGE_AT_MOST);
    }
}

/// The slice ids of a session.
pub struct Slices {
    state: Mutex<State>,
    /// Held while a range is fetched, so that only one is, and ranges come in order.
    fetching: Mutex<()>,
}

impl Default for Slices {
    fn default() -> Slices {
        let leased = BTreeSet::new();
        let state = State { left: 0..0, next: None, size: RANGE_AT_FIRST, asked: false, leased };
        Slices { state: Mutex::new(state), fetching: Mutex::new(()) }
    }
}

/// A slice that may be written and committed while this lives.
pub struct SliceLease {
    id: SliceId,
    of: Option<Arc<Slices>>,
    kept: AtomicBool,
}

impl SliceLease {
    /// A slice that no session handed out, so nobody asks whether it is in use.
    pub fn unregistered(id: SliceId) -> SliceLease {
        SliceLease { id, of: None, kept: AtomicBool::new(false) }
    }

    /// The slice.
    pub fn id(&self) -> SliceId {
        self.id
    }

    /// It may be committed until the session ends: the outcome of a commit will never be known.
    pub fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }
}

impl Drop for SliceLease {
    fn drop(&mut self) {
        if let Some(slices) = &self.of
            && !self.kept.load(Ordering::Relaxed)
        {
            slices.state.lock().leased.remove(&InodeId(self.id.0).local());
        }
    }
}

impl Session {
    /// A fresh slice; a round trip only when [`Self::provide_slices`] was not called in time.
    pub fn lease_slice(&self) -> Result<SliceLease, MetaError> {
        let of = self.of(InodeId::ROOT)?;
        let leased = |state: &mut State| {
            let local = state.take()?;
            state.leased.insert(local);
            Some(local)
        };
        let local = loop {
            if let Some(local) = leased(&mut of.slices.state.lock()) {
                break local;
            }
            self.fetch_slices()?;
        };
        let id = SliceId(u64::from(of.shard.number) << INODE_LOCAL_BITS | local);
        Ok(SliceLease { id, of: Some(Arc::clone(&of.slices)), kept: AtomicBool::new(false) })
    }

    /// The same without a lease: the slice may not be committed any more once a heartbeat has said
    /// that everything below [`Self::next_slice`] is decided.
    pub fn alloc_slice(&self) -> Result<SliceId, MetaError> {
        Ok(self.lease_slice()?.id())
    }

    /// Fetches slice ids if none are left; call it where a round trip harms nobody. True: few are
    /// left, so [`Self::refill_slices`] is to be called soon, by somebody who has time. Said once.
    pub fn provide_slices(&self) -> Result<bool, MetaError> {
        let slices = &self.of(InodeId::ROOT)?.slices;
        {
            let mut state = slices.state.lock();
            if !state.is_low() {
                return Ok(false);
            }
            if !state.left.is_empty() {
                return Ok(!std::mem::replace(&mut state.asked, true));
            }
        }
        self.fetch_slices().map(|()| false)
    }

    /// Fetches slice ids if few are left and any were ever needed.
    pub fn refill_slices(&self) -> Result<(), MetaError> {
        let wanted = {
            let state = self.of(InodeId::ROOT)?.slices.state.lock();
            state.left.end > 0 && state.is_low()
        };
        if wanted { self.fetch_slices() } else { Ok(()) }
    }

    fn fetch_slices(&self) -> Result<(), MetaError> {
        let of = self.of(InodeId::ROOT)?;
        let _alone = of.slices.fetching.try_lock().unwrap_or_else(|| {
            ringfs_link::about_to_wait();
            of.slices.fetching.lock()
        });
        let size = {
            let state = of.slices.state.lock();
            if !state.is_low() {
                return Ok(());
            }
            state.size
        };
        let fetched = alloc(&of.shard, self.id, 0, size);
        let mut state = of.slices.state.lock();
        state.asked = false;
        let first = fetched?.1;
        state.refill(first..first + u64::from(size));
        Ok(())
    }

    /// A lower bound of every slice that will be handed out from now on.
    pub fn next_slice(&self) -> Result<SliceId, MetaError> {
        self.slice_bound(|state| state.left.start)
    }

    /// A lower bound of every slice that may still become part of a file, for [`crate::Beat`].
    pub fn oldest_slice(&self) -> Result<SliceId, MetaError> {
        self.slice_bound(|state| {
            let leased = state.leased.first().copied().unwrap_or(u64::MAX);
            state.left.start.min(leased)
        })
    }

    fn slice_bound(&self, bound: impl Fn(&State) -> u64) -> Result<SliceId, MetaError> {
        let of = self.of(InodeId::ROOT)?;
        let local = bound(&of.slices.state.lock());
        Ok(SliceId(u64::from(of.shard.number) << INODE_LOCAL_BITS | local))
    }
}
