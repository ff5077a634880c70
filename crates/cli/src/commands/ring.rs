//! `ringfs ring`: where blocks are, how well the ring does, and how many arcs and copies it has.

use crate::compose::{self, OpenVolume, Patience};
use crate::failure::Failure;
use crate::output::{Surroundings, print, print_json};
use crate::quantity::count;
use crate::ring_change::{Consent, carry_out, fullest_over_due};
use crate::table::TextTable;
use crate::target::Target;
use clap::{Args, Subcommand};
use ringfs_base::limits::REPLICAS_MAX;
use ringfs_base::{BlockId, SliceId};
use ringfs_cluster::change::Change;
use ringfs_ring::simulate::Scenario;
use ringfs_ring::{ARCS_DEFAULT, ARCS_MAX, svg};
use serde_json::json;
use std::path::PathBuf;

mod locate;

/// Look at the ring: who holds what; change its arcs and copies
///
/// Example:
///   ringfs ring show redis://meta:6379/demo
///   ringfs ring locate redis://meta:6379/demo /reports/2026.csv
///   ringfs ring simulate --servers 100 --replicas 3
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct RingArguments {
    #[command(subcommand)]
    command: RingCommand,
}

#[derive(Debug, Subcommand)]
enum RingCommand {
    Show(ShowArguments),
    Locate(LocateArguments),
    Simulate(SimulateArguments),
    Split(SplitArguments),
    Replicas(ReplicasArguments),
}

/// Show each node's share of the ring
///
/// Example:
///   ringfs ring show redis://meta:6379/demo --svg ring.svg
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct ShowArguments {
    /// The volume, such as redis://meta:6379/demo.
    url: String,
    /// Draw the ring into this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Show which nodes hold the blocks of a file, or one block
///
/// Example:
///   ringfs ring locate redis://meta:6379/demo /reports/2026.csv
///   ringfs ring locate redis://meta:6379/demo 1a.0 --check
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct LocateArguments {
    /// The volume, such as redis://meta:6379/demo.
    url: String,
    /// A path in the volume, from its root, or a block as fsck names it, such as 1a.0.
    what: String,
    /// Ask the nodes whether they have it.
    #[arg(long)]
    check: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Compare the ring with other placements, in numbers
///
/// Example:
///   ringfs ring simulate --servers 100 --replicas 3
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct SimulateArguments {
    /// Equal servers.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(2..=2000))]
    servers: u16,
    /// Copies.
    #[arg(long, value_name = "N", default_value_t = 3)]
    replicas: u8,
    /// Arcs of the ring, a power of two.
    #[arg(long, value_name = "P", default_value_t = ARCS_DEFAULT, value_parser = clap::value_parser!(u32).range(1..=i64::from(ARCS_MAX)))]
    arcs: u32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Double the arcs of the ring, for a finer balance on many servers; nothing moves
///
/// Example:
///   ringfs ring split redis://meta:6379/demo
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct SplitArguments {
    /// The volume: its URL, or a path where it is mounted.
    volume: String,
    #[command(flatten)]
    consent: Consent,
}

/// Keep more or fewer copies of each block, under load
///
/// Example:
///   ringfs ring replicas redis://meta:6379/demo 3 --wait
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct ReplicasArguments {
    /// The volume: its URL, or a path where it is mounted.
    volume: String,
    /// Copies of each block.
    #[arg(value_parser = clap::value_parser!(u8).range(1..=i64::from(REPLICAS_MAX)))]
    copies: u8,
    #[command(flatten)]
    consent: Consent,
}

/// Runs the command.
pub fn run(arguments: &RingArguments, surroundings: &Surroundings) -> Result<(), Failure> {
    match &arguments.command {
        RingCommand::Show(arguments) => show(arguments, surroundings),
        RingCommand::Locate(arguments) => locate::run(
            &open(&arguments.url, surroundings)?,
            &arguments.what,
            arguments.check,
            arguments.json,
            surroundings,
        ),
        RingCommand::Simulate(arguments) => simulate(arguments),
        RingCommand::Split(split) => {
            let open = Target::open(&split.volume, surroundings)?.open;
            carry_out(&open, &[Change::Split], Vec::new(), &split.consent)
        }
        RingCommand::Replicas(replicas) => {
            let open = Target::open(&replicas.volume, surroundings)?.open;
            let change = Change::Replicas(replicas.copies);
            carry_out(&open, &[change], Vec::new(), &replicas.consent)
        }
    }
}

fn open(url: &str, surroundings: &Surroundings) -> Result<OpenVolume, Failure> {
    compose::open(&surroundings.volume_url(url)?, surroundings, Patience::Tool)
}

fn show(arguments: &ShowArguments, surroundings: &Surroundings) -> Result<(), Failure> {
    let open = open(&arguments.url, surroundings)?;
    let table = &open.ring.table;
    if let Some(file) = &arguments.svg {
        std::fs::write(file, svg::svg(table))
            .map_err(|e| Failure::io(format_args!("write {}", file.display()), &e))?;
    }
    let shares = table.shares();
    let zone = |index: usize| table.members()[index].zone.as_ref().map(ToString::to_string);
    if arguments.json {
        let nodes: Vec<_> = shares
            .nodes
            .iter()
            .enumerate()
            .map(|(i, n)| {
                json!({
                    "name": n.name.as_str(), "weight": n.weight, "zone": zone(i),
                    "copies": n.copies, "first": n.primaries, "share": n.fraction,
                })
            })
            .collect();
        print_json(&json!({
            "epoch": table.epoch().0, "arcs": table.arcs(), "replicas": table.replicas(),
            "fullest_over_due": fullest_over_due(&shares), "nodes": nodes,
        }));
        return Ok(());
    }
    let mut out = TextTable::new(&["node", ">weight", "zone", ">copies", ">share", ">first"]);
    for (i, n) in shares.nodes.iter().enumerate() {
        out.row([
            n.name.to_string(),
            n.weight.to_string(),
            zone(i).unwrap_or_default(),
            count(n.copies.into()),
            format!("{:.2}%", n.fraction * 100.0),
            count(n.primaries.into()),
        ]);
    }
    print(format_args!(
        "epoch {}, {} arcs, {} copies; the fullest node has {:.4} of what it is due\n\n{}",
        table.epoch(),
        count(table.arcs().into()),
        table.width(),
        fullest_over_due(&shares),
        out.render()
    ));
    Ok(())
}

fn simulate(arguments: &SimulateArguments) -> Result<(), Failure> {
    let scenario = Scenario::equal_servers(arguments.servers, arguments.replicas, arguments.arcs);
    let report = scenario.run().map_err(|e| Failure::usage(e.to_string()))?;
    if arguments.json {
        print(format_args!("{}\n", report.to_json()));
    } else {
        print(report.to_text());
    }
    Ok(())
}

/// Reads `SLICE.INDEX` in hexadecimal, as [`BlockId`] is shown.
fn parse_block(text: &str) -> Option<BlockId> {
    let (slice, index) = text.split_once('.')?;
    Some(BlockId {
        slice: SliceId(u64::from_str_radix(slice, 16).ok()?),
        index: u32::from_str_radix(index, 16).ok()?,
    })
}
