//! The Linux FUSE kernel protocol, spoken directly to `/dev/fuse`.
//!
//! A request travels through this crate in one straight line:
//!
//! 1. [`Mount`] attaches a `/dev/fuse` descriptor to a directory, as root with `mount(2)`, else
//!    through the setuid `fusermount3`.
//! 2. [`Session`] answers the kernel's INIT ([`Capabilities`] is what both sides agreed on) and
//!    runs worker threads; each owns a clone of the descriptor and one page-aligned buffer.
//! 3. A worker reads one request, [`parse`] decodes it without copying, and the matching method
//!    of [`Filesystem`] is called on that thread. Its result is written back with one `writev`,
//!    so that data of a read is never copied in user space.
//! 4. [`Notifier`] is the other direction: it tells the kernel to drop what it caches.
//!
//! Two things existing bindings do not offer are the reason this crate exists. A lock wait
//! (`F_SETLKW`, `flock`) is answered later through [`ReplyLater`], holds no thread and can be
//! interrupted by a signal; and a panic in a handler answers EIO instead of killing the mount.
//!
//! The numbers and layouts follow `include/uapi/linux/fuse.h`; the protocol spoken is 7.31 up.

mod attr;
mod body;
mod capability;
mod data;
mod decode;
mod device;
mod directory;
mod dispatch;
mod errno;
mod filesystem;
mod flags;
mod fusermount;
mod lockwait;
mod meter;
mod mount;
mod mountinfo;
mod mountoption;
mod notify;
mod opcode;
mod pagebuf;
mod readahead;
mod reader_role;
mod session;
mod worker;

pub use attr::{Attr, AttrReply, Entry, FileKind, StatFs, Statx, StatxReply, Time};
pub use capability::{Capabilities, HandshakeError, MINOR_MIN};
pub use data::Data;
pub use decode::{Dialect, Header, Malformed, Operation, parse};
pub use directory::{DirPlusSink, DirSink};
pub use errno::{Errno, FsResult};
pub use filesystem::{
    CopyRange, FileLock, Filesystem, LockKind, LockRequest, OpenHow, Opened, ReadAt, Release,
    Request, SetAttr, TimeOrNow, WriteAt,
};
pub use flags::{InitFlags, OpenFlags, WriteFlags};
pub use lockwait::ReplyLater;
pub use meter::{Meter, REQUEST_MAX, Served, request_name};
pub use mount::{Mount, MountError, Unmounter, unmount_path};
pub use mountoption::{MountOptions, WORKERS_MAX_DEFAULT};
pub use notify::Notifier;
pub use reader_role::Standby;
pub use session::{Running, Session};

/// The inode number of the mount's root, fixed by the protocol.
pub const ROOT_INO: u64 = 1;
