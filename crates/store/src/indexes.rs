//! The headers of blocks read lately, so that a part of one is fetched with one plain GETRANGE.
//!
//! A script on the node finds the range too, but costs the node several times the CPU: it carries
//! the segment through Lua. A remembered header is only a hint about where to look: every byte that
//! comes back is verified against it, and when that fails the header is fetched anew. Blocks never
//! change, so that happens only when a copy was written with other settings, or is damaged.

use crate::frame::Header;
use quick_cache::{Weighter, sync::Cache};
use ringfs_base::BlockId;
use std::sync::Arc;

/// Memory for headers, in bytes: those of some 25 GiB of blocks.
const BYTES_MAX: u64 = 16 << 20;

/// About what one entry takes besides its index, in bytes.
const ENTRY_BYTES: u64 = 192;

#[derive(Clone)]
struct ByBytes;

impl Weighter<BlockId, Arc<Header>> for ByBytes {
    fn weight(&self, _: &BlockId, header: &Arc<Header>) -> u64 {
        ENTRY_BYTES + header.index_bytes() as u64
    }
}

/// Headers by block.
pub(crate) struct Indexes(Cache<BlockId, Arc<Header>, ByBytes>);

impl Indexes {
    pub(crate) fn new() -> Indexes {
        let expected = BYTES_MAX / (ENTRY_BYTES + 512);
        Indexes(Cache::with_weighter(expected as usize, BYTES_MAX, ByBytes))
    }

    /// The block's header, if it is remembered and of this raw length.
    pub(crate) fn find(&self, block: BlockId, raw_len: u32) -> Option<Arc<Header>> {
        self.0.get(&block).filter(|header| header.raw_len() == raw_len)
    }

    pub(crate) fn remember(&self, block: BlockId, header: &Arc<Header>) {
        self.0.insert(block, Arc::clone(header));
    }

    pub(crate) fn forget(&self, block: BlockId) {
        self.0.remove(&block);
    }
}
