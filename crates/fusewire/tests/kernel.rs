//! The crate against the running kernel: an in-memory file system, used through ordinary
//! system calls. Needs /dev/fuse and the right to mount.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod memfs;

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read, Seek, SeekFrom, Write},
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink},
    },
    sync::atomic::Ordering,
};

use memfs::Mounted;
use ringfs_fusewire::{MountOptions, ROOT_INO};

fn load(counter: &std::sync::atomic::AtomicU64) -> u64 {
    counter.load(Ordering::SeqCst)
}

#[test]
fn files_directories_links_and_attributes() {
    let m = Mounted::new();
    fs::write(m.path("a"), b"hello").unwrap();
    assert_eq!(fs::read(m.path("a")).unwrap(), b"hello");
    let meta = fs::metadata(m.path("a")).unwrap();
    assert_eq!((meta.len(), meta.mtime(), meta.mtime_nsec()), (5, -5, 123_456_789));

    fs::create_dir(m.path("d")).unwrap();
    fs::rename(m.path("a"), m.path("d/b")).unwrap();
    assert_eq!(fs::metadata(m.path("a")).unwrap_err().kind(), ErrorKind::NotFound);
    fs::hard_link(m.path("d/b"), m.path("c")).unwrap();
    assert_eq!(fs::metadata(m.path("c")).unwrap().nlink(), 2);
    symlink("d/b", m.path("s")).unwrap();
    assert_eq!(fs::read_link(m.path("s")).unwrap().to_str(), Some("d/b"));
    assert_eq!(fs::read(m.path("s")).unwrap(), b"hello");

    fs::set_permissions(m.path("c"), fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(fs::metadata(m.path("d/b")).unwrap().mode() & 0o7777, 0o640);
    assert_eq!(fs::remove_dir(m.path("d")).unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
    fs::remove_file(m.path("d/b")).unwrap();
    fs::remove_dir(m.path("d")).unwrap();
    let nowhere = rustix::fs::renameat_with(
        rustix::fs::CWD,
        m.path("c"),
        rustix::fs::CWD,
        m.path("s"),
        rustix::fs::RenameFlags::NOREPLACE,
    );
    assert_eq!(nowhere, Err(rustix::io::Errno::EXIST));
    m.stop().unwrap();
}

#[test]
fn a_listing_longer_than_one_reply_is_complete_and_fills_the_attribute_cache() {
    let m = Mounted::new();
    for index in 0..500 {
        File::create(m.path(&format!("file-with-a-longer-name-{index:04}"))).unwrap();
    }
    // Drop what create has put into the name cache.
    let notifier = m.session().notifier();
    for index in 0..500 {
        let name = format!("file-with-a-longer-name-{index:04}");
        assert!(notifier.inval_entry(ROOT_INO, name.as_bytes()).unwrap());
    }
    let lookups = load(&m.counters.lookups);
    let mut names: Vec<_> =
        fs::read_dir(m.root()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 500);
    assert!(load(&m.counters.readdirplus) > 1);
    for name in &names {
        assert!(fs::metadata(m.root().join(name)).unwrap().is_file());
    }
    assert_eq!(load(&m.counters.lookups), lookups, "READDIRPLUS has answered all lookups");
    m.stop().unwrap();
}

#[test]
fn large_direct_reads_and_writes_travel_in_one_request() {
    let m = Mounted::new();
    let data: Vec<u8> = (0..3_000_000u32).map(|i| ((i * 7) >> 3) as u8).collect();
    let mut direct = File::options();
    direct.read(true).write(true).create(true).custom_flags(libc::O_DIRECT);
    let mut f = direct.open(m.path("big")).unwrap();
    f.write_all(&data).unwrap();
    assert_eq!(load(&m.counters.largest_write), 1 << 20);
    let mut back = vec![0; data.len()];
    f.read_exact_at(&mut back, 0).unwrap();
    assert!(back == data);
    assert_eq!(load(&m.counters.largest_read), 1 << 20);
    // Unaligned, across slices, past the end.
    let mut part = vec![0; 123_457];
    f.read_exact_at(&mut part, 9_999).unwrap();
    assert!(part == data[9_999..9_999 + 123_457]);
    assert_eq!(f.read_at(&mut part, 2_999_990).unwrap(), 10);
    // Through the page cache.
    assert!(fs::read(m.path("big")).unwrap() == data);

    f.set_len(10).unwrap();
    assert_eq!(f.metadata().unwrap().len(), 10);
    assert_eq!(fs::read(m.path("big")).unwrap(), &data[..10]);
    File::create(m.path("big")).unwrap();
    assert_eq!(fs::metadata(m.path("big")).unwrap().len(), 0);
    drop(f);
    m.stop().unwrap();
}

#[test]
fn the_notifier_makes_the_kernel_ask_again() {
    let m = Mounted::new();
    fs::write(m.path("f"), b"old content").unwrap();
    let ino = fs::metadata(m.path("f")).unwrap().ino();
    assert_eq!(fs::read(m.path("f")).unwrap(), b"old content");
    let (session, notifier) = (m.session(), m.session().notifier());

    // A read makes the kernel doubt the access time, hence one more question.
    assert_eq!(fs::metadata(m.path("f")).unwrap().len(), 11);
    session.filesystem().overwrite(ino, b"new");
    let getattrs = load(&m.counters.getattrs);
    assert_eq!(fs::metadata(m.path("f")).unwrap().len(), 11, "cached for an hour");
    assert_eq!(load(&m.counters.getattrs), getattrs);
    assert!(notifier.inval_inode(ino, 0, 0).unwrap());
    assert_eq!(fs::metadata(m.path("f")).unwrap().len(), 3);
    assert_eq!(fs::read(m.path("f")).unwrap(), b"new");

    session.filesystem().vanish(ROOT_INO, b"f");
    assert!(m.path("f").exists(), "cached for an hour");
    assert!(notifier.inval_entry(ROOT_INO, b"f").unwrap());
    assert!(!m.path("f").exists());

    fs::write(m.path("g"), b"x").unwrap();
    let child = fs::metadata(m.path("g")).unwrap().ino();
    session.filesystem().vanish(ROOT_INO, b"g");
    assert!(notifier.delete(ROOT_INO, child, b"g").unwrap());
    assert!(!m.path("g").exists());

    assert!(!notifier.inval_inode(987_654, 0, 0).unwrap(), "unknown inode");
    assert!(!notifier.inval_entry(987_654, b"x").unwrap(), "unknown parent");
    m.stop().unwrap();
    assert!(!notifier.inval_inode(ROOT_INO, 0, 0).unwrap(), "session over");
}

#[test]
fn the_notifier_can_fill_the_page_cache() {
    let m = Mounted::new();
    fs::write(m.path("f"), vec![b'a'; 4096]).unwrap();
    let f = File::open(m.path("f")).unwrap();
    let ino = f.metadata().unwrap().ino();
    let notifier = m.session().notifier();
    assert!(notifier.inval_inode(ino, 0, 0).unwrap());
    assert!(notifier.store(ino, 0, &[b'b'; 4096]).unwrap());
    let mut bytes = [0; 4096];
    f.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes, [b'b'; 4096]);
    drop(f);
    m.stop().unwrap();
}

/// The probe with an empty buffer, which rustix does not pass on as such.
fn size_of_xattr(path: &std::path::Path, name: &std::ffi::CStr) -> isize {
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: two C strings, and no buffer as the size says.
    unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), std::ptr::null_mut(), 0) }
}

#[test]
fn extended_attributes_are_probed_for_size_and_range() {
    let m = Mounted::new();
    File::create(m.path("f")).unwrap();
    let (path, value) = (m.path("f"), vec![7u8; 60_000]);
    rustix::fs::setxattr(&path, "user.big", &value, rustix::fs::XattrFlags::empty()).unwrap();
    assert_eq!(size_of_xattr(&path, c"user.big"), 60_000);
    let mut small = [0; 100];
    assert_eq!(rustix::fs::getxattr(&path, "user.big", &mut small), Err(rustix::io::Errno::RANGE));
    let mut whole = vec![0; 60_000];
    assert_eq!(rustix::fs::getxattr(&path, "user.big", &mut whole).unwrap(), 60_000);
    assert_eq!(whole, value);
    let mut names = [0; 64];
    let len = rustix::fs::listxattr(&path, &mut names).unwrap();
    assert_eq!(&names[..len], b"user.big\0");
    rustix::fs::removexattr(&path, "user.big").unwrap();
    assert_eq!(rustix::fs::getxattr(&path, "user.big", &mut small), Err(rustix::io::Errno::NODATA));
    m.stop().unwrap();
}

#[test]
fn statfs_statx_tmpfile_lseek_fallocate_and_copy_file_range() {
    let m = Mounted::new();
    let stat = rustix::fs::statvfs(m.root()).unwrap();
    assert_eq!((stat.f_blocks, stat.f_bavail, stat.f_ffree), (1000, 500, 60));
    assert_eq!((stat.f_frsize, stat.f_namemax), (4096, 255));

    fs::write(m.path("f"), b"0123456789").unwrap();
    let created = fs::metadata(m.path("f")).unwrap().created();
    if m.session().handshake().unwrap().kernel_minor() >= 39 {
        let since = created.unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
        assert_eq!((since.as_secs(), since.subsec_nanos()), (1_000_000, 7));
    }
    let mut f = File::options().read(true).write(true).open(m.path("f")).unwrap();
    assert_eq!(rustix::fs::seek(&f, rustix::fs::SeekFrom::Hole(2)).unwrap(), 5);
    rustix::fs::fallocate(&f, rustix::fs::FallocateFlags::empty(), 0, 100).unwrap();
    assert_eq!(f.metadata().unwrap().len(), 100);

    let target = File::create(m.path("g")).unwrap();
    let (mut from, mut to) = (2, 1);
    let copied =
        rustix::fs::copy_file_range(&f, Some(&mut from), &target, Some(&mut to), 5).unwrap();
    assert_eq!(copied, 5);
    assert_eq!(fs::read(m.path("g")).unwrap(), b"\x0023456");

    if m.session().handshake().unwrap().kernel_minor() >= 37 {
        let mut unnamed = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_TMPFILE)
            .open(m.root())
            .unwrap();
        unnamed.write_all(b"nameless").unwrap();
        unnamed.seek(SeekFrom::Start(4)).unwrap();
        let mut text = String::new();
        unnamed.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), unnamed.metadata().unwrap().nlink()), ("less", 0));
    }
    f.sync_all().unwrap();
    f.write_all(b"x").unwrap();
    drop((f, target));
    m.stop().unwrap();
}

#[test]
fn a_panic_answers_eio_and_the_mount_goes_on() {
    let m = Mounted::new();
    let error = File::create(m.path("panic")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    fs::write(m.path("next"), b"fine").unwrap();
    assert_eq!(fs::read(m.path("next")).unwrap(), b"fine");
    m.stop().unwrap();
}

#[test]
fn what_is_not_implemented_is_enosys_to_the_kernel() {
    let m = Mounted::new();
    let error = rustix::fs::mknodat(
        rustix::fs::CWD,
        m.path("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    );
    assert_eq!(error, Err(rustix::io::Errno::NOSYS));
    let f = File::create(m.path("f")).unwrap();
    // SAFETY: FS_IOC_GETFLAGS on a file that serves no ioctl writes nothing.
    let result = unsafe { libc::ioctl(f.as_raw_fd(), libc::FS_IOC_GETFLAGS, &mut 0i32) };
    assert_eq!(result, -1);
    assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::ENOTTY));
    drop(f);
    m.stop().unwrap();
}

#[test]
fn unmounting_ends_the_session_and_calls_destroy_once() {
    let m = Mounted::new();
    fs::write(m.path("f"), b"x").unwrap();
    let counters = std::sync::Arc::clone(&m.counters);
    let unmounter = m.session().unmounter();
    assert!(unmounter.is_mounted().unwrap());
    let open = File::open(m.path("f")).unwrap();
    assert_eq!(unmounter.unmount().unwrap_err().kind(), ErrorKind::ResourceBusy);
    drop(open);
    m.stop().unwrap();
    assert!(!unmounter.is_mounted().unwrap());
    unmounter.unmount().unwrap();
    assert_eq!(load(&counters.destroyed), 1);
}

#[test]
fn small_requests_and_a_single_worker_suffice() {
    let options = MountOptions { max_write: 4096, workers_max: 1, ..MountOptions::default() };
    let m = Mounted::with(&options);
    let data = vec![3u8; 100_000];
    fs::write(m.path("f"), &data).unwrap();
    assert_eq!(fs::read(m.path("f")).unwrap(), data);
    assert_eq!(load(&m.counters.largest_write), 4096);
    assert_eq!(m.session().workers().1, 1);
    m.stop().unwrap();
}

#[test]
fn read_only_mounts_refuse_writes() {
    let options = MountOptions { read_only: true, ..MountOptions::default() };
    let m = Mounted::with(&options);
    let error = File::create(m.path("f")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnlyFilesystem);
    m.stop().unwrap();
}
