//! What it costs to take the time of something and to count it, in nanoseconds: by one thread, and by
//! two that count in the same histogram.

use ringfs_base::Histogram;
use std::hint::black_box;
use std::time::{Duration, Instant};

const TIMES: u32 = 5_000_000;
const ROUNDS: usize = 7;

/// The best of some rounds.
fn best(mut round: impl FnMut()) -> f64 {
    let nanoseconds = (0..ROUNDS).map(|_| {
        let begun = Instant::now();
        round();
        begun.elapsed().as_nanos() as f64 / f64::from(TIMES)
    });
    nanoseconds.fold(f64::INFINITY, f64::min)
}

fn main() {
    let histogram = Histogram::default();
    let count = || {
        for i in 0..TIMES {
            histogram.record(black_box(Duration::from_micros(u64::from(i % 5000))));
        }
    };
    let timed = || {
        for _ in 0..TIMES {
            let begun = black_box(Instant::now());
            histogram.record(begun.elapsed());
        }
    };
    println!("count one:                      {:.1} ns", best(count));
    println!("take the time and count one:    {:.1} ns", best(timed));
    let both = best(|| {
        std::thread::scope(|scope| {
            scope.spawn(timed);
            scope.spawn(timed);
        });
    });
    println!("the same, two threads at once:  {both:.1} ns");
    println!("({} counted)", histogram.counts().count());
}
