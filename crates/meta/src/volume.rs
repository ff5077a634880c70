//! A volume seen by tools: making it, its record, its ring, its sessions, all its inodes.

use crate::attr::Attr;
use crate::config::VolumeConfig;
use crate::error::MetaError;
use crate::extents::ExtentRecord;
use ringfs_link::{Endpoint, Timeouts};
use crate::session::Session;
use crate::types::{SessionInfo, SessionRecord, SlicesInFlight, Usage};
use bytes::Bytes;
use ringfs_base::{Epoch, InodeId, SessionId, Timestamp, VolumeName};
use std::sync::Arc;
use std::time::Duration;

/// An open volume. Cheap to clone.
#[derive(Clone)]
pub struct Volume {}

impl Volume {
    /// Makes a new volume with an empty root directory (mode 0755, owned by `uid`, `gid`).
    /// [`MetaError::VolumeExists`] if the name is taken. The ring is empty, at epoch 0.
    pub fn format(
        endpoint: &Endpoint,
        timeouts: Timeouts,
        config: &VolumeConfig,
        uid: u32,
        gid: u32,
        now: Timestamp,
    ) -> Result<Volume, MetaError> {
        unimplemented!()
    }

    /// Opens a volume. [`MetaError::NoSuchVolume`], [`MetaError::NewerFormat`].
    pub fn open(
        endpoint: &Endpoint,
        timeouts: Timeouts,
        name: &VolumeName,
    ) -> Result<Volume, MetaError> {
        unimplemented!()
    }

    /// Volumes on a server, by SCAN: for tools.
    pub fn list(endpoint: &Endpoint, timeouts: Timeouts) -> Result<Vec<VolumeName>, MetaError> {
        unimplemented!()
    }

    /// Removes every key of the volume's metadata. Blocks are the caller's to remove.
    pub fn destroy(&self) -> Result<(), MetaError> {
        unimplemented!()
    }

    /// The record as it was when the volume was opened or last [`Self::reload`]ed.
    pub fn config(&self) -> Arc<VolumeConfig> {
        unimplemented!()
    }

    /// Reads the record again (limits, nodes).
    pub fn reload(&self) -> Result<Arc<VolumeConfig>, MetaError> {
        unimplemented!()
    }

    /// The ring's epoch and encoded table (empty at epoch 0).
    pub fn ring(&self) -> Result<(Epoch, Bytes), MetaError> {
        unimplemented!()
    }

    /// Puts a new table in place of the one with epoch `expected`, whose epoch becomes
    /// `expected + 1`, and the node list with it, in one step. [`MetaError::RingConflict`].
    pub fn set_ring(
        &self,
        expected: Epoch,
        table: &[u8],
        nodes: &[crate::config::NodeRecord],
    ) -> Result<Epoch, MetaError> {
        unimplemented!()
    }

    /// Changes the limits (0 = none).
    pub fn set_limits(&self, inodes_max: u64, bytes_max: u64) -> Result<(), MetaError> {
        unimplemented!()
    }

    /// Registers a session.
    pub fn start_session(&self, info: &SessionInfo) -> Result<Arc<Session>, MetaError> {
        unimplemented!()
    }

    /// The registered sessions.
    pub fn sessions(&self) -> Result<Vec<SessionRecord>, MetaError> {
        unimplemented!()
    }

    /// Gives up the sessions that sent no heartbeat for longer than `lease`, by the server's
    /// clock. From then on they can change nothing.
    pub fn reap(&self, lease: Duration) -> Result<Vec<SessionId>, MetaError> {
        unimplemented!()
    }

    /// How much it holds.
    pub fn usage(&self) -> Result<Usage, MetaError> {
        unimplemented!()
    }

    /// Inodes by SCAN: begin with cursor 0, end when 0 comes back. An inode that exists
    /// throughout is reported at least once.
    pub fn scan_inodes(&self, cursor: u64) -> Result<(u64, Vec<Attr>), MetaError> {
        unimplemented!()
    }

    /// All extents of an inode: chunk index and records.
    pub fn chunks_of(&self, ino: InodeId) -> Result<Vec<(u32, Vec<ExtentRecord>)>, MetaError> {
        unimplemented!()
    }

    /// Extents by SCAN over all inodes, including of those that have no attributes any more (a
    /// finding for fsck). Same cursor rule as [`Self::scan_inodes`].
    #[allow(clippy::type_complexity, reason = "a list of lists, said in the text")]
    pub fn scan_extents(
        &self,
        cursor: u64,
    ) -> Result<(u64, Vec<(InodeId, u32, Vec<ExtentRecord>)>), MetaError> {
        unimplemented!()
    }

    /// Names by SCAN over all directories: directory, name, inode.
    #[allow(clippy::type_complexity, reason = "a list of triples, said in the text")]
    pub fn scan_entries(
        &self,
        cursor: u64,
    ) -> Result<(u64, Vec<(InodeId, Vec<u8>, InodeId)>), MetaError> {
        unimplemented!()
    }

    /// Attributes without a session.
    pub fn getattr(&self, ino: InodeId) -> Result<Attr, MetaError> {
        unimplemented!()
    }

    /// Inodes without a name that are kept, at most `max` of them.
    pub fn orphans(&self, max: u32) -> Result<Vec<InodeId>, MetaError> {
        unimplemented!()
    }

    /// Which slices may be under way: ask before scanning the extents.
    pub fn slices_in_flight(&self) -> Result<SlicesInFlight, MetaError> {
        unimplemented!()
    }
}
