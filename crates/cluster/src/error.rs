//! Why a job on a whole volume ended early.

use ringfs_link::LinkError;
use ringfs_meta::MetaError;
use ringfs_store::StoreError;

/// Why a job ended before its work was done. Whatever it did until then stays done and right:
/// every job can be started again.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Somebody asked it to stop.
    #[error("stopped before the end, as asked; start it again to go on")]
    Stopped,
    /// The metadata server.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// The metadata server, asked directly.
    #[error("the volume's metadata cannot be read: {0}")]
    Link(#[from] LinkError),
    /// A block server.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A node whose blocks must be known cannot be listed.
    #[error("the blocks of node {node} cannot be listed: {cause}")]
    Node {
        /// Its name.
        node: String,
        /// Why.
        cause: String,
    },
    /// What is stored cannot be understood, so nothing may be concluded from it.
    #[error("{0}; run `ringfs fsck` first, nothing was removed")]
    Unsure(String),
    /// The ring has a new table, so copies may belong elsewhere than this job thinks.
    #[error("the ring has changed from epoch {from} to {to} meanwhile; start it again")]
    RingChanged {
        /// The epoch that the job works by.
        from: u64,
        /// The epoch now.
        to: u64,
    },
    /// A file changed every time a clone of it was begun.
    #[error("inode {ino} changes all the time; clone it while nobody writes to it")]
    Restless {
        /// Its number.
        ino: u64,
    },
    /// It may only be done while nobody uses the volume.
    #[error("{sessions} sessions use the volume; unmount it everywhere first, nothing was changed")]
    InUse {
        /// How many.
        sessions: u64,
    },
}
