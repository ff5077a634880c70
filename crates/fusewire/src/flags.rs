//! The protocol's bit sets as types.
//!
//! Bits unknown to this crate are kept, so that what a newer kernel says is not lost on the way
//! to a log line.

macro_rules! flag_set {
    ($(#[$meta:meta])* $name:ident: $repr:ty {
        $($(#[$flag_meta:meta])* $flag:ident = $bit:expr;)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub struct $name($repr);

        impl $name {
            $($(#[$flag_meta])* pub const $flag: Self = Self(1 << $bit);)*

            /// No bit set.
            pub const fn empty() -> Self {
                Self(0)
            }
            /// The set with exactly these bits, unknown ones included.
            pub const fn from_bits(bits: $repr) -> Self {
                Self(bits)
            }
            /// The bits as on the wire.
            pub const fn bits(self) -> $repr {
                self.0
            }
            /// Whether every bit of `other` is set.
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }
            /// Sets the bits of `other`.
            pub fn insert(&mut self, other: Self) {
                self.0 |= other.0;
            }
            /// Clears the bits of `other`.
            pub fn remove(&mut self, other: Self) {
                self.0 &= !other.0;
            }
        }

        impl std::ops::BitOr for $name {
            type Output = Self;
            fn bitor(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }
        }
        impl std::ops::BitOrAssign for $name {
            fn bitor_assign(&mut self, other: Self) {
                self.0 |= other.0;
            }
        }
        impl std::ops::BitAnd for $name {
            type Output = Self;
            fn bitand(self, other: Self) -> Self {
                Self(self.0 & other.0)
            }
        }
        impl std::ops::Sub for $name {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let mut rest = self.0;
                let mut names: Vec<&str> = Vec::new();
                $(if rest & (1 << $bit) != 0 {
                    rest &= !(1 << $bit);
                    names.push(stringify!($flag));
                })*
                write!(f, "{}({}", stringify!($name), names.join(" | "))?;
                if rest != 0 {
                    write!(f, " + {rest:#x}")?;
                }
                f.write_str(")")
            }
        }
    };
}

flag_set! {
    /// What the kernel offers and the file system may ask for in INIT (`FUSE_*` init flags; the
    /// bits from 32 up travel in `flags2`).
    InitFlags: u64 {
        /// Several reads of one handle may be in flight.
        ASYNC_READ = 0;
        /// Ask the file system about POSIX locks (else the kernel keeps them itself).
        POSIX_LOCKS = 1;
        /// O_TRUNC is passed to open instead of a separate setattr.
        ATOMIC_O_TRUNC = 3;
        /// Inodes can be looked up by number ("." and ".."), for NFS export.
        EXPORT_SUPPORT = 4;
        /// Writes larger than a page.
        BIG_WRITES = 5;
        /// The file system applies the umask itself.
        DONT_MASK = 6;
        /// Kernel supports splice writes (unused here).
        SPLICE_WRITE = 7;
        /// Kernel supports moving spliced pages (unused here).
        SPLICE_MOVE = 8;
        /// Kernel supports splice reads (unused here).
        SPLICE_READ = 9;
        /// Ask the file system about flock locks.
        FLOCK_LOCKS = 10;
        /// ioctl on directories.
        HAS_IOCTL_DIR = 11;
        /// Drop cached pages when a getattr shows another mtime or size.
        AUTO_INVAL_DATA = 12;
        /// Use READDIRPLUS.
        DO_READDIRPLUS = 13;
        /// Choose between READDIR and READDIRPLUS by how the directory is used.
        READDIRPLUS_AUTO = 14;
        /// Direct I/O may be asynchronous.
        ASYNC_DIO = 15;
        /// Buffered writes stay in the kernel's page cache.
        WRITEBACK_CACHE = 16;
        /// ENOSYS from open means "no open needed".
        NO_OPEN_SUPPORT = 17;
        /// Lookups and readdirs of one directory may run in parallel.
        PARALLEL_DIROPS = 18;
        /// The file system clears suid/sgid/capabilities itself (first form).
        HANDLE_KILLPRIV = 19;
        /// POSIX ACLs, checked by the kernel, stored as xattrs.
        POSIX_ACL = 20;
        /// Reads of an aborted device fail with ECONNABORTED.
        ABORT_ERROR = 21;
        /// `max_pages` of the INIT reply is meaningful.
        MAX_PAGES = 22;
        /// Cache symlink targets.
        CACHE_SYMLINKS = 23;
        /// ENOSYS from opendir means "no opendir needed".
        NO_OPENDIR_SUPPORT = 24;
        /// Cached pages are only dropped when the file system says so.
        EXPLICIT_INVAL_DATA = 25;
        /// `map_alignment` of the INIT reply is meaningful (DAX).
        MAP_ALIGNMENT = 26;
        /// The kernel understands submounts.
        SUBMOUNTS = 27;
        /// suid/sgid clearing is announced per request (`kill_suidgid`).
        HANDLE_KILLPRIV_V2 = 28;
        /// The longer SETXATTR request.
        SETXATTR_EXT = 29;
        /// `flags2` is meaningful.
        INIT_EXT = 30;
        /// Security contexts are attached to creating requests.
        SECURITY_CTX = 32;
        /// DAX per inode.
        HAS_INODE_DAX = 33;
        /// A matching supplementary group is attached to creating requests.
        CREATE_SUPP_GROUP = 34;
        /// Entries can be expired without being unhashed.
        HAS_EXPIRE_ONLY = 35;
        /// Shared mmap of a file opened with DIRECT_IO.
        DIRECT_IO_ALLOW_MMAP = 36;
        /// Reads and writes may bypass the daemon.
        PASSTHROUGH = 37;
        /// Explicitly no NFS export.
        NO_EXPORT_SUPPORT = 38;
        /// Pending requests can be sent again.
        HAS_RESEND = 39;
        /// Id-mapped mounts.
        ALLOW_IDMAP = 40;
        /// Requests through io_uring.
        OVER_IO_URING = 41;
        /// The kernel aborts the mount when a request takes too long.
        REQUEST_TIMEOUT = 42;
    }
}

flag_set! {
    /// How the kernel shall treat an opened handle (`FOPEN_*`).
    OpenFlags: u32 {
        /// Bypass the page cache.
        DIRECT_IO = 0;
        /// Keep pages cached from earlier opens.
        KEEP_CACHE = 1;
        /// lseek fails.
        NONSEEKABLE = 2;
        /// Cache the directory's listing.
        CACHE_DIR = 3;
        /// No file position at all.
        STREAM = 4;
        /// No FLUSH on close.
        NOFLUSH = 5;
        /// Direct writes of one inode may run in parallel.
        PARALLEL_DIRECT_WRITES = 6;
    }
}

flag_set! {
    /// What kind of write a WRITE request is (`FUSE_WRITE_*`).
    WriteFlags: u32 {
        /// Written back from the page cache: the request's uid, gid, pid and the handle may not
        /// be the writer's.
        CACHE = 0;
        /// The lock owner field is valid.
        LOCKOWNER = 1;
        /// suid and sgid bits must be cleared.
        KILL_SUIDGID = 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_behave_like_sets_and_keep_unknown_bits() {
        let mut set = OpenFlags::DIRECT_IO | OpenFlags::NOFLUSH;
        assert!(set.contains(OpenFlags::NOFLUSH));
        set.remove(OpenFlags::NOFLUSH);
        assert_eq!(set, OpenFlags::DIRECT_IO);
        let odd = WriteFlags::from_bits(0x102);
        assert_eq!(odd.bits(), 0x102);
        assert_eq!(format!("{odd:?}"), "WriteFlags(LOCKOWNER + 0x100)");
        assert_eq!(InitFlags::DIRECT_IO_ALLOW_MMAP.bits(), 1 << 36);
    }
}
