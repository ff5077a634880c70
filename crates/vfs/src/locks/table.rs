//! What this mount knows of its locks: owners, waits, closes under way, what is unsettled. No I/O.

use super::LockAnswer;
use crossbeam_channel::{Receiver, Sender, unbounded};
use parking_lot::{Condvar, Mutex};
use ringfs_base::{InodeId, Timestamp};
use ringfs_meta::{LockAsk, LockKind, LockOwner, LockRange, LockTicket};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Longest wait for a close that gives up locks.
const CLOSE_WAIT: Duration = Duration::from_secs(10);

pub(super) type Key = (LockKind, LockOwner);

/// What an owner may have of a file's locks.
#[derive(Default)]
pub(super) struct Owned {
    /// Requests under way, waits included.
    pub(super) under_way: u32,
    pub(super) holds: bool,
    /// Open files through which it asked: when the last is gone nobody can give up its locks.
    pub(super) handles: Vec<u64>,
}

pub(super) struct Wait {
    pub(super) ino: InodeId,
    pub(super) ask: LockAsk,
    /// The frontend's name for it.
    pub(super) request: u64,
    pub(super) answer: LockAnswer,
}

/// What the server must be told once it answers again. Until then its owner gets no new lock on the
/// file: settling would take that away.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Unsettled {
    pub(super) ino: InodeId,
    pub(super) key: Key,
    pub(super) range: LockRange,
    /// A wait to be ended first.
    pub(super) ticket: Option<LockTicket>,
}

#[derive(Default)]
pub(super) struct Table {
    pub(super) owned: HashMap<InodeId, HashMap<Key, Owned>>,
    pub(super) waits: HashMap<LockTicket, Wait>,
    /// Closes that give up locks right now.
    pub(super) closing: HashMap<InodeId, u32>,
    pub(super) closes: u64,
    pub(super) unsettled: Vec<Unsettled>,
}

pub(super) enum Job {
    /// Make the kernel drop what it has of the file, then answer.
    Answer { ino: InodeId, version: Option<Timestamp>, answer: LockAnswer },
    /// Messages may have been lost: ask for every wait again.
    AskAgain,
}

pub(crate) struct Locks {
    pub(super) table: Mutex<Table>,
    pub(super) closed: Condvar,
    /// Files in `Table::owned`, to be looked at without the lock.
    pub(super) files: AtomicUsize,
    pub(super) next_ticket: AtomicU64,
    /// A wait could not be asked for again, or something is unsettled.
    pub(super) troubled: AtomicBool,
    /// Held while that is set right.
    pub(super) settling: Mutex<()>,
    pub(super) jobs: (Sender<Job>, Receiver<Job>),
}

impl Locks {
    pub(crate) fn new() -> Locks {
        Locks {
            table: Mutex::default(),
            closed: Condvar::new(),
            files: AtomicUsize::new(0),
            next_ticket: AtomicU64::new(1),
            troubled: AtomicBool::new(false),
            settling: Mutex::new(()),
            // As many jobs as waits and lock requests under way at most.
            jobs: unbounded(),
        }
    }

    pub(super) fn begin(&self, ino: InodeId, key: Key, handle: Option<u64>) {
        let mut table = self.table.lock();
        let owned = table.owned.entry(ino).or_default().entry(key).or_default();
        owned.under_way += 1;
        if let Some(handle) = handle.filter(|handle| !owned.handles.contains(handle)) {
            owned.handles.push(handle);
        }
        self.files.store(table.owned.len(), Ordering::SeqCst);
    }

    /// A request is over; `remains` if the server told whether the owner has locks left.
    pub(super) fn end(&self, ino: InodeId, key: Key, remains: Option<bool>) {
        let mut table = self.table.lock();
        let Some(owners) = table.owned.get_mut(&ino) else { return };
        if let Some(owned) = owners.get_mut(&key) {
            owned.under_way = owned.under_way.saturating_sub(1);
            match remains {
                Some(true) => owned.holds = true,
                // With others under way it is unknown which the server served last.
                Some(false) if owned.under_way == 0 => owned.holds = false,
                Some(false) | None => {}
            }
            if !owned.holds && owned.under_way == 0 {
                owners.remove(&key);
            }
        }
        if owners.is_empty() {
            table.owned.remove(&ino);
        }
        self.files.store(table.owned.len(), Ordering::SeqCst);
    }

    pub(super) fn owns(&self, ino: InodeId, key: Key) -> bool {
        self.files.load(Ordering::SeqCst) > 0
            && self.table.lock().owned.get(&ino).is_some_and(|owners| owners.contains_key(&key))
    }

    /// The owners whose last open file is this one.
    pub(super) fn left_behind(
        &self,
        ino: InodeId,
        handle: u64,
        flock: Option<LockOwner>,
    ) -> Vec<Key> {
        let mut table = self.table.lock();
        let Some(owners) = table.owned.get_mut(&ino) else { return Vec::new() };
        let mut left = Vec::new();
        for (key, owned) in owners.iter_mut() {
            let came_through = owned.handles.contains(&handle);
            owned.handles.retain(|other| *other != handle);
            let flocks = flock.is_some_and(|owner| *key == (LockKind::Flock, owner));
            if flocks || (came_through && owned.handles.is_empty()) {
                left.push(*key);
            }
        }
        left
    }

    pub(super) fn is_waiting(&self, ticket: LockTicket) -> bool {
        self.table.lock().waits.contains_key(&ticket)
    }

    pub(super) fn take(&self, ticket: LockTicket) -> Option<Wait> {
        self.table.lock().waits.remove(&ticket)
    }

    pub(super) fn closing(&self, ino: InodeId) -> (bool, u64) {
        let table = self.table.lock();
        (table.closing.contains_key(&ino), table.closes)
    }

    pub(super) fn await_closes(&self, ino: InodeId) {
        let mut table = self.table.lock();
        if table.closing.contains_key(&ino) {
            ringfs_link::about_to_wait();
        }
        while table.closing.contains_key(&ino) {
            if self.closed.wait_for(&mut table, CLOSE_WAIT).timed_out() {
                return;
            }
        }
    }

    pub(super) fn is_unsettled(&self, ino: InodeId, key: Key) -> bool {
        let table = self.table.lock();
        table.unsettled.iter().any(|unsettled| (unsettled.ino, unsettled.key) == (ino, key))
    }

    /// Messages about grants may have been lost.
    pub(crate) fn ask_again(&self) {
        if !self.table.lock().waits.is_empty() && self.jobs.0.send(Job::AskAgain).is_err() {
            tracing::error!("the thread that answers lock requests is gone");
        }
    }
}

/// Marks a file's closing for as long as it lives.
pub(super) struct Closing<'a>(&'a Locks, InodeId);

impl<'a> Closing<'a> {
    pub(super) fn begin(locks: &'a Locks, ino: InodeId) -> Closing<'a> {
        let mut table = locks.table.lock();
        *table.closing.entry(ino).or_default() += 1;
        table.closes += 1;
        Closing(locks, ino)
    }
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let mut table = self.0.table.lock();
        if let Some(count) = table.closing.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                table.closing.remove(&self.1);
            }
        }
        self.0.closed.notify_all();
    }
}
