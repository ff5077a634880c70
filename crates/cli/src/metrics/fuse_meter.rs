//! Counts what the kernel asks of a mount: each kind of request, how long it took, how it failed.

use ringfs_base::{Errno, Histogram, HistogramCounts};
use ringfs_fusewire::{Meter, REQUEST_MAX, Served, request_name};
use std::sync::atomic::{AtomicU64, Ordering};

/// Larger error numbers count as this one, which has no name.
const ERRNO_MAX: usize = 133;

/// The counters. Nothing here waits or locks.
pub struct FuseMeter {
    /// By the number of the request.
    kinds: Vec<Kind>,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
}

struct Kind {
    took: Histogram,
    errors: Vec<AtomicU64>,
}

/// One kind of request.
pub struct KindCounts {
    /// Its word, such as `create`.
    pub name: &'static str,
    /// How many there were, and how long they took.
    pub took: HistogramCounts,
    /// How many failed, by the name of the error; EIO always.
    pub errors: Vec<(&'static str, u64)>,
}

impl FuseMeter {
    /// Counters at zero.
    pub fn new() -> FuseMeter {
        let errors = || (0..=ERRNO_MAX).map(|_| AtomicU64::new(0)).collect();
        let kind = |_| Kind { took: Histogram::default(), errors: errors() };
        FuseMeter {
            kinds: (0..=REQUEST_MAX).map(kind).collect(),
            bytes_read: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
        }
    }

    /// Bytes that programs got by reads (what the kernel has cached is not asked for), and that they
    /// handed over by writes.
    pub fn bytes(&self) -> (u64, u64) {
        (self.bytes_read.load(Ordering::Relaxed), self.bytes_written.load(Ordering::Relaxed))
    }

    /// The kinds of requests that there were so far.
    pub fn kinds(&self) -> Vec<KindCounts> {
        let named =
            self.kinds.iter().zip(0..).filter_map(|(kind, n)| Some((kind, request_name(n)?)));
        let counts = named.map(|(kind, name)| {
            let (mut errors, mut other): (Vec<(&str, u64)>, u64) = (Vec::new(), 0);
            for (number, count) in kind.errors.iter().enumerate() {
                let count = count.load(Ordering::Relaxed);
                let errno = Errno(number as u8);
                match errno.name() {
                    _ if count == 0 && errno != Errno::EIO => {}
                    "E?" => other += count,
                    known => errors.push((known, count)),
                }
            }
            if other > 0 {
                errors.push(("other", other));
            }
            KindCounts { name, took: kind.took.counts(), errors }
        });
        counts.filter(|kind| kind.took.count() > 0).collect()
    }
}

impl Meter for FuseMeter {
    fn served(&self, served: &Served) {
        // Nothing is ordered by any of these.
        if let Some(kind) = self.kinds.get(served.opcode as usize) {
            kind.took.record(served.took);
            if let Some(error) = served.error {
                let number = usize::try_from(error.raw()).unwrap_or(ERRNO_MAX).min(ERRNO_MAX);
                kind.errors[number].fetch_add(1, Ordering::Relaxed);
            }
        }
        if served.bytes_read > 0 {
            self.bytes_read.fetch_add(served.bytes_read as u64, Ordering::Relaxed);
        }
        if served.bytes_written > 0 {
            self.bytes_written.fetch_add(served.bytes_written as u64, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn requests_are_counted_by_kind_and_error() {
        let meter = FuseMeter::new();
        let read = Served {
            opcode: 15,
            took: Duration::from_micros(30),
            error: None,
            bytes_read: 100,
            bytes_written: 0,
        };
        meter.served(&read);
        meter.served(&read);
        for error in [2, 5, 5, 511, -1] {
            let error = Some(error.into());
            meter.served(&Served { opcode: 1, error, bytes_read: 0, ..read });
        }
        // A request that nobody knows is counted nowhere, and harms nobody.
        meter.served(&Served { opcode: u32::MAX, ..read });
        let kinds = meter.kinds();
        let names: Vec<&str> = kinds.iter().map(|kind| kind.name).collect();
        assert_eq!(names, ["lookup", "read"]);
        assert_eq!(kinds[0].errors, [("ENOENT", 1), ("EIO", 2), ("other", 2)]);
        assert_eq!(kinds[1].errors, [("EIO", 0)]);
        assert_eq!((kinds[0].took.count(), kinds[1].took.count()), (5, 2));
        assert_eq!(meter.bytes(), (300, 0));
    }
}
