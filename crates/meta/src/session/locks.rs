//! Advisory locks: taking, giving up, waiting.
//!
//! What holds and who waits is on the server, in the order in which requests came. The script
//! that gives a lock up grants it to the next at once; the waiter learns of it by the reply, if it
//! is of this session, or else by [`crate::Event::Lock`]. A message may be lost with its
//! connection: then [`crate::Event::Reset`] comes, and whoever waits asks again with the same
//! ticket, which keeps its place or tells that the lock is its own by now.

use super::Session;
use crate::attr::Attr;
use crate::error::MetaError;
use crate::reply::Reader;
use crate::scripts;
use crate::shard::done;
use crate::types::{
    LockAsk, LockDone, LockFound, LockGrant, LockKind, LockOwner, LockRange, LockState, LockTicket,
};
use bytes::Bytes;
use ringfs_base::{Errno, InodeId, SessionId};

/// Bytes of a held lock in a reply.
const FOUND_BYTES: usize = 37;

impl LockKind {
    fn letter(self) -> u8 {
        match self {
            LockKind::Posix => b'p',
            LockKind::Flock => b'f',
        }
    }
}

impl LockRange {
    fn checked(self) -> Result<[u8; 16], MetaError> {
        if self.first > self.last || self.last > LockRange::WHOLE.last {
            return Err(Errno::EINVAL.into());
        }
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.first.to_be_bytes());
        bytes[8..].copy_from_slice(&self.last.to_be_bytes());
        Ok(bytes)
    }
}

impl Session {
    /// Takes a lock. EAGAIN if others are in the way and `ask` does not wait; EDEADLK if the wait
    /// would be for itself (fcntl only); ENOLCK if the file has too many; ESTALE.
    ///
    /// [`LockState::Granted`] has the attributes: what the last holder wrote before it gave the
    /// lock up is in that version.
    pub fn lock(&self, ino: InodeId, ask: &LockAsk) -> Result<LockDone, MetaError> {
        let request = [
            &ino.to_bytes()[..],
            &[ask.kind.letter(), u8::from(ask.wait.is_some())],
            &ask.owner.0.to_be_bytes(),
            &ask.range.checked()?,
            &[u8::from(ask.exclusive)],
            &ask.pid.to_be_bytes(),
            &ask.wait.unwrap_or(LockTicket(0)).0.to_be_bytes(),
        ]
        .concat();
        let rest = done(self.of(ino)?.lanes.mutate(&scripts::LOCK, &[&request])?)?;
        lock_done("lock", ino, rest)
    }

    /// Gives up what the owner holds within a range. No error if that is nothing.
    pub fn unlock(
        &self,
        ino: InodeId,
        kind: LockKind,
        owner: LockOwner,
        range: LockRange,
    ) -> Result<LockDone, MetaError> {
        let request =
            [&ino.to_bytes()[..], &[kind.letter()], &owner.0.to_be_bytes(), &range.checked()?]
                .concat();
        let rest = done(self.of(ino)?.lanes.mutate(&scripts::UNLOCK, &[&request])?)?;
        lock_done("unlock", ino, rest)
    }

    /// Ends a wait. [`LockState::Granted`]: too late, the lock has been granted.
    pub fn cancel_lock(
        &self,
        ino: InodeId,
        kind: LockKind,
        owner: LockOwner,
        ticket: LockTicket,
    ) -> Result<LockDone, MetaError> {
        let request = [
            &ino.to_bytes()[..],
            &[kind.letter()],
            &owner.0.to_be_bytes(),
            &ticket.0.to_be_bytes(),
        ]
        .concat();
        let rest = done(self.of(ino)?.lanes.mutate(&scripts::LOCK_CANCEL, &[&request])?)?;
        lock_done("lock_cancel", ino, rest)
    }

    /// A lock in the way of `ask`, if any.
    pub fn test_lock(&self, ino: InodeId, ask: &LockAsk) -> Result<Option<LockFound>, MetaError> {
        let request = [
            &self.id.to_bytes()[..],
            &ino.to_bytes(),
            &[ask.kind.letter()],
            &ask.owner.0.to_be_bytes(),
            &ask.range.checked()?,
            &[u8::from(ask.exclusive)],
        ]
        .concat();
        let rest = self.of(ino)?.shard.ask(&scripts::LOCK_TEST, &[&request])?;
        if rest.is_empty() {
            return Ok(None);
        }
        let mut reply = Reader::new("lock_test", rest.slice(..rest.len().min(FOUND_BYTES)));
        Ok(Some(LockFound {
            session: SessionId(reply.u64()?),
            owner: LockOwner(reply.u64()?),
            range: LockRange { first: reply.u64()?, last: reply.u64()? },
            exclusive: reply.u8()? == 1,
            pid: reply.u32()?,
        }))
    }
}

fn lock_done(script: &'static str, ino: InodeId, rest: Bytes) -> Result<LockDone, MetaError> {
    let mut reply = Reader::new(script, rest);
    let (status, remains) = (reply.u8()?, reply.u8()? == 1);
    let length = reply.u8()?;
    let attr = match length {
        0 => None,
        length => Some(reply.attr(ino, length.into())?),
    };
    let state = match status {
        b'G' => LockState::Granted(attr),
        b'W' => LockState::Waiting,
        b'B' => LockState::Busy,
        other => {
            return Err(MetaError::Corrupt(format!("the script \"{script}\" answered {other}")));
        }
    };
    let unreadable =
        || MetaError::Corrupt(format!("unreadable grants in the reply of \"{script}\""));
    let rest = reply.rest();
    let (mut rest, mut grants) = (&rest[..], Vec::new());
    while !rest.is_empty() {
        let (grant, after) = decode_grant(rest).ok_or_else(unreadable)?;
        grants.push(grant);
        rest = after;
    }
    Ok(LockDone { state, remains, grants })
}

/// Reads inode (8), ticket (8), length (1), attributes; and what comes after. `None` if it cannot
/// be read.
pub(super) fn decode_grant(bytes: &[u8]) -> Option<(LockGrant, &[u8])> {
    let (ino, rest) = bytes.split_first_chunk::<8>()?;
    let (ticket, rest) = rest.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first()?;
    let (attr, rest) = rest.split_at_checked(usize::from(*length))?;
    let ino = InodeId::from_bytes(*ino);
    let attr = if attr.is_empty() { None } else { Some(Attr::unpack(ino, attr)?) };
    Some((LockGrant { ino, ticket: LockTicket(u64::from_be_bytes(*ticket)), attr }, rest))
}
