//! The chaos suite: random faults on real servers under real mounts. See docs/reliability.md.
//!
//! `RINGFS_CHAOS_SEED` repeats a run's choices, `RINGFS_CHAOS_SECONDS` makes it longer or shorter,
//! `RINGFS_CHAOS_NODES` gives it more servers, `RINGFS_CHAOS_KINDS=KillNode,Flip` only these faults, and
//! `RINGFS_CHAOS_ECHO` tells what happens as it happens.

#![allow(clippy::unwrap_used, reason = "a test has no use for an error")]

mod mounted;

use mounted::{Volume as TestVolume, eventually, noise};
use ringfs_base::VolumeName;
use ringfs_cluster::workers::{self, WorkerWish};
use ringfs_link::{Endpoint, Timeouts};
use ringfs_meta::Volume;
use ringfs_ring::StatusOverlay;
use ringfs_testkit::chaos::cluster::Program;
use ringfs_testkit::chaos::plan::{Kind, Shape};
use ringfs_testkit::chaos::{self, Options, Report, Watch};
use std::io::Write;
use std::time::Duration;

const SEED: u64 = 0x5eed;
const SECONDS: u64 = 90;
const NODES: u64 = 5;
const MOUNTS: usize = 3;
/// Every copy is read within this time.
const SCRUB_SECONDS: u64 = 8;
/// Runs that are longer do not wait for the damping of servers that go up and down.
const SHORT: Duration = Duration::from_secs(300);

struct Record(Volume);

impl Watch for Record {
    fn down(&self) -> Vec<usize> {
        let Ok(state) = self.0.ring_state() else { return Vec::new() };
        if state.overlay.is_empty() {
            return Vec::new();
        }
        let overlay = StatusOverlay::decode(&state.overlay).unwrap();
        let number = |name: &str| name.strip_prefix('n').and_then(|n| n.parse().ok());
        overlay.down.iter().filter_map(|name| number(name.as_str())).collect()
    }

    fn coordinator(&self) -> Option<u32> {
        let id = self.0.coordinator().ok()??;
        let sessions = self.0.sessions().ok()?;
        sessions.into_iter().find(|session| session.id == id).map(|session| session.info.pid)
    }
}

fn watch(url: &str) -> Box<dyn Watch> {
    let (server, volume) = url.rsplit_once('/').unwrap();
    let endpoint = Endpoint::parse(server).unwrap();
    let name = VolumeName::new(volume).unwrap();
    let volume = Volume::open(&endpoint, Timeouts::default(), &name).unwrap();
    // A week's scrub within a round.
    let wish = WorkerWish { every_seconds: Some(SCRUB_SECONDS), ..WorkerWish::default() };
    workers::set_wish(&volume, ringfs_cluster::SCRUB, wish).unwrap();
    Box::new(Record(volume))
}

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

/// Those whose names are in `RINGFS_CHAOS_KINDS`, such as `KillMeta,Flip`; all without it.
fn kinds() -> Vec<Kind> {
    let wanted = std::env::var("RINGFS_CHAOS_KINDS").ok();
    let is_wanted = |kind: &Kind| {
        let name = format!("{kind:?}");
        wanted.as_ref().is_none_or(|list| list.split(',').any(|word| word == name))
    };
    Kind::ALL.into_iter().filter(is_wanted).collect()
}

/// Past what the test harness keeps to itself, so that a run can be repeated and its figures be seen.
fn say(text: &str) {
    let mut stderr = std::io::stderr();
    writeln!(stderr, "{text}").unwrap();
}

fn program(time: Duration) -> Program {
    let words =
        |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
    // A server is probed once a second, as ever; what comes minutes later shall come in seconds.
    let hold = if time <= SHORT { 1 } else { 0 };
    let keeping = || words(&format!("--out-after 4s --lease 3s --hold {hold}s"));
    Program {
        ringfs: env!("CARGO_BIN_EXE_ringfs").into(),
        // Little is read from memory, and names are known otherwise for a short time only.
        mount: [words("--ttl 2s --write-back 500ms --block-cache 8MiB"), keeping()].concat(),
        agent: [words("agent"), keeping()].concat(),
    }
}

#[test]
fn nothing_acknowledged_is_lost_while_fewer_servers_fail_than_there_are_copies() {
    let seed = from_environment("RINGFS_CHAOS_SEED", SEED);
    let seconds = from_environment("RINGFS_CHAOS_SECONDS", SECONDS);
    let nodes = from_environment("RINGFS_CHAOS_NODES", NODES) as usize;
    say(&format!("chaos: seed {seed} (RINGFS_CHAOS_SEED={seed} repeats it), {seconds} s"));
    let time = Duration::from_secs(seconds) / 2;
    // Two kinds of rings, each for half of the time.
    let reports = (0..2).map(|half| {
        let persistent = (seed + half).is_multiple_of(2);
        let replicas = 2 + ((seed >> 1) + half) as usize % 2;
        chaos::run(
            &program(time),
            &watch,
            &Options {
                seed: seed.wrapping_add(half),
                time,
                shape: Shape { nodes, replicas, persistent, mounts: MOUNTS },
                kinds: kinds(),
                heals_itself: true,
                echo: std::env::var_os("RINGFS_CHAOS_ECHO").is_some(),
            },
        )
    });
    let report = reports.reduce(Report::and).unwrap();
    say(&report.to_string());
}

/// The suite itself: with one copy of each block an empty restart loses data, and it says so.
#[test]
fn a_loss_is_noticed() {
    let options = Options {
        seed: 1,
        time: Duration::from_secs(60),
        shape: Shape { nodes: 2, replicas: 1, persistent: true, mounts: 2 },
        kinds: vec![Kind::EmptyNode],
        heals_itself: true,
        echo: false,
    };
    let run = || chaos::run(&program(options.time), &watch, &options);
    let story = std::panic::catch_unwind(run).expect_err("data were lost");
    let story = story.downcast_ref::<String>().unwrap();
    assert!(story.contains("Input/output error"), "{story}");
}

/// More servers are gone than there may be.
#[test]
fn what_is_lost_is_told_at_once_the_rest_goes_on_and_what_returns_is_used() {
    const FILES: usize = 60;
    const BYTES: usize = 300_000;
    /// The goal is 3 s, on a machine of one's own.
    const PROMPT: Duration = Duration::from_secs(15);
    let mut volume = TestVolume::format(4, 2);
    let writer = volume.mount();
    let names: Vec<String> = (0..FILES).map(|number| format!("f{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        std::fs::write(writer.path(name), noise(number as u64, BYTES)).unwrap();
    }
    std::fs::write(writer.path("small"), b"kept with its name").unwrap();
    drop(writer);
    // Remembers nothing of them.
    let mount = volume.mount();
    volume.nodes[0].kill9();
    volume.nodes[1].kill9();
    let mut longest = Duration::ZERO;
    let mut read = |name: &str| {
        let begin = std::time::Instant::now();
        let found = std::fs::read(mount.path(name));
        longest = longest.max(begin.elapsed());
        found
    };
    let mut lost: Vec<String> = Vec::new();
    for (number, name) in names.iter().enumerate() {
        match read(name) {
            Ok(found) => assert!(found == noise(number as u64, BYTES), "{name}"),
            Err(e) => {
                assert_eq!(e.raw_os_error(), Some(libc::EIO), "{name}: {e}");
                lost.push(name.clone());
            }
        }
    }
    assert!((1..FILES / 2).contains(&lost.len()), "{lost:?}");
    assert!(longest < PROMPT, "{longest:?}");
    assert_eq!(std::fs::read(mount.path("small")).unwrap(), b"kept with its name");
    // Everything but their data is as ever.
    std::fs::write(mount.path("new"), noise(99, 2 << 20)).unwrap();
    assert!(std::fs::read(mount.path("new")).unwrap() == noise(99, 2 << 20));
    std::fs::rename(mount.path(&lost[0]), mount.path("moved")).unwrap();
    std::fs::rename(mount.path("moved"), mount.path(&lost[0])).unwrap();
    let shown = |volume: &TestVolume, name: &String| {
        let status = volume.tool("status", &["--json"]).stdout;
        String::from_utf8_lossy(&status).contains(&format!("/{name}\""))
    };
    eventually("status names the files", || lost.iter().all(|name| shown(&volume, name)));
    say(&format!("chaos: {} of {FILES} files lost, told after {longest:?} at most", lost.len()));
    volume.nodes[0].restart();
    volume.nodes[1].restart();
    for (number, name) in names.iter().enumerate() {
        eventually("what came back is read", || {
            std::fs::read(mount.path(name)).is_ok_and(|found| found == noise(number as u64, BYTES))
        });
    }
    eventually("status does not name them any more", || {
        !lost.iter().any(|name| shown(&volume, name))
    });
    eventually("every block has all its copies", || {
        volume.tool("gc", &["--delete"]).status.success()
            && volume.tool("fsck", &["--deep"]).status.success()
    });
}
