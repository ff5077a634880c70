//! Which mount is at a path: reading `/proc/self/mountinfo`.
//!
//! Unmounting by path must not hit somebody else's mount, and asking the path itself (stat)
//! would block on a daemon that does not answer.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

/// A line of mountinfo.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MountLine {
    /// "major:minor" of the file system, unique among those mounted.
    pub(crate) device: String,
    pub(crate) mountpoint: PathBuf,
    pub(crate) fstype: String,
}

/// The mount on top at `path` (absolute, without symlinks), if `path` is a mountpoint.
pub(crate) fn top_mount(path: &Path) -> io::Result<Option<MountLine>> {
    let table = fs::read("/proc/self/mountinfo")?;
    Ok(table.split(|&byte| byte == b'\n').filter_map(parse_line).rfind(|l| l.mountpoint == path))
}

/// Fields: id, parent, major:minor, root, mountpoint, options, optional fields, "-", fstype,
/// source, super options (see proc_pid_mountinfo(5)).
fn parse_line(line: &[u8]) -> Option<MountLine> {
    let text = |field: &[u8]| String::from_utf8(field.to_vec()).ok();
    let mut fields = line.split(|&byte| byte == b' ');
    let device = text(fields.nth(2)?)?;
    let mountpoint = PathBuf::from(OsString::from_vec(unescape(fields.nth(1)?)));
    let fstype = text(fields.skip_while(|field| *field != b"-").nth(1)?)?;
    Some(MountLine { device, mountpoint, fstype })
}

/// Space, tab, newline and backslash are written as backslash and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        if let (b'\\', Some(&[a, b, c])) = (first, tail.first_chunk::<3>())
            && [a, b, c].iter().all(|digit| (b'0'..=b'7').contains(digit))
        {
            let value = u32::from(a - b'0') * 64 + u32::from(b - b'0') * 8 + u32::from(c - b'0');
            bytes.push((value & 0xff) as u8);
            rest = &tail[3..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    bytes
}

/// The absolute form of a mountpoint, resolved through its parent: resolving the last
/// component would ask the mounted file system.
pub(crate) fn absolute(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(PathBuf::from("/"));
    };
    if name.as_bytes() == b".." {
        return fs::canonicalize(&path);
    }
    Ok(fs::canonicalize(parent)?.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_with_escapes_and_optional_fields() {
        let line = b"36 35 0:47 / /mnt/a\\040b rw,nosuid shared:1 master:2 - fuse.ringfs x rw";
        let parsed = parse_line(line).expect("a whole line");
        assert_eq!(parsed.device, "0:47");
        assert_eq!(parsed.mountpoint, Path::new("/mnt/a b"));
        assert_eq!(parsed.fstype, "fuse.ringfs");
        for cut in 0..line.len() - 18 {
            assert_eq!(parse_line(&line[..cut]), None);
        }
    }

    #[test]
    fn the_root_is_a_mountpoint() {
        assert!(top_mount(Path::new("/")).expect("proc is mounted").is_some());
    }
}
