//! The invariant scanner: is everything that a volume holds as it must be?
//!
//! It judges the metadata first ([`census`] gathers, [`tree`] and [`records`] judge), then, if
//! asked, the data ([`data`]). It never changes anything, and it works beside live mounts: a first
//! look at something that changes under it can mislead, so if anything looks wrong everything is
//! looked at again, and only what all passes found alike is reported.

mod acls;
mod census;
mod data;
mod finding;
mod locks;
mod paths;
mod quotas;
mod records;
mod recount;
mod ring;
mod sharing;
mod tree;
mod usage;

pub use finding::{Finding, Part, Severity};
pub use usage::{UsageRepaired, repair_usage};

use crate::error::ClusterError;
use crate::job::Job;
use crate::subject::Subject;
use census::Census;
use data::{DataCheck, Looked};
use paths::Paths;
use records::Records;
use ringfs_meta::FileKind;
use ringfs_store::Depth;
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};

/// How much is checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Checks {
    /// The metadata.
    #[default]
    Metadata,
    /// And that every block is on its owners, by its header.
    Data,
    /// And that every byte of every copy is good.
    Deep,
}

/// Findings that are reported with path and text; more are only counted.
pub const REPORTED_MAX: usize = 1000;

/// How often everything is looked at while something looks wrong; twice if nobody is at work.
const PASSES_MAX: u32 = 3;

/// One finding, ready to be shown.
#[derive(Clone, Debug, Serialize)]
pub struct Reported {
    /// How bad it is.
    pub severity: Severity,
    /// Its name for programs, such as `missing-copies`.
    pub kind: &'static str,
    /// The path of the file or directory concerned, if there is one.
    pub path: Option<String>,
    /// What is wrong and what to do, in one line.
    pub text: String,
    /// The details.
    #[serde(skip)]
    pub finding: Finding,
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Inodes, orphans included.
    pub inodes: u64,
    /// Directories among them.
    pub directories: u64,
    /// Names.
    pub names: u64,
    /// Bytes of files by their sizes.
    pub bytes: u64,
    /// Slices.
    pub slices: u64,
    /// Blocks looked at.
    pub blocks: u64,
    /// Copies looked at.
    pub copies: u64,
    /// Inodes without a name that are kept for who has them open.
    pub orphans: u64,
    /// Sessions at work; with some, counters may be in flux. Agents are not among them.
    pub sessions: u64,
    /// Agents, which only watch and tidy up.
    pub agents: u64,
    /// Blocks are being moved to other nodes: what is missing there is on its way, and found where it
    /// was.
    pub moving: bool,
    /// Nodes that are recorded as down: what was written for them since is on others meanwhile.
    pub nodes_down: u64,
}

/// The result of a check.
#[derive(Clone, Debug, Serialize)]
pub struct FsckReport {
    /// What was looked at.
    pub summary: Summary,
    /// What is wrong, the worst first; at most [`REPORTED_MAX`].
    pub findings: Vec<Reported>,
    /// How many findings there are of each kind.
    pub counts: BTreeMap<&'static str, u64>,
    /// Findings that `findings` leaves out.
    pub left_out: u64,
}

impl FsckReport {
    /// Nothing is wrong, lost or less safe than it should be, nor is there garbage.
    pub fn is_clean(&self) -> bool {
        self.worst().is_none_or(|worst| worst == Severity::Note)
    }

    /// The worst there is.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|reported| reported.severity).min()
    }
}

/// Checks a volume.
///
/// # Errors
/// When the metadata cannot be read, or the job was stopped. A node that cannot be reached is a
/// finding, and no error.
pub fn fsck(subject: &Subject, checks: Checks, job: &Job) -> Result<FsckReport, ClusterError> {
    // Before the census: what is being written now is no garbage later.
    let in_flight = match checks {
        Checks::Metadata => Default::default(),
        Checks::Data | Checks::Deep => subject.volume.slices_in_flight()?,
    };
    let (mut census, mut records) = look(subject, job)?;
    let mut passes = 1;
    while passes < PASSES_MAX && has_doubtful(&census) {
        // Nobody may be at work now and somebody may have been a moment ago.
        let quiet = records.sessions + records.agents == 0 && passes > 1;
        if quiet {
            break;
        }
        let (again, now) = look(subject, job)?;
        confirm(subject, &mut census, again)?;
        records = now;
        passes += 1;
    }
    let looked = match checks {
        Checks::Metadata => Looked::default(),
        Checks::Data | Checks::Deep => {
            let depth = if checks == Checks::Deep { Depth::Contents } else { Depth::Header };
            DataCheck { subject, job, depth, in_flight: &in_flight }.run(&mut census)?
        }
    };
    report(subject, census, records, looked)
}

fn look(subject: &Subject, job: &Job) -> Result<(Census, Records), ClusterError> {
    job.forget_problems();
    let mut census = Census::take(&subject.shards, job)?;
    tree::judge(&mut census, job);
    acls::check(&subject.shards, &mut census, job)?;
    let records = records::check(&subject.shards, &mut census, job)?;
    Ok((census, records))
}

/// Usage is in flux while sessions write, and another pass would not help.
fn has_doubtful(census: &Census) -> bool {
    let in_flux = |finding: &Finding| {
        matches!(
            finding,
            Finding::WrongUsage { in_flux: true, .. }
                | Finding::WrongQuota { in_flux: true, .. }
                | Finding::StaleTreeMarks { in_flux: true, .. }
        )
    };
    census.findings.iter().any(|finding| !in_flux(finding))
}

/// Keeps the findings that the next pass has too, and takes the rest from that pass.
fn confirm(subject: &Subject, census: &mut Census, again: Census) -> Result<(), ClusterError> {
    let first: HashSet<Finding> = std::mem::take(&mut census.findings).into_iter().collect();
    let more = again.more_findings.min(census.more_findings);
    *census = again;
    census.more_findings = more;
    for finding in std::mem::take(&mut census.findings) {
        // Usage differs from one moment to the next while sessions write.
        let counter = matches!(
            finding,
            Finding::WrongUsage { .. }
                | Finding::WrongQuota { .. }
                | Finding::StaleTreeMarks { .. }
        );
        let again = first.contains(&finding) || counter;
        if again && recount::holds(&subject.shards, &finding)? {
            census.findings.push(finding);
        }
    }
    Ok(())
}

fn report(
    subject: &Subject,
    mut census: Census,
    records: Records,
    looked: Looked,
) -> Result<FsckReport, ClusterError> {
    let files = census.inodes.values().filter(|facts| facts.kind == FileKind::File);
    let directories = census.inodes.values().filter(|f| f.kind == FileKind::Directory).count();
    let summary = Summary {
        inodes: census.inodes.len() as u64,
        directories: directories as u64,
        names: census.names,
        bytes: files.fold(0, |sum, facts| sum.saturating_add(facts.size)),
        slices: census.slices.len() as u64,
        blocks: looked.blocks,
        copies: looked.copies,
        orphans: records.orphans,
        sessions: records.sessions,
        agents: records.agents,
        moving: census.moving,
        nodes_down: subject.node_indices().filter(|n| subject.placement.is_down(*n)).count() as u64,
    };
    let mut findings = std::mem::take(&mut census.findings);
    // Stable: within a severity they stay in the order in which they were found.
    findings.sort_by_key(Finding::severity);
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    for finding in &findings {
        *counts.entry(finding.kind()).or_default() += 1;
    }
    let left_out = findings.len().saturating_sub(REPORTED_MAX) as u64 + census.more_findings;
    findings.truncate(REPORTED_MAX);
    let mut paths = Paths::new(&subject.shards, &census);
    let mut reported = Vec::with_capacity(findings.len());
    for finding in findings {
        let path = match finding.place() {
            Some((dir, Some(name))) => Some(paths.of_name(dir, name)?),
            Some((ino, None)) => Some(paths.of(ino)?),
            None => None,
        };
        reported.push(Reported {
            severity: finding.severity(),
            kind: finding.kind(),
            text: finding.text(path.as_deref().unwrap_or_default()),
            path,
            finding,
        });
    }
    Ok(FsckReport { summary, findings: reported, counts, left_out })
}
