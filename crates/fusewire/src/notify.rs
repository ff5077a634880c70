//! Telling the kernel to drop what it caches.
//!
//! Never call these from a handler for an inode the request is about, or while holding a lock
//! a handler needs: the kernel may wait for that very request before it answers.

use std::{
    io,
    sync::{Arc, Weak},
};

use crate::{body::Body, device::Device};

const INVAL_INODE: i32 = 2;
const INVAL_ENTRY: i32 = 3;
const STORE: i32 = 4;
const DELETE: i32 = 6;
/// `FUSE_EXPIRE_ONLY` of `fuse_notify_inval_entry_out`.
const EXPIRE_ONLY: u32 = 1;

/// Sends notifications for one mount. Cheap to clone; does not keep the mount alive.
///
/// Every method answers true when the kernel acted and false when it does not know the inode
/// or name, or the session is over; the cache holds nothing stale in both cases.
#[derive(Clone, Debug)]
pub struct Notifier(Weak<Device>);

impl Notifier {
    pub(crate) fn new(device: &Arc<Device>) -> Self {
        Self(Arc::downgrade(device))
    }

    /// Drops an inode's attributes and its cached pages from `offset` on, `len` bytes (0: to
    /// the end). A negative `offset` drops attributes only. Dirty pages are written first.
    ///
    /// # Errors
    ///
    /// The kernel refused, with anything but "not known".
    pub fn inval_inode(&self, ino: u64, offset: i64, len: i64) -> io::Result<bool> {
        let body = Body::new().u64(ino).u64(offset.cast_unsigned()).u64(len.cast_unsigned());
        self.send(INVAL_INODE, &[body.as_slice()])
    }

    /// Drops a name (positive or negative) of a directory.
    ///
    /// # Errors
    ///
    /// The kernel refused, with anything but "not known".
    pub fn inval_entry(&self, parent: u64, name: &[u8]) -> io::Result<bool> {
        self.entry(parent, name, 0)
    }

    /// Makes the kernel ask again for a name without detaching what is mounted or open below
    /// it (needs HAS_EXPIRE_ONLY).
    ///
    /// # Errors
    ///
    /// The kernel refused, with anything but "not known".
    pub fn expire_entry(&self, parent: u64, name: &[u8]) -> io::Result<bool> {
        self.entry(parent, name, EXPIRE_ONLY)
    }

    fn entry(&self, parent: u64, name: &[u8], flags: u32) -> io::Result<bool> {
        let body = Body::new().u64(parent).u32(name_len(name)?).u32(flags);
        self.send(INVAL_ENTRY, &[body.as_slice(), name, b"\0"])
    }

    /// A name was removed: drops it if it still leads to `child`, and tells inotify.
    ///
    /// # Errors
    ///
    /// The kernel refused, with anything but "not known": ENOTEMPTY or EBUSY for a directory
    /// in use.
    pub fn delete(&self, parent: u64, child: u64, name: &[u8]) -> io::Result<bool> {
        let body = Body::new().u64(parent).u64(child).u32(name_len(name)?).zeros(4);
        self.send(DELETE, &[body.as_slice(), name, b"\0"])
    }

    /// Puts data into an inode's page cache.
    ///
    /// # Errors
    ///
    /// The kernel refused, with anything but "not known".
    pub fn store(&self, ino: u64, offset: u64, data: &[u8]) -> io::Result<bool> {
        let size = u32::try_from(data.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let body = Body::new().u64(ino).u64(offset).u32(size).zeros(4);
        self.send(STORE, &[body.as_slice(), data])
    }

    fn send(&self, code: i32, parts: &[&[u8]]) -> io::Result<bool> {
        let Some(device) = self.0.upgrade() else { return Ok(false) };
        match device.send(0, code, parts) {
            Ok(()) => Ok(true),
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENODEV | libc::ENOTCONN) => Ok(false),
                _ => Err(error),
            },
        }
    }
}

fn name_len(name: &[u8]) -> io::Result<u32> {
    u32::try_from(name.len()).map_err(|_| io::ErrorKind::InvalidInput.into())
}
