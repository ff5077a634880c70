//! Everything in a volume, for fsck, gc and people. Reads only, without a session.

use super::Volume;
use crate::attr::Attr;
use crate::error::MetaError;
use crate::extents::ExtentRecord;
use crate::reply::Reader;
use crate::schema::ATTRS_PER_KEY;
use crate::shard::{PATIENCE, Shard};
use bytes::Bytes;
use ringfs_base::{Errno, InodeId, VolumeName};
use ringfs_link::{Cmd, Endpoint, Timeouts};
use std::collections::BTreeSet;

/// Keys looked at in one step.
const SCAN_COUNT: i64 = 1000;
/// A cursor's upper bits name the shard; Redis uses the lower ones (of 48) for itself.
const SHARD_SHIFT: u32 = 48;

/// The extents of one chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkFound {
    /// Its inode.
    pub ino: InodeId,
    /// Its index in the file.
    pub chunk: u64,
    /// Its records, oldest first; `None` if they are unreadable.
    pub records: Option<Vec<ExtentRecord>>,
}

/// One name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryFound {
    /// Its directory.
    pub dir: InodeId,
    /// The bucket of the directory's table that it stands in.
    pub bucket: u32,
    /// The name.
    pub name: Vec<u8>,
    /// The inode that it leads to.
    pub ino: InodeId,
}

/// A hash with its fields.
struct Hash {
    /// The key without the prefix and the letter of its kind.
    rest: String,
    fields: Vec<(Bytes, Bytes)>,
}

fn unreadable(what: &str, rest: &str) -> MetaError {
    MetaError::Corrupt(format!("{what} of key \"{rest}\" cannot be read"))
}

impl Volume {
    /// Volumes on a server, by SCAN: for tools.
    pub fn list(endpoint: &Endpoint, timeouts: Timeouts) -> Result<Vec<VolumeName>, MetaError> {
        // The shard's own keys do not matter here, only its connection.
        let any = VolumeName::new("any").map_err(|_| Errno::EINVAL)?;
        let shard = Shard::new(&any, 0, endpoint, timeouts, PATIENCE);
        let mut names = BTreeSet::new();
        let mut cursor = 0;
        loop {
            let (next, keys) = scan(&shard, cursor, "rfs:{*/0}:v")?;
            for key in keys {
                let text = String::from_utf8_lossy(&key);
                let name = text.strip_prefix("rfs:{").and_then(|t| t.strip_suffix("/0}:v"));
                // A key of somebody else's that merely looks alike is left out.
                names.extend(name.and_then(|name| VolumeName::new(name).ok()));
            }
            if next == 0 {
                return Ok(names.into_iter().collect());
            }
            cursor = next;
        }
    }

    /// Removes every key of the volume's metadata, its record first. Blocks are the caller's to
    /// remove.
    pub fn destroy(&self) -> Result<(), MetaError> {
        for shard in self.shards() {
            shard.call(&Cmd::new("DEL").arg(shard.prefix.key("v")).arg(&shard.control))?;
            let mut cursor = 0;
            loop {
                let (next, keys) = scan(shard, cursor, &shard.prefix.pattern(""))?;
                if !keys.is_empty() {
                    shard.call(&Cmd::new("UNLINK").args(keys))?;
                }
                if next == 0 {
                    break;
                }
                cursor = next;
            }
        }
        Ok(())
    }

    /// Inodes by SCAN: begin with cursor 0, end when 0 comes back. An inode that exists
    /// throughout is reported at least once, perhaps twice.
    pub fn scan_inodes(&self, cursor: u64) -> Result<(u64, Vec<Attr>), MetaError> {
        let (next, shard, hashes) = self.hashes(cursor, "a")?;
        let mut found = Vec::new();
        for hash in hashes {
            let group: u64 = hash.rest.parse().map_err(|_| unreadable("the number", &hash.rest))?;
            for (field, value) in hash.fields {
                let field: u64 = std::str::from_utf8(&field)
                    .ok()
                    .and_then(|text| text.parse().ok())
                    .filter(|field| *field < ATTRS_PER_KEY)
                    .ok_or_else(|| unreadable("a field", &hash.rest))?;
                let ino = shard.inode(group * ATTRS_PER_KEY + field);
                found.push(Reader::new("scan", value).last_attr(ino)?);
            }
        }
        Ok((next, found))
    }

    /// Extents by SCAN over all inodes, including of those that have no attributes any more (a
    /// finding for fsck). Same cursor rule as [`Self::scan_inodes`].
    pub fn scan_extents(&self, cursor: u64) -> Result<(u64, Vec<ChunkFound>), MetaError> {
        let (next, shard, hashes) = self.hashes(cursor, "x")?;
        let mut found = Vec::new();
        for hash in hashes {
            let local = hash.rest.parse().map_err(|_| unreadable("the number", &hash.rest))?;
            for (chunk, value) in hash.fields {
                let chunk = decimal(&chunk).ok_or_else(|| unreadable("a chunk", &hash.rest))?;
                let records = ExtentRecord::unpack_all(&value);
                found.push(ChunkFound { ino: shard.inode(local), chunk, records });
            }
        }
        Ok((next, found))
    }

    /// Names by SCAN over all directories. Same cursor rule as [`Self::scan_inodes`].
    pub fn scan_entries(&self, cursor: u64) -> Result<(u64, Vec<EntryFound>), MetaError> {
        let (next, shard, hashes) = self.hashes(cursor, "d")?;
        let mut found = Vec::new();
        for hash in hashes {
            let (dir, bucket) = hash
                .rest
                .split_once(':')
                .and_then(|(dir, bucket)| Some((dir.parse().ok()?, bucket.parse().ok()?)))
                .ok_or_else(|| unreadable("the number", &hash.rest))?;
            for (name, value) in hash.fields {
                let (dir, name) = (shard.inode(dir), name.to_vec());
                let ino = Reader::new("scan", value).ino()?;
                found.push(EntryFound { dir, bucket, name, ino });
            }
        }
        Ok((next, found))
    }

    /// All extents of an inode: chunk index and records, in order.
    pub fn chunks_of(&self, ino: InodeId) -> Result<Vec<(u64, Vec<ExtentRecord>)>, MetaError> {
        let shard = self.shard_of(ino)?;
        let key = shard.prefix.of_inode('x', ino.local());
        let mut chunks = Vec::new();
        for (chunk, value) in pairs(shard, &key)? {
            let chunk = decimal(&chunk).ok_or_else(|| unreadable("a chunk", &key))?;
            let records =
                ExtentRecord::unpack_all(&value).ok_or_else(|| unreadable("extents", &key))?;
            chunks.push((chunk, records));
        }
        chunks.sort_unstable_by_key(|(chunk, _)| *chunk);
        Ok(chunks)
    }

    /// Inodes without a name that are kept, at most `max` of them, oldest first.
    pub fn orphans(&self, max: u32) -> Result<Vec<InodeId>, MetaError> {
        let mut found = Vec::new();
        for shard in self.shards() {
            let cmd = Cmd::new("ZRANGE").arg(shard.prefix.key("o")).int(0).int(i64::from(max) - 1);
            for ino in shard.call(&cmd)?.into_array().map_err(MetaError::Unavailable)? {
                let bytes = ino.into_some_bytes().map_err(MetaError::Unavailable)?;
                found.push(Reader::new("orphans", bytes).ino()?);
            }
        }
        found.truncate(max as usize);
        Ok(found)
    }

    /// The hashes of one kind that a step of SCAN finds, and the next cursor.
    fn hashes(&self, cursor: u64, kind: &str) -> Result<(u64, &Shard, Vec<Hash>), MetaError> {
        let number = (cursor >> SHARD_SHIFT) as usize;
        let shard = self.shards().get(number).ok_or(Errno::EINVAL)?;
        let within = cursor & ((1 << SHARD_SHIFT) - 1);
        let (next, keys) = scan(shard, within, &shard.prefix.pattern(kind))?;
        let mut hashes = Vec::with_capacity(keys.len());
        for key in keys {
            let rest = shard.prefix.strip(&key).unwrap_or_default();
            let rest = String::from_utf8_lossy(&rest[kind.len().min(rest.len())..]).into_owned();
            // Other kinds of keys do not begin with this letter, but one must not rely on names.
            if rest.starts_with(|c: char| c.is_ascii_digit()) {
                let fields = pairs(shard, &key)?;
                hashes.push(Hash { rest, fields });
            }
        }
        let next = match next {
            0 if number + 1 < self.shards().len() => ((number + 1) as u64) << SHARD_SHIFT,
            0 => 0,
            next => (number as u64) << SHARD_SHIFT | next,
        };
        Ok((next, shard, hashes))
    }
}

fn decimal(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

pub(super) fn pairs(
    shard: &Shard,
    key: impl AsRef<[u8]>,
) -> Result<Vec<(Bytes, Bytes)>, MetaError> {
    let all = shard.call(&Cmd::new("HGETALL").arg(key))?;
    let mut out = Vec::new();
    for (field, value) in all.into_map().map_err(MetaError::Unavailable)? {
        let field = field.into_some_bytes().map_err(MetaError::Unavailable)?;
        out.push((field, value.into_some_bytes().map_err(MetaError::Unavailable)?));
    }
    Ok(out)
}

pub(super) fn scan(
    shard: &Shard,
    cursor: u64,
    pattern: &str,
) -> Result<(u64, Vec<Bytes>), MetaError> {
    let cmd = Cmd::new("SCAN").arg(cursor.to_string()).arg("MATCH").arg(pattern);
    let reply = shard.call(&cmd.arg("COUNT").int(SCAN_COUNT))?;
    let mut parts = reply.into_array().map_err(MetaError::Unavailable)?.into_iter();
    let (Some(next), Some(keys)) = (parts.next(), parts.next()) else {
        return Err(Errno::EPROTO.into());
    };
    let next = next.into_int().map_err(MetaError::Unavailable)? as u64;
    let mut out = Vec::new();
    for key in keys.into_array().map_err(MetaError::Unavailable)? {
        out.push(key.into_some_bytes().map_err(MetaError::Unavailable)?);
    }
    Ok((next, out))
}
