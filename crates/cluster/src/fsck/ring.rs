//! Checking what is kept of the ring: its tables, who is down, what is being moved, what is known of
//! the nodes; and the notes of files that cannot be read.

use super::census::Census;
use super::finding::Finding;
use super::records::counter;
use crate::error::ClusterError;
use crate::job::Job;
use crate::shards::Shard;
use bytes::Bytes;
use ringfs_base::InodeId;
use ringfs_link::Cmd;
use ringfs_ring::{StatusOverlay, Table};
use std::collections::{HashMap, HashSet};

/// Session, token and time of the coordinator's lease.
const LEASE_BYTES: usize = 24;
/// The times in the note of a file that cannot be read.
const NOTE_TIMES_BYTES: usize = 16;

pub(super) fn check(
    shard: &Shard,
    census: &mut Census,
    job: &Job,
    control: &HashMap<Bytes, Bytes>,
) -> Result<(), ClusterError> {
    check_notes(shard, census, job)?;
    if shard.number != 0 {
        return Ok(());
    }
    let record: HashMap<Bytes, Bytes> = shard.hash("v")?.into_iter().collect();
    let mut damage = |what: String| census.report(job, Finding::BadRecord { what });
    if record.is_empty() {
        damage("the volume's record is gone".to_owned());
    }
    let epoch = counter(control, "epoch").unwrap_or(0).max(0) as u64;
    let get = |key: &str| -> Result<Bytes, ClusterError> {
        let reply = shard.call(&Cmd::new("GET").arg(shard.key(key)))?;
        Ok(reply.into_bytes().map_err(|e| shard.named(e))?.unwrap_or_default())
    };
    let (table, former, moving) = (get("ring")?, get("former")?, get("mv")?);
    if epoch > 0 || !table.is_empty() {
        match Table::decode(&table) {
            Err(e) => damage(format!("the ring's table cannot be read: {e}")),
            Ok(table) if table.epoch().0 != epoch => damage(format!(
                "the ring's table is of epoch {}, but the epoch is {epoch}",
                table.epoch()
            )),
            Ok(_) => {}
        }
    }
    for table in tables(&former) {
        match table.map(Table::decode) {
            Some(Ok(table)) if table.epoch().0 < epoch => {}
            Some(Ok(table)) => damage(format!(
                "a table of epoch {} is kept as one before epoch {epoch}",
                table.epoch()
            )),
            Some(Err(e)) => damage(format!("a table before the ring's cannot be read: {e}")),
            None => damage("the list of tables before the ring's cannot be read".to_owned()),
        }
    }
    let floor = counter(control, "floor").unwrap_or(0).max(0) as u64;
    if floor > epoch {
        damage(format!("commits are taken from epoch {floor} on, but the ring is at {epoch}"));
    }
    let nodes = record.get("nodes".as_bytes()).map(|nodes| String::from_utf8_lossy(nodes));
    let known: HashSet<&str> = nodes
        .iter()
        .flat_map(|nodes| nodes.lines())
        .filter_map(|line| Some(line.split_once(' ')?.0))
        .collect();
    let mut odd: Vec<String> = Vec::new();
    for (field, value) in shard.hash("m")? {
        match (&field[..], field.split_first()) {
            (b"lease", _) if value.len() != LEASE_BYTES => {
                odd.push("who coordinates cannot be read; the next one takes over".to_owned());
            }
            (b"over", _) => {
                if let Err(e) = StatusOverlay::decode(&value) {
                    let what = format!("which nodes are down cannot be read: {e}");
                    census.report(job, Finding::BadRecord { what });
                }
            }
            (_, Some((b'n', name))) => {
                let name = String::from_utf8_lossy(name);
                if !known.contains(&*name) {
                    odd.push(format!("node {name} is remembered, and is none of the volume's"));
                }
                if serde_json::from_slice::<serde_json::Value>(&value).is_err() {
                    odd.push(format!("what is remembered of node {name} cannot be read"));
                }
            }
            _ => {}
        }
    }
    if !moving.is_empty() && serde_json::from_slice::<serde_json::Value>(&moving).is_err() {
        odd.push("what is being moved cannot be read; all blocks are looked at then".to_owned());
    }
    if moving.is_empty() && !former.is_empty() {
        odd.push("tables before the ring's are kept although nothing is being moved".to_owned());
    }
    census.moving = !moving.is_empty();
    for what in odd {
        census.report(job, Finding::OddRecord { what });
    }
    Ok(())
}

/// Tables, each with its length before it; `None` ends the list where it cannot be read.
fn tables(mut list: &[u8]) -> Vec<Option<&[u8]>> {
    let mut tables = Vec::new();
    while !list.is_empty() {
        let sized = list.split_first_chunk::<4>().and_then(|(length, rest)| {
            rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
        });
        let Some((table, rest)) = sized else {
            tables.push(None);
            break;
        };
        tables.push(Some(table));
        list = rest;
    }
    tables
}

/// Notes of files that cannot be read.
fn check_notes(shard: &Shard, census: &mut Census, job: &Job) -> Result<(), ClusterError> {
    for (ino, note) in shard.hash("lost")? {
        let Some(ino) = ino.first_chunk::<8>().filter(|_| ino.len() == 8) else {
            let what = "a note of a file that cannot be read names no inode".to_owned();
            census.report(job, Finding::OddRecord { what });
            continue;
        };
        let ino = InodeId::from_bytes(*ino);
        if !census.inodes.contains_key(&ino) {
            census.report(job, Finding::NoteOfNobody { ino });
        } else if note.len() < NOTE_TIMES_BYTES {
            let what = format!("the note that inode {ino} cannot be read has no time");
            census.report(job, Finding::OddRecord { what });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_of_tables_are_taken_apart() {
        assert!(tables(b"").is_empty());
        assert_eq!(tables(b"\0\0\0\x02ab\0\0\0\0"), [Some(&b"ab"[..]), Some(&b""[..])]);
        assert_eq!(tables(b"\0\0\0\x02a"), [None]);
        assert_eq!(tables(b"\0\0\0\x01a\0"), [Some(&b"a"[..]), None]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            tables(&bytes);
        }
    }
}
