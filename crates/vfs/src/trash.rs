//! Removing what has expired in the trash: one of all mounts does it, a bounded part at each
//! heartbeat.

use crate::{Vfs, VfsError};
use ringfs_base::{Errno, InodeId};
use ringfs_meta::FileKind;

/// Names removed after one heartbeat.
const REMOVED_MAX: u32 = 1024;
/// Names removed at once from one directory that was not empty any more.
const CLEARED_MAX: u32 = 256;
/// How deep such directories are gone into after one heartbeat.
const CLEAR_DEPTH_MAX: u32 = 16;
/// A turn lasts so many heartbeats: when its mount has died another follows after that time.
const TURN_BEATS: u32 = 10;

impl Vfs {
    /// Looks whether the volume has a trash.
    pub(crate) fn look_for_trash(&self) {
        match self.session.volume().trash() {
            Ok(trash) => *self.upkeep.trash.lock() = trash,
            Err(error) => tracing::debug!(%error, "could not ask for the trash"),
        }
    }

    /// Removes a part of what has expired, if it is this mount's turn.
    pub(crate) fn expire_trash(&self) {
        if let Err(error) = self.try_expire_trash() {
            tracing::debug!(%error, "could not clear the trash");
        }
    }

    fn try_expire_trash(&self) -> Result<(), VfsError> {
        let Some(trash) = *self.upkeep.trash.lock() else { return Ok(()) };
        let volume = self.session.volume();
        let lasts = self.config.heartbeat * TURN_BEATS;
        let (turn, now) = volume.trash_turn(self.session.id(), lasts)?;
        if !turn {
            return Ok(());
        }
        let mut left = REMOVED_MAX;
        for slot in volume.trash_slots(&trash)? {
            if slot.expires > now || left == 0 {
                continue;
            }
            let page = self.session.readdir(slot.directory, 0, left, false)?;
            for item in &page.items {
                left = left.saturating_sub(1);
                // What cannot be removed, for whatever reason, holds up nothing behind it.
                match self.remove_expired(slot.directory, &item.name, item.kind) {
                    Ok(true) => {}
                    Ok(false) => left = left.saturating_sub(self.clear(item.ino, CLEAR_DEPTH_MAX)?),
                    Err(error @ VfsError::Posix(_)) => {
                        tracing::warn!(ino = %item.ino, %error, "it stays in the trash");
                    }
                    Err(error) => return Err(error),
                }
            }
            if page.items.is_empty() && page.next.is_none() {
                self.remove_expired(trash.directory, &slot.name, FileKind::Directory)?;
            }
        }
        Ok(())
    }

    /// Deletes a part of what another mount has put into a directory after it was deleted. It goes
    /// into the trash in its turn. Returns how many names there were.
    fn clear(&self, dir: InodeId, depth: u32) -> Result<u32, VfsError> {
        let page = self.session.readdir(dir, 0, CLEARED_MAX, false)?;
        let mut names = page.items.len() as u32;
        for item in &page.items {
            if !self.remove_expired(dir, &item.name, item.kind)? && depth > 0 {
                names += self.clear(item.ino, depth - 1)?;
            }
        }
        Ok(names)
    }

    /// False if it is a directory with something in it.
    fn remove_expired(&self, dir: InodeId, name: &[u8], kind: FileKind) -> Result<bool, VfsError> {
        let removed = match kind {
            FileKind::Directory => self.rmdir(dir, name),
            _ => self.unlink(dir, name),
        };
        match removed {
            // Restored or removed by somebody else.
            Ok(()) | Err(VfsError::Posix(Errno::ENOENT)) => Ok(true),
            Err(VfsError::Posix(Errno::ENOTEMPTY)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
