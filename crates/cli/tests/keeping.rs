//! Mounts and agents find out which servers are dead, and say so.

#![allow(clippy::unwrap_used, reason = "what fails ends the test")]

mod mounted;

use mounted::{PATIENCE, RINGFS, Volume, eventually, noise, succeed, text};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What `ringfs status` says of a node.
fn node(volume: &Volume, at: usize) -> serde_json::Value {
    let status = status(volume);
    status["nodes"].as_array().unwrap()[at].clone()
}

fn status(volume: &Volume) -> serde_json::Value {
    serde_json::from_slice(&volume.tool("status", &["--json"]).stdout).unwrap()
}

fn is_down(volume: &Volume, at: usize) -> bool {
    node(volume, at)["marked_down"].as_bool().unwrap()
}

/// A running `ringfs agent`.
struct Agent {
    child: Child,
    log: std::path::PathBuf,
}

impl Agent {
    fn start(volume: &Volume, name: &str, extra: &[&str]) -> Agent {
        let log = volume.dir.path().join(format!("{name}.log"));
        let child = Command::new(RINGFS)
            .arg("agent")
            .arg(volume.url())
            .args(extra)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let agent = Agent { child, log };
        eventually("the agent watches", || agent.log().contains("watching volume \"demo\""));
        agent
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    fn signal(&self, signal: &str) {
        succeed(Command::new("kill").args([signal, &self.child.id().to_string()]));
    }

    fn wait(&mut self) -> std::process::ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "no end in time:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Gone already, if all went well.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn a_dead_node_is_known_to_all_and_used_again_when_it_is_back() {
    let mut volume = Volume::format(3, 2);
    let mounts = [volume.mount_with(&["--hold=1s"]), volume.mount_with(&["--hold=1s"])];
    fs::write(mounts[0].path("before"), noise(1, 3 << 20)).unwrap();
    assert!(!is_down(&volume, 1));
    volume.nodes[1].kill9();
    let killed = Instant::now();
    eventually("it is marked down", || is_down(&volume, 1));
    let took = killed.elapsed();
    println!("marked down {} ms after kill -9, two mounts", took.as_millis());
    assert!(took < Duration::from_secs(5), "{took:?}");
    for (at, mount) in mounts.iter().enumerate() {
        fs::write(mount.path(&format!("while{at}")), noise(2, 3 << 20)).unwrap();
        assert!(fs::read(mount.path("before")).unwrap() == noise(1, 3 << 20));
    }
    volume.nodes[1].restart();
    eventually("it is used again", || !is_down(&volume, 1));
    for mount in mounts {
        assert!(mount.terminate().success());
    }
}

/// The metrics of an agent.
fn scrape(agent: &Agent) -> String {
    let log = agent.log();
    let Some((_, rest)) = log.split_once("metrics are at http://") else { return String::new() };
    let mut conn = TcpStream::connect(rest.split('/').next().unwrap()).unwrap();
    conn.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    conn.read_to_string(&mut page).unwrap();
    page
}

#[test]
fn an_agent_keeps_the_ring_is_no_use_of_the_volume_and_ends_cleanly() {
    let mut volume = Volume::format(3, 2);
    let quick = ["--probe-every=200ms", "--hold=1s", "--metrics=127.0.0.1:0"];
    let mut agent = Agent::start(&volume, "agent", &quick);
    eventually("it says that it coordinates", || {
        let says = |line: &str| {
            line.starts_with("ringfs_keeper_coordinator")
                && (line.ends_with(" 1") || line.ends_with(" 1.0"))
        };
        scrape(&agent).lines().any(says)
    });
    let session = status(&volume)["sessions"][0].clone();
    assert_eq!(session["place"], "ringfs agent");
    volume.nodes[2].kill9();
    eventually("it is marked down", || is_down(&volume, 2));
    volume.nodes[2].restart();
    eventually("it is used again", || !is_down(&volume, 2));

    volume.assert_fsck_clean();
    // A mount removes what is unlinked while it is open: the agent acknowledges that.
    let mount = volume.mount();
    let file = fs::File::create(mount.path("gone")).unwrap();
    fs::remove_file(mount.path("gone")).unwrap();
    drop(file);
    eventually("the orphan is removed", || status(&volume)["orphans"] == 0);
    assert!(mount.terminate().success());

    agent.signal("-TERM");
    let status_code = agent.wait();
    assert!(status_code.success(), "{status_code}:\n{}", agent.log());
    assert_eq!(status(&volume)["sessions"].as_array().unwrap().len(), 0);

    // And the volume may be destroyed under it; it ends then.
    let mut agent = Agent::start(&volume, "again", &[]);
    let out = volume.tool("destroy", &["--yes"]);
    assert!(out.status.success(), "{}", text(&out));
    assert_eq!(agent.wait().code(), Some(1), "{}", agent.log());
    assert!(agent.log().contains("there is no volume \"demo\""), "{}", agent.log());
    for server in [&volume.meta, &volume.nodes[0], &volume.nodes[1], &volume.nodes[2]] {
        let keys = server.command(&["KEYS", "*"]).into_array().unwrap();
        assert!(keys.is_empty(), "{keys:?}");
    }
}

#[test]
fn an_observer_that_was_stopped_concludes_nothing_from_what_it_missed() {
    let volume = Volume::format(3, 2);
    let agent = Agent::start(&volume, "agent", &["--probe-every=200ms"]);
    let epoch = status(&volume)["epoch"].clone();
    eventually("it watches", || volume.nodes[1].commandstats().contains_key("info"));
    // Stopped while an answer is under way, and again when it has just gone on.
    for _ in 0..3 {
        volume.nodes[1].stop();
        agent.signal("-STOP");
        let began = Instant::now();
        // As long as it would take to suspect and to judge, several times over.
        while began.elapsed() < Duration::from_secs(3) {
            std::thread::sleep(Duration::from_millis(50));
        }
        volume.nodes[1].cont();
        agent.signal("-CONT");
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(2) {
            assert!(!is_down(&volume, 1), "{}", agent.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    assert!(agent.log().contains("this process was held up"), "{}", agent.log());
    assert_eq!(status(&volume)["epoch"], epoch);
}
