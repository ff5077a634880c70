//! The composition root: from a URL to a volume, its ring, its nodes and a store over them.

use crate::credentials::Credentials;
use crate::failure::{Exit, Failure, from_link};
use crate::output::Surroundings;
use crate::volume_url::VolumeUrl;
use ringfs_base::Epoch;
use ringfs_cluster::{Addresses, ClusterError, Membership, Ring, Subject};
use ringfs_link::Endpoint;
use ringfs_meta::{MetaError, Session, Volume, VolumeConfig};
use ringfs_store::{Store, StoreConfig};
use ringfs_vfs::{Placements, VfsError};
use std::sync::Arc;
use std::time::Duration;

/// How long a tool repeats an operation while the metadata server does not answer. A mount has more
/// patience: its programs should not notice a restart.
const TOOL_PATIENCE: Duration = Duration::from_secs(2);

/// A volume that was opened, with its ring.
pub struct OpenVolume {
    /// Where its metadata are.
    pub endpoint: Endpoint,
    /// The volume.
    pub volume: Volume,
    /// Its record.
    pub config: Arc<VolumeConfig>,
    /// Its ring.
    pub ring: Ring,
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
    let ring = Ring::read(&volume)?;
    let config = volume.config();
    Ok(OpenVolume { endpoint: url.endpoint.clone(), volume, config, ring })
}

impl OpenVolume {
    /// A store over the volume's nodes, with their passwords, and what keeps it at the ring's state.
    /// Connects to nothing yet.
    pub fn membership(&self, surroundings: &Surroundings) -> Result<Arc<Membership>, Failure> {
        let addresses = addresses(surroundings.credentials.clone());
        let (volume, ring) = (self.volume.clone(), self.ring.clone());
        Ok(Arc::new(Membership::new(volume, ring, store_config(&self.config), addresses)?))
    }

    /// The volume as the jobs of `ringfs-cluster` want it.
    pub fn subject(&self, surroundings: &Surroundings) -> Result<Subject, Failure> {
        let membership = self.membership(surroundings)?;
        Ok(membership.subject(&self.endpoint, surroundings.timeouts)?)
    }
}

/// How the record of a node becomes an address with its password.
fn addresses(credentials: Credentials) -> Addresses {
    Box::new(move |record| {
        let endpoint = Endpoint::parse(&record.url).map_err(|e| Failure::from(e).message)?;
        credentials.for_node(&record.name, endpoint).map_err(|failure| failure.message)
    })
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

/// Keeps a mount's store at the ring's epoch.
pub struct RingPlacements(pub Arc<Membership>);

impl Placements for RingPlacements {
    fn epoch(&self) -> Epoch {
        self.0.ring().epoch()
    }

    fn refresh(&self, _: &Session, _: &Store, now: Epoch) -> Result<Epoch, VfsError> {
        let current = self.epoch();
        if current == now { Ok(now) } else { Ok(self.0.refresh()?.epoch()) }
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
            | MetaError::RingConflict { .. }
            | MetaError::NotCoordinator => Failure::plain(text),
            MetaError::RingBusy(_) => Failure::refused(text),
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
