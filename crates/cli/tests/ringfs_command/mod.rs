//! Runs the program as a user would, with a state directory of the test's own.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test has no use for an error")]

use ringfs_testkit::{RedisServer, ServerOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// The surroundings of one test.
pub struct Place {
    pub dir: TempDir,
}

impl Place {
    pub fn new() -> Place {
        Place { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The program with these arguments and none of the tester's settings.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringfs"));
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("RINGFS_") && name != "RINGFS_REDIS_SERVER" {
                command.env_remove(name);
            }
        }
        command
            .args(arguments)
            .env("XDG_STATE_HOME", self.path("state"))
            .env("COLUMNS", "100")
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs and must succeed; returns stdout.
    pub fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", both(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn json(&self, arguments: &[&str]) -> serde_json::Value {
        serde_json::from_slice(&self.run(arguments).stdout).unwrap()
    }
}

pub fn both(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

pub fn server() -> RedisServer {
    RedisServer::start_default()
}

pub fn server_with_password(password: &str) -> RedisServer {
    RedisServer::start(ServerOptions { password: Some(password.to_owned()), ..Default::default() })
}

/// A metadata server and nodes, with a volume `demo` in two copies.
pub struct Formatted {
    pub place: Place,
    pub meta: RedisServer,
    pub nodes: Vec<RedisServer>,
}

impl Formatted {
    pub fn new(nodes: usize) -> Formatted {
        let place = Place::new();
        let meta = server();
        let nodes: Vec<RedisServer> = (0..nodes).map(|_| server()).collect();
        let options: Vec<String> = nodes
            .iter()
            .enumerate()
            .map(|(i, node)| format!("--node=n{i}={}", node.url()))
            .collect();
        let url = meta.url();
        let mut arguments = vec!["format", &url, "demo"];
        arguments.extend(options.iter().map(String::as_str));
        place.succeed(&arguments);
        Formatted { place, meta, nodes }
    }

    pub fn url(&self) -> String {
        format!("{}/demo", self.meta.url())
    }
}

/// A mount that is unmounted when the test ends, however it ends.
pub struct Mounted<'a> {
    pub place: &'a Place,
    pub mountpoint: PathBuf,
}

impl Mounted<'_> {
    pub fn new<'a>(place: &'a Place, url: &str, options: &[&str]) -> Mounted<'a> {
        let mountpoint = place.path("mnt");
        std::fs::create_dir_all(&mountpoint).unwrap();
        let path = mountpoint.to_str().unwrap();
        place.succeed(&[&["mount", "-d", url, path], options].concat());
        Mounted { place, mountpoint }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.mountpoint.join(name)
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        // Waits for the mount's process, unless a failed test has left files open.
        self.place.run(&["umount", self.mountpoint.to_str().unwrap()]);
        if is_mounted(&self.mountpoint) {
            self.place.run(&["umount", "--lazy", self.mountpoint.to_str().unwrap()]);
        }
    }
}

pub fn is_mounted(path: &Path) -> bool {
    std::fs::read_to_string("/proc/self/mountinfo")
        .unwrap()
        .lines()
        .any(|line| line.split(' ').nth(4) == path.to_str())
}
