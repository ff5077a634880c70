//! Everything that a volume's metadata say, gathered in a few words for each inode and slice.
//!
//! One pass over the keys, in steps of bounded size. What stays in memory is one [`Facts`] for each
//! inode and one [`SliceUse`] for each slice, never a name.

use super::finding::{Finding, Part};
use crate::error::ClusterError;
use crate::job::Job;
use crate::keys::{self, KeyKind};
use crate::shards::{Shard, Shards, pairs};
use bytes::Bytes;
use ringfs_base::limits::{CHUNK_BYTES, FILE_BYTES_MAX, NAME_BYTES_MAX};
use ringfs_base::{InodeId, SliceId};
use ringfs_link::{Cmd, LinkError, Reply};
use ringfs_meta::{Attr, AttrFlags, ExtentRecord, FileKind, Source, resolve};
use sha1::{Digest, Sha1};
use std::collections::{HashMap, HashSet};

/// What is known about one inode.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(crate) kind: FileKind,
    pub(crate) flags: AttrFlags,
    pub(crate) perm: u16,
    pub(crate) nlink: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    /// A directory's own count of names and buckets.
    pub(crate) entries: u32,
    pub(crate) buckets: u32,
    /// A directory's parent pointer.
    pub(crate) parent: InodeId,
    /// Names that were found leading here.
    pub(crate) names: u32,
    /// A directory's names and subdirectories that were found.
    pub(crate) entries_found: u32,
    pub(crate) subdirs: u32,
    /// Where the first name was found: directory and bucket.
    pub(crate) named_in: Option<(InodeId, u32)>,
    /// Keys found: bits of [`AttrFlags`].
    pub(crate) parts: u16,
    pub(crate) inline_len: u64,
}

/// Who uses a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SliceUse {
    pub(crate) ino: InodeId,
    pub(crate) chunk: u64,
    /// Bytes of the whole slice.
    pub(crate) len: u32,
    /// Chunks that show it.
    pub(crate) owners: u32,
    /// The lowest and the highest inode among them.
    pub(crate) low: InodeId,
    pub(crate) high: InodeId,
    /// One of them is of an inode that does not say that it may share slices.
    pub(crate) unmarked: bool,
}

/// The result of one pass.
#[derive(Debug, Default)]
pub(crate) struct Census {
    pub(crate) inodes: HashMap<InodeId, Facts>,
    pub(crate) slices: HashMap<SliceId, SliceUse>,
    pub(crate) names: u64,
    /// Blocks are being moved.
    pub(crate) moving: bool,
    pub(crate) findings: Vec<Finding>,
    /// Findings beyond [`FINDINGS_MAX`], counted only.
    pub(crate) more_findings: u64,
    /// Inodes whose attributes cannot be read; nothing more is concluded about them.
    unreadable: HashSet<InodeId>,
}

/// Findings that one check keeps; a volume with more has a problem that more would not explain.
pub(crate) const FINDINGS_MAX: usize = 100_000;

impl Census {
    /// Reads all shards.
    pub(crate) fn take(shards: &Shards, job: &Job) -> Result<Census, ClusterError> {
        let mut census = Census::default();
        for shard in shards.iter() {
            census.read_attributes(shard, job)?;
        }
        for shard in shards.iter() {
            census.read_parts(shard, job)?;
        }
        for shard in shards.iter() {
            census.read_names(shard, job)?;
        }
        Ok(census)
    }

    pub(crate) fn report(&mut self, job: &Job, finding: Finding) {
        job.problems(1);
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.more_findings += 1;
        }
    }

    fn read_attributes(&mut self, shard: &Shard, job: &Job) -> Result<(), ClusterError> {
        job.begin("reading inodes", 0)?;
        let mut unknown = HashSet::new();
        each_key(shard, "*", |found| {
            let mut groups = Vec::new();
            for (rest, kind) in found {
                match kind {
                    KeyKind::Attributes(group) => groups.push(group),
                    KeyKind::Unknown if unknown.insert(rest.clone()) => {
                        self.report(job, Finding::UnknownKey { key: rest });
                    }
                    _ => {}
                }
            }
            let cmds: Vec<_> = groups.iter().map(|g| hgetall(shard, &format!("a{g}"))).collect();
            for (group, reply) in groups.iter().zip(shard.fetch(&cmds)?) {
                let Some(fields) = self.hash_of(shard, job, &format!("a{group}"), reply)? else {
                    continue;
                };
                let count = fields.len() as u64;
                for (field, value) in fields {
                    self.add_inode(shard, job, *group, &field, &value);
                }
                job.advance(count)?;
            }
            Ok(())
        })
    }

    fn add_inode(&mut self, shard: &Shard, job: &Job, group: u64, field: &[u8], value: &[u8]) {
        let Some(place) = keys::number(field).filter(|n| *n < 64) else {
            let key = format!("a{group} field {}", field.escape_ascii()).into_bytes();
            return self.report(job, Finding::UnknownKey { key });
        };
        let ino = shard.inode(group * 64 + place);
        let Some(attr) = Attr::unpack(ino, value) else {
            if self.unreadable.insert(ino) {
                self.report(job, Finding::BadAttributes { ino });
            }
            return;
        };
        if attr.size > FILE_BYTES_MAX && !self.inodes.contains_key(&ino) {
            self.report(job, Finding::BadSize { ino, size: attr.size });
        }
        let facts = Facts {
            kind: attr.kind,
            flags: attr.flags,
            perm: attr.perm,
            nlink: attr.nlink,
            uid: attr.uid,
            gid: attr.gid,
            size: attr.size,
            entries: attr.entries,
            buckets: attr.buckets,
            parent: attr.parent.unwrap_or_default(),
            names: 0,
            entries_found: 0,
            subdirs: 0,
            named_in: None,
            parts: 0,
            inline_len: 0,
        };
        // A key may come twice in one scan.
        self.inodes.entry(ino).or_insert(facts);
    }

    pub(crate) fn is_unreadable(&self, ino: InodeId) -> bool {
        self.unreadable.contains(&ino)
    }

    fn read_parts(&mut self, shard: &Shard, job: &Job) -> Result<(), ClusterError> {
        job.begin("reading extents", 0)?;
        let mut seen: HashSet<(InodeId, Part)> = HashSet::new();
        each_key(shard, "[ixe]*", |found| {
            let mut wanted: Vec<(InodeId, Part, String)> = Vec::new();
            for (rest, kind) in found {
                let (local, part) = match kind {
                    KeyKind::Inline(local) => (local, Part::Inline),
                    KeyKind::Extents(local) => (local, Part::Extents),
                    KeyKind::Xattrs(local) => (local, Part::Xattrs),
                    _ => continue,
                };
                let ino = shard.inode(local);
                if seen.insert((ino, part)) {
                    wanted.push((ino, part, String::from_utf8_lossy(&rest).into_owned()));
                }
            }
            let cmds: Vec<Cmd<'_>> = wanted
                .iter()
                .map(|(_, part, rest)| match part {
                    Part::Inline => Cmd::new("STRLEN").arg(shard.key(rest)),
                    Part::Extents => hgetall(shard, rest),
                    Part::Xattrs => Cmd::new("HLEN").arg(shard.key(rest)),
                })
                .collect();
            for ((ino, part, rest), reply) in wanted.iter().zip(shard.fetch(&cmds)?) {
                self.add_part(shard, job, *ino, *part, rest, reply)?;
            }
            job.advance(wanted.len() as u64)
        })
    }

    fn add_part(
        &mut self,
        shard: &Shard,
        job: &Job,
        ino: InodeId,
        part: Part,
        rest: &str,
        reply: Result<Reply, LinkError>,
    ) -> Result<(), ClusterError> {
        let mut inline_len = 0;
        if part == Part::Extents {
            let Some(chunks) = self.hash_of(shard, job, rest, reply)? else { return Ok(()) };
            if chunks.is_empty() {
                return Ok(());
            }
            for (chunk, records) in chunks {
                self.add_chunk(job, ino, &chunk, &records);
            }
        } else {
            let length = match reply.and_then(Reply::into_int) {
                Ok(length) => length as u64,
                Err(e) if e.code() == Some("WRONGTYPE") => {
                    let what = format!("key {rest} is of a type that RingFS does not write");
                    self.report(job, Finding::BadRecord { what });
                    return Ok(());
                }
                Err(e) => return Err(shard.named(e).into()),
            };
            if length == 0 {
                // Gone since the scan named it.
                return Ok(());
            }
            if part == Part::Inline {
                inline_len = length;
            }
        }
        match self.inodes.get_mut(&ino) {
            Some(facts) => {
                facts.parts |= bit(part);
                if part == Part::Inline {
                    facts.inline_len = inline_len;
                }
            }
            None if self.unreadable.contains(&ino) => {}
            None => self.report(job, Finding::LeftoverPart { ino, part }),
        }
        Ok(())
    }

    fn add_chunk(&mut self, job: &Job, ino: InodeId, chunk: &[u8], records: &[u8]) {
        let index = keys::number(chunk);
        let parsed = index.zip(ExtentRecord::unpack_all(records));
        let Some((index, records)) = parsed else {
            return self.report(job, Finding::BadExtents { ino, chunk: chunk.to_vec() });
        };
        let facts = self.inodes.get(&ino);
        let unmarked = facts.is_some_and(|facts| !facts.flags.has(AttrFlags::SHARED));
        let mut here: HashSet<SliceId> = HashSet::new();
        for record in records.iter().filter(|record| !record.is_hole()) {
            let used = self.slices.entry(record.slice).or_insert(SliceUse {
                ino,
                chunk: index,
                len: record.slice_len,
                owners: 0,
                low: ino,
                high: ino,
                unmarked: false,
            });
            if here.insert(record.slice) {
                used.owners += 1;
                used.low = used.low.min(ino);
                used.high = used.high.max(ino);
                used.unmarked |= unmarked;
            }
            if used.len != record.slice_len {
                let finding = Finding::SliceLengths { slice: record.slice, ino };
                if self.findings.last() != Some(&finding) {
                    self.report(job, finding);
                }
            }
        }
        let Some(facts) = self.inodes.get(&ino) else { return };
        let room = facts.size.saturating_sub(index.saturating_mul(CHUNK_BYTES)).min(CHUNK_BYTES);
        if facts.kind == FileKind::File && records.iter().any(|record| record.end() > room) {
            let beyond = resolve(&records, room as u32..CHUNK_BYTES as u32);
            if beyond.iter().any(|piece| matches!(piece.source, Source::Slice { .. })) {
                self.report(job, Finding::BeyondSize { ino, chunk: index });
            }
        }
    }

    fn read_names(&mut self, shard: &Shard, job: &Job) -> Result<(), ClusterError> {
        job.begin("reading directories", 0)?;
        let mut seen: HashSet<(u64, u32)> = HashSet::new();
        each_key(shard, "d*", |found| {
            let mut wanted = Vec::new();
            for (_, kind) in found {
                if let KeyKind::Bucket(dir, bucket) = kind
                    && seen.insert((dir, bucket))
                {
                    wanted.push((dir, bucket));
                }
            }
            let rests: Vec<String> =
                wanted.iter().map(|(dir, bucket)| format!("d{dir}:{bucket}")).collect();
            let cmds: Vec<_> = rests.iter().map(|rest| hgetall(shard, rest)).collect();
            let replies = shard.fetch(&cmds)?;
            for (((dir, bucket), rest), reply) in wanted.iter().zip(&rests).zip(replies) {
                let Some(names) = self.hash_of(shard, job, rest, reply)? else { continue };
                let count = names.len() as u64;
                self.add_bucket(job, shard.inode(*dir), *bucket, names);
                job.advance(count)?;
            }
            Ok(())
        })
    }

    fn add_bucket(&mut self, job: &Job, dir: InodeId, bucket: u32, names: Vec<(Bytes, Bytes)>) {
        if names.is_empty() {
            return;
        }
        self.names += names.len() as u64;
        let count = names.len() as u32;
        let buckets = match self.inodes.get_mut(&dir) {
            Some(facts) if facts.kind == FileKind::Directory => {
                facts.entries_found += count;
                facts.buckets
            }
            _ if self.unreadable.contains(&dir) => 0,
            _ => {
                self.report(job, Finding::BucketOfNobody { dir, bucket, names: count });
                0
            }
        };
        if bucket >= buckets && buckets > 0 {
            self.report(job, Finding::StrayBucket { dir, bucket, buckets, names: count });
        }
        for (name, value) in names {
            self.add_name(job, dir, bucket, buckets, &name, &value);
        }
    }

    fn add_name(
        &mut self,
        job: &Job,
        dir: InodeId,
        bucket: u32,
        buckets: u32,
        name: &[u8],
        value: &[u8],
    ) {
        let bad = name.is_empty()
            || name.len() > NAME_BYTES_MAX
            || matches!(name, b"." | b"..")
            || name.iter().any(|b| matches!(b, 0 | b'/'));
        if bad {
            self.report(job, Finding::BadName { dir, name: name.to_vec() });
        }
        if bucket < buckets {
            let belongs = bucket_of(name, buckets);
            if belongs != bucket {
                let name = name.to_vec();
                self.report(job, Finding::MisplacedName { dir, name, bucket, belongs });
            }
        }
        let entry = value
            .split_first_chunk::<8>()
            .and_then(|(ino, rest)| {
                Some((InodeId::from_bytes(*ino), FileKind::from_dirent_type(*rest.first()?)?))
            })
            .filter(|_| value.len() == 9);
        let Some((ino, says)) = entry else {
            return self.report(job, Finding::BadEntry { dir, name: name.to_vec() });
        };
        let Some(facts) = self.inodes.get_mut(&ino) else {
            if !self.unreadable.contains(&ino) {
                self.report(job, Finding::DanglingName { dir, name: name.to_vec(), ino });
            }
            return;
        };
        facts.names += 1;
        facts.named_in.get_or_insert((dir, bucket));
        let is = facts.kind;
        if is != says {
            self.report(job, Finding::WrongType { dir, name: name.to_vec(), ino, is });
        }
        if is == FileKind::Directory
            && let Some(facts) = self.inodes.get_mut(&dir)
        {
            facts.subdirs += 1;
        }
    }

    /// A hash's content; `None` if the key is of another type, which is reported.
    fn hash_of(
        &mut self,
        shard: &Shard,
        job: &Job,
        rest: &str,
        reply: Result<Reply, LinkError>,
    ) -> Result<Option<Vec<(Bytes, Bytes)>>, ClusterError> {
        match reply.and_then(pairs) {
            Ok(fields) => Ok(Some(fields)),
            Err(e) if e.code() == Some("WRONGTYPE") => {
                let what = format!("key {rest} is of a type that RingFS does not write");
                self.report(job, Finding::BadRecord { what });
                Ok(None)
            }
            Err(e) => Err(shard.named(e).into()),
        }
    }
}

/// The flag that goes with a key.
pub(crate) const fn bit(part: Part) -> u16 {
    match part {
        Part::Inline => AttrFlags::INLINE,
        Part::Extents => AttrFlags::EXTENTS,
        Part::Xattrs => AttrFlags::XATTRS,
    }
}

/// The bucket in which a look-up searches a name: linear hashing over the first 32 bits of the
/// name's SHA-1 (as `name.lua` of ringfs-meta). `buckets` is at least 1.
pub(crate) fn bucket_of(name: &[u8], buckets: u32) -> u32 {
    let digest = Sha1::digest(name);
    let hash = u64::from(u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]));
    let modulus = u64::from(buckets).next_power_of_two();
    let bucket = hash % modulus;
    let bucket = if bucket >= u64::from(buckets) { bucket % (modulus / 2) } else { bucket };
    bucket as u32
}

fn hgetall(shard: &Shard, rest: &str) -> Cmd<'static> {
    Cmd::new("HGETALL").arg(shard.key(rest))
}

/// Scans the keys that go on with `pattern`, one bounded step after the other.
pub(crate) fn each_key(
    shard: &Shard,
    pattern: &str,
    mut step: impl FnMut(Vec<(Vec<u8>, KeyKind)>) -> Result<(), ClusterError>,
) -> Result<(), ClusterError> {
    let mut cursor = 0;
    loop {
        let (next, found) = shard.scan(pattern, cursor)?;
        step(found)?;
        if next == 0 {
            return Ok(());
        }
        cursor = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_grow_by_splitting_one_at_a_time() {
        for n in 1..200u32 {
            for i in 0..50u32 {
                let name = format!("name{i}").into_bytes();
                let (before, after) = (bucket_of(&name, n), bucket_of(&name, n + 1));
                assert!(before < n && (after == before || after == n));
            }
        }
    }
}
