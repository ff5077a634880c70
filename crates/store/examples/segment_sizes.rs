//! What segment size and codec cost and gain, without a server: the first half of the figures in
//! `docs/decisions/0004-block-and-segment-size.md`.
//!
//! `cargo run --release -p ringfs-store --example segment_sizes -- DIRECTORY` reads source code
//! below DIRECTORY, cuts it into full blocks and frames each in every way.

use ringfs_base::limits::BLOCK_BYTES;
use ringfs_base::{BlockId, SliceId, VolumeUuid};
use ringfs_store::frame::{Codec, Encoded, Header, Identity};
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

const CORPUS_BYTES_MAX: usize = 64 << 20;
const ROUNDS: u32 = 3;

fn main() -> std::io::Result<()> {
    let directory = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    let mut source = Vec::new();
    gather_source(Path::new(&directory), &mut source)?;
    let random = noise(16 << 20);
    println!("source code: {} MiB below {directory}; random: 16 MiB", source.len() >> 20);
    println!(
        "data    codec segment  stored/raw  encode GB/s  decode GB/s  4 KiB read us  its bytes"
    );
    for (name, data) in [("source", &source), ("random", &random)] {
        for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
            for shift in [14, 15, 16, 20] {
                measure(name, data, codec, shift);
            }
        }
    }
    Ok(())
}

fn measure(name: &str, data: &[u8], codec: Codec, shift: u8) {
    let identity =
        Identity { volume: VolumeUuid([7; 16]), block: BlockId { slice: SliceId(1), index: 0 } };
    let (mut encode, mut decode, mut small) = (Duration::MAX, Duration::MAX, Duration::MAX);
    let (mut stored, mut small_bytes, mut small_reads) = (0, 0, 0);
    for _ in 0..ROUNDS {
        let blocks: Vec<&[u8]> = data.chunks(BLOCK_BYTES as usize).collect();
        let begin = Instant::now();
        for block in &blocks {
            black_box(Encoded::new(&identity, codec, shift, block).parts());
        }
        encode = encode.min(begin.elapsed());
        let frames: Vec<Vec<u8>> = blocks
            .iter()
            .map(|b| Encoded::new(&identity, codec, shift, b).parts().concat())
            .collect();
        stored = frames.iter().map(Vec::len).sum();
        let mut out = vec![0; BLOCK_BYTES as usize];
        let begin = Instant::now();
        for frame in &frames {
            let header = Header::parse(frame).expect("own frame");
            let out = &mut out[..header.raw_len() as usize];
            header.unpack(&frame[header.header_len()..], 0, out).expect("own frame");
        }
        decode = decode.min(begin.elapsed());
        (small_reads, small_bytes) = (0, 0);
        let begin = Instant::now();
        for (n, frame) in frames.iter().enumerate() {
            let header = Header::parse(frame).expect("own frame");
            for place in 0..8u32 {
                let offset =
                    (place * 127 + n as u32 * 31) % (header.raw_len() / 4096).max(1) * 4096;
                let want = 4096.min(header.raw_len() - offset);
                // As the client does it: header parsed, then the touched segments only.
                let header = Header::parse(frame).expect("own frame");
                let at = header.stored_range(&(offset..offset + want));
                let at = header.header_len() + at.start..header.header_len() + at.end;
                small_bytes += header.header_len() + at.len();
                header.unpack(&frame[at], offset, &mut out[..want as usize]).expect("own frame");
                small_reads += 1;
            }
        }
        small = small.min(begin.elapsed());
    }
    let per_second = |time: Duration| data.len() as f64 / time.as_secs_f64() / 1e9;
    println!(
        "{name:7} {codec:5} {:4} KiB  {:9.4}  {:10.2}  {:10.2}  {:12.2}  {:9}",
        (1u32 << shift) >> 10,
        stored as f64 / data.len() as f64,
        per_second(encode),
        per_second(decode),
        small.as_secs_f64() * 1e6 / f64::from(small_reads),
        small_bytes / small_reads as usize,
    );
}

fn gather_source(directory: &Path, into: &mut Vec<u8>) -> std::io::Result<()> {
    let mut entries: Vec<_> = std::fs::read_dir(directory)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        if into.len() >= CORPUS_BYTES_MAX {
            into.truncate(CORPUS_BYTES_MAX);
            return Ok(());
        }
        let path = entry.path();
        let kind = entry.file_type()?;
        if kind.is_dir() {
            gather_source(&path, into)?;
        } else if kind.is_file()
            && path.extension().is_some_and(|e| e == "rs" || e == "c" || e == "h" || e == "md")
        {
            into.extend_from_slice(&std::fs::read(&path)?);
        }
    }
    Ok(())
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    (0..bytes)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}
