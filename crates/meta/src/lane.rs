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
//! leaves one gap: a first copy that is stuck on its way, a second copy that gets an error, and the
//! first arriving after all. So after such an error the lane is sealed: one more number is used up,
//! which the first copy does not expect. Only then is the error certain; while it is not known
//! whether the seal is on, the request stays undecided, with the refusal that it got.

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
    /// What it was refused with; a seal that followed may be on, or not.
    refusal: Option<(u8, Bytes)>,
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
        let (outcome, refusal) = self.settle(&mut lane, script, args, None);
        self.conclude(lane, outcome, |lane| Undecided {
            lane,
            script,
            args: args.iter().map(|arg| arg.to_vec()).collect(),
            refusal,
        })
    }

    /// Sends an undecided mutation again, under its number.
    pub fn repeat(&self, undecided: Undecided) -> Result<(u8, Bytes), Failed> {
        let Undecided { mut lane, script, args, refusal } = undecided;
        self.state.lock().busy += 1;
        let borrowed: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let (outcome, refusal) = self.settle(&mut lane, script, &borrowed, Some(refusal));
        self.conclude(lane, outcome, |lane| Undecided { lane, script, args, refusal })
    }

    /// Sends the request under the lane's number, and makes sure of a refusal. `before` is there if
    /// a copy was sent before, with the refusal that it got. Also returns the last refusal that is
    /// not certain.
    fn settle(
        &self,
        lane: &mut Lane,
        script: &'static Script,
        args: &[&[u8]],
        before: Option<Option<(u8, Bytes)>>,
    ) -> (Outcome, Option<(u8, Bytes)>) {
        let mut repeated = before.is_some();
        let mut refusal = before.flatten();
        loop {
            let (result, unsure) = self.send(lane, script, args);
            repeated |= unsure;
            let reply = match result {
                Ok(reply) => reply,
                Err(error) if repeated => return (Outcome::Unknown(error), refusal),
                Err(error) => return (Outcome::Failed(error), refusal),
            };
            match judge(reply, repeated, lane.seq, refusal.take()) {
                Judged::Certain(reply) => return (Outcome::Told(reply), None),
                Judged::Sealed(reply) => {
                    // Its number is the last that the server remembers.
                    lane.seq += 1;
                    lane.acknowledged = lane.seq;
                    return (Outcome::Told(reply), None);
                }
                Judged::Over(reply) => return (Outcome::Over(reply), None),
                Judged::Refused(reply) => refusal = Some(reply),
            }
            lane.seq += 1;
            let (sealed, _) = self.send(lane, &SEAL, &[]);
            let kept = refusal.clone();
            match (sealed, refusal.take()) {
                (Ok((0, _)), Some(reply)) => return (Outcome::Told(reply), None),
                (Ok((LOST, rest)), _) if remembered(&rest) == Some(lane.seq - 1) => {
                    // An earlier copy was done after all: its reply is given again.
                    lane.seq -= 1;
                }
                (Ok(reply), _) => return (Outcome::Over(reply), None),
                (Err(error), _) => {
                    lane.seq -= 1;
                    return (Outcome::Unknown(error), kept);
                }
            }
        }
    }

    fn conclude(
        &self,
        lane: Lane,
        outcome: Outcome,
        keep: impl FnOnce(Lane) -> Undecided,
    ) -> Result<(u8, Bytes), Failed> {
        let decided = |error| Failed { error, undecided: None };
        let reply = match outcome {
            Outcome::Told(reply) => {
                self.put(Some(lane));
                reply
            }
            Outcome::Over(reply) => {
                self.put(None);
                reply
            }
            Outcome::Failed(error) => {
                self.put(Some(lane));
                return Err(decided(error));
            }
            Outcome::Unknown(error) => {
                self.put(None);
                return Err(Failed { error, undecided: Some(Box::new(keep(lane))) });
            }
        };
        match reply {
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
        self.shard.traffic.count(|| {
            let conn = match &mut lane.conn {
                Some(conn) => conn,
                none => none.insert(self.shard.pool.get()?),
            };
            conn.eval(script, &[self.shard.control.as_bytes()], args)
        })
    }
}

/// What became of a request.
enum Outcome {
    /// The reply is certain, and the lane can go on.
    Told((u8, Bytes)),
    /// The reply is certain, and nothing more can be done in this lane.
    Over((u8, Bytes)),
    /// It failed, and no copy of it is on its way.
    Failed(MetaError),
    /// It may have taken effect, or may do so later.
    Unknown(MetaError),
}

/// What a reply means.
#[derive(Debug, PartialEq, Eq)]
enum Judged {
    /// It is as the reply says.
    Certain((u8, Bytes)),
    /// It is as the refusal said: the seal that followed that is on.
    Sealed((u8, Bytes)),
    /// The session has been given up, or the server has forgotten: nothing goes on here.
    Over((u8, Bytes)),
    /// Refused, but another copy may take effect yet: the lane must be sealed.
    Refused((u8, Bytes)),
}

/// `seq` is the number of the request, `repeated` whether another copy of it may be on its way;
/// `refusal` what it was refused with before a seal was sent whose reply never came.
fn judge(reply: (u8, Bytes), repeated: bool, seq: u64, refusal: Option<(u8, Bytes)>) -> Judged {
    match (&reply, refusal) {
        ((0, _), _) => Judged::Certain(reply),
        ((LOST, rest), Some(refusal)) if remembered(rest) == Some(seq + 1) => {
            Judged::Sealed(refusal)
        }
        ((LOST | FENCED, _), _) => Judged::Over(reply),
        (_, _) if repeated => Judged::Refused(reply),
        (_, _) => Judged::Certain(reply),
    }
}

/// The number in a reply that says that the server remembers another than expected.
fn remembered(rest: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(rest.try_into().ok()?))
}

fn lost_text(rest: &[u8]) -> String {
    let number = remembered(rest).unwrap_or(0);
    format!(
        "it remembers only {number} of them on one connection, so it came back with older data; \
         look for a replica or a backup that has them, then run `ringfs fsck`"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(code: u8) -> (u8, Bytes) {
        (code, Bytes::new())
    }

    fn lost(number: u64) -> (u8, Bytes) {
        (LOST, Bytes::copy_from_slice(&number.to_be_bytes()))
    }

    #[test]
    fn a_refusal_is_certain_only_if_no_other_copy_can_arrive() {
        let no_space = reply(28);
        let judge = |reply, repeated, refusal| super::judge(reply, repeated, 7, refusal);
        assert_eq!(judge(reply(0), true, None), Judged::Certain(reply(0)));
        assert_eq!(judge(no_space.clone(), false, None), Judged::Certain(no_space.clone()));
        assert_eq!(judge(no_space.clone(), true, None), Judged::Refused(no_space.clone()));
        // Again after a seal that nobody heard of: it was not on.
        let again = judge(reply(116), true, Some(no_space.clone()));
        assert_eq!(again, Judged::Refused(reply(116)));
        assert_eq!(judge(lost(8), true, Some(no_space.clone())), Judged::Sealed(no_space.clone()));
        // No seal was sent, or the server remembers something else: it has forgotten.
        assert_eq!(judge(lost(8), true, None), Judged::Over(lost(8)));
        assert_eq!(judge(lost(3), true, Some(no_space)), Judged::Over(lost(3)));
        assert_eq!(judge(reply(FENCED), true, None), Judged::Over(reply(FENCED)));
    }
}
