//! What a POSIX file system does, as simply as it can be said: maps in memory, no I/O.
//!
//! It is the oracle for the metadata scripts and for what is built on them. Inodes are numbered in
//! the order in which they were made ([`Id`]; 0 is the root), so that a test can keep the real
//! number of each beside it. Files are sparse maps of the bytes that are not zero.

mod ops;

pub use ops::{Op, RenameKind, operations};

use ringfs_base::Errno;
use std::collections::BTreeMap;

/// An inode of the model: its place in the order of creation.
pub type Id = usize;
/// The root directory.
pub const ROOT: Id = 0;

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
}

/// One inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub perm: u16,
    /// Group.
    pub gid: u32,
    /// Names that lead to it; a directory: 2 and its subdirectories; 0 = removed but open.
    pub nlink: u32,
    /// Bytes of a file or of a link's target.
    pub size: u64,
    /// Last change of the data.
    pub mtime: i64,
    /// Last change of the inode.
    pub ctime: i64,
    /// A directory's parent.
    pub parent: Id,
    /// A directory's names.
    pub names: BTreeMap<Vec<u8>, Id>,
    /// A file's bytes that are not zero.
    pub bytes: BTreeMap<u64, u8>,
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What a create or link did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// The inode that has the name.
    pub id: Id,
    /// Whether it is new there.
    pub created: bool,
}

/// A file system.
#[derive(Clone, Debug)]
pub struct Model {
    /// Purged inodes are `None`.
    nodes: Vec<Option<Node>>,
}

impl Node {
    fn new(kind: Kind, perm: u16, gid: u32, parent: Id, now: i64) -> Node {
        Node {
            kind,
            perm,
            gid,
            nlink: if kind == Kind::Dir { 2 } else { 1 },
            size: 0,
            mtime: now,
            ctime: now,
            parent,
            names: BTreeMap::new(),
            bytes: BTreeMap::new(),
            xattrs: BTreeMap::new(),
        }
    }

    fn is_dir(&self) -> bool {
        self.kind == Kind::Dir
    }
}

impl Model {
    /// An empty root directory, made at `now`.
    pub fn new(now: i64) -> Model {
        Model { nodes: vec![Some(Node::new(Kind::Dir, 0o755, 0, ROOT, now))] }
    }

    /// How many inodes were ever made.
    pub fn made(&self) -> usize {
        self.nodes.len()
    }

    /// An inode; ESTALE if it is gone.
    pub fn node(&self, id: Id) -> Result<&Node, Errno> {
        self.nodes.get(id).and_then(Option::as_ref).ok_or(Errno::ESTALE)
    }

    fn node_mut(&mut self, id: Id) -> &mut Node {
        self.nodes[id].as_mut().expect("checked by the caller")
    }

    /// All inodes that exist, orphans too.
    pub fn all(&self) -> impl Iterator<Item = (Id, &Node)> {
        self.nodes.iter().enumerate().filter_map(|(id, node)| Some((id, node.as_ref()?)))
    }

    fn dir(&self, id: Id) -> Result<&Node, Errno> {
        let node = self.node(id)?;
        if node.is_dir() { Ok(node) } else { Err(Errno::ENOTDIR) }
    }

    fn touch(&mut self, id: Id, now: i64) {
        let node = self.node_mut(id);
        node.mtime = now;
        node.ctime = now;
    }

    /// What a name leads to.
    pub fn lookup(&self, dir: Id, name: &[u8]) -> Result<Id, Errno> {
        self.dir(dir)?.names.get(name).copied().ok_or(Errno::ENOENT)
    }

    /// A new inode, unless the name exists. `target` is a symbolic link's.
    pub fn create(
        &mut self,
        dir: Id,
        name: &[u8],
        (kind, perm, gid): (Kind, u16, u32),
        target: u64,
        now: i64,
    ) -> Result<Made, Errno> {
        let parent = self.dir(dir)?;
        if parent.nlink == 0 {
            return Err(Errno::ENOENT);
        }
        if let Some(&id) = parent.names.get(name) {
            return Ok(Made { id, created: false });
        }
        let shared = parent.perm & 0o2000 != 0;
        let gid = if shared { parent.gid } else { gid };
        let perm = if shared && kind == Kind::Dir { perm | 0o2000 } else { perm };
        let id = self.nodes.len();
        let node = Node { size: target, ..Node::new(kind, perm, gid, dir, now) };
        self.nodes.push(Some(node));
        let parent = self.node_mut(dir);
        parent.names.insert(name.to_vec(), id);
        parent.nlink += u32::from(kind == Kind::Dir);
        self.touch(dir, now);
        Ok(Made { id, created: true })
    }

    /// One more name.
    pub fn link(&mut self, id: Id, dir: Id, name: &[u8], now: i64) -> Result<Made, Errno> {
        self.node(dir)?;
        let node = self.node(id)?;
        let parent = self.dir(dir)?;
        if node.is_dir() {
            return Err(Errno::EPERM);
        }
        if parent.nlink == 0 || node.nlink == 0 {
            return Err(Errno::ENOENT);
        }
        if let Some(&id) = parent.names.get(name) {
            return Ok(Made { id, created: false });
        }
        self.node_mut(dir).names.insert(name.to_vec(), id);
        self.touch(dir, now);
        let node = self.node_mut(id);
        node.nlink += 1;
        node.ctime = now;
        Ok(Made { id, created: true })
    }

    /// Takes away one name's share of an inode. `keep`: somebody has it open.
    fn drop_name(&mut self, id: Id, keep: bool, now: i64) {
        let node = self.node_mut(id);
        node.nlink = if node.is_dir() { 0 } else { node.nlink - 1 };
        node.ctime = now;
        if node.nlink == 0 && !keep {
            self.nodes[id] = None;
        }
    }

    /// Removes a name, of a directory if `directory`. Returns the inode that it led to.
    pub fn remove(
        &mut self,
        dir: Id,
        name: &[u8],
        directory: bool,
        keep: bool,
        now: i64,
    ) -> Result<Id, Errno> {
        let id = self.lookup(dir, name)?;
        let node = self.node(id)?;
        match (directory, node.is_dir()) {
            (true, false) => return Err(Errno::ENOTDIR),
            (false, true) => return Err(Errno::EISDIR),
            (true, true) if !node.names.is_empty() => return Err(Errno::ENOTEMPTY),
            _ => {}
        }
        let parent = self.node_mut(dir);
        parent.names.remove(name);
        parent.nlink -= u32::from(directory);
        self.touch(dir, now);
        self.drop_name(id, keep, now);
        Ok(id)
    }

    fn is_below(&self, mut dir: Id, above: Id) -> bool {
        while dir != ROOT {
            if dir == above {
                return true;
            }
            dir = self.nodes[dir].as_ref().expect("a directory with a name exists").parent;
        }
        above == ROOT
    }

    /// Renames. Returns the inode that moved and the one that had the new name.
    pub fn rename(
        &mut self,
        (old_dir, old_name): (Id, &[u8]),
        (new_dir, new_name): (Id, &[u8]),
        kind: RenameKind,
        keep: bool,
        now: i64,
    ) -> Result<(Id, Option<Id>), Errno> {
        self.node(old_dir)?;
        self.node(new_dir)?;
        let (from, to) = (self.dir(old_dir)?, self.dir(new_dir)?);
        if from.nlink == 0 || to.nlink == 0 {
            return Err(Errno::ENOENT);
        }
        let id = *from.names.get(old_name).ok_or(Errno::ENOENT)?;
        let target = to.names.get(new_name).copied();
        match (kind, target) {
            (RenameKind::NoReplace, Some(_)) => return Err(Errno::EEXIST),
            (RenameKind::Exchange, None) => return Err(Errno::ENOENT),
            (_, Some(same)) if same == id => return Ok((id, None)),
            _ => {}
        }
        let exchange = kind == RenameKind::Exchange;
        let moves_dir = self.node(id)?.is_dir();
        let hits_dir = target.is_some_and(|id| self.nodes[id].as_ref().is_some_and(Node::is_dir));
        if old_dir != new_dir {
            let loops = (moves_dir && self.is_below(new_dir, id))
                || target.is_some_and(|id| exchange && hits_dir && self.is_below(old_dir, id));
            if loops {
                return Err(Errno::EINVAL);
            }
        }
        if let Some(target) = target.filter(|_| !exchange) {
            match (moves_dir, hits_dir) {
                (false, true) => return Err(Errno::EISDIR),
                (true, false) => return Err(Errno::ENOTDIR),
                (true, true) if !self.node(target)?.names.is_empty() => {
                    return Err(Errno::ENOTEMPTY);
                }
                _ => {}
            }
        }
        let from = self.node_mut(old_dir);
        from.names.remove(old_name);
        from.nlink -= u32::from(moves_dir);
        let to = self.node_mut(new_dir);
        to.names.insert(new_name.to_vec(), id);
        to.nlink += u32::from(moves_dir);
        to.nlink -= u32::from(hits_dir);
        if let Some(target) = target {
            if exchange {
                let from = self.node_mut(old_dir);
                from.names.insert(old_name.to_vec(), target);
                from.nlink += u32::from(hits_dir);
                let node = self.node_mut(target);
                node.parent = old_dir;
                node.ctime = now;
            } else {
                self.drop_name(target, keep, now);
            }
        }
        let node = self.node_mut(id);
        node.parent = new_dir;
        node.ctime = now;
        self.touch(old_dir, now);
        self.touch(new_dir, now);
        Ok((id, target))
    }

    fn file(&mut self, id: Id) -> Result<&mut Node, Errno> {
        match self.node(id)?.kind {
            Kind::File => Ok(self.node_mut(id)),
            Kind::Dir => Err(Errno::EISDIR),
            Kind::Symlink => Err(Errno::EINVAL),
        }
    }

    /// Sets a file's size.
    pub fn truncate(&mut self, id: Id, size: u64, now: i64) -> Result<(), Errno> {
        let file = self.file(id)?;
        file.bytes.split_off(&size);
        file.size = size;
        self.touch(id, now);
        Ok(())
    }

    /// Writes `len` times `byte` at `offset`, or at the end.
    pub fn write(
        &mut self,
        id: Id,
        offset: Option<u64>,
        len: u64,
        byte: u8,
        now: i64,
    ) -> Result<u64, Errno> {
        let file = self.file(id)?;
        let offset = offset.unwrap_or(file.size);
        for at in offset..offset + len {
            match byte {
                0 => file.bytes.remove(&at),
                byte => file.bytes.insert(at, byte),
            };
        }
        file.size = file.size.max(offset + len);
        self.touch(id, now);
        Ok(offset)
    }

    /// Sets permission bits.
    pub fn chmod(&mut self, id: Id, perm: u16, now: i64) -> Result<(), Errno> {
        self.node(id)?;
        let node = self.node_mut(id);
        node.perm = perm;
        node.ctime = now;
        Ok(())
    }

    /// Sets an extended attribute, or removes it.
    pub fn set_xattr(
        &mut self,
        id: Id,
        name: &[u8],
        value: Option<&[u8]>,
        now: i64,
    ) -> Result<(), Errno> {
        self.node(id)?;
        let node = self.node_mut(id);
        match value {
            Some(value) => drop(node.xattrs.insert(name.to_vec(), value.to_vec())),
            None => drop(node.xattrs.remove(name).ok_or(Errno::ENODATA)?),
        }
        node.ctime = now;
        Ok(())
    }

    /// Everybody closes everything: orphans are gone.
    pub fn close_all(&mut self) {
        for slot in &mut self.nodes {
            if slot.as_ref().is_some_and(|node| node.nlink == 0) {
                *slot = None;
            }
        }
    }

    /// Inodes, and bytes of files by their sizes.
    pub fn usage(&self) -> (u64, u64) {
        let files = self.all().filter(|(_, node)| node.kind == Kind::File);
        (self.all().count() as u64, files.map(|(_, node)| node.size).sum())
    }
}
