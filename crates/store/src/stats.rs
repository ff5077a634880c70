//! Counters of a store: their names, units and meaning, in this one place.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        /// The counters as they stood at one moment; each only ever grows.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct Stats { $($(#[$doc])* pub $name: u64,)* }

        #[derive(Default)]
        pub(crate) struct Counters { $(pub(crate) $name: Counter,)* }

        impl Counters {
            pub(crate) fn snapshot(&self) -> Stats {
                Stats { $($name: self.$name.0.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Blocks written (once each, however many copies).
    blocks_written;
    /// Raw bytes written.
    bytes_written;
    /// Bytes of frames sent to nodes: compressed, and once for each copy.
    bytes_sent;
    /// Copies written to a stand-in instead of an owner.
    copies_on_stand_ins;
    /// Copies that no node could take when their block was written.
    copies_short;
    /// Blocks read, whole or in part.
    blocks_read;
    /// Raw bytes read.
    bytes_read;
    /// Bytes of frames received from nodes for reads.
    bytes_received;
    /// Reads that the first node asked could not serve.
    fall_overs;
    /// Second nodes asked because the first was late.
    hedges;
    /// Hedges in which the second node answered first.
    hedges_won;
    /// Copies found bad: checksum, length, identity.
    bad_copies;
    /// Copies found missing on an owner.
    missing_copies;
    /// Copies put right: written to an owner that missed it or had it bad.
    copies_repaired;
    /// Copies taken from nodes that need not hold them any more.
    copies_dropped;
    /// Repairs that failed, or were not begun because the queue was full; scrubbing finds them.
    repairs_failed;
    /// Copies that could not be removed; garbage collection finds them.
    removals_failed;
}

/// One counter.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: usize) {
        // Nothing is ordered by these.
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }
}
