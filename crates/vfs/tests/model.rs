//! The vfs against a plain array of bytes, on real servers, without a kernel between.

#![allow(clippy::unwrap_used, reason = "what fails ends the test")]

mod ring;

use ring::{Ring, create, quick, read};
use ringfs_base::InodeId;
use ringfs_base::limits::{BLOCK_BYTES, CHUNK_BYTES};
use ringfs_meta::{SetAttr, XattrMode};
use ringfs_vfs::{KernelChange, Times, Vfs, VfsConfig, WriteMode};
use std::sync::Arc;
use std::time::Duration;

/// A small generator of our own: a failing seed is repeated by its number.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below.max(1)
    }
}

/// Random operations by `mounts` taking turns; every read is compared. With several mounts each
/// turn ends with a close and begins with an open, as close-to-open asks.
fn run(ring: &Ring, mounts: &[Arc<Vfs>], seed: u64, steps: u32) {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let name = format!("f{seed}");
    let ino = create(&mounts[0], &name);
    let mut model: Vec<u8> = Vec::new();
    let limit = 3 * u64::from(BLOCK_BYTES) + 5000;
    let mut who = 0;
    for step in 0..steps {
        let context = format!("seed {seed} step {step}");
        if dice.roll(8) == 0 && mounts.len() > 1 {
            mounts[who].close(ino).unwrap();
            mounts[who].release(ino);
            who = dice.roll(mounts.len() as u64) as usize;
            if mounts[who].lookup(InodeId::ROOT, name.as_bytes()).is_err() {
                panic!("{context}: the file is gone");
            }
            mounts[who].open(ino).unwrap();
        }
        let vfs = &mounts[who];
        let small = dice.roll(3) > 0;
        let span = if small { 20_000 } else { limit };
        match dice.roll(12) {
            0..=4 => {
                let at = dice.roll(span);
                let len = 1 + dice.roll(if small { 3000 } else { 700_000 }) as usize;
                let fill = dice.roll(256) as u8;
                let data: Vec<u8> = (0..len).map(|i| fill.wrapping_add((i / 7) as u8)).collect();
                vfs.write(ino, at, &data, WriteMode::default()).unwrap();
                let end = at as usize + len;
                model.resize(model.len().max(end), 0);
                model[at as usize..end].copy_from_slice(&data);
            }
            5 => {
                let data = vec![dice.roll(256) as u8; 1 + dice.roll(5000) as usize];
                vfs.write(ino, 0, &data, WriteMode { append: true, ..WriteMode::default() })
                    .unwrap();
                model.extend_from_slice(&data);
            }
            6 => {
                let size = dice.roll(span);
                let change = SetAttr { size: Some(size), ..SetAttr::default() };
                vfs.setattr(ino, change, Times::default()).unwrap();
                model.resize(size as usize, 0);
            }
            7 => vfs.fsync(ino).unwrap(),
            _ => {
                let at = dice.roll(span);
                let len = 1 + dice.roll(if small { 5000 } else { 1 << 20 });
                let from = (at as usize).min(model.len());
                let to = (at as usize + len as usize).min(model.len());
                let found = read(vfs, ino, at, len as u32);
                assert!(found == model[from..to], "{context}: read {at}+{len}");
            }
        }
        let size = mounts[who].getattr(ino).unwrap().attr.size;
        assert_eq!(size, model.len() as u64, "{context}: size");
    }
    mounts[who].close(ino).unwrap();
    for vfs in mounts {
        vfs.open(ino).unwrap();
        assert!(read(vfs, ino, 0, model.len() as u32 + 10) == model, "seed {seed}: at the end");
        vfs.release(ino);
    }
    let _ = ring;
}

#[test]
fn random_operations_read_what_was_written() {
    let ring = Ring::start(3);
    let (vfs, _) = ring.mount(quick());
    for seed in 0..12 {
        run(&ring, std::slice::from_ref(&vfs), seed, 250);
    }
    vfs.stop().unwrap();
}

#[test]
fn two_mounts_taking_turns_agree_with_one_array() {
    let ring = Ring::start(3);
    let mounts = [ring.mount(quick()).0, ring.mount(quick()).0];
    for seed in 100..108 {
        run(&ring, &mounts, seed, 250);
    }
    for vfs in mounts {
        vfs.stop().unwrap();
    }
}

#[test]
fn a_node_that_dies_and_returns_empty_is_not_noticed_by_readers_and_writers() {
    let mut ring = Ring::start(3);
    let (vfs, _) = ring.mount(quick());
    for round in 0..3 {
        ring.nodes[round].kill9();
        run(&ring, std::slice::from_ref(&vfs), 200 + round as u64, 120);
        ring.nodes[round].restart_empty();
        // What this node alone had of the writes before is on the other owner.
        run(&ring, std::slice::from_ref(&vfs), 210 + round as u64, 60);
    }
    vfs.stop().unwrap();
}

#[test]
fn writes_across_chunks_and_far_out_are_read_back() {
    let ring = Ring::start(2);
    let (vfs, _) = ring.mount(quick());
    let ino = create(&vfs, "sparse");
    let spots = [0, CHUNK_BYTES - 3, 5 * CHUNK_BYTES + 17, 1 << 40, (1 << 53) - 10];
    for (i, at) in spots.iter().enumerate() {
        vfs.write(ino, *at, &[i as u8 + 1; 7], WriteMode::default()).unwrap();
    }
    vfs.fsync(ino).unwrap();
    for (i, at) in spots.iter().enumerate() {
        assert_eq!(read(&vfs, ino, *at, 7), vec![i as u8 + 1; 7]);
    }
    assert_eq!(read(&vfs, ino, CHUNK_BYTES + 4, 4), vec![0; 4]);
    assert_eq!(vfs.getattr(ino).unwrap().attr.size, (1 << 53) - 3);
    assert!(vfs.write(ino, 1 << 53, b"x", WriteMode::default()).is_err());
    vfs.stop().unwrap();
}

#[test]
fn a_change_on_one_mount_reaches_the_kernel_of_the_other() {
    let ring = Ring::start(1);
    let ((a, _), (b, told)) = (ring.mount(quick()), ring.mount(quick()));
    let ino = create(&a, "f");
    b.lookup(InodeId::ROOT, b"f").map_err(|e| e.0).unwrap();
    a.write(ino, 0, b"hello", WriteMode::default()).unwrap();
    a.close(ino).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    while !told.0.lock().contains(&KernelChange::Inode(ino)) {
        assert!(std::time::Instant::now() < deadline, "not told");
        std::thread::yield_now();
    }
    assert_eq!(b.getattr(ino).unwrap().attr.size, 5);
    a.unlink(InodeId::ROOT, b"f").unwrap();
    while !told.0.lock().iter().any(|c| matches!(c, KernelChange::Entry(_, n) if n == b"f")) {
        assert!(std::time::Instant::now() < deadline, "not told of the name");
        std::thread::yield_now();
    }
    for vfs in [a, b] {
        vfs.stop().unwrap();
    }
    let keys = ring.nodes[0].info("keyspace");
    assert!(keys.is_empty(), "an unlinked inline file leaves nothing: {keys:?}");
    assert_eq!(ring.meta.commandstats().get("flushall"), None);
}

#[test]
fn a_foreign_size_that_came_with_another_reply_makes_the_kernel_ask_at_open() {
    let ring = Ring::start(1);
    let slow = || VfsConfig { heartbeat: Duration::from_secs(3600), ..VfsConfig::default() };
    let ((a, told), (b, _)) = (ring.mount(slow()), ring.mount(slow()));
    let ino = create(&a, "f");
    a.release(ino);
    b.lookup(InodeId::ROOT, b"f").map_err(|e| e.0).unwrap();
    a.setxattr(ino, b"user.x", b"1", XattrMode::Either).unwrap();
    a.open(ino).unwrap();
    a.release(ino);
    let before = told.1.lock().len();
    a.setxattr(ino, b"user.x", b"2", XattrMode::Either).unwrap();
    a.open(ino).unwrap();
    a.release(ino);
    assert_eq!(told.1.lock().len(), before, "the kernel's size is right");
    // Scripts that believe that there is one mount do not push: as if the push were on its way.
    ring.meta.command(&["HSET", "rfs:{t/0}:c", "n", "1"]);
    b.write(ino, 0, b"hello", WriteMode::default()).unwrap();
    b.close(ino).unwrap();
    a.setxattr(ino, b"user.x", b"3", XattrMode::Either).unwrap();
    a.open(ino).unwrap();
    a.release(ino);
    assert_eq!(told.1.lock()[before..], [ino]);
    ring.meta.command(&["HSET", "rfs:{t/0}:c", "n", "2"]);
    a.stop().unwrap();
    b.stop().unwrap();
}

#[test]
fn set_id_bits_set_after_a_write_survive_its_commit() {
    let ring = Ring::start(1);
    let (vfs, _) = ring.mount(VfsConfig::default());
    let ino = create(&vfs, "program");
    vfs.write(ino, 0, b"code", WriteMode { kill_suid: true, ..WriteMode::default() }).unwrap();
    let change = SetAttr { perm: Some(0o4755), ..SetAttr::default() };
    vfs.setattr(ino, change, Times::default()).unwrap();
    vfs.close(ino).unwrap();
    assert_eq!(vfs.getattr(ino).unwrap().attr.perm, 0o4755);
    vfs.write(ino, 0, b"evil", WriteMode { kill_suid: true, ..WriteMode::default() }).unwrap();
    vfs.close(ino).unwrap();
    assert_eq!(vfs.getattr(ino).unwrap().attr.perm, 0o755);
    vfs.stop().unwrap();
}

#[test]
fn appends_pushed_across_a_chunks_border_keep_their_bytes_and_no_others() {
    let ring = Ring::start(2);
    let (a, b) = (ring.mount(VfsConfig::default()).0, ring.mount(VfsConfig::default()).0);
    let append = WriteMode { append: true, ..WriteMode::default() };
    let ino = create(&a, "log");
    let begin = CHUNK_BYTES - 100;
    let change = SetAttr { size: Some(begin), ..SetAttr::default() };
    a.setattr(ino, change, Times::default()).unwrap();
    a.write(ino, 0, &[1; 60], append).unwrap();
    b.lookup(InodeId::ROOT, b"log").map_err(|e| e.0).unwrap();
    b.write(ino, 0, &[2; 80], append).unwrap();
    b.close(ino).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    while a.getattr(ino).unwrap().attr.size != begin + 80 {
        assert!(std::time::Instant::now() < deadline, "the other's append is not seen");
        std::thread::yield_now();
    }
    a.write(ino, 0, &[3; 10], append).unwrap();
    a.close(ino).unwrap();
    let expected = [vec![2; 80], vec![1; 60], vec![3; 10]].concat();
    for vfs in [&a, &b] {
        vfs.open(ino).unwrap();
        assert_eq!(read(vfs, ino, begin, 1000), expected);
        vfs.release(ino);
    }
    a.stop().unwrap();
    b.stop().unwrap();
}

#[test]
fn what_nobody_closes_is_written_back_by_age() {
    let ring = Ring::start(2);
    let ((a, _), (b, _)) = (ring.mount(quick()), ring.mount(quick()));
    let ino = create(&a, "f");
    a.write(ino, 0, b"hello", WriteMode::default()).unwrap();
    // Neither close nor fsync: the other mount sees it all the same, after a while.
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    loop {
        b.open(ino).unwrap();
        let found = read(&b, ino, 0, 10);
        b.release(ino);
        if found == b"hello" {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "not written back");
        std::thread::yield_now();
    }
    for vfs in [a, b] {
        vfs.stop().unwrap();
    }
}
