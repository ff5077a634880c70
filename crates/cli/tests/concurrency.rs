//! Many mounts that change the same names at once: nothing is lost, and all see one order.

mod mounted;

use mounted::{Mounted, Volume};
use ringfs_testkit::Proxy;
use ringfs_testkit::history::{Call, Sequential, linearize};
use rustix::fs::FlockOperation;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const MOUNTS: usize = 4;

/// A small generator, so that a seed repeats a run's choices.
struct Choices(u64);

impl Choices {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// All directories below `place`, relative to it.
fn directories(place: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    let mut next = 0;
    while next < found.len() {
        let here = found[next].clone();
        next += 1;
        // Another mount may just have moved it.
        let Ok(entries) = std::fs::read_dir(place.join(&here)) else { continue };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.push(here.join(entry.file_name()));
            }
        }
    }
    found
}

#[test]
fn cross_renames_of_directories_make_no_loop_and_lose_nothing() {
    const DIRECTORIES: usize = 40;
    const RENAMES: usize = 800;
    let volume = Volume::format(1, 1);
    let mounts: Vec<Mounted> = (0..MOUNTS).map(|_| volume.mount()).collect();
    for number in 0..DIRECTORIES {
        std::fs::create_dir(mounts[0].path(&format!("d{number}"))).unwrap();
    }
    let moved = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for (who, mount) in mounts.iter().enumerate() {
            let moved = &moved;
            scope.spawn(move || {
                let mut choices = Choices(0x5eed + who as u64);
                let mut known = directories(&mount.place);
                for round in 0..RENAMES {
                    if round % 16 == 0 {
                        known = directories(&mount.place);
                    }
                    let from = &known[choices.below(known.len())];
                    let into = &known[choices.below(known.len())];
                    let Some(name) = from.file_name() else { continue };
                    let (from, to) = (mount.place.join(from), mount.place.join(into).join(name));
                    // Refused: into itself (EINVAL), gone meanwhile (ENOENT), over one that is
                    // not empty (ENOTEMPTY), onto itself.
                    match std::fs::rename(from, to) {
                        Ok(()) => moved.fetch_add(1, Ordering::Relaxed),
                        Err(e) => match e.raw_os_error() {
                            Some(libc::EINVAL | libc::ENOENT | libc::ENOTEMPTY) => 0,
                            _ => panic!("rename: {e}"),
                        },
                    };
                }
            });
        }
    });
    let moved = moved.into_inner();
    assert!(moved > 500, "only {moved} renames took effect");
    for mount in &mounts {
        mounted::eventually("all mounts show the whole tree", || {
            let mut names: Vec<_> = directories(&mount.place)
                .iter()
                .filter_map(|path| Some(path.file_name()?.to_owned()))
                .collect();
            names.sort();
            names.dedup();
            names.len() == DIRECTORIES
        });
    }
    drop(mounts);
    volume.assert_fsck_clean();
}

/// A directory whose entries are symbolic links (their targets tell who made them), and a lock.
///
/// Linux looks up both names of a rename, one after the other, and does nothing, with success, if
/// they lead to the same inode. So a rename may do nothing if another one of the same names ran at
/// the same time: the model lets it (`overlapped`).
struct Names;

/// What was done; see [`Done`] for what was seen.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Exclusive creation of a name as an id.
    Create(u8, u32),
    /// Renames, replacing.
    Rename(u8, u8),
    /// Renames unless the new name exists.
    RenameNew(u8, u8),
    /// Swaps two names.
    Exchange(u8, u8),
    Unlink(u8),
    /// Somebody asks for the one lock there is, without waiting.
    TryLock(u32),
    Unlock(u32),
}

impl Act {
    /// The names that a rename of any form looks up.
    fn renamed(self) -> Option<[u8; 2]> {
        match self {
            Act::Rename(a, b) | Act::RenameNew(a, b) | Act::Exchange(a, b) => Some([a, b]),
            _ => None,
        }
    }
}

/// The error number, if it was refused; `None` where nobody knows.
type Done = Option<Result<(), i32>>;

#[derive(Clone, Copy, Debug)]
struct Op {
    act: Act,
    done: Done,
    overlapped: bool,
}

/// Where the model keeps the holder of the lock, among the names.
const LOCK: u8 = 255;

/// What an act does to a directory, or the errors one of which refuses it.
fn effect(state: &BTreeMap<u8, u32>, act: Act) -> Result<BTreeMap<u8, u32>, Vec<i32>> {
    let mut after = state.clone();
    let has = |name: &u8| state.contains_key(name);
    match act {
        Act::Create(name, _) if has(&name) => return Err(vec![libc::EEXIST]),
        Act::Create(name, id) => {
            after.insert(name, id);
        }
        Act::RenameNew(from, to) if has(&to) => {
            // With both errors possible either may be told.
            let missing = (!has(&from)).then_some(libc::ENOENT);
            return Err([libc::EEXIST].into_iter().chain(missing).collect());
        }
        Act::Rename(from, to) | Act::RenameNew(from, to) => {
            let id = after.remove(&from).ok_or(vec![libc::ENOENT])?;
            after.insert(to, id);
        }
        Act::Exchange(a, b) => match (state.get(&a), state.get(&b)) {
            (Some(first), Some(second)) => {
                after.insert(a, *second);
                after.insert(b, *first);
            }
            _ => return Err(vec![libc::ENOENT]),
        },
        Act::Unlink(name) => {
            after.remove(&name).ok_or(vec![libc::ENOENT])?;
        }
        Act::TryLock(who) => {
            if state.get(&LOCK).is_some_and(|holder| *holder != who) {
                return Err(vec![libc::EAGAIN]);
            }
            after.insert(LOCK, who);
        }
        Act::Unlock(who) => {
            // Nothing to unlock is no error.
            if state.get(&LOCK) == Some(&who) {
                after.remove(&LOCK);
            }
        }
    }
    Ok(after)
}

impl Sequential for Names {
    type State = BTreeMap<u8, u32>;
    type Operation = Op;

    fn apply(state: &Self::State, op: &Op) -> Vec<Self::State> {
        let mut possible = Vec::new();
        match (effect(state, op.act), op.done) {
            (Ok(after), None | Some(Ok(()))) => possible.push(after),
            (Err(_), None) => possible.push(state.clone()),
            (Err(errors), Some(Err(seen))) if errors.contains(&seen) => {
                possible.push(state.clone());
            }
            _ => {}
        }
        if op.overlapped && matches!(op.done, None | Some(Ok(()))) {
            possible.push(state.clone());
        }
        possible
    }
}

fn seen(result: io::Result<()>, refusals: &[i32]) -> Done {
    match result {
        Ok(()) => Some(Ok(())),
        Err(e) => match e.raw_os_error() {
            Some(libc::EIO) => None,
            Some(code) if refusals.contains(&code) => Some(Err(code)),
            _ => panic!("an error that the operation cannot have: {e}"),
        },
    }
}

fn renameat2(from: &Path, to: &Path, flags: rustix::fs::RenameFlags) -> io::Result<()> {
    Ok(rustix::fs::renameat_with(rustix::fs::CWD, from, rustix::fs::CWD, to, flags)?)
}

fn flock(file: &File, operation: FlockOperation) -> io::Result<()> {
    Ok(rustix::fs::flock(file, operation)?)
}

fn act(directory: &Path, lock: (&File, u32), choices: &mut Choices, id: u32) -> Op {
    use rustix::fs::RenameFlags;
    let (file, who) = lock;
    let path = |name: u8| directory.join(format!("n{name}"));
    let (a, b) = (choices.below(4) as u8, choices.below(4) as u8);
    let (act, result) = match choices.below(14) {
        0..=3 => (Act::Create(a, id), std::os::unix::fs::symlink(id.to_string(), path(a))),
        4..=5 => (Act::Rename(a, b), std::fs::rename(path(a), path(b))),
        6 => (Act::RenameNew(a, b), renameat2(&path(a), &path(b), RenameFlags::NOREPLACE)),
        7 => (Act::Exchange(a, b), renameat2(&path(a), &path(b), RenameFlags::EXCHANGE)),
        8..=9 => (Act::Unlink(a), std::fs::remove_file(path(a))),
        10..=11 => (Act::TryLock(who), flock(file, FlockOperation::NonBlockingLockExclusive)),
        _ => (Act::Unlock(who), flock(file, FlockOperation::Unlock)),
    };
    let refusals: &[i32] = match act {
        Act::Create(..) => &[libc::EEXIST],
        Act::Rename(..) | Act::Exchange(..) | Act::Unlink(_) => &[libc::ENOENT],
        Act::RenameNew(..) => &[libc::EEXIST, libc::ENOENT],
        Act::TryLock(_) => &[libc::EAGAIN],
        Act::Unlock(_) => &[],
    };
    Op { act, done: seen(result, refusals), overlapped: false }
}

/// Marks the renames that ran at the same time as another one of one of their names.
fn mark_overlapping(calls: &mut [Call<Op>]) {
    let all: Vec<Call<Op>> = calls.to_vec();
    for (place, call) in calls.iter_mut().enumerate() {
        let Some(names) = call.operation.act.renamed() else { continue };
        let end = |call: &Call<Op>| call.returned.unwrap_or(u64::MAX);
        call.operation.overlapped = all.iter().enumerate().any(|(other_place, other)| {
            other_place != place
                && other.called <= end(call)
                && call.called <= end(other)
                && other
                    .operation
                    .act
                    .renamed()
                    .is_some_and(|o| o.iter().any(|n| names.contains(n)))
        });
    }
}

/// The last calls of the shortest beginning of a history that no order explains.
fn shortest_failure(calls: &[Call<Op>]) -> Vec<Call<Op>> {
    let until = |end: u64| -> Vec<Call<Op>> {
        let begun = calls.iter().filter(|call| call.called <= end);
        begun
            .map(|call| Call { returned: call.returned.filter(|at| *at <= end), ..call.clone() })
            .collect()
    };
    let mut ends: Vec<u64> = calls.iter().filter_map(|call| call.returned).collect();
    ends.sort_unstable();
    let fails = |end: &u64| linearize::<Names>(BTreeMap::new(), &until(*end)).is_err();
    let at = ends.partition_point(|end| !fails(end)).min(ends.len() - 1);
    let mut last = until(ends[at]);
    last.sort_by_key(|call| call.called);
    last.split_off(last.len().saturating_sub(30))
}

#[test]
fn names_and_locks_change_in_one_order_that_all_mounts_share_although_connections_break() {
    const CALLS_EACH: usize = 400;
    let volume = Volume::format(1, 1);
    let proxies: Vec<Proxy> = (0..MOUNTS).map(|_| Proxy::start(volume.meta.address())).collect();
    // No name is believed for longer than it takes to ask: a cached name is not in the order.
    let mounts: Vec<Mounted> =
        proxies.iter().map(|proxy| volume.mount_through(proxy, &["--ttl", "0s"])).collect();
    std::fs::create_dir(mounts[0].path("d")).unwrap();
    File::create(mounts[0].path("lock")).unwrap();
    // Open until all have ended: a close would give the lock up, and is in no history.
    let locks: Vec<File> = mounts
        .iter()
        .map(|mount| File::options().write(true).open(mount.path("lock")).unwrap())
        .collect();
    // A mount whose connection is cut while it starts ends with an error; each answers by now.
    for mount in &mounts {
        assert!(mount.path("d").is_dir());
    }
    let begin = Instant::now();
    let clock = || begin.elapsed().as_nanos() as u64;
    let over = AtomicBool::new(false);
    let mut cuts = 0;
    let calls: Vec<Call<Op>> = std::thread::scope(|scope| {
        let workers: Vec<_> = mounts
            .iter()
            .zip(&locks)
            .enumerate()
            .map(|(who, (mount, file))| {
                scope.spawn(move || {
                    let mut choices = Choices(0xabcd + 77 * who as u64);
                    let directory = mount.path("d");
                    (0..CALLS_EACH)
                        .map(|number| {
                            let id = (who * CALLS_EACH + number) as u32;
                            let called = clock();
                            let operation = act(&directory, (file, who as u32), &mut choices, id);
                            Call { operation, called, returned: Some(clock()) }
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        let saboteur = scope.spawn(|| {
            let mut choices = Choices(99);
            let mut cuts = 0u32;
            while !over.load(Ordering::Relaxed) {
                proxies[choices.below(MOUNTS)].cut();
                cuts += 1;
                std::thread::sleep(Duration::from_millis(7));
            }
            cuts
        });
        let calls = workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect();
        over.store(true, Ordering::Relaxed);
        cuts = saboteur.join().unwrap();
        calls
    });
    assert!(cuts > 20, "only {cuts} cuts");
    let mut calls: Vec<Call<Op>> = calls
        .into_iter()
        .map(|call| Call {
            returned: call.returned.filter(|_| call.operation.done.is_some()),
            ..call
        })
        .collect();
    mark_overlapping(&mut calls);
    let took_effect = calls.iter().filter(|call| call.operation.done == Some(Ok(()))).count();
    assert!(took_effect > CALLS_EACH, "only {took_effect} operations took effect");
    if linearize::<Names>(BTreeMap::new(), &calls).is_err() {
        panic!("no order explains what happened: {:#?}", shortest_failure(&calls));
    }
    drop((locks, mounts));
    volume.assert_fsck_clean();
}
