//! Lock waits against the kernel: they hold no worker and end with a signal.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod memfs;

use std::{
    fs::{self, File},
    io,
    os::{fd::AsRawFd, unix::thread::JoinHandleExt},
    sync::{Once, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use memfs::Mounted;
use ringfs_fusewire::MountOptions;

extern "C" fn ignore_signal(_: libc::c_int) {}

/// SIGUSR1 interrupts system calls instead of ending the process (no SA_RESTART).
fn catch_signals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handler does nothing; the struct is fully initialised by zeroing.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = ignore_signal as *const () as usize;
            assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
        }
    });
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        thread::yield_now();
    }
}

fn flock(file: &File, how: libc::c_int) -> io::Result<()> {
    // SAFETY: a descriptor and a constant.
    if unsafe { libc::flock(file.as_raw_fd(), how) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// An open-file-description lock on the whole file: POSIX on the wire, but usable within one
/// process.
fn posix(file: &File, command: libc::c_int, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: zero is a valid flock64; the kernel reads and writes only that.
    unsafe {
        let mut lock: libc::flock64 = std::mem::zeroed();
        lock.l_type = kind as libc::c_short;
        if libc::fcntl(file.as_raw_fd(), command, &mut lock) == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

#[test]
fn a_signal_ends_a_wait_with_eintr_and_others_go_on() {
    catch_signals();
    // One worker: a wait that held it would block everything below.
    let m = Mounted::with(&MountOptions { workers_max: 1, ..MountOptions::default() });
    fs::write(m.path("f"), b"x").unwrap();
    let holder = File::open(m.path("f")).unwrap();
    flock(&holder, libc::LOCK_EX).unwrap();

    let waiter = File::open(m.path("f")).unwrap();
    let thread = thread::spawn(move || flock(&waiter, libc::LOCK_EX));
    until("the wait reaches the file system", || m.counters.waits.load(Ordering::SeqCst) == 1);
    fs::write(m.path("g"), b"others go on").unwrap();
    assert_eq!(fs::read(m.path("g")).unwrap(), b"others go on");

    // SAFETY: the thread has not been joined.
    assert_eq!(unsafe { libc::pthread_kill(thread.as_pthread_t(), libc::SIGUSR1) }, 0);
    let error = thread.join().unwrap().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EINTR));
    assert_eq!(m.counters.interrupts.load(Ordering::SeqCst), 1);

    let other = File::open(m.path("f")).unwrap();
    let busy = flock(&other, libc::LOCK_EX | libc::LOCK_NB).unwrap_err();
    assert_eq!(busy.raw_os_error(), Some(libc::EWOULDBLOCK));
    drop((holder, other));
    m.stop().unwrap();
}

#[test]
fn a_wait_is_granted_when_the_holder_unlocks_or_closes() {
    let m = Mounted::new();
    fs::write(m.path("f"), b"x").unwrap();
    for closes in [false, true] {
        let holder = File::open(m.path("f")).unwrap();
        flock(&holder, libc::LOCK_EX).unwrap();
        let before = m.counters.waits.load(Ordering::SeqCst);
        let waiter = File::open(m.path("f")).unwrap();
        let thread = thread::spawn(move || flock(&waiter, libc::LOCK_EX));
        until("the wait is parked", || m.counters.waits.load(Ordering::SeqCst) > before);
        if closes {
            drop(holder);
        } else {
            flock(&holder, libc::LOCK_UN).unwrap();
        }
        thread.join().unwrap().unwrap();
    }
    m.stop().unwrap();
}

#[test]
fn flock_and_posix_locks_are_told_apart() {
    let m = Mounted::new();
    fs::write(m.path("f"), b"x").unwrap();
    let open = || File::options().read(true).write(true).open(m.path("f")).unwrap();
    let (one, two) = (open(), open());
    flock(&one, libc::LOCK_EX).unwrap();
    posix(&two, libc::F_OFD_SETLK, libc::F_WRLCK).unwrap();
    let busy = posix(&one, libc::F_OFD_SETLK, libc::F_WRLCK).unwrap_err();
    assert_eq!(busy.raw_os_error(), Some(libc::EAGAIN));
    posix(&two, libc::F_OFD_SETLK, libc::F_UNLCK).unwrap();
    posix(&one, libc::F_OFD_SETLKW, libc::F_WRLCK).unwrap();
    drop((one, two));
    m.stop().unwrap();
}

/// Signals race with requests read by different workers; none may be lost.
#[test]
fn no_interrupt_is_lost_among_many_workers() {
    catch_signals();
    let m = Mounted::new();
    fs::write(m.path("f"), b"x").unwrap();
    let holder = File::open(m.path("f")).unwrap();
    flock(&holder, libc::LOCK_EX).unwrap();
    for _ in 0..200 {
        let waiter = File::open(m.path("f")).unwrap();
        let thread = thread::spawn(move || flock(&waiter, libc::LOCK_EX));
        // Signals before the call are lost by nature, so send until the thread has ended.
        while !thread.is_finished() {
            // SAFETY: the thread has not been joined.
            unsafe { libc::pthread_kill(thread.as_pthread_t(), libc::SIGUSR1) };
            thread::yield_now();
        }
        let error = thread.join().unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINTR));
    }
    drop(holder);
    m.stop().unwrap();
}
