//! Which process serves which mount point, so that `umount` can wait until it has saved everything.

use crate::failure::Failure;
use crate::process::ProcessIdentity;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Removes the record when the mount ends.
pub struct Record(PathBuf);

impl Drop for Record {
    fn drop(&mut self) {
        // A record that remains names a process that is gone, which does no harm.
        fs::remove_file(&self.0).ok();
    }
}

/// Records that this process serves a mount point.
pub fn write(mountpoint: &Path) -> Result<Record, Failure> {
    let path = path_of(mountpoint);
    let failed = |e: &std::io::Error| Failure::io(format_args!("write {}", path.display()), e);
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(|e| failed(&e))?;
    }
    let me = ProcessIdentity::of(std::process::id())
        .ok_or_else(|| Failure::plain("cannot read /proc/self/stat"))?;
    let text = serde_json::to_vec(&me)
        .map_err(|e| Failure::plain(format!("cannot write {}: {e}", path.display())))?;
    // Of an earlier mount.
    fs::remove_file(failure_of(mountpoint)).ok();
    fs::write(&path, text).map_err(|e| failed(&e))?;
    Ok(Record(path))
}

/// Leaves word of what the mount could not save.
pub fn leave_failure(mountpoint: &Path, message: &str) {
    if let Err(error) = fs::write(failure_of(mountpoint), message) {
        tracing::debug!(%error, "`ringfs umount` will not hear of the failure");
    }
}

/// What the mount that has ended could not save. Told once.
pub fn take_failure(mountpoint: &Path) -> Option<String> {
    let path = failure_of(mountpoint);
    let message = fs::read_to_string(&path).ok()?;
    fs::remove_file(&path).ok();
    Some(message)
}

fn failure_of(mountpoint: &Path) -> PathBuf {
    let mut name = path_of(mountpoint).into_os_string();
    // No character of a record's name.
    name.push("+failed");
    name.into()
}

/// The process that serves a mount point, if it is known and running.
pub fn process_of(mountpoint: &Path) -> Option<ProcessIdentity> {
    let text = fs::read(path_of(mountpoint)).ok()?;
    serde_json::from_slice::<ProcessIdentity>(&text).ok().filter(ProcessIdentity::is_alive)
}

/// One file for each mount point, named by its path in a form without slashes.
fn path_of(mountpoint: &Path) -> PathBuf {
    let mut name = String::new();
    for byte in mountpoint.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' => name.push(char::from(*byte)),
            other => name.push_str(&format!("-{other:02x}")),
        }
    }
    // Names of files are limited; the end of a path says more than its beginning.
    let from = name.len().saturating_sub(200);
    crate::state_directory::base().join("mounts").join(&name[from..])
}
