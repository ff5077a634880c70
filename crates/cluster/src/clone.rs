//! A copy of a whole tree that moves no data and appears at once.
//!
//! The copy is built below a directory that has no name, a batch of inodes in each script, and
//! shows the same slices as the original. When all is there one rename gives it its name. A clone
//! that is killed leaves that directory behind, which `fsck` names and `gc` removes.
//!
//! Every file (and the list of names of a directory, page by page) is copied as it is at one
//! moment; different ones at different moments.

use crate::error::ClusterError;
use crate::job::Job;
use crate::leftovers::{Alive, empty, now};
use crate::subject::Subject;
use ringfs_base::limits::CHUNK_BYTES;
use ringfs_base::{InodeId, Timestamp};
use ringfs_meta::{
    Attr, CloneItem, Cloned, Commit, CommitData, CommitRequest, DirItem, FileKind, MetaError,
    NewInode, OpenData, RenameMode, Session, SessionInfo, SetAttr, ShareRequest, Shared, Victim,
    Writer,
};
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Names asked for at a time.
const LISTING_NAMES: u32 = 256;
/// Inodes copied by one script.
const BATCH_INODES: usize = 64;
/// How often a large file is begun anew because it changed meanwhile.
const LARGE_TRIES_MAX: u32 = 16;

/// What was cloned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CloneReport {
    /// Files, links and the like; a file with several names counts once.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Bytes of files by their sizes.
    pub bytes: u64,
    /// Further names of files.
    pub links: u64,
}

/// Makes `name` in `parent` a copy of `source` and of all below it.
///
/// # Errors
/// EEXIST if the name is taken; ENOSPC where the volume's limits are reached;
/// [`ClusterError::Restless`]. Then there is no copy; what remains of it after a crash is removed by
/// `gc`. The copy is there, but perhaps not durable, if its last step (the volume's barrier) fails.
pub fn clone_tree(
    subject: &Subject,
    source: InodeId,
    parent: InodeId,
    name: &[u8],
    owner: (u32, u32),
    job: &Job,
) -> Result<CloneReport, ClusterError> {
    job.begin("cloning", 0)?;
    let info = SessionInfo {
        host: crate::gc::host_name(),
        pid: std::process::id(),
        place: "clone".to_owned(),
    };
    let session = subject.volume.start_session(&info)?;
    let cloned = build_and_name(subject, &session, (source, parent, name), owner, job);
    // Also when that failed: whoever reaps the session later does the same.
    let ended = session.end();
    let report = cloned?;
    ended?;
    Ok(report)
}

fn build_and_name(
    subject: &Subject,
    session: &Session,
    (source, parent, name): (InodeId, InodeId, &[u8]),
    (uid, gid): (u32, u32),
    job: &Job,
) -> Result<CloneReport, ClusterError> {
    let new = NewInode {
        kind: FileKind::Directory,
        perm: 0o700,
        umask: 0,
        uid,
        gid,
        rdev: 0,
        target: b"",
    };
    let trash = subject.volume.trash()?.map(|trash| trash.directory);
    let staging = session.create_nameless(parent, &new, now())?.ino;
    let mut work = Work {
        job,
        privileged: uid == 0,
        alive: Alive::new(session),
        copies: HashMap::new(),
        report: CloneReport::default(),
        directories: Vec::new(),
        trash,
    };
    let built = work.clone_all(source, staging, name).and_then(|()| {
        let (mode, victim) = (RenameMode::NoReplace, Victim::Unknown);
        session.rename(staging, name, parent, name, mode, victim, now())?;
        session.barrier()?;
        Ok(work.report)
    });
    // The stop that was asked for has happened; this is short, and what fails is left to `gc`.
    let mut alive = Alive::new(session);
    let cleared = match &built {
        Ok(_) => Ok(()),
        Err(_) => empty(subject, &mut alive, staging, &Job::new()),
    };
    let gone = cleared.and_then(|()| {
        session.release_hold(staging)?;
        session.purge(staging)?;
        Ok(())
    });
    if let Err(error) = gone {
        tracing::warn!(%error, "what was built for the clone stays until `ringfs gc --delete`");
    }
    built
}

struct Work<'a> {
    job: &'a Job,
    /// Quotas of owners and groups do not bind who clones.
    privileged: bool,
    alive: Alive<'a>,
    /// Copies of files that have several names.
    copies: HashMap<InodeId, InodeId>,
    report: CloneReport,
    /// Directories whose names are to be copied: original and copy.
    directories: Vec<(InodeId, InodeId)>,
    /// The volume's trash: what was deleted is no part of a copy of the whole tree.
    trash: Option<InodeId>,
}

impl Work<'_> {
    fn clone_all(
        &mut self,
        source: InodeId,
        staging: InodeId,
        name: &[u8],
    ) -> Result<(), ClusterError> {
        let attr = self.alive.session.getattr(source)?;
        self.clone_batch(staging, &[(attr, name.to_vec())])?;
        if self.report == CloneReport::default() {
            return Err(MetaError::from(ringfs_base::Errno::ENOENT).into());
        }
        while let Some((from, to)) = self.directories.pop() {
            self.clone_names(from, to)?;
        }
        Ok(())
    }

    fn clone_names(&mut self, from: InodeId, to: InodeId) -> Result<(), ClusterError> {
        let mut after = 0;
        let mut links: Vec<(InodeId, Vec<u8>)> = Vec::new();
        loop {
            self.alive.beat()?;
            let page = match self.alive.session.readdir(from, after, LISTING_NAMES, true) {
                Ok(page) => page,
                // Removed since it was copied: then it was empty.
                Err(e) if e.is(ringfs_base::Errno::ESTALE) => break,
                Err(e) => return Err(e.into()),
            };
            let mut batch: Vec<(Attr, Vec<u8>)> = Vec::new();
            let mut several: HashSet<InodeId> = HashSet::new();
            for DirItem { name, attr, .. } in page.items {
                // One without attributes is gone, or damaged: fsck tells.
                let Some(attr) = attr else { continue };
                if Some(attr.ino) == self.trash {
                    continue;
                }
                let has_names = !attr.is_dir() && attr.nlink > 1;
                if has_names && (self.copies.contains_key(&attr.ino) || !several.insert(attr.ino)) {
                    links.push((attr.ino, name));
                } else {
                    batch.push((attr, name));
                }
            }
            for part in batch.chunks(BATCH_INODES) {
                self.clone_batch(to, part)?;
            }
            match page.next {
                Some(next) => after = next,
                None => break,
            }
        }
        if links.is_empty() {
            return Ok(());
        }
        // New names change the directory's time, which shall be that of the original.
        let mtime = Some(self.alive.session.getattr(to)?.mtime);
        for (ino, name) in links {
            self.alive.beat()?;
            // Its first name was gone before it was copied.
            let Some(copy) = self.copies.get(&ino) else { continue };
            self.alive.session.link(*copy, to, &name, now())?;
            self.report.links += 1;
            self.job.advance(1)?;
        }
        let times = SetAttr { mtime, ..SetAttr::default() };
        self.alive.session.setattr(to, &times, now())?;
        Ok(())
    }

    fn clone_batch(&mut self, to: InodeId, all: &[(Attr, Vec<u8>)]) -> Result<(), ClusterError> {
        let mut rest = all;
        while !rest.is_empty() {
            self.alive.beat()?;
            let items: Vec<CloneItem<'_>> =
                rest.iter().map(|(attr, name)| CloneItem { source: attr.ino, name }).collect();
            let done = self.alive.session.clone_inodes(to, &items, self.privileged, now())?;
            for ((attr, _), cloned) in rest.iter().zip(&done) {
                let copy = match *cloned {
                    Cloned::Gone => continue,
                    Cloned::Done(copy) => copy,
                    Cloned::Empty(copy) => {
                        self.clone_large(attr.ino, copy)?;
                        copy
                    }
                };
                if attr.is_dir() {
                    self.report.directories += 1;
                    self.directories.push((attr.ino, copy));
                } else {
                    self.report.files += 1;
                    self.report.bytes += if attr.kind == FileKind::File { attr.size } else { 0 };
                    if attr.nlink > 1 {
                        self.copies.insert(attr.ino, copy);
                    }
                }
            }
            self.job.advance(done.len() as u64)?;
            rest = &rest[done.len().clamp(1, rest.len())..];
        }
        Ok(())
    }

    /// A file with so many chunks that one script would take too long: in parts, which are of the
    /// same moment because nothing was written from the first to the last.
    fn clone_large(&mut self, from: InodeId, to: InodeId) -> Result<(), ClusterError> {
        let session = self.alive.session;
        for _ in 0..LARGE_TRIES_MAX {
            let opened = session.open(from, None)?;
            if self.clone_parts(&opened.attr, opened.data, to)? {
                let (mtime, atime) = (Some(opened.attr.mtime), Some(opened.attr.atime));
                session.setattr(to, &SetAttr { mtime, atime, ..SetAttr::default() }, now())?;
                return Ok(());
            }
            // What it shows until now has other owners, or is found by `gc`.
            session.setattr(to, &SetAttr { size: Some(0), ..SetAttr::default() }, now())?;
        }
        Err(ClusterError::Restless { ino: from.0 })
    }

    /// False if the original has changed meanwhile.
    fn clone_parts(
        &mut self,
        original: &Attr,
        data: OpenData,
        to: InodeId,
    ) -> Result<bool, ClusterError> {
        let session = self.alive.session;
        if let OpenData::Extents { inline, .. } | OpenData::Inline(inline) = data
            && !inline.is_empty()
            && !commit_inline(session, to, &inline, original.mtime, self.privileged)?
        {
            return Ok(false);
        }
        let (mut first, mut again) = (0, 0);
        loop {
            self.alive.beat()?;
            let found = session.next_chunks(original.ino, first)?;
            if found.attr.ctime != original.ctime {
                return Ok(false);
            }
            let next = found.known_to.saturating_mul(CHUNK_BYTES);
            let end = if found.known_to == u64::MAX { original.size } else { next };
            let read: Vec<_> =
                found.chunks.iter().map(|(c, list)| (*c, Arc::new(list.clone()))).collect();
            let request = ShareRequest {
                source: original.ino,
                version: original.ctime,
                read: &read,
                destination: to,
                records: &found.chunks,
                end: end.min(original.size),
                writer: Writer { kill_suid: false, privileged: self.privileged },
            };
            match session.share(&request, now())? {
                Shared::Done(_) if found.known_to == u64::MAX => return Ok(true),
                Shared::Done(_) => first = found.known_to,
                // Perhaps only compacted: then these chunks are read again.
                Shared::Changed if again < LARGE_TRIES_MAX => again += 1,
                Shared::Changed => return Ok(false),
            }
            self.job.advance(0)?;
        }
    }
}

fn commit_inline(
    session: &Session,
    to: InodeId,
    inline: &[u8],
    mtime: Timestamp,
    privileged: bool,
) -> Result<bool, ClusterError> {
    let data = CommitData::Inline(&[(0, inline)]);
    let request =
        CommitRequest { data, epoch: session.epoch(), mtime, kill_suid: false, privileged };
    Ok(matches!(session.commit(to, &request)?, Commit::Done(_)))
}
