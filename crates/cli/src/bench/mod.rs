//! `ringfs bench`: how fast is a directory, whatever file system it is on?
//!
//! Only plain system calls, so that any two file systems can be compared. Each figure comes with
//! the CPU time it cost here and, with `--pid`, in the processes that serve the file system.

mod cpu;
mod data;
mod files;
mod measure;
mod random;
mod sequential;

use crate::failure::Failure;
use crate::output::{print, print_json};
use crate::quantity::{bytes, count, duration, parse_bytes};
use crate::table::TextTable;
use clap::Args;
use measure::{Amount, Figure};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

/// Measure how fast a directory is, on any file system
///
/// Sequential and random reads and writes, and creating, looking at, reading, renaming and removing
/// many files. Writes count until fsync has returned. Before reads the kernel is asked to forget what
/// it has cached of the data; attributes and names may come from its cache, as for any program.
///
/// Example:
///   ringfs bench /mnt/demo --threads 1,8 --files 2000 --size 512MiB
///   ringfs bench /mnt/demo --pid $(pidof ringfs redis-server | tr ' ' ,)
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct BenchArguments {
    /// The directory; a directory is made in it and removed at the end.
    directory: PathBuf,
    /// Measure with so many threads; several numbers one after the other.
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', default_value = "1,8",
          value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Vec<u16>,
    /// Files for each thread.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    files: u32,
    /// Bytes written and read sequentially, by all threads together.
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, default_value = "256MiB")]
    size: u64,
    /// Processes whose CPU time is told too, such as the mount and the servers.
    #[arg(long = "pid", value_name = "PID,PID,...", value_delimiter = ',')]
    pids: Vec<u32>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What all measurements need.
struct Bench {
    /// The directory made for the measurement.
    home: PathBuf,
    threads: u16,
    files: u32,
    size: u64,
    pids: Vec<u32>,
}

/// Removes the directory also when a measurement fails.
struct Home(PathBuf);

impl Drop for Home {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir_all(&self.0) {
            crate::output::warn(format_args!("{} remains: {e}", self.0.display()));
        }
    }
}

/// Runs the command.
pub fn run(arguments: &BenchArguments) -> Result<(), Failure> {
    if !arguments.directory.is_dir() {
        return Err(Failure::usage(format!(
            "there is no directory {}; name one on the file system to measure",
            arguments.directory.display()
        )));
    }
    let name = format!("ringfs-bench-{}", std::process::id());
    let home = arguments.directory.join(name);
    fs::create_dir(&home)
        .map_err(|e| Failure::io(format_args!("make the directory {}", home.display()), &e))?;
    let home = Home(home);
    let mut figures = Vec::new();
    for threads in &arguments.threads {
        let bench = Bench {
            home: home.0.clone(),
            threads: *threads,
            files: arguments.files,
            size: arguments.size,
            pids: arguments.pids.clone(),
        };
        sequential::run(&bench, &mut figures)?;
        random::run(&bench, &mut figures)?;
        files::run(&bench, &mut figures)?;
    }
    if arguments.json {
        print_json(&document(&arguments.directory, arguments, &figures));
    } else {
        print(text(arguments, &figures));
    }
    Ok(())
}

fn document(directory: &Path, arguments: &BenchArguments, figures: &[Figure]) -> serde_json::Value {
    let list: Vec<_> = figures
        .iter()
        .map(|f| {
            let mut value = json!({
                "what": f.what, "threads": f.threads, "wall_seconds": f.wall.as_secs_f64(),
                "cpu_seconds": f.cpu.as_secs_f64(),
                "cpu_seconds_of_pids": f.cpu_of_pids.as_secs_f64(),
            });
            match f.amount {
                Amount::Bytes(n) => {
                    value["bytes"] = json!(n);
                    value["bytes_per_second"] = json!(f.rate());
                }
                Amount::Operations(n) => {
                    value["operations"] = json!(n);
                    value["operations_per_second"] = json!(f.rate());
                }
            }
            value
        })
        .collect();
    json!({
        "directory": directory.display().to_string(), "size_bytes": arguments.size,
        "files_per_thread": arguments.files, "pids": arguments.pids, "figures": list,
    })
}

fn text(arguments: &BenchArguments, figures: &[Figure]) -> String {
    let mut titles = vec!["what", ">threads", ">amount", ">rate", ">each", ">wall", ">cpu here"];
    if !arguments.pids.is_empty() {
        titles.push(">cpu of pids");
    }
    let mut table = TextTable::new(&titles);
    for f in figures {
        let seconds = |value: std::time::Duration| format!("{:.2} s", value.as_secs_f64());
        let (amount, rate, each) = match f.amount {
            Amount::Bytes(n) => (bytes(n), format!("{:.2} GB/s", f.rate() / 1e9), String::new()),
            Amount::Operations(n) => (
                count(n),
                format!("{}/s", count(f.rate() as u64)),
                // As one thread sees it.
                duration(f.wall.mul_f64(f64::from(f.threads) / n.max(1) as f64)),
            ),
        };
        let mut row = vec![
            f.what.clone(),
            f.threads.to_string(),
            amount,
            rate,
            each,
            seconds(f.wall),
            seconds(f.cpu),
        ];
        if !arguments.pids.is_empty() {
            row.push(seconds(f.cpu_of_pids));
        }
        table.row(row);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_measured_and_nothing_remains() {
        let dir = tempfile::tempdir().unwrap();
        let mut figures = Vec::new();
        let home = dir.path().join("home");
        fs::create_dir(&home).unwrap();
        let bench =
            Bench { home, threads: 2, files: 20, size: 2 << 20, pids: vec![std::process::id()] };
        sequential::run(&bench, &mut figures).unwrap();
        random::run(&bench, &mut figures).unwrap();
        files::run(&bench, &mut figures).unwrap();
        assert!(figures.iter().all(|f| f.rate() > 0.0), "{figures:?}");
        assert_eq!(fs::read_dir(&bench.home).unwrap().count(), 0);
        let names: Vec<&str> = figures.iter().map(|f| f.what.as_str()).collect();
        for what in ["write incompressible", "read compressible", "create empty", "rename 4 KiB"] {
            assert!(names.contains(&what), "{what} is not among {names:?}");
        }
    }
}
