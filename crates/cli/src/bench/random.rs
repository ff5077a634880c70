//! 4 KiB here and there in one large file that all threads share.

use super::Bench;
use super::data::{Kind, Numbers};
use super::measure::{Amount, Figure, measure};
use super::sequential::forget_cached;
use crate::failure::Failure;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;

const PAGE_BYTES: u64 = 4096;

/// Operations of each thread for each file that it would make in the other measurements.
const OPERATIONS_PER_FILE: u64 = 4;

/// Reads, then writes.
pub fn run(bench: &Bench, figures: &mut Vec<Figure>) -> Result<(), Failure> {
    let path = bench.home.join("random");
    let failed = |e: &std::io::Error| Failure::io(format_args!("use {}", path.display()), e);
    let pages = (bench.size / PAGE_BYTES).max(1);
    let data = Kind::Incompressible.data();
    let mut file = File::create_new(&path).map_err(|e| failed(&e))?;
    let mut left = pages * PAGE_BYTES;
    while left > 0 {
        let length = left.min(data.len() as u64) as usize;
        file.write_all(&data[..length]).map_err(|e| failed(&e))?;
        left -= length as u64;
    }
    file.sync_all().map_err(|e| failed(&e))?;

    let each = u64::from(bench.files) * OPERATIONS_PER_FILE;
    let amount = Amount::Operations(each * u64::from(bench.threads));
    let reader = File::open(&path).map_err(|e| failed(&e))?;
    forget_cached(&reader).map_err(|e| failed(&e))?;
    figures.push(measure(bench, "random read 4 KiB", amount, |thread| {
        let mut numbers = Numbers::new(u64::from(thread) + 1);
        let mut page = [0; PAGE_BYTES as usize];
        for _ in 0..each {
            reader.read_exact_at(&mut page, numbers.below(pages) * PAGE_BYTES)?;
        }
        Ok(())
    })?);
    figures.push(measure(bench, "random write 4 KiB", amount, |thread| {
        let mut numbers = Numbers::new(u64::from(thread) + 1000);
        for _ in 0..each {
            let from = numbers.below(64) as usize * PAGE_BYTES as usize;
            let page = &data[from..from + PAGE_BYTES as usize];
            file.write_all_at(page, numbers.below(pages) * PAGE_BYTES)?;
        }
        file.sync_all()
    })?);
    drop((file, reader));
    fs::remove_file(&path).map_err(|e| failed(&e))
}
