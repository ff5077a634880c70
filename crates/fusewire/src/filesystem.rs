//! What a file system implements: one method per request of the kernel.
//!
//! Methods are called on worker threads, many at once. Names are bytes without "/" and NUL.
//! Inode and handle numbers are the file system's own; [`ROOT_INO`](crate::ROOT_INO) is the
//! root.

use crate::{
    attr::{AttrReply, Entry, StatFs, StatxReply, Time},
    capability::Capabilities,
    data::Data,
    decode::Operation,
    directory::{DirPlusSink, DirSink},
    errno::{Errno, FsResult},
    flags::{OpenFlags, WriteFlags},
    lockwait::ReplyLater,
    reader_role::Standby,
};

/// Who asks, and under which number.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Number of the request; [`Filesystem::interrupt`] names it again.
    pub unique: u64,
    /// Effective user of the caller.
    pub uid: u32,
    /// Effective group of the caller.
    pub gid: u32,
    /// Thread id of the caller; 0 for requests of the kernel itself or from outside this pid
    /// namespace.
    pub pid: u32,
    pub(crate) groups: &'a [u8],
}

impl Request<'_> {
    /// Supplementary groups the kernel attached to a creating request: at most the parent
    /// directory's group when the caller is a member (needs `CREATE_SUPP_GROUP`).
    pub fn supplementary_groups(&self) -> impl Iterator<Item = u32> {
        self.groups
            .chunks_exact(4)
            .filter_map(|raw| raw.first_chunk().copied().map(u32::from_ne_bytes))
    }
}

/// A timestamp to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeOrNow {
    /// The file system's current time.
    Now,
    /// This time.
    At(Time),
}

/// What a SETATTR changes; `None` is unchanged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetAttr {
    /// Permission bits (with type bits as they are).
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// New size in bytes.
    pub size: Option<u64>,
    /// Access time.
    pub atime: Option<TimeOrNow>,
    /// Modification time.
    pub mtime: Option<TimeOrNow>,
    /// Change time, sent with WRITEBACK_CACHE only.
    pub ctime: Option<Time>,
    /// The handle it came through (ftruncate).
    pub fh: Option<u64>,
    /// Lock owner of a truncation.
    pub lock_owner: Option<u64>,
    /// suid and sgid bits must be cleared (with HANDLE_KILLPRIV_V2).
    pub kill_suidgid: bool,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenHow {
    /// `open(2)` flags without O_CREAT, O_EXCL and O_NOCTTY; O_TRUNC only with ATOMIC_O_TRUNC.
    pub flags: i32,
    /// suid and sgid bits must be cleared if the file is truncated (with HANDLE_KILLPRIV_V2).
    pub kill_suidgid: bool,
}

/// An opened handle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// The handle's number, passed back in every request through it.
    pub fh: u64,
    /// How the kernel shall treat it.
    pub flags: OpenFlags,
}

/// Where a READ reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadAt {
    /// Handle.
    pub fh: u64,
    /// First byte.
    pub offset: u64,
    /// Most bytes to answer.
    pub size: u32,
    /// Lock owner, where mandatory locks would matter.
    pub lock_owner: Option<u64>,
    /// The handle's current `open(2)` flags.
    pub flags: i32,
}

/// What a WRITE writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteAt<'a> {
    /// Handle.
    pub fh: u64,
    /// First byte.
    pub offset: u64,
    /// The bytes.
    pub data: &'a [u8],
    /// What kind of write.
    pub write_flags: WriteFlags,
    /// Lock owner, where mandatory locks would matter.
    pub lock_owner: Option<u64>,
    /// The handle's current `open(2)` flags.
    pub flags: i32,
}

/// The end of a handle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Release {
    /// Handle.
    pub fh: u64,
    /// `open(2)` flags.
    pub flags: i32,
    /// Lock owner whose flock ends with the handle.
    pub lock_owner: u64,
    /// A flush is wanted first.
    pub flush: bool,
    /// The handle's flock locks must be dropped.
    pub flock_unlock: bool,
}

/// Kind of a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockKind {
    /// Shared.
    Read,
    /// Exclusive.
    Write,
    /// No lock: to remove one, or "none conflicts" in an answer.
    Unlock,
}

impl LockKind {
    pub(crate) fn from_raw(raw: u32) -> Option<Self> {
        match i32::try_from(raw).ok()? {
            libc::F_RDLCK => Some(Self::Read),
            libc::F_WRLCK => Some(Self::Write),
            libc::F_UNLCK => Some(Self::Unlock),
            _ => None,
        }
    }

    pub(crate) const fn to_raw(self) -> u32 {
        match self {
            Self::Read => libc::F_RDLCK.cast_unsigned(),
            Self::Write => libc::F_WRLCK.cast_unsigned(),
            Self::Unlock => libc::F_UNLCK.cast_unsigned(),
        }
    }
}

/// A byte-range lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileLock {
    /// First byte.
    pub start: u64,
    /// Last byte, inclusive; `i64::MAX` is end of file.
    pub end: u64,
    /// Kind.
    pub kind: LockKind,
    /// Process holding it.
    pub pid: u32,
}

/// A request for, or about, a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockRequest {
    /// Handle.
    pub fh: u64,
    /// Whose lock: a process for POSIX locks, an open file for flock.
    pub owner: u64,
    /// Range and kind.
    pub lock: FileLock,
    /// A `flock(2)` lock, not a POSIX one. The two never conflict with each other.
    pub flock: bool,
}

/// The arguments of `copy_file_range(2)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyRange {
    /// Source handle.
    pub fh_in: u64,
    /// First byte in the source.
    pub offset_in: u64,
    /// Target inode.
    pub ino_out: u64,
    /// Target handle.
    pub fh_out: u64,
    /// First byte in the target.
    pub offset_out: u64,
    /// Bytes to copy at most.
    pub len: u64,
    /// Flags; none is defined yet.
    pub flags: u64,
}

/// A file system. Every method has a default that answers ENOSYS (or does nothing, where the
/// kernel expects no answer). See `fuse.h` and the kernel's `fs/fuse` for the requests.
///
/// A method that panics answers EIO to its request; the mount goes on.
#[expect(unused_variables, reason = "defaults ignore their parameters, whose names document")]
pub trait Filesystem: Send + Sync + 'static {
    /// Called once before anything else: choose among what the kernel offers.
    fn init(&self, caps: &mut Capabilities) {}

    /// Called once after the last request, when the mount is gone.
    fn destroy(&self) {}

    /// Whether methods call [`Standby::hand_over`] before they wait for anything but a short
    /// lock. Then the worker that read a request stays the reader while it serves it, which
    /// saves waking another thread; otherwise another reads while a method runs.
    fn hands_over(&self) -> bool {
        false
    }

    /// A worker thread begins. Runs on that thread; the file system may keep `standby` there.
    fn worker_begins(&self, standby: Standby) {}

    /// Runs before each request that a method serves, and may refuse or change it: the place for a
    /// check of its own on who asks. Waiting for a lock does not come here: it needs an open file.
    fn admit(
        &self,
        req: &mut Request<'_>,
        ino: u64,
        operation: &mut Operation<'_>,
    ) -> FsResult<()> {
        Ok(())
    }

    /// Finds a name. A positive entry counts one lookup until `forget`.
    fn lookup(&self, req: &Request<'_>, parent: u64, name: &[u8]) -> FsResult<Entry> {
        Err(Errno::ENOSYS)
    }

    /// The kernel gives back `nlookup` lookups of an inode.
    fn forget(&self, ino: u64, nlookup: u64) {}

    /// Attributes; through a handle where the kernel has one at hand.
    fn getattr(&self, req: &Request<'_>, ino: u64, fh: Option<u64>) -> FsResult<AttrReply> {
        Err(Errno::ENOSYS)
    }

    /// Attributes with birth time. ENOSYS makes the kernel use `getattr` from then on.
    fn statx(
        &self,
        req: &Request<'_>,
        ino: u64,
        fh: Option<u64>,
        flags: u32,
        mask: u32,
    ) -> FsResult<StatxReply> {
        Err(Errno::ENOSYS)
    }

    /// Changes attributes, answers the new ones.
    fn setattr(&self, req: &Request<'_>, ino: u64, set: &SetAttr) -> FsResult<AttrReply> {
        Err(Errno::ENOSYS)
    }

    /// Target of a symbolic link.
    fn readlink(&self, req: &Request<'_>, ino: u64) -> FsResult<bytes::Bytes> {
        Err(Errno::ENOSYS)
    }

    /// Creates a file of any kind but directory. `mode` has the umask applied unless DONT_MASK.
    fn mknod(
        &self,
        req: &Request<'_>,
        parent: u64,
        name: &[u8],
        mode: u32,
        umask: u32,
        rdev: u32,
    ) -> FsResult<Entry> {
        Err(Errno::ENOSYS)
    }

    /// Creates a directory.
    fn mkdir(
        &self,
        req: &Request<'_>,
        parent: u64,
        name: &[u8],
        mode: u32,
        umask: u32,
    ) -> FsResult<Entry> {
        Err(Errno::ENOSYS)
    }

    /// Creates a symbolic link to `target`.
    fn symlink(
        &self,
        req: &Request<'_>,
        parent: u64,
        name: &[u8],
        target: &[u8],
    ) -> FsResult<Entry> {
        Err(Errno::ENOSYS)
    }

    /// Removes a name that is not a directory.
    fn unlink(&self, req: &Request<'_>, parent: u64, name: &[u8]) -> FsResult<()> {
        Err(Errno::ENOSYS)
    }

    /// Removes an empty directory.
    fn rmdir(&self, req: &Request<'_>, parent: u64, name: &[u8]) -> FsResult<()> {
        Err(Errno::ENOSYS)
    }

    /// Renames; `flags` are `RENAME_NOREPLACE`, `RENAME_EXCHANGE`, `RENAME_WHITEOUT`.
    fn rename(
        &self,
        req: &Request<'_>,
        parent: u64,
        name: &[u8],
        newparent: u64,
        newname: &[u8],
        flags: u32,
    ) -> FsResult<()> {
        Err(Errno::ENOSYS)
    }

    /// Gives an inode another name.
    fn link(&self, req: &Request<'_>, ino: u64, newparent: u64, newname: &[u8]) -> FsResult<Entry> {
        Err(Errno::ENOSYS)
    }

    /// Opens a file. With NO_OPEN_SUPPORT, ENOSYS means "handles are not needed".
    fn open(&self, req: &Request<'_>, ino: u64, how: OpenHow) -> FsResult<Opened> {
        Err(Errno::ENOSYS)
    }

    /// Creates and opens in one step. ENOSYS makes the kernel use `mknod` and `open`.
    fn create(
        &self,
        req: &Request<'_>,
        parent: u64,
        name: &[u8],
        mode: u32,
        umask: u32,
        how: OpenHow,
    ) -> FsResult<(Entry, Opened)> {
        Err(Errno::ENOSYS)
    }

    /// Creates and opens a file without a name (O_TMPFILE).
    fn tmpfile(
        &self,
        req: &Request<'_>,
        parent: u64,
        mode: u32,
        umask: u32,
        how: OpenHow,
    ) -> FsResult<(Entry, Opened)> {
        Err(Errno::ENOSYS)
    }

    /// Reads. More than `at.size` bytes are cut off.
    fn read(&self, req: &Request<'_>, ino: u64, at: ReadAt) -> FsResult<Data> {
        Err(Errno::ENOSYS)
    }

    /// Writes; answers the number of bytes written.
    fn write(&self, req: &Request<'_>, ino: u64, at: WriteAt<'_>) -> FsResult<u32> {
        Err(Errno::ENOSYS)
    }

    /// A descriptor was closed; the result is that of `close(2)`. POSIX locks of `lock_owner`
    /// end here.
    fn flush(&self, req: &Request<'_>, ino: u64, fh: u64, lock_owner: u64) -> FsResult<()> {
        Err(Errno::ENOSYS)
    }

    /// The last reference to a handle is gone. Nobody waits for the result.
    fn release(&self, req: &Request<'_>, ino: u64, release: Release) -> FsResult<()> {
        Err(Errno::ENOSYS)
    }

    /// Makes the file durable.
    fn fsync(&self, req: &Request<'_>, ino: u64, fh: u64, datasync: bool) -> FsResult<()> {
        Err(Errno::ENOSYS)
    }

    /// Opens a directory. With NO_OPENDIR_SUPPORT, ENOSYS means "handles are not needed".
    fn opendir(&self, req: &Request<'_>, ino: u64, how: OpenHow) -> FsResult<Opened> {
        Err(Errno::ENOSYS)
    }

    /// Lists names from `offset` on (0, or a `next_offset` pushed before) until `sink` is full.
    fn readdir(
        &self,
        req: &Request<'_>,
        ino: u64,
        fh: u64,
        offset: u64,
        sink: &mut DirSink<'_>,
    ) -> FsResult<()> {
        Err(Errno::ENOSYS)
    }

    /// Lists names with attributes.
    fn readdirplus(
        &self,
        req: &Request<'_>,
        ino: u64,
        fh: u64,
        offset: u64,
        sink: &mut DirPlusSink<'_>,
    ) -> FsResult<()> {
        Err(Errno::ENOSYS)
    }

    /// The last reference to a directory handle is gone.
    fn releasedir(&self, req: &Request<'_>, ino: u64, release: Release) -> FsResult<()> {
        Err(Errno::ENOSYS)
    }

    /// Makes a directory durable.
    fn fsyncdir(&self, req: &Request<'_>, ino: u64, fh: u64, datasync: bool) -> FsResult<()> {
        Err(Errno::ENOSYS)
    }

    /// Size and free space.
    fn statfs(&self, req: &Request<'_>, ino: u64) -> FsResult<StatFs> {
        Err(Errno::ENOSYS)
    }

    /// Sets an extended attribute; `flags` are `XATTR_CREATE`, `XATTR_REPLACE`.
    /// `acl_kill_sgid`: the sgid bit must be cleared with it.
    fn setxattr(
        &self,
        req: &Request<'_>,
        ino: u64,
        name: &[u8],
        value: &[u8],
        flags: u32,
        acl_kill_sgid: bool,
    ) -> FsResult<()> {
        Err(Errno::ENOSYS)
    }

    /// The full value; asking for its size and ERANGE are settled by this crate.
    fn getxattr(&self, req: &Request<'_>, ino: u64, name: &[u8]) -> FsResult<bytes::Bytes> {
        Err(Errno::ENOSYS)
    }

    /// All names, each followed by NUL.
    fn listxattr(&self, req: &Request<'_>, ino: u64) -> FsResult<bytes::Bytes> {
        Err(Errno::ENOSYS)
    }

    /// Removes an extended attribute.
    fn removexattr(&self, req: &Request<'_>, ino: u64, name: &[u8]) -> FsResult<()> {
        Err(Errno::ENOSYS)
    }

    /// `access(2)`; not asked with `default_permissions`.
    fn access(&self, req: &Request<'_>, ino: u64, mask: u32) -> FsResult<()> {
        Err(Errno::ENOSYS)
    }

    /// The first lock that conflicts with `lock`, or one of kind `Unlock`.
    fn getlk(&self, req: &Request<'_>, ino: u64, lock: &LockRequest) -> FsResult<FileLock> {
        Err(Errno::ENOSYS)
    }

    /// Sets or removes a lock without waiting; EAGAIN when another conflicts.
    fn setlk(&self, req: &Request<'_>, ino: u64, lock: &LockRequest) -> FsResult<()> {
        Err(Errno::ENOSYS)
    }

    /// As [`setlk`](Self::setlk), answered by any thread whenever the result is known: whoever
    /// must make the kernel drop pages first may not do so on a thread that serves requests.
    fn setlk_later(&self, req: &Request<'_>, ino: u64, lock: &LockRequest, reply: ReplyLater) {
        match self.setlk(req, ino, lock) {
            Ok(()) => reply.ok(),
            Err(errno) => reply.err(errno),
        }
    }

    /// Sets a lock, waiting for conflicting ones: return at once and answer `reply` whenever
    /// the lock is granted. A signal to the waiter arrives as [`interrupt`](Self::interrupt)
    /// with `req.unique`, never before this method has returned.
    fn setlkw(&self, req: &Request<'_>, ino: u64, lock: &LockRequest, reply: ReplyLater) {
        reply.err(Errno::ENOSYS);
    }

    /// The caller of request `unique` got a signal. A waiting `setlkw` shall answer EINTR.
    /// For other requests it may arrive during the handler or after its answer, and unknown
    /// numbers must be ignored.
    fn interrupt(&self, unique: u64) {}

    /// Allocates, punches or zeroes a range; `mode` as in `fallocate(2)`.
    fn fallocate(
        &self,
        req: &Request<'_>,
        ino: u64,
        fh: u64,
        offset: u64,
        length: u64,
        mode: u32,
    ) -> FsResult<()> {
        Err(Errno::ENOSYS)
    }

    /// SEEK_DATA and SEEK_HOLE.
    fn lseek(
        &self,
        req: &Request<'_>,
        ino: u64,
        fh: u64,
        offset: u64,
        whence: u32,
    ) -> FsResult<u64> {
        Err(Errno::ENOSYS)
    }

    /// Copies inside the file system; answers the bytes copied.
    fn copy_file_range(&self, req: &Request<'_>, ino: u64, range: CopyRange) -> FsResult<u64> {
        Err(Errno::ENOSYS)
    }

    /// `syncfs(2)`. Kernels send it only to file systems mounted by privileged servers.
    fn syncfs(&self, req: &Request<'_>, ino: u64) -> FsResult<()> {
        Err(Errno::ENOSYS)
    }
}
