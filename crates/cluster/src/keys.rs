//! Which metadata key is what, read from its name.
//!
//! The check reads keys itself instead of asking `ringfs-meta`: it must see what that crate's own
//! view leaves out (a bucket that no name belongs to, a flag without its key). The format of each
//! value is that of `ringfs-meta`.

use ringfs_base::VolumeName;

/// What a key of a shard holds. Numbers are local to the shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum KeyKind {
    /// Attributes of 64 inodes from `64 * group`.
    Attributes(u64),
    /// A bucket of a directory's names.
    Bucket(u64, u32),
    /// Inline data or the target of a symbolic link.
    Inline(u64),
    /// Extents by chunk.
    Extents(u64),
    /// Extended attributes.
    Xattrs(u64),
    /// The trees with quotas that 64 inodes count to.
    Trees(u64),
    /// Directories of a tree whose names are still to be counted.
    Counting(u64),
    /// Advisory locks.
    Locks(u64),
    /// One of the few records of the shard itself.
    Record,
    /// Nothing that this version writes.
    Unknown,
}

/// Keys that belong to the shard as a whole: volume record, ring, control record, heartbeats,
/// acknowledgements, orphans, holds, slice ranges, owners of shared slices, the counter of fsync, who
/// has locks and who waits for some, quotas, whose turn it is to clear the trash; former tables, what
/// is being moved, the nodes' states, what observers see, workers, unreadable files.
const RECORDS: [&[u8]; 20] = [
    b"v", b"ring", b"c", b"b", b"q", b"o", b"h", b"g", b"r", b"barrier", b"ks", b"kw", b"u", b"t",
    b"former", b"mv", b"m", b"obs", b"wk", b"lost",
];

/// `rfs:{<volume>/<shard>}:`
pub(crate) fn prefix(volume: &VolumeName, shard: u16) -> Vec<u8> {
    format!("rfs:{{{volume}/{shard}}}:").into_bytes()
}

/// Reads the part of a key's name behind the prefix.
pub(crate) fn classify(rest: &[u8]) -> KeyKind {
    if RECORDS.contains(&rest) {
        return KeyKind::Record;
    }
    let Some((letter, tail)) = rest.split_first() else { return KeyKind::Unknown };
    if *letter == b'd' {
        let Some(colon) = tail.iter().position(|b| *b == b':') else { return KeyKind::Unknown };
        return match (number(&tail[..colon]), number(&tail[colon + 1..])) {
            (Some(dir), Some(bucket)) if bucket <= u64::from(u32::MAX) => {
                KeyKind::Bucket(dir, bucket as u32)
            }
            _ => KeyKind::Unknown,
        };
    }
    match (letter, number(tail)) {
        (b'a', Some(group)) => KeyKind::Attributes(group),
        (b'i', Some(local)) => KeyKind::Inline(local),
        (b'x', Some(local)) => KeyKind::Extents(local),
        (b'e', Some(local)) => KeyKind::Xattrs(local),
        (b'k', Some(local)) => KeyKind::Locks(local),
        (b'y', Some(group)) => KeyKind::Trees(group),
        (b'w', Some(tree)) => KeyKind::Counting(tree),
        _ => KeyKind::Unknown,
    }
}

/// A decimal number below 2^48 exactly as the scripts write it.
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    let plain = !digits.is_empty() && digits.len() <= 15 && digits.iter().all(u8::is_ascii_digit);
    if !plain || (digits[0] == b'0' && digits.len() > 1) {
        return None;
    }
    let value = digits.iter().fold(0u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    (value < 1 << ringfs_base::limits::INODE_LOCAL_BITS).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_are_told_apart() {
        assert_eq!(classify(b"a12"), KeyKind::Attributes(12));
        assert_eq!(classify(b"d7:3"), KeyKind::Bucket(7, 3));
        assert_eq!(classify(b"i0"), KeyKind::Inline(0));
        assert_eq!(classify(b"x281474976710655"), KeyKind::Extents((1 << 48) - 1));
        assert_eq!(classify(b"e5"), KeyKind::Xattrs(5));
        assert_eq!(classify(b"k9"), KeyKind::Locks(9));
        assert_eq!(classify(b"ks"), KeyKind::Record);
        assert_eq!(classify(b"ring"), KeyKind::Record);
        for unknown in [&b""[..], b"a", b"a01", b"d7", b"d7:", b"d:3", b"z1", b"x281474976710656"] {
            assert_eq!(classify(unknown), KeyKind::Unknown, "{}", unknown.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_classified(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            classify(&bytes);
        }
    }
}
