//! One method per request; each is a translation and a call.

use crate::convert::{attr, entry, errno, inode, kind, reply, time_change};
use crate::squash::Squash;
use bytes::{BufMut, Bytes, BytesMut};
use ringfs_base::{Errno as BaseErrno, InodeId};
use ringfs_fusewire as wire;
use ringfs_fusewire::{
    AttrReply, Capabilities, Data, DirPlusSink, DirSink, Entry, Errno, FileLock, Filesystem,
    FsResult, InitFlags, OpenFlags, Opened, ReplyLater, Request, Standby, StatFs, WriteFlags,
};
use ringfs_link::{Bystander, about_to_work, set_bystander};
use ringfs_meta::{
    AclKind, FileKind, LockKind, LockOwner, LockRange, NewInode, RenameMode, SetAttr, Writer,
    XattrMode,
};
use ringfs_vfs::{
    Allocation, Caller, LockRequest, Looked, Place, Seek, Times, Vfs, VfsError, WriteMode,
    without_set_id,
};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::sync::Arc;

/// Most bytes copied for one request, which cannot be interrupted; the caller asks for the rest.
const COPY_BYTES_MAX: u64 = 64 << 30;

/// Flags of open(2), rename(2), fallocate(2), lseek(2) and setxattr(2) on Linux that are looked at
/// here.
const O_ACCMODE: i32 = 3;
const O_RDONLY: i32 = 0;
const O_EXCL: i32 = 0o200;
const O_APPEND: i32 = 0o2000;
const RENAME_NOREPLACE: u32 = 1;
const RENAME_EXCHANGE: u32 = 2;
const FALLOC_FL_KEEP_SIZE: u32 = 1;
const FALLOC_FL_PUNCH_HOLE: u32 = 2;
const FALLOC_FL_ZERO_RANGE: u32 = 16;
const SEEK_DATA: u32 = 3;
const SEEK_HOLE: u32 = 4;
const XATTR_CREATE: u32 = 1;
const XATTR_REPLACE: u32 = 2;

/// Offsets of `.` and `..` in a listing; names come after (their cookies are at least
/// `ringfs_meta::DIR_COOKIE_MIN`).
const DOT_OFFSET: u64 = 1;
const DOTDOT_OFFSET: u64 = 2;

/// Names fetched for one request of a listing.
const LISTING_NAMES: u32 = 256;

/// Reads and writes from this size on take so long that waiting requests go to another worker.
const LARGE_BYTES: u32 = 64 << 10;

/// Unit in which `statfs` counts, in bytes.
const STATFS_UNIT_BYTES: u64 = 4096;

pub(crate) struct RingFs {
    vfs: Arc<Vfs>,
    /// Whom root acts as, if it shall have no privileges.
    root_is: Option<Caller>,
}

/// Bit of a handle: opened for reading only, so that its close has nothing to flush.
const HANDLE_READS_ONLY: u64 = 1;

/// The number in a handle.
fn number(fh: u64) -> u64 {
    fh >> 1
}

impl RingFs {
    pub(crate) fn new(vfs: Arc<Vfs>, root_is: Option<Caller>) -> RingFs {
        RingFs { vfs, root_is }
    }

    /// Files opened for reading only are flushed too: only so the kernel tells whose fcntl locks
    /// end with a close.
    fn opened(&self, keep_cache: bool, flags: i32) -> Opened {
        let number = self.vfs.next_handle() << 1;
        let reads_only = flags & O_ACCMODE == O_RDONLY;
        let fh = number | if reads_only { HANDLE_READS_ONLY } else { 0 };
        let flags = if keep_cache { OpenFlags::KEEP_CACHE } else { OpenFlags::empty() };
        Opened { fh, flags }
    }

    /// Whether quotas of owners and groups let the caller pass. On Linux that is who has
    /// `CAP_SYS_RESOURCE`; of callers FUSE tells only the user.
    fn is_privileged(&self, req: &Request<'_>) -> bool {
        req.uid == 0 && self.root_is.is_none()
    }

    /// Who changes data by a request of which the kernel does not tell whether set-id bits stay.
    fn writer(&self, req: &Request<'_>) -> Writer {
        let privileged = self.is_privileged(req);
        Writer { kill_suid: !privileged, privileged }
    }

    fn take_lock(&self, ino: u64, lock: &wire::LockRequest, wait: Option<u64>, reply: ReplyLater) {
        let request = lock_request(lock);
        if lock.lock.kind == wire::LockKind::Unlock {
            return match self.vfs.unlock(inode(ino), &request) {
                Ok(()) => reply.ok(),
                Err(error) => reply.err(errno("unlock", ino, &error)),
            };
        }
        let answer = move |result: Result<(), VfsError>| match result {
            Ok(()) => reply.ok(),
            Err(error) => reply.err(errno("lock", ino, &error)),
        };
        self.vfs.lock(inode(ino), &request, wait, Box::new(answer));
    }

    fn make(
        &self,
        req: &Request<'_>,
        parent: u64,
        name: &[u8],
        (mode, umask): (u32, u32),
        special: Special<'_>,
    ) -> FsResult<Entry> {
        let new = new_inode(req, (mode, umask), special)?;
        let made = self.vfs.make(inode(parent), name, &new);
        made.map(|looked| entry(&looked)).map_err(|e| errno("create", parent, &e))
    }

    /// The permission bits that remain of `perm` (those it has, if none) when somebody without
    /// privileges truncates a file or changes its owner; none if there is nothing to change.
    fn perm_without_set_id(&self, ino: u64, perm: Option<u16>) -> FsResult<Option<u16>> {
        let looked = self.vfs.getattr(inode(ino)).map_err(|e| errno("setattr", ino, &e))?;
        let now = perm.unwrap_or(looked.attr.perm);
        // A directory's set-group-id bit means inheritance and stays.
        let remains = if looked.attr.is_dir() { now } else { without_set_id(now) };
        Ok(if remains == now { perm } else { Some(remains) })
    }

    /// Walks a directory from a listing's offset. `push` answers true when it is full.
    fn list(
        &self,
        dir: u64,
        offset: u64,
        attrs: bool,
        push: &mut dyn FnMut(Listed<'_>) -> bool,
    ) -> FsResult<()> {
        if offset < DOT_OFFSET && push(Listed::Dot(dir, DOT_OFFSET, b".")) {
            return Ok(());
        }
        if offset < DOTDOT_OFFSET {
            let looked = self.vfs.getattr(inode(dir)).map_err(|e| errno("readdir", dir, &e))?;
            let parent = looked.attr.parent.map_or(dir, |p| p.0);
            if push(Listed::Dot(parent, DOTDOT_OFFSET, b"..")) {
                return Ok(());
            }
        }
        let mut after = if offset <= DOTDOT_OFFSET { 0 } else { offset };
        loop {
            let before = self.vfs.begin_listing();
            let page = self
                .vfs
                .readdir(inode(dir), after, LISTING_NAMES, attrs)
                .map_err(|e| errno("readdir", dir, &e))?;
            for item in &page.items {
                let full = match item.attr {
                    Some(found) => {
                        let looked = self.vfs.enter_listed(inode(dir), &item.name, found, before);
                        let full = push(Listed::Known(&looked, item.cookie, &item.name));
                        if full {
                            self.vfs.forget(item.ino, 1);
                        }
                        full
                    }
                    None => push(Listed::Name(item.ino, item.kind, item.cookie, &item.name)),
                };
                if full {
                    return Ok(());
                }
            }
            match page.next {
                // One request of the kernel is answered by what one page brings, unless the
                // page is empty: an empty answer would mean the end.
                Some(next) if page.items.is_empty() => after = next,
                _ => return Ok(()),
            }
        }
    }
}

/// One line of a listing.
enum Listed<'a> {
    Dot(u64, u64, &'static [u8]),
    Known(&'a Looked, u64, &'a [u8]),
    Name(InodeId, FileKind, u64, &'a [u8]),
}

/// What a new inode needs besides its mode.
enum Special<'a> {
    None,
    Directory,
    Device(u32),
    Target(&'a [u8]),
}

fn new_inode<'a>(
    req: &Request<'_>,
    (mode, umask): (u32, u32),
    special: Special<'a>,
) -> FsResult<NewInode<'a>> {
    let invalid = Errno::from(i32::from(BaseErrno::EINVAL.0));
    let (file_kind, rdev, target): (_, u64, &[u8]) = match special {
        Special::Directory => (FileKind::Directory, 0, b""),
        Special::Target(target) => (FileKind::Symlink, 0, target),
        // A mode without type bits means a regular file, as mknod(2) has it.
        Special::None | Special::Device(_) if mode & 0o170_000 == 0 => (FileKind::File, 0, b""),
        Special::None => (FileKind::from_mode(mode as u16).ok_or(invalid)?, 0, b""),
        Special::Device(rdev) => {
            let kind = FileKind::from_mode(mode as u16).ok_or(invalid)?;
            (kind, if kind.is_device() { u64::from(rdev) } else { 0 }, b"")
        }
    };
    Ok(NewInode {
        kind: file_kind,
        perm: (mode & 0o7777) as u16,
        umask: (umask & 0o777) as u16,
        uid: req.uid,
        gid: req.gid,
        rdev,
        target,
    })
}

fn lock_request(lock: &wire::LockRequest) -> LockRequest {
    let range = LockRange { first: lock.lock.start, last: lock.lock.end };
    LockRequest {
        kind: if lock.flock { LockKind::Flock } else { LockKind::Posix },
        owner: LockOwner(lock.owner),
        handle: lock.fh,
        range: if lock.flock { LockRange::WHOLE } else { range },
        exclusive: lock.lock.kind == wire::LockKind::Write,
        pid: lock.lock.pid,
    }
}

/// Lets another worker read the kernel's requests while this one waits for a server.
struct WhileWaiting(Standby);

impl Bystander for WhileWaiting {
    fn watched(&self) -> Option<BorrowedFd<'_>> {
        self.0.is_reader().then(|| self.0.as_fd())
    }
    fn ready(&self) {
        self.0.hand_over();
    }
}

impl Filesystem for RingFs {
    fn hands_over(&self) -> bool {
        true
    }

    fn worker_begins(&self, standby: Standby) {
        set_bystander(Rc::new(WhileWaiting(standby)));
    }

    fn init(&self, caps: &mut Capabilities) {
        // Pages are dropped when we say so (an open that finds another version, a change pushed
        // by another mount), not whenever mtime moves: it moves with every write of our own.
        caps.want(
            InitFlags::EXPLICIT_INVAL_DATA
                | InitFlags::DO_READDIRPLUS
                | InitFlags::READDIRPLUS_AUTO
                | InitFlags::CACHE_SYMLINKS
                | InitFlags::ASYNC_DIO
                | InitFlags::POSIX_LOCKS
                | InitFlags::FLOCK_LOCKS
                // The kernel checks ACLs; what is made in a directory with a default ACL is not
                // subject to the umask, which is therefore left to us.
                | InitFlags::POSIX_ACL
                | InitFlags::DONT_MASK
                // Set-id bits are taken away where the kernel says so, and it need not ask for
                // security.capability before every write.
                | InitFlags::HANDLE_KILLPRIV_V2,
        );
        caps.refuse(InitFlags::AUTO_INVAL_DATA);
    }

    fn admit(
        &self,
        req: &mut Request<'_>,
        ino: u64,
        operation: &mut wire::Operation<'_>,
    ) -> FsResult<()> {
        match self.root_is {
            Some(caller) if req.uid == 0 => {
                Squash { vfs: &self.vfs, caller }.admit(req, ino, operation)
            }
            _ => Ok(()),
        }
    }

    fn lookup(&self, _: &Request<'_>, parent: u64, name: &[u8]) -> FsResult<Entry> {
        match self.vfs.lookup(inode(parent), name) {
            Ok(looked) => Ok(entry(&looked)),
            // The kernel may remember that there is no such name.
            Err((VfsError::Posix(BaseErrno::ENOENT), ttl)) if !ttl.is_zero() => {
                Ok(Entry::negative(ttl))
            }
            Err((error, _)) => Err(errno("lookup", parent, &error)),
        }
    }

    fn forget(&self, ino: u64, nlookup: u64) {
        self.vfs.forget(inode(ino), nlookup);
    }

    fn getattr(&self, _: &Request<'_>, ino: u64, _: Option<u64>) -> FsResult<AttrReply> {
        self.vfs.getattr(inode(ino)).map(|l| reply(&l)).map_err(|e| errno("getattr", ino, &e))
    }

    fn statx(
        &self,
        _: &Request<'_>,
        ino: u64,
        _: Option<u64>,
        _: u32,
        _: u32,
    ) -> FsResult<wire::StatxReply> {
        /// STATX_BASIC_STATS and STATX_BTIME of statx(2).
        const FILLED: u32 = 0x7ff | 0x800;
        let looked = self.vfs.getattr(inode(ino)).map_err(|e| errno("statx", ino, &e))?;
        let born = looked.attr.btime;
        let statx = wire::Statx {
            mask: FILLED,
            attr: attr(&looked.attr),
            btime: wire::Time { secs: born.seconds(), nanos: born.subsec_nanos() },
            attributes: 0,
            attributes_mask: 0,
        };
        Ok(wire::StatxReply { statx, ttl: looked.ttl })
    }

    fn setattr(&self, req: &Request<'_>, ino: u64, set: &wire::SetAttr) -> FsResult<AttrReply> {
        let mut perm = set.mode.map(|mode| (mode & 0o7777) as u16);
        if set.kill_suidgid {
            perm = self.perm_without_set_id(ino, perm)?;
        }
        let change = SetAttr {
            perm,
            uid: set.uid,
            gid: set.gid,
            size: set.size,
            privileged: self.is_privileged(req),
            ..SetAttr::default()
        };
        let times = Times { atime: set.atime.map(time_change), mtime: set.mtime.map(time_change) };
        let changed = self.vfs.setattr(inode(ino), change, times);
        changed.map(|looked| reply(&looked)).map_err(|e| errno("setattr", ino, &e))
    }

    fn readlink(&self, _: &Request<'_>, ino: u64) -> FsResult<Bytes> {
        self.vfs.readlink(inode(ino)).map_err(|e| errno("readlink", ino, &e))
    }

    fn mknod(
        &self,
        req: &Request<'_>,
        parent: u64,
        name: &[u8],
        mode: u32,
        umask: u32,
        rdev: u32,
    ) -> FsResult<Entry> {
        self.make(req, parent, name, (mode, umask), Special::Device(rdev))
    }

    fn mkdir(
        &self,
        req: &Request<'_>,
        parent: u64,
        name: &[u8],
        mode: u32,
        umask: u32,
    ) -> FsResult<Entry> {
        self.make(req, parent, name, (mode, umask), Special::Directory)
    }

    fn symlink(
        &self,
        req: &Request<'_>,
        parent: u64,
        name: &[u8],
        target: &[u8],
    ) -> FsResult<Entry> {
        self.make(req, parent, name, (0o777, 0), Special::Target(target))
    }

    fn unlink(&self, _: &Request<'_>, parent: u64, name: &[u8]) -> FsResult<()> {
        self.vfs.unlink(inode(parent), name).map_err(|e| errno("unlink", parent, &e))
    }

    fn rmdir(&self, _: &Request<'_>, parent: u64, name: &[u8]) -> FsResult<()> {
        self.vfs.rmdir(inode(parent), name).map_err(|e| errno("rmdir", parent, &e))
    }

    fn rename(
        &self,
        _: &Request<'_>,
        parent: u64,
        name: &[u8],
        newparent: u64,
        newname: &[u8],
        flags: u32,
    ) -> FsResult<()> {
        let mode = match flags {
            0 => RenameMode::Replace,
            RENAME_NOREPLACE => RenameMode::NoReplace,
            RENAME_EXCHANGE => RenameMode::Exchange,
            _ => return Err(Errno::EINVAL),
        };
        self.vfs
            .rename((inode(parent), name), (inode(newparent), newname), mode)
            .map_err(|e| errno("rename", parent, &e))
    }

    fn link(&self, _: &Request<'_>, ino: u64, newparent: u64, newname: &[u8]) -> FsResult<Entry> {
        let linked = self.vfs.link(inode(ino), inode(newparent), newname);
        linked.map(|looked| entry(&looked)).map_err(|e| errno("link", ino, &e))
    }

    fn open(&self, _: &Request<'_>, ino: u64, how: wire::OpenHow) -> FsResult<Opened> {
        let done = self.vfs.open(inode(ino)).map_err(|e| errno("open", ino, &e))?;
        Ok(self.opened(done.keep_cache, how.flags))
    }

    fn create(
        &self,
        req: &Request<'_>,
        parent: u64,
        name: &[u8],
        mode: u32,
        umask: u32,
        how: wire::OpenHow,
    ) -> FsResult<(Entry, Opened)> {
        let new = new_inode(req, (mode & 0o7777, umask), Special::None)?;
        let made = self.vfs.create(inode(parent), name, &new, true);
        let (looked, done) = match made {
            // The kernel takes what we open here for a new file, whose permissions it need not
            // check and which O_TRUNC need not empty. Another mount has made it, so the kernel
            // must look again: it does upon ESTALE, and then finds a file to open.
            Err(VfsError::Posix(BaseErrno::EEXIST)) if how.flags & O_EXCL == 0 => {
                return Err(Errno::from(i32::from(BaseErrno::ESTALE.0)));
            }
            made => made.map_err(|e| errno("create", parent, &e))?,
        };
        Ok((entry(&looked), self.opened(done.keep_cache, how.flags)))
    }

    fn read(&self, _: &Request<'_>, ino: u64, at: wire::ReadAt) -> FsResult<Data> {
        if at.size >= LARGE_BYTES {
            about_to_work();
        }
        let pieces =
            self.vfs.read(inode(ino), at.offset, at.size).map_err(|e| errno("read", ino, &e))?;
        let mut data = Data::empty();
        pieces.into_iter().for_each(|piece| data.push(piece));
        Ok(data)
    }

    fn write(&self, req: &Request<'_>, ino: u64, at: wire::WriteAt<'_>) -> FsResult<u32> {
        if at.data.len() >= LARGE_BYTES as usize {
            about_to_work();
        }
        // Pages of a mapping are written back where they lie, whatever the file was opened for.
        let mapped = at.write_flags.contains(WriteFlags::CACHE);
        let append = at.flags & O_APPEND != 0 && !mapped;
        // Nobody knows who wrote to a mapping.
        let privileged = self.is_privileged(req) && !mapped;
        let kill_suid = at.write_flags.contains(WriteFlags::KILL_SUIDGID);
        self.vfs
            .write(inode(ino), at.offset, at.data, WriteMode { append, kill_suid, privileged })
            .map(|()| at.data.len() as u32)
            .map_err(|e| errno("write", ino, &e))
    }

    fn flush(&self, _: &Request<'_>, ino: u64, fh: u64, owner: u64) -> FsResult<()> {
        let closed = if fh & HANDLE_READS_ONLY == 0 {
            self.vfs.close(inode(ino), number(fh))
        } else {
            Ok(())
        };
        self.vfs.close_locks(inode(ino), LockOwner(owner));
        closed.map_err(|e| errno("close", ino, &e))
    }

    fn release(&self, _: &Request<'_>, ino: u64, release: wire::Release) -> FsResult<()> {
        let flock = release.flock_unlock.then_some(LockOwner(release.lock_owner));
        self.vfs.release_locks(inode(ino), release.fh, flock);
        self.vfs.release(inode(ino));
        Ok(())
    }

    fn getlk(&self, _: &Request<'_>, ino: u64, lock: &wire::LockRequest) -> FsResult<FileLock> {
        let found = self
            .vfs
            .test_lock(inode(ino), &lock_request(lock))
            .map_err(|e| errno("getlk", ino, &e))?;
        Ok(match found {
            None => FileLock { kind: wire::LockKind::Unlock, pid: 0, ..lock.lock },
            Some((found, ours)) => FileLock {
                start: found.range.first,
                end: found.range.last,
                kind: if found.exclusive { wire::LockKind::Write } else { wire::LockKind::Read },
                // The number of a process elsewhere means nothing here; the kernel shows 0.
                pid: if ours { found.pid } else { 0 },
            },
        })
    }

    fn setlk_later(&self, _: &Request<'_>, ino: u64, lock: &wire::LockRequest, reply: ReplyLater) {
        self.take_lock(ino, lock, None, reply);
    }

    fn setlkw(&self, _: &Request<'_>, ino: u64, lock: &wire::LockRequest, reply: ReplyLater) {
        let request = reply.unique();
        self.take_lock(ino, lock, Some(request), reply);
    }

    fn interrupt(&self, unique: u64) {
        self.vfs.interrupt_lock(unique);
    }

    fn fsync(&self, _: &Request<'_>, ino: u64, fh: u64, _datasync: bool) -> FsResult<()> {
        self.vfs.fsync(inode(ino), number(fh)).map_err(|e| errno("fsync", ino, &e))
    }

    fn fallocate(
        &self,
        req: &Request<'_>,
        ino: u64,
        _: u64,
        offset: u64,
        len: u64,
        mode: u32,
    ) -> FsResult<()> {
        const PUNCH_KEEP_SIZE: u32 = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
        const ZERO_KEEP_SIZE: u32 = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
        let how = match mode {
            0 => Allocation::Extend,
            FALLOC_FL_KEEP_SIZE => Allocation::Reserve,
            PUNCH_KEEP_SIZE => Allocation::Punch,
            FALLOC_FL_ZERO_RANGE => Allocation::Zero,
            ZERO_KEEP_SIZE => Allocation::ZeroKeepSize,
            _ => return Err(Errno::from(i32::from(BaseErrno::EOPNOTSUPP.0))),
        };
        let done = self.vfs.fallocate(inode(ino), offset, len, how, self.writer(req));
        done.map_err(|e| errno("fallocate", ino, &e))
    }

    fn lseek(&self, _: &Request<'_>, ino: u64, _: u64, offset: u64, whence: u32) -> FsResult<u64> {
        let what = match whence {
            SEEK_DATA => Seek::Data,
            SEEK_HOLE => Seek::Hole,
            // The kernel knows where all others lead.
            _ => return Err(Errno::EINVAL),
        };
        self.vfs.seek(inode(ino), offset, what).map_err(|e| errno("lseek", ino, &e))
    }

    fn copy_file_range(
        &self,
        req: &Request<'_>,
        ino: u64,
        range: wire::CopyRange,
    ) -> FsResult<u64> {
        if range.flags != 0 {
            return Err(Errno::EINVAL);
        }
        let from = Place { ino: inode(ino), offset: range.offset_in };
        let to = Place { ino: inode(range.ino_out), offset: range.offset_out };
        // Inline data and the like are read and written by this thread.
        about_to_work();
        let len = range.len.min(COPY_BYTES_MAX);
        let done = self.vfs.copy_range(from, to, len, self.writer(req));
        done.map_err(|e| errno("copy_file_range", ino, &e))
    }

    fn tmpfile(
        &self,
        req: &Request<'_>,
        parent: u64,
        mode: u32,
        umask: u32,
        how: wire::OpenHow,
    ) -> FsResult<(Entry, Opened)> {
        let new = new_inode(req, (mode & 0o7777, umask), Special::None)?;
        let made = self.vfs.create_nameless(inode(parent), &new);
        let (looked, done) = made.map_err(|e| errno("tmpfile", parent, &e))?;
        Ok((entry(&looked), self.opened(done.keep_cache, how.flags)))
    }

    fn syncfs(&self, _: &Request<'_>, ino: u64) -> FsResult<()> {
        self.vfs.sync().map_err(|e| errno("syncfs", ino, &e))
    }

    fn opendir(&self, _: &Request<'_>, _: u64, _: wire::OpenHow) -> FsResult<Opened> {
        Ok(Opened::default())
    }

    fn readdir(
        &self,
        _: &Request<'_>,
        ino: u64,
        _: u64,
        offset: u64,
        sink: &mut DirSink<'_>,
    ) -> FsResult<()> {
        self.list(ino, offset, false, &mut |listed| match listed {
            Listed::Dot(ino, next, name) => sink.push(ino, next, wire::FileKind::Directory, name),
            Listed::Known(looked, next, name) => {
                sink.push(looked.attr.ino.0, next, kind(looked.attr.kind), name)
            }
            Listed::Name(ino, file_kind, next, name) => {
                sink.push(ino.0, next, kind(file_kind), name)
            }
        })
    }

    fn readdirplus(
        &self,
        _: &Request<'_>,
        ino: u64,
        _: u64,
        offset: u64,
        sink: &mut DirPlusSink<'_>,
    ) -> FsResult<()> {
        self.list(ino, offset, true, &mut |listed| match listed {
            Listed::Dot(ino, next, name) => {
                sink.push_name(ino, next, wire::FileKind::Directory, name)
            }
            Listed::Known(looked, next, name) => sink.push(&entry(looked), next, name),
            Listed::Name(ino, file_kind, next, name) => {
                sink.push_name(ino.0, next, kind(file_kind), name)
            }
        })
    }

    fn releasedir(&self, _: &Request<'_>, _: u64, _: wire::Release) -> FsResult<()> {
        Ok(())
    }

    fn fsyncdir(&self, _: &Request<'_>, ino: u64, fh: u64, _: bool) -> FsResult<()> {
        self.vfs.fsync(inode(ino), number(fh)).map_err(|e| errno("fsync", ino, &e))
    }

    fn statfs(&self, _: &Request<'_>, ino: u64) -> FsResult<StatFs> {
        let stat = self.vfs.statfs(inode(ino)).map_err(|e| errno("statfs", ino, &e))?;
        let free = stat.free_bytes / STATFS_UNIT_BYTES;
        Ok(StatFs {
            blocks: stat.total_bytes / STATFS_UNIT_BYTES,
            bfree: free,
            bavail: free,
            files: stat.inodes + stat.inodes_free,
            ffree: stat.inodes_free,
            bsize: STATFS_UNIT_BYTES as u32,
            namelen: ringfs_base::limits::NAME_BYTES_MAX as u32,
            frsize: STATFS_UNIT_BYTES as u32,
        })
    }

    fn setxattr(
        &self,
        _: &Request<'_>,
        ino: u64,
        name: &[u8],
        value: &[u8],
        flags: u32,
        acl_kill_sgid: bool,
    ) -> FsResult<()> {
        /// Both flags of setxattr(2) at once; the kernel lets them through.
        const XATTR_BOTH: u32 = XATTR_CREATE | XATTR_REPLACE;
        if let Some(kind) = AclKind::of_xattr(name) {
            let set = self.vfs.set_acl(inode(ino), kind, Some(value), acl_kill_sgid);
            return set.map_err(|e| errno("setxattr", ino, &e));
        }
        check_namespace(name)?;
        let mode = match flags {
            0 => XattrMode::Either,
            XATTR_CREATE => XattrMode::Create,
            XATTR_REPLACE => XattrMode::Replace,
            XATTR_BOTH => XattrMode::CreateAndReplace,
            _ => return Err(Errno::EINVAL),
        };
        self.vfs.setxattr(inode(ino), name, value, mode).map_err(|e| errno("setxattr", ino, &e))
    }

    fn getxattr(&self, _: &Request<'_>, ino: u64, name: &[u8]) -> FsResult<Bytes> {
        if AclKind::of_xattr(name).is_none() {
            check_namespace(name)?;
        }
        self.vfs.getxattr(inode(ino), name).map_err(|e| errno("getxattr", ino, &e))
    }

    fn listxattr(&self, req: &Request<'_>, ino: u64) -> FsResult<Bytes> {
        let names = self.vfs.listxattr(inode(ino)).map_err(|e| errno("listxattr", ino, &e))?;
        let mut out = BytesMut::new();
        // The kernel lets only the privileged read and set them, but leaves lists to us.
        let shown = |name: &Vec<u8>| req.uid == 0 || !name.starts_with(b"trusted.");
        for name in names.into_iter().filter(shown) {
            out.put_slice(&name);
            out.put_u8(0);
        }
        Ok(out.freeze())
    }

    fn removexattr(&self, _: &Request<'_>, ino: u64, name: &[u8]) -> FsResult<()> {
        if let Some(kind) = AclKind::of_xattr(name) {
            let set = self.vfs.set_acl(inode(ino), kind, None, false);
            return set.map_err(|e| errno("removexattr", ino, &e));
        }
        check_namespace(name)?;
        self.vfs.removexattr(inode(ino), name).map_err(|e| errno("removexattr", ino, &e))
    }
}

/// The name spaces that there are, as on ext4. Of what the system keeps there are ACLs only; others
/// must not seem to have an effect.
fn check_namespace(name: &[u8]) -> FsResult<()> {
    let spaces: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
    match spaces.iter().find_map(|space| name.strip_prefix(*space)) {
        Some([]) => Err(Errno::EINVAL),
        Some(_) => Ok(()),
        None => Err(Errno::from(i32::from(BaseErrno::EOPNOTSUPP.0))),
    }
}
