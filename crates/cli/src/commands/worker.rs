//! `ringfs worker`: what is wanted of the background workers, wherever they run.

use crate::failure::Failure;
use crate::output::{Surroundings, print};
use crate::quantity::{bytes, duration, parse_bytes, parse_duration};
use crate::target::Target;
use clap::{Args, Subcommand, ValueEnum};
use ringfs_cluster::workers::{WorkerWish, set_wish, wish};
use ringfs_cluster::{COMPACT, GC, RECHECK, SCRUB, mover};
use std::time::Duration;

/// Pause, throttle or start the work that is done in the background
///
/// The workers run in whichever mount or agent coordinates the volume; `ringfs status` shows what they
/// do. `move` brings blocks to where they belong, `scrub` reads every copy and rebuilds bad ones, `gc`
/// removes what no file refers to, `compact` shortens long lists of extents, `recheck` looks again for
/// blocks that could not be had.
///
/// Example:
///   ringfs worker run redis://meta:6379/demo scrub
///   ringfs worker throttle /mnt/demo scrub 10MiB
///   ringfs worker every redis://meta:6379/demo scrub 30d
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct WorkerArguments {
    #[command(subcommand)]
    command: WorkerCommand,
}

#[derive(Debug, Subcommand)]
enum WorkerCommand {
    Pause(WhichArguments),
    Resume(WhichArguments),
    Run(WhichArguments),
    Throttle(ThrottleArguments),
    Every(EveryArguments),
}

/// Let a worker wait, go on, or do its work now
///
/// Example:
///   ringfs worker pause redis://meta:6379/demo gc
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct WhichArguments {
    /// The volume: its URL, or a path where it is mounted.
    volume: String,
    /// The worker.
    worker: WorkerName,
}

/// Choose how many bytes a worker moves or reads in a second at most
///
/// Example:
///   ringfs worker throttle redis://meta:6379/demo scrub 10MiB
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct ThrottleArguments {
    /// The volume: its URL, or a path where it is mounted.
    volume: String,
    /// The worker.
    worker: WorkerName,
    /// Bytes in a second, `none` for no limit, or `default`.
    #[arg(value_name = "RATE", value_parser = parse_rate)]
    rate: Wanted<u64>,
}

/// Choose how often a worker does its work; for scrub, the time in which every copy is read
///
/// Example:
///   ringfs worker every redis://meta:6379/demo scrub 30d
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct EveryArguments {
    /// The volume: its URL, or a path where it is mounted.
    volume: String,
    /// The worker: scrub, gc or compact.
    worker: WorkerName,
    /// The time, such as 7d, or `default`.
    #[arg(value_name = "TIME", value_parser = parse_time)]
    time: Wanted<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WorkerName {
    Move,
    Scrub,
    Gc,
    Compact,
    Recheck,
}

impl WorkerName {
    const fn name(self) -> &'static str {
        match self {
            WorkerName::Move => mover::WORKER,
            WorkerName::Scrub => SCRUB,
            WorkerName::Gc => GC,
            WorkerName::Compact => COMPACT,
            WorkerName::Recheck => RECHECK,
        }
    }
}

/// A value, or the worker's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted<T>(Option<T>);

fn parse_rate(text: &str) -> Result<Wanted<u64>, String> {
    match text {
        "default" => Ok(Wanted(None)),
        "none" => Ok(Wanted(Some(0))),
        text => match parse_bytes(text)? {
            0 => Err("nothing a second is a pause: use `ringfs worker pause`".to_owned()),
            rate => Ok(Wanted(Some(rate))),
        },
    }
}

fn parse_time(text: &str) -> Result<Wanted<Duration>, String> {
    match text {
        "default" => Ok(Wanted(None)),
        text => match parse_duration(text)? {
            time if time < Duration::from_secs(1) => {
                Err("a second is the shortest time".to_owned())
            }
            time => Ok(Wanted(Some(time))),
        },
    }
}

/// Runs the command.
pub fn run(arguments: &WorkerArguments, surroundings: &Surroundings) -> Result<(), Failure> {
    let change = |volume: &str, worker: WorkerName, edit: &dyn Fn(&mut WorkerWish)| {
        let volume = Target::open(volume, surroundings)?.open.volume;
        let mut wanted = wish(&volume, worker.name())?;
        edit(&mut wanted);
        Ok::<_, Failure>(set_wish(&volume, worker.name(), wanted)?)
    };
    match &arguments.command {
        WorkerCommand::Pause(which) => {
            change(&which.volume, which.worker, &|wish| wish.paused = true)?;
            print("It waits; `ringfs worker resume` lets it go on.\n");
        }
        WorkerCommand::Resume(which) => {
            change(&which.volume, which.worker, &|wish| wish.paused = false)?;
            print("It goes on.\n");
        }
        WorkerCommand::Run(which) => {
            change(&which.volume, which.worker, &|wish| {
                wish.paused = false;
                wish.asked = wish.asked.saturating_add(1);
            })?;
            print("It begins within a second where the volume is mounted; see `ringfs status`.\n");
        }
        WorkerCommand::Throttle(throttle) => {
            let Wanted(rate) = throttle.rate;
            change(&throttle.volume, throttle.worker, &|wish| wish.bytes_per_second = rate)?;
            print(match rate {
                None => "It takes as much as by default.\n".to_owned(),
                Some(0) => "It goes as fast as it can.\n".to_owned(),
                Some(rate) => format!("It takes at most {} in a second.\n", bytes(rate)),
            });
        }
        WorkerCommand::Every(every) => {
            let Wanted(time) = every.time;
            if matches!(every.worker, WorkerName::Move | WorkerName::Recheck) {
                return Err(Failure::usage(format!(
                    "worker {} works whenever there is something to do",
                    every.worker.name()
                )));
            }
            let seconds = time.map(|time| time.as_secs());
            change(&every.volume, every.worker, &|wish| wish.every_seconds = seconds)?;
            print(match time {
                None => "It works as often as by default.\n".to_owned(),
                Some(time) => format!("Its time is {} from now on.\n", duration(time)),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_times_are_read() {
        assert_eq!(parse_rate("default"), Ok(Wanted(None)));
        assert_eq!(parse_rate("none"), Ok(Wanted(Some(0))));
        assert_eq!(parse_rate("2MiB"), Ok(Wanted(Some(2 << 20))));
        assert!(parse_rate("0").is_err() && parse_rate("fast").is_err());
        assert_eq!(parse_time("7d"), Ok(Wanted(Some(Duration::from_secs(7 * 86_400)))));
        assert!(parse_time("10ms").is_err());
    }
}
