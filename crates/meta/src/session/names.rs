//! Operations on names: lookup, create, unlink, rmdir, rename, link, readlink, readdir.

use super::{Session, SessionShard};
use crate::attr::{Attr, AttrFlags, FileKind};
use crate::error::MetaError;
use crate::extents::dropped_slices;
use crate::reply::Reader;
use crate::schema::NameHash;
use crate::scripts;
use crate::shard::done;
use crate::types::{
    Created, DirPage, Fate, Found, NewInode, Removed, RenameMode, Renamed, Unlinked, Victim,
};
use bytes::Bytes;
use ringfs_base::limits::{NAME_BYTES_MAX, SYMLINK_BYTES_MAX};
use ringfs_base::{Errno, InodeId, Timestamp};

pub(crate) fn checked(name: &[u8]) -> Result<[u8; 4], MetaError> {
    if name.len() > NAME_BYTES_MAX {
        return Err(Errno::ENAMETOOLONG.into());
    }
    if matches!(name, b"" | b"." | b"..") || name.iter().any(|byte| matches!(byte, b'/' | 0)) {
        return Err(Errno::EINVAL.into());
    }
    Ok(NameHash::of(name).bucket_bits.to_be_bytes())
}

impl Victim {
    fn encode(self) -> (u8, InodeId) {
        match self {
            Victim::Unknown => (0, InodeId(0)),
            Victim::NotOpen(ino) => (1, ino),
            Victim::Open(ino) => (2, ino),
        }
    }
}

fn fate(byte: u8, reply: &mut Reader) -> Result<Fate, MetaError> {
    match byte {
        0 => Ok(Fate::Linked),
        1 => Ok(Fate::Orphaned),
        2 => Ok(Fate::Purged(dropped_slices(&reply.last_records()?, &[]))),
        _ => Err(MetaError::Corrupt(format!("a script reported the fate {byte}"))),
    }
}

pub(crate) fn dangling(ino: InodeId) -> MetaError {
    MetaError::Corrupt(format!("a name leads to inode {ino}, which does not exist"))
}

impl Session {
    /// What a name leads to; ENOENT. `.` and `..` are the caller's.
    pub fn lookup(&self, parent: InodeId, name: &[u8]) -> Result<Found, MetaError> {
        self.volume.lookup(parent, name)
    }

    /// Makes a file, directory, symbolic link or special file, unless the name exists.
    pub fn create(
        &self,
        parent: InodeId,
        name: &[u8],
        new: &NewInode<'_>,
        now: Timestamp,
    ) -> Result<Created, MetaError> {
        let hash = checked(name)?;
        let is_link = new.kind == FileKind::Symlink;
        if new.target.len() > SYMLINK_BYTES_MAX {
            return Err(Errno::ENAMETOOLONG.into());
        }
        if is_link == new.target.is_empty() {
            return Err(if is_link { Errno::ENOENT } else { Errno::EINVAL }.into());
        }
        let of = self.of(parent)?;
        let ino = self.alloc_inode(parent)?;
        let is_dir = new.kind == FileKind::Directory;
        let attr = Attr {
            ino,
            kind: new.kind,
            perm: new.perm & 0o7777 & !(new.umask & 0o777),
            flags: AttrFlags(if is_link { AttrFlags::INLINE } else { 0 }),
            nlink: if is_dir { 2 } else { 1 },
            uid: new.uid,
            gid: new.gid,
            size: new.target.len() as u64,
            mtime: now,
            ctime: now,
            atime: now,
            btime: now,
            rdev: new.rdev,
            parent: is_dir.then_some(parent),
            entries: 0,
            buckets: u32::from(is_dir),
        };
        let asked = (new.perm & 0o777).to_be_bytes();
        let request = [&parent.to_bytes()[..], &ino.to_bytes(), &hash, &asked].concat();
        let packed = attr.pack();
        let args: [&[u8]; 4] = [&request, name, &packed, new.target];
        let reply = of.lanes.mutate(&scripts::CREATE, &args[..if is_link { 4 } else { 3 }]);
        // Any answer but "done" means that the number is free; no answer means nothing.
        if !matches!(&reply, Ok((0, _)) | Err(_)) {
            self.give_back(ino);
        }
        created("create", parent, ino, reply?)
    }

    /// Gives an inode (no directory: EPERM) one more name. `created` false: the name exists.
    pub fn link(
        &self,
        ino: InodeId,
        parent: InodeId,
        name: &[u8],
        now: Timestamp,
    ) -> Result<Created, MetaError> {
        let hash = checked(name)?;
        if ino.shard() != parent.shard() {
            return Err(Errno::EXDEV.into());
        }
        let request =
            [&parent.to_bytes()[..], &ino.to_bytes(), &hash, &now.0.to_be_bytes()].concat();
        let reply = self.of(parent)?.lanes.mutate(&scripts::LINK, &[&request, name])?;
        created("link", parent, ino, reply)
    }

    /// Removes a name that leads to anything but a directory (EISDIR).
    pub fn unlink(
        &self,
        parent: InodeId,
        name: &[u8],
        victim: Victim,
        now: Timestamp,
    ) -> Result<Unlinked, MetaError> {
        self.remove_name(parent, name, victim, now, 0)
    }

    /// Removes an empty directory; ENOTDIR, ENOTEMPTY.
    pub fn rmdir(
        &self,
        parent: InodeId,
        name: &[u8],
        victim: Victim,
        now: Timestamp,
    ) -> Result<Unlinked, MetaError> {
        self.remove_name(parent, name, victim, now, 1)
    }

    fn remove_name(
        &self,
        parent: InodeId,
        name: &[u8],
        victim: Victim,
        now: Timestamp,
        directory: u8,
    ) -> Result<Unlinked, MetaError> {
        let hash = checked(name)?;
        let (kind, expected) = victim.encode();
        let request = [
            &parent.to_bytes()[..],
            &hash,
            &now.0.to_be_bytes(),
            &[kind],
            &expected.to_bytes(),
            &[directory],
        ]
        .concat();
        let rest = done(self.of(parent)?.lanes.mutate(&scripts::UNLINK, &[&request, name])?)?;
        let mut reply = Reader::new("unlink", rest);
        let byte = reply.u8()?;
        let parent = reply.dir_attr(parent)?;
        let ino = reply.ino()?;
        let attr = reply.sized_attr(ino)?;
        Ok(Unlinked { removed: Removed { attr, fate: fate(byte, &mut reply)? }, parent })
    }

    /// Renames. `victim` is about the target that is replaced, if any.
    #[expect(clippy::too_many_arguments, reason = "rename has that many")]
    pub fn rename(
        &self,
        old_parent: InodeId,
        old_name: &[u8],
        new_parent: InodeId,
        new_name: &[u8],
        mode: RenameMode,
        victim: Victim,
        now: Timestamp,
    ) -> Result<Renamed, MetaError> {
        let (old_hash, new_hash) = (checked(old_name)?, checked(new_name)?);
        if old_parent.shard() != new_parent.shard() {
            return Err(Errno::EXDEV.into());
        }
        let mode = match mode {
            RenameMode::Replace => 0,
            RenameMode::NoReplace => 1,
            RenameMode::Exchange => 2,
        };
        let (kind, expected) = victim.encode();
        let request = [
            &old_parent.to_bytes()[..],
            &old_hash,
            &new_parent.to_bytes(),
            &new_hash,
            &now.0.to_be_bytes(),
            &[mode, kind],
            &expected.to_bytes(),
        ]
        .concat();
        let SessionShard { lanes, .. } = self.of(old_parent)?;
        let rest = done(lanes.mutate(&scripts::RENAME, &[&request, old_name, new_name])?)?;
        let mut reply = Reader::new("rename", rest);
        let old_parent = reply.dir_attr(old_parent)?;
        let new_parent = reply.dir_attr(new_parent)?;
        let ino = reply.ino()?;
        let attr = reply.sized_attr(ino)?;
        let mut renamed = Renamed { attr, old_parent, new_parent, replaced: None, exchanged: None };
        match reply.u8()? {
            255 => {}
            3 => {
                let ino = reply.ino()?;
                renamed.exchanged = Some(reply.sized_attr(ino)?);
            }
            byte => {
                let ino = reply.ino()?;
                let attr = reply.sized_attr(ino)?;
                renamed.replaced = Some(Removed { attr, fate: fate(byte, &mut reply)? });
            }
        }
        Ok(renamed)
    }

    /// The target of a symbolic link; EINVAL if it is none.
    pub fn readlink(&self, ino: InodeId) -> Result<Bytes, MetaError> {
        self.of(ino)?.shard.ask(&scripts::READLINK, &[&ino.to_bytes()])
    }

    /// Names after cookie `after` (0 = from the beginning), `want` or a few more; with their
    /// attributes if `attrs`. `.` and `..` are the caller's.
    pub fn readdir(
        &self,
        dir: InodeId,
        after: u64,
        want: u32,
        attrs: bool,
    ) -> Result<DirPage, MetaError> {
        self.volume.readdir(dir, after, want, attrs)
    }
}

fn created(
    script: &'static str,
    parent: InodeId,
    ino: InodeId,
    reply: (u8, Bytes),
) -> Result<Created, MetaError> {
    let exists = reply.0 == Errno::EEXIST.0;
    let rest = if exists { reply.1 } else { done(reply)? };
    let mut reply = Reader::new(script, rest);
    let parent = reply.dir_attr(parent)?;
    let ino = if exists { reply.ino()? } else { ino };
    if reply.is_empty() {
        return Err(dangling(ino));
    }
    Ok(Created { attr: reply.last_attr(ino)?, parent, created: !exists })
}
