//! Bytes to write: some that no compressor makes smaller, and some like text.

/// Repeats after this many bytes, beyond the window of any compressor of blocks of 1 MiB.
pub const DATA_BYTES: usize = 4 << 20;

/// A small generator of uniform numbers; the same every time.
pub struct Numbers(u64);

impl Numbers {
    /// A sequence by its number.
    pub fn new(seed: u64) -> Numbers {
        Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number (xorshift64*).
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// The next number below a limit.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}

/// What kind of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Random bytes.
    Incompressible,
    /// Words of a small vocabulary: about half the size with LZ4.
    Compressible,
}

impl Kind {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Incompressible => "incompressible",
            Kind::Compressible => "compressible",
        }
    }

    /// [`DATA_BYTES`] of it.
    pub fn data(self) -> Vec<u8> {
        let mut numbers = Numbers::new(7);
        let mut out = Vec::with_capacity(DATA_BYTES + 16);
        let words: Vec<Vec<u8>> = (0..4096)
            .map(|_| {
                let length = 3 + numbers.below(6);
                (0..length).map(|_| b'a' + numbers.below(26) as u8).collect()
            })
            .collect();
        while out.len() < DATA_BYTES {
            match self {
                Kind::Incompressible => out.extend_from_slice(&numbers.next().to_le_bytes()),
                Kind::Compressible => {
                    out.extend_from_slice(&words[numbers.below(words.len() as u64) as usize]);
                    out.push(b' ');
                }
            }
        }
        out.truncate(DATA_BYTES);
        out
    }
}
