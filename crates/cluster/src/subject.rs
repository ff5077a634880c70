//! The volume that a job works on, with all the ways to its parts.

use crate::nodes::NodeLink;
use crate::shards::Shards;
use ringfs_base::{BlockId, SliceId};
use ringfs_link::{Endpoint, Timeouts};
use ringfs_meta::Volume;
use ringfs_store::{Node, NodeIndex, Placement, Store};
use std::sync::Arc;

/// A volume, its metadata keys, its store and its nodes. Cheap to clone.
#[derive(Clone)]
pub struct Subject {
    pub(crate) volume: Volume,
    pub(crate) shards: Shards,
    pub(crate) store: Arc<Store>,
    pub(crate) placement: Arc<dyn Placement>,
    pub(crate) nodes: Arc<Vec<NodeLink>>,
}

impl Subject {
    /// `endpoint` is that of the metadata; `nodes` and `placement` are the very ones that `store`
    /// was made with.
    pub fn new(
        volume: Volume,
        endpoint: &Endpoint,
        timeouts: Timeouts,
        store: Arc<Store>,
        nodes: &[Node],
        placement: Arc<dyn Placement>,
    ) -> Subject {
        let name = volume.config().name.clone();
        let links = nodes.iter().map(|node| NodeLink::new(node, &name, timeouts)).collect();
        Subject {
            shards: Shards::new(endpoint, timeouts, &name),
            volume,
            store,
            placement,
            nodes: Arc::new(links),
        }
    }

    /// The volume.
    pub fn volume(&self) -> &Volume {
        &self.volume
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn node_indices(&self) -> impl Iterator<Item = NodeIndex> + use<> {
        (0..self.nodes.len()).map(NodeIndex)
    }

    pub(crate) fn node_name(&self, node: NodeIndex) -> String {
        match self.nodes.get(node.0) {
            Some(link) => link.node.name.to_string(),
            None => format!("number {}", node.0),
        }
    }

    /// Blocks of a slice of `len` bytes.
    pub(crate) fn blocks_in(&self, len: u32) -> u32 {
        len.div_ceil(self.volume.config().block_bytes.max(1))
    }
}

/// The blocks of a slice.
pub(crate) fn blocks_of(slice: SliceId, count: u32) -> impl Iterator<Item = BlockId> {
    (0..count).map(move |index| BlockId { slice, index })
}
