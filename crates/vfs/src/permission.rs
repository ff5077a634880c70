//! Whether somebody without privileges may do something, for callers for whom the kernel does
//! not decide it (root of a mount that trusts no root).

use crate::{Vfs, VfsError};
use ringfs_base::{Errno, InodeId};
use ringfs_meta::{Acl, AclKind, Attr, AttrFlags};

/// Permission to read; a bit of [`Caller::may`]'s `want`.
pub const MAY_READ: u16 = 4;
/// Permission to write.
pub const MAY_WRITE: u16 = 2;
/// Permission to execute, or to search a directory.
pub const MAY_EXECUTE: u16 = 1;

/// The sticky bit of a directory.
const STICKY: u16 = 0o1000;

/// Somebody who is in one group and has no privileges.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Caller {
    /// Whether the permission bits, or the access ACL if there is one, allow all of `want`.
    pub fn may(self, attr: &Attr, acl: Option<&Acl>, want: u16) -> bool {
        if let Some(acl) = acl {
            return acl.permits(attr, self.uid, |group| group == self.gid, want);
        }
        let bits = match () {
            () if self.uid == attr.uid => attr.perm >> 6,
            () if self.gid == attr.gid => attr.perm >> 3,
            () => attr.perm,
        };
        bits & want == want
    }

    /// Whether it is the owner.
    pub fn owns(self, attr: &Attr) -> bool {
        self.uid == attr.uid
    }

    /// Whether a sticky directory keeps it from removing or renaming a name of `victim`.
    pub fn is_stuck(self, directory: &Attr, victim: &Attr) -> bool {
        directory.perm & STICKY != 0 && !self.owns(directory) && !self.owns(victim)
    }
}

impl Vfs {
    /// The inode's attributes, if the caller may do all of `want` with it; else EACCES.
    pub fn permit(&self, caller: Caller, ino: InodeId, want: u16) -> Result<Attr, VfsError> {
        let attr = self.getattr(ino)?.attr;
        // As in the kernel, an ACL whose group class has no bit is not looked at.
        let acl = if attr.flags.has(AttrFlags::ACL_ACCESS) && attr.perm & 0o070 != 0 {
            match self.getxattr(ino, AclKind::Access.xattr()) {
                Ok(value) => Acl::parse(&value)?,
                // Another mount has just removed it: the bits say what it said.
                Err(VfsError::Posix(Errno::ENODATA)) => None,
                Err(error) => return Err(error),
            }
        } else {
            None
        };
        if caller.may(&attr, acl.as_ref(), want) { Ok(attr) } else { Err(Errno::EACCES.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringfs_base::Timestamp;
    use ringfs_meta::FileKind;

    fn attr(uid: u32, gid: u32, perm: u16) -> Attr {
        let t = Timestamp(0);
        Attr {
            ino: InodeId(9),
            kind: FileKind::Directory,
            perm,
            flags: AttrFlags(0),
            nlink: 2,
            uid,
            gid,
            size: 0,
            mtime: t,
            ctime: t,
            atime: t,
            btime: t,
            rdev: 0,
            parent: None,
            entries: 0,
            buckets: 1,
        }
    }

    #[test]
    fn the_first_class_that_fits_decides_alone() {
        let caller = Caller { uid: 5, gid: 6 };
        for (file, expected) in [
            (attr(5, 6, 0o077), 0),
            (attr(5, 6, 0o700), 7),
            (attr(1, 6, 0o707), 0),
            (attr(1, 6, 0o050), 5),
            (attr(1, 1, 0o770), 0),
            (attr(1, 1, 0o001), 1),
        ] {
            let may = (0..8).filter(|want| caller.may(&file, None, *want)).max();
            assert_eq!(may, Some(expected), "{file:?}");
        }
    }

    #[test]
    fn sticky_directories_hold_what_others_own() {
        let caller = Caller { uid: 5, gid: 6 };
        let (mine, other) = (attr(5, 0, 0), attr(1, 0, 0));
        let sticky = attr(1, 0, 0o1777);
        assert!(caller.is_stuck(&sticky, &other));
        assert!(!caller.is_stuck(&sticky, &mine));
        assert!(!caller.is_stuck(&attr(5, 0, 0o1777), &other));
        assert!(!caller.is_stuck(&attr(1, 0, 0o777), &other));
    }
}
