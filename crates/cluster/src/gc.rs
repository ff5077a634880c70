//! Garbage collection: removes what nobody can reach any more.
//!
//! Garbage comes from clients that died in the middle: blocks written but never committed, blocks
//! whose file is gone but whose removal was not finished, files without a name that a dead session
//! had open.
//!
//! The order makes it safe beside writers:
//!
//! 1. *Which slices may be being written?* Asked first. Whatever is not committed at this moment is
//!    among them, or gets a number from beyond the last one handed out.
//! 2. *Which slices do files refer to?* Whatever was committed at the moment of 1 is among them, or
//!    has been removed since.
//! 3. *Which blocks are there?* A block in neither set can belong to no file, now or later: slice
//!    numbers are never given out twice.
//! 4. Before anything is deleted 2 is asked once more, and this time no copy may have shared a slice
//!    meanwhile: a file that is copied to where the scan has been, and then removed from where it has
//!    yet to come, would be missed.
//!
//! Interrupted anywhere, what was removed was garbage; the next run finds the rest.

use crate::error::ClusterError;
use crate::job::Job;
use crate::leftovers::{Alive, empty, remove_freed};
use crate::nodes::NODE_BATCH_MAX;
use crate::references::References;
use crate::subject::Subject;
use ringfs_base::{BlockId, InodeId};
use ringfs_meta::{Purge, Session, SessionInfo, SlicesInFlight};
use ringfs_store::NodeIndex;
use serde::Serialize;
use std::collections::HashSet;
use std::time::Duration;

/// Garbage of one node that is kept in mind at a time; more is dealt with in rounds.
const ROUND_BLOCKS_MAX: usize = 1 << 20;
/// Orphans asked for at a time.
const ORPHANS_BATCH: u32 = 256;
/// Orphans that a dry run counts at most.
const ORPHANS_COUNT_MAX: u32 = 1_000_000;
/// A round removes something, or it is the last; more rounds than this mean that blocks come back.
const ROUNDS_MAX: u32 = 100_000;

/// What a run is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GcOptions {
    /// Removes garbage; otherwise it is only counted.
    pub delete: bool,
    /// Gives up sessions that have sent no sign of life for so long before anything else, so that
    /// what they were writing counts as garbage. `None` leaves sessions alone.
    pub lease: Option<Duration>,
}

/// What a run found on one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NodeGarbage {
    /// The node.
    pub node: String,
    /// Blocks it has.
    pub blocks: u64,
    /// Blocks that no file refers to and nobody is writing.
    pub garbage_blocks: u64,
    /// Bytes of these as they are stored.
    pub garbage_bytes: u64,
    /// Blocks that no file refers to, but that somebody may be writing.
    pub in_flight_blocks: u64,
    /// Blocks removed.
    pub removed_blocks: u64,
    /// Blocks in use that it has and does not own. They are left alone: whether the owners have
    /// them must be asked first.
    pub surplus_blocks: u64,
    /// Why it could not be looked at to the end, if so.
    pub failed: Option<String>,
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GcReport {
    /// Whether garbage was removed or only counted.
    pub delete: bool,
    /// Sessions given up.
    pub sessions_reaped: u64,
    /// Files without a name that nobody has open: removed, or (only counted) all that have no name.
    pub orphans: u64,
    /// Files without a name that somebody has open, or may have.
    pub orphans_held: u64,
    /// Node by node.
    pub nodes: Vec<NodeGarbage>,
}

impl GcReport {
    /// Garbage blocks on all nodes, each copy for itself.
    pub fn garbage_blocks(&self) -> u64 {
        self.nodes.iter().map(|node| node.garbage_blocks).sum()
    }

    /// Stored bytes of these.
    pub fn garbage_bytes(&self) -> u64 {
        self.nodes.iter().map(|node| node.garbage_bytes).sum()
    }

    /// Copies on nodes that do not own them, on all nodes.
    pub fn surplus_blocks(&self) -> u64 {
        self.nodes.iter().map(|node| node.surplus_blocks).sum()
    }

    /// Blocks removed from all nodes.
    pub fn removed_blocks(&self) -> u64 {
        self.nodes.iter().map(|node| node.removed_blocks).sum()
    }
}

/// Finds garbage, and removes it if `options` say so.
///
/// # Errors
/// [`ClusterError::Unsure`] if extents cannot be read; then no block was removed. A node that
/// cannot be reached is told in the report.
pub fn gc(subject: &Subject, options: &GcOptions, job: &Job) -> Result<GcReport, ClusterError> {
    let mut report = GcReport { delete: options.delete, ..GcReport::default() };
    if options.delete {
        if let Some(lease) = options.lease {
            report.sessions_reaped = reap(subject, lease, job)?;
        }
        purge_orphans(subject, job, &mut report)?;
    } else {
        report.orphans = subject.volume.orphans(ORPHANS_COUNT_MAX)?.len() as u64;
    }
    let in_flight = subject.volume.slices_in_flight()?;
    let references = References::read(&subject.volume, job)?;
    for node in subject.node_indices() {
        let mut found = NodeGarbage { node: subject.node_name(node), ..NodeGarbage::default() };
        match collect(subject, options, job, node, &in_flight, &references, &mut found) {
            Ok(()) => {}
            Err(ClusterError::Node { cause, .. }) => found.failed = Some(cause),
            Err(e) => return Err(e),
        }
        report.nodes.push(found);
    }
    Ok(report)
}

fn reap(subject: &Subject, lease: Duration, job: &Job) -> Result<u64, ClusterError> {
    job.begin("giving up dead sessions", 0)?;
    let mut reaped = 0;
    loop {
        let gone = subject.volume.reap(lease)?.len() as u64;
        reaped += gone;
        job.advance(gone)?;
        if gone == 0 {
            return Ok(reaped);
        }
    }
}

/// Removes files without a name that nobody has open any more, by a session of our own.
fn purge_orphans(subject: &Subject, job: &Job, report: &mut GcReport) -> Result<(), ClusterError> {
    job.begin("removing files without a name", 0)?;
    if subject.volume.orphans(1)?.is_empty() {
        return Ok(());
    }
    let info = SessionInfo { host: host_name(), pid: std::process::id(), place: "gc".into() };
    let session = subject.volume.start_session(&info)?;
    let purged = purge_all(subject, &session, job);
    // Also when that failed: the session holds nothing, so its end is a courtesy, and whoever
    // reaps it later does the same.
    let ended = session.end();
    report.orphans = purged?;
    ended?;
    report.orphans_held = subject.volume.orphans(ORPHANS_COUNT_MAX)?.len() as u64;
    Ok(())
}

fn purge_all(subject: &Subject, session: &Session, job: &Job) -> Result<u64, ClusterError> {
    let mut purged = 0;
    let mut refused: HashSet<InodeId> = HashSet::new();
    let mut alive = Alive::new(session);
    loop {
        let orphans = session.purgeable(ORPHANS_BATCH)?;
        let mut progress = false;
        for ino in orphans {
            if refused.contains(&ino) {
                continue;
            }
            alive.beat()?;
            let purge = match session.purge(ino)? {
                Purge::Populated => {
                    empty(subject, &mut alive, ino, job)?;
                    session.purge(ino)?
                }
                purge => purge,
            };
            match purge {
                Purge::Done(freed) => {
                    remove_freed(subject, &freed, job)?;
                    purged += 1;
                    progress = true;
                }
                Purge::Gone => progress = true,
                // Somebody is filling it again, which nobody should.
                Purge::Held | Purge::Populated => {
                    refused.insert(ino);
                }
            }
            job.advance(1)?;
        }
        if !progress {
            return Ok(purged);
        }
    }
}

fn collect(
    subject: &Subject,
    options: &GcOptions,
    job: &Job,
    node: NodeIndex,
    in_flight: &SlicesInFlight,
    references: &References,
    found: &mut NodeGarbage,
) -> Result<(), ClusterError> {
    for round in 0..ROUNDS_MAX {
        let listing = list_garbage(subject, job, node, in_flight, references)?;
        if round == 0 {
            found.blocks = listing.blocks;
            found.in_flight_blocks = listing.in_flight;
            found.surplus_blocks = listing.surplus;
        }
        let mut garbage: Vec<BlockId> = listing.garbage.into_iter().collect();
        garbage.sort_unstable();
        if garbage.is_empty() {
            return Ok(());
        }
        if options.delete {
            let again = References::settled(&subject.volume, job)?;
            garbage.retain(|block| !again.has(*block));
        }
        let removed_before = found.removed_blocks;
        remove_garbage(subject, options, job, node, &garbage, found)?;
        let stuck = found.removed_blocks == removed_before;
        if listing.complete || !options.delete || stuck {
            return Ok(());
        }
    }
    Ok(())
}

/// What one pass over a node's blocks found.
struct Listing {
    blocks: u64,
    in_flight: u64,
    surplus: u64,
    garbage: HashSet<BlockId>,
    /// False if it ended because it found as much as fits into one round.
    complete: bool,
}

fn list_garbage(
    subject: &Subject,
    job: &Job,
    node: NodeIndex,
    in_flight: &SlicesInFlight,
    references: &References,
) -> Result<Listing, ClusterError> {
    job.begin("listing blocks", 0)?;
    let link = &subject.nodes[node.0];
    let mut listing =
        Listing { blocks: 0, in_flight: 0, surplus: 0, garbage: HashSet::new(), complete: true };
    let mut cursor = 0;
    loop {
        let (next, blocks) = subject.store.list(node, cursor).map_err(|e| link.failed(&e))?;
        listing.blocks += blocks.len() as u64;
        job.advance(blocks.len() as u64)?;
        for block in blocks {
            if references.has(block) {
                let owned = subject.placement.owners(block).contains(&node);
                listing.surplus += u64::from(!owned);
                continue;
            }
            if in_flight.may_be_written(block.slice) {
                listing.in_flight += 1;
            } else {
                listing.garbage.insert(block);
            }
        }
        if next == 0 {
            return Ok(listing);
        }
        if listing.garbage.len() >= ROUND_BLOCKS_MAX {
            listing.complete = false;
            return Ok(listing);
        }
        cursor = next;
    }
}

fn remove_garbage(
    subject: &Subject,
    options: &GcOptions,
    job: &Job,
    node: NodeIndex,
    garbage: &[BlockId],
    found: &mut NodeGarbage,
) -> Result<(), ClusterError> {
    let what = if options.delete { "removing garbage" } else { "measuring garbage" };
    job.begin(what, garbage.len() as u64)?;
    let link = &subject.nodes[node.0];
    for blocks in garbage.chunks(NODE_BATCH_MAX) {
        let bytes = link.sizes(blocks)?.iter().sum();
        job.spend(bytes)?;
        found.garbage_blocks += blocks.len() as u64;
        found.garbage_bytes += bytes;
        if options.delete {
            found.removed_blocks += link.remove(blocks)?;
        }
        job.advance(blocks.len() as u64)?;
    }
    Ok(())
}

pub(crate) fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}
