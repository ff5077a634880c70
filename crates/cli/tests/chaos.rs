//! The chaos suite: random faults on real servers under real mounts. See docs/reliability.md.
//!
//! `RINGFS_CHAOS_SEED` repeats a run's choices, `RINGFS_CHAOS_SECONDS` makes it longer or shorter,
//! `RINGFS_CHAOS_NODES` gives it more servers, `RINGFS_CHAOS_KINDS=KillNode,Flip` only these faults, and
//! `RINGFS_CHAOS_ECHO` tells what happens as it happens.

mod mounted;

use mounted::{Volume as TestVolume, eventually, noise};
use ringfs_base::VolumeName;
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
        None
    }
}

fn watch(url: &str) -> Box<dyn Watch> {
    let (server, volume) = url.rsplit_once('/').unwrap();
    let endpoint = Endpoint::parse(server).unwrap();
    let name = VolumeName::new(volume).unwrap();
    Box::new(Record(Volume::open(&endpoint, Timeouts::default(), &name).unwrap()))
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
    writeln!(std::io::stderr(), "{text}").unwrap();
}

fn program() -> Program {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
    Program {
        ringfs: env!("CARGO_BIN_EXE_ringfs").into(),
        // Little is read from memory, and names are known otherwise for a short time only.
        mount: words("--ttl 2s --write-back 500ms --block-cache 8MiB --write-buffer 64MiB"),
        agent: Vec::new(),
    }
}

#[test]
fn nothing_acknowledged_is_lost_while_fewer_servers_fail_than_there_are_copies() {
    let seed = from_environment("RINGFS_CHAOS_SEED", SEED);
    let seconds = from_environment("RINGFS_CHAOS_SECONDS", SECONDS);
    let nodes = from_environment("RINGFS_CHAOS_NODES", NODES) as usize;
    say(&format!("chaos: seed {seed} (RINGFS_CHAOS_SEED={seed} repeats it), {seconds} s"));
    // Two kinds of rings, each for half of the time.
    let reports = (0..2).map(|half| {
        let persistent = (seed + half) % 2 == 0;
        let replicas = 2 + ((seed >> 1) + half) as usize % 2;
        chaos::run(
            &program(),
            &watch,
            &Options {
                seed: seed.wrapping_add(half),
                time: Duration::from_secs(seconds) / 2,
                shape: Shape { nodes, replicas, persistent, mounts: MOUNTS },
                kinds: kinds(),
                heals_itself: false,
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
    let run = || chaos::run(&program(), &watch, &options);
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
    let mut lost = Vec::new();
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
    say(&format!("chaos: {} of {FILES} files lost, told after {longest:?} at most", lost.len()));
    volume.nodes[0].restart();
    volume.nodes[1].restart();
    for (number, name) in names.iter().enumerate() {
        eventually("what came back is read", || {
            std::fs::read(mount.path(name)).is_ok_and(|found| found == noise(number as u64, BYTES))
        });
    }
    drop(mount);
    let out = volume.tool("repair", &[]);
    assert!(out.status.success(), "{}", mounted::text(&out));
    volume.assert_fsck_clean();
}
