//! The eyes of a keeper: one thread for each node, which asks it once a second.
//!
//! A node that does not answer holds up its own thread and nothing else. All threads watch themselves
//! as well: one that was held up longer than it should (the process was stopped, the machine slept or
//! had no time for it) has missed answers that may have been given; what this observer missed is then
//! forgotten, and it says of itself for a while that it is blind.

use crate::health::probe::Probe;
use crate::health::{Evidence, NodeSeen, SeenReport};
use parking_lot::{Condvar, Mutex};
use ringfs_base::{NodeName, VolumeName, VolumeUuid};
use ringfs_store::Node;
use rustix::time::{ClockId, clock_gettime};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A thread may wake late by this many periods, or by [`LATE_MIN`], before it distrusts itself.
const LATE_PERIODS: u32 = 2;
/// Busy machines are late by some hundred milliseconds without anything being wrong.
const LATE_MIN: Duration = Duration::from_secs(1);
/// Periods for which an observer that was held up is blind: each node is asked again by then.
const BLIND_PERIODS: u32 = 3;
/// A probe's time limits, at least.
const WITHIN_MIN: Duration = Duration::from_millis(500);
/// These threads call little.
const STACK_BYTES: usize = 512 << 10;

/// Times on both clocks: the one that stands still while the machine sleeps, and the one that does not.
#[derive(Clone, Copy)]
struct Moment {
    awake: Instant,
    all: Duration,
}

impl Moment {
    fn now() -> Moment {
        let time = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
        Moment { awake: Instant::now(), all: Duration::new(seconds, nanos) }
    }

    /// Time since then, sleep of the machine included.
    fn elapsed(&self) -> Duration {
        let now = Moment::now();
        now.all.saturating_sub(self.all).max(now.awake - self.awake)
    }
}

/// Something to wait for, that others can ring.
#[derive(Default)]
pub(super) struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    pub(super) fn ring(&self) {
        *self.rung.lock() = true;
        self.changed.notify_all();
    }

    /// Waits until it is rung, or until then.
    pub(super) fn wait_until(&self, until: Instant) {
        let mut rung = self.rung.lock();
        while !*rung && !self.changed.wait_until(&mut rung, until).timed_out() {}
        *rung = false;
    }
}

/// What the threads share.
struct Common {
    every: Duration,
    suspect_after: u32,
    /// Rung when an observer's view has changed.
    news: Arc<Bell>,
    /// How often this observer was held up.
    stalls: AtomicU64,
    blind_until: Mutex<Option<Instant>>,
    slots: Mutex<Vec<Arc<Slot>>>,
}

impl Common {
    fn late(&self) -> Duration {
        (self.every * LATE_PERIODS).max(LATE_MIN)
    }

    /// This observer was held up.
    fn stalled(&self, by: Duration) {
        self.stalls.fetch_add(1, Ordering::SeqCst);
        let until = Instant::now() + self.every * BLIND_PERIODS;
        let before = self.blind_until.lock().replace(until);
        if before.is_none_or(|before| before < Instant::now()) {
            tracing::warn!(
                held_up_ms = by.as_millis() as u64,
                "this process was held up; what it missed of the nodes does not count"
            );
        }
        for slot in self.slots.lock().iter() {
            slot.state.lock().seen.forgive();
        }
        self.news.ring();
    }
}

/// One node's state.
#[derive(Default)]
struct Slot {
    state: Mutex<SlotState>,
    wake: Bell,
    ended: AtomicBool,
}

#[derive(Default)]
struct SlotState {
    seen: NodeSeen,
    /// When the last probe that has ended began.
    began: Option<Instant>,
    mark: Option<u64>,
}

struct Post {
    node: Node,
    slot: Arc<Slot>,
}

/// All nodes of a ring being watched. Ends with the value; a thread that waits for a node ends by
/// itself a moment later.
pub(super) struct Watch {
    volume: VolumeName,
    uuid: VolumeUuid,
    common: Arc<Common>,
    posts: BTreeMap<NodeName, Post>,
}

impl Watch {
    pub(super) fn new(
        volume: VolumeName,
        uuid: VolumeUuid,
        every: Duration,
        suspect_after: u32,
        news: Arc<Bell>,
    ) -> Watch {
        let common = Arc::new(Common {
            every,
            suspect_after,
            news,
            stalls: AtomicU64::new(0),
            blind_until: Mutex::default(),
            slots: Mutex::default(),
        });
        Watch { volume, uuid, common, posts: BTreeMap::new() }
    }

    /// From now on these are the nodes. One whose address stays is watched on.
    pub(super) fn follow(&mut self, nodes: Vec<Node>) {
        let same = |post: &Post, node: &Node| post.node.endpoint == node.endpoint;
        let stays =
            |post: &Post| nodes.iter().any(|node| node.name == post.node.name && same(post, node));
        self.posts.retain(|_, post| {
            let stays = stays(post);
            if !stays {
                post.end();
            }
            stays
        });
        for node in nodes {
            if self.posts.contains_key(&node.name) {
                continue;
            }
            let within = (self.common.every * 4 / 5).max(WITHIN_MIN);
            let (name, endpoint) = (node.name.clone(), node.endpoint.clone());
            let probe = Probe::new(&self.volume, self.uuid, name, endpoint, within);
            let slot = Arc::new(Slot::default());
            let (common, mine) = (self.common.clone(), slot.clone());
            let spawned = std::thread::Builder::new()
                .name(format!("probe-{}", node.name))
                .stack_size(STACK_BYTES)
                .spawn(move || watch_one(probe, &mine, &common));
            match spawned {
                Ok(_) => {
                    self.posts.insert(node.name.clone(), Post { node, slot });
                }
                // Tried again with the next change of the ring.
                Err(error) => tracing::error!(%error, node = %node.name, "it is not watched"),
            }
        }
        *self.common.slots.lock() = self.posts.values().map(|post| post.slot.clone()).collect();
    }

    /// What is seen now.
    pub(super) fn report(&self) -> SeenReport {
        let seen = |post: &Post| post.slot.state.lock().seen.clone();
        let nodes = self.posts.iter().map(|(name, post)| (name.to_string(), seen(post))).collect();
        SeenReport { blind: self.is_blind(), nodes }
    }

    /// Whether this observer was held up lately.
    pub(super) fn is_blind(&self) -> bool {
        self.common.blind_until.lock().is_some_and(|until| Instant::now() < until)
    }

    /// The observer's own thread was held up for so long.
    pub(super) fn note_late(&self, by: Duration) {
        if by > self.common.late() {
            self.common.stalled(by);
        }
    }

    /// The nodes whose last probe began after this moment.
    pub(super) fn asked_since(&self, moment: Instant) -> BTreeSet<NodeName> {
        let since = |post: &Post| post.slot.state.lock().began.is_some_and(|began| began > moment);
        self.posts.iter().filter(|(_, post)| since(post)).map(|(name, _)| name.clone()).collect()
    }

    /// Sets our mark on a node with its next probe.
    pub(super) fn mark(&self, node: &NodeName, count: u64) {
        if let Some(post) = self.posts.get(node) {
            post.slot.state.lock().mark = Some(count);
        }
    }
}

impl Post {
    fn end(&self) {
        self.slot.ended.store(true, Ordering::SeqCst);
        self.slot.wake.ring();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.posts.values().for_each(Post::end);
    }
}

fn watch_one(mut probe: Probe, slot: &Slot, common: &Common) {
    let mut planned = Instant::now();
    loop {
        let waited = Moment::now();
        let wait = planned.saturating_duration_since(waited.awake);
        slot.wake.wait_until(planned);
        if slot.ended.load(Ordering::SeqCst) {
            return;
        }
        let over = waited.elapsed().saturating_sub(wait);
        if over > common.late() {
            common.stalled(over);
        }
        let (stalls, began) = (common.stalls.load(Ordering::SeqCst), Moment::now());
        let mark = slot.state.lock().mark.take();
        let evidence = probe.ask(mark);
        let over = began.elapsed().saturating_sub(probe.longest());
        if over > common.late() {
            common.stalled(over);
        }
        let mut state = slot.state.lock();
        let before = (state.seen.suspected, state.seen.answer.is_some());
        // Silence that one of our threads was held up during says nothing.
        let counts = common.stalls.load(Ordering::SeqCst) == stalls;
        if counts || matches!(evidence, Evidence::Answers(_)) {
            state.seen.note(evidence, common.suspect_after);
            state.began = Some(began.awake);
        }
        let after = (state.seen.suspected, state.seen.answer.is_some());
        let missed = state.seen.misses > 0 && !state.seen.suspected;
        drop(state);
        if after != before {
            common.news.ring();
        }
        // Who missed one answer asks sooner: a server that died shall be known within seconds.
        planned = began.awake + if missed { common.every / 2 } else { common.every };
    }
}
