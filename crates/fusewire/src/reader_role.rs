//! Which worker reads the next request.
//!
//! Waking a thread on another CPU costs more than most requests (on a virtual machine tens of
//! microseconds). If several workers wait in `read`, the kernel wakes them in turn and every
//! request pays for that. So only one worker reads, and it serves what it read itself, again and
//! again. It gives the role away when it is about to wait for something else: then another
//! worker is woken, or started, to read on. Who lost the role rests until it is called.

use crate::{device::Device, filesystem::Filesystem, session::Shared};
use parking_lot::{Condvar, Mutex};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Workers that rest; more end instead.
const RESTING_MAX: usize = 8;

/// One worker's place.
pub(crate) struct Seat {
    reads: AtomicBool,
    /// Waits, or waited until now, with the role.
    stuck: AtomicBool,
    called: Mutex<bool>,
    call: Condvar,
}

impl Seat {
    /// The seat of a worker that begins as the reader.
    pub(crate) fn reader() -> Arc<Seat> {
        Arc::new(Seat {
            reads: AtomicBool::new(true),
            stuck: AtomicBool::new(false),
            called: Mutex::new(false),
            call: Condvar::new(),
        })
    }

    pub(crate) fn reads(&self) -> bool {
        self.reads.load(Ordering::SeqCst)
    }

    pub(crate) fn take_stuck(&self) -> bool {
        self.stuck.load(Ordering::Relaxed) && self.stuck.swap(false, Ordering::SeqCst)
    }

    /// Nothing is left to read.
    pub(crate) fn resign(&self) {
        self.reads.store(false, Ordering::SeqCst);
    }

    fn wake(&self) {
        *self.called.lock() = true;
        self.call.notify_one();
    }
}

/// The workers that rest.
#[derive(Default)]
pub(crate) struct Bench {
    resting: Vec<Arc<Seat>>,
    /// A reader that waits for something else and found nobody to read in its place.
    stuck: Option<Arc<Seat>>,
    closed: bool,
}

impl Bench {
    pub(crate) fn len(&self) -> usize {
        self.resting.len()
    }
}

impl<F: Filesystem> Shared<F> {
    /// Waits to become the reader. False: the mount is gone or workers abound, so end.
    pub(crate) fn rest(&self, seat: &Arc<Seat>, permanent: bool) -> bool {
        {
            let mut bench = self.bench.lock();
            if let Some(stuck) = bench.stuck.take()
                && stuck.reads.swap(false, Ordering::SeqCst)
            {
                seat.reads.store(true, Ordering::SeqCst);
                return true;
            }
            if bench.closed || (!permanent && bench.resting.len() >= RESTING_MAX) {
                return false;
            }
            *seat.called.lock() = false;
            bench.resting.push(Arc::clone(seat));
        }
        let mut called = seat.called.lock();
        while !*called {
            seat.call.wait(&mut called);
        }
        seat.reads()
    }

    /// The mount is gone: everybody who rests ends.
    pub(crate) fn close_bench(&self) {
        let mut bench = self.bench.lock();
        bench.closed = true;
        bench.resting.drain(..).for_each(|seat| seat.wake());
    }

    /// Gives the role of `seat` to another worker; keeps it if there can be no other, until one
    /// has nothing to do.
    pub(crate) fn pass_role(self: &Arc<Self>, seat: &Arc<Seat>) {
        if !seat.reads.swap(false, Ordering::SeqCst) {
            return;
        }
        if self.pass_to_resting() || Self::spawn_worker(self) {
            return;
        }
        let mut bench = self.bench.lock();
        seat.reads.store(true, Ordering::SeqCst);
        // Somebody may have come to rest since the first look: then it does not wait for us.
        match bench.resting.pop() {
            Some(next) => {
                seat.reads.store(false, Ordering::SeqCst);
                next.reads.store(true, Ordering::SeqCst);
                next.wake();
            }
            None => {
                seat.stuck.store(true, Ordering::SeqCst);
                bench.stuck = Some(Arc::clone(seat));
            }
        }
    }

    fn pass_to_resting(&self) -> bool {
        let Some(next) = self.bench.lock().resting.pop() else { return false };
        next.reads.store(true, Ordering::SeqCst);
        next.wake();
        true
    }

    /// The reader has nothing to wait for any more and goes on reading.
    pub(crate) fn reads_on(&self, seat: &Arc<Seat>) {
        let mut bench = self.bench.lock();
        if bench.stuck.as_ref().is_some_and(|stuck| Arc::ptr_eq(stuck, seat)) {
            bench.stuck = None;
        }
    }
}

/// A worker's way to let others read requests while it waits for something else. Given to
/// [`Filesystem::worker_begins`], for use on that thread.
pub struct Standby {
    pub(crate) device: Arc<Device>,
    pub(crate) seat: Arc<Seat>,
    pub(crate) pass: Box<dyn Fn()>,
}

impl Standby {
    /// Whether this worker is the one that has to read the next request: only then is there
    /// anything to hand over.
    pub fn is_reader(&self) -> bool {
        self.seat.reads()
    }

    /// Lets another worker read. Nothing happens if this one is not the reader.
    pub fn hand_over(&self) {
        (self.pass)();
    }
}

/// Readable when a request waits to be read.
impl AsFd for Standby {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}
