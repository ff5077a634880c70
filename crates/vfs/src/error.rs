//! Why an operation failed, and what a frontend tells its caller.

use ringfs_base::Errno;
use ringfs_meta::MetaError;
use ringfs_store::{ErrorKind, StoreError};
use std::sync::Arc;

/// A failed operation. Cheap to clone: one write-back failure is told to every waiter.
#[derive(Clone, Debug, thiserror::Error)]
pub enum VfsError {
    /// The answer POSIX defines for this case. Tell the program.
    #[error("{0}")]
    Posix(Errno),
    /// Names or attributes could not be read or changed. The cause says which server and why.
    #[error("metadata: {0}")]
    Meta(Arc<MetaError>),
    /// Data could not be read or written. The cause says which servers and why.
    #[error("data: {0}")]
    Data(Arc<StoreError>),
    /// No memory for buffered writes came free in time: the block servers do not keep up.
    #[error("the write buffer stayed full for a minute: the block servers do not keep up")]
    BufferFull,
    /// The mount has ended and this was not written.
    #[error("{bytes} bytes written to {files} files are lost (inodes {inodes}): {cause}")]
    Lost {
        /// How many files.
        files: usize,
        /// Bytes written to them since they were last saved.
        bytes: u64,
        /// The inode numbers of some of them.
        inodes: String,
        /// Why the first of them could not be written.
        cause: Box<VfsError>,
    },
    /// The mount is being taken down.
    #[error("the file system is stopping")]
    Stopped,
}

impl VfsError {
    /// The error number for a POSIX caller.
    pub fn errno(&self) -> Errno {
        match self {
            VfsError::Posix(errno) => *errno,
            VfsError::Meta(cause) => cause.errno(),
            VfsError::Data(cause) => match cause.kind() {
                ErrorKind::NoSpace => Errno::ENOSPC,
                // Retries are the store's; what comes out of it is final.
                ErrorKind::Retry | ErrorKind::GiveUp => Errno::EIO,
            },
            VfsError::Lost { cause, .. } => cause.errno(),
            VfsError::BufferFull | VfsError::Stopped => Errno::EIO,
        }
    }
}

impl From<Errno> for VfsError {
    fn from(errno: Errno) -> Self {
        VfsError::Posix(errno)
    }
}

impl From<MetaError> for VfsError {
    fn from(error: MetaError) -> Self {
        match error {
            MetaError::Posix(errno) => VfsError::Posix(errno),
            other => VfsError::Meta(Arc::new(other)),
        }
    }
}

impl From<StoreError> for VfsError {
    fn from(error: StoreError) -> Self {
        VfsError::Data(Arc::new(error))
    }
}
