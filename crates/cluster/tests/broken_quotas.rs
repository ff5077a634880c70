//! Quotas broken on purpose are found, and their counters put right.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod world;

use ringfs_base::InodeId;
use ringfs_cluster::fsck::{UsageRepaired, repair_usage};
use ringfs_cluster::{Checks, Job};
use ringfs_meta::{AttrFlags, QuotaSubject};
use world::World;

/// A sound tree with quotas of all kinds.
fn world() -> (World, InodeId) {
    let world = World::with_tree(1, 1);
    let dir = world.ino("d");
    let volume = &world.volume;
    volume.set_quota(QuotaSubject::User(0), Some(1000), None).unwrap();
    volume.set_quota(QuotaSubject::Tree(dir), None, Some(1 << 30)).unwrap();
    world.assert_clean(Checks::Metadata);
    (world, dir)
}

#[test]
fn wrong_counters_are_found_and_put_right() {
    let (w, dir) = world();
    let field = |subject| {
        let all = w.volume.quotas().unwrap().all;
        all.into_iter().find(|quota| quota.subject == subject).unwrap()
    };
    let tree = field(QuotaSubject::Tree(dir));
    let record = [7u64, 8, 0, 1 << 30, dir.0].map(u64::to_be_bytes).concat();
    w.raw(&[b"HSET", b"@u", b"p1", &[&record[..], &[0]].concat()]);
    w.assert_only(Checks::Metadata, "wrong-quota");
    let done = repair_usage(&w.subject, &Job::new()).unwrap();
    assert!(matches!(done, UsageRepaired::Done { .. }));
    assert_eq!(field(QuotaSubject::Tree(dir)), tree);
    w.assert_clean(Checks::Metadata);
    // One that is counted and has no record.
    w.raw(&[b"HDEL", b"@u", b"u0"]);
    w.assert_only(Checks::Metadata, "wrong-quota");
    repair_usage(&w.subject, &Job::new()).unwrap();
    w.assert_clean(Checks::Metadata);
    w.raw(&[b"HSET", b"@u", b"p9", b"what?"]);
    w.assert_only(Checks::Metadata, "bad-record");
}

#[test]
fn marks_that_do_not_fit_are_found() {
    let (w, _) = world();
    // Out of its tree although it lies in it: the counter is right for what is marked.
    let below = w.ino("d/e");
    w.edit(below, |attr| attr.flags = AttrFlags(attr.flags.0 & !AttrFlags::IN_TREE));
    let kinds = w.kinds(Checks::Metadata);
    assert!(kinds.contains(&"wrong-tree") && kinds.contains(&"wrong-quota"), "{kinds:?}");
    // Who is not counted although all are.
    let (w, _) = world();
    w.edit(w.ino("empty"), |attr| attr.flags = AttrFlags(attr.flags.0 & !AttrFlags::COUNTED));
    let kinds = w.kinds(Checks::Metadata);
    assert!(kinds.contains(&"wrong-counting") && kinds.contains(&"wrong-quota"), "{kinds:?}");
    // A quota that is gone leaves marks, which are no damage.
    let (w, dir) = world();
    w.raw(&[b"HDEL", b"@u", b"p1"]);
    assert_eq!(w.kinds(Checks::Metadata), ["stale-tree-marks"]);
    w.volume.set_quota(QuotaSubject::Tree(dir), None, Some(5)).unwrap();
    w.assert_clean(Checks::Metadata);
}
