//! Programs on the mounts: writers that know what they wrote, readers on other mounts that compare.

use super::choices::Choices;
use super::cluster::Cluster;
use super::ledger::{Doubt, File, Slots};
use super::plan::Kind;
use super::story::Story;
use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::{Duration, Instant};

/// Writers on each mount.
const WRITERS: usize = 3;
/// Files of each writer.
const FILES: usize = 10;
/// Longest a file gets.
const FILE_BYTES_MAX: usize = 3 << 20;
/// A writer rests so long after each operation, in milliseconds: the machine shall not be what is
/// measured.
const REST: std::ops::Range<usize> = 0..30;
/// After one part of a file in so many it rests, too, with the file open.
const RESTS_MIDWAY: usize = 8;
/// For so many milliseconds.
const REST_MIDWAY: std::ops::Range<usize> = 0..700;
/// How long ago memory may have been lacking when an operation is refused for it: what is buffered
/// is sent later.
const SPACE_MEMORY: Duration = Duration::from_secs(20);
/// Another mount may know a name otherwise for so long (`--ttl` of the mounts, and some more).
pub const NAMES_TTL: Duration = Duration::from_secs(5);
/// An operation that takes longer hangs.
const HANGS_AFTER: Duration = Duration::from_secs(90);
const POLL_PAUSE: Duration = Duration::from_millis(10);

struct Writer {
    mount: usize,
    directory: String,
    slots: Slots,
    /// What it does now, and since when.
    now: Mutex<Option<(Instant, String)>>,
}

/// The workload of a run.
pub struct Workload<'a> {
    cluster: &'a Cluster,
    story: &'a Story,
    seed: u64,
    writers: Vec<Writer>,
    /// One for each mount; a reader's operation and since when.
    readers: Vec<Mutex<Option<(Instant, String)>>>,
    pause: AtomicBool,
    end: AtomicBool,
    at_rest: AtomicUsize,
}

/// Why an operation did not do what it was to do.
enum Trouble {
    /// The mount was killed, or memory was lacking as it was meant to.
    Excused,
    /// Told already.
    Failure,
}

impl<'a> Workload<'a> {
    /// For this cluster. Makes the writers' directories.
    pub fn new(cluster: &'a Cluster, story: &'a Story, seed: u64) -> Workload<'a> {
        let mut writers = Vec::new();
        for mount in 0..cluster.shape.mounts {
            for number in 0..WRITERS {
                let directory = format!("w{mount}-{number}");
                let (place, _) = cluster.clients[mount].place(|| false).expect("it is mounted");
                std::fs::create_dir(place.join(&directory)).expect("a directory");
                let slots = (0..FILES).map(|_| RwLock::new(File::none())).collect();
                writers.push(Writer { mount, directory, slots, now: Mutex::default() });
            }
        }
        let readers = (0..cluster.shape.mounts).map(|_| Mutex::default()).collect();
        Workload {
            cluster,
            story,
            seed,
            writers,
            readers,
            pause: AtomicBool::new(false),
            end: AtomicBool::new(false),
            at_rest: AtomicUsize::new(0),
        }
    }

    /// Starts everybody in `scope`.
    pub fn start<'scope>(&'scope self, scope: &'scope std::thread::Scope<'scope, '_>) {
        for (number, writer) in self.writers.iter().enumerate() {
            scope.spawn(move || self.write_on(number as u64, writer));
        }
        for mount in 0..self.readers.len() {
            scope.spawn(move || self.read_on(mount));
        }
        scope.spawn(move || self.watch_machine());
    }

    /// Everybody ends what they are at, and rests. False if somebody hangs.
    pub fn rest(&self) -> bool {
        self.pause.store(true, Ordering::SeqCst);
        let all = self.writers.len() + self.readers.len();
        while self.at_rest.load(Ordering::SeqCst) < all {
            if let Some(what) = self.hanging() {
                self.story.fail(format!("{what} hangs"));
                return false;
            }
            std::thread::sleep(POLL_PAUSE);
        }
        true
    }

    /// Everybody goes on.
    pub fn go_on(&self) {
        self.pause.store(false, Ordering::SeqCst);
    }

    /// Everybody ends.
    pub fn end(&self) {
        self.end.store(true, Ordering::SeqCst);
    }

    /// An operation that takes too long.
    pub fn hanging(&self) -> Option<String> {
        let all = self.writers.iter().map(|writer| &writer.now).chain(&self.readers);
        all.filter_map(|now| super::cluster::lock(now).clone())
            .find(|(since, _)| since.elapsed() > HANGS_AFTER)
            .map(|(_, what)| what)
    }

    /// Whether it was told to end, or has failed.
    pub fn is_over(&self) -> bool {
        self.over()
    }

    fn over(&self) -> bool {
        self.end.load(Ordering::SeqCst) || self.story.has_failed()
    }

    /// Waits while there is a pause; false at the end.
    fn may_go_on(&self) -> bool {
        if self.pause.load(Ordering::SeqCst) {
            self.at_rest.fetch_add(1, Ordering::SeqCst);
            while self.pause.load(Ordering::SeqCst) && !self.over() {
                std::thread::sleep(POLL_PAUSE);
            }
            if self.over() {
                // Still at rest, for who waits for it.
                return false;
            }
            self.at_rest.fetch_sub(1, Ordering::SeqCst);
        }
        if self.over() {
            self.at_rest.fetch_add(1, Ordering::SeqCst);
            return false;
        }
        true
    }

    fn write_on(&self, number: u64, writer: &Writer) {
        let mut choices = Choices::derive(self.seed, 100 + number);
        while self.may_go_on() {
            let Some((place, life)) = self.cluster.clients[writer.mount].place(|| self.over())
            else {
                continue;
            };
            let hand = Hand { load: self, writer, place: place.join(&writer.directory), life };
            hand.act(&mut choices);
            std::thread::sleep(choices.millis(REST));
        }
    }

    fn read_on(&self, mount: usize) {
        let mut choices = Choices::derive(self.seed, 1_000 + mount as u64);
        let others: Vec<&Writer> =
            self.writers.iter().filter(|w| w.mount != mount || self.readers.len() == 1).collect();
        while self.may_go_on() {
            let writer = others[choices.below(others.len())];
            let slot = choices.below(FILES);
            // Who writes it goes first.
            if let Ok(file) = writer.slots[slot].try_read() {
                self.verify(mount, writer, slot, &file, &self.readers[mount]);
            }
            std::thread::sleep(choices.millis(REST));
        }
    }

    /// Compares all files on all mounts; everybody must be at rest.
    pub fn verify_all(&self) {
        std::thread::scope(|scope| {
            for mount in 0..self.readers.len() {
                scope.spawn(move || {
                    for writer in &self.writers {
                        for (slot, file) in writer.slots.iter().enumerate() {
                            let file = file.read().unwrap_or_else(|e| e.into_inner());
                            self.verify(mount, writer, slot, &file, &self.readers[mount]);
                        }
                    }
                });
            }
        });
    }

    /// Reads a file on a mount and compares. What is renamed or removed may be known otherwise there
    /// for a while, so then it is looked at again.
    fn verify(
        &self,
        mount: usize,
        writer: &Writer,
        slot: usize,
        file: &File,
        now: &Mutex<Option<(Instant, String)>>,
    ) {
        let client = &self.cluster.clients[mount];
        loop {
            let Some((place, life)) = client.place(|| self.over()) else { return };
            let path = place.join(&writer.directory).join(name(slot));
            let lenient = file.may_be_known_otherwise(NAMES_TTL);
            let what = || format!("read of {}/{} on mount {mount}", writer.directory, name(slot));
            let found = self.timed(now, what, || read_anew(&path));
            if !client.is_life(life) {
                continue;
            }
            let wrong = match found {
                Ok(found) => {
                    let bytes = found.as_ref().map_or(0, Vec::len) as u64;
                    self.story.count(|counts| {
                        counts.bytes_read += bytes;
                        counts.files_verified += 1;
                    });
                    file.compare(found.as_deref()).err()
                }
                // The old name's file may just have been removed.
                Err(e) if lenient && e.raw_os_error() == Some(libc::ESTALE) => continue,
                Err(_) if self.story.metadata_was_away() => continue,
                Err(e) => return self.story.fail(format!("{}: {e}", what())),
            };
            match wrong {
                None => return,
                Some(_) if lenient => std::thread::sleep(POLL_PAUSE),
                Some(wrong) => {
                    return self.story.fail(format!(
                        "{}: {wrong}; last done to it: {}",
                        what(),
                        file.last
                    ));
                }
            }
            if self.over() {
                return;
            }
        }
    }

    /// Does something and notes how long it took.
    fn timed<T>(
        &self,
        now: &Mutex<Option<(Instant, String)>>,
        what: impl Fn() -> String,
        operation: impl FnOnce() -> T,
    ) -> T {
        let begin = Instant::now();
        *super::cluster::lock(now) = Some((begin, what()));
        let result = operation();
        *super::cluster::lock(now) = None;
        self.story.operation(begin, what);
        result
    }

    /// How late a thread is that needs no RingFS.
    fn watch_machine(&self) {
        let directory = Path::new("/dev/shm");
        let file = match directory.is_dir() {
            true => tempfile::tempfile_in(directory),
            false => tempfile::tempfile(),
        };
        let mut file = file.expect("a temporary file");
        let mut buffer = vec![7; 16 << 10];
        while !self.over() {
            let begin = Instant::now();
            std::thread::sleep(Duration::from_millis(2));
            file.seek(SeekFrom::Start(0)).expect("seek");
            file.write_all(&buffer).expect("write");
            file.seek(SeekFrom::Start(0)).expect("seek");
            file.read_exact(&mut buffer).expect("read");
            self.story.control(begin);
        }
    }
}

fn name(slot: usize) -> String {
    format!("f{slot}")
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// The same, not from the kernel's memory.
fn read_anew(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match std::fs::File::open(path) {
        Ok(mut file) => {
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(Some(bytes))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// One operation of a writer, in one life of its mount.
struct Hand<'a> {
    load: &'a Workload<'a>,
    writer: &'a Writer,
    place: PathBuf,
    life: u64,
}

impl Hand<'_> {
    fn path(&self, slot: usize) -> PathBuf {
        self.place.join(name(slot))
    }

    fn act(&self, choices: &mut Choices) {
        let slot = choices.below(FILES);
        match choices.below(12) {
            0 => self.unlink(slot),
            1 | 2 => self.rename(slot, choices.below(FILES)),
            3 | 4 => self.append(slot, choices),
            5..=7 => self.overwrite(slot, choices),
            8 => self.read_own(slot),
            _ => self.create(slot, choices),
        }
    }

    /// Runs one system call on a file.
    fn call<T>(
        &self,
        what: &str,
        slot: usize,
        call: impl FnOnce() -> io::Result<T>,
    ) -> Result<T, Trouble> {
        let named = || format!("{what} of {}/{}", self.writer.directory, name(slot));
        let begin = Instant::now();
        let result = self.load.timed(&self.writer.now, named, call);
        if !self.load.cluster.clients[self.writer.mount].is_life(self.life) {
            self.load.story.count(|counts| counts.unknown += 1);
            return Err(Trouble::Excused);
        }
        result.map_err(|error| {
            let story = self.load.story;
            let full = error.raw_os_error() == Some(libc::ENOSPC);
            if full && story.is_on(Kind::Full, SPACE_MEMORY) {
                story.count(|counts| counts.out_of_space += 1);
                return Trouble::Excused;
            }
            if story.metadata_was_away() {
                story.count(|counts| counts.unknown += 1);
                return Trouble::Excused;
            }
            story.fail(format!("{} after {:?}: {error}", named(), begin.elapsed()));
            Trouble::Failure
        })
    }

    fn write(
        &self,
        what: &str,
        slot: usize,
        file: &mut std::fs::File,
        part: &[u8],
        choices: &mut Choices,
    ) -> Result<(), Trouble> {
        self.load.story.count(|counts| counts.bytes_written += part.len() as u64);
        self.call(what, slot, || file.write_all(part))?;
        if choices.once_in(RESTS_MIDWAY) {
            // Open and not saved: what a killed mount may lose, and what is written back by age.
            std::thread::sleep(choices.millis(REST_MIDWAY));
        }
        Ok(())
    }

    /// Concludes: what was to be is acknowledged, or what is there is found out.
    fn conclude(
        &self,
        slot: usize,
        file: &mut File,
        done: Result<(), Trouble>,
        doubt: Doubt,
        last: String,
    ) {
        match done {
            Ok(()) => {
                file.acknowledge(doubt.after, last);
            }
            Err(Trouble::Failure) => {}
            Err(Trouble::Excused) => self.find_out(slot, file, &doubt, &last),
        }
    }

    /// Reads what an operation of unknown outcome has left.
    fn find_out(&self, slot: usize, file: &mut File, doubt: &Doubt, last: &str) {
        let client = &self.load.cluster.clients[self.writer.mount];
        loop {
            let Some((place, life)) = client.place(|| self.load.over()) else { return };
            let path = place.join(&self.writer.directory).join(name(slot));
            let what = || format!("read after an unknown outcome of {}", path.display());
            // What the mount still buffers of it counts for what it is once it is saved.
            let found = self.load.timed(&self.writer.now, what, || {
                match std::fs::File::open(&path) {
                    Ok(open) => open.sync_all()?,
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(e) => return Err(e),
                }
                read(&path)
            });
            if !client.is_life(life) {
                continue;
            }
            let full = |e: &io::Error| e.raw_os_error() == Some(libc::ENOSPC);
            match found {
                Ok(found) => {
                    if let Err(wrong) = doubt.allows(found.as_deref()) {
                        let directory = &self.writer.directory;
                        self.load.story.fail(format!(
                            "{directory}/{} after {last}, which may or may not have been done: \
                             {wrong}",
                            name(slot)
                        ));
                    }
                    file.acknowledge(found, format!("{last}, with unknown outcome"));
                    file.renamed();
                    return;
                }
                Err(e) if full(&e) && self.load.story.is_on(Kind::Full, SPACE_MEMORY) => {
                    std::thread::sleep(POLL_PAUSE);
                }
                Err(_) if self.load.story.metadata_was_away() => {}
                Err(e) => return self.load.story.fail(format!("{}: {e}", what())),
            }
            if self.load.over() {
                return;
            }
        }
    }

    fn create(&self, slot: usize, choices: &mut Choices) {
        let Ok(mut file) = self.writer.slots[slot].write() else { return };
        let data = choices.contents(FILE_BYTES_MAX);
        let (synced, by_rename) = (choices.once_in(3), choices.once_in(3));
        let last = format!("creation with {} bytes, synced: {synced}", data.len());
        let doubt = Doubt { before: file.content.clone(), after: Some(data.clone()), len_min: 0 };
        let target = match by_rename {
            true => self.place.join(format!("new-{}", name(slot))),
            false => self.path(slot),
        };
        let was_there = file.content.is_some();
        let done = (|| {
            let options =
                || OpenOptions::new().write(true).create(true).truncate(true).open(&target);
            let mut open = self.call("creation", slot, options)?;
            for part in data.chunks(256 << 10) {
                self.write("write", slot, &mut open, part, choices)?;
            }
            if synced {
                self.call("fsync", slot, || open.sync_all())?;
            }
            self.call("close", slot, || close(open))?;
            if by_rename {
                self.call("rename onto", slot, || std::fs::rename(&target, self.path(slot)))?;
            }
            Ok(())
        })();
        if by_rename || !was_there {
            file.renamed();
        }
        // Written beside and renamed, it is the old file or the new one.
        if by_rename && matches!(done, Err(Trouble::Excused)) {
            return self.find_out_whole(slot, &mut file, doubt, &last);
        }
        self.conclude(slot, &mut file, done, doubt, last);
    }

    /// As [`Self::find_out`], for what happens as a whole or not at all.
    fn find_out_whole(&self, slot: usize, file: &mut File, doubt: Doubt, last: &str) {
        let (before, after) = (doubt.before.clone(), doubt.after.clone());
        self.find_out(slot, file, &doubt, last);
        // Nothing was found out at the end of the run.
        let untouched = self.load.over() && file.content == before;
        if !untouched && file.content != before && file.content != after {
            self.load.story.fail(format!(
                "{}/{} after {last}: neither the old file nor the new one",
                self.writer.directory,
                name(slot)
            ));
        }
    }

    fn overwrite(&self, slot: usize, choices: &mut Choices) {
        let Ok(mut file) = self.writer.slots[slot].write() else { return };
        let Some(before) = file.content.clone() else { return };
        let data = choices.contents(FILE_BYTES_MAX);
        let at = choices.below(before.len() + 1);
        let data = &data[..data.len().min(FILE_BYTES_MAX.saturating_sub(at))];
        let mut after = before.clone();
        after.resize(before.len().max(at + data.len()), 0);
        after[at..at + data.len()].copy_from_slice(data);
        let synced = choices.once_in(2);
        let last = format!("write of {} bytes at {at}, synced: {synced}", data.len());
        let len_min = before.len();
        let done = (|| {
            let path = self.path(slot);
            let mut open =
                self.call("open", slot, || OpenOptions::new().write(true).open(&path))?;
            self.call("seek", slot, || open.seek(SeekFrom::Start(at as u64)))?;
            for part in data.chunks(256 << 10) {
                self.write("write", slot, &mut open, part, choices)?;
            }
            if synced {
                self.call("fsync", slot, || open.sync_data())?;
            }
            self.call("close", slot, || close(open))
        })();
        let doubt = Doubt { before: Some(before), after: Some(after), len_min };
        self.conclude(slot, &mut file, done, doubt, last);
    }

    fn append(&self, slot: usize, choices: &mut Choices) {
        let Ok(mut file) = self.writer.slots[slot].write() else { return };
        let Some(before) = file.content.clone() else { return };
        let data = choices.contents(FILE_BYTES_MAX.saturating_sub(before.len()));
        let after = [&before[..], &data].concat();
        let last = format!("append of {} bytes at {}", data.len(), before.len());
        let len_min = before.len();
        let done = (|| {
            let path = self.path(slot);
            let options = || OpenOptions::new().append(true).open(&path);
            let mut open = self.call("open", slot, options)?;
            for part in data.chunks(256 << 10) {
                self.write("append", slot, &mut open, part, choices)?;
            }
            self.call("close", slot, || close(open))
        })();
        let doubt = Doubt { before: Some(before), after: Some(after), len_min };
        self.conclude(slot, &mut file, done, doubt, last);
    }

    fn unlink(&self, slot: usize) {
        let Ok(mut file) = self.writer.slots[slot].write() else { return };
        let Some(before) = file.content.clone() else { return };
        let path = self.path(slot);
        let done = self.call("unlink", slot, || std::fs::remove_file(&path));
        file.renamed();
        let doubt = Doubt { len_min: before.len(), before: Some(before), after: None };
        match done {
            Err(Trouble::Excused) => {
                self.find_out_whole(slot, &mut file, doubt, "unlink");
            }
            done => self.conclude(slot, &mut file, done, doubt, "unlink".to_owned()),
        }
    }

    fn rename(&self, from: usize, to: usize) {
        if from == to {
            return;
        }
        // Always in one order, though nobody else locks two.
        let (Ok(mut first), Ok(mut second)) =
            (self.writer.slots[from.min(to)].write(), self.writer.slots[from.max(to)].write())
        else {
            return;
        };
        let (source, target) =
            if from < to { (&mut *first, &mut *second) } else { (&mut *second, &mut *first) };
        let Some(moved) = source.content.clone() else { return };
        let (old, new) = (self.path(from), self.path(to));
        let done = self.call("rename", from, || std::fs::rename(old, new));
        source.renamed();
        target.renamed();
        let replaced = target.content.clone();
        match done {
            Ok(()) => {
                target.acknowledge(Some(moved), format!("rename from {}", name(from)));
                source.acknowledge(None, format!("rename to {}", name(to)));
            }
            Err(Trouble::Failure) => {}
            Err(Trouble::Excused) => {
                let last = format!("rename from {} to {}", name(from), name(to));
                let len_min = moved.len();
                let gone = Doubt { before: Some(moved.clone()), after: None, len_min };
                self.find_out_whole(from, source, gone, &last);
                let there =
                    Doubt { before: replaced.clone(), after: Some(moved.clone()), len_min: 0 };
                self.find_out_whole(to, target, there, &last);
                let undone = source.content.as_ref() == Some(&moved) && target.content == replaced;
                let whole = source.content.is_none() && target.content.as_ref() == Some(&moved);
                if !self.load.over() && !undone && !whole {
                    self.load.story.fail(format!("{last} was done by half"));
                }
            }
        }
    }

    fn read_own(&self, slot: usize) {
        let Ok(file) = self.writer.slots[slot].read() else { return };
        let path = self.path(slot);
        if let Ok(found) = self.call("read", slot, || read(&path))
            && let Err(wrong) = file.compare(found.as_deref())
        {
            let directory = &self.writer.directory;
            self.load.story.fail(format!(
                "read of {directory}/{} where it was written: {wrong}; last done: {}",
                name(slot),
                file.last
            ));
        }
    }
}

/// Closes and tells what `close` says, which dropping a file does not.
fn close(file: std::fs::File) -> io::Result<()> {
    let fd = std::os::fd::IntoRawFd::into_raw_fd(file);
    // SAFETY: the descriptor was just given up by its owner.
    match unsafe { libc::close(fd) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
