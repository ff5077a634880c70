//! One measurement: threads that start together, and what it took until the last one was done.

use super::{Bench, cpu};
use crate::failure::Failure;
use std::io;
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// How much was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// Bytes moved.
    Bytes(u64),
    /// Operations done.
    Operations(u64),
}

/// The result of a measurement.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What was measured.
    pub what: String,
    /// Threads that did it.
    pub threads: u16,
    /// How much they did together.
    pub amount: Amount,
    /// From the common start to the end of the last thread.
    pub wall: Duration,
    /// CPU time of this process.
    pub cpu: Duration,
    /// CPU time of the processes given with `--pid`.
    pub cpu_of_pids: Duration,
}

impl Figure {
    /// Bytes or operations in a second.
    pub fn rate(&self) -> f64 {
        let amount = match self.amount {
            Amount::Bytes(n) | Amount::Operations(n) => n,
        };
        amount as f64 / self.wall.as_secs_f64().max(1e-9)
    }
}

/// Runs `work` on all threads at once, each with its number.
pub fn measure(
    bench: &Bench,
    what: impl Into<String>,
    amount: Amount,
    work: impl Fn(u16) -> io::Result<()> + Sync,
) -> Result<Figure, Failure> {
    let what = what.into();
    let barrier = Barrier::new(usize::from(bench.threads) + 1);
    let results = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..bench.threads)
            .map(|thread| {
                let (barrier, work) = (&barrier, &work);
                scope.spawn(move || {
                    barrier.wait();
                    work(thread)
                })
            })
            .collect();
        let (cpu, pids) = (cpu::own(), cpu::of(&bench.pids));
        let begun = Instant::now();
        barrier.wait();
        let results: Vec<io::Result<()>> = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect();
        let wall = begun.elapsed();
        let cost = (cpu::own().saturating_sub(cpu), cpu::of(&bench.pids).saturating_sub(pids));
        results.into_iter().collect::<io::Result<()>>().map(|()| (wall, cost))
    });
    let (wall, (cpu, cpu_of_pids)) =
        results.map_err(|e| Failure::io(format_args!("measure \"{what}\""), &e))?;
    Ok(Figure { what, threads: bench.threads, amount, wall, cpu, cpu_of_pids })
}
