//! A session: what a mount works with.

use crate::attr::Attr;
use crate::error::MetaError;
use crate::extents::ExtentRecord;
use crate::types::*;
use crate::volume::Volume;
use bytes::Bytes;
use ringfs_base::{Epoch, InodeId, SessionId, SliceId, Timestamp};

/// A registered session. Share it between threads; every method is one round trip unless its
/// text says otherwise. Errors are [`MetaError::Posix`] where POSIX has an answer:
/// ENOENT, EEXIST, ENOTDIR, EISDIR, ENOTEMPTY, EINVAL, ENAMETOOLONG, EMLINK, EXDEV, ENOSPC;
/// ESTALE where an inode number leads nowhere.
pub struct Session {}

/// Ends the watching when dropped.
pub struct Watch {}

impl Session {
    /// Its id.
    pub fn id(&self) -> SessionId {
        unimplemented!()
    }

    /// The volume.
    pub fn volume(&self) -> &Volume {
        unimplemented!()
    }

    /// The ring's epoch and the number of sessions, as of the last reply that told them.
    pub fn epoch(&self) -> Epoch {
        unimplemented!()
    }

    /// Sessions registered, as of the last heartbeat. With 1 nobody else can change anything.
    pub fn sessions(&self) -> u32 {
        unimplemented!()
    }

    /// What a name leads to; ENOENT. `.` and `..` are the caller's.
    pub fn lookup(&self, parent: InodeId, name: &[u8]) -> Result<Found, MetaError> {
        unimplemented!()
    }

    /// Attributes; ESTALE if there is no such inode.
    pub fn getattr(&self, ino: InodeId) -> Result<Attr, MetaError> {
        unimplemented!()
    }

    /// Changes attributes; a truncation that drops many chunks takes several round trips.
    pub fn setattr(
        &self,
        ino: InodeId,
        change: &SetAttr,
        now: Timestamp,
    ) -> Result<Changed, MetaError> {
        unimplemented!()
    }

    /// Makes a file, directory, symbolic link or special file, unless the name exists.
    pub fn create(
        &self,
        parent: InodeId,
        name: &[u8],
        new: &NewInode<'_>,
        now: Timestamp,
    ) -> Result<Created, MetaError> {
        unimplemented!()
    }

    /// Removes a name that leads to anything but a directory (EISDIR).
    pub fn unlink(
        &self,
        parent: InodeId,
        name: &[u8],
        victim: Victim,
        now: Timestamp,
    ) -> Result<Unlinked, MetaError> {
        unimplemented!()
    }

    /// Removes an empty directory; ENOTDIR, ENOTEMPTY.
    pub fn rmdir(
        &self,
        parent: InodeId,
        name: &[u8],
        victim: Victim,
        now: Timestamp,
    ) -> Result<Unlinked, MetaError> {
        unimplemented!()
    }

    /// Renames. `victim` is about the target that is replaced, if any.
    #[allow(clippy::too_many_arguments, reason = "rename has that many")]
    pub fn rename(
        &self,
        old_parent: InodeId,
        old_name: &[u8],
        new_parent: InodeId,
        new_name: &[u8],
        mode: RenameMode,
        victim: Victim,
        now: Timestamp,
    ) -> Result<Renamed, MetaError> {
        unimplemented!()
    }

    /// Gives an inode (no directory: EPERM) one more name. `created` false: the name exists.
    pub fn link(
        &self,
        ino: InodeId,
        parent: InodeId,
        name: &[u8],
        now: Timestamp,
    ) -> Result<Created, MetaError> {
        unimplemented!()
    }

    /// The target of a symbolic link; EINVAL if it is none.
    pub fn readlink(&self, ino: InodeId) -> Result<Bytes, MetaError> {
        unimplemented!()
    }

    /// Names after cookie `after` (0 = from the beginning), `want` or a few more; with their
    /// attributes if `attrs`.
    pub fn readdir(
        &self,
        dir: InodeId,
        after: u64,
        want: u32,
        attrs: bool,
    ) -> Result<DirPage, MetaError> {
        unimplemented!()
    }

    /// Attributes of a file and its data, or where they are. ESTALE if it is an orphan that this
    /// session does not hold.
    pub fn open(&self, ino: InodeId, known: Option<Known>) -> Result<Opened, MetaError> {
        unimplemented!()
    }

    /// Records of some chunks (at most 256).
    pub fn extents(&self, ino: InodeId, chunks: &[u32]) -> Result<ChunkExtents, MetaError> {
        unimplemented!()
    }

    /// Makes written data part of a file.
    pub fn commit(&self, ino: InodeId, request: &CommitRequest<'_>) -> Result<Commit, MetaError> {
        unimplemented!()
    }

    /// Puts `new` in the place of the records that `old` lists, which must be the oldest of the
    /// chunk; newer ones stay above. `None` if the chunk changed otherwise. Returns the slices
    /// dropped: their blocks may be removed.
    pub fn compact(
        &self,
        ino: InodeId,
        chunk: u32,
        old: &[ExtentRecord],
        new: &[ExtentRecord],
    ) -> Result<Option<Vec<ExtentRecord>>, MetaError> {
        unimplemented!()
    }

    /// An extended attribute; ENODATA.
    pub fn getxattr(&self, ino: InodeId, name: &[u8]) -> Result<Bytes, MetaError> {
        unimplemented!()
    }

    /// Sets one; EEXIST, ENODATA by `mode`.
    pub fn setxattr(
        &self,
        ino: InodeId,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
        now: Timestamp,
    ) -> Result<Attr, MetaError> {
        unimplemented!()
    }

    /// Their names.
    pub fn listxattr(&self, ino: InodeId) -> Result<Vec<Vec<u8>>, MetaError> {
        unimplemented!()
    }

    /// Removes one; ENODATA.
    pub fn removexattr(
        &self,
        ino: InodeId,
        name: &[u8],
        now: Timestamp,
    ) -> Result<Attr, MetaError> {
        unimplemented!()
    }

    /// Sign of life, every few seconds.
    pub fn heartbeat(&self, beat: &Beat<'_>) -> Result<Pulse, MetaError> {
        unimplemented!()
    }

    /// This mount has closed an orphan that it held. True: it can be [`Self::purge`]d now.
    pub fn release_hold(&self, ino: InodeId) -> Result<bool, MetaError> {
        unimplemented!()
    }

    /// Removes an orphan that nobody has open. One round trip for each 256 chunks.
    pub fn purge(&self, ino: InodeId) -> Result<Purge, MetaError> {
        unimplemented!()
    }

    /// Orphans that can be purged now, at most `max`: for a background worker.
    pub fn purgeable(&self, max: u32) -> Result<Vec<InodeId>, MetaError> {
        unimplemented!()
    }

    /// A fresh inode number in the shard of `near`; a round trip only when the cached range is
    /// used up. [`Self::create`] calls it.
    pub fn alloc_inode(&self, near: InodeId) -> Result<InodeId, MetaError> {
        unimplemented!()
    }

    /// A fresh slice id; a round trip only when the cached range is used up.
    pub fn alloc_slice(&self) -> Result<SliceId, MetaError> {
        unimplemented!()
    }

    /// How much the volume holds.
    pub fn usage(&self) -> Result<Usage, MetaError> {
        unimplemented!()
    }

    /// Returns when everything acknowledged so far is safe at the volume's durability level
    /// (fsync). No round trip at level `memory`.
    pub fn barrier(&self) -> Result<(), MetaError> {
        unimplemented!()
    }

    /// Calls `on_event` from a thread of its own for each change that another session makes.
    /// Subscribed when this returns.
    pub fn watch(&self, on_event: Box<dyn Fn(Event) + Send + Sync>) -> Result<Watch, MetaError> {
        unimplemented!()
    }

    /// Leaves: holds are dropped, later operations are [`MetaError::Fenced`].
    pub fn end(&self) -> Result<(), MetaError> {
        unimplemented!()
    }
}
