//! `ringfs completions`: what a shell needs to complete our options.

use crate::failure::Failure;
use clap::Args;
use clap_complete::Shell;

/// Print a script that completes commands and options in your shell
///
/// Example:
///   ringfs completions bash > /etc/bash_completion.d/ringfs
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct CompletionsArguments {
    /// The shell.
    shell: Shell,
}

/// Runs the command.
pub fn run(arguments: &CompletionsArguments) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut crate::command(), "ringfs", &mut script);
    crate::output::print(String::from_utf8_lossy(&script));
    Ok(())
}
