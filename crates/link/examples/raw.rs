//! What one connection costs, ours beside the `redis` crate's, on the same server in one run.
//!
//! `cargo run --release -p ringfs-link --example raw` starts a redis-server of its own. Each line gives
//! wall microseconds and microseconds of client CPU per command, and GB/s for payloads. The rounds
//! are short, alternate between the two clients, and the best of each is shown, because the machine
//! is shared.

use ringfs_link::{Cmd, Conn, Script};
use ringfs_testkit::{RedisServer, ServerOptions};
use std::hint::black_box;
use std::time::{Duration, Instant};

const ROUNDS: usize = 100;

/// Values of 1 MiB that the spread GET goes round: more than any cache of a CPU holds.
const SPREAD_KEYS: usize = 128;

#[derive(Clone, Copy)]
struct Cost {
    wall: Duration,
    cpu: Duration,
}

impl Cost {
    fn keep_best(&mut self, other: Cost) {
        self.wall = self.wall.min(other.wall);
        self.cpu = self.cpu.min(other.cpu);
    }
}

fn cpu_of_this_thread() -> Duration {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

fn measure(count: u32, call: &mut dyn FnMut()) -> Cost {
    let (wall, cpu) = (Instant::now(), cpu_of_this_thread());
    for _ in 0..count {
        call();
    }
    Cost { wall: wall.elapsed() / count, cpu: (cpu_of_this_thread() - cpu) / count }
}

fn compare(what: &str, bytes: usize, count: u32, ours: &mut dyn FnMut(), theirs: &mut dyn FnMut()) {
    let mut best = [Cost { wall: Duration::MAX, cpu: Duration::MAX }; 2];
    for _ in 0..ROUNDS {
        best[0].keep_best(measure(count, ours));
        best[1].keep_best(measure(count, theirs));
    }
    for (name, cost) in ["ringfs-link", "redis crate"].iter().zip(best) {
        let us = |time: Duration| time.as_secs_f64() * 1e6;
        let rate = if bytes > 0 {
            format!("{:6.2} GB/s", bytes as f64 / cost.wall.as_secs_f64() / 1e9)
        } else {
            String::new()
        };
        println!(
            "{what:<16} {name:<12} wall {:8.1} us   cpu {:8.1} us   {rate}",
            us(cost.wall),
            us(cost.cpu)
        );
    }
}

fn main() {
    for unix_socket in [false, true] {
        println!("{}", if unix_socket { "Unix socket" } else { "TCP on loopback" });
        let server = RedisServer::start(ServerOptions { unix_socket, ..ServerOptions::default() });
        let mut ours = server.conn();
        let url = server.url();
        let client = redis::Client::open(url.as_str()).expect("client");
        let mut theirs = client.get_connection().expect("connection");
        run(&mut ours, &mut theirs);
    }
}

fn run(ours: &mut Conn, theirs: &mut redis::Connection) {
    compare(
        "PING",
        0,
        400,
        &mut || drop(black_box(ours.call(&Cmd::new("PING")).expect("PING"))),
        &mut || drop(black_box(redis::cmd("PING").query::<redis::Value>(theirs).expect("PING"))),
    );
    let body =
        "redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) return redis.call('HGET', KEYS[1], ARGV[1])";
    let script = Script::new("bench", body);
    ours.load(&script).expect("SCRIPT LOAD");
    let sha = script.sha().to_owned();
    let value = [7; 60];
    compare(
        "EVALSHA",
        0,
        400,
        &mut || drop(black_box(ours.eval(&script, &[b"h"], &[b"field", &value]).expect("EVALSHA"))),
        &mut || {
            let mut cmd = redis::cmd("EVALSHA");
            cmd.arg(&sha).arg(1).arg("h").arg("field").arg(&value[..]);
            drop(black_box(cmd.query::<redis::Value>(theirs).expect("EVALSHA")));
        },
    );
    for kib in [256, 1020] {
        let value = vec![5; kib << 10];
        let mut buf = vec![0; kib << 10];
        let count = if kib < 1000 { 30 } else { 10 };
        compare(
            &format!("SET {kib} KiB"),
            value.len(),
            count,
            &mut || {
                drop(black_box(ours.call(&Cmd::new("SET").arg("k").payload(&value)).expect("SET")))
            },
            &mut || {
                let mut cmd = redis::cmd("SET");
                cmd.arg("k").arg(&value[..]);
                cmd.exec(theirs).expect("SET");
            },
        );
        compare(
            &format!("GET {kib} KiB"),
            value.len(),
            count,
            &mut || drop(black_box(ours.call(&Cmd::new("GET").arg("k")).expect("GET"))),
            &mut || {
                drop(black_box(redis::cmd("GET").arg("k").query::<Vec<u8>>(theirs).expect("GET")))
            },
        );
        compare(
            &format!("GET {kib} into"),
            value.len(),
            count,
            &mut || {
                let deadline = Instant::now() + Duration::from_secs(10);
                ours.send(&Cmd::new("GET").arg("k"), deadline).expect("GET");
                assert_eq!(ours.recv_into(&mut buf, deadline), Ok(Some(value.len())));
            },
            &mut || {
                drop(black_box(redis::cmd("GET").arg("k").query::<Vec<u8>>(theirs).expect("GET")))
            },
        );
    }
    // As a reader of a large file does: no value is in a CPU's cache when its turn comes.
    let value = vec![5; 1020 << 10];
    let keys: Vec<String> = (0..SPREAD_KEYS).map(|n| format!("k{n}")).collect();
    for key in &keys {
        ours.call(&Cmd::new("SET").arg(key).payload(&value)).expect("SET");
    }
    let (mut mine, mut other) = (keys.iter().cycle(), keys.iter().cycle());
    compare(
        "GET 1020 spread",
        value.len(),
        10,
        &mut || {
            let key = mine.next().expect("endless");
            drop(black_box(ours.call(&Cmd::new("GET").arg(key)).expect("GET")));
        },
        &mut || {
            let key = other.next().expect("endless");
            drop(black_box(redis::cmd("GET").arg(key).query::<Vec<u8>>(theirs).expect("GET")));
        },
    );
}
