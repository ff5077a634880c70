//! `ringfs volumes`: what there is on a metadata server.

use crate::failure::Failure;
use crate::output::{Surroundings, print, print_json};
use crate::quantity::{bytes, count};
use crate::table::TextTable;
use clap::Args;
use ringfs_meta::{MetaError, Volume};
use serde_json::json;

/// List the volumes of a metadata server
///
/// Example:
///   ringfs volumes redis://meta:6379
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct VolumesArguments {
    /// The metadata server, such as redis://meta:6379.
    url: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(arguments: &VolumesArguments, surroundings: &Surroundings) -> Result<(), Failure> {
    let endpoint = surroundings.meta_url(&arguments.url)?.endpoint;
    ringfs_link::Conn::open(&endpoint, &surroundings.timeouts)?;
    let mut table =
        TextTable::new(&["volume", ">inodes", ">bytes", ">copies", ">nodes", ">mounts", "note"]);
    let mut list = Vec::new();
    for name in Volume::list(&endpoint, surroundings.timeouts)? {
        let row = Volume::open(&endpoint, surroundings.timeouts, &name)
            .and_then(|volume| Ok((volume.config(), volume.usage()?, volume.sessions()?.len())));
        match row {
            Ok((config, usage, sessions)) => {
                table.row([
                    name.to_string(),
                    count(usage.inodes),
                    bytes(usage.bytes),
                    config.replicas.to_string(),
                    config.nodes.len().to_string(),
                    sessions.to_string(),
                ]);
                list.push(json!({
                    "name": name.as_str(), "uuid": config.uuid.to_string(), "inodes": usage.inodes,
                    "bytes": usage.bytes, "replicas": config.replicas,
                    "nodes": config.nodes.len(), "sessions": sessions,
                }));
            }
            // One that we cannot read is no reason not to list the others.
            Err(error @ (MetaError::NewerFormat { .. } | MetaError::Corrupt(_))) => {
                let note = error.to_string();
                table.row([name.as_str(), "", "", "", "", "", note.as_str()]);
                list.push(json!({ "name": name.as_str(), "error": note }));
            }
            Err(MetaError::NoSuchVolume { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if arguments.json {
        print_json(&json!(list));
    } else if table.is_empty() {
        print(format_args!("There are no volumes on {endpoint}; `ringfs format` makes one.\n"));
    } else {
        print(table.render());
    }
    Ok(())
}
