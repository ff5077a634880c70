//! Names and paths of a volume, for sessions and for tools that have none.

use super::Volume;
use crate::attr::{Attr, FileKind};
use crate::error::MetaError;
use crate::reply::Reader;
use crate::schema::NameHash;
use crate::scripts;
use crate::session::{checked, dangling};
use crate::types::{DirItem, DirPage, Found};
use ringfs_base::{Errno, InodeId};

/// Most names asked for in one reply of readdir.
const READDIR_NAMES_MAX: u32 = 4096;
/// One past the last place of a directory.
const PLACES_END: u64 = 1 << 32;

/// Directories above one another that a path may have; more are a circle.
const DEPTH_MAX: usize = 4096;

impl Volume {
    /// What a name leads to; ENOENT. `.` and `..` are the caller's.
    pub fn lookup(&self, parent: InodeId, name: &[u8]) -> Result<Found, MetaError> {
        let hash = checked(name)?;
        let request = [&parent.to_bytes()[..], &hash].concat();
        let rest = self.shard_of(parent)?.ask(&scripts::LOOKUP, &[&request, name])?;
        let mut reply = Reader::new("lookup", rest);
        let parent = reply.dir_attr(parent)?;
        let ino = reply.ino()?;
        if reply.is_empty() {
            return Err(dangling(ino));
        }
        Ok(Found { attr: reply.last_attr(ino)?, parent })
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
        let first = (after >> 31) as u32;
        let want = want.clamp(1, READDIR_NAMES_MAX);
        let request =
            [&dir.to_bytes()[..], &first.to_be_bytes(), &want.to_be_bytes(), &[u8::from(attrs)]]
                .concat();
        let rest = self.shard_of(dir)?.ask(&scripts::READDIR, &[&request])?;
        let mut reply = Reader::new("readdir", rest);
        let dir = reply.dir_attr(dir)?;
        let end = reply.u64()?;
        let mut items = Vec::new();
        while !reply.is_empty() {
            let length = reply.u8()?;
            let name = reply.take(length.into())?.to_vec();
            let ino = reply.ino()?;
            let kind = FileKind::from_dirent_type(reply.u8()?)
                .ok_or_else(|| MetaError::Corrupt(format!("a name leads to no kind: {ino}")))?;
            let length = reply.u8()?;
            let attr = match length {
                0 => None,
                length => Some(reply.attr(ino, length.into())?),
            };
            let cookie = NameHash::of(&name).cookie();
            if cookie > after {
                items.push(DirItem { name, ino, kind, cookie, attr });
            }
        }
        items.sort_unstable_by(|a, b| (a.cookie, &a.name).cmp(&(b.cookie, &b.name)));
        // Everything before place `end` has been seen: go on with the largest cookie before it.
        let next = (end < PLACES_END).then(|| (end << 31) - 1);
        Ok(DirPage { items, next, dir })
    }

    /// The inode at a path from the root; symbolic links are not followed. ENOENT, ENOTDIR.
    pub fn resolve(&self, path: &[u8]) -> Result<Attr, MetaError> {
        let mut attr = self.getattr(InodeId::ROOT)?;
        for name in path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")) {
            attr = self.lookup(attr.ino, name)?.attr;
        }
        Ok(attr)
    }

    /// The path of a directory from the root, with a slash before each name. ENOENT if it has none
    /// (any more). One round trip or more for each level.
    pub fn path_of(&self, dir: InodeId) -> Result<Vec<u8>, MetaError> {
        let mut names = Vec::new();
        let mut ino = dir;
        while ino != InodeId::ROOT {
            let parent = self.getattr(ino)?.parent.ok_or(Errno::ENOTDIR)?;
            if parent == ino || names.len() > DEPTH_MAX {
                return Err(Errno::ENOENT.into());
            }
            names.push(self.name_in(parent, ino)?);
            ino = parent;
        }
        if names.is_empty() {
            return Ok(b"/".to_vec());
        }
        Ok(names.iter().rev().flat_map(|name| [&b"/"[..], name].concat()).collect())
    }

    fn name_in(&self, parent: InodeId, ino: InodeId) -> Result<Vec<u8>, MetaError> {
        let mut after = Some(0);
        while let Some(cookie) = after {
            let page = self.readdir(parent, cookie, READDIR_NAMES_MAX, false)?;
            if let Some(item) = page.items.into_iter().find(|item| item.ino == ino) {
                return Ok(item.name);
            }
            after = page.next;
        }
        Err(Errno::ENOENT.into())
    }
}
