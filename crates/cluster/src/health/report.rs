//! What one observer sees of the nodes, as the coordinator gets it.

use super::probe::{Answer, Evidence};
use ringfs_base::NodeName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longer ones are not read: a ring of a thousand nodes makes 300 KB.
const REPORT_BYTES_MAX: usize = 4 << 20;
/// More of why a node does not answer is nobody's reading.
const CAUSE_CHARS_MAX: usize = 200;

/// One observer's report. Decoding is total: what cannot be read is no report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SeenReport {
    /// The observer itself was held up lately, so that it does not know what it missed: nothing
    /// may be concluded from this.
    pub blind: bool,
    /// The nodes that it watches, by name.
    pub nodes: BTreeMap<String, NodeSeen>,
}

/// One node as one observer sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeSeen {
    /// Probes without an answer in a row, up to now.
    pub misses: u32,
    /// There have been so many that it believes the node to be down.
    pub suspected: bool,
    /// What it answered last, if it answered the last probe.
    pub answer: Option<Answer>,
    /// Why it did not.
    pub cause: Option<String>,
}

impl NodeSeen {
    /// Takes the outcome of one more probe.
    pub fn note(&mut self, evidence: Evidence, suspect_after: u32) {
        match evidence {
            Evidence::Answers(answer) => {
                *self = NodeSeen { answer: Some(answer), ..NodeSeen::default() };
            }
            Evidence::Silent { cause } => {
                self.misses = self.misses.saturating_add(1);
                self.suspected = self.misses >= suspect_after.max(1);
                self.answer = None;
                self.cause = Some(cause.chars().take(CAUSE_CHARS_MAX).collect());
            }
        }
    }

    /// Forgets what it missed: it was the observer who was not there.
    pub fn forgive(&mut self) {
        self.misses = 0;
        self.suspected = false;
        self.cause = None;
    }
}

impl SeenReport {
    /// As it travels.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain fields can be written")
    }

    /// `None` if it cannot be read.
    pub fn decode(bytes: &[u8]) -> Option<SeenReport> {
        if bytes.len() > REPORT_BYTES_MAX {
            return None;
        }
        serde_json::from_slice(bytes).ok()
    }

    /// What it says of a node.
    pub fn of(&self, node: &NodeName) -> Option<&NodeSeen> {
        self.nodes.get(node.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn silent() -> Evidence {
        Evidence::Silent { cause: "refused".into() }
    }

    #[test]
    fn three_misses_in_a_row_make_a_suspicion_and_one_answer_ends_it() {
        let mut seen = NodeSeen::default();
        for misses in 1..=3 {
            seen.note(silent(), 3);
            assert_eq!((seen.misses, seen.suspected), (misses, misses == 3));
        }
        seen.note(Evidence::Answers(Answer::default()), 3);
        assert_eq!(seen, NodeSeen { answer: Some(Answer::default()), ..NodeSeen::default() });
        seen.note(silent(), 3);
        assert!(seen.misses == 1 && !seen.suspected && seen.answer.is_none());
        seen.forgive();
        assert_eq!(seen, NodeSeen::default());
    }

    #[test]
    fn a_report_reads_what_it_wrote() {
        let mut report = SeenReport { blind: true, ..SeenReport::default() };
        let answer = Answer { run_id: "r".into(), ..Answer::default() };
        report.nodes.insert("a".into(), NodeSeen { answer: Some(answer), ..NodeSeen::default() });
        let mut other = NodeSeen::default();
        other.note(silent(), 1);
        report.nodes.insert("b".into(), other);
        assert_eq!(SeenReport::decode(&report.encode()), Some(report));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            SeenReport::decode(&bytes);
        }
    }
}
