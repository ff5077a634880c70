//! The background workers: scrub, collection of garbage, compaction, and looking for lost blocks.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod world;

use ringfs_base::InodeId;
use ringfs_cluster::mover::Mover;
use ringfs_cluster::workers::{self, Site, Worker, WorkerState, WorkerWish, Workers};
use ringfs_cluster::{
    Checks, ClusterError, Collector, Compactor, Job, Membership, Recheck, Ring, Scrub,
    compact_record, gc_record, paths_of, recheck, scrub_record,
};
use ringfs_link::{Endpoint, Timeouts};
use ringfs_meta::{CommitData, ExtentRecord, FileKind, Session, Token, Victim, resolve};
use ringfs_store::StoreConfig;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use world::{BLOCK_BYTES, ROOT, World, commit, make};

const TIMEOUTS: Timeouts =
    Timeouts { connect: Duration::from_secs(10), reply: Duration::from_secs(10) };

fn site(w: &World) -> Site {
    let ring = Ring::read(&w.volume).unwrap();
    let addresses = Box::new(|record: &ringfs_meta::NodeRecord| {
        Endpoint::parse(&record.url).map_err(|e| e.to_string())
    });
    let config = StoreConfig { timeouts: TIMEOUTS, ..StoreConfig::default() };
    let membership = Membership::new(w.volume.clone(), ring, config, addresses).unwrap();
    let meta = w.meta.endpoint();
    Site { membership: Arc::new(membership), meta, timeouts: TIMEOUTS, token: Token(1) }
}

/// Asks a worker for its work.
fn ask(w: &World, worker: &str) {
    let wish = workers::wish(&w.volume, worker).unwrap();
    let asked = wish.asked + 1;
    workers::set_wish(&w.volume, worker, WorkerWish { asked, ..wish }).unwrap();
}

#[test]
fn the_scrub_rebuilds_bad_and_missing_copies_and_rests_until_the_next_pass() {
    let w = World::with_tree(3, 2);
    let (bad, missing) = (w.block("big", 0), w.block("big", 1));
    w.flip(w.owners(bad)[1], bad, 3);
    w.drop_copy(w.owners(missing)[0], missing);
    let site = site(&w);
    // A volume's first pass is not at once either.
    let half = Duration::from_secs(7 * 24 * 3600 / 2);
    assert_eq!(Scrub.run(&site, &Job::new()).unwrap(), half);
    ask(&w, "scrub");
    let rest = Scrub.run(&site, &Job::new()).unwrap();
    assert!(rest > Duration::from_secs(3 * 24 * 3600) && rest < Duration::from_secs(4 * 24 * 3600));
    let record = scrub_record(&w.volume).unwrap();
    assert!(record.passes == 1 && !record.under_way && record.ended > 0, "{record:?}");
    let found = record.last;
    assert_eq!((found.blocks, found.copies), (8, 15), "one of 16 copies was missing");
    assert_eq!((found.bad, found.missing, found.rebuilt, found.lost), (1, 1, 2, 0));
    w.assert_clean(Checks::Deep);
    // Not before its time, unless somebody asks for it.
    let rest = Scrub.run(&site, &Job::new()).unwrap();
    assert!(rest > Duration::from_secs(3 * 24 * 3600));
    assert_eq!(scrub_record(&w.volume).unwrap().passes, 1);
    ask(&w, "scrub");
    Scrub.run(&site, &Job::new()).unwrap();
    let record = scrub_record(&w.volume).unwrap();
    assert_eq!((record.passes, record.last.bad, record.last.missing), (2, 0, 0));
}

#[test]
fn another_process_goes_on_where_a_scrub_was_stopped() {
    let w = World::new(2, 2);
    let session = w.session();
    for i in 0..3 {
        w.write_file(&session, ROOT, &format!("f{i}"), 200 * BLOCK_BYTES);
    }
    session.end().unwrap();
    ask(&w, "scrub");
    let job = Arc::new(std::sync::OnceLock::<std::sync::Weak<Job>>::new());
    let heard = job.clone();
    let stopping = Arc::new(Job::new().on_progress(move |progress| {
        if progress.what == "reading every copy" && progress.done > 250 {
            heard.get().and_then(std::sync::Weak::upgrade).unwrap().stop();
        }
    }));
    job.set(Arc::downgrade(&stopping)).unwrap();
    let stopped = Scrub.run(&site(&w), &stopping);
    assert!(matches!(stopped, Err(ClusterError::Stopped)), "{stopped:?}");
    let half = scrub_record(&w.volume).unwrap();
    assert!(half.under_way && half.next_slice > 0 && half.now.blocks < 600, "{half:?}");
    Scrub.run(&site(&w), &Job::new()).unwrap();
    let record = scrub_record(&w.volume).unwrap();
    assert_eq!((record.passes, record.began), (1, half.began), "it is the same pass");
    // A slice that was done in part is read again.
    let blocks = record.last.blocks;
    assert!((600..800).contains(&blocks) && blocks > half.now.blocks, "{blocks}");
}

#[test]
fn lost_blocks_are_noted_with_their_file_until_they_are_found_again() {
    let mut w = World::with_tree(3, 2);
    let (ino, block) = (w.ino("big"), w.block("big", 1));
    let frame = w.frame(w.owners(block)[0], block);
    w.owners(block).into_iter().for_each(|node| w.drop_copy(node, block));
    let site = site(&w);
    ask(&w, "scrub");
    Scrub.run(&site, &Job::new()).unwrap();
    let record = scrub_record(&w.volume).unwrap();
    assert_eq!((record.last.lost, record.last.rebuilt), (1, 0));
    let lost = w.volume.lost().unwrap();
    assert_eq!((lost.len(), lost[0].ino), (1, ino));
    assert!(lost[0].why.contains(&block.to_string()), "{}", lost[0].why);
    let wanted = HashSet::from([ino, w.ino("d/hard"), InodeId(u64::MAX >> 16)]);
    let paths = paths_of(&w.volume, &wanted, Duration::from_secs(20)).unwrap();
    assert_eq!((paths.len(), paths[&ino].as_str()), (2, "/big"));
    // It is looked for in vain; then it turns up, on a node that does not even own it.
    Recheck.run(&site, &Job::new()).unwrap();
    assert_eq!(w.volume.lost().unwrap(), lost);
    let stranger = (0..3).find(|node| !w.is_owner(block, *node)).unwrap();
    w.put_copy(stranger, block, &frame);
    assert_eq!(recheck(&w.volume, site.membership.store(), &Job::new()).unwrap(), 1);
    assert!(w.volume.lost().unwrap().is_empty());
    assert!(w.owners(block).iter().all(|node| w.has_copy(*node, block)), "its owners have it");
    // A node that is merely down loses nothing; a file that is gone misses nothing.
    w.volume.note_lost(ino, "as a reader may say").unwrap();
    let owners = w.owners(block);
    owners.iter().for_each(|node| w.nodes[*node].kill9());
    w.drop_copy(stranger, block);
    ask(&w, "scrub");
    Scrub.run(&site, &Job::new()).unwrap();
    let record = scrub_record(&w.volume).unwrap().last;
    assert!(record.lost == 0 && record.unreached > 0, "{record:?}");
    assert_eq!(recheck(&w.volume, site.membership.store(), &Job::new()).unwrap(), 0);
    let session = w.session();
    session.unlink(ROOT, b"big", Victim::NotOpen(ino), world::NOW).unwrap();
    session.end().unwrap();
    assert_eq!(recheck(&w.volume, site.membership.store(), &Job::new()).unwrap(), 1);
}

#[test]
fn garbage_is_collected_every_so_often_and_when_asked_for() {
    let w = World::with_tree(2, 2);
    let garbage = || {
        let session = w.session();
        w.write_slice(&session, 2 * BLOCK_BYTES);
        session.end().unwrap();
    };
    garbage();
    let site = site(&w);
    let worker = Collector::default();
    ask(&w, "gc");
    assert_eq!(worker.run(&site, &Job::new()).unwrap(), Duration::from_secs(3600));
    let record = gc_record(&w.volume).unwrap();
    assert_eq!((record.runs, record.removed_blocks, record.nodes_failed), (1, 4, 0));
    assert!(record.removed_bytes > 0);
    w.assert_clean(Checks::Deep);
    garbage();
    // A process that has just begun to coordinate waits for the time of it.
    let successor = Collector::default();
    let rest = successor.run(&site, &Job::new()).unwrap();
    assert!(rest > Duration::from_secs(3500), "{rest:?}");
    assert_eq!(gc_record(&w.volume).unwrap().runs, 1);
    ask(&w, "gc");
    Collector::default().run(&site, &Job::new()).unwrap();
    // Woken, it does not wait either.
    successor.run(&site, &Job::new()).unwrap();
    let record = gc_record(&w.volume).unwrap();
    assert_eq!((record.runs, record.removed_blocks, record.removed_blocks_ever), (3, 0, 8));
    w.assert_clean(Checks::Deep);
}

#[test]
fn copies_that_stand_ins_kept_go_when_garbage_is_collected() {
    let w = World::with_tree(3, 2);
    let block = w.block("big", 0);
    let other = (0..3).find(|node| !w.is_owner(block, *node)).unwrap();
    w.put_copy(other, block, &w.frame(w.owners(block)[0], block));
    w.assert_only(Checks::Data, "surplus-copies");
    let (site, mover) = (site(&w), Mover::default());
    mover.run(&site, &Job::new()).unwrap();
    assert!(w.has_copy(other, block), "nobody knows of it");
    ask(&w, "gc");
    Collector::default().run(&site, &Job::new()).unwrap();
    assert!(w.has_copy(other, block), "the owners have not been asked");
    mover.run(&site, &Job::new()).unwrap();
    assert!(!w.has_copy(other, block));
    w.assert_clean(Checks::Deep);
}

/// The bytes of a file's first chunk.
fn bytes_of(w: &World, s: &Session, ino: InodeId, len: u32) -> Vec<u8> {
    let records = s.extents(ino, &[0]).unwrap().chunks.remove(0);
    let mut out = Vec::new();
    for piece in resolve(&records, 0..len) {
        for at in 0..piece.len {
            let ringfs_meta::Source::Slice { slice, off, slice_len } = piece.source else {
                out.push(0);
                continue;
            };
            let (index, within) = ((off + at) / BLOCK_BYTES, (off + at) % BLOCK_BYTES);
            let raw_len = BLOCK_BYTES.min(slice_len - index * BLOCK_BYTES);
            let mut byte = [0];
            let id = ringfs_base::BlockId { slice, index };
            w.store.as_ref().unwrap().read(id, raw_len, within, &mut byte).unwrap();
            out.push(byte[0]);
        }
    }
    out
}

#[test]
fn long_lists_of_records_are_shortened_and_the_bytes_stay() {
    let w = World::new(2, 2);
    let session = w.session();
    let (ino, hidden) =
        (make(&session, ROOT, "f", FileKind::File), make(&session, ROOT, "g", FileKind::File));
    let write = |ino, pos, len| {
        let slice = w.write_slice(&session, len);
        let record = ExtentRecord { pos, len, slice, off: 0, slice_len: len };
        commit(&session, ino, CommitData::Extents(&[(0, &[record])]));
    };
    // Pieces side by side with a gap after each ten, and the same place again and again.
    for i in 0..150 {
        write(ino, i * 100 + i / 10 * 50, 100);
        write(hidden, i % 3 * 10, 5_000);
    }
    let (len, g_len) = (150 * 100 + 14 * 50, 5_020);
    let before = (bytes_of(&w, &session, ino, len), bytes_of(&w, &session, hidden, g_len));
    let site = site(&w);
    ask(&w, "compact");
    assert_eq!(Compactor.run(&site, &Job::new()).unwrap(), Duration::from_secs(6 * 3600));
    let record = compact_record(&w.volume).unwrap();
    assert_eq!((record.chunks, record.records_before, record.left), (2, 300, 0), "{record:?}");
    assert_eq!(record.bytes, 15_000, "hidden records are left out without copying");
    let records = |ino| session.extents(ino, &[0]).unwrap().chunks.remove(0);
    assert_eq!((records(ino).len(), records(hidden).len()), (15, 3));
    let after = (bytes_of(&w, &session, ino, len), bytes_of(&w, &session, hidden, g_len));
    assert!(before == after);
    session.end().unwrap();
    w.assert_clean(Checks::Deep);
    // Nothing more to do, nor is it time.
    assert!(Compactor.run(&site, &Job::new()).unwrap() > Duration::from_secs(6 * 3600 - 100));
    assert_eq!(compact_record(&w.volume).unwrap().runs, 1);
}

#[test]
fn a_chunk_whose_blocks_cannot_be_had_holds_up_no_other() {
    let w = World::new(2, 1);
    let session = w.session();
    let inos = ["a", "b"].map(|name| make(&session, ROOT, name, FileKind::File));
    let mut first = None;
    for (file, ino) in inos.iter().enumerate() {
        for i in 0..120 {
            let slice = w.write_slice(&session, 10);
            if file == 0 {
                first.get_or_insert(slice);
            }
            let record = ExtentRecord { pos: i * 20, len: 10, slice, off: 0, slice_len: 10 };
            commit(&session, *ino, CommitData::Extents(&[(0, &[record])]));
        }
    }
    let block = ringfs_base::BlockId { slice: first.unwrap(), index: 0 };
    w.owners(block).into_iter().for_each(|node| w.drop_copy(node, block));
    session.end().unwrap();
    ask(&w, "compact");
    Compactor.run(&site(&w), &Job::new()).unwrap();
    let record = compact_record(&w.volume).unwrap();
    assert_eq!((record.chunks, record.left), (1, 1), "{record:?}");
    // What was begun for it belongs to nobody; collection finds it.
    ask(&w, "gc");
    Collector::default().run(&site(&w), &Job::new()).unwrap();
    w.assert_only(Checks::Deep, "lost-blocks");
}

#[test]
fn all_workers_show_themselves_pause_and_do_at_once_what_they_are_asked_for() {
    let w = World::with_tree(2, 2);
    let paused = WorkerWish { paused: true, ..WorkerWish::default() };
    workers::set_wish(&w.volume, "scrub", paused).unwrap();
    let _workers = Workers::start(Arc::new(site(&w)), workers::standard());
    let eventually = |what: &str, done: &dyn Fn() -> bool| {
        let limit = Instant::now() + Duration::from_secs(30);
        while !done() {
            assert!(Instant::now() < limit, "{what}: {:#?}", w.volume.workers());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let state = |name: &str| workers::statuses(&w.volume).unwrap().get(name).map(|s| s.state);
    eventually("all are there", &|| {
        ["compact", "gc", "recheck"].iter().all(|name| state(name) == Some(WorkerState::Idle))
            && state("scrub") == Some(WorkerState::Paused)
    });
    let names: Vec<String> = workers::statuses(&w.volume).unwrap().into_keys().collect();
    assert_eq!(
        names,
        ["compact", "gc", "move", "recheck", "scrub"],
        "records of their own are no workers"
    );
    workers::set_wish(&w.volume, "scrub", WorkerWish::default()).unwrap();
    for worker in ["scrub", "gc", "compact"] {
        ask(&w, worker);
    }
    eventually("they do it", &|| {
        scrub_record(&w.volume).unwrap().passes > 0
            && gc_record(&w.volume).unwrap().runs > 0
            && compact_record(&w.volume).unwrap().runs > 0
    });
}
