//! `ringfs node`: block servers come, go, and hold more or less.

use crate::commands::format::check_server;
use crate::compose::OpenVolume;
use crate::credentials::variable_of;
use crate::failure::{Failure, from_link};
use crate::node_option::NodeOption;
use crate::output::{Surroundings, print, print_json, warn};
use crate::quantity::bytes;
use crate::ring_change::{Consent, carry_out};
use crate::server_facts::look;
use crate::table::TextTable;
use crate::target::Target;
use clap::{Args, Subcommand};
use ringfs_base::{NodeName, ZoneName};
use ringfs_cluster::change::{Change, WEIGHT_MAX};
use ringfs_cluster::health::{NodeHealth, Standing, node_health};
use ringfs_cluster::mover::MoveRecord;
use ringfs_link::Endpoint;
use serde_json::json;

/// Add, drain, remove, replace and weigh block servers, under load
///
/// Each command first shows its plan (what moves, how much, how long that takes, the balance after) and
/// asks, or takes --yes. From then on new data go to the new owners, and what there is follows in the
/// background while everything can be read and written.
///
/// Example:
///   ringfs node list redis://meta:6379/demo
///   ringfs node add redis://meta:6379/demo d=redis://h4:6379 --zone rack1
///   ringfs node remove /mnt/demo a --yes --wait
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct NodeArguments {
    #[command(subcommand)]
    command: NodeCommand,
}

#[derive(Debug, Subcommand)]
enum NodeCommand {
    List(ListArguments),
    Add(AddArguments),
    Drain(OneArguments),
    Remove(RemoveArguments),
    Weight(WeightArguments),
    Zone(ZoneArguments),
    Replace(ReplaceArguments),
}

/// List the block servers: address, weight, zone, share, state
///
/// Example:
///   ringfs node list redis://meta:6379/demo --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct ListArguments {
    /// The volume: its URL, or a path where it is mounted.
    volume: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Add a block server, which takes its share of the data
///
/// Example:
///   ringfs node add redis://meta:6379/demo d=redis://h4:6379 --weight 2 --zone rack4
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct AddArguments {
    /// The volume: its URL, or a path where it is mounted.
    volume: String,
    /// The server.
    #[arg(value_name = "NAME=URL")]
    node: String,
    /// Its share relative to the others' [default: 1].
    #[arg(long, value_name = "N")]
    weight: Option<u32>,
    /// What it may fail together with; copies avoid sharing a zone.
    #[arg(long)]
    zone: Option<ZoneName>,
    #[command(flatten)]
    consent: Consent,
}

/// Move all data off a block server, which stays in the list
///
/// Example:
///   ringfs node drain redis://meta:6379/demo a --wait
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct OneArguments {
    /// The volume: its URL, or a path where it is mounted.
    volume: String,
    /// The server's name.
    node: NodeName,
    #[command(flatten)]
    consent: Consent,
}

/// Move all data off a block server and take it off the list
///
/// The server itself keeps its old copies; shut it down or empty it when this is done. One that is dead
/// is removed too: its blocks are made anew from the other copies.
///
/// Example:
///   ringfs node remove redis://meta:6379/demo a --wait
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct RemoveArguments {
    #[command(flatten)]
    one: OneArguments,
}

/// Let a block server hold more or less, relative to the others
///
/// Example:
///   ringfs node weight redis://meta:6379/demo a 2
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct WeightArguments {
    /// The volume: its URL, or a path where it is mounted.
    volume: String,
    /// The server's name.
    node: NodeName,
    /// The weight; 0 drains it.
    #[arg(value_parser = clap::value_parser!(u32).range(0..=i64::from(WEIGHT_MAX)))]
    weight: u32,
    #[command(flatten)]
    consent: Consent,
}

/// Say what a block server may fail together with
///
/// Example:
///   ringfs node zone redis://meta:6379/demo a rack2
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct ZoneArguments {
    /// The volume: its URL, or a path where it is mounted.
    volume: String,
    /// The server's name.
    node: NodeName,
    /// The zone.
    #[arg(required_unless_present = "none")]
    zone: Option<ZoneName>,
    /// It shares none with others.
    #[arg(long, conflicts_with = "zone")]
    none: bool,
    #[command(flatten)]
    consent: Consent,
}

/// Put a new block server in the place of an old one, with its share and zone
///
/// Example:
///   ringfs node replace redis://meta:6379/demo a e=redis://h5:6379
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct ReplaceArguments {
    /// The volume: its URL, or a path where it is mounted.
    volume: String,
    /// The name of the one that goes.
    old: NodeName,
    /// The one that comes.
    #[arg(value_name = "NAME=URL")]
    new: String,
    #[command(flatten)]
    consent: Consent,
}

/// Runs the command.
pub fn run(arguments: &NodeArguments, surroundings: &Surroundings) -> Result<(), Failure> {
    let open = |volume: &str| Ok::<_, Failure>(Target::open(volume, surroundings)?.open);
    match &arguments.command {
        NodeCommand::List(list) => show(&open(&list.volume)?, list.json),
        NodeCommand::Add(add) => {
            let mut node: NodeOption = add.node.parse().map_err(|e: String| Failure::usage(e))?;
            node.weight = add.weight.unwrap_or(node.weight);
            node.zone = add.zone.clone().or(node.zone);
            let open = open(&add.volume)?;
            let change = Change::Add {
                name: node.name.clone(),
                url: node.endpoint.to_url_without_password(),
                weight: node.weight,
                zone: node.zone.clone(),
            };
            come(&open, &node, change, &add.consent, surroundings)
        }
        NodeCommand::Replace(replace) => {
            let node: NodeOption = replace.new.parse().map_err(|e: String| Failure::usage(e))?;
            if node.weight != 1 || node.zone.is_some() {
                return Err(Failure::usage(format!(
                    "node {} takes the weight and zone of node {}; change them afterwards",
                    node.name, replace.old
                )));
            }
            let open = open(&replace.volume)?;
            let change = Change::Replace {
                old: replace.old.clone(),
                name: node.name.clone(),
                url: node.endpoint.to_url_without_password(),
            };
            come(&open, &node, change, &replace.consent, surroundings)
        }
        NodeCommand::Drain(one) => carry_out(
            &open(&one.volume)?,
            &[Change::Drain(one.node.clone())],
            Vec::new(),
            &one.consent,
        ),
        NodeCommand::Remove(RemoveArguments { one }) => {
            let open = open(&one.volume)?;
            let notes = if_dead(&open, &one.node)?;
            carry_out(&open, &[Change::Remove(one.node.clone())], notes, &one.consent)
        }
        NodeCommand::Weight(weight) => {
            let change = Change::Weight(weight.node.clone(), weight.weight);
            carry_out(&open(&weight.volume)?, &[change], Vec::new(), &weight.consent)
        }
        NodeCommand::Zone(zone) => {
            let change = Change::Zone(zone.node.clone(), zone.zone.clone());
            carry_out(&open(&zone.volume)?, &[change], Vec::new(), &zone.consent)
        }
    }
}

/// A server comes: it is looked at as `format` does, before anything else.
fn come(
    open: &OpenVolume,
    node: &NodeOption,
    change: Change,
    consent: &Consent,
    surroundings: &Surroundings,
) -> Result<(), Failure> {
    // What is wrong with the words needs no server to say so.
    ringfs_cluster::change::propose(&open.ring, std::slice::from_ref(&change))
        .map_err(crate::ring_change::refusal)?;
    let about = |f: Failure| f.about(format_args!("node {}", node.name));
    if node.endpoint.has_password() {
        warn(format_args!(
            "the password of node {} is not stored; give it to mounts in {}",
            node.name,
            variable_of(&node.name)
        ));
    }
    let endpoint = surroundings.credentials.for_node(&node.name, node.endpoint.clone())?;
    let (_, facts) = look(&endpoint, &surroundings.timeouts)
        .map_err(|e| from_link(&e))
        .map_err(|f| Failure { message: format!("{}; nothing was changed", f.message), ..f })
        .map_err(about)?;
    check_server(&endpoint, &facts).map_err(about)?;
    let mut notes = Vec::new();
    let mut limits = 0;
    for other in &open.ring.state.nodes {
        let theirs = Endpoint::parse(&other.url).map_err(Failure::from)?;
        let theirs = surroundings.credentials.for_node(&other.name, theirs)?;
        // One that cannot be reached is not this one, which answers.
        let Ok((_, known)) = look(&theirs, &surroundings.timeouts) else { continue };
        if known.run_id == facts.run_id {
            return Err(Failure::refused(format!(
                "node {} is the server of node {} ({}), so two copies there would be lost together; \
                 nothing was changed",
                node.name, other.name, other.url
            )));
        }
        limits += usize::from(known.maxmemory > 0);
    }
    if facts.maxmemory == 0 && limits > 0 {
        notes.push(format!(
            "node {} has no maxmemory, as {limits} of the others have: it may take all memory of its \
             machine",
            node.name
        ));
    }
    if facts.maxmemory > 0 {
        let free = facts.maxmemory.saturating_sub(facts.used_memory);
        notes.push(format!("node {} has {} of memory free", node.name, bytes(free)));
    }
    if facts.keys > 0 {
        notes.push(format!(
            "node {} holds {} keys already, which RingFS leaves alone",
            node.name, facts.keys
        ));
    }
    carry_out(open, &[change], notes, consent)
}

/// Whoever removes a server that does not answer should know what that means.
fn if_dead(open: &OpenVolume, node: &NodeName) -> Result<Vec<String>, Failure> {
    let known = node_health(&open.volume)?;
    let away = known.get(node.as_str()).is_some_and(|health| health.state != Standing::Up);
    Ok(away
        .then(|| {
            format!(
                "node {node} does not answer: blocks of which it has the only copy would be lost, and \
                 are waited for; `ringfs rebalance abandon` gives them up"
            )
        })
        .into_iter()
        .collect())
}

fn show(open: &OpenVolume, as_json: bool) -> Result<(), Failure> {
    let ring = &open.ring;
    let record = ring.state.moving.as_deref().map(MoveRecord::decode).unwrap_or_default();
    let health = node_health(&open.volume)?;
    let shares = ring.table.shares();
    let titles = ["node", "address", ">weight", "zone", ">share", "state", ""];
    let (mut table, mut rows) = (TextTable::new(&titles), Vec::new());
    for node in &ring.state.nodes {
        let name = node.name.as_str();
        let member = ring.table.members().iter().find(|member| member.name == node.name);
        let share = shares.nodes.iter().find(|share| share.name == node.name);
        let leaving = record.leaving.iter().any(|left| left == name);
        let weight = member.map_or(0, |member| member.weight);
        let zone = member.and_then(|member| member.zone.as_ref()).map(ToString::to_string);
        let state = match health.get(name).map(|health| health.state) {
            None | Some(Standing::Up) => "up",
            Some(Standing::Down) => "down",
            Some(Standing::Out) => "out",
        };
        let cause = health.get(name).and_then(|health: &NodeHealth| health.cause.clone());
        let note = match (leaving, weight, &cause) {
            (true, _, _) => "leaves when its blocks have been moved".to_owned(),
            (false, _, Some(cause)) => cause.clone(),
            (false, 0, None) => "drained".to_owned(),
            (false, _, None) => String::new(),
        };
        let fraction = share.map_or(0.0, |share| share.fraction);
        table.row([
            name.to_owned(),
            node.url.clone(),
            weight.to_string(),
            zone.clone().unwrap_or_default(),
            format!("{:.2}%", fraction * 100.0),
            state.to_owned(),
            note,
        ]);
        rows.push(json!({
            "name": name, "url": node.url, "weight": weight, "zone": zone, "share": fraction,
            "state": state, "cause": cause, "leaving": leaving,
        }));
    }
    if as_json {
        print_json(&json!({ "epoch": ring.epoch().0, "nodes": rows }));
    } else {
        print(table.render());
    }
    Ok(())
}
