//! `ringfs local`: real Redis servers of one's own on this machine, to try RingFS with and to
//! develop against.

mod configuration;
mod directory;
mod show;
mod start;
mod stop;
mod supervisor;

use crate::failure::Failure;
use crate::quantity::parse_bytes;
use clap::{Args, Subcommand};
use directory::{Directory, State};
use std::path::PathBuf;

/// Run Redis servers of your own on this machine, to try RingFS with
///
/// Starts one metadata server and some nodes (redis-server or valkey-server from PATH, or the program
/// that RINGFS_REDIS_SERVER names) that listen on 127.0.0.1 only, and a supervisor that starts them
/// again when they die. They keep their data over a restart.
///
/// Example:
///   ringfs local start --nodes 3
///   ringfs local kill node-2 --keep-down     # what happens when a server dies?
///   ringfs local restart node-2
///   ringfs local stop
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct LocalArguments {
    #[command(subcommand)]
    command: LocalCommand,

    /// Where data, logs and state are [default: ringfs/local in $XDG_STATE_HOME or ~/.local/state].
    #[arg(long, global = true, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum LocalCommand {
    Start(StartArguments),
    Status(StatusArguments),
    Stop(StopArguments),
    Restart(RestartArguments),
    Kill(KillArguments),
    /// Keep the servers of a directory running; `start` starts it.
    #[command(hide = true)]
    Supervise,
}

/// Start the servers; does nothing if they are running
///
/// Example:
///   ringfs local start --nodes 5 --maxmemory 1GiB --port 0
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct StartArguments {
    /// How many nodes [default: as many as there are, or 3].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(directory::NODES_MAX)))]
    nodes: Option<u16>,
    /// Port of the metadata server; the nodes get the next ones. 0: any free ports [default: 7400].
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Limit of each node's memory [default: none].
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    maxmemory: Option<u64>,
    /// Write nothing to disk; servers that restart are empty.
    #[arg(long)]
    memory_only: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Show the servers; exit code 3 if one of them is not up
///
/// Example:
///   ringfs local status --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct StatusArguments {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Stop the servers; their data are kept
///
/// Example:
///   ringfs local stop
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct StopArguments {
    /// Delete their data too.
    #[arg(long)]
    delete: bool,
}

/// Start a server again, also one that was killed
///
/// Example:
///   ringfs local restart node-2
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct RestartArguments {
    /// meta, node-1, node-2, ...
    node: String,
}

/// Kill a server as a crash would (kill -9); the supervisor starts it again at once
///
/// Example:
///   ringfs local kill node-2 --keep-down
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct KillArguments {
    /// meta, node-1, node-2, ...
    node: String,
    /// Leave it dead until `ringfs local restart`.
    #[arg(long)]
    keep_down: bool,
}

/// Runs the command.
pub fn run(arguments: LocalArguments) -> Result<(), Failure> {
    let directory = Directory::new(arguments.dir.as_deref())?;
    match arguments.command {
        LocalCommand::Start(arguments) => start::run(&directory, &arguments),
        LocalCommand::Status(arguments) => show::run(&directory, arguments.json),
        LocalCommand::Stop(arguments) => stop::run(&directory, arguments.delete),
        LocalCommand::Restart(arguments) => stop::restart(&directory, &arguments.node),
        LocalCommand::Kill(arguments) => {
            stop::kill(&directory, &arguments.node, arguments.keep_down)
        }
        LocalCommand::Supervise => supervisor::run(&directory),
    }
}

/// The state, if there is a supervisor.
fn running(directory: &Directory) -> Result<Option<State>, Failure> {
    Ok(directory.state()?.filter(|state| state.supervisor.is_alive()))
}
