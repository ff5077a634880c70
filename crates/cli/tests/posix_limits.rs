//! Limits and the errors at them, renameat2, statfs, and listing a directory while it changes.

#![allow(clippy::unwrap_used, reason = "what fails ends the test")]

mod mounted;
mod people;

use mounted::{PATIENCE, Volume, eventually};
use people::ROOT;
use ringfs_base::{InodeId, Timestamp, VolumeName};
use ringfs_link::Timeouts;
use ringfs_meta::{FileKind, NewInode, SessionInfo};
use ringfs_testkit::ServerOptions;
use rustix::fs::{CWD, Dir, RenameFlags, renameat_with, statvfs};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs;
use std::time::Instant;

#[test]
fn names_paths_and_links_have_their_limits() {
    let volume = Volume::format(1, 1);
    let mount = volume.mount();
    ROOT.finds(
        &mount,
        &[
            ("N, D = 'n' * 255, 'd' * 255", "ok"),
            ("make(N); os.mkdir(D); os.rename(N, D + '/' + N)", "ok"),
            ("os.stat(D + '/' + N).st_size", "0"),
            ("make(N + 'x')", "ENAMETOOLONG"),
            ("os.mkdir(N + 'x')", "ENAMETOOLONG"),
            ("os.symlink('t', N + 'x')", "ENAMETOOLONG"),
            ("os.rename(D, N + 'x')", "ENAMETOOLONG"),
            ("os.link(D + '/' + N, N + 'x')", "ENAMETOOLONG"),
            ("os.stat(N + 'x')", "ENAMETOOLONG"),
            ("os.stat('/'.join([D] * 17))", "ENAMETOOLONG"),
            ("os.symlink('t' * 4095, 'long')", "ok"),
            ("len(os.readlink('long'))", "4095"),
            ("os.symlink('t' * 4096, 'longer')", "ENAMETOOLONG"),
            ("os.symlink('b', 'a'); os.symlink('a', 'b')", "ok"),
            ("open('a')", "ELOOP"),
            ("os.symlink('x', 'x'); os.stat('x/y')", "ELOOP"),
            ("os.rmdir(D)", "ENOTEMPTY"),
            ("os.link(D, 'hard')", "EPERM"),
            ("os.rename(D, '/dev/shm/x')", "EXDEV"),
            ("os.link('long', '/dev/shm/x', follow_symlinks=False)", "EXDEV"),
            ("os.mkdir('e'); os.mkdir('e/f'); os.rename('e', 'e/f/g')", "EINVAL"),
            ("os.rename('e', D)", "ENOTEMPTY"),
            ("import shutil; shutil.copy('/bin/sleep', 'sleep')", "ok"),
            ("import subprocess; child = subprocess.Popen(['./sleep', '100'])", "ok"),
            ("os.open('sleep', os.O_WRONLY)", "ETXTBSY"),
            ("child.kill(); child.wait() and None", "ok"),
            ("os.close(os.open('sleep', os.O_WRONLY))", "ok"),
        ],
    );
}

#[test]
fn renameat2_in_all_its_forms() {
    let volume = Volume::format(1, 1);
    let mount = volume.mount();
    let p = |name: &str| mount.path(name);
    let rename = |from: &str, to: &str, how| renameat_with(CWD, p(from), CWD, p(to), how);
    fs::create_dir_all(p("d/below")).unwrap();
    fs::create_dir(p("e")).unwrap();
    fs::write(p("f"), "file").unwrap();
    fs::write(p("e/g"), "other").unwrap();
    let (no_replace, exchange) = (RenameFlags::NOREPLACE, RenameFlags::EXCHANGE);
    assert_eq!(rename("f", "d", no_replace), Err(Errno::EXIST));
    assert_eq!(rename("none", "new", no_replace), Err(Errno::NOENT));
    assert_eq!(rename("f", "new", no_replace), Ok(()));
    assert_eq!(rename("new", "f", no_replace), Ok(()));
    assert_eq!(rename("f", "none", exchange), Err(Errno::NOENT));
    // A directory with a file, also across directories, and a directory that is not empty.
    assert_eq!(rename("d", "e/g", exchange), Ok(()));
    assert_eq!(fs::read(p("d")).unwrap(), b"other");
    assert!(p("e/g/below").is_dir());
    assert_eq!(rename("e/g", "f", exchange), Ok(()));
    assert_eq!(fs::read(p("e/g")).unwrap(), b"file");
    assert!(p("f/below").is_dir());
    assert_eq!(rename("f", "f/below", exchange), Err(Errno::INVAL));
    assert_eq!(rename("f/below", "f", exchange), Err(Errno::INVAL));
    assert_eq!(rename("e/g", "d", exchange), Ok(()));
    assert_eq!(rename("d", "w", RenameFlags::WHITEOUT), Err(Errno::INVAL));
    assert_eq!(rename("d", "e", no_replace | exchange), Err(Errno::INVAL));
    assert_eq!(fs::metadata(p("")).unwrap().nlink_of_directory(), 4);
    drop(mount);
    volume.assert_fsck_clean();
}

trait Links {
    fn nlink_of_directory(&self) -> u64;
}

impl Links for fs::Metadata {
    fn nlink_of_directory(&self) -> u64 {
        std::os::unix::fs::MetadataExt::nlink(self)
    }
}

#[test]
fn statfs_tells_the_volumes_limits() {
    let limits = ["--max-bytes", "1GiB", "--max-inodes", "1000"];
    let volume = Volume::format_with(ServerOptions::default(), 1, 1, &limits);
    let mount = volume.mount();
    let stat = || statvfs(mount.path("")).unwrap();
    let empty = stat();
    assert_eq!((empty.f_frsize * empty.f_blocks, empty.f_files), (1 << 30, 1000));
    assert_eq!((empty.f_bfree, empty.f_bavail), (empty.f_blocks, empty.f_blocks));
    assert_eq!((empty.f_ffree, empty.f_namemax), (999, 255));
    fs::write(mount.path("f"), vec![1; 4 << 20]).unwrap();
    let now = stat();
    assert_eq!((now.f_blocks, now.f_ffree), (empty.f_blocks, 998));
    assert_eq!((empty.f_bfree - now.f_bfree) * now.f_frsize, 4 << 20);
}

#[test]
fn statfs_tells_the_memory_of_the_nodes() {
    const NODE_BYTES: u64 = 64 << 20;
    let options = ServerOptions { maxmemory: Some(NODE_BYTES), ..ServerOptions::default() };
    let volume = Volume::format_with(options, 2, 2, &[]);
    let mount = volume.mount();
    let stat = || statvfs(mount.path("")).unwrap();
    eventually("the first look at the nodes", || {
        let found = stat();
        found.f_frsize * found.f_blocks == NODE_BYTES
    });
    let empty = stat();
    assert!(empty.f_bfree < empty.f_blocks, "a server uses some of its memory itself");
    assert!(empty.f_ffree > 1 << 30, "nothing bounds the inodes");
    fs::write(mount.path("f"), mounted::noise(1, 4 << 20)).unwrap();
    let used = (empty.f_bfree - stat().f_bfree) * empty.f_frsize;
    assert!(used >= 4 << 20, "{used} bytes");
}

/// Names in the large directory; `scripts/soak` takes a million.
fn large_directory() -> usize {
    std::env::var("RINGFS_NAMES").map_or(20_000, |names| names.parse().unwrap())
}

/// Growth of the mount's memory by a listing, however long it is.
const LISTING_BYTES_MAX: u64 = 24 << 20;

#[test]
fn a_large_directory_is_listed_in_bounded_memory() {
    const THREADS: usize = 4;
    let names = large_directory();
    let volume = Volume::format(1, 1);
    let began = Instant::now();
    fill(&volume, names, THREADS);
    println!("{names} names made by {THREADS} threads in {:.1?}", began.elapsed());
    let mount = volume.mount();
    let before = mount.resident_bytes();
    let began = Instant::now();
    let mut seen = vec![false; names];
    let mut listing = Dir::new(fs::File::open(mount.path("")).unwrap()).unwrap();
    while let Some(entry) = listing.read() {
        let entry = entry.unwrap();
        let Some(number) = entry.file_name().to_str().unwrap().strip_prefix("name") else {
            continue;
        };
        assert!(!std::mem::replace(&mut seen[number.parse::<usize>().unwrap()], true));
    }
    assert!(seen.iter().all(|seen| *seen));
    let grown = mount.resident_bytes().saturating_sub(before);
    println!("listed in {:.1?}, the mount grew by {} KiB", began.elapsed(), grown >> 10);
    assert!(grown < LISTING_BYTES_MAX, "{grown} bytes");
}

/// Names in the root directory, by sessions of their own.
fn fill(volume: &Volume, names: usize, threads: usize) {
    let (server, name) = (volume.meta.endpoint(), VolumeName::new("demo").unwrap());
    let timeouts = Timeouts { connect: PATIENCE, reply: PATIENCE };
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (server, name) = (&server, &name);
            scope.spawn(move || {
                let volume = ringfs_meta::Volume::open(server, timeouts, name).unwrap();
                let session = volume.start_session(&SessionInfo::default()).unwrap();
                let new = NewInode {
                    kind: FileKind::File,
                    perm: 0o644,
                    umask: 0,
                    uid: 0,
                    gid: 0,
                    rdev: 0,
                    target: b"",
                };
                for i in (thread..names).step_by(threads) {
                    let name = format!("name{i}");
                    session.create(InodeId::ROOT, name.as_bytes(), &new, Timestamp(1)).unwrap();
                }
                session.end().unwrap();
            });
        }
    });
}

/// Names that exist throughout come exactly once; the others at most once.
#[test]
fn a_listing_stays_right_while_the_directory_changes() {
    const STAYING: usize = 3000;
    let volume = Volume::format(1, 1);
    let mount = volume.mount();
    let dir = mount.path("d");
    fs::create_dir(&dir).unwrap();
    for i in 0..STAYING {
        fs::write(dir.join(format!("staying{i}")), "").unwrap();
    }
    // The C library's buffer holds some 900 names; the directory doubles meanwhile, so that most of
    // its buckets are split.
    let mut listing = Dir::new(fs::File::open(&dir).unwrap()).unwrap();
    let mut seen: HashMap<String, u32> = HashMap::new();
    let (mut made, mut places) = (0, Vec::new());
    while let Some(entry) = listing.read() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_str().unwrap().to_owned();
        places.push((name.clone(), entry.offset()));
        *seen.entry(name).or_default() += 1;
        for _ in 0..2 {
            fs::write(dir.join(format!("new{made}")), "").unwrap();
            if made % 3 == 0 {
                fs::remove_file(dir.join(format!("new{}", made / 2))).unwrap_or_default();
            }
            made += 1;
            if made > 2 * STAYING {
                break;
            }
        }
    }
    for i in 0..STAYING {
        assert_eq!(seen.get(&format!("staying{i}")), Some(&1));
    }
    assert!(seen.values().all(|times| *times == 1));
    // What a place named goes on there, whatever came and went since.
    for at in [10, 1500, places.len() - 10] {
        let mut rest = Dir::new(fs::File::open(&dir).unwrap()).unwrap();
        rest.seek(places[at].1).unwrap();
        let mut found: Vec<String> = Vec::new();
        while let Some(entry) = rest.read() {
            found.push(entry.unwrap().file_name().to_str().unwrap().to_owned());
        }
        let staying = |name: &&String| name.starts_with("staying");
        let expected = places[at + 1..].iter().map(|place| &place.0).filter(staying);
        assert!(found.iter().filter(staying).eq(expected), "from place {at}");
    }
}
