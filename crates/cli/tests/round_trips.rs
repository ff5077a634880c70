//! How many requests the metadata server gets for one operation of a program, through the real
//! mount, by INFO commandstats.

#![allow(clippy::unwrap_used, reason = "what fails ends the test")]

mod mounted;

use mounted::{Mounted, Volume};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

/// Operations of each kind: enough to tell one request from two beside what the heartbeat sends.
const COUNT: u64 = 200;

/// Heartbeats, ranges of numbers, and the split of a directory's bucket: what is not per operation.
const BESIDES: u64 = 20;

/// Requests that clients sent: scripts and plain reads (commands inside scripts count separately).
fn requests(volume: &Volume) -> u64 {
    let stats = volume.meta.commandstats();
    // A script's own HGETs are counted as HGET too, so a plain getattr cannot be told from them:
    // count the scripts, and the getattrs by what the scripts cannot explain in their own test.
    stats.get("evalsha").copied().unwrap_or(0) + stats.get("eval").copied().unwrap_or(0)
}

fn each(volume: &Volume, what: &str, expected: u64, mut operation: impl FnMut(u64)) {
    let before = requests(volume);
    (0..COUNT).for_each(&mut operation);
    let sent = requests(volume) - before;
    let range = COUNT * expected..=COUNT * expected + BESIDES;
    assert!(range.contains(&sent), "{what}: {sent} requests for {COUNT} operations");
    println!("{what}: {:.2} requests each", sent as f64 / COUNT as f64);
}

fn prepared() -> (Volume, Mounted) {
    let volume = Volume::format(1, 1);
    let mount = volume.mount();
    for i in 0..COUNT {
        fs::write(mount.path(&format!("old{i}")), "x".repeat(4096)).unwrap();
    }
    drop(mount);
    // A new mount, whose kernel knows nothing.
    let mount = volume.mount();
    (volume, mount)
}

#[test]
fn each_operation_is_one_round_trip() {
    let (volume, mount) = prepared();
    let p = |name: String| mount.path(&name);
    each(&volume, "lookup", 1, |i| assert!(p(format!("old{i}")).exists()));
    each(&volume, "lookup, cached", 0, |i| assert!(p(format!("old{i}")).exists()));
    each(&volume, "open, read and close of a 4 KiB file", 1, |i| {
        assert_eq!(fs::read(p(format!("old{i}"))).unwrap().len(), 4096);
    });
    each(&volume, "chmod", 1, |i| {
        fs::set_permissions(p(format!("old{i}")), fs::Permissions::from_mode(0o600)).unwrap();
    });
    fs::create_dir(p("d".into())).unwrap();
    each(&volume, "create and close", 1, |i| drop(File::create_new(p(format!("d/f{i}"))).unwrap()));
    // Owner, user 1000, group, mask, others; see acl(5). What is inherited comes along.
    fs::create_dir(p("acl".into())).unwrap();
    let mut acl = 2u32.to_le_bytes().to_vec();
    for (tag, id) in [(1u32, u32::MAX), (2, 1000), (4, u32::MAX), (16, u32::MAX), (32, u32::MAX)] {
        acl.extend((tag | 7 << 16).to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    let (dir, how) = (p("acl".into()), rustix::fs::XattrFlags::empty());
    rustix::fs::setxattr(&dir, "system.posix_acl_default", &acl, how).unwrap();
    each(&volume, "create and close below a default ACL", 1, |i| {
        drop(File::create_new(p(format!("acl/f{i}"))).unwrap());
    });
    each(&volume, "mkdir", 1, |i| fs::create_dir(p(format!("d/d{i}"))).unwrap());
    each(&volume, "symlink", 1, |i| {
        std::os::unix::fs::symlink("f0", p(format!("d/s{i}"))).unwrap();
    });
    each(&volume, "link", 1, |i| fs::hard_link(p("d/f0".into()), p(format!("d/l{i}"))).unwrap());
    each(&volume, "rename", 1, |i| {
        fs::rename(p(format!("d/f{i}")), p(format!("d/r{i}"))).unwrap();
    });
    each(&volume, "unlink", 1, |i| fs::remove_file(p(format!("d/r{i}"))).unwrap());
    each(&volume, "rmdir", 1, |i| fs::remove_dir(p(format!("d/d{i}"))).unwrap());
    each(&volume, "create, write 4 KiB and close", 2, |i| {
        let mut file = File::create_new(p(format!("d/w{i}"))).unwrap();
        file.write_all(&[1; 4096]).unwrap();
    });
    let locked = File::open(p("d/w1".into())).unwrap();
    each(&volume, "lock", 1, |i| {
        if i % 2 == 0 { locked.lock() } else { locked.lock_shared() }.unwrap()
    });
    each(&volume, "lock and unlock", 2, |_| {
        locked.lock().unwrap();
        locked.unlock().unwrap();
    });
    let path = p("d/w0".into());
    let mut appended = File::options().append(true).open(&path).unwrap();
    each(&volume, "write and fsync", 1, |_| {
        appended.write_all(b"line\n").unwrap();
        appended.sync_all().unwrap();
    });
}
