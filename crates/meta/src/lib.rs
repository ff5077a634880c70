//! All metadata of a volume: inodes, names, extents, extended attributes and sessions.
//!
//! Every operation is one server-side script, and so one round trip and atomic. What the keys
//! are is in `schema`; what each operation does is in `scripts/*.lua`, one file each. A
//! [`Volume`] is the view of tools; a [`Session`] is what a mount works with: each of its
//! mutations carries the session and a sequence number, so that it takes effect exactly once
//! however often it is sent, and not at all once the session has been given up by the others.
//!
//! This crate does not know where blocks are, nor any type of the kernel's.

mod acl;
mod attr;
mod config;
mod error;
mod extents;
mod lane;
mod quota;
mod reply;
mod schema;
mod scripts;
mod session;
mod shard;
mod trash;
mod types;
mod volume;

pub use acl::{
    ACL_ACCESS_XATTR, ACL_DEFAULT_XATTR, ACL_ENTRIES_MAX, Acl, AclEntry, AclKind, AclTag,
};
pub use attr::{ATTR_BYTES, ATTR_BYTES_WITH_AUX, Attr, AttrFlags, FileKind};
#[cfg(feature = "fuzzing")]
pub use config::decode_config;
pub use config::{Codec, Durability, NodeRecord, VolumeConfig};
pub use error::MetaError;
pub use extents::{ExtentRecord, Piece, Source, dropped_slices, normalise, resolve};
pub use quota::{OwnerCounting, Quota, QuotaSubject, Quotas};
pub use schema::NameHash;
pub use session::{CommitFailed, Session, SliceLease, UndecidedCommit, Watch};
pub use trash::{Trash, TrashItem, TrashSlot};
pub use types::{
    Beat, Changed, ChunkExtents, CloneItem, Cloned, Commit, CommitData, CommitRequest, Committed,
    Compacted, Created, DIR_COOKIE_MIN, DirItem, DirPage, Event, Fate, Found, Known, LockAsk,
    LockDone, LockFound, LockGrant, LockKind, LockOwner, LockRange, LockState, LockTicket,
    MetaTraffic, NewInode, NextChunks, OpenData, Opened, Pulse, Purge, Removed, RenameMode,
    Renamed, SessionInfo, SessionRecord, SetAttr, ShareRequest, Shared, SlicesInFlight, Unlinked,
    Usage, Victim, Writer, XattrMode, Zeroed,
};
pub use volume::{
    ChunkFound, EntryFound, LOST_FILES_MAX, LostFile, Observed, Report, RingChange, RingState,
    Token, Volume,
};
