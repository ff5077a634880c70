//! Newtypes for everything that is counted or named, so that two of them cannot be swapped.

use crate::limits::INODE_LOCAL_BITS;
use std::fmt;

macro_rules! id64 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl $name {
            /// Big-endian bytes, the form in which it is stored.
            pub const fn to_bytes(self) -> [u8; 8] {
                self.0.to_be_bytes()
            }
            /// Reads what [`Self::to_bytes`] wrote.
            pub const fn from_bytes(bytes: [u8; 8]) -> Self {
                Self(u64::from_be_bytes(bytes))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:#x})", stringify!($name), self.0)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

id64!(
    /// An inode of one volume. The upper 16 bits name its metadata shard. Never used twice.
    InodeId
);
id64!(
    /// A run of bytes written once by one session, cut into blocks. Never used twice.
    SliceId
);
id64!(
    /// One mount (or tool) of a volume, from its registration until it leaves or its lease ends.
    SessionId
);
id64!(
    /// Version of the ring's table; grows by one with each change of membership.
    Epoch
);

impl InodeId {
    /// The root directory of every volume.
    pub const ROOT: InodeId = InodeId(1);

    /// The metadata shard that holds this inode.
    pub const fn shard(self) -> u16 {
        (self.0 >> INODE_LOCAL_BITS) as u16
    }

    /// The number within its shard.
    pub const fn local(self) -> u64 {
        self.0 & ((1 << INODE_LOCAL_BITS) - 1)
    }
}

/// One block: the `index`-th piece of [`crate::limits::BLOCK_BYTES`] bytes of a slice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId {
    /// The slice it belongs to.
    pub slice: SliceId,
    /// Its place in the slice, from 0.
    pub index: u32,
}

impl fmt::Debug for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockId({self})")
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{:x}", self.slice.0, self.index)
    }
}

impl BlockId {
    /// Slice then index, big-endian: the bytes that the ring hashes and the frame carries.
    pub fn to_bytes(self) -> [u8; 12] {
        let mut out = [0; 12];
        out[..8].copy_from_slice(&self.slice.to_bytes());
        out[8..].copy_from_slice(&self.index.to_be_bytes());
        out
    }
}

/// Random identity of a volume, made by `format`: two volumes of the same name differ in it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct VolumeUuid(pub [u8; 16]);

impl fmt::Display for VolumeUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl VolumeUuid {
    /// Reads the 36-character form that [`fmt::Display`] writes; dashes may be left out.
    pub fn parse(text: &str) -> Option<VolumeUuid> {
        let digits: Vec<u8> = text.bytes().filter(|b| *b != b'-').collect();
        if digits.len() != 32 {
            return None;
        }
        let mut out = [0; 16];
        for (byte, pair) in out.iter_mut().zip(digits.chunks(2)) {
            let high = (pair[0] as char).to_digit(16)?;
            let low = (pair[1] as char).to_digit(16)?;
            *byte = (high << 4 | low) as u8;
        }
        Some(VolumeUuid(out))
    }
}

macro_rules! checked_name {
    ($(#[$doc:meta])* $name:ident, $error:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        /// Why a name was refused; its text is a whole sentence for the user.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $error(String);

        impl fmt::Display for $error {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(
                    f,
                    "\"{}\" is no {}: use 1 to 63 of the characters a-z A-Z 0-9 . _ - \
                     and begin with a letter or digit",
                    self.0.escape_debug(), $what
                )
            }
        }
        impl std::error::Error for $error {}

        impl $name {
            /// Checks and takes a name.
            pub fn new(text: &str) -> Result<Self, $error> {
                let rest_ok =
                    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
                let first_ok = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
                if rest_ok && first_ok && text.len() <= 63 {
                    Ok(Self(text.to_owned()))
                } else {
                    Err($error(text.chars().take(80).collect()))
                }
            }
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl std::str::FromStr for $name {
            type Err = $error;
            fn from_str(text: &str) -> Result<Self, $error> {
                Self::new(text)
            }
        }
    };
}

checked_name!(
    /// Name of a volume. Part of every key, so its characters are few.
    VolumeName, VolumeNameError, "volume name"
);
checked_name!(
    /// Name of a node (a block server). Placement hashes it, so it outlives changes of address.
    NodeName, NodeNameError, "node name"
);
checked_name!(
    /// Name of a zone: servers that may fail together (a rack, a room, one machine).
    ZoneName, ZoneNameError, "zone name"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_their_key_are_refused() {
        for bad in ["", "-a", ".", "a}b", "a{b", "a b", "a/b", "a\n", "é", &"a".repeat(64)] {
            assert!(VolumeName::new(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "demo", "0", "a.b_c-d", &"a".repeat(63)] {
            assert_eq!(VolumeName::new(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn uuid_reads_what_it_writes() {
        let uuid = VolumeUuid(*b"0123456789abcdef");
        assert_eq!(VolumeUuid::parse(&uuid.to_string()), Some(uuid));
        assert_eq!(VolumeUuid::parse("zz"), None);
    }

    #[test]
    fn inode_numbers_carry_their_shard() {
        let inode = InodeId(7 << 48 | 42);
        assert_eq!((inode.shard(), inode.local()), (7, 42));
    }
}
