//! What is in the trash, as its names tell.

use crate::attr::Attr;
use ringfs_base::InodeId;
use std::time::Duration;

/// The trash of a volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trash {
    /// Its directory.
    pub directory: InodeId,
    /// How long what is deleted is kept.
    pub keep: Duration,
    /// Whether what is deleted goes there now; what is in it expires in any case.
    pub on: bool,
}

/// What expires together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrashSlot {
    /// The directory in the trash.
    pub directory: InodeId,
    /// Its name.
    pub name: Vec<u8>,
    /// When it expires, in seconds since 1970 by the metadata server's clock.
    pub expires: u64,
}

/// One inode in the trash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrashItem {
    /// The slot that it is in.
    pub slot: InodeId,
    /// Its name there.
    pub entry: Vec<u8>,
    /// The directory that it was deleted in.
    pub parent: InodeId,
    /// The name that it had; the end of one longer than some 220 bytes is missing.
    pub name: Vec<u8>,
    /// Its attributes.
    pub attr: Attr,
    /// When it expires.
    pub expires: u64,
}

/// Reads the name of an entry: the local number of its old directory, and its old name.
pub(crate) fn decode_entry(entry: &[u8]) -> Option<(u64, &[u8])> {
    let mut parts = entry.splitn(3, |byte| *byte == b'-');
    let mut number = || u64::from_str_radix(std::str::from_utf8(parts.next()?).ok()?, 16).ok();
    let (parent, _) = (number()?, number()?);
    parts.next().map(|name| (parent, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn entries_tell_where_they_were() {
        assert_eq!(decode_entry(b"1-4f-a-name"), Some((1, &b"a-name"[..])));
        assert_eq!(decode_entry(b"1-x-a"), None);
        assert_eq!(decode_entry(b"put here by hand"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(entry in proptest::collection::vec(any::<u8>(), 0..40)) {
            decode_entry(&entry);
        }
    }
}
