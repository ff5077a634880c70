//! Finding out what is shown: a thread for each server, and one for the volume's records.

use super::server::Post;
use super::snapshot::{RingLine, ServerState, SessionLine, Snapshot, WorkerLine};
use crate::compose::OpenVolume;
use crate::failure::Failure;
use crate::output::Surroundings;
use parking_lot::{Condvar, Mutex};
use ringfs_cluster::health::{NodeHealth, Standing, node_health};
use ringfs_cluster::mover::MoveRecord;
use ringfs_cluster::workers::{self, WorkerStatus};
use ringfs_cluster::{Membership, Ring};
use ringfs_link::{Endpoint, Timeouts};
use ringfs_meta::{MetaError, SessionRecord, Usage};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// What the metadata server has on record, as of one moment.
#[derive(Clone, Default)]
struct Records {
    ring: Option<Arc<Ring>>,
    node_states: BTreeMap<String, NodeHealth>,
    workers: BTreeMap<String, WorkerStatus>,
    worker_rates: BTreeMap<String, f64>,
    sessions: Vec<SessionRecord>,
    usage: Usage,
    unreadable: Option<u64>,
}

#[derive(Default)]
struct State {
    records: Records,
    error: Option<String>,
    rounds: u64,
    stopped: bool,
    /// The metadata server first, then the nodes in the ring's order.
    posts: Vec<Arc<Post>>,
}

struct Shared {
    membership: Arc<Membership>,
    meta: Endpoint,
    timeouts: Timeouts,
    interval: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

/// Everything that is asked, in the background, until this is dropped.
pub struct Gather(Arc<Shared>);

impl Gather {
    /// Begins to ask, every `interval`.
    pub fn start(
        open: &OpenVolume,
        surroundings: &Surroundings,
        interval: Duration,
    ) -> Result<Gather, Failure> {
        let shared = Arc::new(Shared {
            membership: open.membership(surroundings)?,
            meta: open.endpoint.clone(),
            timeouts: surroundings.timeouts,
            interval,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let failed = |e: std::io::Error| Failure::io("start a thread", &e);
        shared.attend_servers(&open.ring).map_err(failed)?;
        let asker = shared.clone();
        std::thread::Builder::new()
            .name("top-records".to_owned())
            .spawn(move || asker.run())
            .map_err(failed)?;
        Ok(Gather(shared))
    }

    /// What is known now. Waits for nothing.
    pub fn snapshot(&self) -> Snapshot {
        let (records, error, posts) = {
            let state = self.0.state.lock();
            (state.records.clone(), state.error.clone(), state.posts.clone())
        };
        let config = self.0.membership.volume().config();
        let ring = records.ring.clone().unwrap_or_else(|| self.0.membership.ring());
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let moving = ring.state.moving.as_deref().map(describe_move);
        Snapshot {
            volume: config.name.to_string(),
            at: at.map_or(0, |since| since.as_secs()),
            ring: RingLine { epoch: ring.epoch().0, replicas: ring.state.replicas, moving },
            inodes: records.usage.inodes,
            bytes: records.usage.bytes,
            unreadable_files: records.unreadable,
            servers: posts
                .iter()
                .map(|post| {
                    let record = records.node_states.get(&post.name);
                    let is_down = ring.overlay.down.iter().any(|n| n.as_str() == post.name);
                    post.line(verdict(record, is_down))
                })
                .collect(),
            workers: records
                .workers
                .into_iter()
                .map(|(name, status)| {
                    let rate = records.worker_rates.get(&name).copied();
                    worker_line(name, status, rate)
                })
                .collect(),
            sessions: records.sessions.into_iter().map(session_line).collect(),
            error,
        }
    }

    /// Waits until everybody was asked twice, or `within` is over: then there are rates.
    pub fn settle(&self, within: Duration) {
        let deadline = Instant::now() + within;
        while Instant::now() < deadline {
            let mut state = self.0.state.lock();
            if state.rounds >= 2 && state.posts.iter().all(|post| post.rounds() >= 2) {
                return;
            }
            self.0.changed.wait_for(&mut state, Duration::from_millis(20));
        }
    }
}

impl Drop for Gather {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.stopped = true;
        state.posts.clear();
        self.0.changed.notify_all();
    }
}

impl Shared {
    fn run(&self) {
        loop {
            let begun = Instant::now();
            let before = self.state.lock().records.clone();
            let read = self.read(&before);
            let servers = read.as_ref().ok().and_then(|records| records.ring.clone());
            {
                let mut state = self.state.lock();
                state.rounds += 1;
                match read {
                    Ok(records) => {
                        state.records = records;
                        state.error = None;
                    }
                    Err(error) => state.error = Some(error.to_string()),
                }
            }
            if let Some(ring) = servers
                && let Err(error) = self.attend_servers(&ring)
            {
                self.state.lock().error = Some(format!("not all servers can be asked: {error}"));
            }
            let mut state = self.state.lock();
            while !state.stopped {
                if self.changed.wait_until(&mut state, begun + self.interval).timed_out() {
                    break;
                }
            }
            if state.stopped {
                return;
            }
        }
    }

    fn read(&self, before: &Records) -> Result<Records, MetaError> {
        let volume = self.membership.volume();
        let ring = self.membership.refresh()?;
        let workers = workers::statuses(volume)?;
        let worker_rates = workers
            .iter()
            .filter_map(|(name, status)| {
                let kept = before.worker_rates.get(name).copied();
                Some((name.clone(), worker_rate(before.workers.get(name)?, status, kept)?))
            })
            .collect();
        Ok(Records {
            ring: Some(ring),
            node_states: node_health(volume)?,
            workers,
            worker_rates,
            sessions: volume.sessions()?,
            usage: volume.usage()?,
            unreadable: Some(volume.lost()?.len() as u64),
        })
    }

    /// Asks those that are in the ring, and no others any more.
    fn attend_servers(&self, ring: &Ring) -> std::io::Result<()> {
        let nodes = self.membership.nodes(ring).map_err(std::io::Error::other)?;
        let meta = ("metadata".to_owned(), self.meta.clone());
        let wanted: Vec<(String, Endpoint)> = std::iter::once(meta)
            .chain(nodes.into_iter().map(|node| (node.name.to_string(), node.endpoint)))
            .collect();
        let known = self.state.lock().posts.clone();
        let mut posts = Vec::with_capacity(wanted.len());
        for (name, endpoint) in wanted {
            posts.push(match known.iter().find(|post| post.is_for(&name, &endpoint)) {
                Some(post) => post.clone(),
                None => Arc::new(Post::start(name, endpoint, self.timeouts, self.interval)?),
            });
        }
        let mut state = self.state.lock();
        if !state.stopped {
            state.posts = posts;
        }
        Ok(())
    }
}

fn describe_move(record: &str) -> String {
    let record = MoveRecord::decode(record);
    record.describe()
}

/// What the ring says of a node, if not that it is up. Pure.
fn verdict(record: Option<&NodeHealth>, is_down: bool) -> Option<ServerState> {
    match record.map(|record| record.state) {
        Some(Standing::Out) => Some(ServerState::Out),
        Some(Standing::Down) => Some(ServerState::Down),
        _ => is_down.then_some(ServerState::Down),
    }
}

/// Bytes in a second between two records of a worker; `kept` while there is no new one. Pure.
fn worker_rate(before: &WorkerStatus, now: &WorkerStatus, kept: Option<f64>) -> Option<f64> {
    if before.began != now.began {
        return None;
    }
    match now.written.checked_sub(before.written) {
        Some(0) => kept,
        Some(seconds) => Some(now.bytes.checked_sub(before.bytes)? as f64 / seconds as f64),
        None => None,
    }
}

fn worker_line(name: String, status: WorkerStatus, rate: Option<f64>) -> WorkerLine {
    WorkerLine {
        name,
        state: status.state,
        what: status.what,
        done: status.done,
        total: status.total,
        bytes: status.bytes,
        bytes_per_second: rate,
        problems: status.problems,
        error: status.error,
    }
}

fn session_line(session: SessionRecord) -> SessionLine {
    SessionLine {
        id: session.id.0,
        host: session.info.host,
        pid: session.info.pid,
        place: session.info.place,
        idle_seconds: session.idle_seconds,
        epoch: session.epoch.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_of_a_worker_is_that_of_its_run() {
        let at = |began, written, bytes| WorkerStatus {
            began,
            written,
            bytes,
            ..WorkerStatus::default()
        };
        assert_eq!(worker_rate(&at(1, 10, 100), &at(1, 12, 300), None), Some(100.0));
        assert_eq!(worker_rate(&at(1, 10, 100), &at(1, 10, 100), Some(7.0)), Some(7.0));
        assert_eq!(worker_rate(&at(1, 10, 100), &at(2, 12, 300), Some(7.0)), None);
        assert_eq!(worker_rate(&at(1, 12, 300), &at(1, 10, 100), None), None);
    }

    #[test]
    fn the_record_of_a_node_is_its_verdict() {
        assert_eq!(verdict(None, false), None);
        assert_eq!(verdict(None, true), Some(ServerState::Down));
        let record = |state| NodeHealth { state, ..NodeHealth::default() };
        assert_eq!(verdict(Some(&record(Standing::Up)), false), None);
        assert_eq!(verdict(Some(&record(Standing::Out)), true), Some(ServerState::Out));
    }
}
