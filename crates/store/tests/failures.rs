//! Servers that die, freeze, come back empty or fill up under running reads and writes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod ring;

use ring::{Ring, block, noise, text, wait_until};
use ringfs_base::limits::BLOCK_BYTES;
use ringfs_link::Cmd;
use ringfs_store::{CopyState, Depth, ErrorKind, Scope, StoreConfig, StoreError, Surplus};
use ringfs_testkit::ServerOptions;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[test]
fn a_server_killed_under_load_costs_no_error_and_is_refilled() {
    let mut ring = Ring::new(4, 2);
    let written: Mutex<Vec<u64>> = Mutex::default();
    let stop = AtomicBool::new(false);
    let before_kill = AtomicUsize::new(0);
    let longest_us = AtomicUsize::new(0);
    let data = |n: u64| noise(60_000 + (n % 50) as usize * 1000, n);
    let victim;
    {
        let (store, written, stop) = (&ring.store, &written, &stop);
        let (servers, before_kill, longest_us) = (&mut ring.servers, &before_kill, &longest_us);
        victim = 1;
        std::thread::scope(|scope| {
            for worker in 0..2u64 {
                scope.spawn(move || {
                    for n in (worker..).step_by(2) {
                        if stop.load(Ordering::SeqCst) {
                            return;
                        }
                        let begin = Instant::now();
                        store.write(&[(block(n, 0), &data(n))]).unwrap();
                        written.lock().unwrap().push(n);
                        let old = {
                            let written = written.lock().unwrap();
                            written[(n as usize * 7919) % written.len()]
                        };
                        let want = data(old);
                        let mut out = vec![0; want.len()];
                        store.read(block(old, 0), want.len() as u32, 0, &mut out).unwrap();
                        assert!(out == want);
                        let took = begin.elapsed().as_micros() as usize;
                        longest_us.fetch_max(took, Ordering::SeqCst);
                    }
                });
            }
            wait_until("some writes", || written.lock().unwrap().len() > 50);
            before_kill.store(written.lock().unwrap().len(), Ordering::SeqCst);
            servers[victim].kill9();
            let at_kill = written.lock().unwrap().len();
            wait_until("writes go on", || written.lock().unwrap().len() > at_kill + 100);
            stop.store(true, Ordering::SeqCst);
        });
    }
    let longest = Duration::from_micros(longest_us.load(Ordering::SeqCst) as u64);
    assert!(longest < Duration::from_secs(1), "one write and read took {longest:?}");
    let stats = ring.store.stats();
    assert!(stats.copies_on_stand_ins > 0, "{stats:?}");
    assert_eq!(stats.copies_short, 0, "{stats:?}");

    // It comes back empty. What this store wrote elsewhere comes home by itself; the rest when
    // somebody looks.
    ring.servers[victim].restart_empty();
    ring.settle();
    let written = written.into_inner().unwrap();
    for n in &written {
        let want = data(*n);
        ring.read(block(*n, 0), &want);
    }
    for n in &written {
        let id = block(*n, 0);
        let repaired = ring.store.repair(id, Surplus::Drop).unwrap();
        assert_eq!(repaired.owners_good, 2, "{repaired:?}");
        let mut owners = ring.owners(id);
        owners.sort_unstable();
        assert_eq!(ring.holders(id), owners, "surplus copies are gone");
    }
    assert_eq!(ring.store.stats().repairs_failed, 0);
}

#[test]
fn a_server_that_returns_empty_is_refilled_by_reads() {
    let mut ring = Ring::new(2, 2);
    let data = text(200_000);
    let ids: Vec<_> = (0..20).map(|n| block(n, 0)).collect();
    for id in &ids {
        ring.write(*id, &data);
    }
    ring.servers[0].restart_empty();
    for id in &ids {
        ring.read(*id, &data);
    }
    ring.settle();
    for id in &ids {
        // Reads that began at the other copy found nothing wrong; those that did not have repaired.
        ring.store.repair(*id, Surplus::Keep).unwrap();
        let copies = ring.store.check(*id, Depth::Contents, Scope::Owners);
        assert!(copies.iter().all(|copy| copy.state == CopyState::Good), "{copies:?}");
    }
    let stats = ring.store.stats();
    assert_eq!(stats.copies_repaired, 20, "{stats:?}");
    assert!(stats.missing_copies > 0 && stats.missing_copies < 20, "{stats:?}");
}

#[test]
fn a_block_whose_copies_are_all_lost_is_missing_and_says_where_it_was_sought() {
    let ring = Ring::new(3, 2);
    let id = block(5, 0);
    ring.write(id, b"some bytes");
    for owner in ring.owners(id) {
        ring.remove_raw(owner, id);
    }
    let error = ring.store.read(id, 10, 0, &mut [0; 10]).unwrap_err();
    assert!(matches!(&error, StoreError::Missing { tried, .. } if tried.len() == 3), "{error}");
    assert_eq!(error.kind(), ErrorKind::GiveUp);
    let error = ring.store.repair(id, Surplus::Keep).unwrap_err();
    assert!(matches!(error, StoreError::Missing { .. }), "{error}");
}

#[test]
fn with_all_owners_dead_the_error_names_them_and_asks_to_retry() {
    let mut ring = Ring::new(3, 2);
    let id = block(5, 0);
    ring.write(id, b"some bytes");
    let owners = ring.owners(id);
    for owner in &owners {
        ring.servers[*owner].kill9();
    }
    let error = ring.store.read(id, 10, 0, &mut [0; 10]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Retry, "{error}");
    for owner in &owners {
        assert!(error.to_string().contains(&format!("n{owner}")), "{error}");
    }
    // A write finds the third node, and says that one copy is short.
    let written = ring.store.write(&[(block(6, 0), b"x")]).unwrap();
    assert!(written.is_degraded(), "{written:?}");
    // A removal reports whom it could not reach.
    assert_eq!(ring.store.remove(&[id]).unreached.len(), 2);
}

#[test]
fn with_no_server_at_all_a_write_fails_in_time_and_works_again_later() {
    let mut ring = Ring::new(2, 2);
    ring.write(block(1, 0), b"x");
    ring.servers.iter_mut().for_each(|server| server.kill9());
    let begin = Instant::now();
    for n in 2..10 {
        let error = ring.store.write(&[(block(n, 0), b"x")]).unwrap_err();
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    }
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    ring.servers.iter_mut().for_each(|server| server.restart());
    wait_until("the store notices", || {
        ring.store.write(&[(block(11, 0), b"x")]).is_ok_and(|written| !written.is_degraded())
    });
}

#[test]
fn a_frozen_server_delays_a_read_by_the_hedge_and_a_write_by_its_time_out() {
    let ring = Ring::new(3, 2);
    let frozen = 0;
    let id = ring.block_owned_by(frozen);
    let data = noise(BLOCK_BYTES as usize, 4);
    ring.write(id, &data);
    // Both copies have been asked, so there are connections, and the usual time is known.
    let ids: Vec<_> = (100..140).map(|n| block(n, 0)).collect();
    for id in &ids {
        ring.write(*id, &data[..10_000]);
        ring.read(*id, &data[..10_000]);
    }
    let config = StoreConfig::default();
    ring.servers[frozen].stop();

    // Reads: whichever copy comes first, none waits much longer than the hedge time.
    let slack = Duration::from_millis(250);
    let begin = Instant::now();
    let mut longest = Duration::ZERO;
    for id in &ids {
        let begin = Instant::now();
        ring.read(*id, &data[..10_000]);
        longest = longest.max(begin.elapsed());
    }
    let (all, stats) = (begin.elapsed(), ring.store.stats());
    assert!(longest < config.read_hedge + slack, "the slowest read took {longest:?}");
    assert!(stats.hedges_won >= 1, "{stats:?}");
    // Once overtaken, the frozen server is not asked again: the hedge was waited for few times.
    assert!(all < config.read_hedge * 10 + slack, "40 reads took {all:?}");

    // Writes: the first one may have to wait for the time-out, then stand-ins are used at once.
    for n in 0..5 {
        let begin = Instant::now();
        let written = ring.store.write(&[(ring.block_owned_by(frozen), &data[..])]).unwrap();
        let took = begin.elapsed();
        assert!(took < Duration::from_secs(1), "write {n} took {took:?}");
        assert_eq!((written.copies_short, written.copies_on_stand_ins), (0, 1));
    }
    ring.servers[frozen].cont();
    ring.settle();
    assert!(ring.has(frozen, id));
}

#[test]
fn a_server_that_returns_takes_its_copies_back_from_stand_ins() {
    let mut ring = Ring::new(3, 2);
    let ids: Vec<_> = (0..20).map(|n| block(n, 0)).collect();
    ring.servers[2].kill9();
    for id in &ids {
        let written = ring.store.write(&[(*id, b"some bytes")]).unwrap();
        assert_eq!(written.copies_short, 0);
    }
    assert!(ring.store.stats().copies_on_stand_ins > 0);
    ring.servers[2].restart();
    ring.settle();
    for id in &ids {
        let copies = ring.store.check(*id, Depth::Contents, Scope::Owners);
        assert!(copies.iter().all(|copy| copy.state == CopyState::Good), "{copies:?}");
    }
}

#[test]
fn one_full_server_is_stood_in_for_and_a_full_ring_says_so_and_can_be_emptied() {
    let options = ServerOptions { maxmemory: Some(24 << 20), ..ServerOptions::default() };
    let ring = Ring::with(3, 2, StoreConfig::default(), options);
    ring.servers[0].config_set("maxmemory", "1mb");
    let data = noise(BLOCK_BYTES as usize, 1);
    let id = ring.block_owned_by(0);
    let written = ring.store.write(&[(id, &data)]).unwrap();
    assert_eq!((written.copies_short, written.copies_on_stand_ins), (0, 1));
    ring.read(id, &data);

    ring.servers[0].config_set("maxmemory", "24mb");
    let mut stored = vec![id];
    let error = loop {
        assert!(stored.len() < 200, "the servers take more than they have");
        let next = block(1000 + stored.len() as u64, 0);
        match ring.store.write(&[(next, &data)]) {
            Ok(_) => stored.push(next),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    assert!(stored.len() > 20, "{} blocks", stored.len());
    // Nothing of the refused write remains.
    assert_eq!(ring.holders(block(1000 + stored.len() as u64, 0)), [0; 0]);
    // Reads of parts work, also where the script is new: nothing that was stored is lost.
    for server in &ring.servers {
        server.command(&["SCRIPT", "FLUSH"]);
    }
    for id in &stored {
        let mut out = [0; 5000];
        ring.store.read(*id, BLOCK_BYTES, 300_000, &mut out).unwrap();
        assert!(out == data[300_000..305_000]);
    }
    // Deleting works, and makes room.
    let removed = ring.store.remove(&stored);
    assert!(removed.copies >= 2 * stored.len(), "{removed:?}");
    assert_eq!(removed.unreached, []);
    wait_until("there is room again", || {
        ring.store.write(&[(block(1, 0), &data)]).is_ok_and(|written| !written.is_degraded())
    });
}

#[test]
fn connections_that_the_server_has_closed_are_replaced_unnoticed() {
    let ring = Ring::new(2, 2);
    let data = text(9_000);
    for n in 0..20 {
        ring.write(block(n, 0), &data);
        for server in &ring.servers {
            let kill = Cmd::new("CLIENT").arg("KILL").arg("TYPE").arg("normal");
            server.conn().call(&kill).unwrap();
        }
        ring.read(block(n, 0), &data);
        for server in &ring.servers {
            let kill = Cmd::new("CLIENT").arg("KILL").arg("TYPE").arg("normal");
            server.conn().call(&kill).unwrap();
        }
    }
    let stats = ring.store.stats();
    assert_eq!((stats.fall_overs, stats.copies_on_stand_ins), (0, 0), "{stats:?}");
}
