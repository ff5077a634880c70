//! `ringfs clone`: what the copy has, that no data move, and what a clone leaves that is killed.

#![allow(clippy::unwrap_used, reason = "what fails ends the test")]

mod mounted;

use mounted::{Mounted, RINGFS, Volume, eventually, noise, succeed, text};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const CHUNK: u64 = 64 << 20;

fn clone(from: &Path, to: &Path) -> Output {
    Command::new(RINGFS).arg("clone").arg(from).arg(to).output().unwrap()
}

fn blocks(volume: &Volume) -> i64 {
    volume.block_keys()
}

fn inodes(volume: &Volume) -> u64 {
    let reply = volume.meta.command(&["HGET", "rfs:{demo/0}:c", "inodes"]);
    String::from_utf8(reply.into_some_bytes().unwrap().to_vec()).unwrap().parse().unwrap()
}

fn c(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

fn set_xattr(path: &Path, value: &str) {
    let (name, at) = (CString::new("user.note").unwrap(), value.as_ptr().cast());
    let done = unsafe { libc::lsetxattr(c(path).as_ptr(), name.as_ptr(), at, value.len(), 0) };
    assert_eq!(done, 0);
}

fn xattr(path: &Path) -> Option<Vec<u8>> {
    let (name, mut value) = (CString::new("user.note").unwrap(), vec![0; 100]);
    let at = value.as_mut_ptr().cast();
    let len = unsafe { libc::lgetxattr(c(path).as_ptr(), name.as_ptr(), at, 100) };
    (len >= 0).then(|| value[..len as usize].to_vec())
}

/// All that a copy must have, by path: kind and mode, owner, times, size, attribute, content. The
/// names that lead to one file are told by the first of them.
fn describe(top: &Path) -> BTreeMap<PathBuf, String> {
    let mut out = BTreeMap::new();
    let mut first_names: BTreeMap<u64, PathBuf> = BTreeMap::new();
    let mut todo = vec![top.to_owned()];
    while let Some(path) = todo.pop() {
        let facts = path.symlink_metadata().unwrap();
        let name = path.strip_prefix(top).unwrap().to_owned();
        let content = if facts.is_dir() {
            let mut below: Vec<PathBuf> =
                fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
            below.sort();
            todo.extend(below.into_iter().rev());
            String::new()
        } else if facts.is_file() && facts.len() < 100 << 20 {
            let bytes = fs::read(&path).unwrap();
            let sum = bytes.iter().fold(7u64, |sum, byte| {
                sum.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(u64::from(*byte) + 1)
            });
            format!("{sum:x}")
        } else if facts.is_symlink() {
            format!("{:?}", fs::read_link(&path).unwrap())
        } else {
            format!("device {}", facts.rdev())
        };
        let first = first_names.entry(facts.ino()).or_insert_with(|| name.clone()).clone();
        let links = if facts.is_dir() { 0 } else { facts.nlink() };
        let times = [facts.mtime(), facts.mtime_nsec(), facts.atime(), facts.atime_nsec()];
        out.insert(
            name,
            format!(
                "{:o} {}:{} {links} {times:?} {} {:?} {content} {first:?}",
                facts.mode(),
                facts.uid(),
                facts.gid(),
                if facts.is_dir() { 0 } else { facts.len() },
                xattr(&path)
            ),
        );
    }
    out
}

fn build(mount: &Mounted) {
    let p = |name: &str| mount.path(&format!("tree/{name}"));
    fs::create_dir(mount.path("tree")).unwrap();
    for dir in ["a", "a/b", "a/b/c", "empty", "many"] {
        fs::create_dir(p(dir)).unwrap();
    }
    for i in 0..150u64 {
        fs::write(p(&format!("many/f{i}")), noise(i, i as usize * 100)).unwrap();
    }
    fs::write(p("a/inline"), "small").unwrap();
    fs::write(p("a/b/large"), noise(1, 3_000_000)).unwrap();
    fs::hard_link(p("a/b/large"), p("a/b/c/again")).unwrap();
    fs::hard_link(p("a/b/large"), p("many/again")).unwrap();
    fs::hard_link(p("many/f7"), p("many/f7-again")).unwrap();
    symlink("a/inline", p("link")).unwrap();
    symlink("/nowhere", p("a/broken")).unwrap();
    let fifo = unsafe { libc::mkfifo(c(&p("pipe")).as_ptr(), 0o622) };
    assert_eq!(fifo, 0);
    for path in ["a/inline", "a/b", "a/b/large"] {
        set_xattr(&p(path), path);
    }
    std::os::unix::fs::lchown(p("a/inline"), Some(1234), Some(567)).unwrap();
    std::os::unix::fs::lchown(p("link"), Some(12), Some(34)).unwrap();
    fs::set_permissions(p("a/inline"), fs::Permissions::from_mode(0o4711)).unwrap();
    fs::set_permissions(p("a/b"), fs::Permissions::from_mode(0o1750)).unwrap();
    let old = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000, 123_456_789);
    let times = fs::FileTimes::new().set_modified(old).set_accessed(old);
    for path in ["a/inline", "a/b", "many"] {
        fs::File::open(p(path)).unwrap().set_times(times).unwrap();
    }
}

#[test]
fn a_cloned_tree_has_everything_and_moves_no_data() {
    let volume = Volume::format(3, 2);
    let (a, b) = (volume.mount(), volume.mount());
    build(&a);
    let (before, count) = (blocks(&volume), inodes(&volume));
    let expected = describe(&a.path("tree"));
    // The other mount believes that there is no such name.
    assert!(!b.path("copy").exists());
    succeed(Command::new(RINGFS).arg("clone").arg(a.path("tree")).arg(b.path("copy")));
    eventually("the other mount hears of the copy", || a.path("copy").exists());
    assert_eq!(describe(&b.path("copy")), expected);
    assert_eq!(describe(&a.path("copy")), expected);
    assert_eq!(describe(&a.path("tree")), expected, "the original is as it was");
    assert_eq!(blocks(&volume), before, "no data moved");
    assert!(b.path("copy/pipe").symlink_metadata().unwrap().file_type().is_fifo());
    // All inodes but the root twice, and nothing else.
    eventually("the place where it was built goes", || inodes(&volume) == 2 * count - 1);
    volume.assert_fsck_clean();

    let out = clone(&a.path("tree"), &a.path("copy"));
    assert!(!out.status.success() && text(&out).contains("exists"), "{}", text(&out));
    // From a copy, into the original itself, and one file alone.
    let out = clone(&a.path("copy"), &b.path("tree/a/inside"));
    assert!(out.status.success(), "{}", text(&out));
    eventually("it is seen", || a.path("tree/a/inside").exists());
    assert_eq!(describe(&a.path("tree/a/inside")), expected);
    let out = clone(&a.path("tree/a/b/large"), &a.path("alone"));
    assert!(out.status.success(), "{}", text(&out));
    eventually("it is seen", || b.path("alone").exists());
    assert!(fs::read(b.path("alone")).unwrap() == noise(1, 3_000_000));
    assert_eq!(blocks(&volume), before);

    // Original and copies go their own ways.
    fs::remove_dir_all(b.path("tree")).unwrap();
    eventually("removed here as well", || !a.path("tree").exists());
    assert_eq!(describe(&a.path("copy")), expected);
    let changed = OpenOptions::new().write(true).open(a.path("copy/a/b/large")).unwrap();
    changed.write_all_at(b"changed", 5).unwrap();
    drop(changed);
    assert!(fs::read(b.path("alone")).unwrap() == noise(1, 3_000_000));
    fs::remove_dir_all(a.path("copy")).unwrap();
    fs::remove_file(a.path("alone")).unwrap();
    eventually("all blocks come free", || blocks(&volume) == 0);
    drop((a, b));
    volume.assert_fsck_clean();
}

#[test]
fn a_file_of_many_chunks_is_cloned_in_parts() {
    let volume = Volume::format(1, 1);
    let mount = volume.mount();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(mount.path("sparse"))
        .unwrap();
    file.write_all_at(b"inline first", 0).unwrap();
    file.sync_all().unwrap();
    for chunk in 1..300 {
        file.write_all_at(&noise(chunk, 9_000), chunk * CHUNK + 17).unwrap();
    }
    file.set_len(1 << 40).unwrap();
    let before = blocks(&volume);
    let out = clone(&mount.path("sparse"), &mount.path("copy"));
    assert!(out.status.success(), "{}", text(&out));
    let copy = fs::File::open(mount.path("copy")).unwrap();
    let (old, new) = (file.metadata().unwrap(), copy.metadata().unwrap());
    assert_eq!((new.len(), new.mtime_nsec()), (1 << 40, old.mtime_nsec()));
    let mut bytes = vec![0; 9_000];
    for chunk in 1..300 {
        copy.read_exact_at(&mut bytes, chunk * CHUNK + 17).unwrap();
        assert!(bytes == noise(chunk, 9_000), "chunk {chunk}");
    }
    copy.read_exact_at(&mut bytes[..13], 0).unwrap();
    assert_eq!(&bytes[..13], b"inline first\0");
    assert_eq!(blocks(&volume), before);
    drop((file, copy));
    fs::remove_file(mount.path("sparse")).unwrap();
    fs::remove_file(mount.path("copy")).unwrap();
    eventually("all blocks come free", || blocks(&volume) == 0);
    drop(mount);
    volume.assert_fsck_clean();
}

#[test]
fn a_killed_clone_shows_nothing_and_leaves_what_gc_removes() {
    let volume = Volume::format(1, 1);
    let mount = volume.mount();
    fs::create_dir_all(mount.path("all/0")).unwrap();
    for i in 0..200u64 {
        fs::write(mount.path(&format!("all/0/f{i}")), noise(i, 10_000)).unwrap();
    }
    for doubling in 0..6 {
        let to = mount.path(&format!("next{doubling}"));
        let out = clone(&mount.path("all"), &to);
        assert!(out.status.success(), "{}", text(&out));
        fs::rename(&to, mount.path(&format!("all/{}", doubling + 1))).unwrap();
    }
    eventually("the places where these were built go", || {
        volume.meta.command(&["ZCARD", "rfs:{demo/0}:o"]).into_int().unwrap() == 0
    });
    let (before, count) = (blocks(&volume), inodes(&volume));
    assert!(count > 12_000 && before == 200);
    let mut child = Command::new(RINGFS)
        .arg("clone")
        .arg(mount.path("all"))
        .arg(mount.path("never"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("half of it is built", || inodes(&volume) > count + 1_000);
    child.kill().unwrap();
    let ended = child.wait().unwrap();
    assert!(!ended.success(), "it was killed in time");
    assert!(!mount.path("never").exists());
    drop(mount);
    // A session counts as dead when its last sign of life is of an earlier second.
    eventually("gc removes what was built", || {
        let out = volume.tool("gc", &["--delete", "--dead-after", "0s"]);
        assert!(out.status.success(), "{}", text(&out));
        inodes(&volume) == count
    });
    volume.assert_fsck_clean();
    assert_eq!(blocks(&volume), before);
}
