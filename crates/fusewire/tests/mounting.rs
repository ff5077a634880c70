//! Mounting and unmounting: stale mounts, foreign mounts, and without root.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    io::ErrorKind,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use ringfs_fusewire::{
    Attr, AttrReply, Filesystem, FsResult, Mount, MountError, MountOptions, Request, Session,
    unmount_path,
};

const WATCHDOG: Duration = Duration::from_secs(60);
/// `nobody` of Debian.
const NOBODY: u32 = 65534;
/// Makes this test program act as a daemon on the directory it names.
const DAEMON_VAR: &str = "FUSEWIRE_TEST_DAEMON";

/// Tells this test program that it runs in a mount namespace of its own.
const INNER_VAR: &str = "FUSEWIRE_TEST_INNER";

/// A root directory and nothing else.
struct Bare;

impl Filesystem for Bare {
    fn getattr(&self, _: &Request<'_>, ino: u64, _: Option<u64>) -> FsResult<AttrReply> {
        let attr = Attr { ino, mode: libc::S_IFDIR | 0o755, nlink: 2, ..Attr::default() };
        Ok(AttrReply { attr, ttl: Duration::ZERO })
    }
}

/// A mountpoint that is cleaned up whatever happens, and a limit on how long that takes.
struct Place {
    dir: tempfile::TempDir,
    _watchdog: mpsc::Sender<()>,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let (alive, gone) = mpsc::channel();
        let path = dir.path().to_path_buf();
        thread::spawn(move || {
            if gone.recv_timeout(WATCHDOG) == Err(mpsc::RecvTimeoutError::Timeout) {
                let forced = rustix::mount::unmount(&path, rustix::mount::UnmountFlags::FORCE);
                eprintln!("a mount test hangs: {forced:?} {:?}", unmount_path(&path, true));
                std::process::abort();
            }
        });
        Self { dir, _watchdog: alive }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        while unmount_path(self.path(), true).is_ok() {}
    }
}

/// Not a test of its own: the daemon that other tests start in a process they can kill.
#[test]
fn daemon() {
    let Ok(path) = std::env::var(DAEMON_VAR) else { return };
    let options = MountOptions {
        fsname: "with, comma".into(),
        subtype: "bare".into(),
        ..MountOptions::default()
    };
    let mount = Mount::new(Path::new(&path), &options).expect("mount");
    Session::new(Bare, mount, &options).run().expect("run");
}

struct Daemon(Child);

impl Daemon {
    fn start(place: &Place, uid: u32) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "daemon", "--nocapture"]).env(DAEMON_VAR, place.path());
        command.stdout(Stdio::null());
        if uid != 0 {
            command.uid(uid).gid(uid);
        }
        let mut daemon = Self(command.spawn().unwrap());
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is_mounted(place) {
            assert!(daemon.0.try_wait().unwrap().is_none(), "the daemon ended early");
            assert!(Instant::now() < deadline, "the daemon does not mount");
            thread::yield_now();
        }
        daemon
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            self.0.kill().ok();
            self.0.wait().ok();
        }
    }
}

fn is_mounted(place: &Place) -> bool {
    let path = place.path().to_str().unwrap();
    fs::read_to_string("/proc/mounts").unwrap().contains(&format!(" {path} fuse"))
}

#[test]
fn a_dead_daemons_mount_is_told_apart_and_can_be_cleared() {
    let place = Place::new();
    Daemon::start(&place, 0).kill();
    let error = Mount::new(place.path(), &MountOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<MountError>());
    assert!(matches!(cause, Some(MountError::Stale { .. })), "{error}");
    assert!(error.to_string().contains("daemon has died"), "{error}");

    unmount_path(place.path(), false).unwrap();
    assert_eq!(unmount_path(place.path(), false).unwrap_err().kind(), ErrorKind::NotFound);
    let mount = Mount::new(place.path(), &MountOptions::default()).unwrap();
    drop(mount);
    assert!(!is_mounted(&place));
}

#[test]
fn dropping_a_mount_that_was_never_served_unmounts() {
    let place = Place::new();
    let options = MountOptions::default();
    drop(Session::new(Bare, Mount::new(place.path(), &options).unwrap(), &options));
    assert!(!is_mounted(&place));
}

#[test]
fn another_mount_on_top_is_left_alone() {
    let place = Place::new();
    let options = MountOptions::default();
    let lower = Session::new(Bare, Mount::new(place.path(), &options).unwrap(), &options);
    let lower = lower.spawn().unwrap();
    let upper = Mount::new(place.path(), &options).unwrap();
    lower.session().unmounter().unmount().unwrap();
    assert!(is_mounted(&place));
    drop(upper);
    assert!(is_mounted(&place));
    lower.stop().unwrap();
    assert!(!is_mounted(&place));
}

#[test]
fn dropping_a_running_session_with_open_files_does_not_hang() {
    let place = Place::new();
    let options = MountOptions::default();
    let session = Session::new(Bare, Mount::new(place.path(), &options).unwrap(), &options);
    let running = session.spawn().unwrap();
    let open = rustix::fs::open(place.path(), rustix::fs::OFlags::PATH, rustix::fs::Mode::empty())
        .unwrap();
    drop(running);
    assert!(!is_mounted(&place));
    drop(open);
}

#[test]
fn files_and_missing_directories_are_no_mountpoints() {
    let place = Place::new();
    let file = place.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = Mount::new(&file, &MountOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotADirectory);
    let error = Mount::new(&place.path().join("none"), &MountOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("none"), "{error}");
}

/// Through fusermount3, which must be installed setuid root; the mount belongs to the user.
///
/// The test proper runs in a mount namespace of its own, in which every user may open
/// `/dev/fuse`: udev arranges that on ordinary machines, but nobody does in a small container.
#[test]
fn an_unprivileged_user_mounts_and_unmounts_through_fusermount3() {
    let mut inner = Command::new(std::env::current_exe().unwrap());
    inner.args(["--exact", "unprivileged_inner", "--nocapture"]).env(INNER_VAR, "1");
    // SAFETY: one system call between fork and exec.
    unsafe {
        inner.pre_exec(|| match libc::unshare(libc::CLONE_NEWNS) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    let output = inner.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Not a test of its own: the one above, inside its namespace.
#[test]
fn unprivileged_inner() {
    if std::env::var_os(INNER_VAR).is_none() {
        return;
    }
    let place = Place::new();
    open_fuse_device_to_all(place.path());
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(place.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let mut daemon = Daemon::start(&place, NOBODY);
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let line = mounts
        .lines()
        .find(|l| l.contains(place.path().to_str().unwrap()) && l.contains("fuse"))
        .unwrap();
    assert!(line.starts_with("with,\\040comma "), "{line}");
    assert!(line.contains(" fuse.bare ") && line.contains("user_id=65534"), "{line}");

    let mut stat = Command::new("stat");
    let output = stat.arg(place.path()).uid(NOBODY).gid(NOBODY).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let status =
        Command::new("fusermount3").arg("-u").arg(place.path()).uid(NOBODY).status().unwrap();
    assert!(status.success());
    assert!(daemon.0.wait().unwrap().success(), "unmounting is a clean end");
}

/// Puts a device node with mode 0666 over `/dev/fuse`, in this mount namespace only.
fn open_fuse_device_to_all(scratch: &Path) {
    use rustix::{
        fs::{CWD, FileType, Mode, makedev, mknodat},
        mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change, unmount},
    };
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).unwrap();
    mount("none", scratch, "tmpfs", MountFlags::empty(), None).unwrap();
    let node = scratch.join("fuse");
    mknodat(CWD, &node, FileType::CharacterDevice, Mode::RUSR, makedev(10, 229)).unwrap();
    fs::set_permissions(&node, fs::Permissions::from_mode(0o666)).unwrap();
    mount_bind(&node, "/dev/fuse").unwrap();
    unmount(scratch, rustix::mount::UnmountFlags::DETACH).unwrap();
}
