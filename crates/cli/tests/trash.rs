//! The trash through real mounts: what is deleted can be put back until it expires.

#![allow(clippy::unwrap_used, reason = "what fails ends the test")]

mod mounted;

use mounted::{Mounted, RINGFS, Volume, eventually, noise, succeed, text};
use ringfs_testkit::ServerOptions;
use std::fs;
use std::io::{Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::process::Command;

fn with_trash(keep: &str) -> (Volume, Mounted) {
    let volume = Volume::format_with(ServerOptions::default(), 1, 1, &["--trash", keep]);
    let mount = volume.mount();
    (volume, mount)
}

fn listed(volume: &Volume) -> Vec<String> {
    let out = volume.tool("trash list", &["--json"]);
    assert!(out.status.success(), "{}", text(&out));
    let all: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let path = |item: &serde_json::Value| item["path"].as_str().unwrap_or("(gone)").to_owned();
    let mut paths: Vec<String> = all.as_array().unwrap().iter().map(path).collect();
    paths.sort();
    paths
}

fn restore(volume: &Volume, paths: &[&str]) -> String {
    let out = volume.tool("trash restore", paths);
    assert!(out.status.success(), "{}", text(&out));
    text(&out)
}

#[test]
fn files_and_trees_come_back_as_they_were() {
    let (volume, mount) = with_trash("7d");
    let p = |name: &str| mount.path(name);
    let big = noise(1, 3 << 20);
    fs::create_dir_all(p("d/e/empty")).unwrap();
    fs::write(p("d/big"), &big).unwrap();
    fs::write(p("d/e/small"), "small").unwrap();
    std::os::unix::fs::symlink("e/small", p("d/link")).unwrap();
    fs::hard_link(p("d/e/small"), p("d/second")).unwrap();
    fs::write(p("other"), "first").unwrap();
    let mut open = fs::File::open(p("d/big")).unwrap();
    succeed(Command::new("rm").args(["-r".into(), p("d")]));
    assert!(!p("d").exists());
    // Who has it open reads on.
    let mut read = Vec::new();
    open.rewind().unwrap();
    open.read_to_end(&mut read).unwrap();
    assert_eq!(read, big);
    drop(open);
    // A file that a rename replaces is deleted, too.
    fs::write(p("new"), "second").unwrap();
    fs::rename(p("new"), p("other")).unwrap();
    let paths = listed(&volume);
    assert_eq!(paths.len(), 7, "{paths:?}");
    for path in ["/d", "/d/big", "/d/e", "/d/e/empty", "/d/link", "/other"] {
        assert!(paths.iter().any(|found| found == path), "{path} of {paths:?}");
    }
    volume.assert_fsck_clean();
    // One below two directories that are in the trash.
    restore(&volume, &["/d/e"]);
    assert!(p("d/e/empty").is_dir() && !p("d/big").exists());
    restore(&volume, &["/d"]);
    assert_eq!(fs::read(p("d/big")).unwrap(), big);
    assert_eq!(fs::read_link(p("d/link")).unwrap().to_str(), Some("e/small"));
    let small = [p("d/e/small"), p("d/second")].iter().filter(|path| path.exists()).count();
    assert_eq!(small, 1, "of two names the last one was kept");
    assert_eq!(listed(&volume), ["/other"]);
    // Its name is taken.
    let said = restore(&volume, &["--all"]);
    let name = said.trim().trim_start_matches('/');
    assert!(name.starts_with("other.deleted-"), "{said}");
    assert_eq!(fs::read(p(name)).unwrap(), b"first");
    assert_eq!(fs::read(p("other")).unwrap(), b"second");
    volume.assert_fsck_clean();
    // The same name twice: the last one deleted gets it.
    for text in ["one", "two"] {
        fs::write(p("again"), text).unwrap();
        fs::remove_file(p("again")).unwrap();
    }
    restore(&volume, &["/again"]);
    assert_eq!(fs::read(p("again")).unwrap(), b"two");
    volume.assert_fsck_clean();
}

#[test]
fn what_is_deleted_in_the_trash_is_gone_and_it_cannot_be_removed() {
    let (volume, mount) = with_trash("1h");
    let p = |name: &str| mount.path(name);
    fs::write(p("f"), noise(2, 2 << 20)).unwrap();
    fs::remove_file(p("f")).unwrap();
    let slot = fs::read_dir(p(".trash")).unwrap().next().unwrap().unwrap().path();
    let item = fs::read_dir(&slot).unwrap().next().unwrap().unwrap().path();
    assert_eq!(fs::metadata(&item).unwrap().len(), 2 << 20);
    fs::remove_file(&item).unwrap();
    fs::remove_dir(&slot).unwrap();
    assert_eq!(fs::remove_dir(p(".trash")).unwrap_err().raw_os_error(), Some(1));
    assert!(listed(&volume).is_empty());
    // The command empties it, and blocks go with it.
    fs::write(p("g"), noise(3, 2 << 20)).unwrap();
    fs::remove_file(p("g")).unwrap();
    let out = volume.tool("trash empty", &[]);
    assert!(text(&out).contains("Removed 1"), "{}", text(&out));
    assert!(listed(&volume).is_empty());
    eventually("no inode is left but the root and the trash", || {
        text(&volume.tool("fsck", &["--deep"])).contains("2 inodes (2 directories), 1 names, 0 B")
    });
    volume.assert_fsck_clean();
    // Off again: deleted is gone.
    assert!(volume.tool("trash set", &["off"]).status.success());
    fs::write(p("h"), "h").unwrap();
    fs::remove_file(p("h")).unwrap();
    assert!(listed(&volume).is_empty());
    fs::remove_dir(p(".trash")).unwrap();
}

#[test]
fn a_clone_of_the_whole_tree_has_no_part_in_the_trash() {
    let (volume, mount) = with_trash("7d");
    fs::create_dir(mount.path("kept")).unwrap();
    fs::write(mount.path("kept/file"), "stays").unwrap();
    fs::write(mount.path("gone"), "deleted").unwrap();
    fs::remove_file(mount.path("gone")).unwrap();
    succeed(Command::new(RINGFS).arg("clone").arg(mount.path("")).arg(mount.path("copy")));
    let mut names: Vec<_> =
        fs::read_dir(mount.path("copy")).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["kept"]);
    assert_eq!(fs::metadata(mount.path("copy")).unwrap().nlink(), 3);
    assert_eq!(fs::read(mount.path("copy/kept/file")).unwrap(), b"stays");
    volume.assert_fsck_clean();
}

#[test]
fn what_has_expired_is_removed_by_one_of_two_mounts() {
    let (volume, one) = with_trash("2s");
    let two = volume.mount();
    let place = one.place.to_str().unwrap();
    fs::create_dir(one.path("t")).unwrap();
    let tree = one.path("t");
    succeed(
        Command::new(RINGFS)
            .args(["quota", "set", place, "--tree"])
            .arg(&tree)
            .args(["--inodes", "9"]),
    );
    fs::create_dir(one.path("t/d")).unwrap();
    fs::write(two.path("t/d/f"), noise(4, 2 << 20)).unwrap();
    fs::write(one.path("t/g"), "g").unwrap();
    fs::remove_file(one.path("t/d/f")).unwrap();
    fs::remove_dir(two.path("t/d")).unwrap();
    fs::remove_file(two.path("t/g")).unwrap();
    // Until then it counts.
    let quota = |what: &str| text(&volume.tool("quota list", &["--json"])).contains(what);
    assert!(quota("\"inodes\": 4") || listed(&volume).len() < 3);
    eventually("the trash clears itself", || listed(&volume).is_empty());
    eventually("and with it what counts", || quota("\"inodes\": 1") && quota("\"bytes\": 0"));
    eventually("its directories go, too", || {
        fs::read_dir(one.path(".trash")).unwrap().count() == 0
    });
    drop((one, two));
    let fsck = text(&volume.tool("fsck", &["--deep"]));
    assert!(!fsck.contains("damage"), "{fsck}");
}
