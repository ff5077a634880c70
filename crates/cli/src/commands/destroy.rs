//! `ringfs destroy`: the end of a volume.

use crate::compose::{self, Patience};
use crate::failure::Failure;
use crate::output::{Surroundings, print, warn};
use crate::quantity::{bytes, count};
use clap::Args;
use ringfs_cluster::health::Generation;
use ringfs_store::NodeIndex;

/// Remove a volume with all its files; this cannot be undone
///
/// Example:
///   ringfs destroy redis://meta:6379/demo --yes
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct DestroyArguments {
    /// The volume, such as redis://meta:6379/demo.
    url: String,
    /// Yes, remove it.
    #[arg(long)]
    yes: bool,
    /// Even though it is mounted somewhere: what is being written there is lost.
    #[arg(long)]
    force: bool,
}

/// Runs the command.
pub fn run(arguments: &DestroyArguments, surroundings: &Surroundings) -> Result<(), Failure> {
    let url = surroundings.volume_url(&arguments.url)?;
    let open = compose::open(&url, surroundings, Patience::Tool)?;
    let mut sessions = open.volume.sessions()?;
    // An agent notices, and ends.
    sessions.retain(|session| !session.info.is_agent());
    if let Some(session) = sessions.first()
        && !arguments.force
    {
        return Err(Failure::refused(format!(
            "volume \"{}\" is in use by {} ({}, process {}){}; unmount it everywhere first, or add \
             --force; nothing was changed",
            url.volume,
            session.info.host,
            session.info.place,
            session.info.pid,
            if sessions.len() > 1 {
                format!(" and {} more", sessions.len() - 1)
            } else {
                String::new()
            },
        )));
    }
    let usage = open.volume.usage()?;
    if !arguments.yes {
        return Err(Failure::refused(format!(
            "volume \"{}\" has {} files and directories with {}, which would be lost; add --yes if \
             that is what you want; nothing was changed",
            url.volume,
            count(usage.inodes),
            bytes(usage.bytes)
        )));
    }
    let membership = open.membership(surroundings)?;
    let store = membership.store();
    // The metadata first: blocks without files are garbage, files without blocks would be damage.
    open.volume.destroy()?;
    let mut removed = 0;
    for (index, node) in open.ring.names().iter().enumerate() {
        let mut cursor = 0;
        loop {
            match store.list(NodeIndex(index), cursor) {
                Ok((next, ids)) => {
                    removed += store.remove(&ids).copies;
                    cursor = next;
                }
                Err(error) => {
                    warn(format_args!("blocks remain on node {node}: {error}"));
                    break;
                }
            }
            if cursor == 0 {
                break;
            }
        }
    }
    for node in membership.nodes(&open.ring)? {
        if let Err(error) = Generation::remove(&url.volume, &node.endpoint, surroundings.timeouts) {
            warn(format_args!("the volume's mark remains on node {}: {error}", node.name));
        }
    }
    print(format_args!(
        "Volume \"{}\" is removed, with {} copies of blocks.\n",
        url.volume,
        count(removed as u64)
    ));
    Ok(())
}
