//! The keys of a volume, and why each is as it is.
//!
//! Every key of a metadata shard begins with `rfs:{<volume>/<shard>}:`. The braces make Redis
//! Cluster keep them in one slot, so that a script may touch them all; names of files never become
//! part of a key. Numbers in keys are decimal, integers in values big-endian and packed.
//!
//! | key | type | holds | because |
//! | --- | --- | --- | --- |
//! | `v` | hash | the volume's record, readable fields (shard 0 only) | read once a mount, and by people |
//! | `c` | hash | the control record: counters (`shares`: times that slices got another owner), limits, ring epoch, version of the ring's state (`ringv`) and of its overlay, `floor`: oldest epoch under which commits are taken, `s`+id sessions, `i`+id who they are, `l`+id+lane what each lane did last, `extras` what only some volumes use (1: owners are counted, 2: all are, 4: there is a trash), `trash` its directory and the seconds that it keeps | one HMGET tells a mutation all it must know before it begins |
//! | `ring` | string | the ring's encoded table | |
//! | `former` | string | the tables before it, newest first, each with its length (4), while blocks are moved | readers look there, too |
//! | `mv` | string | what is being moved and how far (text of `ringfs-cluster`) | one plan at a time; whoever goes on after a crash knows what was asked for |
//! | `m` | hash | `lease`: who coordinates, as session (8), token (8), milliseconds (8); `over` the overlay of nodes that are down; `n`+name what is known of a node | verdicts are made by one who holds the newest token |
//! | `obs` | hash | session: milliseconds (8) and what it last saw of the nodes | two must agree before a node is down |
//! | `wk` | hash | background workers: how each is, and what is wanted of it | status, pause and throttle from any machine |
//! | `lost` | hash | inodes with blocks that could not be read, and when | EIO names its file in `ringfs status` |
//! | `a<n>` | hash | attributes of the inodes 64n to 64n+63, field = number mod 64 | 64 short values in one listpack share the cost of a key (some 90 bytes) |
//! | `d<dir>:<bucket>` | hash | names: inode (8) and type (1) | below 128 names a listpack, 29 bytes a name instead of 100 |
//! | `i<ino>` | string | inline data, or the target of a symbolic link | small files need no block server |
//! | `x<ino>` | hash | extent records by chunk | a large file is never read as a whole |
//! | `k<ino>` | hash | advisory locks held (`p` fcntl, `f` flock) and waited for (`P`, `F`, in order); only while there are any | a lock, its queue and whom to wake are decided by one script |
//! | `ks` | zset | session and inode with locks, all with score 0 | the end of a session frees its locks without a scan |
//! | `kw` | hash | session and lock owner: inodes whose fcntl locks it waits for | the search for deadlocks follows it |
//! | `e<ino>` | hash | extended attributes, ACLs in the kernel's form among them | flags in the attributes tell that there are any, and whether ACLs: who has none pays nothing |
//! | `o` | zset | orphans by the order in which they became orphans | sessions ask for those after the last they know |
//! | `h` | zset | holds: inode and session, all with score 0 | a range by inode tells whether anybody holds it |
//! | `b` | zset | sessions by the second of their last heartbeat | finds the silent ones |
//! | `q` | zset | sessions by the last orphan that they have acknowledged | the first tells what all have |
//! | `g` | hash | session: the ranges of slices handed out to it | tells blocks being written from garbage |
//! | `r` | hash | slice: chunks that show it beyond the first; only slices that several show | a block goes when its last owner goes; who never shares pays nothing |
//! | `u` | hash | quotas: `u`+uid, `g`+gid, `p`+number of a tree: inodes and bytes used, most of each; of a tree also its root and whether it is being counted | exists only where quotas are used; one HMGET tells all that a change counts to |
//! | `y<n>` | hash | the number of the tree that an inode counts to, grouped as `a<n>`; only for inodes with the flag | attributes have no room for it, and few inodes need it |
//! | `w<tree>` | list | directories of a tree whose names are still to be counted, each with the place to go on from | counting goes on after whoever did it has died |
//! | `t` | string | the session whose turn it is to remove what has expired in the trash; expires itself | one of all mounts does it |
//! | `barrier` | string | a counter that fsync raises before WAIT | a wait after a mere read returns at once on some servers |
//! | `~` | | never exists | deleting it first lets a script write when memory is full |
//! | `inv` | channel | what mutations changed, for the caches of other sessions | |

use ringfs_base::VolumeName;
use sha1::{Digest, Sha1};

/// Inodes that share one hash.
pub const ATTRS_PER_KEY: u64 = 64;

/// Inode numbers handed out begin here, so that ranges and hashes have the same borders.
pub const FIRST_INODE: u64 = ATTRS_PER_KEY;

/// What the keys of one shard begin with.
#[derive(Clone, Debug)]
pub struct Prefix(String);

impl Prefix {
    /// The prefix of a volume's shard.
    pub fn new(volume: &VolumeName, shard: u16) -> Prefix {
        Prefix(format!("rfs:{{{volume}/{shard}}}:"))
    }

    /// A key by its name in the table above.
    pub fn key(&self, name: &str) -> String {
        format!("{}{name}", self.0)
    }

    /// Key and field of an inode's attributes.
    pub fn attr(&self, local: u64) -> (String, u64) {
        (format!("{}a{}", self.0, local / ATTRS_PER_KEY), local % ATTRS_PER_KEY)
    }

    /// A key of one inode: `i`, `x` or `e`.
    pub fn of_inode(&self, kind: char, local: u64) -> String {
        format!("{}{kind}{local}", self.0)
    }

    /// A pattern for SCAN that matches all keys of one kind.
    pub fn pattern(&self, kind: &str) -> String {
        // Of the characters allowed in a volume's name and of our own none is special to SCAN.
        format!("{}{kind}*", self.0)
    }

    /// The rest of a key of this shard.
    pub fn strip<'a>(&self, key: &'a [u8]) -> Option<&'a [u8]> {
        key.strip_prefix(self.0.as_bytes())
    }
}

/// Where a name stands: the first 32 bits of its SHA-1 choose the bucket; reversed, with 31 more
/// bits below them, they are the cookie by which a directory is listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NameHash {
    /// The first 32 bits.
    pub bucket_bits: u32,
    /// The next 31 bits.
    pub order_bits: u32,
}

impl NameHash {
    /// Hashes a name.
    pub fn of(name: &[u8]) -> NameHash {
        let digest = Sha1::digest(name);
        let word = |at: usize| {
            u32::from_be_bytes([digest[at], digest[at + 1], digest[at + 2], digest[at + 3]])
        };
        NameHash { bucket_bits: word(0), order_bits: word(4) >> 1 }
    }

    /// The cookie: below 2^63, and at least [`crate::DIR_COOKIE_MIN`].
    pub fn cookie(self) -> u64 {
        let cookie = u64::from(self.bucket_bits.reverse_bits()) << 31 | u64::from(self.order_bits);
        cookie.max(crate::types::DIR_COOKIE_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_shard_share_one_hash_tag() {
        let prefix = Prefix::new(&VolumeName::new("demo").unwrap(), 3);
        assert_eq!(prefix.key("c"), "rfs:{demo/3}:c");
        assert_eq!(prefix.attr(130), ("rfs:{demo/3}:a2".to_owned(), 2));
        assert_eq!(prefix.strip(b"rfs:{demo/3}:x77"), Some(&b"x77"[..]));
    }

    #[test]
    fn cookies_are_positive_and_follow_the_reversed_hash() {
        let hash = NameHash { bucket_bits: 1, order_bits: 5 };
        assert_eq!(hash.cookie(), (1 << 62) | 5);
        let least = NameHash { bucket_bits: 0, order_bits: 0 };
        assert_eq!(least.cookie(), crate::types::DIR_COOKIE_MIN);
        let most = NameHash { bucket_bits: u32::MAX, order_bits: u32::MAX >> 1 };
        assert_eq!(most.cookie(), i64::MAX as u64);
    }
}
