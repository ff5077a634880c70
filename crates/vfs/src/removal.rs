//! Taking names away: unlink, rmdir, rename, and what happens to an inode without a name.

use crate::names::check_name;
use crate::{Vfs, VfsError};
use parking_lot::RwLockWriteGuard;
use ringfs_base::{Errno, InodeId};
use ringfs_meta::{Fate, Purge, Removed, RenameMode, Victim};
use std::sync::atomic::Ordering;

impl Vfs {
    /// Removes a name of something that is no directory.
    pub fn unlink(&self, parent: InodeId, name: &[u8]) -> Result<(), VfsError> {
        check_name(name)?;
        let before = self.changes.before();
        let target = self.expected(parent, name);
        let (victim, _guard) = self.victim_of(target);
        let done = self.session.unlink(parent, name, victim, self.clock.now())?;
        self.note_attr(&done.parent, before);
        self.after_removal(&done.removed, victim, before);
        Ok(())
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, parent: InodeId, name: &[u8]) -> Result<(), VfsError> {
        match name {
            b"." => return Err(Errno::EINVAL.into()),
            b".." => return Err(Errno::ENOTEMPTY.into()),
            _ => check_name(name)?,
        }
        let before = self.changes.before();
        let target = self.expected(parent, name);
        let (victim, _guard) = self.victim_of(target);
        let done = self.session.rmdir(parent, name, victim, self.clock.now())?;
        self.note_attr(&done.parent, before);
        self.after_removal(&done.removed, victim, before);
        Ok(())
    }

    /// Renames, with all the cases of renameat2(2).
    pub fn rename(
        &self,
        old: (InodeId, &[u8]),
        new: (InodeId, &[u8]),
        mode: RenameMode,
    ) -> Result<(), VfsError> {
        check_name(old.1)?;
        check_name(new.1)?;
        let before = self.changes.before();
        let target = self.expected(new.0, new.1);
        let (victim, _guard) = self.victim_of(target);
        self.expect_name(new.0, new.1);
        self.expect_name(old.0, old.1);
        let now = self.clock.now();
        let done = self.session.rename(old.0, old.1, new.0, new.1, mode, victim, now)?;
        self.names.forget(old.0, old.1);
        self.names.note(new.0, new.1, done.attr.ino);
        for attr in [Some(done.old_parent), Some(done.new_parent), Some(done.attr), done.exchanged]
            .iter()
            .flatten()
        {
            self.note_untold(attr, before);
        }
        if let Some(removed) = &done.replaced {
            self.after_removal(removed, victim, before);
        }
        Ok(())
    }

    /// The inode that the frontend looked up under this name last.
    fn expected(&self, parent: InodeId, name: &[u8]) -> Option<InodeId> {
        self.names.find(parent, name)
    }

    /// What to tell the script of the inode about to lose its name, and the lock that keeps it
    /// true until the script has run.
    fn victim_of(&self, ino: Option<InodeId>) -> (Victim, Option<RwLockWriteGuard<'_, ()>>) {
        let Some(ino) = ino else { return (Victim::Unknown, None) };
        let guard = self.removing(ino);
        let open = self.nodes.known(ino).is_some_and(|node| node.opens.load(Ordering::SeqCst) > 0);
        (if open { Victim::Open(ino) } else { Victim::NotOpen(ino) }, Some(guard))
    }

    fn after_removal(&self, removed: &Removed, victim: Victim, before: crate::coherence::Before) {
        match &removed.fate {
            Fate::Linked => {
                self.note_untold(&removed.attr, before);
            }
            Fate::Orphaned => {
                self.note_attr(&removed.attr, before);
                if victim == Victim::Open(removed.attr.ino) {
                    self.hold(removed.attr.ino);
                } else {
                    self.upkeep.wake();
                }
            }
            Fate::Purged(freed) => self.collector.collect(freed.clone()),
        }
    }

    /// The server keeps the inode for us. If its last close came in the meantime it found nothing
    /// to release, so that is done here.
    pub(crate) fn hold(&self, ino: InodeId) {
        let open = self.nodes.known(ino).is_some_and(|node| {
            let mut state = node.lock();
            state.held = node.opens.load(Ordering::SeqCst) > 0;
            state.held
        });
        if !open && let Err(error) = self.release_orphan(ino) {
            tracing::warn!(%ino, %error, "an unlinked file could not be removed after its last close");
        }
    }

    /// The last close of an orphan that this mount holds: it can go.
    pub(crate) fn release_orphan(&self, ino: InodeId) -> Result<(), VfsError> {
        if self.session.release_hold(ino)? {
            self.purge(ino)?;
        }
        Ok(())
    }

    /// Removes an orphan if nobody has it open any more.
    pub(crate) fn purge(&self, ino: InodeId) -> Result<(), VfsError> {
        match self.session.purge(ino)? {
            Purge::Done(freed) => self.collector.collect(freed),
            // What a clone left behind is for `ringfs gc`.
            Purge::Held | Purge::Gone | Purge::Populated => {}
        }
        Ok(())
    }
}
