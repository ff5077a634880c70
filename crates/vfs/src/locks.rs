//! Advisory locks across mounts.
//!
//! The server decides who holds a lock and who waits; here is what this mount must know of it:
//! which owners may hold something, so that a close of a file that nobody locked asks nobody; the
//! waits, each with what answers its program; and what the server could not be told yet.
//!
//! Locks order data: whoever takes one must see what the last holder wrote before it let go. So
//! before a lock is given up, or lowered to a shared one, the file's writes are committed; and a
//! granted lock comes with the file's version. What is cached of an older one, here and in the
//! kernel, is dropped before the program goes on; when the version is the known one nothing is.
//! The kernel is told by a thread of its own, for it may wait for reads that workers must serve.

mod table;

pub(crate) use table::Locks;

use crate::coherence::KernelChange;
use crate::{Vfs, VfsError};
use crossbeam_channel::select;
use ringfs_base::{Errno, InodeId};
use ringfs_meta::{
    Attr, LockAsk, LockDone, LockFound, LockGrant, LockKind, LockOwner, LockRange, LockState,
    LockTicket, MetaError,
};
use std::sync::atomic::Ordering;
use table::{Closing, Job, Key, Unsettled, Wait};

/// Most programs of this mount that may wait for locks; more get ENOLCK.
const WAITS_MAX: usize = 65_536;

/// How often a lock that is in the way is asked for again because files of this mount were being
/// closed meanwhile.
const CLOSE_RACES_MAX: u32 = 8;

/// Answers the program that asked for a lock; may run on any thread.
pub type LockAnswer = Box<dyn FnOnce(Result<(), VfsError>) + Send>;

/// A lock that a program asks for, or gives up.
#[derive(Clone, Copy, Debug)]
pub struct LockRequest {
    /// Of which family.
    pub kind: LockKind,
    /// Whose.
    pub owner: LockOwner,
    /// The open file through which it came.
    pub handle: u64,
    /// What.
    pub range: LockRange,
    /// Not shared.
    pub exclusive: bool,
    /// The process.
    pub pid: u32,
}

/// A server whose memory is full has no room for locks.
fn no_room(error: VfsError) -> VfsError {
    if error.errno() == Errno::ENOSPC { Errno::ENOLCK.into() } else { error }
}

impl Vfs {
    /// Takes a lock and answers: EAGAIN if others are in the way. With `wait`, the frontend's name
    /// for the request, it answers when the lock is granted, or EINTR after
    /// [`Self::interrupt_lock`]; EDEADLK. Holds no thread meanwhile.
    pub fn lock(&self, ino: InodeId, request: &LockRequest, wait: Option<u64>, answer: LockAnswer) {
        let key = (request.kind, request.owner);
        // Others may read once an exclusive lock becomes a shared one.
        if !request.exclusive
            && self.locks.owns(ino, key)
            && let Err(error) = self.flush_locked(ino)
        {
            return answer(Err(error));
        }
        let mut ask = LockAsk {
            kind: request.kind,
            owner: request.owner,
            range: request.range,
            exclusive: request.exclusive,
            pid: request.pid,
            wait: None,
        };
        self.locks.begin(ino, key, Some(request.handle));
        // From now on the owner counts as one who may have locks: nothing more becomes unsettled.
        if self.locks.troubled.load(Ordering::SeqCst) || self.locks.is_unsettled(ino, key) {
            self.settle_locks();
            if self.locks.is_unsettled(ino, key) {
                self.locks.end(ino, key, None);
                return answer(Err(Errno::EIO.into()));
            }
        }
        match wait {
            Some(request) => {
                let ticket = LockTicket(self.locks.next_ticket.fetch_add(1, Ordering::Relaxed));
                ask.wait = Some(ticket);
                let mut table = self.locks.table.lock();
                if table.waits.len() >= WAITS_MAX {
                    drop(table);
                    self.locks.end(ino, key, None);
                    return answer(Err(Errno::ENOLCK.into()));
                }
                // Before the request: the grant may be told before its reply is here.
                table.waits.insert(ticket, Wait { ino, ask, request, answer });
                drop(table);
                self.ask_for(ino, ticket, &ask);
            }
            None => self.try_lock(ino, &ask, answer),
        }
    }

    fn try_lock(&self, ino: InodeId, ask: &LockAsk, answer: LockAnswer) {
        let key = (ask.kind, ask.owner);
        for _ in 0..CLOSE_RACES_MAX {
            let (closing, closes) = self.locks.closing(ino);
            let before = self.changes.before();
            match self.session.lock(ino, ask) {
                Ok(done) => {
                    let LockDone { state, remains, grants } = done;
                    self.pass_grants(grants);
                    self.locks.end(ino, key, Some(remains));
                    return match state {
                        LockState::Granted(attr) => {
                            let fresh = self.changes.none_since(before, ino);
                            self.see_version(ino, attr, fresh, answer);
                        }
                        LockState::Busy | LockState::Waiting => answer(Err(Errno::EAGAIN.into())),
                    };
                }
                // The kernel tells of a last close in its own time: what is in the way may be
                // what a program here has closed already.
                Err(MetaError::Posix(Errno::EAGAIN))
                    if closing || self.locks.closing(ino) != (false, closes) =>
                {
                    self.locks.await_closes(ino);
                }
                Err(error) => {
                    let unsure = !matches!(error, MetaError::Posix(_));
                    if unsure {
                        self.locks.troubled.store(true, Ordering::SeqCst);
                    }
                    self.locks.end(ino, key, unsure.then_some(true));
                    return answer(Err(no_room(error.into())));
                }
            }
        }
        self.locks.end(ino, key, None);
        answer(Err(Errno::EAGAIN.into()));
    }

    /// Puts a wait into the queue, or asks what has become of it.
    fn ask_for(&self, ino: InodeId, ticket: LockTicket, ask: &LockAsk) {
        let before = self.changes.before();
        match self.session.lock(ino, ask) {
            Ok(LockDone { state, grants, .. }) => {
                self.pass_grants(grants);
                if let LockState::Granted(attr) = state {
                    self.wait_granted(ticket, attr, self.changes.none_since(before, ino));
                }
            }
            Err(error) => {
                let Some(wait) = self.locks.take(ticket) else { return };
                let unsure = !matches!(error, MetaError::Posix(_) | MetaError::Fenced);
                if unsure {
                    self.keep_unsettled(ino, (ask.kind, ask.owner), ask.range, Some(ticket));
                }
                self.locks.end(ino, (ask.kind, ask.owner), unsure.then_some(true));
                (wait.answer)(Err(no_room(error.into())));
            }
        }
    }

    /// A lock that a program here waited for is its own. Also called for what others granted.
    pub(crate) fn pass_grant(&self, grant: LockGrant) {
        // Its message comes in order with those about changes, so nothing newer is known.
        self.wait_granted(grant.ticket, grant.attr, true);
    }

    fn pass_grants(&self, grants: Vec<LockGrant>) {
        for grant in grants {
            self.wait_granted(grant.ticket, grant.attr, false);
        }
    }

    fn wait_granted(&self, ticket: LockTicket, attr: Option<Attr>, fresh: bool) {
        // Told twice: by a message and by the reply to a question.
        let Some(wait) = self.locks.take(ticket) else { return };
        self.locks.end(wait.ino, (wait.ask.kind, wait.ask.owner), Some(true));
        self.see_version(wait.ino, attr, fresh, wait.answer);
    }

    /// Drops what is cached of versions before the one at which a lock was granted, and answers.
    fn see_version(&self, ino: InodeId, attr: Option<Attr>, fresh: bool, answer: LockAnswer) {
        let node = self.nodes.get(ino);
        let mut state = node.lock();
        let certain = match attr {
            Some(attr) => {
                state.floor = state.floor.max(attr.ctime);
                if state.attr.is_none_or(|known| known.ctime < attr.ctime) {
                    state.attr = fresh.then_some(attr);
                }
                state.kernel_certain.is_some_and(|version| version >= attr.ctime)
            }
            None => {
                state.forget_committed();
                false
            }
        };
        drop(state);
        if certain {
            return answer(Ok(()));
        }
        let version = attr.map(|attr| attr.ctime);
        if self.locks.jobs.0.send(Job::Answer { ino, version, answer }).is_err() {
            tracing::error!("the thread that answers lock requests is gone");
        }
    }

    /// Gives up locks in a range, after this mount's writes to the file have been committed. Their
    /// failure is reported, and the locks are given up all the same.
    pub fn unlock(&self, ino: InodeId, request: &LockRequest) -> Result<(), VfsError> {
        let key = (request.kind, request.owner);
        if !self.locks.owns(ino, key) {
            return Ok(());
        }
        let flushed = self.flush_locked(ino);
        self.give_up(ino, key, request.range)?;
        flushed
    }

    /// A lock in the way of `request`, if any, and whether this mount has it.
    pub fn test_lock(
        &self,
        ino: InodeId,
        request: &LockRequest,
    ) -> Result<Option<(LockFound, bool)>, VfsError> {
        let ask = LockAsk {
            kind: request.kind,
            owner: request.owner,
            range: request.range,
            exclusive: request.exclusive,
            pid: request.pid,
            wait: None,
        };
        let found = self.session.test_lock(ino, &ask)?;
        Ok(found.map(|found| (found, found.session == self.session.id())))
    }

    /// A descriptor was closed, and its data flushed: the owner's fcntl locks end. No round trip
    /// if it has none.
    pub fn close_locks(&self, ino: InodeId, owner: LockOwner) {
        let key = (LockKind::Posix, owner);
        if self.locks.owns(ino, key) {
            self.end_locks(ino, &[key]);
        }
    }

    /// An open file is gone: the locks that only it could give up end. No round trip if there are
    /// none.
    pub fn release_locks(&self, ino: InodeId, handle: u64, flock: Option<LockOwner>) {
        if self.locks.files.load(Ordering::SeqCst) == 0 {
            return;
        }
        let keys = self.locks.left_behind(ino, handle, flock);
        if !keys.is_empty() {
            self.end_locks(ino, &keys);
        }
    }

    fn end_locks(&self, ino: InodeId, keys: &[Key]) {
        let _closing = Closing::begin(&self.locks, ino);
        if let Err(error) = self.flush_locked(ino) {
            tracing::error!(%ino, %error, "what was written under a lock was lost at its end");
        }
        for key in keys {
            if let Err(error) = self.give_up(ino, *key, LockRange::WHOLE) {
                tracing::warn!(%ino, %error, "locks of a closed file are given up later");
                self.keep_unsettled(ino, *key, LockRange::WHOLE, None);
            }
        }
    }

    fn give_up(&self, ino: InodeId, key: Key, range: LockRange) -> Result<(), VfsError> {
        self.locks.begin(ino, key, None);
        match self.session.unlock(ino, key.0, key.1, range) {
            Ok(done) => {
                self.locks.end(ino, key, Some(done.remains));
                self.pass_grants(done.grants);
                Ok(())
            }
            Err(error) => {
                // Grants to others here may have been in a reply that never came: they ask.
                self.locks.troubled.store(true, Ordering::SeqCst);
                self.locks.end(ino, key, None);
                Err(error.into())
            }
        }
    }

    fn flush_locked(&self, ino: InodeId) -> Result<(), VfsError> {
        match self.nodes.known(ino) {
            Some(node) => self.flush_node(&node),
            None => Ok(()),
        }
    }

    /// The program that waits in `request` got a signal: its wait ends, unless the lock has been
    /// granted meanwhile. Requests that do not wait are ignored.
    pub fn interrupt_lock(&self, request: u64) {
        let found = {
            let table = self.locks.table.lock();
            let wait = table.waits.iter().find(|(_, wait)| wait.request == request);
            wait.map(|(ticket, wait)| (*ticket, wait.ino, wait.ask))
        };
        let Some((ticket, ino, ask)) = found else { return };
        let key = (ask.kind, ask.owner);
        let before = self.changes.before();
        let remains = match self.session.cancel_lock(ino, key.0, key.1, ticket) {
            Ok(LockDone { state: LockState::Granted(attr), grants, .. }) => {
                self.pass_grants(grants);
                return self.wait_granted(ticket, attr, self.changes.none_since(before, ino));
            }
            Ok(done) => {
                self.pass_grants(done.grants);
                done.remains
            }
            Err(error) => {
                tracing::warn!(%ino, %error, "an interrupted wait for a lock is withdrawn later");
                self.keep_unsettled(ino, key, ask.range, Some(ticket));
                true
            }
        };
        if let Some(wait) = self.locks.take(ticket) {
            self.locks.end(ino, key, Some(remains));
            (wait.answer)(Err(Errno::EINTR.into()));
        }
    }

    fn keep_unsettled(&self, ino: InodeId, key: Key, range: LockRange, ticket: Option<LockTicket>) {
        self.locks.table.lock().unsettled.push(Unsettled { ino, key, range, ticket });
        self.locks.troubled.store(true, Ordering::SeqCst);
    }

    /// Tells the server what it could not be told. Called at every heartbeat.
    pub(crate) fn settle_locks(&self) {
        let _one_at_a_time = match self.locks.settling.try_lock() {
            Some(guard) => guard,
            None => {
                ringfs_link::about_to_wait();
                self.locks.settling.lock()
            }
        };
        if !self.locks.troubled.swap(false, Ordering::SeqCst) {
            return;
        }
        self.locks.ask_again();
        let unsettled = self.locks.table.lock().unsettled.clone();
        for one in unsettled {
            let Unsettled { ino, key, range, ticket } = one;
            let withdrawn = match ticket {
                None => Ok(false),
                Some(ticket) => self.session.cancel_lock(ino, key.0, key.1, ticket).map(|done| {
                    self.pass_grants(done.grants);
                    done.state == LockState::Waiting
                }),
            };
            let settled = match withdrawn {
                Ok(true) => Ok(()),
                Ok(false) => self.give_up(ino, key, range),
                Err(error) => Err(error.into()),
            };
            // Fenced: all its locks are gone.
            let is_done = match settled {
                Ok(()) => true,
                Err(VfsError::Meta(cause)) => matches!(*cause, MetaError::Fenced),
                Err(_) => false,
            };
            if is_done {
                self.locks.table.lock().unsettled.retain(|other| *other != one);
            } else {
                self.locks.troubled.store(true, Ordering::SeqCst);
            }
        }
    }

    pub(crate) fn locks_loop(&self) {
        let jobs = self.locks.jobs.1.clone();
        loop {
            let job = select! {
                recv(jobs) -> job => match job {
                    Ok(job) => job,
                    Err(_) => return,
                },
                recv(self.stopped.1) -> _ => return,
            };
            match job {
                Job::Answer { ino, version, answer } => {
                    self.kernel_cache.forget(&KernelChange::Inode(ino));
                    if let Some(node) = self.nodes.known(ino) {
                        let mut state = node.lock();
                        state.kernel_certain = state.kernel_certain.max(version);
                    }
                    answer(Ok(()));
                }
                Job::AskAgain => self.ask_for_all(),
            }
        }
    }

    fn ask_for_all(&self) {
        let waits: Vec<(LockTicket, InodeId, LockAsk)> = {
            let table = self.locks.table.lock();
            table.waits.iter().map(|(ticket, wait)| (*ticket, wait.ino, wait.ask)).collect()
        };
        let mut waits = waits;
        // The order in which they came, should the server have forgotten them.
        waits.sort_unstable_by_key(|(ticket, ..)| *ticket);
        for (ticket, ino, ask) in waits {
            // Those before it may have taken their time.
            if self.locks.is_waiting(ticket) {
                self.ask_for(ino, ticket, &ask);
                self.abandon_if_ended(ino, ticket, &ask);
            }
        }
    }

    /// A wait that has been asked for again may have ended meanwhile (a signal; a grant, given up
    /// since): then nobody here would ever give up what the server has of it now.
    fn abandon_if_ended(&self, ino: InodeId, ticket: LockTicket, ask: &LockAsk) {
        let key = (ask.kind, ask.owner);
        let mut table = self.locks.table.lock();
        let owns = table.owned.get(&ino).is_some_and(|owners| owners.contains_key(&key));
        if !owns && !table.waits.contains_key(&ticket) {
            table.unsettled.push(Unsettled { ino, key, range: ask.range, ticket: Some(ticket) });
            drop(table);
            self.locks.troubled.store(true, Ordering::SeqCst);
        }
    }

    /// Ends all waits when the mount stops.
    pub(crate) fn stop_locks(&self) {
        let waits = std::mem::take(&mut self.locks.table.lock().waits);
        for (_, wait) in waits {
            (wait.answer)(Err(VfsError::Stopped));
        }
    }
}
