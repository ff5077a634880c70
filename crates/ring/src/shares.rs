//! How much of the ring each server holds, counted exactly in rows.

use crate::table::Table;
use ringfs_base::NodeName;

/// What one server holds.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeShare {
    /// Its name.
    pub name: NodeName,
    /// Its weight.
    pub weight: u32,
    /// Rows it is in.
    pub copies: u32,
    /// Rows it is first in.
    pub primaries: u32,
    /// Its part of all copies, 0 to 1.
    pub fraction: f64,
}

/// What every server holds, in the order of [`Table::members`].
#[derive(Clone, Debug, PartialEq)]
pub struct Shares {
    /// One entry a member.
    pub nodes: Vec<NodeShare>,
}

impl Table {
    /// Counts who holds how much.
    pub fn shares(&self) -> Shares {
        let width = usize::from(self.width());
        let mut nodes: Vec<NodeShare> = self
            .members()
            .iter()
            .map(|m| NodeShare {
                name: m.name.clone(),
                weight: m.weight,
                copies: 0,
                primaries: 0,
                fraction: 0.0,
            })
            .collect();
        for (slot, owner) in self.rows.iter().enumerate() {
            let node = &mut nodes[usize::from(*owner)];
            node.copies += 1;
            node.primaries += u32::from(slot % width == 0);
        }
        for node in &mut nodes {
            node.fraction = f64::from(node.copies) / self.rows.len() as f64;
        }
        Shares { nodes }
    }
}

impl Shares {
    /// Largest count of copies over the mean, among servers with weight. 1 is perfect.
    pub fn copies_max_over_mean(&self) -> f64 {
        max_over_mean(self.nodes.iter().filter(|n| n.weight > 0).map(|n| n.copies))
    }

    /// Largest count of primaries over the mean, among servers with weight. 1 is perfect.
    pub fn primaries_max_over_mean(&self) -> f64 {
        max_over_mean(self.nodes.iter().filter(|n| n.weight > 0).map(|n| n.primaries))
    }
}

fn max_over_mean(counts: impl Iterator<Item = u32>) -> f64 {
    let (mut max, mut sum, mut n) = (0, 0u64, 0u64);
    for count in counts {
        max = max.max(count);
        sum += u64::from(count);
        n += 1;
    }
    if sum == 0 { 1.0 } else { f64::from(max) * n as f64 / sum as f64 }
}
