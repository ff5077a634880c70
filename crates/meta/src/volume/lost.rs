//! Files with blocks of which no good copy can be had: noted by whoever failed to read them, shown
//! to people, and forgotten when the blocks are found again.

use super::Volume;
use crate::error::MetaError;
use crate::reply::Reader;
use crate::scripts;
use bytes::Bytes;
use ringfs_base::{Errno, InodeId};
use ringfs_link::Cmd;

/// Files noted in a shard; more than these nobody reads, and each is found by `ringfs fsck`.
pub const LOST_FILES_MAX: u32 = 1000;
/// Longest text that is kept of why, in bytes.
const WHY_BYTES_MAX: usize = 500;

/// A file that cannot be read as a whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LostFile {
    /// The file.
    pub ino: InodeId,
    /// When reading it failed first, in milliseconds since 1970 by the server's clock.
    pub first_ms: u64,
    /// When it failed last.
    pub last_ms: u64,
    /// Why.
    pub why: String,
    /// The note as it is stored.
    note: Bytes,
}

impl Volume {
    /// Notes that blocks of a file cannot be had. False if it could not be noted: it does not exist
    /// (any more), or there are [`LOST_FILES_MAX`] already.
    pub fn note_lost(&self, ino: InodeId, why: &str) -> Result<bool, MetaError> {
        let end = (0..=why.len().min(WHY_BYTES_MAX)).rev().find(|at| why.is_char_boundary(*at));
        let why = match &why[..end.unwrap_or(0)] {
            "" => "it is not known why",
            why => why,
        };
        match self.step_lost(ino, why.as_bytes(), &[]) {
            Err(error) if error.is(Errno::ENOENT) => Ok(false),
            noted => noted,
        }
    }

    /// Forgets a file whose blocks were found after `lost` was read, or that is gone. False if
    /// reading it has failed once more since.
    pub fn clear_lost(&self, lost: &LostFile) -> Result<bool, MetaError> {
        self.step_lost(lost.ino, &[], &lost.note)
    }

    fn step_lost(&self, ino: InodeId, why: &[u8], note: &[u8]) -> Result<bool, MetaError> {
        let head = [&ino.to_bytes()[..], &LOST_FILES_MAX.to_be_bytes()].concat();
        let rest = self.shard_of(ino)?.ask(&scripts::LOST, &[&head, why, note])?;
        Ok(Reader::new("lost", rest).u8()? == 1)
    }

    /// The files noted, by their numbers.
    pub fn lost(&self) -> Result<Vec<LostFile>, MetaError> {
        let mut found = Vec::new();
        for shard in self.shards() {
            let all = shard.call(&Cmd::new("HGETALL").arg(shard.prefix.key("lost")))?;
            for (ino, note) in all.into_map().map_err(MetaError::Unavailable)? {
                let ino = ino.into_some_bytes().map_err(MetaError::Unavailable)?;
                let note = note.into_some_bytes().map_err(MetaError::Unavailable)?;
                let mut reader = Reader::new("lost", note.clone());
                let (first_ms, last_ms) = (reader.u64()?, reader.u64()?);
                let why = String::from_utf8_lossy(&note[16..]).into_owned();
                let ino = Reader::new("lost", ino).ino()?;
                found.push(LostFile { ino, first_ms, last_ms, why, note });
            }
        }
        found.sort_unstable_by_key(|lost| lost.ino);
        Ok(found)
    }
}
