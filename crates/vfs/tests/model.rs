//! The vfs against a plain array of bytes, on real servers, without a kernel between.

#![allow(clippy::unwrap_used, reason = "what fails ends the test")]

mod ring;

use ring::{Ring, create, quick, read};
use ringfs_base::limits::{BLOCK_BYTES, CHUNK_BYTES};
use ringfs_base::{Errno, InodeId};
use ringfs_meta::{SetAttr, Writer, XattrMode};
use ringfs_vfs::{Allocation, KernelChange, Place, Seek, Times, Vfs, VfsConfig, WriteMode};
use std::collections::{BTreeMap, HashSet};
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
            mounts[who].close(ino, 0).unwrap();
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
        match dice.roll(16) {
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
            7 => vfs.fsync(ino, 0).unwrap(),
            8 => {
                let (at, len) = (dice.roll(span), 1 + dice.roll(span / 2));
                let how = [Allocation::Punch, Allocation::ZeroKeepSize, Allocation::Zero]
                    [dice.roll(3) as usize];
                vfs.fallocate(ino, at, len, how, Writer::PRIVILEGED).unwrap();
                let end = (at + len) as usize;
                if how == Allocation::Zero {
                    model.resize(model.len().max(end), 0);
                }
                let (from, to) = ((at as usize).min(model.len()), end.min(model.len()));
                model[from..to].fill(0);
            }
            9 => {
                let (from, to, len) = (dice.roll(span), dice.roll(span), 1 + dice.roll(span / 3));
                let copied = vfs.copy_range(
                    Place { ino, offset: from },
                    Place { ino, offset: to },
                    len,
                    Writer::PRIVILEGED,
                );
                if from.abs_diff(to) < len {
                    assert_eq!(copied.unwrap_err().errno(), Errno::EINVAL, "{context}");
                } else {
                    let len = len.min((model.len() as u64).saturating_sub(from));
                    assert_eq!(copied.unwrap(), len, "{context}: copied");
                    if len > 0 {
                        let end = (to + len) as usize;
                        model.resize(model.len().max(end), 0);
                        model.copy_within(from as usize..(from + len) as usize, to as usize);
                    }
                }
            }
            10 => check_seek(vfs, ino, dice.roll(span), &model, &context),
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
    mounts[who].close(ino, 0).unwrap();
    for vfs in mounts {
        vfs.open(ino).unwrap();
        assert!(read(vfs, ino, 0, model.len() as u32 + 10) == model, "seed {seed}: at the end");
        vfs.release(ino);
    }
    let _ = ring;
}

/// Where data and holes are is told so that no byte but a zero is ever taken for a hole.
fn check_seek(vfs: &Vfs, ino: InodeId, at: u64, model: &[u8], context: &str) {
    let (data, hole) = (vfs.seek(ino, at, Seek::Data), vfs.seek(ino, at, Seek::Hole));
    if at >= model.len() as u64 {
        assert_eq!(data.unwrap_err().errno(), Errno::ENXIO, "{context}");
        assert_eq!(hole.unwrap_err().errno(), Errno::ENXIO, "{context}");
        return;
    }
    let skipped = match data {
        Ok(data) => at as usize..data as usize,
        Err(error) => {
            assert_eq!(error.errno(), Errno::ENXIO, "{context}");
            at as usize..model.len()
        }
    };
    assert!(model[skipped].iter().all(|byte| *byte == 0), "{context}: data from {at} skipped");
    let hole = hole.unwrap() as usize;
    assert!(hole >= at as usize && hole <= model.len(), "{context}: hole at {hole}");
    assert!(hole == model.len() || model[hole] == 0, "{context}: no hole at {hole}");
}

/// The stored counts are those of the extents, and every block on the nodes belongs to a slice
/// that some chunk shows.
fn assert_counts(ring: &Ring) {
    // A compaction under way may change both between the two looks: then they are looked at again.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        let (stored, shown) = (stored_counts(ring), shown_counts(ring));
        if stored == shown {
            return;
        }
        assert!(std::time::Instant::now() < until, "stored {stored:?}, shown {shown:?}");
    }
}

fn shown_counts(ring: &Ring) -> BTreeMap<u64, u64> {
    let mut shown: BTreeMap<u64, u64> = BTreeMap::new();
    let mut cursor = 0;
    let mut seen = HashSet::new();
    loop {
        let (next, found) = ring.volume.scan_extents(cursor).unwrap();
        for chunk in found {
            let records = chunk.records.unwrap();
            let slices: HashSet<u64> = records.iter().map(|record| record.slice.0).collect();
            if seen.insert((chunk.ino, chunk.chunk)) {
                slices
                    .into_iter()
                    .filter(|s| *s > 0)
                    .for_each(|s| *shown.entry(s).or_default() += 1);
            }
        }
        if next == 0 {
            break;
        }
        cursor = next;
    }
    shown.retain(|_, count| *count > 1);
    shown.values_mut().for_each(|count| *count -= 1);
    shown
}

fn stored_counts(ring: &Ring) -> BTreeMap<u64, u64> {
    let stored = ring.meta.command(&["HGETALL", "rfs:{t/0}:r"]).into_map().unwrap();
    stored
        .into_iter()
        .map(|(slice, count)| {
            let slice = u64::from_be_bytes(slice.as_bytes().unwrap().try_into().unwrap());
            let count = std::str::from_utf8(count.as_bytes().unwrap()).unwrap();
            (slice, count.parse().unwrap())
        })
        .collect()
}

/// A file of the test below: `bytes` stand at `base`, before them there is nothing.
struct Window {
    name: String,
    ino: InodeId,
    base: u64,
    bytes: Vec<u8>,
}

/// Several files, some across the border of a chunk, that copy from each other, are punched,
/// truncated, removed and made anew, by mounts that take turns.
fn run_copies(ring: &Ring, mounts: &[Arc<Vfs>], seed: u64, steps: u32) {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    const WIDTH: u64 = 60_000;
    let bases = [0, CHUNK_BYTES - 30_000, 2 * CHUNK_BYTES - 7, 0];
    let make = |vfs: &Vfs, which: usize, number: u32| {
        let name = format!("w{seed}-{which}-{number}");
        let ino = create(vfs, &name);
        vfs.release(ino);
        Window { name, ino, base: bases[which], bytes: Vec::new() }
    };
    let mut files: Vec<Window> = (0..4).map(|which| make(&mounts[0], which, 0)).collect();
    for step in 0..steps {
        let context = format!("seed {seed} step {step}");
        let vfs = &mounts[dice.roll(mounts.len() as u64) as usize];
        let (one, other) = (dice.roll(4) as usize, dice.roll(4) as usize);
        for which in [one, other] {
            vfs.lookup(InodeId::ROOT, files[which].name.as_bytes()).map_err(|e| e.0).unwrap();
            vfs.open(files[which].ino).unwrap();
        }
        let inos = [files[one].ino, files[other].ino];
        let (at, len) = (dice.roll(WIDTH), 1 + dice.roll(WIDTH / 2));
        let file = &mut files[one];
        let (offset, end) = (file.base + at, (at + len) as usize);
        match dice.roll(9) {
            0..=2 => {
                let data: Vec<u8> =
                    (0..len).map(|i| (seed + i / 5 + u64::from(step)) as u8).collect();
                vfs.write(file.ino, offset, &data, WriteMode::default()).unwrap();
                file.bytes.resize(file.bytes.len().max(end), 0);
                file.bytes[at as usize..end].copy_from_slice(&data);
            }
            3 => {
                vfs.fallocate(file.ino, offset, len, Allocation::Punch, Writer::PRIVILEGED)
                    .unwrap();
                let to = end.min(file.bytes.len());
                let from = (at as usize).min(to);
                file.bytes[from..to].fill(0);
            }
            4 => {
                let change = SetAttr { size: Some(offset), ..SetAttr::default() };
                vfs.setattr(file.ino, change, Times::default()).unwrap();
                file.bytes.resize(at as usize, 0);
            }
            5 if step % 3 == 0 => {
                let (name, which) = (file.name.clone(), one);
                vfs.release(inos[0]);
                vfs.unlink(InodeId::ROOT, name.as_bytes()).unwrap();
                files[one] = make(vfs, which, step + 1);
                vfs.open(files[one].ino).unwrap();
                if one == other {
                    vfs.release(files[one].ino);
                    continue;
                }
            }
            _ => {
                let to = dice.roll(WIDTH);
                let from = Place { ino: file.ino, offset };
                let place = Place { ino: files[other].ino, offset: files[other].base + to };
                // A window that is empty has a file of size 0 or of holes only.
                let len = len.min((files[one].bytes.len() as u64).saturating_sub(at));
                if len > 0 && !(one == other && at.abs_diff(to) < len) {
                    let copied = vfs.copy_range(from, place, len, Writer::PRIVILEGED).unwrap();
                    assert_eq!(copied, len, "{context}: copied");
                    let bytes = files[one].bytes[at as usize..(at + len) as usize].to_vec();
                    let target = &mut files[other].bytes;
                    target.resize(target.len().max((to + len) as usize), 0);
                    target[to as usize..(to + len) as usize].copy_from_slice(&bytes);
                }
            }
        }
        for which in [one, other] {
            let file = &files[which];
            let found = read(vfs, file.ino, file.base, 2 * WIDTH as u32);
            assert!(found == file.bytes, "{context}: file {which} of {one} and {other}");
            vfs.close(file.ino, 0).unwrap();
        }
        vfs.release(files[one].ino);
        vfs.release(files[other].ino);
    }
    for file in &files {
        for vfs in mounts {
            vfs.open(file.ino).unwrap();
            let found = read(vfs, file.ino, file.base, 2 * WIDTH as u32);
            assert!(found == file.bytes, "seed {seed}: {} at the end", file.name);
            vfs.release(file.ino);
        }
    }
    assert_counts(ring);
}

#[test]
fn copies_that_share_blocks_read_like_copies_of_bytes() {
    let ring = Ring::start(2);
    let (vfs, _) = ring.mount(quick());
    for seed in 300..308 {
        run_copies(&ring, std::slice::from_ref(&vfs), seed, 150);
    }
    vfs.stop().unwrap();
}

#[test]
fn two_mounts_share_blocks_and_neither_loses_the_others() {
    let ring = Ring::start(2);
    let mounts = [ring.mount(quick()).0, ring.mount(quick()).0];
    for seed in 400..406 {
        run_copies(&ring, &mounts, seed, 150);
    }
    for vfs in mounts {
        vfs.stop().unwrap();
    }
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
    let spots = [0, CHUNK_BYTES - 3, 5 * CHUNK_BYTES + 17, 1 << 40, (1 << 53) - 3, (1 << 63) - 10];
    for (i, at) in spots.iter().enumerate() {
        vfs.write(ino, *at, &[i as u8 + 1; 7], WriteMode::default()).unwrap();
    }
    vfs.fsync(ino, 0).unwrap();
    for (i, at) in spots.iter().enumerate() {
        assert_eq!(read(&vfs, ino, *at, 7), vec![i as u8 + 1; 7]);
    }
    assert_eq!(read(&vfs, ino, CHUNK_BYTES + 4, 4), vec![0; 4]);
    assert_eq!(vfs.getattr(ino).unwrap().attr.size, (1 << 63) - 3);
    assert!(vfs.write(ino, (1 << 63) - 3, b"four", WriteMode::default()).is_err());
    vfs.write(ino, (1 << 63) - 3, b"ok", WriteMode::default()).unwrap();
    assert_eq!(vfs.seek(ino, 1 << 54, Seek::Data).unwrap(), (1 << 63) - 10);
    vfs.stop().unwrap();
}

#[test]
fn a_change_on_one_mount_reaches_the_kernel_of_the_other() {
    let ring = Ring::start(1);
    let ((a, _), (b, told)) = (ring.mount(quick()), ring.mount(quick()));
    let ino = create(&a, "f");
    b.lookup(InodeId::ROOT, b"f").map_err(|e| e.0).unwrap();
    a.write(ino, 0, b"hello", WriteMode::default()).unwrap();
    a.close(ino, 0).unwrap();
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
    b.close(ino, 0).unwrap();
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
    vfs.close(ino, 0).unwrap();
    assert_eq!(vfs.getattr(ino).unwrap().attr.perm, 0o4755);
    vfs.write(ino, 0, b"evil", WriteMode { kill_suid: true, ..WriteMode::default() }).unwrap();
    vfs.close(ino, 0).unwrap();
    assert_eq!(vfs.getattr(ino).unwrap().attr.perm, 0o755);
    vfs.stop().unwrap();
}

#[test]
fn allocating_and_copying_take_set_id_bits_away_from_who_is_not_privileged() {
    let ring = Ring::start(1);
    let (vfs, _) = ring.mount(VfsConfig::default());
    let ino = create(&vfs, "program");
    let source = create(&vfs, "source");
    let whole = vec![7; 100_000];
    for ino in [ino, source] {
        vfs.write(ino, 0, &whole, WriteMode::default()).unwrap();
        vfs.close(ino, 0).unwrap();
    }
    let plain = Writer { kill_suid: true, privileged: false };
    let place = |ino| Place { ino, offset: 0 };
    let perm_after = |work: &dyn Fn(Writer), writer: Writer, perm: u16| {
        let change = SetAttr { perm: Some(perm), ..SetAttr::default() };
        vfs.setattr(ino, change, Times::default()).unwrap();
        work(writer);
        vfs.close(ino, 0).unwrap();
        vfs.getattr(ino).unwrap().attr.perm
    };
    let allocate = |how| {
        let vfs = &vfs;
        move |writer| vfs.fallocate(ino, 10, 1_000, how, writer).unwrap()
    };
    let copy = |len| {
        let vfs = &vfs;
        move |writer| {
            assert_eq!(vfs.copy_range(place(source), place(ino), len, writer).unwrap(), len)
        }
    };
    type Work<'a> = Box<dyn Fn(Writer) + 'a>;
    let works: [(&str, Work<'_>); 7] = [
        ("extend", Box::new(allocate(Allocation::Extend))),
        ("reserve", Box::new(allocate(Allocation::Reserve))),
        ("punch", Box::new(allocate(Allocation::Punch))),
        ("zero", Box::new(allocate(Allocation::Zero))),
        ("zero, keep size", Box::new(allocate(Allocation::ZeroKeepSize))),
        ("share", Box::new(copy(50_000))),
        ("copy", Box::new(copy(100))),
    ];
    for (name, work) in &works {
        assert_eq!(perm_after(work, plain, 0o6755), 0o755, "{name}");
        assert_eq!(perm_after(work, plain, 0o2745), 0o2745, "{name}: no execution by the group");
        assert_eq!(perm_after(work, Writer::PRIVILEGED, 0o6755), 0o6755, "{name}");
    }
    drop(works);
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
    b.close(ino, 0).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    while a.getattr(ino).unwrap().attr.size != begin + 80 {
        assert!(std::time::Instant::now() < deadline, "the other's append is not seen");
        std::thread::yield_now();
    }
    a.write(ino, 0, &[3; 10], append).unwrap();
    a.close(ino, 0).unwrap();
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
