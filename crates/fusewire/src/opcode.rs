//! Request numbers (`enum fuse_opcode`).

pub(crate) const LOOKUP: u32 = 1;
pub(crate) const FORGET: u32 = 2;
pub(crate) const GETATTR: u32 = 3;
pub(crate) const SETATTR: u32 = 4;
pub(crate) const READLINK: u32 = 5;
pub(crate) const SYMLINK: u32 = 6;
pub(crate) const MKNOD: u32 = 8;
pub(crate) const MKDIR: u32 = 9;
pub(crate) const UNLINK: u32 = 10;
pub(crate) const RMDIR: u32 = 11;
pub(crate) const RENAME: u32 = 12;
pub(crate) const LINK: u32 = 13;
pub(crate) const OPEN: u32 = 14;
pub(crate) const READ: u32 = 15;
pub(crate) const WRITE: u32 = 16;
pub(crate) const STATFS: u32 = 17;
pub(crate) const RELEASE: u32 = 18;
pub(crate) const FSYNC: u32 = 20;
pub(crate) const SETXATTR: u32 = 21;
pub(crate) const GETXATTR: u32 = 22;
pub(crate) const LISTXATTR: u32 = 23;
pub(crate) const REMOVEXATTR: u32 = 24;
pub(crate) const FLUSH: u32 = 25;
pub(crate) const INIT: u32 = 26;
pub(crate) const OPENDIR: u32 = 27;
pub(crate) const READDIR: u32 = 28;
pub(crate) const RELEASEDIR: u32 = 29;
pub(crate) const FSYNCDIR: u32 = 30;
pub(crate) const GETLK: u32 = 31;
pub(crate) const SETLK: u32 = 32;
pub(crate) const SETLKW: u32 = 33;
pub(crate) const ACCESS: u32 = 34;
pub(crate) const CREATE: u32 = 35;
pub(crate) const INTERRUPT: u32 = 36;
pub(crate) const DESTROY: u32 = 38;
pub(crate) const NOTIFY_REPLY: u32 = 41;
pub(crate) const BATCH_FORGET: u32 = 42;
pub(crate) const FALLOCATE: u32 = 43;
pub(crate) const READDIRPLUS: u32 = 44;
pub(crate) const RENAME2: u32 = 45;
pub(crate) const LSEEK: u32 = 46;
pub(crate) const COPY_FILE_RANGE: u32 = 47;
pub(crate) const SYNCFS: u32 = 50;
pub(crate) const TMPFILE: u32 = 51;
pub(crate) const STATX: u32 = 52;
pub(crate) const COPY_FILE_RANGE_64: u32 = 53;

/// The largest request number that is known here.
pub(crate) const MAX: u32 = COPY_FILE_RANGE_64;

/// The word for a request, as in the kernel's documentation, in small letters.
pub(crate) fn name(opcode: u32) -> Option<&'static str> {
    Some(match opcode {
        LOOKUP => "lookup",
        FORGET => "forget",
        GETATTR => "getattr",
        SETATTR => "setattr",
        READLINK => "readlink",
        SYMLINK => "symlink",
        MKNOD => "mknod",
        MKDIR => "mkdir",
        UNLINK => "unlink",
        RMDIR => "rmdir",
        RENAME => "rename",
        LINK => "link",
        OPEN => "open",
        READ => "read",
        WRITE => "write",
        STATFS => "statfs",
        RELEASE => "release",
        FSYNC => "fsync",
        SETXATTR => "setxattr",
        GETXATTR => "getxattr",
        LISTXATTR => "listxattr",
        REMOVEXATTR => "removexattr",
        FLUSH => "flush",
        INIT => "init",
        OPENDIR => "opendir",
        READDIR => "readdir",
        RELEASEDIR => "releasedir",
        FSYNCDIR => "fsyncdir",
        GETLK => "getlk",
        SETLK => "setlk",
        SETLKW => "setlkw",
        ACCESS => "access",
        CREATE => "create",
        INTERRUPT => "interrupt",
        DESTROY => "destroy",
        NOTIFY_REPLY => "notify_reply",
        BATCH_FORGET => "batch_forget",
        FALLOCATE => "fallocate",
        READDIRPLUS => "readdirplus",
        RENAME2 => "rename2",
        LSEEK => "lseek",
        COPY_FILE_RANGE => "copy_file_range",
        SYNCFS => "syncfs",
        TMPFILE => "tmpfile",
        STATX => "statx",
        COPY_FILE_RANGE_64 => "copy_file_range_64",
        _ => return None,
    })
}
