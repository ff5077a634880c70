//! What a volume is: fixed when it is formatted, except for its limits and its nodes.

use ringfs_base::{NodeName, VolumeName, VolumeUuid};

/// When fsync and close may say that the metadata are safe.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// When the primary has applied them.
    #[default]
    Memory,
    /// When so many replicas have them too (WAIT).
    Replica(u8),
    /// When they are on the primary's disk (appendfsync always, or WAITAOF).
    Disk,
}

/// How blocks are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Codec {
    /// Not at all.
    None,
    /// LZ4.
    #[default]
    Lz4,
    /// Zstandard.
    Zstd,
}

/// A block server of the volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeRecord {
    /// Its name, by which data are placed.
    pub name: NodeName,
    /// Its URL without a password.
    pub url: String,
}

/// The record of a volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VolumeConfig {
    /// Its name.
    pub name: VolumeName,
    /// Its random identity.
    pub uuid: VolumeUuid,
    /// Seconds since 1970 when it was formatted.
    pub created: i64,
    /// Copies of each block.
    pub replicas: u8,
    /// Payload bytes of a full block.
    pub block_bytes: u32,
    /// Compression of blocks.
    pub codec: Codec,
    /// Bytes of a block that are compressed and checksummed together.
    pub segment_bytes: u32,
    /// Largest file kept inline, in bytes.
    pub inline_max: u32,
    /// When metadata are safe.
    pub durability: Durability,
    /// Most inodes; 0 = no limit.
    pub inodes_max: u64,
    /// Most bytes; 0 = no limit.
    pub bytes_max: u64,
    /// The block servers.
    pub nodes: Vec<NodeRecord>,
}
