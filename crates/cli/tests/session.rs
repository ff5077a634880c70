//! One user's session with the program: make, mount, look, lose a server, change the ring, check,
//! repair, collect, unmount, destroy.
#![allow(clippy::unwrap_used, reason = "a test has no use for an error")]

mod ringfs_command;

use ringfs_base::VolumeName;
use ringfs_command::{Formatted, Mounted, both, is_mounted};
use ringfs_link::Timeouts;
use ringfs_meta::Volume;
use ringfs_ring::{Member, Table, plan};
use std::fs;
use std::time::{Duration, Instant};

fn noise(bytes: usize) -> Vec<u8> {
    let mut x = 88_172_645_463_325_252u64;
    let next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

#[test]
fn a_session_from_format_to_destroy() {
    let mut volume = Formatted::new(3);
    let (place, url) = (&volume.place, volume.url());
    let mounted = Mounted::new(place, &url, &["--threads=4", "--block-cache=16MiB", "--ttl=1s"]);
    let data = noise(5_000_000);
    fs::write(mounted.path("big"), &data).unwrap();
    fs::write(mounted.path("small"), "small").unwrap();

    let status = place.json(&["status", &url, "--json"]);
    assert_eq!(status["degraded"], false);
    assert_eq!((&status["inodes"], &status["bytes"]), (&3.into(), &5_000_005.into()), "{status}");
    assert_eq!(status["sessions"][0]["place"], mounted.mountpoint.to_str().unwrap());
    let located = place.json(&["ring", "locate", &url, "/big", "--check", "--json"]);
    let blocks = located["blocks"].as_array().unwrap();
    assert!((5..8).contains(&blocks.len()), "{located}");
    for block in blocks {
        let copies = block["copies"].as_array().unwrap();
        assert!(copies.len() == 2 && copies.iter().all(|c| c["state"] == "good"), "{block}");
    }
    let busy = place.run(&["destroy", &url, "--yes"]);
    assert_eq!(busy.status.code(), Some(5), "{}", both(&busy));

    volume.nodes[1].kill9();
    assert_eq!(fs::read(mounted.path("big")).unwrap(), data);
    let degraded = place.run(&["status", &url]);
    assert_eq!(degraded.status.code(), Some(3), "{}", both(&degraded));
    volume.nodes[1].restart_empty();
    assert_eq!(place.run(&["fsck", &url]).status.code(), Some(3));
    place.succeed(&["fsck", &url, "--metadata"]);
    place.succeed(&["repair", &url]);
    place.succeed(&["fsck", &url, "--deep"]);
    assert_eq!(place.json(&["fsck", &url, "--json"])["summary"]["inodes"], 3);

    place.succeed(&["umount", mounted.mountpoint.to_str().unwrap()]);
    assert!(!is_mounted(&mounted.mountpoint));
    place.succeed(&["gc", &url, "--delete"]);
    assert_eq!(place.json(&["status", &url, "--json"])["sessions"].as_array().unwrap().len(), 0);
    place.succeed(&["destroy", &url, "--yes"]);
    for server in volume.nodes.iter().chain([&volume.meta]) {
        assert_eq!(server.command(&["DBSIZE"]).into_int().unwrap(), 0);
    }
}

/// What is written under the old table is found under the new one, by a mount that stays.
#[test]
fn a_mount_follows_the_ring() {
    let volume = Formatted::new(4);
    let (place, url) = (&volume.place, volume.url());
    let mounted = Mounted::new(place, &url, &["--block-cache=0"]);
    let data = noise(6_000_000);
    fs::write(mounted.path("before"), &data).unwrap();

    let name = VolumeName::new("demo").unwrap();
    let open = Volume::open(&volume.meta.endpoint(), Timeouts::default(), &name).unwrap();
    let (epoch, encoded) = open.ring().unwrap();
    let table = Table::decode(&encoded).unwrap();
    let members: Vec<Member> = table.members()[..2].to_vec();
    let new = plan(Some(&table), &members, table.replicas(), table.arcs()).unwrap();
    open.set_ring(epoch, &new.encode(), &open.config().nodes).unwrap();

    let limit = Instant::now() + Duration::from_secs(30);
    while place.json(&["status", &url, "--json"])["sessions"][0]["epoch"] != new.epoch().0 {
        assert!(Instant::now() < limit, "the mount does not learn of the new table");
    }
    assert_eq!(fs::read(mounted.path("before")).unwrap(), data);
    fs::write(mounted.path("after"), &data).unwrap();
    assert_eq!(fs::read(mounted.path("after")).unwrap(), data);
    let located = place.json(&["ring", "locate", &url, "/after", "--check", "--json"]);
    for block in located["blocks"].as_array().unwrap() {
        for copy in block["copies"].as_array().unwrap() {
            assert!(
                copy["state"] == "good" && (copy["node"] == "n0" || copy["node"] == "n1"),
                "{block}"
            );
        }
    }
}

#[test]
fn manual_pages_and_completions_are_made() {
    let place = ringfs_command::Place::new();
    place.succeed(&["man", "pages"]);
    let page = fs::read_to_string(place.path("pages/ringfs-format.1")).unwrap();
    assert!(page.contains("\\-\\-replicas"), "{page}");
    for shell in ["bash", "zsh", "fish"] {
        assert!(place.succeed(&["completions", shell]).contains("umount"));
    }
    let help = place.succeed(&["--help"]);
    for code in ["3 problems were found", "ringfs local start"] {
        assert!(help.contains(code), "{help}");
    }
}
