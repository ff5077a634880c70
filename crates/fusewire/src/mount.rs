//! Attaching `/dev/fuse` to a directory and detaching it again.

use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::{AsFd, AsRawFd},
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::mount::UnmountFlags;

use crate::{device::Device, fusermount, mountinfo, mountoption::MountOptions, readahead};

/// Why mounting failed, found inside the `io::Error` (`error.get_ref()` and a downcast).
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// A daemon died and left its mount behind; error kind `NotConnected`.
    #[error("{} is a mount whose daemon has died; unmount it first", mountpoint.display())]
    Stale {
        /// The directory.
        mountpoint: PathBuf,
    },
    /// Not a directory; error kind `NotADirectory`.
    #[error("{} is not a directory", mountpoint.display())]
    NotADirectory {
        /// The path.
        mountpoint: PathBuf,
    },
    /// The mountpoint could not be examined.
    #[error("cannot use {} as a mountpoint: {source}", mountpoint.display())]
    Mountpoint {
        /// The path.
        mountpoint: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `/dev/fuse` could not be opened.
    #[error("cannot open /dev/fuse: {source}; is the fuse module loaded (modprobe fuse)?")]
    Device {
        /// Why.
        source: io::Error,
    },
    /// `mount(2)` failed.
    #[error("cannot mount on {}: {source}", mountpoint.display())]
    Refused {
        /// The directory.
        mountpoint: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `fusermount3` failed.
    #[error("fusermount3 failed on {}: {message}", mountpoint.display())]
    Helper {
        /// The directory.
        mountpoint: PathBuf,
        /// What it said.
        message: String,
    },
}

impl MountError {
    fn into_io(self) -> io::Error {
        let kind = match &self {
            Self::Stale { .. } => io::ErrorKind::NotConnected,
            Self::NotADirectory { .. } => io::ErrorKind::NotADirectory,
            Self::Mountpoint { source, .. }
            | Self::Device { source }
            | Self::Refused { source, .. } => source.kind(),
            Self::Helper { .. } => io::ErrorKind::Other,
        };
        io::Error::new(kind, self)
    }
}

/// Unmounts one particular mount, from any thread. Does nothing once it is gone.
#[derive(Clone, Debug)]
pub struct Unmounter {
    mountpoint: PathBuf,
    /// "major:minor" of the mount; unknown where /proc is not available.
    device: Option<String>,
}

impl Unmounter {
    /// The directory.
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// Unmounts; fails with `ResourceBusy` while files are open.
    ///
    /// # Errors
    ///
    /// As `umount2(2)`.
    pub fn unmount(&self) -> io::Result<()> {
        if self.is_mounted()? { detach(&self.mountpoint, false) } else { Ok(()) }
    }

    /// Takes the mount out of the tree at once; it ends when the last open file is closed.
    ///
    /// # Errors
    ///
    /// As `umount2(2)`.
    pub fn unmount_lazy(&self) -> io::Result<()> {
        if self.is_mounted()? { detach(&self.mountpoint, true) } else { Ok(()) }
    }

    /// Fails every request in flight and all later ones, then takes the mount out of the tree:
    /// for files still open when there is no time to wait. Needs root.
    ///
    /// # Errors
    ///
    /// As `umount2(2)`.
    pub fn unmount_force(&self) -> io::Result<()> {
        if !self.is_mounted()? {
            return Ok(());
        }
        // Answers EBUSY for open files, but the requests have been failed by then.
        match rustix::mount::unmount(&self.mountpoint, UnmountFlags::FORCE) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::BUSY) => self.unmount_lazy(),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether our mount, and not another, is on top at the mountpoint.
    pub fn is_mounted(&self) -> io::Result<bool> {
        let Some(ours) = &self.device else { return Ok(true) };
        Ok(mountinfo::top_mount(&self.mountpoint)?.is_some_and(|top| top.device == *ours))
    }
}

/// Unmounts whatever FUSE mount is at `path`, also one whose daemon has died.
///
/// # Errors
///
/// `NotFound` when there is none; else as `umount2(2)`.
pub fn unmount_path(path: &Path, lazy: bool) -> io::Result<()> {
    let path = mountinfo::absolute(path)?;
    let top = mountinfo::top_mount(&path)?;
    if !top.is_some_and(|top| top.fstype == "fuse" || top.fstype.starts_with("fuse.")) {
        let message = format!("no FUSE file system is mounted on {}", path.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, message));
    }
    detach(&path, lazy)
}

fn detach(mountpoint: &Path, lazy: bool) -> io::Result<()> {
    let flags = if lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    let flags = flags | UnmountFlags::NOFOLLOW;
    match rustix::mount::unmount(mountpoint, flags) {
        Err(rustix::io::Errno::PERM) => fusermount::unmount(mountpoint, lazy),
        result => result.map_err(Into::into),
    }
}

/// A mount. Unmounts when dropped.
#[derive(Debug)]
pub struct Mount {
    unmounter: Unmounter,
    device: Option<Arc<Device>>,
}

impl Mount {
    /// Mounts on a directory: with `mount(2)` where permitted, else through `fusermount3`.
    ///
    /// # Errors
    ///
    /// [`MountError`] inside; kind `NotConnected` when a dead daemon's mount is in the way.
    pub fn new(mountpoint: &Path, options: &MountOptions) -> io::Result<Self> {
        let root_mode = examine(mountpoint).map_err(MountError::into_io)?;
        let mountpoint = fs::canonicalize(mountpoint)?;
        let device = if rustix::process::geteuid().is_root() {
            match mount_directly(&mountpoint, options, root_mode) {
                // Root without CAP_SYS_ADMIN, as in a container.
                Err(MountError::Refused { source, .. })
                    if source.kind() == io::ErrorKind::PermissionDenied =>
                {
                    fusermount::mount(&mountpoint, options)?
                }
                result => result.map_err(MountError::into_io)?,
            }
        } else {
            fusermount::mount(&mountpoint, options)?
        };
        let identity = match mountinfo::top_mount(&mountpoint) {
            Ok(top) => top.map(|top| top.device),
            Err(error) => {
                tracing::warn!(%error, "cannot read mountinfo, unmounting will go by path alone");
                None
            }
        };
        if let Some(device) = &identity {
            readahead::widen(device, options.max_readahead);
        }
        let unmounter = Unmounter { mountpoint, device: identity };
        Ok(Self { unmounter, device: Some(Arc::new(device)) })
    }

    /// The directory.
    pub fn mountpoint(&self) -> &Path {
        self.unmounter.mountpoint()
    }

    /// Unmounts; fails with `ResourceBusy` while files are open.
    ///
    /// # Errors
    ///
    /// As `umount2(2)`.
    pub fn unmount(&self) -> io::Result<()> {
        self.unmounter.unmount()
    }

    /// Takes the mount out of the tree at once; it ends when the last open file is closed.
    ///
    /// # Errors
    ///
    /// As `umount2(2)`.
    pub fn unmount_lazy(&self) -> io::Result<()> {
        self.unmounter.unmount_lazy()
    }

    /// Unmounts, lazily if it is busy.
    pub(crate) fn unmount_or_detach(&self) -> io::Result<()> {
        match self.unmount() {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => self.unmount_lazy(),
            result => result,
        }
    }

    /// The way to unmount from another thread.
    pub fn unmounter(&self) -> Unmounter {
        self.unmounter.clone()
    }

    /// The channel, taken once by the session. Afterwards this value only unmounts.
    pub(crate) fn take_device(&mut self) -> Arc<Device> {
        self.device.take().expect("a mount is given to one session, which consumes it")
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(error) = self.unmount_or_detach() {
            tracing::error!(%error, mountpoint = %self.mountpoint().display(), "cannot unmount");
        }
    }
}

/// Type bits of the mountpoint, which must be a reachable directory.
fn examine(mountpoint: &Path) -> Result<u32, MountError> {
    let path = mountpoint.to_path_buf();
    match fs::metadata(mountpoint) {
        Ok(meta) if meta.is_dir() => Ok(meta.mode() & libc::S_IFMT),
        Ok(_) => Err(MountError::NotADirectory { mountpoint: path }),
        Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => {
            Err(MountError::Stale { mountpoint: path })
        }
        Err(source) => Err(MountError::Mountpoint { mountpoint: path, source }),
    }
}

fn mount_directly(
    mountpoint: &Path,
    options: &MountOptions,
    root_mode: u32,
) -> Result<Device, MountError> {
    let device = Device::open().map_err(|source| MountError::Device { source })?;
    let refused = |source| MountError::Refused { mountpoint: mountpoint.into(), source };
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let fd = device.as_fd().as_raw_fd();
    let kernel = options.kernel(fd, root_mode, uid, gid);
    let data = CString::new(kernel.data).map_err(|error| refused(error.into()))?;
    rustix::mount::mount(
        options.fsname.as_bytes(),
        mountpoint.as_os_str().as_bytes(),
        options.fstype(),
        kernel.flags,
        data.as_c_str(),
    )
    .map_err(|error| refused(error.into()))?;
    Ok(device)
}
