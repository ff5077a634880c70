//! What carries out the faults of a plan.

use super::choices::Choices;
use super::cluster::{Client, Cluster, lock};
use super::plan::{Back, Fault, Kind, Round, Step};
use super::story::Story;
use crate::redis::RedisServer;
use ringfs_link::Cmd;
use std::sync::Mutex;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Flips one bit of a random stored block, in one step, so that no block comes back that is being
/// removed. ARGV: a number to choose the place by, the bit. Returns whether it did.
const FLIP: &str = "local key = redis.call('RANDOMKEY')
if not key or string.sub(key, 1, 4) ~= 'rfb:' then return 0 end
local bytes = redis.call('STRLEN', key)
if bytes == 0 then return 0 end
local at = tonumber(ARGV[1]) % bytes
local byte = string.byte(redis.call('GETRANGE', key, at, at))
redis.call('SETRANGE', key, at, string.char(bit.bxor(byte, tonumber(ARGV[2]))))
return 1";

/// Who coordinates the ring now, as the place of the client in [`Cluster::clients`].
pub type Coordinator<'a> = dyn Fn() -> Option<usize> + Sync + 'a;

/// Breaks a cluster.
pub struct Nemesis<'a> {
    cluster: &'a Cluster,
    story: &'a Story,
    coordinator: &'a Coordinator<'a>,
    choices: Mutex<Choices>,
    /// When each node was killed or frozen last, to measure how soon that is noticed.
    pub gone: Mutex<Vec<(usize, Instant)>>,
    /// Only one client is killed at a time, so that one is always there to see.
    killing: Mutex<()>,
}

impl<'a> Nemesis<'a> {
    /// Of this cluster.
    pub fn new(
        cluster: &'a Cluster,
        story: &'a Story,
        coordinator: &'a Coordinator<'a>,
        seed: u64,
    ) -> Nemesis<'a> {
        Nemesis {
            cluster,
            story,
            coordinator,
            choices: Mutex::new(Choices::derive(seed, 2)),
            gone: Mutex::default(),
            killing: Mutex::default(),
        }
    }

    /// Carries out a round; returns when every fault in it is over.
    pub fn play(&self, round: &Round) {
        std::thread::scope(|scope| {
            for lane in &round.lanes {
                scope.spawn(move || {
                    for step in lane {
                        if self.story.has_failed() {
                            return;
                        }
                        sleep(step.after);
                        self.carry_out(step);
                    }
                });
            }
        });
        for client in &self.cluster.clients {
            client.ground.heal();
        }
    }

    fn carry_out(&self, step: &Step) {
        self.story.tell(format!("{}: {:?} for {:?}", step.kind.name(), step.fault, step.lasts));
        match step.fault {
            Fault::Kill { node, back } => self.kill(step, node, back),
            Fault::Freeze { node } => {
                self.note_gone(node, step.lasts);
                self.freeze(step, &self.cluster.nodes[node]);
            }
            Fault::FreezeMeta => self.freeze(step, &self.cluster.meta),
            Fault::KillMeta => {
                let mut meta = lock(&self.cluster.meta);
                self.during(step.kind, || {
                    meta.kill9();
                    sleep(step.lasts);
                    self.restarted("the metadata server", || meta.restart());
                });
            }
            Fault::Cut { mount, times } => {
                let ground = &self.cluster.clients[mount].ground;
                let (_, nodes) = ground.proxies.split_last().expect("there is a metadata server");
                self.during(step.kind, || {
                    for _ in 0..times {
                        nodes.iter().for_each(|proxy| proxy.cut());
                        sleep(step.lasts / times as u32);
                    }
                });
            }
            Fault::CutMeta { mount, times } => {
                let ground = &self.cluster.clients[mount].ground;
                let (meta, _) = ground.proxies.split_last().expect("there is a metadata server");
                self.during(step.kind, || {
                    for _ in 0..times {
                        meta.cut();
                        sleep(step.lasts / times as u32);
                    }
                });
            }
            Fault::Partition { node, mount, blocked } => {
                let proxy = &self.cluster.clients[mount].ground.proxies[node];
                self.during(step.kind, || {
                    proxy.block(blocked);
                    sleep(step.lasts);
                    proxy.restore();
                });
            }
            Fault::Slow { node, by } => {
                let proxies = || self.cluster.clients.iter().map(|c| &c.ground.proxies[node]);
                self.during(step.kind, || {
                    proxies().for_each(|proxy| proxy.delay(by));
                    sleep(step.lasts);
                    proxies().for_each(|proxy| proxy.restore());
                });
            }
            Fault::Full { node } => {
                let server = lock(&self.cluster.nodes[node]);
                self.during(step.kind, || {
                    server.config_set("maxmemory", "1");
                    sleep(step.lasts);
                    server.config_set("maxmemory", "0");
                });
            }
            Fault::Flip { node, copies } => self.during(step.kind, || self.flip(node, copies)),
            Fault::KillMount { mount } => self.kill_client(step, &self.cluster.clients[mount]),
            Fault::KillCoordinator => match (self.coordinator)() {
                Some(client) => self.kill_client(step, &self.cluster.clients[client]),
                None => self.story.tell("nobody coordinates now"),
            },
            Fault::Clock { mount, by_seconds } => {
                if self.cluster.clocks.is_ok() {
                    let clock = &self.cluster.clients[mount].clock;
                    self.during(step.kind, || {
                        clock.set(by_seconds);
                        sleep(step.lasts);
                        clock.set(0);
                    });
                }
            }
        }
        self.story.tell(format!("{}: over", step.kind.name()));
    }

    fn during(&self, kind: Kind, fault: impl FnOnce()) {
        let window = self.story.begins(kind);
        fault();
        self.story.ends(window);
    }

    /// Only what lasts long enough can be noticed.
    fn note_gone(&self, node: usize, lasts: Duration) {
        if lasts >= Duration::from_secs(5) {
            lock(&self.gone).push((node, Instant::now()));
        }
    }

    fn kill(&self, step: &Step, node: usize, back: Back) {
        let mut server = lock(&self.cluster.nodes[node]);
        let copy = match back {
            Back::Old(before) => {
                let copy = server.copy_data();
                sleep(before);
                Some(copy)
            }
            Back::AsItWas | Back::Empty => None,
        };
        self.note_gone(node, step.lasts);
        self.during(step.kind, || {
            server.kill9();
            sleep(step.lasts);
            self.restarted("the node", || match (back, copy) {
                (Back::Old(_), Some(copy)) => server.restart_with_copy(&copy),
                (Back::Empty, _) => server.restart_empty(),
                _ => server.restart(),
            });
        });
    }

    /// Starting is not part of the plan, and may take its time.
    fn restarted(&self, what: &str, start: impl FnOnce()) {
        let begin = Instant::now();
        start();
        if begin.elapsed() > Duration::from_secs(1) {
            self.story.tell(format!("{what} took {:?} to start", begin.elapsed()));
        }
    }

    fn freeze(&self, step: &Step, server: &Mutex<RedisServer>) {
        let server = lock(server);
        self.during(step.kind, || {
            server.stop();
            sleep(step.lasts);
            server.cont();
        });
    }

    fn flip(&self, node: usize, copies: usize) {
        let server = lock(&self.cluster.nodes[node]);
        let mut conn = server.conn();
        let mut flipped = 0;
        for _ in 0..copies {
            let (place, bit) = {
                let mut choices = lock(&self.choices);
                (choices.below(1 << 30) as i64, 1 << choices.below(8))
            };
            let cmd = Cmd::new("EVAL").arg(FLIP).int(0).int(place).int(bit);
            let done = conn.call(&cmd).and_then(ringfs_link::Reply::into_int);
            flipped += done.expect("the script runs");
        }
        self.story.tell(format!("{flipped} bits flipped on node {node}"));
    }

    fn kill_client(&self, step: &Step, client: &Client) {
        let _one = lock(&self.killing);
        self.during(step.kind, || {
            client.kill();
            sleep(step.lasts);
            self.cluster.revive(client);
        });
        self.story.tell(format!("{} is there again", client.name));
    }
}
