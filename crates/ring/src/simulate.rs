//! Placements side by side: balance, movement, lookup time.
//!
//! Balance and movement are measured at points spread evenly over the ring (a Weyl sequence)
//! and not at random keys, so that the figures show the placement and not the sample's luck.
//! Lookup time is measured from a key of 12 bytes (a block's) to its servers, SHA-1 included.

use crate::alternates::{Placement, Scheme};
use crate::member::{MEMBERS_MAX, Member};
use crate::optimiser::PlanError;
use ringfs_base::{BlockId, NodeName, SliceId};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Instant;

/// What to simulate.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The servers at the start.
    pub members: Vec<Member>,
    /// Copies.
    pub replicas: u8,
    /// P of the table, N of the textbook.
    pub arcs: u32,
    /// Points at which balance and movement are measured; rounded up to a power of two.
    pub points: u32,
    /// Lookups that are timed.
    pub lookups: u32,
    /// The placements.
    pub schemes: Vec<Scheme>,
    /// The changes, each applied to the start.
    pub changes: Vec<Change>,
}

/// A change of membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A server leaves.
    Remove(NodeName),
    /// A server comes.
    Add(Member),
    /// A server gets another weight.
    Reweight(NodeName, u32),
}

impl Change {
    /// What happens, in a few words.
    pub fn describe(&self) -> String {
        match self {
            Change::Remove(name) => format!("remove {name}"),
            Change::Add(member) => format!("add {}", member.name),
            Change::Reweight(name, weight) => format!("weigh {name} {weight}"),
        }
    }

    fn apply(&self, members: &[Member]) -> Vec<Member> {
        let mut members = members.to_vec();
        match self {
            Change::Remove(name) => members.retain(|m| m.name != *name),
            Change::Add(member) => members.push(member.clone()),
            Change::Reweight(name, weight) => {
                members.iter_mut().filter(|m| m.name == *name).for_each(|m| m.weight = *weight);
            }
        }
        members
    }
}

impl Scenario {
    /// `servers` equal servers named n000, n001 ..; every scheme; one server leaves, one comes,
    /// one doubles its weight.
    pub fn equal_servers(servers: u16, replicas: u8, arcs: u32) -> Scenario {
        let name = |i: u16| {
            NodeName::new(&format!("n{i:03}")).expect("a letter and digits are a node name")
        };
        let member = |i: u16| Member::new(name(i)).weighing(100);
        let middle = name(servers / 2);
        Scenario {
            members: (0..servers).map(member).collect(),
            replicas,
            arcs,
            points: 1 << 17,
            lookups: 200_000,
            schemes: Scheme::ALL.to_vec(),
            changes: vec![
                Change::Remove(middle.clone()),
                Change::Add(member(servers)),
                Change::Reweight(middle, 200),
            ],
        }
    }

    /// Runs it. Fails as [`crate::plan`] does, on the start or on a change that leaves nobody.
    pub fn run(&self) -> Result<Report, PlanError> {
        let schemes =
            self.schemes.iter().map(|s| self.run_one(*s)).collect::<Result<Vec<_>, _>>()?;
        Ok(Report {
            servers: self.members.len(),
            replicas: self.replicas,
            arcs: self.arcs,
            points: self.points.next_power_of_two(),
            schemes,
        })
    }

    fn run_one(&self, scheme: Scheme) -> Result<SchemeReport, PlanError> {
        placeable(&self.members)?;
        let start = scheme.build(&self.members, self.replicas, self.arcs)?;
        let before = self.place(start.as_ref());
        let ideal = ideal_shares(&self.members, self.replicas);
        let mut changes = Vec::new();
        for change in &self.changes {
            let members = change.apply(&self.members);
            placeable(&members)?;
            let after = self.place(start.changed(&members)?.as_ref());
            let moved = after.moved_since(&before);
            let optimum = growth(&ideal, &ideal_shares(&members, self.replicas));
            let heeded = start.is_weighted() || !matches!(change, Change::Reweight(..));
            changes.push(ChangeReport { what: change.describe(), moved, optimum, heeded });
        }
        let ratios = |counts: &HashMap<NodeName, u32>| -> Balance {
            let total: f64 = counts.values().copied().map(f64::from).sum();
            let of = |(name, share): (&NodeName, &f64)| {
                f64::from(counts.get(name).copied().unwrap_or(0)) / (total * share)
            };
            Balance::of(ideal.iter().filter(|(_, share)| **share > 0.0).map(of).collect())
        };
        Ok(SchemeReport {
            name: scheme.name(),
            copies: ratios(&before.copies),
            primaries: ratios(&before.primaries),
            changes,
            lookup_ns: self.time_lookups(start.as_ref()),
        })
    }

    /// Who holds each point, and counts of it.
    fn place(&self, placement: &dyn Placement) -> Placed {
        let points = self.points.next_power_of_two();
        let mut placed = Placed::default();
        let mut owners = Vec::new();
        let (mut copies, mut primaries) =
            (vec![0; placement.members().len()], vec![0; placement.members().len()]);
        for i in 0..points {
            // 2^64 / golden ratio, odd: high bits are evenly spread, and the low bits run
            // through all arcs before one comes again.
            let point = u64::from(i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            placement.owners_at(point, self.replicas, &mut owners);
            primaries[usize::from(owners[0])] += 1;
            owners.iter().for_each(|o| copies[usize::from(*o)] += 1);
            placed.rows.extend_from_slice(&owners);
            placed.width = owners.len();
        }
        placed.names = placement.members().iter().map(|m| m.name.clone()).collect();
        placed.copies = placed.names.iter().cloned().zip(copies).collect();
        placed.primaries = placed.names.iter().cloned().zip(primaries).collect();
        placed
    }

    /// Nanoseconds from a key to its servers: the best of several runs, since what disturbs a
    /// run only ever makes it longer.
    fn time_lookups(&self, placement: &dyn Placement) -> f64 {
        const RUNS: u32 = 5;
        let each = (self.lookups / RUNS).max(1);
        let mut owners = Vec::with_capacity(usize::from(self.replicas));
        let mut best = f64::INFINITY;
        for run in 0..RUNS {
            let begin = Instant::now();
            for index in 0..each {
                let key = BlockId { slice: SliceId(u64::from(run)), index }.to_bytes();
                let point = crate::point_of(black_box(&key));
                placement.owners_at(point, self.replicas, &mut owners);
                black_box(&owners);
            }
            best = best.min(begin.elapsed().as_nanos() as f64 / f64::from(each));
        }
        best
    }
}

/// Refuses for every scheme what the table refuses.
fn placeable(members: &[Member]) -> Result<(), PlanError> {
    if members.iter().all(|m| m.weight == 0) {
        return Err(PlanError::Nobody);
    }
    if members.len() > MEMBERS_MAX {
        return Err(PlanError::TooManyMembers(members.len()));
    }
    Ok(())
}

#[derive(Default)]
struct Placed {
    names: Vec<NodeName>,
    rows: Vec<u16>,
    width: usize,
    copies: HashMap<NodeName, u32>,
    primaries: HashMap<NodeName, u32>,
}

impl Placed {
    /// The part of all copies that their holder did not have before.
    fn moved_since(&self, before: &Placed) -> f64 {
        let number: HashMap<&NodeName, u16> = before.names.iter().zip(0..).collect();
        let old: Vec<Option<u16>> = self.names.iter().map(|n| number.get(n).copied()).collect();
        let rows = self.rows.chunks(self.width).zip(before.rows.chunks(before.width));
        let gained = |(after, before): (&[u16], &[u16])| {
            let had = |o: &&u16| old[usize::from(**o)].is_some_and(|n| before.contains(&n));
            after.iter().filter(|o| !had(o)).count() as u64
        };
        rows.map(gained).sum::<u64>() as f64 / self.rows.len() as f64
    }
}

/// Each server's part of all copies by weight; none above 1 / replicas, since a key has at
/// most one copy on a server.
fn ideal_shares(members: &[Member], replicas: u8) -> HashMap<NodeName, f64> {
    let eligible = members.iter().filter(|m| m.weight > 0).count();
    let cap = 1.0 / usize::from(replicas).min(eligible).max(1) as f64;
    let mut capped: Vec<bool> = vec![false; members.len()];
    loop {
        let free = 1.0 - cap * capped.iter().filter(|c| **c).count() as f64;
        let weight: f64 = members
            .iter()
            .zip(&capped)
            .filter(|(_, c)| !**c)
            .map(|(m, _)| f64::from(m.weight))
            .sum();
        let share =
            |m: &Member| if weight > 0.0 { f64::from(m.weight) / weight * free } else { 0.0 };
        let over: Vec<usize> = (0..members.len())
            .filter(|i| !capped[*i] && share(&members[*i]) > cap + 1e-12)
            .collect();
        if over.is_empty() {
            let shares = members.iter().zip(&capped).map(|(m, c)| if *c { cap } else { share(m) });
            return members.iter().map(|m| m.name.clone()).zip(shares).collect();
        }
        over.into_iter().for_each(|i| capped[i] = true);
    }
}

/// What must move at least: all that shares grow by.
fn growth(before: &HashMap<NodeName, f64>, after: &HashMap<NodeName, f64>) -> f64 {
    after.iter().map(|(n, share)| (share - before.get(n).copied().unwrap_or(0.0)).max(0.0)).sum()
}

/// How evenly load is spread: each server's load over what its weight makes due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Balance {
    /// The most loaded server; 1 is perfect.
    pub max: f64,
    /// The least loaded server.
    pub min: f64,
    /// Standard deviation.
    pub stddev: f64,
}

impl Balance {
    fn of(ratios: Vec<f64>) -> Balance {
        let n = ratios.len().max(1) as f64;
        let mean = ratios.iter().sum::<f64>() / n;
        let variance = ratios.iter().map(|r| (r - mean) * (r - mean)).sum::<f64>() / n;
        Balance {
            max: ratios.iter().copied().fold(0.0, f64::max),
            min: ratios.iter().copied().fold(f64::INFINITY, f64::min),
            stddev: variance.sqrt(),
        }
    }
}

/// What one change moved.
#[derive(Clone, Debug, PartialEq)]
pub struct ChangeReport {
    /// The change, in words.
    pub what: String,
    /// The part of all copies that moved.
    pub moved: f64,
    /// The part that had to.
    pub optimum: f64,
    /// Whether the placement heeds such a change at all.
    pub heeded: bool,
}

/// One placement's figures.
#[derive(Clone, Debug, PartialEq)]
pub struct SchemeReport {
    /// Its name.
    pub name: &'static str,
    /// Balance of all copies.
    pub copies: Balance,
    /// Balance of first copies.
    pub primaries: Balance,
    /// Movement.
    pub changes: Vec<ChangeReport>,
    /// Nanoseconds from key to servers, with SHA-1.
    pub lookup_ns: f64,
}

/// All figures of a [`Scenario`].
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Servers at the start.
    pub servers: usize,
    /// Copies.
    pub replicas: u8,
    /// P.
    pub arcs: u32,
    /// Points measured.
    pub points: u32,
    /// One entry a placement.
    pub schemes: Vec<SchemeReport>,
}

impl Report {
    /// A table for people.
    pub fn to_text(&self) -> String {
        let mut out = format!(
            "{} servers, {} copies, {} arcs, measured at {} points\n\
             balance: load over what is due by weight, 1 is perfect; moved: % of all copies\n\n\
             {:<14} {:>21}   {:>21}",
            self.servers, self.replicas, self.arcs, self.points, "", "copies", "primaries"
        );
        let changes = self.schemes.first().map_or(&[][..], |s| &s.changes);
        for change in changes {
            write!(out, " {:>16}", change.what).expect("a String takes all");
        }
        write!(
            out,
            "\n{:<14} {:>7}{:>7}{:>7}   {:>7}{:>7}{:>7}",
            "placement", "max", "min", "stddev", "max", "min", "stddev"
        )
        .expect("a String takes all");
        for change in changes {
            write!(out, " {:>16}", format!("best {:.2}", change.optimum * 100.0))
                .expect("a String takes all");
        }
        out.push_str("   lookup ns\n");
        for scheme in &self.schemes {
            let (c, p) = (scheme.copies, scheme.primaries);
            write!(
                out,
                "{:<14} {:>7.3}{:>7.3}{:>7.3}   {:>7.3}{:>7.3}{:>7.3}",
                scheme.name, c.max, c.min, c.stddev, p.max, p.min, p.stddev
            )
            .expect("a String takes all");
            for change in &scheme.changes {
                let text = if change.heeded {
                    format!("{:.2}", change.moved * 100.0)
                } else {
                    "no weights".to_owned()
                };
                write!(out, " {text:>16}").expect("a String takes all");
            }
            writeln!(out, " {:>11.0}", scheme.lookup_ns).expect("a String takes all");
        }
        out
    }

    /// The same for programs. All text in it is node names and our own words, which need no
    /// escapes.
    pub fn to_json(&self) -> String {
        let balance = |b: Balance| {
            format!(r#"{{"max":{:.6},"min":{:.6},"stddev":{:.6}}}"#, b.max, b.min, b.stddev)
        };
        let change = |c: &ChangeReport| {
            format!(
                r#"{{"change":"{}","moved":{:.6},"optimum":{:.6},"heeded":{}}}"#,
                c.what, c.moved, c.optimum, c.heeded
            )
        };
        let scheme = |s: &SchemeReport| {
            let changes: Vec<String> = s.changes.iter().map(change).collect();
            format!(
                r#"{{"name":"{}","copies":{},"primaries":{},"changes":[{}],"lookup_ns":{:.1}}}"#,
                s.name,
                balance(s.copies),
                balance(s.primaries),
                changes.join(","),
                s.lookup_ns
            )
        };
        let schemes: Vec<String> = self.schemes.iter().map(scheme).collect();
        format!(
            r#"{{"servers":{},"replicas":{},"arcs":{},"points":{},"schemes":[{}]}}"#,
            self.servers,
            self.replicas,
            self.arcs,
            self.points,
            schemes.join(",")
        )
    }
}
