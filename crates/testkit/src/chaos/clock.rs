//! Clocks of client processes that can be made to jump.
//!
//! A small library that is loaded before others (`LD_PRELOAD`) adds an offset to the time of day; the
//! offset is in a file that it has mapped, so it can be changed while the process runs. It is
//! compiled when it is needed. Where that does not work, clocks do not jump and the story says so.
//! The monotonic clock is left alone: no system lets it jump.

use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = include_str!("clock/shim.rs.txt");

/// Compiles the library into a directory.
///
/// # Errors
/// Why there is none.
pub fn library(dir: &Path) -> Result<PathBuf, String> {
    let (source, library) = (dir.join("clock.rs"), dir.join("libclock.so"));
    std::fs::write(&source, SOURCE).map_err(|e| e.to_string())?;
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let out = Command::new(compiler)
        .args(["--edition", "2024", "--crate-type", "cdylib", "-O", "-C", "panic=abort", "-o"])
        .arg(&library)
        .arg(&source)
        .output()
        .map_err(|e| format!("rustc: {e}"))?;
    match out.status.success() {
        true => Ok(library),
        false => Err(String::from_utf8_lossy(&out.stderr).into_owned()),
    }
}

/// The clock of one process.
pub struct Clock {
    offset: PathBuf,
}

impl Clock {
    /// A clock that is right; its offset is kept at `offset`.
    pub fn new(offset: PathBuf) -> Clock {
        std::fs::write(&offset, 0i64.to_ne_bytes()).expect("a file");
        Clock { offset }
    }

    /// Makes the process of this command go by it.
    pub fn wind(&self, command: &mut Command, library: &Path) {
        command.env("LD_PRELOAD", library).env("RINGFS_TEST_CLOCK", &self.offset);
    }

    /// From now on it is off by so much.
    pub fn set(&self, seconds: i64) {
        // In place: the process has this very file mapped.
        let file = std::fs::OpenOptions::new().write(true).open(&self.offset).expect("the file");
        std::os::unix::fs::FileExt::write_all_at(&file, &seconds.to_ne_bytes(), 0).expect("write");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_day_jumps() {
        let dir = tempfile::tempdir().unwrap();
        let library = match library(dir.path()) {
            Ok(library) => library,
            Err(why) => return eprintln!("no clocks that jump here: {why}"),
        };
        let clock = Clock::new(dir.path().join("clock"));
        let year = || {
            let mut command = Command::new("date");
            command.arg("+%Y");
            clock.wind(&mut command, &library);
            let out = command.output().unwrap();
            String::from_utf8(out.stdout).unwrap().trim().parse::<i64>().unwrap()
        };
        let now = year();
        clock.set(-3 * 366 * 86_400);
        assert!((now - 4..now - 2).contains(&year()), "{} years", year());
        clock.set(0);
        assert_eq!(year(), now);
    }
}
