//! Bytes of a request to a typed operation, without copying and without trusting a length.
//!
//! `parse` is a total function: any byte string gives a value or [`Malformed`].

use crate::{
    attr::Time,
    filesystem::{
        CopyRange, FileLock, LockKind, LockRequest, OpenHow, ReadAt, Release, SetAttr, TimeOrNow,
        WriteAt,
    },
    flags::WriteFlags,
    opcode,
};

/// Length of `struct fuse_in_header`.
pub(crate) const HEADER_BYTES: usize = 40;
/// Extension type of a list of supplementary groups (`FUSE_EXT_GROUPS`).
const EXT_GROUPS: u32 = 32;

/// A request that does not follow the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Fewer bytes than the header or the operation's arguments need.
    #[error("request is shorter than its arguments")]
    Truncated,
    /// The length in the header differs from the bytes read.
    #[error("request says it has {said} bytes but {got} were read")]
    Length {
        /// Length in the header.
        said: u32,
        /// Bytes read from the device.
        got: usize,
    },
    /// A name has no terminating NUL.
    #[error("name is not terminated")]
    Unterminated,
    /// A lock is neither read, write nor unlock.
    #[error("unknown lock type {0}")]
    LockType(u32),
}

/// What INIT settled that changes how later requests are laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dialect {
    /// SETXATTR carries the longer argument (`FUSE_SETXATTR_EXT`).
    pub setxattr_ext: bool,
}

/// The part every request has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Length of the request in bytes.
    pub len: u32,
    /// `enum fuse_opcode`.
    pub opcode: u32,
    /// Identifies the request in its reply and in INTERRUPT.
    pub unique: u64,
    /// The inode the request is about.
    pub nodeid: u64,
    /// User of the caller.
    pub uid: u32,
    /// Group of the caller.
    pub gid: u32,
    /// Thread of the caller; 0 when outside this pid namespace.
    pub pid: u32,
    /// Supplementary groups, 4 bytes each (see `CREATE_SUPP_GROUP`).
    pub groups: &'a [u8],
}

/// A decoded request. Field names follow [`Filesystem`](crate::Filesystem)'s parameters.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each variant is the method of Filesystem with its name")]
pub enum Operation<'a> {
    Init {
        major: u32,
        minor: u32,
        max_readahead: u32,
        flags: u64,
    },
    Destroy,
    Interrupt {
        unique: u64,
    },
    Lookup {
        name: &'a [u8],
    },
    Forget {
        nlookup: u64,
    },
    BatchForget(ForgetList<'a>),
    GetAttr {
        fh: Option<u64>,
    },
    SetAttr(SetAttr),
    ReadLink,
    Symlink {
        name: &'a [u8],
        target: &'a [u8],
    },
    MkNod {
        name: &'a [u8],
        mode: u32,
        umask: u32,
        rdev: u32,
    },
    MkDir {
        name: &'a [u8],
        mode: u32,
        umask: u32,
    },
    Unlink {
        name: &'a [u8],
    },
    RmDir {
        name: &'a [u8],
    },
    Rename {
        name: &'a [u8],
        newparent: u64,
        newname: &'a [u8],
        flags: u32,
    },
    Link {
        ino: u64,
        newname: &'a [u8],
    },
    Open(OpenHow),
    Create {
        name: &'a [u8],
        mode: u32,
        umask: u32,
        how: OpenHow,
    },
    TmpFile {
        mode: u32,
        umask: u32,
        how: OpenHow,
    },
    Read(ReadAt),
    Write(WriteAt<'a>),
    StatFs,
    Release(Release),
    Flush {
        fh: u64,
        lock_owner: u64,
    },
    FSync {
        fh: u64,
        datasync: bool,
    },
    SetXAttr {
        name: &'a [u8],
        value: &'a [u8],
        flags: u32,
        acl_kill_sgid: bool,
    },
    GetXAttr {
        name: &'a [u8],
        size: u32,
    },
    ListXAttr {
        size: u32,
    },
    RemoveXAttr {
        name: &'a [u8],
    },
    OpenDir(OpenHow),
    ReadDir {
        fh: u64,
        offset: u64,
        size: u32,
    },
    ReadDirPlus {
        fh: u64,
        offset: u64,
        size: u32,
    },
    ReleaseDir(Release),
    FSyncDir {
        fh: u64,
        datasync: bool,
    },
    Access {
        mask: u32,
    },
    GetLk(LockRequest),
    SetLk(LockRequest),
    SetLkWait(LockRequest),
    FAllocate {
        fh: u64,
        offset: u64,
        length: u64,
        mode: u32,
    },
    LSeek {
        fh: u64,
        offset: u64,
        whence: u32,
    },
    CopyFileRange {
        range: CopyRange,
        wide_reply: bool,
    },
    SyncFs,
    Statx {
        fh: Option<u64>,
        flags: u32,
        mask: u32,
    },
    NotifyReply,
    /// Anything this crate does not serve; answered with ENOSYS.
    Unsupported {
        opcode: u32,
    },
}

/// Inode and lookup counts of one BATCH_FORGET.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForgetList<'a>(&'a [u8]);

impl<'a> ForgetList<'a> {
    /// Pairs of inode and number of lookups to give back.
    pub fn iter(self) -> impl Iterator<Item = (u64, u64)> + use<'a> {
        self.0.chunks_exact(16).map(|pair| {
            let mut cursor = Cursor(pair);
            (cursor.u64().unwrap_or(0), cursor.u64().unwrap_or(0))
        })
    }
}

/// What is left of a request.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.0.split_first_chunk().ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_ne_bytes)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_ne_bytes)
    }

    fn skip(&mut self, count: usize) -> Result<(), Malformed> {
        self.bytes(count).map(|_| ())
    }

    /// A name up to its NUL.
    fn name(&mut self) -> Result<&'a [u8], Malformed> {
        let end = self.0.iter().position(|&byte| byte == 0).ok_or(Malformed::Unterminated)?;
        let name = self.bytes(end)?;
        self.skip(1)?;
        Ok(name)
    }
}

/// Decodes one request as read from `/dev/fuse`.
///
/// # Errors
///
/// The header on its own is returned with the error where it could be read, so that the
/// request can still be answered.
pub fn parse(
    bytes: &[u8],
    dialect: Dialect,
) -> Result<(Header<'_>, Operation<'_>), (Option<Header<'_>>, Malformed)> {
    let (header, body) = header(bytes).map_err(|error| (None, error))?;
    if header.len as usize != bytes.len() {
        let error = Malformed::Length { said: header.len, got: bytes.len() };
        return Err((Some(header), error));
    }
    match operation(header, Cursor(body), dialect) {
        Ok(operation) => Ok((header, operation)),
        Err(error) => Err((Some(header), error)),
    }
}

fn header(bytes: &[u8]) -> Result<(Header<'_>, &[u8]), Malformed> {
    let mut cursor = Cursor(bytes);
    let mut header = Header {
        len: cursor.u32()?,
        opcode: cursor.u32()?,
        unique: cursor.u64()?,
        nodeid: cursor.u64()?,
        uid: cursor.u32()?,
        gid: cursor.u32()?,
        pid: cursor.u32()?,
        groups: &[],
    };
    let ext_bytes = usize::from(cursor.u16()?) * 8;
    cursor.skip(2)?;
    let body_bytes = cursor.0.len().checked_sub(ext_bytes).ok_or(Malformed::Truncated)?;
    let (body, extensions) = cursor.0.split_at(body_bytes);
    header.groups = groups(extensions)?;
    Ok((header, body))
}

/// The group list among the extensions that follow the arguments.
fn groups(extensions: &[u8]) -> Result<&[u8], Malformed> {
    let mut cursor = Cursor(extensions);
    while !cursor.0.is_empty() {
        let size = cursor.u32()? as usize;
        let kind = cursor.u32()?;
        let payload = cursor.bytes(size.checked_sub(8).ok_or(Malformed::Truncated)?)?;
        if kind == EXT_GROUPS {
            let mut list = Cursor(payload);
            let count = list.u32()? as usize;
            return list.bytes(count.checked_mul(4).ok_or(Malformed::Truncated)?);
        }
    }
    Ok(&[])
}

fn operation<'a>(
    header: Header<'a>,
    mut c: Cursor<'a>,
    dialect: Dialect,
) -> Result<Operation<'a>, Malformed> {
    use Operation as Op;
    let c = &mut c;
    Ok(match header.opcode {
        opcode::INIT => init(c)?,
        opcode::DESTROY => Op::Destroy,
        opcode::INTERRUPT => Op::Interrupt { unique: c.u64()? },
        opcode::LOOKUP => Op::Lookup { name: c.name()? },
        opcode::FORGET => Op::Forget { nlookup: c.u64()? },
        opcode::BATCH_FORGET => {
            let count = c.u32()? as usize;
            c.skip(4)?;
            let bytes = count.checked_mul(16).ok_or(Malformed::Truncated)?;
            Op::BatchForget(ForgetList(c.bytes(bytes)?))
        }
        opcode::GETATTR => {
            let flags = c.u32()?;
            c.skip(4)?;
            let fh = c.u64()?;
            Op::GetAttr { fh: (flags & 1 != 0).then_some(fh) }
        }
        opcode::SETATTR => Op::SetAttr(set_attr(c)?),
        opcode::READLINK => Op::ReadLink,
        opcode::SYMLINK => Op::Symlink { name: c.name()?, target: c.name()? },
        opcode::MKNOD => {
            let (mode, rdev, umask) = (c.u32()?, c.u32()?, c.u32()?);
            c.skip(4)?;
            Op::MkNod { name: c.name()?, mode, umask, rdev }
        }
        opcode::MKDIR => {
            let (mode, umask) = (c.u32()?, c.u32()?);
            Op::MkDir { name: c.name()?, mode, umask }
        }
        opcode::UNLINK => Op::Unlink { name: c.name()? },
        opcode::RMDIR => Op::RmDir { name: c.name()? },
        opcode::RENAME => {
            let newparent = c.u64()?;
            Op::Rename { name: c.name()?, newparent, newname: c.name()?, flags: 0 }
        }
        opcode::RENAME2 => {
            let (newparent, flags) = (c.u64()?, c.u32()?);
            c.skip(4)?;
            Op::Rename { name: c.name()?, newparent, newname: c.name()?, flags }
        }
        opcode::LINK => Op::Link { ino: c.u64()?, newname: c.name()? },
        opcode::OPEN => Op::Open(open_how(c)?),
        opcode::OPENDIR => Op::OpenDir(open_how(c)?),
        opcode::CREATE => {
            let (mode, umask, how) = create(c)?;
            Op::Create { name: c.name()?, mode, umask, how }
        }
        opcode::TMPFILE => {
            let (mode, umask, how) = create(c)?;
            Op::TmpFile { mode, umask, how }
        }
        opcode::READ => Op::Read(read_at(c)?),
        opcode::READDIR => {
            let ReadAt { fh, offset, size, .. } = read_at(c)?;
            Op::ReadDir { fh, offset, size }
        }
        opcode::READDIRPLUS => {
            let ReadAt { fh, offset, size, .. } = read_at(c)?;
            Op::ReadDirPlus { fh, offset, size }
        }
        opcode::WRITE => Op::Write(write_at(c)?),
        opcode::STATFS => Op::StatFs,
        opcode::RELEASE => Op::Release(release(c)?),
        opcode::RELEASEDIR => Op::ReleaseDir(release(c)?),
        opcode::FLUSH => {
            let fh = c.u64()?;
            c.skip(8)?;
            Op::Flush { fh, lock_owner: c.u64()? }
        }
        opcode::FSYNC => Op::FSync { fh: c.u64()?, datasync: c.u32()? & 1 != 0 },
        opcode::FSYNCDIR => Op::FSyncDir { fh: c.u64()?, datasync: c.u32()? & 1 != 0 },
        opcode::SETXATTR => {
            let (size, flags) = (c.u32()? as usize, c.u32()?);
            let mut acl_kill_sgid = false;
            if dialect.setxattr_ext {
                acl_kill_sgid = c.u32()? & 1 != 0;
                c.skip(4)?;
            }
            Op::SetXAttr { name: c.name()?, value: c.bytes(size)?, flags, acl_kill_sgid }
        }
        opcode::GETXATTR => {
            let size = c.u32()?;
            c.skip(4)?;
            Op::GetXAttr { name: c.name()?, size }
        }
        opcode::LISTXATTR => Op::ListXAttr { size: c.u32()? },
        opcode::REMOVEXATTR => Op::RemoveXAttr { name: c.name()? },
        opcode::ACCESS => Op::Access { mask: c.u32()? },
        opcode::GETLK => Op::GetLk(lock(c)?),
        opcode::SETLK => Op::SetLk(lock(c)?),
        opcode::SETLKW => Op::SetLkWait(lock(c)?),
        opcode::FALLOCATE => {
            Op::FAllocate { fh: c.u64()?, offset: c.u64()?, length: c.u64()?, mode: c.u32()? }
        }
        opcode::LSEEK => Op::LSeek { fh: c.u64()?, offset: c.u64()?, whence: c.u32()? },
        opcode::COPY_FILE_RANGE => Op::CopyFileRange { range: copy_range(c)?, wide_reply: false },
        opcode::COPY_FILE_RANGE_64 => Op::CopyFileRange { range: copy_range(c)?, wide_reply: true },
        opcode::SYNCFS => Op::SyncFs,
        opcode::STATX => {
            let has_fh = c.u32()? & 1 != 0;
            c.skip(4)?;
            let fh = c.u64()?;
            Op::Statx { fh: has_fh.then_some(fh), flags: c.u32()?, mask: c.u32()? }
        }
        opcode::NOTIFY_REPLY => Op::NotifyReply,
        opcode => Op::Unsupported { opcode },
    })
}

fn init<'a>(c: &mut Cursor<'a>) -> Result<Operation<'a>, Malformed> {
    let (major, minor) = (c.u32()?, c.u32()?);
    // Before 7.6 there was nothing more; the version check will refuse such a kernel.
    let max_readahead = c.u32().unwrap_or(0);
    let low = c.u32().unwrap_or(0);
    let mut flags = u64::from(low);
    if low & (1 << 30) != 0 {
        flags |= u64::from(c.u32()?) << 32;
    }
    Ok(Operation::Init { major, minor, max_readahead, flags })
}

fn set_attr(c: &mut Cursor<'_>) -> Result<SetAttr, Malformed> {
    let valid = c.u32()?;
    c.skip(4)?;
    let (fh, size, lock_owner) = (c.u64()?, c.u64()?, c.u64()?);
    let secs = [c.u64()?, c.u64()?, c.u64()?].map(u64::cast_signed);
    let nanos = [c.u32()?, c.u32()?, c.u32()?];
    let mode = c.u32()?;
    c.skip(4)?;
    let (uid, gid) = (c.u32()?, c.u32()?);
    let has = |bit: u32| valid & (1 << bit) != 0;
    let time = |which: usize| Time { secs: secs[which], nanos: nanos[which] };
    let stamp = |which: usize, set: u32, now: u32| match (has(set), has(now)) {
        (_, true) => Some(TimeOrNow::Now),
        (true, false) => Some(TimeOrNow::At(time(which))),
        (false, false) => None,
    };
    Ok(SetAttr {
        mode: has(0).then_some(mode),
        uid: has(1).then_some(uid),
        gid: has(2).then_some(gid),
        size: has(3).then_some(size),
        atime: stamp(0, 4, 7),
        mtime: stamp(1, 5, 8),
        ctime: has(10).then(|| time(2)),
        fh: has(6).then_some(fh),
        lock_owner: has(9).then_some(lock_owner),
        kill_suidgid: has(11),
    })
}

fn open_how(c: &mut Cursor<'_>) -> Result<OpenHow, Malformed> {
    Ok(OpenHow { flags: c.u32()?.cast_signed(), kill_suidgid: c.u32()? & 1 != 0 })
}

/// `struct fuse_create_in`: mode, umask and how to open.
fn create(c: &mut Cursor<'_>) -> Result<(u32, u32, OpenHow), Malformed> {
    let (flags, mode, umask, open_flags) = (c.u32()?, c.u32()?, c.u32()?, c.u32()?);
    let how = OpenHow { flags: flags.cast_signed(), kill_suidgid: open_flags & 1 != 0 };
    Ok((mode, umask, how))
}

fn read_at(c: &mut Cursor<'_>) -> Result<ReadAt, Malformed> {
    let (fh, offset, size) = (c.u64()?, c.u64()?, c.u32()?);
    let (read_flags, lock_owner, flags) = (c.u32()?, c.u64()?, c.u32()?);
    Ok(ReadAt {
        fh,
        offset,
        size,
        lock_owner: (read_flags & 2 != 0).then_some(lock_owner),
        flags: flags.cast_signed(),
    })
}

fn write_at<'a>(c: &mut Cursor<'a>) -> Result<WriteAt<'a>, Malformed> {
    let (fh, offset, size) = (c.u64()?, c.u64()?, c.u32()? as usize);
    let write_flags = WriteFlags::from_bits(c.u32()?);
    let (lock_owner, flags) = (c.u64()?, c.u32()?);
    c.skip(4)?;
    Ok(WriteAt {
        fh,
        offset,
        data: c.bytes(size)?,
        write_flags,
        lock_owner: write_flags.contains(WriteFlags::LOCKOWNER).then_some(lock_owner),
        flags: flags.cast_signed(),
    })
}

fn release(c: &mut Cursor<'_>) -> Result<Release, Malformed> {
    let (fh, flags, release_flags) = (c.u64()?, c.u32()?, c.u32()?);
    Ok(Release {
        fh,
        flags: flags.cast_signed(),
        lock_owner: c.u64()?,
        flush: release_flags & 1 != 0,
        flock_unlock: release_flags & 2 != 0,
    })
}

fn lock(c: &mut Cursor<'_>) -> Result<LockRequest, Malformed> {
    let (fh, owner, start, end) = (c.u64()?, c.u64()?, c.u64()?, c.u64()?);
    let (kind, pid, lk_flags) = (c.u32()?, c.u32()?, c.u32()?);
    let kind = LockKind::from_raw(kind).ok_or(Malformed::LockType(kind))?;
    Ok(LockRequest {
        fh,
        owner,
        lock: FileLock { start, end, kind, pid },
        flock: lk_flags & 1 != 0,
    })
}

fn copy_range(c: &mut Cursor<'_>) -> Result<CopyRange, Malformed> {
    Ok(CopyRange {
        fh_in: c.u64()?,
        offset_in: c.u64()?,
        ino_out: c.u64()?,
        fh_out: c.u64()?,
        offset_out: c.u64()?,
        len: c.u64()?,
        flags: c.u64()?,
    })
}

#[cfg(test)]
mod tests;
