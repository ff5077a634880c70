//! Looking names up, making them, and listing directories.

use crate::node::Content;
use crate::{Vfs, VfsError};
use bytes::Bytes;
use ringfs_base::limits::{NAME_BYTES_MAX, SYMLINK_BYTES_MAX};
use ringfs_base::{Errno, InodeId};
use ringfs_meta::{Attr, Created, DirPage, FileKind, NewInode};
use std::collections::HashSet;
use std::time::Duration;

/// An inode and how long the frontend may believe it.
#[derive(Clone, Copy, Debug)]
pub struct Looked {
    /// Its attributes, uncommitted writes of this mount included.
    pub attr: Attr,
    /// Zero when another mount changed it while the answer was on its way.
    pub ttl: Duration,
}

pub(crate) fn check_name(name: &[u8]) -> Result<(), VfsError> {
    match name {
        [] | b"." | b".." => Err(Errno::EINVAL.into()),
        _ if name.len() > NAME_BYTES_MAX => Err(Errno::ENAMETOOLONG.into()),
        _ if name.contains(&b'/') || name.contains(&0) => Err(Errno::EINVAL.into()),
        _ => Ok(()),
    }
}

impl Vfs {
    /// What a name leads to. The frontend knows the inode once more, until it calls
    /// [`Self::forget`]. ENOENT tells also how long to believe that (the second value).
    pub fn lookup(&self, parent: InodeId, name: &[u8]) -> Result<Looked, (VfsError, Duration)> {
        let before = self.changes.before();
        check_name(name).map_err(|e| (e, Duration::ZERO))?;
        if self.is_known_missing(parent, name) {
            return Err((Errno::ENOENT.into(), self.config.kernel_ttl));
        }
        match self.session.lookup(parent, name) {
            Ok(found) => {
                self.note_attr(&found.parent, before);
                self.names.note(parent, name, found.attr.ino);
                Ok(self.entered(found.attr, parent, before))
            }
            Err(error) => {
                let fresh = self.changes.none_since(before, parent);
                let ttl = if fresh { self.config.kernel_ttl } else { Duration::ZERO };
                Err((error.into(), ttl))
            }
        }
    }

    /// The frontend dropped `count` of the references that lookups gave it.
    pub fn forget(&self, ino: InodeId, count: u64) {
        self.nodes.forget(ino, count);
    }

    /// Makes a directory, link, special node, or file that nobody opens. EEXIST.
    pub fn make(
        &self,
        parent: InodeId,
        name: &[u8],
        new: &NewInode<'_>,
    ) -> Result<Looked, VfsError> {
        let (looked, created) = self.make_or_find(parent, name, new)?;
        if !created {
            self.forget(looked.attr.ino, 1);
            return Err(Errno::EEXIST.into());
        }
        Ok(looked)
    }

    /// Makes a file, or finds the one that has the name (`created` is false then).
    pub(crate) fn make_or_find(
        &self,
        parent: InodeId,
        name: &[u8],
        new: &NewInode<'_>,
    ) -> Result<(Looked, bool), VfsError> {
        check_name(name)?;
        if new.kind == FileKind::Symlink {
            match new.target.len() {
                0 => return Err(Errno::ENOENT.into()),
                1..=SYMLINK_BYTES_MAX => {}
                _ => return Err(Errno::ENAMETOOLONG.into()),
            }
        }
        let before = self.changes.before();
        self.expect_name(parent, name);
        let Created { attr, parent: dir, created } =
            self.session.create(parent, name, new, self.clock.now())?;
        self.note_attr(&dir, before);
        self.names.note(parent, name, attr.ino);
        let looked = self.entered(attr, parent, before);
        if created {
            let node = self.nodes.get(attr.ino);
            let mut state = node.lock();
            state.content = Content::empty(attr.ctime);
            // Another mount may have put a name into it while our answer was on its way. If we
            // have not heard of that yet, we shall, and it is noted then.
            let untouched = self.changes.none_since(before, attr.ino);
            state.names = (attr.is_dir() && untouched).then(HashSet::new);
        }
        Ok((looked, created))
    }

    /// One more name for an inode.
    pub fn link(&self, ino: InodeId, parent: InodeId, name: &[u8]) -> Result<Looked, VfsError> {
        check_name(name)?;
        let before = self.changes.before();
        self.expect_name(parent, name);
        let made = self.session.link(ino, parent, name, self.clock.now())?;
        if !made.created {
            return Err(Errno::EEXIST.into());
        }
        self.note_attr(&made.parent, before);
        self.names.note(parent, name, ino);
        if made.attr.nlink == 1
            && let Some(node) = self.nodes.known(ino)
        {
            // It was made without a name; now its last close must not remove it.
            node.lock().held = false;
        }
        Ok(self.entered(made.attr, parent, before))
    }

    /// Target of a symbolic link.
    pub fn readlink(&self, ino: InodeId) -> Result<Bytes, VfsError> {
        Ok(self.session.readlink(ino)?)
    }

    /// Names after `cookie` (0: from the beginning), about `want` of them, with attributes if
    /// `attrs`. `.` and `..` are the frontend's.
    pub fn readdir(
        &self,
        dir: InodeId,
        cookie: u64,
        want: u32,
        attrs: bool,
    ) -> Result<DirPage, VfsError> {
        Ok(self.session.readdir(dir, cookie, want, attrs)?)
    }

    /// An entry of [`Self::readdir`] that the frontend hands on as if it had looked it up.
    pub fn enter_listed(
        &self,
        dir: InodeId,
        name: &[u8],
        attr: Attr,
        before: DirListing,
    ) -> Looked {
        self.names.note(dir, name, attr.ino);
        self.entered(attr, dir, before.0)
    }

    /// Take this before [`Self::readdir`] and give it to [`Self::enter_listed`].
    pub fn begin_listing(&self) -> DirListing {
        DirListing(self.changes.before())
    }

    /// The directory was made by this mount and the name never came into it, as far as is known:
    /// a lookup before a create, which the kernel always makes, needs no round trip.
    fn is_known_missing(&self, parent: InodeId, name: &[u8]) -> bool {
        if !self.believes_memory() {
            return false;
        }
        let Some(node) = self.nodes.known(parent) else { return false };
        let state = node.lock();
        state.names.as_ref().is_some_and(|names| !names.contains(&self.names.key(parent, name)))
    }

    /// Take note before the name is made: a name too many costs a round trip, one too few would
    /// hide a file.
    pub(crate) fn expect_name(&self, parent: InodeId, name: &[u8]) {
        if let Some(node) = self.nodes.known(parent) {
            node.lock().expect_name(self.names.key(parent, name));
        }
    }

    /// The frontend learns of an inode: one more reference, attributes cached if still right.
    fn entered(&self, attr: Attr, parent: InodeId, before: crate::coherence::Before) -> Looked {
        let node = self.nodes.remember(attr.ino);
        let fresh =
            self.changes.none_since(before, attr.ino) && self.changes.none_since(before, parent);
        drop(node);
        let mut looked = self.note_attr(&attr, before);
        if !fresh {
            looked.ttl = Duration::ZERO;
        }
        looked
    }
}

/// The moment before a directory was listed.
#[derive(Clone, Copy)]
pub struct DirListing(crate::coherence::Before);
