//! `ringfs format`: checks everything first, then makes the volume.

use crate::failure::{Exit, Failure, from_link};
use crate::node_option::NodeOption;
use crate::output::{Surroundings, print, print_json, warn};
use crate::quantity::parse_bytes;
use crate::server_facts::{OLDEST_VERSION, ServerFacts, look};
use crate::volume_url::shown;
use clap::{Args, ValueEnum};
use ringfs_base::{Clock, Epoch, SystemClock, VolumeName, VolumeUuid, limits};
use ringfs_link::Endpoint;
use ringfs_meta::{Codec, Durability, MetaError, NodeRecord, Volume, VolumeConfig};
use ringfs_ring::{ARCS_DEFAULT, Member, Table, plan};
use ringfs_store::StoreConfig;
use serde_json::json;
use std::collections::BTreeSet;

/// Make a new volume
///
/// Nothing is changed unless all servers answer, none of them may throw data away when its memory is
/// full (maxmemory-policy must be noeviction), and the volume does not exist yet.
///
/// Example:
///   ringfs format redis://meta:6379 demo --replicas 2 \
///       --node a=redis://h1:6379,zone=rack1 --node b=redis://h2:6379,zone=rack2 \
///       --node c=redis://h3:6379,weight=2,zone=rack3
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct FormatArguments {
    /// The metadata server, such as redis://meta:6379.
    url: String,
    /// The volume's name; it may also be the path of the URL.
    name: Option<VolumeName>,
    /// A block server; repeat the option for each.
    #[arg(long = "node", value_name = "NAME=URL[,weight=N][,zone=ZONE]", required = true)]
    nodes: Vec<String>,
    /// Copies of each block.
    #[arg(long, value_name = "N", default_value_t = 2,
          value_parser = clap::value_parser!(u8).range(1..=i64::from(limits::REPLICAS_MAX)))]
    replicas: u8,
    /// Compression of blocks.
    #[arg(long, value_enum, default_value_t = CodecOption::Lz4)]
    codec: CodecOption,
    /// When metadata count as safe: memory (the server has them), replica=N (N of its replicas have
    /// them too), disk (they are on its disk).
    #[arg(long, value_name = "LEVEL", default_value = "memory", value_parser = parse_durability)]
    durability: Durability,
    /// Most bytes of files [default: no limit].
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, default_value = "0", hide_default_value = true)]
    max_bytes: u64,
    /// Most files and directories [default: no limit].
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    max_inodes: u64,
    /// Keep what is deleted for so long, as 7d [default: off].
    #[arg(long, value_name = "TIME", value_parser = super::trash::parse_keep)]
    trash: Option<std::time::Duration>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CodecOption {
    /// Fast; costs next to nothing on data that do not compress.
    Lz4,
    /// About a third smaller, at several times the CPU.
    Zstd,
    /// None.
    None,
}

fn parse_durability(text: &str) -> Result<Durability, String> {
    let bad = || format!("\"{text}\" is no level: write memory, replica=N or disk");
    match text.split_once('=') {
        None if text == "memory" => Ok(Durability::Memory),
        None if text == "disk" => Ok(Durability::Disk),
        Some(("replica", n)) => match n.parse() {
            Ok(n @ 1..=15) => Ok(Durability::Replica(n)),
            _ => Err(bad()),
        },
        _ => Err(bad()),
    }
}

/// Runs the command.
pub fn run(arguments: &FormatArguments, surroundings: &Surroundings) -> Result<(), Failure> {
    let url = surroundings.meta_url(&arguments.url)?;
    let name = match (&arguments.name, &url.volume) {
        (Some(a), Some(b)) if a != b => {
            return Err(Failure::usage(format!(
                "the URL names volume \"{b}\" and the argument \"{a}\"; name one"
            )));
        }
        (Some(name), _) | (None, Some(name)) => name.clone(),
        (None, None) => {
            return Err(Failure::usage(
                "the new volume needs a name, as in `ringfs format redis://host:6379 demo ...`",
            ));
        }
    };
    let nodes = crate::node_option::parse_all(&arguments.nodes)?;
    let table = planned(&nodes, arguments.replicas)?;

    check_meta(&url.endpoint, &name, arguments.durability, surroundings)?;
    check_nodes(&nodes, surroundings)?;

    let config = config(arguments, &nodes, name.clone())?;
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let now = SystemClock.now();
    let volume = Volume::format(&url.endpoint, surroundings.timeouts, &config, uid, gid, now)?;
    if let Err(error) = volume.set_ring(Epoch(0), &table.encode(), &config.nodes) {
        // Half a volume is none. If even this fails, `open` says what to do.
        if let Err(also) = volume.destroy() {
            warn(format_args!("the unfinished volume could not be removed: {also}"));
        }
        return Err(Failure::from(error).about("the ring could not be stored"));
    }
    if let Some(keep) = arguments.trash.filter(|keep| !keep.is_zero()) {
        super::trash::set(&volume, keep)?;
    }

    let url = shown(&url.endpoint, &name);
    if arguments.json {
        print_json(&json!({
            "volume": name.as_str(), "uuid": config.uuid.to_string(), "url": url,
            "replicas": config.replicas, "epoch": table.epoch().0,
            "nodes": config.nodes.iter().map(|n| json!({ "name": n.name.as_str(), "url": n.url }))
                .collect::<Vec<_>>(),
        }));
    } else {
        let copies =
            if config.replicas == 1 { "1 copy" } else { &format!("{} copies", config.replicas) };
        print(format_args!(
            "Volume \"{name}\" is made: {copies} of each block on {} nodes.\n\
             Mount it with\n  ringfs mount -d {url} /mnt/{name}\n",
            config.nodes.len()
        ));
    }
    Ok(())
}

/// What can be wrong before anybody is asked.
fn planned(nodes: &[NodeOption], replicas: u8) -> Result<Table, Failure> {
    let mut names = BTreeSet::new();
    let mut addresses = BTreeSet::new();
    for node in nodes {
        if !names.insert(&node.name) {
            return Err(Failure::usage(format!(
                "two nodes are named \"{}\"; give each a name of its own",
                node.name
            )));
        }
        if !addresses.insert(node.endpoint.to_url_without_password()) {
            return Err(Failure::usage(format!(
                "node {} has the address of another node, {}; two copies there would be lost \
                 together",
                node.name, node.endpoint
            )));
        }
    }
    if nodes.len() < usize::from(replicas) {
        return Err(Failure::usage(format!(
            "{} copies need as many nodes, and there {}; add --node or lower --replicas",
            replicas,
            if nodes.len() == 1 { "is 1".to_owned() } else { format!("are {}", nodes.len()) }
        )));
    }
    let members: Vec<Member> = nodes
        .iter()
        .map(|node| {
            let member = Member::new(node.name.clone()).weighing(node.weight);
            node.zone.clone().into_iter().fold(member, Member::in_zone)
        })
        .collect();
    plan(None, &members, replicas, ARCS_DEFAULT).map_err(|e| Failure::usage(e.to_string()))
}

fn check_meta(
    endpoint: &Endpoint,
    name: &VolumeName,
    durability: Durability,
    surroundings: &Surroundings,
) -> Result<(), Failure> {
    let (_, facts) = look(endpoint, &surroundings.timeouts)?;
    check_server(endpoint, &facts)?;
    match durability {
        Durability::Replica(n) if facts.replicas.len() < usize::from(n) => {
            return Err(Failure::refused(format!(
                "durability replica={n} needs {n} replicas of metadata server {endpoint}, and it has \
                 {}; nothing was changed",
                facts.replicas.len()
            )));
        }
        Durability::Disk if !facts.append_only => {
            return Err(Failure::refused(format!(
                "durability disk needs an append-only file on metadata server {endpoint}; set \
                 appendonly yes there; nothing was changed"
            )));
        }
        _ => {}
    }
    // `format` itself refuses too; but then the nodes would have been asked in vain.
    match Volume::open(endpoint, surroundings.timeouts, name) {
        Err(MetaError::NoSuchVolume { .. }) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => {
            let (name, server) = (name.clone(), endpoint.to_string());
            Err(MetaError::VolumeExists { name, server }.into())
        }
    }
}

fn check_nodes(nodes: &[NodeOption], surroundings: &Surroundings) -> Result<(), Failure> {
    let mut seen: Vec<(String, &NodeOption)> = Vec::new();
    for node in nodes {
        let about = |f: Failure| f.about(format_args!("node {}", node.name));
        if node.endpoint.has_password() {
            warn(format_args!(
                "the password of node {} is not stored; give it to mounts in {}",
                node.name,
                crate::credentials::variable_of(&node.name)
            ));
        }
        let endpoint = surroundings.credentials.for_node(&node.name, node.endpoint.clone())?;
        let (_, facts) = look(&endpoint, &surroundings.timeouts)
            .map_err(|e| from_link(&e))
            .map_err(|f| Failure { message: format!("{}; nothing was changed", f.message), ..f })
            .map_err(about)?;
        check_server(&endpoint, &facts).map_err(about)?;
        if let Some((_, other)) = seen.iter().find(|(run_id, _)| *run_id == facts.run_id) {
            return Err(Failure::refused(format!(
                "nodes {} and {} are the same server ({}), so two copies there would be lost \
                 together; nothing was changed",
                other.name, node.name, node.endpoint
            )));
        }
        seen.push((facts.run_id, node));
    }
    Ok(())
}

/// Whether a server is fit for data that must not vanish.
pub fn check_server(endpoint: &Endpoint, facts: &ServerFacts) -> Result<(), Failure> {
    let (major, minor) = OLDEST_VERSION;
    if !facts.at_least(major, minor) {
        return Err(Failure::refused(format!(
            "server {endpoint} is {}, and RingFS needs {major}.{minor} or newer; nothing was changed",
            facts.version_text()
        )));
    }
    if facts.may_evict() {
        return Err(Failure::refused(format!(
            "server {endpoint} may throw data away when its memory is full (maxmemory-policy {}); \
             set it to noeviction there (redis-cli CONFIG SET maxmemory-policy noeviction, and in its \
             configuration file); nothing was changed",
            facts.policy
        )));
    }
    if facts.role == "slave" {
        return Err(Failure::new(
            Exit::Refused,
            format!(
                "server {endpoint} is a replica and takes no writes; give the address of its primary; \
                 nothing was changed"
            ),
        ));
    }
    Ok(())
}

fn config(
    arguments: &FormatArguments,
    nodes: &[NodeOption],
    name: VolumeName,
) -> Result<VolumeConfig, Failure> {
    let mut uuid = [0; 16];
    getrandom::fill(&mut uuid)
        .map_err(|e| Failure::plain(format!("the system gives no random bytes: {e}")))?;
    Ok(VolumeConfig {
        name,
        uuid: VolumeUuid(uuid),
        created: SystemClock.now().seconds(),
        replicas: arguments.replicas,
        block_bytes: limits::BLOCK_BYTES,
        codec: match arguments.codec {
            CodecOption::Lz4 => Codec::Lz4,
            CodecOption::Zstd => Codec::Zstd,
            CodecOption::None => Codec::None,
        },
        segment_bytes: StoreConfig::default().segment_bytes,
        inline_max: limits::INLINE_BYTES_MAX,
        durability: arguments.durability,
        inodes_max: arguments.max_inodes,
        bytes_max: arguments.max_bytes,
        nodes: nodes
            .iter()
            .map(|node| NodeRecord {
                name: node.name.clone(),
                url: node.endpoint.to_url_without_password(),
            })
            .collect(),
    })
}
