//! How a mount ends when its servers are gone.

#![allow(clippy::unwrap_used, reason = "what fails ends the test")]

mod mounted;

use mounted::{Mounted, RINGFS, Volume, eventually, text};
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn an_unmount_without_servers_and_with_nothing_to_save_is_quick() {
    for frozen in [false, true] {
        let mut volume = Volume::format(1, 1);
        let mount = volume.mount();
        std::fs::write(mount.path("f"), b"saved").unwrap();
        if frozen {
            volume.meta.stop();
            volume.nodes[0].stop();
        } else {
            volume.meta.kill9();
            volume.nodes[0].kill9();
        }
        let begin = Instant::now();
        let out = Command::new(RINGFS).arg("umount").arg(&mount.place).output().unwrap();
        let took = begin.elapsed();
        assert!(out.status.success(), "{}\n{}", text(&out), mount.log());
        assert!(took < Duration::from_secs(8), "{took:?}\n{}", mount.log());
        if frozen {
            volume.meta.cont();
            volume.nodes[0].cont();
        }
    }
}

/// A program that has a file open with bytes written to it. Not this one: whatever it starts would
/// inherit the file and close it, and be told of what failed.
fn holder(mount: &Mounted) -> Child {
    let path = mount.path("f");
    let file = std::fs::File::create(&path).unwrap();
    let mut cat = Command::new("cat")
        .stdin(Stdio::piped())
        .stdout(file)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    cat.stdin.as_mut().unwrap().write_all(&[7; 12_345]).unwrap();
    eventually("it is written", || std::fs::metadata(&path).unwrap().len() == 12_345);
    cat
}

fn terminate(mount: &Mounted) {
    let pid = rustix::process::Pid::from_raw(mount.child.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
}

#[test]
fn a_mount_that_ends_waits_for_a_node_that_comes_back() {
    let mut volume = Volume::format(1, 1);
    let mut mount = volume.mount_with(&["--write-back", "1h"]);
    let mut holder = holder(&mount);
    volume.nodes[0].kill9();
    terminate(&mount);
    eventually("it begins to save", || mount.log().contains("write-back failed"));
    volume.nodes[0].restart();
    let status = mount.child.wait().unwrap();
    drop(holder.stdin.take());
    holder.wait().unwrap();
    assert!(status.success(), "{}", mount.log());
    let again = volume.mount();
    assert!(std::fs::read(again.path("f")).unwrap() == [7; 12_345], "{}", mount.log());
}

#[test]
fn a_mount_that_ends_without_servers_says_what_is_lost() {
    let mut volume = Volume::format(1, 1);
    let mut mount = volume.mount_with(&["--write-back", "1h"]);
    let mut holder = holder(&mount);
    volume.meta.kill9();
    volume.nodes[0].kill9();
    let begin = Instant::now();
    terminate(&mount);
    let status = mount.child.wait().unwrap();
    let (took, log) = (begin.elapsed(), mount.log());
    drop(holder.stdin.take());
    holder.wait().unwrap();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("12345 bytes written to 1 files are lost"), "{log}");
    assert!(took < Duration::from_secs(40), "{took:?}\n{log}");
}
