//! What was acknowledged: for each file the bytes that it must hold.
//!
//! A file has one writer, so what it must hold is known. While its mount is killed, or a server that
//! was made to lack memory refuses a write, an operation's outcome is unknown: then every byte is the
//! one before or the one after it, until the file is read back and what is found counts from then on.

use std::sync::RwLock;
use std::time::{Duration, Instant};

/// What is known about one name.
#[derive(Debug)]
pub struct File {
    /// What it holds; `None`: there is no such file.
    pub content: Option<Vec<u8>>,
    /// CRC of the content, as it was acknowledged: the ledger itself is checked, too.
    pub checksum: u64,
    /// When the name last came to mean another file, or none. Other mounts may have it otherwise
    /// for a time.
    pub named: Instant,
    /// What was last done to it.
    pub last: String,
}

/// One writer's files.
pub type Slots = Vec<RwLock<File>>;

/// What an operation whose outcome is unknown may have left.
#[derive(Debug)]
pub struct Doubt {
    /// Before it, as acknowledged.
    pub before: Option<Vec<u8>>,
    /// What it was to make.
    pub after: Option<Vec<u8>>,
    /// The least length that the file can have.
    pub len_min: usize,
}

impl File {
    /// No such file.
    pub fn none() -> File {
        let last = "nothing was done".to_owned();
        File { content: None, checksum: checksum(&[]), named: Instant::now(), last }
    }

    /// From now on it holds this.
    pub fn acknowledge(&mut self, content: Option<Vec<u8>>, last: String) {
        self.checksum = checksum(content.as_deref().unwrap_or_default());
        self.content = content;
        self.last = last;
    }

    /// Its name means another file now.
    pub fn renamed(&mut self) {
        self.named = Instant::now();
    }

    /// Whether other mounts may not know yet what its name means.
    pub fn may_be_known_otherwise(&self, ttl: Duration) -> bool {
        self.named.elapsed() < ttl
    }

    /// Compares; the error says where it differs.
    pub fn compare(&self, found: Option<&[u8]>) -> Result<(), String> {
        let expected = self.content.as_deref();
        assert_eq!(checksum(expected.unwrap_or_default()), self.checksum, "the ledger is broken");
        match (expected, found) {
            (None, None) => Ok(()),
            (Some(_), None) => Err("the file is not there".to_owned()),
            (None, Some(found)) => Err(format!("a file of {} bytes is there", found.len())),
            (Some(expected), Some(found)) if expected == found => Ok(()),
            (Some(expected), Some(found)) => Err(difference(expected, found)),
        }
    }
}

impl Doubt {
    /// Whether this is one of the things that the operation may have left.
    pub fn allows(&self, found: Option<&[u8]>) -> Result<(), String> {
        let Some(found) = found else {
            return match self.before.is_none() || self.after.is_none() {
                true => Ok(()),
                false => Err("the file is gone".to_owned()),
            };
        };
        let (before, after) = (self.side(&self.before), self.side(&self.after));
        let len_max = before.len().max(after.len());
        if found.len() > len_max || found.len() < self.len_min {
            return Err(format!(
                "{} bytes, and they can only be {} to {len_max}",
                found.len(),
                self.len_min
            ));
        }
        let byte = |of: &[u8], at: usize| of.get(at).copied().unwrap_or(0);
        let wrong = (0..found.len())
            .find(|at| ![byte(before, *at), byte(after, *at), 0].contains(&found[*at]));
        // A byte of a hole is only right where the acknowledged content cannot be.
        let hole = (0..self.len_min.min(found.len()))
            .find(|at| found[*at] == 0 && byte(before, *at) != 0 && byte(after, *at) != 0);
        match wrong.or(hole) {
            None => Ok(()),
            Some(at) => Err(format!("byte {at} is neither the old one nor the new one")),
        }
    }

    fn side<'a>(&self, side: &'a Option<Vec<u8>>) -> &'a [u8] {
        side.as_deref().unwrap_or_default()
    }
}

/// FNV-1a over words of eight bytes, so that it costs little.
pub fn checksum(bytes: &[u8]) -> u64 {
    let mut sum = 0xcbf2_9ce4_8422_2325u64 ^ bytes.len() as u64;
    for part in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..part.len()].copy_from_slice(part);
        sum = (sum ^ u64::from_le_bytes(word)).wrapping_mul(0x0100_0000_01b3);
        sum ^= sum >> 29;
    }
    sum
}

fn difference(expected: &[u8], found: &[u8]) -> String {
    let at = expected.iter().zip(found).position(|(a, b)| a != b);
    let at = at.unwrap_or(expected.len().min(found.len()));
    let differ = expected.iter().zip(found).filter(|(a, b)| a != b).count();
    format!(
        "{} bytes instead of {} (checksum {:016x} instead of {:016x}); the first difference is at \
         {at}, {differ} bytes differ, the byte there is {:?} instead of {:?}",
        found.len(),
        expected.len(),
        checksum(found),
        checksum(expected),
        found.get(at),
        expected.get(at),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_unknown_outcome_may_leave() {
        let doubt = Doubt { before: Some(vec![1; 4]), after: Some(vec![2; 6]), len_min: 4 };
        assert!(doubt.allows(Some(&[1, 1, 1, 1])).is_ok());
        assert!(doubt.allows(Some(&[2, 2, 1, 1, 2])).is_ok());
        assert!(doubt.allows(Some(&[1, 1, 1, 1, 0, 2])).is_ok());
        assert!(doubt.allows(Some(&[1, 1, 0, 1])).is_err());
        assert!(doubt.allows(Some(&[1, 1, 1])).is_err());
        assert!(doubt.allows(Some(&[1, 1, 3, 1])).is_err());
        assert!(doubt.allows(None).is_err());
        let unlink = Doubt { before: Some(vec![1]), after: None, len_min: 1 };
        assert!(unlink.allows(None).is_ok() && unlink.allows(Some(&[1])).is_ok());
    }

    #[test]
    fn a_difference_is_told() {
        let mut file = File::none();
        assert!(file.compare(None).is_ok());
        file.acknowledge(Some(b"abc".to_vec()), String::new());
        assert!(file.compare(Some(b"abc")).is_ok());
        assert!(file.compare(Some(b"abd")).unwrap_err().contains("difference is at 2"));
        assert!(file.compare(None).is_err());
    }
}
