//! A volume whose ring changes: real servers that come and go, and a workload beside it that knows
//! what it has written.
#![allow(dead_code, reason = "each user needs its own part")]
#![allow(clippy::unwrap_used, reason = "a fixture that cannot do its work panics")]

use parking_lot::Mutex;
use ringfs_base::{BlockId, Epoch, InodeId, NodeName, SliceId, Timestamp, VolumeName, VolumeUuid};
use ringfs_cluster::change::{Change, Proposal, commit, propose};
use ringfs_cluster::mover::{Mover, WORKER};
use ringfs_cluster::workers::{Site, Workers};
use ringfs_cluster::{Checks, GcOptions, Job, Membership, Ring, fsck, gc};
use ringfs_link::{Cmd, Endpoint, Timeouts};
use ringfs_meta::{
    Codec, Commit, CommitData, CommitRequest, Durability, ExtentRecord, Fate, FileKind, NewInode,
    NodeRecord, Session, SessionInfo, Token, Victim, Volume, VolumeConfig,
};
use ringfs_ring::{Member, plan};
use ringfs_store::StoreConfig;
use ringfs_testkit::{AppendFsync, RedisServer, ServerOptions};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const VOLUME: &str = "test";
const ROOT: InodeId = InodeId::ROOT;
const NOW: Timestamp = Timestamp(1_000_000_000);
/// The machine is shared; a killed server refuses at once anyway.
const TIMEOUTS: Timeouts =
    Timeouts { connect: Duration::from_secs(5), reply: Duration::from_secs(5) };
/// Files that a workload keeps at most.
const FILES_MAX: usize = 1500;
/// Longest wait for what takes a second when all is well.
const PATIENCE: Duration = Duration::from_secs(90);

pub struct Lab {
    pub meta: RedisServer,
    pub servers: Mutex<BTreeMap<String, RedisServer>>,
    pub volume: Volume,
    pub block_bytes: u32,
    persistent: bool,
}

pub fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

impl Lab {
    /// Nodes n0, n1, ... that keep what they have over a kill -9.
    pub fn new(nodes: usize, replicas: u8, block_bytes: u32) -> Lab {
        Lab::with(nodes, replicas, block_bytes, 1024, true)
    }

    pub fn with(nodes: usize, replicas: u8, block_bytes: u32, arcs: u32, persistent: bool) -> Lab {
        let meta = RedisServer::start_default();
        let servers: BTreeMap<String, RedisServer> =
            (0..nodes).map(|i| (format!("n{i}"), server(persistent))).collect();
        let nodes: Vec<NodeRecord> = servers
            .iter()
            .map(|(n, server)| NodeRecord { name: name(n), url: server.url() })
            .collect();
        let config = VolumeConfig {
            name: VolumeName::new(VOLUME).unwrap(),
            uuid: VolumeUuid(*b"ringfs-lab-tests"),
            created: 1,
            replicas,
            block_bytes,
            codec: Codec::None,
            segment_bytes: 4096,
            inline_max: 0,
            durability: Durability::Memory,
            inodes_max: 0,
            bytes_max: 0,
            nodes,
        };
        let volume = Volume::format(&meta.endpoint(), TIMEOUTS, &config, 0, 0, NOW).unwrap();
        let members: Vec<Member> =
            config.nodes.iter().map(|node| Member::new(node.name.clone())).collect();
        let table = plan(None, &members, replicas, arcs).unwrap();
        volume.set_ring(Epoch(0), &table.encode(), &config.nodes).unwrap();
        Lab { meta, servers: Mutex::new(servers), volume, block_bytes, persistent }
    }

    /// A server that is no node yet; its URL.
    pub fn serve(&self, node: &str) -> String {
        let server = server(self.persistent);
        let url = server.url();
        self.servers.lock().insert(node.to_owned(), server);
        url
    }

    pub fn add(&self, node: &str) -> Change {
        Change::Add { name: name(node), url: self.serve(node), weight: 1, zone: None }
    }

    /// What a mount has: a store that keeps to the ring.
    pub fn membership(&self) -> Arc<Membership> {
        let config = StoreConfig {
            codec: ringfs_store::Codec::None,
            timeouts: TIMEOUTS,
            ..Default::default()
        };
        let addresses =
            Box::new(|node: &NodeRecord| Endpoint::parse(&node.url).map_err(|e| e.to_string()));
        let ring = self.ring();
        Arc::new(Membership::new(self.volume.clone(), ring, config, addresses).unwrap())
    }

    pub fn ring(&self) -> Ring {
        Ring::read(&self.volume).unwrap()
    }

    pub fn session(&self) -> Arc<Session> {
        self.volume.start_session(&SessionInfo::default()).unwrap()
    }

    /// Puts a change in force, as an operator does.
    pub fn change(&self, changes: &[Change]) -> Proposal {
        let ring = self.ring();
        let proposal = propose(&ring, changes).unwrap();
        commit(&self.volume, &ring, &proposal, "lab", None).unwrap();
        proposal
    }

    /// A process that coordinates and moves blocks; it ends as if it had been stopped.
    pub fn mover(&self) -> Host {
        let session = self.session();
        let token = self.coordinate(&session);
        let site = Arc::new(Site {
            membership: self.membership(),
            meta: self.meta.endpoint(),
            timeouts: TIMEOUTS,
            token,
        });
        let workers = Workers::start(site, vec![Box::new(Mover::default())]);
        Host { workers: Some(workers), session, token }
    }

    pub fn coordinate(&self, session: &Session) -> Token {
        let lease = Duration::from_secs(3600);
        let seen = self.volume.observe(session.id(), lease, b"").unwrap();
        assert_eq!(seen.coordinator, Some(session.id()));
        seen.token
    }

    /// Says of a node that it came back, as whoever judges them does.
    pub fn came_back(&self, token: Token, node: &str, incarnation: u64) {
        let record = format!("{{\"state\":\"up\",\"incarnation\":{incarnation}}}");
        let states = [(&name(node), Some(record.as_str()))];
        let version = self.volume.ring_state().unwrap().overlay_version;
        self.volume.set_node_states(token, version, None, &states).unwrap();
    }

    /// Whether nothing is left to be moved or removed.
    pub fn is_settled(&self) -> bool {
        let moving = self.volume.ring_state().unwrap().moving.is_some();
        let workers = self.volume.workers().unwrap();
        !moving && !workers.contains_key("move.surplus")
    }

    #[track_caller]
    pub fn settle(&self) {
        let limit = Instant::now() + PATIENCE;
        while !self.is_settled() {
            assert!(Instant::now() < limit, "the move does not end: {}", self.story());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// How the move is, for messages.
    pub fn story(&self) -> String {
        let state = self.volume.ring_state().unwrap();
        format!("{:?}, {:?}", state.moving, self.volume.workers().unwrap())
    }

    /// Waits until the mover has copied something, and is not done.
    #[track_caller]
    pub fn in_the_middle(&self) {
        let limit = Instant::now() + PATIENCE;
        loop {
            let status = ringfs_cluster::workers::statuses(&self.volume).unwrap();
            if status.get(WORKER).is_some_and(|status| status.bytes > 0) {
                return;
            }
            assert!(Instant::now() < limit, "nothing is moved: {}", self.story());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Limits the mover.
    pub fn throttle(&self, bytes_per_second: u64) {
        let wish = ringfs_cluster::workers::WorkerWish {
            paused: false,
            bytes_per_second: Some(bytes_per_second),
            ..Default::default()
        };
        ringfs_cluster::workers::set_wish(&self.volume, WORKER, wish).unwrap();
    }

    /// Every block is on its owners, good, and nowhere else; nothing else is wrong either.
    #[track_caller]
    pub fn assert_sound(&self) {
        let membership = self.membership();
        let subject = membership.subject(&self.meta.endpoint(), TIMEOUTS).unwrap();
        // What was written under an epoch that was too old by then was written again elsewhere.
        gc(&subject, &GcOptions { delete: true, lease: None }, &Job::new()).unwrap();
        let report = fsck(&subject, Checks::Deep, &Job::new()).unwrap();
        let texts: Vec<String> =
            report.findings.iter().map(|f| format!("{}: {}", f.kind, f.text)).collect();
        assert!(texts.is_empty(), "{texts:#?}");
        // Counted without the checker: R copies of each block, no more and no fewer.
        let ring = self.ring();
        let held: u64 = ring.names().iter().map(|node| self.held(node.as_str())).sum();
        assert_eq!(held, report.summary.blocks * u64::from(ring.table.width()));
    }

    /// Blocks that a server has.
    pub fn held(&self, node: &str) -> u64 {
        self.servers.lock()[node].command(&["DBSIZE"]).into_int().unwrap() as u64
    }

    pub fn kill9(&self, node: &str) {
        self.servers.lock().get_mut(node).unwrap().kill9();
    }

    pub fn restart(&self, node: &str) {
        self.servers.lock().get_mut(node).unwrap().restart();
    }

    pub fn restart_empty(&self, node: &str) {
        self.servers.lock().get_mut(node).unwrap().restart_empty();
    }

    /// Copies a copy as it is.
    pub fn copy(&self, block: BlockId, from: &str, to: &str) {
        let key = format!("rfb:{VOLUME}:{block}");
        let servers = self.servers.lock();
        let frame = servers[from].command(&["GET", &key]).into_some_bytes().unwrap();
        let cmd = Cmd::new("SET").arg(key).arg(&frame[..]);
        servers[to].conn().call(&cmd).unwrap();
    }

    /// Whether a server has a block with these bytes, as they are stored uncompressed.
    pub fn is_good(&self, node: &str, block: BlockId, bytes: &[u8]) -> bool {
        let key = format!("rfb:{VOLUME}:{block}");
        let frame = self.servers.lock()[node].command(&["GET", &key]).into_bytes().unwrap();
        frame.is_some_and(|frame| frame.ends_with(bytes))
    }

    /// Damages a copy.
    pub fn flip(&self, node: &str, block: BlockId) {
        let key = format!("rfb:{VOLUME}:{block}");
        let cmd = Cmd::new("SETRANGE").arg(key).int(300).arg(b"damaged");
        self.servers.lock()[node].conn().call(&cmd).unwrap();
    }
}

fn server(persistent: bool) -> RedisServer {
    let appendfsync = persistent.then_some(AppendFsync::Always);
    RedisServer::start(ServerOptions { appendfsync, ..ServerOptions::default() })
}

/// A process that coordinates.
pub struct Host {
    workers: Option<Workers>,
    session: Arc<Session>,
    pub token: Token,
}

impl Host {
    pub fn wake(&self) {
        self.workers.as_ref().unwrap().wake(WORKER);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.workers.take();
        self.session.end().unwrap();
    }
}

/// A file of one slice, as the workload remembers it.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    pub ino: InodeId,
    pub slice: SliceId,
    pub len: u32,
    number: u64,
}

impl Written {
    pub fn bytes(&self) -> Vec<u8> {
        let mut state = self.number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut byte = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        (0..self.len).map(|_| byte()).collect()
    }
}

/// Writers, readers and removers with a store of their own, until it is dropped or ended.
pub struct Workload {
    pub shared: Arc<Shared>,
    session: Arc<Session>,
    threads: Vec<JoinHandle<()>>,
}

pub struct Shared {
    volume: Volume,
    membership: Arc<Membership>,
    block_bytes: u32,
    pub files: Mutex<BTreeMap<u64, Written>>,
    end: AtomicBool,
    next: AtomicU64,
    pub writes: AtomicU64,
    pub reads: AtomicU64,
    pub rewritten: AtomicU64,
    pub troubles: Mutex<Vec<String>>,
}

impl Shared {
    pub fn new(lab: &Lab) -> Arc<Shared> {
        Arc::new(Shared {
            volume: lab.volume.clone(),
            membership: lab.membership(),
            block_bytes: lab.block_bytes,
            files: Mutex::default(),
            end: AtomicBool::new(false),
            next: AtomicU64::new(1),
            writes: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            rewritten: AtomicU64::new(0),
            troubles: Mutex::default(),
        })
    }

    /// Writes a file of so many bytes as a mount does: blocks under the epoch that it knows, then
    /// the commit; again if the epoch was too old.
    pub fn write(&self, session: &Session, len: u32) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let new = NewInode {
            kind: FileKind::File,
            perm: 0o644,
            umask: 0,
            uid: 1,
            gid: 1,
            rdev: 0,
            target: b"",
        };
        let made = session.create(ROOT, format!("f{number}").as_bytes(), &new, NOW).unwrap();
        let file =
            Written { ino: made.attr.ino, slice: session.alloc_slice().unwrap(), len, number };
        let data = file.bytes();
        let blocks: Vec<(BlockId, &[u8])> = data
            .chunks(self.block_bytes as usize)
            .zip(0..)
            .map(|(bytes, index)| (BlockId { slice: file.slice, index }, bytes))
            .collect();
        loop {
            let epoch = self.membership.ring().epoch();
            self.membership.store().write(&blocks).unwrap();
            let record = ExtentRecord { pos: 0, len, slice: file.slice, off: 0, slice_len: len };
            let request = CommitRequest {
                data: CommitData::Extents(&[(0, &[record])]),
                epoch,
                mtime: NOW,
                kill_suid: false,
                privileged: false,
            };
            match session.commit(file.ino, &request).unwrap() {
                Commit::Done(_) => break,
                Commit::StaleEpoch(_) => {
                    self.rewritten.fetch_add(1, Ordering::Relaxed);
                    self.membership.refresh().unwrap();
                }
                other => panic!("{other:?}"),
            }
        }
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.files.lock().insert(number, file);
    }

    /// Reads a file and compares.
    pub fn check(&self, file: &Written) -> Result<(), String> {
        let data = file.bytes();
        for (bytes, index) in data.chunks(self.block_bytes as usize).zip(0..) {
            let block = BlockId { slice: file.slice, index };
            match self.membership.store().read_block(block, bytes.len() as u32) {
                Ok(read) if read == bytes => {}
                Ok(_) => return Err(format!("{block} reads back otherwise")),
                Err(e) => return Err(format!("{block}: {e}")),
            }
        }
        self.reads.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn some_file(&self, random: u64) -> Option<(u64, Written)> {
        let files = self.files.lock();
        let (first, last) = (files.first_key_value()?.0, files.last_key_value()?.0);
        let from = first + random % (last - first + 1);
        files.range(from..).next().map(|(number, file)| (*number, *file))
    }

    fn remove(&self, session: &Session, random: u64) {
        let Some((number, file)) = self.some_file(random) else { return };
        if self.files.lock().remove(&number).is_none() {
            return;
        }
        let name = format!("f{number}");
        let victim = Victim::NotOpen(file.ino);
        let gone = session.unlink(ROOT, name.as_bytes(), victim, NOW).unwrap();
        if let Fate::Purged(_) = gone.removed.fate {
            let blocks = file.len.div_ceil(self.block_bytes);
            let blocks: Vec<BlockId> =
                (0..blocks).map(|index| BlockId { slice: file.slice, index }).collect();
            self.membership.store().remove(&blocks);
        }
    }

    fn trouble(&self, what: String) {
        self.troubles.lock().push(what);
    }
}

/// Writes `files` files of `len` bytes.
pub fn fill(lab: &Lab, files: u64, len: u32) -> Arc<Shared> {
    let shared = Shared::new(lab);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let shared = &shared;
            scope.spawn(move || {
                let session = lab.session();
                (0..files).filter(|n| n % 4 == thread).for_each(|_| shared.write(&session, len));
                session.end().unwrap();
            });
        }
    });
    shared
}

impl Workload {
    /// Goes on with the files of `shared`.
    pub fn start(lab: &Lab, shared: Arc<Shared>) -> Workload {
        let mut threads = Vec::new();
        // One session removes: more of them would leave files to each other as orphans.
        let session = lab.session();
        for kind in 0..4u64 {
            let (shared, session) = (shared.clone(), session.clone());
            threads.push(std::thread::spawn(move || {
                let mut random = kind + 1;
                while !shared.end.load(Ordering::Relaxed) {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(7);
                    match kind {
                        0 if shared.files.lock().len() < FILES_MAX => {
                            shared.write(&session, shared.block_bytes * 3 / 2);
                        }
                        0 => shared.remove(&session, random >> 20),
                        1 if random >> 60 == 0 => shared.remove(&session, random >> 20),
                        _ => {
                            let Some((number, file)) = shared.some_file(random >> 20) else {
                                continue;
                            };
                            if let Err(what) = shared.check(&file)
                                && shared.files.lock().contains_key(&number)
                            {
                                shared.trouble(what);
                            }
                        }
                    }
                    // As a mount does when it hears of a change, but late.
                    if random >> 57 == 1 {
                        shared.membership.refresh().unwrap();
                    }
                }
            }));
        }
        Workload { shared, session, threads }
    }

    /// Ends it; everything that was written must be there, and nothing has gone wrong.
    #[track_caller]
    pub fn end(mut self) -> Arc<Shared> {
        self.stop();
        let shared = self.shared.clone();
        shared.assert_all_there();
        shared
    }

    fn stop(&mut self) {
        self.shared.end.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        self.session.end().unwrap();
    }
}

impl Shared {
    #[track_caller]
    pub fn assert_all_there(&self) {
        self.membership.refresh().unwrap();
        let troubles = self.troubles.lock();
        assert!(
            troubles.is_empty(),
            "{}: {:?}",
            troubles.len(),
            &troubles[..troubles.len().min(5)]
        );
        for file in self.files.lock().values() {
            if let Err(what) = self.check(file) {
                panic!("{what}");
            }
        }
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        self.shared.end.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
    }
}
