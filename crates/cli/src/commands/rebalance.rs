//! `ringfs rebalance`: how far the moving of blocks is, and how fast it may be.

use crate::failure::Failure;
use crate::move_progress::{self, Progress};
use crate::output::{Surroundings, print, print_json};
use crate::quantity::{bytes, duration, parse_bytes};
use crate::target::Target;
use clap::{Args, Subcommand};
use ringfs_base::NodeName;
use ringfs_cluster::mover::{LIMIT, MoveRecord, RETRY_MAX, WORKER, abandon};
use ringfs_cluster::workers::{WorkerWish, set_wish, wish};
use ringfs_meta::Volume;

/// Watch, pause and throttle the moving of blocks
///
/// Blocks are moved in the background, by whichever mount or agent coordinates the volume, when the
/// ring has been changed or a server came back.
///
/// Example:
///   ringfs rebalance status redis://meta:6379/demo --watch
///   ringfs rebalance throttle /mnt/demo 200MiB
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct RebalanceArguments {
    #[command(subcommand)]
    command: RebalanceCommand,
}

#[derive(Debug, Subcommand)]
enum RebalanceCommand {
    Status(StatusArguments),
    Pause(VolumeArguments),
    Resume(VolumeArguments),
    Throttle(ThrottleArguments),
    Abandon(AbandonArguments),
}

/// Show what is being moved and how far it is
///
/// Example:
///   ringfs rebalance status redis://meta:6379/demo --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct StatusArguments {
    /// The volume: its URL, or a path where it is mounted.
    volume: String,
    /// Go on showing it until nothing is moved any more.
    #[arg(long, conflicts_with = "json")]
    watch: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Stop or resume moving, wherever it is done
///
/// Example:
///   ringfs rebalance pause redis://meta:6379/demo
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct VolumeArguments {
    /// The volume: its URL, or a path where it is mounted.
    volume: String,
}

/// Choose how many bytes are moved in a second at most
///
/// Example:
///   ringfs rebalance throttle redis://meta:6379/demo 200MiB
///   ringfs rebalance throttle redis://meta:6379/demo default
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct ThrottleArguments {
    /// The volume: its URL, or a path where it is mounted.
    volume: String,
    /// Bytes in a second, `none` for as fast as the servers can, or `default`.
    #[arg(value_name = "RATE", value_parser = parse_rate)]
    rate: Rate,
}

/// Give up blocks that may be only on a dead server that is being removed
///
/// Without this its removal waits for it: if it comes back nothing is lost.
///
/// Example:
///   ringfs rebalance abandon redis://meta:6379/demo a --yes
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct AbandonArguments {
    /// The volume: its URL, or a path where it is mounted.
    volume: String,
    /// The server that is gone for good.
    node: NodeName,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

#[derive(Clone, Copy, Debug)]
enum Rate {
    Default,
    Bytes(u64),
}

fn parse_rate(text: &str) -> Result<Rate, String> {
    match text {
        "default" => Ok(Rate::Default),
        "none" => Ok(Rate::Bytes(0)),
        text => match parse_bytes(text) {
            Ok(0) => Err(
                "nothing a second is a pause: use `ringfs rebalance pause`, or \"none\" for no \
                          limit"
                    .to_owned(),
            ),
            other => other.map(Rate::Bytes),
        },
    }
}

/// Runs the command.
pub fn run(arguments: &RebalanceArguments, surroundings: &Surroundings) -> Result<(), Failure> {
    let open = |volume: &str| Ok::<_, Failure>(Target::open(volume, surroundings)?.open.volume);
    match &arguments.command {
        RebalanceCommand::Status(status) => {
            let volume = open(&status.volume)?;
            if status.watch {
                move_progress::watch(&volume)?;
            }
            let progress = Progress::look(&volume)?;
            if status.json {
                print_json(&progress.document());
            } else {
                print(progress.text());
            }
            Ok(())
        }
        RebalanceCommand::Pause(pause) => {
            change(&open(&pause.volume)?, |wish| wish.paused = true)?;
            print("Moving is paused; `ringfs rebalance resume` lets it go on.\n");
            Ok(())
        }
        RebalanceCommand::Resume(resume) => {
            change(&open(&resume.volume)?, |wish| wish.paused = false)?;
            print("Moving goes on.\n");
            Ok(())
        }
        RebalanceCommand::Throttle(throttle) => {
            let rate = match throttle.rate {
                Rate::Default => None,
                Rate::Bytes(bytes) => Some(bytes),
            };
            change(&open(&throttle.volume)?, |wish| wish.bytes_per_second = rate)?;
            print(match rate.unwrap_or(LIMIT) {
                0 => "Blocks are moved as fast as the servers can.\n".to_owned(),
                rate => format!("At most {} are moved in a second.\n", bytes(rate)),
            });
            Ok(())
        }
        RebalanceCommand::Abandon(arguments) => give_up(&open(&arguments.volume)?, arguments),
    }
}

fn change(volume: &Volume, edit: impl FnOnce(&mut WorkerWish)) -> Result<(), Failure> {
    let mut wanted = wish(volume, WORKER)?;
    edit(&mut wanted);
    Ok(set_wish(volume, WORKER, wanted)?)
}

fn give_up(volume: &Volume, arguments: &AbandonArguments) -> Result<(), Failure> {
    let record = volume.ring_state()?.moving.as_deref().map(MoveRecord::decode).unwrap_or_default();
    let node = &arguments.node;
    if !record.leaving.iter().any(|name| name == node.as_str()) {
        return Err(Failure::refused(format!(
            "node {node} is not being removed, so nothing waits for it; nothing was changed"
        )));
    }
    if !arguments.yes {
        return Err(Failure::refused(format!(
            "blocks of which node {node} has the only copy are lost with it (at least {} are out of \
             reach now); add --yes if it is gone for good; nothing was changed",
            record.out_of_reach
        )));
    }
    abandon(volume, &[node.to_string()])?;
    print(format_args!(
        "Node {node} is not waited for any more; its removal goes on within {}.\n",
        duration(RETRY_MAX)
    ));
    Ok(())
}
