//! Sends full blocks to the block servers in the background.
//!
//! A few threads take sealed blocks from a bounded queue; each writes one block to its R servers
//! at once. Whoever needs a block to have arrived (a flush) waits on its [`Upload`]; whoever
//! reads it meanwhile copies from it.

use crate::VfsError;
use crate::budget::Budget;
use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::{Condvar, Mutex};
use ringfs_base::BlockId;
use ringfs_store::Store;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Blocks that may wait for a thread. The budget bounds the bytes; this bounds the queue.
const QUEUE_BLOCKS_MAX: usize = 64;

/// Longest wait for a queued block, whatever the store does.
const SETTLE_WAIT_MAX: Duration = Duration::from_secs(120);

enum State {
    Waiting(Arc<Vec<u8>>),
    Done,
    Failed(VfsError, Arc<Vec<u8>>),
}

/// A block on its way to the block servers.
pub(crate) struct Upload {
    pub(crate) block: BlockId,
    state: Mutex<State>,
    arrived: Condvar,
    len: usize,
    budget: Arc<Budget>,
}

impl Upload {
    fn new(block: BlockId, bytes: Vec<u8>, budget: Arc<Budget>) -> Upload {
        let len = bytes.len();
        let state = Mutex::new(State::Waiting(Arc::new(bytes)));
        Upload { block, state, arrived: Condvar::new(), len, budget }
    }

    /// The bytes, unless they have arrived and are to be read from there.
    pub(crate) fn bytes(&self) -> Option<Arc<Vec<u8>>> {
        match &*self.state.lock() {
            State::Waiting(bytes) | State::Failed(_, bytes) => Some(bytes.clone()),
            State::Done => None,
        }
    }

    /// Waits until the block has arrived; one that failed is sent once more from here. The
    /// store bounds how long that takes.
    pub(crate) fn wait_or_retry(&self, store: &Store) -> Result<(), VfsError> {
        self.settled()?;
        if matches!(&*self.state.lock(), State::Failed(..)) {
            self.run(store);
        }
        match &*self.state.lock() {
            State::Failed(error, _) => Err(error.clone()),
            State::Waiting(_) | State::Done => Ok(()),
        }
    }

    fn settled(&self) -> Result<(), VfsError> {
        let deadline = Instant::now() + SETTLE_WAIT_MAX;
        let mut state = self.state.lock();
        if matches!(&*state, State::Waiting(_)) {
            ringfs_link::about_to_wait();
        }
        while matches!(&*state, State::Waiting(_)) {
            if self.arrived.wait_until(&mut state, deadline).timed_out() {
                return Err(VfsError::BufferFull);
            }
        }
        Ok(())
    }

    fn run(&self, store: &Store) {
        let Some(bytes) = self.bytes() else { return };
        let result = store.write(&[(self.block, bytes.as_slice())]);
        let next = match result {
            Ok(_) => {
                self.budget.give_back(self.len);
                State::Done
            }
            Err(error) => State::Failed(VfsError::from(error), bytes),
        };
        *self.state.lock() = next;
        self.arrived.notify_all();
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !matches!(*self.state.get_mut(), State::Done) {
            self.budget.give_back(self.len);
        }
    }
}

/// The threads that send blocks.
pub(crate) struct Uploader {
    queue: Option<Sender<Arc<Upload>>>,
    threads: Vec<JoinHandle<()>>,
    budget: Arc<Budget>,
}

impl Uploader {
    pub(crate) fn start(store: Arc<Store>, budget: Arc<Budget>, threads: usize) -> Uploader {
        let (queue, jobs): (_, Receiver<Arc<Upload>>) = bounded(QUEUE_BLOCKS_MAX);
        let threads = (0..threads.max(1))
            .map(|_| {
                let (jobs, store) = (jobs.clone(), store.clone());
                crate::spawn("upload", move || jobs.iter().for_each(|job| job.run(&store)))
            })
            .collect();
        Uploader { queue: Some(queue), threads, budget }
    }

    /// Queues a full block, whose bytes have been taken from the budget.
    pub(crate) fn send(&self, block: BlockId, bytes: Vec<u8>) -> Arc<Upload> {
        let upload = Arc::new(Upload::new(block, bytes, self.budget.clone()));
        if let Some(queue) = &self.queue {
            let sent = queue.try_send(upload.clone()).or_else(|full| {
                ringfs_link::about_to_wait();
                queue.send(full.into_inner())
            });
            // Fails only when every thread is gone; wait() would then hang, so say it here.
            if sent.is_err() {
                let bytes = upload.bytes().unwrap_or_else(|| Arc::new(Vec::new()));
                *upload.state.lock() = State::Failed(VfsError::Stopped, bytes);
            }
        }
        upload
    }

    /// As [`Self::send`], from this thread and for bytes that the budget does not count.
    pub(crate) fn send_now(&self, store: &Store, block: BlockId, bytes: Vec<u8>) -> Arc<Upload> {
        let uncounted = Arc::new(Budget::new(usize::MAX));
        let upload = Arc::new(Upload::new(block, bytes, uncounted));
        upload.run(store);
        upload
    }
}

impl Drop for Uploader {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("an upload thread panicked");
            }
        }
    }
}
