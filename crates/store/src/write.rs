//! Writing blocks: all copies at once, stand-ins for nodes that fail.

use crate::Shared;
use crate::error::StoreError;
use crate::exchange::{Batch, Traffic, exchange};
use crate::frame::{Encoded, RAW_BYTES_MAX};
use crate::mender::Task;
use crate::node::{Haste, View};
use crate::placement::NodeIndex;
use crate::tracker::{Outcome, Tracker, Verdict};
use ringfs_base::BlockId;
use ringfs_link::{Cmd, Health, LinkError};

/// How a successful write went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Written {
    /// Copies that no node could take: the data is safe against fewer failures than it should be,
    /// until repair.
    pub copies_short: usize,
    /// Copies that are on stand-ins until their owners are back.
    pub copies_on_stand_ins: usize,
}

impl Written {
    /// Whether any copy is not where it belongs.
    pub fn is_degraded(&self) -> bool {
        self.copies_short + self.copies_on_stand_ins > 0
    }
}

pub(crate) fn write(shared: &Shared, blocks: &[(BlockId, &[u8])]) -> Result<Written, StoreError> {
    for (block, raw) in blocks {
        if raw.is_empty() || raw.len() > RAW_BYTES_MAX as usize {
            let what = "a block holds 1 byte to 4 MiB";
            return Err(StoreError::Invalid { block: *block, what });
        }
    }
    let shift = shared.config.segment_shift();
    let frames: Vec<Encoded<'_>> = blocks
        .iter()
        .map(|(block, raw)| Encoded::new(&shared.identity(*block), shared.config.codec, shift, raw))
        .collect();
    let parts: Vec<Vec<&[u8]>> = frames.iter().map(Encoded::parts).collect();
    let cmds: Vec<Cmd<'_>> = blocks
        .iter()
        .zip(&parts)
        .map(|((block, _), parts)| {
            Cmd::new("SET").arg(shared.keys.key(*block)).payload_parts(parts)
        })
        .collect();
    let frame_bytes: Vec<usize> = frames.iter().map(Encoded::frame_len).collect();

    let view = shared.view();
    let placed = match place(shared, &view, blocks, &cmds, &frame_bytes, Haste::Normal) {
        // Every node is in doubt: then it is time to try them all the same.
        Err(StoreError::Unavailable { .. }) => {
            place(shared, &view, blocks, &cmds, &frame_bytes, Haste::LastResort)
        }
        other => other,
    }?;
    let stats = &shared.counters;
    stats.blocks_written.add(blocks.len());
    stats.bytes_written.add(blocks.iter().map(|(_, raw)| raw.len()).sum());
    stats.copies_on_stand_ins.add(placed.copies_on_stand_ins);
    stats.copies_short.add(placed.copies_short);
    Ok(placed)
}

fn place(
    shared: &Shared,
    view: &View,
    blocks: &[(BlockId, &[u8])],
    cmds: &[Cmd<'_>],
    frame_bytes: &[usize],
    haste: Haste,
) -> Result<Written, StoreError> {
    let placement = &view.placement;
    let mut tracker = Tracker::new(blocks.iter().map(|(block, _)| placement.owners(*block)));
    let mut causes: Vec<(NodeIndex, LinkError)> = Vec::new();
    loop {
        let mut sends: Vec<(NodeIndex, Vec<usize>)> = Vec::new();
        // A node in doubt is replaced before anything is sent, so that its stand-in's copy
        // travels together with the others.
        loop {
            let wave =
                tracker.next_wave(|place, lost| placement.stand_ins_without(blocks[place].0, lost));
            if wave.is_empty() {
                break;
            }
            for (place, node) in wave {
                let down = haste == Haste::Normal && placement.is_down(node);
                let usable = view.peer(node).is_some_and(|peer| {
                    haste == Haste::LastResort || !(peer.is_suspect() || peer.refuses_writes())
                });
                if down || !usable {
                    if let Some(Health::Suspect { cause, .. }) =
                        view.peer(node).map(|peer| peer.pool.health())
                    {
                        note(&mut causes, node, cause);
                    }
                    tracker.record(place, node, Outcome::Failed);
                } else {
                    match sends.iter_mut().find(|(to, _)| *to == node) {
                        Some((_, places)) => places.push(place),
                        None => sends.push((node, vec![place])),
                    }
                }
            }
        }
        if sends.is_empty() {
            break;
        }
        let batches: Vec<Batch<'_>> = sends
            .iter()
            .map(|(node, places)| Batch {
                node: *node,
                cmds: places.iter().map(|place| cmds[*place].clone()).collect(),
            })
            .collect();
        let bytes: usize =
            sends.iter().flat_map(|(_, places)| places).map(|p| frame_bytes[*p]).sum();
        shared.counters.bytes_sent.add(bytes);
        let within = shared.config.reply_within(bytes);
        let replies = exchange(view, &batches, within, haste, Traffic::Payloads);
        drop(batches);
        for ((node, places), replies) in sends.iter().zip(replies) {
            for (place, reply) in places.iter().zip(replies) {
                let outcome = match reply.and_then(|reply| reply.into_ok()) {
                    Ok(_) => Outcome::Stored,
                    Err(error) if error.is_oom() => Outcome::Full,
                    Err(error) => {
                        if let Some(peer) = view.peer(*node) {
                            peer.note_refusal(&error);
                        }
                        shared.mender.wake();
                        note(&mut causes, *node, error);
                        Outcome::Failed
                    }
                };
                tracker.record(*place, *node, outcome);
            }
        }
    }
    conclude(shared, view, blocks, &tracker, causes)
}

fn conclude(
    shared: &Shared,
    view: &View,
    blocks: &[(BlockId, &[u8])],
    tracker: &Tracker,
    causes: Vec<(NodeIndex, LinkError)>,
) -> Result<Written, StoreError> {
    match tracker.verdict(shared.config.min_copies) {
        Verdict::Done { short, stand_ins } => {
            if short + stand_ins > 0 {
                for place in tracker.displaced() {
                    shared.mender.send(Task::Owed(blocks[place].0));
                }
            }
            Ok(Written { copies_short: short, copies_on_stand_ins: stand_ins })
        }
        Verdict::Full { block, nodes } => {
            // What was stored before memory ran out must not take up memory until the next
            // garbage collection.
            take_back(shared, view, blocks, tracker);
            Err(StoreError::Full { block: blocks[block].0, nodes: view.names(nodes) })
        }
        Verdict::Unavailable { block, nodes } => {
            let causes = causes
                .into_iter()
                .filter(|(node, _)| nodes.contains(node))
                .filter_map(|(node, cause)| Some((view.name(node)?, cause)))
                .collect();
            Err(StoreError::Unavailable { block: blocks[block].0, causes })
        }
    }
}

fn take_back(shared: &Shared, view: &View, blocks: &[(BlockId, &[u8])], tracker: &Tracker) {
    let mut batches: Vec<Batch<'_>> = Vec::new();
    for (place, node) in tracker.stored() {
        let cmd = Cmd::new("UNLINK").arg(shared.keys.key(blocks[place].0));
        match batches.iter_mut().find(|batch| batch.node == node) {
            Some(batch) => batch.cmds.push(cmd),
            None => batches.push(Batch { node, cmds: vec![cmd] }),
        }
    }
    let results =
        exchange(view, &batches, shared.config.reply_within(0), Haste::Normal, Traffic::Questions);
    let failed = results.iter().flatten().filter(|reply| reply.is_err()).count();
    shared.counters.removals_failed.add(failed);
}

/// Keeps the latest failure of each node.
fn note(causes: &mut Vec<(NodeIndex, LinkError)>, node: NodeIndex, cause: LinkError) {
    match causes.iter_mut().find(|(known, _)| *known == node) {
        Some((_, known)) => *known = cause,
        None => causes.push((node, cause)),
    }
}
