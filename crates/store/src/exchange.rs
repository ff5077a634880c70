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

/// What travels, which decides how replies are best waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Traffic {
    /// Commands of a few hundred bytes each, so that all of them can be sent before any reply is
    /// received. Replies are then received one node after the other, each large string in a single
    /// call of the kernel, while the other servers go on filling their sockets.
    Questions,
    /// Large commands with small replies: all sockets are served as they become ready, because a
    /// server that is not read from may stop reading.
    Payloads,
}

/// A node that comes late in the order of receiving still gets this long after the deadline to have
/// its answer, which has been waiting in the socket, taken.
const TAKING_TIME: Duration = Duration::from_millis(200);

/// One result for each command.
pub(crate) type Replies = Vec<Result<Reply, LinkError>>;

/// Sends each batch to its node, all at the same time, and waits for the replies.
pub(crate) fn exchange(
    view: &View,
    batches: &[Batch<'_>],
    within: Duration,
    haste: Haste,
    traffic: Traffic,
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
        let deadline = Instant::now() + within;
        let replies = match traffic {
            Traffic::Questions => ask_in_turn(batches, &mut conns, deadline),
            Traffic::Payloads => {
                let mut jobs: Vec<Job<'_>> = conns
                    .iter_mut()
                    .map(|(place, conn)| Job { conn, cmds: &batches[*place].cmds })
                    .collect();
                gather_jobs(&mut jobs, deadline)
            }
        };
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

fn ask_in_turn(
    batches: &[Batch<'_>],
    conns: &mut [(usize, PooledConn)],
    deadline: Instant,
) -> Vec<Replies> {
    let mut all: Vec<Replies> = conns.iter().map(|_| Vec::new()).collect();
    take_in_turn(batches, conns, deadline, |at, _, reply| all[at].push(reply));
    all
}

/// Sends each batch to its node and hands over every reply as soon as it is received, so that only
/// one large reply is in memory at a time. `take` is called with the places of batch and command.
/// Repeats nothing.
pub(crate) fn ask_each(
    view: &View,
    batches: &[Batch<'_>],
    within: Duration,
    mut take: impl FnMut(usize, usize, Result<Reply, LinkError>),
) {
    let mut conns: Vec<(usize, PooledConn)> = Vec::with_capacity(batches.len());
    for (place, batch) in batches.iter().enumerate() {
        let peer = view.peer(batch.node).ok_or_else(unknown_node);
        match peer.and_then(|peer| peer.connect(Haste::Normal)) {
            Ok(conn) => conns.push((place, conn)),
            Err(error) => {
                (0..batch.cmds.len()).for_each(|cmd| take(place, cmd, Err(error.clone())))
            }
        }
    }
    let places: Vec<usize> = conns.iter().map(|(place, _)| *place).collect();
    let deadline = Instant::now() + within;
    take_in_turn(batches, &mut conns, deadline, |at, cmd, reply| take(places[at], cmd, reply));
}

fn take_in_turn(
    batches: &[Batch<'_>],
    conns: &mut [(usize, PooledConn)],
    deadline: Instant,
    mut take: impl FnMut(usize, usize, Result<Reply, LinkError>),
) {
    let sent: Vec<Result<(), LinkError>> = conns
        .iter_mut()
        .map(|(place, conn)| conn.send_all(&batches[*place].cmds, deadline))
        .collect();
    for (at, ((place, conn), sent)) in conns.iter_mut().zip(sent).enumerate() {
        for cmd in 0..batches[*place].cmds.len() {
            // A broken connection repeats its error for every reply that is still to come.
            let reply = match &sent {
                Ok(()) => conn.recv(deadline.max(Instant::now() + TAKING_TIME)),
                Err(error) => Err(error.clone()),
            };
            take(at, cmd, reply);
        }
    }
}

fn unknown_node() -> LinkError {
    LinkError::Unavailable {
        server: ServerName::UNKNOWN,
        cause: "the placement names a node that is not in the list".to_owned(),
    }
}
