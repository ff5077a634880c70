//! Shared slices, holes, clones and inodes without a name, on a real server.

#![allow(clippy::unwrap_used, reason = "a test that fails shall panic")]

mod fixture;

use fixture::*;
use ringfs_base::limits::{CHUNK_BYTES, FILE_BYTES_COUNTED_MAX};
use ringfs_base::{Epoch, Errno, InodeId, SliceId};
use ringfs_link::Cmd;
use ringfs_meta::*;
use ringfs_testkit::{Direction, Proxy, ServerOptions};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

const ROOT: InodeId = InodeId::ROOT;

fn slices(records: &[ExtentRecord]) -> Vec<u64> {
    let mut all: Vec<u64> = records.iter().map(|record| record.slice.0).collect();
    all.sort_unstable();
    all
}

/// The stored counts: chunks beyond the first that show a slice.
fn counts(f: &Fixture) -> BTreeMap<u64, u64> {
    let all = f.server.command(&["HGETALL", "rfs:{demo/0}:r"]).into_map().unwrap();
    let number = |bytes: &[u8]| std::str::from_utf8(bytes).unwrap().parse().unwrap();
    all.into_iter()
        .map(|(slice, count)| {
            let slice = u64::from_be_bytes(slice.as_bytes().unwrap().try_into().unwrap());
            (slice, number(count.as_bytes().unwrap()))
        })
        .collect()
}

fn make(f: &Fixture, name: &str, chunks: &[(u64, &[ExtentRecord])]) -> InodeId {
    let ino = f.session.create(ROOT, name.as_bytes(), &file(), t(1)).unwrap().attr.ino;
    if !chunks.is_empty() {
        done(f.session.commit(ino, &request(CommitData::Extents(chunks), 2)).unwrap());
    }
    ino
}

/// Lets `to` show all of chunk `from.1` of `from.0` in its chunk.
fn share(f: &Fixture, from: (InodeId, u64), to: (InodeId, u64)) -> Shared {
    let found = f.session.extents(from.0, &[from.1]).unwrap();
    let records = found.chunks.into_iter().next().unwrap();
    let read = [(from.1, Arc::new(records.clone()))];
    let end = to.1 * CHUNK_BYTES + records.iter().map(|r| r.end()).max().unwrap_or(0);
    let request = ShareRequest {
        source: from.0,
        version: found.attr.ctime,
        read: &read,
        destination: to.0,
        records: &[(to.1, records)],
        end,
        writer: Writer::PRIVILEGED,
    };
    f.session.share(&request, t(3)).unwrap()
}

fn compact(
    f: &Fixture,
    ino: InodeId,
    chunk: u64,
    old: &[ExtentRecord],
    new: &[ExtentRecord],
) -> Vec<ExtentRecord> {
    match f.session.compact(ino, chunk, old, new, Epoch(0)).unwrap() {
        Compacted::Done(freed) => freed,
        Compacted::Changed => Vec::new(),
        other => panic!("{other:?}"),
    }
}

fn remove(f: &Fixture, name: &str, ino: InodeId) -> Vec<u64> {
    let gone = f.session.unlink(ROOT, name.as_bytes(), Victim::NotOpen(ino), t(9)).unwrap();
    match gone.removed.fate {
        Fate::Purged(freed) => slices(&freed),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_slice_goes_with_the_last_chunk_that_shows_it() {
    let f = Fixture::new();
    let a =
        make(&f, "a", &[(0, &[extent(0, 100, 5), extent(200, 10, 6)]), (3, &[extent(0, 7, 8)])]);
    let b = make(&f, "b", &[]);
    assert!(counts(&f).is_empty(), "who shares nothing pays nothing");
    let Shared::Done(shared) = share(&f, (a, 0), (b, 2)) else { panic!("changed") };
    assert_eq!(shared.attr.size, 2 * CHUNK_BYTES + 210);
    assert!(shared.attr.flags.has(AttrFlags::SHARED | AttrFlags::EXTENTS));
    assert!(f.session.getattr(a).unwrap().flags.has(AttrFlags::SHARED));
    assert_eq!(counts(&f), BTreeMap::from([(5, 1), (6, 1)]));
    // Within one file, too.
    let Shared::Done(_) = share(&f, (a, 3), (a, 4)) else { panic!("changed") };
    assert_eq!(counts(&f), BTreeMap::from([(5, 1), (6, 1), (8, 1)]));
    assert_eq!(remove(&f, "a", a), [8], "the others live on");
    assert!(counts(&f).is_empty());
    assert_eq!(remove(&f, "b", b), [5, 6]);
    assert_eq!(f.session.usage().unwrap().bytes, 0);
}

#[test]
fn a_source_that_changed_is_not_shared() {
    let f = Fixture::new();
    let a = make(&f, "a", &[(0, &[extent(0, 100, 5)])]);
    let b = make(&f, "b", &[]);
    let version = f.session.getattr(a).unwrap().ctime;
    let old = vec![extent(0, 100, 5)];
    let attempt = |version, records: &Vec<ExtentRecord>| {
        let read = [(0, Arc::new(records.clone()))];
        let list = [(0, records.clone())];
        let request = ShareRequest {
            source: a,
            version,
            read: &read,
            destination: b,
            records: &list,
            end: 100,
            writer: Writer::PRIVILEGED,
        };
        f.session.share(&request, t(5)).unwrap()
    };
    // A compaction replaces the slice without a new ctime.
    let freed = compact(&f, a, 0, &old, &[extent(0, 100, 6)]);
    assert_eq!(slices(&freed), [5]);
    assert_eq!(attempt(version, &old), Shared::Changed);
    let new = vec![extent(0, 100, 6)];
    assert_eq!(attempt(t(77), &new), Shared::Changed);
    assert!(matches!(attempt(version, &new), Shared::Done(_)));
    assert_eq!(counts(&f), BTreeMap::from([(6, 1)]));
    assert!(!f.session.getattr(b).unwrap().flags.has(AttrFlags::INLINE));
}

/// Everything that drops or shares slices, at random; after each step the counts are those of the
/// extents, and what was freed is exactly what nobody shows any more.
#[test]
fn random_sharing_keeps_counts_and_frees_each_slice_once() {
    for seed in 1..=12u64 {
        let f = Fixture::new();
        let mut dice = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut roll = move |below: u64| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            dice % below
        };
        let mut files: BTreeMap<String, InodeId> = BTreeMap::new();
        let (mut next, mut live) = (1u64, BTreeSet::new());
        for step in 0..120 {
            let context = format!("seed {seed} step {step}");
            let pick = |n: u64| {
                files.iter().nth(n as usize % files.len().max(1)).map(|(n, i)| (n.clone(), *i))
            };
            let mut freed: Vec<ExtentRecord> = Vec::new();
            let (one, other) = (pick(roll(8)), pick(roll(8)));
            match (roll(9), one, other) {
                (0, ..) | (_, None, _) => {
                    let name = format!("f{step}");
                    files.insert(name.clone(), make(&f, &name, &[]));
                }
                (1 | 2, Some((_, ino)), _) => {
                    let (chunk, pos) = (roll(3), roll(1000) as u32);
                    let record = extent(pos, 1 + roll(1000) as u32, next);
                    live.insert(next);
                    next += 1;
                    done(
                        f.session
                            .commit(ino, &request(CommitData::Extents(&[(chunk, &[record])]), 2))
                            .unwrap(),
                    );
                }
                (3 | 4, Some((_, from)), Some((_, to))) => {
                    share(&f, (from, roll(3)), (to, roll(3)));
                }
                (5, Some((_, ino)), _) => {
                    let size = Some(roll(3) * CHUNK_BYTES + roll(3) * 500);
                    let change = SetAttr { size, ..SetAttr::default() };
                    freed = f.session.setattr(ino, &change, t(4)).unwrap().freed;
                }
                (6, Some((_, ino)), _) => {
                    let from = roll(3) * CHUNK_BYTES + roll(2) * 300;
                    let range = from..from + 1 + roll(2 * CHUNK_BYTES);
                    freed = f
                        .session
                        .zero(ino, range, roll(2) == 0, Writer::PRIVILEGED, t(4))
                        .unwrap()
                        .freed;
                }
                (7, Some((_, ino)), _) => {
                    let chunk = roll(3);
                    let found = f.session.extents(ino, &[chunk]).unwrap().chunks.remove(0);
                    let new = normalise(&found, true);
                    freed = compact(&f, ino, chunk, &found, &new);
                }
                (_, Some((name, ino)), _) => {
                    let gone = f.session.unlink(ROOT, name.as_bytes(), Victim::NotOpen(ino), t(9));
                    files.remove(&name);
                    match gone.unwrap().removed.fate {
                        Fate::Purged(records) => freed = records,
                        Fate::Orphaned => match f.session.purge(ino).unwrap() {
                            Purge::Done(records) => freed = records,
                            other => panic!("{context}: {other:?}"),
                        },
                        Fate::Linked => panic!("{context}: linked"),
                    }
                }
            }
            for record in freed.iter().filter(|record| !record.is_hole()) {
                assert!(live.remove(&record.slice.0), "{context}: {} freed twice", record.slice);
            }
            let mut shown: BTreeMap<u64, u64> = BTreeMap::new();
            for ino in files.values() {
                for (_, records) in f.session.volume().chunks_of(*ino).unwrap() {
                    let distinct: BTreeSet<u64> = slices(&records).into_iter().collect();
                    distinct
                        .into_iter()
                        .filter(|s| *s > 0)
                        .for_each(|s| *shown.entry(s).or_default() += 1);
                }
            }
            assert_eq!(shown.keys().copied().collect::<BTreeSet<_>>(), live, "{context}: slices");
            let beyond: BTreeMap<u64, u64> =
                shown.iter().filter(|(_, n)| **n > 1).map(|(s, n)| (*s, n - 1)).collect();
            assert_eq!(counts(&f), beyond, "{context}: counts");
        }
    }
}

#[test]
fn zeroing_cuts_inline_data_drops_chunks_and_covers_the_rest() {
    let f = Fixture::new();
    let s = &f.session;
    let a = s.create(ROOT, b"a", &file(), t(1)).unwrap().attr.ino;
    done(s.commit(a, &request(CommitData::Inline(&[(0, b"0123456789")]), 2)).unwrap());
    s.zero(a, 2..4, false, Writer::PRIVILEGED, t(3)).unwrap();
    let bytes = |ino| match s.open(ino, None).unwrap().data {
        OpenData::Inline(bytes) => bytes.to_vec(),
        other => panic!("{other:?}"),
    };
    assert_eq!(bytes(a), b"01\0\x00456789");
    let zeroed = s.zero(a, 8..100, false, Writer::PRIVILEGED, t(4)).unwrap();
    assert_eq!(
        (bytes(a), zeroed.attr.size, zeroed.attr.mtime),
        (b"01\0\x004567".to_vec(), 10, t(4))
    );
    let zeroed = s.zero(a, 0..100, true, Writer::PRIVILEGED, t(5)).unwrap();
    assert_eq!((bytes(a), zeroed.attr.size), (Vec::new(), 100));
    assert_eq!((zeroed.previous, s.usage().unwrap().bytes), (t(4), 100));
    assert!(!zeroed.attr.flags.has(AttrFlags::INLINE));

    let records: Vec<(u64, Vec<ExtentRecord>)> =
        (0..600).map(|c| (c, vec![extent(0, 1000, 10 + c)])).collect();
    let chunks: Vec<(u64, &[ExtentRecord])> = records.iter().map(|(c, r)| (*c, &r[..])).collect();
    let b = make(&f, "b", &chunks);
    // From the middle of chunk 1 to the end: the last chunk is covered as far as the file goes.
    let size = 599 * CHUNK_BYTES + 1000;
    let zeroed = s.zero(b, CHUNK_BYTES + 500..size, false, Writer::PRIVILEGED, t(6)).unwrap();
    assert_eq!((zeroed.freed.len(), zeroed.records, zeroed.hidden), (598, 2, false));
    let left = s.volume().chunks_of(b).unwrap();
    assert_eq!(left[1], (1, vec![extent(0, 1000, 11), ExtentRecord::hole(500, 67_108_364)]));
    assert_eq!(left.len(), 2);
    // The same again adds nothing.
    assert_eq!(
        s.zero(b, CHUNK_BYTES + 500..size, false, Writer::PRIVILEGED, t(7)).unwrap().records,
        2
    );
    let next = s.next_chunks(b, 1).unwrap();
    assert_eq!((next.chunks.len(), next.known_to, next.attr.size), (1, u64::MAX, size));
    assert_eq!(
        posix(s.zero(ROOT, 0..5, false, Writer::PRIVILEGED, t(8)).unwrap_err()),
        Errno::EISDIR
    );
    assert_eq!(
        posix(s.zero(b, 0..u64::MAX, false, Writer::PRIVILEGED, t(8)).unwrap_err()),
        Errno::EFBIG
    );
}

#[test]
fn a_file_without_a_name_goes_with_its_session_unless_it_gets_one() {
    let f = Fixture::new();
    let s = &f.session;
    let first = s.create_nameless(ROOT, &file(), t(1)).unwrap().ino;
    let before = f.server.commandstats()["evalsha"];
    let a = s.create_nameless(ROOT, &file(), t(1)).unwrap();
    assert_eq!(f.server.commandstats()["evalsha"] - before, 1);
    assert!(s.release_hold(first).unwrap());
    assert!(matches!(s.purge(first).unwrap(), Purge::Done(_)));
    assert_eq!((a.nlink, s.volume().orphans(9).unwrap()), (0, vec![a.ino]));
    assert_eq!(s.purge(a.ino).unwrap(), Purge::Held);
    done(s.commit(a.ino, &request(CommitData::Inline(&[(0, b"x")]), 2)).unwrap());
    let linked = s.link(a.ino, ROOT, b"a", t(3)).unwrap();
    assert!(linked.created);
    assert_eq!((linked.attr.nlink, linked.attr.flags.0), (1, AttrFlags::INLINE));
    assert!(s.volume().orphans(9).unwrap().is_empty());
    assert!(!s.release_hold(a.ino).unwrap(), "nothing to purge");
    assert_eq!(s.lookup(ROOT, b"a").unwrap().attr, linked.attr);

    // What lost its name cannot be linked again.
    s.unlink(ROOT, b"a", Victim::Open(a.ino), t(4)).unwrap();
    assert_eq!(posix(s.link(a.ino, ROOT, b"b", t(5)).unwrap_err()), Errno::ENOENT);
    assert!(s.release_hold(a.ino).unwrap());
    assert!(matches!(s.purge(a.ino).unwrap(), Purge::Done(_)));

    let b = s.create_nameless(ROOT, &file(), t(1)).unwrap();
    let other = f.another_session();
    other.heartbeat(&Beat::default()).unwrap();
    s.end().unwrap();
    other.heartbeat(&Beat::default()).unwrap();
    assert_eq!(other.purgeable(9).unwrap(), [b.ino]);
    assert!(matches!(other.purge(b.ino).unwrap(), Purge::Done(_)));
    assert_eq!(other.usage().unwrap().inodes, 1);
}

#[test]
fn clones_have_all_that_the_source_has_but_its_blocks() {
    let f = Fixture::new();
    let s = &f.session;
    let a = make(&f, "a", &[(0, &[extent(0, 100, 5)]), (700, &[extent(0, 100, 6)])]);
    s.setxattr(a, b"user.x", b"1", XattrMode::Either, t(5)).unwrap();
    let change =
        SetAttr { mtime: Some(t(44)), atime: Some(t(45)), perm: Some(0o751), ..SetAttr::default() };
    s.setattr(a, &change, t(6)).unwrap();
    let link = NewInode { kind: FileKind::Symlink, target: b"to", ..file() };
    let l = s.create(ROOT, b"l", &link, t(1)).unwrap().attr.ino;
    let d = s.create(ROOT, b"d", &dir(), t(1)).unwrap().attr.ino;
    let small = s.create(ROOT, b"s", &file(), t(1)).unwrap().attr.ino;
    done(s.commit(small, &request(CommitData::Inline(&[(0, b"hello")]), 2)).unwrap());
    let used = s.usage().unwrap();
    let staging = s.create_nameless(ROOT, &dir(), t(7)).unwrap().ino;
    let items: Vec<CloneItem<'_>> =
        [(a, &b"a"[..]), (l, b"l"), (d, b"d"), (small, b"s"), (InodeId(999), b"n")]
            .map(|(source, name)| CloneItem { source, name })
            .into();
    let made = s.clone_inodes(staging, &items, true, t(8)).unwrap();
    let [Cloned::Done(ca), Cloned::Done(cl), Cloned::Done(cd), Cloned::Done(cs), Cloned::Gone] =
        made[..]
    else {
        panic!("{made:?}")
    };
    let (old, new) = (s.getattr(a).unwrap(), s.getattr(ca).unwrap());
    assert_eq!(Attr { ino: a, ctime: old.ctime, btime: old.btime, ..new }, old);
    assert_eq!((new.mtime, new.atime, new.ctime), (t(44), t(45), t(8)));
    assert_eq!(&s.getxattr(ca, b"user.x").unwrap()[..], b"1");
    assert_eq!(s.volume().chunks_of(ca).unwrap(), s.volume().chunks_of(a).unwrap());
    assert_eq!(&s.readlink(cl).unwrap()[..], b"to");
    assert!(matches!(s.open(cs, None).unwrap().data, OpenData::Inline(bytes) if bytes == "hello"));
    assert_eq!((s.getattr(cd).unwrap().parent, s.getattr(cd).unwrap().nlink), (Some(staging), 2));
    assert_eq!(counts(&f), BTreeMap::from([(5, 1), (6, 1)]));
    let now = s.usage().unwrap();
    assert_eq!((now.inodes, now.bytes), (2 * used.inodes, 2 * used.bytes));
    let dir = s.getattr(staging).unwrap();
    assert_eq!((dir.entries, dir.nlink), (4, 3));
    // The place itself stays until it is empty, whoever may remove it.
    s.release_hold(staging).unwrap();
    assert_eq!(s.purge(staging).unwrap(), Purge::Populated);
    for name in [b"a", b"l", b"s"] {
        s.rename(
            staging,
            name,
            ROOT,
            &[name[0], b'2'],
            RenameMode::NoReplace,
            Victim::Unknown,
            t(9),
        )
        .unwrap();
    }
    s.rename(staging, b"d", ROOT, b"d2", RenameMode::NoReplace, Victim::Unknown, t(9)).unwrap();
    assert!(matches!(s.purge(staging).unwrap(), Purge::Done(_)));
    assert_eq!(s.getattr(cd).unwrap().parent, Some(ROOT));
    assert_eq!(s.getattr(ROOT).unwrap().nlink, 4);
    assert_eq!(SliceId(5), s.volume().chunks_of(ca).unwrap()[0].1[0].slice);
}

#[test]
fn copies_whose_reply_was_lost_are_counted_once() {
    let f = Fixture::new();
    let proxy = Proxy::start(f.server.address());
    let patience = Duration::from_secs(20);
    let volume = f.volume_at(&proxy.url(), patience, patience);
    let s = volume.start_session(&SessionInfo::default()).unwrap();
    let far = Fixture { session: s, ..f };
    let s = &far.session;
    let a = make(&far, "a", &[(0, &[extent(0, 100, 5)]), (1, &[extent(0, 100, 6)])]);
    let staging = s.create_nameless(ROOT, &dir(), t(1)).unwrap().ino;
    let clone = |name: &'static [u8]| {
        let made = s.clone_inodes(staging, &[CloneItem { source: a, name }], true, t(2)).unwrap();
        assert!(matches!(made[..], [Cloned::Done(_)]), "{made:?}");
    };
    // All scripts are there.
    clone(b"0");
    assert!(matches!(share(&far, (a, 0), (a, 2)), Shared::Done(_)));
    s.zero(a, 0..1, false, Writer::PRIVILEGED, t(3)).unwrap();
    assert_eq!(counts(&far), BTreeMap::from([(5, 2), (6, 1)]));
    let cut = |op: &(dyn Fn() + Sync)| {
        let before = far.server.commandstats()["evalsha"];
        proxy.block(Direction::ToClient);
        std::thread::scope(|scope| {
            let running = scope.spawn(op);
            let limit = std::time::Instant::now() + patience;
            while far.server.commandstats()["evalsha"] <= before {
                assert!(std::time::Instant::now() < limit, "the script did not run");
                std::thread::yield_now();
            }
            proxy.cut();
            proxy.restore();
            running.join().unwrap();
        });
        assert!(far.server.commandstats()["evalsha"] >= before + 2, "it was not sent again");
    };
    cut(&|| clone(b"1"));
    assert_eq!(counts(&far), BTreeMap::from([(5, 4), (6, 2)]));
    let records = vec![extent(0, 100, 6)];
    let version = s.getattr(a).unwrap().ctime;
    cut(&|| {
        let read = [(1, Arc::new(records.clone()))];
        let request = ShareRequest {
            source: a,
            version,
            read: &read,
            destination: a,
            records: &[(7, records.clone())],
            end: 7 * CHUNK_BYTES + 100,
            writer: Writer::PRIVILEGED,
        };
        assert!(matches!(s.share(&request, t(4)).unwrap(), Shared::Done(_)));
    });
    assert_eq!(counts(&far), BTreeMap::from([(5, 4), (6, 3)]));
    cut(&|| {
        let zeroed =
            s.zero(a, CHUNK_BYTES..2 * CHUNK_BYTES, false, Writer::PRIVILEGED, t(5)).unwrap();
        assert!(zeroed.freed.is_empty());
    });
    assert_eq!(counts(&far), BTreeMap::from([(5, 4), (6, 2)]));
    cut(&|| assert_eq!(s.create_nameless(ROOT, &file(), t(6)).unwrap().nlink, 0));
    assert_eq!(s.volume().orphans(9).unwrap().len(), 2);
}

#[test]
fn when_memory_is_full_shared_files_can_be_removed_and_punched() {
    let options = ServerOptions { maxmemory: Some(4 << 20), ..ServerOptions::default() };
    let f = Fixture::with(options, &config("demo"));
    let s = &f.session;
    let chunks: Vec<(u64, Vec<ExtentRecord>)> =
        (0..20).map(|c| (c, vec![extent(0, 1000, 10 + c)])).collect();
    let chunks: Vec<(u64, &[ExtentRecord])> = chunks.iter().map(|(c, r)| (*c, &r[..])).collect();
    let a = make(&f, "a", &chunks);
    let copy = |name| CloneItem { source: a, name };
    let made = s.clone_inodes(ROOT, &[copy(b"b"), copy(b"c")], true, t(3)).unwrap();
    let [Cloned::Done(b), Cloned::Done(c)] = made[..] else { panic!("{made:?}") };
    assert!(counts(&f).values().all(|count| *count == 2));
    while f.server.conn().call(&Cmd::new("APPEND").arg("ballast").arg([0; 1000])).is_ok() {}
    let full = s.clone_inodes(ROOT, &[copy(b"d")], true, t(4)).unwrap_err();
    assert_eq!(posix(full), Errno::ENOSPC);
    assert!(counts(&f).values().all(|count| *count == 2), "what was refused changed nothing");
    assert_eq!(s.getattr(ROOT).unwrap().entries, 3);

    let zeroed = s.zero(a, 500..5 * CHUNK_BYTES, false, Writer::PRIVILEGED, t(5)).unwrap();
    assert!(zeroed.freed.is_empty(), "others show them");
    let gone = s.unlink(ROOT, b"b", Victim::NotOpen(b), t(6)).unwrap();
    let Fate::Orphaned = gone.removed.fate else { panic!("{gone:?}") };
    let Purge::Done(freed) = s.purge(b).unwrap() else { panic!("held") };
    assert!(freed.is_empty());
    let cut = SetAttr { size: Some(0), ..SetAttr::default() };
    assert_eq!(slices(&s.setattr(c, &cut, t(7)).unwrap().freed), [11, 12, 13, 14]);
    assert!(counts(&f).is_empty());
    assert_eq!(s.setattr(a, &cut, t(8)).unwrap().freed.len(), 16);
}

/// Sizes on both sides of every border that the scripts' numbers have, up to the largest.
#[test]
fn sizes_up_to_the_largest_are_exact() {
    let f = Fixture::new();
    let s = &f.session;
    let a = s.create(ROOT, b"a", &file(), t(1)).unwrap().attr.ino;
    let counted = |size: u64| size.min(FILE_BYTES_COUNTED_MAX);
    let resize = |size: u64| {
        let change = SetAttr { size: Some(size), ..SetAttr::default() };
        let changed = s.setattr(a, &change, t(2)).unwrap();
        assert_eq!((changed.attr.size, s.getattr(a).unwrap().size), (size, size));
        assert_eq!(s.usage().unwrap().bytes, counted(size), "{size}");
        changed
    };
    let borders = [CHUNK_BYTES, 1 << 32, 1 << 44, 1 << 53, 1 << 58, 1 << 62, i64::MAX as u64];
    for border in borders {
        for size in [border - 1, border, border.saturating_add(1).min(i64::MAX as u64)] {
            resize(size);
        }
    }
    for border in borders.iter().rev() {
        resize(*border);
        resize(*border - 1);
    }
    let too_large = SetAttr { size: Some(1 << 63), ..SetAttr::default() };
    assert_eq!(posix(s.setattr(a, &too_large, t(2)).unwrap_err()), Errno::EFBIG);
    // Data, and the end where it is the end of a chunk.
    for (step, border) in borders.iter().enumerate() {
        let (chunk, slice) = ((border - 1) / CHUNK_BYTES, 10 + step as u64);
        resize(0);
        let last = (border - chunk * CHUNK_BYTES) as u32;
        let record = extent(last - 10, 10, slice);
        done(s.commit(a, &request(CommitData::Extents(&[(chunk, &[record])]), 3)).unwrap());
        assert_eq!(s.getattr(a).unwrap().size, *border);
        assert_eq!(s.usage().unwrap().bytes, counted(*border));
        if *border < i64::MAX as u64 {
            let more = [ExtentRecord { slice_len: 30, ..extent(0, 30, 100 + slice) }];
            let placed = done(s.commit(a, &request(CommitData::AppendExtents(&more), 4)).unwrap());
            assert_eq!((placed.placed_at, placed.attr.size), (*border, *border + 30));
            let next = s.next_chunks(a, chunk).unwrap();
            assert_eq!((next.chunks.len(), next.known_to), (2, u64::MAX), "{border}");
            assert_eq!(next.chunks[1].0, border / CHUNK_BYTES);
            let zeroed = s.zero(a, *border..*border + 30, false, Writer::PRIVILEGED, t(5)).unwrap();
            assert_eq!(slices(&zeroed.freed), [100 + slice]);
        }
        assert!(
            s.zero(a, border - 5..*border, false, Writer::PRIVILEGED, t(5))
                .unwrap()
                .freed
                .is_empty()
        );
        assert_eq!(slices(&resize(border - 10).freed), [slice; 0], "a part stays");
        assert_eq!(slices(&resize(CHUNK_BYTES - 30).freed).len(), usize::from(chunk > 0));
        let zeroed = s.zero(a, 0..*border, true, Writer::PRIVILEGED, t(6)).unwrap();
        assert_eq!((zeroed.attr.size, s.usage().unwrap().bytes), (*border, counted(*border)));
    }
    resize(i64::MAX as u64 - 5);
    let more = [extent(0, 30, 999)];
    let full = s.commit(a, &request(CommitData::AppendExtents(&more), 4));
    assert!(matches!(full, Ok(Commit::Straddles(_))), "{full:?}");
    // A copy of all of it, twice, counts as one file each.
    let made = s.clone_inodes(ROOT, &[CloneItem { source: a, name: b"b" }], true, t(7)).unwrap();
    let [Cloned::Done(b)] = made[..] else { panic!("{made:?}") };
    assert_eq!(s.getattr(b).unwrap().size, i64::MAX as u64 - 5);
    assert_eq!(s.usage().unwrap().bytes, 2 * FILE_BYTES_COUNTED_MAX);
    remove(&f, "a", a);
    remove(&f, "b", b);
    assert_eq!(s.usage().unwrap().bytes, 0);
}
