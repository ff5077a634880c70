//! Rows under construction, and the one step by which they change: in one arc, a server (or
//! an empty place) is replaced by another server.
//!
//! The cost of a table is the number of copies that their holder did not have before. A
//! replacement therefore costs 1 if the new holder is new to the arc, and gives 1 back if the
//! old one was.

use crate::quota::Quotas;
use crate::table::ARCS_MAX;

/// An empty place of a row.
pub(crate) const EMPTY: u16 = u16::MAX;

/// Rows, who is in them, and who was in them before.
pub(crate) struct Assignment {
    pub arcs: u32,
    pub quotas: Quotas,
    /// `arcs * width` members, [`EMPTY`] for a hole. Order within a row means nothing.
    pub rows: Vec<u16>,
    /// The rows before, in numbers of the members now; [`EMPTY`] for one who left.
    pub before: Vec<u16>,
    pub before_width: usize,
    /// The arcs of each member, in no order.
    pub arcs_of: Vec<Vec<u32>>,
    /// Sum of the zones' least copies a row.
    low_sum: u8,
}

impl Assignment {
    /// Rows with nobody in them.
    pub(crate) fn empty(
        arcs: u32,
        quotas: Quotas,
        before: Vec<u16>,
        before_width: usize,
    ) -> Assignment {
        debug_assert!(arcs <= ARCS_MAX);
        Assignment {
            rows: vec![EMPTY; arcs as usize * usize::from(quotas.width)],
            arcs_of: vec![Vec::new(); quotas.of_member.len()],
            low_sum: quotas.zone_low.iter().sum(),
            arcs,
            quotas,
            before,
            before_width,
        }
    }

    pub(crate) fn row(&self, arc: u32) -> &[u16] {
        let width = usize::from(self.quotas.width);
        &self.rows[arc as usize * width..][..width]
    }

    pub(crate) fn before(&self, arc: u32) -> &[u16] {
        &self.before[arc as usize * self.before_width..][..self.before_width]
    }

    /// Whether a member held the arc before.
    pub(crate) fn had(&self, arc: u32, member: u16) -> bool {
        self.before(arc).contains(&member)
    }

    /// Rows that a member lacks; negative if it has too many.
    pub(crate) fn lacks(&self, member: u16) -> i64 {
        let m = usize::from(member);
        i64::from(self.quotas.of_member[m]) - self.arcs_of[m].len() as i64
    }

    /// Whether replacing `old` (who is in the row, or is [`EMPTY`]) by `new` leaves a row of
    /// distinct servers that keeps, or can still be filled up to, the zones' bounds.
    pub(crate) fn may_replace(&self, arc: u32, old: u16, new: u16) -> bool {
        let zone_of = &self.quotas.zone_of;
        let zone = zone_of[usize::from(new)];
        let row = self.row(arc);
        let mut in_zone = 0;
        for m in row {
            if *m == new {
                return false;
            }
            if *m != EMPTY && *m != old && zone_of[usize::from(*m)] == zone {
                in_zone += 1;
            }
        }
        if in_zone >= self.quotas.zone_high[usize::from(zone)] {
            return false;
        }
        if self.low_sum == 0 {
            return true;
        }
        let holes = row.iter().filter(|m| **m == EMPTY).count() - usize::from(old == EMPTY);
        let others = row.iter().copied().filter(|m| *m != old && *m != EMPTY);
        self.unmet_low(others.chain([new])) <= holes
    }

    /// How many copies zones still need to have their least, given the members of a row.
    pub(crate) fn unmet_low(&self, row: impl Iterator<Item = u16> + Clone) -> usize {
        let zone = |m: u16| self.quotas.zone_of[usize::from(m)];
        let mut met = 0;
        for (i, m) in row.clone().enumerate() {
            let earlier = row.clone().take(i).filter(|o| zone(*o) == zone(m)).count();
            met += usize::from(earlier < usize::from(self.quotas.zone_low[usize::from(zone(m))]));
        }
        usize::from(self.low_sum) - met
    }

    /// Puts `new` in the place of `old`; either may be [`EMPTY`].
    pub(crate) fn replace(&mut self, arc: u32, old: u16, new: u16) {
        let width = usize::from(self.quotas.width);
        let row = &mut self.rows[arc as usize * width..][..width];
        let place = row.iter().position(|m| *m == old).expect("the replaced is in the row");
        row[place] = new;
        if old != EMPTY {
            let list = &mut self.arcs_of[usize::from(old)];
            let at = list.iter().position(|a| *a == arc).expect("lists mirror the rows");
            list.swap_remove(at);
        }
        if new != EMPTY {
            self.arcs_of[usize::from(new)].push(arc);
        }
    }

    /// The arcs that have an empty place, once for each.
    pub(crate) fn holes(&self) -> Vec<u32> {
        let width = usize::from(self.quotas.width);
        let empty = self.rows.iter().enumerate().filter(|(_, m)| **m == EMPTY);
        empty.map(|(slot, _)| (slot / width) as u32).collect()
    }
}
