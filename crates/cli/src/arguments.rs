//! The command line: one definition feeds the parser, the help, the man pages and the completions.

use crate::failure::Failure;
use crate::output::Surroundings;
use crate::{bench, commands, doctor, local, mount, top};
use clap::{CommandFactory, Parser, Subcommand};
use std::path::PathBuf;

const AFTER_HELP: &str = "\
Try it on this machine:
  ringfs local start --nodes 3
  ringfs format redis://127.0.0.1:7400 demo --replicas 2 \\
      --node a=redis://127.0.0.1:7401 --node b=redis://127.0.0.1:7402 --node c=redis://127.0.0.1:7403
  ringfs mount -d redis://127.0.0.1:7400/demo /mnt/demo

A volume's URL is redis://[user@]host[:port]/VOLUME[?db=N], rediss:// for TLS, or
unix:///path/to.sock?volume=VOLUME. Passwords belong into RINGFS_REDIS_PASSWORD, or into the file that
RINGFS_REDIS_PASSWORD_FILE or --password-file names; RINGFS_NODE_<NAME>_PASSWORD[_FILE] is for one node.

Exit codes: 0 done; 1 failed; 2 wrong usage; 3 problems were found; 4 a server cannot be reached or does
not let us in; 5 refused because it would do harm (the volume exists, the server may evict, the
format is newer).";

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "ringfs",
    version,
    about = "A POSIX file system on a ring of Redis servers",
    long_about = "A POSIX file system on a ring of Redis servers: many machines mount the same volume, \
                  blocks are kept in several copies, and no other server than Redis is needed.",
    after_help = AFTER_HELP,
    max_term_width = 100
)]
pub struct Arguments {
    /// Read the password of the servers from the first line of this file.
    #[arg(long, global = true, value_name = "FILE")]
    password_file: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Local(local::LocalArguments),
    Format(commands::format::FormatArguments),
    Mount(mount::MountArguments),
    Umount(mount::UmountArguments),
    Agent(commands::agent::AgentArguments),
    Status(commands::status::StatusArguments),
    Top(top::TopArguments),
    Volumes(commands::volumes::VolumesArguments),
    Ring(commands::ring::RingArguments),
    Node(commands::node::NodeArguments),
    Rebalance(commands::rebalance::RebalanceArguments),
    Worker(commands::worker::WorkerArguments),
    Doctor(doctor::DoctorArguments),
    Fsck(commands::jobs::FsckArguments),
    Gc(commands::jobs::GcArguments),
    Repair(commands::jobs::RepairArguments),
    Clone(commands::clone::CloneArguments),
    Quota(commands::quota::QuotaArguments),
    Trash(commands::trash::TrashArguments),
    Destroy(commands::destroy::DestroyArguments),
    Bench(bench::BenchArguments),
    Completions(commands::completions::CompletionsArguments),
    Man(commands::man::ManArguments),
}

impl Arguments {
    /// Runs the command.
    pub fn run(self) -> Result<(), Failure> {
        let surroundings = Surroundings::new(self.password_file.as_deref())?;
        match self.command {
            Command::Local(arguments) => local::run(arguments),
            Command::Format(arguments) => commands::format::run(&arguments, &surroundings),
            Command::Mount(arguments) => mount::run(&arguments, &surroundings),
            Command::Umount(arguments) => mount::umount(&arguments),
            Command::Agent(arguments) => commands::agent::run(&arguments, &surroundings),
            Command::Status(arguments) => commands::status::run(&arguments, &surroundings),
            Command::Top(arguments) => top::run(&arguments, &surroundings),
            Command::Volumes(arguments) => commands::volumes::run(&arguments, &surroundings),
            Command::Ring(arguments) => commands::ring::run(&arguments, &surroundings),
            Command::Node(arguments) => commands::node::run(&arguments, &surroundings),
            Command::Rebalance(arguments) => commands::rebalance::run(&arguments, &surroundings),
            Command::Worker(arguments) => commands::worker::run(&arguments, &surroundings),
            Command::Fsck(arguments) => commands::jobs::fsck(&arguments, &surroundings),
            Command::Gc(arguments) => commands::jobs::gc(&arguments, &surroundings),
            Command::Clone(arguments) => commands::clone::run(&arguments, &surroundings),
            Command::Quota(arguments) => commands::quota::run(&arguments, &surroundings),
            Command::Trash(arguments) => commands::trash::run(&arguments, &surroundings),
            Command::Repair(arguments) => commands::jobs::repair(&arguments, &surroundings),
            Command::Destroy(arguments) => commands::destroy::run(&arguments, &surroundings),
            Command::Doctor(arguments) => doctor::run(&arguments, &surroundings),
            Command::Bench(arguments) => bench::run(&arguments),
            Command::Completions(arguments) => commands::completions::run(&arguments),
            Command::Man(arguments) => commands::man::run(&arguments),
        }
    }
}

/// The definition, for man pages and completions.
pub fn command() -> clap::Command {
    Arguments::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_command_teaches_by_an_example() {
        fn check(command: &clap::Command) {
            for sub in command.get_subcommands().filter(|c| !c.is_hide_set()) {
                let text = sub.get_long_about().map(ToString::to_string).unwrap_or_default();
                assert!(text.contains("Example"), "{} has no example", sub.get_name());
            }
        }
        check(&command());
    }
}
