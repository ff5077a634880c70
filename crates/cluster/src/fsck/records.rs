//! Checking the records of a shard itself: sessions, orphans, holds, counters, the ring.

use super::census::{Census, Facts};
use super::finding::Finding;
use super::quotas;
use super::ring;
use super::sharing;
use crate::error::ClusterError;
use crate::job::Job;
use crate::shards::{Shard, Shards};
use bytes::Bytes;
use ringfs_base::limits::FILE_BYTES_COUNTED_MAX;
use ringfs_base::{InodeId, SessionId};
use ringfs_meta::{AttrFlags, FileKind, SessionInfo};
use std::collections::{BTreeSet, HashMap, HashSet};

/// What the records say, for the summary.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Records {
    /// Sessions through which programs work.
    pub(crate) sessions: u64,
    /// Agents.
    pub(crate) agents: u64,
    pub(crate) orphans: u64,
}

/// Checks the records of all shards against the census.
pub(crate) fn check(
    shards: &Shards,
    census: &mut Census,
    job: &Job,
) -> Result<Records, ClusterError> {
    job.begin("checking sessions and counters", 0)?;
    let mut total = Records::default();
    let mut orphans: HashSet<InodeId> = HashSet::new();
    for shard in shards.iter() {
        let one = check_shard(shard, census, job, &mut orphans)?;
        total.sessions = total.sessions.max(one.sessions);
        total.agents = total.agents.max(one.agents);
        total.orphans += one.orphans;
    }
    let mut unlisted: Vec<InodeId> = census
        .inodes
        .iter()
        .filter(|(ino, facts)| {
            let nameless = facts.nlink == 0 || is_staging(facts);
            nameless && facts.names == 0 && !orphans.contains(ino)
        })
        .map(|(ino, _)| *ino)
        .collect();
    unlisted.sort_unstable();
    for ino in unlisted {
        census.report(job, Finding::UnlistedOrphan { ino });
    }
    Ok(total)
}

fn check_shard(
    shard: &Shard,
    census: &mut Census,
    job: &Job,
    orphans: &mut HashSet<InodeId>,
) -> Result<Records, ClusterError> {
    let control: HashMap<Bytes, Bytes> = shard.hash("c")?.into_iter().collect();
    if control.is_empty() {
        let what = format!("the control record of shard {} is gone", shard.number);
        census.report(job, Finding::BadRecord { what });
    }
    let sessions = session_ids(&control, b's', 9);
    let rests = session_ids(&control, b'i', 9).into_iter().chain(session_ids(&control, b'l', 11));
    let mut strangers: BTreeSet<SessionId> = rests.collect();
    for zset in ["b", "q"] {
        let members: BTreeSet<SessionId> =
            shard.sorted_set(zset)?.iter().filter_map(|m| session_id(m)).collect();
        for session in sessions.difference(&members) {
            let what = format!("session {session} is missing from list \"{zset}\"");
            census.report(job, Finding::BadRecord { what });
        }
        strangers.extend(members);
    }
    strangers.extend(shard.hash("g")?.iter().filter_map(|(field, _)| session_id(field)));
    for session in strangers.difference(&sessions) {
        census.report(job, Finding::SessionRests { session: *session });
    }
    let says = counter(&control, "n");
    if !control.is_empty() && says != Some(sessions.len() as i64) {
        let (says, found) = (says.unwrap_or(0).max(0) as u64, sessions.len() as u64);
        census.report(job, Finding::WrongSessionCount { says, found });
    }
    let is_agent = |session: &&SessionId| {
        let info = control.get(&[&b"i"[..], &session.to_bytes()].concat()[..]);
        info.is_some_and(|text| SessionInfo::read(text).is_agent())
    };
    let agents = sessions.iter().filter(is_agent).count() as u64;
    let at_work = sessions.len() as u64 - agents;
    check_orphans(shard, census, job, &sessions, orphans)?;
    super::locks::check(shard, census, job, &sessions)?;
    sharing::check(shard, census, job)?;
    if !control.is_empty() {
        check_counters(shard, census, job, &control, at_work > 0);
        let extras = counter(&control, "extras").unwrap_or(0);
        quotas::check(shard, census, job, extras, at_work > 0)?;
        ring::check(shard, census, job, &control)?;
    }
    Ok(Records { sessions: at_work, agents, orphans: orphans.len() as u64 })
}

fn check_orphans(
    shard: &Shard,
    census: &mut Census,
    job: &Job,
    sessions: &BTreeSet<SessionId>,
    orphans: &mut HashSet<InodeId>,
) -> Result<(), ClusterError> {
    let held: HashSet<InodeId> = shard
        .sorted_set("h")?
        .iter()
        .filter(|member| {
            member.get(8..).and_then(session_id).is_some_and(|id| sessions.contains(&id))
        })
        .filter_map(|member| Some(InodeId::from_bytes(*member.first_chunk::<8>()?)))
        .collect();
    for member in shard.sorted_set("o")? {
        match member.first_chunk::<8>() {
            Some(bytes) if member.len() == 8 => {
                let ino = InodeId::from_bytes(*bytes);
                orphans.insert(ino);
                match census.inodes.get(&ino) {
                    // One that is empty goes like any orphan.
                    Some(facts) if is_staging(facts) => {
                        if facts.entries_found > 0 && !held.contains(&ino) {
                            census.report(job, Finding::UnfinishedClone { ino });
                        }
                    }
                    Some(facts) if facts.nlink == 0 => {}
                    _ => census.report(job, Finding::FalseOrphan { ino }),
                }
            }
            _ => {
                let what = "the list of orphans has an entry that is no inode".to_owned();
                census.report(job, Finding::BadRecord { what });
            }
        }
    }
    for member in shard.sorted_set("h")? {
        match (member.first_chunk::<8>(), member.get(8..).and_then(session_id)) {
            (Some(ino), Some(session)) => {
                if !sessions.contains(&session) {
                    let ino = InodeId::from_bytes(*ino);
                    census.report(job, Finding::HoldOfNobody { ino, session });
                }
            }
            _ => {
                let what = "the list of held inodes has an entry that cannot be read".to_owned();
                census.report(job, Finding::BadRecord { what });
            }
        }
    }
    Ok(())
}

fn check_counters(
    shard: &Shard,
    census: &mut Census,
    job: &Job,
    control: &HashMap<Bytes, Bytes>,
    in_flux: bool,
) {
    let mine = census.inodes.iter().filter(|(ino, _)| ino.shard() == shard.number);
    let (mut inodes, mut bytes, mut last_inode) = (0u64, 0u64, 0u64);
    for (ino, facts) in mine {
        inodes += 1;
        last_inode = last_inode.max(ino.local());
        if facts.kind == FileKind::File {
            bytes = bytes.saturating_add(facts.size.min(FILE_BYTES_COUNTED_MAX));
        }
    }
    let says = (counter(control, "inodes").unwrap_or(0), counter(control, "bytes").unwrap_or(0));
    if says != (inodes as i64, bytes as i64) {
        let found = (inodes, bytes);
        census.report(job, Finding::WrongUsage { says, found, in_flux });
    }
    let last_slice = census
        .slices
        .keys()
        .map(|slice| InodeId(slice.0))
        .filter(|slice| slice.shard() == shard.number)
        .map(InodeId::local)
        .max();
    for (name, used) in [("next_ino", Some(last_inode)), ("next_slice", last_slice)] {
        let says = counter(control, name).unwrap_or(0).max(0) as u64;
        if let Some(used) = used.filter(|used| *used >= says) {
            census.report(job, Finding::CounterBehind { counter: name, says, used });
        }
    }
}

/// Whether it is a directory without a name in which a clone is being built.
fn is_staging(facts: &Facts) -> bool {
    facts.kind == FileKind::Directory && facts.flags.has(AttrFlags::ORPHAN) && facts.nlink > 0
}

/// The sessions that fields of the control record are about: a letter, the session, and perhaps
/// more, `len` bytes in all.
fn session_ids(control: &HashMap<Bytes, Bytes>, letter: u8, len: usize) -> BTreeSet<SessionId> {
    control
        .keys()
        .filter(|field| field.first() == Some(&letter) && field.len() == len)
        .filter_map(|field| Some(SessionId::from_bytes(field.get(1..9)?.try_into().ok()?)))
        .collect()
}

fn session_id(bytes: &[u8]) -> Option<SessionId> {
    Some(SessionId::from_bytes(bytes.try_into().ok()?))
}

pub(super) fn counter(control: &HashMap<Bytes, Bytes>, name: &str) -> Option<i64> {
    std::str::from_utf8(control.get(name.as_bytes())?).ok()?.parse().ok()
}
