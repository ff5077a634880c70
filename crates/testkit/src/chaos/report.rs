//! The figures of a run, or of several.

use super::plan::Kind;
use super::story::{Counts, Stall, Story};
use super::{Options, STALL_FACTOR};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What was run.
    pub runs: Vec<String>,
    /// Rounds, all of them without a failure.
    pub rounds: u64,
    /// Faults of each kind.
    pub faults: BTreeMap<Kind, u64>,
    /// Operations and bytes.
    pub counts: Counts,
    /// The longest operation under each kind of fault alone; without one under `None`.
    pub stalls: BTreeMap<Option<Kind>, Stall>,
    /// The longest operation under several kinds at once.
    pub several: Option<Stall>,
    /// The latest that a thread was which does not need RingFS.
    pub control: Duration,
    /// How long nodes were gone before they were marked down.
    pub detected: Vec<Duration>,
    /// How long it took after each round until every block had all its copies.
    pub redundant: Vec<Duration>,
}

impl Report {
    pub(super) fn new(options: &Options) -> Report {
        let shape = options.shape;
        let persistent = if shape.persistent { "persistent" } else { "not persistent" };
        let what = format!(
            "seed {}: {} nodes ({persistent}), {} copies, {} mounts",
            options.seed, shape.nodes, shape.replicas, shape.mounts
        );
        Report { runs: vec![what], ..Report::default() }
    }

    pub(super) fn conclude(&mut self, story: &Story) {
        self.faults = story.faults();
        self.counts = story.counts();
        (self.stalls, self.several) = story.stalls();
        self.control = story.longest_control();
    }

    /// Together with another one.
    pub fn and(mut self, other: Report) -> Report {
        self.runs.extend(other.runs);
        self.rounds += other.rounds;
        for (kind, count) in other.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        self.counts.operations += other.counts.operations;
        self.counts.bytes_written += other.counts.bytes_written;
        self.counts.bytes_read += other.counts.bytes_read;
        self.counts.files_verified += other.counts.files_verified;
        self.counts.out_of_space += other.counts.out_of_space;
        self.counts.unknown += other.counts.unknown;
        for (kind, stall) in other.stalls {
            let longest = self.stalls.entry(kind).or_insert_with(|| stall.clone());
            if longest.slow.took < stall.slow.took {
                *longest = stall;
            }
        }
        let several = [self.several.take(), other.several].into_iter().flatten();
        self.several = several.max_by_key(|stall| stall.slow.took);
        self.control = self.control.max(other.control);
        self.detected.extend(other.detected);
        self.redundant.extend(other.redundant);
        self
    }
}

fn longest(of: &[Duration]) -> Option<Duration> {
    of.iter().max().copied()
}

fn middle(of: &[Duration]) -> Option<Duration> {
    let mut sorted = of.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or("-".to_owned(), |time| format!("{:.2} s", time.as_secs_f64()))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for run in &self.runs {
            writeln!(f, "chaos: {run}")?;
        }
        writeln!(
            f,
            "{:<34} {:>6} {:>14} {:>8} {:>14}",
            "fault", "times", "longest stall", "goal", "machine late"
        )?;
        let line =
            |f: &mut fmt::Formatter<'_>, name: &str, times: String, stall: Option<&Stall>| {
                // Shorter ones are not kept.
                let took =
                    stall.map_or("< 0.1 s".to_owned(), |stall| seconds(Some(stall.slow.took)));
                let goal = seconds(stall.map(|stall| stall.goal));
                let control = seconds(stall.map(|stall| stall.control));
                let what = stall.map_or("", |stall| stall.slow.what.as_str());
                writeln!(f, "{name:<34} {times:>6} {took:>14} {goal:>8} {control:>14}  {what}")
            };
        for (kind, times) in &self.faults {
            line(f, kind.name(), times.to_string(), self.stalls.get(&Some(*kind)))?;
        }
        line(f, "none", String::new(), self.stalls.get(&None))?;
        line(f, "several at once", String::new(), self.several.as_ref())?;
        let c = &self.counts;
        let faults: u64 = self.faults.values().sum();
        let all = self.stalls.values().chain(&self.several);
        let beyond = all.filter(|stall| stall.slow.took > stall.goal).count();
        write!(
            f,
            "chaos: {} rounds, {faults} faults of {} kinds, {} operations, {} files compared, \
             {:.1} MB written, {:.1} MB read back, {} refused for lack of memory, {} of unknown \
             outcome, 0 lost; longest stalls beyond their goal: {beyond} kinds (limit {STALL_FACTOR} \
             times the goal), the machine late by {} at most; marked down after {} ({} at most, {} \
             times); full redundancy after {} ({} at most)",
            self.rounds,
            self.faults.len(),
            c.operations,
            c.files_verified,
            c.bytes_written as f64 / 1e6,
            c.bytes_read as f64 / 1e6,
            c.out_of_space,
            c.unknown,
            seconds(Some(self.control)),
            seconds(middle(&self.detected)),
            seconds(longest(&self.detected)),
            self.detected.len(),
            seconds(middle(&self.redundant)),
            seconds(longest(&self.redundant)),
        )
    }
}
