//! Which blocks a pass of the mover looks at, and which of their copies are new there. Pure.

use crate::membership::Ring;
use ringfs_base::{BlockId, NodeName};
use ringfs_ring::{ArcIndex, MovePlan, StatusOverlay, Table};
use ringfs_store::{NodeIndex, Placement, RingPlacement};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Some arcs of a ring.
pub(super) struct Scope {
    table: Arc<Table>,
    arcs: Vec<bool>,
    /// Where the tables before had blocks, each for itself.
    before: Vec<RingPlacement>,
    /// Every owner counts as new: not all tables before are known.
    whole: bool,
}

impl Scope {
    /// The arcs that other servers hold than in any of the tables before; all arcs if `whole`.
    pub(super) fn of_move(ring: &Ring, whole: bool) -> Scope {
        let mut arcs = vec![whole; ring.table.arcs() as usize];
        for former in &ring.former {
            // In the larger of both numbers of arcs, which is the newer one: arcs only double.
            let plan = MovePlan::between(former, &ring.table);
            for change in &plan.moves {
                let same = (change.arc.0 as usize..arcs.len()).step_by(plan.arcs.max(1) as usize);
                same.for_each(|arc| arcs[arc] = true);
            }
        }
        let (names, nobody) = (ring.names(), StatusOverlay::default());
        let before = |table: &Arc<Table>| RingPlacement::new(table.clone(), &names, &nobody, &[]);
        Scope {
            table: ring.table.clone(),
            arcs,
            before: ring.former.iter().map(before).collect(),
            whole,
        }
    }

    /// The arcs that some of `nodes` hold.
    pub(super) fn of_nodes(ring: &Ring, nodes: &BTreeSet<NodeName>) -> Scope {
        let table = &ring.table;
        let held = |arc| {
            let owners =
                table.owners(ArcIndex(arc)).iter().filter_map(|owner| table.member(*owner));
            owners.into_iter().any(|member| nodes.contains(&member.name))
        };
        Scope {
            arcs: (0..table.arcs()).map(held).collect(),
            table: table.clone(),
            before: Vec::new(),
            whole: false,
        }
    }

    /// Whether the block is in it.
    pub(super) fn has(&self, block: BlockId) -> bool {
        let arc = self.table.arc_of(&block.to_bytes());
        self.arcs.get(arc.0 as usize).copied().unwrap_or(true)
    }

    /// Whether an owner of the block had none of its copies before.
    pub(super) fn is_new_at(&self, block: BlockId, owner: NodeIndex) -> bool {
        self.whole || self.before.iter().any(|table| !table.owners(block).contains(&owner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::tests::{after, ring};
    use crate::change::{Change, propose};
    use ringfs_base::SliceId;

    fn blocks() -> impl Iterator<Item = BlockId> {
        (0..2000).map(|slice| BlockId { slice: SliceId(slice), index: 1 })
    }

    #[test]
    fn exactly_the_blocks_that_get_another_owner_are_in_it() {
        let first = ring(&["a", "b", "c", "d"], 2);
        let split = propose(&first, &[Change::Split]).unwrap();
        let mut second = after(&first, &split);
        second.former.clear();
        let out = propose(&second, &[Change::Drain(NodeName::new("b").unwrap())]).unwrap();
        let third = after(&second, &out);
        let again = propose(&third, &[Change::Out(NodeName::new("c").unwrap())]).unwrap();
        let now = after(&third, &again);
        assert_eq!(now.former.len(), 2);
        let scope = Scope::of_move(&now, false);
        let set = |ring: &Ring, block: BlockId| {
            let mut owners = ring.placement().owners(block);
            owners.sort_unstable();
            owners
        };
        let mut moved = 0;
        for block in blocks() {
            let differs = [&second, &third].iter().any(|r| set(r, block) != set(&now, block));
            assert_eq!(scope.has(block), differs, "{block}");
            for owner in set(&now, block) {
                let new = [&second, &third].iter().any(|r| !set(r, block).contains(&owner));
                assert_eq!(scope.is_new_at(block, owner), new);
            }
            moved += u32::from(differs);
        }
        assert!(moved > 500 && moved < 2000, "{moved}");
        assert!(blocks().all(|block| Scope::of_move(&now, true).has(block)));
    }

    #[test]
    fn a_nodes_blocks_are_those_that_it_owns() {
        let ring = ring(&["a", "b", "c", "d"], 2);
        let scope = Scope::of_nodes(&ring, &BTreeSet::from([NodeName::new("c").unwrap()]));
        for block in blocks() {
            assert_eq!(scope.has(block), ring.placement().owners(block).contains(&NodeIndex(2)));
            assert!(!scope.is_new_at(block, NodeIndex(2)));
        }
    }
}
