//! Which node gets which copy of a write, as nodes fail on the way. Pure: no I/O, no clock.
//!
//! Every block starts with its owners. A copy that a node could not take goes to the next stand-in
//! of that block, until the wanted number is reached or no node is left.

use crate::placement::NodeIndex;

/// What became of one copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// The node holds it.
    Stored,
    /// The node has no memory left.
    Full,
    /// The node did not answer, or answered with an error.
    Failed,
}

/// The state of one write of several blocks.
#[derive(Debug)]
pub(crate) struct Tracker {
    blocks: Vec<Copies>,
}

#[derive(Debug)]
struct Copies {
    owners: usize,
    /// Owners, and once they do not suffice also the stand-ins.
    candidates: Vec<NodeIndex>,
    has_stand_ins: bool,
    next: usize,
    pending: usize,
    stored: Vec<NodeIndex>,
    full: Vec<NodeIndex>,
    failed: Vec<NodeIndex>,
}

/// How a write ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Every block has enough copies.
    Done {
        /// Copies that are missing in all.
        short: usize,
        /// Copies that are on stand-ins instead of owners.
        stand_ins: usize,
    },
    /// Memory ran out for the block at this place of the write.
    Full { block: usize, nodes: Vec<NodeIndex> },
    /// Too few nodes could be reached for the block at this place of the write.
    Unavailable { block: usize, nodes: Vec<NodeIndex> },
}

impl Tracker {
    /// The owners of each block.
    pub(crate) fn new(blocks: impl Iterator<Item = Vec<NodeIndex>>) -> Tracker {
        let blocks = blocks.map(|owners| Copies {
            owners: owners.len(),
            candidates: owners,
            has_stand_ins: false,
            next: 0,
            pending: 0,
            stored: Vec::new(),
            full: Vec::new(),
            failed: Vec::new(),
        });
        Tracker { blocks: blocks.collect() }
    }

    /// Copies to try now: (place of the block, node). Each must be [`Self::record`]ed. Empty when
    /// there is nothing to try besides what is under way. `stand_ins` is asked at most once for
    /// each block, and only if an owner failed: ranking them costs more than a write's lookup. It is
    /// told the block and who has not taken a copy of it.
    pub(crate) fn next_wave(
        &mut self,
        stand_ins: impl Fn(usize, &[NodeIndex]) -> Vec<NodeIndex>,
    ) -> Vec<(usize, NodeIndex)> {
        let mut wave = Vec::new();
        for (place, block) in self.blocks.iter_mut().enumerate() {
            while block.stored.len() + block.pending < block.owners {
                if block.next == block.candidates.len() && !block.has_stand_ins {
                    let lost: Vec<NodeIndex> =
                        block.full.iter().chain(&block.failed).copied().collect();
                    block.candidates.extend(stand_ins(place, &lost));
                    block.has_stand_ins = true;
                }
                let Some(node) = block.candidates.get(block.next) else { break };
                block.next += 1;
                block.pending += 1;
                wave.push((place, *node));
            }
        }
        wave
    }

    /// Notes what became of a copy of a wave.
    pub(crate) fn record(&mut self, place: usize, node: NodeIndex, outcome: Outcome) {
        let block = &mut self.blocks[place];
        block.pending -= 1;
        match outcome {
            Outcome::Stored => block.stored.push(node),
            Outcome::Full => block.full.push(node),
            Outcome::Failed => block.failed.push(node),
        }
    }

    /// The result, once [`Self::next_wave`] is empty and nothing is under way.
    ///
    /// A copy that is missing because memory ran out fails the write even if `min_copies` are
    /// there: a full ring must say so while every block still has all its copies. A copy that is
    /// missing because nodes are dead does not, down to `min_copies`.
    pub(crate) fn verdict(&self, min_copies: usize) -> Verdict {
        let (mut short, mut stand_ins) = (0, 0);
        for (place, block) in self.blocks.iter().enumerate() {
            debug_assert_eq!(block.pending, 0);
            let missing = block.owners - block.stored.len();
            if missing > 0 && !block.full.is_empty() {
                return Verdict::Full { block: place, nodes: block.full.clone() };
            }
            if block.stored.len() < min_copies.min(block.owners).max(1) {
                return Verdict::Unavailable { block: place, nodes: block.failed.clone() };
            }
            let owners = &block.candidates[..block.owners];
            short += missing;
            stand_ins += block.stored.iter().filter(|node| !owners.contains(node)).count();
        }
        Verdict::Done { short, stand_ins }
    }

    /// Places of the blocks whose copies are not all on their owners.
    pub(crate) fn displaced(&self) -> impl Iterator<Item = usize> {
        self.blocks.iter().enumerate().filter_map(|(place, block)| {
            let owners = &block.candidates[..block.owners];
            let at_home = block.stored.iter().filter(|node| owners.contains(node)).count();
            (at_home < block.owners).then_some(place)
        })
    }

    /// Every copy that was stored, to take them back when the write has failed.
    pub(crate) fn stored(&self) -> impl Iterator<Item = (usize, NodeIndex)> {
        self.blocks
            .iter()
            .enumerate()
            .flat_map(|(place, block)| block.stored.iter().map(move |node| (place, *node)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nodes(numbers: &[usize]) -> Vec<NodeIndex> {
        numbers.iter().copied().map(NodeIndex).collect()
    }

    #[test]
    fn a_failed_owner_is_replaced_by_the_first_stand_in() {
        let mut tracker = Tracker::new([nodes(&[4, 2])].into_iter());
        let stand_ins = |place: usize, lost: &[NodeIndex]| {
            assert_eq!((place, lost), (0, &nodes(&[4])[..]));
            nodes(&[0, 1])
        };
        assert_eq!(tracker.next_wave(stand_ins), [(0, NodeIndex(4)), (0, NodeIndex(2))]);
        assert_eq!(tracker.next_wave(stand_ins), []);
        tracker.record(0, NodeIndex(4), Outcome::Failed);
        assert_eq!(tracker.next_wave(stand_ins), [(0, NodeIndex(0))]);
        tracker.record(0, NodeIndex(2), Outcome::Stored);
        tracker.record(0, NodeIndex(0), Outcome::Stored);
        assert_eq!(tracker.next_wave(stand_ins), []);
        assert_eq!(tracker.verdict(1), Verdict::Done { short: 0, stand_ins: 1 });
    }

    #[test]
    fn a_ring_that_is_full_says_so_before_copies_are_missing() {
        let mut tracker = Tracker::new([nodes(&[0, 1])].into_iter());
        let stand_ins = |_: usize, _: &[NodeIndex]| Vec::new();
        tracker.next_wave(stand_ins);
        tracker.record(0, NodeIndex(0), Outcome::Stored);
        tracker.record(0, NodeIndex(1), Outcome::Full);
        assert_eq!(tracker.next_wave(stand_ins), []);
        assert_eq!(tracker.verdict(1), Verdict::Full { block: 0, nodes: nodes(&[1]) });
        assert_eq!(tracker.stored().collect::<Vec<_>>(), [(0, NodeIndex(0))]);
    }

    proptest! {
        /// Whatever fails: the write ends, uses no node twice for a block, and reaches as many
        /// copies as there are healthy nodes for.
        #[test]
        fn ends_with_as_many_copies_as_nodes_allow(
            copies in 1usize..4, count in 1usize..8, blocks in 1usize..5,
            fates in prop::collection::vec(0u8..3, 8),
        ) {
            let copies = copies.min(count);
            let all: Vec<usize> = (0..count).collect();
            let order = |place: usize| {
                let mut order = all.clone();
                order.rotate_left(place % count);
                nodes(&order)
            };
            let mut tracker = Tracker::new((0..blocks).map(|place| order(place)[..copies].to_vec()));
            let stand_ins = |place: usize, lost: &[NodeIndex]| {
                assert!(!lost.is_empty(), "nobody is replaced without a reason");
                order(place)[copies..].to_vec()
            };
            let fate = |node: NodeIndex| match fates[node.0] {
                0 => Outcome::Stored, 1 => Outcome::Full, _ => Outcome::Failed,
            };
            let mut seen = std::collections::HashSet::new();
            loop {
                let wave = tracker.next_wave(stand_ins);
                if wave.is_empty() { break }
                for (place, node) in wave {
                    prop_assert!(seen.insert((place, node)));
                    tracker.record(place, node, fate(node));
                }
            }
            let healthy = all.iter().filter(|n| fates[**n] == 0).count();
            let full = all.iter().any(|n| fates[*n] == 1);
            match tracker.verdict(1) {
                Verdict::Done { short, .. } => {
                    prop_assert!(healthy >= 1);
                    prop_assert_eq!(short, blocks * (copies - copies.min(healthy)));
                }
                Verdict::Full { .. } => prop_assert!(full && healthy < copies),
                Verdict::Unavailable { .. } => prop_assert!(healthy == 0 && !full),
            }
        }
    }
}
