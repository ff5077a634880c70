//! The error number a handler answers with.

use std::{fmt, io};

/// What every handler returns.
pub type FsResult<T> = Result<T, Errno>;

/// A POSIX error number, positive as in `errno.h`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(i32);

impl Errno {
    /// Operation not implemented. For most operations the kernel remembers this answer and
    /// never asks again.
    pub const ENOSYS: Self = Self(libc::ENOSYS);
    /// Input/output error.
    pub const EIO: Self = Self(libc::EIO);
    /// No such file or directory.
    pub const ENOENT: Self = Self(libc::ENOENT);
    /// Interrupted by a signal.
    pub const EINTR: Self = Self(libc::EINTR);
    /// Would block.
    pub const EAGAIN: Self = Self(libc::EAGAIN);
    /// The result does not fit the caller's buffer.
    pub const ERANGE: Self = Self(libc::ERANGE);
    /// Argument too big.
    pub const E2BIG: Self = Self(libc::E2BIG);
    /// Invalid argument.
    pub const EINVAL: Self = Self(libc::EINVAL);

    /// The number, as in `errno.h`.
    pub const fn raw(self) -> i32 {
        self.0
    }

    /// The negative number for a reply header. The kernel refuses replies outside -511..=-1
    /// and would leave the caller waiting for ever, so anything else becomes EIO.
    pub(crate) const fn to_wire(self) -> i32 {
        if self.0 >= 1 && self.0 <= 511 { -self.0 } else { -libc::EIO }
    }
}

impl From<i32> for Errno {
    fn from(raw: i32) -> Self {
        Self(raw)
    }
}

impl From<io::Error> for Errno {
    fn from(error: io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Errno({}: {})", self.0, io::Error::from_raw_os_error(self.0))
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

impl std::error::Error for Errno {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_the_kernel_accepts_reach_the_wire() {
        assert_eq!(Errno::from(libc::ENOENT).to_wire(), -libc::ENOENT);
        for odd in [0, -2, 512, i32::MIN, i32::MAX] {
            assert_eq!(Errno::from(odd).to_wire(), -libc::EIO);
        }
    }
}
