//! What every long job shares with whoever started it: a status line, a throttle, a clean stop.
//!
//! A job is stopped between two steps, never inside one, so whatever it has done is whole. Threads
//! that wait for the throttle are woken by the stop.

use crate::error::ClusterError;
use parking_lot::{Condvar, Mutex};
use serde::Serialize;
use std::fmt;
use std::time::{Duration, Instant};

/// Steps into which a limit's bytes of a second are cut at least.
const STEPS_PER_SECOND: u64 = 8;

/// How far a job is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// What it does now, such as `reading directories`.
    pub what: &'static str,
    /// Units done of this.
    pub done: u64,
    /// Units there are, as far as known; 0 if it is not known.
    pub total: u64,
    /// Problems found so far, in the whole job.
    pub problems: u64,
    /// Bytes moved so far, in the whole job.
    pub bytes: u64,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.done)?;
        if self.total > 0 {
            write!(f, " of {}", self.total)?;
        }
        match self.problems {
            0 => Ok(()),
            1 => f.write_str(", 1 problem"),
            n => write!(f, ", {n} problems"),
        }
    }
}

type Listener = Box<dyn Fn(&Progress) + Send + Sync>;

/// One run of a job. Share it (by `Arc`) with the thread that runs the job.
#[derive(Default)]
pub struct Job {
    state: Mutex<State>,
    changed: Condvar,
    listener: Option<Listener>,
}

#[derive(Default)]
struct State {
    progress: Progress,
    stopped: bool,
    paused: bool,
    /// Most bytes a second; 0 = as fast as possible.
    bytes_per_second: u64,
    /// Until when the bytes taken so far last at the allowed rate.
    paid_until: Option<Instant>,
}

impl Job {
    /// A job without throttle that tells nobody.
    pub fn new() -> Job {
        Job::default()
    }

    /// Calls `listener` whenever progress was made; from the job's threads, so it must be quick.
    #[must_use]
    pub fn on_progress(mut self, listener: impl Fn(&Progress) + Send + Sync + 'static) -> Job {
        self.listener = Some(Box::new(listener));
        self
    }

    /// Limits the bytes that the job moves in a second; 0 = no limit.
    #[must_use]
    pub fn limit(self, bytes_per_second: u64) -> Job {
        self.set_limit(bytes_per_second);
        self
    }

    /// Limits the bytes that the job moves in a second from now on; 0 = no limit.
    pub fn set_limit(&self, bytes_per_second: u64) {
        let mut state = self.state.lock();
        if state.bytes_per_second != bytes_per_second {
            state.bytes_per_second = bytes_per_second;
            state.paid_until = None;
            self.changed.notify_all();
        }
    }

    /// Makes the job wait between two steps until it is told to go on, or to stop.
    pub fn set_paused(&self, paused: bool) {
        self.state.lock().paused = paused;
        self.changed.notify_all();
    }

    /// Asks the job to end after its current step. It then returns [`ClusterError::Stopped`].
    pub fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_all();
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.state.lock().progress
    }

    /// How far it is, as one line.
    pub fn status_line(&self) -> String {
        self.progress().to_string()
    }

    /// Begins a new part of `total` units (0 = not known).
    pub(crate) fn begin(&self, what: &'static str, total: u64) -> Result<(), ClusterError> {
        self.update(|progress| *progress = Progress { what, done: 0, total, ..*progress })
    }

    /// Counts units as done. Fails once the job is to stop: call it between two steps.
    pub(crate) fn advance(&self, units: u64) -> Result<(), ClusterError> {
        self.update(|progress| progress.done += units)
    }

    /// Counts problems.
    pub(crate) fn problems(&self, count: u64) {
        self.state.lock().progress.problems += count;
    }

    /// Everything is looked at anew: what was found so far does not count.
    pub(crate) fn forget_problems(&self) {
        self.state.lock().progress.problems = 0;
    }

    fn update(&self, change: impl FnOnce(&mut Progress)) -> Result<(), ClusterError> {
        let progress = {
            let mut state = self.state.lock();
            while state.paused && !state.stopped {
                self.changed.wait(&mut state);
            }
            if state.stopped {
                return Err(ClusterError::Stopped);
            }
            change(&mut state.progress);
            state.progress
        };
        if let Some(listener) = &self.listener {
            listener(&progress);
        }
        Ok(())
    }

    /// Rests between two steps. Fails at once when the job is to stop.
    pub(crate) fn rest(&self, time: Duration) -> Result<(), ClusterError> {
        let until = Instant::now() + time;
        let mut state = self.state.lock();
        loop {
            if state.stopped {
                return Err(ClusterError::Stopped);
            }
            if Instant::now() >= until {
                return Ok(());
            }
            self.changed.wait_until(&mut state, until);
        }
    }

    /// Takes leave to move so many bytes: returns when the limit allows it.
    pub(crate) fn spend(&self, bytes: u64) -> Result<(), ClusterError> {
        self.state.lock().progress.bytes += bytes;
        self.pace(bytes)
    }

    /// How many bytes to move in one step, at most `most`, so that the limit is kept evenly and not in
    /// bursts.
    pub(crate) fn step(&self, most: usize) -> usize {
        match self.state.lock().bytes_per_second {
            0 => most,
            limit => most.min(usize::try_from(limit / STEPS_PER_SECOND).unwrap_or(most)),
        }
    }

    /// The same for bytes that are only looked at, and do not count as moved.
    pub(crate) fn pace(&self, bytes: u64) -> Result<(), ClusterError> {
        let mut state = self.state.lock();
        let mut begin = None;
        loop {
            if state.stopped {
                return Err(ClusterError::Stopped);
            }
            if state.paused {
                self.changed.wait(&mut state);
                continue;
            }
            if state.bytes_per_second == 0 {
                return Ok(());
            }
            let now = Instant::now();
            // Another limit forgets what has been paid, so that a lower one is not waited for long.
            let begin = match begin.filter(|_| state.paid_until.is_some()) {
                Some(begin) => begin,
                None => {
                    let from = state.paid_until.map_or(now, |until| until.max(now));
                    let seconds = bytes as f64 / state.bytes_per_second as f64;
                    state.paid_until = Some(from + Duration::from_secs_f64(seconds));
                    *begin.insert(from)
                }
            };
            if now >= begin {
                return Ok(());
            }
            self.changed.wait_until(&mut state, begin);
        }
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Job({})", self.progress())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_throttle_spreads_bytes_over_time_and_a_stop_ends_the_wait() {
        let job = Job::new().limit(1_000_000);
        let begun = Instant::now();
        for _ in 0..3 {
            job.spend(50_000).unwrap();
        }
        assert!(
            begun.elapsed() >= Duration::from_millis(100),
            "the third waits for the two before"
        );
        let job = Job::new().limit(1);
        job.spend(1_000_000).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| job.spend(1));
            job.stop();
            assert!(matches!(waiting.join().unwrap(), Err(ClusterError::Stopped)));
        });
    }

    #[test]
    fn a_pause_holds_the_job_and_another_limit_counts_at_once() {
        let job = Job::new();
        job.set_paused(true);
        std::thread::scope(|scope| {
            let held = scope.spawn(|| job.advance(1));
            std::thread::sleep(Duration::from_millis(30));
            assert!(!held.is_finished());
            job.set_paused(false);
            held.join().unwrap().unwrap();
        });
        let job = Job::new().limit(1);
        job.spend(1_000_000).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| job.spend(1));
            std::thread::sleep(Duration::from_millis(30));
            assert!(!waiting.is_finished());
            job.set_limit(0);
            waiting.join().unwrap().unwrap();
        });
        assert_eq!(job.progress().bytes, 1_000_001);
        assert_eq!((job.step(500), job.limit(800).step(500)), (500, 100));
    }

    #[test]
    fn the_status_line_says_how_far() {
        let job = Job::new();
        job.begin("checking blocks", 10).unwrap();
        job.advance(3).unwrap();
        job.problems(2);
        assert_eq!(job.status_line(), "checking blocks: 3 of 10, 2 problems");
    }
}
