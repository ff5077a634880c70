//! What stored bytes cost in the servers' memory.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod ring;

use ring::{Ring, block, noise};
use ringfs_base::limits::BLOCK_BYTES;
use ringfs_testkit::RedisServer;

/// Memory of data and keys: without the buffers of connections, which come and go.
fn used(server: &RedisServer) -> u64 {
    let info = server.info("memory");
    let field = |name: &str| info[name].parse::<u64>().unwrap();
    field("used_memory") - field("mem_clients_normal")
}

#[test]
fn full_blocks_cost_at_most_twelve_percent_more_than_their_bytes() {
    let (copies, blocks) = (2, 48);
    let ring = Ring::new(3, copies);
    let before: u64 = ring.servers.iter().map(used).sum();
    let data = noise(BLOCK_BYTES as usize, 1);
    for n in 0..blocks {
        ring.write(block(n, 0), &data);
    }
    let after: u64 = ring.servers.iter().map(used).sum();
    let stored = copies as u64 * blocks * u64::from(BLOCK_BYTES);
    let overhead = (after - before) as f64 / stored as f64 - 1.0;
    println!("{:.2}% above the stored bytes", overhead * 100.0);
    assert!(overhead < 0.12, "{overhead}");
    assert!(overhead > 0.0, "measured nothing: {overhead}");
}

#[test]
fn incompressible_data_costs_next_to_nothing_on_the_wire() {
    let ring = Ring::new(1, 1);
    let data = noise(BLOCK_BYTES as usize, 2);
    ring.write(block(1, 0), &data);
    let stats = ring.store.stats();
    assert!(stats.bytes_sent - stats.bytes_written < 1024, "{stats:?}");
}
