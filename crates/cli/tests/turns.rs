//! Random operations on one file by two mounts that take turns, compared with bytes in memory.
//!
//! Each turn is one open and close: what a turn wrote must be what the next one, on whichever mount,
//! finds. `RINGFS_TURNS` sets the number of operations, `RINGFS_SEED` repeats a run.

#![allow(clippy::unwrap_used, reason = "what fails ends the test")]

mod mounted;

use mounted::{Mounted, RINGFS, Volume, noise};
use rustix::fs::{FallocateFlags, SeekFrom, copy_file_range, fallocate, seek};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::process::Command;

const OPERATIONS: usize = 4_000;
const FILE_BYTES_MAX: usize = 3 << 20;

struct Choices(u64);

impl Choices {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    /// A range within `limit`: often small, sometimes anything.
    fn range(&mut self, limit: usize) -> (usize, usize) {
        let at = self.below(limit);
        let longest = [64, 5_000, 70_000, limit][self.below(4)];
        (at, 1 + self.below(longest.min(limit - at)))
    }
}

struct Player {
    bytes: Vec<u8>,
    choices: Choices,
}

impl Player {
    fn grow(&mut self, to: usize) {
        if self.bytes.len() < to {
            self.bytes.resize(to, 0);
        }
    }

    /// One operation on the open file and on the bytes in memory. Says what it was.
    fn act(&mut self, file: &File) -> String {
        let size = self.bytes.len();
        match self.choices.below(12) {
            0..=3 => {
                let (at, len) = self.choices.range(FILE_BYTES_MAX);
                let data = noise(self.choices.next(), len);
                file.write_all_at(&data, at as u64).unwrap();
                self.grow(at + len);
                self.bytes[at..at + len].copy_from_slice(&data);
                format!("write {len} at {at}")
            }
            4..=6 => {
                let (at, len) = self.choices.range(size + 1);
                let len = len.min(size.saturating_sub(at));
                let mut found = vec![0; len];
                file.read_exact_at(&mut found, at as u64).unwrap();
                assert!(found == self.bytes[at..at + len], "read {len} at {at} of {size}");
                format!("read {len} at {at}")
            }
            7 => {
                let to = self.choices.below(FILE_BYTES_MAX);
                file.set_len(to as u64).unwrap();
                self.bytes.resize(to, 0);
                format!("truncate to {to}")
            }
            8 => {
                let (at, len) = self.choices.range(FILE_BYTES_MAX);
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                fallocate(file, flags, at as u64, len as u64).unwrap();
                let end = (at + len).min(size);
                if at < end {
                    self.bytes[at..end].fill(0);
                }
                format!("punch {len} at {at}")
            }
            9 => {
                let (at, len) = self.choices.range(FILE_BYTES_MAX);
                fallocate(file, FallocateFlags::ZERO_RANGE, at as u64, len as u64).unwrap();
                self.grow(at + len);
                self.bytes[at..at + len].fill(0);
                format!("zero {len} at {at}")
            }
            10 if size > 2 => {
                let (from, len) = self.choices.range(size / 2);
                let to = from + len + self.choices.below(size / 2);
                let (mut read, mut write, mut left) = (from as u64, to as u64, len);
                while left > 0 {
                    let done = copy_file_range(file, Some(&mut read), file, Some(&mut write), left);
                    left -= done.unwrap();
                }
                self.grow(to + len);
                self.bytes.copy_within(from..from + len, to);
                format!("copy {len} from {from} to {to}")
            }
            _ => {
                let (at, _) = self.choices.range(size + 1);
                if let Ok(data) = seek(file, SeekFrom::Data(at as u64)) {
                    let hole = self.bytes.get(at..data as usize).unwrap_or_default();
                    assert!(hole.iter().all(|byte| *byte == 0), "data called a hole");
                } else {
                    assert!(self.bytes[at.min(size)..].iter().all(|byte| *byte == 0));
                }
                format!("seek data from {at}")
            }
        }
    }
}

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

#[test]
fn two_mounts_that_take_turns_see_one_file() {
    let operations = from_environment("RINGFS_TURNS", OPERATIONS as u64) as usize;
    let seed = from_environment("RINGFS_SEED", 0x7e57);
    let volume = Volume::format(3, 2);
    let mounts: [Mounted; 2] = [volume.mount(), volume.mount()];
    File::create(mounts[0].path("f")).unwrap();
    let mut player = Player { bytes: Vec::new(), choices: Choices(seed | 1) };
    let mut done = 0;
    let mut said: Vec<String> = Vec::new();
    while done < operations {
        let who = player.choices.below(2);
        let file = OpenOptions::new().read(true).write(true).open(mounts[who].path("f")).unwrap();
        let size = file.metadata().unwrap().len();
        assert_eq!(size, player.bytes.len() as u64, "seed {seed}, after {said:#?}");
        for _ in 0..1 + player.choices.below(4) {
            let act = std::panic::AssertUnwindSafe(|| player.act(&file));
            match std::panic::catch_unwind(act) {
                Ok(what) => said.push(format!("mount {who}: {what}")),
                Err(_) => panic!("seed {seed}, mount {who}, operation {done}, after {said:#?}"),
            }
            done += 1;
        }
        if said.len() > 40 {
            said.drain(..20);
        }
    }
    for mount in &mounts {
        assert!(std::fs::read(mount.path("f")).unwrap() == player.bytes, "seed {seed}");
    }
    drop(mounts);
    // A block that a busy node did not remove in time is left to the collector.
    mounted::succeed(Command::new(RINGFS).args(["gc", &volume.url(), "--delete"]));
    volume.assert_fsck_clean();
}
