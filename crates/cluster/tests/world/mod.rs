//! A volume on real servers with a small tree, made through metadata sessions and the store.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a fixture that cannot do its work panics")]

use ringfs_base::{BlockId, Epoch, InodeId, NodeName, SliceId, Timestamp, VolumeName, VolumeUuid};
use ringfs_cluster::{Checks, FsckReport, Job, Subject, fsck};
use ringfs_link::{Cmd, Reply, Timeouts};
use ringfs_meta::{
    Attr, Codec, Commit, CommitData, CommitRequest, Durability, ExtentRecord, FileKind, NewInode,
    NodeRecord, Session, SessionInfo, Victim, Volume, VolumeConfig, XattrMode,
};
use ringfs_ring::{Member, StatusOverlay, plan};
use ringfs_store::{Node, NodeIndex, Placement, RingPlacement, Store, StoreConfig};
use ringfs_testkit::{AppendFsync, RedisServer, ServerOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub const VOLUME: &str = "test";
pub const BLOCK_BYTES: u32 = 4096;
pub const ROOT: InodeId = InodeId::ROOT;
pub const NOW: Timestamp = Timestamp(1_000_000_000);

/// Patient, because tests share the machine; a killed server refuses at once anyway.
const TIMEOUTS: Timeouts =
    Timeouts { connect: Duration::from_secs(10), reply: Duration::from_secs(10) };

pub struct World {
    pub meta: RedisServer,
    pub nodes: Vec<RedisServer>,
    pub volume: Volume,
    /// What writers use; the jobs have a store of their own, as a tool has.
    pub store: Option<Arc<Store>>,
    pub placement: Arc<dyn Placement>,
    pub subject: Subject,
}

impl World {
    /// An empty volume; the nodes persist what they have.
    pub fn new(nodes: usize, replicas: u8) -> World {
        let meta = RedisServer::start_default();
        let persistent =
            ServerOptions { appendfsync: Some(AppendFsync::Always), ..ServerOptions::default() };
        let nodes: Vec<RedisServer> =
            (0..nodes).map(|_| RedisServer::start(persistent.clone())).collect();
        let names: Vec<NodeName> =
            (0..nodes.len()).map(|i| NodeName::new(&format!("n{i}")).unwrap()).collect();
        let records: Vec<NodeRecord> = names
            .iter()
            .zip(&nodes)
            .map(|(name, server)| NodeRecord { name: name.clone(), url: server.url() })
            .collect();
        let config = VolumeConfig {
            name: VolumeName::new(VOLUME).unwrap(),
            uuid: VolumeUuid(*b"ringfs-clustertt"),
            created: 1,
            replicas,
            block_bytes: BLOCK_BYTES,
            codec: Codec::Lz4,
            segment_bytes: 4096,
            inline_max: 1000,
            durability: Durability::Memory,
            inodes_max: 0,
            bytes_max: 0,
            nodes: records.clone(),
        };
        let volume = Volume::format(&meta.endpoint(), TIMEOUTS, &config, 0, 0, NOW).unwrap();
        let members: Vec<Member> = names.iter().cloned().map(Member::new).collect();
        let table = plan(None, &members, replicas, 256).unwrap();
        volume.set_ring(Epoch(0), &table.encode(), &records).unwrap();
        let placement: Arc<dyn Placement> =
            Arc::new(RingPlacement::new(Arc::new(table), &names, &StatusOverlay::default(), &[]));
        let list: Vec<Node> = names
            .iter()
            .zip(&nodes)
            .map(|(name, server)| Node { name: name.clone(), endpoint: server.endpoint() })
            .collect();
        let open_store = || {
            Arc::new(Store::new(
                &config.name,
                config.uuid,
                list.clone(),
                placement.clone(),
                StoreConfig { timeouts: TIMEOUTS, ..StoreConfig::default() },
            ))
        };
        let subject = Subject::new(
            volume.clone(),
            &meta.endpoint(),
            TIMEOUTS,
            open_store(),
            &list,
            placement.clone(),
        );
        let store = Some(open_store());
        World { meta, nodes, volume, store, placement, subject }
    }

    /// With a tree, and no session left.
    pub fn with_tree(nodes: usize, replicas: u8) -> World {
        let world = World::new(nodes, replicas);
        let session = world.session();
        world.build_tree(&session);
        session.end().unwrap();
        world
    }

    pub fn session(&self) -> Arc<Session> {
        self.volume.start_session(&SessionInfo::default()).unwrap()
    }

    /// `/d/e`, `/many` with 100 files in several buckets; `/empty`, `/inline` (also `/d/hard`),
    /// `/big` and `/big2` with blocks, `/cut` truncated, `/link`, `/fifo`.
    fn build_tree(&self, s: &Session) {
        let d = make(s, ROOT, "d", FileKind::Directory);
        make(s, d, "e", FileKind::Directory);
        let many = make(s, ROOT, "many", FileKind::Directory);
        for i in 0..100 {
            make(s, many, &format!("file{i}"), FileKind::File);
        }
        make(s, ROOT, "empty", FileKind::File);
        let inline = make(s, ROOT, "inline", FileKind::File);
        commit(s, inline, CommitData::Inline(&[(0, b"some bytes that are inline")]));
        s.setxattr(inline, b"user.x", b"value", XattrMode::Either, NOW).unwrap();
        s.link(inline, d, b"hard", NOW).unwrap();
        self.write_file(s, ROOT, "big", 10_000);
        self.write_file(s, ROOT, "big2", 5_000);
        let cut = self.write_file(s, ROOT, "cut", 9_000);
        let size = Some(100);
        s.setattr(cut, &ringfs_meta::SetAttr { size, ..Default::default() }, NOW).unwrap();
        make(s, ROOT, "fifo", FileKind::Fifo);
        let link = NewInode { target: b"to/where", ..new_inode(FileKind::Symlink) };
        assert!(s.create(ROOT, b"link", &link, NOW).unwrap().created);
    }

    /// A file of `len` bytes in one slice.
    pub fn write_file(&self, s: &Session, dir: InodeId, name: &str, len: u32) -> InodeId {
        let ino = make(s, dir, name, FileKind::File);
        let slice = self.write_slice(s, len);
        let record = ExtentRecord { pos: 0, len, slice, off: 0, slice_len: len };
        commit(s, ino, CommitData::Extents(&[(0, &[record])]));
        ino
    }

    /// Blocks of a fresh slice, not committed.
    pub fn write_slice(&self, s: &Session, len: u32) -> SliceId {
        let slice = s.alloc_slice().unwrap();
        let data: Vec<u8> = (0..len).map(|i| (i % 251) as u8 ^ slice.0 as u8).collect();
        let blocks: Vec<(BlockId, &[u8])> = data
            .chunks(BLOCK_BYTES as usize)
            .zip(0..)
            .map(|(bytes, index)| (BlockId { slice, index }, bytes))
            .collect();
        self.store.as_ref().expect("not given up").write(&blocks).unwrap();
        slice
    }

    pub fn ino(&self, path: &str) -> InodeId {
        let session = self.session();
        let mut at = ROOT;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            at = session.lookup(at, name.as_bytes()).unwrap().attr.ino;
        }
        session.end().unwrap();
        at
    }

    /// The only slice of a file.
    pub fn slice(&self, path: &str) -> SliceId {
        self.volume.chunks_of(self.ino(path)).unwrap()[0].1[0].slice
    }

    pub fn block(&self, path: &str, index: u32) -> BlockId {
        BlockId { slice: self.slice(path), index }
    }

    pub fn owners(&self, block: BlockId) -> Vec<usize> {
        self.placement.owners(block).into_iter().map(|node| node.0).collect()
    }

    pub fn is_owner(&self, block: BlockId, node: usize) -> bool {
        self.placement.owners(block).contains(&NodeIndex(node))
    }

    pub fn unlink(&self, path: &str, victim: Victim) {
        let session = self.session();
        session.unlink(ROOT, path.trim_start_matches('/').as_bytes(), victim, NOW).unwrap();
        session.end().unwrap();
    }

    /// A raw command on the metadata server; `@` at the begin of a word stands for the prefix.
    pub fn raw(&self, words: &[&[u8]]) -> Reply {
        let words = words.iter().map(|word| match word.strip_prefix(b"@") {
            Some(rest) => [format!("rfs:{{{VOLUME}/0}}:").as_bytes(), rest].concat(),
            None => word.to_vec(),
        });
        self.meta.conn().call(&Cmd::from_words(words)).unwrap()
    }

    pub fn count(&self, counter: &str, by: i64) {
        self.raw(&[b"HINCRBY", b"@c", counter.as_bytes(), by.to_string().as_bytes()]);
    }

    pub fn attr(&self, ino: InodeId) -> Attr {
        self.volume.getattr(ino).unwrap()
    }

    pub fn edit(&self, ino: InodeId, change: impl FnOnce(&mut Attr)) {
        let mut attr = self.attr(ino);
        change(&mut attr);
        let (key, field) = (format!("@a{}", ino.local() / 64), (ino.local() % 64).to_string());
        self.raw(&[b"HSET", key.as_bytes(), field.as_bytes(), &attr.pack()]);
    }

    pub fn forget_attr(&self, ino: InodeId) {
        let (key, field) = (format!("@a{}", ino.local() / 64), (ino.local() % 64).to_string());
        self.raw(&[b"HDEL", key.as_bytes(), field.as_bytes()]);
    }

    /// Puts a name into bucket 0 of a directory, nothing else.
    pub fn put_name(&self, dir: InodeId, name: &str, ino: InodeId, kind: FileKind) {
        let value = [&ino.to_bytes()[..], &[kind.dirent_type()]].concat();
        self.raw(&[b"HSET", format!("@d{}:0", dir.local()).as_bytes(), name.as_bytes(), &value]);
    }

    pub fn take_name(&self, dir: InodeId, name: &str) {
        self.raw(&[b"HDEL", format!("@d{}:0", dir.local()).as_bytes(), name.as_bytes()]);
    }

    pub fn block_key(block: BlockId) -> String {
        format!("rfb:{VOLUME}:{block}")
    }

    pub fn drop_copy(&self, node: usize, block: BlockId) {
        let reply = self.nodes[node].command(&["DEL", &World::block_key(block)]);
        assert_eq!(reply.into_int().unwrap(), 1, "the copy was there");
    }

    pub fn has_copy(&self, node: usize, block: BlockId) -> bool {
        self.nodes[node].command(&["EXISTS", &World::block_key(block)]).into_int().unwrap() == 1
    }

    pub fn frame(&self, node: usize, block: BlockId) -> Vec<u8> {
        let reply = self.nodes[node].command(&["GET", &World::block_key(block)]);
        reply.into_some_bytes().unwrap().to_vec()
    }

    pub fn put_copy(&self, node: usize, block: BlockId, frame: &[u8]) {
        let cmd = Cmd::new("SET").arg(World::block_key(block)).arg(frame);
        self.nodes[node].conn().call(&cmd).unwrap();
    }

    pub fn flip(&self, node: usize, block: BlockId, from_end: usize) {
        let mut frame = self.frame(node, block);
        let at = frame.len() - 1 - from_end;
        frame[at] ^= 0x20;
        self.put_copy(node, block, &frame);
    }

    pub fn fsck(&self, checks: Checks) -> FsckReport {
        fsck(&self.subject, checks, &Job::new()).unwrap()
    }

    /// The kinds of findings, each once.
    pub fn kinds(&self, checks: Checks) -> Vec<&'static str> {
        self.fsck(checks).counts.into_keys().collect()
    }

    #[track_caller]
    pub fn assert_clean(&self, checks: Checks) -> FsckReport {
        let report = self.fsck(checks);
        let texts: Vec<&str> = report.findings.iter().map(|f| f.text.as_str()).collect();
        assert!(texts.is_empty(), "{texts:#?}");
        report
    }

    #[track_caller]
    pub fn assert_only(&self, checks: Checks, kind: &str) -> FsckReport {
        let report = self.fsck(checks);
        let texts: Vec<String> =
            report.findings.iter().map(|f| format!("{}: {}", f.kind, f.text)).collect();
        assert_eq!(report.counts.keys().collect::<Vec<_>>(), [&kind], "{texts:#?}");
        report
    }
}

pub fn new_inode(kind: FileKind) -> NewInode<'static> {
    NewInode { kind, perm: 0o644, umask: 0, uid: 1, gid: 2, rdev: 0, target: b"" }
}

pub fn make(s: &Session, dir: InodeId, name: &str, kind: FileKind) -> InodeId {
    let made = s.create(dir, name.as_bytes(), &new_inode(kind), NOW).unwrap();
    assert!(made.created);
    made.attr.ino
}

pub fn commit(s: &Session, ino: InodeId, data: CommitData<'_>) {
    let request =
        CommitRequest { data, epoch: s.epoch(), mtime: NOW, kill_suid: false, privileged: false };
    let done = s.commit(ino, &request).unwrap();
    assert!(matches!(done, Commit::Done(_)), "{done:?}");
}

/// Ends the threads that watch the flag when a test ends, however it ends.
pub struct EndOnDrop<'a>(pub &'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
