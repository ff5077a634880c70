//! The bytes in which a table and an overlay are stored.
//!
//! Big-endian throughout. A table:
//!
//! ```text
//!  0  4  magic "RFRT"
//!  4  2  format version, 1
//!  6  1  log2 P
//!  7  1  R, copies wanted
//!  8  1  width, copies a row has
//!  9  1  0
//! 10  8  epoch
//! 18  4  number of members
//! 22     each member: name length (1), name, weight (4), zone length (1, 0 for none), zone
//!        P rows of width member numbers (2 each), the primary first
//! -8  8  the first 8 bytes of the SHA-1 of everything before
//! ```
//!
//! An overlay: magic "RFRO", version (2), overlay version (8), number of names (4), each name
//! with its length (1), and the same checksum.
//!
//! SHA-1 is the checksum because every reader has it already: it places the keys.
//!
//! Decoding is total: any bytes give a table or an error, and nothing is allocated that the
//! input is not long enough to fill. There is one encoding of a table, and no other is accepted.

use crate::hash::point_of;
use crate::member::{MEMBERS_MAX, Member};
use crate::overlay::StatusOverlay;
use crate::table::{ARCS_MAX, Table};
use ringfs_base::limits::REPLICAS_MAX;
use ringfs_base::{Epoch, NodeName, ZoneName};
use std::collections::BTreeSet;
use thiserror::Error;

/// Version of the encoding that this code writes, and the newest that it reads.
pub const TABLE_VERSION: u16 = 1;

const TABLE_MAGIC: &[u8; 4] = b"RFRT";
const OVERLAY_MAGIC: &[u8; 4] = b"RFRO";
const CHECKSUM_BYTES: usize = 8;

/// Why bytes are no table (or overlay). None of these goes away by trying again.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The magic bytes are others.
    #[error("this is no {what} of RingFS: it does not begin with its mark")]
    NotOurs {
        /// What was asked for.
        what: &'static str,
    },
    /// Written by a newer program.
    #[error(
        "the {what} has format version {found}, but this program reads only up to {supported}; \
         use the newer ringfs that wrote it"
    )]
    Newer {
        /// What was asked for.
        what: &'static str,
        /// The version in the bytes.
        found: u16,
        /// The newest version known here.
        supported: u16,
    },
    /// The checksum is wrong: bytes were lost or changed.
    #[error("the {what} is damaged: its checksum is wrong")]
    Checksum {
        /// What was asked for.
        what: &'static str,
    },
    /// The checksum is right, yet the content makes no sense.
    #[error("the {what} is invalid: {problem}")]
    Invalid {
        /// What was asked for.
        what: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
}

impl Table {
    /// The bytes to store.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.members.len() * 80 + self.rows.len() * 2);
        out.extend_from_slice(TABLE_MAGIC);
        out.extend_from_slice(&TABLE_VERSION.to_be_bytes());
        out.extend_from_slice(&[self.arcs.trailing_zeros() as u8, self.replicas, self.width, 0]);
        out.extend_from_slice(&self.epoch.to_bytes());
        out.extend_from_slice(&(self.members.len() as u32).to_be_bytes());
        for member in &self.members {
            put_text(&mut out, member.name.as_str());
            out.extend_from_slice(&member.weight.to_be_bytes());
            put_text(&mut out, member.zone.as_ref().map_or("", |z| z.as_str()));
        }
        for owner in &self.rows {
            out.extend_from_slice(&owner.to_be_bytes());
        }
        seal(out)
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Table, DecodeError> {
        let mut input = open(bytes, TABLE_MAGIC, "ring table")?;
        let [log2_arcs, replicas, width, zero] = input.array()?;
        if u32::from(log2_arcs) > ARCS_MAX.trailing_zeros() || zero != 0 {
            return Err(input.invalid("its number of arcs is out of range"));
        }
        if !(1..=REPLICAS_MAX).contains(&replicas) || !(1..=replicas).contains(&width) {
            return Err(input.invalid("its number of copies is out of range"));
        }
        let epoch = Epoch::from_bytes(input.array()?);
        let count = input.count(6)?;
        if count > MEMBERS_MAX {
            return Err(input.invalid("it has too many members"));
        }
        let mut members: Vec<Member> = Vec::with_capacity(count);
        for _ in 0..count {
            let name = input.name()?;
            let weight = u32::from_be_bytes(input.array()?);
            let zone = match input.text()? {
                "" => None,
                text => match ZoneName::new(text) {
                    Ok(zone) => Some(zone),
                    Err(_) => return Err(input.invalid("a zone's name is malformed")),
                },
            };
            if members.last().is_some_and(|last| last.name >= name) {
                return Err(input.invalid("its members are out of order"));
            }
            members.push(Member { name, weight, zone });
        }
        let arcs = 1u32 << log2_arcs;
        let cells = arcs as usize * usize::from(width);
        if input.rest.len() != cells * 2 {
            return Err(input.invalid("its rows are too few or too many"));
        }
        let rows: Vec<u16> =
            input.rest.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
        for row in rows.chunks_exact(usize::from(width)) {
            for (i, owner) in row.iter().enumerate() {
                if usize::from(*owner) >= count {
                    return Err(input.invalid("a row names a member that does not exist"));
                }
                if row[..i].contains(owner) {
                    return Err(input.invalid("a row names a member twice"));
                }
            }
        }
        Ok(Table::from_parts(epoch, arcs, replicas, width, members, rows))
    }
}

impl StatusOverlay {
    /// The bytes to store.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32 + self.down.len() * 64);
        out.extend_from_slice(OVERLAY_MAGIC);
        out.extend_from_slice(&TABLE_VERSION.to_be_bytes());
        out.extend_from_slice(&self.version.to_be_bytes());
        out.extend_from_slice(&(self.down.len() as u32).to_be_bytes());
        for name in &self.down {
            put_text(&mut out, name.as_str());
        }
        seal(out)
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<StatusOverlay, DecodeError> {
        let mut input = open(bytes, OVERLAY_MAGIC, "ring status")?;
        let version = u64::from_be_bytes(input.array()?);
        let count = input.count(2)?;
        let mut down = BTreeSet::new();
        for _ in 0..count {
            let name = input.name()?;
            if down.last().is_some_and(|last| *last >= name) {
                return Err(input.invalid("its names are out of order"));
            }
            down.insert(name);
        }
        if !input.rest.is_empty() {
            return Err(input.invalid("bytes follow its end"));
        }
        Ok(StatusOverlay { version, down })
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    debug_assert!(text.len() <= 63, "checked by NodeName and ZoneName");
    out.push(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
}

fn seal(mut out: Vec<u8>) -> Vec<u8> {
    let checksum = point_of(&out).to_be_bytes();
    out.extend_from_slice(&checksum);
    out
}

/// Checks mark, version and checksum, in this order: a newer version may check otherwise.
fn open<'a>(
    bytes: &'a [u8],
    magic: &[u8; 4],
    what: &'static str,
) -> Result<Input<'a>, DecodeError> {
    let mut input = Input { rest: bytes, what };
    match input.array::<4>() {
        Ok(found) if found == *magic => {}
        _ => return Err(DecodeError::NotOurs { what }),
    }
    let found = u16::from_be_bytes(input.array()?);
    if found > TABLE_VERSION {
        return Err(DecodeError::Newer { what, found, supported: TABLE_VERSION });
    }
    if found == 0 {
        return Err(input.invalid("there is no format version 0"));
    }
    let Some((body, checksum)) = bytes.split_last_chunk::<CHECKSUM_BYTES>() else {
        return Err(DecodeError::Checksum { what });
    };
    if point_of(body).to_be_bytes() != *checksum {
        return Err(DecodeError::Checksum { what });
    }
    match body.get(6..) {
        Some(rest) => Ok(Input { rest, what }),
        None => Err(DecodeError::Checksum { what }),
    }
}

/// What is left to read.
struct Input<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Input<'a> {
    fn invalid(&self, problem: &'static str) -> DecodeError {
        DecodeError::Invalid { what: self.what, problem }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.rest.split_first_chunk::<N>() {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(*head)
            }
            None => Err(self.invalid("it ends too early")),
        }
    }

    /// A number of things that take at least `bytes_each`: refused if they cannot all follow,
    /// so that a wrong number allocates nothing.
    fn count(&mut self, bytes_each: usize) -> Result<usize, DecodeError> {
        let count = u32::from_be_bytes(self.array()?) as usize;
        if count > self.rest.len() / bytes_each {
            return Err(self.invalid("it ends too early"));
        }
        Ok(count)
    }

    fn text(&mut self) -> Result<&'a str, DecodeError> {
        let [len] = self.array()?;
        let Some((text, rest)) = self.rest.split_at_checked(usize::from(len)) else {
            return Err(self.invalid("it ends too early"));
        };
        self.rest = rest;
        std::str::from_utf8(text).map_err(|_| self.invalid("a name is malformed"))
    }

    fn name(&mut self) -> Result<NodeName, DecodeError> {
        let text = self.text()?;
        NodeName::new(text).map_err(|_| self.invalid("a name is malformed"))
    }
}
