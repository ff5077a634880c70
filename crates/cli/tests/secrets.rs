//! No password appears where others can read it: arguments of our processes, output, logs, files, and
//! what is stored on the servers.
#![allow(clippy::unwrap_used, reason = "a test has no use for an error")]

mod ringfs_command;

use ringfs_command::{Mounted, Place, both, server_with_password};
use ringfs_testkit::RedisServer;
use std::fs;
use std::path::Path;

const SECRET: &str = "correct-horse-battery-staple";

#[test]
fn passwords_are_shown_nowhere() {
    let place = Place::new();
    let meta = server_with_password(SECRET);
    let nodes: Vec<RedisServer> = (0..2).map(|_| server_with_password(SECRET)).collect();
    let bare = |server: &RedisServer| server.endpoint().to_url_without_password();
    let mut said = String::new();
    let mut run = |arguments: &[&str], ok: bool| {
        let mut command = place.command(arguments);
        let output = command.env("RINGFS_REDIS_PASSWORD", SECRET).output().unwrap();
        assert_eq!(output.status.success(), ok, "{arguments:?}: {}", both(&output));
        said.push_str(&both(&output));
    };
    // With a password in every URL, which is the worst that a user can do.
    let a = format!("--node=a={}", nodes[0].url());
    let b = format!("--node=b={}", bare(&nodes[1]));
    run(&["format", &meta.url(), "demo", &a, &b], true);
    let (with, without) = (format!("{}/demo", meta.url()), format!("{}/demo", bare(&meta)));
    run(&["status", &with], true);
    run(&["status", &without, "--json"], true);
    run(&["doctor", &with], true);
    run(&["ring", "show", &with, "--json"], true);
    run(&["format", &meta.url(), "demo", &a, &b], false);
    run(&["format", &format!("{with}/x"), "--node", &format!("a={}@", nodes[0].url())], false);
    run(&["status", &with.replace("redis:", "rediss:")], false);
    assert!(said.contains("warning: everybody on this machine can read the password in the URL"));

    // The background process must not have the URL that its parent was given.
    let file = place.path("password");
    fs::write(&file, SECRET).unwrap();
    let mounted = Mounted::new(&place, &with, &["--password-file", file.to_str().unwrap()]);
    fs::write(mounted.path("file"), vec![7; 3_000_000]).unwrap();
    assert!(!command_lines().contains(SECRET));
    assert!(command_lines().contains("--in-background"), "the background process was looked at");
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(SECRET));
    place.succeed(&["umount", mounted.mountpoint.to_str().unwrap()]);
    fs::remove_file(&file).unwrap();

    assert!(!said.contains(SECRET), "{said}");
    assert_absent_below(&place.path("state"));
    let stored = meta.command(&["HGETALL", "rfs:{demo/0}:v"]);
    let stored = format!("{stored:?}");
    assert!(stored.contains("nodes") && !stored.contains(SECRET), "{stored}");
}

/// The arguments of all processes that we may look at, but this test's own.
fn command_lines() -> String {
    let mut out = String::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        if pid.parse::<u32>().is_ok_and(|pid| pid != std::process::id()) {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            out.push_str(&String::from_utf8_lossy(&line).replace('\0', " "));
            out.push('\n');
        }
    }
    out
}

fn assert_absent_below(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            assert_absent_below(&path);
        } else {
            let text = fs::read(&path).unwrap();
            let text = String::from_utf8_lossy(&text);
            assert!(!text.contains(SECRET), "{}: {text}", path.display());
        }
    }
}
