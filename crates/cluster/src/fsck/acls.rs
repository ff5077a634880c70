//! Checking ACLs: that flags and keys agree, that the lists can be read, and that an access ACL
//! and the permission bits say the same.

use super::census::{Census, each_key};
use super::finding::Finding;
use crate::error::ClusterError;
use crate::job::Job;
use crate::keys::KeyKind;
use crate::shards::{Shard, Shards};
use bytes::Bytes;
use ringfs_base::InodeId;
use ringfs_link::{Cmd, LinkError, Reply};
use ringfs_meta::{ACL_ACCESS_XATTR, ACL_DEFAULT_XATTR, Acl, AttrFlags, FileKind};
use std::collections::HashSet;

/// Flags of inodes that have ACLs.
const BOTH: u16 = AttrFlags::ACL_ACCESS | AttrFlags::ACL_DEFAULT;

/// Permission bits that an access ACL stands for.
const ACL_BITS: u16 = 0o777;

/// Looks at the extended attributes of all inodes that the census has found.
pub(crate) fn check(shards: &Shards, census: &mut Census, job: &Job) -> Result<(), ClusterError> {
    job.begin("checking ACLs", 0)?;
    let mut seen = HashSet::new();
    for shard in shards.iter() {
        each_key(shard, "e*", |found| {
            let mut wanted = Vec::new();
            for (rest, kind) in found {
                let KeyKind::Xattrs(local) = kind else { continue };
                let ino = shard.inode(local);
                if seen.insert(ino) {
                    wanted.push((ino, String::from_utf8_lossy(&rest).into_owned()));
                }
            }
            let cmds: Vec<Cmd<'_>> = wanted
                .iter()
                .map(|(_, rest)| {
                    let cmd = Cmd::new("HMGET").arg(shard.key(rest));
                    cmd.arg(ACL_ACCESS_XATTR).arg(ACL_DEFAULT_XATTR)
                })
                .collect();
            for ((ino, _), reply) in wanted.iter().zip(shard.fetch(&cmds)?) {
                if let Some(why) = judge(shard, census, *ino, reply)? {
                    census.report(job, Finding::BadAcl { ino: *ino, why });
                }
            }
            job.advance(wanted.len() as u64)
        })?;
    }
    // If that flag is set and the key is not there, the part is reported as missing.
    let half = |flags: AttrFlags| flags.0 & BOTH != 0 && !flags.has(AttrFlags::XATTRS);
    let half = census.inodes.iter().filter(|(ino, f)| !seen.contains(*ino) && half(f.flags));
    let mut half: Vec<InodeId> = half.map(|(ino, _)| *ino).collect();
    half.sort_unstable();
    for ino in half {
        let why = "the attributes tell of one but of no extended attributes";
        census.report(job, Finding::BadAcl { ino, why });
    }
    Ok(())
}

/// What is wrong with the ACLs of an inode.
fn judge(
    shard: &Shard,
    census: &Census,
    ino: InodeId,
    reply: Result<Reply, LinkError>,
) -> Result<Option<&'static str>, ClusterError> {
    let values = match reply.and_then(Reply::into_array) {
        Ok(values) => values,
        // Reported by the census.
        Err(e) if e.code() == Some("WRONGTYPE") => return Ok(None),
        Err(e) => return Err(shard.named(e).into()),
    };
    let Some(facts) = census.inodes.get(&ino) else { return Ok(None) };
    let mut acls: [Option<Bytes>; 2] = [None, None];
    for (slot, value) in acls.iter_mut().zip(values) {
        *slot = value.into_bytes().map_err(|e| shard.named(e))?;
    }
    let [access, default] = acls;
    let mut has = 0;
    if access.is_some() {
        has |= AttrFlags::ACL_ACCESS;
    }
    if default.is_some() {
        has |= AttrFlags::ACL_DEFAULT;
    }
    if facts.flags.0 & BOTH != has {
        return Ok(Some("the attributes and what is stored disagree about whether there is one"));
    }
    if default.is_some() && facts.kind != FileKind::Directory {
        return Ok(Some("only a directory can have a default one"));
    }
    for (is_access, value) in [(true, access), (false, default)] {
        let Some(value) = value else { continue };
        let Ok(Some(acl)) = Acl::parse(&value) else {
            return Ok(Some("the list cannot be read"));
        };
        if is_access && acl.perm() != facts.perm & ACL_BITS {
            return Ok(Some("the permission bits say something else"));
        }
    }
    Ok(None)
}
