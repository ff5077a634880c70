//! A volume on real servers, mounted without a kernel.

#![allow(clippy::unwrap_used, reason = "what fails in a fixture ends the test")]
#![allow(dead_code, reason = "each test file uses its part")]

use parking_lot::Mutex;
use ringfs_base::limits::{BLOCK_BYTES, INLINE_BYTES_MAX};
use ringfs_base::{Epoch, InodeId, NodeName, SystemClock, Timestamp, VolumeName, VolumeUuid};
use ringfs_link::Timeouts;
use ringfs_meta::{
    Codec, Durability, FileKind, NewInode, Session, SessionInfo, Volume, VolumeConfig,
};
use ringfs_store::{Node, Rendezvous, Store, StoreConfig};
use ringfs_testkit::RedisServer;
use ringfs_vfs::{KernelCache, KernelChange, Placements, Vfs, VfsConfig, VfsError};
use std::sync::Arc;
use std::time::Duration;

pub struct Fixed;

impl Placements for Fixed {
    fn epoch(&self) -> Epoch {
        Epoch(0)
    }
    fn refresh(&self, _: &Session, _: &Store, now: Epoch) -> Result<Epoch, VfsError> {
        Ok(now)
    }
}

#[derive(Default)]
pub struct Told(pub Mutex<Vec<KernelChange>>, pub Mutex<Vec<InodeId>>);

impl KernelCache for Told {
    fn forget(&self, change: &KernelChange) {
        self.0.lock().push(change.clone());
    }
    fn doubt_attributes(&self, ino: InodeId) {
        self.1.lock().push(ino);
    }
}

pub struct Ring {
    pub meta: RedisServer,
    pub nodes: Vec<RedisServer>,
    pub volume: Volume,
}

impl Ring {
    pub fn start(nodes: usize) -> Ring {
        let meta = RedisServer::start_default();
        let nodes = (0..nodes).map(|_| RedisServer::start_default()).collect();
        let config = VolumeConfig {
            name: VolumeName::new("t").unwrap(),
            uuid: VolumeUuid([7; 16]),
            created: 0,
            replicas: 2,
            block_bytes: BLOCK_BYTES,
            codec: Codec::Lz4,
            segment_bytes: 32 << 10,
            inline_max: INLINE_BYTES_MAX,
            durability: Durability::Memory,
            inodes_max: 0,
            bytes_max: 0,
            nodes: Vec::new(),
        };
        let timeouts = Timeouts::default();
        let volume =
            Volume::format(&meta.endpoint(), timeouts, &config, 0, 0, Timestamp(1)).unwrap();
        Ring { meta, nodes, volume }
    }

    pub fn mount(&self, config: VfsConfig) -> (Arc<Vfs>, Arc<Told>) {
        self.mount_with(&self.volume, Box::new(Fixed), config)
    }

    /// A mount that reaches the metadata through `volume`.
    pub fn mount_with(
        &self,
        volume: &Volume,
        placements: Box<dyn Placements>,
        config: VfsConfig,
    ) -> (Arc<Vfs>, Arc<Told>) {
        let session = volume.start_session(&SessionInfo::default()).unwrap();
        let nodes: Vec<Node> = self
            .nodes
            .iter()
            .enumerate()
            .map(|(i, server)| Node {
                name: NodeName::new(&format!("n{i}")).unwrap(),
                endpoint: server.endpoint(),
            })
            .collect();
        let copies = 2.min(nodes.len());
        let placement = Arc::new(Rendezvous { nodes: nodes.len(), copies, epoch: Epoch(0) });
        let record = self.volume.config();
        let store = Store::new(&record.name, record.uuid, nodes, placement, StoreConfig::default());
        let told = Arc::new(Told::default());
        let vfs = Vfs::start(
            session,
            Arc::new(store),
            placements,
            Arc::new(SystemClock),
            config,
            told.clone(),
        )
        .unwrap();
        (vfs, told)
    }
}

pub fn quick() -> VfsConfig {
    VfsConfig {
        write_buffer_bytes: 8 << 20,
        block_cache_bytes: 8 << 20,
        write_back_age: Duration::from_millis(20),
        heartbeat: Duration::from_millis(50),
        compact_records: 12,
        ..VfsConfig::default()
    }
}

pub fn create(vfs: &Vfs, name: &str) -> InodeId {
    let new = NewInode {
        kind: FileKind::File,
        perm: 0o644,
        umask: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        target: b"",
    };
    vfs.create(InodeId::ROOT, name.as_bytes(), &new, true).unwrap().0.attr.ino
}

pub fn read(vfs: &Vfs, ino: InodeId, offset: u64, len: u32) -> Vec<u8> {
    vfs.read(ino, offset, len).unwrap().concat()
}
