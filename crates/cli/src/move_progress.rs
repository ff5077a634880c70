//! How far the moving of blocks is, as people and programs read it, and waiting for its end.

use crate::failure::Failure;
use crate::output::print;
use crate::quantity::{bytes, count, duration};
use ringfs_cluster::mover::{LIMIT, MoveRecord, WORKER};
use ringfs_cluster::workers::{WorkerState, WorkerStatus, WorkerWish, statuses, wish};
use ringfs_meta::Volume;
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant, SystemTime};

/// Between two looks while somebody waits.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A worker that has said nothing for so long does not run.
const SILENT: Duration = Duration::from_secs(10);
/// Signs of a progress bar.
const BAR_SIGNS: usize = 24;

/// How it is at one moment.
pub struct Progress {
    /// What is being moved.
    pub moving: Option<MoveRecord>,
    /// Copies that are too many are still to be removed.
    pub surplus: bool,
    /// How the worker is; `None` if none ever ran.
    pub worker: Option<WorkerStatus>,
    /// What is wanted of it.
    pub wish: WorkerWish,
    /// The ring's epoch.
    pub epoch: u64,
    /// Sessions of the volume.
    pub sessions: usize,
    /// Bytes a second as seen between the last two looks.
    rate: Option<f64>,
}

impl Progress {
    /// Asks for it.
    pub fn look(volume: &Volume) -> Result<Progress, Failure> {
        let state = volume.ring_state()?;
        Ok(Progress {
            moving: state.moving.as_deref().map(MoveRecord::decode),
            surplus: volume.workers()?.contains_key("move.surplus"),
            worker: statuses(volume)?.remove(WORKER),
            wish: wish(volume, WORKER)?,
            epoch: state.epoch.0,
            sessions: volume.sessions()?.len(),
            rate: None,
        })
    }

    /// Nothing is moved, and nothing is left to be removed.
    pub fn is_done(&self) -> bool {
        self.moving.is_none() && !self.surplus
    }

    /// The worker, if it works at this time.
    fn at_work(&self) -> Option<&WorkerStatus> {
        let busy = |w: &&WorkerStatus| w.state != WorkerState::Idle && self.is_alive();
        self.worker.as_ref().filter(busy)
    }

    fn is_alive(&self) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs());
        self.worker.as_ref().is_some_and(|w| now.saturating_sub(w.written) <= SILENT.as_secs())
    }

    /// 0 to 1 of what it does now, if it is known how much that is.
    fn part(&self) -> Option<f64> {
        let worker = self.at_work().filter(|worker| worker.total > 0)?;
        Some((worker.done as f64 / worker.total as f64).min(1.0))
    }

    fn rate(&self) -> Option<f64> {
        self.rate.or_else(|| {
            let worker = self.at_work()?;
            let seconds = worker.written.saturating_sub(worker.began);
            (seconds > 0).then(|| worker.bytes as f64 / seconds as f64)
        })
    }

    /// About how long what it does now still takes.
    fn left(&self) -> Option<Duration> {
        let (part, worker) = (self.part()?, self.at_work()?);
        let seconds = worker.written.saturating_sub(worker.began) as f64;
        let left = seconds * (1.0 - part) / part;
        (part > 0.01 && seconds >= 1.0).then(|| Duration::from_secs_f64(left))
    }

    /// As one line.
    fn line(&self) -> String {
        let Some(worker) = self.at_work() else {
            return if self.is_alive() { "waiting".to_owned() } else { self.nobody() };
        };
        let mut line = match worker.state {
            WorkerState::Paused => "paused".to_owned(),
            _ => worker.what.clone(),
        };
        if let Some(part) = self.part() {
            let full = (part * BAR_SIGNS as f64) as usize;
            let bar = format!("{}{}", "=".repeat(full), " ".repeat(BAR_SIGNS - full));
            line.push_str(&format!(" [{bar}] {:.0}%", part * 100.0));
        }
        line.push_str(&format!(", {} copied", bytes(worker.bytes)));
        if let Some(rate) = self.rate() {
            line.push_str(&format!(", {} a second", bytes(rate as u64)));
        }
        if let Some(left) = self.left() {
            line.push_str(&format!(", about {} left", duration(left)));
        }
        if let Some(error) = &worker.error {
            line.push_str(&format!("; {error}"));
        }
        line
    }

    fn nobody(&self) -> String {
        match self.sessions {
            0 => "nobody moves them: start `ringfs mount` or `ringfs agent` somewhere".to_owned(),
            _ => "waiting for somebody to coordinate".to_owned(),
        }
    }

    /// As several lines.
    pub fn text(&self) -> String {
        let mut out = String::new();
        match &self.moving {
            None if self.surplus => out.push_str(
                "Everything is in its place; copies that are too many are being removed.\n",
            ),
            None => out.push_str("Nothing is being moved.\n"),
            Some(record) => {
                out.push_str(&format!("moving    {}\n", record.describe()));
                if !record.by.is_empty() {
                    out.push_str(&format!("asked by  {}\n", record.by));
                }
                out.push_str(&format!(
                    "copied    {} in {} copies\n",
                    bytes(record.bytes),
                    count(record.copies)
                ));
                if !record.waiting.is_empty() {
                    out.push_str(&format!(
                        "waits for {}: what belongs there cannot be written; `ringfs status` says \
                         why\n",
                        record.waiting.join(", ")
                    ));
                }
                if record.out_of_reach > 0 {
                    out.push_str(&format!(
                        "waits for {} blocks that may be only on {}; if it is gone for good, \
                         `ringfs rebalance abandon` gives them up\n",
                        count(record.out_of_reach),
                        record.leaving.join(", ")
                    ));
                }
            }
        }
        if !self.is_done() || self.at_work().is_some() {
            out.push_str(&format!("now       {}\n", self.line()));
        }
        let limit = self.wish.bytes_per_second.unwrap_or(LIMIT);
        out.push_str(&match limit {
            0 => "limit     none\n".to_owned(),
            limit => format!("limit     {} a second\n", bytes(limit)),
        });
        if self.wish.paused {
            out.push_str("paused    `ringfs rebalance resume` lets it go on\n");
        }
        out
    }

    /// For programs.
    pub fn document(&self) -> Value {
        json!({
            "done": self.is_done(),
            "epoch": self.epoch,
            "moving": self.moving,
            "removing_surplus": self.surplus,
            "worker": self.worker,
            "working": self.at_work().is_some(),
            "part": self.part(),
            "bytes_per_second_now": self.rate(),
            "seconds_left": self.left().map(|left| left.as_secs_f64()),
            "paused": self.wish.paused,
            "bytes_per_second": self.wish.bytes_per_second.unwrap_or(LIMIT),
        })
    }
}

/// Waits until nothing is being moved; shows how far it is: as a line that changes on a terminal.
pub fn wait(volume: &Volume) -> Result<(), Failure> {
    follow(volume, &mut |line| {
        if std::io::stderr().is_terminal() {
            write!(std::io::stderr(), "\r\x1b[K{line}").ok();
        }
    })?;
    if std::io::stderr().is_terminal() {
        write!(std::io::stderr(), "\r\x1b[K").ok();
    }
    Ok(())
}

/// The same for who asked to see it: without a terminal a line each time that something changes.
pub fn watch(volume: &Volume) -> Result<(), Failure> {
    if std::io::stderr().is_terminal() {
        return wait(volume);
    }
    let mut last = String::new();
    follow(volume, &mut |line| {
        if line != last {
            print(format_args!("{line}\n"));
            line.clone_into(&mut last);
        }
    })
}

fn follow(volume: &Volume, show: &mut dyn FnMut(&str)) -> Result<(), Failure> {
    let mut last: Option<(Instant, u64)> = None;
    let mut rate = None;
    loop {
        let mut progress = Progress::look(volume)?;
        if progress.is_done() {
            return Ok(());
        }
        // Records are written once a second: looks between two of them tell nothing new.
        if let Some(copied) = progress.at_work().map(|worker| worker.bytes) {
            match last {
                Some((at, before)) if copied > before => {
                    let now = (copied - before) as f64 / at.elapsed().as_secs_f64().max(0.001);
                    rate = Some(rate.map_or(now, |rate: f64| rate * 0.7 + now * 0.3));
                    last = Some((Instant::now(), copied));
                }
                Some((_, before)) if copied == before => {}
                _ => last = Some((Instant::now(), copied)),
            }
        }
        progress.rate = rate;
        show(&progress.line());
        std::thread::sleep(LOOK_EVERY);
    }
}
