//! The paths of some inodes, for people: found by looking through all names, so it takes its time
//! on a large volume, and that is bounded.

use crate::error::ClusterError;
use ringfs_base::InodeId;
use ringfs_meta::{MetaError, Volume};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// One path of each of the inodes; those that have none, or were not found in time, are left out.
pub fn paths_of(
    volume: &Volume,
    inodes: &HashSet<InodeId>,
    within: Duration,
) -> Result<HashMap<InodeId, String>, ClusterError> {
    let until = Instant::now() + within;
    let mut found: HashMap<InodeId, String> = HashMap::new();
    let mut above: HashMap<InodeId, Option<String>> = HashMap::new();
    let mut cursor = 0;
    while found.len() < inodes.len() {
        let (next, names) = volume.scan_entries(cursor)?;
        for entry in names.iter().filter(|entry| inodes.contains(&entry.ino)) {
            let dir = match above.entry(entry.dir) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => place.insert(match volume.path_of(entry.dir) {
                    Ok(path) => Some(show(&path)),
                    // It is not reached from the root, or not any more.
                    Err(MetaError::Posix(_)) => None,
                    Err(error) => return Err(error.into()),
                }),
            };
            if let Some(dir) = dir {
                let path = format!("{}/{}", dir.trim_end_matches('/'), show(&entry.name));
                found.entry(entry.ino).or_insert(path);
            }
        }
        if next == 0 || Instant::now() >= until {
            break;
        }
        cursor = next;
    }
    Ok(found)
}

/// A name or path as it can be shown in one line.
pub(crate) fn show(name: &[u8]) -> String {
    match std::str::from_utf8(name) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => name.escape_ascii().to_string(),
    }
}
