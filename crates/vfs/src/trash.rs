//! Removing what has expired in the trash: one of all mounts does it, a part at each heartbeat that
//! is bounded by names and by time, so that the heartbeat is never late.

use crate::{Vfs, VfsError};
use ringfs_base::{Errno, InodeId};
use ringfs_meta::FileKind;
use std::time::{Duration, Instant};

/// Names removed after one heartbeat,
const REMOVED_MAX: u32 = 1024;
/// and the time that this may take.
const REMOVING_MAX: Duration = Duration::from_millis(200);
/// Names removed at once from one directory that was not empty any more.
const CLEARED_MAX: u32 = 256;
/// How deep such directories are gone into after one heartbeat.
const CLEAR_DEPTH_MAX: u32 = 16;
/// A turn lasts so many heartbeats: when its mount has died another follows after that time.
const TURN_BEATS: u32 = 10;

/// What is left of the part of one heartbeat.
struct Part {
    names: u32,
    until: Instant,
}

impl Part {
    fn new() -> Part {
        Part { names: REMOVED_MAX, until: Instant::now() + REMOVING_MAX }
    }

    fn is_over(&self) -> bool {
        self.names == 0 || Instant::now() >= self.until
    }
}

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
        let mut part = Part::new();
        // Where the part before ended: what could not be removed there is passed over this time, so
        // that it holds up nothing behind it.
        let place = self.upkeep.trash_place.lock().take();
        for slot in volume.trash_slots(&trash)? {
            if slot.expires > now {
                continue;
            }
            if part.is_over() {
                break;
            }
            let after = place.filter(|(dir, _)| *dir == slot.directory).map_or(0, |(_, at)| at);
            let page = self.session.readdir(slot.directory, after, part.names, false)?;
            for item in &page.items {
                if part.is_over() {
                    return Ok(());
                }
                part.names -= 1;
                match self.remove_expired(slot.directory, &item.name, item.kind) {
                    Ok(true) => {}
                    Ok(false) => self.clear(item.ino, CLEAR_DEPTH_MAX, &mut part)?,
                    Err(error @ VfsError::Posix(_)) => {
                        tracing::warn!(ino = %item.ino, %error, "it stays in the trash");
                    }
                    Err(error) => return Err(error),
                }
                *self.upkeep.trash_place.lock() = Some((slot.directory, item.cookie));
            }
            // The end of it: the next time from the beginning.
            if page.next.is_none() {
                *self.upkeep.trash_place.lock() = None;
                if page.items.is_empty() && after == 0 {
                    self.remove_expired(trash.directory, &slot.name, FileKind::Directory)?;
                }
            }
        }
        Ok(())
    }

    /// Deletes a part of what another mount has put into a directory after it was deleted. It goes
    /// into the trash in its turn.
    fn clear(&self, dir: InodeId, depth: u32, part: &mut Part) -> Result<(), VfsError> {
        let page = self.session.readdir(dir, 0, CLEARED_MAX, false)?;
        for item in &page.items {
            if part.is_over() {
                break;
            }
            part.names -= 1;
            if !self.remove_expired(dir, &item.name, item.kind)? && depth > 0 {
                self.clear(item.ino, depth - 1, part)?;
            }
        }
        Ok(())
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
