//! The payload of a read: any number of slices, written to the kernel without copying.

use bytes::{Bytes, BytesMut};

/// Bytes answering a READ, in order. Shorter than asked means end of file, except with
/// DIRECT_IO where it is a short read.
#[derive(Clone, Debug, Default)]
pub struct Data(Parts);

#[derive(Clone, Debug, Default)]
enum Parts {
    #[default]
    Empty,
    One(Bytes),
    Many(Vec<Bytes>),
}

impl Data {
    /// No bytes: end of file.
    pub const fn empty() -> Self {
        Self(Parts::Empty)
    }

    /// Appends one slice; empty slices are dropped.
    pub fn push(&mut self, part: Bytes) {
        if part.is_empty() {
            return;
        }
        self.0 = match std::mem::take(&mut self.0) {
            Parts::Empty => Parts::One(part),
            Parts::One(first) => Parts::Many(vec![first, part]),
            Parts::Many(mut parts) => {
                parts.push(part);
                Parts::Many(parts)
            }
        };
    }

    /// The slices in order.
    pub fn parts(&self) -> &[Bytes] {
        match &self.0 {
            Parts::Empty => &[],
            Parts::One(part) => std::slice::from_ref(part),
            Parts::Many(parts) => parts,
        }
    }

    /// Total length in bytes.
    pub fn len(&self) -> usize {
        self.parts().iter().map(Bytes::len).sum()
    }

    /// Whether there is no byte at all.
    pub fn is_empty(&self) -> bool {
        self.parts().iter().all(Bytes::is_empty)
    }

    /// Cuts everything after `limit` bytes. The kernel refuses a reply longer than it asked
    /// for, which would leave the reader waiting for ever.
    pub(crate) fn truncate(&mut self, limit: usize) {
        if self.len() <= limit {
            return;
        }
        let mut left = limit;
        let mut kept = Self::empty();
        for part in self.parts() {
            let take = part.len().min(left);
            kept.push(part.slice(..take));
            left -= take;
        }
        *self = kept;
    }

    /// Everything in one slice; copies when there is more than one part.
    pub(crate) fn concat(&self) -> Bytes {
        match self.parts() {
            [] => Bytes::new(),
            [one] => one.clone(),
            parts => {
                let mut whole = BytesMut::with_capacity(self.len());
                parts.iter().for_each(|part| whole.extend_from_slice(part));
                whole.freeze()
            }
        }
    }
}

impl From<Bytes> for Data {
    fn from(bytes: Bytes) -> Self {
        let mut data = Self::empty();
        data.push(bytes);
        data
    }
}

impl From<Vec<u8>> for Data {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<Vec<Bytes>> for Data {
    fn from(parts: Vec<Bytes>) -> Self {
        parts.into_iter().collect()
    }
}

impl FromIterator<Bytes> for Data {
    fn from_iter<I: IntoIterator<Item = Bytes>>(parts: I) -> Self {
        let mut data = Self::empty();
        parts.into_iter().for_each(|part| data.push(part));
        data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncation_cuts_inside_a_part_and_drops_the_rest() {
        let whole: Data =
            [&b"abc"[..], b"", b"defg", b"hi"].into_iter().map(Bytes::from_static).collect();
        assert_eq!(whole.len(), 9);
        for limit in 0..=10 {
            let mut cut = whole.clone();
            cut.truncate(limit);
            assert_eq!(&cut.concat()[..], &b"abcdefghi"[..limit.min(9)]);
        }
    }
}
