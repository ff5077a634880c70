//! How to mount: one set of options for `mount(2)`, `fusermount3` and the session.

use rustix::mount::MountFlags;

/// Worker threads at most, unless the options say otherwise.
pub const WORKERS_MAX_DEFAULT: usize = 64;
/// Background requests in flight. The kernel's own default of 12 starves read-ahead on a file
/// system with network latency.
const MAX_BACKGROUND_DEFAULT: u16 = 64;

/// Options of a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountOptions {
    /// First column of `df` and of `/proc/mounts`.
    pub fsname: String,
    /// The type becomes `fuse.<subtype>`; empty for plain `fuse`.
    pub subtype: String,
    /// Refuse writes.
    pub read_only: bool,
    /// Let other users in. Without root it needs `user_allow_other` in `/etc/fuse.conf`.
    pub allow_other: bool,
    /// Let the kernel check permissions by mode bits and ACLs.
    pub default_permissions: bool,
    /// Most bytes of one WRITE; clamped to 4 KiB..1 MiB.
    pub max_write: u32,
    /// Read-ahead in bytes; the kernel may offer less.
    pub max_readahead: u32,
    /// Worker threads at most (at least 1 runs).
    pub workers_max: usize,
    /// Background requests in flight at most.
    pub max_background: u16,
    /// Background requests from which the kernel considers the mount congested.
    pub congestion_threshold: u16,
    /// More options as in `mount -o`: known words become mount flags (`suid`, `dev`, `noexec`,
    /// `noatime`, ...), others are passed on.
    pub extra: Vec<String>,
}

impl Default for MountOptions {
    fn default() -> Self {
        Self {
            fsname: "fuse".into(),
            subtype: String::new(),
            read_only: false,
            allow_other: false,
            default_permissions: true,
            max_write: 1 << 20,
            max_readahead: 1 << 20,
            workers_max: WORKERS_MAX_DEFAULT,
            max_background: MAX_BACKGROUND_DEFAULT,
            congestion_threshold: MAX_BACKGROUND_DEFAULT / 4 * 3,
            extra: Vec::new(),
        }
    }
}

/// What `mount(2)` gets besides source, target and type.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct KernelOptions {
    pub(crate) flags: MountFlags,
    pub(crate) data: String,
}

impl MountOptions {
    pub(crate) fn fstype(&self) -> String {
        if self.subtype.is_empty() { "fuse".into() } else { format!("fuse.{}", self.subtype) }
    }

    /// For `mount(2)`. As everywhere in FUSE, device files and suid bits are inert unless
    /// asked for.
    pub(crate) fn kernel(&self, fd: i32, root_mode: u32, uid: u32, gid: u32) -> KernelOptions {
        let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
        let mut data = format!("fd={fd},rootmode={root_mode:o},user_id={uid},group_id={gid}");
        let words = self.extra.iter().flat_map(|option| option.split(','));
        for word in words.filter(|word| !word.is_empty()) {
            match flag(word) {
                Some((bit, true)) => flags |= bit,
                Some((bit, false)) => flags &= !bit,
                None => {
                    data.push(',');
                    data.push_str(word);
                }
            }
        }
        if self.read_only {
            flags |= MountFlags::RDONLY;
        }
        if self.default_permissions {
            data.push_str(",default_permissions");
        }
        if self.allow_other {
            data.push_str(",allow_other");
        }
        KernelOptions { flags, data }
    }

    /// For `fusermount3 -o`.
    pub(crate) fn fusermount(&self) -> String {
        let mut words = vec![format!("fsname={}", escape(&self.fsname))];
        if !self.subtype.is_empty() {
            words.push(format!("subtype={}", escape(&self.subtype)));
        }
        words.extend(self.read_only.then(|| "ro".to_owned()));
        words.extend(self.default_permissions.then(|| "default_permissions".to_owned()));
        words.extend(self.allow_other.then(|| "allow_other".to_owned()));
        words.extend(self.extra.iter().filter(|option| !option.is_empty()).cloned());
        words.join(",")
    }
}

/// The mount flag a word sets (true) or clears.
fn flag(word: &str) -> Option<(MountFlags, bool)> {
    Some(match word {
        "ro" => (MountFlags::RDONLY, true),
        "rw" => (MountFlags::RDONLY, false),
        "nosuid" => (MountFlags::NOSUID, true),
        "suid" => (MountFlags::NOSUID, false),
        "nodev" => (MountFlags::NODEV, true),
        "dev" => (MountFlags::NODEV, false),
        "noexec" => (MountFlags::NOEXEC, true),
        "exec" => (MountFlags::NOEXEC, false),
        "noatime" => (MountFlags::NOATIME, true),
        "atime" => (MountFlags::NOATIME, false),
        "nodiratime" => (MountFlags::NODIRATIME, true),
        "sync" => (MountFlags::SYNCHRONOUS, true),
        "async" => (MountFlags::SYNCHRONOUS, false),
        "dirsync" => (MountFlags::DIRSYNC, true),
        _ => return None,
    })
}

/// fusermount splits at commas unless a backslash precedes them.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace(',', "\\,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_mounting_get_the_same_options() {
        let options = MountOptions {
            fsname: "redis://a,b".into(),
            subtype: "ringfs".into(),
            read_only: true,
            allow_other: true,
            extra: vec!["suid,noatime".into(), "context=x".into()],
            ..MountOptions::default()
        };
        let kernel = options.kernel(5, libc::S_IFDIR, 0, 0);
        assert_eq!(
            kernel.data,
            "fd=5,rootmode=40000,user_id=0,group_id=0,context=x,default_permissions,allow_other"
        );
        assert_eq!(kernel.flags, MountFlags::NODEV | MountFlags::NOATIME | MountFlags::RDONLY);
        assert_eq!(
            options.fusermount(),
            "fsname=redis://a\\,b,subtype=ringfs,ro,default_permissions,allow_other,\
             suid,noatime,context=x"
        );
        assert_eq!(options.fstype(), "fuse.ringfs");
    }
}
