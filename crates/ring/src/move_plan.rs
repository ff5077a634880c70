//! What has to be copied where to get from one table to another.

use crate::table::{ArcIndex, Table};
use ringfs_base::{Epoch, NodeName};
use std::collections::BTreeSet;

/// The difference between two tables. Servers are numbered in a list of its own, because
/// neither table knows them all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovePlan {
    /// Epoch of the table before.
    pub from: Epoch,
    /// Epoch of the table after.
    pub to: Epoch,
    /// Arcs in which `moves` are counted: the larger P of the two.
    pub arcs: u32,
    /// Every server of either table, sorted by name.
    pub nodes: Vec<NodeName>,
    /// The arcs whose set of holders changes, in order. Arcs where only the order changes move
    /// nothing and are not listed.
    pub moves: Vec<ArcMove>,
    /// Arcs whose primary is another server now.
    pub primaries_changed: u32,
    /// Copies in the table after.
    pub copies_after: u64,
}

/// What happens in one arc. The numbers index [`MovePlan::nodes`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArcMove {
    /// Which arc.
    pub arc: ArcIndex,
    /// Who must get a copy.
    pub gained: Vec<u16>,
    /// Who may delete its copy, once everyone who gains has one.
    pub lost: Vec<u16>,
    /// Who has a copy to read from, best first: who stays, then who leaves.
    pub sources: Vec<u16>,
}

/// Copies that one server gains and loses, in arcs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeMoves {
    /// Copies it must receive.
    pub gained: u32,
    /// Copies it may delete.
    pub lost: u32,
}

impl MovePlan {
    /// Compares two tables. Different P are compared in the larger one.
    pub fn between(old: &Table, new: &Table) -> MovePlan {
        let names: BTreeSet<&NodeName> =
            old.members().iter().chain(new.members()).map(|m| &m.name).collect();
        let nodes: Vec<NodeName> = names.into_iter().cloned().collect();
        let numbers = |table: &Table| -> Vec<u16> {
            let number = |name| nodes.binary_search(name).expect("the list has every name") as u16;
            table.members().iter().map(|m| number(&m.name)).collect()
        };
        let (old_numbers, new_numbers) = (numbers(old), numbers(new));
        let arcs = old.arcs().max(new.arcs());
        let mut plan = MovePlan {
            from: old.epoch(),
            to: new.epoch(),
            arcs,
            moves: Vec::new(),
            primaries_changed: 0,
            copies_after: u64::from(arcs) * u64::from(new.width()),
            nodes: Vec::new(),
        };
        for arc in (0..arcs).map(ArcIndex) {
            let row = |table: &Table, numbers: &[u16]| -> Vec<u16> {
                table.owners(arc).iter().map(|o| numbers[usize::from(*o)]).collect()
            };
            let (before, after) = (row(old, &old_numbers), row(new, &new_numbers));
            plan.primaries_changed += u32::from(before.first() != after.first());
            let gained: Vec<u16> = without(&after, &before).collect();
            let lost: Vec<u16> = without(&before, &after).collect();
            if !gained.is_empty() || !lost.is_empty() {
                let stays = before.iter().copied().filter(|n| after.contains(n));
                let sources = stays.chain(without(&before, &after)).collect();
                plan.moves.push(ArcMove { arc, gained, lost, sources });
            }
        }
        plan.nodes = nodes;
        plan
    }

    /// Copies that must be made, in arcs.
    pub fn copies_gained(&self) -> u64 {
        self.moves.iter().map(|m| m.gained.len() as u64).sum()
    }

    /// Copies that may be deleted, in arcs.
    pub fn copies_lost(&self) -> u64 {
        self.moves.iter().map(|m| m.lost.len() as u64).sum()
    }

    /// Copies that must be made as a part of all copies, 0 to 1.
    pub fn fraction_moved(&self) -> f64 {
        self.copies_gained() as f64 / self.copies_after.max(1) as f64
    }

    /// What each server gains and loses, in the order of [`Self::nodes`].
    pub fn by_node(&self) -> Vec<NodeMoves> {
        let mut out = vec![NodeMoves::default(); self.nodes.len()];
        for change in &self.moves {
            for n in &change.gained {
                out[usize::from(*n)].gained += 1;
            }
            for n in &change.lost {
                out[usize::from(*n)].lost += 1;
            }
        }
        out
    }

    /// Bytes that must be copied, given the bytes that one copy of each arc has.
    pub fn bytes_to_copy(&self, bytes_of_arc: impl Fn(ArcIndex) -> u64) -> u64 {
        let bytes = |m: &ArcMove| bytes_of_arc(m.arc).saturating_mul(m.gained.len() as u64);
        self.moves.iter().map(bytes).fold(0, u64::saturating_add)
    }

    /// The same estimated from the bytes that are stored once each (not times R), if all arcs
    /// hold about as much.
    pub fn bytes_to_copy_of(&self, stored_bytes: u64) -> u64 {
        let product = u128::from(stored_bytes) * u128::from(self.copies_gained());
        u64::try_from(product / u128::from(self.arcs)).unwrap_or(u64::MAX)
    }

    /// Whether nothing has to be copied or deleted.
    pub fn is_empty(&self) -> bool {
        self.moves.is_empty()
    }
}

fn without<'a>(these: &'a [u16], those: &'a [u16]) -> impl Iterator<Item = u16> + 'a {
    these.iter().copied().filter(|n| !those.contains(n))
}
