//! The background workers of a volume: moving blocks, scrubbing, collecting garbage. They run in the
//! process that coordinates, each in a thread of its own; how each is, and what is wanted of it, is
//! in the metadata server, so that any machine can show, pause and throttle them.
//!
//! A worker keeps nothing in memory that matters: stopped or killed at any moment, it goes on in
//! whatever process coordinates next, from what is recorded.

use crate::error::ClusterError;
use crate::job::{Job, Progress};
use crate::membership::Membership;
use crate::mover::Mover;
use crate::subject::Subject;
use parking_lot::{Condvar, Mutex};
use ringfs_link::{Endpoint, Timeouts};
use ringfs_meta::{MetaError, Token, Volume};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// How often records are written, and wishes read.
const RECORD_EVERY: Duration = Duration::from_secs(1);
/// A worker that failed tries again after this long, and after twice that each time it fails again,
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// up to this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// What a worker works on.
pub struct Site {
    /// The volume with a store that keeps to the ring's state.
    pub membership: Arc<Membership>,
    /// Where the metadata are.
    pub meta: Endpoint,
    /// For connections of its own.
    pub timeouts: Timeouts,
    /// Proof of coordinating.
    pub token: Token,
}

impl Site {
    /// The volume as jobs want it, at the ring as it is now.
    pub fn subject(&self) -> Result<Subject, ClusterError> {
        self.membership.refresh()?;
        self.membership.subject(&self.meta, self.timeouts)
    }
}

/// Something that is done in the background.
pub trait Worker: Send + Sync {
    /// A word, such as `move`.
    fn name(&self) -> &'static str;

    /// Most bytes a second while nobody has wished otherwise; 0 = no limit.
    fn default_limit(&self) -> u64 {
        0
    }

    /// Does what there is to do, in steps of which `job` is told; returns how long to rest. A wake
    /// ends the rest.
    ///
    /// # Errors
    /// It is called again after a while, unless it was told to stop.
    fn run(&self, site: &Site, job: &Job) -> Result<Duration, ClusterError>;
}

/// How a worker is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerState {
    /// There is nothing to do.
    #[default]
    Idle,
    /// It works.
    Working,
    /// Somebody wished it to wait.
    Paused,
    /// It failed, and will try again.
    Failed,
}

/// A worker as everybody may see it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkerStatus {
    /// How it is.
    pub state: WorkerState,
    /// What it does, such as `copying blocks`.
    pub what: String,
    /// Units done of this.
    pub done: u64,
    /// Units there are; 0 if not known.
    pub total: u64,
    /// Bytes moved in this run.
    pub bytes: u64,
    /// Problems found in this run.
    pub problems: u64,
    /// Its limit in bytes a second; 0 = none.
    pub bytes_per_second: u64,
    /// When this run began, in seconds since 1970.
    pub began: u64,
    /// When the last run that came to its end did so; 0 = none yet.
    pub finished: u64,
    /// When this was written.
    pub written: u64,
    /// Why it failed, if so.
    pub error: Option<String>,
}

/// What is wanted of a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkerWish {
    /// It shall wait.
    pub paused: bool,
    /// Most bytes a second (0 = no limit), instead of the worker's own.
    pub bytes_per_second: Option<u64>,
    /// How often it shall do its work, in seconds, instead of as often as the worker itself would.
    pub every_seconds: Option<u64>,
    /// How often somebody has asked that it does its work at once.
    pub asked: u64,
}

impl WorkerWish {
    /// How often it shall do its work.
    pub(crate) fn every(&self, default: Duration) -> Duration {
        self.every_seconds.map_or(default, |seconds| Duration::from_secs(seconds.max(1)))
    }
}

/// The workers that run where the coordinator is.
pub fn standard() -> Vec<Box<dyn Worker>> {
    vec![
        Box::new(Mover::default()),
        Box::new(crate::Scrub),
        Box::new(crate::Recheck),
        Box::new(crate::Collector::default()),
        Box::new(crate::Compactor),
    ]
}

/// The records of all workers.
pub fn statuses(volume: &Volume) -> Result<BTreeMap<String, WorkerStatus>, MetaError> {
    let all = volume.workers()?;
    // What has a point in its name is a wish, or what a worker keeps for itself.
    let statuses = all.into_iter().filter(|(name, _)| !name.contains('.'));
    Ok(statuses
        .filter_map(|(name, text)| Some((name, serde_json::from_str(&text).ok()?)))
        .collect())
}

/// What is wanted of a worker.
pub fn wish(volume: &Volume, worker: &str) -> Result<WorkerWish, MetaError> {
    Ok(wish_in(&volume.workers()?, worker))
}

/// Lets it be known what is wanted of a worker, wherever it runs.
pub fn set_wish(volume: &Volume, worker: &str, wish: WorkerWish) -> Result<(), MetaError> {
    let text = serde_json::to_string(&wish).expect("plain numbers can be written");
    volume.set_worker(&format!("{worker}{WISH}"), Some(&text))
}

const WISH: &str = ".want";

/// What a worker has kept under a name; as at first if it is not there, or cannot be read.
pub(crate) fn record<T: DeserializeOwned + Default>(
    records: &BTreeMap<String, String>,
    name: &str,
) -> T {
    let text = records.get(name);
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// Keeps it.
pub(crate) fn write_record<T: Serialize>(
    volume: &Volume,
    name: &str,
    record: &T,
) -> Result<(), MetaError> {
    let text = serde_json::to_string(record).expect("plain fields can be written");
    volume.set_worker(name, Some(&text))
}

/// Nothing is wanted while nobody has said so, or it cannot be read.
fn wish_in(records: &BTreeMap<String, String>, worker: &str) -> WorkerWish {
    record(records, &format!("{worker}{WISH}"))
}

/// Workers that run in this process. Dropped, they stop after their current steps.
pub struct Workers {
    posts: Vec<Arc<Post>>,
    threads: Vec<JoinHandle<()>>,
    ended: Arc<Flag>,
}

/// A worker with its job.
struct Post {
    worker: Box<dyn Worker>,
    state: Mutex<PostState>,
    rest: Flag,
}

struct PostState {
    job: Arc<Job>,
    wish: WorkerWish,
    /// `wish` has been read.
    heard: bool,
    status: WorkerStatus,
    stopped: bool,
}

/// A flag that can be waited for.
#[derive(Default)]
struct Flag {
    raised: Mutex<bool>,
    changed: Condvar,
}

impl Flag {
    fn raise(&self) {
        *self.raised.lock() = true;
        self.changed.notify_all();
    }

    /// Waits until it is raised or the time is over, and lowers it; whether it was raised.
    fn take(&self, within: Duration) -> bool {
        let until = Instant::now() + within;
        let mut raised = self.raised.lock();
        while !*raised && !self.changed.wait_until(&mut raised, until).timed_out() {}
        std::mem::take(&mut raised)
    }
}

impl Workers {
    /// Starts them.
    pub fn start(site: Arc<Site>, workers: Vec<Box<dyn Worker>>) -> Workers {
        let posts: Vec<Arc<Post>> =
            workers.into_iter().map(|worker| Arc::new(Post::new(worker))).collect();
        let ended = Arc::new(Flag::default());
        let mut threads = Vec::new();
        // What is wanted of them counts before they begin.
        attend(&site, &posts);
        for post in &posts {
            let (post, site) = (post.clone(), site.clone());
            threads.push(spawn(post.worker.name(), move || post.work(&site)));
        }
        let (all, end) = (posts.clone(), ended.clone());
        threads.push(spawn("records", move || {
            while !end.take(RECORD_EVERY) {
                attend(&site, &all);
            }
            attend(&site, &all);
        }));
        Workers { posts, threads: threads.into_iter().flatten().collect(), ended }
    }

    /// Ends the rest of a worker: there may be something to do.
    pub fn wake(&self, name: &str) {
        self.posts
            .iter()
            .filter(|post| post.worker.name() == name)
            .for_each(|post| post.rest.raise());
    }

    /// Tells them all to stop after their current steps, without waiting for it.
    pub fn stop(&self) {
        for post in &self.posts {
            let mut state = post.state.lock();
            state.stopped = true;
            state.job.stop();
            drop(state);
            post.rest.raise();
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop();
        self.ended.raise();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a background worker has panicked");
            }
        }
    }
}

impl Post {
    fn new(worker: Box<dyn Worker>) -> Post {
        let state = PostState {
            job: Arc::default(),
            wish: WorkerWish::default(),
            heard: false,
            status: WorkerStatus::default(),
            stopped: false,
        };
        Post { worker, state: Mutex::new(state), rest: Flag::default() }
    }

    fn work(&self, site: &Site) {
        let mut retry_after = RETRY_AFTER;
        loop {
            let job = {
                let mut state = self.state.lock();
                if state.stopped {
                    return;
                }
                state.job = Arc::new(Job::new().limit(self.limit(state.wish)));
                state.job.set_paused(state.wish.paused);
                state.status.began = now();
                state.status.state = WorkerState::Working;
                state.job.clone()
            };
            let outcome = self.worker.run(site, &job);
            let mut state = self.state.lock();
            state.note(job.progress());
            let rest = match outcome {
                Ok(rest) => {
                    state.status.state = WorkerState::Idle;
                    state.status.finished = now();
                    state.status.error = None;
                    retry_after = RETRY_AFTER;
                    rest
                }
                Err(ClusterError::Stopped) if state.stopped => return,
                Err(error) => {
                    tracing::warn!(worker = self.worker.name(), %error, "will try again");
                    state.status.state = WorkerState::Failed;
                    state.status.error = Some(error.to_string());
                    let rest = retry_after;
                    retry_after = (retry_after * 2).min(RETRY_AFTER_MAX);
                    rest
                }
            };
            drop(state);
            self.rest.take(rest);
        }
    }

    fn limit(&self, wish: WorkerWish) -> u64 {
        wish.bytes_per_second.unwrap_or_else(|| self.worker.default_limit())
    }
}

impl PostState {
    fn note(&mut self, progress: Progress) {
        let status = &mut self.status;
        status.what = progress.what.to_owned();
        (status.done, status.total) = (progress.done, progress.total);
        (status.bytes, status.problems) = (progress.bytes, progress.problems);
    }
}

/// Reads what is wanted of each worker, and writes how each is.
fn attend(site: &Site, posts: &[Arc<Post>]) {
    let volume = site.membership.volume();
    let wishes = match volume.workers() {
        Ok(wishes) => wishes,
        Err(error) => return tracing::debug!(%error, "what is wanted of workers cannot be read"),
    };
    for post in posts {
        let name = post.worker.name();
        let wish = wish_in(&wishes, name);
        let text = {
            let mut state = post.state.lock();
            // Who asks for it now, or at other times, shall not wait for the end of its rest. What
            // was wished before this process began its worker hears by itself.
            let before = state.heard.then_some(state.wish);
            if before.is_some_and(|before| {
                wish.asked > before.asked || wish.every_seconds != before.every_seconds
            }) {
                post.rest.raise();
            }
            state.heard = true;
            state.wish = wish;
            state.job.set_paused(wish.paused);
            state.job.set_limit(post.limit(wish));
            if state.status.state == WorkerState::Working {
                let progress = state.job.progress();
                state.note(progress);
            }
            let mut status = state.status.clone();
            if wish.paused {
                status.state = WorkerState::Paused;
            }
            status.bytes_per_second = post.limit(wish);
            status.written = now();
            serde_json::to_string(&status).expect("plain fields can be written")
        };
        if let Err(error) = volume.set_worker(name, Some(&text)) {
            tracing::debug!(%error, worker = name, "how it is cannot be recorded");
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Option<JoinHandle<()>> {
    let thread = std::thread::Builder::new().name(format!("ringfs-{name}")).spawn(run);
    thread.inspect_err(|error| tracing::error!(%error, worker = name, "cannot be started")).ok()
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
