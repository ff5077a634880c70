//! What is left over when a write's outcome is unknown, or it fails.

#![allow(clippy::unwrap_used, reason = "what fails ends the test")]

mod ring;

use ring::{Fixed, Ring, create, quick, read};
use ringfs_base::limits::BLOCK_BYTES;
use ringfs_base::{Epoch, Errno, InodeId, SliceId};
use ringfs_link::{Endpoint, Timeouts};
use ringfs_meta::{Session, Volume};
use ringfs_store::{NodeIndex, Store};
use ringfs_testkit::{Direction, Proxy};
use ringfs_vfs::{Placements, Vfs, VfsConfig, VfsError, WriteMode};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const APPEND: WriteMode = WriteMode { append: true, kill_suid: false, privileged: false };

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < limit, "{what}");
        std::thread::yield_now();
    }
}

/// Slices of which node 0 has blocks.
fn stored(vfs: &Vfs) -> BTreeSet<SliceId> {
    let (mut found, mut cursor) = (BTreeSet::new(), 0);
    loop {
        let (next, blocks) = vfs.store().list(NodeIndex(0), cursor).unwrap();
        found.extend(blocks.iter().map(|block| block.slice));
        if next == 0 {
            return found;
        }
        cursor = next;
    }
}

#[test]
fn an_append_whose_outcome_was_unknown_is_there_once() {
    let ring = Ring::start(2);
    for (data, tries) in [(vec![b'x'; 5], 3), (vec![b'y'; 20_000], 2)] {
        for _ in 0..tries {
            let proxy = Proxy::start(ring.meta.address());
            let name = ring.volume.config().name.clone();
            let short = Duration::from_millis(200);
            let timeouts = Timeouts { connect: short, reply: short };
            let endpoint = Endpoint::parse(&proxy.url()).unwrap();
            let volume = Volume::open_with_patience(&endpoint, timeouts, &name, short).unwrap();
            let config = VfsConfig { heartbeat: Duration::from_secs(3600), ..quick() };
            let (vfs, _) = ring.mount_with(&volume, Box::new(Fixed), config);
            let ino = create(&vfs, "f");
            vfs.write(ino, 0, b"0", APPEND).unwrap();
            vfs.close(ino, 0).unwrap();

            let before = ring.meta.commandstats()["evalsha"];
            proxy.block(Direction::ToClient);
            vfs.write(ino, 0, &data, APPEND).unwrap();
            until("the commit arrives", || ring.meta.commandstats()["evalsha"] > before);
            // What is known of the file is dropped when write-back gives up for now.
            until("write-back does not hear of it", || vfs.getattr(ino).is_err());
            proxy.cut();
            proxy.restore();
            until("write-back goes on", || vfs.memory_bytes().0 == 0);
            vfs.fsync(ino, 0).unwrap();
            let found = read(&vfs, ino, 0, 100_000);
            assert!(found == [b"0", &data[..]].concat(), "{} bytes", found.len());
            assert_eq!(vfs.getattr(ino).unwrap().attr.size, 1 + data.len() as u64);
            vfs.release(ino);
            vfs.unlink(InodeId::ROOT, b"f").unwrap();
            vfs.stop().unwrap();
        }
    }
}

#[test]
fn garbage_of_a_live_mount_is_told_from_what_it_is_writing() {
    let ring = Ring::start(1);
    let slow = VfsConfig { write_back_age: Duration::from_secs(3600), ..quick() };
    let (a, b) = (ring.mount(slow).0, ring.mount(quick()).0);
    let data = vec![7; BLOCK_BYTES as usize + 10];
    let lost = create(&a, "lost");
    a.write(lost, 0, &data, WriteMode::default()).unwrap();
    until("the first block leaves", || stored(&a).len() == 1);
    let garbage = *stored(&a).first().unwrap();
    let in_flight = |slice| ring.volume.slices_in_flight().unwrap().may_be_written(slice);
    assert!(in_flight(garbage));
    // The file goes; its commit fails and the block stays behind.
    a.release(lost);
    b.lookup(InodeId::ROOT, b"lost").map_err(|e| e.0).unwrap();
    b.unlink(InodeId::ROOT, b"lost").unwrap();
    until("the file is gone", || ring.volume.getattr(lost).is_err());
    assert_eq!(a.close(lost, 0).unwrap_err().errno(), Errno::ESTALE);

    let written = create(&a, "written");
    a.write(written, 0, &data, WriteMode::default()).unwrap();
    until("the second block leaves", || stored(&a).len() == 2);
    let writing = *stored(&a).last().unwrap();
    until("the garbage is not told", || !in_flight(garbage));
    // Several heartbeats on it is still being written.
    let beats = || ring.meta.commandstats()["evalsha"];
    let before = beats();
    until("no heartbeats", || beats() > before + 10);
    assert!(in_flight(writing));
    a.close(written, 0).unwrap();
    until("it is committed", || !in_flight(writing));
    for vfs in [a, b] {
        vfs.stop().unwrap();
    }
}

/// Learns of a new epoch only at the second telling.
#[derive(Clone, Default)]
struct Lagging(Arc<(AtomicU64, AtomicU32)>);

impl Placements for Lagging {
    fn epoch(&self) -> Epoch {
        Epoch(self.0.0.load(Ordering::SeqCst))
    }
    fn refresh(&self, _: &Session, _: &Store, now: Epoch) -> Result<Epoch, VfsError> {
        if self.0.1.fetch_add(1, Ordering::SeqCst) > 0 {
            self.0.0.store(now.0, Ordering::SeqCst);
        }
        Ok(now)
    }
}

#[test]
fn a_compaction_under_an_old_epoch_is_done_again() {
    let ring = Ring::start(1);
    let lagging = Lagging::default();
    let config = VfsConfig {
        write_back_age: Duration::from_secs(3600),
        heartbeat: Duration::from_secs(3600),
        ..quick()
    };
    let records = config.compact_records;
    let (vfs, _) = ring.mount_with(&ring.volume, Box::new(lagging.clone()), config);
    let ino = create(&vfs, "f");
    let mut model = vec![0; 100_000];
    for i in 0..records {
        if i == records - 1 {
            for epoch in 0..2 {
                ring.volume.set_ring(Epoch(epoch), b"table", &[]).unwrap();
            }
        }
        let at = i as usize * 8192;
        vfs.write(ino, at as u64, &[i as u8 + 1; 100], WriteMode::default()).unwrap();
        if i == 0 {
            vfs.write(ino, 99_999, &[9], WriteMode::default()).unwrap();
        }
        model[at..at + 100].fill(i as u8 + 1);
        vfs.fsync(ino, 0).unwrap();
    }
    model[99_999] = 9;
    let slices = || -> BTreeSet<SliceId> {
        let chunks = ring.volume.chunks_of(ino).unwrap();
        chunks.iter().flat_map(|(_, records)| records.iter().map(|record| record.slice)).collect()
    };
    until("it is compacted", || slices().len() == 1);
    assert!(lagging.0.1.load(Ordering::SeqCst) >= 2, "the compaction was told of the new epoch");
    until("what it wrote at first is removed", || stored(&vfs) == slices());
    vfs.open(ino).unwrap();
    assert!(read(&vfs, ino, 0, 200_000) == model);
    vfs.stop().unwrap();
}

#[test]
fn a_file_forgotten_while_it_is_dirty_leaves_no_trace() {
    let ring = Ring::start(1);
    let (vfs, _) = ring.mount(quick());
    let known = vfs.inodes_known();
    for i in 0..20 {
        let ino = create(&vfs, &format!("f{i}"));
        vfs.write(ino, 0, b"hello", WriteMode::default()).unwrap();
        vfs.release(ino);
        vfs.forget(ino, 1);
    }
    until("they are kept", || vfs.inodes_known() == known);
    vfs.stop().unwrap();
}
