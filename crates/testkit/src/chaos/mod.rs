//! The chaos suite: a mounted volume, programs at work on it, and faults without end.
//!
//! A run is a number of rounds. In each one the [`nemesis`] carries out what the seeded [`plan`] has
//! for it while the [`workload`] writes and compares on all mounts; then everything is healed, and
//! judged: every acknowledged byte is read on every mount, every block has all its copies again (how
//! long that takes is measured), `ringfs fsck --deep` finds nothing. The [`story`] knows what was
//! going on when an operation was slow or failed. Nothing in the judgement depends on the machine's
//! speed, except for the longest stalls, whose limits are [`STALL_FACTOR`] times the goal.

mod choices;
mod clock;
pub mod cluster;
mod ledger;
mod nemesis;
mod network;
pub mod plan;
pub mod report;
mod story;
mod workload;

pub use choices::Choices;
pub use report::Report;

use cluster::{Cluster, Program, lock, text};
use nemesis::Nemesis;
use plan::{Kind, Plan, Shape};
use std::time::{Duration, Instant};
use story::Story;
use workload::Workload;

/// A stall of so many times the goal fails the run: the machine is shared with other tests, and the
/// goal is for one that is not. The figures are printed against the goal itself.
pub const STALL_FACTOR: u32 = 5;
/// Longest wait for full redundancy after a round.
const REDUNDANCY_LIMIT: Duration = Duration::from_secs(240);
/// Between two looks whether it is there; each one reads all copies of all blocks.
const LOOK_PAUSE: Duration = Duration::from_millis(300);
/// Between two looks at who is marked down.
const WATCH_PAUSE: Duration = Duration::from_millis(50);

/// How the volume's own record of its ring is looked at.
pub trait Watch: Sync {
    /// The numbers of the nodes that are marked down now.
    fn down(&self) -> Vec<usize>;
    /// The process that coordinates the ring now.
    fn coordinator(&self) -> Option<u32>;
}

/// What a run is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// Everything is chosen by it.
    pub seed: u64,
    /// No round begins later than this.
    pub time: Duration,
    /// On what.
    pub shape: Shape,
    /// Kinds of faults.
    pub kinds: Vec<Kind>,
    /// Redundancy comes back by itself. If not, `ringfs repair` is run after each round.
    pub heals_itself: bool,
    /// Tell what happens as it happens.
    pub echo: bool,
}

/// Makes a [`Watch`] for a volume's URL.
pub type Watcher<'a> = dyn Fn(&str) -> Box<dyn Watch> + 'a;

/// One run.
///
/// # Panics
/// With the whole story, when anything happens that must not.
pub fn run(program: &Program, watcher: &Watcher<'_>, options: &Options) -> Report {
    let story = Story::new(options.echo);
    story.tell(format!("{options:?}"));
    let cluster = Cluster::start(program, options.shape);
    if let Some(why) = cluster.network.shared() {
        story
            .tell(format!("one network for all mounts, for {why}: partitions cut all of them off"));
    }
    if let Err(why) = &cluster.clocks {
        story.tell(format!("clocks do not jump: {why}"));
    }
    let watch = watcher(&cluster.url());
    let coordinator = || {
        let pid = watch.coordinator()?;
        cluster.clients.iter().position(|client| client.pid() == Some(pid))
    };
    let nemesis = Nemesis::new(&cluster, &story, &coordinator, options.seed);
    let load = Workload::new(&cluster, &story, options.seed);
    let mut plan = Plan::new(options.seed, options.shape, &options.kinds);
    let mut report = Report::new(options);
    std::thread::scope(|scope| {
        load.start(scope);
        let guard = scope.spawn(|| watch_over(&cluster, &story, &load));
        let begin = Instant::now();
        while begin.elapsed() < options.time && !story.has_failed() {
            let round = plan.next_round();
            story.tell(format!("round {}, victims {:?}", round.number, round.victims));
            load.go_on();
            let found = std::thread::scope(|scope| {
                let playing = scope.spawn(|| nemesis.play(&round));
                let found = watch_detection(&nemesis, watch.as_ref(), || playing.is_finished());
                if playing.join().is_err() {
                    story.fail("a fault could not be carried out");
                }
                found
            });
            for (node, after) in &found {
                story.tell(format!("node {node} was marked down after {after:?}"));
            }
            report.detected.extend(found.into_iter().map(|(_, after)| after));
            let healed = Instant::now();
            if story.has_failed() || !load.rest() {
                break;
            }
            if let Some(after) = make_whole(&cluster, &story, options, healed) {
                report.redundant.push(after);
            }
            load.verify_all();
            check_clean(&cluster, &story);
            report.rounds += 1;
            story.tell(format!("round {} is over", round.number));
        }
        load.end();
        guard.join().expect("it only looks");
    });
    drop(nemesis);
    if !story.has_failed() {
        // What mounts that are gone have left is garbage and nothing worse.
        cluster.clients.iter().for_each(cluster::Client::kill);
        let out = cluster.tool("gc", &["--delete", "--dead-after", "0s"]);
        story.tell(format!("gc at the end: {}", text(&out).trim_end()));
        let out = cluster.tool("fsck", &["--deep"]);
        if !out.status.success() {
            story.fail(format!("fsck without any mount: {}", text(&out)));
        }
    }
    for stall in story.beyond(STALL_FACTOR) {
        story.fail(format!(
            "{} at {:.1} s took {:?}, and {:?} is the goal; the machine itself was late by {:?}",
            stall.slow.what,
            story.at(stall.slow.begin).as_secs_f64(),
            stall.slow.took,
            stall.goal,
            stall.control
        ));
    }
    if let Some(failures) = story.failures() {
        panic!("seed {}: {options:?}\n{}\n{failures}", options.seed, cluster.logs());
    }
    report.conclude(&story);
    report
}

/// Ends a run that hangs or has failed: whoever waits for a mount is let go.
fn watch_over(cluster: &Cluster, story: &Story, load: &Workload<'_>) {
    while !load.is_over() {
        if let Some(what) = load.hanging() {
            story.fail(format!("{what} hangs"));
        }
        for client in &cluster.clients {
            if let Some(status) = client.ended() {
                story.fail(format!("the process of {} ended by itself: {status}", client.name));
            }
        }
        std::thread::sleep(WATCH_PAUSE);
    }
    if story.has_failed() {
        cluster.clients.iter().for_each(cluster::Client::kill);
    }
}

/// How long it takes until nodes that are gone are marked down.
fn watch_detection(
    nemesis: &Nemesis<'_>,
    watch: &dyn Watch,
    over: impl Fn() -> bool,
) -> Vec<(usize, Duration)> {
    let mut found = Vec::new();
    while !over() {
        let waiting = !lock(&nemesis.gone).is_empty();
        if waiting {
            let down = watch.down();
            lock(&nemesis.gone).retain(|(node, since)| {
                let seen = down.contains(node);
                if seen {
                    found.push((*node, since.elapsed()));
                }
                !seen
            });
        }
        std::thread::sleep(WATCH_PAUSE);
    }
    lock(&nemesis.gone).clear();
    found
}

/// Waits until every block has all its good copies; how long that took from `since`.
fn make_whole(
    cluster: &Cluster,
    story: &Story,
    options: &Options,
    since: Instant,
) -> Option<Duration> {
    if !options.heals_itself {
        let out = cluster.tool("repair", &["--deep"]);
        if !out.status.success() {
            story.fail(format!("repair: {}", text(&out)));
        }
    }
    loop {
        let out = cluster.tool("fsck", &["--deep"]);
        let found = text(&out);
        // Garbage is for the next step.
        let lacking = found.lines().find(|line| {
            ["damage: ", "degraded: ", "ringfs: "].iter().any(|word| line.starts_with(word))
        });
        match lacking {
            None => {
                let after = since.elapsed();
                story.tell(format!("every block has all its copies after {after:?}"));
                return Some(after);
            }
            Some(line) if since.elapsed() > REDUNDANCY_LIMIT => {
                story.fail(format!(
                    "no full redundancy after {REDUNDANCY_LIMIT:?}: {line}\n{found}"
                ));
                return None;
            }
            Some(_) if story.has_failed() => return None,
            Some(_) => std::thread::sleep(LOOK_PAUSE),
        }
    }
}

/// Removes garbage and copies that nobody needs, which faults may leave, and then nothing may be wrong.
/// Workers do that too, within minutes or hours.
fn check_clean(cluster: &Cluster, story: &Story) {
    let deadline = Instant::now() + REDUNDANCY_LIMIT;
    loop {
        let gc = cluster.tool("gc", &["--delete"]);
        let fsck = cluster.tool("fsck", &["--deep"]);
        if gc.status.success() && fsck.status.success() {
            return;
        }
        let repair = cluster.tool("repair", &[]);
        // A mount may be about to send what it owes.
        if Instant::now() > deadline || story.has_failed() {
            return story.fail(format!("not clean: {}{}", text(&gc), text(&fsck) + &text(&repair)));
        }
        story.tell(format!("not clean yet: {}", text(&fsck).trim_end()));
        std::thread::sleep(LOOK_PAUSE);
    }
}
