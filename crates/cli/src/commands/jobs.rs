//! `ringfs fsck`, `gc` and `repair`: long jobs on a whole volume, with a line that says how far they
//! are, and a stop on Ctrl-C.

use crate::failure::Failure;
use crate::output::{Surroundings, print, print_json};
use crate::quantity::{bytes, count, parse_bytes, parse_duration};
use crate::table::TextTable;
use crate::target::Target;
use clap::Args;
use ringfs_cluster::{
    Checks, FsckReport, GcOptions, GcReport, Job, Progress, RepairOptions, RepairReport, Subject,
};
use serde::Serialize;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two updates of the progress line.
const PROGRESS_PAUSE: Duration = Duration::from_millis(100);

/// Check a volume; exit code 3 if something is wrong; changes nothing
///
/// Checks names, inodes, counters and extents, and that every block is on all its nodes.
///
/// Example:
///   ringfs fsck redis://meta:6379/demo
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct FsckArguments {
    /// The volume's URL, or a path where it is mounted.
    volume: String,
    /// Check the metadata only; no node is asked.
    #[arg(long, conflicts_with_all = ["data", "deep"])]
    metadata: bool,
    /// Check that every block is on all its nodes, which is the default.
    #[arg(long)]
    data: bool,
    /// Check every byte of every copy too.
    #[arg(long)]
    deep: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Find blocks that no file refers to any more, and remove them
///
/// Example:
///   ringfs gc redis://meta:6379/demo            # only counts
///   ringfs gc redis://meta:6379/demo --delete
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct GcArguments {
    /// The volume's URL, or a path where it is mounted.
    volume: String,
    /// Remove what is found; without it everything is only counted.
    #[arg(long, conflicts_with = "dry_run")]
    delete: bool,
    /// Only count, which is the default.
    #[arg(long)]
    dry_run: bool,
    /// Give up mounts that have sent no sign of life for so long first, so that what they were
    /// writing is garbage too. Needs --delete.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "delete")]
    dead_after: Option<Duration>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Make every node hold good copies of its blocks again; exit code 3 if some cannot be mended
///
/// Example:
///   ringfs repair redis://meta:6379/demo
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct RepairArguments {
    /// The volume's URL, or a path where it is mounted.
    volume: String,
    /// Read and verify every byte of every copy, instead of headers.
    #[arg(long)]
    deep: bool,
    /// Blocks repaired at once.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    threads: u8,
    /// Most bytes moved in a second [default: no limit].
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    limit: Option<u64>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs `fsck`.
pub fn fsck(arguments: &FsckArguments, surroundings: &Surroundings) -> Result<(), Failure> {
    let subject = subject(&arguments.volume, surroundings)?;
    let checks = match (arguments.metadata, arguments.deep) {
        (_, true) => Checks::Deep,
        (true, false) => Checks::Metadata,
        (false, false) => Checks::Data,
    };
    let report = run(Job::new(), |job| ringfs_cluster::fsck(&subject, checks, job))?;
    show(arguments.json, &report, fsck_text)?;
    if report.is_clean() { Ok(()) } else { Err(Failure::problems()) }
}

/// Runs `gc`.
pub fn gc(arguments: &GcArguments, surroundings: &Surroundings) -> Result<(), Failure> {
    let subject = subject(&arguments.volume, surroundings)?;
    let options = GcOptions { delete: arguments.delete, lease: arguments.dead_after };
    let report = run(Job::new(), |job| ringfs_cluster::gc(&subject, &options, job))?;
    show(arguments.json, &report, gc_text)?;
    let failed = report.nodes.iter().any(|node| node.failed.is_some());
    if failed { Err(Failure::problems()) } else { Ok(()) }
}

/// Runs `repair`.
pub fn repair(arguments: &RepairArguments, surroundings: &Surroundings) -> Result<(), Failure> {
    let subject = subject(&arguments.volume, surroundings)?;
    let options = RepairOptions {
        deep: arguments.deep,
        threads: usize::from(arguments.threads),
        ..RepairOptions::default()
    };
    let job = Job::new().limit(arguments.limit.unwrap_or(0));
    let report = run(job, |job| ringfs_cluster::repair(&subject, &options, job))?;
    show(arguments.json, &report, repair_text)?;
    if report.is_whole() { Ok(()) } else { Err(Failure::problems()) }
}

fn subject(volume: &str, surroundings: &Surroundings) -> Result<Subject, Failure> {
    Target::open(volume, surroundings)?.open.subject(surroundings)
}

/// Runs a job; SIGINT and SIGTERM stop it between two steps.
pub fn run<T, E>(job: Job, work: impl FnOnce(&Job) -> Result<T, E>) -> Result<T, Failure>
where
    Failure: From<E>,
{
    let terminal = std::io::stderr().is_terminal();
    let job = Arc::new(if terminal { job.on_progress(progress_line()) } else { job });
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])
        .map_err(|e| Failure::io("receive signals", &e))?;
    let handle = signals.handle();
    let result = std::thread::scope(|scope| {
        let watched = job.clone();
        scope.spawn(move || {
            for _ in signals.forever() {
                watched.stop();
            }
        });
        let result = work(&job);
        handle.close();
        result
    });
    if terminal {
        write!(std::io::stderr(), "\r\x1b[K").ok();
    }
    Ok(result?)
}

fn progress_line() -> impl Fn(&Progress) + Send + Sync {
    let last = parking_lot::Mutex::new(None::<Instant>);
    move |progress| {
        let mut last = last.lock();
        if last.is_none_or(|at| at.elapsed() >= PROGRESS_PAUSE) {
            *last = Some(Instant::now());
            write!(std::io::stderr(), "\r\x1b[K{progress}").ok();
        }
    }
}

/// Prints a report as text or JSON.
pub fn show<T: Serialize>(
    json: bool,
    report: &T,
    text: impl Fn(&T) -> String,
) -> Result<(), Failure> {
    if json {
        let document = serde_json::to_value(report)
            .map_err(|e| Failure::plain(format!("cannot write JSON: {e}")))?;
        print_json(&document);
    } else {
        print(text(report));
    }
    Ok(())
}

fn fsck_text(report: &FsckReport) -> String {
    let s = &report.summary;
    let mut out = format!(
        "{} inodes ({} directories), {} names, {} in {} slices",
        count(s.inodes),
        count(s.directories),
        count(s.names),
        bytes(s.bytes),
        count(s.slices)
    );
    if s.blocks > 0 {
        out.push_str(&format!("; {} copies of {} blocks", count(s.copies), count(s.blocks)));
    }
    if s.sessions > 0 {
        out.push_str(&format!("; in use by {} sessions, so counters may be in flux", s.sessions));
    }
    out.push('\n');
    for found in &report.findings {
        let path = found.path.as_ref().map_or(String::new(), |path| format!("{path}: "));
        out.push_str(&format!("{}: {path}{}\n", found.severity.name(), found.text));
    }
    let scarce = ["missing-copies", "blocks-out-of-reach", "surplus-copies"]
        .iter()
        .any(|kind| report.counts.contains_key(kind));
    if scarce && s.moving {
        out.push_str(
            "Blocks are being moved, so copies may be missing where they belong and be where they \
             were; `ringfs status` shows how far it is.\n",
        );
    }
    if scarce && s.nodes_down > 0 {
        out.push_str(
            "Nodes are down: what is written meanwhile is on others in their place, and goes home \
             when they are back.\n",
        );
    }
    if report.left_out > 0 {
        out.push_str(&format!("... and {} more findings\n", count(report.left_out)));
    }
    if report.findings.is_empty() {
        out.push_str("The volume is sound.\n");
    }
    out
}

fn gc_text(report: &GcReport) -> String {
    let mut table = TextTable::new(&[
        "node",
        ">blocks",
        ">garbage",
        ">bytes",
        ">being written",
        ">removed",
        "",
    ]);
    for node in &report.nodes {
        table.row([
            node.node.clone(),
            count(node.blocks),
            count(node.garbage_blocks),
            bytes(node.garbage_bytes),
            count(node.in_flight_blocks),
            count(node.removed_blocks),
            node.failed.clone().unwrap_or_default(),
        ]);
    }
    let mut out = table.render();
    let (done, orphans) = match report.delete {
        true => ("removed", "removed"),
        false => ("found; add --delete to remove it", "waiting to be removed"),
    };
    out.push_str(&format!(
        "\n{} blocks ({}) of garbage {done}\n",
        count(report.garbage_blocks()),
        bytes(report.garbage_bytes()),
    ));
    if report.orphans > 0 {
        out.push_str(&format!("{} files without a name {orphans}\n", count(report.orphans)));
    }
    if report.orphans_held > 0 {
        out.push_str(&format!("{} files without a name are open\n", count(report.orphans_held)));
    }
    if report.sessions_reaped > 0 {
        out.push_str(&format!("{} dead mounts given up\n", report.sessions_reaped));
    }
    out
}

fn repair_text(report: &RepairReport) -> String {
    let mut out = format!(
        "{} blocks looked at, {} lacked a copy, {} copies written\n",
        count(report.blocks),
        count(report.degraded),
        count(report.copies_written)
    );
    for (value, text) in [
        (report.surplus_removed, "surplus copies removed"),
        (report.not_mended, "blocks still lack a copy: is a node full?"),
        (report.owners_unreachable, "copies belong on nodes that cannot be reached: repair again"),
        (report.out_of_reach, "blocks may be only on nodes that cannot be reached"),
        (report.lost, "blocks have no good copy left; `ringfs fsck` names their files"),
    ] {
        if value > 0 {
            out.push_str(&format!("{} {text}\n", count(value)));
        }
    }
    if report.stopped_at.is_some() {
        out.push_str("stopped before the end; start it again to go on\n");
    } else if report.is_whole() {
        out.push_str("Every block has all its copies.\n");
    }
    out
}
