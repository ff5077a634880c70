//! Keepers of a real volume on real servers that die, hang, restart and are cut off.

#![allow(clippy::unwrap_used, reason = "what fails ends the test")]

use ringfs_base::{Epoch, NodeName, SessionId, Timestamp, VolumeName, VolumeUuid};
use ringfs_cluster::health::verdict::Rules;
use ringfs_cluster::health::{Condition, NodeHealth, Standing, node_health};
use ringfs_cluster::keeper::{KeeperWish, set_keeper_wish};
use ringfs_cluster::workers::{Site, Worker};
use ringfs_cluster::{ClusterError, Job, Keeper, KeeperOptions, KeeperSettings, Membership, Ring};
use ringfs_link::{Endpoint, Timeouts};
use ringfs_meta::{
    Codec, Durability, MetaError, NodeRecord, SessionInfo, Token, Volume, VolumeConfig,
};
use ringfs_ring::{Member, plan};
use ringfs_store::StoreConfig;
use ringfs_testkit::{AppendFsync, Proxy, RedisServer, ServerOptions};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const TIMEOUTS: Timeouts =
    Timeouts { connect: Duration::from_secs(10), reply: Duration::from_secs(10) };
const PATIENCE: Duration = Duration::from_secs(40);
/// The goal for finding out.
const DETECT_GOAL: Duration = Duration::from_secs(5);

struct World {
    meta: RedisServer,
    nodes: Vec<RedisServer>,
    volume: Volume,
}

/// Tests with many rounds; the times of the promise are tested with the defaults.
fn quick() -> KeeperSettings {
    KeeperSettings {
        probe_every: Duration::from_millis(200),
        lease: Duration::from_secs(2),
        rules: Rules { hold_min: Duration::from_secs(1), ..Rules::default() },
        workers: Vec::new,
        ..KeeperSettings::default()
    }
}

fn usual() -> KeeperSettings {
    KeeperSettings {
        rules: Rules { hold_min: Duration::from_secs(1), ..Rules::default() },
        workers: Vec::new,
        ..KeeperSettings::default()
    }
}

fn name(at: usize) -> NodeName {
    NodeName::new(&format!("n{at}")).unwrap()
}

impl World {
    fn new(nodes: usize) -> World {
        let persistent = |_| {
            RedisServer::start(ServerOptions {
                appendfsync: Some(AppendFsync::EverySec),
                ..ServerOptions::default()
            })
        };
        World::of((0..nodes).map(persistent).collect(), nodes)
    }

    /// `count` nodes, the last servers serving several if there are fewer.
    fn of(nodes: Vec<RedisServer>, count: usize) -> World {
        let meta = RedisServer::start_default();
        let records: Vec<NodeRecord> = (0..count)
            .map(|at| NodeRecord { name: name(at), url: nodes[at.min(nodes.len() - 1)].url() })
            .collect();
        let config = VolumeConfig {
            name: VolumeName::new("kept").unwrap(),
            uuid: VolumeUuid(*b"ringfs-keepertst"),
            created: 1,
            replicas: 2,
            block_bytes: 4096,
            codec: Codec::Lz4,
            segment_bytes: 4096,
            inline_max: 1000,
            durability: Durability::Memory,
            inodes_max: 0,
            bytes_max: 0,
            nodes: records.clone(),
        };
        let now = Timestamp(1_000_000_000);
        let volume = Volume::format(&meta.endpoint(), TIMEOUTS, &config, 0, 0, now).unwrap();
        let members: Vec<Member> = (0..count).map(name).map(Member::new).collect();
        let table = plan(None, &members, 2, 64).unwrap();
        volume.set_ring(Epoch(0), &table.encode(), &records).unwrap();
        World { meta, nodes, volume }
    }

    fn keeper(&self, settings: KeeperSettings) -> Observer {
        self.keeper_through(settings, BTreeMap::new())
    }

    /// An observer that reaches some nodes through proxies.
    fn keeper_through(
        &self,
        settings: KeeperSettings,
        proxies: BTreeMap<NodeName, String>,
    ) -> Observer {
        let volume =
            Volume::open(&self.meta.endpoint(), TIMEOUTS, &VolumeName::new("kept").unwrap())
                .unwrap();
        let session = volume.start_session(&SessionInfo::default()).unwrap();
        let ring = Ring::read(&volume).unwrap();
        let addresses = Box::new(move |record: &NodeRecord| {
            let url = proxies.get(&record.name).unwrap_or(&record.url);
            Endpoint::parse(url).map_err(|e| e.to_string())
        });
        let membership =
            Arc::new(Membership::new(volume, ring, StoreConfig::default(), addresses).unwrap());
        let keeper = Keeper::start(KeeperOptions {
            membership: membership.clone(),
            session: session.id(),
            meta: self.meta.endpoint(),
            timeouts: TIMEOUTS,
            settings,
        });
        let observer = Observer { keeper: Some(keeper), membership, session: session.id() };
        until("it has been heard", || observer.snapshot().beats > 0);
        until("it sees all nodes", || {
            let nodes = observer.snapshot().nodes;
            nodes.iter().all(|node| node.latency.is_some() || node.misses > 0)
        });
        observer
    }

    fn health(&self, at: usize) -> NodeHealth {
        node_health(&self.volume).unwrap().remove(name(at).as_str()).unwrap_or_default()
    }

    fn is_down(&self, at: usize) -> bool {
        Ring::read(&self.volume).unwrap().overlay.down.contains(&name(at))
    }

    fn weight(&self, at: usize) -> u32 {
        let ring = Ring::read(&self.volume).unwrap();
        let index = ring.table.index_of(&name(at)).unwrap();
        ring.table.member(index).unwrap().weight
    }

    /// Waits until every node has our mark, and that is recorded.
    fn settle(&self) {
        until("all nodes are marked", || {
            let health = node_health(&self.volume).unwrap();
            health.len() >= self.nodes.len() && health.values().all(|node| node.generation > 0)
        });
    }
}

struct Observer {
    keeper: Option<Keeper>,
    membership: Arc<Membership>,
    session: SessionId,
}

impl Observer {
    fn snapshot(&self) -> ringfs_cluster::KeeperSnapshot {
        self.keeper.as_ref().unwrap().snapshot()
    }

    fn token(&self) -> Token {
        Token(self.snapshot().token)
    }
}

/// Polls a condition that servers and keepers bring about.
#[track_caller]
fn until(what: &str, mut done: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
    begun.elapsed()
}

/// For as long as something wrong would take to happen.
#[track_caller]
fn never_within(time: Duration, what: &str, mut wrong: impl FnMut() -> bool) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        assert!(!wrong(), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn a_killed_and_a_frozen_node(observers: usize) {
    let mut world = World::new(3);
    let keepers: Vec<Observer> = (0..observers).map(|_| world.keeper(usual())).collect();
    world.settle();
    world.nodes[1].kill9();
    let took = until("the killed node is down", || world.is_down(1));
    println!("{observers} observers: kill -9 known after {} ms", took.as_millis());
    assert!(took < DETECT_GOAL, "{took:?}");
    assert_eq!(world.health(1).state, Standing::Down);
    for keeper in &keepers {
        until("every store skips it", || keeper.membership.ring().overlay.down.contains(&name(1)));
    }
    world.nodes[1].restart();
    until("it is up again", || !world.is_down(1));
    assert_eq!(world.health(1).incarnation, 1);

    world.nodes[2].stop();
    let took = until("the frozen node is down", || world.is_down(2));
    println!("{observers} observers: SIGSTOP known after {} ms", took.as_millis());
    world.nodes[2].cont();
    assert!(took < DETECT_GOAL, "{took:?}");
    until("it is up again", || !world.is_down(2));
    assert_eq!((world.health(2).incarnation, world.health(0).incarnation), (1, 0));
}

#[test]
fn a_dead_or_frozen_node_is_down_within_five_seconds_and_comes_back_two_observers() {
    a_killed_and_a_frozen_node(2);
}

#[test]
fn a_dead_or_frozen_node_is_down_within_five_seconds_and_comes_back_one_observer() {
    a_killed_and_a_frozen_node(1);
}

#[test]
fn a_node_that_only_one_of_two_observers_does_not_reach_stays_up() {
    let world = World::new(3);
    let proxy = Proxy::start(world.nodes[1].address());
    let cut = world.keeper_through(quick(), BTreeMap::from([(name(1), proxy.url())]));
    let whole = world.keeper(quick());
    world.settle();
    proxy.refuse();
    until("one suspects it", || cut.snapshot().nodes[1].suspected);
    never_within(Duration::from_secs(4), "down on one word", || world.is_down(1));
    assert!(!whole.snapshot().nodes[1].suspected);
    proxy.restore();
    until("nobody suspects it", || !cut.snapshot().nodes[1].suspected);
    assert_eq!(world.health(1).incarnation, 0);
}

#[test]
fn a_restart_that_nobody_saw_and_data_that_went_without_one_are_noticed() {
    let mut world = World::new(3);
    let keeper = world.keeper(usual());
    world.settle();
    world.nodes[1].restart_empty();
    until("it is noticed", || world.health(1).incarnation == 1);
    assert!(!world.is_down(1));
    world.settle();
    world.nodes[2].command(&["FLUSHALL"]);
    until("it is noticed", || world.health(2).incarnation == 1);
    assert!(!world.is_down(2));
    world.settle();
    // A restart with all its data counts as well: what was written meanwhile is not there.
    world.nodes[0].restart();
    until("it is noticed", || world.health(0).incarnation == 1);
    // And once each.
    let beats = keeper.snapshot().beats;
    until("some beats", || keeper.snapshot().beats > beats + 4);
    let counts = [0, 1, 2].map(|at| world.health(at).incarnation);
    assert_eq!(counts, [1, 1, 1]);
}

#[test]
fn a_node_that_is_down_for_long_is_out_and_gets_its_weight_back() {
    let mut world = World::new(4);
    let settings = quick();
    let keeper = world.keeper(settings);
    set_keeper_wish(&world.volume, KeeperWish { out_after_seconds: Some(3) }).unwrap();
    world.settle();
    let epoch = Ring::read(&world.volume).unwrap().epoch();
    world.nodes[1].kill9();
    until("it is down", || world.is_down(1));
    assert_eq!(world.weight(1), 1);
    let took = until("it is out", || world.weight(1) == 0);
    println!("out {} ms after down", took.as_millis());
    let ring = Ring::read(&world.volume).unwrap();
    assert_eq!(ring.epoch().0, epoch.0 + 1);
    assert!(ring.overlay.down.contains(&name(1)) && ring.state.moving.is_some());
    assert_eq!((world.health(1).state, world.health(1).weight), (Standing::Out, Some(1)));
    // Another may not go: a quarter of four is one.
    world.nodes[2].kill9();
    until("a person is asked for", || world.health(2).needs_person);
    assert_eq!((world.weight(2), world.health(2).state), (1, Standing::Down));
    world.nodes[2].restart();
    until("it is up", || !world.is_down(2));
    assert!(!world.health(2).needs_person);
    // It comes back, and gets its share when what moves has been moved.
    world.nodes[1].restart();
    until("it is up", || !world.is_down(1));
    never_within(Duration::from_secs(1), "in while blocks move", || world.weight(1) > 0);
    world.volume.raise_floor(keeper.token(), ring.epoch()).unwrap();
    world.volume.end_move(keeper.token(), ring.epoch(), None).unwrap();
    until("it is in", || world.weight(1) == 1);
    until("it says so", || world.health(1).state == Standing::Up);
    assert_eq!(world.health(1).weight, None);
}

#[test]
fn when_the_coordinator_dies_another_takes_over_and_the_old_token_is_refused() {
    let mut world = World::new(3);
    let mut first = world.keeper(quick());
    until("it coordinates", || first.snapshot().coordinates);
    let second = world.keeper(quick());
    assert!(!second.snapshot().coordinates);
    world.settle();
    let old = first.token();
    // Its session goes on: as if the process had been killed.
    drop(first.keeper.take());
    let took = until("another coordinates", || second.snapshot().coordinates);
    println!("another coordinates after {} ms at a lease of 2 s", took.as_millis());
    assert!(second.token() > old);
    let version = Ring::read(&world.volume).unwrap().state.overlay_version;
    let refused = world.volume.set_node_states(old, version, Some(b"x"), &[]);
    assert!(matches!(refused, Err(MetaError::NotCoordinator)), "{refused:?}");
    world.nodes[1].kill9();
    until("it judges", || world.is_down(1));
    // The records went on: nobody was restarted in between.
    assert_eq!(world.health(2).incarnation, 0);
}

/// Rounds of the worker below.
static ROUNDS: AtomicU64 = AtomicU64::new(0);

struct Counting;

impl Worker for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }

    fn run(&self, _: &Site, _: &Job) -> Result<Duration, ClusterError> {
        ROUNDS.fetch_add(1, Ordering::SeqCst);
        Ok(Duration::from_millis(10))
    }
}

#[test]
fn workers_run_where_the_coordinator_is_and_end_with_the_lease() {
    let world = World::new(2);
    let settings = KeeperSettings { workers: || vec![Box::new(Counting)], ..quick() };
    let first = world.keeper(settings);
    until("they run", || ROUNDS.load(Ordering::SeqCst) > 3);
    let second = world.keeper(settings);
    assert!(first.snapshot().coordinates && !second.snapshot().coordinates);
    world.meta.stop();
    until("nobody coordinates", || !first.snapshot().coordinates);
    // One round may be under way.
    let rounds = ROUNDS.load(Ordering::SeqCst) + 1;
    never_within(Duration::from_secs(1), "a worker goes on without the lease", || {
        ROUNDS.load(Ordering::SeqCst) > rounds
    });
    world.meta.cont();
    until("somebody coordinates", || {
        [&first, &second].iter().any(|one| one.snapshot().coordinates)
    });
    until("they run again", || ROUNDS.load(Ordering::SeqCst) > rounds + 3);
}

#[test]
fn without_the_metadata_server_there_are_no_verdicts_and_afterwards_there_are() {
    let mut world = World::new(3);
    let keepers = [world.keeper(quick()), world.keeper(quick())];
    world.settle();
    world.meta.stop();
    until("it is said", || keepers.iter().all(|keeper| keeper.snapshot().error.is_some()));
    until("nobody coordinates", || keepers.iter().all(|keeper| !keeper.snapshot().coordinates));
    world.nodes[1].kill9();
    until("it is suspected", || keepers[0].snapshot().nodes[1].suspected);
    world.meta.cont();
    until("it is down", || world.is_down(1));
    until("all is well", || keepers.iter().all(|keeper| keeper.snapshot().error.is_none()));
    // A session that is over takes its keeper along.
    let sessions = world.volume.reap(Duration::ZERO).unwrap_or_default();
    if sessions.is_empty() {
        // The lease has whole seconds.
        until("they are given up", || !world.volume.reap(Duration::ZERO).unwrap().is_empty());
    }
    until("they end", || keepers.iter().all(|keeper| keeper.snapshot().ended));
    assert!(keepers[0].snapshot().error.unwrap().contains("expired"));
    assert_ne!(keepers[0].session, keepers[1].session);
}

#[test]
fn what_a_server_says_of_itself_is_recorded_and_is_no_reason_to_skip_it() {
    let world = World::new(3);
    let _keeper = world.keeper(quick());
    world.settle();
    world.nodes[0].command(&["REPLICAOF", "127.0.0.1", "1"]);
    world.nodes[1].config_set("maxmemory", "500kb");
    world.nodes[2].command(&["SET", "rfg:kept", "00000000-0000-0000-0000-000000000000 7"]);
    until("all is recorded", || {
        [0, 1, 2].map(|at| world.health(at).condition)
            == [Condition::ReadOnly, Condition::Full, Condition::Foreign]
    });
    never_within(Duration::from_secs(2), "down", || (0..3).any(|at| world.is_down(at)));
    // The stranger is not believed, once, and not overwritten.
    assert_eq!([0, 1, 2].map(|at| world.health(at).incarnation), [0, 0, 1]);
    let mark = world.nodes[2].command(&["GET", "rfg:kept"]).into_some_bytes().unwrap();
    assert!(mark.ends_with(b" 7"), "{mark:?}");
    world.nodes[0].command(&["REPLICAOF", "NO", "ONE"]);
    world.nodes[1].config_set("maxmemory", "0");
    until("both are good", || {
        [0, 1].map(|at| world.health(at).condition) == [Condition::Good, Condition::Good]
    });
}

#[test]
fn one_server_under_two_names_is_told() {
    let world = World::of(vec![RedisServer::start_default(), RedisServer::start_default()], 3);
    let _keeper = world.keeper(quick());
    until("it is told", || {
        world.health(2).cause.is_some_and(|cause| cause.contains("the same server as n1"))
    });
    assert_eq!(world.health(0).cause, None);
}
