//! The compressors, one segment at a time, with the contexts kept per thread.

use std::cell::RefCell;
use std::fmt;
use std::str::FromStr;

/// How segments are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Codec {
    /// Stored as they are.
    None,
    /// LZ4, decoded with every bound checked: the fastest to read, as measured in
    /// `docs/decisions/0004-block-and-segment-size.md`.
    #[default]
    Lz4,
    /// Zstandard at level 1: about a third smaller than LZ4 on source code.
    Zstd,
}

/// Level of Zstandard: the higher ones cost more CPU than the memory they save is worth here.
const ZSTD_LEVEL: i32 = 1;

/// A segment is stored compressed only if that saves at least this share (1/32) of it: a raw
/// segment is read without decoding, which is worth more than a few bytes.
const GAIN_SHIFT: u32 = 5;

/// Bytes of a segment that are tried first when the one before did not compress.
const SAMPLE_BYTES: usize = 4096;

impl Codec {
    pub(super) fn to_byte(self) -> u8 {
        match self {
            Codec::None => 0,
            Codec::Lz4 => 1,
            Codec::Zstd => 2,
        }
    }

    pub(super) fn from_byte(byte: u8) -> Option<Codec> {
        match byte {
            0 => Some(Codec::None),
            1 => Some(Codec::Lz4),
            2 => Some(Codec::Zstd),
            _ => None,
        }
    }

    /// The name used on the command line and in the volume's settings.
    pub fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }

    /// Appends the compressed form of `raw` to `out`; false, and nothing appended, if it is not
    /// worth it.
    pub(super) fn compress(self, raw: &[u8], out: &mut Vec<u8>) -> bool {
        let begin = out.len();
        let limit = raw.len() - (raw.len() >> GAIN_SHIFT);
        let stored = match self {
            Codec::None => None,
            Codec::Lz4 => {
                out.resize(begin + lz4_flex::block::get_maximum_output_size(raw.len()), 0);
                LZ4.with_borrow_mut(|table| {
                    lz4_flex::block::compress_into_with_table(raw, &mut out[begin..], table).ok()
                })
            }
            Codec::Zstd => {
                out.resize(begin + zstd::zstd_safe::compress_bound(raw.len()), 0);
                ZSTD_IN.with_borrow_mut(|context| {
                    context.as_mut()?.compress_to_buffer(raw, &mut out[begin..]).ok()
                })
            }
        };
        let kept = stored.filter(|n| *n < limit);
        out.truncate(begin + kept.unwrap_or(0));
        kept.is_some()
    }

    /// Whether a sample from the middle of `raw` compresses. Asked after a segment that did not:
    /// data that is compressed or encrypted already then costs an eighth.
    pub(super) fn would_gain(self, raw: &[u8], scratch: &mut Vec<u8>) -> bool {
        if raw.len() <= SAMPLE_BYTES {
            return true;
        }
        let begin = scratch.len();
        let middle = (raw.len() - SAMPLE_BYTES) / 2;
        let gains = self.compress(&raw[middle..middle + SAMPLE_BYTES], scratch);
        scratch.truncate(begin);
        gains
    }

    /// Fills `out` exactly from `stored`; false if the bytes are no compressed form of that length.
    pub(super) fn decompress(self, stored: &[u8], out: &mut [u8]) -> bool {
        match self {
            Codec::None => false,
            Codec::Lz4 => {
                lz4_flex::block::decompress_into(stored, out).is_ok_and(|n| n == out.len())
            }
            Codec::Zstd => ZSTD_OUT.with_borrow_mut(|context| {
                context.as_mut().is_some_and(|context| {
                    context.decompress_to_buffer(stored, out).is_ok_and(|n| n == out.len())
                })
            }),
        }
    }
}

thread_local! {
    static LZ4: RefCell<lz4_flex::block::CompressTable> = RefCell::default();
    // A context that cannot be had (out of memory) stores raw, or fails the one read.
    static ZSTD_IN: RefCell<Option<zstd::bulk::Compressor<'static>>> =
        RefCell::new(zstd::bulk::Compressor::new(ZSTD_LEVEL).ok());
    static ZSTD_OUT: RefCell<Option<zstd::bulk::Decompressor<'static>>> =
        RefCell::new(zstd::bulk::Decompressor::new().ok());
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A codec's name that is not known; its text is a whole sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no compression: use none, lz4 or zstd")]
pub struct UnknownCodec(String);

impl FromStr for Codec {
    type Err = UnknownCodec;
    fn from_str(text: &str) -> Result<Codec, UnknownCodec> {
        match text {
            "none" => Ok(Codec::None),
            "lz4" => Ok(Codec::Lz4),
            "zstd" => Ok(Codec::Zstd),
            other => Err(UnknownCodec(other.chars().take(40).collect())),
        }
    }
}
