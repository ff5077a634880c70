//! The least movement possible, by minimum-cost flow, computed from nothing but the problem's
//! statement: no quota or bound of the crate is used here.

use ringfs_ring::{ArcIndex, Member, Table};
use std::collections::{BTreeMap, VecDeque};

/// Larger than any number of moves, so that meeting a lower bound always pays.
const BOUND_REWARD: i64 = 1 << 24;

struct Edge {
    to: usize,
    room: i64,
    cost: i64,
}

struct Network {
    edges: Vec<Edge>,
    from: Vec<Vec<usize>>,
    lower_sum: i64,
}

impl Network {
    fn new(nodes: usize) -> Network {
        Network { edges: Vec::new(), from: vec![Vec::new(); nodes], lower_sum: 0 }
    }

    fn edge(&mut self, from: usize, to: usize, room: i64, cost: i64) {
        for (a, b, room, cost) in [(from, to, room, cost), (to, from, 0, -cost)] {
            self.from[a].push(self.edges.len());
            self.edges.push(Edge { to: b, room, cost });
        }
    }

    fn bounded(&mut self, from: usize, to: usize, low: i64, high: i64) {
        self.edge(from, to, low, -BOUND_REWARD);
        self.edge(from, to, high - low, 0);
        self.lower_sum += low;
    }

    /// Cost of sending `amount`, `None` if it cannot be sent within all bounds.
    fn send(mut self, source: usize, sink: usize, amount: i64) -> Option<i64> {
        let (mut sent, mut cost) = (0, 0);
        while sent < amount {
            let mut distance = vec![i64::MAX; self.from.len()];
            let mut by = vec![usize::MAX; self.from.len()];
            let mut queue = VecDeque::from([source]);
            distance[source] = 0;
            while let Some(at) = queue.pop_front() {
                for e in &self.from[at] {
                    let edge = &self.edges[*e];
                    if edge.room > 0 && distance[at] + edge.cost < distance[edge.to] {
                        distance[edge.to] = distance[at] + edge.cost;
                        by[edge.to] = *e;
                        queue.push_back(edge.to);
                    }
                }
            }
            if distance[sink] == i64::MAX {
                return None;
            }
            let (mut at, mut room) = (sink, amount - sent);
            while at != source {
                room = room.min(self.edges[by[at]].room);
                at = self.edges[by[at] ^ 1].to;
            }
            at = sink;
            while at != source {
                self.edges[by[at]].room -= room;
                self.edges[by[at] ^ 1].room += room;
                at = self.edges[by[at] ^ 1].to;
            }
            sent += room;
            cost += room * distance[sink];
        }
        // A lower bound that was not met left its reward unclaimed.
        let moves = cost + self.lower_sum * BOUND_REWARD;
        (moves < BOUND_REWARD).then_some(moves)
    }
}

/// The zone of each member with weight (a member without one is its own), and how many copies
/// of a row each zone may have at least and at most for the row to be spread most evenly.
pub fn zone_bounds(members: &[Member], replicas: usize) -> (Vec<Option<usize>>, Vec<(i64, i64)>) {
    let mut by_key: BTreeMap<(bool, String), Vec<usize>> = BTreeMap::new();
    for (i, m) in members.iter().enumerate().filter(|(_, m)| m.weight > 0) {
        let key = match &m.zone {
            Some(zone) => (true, zone.to_string()),
            None => (false, m.name.to_string()),
        };
        by_key.entry(key).or_default().push(i);
    }
    let mut zone_of = vec![None; members.len()];
    let sizes: Vec<usize> = by_key.values().map(Vec::len).collect();
    for (zone, list) in by_key.values().enumerate() {
        list.iter().for_each(|i| zone_of[*i] = Some(zone));
    }
    let width = replicas.min(sizes.iter().sum());
    let mut level = 0;
    while sizes.iter().map(|s| (*s).min(level)).sum::<usize>() < width {
        level += 1;
    }
    let low = level.saturating_sub(1);
    (zone_of, sizes.iter().map(|s| ((*s).min(low) as i64, (*s).min(level) as i64)).collect())
}

/// The fewest copies that must move from `before` to any table over `members` in which member
/// `i` has `copies[i].0 ..= copies[i].1` rows.
pub fn least_moves(
    before: &Table,
    members: &[Member],
    replicas: usize,
    copies: &[(i64, i64)],
) -> Option<i64> {
    let (zone_of, zones) = zone_bounds(members, replicas);
    let width = replicas.min(members.iter().filter(|m| m.weight > 0).count());
    let arcs = before.arcs() as usize;
    let (source, sink) = (0, 1);
    let arc_node = |a: usize| 2 + a;
    let zone_node = |a: usize, z: usize| 2 + arcs + a * zones.len() + z;
    let member_node = |m: usize| 2 + arcs + arcs * zones.len() + m;
    let mut network = Network::new(member_node(members.len()));
    for a in 0..arcs {
        network.edge(source, arc_node(a), width as i64, 0);
        for (z, (low, high)) in zones.iter().enumerate() {
            network.bounded(arc_node(a), zone_node(a, z), *low, *high);
        }
        let held = before.owners(ArcIndex(a as u32));
        for (m, member) in members.iter().enumerate() {
            let Some(z) = zone_of[m] else { continue };
            let had = before.index_of(&member.name).is_some_and(|i| held.contains(&i));
            network.edge(zone_node(a, z), member_node(m), 1, i64::from(!had));
        }
    }
    for (m, (low, high)) in copies.iter().enumerate() {
        network.bounded(member_node(m), sink, *low, *high);
    }
    network.send(source, sink, (arcs * width) as i64)
}
