//! Large files from the beginning to the end, one for each thread, in pieces of 1 MiB.

use super::Bench;
use super::data::{DATA_BYTES, Kind};
use super::measure::{Amount, Figure, measure};
use crate::failure::Failure;
use rustix::fs::{Advice, fadvise};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::PathBuf;

const PIECE_BYTES: usize = 1 << 20;

/// Writes, then reads, both kinds of data.
pub fn run(bench: &Bench, figures: &mut Vec<Figure>) -> Result<(), Failure> {
    let each = (bench.size / u64::from(bench.threads)).max(1);
    let amount = Amount::Bytes(each * u64::from(bench.threads));
    let path = |thread: u16| -> PathBuf { bench.home.join(format!("large-{thread}")) };
    for kind in [Kind::Incompressible, Kind::Compressible] {
        let data = kind.data();
        figures.push(measure(bench, format!("write {}", kind.word()), amount, |thread| {
            write(&path(thread), each, &data, thread)
        })?);
        figures.push(measure(bench, format!("read {}", kind.word()), amount, |thread| {
            read(&path(thread), each)
        })?);
        for thread in 0..bench.threads {
            fs::remove_file(path(thread)).map_err(|e| Failure::io("remove a file", &e))?;
        }
    }
    Ok(())
}

fn write(path: &PathBuf, size: u64, data: &[u8], thread: u16) -> io::Result<()> {
    let mut file = File::create(path)?;
    let mut left = size;
    // Threads begin at different places, so that their blocks differ.
    let mut at = usize::from(thread) * PIECE_BYTES % DATA_BYTES;
    while left > 0 {
        let length = left.min(PIECE_BYTES as u64) as usize;
        file.write_all(&data[at..at + length])?;
        left -= length as u64;
        at = (at + PIECE_BYTES) % DATA_BYTES;
    }
    file.sync_all()
}

fn read(path: &PathBuf, size: u64) -> io::Result<()> {
    let mut file = File::open(path)?;
    forget_cached(&file)?;
    let mut buffer = vec![0; PIECE_BYTES];
    let mut total = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => total += n as u64,
        }
    }
    if total == size {
        Ok(())
    } else {
        Err(io::Error::other(format!("{total} bytes were read of {size} that were written")))
    }
}

/// Asks the kernel to drop what it has cached of a file. Some file systems do not take the advice.
pub fn forget_cached(file: &File) -> io::Result<()> {
    match fadvise(file, 0, None, Advice::DontNeed) {
        Ok(()) | Err(rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
