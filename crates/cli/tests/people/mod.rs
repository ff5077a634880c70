//! Somebody with a user id, a group and supplementary groups who does things in a mount: a child
//! process in Python, since ids can only be given up for a whole process.

#![allow(dead_code, reason = "each test file uses its part of the fixture")]
#![allow(clippy::unwrap_used, reason = "what fails in a fixture ends the test")]

use crate::mounted::{Mounted, Volume, text};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// Runs each argument and prints, one a line, the error's name, the value, or "ok" for no value.
const ACTOR: &str = r#"
import errno, fcntl, os, stat, struct, sys, time
place, uid, gid, groups = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
os.chdir(place)
os.umask(0o022)
os.setgroups([int(g) for g in groups.split(',') if g])
os.setresgid(gid, gid, gid)
os.setresuid(uid, uid, uid)
ACCESS, DEFAULT = 'system.posix_acl_access', 'system.posix_acl_default'
TAGS = {'u': 1, 'U': 2, 'g': 4, 'G': 8, 'm': 16, 'o': 32}

def acl(text):
    """'u=7 U1000=6 g=5 m=7 o=0': owner, user 1000, group, mask, others."""
    out = struct.pack('<I', 2)
    for word in text.split():
        who, perm = word.split('=')
        id = int(who[1:]) if len(who) > 1 else 0xffffffff
        out += struct.pack('<HHI', TAGS[who[0]], int(perm), id)
    return out

def shown(path, kind=ACCESS):
    value, out = os.getxattr(path, kind), []
    for at in range(4, len(value), 8):
        tag, perm, id = struct.unpack_from('<HHI', value, at)
        letter = [k for k in TAGS if TAGS[k] == tag][0]
        out.append(f'{letter}{"" if id == 0xffffffff else id}={perm}')
    return ' '.join(out)

def mode(path):
    return f'{stat.S_IMODE(os.lstat(path).st_mode):o}'

def owner(path):
    found = os.lstat(path)
    return f'{found.st_uid}:{found.st_gid}'

def make(path, perm=0o666, flags=os.O_CREAT | os.O_EXCL | os.O_WRONLY):
    os.close(os.open(path, flags, perm))

def read(path):
    with open(path, 'rb') as f: return f.read().decode()

def write(path, text='x', flags=os.O_WRONLY):
    fd = os.open(path, flags)
    try: os.write(fd, text.encode())
    finally: os.close(fd)

for line in sys.argv[5:]:
    try:
        try: value = eval(line)
        except SyntaxError: value = exec(line)
        print('ok' if value is None else value)
    except OSError as e:
        print(errno.errorcode[e.errno])
"#;

/// Somebody.
#[derive(Clone, Copy)]
pub struct Person<'a> {
    pub uid: u32,
    pub gid: u32,
    pub groups: &'a [u32],
}

pub const ROOT: Person<'static> = Person { uid: 0, gid: 0, groups: &[] };
pub const ALICE: Person<'static> = Person { uid: 1000, gid: 1000, groups: &[] };
pub const BOB: Person<'static> = Person { uid: 1001, gid: 1001, groups: &[] };

impl Person<'_> {
    /// Does these things in the mount's root directory; one answer for each.
    pub fn does(&self, mount: &Mounted, what: &[&str]) -> Vec<String> {
        let groups: Vec<String> = self.groups.iter().map(u32::to_string).collect();
        let out = Command::new("python3")
            .args(["-c", ACTOR])
            .arg(&mount.place)
            .args([self.uid.to_string(), self.gid.to_string(), groups.join(",")])
            .args(what)
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", text(&out));
        String::from_utf8(out.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    /// Does things whose answers are known.
    #[track_caller]
    pub fn finds(&self, mount: &Mounted, expected: &[(&str, &str)]) {
        let what: Vec<&str> = expected.iter().map(|pair| pair.0).collect();
        let answers = self.does(mount, &what);
        for ((what, expected), answer) in expected.iter().zip(&answers) {
            assert_eq!(answer, expected, "user {}: {what}", self.uid);
        }
        assert_eq!(answers.len(), expected.len());
    }
}

/// Whether this process may become others; says so if it may not.
pub fn may_be_anybody() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: only root can act as several users");
    }
    root
}

/// A mount that all users can reach.
pub fn open_to_all(volume: &Volume, options: &[&str]) -> Mounted {
    let reachable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(volume.dir.path(), reachable).unwrap();
    volume.mount_with(&[&["--allow-other"], options].concat())
}
