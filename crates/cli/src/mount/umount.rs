//! `ringfs umount`.

use super::record;
use crate::failure::Failure;
use crate::output::warn;
use clap::Args;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long the mount's process may take to save what is in its buffers.
const SAVE_LIMIT: Duration = Duration::from_secs(120);
/// After this long it is told what is being waited for.
const QUIET: Duration = Duration::from_secs(1);
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// Unmount a volume, and wait until everything is saved
///
/// Example:
///   ringfs umount /mnt/demo
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct UmountArguments {
    /// The directory it is mounted on.
    mountpoint: PathBuf,
    /// Take it out of the tree at once, even if programs have files open; it ends with the last one.
    #[arg(long)]
    lazy: bool,
}

/// Runs the command.
pub fn run(arguments: &UmountArguments) -> Result<(), Failure> {
    let shown = arguments.mountpoint.display();
    // Not to be followed into a mount whose process has died.
    let mountpoint = std::path::absolute(&arguments.mountpoint)
        .map_err(|e| Failure::io(format_args!("unmount {shown}"), &e))?;
    let mountpoint = mountpoint.canonicalize().unwrap_or(mountpoint);
    let process = record::process_of(&mountpoint);
    ringfs_fusewire::unmount_path(&mountpoint, arguments.lazy).map_err(|e| match e.kind() {
        ErrorKind::NotFound => Failure::plain(format!("no volume is mounted on {shown}")),
        ErrorKind::ResourceBusy => Failure::plain(format!(
            "programs have files of {shown} open, or work in it; end them (fuser -vm {shown} lists \
             them), or add --lazy"
        )),
        _ => Failure::io(format_args!("unmount {shown}"), &e),
    })?;
    if arguments.lazy {
        return Ok(());
    }
    let Some(process) = process else { return Ok(()) };
    let (begin, mut told) = (Instant::now(), false);
    let limit = begin + SAVE_LIMIT;
    while process.is_alive() {
        if !told && begin.elapsed() > QUIET {
            told = true;
            warn(format_args!("waiting for process {} to save everything", process.pid));
        }
        if Instant::now() > limit {
            return Err(Failure::plain(format!(
                "{shown} is unmounted, but process {} has not saved everything yet; do not stop the \
                 servers before it ends",
                process.pid
            )));
        }
        std::thread::sleep(LOOK_PAUSE);
    }
    record::take_failure(&mountpoint).map_or(Ok(()), |message| Err(Failure::plain(message)))
}
