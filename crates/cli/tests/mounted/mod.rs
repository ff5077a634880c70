//! A volume on real redis-servers, mounted by the real binary; everything ends with the test.

#![allow(dead_code, reason = "each test file uses its part of the fixture")]
#![allow(clippy::unwrap_used, reason = "what fails in a fixture ends the test")]

use ringfs_testkit::{AppendFsync, Proxy, RedisServer, ServerOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The binary under test.
pub const RINGFS: &str = env!("CARGO_BIN_EXE_ringfs");

/// Longest wait for something that takes milliseconds when all is well.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Servers and a formatted volume.
pub struct Volume {
    pub meta: RedisServer,
    pub nodes: Vec<RedisServer>,
    pub dir: tempfile::TempDir,
    name: String,
}

impl Volume {
    /// A volume "demo" of `nodes` block servers with `replicas` copies.
    pub fn format(nodes: usize, replicas: usize) -> Volume {
        Volume::format_with(ServerOptions::default(), nodes, replicas, &[])
    }

    pub fn format_with(
        node_options: ServerOptions,
        nodes: usize,
        replicas: usize,
        extra: &[&str],
    ) -> Volume {
        // Persistent, so that a restart comes back with its data.
        let aof = Some(AppendFsync::EverySec);
        let meta =
            RedisServer::start(ServerOptions { appendfsync: aof, ..ServerOptions::default() });
        let node_options = ServerOptions { appendfsync: aof, ..node_options };
        let nodes: Vec<RedisServer> =
            (0..nodes).map(|_| RedisServer::start(node_options.clone())).collect();
        let dir = tempfile::tempdir().unwrap();
        let volume = Volume { meta, nodes, dir, name: "demo".to_owned() };
        let mut args = vec!["format".to_owned(), volume.url()];
        args.extend(["--replicas".to_owned(), replicas.to_string()]);
        for (index, node) in volume.nodes.iter().enumerate() {
            args.extend(["--node".to_owned(), format!("n{index}={}", node.url())]);
        }
        args.extend(extra.iter().map(|s| (*s).to_owned()));
        succeed(Command::new(RINGFS).args(&args));
        volume
    }

    pub fn url(&self) -> String {
        format!("{}/{}", self.meta.url().trim_end_matches('/'), self.name)
    }

    /// Mounts at a new directory.
    pub fn mount(&self) -> Mounted {
        self.mount_with(&[])
    }

    pub fn mount_with(&self, extra: &[&str]) -> Mounted {
        self.mount_url(&self.url(), extra)
    }

    /// Mounts through a proxy of the metadata server.
    pub fn mount_through(&self, proxy: &Proxy, extra: &[&str]) -> Mounted {
        self.mount_url(&format!("{}/{}", proxy.url(), self.name), extra)
    }

    fn mount_url(&self, url: &str, extra: &[&str]) -> Mounted {
        let place = tempfile::tempdir_in(self.dir.path()).unwrap().keep();
        let log = place.with_extension("log");
        let child = Command::new(RINGFS)
            .arg("mount")
            .arg(url)
            .arg(&place)
            .args(extra)
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(&log).unwrap())
            .stderr(std::fs::OpenOptions::new().append(true).open(&log).unwrap())
            .spawn()
            .unwrap();
        let mut mounted = Mounted { place, child, log };
        let deadline = Instant::now() + PATIENCE;
        while !is_mounted(&mounted.place) {
            if let Some(status) = mounted.child.try_wait().unwrap() {
                panic!("mount ended with {status}:\n{}", mounted.log());
            }
            assert!(Instant::now() < deadline, "no mount in time:\n{}", mounted.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        mounted
    }

    /// Runs a tool on the volume's URL and returns its output, whatever it is.
    pub fn tool(&self, subcommand: &str, extra: &[&str]) -> Output {
        let words: Vec<&str> = subcommand.split(' ').collect();
        Command::new(RINGFS).args(words).arg(self.url()).args(extra).output().unwrap()
    }

    /// Keys of blocks on all nodes; each also has the keepers' mark.
    pub fn block_keys(&self) -> i64 {
        let of = |node: &RedisServer| {
            let int = |words: &[&str]| node.command(words).into_int().unwrap();
            int(&["DBSIZE"]) - int(&["EXISTS", &format!("rfg:{}", self.name)])
        };
        self.nodes.iter().map(of).sum()
    }

    /// fsck must find nothing but what `allowed` says (a substring of each permitted line).
    pub fn assert_fsck_clean(&self) {
        let out = self.tool("fsck", &["--deep"]);
        assert!(out.status.success(), "fsck:\n{}", text(&out));
    }
}

/// A mount served by a child process.
pub struct Mounted {
    pub place: PathBuf,
    pub child: Child,
    log: PathBuf,
}

impl Mounted {
    pub fn path(&self, relative: &str) -> PathBuf {
        self.place.join(relative)
    }

    /// What the mount process printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Resident memory of the mount process, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Ends the process with SIGTERM, as a service manager does, and waits for it.
    pub fn terminate(mut self) -> std::process::ExitStatus {
        succeed(Command::new("kill").args(["-TERM", &self.child.id().to_string()]));
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "no end in time:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// kill -9: nothing buffered survives. The dead mount is cleared away.
    pub fn kill9(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        lazy_unmount(&self.place);
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        lazy_unmount(&self.place);
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

pub fn is_mounted(place: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.lines().any(|line| line.split(' ').nth(4) == place.to_str())
}

fn lazy_unmount(place: &Path) {
    if is_mounted(place) {
        let plain = Command::new("umount").arg(place).output();
        if !plain.is_ok_and(|out| out.status.success()) {
            let _lazily = Command::new("umount").arg("-l").arg(place).output();
        }
    }
}

/// Standard output and error together.
pub fn text(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// Runs a command that must succeed; returns its standard output.
pub fn succeed(command: &mut Command) -> String {
    let out = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(out.status.success(), "{command:?}: {}\n{}", out.status, text(&out));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Bytes that do not compress and differ by seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(len);
    out
}

/// Waits until `done` answers true.
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not happen in time");
        std::thread::sleep(Duration::from_millis(5));
    }
}
