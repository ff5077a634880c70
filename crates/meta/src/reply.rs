//! Reads the packed replies of the scripts. Total: a reply that is too short is
//! [`MetaError::Corrupt`], never a panic.

use crate::attr::{ATTR_BYTES_WITH_AUX, Attr};
use crate::error::MetaError;
use crate::extents::ExtentRecord;
use bytes::Bytes;
use ringfs_base::InodeId;

/// A place in a reply.
pub struct Reader {
    rest: Bytes,
    script: &'static str,
}

impl Reader {
    /// Begins to read what `script` replied.
    pub fn new(script: &'static str, rest: Bytes) -> Reader {
        Reader { rest, script }
    }

    fn short(&self) -> MetaError {
        MetaError::Corrupt(format!("the reply of the script \"{}\" is too short", self.script))
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<Bytes, MetaError> {
        if count > self.rest.len() {
            return Err(self.short());
        }
        Ok(self.rest.split_to(count))
    }

    /// All that is left.
    pub fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.rest)
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], MetaError> {
        let Some((array, _)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.short());
        };
        let array = *array;
        self.rest = self.rest.slice(N..);
        Ok(array)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, MetaError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A number of four bytes.
    pub fn u32(&mut self) -> Result<u32, MetaError> {
        self.array().map(u32::from_be_bytes)
    }

    /// A number of eight bytes.
    pub fn u64(&mut self) -> Result<u64, MetaError> {
        self.array().map(u64::from_be_bytes)
    }

    /// An inode number.
    pub fn ino(&mut self) -> Result<InodeId, MetaError> {
        self.u64().map(InodeId)
    }

    /// Attributes of `length` bytes.
    pub fn attr(&mut self, ino: InodeId, length: usize) -> Result<Attr, MetaError> {
        let bytes = self.take(length)?;
        Attr::unpack(ino, &bytes)
            .ok_or_else(|| MetaError::Corrupt(format!("inode {ino} has unreadable attributes")))
    }

    /// Attributes of a directory.
    pub fn dir_attr(&mut self, ino: InodeId) -> Result<Attr, MetaError> {
        self.attr(ino, ATTR_BYTES_WITH_AUX)
    }

    /// Attributes with their length before them.
    pub fn sized_attr(&mut self, ino: InodeId) -> Result<Attr, MetaError> {
        let length = self.u8()?;
        self.attr(ino, length.into())
    }

    /// Attributes up to the end.
    pub fn last_attr(&mut self, ino: InodeId) -> Result<Attr, MetaError> {
        self.attr(ino, self.rest.len())
    }

    /// Extent records in `length` bytes.
    pub fn records(&mut self, length: usize) -> Result<Vec<ExtentRecord>, MetaError> {
        let bytes = self.take(length)?;
        ExtentRecord::unpack_all(&bytes).ok_or_else(|| {
            MetaError::Corrupt(format!("unreadable extents in the reply of \"{}\"", self.script))
        })
    }

    /// Extent records up to the end.
    pub fn last_records(&mut self) -> Result<Vec<ExtentRecord>, MetaError> {
        self.records(self.rest.len())
    }
}
