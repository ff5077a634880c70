//! The program `ringfs`: the one place that knows all the parts and the configuration.
//!
//! A command is a file of `commands` (or a directory of its own where there is more to it), with
//! its arguments as a struct and one function that runs them. What several of them need:
//! `volume_url` and `credentials` turn words into endpoints; `server_facts` looks at a server;
//! `compose` builds a store for an open volume; `target` finds one by where it is mounted; `failure` is how all of them end badly;
//! `ring_change` shows a plan and asks, `move_progress` what becomes of it; `quantity`, `table` and
//! `output` are what users see.

mod arguments;
mod bench;
mod commands;
mod compose;
mod credentials;
mod doctor;
mod failure;
mod keeping;
mod local;
mod metrics;
mod mount;
mod move_progress;
mod node_option;
mod output;
mod process;
mod quantity;
mod redact;
mod ring_change;
mod server_facts;
mod state_directory;
mod table;
mod target;
mod top;
mod volume_url;

pub use arguments::{Arguments, command};
pub use failure::{Exit, Failure};

use clap::Parser;
use std::process::ExitCode;

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    start_log();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() => {
            eprint!("{}", redact::redacted(&error.render().to_string()));
            return ExitCode::from(Exit::Usage as u8);
        }
        // Help or the version, which were asked for.
        Err(asked) => {
            // The reader of a pipe may have left; that is no failure.
            asked.print().ok();
            return ExitCode::SUCCESS;
        }
    };
    match arguments.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                eprintln!("ringfs: {}", failure.message);
            }
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// What the parts log goes to stderr; `RINGFS_LOG=debug` shows more of it.
fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("RINGFS_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
