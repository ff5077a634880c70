//! Figures of moving: bytes against the optimum that the ring proves, for servers that come, go, drain
//! and get another weight; and the rate at which copies are rebuilt against plain copying.
//!
//!     cargo run --release -p ringfs-cluster --example moves [-- BLOCKS [BLOCK_BYTES]]
//!     cargo run --release -p ringfs-cluster --example moves -- latency
//!
//! The second prints what readers and writers notice of a move at several throttles. The first
//! prints two tables in Markdown. Real servers on this machine, all on the same cores: the bytes are
//! what matters in the first table, and the ratio in the second.
#![allow(clippy::unwrap_used, reason = "an example that cannot go on ends")]

#[path = "../tests/lab/mod.rs"]
mod lab;

use lab::{Lab, fill, name};
use ringfs_base::BlockId;
use ringfs_cluster::change::Change;
use ringfs_cluster::mover::WORKER;
use ringfs_cluster::workers::statuses;
use ringfs_link::{Cmd, Conn};
use ringfs_ring::MovePlan;
use ringfs_store::{NodeIndex, Placement};
use std::time::{Duration, Instant};

/// Copies of each block.
const REPLICAS: u8 = 2;
/// Arcs: the default of a new volume.
const ARCS: u32 = 4096;

fn main() {
    if std::env::args().nth(1).is_some_and(|what| what == "latency") {
        return latency();
    }
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>().unwrap());
    let blocks = arguments.next().unwrap_or(20_000);
    let block_bytes = arguments.next().unwrap_or(4096) as u32;

    println!(
        "Copies moved, {blocks} blocks of {block_bytes} bytes, {REPLICAS} copies, {ARCS} arcs:\n"
    );
    println!(
        "| servers | change | copies moved | least possible (arcs) | moved over least | by the blocks in the arcs |"
    );
    println!("| ---: | --- | ---: | ---: | ---: | ---: |");
    for servers in [3, 5, 10, 20] {
        let lab = Lab::with(servers, REPLICAS, block_bytes, ARCS, false);
        lab.throttle(0);
        let files = fill(&lab, blocks / 4, block_bytes * 4);
        let all: Vec<BlockId> = files
            .files
            .lock()
            .values()
            .flat_map(|file| (0..4).map(|index| BlockId { slice: file.slice, index }))
            .collect();
        let _host = lab.mover();
        let last = format!("n{}", servers - 1);
        for (what, changes) in [
            ("add", vec![lab.add("new")]),
            ("weight 2", vec![Change::Weight(name(&last), 2)]),
            ("drain", vec![Change::Drain(name("n1"))]),
            ("remove", vec![Change::Remove(name("n0"))]),
        ] {
            let before = lab.ring();
            let written = total_sets(&lab);
            lab.change(&changes);
            let now = lab.ring();
            lab.settle();
            let moved = total_sets(&lab) - written;
            let plan = MovePlan::between(&before.table, &now.table);
            // What the plan means for the very blocks that there are, and for evenly filled arcs.
            let (old, new) = (before.placement(), now.placement());
            let names = |ring: &ringfs_cluster::Ring, owners: Vec<ringfs_store::NodeIndex>| {
                let all = ring.names();
                owners.into_iter().map(|node| all[node.0].clone()).collect::<Vec<_>>()
            };
            let exact: u64 = all
                .iter()
                .map(|block| {
                    let had = names(&before, old.owners(*block));
                    let has = names(&now, new.owners(*block));
                    has.iter().filter(|node| !had.contains(node)).count() as u64
                })
                .sum();
            let even = plan.bytes_to_copy_of(all.len() as u64);
            println!(
                "| {servers} | {what} | {moved} | {even} | {:.3} | {:.3} |",
                moved as f64 / even as f64,
                moved as f64 / exact as f64
            );
        }
        lab.assert_sound();
    }
    rates();
}

/// What users notice: reads of 4 KiB, and writes of whole blocks, while blocks move.
fn latency() {
    const BLOCK: u32 = 1020 << 10;
    const SAMPLE: Duration = Duration::from_secs(6);
    let lab = Lab::with(4, REPLICAS, BLOCK, ARCS, false);
    let files = fill(&lab, 120, BLOCK * 4);
    let all: Vec<BlockId> = files
        .files
        .lock()
        .values()
        .flat_map(|file| (0..4).map(|index| BlockId { slice: file.slice, index }))
        // Those that a reader finds missing he mends himself.
        .filter(|block| !lab.ring().placement().owners(*block).contains(&NodeIndex(3)))
        .collect();
    let host = lab.mover();
    println!("Times of users' operations in milliseconds while a node of four is refilled:\n");
    println!("| moved at most, a second | really, MB/s | read p50 | p99 | write p50 | p99 |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    let mut incarnation = 0;
    for limit in [None, Some(16 << 20), Some(32 << 20), Some(64 << 20), Some(128 << 20), Some(0)] {
        lab.throttle(limit.unwrap_or(0));
        let membership = lab.membership();
        let begun = Instant::now();
        let written = total_sets(&lab);
        let mut mine = 0;
        let (mut reads, mut writes) = (Vec::new(), Vec::new());
        let data = vec![7u8; BLOCK as usize];
        let mut at = 0usize;
        while begun.elapsed() < SAMPLE {
            let idle = || {
                ringfs_cluster::workers::statuses(&lab.volume).unwrap()[WORKER].state
                    == ringfs_cluster::workers::WorkerState::Idle
            };
            if limit.is_some() && at.is_multiple_of(64) && idle() {
                lab.servers.lock()["n3"].command(&["FLUSHALL"]);
                incarnation += 1;
                lab.came_back(host.token, "n3", incarnation);
                host.wake();
            }
            at += 1;
            let block = all[at * 7919 % all.len()];
            let one = Instant::now();
            let mut out = [0; 4096];
            membership.store().read(block, BLOCK, 8192, &mut out).unwrap();
            reads.push(one.elapsed());
            if at.is_multiple_of(8) {
                // Nobody refers to it: what is written here is never moved.
                let id = BlockId { slice: ringfs_base::SliceId(1 << 40), index: at as u32 % 64 };
                let one = Instant::now();
                membership.store().write(&[(id, &data)]).unwrap();
                writes.push(one.elapsed());
                mine += u64::from(REPLICAS);
            }
            // Users think, too.
            std::thread::sleep(Duration::from_millis(1));
        }
        let moved = (total_sets(&lab) - written).saturating_sub(mine) * u64::from(BLOCK);
        let percentile = |times: &mut Vec<Duration>, part: f64| {
            times.sort_unstable();
            times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3
        };
        println!(
            "| {} | {:.0} | {:.2} | {:.2} | {:.2} | {:.2} |",
            match limit {
                None => "nothing moves".to_owned(),
                Some(0) => "no limit".to_owned(),
                Some(bytes) => format!("{} MiB", bytes >> 20),
            },
            moved as f64 / begun.elapsed().as_secs_f64() / 1e6,
            percentile(&mut reads, 0.5),
            percentile(&mut reads, 0.99),
            percentile(&mut writes, 0.5),
            percentile(&mut writes, 0.99),
        );
    }
}

/// SET commands that all servers have served.
fn total_sets(lab: &Lab) -> u64 {
    let servers = lab.servers.lock();
    servers.values().map(|server| server.commandstats().get("set").copied().unwrap_or(0)).sum()
}

/// How fast a lost server's copies are made anew, and how fast the same client copies without any of
/// our care.
fn rates() {
    const MIB: u32 = 1020 << 10;
    const FILES: u64 = 100;
    let lab = Lab::with(4, REPLICAS, MIB, ARCS, false);
    lab.throttle(0);
    let files = fill(&lab, FILES, MIB * 4);
    let host = lab.mover();
    let before = lab.held("n3");
    lab.restart_empty("n3");
    let begun = Instant::now();
    lab.came_back(host.token, "n3", 1);
    host.wake();
    while !lab.volume.workers().unwrap().contains_key("move.filled") {
        std::thread::sleep(Duration::from_millis(2));
    }
    let rebuilt = begun.elapsed().as_secs_f64();
    assert_eq!(lab.held("n3"), before);
    let bytes = before * u64::from(MIB);
    let rebuild = bytes as f64 / rebuilt / 1e6;
    lab.settle();
    files.assert_all_there();

    let url = |node: &str| {
        let servers = lab.servers.lock();
        servers[node].endpoint()
    };
    let timeouts = ringfs_link::Timeouts::default();
    let keys: Vec<Vec<u8>> = {
        let mut conn = Conn::open(&url("n0"), &timeouts).unwrap();
        let all = conn.call(&Cmd::new("KEYS").arg("rfb:*")).unwrap().into_array().unwrap();
        all.into_iter().map(|key| key.into_some_bytes().unwrap().to_vec()).collect()
    };
    lab.servers.lock()["n3"].command(&["FLUSHALL"]);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for part in keys.chunks(keys.len().div_ceil(4)) {
            let (from, to) = (url("n0"), url("n3"));
            scope.spawn(move || {
                let mut from = Conn::open(&from, &timeouts).unwrap();
                let mut to = Conn::open(&to, &timeouts).unwrap();
                for key in part {
                    let value = from.call(&Cmd::new("GET").arg(key)).unwrap();
                    let value = value.into_some_bytes().unwrap();
                    to.call(&Cmd::new("SET").arg(key).payload(&value)).unwrap();
                }
            });
        }
    });
    let raw = keys.len() as f64 * f64::from(MIB) / begun.elapsed().as_secs_f64() / 1e6;

    // Server to server, without us: DUMP, RESTORE and a checksum of Redis's own.
    lab.servers.lock()["n3"].command(&["FLUSHALL"]);
    let (host_name, port) = lab.servers.lock()["n3"].address();
    let begun = Instant::now();
    let mut conn = Conn::open(&url("n0"), &timeouts).unwrap();
    let mut longest = Duration::ZERO;
    for key in &keys {
        let one = Instant::now();
        let cmd = Cmd::new("MIGRATE")
            .arg(host_name.to_string())
            .arg(port.to_string())
            .arg(key)
            .arg("0")
            .arg("5000")
            .arg("COPY");
        conn.call(&cmd).unwrap();
        longest = longest.max(one.elapsed());
    }
    let migrate = keys.len() as f64 * f64::from(MIB) / begun.elapsed().as_secs_f64() / 1e6;
    println!("\nRates with blocks of {MIB} bytes, in MB/s of copies made:\n");
    println!("| how | MB/s | of plain copying |");
    println!("| --- | ---: | ---: |");
    for (how, rate) in [
        ("GET and SET by 4 connections, nothing verified", raw),
        ("rebuilt by the mover: GET, verified, SET, read back, verified", rebuild),
        ("MIGRATE COPY by one connection", migrate),
    ] {
        println!("| {how} | {rate:.0} | {:.2} |", rate / raw);
    }
    println!(
        "\nOne MIGRATE kept its server from answering for up to {:.1} ms.",
        longest.as_secs_f64() * 1e3
    );
    let status = statuses(&lab.volume).unwrap();
    println!("Worker: {:?}", status.get(WORKER));
}
