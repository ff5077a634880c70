//! Quotas through real mounts: the errors that programs get, and that nothing is half done.

#![allow(clippy::unwrap_used, reason = "what fails ends the test")]

mod mounted;

use mounted::{Mounted, RINGFS, Volume, eventually, succeed, text};
use std::fs::{self, File};
use std::io::{Error, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

const EXDEV: Option<i32> = Some(18);
const EDQUOT: Option<i32> = Some(122);
/// Somebody who is not root.
const SOMEBODY: u32 = 12_345;

fn quota(args: &[&str]) {
    succeed(Command::new(RINGFS).arg("quota").args(args));
}

fn list(volume: &Volume) -> Vec<serde_json::Value> {
    let out = volume.tool("quota list", &["--json"]);
    assert!(out.status.success(), "{}", text(&out));
    serde_json::from_slice::<serde_json::Value>(&out.stdout).unwrap().as_array().unwrap().clone()
}

fn used(volume: &Volume, kind: &str) -> (u64, u64) {
    let all = list(volume);
    let of = all.iter().find(|quota| quota["kind"] == kind).unwrap();
    (of["inodes"].as_u64().unwrap(), of["bytes"].as_u64().unwrap())
}

fn errno<T: std::fmt::Debug>(result: Result<T, Error>) -> Option<i32> {
    result.unwrap_err().raw_os_error()
}

fn as_somebody(mount: &Mounted, script: &str) -> Output {
    Command::new("sh")
        .args(["-c", script])
        .current_dir(&mount.place)
        .uid(SOMEBODY)
        .gid(SOMEBODY)
        .output()
        .unwrap()
}

/// A tree "t" in a mounted volume.
fn with_tree(inodes: &str, bytes: &str) -> (Volume, Mounted) {
    let volume = Volume::format(1, 1);
    let mount = volume.mount_with(&["--write-back", "50ms"]);
    let place = mount.place.to_str().unwrap();
    let tree = mount.path("t");
    fs::create_dir(&tree).unwrap();
    let tree = tree.to_str().unwrap();
    quota(&["set", place, "--tree", tree, "--inodes", inodes, "--bytes", bytes]);
    (volume, mount)
}

#[test]
fn a_full_tree_gives_edquot_and_nothing_is_half_done() {
    let (volume, mount) = with_tree("4", "100KiB");
    let p = |name: &str| mount.path(name);
    fs::create_dir(p("outside")).unwrap();
    fs::write(p("outside/f"), "x").unwrap();
    // Bytes: the whole of it fits, not one more.
    let mut file = File::create_new(p("t/a")).unwrap();
    file.write_all(&[1; 100 << 10]).unwrap();
    file.sync_all().unwrap();
    file.write_all(b"x").unwrap();
    assert_eq!(errno(file.sync_all()), EDQUOT);
    assert_eq!(fs::metadata(p("t/a")).unwrap().len(), 100 << 10);
    assert_eq!(errno(file.set_len((100 << 10) + 1)), EDQUOT);
    assert_eq!(
        errno(
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 200 << 10)
                .map_err(Error::from)
        ),
        EDQUOT
    );
    // What is written over needs no room, and a smaller file gives it back.
    fs::write(p("t/a"), "short").unwrap();
    drop(file);
    // Inodes: the tree itself is one.
    fs::create_dir(p("t/d")).unwrap();
    std::os::unix::fs::symlink("a", p("t/s")).unwrap();
    assert_eq!(errno(File::create(p("t/e"))), EDQUOT);
    assert_eq!(errno(fs::create_dir(p("t/e"))), EDQUOT);
    assert_eq!(errno(std::os::unix::fs::symlink("a", p("t/e"))), EDQUOT);
    assert!(!p("t/e").exists());
    assert_eq!(fs::read_dir(p("t")).unwrap().count(), 3);
    // The border.
    assert_eq!(errno(fs::rename(p("outside"), p("t/d/o"))), EXDEV);
    assert_eq!(errno(fs::rename(p("outside/f"), p("t/d/f"))), EDQUOT);
    assert_eq!(errno(fs::rename(p("t/d"), p("d"))), EXDEV);
    assert_eq!(errno(fs::hard_link(p("outside/f"), p("t/f"))), EXDEV);
    fs::remove_file(p("t/s")).unwrap();
    fs::rename(p("outside/f"), p("t/d/f")).unwrap();
    // mv copies where rename may not.
    succeed(Command::new("mv").args([p("t/d"), p("d")]));
    assert_eq!(fs::read(p("d/f")).unwrap(), b"x");
    eventually("what was moved away counts no more", || used(&volume, "tree") == (2, 5));
    // statfs tells what the tree leaves.
    let stat = rustix::fs::statvfs(p("t")).unwrap();
    assert_eq!((stat.f_blocks * stat.f_frsize, stat.f_files), (100 << 10, 4));
    assert!(rustix::fs::statvfs(p("d")).unwrap().f_blocks > stat.f_blocks);
    volume.assert_fsck_clean();
}

#[test]
fn a_write_that_goes_on_beyond_its_quota_is_told_before_close() {
    let (volume, mount) = with_tree("0", "64KiB");
    let mut file = File::create_new(mount.path("t/a")).unwrap();
    file.write_all(&[1; 60 << 10]).unwrap();
    file.sync_all().unwrap();
    let mut failed = None;
    eventually("a write fails", || {
        failed = file.write(&[2; 8 << 10]).err();
        failed.is_some()
    });
    assert_eq!(failed.unwrap().raw_os_error(), EDQUOT);
    assert_eq!(errno(file.sync_all()), EDQUOT);
    // What was lost has been told; the file is as it was synced, and usable.
    assert_eq!(fs::metadata(mount.path("t/a")).unwrap().len(), 60 << 10);
    file.set_len(0).unwrap();
    drop(file);
    fs::write(mount.path("t/a"), vec![3; 64 << 10]).unwrap();
    assert_eq!(used(&volume, "tree"), (2, 64 << 10));
    drop(mount);
    volume.assert_fsck_clean();
}

/// A child process closes what it inherits, and a program may close a second descriptor: whoever
/// has the file open must hear of the loss all the same.
#[test]
fn writes_that_are_lost_are_told_to_every_open_file() {
    let (volume, mount) = with_tree("0", "64KiB");
    let path = mount.path("t/a");
    let mut file = File::create(&path).unwrap();
    let second = File::options().write(true).open(&path).unwrap();
    file.write_all(&[7; 100_000]).unwrap();
    let inherited = file.try_clone().unwrap();
    drop(inherited); // the first to be told, and it does not listen
    let later = File::options().write(true).open(&path).unwrap();
    assert_eq!(errno(file.sync_all()), EDQUOT);
    file.sync_all().unwrap();
    assert_eq!(errno(second.sync_all()), EDQUOT);
    second.sync_all().unwrap();
    later.sync_all().unwrap();
    drop((file, second, later));
    fs::write(&path, [1; 1000]).unwrap();
    drop(mount);
    volume.assert_fsck_clean();
}

#[test]
fn users_are_limited_and_root_is_not() {
    let volume = Volume::format(1, 1);
    let mount = volume.mount_with(&["--allow-other"]);
    let url = volume.url();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::create_dir(mount.path("d")).unwrap();
    fs::set_permissions(mount.path("d"), open).unwrap();
    let ok = |script: &str| {
        let out = as_somebody(&mount, script);
        assert!(out.status.success(), "{script}: {}", text(&out));
    };
    let refused = |script: &str| {
        let out = as_somebody(&mount, script);
        assert!(
            !out.status.success() && text(&out).contains("quota exceeded"),
            "{script}: {}",
            text(&out)
        );
    };
    ok("echo before > d/before");
    quota(&["set", &url, "--user", "12345", "--inodes", "3", "--bytes", "1MiB"]);
    assert_eq!(used(&volume, "group").0 + 1, 3, "root's group: the root and d");
    ok("echo one > d/one && mkdir d/two");
    refused("echo three > d/three");
    refused("mkdir d/three");
    refused("dd if=/dev/zero of=d/one bs=64k count=20 conv=fsync 2>&1");
    ok("head -c 1000000 /dev/zero > d/one");
    // Root may write, and give away, beyond the limits; it counts all the same.
    fs::write(mount.path("d/one"), vec![0; 2 << 20]).unwrap();
    fs::write(mount.path("d/gift"), "gift").unwrap();
    std::os::unix::fs::chown(mount.path("d/gift"), Some(SOMEBODY), None).unwrap();
    refused("dd if=/dev/zero of=d/before bs=1 count=5 oflag=append conv=notrunc,fsync 2>&1");
    ok(
        "rm d/one d/gift && dd if=/dev/zero of=d/before bs=1 count=5 oflag=append conv=notrunc,fsync",
    );
    let all = list(&volume);
    let of = all.iter().find(|quota| quota["id"] == SOMEBODY && quota["kind"] == "user").unwrap();
    assert_eq!((of["inodes"].as_u64(), of["bytes"].as_u64()), (Some(2), Some(12)));
    drop(mount);
    volume.assert_fsck_clean();
    quota(&["off", &url]);
    assert!(list(&volume).is_empty());
    volume.assert_fsck_clean();
}

#[test]
fn two_mounts_never_exceed_a_quota_together() {
    let (volume, one) = with_tree("0", "512KiB");
    let two = volume.mount();
    let written: u64 = std::thread::scope(|scope| {
        let work: Vec<_> = [&one, &two]
            .into_iter()
            .enumerate()
            .map(|(who, mount)| {
                scope.spawn(move || {
                    let mut written = 0;
                    for i in 0..30 {
                        let path = mount.path(&format!("t/{who}-{i}"));
                        let done = File::create(&path).and_then(|mut file| {
                            file.write_all(&[7; 20_000])?;
                            file.sync_all()
                        });
                        match done {
                            Ok(()) => written += 20_000,
                            Err(error) => assert_eq!(error.raw_os_error(), EDQUOT),
                        }
                    }
                    written
                })
            })
            .collect();
        work.into_iter().map(|one| one.join().unwrap()).sum()
    });
    assert_eq!(written, (512 << 10) / 20_000 * 20_000);
    assert_eq!(used(&volume, "tree"), (61, written));
    drop((one, two));
    volume.assert_fsck_clean();
}

#[test]
fn the_command_says_what_is_wrong() {
    let (volume, mount) = with_tree("4", "0");
    let (url, place) = (volume.url(), mount.place.to_str().unwrap().to_owned());
    fs::create_dir(mount.path("t/in")).unwrap();
    fs::write(mount.path("f"), "").unwrap();
    let fails = |args: &[&str], code: i32, says: &str| {
        let out = Command::new(RINGFS).arg("quota").args(args).output().unwrap();
        assert_eq!(out.status.code(), Some(code), "{args:?}: {}", text(&out));
        assert!(text(&out).contains(says), "{args:?}: {}", text(&out));
    };
    fails(&["set", &url, "--tree", "/t/in", "--bytes", "1"], 5, "cannot lie in another");
    fails(&["set", &url, "--tree", "/", "--bytes", "1"], 5, "cannot lie in another");
    fails(&["set", &url, "--tree", "/f", "--bytes", "1"], 2, "is no directory");
    fails(&["set", &url, "--tree", "/gone", "--bytes", "1"], 1, "/gone");
    fails(&["set", &url, "--tree", "/t"], 2, "--inodes");
    fails(&["set", &url, "--user", "nobody-knows-me", "--bytes", "1"], 2, "nobody-knows-me");
    fails(&["remove", &url, "--tree", "/t/in"], 1, "no quota");
    fails(&["show", &url, "--user", "5"], 1, "not counted");
    let shown = volume.tool("quota show", &["--tree", "/t"]);
    assert!(text(&shown).contains("tree /t"), "{}", text(&shown));
    quota(&["remove", &place, "--tree", &format!("{place}/t")]);
    assert!(text(&volume.tool("quota list", &[])).contains("no quotas"));
}
