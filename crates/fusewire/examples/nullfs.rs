//! A file system that does nothing, and how fast it does it: the floor under every number
//! measured on a mount.
//!
//! ```text
//! nullfs MOUNTPOINT           serve until unmounted
//! nullfs MOUNTPOINT --bench   mount, measure, unmount
//! ```
//!
//! Names exist once created, file contents do not: reads answer zeros, writes are dropped. One
//! thread measures; CPU seconds are those of the whole process, both sides together.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    os::fd::AsRawFd,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use ringfs_fusewire::*;

const SIZE: u64 = 1 << 40;
const CHUNK: usize = 1 << 20;
static ZEROS: [u8; CHUNK] = [0; CHUNK];

struct NullFs {
    names: Mutex<HashMap<Vec<u8>, u64>>,
    next: AtomicU64,
}

fn attr(ino: u64) -> Attr {
    let (mode, size) =
        if ino == ROOT_INO { (libc::S_IFDIR | 0o755, 0) } else { (libc::S_IFREG | 0o644, SIZE) };
    Attr { ino, mode, size, nlink: 1, blksize: 4096, ..Attr::default() }
}

/// Names live as long as the benchmark; attributes are never cached, so that each stat asks.
fn entry(ino: u64) -> Entry {
    let entry_ttl = Duration::from_secs(3600);
    Entry { ino, generation: 0, attr: attr(ino), entry_ttl, attr_ttl: Duration::ZERO }
}

impl Filesystem for NullFs {
    fn hands_over(&self) -> bool {
        // Nothing here ever waits.
        true
    }

    fn lookup(&self, _: &Request<'_>, _: u64, name: &[u8]) -> FsResult<Entry> {
        self.names.lock().get(name).map(|ino| entry(*ino)).ok_or(Errno::ENOENT)
    }

    fn getattr(&self, _: &Request<'_>, ino: u64, _: Option<u64>) -> FsResult<AttrReply> {
        Ok(AttrReply { attr: attr(ino), ttl: Duration::ZERO })
    }

    fn setattr(&self, _: &Request<'_>, ino: u64, _: &SetAttr) -> FsResult<AttrReply> {
        Ok(AttrReply { attr: attr(ino), ttl: Duration::ZERO })
    }

    fn create(
        &self,
        _: &Request<'_>,
        _: u64,
        name: &[u8],
        _: u32,
        _: u32,
        _: OpenHow,
    ) -> FsResult<(Entry, Opened)> {
        let ino = self.next.fetch_add(1, Ordering::Relaxed);
        self.names.lock().insert(name.to_vec(), ino);
        Ok((entry(ino), Opened { fh: ino, flags: OpenFlags::NOFLUSH }))
    }

    fn unlink(&self, _: &Request<'_>, _: u64, name: &[u8]) -> FsResult<()> {
        self.names.lock().remove(name).map(|_| ()).ok_or(Errno::ENOENT)
    }

    fn open(&self, _: &Request<'_>, ino: u64, _: OpenHow) -> FsResult<Opened> {
        Ok(Opened { fh: ino, flags: OpenFlags::NOFLUSH })
    }

    fn read(&self, _: &Request<'_>, _: u64, at: ReadAt) -> FsResult<Data> {
        Ok(Bytes::from_static(&ZEROS[..CHUNK.min(at.size as usize)]).into())
    }

    fn write(&self, _: &Request<'_>, _: u64, at: WriteAt<'_>) -> FsResult<u32> {
        Ok(at.data.len() as u32)
    }

    fn release(&self, _: &Request<'_>, _: u64, _: Release) -> FsResult<()> {
        Ok(())
    }
}

/// User and system time of this process so far.
fn cpu() -> Duration {
    // SAFETY: getrusage fills the struct it is given.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    time(usage.ru_utime) + time(usage.ru_stime)
}

fn measure(
    what: &str,
    count: u32,
    bytes: usize,
    mut step: impl FnMut(u32) -> io::Result<()>,
) -> io::Result<()> {
    let (start, start_cpu) = (Instant::now(), cpu());
    for index in 0..count {
        step(index)?;
    }
    let (wall, cpu) = (start.elapsed(), cpu() - start_cpu);
    let each = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(count);
    let rate = f64::from(count) / wall.as_secs_f64();
    print!("{what:<24} {rate:>9.0}/s  {:>7.1} us wall  {:>7.1} us cpu", each(wall), each(cpu));
    if bytes > 0 {
        print!("  {:>6.2} GB/s", rate * bytes as f64 / 1e9);
    }
    println!();
    Ok(())
}

fn bench(root: &Path) -> io::Result<()> {
    let path = |index: u32| root.join(format!("file{index}"));
    measure("create+close", 20_000, 0, |i| File::create_new(path(i)).map(drop))?;
    measure("getattr", 100_000, 0, |_| fs::metadata(path(0)).map(drop))?;
    measure("open+close", 20_000, 0, |i| File::open(path(i)).map(drop))?;
    let direct = |read: bool| {
        let mut options = File::options();
        options.read(read).write(!read).custom_flags(libc::O_DIRECT).open(path(0))
    };
    let mut buffer = vec![1; CHUNK];
    let file = direct(false)?;
    measure("write 4 KiB direct", 50_000, 4096, |i| {
        file.write_all_at(&buffer[..4096], u64::from(i) * 4096)
    })?;
    measure("write 1 MiB direct", 4_000, CHUNK, |i| {
        file.write_all_at(&buffer, u64::from(i) * CHUNK as u64)
    })?;
    let file = direct(true)?;
    measure("read 4 KiB direct", 50_000, 4096, |i| {
        file.read_exact_at(&mut buffer[..4096], u64::from(i) * 4096)
    })?;
    measure("read 1 MiB direct", 4_000, CHUNK, |i| {
        file.read_exact_at(&mut buffer, u64::from(i) * CHUNK as u64)
    })?;
    // Through the page cache, as most programs write and read.
    let file = File::options().read(true).write(true).open(path(1))?;
    measure("write 1 MiB buffered", 512, CHUNK, |i| {
        file.write_all_at(&buffer, u64::from(i) * CHUNK as u64)
    })?;
    // SAFETY: the call takes a descriptor and numbers; it only drops clean pages.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    measure("read 1 MiB buffered", 512, CHUNK, |i| {
        file.read_exact_at(&mut buffer, u64::from(i) * CHUNK as u64)
    })?;
    measure("unlink", 20_000, 0, |i| fs::remove_file(path(i)))
}

fn run(mountpoint: &Path, benchmark: bool) -> io::Result<()> {
    let options = MountOptions {
        fsname: "nullfs".into(),
        subtype: "nullfs".into(),
        ..MountOptions::default()
    };
    let fs = NullFs { names: Mutex::default(), next: AtomicU64::new(2) };
    let session = Session::new(fs, Mount::new(mountpoint, &options)?, &options);
    if !benchmark {
        return session.run();
    }
    let running = session.spawn()?;
    let measured = bench(mountpoint);
    running.stop()?;
    measured
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (mountpoint, benchmark) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..]
    {
        [mountpoint] => (mountpoint, false),
        [mountpoint, "--bench"] => (mountpoint, true),
        _ => {
            eprintln!("usage: nullfs MOUNTPOINT [--bench]");
            return ExitCode::from(2);
        }
    };
    match run(Path::new(mountpoint), benchmark) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nullfs: {error}");
            ExitCode::FAILURE
        }
    }
}
