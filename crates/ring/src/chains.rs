//! The cheapest chain of replacements from a server with too many rows, or from the holes, to
//! a server with too few: a shortest path in the residual network of the flow
//!
//! ```text
//!     arc --[low, high]--> cell (arc, zone) --[0, 1]--> member --[quota]--> sink
//! ```
//!
//! A path visits a node at most once, so its replacements may be carried out together. Members
//! whose quotas were rounded are joined directly: rounding one up and another down is the
//! residual path through the sink.

use crate::assignment::{Assignment, EMPTY};
use std::collections::{HashMap, VecDeque};

/// What a chain does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// In an arc, `old` (or a hole) gives way to `new`.
    Replace { arc: u32, old: u16, new: u16 },
    /// `up` is rounded up and keeps what it has; `down` is rounded down instead.
    Round { up: u16, down: u16 },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Node {
    Arc(u32),
    Cell(u32, u16),
    Member(u16),
}

struct Label {
    cost: i32,
    parent: Option<Node>,
}

/// Costs below this are not followed. No chain needs them, and with a floor the search ends
/// even if dropped copies should have left a cycle of negative cost.
const COST_MIN: i32 = -1;

/// A chain that costs no more is taken at once: cheaper ones were taken before the search.
const COST_GOOD: i32 = 1;

struct Search<'a> {
    rows: &'a Assignment,
    labels: HashMap<Node, Label>,
    queue: VecDeque<Node>,
    end: Option<u16>,
}

/// The cheapest chain from `from` ([`EMPTY`] for the holes); `None` if there is no chain.
pub(crate) fn cheapest_chain(rows: &Assignment, from: u16) -> Option<Vec<Link>> {
    let mut search = Search { rows, labels: HashMap::new(), queue: VecDeque::new(), end: None };
    if from == EMPTY {
        for arc in rows.holes() {
            search.label(Node::Arc(arc), 0, None);
        }
    } else {
        search.label(Node::Member(from), 0, None);
    }
    while search.end.is_none()
        && let Some(node) = search.queue.pop_front()
    {
        search.relax(node);
    }
    let cost = |m: &u16| search.labels.get(&Node::Member(*m)).map(|label| label.cost);
    let lacking = (0..rows.arcs_of.len() as u16).filter(|m| rows.lacks(*m) > 0);
    let reached = lacking.filter(|m| cost(m).is_some());
    let end = search.end.or_else(|| reached.min_by_key(|m| cost(m)))?;
    search.chain_to(end)
}

impl Search<'_> {
    fn label(&mut self, node: Node, cost: i32, parent: Option<Node>) {
        let better = self.labels.get(&node).is_none_or(|label| cost < label.cost);
        if cost < COST_MIN || !better {
            return;
        }
        self.labels.insert(node, Label { cost, parent });
        match node {
            Node::Member(m) if cost <= COST_GOOD && self.rows.lacks(m) > 0 => self.end = Some(m),
            _ => self.queue.push_back(node),
        }
    }

    fn relax(&mut self, node: Node) {
        let rows = self.rows;
        let quotas = &rows.quotas;
        let Some(Label { cost, parent }) = self.labels.get(&node) else { return };
        let (cost, is_source) = (*cost, parent.is_none());
        let copies = |arc: u32, zone: u16| {
            let of_zone = |m: &&u16| **m != EMPTY && quotas.zone_of[usize::from(**m)] == zone;
            rows.row(arc).iter().filter(of_zone).count() as u8
        };
        match node {
            Node::Member(m) => {
                for down in quotas.could_be_rounded_down_for(m) {
                    self.label(Node::Member(down), cost, Some(node));
                }
                let zone = quotas.zone_of[usize::from(m)];
                for arc in rows.arcs_of[usize::from(m)].iter().copied() {
                    let given_back = i32::from(!rows.had(arc, m));
                    self.label(Node::Cell(arc, zone), cost - given_back, Some(node));
                }
            }
            Node::Cell(arc, zone) => {
                for m in quotas.zones[usize::from(zone)].iter().copied() {
                    if !rows.row(arc).contains(&m) {
                        let gained = i32::from(!rows.had(arc, m));
                        self.label(Node::Member(m), cost + gained, Some(node));
                    }
                }
                if copies(arc, zone) > quotas.zone_low[usize::from(zone)] {
                    self.label(Node::Arc(arc), cost, Some(node));
                }
            }
            Node::Arc(arc) => {
                let row = rows.row(arc).iter().copied();
                let holes = row.clone().filter(|m| *m == EMPTY).count();
                // Holes that zones need for their least are theirs.
                let reserved = is_source && rows.unmet_low(row.filter(|m| *m != EMPTY)) >= holes;
                for zone in 0..quotas.zones.len() as u16 {
                    let (low, high) =
                        (quotas.zone_low[usize::from(zone)], quotas.zone_high[usize::from(zone)]);
                    if copies(arc, zone) < if reserved { low } else { high } {
                        self.label(Node::Cell(arc, zone), cost, Some(node));
                    }
                }
            }
        }
    }

    /// The links of the path to a member, last first.
    fn chain_to(&self, end: u16) -> Option<Vec<Link>> {
        let mut links = Vec::new();
        let (mut new, mut node, mut within) = (end, Node::Member(end), None);
        for _ in 0..self.labels.len() {
            let parent = self.labels.get(&node)?.parent;
            match (parent, within) {
                (Some(Node::Member(up)), None) => {
                    links.push(Link::Round { up, down: new });
                    new = up;
                }
                (Some(Node::Member(old)), Some(arc)) => {
                    links.push(Link::Replace { arc, old, new });
                    (new, within) = (old, None);
                }
                (Some(Node::Cell(arc, _) | Node::Arc(arc)), _) => within = Some(arc),
                (None, Some(arc)) => {
                    links.push(Link::Replace { arc, old: EMPTY, new });
                    return Some(links);
                }
                (None, None) => return Some(links),
            }
            node = parent?;
        }
        // Only a cycle is longer than there are nodes.
        None
    }
}
