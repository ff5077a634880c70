//! Work on a whole volume: is it sound, is it clean, is it safe, how is it?
//!
//! - [`fsck`]: the invariant scanner. Judges metadata and blocks, changes nothing. The crash tests
//!   use the same one.
//! - [`gc`]: removes blocks that no file refers to, and files without a name that dead sessions had
//!   open.
//! - [`repair`]: makes every node hold good copies of what it owns, the most endangered first.
//! - [`change`]: which servers there are, how much each holds, how many copies there are; [`mover`]
//!   brings the blocks to where they then belong.
//! - [`clone_tree`]: a copy of a whole tree that moves no data and appears at once.
//! - [`list_trash`], [`restore_trash`], [`empty_trash`]: what was deleted and is kept for a while.
//! - [`Keeper`]: watches the nodes ([`health`]), and where it coordinates, decides who is down and runs
//!   the background [`workers`].
//! - [`status`]: nodes, usage, sessions, ring.
//!
//! Each long job takes a [`Job`]: a status line, a throttle, and a stop between two steps. Any of
//! them may be stopped or killed at any moment and started again; none relies on another having
//! run. They work on a [`Subject`]: the volume with its store and its nodes.
//!
//! This crate does not know the POSIX layer: it must judge what that one cannot mount.
#![forbid(unsafe_code)]

pub mod change;
pub mod clone;
mod collector;
mod compact;
mod error;
pub mod fsck;
pub mod gc;
pub mod health;
mod job;
pub mod keeper;
mod keys;
mod leftovers;
mod membership;
pub mod mover;
mod nodes;
mod paths;
mod recheck;
mod references;
pub mod repair;
mod schedule;
mod scrub;
mod shards;
pub mod status;
mod subject;
mod trash;
mod walk;
pub mod workers;

pub use clone::{CloneReport, clone_tree};
pub use collector::{Collector, GC, GcRecord, gc_record};
pub use compact::{COMPACT, CompactRecord, Compactor, compact_record};
pub use error::ClusterError;
pub use fsck::{Checks, Finding, FsckReport, Severity, fsck};
pub use gc::{GcOptions, GcReport, gc};
pub use job::{Job, Progress};
pub use keeper::{Keeper, KeeperOptions, KeeperSettings, KeeperSnapshot};
pub use membership::{Addresses, Membership, Ring};
pub use paths::paths_of;
pub use recheck::{RECHECK, Recheck, recheck};
pub use repair::{RepairOptions, RepairReport, repair};
pub use scrub::{SCRUB, Scrub, ScrubCounts, ScrubRecord, scrub_record};
pub use shards::Shards;
pub use status::{VolumeStatus, status};
pub use subject::Subject;
pub use trash::{Deleted, Restored, empty_trash, list_trash, restore_trash};
