//! `ringfs trash`.

use super::jobs;
use crate::failure::Failure;
use crate::output::{Surroundings, print, print_json};
use crate::quantity::{bytes, count, duration, parse_duration};
use crate::table::TextTable;
use crate::target::Target;
use clap::{Args, Subcommand};
use ringfs_base::{Clock, Errno, SystemClock};
use ringfs_cluster::{Job, Restored, empty_trash, list_trash, restore_trash};
use ringfs_meta::{MetaError, Volume};
use serde_json::json;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

/// Keep what is deleted for a while, and put it back
///
/// Off unless it is set. What is in the trash counts to quotas and limits until it expires; mounts
/// remove it then. Root sees it in `.trash` of the volume's root; what is deleted there is gone.
///
/// Example:
///   ringfs trash set redis://meta:6379/demo 7d
///   ringfs trash list /mnt/demo
///   ringfs trash restore /mnt/demo /projects/a
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct TrashArguments {
    #[command(subcommand)]
    command: TrashCommand,
}

#[derive(Debug, Subcommand)]
enum TrashCommand {
    Set(SetArguments),
    List(ListArguments),
    Restore(RestoreArguments),
    Empty(EmptyArguments),
}

/// Turn the trash on, for so long, or off
///
/// Turned off, what is in it still expires at its time.
///
/// Example:
///   ringfs trash set redis://meta:6379/demo 7d
///   ringfs trash set redis://meta:6379/demo off
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct SetArguments {
    /// The volume: its URL, or a path where it is mounted.
    volume: String,
    /// How long to keep what is deleted, as 7d or 12h; or off.
    #[arg(value_name = "TIME", value_parser = parse_keep)]
    keep: Duration,
}

/// List what is in the trash, with the paths that it had
///
/// Example:
///   ringfs trash list redis://meta:6379/demo --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct ListArguments {
    /// The volume: its URL, or a path where it is mounted.
    volume: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Put back what was deleted
///
/// Directories come back with what was deleted in them. If a name is taken, the inode's number is
/// put behind it.
///
/// Example:
///   ringfs trash restore redis://meta:6379/demo /projects/a /notes.txt
///   ringfs trash restore redis://meta:6379/demo --all
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct RestoreArguments {
    /// The volume: its URL, or a path where it is mounted.
    volume: String,
    /// Paths in the volume, as `list` shows them.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    paths: Vec<PathBuf>,
    /// Everything.
    #[arg(long)]
    all: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Remove what is in the trash for good, whether it has expired or not
///
/// Example:
///   ringfs trash empty redis://meta:6379/demo
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct EmptyArguments {
    /// The volume: its URL, or a path where it is mounted.
    volume: String,
}

/// Reads how long to keep: a time, or `off`.
pub fn parse_keep(text: &str) -> Result<Duration, String> {
    if text == "off" { Ok(Duration::ZERO) } else { parse_duration(text) }
}

/// Runs the command.
pub fn run(arguments: &TrashArguments, surroundings: &Surroundings) -> Result<(), Failure> {
    match &arguments.command {
        TrashCommand::Set(set_to) => {
            set(&Target::open(&set_to.volume, surroundings)?.open.volume, set_to.keep)
        }
        TrashCommand::List(arguments) => list(arguments, surroundings),
        TrashCommand::Restore(arguments) => {
            let target = Target::open(&arguments.volume, surroundings)?;
            let subject = target.open.subject(surroundings)?;
            let paths: Vec<Vec<u8>> =
                arguments.paths.iter().map(|path| normal(path.as_os_str().as_bytes())).collect();
            let report = jobs::run(Job::new(), |job| restore_trash(&subject, &paths, job))?;
            if report == Restored::default() && !arguments.all {
                return Err(Failure::plain(
                    "nothing in the trash had such a path; see `ringfs trash list`",
                ));
            }
            jobs::show(arguments.json, &report, restored)?;
            if report.left.is_empty() { Ok(()) } else { Err(Failure::problems()) }
        }
        TrashCommand::Empty(arguments) => {
            let target = Target::open(&arguments.volume, surroundings)?;
            let subject = target.open.subject(surroundings)?;
            let removed = jobs::run(Job::new(), |job| empty_trash(&subject, job))?;
            print(format_args!("Removed {} from the trash.\n", count(removed)));
            Ok(())
        }
    }
}

/// Sets how long what is deleted is kept.
pub fn set(volume: &Volume, keep: Duration) -> Result<(), Failure> {
    volume.set_trash(keep, SystemClock.now()).map_err(|error| match error {
        MetaError::Posix(Errno::EEXIST) => Failure::refused(
            "the volume's root has a \".trash\" of another kind; rename that first",
        ),
        MetaError::Posix(Errno::EINVAL) => Failure::usage("the trash keeps for 136 years at most"),
        error => error.into(),
    })
}

/// A slash before each name.
fn normal(path: &[u8]) -> Vec<u8> {
    let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
    let joined: Vec<u8> = names.flat_map(|name| [&b"/"[..], name].concat()).collect();
    if joined.is_empty() { b"/".to_vec() } else { joined }
}

fn list(arguments: &ListArguments, surroundings: &Surroundings) -> Result<(), Failure> {
    let volume = Target::open(&arguments.volume, surroundings)?.open.volume;
    let now = u64::try_from(SystemClock.now().seconds()).unwrap_or(0);
    let (mut table, mut rows) = (TextTable::new(&["path", ">size", ">expires in"]), Vec::new());
    for deleted in list_trash(&volume)? {
        let item = &deleted.item;
        let path = match &deleted.path {
            Some(path) => String::from_utf8_lossy(path).into_owned(),
            None => format!("(gone)/{}", String::from_utf8_lossy(&item.name)),
        };
        let size = if item.attr.is_dir() { "directory".to_owned() } else { bytes(item.attr.size) };
        let left = item.expires.saturating_sub(now);
        table.row([path.clone(), size, duration(Duration::from_secs(left))]);
        rows.push(json!({
            "path": deleted.path.is_some().then_some(path), "inode": item.attr.ino.0,
            "directory": item.attr.is_dir(), "bytes": item.attr.size, "expires": item.expires,
        }));
    }
    if arguments.json {
        print_json(&json!(rows));
    } else if table.is_empty() {
        let on = volume.trash()?.is_some_and(|trash| trash.on);
        print(if on { "The trash is empty.\n" } else { "The trash is off, and empty.\n" });
    } else {
        print(table.render());
    }
    Ok(())
}

fn restored(report: &Restored) -> String {
    let mut text = String::new();
    for path in &report.paths {
        text += &format!("{path}\n");
    }
    for (path, why) in &report.left {
        text += &format!("{path} stays in the trash: {why}\n");
    }
    text
}
