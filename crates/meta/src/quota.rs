//! Quotas: what they are about, and their records.
//!
//! An inode is counted to its owner and its group if the volume counts owners, and to at most one
//! directory tree. A record is packed as in `scripts/quota.lua`.

use ringfs_base::InodeId;

/// Whose use is limited.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum QuotaSubject {
    /// Everything that a user owns.
    User(u32),
    /// Everything that belongs to a group.
    Group(u32),
    /// Everything in and below a directory.
    Tree(InodeId),
}

/// What a subject uses and may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quota {
    /// Who.
    pub subject: QuotaSubject,
    /// Inodes in use.
    pub inodes: u64,
    /// Bytes of files in use.
    pub bytes: u64,
    /// Most inodes; 0 = no limit.
    pub inodes_max: u64,
    /// Most bytes; 0 = no limit.
    pub bytes_max: u64,
    /// A tree whose content has not been counted to the end: setting the quota again goes on.
    pub counting: bool,
}

/// Whether a volume counts owners and groups.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OwnerCounting {
    /// Not at all.
    #[default]
    Off,
    /// New inodes; the others are being counted, or whoever did so has died: setting a limit again
    /// goes on.
    Begun,
    /// All.
    On,
}

/// The quotas of a volume.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Quotas {
    /// Whether owners and groups are counted.
    pub owners: OwnerCounting,
    /// Everybody who uses something or has a limit, users first.
    pub all: Vec<Quota>,
}

/// Bytes of a record of an owner or a group.
const OWNER_BYTES: usize = 32;
/// Bytes of a record of a tree.
const TREE_BYTES: usize = 41;

impl Quota {
    /// Reads field and value of a record; `None` if they are none.
    pub fn decode(field: &[u8], value: &[u8]) -> Option<Quota> {
        let (kind, digits) = field.split_first()?;
        let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
        let word = |at: usize| Some(u64::from_be_bytes(value.get(at..at + 8)?.try_into().ok()?));
        let owner = || u32::try_from(number).ok();
        let (subject, length) = match kind {
            b'u' => (QuotaSubject::User(owner()?), OWNER_BYTES),
            b'g' => (QuotaSubject::Group(owner()?), OWNER_BYTES),
            b'p' => (QuotaSubject::Tree(InodeId(word(32)?)), TREE_BYTES),
            _ => return None,
        };
        if value.len() != length {
            return None;
        }
        Some(Quota {
            subject,
            inodes: word(0)?,
            bytes: word(8)?,
            inodes_max: word(16)?,
            bytes_max: word(24)?,
            counting: value.get(40) == Some(&1),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn records_are_read() {
        let mut value: Vec<u8> = [7u64, 8, 9, 10].iter().flat_map(|n| n.to_be_bytes()).collect();
        let user = Quota::decode(b"u1000", &value).unwrap();
        assert_eq!(user.subject, QuotaSubject::User(1000));
        assert_eq!((user.inodes, user.bytes, user.inodes_max, user.bytes_max), (7, 8, 9, 10));
        assert_eq!(Quota::decode(b"p3", &value), None);
        value.extend(5u64.to_be_bytes());
        value.push(1);
        let tree = Quota::decode(b"p3", &value).unwrap();
        assert_eq!((tree.subject, tree.counting), (QuotaSubject::Tree(InodeId(5)), true));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            field in proptest::collection::vec(any::<u8>(), 0..12),
            value in proptest::collection::vec(any::<u8>(), 0..50),
        ) {
            Quota::decode(&field, &value);
        }
    }
}
