//! Who comes first in each row. Changing that moves no data, so it is decided after the rows.
//!
//! Every arc elects one of its servers; a server that is in `c` rows of width `w` should be
//! elected `c / w` times. That is always possible to within one: electing each server of a row
//! with fraction `1 / w` gives exactly that, and flows are integral. So: keep whoever was
//! first, let arcs without a first choose who is furthest from its due, and then pass elections
//! along shortest chains from who has too many to who has too few.

use std::collections::VecDeque;

/// The election of each arc, as a position in its row.
pub(crate) fn elect(rows: &[u16], width: usize, members: usize, keep: &[Option<u16>]) -> Vec<u8> {
    let arcs = rows.len() / width;
    let mut copies = vec![0u32; members];
    for m in rows {
        copies[usize::from(*m)] += 1;
    }
    let mut election = Election {
        rows,
        width,
        first: vec![0; arcs],
        count: vec![0; members],
        low: copies.iter().map(|c| c / width as u32).collect(),
        high: copies.iter().map(|c| c.div_ceil(width as u32)).collect(),
    };
    let mut open = Vec::new();
    for (arc, kept) in keep.iter().enumerate() {
        let row = &rows[arc * width..][..width];
        match kept.and_then(|m| row.iter().position(|o| *o == m)) {
            Some(place) => {
                election.first[arc] = place as u8;
                election.count[usize::from(row[place])] += 1;
            }
            None => open.push(arc),
        }
    }
    for arc in open {
        let row = &rows[arc * width..][..width];
        // Largest part of its due still missing; an exact comparison of two fractions.
        let place = (0..width)
            .max_by(|a, b| {
                let missing = |place: &usize| {
                    let m = usize::from(row[*place]);
                    let due = u64::from(copies[m]);
                    (due.saturating_sub(u64::from(election.count[m]) * width as u64), due.max(1))
                };
                let ((ma, da), (mb, db)) = (missing(a), missing(b));
                (ma * db).cmp(&(mb * da)).then(b.cmp(a))
            })
            .unwrap_or(0);
        election.first[arc] = place as u8;
        election.count[usize::from(row[place])] += 1;
    }
    election.balance();
    election.first
}

struct Election<'a> {
    rows: &'a [u16],
    width: usize,
    first: Vec<u8>,
    count: Vec<u32>,
    low: Vec<u32>,
    high: Vec<u32>,
}

impl Election<'_> {
    /// First nobody has too many, then nobody has too few.
    fn balance(&mut self) {
        let members = self.count.len();
        let mut elected_in: Vec<Vec<u32>> = vec![Vec::new(); members];
        for (arc, place) in self.first.iter().enumerate() {
            let row = &self.rows[arc * self.width..][..self.width];
            elected_in[usize::from(row[usize::from(*place)])].push(arc as u32);
        }
        for m in 0..members {
            while self.count[m] > self.high[m]
                && self.pass(m, &mut elected_in, |e, to| e.count[to] < e.high[to])
            {}
        }
        // Chains run from a giver to a taker, so look for takers from everyone who can give.
        for m in 0..members {
            while self.count[m] > self.low[m]
                && (0..members).any(|to| self.count[to] < self.low[to])
                && self.pass(m, &mut elected_in, |e, to| e.count[to] < e.low[to])
            {}
        }
    }

    /// Passes one election from `from` along the shortest chain to somebody who may take it.
    fn pass(
        &mut self,
        from: usize,
        elected_in: &mut [Vec<u32>],
        takes: impl Fn(&Self, usize) -> bool,
    ) -> bool {
        let mut came: Vec<Option<(usize, u32, u8)>> = vec![None; self.count.len()];
        let mut queue = VecDeque::from([from]);
        let mut end = None;
        'search: while let Some(at) = queue.pop_front() {
            for arc in &elected_in[at] {
                let row = &self.rows[*arc as usize * self.width..][..self.width];
                for (place, next) in row.iter().enumerate() {
                    let next = usize::from(*next);
                    if next == from || next == at || came[next].is_some() {
                        continue;
                    }
                    came[next] = Some((at, *arc, place as u8));
                    if takes(self, next) {
                        end = Some(next);
                        break 'search;
                    }
                    queue.push_back(next);
                }
            }
        }
        let Some(end) = end else { return false };
        let mut at = end;
        while let Some((giver, arc, place)) = came[at] {
            self.first[arc as usize] = place;
            elected_in[giver].retain(|a| *a != arc);
            elected_in[at].push(arc);
            at = giver;
        }
        self.count[from] -= 1;
        self.count[end] += 1;
        true
    }
}
