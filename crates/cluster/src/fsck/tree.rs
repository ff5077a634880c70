//! Judging the census: counts, flags, and whether the directories are one tree below the root.

use super::census::{Census, Facts, bit};
use super::finding::{Finding, Part};
use crate::job::Job;
use ringfs_base::InodeId;
use ringfs_meta::{AttrFlags, FileKind};
use std::collections::HashMap;

/// Compares what each inode says about itself with what was found.
pub(crate) fn judge(census: &mut Census, job: &Job) {
    let mut found = Vec::new();
    if !census.inodes.contains_key(&InodeId::ROOT) && !census.is_unreadable(InodeId::ROOT) {
        found.push(Finding::NoRoot);
    }
    for (ino, facts) in &census.inodes {
        match facts.kind {
            FileKind::Directory => judge_directory(*ino, facts, &mut found),
            _ => judge_links(*ino, facts, &mut found),
        }
        judge_parts(*ino, facts, &mut found);
    }
    find_loops(&census.inodes, &mut found);
    // The same order in every run.
    found.sort_by_key(|finding| (finding.place().map(|(ino, _)| ino), finding.kind()));
    for finding in found {
        census.report(job, finding);
    }
}

fn judge_directory(ino: InodeId, facts: &Facts, found: &mut Vec<Finding>) {
    if facts.entries != facts.entries_found {
        let (says, found_names) = (facts.entries, facts.entries_found);
        found.push(Finding::WrongEntryCount { dir: ino, says, found: found_names });
    }
    if facts.buckets == 0 {
        found.push(Finding::BadAttributes { ino });
    }
    if facts.nlink == 0 {
        if facts.names > 0 || facts.entries_found > 0 {
            let should = 2 + facts.subdirs;
            found.push(Finding::WrongLinkCount { ino, says: 0, found: should });
        }
        return;
    }
    let should = 2 + facts.subdirs;
    if facts.nlink != should {
        found.push(Finding::WrongLinkCount { ino, says: facts.nlink, found: should });
    }
    if ino == InodeId::ROOT {
        if facts.names > 0 {
            found.push(Finding::SecondName { ino, names: facts.names + 1 });
        }
        if facts.parent != ino {
            found.push(Finding::WrongParent { ino, says: facts.parent, found: ino });
        }
        return;
    }
    match (facts.names, facts.named_in) {
        (1, Some((dir, _))) if dir != facts.parent => {
            found.push(Finding::WrongParent { ino, says: facts.parent, found: dir });
        }
        // The place where a clone is being built has none, and is among the orphans.
        (0, _) if facts.flags.has(AttrFlags::ORPHAN) => {}
        (0, _) => found.push(Finding::NoName { ino }),
        (2.., _) => found.push(Finding::SecondName { ino, names: facts.names }),
        _ => {}
    }
}

fn judge_links(ino: InodeId, facts: &Facts, found: &mut Vec<Finding>) {
    if facts.nlink > 0 && facts.names == 0 {
        found.push(Finding::NoName { ino });
    } else if facts.nlink != facts.names {
        found.push(Finding::WrongLinkCount { ino, says: facts.nlink, found: facts.names });
    }
}

fn judge_parts(ino: InodeId, facts: &Facts, found: &mut Vec<Finding>) {
    for part in [Part::Inline, Part::Extents, Part::Xattrs] {
        let says = match part {
            // The target is there whatever the flag says.
            Part::Inline if facts.kind == FileKind::Symlink => true,
            _ => facts.flags.has(bit(part)),
        };
        let has = facts.parts & bit(part) != 0;
        match (says, has) {
            // Truncation and compaction may leave a file with extents that has none any more:
            // all its bytes are zeros, and the flag only keeps it from inline data.
            (true, false) if part == Part::Extents => {}
            (true, false) => found.push(Finding::MissingPart { ino, part }),
            (false, true) => found.push(Finding::HiddenPart { ino, part }),
            _ => {}
        }
    }
    if facts.parts & bit(Part::Inline) != 0 {
        let (inline, size) = (facts.inline_len, facts.size);
        if inline > size {
            found.push(Finding::InlineTooLong { ino, inline, size });
        } else if facts.kind == FileKind::Symlink && inline != size {
            found.push(Finding::BadSize { ino, size });
        }
    }
}

/// Directories from which the way up does not end at the root but turns in a circle. Where it ends
/// at a directory without a name, or at none, that has been reported as such.
fn find_loops(inodes: &HashMap<InodeId, Facts>, found: &mut Vec<Finding>) {
    // When each directory was first visited: in which walk.
    let mut visited: HashMap<InodeId, u64> = HashMap::new();
    let directories = inodes.iter().filter(|(_, facts)| facts.kind == FileKind::Directory);
    for (walk, (start, _)) in (1u64..).zip(directories) {
        let mut at = *start;
        loop {
            if let Some(earlier) = visited.get(&at) {
                if *earlier == walk {
                    found.push(Finding::Loop { ino: least_of_loop(inodes, at) });
                }
                break;
            }
            visited.insert(at, walk);
            if at == InodeId::ROOT {
                break;
            }
            match inodes.get(&at).and_then(|facts| facts.named_in) {
                Some((up, _)) => at = up,
                None => break,
            }
        }
    }
}

/// The smallest number in the circle through `start`, so that it has one name in every run.
fn least_of_loop(inodes: &HashMap<InodeId, Facts>, start: InodeId) -> InodeId {
    let (mut least, mut at) = (start, start);
    while let Some((up, _)) = inodes.get(&at).and_then(|facts| facts.named_in) {
        at = up;
        least = least.min(at);
        if at == start {
            break;
        }
    }
    least
}
