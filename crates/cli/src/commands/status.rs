//! `ringfs status`: how a volume is.

use crate::compose::{self, Patience};
use crate::failure::Failure;
use crate::output::{Surroundings, print, print_json};
use crate::quantity::{bytes, count, duration};
use crate::table::TextTable;
use clap::Args;
use ringfs_cluster::VolumeStatus;
use ringfs_cluster::status::{NodeReport, NodeState};
use serde_json::json;
use std::time::Duration;

/// Show how a volume is: servers, usage, who mounts it; exit code 3 if a node is down
///
/// Example:
///   ringfs status redis://meta:6379/demo
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct StatusArguments {
    /// The volume, such as redis://meta:6379/demo.
    url: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(arguments: &StatusArguments, surroundings: &Surroundings) -> Result<(), Failure> {
    let url = surroundings.volume_url(&arguments.url)?;
    let open = compose::open(&url, surroundings, Patience::Tool)?;
    let status = ringfs_cluster::status(&open.subject(surroundings)?)?;
    if arguments.json {
        let mut document = serde_json::to_value(&status)
            .map_err(|e| Failure::plain(format!("cannot write JSON: {e}")))?;
        document["degraded"] = json!(status.is_degraded());
        print_json(&document);
    } else {
        print(text(&status));
    }
    if status.is_degraded() { Err(Failure::problems()) } else { Ok(()) }
}

fn text(status: &VolumeStatus) -> String {
    let limit = |value: String, max: u64, shown: String| match max {
        0 => value,
        _ => format!("{value} of {shown}"),
    };
    let mut out = format!(
        "volume      {} ({})\nstate       {}\ncopies      {} of each block, ring epoch {}\n\
         durability  {}\ninodes      {}\nbytes       {}\n",
        status.volume,
        status.uuid,
        state(status),
        status.replicas,
        status.epoch,
        status.durability,
        limit(count(status.inodes), status.inodes_max, count(status.inodes_max)),
        limit(bytes(status.bytes), status.bytes_max, bytes(status.bytes_max)),
    );
    if status.orphans > 0 {
        out.push_str(&format!("open        {} files have no name any more\n", status.orphans));
    }
    let mut table = TextTable::new(&[
        "server", "address", "state", ">memory", ">limit", ">copies", ">first", ">latency",
        "version",
    ]);
    for node in std::iter::once(&status.metadata).chain(&status.nodes) {
        table.row(row(node));
    }
    out.push('\n');
    out.push_str(&table.render());
    for node in std::iter::once(&status.metadata).chain(&status.nodes) {
        if let Some(cause) = &node.cause {
            out.push_str(&format!("\n{}: {cause}\n", node.name));
        }
    }
    if !status.sessions.is_empty() {
        let mut table =
            TextTable::new(&[">session", "host", ">process", "place", ">last sign", ">epoch"]);
        for session in &status.sessions {
            table.row([
                session.id.to_string(),
                session.host.clone(),
                session.pid.to_string(),
                session.place.clone(),
                format!("{} ago", duration(Duration::from_secs(session.idle_seconds))),
                session.epoch.to_string(),
            ]);
        }
        out.push('\n');
        out.push_str(&table.render());
    }
    out
}

fn state(status: &VolumeStatus) -> String {
    let down = status.nodes.iter().filter(|node| node.state == NodeState::Down).count();
    match down {
        0 => "all nodes are up".to_owned(),
        _ if down < usize::from(status.replicas) => format!(
            "degraded: {down} of {} nodes down; all files can be read and written",
            status.nodes.len()
        ),
        _ => format!(
            "degraded: {down} of {} nodes down; some files cannot be read",
            status.nodes.len()
        ),
    }
}

fn row(node: &NodeReport) -> [String; 9] {
    let share = |value: Option<f64>| value.map_or(String::new(), |v| format!("{:.1}%", v * 100.0));
    [
        node.name.clone(),
        node.address.clone(),
        match (node.state, node.marked_down) {
            (NodeState::Up, false) => "up",
            (NodeState::Up, true) => "up, marked down",
            (NodeState::Suspect, _) => "in doubt",
            (NodeState::Down, _) => "down",
        }
        .to_owned(),
        node.memory_used.map_or(String::new(), bytes),
        match node.memory_max {
            Some(0) => "none".to_owned(),
            Some(max) => bytes(max),
            None => String::new(),
        },
        share(node.copies_share),
        share(node.primaries_share),
        node.latency_us.map_or(String::new(), |us| duration(Duration::from_micros(us))),
        node.version.clone().unwrap_or_default(),
    ]
}
