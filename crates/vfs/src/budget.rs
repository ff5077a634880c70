//! The bound on memory that unwritten data may take.
//!
//! Every byte buffered by a write is taken from the budget before it is copied and given back
//! when its block has reached the block servers (or its layer was dropped). A writer that finds
//! the budget spent waits until some comes back, at most [`WAIT_MAX`].

use parking_lot::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// How long a writer waits for memory before its write fails.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(60);

pub(crate) struct Budget {
    limit_bytes: usize,
    used: Mutex<usize>,
    freed: Condvar,
}

impl Budget {
    pub(crate) fn new(limit_bytes: usize) -> Budget {
        Budget { limit_bytes, used: Mutex::new(0), freed: Condvar::new() }
    }

    /// Takes `bytes`, waiting for them if need be; `kick` is called once before waiting.
    /// False when nothing came back in time. One request is let through on an empty budget
    /// however large it is, or it could never go on.
    pub(crate) fn take(&self, bytes: usize, kick: impl FnOnce()) -> bool {
        let fits = |used: usize| used == 0 || used + bytes <= self.limit_bytes;
        let mut used = self.used.lock();
        if !fits(*used) {
            drop(used);
            kick();
            ringfs_link::about_to_wait();
            let deadline = Instant::now() + WAIT_MAX;
            used = self.used.lock();
            while !fits(*used) {
                if self.freed.wait_until(&mut used, deadline).timed_out() {
                    return false;
                }
            }
        }
        *used += bytes;
        true
    }

    pub(crate) fn give_back(&self, bytes: usize) {
        let mut used = self.used.lock();
        *used = used.saturating_sub(bytes);
        drop(used);
        self.freed.notify_all();
    }

    /// Bytes taken now.
    pub(crate) fn used_bytes(&self) -> usize {
        *self.used.lock()
    }

    /// More than half is taken: time to write back without waiting for age.
    pub(crate) fn is_pressed(&self) -> bool {
        self.used_bytes() > self.limit_bytes / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_writer_waits_until_memory_comes_back() {
        let budget = Arc::new(Budget::new(100));
        assert!(budget.take(80, || ()));
        let other = budget.clone();
        let (kicked, was_kicked) = std::sync::mpsc::channel();
        let waiter = std::thread::spawn(move || other.take(50, || kicked.send(()).unwrap()));
        was_kicked.recv().unwrap();
        budget.give_back(80);
        assert!(waiter.join().unwrap());
        assert_eq!(budget.used_bytes(), 50);
    }

    #[test]
    fn a_request_above_the_limit_passes_when_nothing_else_is_held() {
        let budget = Budget::new(10);
        assert!(budget.take(1000, || ()));
    }
}
