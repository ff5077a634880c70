//! Checking quotas: what each owner, group and directory tree is said to use against what is
//! counted to it, and that what lies in a tree counts to it.

use super::census::{Census, Facts, each_key};
use super::finding::Finding;
use crate::error::ClusterError;
use crate::job::Job;
use crate::keys::{self, KeyKind};
use crate::shards::Shard;
use bytes::Bytes;
use ringfs_base::InodeId;
use ringfs_base::limits::FILE_BYTES_COUNTED_MAX;
use ringfs_meta::{AttrFlags, FileKind, Quota, QuotaSubject};
use std::collections::{BTreeMap, HashMap};

/// What `extras` in the control record says when all inodes are counted to their owners.
const ALL_COUNTED: i64 = 3;

/// Finds the tree with a quota that an inode counts to: its field and its record.
type TreeOf<'a> = dyn Fn(InodeId, &Facts) -> Option<(String, Quota)> + 'a;

/// Compares the records of a shard with the census.
pub(crate) fn check(
    shard: &Shard,
    census: &mut Census,
    job: &Job,
    extras: i64,
    in_flux: bool,
) -> Result<(), ClusterError> {
    let mut stored: BTreeMap<String, Quota> = BTreeMap::new();
    for (field, value) in shard.hash("u")? {
        match (std::str::from_utf8(&field), Quota::decode(&field, &value)) {
            (Ok(field), Some(quota)) => {
                stored.insert(field.to_owned(), quota);
            }
            _ => {
                let what = format!("the quota \"{}\" cannot be read", field.escape_ascii());
                census.report(job, Finding::BadRecord { what });
            }
        }
    }
    let marks = marks(shard, census, job)?;
    let mut found: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut stale = 0;
    let tree_of = |ino: InodeId, facts: &Facts| {
        let number = marks.get(&ino).filter(|_| facts.flags.has(AttrFlags::IN_TREE))?;
        let field = format!("p{number}");
        stored.get(&field).map(|quota| (field, *quota))
    };
    for (ino, facts) in census.inodes.iter().filter(|(ino, _)| ino.shard() == shard.number) {
        let bytes =
            if facts.kind == FileKind::File { facts.size.min(FILE_BYTES_COUNTED_MAX) } else { 0 };
        let mut add = |field: String| {
            let sum = found.entry(field).or_default();
            *sum = (sum.0 + 1, sum.1.saturating_add(bytes));
        };
        if facts.flags.has(AttrFlags::COUNTED) {
            add(format!("u{}", facts.uid));
            add(format!("g{}", facts.gid));
        }
        if facts.flags.has(AttrFlags::COUNTED) != (extras & ALL_COUNTED == ALL_COUNTED)
            && matches!(extras & ALL_COUNTED, 0 | ALL_COUNTED)
        {
            wrong.push(Finding::WrongCounting { ino: *ino });
        }
        let tree = tree_of(*ino, facts);
        if let Some((field, _)) = &tree {
            add(field.clone());
        } else if facts.flags.has(AttrFlags::IN_TREE) {
            stale += 1;
        }
        if !lies_right(census, *ino, facts, tree.map(|(_, quota)| quota), &tree_of) {
            wrong.push(Finding::WrongTree { ino: *ino });
        }
    }
    for ino in marks.keys() {
        let flagged = census.inodes.get(ino).is_some_and(|f| f.flags.has(AttrFlags::IN_TREE));
        if !flagged && !census.is_unreadable(*ino) {
            stale += 1;
        }
    }
    let fields: std::collections::BTreeSet<&String> = stored.keys().chain(found.keys()).collect();
    for field in fields {
        let says = stored.get(field).map_or((0, 0), |quota| (quota.inodes, quota.bytes));
        let found = found.get(field).copied().unwrap_or_default();
        if says != found {
            let field = field.clone();
            wrong.push(Finding::WrongQuota { field, says, found, in_flux });
        }
    }
    if stale > 0 {
        wrong.push(Finding::StaleTreeMarks { marks: stale, in_flux });
    }
    wrong.sort_by_key(|finding| match finding {
        Finding::WrongCounting { ino } | Finding::WrongTree { ino } => *ino,
        _ => InodeId(u64::MAX),
    });
    for finding in wrong {
        census.report(job, finding);
    }
    Ok(())
}

/// Whether a directory counts to the tree of the one that it is in. Of other inodes that cannot be
/// told: a file counts where its first name was, which may be gone. The trash counts to none.
fn lies_right(
    census: &Census,
    ino: InodeId,
    facts: &Facts,
    tree: Option<Quota>,
    tree_of: &TreeOf<'_>,
) -> bool {
    if facts.kind != FileKind::Directory || facts.flags.has(AttrFlags::TRASH) {
        return true;
    }
    let Some((dir, _)) = facts.named_in.filter(|_| facts.names == 1) else { return true };
    let Some(parent) = census.inodes.get(&dir) else { return true };
    if parent.flags.has(AttrFlags::TRASH) {
        // What is in the trash counts where it was.
        return true;
    }
    let above = tree_of(dir, parent).map(|(_, quota)| quota);
    let counting = |quota: &Option<Quota>| quota.is_some_and(|quota| quota.counting);
    if counting(&above) || counting(&tree) {
        return true;
    }
    let (above, tree) = (above.map(|q| q.subject), tree.map(|q| q.subject));
    above == tree || (above.is_none() && tree == Some(QuotaSubject::Tree(ino)))
}

/// Which tree each inode is marked to count to.
fn marks(
    shard: &Shard,
    census: &mut Census,
    job: &Job,
) -> Result<HashMap<InodeId, u64>, ClusterError> {
    let mut marks = HashMap::new();
    each_key(shard, "y*", |found| {
        for (_, kind) in found {
            let KeyKind::Trees(group) = kind else { continue };
            for (field, value) in shard.hash(&format!("y{group}"))? {
                let number = |text: &Bytes| keys::number(text);
                match (number(&field).filter(|place| *place < 64), number(&value)) {
                    (Some(place), Some(tree)) => {
                        marks.insert(shard.inode(group * 64 + place), tree);
                    }
                    _ => {
                        let what = format!("a field of key y{group} cannot be read");
                        census.report(job, Finding::BadRecord { what });
                    }
                }
            }
        }
        Ok(())
    })?;
    Ok(marks)
}
