//! Sequences of operations, chosen so that names and inodes meet often.

use super::{Id, Kind};
use proptest::prelude::*;
use ringfs_base::limits::CHUNK_BYTES;

/// How a rename treats an existing target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameKind {
    /// Replaces it.
    Replace,
    /// EEXIST.
    NoReplace,
    /// Changes places with it.
    Exchange,
}

/// One operation. An inode is meant by its number modulo the inodes made so far, whatever has
/// become of it: operations on what is gone, or is no directory, belong to the test.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "fields are named for what they are")]
pub enum Op {
    /// Makes an inode.
    Create { dir: Id, name: Vec<u8>, kind: Kind, perm: u16 },
    /// One more name.
    Link { id: Id, dir: Id, name: Vec<u8> },
    /// Removes a name; `open`: it is kept.
    Remove { dir: Id, name: Vec<u8>, directory: bool, open: bool },
    /// Renames.
    Rename { from: (Id, Vec<u8>), to: (Id, Vec<u8>), kind: RenameKind, open: bool },
    /// Sets the size.
    Truncate { id: Id, size: u64 },
    /// Writes (`None`: appends); `small` data may be kept beside the inode.
    Write { id: Id, offset: Option<u64>, len: u64, byte: u8, small: bool },
    /// Rewrites the list of what was written where.
    Compact { id: Id },
    /// Sets permission bits.
    Chmod { id: Id, perm: u16 },
    /// Sets or removes an extended attribute.
    SetXattr { id: Id, name: Vec<u8>, value: Option<Vec<u8>> },
    /// Everybody closes everything.
    CloseAll,
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        9 => (0u8..5).prop_map(|i| vec![b'a' + i]),
        1 => proptest::collection::vec(any::<u8>(), 1..12).prop_map(|mut name| {
            for byte in &mut name {
                if matches!(*byte, 0 | b'/') { *byte = b'}'; }
            }
            if name == b"." || name == b".." { name.push(b'x'); }
            name
        }),
    ]
}

/// Places near the beginning, and on both sides of the borders of chunks.
fn place() -> impl Strategy<Value = u64> {
    (0u64..4, 0u64..200).prop_map(|(chunk, off)| (chunk * CHUNK_BYTES + off).saturating_sub(100))
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![5 => Just(Kind::File), 5 => Just(Kind::Dir), 1 => Just(Kind::Symlink)]
}

fn perm() -> impl Strategy<Value = u16> {
    prop_oneof![4 => Just(0o644), 1 => Just(0o2755), 1 => 0u16..0o10000]
}

fn operation() -> impl Strategy<Value = Op> {
    // The root and the first inodes are met most often, so that operations meet each other.
    let id = || prop_oneof![3 => Just(0usize), 4 => 0usize..8, 2 => any::<usize>()];
    let any_id = || prop_oneof![1 => 0usize..12, 1 => any::<usize>()];
    let value = proptest::option::weighted(0.7, proptest::collection::vec(any::<u8>(), 0..5));
    let how = prop_oneof![
        4 => Just(RenameKind::Replace),
        1 => Just(RenameKind::NoReplace),
        2 => Just(RenameKind::Exchange)
    ];
    prop_oneof![
        8 => (id(), name(), kind(), perm())
            .prop_map(|(dir, name, kind, perm)| Op::Create { dir, name, kind, perm }),
        2 => (any_id(), id(), name()).prop_map(|(id, dir, name)| Op::Link { id, dir, name }),
        4 => (id(), name(), any::<bool>(), any::<bool>())
            .prop_map(|(dir, name, directory, open)| Op::Remove { dir, name, directory, open }),
        6 => ((id(), name()), (id(), name()), how, any::<bool>())
            .prop_map(|(from, to, kind, open)| Op::Rename { from, to, kind, open }),
        3 => (any_id(), place()).prop_map(|(id, size)| Op::Truncate { id, size }),
        6 => (any_id(), proptest::option::weighted(0.6, place()), 1u64..150, 0u8..4, any::<bool>())
            .prop_map(|(id, offset, len, byte, small)| Op::Write { id, offset, len, byte, small }),
        2 => any_id().prop_map(|id| Op::Compact { id }),
        1 => (any_id(), perm()).prop_map(|(id, perm)| Op::Chmod { id, perm }),
        2 => (any_id(), 0u8..3, value)
            .prop_map(|(id, n, value)| Op::SetXattr { id, name: vec![b'u', n + b'0'], value }),
        1 => Just(Op::CloseAll),
    ]
}

/// A sequence of at most `most` operations.
pub fn operations(most: usize) -> impl Strategy<Value = Vec<Op>> {
    proptest::collection::vec(operation(), 1..most)
}
