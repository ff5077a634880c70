//! A volume that a tool works on, named by its URL or by a path where it is mounted.

use crate::compose::{self, OpenVolume, Patience};
use crate::failure::Failure;
use crate::mount::volume_mounted_as;
use crate::output::Surroundings;
use ringfs_meta::Attr;
use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What was named.
pub struct Target {
    /// The volume.
    pub open: OpenVolume,
    /// The device of the mount by which it was named, if it was.
    device: Option<u64>,
}

impl Target {
    /// Opens what `text` names.
    pub fn open(text: &str, surroundings: &Surroundings) -> Result<Target, Failure> {
        let path = Path::new(text);
        let (url, device) = if text.contains("://") {
            (text.to_owned(), None)
        } else if path.symlink_metadata().is_err_and(|e| e.kind() == ErrorKind::NotFound) {
            // What was written may hold a password.
            return Err(Failure::usage(
                "a volume is named by its URL, such as redis://meta:6379/demo, or by a path where it \
                 is mounted; what was given is neither",
            ));
        } else {
            let device = metadata(path)?.dev();
            (volume_mounted_as(device, path)?, Some(device))
        };
        let url = surroundings.volume_url(&url)?;
        Ok(Target { open: compose::open(&url, surroundings, Patience::Tool)?, device })
    }

    /// The inode at a path: one in the volume if that was named by its URL, any path to it if by
    /// where it is mounted.
    pub fn find(&self, path: &Path) -> Result<Attr, Failure> {
        let Some(device) = self.device else {
            let found = self.open.volume.resolve(path.as_os_str().as_bytes());
            return found.map_err(|e| Failure::from(e).about(path.display()));
        };
        let facts = metadata(path)?;
        if facts.dev() != device {
            return Err(Failure::usage(format!("{} is not in that volume", path.display())));
        }
        Ok(self.open.volume.getattr(ringfs_base::InodeId(facts.ino()))?)
    }
}

fn metadata(path: &Path) -> Result<Metadata, Failure> {
    path.symlink_metadata().map_err(|e| Failure::io(format_args!("use {}", path.display()), &e))
}
