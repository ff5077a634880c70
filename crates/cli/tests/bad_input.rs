//! Every error of a user's making, word for word: what happened, why, what to do; and the exit code.
//!
//! The expected texts are in `bad_input.txt`. `RINGFS_BLESS=1 cargo test -p ringfs-cli --test
//! bad_input` writes it anew; read the difference before it is committed.
#![allow(clippy::unwrap_used, reason = "a test has no use for an error")]

mod ringfs_command;

use ringfs_command::{Formatted, Mounted, Place, both, server, server_with_password};
use ringfs_testkit::{Nonsense, NonsenseServer, RedisServer};
use std::fmt::Write as _;
use std::net::{Ipv4Addr, TcpListener};

const SECRET: &str = "hunter2-and-more";

/// What was said, with everything replaced that differs from run to run.
struct Transcript {
    place: Place,
    text: String,
    names: Vec<(String, String)>,
}

impl Transcript {
    fn name(&mut self, what: impl Into<String>, name: &str) {
        self.names.push((what.into(), name.to_owned()));
    }

    fn server(&mut self, server: &RedisServer, name: &str) {
        let (address, port) = server.address();
        self.name(format!("{address}:{port}"), name);
        self.name(format!("localhost:{port}"), &format!("localhost-{name}"));
    }

    /// How long exactly a server was waited for differs.
    fn mask_milliseconds(&mut self) {
        if let Some((before, after)) = self.text.clone().split_once(" ms;")
            && let Some((before, _)) = before.rsplit_once(' ')
        {
            self.text = format!("{before} N_ms;{after}");
        }
    }

    fn run(&mut self, what: &str, arguments: &[&str]) {
        self.run_with(what, arguments, &[]);
    }

    fn run_with(&mut self, what: &str, arguments: &[&str], variables: &[(&str, &str)]) {
        let output =
            self.place.command(arguments).envs(variables.iter().copied()).output().unwrap();
        let said = both(&output);
        // A wrong password is as secret as a right one.
        assert!(!said.contains(SECRET), "{said}");
        let shown = format!(
            "## {what}\n$ ringfs {}\n{said}exit {}\n\n",
            arguments.join(" "),
            output.status.code().map_or("by a signal".to_owned(), |code| code.to_string())
        );
        let mut shown = shown.replace(SECRET, "SECRET");
        for (what, name) in &self.names {
            shown = shown.replace(what, name);
        }
        shown = shown.replace(self.place.dir.path().to_str().unwrap(), "DIR");
        self.text.push_str(&shown);
    }
}

#[test]
fn errors_are_sentences_that_say_what_to_do() {
    let volume = Formatted::new(3);
    let mut t = Transcript { place: Place::new(), text: String::new(), names: Vec::new() };
    let (url, meta) = (volume.url(), volume.meta.url());
    t.server(&volume.meta, "META");
    let nodes: Vec<String> = volume.nodes.iter().map(RedisServer::url).collect();
    for (i, node) in volume.nodes.iter().enumerate() {
        t.server(node, &format!("NODE{i}"));
    }
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    t.name(free.to_string(), "DEAD");
    let dead = format!("redis://{free}");

    // URLs.
    t.run("no such scheme", &["status", &format!("http://u:{SECRET}@h/demo")]);
    t.run("no scheme", &["status", "localhost:6379/demo"]);
    t.run("no volume", &["status", &meta]);
    t.run("no port", &["status", "redis://host:port/demo"]);
    t.run("a volume name that is none", &["status", "redis://host/de}mo"]);
    t.run("a path instead of a volume", &["status", "redis://host/a/b"]);
    t.run("a slash in the password", &["status", &format!("redis://u:{SECRET}/x@host/demo")]);
    t.run("an unknown parameter", &["status", "redis://host/demo?databse=1"]);

    // Servers.
    t.run("a dead server", &["status", &format!("{dead}/demo")]);
    t.run("a dead server, to mount", &["mount", &format!("{dead}/demo"), "."]);
    let locked = server_with_password("the-right-one");
    t.server(&locked, "LOCKED");
    let locked_url = format!("{}/demo", locked.endpoint().to_url_without_password());
    t.run("no password", &["status", &locked_url]);
    t.run_with("a wrong password", &["status", &locked_url], &[("RINGFS_REDIS_PASSWORD", SECRET)]);
    t.run(
        "a wrong password in the URL",
        &["status", &locked_url.replace("redis://", &format!("redis://:{SECRET}@"))],
    );
    t.run("no password file", &["--password-file", "none", "status", &locked_url]);
    std::fs::write(t.place.path("empty"), "\n").unwrap();
    t.run("an empty password file", &["--password-file", "empty", "status", &locked_url]);
    for (what, nonsense) in [
        ("a web server", Nonsense::Http),
        ("garbage", Nonsense::Garbage),
        ("a server that says nothing", Nonsense::Silence),
        ("a server that hangs up", Nonsense::Hangup),
        ("a server that announces too much", Nonsense::HugeLength),
    ] {
        let server = NonsenseServer::start(nonsense);
        t.name(server.address().to_string(), "NONSENSE");
        t.run(what, &["status", &format!("{}/demo", server.url())]);
        t.mask_milliseconds();
    }

    // Volumes.
    t.run("an unknown volume", &["status", &format!("{meta}/other")]);
    t.run("an unknown volume, to mount", &["mount", &format!("{meta}/other"), "."]);
    let a = format!("--node=a={}", nodes[0]);
    let b = format!("--node=b={}", nodes[1]);
    t.run("the volume exists", &["format", &meta, "demo", &a, &b]);
    t.run("two names", &["format", &url, "other", &a, &b]);
    t.run("no name", &["format", &meta, &a, &b]);
    t.run("too few nodes", &["format", &meta, "new", "--replicas=3", &a, &b]);
    t.run("a name twice", &["format", &meta, "new", &a, &format!("--node=a={}", nodes[1])]);
    t.run("an address twice", &["format", &meta, "new", &a, &format!("--node=b={}", nodes[0])]);
    let by_name = nodes[0].replace("127.0.0.1", "localhost");
    t.run("a server twice", &["format", &meta, "new", &a, &format!("--node=b={by_name}")]);
    t.run("a dead node", &["format", &meta, "new", &a, &format!("--node=b={dead}")]);
    t.run("no node", &["format", &meta, "new", "--node", &format!("redis://u:{SECRET}@h")]);
    t.run("one word too many", &["status", &url, &format!("redis://u:{SECRET}@h/x")]);
    t.run("a weight of nothing", &["format", &meta, "new", "--node=a=redis://h,weight=0"]);
    t.run("no replicas for the level", &["format", &meta, "new", &a, &b, "--durability=replica=1"]);
    t.run("no disk for the level", &["format", &meta, "new", &a, &b, "--durability=disk"]);
    t.run("no level", &["format", &meta, "new", &a, &b, "--durability=eternal"]);
    let evicting = server();
    evicting.config_set("maxmemory-policy", "allkeys-lru");
    t.server(&evicting, "EVICTING");
    t.run("a metadata server that evicts", &["format", &evicting.url(), "new", &a, &b]);
    let c = format!("--node=c={}", evicting.url());
    t.run("a node that evicts", &["format", &meta, "new", &a, &c]);
    assert_eq!(volumes(&volume), ["demo"], "a refusal changes nothing");

    // Changes of the ring.
    t.run("a node without a terminal", &["node", "drain", &url, "n0"]);
    t.run("an unknown node", &["node", "drain", &url, "nobody", "--yes"]);
    t.run("an unknown node, to remove", &["node", "remove", &url, "nobody", "--yes"]);
    t.run("an unknown node, to replace", &["node", "replace", &url, "nobody", "d=redis://h"]);
    t.run("a name that is taken", &["node", "add", &url, "n0=redis://h", "--yes"]);
    let taken = format!("d={}", nodes[0]);
    t.run("an address that is taken", &["node", "add", &url, &taken, "--yes"]);
    let same = format!("d={by_name}");
    t.run("a server that is a node already", &["node", "add", &url, &same, "--yes"]);
    t.run("a dead server to add", &["node", "add", &url, &format!("d={dead}"), "--yes"]);
    let evicts = format!("d={}", evicting.url());
    t.run("a server that evicts, to add", &["node", "add", &url, &evicts, "--yes"]);
    t.run("no node to add", &["node", "add", &url, &format!("redis://u:{SECRET}@h")]);
    t.run("too small a weight", &["node", "add", &url, "d=redis://h", "--weight=0"]);
    t.run("the weight that it has", &["node", "weight", &url, "n0", "1", "--yes"]);
    t.run("a weight that is none", &["node", "weight", &url, "n0", "much"]);
    t.run("too few nodes would be left", &["ring", "replicas", &url, "4", "--yes"]);
    t.run("the copies that there are", &["ring", "replicas", &url, "2", "--yes"]);
    t.run("no copies", &["ring", "replicas", &url, "0"]);
    t.run("no rate", &["rebalance", "throttle", &url, "0"]);
    t.run("nothing to abandon", &["rebalance", "abandon", &url, "n0"]);
    assert_eq!(volume.meta.command(&["HGET", "rfs:{demo/0}:c", "epoch"]).into_int().unwrap(), 1);

    volume.meta.command(&["HSET", "rfs:{demo/0}:v", "format", "99"]);
    t.run("a newer format", &["status", &url]);
    t.run("a newer format, to destroy", &["destroy", &url, "--yes"]);
    volume.meta.command(&["HSET", "rfs:{demo/0}:v", "format", "1"]);
    t.run("destroy without --yes", &["destroy", &url]);

    // Files.
    t.run("no such path", &["ring", "locate", &url, "/none"]);
    t.run("neither path nor block", &["ring", "locate", &url, "none"]);
    t.run("gc, both ways", &["gc", &url, "--delete", "--dry-run"]);
    t.run("bench of nothing", &["bench", "none"]);
    t.run("a size that is none", &["bench", ".", "--size", "much"]);

    // Mount points.
    t.run("no mount point", &["mount", &url, "none"]);
    std::fs::write(t.place.path("file"), "").unwrap();
    t.run("a file to mount on", &["mount", &url, "file"]);
    t.run("nothing is mounted", &["umount", "."]);
    {
        let mounted = Mounted::new(&volume.place, &url, &[]);
        let path = mounted.mountpoint.to_str().unwrap().to_owned();
        t.name(path.clone(), "MOUNTPOINT");
        t.name(std::process::id().to_string(), "PID");
        t.run("mounted already", &["mount", &url, &path]);
        t.run("mounted already, in the background", &["mount", "-d", &url, &path]);
        let _inside = std::fs::File::create(mounted.path("open")).unwrap();
        t.run("files are open", &["umount", &path]);
    }
    t.run("in the background, a dead server", &["mount", "-d", &format!("{dead}/demo"), "."]);
    t.run("in the background, no volume", &["mount", "-d", &format!("{meta}/other"), "."]);

    // Local servers.
    t.run("no local servers", &["local", "status", "--dir", "l"]);
    t.run("no local servers to stop", &["local", "stop", "--dir", "l"]);
    t.run("no local server to kill", &["local", "kill", "meta", "--dir", "l"]);
    let taken = volume.meta.address().1;
    t.name(taken.to_string(), "TAKEN");
    t.run("a port that is taken", &["local", "start", "--dir", "l", "--port", &taken.to_string()]);
    t.run_with(
        "no server program",
        &["local", "start", "--dir", "l", "--port=0"],
        &[("RINGFS_REDIS_SERVER", "/none/redis-server")],
    );
    t.run("no nodes", &["local", "start", "--dir", "l", "--nodes=0"]);

    compare(&t.text);
}

fn volumes(volume: &Formatted) -> Vec<String> {
    let list = volume.place.json(&["volumes", &volume.meta.url(), "--json"]);
    list.as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["name"].as_str().unwrap().to_owned())
        .collect()
}

fn compare(found: &str) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bad_input.txt");
    if std::env::var_os("RINGFS_BLESS").is_some() {
        std::fs::write(path, found).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(path).unwrap();
    let mut difference = String::new();
    for (e, f) in expected.split("## ").zip(found.split("## ")) {
        if e != f {
            writeln!(difference, "expected:\n## {e}found:\n## {f}").unwrap();
        }
    }
    assert!(expected == found, "tests/bad_input.txt differs:\n{difference}");
}
