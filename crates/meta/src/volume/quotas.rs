//! Setting, counting and removing quotas. All of it works beside live mounts, may be broken off and
//! run again, and holds no step of unbounded length.

use super::Volume;
use super::scan::{pairs, scan};
use crate::error::MetaError;
use crate::quota::{OwnerCounting, Quota, QuotaSubject, Quotas};
use crate::reply::Reader;
use crate::scripts;
use crate::shard::Shard;
use crate::types::Usage;
use ringfs_base::{Errno, InodeId};
use ringfs_link::{Cmd, Script};

/// Groups of 64 inodes that one script counts.
const GROUPS_COUNTED: usize = 16;
/// Groups of 64 marks that one script clears.
const GROUPS_CLEARED: usize = 64;
/// Largest limit: what the scripts' numbers count exactly.
const LIMIT_MAX: u64 = 1 << 53;
/// Bits of the field `extras`, see `schema`.
const OWNERS_COUNTED: u64 = 1;
const ALL_COUNTED: u64 = 2;

impl Volume {
    /// Sets limits (0 = none, `None` leaves one as it is); from when this returns they hold exactly.
    /// The first for an owner or a group counts the whole volume, that for a tree what lies in it.
    ///
    /// # Errors
    /// ESTALE, ENOTDIR (no directory), EBUSY (a tree in another, or with another in it), EINVAL (a
    /// limit beyond 2^53).
    pub fn set_quota(
        &self,
        subject: QuotaSubject,
        inodes_max: Option<u64>,
        bytes_max: Option<u64>,
    ) -> Result<(), MetaError> {
        if [inodes_max, bytes_max].iter().flatten().any(|limit| *limit > LIMIT_MAX) {
            return Err(Errno::EINVAL.into());
        }
        match subject {
            QuotaSubject::User(_) | QuotaSubject::Group(_) => self.count_owners()?,
            QuotaSubject::Tree(root) => self.count_tree(root)?,
        }
        self.set_limits_of(subject, inodes_max, bytes_max).map(|_| ())
    }

    /// Ends a quota. What a tree counted is forgotten; owners go on being counted.
    ///
    /// # Errors
    /// ENODATA if there is none.
    pub fn remove_quota(&self, subject: QuotaSubject) -> Result<(), MetaError> {
        let QuotaSubject::Tree(root) = subject else {
            return self.set_limits_of(subject, Some(0), Some(0)).map(|_| ());
        };
        let shard = self.shard_of(root)?;
        shard.ask(&scripts::QUOTA_REMOVE, &[&root.to_bytes()])?;
        each_group(shard, "y", GROUPS_CLEARED, &scripts::QUOTA_CLEAR)
    }

    /// Ends counting by owner and group, and all their limits.
    pub fn stop_counting_owners(&self) -> Result<(), MetaError> {
        for quota in self.quotas()?.all {
            if !matches!(quota.subject, QuotaSubject::Tree(_)) {
                self.set_limits_of(quota.subject, Some(0), Some(0))?;
            }
        }
        for shard in self.shards() {
            shard.ask(&scripts::QUOTA_OWNERS, &[b"0"])?;
            each_group(shard, "a", GROUPS_COUNTED, &scripts::QUOTA_COUNT)?;
        }
        Ok(())
    }

    /// All quotas, and what everybody uses if owners are counted.
    pub fn quotas(&self) -> Result<Quotas, MetaError> {
        let mut quotas = Quotas::default();
        for shard in self.shards() {
            let extras = shard.call(&Cmd::new("HGET").arg(&shard.control).arg("extras"))?;
            let extras = extras.into_bytes().map_err(MetaError::Unavailable)?.unwrap_or_default();
            let extras: u64 = String::from_utf8_lossy(&extras).parse().unwrap_or(0);
            quotas.owners = match extras & (OWNERS_COUNTED | ALL_COUNTED) {
                0 | ALL_COUNTED => OwnerCounting::Off,
                OWNERS_COUNTED => OwnerCounting::Begun,
                _ => OwnerCounting::On,
            };
            for (field, value) in pairs(shard, shard.prefix.key("u"))? {
                let quota = Quota::decode(&field, &value).ok_or_else(|| {
                    let field = field.escape_ascii();
                    MetaError::Corrupt(format!("the quota \"{field}\" cannot be read"))
                })?;
                quotas.all.push(quota);
            }
        }
        quotas.all.sort_unstable_by_key(|quota| quota.subject);
        Ok(quotas)
    }

    /// How much the volume holds, and the tree with a quota that an inode lies in, if any.
    pub fn usage_at(&self, ino: InodeId) -> Result<(Usage, Option<Usage>), MetaError> {
        let shard = self.shard_of(ino)?;
        let mut reply = Reader::new("usage", shard.ask(&scripts::USAGE, &[&ino.to_bytes()])?);
        let volume = read_usage(&mut reply)?;
        let tree = if reply.is_empty() { None } else { Some(read_usage(&mut reply)?) };
        Ok((volume, tree))
    }

    fn count_owners(&self) -> Result<(), MetaError> {
        for shard in self.shards() {
            let mut reply = Reader::new("quota", shard.ask(&scripts::QUOTA_OWNERS, &[b"1"])?);
            if reply.u64()? & ALL_COUNTED == 0 {
                each_group(shard, "a", GROUPS_COUNTED, &scripts::QUOTA_COUNT)?;
                shard.ask(&scripts::QUOTA_OWNERS, &[b"2"])?;
            }
        }
        Ok(())
    }

    fn count_tree(&self, root: InodeId) -> Result<(), MetaError> {
        let subject = QuotaSubject::Tree(root);
        let (number, mut more) = self.set_limits_of(subject, None, None)?;
        let shard = self.shard_of(root)?;
        let number = number.to_string();
        // Bounded: each round marks names that are not marked again.
        while more {
            let rest = match shard.ask(&scripts::QUOTA_TREE, &[number.as_bytes()]) {
                Ok(rest) => rest,
                Err(error) => {
                    // The marks of a quota that was given up mean nothing, but take up memory.
                    each_group(shard, "y", GROUPS_CLEARED, &scripts::QUOTA_CLEAR)?;
                    return Err(error);
                }
            };
            more = Reader::new("quota_tree", rest).u8()? == 1;
        }
        Ok(())
    }

    /// Sets limits; of a tree returns its number and whether it has to be counted.
    fn set_limits_of(
        &self,
        subject: QuotaSubject,
        inodes_max: Option<u64>,
        bytes_max: Option<u64>,
    ) -> Result<(u64, bool), MetaError> {
        let text = |limit: Option<u64>| limit.map_or("-".to_owned(), |limit| limit.to_string());
        let (inodes_max, bytes_max) = (text(inodes_max), text(bytes_max));
        let (shard, kind, id) = match subject {
            QuotaSubject::User(uid) => (self.home(), b"u", uid.to_string().into_bytes()),
            QuotaSubject::Group(gid) => (self.home(), b"g", gid.to_string().into_bytes()),
            QuotaSubject::Tree(root) => (self.shard_of(root)?, b"p", root.to_bytes().to_vec()),
        };
        let args = [&kind[..], &id, inodes_max.as_bytes(), bytes_max.as_bytes()];
        let mut reply = Reader::new("quota_set", shard.ask(&scripts::QUOTA_SET, &args)?);
        if reply.is_empty() {
            return Ok((0, false));
        }
        Ok((reply.u64()?, reply.u8()? == 1))
    }
}

fn read_usage(reply: &mut Reader) -> Result<Usage, MetaError> {
    Ok(Usage {
        inodes: reply.u64()?,
        bytes: reply.u64()?,
        inodes_max: reply.u64()?,
        bytes_max: reply.u64()?,
    })
}

/// Runs a script over all keys of a kind, some at a time. A key that is there all the time is met at
/// least once.
fn each_group(shard: &Shard, kind: &str, at_once: usize, script: &Script) -> Result<(), MetaError> {
    let mut cursor = 0;
    loop {
        let (next, keys) = scan(shard, cursor, &shard.prefix.pattern(kind))?;
        let groups: Vec<&[u8]> = keys
            .iter()
            .filter_map(|key| shard.prefix.strip(key)?.get(kind.len()..))
            .filter(|rest| !rest.is_empty() && rest.iter().all(u8::is_ascii_digit))
            .collect();
        for some in groups.chunks(at_once) {
            shard.ask(script, some)?;
        }
        if next == 0 {
            return Ok(());
        }
        cursor = next;
    }
}
