//! Where copies go while their owners cannot take them, and that they come home.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod ring;

use ring::{Ring, block, noise, wait_until};
use ringfs_base::{BlockId, NodeName, ZoneName};
use ringfs_ring::{Member, StatusOverlay, plan};
use ringfs_store::{NodeIndex, Placement, RingPlacement, StoreConfig};
use ringfs_testkit::{RedisServer, ServerOptions};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Writes while the first owner refuses: at once, twice, the second time without asking it.
fn refused_writes_go_to_a_stand_in(ring: &Ring, code: &str) {
    let mine: Vec<BlockId> = (0..10_000)
        .map(|slice| block(slice, 1))
        .filter(|b| ring.owners(*b)[0] == 0)
        .take(2)
        .collect();
    let data = noise(300_000, 3);
    for (at, id) in mine.iter().enumerate() {
        let sent = ring.store.stats().bytes_sent;
        let begun = Instant::now();
        let written = ring.store.write(&[(*id, &data)]).unwrap();
        let took = begun.elapsed();
        assert!(took < Duration::from_millis(500), "{code}: {took:?}");
        assert_eq!((written.copies_short, written.copies_on_stand_ins), (0, 1), "{code}");
        let sent = (ring.store.stats().bytes_sent - sent) / 300_000;
        assert_eq!(sent, 3 - at as u64, "{code}: copies sent for write {at}");
        ring.read(*id, &data);
    }
}

fn comes_home(ring: &Ring) {
    ring.settle();
    let all: Vec<BlockId> = (0..10_000).map(|slice| block(slice, 1)).collect();
    let mine = all.into_iter().filter(|b| ring.owners(*b)[0] == 0).take(2);
    for id in mine {
        assert!(ring.has(0, id), "{id} is not at home");
    }
}

#[test]
fn a_replica_takes_no_writes_and_is_replaced_at_once() {
    let ring = Ring::new(3, 2);
    ring.servers[0].command(&["REPLICAOF", "127.0.0.1", "1"]);
    refused_writes_go_to_a_stand_in(&ring, "READONLY");
    ring.servers[0].command(&["REPLICAOF", "NO", "ONE"]);
    comes_home(&ring);
}

#[test]
fn a_server_that_cannot_save_is_replaced_at_once() {
    let ring = Ring::new(3, 2);
    let server = &ring.servers[0];
    // A directory is where the dump should go.
    std::fs::create_dir(server.data_dir().join("dump.rdb")).unwrap();
    std::fs::write(server.data_dir().join("dump.rdb/file"), "").unwrap();
    server.config_set("save", "3600 1000000");
    server.command(&["BGSAVE"]);
    wait_until("the save fails", || server.info("persistence")["rdb_last_bgsave_status"] == "err");
    refused_writes_go_to_a_stand_in(&ring, "MISCONF");
    server.config_set("stop-writes-on-bgsave-error", "no");
    comes_home(&ring);
}

#[test]
fn a_server_that_loads_its_data_is_replaced_at_once() {
    let slow = ["enable-debug-command yes", "key-load-delay 500"];
    let extra = slow.iter().map(|line| (*line).to_owned()).collect();
    let options = ServerOptions { extra, ..ServerOptions::default() };
    let ring = Ring::with(3, 2, StoreConfig::default(), options);
    ring.servers[0].config_set("loading-process-events-interval-bytes", "1024");
    ring.servers[0].command(&["DEBUG", "POPULATE", "8000", "key", "100"]);
    std::thread::scope(|scope| {
        // Half a millisecond for each key.
        let mut conn = ring.servers[0].conn();
        scope.spawn(move || {
            let reload = ringfs_link::Cmd::from_words(["DEBUG", "RELOAD"]);
            conn.call_within(&reload, Duration::from_secs(60)).unwrap();
        });
        wait_until("it loads", || ring.servers[0].info("persistence")["loading"] != "0");
        refused_writes_go_to_a_stand_in(&ring, "LOADING");
        assert_ne!(ring.servers[0].info("persistence")["loading"], "0", "it had time to end");
    });
    comes_home(&ring);
}

#[test]
fn a_stand_in_is_where_the_dead_owner_was_and_not_with_the_survivor() {
    let servers: Vec<RedisServer> = (0..6).map(|_| RedisServer::start_default()).collect();
    let names: Vec<NodeName> = (0..6).map(|n| NodeName::new(&format!("n{n}")).unwrap()).collect();
    // Two machines with three servers each.
    let zone = |at: usize| at / 3;
    let member = |at: usize| {
        let zone = ZoneName::new(&format!("z{}", zone(at))).unwrap();
        Member::new(names[at].clone()).in_zone(zone)
    };
    let members: Vec<Member> = (0..6).map(member).collect();
    let table = Arc::new(plan(None, &members, 2, 64).unwrap());
    let all_up = StatusOverlay::default();
    let down = all_up.marking_down(&names[1]).unwrap();
    let with = |overlay: &StatusOverlay| -> Arc<dyn Placement> {
        Arc::new(RingPlacement::new(table.clone(), &names, overlay, &[]))
    };
    let mut ring = Ring::new(0, 1);
    ring.store = ring::open(&servers, with(&down), StoreConfig::default());
    ring.servers = servers;
    let placement = with(&down);
    let mine = |id: &BlockId| placement.owners(*id).contains(&NodeIndex(1));
    let ids: Vec<BlockId> =
        (0..10_000).map(|slice| block(slice, 0)).filter(mine).take(30).collect();
    let data = noise(5_000, 1);
    // By the verdict, and by the store's own evidence.
    ring.servers[1].kill9();
    for (at, id) in ids.iter().enumerate() {
        if at == 15 {
            ring.store.set_placement(with(&all_up));
        }
        let written = ring.store.write(&[(*id, &data)]).unwrap();
        assert_eq!((written.copies_short, written.copies_on_stand_ins), (0, 1));
        let alive = [0, 2, 3, 4, 5].into_iter().filter(|server| ring.has(*server, *id));
        let mut zones: Vec<usize> = alive.map(zone).collect();
        zones.sort_unstable();
        assert_eq!(zones, [0, 1], "{id}: copies share a machine");
    }
    ring.servers[1].restart();
    ring.settle();
    for id in &ids {
        assert!(ring.has(1, *id), "{id} is not at home");
    }
    // Whoever removes them finds the stand-ins.
    assert!(ring.store.remove(&ids).unreached.is_empty());
    for id in &ids {
        assert_eq!(ring.holders(*id), [0; 0], "{id}");
    }
}
