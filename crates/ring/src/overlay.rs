//! Servers that are down: a small value of its own beside the table.
//!
//! A server that stops answering is not out of the ring. It is skipped, and for each of its
//! arcs a stand-in takes the writes; nothing moves, and when it returns the overlay shrinks and
//! the stand-ins' few copies go home. Only after a grace time does somebody plan a new epoch.

use crate::table::{ArcIndex, Table};
use ringfs_base::NodeName;
use ringfs_base::limits::REPLICAS_MAX;
use std::collections::BTreeSet;

/// Who is down. Names and not indices, so that it stays true over a change of epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusOverlay {
    /// Grows by one with each change; of two overlays the larger is newer.
    pub version: u64,
    /// The servers to skip.
    pub down: BTreeSet<NodeName>,
}

impl StatusOverlay {
    /// The next version, in which a server is down. `None` if it was down already.
    pub fn marking_down(&self, name: &NodeName) -> Option<StatusOverlay> {
        let mut down = self.down.clone();
        down.insert(name.clone()).then(|| StatusOverlay { version: self.version + 1, down })
    }

    /// The next version, in which a server is up. `None` if it was up already.
    pub fn marking_up(&self, name: &NodeName) -> Option<StatusOverlay> {
        let mut down = self.down.clone();
        down.remove(name).then(|| StatusOverlay { version: self.version + 1, down })
    }

    /// The overlay as a set of indices of one table, for lookups.
    pub fn resolve(&self, table: &Table) -> DownSet {
        let mut set = DownSet::none(table);
        for index in self.down.iter().filter_map(|name| table.index_of(name)) {
            set.insert(index);
        }
        set
    }
}

/// Who is down, by index in one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownSet {
    bits: Vec<u64>,
    any: bool,
}

impl DownSet {
    /// Everybody is up.
    pub fn none(table: &Table) -> DownSet {
        DownSet { bits: vec![0; table.members().len().div_ceil(64)], any: false }
    }

    /// Adds a server. An index that the table does not have is ignored.
    pub fn insert(&mut self, index: u16) {
        if let Some(word) = self.bits.get_mut(usize::from(index) / 64) {
            *word |= 1 << (index % 64);
            self.any = true;
        }
    }

    /// Whether a server is down.
    #[inline]
    pub fn contains(&self, index: u16) -> bool {
        self.bits.get(usize::from(index) / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    /// Whether nobody is down.
    pub fn is_empty(&self) -> bool {
        !self.any
    }
}

/// One server that takes writes for an arc now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EffectiveOwner {
    /// The server, an index into the table's members.
    pub server: u16,
    /// The owner that is down, if the server only stands in for it.
    pub stands_in_for: Option<u16>,
}

/// The servers that take writes for an arc now, true owners first. No allocation.
#[derive(Clone, Copy, Debug)]
pub struct EffectiveOwners {
    slots: [EffectiveOwner; REPLICAS_MAX as usize],
    len: u8,
}

impl std::ops::Deref for EffectiveOwners {
    type Target = [EffectiveOwner];
    fn deref(&self) -> &[EffectiveOwner] {
        &self.slots[..usize::from(self.len)]
    }
}

impl EffectiveOwners {
    fn push(&mut self, owner: EffectiveOwner) {
        self.slots[usize::from(self.len)] = owner;
        self.len += 1;
    }
}

impl Table {
    /// The servers that take writes for an arc while some are down: the owners that are up, in
    /// their order, then one stand-in for each owner that is down, outside the zones already
    /// used where there is such a server. Fewer than [`Table::width`] if too few are up.
    pub fn effective_owners(&self, arc: ArcIndex, down: &DownSet) -> EffectiveOwners {
        let nobody = EffectiveOwner { server: u16::MAX, stands_in_for: None };
        let mut out = EffectiveOwners { slots: [nobody; REPLICAS_MAX as usize], len: 0 };
        let owners = self.owners(arc);
        for server in owners.iter().copied().filter(|o| !down.contains(*o)) {
            out.push(EffectiveOwner { server, stands_in_for: None });
        }
        if out.len() == owners.len() {
            return out;
        }
        for dead in owners.iter().copied().filter(|o| down.contains(*o)) {
            let mut taken = [0; REPLICAS_MAX as usize];
            for (slot, owner) in taken.iter_mut().zip(out.iter()) {
                *slot = owner.server;
            }
            let taken = &taken[..out.len()];
            let best = (0..self.members().len() as u16)
                .filter(|i| !down.contains(*i) && !owners.contains(i) && !taken.contains(i))
                .map(|i| (self.stand_in_rank(arc, i, taken), i))
                .min_by(|(a, i), (b, j)| a.compare(b).then(i.cmp(j)));
            if let Some((_, server)) = best {
                out.push(EffectiveOwner { server, stands_in_for: Some(dead) });
            }
        }
        out
    }
}
