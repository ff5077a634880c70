//! The directory of a set of local servers, and the two files that describe it: `layout.json`, what
//! was asked for, written by `start`; `state.json`, what is, written by the supervisor.
//!
//! ```text
//! DIRECTORY/layout.json  state.json  lock  supervisor.log
//! DIRECTORY/NAME/redis.conf  redis.log  held  data/
//! ```

use crate::failure::Failure;
use crate::process::ProcessIdentity;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The name of the metadata server. Nodes are `node-1`, `node-2`, ...
pub const META: &str = "meta";

/// Most nodes on one machine.
pub const NODES_MAX: u16 = 64;

const FORMAT: u32 = 1;

/// One server as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerPlan {
    /// `meta`, `node-1`, ...
    pub name: String,
    /// Its port on 127.0.0.1.
    pub port: u16,
}

impl ServerPlan {
    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    format: u32,
    /// The program that is started.
    pub program: PathBuf,
    /// Limit of each node's memory in bytes; 0 = none.
    pub maxmemory: u64,
    /// Nothing is written to disk; a server that restarts is empty.
    pub memory_only: bool,
    /// The servers, the metadata server first.
    pub servers: Vec<ServerPlan>,
}

impl Layout {
    /// A layout without servers.
    pub fn new(program: PathBuf, maxmemory: u64, memory_only: bool) -> Layout {
        Layout { format: FORMAT, program, maxmemory, memory_only, servers: Vec::new() }
    }
}

/// How a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// Started, and does not answer yet.
    Starting,
    /// It answers.
    Up,
    /// It died and is started again.
    Down,
    /// It was killed by `ringfs local kill --keep-down` and stays down until `ringfs local restart`.
    Held,
    /// It was stopped with all the others.
    Stopped,
}

impl Condition {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Condition::Starting => "starting",
            Condition::Up => "up",
            Condition::Down => "down",
            Condition::Held => "killed",
            Condition::Stopped => "stopped",
        }
    }
}

/// One server as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerState {
    /// As in the layout.
    pub name: String,
    /// How it is.
    pub condition: Condition,
    /// Its process.
    pub process: Option<ProcessIdentity>,
    /// What it calls itself since this start.
    pub run_id: Option<String>,
    /// How often it was started again.
    pub restarts: u64,
    /// How often in a row it ended before it answered.
    pub failed_starts: u32,
}

/// What is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    format: u32,
    /// The supervisor.
    pub supervisor: ProcessIdentity,
    /// The servers, as in the layout.
    pub servers: Vec<ServerState>,
}

impl State {
    /// The state that a supervisor writes.
    pub fn new(supervisor: ProcessIdentity, servers: Vec<ServerState>) -> State {
        State { format: FORMAT, supervisor, servers }
    }

    /// A server by name.
    pub fn server(&self, name: &str) -> Option<&ServerState> {
        self.servers.iter().find(|server| server.name == name)
    }
}

/// The directory of a set of local servers.
#[derive(Clone, Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// The directory given, or `ringfs/local` in the user's state directory.
    pub fn new(given: Option<&Path>) -> Result<Directory, Failure> {
        if let Some(path) = given {
            let absolute = std::path::absolute(path)
                .map_err(|e| Failure::io(format_args!("use {}", path.display()), &e))?;
            return Ok(Directory(absolute));
        }
        Ok(Directory(crate::state_directory::base().join("local")))
    }

    /// Makes it, for the user alone: the servers in it have no password.
    pub fn create(&self) -> Result<(), Failure> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .map_err(|e| Failure::io(format_args!("make the directory {self}"), &e))
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.0
    }
    /// Locked by the supervisor as long as it lives.
    pub fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }
    /// What the supervisor has to say.
    pub fn log(&self) -> PathBuf {
        self.0.join("supervisor.log")
    }
    /// The directory of one server.
    pub fn server(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
    /// Exists while a server is to stay down.
    pub fn held(&self, name: &str) -> PathBuf {
        self.server(name).join("held")
    }

    /// What was asked for; `None` if there was never anything here.
    pub fn layout(&self) -> Result<Option<Layout>, Failure> {
        self.read("layout.json", |layout: &Layout| layout.format)
    }
    /// Writes what is asked for.
    pub fn write_layout(&self, layout: &Layout) -> Result<(), Failure> {
        self.write("layout.json", layout)
    }
    /// What is, as the supervisor last wrote it.
    pub fn state(&self) -> Result<Option<State>, Failure> {
        self.read("state.json", |state: &State| state.format)
    }
    /// Writes what is.
    pub fn write_state(&self, state: &State) -> Result<(), Failure> {
        self.write("state.json", state)
    }

    fn read<T: DeserializeOwned>(
        &self,
        name: &str,
        format: impl Fn(&T) -> u32,
    ) -> Result<Option<T>, Failure> {
        let path = self.0.join(name);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Failure::io(format_args!("read {}", path.display()), &e)),
        };
        match serde_json::from_slice(&text) {
            Ok(value) if format(&value) == FORMAT => Ok(Some(value)),
            _ => Err(Failure::plain(format!(
                "{} is not one that this program wrote; name another directory with --dir",
                path.display()
            ))),
        }
    }

    /// A reader sees the old file or the new one, never a part.
    fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<(), Failure> {
        let path = self.0.join(name);
        let new = self.0.join(format!("{name}.new"));
        let failed = |e: &std::io::Error| Failure::io(format_args!("write {}", path.display()), e);
        let text = serde_json::to_vec_pretty(value)
            .map_err(|e| Failure::plain(format!("cannot write {}: {e}", path.display())))?;
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)
            .map_err(|e| failed(&e))?;
        file.write_all(&text).and_then(|()| fs::rename(&new, &path)).map_err(|e| failed(&e))
    }
}

impl std::fmt::Display for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.display().fmt(f)
    }
}
