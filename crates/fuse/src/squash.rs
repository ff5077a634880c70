//! Root of a mount that is trusted no more than anybody.
//!
//! The kernel lets root do everything and does not ask us. So requests of user 0 are checked
//! here, before they are served, as those of an ordinary user, and what they make belongs to that
//! user. What a program has opened it goes on using, and names that the kernel has cached are
//! walked through without asking; so permissions of directories on the way to a file hold only for
//! names that the kernel does not know, as with NFS.

use crate::convert::{errno, inode};
use ringfs_base::Errno as BaseErrno;
use ringfs_fusewire::{
    Errno, FsResult, OpenHow, Operation, Request, SetAttr, TimeOrNow, WriteFlags,
};
use ringfs_meta::{AclKind, Attr};
use ringfs_vfs::{Caller, MAY_EXECUTE, MAY_READ, MAY_WRITE, Vfs};

const O_ACCMODE: i32 = 3;
const O_WRONLY: i32 = 1;
const O_RDWR: i32 = 2;
/// The kernel's own flag for an open that will execute the file (`__FMODE_EXEC`).
const OPEN_TO_EXECUTE: i32 = 0o40;
const SET_GID: u32 = 0o2000;

/// What a name needs of its directory.
const MAY_CHANGE_NAMES: u16 = MAY_WRITE | MAY_EXECUTE;

/// Who root is.
pub(crate) struct Squash<'v> {
    pub(crate) vfs: &'v Vfs,
    pub(crate) caller: Caller,
}

fn refused(errno: BaseErrno) -> Errno {
    Errno::from(i32::from(errno.0))
}

impl Squash<'_> {
    /// Checks a request of root and makes it one of the other user.
    pub(crate) fn admit(
        &self,
        req: &mut Request<'_>,
        ino: u64,
        operation: &mut Operation<'_>,
    ) -> FsResult<()> {
        (req.uid, req.gid) = (self.caller.uid, self.caller.gid);
        match operation {
            Operation::Lookup { .. } => self.need(ino, MAY_EXECUTE).map(drop),
            Operation::SetAttr(set) => self.change(ino, set),
            Operation::MkNod { mode, .. } => {
                self.make(ino, mode)?;
                match *mode & 0o170_000 {
                    0o020_000 | 0o060_000 => Err(refused(BaseErrno::EPERM)),
                    _ => Ok(()),
                }
            }
            Operation::Create { mode, .. } => self.make(ino, mode),
            Operation::TmpFile { mode, .. } => self.make(ino, mode),
            Operation::MkDir { .. } | Operation::Symlink { .. } | Operation::Link { .. } => {
                self.need(ino, MAY_CHANGE_NAMES).map(drop)
            }
            Operation::Unlink { name } | Operation::RmDir { name } => self.remove(ino, name),
            Operation::Rename { name, newparent, newname, .. } => {
                let moved = self.remove_found(ino, name)?;
                let found = self.remove_found(*newparent, newname)?;
                if *newparent != ino {
                    // Their entry ".." changes.
                    for attr in [moved, found].iter().flatten().filter(|attr| attr.is_dir()) {
                        self.need(attr.ino.0, MAY_WRITE)?;
                    }
                }
                Ok(())
            }
            Operation::Open(how) => self.need(ino, wanted(*how)).map(drop),
            Operation::OpenDir(_) => self.need(ino, MAY_READ).map(drop),
            Operation::Write(at) => {
                at.write_flags |= WriteFlags::KILL_SUIDGID;
                Ok(())
            }
            Operation::SetXAttr { name, acl_kill_sgid, .. } => {
                let attr = self.change_xattr(ino, name)?;
                *acl_kill_sgid |= attr.gid != self.caller.gid;
                Ok(())
            }
            Operation::RemoveXAttr { name } => self.change_xattr(ino, name).map(drop),
            Operation::GetXAttr { name, .. } => match space(name) {
                Space::User => self.need(ino, MAY_READ).map(drop),
                Space::Privileged if name.starts_with(b"trusted.") => {
                    Err(refused(BaseErrno::ENODATA))
                }
                Space::Privileged | Space::Acl => Ok(()),
            },
            // What everybody may, and what needs something open.
            _ => Ok(()),
        }
    }

    fn attr(&self, ino: u64) -> FsResult<Attr> {
        let found = self.vfs.getattr(inode(ino));
        found.map(|looked| looked.attr).map_err(|e| errno("permission check", ino, &e))
    }

    fn need(&self, ino: u64, want: u16) -> FsResult<Attr> {
        let permitted = self.vfs.permit(self.caller, inode(ino), want);
        permitted.map_err(|e| errno("permission check", ino, &e))
    }

    fn need_owner(&self, ino: u64) -> FsResult<Attr> {
        let attr = self.attr(ino)?;
        if self.caller.owns(&attr) { Ok(attr) } else { Err(refused(BaseErrno::EPERM)) }
    }

    /// Something new in a directory. The set-group-id bit is for members of the group only.
    fn make(&self, parent: u64, mode: &mut u32) -> FsResult<()> {
        let attr = self.need(parent, MAY_CHANGE_NAMES)?;
        if u32::from(attr.perm) & SET_GID != 0 && attr.gid != self.caller.gid {
            *mode &= !SET_GID;
        }
        Ok(())
    }

    fn remove(&self, parent: u64, name: &[u8]) -> FsResult<()> {
        self.remove_found(parent, name).map(drop)
    }

    /// May the name be taken away? What it leads to, if there is such a name.
    fn remove_found(&self, parent: u64, name: &[u8]) -> FsResult<Option<Attr>> {
        let directory = self.need(parent, MAY_CHANGE_NAMES)?;
        let victim = match self.vfs.session().lookup(inode(parent), name) {
            Ok(found) => found.attr,
            Err(e) if e.is(BaseErrno::ENOENT) => return Ok(None),
            Err(e) => return Err(errno("permission check", parent, &e.into())),
        };
        if self.caller.is_stuck(&directory, &victim) {
            return Err(refused(BaseErrno::EPERM));
        }
        Ok(Some(victim))
    }

    fn change(&self, ino: u64, set: &mut SetAttr) -> FsResult<()> {
        // The kernel leaves the bits of whom it takes for root.
        set.kill_suidgid |= set.size.is_some() || set.uid.is_some() || set.gid.is_some();
        let explicit = |time| matches!(time, Some(TimeOrNow::At(_)));
        if set.mode.is_some() || set.gid.is_some() || set.uid.is_some() {
            let attr = self.need_owner(ino)?;
            let gives = set.uid.is_some_and(|uid| uid != attr.uid)
                || set.gid.is_some_and(|gid| gid != attr.gid && gid != self.caller.gid);
            if gives {
                return Err(refused(BaseErrno::EPERM));
            }
            if let Some(mode) = &mut set.mode
                && set.gid.unwrap_or(attr.gid) != self.caller.gid
            {
                *mode &= !SET_GID;
            }
        }
        if explicit(set.atime) || explicit(set.mtime) {
            self.need_owner(ino)?;
        }
        let touched = set.atime.is_some() || set.mtime.is_some();
        // Through a handle: it was opened for writing.
        if (set.size.is_some() && set.fh.is_none())
            || (touched && set.size.is_none() && !self.caller.owns(&self.attr(ino)?))
        {
            self.need(ino, MAY_WRITE)?;
        }
        Ok(())
    }

    fn change_xattr(&self, ino: u64, name: &[u8]) -> FsResult<Attr> {
        match space(name) {
            Space::User => self.need(ino, MAY_WRITE),
            Space::Acl => self.need_owner(ino),
            Space::Privileged => Err(refused(BaseErrno::EPERM)),
        }
    }
}

/// Who may use an extended attribute.
enum Space {
    User,
    Acl,
    Privileged,
}

fn space(name: &[u8]) -> Space {
    if AclKind::of_xattr(name).is_some() {
        Space::Acl
    } else if name.starts_with(b"user.") {
        Space::User
    } else {
        Space::Privileged
    }
}

fn wanted(how: OpenHow) -> u16 {
    if how.flags & OPEN_TO_EXECUTE != 0 {
        return MAY_EXECUTE;
    }
    match how.flags & O_ACCMODE {
        O_WRONLY => MAY_WRITE,
        O_RDWR => MAY_READ | MAY_WRITE,
        _ => MAY_READ,
    }
}
