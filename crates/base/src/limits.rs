//! The limits of the format, each named in this one place.

/// Version of everything that RingFS stores. A volume with a larger one is refused.
pub const FORMAT_VERSION: u32 = 1;

/// Longest name of a directory entry, in bytes (POSIX `NAME_MAX` of Linux file systems).
pub const NAME_BYTES_MAX: usize = 255;

/// Longest target of a symbolic link, in bytes (Linux `PATH_MAX` less the final NUL).
pub const SYMLINK_BYTES_MAX: usize = 4095;

/// Most hard links to one inode (what ext4 allows).
pub const LINKS_MAX: u32 = 65_000;

/// Largest file, in bytes: what `off_t` can tell.
pub const FILE_BYTES_MAX: u64 = i64::MAX as u64;

/// A file counts with at most so many bytes of its size (16 TiB) in what a volume holds: the scripts
/// keep the sum in a Lua number, which is exact to 2^53, and a sparse file may be larger than all that
/// fits into the servers.
pub const FILE_BYTES_COUNTED_MAX: u64 = 1 << 44;

/// A file's extents are kept per chunk of this many bytes; a slice never spans two chunks.
pub const CHUNK_BYTES: u64 = 64 << 20;

/// Payload bytes of a full block: 255 pages. A power of two would be stored, with its frame
/// header, in the next larger size class of the allocator and waste a quarter of the memory.
pub const BLOCK_BYTES: u32 = 255 * 4096;

/// Files up to this many bytes are kept inline with their inode.
pub const INLINE_BYTES_MAX: u32 = 8192;

/// Longest extended attribute name and value (Linux `XATTR_NAME_MAX`, `XATTR_SIZE_MAX`).
pub const XATTR_NAME_BYTES_MAX: usize = 255;
/// See [`XATTR_NAME_BYTES_MAX`].
pub const XATTR_VALUE_BYTES_MAX: usize = 65_536;

/// Most copies of a block.
pub const REPLICAS_MAX: u8 = 7;

/// Bits of an inode number that count within a shard; the bits above name the shard.
pub const INODE_LOCAL_BITS: u32 = 48;
