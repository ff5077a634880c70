//! Removing and listing blocks, and asking the nodes how they are.

use crate::Shared;
use crate::exchange::{Batch, Traffic, exchange};
use crate::node::Haste;
use crate::placement::NodeIndex;
use ringfs_base::{BlockId, NodeName};
use ringfs_link::{Cmd, Health, LinkError, Reply};
use std::time::Duration;

/// How a removal went.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Removed {
    /// Copies that were removed.
    pub copies: usize,
    /// Nodes that could not be asked. Copies left there are garbage that collection finds.
    pub unreached: Vec<NodeName>,
}

/// Blocks in one command.
const REMOVE_BATCH: usize = 256;
/// Stand-ins that are told to remove a block, besides its owners: a copy farther down the order
/// takes that many failures at once, and is left to garbage collection.
const REMOVE_STAND_INS_MAX: usize = 4;
/// Keys that a server looks at in one step of a listing: well below a millisecond of its time.
const SCAN_COUNT: i64 = 1000;

pub(crate) fn remove(shared: &Shared, blocks: &[BlockId]) -> Removed {
    let view = shared.view();
    let placement = &view.placement;
    let mut removed = Removed::default();
    shared.mender.forget(blocks);
    for blocks in blocks.chunks(REMOVE_BATCH) {
        let mut keys: Vec<(NodeIndex, Vec<Vec<u8>>)> = Vec::new();
        for block in blocks {
            let mut nodes = placement.owners(*block);
            let former = placement.former_owners(*block);
            let stand_ins = placement.likely_stand_ins(*block, REMOVE_STAND_INS_MAX);
            for node in former.into_iter().chain(stand_ins) {
                if !nodes.contains(&node) {
                    nodes.push(node);
                }
            }
            for node in nodes {
                let key = shared.keys.key(*block);
                match keys.iter_mut().find(|(known, _)| *known == node) {
                    Some((_, keys)) => keys.push(key),
                    None => keys.push((node, vec![key])),
                }
            }
        }
        let batches: Vec<Batch<'_>> = keys
            .iter()
            .map(|(node, keys)| Batch { node: *node, cmds: vec![Cmd::new("UNLINK").args(keys)] })
            .collect();
        let replies = exchange(
            &view,
            &batches,
            shared.config.reply_within(0),
            Haste::Normal,
            Traffic::Questions,
        );
        for ((node, keys), reply) in keys.iter().zip(replies.into_iter().flatten()) {
            match reply.and_then(Reply::into_int) {
                Ok(copies) => removed.copies += copies as usize,
                Err(error) => {
                    shared.mender.wake();
                    shared.counters.removals_failed.add(keys.len());
                    tracing::debug!(node = ?view.name(*node), %error, "blocks not removed");
                    removed.unreached.extend(view.name(*node));
                }
            }
        }
    }
    removed.unreached.sort();
    removed.unreached.dedup();
    removed
}

/// One step through the blocks of a node.
pub(crate) fn list(
    shared: &Shared,
    node: NodeIndex,
    cursor: u64,
) -> Result<(u64, Vec<BlockId>), LinkError> {
    let view = shared.view();
    let cmd = Cmd::new("SCAN")
        .arg(cursor.to_string())
        .arg("MATCH")
        .arg(shared.keys.pattern())
        .arg("COUNT")
        .int(SCAN_COUNT);
    let batches = [Batch { node, cmds: vec![cmd] }];
    let mut replies = exchange(
        &view,
        &batches,
        shared.config.reply_within(0),
        Haste::LastResort,
        Traffic::Questions,
    )
    .into_iter();
    let reply = replies.next().and_then(|mut replies| replies.pop());
    let odd = || LinkError::unexpected("a reply of another shape than SCAN's");
    let mut parts = reply.ok_or_else(odd)??.into_array()?.into_iter();
    let (Some(next), Some(keys), None) = (parts.next(), parts.next(), parts.next()) else {
        return Err(odd());
    };
    let next = next.into_some_bytes()?;
    let next =
        std::str::from_utf8(&next).ok().and_then(|text| text.parse().ok()).ok_or_else(odd)?;
    let mut blocks = Vec::new();
    for key in keys.into_array()? {
        // What has our prefix but is no block was put there by somebody else: not ours to judge.
        blocks.extend(shared.keys.block(&key.into_some_bytes()?));
    }
    Ok((next, blocks))
}

/// How a node is.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// Its place in the store's list.
    pub node: NodeIndex,
    /// Its name.
    pub name: NodeName,
    /// Its address, for messages.
    pub address: String,
    /// What the connection pool thinks of it.
    pub health: Health,
    /// Smoothed time of one read, once there was one.
    pub latency: Option<Duration>,
    /// Its memory, or why it could not be asked.
    pub memory: Result<NodeMemory, LinkError>,
}

/// Memory of a node, in bytes, as `INFO memory` tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeMemory {
    /// In use for everything.
    pub used: u64,
    /// The limit; 0 if there is none.
    pub max: u64,
}

pub(crate) fn status(shared: &Shared) -> Vec<NodeStatus> {
    let view = shared.view();
    let batches: Vec<Batch<'_>> = (0..view.peers.len())
        .map(|node| Batch { node: NodeIndex(node), cmds: vec![Cmd::new("INFO").arg("memory")] })
        .collect();
    let replies =
        exchange(&view, &batches, shared.config.reply_within(0), Haste::Normal, Traffic::Questions);
    let mut list = Vec::new();
    for ((place, peer), reply) in view.peers.iter().enumerate().zip(replies.into_iter().flatten()) {
        list.push(NodeStatus {
            node: NodeIndex(place),
            name: peer.node.name.clone(),
            address: peer.node.endpoint.to_string(),
            health: peer.pool.health(),
            latency: peer.latency(),
            memory: reply.and_then(Reply::into_some_bytes).and_then(|info| memory(&info)),
        });
    }
    list
}

fn memory(info: &[u8]) -> Result<NodeMemory, LinkError> {
    let info = String::from_utf8_lossy(info);
    let field =
        |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    match (field("used_memory:"), field("maxmemory:")) {
        (Some(used), Some(max)) => Ok(NodeMemory { used, max }),
        _ => Err(LinkError::unexpected("INFO memory without used_memory or maxmemory")),
    }
}
