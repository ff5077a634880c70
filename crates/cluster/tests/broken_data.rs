//! One test for each invariant of the data, and how repair and collection put it right.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod world;

use ringfs_base::SliceId;
use ringfs_cluster::repair::{Pass, Position};
use ringfs_cluster::{
    Checks, ClusterError, GcOptions, Job, RepairOptions, RepairReport, gc, repair, status,
};
use ringfs_meta::{CommitData, ExtentRecord, FileKind, Victim};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use world::{ROOT, World};

const DELETE: GcOptions = GcOptions { delete: true, lease: None };
const COUNT: GcOptions = GcOptions { delete: false, lease: None };

fn mend(world: &World, deep: bool) -> RepairReport {
    let options = RepairOptions { deep, ..RepairOptions::default() };
    repair(&world.subject, &options, &Job::new()).unwrap()
}

#[test]
fn missing_copies_are_found_and_repaired() {
    let w = World::with_tree(3, 2);
    let block = w.block("big", 1);
    w.drop_copy(w.owners(block)[0], block);
    let report = w.assert_only(Checks::Data, "missing-copies");
    assert_eq!(report.findings[0].path.as_deref(), Some("/big"));
    let done = mend(&w, false);
    assert_eq!((done.degraded, done.copies_written, done.is_whole()), (1, 1, true));
    w.assert_clean(Checks::Deep);
    let again = mend(&w, false);
    assert_eq!((again.blocks, again.degraded, again.copies_written), (8, 0, 0));
}

#[test]
fn a_flipped_bit_is_found_by_reading_and_healed() {
    let w = World::with_tree(2, 2);
    let block = w.block("big", 0);
    w.flip(w.owners(block)[1], block, 3);
    w.assert_clean(Checks::Data);
    let report = w.assert_only(Checks::Deep, "bad-copies");
    assert_eq!(report.findings[0].path.as_deref(), Some("/big"));
    assert_eq!(mend(&w, false).copies_written, 0, "headers are fine");
    assert_eq!(mend(&w, true).copies_written, 1);
    w.assert_clean(Checks::Deep);
}

#[test]
fn a_bad_header_is_found_without_reading() {
    let w = World::with_tree(2, 2);
    let block = w.block("big2", 0);
    let frame = w.frame(0, block);
    w.flip(0, block, frame.len() - 1);
    w.assert_only(Checks::Data, "bad-copies");
    mend(&w, false);
    w.assert_clean(Checks::Deep);
}

#[test]
fn lost_blocks_are_named_with_their_path() {
    let w = World::with_tree(3, 2);
    let block = w.block("big", 2);
    for node in w.owners(block) {
        w.drop_copy(node, block);
    }
    let report = w.assert_only(Checks::Data, "lost-blocks");
    assert_eq!(report.findings[0].path.as_deref(), Some("/big"));
    let done = mend(&w, false);
    assert_eq!((done.lost, done.lost_blocks), (1, vec![block.to_string()]));
}

#[test]
fn a_copy_that_only_a_stand_in_has_is_no_loss() {
    let w = World::with_tree(3, 2);
    let block = w.block("big", 2);
    let frame = w.frame(w.owners(block)[0], block);
    for node in w.owners(block) {
        w.drop_copy(node, block);
    }
    let stand_in = (0..3).find(|node| !w.is_owner(block, *node)).unwrap();
    w.put_copy(stand_in, block, &frame);
    w.assert_only(Checks::Data, "missing-copies");
    let done = mend(&w, false);
    assert_eq!((done.copies_written, done.surplus_removed, done.is_whole()), (2, 1, true));
    w.assert_clean(Checks::Deep);
}

#[test]
fn surplus_copies_are_found_and_removed() {
    let w = World::with_tree(3, 2);
    let block = w.block("big", 0);
    let other = (0..3).find(|node| !w.is_owner(block, *node)).unwrap();
    w.put_copy(other, block, &w.frame(w.owners(block)[0], block));
    w.assert_only(Checks::Data, "surplus-copies");
    assert_eq!(mend(&w, false).surplus_removed, 1);
    assert!(!w.has_copy(other, block));
    w.assert_clean(Checks::Data);
}

#[test]
fn nodes_out_of_reach_are_told_once_and_blocks_only_there_too() {
    let mut w = World::with_tree(2, 1);
    let block = w.block("big", 0);
    let owner = w.owners(block)[0];
    w.nodes[owner].kill9();
    let report = w.fsck(Checks::Data);
    let kinds: Vec<_> = report.counts.keys().copied().collect();
    assert_eq!(kinds, ["blocks-out-of-reach", "node-unreachable"]);
    assert_eq!(report.counts["node-unreachable"], 1);
    let done = mend(&w, false);
    assert!(done.out_of_reach == 0 && done.owners_unreachable > 0 && !done.is_whole());
}

#[test]
fn a_node_that_comes_back_old_or_empty_is_refilled() {
    for empty in [false, true] {
        let mut w = World::with_tree(3, 2);
        w.nodes[1].kill9();
        let session = w.session();
        w.write_file(&session, ROOT, "while-down", 40_000);
        session.end().unwrap();
        assert_eq!(w.kinds(Checks::Metadata), [""; 0]);
        // The writer's own store would bring the copies home by itself.
        w.store = None;
        if empty {
            w.nodes[1].restart_empty();
        } else {
            w.nodes[1].restart();
        }
        let found = w.fsck(Checks::Data);
        assert!(found.counts["missing-copies"] > 0, "{:?}", found.findings);
        let files: Vec<&str> = found.findings.iter().filter_map(|f| f.path.as_deref()).collect();
        assert!(files.contains(&"/while-down"), "{files:?}");
        assert_eq!(files.contains(&"/big"), empty, "{files:?}");
        assert_eq!(found.counts.len(), 1, "{:?}", found.findings);
        assert!(mend(&w, false).is_whole());
        w.assert_clean(Checks::Deep);
    }
}

#[test]
fn a_killed_writer_leaves_garbage_only() {
    let w = World::with_tree(2, 2);
    let session = w.session();
    let slice = w.write_slice(&session, 10_000);
    // It never commits, never ends: a process that was killed.
    drop(session);
    w.assert_clean(Checks::Data);
    let held_back = gc(&w.subject, &DELETE, &Job::new()).unwrap();
    assert_eq!(held_back.removed_blocks(), 0, "it might still be alive");
    assert!(held_back.nodes.iter().all(|node| node.in_flight_blocks == 3));

    let lease = Some(Duration::ZERO);
    wait_for_a_second_of(&w);
    let counted = gc(&w.subject, &GcOptions { delete: true, lease }, &Job::new()).unwrap();
    assert_eq!((counted.sessions_reaped, counted.removed_blocks()), (1, 6));
    assert!(!w.has_copy(0, ringfs_base::BlockId { slice, index: 0 }));
    w.assert_clean(Checks::Deep);
}

/// Until the metadata server's clock, in whole seconds, has gone on: a lease of zero ends then.
fn wait_for_a_second_of(w: &World) {
    let now = || w.raw(&[b"TIME"]).into_array().unwrap().remove(0).into_int().unwrap();
    let begin = now();
    while now() == begin {
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn garbage_is_counted_by_node_and_removed() {
    let w = World::with_tree(3, 2);
    let session = w.session();
    let slice = w.write_slice(&session, 9_000);
    session.end().unwrap();
    let report = w.assert_only(Checks::Data, "garbage-blocks");
    let garbage: u64 = gc(&w.subject, &COUNT, &Job::new()).unwrap().garbage_blocks();
    assert_eq!(garbage, 6);
    assert!(report.counts["garbage-blocks"] >= 1);
    let first = gc(&w.subject, &COUNT, &Job::new()).unwrap();
    assert!(first.garbage_bytes() > 0 && first.removed_blocks() == 0, "counting removes nothing");
    let done = gc(&w.subject, &DELETE, &Job::new()).unwrap();
    assert_eq!((done.removed_blocks(), done.garbage_bytes()), (6, first.garbage_bytes()));
    assert_eq!(
        w.subject.store().check_many(
            &[ringfs_base::BlockId { slice, index: 0 }],
            ringfs_store::Depth::Header,
            ringfs_store::Scope::Everywhere,
        )[0]
        .iter()
        .filter(|c| c.state == ringfs_store::CopyState::Missing)
        .count(),
        3
    );
    w.assert_clean(Checks::Deep);
    serde_json::to_string(&done).unwrap();
}

#[test]
fn orphans_that_a_dead_session_had_open_are_removed_with_their_blocks() {
    let w = World::with_tree(2, 2);
    let block = w.block("big", 0);
    let ino = w.ino("big");
    let session = w.session();
    session.unlink(ROOT, b"big", Victim::Open(ino), world::NOW).unwrap();
    let held = gc(&w.subject, &DELETE, &Job::new()).unwrap();
    assert_eq!((held.orphans, held.orphans_held), (0, 1));
    assert!(w.has_copy(0, block), "it is open");
    drop(session);
    wait_for_a_second_of(&w);
    let options = GcOptions { delete: true, lease: Some(Duration::ZERO) };
    let done = gc(&w.subject, &options, &Job::new()).unwrap();
    assert_eq!((done.sessions_reaped, done.orphans, done.orphans_held), (1, 1, 0));
    assert!(!w.has_copy(0, block) && !w.has_copy(1, block));
    w.assert_clean(Checks::Deep);
}

#[test]
fn unreadable_extents_stop_the_collection() {
    let w = World::with_tree(1, 1);
    let key = format!("@x{}", w.ino("big"));
    w.raw(&[b"HSET", key.as_bytes(), b"0", b"junk"]);
    let refused = gc(&w.subject, &DELETE, &Job::new()).unwrap_err();
    assert!(matches!(refused, ClusterError::Unsure(_)), "{refused}");
    assert!(refused.to_string().contains("ringfs fsck"));
}

#[test]
fn writers_lose_nothing_while_garbage_is_collected() {
    let w = World::with_tree(2, 2);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2)
            .map(|writer| {
                let (w, done) = (&w, &done);
                scope.spawn(move || {
                    let s = w.session();
                    let mut round = 0;
                    while !done.load(Ordering::Relaxed) {
                        let name = format!("w{writer}-{round}");
                        let ino = world::make(&s, ROOT, &name, FileKind::File);
                        // Several slices under way at once, committed in another order.
                        let slices: Vec<SliceId> =
                            (0..3).map(|_| w.write_slice(&s, 5_000)).collect();
                        // One that is given up now and then.
                        for slice in slices.iter().rev().skip(usize::from(round % 5 == 0)) {
                            let record = ExtentRecord {
                                pos: 0,
                                len: 5_000,
                                slice: *slice,
                                off: 0,
                                slice_len: 5_000,
                            };
                            world::commit(&s, ino, CommitData::Extents(&[(0, &[record])]));
                        }
                        if round % 4 == 0 {
                            let oldest = Some(s.next_slice().unwrap());
                            let beat = ringfs_meta::Beat {
                                holds: &[],
                                oldest_slice: oldest,
                                epoch: s.epoch(),
                            };
                            s.heartbeat(&beat).unwrap();
                        }
                        round += 1;
                    }
                    s.end().unwrap();
                })
            })
            .collect();
        let end = world::EndOnDrop(&done);
        for _ in 0..8 {
            gc(&w.subject, &DELETE, &Job::new()).unwrap();
        }
        drop(end);
        for writer in writers {
            writer.join().unwrap();
        }
    });
    let report = w.fsck(Checks::Deep);
    let worst: Vec<_> = report.counts.keys().filter(|kind| **kind != "garbage-blocks").collect();
    assert!(worst.is_empty(), "{:?}", report.findings);
    gc(&w.subject, &DELETE, &Job::new()).unwrap();
    w.assert_clean(Checks::Deep);
}

#[test]
fn a_stopped_collection_can_be_started_again() {
    let w = World::with_tree(1, 1);
    let session = w.session();
    w.write_slice(&session, 400_000);
    session.end().unwrap();
    let job = Job::new().limit(1);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| gc(&w.subject, &DELETE, &job));
        while job.progress().what != "removing garbage" {
            std::thread::yield_now();
        }
        job.stop();
        // It may have been done just before.
        match running.join().unwrap() {
            Err(ClusterError::Stopped) | Ok(_) => {}
            Err(e) => panic!("{e}"),
        }
    });
    gc(&w.subject, &DELETE, &Job::new()).unwrap();
    w.assert_clean(Checks::Deep);
}

#[test]
fn a_stopped_repair_says_where_and_goes_on_from_there() {
    let mut w = World::with_tree(2, 2);
    w.nodes[1].restart_empty();
    // One copy and the throttle holds up the next: stopped in the middle.
    let job = Job::new().limit(1);
    let options = RepairOptions { threads: 1, ..RepairOptions::default() };
    let stopped = std::thread::scope(|scope| {
        let running = scope.spawn(|| repair(&w.subject, &options, &job).unwrap());
        while w.nodes[1].command(&["DBSIZE"]).into_int().unwrap() == 0 {
            std::thread::yield_now();
        }
        job.stop();
        running.join().unwrap()
    });
    let position = stopped.stopped_at.expect("it was stopped");
    assert_eq!(position.pass, Pass::Endangered);
    assert!(stopped.copies_written < 8 && !stopped.is_whole());
    let text = serde_json::to_string(&position).unwrap();
    let resume: Position = serde_json::from_str(&text).unwrap();
    let options = RepairOptions { resume: Some(resume), ..RepairOptions::default() };
    let rest = repair(&w.subject, &options, &Job::new()).unwrap();
    assert!(rest.is_whole());
    assert_eq!(stopped.copies_written + rest.copies_written, 8);
    w.assert_clean(Checks::Deep);
}

#[test]
fn blocks_with_one_copy_left_are_mended_before_others() {
    let w = World::with_tree(3, 3);
    let (first, last) = (w.block("big", 0), w.block("big2", 1));
    assert!(first < last, "the endangered one comes later in order");
    w.drop_copy(0, first);
    w.drop_copy(0, last);
    w.drop_copy(1, last);
    let done = mend(&w, false);
    assert_eq!((done.degraded, done.copies_written), (2, 3));
    w.assert_clean(Checks::Deep);
}

#[test]
fn status_tells_who_is_up() {
    let mut w = World::with_tree(3, 2);
    w.nodes[2].kill9();
    let session = w.session();
    let told = status(&w.subject).unwrap();
    assert_eq!((told.epoch, told.replicas, told.inodes, told.bytes), (1, 2, 111, 15_126));
    assert_eq!((told.sessions.len(), told.orphans), (1, 0));
    assert!(told.is_degraded());
    let states: Vec<String> = told.nodes.iter().map(|n| format!("{:?}", n.state)).collect();
    assert_eq!(states, ["Up", "Up", "Down"]);
    assert!(told.nodes[2].cause.is_some() && told.nodes[2].version.is_none());
    let shares: f64 = told.nodes.iter().filter_map(|node| node.copies_share).sum();
    assert!((shares - 1.0).abs() < 1e-9, "{shares}");
    assert!(
        told.nodes[0]
            .version
            .as_deref()
            .is_some_and(|v| v.contains("redis") || v.contains("valkey"))
    );
    assert!(told.nodes[0].latency_us.is_some() && told.nodes[0].uptime_seconds.is_some());
    serde_json::to_string(&told).unwrap();
    session.end().unwrap();
}
