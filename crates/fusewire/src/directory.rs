//! Directory listings, written straight into the reply buffer.
//!
//! Records are `struct fuse_dirent` padded to eight bytes; with READDIRPLUS each is preceded by
//! a `struct fuse_entry_out`.

use crate::{
    attr::{Entry, FileKind},
    body::Body,
};

const ENTRY_OUT_BYTES: usize = 128;
const DIRENT_BYTES: usize = 24;
/// `FUSE_NAME_MAX` of the kernel; a longer name makes it refuse the whole listing.
const NAME_BYTES_MAX: usize = 1024;

/// Names of a directory, for READDIR.
pub struct DirSink<'a> {
    buffer: &'a mut Vec<u8>,
    limit: usize,
}

impl<'a> DirSink<'a> {
    /// An empty listing of at most `limit` bytes in `buffer`.
    pub(crate) fn new(buffer: &'a mut Vec<u8>, limit: usize) -> Self {
        buffer.clear();
        Self { buffer, limit }
    }

    /// Adds a name. `next_offset` is the offset the kernel shall pass to continue after it
    /// (never 0). Returns true when the listing is full: this name was not added, stop.
    #[must_use = "a full sink has not taken the name"]
    pub fn push(&mut self, ino: u64, next_offset: u64, kind: FileKind, name: &[u8]) -> bool {
        if !name_is_sound(name) {
            return false;
        }
        if !fits(self.buffer, self.limit, DIRENT_BYTES, name) {
            return true;
        }
        put_dirent(self.buffer, ino, next_offset, kind.dirent_type(), name);
        false
    }
}

/// Names with their attributes, for READDIRPLUS.
pub struct DirPlusSink<'a> {
    buffer: &'a mut Vec<u8>,
    limit: usize,
}

impl<'a> DirPlusSink<'a> {
    /// An empty listing of at most `limit` bytes in `buffer`.
    pub(crate) fn new(buffer: &'a mut Vec<u8>, limit: usize) -> Self {
        buffer.clear();
        Self { buffer, limit }
    }

    /// Adds a name with its inode, which counts as one lookup of `entry.ino` (except for "."
    /// and ".."). Returns true when the listing is full: this name was not added, does not
    /// count, stop.
    #[must_use = "a full sink has not taken the name and counts no lookup"]
    pub fn push(&mut self, entry: &Entry, next_offset: u64, name: &[u8]) -> bool {
        if matches!(name, b"." | b"..") {
            // The kernel links no inode to these and would not forget them either.
            return self.add(&Entry::default(), entry, next_offset, name);
        }
        self.add(entry, entry, next_offset, name)
    }

    /// Adds a name of which only number and type are known; the kernel will look it up when
    /// asked for. Returns true when the listing is full.
    #[must_use = "a full sink has not taken the name"]
    pub fn push_name(&mut self, ino: u64, next_offset: u64, kind: FileKind, name: &[u8]) -> bool {
        let mut shown = Entry::default();
        (shown.attr.ino, shown.attr.mode) = (ino, kind.mode_bits());
        self.add(&Entry::default(), &shown, next_offset, name)
    }

    fn add(&mut self, linked: &Entry, shown: &Entry, next_offset: u64, name: &[u8]) -> bool {
        if !name_is_sound(name) {
            return false;
        }
        if !fits(self.buffer, self.limit, ENTRY_OUT_BYTES + DIRENT_BYTES, name) {
            return true;
        }
        self.buffer.extend_from_slice(linked.encode(Body::new()).as_slice());
        let kind = (shown.attr.mode & libc::S_IFMT) >> 12;
        put_dirent(self.buffer, shown.attr.ino, next_offset, kind, name);
        false
    }
}

/// The inodes a READDIRPLUS reply counts a lookup for: they must be forgotten again when the
/// reply could not be delivered.
pub(crate) fn looked_up(listing: &[u8]) -> impl Iterator<Item = u64> {
    let mut rest = listing;
    std::iter::from_fn(move || {
        loop {
            let ino = u64::from_ne_bytes(*rest.first_chunk()?);
            let name_len = rest.get(ENTRY_OUT_BYTES + 16..)?.first_chunk().copied()?;
            let name_len = u32::from_ne_bytes(name_len) as usize;
            rest = rest.get(ENTRY_OUT_BYTES + padded(DIRENT_BYTES + name_len)..)?;
            if ino != 0 {
                return Some(ino);
            }
        }
    })
}

/// The kernel answers EIO for the whole listing when a name is empty, too long or holds "/" or
/// NUL. Leaving such a name out keeps the rest of the directory reachable.
fn name_is_sound(name: &[u8]) -> bool {
    let sound = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && !name.iter().any(|b| matches!(b, 0 | b'/'));
    if !sound {
        tracing::warn!(name = %name.escape_ascii(), "left a name out of a listing: not a legal name");
    }
    sound
}

const fn padded(len: usize) -> usize {
    len.next_multiple_of(8)
}

fn fits(buffer: &[u8], limit: usize, fixed: usize, name: &[u8]) -> bool {
    buffer.len() + padded(fixed + name.len()) <= limit
}

fn put_dirent(buffer: &mut Vec<u8>, ino: u64, next_offset: u64, kind: u32, name: &[u8]) {
    buffer.extend_from_slice(&ino.to_ne_bytes());
    buffer.extend_from_slice(&next_offset.to_ne_bytes());
    buffer.extend_from_slice(&(name.len() as u32).to_ne_bytes());
    buffer.extend_from_slice(&kind.to_ne_bytes());
    buffer.extend_from_slice(name);
    buffer.resize(padded(buffer.len()), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_padded_and_a_full_sink_takes_nothing() {
        let mut buffer = Vec::new();
        let mut sink = DirSink::new(&mut buffer, 64);
        assert!(!sink.push(2, 1, FileKind::Regular, b"a"));
        assert!(!sink.push(3, 2, FileKind::Directory, b"12345678"));
        assert!(sink.push(4, 3, FileKind::Regular, b"b"));
        assert_eq!(buffer.len(), 64);
        assert_eq!(&buffer[24..26], b"a\0");
        assert_eq!(buffer[32], 3);
    }

    #[test]
    fn names_the_kernel_refuses_are_left_out() {
        let mut buffer = Vec::new();
        let mut sink = DirSink::new(&mut buffer, 4096);
        for bad in [&b""[..], b"a/b", b"a\0", &[b'x'; 1025]] {
            assert!(!sink.push(2, 1, FileKind::Regular, bad));
        }
        assert!(buffer.is_empty());
    }

    #[test]
    fn lookups_of_an_undelivered_listing_are_found_again() {
        let mut buffer = Vec::new();
        let mut sink = DirPlusSink::new(&mut buffer, 4096);
        let entry = |ino| Entry { ino, ..Entry::default() };
        assert!(!sink.push(&entry(1), 1, b"."));
        assert!(!sink.push(&entry(7), 2, b"seven"));
        assert!(!sink.push_name(9, 3, FileKind::Regular, b"unknown"));
        assert!(!sink.push(&entry(8), 4, b"eight-eight"));
        assert_eq!(looked_up(&buffer).collect::<Vec<_>>(), [7, 8]);
        assert_eq!(looked_up(&buffer[..100]).count(), 0);
    }
}
