//! Checking advisory locks: whoever has one or waits for one is a session, and the file is there.

use super::census::{Census, each_key};
use super::finding::Finding;
use crate::error::ClusterError;
use crate::job::Job;
use crate::keys::KeyKind;
use crate::shards::{Shard, pairs};
use bytes::Bytes;
use ringfs_base::{InodeId, SessionId};
use ringfs_link::Cmd;
use std::collections::{BTreeSet, HashMap, HashSet};

/// Bytes of a lock held and of a request that waits.
const HELD_BYTES: usize = 37;
const WAITING_BYTES: usize = 46;

/// Which session has something of which inode's locks.
type Pair = (SessionId, InodeId);

/// Checks the locks of a shard. Locks come and go meanwhile; only what all passes find is reported.
pub(super) fn check(
    shard: &Shard,
    census: &mut Census,
    job: &Job,
    sessions: &BTreeSet<SessionId>,
) -> Result<(), ClusterError> {
    let indexed: HashSet<Pair> =
        shard.sorted_set("ks")?.iter().filter_map(|member| pair(member)).collect();
    let mut found: HashSet<Pair> = HashSet::new();
    let mut waiting: HashSet<(InodeId, Bytes)> = HashSet::new();
    each_key(shard, "k*", |keys| {
        let inodes: Vec<u64> = keys
            .iter()
            .filter_map(|(_, kind)| match kind {
                KeyKind::Locks(local) => Some(*local),
                _ => None,
            })
            .collect();
        let cmds: Vec<Cmd<'_>> = inodes
            .iter()
            .map(|local| Cmd::new("HGETALL").arg(shard.key(format!("k{local}"))))
            .collect();
        for (local, reply) in inodes.iter().zip(shard.fetch(&cmds)?) {
            let ino = shard.inode(*local);
            match reply.and_then(pairs) {
                Ok(fields) => {
                    read_locks(census, job, ino, &fields, &mut found, &mut waiting);
                }
                Err(e) if e.code() == Some("WRONGTYPE") => {
                    census.report(job, Finding::BadLocks { ino, why: "the key is no hash" });
                }
                Err(e) => return Err(shard.named(e).into()),
            }
        }
        Ok(())
    })?;
    for (session, ino) in found.union(&indexed) {
        let (session, ino) = (*session, *ino);
        let why = if !sessions.contains(&session) {
            census.report(job, Finding::LockOfNobody { ino, session });
            continue;
        } else if !census.inodes.contains_key(&ino) && !census.is_unreadable(ino) {
            "there is no such inode"
        } else if !indexed.contains(&(session, ino)) {
            "they are not in the list by which they end with their session"
        } else if !found.contains(&(session, ino)) {
            "a session is listed that has none"
        } else {
            continue;
        };
        census.report(job, Finding::BadLocks { ino, why });
    }
    check_waits(shard, census, job, &waiting)
}

/// The search for deadlocks must know of every wait.
fn check_waits(
    shard: &Shard,
    census: &mut Census,
    job: &Job,
    waiting: &HashSet<(InodeId, Bytes)>,
) -> Result<(), ClusterError> {
    let listed: HashMap<Bytes, Bytes> = shard.hash("kw")?.into_iter().collect();
    for (ino, who) in waiting {
        let bytes = ino.to_bytes();
        if !listed.get(who).is_some_and(|inodes| inodes.chunks(8).any(|other| other == bytes)) {
            let why = "a wait is not in the list that the search for deadlocks follows";
            census.report(job, Finding::BadLocks { ino: *ino, why });
        }
    }
    Ok(())
}

fn read_locks(
    census: &mut Census,
    job: &Job,
    ino: InodeId,
    fields: &[(Bytes, Bytes)],
    found: &mut HashSet<Pair>,
    waiting: &mut HashSet<(InodeId, Bytes)>,
) {
    for (field, packed) in fields {
        let size = match &field[..] {
            b"p" | b"f" => HELD_BYTES,
            b"P" | b"F" => WAITING_BYTES,
            _ => 0,
        };
        if size == 0 || packed.is_empty() || packed.len() % size != 0 {
            let why = "a field cannot be read";
            census.report(job, Finding::BadLocks { ino, why });
            continue;
        }
        for at in (0..packed.len()).step_by(size) {
            let who = packed.slice(at..at + 16);
            if let Some(session) = who.first_chunk::<8>() {
                found.insert((SessionId::from_bytes(*session), ino));
            }
            if &field[..] == b"P" {
                waiting.insert((ino, who));
            }
        }
    }
}

fn pair(member: &[u8]) -> Option<Pair> {
    let (session, rest) = member.split_first_chunk::<8>()?;
    Some((SessionId::from_bytes(*session), InodeId::from_bytes(rest.try_into().ok()?)))
}
