//! Choices that a seed repeats.

use std::ops::Range;
use std::time::Duration;

/// A generator (SplitMix64): small, and every seed is a good one.
#[derive(Clone, Debug)]
pub struct Choices(u64);

impl Choices {
    /// The choices of this seed.
    pub fn new(seed: u64) -> Choices {
        Choices(seed)
    }

    /// Other choices, which depend on the seed and on `of` only, not on what was chosen so far.
    pub fn derive(seed: u64, of: u64) -> Choices {
        let mut choices = Choices(seed ^ of.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        choices.number();
        choices
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// A number below `limit`, which is 1 or more.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.number() % limit as u64) as usize
    }

    /// A number of the range, which is not empty.
    pub fn within(&mut self, range: Range<usize>) -> usize {
        range.start + self.below(range.end - range.start)
    }

    /// A time of the range, in milliseconds.
    pub fn millis(&mut self, range: Range<usize>) -> Duration {
        Duration::from_millis(self.within(range) as u64)
    }

    /// True once in so many times.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// Puts a list into another order.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for end in (1..list.len()).rev() {
            list.swap(end, self.below(end + 1));
        }
    }

    /// What a program writes, at most so many bytes: often so little that it is kept with the name,
    /// sometimes several blocks.
    pub fn contents(&mut self, bytes_max: usize) -> Vec<u8> {
        let size = match self.below(10) {
            0..=3 => self.within(1..8_192),
            4..=7 => self.within(8_192..200_000),
            _ => self.within(200_000..1_500_000),
        };
        self.bytes(size.min(bytes_max))
    }

    /// Bytes that no others are like; half of all runs of them compress well.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(count + 32);
        if self.once_in(2) {
            let name = self.number();
            for line in 0.. {
                if out.len() >= count {
                    break;
                }
                out.extend_from_slice(format!("line {line} of {name:016x}\n").as_bytes());
            }
        } else {
            while out.len() < count {
                out.extend_from_slice(&self.number().to_le_bytes());
            }
        }
        out.truncate(count);
        out
    }
}
