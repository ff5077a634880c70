//! The trash on a real server: what a deletion does with it and without it.

#![allow(clippy::unwrap_used, reason = "a test that fails shall panic")]

mod fixture;

use fixture::*;
use ringfs_base::{Errno, InodeId};
use ringfs_meta::*;
use std::time::Duration;

const ROOT: InodeId = InodeId::ROOT;
const DAY: Duration = Duration::from_secs(86_400);

fn items(f: &Fixture) -> Vec<TrashItem> {
    let trash = f.volume.trash().unwrap().unwrap();
    let slots = f.volume.trash_slots(&trash).unwrap();
    slots.iter().flat_map(|slot| f.volume.trash_items(slot).unwrap()).collect()
}

#[test]
fn the_last_name_goes_into_the_trash_in_the_same_script() {
    let f = Fixture::new();
    let s = &f.session;
    assert_eq!(f.volume.trash().unwrap(), None);
    f.volume.set_trash(DAY, t(1)).unwrap();
    f.volume.set_trash(7 * DAY, t(1)).unwrap();
    let trash = f.volume.trash().unwrap().unwrap();
    assert_eq!((trash.keep, trash.on), (7 * DAY, true));
    let d = s.create(ROOT, b"d", &dir(), t(2)).unwrap().attr.ino;
    let a = s.create(d, b"a", &file(), t(2)).unwrap().attr.ino;
    done(s.commit(a, &request(CommitData::AppendInline(b"kept"), 3)).unwrap());
    s.link(a, d, b"b", t(3)).unwrap();
    let one = s.unlink(d, b"a", Victim::NotOpen(a), t(4)).unwrap().removed;
    assert_eq!((one.fate, one.attr.nlink), (Fate::Linked, 1));
    assert!(items(&f).is_empty());
    let before = f.server.commandstats()["evalsha"];
    let two = s.unlink(d, b"b", Victim::NotOpen(a), t(4)).unwrap().removed;
    assert_eq!((two.fate, two.attr.nlink), (Fate::Linked, 1));
    let three = s.rmdir(ROOT, b"d", Victim::NotOpen(d), t(5)).unwrap().removed;
    assert_eq!((three.fate, three.attr.nlink, three.attr.entries), (Fate::Linked, 2, 0));
    assert_eq!(f.server.commandstats()["evalsha"], before + 2, "one script each");
    let found = items(&f);
    let by_name = |name: &[u8]| found.iter().find(|item| item.name == name).unwrap();
    assert_eq!((by_name(b"b").parent, by_name(b"b").attr.ino), (d, a));
    assert_eq!((by_name(b"d").parent, by_name(b"d").attr.ino), (ROOT, d));
    assert_eq!(f.volume.usage().unwrap().bytes, 4);
    // Back by a rename; the counts follow.
    let item = by_name(b"d");
    s.rename(item.slot, &item.entry, ROOT, b"d", RenameMode::NoReplace, Victim::Unknown, t(6))
        .unwrap();
    assert_eq!(s.getattr(d).unwrap().parent, Some(ROOT));
    // Deleted in the trash is gone.
    let item = by_name(b"b");
    let gone = s.unlink(item.slot, &item.entry, Victim::NotOpen(a), t(7)).unwrap();
    assert!(matches!(gone.removed.fate, Fate::Purged(_)));
    assert_eq!(gone.parent.nlink, 2);
    // What a rename replaces is kept, too; names of any length are.
    let long = [b'n'; 255];
    for name in [&long[..], b"new"] {
        s.create(ROOT, name, &file(), t(8)).unwrap();
    }
    let moved =
        s.rename(ROOT, b"new", ROOT, &long, RenameMode::Replace, Victim::Unknown, t(9)).unwrap();
    assert_eq!(moved.replaced.unwrap().fate, Fate::Linked);
    assert!(items(&f).iter().any(|item| item.entry.len() == 255 && item.name.len() > 220));
    // The trash itself stays while it is on.
    assert_eq!(
        posix(s.rmdir(ROOT, b".trash", Victim::Unknown, t(9)).unwrap_err()),
        Errno::ENOTEMPTY
    );
    f.volume.set_trash(Duration::ZERO, t(10)).unwrap();
    let gone = s.unlink(ROOT, &long, Victim::Unknown, t(11)).unwrap();
    assert_eq!(gone.removed.fate, Fate::Orphaned);
    assert!(!f.volume.trash().unwrap().unwrap().on);
}

#[test]
fn the_trash_is_not_renamed_nor_replaced_while_it_is_on() {
    let f = Fixture::new();
    let s = &f.session;
    f.volume.set_trash(DAY, t(1)).unwrap();
    let trash = f.volume.trash().unwrap().unwrap().directory;
    s.create(ROOT, b"d", &dir(), t(2)).unwrap();
    let rename = |old: &[u8], new: &[u8], mode| {
        s.rename(ROOT, old, ROOT, new, mode, Victim::Unknown, t(3)).map(|_| ())
    };
    for (old, new, mode) in [
        (&b"d"[..], &b".trash"[..], RenameMode::Replace),
        (b".trash", b"e", RenameMode::NoReplace),
        (b".trash", b"d", RenameMode::Exchange),
        (b"d", b".trash", RenameMode::Exchange),
    ] {
        assert_eq!(posix(rename(old, new, mode).unwrap_err()), Errno::EPERM, "{mode:?}");
    }
    assert_eq!(s.lookup(ROOT, b".trash").unwrap().attr.ino, trash);
    f.volume.set_trash(Duration::ZERO, t(4)).unwrap();
    rename(b".trash", b"e", RenameMode::NoReplace).unwrap();
}

#[test]
fn the_trash_is_cleared_when_memory_is_full() {
    let f = Fixture::new();
    f.volume.set_trash(DAY, t(1)).unwrap();
    f.server.config_set("maxmemory", "1");
    assert!(f.volume.trash_turn(f.session.id(), Duration::from_secs(100)).unwrap().0);
    f.volume.set_trash(Duration::ZERO, t(2)).unwrap();
    f.server.config_set("maxmemory", "0");
}

#[test]
fn one_session_at_a_time_clears_the_trash() {
    let f = Fixture::new();
    let lasts = Duration::from_secs(100);
    let other = f.another_session();
    assert!(f.volume.trash_turn(f.session.id(), lasts).unwrap().0);
    assert!(!f.volume.trash_turn(other.id(), lasts).unwrap().0);
    assert!(f.volume.trash_turn(f.session.id(), lasts).unwrap().0);
}
