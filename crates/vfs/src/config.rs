//! What a mount can be told about memory, threads and time-outs.

use std::time::Duration;

/// Settings of a mounted volume.
#[derive(Clone, Debug)]
pub struct VfsConfig {
    /// Most bytes of written data kept in memory until they are on block servers.
    pub write_buffer_bytes: usize,
    /// Most bytes of blocks kept for readers.
    pub block_cache_bytes: usize,
    /// Threads that send full blocks.
    pub upload_threads: usize,
    /// Threads that fetch blocks ahead of sequential readers.
    pub read_ahead_threads: usize,
    /// How long the kernel may use a name or attributes without asking. Changes by other mounts
    /// are pushed at once; this bounds what is seen when the push channel is cut.
    pub kernel_ttl: Duration,
    /// Written data are written back after this time at the latest, without a flush.
    pub write_back_age: Duration,
    /// Time between two signs of life of the session.
    pub heartbeat: Duration,
    /// A session that gave no sign of life for this long may be ended by any other.
    pub session_lease: Duration,
    /// Compact a chunk when it has this many extent records.
    pub compact_records: u32,
}

impl Default for VfsConfig {
    fn default() -> Self {
        VfsConfig {
            write_buffer_bytes: 256 << 20,
            block_cache_bytes: 256 << 20,
            upload_threads: 4,
            read_ahead_threads: 2,
            kernel_ttl: Duration::from_secs(10),
            write_back_age: Duration::from_secs(5),
            heartbeat: Duration::from_secs(2),
            session_lease: Duration::from_secs(60),
            compact_records: 100,
        }
    }
}
