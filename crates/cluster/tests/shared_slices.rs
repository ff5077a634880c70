//! Slices that several files show, and clones that were not finished: what the check says of them
//! and what collection leaves.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod world;

use ringfs_base::{InodeId, SliceId};
use ringfs_cluster::{Checks, GcOptions, Job, gc};
use ringfs_meta::{
    AttrFlags, CloneItem, Cloned, FileKind, ShareRequest, Shared, Victim, Writer, XattrMode,
};
use std::sync::Arc;
use world::{NOW, ROOT, World, make, new_inode};

const DELETE: GcOptions = GcOptions { delete: true, lease: None };

/// `/copy` shows all that `/big` shows.
fn share_big(w: &World) -> InodeId {
    let session = w.session();
    let source = w.attr(w.ino("big"));
    let copy = make(&session, ROOT, "copy", FileKind::File);
    let chunks = w.volume.chunks_of(source.ino).unwrap();
    let read: Vec<_> = chunks.iter().map(|(c, records)| (*c, Arc::new(records.clone()))).collect();
    let request = ShareRequest {
        source: source.ino,
        version: source.ctime,
        read: &read,
        destination: copy,
        records: &chunks,
        end: source.size,
        writer: Writer::PRIVILEGED,
    };
    assert!(matches!(session.share(&request, NOW).unwrap(), Shared::Done(_)));
    session.end().unwrap();
    copy
}

fn blocks(w: &World) -> u64 {
    let copies = w.nodes.iter().map(|node| node.command(&["DBSIZE"]).into_int().unwrap() as u64);
    copies.sum()
}

#[test]
fn shared_slices_are_no_damage_and_no_garbage() {
    let w = World::with_tree(2, 2);
    let before = blocks(&w);
    share_big(&w);
    w.assert_clean(Checks::Deep);
    assert_eq!(blocks(&w), before, "no data moved");
    let session = w.session();
    let gone = session.unlink(ROOT, b"big", Victim::NotOpen(w.ino("big")), NOW).unwrap();
    session.end().unwrap();
    assert_eq!(gone.removed.attr.size, 10_000);
    let report = gc(&w.subject, &DELETE, &Job::new()).unwrap();
    assert_eq!((report.garbage_blocks(), report.removed_blocks()), (0, 0));
    w.assert_clean(Checks::Deep);
    w.unlink("copy", Victim::NotOpen(w.ino("copy")));
    gc(&w.subject, &DELETE, &Job::new()).unwrap();
    w.assert_clean(Checks::Deep);
    assert_eq!(blocks(&w), before - 6, "three blocks on two nodes");
}

#[test]
fn counts_that_are_wrong_are_found() {
    let w = World::with_tree(1, 1);
    let copy = share_big(&w);
    let slice = w.slice("big").to_bytes();
    w.raw(&[b"HSET", b"@r", &slice, b"2"]);
    w.assert_only(Checks::Metadata, "surplus-owners");
    w.raw(&[b"HDEL", b"@r", &slice]);
    let report = w.assert_only(Checks::Metadata, "shared-slice");
    assert_eq!(report.findings[0].path.as_deref(), Some("/big"));
    w.raw(&[b"HSET", b"@r", &slice, b"1"]);
    w.assert_clean(Checks::Metadata);
    w.edit(copy, |attr| attr.flags = AttrFlags(attr.flags.0 & !AttrFlags::SHARED));
    w.assert_only(Checks::Metadata, "shared-slice");
    w.edit(copy, |attr| attr.flags = AttrFlags(attr.flags.0 | AttrFlags::SHARED));
    w.raw(&[b"HSET", b"@r", &SliceId(900).to_bytes(), b"1"]);
    w.assert_only(Checks::Metadata, "surplus-owners");
    w.raw(&[b"HDEL", b"@r", &SliceId(900).to_bytes()]);
    w.raw(&[b"HSET", b"@r", b"short", b"1"]);
    w.assert_only(Checks::Metadata, "bad-record");
}

#[test]
fn a_clone_that_was_not_finished_is_named_and_removed() {
    let w = World::with_tree(2, 1);
    let before = blocks(&w);
    let session = w.session();
    session.setxattr(w.ino("big"), b"user.y", b"1", XattrMode::Either, NOW).unwrap();
    let usage = w.volume.usage().unwrap();
    let staging = session.create_nameless(ROOT, &new_inode(FileKind::Directory), NOW).unwrap().ino;
    let item =
        |path: &str, name: &'static str| CloneItem { source: w.ino(path), name: name.as_bytes() };
    let items = [item("many", "m"), item("big", "b"), item("inline", "i"), item("d", "d")];
    let made = session.clone_inodes(staging, &items, true, NOW).unwrap();
    let [Cloned::Done(many), .., Cloned::Done(d)] = made[..] else { panic!("{made:?}") };
    session.clone_inodes(d, &[item("d/e", "e"), item("big2", "b2")], true, NOW).unwrap();
    let items: Vec<String> = (0..60).map(|i| format!("file{i}")).collect();
    let sources: Vec<InodeId> = items.iter().map(|n| w.ino(&format!("many/{n}"))).collect();
    let items: Vec<CloneItem<'_>> = items
        .iter()
        .zip(sources)
        .map(|(name, source)| CloneItem { source, name: name.as_bytes() })
        .collect();
    assert_eq!(session.clone_inodes(many, &items, true, NOW).unwrap().len(), 60);
    // While somebody is at it nothing is wrong, and collection leaves it alone.
    w.assert_clean(Checks::Deep);
    gc(&w.subject, &DELETE, &Job::new()).unwrap();
    assert_eq!(w.attr(many).entries, 60);
    session.end().unwrap();
    let report = w.assert_only(Checks::Deep, "unfinished-clone");
    assert!(!report.is_clean());
    assert_eq!(blocks(&w), before);
    let report = gc(&w.subject, &DELETE, &Job::new()).unwrap();
    assert_eq!((report.orphans, report.garbage_blocks()), (1, 0));
    w.assert_clean(Checks::Deep);
    assert_eq!(w.volume.usage().unwrap(), usage);
    assert_eq!(blocks(&w), before, "the originals are all there");
}
