//! Recognises sequential reading, so that blocks are fetched before they are asked for.
//!
//! A file may have several readers; the kernel's own read-ahead sends requests out of order. So
//! a stream is a position near which the next request is expected, and a file has a few.

/// Streams remembered for each file.
const STREAMS_MAX: usize = 4;

/// How far from the expected position a request still belongs to a stream, in bytes.
const SLACK_BYTES: u64 = 2 << 20;

/// Most bytes to read ahead of a stream.
pub(crate) const WINDOW_BYTES_MAX: u64 = 8 << 20;

/// First window, doubled with each request that follows.
const WINDOW_BYTES_MIN: u64 = 1 << 20;

#[derive(Clone, Copy)]
struct Stream {
    next: u64,
    window: u64,
}

/// The streams of one file, the most recent first.
#[derive(Default)]
pub(crate) struct Streams(Vec<Stream>);

impl Streams {
    /// Notes a request and says how many bytes after it to read ahead: 0 for a random one.
    pub(crate) fn note(&mut self, offset: u64, len: u64) -> u64 {
        let end = offset + len;
        let near =
            |s: &Stream| offset.abs_diff(s.next) <= SLACK_BYTES && end + SLACK_BYTES > s.next;
        let exact = self.0.iter().position(|s| s.next == offset);
        // Near but not next: random access within a small file is no stream.
        let found = exact.or_else(|| self.0.iter().position(|s| s.window > 0 && near(s)));
        let stream = match found {
            Some(at) => {
                let old = self.0.remove(at);
                let window = if exact.is_some() {
                    (old.window * 2).clamp(WINDOW_BYTES_MIN, WINDOW_BYTES_MAX)
                } else {
                    old.window
                };
                let next = if exact.is_some() { end } else { old.next.max(end) };
                Stream { next, window }
            }
            None => Stream { next: end, window: 0 },
        };
        self.0.insert(0, stream);
        self.0.truncate(STREAMS_MAX);
        if exact.is_some() || len >= SLACK_BYTES { stream.window } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequential_reading_widens_the_window_to_its_limit() {
        let mut streams = Streams::default();
        let windows: Vec<u64> = (0..8).map(|i| streams.note(i << 17, 1 << 17)).collect();
        assert_eq!(windows[0], 0);
        assert_eq!(windows[1], WINDOW_BYTES_MIN);
        assert_eq!(windows[7], WINDOW_BYTES_MAX);
    }

    #[test]
    fn random_reading_reads_nothing_ahead() {
        let mut streams = Streams::default();
        for i in 0..100u64 {
            let offset = (i * 7_919 % 1_000) * 65_536;
            assert_eq!(streams.note(offset, 4096), 0);
        }
    }

    #[test]
    fn two_interleaved_readers_are_two_streams() {
        let mut streams = Streams::default();
        for i in 0..4u64 {
            let a = streams.note(i << 17, 1 << 17);
            let b = streams.note((1 << 30) + (i << 17), 1 << 17);
            assert_eq!(a > 0, i > 0);
            assert_eq!(b > 0, i > 0);
        }
    }
}
