//! Names of keys on a node: `rfb:<volume>:<slice>.<index>`, the numbers in hexadecimal.
//!
//! There is no hash tag: a node is one server, and the ring, not Redis Cluster, places blocks. The
//! characters of a volume's name (letters, digits, `.`, `_`, `-`) mean nothing in a glob pattern.

use ringfs_base::{BlockId, SliceId, VolumeName};

/// The keys of one volume.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    prefix: Vec<u8>,
}

impl Keys {
    pub(crate) fn new(volume: &VolumeName) -> Keys {
        Keys { prefix: format!("rfb:{volume}:").into_bytes() }
    }

    pub(crate) fn key(&self, block: BlockId) -> Vec<u8> {
        let mut key = self.prefix.clone();
        key.extend_from_slice(block.to_string().as_bytes());
        key
    }

    /// A pattern that matches the keys of this volume's blocks and of no other volume.
    pub(crate) fn pattern(&self) -> Vec<u8> {
        [&self.prefix[..], b"*"].concat()
    }

    /// The block behind a key; `None` if the key is not one that [`Self::key`] writes.
    pub(crate) fn block(&self, key: &[u8]) -> Option<BlockId> {
        let name = std::str::from_utf8(key.strip_prefix(&self.prefix[..])?).ok()?;
        let (slice, index) = name.split_once('.')?;
        let block = BlockId {
            slice: SliceId(u64::from_str_radix(slice, 16).ok()?),
            index: u32::from_str_radix(index, 16).ok()?,
        };
        // Leading zeros, capitals and signs parse too, but are no key of ours.
        (self.key(block) == key).then_some(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_back_and_only_in_its_own_form() {
        let keys = Keys::new(&VolumeName::new("demo").unwrap());
        let block = BlockId { slice: SliceId(0xab_cdef), index: 0x1f };
        assert_eq!(keys.key(block), b"rfb:demo:abcdef.1f");
        assert_eq!(keys.block(b"rfb:demo:abcdef.1f"), Some(block));
        for other in
            [&b"rfb:demo:ABCDEF.1f"[..], b"rfb:demo:+1.2", b"rfb:demo:01.2", b"rfb:demo2:1.2", b""]
        {
            assert_eq!(keys.block(other), None, "{}", other.escape_ascii());
        }
    }
}
