//! The local servers: started, killed, restarted, stopped, and never anybody else's process.
#![allow(clippy::unwrap_used, reason = "a test has no use for an error")]

mod ringfs_command;

use ringfs_command::{Place, both};
use ringfs_link::{Cmd, Conn, Endpoint, Timeouts};
use std::process::Command;

/// Stops what a failed test leaves.
struct Local(Place);

impl Local {
    fn new(options: &[&str]) -> Local {
        let local = Local(Place::new());
        local.0.succeed(&[&["local", "start", "--port=0"], options].concat());
        local
    }

    fn server(&self, name: &str) -> serde_json::Value {
        let status = self.0.json(&["local", "status", "--json"]);
        let servers = status["servers"].as_array().unwrap();
        servers.iter().find(|s| s["name"] == name).unwrap().clone()
    }

    fn conn(&self, name: &str) -> Conn {
        let url = self.server(name)["url"].as_str().unwrap().to_owned();
        Conn::open(&Endpoint::parse(&url).unwrap(), &Timeouts::default()).unwrap()
    }

    fn set(&self, name: &str) {
        self.conn(name).call(&Cmd::new("SET").arg("key").arg("value")).unwrap();
    }

    fn has(&self, name: &str) -> bool {
        let reply = self.conn(name).call(&Cmd::new("GET").arg("key")).unwrap();
        reply.into_bytes().unwrap().as_deref() == Some(b"value")
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.0.run(&["local", "stop"]);
    }
}

fn signal(pid: u64, signal: &str) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

#[test]
fn servers_come_back_with_their_data_and_a_killed_one_stays_down() {
    let local = Local::new(&["--nodes=2"]);
    local.set("node-1");
    local.set("meta");
    // The append-only file is written with the reply; only its fsync comes later.
    local.0.succeed(&["local", "kill", "node-1", "--keep-down"]);
    assert_eq!(local.server("node-1")["state"], "killed");
    assert_eq!(local.0.run(&["local", "status"]).status.code(), Some(3));
    local.0.succeed(&["local", "restart", "node-1"]);
    assert!(local.has("node-1"));

    let before = local.server("meta");
    local.0.succeed(&["local", "kill", "meta"]);
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while local.server("meta")["state"] != "up" {
        assert!(std::time::Instant::now() < limit, "it is not started again");
    }
    let after = local.server("meta");
    assert!(local.has("meta") && before["pid"] != after["pid"], "{before} {after}");
    assert_eq!(after["restarts"], 1);
    assert_eq!(after["port"], before["port"]);
}

#[test]
fn start_again_changes_nothing_and_a_stop_keeps_data_and_ports() {
    let local = Local::new(&["--nodes=1"]);
    local.set("node-1");
    let before = local.server("node-1");
    local.0.succeed(&["local", "start", "--nodes=1"]);
    assert_eq!(local.server("node-1")["pid"], before["pid"]);
    let other = local.0.run(&["local", "start", "--nodes=2"]);
    assert_eq!(other.status.code(), Some(5), "{}", both(&other));

    local.0.succeed(&["local", "stop"]);
    assert_eq!(local.0.run(&["local", "status"]).status.code(), Some(3));
    local.0.succeed(&["local", "start", "--nodes=2", "--port=0"]);
    assert_eq!(local.server("node-1")["port"], before["port"]);
    assert!(local.has("node-1"));
    assert_eq!(local.server("node-2")["state"], "up");
    local.0.succeed(&["local", "stop", "--delete"]);
    assert!(!local.0.path("state/ringfs/local").exists());
}

#[test]
fn servers_whose_supervisor_was_killed_are_taken_over() {
    let local = Local::new(&["--nodes=1"]);
    local.set("node-1");
    let before = local.server("node-1");
    let status = local.0.json(&["local", "status", "--json"]);
    signal(status["supervisor_pid"].as_u64().unwrap(), "-KILL");
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while local.0.run(&["local", "status"]).status.success() {
        assert!(std::time::Instant::now() < limit, "a dead supervisor counts as running");
    }
    local.0.succeed(&["local", "start"]);
    let after = local.server("node-1");
    assert_eq!(after["port"], before["port"]);
    assert_ne!(after["pid"], before["pid"]);
    assert!(local.has("node-1"));
}

#[test]
fn a_process_with_the_number_of_ours_is_left_alone() {
    let local = Local::new(&["--nodes=1"]);
    local.0.succeed(&["local", "stop"]);
    // As after a restart of the machine: the recorded number belongs to somebody else.
    let mut stranger = Command::new("sleep").arg("600").spawn().unwrap();
    let path = local.0.path("state/ringfs/local/state.json");
    let mut state: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let mut process = state["supervisor"].clone();
    process["pid"] = stranger.id().into();
    state["supervisor"] = process.clone();
    state["servers"][0]["process"] = process;
    std::fs::write(&path, state.to_string()).unwrap();
    local.0.succeed(&["local", "stop"]);
    local.0.succeed(&["local", "start"]);
    local.0.succeed(&["local", "stop"]);
    assert!(stranger.try_wait().unwrap().is_none(), "a stranger was killed");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}
