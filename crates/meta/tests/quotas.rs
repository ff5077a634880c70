//! Quotas of users, groups and directory trees against a recount, on a real server.

#![allow(clippy::unwrap_used, reason = "a test that fails shall panic")]

mod fixture;

use fixture::*;
use ringfs_base::{Errno, InodeId};
use ringfs_meta::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const ROOT: InodeId = InodeId::ROOT;
type Use = BTreeMap<QuotaSubject, (u64, u64)>;

fn owned(uid: u32, gid: u32) -> NewInode<'static> {
    NewInode { uid, gid, ..file() }
}

fn add(uses: &mut Use, subject: QuotaSubject, bytes: u64) {
    let entry = uses.entry(subject).or_default();
    *entry = (entry.0 + 1, entry.1 + bytes);
}

/// Trees by number: their roots, as the records say.
fn roots(f: &Fixture) -> BTreeMap<String, InodeId> {
    let all = f.server.command(&["HGETALL", "rfs:{demo/0}:u"]).into_map().unwrap();
    all.into_iter()
        .filter_map(|(field, value)| {
            let (field, value) = (field.as_bytes()?, value.as_bytes()?);
            let number = String::from_utf8(field.strip_prefix(b"p")?.to_vec()).ok()?;
            Some((number, InodeId(u64::from_be_bytes(value[32..40].try_into().ok()?))))
        })
        .collect()
}

/// Counts everything by the inodes' own marks.
fn recount(f: &Fixture) -> Use {
    let (mut uses, roots) = (Use::new(), roots(f));
    let (mut cursor, mut seen) = (0, BTreeMap::new());
    loop {
        let (next, found) = f.volume.scan_inodes(cursor).unwrap();
        seen.extend(found.into_iter().map(|attr| (attr.ino, attr)));
        if next == 0 {
            break;
        }
        cursor = next;
    }
    for (ino, attr) in seen {
        let bytes = if attr.kind == FileKind::File { attr.size } else { 0 };
        if attr.flags.has(AttrFlags::COUNTED) {
            add(&mut uses, QuotaSubject::User(attr.uid), bytes);
            add(&mut uses, QuotaSubject::Group(attr.gid), bytes);
        }
        if attr.flags.has(AttrFlags::IN_TREE) {
            let key = format!("rfs:{{demo/0}}:y{}", ino.local() / 64);
            let number = f.server.command(&["HGET", &key, &(ino.local() % 64).to_string()]);
            let number = String::from_utf8(number.as_bytes().unwrap().to_vec()).unwrap();
            if let Some(root) = roots.get(&number) {
                add(&mut uses, QuotaSubject::Tree(*root), bytes);
            }
        }
    }
    uses
}

fn stored(f: &Fixture) -> Use {
    let quotas = f.volume.quotas().unwrap().all.into_iter();
    quotas
        .map(|quota| (quota.subject, (quota.inodes, quota.bytes)))
        .filter(|(_, used)| *used != (0, 0))
        .collect()
}

/// Every inode below a directory counts to its tree, or none does.
fn assert_tree(f: &Fixture, dir: InodeId, inside: bool) {
    let mut after = Some(0);
    while let Some(cookie) = after {
        let page = f.session.readdir(dir, cookie, 100, true).unwrap();
        for item in page.items {
            let attr = item.attr.unwrap();
            assert_eq!(attr.flags.has(AttrFlags::IN_TREE), inside, "{:?}", item.name);
            if attr.is_dir() {
                assert_tree(f, item.ino, inside);
            }
        }
        after = page.next;
    }
}

fn write(s: &Session, ino: InodeId, bytes: usize) -> Result<Committed, MetaError> {
    let data = vec![1; bytes];
    s.commit(ino, &request(CommitData::AppendInline(&data), 3)).map(done)
}

fn errno<T: std::fmt::Debug>(result: Result<T, MetaError>) -> Errno {
    posix(result.unwrap_err())
}

fn go(s: &Session, from: (InodeId, &[u8]), to: (InodeId, &[u8])) -> Result<Renamed, MetaError> {
    s.rename(from.0, from.1, to.0, to.1, RenameMode::Replace, Victim::Unknown, t(5))
}

#[test]
fn who_has_no_quotas_pays_nothing() {
    let f = Fixture::new();
    let s = &f.session;
    let a = s.create(ROOT, b"a", &file(), t(1)).unwrap().attr.ino;
    write(s, a, 10).unwrap();
    s.unlink(ROOT, b"a", Victim::NotOpen(a), t(2)).unwrap();
    for key in ["u", "y0", "y1", "w1"] {
        let there = f.server.command(&["EXISTS", &format!("rfs:{{demo/0}}:{key}")]);
        assert_eq!(there.into_int().unwrap(), 0, "{key}");
    }
    assert_eq!(f.volume.quotas().unwrap(), Quotas::default());
}

#[test]
fn owners_are_limited_exactly_and_the_privileged_are_not() {
    let f = Fixture::new();
    let s = &f.session;
    let old = s.create(ROOT, b"old", &owned(10, 20), t(1)).unwrap().attr.ino;
    write(s, old, 100).unwrap();
    f.volume.set_quota(QuotaSubject::User(10), Some(3), Some(1000)).unwrap();
    assert_eq!(f.volume.quotas().unwrap().owners, OwnerCounting::On);
    assert_eq!(stored(&f), recount(&f));
    assert_eq!(stored(&f)[&QuotaSubject::User(10)], (1, 100));
    // Inodes: one more than there is room for is not made, and nothing of it stays.
    s.create(ROOT, b"b", &owned(10, 21), t(1)).unwrap();
    let c = s.create(ROOT, b"c", &owned(10, 21), t(1)).unwrap().attr.ino;
    assert_eq!(errno(s.create(ROOT, b"d", &owned(10, 21), t(1))), Errno::EDQUOT);
    assert_eq!(errno(s.create_nameless(ROOT, &owned(10, 21), t(1))), Errno::EDQUOT);
    assert_eq!(errno(s.lookup(ROOT, b"d")), Errno::ENOENT);
    // A name that is there is found all the same.
    assert!(!s.create(ROOT, b"c", &owned(10, 21), t(1)).unwrap().created);
    // Bytes: exactly the limit fits.
    write(s, c, 900).unwrap();
    assert_eq!(errno(write(s, c, 1)), Errno::EDQUOT);
    assert_eq!(s.getattr(c).unwrap().size, 900);
    let grow = SetAttr { size: Some(901), ..SetAttr::default() };
    assert_eq!(errno(s.setattr(c, &grow, t(4))), Errno::EDQUOT);
    assert_eq!(errno(s.zero(c, 0..901, true, Writer::default(), t(4))), Errno::EDQUOT);
    s.setattr(c, &SetAttr { privileged: true, ..grow }, t(4)).unwrap();
    // Overwriting needs no room, shrinking gives it back.
    let over = s.commit(c, &request(CommitData::Inline(&[(0, b"x")]), 5)).unwrap();
    assert_eq!(done(over).attr.size, 901);
    s.setattr(c, &SetAttr { size: Some(0), ..SetAttr::default() }, t(6)).unwrap();
    write(s, c, 900).unwrap();
    // What changes hands is checked against the new owner.
    let e = s.create(ROOT, b"e", &owned(11, 21), t(1)).unwrap().attr.ino;
    let give = SetAttr { uid: Some(10), ..SetAttr::default() };
    assert_eq!(errno(s.setattr(e, &give, t(7))), Errno::EDQUOT);
    assert_eq!(s.getattr(e).unwrap().uid, 11);
    s.setattr(e, &SetAttr { privileged: true, ..give }, t(7)).unwrap();
    assert_eq!(stored(&f), recount(&f));
    assert_eq!(stored(&f)[&QuotaSubject::User(10)], (4, 1000));
    // A group that a directory passes on is the one that counts.
    f.volume.set_quota(QuotaSubject::Group(77), Some(1), None).unwrap();
    let setgid = NewInode { perm: 0o2775, gid: 77, uid: 0, ..dir() };
    let shared = s.create(ROOT, b"shared", &setgid, t(8)).unwrap().attr.ino;
    assert_eq!(errno(s.create(shared, b"x", &owned(5, 5), t(8))), Errno::EDQUOT);
    f.volume.remove_quota(QuotaSubject::Group(77)).unwrap();
    s.create(shared, b"x", &owned(5, 5), t(8)).unwrap();
    assert_eq!(stored(&f), recount(&f));
    // And off again: nothing remains.
    f.volume.stop_counting_owners().unwrap();
    assert_eq!(f.volume.quotas().unwrap(), Quotas::default());
    assert!(recount(&f).is_empty());
    assert_eq!(f.server.command(&["EXISTS", "rfs:{demo/0}:u"]).into_int().unwrap(), 0);
}

#[test]
fn a_tree_binds_everybody_and_has_a_border() {
    let f = Fixture::new();
    let s = &f.session;
    let make = |dir: InodeId, name: &[u8], new: &NewInode<'_>| s.create(dir, name, new, t(1));
    let a = make(ROOT, b"a", &dir()).unwrap().attr.ino;
    let below = make(a, b"below", &dir()).unwrap().attr.ino;
    let deep = make(below, b"deep", &owned(0, 0)).unwrap().attr.ino;
    write(s, deep, 50).unwrap();
    let tree = QuotaSubject::Tree(a);
    f.volume.set_quota(tree, Some(5), Some(100)).unwrap();
    assert_eq!(stored(&f)[&tree], (3, 50));
    assert_tree(&f, a, true);
    // Root is bound, too.
    let request =
        CommitRequest { privileged: true, ..request(CommitData::AppendInline(&[0; 51]), 3) };
    assert_eq!(errno(s.commit(deep, &request)), Errno::EDQUOT);
    write(s, deep, 50).unwrap();
    let (volume, inside) = f.volume.usage_at(deep).unwrap();
    assert_eq!((volume.inodes, inside.unwrap().bytes_max), (4, 100));
    assert_eq!(f.volume.usage_at(ROOT).unwrap().1, None);

    // Trees do not lie in one another.
    assert_eq!(errno(f.volume.set_quota(QuotaSubject::Tree(below), None, None)), Errno::EBUSY);
    assert_eq!(errno(f.volume.set_quota(QuotaSubject::Tree(ROOT), None, None)), Errno::EBUSY);
    assert_eq!(errno(f.volume.set_quota(QuotaSubject::Tree(deep), None, None)), Errno::ENOTDIR);
    assert_tree(&f, a, true);
    assert!(!s.getattr(ROOT).unwrap().flags.has(AttrFlags::IN_TREE));
    assert_eq!(stored(&f), recount(&f));

    // Directories stay on their side; files with one name pass if there is room.
    make(ROOT, b"dir", &dir()).unwrap();
    let big = make(ROOT, b"big", &file()).unwrap().attr.ino;
    write(s, big, 1).unwrap();
    assert_eq!(errno(go(s, (ROOT, b"dir"), (a, b"dir"))), Errno::EXDEV);
    assert_eq!(errno(go(s, (a, b"below"), (ROOT, b"below"))), Errno::EXDEV);
    assert_eq!(errno(go(s, (ROOT, b"big"), (a, b"big"))), Errno::EDQUOT);
    assert_eq!(errno(s.link(big, a, b"big", t(2))), Errno::EXDEV);
    assert_eq!(s.getattr(big).unwrap().nlink, 1);
    s.setattr(big, &SetAttr { size: Some(0), ..SetAttr::default() }, t(3)).unwrap();
    go(s, (ROOT, b"big"), (below, b"big")).unwrap();
    assert_eq!(stored(&f)[&tree], (4, 100));
    s.link(big, a, b"big2", t(2)).unwrap();
    assert_eq!(errno(go(s, (a, b"big2"), (ROOT, b"big2"))), Errno::EXDEV);
    s.unlink(a, b"big2", Victim::Unknown, t(2)).unwrap();
    go(s, (below, b"big"), (ROOT, b"big")).unwrap();
    assert_eq!(stored(&f)[&tree], (3, 100));
    // An exchange is checked both ways.
    let exchange = |name: &[u8]| {
        s.rename(ROOT, name, a, b"below", RenameMode::Exchange, Victim::Unknown, t(6))
    };
    assert_eq!(errno(exchange(b"big")), Errno::EXDEV);
    assert_eq!(errno(exchange(b"dir")), Errno::EXDEV);
    s.rename(ROOT, b"big", below, b"deep", RenameMode::Exchange, Victim::Unknown, t(6)).unwrap();
    assert_eq!(stored(&f)[&tree], (3, 0));
    // The root of a tree may move, but not into another.
    let b = make(ROOT, b"b", &dir()).unwrap().attr.ino;
    f.volume.set_quota(QuotaSubject::Tree(b), Some(2), None).unwrap();
    assert_eq!(errno(go(s, (ROOT, b"b"), (a, b"b"))), Errno::EXDEV);
    go(s, (ROOT, b"b"), (ROOT, b"c")).unwrap();
    // O_TMPFILE counts from its beginning, and may be named on either side.
    let nameless = s.create_nameless(a, &file(), t(7)).unwrap().ino;
    assert_eq!(stored(&f)[&tree], (4, 0));
    s.link(nameless, b, b"named", t(7)).unwrap();
    assert_eq!(stored(&f)[&tree], (3, 0));
    assert_eq!(errno(make(b, b"third", &file())), Errno::EDQUOT);
    assert_eq!(stored(&f), recount(&f));

    // The quota ends at once, and with its root.
    f.volume.remove_quota(tree).unwrap();
    assert_eq!(errno(f.volume.remove_quota(tree)), Errno::ENODATA);
    assert_tree(&f, a, false);
    go(s, (ROOT, b"dir"), (a, b"dir")).unwrap();
    s.unlink(b, b"named", Victim::NotOpen(nameless), t(8)).unwrap();
    s.rmdir(ROOT, b"c", Victim::NotOpen(b), t(8)).unwrap();
    assert!(stored(&f).is_empty() && recount(&f).is_empty());
    for group in ["y0", "y1"] {
        let there = f.server.command(&["EXISTS", &format!("rfs:{{demo/0}}:{group}")]);
        assert_eq!(there.into_int().unwrap(), 0);
    }
}

#[test]
fn two_sessions_never_exceed_a_quota() {
    let f = Fixture::new();
    let shared = f.session.create(ROOT, b"d", &dir(), t(1)).unwrap().attr.ino;
    f.volume.set_quota(QuotaSubject::Tree(shared), Some(51), Some(5000)).unwrap();
    let sessions = [Arc::clone(&f.session), f.another_session()];
    let (mut made, mut written) = (0, 0);
    std::thread::scope(|scope| {
        let work: Vec<_> = sessions
            .iter()
            .enumerate()
            .map(|(who, s)| {
                scope.spawn(move || {
                    let (mut made, mut written) = (0, 0);
                    for i in 0..40 {
                        let name = format!("{who}-{i}");
                        match s.create(shared, name.as_bytes(), &file(), t(2)) {
                            Ok(created) => {
                                made += 1;
                                match write(s, created.attr.ino, 130) {
                                    Ok(_) => written += 130,
                                    Err(error) => assert_eq!(posix(error), Errno::EDQUOT),
                                }
                            }
                            Err(error) => assert_eq!(posix(error), Errno::EDQUOT),
                        }
                    }
                    (made, written)
                })
            })
            .collect();
        for one in work {
            let (m, w) = one.join().unwrap();
            made += m;
            written += w;
        }
    });
    assert_eq!((made, written), (50, 5000 / 130 * 130));
    assert_eq!(stored(&f)[&QuotaSubject::Tree(shared)], (51, written));
    assert_eq!(stored(&f), recount(&f));
}

/// Several sessions at work while quotas are set and removed; at the end every counter is what a
/// recount gives, and each tree holds exactly what lies in it.
#[test]
fn counting_beside_live_sessions_is_exact() {
    for seed in 1..=4u64 {
        let f = Fixture::new();
        let s = &f.session;
        let mut dirs = vec![ROOT];
        for name in ["t0", "t1"] {
            let top = s.create(ROOT, name.as_bytes(), &dir(), t(1)).unwrap().attr.ino;
            dirs.push(top);
            for i in 0..20 {
                let sub = s.create(top, format!("s{i}").as_bytes(), &dir(), t(1)).unwrap().attr.ino;
                dirs.push(sub);
                for j in 0..30 {
                    s.create(sub, format!("old{j}").as_bytes(), &owned(j, j), t(1)).unwrap();
                }
            }
        }
        if seed > 2 {
            // With a trash nothing counts less than without one.
            f.volume
                .set_trash(Duration::from_secs(if seed == 3 { 1 } else { 86_400 }), t(1))
                .unwrap();
        }
        let (t0, t1) = (QuotaSubject::Tree(dirs[1]), QuotaSubject::Tree(dirs[22]));
        let sessions = [f.another_session(), f.another_session()];
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for (who, s) in sessions.iter().enumerate() {
                let (dirs, stop) = (&dirs, &stop);
                scope.spawn(move || {
                    let mut state =
                        (seed * 31 + who as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
                    let mut roll = |below: u64| {
                        state ^= state << 13;
                        state ^= state >> 7;
                        state ^= state << 17;
                        state % below
                    };
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        disturb(s, dirs, &mut roll);
                    }
                });
            }
            f.volume.set_quota(QuotaSubject::User(3), Some(100_000), None).unwrap();
            f.volume.set_quota(t0, Some(100_000), None).unwrap();
            f.volume.set_quota(t1, Some(100_000), Some(1 << 40)).unwrap();
            f.volume.stop_counting_owners().unwrap();
            f.volume.set_quota(QuotaSubject::Group(3), Some(100_000), None).unwrap();
            if seed % 2 == 0 {
                f.volume.remove_quota(t1).unwrap();
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        assert_eq!(stored(&f), recount(&f), "seed {seed}");
        for (name, inside) in [("t0", true), ("t1", seed % 2 == 1)] {
            let top = s.lookup(ROOT, name.as_bytes()).unwrap().attr;
            assert_eq!(top.flags.has(AttrFlags::IN_TREE), inside);
            assert_tree(&f, top.ino, inside);
        }
        let mut cursor = 0;
        loop {
            let (next, found) = f.volume.scan_inodes(cursor).unwrap();
            assert!(found.iter().all(|attr| attr.flags.has(AttrFlags::COUNTED)), "seed {seed}");
            if next == 0 {
                break;
            }
            cursor = next;
        }
    }
}

/// One operation at random; many fail, which is as good.
fn disturb(s: &Session, dirs: &[InodeId], roll: &mut dyn FnMut(u64) -> u64) {
    let dir_at = |n: u64| dirs[n as usize % dirs.len()];
    let (a, b) = (dir_at(roll(50)), dir_at(roll(50)));
    let name = |n: u64| format!("{}{}", ["new", "old", "s"][n as usize % 3], n / 3 % 30);
    let (from, to) = (name(roll(90)), name(roll(90)));
    let owner = roll(8) as u32;
    let found = s.lookup(a, from.as_bytes()).map(|found| found.attr);
    let is_dir = found.as_ref().is_ok_and(Attr::is_dir);
    let outcome = match roll(10) {
        0 | 1 => s.create(a, from.as_bytes(), &owned(owner, owner), t(2)).map(|_| ()),
        2 => s.create(a, from.as_bytes(), &dir(), t(2)).map(|_| ()),
        3 | 4 => go(s, (a, from.as_bytes()), (b, to.as_bytes())).map(|_| ()),
        5 => {
            let (from, to) = (from.as_bytes(), to.as_bytes());
            s.rename(a, from, b, to, RenameMode::Exchange, Victim::Unknown, t(4)).map(|_| ())
        }
        6 if is_dir => s.rmdir(a, from.as_bytes(), Victim::Unknown, t(3)).map(|_| ()),
        6 => s.unlink(a, from.as_bytes(), Victim::Unknown, t(3)).map(|_| ()),
        7 => found.and_then(|attr| write(s, attr.ino, roll(200) as usize).map(|_| ())),
        8 => found.and_then(|attr| {
            let change =
                SetAttr { uid: Some(owner), gid: Some(roll(8) as u32), ..SetAttr::default() };
            s.setattr(attr.ino, &change, t(3)).map(|_| ())
        }),
        _ => found.and_then(|attr| {
            let change = SetAttr { size: Some(roll(300)), uid: Some(owner), ..SetAttr::default() };
            s.setattr(attr.ino, &change, t(3)).map(|_| ())
        }),
    };
    if let Err(error) = outcome {
        assert!(matches!(error, MetaError::Posix(_)), "{error}");
    }
}
