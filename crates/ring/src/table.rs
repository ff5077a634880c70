//! The table: one row of servers for each arc, and everything that is a lookup in it.

use crate::hash::{point_of, score, weighted_rank};
use crate::member::Member;
use ringfs_base::{Epoch, NodeName};

/// Arcs of a new ring: balanced to 1% for 100 servers with 3 copies, 24 KiB of rows.
pub const ARCS_DEFAULT: u32 = 4096;

/// Most arcs of a table (14 MiB of rows with 7 copies).
pub const ARCS_MAX: u32 = 1 << 20;

/// One of the P equal arcs of the ring, from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ArcIndex(pub u32);

/// Who holds which arc in one epoch. Made by [`crate::plan`], never changed afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub(crate) epoch: Epoch,
    pub(crate) arcs: u32,
    pub(crate) replicas: u8,
    pub(crate) width: u8,
    pub(crate) members: Vec<Member>,
    /// `arcs * width` indices into `members`, row after row, the primary first.
    pub(crate) rows: Vec<u16>,
    /// `point()` of each member, so that stand-ins need no SHA-1.
    pub(crate) points: Vec<u64>,
}

impl Table {
    pub(crate) fn from_parts(
        epoch: Epoch,
        arcs: u32,
        replicas: u8,
        width: u8,
        members: Vec<Member>,
        rows: Vec<u16>,
    ) -> Table {
        debug_assert!(arcs.is_power_of_two() && arcs <= ARCS_MAX);
        debug_assert_eq!(rows.len(), arcs as usize * usize::from(width));
        let points = members.iter().map(Member::point).collect();
        Table { epoch, arcs, replicas, width, members, rows, points }
    }

    /// The epoch it is valid in.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// P, the number of arcs; a power of two.
    pub fn arcs(&self) -> u32 {
        self.arcs
    }

    /// R, the number of copies wanted.
    pub fn replicas(&self) -> u8 {
        self.replicas
    }

    /// Copies that each row really has: R, or fewer where there are fewer servers than R.
    pub fn width(&self) -> u8 {
        self.width
    }

    /// Whether rows have fewer copies than wanted, for want of servers.
    pub fn is_short(&self) -> bool {
        self.width < self.replicas
    }

    /// The servers, sorted by name. Rows index this list.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The server behind an index of a row; `None` for one that no row has.
    pub fn member(&self, index: u16) -> Option<&Member> {
        self.members.get(usize::from(index))
    }

    /// The index of a server by name.
    pub fn index_of(&self, name: &NodeName) -> Option<u16> {
        self.members.binary_search_by(|m| m.name.cmp(name)).ok().map(|i| i as u16)
    }

    /// The arc of a key: `hi64(SHA-1(key)) mod P`.
    #[inline]
    pub fn arc_of(&self, key: &[u8]) -> ArcIndex {
        self.arc_at(point_of(key))
    }

    /// The arc of a point of the ring.
    #[inline]
    pub fn arc_at(&self, point: u64) -> ArcIndex {
        ArcIndex((point & u64::from(self.arcs - 1)) as u32)
    }

    /// The servers of an arc, the primary first; indices into [`Self::members`], all different,
    /// [`Self::width`] of them. An arc beyond P is taken modulo P.
    #[inline]
    pub fn owners(&self, arc: ArcIndex) -> &[u16] {
        let width = usize::from(self.width);
        let start = (arc.0 & (self.arcs - 1)) as usize * width;
        &self.rows[start..start + width]
    }

    /// The servers of a key, the primary first.
    #[inline]
    pub fn owners_of(&self, key: &[u8]) -> &[u16] {
        self.owners(self.arc_of(key))
    }

    /// All servers that do not own the arc, in the order in which they stand in for one that
    /// is down: those in zones that the row does not use first, drained ones last, and else by
    /// weighted rendezvous, so that the load of a dead server spreads over all others.
    pub fn stand_ins(&self, arc: ArcIndex) -> Vec<u16> {
        let owners = self.owners(arc);
        let mut others: Vec<(StandInRank, u16)> = (0..self.members.len() as u16)
            .filter(|i| !owners.contains(i))
            .map(|i| (self.stand_in_rank(arc, i, owners), i))
            .collect();
        others.sort_by(|(a, i), (b, j)| a.compare(b).then(i.cmp(j)));
        others.into_iter().map(|(_, i)| i).collect()
    }

    /// [`Self::stand_ins`] for when some servers, owners among them, cannot take their copies: without
    /// these, and with the zones of the owners that are left, and of the stand-ins before, avoided
    /// where there is another. So a copy may go where the dead owner was, but not to its survivors.
    pub fn stand_ins_without(&self, arc: ArcIndex, lost: &[u16]) -> Vec<u16> {
        let owners = self.owners(arc);
        let mut taken: Vec<u16> = owners.iter().copied().filter(|o| !lost.contains(o)).collect();
        let mut others: Vec<u16> = (0..self.members.len() as u16)
            .filter(|i| !owners.contains(i) && !lost.contains(i))
            .collect();
        let mut order = Vec::with_capacity(others.len());
        let best = |taken: &[u16], others: &[u16]| {
            let ranked = others.iter().map(|i| (self.stand_in_rank(arc, *i, taken), *i));
            ranked.min_by(|(a, i), (b, j)| a.compare(b).then(i.cmp(j))).map(|(_, i)| i)
        };
        // Never are more needed at once than there are owners.
        while order.len() < owners.len()
            && let Some(next) = best(&taken, &others)
        {
            order.push(next);
            taken.push(next);
            others.retain(|i| *i != next);
        }
        let mut rest: Vec<(StandInRank, u16)> =
            others.into_iter().map(|i| (self.stand_in_rank(arc, i, &taken), i)).collect();
        rest.sort_by(|(a, i), (b, j)| a.compare(b).then(i.cmp(j)));
        order.extend(rest.into_iter().map(|(_, i)| i));
        order
    }

    /// The place of a server among the stand-ins of an arc, given whose zones are taken.
    pub(crate) fn stand_in_rank(&self, arc: ArcIndex, index: u16, taken: &[u16]) -> StandInRank {
        let i = usize::from(index);
        let member = &self.members[i];
        let score = score(self.points[i], u64::from(arc.0 & (self.arcs - 1)) | 1 << 32);
        StandInRank {
            drained: member.weight == 0,
            shares_zone: taken.iter().any(|o| self.same_zone(*o, index)),
            rank: weighted_rank(score, member.weight.max(1)),
        }
    }

    /// Whether two servers are in one zone. A server without a zone shares it with nobody.
    pub fn same_zone(&self, a: u16, b: u16) -> bool {
        match (self.member(a), self.member(b)) {
            (Some(x), Some(y)) => x.zone.is_some() && x.zone == y.zone,
            _ => false,
        }
    }

    /// The table of the next epoch with twice as many arcs, in which nothing moves: a key of
    /// arc `a` goes on to `a` or `a + P`, which both inherit the row. `None` at [`ARCS_MAX`].
    pub fn split(&self) -> Option<Table> {
        let arcs = self.arcs.checked_mul(2).filter(|arcs| *arcs <= ARCS_MAX)?;
        Some(Table {
            epoch: Epoch(self.epoch.0.saturating_add(1)),
            arcs,
            rows: self.rows.repeat(2),
            ..self.clone()
        })
    }

    /// Whether both tables place every key on the same servers in the same order, whatever
    /// their epochs and weights.
    pub fn places_like(&self, other: &Table) -> bool {
        let arcs = self.arcs.max(other.arcs);
        self.width == other.width
            && (0..arcs).map(ArcIndex).all(|arc| {
                let (mine, theirs) = (self.owners(arc), other.owners(arc));
                mine.iter().zip(theirs).all(|(a, b)| {
                    self.members[usize::from(*a)].name == other.members[usize::from(*b)].name
                })
            })
    }
}

/// Order among stand-ins; smaller stands in earlier.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StandInRank {
    drained: bool,
    shares_zone: bool,
    rank: f64,
}

impl StandInRank {
    pub(crate) fn compare(&self, other: &StandInRank) -> std::cmp::Ordering {
        (self.drained, self.shares_zone)
            .cmp(&(other.drained, other.shares_zone))
            .then(self.rank.total_cmp(&other.rank))
    }
}
