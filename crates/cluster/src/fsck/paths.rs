//! The path of an inode, found by walking up: names are looked up only for what is reported.

use super::census::Census;
use crate::error::ClusterError;
use crate::paths::show;
use crate::shards::{Shards, pairs};
use ringfs_base::InodeId;
use ringfs_link::Cmd;
use std::collections::HashMap;

/// Directories whose paths are remembered.
const CACHED_MAX: usize = 100_000;
/// Most directories above one another (what rename allows).
const DEPTH_MAX: usize = 4096;

pub(crate) struct Paths<'a> {
    shards: &'a Shards,
    census: &'a Census,
    cache: HashMap<InodeId, Option<String>>,
}

impl<'a> Paths<'a> {
    pub(crate) fn new(shards: &'a Shards, census: &'a Census) -> Paths<'a> {
        Paths { shards, census, cache: HashMap::new() }
    }

    /// The path of an inode, or a phrase that names it if it has none.
    pub(crate) fn of(&mut self, ino: InodeId) -> Result<String, ClusterError> {
        Ok(self.find(ino)?.unwrap_or_else(|| format!("(inode {ino})")))
    }

    /// The path of a name in a directory.
    pub(crate) fn of_name(&mut self, dir: InodeId, name: &[u8]) -> Result<String, ClusterError> {
        let dir = self.of(dir)?;
        Ok(format!("{}/{}", dir.trim_end_matches('/'), show(name)))
    }

    fn find(&mut self, ino: InodeId) -> Result<Option<String>, ClusterError> {
        let mut names: Vec<String> = Vec::new();
        let mut above: Vec<InodeId> = Vec::new();
        let mut at = ino;
        let begin = loop {
            if at == InodeId::ROOT {
                break Some(String::new());
            }
            if let Some(known) = self.cache.get(&at) {
                break known.clone();
            }
            let Some((dir, bucket)) = self.census.inodes.get(&at).and_then(|f| f.named_in) else {
                break None;
            };
            let Some(name) = self.name_in(dir, bucket, at)? else { break None };
            if above.len() > DEPTH_MAX || above.contains(&at) {
                break None;
            }
            names.push(name);
            above.push(at);
            at = dir;
        };
        // Below a directory without a path, the path begins with that directory's number.
        let begin = match (begin, above.is_empty()) {
            (Some(begin), _) => begin,
            (None, true) => return Ok(None),
            (None, false) => format!("(inode {at})"),
        };
        let mut path = begin;
        for (name, ino) in names.iter().zip(&above).rev() {
            path = format!("{path}/{name}");
            if self.cache.len() < CACHED_MAX {
                self.cache.insert(*ino, Some(path.clone()));
            }
        }
        Ok(Some(if path.is_empty() { "/".to_owned() } else { path }))
    }

    fn name_in(
        &self,
        dir: InodeId,
        bucket: u32,
        ino: InodeId,
    ) -> Result<Option<String>, ClusterError> {
        let Some(shard) = self.shards.of(dir) else { return Ok(None) };
        let key = shard.key(format!("d{}:{bucket}", dir.local()));
        let reply = shard.call(&Cmd::new("HGETALL").arg(key))?;
        let names = pairs(reply).map_err(|e| shard.named(e))?;
        let wanted = ino.to_bytes();
        Ok(names.iter().find(|(_, value)| value.starts_with(&wanted)).map(|(name, _)| show(name)))
    }
}
