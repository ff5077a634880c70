//! The ring of a volume as its table, overlay and nodes say it is, and what keeps a store at it.

use crate::error::ClusterError;
use crate::subject::Subject;
use parking_lot::{Mutex, RwLock};
use ringfs_base::{Epoch, NodeName};
use ringfs_link::{Endpoint, Timeouts};
use ringfs_meta::{MetaError, NodeRecord, RingState, Volume};
use ringfs_ring::{DecodeError, StatusOverlay, Table};
use ringfs_store::{Node, RingPlacement, Store, StoreConfig};
use std::sync::Arc;

/// The ring of a volume as of one moment, decoded.
#[derive(Clone, Debug)]
pub struct Ring {
    /// As the metadata server has it.
    pub state: RingState,
    /// Its table.
    pub table: Arc<Table>,
    /// The tables before, newest first, in which blocks may still be looked for.
    pub former: Vec<Arc<Table>>,
    /// The nodes that are down.
    pub overlay: StatusOverlay,
}

impl Ring {
    /// Reads it.
    ///
    /// # Errors
    /// [`MetaError::Corrupt`] also if the volume was not formatted to the end.
    pub fn read(volume: &Volume) -> Result<Ring, MetaError> {
        Ring::of(volume.ring_state()?)
    }

    fn of(state: RingState) -> Result<Ring, MetaError> {
        if state.table.is_empty() {
            return Err(MetaError::Corrupt(
                "the volume has no ring; it was not formatted to the end: destroy it and format \
                 again"
                    .to_owned(),
            ));
        }
        let damaged = |e: DecodeError| MetaError::Corrupt(format!("the ring cannot be read: {e}"));
        let table = Table::decode(&state.table).map_err(damaged)?;
        if table.epoch() != state.epoch {
            return Err(MetaError::Corrupt(format!(
                "the ring's table is of epoch {} and should be of {}",
                table.epoch(),
                state.epoch
            )));
        }
        let mut former = Vec::new();
        for table in &state.former {
            former.push(Arc::new(Table::decode(table).map_err(damaged)?));
        }
        let overlay = match &state.overlay[..] {
            [] => StatusOverlay::default(),
            encoded => StatusOverlay::decode(encoded).map_err(damaged)?,
        };
        Ok(Ring { table: Arc::new(table), former, overlay, state })
    }

    /// The epoch of its table.
    pub fn epoch(&self) -> Epoch {
        self.state.epoch
    }

    /// The names of its nodes, in the order in which stores number them.
    pub fn names(&self) -> Vec<NodeName> {
        self.state.nodes.iter().map(|node| node.name.clone()).collect()
    }

    /// Where it places blocks.
    pub fn placement(&self) -> RingPlacement {
        RingPlacement::new(self.table.clone(), &self.names(), &self.overlay, &self.former)
    }
}

/// How the address of a node, with its password, is made from its record. The error says what is
/// wrong with the record.
pub type Addresses = Box<dyn Fn(&NodeRecord) -> Result<Endpoint, String> + Send + Sync>;

/// A store that keeps to the ring's state.
pub struct Membership {
    volume: Volume,
    store: Arc<Store>,
    addresses: Addresses,
    current: RwLock<Arc<Ring>>,
    /// Held while the ring is read: one at a time, and nobody who only looks waits for it.
    refreshing: Mutex<()>,
}

impl Membership {
    /// Makes the store, over the nodes of `ring`. Connects to nothing yet.
    ///
    /// # Errors
    /// If the address of a node cannot be read.
    pub fn new(
        volume: Volume,
        ring: Ring,
        config: StoreConfig,
        addresses: Addresses,
    ) -> Result<Membership, MetaError> {
        let nodes = nodes_of(&ring.state.nodes, &addresses)?;
        let record = volume.config();
        let placement = Arc::new(ring.placement());
        let store = Arc::new(Store::new(&record.name, record.uuid, nodes, placement, config));
        Ok(Membership {
            volume,
            store,
            addresses,
            current: RwLock::new(Arc::new(ring)),
            refreshing: Mutex::default(),
        })
    }

    /// The ring that the store works by.
    pub fn ring(&self) -> Arc<Ring> {
        self.current.read().clone()
    }

    /// The store.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The volume.
    pub fn volume(&self) -> &Volume {
        &self.volume
    }

    /// Reads the ring, and gives the store what is new; the ring in force from now on.
    ///
    /// # Errors
    /// When it cannot be read; then the one before stays in force.
    pub fn refresh(&self) -> Result<Arc<Ring>, MetaError> {
        let _alone = self.refreshing.lock();
        let ring = Ring::read(&self.volume)?;
        let current = self.ring();
        if ring.state.version != current.state.version || ring.epoch() != current.epoch() {
            self.store.set_members(self.nodes(&ring)?, Arc::new(ring.placement()));
            let (from, to) = (current.epoch(), ring.epoch());
            if from != to {
                tracing::info!(%from, %to, "the ring has a new table");
                // Copies and nodes are part of the record.
                self.volume.reload()?;
            }
            *self.current.write() = Arc::new(ring);
        }
        Ok(self.ring())
    }

    /// The nodes of a ring with their addresses.
    pub fn nodes(&self, ring: &Ring) -> Result<Vec<Node>, MetaError> {
        nodes_of(&ring.state.nodes, &self.addresses)
    }

    /// The volume for a job, at the ring in force.
    pub fn subject(&self, meta: &Endpoint, timeouts: Timeouts) -> Result<Subject, ClusterError> {
        let ring = self.ring();
        let nodes = self.nodes(&ring)?;
        let placement = Arc::new(ring.placement());
        let (volume, store) = (self.volume.clone(), self.store.clone());
        Ok(Subject::new(volume, meta, timeouts, store, &nodes, placement))
    }
}

fn nodes_of(records: &[NodeRecord], addresses: &Addresses) -> Result<Vec<Node>, MetaError> {
    let node = |record: &NodeRecord| -> Result<Node, MetaError> {
        let endpoint = addresses(record)
            .map_err(|e| MetaError::Corrupt(format!("node {}: {e}", record.name)))?;
        Ok(Node { name: record.name.clone(), endpoint })
    };
    records.iter().map(node).collect()
}
