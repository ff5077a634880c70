//! A session: what a mount works with.

mod clones;
mod data;
mod life;
mod locks;
mod names;
mod ranges;
mod slices;
mod sparse;
mod watch;
mod xattrs;

pub use data::{CommitFailed, UndecidedCommit};
pub(crate) use names::{checked, dangling};
pub use slices::SliceLease;
pub use watch::Watch;

use crate::error::MetaError;
use crate::lane::Lanes;
use crate::shard::Shard;
use crate::types::Usage;
use crate::volume::Volume;
use life::Beats;
use parking_lot::Mutex;
use ranges::Ranges;
use ringfs_base::{Epoch, Errno, InodeId, SessionId};
use slices::Slices;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

/// A registered session. Share it between threads; every method is one round trip unless its
/// text says otherwise. Errors are [`MetaError::Posix`] where POSIX has an answer:
/// ENOENT, EEXIST, ENOTDIR, EISDIR, ENOTEMPTY, EINVAL, ENAMETOOLONG, EMLINK, EXDEV, ENOSPC;
/// ESTALE where an inode number leads nowhere.
///
/// While the server does not answer an operation is repeated for some seconds; a mutation takes
/// effect once however often it was sent. If one fails with [`MetaError::Unavailable`] it may
/// still take effect, or not.
pub struct Session {
    id: SessionId,
    volume: Volume,
    shards: Vec<SessionShard>,
    /// The ring's epoch as last heard.
    epoch: AtomicU64,
    sessions: AtomicU32,
    beats: Mutex<Beats>,
}

/// What a session has in each shard.
struct SessionShard {
    shard: Arc<Shard>,
    lanes: Lanes,
    ranges: Ranges,
    slices: Arc<Slices>,
}

impl Session {
    pub(crate) fn new(
        volume: Volume,
        id: SessionId,
        sessions: u32,
        epoch: Epoch,
        acknowledged: u64,
    ) -> Session {
        let shards = volume
            .shards()
            .iter()
            .map(|shard| SessionShard {
                shard: Arc::clone(shard),
                lanes: Lanes::new(id, Arc::clone(shard)),
                ranges: Ranges::default(),
                slices: Arc::default(),
            })
            .collect();
        Session {
            id,
            volume,
            shards,
            epoch: AtomicU64::new(epoch.0),
            sessions: AtomicU32::new(sessions),
            beats: Mutex::new(Beats::new(acknowledged)),
        }
    }

    /// Its id.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The volume.
    pub fn volume(&self) -> &Volume {
        &self.volume
    }

    /// The ring's epoch, as of the last reply that told it.
    pub fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Acquire))
    }

    /// Sessions registered, as of the last heartbeat: another may have come since.
    pub fn sessions(&self) -> u32 {
        self.sessions.load(Ordering::Acquire)
    }

    /// How much the volume holds.
    pub fn usage(&self) -> Result<Usage, MetaError> {
        self.volume.usage()
    }

    /// Returns when everything acknowledged so far is safe at the volume's durability level
    /// (fsync). No round trip at level `memory`.
    pub fn barrier(&self) -> Result<(), MetaError> {
        self.volume.barrier()
    }

    /// Nothing is repeated after `until`, also of what has begun: the program is about to end.
    pub fn close_by(&self, until: Instant) {
        self.shards.iter().for_each(|of| of.shard.close_by(until));
    }

    fn of(&self, ino: InodeId) -> Result<&SessionShard, MetaError> {
        Ok(self.shards.get(usize::from(ino.shard())).ok_or(Errno::ESTALE)?)
    }

    fn heard_of_epoch(&self, epoch: Epoch) {
        self.epoch.fetch_max(epoch.0, Ordering::AcqRel);
    }
}
