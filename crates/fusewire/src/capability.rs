//! What kernel and file system agree on in INIT.

use crate::{body::Body, decode::Dialect, flags::InitFlags, mountoption::MountOptions};

/// Major version of the protocol; there is no other in use.
pub(crate) const MAJOR: u32 = 7;
/// Oldest minor version served (Linux 5.4).
pub const MINOR_MIN: u32 = 31;
/// Newest minor version whose requests this crate knows.
const MINOR_MAX: u32 = 45;
/// Pages of one request: 1 MiB with 4 KiB pages, the kernel's own default limit.
const MAX_PAGES: u16 = 256;
const PAGE_BYTES: u32 = 4096;

/// What the wire layer itself relies on and always asks for, where offered: large requests,
/// the second flag word, the longer SETXATTR (which only changes decoding), and parallel
/// requests, since handlers are called from many threads anyway.
const ALWAYS: InitFlags = InitFlags::from_bits(
    InitFlags::BIG_WRITES.bits()
        | InitFlags::MAX_PAGES.bits()
        | InitFlags::INIT_EXT.bits()
        | InitFlags::SETXATTR_EXT.bits()
        | InitFlags::ASYNC_READ.bits()
        | InitFlags::PARALLEL_DIROPS.bits(),
);

/// What this crate does not implement and therefore never agrees to.
const NEVER: InitFlags = InitFlags::from_bits(
    InitFlags::SPLICE_WRITE.bits()
        | InitFlags::SPLICE_MOVE.bits()
        | InitFlags::SPLICE_READ.bits()
        | InitFlags::MAP_ALIGNMENT.bits()
        | InitFlags::HAS_INODE_DAX.bits()
        | InitFlags::SECURITY_CTX.bits()
        | InitFlags::PASSTHROUGH.bits()
        | InitFlags::HAS_RESEND.bits()
        | InitFlags::OVER_IO_URING.bits()
        | InitFlags::REQUEST_TIMEOUT.bits(),
);

/// Why the kernel's INIT could not be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The kernel is too old.
    #[error(
        "the kernel speaks FUSE protocol {major}.{minor}, but at least {MAJOR}.{MINOR_MIN} \
         (Linux 5.4) is needed; boot a newer kernel"
    )]
    KernelTooOld {
        /// Major version of the kernel.
        major: u32,
        /// Minor version of the kernel.
        minor: u32,
    },
    /// Something else than INIT came first.
    #[error("the kernel's first request was not INIT")]
    NoInit,
    /// The mount was undone before INIT.
    #[error("the mount was undone before the kernel's first request")]
    Unmounted,
}

/// The kernel's offer, and what the file system wants of it.
#[derive(Clone, Debug)]
pub struct Capabilities {
    offered: InitFlags,
    wanted: InitFlags,
    kernel_minor: u32,
    /// Read-ahead in bytes; at most what the kernel offered.
    pub max_readahead: u32,
    /// Most bytes of one WRITE; at most 1 MiB.
    pub max_write: u32,
    /// Most background requests (read-ahead, write-back, forgets) in flight.
    pub max_background: u16,
    /// Background requests from which the kernel considers the mount congested.
    pub congestion_threshold: u16,
}

impl Capabilities {
    pub(crate) fn new(
        minor: u32,
        max_readahead: u32,
        offered: InitFlags,
        options: &MountOptions,
    ) -> Self {
        let largest = u32::from(MAX_PAGES) * PAGE_BYTES;
        Self {
            offered: offered - NEVER,
            wanted: ALWAYS & offered,
            kernel_minor: minor,
            max_readahead: max_readahead.min(options.max_readahead),
            max_write: options.max_write.clamp(PAGE_BYTES, largest),
            max_background: options.max_background,
            congestion_threshold: options.congestion_threshold,
        }
    }

    /// Minor version of the kernel's protocol (7.x).
    pub fn kernel_minor(&self) -> u32 {
        self.kernel_minor
    }

    /// What can be asked for.
    pub fn offered(&self) -> InitFlags {
        self.offered
    }

    /// What has been asked for so far.
    pub fn wanted(&self) -> InitFlags {
        self.wanted
    }

    /// Asks for `flags`; answers those that the kernel does not offer, which stay off.
    pub fn want(&mut self, flags: InitFlags) -> InitFlags {
        self.wanted |= flags & self.offered;
        flags - self.offered
    }

    /// Withdraws `flags`, also those asked for by default.
    pub fn refuse(&mut self, flags: InitFlags) {
        self.wanted.remove(flags);
    }

    pub(crate) fn dialect(&self) -> Dialect {
        Dialect { setxattr_ext: self.wanted.contains(InitFlags::SETXATTR_EXT) }
    }

    /// `struct fuse_init_out`.
    pub(crate) fn encode(&self) -> Body {
        let bits = self.wanted.bits();
        let max_write = self.max_write.clamp(PAGE_BYTES, u32::from(MAX_PAGES) * PAGE_BYTES);
        Body::new()
            .u32(MAJOR)
            .u32(self.kernel_minor.min(MINOR_MAX))
            .u32(self.max_readahead)
            // The low word; the high word travels in flags2 below.
            .u32((bits & 0xffff_ffff) as u32)
            .u16(self.max_background)
            .u16(self.congestion_threshold)
            .u32(max_write)
            // Timestamps are kept to the nanosecond.
            .u32(1)
            .u16(MAX_PAGES)
            .u16(0)
            .u32((bits >> 32) as u32)
            .zeros(7 * 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_offered_and_implemented_is_agreed_on() {
        let offered = InitFlags::BIG_WRITES
            | InitFlags::POSIX_LOCKS
            | InitFlags::INIT_EXT
            | InitFlags::OVER_IO_URING
            | InitFlags::DIRECT_IO_ALLOW_MMAP;
        let mut caps = Capabilities::new(41, 1 << 20, offered, &MountOptions::default());
        assert!(!caps.wanted().contains(InitFlags::POSIX_LOCKS), "locks only when asked for");
        let wish =
            InitFlags::FLOCK_LOCKS | InitFlags::OVER_IO_URING | InitFlags::DIRECT_IO_ALLOW_MMAP;
        let missing = caps.want(wish);
        assert_eq!(missing, InitFlags::FLOCK_LOCKS | InitFlags::OVER_IO_URING);
        assert!(!caps.dialect().setxattr_ext);

        let body = caps.encode();
        assert_eq!(body.as_slice().len(), 64);
        assert_eq!(&body.as_slice()[4..8], &41u32.to_ne_bytes());
        assert_eq!(&body.as_slice()[32..36], &(1u32 << 4).to_ne_bytes());
    }
}
