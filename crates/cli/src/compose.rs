//! The composition root: from a URL to a volume, its ring, its nodes and a store over them.

use crate::credentials::Credentials;
use crate::failure::{Exit, Failure, from_link};
use crate::output::Surroundings;
use crate::volume_url::VolumeUrl;
use parking_lot::Mutex;
use ringfs_base::{Epoch, NodeName};
use ringfs_cluster::{ClusterError, Subject};
use ringfs_link::Endpoint;
use ringfs_meta::{MetaError, Session, Volume, VolumeConfig};
use ringfs_ring::{StatusOverlay, Table};
use ringfs_store::{Node, RingPlacement, Store, StoreConfig};
use ringfs_vfs::{Placements, VfsError};
use std::sync::Arc;
use std::time::Duration;

/// How long a tool repeats an operation while the metadata server does not answer. A mount has more
/// patience: its programs should not notice a restart.
const TOOL_PATIENCE: Duration = Duration::from_secs(2);

/// Attempts to read the ring's table and the list of nodes at one epoch.
const READ_ATTEMPTS: usize = 5;

/// A volume that was opened, with its ring.
pub struct OpenVolume {
    /// Where its metadata are.
    pub endpoint: Endpoint,
    /// The volume.
    pub volume: Volume,
    /// Its record, nodes included.
    pub config: Arc<VolumeConfig>,
    /// Its ring.
    pub table: Arc<Table>,
}

/// The volume's nodes with a store over them.
pub struct Blocks {
    /// The nodes, in the store's order.
    pub nodes: Vec<Node>,
    /// Where blocks are.
    pub placement: Arc<RingPlacement>,
    /// The store.
    pub store: Arc<Store>,
}

/// How patient whoever opens a volume is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// A tool: somebody waits for its answer.
    Tool,
    /// A mount: its programs wait rather than fail.
    Mount,
}

/// Opens a volume and reads its ring.
pub fn open(
    url: &VolumeUrl,
    surroundings: &Surroundings,
    patience: Patience,
) -> Result<OpenVolume, Failure> {
    // One attempt by itself first: whoever gives a wrong address should not wait for retries.
    ringfs_link::Conn::open(&url.endpoint, &surroundings.timeouts)?;
    let (endpoint, timeouts, name) = (&url.endpoint, surroundings.timeouts, &url.volume);
    let volume = match patience {
        Patience::Tool => Volume::open_with_patience(endpoint, timeouts, name, TOOL_PATIENCE),
        Patience::Mount => Volume::open(endpoint, timeouts, name),
    }?;
    let (table, config) = read_ring(&volume)?;
    Ok(OpenVolume { endpoint: url.endpoint.clone(), volume, config, table })
}

impl OpenVolume {
    /// The nodes with their passwords, and a store over them. Connects to nothing yet.
    pub fn blocks(&self, credentials: &Credentials) -> Result<Blocks, Failure> {
        let nodes = nodes_of(&self.config, credentials)?;
        let placement = Arc::new(placement(&self.table, &nodes, None));
        let store = Store::new(
            &self.config.name,
            self.config.uuid,
            nodes.clone(),
            placement.clone(),
            store_config(&self.config),
        );
        Ok(Blocks { nodes, placement, store: Arc::new(store) })
    }

    /// The volume as the jobs of `ringfs-cluster` want it.
    pub fn subject(&self, surroundings: &Surroundings) -> Result<Subject, Failure> {
        let blocks = self.blocks(&surroundings.credentials)?;
        Ok(Subject::new(
            self.volume.clone(),
            &self.endpoint,
            surroundings.timeouts,
            blocks.store,
            &blocks.nodes,
            blocks.placement,
        ))
    }

    /// What keeps a mount's store at the ring's epoch.
    pub fn placements(&self, credentials: Credentials) -> RingPlacements {
        RingPlacements { credentials, table: Mutex::new(self.table.clone()) }
    }
}

/// Table and nodes of the same epoch: they are two reads, and a change may come between them.
fn read_ring(volume: &Volume) -> Result<(Arc<Table>, Arc<VolumeConfig>), MetaError> {
    for _ in 0..READ_ATTEMPTS {
        let (epoch, encoded) = volume.ring()?;
        if encoded.is_empty() {
            return Err(MetaError::Corrupt(
                "the volume has no ring; it was not formatted to the end: destroy it and format \
                 again"
                    .to_owned(),
            ));
        }
        let config = volume.reload()?;
        if volume.ring()?.0 != epoch {
            continue;
        }
        let table = Table::decode(&encoded)
            .map_err(|e| MetaError::Corrupt(format!("the ring's table cannot be read: {e}")))?;
        if table.epoch() != epoch {
            return Err(MetaError::Corrupt(format!(
                "the ring's table is of epoch {} and should be of {epoch}",
                table.epoch()
            )));
        }
        return Ok((Arc::new(table), config));
    }
    Err(MetaError::Corrupt("the ring changes faster than it can be read".to_owned()))
}

fn nodes_of(config: &VolumeConfig, credentials: &Credentials) -> Result<Vec<Node>, Failure> {
    let node = |record: &ringfs_meta::NodeRecord| -> Result<Node, Failure> {
        let about = |failure: Failure| failure.about(format_args!("node {}", record.name));
        let endpoint = Endpoint::parse(&record.url).map_err(Failure::from).map_err(about)?;
        let endpoint = credentials.for_node(&record.name, endpoint).map_err(about)?;
        Ok(Node { name: record.name.clone(), endpoint })
    };
    config.nodes.iter().map(node).collect()
}

fn placement(table: &Arc<Table>, nodes: &[Node], before: Option<Arc<Table>>) -> RingPlacement {
    let names: Vec<NodeName> = nodes.iter().map(|node| node.name.clone()).collect();
    RingPlacement::new(table.clone(), &names, &StatusOverlay::default(), before)
}

fn store_config(config: &VolumeConfig) -> StoreConfig {
    StoreConfig {
        codec: match config.codec {
            ringfs_meta::Codec::None => ringfs_store::Codec::None,
            ringfs_meta::Codec::Lz4 => ringfs_store::Codec::Lz4,
            ringfs_meta::Codec::Zstd => ringfs_store::Codec::Zstd,
        },
        segment_bytes: config.segment_bytes,
        ..StoreConfig::default()
    }
}

/// Keeps a store at the ring's epoch. Blocks that a new table places elsewhere are also looked for
/// where the table before had them, because they may not have been moved yet.
pub struct RingPlacements {
    credentials: Credentials,
    table: Mutex<Arc<Table>>,
}

impl Placements for RingPlacements {
    fn epoch(&self) -> Epoch {
        self.table.lock().epoch()
    }

    fn refresh(&self, session: &Session, store: &Store, now: Epoch) -> Result<Epoch, VfsError> {
        let mut current = self.table.lock();
        if current.epoch() == now {
            return Ok(now);
        }
        let (table, config) = read_ring(session.volume())?;
        let nodes = nodes_of(&config, &self.credentials)
            .map_err(|failure| MetaError::Corrupt(failure.message))?;
        let placement = placement(&table, &nodes, Some(current.clone()));
        store.set_members(nodes, Arc::new(placement));
        tracing::info!(from = %current.epoch(), to = %table.epoch(), "the ring has a new table");
        *current = table;
        Ok(current.epoch())
    }
}

impl From<MetaError> for Failure {
    fn from(error: MetaError) -> Failure {
        let text = error.to_string();
        match error {
            MetaError::Unavailable(cause) => from_link(&cause),
            MetaError::VolumeExists { .. } => Failure::refused(format!(
                "{text}; choose another name, or remove it first with `ringfs destroy`"
            )),
            MetaError::NewerFormat { .. } => {
                Failure::refused(format!("{text}; nothing was changed"))
            }
            MetaError::NoSuchVolume { .. } => Failure::new(
                Exit::Failure,
                format!("{text}, or see which there are with `ringfs volumes`"),
            ),
            MetaError::Corrupt(_) => Failure::plain(text),
            MetaError::Posix(_)
            | MetaError::Fenced
            | MetaError::Lost(_)
            | MetaError::RingConflict { .. } => Failure::plain(text),
        }
    }
}

impl From<ClusterError> for Failure {
    fn from(error: ClusterError) -> Failure {
        match error {
            ClusterError::Meta(cause) => cause.into(),
            ClusterError::Link(cause) => from_link(&cause),
            ClusterError::InUse { .. } => Failure::refused(error.to_string()),
            other => Failure::plain(other.to_string()),
        }
    }
}

impl From<VfsError> for Failure {
    fn from(error: VfsError) -> Failure {
        Failure::plain(error.to_string())
    }
}
