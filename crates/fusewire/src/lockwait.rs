//! Lock waits: requests answered later, by any thread, and interrupted by signals.
//!
//! A signal makes the kernel send INTERRUPT with the number of the waiting request. It can
//! overtake the request itself, because another worker may read it first. The table here puts
//! that in order: the file system hears of an interrupt only after its `setlkw` has returned.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;

use crate::{device::Device, errno::Errno, meter::TakingLater};

/// Interrupts remembered for requests not seen yet. Almost all are late instead (their request
/// was answered meanwhile) and only wait here to be pushed out by newer ones.
const EARLY_MAX: usize = 256;

/// Where a wait stands.
enum Stage {
    /// The file system's `setlkw` is running.
    InHandler { interrupted: bool },
    /// `setlkw` has returned; the answer is due.
    Parked,
}

#[derive(Default)]
struct Table {
    stages: HashMap<u64, Stage>,
    early: VecDeque<u64>,
}

/// All lock waits of a session.
#[derive(Default)]
pub(crate) struct Waits(Mutex<Table>);

impl Waits {
    /// A `setlkw` is about to be called.
    pub(crate) fn begin(
        self: &Arc<Self>,
        unique: u64,
        device: &Arc<Device>,
        taking: Option<TakingLater>,
    ) -> ReplyLater {
        let mut table = self.0.lock();
        let seen = table.early.iter().position(|&early| early == unique);
        let interrupted = seen.is_some_and(|index| table.early.remove(index).is_some());
        table.stages.insert(unique, Stage::InHandler { interrupted });
        let (device, waits) = (Arc::clone(device), Arc::clone(self));
        ReplyLater { unique, device, waits, due: true, taking }
    }

    /// `setlkw` has returned. True: an interrupt came meanwhile and must be delivered now.
    pub(crate) fn park(&self, unique: u64) -> bool {
        let mut table = self.0.lock();
        // Absent: the file system has answered already.
        let Some(stage) = table.stages.get_mut(&unique) else { return false };
        let interrupted = matches!(stage, Stage::InHandler { interrupted: true });
        *stage = Stage::Parked;
        interrupted
    }

    /// INTERRUPT arrived. True: deliver it to the file system now.
    pub(crate) fn interrupt(&self, unique: u64) -> bool {
        let mut table = self.0.lock();
        match table.stages.get_mut(&unique) {
            Some(Stage::InHandler { interrupted }) => {
                *interrupted = true;
                false
            }
            Some(Stage::Parked) => true,
            None => {
                if table.early.len() == EARLY_MAX {
                    table.early.pop_front();
                }
                table.early.push_back(unique);
                true
            }
        }
    }

    fn end(&self, unique: u64) {
        self.0.lock().stages.remove(&unique);
    }
}

/// The answer to a lock wait, owed to the kernel. May be sent from any thread, holds no worker.
/// Dropping it unanswered answers EIO.
#[must_use = "the caller of fcntl or flock waits until this is answered"]
pub struct ReplyLater {
    unique: u64,
    /// The channel the request was read from: the kernel finds a request only there.
    device: Arc<Device>,
    waits: Arc<Waits>,
    due: bool,
    taking: Option<TakingLater>,
}

impl ReplyLater {
    /// Number of the request, as [`Filesystem::interrupt`](crate::Filesystem::interrupt) names
    /// it.
    pub fn unique(&self) -> u64 {
        self.unique
    }

    /// The lock is granted.
    pub fn ok(self) {
        self.answer(None);
    }

    /// The lock is not granted: EINTR after an interrupt, EDEADLK, ENOLCK and so on.
    pub fn err(self, errno: Errno) {
        self.answer(Some(errno));
    }

    fn answer(mut self, errno: Option<Errno>) {
        self.send(errno);
    }

    fn send(&mut self, errno: Option<Errno>) {
        self.due = false;
        self.waits.end(self.unique);
        // A caller gone meanwhile (mount aborted) is no error; anything else was logged.
        self.device.answer(self.unique, errno.map_or(0, Errno::to_wire), &[]);
        if let Some((meter, taking)) = &self.taking {
            taking.end(&**meter, errno, 0, 0);
        }
    }
}

impl Drop for ReplyLater {
    fn drop(&mut self) {
        if self.due {
            tracing::warn!(unique = self.unique, "a lock wait was dropped without an answer");
            self.send(Some(Errno::EIO));
        }
    }
}

impl std::fmt::Debug for ReplyLater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplyLater").field("unique", &self.unique).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> Arc<Device> {
        Arc::new(Device::sink().expect("/dev/null opens"))
    }

    #[test]
    fn an_interrupt_that_overtakes_its_request_is_delivered_after_the_handler() {
        let waits = Arc::new(Waits::default());
        assert!(waits.interrupt(7), "unknown requests are delivered at once too");
        let reply = waits.begin(7, &device(), None);
        assert!(waits.park(7));
        assert!(waits.interrupt(7), "parked: delivered at once");
        reply.err(Errno::EINTR);
        assert!(!waits.park(7));
    }

    #[test]
    fn an_interrupt_during_the_handler_waits_for_its_end() {
        let waits = Arc::new(Waits::default());
        let reply = waits.begin(8, &device(), None);
        assert!(!waits.interrupt(8));
        assert!(waits.park(8));
        drop(reply);
        assert!(waits.0.lock().stages.is_empty(), "a dropped reply leaves nothing behind");
    }

    #[test]
    fn late_interrupts_are_bounded() {
        let waits = Waits::default();
        for unique in 0..10 * EARLY_MAX as u64 {
            waits.interrupt(unique);
        }
        assert_eq!(waits.0.lock().early.len(), EARLY_MAX);
    }
}
