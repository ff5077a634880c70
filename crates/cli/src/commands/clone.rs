//! `ringfs clone`.

use super::jobs;
use crate::compose::{self, Patience};
use crate::failure::Failure;
use crate::mount::volume_mounted_as;
use crate::output::Surroundings;
use crate::quantity::{bytes, count};
use clap::Args;
use ringfs_base::InodeId;
use ringfs_cluster::{CloneReport, Job, clone_tree};
use std::fs::{File, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest wait until the mount shows the copy. It is there in any case.
const SEEN_LIMIT: Duration = Duration::from_secs(2);
const LOOK_PAUSE: Duration = Duration::from_millis(1);

/// Copy a file or a whole tree without moving data; it appears under its new name at once
///
/// Both paths are in a mounted volume. The copy shares its blocks with the original until one of
/// them is changed. Keeps modes, owners, times, extended attributes, links. What programs have
/// written and neither closed nor synced may be missing from the copy.
///
/// Example:
///   ringfs clone /mnt/demo/project /mnt/demo/snapshots/monday
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct CloneArguments {
    /// What to copy.
    source: PathBuf,
    /// The path of the copy, which must not exist.
    destination: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs `clone`.
pub fn run(arguments: &CloneArguments, surroundings: &Surroundings) -> Result<(), Failure> {
    let (source, destination) = (&arguments.source, &arguments.destination);
    let original = facts(source)?;
    let shown = destination.display();
    let name = destination
        .file_name()
        .ok_or_else(|| Failure::usage(format!("{shown} is no name for a copy")))?;
    let directory = match destination.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    if destination.symlink_metadata().is_ok() {
        return Err(Failure::refused(format!(
            "{shown} exists; remove it first, or choose another name"
        )));
    }
    let parent = directory
        .canonicalize()
        .map_err(|e| Failure::io(format_args!("use {}", directory.display()), &e))?;
    let parent = facts(&parent)?;
    let url = volume_mounted_as(original.dev(), source)?;
    if volume_mounted_as(parent.dev(), directory)? != url {
        return Err(Failure::usage(format!(
            "{} and {shown} are in different volumes; copy with cp",
            source.display()
        )));
    }
    if original.is_file() {
        // What this mount has in its buffers belongs into the copy.
        File::open(source)
            .and_then(|file| file.sync_all())
            .map_err(|e| Failure::io(format_args!("read {}", source.display()), &e))?;
    }
    let url = surroundings.volume_url(&url)?;
    let subject = compose::open(&url, surroundings, Patience::Tool)?.subject(surroundings)?;
    let owner = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let (from, to) = (InodeId(original.ino()), InodeId(parent.ino()));
    let report =
        jobs::run(Job::new(), |job| clone_tree(&subject, from, to, name.as_bytes(), owner, job))?;
    // The kernel may believe that there is no such name until it is told, which takes milliseconds;
    // whoever goes on to use the copy should not meet that.
    let limit = Instant::now() + SEEN_LIMIT;
    while destination.symlink_metadata().is_err() && Instant::now() < limit {
        std::thread::sleep(LOOK_PAUSE);
    }
    jobs::show(arguments.json, &report, text)
}

fn facts(path: &Path) -> Result<Metadata, Failure> {
    path.symlink_metadata().map_err(|e| Failure::io(format_args!("use {}", path.display()), &e))
}

fn text(report: &CloneReport) -> String {
    format!(
        "Cloned {} files and {} directories ({}).\n",
        count(report.files),
        count(report.directories),
        bytes(report.bytes)
    )
}
