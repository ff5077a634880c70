//! What will go wrong, and when: chosen by a seed before anything happens.
//!
//! A round has at most R-1 *victims*. Everything that takes copies away or keeps clients from them
//! happens to victims only, so at every moment each block that had all its copies when the round
//! began, or was written since, has one on a server that is well. All copies must be back before the
//! next round. What costs no copy (cut connections, killed clients, the metadata server's troubles)
//! may happen anywhere.

use super::choices::Choices;
use crate::proxy::Direction;
use std::time::Duration;

/// What a run is made on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Block servers.
    pub nodes: usize,
    /// Copies of each block.
    pub replicas: usize,
    /// Whether block servers come back from a crash with their data.
    pub persistent: bool,
    /// Mounts, each a process.
    pub mounts: usize,
}

/// Kinds of faults, for counting and for what they may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// kill -9 of a block server that comes back as it was.
    KillNode,
    /// kill -9 of a block server that comes back empty.
    EmptyNode,
    /// kill -9 of a block server that comes back with what it had a while before.
    OldNode,
    /// SIGSTOP of a block server, less than a client's time-out.
    ShortFreeze,
    /// SIGSTOP of a block server, for longer.
    LongFreeze,
    /// Connections to block servers are cut.
    Cut,
    /// Bytes between one mount and one block server arrive in one direction only.
    Partition,
    /// Everything to and from a block server comes late.
    Slow,
    /// A block server has no memory left.
    Full,
    /// Bits of stored copies on one block server flip.
    Flip,
    /// kill -9 of a mount.
    KillMount,
    /// kill -9 of the process that coordinates the ring.
    KillCoordinator,
    /// The clock of a client process jumps.
    Clock,
    /// Connections to the metadata server are cut.
    CutMeta,
    /// SIGSTOP of the metadata server, for less than a mount's patience.
    FreezeMeta,
    /// kill -9 of the metadata server, which comes back with its append-only file.
    KillMeta,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 16] = [
        Kind::KillNode,
        Kind::EmptyNode,
        Kind::OldNode,
        Kind::ShortFreeze,
        Kind::LongFreeze,
        Kind::Cut,
        Kind::Partition,
        Kind::Slow,
        Kind::Full,
        Kind::Flip,
        Kind::KillMount,
        Kind::KillCoordinator,
        Kind::Clock,
        Kind::CutMeta,
        Kind::FreezeMeta,
        Kind::KillMeta,
    ];

    /// In a few words.
    pub fn name(self) -> &'static str {
        match self {
            Kind::KillNode => "node killed, back with its data",
            Kind::EmptyNode => "node killed, back empty",
            Kind::OldNode => "node killed, back with old data",
            Kind::ShortFreeze => "node frozen shortly",
            Kind::LongFreeze => "node frozen for long",
            Kind::Cut => "connections cut",
            Kind::Partition => "one-way partition",
            Kind::Slow => "slow node",
            Kind::Full => "node without memory",
            Kind::Flip => "bits flipped in stored copies",
            Kind::KillMount => "mount killed",
            Kind::KillCoordinator => "coordinator killed",
            Kind::Clock => "clock of a client jumped",
            Kind::CutMeta => "connections to metadata cut",
            Kind::FreezeMeta => "metadata server frozen",
            Kind::KillMeta => "metadata server killed",
        }
    }

    /// How long an operation may take at most while this goes on for `lasts`: the goal.
    pub fn stall_goal(self, lasts: Duration) -> Duration {
        const DEAD: Duration = Duration::from_secs(1);
        const HANGS: Duration = Duration::from_secs(3);
        match self {
            Kind::ShortFreeze | Kind::LongFreeze | Kind::Partition | Kind::Slow => HANGS,
            // There is one metadata server, and it is waited for.
            Kind::FreezeMeta | Kind::KillMeta => lasts + HANGS,
            _ => DEAD,
        }
    }
}

/// How a killed server comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Back {
    /// As it was, if it is persistent.
    AsItWas,
    /// Without data.
    Empty,
    /// With the data that it had so long before it was killed.
    Old(Duration),
}

/// Something that goes wrong. Servers and mounts by their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields are named for what they are")]
pub enum Fault {
    Kill { node: usize, back: Back },
    Freeze { node: usize },
    Cut { mount: usize, times: usize },
    Partition { node: usize, mount: usize, blocked: Direction },
    Slow { node: usize, by: Duration },
    Full { node: usize },
    Flip { node: usize, copies: usize },
    KillMount { mount: usize },
    KillCoordinator,
    Clock { mount: usize, by_seconds: i64 },
    CutMeta { mount: usize, times: usize },
    FreezeMeta,
    KillMeta,
}

/// One fault in the course of a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it counts as.
    pub kind: Kind,
    /// What happens.
    pub fault: Fault,
    /// Time without it before.
    pub after: Duration,
    /// How long it goes on.
    pub lasts: Duration,
}

/// One round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// Counted from 1.
    pub number: usize,
    /// Block servers that may lose or withhold copies.
    pub victims: Vec<usize>,
    /// Lists of steps. The steps of one list come one after the other, the lists run side by side.
    pub lanes: Vec<Vec<Step>>,
}

/// The rounds of a seed, one after the other, without end.
#[derive(Debug)]
pub struct Plan {
    shape: Shape,
    choices: Choices,
    kinds: Vec<Kind>,
    deck: Vec<Kind>,
    number: usize,
}

/// Faults of one round.
const STEPS: std::ops::Range<usize> = 3..5;

impl Plan {
    /// With faults of these kinds.
    pub fn new(seed: u64, shape: Shape, kinds: &[Kind]) -> Plan {
        let choices = Choices::derive(seed, 1);
        Plan { shape, choices, kinds: kinds.to_vec(), deck: Vec::new(), number: 0 }
    }

    /// Each kind comes once before any comes twice.
    fn draw(&mut self) -> Kind {
        if self.deck.is_empty() {
            self.deck = self.kinds.clone();
            self.choices.shuffle(&mut self.deck);
        }
        self.deck.pop().expect("there are kinds")
    }

    /// The next round.
    pub fn next_round(&mut self) -> Round {
        self.number += 1;
        let mut victims: Vec<usize> = (0..self.shape.nodes).collect();
        self.choices.shuffle(&mut victims);
        victims.truncate(self.shape.replicas - 1);
        let steps = self.choices.within(STEPS);
        let steps: Vec<Step> = (0..steps)
            .map(|_| {
                let kind = self.draw();
                self.step(kind, &victims)
            })
            .collect();
        // Half of the rounds one fault at a time, so that it is known which one a stall is due to.
        let lanes = match self.choices.once_in(2) {
            true => vec![steps],
            false => by_server(steps),
        };
        Round { number: self.number, victims, lanes }
    }

    fn step(&mut self, kind: Kind, victims: &[usize]) -> Step {
        let c = &mut self.choices;
        let node = victims.get(c.below(victims.len().max(1))).copied().unwrap_or(0);
        let mount = c.below(self.shape.mounts);
        let times = c.within(1..5);
        let (fault, lasts) = match kind {
            Kind::KillNode => (Fault::Kill { node, back: Back::AsItWas }, c.millis(300..9_000)),
            Kind::EmptyNode => (Fault::Kill { node, back: Back::Empty }, c.millis(0..9_000)),
            Kind::OldNode => {
                let back = Back::Old(c.millis(500..3_000));
                (Fault::Kill { node, back }, c.millis(0..5_000))
            }
            Kind::ShortFreeze => (Fault::Freeze { node }, c.millis(50..600)),
            Kind::LongFreeze => (Fault::Freeze { node }, c.millis(2_000..8_000)),
            Kind::Cut => (Fault::Cut { mount, times }, c.millis(200..2_000)),
            Kind::Partition => {
                let directions = [Direction::ToServer, Direction::ToClient, Direction::Both];
                let blocked = directions[c.below(directions.len())];
                (Fault::Partition { node, mount, blocked }, c.millis(1_000..7_000))
            }
            Kind::Slow => (Fault::Slow { node, by: c.millis(5..250) }, c.millis(1_000..5_000)),
            Kind::Full => (Fault::Full { node }, c.millis(500..4_000)),
            Kind::Flip => (Fault::Flip { node, copies: c.within(1..20) }, Duration::ZERO),
            Kind::KillMount => (Fault::KillMount { mount }, c.millis(0..3_000)),
            Kind::KillCoordinator => (Fault::KillCoordinator, c.millis(0..3_000)),
            Kind::Clock => {
                let size = c.within(5..7_200) as i64;
                let by_seconds = if c.once_in(2) { size } else { -size };
                (Fault::Clock { mount, by_seconds }, c.millis(1_000..5_000))
            }
            Kind::CutMeta => (Fault::CutMeta { mount, times }, c.millis(200..2_000)),
            Kind::FreezeMeta => (Fault::FreezeMeta, c.millis(200..4_000)),
            Kind::KillMeta => (Fault::KillMeta, c.millis(0..2_000)),
        };
        Step { kind, fault, after: c.millis(500..2_000), lasts }
    }
}

/// What happens to one server happens one after the other; the rest of it is one more list.
fn by_server(steps: Vec<Step>) -> Vec<Vec<Step>> {
    let mut lanes: Vec<(Option<usize>, Vec<Step>)> = Vec::new();
    for step in steps {
        let node = step.fault.node();
        match lanes.iter_mut().find(|(of, _)| *of == node) {
            Some((_, lane)) => lane.push(step),
            None => lanes.push((node, vec![step])),
        }
    }
    lanes.into_iter().map(|(_, lane)| lane).collect()
}

impl Fault {
    /// The block server that it takes copies from.
    pub fn node(&self) -> Option<usize> {
        match self {
            Fault::Kill { node, .. }
            | Fault::Freeze { node }
            | Fault::Partition { node, .. }
            | Fault::Slow { node, .. }
            | Fault::Full { node }
            | Fault::Flip { node, .. } => Some(*node),
            Fault::Cut { .. }
            | Fault::KillMount { .. }
            | Fault::KillCoordinator
            | Fault::Clock { .. }
            | Fault::CutMeta { .. }
            | Fault::FreezeMeta
            | Fault::KillMeta => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn shape(replicas: usize) -> Shape {
        Shape { nodes: 5, replicas, persistent: true, mounts: 3 }
    }

    #[test]
    fn a_round_takes_copies_from_fewer_servers_than_there_are_copies() {
        for replicas in 2..=3 {
            for seed in 0..50 {
                let mut plan = Plan::new(seed, shape(replicas), &Kind::ALL);
                for _ in 0..20 {
                    let round = plan.next_round();
                    let hit: BTreeSet<usize> =
                        round.lanes.iter().flatten().filter_map(|s| s.fault.node()).collect();
                    assert!(round.victims.len() < replicas && hit.len() < replicas, "{round:?}");
                    assert!(hit.iter().all(|node| round.victims.contains(node)));
                    // One server's troubles never overlap.
                    for node in hit {
                        let of = |lane: &&Vec<Step>| {
                            lane.iter().any(|step| step.fault.node() == Some(node))
                        };
                        assert_eq!(round.lanes.iter().filter(of).count(), 1);
                    }
                }
            }
        }
    }

    #[test]
    fn every_kind_comes_within_a_few_rounds_and_a_seed_repeats_them() {
        let (mut a, mut b) =
            (Plan::new(9, shape(2), &Kind::ALL), Plan::new(9, shape(2), &Kind::ALL));
        let mut seen = BTreeSet::new();
        for _ in 0..6 {
            let round = a.next_round();
            assert_eq!(round, b.next_round());
            seen.extend(round.lanes.iter().flatten().map(|step| step.kind));
        }
        assert_eq!(seen.len(), Kind::ALL.len());
    }
}
