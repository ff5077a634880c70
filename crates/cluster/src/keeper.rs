//! A process that keeps a volume's ring: it watches the nodes, tells what it sees, and if it is the one
//! that coordinates, judges, and runs the background workers.
//!
//! There is one in every mount and in every `ringfs agent`. One thread beats once a second: it sends what
//! this observer sees (which renews the lease, if it has it), follows the ring, and, as the
//! coordinator, judges ([`crate::health::verdict`]) and makes it so. Nothing it does is needed for
//! reads and writes: they go by their own evidence, and by the ring as it was last known. While the
//! metadata server is away there are no verdicts, and nothing else happens.

mod tenure;
mod watch;

pub use tenure::{KeeperWish, keeper_wish, set_keeper_wish};

use crate::health::verdict::Rules;
use crate::health::{Condition, NodeHealth, SeenReport, Standing, node_health};
use crate::membership::Membership;
use crate::workers::{self, Site, Worker, Workers};
use parking_lot::Mutex;
use ringfs_base::{NodeName, SessionId};
use ringfs_link::{Endpoint, Timeouts};
use ringfs_meta::{MetaError, Observed, Token, Volume};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tenure::{Tenure, by_name};
use watch::{Bell, Watch};

/// Reports are fresh for so many periods at least.
const FRESH_PERIODS: u32 = 3;
/// And for this long at least.
const FRESH_MIN: Duration = Duration::from_secs(3);
/// A beat is not sent sooner than this after the one before, whatever happens.
const BEAT_MIN: Duration = Duration::from_millis(50);
/// How long one operation is repeated while the metadata server does not answer: the next beat is
/// another attempt.
const PATIENCE: Duration = Duration::from_secs(1);
/// Who stops a keeper waits so long for the current steps of its workers.
const RETIRE_WITHIN: Duration = Duration::from_secs(2);
/// How often it is looked whether they have ended.
const RETIRE_LOOK: Duration = Duration::from_millis(5);
/// While the metadata server is away, this is said so often.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// What can be chosen.
#[derive(Clone, Copy)]
pub struct KeeperSettings {
    /// Time between two probes of a node, and between two reports.
    pub probe_every: Duration,
    /// Probes without an answer in a row that make a suspicion.
    pub suspect_after: u32,
    /// How long the lease of the coordinator lasts after a beat: when it dies another takes over
    /// after this time.
    pub lease: Duration,
    /// How verdicts are made.
    pub rules: Rules,
    /// What runs where the coordinator is.
    pub workers: fn() -> Vec<Box<dyn Worker>>,
}

impl Default for KeeperSettings {
    fn default() -> KeeperSettings {
        KeeperSettings {
            probe_every: Duration::from_secs(1),
            suspect_after: 3,
            lease: Duration::from_secs(5),
            rules: Rules::default(),
            workers: workers::standard,
        }
    }
}

impl KeeperSettings {
    /// Older reports do not count.
    fn fresh(&self) -> Duration {
        (self.probe_every * FRESH_PERIODS).max(FRESH_MIN)
    }
}

impl fmt::Debug for KeeperSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeeperSettings")
            .field("probe_every", &self.probe_every)
            .field("suspect_after", &self.suspect_after)
            .field("lease", &self.lease)
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

/// What a keeper works with.
pub struct KeeperOptions {
    /// The volume with a store that keeps to the ring's state.
    pub membership: Arc<Membership>,
    /// The session of this process. Somebody else sends its heartbeats.
    pub session: SessionId,
    /// Where the metadata are.
    pub meta: Endpoint,
    /// For connections of its own to the metadata server.
    pub timeouts: Timeouts,
    /// The rest.
    pub settings: KeeperSettings,
}

/// A running keeper. Dropped, it stops, and with it the workers that it runs.
pub struct Keeper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    stopped: AtomicBool,
    bell: Arc<Bell>,
    snapshot: Mutex<KeeperSnapshot>,
}

/// A node as a keeper knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// Its name.
    pub name: NodeName,
    /// Whether it takes part, as recorded.
    pub state: Standing,
    /// Why not, as recorded.
    pub cause: Option<String>,
    /// What it says of itself.
    pub condition: Condition,
    /// See [`NodeHealth::incarnation`].
    pub incarnation: u64,
    /// This observer's probes without an answer in a row.
    pub misses: u32,
    /// This observer believes it to be down.
    pub suspected: bool,
    /// Time of the last probe's round trip, if it was answered.
    pub latency: Option<Duration>,
    /// Bytes in use, if it answered.
    pub memory_used: Option<u64>,
    /// Its limit in bytes, 0 = none; if it answered.
    pub memory_max: Option<u64>,
}

/// What a keeper knows, as of its last beat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeeperSnapshot {
    /// It coordinates.
    pub coordinates: bool,
    /// Who does, as far as it knows.
    pub coordinator: Option<SessionId>,
    /// The newest token that it knows of.
    pub token: u64,
    /// The ring's epoch.
    pub epoch: u64,
    /// The version of the ring's state.
    pub version: u64,
    /// It was held up lately, and distrusts itself.
    pub blind: bool,
    /// Beats that the metadata server took.
    pub beats: u64,
    /// What went wrong with the last beat.
    pub error: Option<String>,
    /// It has given up, because its session is over.
    pub ended: bool,
    /// The nodes, by name.
    pub nodes: Vec<NodeView>,
}

impl Keeper {
    /// Starts it. Connects to nothing yet.
    pub fn start(options: KeeperOptions) -> Keeper {
        let shared = Arc::new(Shared {
            stopped: AtomicBool::new(false),
            bell: Arc::new(Bell::default()),
            snapshot: Mutex::default(),
        });
        let mine = shared.clone();
        let thread = std::thread::Builder::new()
            .name("ringfs-keeper".to_owned())
            .spawn(move || Beater::new(options, mine).run())
            .inspect_err(|error| tracing::error!(%error, "the nodes are not watched from here"))
            .ok();
        Keeper { shared, thread }
    }

    /// What it knows.
    pub fn snapshot(&self) -> KeeperSnapshot {
        self.shared.snapshot.lock().clone()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.shared.bell.ring();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that watches the nodes has panicked");
        }
    }
}

/// The thread that beats.
struct Beater {
    options: KeeperOptions,
    shared: Arc<Shared>,
    watch: Watch,
    /// A handle with little patience; opened when the metadata server answers.
    volume: Option<Volume>,
    tenure: Option<Tenure>,
    /// Workers of a tenure that is over, while they end.
    retiring: Option<JoinHandle<()>>,
    /// Until when the lease is ours, if nothing is heard.
    lease_until: Instant,
    /// What is recorded of the nodes, as of the last change of the ring.
    records: BTreeMap<NodeName, NodeHealth>,
    /// The ring's version that the watch and the records are of.
    followed: Option<u64>,
    complained: Option<Instant>,
}

/// The session is over.
struct Over;

impl Beater {
    fn new(options: KeeperOptions, shared: Arc<Shared>) -> Beater {
        let config = options.membership.volume().config();
        let settings = options.settings;
        let watch = Watch::new(
            config.name.clone(),
            config.uuid,
            settings.probe_every,
            settings.suspect_after,
            shared.bell.clone(),
        );
        Beater {
            options,
            shared,
            watch,
            volume: None,
            tenure: None,
            retiring: None,
            lease_until: Instant::now(),
            records: BTreeMap::new(),
            followed: None,
            complained: None,
        }
    }

    fn run(mut self) {
        self.follow_nodes();
        let every = self.options.settings.probe_every;
        loop {
            let begun = Instant::now();
            let beaten = self.beat();
            self.publish(&beaten);
            if matches!(beaten, Ok(Err(Over))) || self.is_stopped() {
                break;
            }
            // A doubt is told sooner, and others' reports of it are looked at sooner.
            let next = begun + if self.in_doubt() { every / 2 } else { every };
            self.shared.bell.wait_until(next);
            if self.is_stopped() {
                break;
            }
            self.watch.note_late(Instant::now().saturating_duration_since(next));
            let soonest = begun + BEAT_MIN;
            std::thread::sleep(soonest.saturating_duration_since(Instant::now()));
        }
        self.step_down();
        // A step of a worker may wait for a server that is gone. It may be cut off at any moment.
        let until = Instant::now() + RETIRE_WITHIN;
        while Instant::now() < until && !self.has_retired() {
            std::thread::sleep(RETIRE_LOOK);
        }
    }

    fn is_stopped(&self) -> bool {
        self.shared.stopped.load(Ordering::SeqCst)
    }

    /// Something is suspected here and has no consequence yet.
    fn in_doubt(&self) -> bool {
        let overlay = &self.options.membership.ring().overlay;
        let report = self.watch.report();
        report.nodes.iter().any(|(name, seen)| {
            seen.misses > 0 && !overlay.down.iter().any(|down| down.as_str() == name)
        })
    }

    fn beat(&mut self) -> Result<Result<(), Over>, MetaError> {
        let settings = self.options.settings;
        let begun = Instant::now();
        let report = self.watch.report();
        // Who was held up lets the lease go to another.
        let lease = if report.blind { Duration::ZERO } else { settings.lease };
        let volume = match self.volume() {
            Ok(volume) => volume,
            Err(error) => return self.unheard(error),
        };
        let observed = match volume.observe(self.options.session, lease, &report.encode()) {
            Ok(observed) => observed,
            Err(MetaError::Fenced) => {
                self.step_down();
                return Ok(Err(Over));
            }
            Err(error) => return self.unheard(error),
        };
        self.note_observed(&observed);
        let mine = observed.coordinator == Some(self.options.session);
        if mine && !report.blind {
            self.lease_until = begun + settings.lease;
        }
        if !mine || self.tenure.as_ref().is_some_and(|tenure| tenure.token != observed.token) {
            self.step_down();
        }
        self.follow_ring(&volume, &observed)?;
        if mine && !report.blind && self.has_retired() {
            self.preside(&volume, &observed)?;
        }
        Ok(Ok(()))
    }

    /// The metadata server did not answer: the lease may be somebody else's by now.
    fn unheard(&mut self, error: MetaError) -> Result<Result<(), Over>, MetaError> {
        if Instant::now() >= self.lease_until {
            self.step_down();
        }
        Err(error)
    }

    fn volume(&mut self) -> Result<Volume, MetaError> {
        if let Some(volume) = &self.volume {
            return Ok(volume.clone());
        }
        let name = &self.options.membership.volume().config().name;
        let (meta, timeouts) = (&self.options.meta, self.options.timeouts);
        let volume = Volume::open_with_patience(meta, timeouts, name, PATIENCE)?;
        self.volume = Some(volume.clone());
        Ok(volume)
    }

    fn preside(&mut self, volume: &Volume, observed: &Observed) -> Result<(), MetaError> {
        let settings = self.options.settings;
        if self.tenure.is_none() {
            let site = self.site(observed.token);
            self.tenure = Some(Tenure::begin(site, self.options.session, &settings));
        }
        let Some(tenure) = &mut self.tenure else { return Ok(()) };
        let done = tenure.preside(volume, observed, &self.watch, &settings);
        if let Some(records) = tenure.records() {
            self.records.clone_from(records);
        }
        match done {
            Err(MetaError::NotCoordinator) => {
                self.step_down();
                Ok(())
            }
            // Somebody changed the ring at the same time.
            Err(MetaError::RingConflict { .. }) => {
                self.options.membership.refresh()?;
                Ok(())
            }
            other => other,
        }
    }

    fn site(&self, token: Token) -> Arc<Site> {
        Arc::new(Site {
            membership: self.options.membership.clone(),
            meta: self.options.meta.clone(),
            timeouts: self.options.timeouts,
            token,
        })
    }

    /// Coordinates no more. The workers end beside, so that nothing waits for their last steps.
    fn step_down(&mut self) {
        let Some(tenure) = self.tenure.take() else { return };
        let workers: Workers = tenure.end();
        let spawned = std::thread::Builder::new()
            .name("ringfs-retire".to_owned())
            .spawn(move || drop(workers));
        match spawned {
            Ok(thread) => self.retiring = Some(thread),
            // Then they were dropped, and have ended.
            Err(error) => tracing::debug!(%error, "workers were waited for"),
        }
    }

    /// Whether the workers of the last tenure have ended: two sets of them in one process would be in
    /// each other's way.
    fn has_retired(&mut self) -> bool {
        if self.retiring.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return false;
        }
        if let Some(thread) = self.retiring.take()
            && thread.join().is_err()
        {
            tracing::error!("a thread that ended workers has panicked");
        }
        true
    }

    /// Keeps to the ring: store, watch and records.
    fn follow_ring(&mut self, volume: &Volume, observed: &Observed) -> Result<(), MetaError> {
        let membership = self.options.membership.clone();
        if membership.ring().state.version != observed.version {
            membership.refresh()?;
        }
        let version = membership.ring().state.version;
        if self.followed != Some(version) {
            self.follow_nodes();
            self.records = by_name(node_health(volume)?);
            self.followed = Some(version);
        }
        Ok(())
    }

    fn follow_nodes(&mut self) {
        let membership = &self.options.membership;
        match membership.nodes(&membership.ring()) {
            Ok(nodes) => self.watch.follow(nodes),
            Err(error) => tracing::error!(%error, "the nodes cannot be watched"),
        }
    }

    fn note_observed(&self, observed: &Observed) {
        let mut snapshot = self.shared.snapshot.lock();
        snapshot.beats += 1;
        snapshot.coordinator = observed.coordinator;
        snapshot.token = observed.token.0;
    }

    fn publish(&mut self, beaten: &Result<Result<(), Over>, MetaError>) {
        let ring = self.options.membership.ring();
        let report = self.watch.report();
        let nodes = ring.names().into_iter().map(|name| self.view(name, &report)).collect();
        let mut snapshot = self.shared.snapshot.lock();
        snapshot.coordinates = self.tenure.is_some();
        snapshot.epoch = ring.epoch().0;
        snapshot.version = ring.state.version;
        snapshot.blind = report.blind;
        snapshot.nodes = nodes;
        snapshot.ended = matches!(beaten, Ok(Err(Over)));
        snapshot.error = match beaten {
            Ok(Ok(())) => None,
            Ok(Err(Over)) => Some(MetaError::Fenced.to_string()),
            Err(error) => Some(error.to_string()),
        };
        let error = snapshot.error.clone();
        drop(snapshot);
        match error {
            None => self.complained = None,
            Some(error) if self.complained.is_none_or(|last| last.elapsed() > COMPLAIN_EVERY) => {
                tracing::warn!(%error, "what the nodes do is not told to the others");
                self.complained = Some(Instant::now());
            }
            Some(_) => {}
        }
    }

    fn view(&self, name: NodeName, report: &SeenReport) -> NodeView {
        let seen = report.of(&name).cloned().unwrap_or_default();
        let record = self.records.get(&name).cloned().unwrap_or_default();
        let answer = seen.answer.as_ref();
        NodeView {
            state: record.state,
            cause: record.cause.or(seen.cause),
            condition: answer.map_or(record.condition, |answer| answer.condition),
            incarnation: record.incarnation,
            misses: seen.misses,
            suspected: seen.suspected,
            latency: answer.map(|answer| Duration::from_micros(answer.latency_us)),
            memory_used: answer.map(|answer| answer.memory_used),
            memory_max: answer.map(|answer| answer.memory_max),
            name,
        }
    }
}
