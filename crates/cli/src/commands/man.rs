//! `ringfs man`: the manual pages, made from the same definition as the help.

use crate::failure::Failure;
use clap::Args;
use std::path::PathBuf;

/// Write the manual pages into a directory
///
/// Example:
///   ringfs man /usr/local/share/man/man1
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct ManArguments {
    /// The directory; it is made if it does not exist.
    directory: PathBuf,
}

/// Runs the command.
pub fn run(arguments: &ManArguments) -> Result<(), Failure> {
    let directory = &arguments.directory;
    let failed = |e: &std::io::Error| {
        Failure::io(format_args!("write manual pages into {}", directory.display()), e)
    };
    std::fs::create_dir_all(directory).map_err(|e| failed(&e))?;
    clap_mangen::generate_to(crate::command(), directory).map_err(|e| failed(&e))
}
