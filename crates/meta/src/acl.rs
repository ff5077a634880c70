//! POSIX access control lists, in the form in which Linux passes them as extended attributes.
//!
//! ```text
//! 0 version u32 (2)   then for each entry: tag u16, permissions u16, user or group u32
//! ```
//!
//! All little-endian, in this order: owner, users, owning group, groups, mask, others. What is
//! stored is exactly that form, so that a reader needs no translation; the script fragment
//! `acl.lua` changes permissions in it.

use crate::attr::Attr;
use ringfs_base::Errno;

/// Extended attribute of the ACL that decides who may do what.
pub const ACL_ACCESS_XATTR: &[u8] = b"system.posix_acl_access";
/// Extended attribute of the ACL that a directory passes on to what is made in it.
pub const ACL_DEFAULT_XATTR: &[u8] = b"system.posix_acl_default";

/// Most entries of an ACL: the kernel reads it into one page of 4096 bytes.
pub const ACL_ENTRIES_MAX: usize = (4096 - HEADER_BYTES) / ENTRY_BYTES;

const HEADER_BYTES: usize = 4;
const ENTRY_BYTES: usize = 8;
const VERSION: u32 = 2;
/// The id of entries that name nobody.
const NOBODY: u32 = u32::MAX;

/// Which of an inode's two ACLs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AclKind {
    /// The one that decides who may do what with the inode.
    Access,
    /// A directory's, that what is made in it inherits.
    Default,
}

impl AclKind {
    /// The ACL that an extended attribute stands for.
    pub fn of_xattr(name: &[u8]) -> Option<AclKind> {
        match name {
            ACL_ACCESS_XATTR => Some(AclKind::Access),
            ACL_DEFAULT_XATTR => Some(AclKind::Default),
            _ => None,
        }
    }

    /// The extended attribute that it is kept as.
    pub const fn xattr(self) -> &'static [u8] {
        match self {
            AclKind::Access => ACL_ACCESS_XATTR,
            AclKind::Default => ACL_DEFAULT_XATTR,
        }
    }
}

/// Whom an entry is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AclTag {
    /// The inode's owner.
    Owner,
    /// A user.
    User(u32),
    /// The inode's group.
    OwningGroup,
    /// A group.
    Group(u32),
    /// The most that users, the owning group and groups can have.
    Mask,
    /// Everybody else.
    Others,
}

impl AclTag {
    fn read(tag: u16, id: u32) -> Option<AclTag> {
        Some(match tag {
            0x01 => AclTag::Owner,
            0x02 if id != NOBODY => AclTag::User(id),
            0x04 => AclTag::OwningGroup,
            0x08 if id != NOBODY => AclTag::Group(id),
            0x10 => AclTag::Mask,
            0x20 => AclTag::Others,
            _ => return None,
        })
    }

    fn parts(self) -> (u16, u32) {
        match self {
            AclTag::Owner => (0x01, NOBODY),
            AclTag::User(id) => (0x02, id),
            AclTag::OwningGroup => (0x04, NOBODY),
            AclTag::Group(id) => (0x08, id),
            AclTag::Mask => (0x10, NOBODY),
            AclTag::Others => (0x20, NOBODY),
        }
    }

    /// The place among the entries of a valid list.
    fn rank(self) -> u8 {
        match self {
            AclTag::Owner => 0,
            AclTag::User(_) => 1,
            AclTag::OwningGroup => 2,
            AclTag::Group(_) => 3,
            AclTag::Mask => 4,
            AclTag::Others => 5,
        }
    }
}

/// What somebody is allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AclEntry {
    /// Whom it is about.
    pub tag: AclTag,
    /// Read 4, write 2, execute 1.
    pub perm: u16,
}

/// A valid access control list: owner, owning group and others once each, a mask if users or
/// groups are named.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Acl(Vec<AclEntry>);

impl Acl {
    /// Reads an extended attribute's value. `None` for a list without entries, which stands for
    /// no ACL. EINVAL for what is no valid list, EOPNOTSUPP for an unknown version, E2BIG for more
    /// than [`ACL_ENTRIES_MAX`] entries; what the kernel answers in each case.
    pub fn parse(bytes: &[u8]) -> Result<Option<Acl>, Errno> {
        let (version, rest) = bytes.split_first_chunk::<4>().ok_or(Errno::EINVAL)?;
        if u32::from_le_bytes(*version) != VERSION {
            return Err(Errno::EOPNOTSUPP);
        }
        let (entries, odd) = rest.as_chunks::<ENTRY_BYTES>();
        if !odd.is_empty() {
            return Err(Errno::EINVAL);
        }
        if entries.len() > ACL_ENTRIES_MAX {
            return Err(Errno::E2BIG);
        }
        let entries = entries.iter().map(|[t0, t1, p0, p1, id @ ..]| {
            let tag = AclTag::read(u16::from_le_bytes([*t0, *t1]), u32::from_le_bytes(*id))?;
            Some(AclEntry { tag, perm: u16::from_le_bytes([*p0, *p1]) })
        });
        let entries: Option<Vec<AclEntry>> = entries.collect();
        let acl = Acl(entries.ok_or(Errno::EINVAL)?);
        if acl.0.is_empty() {
            return Ok(None);
        }
        if acl.is_valid() { Ok(Some(acl)) } else { Err(Errno::EINVAL) }
    }

    fn is_valid(&self) -> bool {
        let count = |rank| self.0.iter().filter(|entry| entry.tag.rank() == rank).count();
        let named = count(1) + count(3) > 0;
        self.0.iter().all(|entry| entry.perm <= 7)
            && self.0.is_sorted_by_key(|entry| entry.tag.rank())
            && [0, 2, 5].iter().all(|rank| count(*rank) == 1)
            && count(4) <= 1
            && (!named || count(4) == 1)
    }

    /// The value of the extended attribute.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = VERSION.to_le_bytes().to_vec();
        for entry in &self.0 {
            let (tag, id) = entry.tag.parts();
            out.extend_from_slice(&tag.to_le_bytes());
            out.extend_from_slice(&entry.perm.to_le_bytes());
            out.extend_from_slice(&id.to_le_bytes());
        }
        out
    }

    /// Its entries, in order.
    pub fn entries(&self) -> &[AclEntry] {
        &self.0
    }

    /// Whether the permission bits say all that it says: then it is not stored.
    pub fn is_mode(&self) -> bool {
        self.0.len() == 3
    }

    /// The nine permission bits that it stands for: those of owner and others, and for the group
    /// the mask if there is one.
    pub fn perm(&self) -> u16 {
        let mut perm = 0;
        for entry in &self.0 {
            match entry.tag {
                AclTag::Owner => perm |= entry.perm << 6,
                AclTag::OwningGroup if self.is_mode() => perm |= entry.perm << 3,
                AclTag::Mask => perm |= entry.perm << 3,
                AclTag::Others => perm |= entry.perm,
                AclTag::User(_) | AclTag::OwningGroup | AclTag::Group(_) => {}
            }
        }
        perm
    }

    /// Whether a user may do `want` (read 4, write 2, execute 1) with an inode that has this
    /// access ACL, as acl(5) has it.
    pub fn permits(
        &self,
        attr: &Attr,
        user: u32,
        in_group: impl Fn(u32) -> bool,
        want: u16,
    ) -> bool {
        let allows = |perm: u16| perm & want == want;
        let mask = self.0.iter().find(|e| e.tag == AclTag::Mask).map_or(7, |e| e.perm);
        let mut in_some_group = false;
        for entry in &self.0 {
            match entry.tag {
                AclTag::Owner if user == attr.uid => return allows(entry.perm),
                AclTag::User(id) if user == id => return allows(entry.perm & mask),
                AclTag::OwningGroup if in_group(attr.gid) => {
                    in_some_group = true;
                    if allows(entry.perm) {
                        return allows(entry.perm & mask);
                    }
                }
                AclTag::Group(id) if in_group(id) => {
                    in_some_group = true;
                    if allows(entry.perm) {
                        return allows(entry.perm & mask);
                    }
                }
                AclTag::Others => return !in_some_group && allows(entry.perm),
                _ => {}
            }
        }
        false
    }
}

#[cfg(test)]
mod tests;
