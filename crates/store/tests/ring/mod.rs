//! A few real servers and a store over them.
#![allow(dead_code, reason = "each test file uses its own part")]

use ringfs_base::{BlockId, Epoch, NodeName, SliceId, VolumeName, VolumeUuid};
use ringfs_link::{Cmd, Reply};
use ringfs_store::{Node, NodeIndex, Placement, Rendezvous, Store, StoreConfig};
use ringfs_testkit::{RedisServer, ServerOptions};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub const VOLUME: &str = "test";
pub const UUID: VolumeUuid = VolumeUuid(*b"ringfs-store-tst");

/// Servers with their store; node `i` of the store is server `i`.
pub struct Ring {
    pub servers: Vec<RedisServer>,
    pub store: Store,
    pub placement: Arc<Rendezvous>,
}

impl Ring {
    pub fn new(nodes: usize, copies: usize) -> Ring {
        Ring::with(nodes, copies, StoreConfig::default(), ServerOptions::default())
    }

    pub fn with(nodes: usize, copies: usize, config: StoreConfig, options: ServerOptions) -> Ring {
        let servers: Vec<RedisServer> =
            (0..nodes).map(|_| RedisServer::start(options.clone())).collect();
        let placement = Arc::new(Rendezvous { nodes, copies, epoch: Epoch(1) });
        let store = open(&servers, placement.clone(), config);
        Ring { servers, store, placement }
    }

    pub fn owners(&self, block: BlockId) -> Vec<usize> {
        self.placement.owners(block).into_iter().map(|node| node.0).collect()
    }

    /// A block whose first owner is `node`.
    pub fn block_owned_by(&self, node: usize) -> BlockId {
        (0..10_000)
            .map(|slice| block(slice, 0))
            .find(|b| self.placement.owners(*b)[0] == NodeIndex(node))
            .expect("one in a few")
    }

    /// Servers that have the block, by their place.
    pub fn holders(&self, block: BlockId) -> Vec<usize> {
        (0..self.servers.len()).filter(|at| self.has(*at, block)).collect()
    }

    pub fn has(&self, server: usize, block: BlockId) -> bool {
        let reply = self.servers[server].conn().call(&Cmd::new("EXISTS").arg(key(block)));
        reply.unwrap().into_int().unwrap() == 1
    }

    pub fn raw(&self, server: usize, block: BlockId) -> Vec<u8> {
        let reply = self.servers[server].conn().call(&Cmd::new("GET").arg(key(block)));
        reply.unwrap().into_some_bytes().unwrap().to_vec()
    }

    pub fn put_raw(&self, server: usize, block: BlockId, value: &[u8]) {
        let reply =
            self.servers[server].conn().call(&Cmd::new("SET").arg(key(block)).payload(value));
        assert!(reply.unwrap().into_ok().unwrap());
    }

    /// Flips one bit of a stored copy, in place.
    pub fn flip(&self, server: usize, block: BlockId, at: usize) {
        let byte = self.raw(server, block)[at] ^ 0x10;
        let cmd = Cmd::new("SETRANGE").arg(key(block)).int(at as i64).arg([byte]);
        self.servers[server].conn().call(&cmd).unwrap();
    }

    pub fn remove_raw(&self, server: usize, block: BlockId) {
        self.servers[server].conn().call(&Cmd::new("DEL").arg(key(block))).unwrap();
    }

    pub fn write(&self, block: BlockId, data: &[u8]) {
        let written = self.store.write(&[(block, data)]).unwrap();
        assert!(!written.is_degraded(), "{written:?}");
    }

    pub fn read(&self, block: BlockId, data: &[u8]) {
        let mut out = vec![0; data.len()];
        self.store.read(block, data.len() as u32, 0, &mut out).unwrap();
        assert!(out == data, "block {block} reads back otherwise");
    }

    /// Waits until the store's background repairs are done.
    pub fn settle(&self) {
        wait_until("the repairs end", || self.store.repairs_outstanding() == 0);
    }
}

pub fn open(servers: &[RedisServer], placement: Arc<dyn Placement>, config: StoreConfig) -> Store {
    let nodes = servers
        .iter()
        .enumerate()
        .map(|(at, server)| Node {
            name: NodeName::new(&format!("n{at}")).unwrap(),
            endpoint: server.endpoint(),
        })
        .collect();
    Store::new(&VolumeName::new(VOLUME).unwrap(), UUID, nodes, placement, config)
}

pub fn block(slice: u64, index: u32) -> BlockId {
    BlockId { slice: SliceId(slice), index }
}

pub fn key(block: BlockId) -> String {
    format!("rfb:{VOLUME}:{block}")
}

/// Bytes that do not compress.
pub fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..bytes)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

/// Bytes that compress well.
pub fn text(bytes: usize) -> Vec<u8> {
    (0..).flat_map(|n: u32| format!("line {n} of a text; ").into_bytes()).take(bytes).collect()
}

/// Polls a condition that some other thread or process brings about.
pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < limit, "in 30 s not: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn int(reply: Reply) -> i64 {
    reply.into_int().unwrap()
}
