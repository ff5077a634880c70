//! Metrics of real mounts: they move as they should, are written as they must be, and never wait.

#![allow(clippy::unwrap_used, reason = "what fails ends the test")]

mod mounted;
mod scrape;

use mounted::{Mounted, RINGFS, Volume, eventually, is_mounted, noise, text};
use scrape::{OPEN_METRICS, fetch, parse, scrape};
use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A scrape that waits for nobody takes milliseconds; a busy machine may take its time.
const SCRAPE_TIME_MAX: Duration = Duration::from_millis(900);

/// Where the mount says that its metrics are.
fn address(mount: &Mounted) -> SocketAddr {
    let mut found = None;
    eventually("the mount says where its metrics are", || {
        found = mount.log().lines().find_map(|line| {
            let rest = line.strip_prefix("ringfs: metrics are at http://")?;
            rest.strip_suffix("/metrics")?.parse().ok()
        });
        found.is_some()
    });
    found.unwrap()
}

fn mounted(nodes: usize) -> (Volume, Mounted, SocketAddr) {
    let volume = Volume::format(nodes, nodes.min(2));
    let mount = volume.mount_with(&["--metrics", "0"]);
    let address = address(&mount);
    (volume, mount, address)
}

#[test]
fn counters_tell_what_programs_did() {
    let (_volume, mount, address) = mounted(3);
    assert!(address.ip().is_loopback());
    let before = scrape(address);
    let files = 50;
    for i in 0..files {
        fs::write(mount.path(&format!("f{i}")), [7; 3000]).unwrap();
    }
    let big = noise(1, 5 << 20);
    fs::write(mount.path("big"), &big).unwrap();
    assert!(fs::read(mount.path("nothing")).is_err());
    for i in 0..20 {
        fs::remove_file(mount.path(&format!("f{i}"))).unwrap();
    }
    let created = f64::from(files + 1);
    let written = f64::from(files * 3000) + big.len() as f64;
    // What was answered is counted a moment later.
    eventually("all is counted", || {
        let now = scrape(address);
        now.ops("unlink") - before.ops("unlink") >= 20.0 && now.ops("flush") >= created
    });
    let after = scrape(address);
    let grown =
        |name: &str| after.get(name, &[]).unwrap_or(0.0) - before.get(name, &[]).unwrap_or(0.0);
    assert_eq!(after.ops("create") - before.ops("create"), created);
    assert_eq!(after.ops("unlink") - before.ops("unlink"), 20.0);
    assert_eq!(grown("ringfs_fuse_written_bytes_total"), written);
    assert!(grown("ringfs_store_written_bytes_total") >= big.len() as f64);
    assert!(grown("ringfs_store_sent_bytes_total") >= 2.0 * big.len() as f64, "two copies");
    assert!(grown("ringfs_metadata_round_trip_seconds_count") >= created + 20.0);
    let errors = "ringfs_fuse_request_errors_total";
    assert_eq!(after.get(errors, &[("error", "EIO")]), Some(0.0), "no error but the asked for");
    assert_eq!(after.get("ringfs_metadata_failures_total", &[]), Some(0.0));
    assert_eq!(after.get("ringfs_store_copies_short_total", &[]), Some(0.0));
    assert_eq!(after.get("ringfs_ring_nodes", &[]), Some(3.0));
    assert_eq!(after.get("ringfs_ring_replicas", &[("volume", "demo")]), Some(2.0));
    assert!(after.get("ringfs_session_heartbeat_age_seconds", &[]).unwrap() < 10.0);
    assert!(after.get("process_resident_memory_bytes", &[]).unwrap() > 1e6);
    let place = mount.place.to_str().unwrap();
    assert_eq!(after.get("ringfs_mount_info", &[("mountpoint", place)]), Some(1.0));
    eventually("the servers were asked", || {
        let now = scrape(address);
        let used = now.get("ringfs_node_memory_used_bytes", &[]).unwrap_or(0.0);
        let inodes = now.get("ringfs_volume_inodes", &[]);
        // The root counts too.
        used > 10e6 && inodes == Some(created - 20.0 + 1.0)
    });
    drop(mount);
    assert!(TcpStream::connect(address).is_err(), "the endpoint ends with the mount");
}

#[test]
fn reads_are_counted_where_they_are_served() {
    let (volume, mount, address) = mounted(2);
    let big = noise(2, 4 << 20);
    fs::write(mount.path("big"), &big).unwrap();
    // Another mount, whose kernel has nothing of it.
    let reader = volume.mount_with(&["--metrics", "0"]);
    let theirs = self::address(&reader);
    assert_eq!(fs::read(reader.path("big")).unwrap(), big);
    eventually("the read is counted", || {
        let now = scrape(theirs);
        let value = |name: &str| now.get(name, &[]).unwrap_or(0.0);
        value("ringfs_fuse_read_bytes_total") == big.len() as f64
            && value("ringfs_store_read_bytes_total") >= big.len() as f64
            && value("ringfs_block_cache_hits_total") > 0.0
    });
    // What one changes, the kernel of the other is told to forget.
    fs::write(mount.path("big"), b"new").unwrap();
    eventually("the kernel is told", || {
        let now = scrape(theirs);
        now.get("ringfs_kernel_invalidations_total", &[("of", "inode")]).unwrap_or(0.0) > 0.0
    });
    assert_eq!(scrape(address).get("ringfs_fuse_read_bytes_total", &[]), Some(0.0));
    eventually("both sessions are seen", || {
        scrape(address).get("ringfs_volume_sessions", &[]) == Some(2.0)
    });
}

#[test]
fn both_formats_are_valid_and_say_the_same() {
    let (_volume, mount, address) = mounted(1);
    fs::write(mount.path("f"), b"x").unwrap();
    let names = |s: &scrape::Scrape| -> BTreeSet<String> {
        s.samples.keys().map(|(name, _)| name.clone()).collect()
    };
    // What is asked of servers in the background comes a moment later than the rest.
    eventually("both formats have the same samples", || {
        let open = scrape(address);
        let (head, body) = fetch(address, "/metrics", "*/*");
        assert!(head.contains("Content-Type: text/plain; version=0.0.4"), "{head}");
        names(&open) == names(&parse(&body, false))
    });
    let (head, body) = fetch(address, "/healthz", "*/*");
    assert!(head.starts_with("HTTP/1.1 200 OK") && body == "ok\n", "{head}\n{body}");
    assert!(fetch(address, "/other", "*/*").0.starts_with("HTTP/1.1 404 "));
}

#[test]
fn a_dead_node_shows_and_comes_back() {
    let (mut volume, mount, address) = mounted(3);
    fs::write(mount.path("f"), noise(3, 1 << 20)).unwrap();
    let all_up = || (0..3).all(|i| scrape(address).node_state(&format!("n{i}")) == "up");
    eventually("all nodes are up", all_up);
    volume.nodes[1].kill9();
    eventually("the dead node shows", || {
        let now = scrape(address);
        ["suspect", "down"].contains(&now.node_state("n1").as_str())
            && now.node_state("n0") == "up"
            && now.node_state("n2") == "up"
    });
    // Its memory is not what it was once.
    eventually("its memory is not shown", || {
        scrape(address).get("ringfs_node_memory_used_bytes", &[("node", "n1")]).is_none()
    });
    volume.nodes[1].restart();
    eventually("it is up again", all_up);
}

#[test]
fn scrapes_wait_for_no_server() {
    let (volume, _mount, address) = mounted(2);
    eventually("the servers were asked", || {
        scrape(address).get("ringfs_metrics_age_seconds", &[("of", "records")]).is_some()
    });
    volume.nodes.iter().for_each(|node| node.stop());
    volume.meta.stop();
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        let begun = Instant::now();
        scrape(address);
        assert!(begun.elapsed() < SCRAPE_TIME_MAX, "{:?}", begun.elapsed());
        // Not to wait for something: scrapes are to fall into all phases of the questions.
        std::thread::sleep(Duration::from_millis(100));
    }
    let age = scrape(address).get("ringfs_metrics_age_seconds", &[("of", "records")]).unwrap();
    assert!(age > 1.0, "{age}");
    eventually("failures are counted", || {
        scrape(address).get("ringfs_metadata_failures_total", &[]).unwrap_or(0.0) > 0.0
    });
    volume.nodes.iter().for_each(|node| node.cont());
    volume.meta.cont();
}

#[test]
fn clients_that_say_nothing_hold_up_nobody() {
    let (_volume, _mount, address) = mounted(1);
    let mut silent: Vec<TcpStream> =
        (0..40).map(|_| TcpStream::connect(address).unwrap()).collect();
    let begun = Instant::now();
    scrape(address);
    assert!(begun.elapsed() < SCRAPE_TIME_MAX, "{:?}", begun.elapsed());
    // Most were sent away at once, the rest are after a while.
    for stream in &mut silent {
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0);
    }
}

#[test]
fn a_port_that_is_taken_ends_the_mount_before_it_begins() {
    let volume = Volume::format(1, 1);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let place = volume.dir.path().join("mnt");
    fs::create_dir(&place).unwrap();
    for background in [&[][..], &["-d"]] {
        let out = Command::new(RINGFS)
            .args(["mount", "--metrics", &port, &volume.url()])
            .arg(&place)
            .args(background)
            .output()
            .unwrap();
        assert_eq!(out.status.code(), Some(1), "{}", text(&out));
        assert_eq!(
            text(&out),
            format!(
                "ringfs: cannot serve metrics on 127.0.0.1:{port}: another program listens there; \
                 choose another port (--metrics), one for each mount, or port 0 for any that is \
                 free\n"
            )
        );
        assert!(!is_mounted(&place));
    }
    let out = Command::new(RINGFS)
        .args(["mount", "--metrics", "nowhere", &volume.url()])
        .arg(&place)
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out).contains("\"nowhere\" is no address and port; write such as"));
}

#[test]
fn a_mount_in_the_background_says_where_its_metrics_are() {
    let volume = Volume::format(1, 1);
    let place = volume.dir.path().join("mnt");
    fs::create_dir(&place).unwrap();
    let out = Command::new(RINGFS)
        .args(["mount", "-d", "--metrics", "127.0.0.1:0", "--log"])
        .arg(volume.dir.path().join("log"))
        .arg(volume.url())
        .arg(&place)
        .output()
        .unwrap();
    let said = text(&out);
    let address = said.trim_end().strip_prefix("ringfs: metrics are at http://");
    let address =
        address.and_then(|rest| rest.strip_suffix("/metrics")).map(|a| a.parse().unwrap());
    let page = address.map(|address| fetch(address, "/metrics", OPEN_METRICS).1);
    // Before anything is judged: the mount is no child of this test.
    let ended = Command::new(RINGFS).arg("umount").arg(&place).output().unwrap();
    assert!(ended.status.success(), "{}", text(&ended));
    assert!(page.is_some_and(|page| page.contains("ringfs_mount_info")), "{said}");
}

/// A process that ends with the test, however that ends.
struct Agent(std::process::Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _killed = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[test]
fn an_agent_and_the_keeper_of_a_mount_show_who_coordinates() {
    let (volume, mount, address) = mounted(3);
    let log = volume.dir.path().join("agent.log");
    let command = Command::new(RINGFS)
        .args(["agent", "--metrics", "0", &volume.url()])
        .stdin(std::process::Stdio::null())
        .stderr(fs::File::create(&log).unwrap())
        .spawn();
    let agent = Agent(command.unwrap());
    let mut theirs = None;
    eventually("the agent says where its metrics are", || {
        let said = fs::read_to_string(&log).unwrap();
        theirs = said.lines().find_map(|line| {
            let rest = line.strip_prefix("ringfs: metrics are at http://")?;
            rest.strip_suffix("/metrics")?.parse::<SocketAddr>().ok()
        });
        theirs.is_some()
    });
    let theirs = theirs.unwrap();
    eventually("exactly one coordinates", || {
        let value = |address| scrape(address).get("ringfs_keeper_coordinator", &[]);
        value(address).unwrap_or(0.0) + value(theirs).unwrap_or(0.0) == 1.0
    });
    eventually("both probe all nodes", || {
        [address, theirs].iter().all(|address| {
            let now = scrape(*address);
            (0..3).all(|i| {
                let node = format!("n{i}");
                let labels = [("node", node.as_str())];
                now.get("ringfs_node_probe_latency_seconds", &labels).is_some_and(|s| s > 0.0)
                    && now.get("ringfs_node_probe_misses", &labels) == Some(0.0)
            })
        })
    });
    eventually("the workers are seen by both", || {
        let seen = |address| scrape(address).get("ringfs_worker_state", &[("worker", "move")]);
        seen(address) == Some(1.0) && seen(theirs) == Some(1.0)
    });
    let page = scrape(theirs);
    assert!(page.get("ringfs_fuse_read_bytes_total", &[]).is_none(), "an agent mounts nothing");
    assert_eq!(page.get("ringfs_ring_nodes", &[]), Some(3.0));
    assert_eq!(fetch(theirs, "/healthz", "*/*").1, "ok\n");
    drop(agent);
    drop(mount);
}

/// The repository's root.
fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Words that look like our metrics.
fn metrics_in(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("ringfs_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

/// All values of a key, anywhere in a document.
fn all_of<'j>(document: &'j serde_json::Value, key: &str, found: &mut Vec<&'j serde_json::Value>) {
    match document {
        serde_json::Value::Object(fields) => {
            found.extend(fields.get(key));
            fields.values().for_each(|value| all_of(value, key, found));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|i| all_of(i, key, found)),
        _ => {}
    }
}

#[test]
fn what_is_documented_drawn_and_alerted_on_is_exported() {
    let (_volume, _mount, address) = mounted(1);
    let exported = scrape(address);
    let check = |names: &BTreeSet<String>, place: &str| {
        assert!(names.len() > 5, "{place} names {names:?}");
        for name in names {
            assert!(exported.family(name).is_some(), "{place} has {name}, which is not exported");
        }
    };
    let dashboard = fs::read_to_string(repository().join("docs/grafana/ringfs.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    let mut expressions = Vec::new();
    all_of(&dashboard, "expr", &mut expressions);
    all_of(&dashboard, "query", &mut expressions);
    let drawn: Vec<&str> = expressions.iter().filter_map(|e| e.as_str()).collect();
    check(&metrics_in(&drawn.join("\n")), "the dashboard");
    // Importable: it asks for its data source and uses no other.
    assert_eq!(dashboard["__inputs"][0]["pluginId"], "prometheus");
    let input = format!("${{{}}}", dashboard["__inputs"][0]["name"].as_str().unwrap());
    let mut sources = Vec::new();
    all_of(&dashboard, "datasource", &mut sources);
    assert!(sources.len() > 10);
    assert!(sources.iter().all(|source| source["uid"] == input.as_str()), "{sources:?}");
    let mut ids = Vec::new();
    dashboard["panels"].as_array().unwrap().iter().for_each(|panel| ids.push(&panel["id"]));
    assert_eq!(ids.iter().map(|id| id.to_string()).collect::<BTreeSet<_>>().len(), ids.len());

    let page = fs::read_to_string(repository().join("docs/metrics.md")).unwrap();
    let rules = page.split("```yaml").skip(1).filter_map(|part| part.split("```").next());
    let rules: Vec<&str> = rules.filter(|block| block.contains("expr:")).collect();
    check(&metrics_in(&rules.join("\n")), "the alert rules");
    // The table is the whole list, with the types.
    let rows = page.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split('|');
        let name = cells.next()?.trim().trim_end_matches('`').to_owned();
        Some((name, cells.next()?.trim().to_owned()))
    });
    let documented: BTreeSet<(String, String)> = rows.collect();
    let shown: BTreeSet<(String, String)> = exported
        .types
        .iter()
        .map(|(name, kind)| match kind.as_str() {
            "counter" => (format!("{name}_total"), kind.clone()),
            _ => (name.clone(), kind.clone()),
        })
        .collect();
    let missing: Vec<_> = shown.difference(&documented).collect();
    let surplus: Vec<_> = documented.difference(&shown).collect();
    assert!(missing.is_empty() && surplus.is_empty(), "missing {missing:?}, surplus {surplus:?}");
}
