//! What block and segment sizes cost on a real server: the second half of the figures in
//! `docs/decisions/0004-block-and-segment-size.md`.
//!
//! `cargo run --release -p ringfs-store --example block_sizes [-- DIRECTORY]` starts redis-servers of
//! its own. DIRECTORY holds source code to store as compressible data.

use ringfs_base::{BlockId, Epoch, NodeName, SliceId, VolumeName, VolumeUuid};
use ringfs_link::{Cmd, Conn};
use ringfs_store::{Codec, Node, ReadReq, Rendezvous, Store, StoreConfig};
use ringfs_testkit::RedisServer;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

const DATA_BYTES: usize = 64 << 20;
const SMALL_READS: u32 = 4_000;
const ROUNDS: usize = 3;

fn main() -> std::io::Result<()> {
    let random = noise(DATA_BYTES);
    memory(&random);
    raw(&random);
    speed("random", &random);
    if let Some(directory) = std::env::args().nth(1) {
        let mut source = Vec::new();
        gather_source(Path::new(&directory), &mut source)?;
        speed("source", &source);
    }
    Ok(())
}

/// `used_memory` and resident memory for full blocks of random data.
fn memory(data: &[u8]) {
    println!("block KiB  used_memory above data  used_memory_rss above data");
    for kib in [252, 256, 508, 512, 1020, 1024] {
        let server = RedisServer::start_default();
        let store = open(&server, Codec::Lz4, 32 << 10);
        let before = used(&server);
        let blocks: Vec<&[u8]> = data.chunks_exact(kib << 10).collect();
        for (n, block) in blocks.iter().enumerate() {
            store.write(&[(id(n), block)]).expect("write");
        }
        let after = used(&server);
        let bytes = (blocks.len() * (kib << 10)) as f64;
        println!(
            "{kib:9}  {:21.2}%  {:25.2}%",
            ((after.0 - before.0) / bytes - 1.0) * 100.0,
            ((after.1 - before.1) / bytes - 1.0) * 100.0
        );
    }
}

fn used(server: &RedisServer) -> (f64, f64) {
    let info = server.info("memory");
    let field = |name: &str| info[name].parse::<f64>().expect("a number");
    (field("used_memory") - field("mem_clients_normal"), field("used_memory_rss"))
}

/// SET and GET of the same bytes without frames: what the link and the server can do.
fn raw(data: &[u8]) {
    let server = RedisServer::start_default();
    let mut conn = Conn::open(&server.endpoint(), &Default::default()).expect("connection");
    let block = 1020 << 10;
    let (mut set, mut get) = (Cost::WORST, Cost::WORST);
    for _ in 0..ROUNDS {
        set.best(&server, || {
            for (n, chunk) in data.chunks_exact(block).enumerate() {
                conn.call(&Cmd::new("SET").int(n as i64).payload(chunk)).expect("set");
            }
        });
        get.best(&server, || {
            for n in 0..data.len() / block {
                conn.call(&Cmd::new("GET").int(n as i64)).expect("get");
            }
        });
    }
    println!(
        "one connection, 1020 KiB values: SET {}, GET {}",
        set.of(data.len()),
        get.of(data.len())
    );
}

/// Seconds that some work took: by the clock, and of CPU in this process and in the server.
#[derive(Clone, Copy)]
struct Cost {
    wall: f64,
    client: f64,
    server: f64,
}

impl Cost {
    const WORST: Cost = Cost { wall: f64::MAX, client: f64::MAX, server: f64::MAX };

    /// Does the work and keeps the best of each figure. (On a machine with other load the CPU
    /// times are the ones that mean something.)
    fn best(&mut self, server: &RedisServer, work: impl FnOnce()) {
        let (begin, client, served) = (Instant::now(), own_cpu(), server_cpu(server));
        work();
        self.wall = self.wall.min(begin.elapsed().as_secs_f64());
        self.client = self.client.min(own_cpu() - client);
        self.server = self.server.min(server_cpu(server) - served);
    }

    fn of(&self, bytes: usize) -> String {
        let each = 1e3 * 1e6 / bytes as f64 * 1.048_576;
        format!(
            "{:5.2} GB/s {:5.2} {:5.2}",
            bytes as f64 / self.wall / 1e9,
            self.client * each,
            self.server * each
        )
    }
}

fn own_cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn server_cpu(server: &RedisServer) -> f64 {
    let info = server.info("cpu");
    let field = |name: &str| info[name].parse::<f64>().expect("a number");
    field("used_cpu_sys") + field("used_cpu_user")
}

fn speed(name: &str, data: &[u8]) {
    println!(
        "GB/s by the clock, then ms of CPU per MiB in client and server; small reads in us\n\
         data   codec block segment stored/raw  write                   read                    \
         read_many               4 KiB: wall client server  bytes moved"
    );
    for (codec, block, segment) in [
        (Codec::None, 1020, 16),
        (Codec::None, 1020, 32),
        (Codec::None, 1020, 64),
        (Codec::Lz4, 1020, 16),
        (Codec::Lz4, 1020, 32),
        (Codec::Lz4, 1020, 64),
        (Codec::Zstd, 1020, 16),
        (Codec::Zstd, 1020, 32),
        (Codec::Zstd, 1020, 64),
        (Codec::Lz4, 508, 32),
        (Codec::Lz4, 252, 32),
    ] {
        let server = RedisServer::start_default();
        let store = open(&server, codec, segment << 10);
        let bytes = block << 10;
        let blocks: Vec<&[u8]> = data.chunks_exact(bytes).collect();
        let all = blocks.len() * bytes;
        let (mut write, mut read) = (Cost::WORST, Cost::WORST);
        let (mut many, mut small) = (Cost::WORST, Cost::WORST);
        let mut moved = 0;
        let mut buffers = vec![vec![0; bytes]; 4 * 1020 / block];
        let mut sent = 0;
        for _ in 0..ROUNDS {
            let before = store.stats();
            write.best(&server, || {
                for (n, block) in blocks.iter().enumerate() {
                    store.write(&[(id(n), block)]).expect("write");
                }
            });
            sent = store.stats().bytes_sent - before.bytes_sent;
            read.best(&server, || {
                for n in 0..blocks.len() {
                    store.read(id(n), bytes as u32, 0, &mut buffers[0]).expect("read");
                }
            });
            many.best(&server, || {
                for first in (0..blocks.len()).step_by(buffers.len()) {
                    let mut requests: Vec<ReadReq<'_>> = buffers
                        .iter_mut()
                        .zip(first..blocks.len())
                        .map(|(out, n)| ReadReq {
                            id: id(n),
                            raw_len: bytes as u32,
                            offset: 0,
                            out,
                        })
                        .collect();
                    store.read_many(&mut requests).expect("read");
                }
            });
            let before = store.stats();
            let mut page = [0; 4096];
            small.best(&server, || {
                for n in 0..SMALL_READS {
                    let place = n.wrapping_mul(2_654_435_761);
                    let offset = place % (bytes as u32 / 4096) * 4096;
                    let block = (place >> 8) as usize % blocks.len();
                    store.read(id(block), bytes as u32, offset, &mut page).expect("read");
                }
            });
            moved = (store.stats().bytes_received - before.bytes_received) / u64::from(SMALL_READS);
        }
        let each = |seconds: f64| seconds * 1e6 / f64::from(SMALL_READS);
        println!(
            "{name:6} {codec:5} {block:5} {segment:7} {:10.4}  {}  {}  {}  {:11.1} {:6.1} {:6.1} {moved:12}",
            sent as f64 / all as f64,
            write.of(all),
            read.of(all),
            many.of(all),
            each(small.wall),
            each(small.client),
            each(small.server),
        );
    }
}

fn id(n: usize) -> BlockId {
    BlockId { slice: SliceId(n as u64), index: 0 }
}

fn open(server: &RedisServer, codec: Codec, segment_bytes: u32) -> Store {
    let node = Node { name: NodeName::new("n0").expect("name"), endpoint: server.endpoint() };
    let placement = Rendezvous { nodes: 1, copies: 1, epoch: Epoch(1) };
    let config = StoreConfig { codec, segment_bytes, ..StoreConfig::default() };
    let volume = VolumeName::new("sizes").expect("name");
    Store::new(&volume, VolumeUuid([3; 16]), vec![node], Arc::new(placement), config)
}

fn gather_source(directory: &Path, into: &mut Vec<u8>) -> std::io::Result<()> {
    let mut entries: Vec<_> = std::fs::read_dir(directory)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        if into.len() >= DATA_BYTES {
            into.truncate(DATA_BYTES);
            return Ok(());
        }
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            gather_source(&path, into)?;
        } else if kind.is_file()
            && path.extension().is_some_and(|e| e == "rs" || e == "c" || e == "h" || e == "md")
        {
            into.extend_from_slice(&std::fs::read(&path)?);
        }
    }
    Ok(())
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    (0..bytes)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}
