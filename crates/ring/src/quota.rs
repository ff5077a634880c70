//! How many rows each server is due: proportional to weight, within what distinctness allows.
//!
//! A row takes a server at most once, so no server can be due more than P rows; and it spreads
//! over zones as evenly as their sizes let it, so a zone is due between `low * P` and
//! `high * P`. Inside these bounds everybody gets `level * weight`, for the one level at which
//! the sum is right ("water filling"). Such quotas can always be met exactly: giving each row
//! the fraction `quota / P` of each server satisfies every bound, and flows are integral.
//!
//! Fractions are rounded towards who already holds more, because a row kept is a row not moved.

use crate::member::Member;

/// Whoever is no part of any row, because its weight is 0.
pub(crate) const NO_ZONE: u16 = u16::MAX;

/// Bisection leaves errors near 1e-10; a fraction below this is none.
const NOISE: f64 = 1e-6;

/// What every server and zone is due.
#[derive(Debug)]
pub(crate) struct Quotas {
    /// Copies in each row.
    pub width: u8,
    /// Zone of each member, counted from 0; a member without a zone has its own;
    /// [`NO_ZONE`] for one of weight 0.
    pub zone_of: Vec<u16>,
    /// Fewest and most copies of one row in each zone.
    pub zone_low: Vec<u8>,
    /// See `zone_low`.
    pub zone_high: Vec<u8>,
    /// Rows each member is due; 0 for weight 0.
    pub of_member: Vec<u32>,
    /// What each member is due, rounded down; with a fraction, `of_member` may be one more.
    rounded_down: Vec<u32>,
    has_fraction: Vec<bool>,
    /// The members of each zone.
    pub zones: Vec<Vec<u16>>,
}

impl Quotas {
    /// Whether one more row would still be this member's due, rounded up.
    fn can_round_up(&self, member: u16) -> bool {
        let m = usize::from(member);
        self.has_fraction[m] && self.of_member[m] == self.rounded_down[m]
    }

    /// Whether one row less would still be this member's due, rounded down.
    fn can_round_down(&self, member: u16) -> bool {
        let m = usize::from(member);
        self.has_fraction[m] && self.of_member[m] > self.rounded_down[m]
    }

    /// Whether `down` may be rounded down for `up` to be rounded up. Only within a zone, or
    /// between two servers that are zones of their own: else a zone's sum would change, by
    /// which its members' dues are computed, and planning again would move rows.
    fn can_swap_rounding(&self, down: u16, up: u16) -> bool {
        let (a, b) = (self.zone_of[usize::from(down)], self.zone_of[usize::from(up)]);
        let alone = |zone: u16| self.zones.get(usize::from(zone)).is_some_and(|z| z.len() == 1);
        self.can_round_down(down) && self.can_round_up(up) && (a == b || alone(a) && alone(b))
    }

    /// Whose quota could be rounded down so that `up`'s is rounded up.
    pub(crate) fn could_be_rounded_down_for(&self, up: u16) -> Vec<u16> {
        let members = 0..self.of_member.len() as u16;
        members.filter(|down| self.can_swap_rounding(*down, up)).collect()
    }

    /// Rounds one member down and another up instead.
    pub(crate) fn swap_rounding(&mut self, down: u16, up: u16) {
        debug_assert!(self.can_swap_rounding(down, up));
        self.of_member[usize::from(down)] -= 1;
        self.of_member[usize::from(up)] += 1;
    }

    /// `held` says how many rows each member has now.
    pub(crate) fn new(members: &[Member], held: &[u32], arcs: u32, replicas: u8) -> Quotas {
        let (zone_of, zones) = zones(members);
        let eligible: usize = zones.iter().map(Vec::len).sum();
        let width = usize::from(replicas).min(eligible) as u8;
        let (zone_low, zone_high) = zone_bounds(&zones, width);
        let weight: Vec<f64> = members.iter().map(|m| f64::from(m.weight)).collect();
        let cap = f64::from(arcs);

        let due = |level: f64, zone: &[usize]| -> f64 {
            zone.iter().map(|m| (level * weight[*m]).min(cap)).sum()
        };
        let bounded = |level: f64, z: usize| -> f64 {
            due(level, &zones[z]).clamp(cap * f64::from(zone_low[z]), cap * f64::from(zone_high[z]))
        };
        let total = u64::from(arcs) * u64::from(width);
        let level =
            find_level(total as f64, cap, |l| (0..zones.len()).map(|z| bounded(l, z)).sum());
        let zone_due: Vec<f64> = (0..zones.len()).map(|z| bounded(level, z)).collect();
        let zone_held: Vec<u64> =
            zones.iter().map(|z| z.iter().map(|m| u64::from(held[*m])).sum()).collect();
        let zone_quota = round_to_sum(&zone_due, &zone_held, total);

        let mut of_member = vec![0; members.len()];
        let mut rounded_down = vec![0; members.len()];
        let mut has_fraction = vec![false; members.len()];
        for ((zone, quota), zone_due) in zones.iter().zip(zone_quota).zip(zone_due) {
            let level = find_level(quota as f64, cap, |l| due(l, zone));
            let due: Vec<f64> = zone.iter().map(|m| (level * weight[*m]).min(cap)).collect();
            let held: Vec<u64> = zone.iter().map(|m| u64::from(held[*m])).collect();
            let rounded = round_to_sum(&due, &held, quota);
            for (member, (due, quota)) in zone.iter().zip(due.iter().zip(rounded)) {
                of_member[*member] = quota as u32;
                // The rounding of a zone of one server was that of the zone.
                let due = if zone.len() == 1 { zone_due } else { *due };
                rounded_down[*member] = (due + NOISE).floor() as u32;
                has_fraction[*member] = due - f64::from(rounded_down[*member]) > NOISE;
            }
        }
        Quotas {
            width,
            zone_of,
            zone_low,
            zone_high,
            of_member,
            rounded_down,
            has_fraction,
            zones: zones.iter().map(|z| z.iter().map(|m| *m as u16).collect()).collect(),
        }
    }
}

/// The zone number of each member, and the members of each zone.
fn zones(members: &[Member]) -> (Vec<u16>, Vec<Vec<usize>>) {
    let mut numbers = std::collections::BTreeMap::new();
    let mut zones: Vec<Vec<usize>> = Vec::new();
    let mut zone_of = vec![NO_ZONE; members.len()];
    for (index, member) in members.iter().enumerate().filter(|(_, m)| m.weight > 0) {
        let next = zones.len();
        let number = match &member.zone {
            Some(zone) => *numbers.entry(zone).or_insert(next),
            None => next,
        };
        if number == next {
            zones.push(Vec::new());
        }
        zones[number].push(index);
        zone_of[index] = number as u16;
    }
    (zone_of, zones)
}

/// The most even spread of a row: zones are filled one copy at a time, each until it has no
/// server left. With as many zones as copies this is at most one copy a zone.
fn zone_bounds(zones: &[Vec<usize>], width: u8) -> (Vec<u8>, Vec<u8>) {
    let room = |height: u8| -> usize {
        zones.iter().map(|zone| zone.len().min(usize::from(height))).sum()
    };
    let height = (0..=width).find(|h| room(*h) >= usize::from(width)).unwrap_or(width);
    let at = |height: u8| zones.iter().map(|z| z.len().min(usize::from(height)) as u8).collect();
    (at(height.saturating_sub(1)), at(height))
}

/// The level at which a growing function reaches `total`, by bisection. Levels up to `cap` give
/// every server of weight 1 all rows, so the solution is below.
fn find_level(total: f64, cap: f64, sum: impl Fn(f64) -> f64) -> f64 {
    /// Halvings until an f64 between 0 and the largest cap cannot change any more, almost.
    const STEPS: u32 = 100;
    let (mut low, mut high) = (0.0, cap);
    for _ in 0..STEPS {
        let middle = (low + high) / 2.0;
        if sum(middle) < total {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// Whole numbers next to `due` with the given sum. Who holds more than its part rounded down is
/// rounded up first, then who has the largest fraction, then who comes first.
fn round_to_sum(due: &[f64], held: &[u64], total: u64) -> Vec<u64> {
    let mut out: Vec<u64> = due.iter().map(|d| (d + NOISE).floor() as u64).collect();
    let sum: u64 = out.iter().sum();
    let missing = total.saturating_sub(sum) as usize;
    let mut order: Vec<usize> = (0..due.len()).collect();
    // Fractions in steps of a millionth, so that noise cannot decide between equals.
    let fraction = |i: usize| ((due[i] - out[i] as f64).max(0.0) / NOISE).round() as u64;
    order.sort_by_key(|i| {
        let part = fraction(*i);
        (part == 0, held[*i] <= out[*i], std::cmp::Reverse(part), *i)
    });
    for i in order.into_iter().take(missing) {
        out[i] += 1;
    }
    debug_assert_eq!(out.iter().sum::<u64>(), total);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringfs_base::{NodeName, ZoneName};

    fn members(list: &[(u32, &str)]) -> Vec<Member> {
        list.iter()
            .enumerate()
            .map(|(i, (weight, zone))| Member {
                name: NodeName::new(&format!("n{i}")).unwrap(),
                weight: *weight,
                zone: ZoneName::new(zone).ok(),
            })
            .collect()
    }

    fn quotas(list: &[(u32, &str)], arcs: u32, replicas: u8) -> Vec<u32> {
        Quotas::new(&members(list), &vec![0; list.len()], arcs, replicas).of_member
    }

    #[test]
    fn equal_servers_differ_by_at_most_one() {
        let q = quotas(&[(5, ""); 7], 64, 3);
        assert_eq!(q.iter().sum::<u32>(), 192);
        assert!(q.iter().all(|q| (27..=28).contains(q)), "{q:?}");
    }

    #[test]
    fn a_huge_weight_is_capped_at_every_row() {
        assert_eq!(quotas(&[(1_000_000, ""), (1, ""), (1, ""), (2, "")], 64, 3)[0], 64);
        assert_eq!(quotas(&[(u32::MAX, ""), (1, ""), (1, "")], 64, 2), [64, 32, 32]);
    }

    #[test]
    fn a_drained_server_is_due_nothing() {
        assert_eq!(quotas(&[(0, ""), (1, ""), (1, "")], 64, 2), [0, 64, 64]);
    }

    #[test]
    fn a_zone_gets_at_most_one_copy_of_a_row_where_zones_suffice() {
        // By weight zone a would be due 3/5 of 128 = 76.8.
        let q = quotas(&[(1, "a"), (1, "a"), (1, "a"), (1, "b"), (1, "c")], 64, 2);
        assert_eq!(q[0] + q[1] + q[2], 64);
        assert_eq!((q[3], q[4]), (32, 32));
    }

    #[test]
    fn with_fewer_zones_than_copies_every_zone_is_in_every_row() {
        let q = quotas(&[(9, "a"), (9, "a"), (9, "a"), (1, "b")], 64, 3);
        assert_eq!(q[3], 64);
    }

    #[test]
    fn a_fraction_is_rounded_towards_the_holder() {
        let q = Quotas::new(&members(&[(1, ""); 3]), &[21, 21, 22], 64, 1).of_member;
        assert_eq!(q, [21, 21, 22]);
    }
}
