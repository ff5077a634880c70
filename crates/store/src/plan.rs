//! In which order a reader asks the nodes for a block. Pure: no I/O, no clock.

use crate::placement::NodeIndex;

/// What the reader knows about a node before it asks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Condition {
    /// Answers as it should.
    Up,
    /// Was overtaken by another copy lately: asked only if no better one has the block.
    Lagging,
    /// Failed lately, or the membership record says that it is down.
    Suspect,
}

/// The owners, begun at a place chosen by `spread` so that copies share the load, the ones in
/// doubt moved behind.
pub(crate) fn owners_order(
    owners: &[NodeIndex],
    spread: u64,
    condition: impl Fn(NodeIndex) -> Condition,
) -> Vec<NodeIndex> {
    let mut order = owners.to_vec();
    if !order.is_empty() {
        order.rotate_left((spread % owners.len() as u64) as usize);
    }
    order.sort_by_key(|node| condition(*node));
    order
}

/// Where else a copy may be when no owner has a good one: who held the block before, then those
/// that may stand in. Each node once, the ones in doubt last, no owner.
pub(crate) fn others_order(
    owners: &[NodeIndex],
    former: &[NodeIndex],
    stand_ins: &[NodeIndex],
    condition: impl Fn(NodeIndex) -> Condition,
) -> Vec<NodeIndex> {
    let mut order: Vec<NodeIndex> = Vec::new();
    for node in former.iter().chain(stand_ins) {
        if !owners.contains(node) && !order.contains(node) {
            order.push(*node);
        }
    }
    order.sort_by_key(|node| condition(*node));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(numbers: &[usize]) -> Vec<NodeIndex> {
        numbers.iter().copied().map(NodeIndex).collect()
    }

    fn condition(node: NodeIndex) -> Condition {
        match node.0 {
            5 => Condition::Suspect,
            6 => Condition::Lagging,
            _ => Condition::Up,
        }
    }

    #[test]
    fn healthy_owners_share_the_load() {
        let first = |spread| owners_order(&nodes(&[1, 2, 3]), spread, condition)[0].0;
        assert_eq!([first(0), first(1), first(2), first(3)], [1, 2, 3, 1]);
    }

    #[test]
    fn those_in_doubt_come_last_and_no_node_comes_twice() {
        assert_eq!(owners_order(&nodes(&[5, 6, 7]), 0, condition), nodes(&[7, 6, 5]));
        let owners = nodes(&[7, 8]);
        let others = others_order(&owners, &nodes(&[7, 2]), &nodes(&[5, 2, 1]), condition);
        assert_eq!(others, nodes(&[2, 1, 5]));
    }
}
