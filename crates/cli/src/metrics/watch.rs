//! What only servers know, asked for in the background, so that a scrape never waits for them.
//!
//! Two threads: one asks the nodes, one the metadata server. A server that hangs delays the next
//! question to its like and nothing else; how old the answers are is a metric itself.

use parking_lot::{Condvar, Mutex};
use ringfs_base::NodeName;
use ringfs_cluster::Membership;
use ringfs_cluster::health::{NodeHealth, node_health};
use ringfs_cluster::workers::{self, WorkerStatus};
use ringfs_link::Health;
use ringfs_meta::{MetaError, Usage, Volume};
use ringfs_store::{NodeMemory, NodeStatus};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pause between two rounds of questions.
const ASK_EVERY: Duration = Duration::from_secs(3);

/// What was learnt last.
#[derive(Clone, Debug)]
pub struct Learnt<T> {
    /// It.
    pub what: T,
    /// When.
    pub at: Instant,
}

/// A node, as the nodes' thread saw it.
#[derive(Clone, Debug)]
pub struct NodeSeen {
    /// Its name.
    pub name: NodeName,
    /// It answers, and did not fail lately.
    pub is_well: bool,
    /// Smoothed time of one read, once there was one.
    pub read_latency: Option<Duration>,
    /// Its memory, if it told.
    pub memory: Option<NodeMemory>,
}

/// What the metadata server has on record.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// What is known of each node.
    pub node_states: BTreeMap<String, NodeHealth>,
    /// The background workers.
    pub workers: BTreeMap<String, WorkerStatus>,
    /// How much the volume holds.
    pub usage: Usage,
    /// Sessions that are registered.
    pub sessions: u64,
    /// Files of which blocks cannot be had.
    pub unreadable: u64,
}

#[derive(Default)]
struct State {
    nodes: Option<Learnt<Vec<NodeSeen>>>,
    recorded: Option<Learnt<Recorded>>,
    failures: u64,
    stopped: bool,
}

struct Inner {
    state: Mutex<State>,
    stop: Condvar,
}

/// The latest answers. The threads end soon after this is dropped: they are not waited for, since a
/// question under way may have to wait for a dead server.
pub struct Watch(Arc<Inner>);

impl Watch {
    /// Begins to ask.
    pub fn start(membership: Arc<Membership>) -> std::io::Result<Watch> {
        let inner = Arc::new(Inner { state: Mutex::default(), stop: Condvar::new() });
        let (nodes, ring) = (inner.clone(), membership.clone());
        spawn("nodes", move || {
            nodes.repeat(|| {
                let seen = ring.store().nodes().into_iter().map(NodeSeen::of).collect();
                nodes.state.lock().nodes = Some(Learnt { what: seen, at: Instant::now() });
            });
        })?;
        let records = inner.clone();
        spawn("records", move || {
            records.repeat(|| match Recorded::read(membership.volume()) {
                Ok(what) => {
                    records.state.lock().recorded = Some(Learnt { what, at: Instant::now() });
                }
                Err(error) => {
                    records.state.lock().failures += 1;
                    tracing::debug!(%error, "metrics of the volume's records grow old");
                }
            });
        })?;
        Ok(Watch(inner))
    }

    /// The nodes, once they were asked.
    pub fn nodes(&self) -> Option<Learnt<Vec<NodeSeen>>> {
        self.0.state.lock().nodes.clone()
    }

    /// The records, once they were read; and how often they could not be.
    pub fn recorded(&self) -> (Option<Learnt<Recorded>>, u64) {
        let state = self.0.state.lock();
        (state.recorded.clone(), state.failures)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.state.lock().stopped = true;
        self.0.stop.notify_all();
    }
}

impl Inner {
    fn repeat(&self, mut ask: impl FnMut()) {
        loop {
            let begun = Instant::now();
            ask();
            let mut state = self.state.lock();
            while !state.stopped {
                if self.stop.wait_until(&mut state, begun + ASK_EVERY).timed_out() {
                    break;
                }
            }
            if state.stopped {
                return;
            }
        }
    }
}

impl NodeSeen {
    fn of(status: NodeStatus) -> NodeSeen {
        NodeSeen {
            is_well: status.memory.is_ok() && status.health == Health::Up,
            name: status.name,
            read_latency: status.latency,
            memory: status.memory.ok(),
        }
    }
}

impl Recorded {
    fn read(volume: &Volume) -> Result<Recorded, MetaError> {
        Ok(Recorded {
            node_states: node_health(volume)?,
            workers: workers::statuses(volume)?,
            usage: volume.usage()?,
            sessions: volume.sessions()?.len() as u64,
            unreadable: volume.lost()?.len() as u64,
        })
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(format!("ringfs-watch-{name}")).spawn(run).map(|_| ())
}
