//! Each operation on a real server: what it answers, and that it is one round trip.

#![allow(clippy::unwrap_used, reason = "a test that fails shall panic")]

mod fixture;

use fixture::*;
use ringfs_base::limits::CHUNK_BYTES;
use ringfs_base::{Epoch, Errno, InodeId, SliceId, Timestamp};
use ringfs_link::Cmd;
use ringfs_meta::*;

const ROOT: InodeId = InodeId::ROOT;

fn ok<T>(result: Result<T, MetaError>) {
    result.unwrap();
}

#[test]
fn create_and_lookup() {
    let f = Fixture::new();
    let s = &f.session;
    let a = s.create(ROOT, b"a", &file(), t(5)).unwrap();
    assert!(a.created);
    assert_eq!(
        (a.attr.size, a.attr.nlink, a.attr.perm, a.attr.uid, a.attr.gid),
        (0, 1, 0o644, 10, 20)
    );
    assert_eq!((a.parent.entries, a.parent.nlink, a.parent.mtime), (1, 2, t(5)));
    let found = s.lookup(ROOT, b"a").unwrap();
    assert_eq!((found.attr, found.parent), (a.attr, a.parent));
    assert_eq!(s.getattr(a.attr.ino).unwrap(), a.attr);
    let again = s.create(ROOT, b"a", &dir(), t(6)).unwrap();
    assert_eq!((again.created, again.attr, again.parent), (false, a.attr, a.parent));
    let d = s.create(ROOT, b"d", &dir(), t(7)).unwrap();
    assert_eq!((d.attr.nlink, d.attr.parent, d.parent.nlink), (2, Some(ROOT), 3));
    let below = s.create(d.attr.ino, b"x", &file(), t(8)).unwrap();
    assert_eq!(below.parent.ino, d.attr.ino);
    assert_eq!(posix(s.lookup(ROOT, b"none").unwrap_err()), Errno::ENOENT);
    assert_eq!(posix(s.lookup(a.attr.ino, b"x").unwrap_err()), Errno::ENOTDIR);
    assert_eq!(posix(s.lookup(InodeId(9999), b"x").unwrap_err()), Errno::ESTALE);
    assert_eq!(posix(s.lookup(InodeId(3 << 48 | 1), b"x").unwrap_err()), Errno::ESTALE);
    assert_eq!(posix(s.create(a.attr.ino, b"x", &file(), t(9)).unwrap_err()), Errno::ENOTDIR);
    assert_eq!(s.usage().unwrap().inodes, 4);
}

#[test]
fn every_kind_of_inode() {
    let f = Fixture::new();
    let s = &f.session;
    let link = NewInode { kind: FileKind::Symlink, perm: 0o777, target: b"to/where", ..file() };
    let made = s.create(ROOT, b"l", &link, t(1)).unwrap();
    assert_eq!(made.attr.size, 8);
    assert_eq!(&s.readlink(made.attr.ino).unwrap()[..], b"to/where");
    let special = NewInode { kind: FileKind::CharDevice, rdev: 0x501, ..file() };
    let made = s.create(ROOT, b"c", &special, t(1)).unwrap();
    assert_eq!((made.attr.rdev, made.attr.kind), (0x501, FileKind::CharDevice));
    for (name, kind) in [(b"f", FileKind::Fifo), (b"s", FileKind::Socket)] {
        let made = s.create(ROOT, name, &NewInode { kind, ..file() }, t(1)).unwrap();
        assert_eq!(s.lookup(ROOT, name).unwrap().attr, made.attr);
        assert_eq!(posix(s.readlink(made.attr.ino).unwrap_err()), Errno::EINVAL);
    }
    s.unlink(ROOT, b"l", Victim::NotOpen(s.lookup(ROOT, b"l").unwrap().attr.ino), t(2)).unwrap();
    let keys = f.server.command(&["KEYS", "*:i*"]);
    assert!(keys.into_array().unwrap().iter().all(|k| !k.as_bytes().unwrap().ends_with(b"i64")));
}

#[test]
fn set_group_id_directories_pass_on_their_group() {
    let f = Fixture::new();
    let s = &f.session;
    let shared = NewInode { perm: 0o2775, gid: 77, ..dir() };
    let d = s.create(ROOT, b"d", &shared, t(1)).unwrap().attr.ino;
    let below = s.create(d, b"f", &file(), t(1)).unwrap().attr;
    assert_eq!((below.gid, below.perm), (77, 0o644));
    let below = s.create(d, b"s", &dir(), t(1)).unwrap().attr;
    assert_eq!((below.gid, below.perm), (77, 0o2755));
}

#[test]
fn names_are_bytes() {
    let f = Fixture::new();
    let s = &f.session;
    let long = [b'x'; 255];
    let names: Vec<&[u8]> = vec![
        b"}",
        b"{",
        b"{a}",
        b"\r\n",
        b"a\nb",
        b"\xff\xfe",
        b"*",
        b"?[x]",
        b" ",
        b"...",
        b"-1",
        b"0",
        &long,
        "ü".as_bytes(),
    ];
    for name in &names {
        let made = s.create(ROOT, name, &file(), t(1)).unwrap();
        assert_eq!(s.lookup(ROOT, name).unwrap().attr, made.attr, "{name:?}");
    }
    let page = s.readdir(ROOT, 0, 100, true).unwrap();
    assert_eq!((page.items.len(), page.next), (names.len(), None));
    for name in &names {
        let ino = page.items.iter().find(|item| item.name == *name).unwrap().ino;
        s.unlink(ROOT, name, Victim::NotOpen(ino), t(2)).unwrap();
    }
    assert_eq!(
        posix(s.create(ROOT, &[b'x'; 256], &file(), t(1)).unwrap_err()),
        Errno::ENAMETOOLONG
    );
    for bad in [&b""[..], b".", b"..", b"a/b", b"a\0b"] {
        assert_eq!(posix(s.create(ROOT, bad, &file(), t(1)).unwrap_err()), Errno::EINVAL);
    }
}

#[test]
fn unlink_purges_what_nobody_has_open_and_keeps_what_is_open() {
    let f = Fixture::new();
    let s = &f.session;
    let a = s.create(ROOT, b"a", &file(), t(1)).unwrap().attr.ino;
    let chunks = [(0, &[extent(0, 100, 5), extent(50, 10, 6)][..]), (3, &[extent(0, 7, 8)][..])];
    done(s.commit(a, &request(CommitData::Extents(&chunks), 2)).unwrap());
    assert_eq!(s.usage().unwrap().bytes, 3 * CHUNK_BYTES + 7);
    let gone = s.unlink(ROOT, b"a", Victim::NotOpen(a), t(3)).unwrap();
    let Fate::Purged(freed) = gone.removed.fate else { panic!("{gone:?}") };
    let mut slices: Vec<u64> = freed.iter().map(|record| record.slice.0).collect();
    slices.sort_unstable();
    assert_eq!(slices, [5, 6, 8]);
    assert_eq!((gone.parent.entries, gone.removed.attr.nlink), (0, 0));
    assert_eq!(posix(s.getattr(a).unwrap_err()), Errno::ESTALE);
    assert_eq!((s.usage().unwrap().inodes, s.usage().unwrap().bytes), (1, 0));

    let b = s.create(ROOT, b"b", &file(), t(4)).unwrap().attr.ino;
    done(s.commit(b, &request(CommitData::Inline(&[(0, b"hello")]), 5)).unwrap());
    let gone = s.unlink(ROOT, b"b", Victim::Open(b), t(6)).unwrap();
    assert_eq!(gone.removed.fate, Fate::Orphaned);
    let opened = s.open(b, None).unwrap();
    assert_eq!(opened.data, OpenData::Inline(b"hello"[..].into()));
    assert_eq!((opened.attr.nlink, opened.attr.flags.has(AttrFlags::ORPHAN)), (0, true));
    assert_eq!(s.purge(b).unwrap(), Purge::Held);
    assert_eq!(f.volume.orphans(9).unwrap(), [b]);
    assert!(s.release_hold(b).unwrap());
    assert_eq!(posix(s.open(b, None).unwrap_err()), Errno::ESTALE);
    assert_eq!(s.purge(b).unwrap(), Purge::Done(vec![]));
    assert_eq!(s.purge(b).unwrap(), Purge::Gone);
    assert_eq!((s.usage().unwrap().inodes, s.usage().unwrap().bytes), (1, 0));
}

#[test]
fn links_and_directories() {
    let f = Fixture::new();
    let s = &f.session;
    let a = s.create(ROOT, b"a", &file(), t(1)).unwrap().attr.ino;
    let d = s.create(ROOT, b"d", &dir(), t(1)).unwrap().attr.ino;
    let linked = s.link(a, d, b"b", t(2)).unwrap();
    assert_eq!((linked.attr.nlink, linked.attr.ctime, linked.parent.entries), (2, t(2), 1));
    assert!(!s.link(a, d, b"b", t(2)).unwrap().created);
    assert_eq!(posix(s.link(d, ROOT, b"x", t(2)).unwrap_err()), Errno::EPERM);
    assert_eq!(posix(s.rmdir(ROOT, b"d", Victim::NotOpen(d), t(3)).unwrap_err()), Errno::ENOTEMPTY);
    assert_eq!(posix(s.rmdir(ROOT, b"a", Victim::Unknown, t(3)).unwrap_err()), Errno::ENOTDIR);
    assert_eq!(posix(s.unlink(ROOT, b"d", Victim::Unknown, t(3)).unwrap_err()), Errno::EISDIR);
    assert_eq!(posix(s.unlink(ROOT, b"z", Victim::Unknown, t(3)).unwrap_err()), Errno::ENOENT);
    let gone = s.unlink(d, b"b", Victim::NotOpen(a), t(4)).unwrap();
    assert_eq!((gone.removed.fate, gone.removed.attr.nlink), (Fate::Linked, 1));
    let gone = s.rmdir(ROOT, b"d", Victim::Open(d), t(5)).unwrap();
    assert_eq!((gone.removed.fate, gone.parent.nlink, gone.parent.entries), (Fate::Orphaned, 2, 1));
    assert_eq!(posix(s.create(d, b"x", &file(), t(6)).unwrap_err()), Errno::ENOENT);
}

#[test]
fn rename_in_all_its_forms() {
    let f = Fixture::new();
    let s = &f.session;
    let make = |parent, name: &[u8], new: &NewInode<'_>| {
        s.create(parent, name, new, t(1)).unwrap().attr.ino
    };
    let (d, e) = (make(ROOT, b"d", &dir()), make(ROOT, b"e", &dir()));
    let (a, b) = (make(d, b"a", &file()), make(e, b"b", &file()));
    let plain = RenameMode::Replace;
    let moved = s.rename(d, b"a", e, b"a", plain, Victim::Unknown, t(2)).unwrap();
    assert_eq!((moved.attr.ino, moved.attr.ctime), (a, t(2)));
    assert_eq!((moved.old_parent.entries, moved.new_parent.entries), (0, 2));
    assert_eq!((moved.replaced, moved.exchanged), (None, None));
    let error = s.rename(e, b"a", e, b"b", RenameMode::NoReplace, Victim::Unknown, t(3));
    assert_eq!(posix(error.unwrap_err()), Errno::EEXIST);
    let moved = s.rename(e, b"a", e, b"b", plain, Victim::NotOpen(b), t(3)).unwrap();
    assert_eq!(moved.replaced.unwrap().fate, Fate::Purged(vec![]));
    assert_eq!((moved.new_parent.entries, moved.old_parent.entries), (1, 1));
    assert_eq!(s.lookup(e, b"b").unwrap().attr.ino, a);
    assert_eq!(posix(s.lookup(e, b"a").unwrap_err()), Errno::ENOENT);

    // d goes below e; then e may not go below d.
    let moved = s.rename(ROOT, b"d", e, b"d", plain, Victim::Unknown, t(4)).unwrap();
    assert_eq!(
        (moved.attr.parent, moved.old_parent.nlink, moved.new_parent.nlink),
        (Some(e), 3, 3)
    );
    for (old, new) in [(ROOT, d), (ROOT, e)] {
        let error = s.rename(old, b"e", new, b"x", plain, Victim::Unknown, t(5)).unwrap_err();
        assert_eq!(posix(error), Errno::EINVAL);
    }
    let swap = RenameMode::Exchange;
    let error = s.rename(ROOT, b"e", e, b"d", swap, Victim::Unknown, t(5)).unwrap_err();
    assert_eq!(posix(error), Errno::EINVAL);
    let error = s.rename(e, b"b", ROOT, b"e", plain, Victim::Unknown, t(5)).unwrap_err();
    assert_eq!(posix(error), Errno::EISDIR);
    let g = make(ROOT, b"g", &dir());
    let error = s.rename(ROOT, b"g", e, b"b", plain, Victim::Unknown, t(5)).unwrap_err();
    assert_eq!(posix(error), Errno::ENOTDIR);
    let error = s.rename(ROOT, b"g", ROOT, b"e", plain, Victim::Unknown, t(5)).unwrap_err();
    assert_eq!(posix(error), Errno::ENOTEMPTY);
    let moved = s.rename(ROOT, b"g", e, b"b", swap, Victim::Unknown, t(6)).unwrap();
    assert_eq!((moved.attr.ino, moved.exchanged.unwrap().ino), (g, a));
    assert_eq!((moved.old_parent.nlink, moved.new_parent.nlink), (3, 4));
    assert_eq!(moved.attr.parent, Some(e));
    let moved = s.rename(e, b"b", e, b"d", plain, Victim::NotOpen(d), t(7)).unwrap();
    assert_eq!((moved.new_parent.nlink, moved.new_parent.entries), (3, 1));
    assert_eq!(moved.old_parent, moved.new_parent);
    assert_eq!(posix(s.getattr(d).unwrap_err()), Errno::ESTALE);
    // Two names of one inode: nothing happens.
    s.link(a, ROOT, b"g2", t(8)).unwrap();
    let same = s.rename(ROOT, b"g", ROOT, b"g2", plain, Victim::Unknown, t(9)).unwrap();
    assert_eq!((same.attr.nlink, same.new_parent.mtime), (2, t(8)));
}

#[test]
fn data_inline_then_extents() {
    let f = Fixture::new();
    let s = &f.session;
    let a = s.create(ROOT, b"a", &NewInode { perm: 0o6755, ..file() }, t(1)).unwrap().attr.ino;
    let c = done(s.commit(a, &request(CommitData::Inline(&[(2, b"cd"), (0, b"a")]), 2)).unwrap());
    assert_eq!((c.attr.size, c.attr.mtime, c.attr.perm, c.placed_at), (4, t(2), 0o6755, 0));
    let c = done(s.commit(a, &request(CommitData::AppendInline(b"ef"), 3)).unwrap());
    assert_eq!((c.attr.size, c.placed_at), (6, 4));
    let opened = s.open(a, None).unwrap();
    assert_eq!(opened.data, OpenData::Inline(b"a\0cdef"[..].into()));
    let known = Known { ctime: opened.attr.ctime, size: opened.attr.size };
    assert_eq!(s.open(a, Some(known)).unwrap().data, OpenData::Unchanged);
    let big = vec![1; 8192];
    assert!(matches!(s.commit(a, &request(CommitData::AppendInline(&big), 4)).unwrap(),
        Commit::NeedSlice(attr) if attr.size == 6));
    let c = s.commit(
        a,
        &CommitRequest {
            kill_suid: true,
            ..request(CommitData::AppendExtents(&[extent(0, 10, 5), extent(0, 20, 6)]), 5)
        },
    );
    let c = done(c.unwrap());
    assert_eq!((c.attr.size, c.placed_at, c.records, c.attr.perm), (36, 6, 2, 0o755));
    assert!(matches!(
        s.commit(a, &request(CommitData::Inline(&[(0, b"x")]), 6)).unwrap(),
        Commit::NeedSlice(_)
    ));
    let placed = vec![
        ExtentRecord { pos: 6, ..extent(0, 10, 5) },
        ExtentRecord { pos: 16, ..extent(0, 20, 6) },
    ];
    assert_eq!(
        s.open(a, None).unwrap().data,
        OpenData::Extents {
            inline: b"a\0cdef"[..].into(),
            chunks: vec![(0, placed.clone())],
            chunks_known: u64::MAX,
        }
    );
    assert_eq!(s.extents(a, &[0, 7]).unwrap().chunks, [placed.clone(), vec![]]);
    let whole = [extent(0, 36, 9)];
    let changed = s.compact(a, 0, &placed[1..], &whole, Epoch(0)).unwrap();
    assert_eq!(changed, Compacted::Changed);
    let done = s.compact(a, 0, &placed, &whole, Epoch(0)).unwrap();
    let Compacted::Done(dropped) = done else { panic!("{done:?}") };
    assert_eq!(dropped.iter().map(|r| r.slice.0).collect::<Vec<_>>(), [5, 6]);
    assert_eq!(s.extents(a, &[0]).unwrap().chunks, [whole.to_vec()]);
}

#[test]
fn appends_do_not_cross_chunks_and_stale_epochs_are_refused() {
    let f = Fixture::new();
    let s = &f.session;
    let a = s.create(ROOT, b"a", &file(), t(1)).unwrap().attr.ino;
    let to = |size| SetAttr { size: Some(size), ..SetAttr::default() };
    s.setattr(a, &to(CHUNK_BYTES - 10), t(2)).unwrap();
    let long = [extent(0, 11, 3)];
    assert!(matches!(s.commit(a, &request(CommitData::AppendExtents(&long), 3)).unwrap(),
        Commit::Straddles(attr) if attr.size == CHUNK_BYTES - 10));
    // Nor may a slice go on in the next chunk, though each of its records fits: freeing either chunk
    // would take the blocks of the other.
    let two = [extent(0, 10, 3), extent(0, 5, 3)];
    assert!(matches!(s.commit(a, &request(CommitData::AppendExtents(&two), 3)).unwrap(),
        Commit::Straddles(attr) if attr.size == CHUNK_BYTES - 10));
    let cut = [extent(0, 10, 3), extent(0, 5, 4)];
    let c = done(s.commit(a, &request(CommitData::AppendExtents(&cut), 3)).unwrap());
    assert_eq!((c.attr.size, c.placed_at), (CHUNK_BYTES + 5, CHUNK_BYTES - 10));
    let lists = s.extents(a, &[0, 1]).unwrap().chunks;
    assert_eq!(lists[0][0].pos, (CHUNK_BYTES - 10) as u32);
    assert_eq!(lists[1], [extent(0, 5, 4)]);

    for epoch in 0..2 {
        assert_eq!(f.volume.set_ring(Epoch(epoch), b"table", &[]).unwrap(), Epoch(epoch + 1));
    }
    assert!(matches!(
        f.volume.set_ring(Epoch(0), b"x", &[]),
        Err(MetaError::RingConflict { found: 2 })
    ));
    assert_eq!(f.volume.ring().unwrap(), (Epoch(2), b"table"[..].into()));
    let again = s.commit(a, &request(CommitData::AppendExtents(&cut), 3)).unwrap();
    assert_eq!(again, Commit::StaleEpoch(Epoch(2)));
    assert_eq!(s.epoch(), Epoch(2));
    let data = CommitData::AppendExtents(&cut);
    done(s.commit(a, &CommitRequest { epoch: Epoch(1), ..request(data, 4) }).unwrap());

    // A compaction too.
    let old = s.extents(a, &[0]).unwrap().chunks.remove(0);
    let new: Vec<_> =
        old.iter().map(|record| ExtentRecord { slice: SliceId(9), ..*record }).collect();
    let stale = s.compact(a, 0, &old, &new, Epoch(0)).unwrap();
    assert_eq!(stale, Compacted::StaleEpoch(Epoch(2)));
    assert_eq!(s.extents(a, &[0]).unwrap().chunks, std::slice::from_ref(&old));
    let done = s.compact(a, 0, &old, &new, Epoch(1)).unwrap();
    assert!(matches!(done, Compacted::Done(_)), "{done:?}");
}

#[test]
fn truncation_hides_for_ever_and_frees_whole_chunks() {
    let f = Fixture::new();
    let s = &f.session;
    let a = s.create(ROOT, b"a", &file(), t(1)).unwrap().attr.ino;
    let to = |size| SetAttr { size: Some(size), ..SetAttr::default() };
    done(s.commit(a, &request(CommitData::Inline(&[(0, b"abcdef")]), 2)).unwrap());
    s.setattr(a, &to(3), t(3)).unwrap();
    s.setattr(a, &to(5), t(4)).unwrap();
    done(s.commit(a, &request(CommitData::AppendInline(b"x"), 5)).unwrap());
    assert_eq!(s.open(a, None).unwrap().data, OpenData::Inline(b"abc\0\0x"[..].into()));
    let chunks: Vec<(u64, Vec<ExtentRecord>)> =
        (0..600).map(|i| (i, vec![extent(0, 1000, 100 + i)])).collect();
    let lists: Vec<(u64, &[ExtentRecord])> = chunks.iter().map(|(i, r)| (*i, &r[..])).collect();
    done(s.commit(a, &request(CommitData::Extents(&lists), 6)).unwrap());
    f.server.reset_stats();
    let changed = s.setattr(a, &to(CHUNK_BYTES + 500), t(7)).unwrap();
    assert_eq!(changed.freed.len(), 598);
    assert_eq!(f.server.commandstats()["evalsha"], 3);
    assert_eq!((changed.attr.size, changed.attr.mtime), (CHUNK_BYTES + 500, t(7)));
    let lists = s.extents(a, &[0, 1, 2]).unwrap().chunks;
    let hole = ExtentRecord::hole(500, CHUNK_BYTES as u32 - 500);
    assert_eq!(lists, [vec![extent(0, 1000, 100)], vec![extent(0, 1000, 101), hole], vec![]]);
    let changed = s.setattr(a, &to(0), t(8)).unwrap();
    assert_eq!(changed.freed.len(), 2);
    assert_eq!((changed.attr.size, changed.attr.flags), (0, AttrFlags(0)));
    assert_eq!(s.usage().unwrap().bytes, 0);
    let d = s.create(ROOT, b"d", &dir(), t(9)).unwrap().attr.ino;
    assert_eq!(posix(s.setattr(d, &to(0), t(9)).unwrap_err()), Errno::EISDIR);
    assert_eq!(
        posix(s.setattr(a, &to(ringfs_base::limits::FILE_BYTES_MAX + 1), t(9)).unwrap_err()),
        Errno::EFBIG
    );
}

#[test]
fn attributes_change_one_by_one() {
    let f = Fixture::new();
    let s = &f.session;
    let a = s.create(ROOT, b"a", &file(), t(1)).unwrap().attr;
    let none = SetAttr::default();
    let all = [
        SetAttr { perm: Some(0o7421), ..none },
        SetAttr { uid: Some(u32::MAX), ..none },
        SetAttr { gid: Some(5), ..none },
        SetAttr { atime: Some(Timestamp(i64::MIN)), ..none },
        SetAttr { mtime: Some(Timestamp(-1)), ..none },
        SetAttr { size: Some(9), ..none },
    ];
    let mut expected = a;
    for (i, change) in all.iter().enumerate() {
        let now = t(10 + i as i64);
        expected.ctime = now;
        expected.perm = change.perm.unwrap_or(expected.perm);
        expected.uid = change.uid.unwrap_or(expected.uid);
        expected.gid = change.gid.unwrap_or(expected.gid);
        expected.atime = change.atime.unwrap_or(expected.atime);
        expected.mtime = change.mtime.unwrap_or(expected.mtime);
        if let Some(size) = change.size {
            expected.size = size;
            expected.mtime = now;
        }
        assert_eq!(s.setattr(a.ino, change, now).unwrap().attr, expected);
    }
    assert_eq!(s.getattr(a.ino).unwrap(), expected);
}

#[test]
fn extended_attributes() {
    let f = Fixture::new();
    let s = &f.session;
    let a = s.create(ROOT, b"a", &file(), t(1)).unwrap().attr.ino;
    assert_eq!(posix(s.getxattr(a, b"user.x").unwrap_err()), Errno::ENODATA);
    let set = |name: &[u8], value: &[u8], mode| s.setxattr(a, name, value, mode, t(2));
    assert_eq!(posix(set(b"user.x", b"1", XattrMode::Replace).unwrap_err()), Errno::ENODATA);
    assert!(set(b"user.x", b"1", XattrMode::Create).unwrap().flags.has(AttrFlags::XATTRS));
    assert_eq!(posix(set(b"user.x", b"2", XattrMode::Create).unwrap_err()), Errno::EEXIST);
    set(b"user.x", b"\0\xff", XattrMode::Either).unwrap();
    set(b"user.y", b"", XattrMode::Either).unwrap();
    assert_eq!(&s.getxattr(a, b"user.x").unwrap()[..], b"\0\xff");
    assert_eq!(s.listxattr(a).unwrap(), [b"user.x".to_vec(), b"user.y".to_vec()]);
    s.removexattr(a, b"user.x", t(3)).unwrap();
    assert_eq!(posix(s.removexattr(a, b"user.x", t(3)).unwrap_err()), Errno::ENODATA);
    let attr = s.removexattr(a, b"user.y", t(40)).unwrap();
    assert_eq!((attr.flags, attr.ctime), (AttrFlags(0), t(40)));
    assert_eq!(posix(set(b"x", &vec![0; 65_537], XattrMode::Either).unwrap_err()), Errno::E2BIG);
    assert_eq!(posix(set(&[b'x'; 256], b"", XattrMode::Either).unwrap_err()), Errno::ERANGE);
    for i in 0..256 {
        set(format!("user.{i}").as_bytes(), b"", XattrMode::Either).unwrap();
    }
    assert_eq!(posix(set(b"user.more", b"", XattrMode::Either).unwrap_err()), Errno::ENOSPC);
}

#[test]
fn limits_of_the_volume_are_kept() {
    let f = Fixture::new();
    let s = &f.session;
    f.volume.set_limits(3, 100).unwrap();
    let a = s.create(ROOT, b"a", &file(), t(1)).unwrap().attr.ino;
    s.create(ROOT, b"b", &file(), t(1)).unwrap();
    assert_eq!(posix(s.create(ROOT, b"c", &file(), t(1)).unwrap_err()), Errno::ENOSPC);
    done(s.commit(a, &request(CommitData::Inline(&[(99, b"x")]), 2)).unwrap());
    let more = s.commit(a, &request(CommitData::AppendInline(b"x"), 3));
    assert_eq!(posix(more.unwrap_err()), Errno::ENOSPC);
    let usage = s.usage().unwrap();
    assert_eq!((usage.inodes, usage.bytes, usage.inodes_max, usage.bytes_max), (3, 100, 3, 100));
    s.unlink(ROOT, b"a", Victim::NotOpen(a), t(4)).unwrap();
    s.create(ROOT, b"c", &file(), t(5)).unwrap();
}

#[test]
fn each_operation_is_one_round_trip() {
    let f = Fixture::new();
    let s = &f.session;
    let a = s.create(ROOT, b"warm", &file(), t(1)).unwrap().attr.ino;
    s.create(ROOT, b"d", &dir(), t(1)).unwrap();
    let link = NewInode { kind: FileKind::Symlink, target: b"t", ..file() };
    let l = s.create(ROOT, b"l", &link, t(1)).unwrap().attr.ino;
    type Op<'a> = (&'a str, &'a str, Box<dyn Fn() + 'a>);
    let u = Victim::Unknown;
    let none = SetAttr::default();
    let ops: Vec<Op<'_>> = vec![
        ("lookup", "evalsha", Box::new(|| ok(s.lookup(ROOT, b"warm")))),
        ("getattr", "hget", Box::new(|| ok(s.getattr(a)))),
        ("create", "evalsha", Box::new(|| ok(s.create(ROOT, b"n", &file(), t(2))))),
        ("link", "evalsha", Box::new(|| ok(s.link(a, ROOT, b"n2", t(2))))),
        ("readlink", "evalsha", Box::new(|| ok(s.readlink(l)))),
        (
            "rename",
            "evalsha",
            Box::new(|| {
                ok(s.rename(ROOT, b"n", ROOT, b"m", RenameMode::Replace, u, t(2)));
            }),
        ),
        ("unlink", "evalsha", Box::new(|| ok(s.unlink(ROOT, b"m", u, t(2))))),
        ("rmdir", "evalsha", Box::new(|| ok(s.rmdir(ROOT, b"d", u, t(2))))),
        ("readdir", "evalsha", Box::new(|| ok(s.readdir(ROOT, 0, 9, true)))),
        ("setattr", "evalsha", Box::new(|| ok(s.setattr(a, &none, t(2))))),
        (
            "commit",
            "evalsha",
            Box::new(|| {
                ok(s.commit(a, &request(CommitData::Inline(&[(0, b"x")]), 2)));
            }),
        ),
        ("open", "evalsha", Box::new(|| ok(s.open(a, None)))),
        ("extents", "evalsha", Box::new(|| ok(s.extents(a, &[0, 1])))),
        ("compact", "evalsha", Box::new(|| ok(s.compact(a, 0, &[], &[], Epoch(0))))),
        (
            "setxattr",
            "evalsha",
            Box::new(|| {
                ok(s.setxattr(a, b"user.a", b"", XattrMode::Either, t(2)));
            }),
        ),
        ("getxattr", "hget", Box::new(|| ok(s.getxattr(a, b"user.a")))),
        ("listxattr", "hkeys", Box::new(|| ok(s.listxattr(a)))),
        ("removexattr", "evalsha", Box::new(|| ok(s.removexattr(a, b"user.a", t(2))))),
        ("heartbeat", "evalsha", Box::new(|| ok(s.heartbeat(&Beat::default())))),
        ("purge", "evalsha", Box::new(|| ok(s.purge(a)))),
        ("release_hold", "evalsha", Box::new(|| ok(s.release_hold(a)))),
        ("usage", "evalsha", Box::new(|| ok(s.usage()))),
    ];
    // Give the server all scripts first; what is counted is the steady state.
    for _ in 0..2 {
        s.alloc_slice().unwrap();
    }
    for (name, command, op) in &ops {
        let before = f.server.commandstats();
        op();
        let after = f.server.commandstats();
        let count = |stats: &std::collections::BTreeMap<String, u64>, command: &str| {
            stats.get(command).copied().unwrap_or(0)
        };
        // A script new to the server costs one refused EVALSHA and one SCRIPT LOAD.
        let loads = count(&after, "script|load") - count(&before, "script|load");
        let calls = count(&after, command) - count(&before, command);
        assert_eq!(calls - loads, 1, "{name}");
        if *command != "evalsha" {
            assert_eq!(count(&after, "evalsha"), count(&before, "evalsha"), "{name}");
        }
    }
}

#[test]
fn slices_are_fetched_before_they_are_needed() {
    let f = Fixture::new();
    let s = &f.session;
    let mut last = SliceId(0);
    s.refill_slices().unwrap();
    assert_eq!(f.volume.slices_in_flight().unwrap().ranges, [], "nobody writes");
    s.provide_slices().unwrap();
    for _ in 0..5000 {
        let before = f.server.commandstats().get("evalsha").copied();
        let low = s.provide_slices().unwrap();
        let slice = s.lease_slice().unwrap().id();
        assert_eq!(f.server.commandstats().get("evalsha").copied(), before, "{slice:?}");
        assert!(slice > last);
        last = slice;
        if low {
            s.refill_slices().unwrap();
        }
    }
}

#[test]
fn slices_under_way_are_known() {
    let f = Fixture::new();
    let s = &f.session;
    let before = f.volume.slices_in_flight().unwrap();
    let first = s.alloc_slice().unwrap();
    assert!(before.may_be_written(first));
    assert!(f.volume.slices_in_flight().unwrap().may_be_written(first));
    let written = s.lease_slice().unwrap();
    let given_up = s.lease_slice().unwrap();
    let unknown = s.lease_slice().unwrap();
    let beat = || {
        let oldest_slice = Some(s.oldest_slice().unwrap());
        s.heartbeat(&Beat { oldest_slice, ..Beat::default() }).unwrap();
        f.volume.slices_in_flight().unwrap()
    };
    let now = beat();
    assert!(!now.may_be_written(first), "the session lives, but has not leased this one");
    assert!(now.may_be_written(written.id()));
    let ids = [written.id(), given_up.id(), unknown.id()];
    drop(given_up);
    assert!(beat().may_be_written(ids[1]), "an older one is being written");
    drop(written);
    let now = beat();
    assert_eq!(ids.map(|id| now.may_be_written(id)), [false, false, true]);
    unknown.keep();
    drop(unknown);
    assert!(beat().may_be_written(ids[2]), "its commit may still take effect");
    for _ in 0..1500 {
        s.alloc_slice().unwrap();
    }
    let next = s.next_slice().unwrap();
    assert!(beat().may_be_written(next) && beat().may_be_written(s.alloc_slice().unwrap()));
    s.end().unwrap();
    assert!(!f.volume.slices_in_flight().unwrap().may_be_written(next));
    assert!(f.volume.slices_in_flight().unwrap().may_be_written(SliceId(u64::MAX)));
}

#[test]
fn a_file_has_65000_names_at_most() {
    let f = Fixture::new();
    let s = &f.session;
    let made = s.create(ROOT, b"f", &file(), t(1)).unwrap().attr;
    // As if 64,998 other directories had names of it.
    let packed = Attr { nlink: ringfs_base::limits::LINKS_MAX - 1, ..made }.pack();
    let (key, field) =
        (format!("rfs:{{demo/0}}:a{}", made.ino.local() / 64), made.ino.local() % 64);
    let set = Cmd::new("HSET").arg(key).arg(field.to_string()).arg(packed);
    f.server.conn().call(&set).unwrap();
    let last = s.link(made.ino, ROOT, b"last", t(2)).unwrap();
    assert_eq!(last.attr.nlink, 65_000);
    assert_eq!(posix(s.link(made.ino, ROOT, b"more", t(3)).unwrap_err()), Errno::EMLINK);
    assert_eq!(s.lookup(ROOT, b"f").unwrap().attr, last.attr, "nothing was changed");
    assert_eq!(posix(s.lookup(ROOT, b"more").unwrap_err()), Errno::ENOENT);
    s.unlink(ROOT, b"last", Victim::NotOpen(made.ino), t(4)).unwrap();
    assert_eq!(s.link(made.ino, ROOT, b"more", t(5)).unwrap().attr.nlink, 65_000);
}
