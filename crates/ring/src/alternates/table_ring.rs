//! The partition table, as one placement among others.

use super::{Placement, Scheme};
use crate::member::Member;
use crate::optimiser::{PlanError, plan};
use crate::table::Table;

/// [`Table`] behind the common trait; a change of membership is a [`plan`].
#[derive(Clone, Debug)]
pub struct TableRing {
    table: Table,
}

impl TableRing {
    /// Plans a first table.
    pub fn new(members: &[Member], replicas: u8, arcs: u32) -> Result<TableRing, PlanError> {
        Ok(TableRing { table: plan(None, members, replicas, arcs)? })
    }

    /// The table.
    pub fn table(&self) -> &Table {
        &self.table
    }
}

impl Placement for TableRing {
    fn name(&self) -> &'static str {
        Scheme::Table.name()
    }

    fn members(&self) -> &[Member] {
        self.table.members()
    }

    fn owners_at(&self, point: u64, replicas: u8, out: &mut Vec<u16>) {
        let owners = self.table.owners(self.table.arc_at(point));
        out.clear();
        out.extend_from_slice(&owners[..owners.len().min(usize::from(replicas))]);
    }

    fn changed(&self, members: &[Member]) -> Result<Box<dyn Placement>, PlanError> {
        let (replicas, arcs) = (self.table.replicas(), self.table.arcs());
        Ok(Box::new(TableRing { table: plan(Some(&self.table), members, replicas, arcs)? }))
    }

    fn is_weighted(&self) -> bool {
        true
    }
}
