//! Lanes: how a mutation takes effect exactly once.
//!
//! A lane carries one mutation at a time and numbers them. The server keeps, for each lane, the
//! number and the reply of the last one that took effect. So a request whose reply did not come is
//! sent again under its number, over a new connection: if it had taken effect the server gives the
//! reply again; if not it takes effect now. Each request also names the last number whose reply
//! was received: a server that does not remember it has lost acknowledged operations.
//!
//! Errors (and answers that nothing had to be done) change nothing and are not remembered. That leaves one gap: a first copy that is stuck on
//! its way, a second copy that gets an error, and the first arriving after all. So after such an
//! error the lane is sealed: one more number is used up, which the first copy does not expect.

use crate::error::MetaError;
use crate::scripts::SEAL;
use crate::shard::{FENCED, LOST, Patience, Shard, UNCHANGED, is_passing, refused, split};
use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use ringfs_base::{Errno, SessionId};
use ringfs_link::{LinkError, PooledConn, Script};
use std::sync::Arc;

/// Most mutations of a session under way at once in a shard; more wait.
pub const LANES_MAX: usize = 128;

struct Lane {
    number: u16,
    /// The last number used.
    seq: u64,
    /// The last number whose reply came and is remembered.
    acknowledged: u64,
    conn: Option<PooledConn>,
}

#[derive(Default)]
struct State {
    idle: Vec<Lane>,
    busy: usize,
    next_number: u16,
}

/// The lanes of a session in one shard.
pub struct Lanes {
    session: SessionId,
    shard: Arc<Shard>,
    state: Mutex<State>,
    returned: Condvar,
}

impl Lanes {
    pub fn new(session: SessionId, shard: Arc<Shard>) -> Lanes {
        Lanes { session, shard, state: Mutex::default(), returned: Condvar::new() }
    }

    fn take(&self) -> Result<Lane, MetaError> {
        let mut state = self.state.lock();
        while state.idle.is_empty() && state.busy >= LANES_MAX {
            ringfs_link::about_to_wait();
            self.returned.wait(&mut state);
        }
        let lane = match state.idle.pop() {
            Some(lane) => lane,
            None => {
                let number = state.next_number;
                // 65,535 lanes retired: the server has been failing for hours.
                state.next_number = number.checked_add(1).ok_or(Errno::EIO)?;
                Lane { number, seq: 0, acknowledged: 0, conn: None }
            }
        };
        state.busy += 1;
        Ok(lane)
    }

    /// Gives the lane back, or retires it: then its number is never used again.
    fn put(&self, lane: Option<Lane>) {
        let mut state = self.state.lock();
        state.busy -= 1;
        state.idle.extend(lane);
        drop(state);
        self.returned.notify_one();
    }

    /// Runs a mutation: its reply's first byte, which is 0 or an errno, and the rest.
    pub fn mutate(&self, script: &Script, args: &[&[u8]]) -> Result<(u8, Bytes), MetaError> {
        let mut lane = self.take()?;
        let (result, unsure) = self.send(&mut lane, script, args);
        let clear = match &result {
            Ok((0, _)) => true,
            // The request was refused, but a copy of it may be on its way still.
            Ok(_) if unsure => matches!(self.send(&mut lane, &SEAL, &[]).0, Ok((0, _))),
            Ok(_) => true,
            Err(_) => !unsure,
        };
        self.put(clear.then_some(lane));
        match result? {
            (FENCED, _) => Err(MetaError::Fenced),
            (UNCHANGED, rest) => Ok((0, rest)),
            (LOST, rest) => Err(MetaError::Lost(lost_text(&rest))),
            reply => Ok(reply),
        }
    }

    /// Sends until there is a reply. Also tells whether a copy may be on its way still.
    fn send(
        &self,
        lane: &mut Lane,
        script: &Script,
        args: &[&[u8]],
    ) -> (Result<(u8, Bytes), MetaError>, bool) {
        lane.seq += 1;
        let mut header = [0; 26];
        header[..8].copy_from_slice(&self.session.to_bytes());
        header[8..10].copy_from_slice(&lane.number.to_be_bytes());
        header[10..18].copy_from_slice(&lane.seq.to_be_bytes());
        header[18..].copy_from_slice(&lane.acknowledged.to_be_bytes());
        let mut all: Vec<&[u8]> = Vec::with_capacity(args.len() + 1);
        all.push(&header);
        all.extend_from_slice(args);

        let mut patience = Patience::new(self.shard.patience);
        let mut unsure = false;
        loop {
            let error = match self.attempt(lane, script, &all) {
                Ok(reply) => {
                    let reply = split(script, reply);
                    if matches!(reply, Ok((0, _))) {
                        lane.acknowledged = lane.seq;
                    }
                    return (reply, unsure);
                }
                Err(error) => error,
            };
            if error.breaks_connection() {
                lane.conn = None;
            }
            unsure |= error.outcome_unknown();
            if !is_passing(&error) || !patience.pause() {
                return (Err(refused(error)), unsure);
            }
        }
    }

    fn attempt(
        &self,
        lane: &mut Lane,
        script: &Script,
        args: &[&[u8]],
    ) -> Result<ringfs_link::Reply, LinkError> {
        let conn = match &mut lane.conn {
            Some(conn) => conn,
            none => none.insert(self.shard.pool.get()?),
        };
        conn.eval(script, &[self.shard.control.as_bytes()], args)
    }
}

fn lost_text(remembered: &[u8]) -> String {
    let number = remembered.try_into().map_or(0, u64::from_be_bytes);
    format!(
        "it remembers only {number} of them on one connection, so it came back with older data; \
         look for a replica or a backup that has them, then run `ringfs fsck`"
    )
}
