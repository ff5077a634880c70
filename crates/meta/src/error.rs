//! Why an operation failed, by what the caller must do.

use ringfs_base::{Errno, VolumeName};
use ringfs_link::LinkError;

/// Why a metadata operation failed.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    /// The answer that POSIX gives; nothing was changed.
    #[error("{0}")]
    Posix(Errno),
    /// The session was given up by the others; remount.
    #[error(
        "this session of the volume has expired because it sent no sign of life in time; \
         unmount and mount again"
    )]
    Fenced,
    /// The metadata server forgot operations that it had acknowledged.
    #[error("the metadata server lost operations that it had confirmed: {0}")]
    Lost(String),
    /// The metadata server does not answer; the outcome of a mutation is unknown if
    /// `LinkError::outcome_unknown` says so.
    #[error("{0}")]
    Unavailable(LinkError),
    /// What is stored cannot be right; run `ringfs fsck`.
    #[error("the volume's metadata are damaged: {0}")]
    Corrupt(String),
    /// The volume was made by a newer program.
    #[error(
        "volume \"{name}\" has format {found} and this program knows up to {known}; \
         use a newer ringfs"
    )]
    NewerFormat {
        /// The volume.
        name: VolumeName,
        /// Its format.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// There is no volume of that name.
    #[error("there is no volume \"{name}\" on {server}; make it with `ringfs format`")]
    NoSuchVolume {
        /// The volume.
        name: VolumeName,
        /// The server asked.
        server: String,
    },
    /// There is a volume of that name already.
    #[error("volume \"{name}\" exists on {server} already; nothing was changed")]
    VolumeExists {
        /// The volume.
        name: VolumeName,
        /// The server asked.
        server: String,
    },
    /// Somebody else changed the ring first; read it and plan again.
    #[error("the ring has epoch {found} by now, so the change planned for it is out of date")]
    RingConflict {
        /// The epoch it has.
        found: u64,
    },
    /// Blocks are being moved for an earlier change of the ring; what is told of it follows.
    #[error("blocks are still being moved for another change of the ring: {0}")]
    RingBusy(String),
    /// Another process coordinates the volume by now.
    #[error("another process coordinates the volume by now")]
    NotCoordinator,
}

impl MetaError {
    /// What a system call shall answer.
    pub fn errno(&self) -> Errno {
        match self {
            MetaError::Posix(errno) => *errno,
            // Handles of an expired session lead nowhere, whatever they name.
            MetaError::Fenced => Errno::ESTALE,
            MetaError::Unavailable(cause) if cause.is_oom() => Errno::ENOSPC,
            MetaError::Lost(_)
            | MetaError::Unavailable(_)
            | MetaError::Corrupt(_)
            | MetaError::NewerFormat { .. }
            | MetaError::NoSuchVolume { .. }
            | MetaError::VolumeExists { .. }
            | MetaError::RingConflict { .. }
            | MetaError::RingBusy(_)
            | MetaError::NotCoordinator => Errno::EIO,
        }
    }

    /// Whether this is the POSIX error `errno`.
    pub fn is(&self, errno: Errno) -> bool {
        matches!(self, MetaError::Posix(found) if *found == errno)
    }
}

impl From<Errno> for MetaError {
    fn from(errno: Errno) -> MetaError {
        MetaError::Posix(errno)
    }
}
