//! Removing what lies below a directory that no name leads to, such as a clone that was not
//! finished; and a tool's own session while it is at work.

use crate::error::ClusterError;
use crate::job::Job;
use crate::subject::{Subject, blocks_of};
use ringfs_base::{BlockId, Clock, InodeId, SystemClock, Timestamp};
use ringfs_meta::{Beat, ExtentRecord, Fate, FileKind, Session, Victim};
use std::time::{Duration, Instant};

/// A tool's own session tells that it is alive this often.
const BEAT_EVERY: Duration = Duration::from_secs(2);
/// Names asked for at a time.
const LISTING_NAMES: u32 = 256;

/// A session that tells that it is alive while a long job uses it.
pub(crate) struct Alive<'a> {
    pub(crate) session: &'a Session,
    last_beat: Instant,
}

impl<'a> Alive<'a> {
    pub(crate) fn new(session: &'a Session) -> Alive<'a> {
        Alive { session, last_beat: Instant::now() }
    }

    /// To be called before each step. The tool has no file open.
    pub(crate) fn beat(&mut self) -> Result<(), ClusterError> {
        if self.last_beat.elapsed() >= BEAT_EVERY {
            let epoch = self.session.epoch();
            self.session.heartbeat(&Beat { holds: &[], oldest_slice: None, epoch })?;
            self.last_beat = Instant::now();
        }
        Ok(())
    }
}

/// The time for what a tool changes.
pub(crate) fn now() -> Timestamp {
    SystemClock.now()
}

/// Removes everything below a directory.
pub(crate) fn empty(
    subject: &Subject,
    alive: &mut Alive<'_>,
    top: InodeId,
    job: &Job,
) -> Result<(), ClusterError> {
    let session = alive.session;
    // The directories on the way down, with the name of each in the one before.
    let mut way: Vec<(InodeId, Vec<u8>)> = vec![(top, Vec::new())];
    while let Some((dir, name)) = way.last().cloned() {
        job.advance(1)?;
        let mut below = None;
        let mut after = 0;
        loop {
            alive.beat()?;
            let page = session.readdir(dir, after, LISTING_NAMES, false)?;
            for item in page.items {
                if item.kind == FileKind::Directory {
                    below.get_or_insert((item.ino, item.name));
                    continue;
                }
                let victim = Victim::NotOpen(item.ino);
                let gone = session.unlink(dir, &item.name, victim, now())?;
                if let Fate::Purged(freed) = gone.removed.fate {
                    remove_freed(subject, &freed, job)?;
                }
            }
            match page.next {
                // Files are gone when the directory is listed again, below which there is none.
                Some(next) if below.is_none() => after = next,
                _ => break,
            }
        }
        match below {
            Some(directory) => way.push(directory),
            None => {
                way.pop();
                if let Some((parent, _)) = way.last() {
                    session.rmdir(*parent, &name, Victim::NotOpen(dir), now())?;
                }
            }
        }
    }
    Ok(())
}

/// Removes the blocks of slices that nobody shows any more. What fails here is garbage that
/// collection finds.
pub(crate) fn remove_freed(
    subject: &Subject,
    freed: &[ExtentRecord],
    job: &Job,
) -> Result<(), ClusterError> {
    for record in freed.iter().filter(|record| !record.is_hole()) {
        let blocks: Vec<BlockId> =
            blocks_of(record.slice, subject.blocks_in(record.slice_len)).collect();
        job.spend(0)?;
        let removed = subject.store.remove(&blocks);
        if !removed.unreached.is_empty() {
            tracing::debug!(nodes = ?removed.unreached, "freed blocks stay behind");
        }
    }
    Ok(())
}
