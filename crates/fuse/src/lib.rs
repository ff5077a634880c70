//! The FUSE frontend: the kernel's requests become operations of [`ringfs_vfs::Vfs`].
//!
//! There is nothing to decide here: `filesystem` translates one request each, `convert` the
//! types and errors, and this page ties a mount to a volume. Only root's requests are checked, in
//! `squash`, if root shall have no privileges; everybody else's the kernel has checked. Handles are
//! only numbers, by which locks end: the vfs keeps what it knows by inode.

mod convert;
mod filesystem;
mod squash;

use filesystem::RingFs;
use ringfs_base::InodeId;
use ringfs_fusewire::{Meter, Mount, MountOptions, Notifier, Session, Unmounter};
use ringfs_vfs::{Caller, KernelCache, KernelChange, Vfs};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// Read-ahead that the kernel is asked for, in bytes.
const READ_AHEAD_BYTES: u32 = 1 << 20;

/// How to mount.
#[derive(Clone, Debug)]
pub struct FuseOptions {
    /// The directory to mount on.
    pub mountpoint: PathBuf,
    /// What `df` and `mount` show as the device.
    pub fsname: String,
    /// Let other users in, not only the one who mounts.
    pub allow_other: bool,
    /// Refuse writes.
    pub read_only: bool,
    /// Root of this mount acts as this user.
    pub root_is: Option<Caller>,
    /// Most threads that serve the kernel.
    pub workers_max: usize,
}

/// Why a volume could not be mounted. `ringfs_fusewire::MountError` is inside, where the mount
/// itself was refused.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct FuseError(#[from] pub io::Error);

/// A mount point that is taken and waits for its file system.
pub struct FuseMount {
    mount: Mount,
    options: MountOptions,
    root_is: Option<Caller>,
    notices: Arc<Notices>,
    unmounter: Unmounter,
}

impl FuseMount {
    /// Mounts. Requests wait until [`Self::serve`].
    pub fn prepare(options: FuseOptions) -> Result<FuseMount, FuseError> {
        let wire = MountOptions {
            fsname: options.fsname,
            subtype: "ringfs".to_owned(),
            read_only: options.read_only,
            allow_other: options.allow_other,
            default_permissions: true,
            max_readahead: READ_AHEAD_BYTES,
            workers_max: options.workers_max,
            ..MountOptions::default()
        };
        let mount = Mount::new(&options.mountpoint, &wire)?;
        let unmounter = mount.unmounter();
        let root_is = options.root_is;
        Ok(FuseMount { mount, options: wire, root_is, notices: Arc::default(), unmounter })
    }

    /// The way to tell the kernel what to forget; for [`Vfs::start`].
    pub fn kernel_cache(&self) -> Arc<dyn KernelCache> {
        self.notices.clone()
    }

    /// Unmounts from another thread (a signal); [`Self::serve`] then returns.
    pub fn unmounter(&self) -> Unmounter {
        self.unmounter.clone()
    }

    /// Serves the kernel until the volume is unmounted.
    pub fn serve(self, vfs: Arc<Vfs>) -> Result<(), FuseError> {
        self.serve_measured(vfs, None)
    }

    /// The same, with every answered request told to `meter`.
    pub fn serve_measured(
        self,
        vfs: Arc<Vfs>,
        meter: Option<Arc<dyn Meter>>,
    ) -> Result<(), FuseError> {
        let fs = RingFs::new(vfs, self.root_is);
        let session = Session::measured(fs, self.mount, &self.options, meter);
        // Set once: serve takes the mount.
        if self.notices.notifier.set(session.notifier()).is_err() {
            tracing::warn!("the notifier was set twice");
        }
        Ok(session.run()?)
    }
}

/// Passes changes by other mounts on to the kernel.
#[derive(Default)]
struct Notices {
    notifier: OnceLock<Notifier>,
}

impl KernelCache for Notices {
    fn doubt_attributes(&self, ino: InodeId) {
        // A negative offset leaves the pages alone.
        if let Some(notifier) = self.notifier.get()
            && let Err(error) = notifier.inval_inode(ino.0, -1, 0)
        {
            tracing::warn!(%ino, %error, "the kernel was not told to ask for attributes");
        }
    }

    fn forget(&self, change: &KernelChange) {
        // Before the first request the kernel has cached nothing.
        let Some(notifier) = self.notifier.get() else { return };
        let told = match change {
            KernelChange::Inode(ino) => notifier.inval_inode(ino.0, 0, 0),
            KernelChange::Entry(parent, name) => notifier.inval_entry(parent.0, name),
        };
        if let Err(error) = told {
            tracing::warn!(?change, %error, "the kernel was not told of a change");
        }
    }
}
