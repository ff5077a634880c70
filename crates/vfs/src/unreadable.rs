//! Files that could not be read because no copy of a block can be had are noted in the metadata
//! server, so that `ringfs status` names them. Who finds the blocks again, or the file gone, takes
//! the note away: the worker `recheck` of the volume.

use crate::{Vfs, VfsError};
use parking_lot::Mutex;
use ringfs_base::InodeId;
use ringfs_store::StoreError;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// A file is noted once in this time by one mount, however often reading it fails.
const NOTE_EVERY: Duration = Duration::from_secs(5);
/// Files whose last note is remembered.
const REMEMBERED_MAX: usize = 4096;

/// When files were noted last.
#[derive(Default)]
pub(crate) struct Unreadable {
    noted: Mutex<HashMap<InodeId, Instant>>,
}

impl Unreadable {
    /// Whether it is time to note the file.
    fn is_due(&self, ino: InodeId, now: Instant) -> bool {
        let mut noted = self.noted.lock();
        let fresh = |at: &Instant| now.duration_since(*at) < NOTE_EVERY;
        if noted.get(&ino).is_some_and(fresh) {
            return false;
        }
        if noted.len() >= REMEMBERED_MAX {
            noted.retain(|_, at| fresh(at));
        }
        // With so many at once, each is noted with each failure: there are more notes then than are
        // kept anyway.
        if noted.len() < REMEMBERED_MAX {
            noted.insert(ino, now);
        }
        true
    }
}

impl Vfs {
    /// Reading a file has failed for good: if for want of a block, that is noted.
    pub(crate) fn note_unreadable(&self, ino: InodeId, error: &VfsError) {
        let VfsError::Data(cause) = error else { return };
        match **cause {
            StoreError::Missing { .. }
            | StoreError::Corrupt { .. }
            | StoreError::Unavailable { .. } => {}
            StoreError::Full { .. } | StoreError::Invalid { .. } => return,
        }
        if !self.unreadable.is_due(ino, Instant::now()) {
            return;
        }
        tracing::warn!(%ino, %cause, "a file cannot be read");
        if let Err(error) = self.session.volume().note_lost(ino, &cause.to_string()) {
            tracing::warn!(%ino, %error, "that a file cannot be read could not be noted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_noted_now_and_then_and_what_is_remembered_is_bounded() {
        let unreadable = Unreadable::default();
        let begin = Instant::now();
        assert!(unreadable.is_due(InodeId(1), begin));
        assert!(!unreadable.is_due(InodeId(1), begin + NOTE_EVERY / 2));
        assert!(unreadable.is_due(InodeId(2), begin + NOTE_EVERY / 2));
        assert!(unreadable.is_due(InodeId(1), begin + NOTE_EVERY));
        for ino in 0..2 * REMEMBERED_MAX as u64 {
            unreadable.is_due(InodeId(ino), begin + 9 * NOTE_EVERY);
        }
        assert_eq!(unreadable.noted.lock().len(), REMEMBERED_MAX);
        unreadable.is_due(InodeId(0), begin + 20 * NOTE_EVERY);
        assert_eq!(unreadable.noted.lock().len(), 1);
    }
}
