//! Children that die with the test process, even if it is killed.
//!
//! Linux sends the parent-death signal when the *thread* that started the child ends. So all children
//! are started by one thread that never ends.
//!
//! A child begins with a copy of its parent's descriptors, and closes them as it starts its program.
//! If one of them is a file on a mount under test, that close waits for the mount's servers, and one
//! of those may be what is being started. So the thread has a table of descriptors of its own,
//! without any of those; commands must not bring any, either.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

type Order = (Command, Sender<io::Result<Child>>);

/// Starts a child whose descriptors, if it is to have any, are opened by path.
pub(crate) fn spawn(mut command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<Sender<Order>> = OnceLock::new();
    // SAFETY: prctl is async-signal-safe, and the closure touches no memory of the parent.
    unsafe {
        command.pre_exec(|| {
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
                .map_err(io::Error::from)
        });
    }
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, incoming) = channel::<Order>();
        std::thread::Builder::new()
            .name("testkit-spawner".into())
            .spawn(move || {
                forget_descriptors();
                for (mut command, answer) in incoming {
                    // The asker waits for the answer, so it is there.
                    answer.send(command.spawn()).ok();
                }
            })
            .expect("a thread can be started");
        orders
    });
    let (answer, child) = channel();
    spawner.send((command, answer)).map_err(io::Error::other)?;
    child.recv().map_err(io::Error::other)?
}

/// The calling thread has only the standard descriptors from now on; the others keep theirs.
fn forget_descriptors() {
    // SAFETY: the thread has just begun and owns no descriptor.
    let done = unsafe {
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_UNSHARE)
    };
    assert_eq!(done, 0, "close_range: {}", io::Error::last_os_error());
}
