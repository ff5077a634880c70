//! Opening and closing files.

use crate::names::Looked;
use crate::node::Content;
use crate::{Vfs, VfsError};
use ringfs_base::{Errno, InodeId};
use ringfs_meta::{FileKind, Known, NewInode};
use std::sync::atomic::Ordering;

/// An opened file.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    /// The pages that the frontend has cached are those of the version opened.
    pub keep_cache: bool,
}

impl Vfs {
    /// Opens a file: asks the server for its version, so that what any mount closed before is
    /// seen, and takes its data or extents along.
    pub fn open(&self, ino: InodeId) -> Result<Opened, VfsError> {
        let node = self.nodes.get(ino);
        let _opening = self.opening(ino);
        node.opens.fetch_add(1, Ordering::SeqCst);
        let (told, known) = {
            let state = node.lock();
            let known = state.attr.and_then(|attr| {
                let cached = state.content.version == Some(attr.ctime);
                cached.then_some(Known { ctime: attr.ctime, size: attr.size })
            });
            (state.attr.filter(|_| !state.untold).map(|attr| attr.ctime), known)
        };
        let before = self.changes.before();
        match self.session.open(ino, known) {
            Ok(opened) => {
                let mut state = node.lock();
                let fresh = self.changes.none_since(before, ino);
                // A commit of this mount may have overtaken the reply.
                let newest = state.is_no_older(opened.attr.ctime);
                if newest {
                    state.attr = fresh.then_some(opened.attr);
                    state.content.take(&opened.attr, opened.data);
                }
                let keep_cache = newest && state.kernel_version == Some(opened.attr.ctime);
                // It is made to ask.
                state.untold = false;
                if newest {
                    state.kernel_version = Some(opened.attr.ctime);
                }
                drop(state);
                // An open tells the kernel no attributes. If it has others it would read up to
                // the old size, since the push of the change may still be on its way.
                if told != Some(opened.attr.ctime) {
                    self.kernel_cache.doubt_attributes(ino);
                }
                Ok(Opened { keep_cache })
            }
            Err(error) => {
                node.opens.fetch_sub(1, Ordering::SeqCst);
                Err(error.into())
            }
        }
    }

    /// Makes a file and opens it, or opens the one that is there unless `exclusive`.
    pub fn create(
        &self,
        parent: InodeId,
        name: &[u8],
        new: &NewInode<'_>,
        exclusive: bool,
    ) -> Result<(Looked, Opened), VfsError> {
        let (looked, created) = self.make_or_find(parent, name, new)?;
        let ino = looked.attr.ino;
        let opened = if created {
            let node = self.nodes.get(ino);
            node.opens.fetch_add(1, Ordering::SeqCst);
            let mut state = node.lock();
            state.kernel_version = Some(looked.attr.ctime);
            state.kernel_certain = Some(looked.attr.ctime);
            drop(state);
            Ok(Opened { keep_cache: true })
        } else if exclusive {
            Err(Errno::EEXIST.into())
        } else if looked.attr.kind != FileKind::File {
            // Another mount made something else of that name since the kernel looked.
            Err(if looked.attr.is_dir() { Errno::EISDIR } else { Errno::EEXIST }.into())
        } else {
            self.open(ino)
        };
        match opened {
            Ok(opened) => Ok((looked, opened)),
            Err(error) => {
                self.forget(ino, 1);
                Err(error)
            }
        }
    }

    /// Makes a file without a name and opens it (`O_TMPFILE`). It goes with its last close, unless
    /// [`Self::link`] has given it a name.
    pub fn create_nameless(
        &self,
        parent: InodeId,
        new: &NewInode<'_>,
    ) -> Result<(Looked, Opened), VfsError> {
        let before = self.changes.before();
        let attr = self.session.create_nameless(parent, new, self.clock.now())?;
        let node = self.nodes.remember(attr.ino);
        node.opens.fetch_add(1, Ordering::SeqCst);
        {
            let mut state = node.lock();
            state.content = Content::empty(attr.ctime);
            state.kernel_version = Some(attr.ctime);
            state.held = true;
        }
        Ok((self.note_attr(&attr, before), Opened { keep_cache: true }))
    }

    /// The last reference of one open is gone. What it wrote was flushed by [`Self::close`].
    pub fn release(&self, ino: InodeId) {
        let Some(node) = self.nodes.known(ino) else { return };
        if node.opens.fetch_sub(1, Ordering::SeqCst) != 1 {
            return;
        }
        let held = {
            let mut state = node.lock();
            let nameless = state.attr.is_none_or(|attr| attr.nlink == 0);
            if state.held && nameless && state.is_dirty() {
                // Nobody can ever read these writes.
                let tail = std::mem::take(&mut state.pending).tail_bytes();
                self.budget.give_back(tail);
            }
            // Nobody is left who could be told.
            state.lost = None;
            std::mem::take(&mut state.held)
        };
        if held && let Err(error) = self.release_orphan(ino) {
            tracing::warn!(%ino, %error, "an unlinked file could not be removed at its last close");
        }
    }
}
