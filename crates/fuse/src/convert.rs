//! Between the kernel's types and ours. Errors are mapped here and nowhere else.

use ringfs_base::{InodeId, Timestamp};
use ringfs_fusewire as wire;
use ringfs_meta::{Attr, FileKind};
use ringfs_vfs::{Looked, TimeChange, VfsError};

/// Preferred size of reads and writes that `stat` names, in bytes.
const IO_BYTES: u32 = 1 << 20;

/// Unit of `st_blocks`, fixed by POSIX.
const STAT_BLOCK_BYTES: u64 = 512;

pub(crate) fn kind(kind: FileKind) -> wire::FileKind {
    match kind {
        FileKind::File => wire::FileKind::Regular,
        FileKind::Directory => wire::FileKind::Directory,
        FileKind::Symlink => wire::FileKind::Symlink,
        FileKind::Fifo => wire::FileKind::Fifo,
        FileKind::Socket => wire::FileKind::Socket,
        FileKind::CharDevice => wire::FileKind::CharDevice,
        FileKind::BlockDevice => wire::FileKind::BlockDevice,
    }
}

pub(crate) fn attr(attr: &Attr) -> wire::Attr {
    // A directory's size tells how many names it has, in the unit of one small entry; programs
    // only look whether it is zero.
    let size = if attr.is_dir() { 4096.max(u64::from(attr.entries) * 32) } else { attr.size };
    wire::Attr {
        ino: attr.ino.0,
        size,
        blocks: size.div_ceil(STAT_BLOCK_BYTES),
        atime: time(attr.atime),
        mtime: time(attr.mtime),
        ctime: time(attr.ctime),
        mode: u32::from(attr.mode()),
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev as u32,
        blksize: IO_BYTES,
    }
}

fn time(at: Timestamp) -> wire::Time {
    wire::Time { secs: at.seconds(), nanos: at.subsec_nanos() }
}

pub(crate) fn entry(looked: &Looked) -> wire::Entry {
    wire::Entry {
        ino: looked.attr.ino.0,
        generation: 0,
        attr: attr(&looked.attr),
        entry_ttl: looked.ttl,
        attr_ttl: looked.ttl,
    }
}

pub(crate) fn reply(looked: &Looked) -> wire::AttrReply {
    wire::AttrReply { attr: attr(&looked.attr), ttl: looked.ttl }
}

pub(crate) fn time_change(time: wire::TimeOrNow) -> TimeChange {
    match time {
        wire::TimeOrNow::Now => TimeChange::Now,
        wire::TimeOrNow::At(at) => TimeChange::At(Timestamp::from_parts(at.secs, at.nanos)),
    }
}

/// The error number for the kernel. What is not the program's fault is also logged, since a
/// bare EIO tells an operator nothing.
pub(crate) fn errno(what: &'static str, ino: u64, error: &VfsError) -> wire::Errno {
    if !matches!(error, VfsError::Posix(_)) {
        tracing::error!(ino, "{what} failed: {error}");
    }
    wire::Errno::from(i32::from(error.errno().0))
}

pub(crate) fn inode(ino: u64) -> InodeId {
    InodeId(ino)
}
