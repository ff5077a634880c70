//! A volume under test: real servers, the program under test as mounts and agents, each with its own
//! network between them.

use super::clock::{self, Clock};
use super::network::{Ground, Network};
use super::plan::Shape;
use crate::redis::{AppendFsync, RedisServer, ServerOptions};
use crate::spawn::spawn;
use rustix::fd::AsRawFd;
use rustix::fs::{Mode, OFlags};
use rustix::mount::UnmountFlags;
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longest wait for a mount to come up: other faults may go on meanwhile.
const MOUNT_LIMIT: Duration = Duration::from_secs(90);
const POLL_PAUSE: Duration = Duration::from_millis(10);
const VOLUME: &str = "chaos";

/// The program under test and how it is called.
#[derive(Clone, Debug)]
pub struct Program {
    /// The binary.
    pub ringfs: PathBuf,
    /// Further arguments of `mount`.
    pub mount: Vec<String>,
    /// Arguments of an agent before the volume's URL; empty if there shall be none.
    pub agent: Vec<String>,
}

/// A client process: a mount or an agent.
pub struct Client {
    /// What it is called in the story.
    pub name: String,
    /// Its network.
    pub ground: Ground,
    /// Even while it lives; one more when it is killed, and when it is there again.
    /// Its time of day.
    pub clock: Clock,
    life: AtomicU64,
    process: Mutex<Process>,
    is_mount: bool,
}

struct Process {
    child: Option<Child>,
    place: PathBuf,
    log: PathBuf,
}

/// Everything that a run needs; ends with it.
pub struct Cluster {
    /// What it is like.
    pub shape: Shape,
    /// The block servers.
    pub nodes: Vec<Mutex<RedisServer>>,
    /// The metadata server.
    pub meta: Mutex<RedisServer>,
    /// The mounts, then an agent if there is one.
    pub clients: Vec<Client>,
    /// How clients reach servers.
    pub network: Network,
    /// The library that makes clocks jump, or why there is none.
    pub clocks: Result<PathBuf, String>,
    program: Program,
    dir: TempDir,
}

/// Locks what no thread leaves half changed.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Cluster {
    /// Starts servers, formats, mounts.
    pub fn start(program: &Program, shape: Shape) -> Cluster {
        // A rewrite in the middle of a copy of the files would make the copy useless.
        let extra = vec!["auto-aof-rewrite-percentage 0".to_owned()];
        let aof = Some(AppendFsync::EverySec);
        let options =
            ServerOptions { appendfsync: aof, extra: extra.clone(), ..ServerOptions::default() };
        let meta = RedisServer::start(options.clone());
        let appendfsync = if shape.persistent { aof } else { None };
        let options = ServerOptions { appendfsync, ..options };
        let nodes: Vec<RedisServer> =
            (0..shape.nodes).map(|_| RedisServer::start(options.clone())).collect();
        let places: Vec<_> = nodes.iter().chain([&meta]).map(RedisServer::address).collect();
        let network = Network::new(&places);
        let dir = tempfile::Builder::new().prefix("ringfs-chaos-").tempdir().expect("directory");
        let mounts = (0..shape.mounts).map(|at| (format!("mount {at}"), true));
        let agent = (!program.agent.is_empty()).then(|| ("agent".to_owned(), false));
        let clients = mounts
            .chain(agent)
            .map(|(name, is_mount)| Client {
                process: Mutex::new(Process {
                    child: None,
                    place: PathBuf::new(),
                    log: dir.path().join(format!("{}.log", name.replace(' ', "-"))),
                }),
                clock: Clock::new(dir.path().join(format!("{}.clock", name.replace(' ', "-")))),
                name,
                ground: network.ground(),
                life: AtomicU64::new(1),
                is_mount,
            })
            .collect();
        let cluster = Cluster {
            shape,
            nodes: nodes.into_iter().map(Mutex::new).collect(),
            meta: Mutex::new(meta),
            clients,
            network,
            clocks: clock::library(dir.path()),
            program: program.clone(),
            dir,
        };
        cluster.format();
        for client in &cluster.clients {
            cluster.revive(client);
        }
        cluster
    }

    fn format(&self) {
        let (url, replicas) = (self.url(), self.shape.replicas.to_string());
        let mut args = vec!["format".to_owned(), url, "--replicas".to_owned(), replicas];
        for node in 0..self.shape.nodes {
            args.extend(["--node".to_owned(), format!("n{node}={}", self.network.url(node))]);
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let out = self.run(&args);
        assert!(out.status.success(), "format: {}", text(&out));
    }

    /// The volume's URL, for tools and mounts.
    pub fn url(&self) -> String {
        format!("{}/{VOLUME}", self.network.url(self.shape.nodes))
    }

    /// The mounts.
    pub fn mounts(&self) -> &[Client] {
        &self.clients[..self.shape.mounts]
    }

    /// Runs the program with these arguments.
    pub fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(&self.program.ringfs);
        command.args(args).stdin(Stdio::null());
        command.output().unwrap_or_else(|e| panic!("{args:?}: {e}"))
    }

    /// Runs a tool on the volume.
    pub fn tool(&self, name: &str, extra: &[&str]) -> Output {
        let url = self.url();
        let mut args: Vec<&str> = name.split(' ').collect();
        args.push(&url);
        args.extend(extra);
        self.run(&args)
    }

    /// Starts a client that is dead.
    pub fn revive(&self, client: &Client) {
        let deadline = Instant::now() + MOUNT_LIMIT;
        let mut process = lock(&client.process);
        let life = client.life.load(Ordering::SeqCst);
        assert!(life % 2 == 1, "{} lives", client.name);
        // What was mounted in an earlier life may still be in use there.
        process.place = self.dir.path().join(format!("{}-{life}", client.name.replace(' ', "-")));
        std::fs::create_dir(&process.place).expect("directory");
        loop {
            process.child = Some(self.launch(client, &process));
            let place = process.place.clone();
            let up = || !client.is_mount || is_mounted(&place);
            while !up() {
                let child = process.child.as_mut().expect("set above");
                if child.try_wait().expect("wait").is_some() {
                    break;
                }
                assert!(Instant::now() < deadline, "no mount in time:\n{}", read(&process.log));
                std::thread::sleep(POLL_PAUSE);
            }
            if up() {
                break;
            }
            // A server that does not answer now is a good reason not to mount.
            assert!(Instant::now() < deadline, "no mount:\n{}", read(&process.log));
            std::thread::sleep(10 * POLL_PAUSE);
        }
        client.life.fetch_add(1, Ordering::SeqCst);
    }

    fn launch(&self, client: &Client, process: &Process) -> Child {
        let mut command = Command::new(&self.program.ringfs);
        if client.is_mount {
            command.arg("mount").args(&self.program.mount).arg(self.url()).arg(&process.place);
        } else {
            command.args(&self.program.agent).arg(self.url());
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .env("XDG_STATE_HOME", self.dir.path());
        log_to(&process.log, &mut command);
        client.ground.enter(&mut command);
        // Without such clocks it goes by the machine's.
        if let Ok(library) = &self.clocks {
            client.clock.wind(&mut command, library);
        }
        spawn(command).expect("the program can be started")
    }

    /// The last lines of the clients' logs.
    pub fn logs(&self) -> String {
        let mut out = String::new();
        for client in &self.clients {
            let log = read(&lock(&client.process).log);
            let lines: Vec<&str> = log.lines().collect();
            let from = lines.len().saturating_sub(60);
            out.push_str(&format!("log of {}:\n{}\n", client.name, lines[from..].join("\n")));
        }
        out
    }
}

impl Client {
    /// Its mountpoint, and which life this is; waits while it is dead. `None` when `over` says so.
    pub fn place(&self, over: impl Fn() -> bool) -> Option<(PathBuf, u64)> {
        loop {
            let life = self.life.load(Ordering::SeqCst);
            if life.is_multiple_of(2) {
                let place = lock(&self.process).place.clone();
                if self.is_life(life) {
                    return Some((place, life));
                }
            }
            if over() {
                return None;
            }
            std::thread::sleep(POLL_PAUSE);
        }
    }

    /// Whether it has lived without a break since [`Self::place`].
    pub fn is_life(&self, life: u64) -> bool {
        self.life.load(Ordering::SeqCst) == life
    }

    /// Its process, if it lives.
    pub fn pid(&self) -> Option<u32> {
        lock(&self.process).child.as_ref().map(Child::id)
    }

    /// kill -9, and a dead mount is cleared away.
    pub fn kill(&self) {
        let mut process = lock(&self.process);
        if let Some(mut child) = process.child.take() {
            // Before anybody can see that it is dead.
            self.life.fetch_add(1, Ordering::SeqCst);
            child.kill().expect("kill");
            child.wait().expect("wait");
            if self.is_mount {
                unmount(&process.place);
            }
        }
    }

    /// Ends by itself, if it ever does: the exit status.
    pub fn ended(&self) -> Option<std::process::ExitStatus> {
        lock(&self.process).child.as_mut().and_then(|child| child.try_wait().ok().flatten())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Both outputs are appended to a file, which the child opens itself; see [`crate::spawn`].
fn log_to(path: &Path, command: &mut Command) {
    let path = CString::new(path.as_os_str().as_bytes()).expect("no NUL");
    // SAFETY: system calls and nothing else.
    unsafe {
        command.pre_exec(move || {
            let flags = OFlags::CREATE | OFlags::APPEND | OFlags::WRONLY | OFlags::CLOEXEC;
            let log = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600))?;
            for standard in 1..=2 {
                if libc::dup2(log.as_raw_fd(), standard) < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn is_mounted(place: &Path) -> bool {
    read(Path::new("/proc/self/mountinfo"))
        .lines()
        .any(|line| line.split(' ').nth(4) == place.to_str())
}

fn unmount(place: &Path) {
    // Not by a command where it is avoidable: a child of ours closes the files that we have open.
    let tried = rustix::mount::unmount(place, UnmountFlags::DETACH);
    if is_mounted(place) {
        let second = Command::new("fusermount3").args(["-u", "-z"]).arg(place).output();
        assert!(!is_mounted(place), "{} stays mounted: {tried:?} {second:?}", place.display());
    }
}

/// Standard output and error together.
pub fn text(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}
