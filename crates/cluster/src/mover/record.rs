//! What the metadata server keeps of a move: what was asked for, and how far it is.
//!
//! Whoever coordinates next goes on from it. Fields that are missing have their defaults, and unknown
//! ones are ignored, so that programs of neighbouring versions can go on with each other's moves.

use crate::repair::Position;
use serde::{Deserialize, Serialize};

/// A move of blocks to where a new table has them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MoveRecord {
    /// What was asked for, such as `add n4`, in order.
    pub what: Vec<String>,
    /// By whom: host and process.
    pub by: String,
    /// When, in seconds since 1970.
    pub began: u64,
    /// Nodes that leave the list when it has ended.
    pub leaving: Vec<String>,
    /// Not only the arcs that differ between the tables kept must be looked at: one before them has
    /// been forgotten.
    pub whole: bool,
    /// The part of all copies that must be made, 0 to 1, as it was planned.
    pub fraction: f64,
    /// Everything before this is in its place.
    pub position: Option<Position>,
    /// Commits under the tables before are refused, and what came until then is being looked for.
    pub closing: bool,
    /// All blocks have been looked at once, and new copies read back, but on `unread`.
    pub verified: bool,
    /// Nodes that could not be reached then.
    pub unread: Vec<String>,
    /// Nodes that cannot be reached, or do not take what they should have: they are tried again.
    pub waiting: Vec<String>,
    /// Blocks that may be only on nodes that cannot be reached and shall leave: they are waited for.
    pub out_of_reach: u64,
    /// Copies written so far.
    pub copies: u64,
    /// Bytes of these, as they are stored.
    pub bytes: u64,
}

impl MoveRecord {
    /// Reads what [`Self::encode`] wrote. A record that cannot be read leads to a move that looks at
    /// everything.
    pub fn decode(text: &str) -> MoveRecord {
        serde_json::from_str(text).unwrap_or_else(|error| {
            tracing::warn!(%error, "the record of the move cannot be read: all blocks are looked at");
            MoveRecord { whole: true, ..MoveRecord::default() }
        })
    }

    /// As text.
    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("plain fields can be written")
    }

    /// What was asked for, as one line.
    pub fn describe(&self) -> String {
        match self.what.is_empty() {
            true => "a change of the ring".to_owned(),
            false => self.what.join(", "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repair::Pass;

    #[test]
    fn a_record_reads_what_it_wrote_and_never_fails() {
        let record = MoveRecord {
            what: vec!["add d".to_owned()],
            position: Some(Position { pass: Pass::Degraded, slice: 7 }),
            fraction: 0.25,
            ..MoveRecord::default()
        };
        assert_eq!(MoveRecord::decode(&record.encode()), record);
        assert!(MoveRecord::decode("nonsense").whole);
        let older = MoveRecord::decode("{\"what\":[\"x\"],\"later\":1}");
        assert_eq!((older.describe().as_str(), older.whole), ("x", false));
    }
}
