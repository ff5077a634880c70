//! What can go wrong with blocks, and what the caller must do about it.

use crate::frame::Damage;
use ringfs_base::{BlockId, NodeName};
use ringfs_link::LinkError;
use std::fmt;

/// A failure of the store. Each text is a sentence that names the nodes concerned.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Every node that could hold the block answered, and none has it.
    #[error("block {block} is on none of the nodes where it could be ({})", Names(tried))]
    Missing {
        /// The block.
        block: BlockId,
        /// The nodes that were asked.
        tried: Vec<NodeName>,
    },
    /// Copies were found, but no good one.
    #[error("block {block} has no good copy; {}", Bad(bad))]
    Corrupt {
        /// The block.
        block: BlockId,
        /// Where a bad copy is, and what is wrong with it.
        bad: Vec<(NodeName, Damage)>,
    },
    /// Memory ran out on the nodes that should take the block. Nothing of the write remains.
    #[error(
        "block {block} cannot be stored, because the memory of {} is full: \
         delete files, or add nodes",
        Names(nodes)
    )]
    Full {
        /// The block.
        block: BlockId,
        /// The nodes that are full.
        nodes: Vec<NodeName>,
    },
    /// Too few nodes can be reached; those that answered do not have the block.
    #[error("block {block} cannot be reached now; {}", Causes(causes))]
    Unavailable {
        /// The block.
        block: BlockId,
        /// Which node failed, and how.
        causes: Vec<(NodeName, LinkError)>,
    },
    /// The caller asked for what no block can be. A mistake in the program above.
    #[error("block {block}: {what}")]
    Invalid {
        /// The block.
        block: BlockId,
        /// What is wrong.
        what: &'static str,
    },
}

/// What the caller can do about a [`StoreError`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorKind {
    /// It may work later without anybody doing anything: try again for as long as is reasonable.
    Retry,
    /// It will not work: give up (`EIO`).
    GiveUp,
    /// Somebody must make room (`ENOSPC`).
    NoSpace,
}

impl StoreError {
    /// What to do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            StoreError::Unavailable { .. } => ErrorKind::Retry,
            StoreError::Full { .. } => ErrorKind::NoSpace,
            StoreError::Missing { .. }
            | StoreError::Corrupt { .. }
            | StoreError::Invalid { .. } => ErrorKind::GiveUp,
        }
    }
}

struct Names<'a>(&'a [NodeName]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no node at all");
        }
        for (place, name) in self.0.iter().enumerate() {
            write!(f, "{}{name}", if place == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

struct Bad<'a>(&'a [(NodeName, Damage)]);

impl fmt::Display for Bad<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (name, damage)) in self.0.iter().enumerate() {
            write!(f, "{}the copy on {name} is bad: {damage}", if place == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

struct Causes<'a>(&'a [(NodeName, LinkError)]);

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("the ring has no node that is up");
        }
        for (place, (name, cause)) in self.0.iter().enumerate() {
            write!(f, "{}node {name}: {cause}", if place == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringfs_base::SliceId;

    #[test]
    fn messages_are_whole_sentences_that_name_the_nodes() {
        let block = BlockId { slice: SliceId(0x1a), index: 2 };
        let name = |text| NodeName::new(text).unwrap();
        let missing = StoreError::Missing { block, tried: vec![name("a"), name("b")] };
        assert_eq!(
            missing.to_string(),
            "block 1a.2 is on none of the nodes where it could be (a, b)"
        );
        let corrupt = StoreError::Corrupt { block, bad: vec![(name("a"), Damage::SegmentCrc(3))] };
        assert_eq!(
            corrupt.to_string(),
            "block 1a.2 has no good copy; the copy on a is bad: segment 3 fails its checksum"
        );
        let full = StoreError::Full { block, nodes: vec![name("a")] };
        assert_eq!(
            full.to_string(),
            "block 1a.2 cannot be stored, because the memory of a is full: \
             delete files, or add nodes"
        );
        assert_eq!(full.kind(), ErrorKind::NoSpace);
        let none = StoreError::Unavailable { block, causes: Vec::new() };
        assert_eq!(
            none.to_string(),
            "block 1a.2 cannot be reached now; the ring has no node that is up"
        );
    }
}
