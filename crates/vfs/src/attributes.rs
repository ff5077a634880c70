//! Attributes, extended attributes, and what `statfs` tells.

use crate::coherence::Before;
use crate::names::Looked;
use crate::node::Content;
use crate::{Vfs, VfsError};
use bytes::Bytes;
use ringfs_base::limits::{FILE_BYTES_MAX, XATTR_NAME_BYTES_MAX, XATTR_VALUE_BYTES_MAX};
use ringfs_base::{Errno, InodeId, Timestamp};
use ringfs_meta::{Acl, AclKind, Attr, AttrFlags, SetAttr, XattrMode};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A time to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeChange {
    /// The clock's.
    Now,
    /// This one.
    At(Timestamp),
}

/// Times to set along with other attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Last read.
    pub atime: Option<TimeChange>,
    /// Last change of the data.
    pub mtime: Option<TimeChange>,
}

/// Room in the volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VolumeStat {
    /// Bytes that fit in all.
    pub total_bytes: u64,
    /// Bytes that still fit.
    pub free_bytes: u64,
    /// Inodes in use.
    pub inodes: u64,
    /// Inodes that can still be made.
    pub inodes_free: u64,
}

/// Said to be free when nothing bounds the volume: no figure would be truer, and programs that
/// check for room before they write must not be stopped.
const UNBOUNDED_BYTES: u64 = 1 << 50;
const UNBOUNDED_INODES: u64 = 1 << 40;

impl Vfs {
    /// Whether names and attributes may be told from memory: as long as other mounts' changes are
    /// heard, and unless the user wants every answer from the server (a TTL of zero).
    pub(crate) fn believes_memory(&self) -> bool {
        !self.config.kernel_ttl.is_zero() && !self.deaf.load(Ordering::SeqCst)
    }

    /// Attributes, uncommitted writes of this mount included.
    pub fn getattr(&self, ino: InodeId) -> Result<Looked, VfsError> {
        if self.believes_memory()
            && let Some(node) = self.nodes.known(ino)
            && let Some(attr) = node.lock().merged()
        {
            return Ok(Looked { attr, ttl: self.config.kernel_ttl });
        }
        let before = self.changes.before();
        let attr = self.session.getattr(ino)?;
        Ok(self.note_attr(&attr, before))
    }

    /// Changes attributes. Truncation, setting times, and setting permissions after a write
    /// that takes set-id bits away, first write back what is buffered, so that a later flush does
    /// not undo them.
    pub fn setattr(&self, ino: InodeId, change: SetAttr, times: Times) -> Result<Looked, VfsError> {
        let now = self.clock.now();
        let at = |time: Option<TimeChange>| {
            time.map(|t| match t {
                TimeChange::Now => now,
                TimeChange::At(t) => t,
            })
        };
        let change = SetAttr { atime: at(times.atime), mtime: at(times.mtime), ..change };
        if change.size.is_some_and(|size| size > FILE_BYTES_MAX) {
            return Err(Errno::EFBIG.into());
        }
        let node = self.nodes.get(ino);
        let undone_later = change.perm.is_some() && node.lock().will_kill_set_id();
        if change.size.is_some() || change.mtime.is_some() || undone_later {
            self.flush_node(&node)?;
        }
        let before = self.changes.before();
        let changed = self.session.setattr(ino, &change, now).inspect_err(|_| {
            // It may have cut off a part, or all of it without our hearing so.
            if change.size.is_some() {
                node.lock().forget_committed();
            }
        })?;
        self.collector.collect(changed.freed);
        if change.size.is_some() {
            let mut state = node.lock();
            state.content = if changed.attr.size == 0 {
                Content::empty(changed.attr.ctime)
            } else {
                Content::default()
            };
        }
        Ok(self.note_own_change(&changed.attr, changed.previous, before))
    }

    /// One extended attribute; ENODATA. No round trip for an inode known to have none, or, if it
    /// is an ACL, not to have that one.
    pub fn getxattr(&self, ino: InodeId, name: &[u8]) -> Result<Bytes, VfsError> {
        check_xattr_name(name)?;
        let bit = match AclKind::of_xattr(name) {
            Some(AclKind::Access) => AttrFlags::ACL_ACCESS,
            Some(AclKind::Default) => AttrFlags::ACL_DEFAULT,
            None => AttrFlags::XATTRS,
        };
        if self.lacks(ino, bit) {
            return Err(Errno::ENODATA.into());
        }
        Ok(self.session.getxattr(ino, name)?)
    }

    /// Sets an ACL from the kernel's form of it; none, or one without entries, removes it. An
    /// access ACL sets the permission bits; `kill_sgid`: the caller may not keep that bit.
    pub fn set_acl(
        &self,
        ino: InodeId,
        kind: AclKind,
        value: Option<&[u8]>,
        kill_sgid: bool,
    ) -> Result<(), VfsError> {
        let acl = value.map_or(Ok(None), Acl::parse)?;
        let before = self.changes.before();
        let now = self.clock.now();
        let attr = self.session.set_acl(ino, kind, acl.as_ref(), kill_sgid, now)?;
        self.note_attr(&attr, before);
        Ok(())
    }

    /// Names of the extended attributes.
    pub fn listxattr(&self, ino: InodeId) -> Result<Vec<Vec<u8>>, VfsError> {
        if self.lacks(ino, AttrFlags::XATTRS) {
            return Ok(Vec::new());
        }
        Ok(self.session.listxattr(ino)?)
    }

    /// Sets an extended attribute.
    pub fn setxattr(
        &self,
        ino: InodeId,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> Result<(), VfsError> {
        check_xattr_name(name)?;
        if value.len() > XATTR_VALUE_BYTES_MAX {
            return Err(Errno::E2BIG.into());
        }
        let before = self.changes.before();
        let attr = self.session.setxattr(ino, name, value, mode, self.clock.now())?;
        self.note_untold(&attr, before);
        Ok(())
    }

    /// Removes an extended attribute; ENODATA.
    pub fn removexattr(&self, ino: InodeId, name: &[u8]) -> Result<(), VfsError> {
        check_xattr_name(name)?;
        let before = self.changes.before();
        let attr = self.session.removexattr(ino, name, self.clock.now())?;
        self.note_untold(&attr, before);
        Ok(())
    }

    /// Room in the volume: what its limits leave, or else the memory of the block servers; in a
    /// directory tree with a quota what that leaves.
    pub fn statfs(&self, ino: InodeId) -> Result<VolumeStat, VfsError> {
        let (usage, tree) = self.session.volume().usage_at(ino)?;
        let (total_bytes, free_bytes) = match (usage.bytes_max, self.upkeep.capacity()) {
            (0, None) => {
                let total = UNBOUNDED_BYTES.max(usage.bytes);
                (total, total - usage.bytes)
            }
            // The servers were asked some time ago: what has been written since is not free.
            (0, Some(then)) => {
                let written = usage.bytes.saturating_sub(then.files_bytes);
                (then.total_bytes, then.free_bytes.saturating_sub(written))
            }
            (max, _) => (max, max.saturating_sub(usage.bytes)),
        };
        let inodes_max = if usage.inodes_max == 0 { UNBOUNDED_INODES } else { usage.inodes_max };
        let mut stat = VolumeStat {
            total_bytes,
            free_bytes,
            inodes: usage.inodes,
            inodes_free: inodes_max.saturating_sub(usage.inodes),
        };
        if let Some(tree) = tree {
            if tree.bytes_max > 0 {
                stat.total_bytes = tree.bytes_max;
                stat.free_bytes = stat.free_bytes.min(tree.bytes_max.saturating_sub(tree.bytes));
            }
            if tree.inodes_max > 0 {
                let left = tree.inodes_max.saturating_sub(tree.inodes);
                stat.inodes = tree.inodes;
                stat.inodes_free = stat.inodes_free.min(left);
            }
        }
        Ok(stat)
    }

    /// Whether the inode is known not to have what this flag tells of.
    fn lacks(&self, ino: InodeId, bit: u16) -> bool {
        self.believes_memory()
            && self
                .nodes
                .known(ino)
                .and_then(|node| node.lock().attr)
                .is_some_and(|attr| !attr.flags.has(bit))
    }

    /// Attributes that a reply brought along, cached if nothing changed meanwhile and the
    /// frontend knows the inode. What is returned is for the frontend.
    pub(crate) fn note_attr(&self, attr: &Attr, before: Before) -> Looked {
        self.note(attr, before, true)
    }

    /// The same where the frontend is not told, so that it may go on with other ones.
    pub(crate) fn note_untold(&self, attr: &Attr, before: Before) {
        self.note(attr, before, false);
    }

    fn note(&self, attr: &Attr, before: Before, told: bool) -> Looked {
        let fresh = self.changes.none_since(before, attr.ino);
        let ttl = if fresh { self.config.kernel_ttl } else { Duration::ZERO };
        let Some(node) = self.nodes.known(attr.ino) else {
            return Looked { attr: *attr, ttl };
        };
        let mut state = node.lock();
        // A slower reply must not put back what a newer one has brought.
        let newer = state.is_no_older(attr.ctime);
        if fresh && newer {
            let same = state.attr.is_some_and(|k| (k.size, k.mtime) == (attr.size, attr.mtime));
            state.untold = !told && (state.untold || !same);
            state.attr = Some(*attr);
        }
        let shown = if newer { *attr } else { state.attr.unwrap_or(*attr) };
        Looked { attr: state.with_pending(shown), ttl }
    }

    /// As [`Self::note_attr`], after a change by this mount that left the data as they were. If
    /// nobody else changed the inode since `previous`, what is cached carries the new version.
    pub(crate) fn note_own_change(
        &self,
        attr: &Attr,
        previous: Timestamp,
        before: Before,
    ) -> Looked {
        if let Some(node) = self.nodes.known(attr.ino) {
            node.lock().carry_version(previous, attr.ctime);
        }
        self.note_attr(attr, before)
    }
}

fn check_xattr_name(name: &[u8]) -> Result<(), VfsError> {
    match name.len() {
        0 => Err(Errno::EINVAL.into()),
        1..=XATTR_NAME_BYTES_MAX => Ok(()),
        _ => Err(Errno::ERANGE.into()),
    }
}
