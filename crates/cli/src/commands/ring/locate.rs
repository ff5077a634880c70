//! `ringfs ring locate`: from a path to blocks, and from blocks to nodes.

use super::parse_block;
use crate::compose::OpenVolume;
use crate::failure::Failure;
use crate::output::{Surroundings, print, print_json};
use crate::quantity::{bytes, count};
use crate::table::TextTable;
use ringfs_base::{BlockId, InodeId, NodeName, limits};
use ringfs_meta::{Attr, FileKind, MetaError, SessionInfo};
use ringfs_store::{Copy, CopyState, Depth, Placement, Scope};
use serde_json::json;

/// Blocks that are shown; a file of 1 TiB would have a million.
const SHOWN_MAX: usize = 10_000;

/// A block that a file refers to.
struct Located {
    /// Where its bytes begin in the file, if it was found through one.
    file_offset: Option<u64>,
    /// Bytes of it that the file uses.
    used: u64,
    block: BlockId,
}

/// Runs the command.
pub fn run(
    open: &OpenVolume,
    what: &str,
    check: bool,
    as_json: bool,
    surroundings: &Surroundings,
) -> Result<(), Failure> {
    let (head, blocks) = if what.starts_with('/') {
        let attr = resolve(open, what)?;
        (describe(what, &attr), blocks_of(open, &attr)?)
    } else if let Some(block) = parse_block(what) {
        (format!("block {block}"), vec![Located { file_offset: None, used: 0, block }])
    } else {
        return Err(Failure::usage(format!(
            "\"{}\" is neither a path from the volume's root, such as /a/b, nor a block, such as 1a.0",
            what.escape_debug()
        )));
    };
    let membership = open.membership(surroundings)?;
    let placement = open.ring.placement();
    let ids: Vec<BlockId> = blocks.iter().take(SHOWN_MAX).map(|b| b.block).collect();
    let copies: Option<Vec<Vec<Copy>>> =
        check.then(|| membership.store().check_many(&ids, Depth::Header, Scope::Everywhere));
    let names = open.ring.names();
    let name = |index: usize| names.get(index).map_or("?", NodeName::as_str);
    let owners = |block: BlockId| -> Vec<&str> {
        placement.owners(block).into_iter().map(|node| name(node.0)).collect()
    };
    let states = |index: usize| -> Vec<(&str, String)> {
        let copies = copies.as_ref().and_then(|all| all.get(index));
        let shown = |copy: &&Copy| copy.is_owner || copy.state != CopyState::Missing;
        copies.into_iter().flatten().filter(shown).map(|c| (name(c.node.0), state(c))).collect()
    };

    if as_json {
        let list: Vec<_> = blocks
            .iter()
            .take(SHOWN_MAX)
            .enumerate()
            .map(|(i, b)| {
                let arc = open.ring.table.arc_of(&b.block.to_bytes()).0;
                let copies: Vec<_> =
                    states(i).into_iter().map(|(n, s)| json!({ "node": n, "state": s })).collect();
                json!({
                    "block": b.block.to_string(), "file_offset": b.file_offset, "arc": arc,
                    "owners": owners(b.block), "copies": check.then_some(copies),
                })
            })
            .collect();
        print_json(&json!({
            "epoch": open.ring.table.epoch().0, "blocks_total": blocks.len(), "blocks": list,
        }));
        return Ok(());
    }
    let mut table = TextTable::new(&[">offset", ">bytes", "block", ">arc", "nodes", "found"]);
    for (i, b) in blocks.iter().take(SHOWN_MAX).enumerate() {
        let found: Vec<String> = states(i).into_iter().map(|(n, s)| format!("{n} {s}")).collect();
        table.row([
            b.file_offset.map_or(String::new(), count),
            b.file_offset.map_or(String::new(), |_| count(b.used)),
            b.block.to_string(),
            open.ring.table.arc_of(&b.block.to_bytes()).0.to_string(),
            owners(b.block).join(" "),
            found.join(", "),
        ]);
    }
    print(format_args!("{head}\n"));
    if !table.is_empty() {
        print(format_args!("\n{}", table.render()));
    }
    if blocks.len() > SHOWN_MAX {
        print(format_args!("... and {} more\n", count((blocks.len() - SHOWN_MAX) as u64)));
    }
    Ok(())
}

fn state(copy: &Copy) -> String {
    let state = match &copy.state {
        CopyState::Good => "good".to_owned(),
        CopyState::Missing => "missing".to_owned(),
        CopyState::Bad(damage) => format!("bad ({damage})"),
        CopyState::Unreachable(_) => "unreachable".to_owned(),
    };
    if copy.is_owner { state } else { format!("{state} (standing in)") }
}

fn describe(path: &str, attr: &Attr) -> String {
    match attr.kind {
        FileKind::File => format!("{path}: inode {}, {}", attr.ino, bytes(attr.size)),
        _ => format!("{path}: inode {}, no file, so it has no blocks", attr.ino),
    }
}

/// Walks a path from the root. Symbolic links are not followed: they may lead out of the volume.
fn resolve(open: &OpenVolume, path: &str) -> Result<Attr, Failure> {
    let session = open.volume.start_session(&SessionInfo {
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        pid: std::process::id(),
        place: "ringfs ring locate".to_owned(),
    })?;
    let mut attr = open.volume.getattr(InodeId::ROOT);
    for name in path.split('/').filter(|name| !name.is_empty() && *name != ".") {
        let Ok(parent) = &attr else { break };
        attr = session.lookup(parent.ino, name.as_bytes()).map(|found| found.attr);
    }
    session.end()?;
    attr.map_err(|error| match error {
        MetaError::Posix(errno) => Failure::plain(format!("cannot find {path}: {errno}")),
        other => other.into(),
    })
}

fn blocks_of(open: &OpenVolume, attr: &Attr) -> Result<Vec<Located>, Failure> {
    let block_bytes = u64::from(open.config.block_bytes.max(1));
    let mut out = Vec::new();
    for (chunk, records) in open.volume.chunks_of(attr.ino)? {
        let base = chunk.saturating_mul(limits::CHUNK_BYTES);
        for record in records.iter().filter(|record| record.slice.0 != 0) {
            let (from, to) = (u64::from(record.off), u64::from(record.off) + u64::from(record.len));
            let mut at = from;
            while at < to {
                let index = at / block_bytes;
                let end = to.min((index + 1) * block_bytes);
                out.push(Located {
                    file_offset: Some(base + u64::from(record.pos) + (at - from)),
                    used: end - at,
                    block: BlockId { slice: record.slice, index: index as u32 },
                });
                at = end;
            }
        }
    }
    out.sort_by_key(|located| located.file_offset);
    Ok(out)
}
