//! Blocks of file data on a ring of Redis servers.
//!
//! A block is a run of up to a megabyte that never changes. It is stored as one frame ([`frame`]:
//! cut into segments, each compressed and checksummed alone) under one key on each of its R owners,
//! which a [`Placement`] names. This crate moves blocks and keeps their copies right; which file
//! they belong to is not its business.
//!
//! - *Write* (`write`, with the pure `tracker`): all copies of all blocks go out at once from the
//!   calling thread; a copy that a node could not take goes to the next stand-in.
//! - *Read* (`read`, with `want` and the pure `plan` and `hedge`): only the segments touched, from one
//!   copy; from the next as soon as that one is missing, bad, failed or late. `indexes` remembers
//!   where segments are. `read_many` pipelines.
//! - *Fill* (`fill`): many blocks from where they are to where they belong, for when servers come and
//!   go.
//! - *Repair* (`repair`, and `mender`, the one background thread): probes nodes in doubt so that no
//!   caller waits for them, and rewrites copies that were found missing or bad.
//!
//! Everything blocks the calling thread; every wait has an end. No operation is repeated that is
//! not safe to repeat: blocks never change, so all of them are.
#![forbid(unsafe_code)]

mod admin;
mod config;
mod error;
mod exchange;
mod fill;
pub mod frame;
mod hedge;
mod indexes;
mod keys;
mod mender;
mod node;
mod placement;
mod plan;
mod read;
mod read_many;
mod repair;
mod ring_placement;
mod stats;
mod tracker;
mod want;
mod write;

pub use admin::{NodeMemory, NodeStatus, Removed};
pub use config::{HEDGE_MIN, StoreConfig};
pub use error::{ErrorKind, StoreError};
pub use fill::{Fill, Filled};
pub use frame::{Codec, Damage};
pub use node::Node;
pub use placement::{NodeIndex, Placement, Rendezvous};
pub use read_many::ReadReq;
pub use repair::{Copy, CopyState, Depth, Repaired, Scope, Surplus};
pub use ring_placement::RingPlacement;
pub use stats::Stats;
pub use write::Written;

use bytes::Bytes;
use frame::Identity;
use node::{Peer, View};
use parking_lot::RwLock;
use ringfs_base::{BlockId, Epoch, VolumeName, VolumeUuid};
use ringfs_link::LinkError;
use std::sync::Arc;
use std::thread::JoinHandle;

/// The block store of one volume, used by any number of threads at once.
pub struct Store {
    shared: Arc<Shared>,
    mender: Option<JoinHandle<()>>,
}

/// What the callers' threads and the mender share.
pub(crate) struct Shared {
    volume: VolumeUuid,
    keys: keys::Keys,
    config: StoreConfig,
    view: RwLock<Arc<View>>,
    counters: stats::Counters,
    hedge: hedge::Hedge,
    indexes: indexes::Indexes,
    mender: mender::Mender,
    /// Differs between mounts, so that they spread their reads over the copies differently.
    seed: u64,
}

impl Shared {
    fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read())
    }

    fn identity(&self, block: BlockId) -> Identity {
        Identity { volume: self.volume, block }
    }
}

impl Store {
    /// A store over `nodes`, which `placement` numbers by their place in the list. Connects to
    /// nothing yet.
    pub fn new(
        volume: &VolumeName,
        uuid: VolumeUuid,
        nodes: Vec<Node>,
        placement: Arc<dyn Placement>,
        config: StoreConfig,
    ) -> Store {
        let peers =
            nodes.into_iter().map(|node| Arc::new(Peer::new(node, config.timeouts))).collect();
        let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let started = started.map_or(0, |since| since.as_nanos() as u64);
        let shared = Arc::new(Shared {
            volume: uuid,
            keys: keys::Keys::new(volume),
            hedge: hedge::Hedge::new(config.read_hedge),
            indexes: indexes::Indexes::new(),
            config,
            view: RwLock::new(Arc::new(View { peers, placement })),
            counters: stats::Counters::default(),
            mender: mender::Mender::new(),
            seed: placement::mix(started ^ u64::from(std::process::id())),
        });
        let mender = mender::start(&shared);
        Store { shared, mender }
    }

    /// Stores blocks of 1 byte to 4 MiB, each on all its owners, all at once. A node that fails or
    /// is full is replaced by a stand-in within this call. May be repeated with the same blocks.
    ///
    /// # Errors
    /// [`StoreError::Full`] if a block lacks a copy because memory ran out; then nothing of the call
    /// remains stored. [`StoreError::Unavailable`] if a block has fewer than `min_copies`; then
    /// copies may remain, to be overwritten by a repetition or found by garbage collection.
    pub fn write(&self, blocks: &[(BlockId, &[u8])]) -> Result<Written, StoreError> {
        write::write(&self.shared, blocks)
    }

    /// Reads the bytes from `offset` on into all of `out`. `raw_len` is the block's length in bytes
    /// as the extents have it; a copy of another length counts as bad.
    ///
    /// # Errors
    /// When no good copy can be had: see [`StoreError`]. `out` may have been partly written.
    pub fn read(
        &self,
        id: BlockId,
        raw_len: u32,
        offset: u32,
        out: &mut [u8],
    ) -> Result<(), StoreError> {
        let want = want::Want::new(&self.shared, id, raw_len, offset, out.len())?;
        read::read(&self.shared, &want, &mut want::Out::Into(out))
    }

    /// Reads a whole block. Like [`Self::read`], but what is stored raw is not copied.
    pub fn read_block(&self, id: BlockId, raw_len: u32) -> Result<Bytes, StoreError> {
        let len = raw_len as usize;
        let want = want::Want::new(&self.shared, id, raw_len, 0, len)?;
        let mut bytes = Bytes::new();
        read::read(&self.shared, &want, &mut want::Out::Own(&mut bytes, len))?;
        Ok(bytes)
    }

    /// Reads many ranges, pipelined over the nodes. Fails as a whole with the first range that
    /// cannot be read.
    pub fn read_many(&self, requests: &mut [ReadReq<'_>]) -> Result<(), StoreError> {
        read_many::read_many(&self.shared, requests)
    }

    /// Removes all copies of blocks that nobody refers to any more. Never fails: what could not be
    /// removed is counted, and left to garbage collection.
    pub fn remove(&self, ids: &[BlockId]) -> Removed {
        admin::remove(&self.shared, ids)
    }

    /// Looks at the copies of one block, the owners' first.
    pub fn check(&self, id: BlockId, depth: Depth, scope: Scope) -> Vec<Copy> {
        self.check_many(&[id], depth, scope).pop().unwrap_or_default()
    }

    /// Looks at the copies of many blocks, pipelined: one list for each block, in their order.
    pub fn check_many(&self, ids: &[BlockId], depth: Depth, scope: Scope) -> Vec<Vec<Copy>> {
        repair::check_many(&self.shared, ids, depth, scope)
    }

    /// Looks at the copies that the nodes named with each block have, pipelined.
    pub fn check_on(&self, asks: &[(BlockId, Vec<NodeIndex>)], depth: Depth) -> Vec<Vec<Copy>> {
        repair::check_on(&self.shared, asks, depth)
    }

    /// Copies many blocks at once from nodes that have them to nodes that should, verified before
    /// they are written and read back afterwards: one result for each block, in their order. All of
    /// them are in memory at the same time.
    pub fn fill(&self, blocks: &[Fill]) -> Vec<Filled> {
        fill::fill(&self.shared, blocks)
    }

    /// Makes every owner that can be reached hold a good copy.
    ///
    /// # Errors
    /// When there is no good copy anywhere: [`StoreError::Missing`], [`StoreError::Corrupt`], or
    /// [`StoreError::Unavailable`] if a node that was not reached might have one.
    pub fn repair(&self, id: BlockId, surplus: Surplus) -> Result<Repaired, StoreError> {
        repair::repair(&self.shared, id, surplus)
    }

    /// One step through the blocks that a node holds: begin with cursor 0, go on with the returned
    /// one until it is 0. A block may come twice, and one that is written or removed meanwhile may
    /// or may not come.
    pub fn list(&self, node: NodeIndex, cursor: u64) -> Result<(u64, Vec<BlockId>), LinkError> {
        admin::list(&self.shared, node, cursor)
    }

    /// How the nodes are, in their order. Asks each for its memory; waits for none in doubt.
    pub fn nodes(&self) -> Vec<NodeStatus> {
        admin::status(&self.shared)
    }

    /// From now on blocks are placed by another table over the same nodes. Operations under way
    /// end under the old one.
    pub fn set_placement(&self, placement: Arc<dyn Placement>) {
        let mut view = self.shared.view.write();
        let peers = view.peers.clone();
        *view = Arc::new(View { peers, placement });
    }

    /// From now on there are other nodes, and a table that numbers them. A node whose name and
    /// address stay keeps its connections and what is known about it.
    pub fn set_members(&self, nodes: Vec<Node>, placement: Arc<dyn Placement>) {
        let mut view = self.shared.view.write();
        let peers = nodes
            .into_iter()
            .map(|node| {
                let known = view.peers.iter().find(|peer| peer.node.is_same(&node));
                known
                    .cloned()
                    .unwrap_or_else(|| Arc::new(Peer::new(node, self.shared.config.timeouts)))
            })
            .collect();
        *view = Arc::new(View { peers, placement });
    }

    /// The epoch of the table in force.
    pub fn epoch(&self) -> Epoch {
        self.shared.view().placement.epoch()
    }

    /// The settings.
    pub fn config(&self) -> &StoreConfig {
        &self.shared.config
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        let mut stats = self.shared.counters.snapshot();
        stats.repairs_failed += self.shared.mender.dropped();
        stats
    }

    /// Repairs that this store has found necessary and not done yet.
    pub fn repairs_outstanding(&self) -> u64 {
        self.shared.mender.outstanding()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.shared.mender.stop();
        if let Some(mender) = self.mender.take() {
            // Ends after the node it is waiting for, at the latest after that node's time-outs.
            if mender.join().is_err() {
                tracing::error!("the thread that repairs blocks has panicked");
            }
        }
    }
}
