//! Whether this machine can mount.

use super::{Finding, Findings, Level};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Looks at /dev/fuse, fusermount3 and /etc/fuse.conf.
pub fn check() -> Vec<Finding> {
    let mut found = Findings::about("this machine".to_owned());
    let root = rustix::process::geteuid().is_root();
    match rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        Ok(_) => found.ok("/dev/fuse can be opened"),
        Err(Errno::NOENT | Errno::NODEV | Errno::NXIO) => found.add(
            Level::Problem,
            "the kernel has no /dev/fuse, so nothing can be mounted",
            Some("load the module (modprobe fuse), or give the container --device /dev/fuse"),
        ),
        Err(errno) => found.add(
            Level::Problem,
            format!("/dev/fuse cannot be opened: {errno}"),
            Some("give this user access to /dev/fuse, or the container --device /dev/fuse"),
        ),
    }
    if root {
        found.ok("running as root, so fusermount3 is not needed");
        return found.list;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|dir| dir.join("fusermount3").is_file()) {
        found.ok("fusermount3 is there");
    } else {
        found.add(
            Level::Problem,
            "fusermount3 is not in PATH, and only root can mount without it",
            Some("install it (on Debian: apt install fuse3), or run as root"),
        );
    }
    if user_allow_other(&std::fs::read_to_string("/etc/fuse.conf").unwrap_or_default()) {
        found.ok("/etc/fuse.conf lets users mount with --allow-other");
    } else {
        found.add(
            Level::Note,
            "only you can enter what you mount",
            Some("for --allow-other write user_allow_other into /etc/fuse.conf"),
        );
    }
    found.list
}

fn user_allow_other(conf: &str) -> bool {
    conf.lines().any(|line| line.trim() == "user_allow_other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_allow_nothing() {
        assert!(user_allow_other("# x\n user_allow_other \n"));
        assert!(!user_allow_other("#user_allow_other\n"));
    }
}
