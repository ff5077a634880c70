//! What the operations of a session take and give back.
//!
//! Mutations return the new attributes of everything that they touched (the child and its
//! directories), so that a caller's cache needs no second round trip.

use crate::attr::{Attr, FileKind};
use crate::extents::ExtentRecord;
use bytes::Bytes;
use ringfs_base::{Epoch, InodeId, SessionId, SliceId, Timestamp};

/// An inode to make.
#[derive(Clone, Debug)]
pub struct NewInode<'a> {
    /// What it shall be.
    pub kind: FileKind,
    /// Permission, set-id and sticky bits, before the umask. A directory with the set-group-id bit
    /// passes on its group, and to directories the bit.
    pub perm: u16,
    /// Permission bits taken away, unless the directory has a default ACL.
    pub umask: u16,
    /// Owner.
    pub uid: u32,
    /// Group, unless the directory's is inherited.
    pub gid: u32,
    /// Device number of a character or block device.
    pub rdev: u64,
    /// Target of a symbolic link; empty for the others.
    pub target: &'a [u8],
}

/// What [`crate::Session::lookup`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The inode that the name leads to.
    pub attr: Attr,
    /// The directory it was looked up in.
    pub parent: Attr,
}

/// What [`crate::Session::create`] and [`crate::Session::link`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Created {
    /// The inode of that name.
    pub attr: Attr,
    /// The directory.
    pub parent: Attr,
    /// False if the name was there before: nothing was changed and `attr` is what it leads to
    /// (`open(O_CREAT)` goes on with it, everybody else answers EEXIST).
    pub created: bool,
}

/// What the caller knows about the inode that a name it removes leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// The name leads to this inode as far as the caller knows, and nobody on this mount has it
    /// open. If that is right and no other session exists the inode is purged at once.
    NotOpen(InodeId),
    /// This mount has it open: it is kept, and held for this session until
    /// [`crate::Session::release_hold`].
    Open(InodeId),
    /// The caller does not know what the name leads to: the inode is kept until every session has
    /// said that it does not have it open.
    Unknown,
}

/// What became of an inode that lost a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Other names lead to it.
    Linked,
    /// The last name is gone; the inode is kept as an orphan.
    Orphaned,
    /// The inode is gone; the blocks of these slices may be removed.
    Purged(Vec<ExtentRecord>),
}

/// The inode that a removed name led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Its attributes after the removal; those of a purged one are the last it had, with nlink 0.
    pub attr: Attr,
    /// What became of it.
    pub fate: Fate,
}

/// What [`crate::Session::unlink`] and [`crate::Session::rmdir`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unlinked {
    /// The inode that lost its name.
    pub removed: Removed,
    /// The directory.
    pub parent: Attr,
}

/// How [`crate::Session::rename`] treats an existing target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RenameMode {
    /// It is replaced, as rename(2).
    #[default]
    Replace,
    /// EEXIST, as RENAME_NOREPLACE.
    NoReplace,
    /// The two names change places, as RENAME_EXCHANGE.
    Exchange,
}

/// What [`crate::Session::rename`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renamed {
    /// The inode that has the new name now.
    pub attr: Attr,
    /// The directory of the old name.
    pub old_parent: Attr,
    /// The directory of the new name (the same value if it is the same directory).
    pub new_parent: Attr,
    /// The inode that was replaced.
    pub replaced: Option<Removed>,
    /// [`RenameMode::Exchange`]: the inode that has the old name now.
    pub exchanged: Option<Attr>,
}

/// Which attributes to change; `None` leaves one as it is. "Now" is the caller's to fill in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetAttr {
    /// Permission, set-id and sticky bits.
    pub perm: Option<u16>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Truncates or extends a file to so many bytes.
    pub size: Option<u64>,
    /// Last read.
    pub atime: Option<Timestamp>,
    /// Last change of the data.
    pub mtime: Option<Timestamp>,
    /// Limits of owners and groups do not stop the caller (`CAP_SYS_RESOURCE` on Linux).
    pub privileged: bool,
}

/// What [`crate::Session::setattr`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The attributes now.
    pub attr: Attr,
    /// The `ctime` before: who had that version cached has missed no change but this.
    pub previous: Timestamp,
    /// Slices cut off whole by a truncation: their blocks may be removed.
    pub freed: Vec<ExtentRecord>,
}

/// The state of a file that a caller has cached, to be told "unchanged" instead of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The `ctime` it saw.
    pub ctime: Timestamp,
    /// The size it saw.
    pub size: u64,
}

/// What [`crate::Session::open`] tells about a file's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenData {
    /// What the caller has cached is still right.
    Unchanged,
    /// All data are inline; bytes past their end up to the size are zeros.
    Inline(Bytes),
    /// Inline data (the oldest layer of chunk 0, may be empty) and the extents of the first chunks:
    /// all of them if `complete`; the others come from [`crate::Session::extents`].
    Extents {
        /// The oldest layer of chunk 0.
        inline: Bytes,
        /// Chunk index and its records, oldest first. Only chunks that have any.
        chunks: Vec<(u64, Vec<ExtentRecord>)>,
        /// Every chunk below this index is in `chunks` or has no records.
        chunks_known: u64,
    },
}

/// What [`crate::Session::open`] returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The attributes.
    pub attr: Attr,
    /// The data, or where they are.
    pub data: OpenData,
}

/// What [`crate::Session::extents`] returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkExtents {
    /// The attributes at the same moment.
    pub attr: Attr,
    /// For each chunk asked for, in that order, its records, oldest first.
    pub chunks: Vec<Vec<ExtentRecord>>,
}

/// New data of one file.
#[derive(Clone, Debug)]
pub enum CommitData<'a> {
    /// Bytes at offsets, kept inline with the inode.
    Inline(&'a [(u64, &'a [u8])]),
    /// Records for chunks; `pos` counts within the chunk. Several chunks in one call.
    Extents(&'a [(u64, &'a [ExtentRecord])]),
    /// Bytes at the end of the file, wherever that is when the script runs; kept inline.
    AppendInline(&'a [u8]),
    /// Slices laid one after the other at the end of the file; `pos` is ignored.
    AppendExtents(&'a [ExtentRecord]),
}

/// One commit.
#[derive(Clone, Debug)]
pub struct CommitRequest<'a> {
    /// The data.
    pub data: CommitData<'a>,
    /// The ring's epoch under which the blocks were written; ignored for inline data.
    pub epoch: Epoch,
    /// Becomes mtime and ctime.
    pub mtime: Timestamp,
    /// Whether a write by somebody who is not privileged takes the set-id bits away.
    pub kill_suid: bool,
    /// Limits of owners and groups do not stop the caller (`CAP_SYS_RESOURCE` on Linux).
    pub privileged: bool,
}

/// Who changes the data of a file, as far as it matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Writer {
    /// It lacks the privilege to leave set-user-id and set-group-id bits as they are.
    pub kill_suid: bool,
    /// Limits of owners and groups do not stop it (`CAP_SYS_RESOURCE` on Linux).
    pub privileged: bool,
}

impl Writer {
    /// Somebody who may do everything.
    pub const PRIVILEGED: Writer = Writer { kill_suid: false, privileged: true };
}

/// What [`crate::Session::commit`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Commit {
    /// The data are part of the file.
    Done(Committed),
    /// Nothing was done: the data cannot be inline (the file has extents, or would grow past the
    /// volume's inline limit). Write a slice and commit extents.
    NeedSlice(Attr),
    /// Nothing was done: one of the appended slices would lie across the border of a chunk. Cut it
    /// there (the attributes tell the size to count from), write slices, and repeat.
    Straddles(Attr),
    /// Nothing was done: the blocks were written under an epoch that readers do not look at any
    /// more. Write them again under this one.
    StaleEpoch(Epoch),
}

/// What [`crate::Session::compact`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compacted {
    /// The records were replaced. The slices dropped: their blocks may be removed.
    Done(Vec<ExtentRecord>),
    /// Nothing was done: the chunk has changed otherwise.
    Changed,
    /// Nothing was done: the new blocks were written under an epoch that readers do not look at
    /// any more.
    StaleEpoch(Epoch),
}

/// A commit that took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The attributes now.
    pub attr: Attr,
    /// The `ctime` before: who had that version cached has missed no change but this.
    pub previous: Timestamp,
    /// Where appended data begin; the old size for the other kinds.
    pub placed_at: u64,
    /// Records that the longest of the chunks touched has now: a hint to compact it.
    pub records: u32,
    /// The ring's epoch now.
    pub epoch: Epoch,
}

/// One name of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirItem {
    /// The name.
    pub name: Vec<u8>,
    /// The inode that it leads to.
    pub ino: InodeId,
    /// What that is.
    pub kind: FileKind,
    /// Continue after this one. At least [`DIR_COOKIE_MIN`] and below 2^63; never changes while
    /// the name exists.
    pub cookie: u64,
    /// Its attributes, if they were asked for.
    pub attr: Option<Attr>,
}

/// The smallest cookie of a name; the smaller ones are free for `.` and `..`.
pub const DIR_COOKIE_MIN: u64 = 4;

/// A part of a directory, in the order of its cookies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirPage {
    /// The names. May be more than were asked for, or none although there are more pages.
    pub items: Vec<DirItem>,
    /// Continue from here; `None` at the end. Equal to the last item's cookie or larger.
    pub next: Option<u64>,
    /// The directory.
    pub dir: Attr,
}

/// How to set an extended attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum XattrMode {
    /// New or existing.
    #[default]
    Either,
    /// EEXIST if it exists (XATTR_CREATE).
    Create,
    /// ENODATA if it does not (XATTR_REPLACE).
    Replace,
    /// Both conditions, which never hold: EEXIST or ENODATA.
    CreateAndReplace,
}

/// What [`crate::Session::purge`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purge {
    /// The inode is gone; the blocks of these slices may be removed.
    Done(Vec<ExtentRecord>),
    /// Somebody has it open, or has not said yet that it does not.
    Held,
    /// There is no such inode any more.
    Gone,
    /// A directory with names in it: the staging place of a clone that was not finished. What
    /// lies below must be removed first.
    Populated,
}

/// What [`crate::Session::zero`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zeroed {
    /// The attributes now.
    pub attr: Attr,
    /// The `ctime` before: who had that version cached has missed no change but this.
    pub previous: Timestamp,
    /// Slices that nobody shows any more: their blocks may be removed.
    pub freed: Vec<ExtentRecord>,
    /// Records that the longest of the chunks touched has now: a hint to compact it.
    pub records: u32,
    /// A record of a chunk that stays was hidden whole: compacting that chunk may free a slice.
    pub hidden: bool,
}

/// What [`crate::Session::next_chunks`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextChunks {
    /// The attributes at the same moment.
    pub attr: Attr,
    /// Bytes of inline data, below all records of chunk 0.
    pub inline_len: u32,
    /// Chunks with records from the one asked for on, in order.
    pub chunks: Vec<(u64, Vec<ExtentRecord>)>,
    /// Chunks below this one that are not in `chunks` have no records; `u64::MAX`: none has.
    pub known_to: u64,
}

/// A copy of a range of one file into another that moves no data.
#[derive(Clone, Debug)]
pub struct ShareRequest<'a> {
    /// The file that shows the slices.
    pub source: InodeId,
    /// Its `ctime` when its records were read.
    pub version: Timestamp,
    /// The chunks of it that were read, with all their records.
    pub read: &'a [(u64, std::sync::Arc<Vec<ExtentRecord>>)],
    /// The file that shall show them, too. May be the same.
    pub destination: InodeId,
    /// Records for its chunks; `pos` counts within the chunk. Slices must be among those read.
    pub records: &'a [(u64, Vec<ExtentRecord>)],
    /// One past the last byte copied, in the destination.
    pub end: u64,
    /// Who copies.
    pub writer: Writer,
}

/// What [`crate::Session::share`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shared {
    /// The destination shows the data.
    Done(Committed),
    /// Nothing was done: the source has changed since it was read.
    Changed,
}

/// An inode to clone.
#[derive(Clone, Debug)]
pub struct CloneItem<'a> {
    /// What to copy.
    pub source: InodeId,
    /// The name of the copy.
    pub name: &'a [u8],
}

/// What became of a [`CloneItem`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cloned {
    /// This is the copy.
    Done(InodeId),
    /// The source does not exist any more.
    Gone,
    /// This is the copy, but empty: the source has too many chunks for one step.
    Empty(InodeId),
}

/// What a session tells at each heartbeat.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beat<'a> {
    /// Orphans among those of the last reply that this mount has open. They are held until
    /// [`crate::Session::release_hold`]; the others of that reply are acknowledged as not open.
    pub holds: &'a [InodeId],
    /// Every slice handed out to this session below this one is committed or given up.
    pub oldest_slice: Option<SliceId>,
    /// The ring's epoch that this mount places blocks by.
    pub epoch: Epoch,
}

/// What a session learns at each heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    /// The ring's epoch.
    pub epoch: Epoch,
    /// Sessions of the volume, this one included.
    pub sessions: u32,
    /// New orphans: say in the next beat which of them are open here. Beat again soon if this is
    /// not empty, so that they can be purged.
    pub orphans: Vec<InodeId>,
}

/// Who registers a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionInfo {
    /// Host name.
    pub host: String,
    /// Process id.
    pub pid: u32,
    /// Mount point, or what the tool does.
    pub place: String,
}

impl SessionInfo {
    /// The [`Self::place`] of an agent.
    pub const AGENT: &'static str = "ringfs agent";

    /// It watches the nodes and tidies up, and no program works through it: it is no use of the volume
    /// that anybody would lose by its end.
    pub fn is_agent(&self) -> bool {
        self.place == SessionInfo::AGENT
    }

    /// As it is recorded.
    pub(crate) fn write(&self) -> String {
        format!("{}\n{}\n{}", self.host, self.pid, self.place)
    }

    /// Reads a record. It is for people: a number that is none shows as 0.
    pub fn read(text: &[u8]) -> SessionInfo {
        let text = String::from_utf8_lossy(text);
        let mut lines = text.splitn(3, '\n');
        let mut line = || lines.next().unwrap_or_default().to_owned();
        SessionInfo { host: line(), pid: line().parse().unwrap_or(0), place: line() }
    }
}

/// A registered session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its id.
    pub id: SessionId,
    /// Who it is.
    pub info: SessionInfo,
    /// Seconds since its last heartbeat, by the server's clock.
    pub idle_seconds: u64,
    /// The ring's epoch that it places blocks by.
    pub epoch: Epoch,
}

/// How much a volume holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Inodes, orphans included.
    pub inodes: u64,
    /// Bytes of files by their sizes, orphans included; a file counts with at most
    /// [`ringfs_base::limits::FILE_BYTES_COUNTED_MAX`].
    pub bytes: u64,
    /// Most inodes; 0 = no limit.
    pub inodes_max: u64,
    /// Most bytes; 0 = no limit.
    pub bytes_max: u64,
}

/// What was asked of the metadata servers, since a volume was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetaTraffic {
    /// Round trips that brought an answer, also one that refuses.
    pub round_trips: ringfs_base::HistogramCounts,
    /// Attempts without an answer: the server was away, cut off, late, or still starting.
    pub failures: u64,
}

/// Slice ids that sessions may be writing blocks under, though no file has them yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlicesInFlight {
    /// Half-open ranges.
    pub ranges: Vec<(SliceId, SliceId)>,
    /// No slice from here on had been handed out.
    pub next: SliceId,
}

impl SlicesInFlight {
    /// Whether an unreferenced block of `slice` may belong to a write that is under way. To be
    /// safe ask for this value *before* scanning the extents.
    pub fn may_be_written(&self, slice: SliceId) -> bool {
        slice >= self.next || self.ranges.iter().any(|(from, to)| (*from..*to).contains(&slice))
    }
}

/// What another session changed; caches must forget it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Attributes or data of an inode.
    Attr(InodeId),
    /// What a name of a directory leads to.
    Entry(InodeId, Vec<u8>),
    /// The connection is lost: changes are being missed until [`Event::Reset`] comes. Forget
    /// everything, and believe nothing for long.
    Deaf,
    /// Changes are heard again, or one could not be read: forget everything.
    Reset,
    /// The ring has a new table.
    Ring(Epoch),
    /// A lock that this session waited for is its own now.
    Lock(LockGrant),
}

/// Which of the two families of advisory locks; they never meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LockKind {
    /// Byte ranges of fcntl(2), also those of open file descriptions.
    Posix,
    /// Whole files, of flock(2).
    Flock,
}

/// Whose lock, within a session: what the kernel calls the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LockOwner(pub u64);

/// Names a wait within a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LockTicket(pub u64);

/// Bytes from `first` to `last`, both included; `i64::MAX` is the end of the file, wherever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LockRange {
    /// First byte.
    pub first: u64,
    /// Last byte.
    pub last: u64,
}

impl LockRange {
    /// The whole file: what flock locks.
    pub const WHOLE: LockRange = LockRange { first: 0, last: i64::MAX as u64 };
}

/// A lock to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockAsk {
    /// Of which family.
    pub kind: LockKind,
    /// Whose.
    pub owner: LockOwner,
    /// What.
    pub range: LockRange,
    /// For itself alone, not shared.
    pub exclusive: bool,
    /// The process that asks, to be shown to others of this session.
    pub pid: u32,
    /// Wait for it under this name.
    pub wait: Option<LockTicket>,
}

/// A waiter of this session got its lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockGrant {
    /// The file.
    pub ino: InodeId,
    /// The wait.
    pub ticket: LockTicket,
    /// The file's attributes at that moment: its version is what the last holder left.
    pub attr: Option<Attr>,
}

/// What became of a request about locks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockDone {
    /// The answer itself.
    pub state: LockState,
    /// The owner has locks here, or waits for some.
    pub remains: bool,
    /// Waiters of this session that got their locks by it. Others hear by [`Event::Lock`].
    pub grants: Vec<LockGrant>,
}

/// See [`LockDone`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockState {
    /// Done; the file's attributes where a lock was taken.
    Granted(Option<Attr>),
    /// In the queue.
    Waiting,
    /// In the way of others' locks, and the flock held before has been given up.
    Busy,
}

/// A lock that is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockFound {
    /// Whose session.
    pub session: SessionId,
    /// Whose.
    pub owner: LockOwner,
    /// What.
    pub range: LockRange,
    /// Not shared.
    pub exclusive: bool,
    /// The process, as its session named it.
    pub pid: u32,
}
