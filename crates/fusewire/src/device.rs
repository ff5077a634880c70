//! One open channel to the kernel: `/dev/fuse` or a clone of it.

use std::{
    fs::File,
    io::{self, IoSlice},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

/// `_IOR(229, 0, uint32_t)`.
const FUSE_DEV_IOC_CLONE: libc::c_ulong = 0x8004_e500;
/// Length of `struct fuse_out_header`.
const OUT_HEADER_BYTES: usize = 16;
/// Slices written without allocating: the header and this many less one.
const SLICES_INLINE: usize = 16;

/// How a reply fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// The kernel has it.
    Taken,
    /// The kernel no longer waits for it (mount aborted or gone).
    Unwanted,
    /// The kernel refused it and the caller got EIO instead.
    Refused,
}

/// What a read from the channel gave.
#[derive(Debug)]
pub(crate) enum Received {
    /// A request of this many bytes is in the buffer.
    Request(usize),
    /// Nothing; read again.
    Again,
    /// The mount is gone.
    Unmounted,
}

/// An open channel. Every reply must go through the channel its request came from.
#[derive(Debug)]
pub(crate) struct Device(OwnedFd);

impl Device {
    pub(crate) const PATH: &'static str = "/dev/fuse";

    /// Opens a channel that is not bound to a mount yet.
    pub(crate) fn open() -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(Self::PATH)?;
        Ok(Self(file.into()))
    }

    pub(crate) fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// A channel that swallows replies.
    #[cfg(test)]
    pub(crate) fn sink() -> io::Result<Self> {
        Ok(Self(File::options().read(true).write(true).open("/dev/null")?.into()))
    }

    /// Another channel to the same mount, so that workers do not contend for one queue.
    pub(crate) fn clone_channel(&self) -> io::Result<Self> {
        let clone = Self::open()?;
        let source = self.0.as_raw_fd().cast_unsigned();
        // SAFETY: the ioctl reads one u32, the descriptor to clone from.
        let result =
            unsafe { libc::ioctl(clone.0.as_raw_fd(), FUSE_DEV_IOC_CLONE, &raw const source) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(clone) }
    }

    /// Waits for the next request.
    ///
    /// # Errors
    ///
    /// Only those that leave the channel useless.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        use rustix::io::Errno as E;
        match rustix::io::read(&self.0, buffer) {
            Ok(len) => Ok(Received::Request(len)),
            // ENOENT: the request was interrupted while it was being copied.
            Err(E::INTR | E::AGAIN | E::NOENT) => Ok(Received::Again),
            Err(E::NODEV | E::CONNABORTED) => Ok(Received::Unmounted),
            Err(error) => Err(error.into()),
        }
    }

    /// Answers a request; `error` is 0 or negative. A reply the kernel refuses is replaced by
    /// EIO, for otherwise the caller would wait for ever.
    pub(crate) fn answer(&self, unique: u64, error: i32, parts: &[&[u8]]) -> Delivery {
        match self.send(unique, error, parts) {
            Ok(()) => Delivery::Taken,
            Err(error) if is_gone(&error) => Delivery::Unwanted,
            Err(error) => {
                tracing::error!(unique, %error, "the kernel refused a reply, answering EIO");
                match self.send(unique, -libc::EIO, &[]) {
                    Err(error) if !is_gone(&error) => {
                        tracing::error!(unique, %error, "the kernel refused EIO too");
                    }
                    _ => {}
                }
                Delivery::Refused
            }
        }
    }

    /// Writes one message: a reply, or with `unique` 0 a notification whose code is `error`.
    pub(crate) fn send(&self, unique: u64, error: i32, parts: &[&[u8]]) -> io::Result<()> {
        let payload: usize = parts.iter().map(|part| part.len()).sum();
        let len = u32::try_from(OUT_HEADER_BYTES + payload)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut header = [0; OUT_HEADER_BYTES];
        header[..4].copy_from_slice(&len.to_ne_bytes());
        header[4..8].copy_from_slice(&error.to_ne_bytes());
        header[8..].copy_from_slice(&unique.to_ne_bytes());
        let written = if parts.len() < SLICES_INLINE {
            let mut slices = [IoSlice::new(&[]); SLICES_INLINE];
            slices[0] = IoSlice::new(&header);
            for (slice, part) in slices[1..].iter_mut().zip(parts) {
                *slice = IoSlice::new(part);
            }
            rustix::io::writev(&self.0, &slices[..=parts.len()])?
        } else {
            let slices: Vec<_> = std::iter::once(&header[..])
                .chain(parts.iter().copied())
                .map(IoSlice::new)
                .collect();
            rustix::io::writev(&self.0, &slices)?
        };
        debug_assert_eq!(written, len as usize, "the device takes a message whole or not at all");
        Ok(())
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether the kernel has stopped waiting: request unknown, or mount gone.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV | libc::ENOTCONN | libc::EPERM))
}
