//! What happened when: faults, failures, and how long each operation took.
//!
//! A stall is due to the faults during which it happened, or shortly before. What the machine itself
//! did is measured beside it: a thread that does nothing but small writes and reads on a local
//! tmpfs, and sees how late those are.

use super::plan::Kind;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// A fault's consequences are still felt so long after its end.
const AFTERMATH: Duration = Duration::from_secs(1);
/// Operations that took at least so long are kept one by one.
const SLOW: Duration = Duration::from_millis(100);
/// Mounts wait 10 s for the metadata server.
const AWAY: Duration = Duration::from_secs(7);
/// Most of them.
const SLOW_MAX: usize = 100_000;
/// Most lines of the story.
const LINES_MAX: usize = 50_000;
/// Most failures that are told.
const FAILURES_MAX: usize = 20;

/// A fault and when it went on.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// What.
    pub kind: Kind,
    /// From.
    pub begin: Instant,
    /// Until; none while it goes on.
    pub end: Option<Instant>,
}

/// An operation that took long.
#[derive(Clone, Debug)]
pub struct Slow {
    /// What it was.
    pub what: String,
    /// When it began.
    pub begin: Instant,
    /// How long it took.
    pub took: Duration,
}

/// Sums over operations.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// System calls on the mounts.
    pub operations: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Bytes read and compared.
    pub bytes_read: u64,
    /// Files compared with what they must hold.
    pub files_verified: u64,
    /// Operations refused for lack of memory while a server was made to lack it.
    pub out_of_space: u64,
    /// Operations whose outcome is unknown because their mount was killed.
    pub unknown: u64,
}

#[derive(Default)]
struct Inner {
    lines: Vec<(Duration, String)>,
    windows: Vec<Window>,
    failures: Vec<String>,
    slow: Vec<Slow>,
    control: Vec<Slow>,
    counts: Counts,
}

/// The story of a run, written by all threads.
pub struct Story {
    begin: Instant,
    echo: bool,
    failed: AtomicBool,
    inner: Mutex<Inner>,
}

/// The longest stalls under one kind of fault.
#[derive(Clone, Debug)]
pub struct Stall {
    /// The longest operation.
    pub slow: Slow,
    /// The longest the machine itself was late meanwhile.
    pub control: Duration,
    /// The goal for it.
    pub goal: Duration,
}

impl Story {
    /// Begins now; with `echo` it is told as it goes.
    pub fn new(echo: bool) -> Story {
        let (begin, failed) = (Instant::now(), AtomicBool::new(false));
        Story { begin, echo, failed, inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Something happened.
    pub fn tell(&self, what: impl Into<String>) {
        let (what, at) = (what.into(), self.begin.elapsed());
        if self.echo {
            // Past what the test harness keeps to itself.
            writeln!(std::io::stderr(), "{:8.3}  {what}", at.as_secs_f64()).ok();
        }
        let mut inner = self.inner();
        if inner.lines.len() < LINES_MAX {
            inner.lines.push((at, what));
        }
    }

    /// Something happened that must not.
    pub fn fail(&self, what: impl Into<String>) {
        let what = what.into();
        self.tell(format!("FAILED: {what}"));
        let mut inner = self.inner();
        if inner.failures.len() < FAILURES_MAX {
            inner.failures.push(what);
        }
        self.failed.store(true, Ordering::SeqCst);
    }

    /// Whether something has failed.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    /// What has failed, and the last lines of the story.
    pub fn failures(&self) -> Option<String> {
        let inner = self.inner();
        if inner.failures.is_empty() {
            return None;
        }
        let from = inner.lines.len().saturating_sub(400);
        let mut out = String::from("what happened:\n");
        for (at, line) in &inner.lines[from..] {
            out.push_str(&format!("{:8.3}  {line}\n", at.as_secs_f64()));
        }
        out.push_str("what failed:\n");
        for failure in &inner.failures {
            out.push_str(&format!("- {failure}\n"));
        }
        Some(out)
    }

    /// A fault begins; the returned number ends it.
    pub fn begins(&self, kind: Kind) -> usize {
        let mut inner = self.inner();
        inner.windows.push(Window { kind, begin: Instant::now(), end: None });
        inner.windows.len() - 1
    }

    /// A fault is over.
    pub fn ends(&self, window: usize) {
        self.inner().windows[window].end = Some(Instant::now());
    }

    /// Whether a fault of this kind goes on, or did so within `before`.
    pub fn is_on(&self, kind: Kind, before: Duration) -> bool {
        let of = |w: &&Window| w.kind == kind && w.end.is_none_or(|end| end.elapsed() < before);
        self.inner().windows.iter().rev().any(|window| of(&window))
    }

    /// Whether the metadata server was away for nearly as long as mounts wait for it, so that they may
    /// have given up. Faults are planned to be shorter, but the machine may be late.
    pub fn metadata_was_away(&self) -> bool {
        self.inner().windows.iter().rev().any(|window| {
            let end = window.end.unwrap_or_else(Instant::now);
            matches!(window.kind, Kind::FreezeMeta | Kind::KillMeta)
                && end.saturating_duration_since(window.begin) > AWAY
                && end.elapsed() < 3 * AWAY
        })
    }

    /// An operation ended.
    pub fn operation(&self, begin: Instant, what: impl FnOnce() -> String) {
        let took = begin.elapsed();
        let mut inner = self.inner();
        inner.counts.operations += 1;
        if took >= SLOW && inner.slow.len() < SLOW_MAX {
            inner.slow.push(Slow { what: what(), begin, took });
        }
    }

    /// The control operation ended.
    pub fn control(&self, begin: Instant) {
        let took = begin.elapsed();
        if took >= SLOW / 5 {
            let mut inner = self.inner();
            if inner.control.len() < SLOW_MAX {
                inner.control.push(Slow { what: "control".to_owned(), begin, took });
            }
        }
    }

    /// Counts something.
    pub fn count(&self, add: impl FnOnce(&mut Counts)) {
        add(&mut self.inner().counts);
    }

    /// The sums so far.
    pub fn counts(&self) -> Counts {
        self.inner().counts
    }

    /// How often each kind of fault happened.
    pub fn faults(&self) -> BTreeMap<Kind, u64> {
        let mut counts = BTreeMap::new();
        for window in &self.inner().windows {
            *counts.entry(window.kind).or_default() += 1;
        }
        counts
    }

    /// The longest operation under each single kind of fault; `None` as key: without any fault, and
    /// apart from them what happened while several went on.
    pub fn stalls(&self) -> (BTreeMap<Option<Kind>, Stall>, Option<Stall>) {
        let inner = self.inner();
        let mut alone: BTreeMap<Option<Kind>, Stall> = BTreeMap::new();
        let mut several: Option<Stall> = None;
        for slow in &inner.slow {
            let stall = stall_of(slow, &inner.windows, &inner.control);
            let kinds = kinds_during(slow, &inner.windows);
            let place = match &kinds[..] {
                [] => Some(None),
                [kind] => Some(Some(*kind)),
                _ => None,
            };
            match place {
                Some(kind) => {
                    let longest = alone.entry(kind).or_insert_with(|| stall.clone());
                    if longest.slow.took < slow.took {
                        *longest = stall;
                    }
                }
                None => {
                    if several.as_ref().is_none_or(|longest| longest.slow.took < slow.took) {
                        several = Some(stall);
                    }
                }
            }
        }
        (alone, several)
    }

    /// All operations that took longer than `times` their goal.
    pub fn beyond(&self, times: u32) -> Vec<Stall> {
        let inner = self.inner();
        let stalls = inner.slow.iter().map(|slow| stall_of(slow, &inner.windows, &inner.control));
        stalls.filter(|stall| stall.slow.took > (stall.goal + stall.control) * times).collect()
    }

    /// The longest control operation of all.
    pub fn longest_control(&self) -> Duration {
        self.inner().control.iter().map(|slow| slow.took).max().unwrap_or_default()
    }

    /// Time since the beginning.
    pub fn at(&self, moment: Instant) -> Duration {
        moment.saturating_duration_since(self.begin)
    }
}

fn overlaps(window: &Window, slow: &Slow) -> bool {
    window.begin < slow.begin + slow.took
        && window.end.is_none_or(|end| slow.begin < end + AFTERMATH)
}

fn kinds_during(slow: &Slow, windows: &[Window]) -> Vec<Kind> {
    let mut kinds: Vec<Kind> =
        windows.iter().filter(|window| overlaps(window, slow)).map(|w| w.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

fn stall_of(slow: &Slow, windows: &[Window], control: &[Slow]) -> Stall {
    // A second without any fault; each fault that went on adds what it may cost.
    let own = |w: &Window| {
        w.kind.stall_goal(w.end.unwrap_or_else(Instant::now).saturating_duration_since(w.begin))
    };
    let goals: Duration = windows.iter().filter(|w| overlaps(w, slow)).map(own).sum();
    let goal = goals.max(Duration::from_secs(1));
    let end = slow.begin + slow.took;
    let meanwhile = control.iter().filter(|c| c.begin < end && slow.begin < c.begin + c.took);
    let control = meanwhile.map(|c| c.took).max().unwrap_or_default();
    Stall { slow: slow.clone(), control, goal }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_due_to_the_faults_of_its_time() {
        let begin = Instant::now();
        let at = |ms: u64| begin + Duration::from_millis(ms);
        let window = |kind, from, to| Window { kind, begin: at(from), end: Some(at(to)) };
        let windows =
            [window(Kind::KillNode, 1_000, 2_000), window(Kind::LongFreeze, 5_000, 9_000)];
        let slow = |from, ms| Slow {
            what: String::new(),
            begin: at(from),
            took: Duration::from_millis(ms),
        };
        assert_eq!(kinds_during(&slow(0, 900), &windows), []);
        assert_eq!(kinds_during(&slow(0, 1_100), &windows), [Kind::KillNode]);
        assert_eq!(kinds_during(&slow(2_900, 10), &windows), [Kind::KillNode]);
        assert_eq!(kinds_during(&slow(3_100, 10), &windows), []);
        assert_eq!(kinds_during(&slow(2_500, 3_000), &windows).len(), 2);
        let stall = stall_of(&slow(2_500, 3_000), &windows, &[slow(0, 100), slow(5_000, 70)]);
        assert_eq!(stall.goal, Duration::from_secs(4));
        assert_eq!(stall.control, Duration::from_millis(70));
    }
}
