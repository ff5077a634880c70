//! A descriptor that a thread watches besides, whenever it waits for a server.
//!
//! A thread that serves requests of its own (the FUSE reader) sets one. While it then waits for
//! a reply and a request comes in, the bystander is told at once, and can let another thread
//! take over: a slow server never holds up what does not need it, and a quick one costs no
//! second thread.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::BorrowedFd;
use std::cell::RefCell;
use std::rc::Rc;

/// What a thread watches besides.
pub trait Bystander {
    /// The descriptor; `None` while there is nothing to watch for.
    fn watched(&self) -> Option<BorrowedFd<'_>>;
    /// The descriptor became readable, or this thread is about to wait for something that is no
    /// descriptor. After this [`Self::watched`] may answer `None`.
    fn ready(&self);
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<dyn Bystander>>> = const { RefCell::new(None) };
}

/// Sets what the calling thread watches from now on.
pub fn set_bystander(bystander: Rc<dyn Bystander>) {
    CURRENT.with(|current| *current.borrow_mut() = Some(bystander));
}

/// The calling thread is about to wait for something else than a server, such as another thread.
pub fn about_to_wait() {
    if let Some(bystander) = current() {
        bystander.ready();
    }
}

/// The calling thread is about to compute for a while: if something waits at the bystander's
/// descriptor, others take over.
pub fn about_to_work() {
    let Some(bystander) = current() else { return };
    let waiting = bystander.watched().is_some_and(|fd| {
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1))
    });
    if waiting {
        bystander.ready();
    }
}

/// The bystander of this thread, if it watches anything now.
pub(crate) fn current() -> Option<Rc<dyn Bystander>> {
    let found = CURRENT.with(|current| current.borrow().clone())?;
    found.watched().is_some().then_some(found)
}

/// The entry for the bystander's descriptor among others that are polled.
pub(crate) fn slot(bystander: &dyn Bystander) -> Option<PollFd<'_>> {
    Some(PollFd::from_borrowed_fd(bystander.watched()?, PollFlags::IN))
}
