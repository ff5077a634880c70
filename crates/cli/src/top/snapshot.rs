//! What is shown, as of one moment: plain values, found by `gather` and drawn by `draw`.

use ringfs_cluster::workers::WorkerState;
use serde::Serialize;

/// A volume and its servers at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Snapshot {
    /// The volume's name.
    pub volume: String,
    /// When this was, in seconds since 1970.
    pub at: u64,
    /// The ring.
    pub ring: RingLine,
    /// How much the volume holds.
    pub inodes: u64,
    /// Bytes of its files by their sizes.
    pub bytes: u64,
    /// Files with blocks that nobody can read now; `None` if nobody keeps count.
    pub unreadable_files: Option<u64>,
    /// The metadata server first, then the nodes.
    pub servers: Vec<ServerLine>,
    /// The background workers.
    pub workers: Vec<WorkerLine>,
    /// Who uses the volume.
    pub sessions: Vec<SessionLine>,
    /// Why the volume's records cannot be read now, if so: all but the servers is old then.
    pub error: Option<String>,
}

/// The ring.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RingLine {
    /// The epoch of its table.
    pub epoch: u64,
    /// Copies wanted of each block.
    pub replicas: u8,
    /// What is being moved, if something is.
    pub moving: Option<String>,
}

/// How a server is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerState {
    /// Its blocks are kept elsewhere.
    Out,
    /// The ring's coordinator says that it is down, or it refuses connections.
    Down,
    /// It does not answer.
    Silent,
    /// It reads its data from disk.
    Loading,
    /// It was not asked yet.
    #[default]
    Unknown,
    /// It answers.
    Up,
}

impl ServerState {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            ServerState::Out => "out",
            ServerState::Down => "down",
            ServerState::Silent => "silent",
            ServerState::Loading => "loading",
            ServerState::Unknown => "asking",
            ServerState::Up => "up",
        }
    }
}

/// One server.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ServerLine {
    /// Its name; `metadata` for the metadata server.
    pub name: String,
    /// Its address.
    pub address: String,
    /// How it is.
    pub state: ServerState,
    /// Why, if it is not up.
    pub cause: Option<String>,
    /// Bytes in use.
    pub memory_used: Option<u64>,
    /// Its limit; 0 if it has none.
    pub memory_max: Option<u64>,
    /// Commands in a second.
    pub ops_per_second: Option<f64>,
    /// Bytes that it receives in a second.
    pub in_per_second: Option<f64>,
    /// Bytes that it sends in a second.
    pub out_per_second: Option<f64>,
    /// One round trip, in microseconds.
    pub latency_us: Option<u64>,
}

/// One background worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct WorkerLine {
    /// Its name.
    pub name: String,
    /// How it is.
    pub state: WorkerState,
    /// What it does.
    pub what: String,
    /// Units done of its run.
    pub done: u64,
    /// Units of its run; 0 if not known.
    pub total: u64,
    /// Bytes that it moved in its run.
    pub bytes: u64,
    /// Bytes that it moves in a second.
    pub bytes_per_second: Option<f64>,
    /// Problems that it found.
    pub problems: u64,
    /// Why it failed, if so.
    pub error: Option<String>,
}

/// One session.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SessionLine {
    /// Its number.
    pub id: u64,
    /// The machine.
    pub host: String,
    /// The process.
    pub pid: u32,
    /// The mount point, or what the tool does.
    pub place: String,
    /// Seconds since its last sign of life.
    pub idle_seconds: u64,
    /// The ring's epoch that it works by.
    pub epoch: u64,
}

impl Snapshot {
    /// The block servers.
    pub fn nodes(&self) -> &[ServerLine] {
        self.servers.get(1..).unwrap_or_default()
    }

    /// The sum over the block servers of what is known.
    pub fn sum(&self, value: impl Fn(&ServerLine) -> Option<f64>) -> f64 {
        self.nodes().iter().filter_map(value).sum()
    }
}
