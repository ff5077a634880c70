//! What can be wrong with a volume: one variant for each invariant that can break.

use ringfs_base::{BlockId, InodeId, SessionId, SliceId};
use ringfs_meta::FileKind;
use serde::Serialize;

/// How bad a finding is; the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something is lost or wrong: files, names or bytes.
    Damage,
    /// All is there, but less safe than it should be.
    Degraded,
    /// Memory is taken up by what nobody needs.
    Garbage,
    /// Nothing to do; good to know.
    Note,
}

impl Severity {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Severity::Damage => "damage",
            Severity::Degraded => "degraded",
            Severity::Garbage => "garbage",
            Severity::Note => "note",
        }
    }
}

/// Keys that hang on an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Inline data or the target of a symbolic link.
    Inline,
    /// Extents.
    Extents,
    /// Extended attributes.
    Xattrs,
}

impl Part {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Part::Inline => "inline data",
            Part::Extents => "extents",
            Part::Xattrs => "extended attributes",
        }
    }
}

/// One broken invariant. Two runs that see the same thing give equal findings.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the text of each variant is its sentence in `text`")]
pub enum Finding {
    // Names.
    DanglingName { dir: InodeId, name: Vec<u8>, ino: InodeId },
    WrongType { dir: InodeId, name: Vec<u8>, ino: InodeId, is: FileKind },
    BadEntry { dir: InodeId, name: Vec<u8> },
    BadName { dir: InodeId, name: Vec<u8> },
    MisplacedName { dir: InodeId, name: Vec<u8>, bucket: u32, belongs: u32 },
    StrayBucket { dir: InodeId, bucket: u32, buckets: u32, names: u32 },
    BucketOfNobody { dir: InodeId, bucket: u32, names: u32 },
    WrongEntryCount { dir: InodeId, says: u32, found: u32 },
    // Inodes.
    BadAttributes { ino: InodeId },
    WrongLinkCount { ino: InodeId, says: u32, found: u32 },
    NoName { ino: InodeId },
    SecondName { ino: InodeId, names: u32 },
    WrongParent { ino: InodeId, says: InodeId, found: InodeId },
    Loop { ino: InodeId },
    NoRoot,
    MissingPart { ino: InodeId, part: Part },
    HiddenPart { ino: InodeId, part: Part },
    LeftoverPart { ino: InodeId, part: Part },
    BadSize { ino: InodeId, size: u64 },
    InlineTooLong { ino: InodeId, inline: u64, size: u64 },
    UnlistedOrphan { ino: InodeId },
    FalseOrphan { ino: InodeId },
    UnfinishedClone { ino: InodeId },
    BadAcl { ino: InodeId, why: &'static str },
    // Extents.
    BadExtents { ino: InodeId, chunk: Vec<u8> },
    SharedSlice { slice: SliceId, ino: InodeId, other: InodeId },
    SurplusOwners { slice: SliceId, says: u64, found: u64 },
    SliceLengths { slice: SliceId, ino: InodeId },
    BeyondSize { ino: InodeId, chunk: u64 },
    // The shard's own records.
    HoldOfNobody { ino: InodeId, session: SessionId },
    LockOfNobody { ino: InodeId, session: SessionId },
    BadLocks { ino: InodeId, why: &'static str },
    SessionRests { session: SessionId },
    WrongSessionCount { says: u64, found: u64 },
    WrongUsage { says: (i64, i64), found: (u64, u64), in_flux: bool },
    WrongQuota { field: String, says: (u64, u64), found: (u64, u64), in_flux: bool },
    WrongCounting { ino: InodeId },
    WrongTree { ino: InodeId },
    StaleTreeMarks { marks: u64, in_flux: bool },
    CounterBehind { counter: &'static str, says: u64, used: u64 },
    BadRecord { what: String },
    OddRecord { what: String },
    NoteOfNobody { ino: InodeId },
    UnknownKey { key: Vec<u8> },
    // Data.
    NodeUnreachable { node: String, cause: String },
    MissingCopies { ino: InodeId, node: String, blocks: u64 },
    BadCopies { ino: InodeId, node: String, blocks: u64, why: String },
    LostBlocks { ino: InodeId, blocks: u64, first: BlockId, why: String },
    BlocksOutOfReach { ino: InodeId, blocks: u64, first: BlockId },
    SurplusCopies { node: String, copies: u64 },
    GarbageBlocks { node: String, blocks: u64 },
}

impl Finding {
    /// How bad it is.
    pub fn severity(&self) -> Severity {
        use Finding as F;
        match self {
            F::DanglingName { .. }
            | F::WrongType { .. }
            | F::BadEntry { .. }
            | F::BadName { .. }
            | F::MisplacedName { .. }
            | F::StrayBucket { .. }
            | F::BucketOfNobody { .. }
            | F::WrongEntryCount { .. }
            | F::BadAttributes { .. }
            | F::WrongLinkCount { .. }
            | F::NoName { .. }
            | F::SecondName { .. }
            | F::WrongParent { .. }
            | F::Loop { .. }
            | F::NoRoot
            | F::MissingPart { .. }
            | F::HiddenPart { .. }
            | F::BadSize { .. }
            | F::InlineTooLong { .. }
            | F::FalseOrphan { .. }
            | F::BadAcl { .. }
            | F::BadExtents { .. }
            | F::SharedSlice { .. }
            | F::SliceLengths { .. }
            | F::BeyondSize { .. }
            | F::WrongSessionCount { .. }
            | F::CounterBehind { .. }
            | F::BadRecord { .. }
            | F::LostBlocks { .. } => Severity::Damage,
            F::WrongUsage { in_flux: false, .. } | F::WrongQuota { in_flux: false, .. } => {
                Severity::Damage
            }
            F::WrongUsage { in_flux: true, .. }
            | F::WrongQuota { in_flux: true, .. }
            | F::StaleTreeMarks { .. } => Severity::Note,
            F::WrongCounting { .. } | F::WrongTree { .. } => Severity::Damage,
            F::NodeUnreachable { .. }
            | F::MissingCopies { .. }
            | F::BadCopies { .. }
            | F::BlocksOutOfReach { .. } => Severity::Degraded,
            F::LeftoverPart { .. }
            | F::UnlistedOrphan { .. }
            | F::UnfinishedClone { .. }
            | F::SurplusOwners { .. }
            | F::HoldOfNobody { .. }
            | F::LockOfNobody { .. }
            | F::BadLocks { .. }
            | F::SessionRests { .. }
            | F::SurplusCopies { .. }
            | F::GarbageBlocks { .. } => Severity::Garbage,
            F::UnknownKey { .. } | F::OddRecord { .. } | F::NoteOfNobody { .. } => Severity::Note,
        }
    }

    /// Its name in reports that programs read. Never changes its meaning.
    pub fn kind(&self) -> &'static str {
        use Finding as F;
        match self {
            F::DanglingName { .. } => "dangling-name",
            F::WrongType { .. } => "wrong-type",
            F::BadEntry { .. } => "bad-entry",
            F::BadName { .. } => "bad-name",
            F::MisplacedName { .. } => "misplaced-name",
            F::StrayBucket { .. } => "stray-bucket",
            F::BucketOfNobody { .. } => "bucket-of-nobody",
            F::WrongEntryCount { .. } => "wrong-entry-count",
            F::BadAttributes { .. } => "bad-attributes",
            F::WrongLinkCount { .. } => "wrong-link-count",
            F::NoName { .. } => "no-name",
            F::SecondName { .. } => "second-name",
            F::WrongParent { .. } => "wrong-parent",
            F::Loop { .. } => "loop",
            F::NoRoot => "no-root",
            F::MissingPart { .. } => "missing-part",
            F::HiddenPart { .. } => "hidden-part",
            F::LeftoverPart { .. } => "leftover-part",
            F::BadSize { .. } => "bad-size",
            F::InlineTooLong { .. } => "inline-too-long",
            F::UnlistedOrphan { .. } => "unlisted-orphan",
            F::FalseOrphan { .. } => "false-orphan",
            F::BadAcl { .. } => "bad-acl",
            F::BadExtents { .. } => "bad-extents",
            F::UnfinishedClone { .. } => "unfinished-clone",
            F::SharedSlice { .. } => "shared-slice",
            F::SurplusOwners { .. } => "surplus-owners",
            F::SliceLengths { .. } => "slice-lengths",
            F::BeyondSize { .. } => "beyond-size",
            F::HoldOfNobody { .. } => "hold-of-nobody",
            F::LockOfNobody { .. } => "lock-of-nobody",
            F::BadLocks { .. } => "bad-locks",
            F::SessionRests { .. } => "session-rests",
            F::WrongSessionCount { .. } => "wrong-session-count",
            F::WrongUsage { .. } => "wrong-usage",
            F::WrongQuota { .. } => "wrong-quota",
            F::WrongCounting { .. } => "wrong-counting",
            F::WrongTree { .. } => "wrong-tree",
            F::StaleTreeMarks { .. } => "stale-tree-marks",
            F::CounterBehind { .. } => "counter-behind",
            F::BadRecord { .. } => "bad-record",
            F::OddRecord { .. } => "odd-record",
            F::NoteOfNobody { .. } => "note-of-nobody",
            F::UnknownKey { .. } => "unknown-key",
            F::NodeUnreachable { .. } => "node-unreachable",
            F::MissingCopies { .. } => "missing-copies",
            F::BadCopies { .. } => "bad-copies",
            F::LostBlocks { .. } => "lost-blocks",
            F::BlocksOutOfReach { .. } => "blocks-out-of-reach",
            F::SurplusCopies { .. } => "surplus-copies",
            F::GarbageBlocks { .. } => "garbage-blocks",
        }
    }

    /// The inode that its path is the path of, and the name below it if there is one.
    pub fn place(&self) -> Option<(InodeId, Option<&[u8]>)> {
        use Finding as F;
        match self {
            F::DanglingName { dir, name, .. }
            | F::WrongType { dir, name, .. }
            | F::BadEntry { dir, name }
            | F::BadName { dir, name }
            | F::MisplacedName { dir, name, .. } => Some((*dir, Some(name))),
            F::StrayBucket { dir, .. }
            | F::BucketOfNobody { dir, .. }
            | F::WrongEntryCount { dir, .. } => Some((*dir, None)),
            F::BadAttributes { ino }
            | F::WrongLinkCount { ino, .. }
            | F::NoName { ino }
            | F::SecondName { ino, .. }
            | F::WrongParent { ino, .. }
            | F::Loop { ino }
            | F::MissingPart { ino, .. }
            | F::HiddenPart { ino, .. }
            | F::LeftoverPart { ino, .. }
            | F::BadSize { ino, .. }
            | F::InlineTooLong { ino, .. }
            | F::UnlistedOrphan { ino }
            | F::FalseOrphan { ino }
            | F::BadAcl { ino, .. }
            | F::BadExtents { ino, .. }
            | F::SharedSlice { ino, .. }
            | F::SliceLengths { ino, .. }
            | F::BeyondSize { ino, .. }
            | F::HoldOfNobody { ino, .. }
            | F::LockOfNobody { ino, .. }
            | F::BadLocks { ino, .. }
            | F::WrongCounting { ino }
            | F::WrongTree { ino }
            | F::MissingCopies { ino, .. }
            | F::BadCopies { ino, .. }
            | F::LostBlocks { ino, .. }
            | F::BlocksOutOfReach { ino, .. } => Some((*ino, None)),
            F::NoRoot
            | F::SessionRests { .. }
            | F::WrongSessionCount { .. }
            | F::WrongUsage { .. }
            | F::WrongQuota { .. }
            | F::StaleTreeMarks { .. }
            | F::CounterBehind { .. }
            | F::BadRecord { .. }
            | F::OddRecord { .. }
            | F::NoteOfNobody { .. }
            | F::UnknownKey { .. }
            | F::NodeUnreachable { .. }
            | F::SurplusOwners { .. }
            | F::UnfinishedClone { .. }
            | F::SurplusCopies { .. }
            | F::GarbageBlocks { .. } => None,
        }
    }

    /// What is wrong and what to do, in one line. `at` is the path (see [`Self::place`]).
    pub fn text(&self, at: &str) -> String {
        use Finding as F;
        match self {
            F::DanglingName { ino, .. } => {
                format!("{at}: the name leads to inode {ino}, which is gone; remove the name")
            }
            F::WrongType { is, .. } => {
                format!(
                    "{at}: the name says another type than its inode, which is {}; rename it \
                         to write the entry anew",
                    kind_name(*is)
                )
            }
            F::BadEntry { .. } => {
                format!("{at}: the directory entry is no inode number; remove the name")
            }
            F::BadName { .. } => {
                format!("{at}: no file can have this name; rename it by its inode number")
            }
            F::MisplacedName { bucket, belongs, .. } => format!(
                "{at}: the name is in bucket {bucket} where no look-up finds it (it belongs in \
                 {belongs}); restore the metadata from a backup"
            ),
            F::StrayBucket { bucket, buckets, names, .. } => format!(
                "{at}: bucket {bucket} with {} lies beyond the directory's {buckets}, so no \
                 look-up finds them; restore the metadata from a backup",
                count(u64::from(*names), "name")
            ),
            F::BucketOfNobody { bucket, names, .. } => format!(
                "{at}: bucket {bucket} holds {}, but there is no such directory; restore the \
                 metadata from a backup",
                count(u64::from(*names), "name")
            ),
            F::WrongEntryCount { says, found, .. } => {
                format!(
                    "{at}: the directory says it has {}, and has {found}",
                    count(u64::from(*says), "name")
                )
            }
            F::BadAttributes { .. } => {
                format!("{at}: the attributes cannot be read; restore the metadata from a backup")
            }
            F::WrongLinkCount { says, found, .. } => {
                format!("{at}: the link count is {says} and should be {found}")
            }
            F::NoName { .. } => format!(
                "{at}: no name leads to it although its link count is not 0; its data is \
                 unreachable until the metadata are restored"
            ),
            F::SecondName { names, .. } => {
                format!("{at}: {names} names lead to this directory; only one may")
            }
            F::WrongParent { says, found, .. } => format!(
                "{at}: the directory says its parent is inode {says}, but its name is in \
                 {found}; rename it to write the pointer anew"
            ),
            F::Loop { .. } => format!(
                "{at}: the directory lies below itself, cut off from the root; restore the \
                 metadata from a backup"
            ),
            F::NoRoot => {
                "the root directory is gone; restore the metadata from a backup".to_owned()
            }
            F::MissingPart { part, .. } => {
                format!("{at}: its {} are gone; restore the file from a backup", part.name())
            }
            F::HiddenPart { part, .. } => format!(
                "{at}: it has {} that its attributes do not mention, so no reader sees them",
                part.name()
            ),
            F::LeftoverPart { ino, part } => {
                format!("{} of inode {ino}, which does not exist, take up memory", part.name())
            }
            F::BadSize { size, .. } => {
                format!("{at}: a size of {size} bytes cannot be; truncate the file")
            }
            F::InlineTooLong { inline, size, .. } => format!(
                "{at}: {inline} bytes of inline data for a size of {size}: old bytes would show \
                 if the file grew; copy it and remove this one"
            ),
            F::UnlistedOrphan { .. } => format!(
                "{at}: it has no name and is not among the orphans, so nothing will remove it"
            ),
            F::FalseOrphan { ino } => {
                format!("inode {ino} is listed as an orphan, but has a name or does not exist")
            }
            F::BadAcl { why, .. } => format!("{at}: its ACL is damaged: {why}; set it anew"),
            F::BadExtents { chunk, .. } => format!(
                "{at}: the extents of chunk {} cannot be read; restore the file from a backup",
                String::from_utf8_lossy(chunk)
            ),
            F::UnfinishedClone { ino } => format!(
                "inode {ino} is where a clone was being built that was not finished; `ringfs gc \
                 --delete` removes it"
            ),
            F::SharedSlice { slice, other, .. } => format!(
                "{at}: slice {:x} belongs to inode {other} or another chunk too, and is not counted \
                 so: removing one would destroy the other; copy both files",
                slice.0
            ),
            F::SurplusOwners { slice, says, found } => format!(
                "slice {:x} is said to have {says} owners, and has {found}: its blocks will stay \
                 until `ringfs gc --delete` finds them",
                slice.0
            ),
            F::SliceLengths { slice, .. } => format!(
                "{at}: extents disagree about the length of slice {:x}; copy the file",
                slice.0
            ),
            F::BeyondSize { chunk, .. } => format!(
                "{at}: chunk {chunk} has data beyond the file's size, which would show if the \
                 file grew; copy it and remove this one"
            ),
            F::HoldOfNobody { ino, session } => format!(
                "inode {ino} is held open by session {session}, which does not exist: it will \
                 never be removed"
            ),
            F::LockOfNobody { ino, session } => format!(
                "inode {ino} is locked by session {session}, which does not exist: others may wait \
                 for ever"
            ),
            F::BadLocks { ino, why } => format!("the locks of inode {ino} are wrong: {why}"),
            F::SessionRests { session } => format!(
                "records of session {session}, which does not exist, take up memory and may keep \
                 blocks from garbage collection"
            ),
            F::WrongSessionCount { says, found } => format!(
                "the volume says it has {}, and has {found}: caches may not hear of changes; \
                 unmount and mount again",
                count(*says, "session")
            ),
            F::WrongUsage { says, found, in_flux } => format!(
                "usage says {} inodes and {} bytes, counted were {} and {}; {}",
                says.0,
                says.1,
                found.0,
                found.1,
                if *in_flux {
                    "that may be in flux, as sessions are at work"
                } else {
                    "run `ringfs fsck --repair-metadata` while nobody has it mounted"
                }
            ),
            F::WrongQuota { field, says, found, in_flux } => format!(
                "the quota of {} says {} inodes and {} bytes, counted were {} and {}; {}",
                whose(field),
                says.0,
                says.1,
                found.0,
                found.1,
                if *in_flux {
                    "that may be in flux, as sessions are at work"
                } else {
                    "run `ringfs fsck --repair-metadata` while nobody has it mounted"
                }
            ),
            F::WrongCounting { .. } => format!(
                "{at}: whether it counts to its owner is not what the volume says; run `ringfs quota \
                 off` and set the limits of owners again"
            ),
            F::WrongTree { .. } => format!(
                "{at}: it does not count to the quota of the directory tree that it lies in; remove \
                 that quota and set it again"
            ),
            F::StaleTreeMarks { marks, .. } => format!(
                "{} of directory trees that have no quota any more; removing the quota of any tree \
                 clears them",
                count(*marks, "mark")
            ),
            F::CounterBehind { counter, says, used } => format!(
                "counter {counter} is at {says}, but {used} is in use: numbers would be given \
                 out twice; do not write to the volume, restore the metadata from a backup"
            ),
            F::BadRecord { what } => format!("{what}; restore the metadata from a backup"),
            F::OddRecord { what } => what.clone(),
            F::NoteOfNobody { ino } => {
                format!("inode {ino} is noted as unreadable, and is gone; the note goes by itself")
            }
            F::UnknownKey { key } => format!(
                "key \"{}\" is none that this version writes; a newer ringfs may",
                key.escape_ascii()
            ),
            F::NodeUnreachable { node, cause } => {
                format!("node {node} could not be checked: {cause}; start it, then check again")
            }
            F::MissingCopies { node, blocks, .. } => format!(
                "{at}: {} missing on node {node}; run `ringfs repair`",
                if *blocks == 1 { "1 block is".to_owned() } else { format!("{blocks} blocks are") }
            ),
            F::BadCopies { node, blocks, why, .. } => format!(
                "{at}: {} on node {node} bad ({why}); run `ringfs repair --deep`",
                if *blocks == 1 { "1 copy is".to_owned() } else { format!("{blocks} copies are") }
            ),
            F::LostBlocks { blocks, first, why, .. } => format!(
                "{at}: {} lost, first block {first} ({why}); reading there fails: restore the \
                 file from a backup",
                if *blocks == 1 { "1 block is".to_owned() } else { format!("{blocks} blocks are") }
            ),
            F::BlocksOutOfReach { blocks, first, .. } => format!(
                "{at}: {} only on nodes that cannot be reached, first block {first}; start the \
                 nodes",
                if *blocks == 1 { "1 block is".to_owned() } else { format!("{blocks} blocks are") }
            ),
            F::SurplusCopies { node, copies } => format!(
                "node {node} has {} that it need not hold; `ringfs repair` removes them",
                if *copies == 1 { "1 copy".to_owned() } else { format!("{copies} copies") }
            ),
            F::GarbageBlocks { node, blocks } => format!(
                "node {node} has {} that no file refers to; `ringfs gc --delete` removes them",
                count(*blocks, "block")
            ),
        }
    }
}

/// What a field of the quotas is about.
fn whose(field: &str) -> String {
    let (kind, number) = field.split_at_checked(1).unwrap_or_default();
    match kind {
        "u" => format!("user {number}"),
        "g" => format!("group {number}"),
        _ => format!("directory tree {number}"),
    }
}

fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn kind_name(kind: FileKind) -> &'static str {
    match kind {
        FileKind::File => "a file",
        FileKind::Directory => "a directory",
        FileKind::Symlink => "a symbolic link",
        FileKind::Fifo => "a named pipe",
        FileKind::Socket => "a socket",
        FileKind::CharDevice => "a character device",
        FileKind::BlockDevice => "a block device",
    }
}
