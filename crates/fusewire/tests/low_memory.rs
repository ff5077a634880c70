//! A process whose memory is limited. A test program of its own, since the limit is the process's.

#![allow(clippy::unwrap_used, reason = "what fails ends the test")]

mod memfs;

use memfs::Mounted;
use ringfs_fusewire::MountOptions;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;
use std::process::Command;

/// Bytes of address space in use.
fn used() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").expect("statm");
    let pages: u64 = text.split(' ').next().and_then(|word| word.parse().ok()).expect("a number");
    pages * rustix::param::page_size() as u64
}

/// Tells the program that it is the one whose memory is limited.
const CHILD: &str = "RINGFS_TEST_LOW_MEMORY";
/// Every so often the language's runtime finds no memory for the signal stack of a thread that has its
/// own stack already, and ends the process: that says nothing of the session, and is tried again.
const ATTEMPTS: usize = 6;
const NO_SIGNAL_STACK: &str = "failed to allocate an alternative stack";

#[test]
fn a_worker_that_gets_no_memory_does_not_end_the_session() {
    if std::env::var_os(CHILD).is_some() {
        return run_short_of_memory();
    }
    for _ in 0..ATTEMPTS {
        let place = tempfile::tempdir().expect("a directory");
        let out = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "a_worker_that_gets_no_memory_does_not_end_the_session"])
            .env(CHILD, "1")
            .env("TMPDIR", place.path())
            .output()
            .expect("a child");
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
        if out.status.success() {
            return;
        }
        // What a process that was ended has mounted.
        for entry in fs::read_dir(place.path()).expect("a directory").flatten() {
            rustix::mount::unmount(entry.path(), rustix::mount::UnmountFlags::DETACH).ok();
        }
        assert!(said.contains(NO_SIGNAL_STACK), "{said}");
    }
    panic!("no run of {ATTEMPTS} came to its end");
}

fn run_short_of_memory() {
    let options = MountOptions { max_write: 1 << 20, ..MountOptions::default() };
    let m = Mounted::with(&options);
    let path = m.path("f");
    // Once it has answered, the threads that it begins with have their stacks.
    fs::write(&path, b"first").expect("written");
    let before = getrlimit(Resource::As);
    // Neither a thread's stack (2 MiB) nor a request buffer (1 MiB) fits. With room for the stack
    // alone the runtime now and then finds none for its signal stack and ends the process.
    let current = Some(used() + (960 << 10));
    setrlimit(Resource::As, Rlimit { current, ..before }).expect("a limit");
    for _ in 0..100 {
        fs::write(&path, b"some bytes").expect("written");
        assert_eq!(fs::read(&path).expect("read"), b"some bytes");
    }
    setrlimit(Resource::As, before).expect("no limit");
    fs::write(&path, vec![1; 3 << 20]).expect("written");
    m.stop().expect("the session did not fail");
}
