//! Remembers which inode a name led to when it was looked up last.
//!
//! Only a hint: a removal tells the script which inode it expects under the name, and whether it
//! is open here; if the name leads elsewhere by now the script keeps that inode until every
//! mount has said that it does not have it open. So a wrong or missing hint costs a little time
//! before memory comes free, and nothing else.

use quick_cache::sync::Cache;
use ringfs_base::InodeId;
use std::hash::{BuildHasher, RandomState};

/// Names remembered.
const NAMES_MAX: usize = 65_536;

pub(crate) struct NameMemory {
    /// By a keyed hash of directory and name: a collision is a wrong hint.
    names: Cache<u64, InodeId>,
    hasher: RandomState,
}

impl NameMemory {
    pub(crate) fn new() -> NameMemory {
        NameMemory { names: Cache::new(NAMES_MAX), hasher: RandomState::new() }
    }

    /// A keyed hash of a name in a directory.
    pub(crate) fn key(&self, parent: InodeId, name: &[u8]) -> u64 {
        self.hasher.hash_one((parent, name))
    }

    pub(crate) fn note(&self, parent: InodeId, name: &[u8], ino: InodeId) {
        self.names.insert(self.key(parent, name), ino);
    }

    pub(crate) fn forget(&self, parent: InodeId, name: &[u8]) {
        self.names.remove(&self.key(parent, name));
    }

    pub(crate) fn find(&self, parent: InodeId, name: &[u8]) -> Option<InodeId> {
        self.names.get(&self.key(parent, name))
    }
}
