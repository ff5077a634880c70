//! Many mounts that change the same names at once: nothing is lost, and all see one order.

mod mounted;

use mounted::{Mounted, Volume};
use ringfs_testkit::Proxy;
use ringfs_testkit::history::{Call, Sequential, linearize};
use std::collections::BTreeMap;
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

/// A directory whose entries are symbolic links: their targets tell who made them.
struct Names;

/// What was done and seen; `None` where the outcome is unknown.
#[derive(Clone, Debug)]
enum Op {
    /// Exclusive creation of `name` as `id`.
    Create {
        name: u8,
        id: u32,
        done: Option<bool>,
    },
    /// Renames, replacing.
    Rename {
        from: u8,
        to: u8,
        done: Option<bool>,
    },
    /// Renames unless the new name exists.
    RenameNew {
        from: u8,
        to: u8,
        done: Option<Result<(), i32>>,
    },
    /// Swaps two names.
    Exchange {
        a: u8,
        b: u8,
        done: Option<bool>,
    },
    Unlink {
        name: u8,
        done: Option<bool>,
    },
}

impl Sequential for Names {
    type State = BTreeMap<u8, u32>;
    type Operation = Op;

    fn apply(state: &Self::State, operation: &Op) -> Option<Self::State> {
        let mut after = state.clone();
        let possible = match operation {
            Op::Create { name, id, done } => {
                let can = !state.contains_key(name);
                if can {
                    after.insert(*name, *id);
                }
                done.is_none_or(|done| done == can)
            }
            Op::Rename { from, to, done } => {
                let can = state.contains_key(from);
                if can && from != to {
                    let id = after.remove(from)?;
                    after.insert(*to, id);
                }
                done.is_none_or(|done| done == can)
            }
            Op::RenameNew { from, to, done } => {
                let outcome = match (state.contains_key(from), state.contains_key(to)) {
                    (_, true) => Err(libc::EEXIST),
                    (false, _) => Err(libc::ENOENT),
                    (true, false) => Ok(()),
                };
                if outcome.is_ok() {
                    let id = after.remove(from)?;
                    after.insert(*to, id);
                }
                // With both errors possible either may be told.
                done.is_none_or(|done| {
                    done == outcome || (done == Err(libc::ENOENT) && !state.contains_key(from))
                })
            }
            Op::Exchange { a, b, done } => {
                let can = state.contains_key(a) && state.contains_key(b);
                if let (true, Some(first), Some(second)) = (can, state.get(a), state.get(b)) {
                    after.insert(*a, *second);
                    after.insert(*b, *first);
                }
                done.is_none_or(|done| done == can)
            }
            Op::Unlink { name, done } => {
                let can = after.remove(name).is_some();
                done.is_none_or(|done| done == can)
            }
        };
        possible.then_some(after)
    }
}

/// Whether it succeeded; `None` if nobody knows.
fn seen(result: io::Result<()>, refusal: i32) -> Option<bool> {
    match result {
        Ok(()) => Some(true),
        Err(e) if e.raw_os_error() == Some(refusal) => Some(false),
        Err(e) if e.raw_os_error() == Some(libc::EIO) => None,
        Err(e) => panic!("an error that the operation cannot have: {e}"),
    }
}

fn renameat2(from: &Path, to: &Path, flags: rustix::fs::RenameFlags) -> io::Result<()> {
    Ok(rustix::fs::renameat_with(rustix::fs::CWD, from, rustix::fs::CWD, to, flags)?)
}

fn act(directory: &Path, choices: &mut Choices, id: u32) -> Op {
    let path = |name: u8| directory.join(format!("n{name}"));
    let (a, b) = (choices.below(4) as u8, choices.below(4) as u8);
    match choices.below(10) {
        0..=3 => {
            let made = std::os::unix::fs::symlink(id.to_string(), path(a));
            Op::Create { name: a, id, done: seen(made, libc::EEXIST) }
        }
        4..=5 => {
            let done = seen(std::fs::rename(path(a), path(b)), libc::ENOENT);
            Op::Rename { from: a, to: b, done }
        }
        6 => {
            let result = renameat2(&path(a), &path(b), rustix::fs::RenameFlags::NOREPLACE);
            let done = match result {
                Ok(()) => Some(Ok(())),
                Err(e) => match e.raw_os_error() {
                    Some(code @ (libc::EEXIST | libc::ENOENT)) => Some(Err(code)),
                    Some(libc::EIO) => None,
                    _ => panic!("rename: {e}"),
                },
            };
            Op::RenameNew { from: a, to: b, done }
        }
        7 => {
            let result = renameat2(&path(a), &path(b), rustix::fs::RenameFlags::EXCHANGE);
            Op::Exchange { a, b, done: seen(result, libc::ENOENT) }
        }
        _ => Op::Unlink { name: a, done: seen(std::fs::remove_file(path(a)), libc::ENOENT) },
    }
}

#[test]
fn names_change_in_one_order_that_all_mounts_share_although_connections_break() {
    const CALLS_EACH: usize = 300;
    let volume = Volume::format(1, 1);
    let proxies: Vec<Proxy> = (0..MOUNTS).map(|_| Proxy::start(volume.meta.address())).collect();
    // No name is believed for longer than it takes to ask: a cached name is not in the order.
    let mounts: Vec<Mounted> =
        proxies.iter().map(|proxy| volume.mount_through(proxy, &["--ttl", "0s"])).collect();
    std::fs::create_dir(mounts[0].path("d")).unwrap();
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
            .enumerate()
            .map(|(who, mount)| {
                scope.spawn(move || {
                    let mut choices = Choices(0xabcd + 77 * who as u64);
                    let directory = mount.path("d");
                    (0..CALLS_EACH)
                        .map(|number| {
                            let id = (who * CALLS_EACH + number) as u32;
                            let called = clock();
                            let operation = act(&directory, &mut choices, id);
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
    let done = |op: &Op| match op {
        Op::Create { done, .. }
        | Op::Rename { done, .. }
        | Op::Exchange { done, .. }
        | Op::Unlink { done, .. } => *done,
        Op::RenameNew { done, .. } => done.map(|done| done.is_ok()),
    };
    let calls: Vec<Call<Op>> = calls
        .into_iter()
        .map(|call| match done(&call.operation) {
            None => Call { returned: None, ..call },
            Some(_) => call,
        })
        .collect();
    let took_effect = calls.iter().filter(|call| done(&call.operation) == Some(true)).count();
    assert!(took_effect > CALLS_EACH, "only {took_effect} operations took effect");
    if let Err(order) = linearize::<Names>(BTreeMap::new(), &calls) {
        let mut rest: Vec<&Call<Op>> = (0..calls.len())
            .filter(|place| !order.contains(place))
            .map(|place| &calls[place])
            .collect();
        rest.sort_by_key(|call| call.called);
        rest.truncate(12);
        panic!(
            "no order explains more than {} of {} calls; then {rest:#?}",
            order.len(),
            calls.len()
        );
    }
    drop(mounts);
    volume.assert_fsck_clean();
}
