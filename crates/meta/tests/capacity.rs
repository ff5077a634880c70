//! What a volume costs in memory, how large directories behave, and what happens when memory is
//! full.

#![allow(clippy::unwrap_used, reason = "a test that fails shall panic")]

mod fixture;

use fixture::*;
use ringfs_base::{Errno, InodeId};
use ringfs_link::Cmd;
use ringfs_meta::*;
use ringfs_testkit::ServerOptions;
use std::collections::{BTreeMap, BTreeSet};

const ROOT: InodeId = InodeId::ROOT;

/// Target of DESIGN: at most so many bytes of Redis memory an empty file with a 16-byte name.
const BYTES_PER_FILE_MAX: u64 = 120;

#[test]
fn a_file_costs_little_memory() {
    let f = Fixture::new();
    let before = f.server.used_memory();
    let (dirs, each) = (100, 1000);
    let mut parents = Vec::new();
    for i in 0..dirs {
        parents.push(f.session.create(ROOT, format!("d{i}").as_bytes(), &dir(), t(1)).unwrap());
    }
    std::thread::scope(|scope| {
        let session = &f.session;
        for part in parents.chunks(dirs / 2) {
            scope.spawn(move || {
                for parent in part {
                    for i in 0..each {
                        let name = format!("file-{i:011}");
                        session.create(parent.attr.ino, name.as_bytes(), &file(), t(2)).unwrap();
                    }
                }
            });
        }
    });
    let each_file = (f.server.used_memory() - before) / (dirs * each) as u64;
    assert!(each_file <= BYTES_PER_FILE_MAX, "{each_file} bytes a file");
}

fn names(n: u32) -> impl Iterator<Item = Vec<u8>> {
    (0..n).map(|i| format!("name-{i}").into_bytes())
}

#[test]
fn a_large_directory_stays_compact_and_is_listed_exactly() {
    let f = Fixture::new();
    let s = &f.session;
    let d = s.create(ROOT, b"d", &dir(), t(1)).unwrap().attr.ino;
    for name in names(10_000) {
        s.create(d, &name, &file(), t(1)).unwrap();
    }
    let attr = s.getattr(d).unwrap();
    assert_eq!((attr.entries, attr.buckets), (10_000, 250));
    let mut conn = f.server.conn();
    for bucket in 0..attr.buckets {
        let key = format!("rfs:{{demo/0}}:d{}:{bucket}", d.local());
        let encoding = conn.call(&Cmd::new("OBJECT").arg("ENCODING").arg(&key)).unwrap();
        assert_eq!(encoding.as_bytes(), Some(&b"listpack"[..]), "bucket {bucket}");
    }

    // Names come and go, and the table grows, while it is listed: what was there all the time is
    // listed once.
    let stable: BTreeSet<Vec<u8>> = names(10_000).skip(2_000).collect();
    let mut seen: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
    let (mut after, mut pages, mut last) = (Some(0), 0, 0);
    while let Some(cookie) = after {
        let page = s.readdir(d, cookie, 300, pages % 2 == 0).unwrap();
        for item in &page.items {
            assert!(item.cookie > last.max(DIR_COOKIE_MIN - 1) && item.cookie < 1 << 63);
            last = item.cookie;
            assert_eq!(item.attr.is_some(), pages % 2 == 0);
            assert!(item.attr.is_none_or(|attr| attr.ino == item.ino && attr.kind == item.kind));
            *seen.entry(item.name.clone()).or_default() += 1;
        }
        // A caller may stop in the middle of a page too.
        after = match page.items.get(page.items.len() / 2) {
            Some(item) if pages % 5 == 4 => {
                for later in &page.items[page.items.len() / 2 + 1..] {
                    seen.remove(&later.name);
                }
                last = item.cookie;
                Some(item.cookie)
            }
            _ => page.next,
        };
        for i in 0..60 {
            let n = pages * 60 + i;
            s.create(d, format!("new-{n}").as_bytes(), &file(), t(2)).unwrap();
            if n < 2_000 {
                let gone = format!("name-{n}");
                s.unlink(d, gone.as_bytes(), Victim::Unknown, t(2)).unwrap();
            }
        }
        pages += 1;
    }
    assert!(pages > 20);
    for name in &stable {
        assert_eq!(seen.get(name), Some(&1), "{}", String::from_utf8_lossy(name));
    }
    assert!(seen.values().all(|count| *count == 1));
}

#[test]
fn long_names_do_not_spoil_a_directory_for_ever() {
    let f = Fixture::new();
    let s = &f.session;
    for i in 0..200 {
        let name = format!("{i:0200}");
        s.create(ROOT, name.as_bytes(), &file(), t(1)).unwrap();
    }
    let page = s.readdir(ROOT, 0, 4096, false).unwrap();
    assert_eq!((page.items.len(), page.next), (200, None));
    assert!(s.getattr(ROOT).unwrap().buckets >= 5);
}

#[test]
fn when_memory_is_full_writing_fails_and_deleting_works() {
    let options = ServerOptions { maxmemory: Some(4 << 20), ..ServerOptions::default() };
    let f = Fixture::with(options, &config("demo"));
    let s = &f.session;
    let data = vec![7; 8000];
    let mut made = Vec::new();
    let full = loop {
        let name = format!("f{}", made.len());
        let attr = match s.create(ROOT, name.as_bytes(), &file(), t(1)) {
            Ok(created) => created.attr,
            Err(error) => break error,
        };
        made.push((name, attr.ino));
        if let Err(error) = s.commit(attr.ino, &request(CommitData::Inline(&[(0, &data)]), 2)) {
            break error;
        }
        assert!(made.len() < 5_000);
    };
    assert_eq!(posix(full), Errno::ENOSPC);
    // Down to the last byte, so that every further write is refused.
    while f.server.conn().call(&Cmd::new("APPEND").arg("ballast").arg([0; 1000])).is_ok() {}
    let entries = s.getattr(ROOT).unwrap().entries;
    assert_eq!(posix(s.create(ROOT, b"no", &file(), t(3)).unwrap_err()), Errno::ENOSPC);
    assert_eq!(posix(s.link(made[0].1, ROOT, b"no", t(3)).unwrap_err()), Errno::ENOSPC);
    assert_eq!(s.getattr(ROOT).unwrap().entries, entries, "a refused create changed something");
    assert_eq!(s.readdir(ROOT, 0, 4096, true).unwrap().items.len(), entries as usize);

    // Everything that helps works: a new mount, a sign of life, removing, truncating, purging.
    let other = f.another_session();
    other.heartbeat(&Beat::default()).unwrap();
    let (name, ino) = &made[0];
    s.unlink(ROOT, name.as_bytes(), Victim::Open(*ino), t(4)).unwrap();
    other.end().unwrap();
    assert!(s.release_hold(*ino).unwrap());
    assert_eq!(s.purge(*ino).unwrap(), Purge::Done(vec![]));
    let (name, ino) = &made[1];
    s.setattr(*ino, &SetAttr { size: Some(0), ..SetAttr::default() }, t(5)).unwrap();
    s.unlink(ROOT, name.as_bytes(), Victim::NotOpen(*ino), t(6)).unwrap();
    for (name, ino) in &made[2..] {
        s.unlink(ROOT, name.as_bytes(), Victim::NotOpen(*ino), t(6)).unwrap();
    }
    assert_eq!(s.usage().unwrap().inodes, 1);
    s.create(ROOT, b"yes", &file(), t(7)).unwrap();
}
