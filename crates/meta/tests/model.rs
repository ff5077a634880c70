//! The scripts against the reference model: the same operations give the same replies and leave
//! the same tree, and no slice is lost or freed twice.

#![allow(clippy::unwrap_used, reason = "a test that fails shall panic")]

mod fixture;

use fixture::*;
use proptest::prelude::*;
use ringfs_base::limits::CHUNK_BYTES;
use ringfs_base::{Epoch, Errno, InodeId, SliceId};
use ringfs_meta::*;
use ringfs_testkit::model::{self, Id, Kind, Model, Node, Op, RenameKind};
use std::collections::{BTreeMap, BTreeSet};

const OPERATIONS_MAX: usize = 120;
const INLINE_MAX: u64 = 8192;

struct Both {
    f: Fixture,
    model: Model,
    /// Real numbers of the model's inodes.
    inos: Vec<InodeId>,
    /// The byte that a slice is full of, and whether it is still in use.
    slices: BTreeMap<SliceId, u8>,
    freed: BTreeSet<SliceId>,
    held: Vec<InodeId>,
    now: i64,
}

type Answer<T> = Result<T, Errno>;

fn posix_or_panic<T>(result: Result<T, MetaError>) -> Answer<T> {
    result.map_err(posix)
}

impl Both {
    fn new() -> Both {
        Both {
            f: Fixture::new(),
            model: Model::new(1),
            inos: vec![InodeId::ROOT],
            slices: BTreeMap::new(),
            freed: BTreeSet::new(),
            held: Vec::new(),
            now: 1000,
        }
    }

    fn id(&self, any: usize) -> Id {
        any % self.model.made()
    }

    /// The attributes must be those that the model has now.
    fn same_attr(&self, id: Id, attr: &Attr) {
        let node = self.model.node(id).unwrap();
        assert_eq!(attr.ino, self.inos[id]);
        let kind = match node.kind {
            Kind::File => FileKind::File,
            Kind::Dir => FileKind::Directory,
            Kind::Symlink => FileKind::Symlink,
        };
        let real = (attr.kind, attr.perm, attr.gid, attr.nlink, attr.size);
        assert_eq!(real, (kind, node.perm, node.gid, node.nlink, node.size), "inode {id}");
        let times = (attr.mtime.0, attr.ctime.0);
        assert_eq!(times, (node.mtime, node.ctime), "times of inode {id}");
        assert_eq!(attr.entries as usize, node.names.len(), "names of {id}");
        if node.kind == Kind::Dir {
            assert_eq!(attr.parent, Some(self.inos[node.parent]), "parent of {id}");
        }
    }

    fn free(&mut self, records: &[ExtentRecord]) {
        for record in records {
            assert!(self.slices.contains_key(&record.slice), "freed a slice that never was");
            assert!(self.freed.insert(record.slice), "{:?} was freed twice", record.slice);
        }
    }

    fn removed(&mut self, id: Id, removed: &Removed, open: bool) {
        assert_eq!(removed.attr.ino, self.inos[id]);
        match &removed.fate {
            Fate::Linked => assert!(self.model.node(id).unwrap().nlink > 0),
            Fate::Orphaned => {
                assert!(open, "kept although nobody has it open");
                self.same_attr(id, &removed.attr);
                self.held.push(removed.attr.ino);
            }
            Fate::Purged(records) => {
                assert!(!open && self.model.node(id).is_err());
                self.free(records);
            }
        }
    }

    /// What the caller says about the inode that a name leads to.
    fn victim(&self, dir: Id, name: &[u8], open: bool) -> Victim {
        match self.model.lookup(dir, name) {
            Ok(id) if open => Victim::Open(self.inos[id]),
            Ok(id) => Victim::NotOpen(self.inos[id]),
            Err(_) => Victim::Unknown,
        }
    }

    fn apply(&mut self, op: &Op) {
        self.now += 10;
        let now = self.now;
        let s = std::sync::Arc::clone(&self.f.session);
        match op {
            Op::Create { dir, name, kind, perm } => {
                let dir = self.id(*dir);
                let target = if *kind == Kind::Symlink { &b"target"[..] } else { b"" };
                let new = NewInode {
                    kind: match kind {
                        Kind::File => FileKind::File,
                        Kind::Dir => FileKind::Directory,
                        Kind::Symlink => FileKind::Symlink,
                    },
                    perm: *perm,
                    umask: 0,
                    uid: 1,
                    gid: 20 + u32::from(perm % 3),
                    rdev: 0,
                    target,
                };
                let real = posix_or_panic(s.create(self.inos[dir], name, &new, t(now)));
                let made = (*kind, *perm, new.gid);
                let expected = self.model.create(dir, name, made, target.len() as u64, now);
                self.same_made(dir, real, expected);
            }
            Op::Link { id, dir, name } => {
                let (id, dir) = (self.id(*id), self.id(*dir));
                let real = posix_or_panic(s.link(self.inos[id], self.inos[dir], name, t(now)));
                let expected = self.model.link(id, dir, name, now);
                self.same_made(dir, real, expected);
            }
            Op::Remove { dir, name, directory, open } => {
                let dir = self.id(*dir);
                let (ino, victim) = (self.inos[dir], self.victim(dir, name, *open));
                let real = posix_or_panic(match directory {
                    true => s.rmdir(ino, name, victim, t(now)),
                    false => s.unlink(ino, name, victim, t(now)),
                });
                match (real, self.model.remove(dir, name, *directory, *open, now)) {
                    (Ok(real), Ok(id)) => {
                        self.same_attr(dir, &real.parent);
                        self.removed(id, &real.removed, *open);
                    }
                    (real, expected) => assert_eq!(real.err(), expected.err(), "{op:?}"),
                }
            }
            Op::Rename { from, to, kind, open } => {
                let (old, new) = (self.id(from.0), self.id(to.0));
                let mode = match kind {
                    RenameKind::Replace => RenameMode::Replace,
                    RenameKind::NoReplace => RenameMode::NoReplace,
                    RenameKind::Exchange => RenameMode::Exchange,
                };
                let victim = self.victim(new, &to.1, *open);
                let (a, b) = (self.inos[old], self.inos[new]);
                let real = posix_or_panic(s.rename(a, &from.1, b, &to.1, mode, victim, t(now)));
                let expected = self.model.rename((old, &from.1), (new, &to.1), *kind, *open, now);
                match (real, expected) {
                    (Ok(real), Ok((id, target))) => {
                        self.same_attr(id, &real.attr);
                        self.same_attr(old, &real.old_parent);
                        self.same_attr(new, &real.new_parent);
                        match (target, mode) {
                            (None, _) => assert!(real.replaced.is_none()),
                            (Some(target), RenameMode::Exchange) => {
                                self.same_attr(target, &real.exchanged.unwrap());
                            }
                            (Some(target), _) => {
                                self.removed(target, &real.replaced.unwrap(), *open);
                            }
                        }
                    }
                    (real, expected) => assert_eq!(real.err(), expected.err(), "{op:?}"),
                }
            }
            Op::Truncate { id, size } => {
                let id = self.id(*id);
                let change = SetAttr { size: Some(*size), ..SetAttr::default() };
                let real = posix_or_panic(s.setattr(self.inos[id], &change, t(now)));
                let expected = self.model.truncate(id, *size, now);
                self.same_changed(id, real, expected);
            }
            Op::Chmod { id, perm } => {
                let id = self.id(*id);
                let change = SetAttr { perm: Some(*perm), ..SetAttr::default() };
                let real = posix_or_panic(s.setattr(self.inos[id], &change, t(now)));
                let expected = self.model.chmod(id, *perm, now);
                self.same_changed(id, real, expected);
            }
            Op::Write { id, offset, len, byte, small } => {
                let id = self.id(*id);
                let real = self.write(self.inos[id], *offset, *len, *byte, *small);
                let expected = self.model.write(id, *offset, *len, *byte, now);
                match (real, expected) {
                    (Ok(real), Ok(placed)) => {
                        assert!(offset.is_some() || real.placed_at == placed, "{op:?}");
                        self.same_attr(id, &real.attr);
                    }
                    (real, expected) => assert_eq!(real.err(), expected.err(), "{op:?}"),
                }
            }
            Op::Compact { id } => self.compact(self.id(*id)),
            Op::SetXattr { id, name, value } => {
                let id = self.id(*id);
                let real = posix_or_panic(match value {
                    Some(value) => {
                        s.setxattr(self.inos[id], name, value, XattrMode::Either, t(now))
                    }
                    None => s.removexattr(self.inos[id], name, t(now)),
                });
                match (real, self.model.set_xattr(id, name, value.as_deref(), now)) {
                    (Ok(real), Ok(())) => self.same_attr(id, &real),
                    (real, expected) => assert_eq!(real.err(), expected.err(), "{op:?}"),
                }
            }
            Op::CloseAll => self.close_all(),
        }
    }

    fn same_made(&mut self, dir: Id, real: Answer<Created>, expected: Answer<model::Made>) {
        match (real, expected) {
            (Ok(real), Ok(made)) => {
                assert_eq!(real.created, made.created);
                if made.id == self.inos.len() {
                    self.inos.push(real.attr.ino);
                }
                self.same_attr(made.id, &real.attr);
                self.same_attr(dir, &real.parent);
            }
            (real, expected) => assert_eq!(real.err(), expected.err()),
        }
    }

    fn same_changed(&mut self, id: Id, real: Answer<Changed>, expected: Answer<()>) {
        match (real, expected) {
            (Ok(real), Ok(())) => {
                self.same_attr(id, &real.attr);
                self.free(&real.freed);
            }
            (real, expected) => assert_eq!(real.err(), expected.err()),
        }
    }

    /// As a mount writes: small data inline if the file takes it, otherwise a slice a chunk.
    fn write(
        &mut self,
        ino: InodeId,
        offset: Option<u64>,
        len: u64,
        byte: u8,
        small: bool,
    ) -> Answer<Committed> {
        let s = std::sync::Arc::clone(&self.f.session);
        let data = vec![byte; len as usize];
        let mut size_known = None;
        if small && offset.is_none_or(|offset| offset + len <= INLINE_MAX) {
            let patches = [(offset.unwrap_or(0), &data[..])];
            let data = match offset {
                Some(_) => CommitData::Inline(&patches),
                None => CommitData::AppendInline(&data),
            };
            match posix_or_panic(s.commit(ino, &request(data, self.now)))? {
                Commit::Done(done) => return Ok(done),
                Commit::NeedSlice(attr) => size_known = Some(attr.size),
                other => panic!("{other:?}"),
            }
        }
        for _ in 0..2 {
            // An append does not know its place at first: one slice, cut when it straddles.
            let at = offset.or(size_known).unwrap_or(0);
            let mut pieces: Vec<(u64, ExtentRecord)> = Vec::new();
            let mut done = 0;
            while done < len {
                let (chunk, pos) = ((at + done) / CHUNK_BYTES, (at + done) % CHUNK_BYTES);
                let part = (len - done).min(CHUNK_BYTES - pos) as u32;
                let slice = s.alloc_slice().unwrap();
                self.slices.insert(slice, byte);
                pieces.push((chunk, extent(pos as u32, part, slice.0)));
                done += u64::from(part);
            }
            let records: Vec<ExtentRecord> = pieces.iter().map(|piece| piece.1).collect();
            let chunks: Vec<(u64, &[ExtentRecord])> = pieces
                .iter()
                .zip(&records)
                .map(|((chunk, _), record)| (*chunk, std::slice::from_ref(record)))
                .collect();
            let data = match offset {
                Some(_) => CommitData::Extents(&chunks),
                None => CommitData::AppendExtents(&records),
            };
            let commit = posix_or_panic(s.commit(ino, &request(data, self.now)));
            match commit {
                Ok(Commit::Done(done)) => return Ok(done),
                Ok(Commit::Straddles(attr)) => size_known = Some(attr.size),
                Ok(other) => panic!("{other:?}"),
                Err(errno) => {
                    self.slices
                        .retain(|slice, _| !records.iter().any(|record| record.slice == *slice));
                    return Err(errno);
                }
            }
            self.slices.retain(|slice, _| !records.iter().any(|record| record.slice == *slice));
        }
        panic!("an append cut at the border straddles again");
    }

    fn compact(&mut self, id: Id) {
        let ino = self.inos[id];
        for (chunk, old) in self.f.volume.chunks_of(ino).unwrap() {
            let new = normalise(&old, chunk > 0);
            let dropped = self.f.session.compact(ino, chunk, &old, &new, Epoch(0)).unwrap();
            match dropped {
                Compacted::Done(dropped) => self.free(&dropped),
                other => panic!("nobody else writes: {other:?}"),
            }
        }
    }

    fn close_all(&mut self) {
        let s = std::sync::Arc::clone(&self.f.session);
        for ino in std::mem::take(&mut self.held) {
            assert!(s.release_hold(ino).unwrap());
        }
        s.heartbeat(&Beat::default()).unwrap();
        s.heartbeat(&Beat::default()).unwrap();
        for ino in s.purgeable(10_000).unwrap() {
            match s.purge(ino).unwrap() {
                Purge::Done(records) => self.free(&records),
                other => panic!("{other:?}"),
            }
        }
        self.model.close_all();
    }

    /// The bytes of a file that are not zero.
    fn content(&self, ino: InodeId) -> BTreeMap<u64, u8> {
        let opened = self.f.session.open(ino, None).unwrap();
        let mut bytes = BTreeMap::new();
        let mut put = |at: u64, byte: u8| {
            assert!(at < opened.attr.size, "data beyond the end");
            if byte != 0 {
                bytes.insert(at, byte);
            }
        };
        let (inline, chunks) = match opened.data {
            OpenData::Inline(inline) => (inline, vec![]),
            OpenData::Extents { inline, chunks, chunks_known } => {
                assert_eq!(chunks_known, u64::MAX);
                (inline, chunks)
            }
            OpenData::Unchanged => panic!("nothing was known"),
        };
        let empty = vec![];
        let first = chunks.iter().find(|(chunk, _)| *chunk == 0).map_or(&empty, |(_, list)| list);
        for piece in resolve(first, 0..CHUNK_BYTES as u32) {
            if piece.source == Source::Below {
                let to = (piece.pos + piece.len).min(inline.len() as u32);
                (piece.pos..to).for_each(|at| put(u64::from(at), inline[at as usize]));
            }
        }
        for (chunk, records) in &chunks {
            for piece in resolve(records, 0..CHUNK_BYTES as u32) {
                if let Source::Slice { slice, .. } = piece.source {
                    assert!(!self.freed.contains(&slice), "{slice:?} is freed but in use");
                    let at = *chunk * CHUNK_BYTES + u64::from(piece.pos);
                    (at..at + u64::from(piece.len)).for_each(|at| put(at, self.slices[&slice]));
                }
            }
        }
        bytes
    }

    fn same_node(&self, id: Id, node: &Node) {
        let (s, ino) = (&self.f.session, self.inos[id]);
        self.same_attr(id, &s.getattr(ino).unwrap());
        let mut names = BTreeMap::new();
        if node.kind == Kind::Dir {
            for item in s.readdir(ino, 0, 4096, true).unwrap().items {
                let attr = item.attr.expect("a name leads to an inode");
                assert_eq!(attr.kind, item.kind);
                names.insert(item.name, item.ino);
            }
        }
        let expected: BTreeMap<_, _> =
            node.names.iter().map(|(name, id)| (name.clone(), self.inos[*id])).collect();
        assert_eq!(names, expected, "names in {id}");
        let xattrs: Vec<Vec<u8>> = node.xattrs.keys().cloned().collect();
        assert_eq!(s.listxattr(ino).unwrap(), xattrs);
        match node.kind {
            Kind::File => assert_eq!(self.content(ino), node.bytes, "bytes of {id}"),
            Kind::Symlink => assert_eq!(&s.readlink(ino).unwrap()[..], b"target"),
            Kind::Dir => {}
        }
    }

    fn same_tree(&mut self) {
        for (id, node) in self.model.all() {
            self.same_node(id, node);
        }
        let usage = self.f.session.usage().unwrap();
        assert_eq!((usage.inodes, usage.bytes), self.model.usage());
        // What tools see: exactly these inodes, and every slice is in use or was freed.
        let (next, attrs) = self.f.volume.scan_inodes(0).unwrap();
        assert_eq!((next, attrs.len()), (0, self.model.all().count()));
        let (_, chunks) = self.f.volume.scan_extents(0).unwrap();
        let used: BTreeSet<SliceId> = chunks
            .iter()
            .flat_map(|chunk| chunk.records.as_ref().unwrap())
            .filter(|record| !record.is_hole())
            .map(|record| record.slice)
            .collect();
        let kept: BTreeSet<SliceId> =
            self.slices.keys().filter(|slice| !self.freed.contains(slice)).copied().collect();
        assert_eq!(used, kept);
        let (_, entries) = self.f.volume.scan_entries(0).unwrap();
        let names: usize = self.model.all().map(|(_, node)| node.names.len()).sum();
        assert_eq!(entries.len(), names);
    }
}

fn run(ops: &[Op]) {
    let mut both = Both::new();
    for op in ops {
        both.apply(op);
    }
    both.same_tree();
    both.close_all();
    both.same_tree();
}

/// Found by the test below: the hole that a truncation leaves was reported as a slice freed.
#[test]
fn holes_are_no_slices_to_free() {
    let file =
        |name: &[u8]| Op::Create { dir: 0, name: name.to_vec(), kind: Kind::File, perm: 0o644 };
    run(&[
        file(b"a"),
        Op::Write { id: 1, offset: None, len: 13, byte: 1, small: false },
        Op::Truncate { id: 1, size: 1 },
        Op::Remove { dir: 0, name: b"a".to_vec(), directory: false, open: false },
    ]);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 96,
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    fn scripts_do_what_the_model_does(ops in model::operations(OPERATIONS_MAX)) {
        run(&ops);
    }
}
