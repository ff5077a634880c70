//! Lanes: how a mutation takes effect exactly once.
//!
//! A lane carries one mutation at a time and numbers them. The server keeps, for each lane, the
//! number and the reply of the last one that took effect. So a request whose reply did not come is
//! sent again under its number, over a new connection: if it had taken effect the server gives the
//! reply again; if not it takes effect now. Each request also names the last number whose reply
//! was received: a server that does not remember it has lost acknowledged operations.
//!
//! When nobody answers for longer than a caller waits, the request is undecided: it keeps its lane and
//! number for as long as the caller keeps it, and can be repeated as the same one. The file system
//! keeps at most one; a lane whose request is given up undecided is never used again.
//!
//! Errors (and answers that nothing had to be done) change nothing and are not remembered. That
//! leaves one gap: a first copy that is stuck on its way, a second copy that gets an error, and the first arriving after all. So after such an
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

#[derive(Debug)]
struct Lane {
    number: u16,
    /// The last number used.
    seq: u64,
    /// The last number whose reply came and is remembered.
    acknowledged: u64,
    conn: Option<PooledConn>,
}

/// A mutation whose outcome is unknown: it may have taken effect, or may do so later. It owns its
/// lane and its number, so that exactly this request can be repeated until the server tells.
/// Dropped, its lane is retired and the outcome stays unknown.
#[derive(Debug)]
pub struct Undecided {
    lane: Lane,
    script: &'static Script,
    args: Vec<Vec<u8>>,
}

/// A mutation that failed.
#[derive(Debug)]
pub struct Failed {
    pub error: MetaError,
    /// What to repeat, if the outcome is unknown.
    pub undecided: Option<Box<Undecided>>,
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
    pub fn mutate(
        &self,
        script: &'static Script,
        args: &[&[u8]],
    ) -> Result<(u8, Bytes), MetaError> {
        self.run(script, args).map_err(|failed| failed.error)
    }

    /// The same; when the outcome stays unknown the failure holds the request, for
    /// [`Self::repeat`].
    pub fn run(&self, script: &'static Script, args: &[&[u8]]) -> Result<(u8, Bytes), Failed> {
        let mut lane = self.take().map_err(|error| Failed { error, undecided: None })?;
        lane.seq += 1;
        let (result, unsure) = self.send(&mut lane, script, args);
        self.conclude(lane, result, unsure, |lane| Undecided {
            lane,
            script,
            args: args.iter().map(|arg| arg.to_vec()).collect(),
        })
    }

    /// Sends an undecided mutation again, under its number.
    pub fn repeat(&self, undecided: Undecided) -> Result<(u8, Bytes), Failed> {
        let Undecided { mut lane, script, args } = undecided;
        self.state.lock().busy += 1;
        let borrowed: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let (result, _) = self.send(&mut lane, script, &borrowed);
        // An earlier copy may be on its way whatever became of this one.
        self.conclude(lane, result, true, |lane| Undecided { lane, script, args })
    }

    fn conclude(
        &self,
        mut lane: Lane,
        result: Result<(u8, Bytes), MetaError>,
        unsure: bool,
        keep: impl FnOnce(Lane) -> Undecided,
    ) -> Result<(u8, Bytes), Failed> {
        let clear = match &result {
            Ok((0, _)) => true,
            // The request was refused, but a copy of it may be on its way still.
            Ok(_) if unsure => {
                lane.seq += 1;
                matches!(self.send(&mut lane, &SEAL, &[]).0, Ok((0, _)))
            }
            Ok(_) => true,
            Err(_) => !unsure,
        };
        let reply = match result {
            Err(error) if unsure => {
                self.put(None);
                return Err(Failed { error, undecided: Some(Box::new(keep(lane))) });
            }
            result => result,
        };
        self.put(clear.then_some(lane));
        let decided = |error| Failed { error, undecided: None };
        match reply.map_err(decided)? {
            (FENCED, _) => Err(decided(MetaError::Fenced)),
            (UNCHANGED, rest) => Ok((0, rest)),
            (LOST, rest) => Err(decided(MetaError::Lost(lost_text(&rest)))),
            reply => Ok(reply),
        }
    }

    /// Sends under the lane's number until there is a reply. Also tells whether a copy may be on its way still.
    fn send(
        &self,
        lane: &mut Lane,
        script: &Script,
        args: &[&[u8]],
    ) -> (Result<(u8, Bytes), MetaError>, bool) {
        let mut header = [0; 26];
        header[..8].copy_from_slice(&self.session.to_bytes());
        header[8..10].copy_from_slice(&lane.number.to_be_bytes());
        header[10..18].copy_from_slice(&lane.seq.to_be_bytes());
        header[18..].copy_from_slice(&lane.acknowledged.to_be_bytes());
        let mut all: Vec<&[u8]> = Vec::with_capacity(args.len() + 1);
        all.push(&header);
        all.extend_from_slice(args);

        let mut patience = Patience::new(&self.shard);
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
