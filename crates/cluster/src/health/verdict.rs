//! What follows from what the observers see: which nodes are down, up again, out, back. Pure: no I/O,
//! no clock.
//!
//! A node is down when as many observers suspect it as there must be: two, or the only one there is.
//! It is up again when fewer do, somebody reaches it, and that has lasted for the hold time, which grows
//! while it goes up and down. One that answers is never down, whatever it says of itself; nor does one
//! that answers come nearer to being out.

use super::probe::{Answer, Condition};
use super::record::{NodeHealth, PAST_RUNS_MAX, Standing};
use super::report::{NodeSeen, SeenReport};
use ringfs_base::{NodeName, SessionId};
use ringfs_ring::{StatusOverlay, Table};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Observers that must agree, if there are so many.
const QUORUM: usize = 2;
/// Of four servers one may be out without a person.
const OUT_PART: usize = 4;
/// How long a node that was down must answer before it is up.
const HOLD_MIN: Duration = Duration::from_secs(5);
/// The longest hold of a node that goes up and down.
const HOLD_MAX: Duration = Duration::from_secs(300);
/// Going down again within this time doubles the hold.
const FLAP_WINDOW: Duration = Duration::from_secs(600);
/// How often the time that a node has been silent is written down while nothing else changes, as a part
/// of the grace time.
const SILENCE_STEPS: u64 = 20;

/// What the coordinator goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// A node that has been down for so long is out; `None`: never without a person.
    pub out_after: Option<Duration>,
    /// See [`NodeHealth::up_not_before`]; whole seconds.
    pub hold_min: Duration,
    /// The longest hold.
    pub hold_max: Duration,
    /// Going down again within this time doubles the hold.
    pub flap_window: Duration,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            out_after: Some(Duration::from_secs(600)),
            hold_min: HOLD_MIN,
            hold_max: HOLD_MAX,
            flap_window: FLAP_WINDOW,
        }
    }
}

/// What is known at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The reports that are fresh, by observer; blind ones are left out here.
    pub reports: &'a BTreeMap<SessionId, SeenReport>,
    /// Observers that were there lately: one whose report is late today still counts for how many
    /// must agree.
    pub observers: usize,
    /// The coordinator: its own report is the newest.
    pub me: SessionId,
    /// Nodes that the coordinator has asked since it coordinates: only of these it is told whether
    /// what they answer is newer than what is recorded.
    pub asked: &'a BTreeSet<NodeName>,
    /// What is recorded.
    pub records: &'a BTreeMap<NodeName, NodeHealth>,
    /// The nodes of the ring.
    pub nodes: &'a [NodeName],
    /// The ring's table.
    pub table: &'a Table,
    /// Who is skipped now.
    pub overlay: &'a StatusOverlay,
    /// The metadata server's clock, in seconds since 1970.
    pub now: u64,
    /// Since the last time, by the coordinator's own clock.
    pub elapsed: Duration,
    /// The table may be changed now: no attempt to do so has failed just now.
    pub may_turn: bool,
    /// It is time to raise the marks.
    pub raise: bool,
}

/// A change of the ring's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The others take over what it has.
    Out(NodeName),
    /// It gets its share again.
    In {
        /// Who.
        name: NodeName,
        /// Its weight before.
        weight: u32,
    },
}

/// What shall be done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Who is to be skipped from now on, if that changes.
    pub overlay: Option<StatusOverlay>,
    /// All records as they are now.
    pub records: BTreeMap<NodeName, NodeHealth>,
    /// Of these, the ones to write down.
    pub write: BTreeSet<NodeName>,
    /// Records of nodes that are no more.
    pub forget: BTreeSet<NodeName>,
    /// Changes of the table; to be made after the records are written.
    pub turns: Vec<Turn>,
    /// Marks to be set on nodes, see [`super::Generation`].
    pub marks: Vec<(NodeName, u64)>,
    /// An incarnation has grown: something may have to be refilled.
    pub refill: bool,
    /// What has happened, in sentences.
    pub events: Vec<String>,
}

impl Verdict {
    /// Whether something must be written.
    pub fn is_news(&self) -> bool {
        self.overlay.is_some() || !self.write.is_empty() || !self.forget.is_empty()
    }
}

/// Decides.
pub fn judge(scene: &Scene<'_>, rules: &Rules) -> Verdict {
    let mut verdict = Verdict::default();
    let mut down: BTreeSet<NodeName> = BTreeSet::new();
    for name in scene.nodes {
        let mut one = OneNode::new(scene, rules, name);
        if one.decide() {
            down.insert(name.clone());
        }
        verdict.refill |= one.refill;
        verdict.marks.extend(one.mark());
        verdict.events.extend(one.events);
        verdict.records.insert(name.clone(), one.record);
    }
    note_twins(&mut verdict.records);
    if scene.may_turn {
        turn_out(scene, rules, &mut verdict);
        turn_in(scene, &down, &mut verdict);
    }
    let step = rules.out_after.map_or(u64::MAX, |after| millis(after) / SILENCE_STEPS).max(1);
    for (name, record) in &verdict.records {
        let known = scene.records.get(name);
        if known.is_none_or(|known| is_news(known, record, step)) {
            verdict.write.insert(name.clone());
        }
    }
    verdict.forget =
        scene.records.keys().filter(|name| !scene.nodes.contains(name)).cloned().collect();
    if down != scene.overlay.down {
        verdict.overlay = Some(StatusOverlay { version: scene.overlay.version + 1, down });
    }
    verdict
}

/// Time that passes is no news until there is a good deal of it.
fn is_news(known: &NodeHealth, now: &NodeHealth, step: u64) -> bool {
    let plain = |record: &NodeHealth| NodeHealth { silent_ms: 0, ..record.clone() };
    plain(known) != plain(now) || known.silent_ms / step != now.silent_ms / step
}

/// One node while it is judged.
struct OneNode<'a> {
    scene: &'a Scene<'a>,
    rules: &'a Rules,
    name: &'a NodeName,
    record: NodeHealth,
    /// Its weight by the table; `None` if the table does not have it.
    weight: Option<u32>,
    /// As many as must agree suspect it.
    suspected: bool,
    /// Somebody reaches it.
    reached: bool,
    /// What it answers: to the coordinator if it does so to that one.
    answer: Option<&'a Answer>,
    refill: bool,
    events: Vec<String>,
}

impl<'a> OneNode<'a> {
    fn new(scene: &'a Scene<'a>, rules: &'a Rules, name: &'a NodeName) -> OneNode<'a> {
        let seen: Vec<(SessionId, &NodeSeen)> = scene
            .reports
            .iter()
            .filter_map(|(who, report)| Some((*who, report.of(name)?)))
            .collect();
        let suspects = seen.iter().filter(|(_, seen)| seen.suspected).count();
        let quorum = QUORUM.min(scene.observers.max(scene.reports.len())).max(1);
        let own = seen.iter().find(|(who, _)| *who == scene.me);
        let answers = own.into_iter().chain(&seen).filter_map(|(_, seen)| seen.answer.as_ref());
        let member = scene.table.index_of(name).and_then(|index| scene.table.member(index));
        let record = scene.records.get(name).cloned().unwrap_or_else(|| NodeHealth {
            since: scene.now,
            state: Standing::Up,
            ..NodeHealth::default()
        });
        let zone = member.and_then(|member| member.zone.as_ref()).map(ToString::to_string);
        OneNode {
            scene,
            rules,
            name,
            record: NodeHealth { zone, ..record },
            weight: member.map(|member| member.weight),
            suspected: suspects >= quorum,
            reached: seen.iter().any(|(_, seen)| seen.answer.is_some()),
            answer: answers.into_iter().next(),
            refill: false,
            events: Vec::new(),
        }
    }

    /// Whether it is to be skipped.
    fn decide(&mut self) -> bool {
        let was_down = self.scene.overlay.down.contains(self.name);
        if self.record.state == Standing::Out && self.weight.is_some_and(|weight| weight > 0) {
            // Somebody has given it a share, or taking it away has failed.
            self.record.state = if was_down { Standing::Down } else { Standing::Up };
            self.record.weight = None;
        }
        if self.record.state == Standing::Up && was_down {
            self.record.state = Standing::Down;
        }
        if let Some(answer) = self.answer {
            self.record.condition = answer.condition;
        }
        let skipped = match self.record.state {
            Standing::Up => false,
            Standing::Down => true,
            Standing::Out => was_down,
        };
        let skip = if skipped { !self.is_back() } else { self.has_gone() };
        if !skip {
            self.compare_runs();
        }
        skip
    }

    /// Of a node that takes part.
    fn has_gone(&mut self) -> bool {
        if !self.suspected {
            if self.record.state == Standing::Up {
                self.record.cause = None;
            }
            return false;
        }
        let (now, record) = (self.scene.now, &mut self.record);
        let again = record.down_at > 0
            && now.saturating_sub(record.down_at) < self.rules.flap_window.as_secs();
        record.flaps = if again { record.flaps.saturating_add(1) } else { 1 };
        record.down_at = now;
        record.up_not_before = 0;
        record.silent_ms = 0;
        let cause = self.cause();
        if self.record.state == Standing::Up {
            self.record.state = Standing::Down;
            self.record.since = now;
            self.record.cause = Some(cause.clone());
        }
        self.events.push(format!("node {} is down: {cause}", self.name));
        true
    }

    /// Of a node that is skipped: whether it takes part again. Its own incarnation grows then.
    fn is_back(&mut self) -> bool {
        let now = self.scene.now;
        let usable = self.record.condition != Condition::Loading;
        if self.reached {
            self.record.silent_ms = 0;
            self.record.needs_person = false;
        }
        if self.suspected || !self.reached || !usable {
            self.record.up_not_before = 0;
            if self.suspected && !self.reached {
                let silent = self.record.silent_ms.saturating_add(millis(self.scene.elapsed));
                self.record.silent_ms = silent;
            }
            return false;
        }
        if self.record.up_not_before == 0 {
            self.record.up_not_before = now + self.hold().as_secs();
        }
        // A time farther away than any hold is of a clock that was turned back since.
        let turned = self.record.up_not_before > now + self.rules.hold_max.as_secs();
        if now < self.record.up_not_before && !turned {
            return false;
        }
        self.record.up_not_before = 0;
        self.record.incarnation += 1;
        self.refill = true;
        if self.record.state == Standing::Down {
            self.record.state = Standing::Up;
            self.record.since = now;
            self.record.cause = None;
        }
        // What it has is looked at anyway: nothing to compare with what it had.
        if let Some(answer) = self.answer {
            self.note_run(&answer.run_id);
            self.record.generation = self.count_of(answer).unwrap_or(0);
        }
        self.events.push(format!("node {} is up again", self.name));
        true
    }

    /// How long it must answer before it is believed to go on.
    fn hold(&self) -> Duration {
        let doublings = self.record.flaps.saturating_sub(1).min(16);
        self.rules.hold_min.saturating_mul(1 << doublings).min(self.rules.hold_max)
    }

    fn cause(&self) -> String {
        let reports = self.scene.reports.values();
        let cause = reports.filter_map(|report| report.of(self.name)?.cause.clone()).next();
        cause.unwrap_or_else(|| "it does not answer".to_owned())
    }

    /// Whether it is still the process, with the data, that it was; if not, it is looked at again.
    fn compare_runs(&mut self) {
        let Some(answer) = self.answer else { return };
        let new_run = self.note_run(&answer.run_id);
        let mut lost = None;
        if self.scene.asked.contains(self.name) && answer.shows_generation && !self.refill {
            let had = self.record.generation;
            match self.count_of(answer) {
                None if had > 0 && answer.generation.is_some() => {
                    lost = Some("has the mark of another volume, and nothing of ours is expected");
                }
                None if had > 0 => lost = Some("has lost its data"),
                Some(count) if count < had => lost = Some("has come back with older data"),
                _ => {}
            }
            self.record.generation = self.count_of(answer).unwrap_or(0);
        }
        if (new_run || lost.is_some()) && !self.refill {
            self.record.incarnation += 1;
            self.refill = true;
            let what = lost.unwrap_or("was restarted");
            self.events.push(format!("node {} {what}; what it lacks is brought back", self.name));
        }
    }

    /// The count of our mark that it shows.
    fn count_of(&self, answer: &Answer) -> Option<u64> {
        let mark = answer.generation.as_ref()?;
        (answer.condition != Condition::Foreign).then_some(mark.count)
    }

    /// Whether the process is another than before. One that is known to be over is an old report.
    fn note_run(&mut self, run: &str) -> bool {
        let record = &mut self.record;
        if record.run_id == run || run.is_empty() || record.past_runs.iter().any(|past| past == run)
        {
            return false;
        }
        let before = std::mem::replace(&mut record.run_id, run.to_owned());
        if before.is_empty() {
            return false;
        }
        record.past_runs.push(before);
        if record.past_runs.len() > PAST_RUNS_MAX {
            record.past_runs.remove(0);
        }
        true
    }

    /// The mark that it shall get.
    fn mark(&self) -> Option<(NodeName, u64)> {
        let answer = self.answer?;
        let mine = self.scene.asked.contains(self.name) && self.record.state == Standing::Up;
        let takes = answer.condition == Condition::Good && answer.shows_generation;
        let has = self.count_of(answer);
        (mine && takes && (has.is_none() || self.scene.raise))
            .then(|| (self.name.clone(), self.record.generation.max(has.unwrap_or(0)) + 1))
    }
}

/// Two names of one server: copies on both are one copy.
fn note_twins(records: &mut BTreeMap<NodeName, NodeHealth>) {
    let mut runs: BTreeMap<String, Vec<NodeName>> = BTreeMap::new();
    for (name, record) in records.iter().filter(|(_, record)| !record.run_id.is_empty()) {
        runs.entry(record.run_id.clone()).or_default().push(name.clone());
    }
    for names in runs.values().filter(|names| names.len() > 1) {
        for name in names {
            let Some(record) = records.get_mut(name) else { continue };
            if record.state == Standing::Up {
                let others = names.iter().filter(|other| *other != name).map(ToString::to_string);
                let others: Vec<String> = others.collect();
                record.cause = Some(format!(
                    "it is the same server as {}: give each node a server of its own",
                    others.join(", ")
                ));
            }
        }
    }
}

/// Nodes that were silent for the grace time are out, as long as not too many are.
fn turn_out(scene: &Scene<'_>, rules: &Rules, verdict: &mut Verdict) {
    let Some(after) = rules.out_after else { return };
    let weight = |name: &NodeName| {
        let index = scene.table.index_of(name)?;
        scene.table.member(index).map(|member| member.weight)
    };
    let candidates: Vec<NodeName> = verdict
        .records
        .iter()
        .filter(|(name, record)| {
            record.state == Standing::Down
                && record.silent_ms >= millis(after)
                && weight(name).is_some_and(|weight| weight > 0)
        })
        .map(|(name, _)| name.clone())
        .collect();
    let takes_part = |(name, record): &(&NodeName, &NodeHealth)| {
        record.state == Standing::Up && weight(name).is_some_and(|weight| weight > 0)
    };
    let stay = verdict.records.iter().filter(takes_part).count();
    let is_member = |(name, record): &(&NodeName, &NodeHealth)| {
        record.state == Standing::Out || weight(name).is_some_and(|weight| weight > 0)
    };
    let members = verdict.records.iter().filter(is_member).count();
    let mut out = verdict.records.values().filter(|record| record.state == Standing::Out).count();
    for name in candidates {
        let Some(record) = verdict.records.get_mut(&name) else { continue };
        if out < (members / OUT_PART).max(1) && stay >= usize::from(scene.table.replicas()) {
            out += 1;
            record.state = Standing::Out;
            record.since = scene.now;
            record.weight = weight(&name);
            record.needs_person = false;
            verdict.turns.push(Turn::Out(name.clone()));
            verdict.events.push(format!(
                "node {name} has been down for {} s and is out: the others take over what it had",
                record.silent_ms / 1000
            ));
        } else if !record.needs_person {
            record.needs_person = true;
            verdict.events.push(format!(
                "node {name} has been down for {} s and stays in the ring, because too many others \
                 are out or down: a person must decide (ringfs node drain, or bring it back)",
                record.silent_ms / 1000
            ));
        }
    }
}

/// Nodes that are out and back get their share.
fn turn_in(scene: &Scene<'_>, down: &BTreeSet<NodeName>, verdict: &mut Verdict) {
    for (name, record) in &verdict.records {
        let empty = scene
            .table
            .index_of(name)
            .and_then(|index| scene.table.member(index))
            .is_some_and(|member| member.weight == 0);
        if record.state == Standing::Out && empty && !down.contains(name) {
            let weight = record.weight.unwrap_or(1).max(1);
            verdict.turns.push(Turn::In { name: name.clone(), weight });
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
