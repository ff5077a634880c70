//! Placement by the ring's table: what a volume uses.
//!
//! The table names servers by their place among its members, the store by their place in its list
//! of nodes; names join the two. The key that the ring hashes is [`BlockId::to_bytes`].

use crate::placement::{NodeIndex, Placement};
use ringfs_base::{BlockId, Epoch, NodeName};
use ringfs_ring::{DownSet, StatusOverlay, Table};
use std::sync::Arc;

/// A table, who is down, and the tables before while their blocks are still being moved.
pub struct RingPlacement {
    now: Numbered,
    /// Newest first.
    former: Vec<Numbered>,
    down: DownSet,
    is_down: Vec<bool>,
    /// Some servers may fail together.
    is_zoned: bool,
}

/// A table with the node behind each member.
struct Numbered {
    table: Arc<Table>,
    nodes: Vec<NodeIndex>,
}

/// A member that is not among the store's nodes: like one that is down.
const UNKNOWN: NodeIndex = NodeIndex(usize::MAX);

impl Numbered {
    fn new(table: Arc<Table>, nodes: &[NodeName]) -> Numbered {
        let place = |name: &NodeName| nodes.iter().position(|node| node == name);
        let nodes = table
            .members()
            .iter()
            .map(|member| place(&member.name).map_or(UNKNOWN, NodeIndex))
            .collect();
        Numbered { table, nodes }
    }

    fn owners(&self, block: BlockId) -> Vec<NodeIndex> {
        let owners = self.table.owners_of(&block.to_bytes());
        owners.iter().map(|member| self.nodes[usize::from(*member)]).collect()
    }
}

impl RingPlacement {
    /// Places blocks by `table` on `nodes`, the names in the order of the store's list. `former` are
    /// the tables before, newest first, as long as blocks may still be where they placed them.
    pub fn new(
        table: Arc<Table>,
        nodes: &[NodeName],
        overlay: &StatusOverlay,
        former: &[Arc<Table>],
    ) -> RingPlacement {
        RingPlacement {
            down: overlay.resolve(&table),
            is_zoned: table.members().iter().any(|member| member.zone.is_some()),
            is_down: nodes.iter().map(|name| overlay.down.contains(name)).collect(),
            now: Numbered::new(table, nodes),
            former: former.iter().map(|table| Numbered::new(table.clone(), nodes)).collect(),
        }
    }
}

impl Placement for RingPlacement {
    fn epoch(&self) -> Epoch {
        self.now.table.epoch()
    }

    fn owners(&self, block: BlockId) -> Vec<NodeIndex> {
        self.now.owners(block)
    }

    fn stand_ins(&self, block: BlockId) -> Vec<NodeIndex> {
        let arc = self.now.table.arc_of(&block.to_bytes());
        let up = self.now.table.stand_ins(arc).into_iter().filter(|m| !self.down.contains(*m));
        up.map(|member| self.now.nodes[usize::from(member)]).filter(|n| *n != UNKNOWN).collect()
    }

    fn stand_ins_without(&self, block: BlockId, lost: &[NodeIndex]) -> Vec<NodeIndex> {
        let table = &self.now.table;
        let unusable = |member: &u16| {
            let node = self.now.nodes[usize::from(*member)];
            node == UNKNOWN || self.down.contains(*member) || lost.contains(&node)
        };
        let lost: Vec<u16> = (0..table.members().len() as u16).filter(unusable).collect();
        let stand_ins = table.stand_ins_without(table.arc_of(&block.to_bytes()), &lost);
        stand_ins.into_iter().map(|member| self.now.nodes[usize::from(member)]).collect()
    }

    fn likely_stand_ins(&self, block: BlockId, most: usize) -> Vec<NodeIndex> {
        let mut all = self.stand_ins(block);
        all.truncate(most);
        if self.is_zoned {
            // Which zones were avoided depends on who had failed.
            for owner in self.owners(block) {
                let first = self.stand_ins_without(block, &[owner]).into_iter().take(2);
                all.extend(first);
            }
            all.sort_unstable();
            all.dedup();
        }
        all
    }

    fn is_down(&self, node: NodeIndex) -> bool {
        self.is_down.get(node.0).copied().unwrap_or(true)
    }

    fn former_owners(&self, block: BlockId) -> Vec<NodeIndex> {
        let mut all: Vec<NodeIndex> = Vec::new();
        for node in self.former.iter().flat_map(|table| table.owners(block)) {
            if node != UNKNOWN && !all.contains(&node) {
                all.push(node);
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringfs_base::SliceId;
    use ringfs_ring::{Member, plan};

    fn names(list: &[&str]) -> Vec<NodeName> {
        list.iter().map(|name| NodeName::new(name).unwrap()).collect()
    }

    fn table(before: Option<&Table>, list: &[&str]) -> Arc<Table> {
        let members: Vec<Member> = names(list).into_iter().map(Member::new).collect();
        Arc::new(plan(before, &members, 2, 64).unwrap())
    }

    #[test]
    fn names_join_the_tables_members_and_the_stores_nodes() {
        // The table sorts its members; the store's list is in another order.
        let nodes = names(&["c", "a", "d", "b"]);
        let table = table(None, &["a", "b", "c", "d"]);
        let overlay = StatusOverlay::default().marking_down(&nodes[2]).unwrap();
        let placement = RingPlacement::new(table.clone(), &nodes, &overlay, &[]);
        for slice in 0..200 {
            let block = BlockId { slice: SliceId(slice), index: 3 };
            let owners = placement.owners(block);
            for (node, member) in owners.iter().zip(table.owners_of(&block.to_bytes())) {
                assert_eq!(nodes[node.0], table.member(*member).unwrap().name);
            }
            let mut all = owners.clone();
            all.extend(placement.stand_ins(block));
            all.sort_unstable();
            all.dedup();
            let has_down = owners.contains(&NodeIndex(2));
            assert_eq!(all.len(), if has_down { 4 } else { 3 }, "no stand-in is down");
        }
        assert!(placement.is_down(NodeIndex(2)) && !placement.is_down(NodeIndex(0)));
    }

    #[test]
    fn readers_are_told_where_blocks_were_before() {
        let nodes = names(&["a", "b", "c"]);
        let before = table(None, &["a", "b"]);
        let now = table(Some(&before), &["a", "b", "c"]);
        let overlay = StatusOverlay::default();
        let placement = RingPlacement::new(now, &nodes, &overlay, &[before]);
        let block = BlockId { slice: SliceId(1), index: 0 };
        let mut former = placement.former_owners(block);
        former.sort_unstable();
        assert_eq!(former, [NodeIndex(0), NodeIndex(1)]);
    }
}
