//! An in-memory file system, small but whole enough for the kernel, and a mount of it that
//! cannot outlive its test.

#![allow(dead_code, reason = "each test program uses its part of this")]

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use ringfs_fusewire::*;

/// No test takes longer; a hang means the kernel waits for an answer that never comes.
const WATCHDOG: Duration = Duration::from_secs(60);
/// Names cached long, so that only a notification can make the kernel ask again.
const TTL: Duration = Duration::from_secs(3600);

#[derive(Default)]
pub struct Counters {
    pub lookups: AtomicU64,
    pub getattrs: AtomicU64,
    pub readdirplus: AtomicU64,
    pub forgets: AtomicU64,
    pub interrupts: AtomicU64,
    pub waits: AtomicU64,
    pub largest_write: AtomicU64,
    pub largest_read: AtomicU64,
    pub destroyed: AtomicU64,
}

enum Content {
    File(Vec<u8>),
    Dir(BTreeMap<Vec<u8>, u64>),
    Link(Vec<u8>),
}

struct Node {
    mode: u32,
    uid: u32,
    gid: u32,
    nlink: u32,
    mtime: Time,
    content: Content,
    xattrs: BTreeMap<Vec<u8>, Bytes>,
}

#[derive(Default)]
struct Locks {
    /// Whole-file exclusive locks: inode, flock or POSIX, and owner.
    held: HashMap<(u64, bool), u64>,
    waiting: VecDeque<(u64, LockRequest, ReplyLater)>,
}

pub struct MemFs {
    nodes: Mutex<HashMap<u64, Node>>,
    next: AtomicU64,
    locks: Mutex<Locks>,
    counters: Arc<Counters>,
}

fn errno(raw: i32) -> Errno {
    Errno::from(raw)
}

impl MemFs {
    pub fn new(counters: Arc<Counters>) -> Self {
        let root = Node::new(libc::S_IFDIR | 0o755, Content::Dir(BTreeMap::new()));
        Self {
            nodes: Mutex::new(HashMap::from([(ROOT_INO, root)])),
            next: AtomicU64::new(2),
            locks: Mutex::default(),
            counters,
        }
    }

    /// Changes a file behind the kernel's back.
    pub fn overwrite(&self, ino: u64, bytes: &[u8]) {
        self.nodes.lock().get_mut(&ino).expect("known inode").content =
            Content::File(bytes.to_vec());
    }

    /// Removes a name behind the kernel's back.
    pub fn vanish(&self, parent: u64, name: &[u8]) {
        if let Content::Dir(names) = &mut self.nodes.lock().get_mut(&parent).unwrap().content {
            names.remove(name);
        }
    }

    fn entry(&self, nodes: &HashMap<u64, Node>, ino: u64) -> FsResult<Entry> {
        let attr = nodes.get(&ino).ok_or(errno(libc::ENOENT))?.attr(ino);
        Ok(Entry { ino, generation: 0, attr, entry_ttl: TTL, attr_ttl: TTL })
    }

    fn add(&self, parent: u64, name: &[u8], node: Node) -> FsResult<Entry> {
        if name == b"panic" {
            panic!("asked for");
        }
        let mut nodes = self.nodes.lock();
        let ino = self.next.fetch_add(1, Ordering::Relaxed);
        let names = dir(&mut nodes, parent)?;
        if names.contains_key(name) {
            return Err(errno(libc::EEXIST));
        }
        names.insert(name.to_vec(), ino);
        nodes.insert(ino, node);
        self.entry(&nodes, ino)
    }

    fn remove(&self, parent: u64, name: &[u8]) -> FsResult<()> {
        let mut nodes = self.nodes.lock();
        let ino = *dir(&mut nodes, parent)?.get(name).ok_or(errno(libc::ENOENT))?;
        if let Content::Dir(names) = &nodes[&ino].content
            && !names.is_empty()
        {
            return Err(errno(libc::ENOTEMPTY));
        }
        dir(&mut nodes, parent)?.remove(name);
        nodes.get_mut(&ino).expect("present").nlink -= 1;
        Ok(())
    }

    /// Names from an offset on, with "." and ".." first.
    fn names(
        &self,
        nodes: &mut MutexGuard<'_, HashMap<u64, Node>>,
        ino: u64,
        offset: u64,
    ) -> FsResult<Vec<(u64, u64, Vec<u8>)>> {
        let dots = [(ino, b".".to_vec()), (ino, b"..".to_vec())];
        let names = dir(nodes, ino)?.iter().map(|(name, ino)| (*ino, name.clone()));
        let all = dots.into_iter().chain(names).enumerate();
        Ok(all
            .skip(offset as usize)
            .map(|(index, (ino, name))| (index as u64 + 1, ino, name))
            .collect())
    }

    fn try_lock(&self, locks: &mut Locks, ino: u64, lock: &LockRequest) -> bool {
        let key = (ino, lock.flock);
        match locks.held.get(&key) {
            Some(owner) if *owner != lock.owner => false,
            _ if lock.lock.kind == LockKind::Unlock => {
                locks.held.remove(&key);
                self.grant(locks);
                true
            }
            _ => {
                locks.held.insert(key, lock.owner);
                true
            }
        }
    }

    fn grant(&self, locks: &mut Locks) {
        for (ino, lock, reply) in std::mem::take(&mut locks.waiting) {
            if self.try_lock(locks, ino, &lock) {
                reply.ok();
            } else {
                locks.waiting.push_back((ino, lock, reply));
            }
        }
    }

    fn unlock_owner(&self, ino: u64, flock: bool, owner: u64) {
        let mut locks = self.locks.lock();
        if locks.held.get(&(ino, flock)) == Some(&owner) {
            locks.held.remove(&(ino, flock));
            self.grant(&mut locks);
        }
    }
}

fn dir(nodes: &mut HashMap<u64, Node>, ino: u64) -> FsResult<&mut BTreeMap<Vec<u8>, u64>> {
    match &mut nodes.get_mut(&ino).ok_or(errno(libc::ENOENT))?.content {
        Content::Dir(names) => Ok(names),
        _ => Err(errno(libc::ENOTDIR)),
    }
}

fn file(nodes: &mut HashMap<u64, Node>, ino: u64) -> FsResult<&mut Vec<u8>> {
    match &mut nodes.get_mut(&ino).ok_or(errno(libc::ENOENT))?.content {
        Content::File(bytes) => Ok(bytes),
        _ => Err(errno(libc::EISDIR)),
    }
}

impl Node {
    fn new(mode: u32, content: Content) -> Self {
        let nlink = if matches!(content, Content::Dir(_)) { 2 } else { 1 };
        let mtime = Time { secs: -5, nanos: 123_456_789 };
        Self { mode, uid: 0, gid: 0, nlink, mtime, content, xattrs: BTreeMap::new() }
    }

    fn attr(&self, ino: u64) -> Attr {
        let size = match &self.content {
            Content::File(bytes) | Content::Link(bytes) => bytes.len() as u64,
            Content::Dir(names) => names.len() as u64,
        };
        Attr {
            ino,
            size,
            blocks: size.div_ceil(512),
            mtime: self.mtime,
            mode: self.mode,
            nlink: self.nlink,
            uid: self.uid,
            gid: self.gid,
            blksize: 4096,
            ..Attr::default()
        }
    }
}

impl Filesystem for MemFs {
    fn init(&self, caps: &mut Capabilities) {
        caps.want(
            InitFlags::DO_READDIRPLUS
                | InitFlags::POSIX_LOCKS
                | InitFlags::FLOCK_LOCKS
                | InitFlags::ATOMIC_O_TRUNC
                | InitFlags::HANDLE_KILLPRIV_V2
                | InitFlags::CREATE_SUPP_GROUP
                | InitFlags::HAS_EXPIRE_ONLY,
        );
    }

    fn destroy(&self) {
        self.counters.destroyed.fetch_add(1, Ordering::SeqCst);
    }

    fn lookup(&self, _: &Request<'_>, parent: u64, name: &[u8]) -> FsResult<Entry> {
        self.counters.lookups.fetch_add(1, Ordering::SeqCst);
        let mut nodes = self.nodes.lock();
        match dir(&mut nodes, parent)?.get(name).copied() {
            Some(ino) => self.entry(&nodes, ino),
            None => Ok(Entry::negative(TTL)),
        }
    }

    fn forget(&self, _: u64, nlookup: u64) {
        self.counters.forgets.fetch_add(nlookup, Ordering::SeqCst);
    }

    fn getattr(&self, _: &Request<'_>, ino: u64, _: Option<u64>) -> FsResult<AttrReply> {
        self.counters.getattrs.fetch_add(1, Ordering::SeqCst);
        let attr = self.entry(&self.nodes.lock(), ino)?.attr;
        Ok(AttrReply { attr, ttl: TTL })
    }

    fn statx(
        &self,
        _: &Request<'_>,
        ino: u64,
        _: Option<u64>,
        _: u32,
        _: u32,
    ) -> FsResult<StatxReply> {
        self.counters.getattrs.fetch_add(1, Ordering::SeqCst);
        let attr = self.entry(&self.nodes.lock(), ino)?.attr;
        let btime = Time { secs: 1_000_000, nanos: 7 };
        let mask = libc::STATX_BASIC_STATS | libc::STATX_BTIME;
        Ok(StatxReply { statx: Statx { mask, attr, btime, ..Statx::default() }, ttl: TTL })
    }

    fn setattr(&self, _: &Request<'_>, ino: u64, set: &SetAttr) -> FsResult<AttrReply> {
        let mut nodes = self.nodes.lock();
        if let Some(size) = set.size {
            file(&mut nodes, ino)?.resize(size as usize, 0);
        }
        let node = nodes.get_mut(&ino).ok_or(errno(libc::ENOENT))?;
        if let Some(mode) = set.mode {
            node.mode = node.mode & libc::S_IFMT | mode & 0o7777;
        }
        node.uid = set.uid.unwrap_or(node.uid);
        node.gid = set.gid.unwrap_or(node.gid);
        if let Some(TimeOrNow::At(time)) = set.mtime {
            node.mtime = time;
        }
        Ok(AttrReply { attr: node.attr(ino), ttl: TTL })
    }

    fn readlink(&self, _: &Request<'_>, ino: u64) -> FsResult<Bytes> {
        match &self.nodes.lock().get(&ino).ok_or(errno(libc::ENOENT))?.content {
            Content::Link(target) => Ok(Bytes::copy_from_slice(target)),
            _ => Err(Errno::EINVAL),
        }
    }

    fn mkdir(
        &self,
        _: &Request<'_>,
        parent: u64,
        name: &[u8],
        mode: u32,
        _: u32,
    ) -> FsResult<Entry> {
        self.add(parent, name, Node::new(libc::S_IFDIR | mode, Content::Dir(BTreeMap::new())))
    }

    fn symlink(&self, _: &Request<'_>, parent: u64, name: &[u8], to: &[u8]) -> FsResult<Entry> {
        self.add(parent, name, Node::new(libc::S_IFLNK | 0o777, Content::Link(to.to_vec())))
    }

    fn unlink(&self, _: &Request<'_>, parent: u64, name: &[u8]) -> FsResult<()> {
        self.remove(parent, name)
    }

    fn rmdir(&self, _: &Request<'_>, parent: u64, name: &[u8]) -> FsResult<()> {
        self.remove(parent, name)
    }

    fn rename(
        &self,
        _: &Request<'_>,
        parent: u64,
        name: &[u8],
        newparent: u64,
        newname: &[u8],
        flags: u32,
    ) -> FsResult<()> {
        let mut nodes = self.nodes.lock();
        if flags & libc::RENAME_NOREPLACE != 0 && dir(&mut nodes, newparent)?.contains_key(newname)
        {
            return Err(errno(libc::EEXIST));
        }
        let ino = dir(&mut nodes, parent)?.remove(name).ok_or(errno(libc::ENOENT))?;
        dir(&mut nodes, newparent)?.insert(newname.to_vec(), ino);
        Ok(())
    }

    fn link(&self, _: &Request<'_>, ino: u64, newparent: u64, newname: &[u8]) -> FsResult<Entry> {
        let mut nodes = self.nodes.lock();
        dir(&mut nodes, newparent)?.insert(newname.to_vec(), ino);
        nodes.get_mut(&ino).ok_or(errno(libc::ENOENT))?.nlink += 1;
        self.entry(&nodes, ino)
    }

    fn open(&self, _: &Request<'_>, ino: u64, how: OpenHow) -> FsResult<Opened> {
        let mut nodes = self.nodes.lock();
        if how.flags & libc::O_TRUNC != 0 {
            file(&mut nodes, ino)?.clear();
        }
        Ok(Opened { fh: ino, flags: OpenFlags::KEEP_CACHE })
    }

    fn create(
        &self,
        _: &Request<'_>,
        parent: u64,
        name: &[u8],
        mode: u32,
        _: u32,
        _: OpenHow,
    ) -> FsResult<(Entry, Opened)> {
        let entry = self.add(parent, name, Node::new(mode, Content::File(Vec::new())))?;
        Ok((entry, Opened { fh: entry.ino, flags: OpenFlags::empty() }))
    }

    fn tmpfile(
        &self,
        _: &Request<'_>,
        _: u64,
        mode: u32,
        _: u32,
        _: OpenHow,
    ) -> FsResult<(Entry, Opened)> {
        let mut nodes = self.nodes.lock();
        let ino = self.next.fetch_add(1, Ordering::Relaxed);
        let mut node = Node::new(mode, Content::File(Vec::new()));
        node.nlink = 0;
        nodes.insert(ino, node);
        Ok((self.entry(&nodes, ino)?, Opened { fh: ino, flags: OpenFlags::empty() }))
    }

    /// Answers in slices of 10,000 bytes, so that every larger read uses several.
    fn read(&self, _: &Request<'_>, ino: u64, at: ReadAt) -> FsResult<Data> {
        self.counters.largest_read.fetch_max(u64::from(at.size), Ordering::SeqCst);
        let mut nodes = self.nodes.lock();
        let bytes = file(&mut nodes, ino)?;
        let start = bytes.len().min(at.offset as usize);
        // More than asked for, which must be cut off on the way out.
        let end = bytes.len().min(start + at.size as usize + 100);
        Ok(bytes[start..end].chunks(10_000).map(Bytes::copy_from_slice).collect())
    }

    fn write(&self, _: &Request<'_>, ino: u64, at: WriteAt<'_>) -> FsResult<u32> {
        self.counters.largest_write.fetch_max(at.data.len() as u64, Ordering::SeqCst);
        let mut nodes = self.nodes.lock();
        let bytes = file(&mut nodes, ino)?;
        let start = at.offset as usize;
        bytes.resize(bytes.len().max(start + at.data.len()), 0);
        bytes[start..start + at.data.len()].copy_from_slice(at.data);
        Ok(at.data.len() as u32)
    }

    fn flush(&self, _: &Request<'_>, ino: u64, _: u64, lock_owner: u64) -> FsResult<()> {
        self.unlock_owner(ino, false, lock_owner);
        Ok(())
    }

    fn release(&self, _: &Request<'_>, ino: u64, release: Release) -> FsResult<()> {
        if release.flock_unlock {
            self.unlock_owner(ino, true, release.lock_owner);
        }
        Ok(())
    }

    fn fsync(&self, _: &Request<'_>, _: u64, _: u64, _: bool) -> FsResult<()> {
        Ok(())
    }

    fn opendir(&self, _: &Request<'_>, ino: u64, _: OpenHow) -> FsResult<Opened> {
        Ok(Opened { fh: ino, flags: OpenFlags::empty() })
    }

    fn readdir(
        &self,
        _: &Request<'_>,
        ino: u64,
        _: u64,
        offset: u64,
        sink: &mut DirSink<'_>,
    ) -> FsResult<()> {
        let mut nodes = self.nodes.lock();
        for (next, ino, name) in self.names(&mut nodes, ino, offset)? {
            if sink.push(ino, next, FileKind::Regular, &name) {
                break;
            }
        }
        Ok(())
    }

    fn readdirplus(
        &self,
        _: &Request<'_>,
        ino: u64,
        _: u64,
        offset: u64,
        sink: &mut DirPlusSink<'_>,
    ) -> FsResult<()> {
        self.counters.readdirplus.fetch_add(1, Ordering::SeqCst);
        let mut nodes = self.nodes.lock();
        for (next, ino, name) in self.names(&mut nodes, ino, offset)? {
            if sink.push(&self.entry(&nodes, ino)?, next, &name) {
                break;
            }
        }
        Ok(())
    }

    fn releasedir(&self, _: &Request<'_>, _: u64, _: Release) -> FsResult<()> {
        Ok(())
    }

    fn statfs(&self, _: &Request<'_>, _: u64) -> FsResult<StatFs> {
        Ok(StatFs {
            blocks: 1000,
            bfree: 600,
            bavail: 500,
            files: 70,
            ffree: 60,
            bsize: 1 << 20,
            namelen: 255,
            frsize: 4096,
        })
    }

    fn setxattr(
        &self,
        _: &Request<'_>,
        ino: u64,
        name: &[u8],
        value: &[u8],
        _: u32,
        _: bool,
    ) -> FsResult<()> {
        let mut nodes = self.nodes.lock();
        let node = nodes.get_mut(&ino).ok_or(errno(libc::ENOENT))?;
        node.xattrs.insert(name.to_vec(), Bytes::copy_from_slice(value));
        Ok(())
    }

    fn getxattr(&self, _: &Request<'_>, ino: u64, name: &[u8]) -> FsResult<Bytes> {
        let nodes = self.nodes.lock();
        let node = nodes.get(&ino).ok_or(errno(libc::ENOENT))?;
        node.xattrs.get(name).cloned().ok_or(errno(libc::ENODATA))
    }

    fn listxattr(&self, _: &Request<'_>, ino: u64) -> FsResult<Bytes> {
        let nodes = self.nodes.lock();
        let node = nodes.get(&ino).ok_or(errno(libc::ENOENT))?;
        Ok(node.xattrs.keys().flat_map(|name| [&name[..], b"\0"].concat()).collect())
    }

    fn removexattr(&self, _: &Request<'_>, ino: u64, name: &[u8]) -> FsResult<()> {
        let mut nodes = self.nodes.lock();
        let node = nodes.get_mut(&ino).ok_or(errno(libc::ENOENT))?;
        node.xattrs.remove(name).map(|_| ()).ok_or(errno(libc::ENODATA))
    }

    fn getlk(&self, _: &Request<'_>, ino: u64, lock: &LockRequest) -> FsResult<FileLock> {
        let locks = self.locks.lock();
        let taken = locks.held.get(&(ino, lock.flock)).is_some_and(|owner| *owner != lock.owner);
        let kind = if taken { LockKind::Write } else { LockKind::Unlock };
        Ok(FileLock { kind, ..lock.lock })
    }

    fn setlk(&self, _: &Request<'_>, ino: u64, lock: &LockRequest) -> FsResult<()> {
        if self.try_lock(&mut self.locks.lock(), ino, lock) { Ok(()) } else { Err(Errno::EAGAIN) }
    }

    fn setlkw(&self, _: &Request<'_>, ino: u64, lock: &LockRequest, reply: ReplyLater) {
        let mut locks = self.locks.lock();
        if self.try_lock(&mut locks, ino, lock) {
            reply.ok();
        } else {
            locks.waiting.push_back((ino, *lock, reply));
            self.counters.waits.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn interrupt(&self, unique: u64) {
        self.counters.interrupts.fetch_add(1, Ordering::SeqCst);
        let mut locks = self.locks.lock();
        let waiting = locks.waiting.iter().position(|(_, _, reply)| reply.unique() == unique);
        if let Some((_, _, reply)) = waiting.and_then(|index| locks.waiting.remove(index)) {
            reply.err(Errno::EINTR);
        }
    }

    fn fallocate(
        &self,
        _: &Request<'_>,
        ino: u64,
        _: u64,
        offset: u64,
        length: u64,
        mode: u32,
    ) -> FsResult<()> {
        if mode != 0 {
            return Err(errno(libc::EOPNOTSUPP));
        }
        let mut nodes = self.nodes.lock();
        let bytes = file(&mut nodes, ino)?;
        bytes.resize(bytes.len().max((offset + length) as usize), 0);
        Ok(())
    }

    fn lseek(&self, _: &Request<'_>, _: u64, _: u64, offset: u64, _: u32) -> FsResult<u64> {
        Ok(offset + 3)
    }

    fn copy_file_range(&self, _: &Request<'_>, ino: u64, range: CopyRange) -> FsResult<u64> {
        let mut nodes = self.nodes.lock();
        let from = file(&mut nodes, ino)?;
        let start = from.len().min(range.offset_in as usize);
        let end = from.len().min(start.saturating_add(range.len as usize));
        let bytes = from[start..end].to_vec();
        let to = file(&mut nodes, range.ino_out)?;
        let start = range.offset_out as usize;
        to.resize(to.len().max(start + bytes.len()), 0);
        to[start..start + bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len() as u64)
    }
}

/// A mounted `MemFs`. Dropping it unmounts; a hang aborts the process.
pub struct Mounted {
    running: Option<Running<MemFs>>,
    _watchdog: mpsc::Sender<()>,
    dir: tempfile::TempDir,
    pub counters: Arc<Counters>,
}

impl Mounted {
    pub fn new() -> Self {
        Self::with(&MountOptions { subtype: "memfs".into(), ..MountOptions::default() })
    }

    pub fn with(options: &MountOptions) -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let watchdog = watch(dir.path());
        let counters = Arc::new(Counters::default());
        let mount = Mount::new(dir.path(), options).expect("mount");
        let session = Session::new(MemFs::new(Arc::clone(&counters)), mount, options);
        let running = Some(session.spawn().expect("handshake"));
        Self { running, _watchdog: watchdog, dir, counters }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    pub fn session(&self) -> &Session<MemFs> {
        self.running.as_ref().expect("running").session()
    }

    pub fn stop(mut self) -> std::io::Result<()> {
        self.running.take().expect("running").stop()
    }
}

/// Detaches the mount and aborts when the returned sender lives too long.
pub fn watch(mountpoint: &Path) -> mpsc::Sender<()> {
    let (alive, gone) = mpsc::channel();
    let mountpoint = mountpoint.to_path_buf();
    thread::spawn(move || {
        if gone.recv_timeout(WATCHDOG) == Err(mpsc::RecvTimeoutError::Timeout) {
            // Aborting alone is not enough: a thread that exits with a file of the mount open
            // waits in the kernel for the flush nobody answers. Force fails all requests.
            let forced = rustix::mount::unmount(&mountpoint, rustix::mount::UnmountFlags::FORCE);
            eprintln!("a FUSE test hangs: {forced:?} {:?}", unmount_path(&mountpoint, true));
            std::process::abort();
        }
    });
    alive
}
