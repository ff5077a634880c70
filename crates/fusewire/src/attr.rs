//! Attributes of a file and their wire forms.

use std::time::Duration;

use crate::body::Body;

/// A point in time: seconds since 1970 (negative before) and nanoseconds 0..1e9.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    /// Seconds since the epoch.
    pub secs: i64,
    /// Nanoseconds within the second.
    pub nanos: u32,
}

/// File type, as in the upper bits of a mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// Regular file.
    Regular,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Named pipe.
    Fifo,
    /// Socket.
    Socket,
    /// Character device.
    CharDevice,
    /// Block device.
    BlockDevice,
}

impl FileKind {
    /// The `S_IFMT` bits of a mode.
    pub const fn mode_bits(self) -> u32 {
        match self {
            Self::Regular => libc::S_IFREG,
            Self::Directory => libc::S_IFDIR,
            Self::Symlink => libc::S_IFLNK,
            Self::Fifo => libc::S_IFIFO,
            Self::Socket => libc::S_IFSOCK,
            Self::CharDevice => libc::S_IFCHR,
            Self::BlockDevice => libc::S_IFBLK,
        }
    }

    /// The `DT_*` value of a directory entry.
    pub(crate) const fn dirent_type(self) -> u32 {
        self.mode_bits() >> 12
    }
}

/// Attributes of an inode (`struct fuse_attr`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attr {
    /// Inode number shown to users.
    pub ino: u64,
    /// Size in bytes.
    pub size: u64,
    /// Allocated units of 512 bytes.
    pub blocks: u64,
    /// Last access.
    pub atime: Time,
    /// Last change of data.
    pub mtime: Time,
    /// Last change of data or attributes.
    pub ctime: Time,
    /// Type and permission bits.
    pub mode: u32,
    /// Number of names.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number, in the kernel's 32-bit encoding, of a device file.
    pub rdev: u32,
    /// Preferred I/O size in bytes.
    pub blksize: u32,
}

impl Attr {
    pub(crate) fn encode(&self, body: Body) -> Body {
        body.u64(self.ino)
            .u64(self.size)
            .u64(self.blocks)
            .u64(self.atime.secs.cast_unsigned())
            .u64(self.mtime.secs.cast_unsigned())
            .u64(self.ctime.secs.cast_unsigned())
            .u32(self.atime.nanos)
            .u32(self.mtime.nanos)
            .u32(self.ctime.nanos)
            .u32(self.mode)
            .u32(self.nlink)
            .u32(self.uid)
            .u32(self.gid)
            .u32(self.rdev)
            .u32(self.blksize)
            .u32(0)
    }
}

/// Attributes with the time the kernel may cache them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttrReply {
    /// The attributes.
    pub attr: Attr,
    /// How long the kernel may believe them.
    pub ttl: Duration,
}

impl AttrReply {
    pub(crate) fn encode(&self) -> Body {
        let body = Body::new().u64(self.ttl.as_secs()).u32(self.ttl.subsec_nanos()).u32(0);
        self.attr.encode(body)
    }
}

/// A name's inode (`struct fuse_entry_out`). Each one answered counts as one lookup that the
/// kernel gives back with `forget`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Inode number the kernel will use in later requests; 0 says "no such name", cached for
    /// `entry_ttl`.
    pub ino: u64,
    /// Generation: `ino` and this together are never reused.
    pub generation: u64,
    /// Attributes.
    pub attr: Attr,
    /// How long the kernel may believe the name.
    pub entry_ttl: Duration,
    /// How long the kernel may believe the attributes.
    pub attr_ttl: Duration,
}

impl Entry {
    /// "No such name", cached by the kernel for `ttl`.
    pub fn negative(ttl: Duration) -> Self {
        Self { entry_ttl: ttl, ..Self::default() }
    }

    pub(crate) fn encode(&self, body: Body) -> Body {
        let body = body
            .u64(self.ino)
            .u64(self.generation)
            .u64(self.entry_ttl.as_secs())
            .u64(self.attr_ttl.as_secs())
            .u32(self.entry_ttl.subsec_nanos())
            .u32(self.attr_ttl.subsec_nanos());
        self.attr.encode(body)
    }
}

/// What `statfs(2)` shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatFs {
    /// Size in units of `frsize`.
    pub blocks: u64,
    /// Free units.
    pub bfree: u64,
    /// Free units for the unprivileged.
    pub bavail: u64,
    /// Inodes in total.
    pub files: u64,
    /// Free inodes.
    pub ffree: u64,
    /// Preferred I/O size in bytes.
    pub bsize: u32,
    /// Longest name in bytes.
    pub namelen: u32,
    /// Unit of the block counts in bytes.
    pub frsize: u32,
}

impl StatFs {
    pub(crate) fn encode(&self) -> Body {
        Body::new()
            .u64(self.blocks)
            .u64(self.bfree)
            .u64(self.bavail)
            .u64(self.files)
            .u64(self.ffree)
            .u32(self.bsize)
            .u32(self.namelen)
            .u32(self.frsize)
            .zeros(4 + 6 * 4)
    }
}

/// What `statx(2)` shows beyond [`Attr`]: birth time and attribute bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statx {
    /// Which fields are filled (`STATX_*`).
    pub mask: u32,
    /// The classic attributes.
    pub attr: Attr,
    /// Birth time.
    pub btime: Time,
    /// `STATX_ATTR_*` bits that are set.
    pub attributes: u64,
    /// `STATX_ATTR_*` bits that are meaningful.
    pub attributes_mask: u64,
}

/// Answer to STATX.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatxReply {
    /// The attributes.
    pub statx: Statx,
    /// How long the kernel may believe them.
    pub ttl: Duration,
}

impl StatxReply {
    pub(crate) fn encode(&self) -> Body {
        let Statx { mask, attr, btime, attributes, attributes_mask } = self.statx;
        let time =
            |body: Body, time: Time| body.u64(time.secs.cast_unsigned()).u32(time.nanos).u32(0);
        let body = Body::new()
            .u64(self.ttl.as_secs())
            .u32(self.ttl.subsec_nanos())
            .u32(0)
            .zeros(2 * 8)
            .u32(mask)
            .u32(attr.blksize)
            .u64(attributes)
            .u32(attr.nlink)
            .u32(attr.uid)
            .u32(attr.gid)
            // The mode of statx is 16 bits wide; type and permissions use no more.
            .u16((attr.mode & 0xffff) as u16)
            .zeros(2)
            .u64(attr.ino)
            .u64(attr.size)
            .u64(attr.blocks)
            .u64(attributes_mask);
        let body = time(time(time(time(body, attr.atime), btime), attr.ctime), attr.mtime);
        // new_encode_dev: minor bits 0..8 and 20..32, major bits 8..20.
        let major = (attr.rdev >> 8) & 0xfff;
        let minor = (attr.rdev & 0xff) | ((attr.rdev >> 12) & 0xfff00);
        body.u32(major).u32(minor).zeros(2 * 4 + 14 * 8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes as in the kernel header; a reply of any other length is refused by the kernel.
    #[test]
    fn encoded_sizes_match_the_kernel_structs() {
        assert_eq!(Attr::default().encode(Body::new()).as_slice().len(), 88);
        assert_eq!(AttrReply::default().encode().as_slice().len(), 104);
        assert_eq!(Entry::default().encode(Body::new()).as_slice().len(), 128);
        assert_eq!(StatFs::default().encode().as_slice().len(), 80);
        assert_eq!(StatxReply::default().encode().as_slice().len(), 288);
    }

    #[test]
    fn dirent_types_are_the_dt_constants() {
        assert_eq!(FileKind::Directory.dirent_type(), u32::from(libc::DT_DIR));
        assert_eq!(FileKind::Regular.dirent_type(), u32::from(libc::DT_REG));
        assert_eq!(FileKind::Socket.dirent_type(), u32::from(libc::DT_SOCK));
    }
}
