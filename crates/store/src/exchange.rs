//! Commands to several nodes at once, from one thread.
//!
//! Every command that this crate sends may be repeated: blocks never change, so writing or removing
//! one twice ends as once. A connection that was cut is therefore replaced and the command sent
//! again, once; a time-out is not repeated, for the caller has other nodes to ask.

use crate::node::{Haste, View};
use crate::placement::NodeIndex;
use ringfs_link::{Cmd, Job, LinkError, PooledConn, Reply, ServerName, gather_jobs};
use std::time::{Duration, Instant};

/// Commands for one node.
pub(crate) struct Batch<'a> {
    pub(crate) node: NodeIndex,
    pub(crate) cmds: Vec<Cmd<'a>>,
}

/// One result for each command.
pub(crate) type Replies = Vec<Result<Reply, LinkError>>;

/// Sends each batch to its node, all at the same time, and waits for the replies.
pub(crate) fn exchange(
    view: &View,
    batches: &[Batch<'_>],
    within: Duration,
    haste: Haste,
) -> Vec<Replies> {
    let mut results: Vec<Replies> = batches.iter().map(|_| Vec::new()).collect();
    let mut open: Vec<usize> = (0..batches.len()).collect();
    for attempt in 0..2 {
        let mut conns: Vec<(usize, PooledConn)> = Vec::with_capacity(open.len());
        for place in open.drain(..) {
            let batch = &batches[place];
            match view.peer(batch.node).ok_or_else(unknown_node).and_then(|p| p.connect(haste)) {
                Ok(conn) => conns.push((place, conn)),
                Err(error) => results[place] = vec![Err(error); batch.cmds.len()],
            }
        }
        let mut jobs: Vec<Job<'_>> = conns
            .iter_mut()
            .map(|(place, conn)| Job { conn, cmds: &batches[*place].cmds })
            .collect();
        let replies = gather_jobs(&mut jobs, Instant::now() + within);
        drop(jobs);
        for ((place, conn), replies) in conns.iter().zip(replies) {
            let cut = conn.broken().is_some_and(|e| !matches!(e, LinkError::TimedOut { .. }));
            if cut && attempt == 0 {
                open.push(*place);
            }
            results[*place] = replies;
        }
        if open.is_empty() {
            break;
        }
    }
    results
}

fn unknown_node() -> LinkError {
    LinkError::Unavailable {
        server: ServerName::UNKNOWN,
        cause: "the placement names a node that is not in the list".to_owned(),
    }
}
