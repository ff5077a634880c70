//! Holes, copies that move no data, files without a name, mappings and the ways to make data
//! durable, through real mounts.

#![allow(clippy::unwrap_used, reason = "what fails ends the test")]

mod mounted;

use mounted::{Mounted, Volume, eventually, noise, succeed};
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::Command;

const CHUNK: u64 = 64 << 20;

fn check(result: i64) -> Result<u64, i32> {
    if result < 0 {
        Err(std::io::Error::last_os_error().raw_os_error().unwrap())
    } else {
        Ok(result as u64)
    }
}

fn fallocate(file: &File, mode: i32, offset: i64, len: i64) -> Result<u64, i32> {
    check(unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, len) }.into())
}

fn seek(file: &File, offset: u64, whence: i32) -> Result<u64, i32> {
    check(unsafe { libc::lseek(file.as_raw_fd(), offset as i64, whence) })
}

fn copy(from: &File, mut at: i64, to: &File, mut to_at: i64, len: usize) -> Result<u64, i32> {
    let (source, target) = (from.as_raw_fd(), to.as_raw_fd());
    let done = unsafe { libc::copy_file_range(source, &mut at, target, &mut to_at, len, 0) };
    check(done as i64)
}

/// Copies in as many calls as it takes.
fn copy_all(from: &File, at: u64, to: &File, to_at: u64, len: u64) {
    let mut done = 0;
    while done < len {
        let left = (len - done) as usize;
        let copied = copy(from, (at + done) as i64, to, (to_at + done) as i64, left).unwrap();
        assert!(copied > 0, "the copy ended at {done} of {len}");
        done += copied;
    }
}

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap()
}

/// Blocks on all nodes.
fn blocks(volume: &Volume) -> i64 {
    volume.block_keys()
}

fn window(file: &File, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, at).unwrap();
    bytes
}

const KEEP: i32 = libc::FALLOC_FL_KEEP_SIZE;
const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | KEEP;
const ZERO: i32 = libc::FALLOC_FL_ZERO_RANGE;

#[test]
fn fallocate_makes_holes_and_sizes_that_both_mounts_see() {
    let volume = Volume::format(2, 1);
    let (a, b) = (volume.mount(), volume.mount());
    for (name, len) in [("inline", 5_000u64), ("block", 100_000), ("blocks", 3 << 20)] {
        let mut model = noise(len, len as usize);
        let file = open(&a.path(name));
        file.write_all_at(&model, 0).unwrap();
        file.sync_all().unwrap();
        let other = open(&b.path(name));
        assert!(window(&other, 0, len as usize) == model, "cached by the other");
        let before = file.metadata().unwrap();
        fallocate(&file, PUNCH, 1000, 2000).unwrap();
        model[1000..3000].fill(0);
        fallocate(&file, ZERO | KEEP, (len - 500) as i64, 5_000).unwrap();
        model[len as usize - 500..].fill(0);
        // Not flushed: the pending bytes are punched, too.
        file.write_all_at(&[9; 100], 3500).unwrap();
        fallocate(&file, PUNCH, 3550, 1000).unwrap();
        model[3500..3550].fill(9);
        model[3550..4550].fill(0);
        assert_eq!(file.metadata().unwrap().len(), len);
        assert!(fs::read(a.path(name)).unwrap() == model, "{name} here");
        assert!(fs::read(b.path(name)).unwrap() == model, "{name} there");
        eventually("what is open there sees the hole", || window(&other, 0, len as usize) == model);
        fallocate(&file, ZERO, (len - 10) as i64, 1_000).unwrap();
        assert_eq!(file.metadata().unwrap().len(), len + 990);
        fallocate(&file, 0, 0, (len + 2_000) as i64).unwrap();
        model.resize(len as usize + 2_000, 0);
        assert_eq!(file.metadata().unwrap().len(), len + 2_000);
        fallocate(&file, 0, 0, 10).unwrap();
        fallocate(&file, KEEP, 0, 1 << 30).unwrap();
        assert_eq!(file.metadata().unwrap().len(), len + 2_000, "nothing is cut or kept");
        assert!(fs::read(b.path(name)).unwrap() == model, "{name} there, larger");
        let after = file.metadata().unwrap();
        let ctime = |m: &fs::Metadata| (m.ctime(), m.ctime_nsec());
        assert!(ctime(&after) > ctime(&before) && after.mtime() >= before.mtime());

        assert_eq!(fallocate(&file, PUNCH, 0, 0), Err(libc::EINVAL));
        assert_eq!(fallocate(&file, PUNCH, -1, 5), Err(libc::EINVAL));
        assert_eq!(
            fallocate(&file, libc::FALLOC_FL_COLLAPSE_RANGE, 0, 4096),
            Err(libc::EOPNOTSUPP)
        );
        assert_eq!(fallocate(&file, libc::FALLOC_FL_INSERT_RANGE, 0, 4096), Err(libc::EOPNOTSUPP));
        assert_eq!(fallocate(&file, libc::FALLOC_FL_PUNCH_HOLE, 0, 4096), Err(libc::EOPNOTSUPP));
        assert_eq!(fallocate(&file, PUNCH, i64::MAX - 10, 100), Err(libc::EFBIG));
        assert_eq!(fallocate(&File::open(a.path(name)).unwrap(), PUNCH, 0, 10), Err(libc::EBADF));
        assert!(fs::read(a.path(name)).unwrap() == model, "{name} after what failed");
        // All of it: the room comes free although the file stays.
        fallocate(&file, PUNCH, 0, 1 << 40).unwrap();
        assert!(fs::read(b.path(name)).unwrap().iter().all(|byte| *byte == 0));
    }
    eventually("the blocks of what was punched go", || blocks(&volume) == 0);
    drop((a, b));
    volume.assert_fsck_clean();
}

#[test]
fn a_hole_that_hides_all_of_a_write_frees_its_blocks() {
    let volume = Volume::format(1, 1);
    let mount = volume.mount();
    let file = open(&mount.path("f"));
    for part in 0..3u64 {
        file.write_all_at(&noise(part, 200_000), part * 1_000_000).unwrap();
        file.sync_all().unwrap();
    }
    // One each, unless a test beside this one forked: the child's end closes the file as well.
    let before = blocks(&volume);
    assert!(before >= 3);
    fallocate(&file, PUNCH, 900_000, 500_000).unwrap();
    eventually("the hidden block goes", || blocks(&volume) < before);
    assert!(window(&file, 0, 200_000) == noise(0, 200_000));
    assert!(window(&file, 2_000_000, 200_000) == noise(2, 200_000));
    assert!(window(&file, 900_000, 500_000).iter().all(|byte| *byte == 0));
}

#[test]
fn seek_finds_data_and_holes_wherever_they_are() {
    let volume = Volume::format(1, 1);
    let mount = volume.mount();
    let (data, hole) = (libc::SEEK_DATA, libc::SEEK_HOLE);
    let file = open(&mount.path("f"));
    assert_eq!((seek(&file, 0, data), seek(&file, 0, hole)), (Err(libc::ENXIO), Err(libc::ENXIO)));
    let spots = [0, CHUNK - 100_000, CHUNK + 300_000, 70 * CHUNK + 5, 200 * CHUNK + 9, 1 << 40];
    for spot in spots {
        file.write_all_at(&noise(spot, 10_000), spot).unwrap();
    }
    // First what is pending, then the same as committed, then through a mount that knows nothing.
    let other = volume.mount();
    for round in 0..3 {
        if round == 1 {
            file.sync_all().unwrap();
        }
        let file = if round == 2 { open(&other.path("f")) } else { file.try_clone().unwrap() };
        for (at, next) in spots.iter().zip(spots.iter().skip(1)) {
            assert_eq!(seek(&file, *at, data), Ok(*at));
            assert_eq!(seek(&file, *at + 5, data), Ok(*at + 5));
            assert_eq!(seek(&file, *at, hole), Ok(*at + 10_000));
            assert_eq!(seek(&file, *at + 10_000, data), Ok(*next));
            assert_eq!(seek(&file, *at + 10_000, hole), Ok(*at + 10_000));
        }
        let end = (1 << 40) + 10_000;
        assert_eq!(seek(&file, 1 << 40, hole), Ok(end), "the end is a hole");
        assert_eq!(
            (seek(&file, end, data), seek(&file, end, hole)),
            (Err(libc::ENXIO), Err(libc::ENXIO))
        );
    }
    file.set_len(1 << 41).unwrap();
    assert_eq!(seek(&file, (1 << 40) + 10_000, data), Err(libc::ENXIO));
    assert_eq!(seek(&file, (1 << 40) + 10_000, hole), Ok((1 << 40) + 10_000));
    fallocate(&file, PUNCH, CHUNK as i64 - 99_000, 4_000).unwrap();
    assert_eq!(seek(&file, CHUNK - 100_000, hole), Ok(CHUNK - 99_000));
    assert_eq!(seek(&file, CHUNK - 99_000, data), Ok(CHUNK - 95_000));
    // A small file, all inline, and grown.
    let small = open(&mount.path("small"));
    small.write_all_at(b"hello", 0).unwrap();
    small.set_len(100).unwrap();
    assert_eq!((seek(&small, 0, data), seek(&small, 0, hole)), (Ok(0), Ok(5)));
    assert_eq!(seek(&small, 5, data), Err(libc::ENXIO));
}

#[test]
fn copy_file_range_moves_no_data_and_the_last_owner_frees_the_blocks() {
    let volume = Volume::format(3, 2);
    let (a, b) = (volume.mount(), volume.mount());
    let bytes = noise(7, 5_000_001);
    fs::write(a.path("source"), &bytes).unwrap();
    let before = blocks(&volume);
    // A test beside this one may fork: the child's end closes the file in the middle of writing.
    assert!(before >= 2 * 5);
    let source = File::open(a.path("source")).unwrap();
    let whole = open(&a.path("whole"));
    copy_all(&source, 0, &whole, 0, bytes.len() as u64);
    assert!(fs::read(a.path("whole")).unwrap() == bytes);
    assert!(fs::read(b.path("whole")).unwrap() == bytes, "the other mount");
    // Unaligned, across the border of a chunk, into the middle of what is there.
    let part = open(&b.path("part"));
    drop(source);
    let source = File::open(b.path("source")).unwrap();
    copy_all(&source, 333, &part, CHUNK - 1_000_003, 3_000_001);
    assert_eq!(part.metadata().unwrap().len(), CHUNK - 1_000_003 + 3_000_001);
    let expected = &bytes[333..333 + 3_000_001];
    assert!(window(&part, CHUNK - 1_000_003, 3_000_001) == expected);
    drop(part);
    let part = open(&a.path("part"));
    assert!(window(&part, CHUNK - 1_000_003, 3_000_001) == expected);
    assert!(window(&part, 0, 100).iter().all(|byte| *byte == 0));
    // Within the file.
    copy_all(&part, CHUNK, &part, 12_345, 500_000);
    assert!(window(&part, 12_345, 500_000) == window(&part, CHUNK, 500_000));
    assert_eq!(copy(&part, 0, &part, 100, 101), Err(libc::EINVAL), "overlapping");
    assert_eq!(copy(&source, 1 << 40, &whole, 0, 10), Ok(0), "beyond the end");
    assert_eq!(blocks(&volume), before, "no data moved");
    drop((source, whole));
    volume_is_sound(&volume, &[&a, &b], "part", "whole");

    // A write into the one does not show in the other, and what it adds is its own.
    let whole = open(&b.path("whole"));
    whole.write_all_at(&[1; 10], 100).unwrap();
    whole.sync_all().unwrap();
    assert!(fs::read(a.path("source")).unwrap() == bytes);
    drop(whole);
    fs::remove_file(a.path("source")).unwrap();
    let mut changed = bytes.clone();
    changed[100..110].fill(1);
    assert!(fs::read(a.path("whole")).unwrap() == changed);
    fs::remove_file(b.path("whole")).unwrap();
    assert!(window(&part, CHUNK - 1_000_003, 3_000_001) == expected, "the last owner has all");
    drop(part);
    fs::remove_file(a.path("part")).unwrap();
    eventually("the last owner frees the blocks", || blocks(&volume) == 0);
    assert_eq!(shared_counts(&volume), 0);
    drop((a, b));
    volume.assert_fsck_clean();
}

fn volume_is_sound(volume: &Volume, mounts: &[&Mounted], one: &str, other: &str) {
    for mount in mounts {
        assert!(mount.path(one).exists() && mount.path(other).exists());
    }
    volume.assert_fsck_clean();
}

fn shared_counts(volume: &Volume) -> i64 {
    volume.meta.command(&["HLEN", "rfs:{demo/0}:r"]).into_int().unwrap()
}

#[test]
fn small_and_inline_files_are_copied_too() {
    let volume = Volume::format(1, 1);
    let (a, b) = (volume.mount(), volume.mount());
    for (len, grown) in [(10u64, 10u64), (8_000, 8_000), (3_000, 200_000)] {
        let mut bytes = noise(len, len as usize);
        fs::write(a.path("s"), &bytes).unwrap();
        let source = open(&a.path("s"));
        if grown > len {
            // Inline data below, a block above.
            source.write_all_at(&noise(9, 100_000), 100_000).unwrap();
            bytes.resize(100_000, 0);
            bytes.extend(noise(9, 100_000));
        }
        let target = open(&a.path("t"));
        target.set_len(0).unwrap();
        copy_all(&source, 0, &target, 0, grown);
        copy_all(&source, 3, &target, grown, 5);
        drop(target);
        bytes.extend_from_within(3..8);
        assert!(fs::read(b.path("t")).unwrap() == bytes, "{len} {grown}");
    }
    // What programs do: cp uses the same call.
    let status = std::process::Command::new("cp").arg(a.path("t")).arg(a.path("u")).status();
    assert!(status.unwrap().success());
    assert!(fs::read(b.path("u")).unwrap() == fs::read(a.path("t")).unwrap());
    drop((a, b));
    volume.assert_fsck_clean();
}

fn tmpfile(dir: &Path, flags: i32) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .mode(0o640)
        .custom_flags(libc::O_TMPFILE | flags)
        .open(dir)
        .unwrap()
}

/// Gives an open file a name through /proc, as who has no privileges does.
fn give_name(file: &File, path: &Path) -> Result<u64, i32> {
    let from = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
    let to = CString::new(path.as_os_str().as_bytes()).unwrap();
    let (here, flags) = (libc::AT_FDCWD, libc::AT_SYMLINK_FOLLOW);
    check(unsafe { libc::linkat(here, from.as_ptr(), here, to.as_ptr(), flags) }.into())
}

#[test]
fn a_file_without_a_name_appears_with_its_link_or_goes() {
    let volume = Volume::format(2, 1);
    let (a, b) = (volume.mount(), volume.mount());
    let data = noise(3, 300_000);
    let mut file = tmpfile(&a.place, 0);
    file.write_all(&data).unwrap();
    assert_eq!(fs::read_dir(&a.place).unwrap().count(), 0);
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    give_name(&file, &a.path("named")).unwrap();
    let facts = file.metadata().unwrap();
    assert_eq!((facts.nlink(), facts.mode() & 0o777, facts.len()), (1, 0o640, 300_000));
    // What is written after it got its name is kept, too.
    file.write_all(b"more").unwrap();
    drop(file);
    let expected = [&data[..], b"more"].concat();
    assert!(fs::read(b.path("named")).unwrap() == expected);

    let second = tmpfile(&a.place, 0);
    let empty = CString::new("").unwrap();
    let path = CString::new(a.path("second").as_os_str().as_bytes()).unwrap();
    let (fd, here, flags) = (second.as_raw_fd(), libc::AT_FDCWD, libc::AT_EMPTY_PATH);
    check(unsafe { libc::linkat(fd, empty.as_ptr(), here, path.as_ptr(), flags) }.into()).unwrap();
    assert!(b.path("second").exists());
    assert_eq!(give_name(&second, &a.path("third")), Ok(0), "an ordinary link by now");
    assert_eq!(give_name(&tmpfile(&a.place, libc::O_EXCL), &a.path("never")), Err(libc::ENOENT));

    let left = blocks(&volume);
    let mut gone = tmpfile(&a.place, 0);
    gone.write_all(&noise(4, 3_000_000)).unwrap();
    gone.sync_all().unwrap();
    assert!(blocks(&volume) > left);
    drop(gone);
    eventually("what got no name goes with its last close", || blocks(&volume) == left);
    // And with its mount, when that dies.
    let mut gone = tmpfile(&b.place, 0);
    gone.write_all(&noise(5, 3_000_000)).unwrap();
    gone.sync_all().unwrap();
    b.kill9();
    drop((gone, second, a));
    // A session counts as dead when its last sign of life is of an earlier second.
    eventually("what the dead mount had open goes", || {
        let out = volume.tool("gc", &["--delete", "--dead-after", "0s"]);
        assert!(out.status.success(), "{}", mounted::text(&out));
        blocks(&volume) == left
    });
    volume.assert_fsck_clean();
}

/// A mapping of a whole file.
struct Mapping(*mut u8, usize);

impl Mapping {
    fn new(file: &File, len: usize, kind: i32) -> Mapping {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let null = std::ptr::null_mut();
        let at = unsafe { libc::mmap(null, len, protection, kind, file.as_raw_fd(), 0) };
        assert_ne!(at, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
        Mapping(at.cast(), len)
    }

    fn bytes(&mut self) -> &mut [u8] {
        unsafe { std::slice::from_raw_parts_mut(self.0, self.1) }
    }

    fn sync(&self) {
        assert_eq!(unsafe { libc::msync(self.0.cast(), self.1, libc::MS_SYNC) }, 0);
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        unsafe { libc::munmap(self.0.cast(), self.1) };
    }
}

#[test]
fn mappings_share_with_files_and_msync_makes_them_durable() {
    let volume = Volume::format(2, 1);
    let mount = volume.mount();
    for (name, len) in [("small", 5_000usize), ("large", 3_000_000)] {
        let mut model = noise(1, len);
        fs::write(mount.path(name), &model).unwrap();
        let file = open(&mount.path(name));
        let mut shared = Mapping::new(&file, len, libc::MAP_SHARED);
        let mut private = Mapping::new(&file, len, libc::MAP_PRIVATE);
        assert!(shared.bytes() == model && private.bytes() == model);
        private.bytes()[10..20].fill(1);
        shared.bytes()[100..200].fill(2);
        shared.bytes()[len - 50..].fill(3);
        model[100..200].fill(2);
        model[len - 50..].fill(3);
        assert!(window(&file, 0, len) == model, "read sees the mapping at once");
        file.write_all_at(&[4; 10], 300).unwrap();
        model[300..310].fill(4);
        assert!(shared.bytes() == model, "the mapping sees a write");
        assert_eq!(private.bytes()[10..20], [1; 10]);
        shared.sync();
        // A copy and a hole see what is mapped.
        shared.bytes()[400..410].fill(5);
        model[400..410].fill(5);
        let target = open(&mount.path("target"));
        target.set_len(0).unwrap();
        copy_all(&file, 0, &target, 0, len as u64);
        assert!(fs::read(mount.path("target")).unwrap() == model, "{name}: copy");
        fallocate(&file, PUNCH, 4_096, 800).unwrap();
        model[4_096..4_896].fill(0);
        assert!(shared.bytes() == model, "{name}: the hole shows in the mapping");
        shared.bytes()[600..610].fill(6);
        model[600..610].fill(6);
        shared.sync();
        drop((shared, private));
        assert!(window(&file, 0, len) == model, "{name}");
    }
    let expected: Vec<_> =
        ["small", "large"].map(|name| fs::read(mount.path(name)).unwrap()).into();
    let file = open(&mount.path("small"));
    let mut shared = Mapping::new(&file, 5_000, libc::MAP_SHARED);
    shared.bytes()[0..5].copy_from_slice(b"saved");
    shared.sync();
    // msync is as good as fsync: the mount may die now.
    mount.kill9();
    drop((shared, file));
    let mount = volume.mount();
    assert_eq!(&fs::read(mount.path("small")).unwrap()[..5], b"saved");
    assert!(fs::read(mount.path("small")).unwrap()[5..] == expected[0][5..]);
    assert!(fs::read(mount.path("large")).unwrap() == expected[1]);
}

/// Memory at a multiple of 4096.
fn aligned(bytes: &mut Vec<u8>, len: usize) -> &mut [u8] {
    bytes.resize(len + 4096, 0);
    let skip = bytes.as_ptr().align_offset(4096);
    &mut bytes[skip..skip + len]
}

#[test]
fn direct_reads_and_writes_agree_with_buffered_ones() {
    let volume = Volume::format(2, 1);
    let (a, b) = (volume.mount(), volume.mount());
    let direct = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(libc::O_DIRECT)
        .open(a.path("f"))
        .unwrap();
    let mut model = noise(1, 2 << 20);
    let mut memory = Vec::new();
    let buffer = aligned(&mut memory, 2 << 20);
    buffer.copy_from_slice(&model);
    direct.write_all_at(buffer, 0).unwrap();
    let buffered = open(&a.path("f"));
    assert!(window(&buffered, 0, model.len()) == model, "the page cache sees a direct write");
    buffered.write_all_at(&[7; 5_000], 10_001).unwrap();
    model[10_001..15_001].fill(7);
    buffer.fill(0);
    direct.read_exact_at(buffer, 0).unwrap();
    assert!(buffer == model, "a direct read sees a buffered write");
    // Neither offset, nor length, nor memory is aligned: served all the same.
    direct.write_all_at(&noise(5, 777), 12_345).unwrap();
    model[12_345..13_122].copy_from_slice(&noise(5, 777));
    assert!(window(&direct, 12_300, 1_001) == model[12_300..13_301]);
    assert!(window(&buffered, 0, model.len()) == model);
    drop((direct, buffered));
    assert!(fs::read(b.path("f")).unwrap() == model);
}

#[test]
fn synchronous_writes_and_syncs_survive_the_death_of_the_mount() {
    let volume = Volume::format(2, 2);
    let mount = volume.mount();
    let data = noise(1, 400_000);
    let with = |name: &str, flags: i32| {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).custom_flags(flags);
        options.open(mount.path(name)).unwrap()
    };
    // None is closed before the end: a close would save it, too.
    let (sync, dsync) = (with("sync", libc::O_SYNC), with("dsync", libc::O_DSYNC));
    let direct = with("direct", libc::O_SYNC | libc::O_DIRECT);
    (&sync).write_all(&data).unwrap();
    (&dsync).write_all(&data).unwrap();
    (&direct).write_all(&data).unwrap();
    (&sync).write_all(b"small").unwrap();
    let (datasync, ranged) = (with("datasync", 0), with("ranged", 0));
    (&datasync).write_all(&data).unwrap();
    datasync.sync_data().unwrap();
    (&ranged).write_all(&data).unwrap();
    ranged.sync_all().unwrap();
    fs::create_dir(mount.path("d")).unwrap();
    File::create(mount.path("d/name")).unwrap();
    let directory = File::open(mount.path("d")).unwrap();
    directory.sync_all().unwrap();
    directory.sync_data().unwrap();
    assert_eq!(unsafe { libc::syncfs(directory.as_raw_fd()) }, 0);
    mount.kill9();
    drop((sync, dsync, direct, datasync, ranged, directory));
    let mount = volume.mount();
    let expected = [&data[..], b"small"].concat();
    assert!(fs::read(mount.path("sync")).unwrap() == expected);
    for name in ["dsync", "direct", "datasync", "ranged"] {
        assert!(fs::read(mount.path(name)).unwrap() == data, "{name}");
    }
    assert!(mount.path("d/name").exists());
    drop(mount);
    let out = volume.tool("gc", &["--delete", "--dead-after", "0s"]);
    assert!(out.status.success(), "{}", mounted::text(&out));
    volume.assert_fsck_clean();
}

/// Many small changes by both mounts on files that share their blocks.
#[test]
fn mounts_that_copy_punch_and_remove_keep_each_others_blocks() {
    let volume = Volume::format(2, 1);
    let mounts = [volume.mount(), volume.mount()];
    let bytes = noise(2, 1_500_000);
    fs::write(mounts[0].path("base"), &bytes).unwrap();
    std::thread::scope(|scope| {
        for (who, mount) in mounts.iter().enumerate() {
            let bytes = &bytes;
            scope.spawn(move || {
                for round in 0..25u64 {
                    let base = File::open(mount.path("base")).unwrap();
                    let path = mount.path(&format!("copy-{who}-{round}"));
                    let target = open(&path);
                    copy_all(&base, 0, &target, 0, bytes.len() as u64);
                    fallocate(&target, PUNCH, round as i64 * 1_000, 50_000).unwrap();
                    drop(target);
                    let mut expected = bytes.clone();
                    let from = round as usize * 1_000;
                    expected[from..from + 50_000].fill(0);
                    assert!(fs::read(&path).unwrap() == expected, "{who} {round}");
                    if round % 2 == 0 {
                        fs::remove_file(&path).unwrap();
                    } else {
                        OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
                    }
                }
            });
        }
    });
    for mount in &mounts {
        assert!(fs::read(mount.path("base")).unwrap() == bytes);
    }
    fs::remove_file(mounts[0].path("base")).unwrap();
    eventually("all blocks come free", || blocks(&volume) == 0);
    assert_eq!(shared_counts(&volume), 0);
    drop(mounts);
    volume.assert_fsck_clean();
}

#[test]
fn descriptors_of_one_file_do_not_disturb_each_other() {
    let volume = Volume::format(1, 1);
    let mount = volume.mount();
    let mut file = open(&mount.path("f"));
    file.write_all(b"0123456789").unwrap();
    // A descriptor's own position is not moved by looking for holes through another.
    let again = unsafe {
        File::from_raw_fd(libc::open(
            CString::new(mount.path("f").as_os_str().as_bytes()).unwrap().as_ptr(),
            libc::O_RDONLY,
        ))
    };
    file.seek(SeekFrom::Start(3)).unwrap();
    assert_eq!(seek(&again, 0, libc::SEEK_HOLE), Ok(10));
    let mut rest = String::new();
    file.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "3456789");
}

#[test]
fn a_sparse_file_may_be_as_large_as_offsets_go() {
    let volume = Volume::format(2, 1);
    let (a, b) = (volume.mount(), volume.mount());
    let file = open(&a.path("huge"));
    let end = i64::MAX as u64;
    for spot in [0, 1 << 53, (1 << 58) + 12_345, end - 20_000] {
        file.write_all_at(&noise(spot, 20_000), spot).unwrap();
    }
    file.sync_all().unwrap();
    assert_eq!(file.metadata().unwrap().len(), end);
    let error = file.write_at(b"x", end).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "the kernel: no such offset");
    let other = File::open(b.path("huge")).unwrap();
    for spot in [0, 1 << 53, (1 << 58) + 12_345, end - 20_000] {
        assert!(window(&other, spot, 20_000) == noise(spot, 20_000), "{spot}");
        assert_eq!(seek(&other, spot.saturating_sub(100), libc::SEEK_DATA), Ok(spot));
    }
    assert_eq!(seek(&other, 20_000, libc::SEEK_HOLE), Ok(20_000));
    let free = succeed(Command::new("df").arg("--output=avail").arg(&a.place));
    assert!(free.lines().nth(1).unwrap().trim().parse::<u64>().unwrap() > 0, "{free}");
    copy_all(&file, (1 << 58) + 12_345, &file, 1 << 60, 20_000);
    assert!(window(&other, 1 << 60, 20_000) == noise((1 << 58) + 12_345, 20_000));
    fallocate(&file, PUNCH, 1 << 53, 1 << 58).unwrap();
    drop(other);
    assert!(window(&open(&b.path("huge")), 1 << 53, 20_000).iter().all(|byte| *byte == 0));
    volume.assert_fsck_clean();
    file.set_len((1 << 53) + 1).unwrap();
    file.set_len(7).unwrap();
    assert_eq!(fs::read(b.path("huge")).unwrap(), noise(0, 20_000)[..7]);
    drop(file);
    fs::remove_file(a.path("huge")).unwrap();
    eventually("its blocks go", || blocks(&volume) == 0);
    drop((a, b));
    volume.assert_fsck_clean();
}
