//! The chaos suite: random faults on real servers under real mounts. See docs/reliability.md.
//!
//! `RINGFS_CHAOS_SEED` repeats a run's choices, `RINGFS_CHAOS_SECONDS` makes it longer or shorter,
//! `RINGFS_CHAOS_NODES` gives it more servers, `RINGFS_CHAOS_ECHO` tells what happens.

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

/// Past what the test harness keeps to itself, so that a run can be repeated and its figures be seen.
fn say(text: &str) {
    writeln!(std::io::stderr(), "{text}").unwrap();
}

fn program() -> Program {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
    Program {
        ringfs: env!("CARGO_BIN_EXE_ringfs").into(),
        // Little is read from memory, and names are known otherwise for a short time only.
        mount: words("--ttl 2s --block-cache 8MiB --write-buffer 64MiB"),
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
                kinds: Kind::ALL.to_vec(),
                heals_itself: false,
                echo: std::env::var_os("RINGFS_CHAOS_ECHO").is_some(),
            },
        )
    });
    let report = reports.reduce(Report::and).unwrap();
    say(&report.to_string());
}
