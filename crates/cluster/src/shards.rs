//! Reading a volume's metadata keys as they are, in steps of bounded size.

use crate::error::ClusterError;
use crate::keys::{self, KeyKind};
use bytes::Bytes;
use ringfs_base::limits::INODE_LOCAL_BITS;
use ringfs_base::{InodeId, VolumeName};
use ringfs_link::{Cmd, Endpoint, LinkError, Pool, Reply, Timeouts};

/// Keys that one step of a scan asks the server to look at.
const SCAN_COUNT: i64 = 512;
/// Commands in one pipeline.
const PIPELINE_MAX: usize = 128;
/// Attempts to read the same thing: reading twice harms nobody.
const ATTEMPTS_MAX: u32 = 5;

/// The metadata servers of a volume, to be read without a session.
#[derive(Clone, Debug)]
pub struct Shards {
    volume: VolumeName,
    shards: Vec<Shard>,
}

/// One shard: keys with one hash tag on one server.
#[derive(Clone, Debug)]
pub(crate) struct Shard {
    pub(crate) number: u16,
    pool: Pool,
    prefix: Vec<u8>,
}

impl Shards {
    /// The shards of a volume whose metadata are at `endpoint` (a new volume has one shard).
    /// Connects when it is used.
    pub fn new(endpoint: &Endpoint, timeouts: Timeouts, volume: &VolumeName) -> Shards {
        let shard = Shard {
            number: 0,
            pool: Pool::new(endpoint.clone(), timeouts),
            prefix: keys::prefix(volume, 0),
        };
        Shards { volume: volume.clone(), shards: vec![shard] }
    }

    /// The volume.
    pub fn volume(&self) -> &VolumeName {
        &self.volume
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Shard> {
        self.shards.iter()
    }

    /// The shard of an inode; `None` if the volume has no such shard.
    pub(crate) fn of(&self, ino: InodeId) -> Option<&Shard> {
        self.shards.iter().find(|shard| shard.number == ino.shard())
    }
}

impl Shard {
    /// The whole name of a key.
    pub(crate) fn key(&self, rest: impl AsRef<[u8]>) -> Vec<u8> {
        [&self.prefix[..], rest.as_ref()].concat()
    }

    /// The inode of a local number.
    pub(crate) fn inode(&self, local: u64) -> InodeId {
        InodeId(u64::from(self.number) << INODE_LOCAL_BITS | local)
    }

    /// One step of a scan over the keys whose names go on with `pattern` after the prefix. The
    /// parts of the names behind the prefix and what they say; a key may come twice.
    #[expect(clippy::type_complexity, reason = "a list of pairs, said in the text")]
    pub(crate) fn scan(
        &self,
        pattern: &str,
        cursor: u64,
    ) -> Result<(u64, Vec<(Vec<u8>, KeyKind)>), ClusterError> {
        let cmd = Cmd::new("SCAN")
            .arg(cursor.to_string())
            .arg("MATCH")
            .arg(self.key(pattern))
            .arg("COUNT")
            .int(SCAN_COUNT);
        let mut reply = self.call(&cmd)?.into_array().map_err(|e| self.named(e))?.into_iter();
        let (Some(next), Some(names)) = (reply.next(), reply.next()) else {
            let short = LinkError::unexpected("SCAN without a cursor and a list");
            return Err(self.named(short).into());
        };
        let next = next.into_int().map_err(|e| self.named(e))? as u64;
        let mut found = Vec::new();
        for name in names.into_array().map_err(|e| self.named(e))? {
            let name = name.into_some_bytes().map_err(|e| self.named(e))?;
            if let Some(rest) = name.strip_prefix(&self.prefix[..]) {
                found.push((rest.to_vec(), keys::classify(rest)));
            }
        }
        Ok((next, found))
    }

    /// All fields and values of a hash, nothing if there is no such key.
    pub(crate) fn hash(&self, rest: &str) -> Result<Vec<(Bytes, Bytes)>, ClusterError> {
        let reply = self.call(&Cmd::new("HGETALL").arg(self.key(rest)))?;
        Ok(pairs(reply).map_err(|e| self.named(e))?)
    }

    /// Members of a sorted set with their scores.
    pub(crate) fn sorted_set(&self, rest: &str) -> Result<Vec<Bytes>, ClusterError> {
        let cmd = Cmd::new("ZRANGE").arg(self.key(rest)).int(0).int(-1);
        let items = self.call(&cmd)?.into_array().map_err(|e| self.named(e))?;
        items
            .into_iter()
            .map(|item| item.into_some_bytes().map_err(|e| self.named(e).into()))
            .collect()
    }

    /// One command that only reads, repeated if the connection is lost.
    pub(crate) fn call(&self, cmd: &Cmd<'_>) -> Result<Reply, ClusterError> {
        match self.fetch(std::slice::from_ref(cmd))?.pop() {
            Some(reply) => Ok(reply.map_err(|e| self.named(e))?),
            None => Err(LinkError::unexpected("no reply").into()),
        }
    }

    /// Commands that only read, repeated if the connection is lost. The inner errors are the
    /// server's answers (a key of another type, say).
    pub(crate) fn fetch(
        &self,
        cmds: &[Cmd<'_>],
    ) -> Result<Vec<Result<Reply, LinkError>>, ClusterError> {
        let mut out = Vec::with_capacity(cmds.len());
        for part in cmds.chunks(PIPELINE_MAX) {
            let mut attempt = 1;
            let replies = loop {
                match self.pool.get().and_then(|mut conn| conn.pipeline(part)) {
                    Ok(replies) => break replies,
                    Err(e) if attempt < ATTEMPTS_MAX && !matches!(e, LinkError::Auth { .. }) => {
                        // Waits for nothing but the server: the gate of the pool opens after 0.1 s.
                        std::thread::sleep(std::time::Duration::from_millis(60) * attempt);
                        attempt += 1;
                    }
                    Err(e) => return Err(e.into()),
                }
            };
            out.extend(replies);
        }
        Ok(out)
    }

    /// A connection for a change.
    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(crate) fn named(&self, error: LinkError) -> LinkError {
        error.at(self.pool.endpoint().name())
    }
}

/// Fields and values of HGETALL.
pub(crate) fn pairs(reply: Reply) -> Result<Vec<(Bytes, Bytes)>, LinkError> {
    reply
        .into_map()?
        .into_iter()
        .map(|(field, value)| Ok((field.into_some_bytes()?, value.into_some_bytes()?)))
        .collect()
}
