//! Files of which no copy can be had: they give EIO and are named, everything else goes on, and what
//! returns is used again.

#![allow(clippy::unwrap_used, reason = "what fails ends the test")]

mod mounted;

use mounted::{Volume, eventually, noise, text};
use std::fs;

fn status(volume: &Volume) -> serde_json::Value {
    let out = volume.tool("status", &["--json"]);
    serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&out)))
}

fn unreadable(volume: &Volume) -> Vec<String> {
    let status = status(volume);
    let files = status["unreadable"].as_array().unwrap();
    let mut paths: Vec<String> =
        files.iter().map(|file| file["path"].as_str().unwrap_or("?").to_owned()).collect();
    paths.sort();
    paths
}

/// The nodes that have the one block of a file.
fn holders(volume: &Volume, path: &str) -> Vec<usize> {
    let out = volume.tool("ring locate", &[path, "--json"]);
    let found: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let owners = found["blocks"][0]["owners"].as_array().unwrap();
    owners
        .iter()
        .map(|node| node.as_str().unwrap().trim_start_matches('n').parse().unwrap())
        .collect()
}

#[test]
fn a_file_whose_servers_are_gone_is_named_and_found_again() {
    let mut volume = Volume::format(3, 2);
    let mount = volume.mount();
    fs::create_dir(mount.path("d")).unwrap();
    let data = |i: u64| noise(i, 50_000);
    for i in 0..40 {
        fs::write(mount.path(&format!("d/f{i}")), data(i)).unwrap();
    }
    let on = |nodes: [usize; 2]| {
        let mut all = (0..40).filter(|i| {
            let mut found = holders(&volume, &format!("/d/f{i}"));
            found.sort_unstable();
            found == nodes
        });
        all.next().expect("of forty files one is there")
    };
    let (lost, kept) = (on([0, 1]), on([1, 2]));
    // Nothing of them is in the memory of the mount.
    drop(mount);
    let mount = volume.mount();
    let path = |i: u64| mount.path(&format!("d/f{i}"));
    volume.nodes[0].kill9();
    volume.nodes[1].kill9();
    let error = fs::read(path(lost)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO), "{error}");
    assert!(fs::read(path(kept)).unwrap() == data(kept), "others can be read");
    fs::write(mount.path("new"), "and written").unwrap();
    assert_eq!(unreadable(&volume), [format!("/d/f{lost}")]);
    let told = volume.tool("status", &[]);
    assert_eq!(told.status.code(), Some(3), "{}", text(&told));
    let told = text(&told);
    assert!(told.contains(&format!("/d/f{lost}\n")), "{told}");
    assert!(told.contains("some files cannot be read") && told.contains("to do"), "{told}");
    // Kill -9 took nothing from their disks.
    volume.nodes[0].restart();
    volume.nodes[1].restart();
    eventually("the file is readable again", || fs::read(path(lost)).is_ok());
    assert!(fs::read(path(lost)).unwrap() == data(lost));
    eventually("nothing is noted any more", || unreadable(&volume).is_empty());
    eventually("all is well", || status(&volume)["degraded"] == false);
    for i in 0..40 {
        assert!(fs::read(path(i)).unwrap() == data(i), "{i}");
    }
    drop(mount);
    volume.assert_fsck_clean();
}

#[test]
fn a_note_goes_with_its_file() {
    let mut volume = Volume::format(2, 1);
    let mount = volume.mount();
    for i in 0..20 {
        fs::write(mount.path(&format!("f{i}")), noise(i, 20_000)).unwrap();
    }
    let lost = (0..20).find(|i| holders(&volume, &format!("/f{i}")) == [1]).unwrap();
    drop(mount);
    let mount = volume.mount();
    volume.nodes[1].kill9();
    let path = mount.path(&format!("f{lost}"));
    assert_eq!(fs::read(&path).unwrap_err().raw_os_error(), Some(libc::EIO));
    assert_eq!(unreadable(&volume), [format!("/f{lost}")]);
    fs::remove_file(&path).unwrap();
    eventually("the note goes", || unreadable(&volume).is_empty());
    // The server is back without anything: files that were on it are lost for good, and named.
    volume.nodes[1].restart_empty();
    let other = (0..20).find(|i| *i != lost && holders(&volume, &format!("/f{i}")) == [1]).unwrap();
    let path = mount.path(&format!("f{other}"));
    eventually("it is named", || {
        assert_eq!(fs::read(&path).unwrap_err().raw_os_error(), Some(libc::EIO));
        unreadable(&volume).contains(&format!("/f{other}"))
    });
    // Once the server takes part again it is clear that nobody else has them.
    eventually("it is told what to do", || {
        text(&volume.tool("status", &[])).contains("restore from a backup")
    });
}
