//! Reading many ranges at once, as read-ahead does: one pipeline for each node.
//!
//! Each range is asked of the copy that a single read would ask first. What does not come back good
//! that way, for whatever reason, is read again by itself, with hedging, fall-over and repair.

use crate::Shared;
use crate::error::StoreError;
use crate::exchange::{Batch, ask_each};
use crate::placement::{NodeIndex, mix};
use crate::plan::owners_order;
use crate::read::read;
use crate::want::{Answer, Out, Want};
use ringfs_base::BlockId;

/// One range of [`crate::Store::read_many`].
#[derive(Debug)]
pub struct ReadReq<'a> {
    /// The block.
    pub id: BlockId,
    /// Its raw length in bytes, as the extents have it.
    pub raw_len: u32,
    /// First byte wanted.
    pub offset: u32,
    /// As many bytes as are wanted.
    pub out: &'a mut [u8],
}

/// Raw bytes of one round trip to all nodes: bounds the memory that replies take.
const ROUND_BYTES_MAX: usize = 32 << 20;

pub(crate) fn read_many(shared: &Shared, requests: &mut [ReadReq<'_>]) -> Result<(), StoreError> {
    let mut rest = requests;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fitting = rest
            .iter()
            .take_while(|request| {
                bytes += request.out.len();
                bytes <= ROUND_BYTES_MAX
            })
            .count();
        let (round, later) = rest.split_at_mut(fitting.max(1));
        read_round(shared, round)?;
        rest = later;
    }
    Ok(())
}

fn read_round(shared: &Shared, requests: &mut [ReadReq<'_>]) -> Result<(), StoreError> {
    let mut wants = Vec::with_capacity(requests.len());
    for request in requests.iter() {
        let (id, len) = (request.id, request.out.len());
        wants.push(Want::new(shared, id, request.raw_len, request.offset, len)?);
    }
    let view = shared.view();
    let mut batches: Vec<Batch<'_>> = Vec::new();
    let mut places: Vec<Vec<usize>> = Vec::new();
    let mut bytes = 0;
    for (place, want) in wants.iter().enumerate() {
        if want.len == 0 {
            continue;
        }
        bytes += want.len;
        let owners = view.placement.owners(want.block);
        let spread = shared.seed ^ mix(want.block.slice.0 ^ u64::from(want.block.index));
        let first = owners_order(&owners, spread, |node| view.condition(node)).first().copied();
        let node = first.unwrap_or(NodeIndex(usize::MAX));
        match batches.iter().position(|batch| batch.node == node) {
            Some(slot) => {
                batches[slot].cmds.push(want.cmd(shared));
                places[slot].push(place);
            }
            None => {
                batches.push(Batch { node, cmds: vec![want.cmd(shared)] });
                places.push(vec![place]);
            }
        }
    }
    let (mut good, mut again) = (0, Vec::new());
    let within = shared.config.reply_within(bytes);
    ask_each(&view, &batches, within, |batch, cmd, reply| {
        let place = places[batch][cmd];
        let (want, mut out) = (&wants[place], Out::Into(requests[place].out));
        if matches!(reply.map(|reply| want.take(shared, reply, &mut out)), Ok(Answer::Good)) {
            good += 1;
            shared.counters.bytes_read.add(want.len);
        } else {
            again.push(place);
        }
    });
    drop(batches);
    shared.counters.blocks_read.add(good);
    for place in again {
        // The single read finds the same trouble, and counts and repairs it.
        read(shared, &wants[place], &mut Out::Into(requests[place].out))?;
    }
    Ok(())
}
