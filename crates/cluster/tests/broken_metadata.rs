//! One test for each invariant of the metadata: broken on purpose, it is found, and nothing else.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod world;

use ringfs_base::{InodeId, SliceId};
use ringfs_cluster::fsck::{UsageRepaired, repair_usage};
use ringfs_cluster::{Checks, Job, Severity};
use ringfs_meta::{Acl, AclKind, AttrFlags, ExtentRecord, FileKind, NameHash, SessionInfo, Victim};
use world::{ROOT, World};

/// Builds a tree that is clean, breaks it, and expects this finding alone.
#[track_caller]
fn breaks(kind: &str, path: Option<&str>, break_it: impl FnOnce(&World)) {
    let world = World::with_tree(1, 1);
    world.assert_clean(Checks::Metadata);
    break_it(&world);
    let report = world.assert_only(Checks::Metadata, kind);
    assert_eq!(report.findings[0].path.as_deref(), path, "{}", report.findings[0].text);
}

#[test]
fn a_sound_tree_is_clean_and_counted() {
    let world = World::with_tree(2, 2);
    for checks in [Checks::Metadata, Checks::Data, Checks::Deep] {
        let report = world.assert_clean(checks);
        assert!(report.is_clean());
        let s = report.summary;
        assert_eq!((s.inodes, s.directories, s.names), (111, 4, 111));
        assert_eq!((s.bytes, s.slices), (26 + 10_000 + 5_000 + 100, 3));
        let copies = if checks == Checks::Metadata { 0 } else { 16 };
        assert_eq!((s.blocks, s.copies), (copies / 2, copies));
        serde_json::to_string(&report).unwrap();
    }
}

#[test]
fn dangling_name() {
    breaks("dangling-name", Some("/empty"), |w| {
        w.forget_attr(w.ino("empty"));
        w.count("inodes", -1);
    });
}

#[test]
fn wrong_type() {
    breaks("wrong-type", Some("/empty"), |w| {
        w.put_name(ROOT, "empty", w.ino("empty"), FileKind::Fifo);
    });
}

#[test]
fn bad_entry() {
    breaks("bad-entry", Some("/d/odd"), |w| {
        let d = w.ino("d");
        w.raw(&[b"HSET", format!("@d{d}:0").as_bytes(), b"odd", b"??"]);
        w.edit(d, |attr| attr.entries += 1);
    });
}

#[test]
fn bad_name() {
    breaks("bad-name", Some("/d/x/y"), |w| {
        let empty = w.ino("empty");
        w.put_name(w.ino("d"), "x/y", empty, FileKind::File);
        w.edit(w.ino("d"), |attr| attr.entries += 1);
        w.edit(empty, |attr| attr.nlink += 1);
    });
}

#[test]
fn misplaced_name() {
    breaks("misplaced-name", Some("/many/file7"), |w| {
        let many = w.ino("many");
        let buckets = w.attr(many).buckets;
        assert!(buckets >= 2, "the directory has grown");
        let hash = NameHash::of(b"file7").bucket_bits;
        let modulus = buckets.next_power_of_two();
        let mut at = hash % modulus;
        if at >= buckets {
            at %= modulus / 2;
        }
        let key = |bucket: u32| format!("@d{many}:{bucket}").into_bytes();
        let value = w.raw(&[b"HGET", &key(at), b"file7"]).into_some_bytes().unwrap();
        w.raw(&[b"HDEL", &key(at), b"file7"]);
        w.raw(&[b"HSET", &key((at + 1) % buckets), b"file7", &value]);
    });
}

#[test]
fn stray_bucket() {
    breaks("stray-bucket", Some("/many"), |w| {
        let many = w.ino("many");
        let from = format!("@d{many}:1");
        w.raw(&[b"RENAME", from.as_bytes(), format!("@d{many}:99").as_bytes()]);
    });
}

#[test]
fn bucket_of_nobody() {
    breaks("bucket-of-nobody", Some("(inode 9000)"), |w| {
        let empty = w.ino("empty");
        w.put_name(InodeId(9000), "x", empty, FileKind::File);
        w.edit(empty, |attr| attr.nlink += 1);
    });
}

#[test]
fn wrong_entry_count() {
    breaks("wrong-entry-count", Some("/d"), |w| w.edit(w.ino("d"), |attr| attr.entries += 1));
}

#[test]
fn bad_attributes() {
    breaks("bad-attributes", Some("(inode 167)"), |w| {
        let empty = w.ino("empty");
        assert_eq!(empty.local(), 167);
        let (key, field) = (format!("@a{}", 167 / 64), (167 % 64).to_string());
        w.raw(&[b"HSET", key.as_bytes(), field.as_bytes(), b"too short"]);
        w.count("inodes", -1);
    });
}

#[test]
fn wrong_link_count_of_a_file() {
    breaks("wrong-link-count", Some("/empty"), |w| w.edit(w.ino("empty"), |attr| attr.nlink = 2));
}

#[test]
fn wrong_link_count_of_a_directory() {
    breaks("wrong-link-count", Some("/d"), |w| w.edit(w.ino("d"), |attr| attr.nlink = 5));
}

/// Owner rwx, user 1000 rwx, group r-x, mask rwx, others none; in the kernel's form.
const ACL: &[u8] = b"\x02\0\0\0\
    \x01\0\x07\0\xff\xff\xff\xff\x02\0\x07\0\xe8\x03\0\0\x04\0\x05\0\xff\xff\xff\xff\
    \x10\0\x07\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";

fn set_acls(w: &World) -> InodeId {
    let d = w.ino("d");
    let session = w.session();
    let acl = Acl::parse(ACL).unwrap().unwrap();
    for kind in [AclKind::Access, AclKind::Default] {
        session.set_acl(d, kind, Some(&acl), false, world::NOW).unwrap();
    }
    world::make(&session, d, "heir", FileKind::File);
    session.end().unwrap();
    w.assert_clean(Checks::Metadata);
    d
}

#[test]
fn acl_that_permission_bits_contradict() {
    breaks("bad-acl", Some("/d"), |w| w.edit(set_acls(w), |attr| attr.perm = 0o700));
}

#[test]
fn acl_that_attributes_do_not_tell_of() {
    breaks("bad-acl", Some("/d"), |w| {
        w.edit(set_acls(w), |attr| attr.flags.0 &= !AttrFlags::ACL_DEFAULT);
    });
}

#[test]
fn acl_that_is_not_there() {
    breaks("bad-acl", Some("/empty"), |w| {
        set_acls(w);
        w.edit(w.ino("empty"), |attr| attr.flags.0 |= AttrFlags::ACL_ACCESS);
    });
}

#[test]
fn acl_that_cannot_be_read() {
    breaks("bad-acl", Some("/d"), |w| {
        let key = format!("@e{}", set_acls(w));
        w.raw(&[b"HSET", key.as_bytes(), ringfs_meta::ACL_DEFAULT_XATTR, b"\x02\0\0\0?"]);
    });
}

#[test]
fn no_name() {
    breaks("no-name", Some("(inode 167)"), |w| {
        assert_eq!(w.ino("empty").local(), 167);
        w.take_name(ROOT, "empty");
        w.edit(ROOT, |attr| attr.entries -= 1);
    });
}

#[test]
fn second_name_of_a_directory() {
    // Which of its names is found first depends on the scan.
    let w = World::with_tree(1, 1);
    let (d, e) = (w.ino("d"), w.ino("d/e"));
    w.put_name(ROOT, "again", e, FileKind::Directory);
    w.edit(ROOT, |attr| {
        attr.entries += 1;
        attr.nlink += 1;
    });
    let report = w.assert_only(Checks::Metadata, "second-name");
    let path = report.findings[0].path.clone().unwrap();
    assert!(path == "/again" || path == "/d/e", "{path}");
    assert_eq!(w.attr(e).parent, Some(d));
}

#[test]
fn wrong_parent() {
    breaks("wrong-parent", Some("/d/e"), |w| w.edit(w.ino("d/e"), |attr| attr.parent = Some(ROOT)));
}

#[test]
fn a_loop() {
    let w = World::with_tree(1, 1);
    let (d, e) = (w.ino("d"), w.ino("d/e"));
    w.take_name(ROOT, "d");
    w.edit(ROOT, |attr| {
        attr.entries -= 1;
        attr.nlink -= 1;
    });
    w.put_name(e, "d", d, FileKind::Directory);
    w.edit(e, |attr| {
        attr.entries += 1;
        attr.nlink += 1;
    });
    w.edit(d, |attr| attr.parent = Some(e));
    let report = w.assert_only(Checks::Metadata, "loop");
    assert_eq!(report.findings.len(), 1);
}

#[test]
fn no_root() {
    let w = World::new(1, 1);
    w.assert_clean(Checks::Metadata);
    w.forget_attr(ROOT);
    w.count("inodes", -1);
    w.assert_only(Checks::Metadata, "no-root");
}

#[test]
fn missing_inline_data() {
    breaks("missing-part", Some("/inline"), |w| {
        w.take_name(w.ino("d"), "hard");
        w.edit(w.ino("d"), |attr| attr.entries -= 1);
        let inline = w.ino("inline");
        w.edit(inline, |attr| attr.nlink -= 1);
        w.raw(&[b"DEL", format!("@i{inline}").as_bytes()]);
    });
}

#[test]
fn missing_target_of_a_link() {
    breaks("missing-part", Some("/link"), |w| {
        w.raw(&[b"DEL", format!("@i{}", w.ino("link")).as_bytes()]);
    });
}

#[test]
fn hidden_extents() {
    breaks("hidden-part", Some("/big"), |w| {
        w.edit(w.ino("big"), |attr| attr.flags = AttrFlags(0));
    });
}

#[test]
fn hidden_xattrs() {
    breaks("hidden-part", Some("/empty"), |w| {
        w.raw(&[b"HSET", format!("@e{}", w.ino("empty")).as_bytes(), b"user.a", b"b"]);
    });
}

#[test]
fn leftover_part() {
    breaks("leftover-part", Some("(inode 9000)"), |w| {
        w.raw(&[b"SET", b"@i9000", b"x"]);
    });
}

#[test]
fn bad_size() {
    breaks("bad-size", Some("/link"), |w| w.edit(w.ino("link"), |attr| attr.size += 1));
}

#[test]
fn inline_too_long() {
    breaks("inline-too-long", Some("/inline"), |w| {
        let inline = w.ino("inline");
        w.take_name(w.ino("d"), "hard");
        w.edit(w.ino("d"), |attr| attr.entries -= 1);
        w.edit(inline, |attr| attr.nlink -= 1);
        w.raw(&[b"APPEND", format!("@i{inline}").as_bytes(), b"!"]);
    });
}

#[test]
fn orphans_are_fine_if_they_are_listed() {
    let w = World::with_tree(1, 1);
    let empty = w.ino("empty");
    w.unlink("empty", Victim::Unknown);
    let report = w.assert_clean(Checks::Metadata);
    assert_eq!(report.summary.orphans, 1);
    w.raw(&[b"ZREM", b"@o", &empty.to_bytes()]);
    w.assert_only(Checks::Metadata, "unlisted-orphan");
}

#[test]
fn false_orphan() {
    breaks("false-orphan", Some("/empty"), |w| {
        w.raw(&[b"ZADD", b"@o", b"1", &w.ino("empty").to_bytes()]);
    });
}

fn extents_key(w: &World, path: &str) -> String {
    format!("@x{}", w.ino(path))
}

fn add_record(w: &World, path: &str, record: ExtentRecord) {
    let key = extents_key(w, path);
    let old = w.raw(&[b"HGET", key.as_bytes(), b"0"]).into_some_bytes().unwrap();
    w.raw(&[b"HSET", key.as_bytes(), b"0", &[&old[..], &record.pack()].concat()]);
}

#[test]
fn bad_extents() {
    breaks("bad-extents", Some("/big"), |w| {
        w.raw(&[b"HSET", extents_key(w, "big").as_bytes(), b"0", b"no records"]);
    });
}

#[test]
fn extents_out_of_their_slice() {
    breaks("bad-extents", Some("/big"), |w| {
        let slice = w.slice("big");
        add_record(
            w,
            "big",
            ExtentRecord { pos: 0, len: 20, slice, off: 10_000, slice_len: 10_000 },
        );
    });
}

#[test]
fn shared_slice() {
    breaks("shared-slice", Some("/big"), |w| {
        let slice = w.slice("big");
        add_record(w, "big2", ExtentRecord { pos: 0, len: 20, slice, off: 0, slice_len: 10_000 });
    });
}

#[test]
fn slice_of_two_lengths() {
    breaks("slice-lengths", Some("/big"), |w| {
        let slice = w.slice("big");
        add_record(w, "big", ExtentRecord { pos: 0, len: 20, slice, off: 0, slice_len: 9_000 });
    });
}

#[test]
fn data_beyond_the_size() {
    breaks("beyond-size", Some("/big"), |w| {
        w.edit(w.ino("big"), |attr| attr.size -= 1);
        w.count("bytes", -1);
    });
}

#[test]
fn hold_of_nobody() {
    breaks("hold-of-nobody", Some("/empty"), |w| {
        let member = [w.ino("empty").to_bytes(), 77u64.to_be_bytes()].concat();
        w.raw(&[b"ZADD", b"@h", b"0", &member]);
    });
}

#[test]
fn lock_of_nobody() {
    breaks("lock-of-nobody", Some("/empty"), |w| {
        let member = [77u64.to_be_bytes(), w.ino("empty").to_bytes()].concat();
        w.raw(&[b"ZADD", b"@ks", b"0", &member]);
    });
}

#[test]
fn bad_locks() {
    breaks("bad-locks", Some("/empty"), |w| {
        let key = format!("@k{}", w.ino("empty").local());
        w.raw(&[b"HSET", key.as_bytes(), b"p", b"short"]);
    });
}

#[test]
fn session_rests() {
    breaks("session-rests", None, |w| {
        w.raw(&[b"HSET", b"@g", &77u64.to_be_bytes(), &[0; 16]]);
    });
}

#[test]
fn wrong_session_count() {
    breaks("wrong-session-count", None, |w| w.count("n", 1));
}

#[test]
fn wrong_usage_is_found_and_put_right() {
    let w = World::with_tree(1, 1);
    w.count("bytes", 5);
    w.count("inodes", -2);
    w.assert_only(Checks::Metadata, "wrong-usage");
    let session = w.session();
    assert!(repair_usage(&w.subject, &Job::new()).is_err(), "not while it is in use");
    let report = w.fsck(Checks::Metadata);
    assert_eq!(report.worst(), Some(Severity::Note), "with sessions it may be in flux");
    session.end().unwrap();
    // An agent is no use of the volume.
    let place = SessionInfo::AGENT.to_owned();
    w.volume.start_session(&SessionInfo { place, ..SessionInfo::default() }).unwrap();
    let summary = w.assert_only(Checks::Metadata, "wrong-usage").summary;
    assert_eq!((summary.sessions, summary.agents), (0, 1));
    let done = repair_usage(&w.subject, &Job::new()).unwrap();
    assert_eq!(done, UsageRepaired::Done { inodes: 111, bytes: 15_126 });
    w.assert_clean(Checks::Metadata);
    assert_eq!(repair_usage(&w.subject, &Job::new()).unwrap(), UsageRepaired::NotNeeded);
}

#[test]
fn counter_behind() {
    breaks("counter-behind", None, |w| {
        let used: SliceId = w.slice("big2");
        w.raw(&[b"HSET", b"@c", b"next_slice", used.to_string().as_bytes()]);
    });
}

#[test]
fn bad_ring() {
    breaks("bad-record", None, |w| {
        w.raw(&[b"SET", b"@ring", b"no table"]);
    });
}

#[test]
fn tables_before_the_ring() {
    breaks("bad-record", None, |w| {
        w.raw(&[b"SET", b"@mv", b"{}"]);
        w.raw(&[b"SET", b"@former", b"\0\0\0\x05no"]);
    });
    // One that is whole, but not older than the ring's.
    breaks("bad-record", None, |w| {
        let table = w.raw(&[b"GET", b"@ring"]).into_some_bytes().unwrap();
        let list = [&(table.len() as u32).to_be_bytes(), &table[..]].concat();
        w.raw(&[b"SET", b"@mv", b"{}"]);
        w.raw(&[b"SET", b"@former", &list]);
    });
}

#[test]
fn overlay_and_floor_of_the_ring() {
    breaks("bad-record", None, |w| {
        w.raw(&[b"HSET", b"@m", b"over", b"no overlay"]);
    });
    breaks("bad-record", None, |w| {
        w.raw(&[b"HSET", b"@c", b"floor", b"2"]);
    });
}

#[test]
fn odd_records_of_the_ring() {
    breaks("odd-record", None, |w| {
        w.raw(&[b"SET", b"@mv", b"no json"]);
    });
    breaks("odd-record", None, |w| {
        w.raw(&[b"HSET", b"@m", b"nstranger", b"{\"state\":\"up\"}"]);
    });
    breaks("odd-record", None, |w| {
        w.raw(&[b"HSET", b"@m", b"nn1", b"no json"]);
    });
    breaks("odd-record", None, |w| {
        w.raw(&[b"HSET", b"@m", b"lease", b"?"]);
    });
    breaks("odd-record", None, |w| {
        w.raw(&[b"HSET", b"@lost", b"?", b"?"]);
    });
}

#[test]
fn note_of_nobody() {
    breaks("note-of-nobody", None, |w| {
        w.volume.note_lost(w.ino("empty"), "a test").unwrap();
        w.unlink("/empty", Victim::NotOpen(w.ino("empty")));
    });
}

#[test]
fn what_is_kept_of_a_ring_that_changes_is_in_order() {
    let w = World::with_tree(3, 2);
    let table = w.raw(&[b"GET", b"@ring"]).into_some_bytes().unwrap();
    let now = ringfs_ring::Table::decode(&table).unwrap();
    // The same table once more: nothing moves, and everything is kept as if it did.
    let next = ringfs_ring::plan(Some(&now), now.members(), 2, now.arcs()).unwrap();
    let change = ringfs_meta::RingChange {
        expected: now.epoch(),
        table: &next.encode(),
        nodes: &w.volume.config().nodes,
        replicas: None,
        moving: Some("{\"what\":[\"a test\"]}"),
        former_max: 4,
        token: None,
        while_moving: false,
    };
    w.volume.change_ring(&change).unwrap();
    w.raw(&[b"HSET", b"@m", b"nn0", b"{\"state\":\"up\"}"]);
    w.volume.note_lost(w.ino("big"), "a test").unwrap();
    w.volume.set_worker("scrub.at", Some("{}")).unwrap();
    let report = w.assert_clean(Checks::Metadata);
    assert!(report.summary.moving);
}

#[test]
fn a_key_of_another_type() {
    breaks("bad-record", None, |w| {
        w.raw(&[b"SET", format!("@d{}:0", w.ino("d/e")).as_bytes(), b"?"]);
    });
}

#[test]
fn unknown_key() {
    breaks("unknown-key", None, |w| {
        w.raw(&[b"SET", b"@zzz", b"?"]);
    });
}

#[test]
fn a_live_volume_under_change_has_no_false_findings() {
    let w = World::with_tree(1, 1);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let s = w.session();
            let mut round = 0u32;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let name = format!("new{}", round % 300);
                let ino = world::make(&s, ROOT, &name, FileKind::File);
                if round % 300 >= 200 || round.is_multiple_of(3) {
                    s.unlink(ROOT, name.as_bytes(), Victim::NotOpen(ino), world::NOW).unwrap();
                } else if let Ok(old) =
                    s.lookup(ROOT, format!("new{}", (round + 7) % 300).as_bytes())
                {
                    let (name, ino) = (format!("new{}", (round + 7) % 300), old.attr.ino);
                    s.unlink(ROOT, name.as_bytes(), Victim::NotOpen(ino), world::NOW).unwrap();
                }
                if s.lookup(ROOT, format!("new{}", (round + 1) % 300).as_bytes()).is_ok() {
                    let name = format!("new{}", (round + 1) % 300);
                    s.unlink(ROOT, name.as_bytes(), Victim::Unknown, world::NOW).unwrap();
                }
                round += 1;
            }
            s.end().unwrap();
        });
        let end = world::EndOnDrop(&done);
        for _ in 0..10 {
            let report = w.fsck(Checks::Metadata);
            let bad: Vec<&str> = report
                .findings
                .iter()
                .filter(|f| f.severity < Severity::Note)
                .map(|f| f.text.as_str())
                .collect();
            assert!(bad.is_empty(), "{bad:#?}");
        }
        drop(end);
        writer.join().unwrap();
    });
    w.assert_clean(Checks::Metadata);
}
