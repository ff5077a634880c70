//! From a table and a new membership to the next table, moving as little as possible.
//!
//! The quotas are met exactly (see `quota`), so what remains is a transport problem: servers
//! with too many rows and rows with holes on one side, servers with too few on the other, and a
//! path between them is a chain of single replacements. Taking a cheapest path each time is the
//! successive-shortest-path method, which ends at the minimum-cost flow, that is with the
//! fewest copies moved. Nearly all paths are one replacement of cost 1, and no path is cheaper
//! unless it gives a copy back to somebody who lost it earlier in this plan; so:
//!
//! 1. rows start as before, without those who left; what breaks a bound is dropped;
//! 2. free chains first: copies dropped in step 1 that can come back (only when R shrinks, or
//!    zones changed);
//! 3. direct fills of holes, then direct hand-overs from the overfull, at cost 1 each;
//! 4. a search over chains for whatever is left. A quota that was rounded may still be rounded
//!    the other way here, if that makes the chain shorter.

use crate::assignment::{Assignment, EMPTY};
use crate::chains::{Link, cheapest_chain};
use crate::hash::score;
use crate::member::{MEMBERS_MAX, Member};
use crate::primaries::elect;
use crate::quota::{NO_ZONE, Quotas};
use crate::table::{ARCS_MAX, ArcIndex, Table};
use ringfs_base::limits::REPLICAS_MAX;
use ringfs_base::{Epoch, NodeName};
use std::cmp::Ordering;
use std::collections::VecDeque;
use thiserror::Error;

/// Why there is no plan. Each is for the operator to change.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PlanError {
    /// No server may hold anything.
    #[error("no server has a weight above 0, so nobody could hold the data: keep or add one")]
    Nobody,
    /// A name occurs twice.
    #[error("two servers are named \"{0}\": give each a name of its own")]
    DuplicateName(NodeName),
    /// Too many servers for 16-bit rows.
    #[error("{0} servers are too many for one ring: the most is {max}", max = MEMBERS_MAX)]
    TooManyMembers(usize),
    /// R is 0 or too large.
    #[error("{0} copies are not possible: choose 1 to {max}", max = REPLICAS_MAX)]
    Replicas(u8),
    /// P is no power of two, or too large.
    #[error("{0} arcs are not possible: choose a power of two up to {max}", max = ARCS_MAX)]
    Arcs(u32),
    /// P is smaller than in the table before.
    #[error("the ring has {before} arcs and cannot go back to {wanted}: arcs only double")]
    FewerArcs {
        /// P of the table before.
        before: u32,
        /// P asked for.
        wanted: u32,
    },
}

/// Computes the table of the next epoch (of epoch 1 without a previous table).
///
/// In this order: no two copies of a row on one server; rows spread over zones as evenly as
/// the zones' sizes allow (never two in one zone where there are at least `replicas` zones);
/// copies proportional to weight, to one row; primaries proportional to copies, to one row;
/// and, among all such tables, the fewest copies moved from the previous one.
///
/// With fewer servers than `replicas` rows have one copy on each ([`Table::is_short`]).
/// `arcs` above the previous table's doubles it first, which moves nothing. Deterministic, and
/// independent of the order of `members`.
pub fn plan(
    previous: Option<&Table>,
    members: &[Member],
    replicas: u8,
    arcs: u32,
) -> Result<Table, PlanError> {
    let members = checked(members, replicas, arcs)?;
    if let Some(before) = previous.filter(|t| t.arcs() > arcs) {
        return Err(PlanError::FewerArcs { before: before.arcs(), wanted: arcs });
    }
    let before = Before::of(previous, &members, arcs);
    let quotas = Quotas::new(&members, &before.held(&members), arcs, replicas);
    let mut planner = Planner {
        rows: Assignment::empty(arcs, quotas, before.rows, before.width),
        points: members.iter().map(Member::point).collect(),
    };
    planner.start_from_before();
    planner.take_back();
    planner.round_towards_holders();
    planner.fill_holes();
    planner.hand_over();
    planner.search_chains();
    planner.fill_regardless();
    let rows = planner.ordered_rows(&before.primaries);
    let width = planner.rows.quotas.width;
    let epoch = previous.map_or(Epoch(1), |t| Epoch(t.epoch().0.saturating_add(1)));
    Ok(Table::from_parts(epoch, arcs, replicas, width, members, rows))
}

/// The members sorted by name, if all the arguments are possible.
fn checked(members: &[Member], replicas: u8, arcs: u32) -> Result<Vec<Member>, PlanError> {
    if !(1..=REPLICAS_MAX).contains(&replicas) {
        return Err(PlanError::Replicas(replicas));
    }
    if !arcs.is_power_of_two() || arcs > ARCS_MAX {
        return Err(PlanError::Arcs(arcs));
    }
    if members.len() > MEMBERS_MAX {
        return Err(PlanError::TooManyMembers(members.len()));
    }
    if members.iter().all(|m| m.weight == 0) {
        return Err(PlanError::Nobody);
    }
    let mut members = members.to_vec();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    match members.windows(2).find(|pair| pair[0].name == pair[1].name) {
        Some(pair) => Err(PlanError::DuplicateName(pair[0].name.clone())),
        None => Ok(members),
    }
}

/// The previous table in numbers of the new members and with the new number of arcs.
struct Before {
    rows: Vec<u16>,
    width: usize,
    primaries: Vec<Option<u16>>,
}

impl Before {
    fn of(previous: Option<&Table>, members: &[Member], arcs: u32) -> Before {
        let Some(table) = previous else {
            return Before { rows: Vec::new(), width: 0, primaries: vec![None; arcs as usize] };
        };
        let renumbered: Vec<u16> = table
            .members()
            .iter()
            .map(|old| {
                let found = members.binary_search_by(|m| m.name.cmp(&old.name));
                found.ok().filter(|i| members[*i].weight > 0).map_or(EMPTY, |i| i as u16)
            })
            .collect();
        let mut rows = Vec::with_capacity(arcs as usize * usize::from(table.width()));
        let mut primaries = Vec::with_capacity(arcs as usize);
        for arc in (0..arcs).map(ArcIndex) {
            let start = rows.len();
            rows.extend(table.owners(arc).iter().map(|o| renumbered[usize::from(*o)]));
            primaries.push(Some(rows[start]).filter(|m| *m != EMPTY));
        }
        Before { rows, width: usize::from(table.width()), primaries }
    }

    fn held(&self, members: &[Member]) -> Vec<u32> {
        let mut held = vec![0; members.len()];
        for m in self.rows.iter().filter(|m| **m != EMPTY) {
            held[usize::from(*m)] += 1;
        }
        held
    }
}

struct Planner {
    rows: Assignment,
    points: Vec<u64>,
}

/// One step of a chain: in `arc`, `old` (or a hole) gives way to the next server of the chain.
#[derive(Clone, Copy)]
struct Step {
    old: u16,
    arc: u32,
}

impl Planner {
    fn members(&self) -> u16 {
        self.points.len() as u16
    }

    fn score(&self, arc: u32, member: u16) -> u64 {
        score(self.points[usize::from(member)], u64::from(arc))
    }

    /// Step 1: everybody stays who may. Of too many, who has most too many goes.
    fn start_from_before(&mut self) {
        if self.rows.before_width == 0 {
            return;
        }
        let width = usize::from(self.rows.quotas.width);
        let mut surplus: Vec<i64> =
            self.rows.quotas.of_member.iter().map(|q| -i64::from(*q)).collect();
        for m in self.rows.before.iter().filter(|m| **m != EMPTY) {
            surplus[usize::from(*m)] += 1;
        }
        for arc in 0..self.rows.arcs {
            let mut row: Vec<u16> =
                self.rows.before(arc).iter().copied().filter(|m| *m != EMPTY).collect();
            while let Some(droppable) = self.violators(&row, width) {
                let worst = droppable.into_iter().max_by_key(|place| {
                    let m = row[*place];
                    // A primary that stays primary keeps its readers.
                    let follower = self.rows.before(arc)[0] != m;
                    (follower, surplus[usize::from(m)], self.score(arc, m))
                });
                let Some(place) = worst else { break };
                surplus[usize::from(row.swap_remove(place))] -= 1;
            }
            for m in row {
                self.rows.replace(arc, EMPTY, m);
            }
        }
    }

    /// Places of a row of which one must go; `None` if the row may stand (holes allowed).
    fn violators(&self, row: &[u16], width: usize) -> Option<Vec<usize>> {
        let quotas = &self.rows.quotas;
        let zone = |m: u16| usize::from(quotas.zone_of[usize::from(m)]);
        let in_zone = |z: usize| row.iter().filter(|m| zone(**m) == z).count();
        let beyond = |bound: &[u8]| -> Vec<usize> {
            (0..row.len())
                .filter(|p| in_zone(zone(row[*p])) > usize::from(bound[zone(row[*p])]))
                .collect()
        };
        let over_high = beyond(&quotas.zone_high);
        if !over_high.is_empty() {
            return Some(over_high);
        }
        let full = row.len() > width;
        let lows_fit =
            self.rows.unmet_low(row.iter().copied()) + row.len() <= width || row.is_empty();
        if full || !lows_fit {
            let over_low = beyond(&quotas.zone_low);
            return Some(if over_low.is_empty() { (0..row.len()).collect() } else { over_low });
        }
        None
    }

    /// Step 2: chains in which every new holder held the arc before and was dropped in step 1.
    fn take_back(&mut self) {
        let dropped = |rows: &Assignment, arc: u32| -> Vec<u16> {
            let row = rows.row(arc);
            rows.before(arc).iter().copied().filter(|m| *m != EMPTY && !row.contains(m)).collect()
        };
        if (0..self.rows.arcs).all(|arc| dropped(&self.rows, arc).is_empty()) {
            return;
        }
        for from in (0..self.members()).chain([EMPTY]) {
            while self.has_surplus(from) {
                let mut came: Vec<Option<Step>> = vec![None; self.points.len()];
                let mut queue = VecDeque::from([from]);
                let mut end = None;
                'search: while let Some(old) = queue.pop_front() {
                    let arcs = self.arcs_with(old);
                    for arc in arcs {
                        for new in dropped(&self.rows, arc) {
                            if new == from
                                || came[usize::from(new)].is_some()
                                || chain_uses(&came, old, from, arc)
                                || !self.rows.may_replace(arc, old, new)
                            {
                                continue;
                            }
                            came[usize::from(new)] = Some(Step { old, arc });
                            if self.rows.lacks(new) > 0 {
                                end = Some(new);
                                break 'search;
                            }
                            queue.push_back(new);
                        }
                    }
                }
                match end {
                    Some(end) => self.apply(&came, from, end),
                    None => break,
                }
            }
        }
    }

    /// Still free: who has one row too many, and could have been rounded up, swaps its rounding
    /// with one who lacks a row and could have been rounded down.
    fn round_towards_holders(&mut self) {
        for m in 0..self.members() {
            if self.eligible(m) && self.rows.lacks(m) == -1 {
                let givers = self.rows.quotas.could_be_rounded_down_for(m);
                if let Some(giver) = givers.into_iter().find(|g| self.rows.lacks(*g) > 0) {
                    self.rows.quotas.swap_rounding(giver, m);
                }
            }
        }
    }

    /// Step 3a: each hole goes to who still lacks the largest part of its quota.
    fn fill_holes(&mut self) {
        let mut lacking: Vec<u16> =
            (0..self.members()).filter(|m| self.rows.lacks(*m) > 0).collect();
        for arc in self.rows.holes() {
            let mut best: Option<(u16, u64)> = None;
            for m in lacking.iter().copied() {
                let order = best.map_or(Ordering::Greater, |(b, _)| self.compare_need(m, b));
                if order == Ordering::Less {
                    continue;
                }
                // Among equals the arc's own order decides, so that partners mix.
                let score = self.score(arc, m);
                let better = order == Ordering::Greater || best.is_some_and(|(_, s)| score > s);
                if better && self.rows.may_replace(arc, EMPTY, m) {
                    best = Some((m, score));
                }
            }
            let best = best.map(|(m, _)| m);
            if let Some(m) = best {
                self.rows.replace(arc, EMPTY, m);
                if self.rows.lacks(m) <= 0 {
                    lacking.retain(|l| *l != m);
                }
            }
        }
    }

    /// Step 3b: the overfull hand rows to who lacks the largest part of its quota.
    fn hand_over(&mut self) {
        let mut lacking: Vec<u16> =
            (0..self.members()).filter(|m| self.rows.lacks(*m) > 0).collect();
        for from in 0..self.members() {
            while self.rows.lacks(from) < 0 {
                let salt = self.rows.lacks(from).unsigned_abs() as u32;
                lacking.sort_by(|a, b| {
                    self.compare_need(*b, *a).then_with(|| {
                        (self.score(salt, *a) ^ self.points[usize::from(from)])
                            .cmp(&(self.score(salt, *b) ^ self.points[usize::from(from)]))
                    })
                });
                let found = lacking.iter().find_map(|to| {
                    let arcs = self.rows.arcs_of[usize::from(from)].iter().copied();
                    let fits = arcs.filter(|arc| self.rows.may_replace(*arc, from, *to));
                    fits.min_by_key(|arc| (self.score(*arc, *to), *arc)).map(|arc| (arc, *to))
                });
                let Some((arc, to)) = found else { break };
                self.rows.replace(arc, from, to);
                if self.rows.lacks(to) <= 0 {
                    lacking.retain(|l| *l != to);
                }
            }
        }
    }

    /// Compares which part of its quota each still lacks.
    fn compare_need(&self, a: u16, b: u16) -> Ordering {
        let quota = |m: u16| i64::from(self.rows.quotas.of_member[usize::from(m)]);
        (self.rows.lacks(a) * quota(b)).cmp(&(self.rows.lacks(b) * quota(a)))
    }

    /// Step 4: cheapest chains for what direct replacements could not do.
    fn search_chains(&mut self) {
        for from in (0..self.members()).chain([EMPTY]) {
            while self.has_surplus(from) {
                let Some(chain) = cheapest_chain(&self.rows, from) else { break };
                for link in chain {
                    match link {
                        Link::Replace { arc, old, new } => self.rows.replace(arc, old, new),
                        Link::Round { up, down } => self.rows.quotas.swap_rounding(down, up),
                    }
                }
            }
        }
    }

    /// A row is never left short: if no chain was found, anybody distinct fills the hole, in
    /// another zone if there is one, balance notwithstanding.
    fn fill_regardless(&mut self) {
        for arc in self.rows.holes() {
            let row = self.rows.row(arc);
            let candidates = (0..self.members()).filter(|m| self.eligible(*m) && !row.contains(m));
            let best = candidates.max_by_key(|m| {
                (self.rows.may_replace(arc, EMPTY, *m), self.rows.lacks(*m), self.score(arc, *m))
            });
            let m = best.expect("a row is no wider than there are eligible members");
            self.rows.replace(arc, EMPTY, m);
        }
    }

    fn eligible(&self, member: u16) -> bool {
        self.rows.quotas.zone_of[usize::from(member)] != NO_ZONE
    }

    fn has_surplus(&self, from: u16) -> bool {
        if from == EMPTY { self.rows.rows.contains(&EMPTY) } else { self.rows.lacks(from) < 0 }
    }

    /// The arcs in which a server (or a hole) could give way.
    fn arcs_with(&self, old: u16) -> Vec<u32> {
        if old == EMPTY {
            let mut holes = self.rows.holes();
            holes.dedup();
            holes
        } else {
            self.rows.arcs_of[usize::from(old)].clone()
        }
    }

    /// Carries out a chain.
    fn apply(&mut self, came: &[Option<Step>], from: u16, end: u16) {
        let mut new = end;
        while let Some(Step { old, arc }) = came[usize::from(new)] {
            self.rows.replace(arc, old, new);
            if old == from {
                break;
            }
            new = old;
        }
    }

    /// The finished rows: the elected primary, then who was there before in its old order, then
    /// the new ones in the arc's own order, so that followers of one server differ by arc.
    fn ordered_rows(&self, kept: &[Option<u16>]) -> Vec<u16> {
        let width = usize::from(self.rows.quotas.width);
        let mut rows = self.rows.rows.clone();
        for (arc, row) in rows.chunks_exact_mut(width).enumerate() {
            let arc = arc as u32;
            let before = self.rows.before(arc);
            row.sort_by_key(|m| {
                let place = before.iter().position(|b| b == m).unwrap_or(before.len());
                (place, self.score(arc, *m), *m)
            });
        }
        let first = elect(&rows, width, self.points.len(), kept);
        for (row, place) in rows.chunks_exact_mut(width).zip(first) {
            row[..=usize::from(place)].rotate_right(1);
        }
        rows
    }
}

/// Whether the chain that ends in `at` already replaces somebody in `arc`: a second step in
/// the same row would have been checked against a row that the first one changes.
fn chain_uses(came: &[Option<Step>], at: u16, from: u16, arc: u32) -> bool {
    chain(came, at, from).any(|step| step.arc == arc)
}

fn chain(came: &[Option<Step>], mut at: u16, from: u16) -> impl Iterator<Item = Step> + '_ {
    std::iter::from_fn(move || {
        if at == from || at == EMPTY {
            return None;
        }
        let step = came[usize::from(at)]?;
        at = step.old;
        Some(step)
    })
}
