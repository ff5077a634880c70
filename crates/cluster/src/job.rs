//! What every long job shares with whoever started it: a status line, a throttle, a clean stop.
//!
//! A job is stopped between two steps, never inside one, so whatever it has done is whole. Threads
//! that wait for the throttle are woken by the stop.

use crate::error::ClusterError;
use parking_lot::{Condvar, Mutex};
use serde::Serialize;
use std::fmt;
use std::time::{Duration, Instant};

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
    /// Most bytes a second; 0 = as fast as possible.
    bytes_per_second: u64,
}

#[derive(Default)]
struct State {
    progress: Progress,
    stopped: bool,
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
    pub fn limit(mut self, bytes_per_second: u64) -> Job {
        self.bytes_per_second = bytes_per_second;
        self
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

    /// Takes leave to move so many bytes: returns when the limit allows it.
    pub(crate) fn spend(&self, bytes: u64) -> Result<(), ClusterError> {
        let mut state = self.state.lock();
        if self.bytes_per_second > 0 {
            let now = Instant::now();
            let begin = state.paid_until.map_or(now, |until| until.max(now));
            let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
            state.paid_until = Some(begin + cost);
            while !state.stopped && Instant::now() < begin {
                self.changed.wait_until(&mut state, begin);
            }
        }
        if state.stopped { Err(ClusterError::Stopped) } else { Ok(()) }
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
    fn the_status_line_says_how_far() {
        let job = Job::new();
        job.begin("checking blocks", 10).unwrap();
        job.advance(3).unwrap();
        job.problems(2);
        assert_eq!(job.status_line(), "checking blocks: 3 of 10, 2 problems");
    }
}
