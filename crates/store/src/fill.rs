//! Copying blocks from the nodes that have them to the nodes that should: many at once, from as many
//! nodes to as many as there are.
//!
//! What is written was verified, every byte, when it was read; and it is read back from where it was
//! written and verified again, because an old copy may be removed on the strength of the new one.

use crate::Shared;
use crate::exchange::{Batch, Replies, Traffic, exchange};
use crate::node::{Haste, View};
use crate::placement::NodeIndex;
use crate::repair::{CopyState, Depth, check_on, verify};
use bytes::Bytes;
use ringfs_base::BlockId;
use ringfs_link::{Cmd, Reply};

/// One block to copy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fill {
    /// Which.
    pub block: BlockId,
    /// Nodes that seem to have a good copy, best first.
    pub sources: Vec<NodeIndex>,
    /// Nodes that shall have one; what they have under its name is overwritten if it is no good
    /// copy.
    pub targets: Vec<NodeIndex>,
    /// Bytes of a copy as it is stored, about.
    pub bytes: usize,
}

/// How that went for one block.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filled {
    /// Targets that have a good copy now: it was read back.
    pub good: Vec<NodeIndex>,
    /// Copies that were written.
    pub written: usize,
    /// Bytes of these.
    pub bytes: usize,
    /// A source was asked and had no good copy after all, or did not answer: look elsewhere.
    pub no_source: bool,
    /// A target has no memory left.
    pub full: bool,
}

pub(crate) fn fill(shared: &Shared, blocks: &[Fill]) -> Vec<Filled> {
    let view = shared.view();
    let mut done: Vec<Filled> = blocks.iter().map(|_| Filled::default()).collect();
    let frames = fetch(shared, &view, blocks);
    let mut sets = ByNode::default();
    for (place, (fill, frame)) in blocks.iter().zip(&frames).enumerate() {
        let Some(frame) = frame else {
            done[place].no_source = true;
            continue;
        };
        let key = shared.keys.key(fill.block);
        for node in &fill.targets {
            sets.push(*node, place, Cmd::new("SET").arg(&key).payload(frame));
        }
    }
    let bytes = sets.places().map(|place| frames[place].as_ref().map_or(0, Bytes::len)).sum();
    let mut written: Vec<(BlockId, Vec<NodeIndex>)> =
        blocks.iter().map(|fill| (fill.block, Vec::new())).collect();
    sets.run(&view, shared.config.reply_within(bytes), Traffic::Payloads, |node, place, reply| {
        match reply.and_then(Reply::into_ok) {
            Ok(_) => {
                done[place].written += 1;
                done[place].bytes += frames[place].as_ref().map_or(0, Bytes::len);
                written[place].1.push(node);
            }
            Err(error) => {
                done[place].full |= error.is_oom();
                shared.counters.repairs_failed.add(1);
                shared.mender.wake();
                let (node, block) = (view.name(node), blocks[place].block);
                tracing::debug!(%block, ?node, %error, "a copy could not be written");
            }
        }
    });
    // What is in memory is not needed while the same comes back.
    drop(frames);
    for (place, copies) in check_on(shared, &written, Depth::Contents).into_iter().enumerate() {
        let good = copies.into_iter().filter(|copy| copy.state == CopyState::Good);
        done[place].good = good.map(|copy| copy.node).collect();
        shared.counters.copies_repaired.add(done[place].good.len());
    }
    done
}

/// Reads each block from one of its sources, the work spread over them.
fn fetch(shared: &Shared, view: &View, blocks: &[Fill]) -> Vec<Option<Bytes>> {
    let mut load: Vec<usize> = vec![0; view.peers.len()];
    let mut gets = ByNode::default();
    for (place, fill) in blocks.iter().enumerate() {
        let load_of = |node: &NodeIndex| load.get(node.0).copied().unwrap_or(usize::MAX);
        let best = fill.sources.iter().min_by_key(|node| (view.condition(**node), load_of(node)));
        if let Some(node) = best.copied() {
            if let Some(load) = load.get_mut(node.0) {
                *load += fill.bytes;
            }
            let key = shared.keys.key(fill.block);
            gets.push(node, place, Cmd::new("GET").arg(key));
        }
    }
    let bytes = gets.places().map(|place| blocks[place].bytes).sum();
    let mut frames: Vec<Option<Bytes>> = blocks.iter().map(|_| None).collect();
    gets.run(view, shared.config.reply_within(bytes), Traffic::Questions, |node, place, reply| {
        let block = blocks[place].block;
        match reply.and_then(Reply::into_bytes) {
            Ok(Some(frame)) => match verify(shared, block, &frame) {
                Ok(()) => frames[place] = Some(frame),
                Err(damage) => {
                    shared.counters.bad_copies.add(1);
                    tracing::warn!(%block, node = ?view.name(node), %damage, "bad copy");
                }
            },
            // It was removed meanwhile.
            Ok(None) => {}
            Err(error) => {
                shared.mender.wake();
                tracing::debug!(%block, node = ?view.name(node), %error, "a copy cannot be read");
            }
        }
    });
    frames
}

/// Commands for some nodes, each for the block at some place.
#[derive(Default)]
struct ByNode<'a> {
    batches: Vec<Batch<'a>>,
    places: Vec<Vec<usize>>,
}

impl<'a> ByNode<'a> {
    fn push(&mut self, node: NodeIndex, place: usize, cmd: Cmd<'a>) {
        match self.batches.iter().position(|batch| batch.node == node) {
            Some(slot) => {
                self.batches[slot].cmds.push(cmd);
                self.places[slot].push(place);
            }
            None => {
                self.batches.push(Batch { node, cmds: vec![cmd] });
                self.places.push(vec![place]);
            }
        }
    }

    /// The places of all commands.
    fn places(&self) -> impl Iterator<Item = usize> {
        self.places.iter().flatten().copied()
    }

    fn run(
        &self,
        view: &View,
        within: std::time::Duration,
        traffic: Traffic,
        mut take: impl FnMut(NodeIndex, usize, Result<Reply, ringfs_link::LinkError>),
    ) {
        let replies: Vec<Replies> = exchange(view, &self.batches, within, Haste::Normal, traffic);
        for ((batch, places), replies) in self.batches.iter().zip(&self.places).zip(replies) {
            for (place, reply) in places.iter().zip(replies) {
                take(batch.node, *place, reply);
            }
        }
    }
}
