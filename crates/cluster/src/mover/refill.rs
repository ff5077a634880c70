//! Nodes that came back: after an absence, a restart or a loss they may lack what they should hold.
//!
//! Whoever judges the nodes counts how often each came back; the mover remembers up to which time it
//! has looked through each. Pure, but for reading and writing that record.

use crate::health::{NodeHealth, node_health};
use crate::membership::Ring;
use ringfs_base::NodeName;
use ringfs_meta::{MetaError, Volume};
use std::collections::BTreeMap;

/// The mover's record of it, in JSON: incarnation by node.
const FILLED: &str = "move.filled";

/// The nodes to be looked through, each with the incarnation that it has.
pub(crate) fn due(volume: &Volume, ring: &Ring) -> Result<BTreeMap<NodeName, u64>, MetaError> {
    let known = node_health(volume)?;
    if known.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut due = behind(ring.names(), &known, &filled(volume)?);
    // One that is away again will have come back once more.
    due.retain(|name, _| !ring.overlay.down.contains(name));
    Ok(due)
}

fn behind(
    names: Vec<NodeName>,
    known: &BTreeMap<String, NodeHealth>,
    filled: &BTreeMap<String, u64>,
) -> BTreeMap<NodeName, u64> {
    let incarnation = |name: &NodeName| known.get(name.as_str()).map_or(0, |node| node.incarnation);
    names
        .into_iter()
        .map(|name| (incarnation(&name), name))
        .filter(|(now, name)| *now > filled.get(name.as_str()).copied().unwrap_or(0))
        .map(|(now, name)| (name, now))
        .collect()
}

/// Remembers that these have been looked through. Nodes that the ring has no more are forgotten: a
/// later one of the same name begins anew.
pub(super) fn note(
    volume: &Volume,
    ring: &Ring,
    done: &BTreeMap<NodeName, u64>,
) -> Result<(), MetaError> {
    let names = ring.names();
    let mut all = filled(volume)?;
    all.retain(|name, _| names.iter().any(|known| known.as_str() == name));
    all.extend(done.iter().map(|(name, incarnation)| (name.to_string(), *incarnation)));
    let text = serde_json::to_string(&all).expect("names and numbers can be written");
    volume.set_worker(FILLED, Some(&text))
}

fn filled(volume: &Volume) -> Result<BTreeMap<String, u64>, MetaError> {
    let records = volume.workers()?;
    let Some(text) = records.get(FILLED) else { return Ok(BTreeMap::new()) };
    Ok(serde_json::from_str(text).unwrap_or_else(|error| {
        tracing::warn!(%error, "which nodes have been refilled cannot be read: all that came back are");
        BTreeMap::new()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_came_back_since_it_was_filled_is_due() {
        let names = ["a", "b", "c", "d"].map(|name| NodeName::new(name).unwrap()).to_vec();
        let came = |incarnation| NodeHealth { incarnation, ..NodeHealth::default() };
        let known = [("a", came(3)), ("b", came(2)), ("c", came(0)), ("gone", came(9))];
        let known = known.map(|(name, node)| (name.to_owned(), node)).into();
        let filled = BTreeMap::from([("a".to_owned(), 2), ("b".to_owned(), 2)]);
        let due = behind(names, &known, &filled);
        assert_eq!(due, BTreeMap::from([(NodeName::new("a").unwrap(), 3)]));
    }
}
