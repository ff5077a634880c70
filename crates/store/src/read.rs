//! Reading a part of one block: the nearest copy first, the next one as soon as it is late or bad.
//!
//! A *race* asks nodes in the planned order. Normally only the first is asked. The next joins at
//! once when a node has no good copy, and after the hedge time when it is late; the first good
//! answer wins. Owners race first. Only if no owner has a good copy are the others looked at: first
//! all are asked whether they have the block, then those that do race.

use crate::Shared;
use crate::error::StoreError;
use crate::exchange::{Batch, Traffic, exchange};
use crate::frame::Damage;
use crate::mender::Task;
use crate::node::{Haste, Peer, View};
use crate::placement::{NodeIndex, mix};
use crate::plan::{Condition, owners_order};
use crate::want::{Answer, Out, SEGMENTS, Want};
use ringfs_base::BlockId;
use ringfs_link::{Cmd, Conn, LinkError, PooledConn, Reply, ServerName, wait_any};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Nodes in doubt that are waited for when nobody else has the block; each may take a second.
const LAST_RESORT_MAX: usize = 8;

/// What was learned on the way to a good copy, or to none.
#[derive(Default)]
struct Findings {
    missing: Vec<NodeIndex>,
    bad: Vec<(NodeIndex, Damage)>,
    failed: Vec<(NodeIndex, LinkError)>,
}

impl Findings {
    fn note(&mut self, shared: &Shared, view: &View, want: &Want, node: NodeIndex, answer: Answer) {
        match answer {
            Answer::Good => {}
            Answer::Missing => self.missing.push(node),
            Answer::Bad(damage) => {
                shared.counters.bad_copies.add(1);
                if let Some(name) = view.name(node) {
                    tracing::warn!(block = %want.block, node = %name, %damage, "bad copy");
                }
                self.bad.push((node, damage));
            }
            Answer::Failed(error) => {
                shared.mender.wake();
                self.failed.push((node, error));
            }
        }
    }

    fn saw_nothing(&self) -> bool {
        self.missing.is_empty() && self.bad.is_empty() && self.failed.is_empty()
    }
}

/// Fetches what is wanted into `out`. What a remembered index says is tried first; if it leads
/// to no good copy it is forgotten, and the copies' own headers decide.
pub(crate) fn read(shared: &Shared, want: &Want, out: &mut Out<'_>) -> Result<(), StoreError> {
    if want.len == 0 {
        return Ok(());
    }
    if want.by_index() {
        if let Ok(()) = read_as(shared, want, out, Search::Owners) {
            return Ok(());
        }
        shared.indexes.forget(want.block);
        return read_as(shared, &want.without_index(), out, Search::Everywhere);
    }
    read_as(shared, want, out, Search::Everywhere)
}

/// Where to look for a copy.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Search {
    Owners,
    Everywhere,
}

fn read_as(
    shared: &Shared,
    want: &Want,
    out: &mut Out<'_>,
    search: Search,
) -> Result<(), StoreError> {
    let view = shared.view();
    let owners = view.placement.owners(want.block);
    let spread = shared.seed ^ mix(want.block.slice.0 ^ u64::from(want.block.index));
    let order = owners_order(&owners, spread, |node| view.condition(node));
    let mut findings = Findings::default();

    let found = race(shared, &view, &order, Haste::Normal, want, out, &mut findings)
        || search == Search::Everywhere
            && (race_others(shared, &view, &owners, want, out, &mut findings)
                || last_resort(shared, &view, want, out, &mut findings));

    if !findings.saw_nothing() {
        shared.counters.fall_overs.add(1);
    }
    if !found {
        return Err(failure(&view, want.block, findings));
    }
    shared.counters.blocks_read.add(1);
    shared.counters.bytes_read.add(want.len);
    let missed = owners.iter().filter(|owner| findings.missing.contains(owner)).count();
    shared.counters.missing_copies.add(missed);
    let bad_owner = findings
        .bad
        .iter()
        .any(|(node, damage)| owners.contains(node) && !matches!(damage, Damage::Newer { .. }));
    if missed > 0 || bad_owner {
        shared.mender.send(Task::Repair(want.block));
    }
    Ok(())
}

/// No owner has a good copy: looks for one everywhere else.
fn race_others(
    shared: &Shared,
    view: &View,
    owners: &[NodeIndex],
    want: &Want,
    out: &mut Out<'_>,
    findings: &mut Findings,
) -> bool {
    let others = view.others(want.block, owners);
    let holders = holders(shared, view, want.block, &others, findings);
    race(shared, view, &holders, Haste::Normal, want, out, findings)
}

/// Which of the nodes have the block, asked all at once.
fn holders(
    shared: &Shared,
    view: &View,
    block: BlockId,
    nodes: &[NodeIndex],
    findings: &mut Findings,
) -> Vec<NodeIndex> {
    let key = shared.keys.key(block);
    let batches: Vec<Batch<'_>> = nodes
        .iter()
        .map(|node| Batch { node: *node, cmds: vec![Cmd::new("EXISTS").arg(&key)] })
        .collect();
    let replies =
        exchange(view, &batches, shared.config.reply_within(0), Haste::Normal, Traffic::Questions);
    let mut holders = Vec::new();
    for (node, reply) in nodes.iter().zip(replies.into_iter().flatten()) {
        match reply.and_then(Reply::into_int) {
            Ok(0) => findings.missing.push(*node),
            Ok(_) => holders.push(*node),
            Err(error) => {
                shared.mender.wake();
                findings.failed.push((*node, error));
            }
        }
    }
    holders
}

/// Asks once more those that could not be asked, now waiting for them: a node in doubt may be
/// back, and there is nobody else.
fn last_resort(
    shared: &Shared,
    view: &View,
    want: &Want,
    out: &mut Out<'_>,
    findings: &mut Findings,
) -> bool {
    let count = findings.failed.len().min(LAST_RESORT_MAX);
    let doubtful: Vec<NodeIndex> = findings.failed.drain(..count).map(|(node, _)| node).collect();
    race(shared, view, &doubtful, Haste::LastResort, want, out, findings)
}

fn failure(view: &View, block: BlockId, findings: Findings) -> StoreError {
    let named = |node| view.name(node);
    if !findings.failed.is_empty() {
        let causes =
            findings.failed.into_iter().filter_map(|(n, e)| Some((named(n)?, e))).collect();
        StoreError::Unavailable { block, causes }
    } else if !findings.bad.is_empty() {
        let bad = findings.bad.into_iter().filter_map(|(n, d)| Some((named(n)?, d))).collect();
        StoreError::Corrupt { block, bad }
    } else if findings.missing.is_empty() {
        StoreError::Unavailable { block, causes: Vec::new() }
    } else {
        StoreError::Missing { block, tried: view.names(findings.missing) }
    }
}

/// A node that has been asked and has not answered yet.
struct Runner {
    node: NodeIndex,
    peer: Arc<Peer>,
    conn: PooledConn,
    since: Instant,
    deadline: Instant,
    /// A fresh connection after one that had been cut while idle.
    again: bool,
}

struct Race<'r> {
    shared: &'r Shared,
    view: &'r View,
    haste: Haste,
    want: &'r Want,
    cmd: Cmd<'static>,
    within: Duration,
    runners: Vec<Runner>,
}

fn race(
    shared: &Shared,
    view: &View,
    order: &[NodeIndex],
    haste: Haste,
    want: &Want,
    out: &mut Out<'_>,
    findings: &mut Findings,
) -> bool {
    if order.is_empty() {
        return false;
    }
    let mut race = Race {
        shared,
        view,
        haste,
        want,
        cmd: want.cmd(shared),
        within: shared.config.reply_within(want.raw_len as usize),
        runners: Vec::new(),
    };
    race.run(order, out, findings)
}

impl Race<'_> {
    fn run(&mut self, order: &[NodeIndex], out: &mut Out<'_>, findings: &mut Findings) -> bool {
        let mut next = 0;
        loop {
            while self.runners.is_empty() {
                let Some(node) = order.get(next) else { return false };
                next += 1;
                self.start(*node, false, findings);
            }
            let deadline =
                self.runners.iter().map(|r| r.deadline).min().unwrap_or_else(Instant::now);
            let hedge = self.hedge_at(order.get(next));
            let until = hedge.map_or(deadline, |hedge| hedge.min(deadline));
            let conns: Vec<&Conn> = self.runners.iter().map(|runner| &*runner.conn).collect();
            match wait_any(&conns, until) {
                Ok(Some(place)) => {
                    let mut runner = self.runners.swap_remove(place);
                    let reply = runner.conn.recv(runner.deadline);
                    if self.settle(runner, reply, out, findings) {
                        return true;
                    }
                }
                Ok(None) if until < deadline => {
                    self.shared.hedge.spend();
                    self.shared.counters.hedges.add(1);
                    self.start(order[next], false, findings);
                    next += 1;
                }
                Ok(None) => self.time_out(findings),
                Err(error) => {
                    for runner in self.runners.drain(..) {
                        findings.failed.push((runner.node, error.clone()));
                    }
                }
            }
        }
    }

    /// When the next node is to be asked although one is still running: only if it is worth it,
    /// and never more than two at a time.
    fn hedge_at(&self, next: Option<&NodeIndex>) -> Option<Instant> {
        let [runner] = &self.runners[..] else { return None };
        if self.view.condition(*next?) != Condition::Up {
            return None;
        }
        Some(runner.since + self.shared.hedge.after(self.want.len)?)
    }

    /// Asks a node; if that cannot even be sent, notes why.
    fn start(&mut self, node: NodeIndex, again: bool, findings: &mut Findings) {
        let Some(peer) = self.view.peer(node) else { return };
        if self.haste == Haste::Normal && self.view.placement.is_down(node) {
            let server = ServerName::new(peer.node.name.as_str());
            let cause = "the volume's record says that it is down".to_owned();
            return findings.failed.push((node, LinkError::Unavailable { server, cause }));
        }
        let since = Instant::now();
        let deadline = since + self.within;
        let sent = peer.connect(self.haste).and_then(|mut conn| {
            conn.send(&self.cmd, deadline)?;
            Ok(conn)
        });
        match sent {
            Ok(conn) => {
                let peer = Arc::clone(peer);
                self.runners.push(Runner { node, peer, conn, since, deadline, again });
            }
            Err(_) if !again && !peer.is_suspect() => self.start(node, true, findings),
            Err(error) => {
                findings.note(self.shared, self.view, self.want, node, Answer::Failed(error));
            }
        }
    }

    /// An answer, or the lack of one: true if it was the good copy.
    fn settle(
        &mut self,
        mut runner: Runner,
        reply: Result<Reply, LinkError>,
        out: &mut Out<'_>,
        findings: &mut Findings,
    ) -> bool {
        let answer = match reply {
            Ok(reply) => self.want.take(self.shared, reply, out),
            Err(error) if error.is_noscript() => {
                let retried =
                    runner.conn.load(&SEGMENTS).and_then(|()| runner.conn.call(&self.cmd));
                match retried {
                    Ok(reply) => self.want.take(self.shared, reply, out),
                    Err(error) => Answer::Failed(error),
                }
            }
            Err(LinkError::Lost { .. }) if !runner.again => {
                let node = runner.node;
                drop(runner);
                self.start(node, true, findings);
                return false;
            }
            Err(error) => Answer::Failed(error),
        };
        if !matches!(answer, Answer::Failed(_)) {
            let took = runner.since.elapsed();
            runner.peer.answered(took);
            self.shared.hedge.sample(took);
        }
        if matches!(answer, Answer::Good) {
            let overtaken = self.runners.iter().any(|other| other.since < runner.since);
            for other in &self.runners {
                if other.since < runner.since {
                    other.peer.overtaken();
                }
            }
            if overtaken {
                self.shared.counters.hedges_won.add(1);
                self.shared.mender.wake();
            }
            return true;
        }
        findings.note(self.shared, self.view, self.want, runner.node, answer);
        false
    }

    /// The deadline of at least one runner has passed.
    fn time_out(&mut self, findings: &mut Findings) {
        let now = Instant::now();
        let (late, still): (Vec<Runner>, Vec<Runner>) =
            self.runners.drain(..).partition(|runner| runner.deadline <= now);
        self.runners = still;
        for mut runner in late {
            // Lets the connection say so itself: it is broken then, and its pool is told.
            let error = match runner.conn.recv(runner.deadline) {
                Err(error) => error,
                Ok(_) => LinkError::TimedOut {
                    server: runner.conn.name().clone(),
                    after: runner.since.elapsed(),
                },
            };
            findings.note(self.shared, self.view, self.want, runner.node, Answer::Failed(error));
        }
    }
}
