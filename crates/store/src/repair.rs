//! Looking at the copies of blocks, and making every owner hold a good one.

use crate::Shared;
use crate::error::StoreError;
use crate::exchange::{Batch, Traffic, exchange};
use crate::frame::{Damage, Header, PREFIX_BYTES, header_bytes};
use crate::node::{Haste, View};
use crate::placement::NodeIndex;
use bytes::Bytes;
use ringfs_base::{BlockId, NodeName};
use ringfs_link::{Cmd, LinkError, Reply};

/// What one node has of a block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CopyState {
    /// A good copy, as far as was looked.
    Good,
    /// Nothing.
    Missing,
    /// A copy that cannot be used.
    Bad(Damage),
    /// The node did not answer, or refused to.
    Unreachable(LinkError),
}

/// One node's copy of a block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Copy {
    /// The node's place in the store's list.
    pub node: NodeIndex,
    /// Whether the ring wants a copy there.
    pub is_owner: bool,
    /// What is there.
    pub state: CopyState,
    /// Bytes of it as it is stored; 0 if that is not known.
    pub bytes: usize,
}

/// How closely copies are looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Depth {
    /// Existence, length, and header with its checksums: a few hundred bytes for each copy.
    Header,
    /// Every byte is read and verified, and compressed segments are unpacked.
    Contents,
}

/// Where copies are looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// On the owners.
    Owners,
    /// On all nodes that are up, and the owners.
    Everywhere,
}

/// What repair does with copies on nodes that do not own the block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Surplus {
    /// Leaves them.
    Keep,
    /// Removes them once all owners have good copies. Only for the holder of the cluster's lease
    /// at the current epoch: under an older table the new owners look like surplus.
    Drop,
}

/// How a repair went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Repaired {
    /// Owners the block has.
    pub owners: usize,
    /// Owners that now have a good copy.
    pub owners_good: usize,
    /// Of these, the ones that were written by this repair.
    pub written: usize,
    /// Surplus copies removed.
    pub dropped: usize,
}

/// Bytes of frames that one round trip of [`check_many`] may fetch.
const CHECK_BYTES_MAX: usize = 32 << 20;
/// Blocks in one round trip of a check of headers.
const CHECK_BLOCKS_MAX: usize = 512;
/// Enough for the header and index of a full block at the default segment size.
const HEADER_GUESS: usize = header_bytes(64);

pub(crate) fn check_many(
    shared: &Shared,
    blocks: &[BlockId],
    depth: Depth,
    scope: Scope,
) -> Vec<Vec<Copy>> {
    let view = shared.view();
    let asked = |block: &BlockId| {
        let owners = view.placement.owners(*block);
        let others = match scope {
            Scope::Owners => Vec::new(),
            Scope::Everywhere => view.others(*block, &owners),
        };
        (*block, [owners, others].concat())
    };
    blocks
        .chunks(batch_of(depth))
        .flat_map(|blocks| {
            let asks: Vec<_> = blocks.iter().map(asked).collect();
            check_batch(shared, &view, &asks, depth)
        })
        .collect()
}

/// Like [`check_many`], on the nodes named with each block.
pub(crate) fn check_on(
    shared: &Shared,
    asks: &[(BlockId, Vec<NodeIndex>)],
    depth: Depth,
) -> Vec<Vec<Copy>> {
    let view = shared.view();
    asks.chunks(batch_of(depth)).flat_map(|asks| check_batch(shared, &view, asks, depth)).collect()
}

fn batch_of(depth: Depth) -> usize {
    match depth {
        Depth::Header => CHECK_BLOCKS_MAX,
        Depth::Contents => CHECK_BYTES_MAX / ringfs_base::limits::BLOCK_BYTES as usize,
    }
}

fn check_batch(
    shared: &Shared,
    view: &View,
    asks: &[(BlockId, Vec<NodeIndex>)],
    depth: Depth,
) -> Vec<Vec<Copy>> {
    let mut batches: Vec<Batch<'_>> = Vec::new();
    let mut places: Vec<Vec<(usize, bool)>> = Vec::new();
    for (place, (block, nodes)) in asks.iter().enumerate() {
        let owners = view.placement.owners(*block);
        let key = shared.keys.key(*block);
        for node in nodes {
            let cmds = match depth {
                Depth::Header => vec![
                    Cmd::new("GETRANGE").arg(&key).int(0).int(HEADER_GUESS as i64 - 1),
                    Cmd::new("STRLEN").arg(&key),
                ],
                Depth::Contents => vec![Cmd::new("GET").arg(&key)],
            };
            let slot = match batches.iter().position(|batch| batch.node == *node) {
                Some(slot) => slot,
                None => {
                    batches.push(Batch { node: *node, cmds: Vec::new() });
                    places.push(Vec::new());
                    batches.len() - 1
                }
            };
            batches[slot].cmds.extend(cmds);
            places[slot].push((place, owners.contains(node)));
        }
    }
    let bytes = match depth {
        Depth::Header => 0,
        Depth::Contents => CHECK_BYTES_MAX * batches.len(),
    };
    let replies = exchange(
        view,
        &batches,
        shared.config.reply_within(bytes),
        Haste::Normal,
        Traffic::Questions,
    );
    let mut found: Vec<Vec<Copy>> = asks.iter().map(|_| Vec::new()).collect();
    for ((batch, places), replies) in batches.iter().zip(places).zip(replies) {
        let mut replies = replies.into_iter();
        for (place, is_owner) in places {
            let mut next = || replies.next().unwrap_or(Ok(Reply::Nil));
            let block = asks[place].0;
            let (state, bytes) = match depth {
                Depth::Header => {
                    let head = next().and_then(Reply::into_bytes);
                    let length = next().and_then(Reply::into_int);
                    let bytes = length.as_ref().map_or(0, |length| *length as usize);
                    (judge_header(shared, block, head, length), bytes)
                }
                Depth::Contents => match next().and_then(Reply::into_bytes) {
                    Ok(None) => (CopyState::Missing, 0),
                    Ok(Some(frame)) => match verify(shared, block, &frame) {
                        Ok(()) => (CopyState::Good, frame.len()),
                        Err(damage) => (CopyState::Bad(damage), frame.len()),
                    },
                    Err(error) => (unreadable(error), 0),
                },
            };
            if matches!(state, CopyState::Bad(_)) {
                shared.counters.bad_copies.add(1);
            }
            found[place].push(Copy { node: batch.node, is_owner, state, bytes });
        }
    }
    for copies in &mut found {
        // Batches are in order of first use; owners come first in every answer.
        copies.sort_by_key(|copy| !copy.is_owner);
    }
    found
}

/// A reply that is no string at all: the key has another type, written by somebody else.
fn unreadable(error: LinkError) -> CopyState {
    if error.code() == Some("WRONGTYPE") {
        CopyState::Bad(Damage::Magic)
    } else {
        CopyState::Unreachable(error)
    }
}

fn judge_header(
    shared: &Shared,
    block: BlockId,
    head: Result<Option<Bytes>, LinkError>,
    length: Result<i64, LinkError>,
) -> CopyState {
    let (head, length) = match (head, length) {
        (Ok(head), Ok(length)) => (head.unwrap_or_default(), length as usize),
        (Err(error), _) | (_, Err(error)) => return unreadable(error),
    };
    if length == 0 {
        return CopyState::Missing;
    }
    let judged = Header::parse(&head).and_then(|header| {
        header.require(&shared.identity(block), None)?;
        let want = header.frame_len();
        match length {
            have if have < want => Err(Damage::Short { have, want }),
            have if have > want => Err(Damage::Long(have - want)),
            _ => Ok(()),
        }
    });
    match judged {
        Ok(()) => CopyState::Good,
        // The index is longer than the guess, as one of small segments is: that is no damage, and
        // what was seen of the header is in order.
        Err(Damage::Short { have, want })
            if have == HEADER_GUESS && have >= PREFIX_BYTES && want <= length =>
        {
            CopyState::Good
        }
        Err(damage) => CopyState::Bad(damage),
    }
}

/// Verifies a whole frame.
pub(crate) fn verify(shared: &Shared, block: BlockId, frame: &[u8]) -> Result<(), Damage> {
    let header = Header::parse(frame)?;
    header.require(&shared.identity(block), None)?;
    header.verify(frame)
}

/// What the nodes hold, with one good frame if there is one.
struct Survey {
    good: Option<(NodeIndex, Bytes)>,
    states: Vec<(NodeIndex, CopyState)>,
}

/// Fetches and verifies whole copies from all of `nodes`.
fn survey(shared: &Shared, view: &View, block: BlockId, nodes: &[NodeIndex]) -> Survey {
    let key = shared.keys.key(block);
    let batches: Vec<Batch<'_>> = nodes
        .iter()
        .map(|node| Batch { node: *node, cmds: vec![Cmd::new("GET").arg(&key)] })
        .collect();
    let bytes = nodes.len() << 20;
    let replies = exchange(
        view,
        &batches,
        shared.config.reply_within(bytes),
        Haste::Normal,
        Traffic::Questions,
    );
    let mut survey = Survey { good: None, states: Vec::new() };
    for (node, reply) in nodes.iter().zip(replies.into_iter().flatten()) {
        let state = match reply.and_then(Reply::into_bytes) {
            Ok(None) => CopyState::Missing,
            Ok(Some(frame)) => match verify(shared, block, &frame) {
                Ok(()) => {
                    survey.good.get_or_insert((*node, frame));
                    CopyState::Good
                }
                Err(damage) => CopyState::Bad(damage),
            },
            Err(error) => unreadable(error),
        };
        survey.states.push((*node, state));
    }
    survey
}

pub(crate) fn repair(
    shared: &Shared,
    block: BlockId,
    surplus: Surplus,
) -> Result<Repaired, StoreError> {
    let view = shared.view();
    let owners = view.placement.owners(block);
    let mut seen = survey(shared, &view, block, &owners);
    let mut elsewhere = Vec::new();
    let all_good = seen.states.iter().all(|(_, state)| *state == CopyState::Good);
    if seen.good.is_none() {
        // One after the other: there may be many, and the first that has it suffices.
        for node in view.others(block, &owners) {
            let one = survey(shared, &view, block, &[node]);
            elsewhere.extend(one.states);
            if one.good.is_some() {
                seen.good = one.good;
                break;
            }
        }
    }
    let Some((_, frame)) = &seen.good else {
        return Err(no_copy(&view, block, seen.states.into_iter().chain(elsewhere)));
    };
    let mut repaired = Repaired {
        owners: owners.len(),
        owners_good: seen.states.iter().filter(|(_, s)| *s == CopyState::Good).count(),
        ..Repaired::default()
    };
    if !all_good {
        let key = shared.keys.key(block);
        let batches: Vec<Batch<'_>> = seen
            .states
            .iter()
            .filter_map(|(node, state)| {
                let set = Cmd::new("SET").arg(&key).payload(frame);
                match state {
                    // If a copy has come in the meantime it is as good as ours.
                    CopyState::Missing => Some(Batch { node: *node, cmds: vec![set.arg("NX")] }),
                    // A newer program knows better what this is.
                    CopyState::Bad(Damage::Newer { .. }) => None,
                    CopyState::Bad(_) => Some(Batch { node: *node, cmds: vec![set] }),
                    CopyState::Good | CopyState::Unreachable(_) => None,
                }
            })
            .collect();
        let within = shared.config.reply_within(frame.len() * batches.len());
        let replies = exchange(&view, &batches, within, Haste::Normal, Traffic::Payloads);
        for (batch, reply) in batches.iter().zip(replies.into_iter().flatten()) {
            match reply.and_then(Reply::into_ok) {
                Ok(_) => repaired.written += 1,
                Err(error) => {
                    shared.counters.repairs_failed.add(1);
                    let node = view.name(batch.node);
                    tracing::warn!(%block, ?node, %error, "a copy could not be rewritten");
                }
            }
        }
        shared.counters.copies_repaired.add(repaired.written);
        repaired.owners_good += repaired.written;
    }
    if surplus == Surplus::Drop && repaired.owners > 0 && repaired.owners_good == repaired.owners {
        repaired.dropped = drop_surplus(shared, &view, block, &owners);
        shared.counters.copies_dropped.add(repaired.dropped);
    }
    Ok(repaired)
}

fn drop_surplus(shared: &Shared, view: &View, block: BlockId, owners: &[NodeIndex]) -> usize {
    let key = shared.keys.key(block);
    let batches: Vec<Batch<'_>> = view
        .others(block, owners)
        .into_iter()
        .map(|node| Batch { node, cmds: vec![Cmd::new("UNLINK").arg(&key)] })
        .collect();
    let replies =
        exchange(view, &batches, shared.config.reply_within(0), Haste::Normal, Traffic::Questions);
    let mut dropped = 0;
    for reply in replies.into_iter().flatten() {
        match reply.and_then(Reply::into_int) {
            Ok(count) => dropped += count as usize,
            Err(_) => shared.counters.removals_failed.add(1),
        }
    }
    dropped
}

fn no_copy(
    view: &View,
    block: BlockId,
    states: impl Iterator<Item = (NodeIndex, CopyState)>,
) -> StoreError {
    let mut tried: Vec<NodeName> = Vec::new();
    let (mut bad, mut causes) = (Vec::new(), Vec::new());
    for (node, state) in states {
        let Some(name) = view.name(node) else { continue };
        match state {
            CopyState::Good => {}
            CopyState::Missing => tried.push(name),
            CopyState::Bad(damage) => bad.push((name, damage)),
            CopyState::Unreachable(error) => causes.push((name, error)),
        }
    }
    if !causes.is_empty() || (bad.is_empty() && tried.is_empty()) {
        StoreError::Unavailable { block, causes }
    } else if !bad.is_empty() {
        StoreError::Corrupt { block, bad }
    } else {
        StoreError::Missing { block, tried }
    }
}
