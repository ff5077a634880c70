//! Inode attributes and their packed form: 56 bytes, or 64 with the auxiliary word.
//!
//! Redis keeps a hash in its compact form (listpack) only while every value is at most 64 bytes
//! long; 64 attributes share one hash (`schema::attr_key`), so one byte more would triple the
//! memory of every file. All integers are big-endian, as the scripts' `struct.pack('>...')` has it.
//!
//! ```text
//!  0 mode u16 (type and permission bits, as st_mode)   2 flags u16
//!  4 nlink u32    8 uid u32    12 gid u32
//! 16 size u64 (a directory: entries u32, buckets u32)
//! 24 mtime  32 ctime  40 atime  48 btime  (i64 nanoseconds since 1970)
//! 56 aux u64, only of directories (parent inode) and devices (rdev)
//! ```

use ringfs_base::{InodeId, Timestamp};

/// Bytes of the packed attributes without the auxiliary word.
pub const ATTR_BYTES: usize = 56;
/// Bytes of the packed attributes of directories and devices.
pub const ATTR_BYTES_WITH_AUX: usize = 64;

/// What an inode is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A Unix socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

impl FileKind {
    /// The type bits of `st_mode`.
    pub const fn mode_bits(self) -> u16 {
        match self {
            FileKind::Fifo => 0o010_000,
            FileKind::CharDevice => 0o020_000,
            FileKind::Directory => 0o040_000,
            FileKind::BlockDevice => 0o060_000,
            FileKind::File => 0o100_000,
            FileKind::Symlink => 0o120_000,
            FileKind::Socket => 0o140_000,
        }
    }

    /// The kind that the type bits of `st_mode` name.
    pub const fn from_mode(mode: u16) -> Option<FileKind> {
        Some(match mode >> 12 {
            0o01 => FileKind::Fifo,
            0o02 => FileKind::CharDevice,
            0o04 => FileKind::Directory,
            0o06 => FileKind::BlockDevice,
            0o10 => FileKind::File,
            0o12 => FileKind::Symlink,
            0o14 => FileKind::Socket,
            _ => return None,
        })
    }

    /// The nibble that directory entries carry: the type bits of `st_mode` shifted to the right
    /// by 12, which is also `d_type` of Linux.
    pub const fn dirent_type(self) -> u8 {
        (self.mode_bits() >> 12) as u8
    }

    /// Reads [`Self::dirent_type`].
    pub const fn from_dirent_type(byte: u8) -> Option<FileKind> {
        if byte > 15 { None } else { FileKind::from_mode((byte as u16) << 12) }
    }

    /// Whether the auxiliary word holds a device number.
    pub const fn is_device(self) -> bool {
        matches!(self, FileKind::CharDevice | FileKind::BlockDevice)
    }
}

/// What the packed flags say about where an inode's data are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct AttrFlags(pub u16);

impl AttrFlags {
    /// The inode has inline data (or, a symbolic link, its target).
    pub const INLINE: u16 = 1;
    /// The inode has extents.
    pub const EXTENTS: u16 = 2;
    /// The inode has extended attributes.
    pub const XATTRS: u16 = 4;
    /// No name leads here any more; kept because somebody may have it open.
    pub const ORPHAN: u16 = 8;
    /// Slices of the inode may be shown by other chunks, too: their owners are counted.
    pub const SHARED: u16 = 16;
    /// Made without a name (`O_TMPFILE`): a link may give it one.
    pub const NAMELESS: u16 = 32;
    /// An access ACL is among the extended attributes.
    pub const ACL_ACCESS: u16 = 64;
    /// A default ACL is among the extended attributes (directories only).
    pub const ACL_DEFAULT: u16 = 128;
    /// The inode is counted to its owner and its group.
    pub const COUNTED: u16 = 256;
    /// The inode may count to a directory tree with a quota.
    pub const IN_TREE: u16 = 512;
    /// A directory of the trash: what is deleted in it is gone.
    pub const TRASH: u16 = 1024;

    /// Whether `bit` (one of the constants) is set.
    pub const fn has(self, bit: u16) -> bool {
        self.0 & bit != 0
    }
}

impl std::fmt::Debug for AttrFlags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = [
            (AttrFlags::INLINE, "inline"),
            (AttrFlags::EXTENTS, "extents"),
            (AttrFlags::XATTRS, "xattrs"),
            (AttrFlags::ORPHAN, "orphan"),
            (AttrFlags::SHARED, "shared"),
            (AttrFlags::NAMELESS, "nameless"),
            (AttrFlags::ACL_ACCESS, "access-acl"),
            (AttrFlags::ACL_DEFAULT, "default-acl"),
            (AttrFlags::COUNTED, "counted"),
            (AttrFlags::IN_TREE, "in-tree"),
            (AttrFlags::TRASH, "trash"),
        ];
        let set: Vec<_> = names.iter().filter(|(bit, _)| self.has(*bit)).map(|n| n.1).collect();
        write!(f, "{{{}}}", set.join(","))
    }
}

/// The attributes of one inode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attr {
    /// Its number.
    pub ino: InodeId,
    /// What it is.
    pub kind: FileKind,
    /// Permission, set-id and sticky bits (`0o7777`).
    pub perm: u16,
    /// Where its data are.
    pub flags: AttrFlags,
    /// Names that lead to it; a directory: 2 and its subdirectories.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of a file or of a link's target; 0 for a directory.
    pub size: u64,
    /// Last change of the data.
    pub mtime: Timestamp,
    /// Last change of the inode.
    pub ctime: Timestamp,
    /// Last read, as far as mounts record it.
    pub atime: Timestamp,
    /// When it was made.
    pub btime: Timestamp,
    /// Device number; 0 for what is no device.
    pub rdev: u64,
    /// A directory's parent (its own number for the root); `None` for the others.
    pub parent: Option<InodeId>,
    /// Names in a directory; 0 for the others.
    pub entries: u32,
    /// Buckets of a directory's name table; 0 for the others.
    pub buckets: u32,
}

impl Attr {
    /// What it is.
    pub const fn kind(&self) -> FileKind {
        self.kind
    }

    /// Whether it is a directory.
    pub const fn is_dir(&self) -> bool {
        matches!(self.kind, FileKind::Directory)
    }

    /// Type and permission bits as `st_mode` has them.
    pub const fn mode(&self) -> u16 {
        self.kind.mode_bits() | self.perm
    }

    /// The packed form.
    pub fn pack(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(ATTR_BYTES_WITH_AUX);
        out.extend_from_slice(&self.mode().to_be_bytes());
        out.extend_from_slice(&self.flags.0.to_be_bytes());
        for word in [self.nlink, self.uid, self.gid] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        if self.is_dir() {
            out.extend_from_slice(&self.entries.to_be_bytes());
            out.extend_from_slice(&self.buckets.to_be_bytes());
        } else {
            out.extend_from_slice(&self.size.to_be_bytes());
        }
        for time in [self.mtime, self.ctime, self.atime, self.btime] {
            out.extend_from_slice(&time.0.to_be_bytes());
        }
        if let Some(parent) = self.parent {
            out.extend_from_slice(&parent.to_bytes());
        } else if self.kind.is_device() {
            out.extend_from_slice(&self.rdev.to_be_bytes());
        }
        out
    }

    /// Reads the packed form; `None` if the bytes are no attributes.
    pub fn unpack(ino: InodeId, bytes: &[u8]) -> Option<Attr> {
        let word16 = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let word32 = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let word64 = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let time = |at: usize| Some(Timestamp(word64(at)? as i64));
        let mode = word16(0)?;
        let kind = FileKind::from_mode(mode)?;
        let is_dir = matches!(kind, FileKind::Directory);
        let with_aux = is_dir || kind.is_device();
        if bytes.len() != if with_aux { ATTR_BYTES_WITH_AUX } else { ATTR_BYTES } {
            return None;
        }
        Some(Attr {
            ino,
            kind,
            perm: mode & 0o7777,
            flags: AttrFlags(word16(2)?),
            nlink: word32(4)?,
            uid: word32(8)?,
            gid: word32(12)?,
            size: if is_dir { 0 } else { word64(16)? },
            mtime: time(24)?,
            ctime: time(32)?,
            atime: time(40)?,
            btime: time(48)?,
            rdev: if kind.is_device() { word64(56)? } else { 0 },
            parent: if is_dir { Some(InodeId(word64(56)?)) } else { None },
            entries: if is_dir { word32(16)? } else { 0 },
            buckets: if is_dir { word32(20)? } else { 0 },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_survive_a_round_trip(
            bytes in proptest::collection::vec(any::<u8>(), 0..80)
        ) {
            if let Some(attr) = Attr::unpack(InodeId(9), &bytes) {
                prop_assert_eq!(attr.pack(), bytes);
            }
        }

        #[test]
        fn attributes_read_what_they_wrote(
            mode in proptest::sample::select(vec![1u16, 2, 4, 6, 8, 10, 12]),
            rest in proptest::collection::vec(any::<u8>(), 54),
            aux in any::<u64>(),
        ) {
            let mut bytes = ((mode << 12) | 0o644).to_be_bytes().to_vec();
            bytes.extend(rest);
            if matches!(mode, 2 | 4 | 6) {
                bytes.extend(aux.to_be_bytes());
            }
            let attr = Attr::unpack(InodeId(3), &bytes).unwrap();
            prop_assert_eq!(attr.pack(), bytes.clone());
            prop_assert_eq!(Attr::unpack(InodeId(3), &attr.pack()).unwrap(), attr);
            bytes.push(0);
            prop_assert_eq!(Attr::unpack(InodeId(3), &bytes), None);
        }
    }

    #[test]
    fn every_kind_names_itself() {
        for nibble in 0..=255u8 {
            if let Some(kind) = FileKind::from_dirent_type(nibble) {
                assert_eq!(kind.dirent_type(), nibble);
            }
        }
    }
}
