//! A worker's request buffer: page-aligned anonymous memory, touched only as far as used.

use std::{io, ops::Range, ptr::NonNull};

/// Anonymous private mapping. A kernel copy into a page-aligned buffer is cheaper, and unlike a
/// zeroed heap block the megabyte is not touched until a large write arrives.
pub(crate) struct PageBuf {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is owned by this value alone and has no thread affinity.
unsafe impl Send for PageBuf {}

impl PageBuf {
    pub(crate) fn new(len: usize) -> io::Result<Self> {
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice aliases nothing.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, len })
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: start..start+len is mapped, initialised to zero and borrowed through self.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }

    pub(crate) fn slice(&self, range: Range<usize>) -> &[u8] {
        // SAFETY: as above, shared.
        let whole = unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) };
        &whole[range]
    }
}

impl Drop for PageBuf {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `new`; no borrow outlives self.
        let result = unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert_eq!(result, 0);
    }
}
