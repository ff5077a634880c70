//! Moving blocks to where the ring's table has them: the worker `move`.
//!
//! There is something to do when the ring has a new table, whose [`MoveRecord`] says what was asked
//! for and how far it is, or when a node came back ([`refill`]). Both are the same work ([`pass`]) on
//! different blocks ([`scope`]): bring good copies to the owners that lack them, the most endangered
//! blocks first.
//!
//! A move ends in this order:
//!
//! 1. every owner has a good copy of every block that gets another owner; new copies were read back;
//! 2. nothing can be committed any more that was written under a table before (the floor is raised);
//! 3. whatever had been committed until then is looked for, and brought as well; all headers are
//!    looked at once more;
//! 4. nodes that leave are looked through for blocks that are nowhere else;
//! 5. the tables before are forgotten, and the nodes that leave;
//! 6. copies on nodes that do not own them are removed ([`surplus`]), each after its block's owners
//!    have been asked again.
//!
//! Nothing is removed before 6, so at every moment there are as many good copies of a block as there
//! were, or one on each owner. Killed anywhere, the work goes on in whatever process coordinates
//! next, from what is recorded; see `docs/decisions/0011-moving-blocks.md`.

mod pass;
mod record;
mod refill;
mod scope;
mod surplus;

pub use record::MoveRecord;
pub(crate) use refill::due as nodes_to_refill;

use crate::error::ClusterError;
use crate::job::Job;
use crate::membership::Ring;
use crate::references::References;
use crate::repair::{Pass, Position};
use crate::subject::{Subject, blocks_of};
use crate::workers::{Site, Worker};
use parking_lot::Mutex;
use pass::{Note, Passes, Reading, Tally};
use ringfs_base::{BlockId, NodeName};
use ringfs_meta::{MetaError, NodeRecord, Volume};
use ringfs_store::{NodeIndex, Store};
use scope::Scope;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The worker's name.
pub const WORKER: &str = "move";
/// Most bytes a second that are copied while nobody has wished otherwise.
pub const LIMIT: u64 = 64 << 20;

/// How often it is looked whether there is something to do.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often the ring is read anew although nobody said that it has changed.
const READ_EVERY: Duration = Duration::from_secs(5);
/// After this long what could not be done is tried again, at the earliest.
const RETRY: Duration = Duration::from_secs(5);
/// And at the latest.
pub const RETRY_MAX: Duration = Duration::from_secs(300);
/// Nodes are given at least so much time for an answer: nobody waits for us.
const REPLY_MIN: Duration = Duration::from_secs(2);
/// Surplus copies that could not be removed are tried again after this long.
const SURPLUS_RETRY: Duration = Duration::from_secs(60);
/// Blocks looked at together on a node that leaves, or came back.
const HELD_BATCH: usize = 256;

/// Names of nodes, in JSON, that leave although nobody else may have some of their blocks.
const ABANDON: &str = "move.abandon";
/// The worker's record that surplus copies are to be removed.
const SURPLUS: &str = "move.surplus";

/// Lets a move end although blocks may be lost with these nodes, which are gone for good.
pub fn abandon(volume: &Volume, nodes: &[String]) -> Result<(), MetaError> {
    let text = serde_json::to_string(nodes).expect("names can be written");
    volume.set_worker(ABANDON, Some(&text))
}

/// The worker that moves blocks.
#[derive(Default)]
pub struct Mover {
    looked: Mutex<Looked>,
}

/// Nodes have copies that they do not own: the mover shall remove them once the owners have theirs.
pub(crate) fn remove_surplus_soon(volume: &Volume) -> Result<(), MetaError> {
    volume.set_worker(SURPLUS, Some("{}"))
}

/// What it knows between two looks.
#[derive(Default)]
struct Looked {
    /// When the ring was last read.
    read: Option<Instant>,
    /// The ring's version then.
    version: u64,
    /// Before this surplus copies are not tried again.
    surplus_not_before: Option<Instant>,
}

impl Worker for Mover {
    fn name(&self) -> &'static str {
        WORKER
    }

    fn default_limit(&self) -> u64 {
        LIMIT
    }

    fn run(&self, site: &Site, job: &Job) -> Result<Duration, ClusterError> {
        match self.look(site, job) {
            // Somebody put another table in force: begin again with that one.
            Err(
                ClusterError::Meta(MetaError::RingConflict { .. })
                | ClusterError::RingChanged { .. },
            ) => {
                self.looked.lock().read = None;
                Ok(Duration::ZERO)
            }
            other => other,
        }
    }
}

impl Mover {
    fn look(&self, site: &Site, job: &Job) -> Result<Duration, ClusterError> {
        let volume = site.membership.volume();
        let ring = self.ring(site)?;
        let due = refill::due(volume, &ring)?;
        let moving = ring.state.moving.as_deref().map(MoveRecord::decode);
        if moving.is_none() && due.is_empty() && !self.surplus_is_due(site)? {
            return Ok(LOOK_EVERY);
        }
        let begun = Instant::now();
        // What is recorded may be newer than what a notice has told.
        let ring = site.membership.refresh()?;
        let moving = ring.state.moving.as_deref().map(MoveRecord::decode);
        let run = Run { site, job, subject: subject_at(site, &ring)?, ring };
        let mut whole = due.is_empty() || run.refill(&due, moving.is_some())?;
        if let Some(record) = moving {
            match run.bring(record)? {
                None => whole = false,
                Some(moved) => return self.finish(site, job, Some(moved)),
            }
        }
        if run.ring.state.moving.is_none() && self.surplus_is_due(site)? {
            return self.finish(site, job, None);
        }
        if whole {
            return Ok(Duration::ZERO);
        }
        job.begin("waiting for nodes", 0)?;
        Ok(begun.elapsed().saturating_mul(2).clamp(RETRY, RETRY_MAX))
    }

    /// The ring, read from the metadata server now and then.
    fn ring(&self, site: &Site) -> Result<Arc<Ring>, ClusterError> {
        let known = site.membership.ring();
        let mut looked = self.looked.lock();
        let fresh = looked.read.is_some_and(|read| read.elapsed() < READ_EVERY);
        if fresh && looked.version == known.state.version {
            return Ok(known);
        }
        let ring = site.membership.refresh()?;
        (looked.read, looked.version) = (Some(Instant::now()), ring.state.version);
        Ok(ring)
    }

    fn surplus_is_due(&self, site: &Site) -> Result<bool, ClusterError> {
        let later = self.looked.lock().surplus_not_before;
        if later.is_some_and(|at| Instant::now() < at) {
            return Ok(false);
        }
        Ok(site.membership.volume().workers()?.contains_key(SURPLUS))
    }

    /// Removes surplus copies, at the ring as it is after the move.
    fn finish(
        &self,
        site: &Site,
        job: &Job,
        moved: Option<Moved>,
    ) -> Result<Duration, ClusterError> {
        let volume = site.membership.volume();
        let ring = site.membership.refresh()?;
        if ring.state.moving.is_some() {
            return Ok(Duration::ZERO);
        }
        let subject = subject_at(site, &ring)?;
        let references = References::read(volume, job)?;
        let verified = |block: BlockId| moved.as_ref().is_some_and(|moved| moved.has_read(block));
        let outcome = surplus::remove_surplus(&subject, job, &references, &verified)?;
        tracing::info!(?outcome, "surplus copies");
        if outcome.kept + outcome.skipped == 0 {
            volume.set_worker(SURPLUS, None)?;
            self.looked.lock().surplus_not_before = None;
        } else {
            self.looked.lock().surplus_not_before = Some(Instant::now() + SURPLUS_RETRY);
        }
        Ok(LOOK_EVERY)
    }
}

/// The volume at one ring, with a store of its own: the one that everybody shares may be given other
/// nodes at any moment, which would then have other numbers.
fn subject_at(site: &Site, ring: &Ring) -> Result<Subject, ClusterError> {
    let membership = &site.membership;
    let mut config = membership.store().config().clone();
    config.timeouts.reply = config.timeouts.reply.max(REPLY_MIN);
    let record = membership.volume().config();
    let nodes = membership.nodes(ring)?;
    let placement = Arc::new(ring.placement());
    let store =
        Arc::new(Store::new(&record.name, record.uuid, nodes.clone(), placement.clone(), config));
    let volume = membership.volume().clone();
    Ok(Subject::new(volume, &site.meta, site.timeouts, store, &nodes, placement))
}

/// A move that has ended, for the removal of what is too much.
struct Moved {
    scope: Scope,
    looked_at: References,
    doubtful: BTreeSet<BlockId>,
}

impl Moved {
    /// Whether the copies on owners that are new to the block were read back.
    fn has_read(&self, block: BlockId) -> bool {
        self.scope.has(block) && self.looked_at.has(block) && !self.doubtful.contains(&block)
    }
}

/// One look at one ring.
struct Run<'a> {
    site: &'a Site,
    job: &'a Job,
    subject: Subject,
    ring: Arc<Ring>,
}

impl Run<'_> {
    /// Brings all blocks to where the table has them and ends the move; `None` if something has to
    /// be waited for.
    fn bring(&self, record: MoveRecord) -> Result<Option<Moved>, ClusterError> {
        let (volume, job) = (&self.subject.volume, self.job);
        let (token, epoch) = (self.site.token, self.ring.epoch());
        let scope = Scope::of_move(&self.ring, record.whole);
        let references = References::settled(volume, job)?;
        let record = Mutex::new(record);
        let base = record.lock().clone();
        let note = |position: Position, tally: &Tally| -> Result<(), ClusterError> {
            let mut record = record.lock();
            record.position = Some(position);
            record.copies = base.copies + tally.copies;
            record.bytes = base.bytes + tally.bytes;
            record.waiting = self.names(tally);
            Ok(volume.note_move(token, epoch, &record.encode())?)
        };
        let note: Note<'_> = &note;
        let passes = Passes::new(&self.subject, job, &scope, &references, Some(note));
        match base.verified {
            false => passes.both(base.position, Reading::New)?,
            // All has been looked at, and something had to be waited for.
            true => passes.both(None, Reading::NewOn(&self.numbers(&base.unread)))?,
        }
        let tally = passes.tally.lock().clone();
        {
            let mut record = record.lock();
            record.verified = true;
            record.unread = self.names_of(tally.unreachable.keys());
            record.closing = tally.is_complete();
        }
        note(Position { pass: Pass::Degraded, slice: u64::MAX }, &tally)?;
        if !tally.is_complete() {
            return Ok(None);
        }
        volume.raise_floor(token, epoch)?;

        let again = References::settled(volume, job)?;
        // Their copies may have been made after those who removed them had looked.
        self.forget_removed(&scope, &references, &again);
        let second = Passes::new(&self.subject, job, &scope, &again, None);
        second.run(Pass::Degraded, 0, Reading::NewUnless(&references))?;
        self.look_through(&base.leaving, &again, &second)?;
        let more = second.tally.lock().clone();
        let total = Tally {
            copies: tally.copies + more.copies,
            bytes: tally.bytes + more.bytes,
            ..more.clone()
        };
        let stuck = more.out_of_reach > 0 && !self.may_abandon(&base.leaving)?;
        if !more.is_complete() || stuck {
            record.lock().closing = false;
            record.lock().out_of_reach = more.out_of_reach;
            note(Position { pass: Pass::Degraded, slice: u64::MAX }, &total)?;
            return Ok(None);
        }
        let lost: BTreeSet<BlockId> =
            more.lost.iter().copied().filter(|block| again.has(*block)).collect();
        if !lost.is_empty() {
            let some: Vec<String> = lost.iter().take(10).map(BlockId::to_string).collect();
            tracing::error!(blocks = lost.len(), some = ?some, "no good copy is left");
            job.problems(lost.len() as u64);
        }
        remove_surplus_soon(volume)?;
        let stay = |node: &&NodeRecord| !base.leaving.iter().any(|left| left == node.name.as_str());
        let nodes: Vec<NodeRecord> = self.ring.state.nodes.iter().filter(stay).cloned().collect();
        let leaves = nodes.len() < self.ring.state.nodes.len();
        volume.end_move(token, epoch, leaves.then_some(&nodes[..]))?;
        volume.set_worker(ABANDON, None)?;
        tracing::info!(what = base.describe(), copies = total.copies, bytes = total.bytes, "moved");
        let doubtful = tally.lost.into_iter().chain(more.lost).collect();
        Ok(Some(Moved { scope, looked_at: again, doubtful }))
    }

    /// Gives nodes that came back what they should hold, and the others what only these hold; whether
    /// all of it could be done. What is `moving` anyway is left to the move.
    fn refill(&self, due: &BTreeMap<NodeName, u64>, moving: bool) -> Result<bool, ClusterError> {
        let (volume, job) = (&self.subject.volume, self.job);
        let references = References::settled(volume, job)?;
        let scope = Scope::of_nodes(&self.ring, &due.keys().cloned().collect());
        let passes = Passes::new(&self.subject, job, &scope, &references, None);
        passes.both(None, Reading::Headers)?;
        let tally = passes.tally.lock().clone();
        let failed = |name: &NodeName| {
            let missing = tally.unreachable.keys().chain(tally.refused.keys());
            missing.into_iter().any(|node| self.subject.node_name(*node) == name.as_str())
        };
        let mut done: BTreeMap<NodeName, u64> =
            due.iter().filter(|(name, _)| !failed(name)).map(|(n, i)| (n.clone(), *i)).collect();
        // A block that was written while its owners were away may be on this node alone.
        let moved = moving.then(|| {
            let whole = self.ring.state.moving.as_deref().map(MoveRecord::decode);
            Scope::of_move(&self.ring, whole.is_some_and(|record| record.whole))
        });
        let mut unread = Vec::new();
        for name in done.keys() {
            if self.held(name.as_str(), &references, moved.as_ref(), &passes)?.is_none() {
                unread.push(name.clone());
            }
        }
        done.retain(|name, _| !unread.contains(name));
        let lost: Vec<BlockId> =
            tally.lost.iter().copied().filter(|block| references.has(*block)).collect();
        if !lost.is_empty() {
            tracing::warn!(blocks = lost.len(), "no good copy of some blocks was found");
            job.problems(lost.len() as u64);
        }
        if !done.is_empty() {
            tracing::info!(nodes = ?done.keys(), copies = passes.tally.lock().copies, "refilled");
            // Stand-ins have what they took for these.
            remove_surplus_soon(volume)?;
            refill::note(volume, &self.ring, &done)?;
        }
        Ok(done.len() == due.len())
    }

    /// Before nodes leave: blocks that they have and that an owner lacks.
    fn look_through(
        &self,
        leaving: &[String],
        references: &References,
        passes: &Passes<'_>,
    ) -> Result<(), ClusterError> {
        for name in leaving {
            // One that is dead takes with it what is nowhere else; blocks that nobody else has are
            // out of reach, and waited for.
            self.held(name, references, None, passes)?;
        }
        Ok(())
    }

    /// Looks at all blocks that a node holds; `None` if it cannot be listed to the end.
    fn held(
        &self,
        name: &str,
        references: &References,
        except: Option<&Scope>,
        passes: &Passes<'_>,
    ) -> Result<Option<()>, ClusterError> {
        let nodes = &self.subject.nodes;
        let Some(index) = nodes.iter().position(|link| link.node.name.as_str() == name) else {
            return Ok(Some(()));
        };
        self.job.begin("looking through a node", 0)?;
        let mut cursor = 0;
        loop {
            let (next, mut blocks) = match self.subject.store.list(NodeIndex(index), cursor) {
                Ok(step) => step,
                Err(error) => {
                    tracing::info!(node = name, %error, "it cannot be looked through");
                    return Ok(None);
                }
            };
            let listed = blocks.len() as u64;
            blocks.retain(|block| {
                references.has(*block)
                    && !except.is_some_and(|scope| scope.has(*block))
                    && !self.subject.placement.owners(*block).contains(&NodeIndex(index))
            });
            blocks.sort_unstable();
            blocks.dedup();
            for batch in blocks.chunks(HELD_BATCH) {
                passes.place(Pass::Degraded, batch, Some(NodeIndex(index)), Reading::Headers)?;
            }
            self.job.advance(listed)?;
            if next == 0 {
                return Ok(Some(()));
            }
            cursor = next;
        }
    }

    /// Removes all copies of blocks whose files were removed while they were moved.
    fn forget_removed(&self, scope: &Scope, before: &References, now: &References) {
        for (slice, count) in before.sorted() {
            let gone: Vec<BlockId> = blocks_of(slice, count)
                .filter(|block| scope.has(*block) && !now.has(*block))
                .collect();
            if !gone.is_empty() {
                self.subject.store.remove(&gone);
            }
        }
    }

    /// Whether blocks may be given up that can only be on nodes out of reach. While these stay in the
    /// list what they have is used when they return, so nothing is given up.
    fn may_abandon(&self, leaving: &[String]) -> Result<bool, ClusterError> {
        if leaving.is_empty() {
            return Ok(true);
        }
        let records = self.subject.volume.workers()?;
        let given_up: Vec<String> = records
            .get(ABANDON)
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default();
        Ok(leaving.iter().all(|name| given_up.contains(name)))
    }

    /// The nodes that are waited for.
    fn names(&self, tally: &Tally) -> Vec<String> {
        let nodes: BTreeSet<&NodeIndex> =
            tally.unreachable.keys().chain(tally.refused.keys()).collect();
        self.names_of(nodes)
    }

    fn names_of<'b>(&self, nodes: impl IntoIterator<Item = &'b NodeIndex>) -> Vec<String> {
        nodes.into_iter().map(|node| self.subject.node_name(*node)).collect()
    }

    fn numbers(&self, names: &[String]) -> BTreeSet<NodeIndex> {
        let named = |node: &NodeIndex| names.contains(&self.subject.node_name(*node));
        self.subject.node_indices().filter(named).collect()
    }
}
