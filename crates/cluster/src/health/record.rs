//! What is remembered of a server: text in the metadata server, written by the coordinator alone and
//! read by everybody.

use super::probe::Condition;
use ringfs_meta::{MetaError, Volume};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Runs of a server's process that are remembered, so that a late report of one is not news.
pub const PAST_RUNS_MAX: usize = 4;

/// Whether a server takes part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It does.
    #[default]
    Up,
    /// It is skipped: stand-ins take what is written for it, and it gets that when it is back.
    Down,
    /// It was down for so long that the others have taken over what it had. It gets its share again
    /// when it is back.
    Out,
}

/// A server as the coordinator knows it. Times are seconds since 1970 by the metadata server's clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeHealth {
    /// Whether it takes part.
    pub state: Standing,
    /// Since when.
    pub since: u64,
    /// Why, in words; also what is odd about a server that is up.
    pub cause: Option<String>,
    /// What it says of itself, as of its last answer.
    pub condition: Condition,
    /// Its process; empty before its first answer.
    pub run_id: String,
    /// The processes before, the latest last.
    pub past_runs: Vec<String>,
    /// The highest count of ours that it is known to have; 0 if it has none. See
    /// [`super::Generation`].
    pub generation: u64,
    /// Grows by one each time it came back, or may have lost data otherwise: what it owns must then be
    /// looked at again. 0 = nothing has happened since it is known.
    pub incarnation: u64,
    /// How often it went down in a row, with less than ten minutes between.
    pub flaps: u32,
    /// When it went down last; 0 = never.
    pub down_at: u64,
    /// It answers again, and is up at this time if it goes on to; 0 = it does not answer.
    pub up_not_before: u64,
    /// For how long it has not answered, in milliseconds, as counted by the coordinators' own clocks
    /// while they watched.
    pub silent_ms: u64,
    /// It should be out, and so many others are that a person must decide.
    pub needs_person: bool,
    /// While it is out: the weight that it gets again.
    pub weight: Option<u32>,
    /// Its zone.
    pub zone: Option<String>,
}

impl NodeHealth {
    /// Reads it. What cannot be read counts as a server of which nothing is known.
    pub fn decode(text: &str) -> NodeHealth {
        serde_json::from_str(text).unwrap_or_else(|error| {
            tracing::warn!(%error, "what was recorded of a node cannot be read");
            NodeHealth::default()
        })
    }

    /// As it is recorded.
    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("plain fields can be written")
    }
}

/// What is recorded of the nodes of a volume, by their names.
///
/// # Errors
/// When the metadata server cannot be asked.
pub fn node_health(volume: &Volume) -> Result<BTreeMap<String, NodeHealth>, MetaError> {
    let texts = volume.node_states()?;
    Ok(texts.into_iter().map(|(name, text)| (name, NodeHealth::decode(&text))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_record_reads_what_it_wrote() {
        let record = NodeHealth {
            state: Standing::Out,
            since: 7,
            cause: Some("did not answer".into()),
            run_id: "abc".into(),
            past_runs: vec!["x".into()],
            weight: Some(3),
            incarnation: 9,
            ..NodeHealth::default()
        };
        assert_eq!(NodeHealth::decode(&record.encode()), record);
        assert!(record.encode().contains("\"state\":\"out\""));
    }

    #[test]
    fn fields_that_are_not_known_or_missing_do_no_harm() {
        let read = NodeHealth::decode(r#"{"state":"down","incarnation":3,"newer":[1]}"#);
        assert_eq!((read.state, read.incarnation, read.flaps), (Standing::Down, 3, 0));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in ".{0,80}") {
            NodeHealth::decode(&text);
        }
    }
}
