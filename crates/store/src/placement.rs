//! Where the copies of a block belong: the one question this crate asks of the ring.
//!
//! It is a trait, so that a change of the ring's table is one pointer exchanged under the running
//! reads and writes, and so that tests can put blocks where they want them.

use ringfs_base::{BlockId, Epoch};

/// Index of a node in the list that was given to the store together with the placement.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeIndex(pub usize);

/// A placement of blocks on nodes at one epoch. Every answer is a pure function of the block.
pub trait Placement: Send + Sync {
    /// The epoch of the table behind the answers.
    fn epoch(&self) -> Epoch;

    /// The nodes that should hold the block, first the primary. Distinct, as many as there should
    /// be copies (fewer only if there are fewer nodes). Nodes that are known to be down are among
    /// them: what belongs to them comes back to them.
    fn owners(&self, block: BlockId) -> Vec<NodeIndex>;

    /// All other nodes that are up, in the order in which they take a block when owners fail. The
    /// order is the same on every machine, so that a reader looks first where a writer put it.
    fn stand_ins(&self, block: BlockId) -> Vec<NodeIndex>;

    /// The same for a write in which these nodes could not take their copies: those that may fail
    /// together with an owner that has its copy come last.
    fn stand_ins_without(&self, block: BlockId, lost: &[NodeIndex]) -> Vec<NodeIndex> {
        let _ = lost;
        self.stand_ins(block)
    }

    /// Where a copy is, if an owner or two had failed when the block was written: `most` or a few more.
    fn likely_stand_ins(&self, block: BlockId, most: usize) -> Vec<NodeIndex> {
        let mut all = self.stand_ins(block);
        all.truncate(most);
        all
    }

    /// Whether the membership record says that the node is down: it is then asked last, if at all.
    fn is_down(&self, node: NodeIndex) -> bool {
        let _ = node;
        false
    }

    /// While an epoch is being filled: who held the block before. Readers look there after the
    /// owners; writers do not.
    fn former_owners(&self, block: BlockId) -> Vec<NodeIndex> {
        let _ = block;
        Vec::new()
    }
}

/// The simplest deterministic placement, by rendezvous hashing over `nodes` equal nodes. For tests
/// and measurements; volumes use the ring's table.
#[derive(Clone, Debug)]
pub struct Rendezvous {
    /// How many nodes there are.
    pub nodes: usize,
    /// Copies of each block.
    pub copies: usize,
    /// What [`Placement::epoch`] answers.
    pub epoch: Epoch,
}

impl Rendezvous {
    /// All nodes, best first.
    fn ranking(&self, block: BlockId) -> Vec<NodeIndex> {
        let mut ranked: Vec<(u64, NodeIndex)> = (0..self.nodes)
            .map(|node| {
                (
                    mix(block.slice.0 ^ mix(u64::from(block.index) << 32 | node as u64)),
                    NodeIndex(node),
                )
            })
            .collect();
        ranked.sort_unstable();
        ranked.into_iter().map(|(_, node)| node).collect()
    }
}

impl Placement for Rendezvous {
    fn epoch(&self) -> Epoch {
        self.epoch
    }
    fn owners(&self, block: BlockId) -> Vec<NodeIndex> {
        let mut ranked = self.ranking(block);
        ranked.truncate(self.copies);
        ranked
    }
    fn stand_ins(&self, block: BlockId) -> Vec<NodeIndex> {
        self.ranking(block).split_off(self.copies.min(self.nodes))
    }
}

/// The finalizer of SplitMix64.
pub(crate) fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringfs_base::SliceId;

    #[test]
    fn owners_and_stand_ins_are_all_nodes_once() {
        let placement = Rendezvous { nodes: 5, copies: 2, epoch: Epoch(1) };
        for slice in 0..100 {
            let block = BlockId { slice: SliceId(slice), index: 1 };
            let mut all = placement.owners(block);
            assert_eq!(all.len(), 2);
            all.extend(placement.stand_ins(block));
            all.sort_unstable();
            assert_eq!(all, (0..5).map(NodeIndex).collect::<Vec<_>>());
        }
    }
}
