//! Many small files: what mdtest does. Each thread has a directory of its own.

use super::Bench;
use super::measure::{Amount, Figure, measure};
use crate::failure::Failure;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::PathBuf;

const SMALL_BYTES: usize = 4096;

/// Create, stat, list, read, rename and remove; first empty files, then files of 4 KiB.
pub fn run(bench: &Bench, figures: &mut Vec<Figure>) -> Result<(), Failure> {
    for size in [0, SMALL_BYTES] {
        files(bench, size, figures)?;
    }
    Ok(())
}

fn files(bench: &Bench, size: usize, figures: &mut Vec<Figure>) -> Result<(), Failure> {
    let kind = if size == 0 { "empty" } else { "4 KiB" };
    let amount = Amount::Operations(u64::from(bench.files) * u64::from(bench.threads));
    let directory = |thread: u16| -> PathBuf { bench.home.join(format!("files-{thread}")) };
    for thread in 0..bench.threads {
        fs::create_dir(directory(thread)).map_err(|e| Failure::io("make a directory", &e))?;
    }
    let content = vec![b'x'; size];
    let phase = |what: &str, work: &(dyn Fn(PathBuf, u32) -> io::Result<()> + Sync)| {
        measure(bench, format!("{what} {kind}"), amount, |thread| {
            let directory = directory(thread);
            (0..bench.files).try_for_each(|number| work(directory.clone(), number))
        })
    };
    let old = |directory: PathBuf, number: u32| directory.join(format!("file-{number:08}"));
    let new = |directory: PathBuf, number: u32| directory.join(format!("moved-{number:08}"));

    figures.push(phase("create", &|directory, number| {
        let mut file = File::create_new(old(directory, number))?;
        if size > 0 {
            file.write_all(&content)?;
        }
        Ok(())
    })?);
    figures.push(phase("stat", &|directory, number| {
        let found = fs::symlink_metadata(old(directory, number))?.len();
        expect(found, size as u64)
    })?);
    if size > 0 {
        figures.push(phase("read", &|directory, number| {
            let mut buffer = Vec::with_capacity(SMALL_BYTES + 1);
            File::open(old(directory, number))?.read_to_end(&mut buffer)?;
            expect(buffer.len() as u64, size as u64)
        })?);
    }
    figures.push(phase("rename", &|directory, number| {
        fs::rename(old(directory.clone(), number), new(directory, number))
    })?);
    figures.push(measure(bench, format!("list {kind}"), amount, |thread| {
        let found = fs::read_dir(directory(thread))?.collect::<io::Result<Vec<_>>>()?.len();
        expect(found as u64, u64::from(bench.files))
    })?);
    let remove = phase("remove", &|directory, number| fs::remove_file(new(directory, number)))?;
    figures.push(remove);
    for thread in 0..bench.threads {
        fs::remove_dir(directory(thread)).map_err(|e| Failure::io("remove a directory", &e))?;
    }
    Ok(())
}

fn expect(found: u64, wanted: u64) -> io::Result<()> {
    if found == wanted {
        Ok(())
    } else {
        Err(io::Error::other(format!("found {found} where {wanted} was written")))
    }
}
