//! What can be chosen about a store, as plain data.

use crate::frame::{Codec, SEGMENT_SHIFTS};
use ringfs_link::Timeouts;
use std::time::Duration;

/// Settings of a [`crate::Store`]. The defaults are those of a new volume; see
/// `docs/decisions/0004-block-and-segment-size.md` for the sizes.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Compression of blocks written from now on; blocks say themselves how they were written.
    pub codec: Codec,
    /// Raw bytes of a segment, a power of two from 4 KiB to 1 MiB.
    pub segment_bytes: u32,
    /// A write succeeds when each block has this many copies, if the others are missing because
    /// nodes are dead (never because they are full). 1 or more; more than there are owners counts
    /// as all of them.
    pub min_copies: usize,
    /// Longest waits for a node. `reply` is for one small answer; see [`Self::reply_within`].
    pub timeouts: Timeouts,
    /// Longest time a read waits for the first copy before it asks for another one. Shorter when
    /// the nodes have been answering faster (never below [`HEDGE_MIN`]).
    pub read_hedge: Duration,
}

/// Reads are not hedged sooner than this: a busy server, or a busy machine of ours, is late by
/// some milliseconds now and then, and asking twice would only add to the load.
pub const HEDGE_MIN: Duration = Duration::from_millis(10);

/// Added to the time-out for each MiB that a node must take or give: a gigabit network moves one
/// in 9 ms, and several mounts may share it.
const WAIT_PER_MIB: Duration = Duration::from_millis(40);

impl Default for StoreConfig {
    fn default() -> StoreConfig {
        StoreConfig {
            codec: Codec::default(),
            segment_bytes: 32 << 10,
            min_copies: 1,
            // A write waits once for a frozen owner and then takes a stand-in: this keeps the
            // pause below the promised second.
            timeouts: Timeouts {
                connect: Duration::from_millis(500),
                reply: Duration::from_millis(600),
            },
            read_hedge: Duration::from_millis(50),
        }
    }
}

impl StoreConfig {
    /// The segment size as a power of two, the nearest allowed one.
    pub(crate) fn segment_shift(&self) -> u8 {
        let shift = self.segment_bytes.max(1).ilog2() as u8;
        shift.clamp(*SEGMENT_SHIFTS.start(), *SEGMENT_SHIFTS.end())
    }

    /// How long a node may take for commands and answers of this many bytes.
    pub(crate) fn reply_within(&self, bytes: usize) -> Duration {
        self.timeouts.reply + WAIT_PER_MIB * (bytes >> 20) as u32
    }
}
