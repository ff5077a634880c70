//! Removes the blocks of slices that no file has any more, in the background.
//!
//! What is lost here (a crash, a dead server) is garbage that `ringfs gc` finds; so removal may
//! fail, but it must never block those who free.

use crate::node::blocks_of;
use crossbeam_channel::{Sender, bounded};
use parking_lot::Mutex;
use ringfs_base::BlockId;
use ringfs_meta::ExtentRecord;
use ringfs_store::Store;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Batches that may wait; past that those who free do the removal themselves.
const QUEUE_BATCHES_MAX: usize = 4096;

/// Blocks removed at once.
const BATCH_BLOCKS: usize = 256;

pub(crate) struct Collector {
    queue: Mutex<Option<Sender<Vec<ExtentRecord>>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    store: Arc<Store>,
}

impl Collector {
    pub(crate) fn start(store: Arc<Store>) -> Collector {
        let (queue, batches) = bounded::<Vec<ExtentRecord>>(QUEUE_BATCHES_MAX);
        let worker_store = store.clone();
        let thread = crate::spawn("collect", move || {
            for records in batches {
                remove(&worker_store, &records);
            }
        });
        Collector { queue: Mutex::new(Some(queue)), thread: Mutex::new(Some(thread)), store }
    }

    /// Removes every block of the slices that the records name.
    pub(crate) fn collect(&self, records: Vec<ExtentRecord>) {
        if records.iter().all(ExtentRecord::is_hole) {
            return;
        }
        let refused = match &*self.queue.lock() {
            Some(queue) => queue.try_send(records).err().map(|full| full.into_inner()),
            None => Some(records),
        };
        if let Some(records) = refused {
            remove(&self.store, &records);
        }
    }

    /// Finishes what is queued.
    pub(crate) fn stop(&self) {
        *self.queue.lock() = None;
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the collector panicked");
        }
    }
}

fn remove(store: &Store, records: &[ExtentRecord]) {
    let mut slices: Vec<&ExtentRecord> = records.iter().filter(|r| !r.is_hole()).collect();
    slices.sort_unstable_by_key(|r| r.slice);
    slices.dedup_by_key(|r| r.slice);
    let blocks: Vec<BlockId> = slices.into_iter().flat_map(blocks_of).collect();
    for batch in blocks.chunks(BATCH_BLOCKS) {
        store.remove(batch);
    }
}
