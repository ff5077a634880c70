//! The nodes as one store sees them: a connection pool each, and what is known about their health.

use crate::placement::{NodeIndex, Placement};
use crate::plan::{Condition, others_order};
use parking_lot::Mutex;
use ringfs_base::{BlockId, NodeName};
use ringfs_link::{Endpoint, Health, LinkError, Pool, PooledConn, Timeouts};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A block server as the volume's membership record names it.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name, by which the ring places blocks.
    pub name: NodeName,
    /// Where it is now.
    pub endpoint: Endpoint,
}

impl Node {
    /// Whether name, address and credentials are the same, so that connections may be kept.
    pub(crate) fn is_same(&self, other: &Node) -> bool {
        self.name == other.name && self.endpoint == other.endpoint
    }
}

/// A node with its connections.
pub(crate) struct Peer {
    pub(crate) node: Node,
    pub(crate) pool: Pool,
    /// Another copy overtook it; cleared by the next answer in time.
    lagging: AtomicBool,
    /// Smoothed time of one read, in microseconds; 0 before the first.
    latency_us: AtomicU64,
    /// It answers, and takes no writes: until then none is sent.
    refuses_until: Mutex<Option<Instant>>,
}

/// A server that refuses a write because of what it is now (it loads its data, is a replica, cannot
/// save) gets no other for this long. Blocks need not travel there for nothing.
const REFUSAL: Duration = Duration::from_secs(1);
/// How such answers begin.
const REFUSALS: [&str; 4] = ["LOADING", "READONLY", "MISCONF", "MASTERDOWN"];

/// Weight of the newest sample in the smoothed latency: 1/8, as TCP does it.
const SMOOTHING: u64 = 8;

impl Peer {
    pub(crate) fn new(node: Node, timeouts: Timeouts) -> Peer {
        Peer {
            pool: Pool::new(node.endpoint.clone(), timeouts),
            node,
            lagging: AtomicBool::new(false),
            latency_us: AtomicU64::new(0),
            refuses_until: Mutex::default(),
        }
    }

    pub(crate) fn is_suspect(&self) -> bool {
        matches!(self.pool.health(), Health::Suspect { .. })
    }

    /// Whether it refused a write just now because of what it is.
    pub(crate) fn refuses_writes(&self) -> bool {
        self.refuses_until.lock().is_some_and(|until| Instant::now() < until)
    }

    /// It answered a write with this error.
    pub(crate) fn note_refusal(&self, error: &LinkError) {
        if error.code().is_some_and(|code| REFUSALS.contains(&code)) {
            *self.refuses_until.lock() = Some(Instant::now() + REFUSAL);
        }
    }

    pub(crate) fn is_lagging(&self) -> bool {
        self.lagging.load(Ordering::Relaxed)
    }

    pub(crate) fn overtaken(&self) {
        self.lagging.store(true, Ordering::Relaxed);
    }

    /// It answered in time.
    pub(crate) fn answered(&self, after: Duration) {
        self.lagging.store(false, Ordering::Relaxed);
        let sample = (after.as_micros() as u64).max(1);
        let before = self.latency_us.load(Ordering::Relaxed);
        let smoothed =
            if before == 0 { sample } else { before - before / SMOOTHING + sample / SMOOTHING };
        // A sample lost to a race does not matter.
        self.latency_us.store(smoothed.max(1), Ordering::Relaxed);
    }

    /// Smoothed time of one read, `None` before the first.
    pub(crate) fn latency(&self) -> Option<Duration> {
        match self.latency_us.load(Ordering::Relaxed) {
            0 => None,
            us => Some(Duration::from_micros(us)),
        }
    }

    /// A connection. While the node is suspect it is refused at once, without the attempt that the
    /// pool would make now and then: the mender probes, so that no reader or writer has to wait
    /// for a dead node. `Haste::LastResort` makes the attempt.
    pub(crate) fn connect(&self, haste: Haste) -> Result<PooledConn, LinkError> {
        match (haste, self.pool.health()) {
            (Haste::Normal, Health::Suspect { cause, .. }) => Err(cause),
            _ => self.pool.get(),
        }
    }
}

/// Whether to bother nodes in doubt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Haste {
    /// There are other nodes.
    Normal,
    /// All others have failed.
    LastResort,
}

/// Nodes and placement of one moment; exchanged as one when the membership changes.
pub(crate) struct View {
    pub(crate) peers: Vec<Arc<Peer>>,
    pub(crate) placement: Arc<dyn Placement>,
}

impl View {
    /// The node behind an index. A placement that names nodes which the list does not have is a
    /// mistake of the caller; such a node counts as one that is down.
    pub(crate) fn peer(&self, node: NodeIndex) -> Option<&Arc<Peer>> {
        self.peers.get(node.0)
    }

    pub(crate) fn condition(&self, node: NodeIndex) -> Condition {
        match self.peer(node) {
            None => Condition::Suspect,
            Some(_) if self.placement.is_down(node) => Condition::Suspect,
            Some(peer) if peer.is_suspect() => Condition::Suspect,
            Some(peer) if peer.is_lagging() => Condition::Lagging,
            Some(_) => Condition::Up,
        }
    }

    /// Where else than on its owners a copy of a block may be, the likeliest first: who held it
    /// before, who stands in, and at last every node that is up, for a table may have forgotten one.
    pub(crate) fn others(&self, block: BlockId, owners: &[NodeIndex]) -> Vec<NodeIndex> {
        let former = self.placement.former_owners(block);
        let mut rest = self.placement.stand_ins(block);
        let all = (0..self.peers.len()).map(NodeIndex);
        rest.extend(all.filter(|node| !self.placement.is_down(*node)));
        others_order(owners, &former, &rest, |node| self.condition(node))
    }

    pub(crate) fn names(&self, nodes: impl IntoIterator<Item = NodeIndex>) -> Vec<NodeName> {
        nodes.into_iter().filter_map(|node| Some(self.peer(node)?.node.name.clone())).collect()
    }

    pub(crate) fn name(&self, node: NodeIndex) -> Option<NodeName> {
        Some(self.peer(node)?.node.name.clone())
    }
}
