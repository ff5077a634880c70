//! A real redis-server (or valkey-server) per test: a free port, a directory of its own, killed
//! when the fixture is dropped and when the test process dies.

use crate::certs::{CertFiles, CertKind, write_certs};
use crate::spawn::spawn;
use ringfs_link::{Cmd, Conn, Endpoint, LinkError, Reply, Secret, Timeouts, TlsFiles};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const START_LIMIT: Duration = Duration::from_secs(20);
const POLL_PAUSE: Duration = Duration::from_millis(3);
const PORT_ATTEMPTS: usize = 20;
/// Ports of servers: below the range of Linux for ports that nobody chose.
const PORTS: std::ops::Range<u16> = 12_000..32_000;
/// Tests share the machine with other tests; only tests about time-outs want short ones.
const PATIENT: Timeouts =
    Timeouts { connect: Duration::from_secs(10), reply: Duration::from_secs(10) };

/// An ACL user.
#[derive(Clone, Debug)]
pub struct AclUser {
    /// Its name.
    pub name: String,
    /// Its password.
    pub password: String,
    /// Its rules as in `ACL SETUSER`, such as `~rfb:* +@read`.
    pub rules: String,
}

/// TLS of a server.
#[derive(Clone, Copy, Debug, Default)]
pub struct TlsOptions {
    /// What its certificate is like.
    pub cert: CertKind,
    /// Whether clients have to show a certificate.
    pub ask_client: bool,
}

/// When the append-only file is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendFsync {
    /// Before every reply.
    Always,
    /// Once a second.
    EverySec,
    /// When the kernel likes.
    No,
}

/// How a server is to be. The default: no password, no TLS, TCP on 127.0.0.1, nothing persistent.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The default user's password (`requirepass`).
    pub password: Option<String>,
    /// More users.
    pub users: Vec<AclUser>,
    /// TLS instead of plain TCP.
    pub tls: Option<TlsOptions>,
    /// A Unix socket instead of TCP.
    pub unix_socket: bool,
    /// `maxmemory` in bytes, with `noeviction`.
    pub maxmemory: Option<u64>,
    /// An append-only file; without one, a restart comes back empty.
    pub appendfsync: Option<AppendFsync>,
    /// The data directory; a temporary one if not given.
    pub dir: Option<PathBuf>,
    /// The loopback address; any in 127.0.0.0/8.
    pub address: Ipv4Addr,
    /// More lines for the configuration file.
    pub extra: Vec<String>,
}

impl Default for ServerOptions {
    fn default() -> ServerOptions {
        ServerOptions {
            password: None,
            users: Vec::new(),
            tls: None,
            unix_socket: false,
            maxmemory: None,
            appendfsync: None,
            dir: None,
            address: Ipv4Addr::LOCALHOST,
            extra: Vec::new(),
        }
    }
}

/// A running (or killed, or stopped) server.
#[derive(Debug)]
pub struct RedisServer {
    options: ServerOptions,
    /// Keeps the temporary directory alive.
    _temp: Option<TempDir>,
    /// Configuration, log, certificates and socket; survives [`Self::restart_empty`].
    home: PathBuf,
    data: PathBuf,
    certs: Option<CertFiles>,
    port: u16,
    child: Option<Child>,
}

/// The server program: `$RINGFS_REDIS_SERVER`, or `redis-server` or `valkey-server` from `PATH`.
pub fn server_program() -> PathBuf {
    if let Some(path) = std::env::var_os("RINGFS_REDIS_SERVER") {
        return path.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    for name in ["redis-server", "valkey-server"] {
        if let Some(found) =
            std::env::split_paths(&path).map(|dir| dir.join(name)).find(|p| p.is_file())
        {
            return found;
        }
    }
    panic!("tests need redis-server or valkey-server in PATH, or its path in RINGFS_REDIS_SERVER");
}

impl RedisServer {
    /// A server with default options.
    pub fn start_default() -> RedisServer {
        RedisServer::start(ServerOptions::default())
    }

    /// Starts a server and waits until it answers.
    pub fn start(options: ServerOptions) -> RedisServer {
        let temp = tempfile::Builder::new()
            .prefix("ringfs-redis-")
            .tempdir()
            .expect("temporary directory");
        let home = temp.path().to_owned();
        let data = options.dir.clone().unwrap_or_else(|| home.join("data"));
        std::fs::create_dir_all(&data).expect("data directory");
        let certs = options.tls.map(|tls| write_certs(&home, tls.cert, options.address));
        let mut server =
            RedisServer { options, _temp: Some(temp), home, data, certs, port: 0, child: None };
        for _ in 0..PORT_ATTEMPTS {
            server.port = server.free_port();
            if server.launch() {
                return server;
            }
        }
        panic!("no free port in {PORT_ATTEMPTS} attempts; log:\n{}", server.log());
    }

    /// One that the kernel gives to nobody who asks for any port: while the server is killed, only
    /// another server of a test could take it.
    fn free_port(&self) -> u16 {
        for _ in 0..PORT_ATTEMPTS {
            let port = PORTS.start + (random() % u64::from(PORTS.end - PORTS.start)) as u16;
            if TcpListener::bind((self.options.address, port)).is_ok() {
                return port;
            }
        }
        let listener = TcpListener::bind((self.options.address, 0)).expect("free port");
        listener.local_addr().expect("address").port()
    }

    fn write_config(&self) -> PathBuf {
        let o = &self.options;
        let mut text = String::new();
        let mut line =
            |text_of_line: String| writeln!(text, "{text_of_line}").expect("writing to a String");
        line(format!("dir {}", self.data.display()));
        line(format!("logfile {}", self.home.join("log").display()));
        line("save \"\"".into());
        line("daemonize no".into());
        match (&self.certs, o.unix_socket) {
            (_, true) => {
                line("port 0".into());
                line(format!("unixsocket {}", self.socket().display()));
            }
            (None, false) => {
                line(format!("bind {}", o.address));
                line(format!("port {}", self.port));
            }
            (Some(certs), false) => {
                line(format!("bind {}", o.address));
                line("port 0".into());
                line(format!("tls-port {}", self.port));
                line(format!("tls-cert-file {}", certs.server_cert.display()));
                line(format!("tls-key-file {}", certs.server_key.display()));
                line(format!("tls-ca-cert-file {}", certs.ca.display()));
                let ask = o.tls.is_some_and(|tls| tls.ask_client);
                line(format!("tls-auth-clients {}", if ask { "yes" } else { "no" }));
            }
        }
        if let Some(password) = &o.password {
            line(format!("requirepass {password}"));
        }
        for user in &o.users {
            line(format!("user {} on >{} {}", user.name, user.password, user.rules));
        }
        if let Some(bytes) = o.maxmemory {
            line(format!("maxmemory {bytes}"));
            line("maxmemory-policy noeviction".into());
        }
        if let Some(fsync) = o.appendfsync {
            line("appendonly yes".into());
            let policy = match fsync {
                AppendFsync::Always => "always",
                AppendFsync::EverySec => "everysec",
                AppendFsync::No => "no",
            };
            line(format!("appendfsync {policy}"));
        }
        for extra in &o.extra {
            line(extra.clone());
        }
        let path = self.home.join("redis.conf");
        std::fs::write(&path, text).expect("configuration file");
        path
    }

    /// `false` if the server ended before it answered, as it does when its port was taken.
    fn launch(&mut self) -> bool {
        let config = self.write_config();
        let mut command = Command::new(server_program());
        command.arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = spawn(command).expect("redis-server can be started");
        let pid = child.id();
        self.child = Some(child);
        let limit = Instant::now() + START_LIMIT;
        loop {
            if self.answers(pid) {
                return true;
            }
            let child = self.child.as_mut().expect("set above");
            if let Some(status) = child.try_wait().expect("wait") {
                self.child = None;
                let log = self.log();
                if log.contains("Address already in use") || log.contains("Failed listening") {
                    std::fs::remove_file(self.home.join("log")).expect("log");
                    return false;
                }
                panic!("redis-server ended with {status}; log:\n{log}");
            }
            assert!(Instant::now() < limit, "redis-server does not answer; log:\n{}", self.log());
            std::thread::sleep(POLL_PAUSE);
        }
    }

    /// Whether the process `pid` and not another one answers at our address, all data loaded.
    fn answers(&self, pid: u32) -> bool {
        if self.options.tls.is_some_and(|tls| tls.cert != CertKind::Good) {
            // No client of ours can ask it; and nobody else can have its socket once it listens.
            return self.log().contains("Ready to accept connections");
        }
        let Ok(mut conn) = Conn::open(&self.endpoint(), &PATIENT) else { return false };
        match conn.call(&Cmd::new("INFO")) {
            Ok(reply) => {
                let info = parse_info(&reply);
                assert_eq!(
                    info.get("process_id"),
                    Some(&pid.to_string()),
                    "a stranger has our port"
                );
                info.get("loading").is_none_or(|value| value == "0")
            }
            Err(LinkError::Server { code, .. }) if code == "LOADING" => false,
            Err(e) => panic!("the fixture cannot ask its server: {e}"),
        }
    }

    /// The server's address with the credentials and files that open it.
    pub fn endpoint(&self) -> Endpoint {
        let endpoint = Endpoint::parse(&self.bare_url()).expect("our own URL");
        let endpoint = match &self.options.password {
            Some(password) => endpoint.with_credentials(None, Some(Secret::new(password.as_str()))),
            None => endpoint,
        };
        match self.tls_files() {
            Some(files) => endpoint.with_tls(files),
            None => endpoint,
        }
    }

    /// The address as one of [`ServerOptions::users`].
    pub fn endpoint_as(&self, user: &str) -> Endpoint {
        let user =
            self.options.users.iter().find(|u| u.name == user).expect("a user of the options");
        let password = Some(Secret::new(user.password.as_str()));
        self.endpoint().with_credentials(Some(user.name.clone()), password)
    }

    /// The URL that opens the server, password included.
    pub fn url(&self) -> String {
        let url = self.endpoint().to_url_without_password();
        match &self.options.password {
            Some(password) => url.replacen("://", &format!("://:{password}@"), 1),
            None => url,
        }
    }

    fn bare_url(&self) -> String {
        if self.options.unix_socket {
            format!("unix://{}", self.socket().display())
        } else {
            let scheme = if self.certs.is_some() { "rediss" } else { "redis" };
            format!("{scheme}://{}:{}", self.options.address, self.port)
        }
    }

    /// The TLS files that a client needs.
    pub fn tls_files(&self) -> Option<TlsFiles> {
        let certs = self.certs.as_ref()?;
        let ask = self.options.tls.is_some_and(|tls| tls.ask_client);
        Some(TlsFiles {
            ca: Some(certs.ca.clone()),
            cert: ask.then(|| certs.client_cert.clone()),
            key: ask.then(|| certs.client_key.clone()),
        })
    }

    /// Where it listens: address and port.
    pub fn address(&self) -> (Ipv4Addr, u16) {
        (self.options.address, self.port)
    }

    fn socket(&self) -> PathBuf {
        self.home.join("redis.sock")
    }

    /// Where its data is.
    pub fn data_dir(&self) -> &Path {
        &self.data
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server was killed").id()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home.join("log")).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("the server was killed");
        let pid = Pid::from_raw(child.id() as i32).expect("a process id");
        kill_process(pid, signal).expect("signal");
    }

    /// Kills it at once, as a crash would.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("kill");
            child.wait().expect("wait");
        }
    }

    /// Freezes it: it takes connections and bytes but does not answer. Returns when it is frozen.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
        let stat = format!("/proc/{}/stat", self.pid());
        let limit = Instant::now() + START_LIMIT;
        while !std::fs::read_to_string(&stat).is_ok_and(|text| text.contains(") T ")) {
            assert!(Instant::now() < limit, "the server does not stop");
            std::thread::sleep(POLL_PAUSE);
        }
    }

    /// Lets a frozen server go on.
    pub fn cont(&self) {
        self.signal(Signal::CONT);
    }

    /// Kills it if need be and starts it again at the same address, with what its append-only file
    /// holds.
    pub fn restart(&mut self) {
        self.kill9();
        // A connection's remains cannot hold the port: Redis sets SO_REUSEADDR.
        let limit = Instant::now() + START_LIMIT;
        while !self.launch() {
            assert!(Instant::now() < limit, "the port was taken meanwhile; log:\n{}", self.log());
            std::thread::sleep(POLL_PAUSE);
        }
    }

    /// Keeps a copy of the data that the server has now, while it goes on, for
    /// [`Self::restart_with_copy`].
    pub fn copy_data(&self) -> TempDir {
        if self.options.appendfsync.is_none() {
            // Without an append-only file, what is loaded at a start is an RDB file.
            self.command(&["SAVE"]);
        }
        let copy = tempfile::tempdir().expect("temporary directory");
        copy_tree(&self.data, copy.path());
        if self.options.appendfsync.is_none() {
            // A crash from now on is one without data again.
            std::fs::remove_file(self.data.join("dump.rdb")).expect("an RDB file");
        }
        copy
    }

    /// Starts it again at the same address, with a copy of older data.
    pub fn restart_with_copy(&mut self, copy: &TempDir) {
        self.kill9();
        std::fs::remove_dir_all(&self.data).expect("data directory");
        std::fs::create_dir_all(&self.data).expect("data directory");
        copy_tree(copy.path(), &self.data);
        self.restart();
    }

    /// Starts it again at the same address, without any data.
    pub fn restart_empty(&mut self) {
        self.kill9();
        std::fs::remove_dir_all(&self.data).expect("data directory");
        std::fs::create_dir_all(&self.data).expect("data directory");
        self.restart();
    }

    /// A fresh connection with patient time-outs.
    pub fn conn(&self) -> Conn {
        Conn::open(&self.endpoint(), &PATIENT).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Runs a command on a fresh connection.
    pub fn command(&self, words: &[&str]) -> Reply {
        self.conn().call(&Cmd::from_words(words)).unwrap_or_else(|e| panic!("{words:?}: {e}"))
    }

    /// The fields of `INFO section`.
    pub fn info(&self, section: &str) -> BTreeMap<String, String> {
        parse_info(&self.command(&["INFO", section]))
    }

    /// Number of calls per command in lower case, such as `evalsha` or `client|setname`.
    pub fn commandstats(&self) -> BTreeMap<String, u64> {
        self.info("commandstats")
            .into_iter()
            .filter_map(|(key, value)| {
                let calls = value.strip_prefix("calls=")?.split(',').next()?.parse().ok()?;
                Some((key.strip_prefix("cmdstat_")?.to_owned(), calls))
            })
            .collect()
    }

    /// Sets the counters of [`Self::commandstats`] to zero.
    pub fn reset_stats(&self) {
        self.command(&["CONFIG", "RESETSTAT"]);
    }

    /// Changes a configuration parameter.
    pub fn config_set(&self, key: &str, value: &str) {
        self.command(&["CONFIG", "SET", key, value]);
    }

    /// Reads a configuration parameter.
    pub fn config_get(&self, key: &str) -> Option<String> {
        let pairs = self.command(&["CONFIG", "GET", key]).into_map().expect("a map");
        let value = pairs.into_iter().next()?.1;
        Some(String::from_utf8_lossy(value.as_bytes()?).into_owned())
    }

    /// `used_memory` in bytes.
    pub fn used_memory(&self) -> u64 {
        self.info("memory")["used_memory"].parse().expect("a number")
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// Differs between processes and calls.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

fn copy_tree(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            std::fs::create_dir_all(&target).expect("a directory");
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

fn parse_info(reply: &Reply) -> BTreeMap<String, String> {
    String::from_utf8_lossy(reply.as_bytes().expect("INFO gives a string"))
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}
