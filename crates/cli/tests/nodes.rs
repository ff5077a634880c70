//! Servers are added, drained, removed, replaced and weighed by the commands, on mounts that are being
//! written and read.

#![allow(clippy::unwrap_used, reason = "what fails ends the test")]

mod mounted;

use mounted::{Mounted, RINGFS, Volume, eventually, noise, text};
use ringfs_testkit::{AppendFsync, RedisServer, ServerOptions};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bytes of a file: several blocks in the larger ones.
const SIZES: [usize; 4] = [20_000, 300_000, 1_500_000, 2_600_000];
/// Files at most.
const FILES: u64 = 24;
/// Longest time that anything may take; the machine is shared.
const PATIENCE: Duration = Duration::from_secs(120);

/// Files that are written on one mount and read on another, all the time.
struct Workload {
    end: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
    /// What each file holds: seed and length.
    known: Arc<Mutex<BTreeMap<u64, (u64, usize)>>>,
}

impl Workload {
    fn start(writes_at: &Path, reads_at: &Path) -> Workload {
        let (end, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let known: Arc<Mutex<BTreeMap<u64, (u64, usize)>>> = Arc::default();
        let file = |root: &Path, number: u64| root.join(format!("file{number}"));
        let mut threads = Vec::new();
        let (stop, count, all, root) =
            (end.clone(), rounds.clone(), known.clone(), writes_at.to_owned());
        threads.push(std::thread::spawn(move || {
            for round in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (number, len) = (round % FILES, SIZES[round as usize % SIZES.len()]);
                // Nobody reads it while it changes.
                all.lock().unwrap().remove(&number);
                let path = file(&root, number);
                let new = path.with_extension("new");
                std::fs::write(&new, noise(round, len)).unwrap();
                std::fs::rename(&new, &path).unwrap();
                all.lock().unwrap().insert(number, (round, len));
                count.fetch_add(1, Ordering::Relaxed);
            }
        }));
        let (stop, count, all, root) =
            (end.clone(), rounds.clone(), known.clone(), reads_at.to_owned());
        threads.push(std::thread::spawn(move || {
            for round in 0u64.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let number = round * 7 % FILES;
                let Some(before) = all.lock().unwrap().get(&number).copied() else { continue };
                let read = std::fs::read(file(&root, number));
                // What was replaced meanwhile may be old or new.
                if all.lock().unwrap().get(&number) == Some(&before) {
                    assert!(read.unwrap() == noise(before.0, before.1), "file{number} is another");
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        }));
        Workload { end, rounds, threads, known }
    }

    /// Everything that was written is there, as seen by `root`.
    fn end(mut self, root: &Path) {
        self.end.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        assert!(self.rounds.load(Ordering::Relaxed) > 20);
        for (number, (seed, len)) in self.known.lock().unwrap().iter() {
            let read = std::fs::read(root.join(format!("file{number}"))).unwrap();
            assert!(read == noise(*seed, *len), "file{number} is another");
        }
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
    }
}

fn server() -> RedisServer {
    RedisServer::start(ServerOptions {
        appendfsync: Some(AppendFsync::EverySec),
        ..ServerOptions::default()
    })
}

#[track_caller]
fn succeed(out: &Output) -> String {
    assert!(out.status.success(), "{}\n{}", out.status, text(out));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// A command that must succeed within a time, on the volume's URL.
#[track_caller]
fn done(volume: &Volume, subcommand: &str, extra: &[&str]) -> String {
    let words: Vec<&str> = subcommand.split(' ').collect();
    let mut child = Command::new(RINGFS)
        .args(words)
        .arg(volume.url())
        .args(extra)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let limit = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > limit {
            child.kill().unwrap();
            let out = child.wait_with_output().unwrap();
            let status = volume.tool("rebalance status", &[]);
            panic!("{subcommand} does not end: {}\n{}", text(&out), text(&status));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    succeed(&child.wait_with_output().unwrap())
}

fn json(volume: &Volume, subcommand: &str) -> Value {
    let out = volume.tool(subcommand, &["--json"]);
    serde_json::from_str(&succeed(&out)).unwrap()
}

fn names(volume: &Volume) -> Vec<String> {
    let list = json(volume, "node list");
    let nodes = list["nodes"].as_array().unwrap();
    nodes.iter().map(|node| node["name"].as_str().unwrap().to_owned()).collect()
}

fn epoch(volume: &Volume) -> u64 {
    json(volume, "node list")["epoch"].as_u64().unwrap()
}

/// Garbage of mounts that were killed is nobody's fault.
#[track_caller]
fn assert_sound(volume: &Volume) {
    succeed(&volume.tool("gc", &["--delete", "--dead-after", "1ms"]));
    volume.assert_fsck_clean();
}

fn mounts(volume: &Volume) -> [Mounted; 2] {
    [volume.mount(), volume.mount()]
}

fn roots(mounts: &[Mounted; 2]) -> [PathBuf; 2] {
    [mounts[0].place.clone(), mounts[1].place.clone()]
}

#[test]
fn servers_come_and_go_while_files_are_written_and_read() {
    let volume = Volume::format(3, 2);
    let mounts = mounts(&volume);
    let [a, b] = roots(&mounts);
    let workload = Workload::start(&a, &b);
    let (n3, n4) = (server(), server());

    done(&volume, "node add", &[&format!("n3={}", n3.url()), "--yes", "--wait"]);
    assert_eq!(names(&volume), ["n0", "n1", "n2", "n3"]);
    done(&volume, "node drain", &["n0", "--yes", "--wait"]);
    let blocks = volume.nodes[0].command(&["KEYS", "rfb:*"]).into_array().unwrap();
    assert!(blocks.is_empty(), "it holds {} blocks", blocks.len());
    assert_eq!(names(&volume).len(), 4, "and still in the list");
    done(&volume, "node remove", &["n0", "--yes", "--wait"]);
    done(&volume, "node weight", &["n1", "3", "--yes", "--wait"]);
    done(&volume, "node replace", &["n2", &format!("n4={}", n4.url()), "--yes", "--wait"]);
    assert_eq!(names(&volume), ["n1", "n3", "n4"]);
    done(&volume, "node zone", &["n1", "rack", "--yes", "--wait"]);
    assert_eq!(json(&volume, "node list")["nodes"][0]["zone"], "rack");

    workload.end(&b);
    for mount in mounts {
        assert!(mount.terminate().success());
    }
    assert_sound(&volume);
}

#[test]
fn copies_go_up_and_down_and_arcs_double_while_files_are_written_and_read() {
    let volume = Volume::format(3, 2);
    let mounts = mounts(&volume);
    let [a, b] = roots(&mounts);
    let workload = Workload::start(&a, &b);
    done(&volume, "ring replicas", &["3", "--yes", "--wait"]);
    let before = epoch(&volume);
    let said = done(&volume, "ring split", &["--yes", "--wait"]);
    assert!(said.contains("nothing had to be moved"), "{said}");
    assert_eq!(epoch(&volume), before + 1);
    done(&volume, "ring replicas", &["1", "--yes", "--wait"]);
    done(&volume, "ring replicas", &["2", "--yes", "--wait"]);
    assert_eq!(json(&volume, "status")["replicas"], 2);
    workload.end(&b);
    for mount in mounts {
        assert!(mount.terminate().success());
    }
    assert_sound(&volume);
}

#[test]
fn the_mount_that_moves_blocks_is_killed_and_another_goes_on() {
    let volume = Volume::format(3, 2);
    let [first, second] = mounts(&volume);
    for number in 0..20 {
        std::fs::write(first.path(&format!("f{number}")), noise(number, 1_500_000)).unwrap();
    }
    succeed(&volume.tool("rebalance throttle", &["2MiB"]));
    let n3 = server();
    done(&volume, "node add", &[&format!("n3={}", n3.url()), "--yes"]);
    let begun = || json(&volume, "rebalance status")["worker"]["bytes"].as_u64() > Some(0);
    eventually("the move begins", begun);
    // Whichever of the two does it.
    first.kill9();
    let out = volume.tool("rebalance status", &[]);
    assert!(succeed(&out).contains("add n3"), "{}", text(&out));
    succeed(&volume.tool("rebalance throttle", &["none"]));
    let limit = Instant::now() + PATIENCE;
    while json(&volume, "rebalance status")["done"] != true {
        assert!(Instant::now() < limit, "{}", text(&volume.tool("rebalance status", &[])));
        std::thread::sleep(Duration::from_millis(50));
    }
    for number in 0..20 {
        let read = std::fs::read(second.path(&format!("f{number}"))).unwrap();
        assert!(read == noise(number, 1_500_000));
    }
    assert!(second.terminate().success());
    assert_sound(&volume);
}

#[test]
fn a_move_is_paused_throttled_and_resumed() {
    let volume = Volume::format(3, 2);
    let mount = volume.mount();
    for number in 0..8 {
        std::fs::write(mount.path(&format!("f{number}")), noise(number, 1_500_000)).unwrap();
    }
    succeed(&volume.tool("rebalance pause", &[]));
    let n3 = server();
    let said = volume.tool("node add", &[&format!("n3={}", n3.url()), "--yes"]);
    assert!(text(&said).contains("moving is paused"), "{}", text(&said));
    let paused = || json(&volume, "rebalance status")["worker"]["state"] == "paused";
    eventually("the worker pauses", paused);
    let status = json(&volume, "rebalance status");
    assert_eq!((&status["done"], &status["paused"]), (&Value::Bool(false), &Value::Bool(true)));
    assert_eq!(status["moving"]["what"][0], "add n3");
    succeed(&volume.tool("rebalance throttle", &["100MiB"]));
    assert_eq!(json(&volume, "rebalance status")["bytes_per_second"], 100 << 20);
    succeed(&volume.tool("rebalance resume", &[]));
    let followed = done(&volume, "rebalance status", &["--watch"]);
    assert!(followed.ends_with("limit     100.0 MiB a second\n"), "{followed}");
    assert!(followed.contains("Nothing is being moved."), "{followed}");
    assert!(mount.terminate().success());
    volume.assert_fsck_clean();
}

#[test]
fn a_plan_is_shown_and_nothing_is_done_without_consent() {
    let volume = Volume::format(3, 2);
    let n3 = server();
    let node = format!("n3={}", n3.url());
    let shown = volume.tool("node add", &[&node, "--dry-run"]);
    let plan = succeed(&shown);
    for part in ["Plan: add n3", "25.00%", "25.0% of all copies", "64.0 MiB a second"] {
        assert!(plan.contains(part), "no \"{part}\" in:\n{plan}");
    }
    assert!(text(&shown).contains("start `ringfs mount` or `ringfs agent`"), "{}", text(&shown));
    let plan = volume.tool("node add", &[&node, "--dry-run", "--json"]);
    let plan: Value = serde_json::from_str(&succeed(&plan)).unwrap();
    assert_eq!((&plan["committed"], &plan["changes"][0]), (&false.into(), &"add n3".into()));
    let asked = volume.tool("node add", &[&node]);
    assert_eq!(asked.status.code(), Some(5), "{}", text(&asked));
    assert_eq!((epoch(&volume), names(&volume).len()), (1, 3));

    // Agreed to, but nobody is there to do it: a mount that comes does.
    done(&volume, "node add", &[&node, "--yes"]);
    assert_eq!(json(&volume, "rebalance status")["done"], false);
    let busy = volume.tool("node weight", &["n0", "7", "--yes"]);
    assert_eq!(busy.status.code(), Some(5));
    assert!(text(&busy).contains("still being moved for another change of the ring (add n3"));
    let mount = volume.mount();
    eventually("the move ends", || json(&volume, "rebalance status")["done"] == true);
    assert!(mount.terminate().success());
    assert_sound(&volume);
}

#[test]
fn of_two_operators_one_wins_and_the_other_is_told() {
    let volume = Volume::format(3, 2);
    let url = volume.url();
    let run = |node: &str| {
        Command::new(RINGFS)
            .args(["node", "weight", &url, node, "9", "--yes"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let both = [run("n0"), run("n1")].map(|child| child.wait_with_output().unwrap());
    let mut codes = both.each_ref().map(|out| out.status.code().unwrap());
    codes.sort_unstable();
    assert_eq!(codes, [0, 5], "{}\n{}", text(&both[0]), text(&both[1]));
    assert_eq!(epoch(&volume), 2);
}
