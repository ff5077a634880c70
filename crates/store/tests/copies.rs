//! Blocks on healthy servers: what is written, where, and what a read moves.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod ring;

use ring::{Ring, block, noise, text};
use ringfs_base::limits::BLOCK_BYTES;
use ringfs_store::{
    Codec, CopyState, Depth, ReadReq, Rendezvous, Scope, StoreConfig, StoreError, Surplus,
};

#[test]
fn one_to_three_copies_are_written_to_the_owners_and_read_back() {
    for copies in 1..=3 {
        let ring = Ring::new(4, copies);
        let blocks: Vec<_> =
            (0..12).map(|n| (block(n, n as u32), noise(10_000 + n as usize * 7_000, n))).collect();
        let refs: Vec<_> = blocks.iter().map(|(id, data)| (*id, &data[..])).collect();
        assert!(!ring.store.write(&refs).unwrap().is_degraded());
        for (id, data) in &blocks {
            let mut owners = ring.owners(*id);
            owners.sort_unstable();
            assert_eq!(ring.holders(*id), owners);
            ring.read(*id, data);
        }
        let stats = ring.store.stats();
        assert_eq!((stats.blocks_written, stats.blocks_read), (12, 12));
        assert_eq!((stats.fall_overs, stats.bad_copies, stats.copies_short), (0, 0, 0));
    }
}

#[test]
fn every_codec_reads_any_range_also_with_another_setting() {
    for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
        let config = StoreConfig { codec, segment_bytes: 16 << 10, ..StoreConfig::default() };
        let ring = Ring::with(2, 2, config, Default::default());
        let mut data = text(150_000);
        data.extend(noise(100_000, 5));
        let id = block(1, 2);
        ring.write(id, &data);
        // The reader's own settings differ from those the block was written with.
        let reader = ring::open(&ring.servers, ring.placement.clone(), StoreConfig::default());
        for (offset, len) in [(0, 1), (0, 250_000), (16_383, 2), (140_000, 30_000), (249_999, 1)] {
            for store in [&ring.store, &reader] {
                let mut out = vec![0; len];
                store.read(id, 250_000, offset, &mut out).unwrap();
                assert!(out == data[offset as usize..offset as usize + len], "{codec} {offset}");
            }
        }
        assert_eq!(ring.store.stats().fall_overs, 0);
    }
}

#[test]
fn a_small_read_moves_only_its_segments_in_one_round_trip() {
    let ring = Ring::new(1, 1);
    let id = block(7, 0);
    let data = noise(BLOCK_BYTES as usize, 1);
    ring.write(id, &data);
    let mut out = vec![0; 4096];
    // The first read lets a script find the segment, and brings the block's header along.
    ring.servers[0].reset_stats();
    ring.store.read(id, BLOCK_BYTES, 0, &mut out).unwrap();
    let first = ring.servers[0].commandstats();
    assert!(first.contains_key("evalsha") && !first.contains_key("get"), "{first:?}");
    ring.servers[0].reset_stats();
    let sent = || ring.servers[0].info("stats")["total_net_output_bytes"].parse::<usize>().unwrap();
    let before = sent();
    let reads = 20;
    for n in 0..reads {
        let offset = n * 50_000 / 4096 * 4096;
        ring.store.read(id, BLOCK_BYTES, offset, &mut out).unwrap();
        assert!(out == data[offset as usize..offset as usize + 4096]);
    }
    let calls = ring.servers[0].commandstats();
    // The question itself costs a few kilobytes for INFO's answer.
    let each = (sent() - before - 8_000.min(sent() - before)) / reads as usize;
    assert!(each < (32 << 10) + 1024, "{each} bytes for each 4 KiB");
    assert_eq!(calls.get("getrange"), Some(&u64::from(reads)), "{calls:?}");
    assert_eq!((calls.get("get"), calls.get("evalsha")), (None, None), "{calls:?}");
    // A whole block needs no script.
    ring.read(id, &data);
    assert_eq!(ring.servers[0].commandstats().get("get"), Some(&1));
}

#[test]
fn many_ranges_are_read_in_one_go() {
    let ring = Ring::new(3, 2);
    let data: Vec<Vec<u8>> = (0..20).map(|n| noise(100_000, n)).collect();
    let blocks: Vec<_> = (0..20).map(|n| (block(n, 0), &data[n as usize][..])).collect();
    ring.store.write(&blocks).unwrap();
    let mut outs = vec![vec![0; 40_000]; 20];
    let mut requests: Vec<ReadReq<'_>> = outs
        .iter_mut()
        .enumerate()
        .map(|(n, out)| ReadReq { id: block(n as u64, 0), raw_len: 100_000, offset: 30_000, out })
        .collect();
    ring.store.read_many(&mut requests).unwrap();
    for (out, data) in outs.iter().zip(&data) {
        assert!(out[..] == data[30_000..70_000]);
    }
    let stats = ring.store.stats();
    assert_eq!((stats.blocks_read, stats.bytes_read), (20, 800_000));
}

#[test]
fn removed_blocks_are_gone_from_all_nodes_and_listed_no_more() {
    let ring = Ring::new(3, 2);
    let ids: Vec<_> = (0..30).map(|n| block(n, 1)).collect();
    let data = text(5000);
    let blocks: Vec<_> = ids.iter().map(|id| (*id, &data[..])).collect();
    ring.store.write(&blocks).unwrap();
    let listed = || {
        let mut all = Vec::new();
        for node in ring.store.nodes() {
            let mut cursor = 0;
            loop {
                let (next, ids) = ring.store.list(node.node, cursor).unwrap();
                all.extend(ids);
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
        }
        all.sort_unstable();
        all
    };
    ring.servers[0].command(&["SET", "rfb:test:no-block", "x"]);
    ring.servers[0].command(&["SET", "rfb:other:1.1", "x"]);
    let mut twice: Vec<_> = ids.iter().chain(&ids).copied().collect();
    twice.sort_unstable();
    assert_eq!(listed(), twice);
    let removed = ring.store.remove(&ids);
    assert_eq!((removed.copies, removed.unreached.len()), (60, 0));
    assert_eq!(listed(), []);
    let mut out = [0; 10];
    let error = ring.store.read(ids[0], 5000, 0, &mut out).unwrap_err();
    assert!(matches!(error, StoreError::Missing { .. }), "{error}");
}

#[test]
fn check_tells_good_missing_and_where() {
    let ring = Ring::new(3, 2);
    let id = block(3, 3);
    ring.write(id, &text(70_000));
    let owners = ring.owners(id);
    for depth in [Depth::Header, Depth::Contents] {
        let copies = ring.store.check(id, depth, Scope::Everywhere);
        let seen: Vec<_> = copies.iter().map(|c| (c.node.0, c.is_owner, c.state.clone())).collect();
        let other = (0..3).find(|n| !owners.contains(n)).unwrap();
        let good = |n| (n, true, CopyState::Good);
        assert_eq!(seen, [good(owners[0]), good(owners[1]), (other, false, CopyState::Missing)]);
    }
    assert_eq!(ring.store.check_many(&[id; 3], Depth::Header, Scope::Owners).len(), 3);
}

/// As with a table that was put in force without the ones before it.
#[test]
fn a_block_on_a_node_that_no_table_names_is_found_at_last() {
    let ring = Ring::new(4, 2);
    let id = ring.block_owned_by(3);
    let data = noise(50_000, 3);
    ring.write(id, &data);
    let holders = ring.holders(id);
    let fewer = Rendezvous { nodes: 2, copies: 2, epoch: ringfs_base::Epoch(2) };
    for node in holders.into_iter().filter(|node| *node < 2) {
        ring.remove_raw(node, id);
    }
    ring.store.set_placement(std::sync::Arc::new(fewer));
    ring.read(id, &data);
    assert_eq!(ring.store.repair(id, Surplus::Keep).unwrap().owners_good, 2);
    assert!(ring.has(0, id) && ring.has(1, id));
}

#[test]
fn what_no_block_can_be_is_refused() {
    let ring = Ring::new(1, 1);
    let id = block(1, 1);
    let invalid = |result: Result<(), StoreError>| {
        assert!(matches!(result, Err(StoreError::Invalid { .. })), "{result:?}");
    };
    invalid(ring.store.write(&[(id, &[])]).map(|_| ()));
    invalid(ring.store.write(&[(id, &vec![0; 5 << 20])]).map(|_| ()));
    invalid(ring.store.read(id, 100, 90, &mut [0; 11]));
    invalid(ring.store.read(id, 100, u32::MAX, &mut [0; 1]));
    ring.store.read(id, 100, 100, &mut []).unwrap();
}

#[test]
fn the_nodes_tell_their_memory() {
    let ring = Ring::new(2, 1);
    ring.servers[1].config_set("maxmemory", "100mb");
    let nodes = ring.store.nodes();
    assert_eq!(nodes[1].memory.as_ref().unwrap().max, 100 << 20);
    assert!(nodes[0].memory.as_ref().unwrap().used > 100_000);
}
